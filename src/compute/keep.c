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
 * procarray.  Which transactions are still open is found out when a slot is
 * wanted for another page (page_cache.c).
 */
#include "postgres.h"

#include "access/gist.h"
#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/nbtree.h"
#include "access/transam.h"

#include "ps_smgr.h"

/* SEQ_MAGIC of commands/sequence.c: the first word of a sequence page's special space. */
#define SEQUENCE_MAGIC 0x1717

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
	else if (blk == 0 && special_size == MAXALIGN(sizeof(uint32)) &&
			 *(const uint32 *) special == SEQUENCE_MAGIC)
		keep->reasons |= KEEP_COMPUTE_LIFE;
}
