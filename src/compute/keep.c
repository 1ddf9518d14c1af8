/*
 * keep.c
 *	  Which pages must stay in the local page cache, because the store, which
 *	  makes pages from WAL, could not give back what was written.
 *
 * README.md says for every resource manager what redo does not restore and
 * why it is, or is not, looked at here.
 *
 * This runs in whatever process writes a buffer, the checkpointer and the
 * background writer included, with a share lock on the buffer at most.  So
 * only the page itself is looked at: TransactionIdIsInProgress() and
 * GetMultiXactIdMembers() do not work in processes that are not in the
 * procarray.  Which transactions are still open is found out when a page's
 * place is wanted (page_keep_holds()).
 */
#include "postgres.h"

#include "access/gist.h"
#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/nbtree.h"
#include "access/transam.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "ps_smgr.h"

/* SEQ_MAGIC of commands/sequence.c: the first word of a sequence page's special space. */
#define SEQUENCE_MAGIC 0x1717

/* How old, in microseconds, a process's idea of the oldest running transaction may get. */
#define HORIZON_AGE 10000

/* This process's idea of what is still running; what it says only gets too old, never wrong. */
static struct
{
	TimestampTz computed_at;
	TransactionId oldest_xid;
	MultiXactId oldest_multi;
}			horizon;

/* BTVacInfo of access/nbtree/nbtutils.c: the VACUUMs that scan a btree now; BtreeVacuumLock protects it. */
typedef struct BtreeVacuums
{
	BTCycleId	cycle_ctr;
	int			num_vacuums;
	int			max_vacuums;
	struct
	{
		LockRelId	relid;
		BTCycleId	cycleid;
	}			vacuums[FLEXIBLE_ARRAY_MEMBER];
} BtreeVacuums;

static BtreeVacuums *btree_vacuums;

void
page_keep_startup_shmem(void)
{
	bool		found;

	btree_vacuums = ShmemInitStruct("BTree Vacuum State", BTreeShmemSize(), &found);
	if (!found)
		elog(FATAL, "btree vacuum state is not in shared memory");
}

/* ---- what a page says ---- */

static void
note_xid(PageKeep *keep, TransactionId xid)
{
	keep->reasons |= KEEP_OPEN_XACT;
	if (!TransactionIdIsValid(keep->newest_xid) || TransactionIdFollows(xid, keep->newest_xid))
		keep->newest_xid = xid;
}

static void
note_multi(PageKeep *keep, MultiXactId multi)
{
	keep->reasons |= KEEP_OPEN_XACT;
	if (!MultiXactIdIsValid(keep->newest_multi) || MultiXactIdPrecedes(keep->newest_multi, multi))
		keep->newest_multi = multi;
}

/*
 * Heap redo sets the command ID to FirstCommandId and clears HEAP_COMBOCID
 * (heap_xlog_insert() and others), and forgets speculative tokens.  Both mean
 * something only to a transaction that is still open; a tuple whose command ID
 * is FirstCommandId anyway is restored as it was.
 */
static void
heap_tuple_reasons(HeapTupleHeader tup, PageKeep *keep)
{
	TransactionId xid = HeapTupleHeaderGetRawXmin(tup);

	if (tup->t_infomask & HEAP_MOVED)
		return;					/* the field holds t_xvac */

	if (!HeapTupleHeaderIsSpeculative(tup) && !(tup->t_infomask & HEAP_COMBOCID) &&
		HeapTupleHeaderGetRawCommandId(tup) == FirstCommandId)
		return;

	if (TransactionIdIsNormal(xid) && !(tup->t_infomask & (HEAP_XMIN_COMMITTED | HEAP_XMIN_INVALID)))
		note_xid(keep, xid);

	/* cmax means nothing if xmax only locks (heap_lock_tuple()) */
	if ((tup->t_infomask & (HEAP_XMAX_INVALID | HEAP_XMAX_COMMITTED)) ||
		HEAP_XMAX_IS_LOCKED_ONLY(tup->t_infomask))
		return;
	xid = HeapTupleHeaderGetRawXmax(tup);
	if (tup->t_infomask & HEAP_XMAX_IS_MULTI)
		note_multi(keep, xid);
	else if (TransactionIdIsNormal(xid))
		note_xid(keep, xid);
}

static void
heap_page_reasons(const char *page, PageKeep *keep)
{
	OffsetNumber max = PageGetMaxOffsetNumber((Page) page);

	for (OffsetNumber off = FirstOffsetNumber; off <= max; off++)
	{
		ItemId		id = PageGetItemId((Page) page, off);

		if (ItemIdIsNormal(id) && ItemIdGetLength(id) >= SizeofHeapTupleHeader &&
			ItemIdGetOffset(id) + ItemIdGetLength(id) <= BLCKSZ)
			heap_tuple_reasons((HeapTupleHeader) PageGetItem((Page) page, id), keep);
	}
}

bool
is_sequence_page(const char *page)
{
	PageHeader	header = (PageHeader) page;

	return BLCKSZ - header->pd_special == MAXALIGN(sizeof(uint32)) &&
		*(const uint32 *) (page + header->pd_special) == SEQUENCE_MAGIC;
}

void
page_keep_reasons(ForkNumber fork, BlockNumber blk, const char *page, PageKeep *keep)
{
	PageHeader	header = (PageHeader) page;
	XLogRecPtr	lsn = PageGetLSN((Page) page);
	const char *special;
	int			special_size;

	memset(keep, 0, sizeof(*keep));
	if (PageIsNew((Page) page) || header->pd_special > BLCKSZ)
		return;

	if (fork == VISIBILITYMAP_FORKNUM)
		keep->reasons = KEEP_COMPUTE_LIFE;
	if (fork != MAIN_FORKNUM)
		return;

	special_size = BLCKSZ - header->pd_special;
	special = page + header->pd_special;

	/*
	 * Index builds write pages before they log them, with LSN 0, GiST with 1.
	 * An empty heap page is what a page of zeros is initialized to anyway.
	 */
	if (lsn <= GistBuildLSN && (special_size > 0 || PageGetMaxOffsetNumber((Page) page) > 0))
		keep->reasons |= KEEP_NO_LSN;

	if (special_size == 0)
		heap_page_reasons(page, keep);
	else if (special_size == MAXALIGN(sizeof(BTPageOpaqueData)))
	{
		/* greater values are page IDs of other access methods */
		uint16		cycleid = ((BTPageOpaque) special)->btpo_cycleid;

		if (cycleid != 0 && cycleid <= MAX_BT_CYCLE_ID)
		{
			keep->reasons |= KEEP_BTREE_CYCLE;
			keep->btree_cycleid = cycleid;
		}
	}
	else if (blk == 0 && is_sequence_page(page))
		keep->reasons |= KEEP_COMPUTE_LIFE;
}

/* ---- what holds now ---- */

/* Does a VACUUM run that looks for this cycle ID?  Not cached: one may start at any time. */
static bool
btree_cycle_is_active(uint16 cycleid)
{
	bool		active = false;

	LWLockAcquire(BtreeVacuumLock, LW_SHARED);
	if (cycleid == KEEP_ANY_CYCLE)
		active = btree_vacuums->num_vacuums > 0;
	for (int i = 0; i < btree_vacuums->num_vacuums && !active; i++)
		active = btree_vacuums->vacuums[i].cycleid == cycleid;
	LWLockRelease(BtreeVacuumLock);
	return active;
}

static bool
transactions_may_be_open(const PageKeep *keep)
{
	TimestampTz now = GetCurrentTimestamp();

	if (now - horizon.computed_at > HORIZON_AGE || now < horizon.computed_at)
	{
		/* both only read shared memory, and are fit for auxiliary processes */
		horizon.oldest_xid = GetOldestActiveTransactionId();
		horizon.oldest_multi = GetOldestMultiXactId();
		horizon.computed_at = now;
	}
	return (TransactionIdIsValid(keep->newest_xid) &&
			!TransactionIdPrecedes(keep->newest_xid, horizon.oldest_xid)) ||
		(MultiXactIdIsValid(keep->newest_multi) &&
		 !MultiXactIdPrecedes(keep->newest_multi, horizon.oldest_multi));
}

bool
page_keep_holds(const PageKeep *keep)
{
	if (keep->reasons == 0)
		return false;
	if (keep->reasons & KEEP_UNTIL_WRITTEN)
		return true;
	return ((keep->reasons & KEEP_OPEN_XACT) && transactions_may_be_open(keep)) ||
		((keep->reasons & KEEP_BTREE_CYCLE) && btree_cycle_is_active(keep->btree_cycleid));
}

void
page_keep_look_again(void)
{
	horizon.computed_at = 0;
}

void
page_keep_merge(PageKeep *sum, const PageKeep *keep)
{
	if (keep->reasons & KEEP_BTREE_CYCLE)
	{
		if ((sum->reasons & KEEP_BTREE_CYCLE) && sum->btree_cycleid != keep->btree_cycleid)
			sum->btree_cycleid = KEEP_ANY_CYCLE;
		else
			sum->btree_cycleid = keep->btree_cycleid;
	}
	if (TransactionIdIsValid(keep->newest_xid))
		note_xid(sum, keep->newest_xid);
	if (MultiXactIdIsValid(keep->newest_multi))
		note_multi(sum, keep->newest_multi);
	sum->reasons |= keep->reasons;
}
