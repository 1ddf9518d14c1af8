/*
 * interpret.c
 *	  What a WAL record changes, told to a WalSink.
 *
 * The counterpart of the rm_redo functions: not what they write, but where.
 * Most records change the blocks that they reference and nothing else; the
 * others are in interpret_xact.c and interpret_storage.c.
 */
#include "ps_fe.h"

#include "access/rmgr.h"
#include "catalog/pg_control.h"

#include "pg/interpret_impl.h"
#include "pg/xact.h"

/*
 * The infos that PostgreSQL 15 writes, by resource manager: bit n stands for
 * info n << 4.
 */
static const uint16 known_infos[RM_MAX_BUILTIN_ID + 1] = {
	[RM_XLOG_ID] = 0x2fff,
	[RM_XACT_ID] = 0x1d7f, /* 0x80: XLOG_XACT_HAS_INFO */
	[RM_SMGR_ID] = 0x0006,
	[RM_CLOG_ID] = 0x0003,
	[RM_DBASE_ID] = 0x0007,
	[RM_TBLSPC_ID] = 0x0003,
	[RM_MULTIXACT_ID] = 0x000f,
	[RM_RELMAP_ID] = 0x0001,
	[RM_STANDBY_ID] = 0x0007,
	[RM_HEAP2_ID] = 0x20ff, /* 0x80: XLOG_HEAP_INIT_PAGE */
	[RM_HEAP_ID] = 0x15ff,
	[RM_BTREE_ID] = 0x7fff,
	[RM_HASH_ID] = 0x1fff,
	[RM_GIN_ID] = 0x03fe,
	[RM_GIST_ID] = 0x00cf,
	[RM_SEQ_ID] = 0x0001,
	[RM_SPGIST_ID] = 0x01fe,
	[RM_BRIN_ID] = 0x063f, /* 0x80: XLOG_BRIN_INIT_PAGE */
	[RM_COMMIT_TS_ID] = 0x0003,
	[RM_REPLORIGIN_ID] = 0x0003,
	[RM_GENERIC_ID] = 0x0001,
	[RM_LOGICALMSG_ID] = 0x0001,
};

/*
 * The blocks that a record references.  Redo makes a block from the record
 * alone if it is marked so or has an image that is to be applied
 * (xlogutils.c, XLogReadBufferForRedoExtended()).
 */
static PsError *
referenced_blocks(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink)
{
	for (int i = 0; i <= parsed->max_block_id; i++)
	{
		const WalBlockRef *blk = &parsed->blocks[i];

		if (blk->in_use)
			PS_TRY(sink->block(sink->arg, rec, blk->rel, blk->fork, blk->blk,
							   blk->apply_image || (blk->flags & BKPBLOCK_WILL_INIT) != 0));
	}
	return NULL;
}

/* xlog.c, xlog_redo() */
static PsError *
interpret_xlog(const WalRecord *rec, const WalParsed *parsed, bool track_commit_timestamp, const WalSink *sink)
{
	uint8 info = parsed->header->xl_info & ~XLR_INFO_MASK;

	if (info == XLOG_FPI || info == XLOG_FPI_FOR_HINT)
	{
		for (int i = 0; i <= parsed->max_block_id; i++)
		{
			const WalBlockRef *blk = &parsed->blocks[i];

			/* without full_page_writes a hint may come without an image: then there is nothing to do */
			if (!blk->in_use || (!blk->has_image && info == XLOG_FPI_FOR_HINT))
				continue;
			if (!blk->apply_image)
				return wal_bad_contents(rec, "a full-page image record has no image of block %d", i);
			PS_TRY(sink->block(sink->arg, rec, blk->rel, blk->fork, blk->blk, true));
		}
		return NULL;
	}
	if (parsed->max_block_id >= 0)
		return wal_bad_contents(rec, "unexpected block reference");

	if (info == XLOG_PARAMETER_CHANGE)
	{
		xl_parameter_change change;

		PS_TRY(wal_get_struct(rec, parsed, &change, sizeof(change)));
		/* commit_ts.c, DeactivateCommitTs(): all timestamps go */
		if (track_commit_timestamp && !wal_bool(&change.track_commit_timestamp))
			return sink->slru_truncate(sink->arg, rec, PS_SLRU_COMMIT_TS, 0);
	}
	return NULL;
}

PsError *
wal_interpret(const WalRecord *rec, const WalParsed *parsed, bool track_commit_timestamp, const WalSink *sink)
{
	RmgrId rmid = parsed->header->xl_rmid;
	uint8 info = parsed->header->xl_info & ~XLR_INFO_MASK;

	if (rmid > RM_MAX_BUILTIN_ID)
		return ps_error_hint(wal_bad_contents(rec, "resource manager %u is not one of PostgreSQL %s", rmid,
											  PG_MAJORVERSION),
							 "Resource managers of extensions are not supported.");
	if ((known_infos[rmid] & (1 << (info >> 4))) == 0)
		return wal_bad_contents(rec, "info %02X is not one of resource manager %u (%s) of PostgreSQL %s", info, rmid,
								wal_rmgr_name(rmid), PG_MAJORVERSION);

	switch (rmid)
	{
		case RM_HEAP_ID:
		case RM_HEAP2_ID:
			PS_TRY(interpret_heap(rec, parsed, sink));
			return referenced_blocks(rec, parsed, sink);
		case RM_BTREE_ID:
		case RM_HASH_ID:
		case RM_GIN_ID:
		case RM_GIST_ID:
		case RM_SEQ_ID:
		case RM_SPGIST_ID:
		case RM_BRIN_ID:
		case RM_GENERIC_ID:
			return referenced_blocks(rec, parsed, sink);
		case RM_XLOG_ID:
			return interpret_xlog(rec, parsed, track_commit_timestamp, sink);
	}

	/* the others reference no blocks */
	if (parsed->max_block_id >= 0)
		return wal_bad_contents(rec, "unexpected block reference");
	switch (rmid)
	{
		case RM_XACT_ID:
			return interpret_xact(rec, parsed, track_commit_timestamp, sink);
		case RM_SMGR_ID:
			return interpret_smgr(rec, parsed, sink);
		case RM_CLOG_ID:
			return interpret_clog(rec, parsed, sink);
		case RM_DBASE_ID:
			return interpret_dbase(rec, parsed, sink);
		case RM_TBLSPC_ID:
			return interpret_tblspc(rec, parsed, sink);
		case RM_MULTIXACT_ID:
			return interpret_multixact(rec, parsed, sink);
		case RM_RELMAP_ID:
			return interpret_relmap(rec, parsed, sink);
		case RM_COMMIT_TS_ID:
			return interpret_commit_ts(rec, parsed, sink);
		case RM_REPLORIGIN_ID:
			return interpret_replorigin(rec, parsed, sink);
		case RM_STANDBY_ID:
		case RM_LOGICALMSG_ID:
			/* for standbys and logical decoding: nothing that is kept changes */
			return NULL;
	}
	return wal_bad_contents(rec, "no rule for resource manager %u (%s)", rmid, wal_rmgr_name(rmid));
}
