/*
 * parse.h
 *	  The parts of a record: block references, images, main data.
 *
 * All functions may be called by any thread, and keep nothing.
 */
#ifndef PS_PG_PARSE_H
#define PS_PG_PARSE_H

#include "replication/origin.h"

#include "base/error.h"
#include "pg/record.h"
#include "rel.h"

typedef struct WalBlockRef
{
	bool in_use;
	PsRel rel;
	ForkNumber fork;
	BlockNumber blk;
	uint8 flags; /* BKPBLOCK_* */
	bool has_image;
	bool apply_image;
	uint8 bimg_info; /* BKPIMAGE_* */
	uint16 hole_offset;
	uint16 hole_length;
	uint16 bimg_len;
	const char *image;
	uint16 data_len;
	const char *data;
} WalBlockRef;

typedef struct WalParsed
{
	const XLogRecord *header;
	int max_block_id; /* -1: none */
	WalBlockRef blocks[XLR_MAX_BLOCK_ID + 1];
	RepOriginId origin; /* InvalidRepOriginId: none */
	TransactionId toplevel_xid;
	const char *main_data;
	uint32 main_data_len;
} WalParsed;

/* The name of a resource manager, NULL if it is not one of PostgreSQL's own. */
extern const char *wal_rmgr_name(RmgrId rmid);

/*
 * Mirrors DecodeXLogRecord() of xlogreader.c, with the same checks.  The result points
 * into rec->data.  Of a record that is cut, fewer than main_data_len bytes are there.
 */
extern PsError *wal_parse(const WalRecord *rec, WalParsed *parsed);

/* May a record with this header be cut to WAL_CUT_LEN bytes? */
extern bool wal_record_can_be_cut(const XLogRecord *header);

/*
 * Turns the first WAL_CUT_LEN bytes of a longer record into a record of that length,
 * for redo, by shortening its main data.  xl_crc stays that of the whole record.
 */
extern PsError *wal_record_cut(XLogRecPtr start, char *data);

/* Mirrors RestoreBlockImage(): raw, pglz, lz4 or zstd, with or without hole.  Does not set the page's LSN. */
extern PsError *wal_restore_image(const WalRecord *rec, const WalParsed *parsed, int block_id, char *page);

/*
 * Does redo do nothing to the block except restore its image and set the LSN?  False
 * for GiST, hash (docs/postgres-facts.md, section 7) and others that change a page after
 * BLK_RESTORED.
 */
extern bool wal_image_is_final(const WalParsed *parsed, int block_id);

/*
 * Does redo of the record give each block that it changes, of this fork, the
 * record's end as its LSN, unless the page has a later one?
 */
extern bool wal_redo_sets_lsn(const WalRecord *rec, ForkNumber fork);

/*
 * The main data as a fixed-size struct; an error if it is shorter.  Longer is
 * allowed: some structs are followed by arrays.
 */
extern PsError *wal_get_struct(const WalRecord *rec, const WalParsed *parsed, void *dst, uint32 size);

/*
 * A boolean that was copied out of a record.  A record's bytes may be anything,
 * but C does not say what a bool is that is neither 0 nor 1.
 */
static inline bool
wal_bool(const bool *copied)
{
	return *(const unsigned char *) copied != 0;
}

/* An error (PS_SQLSTATE_CORRUPTED) about the contents of a record. */
extern PsError *wal_bad_contents(const WalRecord *rec, const char *fmt, ...) pg_attribute_printf(2, 3);

#endif /* PS_PG_PARSE_H */
