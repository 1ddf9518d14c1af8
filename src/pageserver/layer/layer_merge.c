/*
 * layer_merge.c
 *	  The entries of several layer files, merged: ascending by key, of each key
 *	  ascending by LSN.
 *
 * Only the index is read, and memory does not grow with the number of entries:
 * each file has a position in its index, and a heap says which comes next.  A
 * version that several files have is told of once: as an image layer's image,
 * which stands for what is at its LSN, else as the one that needs nothing
 * older.
 */
#include "ps_fe.h"

#include "layer_impl.h"
#include "ps_wire.h"

typedef struct MergeSource
{
	Layer	   *layer;
	BtreePos	pos;
	BtreePos	key_pos;		/* where the current key of the merge begins, if it is here */
	bool		has_key;		/* it is */
	bool		at_end;
	uint8		at[DELTA_KEY_SIZE]; /* key and LSN of the entry at pos */
} MergeSource;

struct LayerMerge
{
	uint8		hi[PS_KEY_SIZE];
	MergeSource *sources;
	int			nsources;
	MergeSource **heap;			/* those that are not at their end; the least first */
	int			n;
	uint8		key[PS_KEY_SIZE];	/* the current key */
	bool		has_key;
};

/* By key and LSN; of the same version the one that counts first. */
static bool
comes_before(const MergeSource *a, const MergeSource *b)
{
	int			cmp = memcmp(a->at, b->at, DELTA_KEY_SIZE);

	if (cmp != 0)
		return cmp < 0;
	if (a->layer->info.type != b->layer->info.type)
		return a->layer->info.type == LAYER_IMAGE;
	return (btree_value(&a->pos) & ENTRY_WILL_INIT) > (btree_value(&b->pos) & ENTRY_WILL_INIT);
}

static void
sift_down(LayerMerge *merge, int i)
{
	for (;;)
	{
		int			least = i;
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
build_heap(LayerMerge *merge)
{
	merge->n = 0;
	for (int i = 0; i < merge->nsources; i++)
		if (!merge->sources[i].at_end)
			merge->heap[merge->n++] = &merge->sources[i];
	for (int i = merge->n / 2 - 1; i >= 0; i--)
		sift_down(merge, i);
}

/* Reads the entry at the source's position, or finds that the range has ended. */
static void
load(LayerMerge *merge, MergeSource *source)
{
	btree_key(&source->pos, source->at);
	if (source->layer->info.type == LAYER_IMAGE)
		ps_put64(source->at + PS_KEY_SIZE, source->layer->info.lsn_start);
	source->at_end = memcmp(source->at, merge->hi, PS_KEY_SIZE) > 0;
}

static PsError *
advance(LayerMerge *merge, MergeSource *source)
{
	bool		found;

	PS_TRY(btree_next(&source->pos, &found));
	if (found)
		load(merge, source);
	else
		source->at_end = true;
	return NULL;
}

PsError *
layer_merge_open(Layer *const *layers, int n, const PsKey *lo, const PsKey *hi, LayerMerge **result)
{
	LayerMerge *merge = pg_malloc0(sizeof(LayerMerge));
	uint8		target[DELTA_KEY_SIZE] = {0};
	PsError    *err = NULL;

	merge->sources = pg_malloc0(Max(n, 1) * sizeof(MergeSource));
	merge->heap = pg_malloc(Max(n, 1) * sizeof(MergeSource *));
	ps_key_encode(lo, target);
	ps_key_encode(hi, merge->hi);
	for (int i = 0; i < n && err == NULL; i++)
	{
		MergeSource *source = &merge->sources[merge->nsources];
		bool		found;

		if (layers[i]->info.key_max.kind == 0 || ps_key_cmp(&layers[i]->info.key_min, hi) > 0 ||
			ps_key_cmp(&layers[i]->info.key_max, lo) < 0)
			continue;
		source->layer = layer_ref(layers[i]);
		merge->nsources++;
		err = btree_seek_ge(&layers[i]->file->index, target, &source->pos, &found);
		if (err == NULL && found)
			load(merge, source);
		else
			source->at_end = true;
	}
	if (err != NULL)
	{
		layer_merge_close(merge);
		return err;
	}
	build_heap(merge);
	*result = merge;
	return NULL;
}

void
layer_merge_close(LayerMerge *merge)
{
	if (merge == NULL)
		return;
	for (int i = 0; i < merge->nsources; i++)
		layer_unref(merge->sources[i].layer);
	free(merge->sources);
	free(merge->heap);
	free(merge);
}

/* The source that has the next entry belongs to a new key: remembers where that begins everywhere. */
static void
begin_key(LayerMerge *merge)
{
	memcpy(merge->key, merge->heap[0]->at, PS_KEY_SIZE);
	merge->has_key = true;
	for (int i = 0; i < merge->nsources; i++)
	{
		MergeSource *source = &merge->sources[i];

		source->has_key = !source->at_end && memcmp(source->at, merge->key, PS_KEY_SIZE) == 0;
		if (source->has_key)
			source->key_pos = source->pos;
	}
}

PsError *
layer_merge_next(LayerMerge *merge, PsKey *key, ValueRef *ref, bool *found)
{
	uint8		at[DELTA_KEY_SIZE];

	*found = merge->n > 0;
	if (!*found)
		return NULL;
	if (!merge->has_key || memcmp(merge->heap[0]->at, merge->key, PS_KEY_SIZE) != 0)
		begin_key(merge);
	memcpy(at, merge->heap[0]->at, DELTA_KEY_SIZE);
	ps_key_decode(at, key);
	PS_TRY(layer_entry_ref(merge->heap[0]->layer, &merge->heap[0]->pos, ps_get64(at + PS_KEY_SIZE), ref));
	while (merge->n > 0 && memcmp(merge->heap[0]->at, at, DELTA_KEY_SIZE) == 0)
	{
		PS_TRY(advance(merge, merge->heap[0]));
		if (merge->heap[0]->at_end)
			merge->heap[0] = merge->heap[--merge->n];
		sift_down(merge, 0);
	}
	return NULL;
}

bool
layer_merge_key_ends(const LayerMerge *merge)
{
	return merge->n == 0 || memcmp(merge->heap[0]->at, merge->key, PS_KEY_SIZE) != 0;
}

void
layer_merge_rewind_key(LayerMerge *merge)
{
	for (int i = 0; i < merge->nsources; i++)
	{
		MergeSource *source = &merge->sources[i];

		if (!source->has_key)
			continue;
		source->pos = source->key_pos;
		load(merge, source);
	}
	build_heap(merge);
}
