/*
 * wal_upload.h
 *	  Uploads the WAL of a timeline: the owner of its chain in the bucket.
 *
 * A WalUpload belongs to a branch from its first opening by this process on, and keeps the
 * chain while the timeline is closed: opening it again needs no request.  While the timeline is
 * open, a thread appends WAL that the receiver has made durable (flushed_lsn, which is never
 * cut off later): when there are 4 MB, wal_upload_interval after the oldest of it has
 * arrived, at once if wal_acknowledge is bucket or somebody waits for it
 * (wal_remote_wait()).  One request at a time: what arrives meanwhile goes with the next.  If
 * commits wait, the next one begins a fifth of its time after the one before, so that all
 * sessions share one.
 */
#ifndef PS_WAL_UPLOAD_H
#define PS_WAL_UPLOAD_H

#include "timeline/engine.h"
#include "upload/wal_restore.h"

typedef struct WalUpload WalUpload;

/*
 * Called by the thread, which ends then, when it finds that another store owns the tenant;
 * takes over the error, which says so.  No lock is held.
 */
typedef struct WalUploadFenced
{
	void (*fenced)(void *arg, PsError *err);
	void *arg;
} WalUploadFenced;

/* wal_restore(), for a timeline that is not open. */
extern PsError *wal_upload_open(const TenantOwner *owner, const PsId *timeline, const WalPlace *place, uint64 number,
								XLogRecPtr chain_lsn, const WalUploadFenced *fenced, const ObjectWait *wait,
								WalUpload **upload);
extern void wal_upload_close(WalUpload *upload); /* not started; NULL is allowed */

/*
 * Starts the thread.  Until then nothing must be written to the timeline, unless it was open
 * in wal_upload_open() already.  If the chain ends with the beginning of a record that is not complete, that
 * is cut off first, which needs a request.
 */
extern PsError *wal_upload_start(WalUpload *upload, Timeline *tl, const ObjectWait *wait);

/* Has it been started, and not stopped since?  NULL: no. */
extern bool wal_upload_is_started(const WalUpload *upload);

/* Waits until the thread has ended; the timeline is stopping.  NULL is allowed, or one that was not started. */
extern void wal_upload_stop(WalUpload *upload);

/*
 * For the thread that writes the tenant's log; any thread may call these, also while the
 * timeline is closed.  wal_upload_first_needed() returns the number of the first object that
 * is needed if layer files in the bucket contain what is before the LSN: WAL is restored from
 * the beginning of its page on.  See chain_remove_before() for the other.
 */
extern uint64 wal_upload_first_needed(WalUpload *upload, XLogRecPtr lsn);
extern bool wal_upload_covers(WalUpload *upload, XLogRecPtr lsn); /* is the LSN's WAL known to be in the chain? */
extern void wal_upload_remove_before(WalUpload *upload, uint64 number, Deleter *deleter);

#endif /* PS_WAL_UPLOAD_H */
