/*
 * layer_verify.c
 *	  Check of a whole layer file: the summary, which must match the manifest;
 *	  each index page; the dictionary; each value.
 *
 * The file is opened a second time, so that earlier checks do not count.  A file
 * that is not here is streamed: two layers must not use the same part file.
 */
#include "ps_fe.h"

#include "bytes.h"
#include "layer/blob.h"
#include "layer/layer_dict.h"
#include "layer/layer_impl.h"
#include "layer/layer_stream.h"

/* A value that an entry refers to. */
typedef struct Place
{
	uint64 offset;
	ValueKind kind;
} Place;

typedef struct Verify
{
	Layer *layer; /* acquired */
	LayerPace pace;
	void *arg;
	Place *places;
	size_t n;
	size_t cap;
} Verify;

static PsError *
note_entry(Verify *verify, const BtreePos *pos, uint8 last[DELTA_KEY_SIZE])
{
	const LayerSummary *s = &layer_file_of(verify->layer)->summary;
	uint8 bytes[DELTA_KEY_SIZE] = {0};
	PsKey key;
	XLogRecPtr lsn;
	ValueRef ref;

	btree_key(pos, bytes);
	ps_key_decode(bytes, &key);
	lsn = s->type == LAYER_DELTA ? ps_get64(bytes + PS_KEY_SIZE) : s->lsn_start;
	if (memcmp(last, bytes, DELTA_KEY_SIZE) >= 0 || ps_key_cmp(&key, &s->key_min) < 0 ||
		ps_key_cmp(&key, &s->key_max) > 0 || lsn < s->lsn_start || lsn >= s->lsn_end)
		return layer_damaged(layer_file_of(verify->layer)->path, btree_pos_offset(pos),
							 "entry %d of index page %u is out of order, or outside the ranges in the summary",
							 pos->entry, pos->page);
	memcpy(last, bytes, DELTA_KEY_SIZE);
	PS_TRY(layer_entry_ref(verify->layer, pos, lsn, &ref));
	if (verify->n == verify->cap)
	{
		verify->cap = Max(1024, verify->cap * 2);
		verify->places = pg_realloc(verify->places, verify->cap * sizeof(Place));
	}
	verify->places[verify->n++] = (Place) {ref.at.offset, (ValueKind) ref.kind};
	return NULL;
}

static PsError *
verify_leaves(Verify *verify)
{
	const LayerFile *file = layer_file_of(verify->layer);
	uint8 last[DELTA_KEY_SIZE] = {0};

	for (uint32 page = 0; page < file->summary.leaf_pages; page++)
	{
		BtreePos pos;

		PS_TRY(verify->pace(verify->arg, LAYER_BLOCK_SIZE));
		layer_stream_trim(verify->layer);
		PS_TRY(btree_load_page(&file->index, page, 0, &pos));
		for (; pos.entry < pos.count; pos.entry++)
			PS_TRY(note_entry(verify, &pos, last));
	}
	if (verify->n != file->summary.entries)
		return layer_damaged(file->path, file->summary.index_start, "the index has %zu entries, by the summary %llu",
							 verify->n, (unsigned long long) file->summary.entries);
	return NULL;
}

/* Each level is a run of pages that refers to all pages of the level below, in order. */
static PsError *
verify_inner_pages(Verify *verify)
{
	const LayerFile *file = layer_file_of(verify->layer);
	uint32 child = 0;
	uint32 children_end = file->summary.leaf_pages;
	int level = 1;

	for (uint32 page = file->summary.leaf_pages; page < file->summary.index_pages; page++)
	{
		BtreePos pos;

		if (child == children_end)
		{
			children_end = page;
			level++;
		}
		PS_TRY(verify->pace(verify->arg, LAYER_BLOCK_SIZE));
		PS_TRY(btree_load_page(&file->index, page, level, &pos));
		for (; pos.entry < pos.count; pos.entry++, child++)
			if (btree_value(&pos) != child)
				return layer_damaged(file->path, btree_pos_offset(&pos),
									 "entry %d of index page %u leads to page %llu, expected %u", pos.entry, page,
									 (unsigned long long) btree_value(&pos), child);
	}
	return NULL;
}

static int
by_offset(const void *a, const void *b)
{
	uint64 x = ((const Place *) a)->offset;
	uint64 y = ((const Place *) b)->offset;

	return x < y ? -1 : x > y;
}

/* Reads each value once, in file order. */
static PsError *
verify_values(Verify *verify)
{
	StringInfoData buf;
	PsError *err = NULL;

	if (verify->n > 0)
		qsort(verify->places, verify->n, sizeof(Place), by_offset);
	initStringInfo(&buf);
	for (size_t i = 0; i < verify->n && err == NULL; i++)
	{
		StoredValue stored;

		if (i > 0 && verify->places[i].offset == verify->places[i - 1].offset)
			continue;
		layer_stream_trim(verify->layer);
		err = blob_read(layer_file_of(verify->layer), verify->places[i].offset, verify->places[i].kind, &buf, &stored);
		if (err == NULL)
			err = verify->pace(verify->arg, stored.size);
	}
	pfree(buf.data);
	return err;
}

static PsError *
verify_file(Verify *verify)
{
	const LayerDict *dict;

	PS_TRY(layer_file_check_padding(layer_file_of(verify->layer)));
	PS_TRY(layer_dict_of_file(layer_file_of(verify->layer), &dict));
	PS_TRY(verify_leaves(verify));
	PS_TRY(verify_inner_pages(verify));
	return verify_values(verify);
}

PsError *
layer_verify(Layer *layer, LayerPace pace, void *arg)
{
	Verify verify = {.layer = layer_new(layer->space, &layer->info), .pace = pace, .arg = arg};
	LayerStream *stream = layer->space->source != NULL ? layer_stream_begin() : NULL;
	PsError *err = layer_acquire(verify.layer);

	if (err == NULL)
	{
		err = verify_file(&verify);
		layer_release(verify.layer);
		layer_stream_let_go(verify.layer, true);
	}
	layer_stream_end(stream);
	layer_unref(verify.layer);
	free(verify.places);
	if (err == NULL)
		layer_set_damaged(layer, false);
	else if (!ps_error_is_transient(err))
		layer_set_damaged(layer, true);
	return err;
}
