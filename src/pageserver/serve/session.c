/*
 * session.c
 *	  One connection from its startup packet to its end.
 */
#include "ps_fe.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "serve/session.h"
#include "base/version.h"
#include "sqlstate.h"

/* A client has this long for its startup packets. */
#define STARTUP_TIMEOUT_MS 30000

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

	/* counted until everything is given back: who waits for zero may then free the server */
	pthread_mutex_lock(&server->lock);
	server->nsessions--;
	server->count[kind]--;
	pthread_cond_signal(&server->session_ended);
	pthread_mutex_unlock(&server->lock);
}

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
error_ends_session(const PsError *err)
{
	return ps_error_is(err, PS_SQLSTATE_CONNECTION) || ps_error_is(err, PS_SQLSTATE_PROTOCOL) ||
		   ps_error_is(err, PS_SQLSTATE_TRY_AGAIN) || ps_error_is(err, PS_SQLSTATE_RECALLED);
}

/* Tells the client that a session has begun, with what libpq and psql want to know of a server. */
static void
send_welcome(Session *session, const Startup *startup)
{
	Conn *conn = &session->conn;

	conn_send_negotiation(conn, startup);
	conn_begin(conn, 'R'); /* AuthenticationOk */
	conn_put32(conn, 0);
	conn_end(conn);
	conn_send_parameter(conn, "server_version", PG_VERSION " (pageserver_smgr " PS_VERSION ")");
	conn_send_parameter(conn, "server_encoding", "UTF8");
	conn_send_parameter(conn, "client_encoding", "UTF8");
	conn_send_parameter(conn, "application_name", startup->application_name);
	conn_send_parameter(conn, "DateStyle", "ISO, MDY");
	conn_send_parameter(conn, "IntervalStyle", "postgres");
	conn_send_parameter(conn, "TimeZone", "UTC");
	conn_send_parameter(conn, "integer_datetimes", "on");
	conn_send_parameter(conn, "standard_conforming_strings", "on");
	conn_send_parameter(conn, "is_superuser", "off");
	conn_send_parameter(conn, "session_authorization", startup->user);
	conn_send_parameter(conn, "in_hot_standby", "off");
	conn_send_parameter(conn, "default_transaction_read_only", "off");
	conn_begin(conn, 'K');
	conn_put32(conn, session->id);
	conn_put32(conn, session->secret);
	conn_end(conn);
	conn_send_ready(conn);
}

/*
 * From the first packet to ReadyForQuery.  *go_on: there is a session; false
 * without an error after a cancel request.
 */
static PsError *
session_startup(Session *session, bool *go_on)
{
	Conn *conn = &session->conn;
	int negotiations = 0;

	*go_on = false;
	conn->deadline = clock_now_ms() + STARTUP_TIMEOUT_MS;
	for (;;)
	{
		Message msg;
		Startup startup;
		const char *problem;

		PS_TRY(conn_read_startup(conn, &msg));
		problem = startup_parse(msg.body, msg.len, &startup);
		if (problem != NULL)
			return ps_error(PS_SQLSTATE_PROTOCOL, "%s", problem);
		switch (startup.kind)
		{
			case STARTUP_SSL:
			case STARTUP_GSS:
				/* each once, as libpq does */
				if (++negotiations > 2)
					return ps_error(PS_SQLSTATE_PROTOCOL, "too many requests for encryption");
				conn_put8(conn, 'N');
				PS_TRY(conn_flush(conn));
				break;
			case STARTUP_CANCEL:
				server_cancel(session->server, startup.session_id, startup.secret);
				return NULL;
			case STARTUP_SESSION:
				PS_TRY(session_check_stop(session));
				PS_TRY(server_admit(session));
				session->who = audit_peer(conn->fd, &startup);
				send_welcome(session, &startup);
				conn->deadline = 0;
				*go_on = true;
				return NULL;
		}
	}
}

/* A command failed: tells the client and, unless it was canceled, the log.  Takes err. */
static void
report_command_error(Session *session, PsError *err, const char *command)
{
	conn_send_error(&session->conn, "ERROR", err);
	if (ps_error_is(err, PS_SQLSTATE_CANCELED) || ps_error_is(err, PS_SQLSTATE_SYNTAX))
		ps_error_free(err);
	else
		ps_log_error(PS_LOG, err, "command \"%.200s\" failed, by %s", command, session->who);
}

/*
 * Messages of the extended query protocol: one error, then nothing until Sync.
 * *skip is true in between.
 */
static void
refuse_extended(Session *session, const Message *msg, bool *skip)
{
	PsError *err;

	if (msg->type == 'S')
	{
		*skip = false;
		conn_send_ready(&session->conn);
	}
	else if (!*skip && msg->type != 'H')
	{
		*skip = true;
		err = ps_error_hint(ps_error(PS_SQLSTATE_UNSUPPORTED, "the store does not speak the extended query protocol"),
							"Send commands as simple queries, without parameters.");
		conn_send_error(&session->conn, "ERROR", err);
		ps_error_free(err);
	}
}

static PsError *
session_loop(Session *session)
{
	Conn *conn = &session->conn;
	bool skip_until_sync = false;

	for (;;)
	{
		Message msg;
		PsError *err;

		conn->max_message = CONN_MAX_COMMAND;
		server_session_idle(session);
		err = conn_read_message(conn, &msg);
		server_session_works(session);
		if (err == NULL || ps_error_is(err, PS_SQLSTATE_CONNECTION))
		{
			PsError *stop = session_check_stop(session);

			if (stop == NULL && err != NULL)
				stop = server_recalled(session);
			if (stop != NULL)
			{
				ps_error_free(err);
				return stop;
			}
		}
		PS_TRY(err);
		switch (msg.type)
		{
			case 'Q':
			{
				char *command;

				if (skip_until_sync)
					break;
				if (msg.len == 0 || memchr(msg.body, '\0', msg.len) != msg.body + msg.len - 1)
					return ps_error(PS_SQLSTATE_PROTOCOL, "invalid query message: not one string with a zero byte at its end");
				command = pg_strdup(msg.body);
				atomic_store(&session->canceled, false);
				err = command_execute(session, command, msg.len - 1);
				if (err != NULL && error_ends_session(err))
				{
					free(command);
					return err;
				}
				if (err != NULL)
					report_command_error(session, err, command);
				free(command);
				conn_send_ready(conn);
				break;
			}
			case 'X':
				return NULL;
			case 'd':
			case 'c':
			case 'f':
				break; /* what is left of a copy that an error ended */
			case 'p':
				return ps_error(PS_SQLSTATE_PROTOCOL, "a password was sent that was not asked for");
			default: /* P B D E C H S F */
				refuse_extended(session, &msg, &skip_until_sync);
				if (msg.type == 'F') /* a function call has no Sync */
				{
					skip_until_sync = false;
					conn_send_ready(conn);
				}
				break;
		}
	}
}

void *
session_main(void *arg)
{
	Session *session = arg;
	bool go_on;
	PsError *err;

	ps_thread_name("session %d", session->id);
	err = session_startup(session, &go_on);
	if (err == NULL && go_on)
		err = session_loop(session);
	if (err != NULL)
	{
		if (!ps_error_is(err, PS_SQLSTATE_CONNECTION))
		{
			conn_send_error(&session->conn, "FATAL", err);
			ps_error_free(conn_flush(&session->conn));
		}
		if (ps_error_is(err, PS_SQLSTATE_CONNECTION) || ps_error_is(err, PS_SQLSTATE_TRY_AGAIN) ||
			ps_error_is(err, PS_SQLSTATE_RECALLED))
			ps_log_error(PS_DEBUG, err, "session ended");
		else
			ps_log_error(PS_LOG, err, "connection ended");
	}
	else
		ps_error_free(conn_flush(&session->conn));
	session_free(session);
	return NULL;
}
