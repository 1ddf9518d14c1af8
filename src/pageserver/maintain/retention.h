/*
 * retention.h
 *	  Determines which versions of a key may still be read.
 *
 * From the horizon on, every LSN can be read; before it only single points: where branches
 * begin, and where somebody holds a lease.  A read of a key at a point needs the versions
 * from the newest that needs no older one, at or before the point, up to the point.  All
 * other versions are garbage, in whatever file they are.
 */
#ifndef PS_RETENTION_H
#define PS_RETENTION_H

#include "layer/layer.h"

/*
 * Sets *floor: versions of the key at or before it are ignored at point i (Retention.npoints
 * stands for the horizon).  PG_UINT64_MAX: the key does not exist there.
 */
typedef PsError *(*RetentionFloor)(void *arg, const PsKey *key, int i, XLogRecPtr *floor);

typedef struct Retention
{
	XLogRecPtr horizon;
	const XLogRecPtr *points; /* before the horizon, ascending, without duplicates */
	int npoints;
	RetentionFloor floor; /* NULL: no versions are ignored */
	void *arg;
} Retention;

/*
 * What is needed of one key: for each point i, and last for the horizon, versions with
 * from[i] <= LSN <= the point; if there are none, from[i] is beyond the point.
 */
typedef struct KeyRetention
{
	const Retention *retention;
	XLogRecPtr *from;   /* npoints + 1 */
	XLogRecPtr *floors; /* npoints + 1 */
	int first;          /* first point that is not before the newest version added so far */
} KeyRetention;

extern void key_retention_init(KeyRetention *kr, const Retention *retention);
extern void key_retention_free(KeyRetention *kr);

/*
 * key_retention_begin() starts a key, key_retention_add() is called for each of its
 * versions in ascending order of LSN, and then key_retention_needs() says which are needed.
 */
extern PsError *key_retention_begin(KeyRetention *kr, const PsKey *key);
extern void key_retention_add(KeyRetention *kr, XLogRecPtr lsn, bool will_init);
extern bool key_retention_needs(const KeyRetention *kr, XLogRecPtr lsn);

#endif /* PS_RETENTION_H */
