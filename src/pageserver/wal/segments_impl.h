/*
 * segments_impl.h
 *	  What the files of wal/ that work on segments share: segments.c (the
 *	  directory: write, sync, cut, remove, compress) and segment_files.c (files
 *	  that are open).
 */
#ifndef PS_WAL_SEGMENTS_IMPL_H
#define PS_WAL_SEGMENTS_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "wal/packed.h"
#include "wal/segments.h"

/* Descriptors that are kept open when nobody uses them. */
#define CACHED_SEGMENT_FILES 8

#define SEGMENT_TEMP_PREFIX "xlogtemp."

/* An open file.  In use while "users" is not zero; kept while it is dirty. */
typedef struct SegmentFile
{
	XLogSegNo segno;
	int fd;
	PackedSegment *packed; /* NULL: as it was written; else there is no fd */
	int users;
	bool dirty;
	bool gone; /* unlinked: close when the last user is done */
	uint64 last_use;
	struct SegmentFile *next;
} SegmentFile;

struct WalSegments
{
	char *dir;
	uint32 segment_size;

	pthread_mutex_t lock; /* for what follows; not held during I/O, but for unlink() */
	SegmentFile *files;
	int nfiles;
	uint64 clock;
	bool any; /* is there a segment? */
	XLogSegNo oldest;
	XLogSegNo newest;
	XLogSegNo first_plain;   /* those before are packed */
	bool dir_dirty;          /* a segment was made or removed */
	PsError *sync_error;     /* a sync failed: what was written since the last one may be lost; set once */
	atomic_bool sync_failed; /* the same without the lock */

	pthread_mutex_t sync_lock; /* one sync at a time; taken before "lock" */
};

/* ---- segment_files.c ---- */

extern void segment_name(const WalSegments *segs, XLogSegNo segno, char name[MAXFNAMELEN]);
extern void segment_packed_path(const WalSegments *segs, XLogSegNo segno, char path[MAXPGPATH]);

/* A segment that exists; under the lock, or while the directory is opened. */
extern void segment_added(WalSegments *segs, XLogSegNo segno);

/*
 * The file of a segment, to be given back with segment_file_release(); create:
 * it will be written, and is made if it is not there.  written: it was, and is
 * kept for the next sync.  Without the lock.
 */
extern PsError *segment_file_acquire(WalSegments *segs, XLogSegNo segno, bool create, SegmentFile **result);
extern void segment_file_release(WalSegments *segs, SegmentFile *file, bool written);

/* The file has been unlinked: who has it open goes on with it, nobody else gets it.  Caller holds the lock. */
extern void segment_file_forget(WalSegments *segs, XLogSegNo segno);

/* Closes one that is in no list. */
extern void segment_file_free(SegmentFile *file);

#endif /* PS_WAL_SEGMENTS_IMPL_H */
