/*
 * layer_tree.c
 *	  A set of layers in a tree: see layer_tree.h.
 *
 * Nodes are split when they have more than LAYER_TREE_FANOUT entries.  Two
 * siblings that fit into three quarters of a node are merged, so that nodes stay
 * about half full at least, whatever is removed.
 */
#include "ps_fe.h"

#include "layer/layer_tree.h"

#define MERGED_MAX (LAYER_TREE_FANOUT * 3 / 4)

static int
cmp_order(const LayerEntry *a, const LayerEntry *b)
{
	int cmp = ps_key_cmp(&a->key_min, &b->key_min);

	return cmp != 0 ? cmp : a->number < b->number ? -1
												  : a->number > b->number;
}

static int
cmp_entries(const void *a, const void *b)
{
	return cmp_order(a, b);
}

static LayerEntry
entry_of_layer(const Layer *layer)
{
	const LayerInfo *info = layer_info(layer);

	return (LayerEntry) {
		.key_min = info->key_min,
		.key_max = info->key_max,
		.lsn_start = info->lsn_start,
		.lsn_end = info->lsn_end,
		.number = info->number,
		.count = 1,
		.at.layer = (Layer *) layer};
}

static LayerEntry
entry_of_node(LayerNode *node)
{
	LayerEntry entry = {.at.node = node};

	if (node->n > 0)
		entry = node->entries[0];
	entry.at.node = node;
	for (int i = 1; i < node->n; i++)
	{
		const LayerEntry *below = &node->entries[i];

		if (ps_key_cmp(&entry.key_max, &below->key_max) < 0)
			entry.key_max = below->key_max;
		entry.lsn_start = Min(entry.lsn_start, below->lsn_start);
		entry.lsn_end = Max(entry.lsn_end, below->lsn_end);
		entry.count += below->count;
	}
	return entry;
}

/* ---- references ---- */

static LayerNode *
new_node(int level)
{
	LayerNode *node = pg_malloc(sizeof(LayerNode));

	atomic_init(&node->refs, 1);
	node->level = level;
	node->n = 0;
	return node;
}

LayerNode *
layer_tree_ref(LayerNode *root)
{
	atomic_fetch_add_explicit(&root->refs, 1, memory_order_relaxed);
	return root;
}

void
layer_tree_unref(LayerNode *root)
{
	if (atomic_fetch_sub_explicit(&root->refs, 1, memory_order_acq_rel) > 1)
		return;
	for (int i = 0; i < root->n; i++)
		if (root->level == 0)
			layer_unref(root->entries[i].at.layer);
		else
			layer_tree_unref(root->entries[i].at.node);
	free(root);
}

/* Appends entries of another node of the same level, with references of their own. */
static void
append_entries(LayerNode *node, const LayerEntry *entries, int n)
{
	memcpy(node->entries + node->n, entries, n * sizeof(LayerEntry));
	node->n += n;
	for (int i = 0; i < n; i++)
		if (node->level == 0)
			layer_ref(entries[i].at.layer);
		else
			layer_tree_ref(entries[i].at.node);
}

/* Returns the node if it is not shared, otherwise a copy.  The caller's reference moves to the result. */
static LayerNode *
writable(LayerNode *node)
{
	LayerNode *copy;

	if (atomic_load_explicit(&node->refs, memory_order_acquire) == 1)
		return node;
	copy = new_node(node->level);
	append_entries(copy, node->entries, node->n);
	layer_tree_unref(node);
	return copy;
}

/* ---- creation and look-ups ---- */

LayerNode *
layer_tree_create(Layer *const *layers, int n)
{
	LayerEntry *entries = pg_malloc(Max(n, 1) * sizeof(LayerEntry));
	LayerNode *root;
	int distinct = 0;
	int level = 0;

	for (int i = 0; i < n; i++)
		entries[i] = entry_of_layer(layers[i]);
	qsort(entries, n, sizeof(LayerEntry), cmp_entries);
	for (int i = 0; i < n; i++)
		if (distinct == 0 || entries[distinct - 1].at.layer != entries[i].at.layer)
		{
			entries[distinct++] = entries[i];
			layer_ref(entries[i].at.layer);
		}
	n = distinct;

	/* create one level after the other: the entries of the level below move into its nodes */
	do
	{
		int nnodes = Max(1, (n + LAYER_TREE_FANOUT - 1) / LAYER_TREE_FANOUT);

		for (int i = 0; i < nnodes; i++)
		{
			LayerNode *node = new_node(level);
			int from = (int) ((int64) i * n / nnodes);

			node->n = (int) ((int64) (i + 1) * n / nnodes) - from;
			memcpy(node->entries, entries + from, node->n * sizeof(LayerEntry));
			entries[i] = entry_of_node(node);
		}
		n = nnodes;
		level++;
	} while (n > 1);
	root = entries[0].at.node;
	free(entries);
	return root;
}

int
layer_tree_count(const LayerNode *root)
{
	int n = 0;

	for (int i = 0; i < root->n; i++)
		n += root->entries[i].count;
	return n;
}

Layer *
layer_tree_get(const LayerNode *root, int i)
{
	const LayerEntry *entry = root->entries;

	for (const LayerNode *node = root;; node = entry->at.node)
	{
		for (entry = node->entries; i >= (int) entry->count; entry++)
			i -= entry->count;
		if (node->level == 0)
			return entry->at.layer;
	}
}

/* Returns the last entry that is <= the given one, or -1. */
static int
find_le(const LayerNode *node, const LayerEntry *entry)
{
	int lo = 0;
	int hi = node->n;

	while (lo < hi)
	{
		int mid = (lo + hi) / 2;

		if (cmp_order(&node->entries[mid], entry) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo - 1;
}

/* ---- changes of nodes that are not shared ---- */

static void
put_entry(LayerNode *node, int i, const LayerEntry *entry)
{
	memmove(node->entries + i + 1, node->entries + i, (node->n - i) * sizeof(LayerEntry));
	node->entries[i] = *entry;
	node->n++;
}

static void
take_entry(LayerNode *node, int i)
{
	node->n--;
	memmove(node->entries + i, node->entries + i + 1, (node->n - i) * sizeof(LayerEntry));
}

/* Splits off the upper half of a node that has too many entries; otherwise returns NULL. */
static LayerNode *
split(LayerNode *node)
{
	LayerNode *upper;
	int half = node->n / 2;

	if (node->n <= LAYER_TREE_FANOUT)
		return NULL;
	upper = new_node(node->level);
	upper->n = node->n - half;
	memcpy(upper->entries, node->entries + half, upper->n * sizeof(LayerEntry));
	node->n = half;
	return upper;
}

/* *upper: the node that was split off, or NULL. */
static bool
insert(LayerNode *node, const LayerEntry *entry, LayerNode **upper)
{
	int i = find_le(node, entry);
	bool changed = true;

	if (node->level == 0)
	{
		changed = i < 0 || node->entries[i].at.layer != entry->at.layer;
		if (changed)
		{
			layer_ref(entry->at.layer);
			put_entry(node, i + 1, entry);
		}
	}
	else
	{
		LayerNode *child;
		LayerNode *child_upper;

		i = Max(i, 0);
		child = writable(node->entries[i].at.node);
		changed = insert(child, entry, &child_upper);
		node->entries[i] = entry_of_node(child);
		if (child_upper != NULL)
		{
			LayerEntry more = entry_of_node(child_upper);

			put_entry(node, i + 1, &more);
		}
	}
	*upper = split(node);
	return changed;
}

LayerNode *
layer_tree_insert(LayerNode *root, Layer *layer, bool *changed)
{
	LayerEntry entry = entry_of_layer(layer);
	LayerNode *upper;

	root = writable(root);
	*changed = insert(root, &entry, &upper);
	if (upper != NULL)
	{
		LayerNode *lower = root;

		root = new_node(lower->level + 1);
		root->entries[root->n++] = entry_of_node(lower);
		root->entries[root->n++] = entry_of_node(upper);
	}
	return root;
}

/* Merges the i-th child and the next one, if both exist and are small enough. */
static void
merge_children(LayerNode *node, int i)
{
	LayerNode *left;
	LayerNode *right;

	if (i < 0 || i + 1 >= node->n)
		return;
	right = node->entries[i + 1].at.node;
	if (node->entries[i].at.node->n + right->n > MERGED_MAX)
		return;
	left = writable(node->entries[i].at.node);
	append_entries(left, right->entries, right->n);
	layer_tree_unref(right);
	node->entries[i] = entry_of_node(left);
	take_entry(node, i + 1);
}

static bool
remove_entry(LayerNode *node, const LayerEntry *entry)
{
	int i = find_le(node, entry);
	LayerNode *child;
	bool changed;

	if (i < 0)
		return false;
	if (node->level == 0)
	{
		changed = node->entries[i].at.layer == entry->at.layer;
		if (changed)
		{
			layer_unref(node->entries[i].at.layer);
			take_entry(node, i);
		}
		return changed;
	}
	child = writable(node->entries[i].at.node);
	changed = remove_entry(child, entry);
	node->entries[i] = entry_of_node(child);
	if (child->n == 0)
	{
		layer_tree_unref(child);
		take_entry(node, i);
	}
	else
		merge_children(node, i);
	merge_children(node, i - 1);
	return changed;
}

LayerNode *
layer_tree_remove(LayerNode *root, const Layer *layer, bool *changed)
{
	LayerEntry entry = entry_of_layer(layer);

	root = writable(root);
	*changed = remove_entry(root, &entry);
	while (root->level > 0 && root->n == 1)
	{
		LayerNode *child = layer_tree_ref(root->entries[0].at.node);

		layer_tree_unref(root);
		root = child;
	}
	if (root->n == 0)
		root->level = 0;
	return root;
}
