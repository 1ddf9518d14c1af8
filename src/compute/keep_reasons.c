/*
 * keep_reasons.c
 *	  Determines which pages must stay in the local page cache, because the
 *	  store, which makes pages from WAL, could not return them as written.
 *
 * docs/kept-pages.md describes for each resource manager what redo does not restore, and
 * why it is, or is not, considered here.
 *
 * This runs in the process that writes a buffer, which may be the checkpointer or
 * the background writer, with at least a share lock on the buffer.  When a page is
 * written, the transactions on it that are running are noted (running.c); when its
 * slot is needed, keep_reasons_hold() checks whether one of them is still running.
 *
 * GetMultiXactIdMembers() works only in ordinary backends; other processes would
 * write to OldestVisibleMXactId[-1].  There, a multixact stands for all transactions
 * that ran when the page was written (KEEP_MULTI), until a backend that needs the
 * slot examines the page again.
 */
#include "postgres.h"

#include "access/gist.h"
#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/nbtree.h"
#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "keep_reasons.h"
#include "pg_compat.h"
#include "running.h"

static CompatBtreeVacuums *btree_vacuums;

void
keep_reasons_startup_shmem(void)
{
	bool found;

	btree_vacuums = ShmemInitStruct("BTree Vacuum State", BTreeShmemSize(), &found);
	if (!found)
		elog(FATAL, "btree vacuum state is not in shared memory");
}

/* ---- what is on a page ---- */

/* Extends the range of transactions for which the page is kept. */
static void
note_range(KeepReasons *keep, TransactionId oldest, TransactionId newest)
{
	if (!(keep->reasons & KEEP_OPEN_XACT) || TransactionIdPrecedes(oldest, keep->oldest_xid))
		keep->oldest_xid = oldest;
	if (!(keep->reasons & KEEP_OPEN_XACT) || TransactionIdFollows(newest, keep->newest_xid))
		keep->newest_xid = newest;
	keep->reasons |= KEEP_OPEN_XACT;
}

static void
note_xid(KeepReasons *keep, TransactionId xid)
{
	TransactionId top = running_top(xid);

	if (TransactionIdIsValid(top))
		note_range(keep, top, top);
}

bool
keep_reasons_can_resolve(void)
{
	return compat_has_backend_id() && IsTransactionState() && CritSectionCount == 0;
}

/* Notes the updater of a multixact, if it has one; members that only lock do not matter. */
static void
note_multi(KeepReasons *keep, MultiXactId multi)
{
	MultiXactMember *members;
	MultiXactId oldest;
	MultiXactId next;
	int n;

	if (!keep_reasons_can_resolve())
	{
		TransactionId oldest_xid;
		TransactionId newest_xid;

		if (!(keep->reasons & KEEP_MULTI) && running_all(&oldest_xid, &newest_xid))
		{
			note_range(keep, oldest_xid, newest_xid);
			keep->reasons |= KEEP_MULTI;
		}
		return;
	}

	/* anything outside this range is corruption, which will be reported when the row is read */
	ReadMultiXactIdRange(&oldest, &next);
	if (MultiXactIdPrecedes(multi, oldest) || !MultiXactIdPrecedes(multi, next))
		return;
	n = GetMultiXactIdMembers(multi, &members, false, false);
	for (int i = 0; i < n; i++)
		if (ISUPDATE_from_mxstatus(members[i].status))
			note_xid(keep, members[i].xid);
	if (n > 0)
		pfree(members);
}

/*
 * Heap redo sets the command ID to FirstCommandId, clears HEAP_COMBOCID
 * (heap_xlog_insert() and others), and drops speculative tokens.  Both matter
 * only while the transaction is open, and a tuple whose command ID is
 * FirstCommandId anyway is restored as it was.
 */
static void
heap_tuple_reasons(HeapTupleHeader tup, KeepReasons *keep)
{
	TransactionId xid = HeapTupleHeaderGetRawXmin(tup);

	if (tup->t_infomask & HEAP_MOVED)
		return; /* the field holds t_xvac */

	if (!HeapTupleHeaderIsSpeculative(tup) && !(tup->t_infomask & HEAP_COMBOCID) &&
		HeapTupleHeaderGetRawCommandId(tup) == FirstCommandId)
		return;

	if (TransactionIdIsNormal(xid) && !(tup->t_infomask & (HEAP_XMIN_COMMITTED | HEAP_XMIN_INVALID)))
		note_xid(keep, xid);

	/* cmax has no meaning if xmax only locks (heap_lock_tuple()) */
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
heap_page_reasons(const char *page, KeepReasons *keep)
{
	OffsetNumber max = PageGetMaxOffsetNumber((Page) page);

	for (OffsetNumber off = FirstOffsetNumber; off <= max; off++)
	{
		ItemId id = PageGetItemId((Page) page, off);

		if (ItemIdIsNormal(id) && ItemIdGetLength(id) >= SizeofHeapTupleHeader &&
			ItemIdGetOffset(id) + ItemIdGetLength(id) <= BLCKSZ)
			heap_tuple_reasons((HeapTupleHeader) PageGetItem((Page) page, id), keep);
	}
}

void
keep_reasons_of_page(ForkNumber fork, BlockNumber blk, const char *page, KeepReasons *keep)
{
	PageHeader header = (PageHeader) page;
	XLogRecPtr lsn = PageGetLSN((Page) page);
	const char *special;
	int special_size;

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
	 * Index builds write pages, with LSN 0, before they log them; GiST uses LSN
	 * 1.  An empty heap page is the same as what PostgreSQL makes from a page of
	 * zeros.
	 */
	if (lsn <= GistBuildLSN && (special_size > 0 || PageGetMaxOffsetNumber((Page) page) > 0))
		keep->reasons |= KEEP_NO_LSN;

	if (special_size == 0)
		heap_page_reasons(page, keep);
	else if (special_size == MAXALIGN(sizeof(BTPageOpaqueData)))
	{
		/* greater values are page IDs of other access methods */
		uint16 cycleid = ((BTPageOpaque) special)->btpo_cycleid;

		if (cycleid != 0 && cycleid <= MAX_BT_CYCLE_ID)
		{
			keep->reasons |= KEEP_BTREE_CYCLE;
			keep->btree_cycleid = cycleid;
		}
	}
	else if (blk == 0 && compat_is_sequence_page(page))
		keep->reasons |= KEEP_COMPUTE_LIFE;
}

/* ---- what holds now ---- */

/* Is a VACUUM running that uses this cycle ID?  Not cached, because one may start at any time. */
static bool
btree_cycle_is_active(uint16 cycleid)
{
	bool active = false;

	LWLockAcquire(BtreeVacuumLock, LW_SHARED);
	if (cycleid == KEEP_ANY_CYCLE)
		active = btree_vacuums->num_vacuums > 0;
	for (int i = 0; i < btree_vacuums->num_vacuums && !active; i++)
		active = btree_vacuums->vacuums[i].cycleid == cycleid;
	LWLockRelease(BtreeVacuumLock);
	return active;
}

bool
keep_reasons_hold(const KeepReasons *keep)
{
	if (keep->reasons == 0)
		return false;
	if (keep->reasons & KEEP_UNTIL_WRITTEN)
		return true;
	return ((keep->reasons & KEEP_OPEN_XACT) && running_in_range(keep->oldest_xid, keep->newest_xid)) ||
		   ((keep->reasons & KEEP_BTREE_CYCLE) && btree_cycle_is_active(keep->btree_cycleid));
}

void
keep_reasons_resolve(KeepReasons *keep, const char *page)
{
	keep->reasons &= ~(KEEP_OPEN_XACT | KEEP_MULTI);
	if (BLCKSZ == ((PageHeader) page)->pd_special)
		heap_page_reasons(page, keep);
}

void
keep_reasons_merge(KeepReasons *sum, const KeepReasons *keep)
{
	if (keep->reasons & KEEP_BTREE_CYCLE)
	{
		if ((sum->reasons & KEEP_BTREE_CYCLE) && sum->btree_cycleid != keep->btree_cycleid)
			sum->btree_cycleid = KEEP_ANY_CYCLE;
		else
			sum->btree_cycleid = keep->btree_cycleid;
	}
	if (keep->reasons & KEEP_OPEN_XACT)
	{
		/* a merged range must not cover transactions that began after those of sum have ended */
		if ((sum->reasons & KEEP_OPEN_XACT) && !running_in_range(sum->oldest_xid, sum->newest_xid))
			sum->reasons &= ~(KEEP_OPEN_XACT | KEEP_MULTI);
		note_range(sum, keep->oldest_xid, keep->newest_xid);
	}
	sum->reasons |= keep->reasons;
}
