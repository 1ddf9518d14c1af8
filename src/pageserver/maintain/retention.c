/*
 * retention.c
 *	  Determines which versions of a key may still be read: see retention.h.
 */
#include "ps_fe.h"

#include "maintain/retention.h"

void
key_retention_init(KeyRetention *kr, const Retention *retention)
{
	kr->retention = retention;
	kr->from = pg_malloc((retention->npoints + 1) * sizeof(XLogRecPtr));
	kr->floors = pg_malloc((retention->npoints + 1) * sizeof(XLogRecPtr));
}

void
key_retention_free(KeyRetention *kr)
{
	free(kr->from);
	free(kr->floors);
}

static XLogRecPtr
point(const Retention *retention, int i)
{
	return i < retention->npoints ? retention->points[i] : retention->horizon;
}

PsError *
key_retention_begin(KeyRetention *kr, const PsKey *key)
{
	const Retention *r = kr->retention;

	for (int i = 0; i <= r->npoints; i++)
	{
		kr->floors[i] = 0;
		if (r->floor != NULL)
			PS_TRY(r->floor(r->arg, key, i, &kr->floors[i]));
		kr->from[i] = kr->floors[i] == PG_UINT64_MAX ? PG_UINT64_MAX : kr->floors[i] + 1;
	}
	kr->first = 0;
	return NULL;
}

void
key_retention_add(KeyRetention *kr, XLogRecPtr lsn, bool will_init)
{
	const Retention *r = kr->retention;

	while (kr->first <= r->npoints && point(r, kr->first) < lsn)
		kr->first++;
	if (!will_init)
		return;
	for (int i = kr->first; i <= r->npoints; i++)
		kr->from[i] = Max(kr->from[i], lsn);
}

bool
key_retention_needs(const KeyRetention *kr, XLogRecPtr lsn)
{
	const Retention *r = kr->retention;
	int lo = 0;
	int hi = r->npoints + 1;

	if (lsn > r->horizon)
		return true;

	/*
	 * Find the first point at or after the LSN.  A version that it does not need is not needed at
	 * later points either, unless the floors differ, so those are checked, too.
	 */
	while (lo < hi)
	{
		int mid = (lo + hi) / 2;

		if (point(r, mid) < lsn)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (int i = lo; i <= r->npoints; i++)
		if (kr->from[i] <= lsn)
			return true;
	return false;
}
