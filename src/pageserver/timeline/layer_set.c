/*
 * layer_set.c
 *	  The layers of a timeline that a reader uses: see layer_set.h.
 */
#include "ps_fe.h"

#include "timeline/layer_set.h"

LayerSet *
layer_set_create(Layer *open, Layer *const *frozen, int nfrozen, LayerMap *map)
{
	LayerSet *set = pg_malloc0(sizeof(LayerSet));

	atomic_init(&set->refcount, 1);
	set->open = open;
	set->nfrozen = nfrozen;
	if (nfrozen > 0)
		memcpy(set->frozen, frozen, nfrozen * sizeof(Layer *));
	set->map = map;
	return set;
}

void
layer_set_unref(LayerSet *set)
{
	if (set == NULL || atomic_fetch_sub(&set->refcount, 1) > 1)
		return;
	layer_unref(set->open);
	for (int i = 0; i < set->nfrozen; i++)
		layer_unref(set->frozen[i]);
	layer_map_unref(set->map);
	free(set);
}

XLogRecPtr
layer_set_memory_start(const LayerSet *set)
{
	return layer_info(set->nfrozen > 0 ? set->frozen[set->nfrozen - 1] : set->open)->lsn_start;
}

LayerSet *
layer_set_files(const LayerSet *set)
{
	return layer_set_create(open_layer_create(layer_set_memory_start(set)), NULL, 0, layer_map_ref(set->map));
}

int
layers_damaged(const LayerMap *map, char name[LAYER_NAME_MAX])
{
	int n = 0;

	for (int i = 0; i < layer_map_count(map); i++)
		if (layer_is_damaged(layer_map_get(map, i)) && n++ == 0)
			layer_name(layer_map_get(map, i), name);
	return n;
}
