/*
 * running.c
 *	  Which transactions run now, and to which of them a transaction ID belongs.
 *
 * keep.c asks, in whatever process writes a buffer.  TransactionIdIsInProgress()
 * does not work in processes that are not in the procarray: their pgxactoff is
 * 0, so that an entry is skipped, and they have no RecentXmin.  So this looks
 * into the PGPROCs itself, under the lock that a transaction must hold
 * exclusively to end.
 *
 * A process remembers for a moment what it has seen.  A transaction that was
 * not running then, and had its ID, is over for good, so what is remembered
 * only gets too old, never wrong: see next_xid.  Prepared transactions do not
 * run: no command of theirs will follow.
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

/* How old, in microseconds, a process's idea of what runs may get. */
#define MAX_AGE      10000
#define MAX_HELD_AGE 1000000

typedef struct RunningXid
{
	TransactionId xid; /* of a transaction or subtransaction */
	TransactionId top; /* of the transaction that it is part of */
} RunningXid;

static struct
{
	TimestampTz taken_at;
	int64 max_age;
	TransactionId next_xid; /* what runs and came before is here */
	TransactionId *tops;
	int ntops;
	RunningXid *xids; /* top-level ones included, sorted by xid as a number */
	int nxids;

	/* The oldest transaction with subtransactions that do not fit into its PGPROC, and so are not here; or invalid. */
	TransactionId overflowed;
} seen;

/*
 * From shmem_startup_hook: room for all that can run, so that none has to be
 * found later, where nothing may fail.  What is not used takes no memory.
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
 * Looks at all backends.  GetNewTransactionId() puts a new ID into the PGPROC
 * before it releases XidGenLock, so that after next_xid was read under that
 * lock none before it can be missed.
 */
static void
look(void)
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

/* Makes sure that what was seen is not old, and tells of xid. */
static void
look_if_needed(TransactionId xid)
{
	TimestampTz now;

	if (seen.taken_at != 0 && TransactionIdPrecedes(xid, seen.next_xid))
	{
		now = GetCurrentTimestamp();
		if (now >= seen.taken_at && now - seen.taken_at <= seen.max_age)
			return;
	}
	look();
}

void
running_look_again(void)
{
	seen.taken_at = 0;
}

void
running_hold(bool hold)
{
	if (hold)
		look();
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

	look_if_needed(xid);
	if (xid == last_xid && last_seen == seen.taken_at)
		return last_top;
	last_xid = xid;
	last_top = InvalidTransactionId;
	last_seen = 0;

	/*
	 * A subtransaction that is not here has, in pg_subtrans, a way to the
	 * transaction whose subtransactions did not fit.  What came before that
	 * transaction is not of it, and may not be in pg_subtrans any more.
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

	look_if_needed(newest);
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

	look_if_needed(newest);
	for (int i = 0; i < seen.ntops; i++)
		n += seen.tops[i] - oldest <= newest - oldest;
	return n;
}

bool
running_all(TransactionId *oldest, TransactionId *newest)
{
	look();
	for (int i = 0; i < seen.ntops; i++)
	{
		if (i == 0 || TransactionIdPrecedes(seen.tops[i], *oldest))
			*oldest = seen.tops[i];
		if (i == 0 || TransactionIdFollows(seen.tops[i], *newest))
			*newest = seen.tops[i];
	}
	return seen.ntops > 0;
}
