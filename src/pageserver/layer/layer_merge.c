/*
 * layer_merge.c
 *	  The entries of several layer files, merged: ascending by key, of each key
 *	  ascending by LSN.
 *
 * Only indexes are read, and memory does not grow with the number of entries:
 * there is a position in the index of each file, and a heap to find the one that
 * comes next.  A file takes part from its first key to its last key, so that of
 * thousands of files with successive key ranges few take part at a time.  A
 * version that several files have is returned once: as the image of an image
 * file, which includes everything at its LSN, or else with preference for the
 * one that needs no older version.
 */
#include "ps_fe.h"

#include "bytes.h"
#include "layer/layer_impl.h"
#include "layer/layer_stream.h"
#include "layer/layer_merge.h"

/* An entry and its place, since the file is not kept open between entries. */
typedef struct MergeEntry
{
	uint8 at[DELTA_KEY_SIZE]; /* key and LSN */
	ValueRef ref;
	BtreePlace place;
} MergeEntry;

typedef struct MergeSource
{
	Layer *layer;                 /* NULL: the merge has passed its last key */
	uint8 first_key[PS_KEY_SIZE]; /* of the file */
	MergeEntry now;
	MergeEntry key_start; /* the first entry of the merge's current key, if the file has the key */
	bool at_end;          /* now is invalid: no more entries */
} MergeSource;

struct LayerMerge
{
	uint8 lo[DELTA_KEY_SIZE];
	uint8 hi[PS_KEY_SIZE];
	MergeSource *sources; /* sorted by first_key */
	int nsources;
	int nstarted;       /* sources from this one on do not take part yet */
	MergeSource **heap; /* the sources that take part; the least entry first */
	int n;
	uint8 key[PS_KEY_SIZE]; /* the current key */
	bool has_key;
	MergeSource **of_key; /* the sources that have it */
	int nof_key;
};

/* Order by key and LSN; for the same version, the entry to return comes first. */
static bool
comes_before(const MergeSource *a, const MergeSource *b)
{
	int cmp = memcmp(a->now.at, b->now.at, DELTA_KEY_SIZE);

	if (cmp != 0)
		return cmp < 0;
	if (a->layer->info.type != b->layer->info.type)
		return a->layer->info.type == LAYER_IMAGE;
	return a->now.ref.will_init > b->now.ref.will_init;
}

static void
sift_down(LayerMerge *merge, int i)
{
	for (;;)
	{
		int least = i;
		MergeSource *tmp;

		for (int child = 2 * i + 1; child <= 2 * i + 2; child++)
			if (child < merge->n && comes_before(merge->heap[child], merge->heap[least]))
				least = child;
		if (least == i)
			return;
		tmp = merge->heap[i];
		merge->heap[i] = merge->heap[least];
		merge->heap[least] = tmp;
		i = least;
	}
}

static void
sift_up(LayerMerge *merge, int i)
{
	while (i > 0 && comes_before(merge->heap[i], merge->heap[(i - 1) / 2]))
	{
		MergeSource *tmp = merge->heap[i];

		merge->heap[i] = merge->heap[(i - 1) / 2];
		i = (i - 1) / 2;
		merge->heap[i] = tmp;
	}
}

/* Reads the entry at a position, or notices the end of the range.  Caller has acquired the layer. */
static PsError *
load(const LayerMerge *merge, MergeSource *source, const BtreePos *pos)
{
	MergeEntry *entry = &source->now;

	btree_key(pos, entry->at);
	if (source->layer->info.type == LAYER_IMAGE)
		ps_put64(entry->at + PS_KEY_SIZE, source->layer->info.lsn_start);
	entry->place = btree_place(pos);
	source->at_end = memcmp(entry->at, merge->hi, PS_KEY_SIZE) > 0;
	return source->at_end ? NULL : layer_entry_ref(source->layer, pos, ps_get64(entry->at + PS_KEY_SIZE), &entry->ref);
}

/* Moves to the first entry of the range, or to the next entry. */
static PsError *
advance(const LayerMerge *merge, MergeSource *source, bool first)
{
	BtreePos pos;
	bool found = false;
	PsError *err;

	PS_TRY(layer_acquire(source->layer));
	if (first)
		layer_stream_hold(source->layer);
	if (first)
		err = btree_seek_ge(&layer_file_of(source->layer)->index, merge->lo, &pos, &found);
	else
	{
		err = btree_return(&layer_file_of(source->layer)->index, source->now.place, &pos);
		if (err == NULL)
			err = btree_next(&pos, &found);
	}
	source->at_end = !found;
	if (err == NULL && found)
		err = load(merge, source, &pos);
	layer_release(source->layer);
	return err;
}

static void
let_go(MergeSource *source)
{
	layer_stream_let_go(source->layer, true);
	layer_unref(source->layer);
	source->layer = NULL;
}

static int
by_first_key(const void *a, const void *b)
{
	return memcmp(((const MergeSource *) a)->first_key, ((const MergeSource *) b)->first_key, PS_KEY_SIZE);
}

PsError *
layer_merge_open(Layer *const *layers, int n, const PsKey *lo, const PsKey *hi, LayerMerge **result)
{
	LayerMerge *merge = pg_malloc0(sizeof(LayerMerge));

	merge->sources = pg_malloc0(Max(n, 1) * sizeof(MergeSource));
	merge->heap = pg_malloc(Max(n, 1) * sizeof(MergeSource *));
	merge->of_key = pg_malloc(Max(n, 1) * sizeof(MergeSource *));
	ps_key_encode(lo, merge->lo);
	ps_key_encode(hi, merge->hi);
	for (int i = 0; i < n; i++)
	{
		MergeSource *source = &merge->sources[merge->nsources];

		if (layers[i]->info.key_max.kind == 0 || ps_key_cmp(&layers[i]->info.key_min, hi) > 0 ||
			ps_key_cmp(&layers[i]->info.key_max, lo) < 0)
			continue;
		source->layer = layer_ref(layers[i]);
		ps_key_encode(&layers[i]->info.key_min, source->first_key);
		merge->nsources++;
	}
	qsort(merge->sources, merge->nsources, sizeof(MergeSource), by_first_key);
	*result = merge;
	return NULL;
}

void
layer_merge_close(LayerMerge *merge)
{
	if (merge == NULL)
		return;
	for (int i = 0; i < merge->nsources; i++)
		if (merge->sources[i].layer != NULL)
			let_go(&merge->sources[i]);
	free(merge->sources);
	free(merge->heap);
	free(merge->of_key);
	free(merge);
}

/* Starts all sources that may have the next entry. */
static PsError *
start_sources(LayerMerge *merge)
{
	while (merge->nstarted < merge->nsources)
	{
		MergeSource *source = &merge->sources[merge->nstarted];

		if (merge->n > 0 && memcmp(source->first_key, merge->heap[0]->now.at, PS_KEY_SIZE) > 0)
			break;
		PS_TRY(advance(merge, source, true));
		merge->nstarted++;
		if (source->at_end)
			continue;
		merge->heap[merge->n++] = source;
		sift_up(merge, merge->n - 1);
	}
	return NULL;
}

/*
 * Remembers where the current key begins in the sources from heap[i] downwards.
 * A source can have the key only if its parent in the heap has it.
 */
static void
find_key(LayerMerge *merge, int i)
{
	MergeSource *source;

	if (i >= merge->n || memcmp(merge->heap[i]->now.at, merge->key, PS_KEY_SIZE) != 0)
		return;
	source = merge->heap[i];
	source->key_start = source->now;
	merge->of_key[merge->nof_key++] = source;
	find_key(merge, 2 * i + 1);
	find_key(merge, 2 * i + 2);
}

/* The next entry has a new key. */
static void
begin_key(LayerMerge *merge)
{
	for (int i = 0; i < merge->nof_key; i++)
		if (merge->of_key[i]->at_end)
		{
			let_go(merge->of_key[i]);
		}
	memcpy(merge->key, merge->heap[0]->now.at, PS_KEY_SIZE);
	merge->has_key = true;
	merge->nof_key = 0;
	find_key(merge, 0);
}

PsError *
layer_merge_next(LayerMerge *merge, PsKey *key, ValueRef *ref, bool *found)
{
	uint8 at[DELTA_KEY_SIZE];

	PS_TRY(start_sources(merge));
	*found = merge->n > 0;
	if (!*found)
		return NULL;
	if (!merge->has_key || memcmp(merge->heap[0]->now.at, merge->key, PS_KEY_SIZE) != 0)
		begin_key(merge);
	memcpy(at, merge->heap[0]->now.at, DELTA_KEY_SIZE);
	ps_key_decode(at, key);
	*ref = merge->heap[0]->now.ref;
	while (merge->n > 0 && memcmp(merge->heap[0]->now.at, at, DELTA_KEY_SIZE) == 0)
	{
		PS_TRY(advance(merge, merge->heap[0], false));
		if (merge->heap[0]->at_end)
			merge->heap[0] = merge->heap[--merge->n];
		sift_down(merge, 0);
	}
	return NULL;
}

bool
layer_merge_key_ends(const LayerMerge *merge)
{
	return merge->n == 0 || memcmp(merge->heap[0]->now.at, merge->key, PS_KEY_SIZE) != 0;
}

void
layer_merge_rewind_key(LayerMerge *merge)
{
	for (int i = 0; i < merge->nof_key; i++)
	{
		MergeSource *source = merge->of_key[i];

		if (source->at_end)
			merge->heap[merge->n++] = source;
		source->now = source->key_start;
		source->at_end = false;
	}
	for (int i = merge->n / 2 - 1; i >= 0; i--)
		sift_down(merge, i);
}
