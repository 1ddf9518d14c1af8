/*
 * t_fetch.c
 *	  Layers whose files are not on this disk, but in a source (fake_source.h): how
 *	  often a read asks the source, what is kept, outages, threads that need the
 *	  same, damage here and there.
 *
 * TEST_SEED repeats a run.
 */
#include "warm_store.h"

#include <pthread.h>
#include <unistd.h>

#include "fake_source.h"
#include "layer/layer_cache.h"
#include "layer/layer_stream.h"
#include "read/read_impl.h"
#include "read/values.h"

static const char *const io_methods[] = {"sync", "worker", "io_uring"};

static FakeSource source;

/* ---- the store, with an empty disk ---- */

typedef void (*LayerAction)(Layer *layer);

static void
for_layers(Made *made, LayerAction action)
{
	LayerSet *set = timeline_files(made->s.tl);

	for (int i = 0; i < layer_map_count(set->map); i++)
		action(layer_map_get(set->map, i));
	layer_set_unref(set);
}

static void
put_layer(Layer *layer)
{
	fake_source_put(&source, layer);
}

static void
set_remote(Layer *layer)
{
	layer_set_remote(layer);
}

static void
evict_layer(Layer *layer)
{
	/* what upkeep has written was not put there yet */
	fake_source_put(&source, layer);
	CHECK(layer_evict(layer));
	CHECK(layer_local_bytes(layer) == 0);
}

static void
set_undamaged(Layer *layer)
{
	layer_set_damaged(layer, false);
}

static void
check_undamaged(Layer *layer)
{
	CHECK(!layer_is_damaged(layer));
}

/* Nothing of any layer is here. */
static void
make_cold(Made *made)
{
	for_layers(made, evict_layer);
	fake_source_reset(&source);
}

static void
start_again(Made *made)
{
	store_reopen(&made->s);
	for_layers(made, set_remote);
	fake_source_reset(&source);
}

static void
make_remote_store(Made *made, const char *io_method)
{
	char dir[512];

	memset(made, 0, sizeof(*made));
	warm_gap = 2 * PRESENCE_UNIT;
	make_store(made, io_method);
	snprintf(dir, sizeof(dir), "%s.source", made->s.dir);
	fake_source_begin(&source, dir);
	made->s.source = &source;
	/* upkeep is done when a test asks for it, and has something to do */
	made->s.config.compaction_workers = 0;
	made->s.config.compaction_threshold = 2;
	made->s.config.compaction_fanout = 4;
	made->s.config.compaction_backlog = 1000;
	made->s.config.compaction_memory = 16;
	made->s.config.target_file_size = 8;
	made->s.config.image_delta_records = 16;
	made->s.config.image_delta_percent = 30;
	made->s.config.image_delta_layers = 3;
	store_reopen(&made->s);
	for_layers(made, put_layer);
}

/* ---- tests ---- */

static void
count_rounds(int most)
{
	if (source.rounds > most)
	{
		fprintf(stderr, "%d rounds with %d requests, expected %d rounds at most\n", source.rounds, source.requests,
				most);
		abort();
	}
	CHECK(source.rounds == 0 || most > 0);
	fake_source_reset(&source);
}

/*
 * A page of files of which nothing is here: their ends, a leaf page of each index, the
 * values.  Many pages in many layers take no more rounds.
 */
static void
test_rounds(Made *made)
{
	BlockNumber blks[64];
	BlockNumber one = 7;

	make_cold(made);
	OK(read_blocks(made, &one, 1));
	CHECK(source.rounds == 3);
	count_rounds(3);
	OK(read_blocks(made, &one, 1));
	count_rounds(0);

	for (int i = 0; i < lengthof(blks); i++)
		blks[i] = i;
	for (int n = 32; n <= 64; n += 32)
	{
		make_cold(made);
		OK(read_blocks(made, blks, n));
		count_rounds(n == 32 ? 5 : 6);
		OK(read_blocks(made, blks, n));
		count_rounds(0);
	}
}

static PsError *
count_version(void *arg, const PsKey *key, const ValueRef *ref)
{
	(*(int *) arg)++;
	return NULL;
}

static PsError *
count_size(void *arg, const PsKey *key, const char *value, uint32 len)
{
	int *n = arg;

	CHECK(relsize_value_nblocks(value, len) == *n);
	(*n)++;
	return NULL;
}

/* So does a scan: of the indexes alone, and with the values, which are in another unit of each file. */
static void
test_scan(Made *made)
{
	PsKey lo = ps_key_block(rel, MAIN_FORKNUM, 0);
	PsKey hi = ps_key_block(rel, MAIN_FORKNUM, NBLOCKS - 1);
	LayerSet *set = timeline_files(made->s.tl);
	int n = 0;

	make_cold(made);
	OK(layer_map_scan(set->map, &lo, &hi, made->h.gen.pos, count_version, &n));
	CHECK(n == NBLOCKS);
	count_rounds(2);
	layer_set_unref(set);

	make_cold(made);
	lo = ps_key_relsize(size_rel(0), MAIN_FORKNUM);
	hi = ps_key_relsize(size_rel(NLAYERS - 1), MAIN_FORKNUM);
	n = 0;
	OK(timeline_scan(made->s.tl, &lo, &hi, made->h.gen.pos, count_size, &n));
	CHECK(n == NLAYERS);
	count_rounds(3);
}

/* What was fetched is there after a start, and part files that are not needed are removed. */
static void
test_restart(Made *made)
{
	BlockNumber blks[] = {1, 2, 3};
	char stray[600];
	char whole[600];
	char away[600];
	uint8 byte = 0;

	make_cold(made);
	OK(read_blocks(made, blks, 3));
	start_again(made);
	OK(read_blocks(made, blks, 3));
	count_rounds(0);

	/* of a layer that is here as a whole, and of no layer */
	CHECK(layer_of(blks[0]) == 0);
	snprintf(stray, sizeof(stray), "%s%s", made->files[0], PRESENCE_SUFFIX);
	CHECK(access(stray, F_OK) == 0);
	snprintf(away, sizeof(away), "%s/%016x%s", made->s.dir, 1, PRESENCE_SUFFIX);
	snprintf(whole, sizeof(whole), "%s", made->files[0]);
	store_close(made->s.store);
	OK(fs_write_new_file(whole, &byte, 1, false));
	CHECK(link(stray, away) == 0);
	snprintf(stray, sizeof(stray), "%s.part.part", made->files[1]);
	CHECK(rename(away, stray) == 0);
	OK(store_try_open(&made->s));
	CHECK(access(stray, F_OK) != 0);
	snprintf(stray, sizeof(stray), "%s%s", made->files[0], PRESENCE_SUFFIX);
	CHECK(access(stray, F_OK) != 0);
	snprintf(stray, sizeof(stray), "%s%s", made->files[1], PRESENCE_SUFFIX);
	CHECK(access(stray, F_OK) == 0);
	store_close(made->s.store);
	CHECK(unlink(whole) == 0);
	OK(store_try_open(&made->s));
	for_layers(made, set_remote);
}

/* Out of reach: what is here is read, the rest is an error that passes, and no layer is said to be damaged. */
static void
test_outage(Made *made)
{
	BlockNumber here = 5;
	BlockNumber absent = 250; /* in a layer below, or on another index page */
	BlockNumber both[] = {5, 250};

	make_cold(made);
	OK(read_blocks(made, &here, 1));
	fake_source_reset(&source);
	source.down = true;
	OK(read_blocks(made, &here, 1));
	FAILS(read_blocks(made, &absent, 1), PS_SQLSTATE_TRY_AGAIN, "out of reach");
	/* once without patience, for all, and once for what is really needed first */
	CHECK(source.impatient <= 2 && source.rounds - source.impatient == 1);
	FAILS(read_blocks(made, both, 2), PS_SQLSTATE_TRY_AGAIN, "out of reach");
	source.down = false;
	start_again(made);
	source.down = true;
	OK(read_blocks(made, &here, 1));
	CHECK(source.rounds == 0);
	FAILS(read_blocks(made, &absent, 1), PS_SQLSTATE_TRY_AGAIN, "out of reach");
	make_cold(made);
	FAILS(read_blocks(made, &here, 1), PS_SQLSTATE_TRY_AGAIN, "out of reach");
	source.down = false;
	OK(read_blocks(made, both, 2));
	for_layers(made, check_undamaged);
}

/* An object that does not exist, or is too short, is damage, of these layers alone, until it is there again. */
static void
test_lost_object(Made *made)
{
	BlockNumber blk = NLAYERS / 2 + 1;
	BlockNumber above = blk + 1;
	LayerSet *set = timeline_files(made->s.tl);
	char name[LAYER_NAME_MAX];

	for (int i = 0; i < layer_map_count(set->map); i++)
	{
		Layer *layer = layer_map_get(set->map, i);
		char path[1024];
		char moved[1100];

		if (strstr(made->files[layer_of(blk)], layer_name(layer, name)) == NULL)
			continue;
		fake_source_path(&source, layer->space, layer_info(layer), path, sizeof(path));
		snprintf(moved, sizeof(moved), "%s.moved", path);
		make_cold(made);
		CHECK(rename(path, moved) == 0);
		OK(read_blocks(made, &above, 1));
		FAILS(read_blocks(made, &blk, 1), PS_SQLSTATE_CORRUPTED, "does not exist");
		CHECK(layer_is_damaged(layer));
		CHECK(rename(moved, path) == 0);
		OK(read_blocks(made, &blk, 1));
		layer_set_damaged(layer, false);
	}
	layer_set_unref(set);
	make_cold(made);
	source.truncate = true;
	FAILS(read_blocks(made, &blk, 1), PS_SQLSTATE_CORRUPTED, "too short");
	source.truncate = false;
	OK(read_blocks(made, &blk, 1));
}

/* Changes a byte of what was fetched of a layer. */
static void
damage(const char *file, uint64 offset)
{
	char path[600];
	uint8 byte;
	int fd;

	snprintf(path, sizeof(path), "%s%s", file, PRESENCE_SUFFIX);
	fd = open(path, O_RDWR);
	CHECK(fd >= 0 && pread(fd, &byte, 1, (off_t) offset) == 1);
	byte ^= 0x20;
	CHECK(pwrite(fd, &byte, 1, (off_t) offset) == 1);
	close(fd);
}

static PsError *
read_chain(Made *made)
{
	PsKey key = ps_key_block(hot_rel, MAIN_FORKNUM, 0);
	ReadView view;
	Plan plan;
	ValueBatch batch;
	PsError *err;

	OK(view_open(&view, made->s.tl, made->h.gen.pos));
	err = plan_one_key(&plan, &view, &key, 0, made->h.gen.pos);
	value_batch_init(&batch, &view);
	for (int i = 0; err == NULL && i < Min(100, plan.versions.n); i++)
		value_batch_add(&batch, &plan.versions.refs[i], NULL);
	value_batch_read(&batch);
	for (int i = 0; i < batch.n; i++)
		err = ps_error_first(err, batch.reads[i].err);
	value_batch_free(&batch);
	plan_free(&plan);
	view_close(&view);
	return err;
}

/* Where the image of a block is in its file. */
static uint64
value_at(Made *made, BlockNumber blk)
{
	PsKey key = ps_key_block(rel, MAIN_FORKNUM, blk);
	ReadView view;
	Plan plan;
	uint64 offset;

	OK(view_open(&view, made->s.tl, made->h.gen.pos));
	OK(plan_one_key(&plan, &view, &key, 0, made->h.gen.pos));
	CHECK(plan.versions.n == 1);
	offset = plan.versions.refs[0].at.offset + BLOB_HEADER_MIN + 20;
	plan_free(&plan);
	view_close(&view);
	return offset;
}

static PsError *
read_one(Made *made)
{
	return read_blocks(made, &(BlockNumber) {9}, 1);
}

/*
 * Damage of what was fetched is repaired by fetching it again, once.  Damage of
 * the object is an error that names it, until it is repaired.
 */
static void
check_damage(Made *made, const char *file, uint64 offset, PsError *(*read_it)(Made *made))
{
	for (int i = 0; i < 3; i++)
	{
		bool with_object = i == 1;
		PsError *err;

		start_again(made);
		OK(read_it(made));
		damage(file, offset);
		if (i < 2)
			start_again(made);
		source.flip = with_object ? 1000 : 0;
		fake_source_reset(&source);
		err = read_it(made);
		source.flip = 0;
		if (with_object)
		{
			CHECK(err != NULL && err->detail != NULL);
			if (!ps_error_is(err, PS_SQLSTATE_CORRUPTED) || strstr(err->detail, "object \"fake:") == NULL ||
				strstr(err->message, file) == NULL)
			{
				fprintf(stderr, "%s: %s %s\n", err->sqlstate, err->message, err->detail);
				abort();
			}
			ps_error_free(err);
			CHECK(source.rounds <= 4);
			/* but not at once */
			while ((err = read_it(made)) != NULL && ps_error_is(err, PS_SQLSTATE_CORRUPTED))
			{
				ps_error_free(err);
				pg_usleep(10000);
			}
		}
		OK(err);
		/* a page that was checked already is not checked again */
		CHECK(source.rounds > 0 || i == 2);
		if (!with_object)
			for_layers(made, check_undamaged);
		CHECK(source.rounds <= 4);
		fake_source_reset(&source);
		OK(read_it(made));
		CHECK(source.rounds == 0);
		for_layers(made, set_undamaged);
	}
}

static void
test_damage(Made *made)
{
	const char *file = made->files[layer_of(9)];
	char path[600];
	uint8 block[LAYER_BLOCK_SIZE];
	LayerSummary summary;
	int fd;

	make_cold(made);
	OK(read_one(made));
	OK(read_chain(made));
	snprintf(path, sizeof(path), "%s%s", file, PRESENCE_SUFFIX);
	fd = open(path, O_RDONLY);
	CHECK(fd >= 0 && pread(fd, block, sizeof(block), 0) == sizeof(block));
	close(fd);
	OK(layer_summary_decode(path, block, &summary));
	check_damage(made, file, 100, read_one);
	check_damage(made, file, summary.file_size - 100, read_one);
	check_damage(made, file, summary.index_start + 100, read_one);
	check_damage(made, file, value_at(made, 9), read_one);
	/* an index page is checked at each use until it is synced, because until then it may become a hole */
	make_cold(made);
	OK(read_one(made));
	damage(file, summary.index_start + 100);
	fake_source_reset(&source);
	OK(read_one(made));
	CHECK(source.rounds == 1);
	/* the dictionary */
	check_damage(made, made->hot_file, LAYER_BLOCK_SIZE + 100, read_chain);
}

/* ---- threads ---- */

typedef struct Reader
{
	Made *made;
	pthread_t thread;
	BlockNumber blk;
	const CancelCheck *cancel;
	PsError *err;
} Reader;

static void *
read_block(void *arg)
{
	Reader *r = arg;
	char page[BLCKSZ];
	char expected[BLCKSZ];

	layer_context = (LayerContext) {.cancel = r->cancel, .by_client = true};
	r->err = timeline_read_pages(r->made->s.tl, rel, MAIN_FORKNUM, &r->blk, 1, r->made->h.gen.pos, page);
	expected_page(r->blk, expected);
	CHECK(r->err != NULL || memcmp(page, expected, BLCKSZ) == 0);
	return NULL;
}

static void
start_reader(Reader *r, Made *made, BlockNumber blk, const CancelCheck *cancel)
{
	*r = (Reader) {.made = made, .blk = blk, .cancel = cancel};
	CHECK(pthread_create(&r->thread, NULL, read_block, r) == 0);
}

static void *
acquire_layer(void *arg)
{
	PsError *err = layer_acquire(arg);

	if (err == NULL)
		layer_release(arg);
	return err;
}

/* Two threads open the same file: one fetches, and the other one gets its error. */
static void
test_opening(Made *made)
{
	LayerSet *set = timeline_files(made->s.tl);
	Layer *layer = layer_map_get(set->map, 0);
	pthread_t threads[2];
	bool waits = false;

	make_cold(made);
	fake_source_set_hold(&source, true);
	CHECK(pthread_create(&threads[0], NULL, acquire_layer, layer) == 0);
	fake_source_wait_held(&source, 1);
	CHECK(pthread_create(&threads[1], NULL, acquire_layer, layer) == 0);
	while (!waits)
	{
		pg_usleep(1000);
		waits = atomic_load(&layer->opening) != NULL;
	}
	source.down = true;
	fake_source_set_hold(&source, false);
	for (int i = 0; i < lengthof(threads); i++)
	{
		void *err;

		pthread_join(threads[i], &err);
		FAILS(err, PS_SQLSTATE_TRY_AGAIN, "out of reach");
	}
	CHECK(source.rounds == 1);
	source.down = false;
	layer_set_unref(set);
}

static atomic_bool stop;

static PsError *
is_stopped(void *arg)
{
	return stop ? cancel_error(CANCEL_BY_CLIENT, NULL) : NULL;
}

/* Several threads need the same: it is asked for once, and all get the same error. */
static void
test_threads(Made *made)
{
	Reader readers[8];
	uint64 bytes;

	make_cold(made);
	OK(read_blocks(made, &(BlockNumber) {9}, 1));
	bytes = source.bytes;
	for (int i = 0; i < 4; i++)
	{
		bool down = i % 2 == 1;

		make_cold(made);
		fake_source_set_hold(&source, true);
		for (int k = 0; k < lengthof(readers); k++)
		{
			start_reader(&readers[k], made, 9, NULL);
			if (k == 0)
				fake_source_wait_held(&source, 1);
		}
		source.down = down;
		fake_source_set_hold(&source, false);
		for (int k = 0; k < lengthof(readers); k++)
		{
			pthread_join(readers[k].thread, NULL);
			if (down)
				FAILS(readers[k].err, PS_SQLSTATE_TRY_AGAIN, "out of reach");
			else
				OK(readers[k].err);
		}
		if (!down)
			CHECK(source.bytes == bytes);
		source.down = false;
	}

	/* with different pages, and too few descriptors */
	for (int round = 0; round < 6; round++)
	{
		layer_set_max_open(round % 2 == 0 ? 512 : 8);
		make_cold(made);
		for (int k = 0; k < lengthof(readers); k++)
			start_reader(&readers[k], made, k * 37 + round, NULL);
		for (int k = 0; k < lengthof(readers); k++)
		{
			pthread_join(readers[k].thread, NULL);
			OK(readers[k].err);
		}
	}
	layer_set_max_open(512);
}

/* A client that waits for the source is canceled; others go on to wait, and get what they need. */
static void
test_cancel(Made *made)
{
	const CancelCheck cancel = {is_stopped, NULL};
	Reader canceled[3];
	Reader waits;

	make_cold(made);
	fake_source_set_hold(&source, true);
	stop = false;
	start_reader(&canceled[0], made, 9, &cancel);
	fake_source_wait_held(&source, 1);
	start_reader(&canceled[1], made, 9, &cancel);
	start_reader(&canceled[2], made, 9 + NLAYERS + 1, &cancel);
	start_reader(&waits, made, 9, NULL);
	stop = true;
	for (int i = 0; i < lengthof(canceled); i++)
	{
		pthread_join(canceled[i].thread, NULL);
		FAILS(canceled[i].err, PS_SQLSTATE_CANCELED, "client's request");
	}
	fake_source_set_hold(&source, false);
	pthread_join(waits.thread, NULL);
	OK(waits.err);
}

/* ---- work past the cache ---- */

static PsError *
no_pace(void *arg, size_t bytes)
{
	*(uint64 *) arg += bytes;
	return NULL;
}

static void
check_not_here(Layer *layer)
{
	CHECK(!layer_is_remote(layer) || layer_local_bytes(layer) == 0);
}

static void
verify_layer(Layer *layer)
{
	uint64 bytes = 0;

	OK(layer_verify(layer, no_pace, &bytes));
	CHECK(bytes > 0);
}

/* What a client reads while the thread streams. */
static void
read_all(Made *made, bool damaged)
{
	BlockNumber blks[NBLOCKS];

	for (int i = 0; i < NBLOCKS; i++)
		blks[i] = i;
	if (damaged)
		FAILS(read_blocks(made, blks, NBLOCKS), PS_SQLSTATE_CORRUPTED, "");
	else
		OK(read_blocks(made, blks, NBLOCKS));
	if (!damaged)
		OK(read_chain(made));
}

static PsError *
no_version(void *arg, const PsKey *key, const ValueRef *ref)
{
	return NULL;
}

/* A pass over the index of a layer keeps only a part of it. */
static void
check_kept(Layer *layer)
{
	PsKey lo = {.kind = 0};
	PsKey hi = ps_key_last();
	struct stat st;

	if (layer_info(layer)->entries < FILLERS || layer_info(layer)->level != 1)
		return;
	OK(layer_scan(layer, &lo, &hi, PG_UINT64_MAX - 1, no_version, NULL));
	OK(layer_acquire(layer));
	CHECK(fstat(layer_file_of(layer)->fd, &st) == 0);
	CHECK(st.st_blocks * 512 < layer_info(layer)->file_size / 2);
	layer_release(layer);
}

/*
 * Verification, exports, merges, images and garbage collection read all layers, and fill no cache; of what is
 * fetched little is kept.  What the cache has is not fetched.
 */
static void
test_stream(Made *made)
{
	uint64 keep = layer_stream_keep;
	int open_before;
	LayerStream *stream;
	uint64 bytes;

	start_again(made);
	for (int i = 0; i < 2; i++)
	{
		layer_stream_keep = i == 0 ? keep : 3 * PRESENCE_UNIT;
		make_cold(made);
		open_before = layer_count_open();
		for_layers(made, verify_layer);
		for_layers(made, check_not_here);
		CHECK(layer_count_open() == open_before);
		stream = layer_stream_begin();
		CHECK(stream != NULL && layer_stream_begin() == NULL);
		read_all(made, false);
		layer_stream_end(stream);
		for_layers(made, check_not_here);
		CHECK(layer_count_open() == open_before);
	}
	make_cold(made);
	stream = layer_stream_begin();
	layer_stream_keep = PRESENCE_UNIT;
	for_layers(made, check_kept);
	layer_stream_end(stream);
	layer_stream_keep = keep;

	/* a file of each layer; once in sequence */
	make_cold(made);
	for_layers(made, verify_layer);
	bytes = source.bytes;
	CHECK(source.requests < 40 * NLAYERS);

	/* damage of the source, of the cache */
	stream = layer_stream_begin();
	source.flip = 1000000;
	read_all(made, true);
	source.flip = 0;
	layer_stream_end(stream);
	for_layers(made, check_not_here);
	OK(read_one(made));
	damage(made->files[layer_of(9)], value_at(made, 9));
	stream = layer_stream_begin();
	read_all(made, false);
	layer_stream_end(stream);
	for_layers(made, set_undamaged);

	make_cold(made);
	OK(read_one(made));
	fake_source_reset(&source);
	stream = layer_stream_begin();
	OK(read_one(made));
	CHECK(source.rounds == 0);
	layer_stream_end(stream);

	/* out of reach */
	make_cold(made);
	source.down = true;
	stream = layer_stream_begin();
	FAILS(read_one(made), PS_SQLSTATE_TRY_AGAIN, "out of reach");
	layer_stream_end(stream);
	FAILS(maintain_timeline(made->s.tl, true), PS_SQLSTATE_TRY_AGAIN, "out of reach");
	source.down = false;
	for_layers(made, check_undamaged);
	fake_source_reset(&source);
	make_cold(made);
	OK(maintain_timeline(made->s.tl, true));
	CHECK(source.bytes > 0);
	for_layers(made, check_not_here);
	read_all(made, false);
	printf("verification fetched %llu kB, upkeep %llu kB\n", (unsigned long long) bytes / 1024,
		   (unsigned long long) source.bytes / 1024);
}

/* Sends a record that truncates a relation, whose size ingest needs for that. */
static void
push_truncation(Made *made, WalReceiver *receiver, int number)
{
	XLogRecPtr from = made->h.gen.pos;
	XLogRecPtr flushed;
	uint64 random = 1;

	gen_truncate(&made->h.gen, 0, number, 9);
	OK(push(receiver, &made->h, from, made->h.gen.pos, &random, &flushed));
}

/* Ingest waits for the source, and does not fail; a store can be closed while it waits. */
static void
test_ingest(Made *made)
{
	Timeline *tl = made->s.tl;
	WalReceiver *receiver;
	TimelineInfo info;
	WalState state;
	uint64 generation;
	XLogRecPtr start;
	BlockNumber nblocks;
	bool exists;

	OK(timeline_new_generation(tl, "test", NULL, &generation, &state, &start));
	OK(wal_receiver_open(tl, generation, &receiver, &start));
	CHECK(start == made->h.gen.pos);
	make_cold(made);
	source.down = true;
	push_truncation(made, receiver, 0);
	fake_source_wait_rounds(&source, 2);
	timeline_info(tl, &info);
	CHECK(info.error[0] == '\0' && info.ingested_lsn == start);
	source.down = false;
	OK(timeline_wait_ingested(tl, made->h.gen.pos, 60000, NULL));
	OK(timeline_read_relsize(tl, rel, MAIN_FORKNUM, made->h.gen.pos, &exists, &nblocks));
	CHECK(exists && nblocks == 9);

	/* so it does if the disk is full */
	make_cold(made);
	source.full = true;
	push_truncation(made, receiver, 2);
	fake_source_wait_rounds(&source, 2);
	timeline_info(tl, &info);
	CHECK(info.error[0] == '\0' && info.ingested_lsn < made->h.gen.pos);
	source.full = false;
	OK(timeline_wait_ingested(tl, made->h.gen.pos, 60000, NULL));

	make_cold(made);
	source.down = true;
	push_truncation(made, receiver, 3);
	wal_receiver_close(receiver);
	fake_source_wait_rounds(&source, 1);
	store_close(made->s.store);
	source.down = false;
	OK(store_try_open(&made->s));
	OK(timeline_wait_ingested(made->s.tl, made->h.gen.pos, 60000, NULL));
}

/* A layer that is in use, or whose object is not in the source, is not evicted.  It is known when clients read it. */
static void
test_evict(Made *made)
{
	LayerSet *set;
	Reader reader;
	BlockNumber blk = 9;
	int nread = 0;

	start_again(made);
	set = timeline_files(made->s.tl);
	make_cold(made);
	OK(read_blocks(made, &blk, 1));
	for (int i = 0; i < layer_map_count(set->map); i++)
	{
		Layer *layer = layer_map_get(set->map, i);

		CHECK(layer_last_read(layer) == 0);
		OK(layer_acquire(layer));
		CHECK(!layer_evict(layer));
		CHECK(layer_local_bytes(layer) > 0 && layer_local_bytes(layer) < layer_info(layer)->file_size + 64 * 1024);
		layer_release(layer);
		OK(layer_save_fetched(layer));
	}
	start_reader(&reader, made, blk, NULL);
	pthread_join(reader.thread, NULL);
	OK(reader.err);
	for (int i = 0; i < layer_map_count(set->map); i++)
		nread += layer_last_read(layer_map_get(set->map, i)) > 0;
	CHECK(nread > 0 && nread < layer_map_count(set->map));
	layer_set_unref(set);
	store_reopen(&made->s);
	set = timeline_files(made->s.tl);
	CHECK(!layer_evict(layer_map_get(set->map, 0)));
	layer_set_unref(set);
	for_layers(made, set_remote);
}

int
main(void)
{
	ps_log_level = PS_FATAL;
	layer_retry_ms = 100;
	for (int i = 0; i < lengthof(io_methods); i++)
	{
		Made made;

		printf("%s\n", io_methods[i]);
		fflush(stdout);
		make_remote_store(&made, io_methods[i]);
		test_rounds(&made);
		test_scan(&made);
		test_restart(&made);
		test_outage(&made);
		test_lost_object(&made);
		test_damage(&made);
		test_threads(&made);
		test_opening(&made);
		test_cancel(&made);
		test_evict(&made);
		test_stream(&made);
		test_ingest(&made);
		end_store(&made);
		fake_source_end(&source);
	}
	printf("ok\n");
	return 0;
}
