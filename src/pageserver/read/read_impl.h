/*
 * read_impl.h
 *	  What the files of this folder know of each other.
 */
#ifndef PS_READ_IMPL_H
#define PS_READ_IMPL_H

#include "layer/layer_missing.h"
#include "read/read.h"
#include "read/view.h"

/* ---- plan.c ---- */

/*
 * The versions that keys are made of.  It does not wait for the disk key by key
 * and layer by layer, but once for all that it misses, and is then made again:
 *
 *	  plan_init()
 *	  do
 *		  err = plan_key() for each key, up to an error
 *	  while (plan_again())
 *	  plan_free()
 *
 * While it is not made for the last time, what plan_key() gives means nothing.
 */
typedef struct Plan
{
	const ReadView *view;
	ValueList versions; /* of all keys */
	/* inside (read/prefetch.c) */
	LayerMissing missing;
	int keys; /* that were planned */
	int rounds;
} Plan;

/* Adds the versions of a key with lsn_min <= LSN <= lsn, newest first, until one needs nothing older. */
extern PsError *plan_key(Plan *plan, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn);

/* The plan of one key, from plan_init() on. */
extern PsError *plan_one_key(Plan *plan, const ReadView *view, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn);

/* ---- prefetch.c ---- */
extern void plan_init(Plan *plan, const ReadView *view);
extern bool plan_again(Plan *plan, PsError **err); /* true: err is NULL, there are no versions */
extern void plan_free(Plan *plan);

/* ---- io.c ---- */

/* Reads whatever a reference is of, into buf.  Of a record, *record_start. */
extern PsError *read_ref(const ReadView *view, const ValueRef *ref, StringInfo buf, XLogRecPtr *record_start);

#endif /* PS_READ_IMPL_H */
