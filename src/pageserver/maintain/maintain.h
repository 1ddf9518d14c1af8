/*
 * maintain.h
 *	  Upkeep of the layer files of a timeline, and verification of its files.
 *
 * Callers hold none of the timeline's locks, and keep it open.
 */
#ifndef PS_MAINTAIN_H
#define PS_MAINTAIN_H

#include "timeline/timeline.h"

/*
 * Does all upkeep of the timeline now, in the calling thread: merges layer files, writes
 * images, removes what cannot be read any more.  "all": does not wait until images and
 * garbage collection are due.  A failed step does not prevent the others; returns the
 * first error.
 */
extern PsError *maintain_timeline(Timeline *tl, bool all);

/*
 * Reads and checks all files of the timeline, at most megabytes_per_second (verify.c).
 * Calls report for each file, with its path in the timeline's directory, its size, and a
 * description of the damage, or NULL.  All WAL files are reported as one, "wal".  Damage is
 * also shown in TimelineInfo.error until the file is found to be valid.  Returns an error
 * only if the check could not be completed.
 */
typedef void (*VerifyReport)(void *arg, const char *file, uint64 bytes, const char *damage);
extern PsError *verify_timeline(Timeline *tl, int megabytes_per_second, const CancelCheck *cancel, VerifyReport report,
								void *arg);

/*
 * Like verify_timeline(), but for a timeline that is closed and stays closed.  broken, which
 * is freed, is NULL or the error with which it could not be opened; that is reported as
 * damage of the manifest.  The check of "cancel" must return an error once the files may be
 * removed.
 */
struct TimelineSpec;
extern PsError *verify_closed(struct TimelineSpec *spec, PsError *broken, int megabytes_per_second,
							  const CancelCheck *cancel, VerifyReport report, void *arg);

/* ---- maintain_timeline.c: for the upkeep threads ---- */

/* Are there enough files of level 0 to be merged? */
extern bool maintain_has_level0(Timeline *tl);

/*
 * Merges files of level 0 as long as there are enough.  Sets *any if it merged some, because
 * maintain_all() may have work then.
 */
extern PsError *maintain_level0(Timeline *tl, bool *any);

/* Does everything else that is due. */
extern PsError *maintain_all(Timeline *tl);

/*
 * Is there nothing to do until a flush adds a file?  True if the passing of time will not
 * move the horizon any further (find_horizon() in history.c), and nothing has become unreadable
 * since the last search for garbage.
 */
extern bool maintain_is_quiet(Timeline *tl);

/*
 * Shows in TimelineInfo how upkeep of this kind ended (err or NULL).  Returns true if it is an
 * error, and another one than before.
 */
extern bool maintain_set_error(Timeline *tl, UpkeepKind kind, const PsError *err);

#endif /* PS_MAINTAIN_H */
