/*
 * t_wal_records.c
 *	  Single records: taken apart, interpreted, applied to SLRU pages and to the
 *	  state of a checkpoint.  What real servers write is compared by walcheck.c;
 *	  here are the rare cases and the damaged records.
 */
#include "wal_gen.h"

#include <lz4.h>
#include <zstd.h>

#include "access/clog.h"
#include "access/commit_ts.h"
#include "access/gistxlog.h"
#include "access/hash_xlog.h"
#include "access/heapam_xlog.h"
#include "access/multixact.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/storage_xlog.h"
#include "commands/dbcommands_xlog.h"
#include "commands/tablespace.h"
#include "common/pg_lzcompress.h"
#include "port/pg_crc32c.h"
#include "storage/bufpage.h"
#include "storage/fsm_internals.h"
#include "storage/standbydefs.h"
#include "utils/relmapper.h"

#include "bytes.h"
#include "pg/interpret.h"
#include "pg/slru.h"
#include "pg/walstate.h"
#include "pg/xact.h"

#define LSN UINT64CONST(0x1000028)

/* ---- making records ---- */

typedef struct Maker
{
	StringInfoData headers;
	StringInfoData data;
	StringInfoData main;
	bool has_origin;
	RepOriginId origin;
} Maker;

static void
begin(Maker *m)
{
	initStringInfo(&m->headers);
	initStringInfo(&m->data);
	initStringInfo(&m->main);
	m->has_origin = false;
}

static void
add_block(Maker *m, uint8 id, PsRel rel, ForkNumber fork, BlockNumber blk, uint8 flags, const char *image,
		  uint16 image_len, uint16 hole_offset, uint16 hole_length, uint8 bimg_info, const char *data, uint16 data_len)
{
	RelFileNode node = {.spcNode = rel.spc, .dbNode = rel.db, .relNode = rel.rel};

	flags |= fork;
	if (image != NULL)
		flags |= BKPBLOCK_HAS_IMAGE;
	if (data_len > 0)
		flags |= BKPBLOCK_HAS_DATA;
	appendBinaryStringInfo(&m->headers, (char *) &id, 1);
	appendBinaryStringInfo(&m->headers, (char *) &flags, 1);
	appendBinaryStringInfo(&m->headers, (char *) &data_len, 2);
	if (image != NULL)
	{
		appendBinaryStringInfo(&m->headers, (char *) &image_len, 2);
		appendBinaryStringInfo(&m->headers, (char *) &hole_offset, 2);
		appendBinaryStringInfo(&m->headers, (char *) &bimg_info, 1);
		if (BKPIMAGE_COMPRESSED(bimg_info) && (bimg_info & BKPIMAGE_HAS_HOLE) != 0)
			appendBinaryStringInfo(&m->headers, (char *) &hole_length, 2);
		appendBinaryStringInfo(&m->data, image, image_len);
	}
	if ((flags & BKPBLOCK_SAME_REL) == 0)
		appendBinaryStringInfo(&m->headers, (char *) &node, sizeof(node));
	appendBinaryStringInfo(&m->headers, (char *) &blk, 4);
	if (data_len > 0)
		appendBinaryStringInfo(&m->data, data, data_len);
}

static void
plain_block(Maker *m, uint8 id, PsRel rel, ForkNumber fork, BlockNumber blk, uint8 flags)
{
	add_block(m, id, rel, fork, blk, flags, NULL, 0, 0, 0, 0, NULL, 0);
}

static void
add_main(Maker *m, const void *data, size_t len)
{
	appendBinaryStringInfo(&m->main, data, len);
}

/* The record; its data is malloc'd. */
static WalRecord
finish(Maker *m, RmgrId rmid, uint8 info, TransactionId xid)
{
	StringInfoData body;
	uint32 len = m->main.len;
	WalRecord rec = {.start = LSN};

	initStringInfo(&body);
	appendBinaryStringInfo(&body, m->headers.data, m->headers.len);
	if (m->has_origin)
	{
		appendStringInfoChar(&body, (char) XLR_BLOCK_ID_ORIGIN);
		appendBinaryStringInfo(&body, (char *) &m->origin, 2);
	}
	if (len > 255)
	{
		appendStringInfoChar(&body, (char) XLR_BLOCK_ID_DATA_LONG);
		appendBinaryStringInfo(&body, (char *) &len, 4);
	}
	else if (len > 0)
	{
		appendStringInfoChar(&body, (char) XLR_BLOCK_ID_DATA_SHORT);
		appendStringInfoChar(&body, (char) len);
	}
	appendBinaryStringInfo(&body, m->data.data, m->data.len);
	appendBinaryStringInfo(&body, m->main.data, m->main.len);
	rec.len = SizeOfXLogRecord + body.len;
	rec.data = gen_make_record(LSN - 64, rmid, info, xid, body.data, body.len);
	rec.end = MAXALIGN64(rec.start + rec.len);
	pfree(body.data);
	pfree(m->headers.data);
	pfree(m->data.data);
	pfree(m->main.data);
	return rec;
}

/* A record of main data only. */
static WalRecord
simple(RmgrId rmid, uint8 info, TransactionId xid, const void *main, size_t len)
{
	Maker m;

	begin(&m);
	add_main(&m, main, len);
	return finish(&m, rmid, info, xid);
}

/* ---- a sink that writes down what it is told ---- */

static char told[100000];

static void tell(const char *fmt, ...) pg_attribute_printf(1, 2);

static void
tell(const char *fmt, ...)
{
	size_t len = strlen(told);
	va_list args;

	va_start(args, fmt);
	vsnprintf(told + len, sizeof(told) - len, fmt, args);
	va_end(args);
}

static PsError *
t_block(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber blk, bool will_init)
{
	tell("block %u.%d.%u%s;", rel.rel, fork, blk, will_init ? " init" : "");
	return NULL;
}

static PsError *
t_slru(void *arg, const WalRecord *rec, PsSlru slru, uint32 pageno, bool will_init)
{
	tell("slru %d.%u%s;", slru, pageno, will_init ? " init" : "");
	return NULL;
}

static PsError *
t_slru_truncate(void *arg, const WalRecord *rec, PsSlru slru, uint32 cutoff_page)
{
	tell("slru_truncate %d.%u;", slru, cutoff_page);
	return NULL;
}

static PsError *
t_rel_create(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork)
{
	tell("create %u.%d;", rel.rel, fork);
	return NULL;
}

static PsError *
t_rel_truncate(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber nblocks)
{
	tell("truncate %u.%d.%u;", rel.rel, fork, nblocks);
	return NULL;
}

static PsError *
t_rel_drop(void *arg, const WalRecord *rec, PsRel rel)
{
	tell("drop %u/%u/%u;", rel.spc, rel.db, rel.rel);
	return NULL;
}

static PsError *
t_db_copy(void *arg, const WalRecord *rec, Oid src_spc, Oid src_db, Oid spc, Oid db)
{
	tell("copy %u/%u to %u/%u;", src_spc, src_db, spc, db);
	return NULL;
}

static PsError *
t_db_drop(void *arg, const WalRecord *rec, Oid spc, Oid db)
{
	tell("dropdb %u/%u;", spc, db);
	return NULL;
}

static PsError *
t_origin(void *arg, const WalRecord *rec, RepOriginId id, XLogRecPtr remote_lsn, bool force)
{
	tell("origin %u %X/%X%s;", id, LSN_FORMAT_ARGS(remote_lsn), force ? " force" : "");
	return NULL;
}

static PsError *
t_put(void *arg, const WalRecord *rec, const PsKey *key, const char *data, uint32 len)
{
	char text[PS_KEY_TEXT];

	tell("put %s %u;", ps_key_format(key, text), len);
	return NULL;
}

static PsError *
t_del(void *arg, const WalRecord *rec, const PsKey *key)
{
	char text[PS_KEY_TEXT];

	tell("del %s;", ps_key_format(key, text));
	return NULL;
}

static const WalSink sink = {
	.block = t_block,
	.slru = t_slru,
	.slru_truncate = t_slru_truncate,
	.rel_create = t_rel_create,
	.rel_truncate = t_rel_truncate,
	.rel_drop = t_rel_drop,
	.db_copy = t_db_copy,
	.db_drop = t_db_drop,
	.origin = t_origin,
	.put = t_put,
	.del = t_del,
};

static void
interpret(WalRecord rec, bool track, const char *expected)
{
	WalParsed parsed;

	told[0] = 0;
	assert_ok(wal_parse(&rec, &parsed));
	assert_ok(wal_interpret(&rec, &parsed, track, &sink));
	assert_string_equal(told, expected);
	free((char *) rec.data);
}

static void
refuse(WalRecord rec, const char *text)
{
	WalParsed parsed;

	assert_ok(wal_parse(&rec, &parsed));
	assert_error(wal_interpret(&rec, &parsed, false, &sink), text);
	free((char *) rec.data);
}

static const PsRel rel = {.spc = 1663, .db = 5, .rel = 7};

/* ---- parse.c ---- */

/* Pages of each compression, with and without a hole, come back. */
static void
images(void **state)
{
	gen_seed();
	for (int method = 0; method < 4; method++)
	{
		for (int hole = 0; hole < 2; hole++)
		{
			PGAlignedBlock page;
			PGAlignedBlock result;
			char packed[2 * BLCKSZ];
			char flat[BLCKSZ];
			uint16 lower = 100 + random() % 100;
			uint16 upper = 4000 + random() % 1000;
			uint16 hole_len = hole ? upper - lower : 0;
			int len = BLCKSZ - hole_len;
			uint8 info = BKPIMAGE_APPLY | (hole ? BKPIMAGE_HAS_HOLE : 0);
			Maker m;
			WalRecord rec;
			WalParsed parsed;

			for (int i = 0; i < BLCKSZ; i++)
				page.data[i] = hole && i >= lower && i < upper ? 0 : random() % 4 == 0 ? random()
																					   : i / 64;
			memcpy(flat, page.data, hole ? lower : BLCKSZ);
			if (hole)
				memcpy(flat + lower, page.data + upper, BLCKSZ - upper);
			switch (method)
			{
				case 0:
					memcpy(packed, flat, len);
					break;
				case 1:
					len = pglz_compress(flat, len, packed, PGLZ_strategy_always);
					info |= BKPIMAGE_COMPRESS_PGLZ;
					break;
				case 2:
					len = LZ4_compress_default(flat, packed, len, sizeof(packed));
					info |= BKPIMAGE_COMPRESS_LZ4;
					break;
				case 3:
					len = ZSTD_compress(packed, sizeof(packed), flat, len, ZSTD_CLEVEL_DEFAULT);
					info |= BKPIMAGE_COMPRESS_ZSTD;
					break;
			}
			assert_true(len > 0 && (method == 0 || len < BLCKSZ));

			begin(&m);
			plain_block(&m, 0, rel, MAIN_FORKNUM, 3, 0);
			add_block(&m, 2, rel, MAIN_FORKNUM, 4, BKPBLOCK_SAME_REL, packed, len, hole ? lower : 0, hole_len, info,
					  "abc", 3);
			add_main(&m, "main", 4);
			rec = finish(&m, RM_HEAP_ID, XLOG_HEAP_INPLACE, 9);
			assert_ok(wal_parse(&rec, &parsed));
			assert_int_equal(parsed.max_block_id, 2);
			assert_true(parsed.blocks[0].in_use && !parsed.blocks[1].in_use && parsed.blocks[2].in_use);
			assert_int_equal(parsed.blocks[2].rel.rel, 7);
			assert_int_equal(parsed.blocks[2].blk, 4);
			assert_int_equal(parsed.blocks[2].data_len, 3);
			assert_memory_equal(parsed.blocks[2].data, "abc", 3);
			assert_int_equal(parsed.main_data_len, 4);
			assert_memory_equal(parsed.main_data, "main", 4);
			memset(result.data, 0x55, BLCKSZ);
			assert_ok(wal_restore_image(&rec, &parsed, 2, result.data));
			assert_memory_equal(result.data, page.data, BLCKSZ);
			assert_error(wal_restore_image(&rec, &parsed, 0, result.data), "no image");
			assert_error(wal_restore_image(&rec, &parsed, 3, result.data), "no image");

			/* a damaged image is refused or at least stays within the page */
			if (method > 0)
			{
				memset((char *) parsed.blocks[2].image, 0xff, parsed.blocks[2].bimg_len);
				assert_error(wal_restore_image(&rec, &parsed, 2, result.data), "could not decompress");
			}
			free((char *) rec.data);
		}
	}
}

/* Any bytes at all: an error or a record whose parts lie within it (run under a sanitizer, this finds the rest). */
static void
damaged_records(void **state)
{
	PGAlignedBlock page;

	gen_seed();
	for (int round = 0; round < 200000; round++)
	{
		Maker m;
		WalRecord rec;
		WalParsed parsed;
		PsError *err;
		char *bytes;
		XactRecord xact;
		WalState st = {0};

		begin(&m);
		if (random() % 2)
			add_block(&m, 0, rel, MAIN_FORKNUM, 3, 0, "0123456789", 10, 24, 8100,
					  BKPIMAGE_APPLY | BKPIMAGE_HAS_HOLE | (random() % 2 ? BKPIMAGE_COMPRESS_LZ4 : 0), "abc", 3);
		if (random() % 2)
			plain_block(&m, 1, rel, VISIBILITYMAP_FORKNUM, 3, 0);
		add_main(&m, "0123456789012345678901234567890123456789", random() % 41);
		rec = finish(&m, random() % 30, random(), random());
		bytes = (char *) rec.data;
		for (int i = random() % 4; i > 0 && rec.len > SizeOfXLogRecord; i--)
			bytes[SizeOfXLogRecord + random() % (rec.len - SizeOfXLogRecord)] = random() % 2 ? random() : random() % 5;

		told[0] = 0;
		err = wal_parse(&rec, &parsed);
		if (err == NULL)
		{
			for (int i = 0; i <= parsed.max_block_id; i++)
			{
				const WalBlockRef *blk = &parsed.blocks[i];

				if (!blk->in_use)
					continue;
				if (blk->data_len > 0)
					assert_true(blk->data >= rec.data && blk->data + blk->data_len <= rec.data + rec.len);
				if (blk->has_image)
				{
					assert_true(blk->image >= rec.data && blk->image + blk->bimg_len <= rec.data + rec.len);
					ps_error_free(wal_restore_image(&rec, &parsed, i, page.data));
				}
				wal_image_is_final(&parsed, i);
			}
			assert_true(parsed.main_data_len == 0 ||
						(parsed.main_data >= rec.data &&
						 parsed.main_data + parsed.main_data_len == rec.data + rec.len));
			ps_error_free(wal_interpret(&rec, &parsed, true, &sink));
			ps_error_free(wal_state_apply(&st, &rec, &parsed));
			ps_error_free(xact_parse(&rec, &parsed, &xact));
			for (int slru = 0; slru < PS_NSLRU; slru++)
				ps_error_free(wal_slru_apply(&rec, slru, 0, page.data));
		}
		ps_error_free(err);
		free(bytes);
	}
}

static void
final_images(void **state)
{
	static const struct
	{
		RmgrId rmid;
		uint8 info;
		bool final[3];
	} cases[] = {
		{RM_HEAP_ID, XLOG_HEAP_UPDATE, {true, true, true}},
		{RM_XLOG_ID, XLOG_FPI, {true, true, true}},
		{RM_GIST_ID, XLOG_GIST_PAGE_UPDATE, {true, false, true}},
		{RM_GIST_ID, XLOG_GIST_PAGE_SPLIT, {false, true, true}},
		{RM_GIST_ID, XLOG_GIST_PAGE_DELETE, {true, true, true}},
		{RM_HASH_ID, XLOG_HASH_SPLIT_ALLOCATE_PAGE, {false, true, true}},
		{RM_HASH_ID, XLOG_HASH_SPLIT_COMPLETE, {false, false, false}},
		{RM_HASH_ID, XLOG_HASH_INSERT, {true, true, true}},
	};
	static const char image[BLCKSZ];

	for (int c = 0; c < lengthof(cases); c++)
	{
		Maker m;
		WalRecord rec;
		WalParsed parsed;

		begin(&m);
		for (int i = 0; i < 3; i++)
			add_block(&m, i, rel, MAIN_FORKNUM, i, 0, image, BLCKSZ, 0, 0, BKPIMAGE_APPLY, NULL, 0);
		add_block(&m, 3, rel, MAIN_FORKNUM, 3, 0, image, BLCKSZ, 0, 0, 0, NULL, 0);
		rec = finish(&m, cases[c].rmid, cases[c].info, 0);
		assert_ok(wal_parse(&rec, &parsed));
		for (int i = 0; i < 3; i++)
			assert_int_equal(wal_image_is_final(&parsed, i), cases[c].final[i]);
		assert_false(wal_image_is_final(&parsed, 3));
		free((char *) rec.data);
	}
}

/* ---- interpret.c and its parts ---- */

static void
unknown(void **state)
{
	char zeros[100] = {0};

	refuse(simple(RM_HEAP_ID, 0xF0, 1, zeros, 100), "info F0 is not one of resource manager 10 (Heap)");
	refuse(simple(RM_XLOG_ID, 0xC0, 1, zeros, 100), "info C0 is not one of resource manager 0 (XLOG)");
	refuse(simple(RM_GIN_ID, 0x00, 1, zeros, 100), "resource manager 13 (Gin)");
	refuse(simple(RM_MAX_BUILTIN_ID + 1, 0, 1, zeros, 100), "resource manager 22 is not one");
	refuse(simple(200, 0, 1, zeros, 100), "resource manager 200 is not one");
	refuse(simple(RM_CLOG_ID, 0, 1, zeros, 3), "too short");
}

static void
blocks(void **state)
{
	static const char image[BLCKSZ];
	Maker m;

	/* will_init is of the block; an image that is only for checks makes nothing */
	begin(&m);
	plain_block(&m, 0, rel, MAIN_FORKNUM, 1, BKPBLOCK_WILL_INIT);
	plain_block(&m, 1, rel, MAIN_FORKNUM, 2, 0);
	add_block(&m, 2, rel, MAIN_FORKNUM, 3, 0, image, BLCKSZ, 0, 0, BKPIMAGE_APPLY, NULL, 0);
	add_block(&m, 5, rel, INIT_FORKNUM, 4, 0, image, BLCKSZ, 0, 0, 0, NULL, 0);
	interpret(finish(&m, RM_BTREE_ID, 0x30, 1), false, "block 7.0.1 init;block 7.0.2;block 7.0.3 init;block 7.3.4;");

	/* a hint without an image changes nothing; a full-page image without one is an error */
	begin(&m);
	plain_block(&m, 0, rel, MAIN_FORKNUM, 1, 0);
	interpret(finish(&m, RM_XLOG_ID, XLOG_FPI_FOR_HINT, 0), false, "");
	begin(&m);
	plain_block(&m, 0, rel, MAIN_FORKNUM, 1, 0);
	refuse(finish(&m, RM_XLOG_ID, XLOG_FPI, 0), "no image");
	begin(&m);
	add_block(&m, 0, rel, MAIN_FORKNUM, 3, 0, image, BLCKSZ, 0, 0, BKPIMAGE_APPLY, NULL, 0);
	interpret(finish(&m, RM_XLOG_ID, XLOG_FPI_FOR_HINT, 0), false, "block 7.0.3 init;");
	begin(&m);
	plain_block(&m, 0, rel, MAIN_FORKNUM, 1, 0);
	refuse(finish(&m, RM_XACT_ID, XLOG_XACT_COMMIT, 0), "unexpected block");
}

/* A page of the visibility map stands for 4 * (8192 - 24) heap blocks. */
#define VM_PER_PAGE 32672

static void
visibility(void **state)
{
	struct
	{
		RmgrId rmid;
		uint8 info;
		uint32 flags_at;
		uint8 flag;
	} cases[] = {
		{RM_HEAP_ID, XLOG_HEAP_INSERT, offsetof(xl_heap_insert, flags), XLH_INSERT_ALL_VISIBLE_CLEARED},
		{RM_HEAP_ID, XLOG_HEAP_INSERT | XLOG_HEAP_INIT_PAGE, offsetof(xl_heap_insert, flags),
		 XLH_INSERT_ALL_VISIBLE_CLEARED},
		{RM_HEAP_ID, XLOG_HEAP_DELETE, offsetof(xl_heap_delete, flags), XLH_DELETE_ALL_VISIBLE_CLEARED},
		{RM_HEAP_ID, XLOG_HEAP_LOCK, offsetof(xl_heap_lock, flags), XLH_LOCK_ALL_FROZEN_CLEARED},
		{RM_HEAP_ID, XLOG_HEAP_HOT_UPDATE, offsetof(xl_heap_update, flags), XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED},
		{RM_HEAP2_ID, XLOG_HEAP2_MULTI_INSERT, offsetof(xl_heap_multi_insert, flags), XLH_INSERT_ALL_VISIBLE_CLEARED},
		{RM_HEAP2_ID, XLOG_HEAP2_LOCK_UPDATED, offsetof(xl_heap_lock_updated, flags), XLH_LOCK_ALL_FROZEN_CLEARED},
	};
	Maker m;
	xl_heap_update update = {0};

	for (int c = 0; c < lengthof(cases); c++)
	{
		for (int set = 0; set < 2; set++)
		{
			char main[40] = {0};

			main[cases[c].flags_at] = set ? cases[c].flag : ~cases[c].flag & 0x7e;
			if (cases[c].info == XLOG_HEAP_HOT_UPDATE && !set)
				main[cases[c].flags_at] &= ~XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED;
			begin(&m);
			plain_block(&m, 0, rel, MAIN_FORKNUM, 2 * VM_PER_PAGE, 0);
			add_main(&m, main, sizeof(main));
			interpret(finish(&m, cases[c].rmid, cases[c].info, 1), false,
					  set ? "block 7.2.2;block 7.0.65344;" : "block 7.0.65344;");
		}
	}

	/* an update of two blocks: block 0 is the new one */
	for (int flags = 0; flags < 4; flags++)
	{
		static const char *const expected[] = {"", "block 7.2.0;", "block 7.2.1;", "block 7.2.0;block 7.2.1;"};
		char text[200];

		update.flags = flags;
		begin(&m);
		plain_block(&m, 0, rel, MAIN_FORKNUM, VM_PER_PAGE, 0);
		plain_block(&m, 1, rel, MAIN_FORKNUM, VM_PER_PAGE - 1, BKPBLOCK_SAME_REL);
		add_main(&m, &update, SizeOfHeapUpdate);
		snprintf(text, sizeof(text), "%sblock 7.0.32672;block 7.0.32671;", expected[flags]);
		interpret(finish(&m, RM_HEAP_ID, XLOG_HEAP_UPDATE, 1), false, text);
	}
	/* both on one page of the map: once */
	update.flags = 3;
	begin(&m);
	plain_block(&m, 0, rel, MAIN_FORKNUM, 1, 0);
	plain_block(&m, 1, rel, MAIN_FORKNUM, 2, BKPBLOCK_SAME_REL);
	add_main(&m, &update, SizeOfHeapUpdate);
	interpret(finish(&m, RM_HEAP_ID, XLOG_HEAP_UPDATE, 1), false, "block 7.2.0;block 7.0.1;block 7.0.2;");
	/* the page of the map is referenced: once */
	begin(&m);
	plain_block(&m, 0, rel, MAIN_FORKNUM, 1, 0);
	plain_block(&m, 1, rel, VISIBILITYMAP_FORKNUM, 0, BKPBLOCK_SAME_REL);
	add_main(&m, "\0\0\1", 3);
	interpret(finish(&m, RM_HEAP_ID, XLOG_HEAP_INSERT, 1), false, "block 7.0.1;block 7.2.0;");
}

/* The FSM arithmetic against counting pages one by one. */
static BlockNumber
count_fsm_blocks(BlockNumber heap_blocks)
{
	uint64 leaves = ((uint64) heap_blocks + SlotsPerFSMPage - 1) / SlotsPerFSMPage;
	BlockNumber physical = 0;

	/*
	 * Pages are in depth-first order: before leaf n, counted from 0, lie n
	 * leaves and each upper page that was begun.  What stays is what lies
	 * before the first leaf that goes.
	 */
	for (uint64 leaf = 0; leaf < leaves; leaf++)
	{
		if (leaf % ((uint64) SlotsPerFSMPage * SlotsPerFSMPage) == 0)
			physical++;
		if (leaf % SlotsPerFSMPage == 0)
			physical++;
		physical++;
	}
	/* upper pages that lie right before the first leaf that goes, stay */
	if (heap_blocks % SlotsPerFSMPage == 0)
	{
		if (leaves % ((uint64) SlotsPerFSMPage * SlotsPerFSMPage) == 0)
			physical++;
		if (leaves % SlotsPerFSMPage == 0)
			physical++;
	}
	return physical;
}

static void
truncation(void **state)
{
	gen_seed();
	for (int i = 0; i < 300; i++)
	{
		xl_smgr_truncate trunc = {.rnode = {.spcNode = 1663, .dbNode = 5, .relNode = 7}};
		char text[200];
		char vm_block[50] = "";
		BlockNumber vm;

		switch (i % 6)
		{
			case 0:
				trunc.blkno = (random() % 100) * SlotsPerFSMPage;
				break;
			case 1:
				trunc.blkno = (random() % 100) * VM_PER_PAGE;
				break;
			case 2:
				trunc.blkno = random() % 3 * SlotsPerFSMPage * SlotsPerFSMPage + random() % 3;
				break;
			case 3:
				trunc.blkno = random() % 3;
				break;
			case 4:
				trunc.blkno = random() % VM_PER_PAGE;
				break;
			default:
				trunc.blkno = random() % 50000000;
		}
		vm = trunc.blkno / VM_PER_PAGE;
		if (trunc.blkno % VM_PER_PAGE != 0)
			snprintf(vm_block, sizeof(vm_block), "block 7.2.%u;", vm++);

		trunc.flags = SMGR_TRUNCATE_ALL;
		snprintf(text, sizeof(text), "truncate 7.0.%u;truncate 7.1.%u;%struncate 7.2.%u;", trunc.blkno,
				 count_fsm_blocks(trunc.blkno), vm_block, vm);
		interpret(simple(RM_SMGR_ID, XLOG_SMGR_TRUNCATE, 0, &trunc, sizeof(trunc)), false, text);
		trunc.flags = SMGR_TRUNCATE_VM;
		snprintf(text, sizeof(text), "%struncate 7.2.%u;", vm_block, vm);
		interpret(simple(RM_SMGR_ID, XLOG_SMGR_TRUNCATE, 0, &trunc, sizeof(trunc)), false, text);
	}
}

static void
storage(void **state)
{
	xl_smgr_create create = {.rnode = {1663, 5, 7}, .forkNum = INIT_FORKNUM};
	xl_dbase_create_file_copy_rec copy = {.db_id = 9, .tablespace_id = 1663, .src_db_id = 1, .src_tablespace_id = 1664};
	xl_dbase_create_wal_log_rec wal_log = {.db_id = 9, .tablespace_id = 1663};
	uint32 drop[] = {9, 2, 1663, 1700};
	char relmap[sizeof(Oid) * 2 + 4 + 512] = {0};
	Oid ts = 1700;
	char tblspc[] = "....over/there";

	interpret(simple(RM_SMGR_ID, XLOG_SMGR_CREATE, 0, &create, sizeof(create)), false, "create 7.3;");
	create.forkNum = 4;
	refuse(simple(RM_SMGR_ID, XLOG_SMGR_CREATE, 0, &create, sizeof(create)), "fork 4");
	interpret(simple(RM_DBASE_ID, XLOG_DBASE_CREATE_FILE_COPY, 1, &copy, sizeof(copy)), false,
			  "copy 1664/1 to 1663/9;");
	interpret(simple(RM_DBASE_ID, XLOG_DBASE_CREATE_WAL_LOG, 1, &wal_log, sizeof(wal_log)), false,
			  "put database 1663/9/0 3;");
	interpret(simple(RM_DBASE_ID, XLOG_DBASE_DROP, 1, drop, sizeof(drop)), false, "dropdb 1663/9;dropdb 1700/9;");
	refuse(simple(RM_DBASE_ID, XLOG_DBASE_DROP, 1, drop, sizeof(drop) - 1), "2 tablespaces in 15 bytes");

	memcpy(relmap, (Oid[]) {9, 1663, 512}, 12);
	interpret(simple(RM_RELMAP_ID, XLOG_RELMAP_UPDATE, 1, relmap, sizeof(relmap)), false,
			  "put relation map of 1663/9/0 512;");
	refuse(simple(RM_RELMAP_ID, XLOG_RELMAP_UPDATE, 1, relmap, sizeof(relmap) - 1), "expected 512");

	memcpy(tblspc, &ts, 4);
	interpret(simple(RM_TBLSPC_ID, XLOG_TBLSPC_CREATE, 1, tblspc, sizeof(tblspc)), false,
			  "put tablespace 1700/0/0 10;");
	refuse(simple(RM_TBLSPC_ID, XLOG_TBLSPC_CREATE, 1, tblspc, sizeof(tblspc) - 1), "has no end");
	interpret(simple(RM_TBLSPC_ID, XLOG_TBLSPC_DROP, 1, &ts, 4), false, "del tablespace 1700/0/0;");
}

/* A commit record: xid and its subtransactions, with an origin. */
static WalRecord
make_commit(uint8 op, TransactionId xid, int nsub, const TransactionId *sub, TimestampTz time, TransactionId prepared)
{
	Maker m;
	uint32 xinfo = XACT_XINFO_HAS_SUBXACTS | XACT_XINFO_HAS_RELFILENODES | XACT_XINFO_HAS_ORIGIN;
	int nrels = 1;
	RelFileNode node = {1663, 5, 77};
	xl_xact_origin origin = {.origin_lsn = 0x100000002, .origin_timestamp = time + 1000};

	if (TransactionIdIsValid(prepared))
		xinfo |= XACT_XINFO_HAS_TWOPHASE | XACT_XINFO_HAS_GID;
	begin(&m);
	m.has_origin = true;
	m.origin = 3;
	add_main(&m, &time, 8);
	add_main(&m, &xinfo, 4);
	add_main(&m, &nsub, 4);
	add_main(&m, sub, nsub * 4);
	add_main(&m, &nrels, 4);
	add_main(&m, &node, sizeof(node));
	if (TransactionIdIsValid(prepared))
	{
		add_main(&m, &prepared, 4);
		add_main(&m, "gid", 4);
	}
	add_main(&m, &origin, sizeof(origin));
	return finish(&m, RM_XACT_ID, op | XLOG_XACT_HAS_INFO, xid);
}

#define CLOG_PER_PAGE 32768
#define CTS_PER_PAGE  819

static int
clog_status(const char *page, TransactionId xid)
{
	return page[xid % CLOG_PER_PAGE / 4] >> (xid % 4 * 2) & 3;
}

static void
transactions(void **state)
{
	TransactionId sub[] = {CLOG_PER_PAGE - 1, CLOG_PER_PAGE, CLOG_PER_PAGE + 1};
	WalRecord rec;
	PGAlignedBlock page;
	TimestampTz time;
	RepOriginId origin;
	char *entry;

	interpret(make_commit(XLOG_XACT_COMMIT, CLOG_PER_PAGE - 2, 3, sub, 5, 0), true,
			  "slru 3.40;slru 0.0;slru 0.1;origin 3 1/2;drop 1663/5/77;");
	interpret(make_commit(XLOG_XACT_COMMIT, CLOG_PER_PAGE - 2, 3, sub, 5, 0), false,
			  "slru 0.0;slru 0.1;origin 3 1/2;drop 1663/5/77;");
	interpret(make_commit(XLOG_XACT_ABORT, CLOG_PER_PAGE - 2, 1, sub, 5, 0), true,
			  "slru 0.0;origin 3 1/2;drop 1663/5/77;");
	interpret(make_commit(XLOG_XACT_COMMIT_PREPARED, 0, 1, sub + 1, 5, 900), true,
			  "slru 3.1;slru 3.40;slru 0.0;slru 0.1;origin 3 1/2;drop 1663/5/77;del two-phase state 0/0/900;");
	interpret(make_commit(XLOG_XACT_ABORT_PREPARED, 0, 0, sub, 5, 900), true,
			  "slru 0.0;origin 3 1/2;drop 1663/5/77;del two-phase state 0/0/900;");

	/* applied to pages: neighbours stay */
	rec = make_commit(XLOG_XACT_COMMIT, CLOG_PER_PAGE - 2, 3, sub, 5, 0);
	memset(page.data, 0xaa, BLCKSZ);
	assert_ok(wal_slru_apply(&rec, PS_SLRU_CLOG, 0, page.data));
	assert_int_equal(clog_status(page.data, CLOG_PER_PAGE - 3), 2);
	assert_int_equal(clog_status(page.data, CLOG_PER_PAGE - 2), TRANSACTION_STATUS_COMMITTED);
	assert_int_equal(clog_status(page.data, CLOG_PER_PAGE - 1), TRANSACTION_STATUS_COMMITTED);
	memset(page.data, 0, BLCKSZ);
	assert_ok(wal_slru_apply(&rec, PS_SLRU_CLOG, 1, page.data));
	assert_int_equal(clog_status(page.data, CLOG_PER_PAGE), TRANSACTION_STATUS_COMMITTED);
	assert_int_equal(clog_status(page.data, CLOG_PER_PAGE + 1), TRANSACTION_STATUS_COMMITTED);
	assert_int_equal(clog_status(page.data, CLOG_PER_PAGE + 2), 0);

	/* of a transaction with an origin, the time is that of the origin */
	memset(page.data, 0, BLCKSZ);
	assert_ok(wal_slru_apply(&rec, PS_SLRU_COMMIT_TS, CLOG_PER_PAGE / CTS_PER_PAGE, page.data));
	entry = page.data + CLOG_PER_PAGE % CTS_PER_PAGE * 10;
	memcpy(&time, entry, 8);
	memcpy(&origin, entry + 8, 2);
	assert_int_equal(time, 1005);
	assert_int_equal(origin, 3);
	assert_error(wal_slru_apply(&rec, PS_SLRU_MULTIXACT_MEMBERS, 0, page.data), "does not change page 0");
	free((char *) rec.data);

	rec = make_commit(XLOG_XACT_ABORT, CLOG_PER_PAGE + 5, 0, sub, 5, 0);
	memset(page.data, 0, BLCKSZ);
	assert_ok(wal_slru_apply(&rec, PS_SLRU_CLOG, 1, page.data));
	assert_int_equal(clog_status(page.data, CLOG_PER_PAGE + 5), TRANSACTION_STATUS_ABORTED);
	free((char *) rec.data);
}

static WalRecord
make_multixact(MultiXactId mid, MultiXactOffset moff, int n)
{
	Maker m;
	xl_multixact_create create = {.mid = mid, .moff = moff, .nmembers = n};

	begin(&m);
	add_main(&m, &create, SizeOfMultiXactCreate);
	for (int i = 0; i < n; i++)
	{
		MultiXactMember member = {.xid = 1000 + i, .status = i % 6};

		add_main(&m, &member, sizeof(member));
	}
	return finish(&m, RM_MULTIXACT_ID, XLOG_MULTIXACT_CREATE_ID, 1);
}

static void
multixacts(void **state)
{
	WalRecord rec;
	PGAlignedBlock page;
	MultiXactOffset *offsets = (MultiXactOffset *) page.data;

	interpret(make_multixact(10, 100, 3), false, "slru 1.0;slru 2.0;");
	interpret(make_multixact(2047, 1634, 4), false, "slru 1.0;slru 1.1;slru 2.0;slru 2.1;");
	interpret(make_multixact(MaxMultiXactId, 0xfffffffe, 4), false, "slru 1.2097151;slru 1.0;slru 2.2625285;slru 2.0;");

	/* the last of a page: its end is the first of the next */
	rec = make_multixact(2047, 1634, 4);
	memset(page.data, 0, BLCKSZ);
	assert_ok(wal_slru_apply(&rec, PS_SLRU_MULTIXACT_OFFSETS, 0, page.data));
	assert_int_equal(offsets[2047], 1634);
	memset(page.data, 0, BLCKSZ);
	assert_ok(wal_slru_apply(&rec, PS_SLRU_MULTIXACT_OFFSETS, 1, page.data));
	assert_int_equal(offsets[0], 1638);
	assert_int_equal(offsets[1], 0);

	/* members 0 and 1 are the last two of page 0; 1636 = 409 groups of four */
	memset(page.data, 0, BLCKSZ);
	assert_ok(wal_slru_apply(&rec, PS_SLRU_MULTIXACT_MEMBERS, 0, page.data));
	assert_int_equal(((TransactionId *) (page.data + 408 * 20 + 4))[2], 1000);
	assert_int_equal(((TransactionId *) (page.data + 408 * 20 + 4))[3], 1001);
	assert_int_equal(page.data[408 * 20 + 3], 1);
	memset(page.data, 0xff, BLCKSZ);
	assert_ok(wal_slru_apply(&rec, PS_SLRU_MULTIXACT_MEMBERS, 1, page.data));
	assert_int_equal(((TransactionId *) (page.data + 4))[0], 1002);
	assert_int_equal(page.data[0], 2);
	assert_int_equal(page.data[1], 3);
	assert_int_equal((uint8) page.data[2], 0xff);
	free((char *) rec.data);

	/* offsets wrap to 1, multixacts to FirstMultiXactId */
	rec = make_multixact(MaxMultiXactId, 0xfffffffe, 2);
	memset(page.data, 0, BLCKSZ);
	assert_ok(wal_slru_apply(&rec, PS_SLRU_MULTIXACT_OFFSETS, 0, page.data));
	assert_int_equal(offsets[FirstMultiXactId], 1);
	assert_int_equal(offsets[0], 0);
	free((char *) rec.data);
}

static void
slru_truncation(void **state)
{
	xl_clog_truncate clog = {.pageno = 100, .oldestXact = 100 * CLOG_PER_PAGE, .oldestXactDb = 5};
	xl_multixact_truncate trunc = {.oldestMultiDB = 5, .startTruncOff = 1, .endTruncOff = 65536 * 3 + 1};
	xl_parameter_change change = {.track_commit_timestamp = false};
	int zero = 64;
	WalRecord rec;
	char *expected;

	interpret(simple(RM_CLOG_ID, CLOG_ZEROPAGE, 0, &zero, 4), false, "slru 0.64 init;");
	interpret(simple(RM_COMMIT_TS_ID, COMMIT_TS_ZEROPAGE, 0, &zero, 4), false, "slru 3.64 init;");
	interpret(simple(RM_MULTIXACT_ID, XLOG_MULTIXACT_ZERO_OFF_PAGE, 0, &zero, 4), false, "slru 1.64 init;");
	interpret(simple(RM_MULTIXACT_ID, XLOG_MULTIXACT_ZERO_MEM_PAGE, 0, &zero, 4), false, "slru 2.64 init;");
	interpret(simple(RM_XLOG_ID, XLOG_PARAMETER_CHANGE, 0, &change, sizeof(change)), true, "slru_truncate 3.0;");
	interpret(simple(RM_XLOG_ID, XLOG_PARAMETER_CHANGE, 0, &change, sizeof(change)), false, "");

	interpret(simple(RM_CLOG_ID, CLOG_TRUNCATE, 0, &clog, sizeof(clog)), false, "slru_truncate 0.100;");
	rec = simple(RM_CLOG_ID, CLOG_TRUNCATE, 0, &clog, sizeof(clog));
	assert_true(wal_slru_truncates(&rec, PS_SLRU_CLOG, 100, 0));
	assert_true(wal_slru_truncates(&rec, PS_SLRU_CLOG, 100, 2));
	assert_false(wal_slru_truncates(&rec, PS_SLRU_CLOG, 100, 3)); /* pages 96 to 127 */
	assert_false(wal_slru_truncates(&rec, PS_SLRU_CLOG, 100, 4));
	assert_true(wal_slru_truncates(&rec, PS_SLRU_CLOG, 100, 4095)); /* before the wraparound */
	assert_true(wal_slru_truncates(&rec, PS_SLRU_CLOG, 128, 3));
	free((char *) rec.data);

	/* more than half of all member offsets at once, and over the end */
	trunc.startTruncMemb = 5000;
	trunc.endTruncMemb = 3000000000u;
	expected = psprintf("slru_truncate 2.%u;slru_truncate 1.96;", 3000000000u / 1636);
	interpret(simple(RM_MULTIXACT_ID, XLOG_MULTIXACT_TRUNCATE_ID, 0, &trunc, sizeof(trunc)), false, expected);
	pfree(expected);
	rec = simple(RM_MULTIXACT_ID, XLOG_MULTIXACT_TRUNCATE_ID, 0, &trunc, sizeof(trunc));
	assert_true(wal_slru_truncates(&rec, PS_SLRU_MULTIXACT_MEMBERS, 0, 0));
	assert_true(wal_slru_truncates(&rec, PS_SLRU_MULTIXACT_MEMBERS, 0, 3000000000u / 1636 / 32 - 1));
	assert_false(wal_slru_truncates(&rec, PS_SLRU_MULTIXACT_MEMBERS, 0, 3000000000u / 1636 / 32));
	assert_true(wal_slru_truncates(&rec, PS_SLRU_MULTIXACT_OFFSETS, 96, 2));
	assert_false(wal_slru_truncates(&rec, PS_SLRU_MULTIXACT_OFFSETS, 96, 3));
	free((char *) rec.data);
	trunc.startTruncMemb = 4200000000u;
	trunc.endTruncMemb = 5000 * 32;
	rec = simple(RM_MULTIXACT_ID, XLOG_MULTIXACT_TRUNCATE_ID, 0, &trunc, sizeof(trunc));
	assert_true(wal_slru_truncates(&rec, PS_SLRU_MULTIXACT_MEMBERS, 0, 4200000000u / 1636 / 32));
	assert_true(wal_slru_truncates(&rec, PS_SLRU_MULTIXACT_MEMBERS, 0, 2));
	assert_false(wal_slru_truncates(&rec, PS_SLRU_MULTIXACT_MEMBERS, 0, 3));
	assert_false(wal_slru_truncates(&rec, PS_SLRU_MULTIXACT_MEMBERS, 0, 4200000000u / 1636 / 32 - 1));
	free((char *) rec.data);
}

static char *put_data;
static uint32 put_len;

static PsError *
keep_put(void *arg, const WalRecord *rec, const PsKey *key, const char *data, uint32 len)
{
	put_data = pg_malloc(len);
	memcpy(put_data, data, len);
	put_len = len;
	return NULL;
}

/* The state file of a prepared transaction ends with the CRC of what is before (twophase.c, ReadTwoPhaseFile()). */
static void
prepare(void **state)
{
	char main[200] = {0};
	xl_xact_prepare hdr = {.magic = 0x57F94534,
						   .total_len = sizeof(main) + 4,
						   .xid = 1234,
						   .gidlen = 4,
						   .nsubxacts = 1,
						   .origin_lsn = 0x30};
	TransactionId subxid = 1300;
	WalSink keep = sink;
	WalParsed parsed;
	WalRecord rec;
	pg_crc32c crc;
	WalState st = {0};
	Maker m;

	memcpy(main, &hdr, sizeof(hdr));
	memcpy(main + MAXALIGN(sizeof(hdr)) + 8, &subxid, 4);
	begin(&m);
	m.has_origin = true;
	m.origin = 8;
	add_main(&m, main, sizeof(main));
	rec = finish(&m, RM_XACT_ID, XLOG_XACT_PREPARE, 1234);
	assert_ok(wal_parse(&rec, &parsed));
	keep.put = keep_put;
	told[0] = 0;
	assert_ok(wal_interpret(&rec, &parsed, false, &keep));
	assert_string_equal(told, "origin 8 0/30;");
	assert_int_equal(put_len, sizeof(main) + 4);
	assert_memory_equal(put_data, main, sizeof(main));
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, main, sizeof(main));
	FIN_CRC32C(crc);
	assert_memory_equal(put_data + sizeof(main), &crc, 4);
	free(put_data);

	st.checkpoint.nextXid = FullTransactionIdFromEpochAndXid(2, 1000);
	assert_ok(wal_state_apply(&st, &rec, &parsed));
	assert_int_equal(U64FromFullTransactionId(st.checkpoint.nextXid), UINT64CONST(0x200000000) + 1301);
	free((char *) rec.data);

	refuse(simple(RM_XACT_ID, XLOG_XACT_PREPARE, 1234, main, sizeof(main) - 8), "expected 204");
}

static void
origins(void **state)
{
	xl_replorigin_set set = {.remote_lsn = 0x55, .node_id = 4, .force = true};
	xl_replorigin_drop drop = {.node_id = 4};

	interpret(simple(RM_REPLORIGIN_ID, XLOG_REPLORIGIN_SET, 0, &set, sizeof(set)), false, "origin 4 0/55 force;");
	set.force = false;
	interpret(simple(RM_REPLORIGIN_ID, XLOG_REPLORIGIN_SET, 0, &set, sizeof(set)), false, "origin 4 0/55;");
	set.node_id = DoNotReplicateId;
	interpret(simple(RM_REPLORIGIN_ID, XLOG_REPLORIGIN_SET, 0, &set, sizeof(set)), false, "");
	interpret(simple(RM_REPLORIGIN_ID, XLOG_REPLORIGIN_DROP, 0, &drop, sizeof(drop)), false,
			  "del replication origin 0/0/4;");
}

/* ---- walstate.c ---- */

static void
apply(WalState *st, WalRecord rec)
{
	WalParsed parsed;

	assert_ok(wal_parse(&rec, &parsed));
	assert_ok(wal_state_apply(st, &rec, &parsed));
	assert_int_equal(st->prev, rec.start);
	assert_int_equal(st->end, rec.end);
	free((char *) rec.data);
}

static void
counters(void **state)
{
	WalState st = {0};
	CheckPoint *cp = &st.checkpoint;
	CheckPoint new;
	Oid oid = 50000;
	bool on = true;
	xl_running_xacts running = {.nextXid = 20};
	xl_clog_truncate clog = {.pageno = 1, .oldestXact = 4000, .oldestXactDb = 12};
	xl_multixact_truncate trunc = {.oldestMultiDB = 13, .endTruncOff = 6};
	xl_parameter_change change = {.MaxConnections = 7, .wal_level = 2, .track_commit_timestamp = true};

	cp->nextXid = FullTransactionIdFromEpochAndXid(0, 0xfffffff0);
	cp->oldestXid = 0x90000000;
	cp->oldestMulti = 1;

	/* over the end of an epoch, never back, special transactions do not count */
	apply(&st, simple(RM_LOGICALMSG_ID, 0, 0xfffffffe, "x", 1));
	assert_int_equal(cp->nextXid.value, 0xffffffff);
	apply(&st, simple(RM_LOGICALMSG_ID, 0, 0xffffffff, "x", 1));
	assert_int_equal(cp->nextXid.value, UINT64CONST(0x100000003));
	apply(&st, simple(RM_LOGICALMSG_ID, 0, 0xfffffff5, "x", 1));
	apply(&st, simple(RM_LOGICALMSG_ID, 0, 0, "x", 1));
	assert_int_equal(cp->nextXid.value, UINT64CONST(0x100000003));
	apply(&st, simple(RM_STANDBY_ID, XLOG_RUNNING_XACTS, 0, &running, sizeof(running)));
	assert_int_equal(cp->nextXid.value, UINT64CONST(0x100000014));
	apply(&st, make_commit(XLOG_XACT_ABORT, 5, 2, (TransactionId[]) {30, 40}, 77, 0));
	assert_int_equal(cp->nextXid.value, UINT64CONST(0x100000029));
	assert_int_equal(st.last_commit, 77);
	assert_int_equal(st.commit_time, 77);
	assert_int_equal(st.commit_end, st.end);
	/* the cluster was shut down later than that */
	apply(&st, make_multixact(9, 100, 5)); /* members 1000 to 1004 */
	assert_int_equal(cp->nextXid.value, UINT64CONST(0x1000003ed));
	assert_int_equal(cp->nextMulti, 10);
	assert_int_equal(cp->nextMultiOffset, 105);
	apply(&st, make_multixact(5, 10, 5));
	assert_int_equal(cp->nextMulti, 10);

	apply(&st, simple(RM_XLOG_ID, XLOG_NEXTOID, 0, &oid, 4));
	assert_int_equal(cp->nextOid, 50000);
	apply(&st, simple(RM_XLOG_ID, XLOG_FPW_CHANGE, 0, &on, 1));
	assert_true(cp->fullPageWrites);
	apply(&st, simple(RM_CLOG_ID, CLOG_TRUNCATE, 0, &clog, sizeof(clog)));
	assert_int_equal(cp->oldestXid, 4000);
	assert_int_equal(cp->oldestXidDB, 12);
	apply(&st, simple(RM_MULTIXACT_ID, XLOG_MULTIXACT_TRUNCATE_ID, 0, &trunc, sizeof(trunc)));
	assert_int_equal(cp->oldestMulti, 6);
	assert_int_equal(cp->oldestMultiDB, 13);

	/* commit timestamps */
	apply(&st, make_commit(XLOG_XACT_COMMIT, 2000, 0, NULL, 70, 0));
	assert_int_equal(cp->newestCommitTsXid, 0);
	apply(&st, simple(RM_XLOG_ID, XLOG_PARAMETER_CHANGE, 0, &change, sizeof(change)));
	assert_int_equal(cp->oldestCommitTsXid, 2001);
	assert_int_equal(cp->newestCommitTsXid, 2001);
	assert_int_equal(st.max_connections, 7);
	assert_int_equal(st.wal_level, 2);
	apply(&st, make_commit(XLOG_XACT_COMMIT, 2002, 1, (TransactionId[]) {2005}, 70, 0));
	assert_int_equal(cp->newestCommitTsXid, 2005);
	assert_int_equal(st.last_commit, 77);

	/* an online checkpoint is from before: it takes nothing back */
	new = *cp;
	new.nextXid = FullTransactionIdFromEpochAndXid(1, 1);
	new.nextOid = 70000;
	new.nextMulti = 2;
	new.nextMultiOffset = 200;
	new.oldestXid = 3000;
	new.oldestMulti = 7;
	new.oldestMultiDB = 14;
	new.redo = 0x1234;
	new.oldestActiveXid = 55;
	apply(&st, simple(RM_XLOG_ID, XLOG_CHECKPOINT_ONLINE, 0, &new, sizeof(new)));
	assert_false(st.shutdown);
	assert_int_equal(st.last_checkpoint, LSN);
	assert_int_equal(cp->redo, 0x1234);
	assert_int_equal(cp->nextXid.value, UINT64CONST(0x1000007d6));
	assert_int_equal(cp->nextOid, 50000);
	assert_int_equal(cp->nextMulti, 10);
	assert_int_equal(cp->nextMultiOffset, 200);
	assert_int_equal(cp->oldestXid, 4000);
	assert_int_equal(cp->oldestMulti, 7);
	assert_int_equal(cp->oldestMultiDB, 14);

	/* a shutdown checkpoint is believed, until the next record */
	apply(&st, simple(RM_XLOG_ID, XLOG_CHECKPOINT_SHUTDOWN, 0, &new, sizeof(new)));
	assert_true(st.shutdown);
	assert_int_equal(cp->nextOid, 70000);
	assert_int_equal(cp->nextXid.value, UINT64CONST(0x100000001));
	apply(&st, simple(RM_LOGICALMSG_ID, 0, 0, "x", 1));
	assert_false(st.shutdown);

	change.track_commit_timestamp = false;
	apply(&st, simple(RM_XLOG_ID, XLOG_PARAMETER_CHANGE, 0, &change, sizeof(change)));
	assert_int_equal(cp->oldestCommitTsXid, 0);
}

static void
fill_random(void *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((char *) p)[i] = random();
}

/* A state as stores have it that were written before version 2: without its last three fields. */
static void
version_1(const WalState *st, StringInfo encoded)
{
	int len = encoded->len - 3 * 8;
	pg_crc32c crc;
	WalState back;

	ps_put32(encoded->data + 4, 1);
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, encoded->data, len - 4);
	FIN_CRC32C(crc);
	ps_put32(encoded->data + len - 4, crc);
	assert_ok(wal_state_decode(encoded->data, len, &back));
	assert_int_equal(st->end, back.end);
	assert_int_equal(st->last_commit, back.last_commit);
	assert_int_equal(back.commit_end, InvalidXLogRecPtr);
	assert_int_equal(back.step_back, InvalidXLogRecPtr);
	assert_error(wal_state_decode(encoded->data, encoded->len, &back), "bytes, expected");
}

static void
encoding(void **state)
{
	StringInfoData out;
	StringInfoData again;
	WalState st;
	WalState back;

	gen_seed();
	fill_random(&st, sizeof(st));
	st.shutdown = st.wal_log_hints = true;
	st.checkpoint.fullPageWrites = st.track_commit_timestamp = false;
	initStringInfo(&out);
	wal_state_encode(&st, &out);
	assert_ok(wal_state_decode(out.data, out.len, &back));
	assert_int_equal(st.prev, back.prev);
	assert_int_equal(st.end, back.end);
	assert_int_equal(st.shutdown, back.shutdown);
	assert_int_equal(st.last_checkpoint, back.last_checkpoint);
	assert_int_equal(st.checkpoint.redo, back.checkpoint.redo);
	assert_int_equal(st.checkpoint.ThisTimeLineID, back.checkpoint.ThisTimeLineID);
	assert_int_equal(st.checkpoint.PrevTimeLineID, back.checkpoint.PrevTimeLineID);
	assert_int_equal(st.checkpoint.fullPageWrites, back.checkpoint.fullPageWrites);
	/* nextXid to oldestActiveXid have no gaps that matter */
	assert_int_equal(st.checkpoint.nextXid.value, back.checkpoint.nextXid.value);
	assert_memory_equal(&st.checkpoint.nextOid, &back.checkpoint.nextOid, 7 * sizeof(uint32));
	assert_int_equal(st.checkpoint.time, back.checkpoint.time);
	assert_memory_equal(&st.checkpoint.oldestCommitTsXid, &back.checkpoint.oldestCommitTsXid, 3 * sizeof(uint32));
	assert_memory_equal(&st.max_connections, &back.max_connections, 6 * sizeof(int32));
	assert_int_equal(st.wal_log_hints, back.wal_log_hints);
	assert_int_equal(st.track_commit_timestamp, back.track_commit_timestamp);
	assert_int_equal(st.last_commit, back.last_commit);
	assert_int_equal(st.commit_end, back.commit_end);
	assert_int_equal(st.commit_time, back.commit_time);
	assert_int_equal(st.step_back, back.step_back);
	initStringInfo(&again);
	wal_state_encode(&back, &again);
	assert_int_equal(out.len, again.len);
	assert_memory_equal(out.data, again.data, out.len);

	for (int bit = 0; bit < out.len * 8; bit++)
	{
		PsError *err;

		out.data[bit / 8] ^= 1 << bit % 8;
		err = wal_state_decode(out.data, out.len, &back);
		assert_non_null(err);
		ps_error_free(err);
		out.data[bit / 8] ^= 1 << bit % 8;
	}
	for (int len = 0; len < out.len; len++)
	{
		PsError *err = wal_state_decode(out.data, len, &back);

		assert_non_null(err);
		ps_error_free(err);
	}
	out.data[7]++;
	assert_error(wal_state_decode(out.data, out.len, &back), "format version 3, expected 2 or 1");
	version_1(&st, &out);
	pfree(out.data);
	pfree(again.data);
}

#define SEG (1024 * 1024)

/* The made checkpoint at each place of a page and a segment: the decoder accepts it after the record before. */
static void
made_checkpoint(void **state)
{
	gen_seed();
	for (XLogRecPtr end = 4 * SEG - 2 * XLOG_BLCKSZ; end <= 4 * SEG + 2 * XLOG_BLCKSZ; end += 8)
	{
		WalState st = {.prev = end - 64, .end = end};
		StringInfoData bytes;
		CheckPoint cp;
		XLogRecPtr start;
		XLogRecPtr stop;
		WalDecoder *dec;
		WalRecord rec;
		WalParsed parsed;
		bool found;

		/* no record ends within a page header */
		if (end % XLOG_BLCKSZ > 0 &&
			end % XLOG_BLCKSZ < (end % SEG < XLOG_BLCKSZ ? SizeOfXLogLongPHD : SizeOfXLogShortPHD))
			continue;
		fill_random(&st.checkpoint, sizeof(st.checkpoint));
		st.checkpoint.fullPageWrites = random() % 2;
		initStringInfo(&bytes);
		wal_make_shutdown_checkpoint(&st, GEN_SYSID, SEG, 4711, &bytes, &cp, &start, &stop);
		assert_int_equal(bytes.len, stop - end);
		assert_int_equal(start, wal_record_start_after(end, SEG));
		assert_int_equal(cp.redo, start);

		dec = wal_decoder_create(end, st.prev, GEN_SYSID, SEG, false);
		wal_decoder_feed(dec, bytes.data, bytes.len);
		assert_ok(wal_decoder_next(dec, &rec, &found));
		assert_true(found);
		assert_int_equal(rec.start, start);
		assert_int_equal(rec.end, stop);
		assert_int_equal(rec.len, 114);
		assert_ok(wal_parse(&rec, &parsed));
		assert_int_equal(parsed.header->xl_rmid, RM_XLOG_ID);
		assert_int_equal(parsed.header->xl_info, XLOG_CHECKPOINT_SHUTDOWN);
		assert_int_equal(parsed.main_data_len, sizeof(CheckPoint));
		assert_memory_equal(parsed.main_data, &cp, sizeof(CheckPoint));
		assert_int_equal(cp.time, 4711);
		assert_int_equal(cp.ThisTimeLineID, 1);
		assert_int_equal(cp.oldestActiveXid, 0);
		assert_int_equal(cp.nextXid.value, st.checkpoint.nextXid.value);
		assert_int_equal(cp.fullPageWrites, st.checkpoint.fullPageWrites);
		assert_memory_equal(&cp.nextOid, &st.checkpoint.nextOid, 7 * sizeof(uint32));
		wal_decoder_free(dec);
		pfree(bytes.data);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(images),
		cmocka_unit_test(damaged_records),
		cmocka_unit_test(final_images),
		cmocka_unit_test(unknown),
		cmocka_unit_test(blocks),
		cmocka_unit_test(visibility),
		cmocka_unit_test(truncation),
		cmocka_unit_test(storage),
		cmocka_unit_test(transactions),
		cmocka_unit_test(multixacts),
		cmocka_unit_test(slru_truncation),
		cmocka_unit_test(prepare),
		cmocka_unit_test(origins),
		cmocka_unit_test(counters),
		cmocka_unit_test(encoding),
		cmocka_unit_test(made_checkpoint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
