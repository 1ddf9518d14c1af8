/*
 * wal_worker.c
 *	  The background worker that streams WAL to the store.
 *
 * To the rest of the server the worker looks like a walsender with a synchronous
 * standby: it has a WalSnd slot, through whose latch XLogFlush() wakes it, and
 * acknowledgements of the store release waiting commits (SyncRepReleaseWaiters()).
 * Unlike a walsender it makes the connection itself, and it exits before the
 * shutdown checkpoint is written, which the store does not need because the next
 * compute starts with a checkpoint of its own.
 *
 * The worker must never request a page from the store: the answer could depend on
 * WAL that the worker has not sent yet.
 */
#include "postgres.h"

#include <signal.h>

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/timestamp.h"

#include "pg_compat.h"
#include "settings.h"
#include "sqlstate.h"
#include "wal_progress.h"
#include "wal_worker.h"
#include "wal_worker_impl.h"

#define WORKER_NAME "pageserver WAL worker"

#define CONNECT_TIMEOUT_MS    5000
#define FIRST_RETRY_MS        10
#define MAX_REGISTER_ATTEMPTS 16

PGDLLEXPORT void wal_worker_main(Datum arg);

void
wal_worker_register(void)
{
	BackgroundWorker worker = {0};
	int configured = max_worker_processes;

	strlcpy(worker.bgw_name, WORKER_NAME, BGW_MAXLEN);
	strlcpy(worker.bgw_type, WORKER_NAME, BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "pageserver_smgr", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "wal_worker_main", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);

	/*
	 * If there are too many workers, RegisterBackgroundWorker() only logs that,
	 * but without this worker no commit would finish.  Each attempt uses up a
	 * number, even a failed one or one of another library.
	 */
	for (int i = 0; !compat_bgworker_is_registered(WORKER_NAME) && i < MAX_REGISTER_ATTEMPTS; i++)
	{
		char value[16];

		snprintf(value, sizeof(value), "%d", max_worker_processes + 2);
		SetConfigOption("max_worker_processes", value, PGC_POSTMASTER, PGC_S_OVERRIDE);
		RegisterBackgroundWorker(&worker);
	}
	if (max_worker_processes != configured)
		ereport(LOG,
				(errmsg("parameter \"max_worker_processes\" is forced to %d instead of %d",
						max_worker_processes, configured),
				 errdetail("The WAL worker, without which no commit can finish, needs one in addition to those of "
						   "other libraries.")));
	if (!compat_bgworker_is_registered(WORKER_NAME))
		ereport(FATAL,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not register the WAL worker of pageserver_smgr"),
				 errdetail("\"max_worker_processes\" is %d, and other libraries have registered as many workers.",
						   max_worker_processes),
				 errhint("Increase \"max_worker_processes\", or list \"pageserver_smgr\" before these libraries in "
						 "\"shared_preload_libraries\".")));
}

static void
at_exit(int code, Datum arg)
{
	SpinLockAcquire(&wal_progress->mutex);
	wal_progress->pid = 0;
	wal_progress->connected = false;
	SpinLockRelease(&wal_progress->mutex);
}

/* Waits before the next attempt to connect.  Wakeups because of new WAL do not shorten the wait. */
static void
wait_for_retry(int delay_ms)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay_ms);
	uint32 store_version = wal_progress_store_version();

	for (;;)
	{
		long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

		wal_worker_housekeeping(NULL);
		if (left <= 0 || wal_progress_store_changed(store_version))
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, wal_worker_limit_wait(left),
						 WAIT_EVENT_WAL_SENDER_MAIN);
		ResetLatch(MyLatch);
	}
}

void
wal_worker_main(Datum arg)
{
	char command[128];
	char logged_error[256] = "";
	int delay_ms = FIRST_RETRY_MS;
	MemoryContext context;
	struct sigaction on_sigterm = {.sa_sigaction = wal_worker_handle_sigterm, .sa_flags = SA_SIGINFO | SA_RESTART};

	pg_atomic_write_u64(&wal_progress->stopping_since, 0);
	sigemptyset(&on_sigterm.sa_mask);
	sigaction(SIGTERM, &on_sigterm, NULL);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, SIG_IGN);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	SetConfigOption("application_name", STANDBY_NAME, PGC_USERSET, PGC_S_SESSION);
	pgstat_report_activity(STATE_RUNNING, "streaming WAL to the page store");

	standby_init();
	on_shmem_exit(at_exit, 0);
	SpinLockAcquire(&wal_progress->mutex);
	wal_progress->pid = MyProcPid;
	SpinLockRelease(&wal_progress->mutex);
	wal_progress_publish_store();

	MemoryContextSwitchTo(TopMemoryContext);
	stream_init();
	snprintf(command, sizeof(command), "wal_push %s %s %llu",
			 ps_tenant, ps_timeline, (unsigned long long) ps_generation);

	context = AllocSetContextCreate(TopMemoryContext, "WAL worker", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		StoreConn *conn;
		char *error;
		char sqlstate[6];
		uint32 store_version;

		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
		wal_worker_housekeeping(NULL);
		set_ps_display("connecting");
		store_version = wal_progress_store_version();
		conn = store_conn_open(command, STANDBY_NAME, wal_worker_limit_connect(CONNECT_TIMEOUT_MS),
							   WAIT_EVENT_WAL_SENDER_MAIN, &error, sqlstate);
		if (conn != NULL)
		{
			error = stream_wal(conn, sqlstate);
			store_conn_close(conn);
			standby_disconnected();
			/* no hurry with a store that accepts connections but fails right away each time */
			if (streaming_since != 0 &&
				TimestampDifferenceExceeds(streaming_since, GetCurrentTimestamp(), ps_connect_retry))
				delay_ms = FIRST_RETRY_MS;
		}
		wal_progress_set_connected(false, error);
		wal_progress_set_waits(psprintf("no connection to the page store: %.*s",
										(int) strcspn(error, "\n"), error),
							   outage_since);
		set_ps_display("waiting for the page store");
		status_file_changed();
		if (strcmp(sqlstate, PS_SQLSTATE_SUPERSEDED) == 0)
			store_conn_superseded(error);
		/* at a new address the store may be the wrong one */
		if (strcmp(sqlstate, PS_SQLSTATE_NOT_FOUND) == 0 && wal_progress_is_served(store_version))
			store_conn_deleted(error);

		/* Log it once per outage, and again when the reason changes. */
		if (outage_since == 0 || strcmp(logged_error, error) != 0)
			ereport(LOG,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("could not stream WAL to the page store, retrying: %s", error),
					 errdetail("Commits wait until WAL is streamed again.")));
		strlcpy(logged_error, error, sizeof(logged_error));
		if (outage_since == 0)
			outage_since = GetCurrentTimestamp();
		wait_for_retry(delay_ms);
		delay_ms = Min(delay_ms * 2, ps_connect_retry);
	}
}
