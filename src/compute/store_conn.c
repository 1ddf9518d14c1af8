/*
 * store_conn.c
 *	  A libpq connection to the store, in the COPY BOTH state, that a server
 *	  process can wait on without missing interrupts.
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compute.h"
#include "sqlstate.h"

void
store_conn_interrupts(void)
{
	/*
	 * Processes to be stopped, and statements to be cancelled, although
	 * interrupts are held off because of LWLocks: with these flags set
	 * ProcessInterrupts() raises its error before it comes to anything that
	 * would not be safe with locks held.  Not while a transaction commits or
	 * aborts (then IsTransactionState() is false), where an error cannot be
	 * dealt with.
	 */
	if (InterruptHoldoffCount == 0)
		CHECK_FOR_INTERRUPTS();
	else if (InterruptPending && CritSectionCount == 0 && QueryCancelHoldoffCount == 0 &&
			 !proc_exit_inprogress && IsTransactionState() &&
			 (ProcDiePending || ClientConnectionLost || QueryCancelPending))
	{
		uint32 holdoff = InterruptHoldoffCount;

		InterruptHoldoffCount = 0;
		ProcessInterrupts();
		InterruptHoldoffCount = holdoff;
	}

	/*
	 * The autovacuum launcher, and background workers as they may be, look at
	 * this flag between two pieces of work only.  An error brings them there:
	 * were it FATAL, the launcher's end would count as a crash.
	 */
	if (ShutdownRequestPending && CritSectionCount == 0 && QueryCancelHoldoffCount == 0 &&
		!proc_exit_inprogress && IsTransactionState())
		ereport(ERROR,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("canceling a wait for the page store because the process is to shut down")));

	/* DROP DATABASE and others wait until all processes have done this. */
	if (ProcSignalBarrierPending && CritSectionCount == 0 && !proc_exit_inprogress)
		ProcessProcSignalBarrier();
}

/* The postmaster is to stop at once.  It passes its SIGQUIT on: not before our message is out. */
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
			 errmsg("shutting down at once: a newer compute runs timeline %s", ps_timeline),
			 errdetail("This compute has generation %llu. The store said: %s",
					   (unsigned long long) ps_generation, message),
			 errhint("Its data directory is of no more use; changes that were not acknowledged are not in the store.")));
	_exit(2);
}

void
store_conn_gone(const char *message)
{
	quit_postmaster();
	ereport(FATAL,
			(errcode(ERRCODE_ADMIN_SHUTDOWN),
			 errmsg("shutting down at once: the page store does not have timeline %s any more", ps_timeline),
			 errdetail("The store said: %s", message),
			 errhint("The branch was deleted or reset, or its tenant was removed from the store. "
					 "This data directory is of no more use; changes that were not acknowledged are lost.")));
	_exit(2);
}

/* The text, without the line end that libpq puts there. */
static char *
libpq_error(PGconn *pg)
{
	return pchomp(PQerrorMessage(pg));
}

/*
 * Message and SQLSTATE out of a result with an error.
 */
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

	/* An error message may stand behind data that nobody will read now. */
	while (PQgetCopyData(conn->pg, &message, 1) > 0)
		PQfreemem(message);

	/* While libpq is not busy PQgetResult() does not block. */
	while (!PQisBusy(conn->pg) && (res = PQgetResult(conn->pg)) != NULL)
	{
		ExecStatusType status = PQresultStatus(res);

		if (status == PGRES_FATAL_ERROR && error == NULL)
			error = result_error(res, sqlstate);
		PQclear(res);
		/* PQgetResult() would go on for ever giving this one */
		if (status == PGRES_COPY_BOTH || status == PGRES_COPY_IN || status == PGRES_COPY_OUT)
			break;
	}
	if (error == NULL && PQerrorMessage(conn->pg)[0] != '\0')
		error = libpq_error(conn->pg);
	return error != NULL ? error : pstrdup("the store ended the conversation");
}

/*
 * Waits on a socket before there is a wait set for it.  False: the deadline
 * has passed.
 */
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
			store_conn_interrupts();
		}
		if (rc & events)
			return true;
	}
}

/*
 * The steps of store_conn_open(); false on failure.
 */
static bool
connect_and_send(StoreConn *conn, const char *command, const char *application_name,
				 int timeout_ms, uint32 wait_event, char **error, char sqlstate[6])
{
	/*
	 * What stands before dbname can be changed in pageserver_smgr.store.  A
	 * peer that is gone without a word must be noticed some time.
	 */
	const char *keys[] = {"keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
						  "dbname", "fallback_application_name", NULL};
	char address[STORE_ADDRESS_MAX];
	const char *values[] = {"10", "5", "3", "30000",
							address, application_name, NULL};
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;
	PGresult *res;
	ExecStatusType result;

	conn->store_version = wal_progress_store(address);
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
			*error = psprintf("timeout: no connection to the store after %d ms", timeout_ms);
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
			*error = psprintf("timeout: no answer to \"%s\" after %d ms", command, timeout_ms);
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
		*error = psprintf("unexpected answer to \"%s\": %s, expected %s", command,
						  PQresStatus(result), PQresStatus(PGRES_COPY_BOTH));
	}
	PQclear(res);
	if (result != PGRES_COPY_BOTH)
		return false;

	conn->wait_set = CreateWaitEventSet(TopMemoryContext, 3);
	conn->socket_events = WL_SOCKET_READABLE;
	conn->socket_pos = AddWaitEventToSet(conn->wait_set, conn->socket_events, PQsocket(conn->pg), NULL, NULL);
	AddWaitEventToSet(conn->wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(conn->wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	return true;
}

StoreConn *
store_conn_open(const char *command, const char *application_name, int timeout_ms, uint32 wait_event,
				char **error, char sqlstate[6])
{
	StoreConn *conn = MemoryContextAllocZero(TopMemoryContext, sizeof(StoreConn));
	bool ok;

	*error = NULL;
	strlcpy(sqlstate, PS_SQLSTATE_CONNECTION, 6);

	/* libpq's socket; the wait set reserves its own */
	ReserveExternalFD();
	PG_TRY();
	{
		ok = connect_and_send(conn, command, application_name, timeout_ms, wait_event, error, sqlstate);
	}
	PG_CATCH();
	{
		store_conn_close(conn);
		PG_RE_THROW();
	}
	PG_END_TRY();
	/* what was done here may be in the middle of somebody's wait for the latch */
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
