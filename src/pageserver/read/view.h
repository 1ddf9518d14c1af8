/*
 * view.h
 *	  What a read looks at, for callers that read many values of one view; and
 *	  pages that were found damaged.
 */
#ifndef PS_READ_VIEW_H
#define PS_READ_VIEW_H

#include "pg/relsize.h"
#include "timeline/engine.h"

/*
 * What a read looks at: the layers of a timeline, then those of its ancestors,
 * each up to where the one before branches off.  One thread's.  References to
 * values (ValueRef) are valid as long as it is open.
 */
typedef struct ReadLevel
{
	Timeline *tl;
	LayerSet *set;
	XLogRecPtr lsn; /* nothing later counts */
} ReadLevel;

typedef struct ReadView
{
	Timeline *tl;
	int n;
	ReadLevel *levels;
	ReadLevel few[2]; /* levels, if they are not more */
} ReadView;

/* Everything up to lsn; an error if that may be gone.  After an error there is nothing to close. */
extern PsError *view_open(ReadView *view, Timeline *tl, XLogRecPtr lsn);
extern void view_close(ReadView *view);

/*
 * For a view that is kept open for hours: lets go of the layers in memory that are not
 * needed up to *latest, the last LSN at which all of the timeline is in files.
 */
extern void view_keep_files(ReadView *view, XLogRecPtr *latest);

/* Size of a fork at lsn; the caller frees *size with relsize_free() if it exists. */
extern PsError *read_relsize(const ReadView *view, PsRel rel, ForkNumber fork, XLogRecPtr lsn, bool *exists, RelSize *size);

/* ---- damage.c ---- */

/* A page that could not be made; of an error that is no damage (ps_error_is_damage()) nothing is noted. */
extern void damage_note(Timeline *tl, const PsKey *key, const PsError *err);

/* Forgets those that can be read now; reads them. */
extern void damage_look_again(Timeline *tl);

/* Which there are, "" if there are none.  Caller holds Timeline.lock. */
extern void damage_text(const Timeline *tl, char *out, size_t size);
extern void damage_free(Timeline *tl);

#endif /* PS_READ_VIEW_H */
