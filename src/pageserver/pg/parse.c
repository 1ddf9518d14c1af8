/*
 * parse.c
 *	  The parts of a record: block references, images, main data.
 *
 * Mirrors DecodeXLogRecord() and RestoreBlockImage() of xlogreader.c, but
 * copies nothing: what a WalParsed points to is not aligned.
 */
#include "ps_fe.h"

#include <lz4.h>
#include <zstd.h>

#include "access/gistxlog.h"
#include "access/hash_xlog.h"
#include "access/heapam_xlog.h"
#include "access/rmgr.h"
#include "common/pg_lzcompress.h"

#include "sqlstate.h"
#include "pg/parse.h"

#define PG_RMGR(symname, name, redo, desc, identify, startup, cleanup, mask, decode) name,
static const char *const rmgr_names[] = {
#include "access/rmgrlist.h"
};
#undef PG_RMGR

const char *
wal_rmgr_name(RmgrId rmid)
{
	return rmid < lengthof(rmgr_names) ? rmgr_names[rmid] : NULL;
}

/* Bytes of main data that every cut record keeps: more than is needed. */
#define MIN_CUT_MAIN_DATA 1024

static PsError *bad_record(const WalRecord *rec, const char *fmt, ...) pg_attribute_printf(2, 3);

static PsError *
bad_record(const WalRecord *rec, const char *fmt, ...)
{
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return ps_error(PS_SQLSTATE_CORRUPTED, "invalid WAL record at %X/%X: %s", LSN_FORMAT_ARGS(rec->start), text);
}

/* The lengths of an image must fit together, as DecodeXLogRecord() wants it. */
static PsError *
check_image(const WalRecord *rec, int block_id, const WalBlockRef *blk)
{
	bool has_hole = (blk->bimg_info & BKPIMAGE_HAS_HOLE) != 0;
	bool compressed = BKPIMAGE_COMPRESSED(blk->bimg_info);

	if (has_hole && (blk->hole_offset == 0 || blk->hole_length == 0 || blk->bimg_len == BLCKSZ))
		return bad_record(rec, "image of block %d has a hole, but hole offset %u length %u, image length %u", block_id,
						  blk->hole_offset, blk->hole_length, blk->bimg_len);
	if (!has_hole && (blk->hole_offset != 0 || blk->hole_length != 0))
		return bad_record(rec, "image of block %d has no hole, but hole offset %u length %u", block_id,
						  blk->hole_offset, blk->hole_length);
	if (compressed && blk->bimg_len == BLCKSZ)
		return bad_record(rec, "compressed image of block %d has length %u", block_id, blk->bimg_len);
	if (!has_hole && !compressed && blk->bimg_len != BLCKSZ)
		return bad_record(rec, "image of block %d has no hole and is not compressed, but has length %u", block_id,
						  blk->bimg_len);
	if (blk->bimg_len > BLCKSZ || blk->hole_offset + blk->hole_length > BLCKSZ)
		return bad_record(rec, "image of block %d has length %u, hole offset %u length %u, beyond a page", block_id,
						  blk->bimg_len, blk->hole_offset, blk->hole_length);
	return NULL;
}

PsError *
wal_parse(const WalRecord *rec, WalParsed *parsed)
{
	const char *ptr = rec->data + SizeOfXLogRecord;
	const char *end = rec->data + rec->len - rec->cut;
	uint32 remaining = rec->len - SizeOfXLogRecord;
	uint32 datatotal = 0;
	bool have_rel = false;
	PsRel rel = {0};

#define GET_FIELD(dst, size)                                      \
	do                                                            \
	{                                                             \
		if (remaining < (size) || end - ptr < (size))             \
			return bad_record(rec, "it ends within its headers"); \
		memcpy(dst, ptr, size);                                   \
		ptr += (size);                                            \
		remaining -= (size);                                      \
	} while (0)

	parsed->header = (const XLogRecord *) rec->data;
	parsed->max_block_id = -1;
	parsed->origin = InvalidRepOriginId;
	parsed->toplevel_xid = InvalidTransactionId;
	parsed->main_data = NULL;
	parsed->main_data_len = 0;

	while (remaining > datatotal)
	{
		uint8 block_id;

		GET_FIELD(&block_id, sizeof(uint8));
		if (block_id <= XLR_MAX_BLOCK_ID)
		{
			WalBlockRef *blk;
			bool has_data;

			if (block_id <= parsed->max_block_id)
				return bad_record(rec, "block %u follows block %d", block_id, parsed->max_block_id);
			for (int i = parsed->max_block_id + 1; i < block_id; i++)
				parsed->blocks[i].in_use = false;
			parsed->max_block_id = block_id;

			blk = &parsed->blocks[block_id];
			blk->in_use = true;
			blk->apply_image = false;
			blk->image = NULL;
			blk->data = NULL;

			GET_FIELD(&blk->flags, sizeof(uint8));
			blk->fork = blk->flags & BKPBLOCK_FORK_MASK;
			if (blk->fork > MAX_FORKNUM)
				return bad_record(rec, "block %u is of fork %d", block_id, blk->fork);
			blk->has_image = (blk->flags & BKPBLOCK_HAS_IMAGE) != 0;
			has_data = (blk->flags & BKPBLOCK_HAS_DATA) != 0;
			GET_FIELD(&blk->data_len, sizeof(uint16));
			if (has_data != (blk->data_len != 0))
				return bad_record(rec, "block %u has flags %02X, but %u bytes of data", block_id, blk->flags,
								  blk->data_len);
			datatotal += blk->data_len;

			if (blk->has_image)
			{
				GET_FIELD(&blk->bimg_len, sizeof(uint16));
				GET_FIELD(&blk->hole_offset, sizeof(uint16));
				GET_FIELD(&blk->bimg_info, sizeof(uint8));
				blk->apply_image = (blk->bimg_info & BKPIMAGE_APPLY) != 0;
				if (!BKPIMAGE_COMPRESSED(blk->bimg_info))
					blk->hole_length = BLCKSZ - blk->bimg_len;
				else if ((blk->bimg_info & BKPIMAGE_HAS_HOLE) != 0)
					GET_FIELD(&blk->hole_length, sizeof(uint16));
				else
					blk->hole_length = 0;
				PS_TRY(check_image(rec, block_id, blk));
				datatotal += blk->bimg_len;
			}

			if ((blk->flags & BKPBLOCK_SAME_REL) == 0)
			{
				RelFileNode node;

				GET_FIELD(&node, sizeof(RelFileNode));
				rel = (PsRel) {.spc = node.spcNode, .db = node.dbNode, .rel = node.relNode};
				have_rel = true;
			}
			else if (!have_rel)
				return bad_record(rec, "block %u has BKPBLOCK_SAME_REL, but no block precedes it", block_id);
			blk->rel = rel;
			GET_FIELD(&blk->blk, sizeof(BlockNumber));
			if (blk->blk > MaxBlockNumber)
				return bad_record(rec, "block %u has number %u", block_id, blk->blk);
		}
		else if (block_id == XLR_BLOCK_ID_DATA_SHORT)
		{
			uint8 len;

			/* by convention, the main data is always last */
			GET_FIELD(&len, sizeof(uint8));
			parsed->main_data_len = len;
			datatotal += len;
			break;
		}
		else if (block_id == XLR_BLOCK_ID_DATA_LONG)
		{
			GET_FIELD(&parsed->main_data_len, sizeof(uint32));
			if (parsed->main_data_len > remaining)
				return bad_record(rec, "it has %u bytes of main data, but only %u are left", parsed->main_data_len,
								  remaining);
			datatotal += parsed->main_data_len;
			break;
		}
		else if (block_id == XLR_BLOCK_ID_ORIGIN)
			GET_FIELD(&parsed->origin, sizeof(RepOriginId));
		else if (block_id == XLR_BLOCK_ID_TOPLEVEL_XID)
			GET_FIELD(&parsed->toplevel_xid, sizeof(TransactionId));
		else
			return bad_record(rec, "invalid block number %u", block_id);
	}
#undef GET_FIELD

	if (remaining != datatotal)
		return bad_record(rec, "its headers announce %u bytes of data, but %u follow", datatotal, remaining);

	for (int i = 0; i <= parsed->max_block_id; i++)
	{
		WalBlockRef *blk = &parsed->blocks[i];

		if (!blk->in_use)
			continue;
		if (blk->has_image)
		{
			blk->image = ptr;
			ptr += blk->bimg_len;
		}
		if (blk->data_len > 0)
		{
			blk->data = ptr;
			ptr += blk->data_len;
		}
	}
	/* what is cut off is the end of main data, and not all of that */
	if (rec->cut > 0 && end - ptr < MIN_CUT_MAIN_DATA)
		return bad_record(rec, "%u bytes of its end are not there", rec->cut);
	if (parsed->main_data_len > 0)
		parsed->main_data = ptr;
	return NULL;
}

bool
wal_record_can_be_cut(const XLogRecord *header)
{
	return header->xl_rmid == RM_LOGICALMSG_ID || header->xl_rmid == RM_HEAP_ID || header->xl_rmid == RM_HEAP2_ID;
}

PsError *
wal_record_cut(XLogRecPtr start, char *data)
{
	XLogRecord *header = (XLogRecord *) data;
	WalRecord rec = {.start = start, .len = header->xl_tot_len, .cut = header->xl_tot_len - WAL_CUT_LEN, .data = data};
	uint32 left;
	WalParsed parsed;
	char *length;

	PS_TRY(wal_parse(&rec, &parsed));
	/* the length of the main data is the last header: only the data of the blocks lies between it and the main data */
	length = unconstify(char *, parsed.main_data);
	for (int i = 0; i <= parsed.max_block_id; i++)
		if (parsed.blocks[i].in_use)
			length -= parsed.blocks[i].data_len + (parsed.blocks[i].has_image ? parsed.blocks[i].bimg_len : 0);
	left = parsed.main_data_len - rec.cut;
	memcpy(length - sizeof(uint32), &left, sizeof(uint32));
	header->xl_tot_len = WAL_CUT_LEN;
	return NULL;
}

PsError *
wal_restore_image(const WalRecord *rec, const WalParsed *parsed, int block_id, char *page)
{
	const WalBlockRef *blk;
	const char *image;
	PGAlignedBlock tmp;
	uint32 len;

	if (block_id < 0 || block_id > parsed->max_block_id || !parsed->blocks[block_id].in_use ||
		!parsed->blocks[block_id].has_image)
		return bad_record(rec, "it has no image of block %d", block_id);
	blk = &parsed->blocks[block_id];
	len = BLCKSZ - blk->hole_length;
	image = blk->image;

	if (BKPIMAGE_COMPRESSED(blk->bimg_info))
	{
		const char *method;
		bool ok;

		if ((blk->bimg_info & BKPIMAGE_COMPRESS_PGLZ) != 0)
		{
			method = "pglz";
			ok = pglz_decompress(image, blk->bimg_len, tmp.data, len, true) >= 0;
		}
		else if ((blk->bimg_info & BKPIMAGE_COMPRESS_LZ4) != 0)
		{
			method = "lz4";
			ok = LZ4_decompress_safe(image, tmp.data, blk->bimg_len, len) == len;
		}
		else
		{
			method = "zstd";
			ok = ZSTD_decompress(tmp.data, len, image, blk->bimg_len) == len;
		}
		if (!ok)
			return bad_record(rec, "could not decompress the %s image of block %d", method, block_id);
		image = tmp.data;
	}

	if (blk->hole_length == 0)
		memcpy(page, image, BLCKSZ);
	else
	{
		memcpy(page, image, blk->hole_offset);
		memset(page + blk->hole_offset, 0, blk->hole_length);
		memcpy(page + blk->hole_offset + blk->hole_length, image + blk->hole_offset,
			   BLCKSZ - (blk->hole_offset + blk->hole_length));
	}
	return NULL;
}

/*
 * The redo functions that do more after BLK_RESTORED: gistRedoClearFollowRight()
 * on the left child of an insertion (block 1) or a split (block 0),
 * hash_xlog_split_allocate_page() on the old bucket and
 * hash_xlog_split_complete() on both.  A block with WILL_INIT is made by redo
 * whatever image the record holds.
 */
bool
wal_image_is_final(const WalParsed *parsed, int block_id)
{
	const WalBlockRef *blk = &parsed->blocks[block_id];
	uint8 info = parsed->header->xl_info & ~XLR_INFO_MASK;

	if (!blk->apply_image || (blk->flags & BKPBLOCK_WILL_INIT) != 0)
		return false;
	switch (parsed->header->xl_rmid)
	{
		case RM_GIST_ID:
			if (info == XLOG_GIST_PAGE_UPDATE)
				return block_id != 1;
			if (info == XLOG_GIST_PAGE_SPLIT)
				return block_id != 0;
			return true;
		case RM_HASH_ID:
			if (info == XLOG_HASH_SPLIT_ALLOCATE_PAGE)
				return block_id != 0;
			return info != XLOG_HASH_SPLIT_COMPLETE;
		default:
			/* an extension's rmgr could do anything */
			return RmgrIdIsBuiltin(parsed->header->xl_rmid);
	}
}

/*
 * What the redo functions were read for: heap_xlog_visible() sets the heap
 * page's LSN only with wal_log_hints or checksums; visibility map pages keep
 * theirs when bits are cleared, or were set already.  Records of hash indexes
 * name the bucket's first page for its lock alone, those of SP-GiST a root that
 * is split as the page that it was.
 */
bool
wal_redo_sets_lsn(const WalRecord *rec, ForkNumber fork)
{
	const XLogRecord *header = (const XLogRecord *) rec->data;

	if (fork == VISIBILITYMAP_FORKNUM || fork == FSM_FORKNUM)
		return false;
	switch (header->xl_rmid)
	{
		case RM_HEAP2_ID:
			return (header->xl_info & XLOG_HEAP_OPMASK) != XLOG_HEAP2_VISIBLE;
		case RM_XLOG_ID:
		case RM_HEAP_ID:
		case RM_BTREE_ID:
		case RM_GIN_ID:
		case RM_GIST_ID:
		case RM_SEQ_ID:
		case RM_BRIN_ID:
		case RM_GENERIC_ID:
			return true;
		default:
			return false;
	}
}
