/*
 * segments.h
 *	  The WAL files of one timeline: segments.c writes, syncs, cuts, removes and
 *	  compresses; segments_read.c reads.
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

/* Writes at the LSN, across segments if necessary; a new segment is allocated to its full size.  Not durable yet. */
extern PsError *wal_segments_write(WalSegments *segs, XLogRecPtr lsn, const char *data, size_t len);

/* Makes everything durable that was written: fdatasync of the dirty segments, fsync of the directory for new ones. */
extern PsError *wal_segments_sync(WalSegments *segs);

/*
 * Writes the existing bytes again, from the page of "from" up to "to", so that the next
 * sync makes them durable even if an earlier sync has failed.  Pages of zeros are skipped:
 * they have no record, and after the record of a segment switch there may be very many.
 */
extern PsError *wal_segments_rewrite(WalSegments *segs, XLogRecPtr from, XLogRecPtr to);

/*
 * Has a sync failed?  That is final while the files are open.  If so, and why is not
 * NULL, the error's message is copied to it.  With why NULL it never waits for I/O.
 */
extern bool wal_segments_sync_failed(WalSegments *segs, char *why, size_t size);

/* Overwrites everything from the LSN on with zeros and removes later segments; durable on return. */
extern PsError *wal_segments_cut(WalSegments *segs, XLogRecPtr lsn);

/* Removes the segments before first_kept, except the newest one; *removed is their number. */
extern PsError *wal_segments_remove_before(WalSegments *segs, XLogSegNo first_kept, int *removed);

/*
 * Compresses the segments before this one (packed.h), except the newest.  They must not
 * be written any more; readers see no difference.  One caller at a time, and not while
 * wal_segments_remove_before() runs.  May be called again after an error.
 */
extern PsError *wal_segments_pack(WalSegments *segs, XLogSegNo before, const CancelCheck *cancel);

/* Reads bytes, including page headers; the range must have been written. */
extern PsError *wal_segments_read(WalSegments *segs, XLogRecPtr lsn, char *buf, size_t len);

/*
 * Reads the record at "start" without page headers into buf and checks its CRC.  len is
 * its xl_tot_len, or WAL_CUT_LEN for a longer record, of which wal_record_cut() makes
 * one of that length.
 */
extern PsError *wal_segments_read_record(WalSegments *segs, XLogRecPtr start, uint32 len, char *buf);

/*
 * Lower-level interface, for callers that batch their own reads.
 *
 * wal_segments_hold() opens the file of the segment that contains an LSN for reading,
 * until wal_segments_release().  wal_segments_record_extent() is the number of bytes
 * that a record takes in that file, including page headers, or 0 if it continues in
 * another segment: then wal_segments_read_record() must read it.
 * wal_segments_unpack_record() makes the record of these bytes, as
 * wal_segments_read_record() would; wal_segments_unread() is the error for bytes that
 * could not be read.
 */
typedef struct WalHold
{
	WalSegments *segs;
	XLogSegNo segno;
	int fd;
	/* if not NULL, the segment is compressed: there is no fd, and only wal_segments_read_record() can read it */
	const struct PackedSegment *packed;
	struct SegmentFile *file;
} WalHold;

extern PsError *wal_segments_hold(WalSegments *segs, XLogRecPtr lsn, WalHold *hold);
extern void wal_segments_release(WalHold *hold);
extern size_t wal_segments_record_extent(const WalSegments *segs, XLogRecPtr start, uint32 len);
extern PsError *wal_segments_unpack_record(WalSegments *segs, XLogRecPtr start, uint32 len, const char *bytes,
										   char *out);
extern PsError *wal_segments_unread(const WalSegments *segs, XLogRecPtr start, size_t wanted, int read_errno);

/* The numbers of the oldest and the newest segment; false if there is none. */
extern bool wal_segments_range(WalSegments *segs, XLogSegNo *oldest, XLogSegNo *newest);
extern uint32 wal_segments_segment_size(const WalSegments *segs);
extern void wal_segments_path(const WalSegments *segs, XLogSegNo segno, char path[MAXPGPATH]);

#endif /* PS_WAL_SEGMENTS_H */
