/*
 * session.c
 *	  One connection from its startup packet to its end.
 */
#include "ps_fe.h"

#include "base/clock.h"
#include "base/version.h"
#include "layer/layer_source.h"
#include "serve/commands.h"
#include "sqlstate.h"

/* A client must send its startup packets within this time. */
#define STARTUP_TIMEOUT_MS 30000

/* Tells the client that the session has begun, with the parameters that libpq and psql expect from a server. */
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
 * Handles the startup packets, up to the first ReadyForQuery.  *started is false
 * after an error, and without one after a cancel request.
 */
static PsError *
session_startup(Session *session, bool *started)
{
	Conn *conn = &session->conn;
	int negotiations = 0;

	*started = false;
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
				/* libpq sends each of them once */
				if (++negotiations > 2)
					return ps_error(PS_SQLSTATE_PROTOCOL, "too many encryption requests");
				conn_put8(conn, 'N');
				PS_TRY(conn_flush(conn));
				break;
			case STARTUP_CANCEL:
				sessions_cancel(session->server, startup.session_id, startup.secret);
				return NULL;
			case STARTUP_SESSION:
				PS_TRY(session_check_stop(session));
				PS_TRY(streams_admit(session));
				session->who = audit_peer(conn->fd, &startup);
				send_welcome(session, &startup);
				conn->deadline = 0;
				*started = true;
				return NULL;
		}
	}
}

/* Sends the error of a command to the client and, unless it was canceled or malformed, logs it.  Frees err. */
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
 * Rejects messages of the extended query protocol: sends one error, then ignores
 * messages until Sync.  *skip is true meanwhile.
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
		err = ps_error_hint(ps_error(PS_SQLSTATE_UNSUPPORTED, "the store does not support the extended query protocol"),
							"Send commands as simple queries without parameters.");
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
		streams_idle(session);
		err = conn_read_message(conn, &msg);
		streams_busy(session);
		if (err == NULL || ps_error_is(err, PS_SQLSTATE_CONNECTION))
		{
			PsError *stop = session_check_stop(session);

			if (stop == NULL && err != NULL)
				stop = streams_check_recalled(session);
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
					return ps_error(PS_SQLSTATE_PROTOCOL, "invalid query message: expected one zero-terminated string");
				command = pg_strdup(msg.body);
				atomic_store(&session->canceled, false);
				err = command_execute(session, command, msg.len - 1);
				if (err != NULL && session_error_is_fatal(err))
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
				break; /* the rest of a copy that ended with an error */
			case 'p':
				return ps_error(PS_SQLSTATE_PROTOCOL, "unexpected password message");
			default: /* P B D E C H S F */
				refuse_extended(session, &msg, &skip_until_sync);
				if (msg.type == 'F') /* a function call is not followed by Sync */
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
	bool started;
	PsError *err;

	ps_thread_name("session %d", session->id);
	layer_context = (LayerContext) {.cancel = &session->cancel, .by_client = true};
	err = session_startup(session, &started);
	if (err == NULL && started)
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
