/*
 * segments.h
 *	  The WAL files of one timeline: segments.c writes, cuts, removes and compresses,
 * segments_read.c reads.
 */
#ifndef PS_WAL_SEGMENTS_H
#define PS_WAL_SEGMENTS_H

#include "base/cancel.h"
#include "base/error.h"
#include "pg/record.h"

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

#endif /* PS_WAL_SEGMENTS_H */
