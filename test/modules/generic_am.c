/*
 * generic_am.c
 *	  An index access method that uses generic WAL in every way that
 *	  generic_xlog.h allows.
 *
 * An index of one int4 column.  Block 0 is the meta page, which has the number
 * of the last page; entries are added to the last page, and scans read all
 * pages.  How a page is created and laid out depends on its number (PageKind):
 * all kinds except PAGE_IMAGE are logged as a delta to the zeros that an
 * extension of the relation leaves.
 */
#include "postgres.h"

#include "access/amapi.h"
#include "access/generic_xlog.h"
#include "access/relation.h"
#include "access/reloptions.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "catalog/index.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/tidbitmap.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#include "utils/selfuncs.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(generic_am_handler);
PG_FUNCTION_INFO_V1(generic_am_unlogged_init);

PGDLLEXPORT Datum generic_am_handler(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum generic_am_unlogged_init(PG_FUNCTION_ARGS);

typedef enum PageKind
{
	PAGE_LOWER, /* entries grow upwards, as line pointers do */
	PAGE_UPPER, /* entries grow downwards, from a special space that is not empty */
	PAGE_WHOLE, /* no standard layout: pd_lower is the page's end */
	PAGE_IMAGE, /* created with GENERIC_XLOG_FULL_IMAGE */
	PAGE_MANY,  /* created by a record with the maximum number of pages */
	PAGE_KINDS
} PageKind;

/* Follows the page header. */
typedef struct PageHead
{
	uint16 kind;
	uint16 count;
	BlockNumber last; /* in the meta page: the page that entries are added to; in other pages: the next page, or 0 */
} PageHead;

typedef struct Entry
{
	int32 key;
	ItemPointerData tid;
} Entry;

#define ENTRIES_PER_PAGE 100
#define SPECIAL_SIZE     64
#define META_BLOCK       0

static PageHead *
page_head(Page page)
{
	return (PageHead *) PageGetContents(page);
}

static Entry *
page_entry(Page page, int i)
{
	if (page_head(page)->kind == PAGE_UPPER)
		return (Entry *) ((char *) page + ((PageHeader) page)->pd_special) - (i + 1);
	return (Entry *) (page_head(page) + 1) + i;
}

/* Sets the bounds of the page's unused space, according to its kind. */
static void
page_set_count(Page page, int count)
{
	PageHeader header = (PageHeader) page;
	PageHead *head = page_head(page);

	head->count = count;
	switch ((PageKind) head->kind)
	{
		case PAGE_UPPER:
			header->pd_lower = (char *) (head + 1) - (char *) page;
			header->pd_upper = header->pd_special - count * sizeof(Entry);
			break;
		case PAGE_WHOLE:
			header->pd_lower = header->pd_upper = header->pd_special = BLCKSZ;
			break;
		default:
			header->pd_lower = (char *) ((Entry *) (head + 1) + count) - (char *) page;
			break;
	}
}

static void
page_init(Page page, PageKind kind)
{
	PageInit(page, BLCKSZ, kind == PAGE_UPPER ? SPECIAL_SIZE : 0);
	page_head(page)->kind = kind;
	if (kind == PAGE_UPPER)
		memset(PageGetSpecialPointer(page), 0x5a, SPECIAL_SIZE);
	page_set_count(page, 0);
}

static void
page_add(Page page, int32 key, ItemPointer tid)
{
	int count = page_head(page)->count;

	page_set_count(page, count + 1);
	page_entry(page, count)->key = key;
	page_entry(page, count)->tid = *tid;
}

static Buffer
get_buffer(Relation index, BlockNumber blk)
{
	Buffer buffer = ReadBuffer(index, blk);

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	return buffer;
}

static void
make_meta_page(Relation index)
{
	Buffer buffer = get_buffer(index, P_NEW);
	GenericXLogState *state = GenericXLogStart(index);

	page_init(GenericXLogRegisterBuffer(state, buffer, 0), PAGE_LOWER);
	GenericXLogFinish(state);
	UnlockReleaseBuffer(buffer);
}

/* Adds the entry to a new page, which becomes the last one.  last: the previous last page, or InvalidBuffer. */
static void
add_page(Relation index, Buffer meta, Buffer last, int32 key, ItemPointer tid)
{
	Buffer buffer = get_buffer(index, P_NEW);
	PageKind kind = BufferGetBlockNumber(buffer) % PAGE_KINDS;
	Buffer spare = kind == PAGE_MANY ? get_buffer(index, P_NEW) : InvalidBuffer;
	GenericXLogState *state = GenericXLogStart(index);
	Page page;

	page_head(GenericXLogRegisterBuffer(state, meta, 0))->last = BufferGetBlockNumber(buffer);
	page = GenericXLogRegisterBuffer(state, buffer, kind == PAGE_IMAGE ? GENERIC_XLOG_FULL_IMAGE : 0);
	page_init(page, kind);
	page_add(page, key, tid);
	if (BufferIsValid(spare))
	{
		page_init(GenericXLogRegisterBuffer(state, spare, 0), PAGE_WHOLE);
		if (BufferIsValid(last))
			page_head(GenericXLogRegisterBuffer(state, last, 0))->last = BufferGetBlockNumber(buffer);
	}
	GenericXLogFinish(state);
	if (BufferIsValid(spare))
		UnlockReleaseBuffer(spare);
	UnlockReleaseBuffer(buffer);
}

static void
add_entry(Relation index, int32 key, ItemPointer tid)
{
	Buffer meta = get_buffer(index, META_BLOCK);
	BlockNumber blk = page_head(BufferGetPage(meta))->last;
	Buffer last = InvalidBuffer;
	bool done = false;

	if (blk != META_BLOCK)
	{
		GenericXLogState *state = GenericXLogStart(index);
		Page page;

		last = get_buffer(index, blk);
		page = GenericXLogRegisterBuffer(state, last, 0);
		done = page_head(page)->count < ENTRIES_PER_PAGE;
		if (done)
		{
			page_add(page, key, tid);
			GenericXLogFinish(state);
		}
		else
		{
			/* an aborted change must not be visible anywhere */
			memset(PageGetContents(page), 0xee, 1000);
			GenericXLogAbort(state);
		}
	}
	if (!done)
		add_page(index, meta, last, key, tid);
	if (BufferIsValid(last))
		UnlockReleaseBuffer(last);
	UnlockReleaseBuffer(meta);
}

static void
build_callback(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool tupleIsAlive, void *arg)
{
	if (!isnull[0])
		add_entry(index, DatumGetInt32(values[0]), tid);
	*(double *) arg += 1;
}

static IndexBuildResult *
generic_am_build(Relation heap, Relation index, IndexInfo *info)
{
	IndexBuildResult *result = palloc0(sizeof(IndexBuildResult));

	make_meta_page(index);
	result->heap_tuples = table_index_build_scan(heap, index, info, true, false, build_callback,
												 &result->index_tuples, NULL);
	return result;
}

static void
generic_am_buildempty(Relation index)
{
	elog(ERROR, "generic_am has no unlogged indexes");
}

static bool
generic_am_insert(Relation index, Datum *values, bool *isnull, ItemPointer tid, Relation heap, IndexUniqueCheck check,
				  bool unchanged, IndexInfo *info)
{
	if (!isnull[0])
		add_entry(index, DatumGetInt32(values[0]), tid);
	return false;
}

static IndexBulkDeleteResult *
generic_am_bulkdelete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats, IndexBulkDeleteCallback callback, void *arg)
{
	Relation index = info->index;

	if (stats == NULL)
		stats = palloc0(sizeof(IndexBulkDeleteResult));
	for (BlockNumber blk = META_BLOCK + 1; blk < RelationGetNumberOfBlocks(index); blk++)
	{
		Buffer buffer = get_buffer(index, blk);
		GenericXLogState *state = GenericXLogStart(index);
		Page page = GenericXLogRegisterBuffer(state, buffer, 0);
		int before = PageIsNew(page) ? 0 : page_head(page)->count;
		int n = 0;

		for (int i = 0; i < before; i++)
			if (!callback(&page_entry(page, i)->tid, arg))
				*page_entry(page, n++) = *page_entry(page, i);
		if (n < before)
		{
			page_set_count(page, n);
			GenericXLogFinish(state);
		}
		else
			GenericXLogAbort(state);
		stats->tuples_removed += before - n;
		UnlockReleaseBuffer(buffer);
	}
	return stats;
}

static IndexBulkDeleteResult *
generic_am_vacuumcleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats)
{
	return stats;
}

static void
generic_am_costestimate(struct PlannerInfo *root, struct IndexPath *path, double loop_count, Cost *startup, Cost *total,
						Selectivity *selectivity, double *correlation, double *pages)
{
	GenericCosts costs = {0};

	genericcostestimate(root, path, loop_count, &costs);
	*startup = costs.indexStartupCost;
	*total = costs.indexTotalCost;
	*selectivity = costs.indexSelectivity;
	*correlation = costs.indexCorrelation;
	*pages = costs.numIndexPages;
}

static bytea *
generic_am_options(Datum reloptions, bool validate)
{
	return NULL;
}

static bool
generic_am_validate(Oid opclass)
{
	return true;
}

static IndexScanDesc
generic_am_beginscan(Relation index, int nkeys, int norderbys)
{
	return RelationGetIndexScan(index, nkeys, norderbys);
}

static void
generic_am_rescan(IndexScanDesc scan, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys)
{
	if (keys && scan->numberOfKeys > 0)
		memmove(scan->keyData, keys, scan->numberOfKeys * sizeof(ScanKeyData));
}

static int64
generic_am_getbitmap(IndexScanDesc scan, TIDBitmap *tbm)
{
	Relation index = scan->indexRelation;
	int64 n = 0;

	for (BlockNumber blk = META_BLOCK + 1; blk < RelationGetNumberOfBlocks(index); blk++)
	{
		Buffer buffer = get_buffer(index, blk);
		Page page = BufferGetPage(buffer);

		for (int i = 0; !PageIsNew(page) && i < page_head(page)->count; i++)
		{
			Entry *entry = page_entry(page, i);

			if (scan->numberOfKeys > 0 && entry->key != DatumGetInt32(scan->keyData[0].sk_argument))
				continue;
			tbm_add_tuples(tbm, &entry->tid, 1, false);
			n++;
		}
		UnlockReleaseBuffer(buffer);
	}
	return n;
}

static void
generic_am_endscan(IndexScanDesc scan)
{
}

Datum
generic_am_handler(PG_FUNCTION_ARGS)
{
	IndexAmRoutine *am = makeNode(IndexAmRoutine);

	am->amstrategies = 1;
	am->amoptionalkey = true;
	am->ambuild = generic_am_build;
	am->ambuildempty = generic_am_buildempty;
	am->aminsert = generic_am_insert;
	am->ambulkdelete = generic_am_bulkdelete;
	am->amvacuumcleanup = generic_am_vacuumcleanup;
	am->amcostestimate = generic_am_costestimate;
	am->amoptions = generic_am_options;
	am->amvalidate = generic_am_validate;
	am->ambeginscan = generic_am_beginscan;
	am->amrescan = generic_am_rescan;
	am->amgetbitmap = generic_am_getbitmap;
	am->amendscan = generic_am_endscan;
	PG_RETURN_POINTER(am);
}

/*
 * generic_am_unlogged_init(index regclass) returns bigint
 *
 * This works only with full_page_writes: a new page is initialized without WAL,
 * and the first record that changes it is a delta to the initialized page.
 * Returns the number of the page.
 */
Datum
generic_am_unlogged_init(PG_FUNCTION_ARGS)
{
	Relation index = relation_open(PG_GETARG_OID(0), RowExclusiveLock);
	Buffer buffer = get_buffer(index, P_NEW);
	BlockNumber blk = BufferGetBlockNumber(buffer);
	GenericXLogState *state;
	ItemPointerData tid;

	page_init(BufferGetPage(buffer), PAGE_UPPER);
	MarkBufferDirty(buffer);
	state = GenericXLogStart(index);
	ItemPointerSet(&tid, 0, FirstOffsetNumber);
	page_add(GenericXLogRegisterBuffer(state, buffer, 0), -1, &tid);
	GenericXLogFinish(state);
	UnlockReleaseBuffer(buffer);
	relation_close(index, RowExclusiveLock);
	PG_RETURN_INT64(blk);
}
