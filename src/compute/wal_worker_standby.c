/*
 * wal_worker_standby.c
 *	  What the rest of the server takes the WAL worker for: a walsender with a
 *	  synchronous standby behind it, and a slot that keeps WAL for it.
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

static XLogSegNo required_segno; /* that the slot was last counted with */

/*
 * The slot that keeps WAL which the store does not have.  Its position is only
 * ever set from what the store says, never the other way round.
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
	 * Takes one of max_wal_senders WalSnd slots.  One is free: replication.c refuses
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

	acquire_slot();
}

/* As PhysicalConfirmReceivedLocation(); but WAL goes by segments, so counts by segments. */
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
	/*
	 * Not CATCHUP first: while that lasts, SyncRepReleaseWaiters() would
	 * release nobody.
	 */
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
	standby_advance_slot(flushed, false);
}

/* As WalSndSetState(). */
void
standby_disconnected(void)
{
	SpinLockAcquire(&MyWalSnd->mutex);
	MyWalSnd->state = WALSNDSTATE_STARTUP;
	SpinLockRelease(&MyWalSnd->mutex);
}
