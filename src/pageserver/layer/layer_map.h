/*
 * layer_map.h
 *	  A set of layer files, and the search in it.
 */
#ifndef PS_LAYER_MAP_H
#define PS_LAYER_MAP_H

#include "layer/layer.h"

/*
 * A map is immutable and has a reference count; it holds a reference to each of
 * its layers.  A change makes a new map, which costs microseconds whatever the
 * number of layers.  All functions: any thread that holds a reference to the map.
 */
typedef struct LayerMap LayerMap;

/* Layers of files only.  A layer that is given twice counts once. */
extern LayerMap *layer_map_create(Layer *const *layers, int n);
extern LayerMap *layer_map_ref(LayerMap *map);
extern void layer_map_unref(LayerMap *map); /* NULL is accepted */
extern int layer_map_count(const LayerMap *map);
extern int layer_map_level0(const LayerMap *map);   /* number of delta files of level 0 */
extern uint64 layer_map_bytes(const LayerMap *map); /* of all files */

/* The i-th layer in the order of first keys.  No reference is taken. */
extern Layer *layer_map_get(const LayerMap *map, int i);

/*
 * Lists the layers whose key range overlaps lo to hi and whose LSN range
 * overlaps lsn_min to lsn_max, in the order of their first keys.  Returns their
 * number; the caller must free *layers.  No references are taken.  The cost
 * depends on what is found, not on the size of the map.
 */
extern int layer_map_find(const LayerMap *map, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn_min, XLogRecPtr lsn_max,
						  Layer ***layers);

/* Returns a new map, with some layers dropped and some added. */
extern LayerMap *layer_map_change(const LayerMap *map, Layer *const *add, int nadd, Layer *const *drop, int ndrop);

/* As layer_collect(), over all layers of the map, newest first. */
extern PsError *layer_map_collect(const LayerMap *map, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max,
								  ValueList *list, bool *done);

/*
 * Calls cb for each key from lo to hi, ascending, with its newest version at or
 * below lsn_max.  Memory depends on the number of layers only.
 */
extern PsError *layer_map_scan(const LayerMap *map, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn_max,
							   ScanCallback cb, void *arg);

#endif /* PS_LAYER_MAP_H */
