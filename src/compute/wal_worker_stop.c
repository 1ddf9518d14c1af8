/*
 * wal_worker_stop.c
 *	  How the WAL worker ends: in a shutdown, when all WAL is in the store;
 *	  alone, when it is terminated; or together with the server, when the store will
 *	  not accept its WAL.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "catalog_reader.h"
#include "log_pages.h"
#include "lsn_cache.h"
#include "page_cache.h"
#include "pg_compat.h"
#include "settings.h"
#include "wal_worker_impl.h"

#define STOP_POLL_MS 10 /* while other backends exit, which is not signaled */

static volatile sig_atomic_t got_sigterm; /* from the postmaster */
static volatile sig_atomic_t terminated;
static XLogRecPtr stop_lsn; /* in a shutdown: end of the WAL that is to be sent */
static TimestampTz stop_deadline;

/*
 * SIGTERM from the postmaster means that the server is shutting down.  From
 * another process, for example pg_terminate_backend(), it means that only this
 * process should end.
 */
void
wal_worker_handle_sigterm(int signo, siginfo_t *info, void *context)
{
	int save_errno = errno;

	if (info->si_pid != PostmasterPid)
		terminated = true;
	else if (!got_sigterm)
	{
		pg_atomic_write_u64(&wal_progress->stopping_since, GetCurrentTimestamp());
		got_sigterm = true;
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

void
wal_worker_give_up(const char *detail)
{
	wal_progress_set_connected(false, detail);
	ereport(LOG,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("shutting down immediately because the page store cannot accept WAL of this compute"),
			 errdetail_internal("%s", detail),
			 errhint("Start the compute again with \"pageserver_ctl compute start\".")));
	/*
	 * the postmaster treats this as a crash; after an immediate shutdown, which
	 * would look intended, the supervisor would not restart the compute
	 */
	proc_exit(2);
}

/*
 * Are there backends that may still write WAL?  These are all with a PGPROC
 * except this one and walsenders, which remain until the shutdown checkpoint.
 * Auxiliary processes and prepared transactions come after MaxBackends.
 * ProcKill() does not reset the pid; the last thing that it resets is the owner
 * of the latch.
 */
static bool
other_backends_exist(void)
{
	for (int i = 0; i < MaxBackends; i++)
	{
		PGPROC *proc = &ProcGlobal->allProcs[i];

		if (((volatile Latch *) &proc->procLatch)->owner_pid != 0 && proc != MyProc &&
			!compat_proc_is_walsender(proc))
			return true;
	}
	return false;
}

/*
 * In a shutdown the postmaster has told all backends to exit, and waits for this
 * process, too.  When the others are gone, what WAL lacks is logged, and then
 * all WAL has to be sent, within the time limit.  The exit code is always 1,
 * because after exit(0) the postmaster would not restart the worker.
 */
void
wal_worker_exit_if_stopping(StoreConn *conn)
{
	XLogRecPtr flushed;

	if (terminated && !got_sigterm)
	{
		ereport(LOG,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("terminating WAL worker due to administrator command; it will be restarted")));
		if (conn != NULL)
			store_conn_close(conn);
		proc_exit(1);
	}
	if (!got_sigterm)
		return;
	if (stop_lsn == InvalidXLogRecPtr)
	{
		if (other_backends_exist())
			return;
		log_pages_before_shutdown();
		stop_lsn = lsn_cache_insert_position();
		XLogFlush(stop_lsn);
		stop_deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ps_shutdown_timeout);
	}
	flushed = pg_atomic_read_u64(&wal_progress->flushed);
	if (flushed < stop_lsn && GetCurrentTimestamp() < stop_deadline)
		return;
	if (flushed < stop_lsn)
		ereport(LOG,
				(errmsg("WAL from %X/%X to %X/%X was not acknowledged by the page store before the shutdown",
						LSN_FORMAT_ARGS(flushed), LSN_FORMAT_ARGS(stop_lsn)),
				 errdetail("The shutdown has waited for \"pageserver_smgr.shutdown_timeout\" (%d ms). The changes in "
						   "this WAL are lost unless the page store has received it.",
						   ps_shutdown_timeout)));
	else
		pg_atomic_write_u64(&wal_progress->stopped_at, flushed);
	if (conn != NULL)
		store_conn_close(conn);
	status_file_remove();
	proc_exit(1);
}

void
wal_worker_housekeeping(StoreConn *conn)
{
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		wal_progress_publish_store();
	}
	CHECK_FOR_INTERRUPTS();
	page_cache_leave_room();
	status_file_update();
	catalog_reader_start();
	wal_worker_exit_if_stopping(conn);
}

long
wal_worker_limit_connect(long timeout_ms)
{
	if (stop_lsn == InvalidXLogRecPtr)
		return timeout_ms;
	return Min(timeout_ms, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), stop_deadline));
}

long
wal_worker_limit_wait(long timeout_ms)
{
	if (got_sigterm && stop_lsn == InvalidXLogRecPtr)
		return Min(timeout_ms, STOP_POLL_MS);
	return wal_worker_limit_connect(Min(timeout_ms, Min(status_file_due(), catalog_reader_due())));
}
