/*
 * layer_set.h
 *	  The layers of a timeline that a reader uses.
 */
#ifndef PS_LAYER_SET_H
#define PS_LAYER_SET_H

#include <stdatomic.h>

#include "layer/layer_map.h"
#include "layer/open_layer.h"

/* Maximum number of layers in memory that wait to be written; if it is reached, ingest waits. */
#define MAX_FROZEN 3

/*
 * An immutable set with a reference count; Timeline.layers is replaced under
 * Timeline.lock.  From the newest to the oldest: open, frozen[0], frozen[1], ..., map.
 */
typedef struct LayerSet
{
	atomic_int refcount;
	Layer *open;
	int nfrozen;
	Layer *frozen[MAX_FROZEN];
	LayerMap *map;
} LayerSet;

/* The set owns the references from now on. */
extern LayerSet *layer_set_create(Layer *open, Layer *const *frozen, int nfrozen, LayerMap *map);
extern void layer_set_unref(LayerSet *set);

/* A new set with only the files of this one. */
extern LayerSet *layer_set_files(const LayerSet *set);

/* All WAL before this LSN is in the files of the set. */
extern XLogRecPtr layer_set_memory_start(const LayerSet *set);

/* Returns how many files of the map are known to be damaged; name: of the first. */
extern int layers_damaged(const LayerMap *map, char name[LAYER_NAME_MAX]);

#endif /* PS_LAYER_SET_H */
