/*
 * layer_scan.c
 *	  Cursors over the versions in a layer file, key by key; size estimates.
 */
#include "ps_fe.h"

#include "bytes.h"
#include "layer/layer_impl.h"
#include "layer/layer_stream.h"

/* After this many versions of one key, the newest is found by a search of the index instead. */
#define STEPS_TO_NEWEST 32

static PsError *
out_of_order(const LayerCursor *cursor, const BtreePos *pos)
{
	return layer_damaged(layer_file_of(cursor->layer)->path, btree_pos_offset(pos),
						 "the keys of index page %u are not in order", pos->page);
}

/*
 * Moves from an entry of a delta file, at or below lsn_max, to the last such
 * entry of the same key.  "at" is the entry's key and LSN, before and after.
 */
static PsError *
seek_newest(const LayerCursor *cursor, uint8 *at, BtreePos *pos)
{
	uint8 target[DELTA_KEY_SIZE];
	bool found;

	memcpy(target, at, PS_KEY_SIZE);
	ps_put64(target + PS_KEY_SIZE, cursor->lsn_max);
	PS_TRY(btree_seek_le(&layer_file_of(cursor->layer)->index, target, pos, &found, NULL));
	if (found)
		btree_key(pos, at);
	return found && memcmp(at, target, PS_KEY_SIZE) == 0 ? NULL : out_of_order(cursor, pos);
}

/* Moves to the first entry of the next key; *found is false if there is none. */
static PsError *
seek_next_key(const LayerCursor *cursor, const uint8 *at, BtreePos *pos, bool *found)
{
	uint8 target[DELTA_KEY_SIZE];
	uint8 next[DELTA_KEY_SIZE];

	memcpy(target, at, PS_KEY_SIZE);
	ps_put64(target + PS_KEY_SIZE, PG_UINT64_MAX);
	PS_TRY(btree_seek_ge(&layer_file_of(cursor->layer)->index, target, pos, found));
	if (!*found)
		return NULL;
	btree_key(pos, next);
	return memcmp(next, at, PS_KEY_SIZE) > 0 ? NULL : out_of_order(cursor, pos);
}

/*
 * Reads from pos on, up to the end of the first key that has versions at or
 * below lsn_max.  Caller has acquired the layer.
 */
static PsError *
read_key(LayerCursor *cursor, BtreePos *pos)
{
	const Layer *layer = cursor->layer;
	bool is_delta = layer->info.type == LAYER_DELTA;
	uint8 last[PS_KEY_SIZE];
	bool has_last = false;
	int steps = 0;

	while (!cursor->at_end)
	{
		uint8 at[DELTA_KEY_SIZE];
		XLogRecPtr lsn;
		bool found;
		bool skip;
		BtreePlace before = btree_place(pos);

		btree_key(pos, at);
		if (!has_last || memcmp(at, last, PS_KEY_SIZE) != 0)
		{
			PsKey key;

			if (cursor->versions.n > 0)
				break;
			ps_key_decode(at, &key);
			if (ps_key_cmp(&key, &cursor->hi) > 0)
			{
				cursor->at_end = true;
				break;
			}
			cursor->key = key;
			memcpy(last, at, PS_KEY_SIZE);
			has_last = true;
			steps = 0;
		}
		skip = cursor->newest && is_delta && ++steps > STEPS_TO_NEWEST;
		lsn = is_delta ? ps_get64(at + PS_KEY_SIZE) : layer->info.lsn_start;
		if (lsn <= cursor->lsn_max)
		{
			ValueRef ref;

			if (skip)
			{
				PS_TRY(seek_newest(cursor, at, pos));
				lsn = ps_get64(at + PS_KEY_SIZE);
			}
			if (cursor->newest)
				cursor->versions.n = 0;
			PS_TRY(layer_entry_ref(layer, pos, lsn, &ref));
			value_list_add(&cursor->versions, &ref);
		}
		if (skip)
		{
			PS_TRY(seek_next_key(cursor, at, pos, &found));
			/* the inner pages led there, and may contradict the leaves: do not loop */
			if (found && (pos->page < before.page || (pos->page == before.page && pos->entry <= before.entry)))
				return out_of_order(cursor, pos);
		}
		else
			PS_TRY(btree_next(pos, &found));
		cursor->at_end = !found;
	}
	cursor->place = btree_place(pos);

	/* the file has the oldest first */
	for (int i = 0, j = cursor->versions.n - 1; i < j; i++, j--)
	{
		ValueRef ref = cursor->versions.refs[i];

		cursor->versions.refs[i] = cursor->versions.refs[j];
		cursor->versions.refs[j] = ref;
	}
	cursor->valid = cursor->versions.n > 0;
	return NULL;
}

PsError *
layer_cursor_next(LayerCursor *cursor)
{
	BtreePos pos;
	PsError *err;

	cursor->valid = false;
	cursor->versions.n = 0;
	if (cursor->at_end)
		return NULL;
	PS_TRY(layer_acquire(cursor->layer));
	err = btree_return(&layer_file_of(cursor->layer)->index, cursor->place, &pos);
	if (err == NULL)
		err = read_key(cursor, &pos);
	layer_release(cursor->layer);
	return err;
}

PsError *
layer_cursor_open(LayerCursor *cursor, const Layer *layer, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn_max,
				  bool newest)
{
	uint8 target[DELTA_KEY_SIZE] = {0};
	BtreePos pos;
	bool found;
	PsError *err;

	memset(cursor, 0, sizeof(*cursor));
	cursor->layer = layer;
	cursor->hi = *hi;
	cursor->lsn_max = lsn_max;
	cursor->newest = newest;
	ps_key_encode(lo, target);
	PS_TRY(layer_acquire(layer));
	layer_stream_hold(layer);
	cursor->held = true;
	err = btree_seek_ge(&layer_file_of(layer)->index, target, &pos, &found);
	cursor->at_end = err != NULL || !found;
	if (!cursor->at_end)
		err = read_key(cursor, &pos);
	layer_release(layer);
	return err;
}

/* Number of entries before a position, assuming that all leaf pages are equally full. */
static double
entries_before(const Layer *layer, const BtreePos *pos)
{
	const LayerSummary *summary = &layer_file_of(layer)->summary;

	return (double) summary->entries / summary->leaf_pages * (pos->page + (double) pos->entry / pos->count);
}

/* Caller has acquired the layer. */
static PsError *
find_range(const Layer *layer, const PsKey *lo, const PsKey *hi, LayerRange *range)
{
	const LayerSummary *summary = &layer_file_of(layer)->summary;
	uint8 target[DELTA_KEY_SIZE] = {0};
	uint8 first[DELTA_KEY_SIZE];
	BtreePos pos;
	double from;
	double to = summary->entries;
	bool found;

	ps_key_encode(lo, target);
	PS_TRY(btree_seek_ge(&layer_file_of(layer)->index, target, &pos, &found));
	if (!found)
		return NULL;
	from = entries_before(layer, &pos);
	ps_key_encode(hi, target);
	btree_key(&pos, first);
	/* an empty range must be reported as empty, whatever the rounding */
	if (memcmp(first, target, PS_KEY_SIZE) > 0)
		return NULL;
	memset(target + PS_KEY_SIZE, 0xFF, DELTA_KEY_SIZE - PS_KEY_SIZE);
	PS_TRY(btree_seek_le(&layer_file_of(layer)->index, target, &pos, &found, NULL));
	if (!found)
		return NULL;
	to = entries_before(layer, &pos) + (double) summary->entries / summary->leaf_pages / pos.count;
	if (to > from)
	{
		range->entries = Max((uint64) (to - from), 1);
		range->bytes = (uint64) ((to - from) / summary->entries * summary->file_size);
	}
	return NULL;
}

PsError *
layer_range(const Layer *layer, const PsKey *lo, const PsKey *hi, LayerRange *range)
{
	PsError *err;

	*range = (LayerRange) {0};
	PS_TRY(layer_acquire(layer));
	err = find_range(layer, lo, hi, range);
	layer_release(layer);
	return err;
}

void
layer_cursor_close(LayerCursor *cursor)
{
	if (cursor->held)
		layer_stream_let_go(cursor->layer, false);
	free(cursor->versions.refs);
}
