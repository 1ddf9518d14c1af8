/*
 * ingest.h
 *	  WAL coming in: which compute may write, what it sends, what becomes of it.
 */
#ifndef PS_INGEST_H
#define PS_INGEST_H

#include <time.h>

#include "timeline/timeline.h"

/* ---- generation.c: one writer ---- */

/*
 * A new compute: raises the generation (durable on return), ends the
 * connections of older ones, cuts what they left behind the last whole record,
 * appends a shutdown checkpoint unless its WAL ends with one, makes it
 * durable, waits until it is ingested.  *state is that of its end;
 * *checkpoint_lsn where the record starts.
 */
extern PsError *timeline_new_generation(Timeline *tl, const char *owner, const CancelCheck *cancel, uint64 *generation,
										WalState *state, XLogRecPtr *checkpoint_lsn);

/*
 * timeline_new_generation() for a caller that must not end another compute by
 * mistake.  after 0: refused while a compute is connected.  Else: the
 * generation that the caller knows of; refused with PS_SQLSTATE_SUPERSEDED if
 * there is a newer one, and its compute is superseded, connected or not.
 * Ingest is waited for before the generation is raised, so that a compute is
 * not ended because the store is behind or cannot go on.
 */
extern PsError *timeline_take_over(Timeline *tl, const char *owner, uint64 after, const CancelCheck *cancel, uint64 *generation,
								   WalState *state, XLogRecPtr *checkpoint_lsn);

/* A time as messages and rows have it: UTC. */
#define TIME_TEXT_SIZE 32
extern const char *timeline_time_text(time_t when, char text[TIME_TEXT_SIZE]);

/*
 * Does the WAL up to the state end with a shutdown checkpoint that the
 * timeline's own files have, for a compute to start at?  Any thread.
 */
extern bool timeline_has_checkpoint(const Timeline *tl, const WalState *state);

/* ---- receiver.c: for serve/wal_push.c; one thread at a time calls these for a receiver ---- */
typedef struct WalReceiver WalReceiver;

/* Becomes the writer; ends an older connection of the same generation.  *start is where the stream continues. */
extern PsError *wal_receiver_open(Timeline *tl, uint64 generation, WalReceiver **receiver, XLogRecPtr *start);

/*
 * Writes bytes that follow those before; a gap is an error.  Decodes and checks records.  Waits if
 * ingest lags too far.
 */
extern PsError *wal_receiver_write(WalReceiver *receiver, XLogRecPtr lsn, const char *data, size_t len,
								   const CancelCheck *cancel);

/* Makes everything received durable and passes it to ingest; *flushed is the end of the last whole record. */
extern PsError *wal_receiver_sync(WalReceiver *receiver, XLogRecPtr *flushed);
extern bool wal_receiver_is_superseded(WalReceiver *receiver);

/* Sets the check by which any thread can find out that the client has disconnected; valid until wal_receiver_close(). */
extern void wal_receiver_set_client(WalReceiver *receiver, const CancelCheck *client);

/* Describes what wal_receiver_write() is waiting for; false if nothing is known. */
extern bool wal_receiver_waits_for(WalReceiver *receiver, char *text, size_t size);
extern void wal_receiver_close(WalReceiver *receiver);

/* Is a compute connected, and since when?  After its connection has ended it is not, although the thread may still run. */
extern bool receiver_is_connected(Timeline *tl, time_t *since);

/* The end of the last whole record received; it may not be durable yet, but will be soon. */
extern XLogRecPtr receiver_end_of_records(Timeline *tl);

/* ---- for store/, while a timeline is being opened or closed ---- */

/* The file "flushed": *lsn is what it says, or 0 if it says nothing.  The timeline keeps it open. */
extern PsError *receiver_open_marker(Timeline *tl, XLogRecPtr *lsn);
extern PsError *receiver_sync_marker(Timeline *tl, XLogRecPtr lsn); /* durably */
extern void receiver_close_marker(Timeline *tl);

/* Of a timeline that is not open; 0 also if the file is damaged, which opening the timeline will report. */
extern XLogRecPtr receiver_look_at_marker(const char *dir);

/* The state of the ingest thread, which begins at the state of WAL. */
extern PsError *ingest_create(Timeline *tl, const WalState *state);
extern void ingest_free(Timeline *tl); /* the threads have ended */

/* The threads; arg is the Timeline. */
extern void *ingest_main(void *arg);
extern void *flush_main(void *arg);

#endif /* PS_INGEST_H */
