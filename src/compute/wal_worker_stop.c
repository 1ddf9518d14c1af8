/*
 * wal_worker_stop.c
 *	  How the WAL worker ends: with the server, when all WAL is in the store,
 *	  or alone; and how it ends the server.
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

#include "wal_worker.h"

#define STOP_POLL_MS 10 /* while other backends end; nothing tells when they have */

static volatile sig_atomic_t got_sigterm; /* of the postmaster */
static volatile sig_atomic_t terminated;
static XLogRecPtr stop_lsn; /* shutdown: all WAL that is to be sent */
static TimestampTz stop_deadline;

/*
 * From the postmaster it means a shutdown; from others, pg_terminate_backend()
 * for one, that this process is to end.
 */
void
handle_sigterm(int signo, siginfo_t *info, void *context)
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
give_up(const char *detail)
{
	wal_progress_set_connected(false, detail);
	ereport(LOG,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("shutting down at once: WAL of this compute cannot be streamed to the page store"),
			 errdetail_internal("%s", detail),
			 errhint("Start the compute again, from a new base backup of the store.")));
	/* to the postmaster it is a crash: an immediate shutdown would seem to be wanted, and the supervisor would not start the compute anew */
	proc_exit(2);
}

/*
 * Backends that may still write WAL: all with a PGPROC but walsenders, which
 * stay for the shutdown checkpoint, and this one.  Auxiliary processes and
 * prepared transactions come after MaxBackends.  ProcKill() leaves pid as it
 * is; the last that it undoes is that the process owns the latch.
 */
static bool
other_backends_exist(void)
{
	for (int i = 0; i < MaxBackends; i++)
	{
		PGPROC *proc = &ProcGlobal->allProcs[i];

		if (((volatile Latch *) &proc->procLatch)->owner_pid != 0 && proc != MyProc &&
			proc->procgloballist != &ProcGlobal->walsenderFreeProcs)
			return true;
	}
	return false;
}

/*
 * A shutdown: the postmaster has told all backends to end, and waits for this
 * process as well.  Once the others are gone, what WAL lacks is logged, and all
 * WAL there is has to go to the store, within the time limit.  Always exit(1),
 * as for exit(0) the postmaster would never start the worker again.
 */
void
exit_if_stopping(StoreConn *conn)
{
	XLogRecPtr flushed;

	if (terminated && !got_sigterm)
	{
		ereport(LOG,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("terminating the WAL worker due to administrator command, it will be started again")));
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
		log_before_shutdown();
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
				 errdetail("Waited %d ms (pageserver_smgr.shutdown_timeout). The changes in it are lost unless the store has received it.",
						   ps_shutdown_timeout)));
	else
		pg_atomic_write_u64(&wal_progress->stopped_at, flushed);
	if (conn != NULL)
		store_conn_close(conn);
	status_file_remove();
	proc_exit(1);
}

void
housekeeping(StoreConn *conn)
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
	exit_if_stopping(conn);
}

long
limit_connect(long timeout_ms)
{
	if (stop_lsn == InvalidXLogRecPtr)
		return timeout_ms;
	return Min(timeout_ms, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), stop_deadline));
}

long
limit_wait(long timeout_ms)
{
	if (got_sigterm && stop_lsn == InvalidXLogRecPtr)
		return Min(timeout_ms, STOP_POLL_MS);
	return limit_connect(Min(timeout_ms, Min(status_file_due(), catalog_reader_due())));
}
