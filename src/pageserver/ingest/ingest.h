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
 * unless WAL ends with one; waits until that is ingested.  *state is the WAL state after
 * the checkpoint, *checkpoint_lsn the start of its record.
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
 * Makes everything that was received durable, with one sync, and passes it to ingest.
 * *flushed is the end of the last whole record; unchanged after an error.
 * PS_SQLSTATE_DISK_FULL: may be tried again; after any other error the caller ends the
 * connection.
 */
extern PsError *wal_receiver_sync(WalReceiver *receiver, XLogRecPtr *flushed);
extern bool wal_receiver_is_superseded(WalReceiver *receiver);

/* Sets the check by which any thread finds out that the client has disconnected; valid until wal_receiver_close(). */
extern void wal_receiver_set_client(WalReceiver *receiver, const CancelCheck *client);

/* Describes what wal_receiver_write() is waiting for; false if nothing is known. */
extern bool wal_receiver_waits_for(WalReceiver *receiver, char *text, size_t size);
extern void wal_receiver_close(WalReceiver *receiver);

/* Is a compute connected, and since when?  False once the client has disconnected, even if the thread still runs. */
extern bool receiver_is_connected(Timeline *tl, time_t *since);

/* The end of the last whole record received; it may not be durable yet, but will be soon. */
extern XLogRecPtr receiver_end_of_records(Timeline *tl);

/* ---- for store/, while a timeline is being opened or closed ---- */

/* Opens the file "flushed" for the timeline: *lsn is its content, or 0 if it is missing or empty. */
extern PsError *receiver_open_marker(Timeline *tl, XLogRecPtr *lsn);
extern PsError *receiver_sync_marker(Timeline *tl, XLogRecPtr lsn); /* writes it durably */
extern void receiver_close_marker(Timeline *tl);

/* Reads the marker of a timeline that is not open; 0 if it is missing or damaged, which opening reports. */
extern XLogRecPtr receiver_read_marker(const char *dir);

/* Creates what the ingest thread needs to begin at the WAL state. */
extern PsError *ingest_create(Timeline *tl, const WalState *state);
extern void ingest_free(Timeline *tl); /* the threads have ended */

/* The threads; arg is the Timeline. */
extern void *ingest_main(void *arg);
extern void *flush_main(void *arg);

#endif /* PS_INGEST_H */
