/*
 * maintain_impl.h
 *	  Upkeep of a timeline's layer files: what the files of this folder know of
 *	  each other.
 *
 * All of it works on files that are in the manifest, beside ingest and flush,
 * which only add files.  Nothing else removes files.  So for one timeline it runs in
 * one thread at a time (Timeline.upkeep_lock), except merges of level 0, which may
 * run at the same time as the rest (Timeline.level0_lock).
 */
#ifndef PS_MAINTAIN_IMPL_H
#define PS_MAINTAIN_IMPL_H

#include "maintain/maintain.h"
#include "maintain/retention.h"
#include "read/read.h"
#include "read/view.h"

/* ---- room.c: room on the disk beside min_free_space and what others write ---- */
extern uint64 room_left(const Timeline *tl);

/* False if there is not so much.  After a success the caller calls room_release() when the files are written, or given up. */
extern bool room_reserve(Timeline *tl, uint64 bytes);
extern void room_release(Timeline *tl, uint64 bytes);

/* Is less than min_free_space free by now? */
extern bool room_is_over(const Timeline *tl);

/* "WHAT until N MB are free": for what needs so many bytes. */
extern PsError *room_error(const Timeline *tl, uint64 bytes, const char *what);

/* ---- history.c: what can still be read ---- */

/*
 * A Retention of the timeline as it is now, and what it needs; end with
 * history_free().  If nobody knows what is needed (TimelineEnv.keep_all), all is.
 */
typedef struct History
{
	Retention retention;
	Timeline *tl;
	XLogRecPtr *points;
	XLogRecPtr wal_from; /* where the WAL that stays begins */
	ReadView view;
	/* sizes of the fork that was asked for last, at each point and the horizon */
	PsKey fork; /* its size's key; kind 0: none */
	bool *exists;
	RelSize *sizes;
} History;

extern PsError *history_init(History *history, Timeline *tl);

/* Raises gc_cutoff to where the settings have the horizon now.  Caller holds upkeep_lock. */
extern void history_advance(Timeline *tl);
extern void history_free(History *history);

/* ---- compact.c ---- */

/*
 * Merges the files of level 0, if there are enough; *done false: there was
 * nothing to do.  If there is no room for all, the oldest are merged; if there
 * is not even for two, that is an error, for writers are slowed.  Takes
 * level0_lock; upkeep_lock is not needed.
 */
extern PsError *compact_level0(Timeline *tl, bool *done);

/*
 * Merges the files of the lowest level above 0 that has enough.  Without room for that
 * it is put off, with a warning in the log.  Caller holds upkeep_lock, as for all
 * functions that follow.
 */
extern PsError *compact_levels(Timeline *tl, bool *done);

/* ---- db_copy.c ---- */

/* Writes the pages of databases that were copied, of those whose record is in layer files. */
extern PsError *copy_databases(Timeline *tl);

/* ---- images.c ---- */

/* Makes image files of the key ranges where deltas have piled up; *made: how many. */
extern PsError *make_images(Timeline *tl, bool all, int *made);

/* Makes image files where branches begin, of what only they can read; considered once for each branch. */
extern PsError *make_branch_images(Timeline *tl, int *made);

/* ---- gc.c ---- */
typedef struct GcResult
{
	int removed; /* files */
	int rewritten;
	int wal_removed; /* segments */
	uint64 bytes_before;
	uint64 bytes_after;
} GcResult;

/* Removes what nobody can read any more. */
extern PsError *gc_run(Timeline *tl, GcResult *result);

/* ---- pack.c ---- */

/* Compresses the WAL files of which all is in layer files.  */
extern PsError *pack_wal(Timeline *tl);

#endif /* PS_MAINTAIN_IMPL_H */
