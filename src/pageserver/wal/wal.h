/*
 * wal.h
 *	  Reading WAL: from bytes to records, from a record to what it changes.
 *
 * decoder.c     bytes of the stream, fed in order, to whole and checked records
 * parse.c       a record's block references, images and main data
 * interpret.c   a record to the keys that it changes, told to a WalSink
 * xact.c        the contents of commit, abort and prepare records
 * slru.c        a record applied to an SLRU page
 * walstate.c    the counters that a checkpoint record would hold at an LSN
 * segments.c    the timeline's WAL files
 * segments_read.c   bytes and records out of them
 * reader.c      records out of those files: segments.c feeding decoder.c
 */
#ifndef PS_WAL_H
#define PS_WAL_H

#include "base/cancel.h"
#include "access/xlog_internal.h"
#include "access/xlogrecord.h"
#include "replication/origin.h"
#include "catalog/pg_control.h"
#include "lib/stringinfo.h"

#include "base/error.h"
#include "key.h"

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

/* ---- decoder.c ---- */
typedef struct WalDecoder WalDecoder;

/* What a decoder gives of records.  All of each is checked in any case. */
typedef enum WalContents
{
	WAL_WHOLE,
	WAL_NEEDED, /* what wal_interpret() and wal_state_apply() look at: WAL_CUT_LEN at least */
	WAL_HEADERS /* the header at least */
} WalContents;

/*
 * A decoder whose next byte is the one at "start", which is the end of a
 * record (WalRecord.end) or a segment's start followed by the rest of a record
 * that is to be skipped only if skip_contrecord is true.  system_identifier 0:
 * take the one of the first long page header.  prev: start of the record
 * before, or InvalidXLogRecPtr when unknown; xl_prev of each record is
 * compared with it.
 */
extern WalDecoder *wal_decoder_create(XLogRecPtr start, XLogRecPtr prev, uint64 system_identifier, uint32 segment_size,
									  bool skip_contrecord);
extern void wal_decoder_free(WalDecoder *dec);

/* Before the first record; without it, WAL_WHOLE. */
extern void wal_decoder_set_contents(WalDecoder *dec, WalContents contents);

/* Takes in the next bytes of the stream; copies them. */
extern void wal_decoder_feed(WalDecoder *dec, const char *data, size_t len);

/*
 * The same without a copy: room for len bytes of the stream, then how many of
 * them were put there.  The pointer is valid until the next call.
 */
extern char *wal_decoder_room(WalDecoder *dec, size_t len);
extern void wal_decoder_fed(WalDecoder *dec, size_t len);

/*
 * The next whole record, if the bytes so far hold one (*found).  Page headers
 * (magic, address, system identifier, continuation length), xl_prev, length,
 * rmgr id and CRC are checked; an error names the LSN and what was expected,
 * and the decoder stays in error.
 */
extern PsError *wal_decoder_next(WalDecoder *dec, WalRecord *rec, bool *found);

/* End of the last whole record, its start, up to where it has looked, and where the next fed byte belongs. */
extern XLogRecPtr wal_decoder_record_end(const WalDecoder *dec);
extern XLogRecPtr wal_decoder_record_prev(const WalDecoder *dec);
extern XLogRecPtr wal_decoder_position(const WalDecoder *dec);
extern XLogRecPtr wal_decoder_feed_position(const WalDecoder *dec);

/* Where a record that would follow "end" begins: past the page header if end is at a page boundary. */
extern XLogRecPtr wal_record_start_after(XLogRecPtr end, uint32 segment_size);

/* ---- parse.c ---- */
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

/*
 * Mirrors DecodeXLogRecord() of xlogreader.c, with the same checks.  Points into
 * rec->data.  Of a record that is cut, main_data has not all of main_data_len.
 */
extern PsError *wal_parse(const WalRecord *rec, WalParsed *parsed);

/* Does the end of such a record concern nobody, beyond WAL_CUT_LEN? */
extern bool wal_record_can_be_cut(const XLogRecord *header);

/*
 * Makes of the first WAL_CUT_LEN bytes of a longer record one of that length,
 * for redo, with main data that ends there.  Its xl_crc is that of the whole.
 */
extern PsError *wal_record_cut(XLogRecPtr start, char *data);

/* Mirrors RestoreBlockImage(): raw, pglz, lz4 or zstd, with or without hole.  Does not set the page's LSN. */
extern PsError *wal_restore_image(const WalRecord *rec, const WalParsed *parsed, int block_id, char *page);

/*
 * Is the image of a block, restored and stamped with the record's end LSN, all
 * that redo would do to that block?  False for GiST, hash (docs/postgres-facts.md, section 7) and
 * whatever else changes a page after BLK_RESTORED.
 */
extern bool wal_image_is_final(const WalParsed *parsed, int block_id);

/*
 * Does redo of the record give each block that it changes, of this fork, the
 * record's end as its LSN, unless the page has a later one?
 */
extern bool wal_redo_sets_lsn(const WalRecord *rec, ForkNumber fork);

/* ---- interpret.c ---- */

/*
 * What a record does to the keys.  Each member may fail; the record is then
 * not ingested.  All are called in the order in which redo would act.
 */
typedef struct WalSink
{
	void *arg;

	/*
	 * Redo of this record changes the block (once per block and record).
	 * will_init: the record alone makes the page (WILL_INIT, or an image that
	 * is applied), nothing older is needed.  Extends the relation if need be,
	 * but for a record of RM_SMGR_ID (a truncation that leaves part of a
	 * visibility map page): there a block that does not exist is left alone.
	 */
	PsError *(*block)(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber blk, bool will_init);

	/* The same for a page of an SLRU: wal_slru_apply() applies the record. */
	PsError *(*slru)(void *arg, const WalRecord *rec, PsSlru slru, uint32 pageno, bool will_init);

	/*
	 * Every existing segment of which wal_slru_truncates() says so goes: in
	 * most cases those wholly before cutoff_page.
	 */
	PsError *(*slru_truncate)(void *arg, const WalRecord *rec, PsSlru slru, uint32 cutoff_page);

	/* A fork that is shorter than nblocks, or does not exist, is left alone by rel_truncate. */
	PsError *(*rel_create)(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork);
	PsError *(*rel_truncate)(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber nblocks);
	PsError *(*rel_drop)(void *arg, const WalRecord *rec, PsRel rel); /* all forks */

	/*
	 * Whole directories (a database in one tablespace): DATABASE, RELMAP, and
	 * all relations.  What the destination of a copy held before goes.
	 */
	PsError *(*db_copy)(void *arg, const WalRecord *rec, Oid src_spc, Oid src_db, Oid spc, Oid db);
	PsError *(*db_drop)(void *arg, const WalRecord *rec, Oid spc, Oid db);

	/*
	 * Progress of a replication origin (key ORIGIN).  Unless force is set, a
	 * remote_lsn that is not greater than the stored one changes nothing
	 * (origin.c, replorigin_advance()).  Its end is told by del.
	 */
	PsError *(*origin)(void *arg, const WalRecord *rec, RepOriginId id, XLogRecPtr remote_lsn, bool force);

	/* A whole small value (relation map, two-phase state, tablespace, database), or its end. */
	PsError *(*put)(void *arg, const WalRecord *rec, const PsKey *key, const char *data, uint32 len);
	PsError *(*del)(void *arg, const WalRecord *rec, const PsKey *key);
} WalSink;

/*
 * Tells the sink what the record changes.  A record of an unknown rmgr, or of
 * a known rmgr with an info that PostgreSQL 15 does not write, is an error
 * that names both.  track_commit_timestamp as the WalState before the record has it.
 */
extern PsError *wal_interpret(const WalRecord *rec, const WalParsed *parsed, bool track_commit_timestamp,
							  const WalSink *sink);

/* ---- slru.c ---- */

/*
 * Applies a record that wal_interpret() told of with sink->slru to one page.
 * pageno as there; page holds BLCKSZ bytes, zeros if the page is new.
 */
extern PsError *wal_slru_apply(const WalRecord *rec, PsSlru slru, uint32 pageno, char *page);

/*
 * Does a record that wal_interpret() told of with sink->slru_truncate remove
 * this segment?  Mirrors SimpleLruTruncate() with the SLRU's PagePrecedes, and
 * PerformMembersTruncation() of multixact.c.
 */
extern bool wal_slru_truncates(const WalRecord *rec, PsSlru slru, uint32 cutoff_page, uint32 segno);

/* ---- walstate.c ---- */

/*
 * What a shutdown checkpoint written at "end" would hold, and what else of the
 * state at an LSN is in no page (docs/postgres-facts.md, section 6).
 */
typedef struct WalState
{
	XLogRecPtr prev;            /* start of the last record */
	XLogRecPtr end;             /* its end: the state is that of this LSN */
	bool shutdown;              /* the last record is a shutdown checkpoint */
	CheckPoint checkpoint;      /* redo and time are those of the last checkpoint record */
	XLogRecPtr last_checkpoint; /* where that record starts, or 0 */
	/* of pg_control, kept up to date by XLOG_PARAMETER_CHANGE */
	int32 max_connections;
	int32 max_worker_processes;
	int32 max_wal_senders;
	int32 max_prepared_xacts;
	int32 max_locks_per_xact;
	int32 wal_level;
	bool wal_log_hints;
	bool track_commit_timestamp;
	TimestampTz last_commit; /* newest commit or abort time seen; until there is one, when the cluster was shut down */

	/*
	 * Of the last commit or abort record: its end and the time that it says; and
	 * the end of the last one that says a time well before last_commit, after
	 * which it is known that a clock was wrong.  0: there was none, or it was
	 * before a state of version 1, which does not know.
	 */
	XLogRecPtr commit_end;
	TimestampTz commit_time;
	XLogRecPtr step_back;
} WalState;

/* Commits may be so much out of order, us, and it means nothing. */
#define WAL_STATE_STEP_BACK (10 * USECS_PER_SEC)

/* From a cluster that was shut down: state at the end of its checkpoint record. */
extern void wal_state_from_control(WalState *state, const ControlFileData *control, XLogRecPtr checkpoint_end);
extern PsError *wal_state_apply(WalState *state, const WalRecord *rec, const WalParsed *parsed);

/* As bytes, with a version; decode knows the older one, too, and refuses others. */
extern void wal_state_encode(const WalState *state, StringInfo out);
extern PsError *wal_state_decode(const char *data, size_t len, WalState *state);

/*
 * The shutdown checkpoint record that follows the state: its bytes as they
 * stand in the stream from state->end on, page header included where the
 * record begins at or crosses a page boundary; *start is the record's LSN,
 * *end its end.  page_tail_known etc: the bytes of the page before state->end
 * are not part of the result.  (xlog.c: CreateCheckPoint.)
 */
extern void wal_make_shutdown_checkpoint(const WalState *state, uint64 system_identifier, uint32 segment_size,
										 pg_time_t now, StringInfo bytes, CheckPoint *checkpoint,
										 XLogRecPtr *start, XLogRecPtr *end);

/* ---- segments.c, segments_read.c ---- */

/*
 * The WAL of one timeline: a directory of files in PostgreSQL's format and
 * names (timeline 1).  One writer at a time; any number of readers up to what
 * the writer has written.  Locks: see src/pageserver/wal/README.md.
 */
typedef struct WalSegments WalSegments;

extern PsError *wal_segments_open(const char *dir, uint32 segment_size, WalSegments **segs);
extern void wal_segments_close(WalSegments *segs);

/* Writes at the LSN (crossing segments as needed); a new segment is zero-filled to its size. Not durable yet. */
extern PsError *wal_segments_write(WalSegments *segs, XLogRecPtr lsn, const char *data, size_t len);

/* Makes all that was written durable (fdatasync of the segments touched, fsync of the directory for new ones). */
extern PsError *wal_segments_sync(WalSegments *segs);

/*
 * Writes what is there from the page of "from" up to "to" again, as it is, so
 * that the next sync makes it durable whatever became of syncs before.
 */
extern PsError *wal_segments_rewrite(WalSegments *segs, XLogRecPtr from, XLogRecPtr to);

/* Why (or NULL) a sync failed, which is final while the files are open; false: none has.  Waits for no I/O if why is NULL. */
extern bool wal_segments_sync_failed(WalSegments *segs, char *why, size_t size);

/* Everything from the LSN on becomes zeros, later segments go; durable on return. */
extern PsError *wal_segments_cut(WalSegments *segs, XLogRecPtr lsn);

/* Removes the oldest segments, up to this one, but never the newest. */
extern PsError *wal_segments_remove_before(WalSegments *segs, XLogSegNo first_kept, int *removed);

/*
 * Compresses the segments before this one (packed.h), but never the newest.
 * None of them may be written any more; readers see no difference.  One caller
 * at a time, and not beside wal_segments_remove_before().  May be called again
 * after an error.
 */
extern PsError *wal_segments_pack(WalSegments *segs, XLogSegNo before, const CancelCheck *cancel);

/* Reads raw bytes, page headers and all; the range must have been written. */
extern PsError *wal_segments_read(WalSegments *segs, XLogRecPtr lsn, char *buf, size_t len);

/*
 * Reads one record (start, xl_tot_len) without its page headers into buf (len
 * bytes); checks its CRC.  len WAL_CUT_LEN of a longer record: what
 * wal_record_cut() makes of it.
 */
extern PsError *wal_segments_read_record(WalSegments *segs, XLogRecPtr start, uint32 len, char *buf);

/*
 * For who reads many records at once, and reads the bytes himself.
 *
 * wal_segments_hold() opens the file of the segment with an LSN for reading,
 * until wal_segments_release().  wal_segments_record_extent(): how many bytes a
 * record takes there from its start on, page headers included, or 0: it goes on
 * in another segment (wal_segments_read_record() can read it).
 * wal_segments_unpack_record() makes of these bytes what
 * wal_segments_read_record() would; wal_segments_unread() is the error if they
 * could not be read.
 */
typedef struct WalHold
{
	WalSegments *segs;
	XLogSegNo segno;
	int fd;
	const struct PackedSegment *packed; /* not NULL: there is no fd, only the functions here can read it */
	struct SegmentFile *file;
} WalHold;

extern PsError *wal_segments_hold(WalSegments *segs, XLogRecPtr lsn, WalHold *hold);
extern void wal_segments_release(WalHold *hold);
extern size_t wal_segments_record_extent(const WalSegments *segs, XLogRecPtr start, uint32 len);
extern PsError *wal_segments_unpack_record(WalSegments *segs, XLogRecPtr start, uint32 len, const char *bytes, char *out);
extern PsError *wal_segments_unread(const WalSegments *segs, XLogRecPtr start, size_t wanted, int read_errno);

/* The numbers of the oldest and the newest segment that exist (false: none). */
extern bool wal_segments_range(WalSegments *segs, XLogSegNo *oldest, XLogSegNo *newest);
extern uint32 wal_segments_segment_size(const WalSegments *segs);
extern void wal_segments_path(const WalSegments *segs, XLogSegNo segno, char path[MAXPGPATH]);

/* ---- reader.c ---- */
typedef struct WalReader WalReader;

/* Reads records from "start" (end of a record) on.  prev as for the decoder. */
extern WalReader *wal_reader_create(WalSegments *segs, XLogRecPtr start, XLogRecPtr prev, uint64 system_identifier);
extern void wal_reader_free(WalReader *reader);

/*
 * The next record that ends at or before "upto", cut if that can be
 * (WAL_NEEDED); *found false if there is none yet (call again with a later upto).
 */
extern PsError *wal_reader_next(WalReader *reader, XLogRecPtr upto, WalRecord *rec, bool *found);

#endif /* PS_WAL_H */
