/*
 * retention.h
 *	  Which versions of a key somebody may still read.
 *
 * Everything from the horizon on can be read, at any LSN; before it only single
 * points: where branches begin, and where somebody holds a lease.  To read a
 * key at a point, the versions from the newest that needs nothing older, at or
 * before the point, up to the point are needed.  All others are garbage,
 * wherever they are.
 */
#ifndef PS_KEEP_RETENTION_H
#define PS_KEEP_RETENTION_H

#include "layer/layer.h"

/*
 * Versions of the key at or before *floor do not count at the i-th point
 * (Retention.npoints stands for the horizon); PG_UINT64_MAX: the key is not
 * there at all.
 */
typedef PsError *(*RetentionFloor)(void *arg, const PsKey *key, int i, XLogRecPtr *floor);

typedef struct Retention
{
	XLogRecPtr horizon;
	const XLogRecPtr *points; /* before the horizon, ascending, no two the same */
	int npoints;
	RetentionFloor floor; /* NULL: all versions count */
	void *arg;
} Retention;

/*
 * What is needed of one key: for each point, and last the horizon, versions
 * with from[i] <= LSN <= the point; from[i] is beyond it if there are none.
 */
typedef struct KeyRetention
{
	const Retention *retention;
	XLogRecPtr *from;   /* npoints + 1 */
	XLogRecPtr *floors; /* the same number */
	int first;          /* points before this one are before all versions seen so far */
} KeyRetention;

extern void key_retention_init(KeyRetention *kr, const Retention *retention);
extern void key_retention_free(KeyRetention *kr);

/*
 * A new key; then each of its versions, ascending by LSN.  Afterwards
 * key_retention_needs() can be asked.
 */
extern PsError *key_retention_begin(KeyRetention *kr, const PsKey *key);
extern void key_retention_add(KeyRetention *kr, XLogRecPtr lsn, bool will_init);
extern bool key_retention_needs(const KeyRetention *kr, XLogRecPtr lsn);

#endif /* PS_KEEP_RETENTION_H */
