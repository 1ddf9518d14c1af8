/*
 * layer_merge.h
 *	  The entries of several layer files, merged in one order: for writers of
 *	  new files.
 */
#ifndef PS_LAYER_MERGE_H
#define PS_LAYER_MERGE_H

#include "layer/layer.h"

/*
 * Iterates over the keys from lo to hi: keys ascending, LSNs ascending within a
 * key, each version once.  Reads indexes only; memory does not depend on the
 * number of entries.  Holds references to the layers.  One thread.
 */
typedef struct LayerMerge LayerMerge;

extern PsError *layer_merge_open(Layer *const *layers, int n, const PsKey *lo, const PsKey *hi, LayerMerge **merge);

/* Returns the next version; *found is false at the end. */
extern PsError *layer_merge_next(LayerMerge *merge, PsKey *key, ValueRef *ref, bool *found);

/* Whether the version that layer_merge_next() returned last was the last of its key. */
extern bool layer_merge_key_ends(const LayerMerge *merge);

/* Goes back to the first version of the key that layer_merge_next() returned last. */
extern void layer_merge_rewind_key(LayerMerge *merge);

/* NULL is accepted. */
extern void layer_merge_close(LayerMerge *merge);

#endif /* PS_LAYER_MERGE_H */
