/*
 * streams.c
 *	  What each connection counts as, and who gets a page stream when there are
 *	  fewer than backends that want one.
 *
 * Each kind of connection has places of its own, so that no kind keeps another
 * out: page streams (max_connections), WAL streams (one for each branch, for a
 * newer one supersedes it) and all others.  Which it will be shows with the
 * first command; so if there are too many of the others, the one that has been
 * idle for the longest time makes room for a new connection.
 *
 * A backend keeps its page stream for life, though it needs one only while it
 * reads what its compute does not have.  So when a backend finds all places
 * taken, a stream is recalled that waits for its client at that moment: the
 * one that has waited longest, of the branch that has most streams.  Its client
 * connects again when it has something to ask.  If all are at work, the backend
 * waits for the first that is not; among those that wait, one of the branch
 * that has the fewest streams comes first.  So every branch gets its share, and
 * nobody waits for a stream that is held by somebody who waits for him.
 */
#include "ps_fe.h"

#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "serve/session.h"
#include "sqlstate.h"

/* At least so many connections that are no streams, and waiting readers, are let in. */
#define OTHERS_MIN 100

/* A stream that has not answered anything yet is left to its client for so long. */
#define FRESH_MS 1000

/* A recalled stream whose client does not take its answers is cut off after so long. */
#define CUT_MS 1000

/* A reader that waits asks so often whether it still should. */
#define LOOK_MS 100

/* From such a wait on the log tells of it. */
#define SHORTAGE_MS 1000

/* Recalls further apart than this are told of in the log one by one. */
#define RECALL_LOG_MS 60000

/* A branch that has page streams, or readers that wait for one.  Server.lock. */
struct BranchStreams
{
	dlist_node link;    /* in Server.branches */
	const Timeline *tl; /* no more than a name: its sessions hold it */
	int streams;
	int waiting;
};

struct StreamWait
{
	dlist_node link; /* in Server.waits, oldest first */
	Session *session;
	bool granted;
	pthread_cond_t changed; /* made with clock_cond_init() */
};

void
server_init_counts(Server *server)
{
	dlist_init(&server->branches);
	dlist_init(&server->waits);
	server->stream_wait_ms = STREAM_WAIT_MS;
}

/* Caller holds the lock. */
static void
set_kind(Session *session, SessionKind kind)
{
	session->server->count[session->kind]--;
	session->server->count[kind]++;
	session->kind = kind;
}

/* Ends the connection, no stream, that has been idle for the longest time; false if all are at work.  Caller holds the lock. */
static bool
recall_other(Server *server)
{
	Session *best = NULL;
	int64 best_since = 0;
	int64 now = clock_now_ms();
	dlist_iter iter;

	dlist_foreach (iter, &server->sessions)
	{
		Session *session = dlist_container(Session, link, iter.cur);
		int64 since = atomic_load(&session->idle_since);

		if (session->kind != SESSION_OTHER || session->recalled_at != 0 || since == 0 || now - since < FRESH_MS)
			continue;
		if (best == NULL || since < best_since)
		{
			best = session;
			best_since = since;
		}
	}
	if (best == NULL)
		return false;
	best->recalled_at = now;
	shutdown(best->conn.fd, SHUT_RD);
	return true;
}

PsError *
server_admit(Session *session)
{
	Server *server = session->server;
	int max = Max(server->config->max_connections, OTHERS_MIN);
	bool room;

	pthread_mutex_lock(&server->lock);
	room = server->count[SESSION_OTHER] < max || recall_other(server);
	if (room)
		set_kind(session, SESSION_OTHER);
	pthread_mutex_unlock(&server->lock);
	if (room)
		return NULL;
	return ps_error_hint(ps_error(PS_SQLSTATE_TOO_MANY_CONNECTIONS, "too many connections: there are %d besides those for pages and WAL", max),
						 "End some of them.  Their number is the greater of max_connections in %s and %d.", CONFIG_FILE_NAME, OTHERS_MIN);
}

void
server_count_wal(Session *session, bool begins)
{
	pthread_mutex_lock(&session->server->lock);
	set_kind(session, begins ? SESSION_WAL : SESSION_OTHER);
	pthread_mutex_unlock(&session->server->lock);
}

/* ---- page streams ---- */

/* Caller holds the lock, as for all that follow without a word about it. */
static BranchStreams *
find_branch(Server *server, const Timeline *tl)
{
	BranchStreams *branch;
	dlist_iter iter;

	dlist_foreach (iter, &server->branches)
	{
		branch = dlist_container(BranchStreams, link, iter.cur);
		if (branch->tl == tl)
			return branch;
	}
	branch = pg_malloc0(sizeof(BranchStreams));
	branch->tl = tl;
	dlist_push_tail(&server->branches, &branch->link);
	return branch;
}

static void
leave_branch(Session *session)
{
	BranchStreams *branch = session->branch;

	session->branch = NULL;
	if (branch->streams > 0 || branch->waiting > 0)
		return;
	dlist_delete(&branch->link);
	free(branch);
}

/* Recalls a stream that waits for its client; false if there is none. */
static bool
recall_one(Server *server)
{
	Session *best = NULL;
	int64 best_since = 0;
	int64 now = clock_now_ms();
	dlist_iter iter;

	dlist_foreach (iter, &server->sessions)
	{
		Session *session = dlist_container(Session, link, iter.cur);
		int64 since = atomic_load(&session->idle_since);

		if (session->kind != SESSION_PAGES || session->leased || session->recalled_at != 0 || since == 0)
			continue;
		if (!atomic_load(&session->has_answered) && now - since < FRESH_MS)
			continue;
		if (best == NULL || session->branch->streams > best->branch->streams ||
			(session->branch->streams == best->branch->streams && since < best_since))
		{
			best = session;
			best_since = since;
		}
	}
	if (best == NULL)
		return false;
	best->recalled_at = now;
	server->nrecalled++;
	server->recalls++;

	/* it reads what has arrived, answers that, and then reads an end of file */
	shutdown(best->conn.fd, SHUT_RD);
	return true;
}

/* Cuts recalled streams off whose client does not take the answers: it may be idle for long. */
static void
cut_recalled(Server *server)
{
	int64 before = clock_now_ms() - CUT_MS;
	dlist_iter iter;

	dlist_foreach (iter, &server->sessions)
	{
		Session *session = dlist_container(Session, link, iter.cur);

		if (session->kind == SESSION_PAGES && session->recalled_at != 0 && session->recalled_at <= before &&
			atomic_load(&session->idle_since) != 0)
			shutdown(session->conn.fd, SHUT_RDWR);
	}
}

/* Who gets the next place. */
static StreamWait *
next_wait(Server *server)
{
	StreamWait *best = NULL;
	dlist_iter iter;

	dlist_foreach (iter, &server->waits)
	{
		StreamWait *wait = dlist_container(StreamWait, link, iter.cur);

		if (best == NULL || wait->session->branch->streams < best->session->branch->streams)
			best = wait;
	}
	return best;
}

/* Gives free places to those that wait, and recalls streams for the rest. */
static void
distribute(Server *server)
{
	while (!dlist_is_empty(&server->waits) && server->count[SESSION_PAGES] < server->config->max_connections)
	{
		StreamWait *wait = next_wait(server);

		dlist_delete(&wait->link);
		wait->granted = true;
		wait->session->branch->waiting--;
		wait->session->branch->streams++;
		set_kind(wait->session, SESSION_PAGES);
		pthread_cond_signal(&wait->changed);
	}
	if (dlist_is_empty(&server->waits))
		return;
	if (server->nrecalled > 0)
		cut_recalled(server);
	while (server->nrecalled < server->count[SESSION_WAITING] && recall_one(server))
		;
}

static PsError *
no_place_error(const Server *server)
{
	return ps_error_hint(ps_error(PS_SQLSTATE_TOO_MANY_CONNECTIONS, "all %d page streams of the store are at work",
								  server->config->max_connections),
						 "Raise max_connections in %s, or lower it in the computes.", CONFIG_FILE_NAME);
}

/*
 * Readers wait, or do not any more: returns whether the log is to be told, and
 * since when they did (clock_now_ms()).
 */
static bool
note_shortage(Server *server, bool begins, int64 *since)
{
	*since = server->short_since;
	if (begins == (*since != 0))
		return false;
	server->short_since = begins ? clock_now_ms() : 0;
	return true;
}

/* Waits in line.  Takes the lock. */
static PsError *
wait_for_place(Session *session)
{
	Server *server = session->server;
	StreamWait wait = {.session = session};
	int64 begin = clock_now_ms();
	int64 now = begin;
	int64 since;
	PsError *canceled = NULL;
	bool tell = false;

	clock_cond_init(&wait.changed);
	pthread_mutex_lock(&server->lock);
	set_kind(session, SESSION_WAITING);
	session->branch->waiting++;
	dlist_push_tail(&server->waits, &wait.link);
	atomic_fetch_add(&server->nwaiting, 1);
	distribute(server);
	while (!wait.granted && canceled == NULL && now - begin < server->stream_wait_ms)
	{
		clock_cond_wait(&wait.changed, &server->lock, LOOK_MS);
		now = clock_now_ms();
		if (wait.granted)
			break;
		if (now - begin >= SHORTAGE_MS)
			tell = note_shortage(server, true, &since);
		pthread_mutex_unlock(&server->lock);
		if (tell)
			ps_log(PS_WARNING, "readers wait for a page stream: all %d (max_connections) are at work", server->config->max_connections);
		tell = false;
		canceled = session_check_cancel(session);
		pthread_mutex_lock(&server->lock);
		if (!wait.granted)
			distribute(server);
	}
	if (!wait.granted)
	{
		dlist_delete(&wait.link);
		session->branch->waiting--;
		leave_branch(session);
		set_kind(session, SESSION_OTHER);
	}
	if (atomic_fetch_sub(&server->nwaiting, 1) == 1)
		tell = note_shortage(server, false, &since);
	pthread_mutex_unlock(&server->lock);
	if (tell)
		ps_log(PS_LOG, "no reader waits for a page stream any more, after " INT64_FORMAT " s", (clock_now_ms() - since + 500) / 1000);
	pthread_cond_destroy(&wait.changed);
	if (!wait.granted)
		return canceled != NULL ? canceled : no_place_error(server);
	ps_error_free(canceled);
	return NULL;
}

PsError *
server_take_stream(Session *session, const Timeline *tl, bool leased)
{
	Server *server = session->server;
	int max = server->config->max_connections;
	bool taken;
	bool crowded;
	bool tell;

	pthread_mutex_lock(&server->lock);
	session->leased = leased;
	session->recalled_at = 0;
	atomic_store(&session->idle_since, 0);
	atomic_store(&session->has_answered, false);

	/* who came before comes first, and no more may wait than there are streams */
	taken = dlist_is_empty(&server->waits) && server->count[SESSION_PAGES] < max;
	crowded = !taken && server->count[SESSION_WAITING] >= Max(max, OTHERS_MIN);
	tell = !taken && (server->last_shortage == 0 || clock_now_ms() - server->last_shortage >= RECALL_LOG_MS);
	if (!taken)
		server->last_shortage = clock_now_ms();
	if (!crowded)
		session->branch = find_branch(server, tl);
	if (taken)
	{
		session->branch->streams++;
		set_kind(session, SESSION_PAGES);
	}
	pthread_mutex_unlock(&server->lock);
	if (tell)
		ps_log(PS_LOG, "all %d page streams (max_connections) are taken: backends share them from now on", max);
	if (crowded)
		return no_place_error(server);
	return taken ? NULL : wait_for_place(session);
}

void
server_give_stream(Session *session)
{
	Server *server = session->server;

	pthread_mutex_lock(&server->lock);
	server->nrecalled -= session->recalled_at != 0;
	session->branch->streams--;
	leave_branch(session);
	set_kind(session, SESSION_OTHER);
	distribute(server);
	pthread_mutex_unlock(&server->lock);
}

void
server_session_idle(Session *session)
{
	Server *server = session->server;

	/* who begins to wait counts himself, and then looks at this: one of us sees the other */
	atomic_store(&session->idle_since, clock_now_ms());
	if (atomic_load(&server->nwaiting) == 0)
		return;
	pthread_mutex_lock(&server->lock);
	distribute(server);
	pthread_mutex_unlock(&server->lock);
}

void
server_session_works(Session *session)
{
	atomic_store(&session->idle_since, 0);
	if (!atomic_load_explicit(&session->has_answered, memory_order_relaxed))
		atomic_store(&session->has_answered, true);
}

PsError *
server_recalled(Session *session)
{
	bool recalled;

	pthread_mutex_lock(&session->server->lock);
	recalled = session->recalled_at != 0;
	pthread_mutex_unlock(&session->server->lock);
	if (!recalled)
		return NULL;
	return ps_error(PS_SQLSTATE_RECALLED, "the connection was idle, and its place is needed by another one");
}

/* ---- WAL streams ---- */

void
server_set_wait(Session *session, const char *branch, const char *waits_for)
{
	char before[WAIT_TEXT];
	time_t since;

	pthread_mutex_lock(&session->server->lock);
	strlcpy(before, session->waits_for, sizeof(before));
	since = session->waits_since;
	strlcpy(session->waits_for, waits_for, sizeof(session->waits_for));
	if (before[0] == '\0')
		session->waits_since = time(NULL);
	pthread_mutex_unlock(&session->server->lock);
	if (before[0] == '\0' && waits_for[0] != '\0')
		ps_log(PS_WARNING, "branch \"%s\": WAL of its compute waits: %s", branch, waits_for);
	else if (before[0] != '\0' && waits_for[0] == '\0')
		ps_log(PS_LOG, "branch \"%s\": WAL of its compute waits no longer, after %ld s", branch, (long) (time(NULL) - since));
}

char *
server_wal_wait(Server *server, const Branch *branch)
{
	char *text = NULL;
	dlist_iter iter;

	pthread_mutex_lock(&server->lock);
	dlist_foreach (iter, &server->sessions)
	{
		Session *session = dlist_container(Session, link, iter.cur);
		struct tm tm;
		char when[64];

		if (session->kind != SESSION_WAL || session->waits_for[0] == '\0' || session->nheld == 0 || branch_of(session->held[0]) != branch)
			continue;
		gmtime_r(&session->waits_since, &tm);
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S+00", &tm);
		free(text);
		text = psprintf("%s, since %s", session->waits_for, when);
	}
	pthread_mutex_unlock(&server->lock);
	return text;
}

void
server_counts(Server *server, ServerCounts *counts)
{
	pthread_mutex_lock(&server->lock);
	counts->pages = server->count[SESSION_PAGES];
	counts->wal = server->count[SESSION_WAL];
	counts->others = server->count[SESSION_OTHER];
	counts->waiting = server->count[SESSION_WAITING];
	counts->recalls = server->recalls;
	pthread_mutex_unlock(&server->lock);
}
