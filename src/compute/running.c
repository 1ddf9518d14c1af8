/*
 * running.c
 *	  Finds out which transactions are running, and to which of them a
 *	  transaction ID belongs.
 *
 * keep_reasons.c asks, in whatever process writes a buffer.  TransactionIdIsInProgress()
 * does not work in processes that are not in the procarray: their pgxactoff is 0,
 * so that an entry is skipped, and they have no RecentXmin.  So this examines the
 * PGPROCs itself, with the lock that a transaction must hold exclusively to end.
 *
 * A process remembers what it has seen for a short time.  A transaction that had an
 * ID then and was not running has ended for good, so this can become outdated, but
 * not wrong (see next_xid).  Prepared transactions do not count as running, because
 * they execute no more commands.
 */
#include "postgres.h"

#include "access/subtrans.h"
#include "access/transam.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "running.h"

/* Age in microseconds up to which a process uses what it has seen. */
#define MAX_AGE      10000
#define MAX_HELD_AGE 1000000

typedef struct RunningXid
{
	TransactionId xid; /* ID of a transaction or subtransaction */
	TransactionId top; /* the top-level transaction that it belongs to */
} RunningXid;

static struct
{
	TimestampTz taken_at;
	int64 max_age;
	TransactionId next_xid; /* all running transactions with smaller IDs are included */
	TransactionId *tops;
	int ntops;
	RunningXid *xids; /* including top-level ones; sorted by xid as an unsigned number */
	int nxids;

	/*
	 * The oldest transaction that has more subtransactions than fit into its
	 * PGPROC, so that they are not all included; invalid: there is none.
	 */
	TransactionId overflowed;
} seen;

/*
 * Allocates room for all transactions that can run, so that no memory has to be
 * allocated later, where an error must not occur.  Unused pages take no memory.
 */
void
running_startup_shmem(void)
{
	seen.max_age = MAX_AGE;
	seen.tops = MemoryContextAlloc(TopMemoryContext, mul_size(MaxBackends, sizeof(TransactionId)));
	seen.xids = MemoryContextAllocHuge(TopMemoryContext, mul_size(mul_size(MaxBackends, PGPROC_MAX_CACHED_SUBXIDS + 1),
																  sizeof(RunningXid)));
}

static int
compare_xids(const void *a, const void *b)
{
	TransactionId x = ((const RunningXid *) a)->xid;
	TransactionId y = ((const RunningXid *) b)->xid;

	return (x > y) - (x < y);
}

static void
add_xid(TransactionId xid, TransactionId top)
{
	seen.xids[seen.nxids].xid = xid;
	seen.xids[seen.nxids++].top = top;
}

/*
 * Examines all PGPROCs.  GetNewTransactionId() stores a new ID in the PGPROC
 * before it releases XidGenLock; next_xid is read with that lock, so no
 * transaction before it can be missed.
 */
static void
examine_procs(void)
{
	seen.next_xid = ReadNextTransactionId();
	seen.ntops = seen.nxids = 0;
	seen.overflowed = InvalidTransactionId;

	LWLockAcquire(ProcArrayLock, LW_SHARED);
	for (int i = 0; i < MaxBackends; i++)
	{
		PGPROC *proc = &ProcGlobal->allProcs[i];
		TransactionId top = *(volatile TransactionId *) &proc->xid;
		int nsubxids;

		if (!TransactionIdIsValid(top))
			continue;
		seen.tops[seen.ntops++] = top;
		add_xid(top, top);
		nsubxids = proc->subxidStatus.count;
		pg_read_barrier();
		for (int j = 0; j < nsubxids; j++)
			add_xid(proc->subxids.xids[j], top);
		if (proc->subxidStatus.overflowed &&
			(!TransactionIdIsValid(seen.overflowed) || TransactionIdPrecedes(top, seen.overflowed)))
			seen.overflowed = top;
	}
	LWLockRelease(ProcArrayLock);

	qsort(seen.xids, seen.nxids, sizeof(RunningXid), compare_xids);
	seen.taken_at = GetCurrentTimestamp();
}

/* Makes sure that what was seen is recent, and covers xid. */
static void
refresh_if_needed(TransactionId xid)
{
	TimestampTz now;

	if (seen.taken_at != 0 && TransactionIdPrecedes(xid, seen.next_xid))
	{
		now = GetCurrentTimestamp();
		if (now >= seen.taken_at && now - seen.taken_at <= seen.max_age)
			return;
	}
	examine_procs();
}

void
running_refresh(void)
{
	seen.taken_at = 0;
}

void
running_hold(bool hold)
{
	if (hold)
		examine_procs();
	seen.max_age = hold ? MAX_HELD_AGE : MAX_AGE;
}

static RunningXid *
find_xid(TransactionId xid)
{
	RunningXid key = {.xid = xid};

	return bsearch(&key, seen.xids, seen.nxids, sizeof(RunningXid), compare_xids);
}

TransactionId
running_top(TransactionId xid)
{
	static TransactionId last_xid; /* all tuples of a page often have the same */
	static TransactionId last_top;
	static TimestampTz last_seen;
	RunningXid *found;

	refresh_if_needed(xid);
	if (xid == last_xid && last_seen == seen.taken_at)
		return last_top;
	last_xid = xid;
	last_top = InvalidTransactionId;
	last_seen = 0;

	/*
	 * A subtransaction that is not included has a path in pg_subtrans to its
	 * transaction, whose subtransactions did not fit.  IDs before that
	 * transaction do not belong to it, and may have been removed from
	 * pg_subtrans.
	 */
	found = find_xid(xid);
	while (found == NULL && TransactionIdIsValid(seen.overflowed) && TransactionIdIsNormal(xid) &&
		   TransactionIdFollows(xid, seen.overflowed))
	{
		xid = SubTransGetParent(xid);
		found = find_xid(xid);
	}
	if (found != NULL)
		last_top = found->top;
	last_seen = seen.taken_at;
	return last_top;
}

bool
running_in_range(TransactionId oldest, TransactionId newest)
{
	return TransactionIdIsValid(running_oldest_in_range(oldest, newest));
}

TransactionId
running_oldest_in_range(TransactionId oldest, TransactionId newest)
{
	TransactionId found = InvalidTransactionId;

	refresh_if_needed(newest);
	for (int i = 0; i < seen.ntops; i++)
		if (seen.tops[i] - oldest <= newest - oldest &&
			(!TransactionIdIsValid(found) || seen.tops[i] - oldest < found - oldest))
			found = seen.tops[i];
	return found;
}

int
running_count_in_range(TransactionId oldest, TransactionId newest)
{
	int n = 0;

	refresh_if_needed(newest);
	for (int i = 0; i < seen.ntops; i++)
		n += seen.tops[i] - oldest <= newest - oldest;
	return n;
}

bool
running_all(TransactionId *oldest, TransactionId *newest)
{
	examine_procs();
	for (int i = 0; i < seen.ntops; i++)
	{
		if (i == 0 || TransactionIdPrecedes(seen.tops[i], *oldest))
			*oldest = seen.tops[i];
		if (i == 0 || TransactionIdFollows(seen.tops[i], *newest))
			*newest = seen.tops[i];
	}
	return seen.ntops > 0;
}
