/*
 * wal_worker.c
 *	  The background worker that streams WAL to the store.
 *
 * To the rest of the server the worker is a walsender with a synchronous
 * standby behind it: it has a WalSnd slot, through whose latch XLogFlush()
 * wakes it, and what the store acknowledges releases commits
 * (SyncRepReleaseWaiters).  It differs from a walsender in who connects (it
 * does), and in ending before the shutdown checkpoint is written, which the
 * store does not need: the next start of a compute makes its own.
 *
 * The worker must never ask the store for a page: the answer could depend on
 * WAL that it has not sent yet.
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogreader.h"
#include "access/xlogutils.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/bgworker_internals.h"
#include "postmaster/interrupt.h"
#include "replication/slot.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/timestamp.h"

#include "ps_wal_progress.h"

#define WORKER_NAME "pageserver WAL worker"
#define STANDBY_NAME "pageserver"	/* application_name, and name of the slot */

#define MAX_CHUNK (1024 * 1024) /* of WAL in one message */
#define WAL_HEADER_SIZE 25		/* 'w', start, end of WAL, time */
#define KEEPALIVE_SIZE 18		/* 'k', end of WAL, time, reply requested */
#define KEEPALIVE_MS 5000		/* of silence, until the store is asked for a reply */
#define CONNECT_TIMEOUT_MS 5000
#define FIRST_RETRY_MS 10
#define STOP_POLL_MS 10			/* while other backends end; nothing tells when they have */

/* State of the worker process. */
static StoreConn *conn;
static XLogReaderState *reader; /* for WALRead(), which keeps the segment open */
static char *wal_message;		/* WAL_HEADER_SIZE + MAX_CHUNK bytes */
static XLogRecPtr sent;			/* invalid: the store has not said yet from where on to send */
static XLogRecPtr confirmed;	/* flushed, as the store said on this connection */
static XLogSegNo required_segno;	/* that the slot was last counted with */
static TimestampTz last_reply;
static TimestampTz last_keepalive;
static TimestampTz outage_since;	/* 0: none */
static TimestampTz streaming_since;
static volatile sig_atomic_t got_sigterm;	/* of the postmaster */
static volatile sig_atomic_t terminated;
static XLogRecPtr stop_lsn;		/* shutdown: all WAL that is to be sent */
static TimestampTz stop_deadline;

PGDLLEXPORT void wal_worker_main(Datum arg);

/* ---- start of the server ---- */

void
wal_worker_register(void)
{
	BackgroundWorker worker = {0};
	slist_iter	iter;
	int			registered = 0;

	strlcpy(worker.bgw_name, WORKER_NAME, BGW_MAXLEN);
	strlcpy(worker.bgw_type, WORKER_NAME, BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "pageserver_smgr", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "wal_worker_main", BGW_MAXLEN);

	/* Too many would get no more than a message; but without this worker no commit would end. */
	slist_foreach(iter, &BackgroundWorkerList)
		registered++;
	if (max_worker_processes <= registered)
	{
		char		value[16];

		snprintf(value, sizeof(value), "%d", registered + 1);
		SetConfigOption("max_worker_processes", value, PGC_POSTMASTER, PGC_S_OVERRIDE);
	}
	RegisterBackgroundWorker(&worker);
}

/* ---- the worker ---- */

/*
 * From the postmaster it means a shutdown; from others, pg_terminate_backend()
 * for one, that this process is to end.
 */
static void
handle_sigterm(int signo, siginfo_t *info, void *context)
{
	int			save_errno = errno;

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

static void
at_exit(int code, Datum arg)
{
	SpinLockAcquire(&wal_progress->mutex);
	wal_progress->pid = 0;
	wal_progress->connected = false;
	SpinLockRelease(&wal_progress->mutex);
}

static void
set_connected(bool connected, const char *error)
{
	SpinLockAcquire(&wal_progress->mutex);
	wal_progress->connected = connected;
	wal_progress->connected_since = connected ? GetCurrentTimestamp() : 0;
	if (error != NULL)
		strlcpy(wal_progress->last_error, error, sizeof(wal_progress->last_error));
	SpinLockRelease(&wal_progress->mutex);
}

/* As WalSndSetState(), for MyWalSnd. */
static void
set_walsnd_state(WalSndState state)
{
	SpinLockAcquire(&MyWalSnd->mutex);
	MyWalSnd->state = state;
	SpinLockRelease(&MyWalSnd->mutex);
}

/*
 * The store will never take what this compute writes, so that no commit can
 * end: stops the server.  Trying again would not change anything.
 */
static void pg_attribute_noreturn()
give_up(const char *detail)
{
	set_connected(false, detail);
	ereport(LOG,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("shutting down at once: WAL of this compute cannot be streamed to the page store"),
			 errdetail_internal("%s", detail),
			 errhint("Start the compute again, from a new base backup of the store.")));
	kill(PostmasterPid, SIGQUIT);
	proc_exit(1);
}

/* XLogReaderRoutine->segment_open: as wal_segment_open(), but a missing segment is the end. */
static void
open_segment(XLogReaderState *state, XLogSegNo segno, TimeLineID *tli)
{
	char		path[MAXPGPATH];

	XLogFilePath(path, *tli, segno, state->segcxt.ws_segsize);
	state->seg.ws_file = BasicOpenFile(path, O_RDONLY | PG_BINARY);
	if (state->seg.ws_file >= 0)
		return;
	if (errno == ENOENT)
		give_up(psprintf("The store needs WAL from %X/%X on, but file \"%s\" does not exist.",
						 LSN_FORMAT_ARGS(sent), path));
	ereport(ERROR,
			(errcode_for_file_access(),
			 errmsg("could not open file \"%s\": %m", path)));
}

/*
 * The slot that keeps WAL which the store does not have.  Its position is only
 * ever set from what the store says, never the other way round.
 */
static void
acquire_slot(void)
{
	if (SearchNamedReplicationSlot(STANDBY_NAME, true) != NULL)
		ReplicationSlotAcquire(STANDBY_NAME, true);
	else
	{
		ReplicationSlotCreate(STANDBY_NAME, false, RS_PERSISTENT, false);
		ReplicationSlotReserveWal();
		ReplicationSlotMarkDirty();
		ReplicationSlotSave();
	}
}

/* As PhysicalConfirmReceivedLocation(); but WAL goes by segments, so counts by segments. */
static void
advance_slot(XLogRecPtr lsn)
{
	XLogSegNo	segno;

	SpinLockAcquire(&MyReplicationSlot->mutex);
	MyReplicationSlot->data.restart_lsn = lsn;
	SpinLockRelease(&MyReplicationSlot->mutex);

	XLByteToSeg(lsn, segno, wal_segment_size);
	if (segno != required_segno)
	{
		required_segno = segno;
		ReplicationSlotMarkDirty();
		ReplicationSlotsComputeRequiredLSN();
	}
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
		PGPROC	   *proc = &ProcGlobal->allProcs[i];

		if (((volatile Latch *) &proc->procLatch)->owner_pid != 0 && proc != MyProc &&
			proc->procgloballist != &ProcGlobal->walsenderFreeProcs)
			return true;
	}
	return false;
}

/*
 * A shutdown: the postmaster has told all backends to end, and waits for this
 * process as well.  Once the others are gone, what WAL lacks is logged, and all
 * WAL there is has to go to the store, within the time limit.  Always exit(1), as for exit(0) the
 * postmaster would never start the worker again.
 */
static void
exit_if_stopping(void)
{
	XLogRecPtr	flushed;

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
	if (conn != NULL)
		store_conn_close(conn);
	proc_exit(1);
}

/* What a process does now and then. */
static void
housekeeping(void)
{
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	CHECK_FOR_INTERRUPTS();
	exit_if_stopping();
}

/* How long a wait may last, in ms, so that exit_if_stopping() is called in time. */
static long
limit_wait(long timeout_ms)
{
	if (!got_sigterm)
		return timeout_ms;
	if (stop_lsn == InvalidXLogRecPtr)
		return Min(timeout_ms, STOP_POLL_MS);
	return Min(timeout_ms, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), stop_deadline));
}

static bool
send_keepalive(bool request_reply)
{
	char		message[KEEPALIVE_SIZE];

	message[0] = 'k';
	ps_put64(message + 1, sent);
	ps_put64(message + 9, GetCurrentTimestamp());
	message[17] = request_reply;
	last_keepalive = GetCurrentTimestamp();
	return PQputCopyData(conn->pg, message, sizeof(message)) > 0;
}

/*
 * Sends one chunk of the WAL that is flushed and was not sent.  False if the
 * connection is lost; *more: there is still WAL to send.
 */
static bool
send_wal(bool *more)
{
	TimeLineID	tli;
	XLogRecPtr	flushed = GetFlushRecPtr(&tli);
	XLogRecPtr	end = flushed;
	XLogSegNo	segno;
	WALReadError error;

	*more = false;
	if (flushed <= sent)
		return true;
	if (end - sent > MAX_CHUNK)
	{
		end = sent + MAX_CHUNK;
		end -= end % XLOG_BLCKSZ;
		*more = true;
	}
	if (!WALRead(reader, wal_message + WAL_HEADER_SIZE, sent, end - sent, tli, &error))
		WALReadRaiseError(&error);
	XLByteToSeg(sent, segno, wal_segment_size);
	if (segno <= XLogGetLastRemovedSegno())
		give_up(psprintf("The store needs WAL from %X/%X on, which has been removed.", LSN_FORMAT_ARGS(sent)));

	wal_message[0] = 'w';
	ps_put64(wal_message + 1, sent);
	ps_put64(wal_message + 9, flushed);
	ps_put64(wal_message + 17, GetCurrentTimestamp());
	if (PQputCopyData(conn->pg, wal_message, WAL_HEADER_SIZE + (int) (end - sent)) <= 0)
		return false;
	sent = end;
	pg_atomic_write_u64(&wal_progress->sent, sent);
	SpinLockAcquire(&MyWalSnd->mutex);
	MyWalSnd->sentPtr = sent;
	SpinLockRelease(&MyWalSnd->mutex);
	return true;
}

/*
 * With the record of a switch the store has the rest of its segment, which is
 * padding, before we have sent it, or even flushed it.  to is beyond from.
 */
static bool
may_be_padding(XLogRecPtr from, XLogRecPtr to)
{
	return XLogSegmentOffset(to, wal_segment_size) == 0 && to - from < wal_segment_size;
}

/*
 * The store's first reply says how far it has WAL: there the stream begins, if
 * that WAL is there.
 */
static void
begin_at(XLogRecPtr lsn)
{
	XLogRecPtr	end = GetFlushRecPtr(NULL);
	XLogRecPtr	acknowledged = pg_atomic_read_u64(&wal_progress->flushed);
	XLogSegNo	segno;

	if (lsn > end && !may_be_padding(end, lsn))
		give_up(psprintf("The store has WAL of timeline %s up to %X/%X, but this compute ends at %X/%X.",
						 ps_timeline, LSN_FORMAT_ARGS(lsn), LSN_FORMAT_ARGS(end)));
	if (lsn <= ps_checkpoint_lsn)
		give_up(psprintf("The store has WAL of timeline %s up to %X/%X only, but this compute was started from the checkpoint at %X/%X.",
						 ps_timeline, LSN_FORMAT_ARGS(lsn), LSN_FORMAT_ARGS(ps_checkpoint_lsn)));
	sent = lsn;
	required_segno = 0;
	advance_slot(lsn);
	XLByteToSeg(lsn, segno, wal_segment_size);
	if (segno <= XLogGetLastRemovedSegno())
		give_up(psprintf("The store needs WAL from %X/%X on, which has been removed.", LSN_FORMAT_ARGS(lsn)));
	if (lsn < acknowledged)
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the page store has lost WAL that it had acknowledged, sending it again"),
				 errdetail("It acknowledged WAL up to %X/%X, and now has it up to %X/%X.",
						   LSN_FORMAT_ARGS(acknowledged), LSN_FORMAT_ARGS(lsn))));

	if (outage_since != 0)
		ereport(LOG,
				(errmsg("streaming WAL to the page store again, from %X/%X, after %ld ms", LSN_FORMAT_ARGS(lsn),
						TimestampDifferenceMilliseconds(outage_since, GetCurrentTimestamp()))));
	else
		ereport(LOG,
				(errmsg("streaming WAL to the page store from %X/%X", LSN_FORMAT_ARGS(lsn))));
	outage_since = 0;
	streaming_since = GetCurrentTimestamp();
	set_connected(true, NULL);
	pg_atomic_write_u64(&wal_progress->sent, sent);

	/*
	 * Not CATCHUP first: while that lasts, SyncRepReleaseWaiters() would
	 * release nobody.
	 */
	SpinLockAcquire(&MyWalSnd->mutex);
	MyWalSnd->sentPtr = sent;
	MyWalSnd->state = WALSNDSTATE_STREAMING;
	SpinLockRelease(&MyWalSnd->mutex);
	set_ps_display("streaming");
}

/*
 * A reply of the store.
 * Returns what is wrong with it, or NULL.
 */
static const char *
process_reply(const char *message, int len)
{
	PsWalStatus status;
	XLogRecPtr	flushed;
	XLogRecPtr	applied;
	const char *problem = ps_wire_get_status(message, len, &status);

	if (problem != NULL)
		return problem;
	flushed = status.flushed;
	applied = status.applied;
	last_reply = GetCurrentTimestamp();

	if (sent == InvalidXLogRecPtr)
	{
		if (flushed == InvalidXLogRecPtr)
			return "the store did not say from where on it needs WAL";
		begin_at(flushed);
		confirmed = flushed;
	}
	if (flushed > sent && may_be_padding(sent, flushed))
	{
		flushed = sent;
		applied = Min(applied, sent);
	}
	if (status.written > sent || flushed > sent || applied > sent)
		return "the store acknowledged WAL that was not sent to it";
	if (flushed < confirmed)
		return "the store took back an acknowledgement";
	if (status.reply_wanted && !send_keepalive(false))
		return "could not send";

	confirmed = flushed;
	SpinLockAcquire(&MyWalSnd->mutex);
	MyWalSnd->write = Max(status.written, flushed);
	MyWalSnd->flush = flushed;
	MyWalSnd->apply = applied;
	MyWalSnd->replyTime = (TimestampTz) status.time;
	SpinLockRelease(&MyWalSnd->mutex);
	SyncRepReleaseWaiters();
	advance_slot(flushed);

	if (applied > pg_atomic_read_u64(&wal_progress->ingested))
		pg_atomic_write_u64(&wal_progress->ingested, applied);
	if (flushed > pg_atomic_read_u64(&wal_progress->flushed))
	{
		pg_atomic_write_u64(&wal_progress->flushed, flushed);
		ConditionVariableBroadcast(&wal_progress->acknowledged);
	}
	return NULL;
}

/*
 * Streams until the connection is lost.  Returns why, and the store's
 * SQLSTATE.
 */
static char *
stream(char sqlstate[6])
{
	sent = InvalidXLogRecPtr;
	last_reply = last_keepalive = GetCurrentTimestamp();
	strlcpy(sqlstate, PS_SQLSTATE_PROTOCOL, 6);

	for (;;)
	{
		const char *wrong = NULL;
		char	   *message;
		int			len = 0;
		int			unsent;
		bool		more = false;
		long		silence;

		housekeeping();

		if (!PQconsumeInput(conn->pg))
			return store_conn_error(conn, sqlstate);
		while (wrong == NULL && (len = PQgetCopyData(conn->pg, &message, 1)) > 0)
		{
			wrong = process_reply(message, len);
			PQfreemem(message);
		}
		if (wrong != NULL)
			return pstrdup(wrong);
		if (len < 0)
			return store_conn_error(conn, sqlstate);
		exit_if_stopping();		/* the reply may be the one waited for */

		/* The next chunk only when the last one is with the kernel: that bounds memory. */
		unsent = PQflush(conn->pg);
		if (unsent == 0 && sent != InvalidXLogRecPtr)
		{
			if (!send_wal(&more))
				return store_conn_error(conn, sqlstate);
			unsent = PQflush(conn->pg);
		}
		if (unsent < 0)
			return store_conn_error(conn, sqlstate);

		silence = TimestampDifferenceMilliseconds(last_reply, GetCurrentTimestamp());
		if (wal_sender_timeout > 0 && silence >= wal_sender_timeout)
			return psprintf("no message from the store for %ld ms", silence);
		if (silence >= KEEPALIVE_MS && sent != InvalidXLogRecPtr &&
			TimestampDifferenceExceeds(last_keepalive, GetCurrentTimestamp(), KEEPALIVE_MS))
		{
			if (!send_keepalive(true) || (unsent = PQflush(conn->pg)) < 0)
				return store_conn_error(conn, sqlstate);
		}
		if (more && unsent == 0)
			continue;
		store_conn_wait(conn, unsent > 0,
						limit_wait(wal_sender_timeout > 0 ? Min(KEEPALIVE_MS, wal_sender_timeout) : KEEPALIVE_MS),
						WAIT_EVENT_WAL_SENDER_MAIN);
	}
}

/* Waits before the next attempt to connect; wake-ups because of new WAL do not shorten it. */
static void
wait_for_retry(int delay_ms)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay_ms);

	for (;;)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

		housekeeping();
		if (left <= 0)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, limit_wait(left),
						 WAIT_EVENT_WAL_SENDER_MAIN);
		ResetLatch(MyLatch);
	}
}

void
wal_worker_main(Datum arg)
{
	char		command[128];
	char		logged_error[256] = "";
	int			delay_ms = FIRST_RETRY_MS;
	MemoryContext context;
	struct sigaction on_sigterm = {.sa_sigaction = handle_sigterm, .sa_flags = SA_SIGINFO | SA_RESTART};

	pg_atomic_write_u64(&wal_progress->stopping_since, 0);
	sigemptyset(&on_sigterm.sa_mask);
	sigaction(SIGTERM, &on_sigterm, NULL);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, SIG_IGN);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	SetConfigOption("application_name", STANDBY_NAME, PGC_USERSET, PGC_S_SESSION);
	pgstat_report_activity(STATE_RUNNING, "streaming WAL to the page store");

	/*
	 * Takes one of max_wal_senders WalSnd slots.  One is free: hooks.c refuses
	 * the walsender that would leave none.
	 */
	am_walsender = true;
	InitWalSender();

	/*
	 * What SyncRepInitConfig() finds out by comparing names; see settings.c
	 * for why no name can match.
	 */
	SpinLockAcquire(&MyWalSnd->mutex);
	MyWalSnd->sync_standby_priority = 1;
	SpinLockRelease(&MyWalSnd->mutex);

	on_shmem_exit(at_exit, 0);
	SpinLockAcquire(&wal_progress->mutex);
	wal_progress->pid = MyProcPid;
	SpinLockRelease(&wal_progress->mutex);

	acquire_slot();
	MemoryContextSwitchTo(TopMemoryContext);
	reader = XLogReaderAllocate(wal_segment_size, NULL,
								XL_ROUTINE(.segment_open = open_segment, .segment_close = wal_segment_close), NULL);
	wal_message = palloc(WAL_HEADER_SIZE + MAX_CHUNK);
	snprintf(command, sizeof(command), "wal_push %s %s %llu",
			 ps_tenant, ps_timeline, (unsigned long long) ps_generation);

	context = AllocSetContextCreate(TopMemoryContext, "WAL worker", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		char	   *error;
		char		sqlstate[6];

		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
		housekeeping();
		set_ps_display("connecting");
		conn = store_conn_open(command, STANDBY_NAME,
							   stop_lsn == InvalidXLogRecPtr ? CONNECT_TIMEOUT_MS : limit_wait(CONNECT_TIMEOUT_MS),
							   WAIT_EVENT_WAL_SENDER_MAIN, &error, sqlstate);
		if (conn != NULL)
		{
			error = stream(sqlstate);
			store_conn_close(conn);
			conn = NULL;
			set_walsnd_state(WALSNDSTATE_STARTUP);
			/* a store that goes wrong at once each time is not to be asked in a hurry */
			if (sent != InvalidXLogRecPtr &&
				TimestampDifferenceExceeds(streaming_since, GetCurrentTimestamp(), ps_connect_retry))
				delay_ms = FIRST_RETRY_MS;
		}
		set_connected(false, error);
		set_ps_display("waiting for the store");
		if (strcmp(sqlstate, PS_SQLSTATE_SUPERSEDED) == 0)
			store_conn_superseded(error);

		/* Once for an outage, and when the reason changes. */
		if (outage_since == 0 || strcmp(logged_error, error) != 0)
			ereport(LOG,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("cannot stream WAL to the page store, trying again: %s", error),
					 errdetail("Until then commits wait.")));
		strlcpy(logged_error, error, sizeof(logged_error));
		if (outage_since == 0)
			outage_since = GetCurrentTimestamp();
		wait_for_retry(delay_ms);
		delay_ms = Min(delay_ms * 2, ps_connect_retry);
	}
}
