/*
 * timeline.h
 *	  Tenants and timelines: what the servers of connections (serve/), base
 *	  backups (backup/) and ingest work on.
 *
 * A timeline is one line of history of a cluster: its WAL (wal/), its layers
 * (layers/), its manifest (timeline.json).  A user sees it as a branch.
 */
#ifndef PS_TIMELINE_H
#define PS_TIMELINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/cancel.h"
#include "layer/layer.h"
#include "redo/redo.h"
#include "wal/wal.h"

typedef struct Timeline Timeline;

#define TIMELINE_NAME_MAX 63

/* Who runs a branch, as the start of a compute tells: a host, a colon, the path of a directory. */
#define OWNER_SIZE (256 + 1 + MAXPGPATH)

/* What the settings file says; see config.h for names, units and defaults. */
struct Config;

/*
 * Where a branch stood at a moment: just before the first commit or abort with
 * a later time; of all that was acknowledged, which is waited for as reads do.
 * *at: the branch, or an ancestor of it if that is before its beginning.
 * read/pitr.c says what it means when the times of commits do not rise.
 */
extern PsError *timeline_lsn_at_time(Timeline *tl, TimestampTz when, const CancelCheck *cancel, Timeline **at, XLogRecPtr *lsn);

/* The commits, or aborts, between which an LSN of a branch is. */
typedef struct CommitsAround
{
	bool has_last; /* false: there was none, or it is not known */
	TimestampTz last;
	XLogRecPtr last_end;
	bool next_known; /* false: there may be one, far away */
	bool has_next;
	TimestampTz next;
} CommitsAround;

/* Of an LSN before the branch's beginning it is found in its ancestors.  Waits as timeline_lsn_at_time() does. */
extern PsError *timeline_commits_around(Timeline *tl, XLogRecPtr lsn, const CancelCheck *cancel, CommitsAround *around);

/* ---- timeline.c ---- */
extern WalSegments *timeline_wal(Timeline *tl);
extern bool timeline_is_stopping(Timeline *tl); /* it is taken away, or the store stops */

/* An error that says why the timeline is stopping, or NULL if it is not.  arg is the Timeline, as for a CancelCheck. */
extern PsError *timeline_check_stopping(void *arg);

/*
 * Waits until reads see WAL up to lsn; timeout_ms < 0: no limit.  An error if
 * the time is over, ingest has stopped or the store is stopping.  No lock may
 * be held.
 */
extern PsError *timeline_wait_ingested(Timeline *tl, XLogRecPtr lsn, int timeout_ms, const CancelCheck *cancel);

/*
 * Merges layer files, makes images and removes what cannot be read any more:
 * what the store's upkeep threads do, now and in this thread.  all: also where
 * it is not due yet.
 */
extern PsError *maintain_timeline(Timeline *tl, bool all);

/*
 * maintain/verify.c: reads and checks all files of the timeline, at most so many
 * megabytes a second.  report is told of each: its path in the timeline's
 * directory, its size, and what is wrong with it, or NULL.  Files of WAL are told
 * of as one.  What is damaged shows in TimelineInfo.error until it is found well.
 */
typedef void (*VerifyReport)(void *arg, const char *file, uint64 bytes, const char *damage);
extern PsError *verify_timeline(Timeline *tl, int megabytes_per_second, const CancelCheck *cancel, VerifyReport report, void *arg);

/* ---- generations: one writer (FACTS 2) ---- */

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

/* Error PS_SQLSTATE_SUPERSEDED, naming the newer owner, unless generation is 0 or the newest. */
extern PsError *timeline_check_generation(Timeline *tl, uint64 generation);

/* ---- wal_push: what the receiver (serve/wal_push.c) calls; one at a time ---- */
typedef struct WalReceiver WalReceiver;

/* Takes the writer's place (an older connection of the same generation is ended); *start is where the stream goes on. */
extern PsError *wal_receiver_open(Timeline *tl, uint64 generation, WalReceiver **receiver, XLogRecPtr *start);

/* Bytes that follow what came before; a gap is an error.  Decodes and checks; waits if ingest lags too far. */
extern PsError *wal_receiver_write(WalReceiver *receiver, XLogRecPtr lsn, const char *data, size_t len,
								   const CancelCheck *cancel);

/* Makes all of it durable and hands it to ingest; *flushed is the end of the last whole record. */
extern PsError *wal_receiver_sync(WalReceiver *receiver, XLogRecPtr *flushed);
extern bool wal_receiver_is_superseded(WalReceiver *receiver);

/* Tells any thread whether the client has gone; it must live until wal_receiver_close(). */
extern void wal_receiver_set_client(WalReceiver *receiver, const CancelCheck *client);

/* What wal_receiver_write() waits for, if it does not return; false: for nothing that is known. */
extern bool wal_receiver_waits_for(WalReceiver *receiver, char *text, size_t size);
extern void wal_receiver_close(WalReceiver *receiver);

/* ---- reads: read/read.c.  lsn: as resolved by timeline_read_lsn() ---- */

/*
 * The LSN to read at for a request: waits for not_modified_since, checks
 * bounds.  PS_LSN_LATEST: everything that is ingested.
 */
extern PsError *timeline_read_lsn(Timeline *tl, XLogRecPtr request_lsn, XLogRecPtr not_modified_since,
								  const CancelCheck *cancel, XLogRecPtr *lsn);

/*
 * For reads at an LSN of the past that go on for longer: from timeline_pin() to
 * timeline_unpin() nothing that they need is removed.  An error if it may be
 * gone already.
 */
extern PsError *timeline_pin(Timeline *tl, XLogRecPtr lsn);

/*
 * The same for who needs the WAL before it, too: timeline_state_at().  Where a
 * branch begins only pages and values are kept, once that is before gc_cutoff.
 */
extern PsError *timeline_pin_wal(Timeline *tl, XLogRecPtr lsn);
extern void timeline_unpin(Timeline *tl, XLogRecPtr lsn);
extern XLogRecPtr timeline_gc_cutoff(Timeline *tl); /* the oldest LSN that can be read */

/* Pages of one fork, in the order of blks, n * BLCKSZ bytes; no version: zeros. */
extern PsError *timeline_read_pages(Timeline *tl, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n,
									XLogRecPtr lsn, char *pages);

/*
 * The same for who can do with some of them: errors[i] says why blks[i] could
 * not be read, or is NULL.  An error that concerns all of them is returned, and
 * errors are not set.
 */
extern PsError *timeline_read_each_page(Timeline *tl, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n,
										XLogRecPtr lsn, char *pages, PsError **errors);
extern PsError *timeline_read_relsize(Timeline *tl, PsRel rel, ForkNumber fork, XLogRecPtr lsn, bool *exists,
									  BlockNumber *nblocks);

/* Any other key (not RELBLOCK): SLRU pages are reconstructed. */
extern PsError *timeline_read_value(Timeline *tl, const PsKey *key, XLogRecPtr lsn, StringInfo value, bool *found);

/*
 * Every key from lo to hi (any kind but RELBLOCK) that exists at lsn,
 * ascending, with its value.
 */
typedef PsError *(*KeyCallback)(void *arg, const PsKey *key, const char *value, uint32 len);
extern PsError *timeline_scan(Timeline *tl, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn, KeyCallback cb, void *arg);

/* Number of blocks out of the value of a RELSIZE or INITSIZE key, as timeline_scan() gives it. */
extern BlockNumber relsize_value_nblocks(const char *value, uint32 len);

/*
 * The state at the end of the last record at or before lsn (state->end tells
 * which): from the newest saved state, decoding WAL from there.
 */
extern PsError *timeline_state_at(Timeline *tl, XLogRecPtr lsn, WalState *state);

#endif /* PS_TIMELINE_H */
