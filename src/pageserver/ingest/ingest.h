/*
 * ingest.h
 *	  Incoming WAL: which compute may send it, how it is received, and how it is
 *	  ingested.
 */
#ifndef PS_INGEST_H
#define PS_INGEST_H

#include <time.h>

#include "timeline/timeline.h"

/* ---- generation.c: only one compute may write ---- */

/*
 * For a new compute: raises the generation, durably; supersedes the receiver of an older
 * one; cuts off bytes after the last whole record; appends a shutdown checkpoint, durably,
 * unless WAL ends with one; waits until that is ingested and, if WAL is uploaded, in object
 * storage.  *state is the WAL state after the checkpoint, *checkpoint_lsn the start of its
 * record.
 */
extern PsError *timeline_new_generation(Timeline *tl, const char *owner, const CancelCheck *cancel, uint64 *generation,
										WalState *state, XLogRecPtr *checkpoint_lsn);

/*
 * timeline_new_generation() for callers that must not supersede another compute by mistake.
 * after 0: refused while a compute is connected.  Otherwise, the generation that the caller
 * knows: its compute is superseded, connected or not; refused with PS_SQLSTATE_SUPERSEDED if
 * there is a newer generation.  Waits for ingest before it raises the generation, so that no
 * compute is superseded in vain if the store is behind or ingest has failed.
 */
extern PsError *timeline_take_over(Timeline *tl, const char *owner, uint64 after, const CancelCheck *cancel,
								   uint64 *generation, WalState *state, XLogRecPtr *checkpoint_lsn);

/* Formats a time for messages and rows, in UTC. */
#define TIME_TEXT_SIZE 32
extern const char *timeline_time_text(time_t when, char text[TIME_TEXT_SIZE]);

/*
 * Does the WAL up to the state end with a shutdown checkpoint, in the timeline's own files,
 * at which a compute can start?  Any thread.
 */
extern bool timeline_has_checkpoint(const Timeline *tl, const WalState *state);

/* ---- receiver.c: for serve/wal_push.c; one thread at a time calls these for a receiver ---- */
typedef struct WalReceiver WalReceiver;

/* Becomes the writer; ends an older connection of the same generation.  *start is where the stream continues. */
extern PsError *wal_receiver_open(Timeline *tl, uint64 generation, WalReceiver **receiver, XLogRecPtr *start);

/*
 * Writes bytes that follow the previous ones; a gap is an error.  Decodes and checks the
 * records.  Waits while ingest is too far behind.  PS_SQLSTATE_DISK_FULL: nothing was
 * written, and the caller may try again; after any other error it ends the connection.
 */
extern PsError *wal_receiver_write(WalReceiver *receiver, XLogRecPtr lsn, const char *data, size_t len,
								   const CancelCheck *cancel);

/*
 * Makes everything that was received durable on this disk, with one sync, and passes it to
 * ingest.  *flushed is the end of the last whole record; unchanged after an error.
 * PS_SQLSTATE_DISK_FULL: may be tried again; after any other error the caller ends the
 * connection.
 */
extern PsError *wal_receiver_sync(WalReceiver *receiver, XLogRecPtr *flushed);

/*
 * The end of the WAL that may be acknowledged: durable where the setting wal_acknowledge
 * demands it.  At most what wal_receiver_sync() has returned.  May fall when the setting
 * changes.
 */
extern XLogRecPtr wal_receiver_acknowledged(WalReceiver *receiver);

/*
 * Sets the function to be called when wal_receiver_acknowledged() may have risen without a
 * sync; valid until wal_receiver_close().  Another thread calls it, with Timeline.lock held,
 * so it must not wait.  A newer receiver takes its place.
 */
extern void wal_receiver_set_wake(WalReceiver *receiver, void (*wake)(void *arg), void *arg);

/*
 * The LSN from which on the compute must keep WAL, because it is not in object storage;
 * InvalidXLogRecPtr: there is no object storage, what was acknowledged need not be kept.
 */
extern XLogRecPtr wal_receiver_keep_from(WalReceiver *receiver);
extern bool wal_receiver_is_superseded(WalReceiver *receiver);

/* Sets the check by which any thread finds out that the client has disconnected; valid until wal_receiver_close(). */
extern void wal_receiver_set_client(WalReceiver *receiver, const CancelCheck *client);

/* Describes what wal_receiver_write() is waiting for; false if nothing is known. */
extern bool wal_receiver_waits_for(WalReceiver *receiver, char *text, size_t size);

/* Describes why durable WAL may not be acknowledged yet. */
extern void wal_receiver_unacknowledged_text(WalReceiver *receiver, char *text, size_t size);
extern void wal_receiver_close(WalReceiver *receiver);

/* Is a compute connected, and since when?  False once the client has disconnected, even if the thread still runs. */
extern bool receiver_is_connected(Timeline *tl, time_t *since);

/* The end of the last whole record received; it may not be durable yet, but will be soon. */
extern XLogRecPtr receiver_end_of_records(Timeline *tl);

/*
 * ---- remote_wal.c: WAL in object storage ----
 *
 * Any thread may call these functions.
 */

/*
 * Waits until object storage has WAL up to lsn, which is uploaded without delay; timeout_ms < 0:
 * no limit.  Returns immediately if WAL is not uploaded.  An error after the timeout, or if
 * the timeline has failed or is stopping.  Caller holds no lock.
 */
extern PsError *wal_remote_wait(Timeline *tl, XLogRecPtr lsn, int timeout_ms, const CancelCheck *cancel);

/* Age in ms of the oldest WAL that is not in object storage; 0: there is none.  Caller holds Timeline.lock. */
extern int64 wal_remote_lag(const Timeline *tl);

/* A setting was changed: wakes up those who wait for what depends on it. */
extern void timeline_settings_changed(Timeline *tl);

/* For the thread that uploads: WAL is uploaded from now on, and object storage has it up to lsn. */
extern void wal_remote_begin(Timeline *tl, XLogRecPtr lsn);

/* Object storage has WAL up to lsn, or the last attempt to upload WAL has failed. */
extern void wal_remote_set_lsn(Timeline *tl, XLogRecPtr lsn);
extern void wal_remote_set_error(Timeline *tl, const char *message);

/*
 * Waits until WAL after "from" is to be uploaded, and returns its end, which never is cut off
 * later, and the newest generation.  False if the timeline is stopping.
 */
extern bool wal_remote_next(Timeline *tl, XLogRecPtr from, XLogRecPtr *end, uint64 *generation);

/* ---- for store/, while a timeline is being opened or closed ---- */

/* If there is a copy of WAL (wal_copy.c): appends whole records that it has after the timeline's WAL, durably. */
extern PsError *wal_copy_restore(Timeline *tl);

/* Begin and end the thread that copies WAL, if wal_copy_directory is set; at the end, the timeline is stopping. */
extern PsError *wal_copy_start(Timeline *tl);
extern void wal_copy_stop(Timeline *tl);

/* Opens the file "flushed" for the timeline: *lsn is its content, or 0 if it is missing or empty. */
extern PsError *receiver_open_marker(Timeline *tl, XLogRecPtr *lsn);
extern PsError *receiver_sync_marker(Timeline *tl, XLogRecPtr lsn); /* writes it durably */
extern void receiver_close_marker(Timeline *tl);

/* Reads the marker of a timeline that is not open; 0 if it is missing or damaged, which opening reports. */
extern XLogRecPtr receiver_read_marker(const char *dir);

/* Replaces the marker of a timeline that is not open, durably. */
extern PsError *receiver_replace_marker(const char *dir, XLogRecPtr lsn);

/* Creates what the ingest thread needs to begin at the WAL state. */
extern PsError *ingest_create(Timeline *tl, const WalState *state);
extern void ingest_free(Timeline *tl); /* the threads have ended */

/* The threads; arg is the Timeline. */
extern void *ingest_main(void *arg);
extern void *flush_main(void *arg);

#endif /* PS_INGEST_H */
