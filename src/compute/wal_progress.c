/*
 * wal_progress.c
 *	  The state of the WAL worker in shared memory: how far the store has WAL,
 *	  and what other processes wait for because of that.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "interrupts.h"
#include "lsn_cache.h"
#include "pg_compat.h"
#include "settings.h"
#include "wal_progress_impl.h"

#define HELD_SLEEP_MS       100  /* longest sleep of a writer that holds locks */
#define IN_DOUBT_WARNING_MS 1000 /* duration of a wait after which the client is told the reason */

/* How long a reason that a reader has reported remains valid. */
#define READERS_TELL_MS 10000

WalProgress *wal_progress;

void
wal_progress_request_shmem(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(WalProgress)));
}

void
wal_progress_startup_shmem(void)
{
	bool found;

	wal_progress = ShmemInitStruct("pageserver_smgr WAL worker", sizeof(WalProgress), &found);
	if (found)
		return;
	memset(wal_progress, 0, sizeof(*wal_progress));
	SpinLockInit(&wal_progress->mutex);
	strlcpy(wal_progress->store, ps_store, sizeof(wal_progress->store));
	pg_atomic_init_u32(&wal_progress->store_version, 1);
	pg_atomic_init_u32(&wal_progress->store_host, 0);
	pg_atomic_init_u64(&wal_progress->sent, 0);
	pg_atomic_init_u64(&wal_progress->flushed, 0);
	pg_atomic_init_u64(&wal_progress->ingested, 0);
	ConditionVariableInit(&wal_progress->acknowledged);
	pg_atomic_init_u64(&wal_progress->in_doubt, 0);
	pg_atomic_init_u64(&wal_progress->stopping_since, 0);
	pg_atomic_init_u64(&wal_progress->stopped_at, 0);
}

void
wal_progress_set_connected(bool connected, const char *error)
{
	SpinLockAcquire(&wal_progress->mutex);
	wal_progress->connected = connected;
	wal_progress->connected_since = connected ? GetCurrentTimestamp() : 0;
	if (error != NULL)
		strlcpy(wal_progress->last_error, error, sizeof(wal_progress->last_error));
	SpinLockRelease(&wal_progress->mutex);
}

void
wal_progress_set_error(const char *error)
{
	SpinLockAcquire(&wal_progress->mutex);
	strlcpy(wal_progress->last_error, error, sizeof(wal_progress->last_error));
	SpinLockRelease(&wal_progress->mutex);
}

TimestampTz
wal_progress_set_waits(const char *waits_for, TimestampTz since)
{
	TimestampTz before;
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&wal_progress->mutex);
	before = wal_progress->waits_for[0] != '\0' ? wal_progress->waits_since : 0;
	strlcpy(wal_progress->waits_for, waits_for, sizeof(wal_progress->waits_for));
	if (before == 0)
		wal_progress->waits_since = since != 0 ? since : now;
	SpinLockRelease(&wal_progress->mutex);
	return before;
}

void
wal_progress_reader_waits(const char *error)
{
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&wal_progress->mutex);
	if (wal_progress->connected)
	{
		if (TimestampDifferenceExceeds(wal_progress->readers_seen, now, READERS_TELL_MS))
			wal_progress->readers_since = now;
		wal_progress->readers_seen = now;
		strlcpy(wal_progress->readers_wait_for, error, sizeof(wal_progress->readers_wait_for));
	}
	SpinLockRelease(&wal_progress->mutex);
}

void
wal_progress_publish_store(void)
{
	SpinLockAcquire(&wal_progress->mutex);
	if (strcmp(wal_progress->store, ps_store) != 0)
	{
		strlcpy(wal_progress->store, ps_store, sizeof(wal_progress->store));
		pg_atomic_fetch_add_u32(&wal_progress->store_version, 1);
	}
	SpinLockRelease(&wal_progress->mutex);
}

uint32
wal_progress_store(char *address)
{
	uint32 version;

	SpinLockAcquire(&wal_progress->mutex);
	memcpy(address, wal_progress->store, STORE_ADDRESS_MAX);
	version = pg_atomic_read_u32(&wal_progress->store_version);
	SpinLockRelease(&wal_progress->mutex);
	return version;
}

uint32
wal_progress_store_host(void)
{
	return pg_atomic_read_u32(&wal_progress->store_host);
}

void
wal_progress_set_store_host(uint32 host)
{
	if (pg_atomic_read_u32(&wal_progress->store_host) != host)
		pg_atomic_write_u32(&wal_progress->store_host, host);
}

uint32
wal_progress_store_version(void)
{
	return pg_atomic_read_u32(&wal_progress->store_version);
}

bool
wal_progress_store_changed(uint32 version)
{
	return pg_atomic_read_u32(&wal_progress->store_version) != version;
}

void
wal_progress_set_served(uint32 version)
{
	SpinLockAcquire(&wal_progress->mutex);
	wal_progress->store_served = version;
	SpinLockRelease(&wal_progress->mutex);
}

bool
wal_progress_is_served(uint32 version)
{
	bool result;

	SpinLockAcquire(&wal_progress->mutex);
	result = wal_progress->store_served == 0 || wal_progress->store_served == version;
	SpinLockRelease(&wal_progress->mutex);
	return result;
}

void
wal_progress_state(WalWorkerState *state)
{
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&wal_progress->mutex);
	state->pid = wal_progress->pid;
	state->connected = wal_progress->connected;
	state->connected_since = wal_progress->connected_since;
	memcpy(state->last_error, wal_progress->last_error, sizeof(state->last_error));
	memcpy(state->waits_for, wal_progress->waits_for, sizeof(state->waits_for));
	state->waits_since = wal_progress->waits_since;
	if (state->waits_for[0] == '\0' && wal_progress->readers_seen != 0 &&
		!TimestampDifferenceExceeds(wal_progress->readers_seen, now, READERS_TELL_MS))
	{
		memcpy(state->waits_for, wal_progress->readers_wait_for, sizeof(state->waits_for));
		state->waits_since = wal_progress->readers_since;
	}
	SpinLockRelease(&wal_progress->mutex);
	state->sent = pg_atomic_read_u64(&wal_progress->sent);
	state->flushed = pg_atomic_read_u64(&wal_progress->flushed);
	state->ingested = pg_atomic_read_u64(&wal_progress->ingested);
}

bool
wal_progress_is_connected(void)
{
	bool connected;

	SpinLockAcquire(&wal_progress->mutex);
	connected = wal_progress->connected;
	SpinLockRelease(&wal_progress->mutex);
	return connected;
}

XLogRecPtr
wal_progress_ingested(void)
{
	/* the store started with the WAL that the base backup was made from */
	return Max(pg_atomic_read_u64(&wal_progress->ingested), ps_checkpoint_lsn);
}

bool
wal_progress_shutdown_is_overdue(void)
{
	TimestampTz since = pg_atomic_read_u64(&wal_progress->stopping_since);

	return since != 0 && TimestampDifferenceExceeds(since, GetCurrentTimestamp(), ps_shutdown_timeout);
}

XLogRecPtr
wal_progress_flush_for_read(XLogRecPtr lsn)
{
	lsn = lsn_cache_end_of_wal(lsn);
	if (!RecoveryInProgress())
	{
		XLogFlush(lsn);

		/*
		 * XLogFlush() wakes the worker.  But WAL that was written because its
		 * segment or the WAL buffers were full (XLogWrite() in
		 * AdvanceXLInsertBuffer()) wakes nobody until the process that wrote it
		 * flushes more.
		 */
		if (pg_atomic_read_u64(&wal_progress->sent) < lsn)
			compat_wake_walsenders();
	}
	return lsn;
}

/* Has more WAL than max_wal_lag not been acknowledged yet? */
static bool
lag_is_too_large(void)
{
	XLogRecPtr flushed = pg_atomic_read_u64(&wal_progress->flushed);
	XLogRecPtr inserted = GetInsertRecPtr();

	if (flushed == InvalidXLogRecPtr)
		flushed = ps_checkpoint_lsn;
	return flushed != InvalidXLogRecPtr && inserted > flushed &&
		   inserted - flushed > (uint64) ps_max_wal_lag * 1024 * 1024;
}

/*
 * If the caller can be interrupted, it waits until the lag is small enough.  If
 * it holds locks, for which others may be waiting uninterruptibly, it is only
 * slowed down.
 */
void
wal_progress_backpressure(void)
{
	TimestampTz until = 0;
	bool interruptible = InterruptHoldoffCount == 0;

	if (ps_max_wal_lag == 0 || CritSectionCount > 0 || !IsTransactionState() || proc_exit_inprogress)
		return;
	if (!lag_is_too_large() || wal_progress_shutdown_is_overdue())
		return;
	if (!interruptible)
		until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), HELD_SLEEP_MS);

	ConditionVariablePrepareToSleep(&wal_progress->acknowledged);
	while (lag_is_too_large())
	{
		long left = interruptible ? 1000 : TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

		if (left <= 0 || wal_progress_shutdown_is_overdue())
			break;
		/* only flushed WAL is sent, and it may take long until another process flushes it */
		XLogFlush(GetInsertRecPtr());
		ConditionVariableTimedSleep(&wal_progress->acknowledged, left, WAIT_EVENT_DATA_FILE_EXTEND);
		interrupts_check();
	}
	ConditionVariableCancelSleep();
}

void
wal_progress_note_in_doubt(XLogRecPtr lsn)
{
	uint64 old = pg_atomic_read_u64(&wal_progress->in_doubt);

	while (old < lsn && !pg_atomic_compare_exchange_u64(&wal_progress->in_doubt, &old, lsn))
		;
}

void
wal_progress_wait_for_commits_in_doubt(void)
{
	XLogRecPtr lsn = pg_atomic_read_u64(&wal_progress->in_doubt);
	bool warned = false;

	if (lsn <= pg_atomic_read_u64(&wal_progress->flushed))
		return;
	(void) wal_progress_flush_for_read(lsn);
	ConditionVariablePrepareToSleep(&wal_progress->acknowledged);
	while (pg_atomic_read_u64(&wal_progress->flushed) < lsn)
	{
		if (ConditionVariableTimedSleep(&wal_progress->acknowledged, IN_DOUBT_WARNING_MS, WAIT_EVENT_SYNC_REP) &&
			!warned)
		{
			warned = true;
			ereport(WARNING,
					(errmsg("waiting until the page store has acknowledged commits whose own wait was canceled"),
					 errhint("To see data that may not be durable, execute SET "
							 "pageserver_smgr.wait_for_commits_in_doubt = off.")));
		}
		CHECK_FOR_INTERRUPTS();
	}
	ConditionVariableCancelSleep();
}
