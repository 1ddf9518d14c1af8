/*
 * replace.c
 *	  Putting layer files in the place of others.
 */
#include "ps_fe.h"

#include "keep/keep.h"
#include "ps_wire.h"

PsError *
keep_replace(Timeline *tl, Layer *const *add, int nadd, Layer *const *drop, int ndrop)
{
	LayerSet   *set;
	LayerSet   *old;
	LayerMap   *map;
	PsError    *err;

	pthread_mutex_lock(&tl->manifest_lock);
	set = timeline_layers(tl);
	map = layer_map_change(set->map, add, nadd, drop, ndrop);
	layer_set_unref(set);
	err = timeline_save(tl, map, tl->disk_consistent_lsn, tl->generation, tl->owner, add, nadd);
	if (err == NULL)
	{
		pthread_mutex_lock(&tl->lock);
		old = timeline_set_map(tl, map, 0);
		pthread_mutex_unlock(&tl->lock);
		layer_set_unref(old);
	}
	else
		layer_map_unref(map);
	pthread_mutex_unlock(&tl->manifest_lock);

	if (err == NULL)
		for (int i = 0; i < ndrop; i++)
			layer_remove(drop[i]);
	return err;
}
