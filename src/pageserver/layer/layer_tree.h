/*
 * layer_tree.h
 *	  A set of layers in a B+tree, in the order of (first key, number).
 *
 * Each entry of a node has the bounding box of everything below it, so that a
 * search for a key and a range of LSNs descends only where there may be a match.
 *
 * Trees share nodes.  A node that is shared is immutable: a change copies the
 * nodes on the path to the layer and leaves all others to both trees.  The
 * reference counts tell which nodes are shared.
 */
#ifndef PS_LAYER_TREE_H
#define PS_LAYER_TREE_H

#include <stdatomic.h>

#include "layer/layer.h"

#define LAYER_TREE_FANOUT 32

typedef struct LayerNode LayerNode;

typedef struct LayerEntry
{
	PsKey key_min; /* everything below has keys from key_min to key_max ... */
	PsKey key_max;
	XLogRecPtr lsn_start; /* ... and lsn_start <= LSN < lsn_end */
	XLogRecPtr lsn_end;
	uint64 number; /* of the first layer, whose first key is key_min */
	uint32 count;  /* number of layers below */
	union
	{
		Layer *layer;
		LayerNode *node;
	} at;
} LayerEntry;

/* May be changed only while it has a single reference, by a tree that no other thread knows. */
struct LayerNode
{
	atomic_int refs;
	int level; /* 0: entries are layers; otherwise nodes of the level below */
	int n;
	LayerEntry entries[LAYER_TREE_FANOUT + 1]; /* the last one is used only until the node is split */
};

/*
 * A tree is represented by its root.  The tree takes a reference to each layer;
 * a layer that is given twice counts once.
 */
extern LayerNode *layer_tree_create(Layer *const *layers, int n);
extern LayerNode *layer_tree_ref(LayerNode *root);
extern void layer_tree_unref(LayerNode *root);
extern int layer_tree_count(const LayerNode *root);

/* The i-th layer in the order of first keys.  No reference is taken. */
extern Layer *layer_tree_get(const LayerNode *root, int i);

/*
 * Return the root of the changed tree, in exchange for the caller's reference to
 * the old root.  *changed is false if the layer was already, or not, there.
 */
extern LayerNode *layer_tree_insert(LayerNode *root, Layer *layer, bool *changed);
extern LayerNode *layer_tree_remove(LayerNode *root, const Layer *layer, bool *changed);

#endif /* PS_LAYER_TREE_H */
