/*
 * timeline.h
 *	  A timeline that is open: one line of history of a cluster, with its WAL
 *	  (wal/), its layers (layers/), its manifest (timeline.json).  A user sees it
 *	  as a branch.
 *
 * For callers that use one and need not know how it is made: serve/, backup/.
 * timeline/engine.h has its inside, for the folders that are its parts.  Any
 * thread may call these functions as long as the timeline is open.
 */
#ifndef PS_TIMELINE_H
#define PS_TIMELINE_H

#include "base/cancel.h"
#include "pg/walstate.h"
#include "wal/segments.h"

typedef struct Timeline Timeline;

/* Two kinds of upkeep, each with threads of its own (store/upkeep.c). */
typedef enum UpkeepKind
{
	UPKEEP_LEVEL0, /* merges of what was flushed, which writers wait for */
	UPKEEP_ALL,
	UPKEEP_KINDS
} UpkeepKind;

#define TIMELINE_NAME_MAX 63

/* Who runs a branch, as the start of a compute reports: a host, a colon, the path of a directory. */
#define OWNER_SIZE (256 + 1 + MAXPGPATH)

extern WalSegments *timeline_wal(Timeline *tl);
extern bool timeline_is_stopping(Timeline *tl); /* the branch is being deleted, its tenant detached, or the store stopped */

/* An error that says why the timeline is stopping, or NULL if it is not.  arg is the Timeline, as for a CancelCheck. */
extern PsError *timeline_check_stopping(void *arg);

/*
 * Waits until reads see WAL up to lsn; timeout_ms < 0: no limit.  An error if
 * the time is over, ingest has stopped or the store is stopping.  No lock may
 * be held.
 */
extern PsError *timeline_wait_ingested(Timeline *tl, XLogRecPtr lsn, int timeout_ms, const CancelCheck *cancel);

/*
 * For reads at an LSN of the past that go on for longer: from timeline_pin() to
 * timeline_unpin() nothing that they need is removed.  An error if it may be
 * gone already.
 */
extern PsError *timeline_pin(Timeline *tl, XLogRecPtr lsn);

/*
 * Like timeline_pin(), and keeps the WAL before the LSN that timeline_state_at() reads.  Where a
 * branch begins only pages and values are kept, once that is before gc_cutoff.
 */
extern PsError *timeline_pin_wal(Timeline *tl, XLogRecPtr lsn);
extern void timeline_unpin(Timeline *tl, XLogRecPtr lsn);
extern XLogRecPtr timeline_gc_cutoff(Timeline *tl); /* the oldest LSN that can be read */

/* Error PS_SQLSTATE_SUPERSEDED, naming the newer owner, unless generation is 0 or the newest. */
extern PsError *timeline_check_generation(Timeline *tl, uint64 generation);

#endif /* PS_TIMELINE_H */
