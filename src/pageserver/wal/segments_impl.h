/*
 * segments_impl.h
 *	  Shared by segments.c, segments_read.c and segment_files.c (open files).
 */
#ifndef PS_WAL_SEGMENTS_IMPL_H
#define PS_WAL_SEGMENTS_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "wal/packed.h"
#include "wal/segments.h"

/* Unused descriptors that are kept open. */
#define CACHED_SEGMENT_FILES 8

#define SEGMENT_TEMP_PREFIX "xlogtemp."

/* An open file.  In use while "users" is not zero; kept while it is dirty. */
typedef struct SegmentFile
{
	XLogSegNo segno;
	int fd;
	PackedSegment *packed; /* not NULL if the segment is compressed; then there is no fd */
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

	pthread_mutex_t lock; /* protects what follows; not held during I/O, except unlink() */
	SegmentFile *files;
	int nfiles;
	uint64 clock;
	bool any; /* is there a segment? */
	XLogSegNo oldest;
	XLogSegNo newest;
	XLogSegNo first_plain;   /* segments before this one are compressed */
	bool dir_dirty;          /* a segment was created or removed */
	PsError *sync_error;     /* a sync failed: what was written since the last one may be lost; set once */
	atomic_bool sync_failed; /* sync_error is set; read without the lock */

	pthread_mutex_t sync_lock; /* one sync at a time; taken before "lock" */
};

/* ---- segment_files.c ---- */

extern void segment_name(const WalSegments *segs, XLogSegNo segno, char name[MAXFNAMELEN]);
extern void segment_packed_path(const WalSegments *segs, XLogSegNo segno, char path[MAXPGPATH]);

/* Adds a segment to the range; caller holds the lock, or opens the directory. */
extern void segment_added(WalSegments *segs, XLogSegNo segno);

/*
 * Opens the file of a segment; release it with segment_file_release().  create: the
 * caller will write, so that a missing file is created.  written: the caller has
 * written, so that the file stays open until the next sync.  Called without the lock.
 */
extern PsError *segment_file_acquire(WalSegments *segs, XLogSegNo segno, bool create, SegmentFile **result);
extern void segment_file_release(WalSegments *segs, SegmentFile *file, bool written);

/* The file was unlinked: its users keep it, nobody else gets it.  Caller holds the lock. */
extern void segment_file_forget(WalSegments *segs, XLogSegNo segno);

/* Closes and frees a file that is not in the list. */
extern void segment_file_free(SegmentFile *file);

#endif /* PS_WAL_SEGMENTS_IMPL_H */
