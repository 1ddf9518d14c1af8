/*
 * replace.c
 *	  Changes the layer files of a timeline: in the manifest, then in the map.
 */
#include "ps_fe.h"

#include "timeline/engine.h"

/*
 * written: the oldest frozen layer, which is in a file now and is dropped from memory; copy:
 * the manifest no longer names it.  Either may be NULL.
 */
static PsError *
change_files(Timeline *tl, Layer *const *add, int nadd, Layer *const *drop, int ndrop, const Layer *written,
			 const DbCopy *copy)
{
	TimelineChange change = {.copy_done = copy, .add = add, .nadd = nadd, .drop = drop, .ndrop = ndrop};
	LayerSet *set;
	LayerSet *old;
	PsError *err;

	pthread_mutex_lock(&tl->manifest_lock);
	set = timeline_layers(tl);
	change.map = layer_map_change(set->map, add, nadd, drop, ndrop);
	layer_set_unref(set);
	if (written != NULL)
		change.disk_consistent_lsn = layer_info(written)->lsn_end - 1;
	err = timeline_save(tl, &change, NULL);
	if (err == NULL)
	{
		pthread_mutex_lock(&tl->lock);
		if (written != NULL)
			tl->disk_consistent_lsn = change.disk_consistent_lsn;
		old = timeline_set_map(tl, change.map, written != NULL);
		if (written != NULL)
			memory_budget_take(tl->env->memory, &tl->memory, -(int64) open_layer_memory(written));
		pthread_mutex_unlock(&tl->lock);
		layer_set_unref(old);
	}
	else
		layer_map_unref(change.map);
	if (copy != NULL && err == NULL)
		timeline_remove_copy(tl, copy);
	pthread_mutex_unlock(&tl->manifest_lock);
	return err;
}

PsError *
timeline_replace_files(Timeline *tl, Layer *const *add, int nadd, Layer *const *drop, int ndrop)
{
	PS_TRY(change_files(tl, add, nadd, drop, ndrop, NULL, NULL));
	for (int i = 0; i < ndrop; i++)
		layer_remove(drop[i]);
	return NULL;
}

PsError *
timeline_add_flushed(Timeline *tl, Layer *delta, const Layer *written)
{
	return change_files(tl, &delta, 1, NULL, 0, written, NULL);
}

PsError *
timeline_finish_copy(Timeline *tl, Layer *const *add, int nadd, const DbCopy *copy)
{
	return change_files(tl, add, nadd, NULL, 0, NULL, copy);
}
