/*
 * interpret_storage.c
 *	  What records change of relations and databases as a whole, and the
 *	  visibility map pages that heap records change without saying so.
 */
#include "ps_fe.h"

#include "access/heapam_xlog.h"
#include "catalog/pg_tablespace_d.h"
#include "catalog/storage_xlog.h"
#include "commands/dbcommands_xlog.h"
#include "commands/tablespace.h"
#include "storage/bufpage.h"
#include "storage/fsm_internals.h"
#include "utils/relmapper.h"

#include "pg/interpret_impl.h"
#include "pg/xact.h"

/* visibilitymap.c: two bits for each heap block */
#define VM_MAP_SIZE             (BLCKSZ - MAXALIGN(SizeOfPageHeaderData))
#define VM_HEAP_BLOCKS_PER_PAGE (VM_MAP_SIZE * 4)

/* freespace.c */
#define FSM_TREE_DEPTH ((SlotsPerFSMPage >= 1626) ? 3 : 4)

/* relmapper.c, RelMapFile */
#define RELMAP_FILE_SIZE 512

/*
 * The number of blocks that are left of a free space map, as freespace.c,
 * FreeSpaceMapPrepareTruncateRel() has it: the leaf page of the first removed
 * heap block stays if it is shared with blocks that stay.
 */
static BlockNumber
fsm_blocks(BlockNumber heap_blocks)
{
	BlockNumber leaf = heap_blocks / SlotsPerFSMPage;
	BlockNumber physical = 0;
	BlockNumber n = leaf;

	/* fsm_logical_to_physical() */
	for (int level = 0; level < FSM_TREE_DEPTH; level++)
	{
		physical += n + 1;
		n /= SlotsPerFSMPage;
	}
	physical--;
	return heap_blocks % SlotsPerFSMPage > 0 ? physical + 1 : physical;
}

/*
 * storage.c, smgr_redo().
 *
 * Of the visibility map, the page that holds bits of both kept and removed
 * blocks is changed by the record.  The same page of the free space map is
 * left as it is: values beyond the end do no harm (fsm_does_block_exist()),
 * stock redo would also correct upper pages in passing, and where hints are
 * logged an image of the page comes before this record.
 */
PsError *
interpret_smgr(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink)
{
	xl_smgr_create create;
	xl_smgr_truncate trunc;
	PsRel rel;

	if ((parsed->header->xl_info & ~XLR_INFO_MASK) == XLOG_SMGR_CREATE)
	{
		PS_TRY(wal_get_struct(rec, parsed, &create, sizeof(create)));
		if (create.forkNum < 0 || create.forkNum > MAX_FORKNUM)
			return wal_bad_contents(rec, "fork %d", create.forkNum);
		rel = (PsRel) {.spc = create.rnode.spcNode, .db = create.rnode.dbNode, .rel = create.rnode.relNode};
		return sink->rel_create(sink->arg, rec, rel, create.forkNum);
	}

	PS_TRY(wal_get_struct(rec, parsed, &trunc, sizeof(trunc)));
	rel = (PsRel) {.spc = trunc.rnode.spcNode, .db = trunc.rnode.dbNode, .rel = trunc.rnode.relNode};
	if ((trunc.flags & SMGR_TRUNCATE_HEAP) != 0)
		PS_TRY(sink->rel_truncate(sink->arg, rec, rel, MAIN_FORKNUM, trunc.blkno));
	if ((trunc.flags & SMGR_TRUNCATE_FSM) != 0)
		PS_TRY(sink->rel_truncate(sink->arg, rec, rel, FSM_FORKNUM, fsm_blocks(trunc.blkno)));
	if ((trunc.flags & SMGR_TRUNCATE_VM) != 0)
	{
		/* visibilitymap_prepare_truncate() */
		BlockNumber keep = trunc.blkno / VM_HEAP_BLOCKS_PER_PAGE;

		if (trunc.blkno % VM_HEAP_BLOCKS_PER_PAGE != 0)
		{
			PS_TRY(sink->block(sink->arg, rec, rel, VISIBILITYMAP_FORKNUM, keep, false));
			keep++;
		}
		PS_TRY(sink->rel_truncate(sink->arg, rec, rel, VISIBILITYMAP_FORKNUM, keep));
	}
	return NULL;
}

/* dbcommands.c, dbase_redo() */
PsError *
interpret_dbase(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink)
{
	xl_dbase_create_file_copy_rec copy;
	xl_dbase_create_wal_log_rec create;
	xl_dbase_drop_rec drop;
	PsKey key;

	switch (parsed->header->xl_info & ~XLR_INFO_MASK)
	{
		case XLOG_DBASE_CREATE_FILE_COPY:
			PS_TRY(wal_get_struct(rec, parsed, &copy, sizeof(copy)));
			return sink->db_copy(sink->arg, rec, copy.src_tablespace_id, copy.src_db_id, copy.tablespace_id,
								 copy.db_id);

		case XLOG_DBASE_CREATE_WAL_LOG:
			/* CreateDirAndVersionFile() */
			PS_TRY(wal_get_struct(rec, parsed, &create, sizeof(create)));
			key = ps_key_simple(PS_KEY_DATABASE, create.tablespace_id, create.db_id, 0);
			return sink->put(sink->arg, rec, &key, PG_MAJORVERSION "\n", strlen(PG_MAJORVERSION "\n"));

		default:
			PS_TRY(wal_get_struct(rec, parsed, &drop, MinSizeOfDbaseDropRec));
			if (drop.ntablespaces < 0 ||
				parsed->main_data_len < MinSizeOfDbaseDropRec + (uint64) drop.ntablespaces * sizeof(Oid))
				return wal_bad_contents(rec, "%d tablespaces in %u bytes", drop.ntablespaces, parsed->main_data_len);
			for (int i = 0; i < drop.ntablespaces; i++)
			{
				Oid spc;

				memcpy(&spc, parsed->main_data + MinSizeOfDbaseDropRec + i * sizeof(Oid), sizeof(Oid));
				PS_TRY(sink->db_drop(sink->arg, rec, spc, drop.db_id));
			}
			return NULL;
	}
}

/* tablespace.c, tblspc_redo() */
PsError *
interpret_tblspc(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink)
{
	Oid oid;
	PsKey key;

	/* both records begin with the OID */
	PS_TRY(wal_get_struct(rec, parsed, &oid, sizeof(oid)));
	key = ps_key_simple(PS_KEY_TABLESPACE, oid, 0, 0);
	if ((parsed->header->xl_info & ~XLR_INFO_MASK) == XLOG_TBLSPC_CREATE)
	{
		const char *path = parsed->main_data + offsetof(xl_tblspc_create_rec, ts_path);
		uint32 len = parsed->main_data_len - offsetof(xl_tblspc_create_rec, ts_path);

		if (len == 0 || memchr(path, 0, len) != path + len - 1)
			return wal_bad_contents(rec, "the location of tablespace %u has no end", oid);
		return sink->put(sink->arg, rec, &key, path, len - 1);
	}
	return sink->del(sink->arg, rec, &key);
}

/* relmapper.c, relmap_redo() */
PsError *
interpret_relmap(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink)
{
	xl_relmap_update update;
	PsKey key;

	PS_TRY(wal_get_struct(rec, parsed, &update, MinSizeOfRelmapUpdate));
	if (update.nbytes != RELMAP_FILE_SIZE || parsed->main_data_len != MinSizeOfRelmapUpdate + RELMAP_FILE_SIZE)
		return wal_bad_contents(rec, "relation map has %d bytes, expected %d", update.nbytes, RELMAP_FILE_SIZE);
	key = ps_key_simple(PS_KEY_RELMAP, update.tsid, update.dbid, 0);
	return sink->put(sink->arg, rec, &key, parsed->main_data + MinSizeOfRelmapUpdate, RELMAP_FILE_SIZE);
}

/* The visibility map page of a heap block, unless the record references it. */
static PsError *
clear_visibility(const WalRecord *rec, const WalParsed *parsed, PsRel rel, BlockNumber heap_block, const WalSink *sink)
{
	BlockNumber map_block = heap_block / VM_HEAP_BLOCKS_PER_PAGE;

	for (int i = 0; i <= parsed->max_block_id; i++)
	{
		const WalBlockRef *blk = &parsed->blocks[i];

		if (blk->in_use && blk->fork == VISIBILITYMAP_FORKNUM && blk->blk == map_block && ps_rel_equal(blk->rel, rel))
			return NULL;
	}
	return sink->block(sink->arg, rec, rel, VISIBILITYMAP_FORKNUM, map_block, false);
}

/*
 * Flags in the main data of a heap record tell that redo also clears bits of
 * the visibility map (heapam.c, heap_xlog_insert() and the others that call
 * visibilitymap_clear()).
 */
PsError *
interpret_heap(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink)
{
	const WalBlockRef *blk = &parsed->blocks[0];
	uint8 op = parsed->header->xl_info & XLOG_HEAP_OPMASK;
	uint32 flags_at;
	uint8 mask;
	uint8 flags;

	if (parsed->header->xl_rmid == RM_HEAP2_ID)
	{
		switch (op)
		{
			case XLOG_HEAP2_MULTI_INSERT:
				flags_at = offsetof(xl_heap_multi_insert, flags);
				mask = XLH_INSERT_ALL_VISIBLE_CLEARED;
				break;
			case XLOG_HEAP2_LOCK_UPDATED:
				flags_at = offsetof(xl_heap_lock_updated, flags);
				mask = XLH_LOCK_ALL_FROZEN_CLEARED;
				break;
			default:
				return NULL;
		}
	}
	else
	{
		switch (op)
		{
			case XLOG_HEAP_INSERT:
				flags_at = offsetof(xl_heap_insert, flags);
				mask = XLH_INSERT_ALL_VISIBLE_CLEARED;
				break;
			case XLOG_HEAP_DELETE:
				flags_at = offsetof(xl_heap_delete, flags);
				mask = XLH_DELETE_ALL_VISIBLE_CLEARED;
				break;
			case XLOG_HEAP_UPDATE:
			case XLOG_HEAP_HOT_UPDATE:
				flags_at = offsetof(xl_heap_update, flags);
				mask = XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED | XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED;
				break;
			case XLOG_HEAP_LOCK:
				flags_at = offsetof(xl_heap_lock, flags);
				mask = XLH_LOCK_ALL_FROZEN_CLEARED;
				break;
			default:
				return NULL;
		}
	}

	if (parsed->main_data_len <= flags_at || parsed->max_block_id < 0 || !blk->in_use)
		return wal_bad_contents(rec, "it lacks flags or a block");
	flags = parsed->main_data[flags_at];
	if ((flags & mask) == 0)
		return NULL;

	if (parsed->header->xl_rmid == RM_HEAP_ID && (op == XLOG_HEAP_UPDATE || op == XLOG_HEAP_HOT_UPDATE))
	{
		/* block 0 is that of the new tuple, block 1 that of the old one if it is another */
		bool two = parsed->max_block_id >= 1 && parsed->blocks[1].in_use;
		BlockNumber new_block = blk->blk;
		BlockNumber old_block = two ? parsed->blocks[1].blk : new_block;
		bool old_done = false;

		if ((flags & XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED) != 0)
		{
			PS_TRY(clear_visibility(rec, parsed, blk->rel, old_block, sink));
			old_done = true;
		}
		if ((flags & XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED) != 0 &&
			!(old_done && old_block / VM_HEAP_BLOCKS_PER_PAGE == new_block / VM_HEAP_BLOCKS_PER_PAGE))
			PS_TRY(clear_visibility(rec, parsed, blk->rel, new_block, sink));
		return NULL;
	}
	return clear_visibility(rec, parsed, blk->rel, blk->blk, sink);
}
