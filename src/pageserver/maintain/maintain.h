/*
 * maintain.h
 *	  Upkeep of the layer files of an open timeline, and checking its files.
 */
#ifndef PS_MAINTAIN_H
#define PS_MAINTAIN_H

#include "timeline/timeline.h"

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

/*
 * Like verify_timeline(), for a timeline that is not open, and is not opened for
 * that.  broken: why it cannot be opened, which counts as damage of its manifest;
 * NULL, or freed.  The caller's check must cancel this if the files do not stay.
 */
struct TimelineSpec;
extern PsError *verify_closed(struct TimelineSpec *spec, PsError *broken, int megabytes_per_second, const CancelCheck *cancel,
							  VerifyReport report, void *arg);

/* ---- maintain_timeline.c: for the upkeep threads, which hold no lock ---- */

/* Are there enough files of level 0 to be merged? */
extern bool maintain_has_level0(Timeline *tl);

/* Merges files of level 0 as long as there are enough; sets *any if some were, so that maintain_all() may have work. */
extern PsError *maintain_level0(Timeline *tl, bool *any);

/* Does everything else that is due. */
extern PsError *maintain_all(Timeline *tl);

/*
 * Is there nothing to do until a flush adds a file?  That is so if time alone
 * will not move the horizon any further (find_horizon() in history.c).
 */
extern bool maintain_is_quiet(Timeline *tl);

/* Shows how upkeep of the kind ended (err or NULL) in TimelineInfo; true if it is another error than the last time. */
extern bool maintain_set_error(Timeline *tl, UpkeepKind kind, const PsError *err);

#endif /* PS_MAINTAIN_H */
