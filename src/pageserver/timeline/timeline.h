/*
 * timeline.h
 *	  An open timeline: one line of history of a cluster, with its WAL (wal/), its
 *	  layers (layers/) and its manifest (timeline.log).  Users know it as a branch.
 *
 * This is the interface for serve/ and backup/; timeline/engine.h has the struct, for the
 * folders that implement it.  Any thread may call these functions while the timeline is
 * open.
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
	UPKEEP_LEVEL0, /* merges of flushed files, which writers wait for */
	UPKEEP_ALL,
	UPKEEP_KINDS
} UpkeepKind;

#define TIMELINE_NAME_MAX 63

/* Size of an owner, which a compute reports when it starts: a host, a colon, the path of a directory. */
#define OWNER_SIZE (256 + 1 + MAXPGPATH)

extern WalSegments *timeline_wal(Timeline *tl);

/* Is the branch being deleted, its tenant detached, or the store stopped? */
extern bool timeline_is_stopping(Timeline *tl);

/* An error that says why the timeline is stopping, or NULL if it is not.  arg is the Timeline, as for a CancelCheck. */
extern PsError *timeline_check_stopping(void *arg);

/*
 * Waits until WAL up to lsn is ingested; timeout_ms < 0: no limit.  An error after the
 * timeout, or if ingest has failed or the timeline is stopping.  Caller holds no lock.
 */
extern PsError *timeline_wait_ingested(Timeline *tl, XLogRecPtr lsn, int timeout_ms, const CancelCheck *cancel);

/*
 * For longer reads at a past LSN: between timeline_pin() and timeline_unpin() nothing that
 * they need is removed.  An error if it may have been removed already.
 */
extern PsError *timeline_pin(Timeline *tl, XLogRecPtr lsn);

/*
 * Like timeline_pin(), but also keeps the WAL before the LSN, which timeline_state_at()
 * reads.  An error if a branch begins at the LSN and it is before gc_cutoff: there only
 * pages and values are kept.
 */
extern PsError *timeline_pin_wal(Timeline *tl, XLogRecPtr lsn);
extern void timeline_unpin(Timeline *tl, XLogRecPtr lsn);
extern XLogRecPtr timeline_gc_cutoff(Timeline *tl); /* the oldest LSN that can be read */

/* Error PS_SQLSTATE_SUPERSEDED, naming the newer owner, unless generation is 0 or the newest. */
extern PsError *timeline_check_generation(Timeline *tl, uint64 generation);

#endif /* PS_TIMELINE_H */
