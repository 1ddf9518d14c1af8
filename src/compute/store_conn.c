/*
 * store_conn.c
 *	  A libpq connection to the store, in COPY BOTH mode, on which a server
 *	  process can wait without missing interrupts.
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "interrupts.h"
#include "pg_compat.h"
#include "settings.h"
#include "sqlstate.h"
#include "store_conn.h"
#include "store_hosts.h"
#include "wal_progress.h"

/*
 * Makes the postmaster stop immediately.  It will send SIGQUIT to this process,
 * too, which is blocked so that the caller can report the reason first.
 */
static void
quit_postmaster(void)
{
	sigset_t quit;

	sigemptyset(&quit);
	sigaddset(&quit, SIGQUIT);
	sigprocmask(SIG_BLOCK, &quit, NULL);
	kill(PostmasterPid, SIGQUIT);
}

void
store_conn_superseded(const char *message)
{
	quit_postmaster();
	ereport(CritSectionCount > 0 ? LOG : FATAL,
			(errcode(ERRCODE_ADMIN_SHUTDOWN),
			 errmsg("shutting down immediately because a newer compute runs timeline %s", ps_timeline),
			 errdetail("This compute has generation %llu. The page store reported: %s",
					   (unsigned long long) ps_generation, message),
			 errhint("This data directory can be removed. Changes that were not acknowledged are not in the "
					 "page store.")));
	_exit(2);
}

void
store_conn_deleted(const char *message)
{
	quit_postmaster();
	ereport(FATAL,
			(errcode(ERRCODE_ADMIN_SHUTDOWN),
			 errmsg("shutting down immediately because the page store no longer has timeline %s", ps_timeline),
			 errdetail("The page store reported: %s", message),
			 errhint("The branch was deleted or reset, or its tenant was removed from the store. "
					 "This data directory can be removed. Changes that were not acknowledged are lost.")));
	_exit(2);
}

/* The message of libpq without its trailing newline; palloc'd. */
static char *
libpq_error(PGconn *pg)
{
	return pchomp(PQerrorMessage(pg));
}

/* Returns the message of an error result, palloc'd, and sets sqlstate. */
static char *
result_error(PGresult *res, char sqlstate[6])
{
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	const char *primary = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL);

	strlcpy(sqlstate, state != NULL && strlen(state) == 5 ? state : PS_SQLSTATE_CONNECTION, 6);
	if (primary == NULL)
		return pchomp(PQresultErrorMessage(res));
	if (detail == NULL)
		return pstrdup(primary);
	return psprintf("%s (%s)", primary, detail);
}

char *
store_conn_error(StoreConn *conn, char sqlstate[6])
{
	PGresult *res;
	char *message;
	char *error = NULL;

	strlcpy(sqlstate, PS_SQLSTATE_CONNECTION, 6);

	/* The error message may follow data that nobody will read any more. */
	while (PQgetCopyData(conn->pg, &message, 1) > 0)
		PQfreemem(message);

	/* PQgetResult() does not block unless libpq is busy. */
	while (!PQisBusy(conn->pg) && (res = PQgetResult(conn->pg)) != NULL)
	{
		ExecStatusType status = PQresultStatus(res);

		if (status == PGRES_FATAL_ERROR && error == NULL)
			error = result_error(res, sqlstate);
		PQclear(res);
		/* PQgetResult() would return this result forever */
		if (status == PGRES_COPY_BOTH || status == PGRES_COPY_IN || status == PGRES_COPY_OUT)
			break;
	}
	if (error == NULL && PQerrorMessage(conn->pg)[0] != '\0')
		error = libpq_error(conn->pg);
	return error != NULL ? error : pstrdup("the page store closed the connection");
}

/* Waits on the socket, before there is a wait set for it.  False: the deadline has passed. */
static bool
wait_socket(StoreConn *conn, int events, TimestampTz deadline, uint32 wait_event)
{
	for (;;)
	{
		long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
		int rc;

		if (left <= 0)
			return false;
		rc = WaitLatchOrSocket(MyLatch, WL_EXIT_ON_PM_DEATH | WL_LATCH_SET | WL_TIMEOUT | events,
							   PQsocket(conn->pg), left, wait_event);
		if (rc & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			conn->latch_was_set = true;
			interrupts_check();
		}
		if (rc & events)
			return true;
	}
}

/* The part of open_host() that may raise errors.  Returns false on failure. */
static bool
connect_and_send(StoreConn *conn, const char *address, const StoreHost *host, const char *command,
				 const char *application_name, int timeout_ms, uint32 wait_event, char **error, char sqlstate[6])
{
	/*
	 * Parameters before dbname can be overridden in pageserver_smgr.store.  They
	 * make TCP detect a peer that has disappeared.  Those behind it replace the
	 * address's, if they are not empty.
	 */
	const char *keys[] = {"keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
						  "dbname", "host", "hostaddr", "port", "fallback_application_name", NULL};
	const char *values[] = {"10", "5", "3", "30000",
							address, host->host, host->hostaddr, host->port, application_name, NULL};
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;
	PGresult *res;
	ExecStatusType result;

	conn->pg = PQconnectStartParams(keys, values, true);
	if (conn->pg == NULL)
	{
		*error = pstrdup("out of memory");
		return false;
	}
	if (PQstatus(conn->pg) == CONNECTION_BAD)
	{
		*error = libpq_error(conn->pg);
		return false;
	}
	while (status != PGRES_POLLING_OK)
	{
		if (!wait_socket(conn, status == PGRES_POLLING_READING ? WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE,
						 deadline, wait_event))
		{
			*error = psprintf("connection timed out after %d ms", timeout_ms);
			return false;
		}
		status = PQconnectPoll(conn->pg);
		if (status == PGRES_POLLING_FAILED)
		{
			*error = libpq_error(conn->pg);
			return false;
		}
	}

	if (PQsetnonblocking(conn->pg, 1) != 0 || !PQsendQuery(conn->pg, command))
	{
		*error = libpq_error(conn->pg);
		return false;
	}
	for (;;)
	{
		int unsent = PQflush(conn->pg);

		if (unsent == 0 && !PQisBusy(conn->pg))
			break;
		if (unsent >= 0 && !wait_socket(conn, WL_SOCKET_READABLE | (unsent ? WL_SOCKET_WRITEABLE : 0),
										deadline, wait_event))
		{
			*error = psprintf("no answer to command \"%s\" after %d ms", command, timeout_ms);
			return false;
		}
		if (unsent < 0 || !PQconsumeInput(conn->pg))
		{
			*error = libpq_error(conn->pg);
			return false;
		}
	}
	res = PQgetResult(conn->pg);
	result = PQresultStatus(res);
	if (result == PGRES_FATAL_ERROR)
		*error = result_error(res, sqlstate);
	else if (result != PGRES_COPY_BOTH)
	{
		strlcpy(sqlstate, PS_SQLSTATE_PROTOCOL, 6);
		*error = psprintf("unexpected result of command \"%s\": got %s, expected %s", command,
						  PQresStatus(result), PQresStatus(PGRES_COPY_BOTH));
	}
	PQclear(res);
	if (result != PGRES_COPY_BOTH)
		return false;

	conn->wait_set = compat_create_wait_event_set(3);
	conn->socket_events = WL_SOCKET_READABLE;
	conn->socket_pos = AddWaitEventToSet(conn->wait_set, conn->socket_events, PQsocket(conn->pg), NULL, NULL);
	AddWaitEventToSet(conn->wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(conn->wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	return true;
}

/* Like store_conn_open(), for one of the hosts. */
static StoreConn *
open_host(const char *address, uint32 version, const StoreHost *host, const char *command,
		  const char *application_name, int timeout_ms, uint32 wait_event, char **error, char sqlstate[6])
{
	StoreConn *conn = MemoryContextAllocZero(TopMemoryContext, sizeof(StoreConn));
	bool ok;

	*error = NULL;
	strlcpy(sqlstate, PS_SQLSTATE_CONNECTION, 6);
	conn->store_version = version;

	/* for libpq's socket; the wait set reserves its own descriptor */
	ReserveExternalFD();
	PG_TRY();
	{
		ok = connect_and_send(conn, address, host, command, application_name, timeout_ms, wait_event, error, sqlstate);
	}
	PG_CATCH();
	{
		store_conn_close(conn);
		PG_RE_THROW();
	}
	PG_END_TRY();
	/* the caller, or its caller, may itself be waiting for the latch */
	if (conn->latch_was_set)
		SetLatch(MyLatch);
	conn->latch_was_set = false;
	if (!ok)
	{
		store_conn_close(conn);
		conn = NULL;
	}
	return conn;
}

/*
 * Which of several hosts' errors counts?  That a newer compute runs settles it.  A store
 * that may answer otherwise later is more likely to be the right one than one that
 * rejects the command, and all must agree that there is no such timeline.
 */
static int
weight(const char *sqlstate)
{
	if (strcmp(sqlstate, PS_SQLSTATE_SUPERSEDED) == 0)
		return 3;
	if (strcmp(sqlstate, PS_SQLSTATE_NOT_FOUND) == 0)
		return 0;
	return ps_sqlstate_compute_retries(sqlstate) ? 2 : 1;
}

StoreConn *
store_conn_open(const char *command, const char *application_name, int timeout_ms, uint32 wait_event,
				char **error, char sqlstate[6])
{
	char address[STORE_ADDRESS_MAX];
	uint32 version = wal_progress_store(address);
	uint32 first = wal_progress_store_host();
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	StoreConn *conn = NULL;
	StoreHosts hosts;
	StringInfoData errors;

	store_hosts_parse(&hosts, address);
	initStringInfo(&errors);
	for (int tried = 0; tried < hosts.n && conn == NULL; tried++)
	{
		int i = (first + tried) % hosts.n;
		long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
		StoreHost host;
		char state[6];

		/* a host that does not answer must leave time for the others */
		store_hosts_get(&hosts, i, &host);
		conn = open_host(address, version, &host, command, application_name, left / (hosts.n - tried), wait_event,
						 error, state);
		if (conn != NULL)
		{
			if (hosts.n > 1)
				wal_progress_set_store_host(i);
			break;
		}
		if (tried == 0 || weight(state) > weight(sqlstate))
			strlcpy(sqlstate, state, 6);
		if (hosts.n == 1)
			break;
		appendStringInfo(&errors, "%s\"%s\" port %s: %.*s", tried > 0 ? "; " : "",
						 host.host[0] != '\0' ? host.host : host.hostaddr, host.port, (int) strcspn(*error, "\n"),
						 *error);
		pfree(*error);
		*error = errors.data;
	}
	store_hosts_free(&hosts);
	if (conn != NULL || *error != errors.data)
		pfree(errors.data);
	return conn;
}

void
store_conn_close(StoreConn *conn)
{
	if (conn->wait_set != NULL)
		FreeWaitEventSet(conn->wait_set);
	PQfinish(conn->pg);
	ReleaseExternalFD();
	pfree(conn);
}

void
store_conn_wait(StoreConn *conn, bool want_write, long timeout_ms, uint32 wait_event)
{
	uint32 events = WL_SOCKET_READABLE | (want_write ? WL_SOCKET_WRITEABLE : 0);
	WaitEvent event;

	if (events != conn->socket_events)
	{
		ModifyWaitEvent(conn->wait_set, conn->socket_pos, events, NULL);
		conn->socket_events = events;
	}
	if (WaitEventSetWait(conn->wait_set, timeout_ms, &event, 1, wait_event) == 1 && (event.events & WL_LATCH_SET))
	{
		ResetLatch(MyLatch);
		conn->latch_was_set = true;
	}
}

char *
store_conn_display_address(void)
{
	static const char *const shown[] = {"host", "hostaddr", "port", "dbname", "user"};
	char address[STORE_ADDRESS_MAX];
	PQconninfoOption *options;
	StringInfoData buf;

	wal_progress_store(address);
	options = PQconninfoParse(address, NULL);
	initStringInfo(&buf);
	for (PQconninfoOption *option = options; option != NULL && option->keyword != NULL; option++)
		for (int i = 0; i < lengthof(shown); i++)
			if (option->val != NULL && strcmp(option->keyword, shown[i]) == 0)
				appendStringInfo(&buf, "%s%s=%s", buf.len > 0 ? " " : "", option->keyword, option->val);
	PQconninfoFree(options);
	return buf.data;
}
