/*
 * maintain_impl.h
 *	  Shared by the files of this folder.
 *
 * Upkeep works on files that are in the manifest, while ingest and flushes add others.
 * Nothing else removes files.  Upkeep of a timeline runs in one thread at a time
 * (Timeline.upkeep_lock), except that merges of level 0 may run at the same time as the
 * rest (Timeline.level0_lock).
 */
#ifndef PS_MAINTAIN_IMPL_H
#define PS_MAINTAIN_IMPL_H

#include "maintain/maintain.h"
#include "maintain/retention.h"
#include "read/read.h"
#include "read/view.h"

/* ---- room.c: disk space beyond min_free_space and the reservations of others ---- */
extern uint64 room_left(const Timeline *tl);

/*
 * Reserves disk space; false if there is not enough.  After a success the caller calls
 * room_release() when the files are written or abandoned.
 */
extern bool room_reserve(Timeline *tl, uint64 bytes);
extern void room_release(Timeline *tl, uint64 bytes);

/* Has less than min_free_space become free? */
extern bool room_is_exhausted(const Timeline *tl);

/* Makes the error "WHAT until N MB are free in DIRECTORY" for something that needs "bytes". */
extern PsError *room_error(const Timeline *tl, uint64 bytes, const char *what);

/* ---- history.c: what can still be read ---- */

/*
 * The Retention of a timeline at this time, with what its callback uses; free it with
 * history_free(), also after an error.  If it is unknown what is needed
 * (TimelineEnv.keep_all), everything is.
 */
typedef struct History
{
	Retention retention;
	Timeline *tl;
	XLogRecPtr *points;
	XLogRecPtr wal_from; /* WAL is needed from here on */
	ReadView view;
	/* sizes of the fork that was last asked for, at each point and at the horizon */
	PsKey fork; /* key of its size; kind 0: none */
	bool *exists;
	RelSize *sizes;
} History;

extern PsError *history_init(History *history, Timeline *tl);

/* Raises gc_cutoff to the horizon that follows from the settings.  Caller holds upkeep_lock. */
extern void history_advance(Timeline *tl);
extern void history_free(History *history);

/* ---- compact.c ---- */

/*
 * Merges the files of level 0 if there are enough, and sets *done.  Without disk space for
 * all of them it merges the oldest.  Without space for two it fails, because writers are
 * slowed until level 0 is merged.  Takes level0_lock; upkeep_lock is not needed.
 */
extern PsError *compact_level0(Timeline *tl, bool *done);

/*
 * Merges the files of the lowest level above 0 that has enough, and sets *done.  Without
 * disk space it does nothing except log a warning once an hour.  The caller holds
 * upkeep_lock, as for all functions below.
 */
extern PsError *compact_levels(Timeline *tl, bool *done);

/* ---- db_copy.c ---- */

/* Writes the pages of copied databases whose record is in layer files. */
extern PsError *copy_databases(Timeline *tl);

/* ---- images.c ---- */

/*
 * Writes image files for key ranges where many deltas have accumulated; "all": wherever there
 * are deltas.  *made is their number.
 */
extern PsError *make_images(Timeline *tl, bool all, int *made);

/* Writes image files at the beginnings of branches before the horizon.  Each branch is considered once. */
extern PsError *make_branch_images(Timeline *tl, int *made);

/* ---- gc.c ---- */
typedef struct GcResult
{
	int removed;     /* files */
	int rewritten;   /* files */
	int wal_removed; /* segments */
	int postponed;   /* files that were not rewritten for lack of disk space */
	uint32 readable; /* pins_digest() of what was considered readable */
	uint64 bytes_before;
	uint64 bytes_after;
} GcResult;

/* Removes files, parts of files and WAL that nobody can read any more.  Not while TimelineEnv.keep_all is set. */
extern PsError *gc_run(Timeline *tl, GcResult *result);

/* ---- pack.c ---- */

/* Compresses WAL files whose contents are completely in layer files. */
extern PsError *pack_wal(Timeline *tl);

#endif /* PS_MAINTAIN_IMPL_H */
