/*
 * wal_worker_standby.c
 *	  Makes the WAL worker look like a walsender with a synchronous standby to
 *	  the rest of the server, with a slot that retains WAL for it.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "replication/slot.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/spin.h"

#include "pg_compat.h"
#include "wal_worker_impl.h"

static XLogSegNo required_segno; /* segment of the slot's position when it was last considered */

/*
 * The slot retains WAL that the store does not have.  Its position is set from
 * what the store reports, and never used in the other direction.
 */
static void
acquire_slot(void)
{
	if (SearchNamedReplicationSlot(STANDBY_NAME, true) != NULL)
		compat_acquire_slot(STANDBY_NAME);
	else
	{
		compat_create_slot(STANDBY_NAME);
		ReplicationSlotReserveWal();
		ReplicationSlotMarkDirty();
		ReplicationSlotSave();
	}
}

void
standby_init(void)
{
	/*
	 * Uses one of max_wal_senders WalSnd slots.  One is free, because
	 * replication.c refuses the walsender that would use the last one.
	 */
	am_walsender = true;
	InitWalSender();

	/*
	 * SyncRepInitConfig() would compute the priority from the application_name,
	 * but no name can match (overrides.h).
	 */
	SpinLockAcquire(&MyWalSnd->mutex);
	MyWalSnd->sync_standby_priority = 1;
	SpinLockRelease(&MyWalSnd->mutex);

	acquire_slot();
}

/*
 * Like PhysicalConfirmReceivedLocation().  WAL is removed in segments, so the
 * required LSN is recomputed only when the segment changes.
 */
void
standby_advance_slot(XLogRecPtr lsn, bool first)
{
	XLogSegNo segno;

	SpinLockAcquire(&MyReplicationSlot->mutex);
	MyReplicationSlot->data.restart_lsn = lsn;
	SpinLockRelease(&MyReplicationSlot->mutex);

	XLByteToSeg(lsn, segno, wal_segment_size);
	if (first || segno != required_segno)
	{
		required_segno = segno;
		ReplicationSlotMarkDirty();
		ReplicationSlotsComputeRequiredLSN();
	}
}

void
standby_streaming(XLogRecPtr sent)
{
	/* WALSNDSTATE_CATCHUP is skipped: in that state SyncRepReleaseWaiters() releases no commit. */
	SpinLockAcquire(&MyWalSnd->mutex);
	MyWalSnd->sentPtr = sent;
	MyWalSnd->state = WALSNDSTATE_STREAMING;
	SpinLockRelease(&MyWalSnd->mutex);
}

void
standby_sent(XLogRecPtr sent)
{
	SpinLockAcquire(&MyWalSnd->mutex);
	MyWalSnd->sentPtr = sent;
	SpinLockRelease(&MyWalSnd->mutex);
}

void
standby_acknowledged(XLogRecPtr written, XLogRecPtr flushed, XLogRecPtr applied, TimestampTz time)
{
	SpinLockAcquire(&MyWalSnd->mutex);
	MyWalSnd->write = Max(written, flushed);
	MyWalSnd->flush = flushed;
	MyWalSnd->apply = applied;
	MyWalSnd->replyTime = time;
	SpinLockRelease(&MyWalSnd->mutex);
	SyncRepReleaseWaiters();
}

/* Like WalSndSetState(). */
void
standby_disconnected(void)
{
	SpinLockAcquire(&MyWalSnd->mutex);
	MyWalSnd->state = WALSNDSTATE_STARTUP;
	SpinLockRelease(&MyWalSnd->mutex);
}
