/*
 * read_impl.h
 *	  Shared by the files of this folder.
 */
#ifndef PS_READ_IMPL_H
#define PS_READ_IMPL_H

#include "layer/layer_missing.h"
#include "read/read.h"
#include "read/view.h"

/* ---- plan.c ---- */

/*
 * A plan lists the versions that the values of some keys are made of.  It does not wait
 * for the disk at each key and layer.  It notes which index pages are missing in memory,
 * reads all of them together, and is then made again:
 *
 *	  plan_init()
 *	  do
 *		  err = plan_key() for each key, up to an error
 *	  while (plan_again())
 *	  plan_free()
 *
 * The results of plan_key() are valid only after plan_again() has returned false.
 */
typedef struct Plan
{
	const ReadView *view;
	ValueList versions; /* of all keys */
	/* private to read/prefetch.c */
	LayerMissing missing;
	int keys; /* number of keys planned, for statistics */
	int rounds;
} Plan;

/*
 * Appends the versions of a key with lsn_min <= LSN <= lsn, newest first, up to the first
 * that needs no older one.
 */
extern PsError *plan_key(Plan *plan, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn);

/* The whole loop for a single key, including plan_init().  The caller calls plan_free(), also after an error. */
extern PsError *plan_one_key(Plan *plan, const ReadView *view, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn);

/* ---- prefetch.c ---- */

/*
 * Whether files of the view may have to be fetched, and this thread does not stream them:
 * then it is worth fetching together what will be read.
 */
extern bool view_fetches(const ReadView *view);
extern void plan_init(Plan *plan, const ReadView *view);

/*
 * Returns false if the plan is final.  Otherwise reads what was missing, discards the
 * versions, frees *err and sets it to NULL; the caller makes the plan again.
 */
extern bool plan_again(Plan *plan, PsError **err);
extern void plan_free(Plan *plan);

/* ---- io.c ---- */

/* Reads the value of a reference into buf, and sets *record_start, unless that is NULL, if it is a record. */
extern PsError *read_ref(const ReadView *view, const ValueRef *ref, StringInfo buf, XLogRecPtr *record_start);

/* ---- damage.c: callers do not hold Timeline.lock ---- */

/* At most this many pages are remembered; beyond that only that there are more. */
#define DAMAGE_MAX 64

/* Copies the keys of the remembered pages; returns their number. */
extern int damage_list(Timeline *tl, PsKey keys[DAMAGE_MAX]);

/* Forgets a page that was remembered when damage_list() was called. */
extern void damage_forget(Timeline *tl, const PsKey *key);

#endif /* PS_READ_IMPL_H */
