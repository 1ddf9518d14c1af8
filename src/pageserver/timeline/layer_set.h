/*
 * layer_set.h
 *	  The layers of a timeline as a reader sees them.
 */
#ifndef PS_LAYER_SET_H
#define PS_LAYER_SET_H

#include <stdatomic.h>

#include "layer/layer_map.h"
#include "layer/open_layer.h"

/* Most layers in memory that wait to be written; then ingest waits. */
#define MAX_FROZEN 3

/*
 * What a reader looks at: an immutable set with a count of references, swapped
 * by pointer under Timeline.lock.  Newest first: open, frozen[0], frozen[1], …, map.
 */
typedef struct LayerSet
{
	atomic_int refcount;
	Layer *open;
	int nfrozen;
	Layer *frozen[MAX_FROZEN];
	LayerMap *map;
} LayerSet;

/* References are taken over. */
extern LayerSet *layer_set_create(Layer *open, Layer *const *frozen, int nfrozen, LayerMap *map);
extern void layer_set_unref(LayerSet *set);

/* A new set with the files of this one, and nothing that is in memory. */
extern LayerSet *layer_set_files(const LayerSet *set);

/* What is older than this LSN is in the set's files. */
extern XLogRecPtr layer_set_memory_start(const LayerSet *set);

/* How many files of the map are known to be damaged, and the name of the first. */
extern int layers_damaged(const LayerMap *map, char name[LAYER_NAME_MAX]);

#endif /* PS_LAYER_SET_H */
