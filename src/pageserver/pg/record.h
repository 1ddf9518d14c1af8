/*
 * record.h
 *	  A WAL record, and the parts of PostgreSQL's WAL format that are the same in all
 * major versions: names and sizes of segments, page and record headers.
 *
 * Files outside of pg/ get PostgreSQL's xlog_internal.h from here only, and use of it
 * nothing that a major version changes (XLOG_PAGE_MAGIC, contents of records).
 */
#ifndef PS_PG_RECORD_H
#define PS_PG_RECORD_H

#include "access/xlog_internal.h"
#include "access/xlogrecord.h"

/* One whole record. */
typedef struct WalRecord
{
	XLogRecPtr start; /* its first byte: what ReadRecPtr is in a reader */
	XLogRecPtr end;   /* where the next record may begin (EndRecPtr): MAXALIGNed; after
								 * XLOG_SWITCH the next segment's start.  Pages get this LSN */
	uint32 len;       /* xl_tot_len */
	uint32 cut;       /* bytes of its end that are not at data (WalContents) */
	const char *data; /* from the XLogRecord header on, contiguous, MAXALIGNed; belongs to
								 * whoever made the record and lives until its next call */
} WalRecord;

/*
 * The longest record that PostgreSQL 15 can read back: its reader rounds the
 * length up to whole pages and allocates that with palloc()
 * (allocate_recordbuf() of xlogreader.c).  It can write somewhat longer ones,
 * with which a stock server would not come through crash recovery.
 */
#define WAL_MAX_RECORD ((uint32) (0x3fffffff - 0x3fffffff % XLOG_BLCKSZ - 1))

/*
 * So much is kept of a record that is longer, if its end concerns nobody here:
 * a logical message, and of a DELETE or UPDATE the old row, which is there for
 * logical decoding.  All block references with their images and data, and the
 * beginning of the main data, are in it, however many there are.
 */
#define WAL_CUT_LEN ((uint32) (4 * 1024 * 1024))

StaticAssertDecl(WAL_CUT_LEN > (XLR_MAX_BLOCK_ID + 1) * (BLCKSZ + 64 * 1024 + 64) + 1024 * 1024, "WAL_CUT_LEN is too small");

#endif /* PS_PG_RECORD_H */
