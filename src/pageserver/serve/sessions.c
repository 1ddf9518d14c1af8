/*
 * sessions.c
 *	  The list of sessions; what each session holds, and why its waits end.
 */
#include "ps_fe.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "serve/serve_impl.h"
#include "sqlstate.h"

/*
 * The most connections that have not finished their startup.  They count
 * against no other limit, so clients that connect and send nothing keep nobody
 * out.  A new connection beyond this number cuts the oldest one off; while
 * those are ending, there may be twice as many.
 */
#define MAX_STARTING 64

/* ---- the list ---- */

/* Cuts off the oldest connection that has not finished its startup.  Caller holds the lock. */
static void
cut_oldest(Server *server)
{
	dlist_iter iter;

	dlist_foreach (iter, &server->sessions)
	{
		Session *session = dlist_container(Session, link, iter.cur);

		if (session->kind != SESSION_STARTING || session->cut)
			continue;
		session->cut = true;
		shutdown(session->conn.fd, SHUT_RDWR);
		return;
	}
}

Session *
session_create(Server *server, int fd, bool is_unix)
{
	Session *session;
	int starting;

	pthread_mutex_lock(&server->lock);
	starting = server->count[SESSION_STARTING];
	if (starting >= MAX_STARTING)
		cut_oldest(server);
	pthread_mutex_unlock(&server->lock);
	if (starting >= 2 * MAX_STARTING)
		return NULL;
	session = pg_malloc0(sizeof(Session));
	session->server = server;
	session->is_unix = is_unix;
	session->cancel = (CancelCheck) {session_check_cancel, session};
	conn_init(&session->conn, fd);
	if (!pg_strong_random(&session->secret, sizeof(session->secret)))
	{
		ps_log(PS_FATAL, "could not generate a random cancel key");
		exit(1);
	}
	server->next_id = server->next_id == PG_INT32_MAX ? 1 : server->next_id + 1;
	session->id = server->next_id;
	pthread_mutex_lock(&server->lock);
	dlist_push_tail(&server->sessions, &session->link);
	server->nsessions++;
	server->count[session->kind]++;
	pthread_mutex_unlock(&server->lock);
	return session;
}

void
session_free(Session *session)
{
	Server *server = session->server;
	SessionKind kind;

	pthread_mutex_lock(&server->lock);
	dlist_delete(&session->link);
	kind = session->kind;
	pthread_mutex_unlock(&server->lock);
	close(session->conn.fd);
	conn_free(&session->conn);
	free(session->who);
	free(session);

	/* counted until it has freed everything: when the count is zero, the server may be freed */
	pthread_mutex_lock(&server->lock);
	server->nsessions--;
	server->count[kind]--;
	pthread_cond_signal(&server->session_ended);
	pthread_mutex_unlock(&server->lock);
}

void
sessions_end_users(Server *server, const Branch *branch, const Session *except)
{
	dlist_iter iter;

	pthread_mutex_lock(&server->lock);
	dlist_foreach (iter, &server->sessions)
	{
		Session *session = dlist_container(Session, link, iter.cur);

		for (int i = 0; i < session->nheld && session != except; i++)
			if (branch_of(session->held[i]) == branch)
				shutdown(session->conn.fd, SHUT_RDWR);
	}
	pthread_mutex_unlock(&server->lock);
}

void
sessions_cancel(Server *server, int id, uint32 secret)
{
	dlist_iter iter;

	pthread_mutex_lock(&server->lock);
	dlist_foreach (iter, &server->sessions)
	{
		Session *session = dlist_container(Session, link, iter.cur);

		if (session->id == id && session->secret == secret)
			atomic_store(&session->canceled, true);
	}
	pthread_mutex_unlock(&server->lock);
}

void
sessions_shutdown(Server *server, int how)
{
	dlist_iter iter;

	dlist_foreach (iter, &server->sessions)
		shutdown(dlist_container(Session, link, iter.cur)->conn.fd, how);
}

bool
sessions_wait(Server *server, int64 until_ms)
{
	int64 left;

	while (server->nsessions > 0 && (left = until_ms - clock_now_ms()) > 0)
		clock_cond_wait(&server->session_ended, &server->lock, left);
	return server->nsessions == 0;
}

/* ---- one session ---- */

void
session_hold(Session *session, Timeline *tl)
{
	pthread_mutex_lock(&session->server->lock);
	Assert(session->nheld < SESSION_TIMELINES);
	session->held[session->nheld++] = tl;
	pthread_mutex_unlock(&session->server->lock);
}

void
session_release_all(Session *session)
{
	int n;

	pthread_mutex_lock(&session->server->lock);
	n = session->nheld;
	session->nheld = 0;
	pthread_mutex_unlock(&session->server->lock);
	while (n > 0)
		store_release(session->held[--n]);
}

PsError *
session_check_stop(Session *session)
{
	return atomic_load(&session->server->stopping) ? cancel_error(CANCEL_STORE_STOPPING, NULL) : NULL;
}

PsError *
session_check_cancel(void *arg)
{
	Session *session = arg;

	PS_TRY(session_check_stop(session));
	if (conn_is_closed(&session->conn))
		return ps_error(PS_SQLSTATE_CONNECTION, "the client closed the connection");
	return atomic_load(&session->canceled) ? cancel_error(CANCEL_BY_CLIENT, NULL) : NULL;
}

bool
session_error_is_fatal(const PsError *err)
{
	return ps_error_is(err, PS_SQLSTATE_CONNECTION) || ps_error_is(err, PS_SQLSTATE_PROTOCOL) ||
		   ps_error_is(err, PS_SQLSTATE_TRY_AGAIN) || ps_error_is(err, PS_SQLSTATE_RECALLED);
}
