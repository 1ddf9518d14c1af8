/*
 * plan.c
 *	  Which versions a read needs: the index alone says so, no value is read.
 */
#include "ps_fe.h"

#include "timeline_impl.h"

PsError *
plan_key(const LayerSet *set, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn, ValueList *list)
{
	bool		done = false;

	PS_TRY(layer_collect(set->open, key, lsn_min, lsn, list, &done));
	for (int i = 0; i < set->nfrozen && !done; i++)
		PS_TRY(layer_collect(set->frozen[i], key, lsn_min, lsn, list, &done));
	if (!done)
		PS_TRY(layer_map_collect(set->map, key, lsn_min, lsn, list, &done));
	return NULL;
}
