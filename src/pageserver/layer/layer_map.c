/*
 * layer_map.c
 *	  An immutable set of layer files, and the search in it.
 *
 * The layers are in a tree (layer_tree.h).  A changed map shares all nodes except
 * a few with the old one, so the costs of a change and of a look-up hardly depend
 * on the number of layers.  A search visits the layers whose key range includes
 * the key in descending order of lsn_end: it keeps a heap of nodes and layers,
 * and expands a node only when nothing newer is left.  So a search that ends at
 * an image never visits what is older.
 *
 * An image at LSN L includes everything at or below L: if an image file has the
 * key, no other version at or below L counts.  Layers whose LSN ranges overlap
 * (an image within the range of a delta; or deltas, though this is not expected)
 * are searched as one group.  Groups are searched one after the other until
 * there is a version that needs no older one.
 */
#include "ps_fe.h"

#include "layer/layer_impl.h"
#include "layer/layer_map.h"

/* Immutable, except for refs. */
struct LayerMap
{
	atomic_int refs;
	LayerNode *root;
	int count;
	int level0;
	uint64 bytes;
};

static void
count_layer(LayerMap *map, const Layer *layer, int sign)
{
	const LayerInfo *info = layer_info(layer);

	map->count += sign;
	map->level0 += info->type == LAYER_DELTA && info->level == 0 ? sign : 0;
	map->bytes += sign * (int64) info->file_size;
}

LayerMap *
layer_map_create(Layer *const *layers, int n)
{
	LayerMap *map = pg_malloc0(sizeof(LayerMap));

	atomic_init(&map->refs, 1);
	map->root = layer_tree_create(layers, n);
	n = layer_tree_count(map->root);
	for (int i = 0; i < n; i++)
		count_layer(map, layer_tree_get(map->root, i), 1);
	return map;
}

LayerMap *
layer_map_ref(LayerMap *map)
{
	atomic_fetch_add_explicit(&map->refs, 1, memory_order_relaxed);
	return map;
}

void
layer_map_unref(LayerMap *map)
{
	if (map == NULL || atomic_fetch_sub_explicit(&map->refs, 1, memory_order_acq_rel) > 1)
		return;
	layer_tree_unref(map->root);
	free(map);
}

int
layer_map_count(const LayerMap *map)
{
	return map->count;
}

int
layer_map_level0(const LayerMap *map)
{
	return map->level0;
}

uint64
layer_map_bytes(const LayerMap *map)
{
	return map->bytes;
}

Layer *
layer_map_get(const LayerMap *map, int i)
{
	return layer_tree_get(map->root, i);
}

LayerMap *
layer_map_change(const LayerMap *map, Layer *const *add, int nadd, Layer *const *drop, int ndrop)
{
	LayerMap *changed = pg_malloc(sizeof(LayerMap));
	bool done;

	*changed = (LayerMap) {.count = map->count, .level0 = map->level0, .bytes = map->bytes};
	atomic_init(&changed->refs, 1);
	changed->root = layer_tree_ref(map->root);
	for (int i = 0; i < ndrop; i++)
	{
		changed->root = layer_tree_remove(changed->root, drop[i], &done);
		if (done)
			count_layer(changed, drop[i], -1);
	}
	for (int i = 0; i < nadd; i++)
	{
		changed->root = layer_tree_insert(changed->root, add[i], &done);
		if (done)
			count_layer(changed, add[i], 1);
	}
	return changed;
}

/* ---- finding layers ---- */

typedef struct RangeSearch
{
	const PsKey *lo;
	const PsKey *hi;
	XLogRecPtr lsn_min;
	XLogRecPtr lsn_max;
	Layer **found;
	int n;
	int cap;
} RangeSearch;

static void
find_in_range(RangeSearch *search, const LayerNode *node)
{
	for (int i = 0; i < node->n; i++)
	{
		const LayerEntry *entry = &node->entries[i];

		if (ps_key_cmp(&entry->key_min, search->hi) > 0)
			break;
		if (entry->lsn_start > search->lsn_max || entry->lsn_end <= search->lsn_min ||
			ps_key_cmp(&entry->key_max, search->lo) < 0)
			continue;
		if (node->level > 0)
		{
			find_in_range(search, entry->at.node);
			continue;
		}
		if (search->n == search->cap)
		{
			search->cap = Max(64, search->cap * 2);
			search->found = pg_realloc(search->found, search->cap * sizeof(Layer *));
		}
		search->found[search->n++] = entry->at.layer;
	}
}

int
layer_map_find(const LayerMap *map, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn_min, XLogRecPtr lsn_max,
			   Layer ***layers)
{
	RangeSearch search = {.lo = lo, .hi = hi, .lsn_min = lsn_min, .lsn_max = lsn_max};

	find_in_range(&search, map->root);
	*layers = search.found;
	return search.n;
}

void
layer_search_begin(LayerSearch *search, const LayerMap *map, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max)
{
	search->key = *key;
	search->lsn_min = lsn_min;
	search->lsn_max = lsn_max;
	search->heap = search->few;
	search->cap = lengthof(search->few);
	search->heap[0] = (LayerSearchItem) {.lsn_end = PG_UINT64_MAX, .node = map->root};
	search->n = 1;
}

void
layer_search_end(LayerSearch *search)
{
	if (search->heap != search->few)
		free(search->heap);
}

static void
push(LayerSearch *search, const LayerEntry *entry, bool is_layer)
{
	LayerSearchItem *heap;
	int i = search->n;

	if (search->n == search->cap)
	{
		heap = pg_malloc(2 * search->cap * sizeof(LayerSearchItem));
		memcpy(heap, search->heap, search->n * sizeof(LayerSearchItem));
		layer_search_end(search);
		search->heap = heap;
		search->cap *= 2;
	}
	heap = search->heap;
	for (search->n++; i > 0 && heap[(i - 1) / 2].lsn_end < entry->lsn_end; i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = (LayerSearchItem) {
		.lsn_end = entry->lsn_end,
		.node = is_layer ? NULL : entry->at.node,
		.layer = is_layer ? entry : NULL};
}

static LayerSearchItem
pop(LayerSearch *search)
{
	LayerSearchItem *heap = search->heap;
	LayerSearchItem top = heap[0];
	LayerSearchItem last = heap[--search->n];
	int i = 0;

	for (;;)
	{
		int child = 2 * i + 1;

		if (child + 1 < search->n && heap[child + 1].lsn_end > heap[child].lsn_end)
			child++;
		if (child >= search->n || heap[child].lsn_end <= last.lsn_end)
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return top;
}

const LayerEntry *
layer_search_next(LayerSearch *search)
{
	while (search->n > 0)
	{
		LayerSearchItem item = pop(search);

		if (item.layer != NULL)
			return item.layer;
		for (int i = 0; i < item.node->n; i++)
		{
			const LayerEntry *entry = &item.node->entries[i];

			if (entry->lsn_start > search->lsn_max || entry->lsn_end <= search->lsn_min)
				continue;
			if (ps_key_cmp(&entry->key_min, &search->key) > 0)
				break;
			if (ps_key_cmp(&entry->key_max, &search->key) >= 0)
				push(search, entry, item.node->level == 0);
		}
	}
	return NULL;
}

/* ---- collect ---- */

/* Newest first.  At the same LSN, the image of an image file comes first, then versions with will_init. */
static int
cmp_refs(const void *a, const void *b)
{
	const ValueRef *x = a;
	const ValueRef *y = b;
	bool x_is_image = layer_info(x->layer)->type == LAYER_IMAGE;
	bool y_is_image = layer_info(y->layer)->type == LAYER_IMAGE;

	if (x->lsn != y->lsn)
		return x->lsn > y->lsn ? -1 : 1;
	if (x_is_image != y_is_image)
		return x_is_image ? -1 : 1;
	return (int) y->will_init - (int) x->will_init;
}

/*
 * Sorts the versions of several layers, from list->refs[first] on; removes
 * duplicates, and everything after the first version with will_init.
 */
static void
merge_refs(ValueList *list, int first)
{
	int n = first;

	qsort(list->refs + first, list->n - first, sizeof(ValueRef), cmp_refs);
	for (int i = first; i < list->n; i++)
	{
		if (n > first && list->refs[n - 1].lsn == list->refs[i].lsn)
			continue;
		list->refs[n++] = list->refs[i];
		if (list->refs[n - 1].will_init)
			break;
	}
	list->n = n;
}

/*
 * Collects from layers whose LSN ranges overlap: the newest image of the key, and
 * the newer versions in the delta files.
 */
static PsError *
collect_group(const LayerEntry *const *group, int n, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max,
			  ValueList *list, bool *done)
{
	int first = list->n;
	int sources = 0;
	bool found = false;

	for (int i = 0; i < n && !found; i++)
	{
		if (layer_info(group[i]->at.layer)->type != LAYER_IMAGE)
			continue;
		PS_TRY(layer_collect(group[i]->at.layer, key, lsn_min, lsn_max, list, &found));
		if (found)
		{
			lsn_min = group[i]->lsn_start + 1;
			sources++;
		}
	}
	*done = found;
	for (int i = 0; i < n; i++)
	{
		int before = list->n;

		if (layer_info(group[i]->at.layer)->type == LAYER_IMAGE || lsn_min > lsn_max || group[i]->lsn_end <= lsn_min)
			continue;
		PS_TRY(layer_collect(group[i]->at.layer, key, lsn_min, lsn_max, list, &found));
		*done |= found;
		sources += list->n > before;
	}
	if (sources > 1)
		merge_refs(list, first);
	return NULL;
}

PsError *
layer_map_collect(const LayerMap *map, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max, ValueList *list,
				  bool *done)
{
	LayerSearch search;
	const LayerEntry *few[32];
	const LayerEntry **group = few;
	int cap = lengthof(few);
	const LayerEntry *next;
	PsError *err = NULL;

	*done = false;
	layer_search_begin(&search, map, key, lsn_min, lsn_max);
	next = layer_search_next(&search);
	while (next != NULL && !*done && err == NULL)
	{
		XLogRecPtr group_start = next->lsn_start;
		int n = 0;

		do
		{
			if (n == cap)
			{
				const LayerEntry **more = pg_malloc(2 * cap * sizeof(*more));

				memcpy(more, group, n * sizeof(*more));
				if (group != few)
					free(group);
				group = more;
				cap *= 2;
			}
			group[n++] = next;
			group_start = Min(group_start, next->lsn_start);
			next = layer_search_next(&search);
		} while (next != NULL && next->lsn_end > group_start);
		err = collect_group(group, n, key, lsn_min, lsn_max, list, done);
	}
	if (group != few)
		free(group);
	layer_search_end(&search);
	return err;
}

/* ---- scan ---- */

/* A layer in the range of a scan; its cursor is opened when the scan reaches its first key. */
typedef struct ScanSource
{
	Layer *layer;
	PsKey at; /* the cursor's key; before it is open, the layer's first key */
	bool is_open;
	LayerCursor cursor;
} ScanSource;

static bool
source_before(const ScanSource *a, const ScanSource *b)
{
	return ps_key_cmp(&a->at, &b->at) < 0;
}

/* Restores the heap order when source i may be greater than those below it. */
static void
sift_down(ScanSource **heap, int n, int i)
{
	for (;;)
	{
		int least = i;
		ScanSource *tmp;

		for (int child = 2 * i + 1; child <= 2 * i + 2; child++)
			if (child < n && source_before(heap[child], heap[least]))
				least = child;
		if (least == i)
			return;
		tmp = heap[i];
		heap[i] = heap[least];
		heap[least] = tmp;
		i = least;
	}
}

/* Calls cb with the newest of the versions of one key. */
static PsError *
report_key(const PsKey *key, ValueList *versions, ScanCallback cb, void *arg)
{
	qsort(versions->refs, versions->n, sizeof(ValueRef), cmp_refs);
	return cb(arg, key, &versions->refs[0]);
}

/*
 * Opens the cursor of the first source in the heap, or moves it to its next key.
 * A source without more keys is removed from the heap.
 */
static PsError *
advance_first(ScanSource **heap, int *n, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn_max)
{
	ScanSource *source = heap[0];
	PsError *err;

	if (source->is_open)
		err = layer_cursor_next(&source->cursor);
	else
	{
		err = layer_cursor_open(&source->cursor, source->layer, lo, hi, lsn_max, true);
		source->is_open = true;
	}
	if (err == NULL && source->cursor.valid)
		source->at = source->cursor.key;
	else
	{
		layer_cursor_close(&source->cursor);
		source->is_open = false;
		heap[0] = heap[--*n];
	}
	sift_down(heap, *n, 0);
	return err;
}

PsError *
layer_map_scan(const LayerMap *map, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn_max, ScanCallback cb, void *arg)
{
	Layer **layers;
	int n = layer_map_find(map, lo, hi, 0, lsn_max, &layers);
	ScanSource *sources = pg_malloc0(Max(n, 1) * sizeof(ScanSource));
	ScanSource **heap = pg_malloc(Max(n, 1) * sizeof(ScanSource *));
	ValueList versions = {0};
	PsError *err = NULL;

	layer_missing_fetch_starts(layers, n, lo);
	/* they are sorted by their first keys, so this is a valid heap */
	for (int i = 0; i < n; i++)
	{
		sources[i].layer = layers[i];
		sources[i].at = layer_info(layers[i])->key_min;
		heap[i] = &sources[i];
	}
	while (n > 0 && err == NULL)
	{
		PsKey key = heap[0]->at;

		/* a cursor that is not open yet has no versions; once open, it may be at this same key */
		versions.n = 0;
		while (n > 0 && err == NULL && ps_key_cmp(&heap[0]->at, &key) == 0)
		{
			const ValueList *more = &heap[0]->cursor.versions;

			for (int i = 0; i < more->n; i++)
				value_list_add(&versions, &more->refs[i]);
			err = advance_first(heap, &n, lo, hi, lsn_max);
		}
		if (err == NULL && versions.n > 0)
			err = report_key(&key, &versions, cb, arg);
	}

	while (n > 0)
		if (heap[--n]->is_open)
			layer_cursor_close(&heap[n]->cursor);
	free(versions.refs);
	free(heap);
	free(sources);
	free(layers);
	return err;
}
