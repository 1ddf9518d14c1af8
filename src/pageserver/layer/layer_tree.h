/*
 * layer_tree.h
 *	  A set of layers in a tree; sets share what they have in common.
 *
 * A B+tree in the order of (first key, number).  Every entry has the box that
 * all below it is in, so that a search for a key and a range of LSNs goes down
 * only where there is something for it.
 *
 * A node that two trees have is immutable: a change copies the nodes on the way
 * to a layer and leaves all others to both.  Which are whose is known from the
 * counts of references.
 */
#ifndef PS_LAYER_TREE_H
#define PS_LAYER_TREE_H

#include <stdatomic.h>

#include "layer/layer.h"

#define LAYER_TREE_FANOUT 32

typedef struct LayerNode LayerNode;

typedef struct LayerEntry
{
	PsKey key_min; /* all that is below has keys from key_min to key_max */
	PsKey key_max;
	XLogRecPtr lsn_start; /* and lsn_start <= LSN < lsn_end */
	XLogRecPtr lsn_end;
	uint64 number; /* of the first layer, whose first key key_min is */
	uint32 count;  /* layers */
	union
	{
		Layer *layer;
		LayerNode *node;
	} at;
} LayerEntry;

/* Changed only while its one reference is that of a tree that nobody else knows yet. */
struct LayerNode
{
	atomic_int refs;
	int level; /* 0: entries are layers, else nodes of a level less */
	int n;
	LayerEntry entries[LAYER_TREE_FANOUT + 1]; /* the last one: until the node is split */
};

/* A tree is its root.  Takes a reference of each layer; a layer that is given twice counts once. */
extern LayerNode *layer_tree_create(Layer *const *layers, int n);
extern LayerNode *layer_tree_ref(LayerNode *root);
extern void layer_tree_unref(LayerNode *root);
extern int layer_tree_count(const LayerNode *root);

/* The i-th in the order of first keys; no reference is taken. */
extern Layer *layer_tree_get(const LayerNode *root, int i);

/* Take the caller's reference to the root over, and return one to the new root.  *changed false: it is (not) there already. */
extern LayerNode *layer_tree_insert(LayerNode *root, Layer *layer, bool *changed);
extern LayerNode *layer_tree_remove(LayerNode *root, const Layer *layer, bool *changed);

#endif /* PS_LAYER_TREE_H */
