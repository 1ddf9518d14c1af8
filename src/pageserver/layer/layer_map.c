/*
 * layer_map.c
 *	  An immutable set of layer files, and the search in it.
 *
 * Layers are ranked newest first, by lsn_end.  The key space is cut at every
 * layer's first key and after every layer's last; each piece has the stack of
 * the layers that cover it, by rank.  A layer that covers many pieces (level 0
 * deltas do) would be in many stacks, so it is in none but in the list of wide
 * layers, which every search goes through along with one stack.
 *
 * An image at LSN L holds whatever is older than L or at L: once it has the
 * key, no version at or below L counts.  Layers whose LSN ranges overlap (an
 * image within the range of a delta; deltas that do, though none are expected)
 * are searched as one group, the groups one after the other until there is a
 * version that needs nothing older.
 */
#include "ps_fe.h"

#include "layer_impl.h"
#include "ps_wire.h"

/* A layer that covers more pieces than this is wide. */
#define WIDE_PIECES 64

/* What the search looks at, together in memory. */
typedef struct MapLayer
{
	Layer	   *layer;
	PsKey		key_min;
	PsKey		key_max;
	XLogRecPtr	lsn_start;
	XLogRecPtr	lsn_end;
	bool		is_image;
} MapLayer;

/* Keys from "start" to before the next piece's; stack: ranks, ascending. */
typedef struct Piece
{
	PsKey		start;
	uint32		first;			/* in LayerMap.stacks */
	uint32		depth;
} Piece;

/* Immutable but for refs. */
struct LayerMap
{
	atomic_int	refs;
	int			count;
	MapLayer   *layers;			/* by rank */
	uint32		nwide;
	uint32	   *wide;			/* ranks, ascending */
	uint32		npieces;
	Piece	   *pieces;
	uint32	   *stacks;
};

/* Newest first; of the same lsn_end the image, which has all that a delta has there. */
static int
cmp_rank(const void *a, const void *b)
{
	const MapLayer *x = a;
	const MapLayer *y = b;

	if (x->lsn_end != y->lsn_end)
		return x->lsn_end > y->lsn_end ? -1 : 1;
	if (x->is_image != y->is_image)
		return x->is_image ? -1 : 1;
	return strcmp(x->layer->info.name, y->layer->info.name);
}

static int
cmp_keys(const void *a, const void *b)
{
	return ps_key_cmp(a, b);
}

/* The key right after this one; false: there is none.  The order is that of ps_key_cmp(). */
static bool
next_key(PsKey *key)
{
	if (++key->blk != 0)
		return true;
	if (++key->fork != 0)
		return true;
	if (++key->rel != 0)
		return true;
	if (++key->db != 0)
		return true;
	if (++key->spc != 0)
		return true;
	return ++key->kind != 0;
}

/* The piece that holds the key, or -1 if the key is before all. */
static int
find_piece(const LayerMap *map, const PsKey *key)
{
	int			lo = 0;
	int			hi = (int) map->npieces;

	while (lo < hi)
	{
		int			mid = (lo + hi) / 2;

		if (ps_key_cmp(&map->pieces[mid].start, key) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo - 1;
}

static void
build_pieces(LayerMap *map)
{
	PsKey	   *cuts = pg_malloc((2 * (size_t) map->count + 1) * sizeof(PsKey));
	uint32		ncuts = 0;
	uint32		nstacks = 0;

	for (int i = 0; i < map->count; i++)
	{
		PsKey		after = map->layers[i].key_max;

		cuts[ncuts++] = map->layers[i].key_min;
		if (next_key(&after))
			cuts[ncuts++] = after;
	}
	qsort(cuts, ncuts, sizeof(PsKey), cmp_keys);
	map->pieces = pg_malloc0((ncuts + 1) * sizeof(Piece));
	for (uint32 i = 0; i < ncuts; i++)
		if (i == 0 || ps_key_cmp(&cuts[i - 1], &cuts[i]) != 0)
			map->pieces[map->npieces++].start = cuts[i];
	free(cuts);

	/* first how deep each stack is, then where it begins, then its layers */
	map->wide = pg_malloc((map->count + 1) * sizeof(uint32));
	for (int pass = 0; pass < 2; pass++)
	{
		for (int i = 0; i < map->count; i++)
		{
			int			from = find_piece(map, &map->layers[i].key_min);
			int			to = find_piece(map, &map->layers[i].key_max);

			if (to - from >= WIDE_PIECES)
			{
				if (pass == 1)
					map->wide[map->nwide++] = i;
				continue;
			}
			for (int p = from; p <= to; p++)
			{
				if (pass == 1)
					map->stacks[map->pieces[p].first + map->pieces[p].depth] = i;
				map->pieces[p].depth++;
			}
		}
		if (pass == 1)
			break;
		for (uint32 p = 0; p < map->npieces; p++)
		{
			map->pieces[p].first = nstacks;
			nstacks += map->pieces[p].depth;
			map->pieces[p].depth = 0;
		}
		map->stacks = pg_malloc((nstacks + 1) * sizeof(uint32));
	}
}

/* Layers in memory have no place in a map.  A layer that is given twice counts once. */
LayerMap *
layer_map_create(Layer *const *layers, int n)
{
	LayerMap   *map = pg_malloc0(sizeof(LayerMap));

	atomic_init(&map->refs, 1);
	map->layers = pg_malloc0((n + 1) * sizeof(MapLayer));
	for (int i = 0; i < n; i++)
	{
		const LayerInfo *info = layer_info(layers[i]);

		Assert(layers[i]->file != NULL);
		map->layers[i] = (MapLayer){
			.layer = layers[i],
			.key_min = info->key_min,
			.key_max = info->key_max,
			.lsn_start = info->lsn_start,
			.lsn_end = info->lsn_end,
			.is_image = info->type == LAYER_IMAGE
		};
	}
	qsort(map->layers, n, sizeof(MapLayer), cmp_rank);
	for (int i = 0; i < n; i++)
	{
		if (i > 0 && map->layers[i].layer == map->layers[map->count - 1].layer)
			continue;
		map->layers[map->count++] = map->layers[i];
		layer_ref(map->layers[i].layer);
	}
	build_pieces(map);
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
	for (int i = 0; i < map->count; i++)
		layer_unref(map->layers[i].layer);
	free(map->layers);
	free(map->wide);
	free(map->pieces);
	free(map->stacks);
	free(map);
}

int
layer_map_count(const LayerMap *map)
{
	return map->count;
}

/* By rank: newest first.  No reference is taken. */
Layer *
layer_map_get(const LayerMap *map, int i)
{
	return map->layers[i].layer;
}

LayerMap *
layer_map_change(const LayerMap *map, Layer *const *add, int nadd, Layer *const *drop, int ndrop)
{
	Layer	  **layers = pg_malloc((map->count + nadd + 1) * sizeof(Layer *));
	int			n = 0;
	LayerMap   *changed;

	for (int i = 0; i < map->count; i++)
	{
		bool		keep = true;

		for (int k = 0; k < ndrop && keep; k++)
			keep = map->layers[i].layer != drop[k];
		if (keep)
			layers[n++] = map->layers[i].layer;
	}
	for (int i = 0; i < nadd; i++)
		layers[n++] = add[i];
	changed = layer_map_create(layers, n);
	free(layers);
	return changed;
}

/* ---- collect ---- */

/* Goes over the layers that may have a version, newest first. */
typedef struct Candidates
{
	const LayerMap *map;
	const PsKey *key;
	XLogRecPtr	lsn_min;
	XLogRecPtr	lsn_max;
	const uint32 *stack;
	uint32		nstack;
	const uint32 *wide;
	uint32		nwide;
} Candidates;

static const MapLayer *
next_candidate(Candidates *c)
{
	while (c->nstack > 0 || c->nwide > 0)
	{
		bool		from_stack = c->nwide == 0 || (c->nstack > 0 && c->stack[0] < c->wide[0]);
		const MapLayer *layer = &c->map->layers[from_stack ? *c->stack : *c->wide];

		if (layer->lsn_end <= c->lsn_min)
			return NULL;		/* and all that follow end before it too */
		if (from_stack)
			c->stack++, c->nstack--;
		else
			c->wide++, c->nwide--;
		if (layer->lsn_start <= c->lsn_max &&
			(from_stack || (ps_key_cmp(&layer->key_min, c->key) <= 0 && ps_key_cmp(c->key, &layer->key_max) <= 0)))
			return layer;
	}
	return NULL;
}

/* Newest first; of the same LSN an image layer's image comes first, then what needs nothing older. */
static int
cmp_refs(const void *a, const void *b)
{
	const ValueRef *x = a;
	const ValueRef *y = b;
	bool		x_is_image = layer_info(x->layer)->type == LAYER_IMAGE;
	bool		y_is_image = layer_info(y->layer)->type == LAYER_IMAGE;

	if (x->lsn != y->lsn)
		return x->lsn > y->lsn ? -1 : 1;
	if (x_is_image != y_is_image)
		return x_is_image ? -1 : 1;
	return (int) y->will_init - (int) x->will_init;
}

/* Sorts what several layers gave from list->refs[first] on, each version once, and cuts it after the first will_init. */
static void
merge_refs(ValueList *list, int first)
{
	int			n = first;

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
 * Collects from layers whose LSN ranges overlap: the newest image that has the
 * key, and of the deltas what is newer than that.
 */
static PsError *
collect_group(const MapLayer *const *group, int n, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max,
			  ValueList *list, bool *done)
{
	int			first = list->n;
	int			sources = 0;
	bool		found = false;

	for (int i = 0; i < n && !found; i++)
	{
		if (!group[i]->is_image)
			continue;
		PS_TRY(layer_collect(group[i]->layer, key, lsn_min, lsn_max, list, &found));
		if (found)
		{
			lsn_min = group[i]->lsn_start + 1;
			sources++;
		}
	}
	*done = found;
	for (int i = 0; i < n; i++)
	{
		int			before = list->n;

		if (group[i]->is_image || lsn_min > lsn_max || group[i]->lsn_end <= lsn_min)
			continue;
		PS_TRY(layer_collect(group[i]->layer, key, lsn_min, lsn_max, list, &found));
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
	Candidates	c = {.map = map, .key = key, .lsn_min = lsn_min, .lsn_max = lsn_max, .wide = map->wide, .nwide = map->nwide};
	int			piece = find_piece(map, key);
	const MapLayer *few[32];
	const MapLayer **group = few;
	int			cap = lengthof(few);
	const MapLayer *next;
	PsError    *err = NULL;

	*done = false;
	if (piece >= 0)
	{
		c.stack = map->stacks + map->pieces[piece].first;
		c.nstack = map->pieces[piece].depth;
	}
	next = next_candidate(&c);
	while (next != NULL && !*done && err == NULL)
	{
		XLogRecPtr	group_start = next->lsn_start;
		int			n = 0;

		do
		{
			if (n == cap)
			{
				const MapLayer **more = pg_malloc(2 * cap * sizeof(*more));

				memcpy(more, group, n * sizeof(*more));
				if (group != few)
					free(group);
				group = more;
				cap *= 2;
			}
			group[n++] = next;
			group_start = Min(group_start, next->lsn_start);
			next = next_candidate(&c);
		} while (next != NULL && next->lsn_end > group_start);
		err = collect_group(group, n, key, lsn_min, lsn_max, list, done);
	}
	if (group != few)
		free(group);
	return err;
}

/* ---- scan ---- */

static bool
cursor_before(const LayerCursor *a, const LayerCursor *b)
{
	return ps_key_cmp(&a->key, &b->key) < 0;
}

/* Restores the heap order when cursor i may be greater than what is below it. */
static void
sift_down(LayerCursor **heap, int n, int i)
{
	for (;;)
	{
		int			least = i;
		LayerCursor *tmp;

		for (int child = 2 * i + 1; child <= 2 * i + 2; child++)
			if (child < n && cursor_before(heap[child], heap[least]))
				least = child;
		if (least == i)
			return;
		tmp = heap[i];
		heap[i] = heap[least];
		heap[least] = tmp;
		i = least;
	}
}

/* Tells of the versions of one key, from all layers. */
static PsError *
report_key(const PsKey *key, ValueList *versions, ScanCallback cb, void *arg)
{
	qsort(versions->refs, versions->n, sizeof(ValueRef), cmp_refs);
	for (int i = 0; i < versions->n; i++)
	{
		if (i > 0 && versions->refs[i - 1].lsn == versions->refs[i].lsn)
			continue;
		PS_TRY(cb(arg, key, &versions->refs[i]));
	}
	return NULL;
}

PsError *
layer_map_scan(const LayerMap *map, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn_max, ScanCallback cb, void *arg)
{
	LayerCursor *cursors = pg_malloc((map->count + 1) * sizeof(LayerCursor));
	LayerCursor **heap = pg_malloc((map->count + 1) * sizeof(LayerCursor *));
	ValueList	versions = {0};
	int			ncursors = 0;
	int			n = 0;
	PsError    *err = NULL;

	for (int i = 0; i < map->count && err == NULL; i++)
	{
		const MapLayer *layer = &map->layers[i];
		LayerCursor *cursor = &cursors[ncursors];

		if (layer->lsn_start > lsn_max || ps_key_cmp(&layer->key_min, hi) > 0 || ps_key_cmp(&layer->key_max, lo) < 0)
			continue;
		err = layer_cursor_open(cursor, layer->layer, lo, hi, lsn_max);
		ncursors++;
		if (err == NULL && cursor->valid)
			heap[n++] = cursor;
	}
	for (int i = n / 2 - 1; i >= 0; i--)
		sift_down(heap, n, i);

	while (n > 0 && err == NULL)
	{
		PsKey		key = heap[0]->key;

		versions.n = 0;
		while (n > 0 && err == NULL && ps_key_cmp(&heap[0]->key, &key) == 0)
		{
			for (int i = 0; i < heap[0]->versions.n; i++)
				value_list_add(&versions, &heap[0]->versions.refs[i]);
			err = layer_cursor_next(heap[0]);
			if (err == NULL && !heap[0]->valid)
				heap[0] = heap[--n];
			sift_down(heap, n, 0);
		}
		if (err == NULL)
			err = report_key(&key, &versions, cb, arg);
	}

	for (int i = 0; i < ncursors; i++)
		layer_cursor_close(&cursors[i]);
	free(versions.refs);
	free(heap);
	free(cursors);
	return err;
}
