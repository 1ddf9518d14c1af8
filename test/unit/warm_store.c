/*
 * warm_store.c
 *	  A store with twenty layers of deep indexes: see warm_store.h.
 */
#include "warm_store.h"

#include "read/read_impl.h"

int warm_gap = 0;

const PsRel rel = {SPC, FIRST_DB, FIRST_REL};
const PsRel record_rel = {SPC, FIRST_DB, FIRST_REL + 1};
const PsRel hot_rel = {SPC, FIRST_DB, FIRST_REL + 2};
const PsRel image_rel = {SPC, FIRST_DB, FIRST_REL + 3};

PsRel
size_rel(int number)
{
	return (PsRel) {SPC, FIRST_DB, FIRST_REL + 100 + number};
}

int
layer_of(BlockNumber blk)
{
	return blk % (NLAYERS + 1) - 1;
}

void
expected_page(BlockNumber blk, char *page)
{
	make_page(blk + 1, FIRST_LSN, page);
}

static void
take(Manifest *m, Layer *layer, const LayerSpace *space, char *path)
{
	char name[LAYER_NAME_MAX];

	m->layers = pg_realloc(m->layers, (m->nlayers + 1) * sizeof(LayerInfo));
	m->layers[m->nlayers++] = *layer_info(layer);
	if (path != NULL)
		snprintf(path, 512, "%s/%s", space->dir, layer_name(layer, name));
	layer_unref(layer);
}

/*
 * Images of a relation.  Of "rel" these are the oldest of all, and layers above
 * have newer ones of most blocks; in the same file are the sizes.
 */
static void
write_images(Manifest *m, LayerSpace *space, PsRel of, XLogRecPtr lsn, bool is_oldest)
{
	ImageWriter *writer;
	Layer *layer;
	RelSize size = {.nblocks = NBLOCKS};
	StringInfoData value;
	PsKey key;
	char page[BLCKSZ];

	OK(image_writer_create(space, lsn, &writer));
	initStringInfo(&value);
	relsize_encode(&size, &value);
	for (int i = 0; i < 2 && is_oldest; i++)
	{
		key = ps_key_relsize(i == 0 ? rel : image_rel, MAIN_FORKNUM);
		OK(image_writer_put(writer, &key, value.data, value.len));
	}
	for (BlockNumber blk = 0; blk < NBLOCKS; blk++)
	{
		key = ps_key_block(of, MAIN_FORKNUM, blk);
		if (!is_oldest || layer_of(blk) < 0)
			expected_page(blk, page);
		else
			make_page(999, 1, page);
		OK(image_writer_put(writer, &key, page, BLCKSZ));
	}
	OK(image_writer_finish(writer, &layer));
	take(m, layer, space, NULL);
	pfree(value.data);
}

/* Values that no key has, and that cannot be compressed. */
static void
write_gap(DeltaWriter *writer)
{
	uint64 random = 1;
	uint64 offset;
	uint32 value[2048];

	for (int i = 0; i < lengthof(value); i++)
		value[i] = next_random(&random, PG_UINT32_MAX);
	for (int written = 0; written < warm_gap; written += sizeof(value))
		OK(delta_writer_value(writer, VALUE_IMAGE, InvalidXLogRecPtr, (char *) value, sizeof(value), &offset));
}

/*
 * Images of blocks, a record of block 0 of another relation, the size of a third
 * one, and keys that only make the index greater.
 */
static void
write_layer(Manifest *m, LayerSpace *space, int number, char *path)
{
	DeltaWriter *writer;
	Layer *layer;
	XLogRecPtr lsn = FIRST_LSN + number;
	uint64 offsets[NBLOCKS];
	uint64 record;
	uint64 size_offset;
	StringInfoData value;
	RelSize size = {.nblocks = number};
	char page[BLCKSZ];
	PsKey size_key = ps_key_relsize(size_rel(number), MAIN_FORKNUM);
	PsKey key = ps_key_block(record_rel, MAIN_FORKNUM, 0);

	OK(delta_writer_create(space, 1, lsn, lsn + 1, &writer));
	OK(delta_writer_value(writer, VALUE_RECORD, lsn - 1, "some record", 11, &record));
	write_gap(writer);
	for (BlockNumber blk = 0; blk < NBLOCKS; blk++)
	{
		if (layer_of(blk) != number)
			continue;
		expected_page(blk, page);
		OK(delta_writer_value(writer, VALUE_IMAGE, InvalidXLogRecPtr, page, BLCKSZ, &offsets[blk]));
	}
	write_gap(writer);
	initStringInfo(&value);
	relsize_encode(&size, &value);
	OK(delta_writer_value(writer, VALUE_IMAGE, InvalidXLogRecPtr, value.data, value.len, &size_offset));
	pfree(value.data);
	write_gap(writer);
	OK(delta_writer_add(writer, &size_key, lsn, VALUE_IMAGE, true, false, size_offset));
	for (BlockNumber blk = 0; blk < NBLOCKS; blk++)
	{
		PsKey of_block = ps_key_block(rel, MAIN_FORKNUM, blk);

		if (layer_of(blk) == number)
			OK(delta_writer_add(writer, &of_block, lsn, VALUE_IMAGE, true, false, offsets[blk]));
	}
	OK(delta_writer_add(writer, &key, lsn, VALUE_RECORD, false, true, record));
	for (uint32 i = 0; i < FILLERS; i++)
	{
		/* keys that have no long prefix in common */
		key = (PsKey) {.kind = PS_KEY_RELBLOCK, .spc = SPC + 1 + i * 50000, .db = i, .rel = i, .blk = i};
		OK(delta_writer_add(writer, &key, lsn, VALUE_RECORD, false, true, record));
	}
	OK(delta_writer_finish(writer, &layer));
	OK(layer_acquire(layer));
	CHECK(layer->file->summary.levels == LEVELS);
	layer_release(layer);
	take(m, layer, space, path);
}

/* Many versions of one block, with a dictionary. */
static void
write_hot(Manifest *m, LayerSpace *space, char *path)
{
	PsKey key = ps_key_block(hot_rel, MAIN_FORKNUM, 0);
	Layer *plain;
	Layer *layer;

	for (int round = 0; round < 2; round++)
	{
		DeltaWriter *writer;
		uint64 offset;

		OK(delta_writer_create(space, 1, FIRST_LSN, FIRST_LSN + HOT_VERSIONS, &writer));
		if (round == 1)
			OK(delta_writer_learn(writer, &plain, 1, &key, 1024 * 1024));
		for (int i = 0; i < HOT_VERSIONS; i++)
		{
			char value[100];

			snprintf(value, sizeof(value), "a record of some bytes, with the number %d in it, and more text", i);
			OK(delta_writer_value(writer, VALUE_RECORD, FIRST_LSN + i, value, (uint32) strlen(value), &offset));
			OK(delta_writer_add(writer, &key, FIRST_LSN + i, VALUE_RECORD, i == 0, false, offset));
		}
		OK(delta_writer_finish(writer, round == 0 ? &plain : &layer));
	}
	OK(layer_acquire(layer));
	CHECK(layer->file->summary.dict_size > 0);
	CHECK(layer->file->summary.leaf_pages > 50);
	layer_release(layer);
	layer_remove(plain);
	layer_unref(plain);
	take(m, layer, space, path);
}

void
make_store(Made *made, const char *io_method)
{
	char path[512];
	Manifest m;
	Outcome outcome;
	LayerSpace space;

	history_begin(&made->h, 1);
	store_make(&made->s, &made->h);
	made->s.config.io_method = unconstify(char *, io_method);
	made->s.config.io_workers = 4;
	made->s.config.page_cache_size = 0;
	store_close(made->s.store);

	OK(manifest_read(store_path(&made->s, "", path), &m, NULL));
	space = (LayerSpace) {.dir = psprintf("%slayers", path), .tenant = test_tenant, .timeline = test_timeline};
	atomic_init(&space.next_number, 100);
	write_images(&m, &space, rel, FIRST_LSN - 1, true);
	write_images(&m, &space, image_rel, FIRST_LSN + IMAGE_LAYER, false);
	for (int i = 0; i < NLAYERS; i++)
		write_layer(&m, &space, i, made->files[i]);
	write_hot(&m, &space, made->hot_file);
	OK(manifest_write(path, &m, NULL, &outcome));
	manifest_free(&m);
	pfree(space.dir);
	OK(store_try_open(&made->s));
}

void
end_store(Made *made)
{
	store_close(made->s.store);
	remove_tree(made->s.dir);
	history_end(&made->h);
}

PsError *
read_blocks_of(Made *made, PsRel of, const BlockNumber *blks, int n)
{
	static char pages[NBLOCKS * BLCKSZ];
	XLogRecPtr lsn = made->h.gen.pos;
	PsError *err = timeline_read_pages(made->s.tl, of, MAIN_FORKNUM, blks, n, lsn, pages);

	for (int i = 0; i < n && err == NULL; i++)
	{
		char expected[BLCKSZ];

		expected_page(blks[i], expected);
		CHECK(memcmp(pages + i * BLCKSZ, expected, BLCKSZ) == 0);
	}
	return err;
}

PsError *
read_blocks(Made *made, const BlockNumber *blks, int n)
{
	return read_blocks_of(made, rel, blks, n);
}
