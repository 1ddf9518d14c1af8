/*
 * record.h
 *	  A WAL record, and the parts of PostgreSQL's WAL format that are the same in
 *	  all major versions: names and sizes of segments, page and record headers.
 *
 * Files outside of pg/ get PostgreSQL's declarations of the WAL format only from here,
 * and use nothing of them that a major version changes, such as XLOG_PAGE_MAGIC.
 */
#ifndef PS_PG_RECORD_H
#define PS_PG_RECORD_H

#include "access/xlog_internal.h"
#include "access/xlogrecord.h"

/* One whole record. */
typedef struct WalRecord
{
	XLogRecPtr start; /* its first byte (ReadRecPtr of XLogReaderState) */
	XLogRecPtr end;   /* where the next record may begin (EndRecPtr), MAXALIGNed; after XLOG_SWITCH, the
					   * start of the next segment.  Redo gives pages this LSN */
	uint32 len;       /* xl_tot_len */
	uint32 cut;       /* bytes missing at the end of data (WalContents) */
	const char *data; /* from the XLogRecord header on, contiguous, MAXALIGNed; belongs to the decoder or
					   * reader, and is valid until its next call */
} WalRecord;

/*
 * The longest record that PostgreSQL 15 can read back: its reader rounds the
 * length up to whole pages and allocates that with palloc()
 * (allocate_recordbuf() of xlogreader.c).  It can write somewhat longer ones, which
 * would make crash recovery of a stock server fail.
 */
#define WAL_MAX_RECORD ((uint32) (0x3fffffff - 0x3fffffff % XLOG_BLCKSZ - 1))

/*
 * This much is kept of a longer record whose end the store does not need: a logical
 * message, or the old row of a DELETE or UPDATE, which is there for logical decoding.
 * It has room for all block references with their images and data, and for the
 * beginning of the main data.
 */
#define WAL_CUT_LEN ((uint32) (4 * 1024 * 1024))

StaticAssertDecl(WAL_CUT_LEN > (XLR_MAX_BLOCK_ID + 1) * (BLCKSZ + 64 * 1024 + 64) + 1024 * 1024,
				 "WAL_CUT_LEN is too small");

#endif /* PS_PG_RECORD_H */
