/*
 * view.h
 *	  Views of a timeline, for callers that read many values at once, and the list
 *	  of pages that were found damaged.
 */
#ifndef PS_READ_VIEW_H
#define PS_READ_VIEW_H

#include "pg/relsize.h"
#include "timeline/engine.h"

/*
 * A view has the layers of a timeline and then those of its ancestors, each up to the LSN
 * at which its descendant begins.  It is used by one thread.  References to values
 * (ValueRef) are valid as long as the view is open.
 */
typedef struct ReadLevel
{
	Timeline *tl;
	LayerSet *set;
	XLogRecPtr lsn; /* later versions are ignored */
} ReadLevel;

typedef struct ReadView
{
	Timeline *tl;
	int n;
	ReadLevel *levels;
	ReadLevel few[2]; /* memory of levels if it is large enough */
} ReadView;

/*
 * Opens a view of everything up to lsn.  Fails if versions at lsn may already have been
 * removed as garbage.  May wait until an ancestor has ingested its WAL after a start.
 * After an error there is nothing to close.
 */
extern PsError *view_open(ReadView *view, Timeline *tl, XLogRecPtr lsn);
extern void view_close(ReadView *view);

/*
 * For a view that stays open for hours: sets *latest to the last LSN up to which the
 * timeline is completely in files, and releases the layers in memory that are not needed
 * for reads up to there.
 */
extern void view_keep_files(ReadView *view, XLogRecPtr *latest);

/* Reads the size of a fork at lsn.  If *exists, the caller frees *size with relsize_free(). */
extern PsError *read_relsize(const ReadView *view, PsRel rel, ForkNumber fork, XLogRecPtr lsn, bool *exists,
							 RelSize *size);

/* ---- damage.c ---- */

/* Logs and remembers a page that could not be read.  Does nothing if the error is not damage (ps_error_is_damage()). */
extern void damage_note(Timeline *tl, const PsKey *key, const PsError *err);

/* Describes the remembered pages in out; "" if there are none.  Caller holds Timeline.lock. */
extern void damage_text(const Timeline *tl, char *out, size_t size);

/* Frees the list; no other thread may use the timeline any more. */
extern void damage_free(Timeline *tl);

/* ---- damage_recheck.c ---- */

/* Reads the remembered pages again, in the newest state, and forgets those that can be read. */
extern void damage_recheck(Timeline *tl);

#endif /* PS_READ_VIEW_H */
