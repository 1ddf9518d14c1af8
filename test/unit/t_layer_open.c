/*
 * t_layer_open.c
 *	  The open layer: replacing, long chains, memory, and readers beside the
 *	  writer (build with SANITIZE_FLAGS=-fsanitize=thread to have races found).
 */
#include "ps_fe.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#include "layer_util.h"

static PsKey
block_key(uint32 blk)
{
	return (PsKey) {.kind = PS_KEY_RELBLOCK, .spc = 1663, .db = 5, .rel = 16384, .blk = blk};
}

/* A second version at the same LSN takes the place of the first, whatever both are. */
static void
test_same_lsn_replaces(void **state)
{
	Layer *layer = open_layer_create(10);
	PsKey key = block_key(1);
	ValueList list = {0};
	bool done;

	open_layer_put_record(layer, &key, 20, 15, 50, false);
	open_layer_put_value(layer, &key, 20, VALUE_IMAGE, "first", 5);
	assert_int_equal(open_layer_count(layer), 1);
	assert_ok(layer_collect(layer, &key, 0, 100, &list, &done));
	assert_true(done);
	assert_int_equal(list.n, 1);
	assert_int_equal(list.refs[0].place, VALUE_IN_MEMORY);
	assert_memory_equal(list.refs[0].at.memory, "first", 5);

	open_layer_put_record(layer, &key, 30, 25, 50, false);
	open_layer_put_record(layer, &key, 40, 35, 50, false);
	open_layer_put_value(layer, &key, 40, VALUE_TOMBSTONE, NULL, 0);
	open_layer_put_record(layer, &key, 40, 36, 70, false);
	assert_int_equal(open_layer_count(layer), 3);
	list.n = 0;
	assert_ok(layer_collect(layer, &key, 0, 100, &list, &done));
	assert_int_equal(list.n, 3);
	assert_int_equal(list.refs[0].at.record_start, 36);
	assert_int_equal(list.refs[0].len, 70);
	assert_false(list.refs[0].will_init);
	free(list.refs);
	layer_unref(layer);
}

/* lsn_end is above all versions, whatever the caller says; the key range is what was put. */
static void
test_freeze(void **state)
{
	Layer *layer = open_layer_create(10);
	PsKey keys[3] = {block_key(7), block_key(3), block_key(5)};

	for (int i = 0; i < 3; i++)
		open_layer_put_record(layer, &keys[i], 20 + i, 15, 50, false);
	open_layer_freeze(layer, 22);
	assert_int_equal(layer_info(layer)->lsn_start, 10);
	assert_int_equal(layer_info(layer)->lsn_end, 23);
	assert_int_equal(layer_info(layer)->key_min.blk, 3);
	assert_int_equal(layer_info(layer)->key_max.blk, 7);
	layer_unref(layer);

	layer = open_layer_create(10);
	open_layer_freeze(layer, 10);
	assert_int_equal(layer_info(layer)->lsn_end, 11);
	assert_int_equal(layer_info(layer)->key_max.kind, 0);
	layer_unref(layer);
}

/* Chains of every length up to 100,000 and more, through all sizes of arrays. */
static void
test_hot_keys(void **state)
{
	enum
	{
		KEYS = 40,
		VERSIONS = 130000
	};
	Layer *layer = open_layer_create(1);
	uint64 count = 0;
	uint64 random = 7;
	ValueList list = {0};
	bool done;

	/* key k gets a version at every k*k-th LSN */
	for (XLogRecPtr lsn = 1; lsn <= VERSIONS; lsn++)
		for (int k = 1; k <= KEYS; k++)
			if (lsn % (k * k) == 0)
			{
				PsKey key = block_key(k);

				open_layer_put_record(layer, &key, lsn, lsn - 1, 50, false);
				count++;
			}
	assert_int_equal(open_layer_count(layer), count);

	for (int i = 0; i < 20000; i++)
	{
		int k = 1 + (int) (layer_random(&random) % KEYS);
		PsKey key = block_key(k);
		XLogRecPtr lsn_max = layer_random(&random) % (VERSIONS + 10);
		XLogRecPtr lsn_min = lsn_max - Min(lsn_max, layer_random(&random) % 2000);
		int n = 0;

		list.n = 0;
		assert_ok(layer_collect(layer, &key, lsn_min, lsn_max, &list, &done));
		assert_false(done);
		for (XLogRecPtr lsn = Min(lsn_max, VERSIONS) / (k * k) * (k * k); lsn > 0 && lsn >= lsn_min; lsn -= k * k)
		{
			assert_true(n < list.n);
			assert_int_equal(list.refs[n].lsn, lsn);
			n++;
		}
		assert_int_equal(list.n, n);
	}
	free(list.refs);
	layer_unref(layer);
}

/* The number that the flush decision is made by follows what is put in, and stays near 24 bytes for each version. */
static void
test_memory(void **state)
{
	Layer *layer = open_layer_create(1);
	size_t empty = open_layer_memory(layer);
	size_t before;
	char page[BLCKSZ] = {0};

	assert_true(empty < 64 * 1024);
	for (XLogRecPtr lsn = 1; lsn <= 100000; lsn++)
	{
		PsKey key = block_key(5);

		open_layer_put_record(layer, &key, lsn, lsn - 1, 50, false);
	}
	assert_in_range(open_layer_memory(layer) - empty, 100000 * 24, 100000 * 24 * 3);

	before = open_layer_memory(layer);
	for (uint32 blk = 0; blk < 300000; blk++)
	{
		PsKey key = block_key(100 + blk);

		open_layer_put_record(layer, &key, 100001, 100000, 50, false);
	}
	assert_in_range(open_layer_memory(layer) - before, 300000 * 48, 300000 * 110);

	before = open_layer_memory(layer);
	for (uint32 blk = 0; blk < 1000; blk++)
	{
		PsKey key = block_key(100 + blk);

		open_layer_put_value(layer, &key, 100002, VALUE_IMAGE, page, sizeof(page));
	}
	assert_true(open_layer_memory(layer) - before >= 1000 * sizeof(page) - 1024 * 1024);
	layer_unref(layer);
}

/* ---- readers beside the writer ---- */
#define BLOCKS    2000
#define RELATIONS 50
#define HOT       3 /* every third version is of block 0 */

typedef struct Shared
{
	Layer *open;
	Layer *_Atomic delta; /* set when it is written */
	atomic_bool stop;
	XLogRecPtr end;
	_Atomic XLogRecPtr done; /* versions up to here are put */
	atomic_int failures;
	_Atomic uint64 lookups;
} Shared;

/* What there is at an LSN: a record of a block, and at every 16th the size of a relation. */
static uint32
block_at(XLogRecPtr lsn)
{
	return lsn % HOT == 0 ? 0 : (uint32) (lsn * 2654435761u % BLOCKS);
}

static void
put_at(Layer *layer, XLogRecPtr lsn)
{
	PsKey key = block_key(block_at(lsn));

	open_layer_put_record(layer, &key, lsn, lsn - 1, 100, lsn % 64 == 5);
	if (lsn % 16 == 0)
	{
		PsKey size = {.kind = PS_KEY_RELSIZE, .spc = 1663, .db = 5, .rel = lsn / 16 % RELATIONS};

		open_layer_put_value(layer, &size, lsn, VALUE_IMAGE, (char *) &lsn, sizeof(lsn));
	}
}

/* Compares what was found of a block with what must be there between two LSNs, newest first. */
static bool
check_block(const ValueList *list, uint32 blk, XLogRecPtr lsn_min, XLogRecPtr lsn_max)
{
	int n = 0;

	for (XLogRecPtr lsn = lsn_max; lsn >= lsn_min && lsn > 0; lsn--)
	{
		if (block_at(lsn) != blk)
			continue;
		if (n >= list->n || list->refs[n].lsn != lsn || list->refs[n].will_init != (lsn % 64 == 5))
			return false;
		n++;
		if (lsn % 64 == 5)
			break;
	}
	return list->n == n;
}

typedef struct SizesSeen
{
	XLogRecPtr newest[RELATIONS];
	bool wrong;
} SizesSeen;

static PsError *
note_size(void *arg, const PsKey *key, const ValueRef *ref)
{
	SizesSeen *seen = arg;

	/* newest first, and the value that belongs to it */
	if (seen->newest[key->rel] == 0)
		seen->newest[key->rel] = ref->lsn;
	else if (seen->newest[key->rel] < ref->lsn)
		seen->wrong = true;
	if (ref->place == VALUE_IN_MEMORY && memcmp(ref->at.memory, &ref->lsn, sizeof(ref->lsn)) != 0)
		seen->wrong = true;
	return NULL;
}

static bool
check_sizes(Layer *layer, XLogRecPtr lsn)
{
	PsKey lo = {.kind = PS_KEY_RELSIZE};
	PsKey hi = {.kind = PS_KEY_RELSIZE, .spc = ~0};
	SizesSeen seen = {{0}};

	if (layer_scan(layer, &lo, &hi, lsn, note_size, &seen) != NULL || seen.wrong)
		return false;
	for (XLogRecPtr at = lsn / 16 * 16, i = 0; at > 0 && i < RELATIONS; at -= 16, i++)
		if (seen.newest[at / 16 % RELATIONS] != at)
			return false;
	return true;
}

static void *
reader(void *arg)
{
	Shared *shared = arg;
	uint64 random = (uint64) (uintptr_t) &random;
	ValueList list = {0};
	StringInfoData buf;

	initStringInfo(&buf);
	for (int round = 0; !atomic_load(&shared->stop); round++)
	{
		XLogRecPtr known = atomic_load(&shared->done);
		Layer *delta = atomic_load(&shared->delta);
		Layer *layer = delta != NULL && round % 2 == 0 ? delta : shared->open;
		XLogRecPtr lsn_max = round % 3 == 0 ? known : known - layer_random(&random) % (known + 1);
		XLogRecPtr lsn_min = lsn_max - Min(lsn_max, 500);
		uint32 blk = round % 5 == 0 ? 0 : (uint32) (layer_random(&random) % BLOCKS);
		PsKey key = block_key(blk);
		bool done;

		list.n = 0;
		layer_ref(layer);
		if (layer_collect(layer, &key, lsn_min, lsn_max, &list, &done) != NULL ||
			!check_block(&list, blk, lsn_min, lsn_max) ||
			(round % 64 == 0 && !check_sizes(layer, lsn_max)))
			atomic_fetch_add(&shared->failures, 1);
		if (layer == delta && list.n > 0)
		{
			XLogRecPtr start;
			char expected[100];

			fill_value(list.refs[0].lsn - 1, expected, 100);
			if (layer_read_value(&list.refs[0], &buf, &start) != NULL || start != list.refs[0].lsn - 1 ||
				buf.len != 100 || memcmp(buf.data, expected, 100) != 0)
				atomic_fetch_add(&shared->failures, 1);
		}
		layer_unref(layer);
		atomic_fetch_add(&shared->lookups, 1);
	}
	free(list.refs);
	free(buf.data);
	return NULL;
}

/* Readers go on while versions are put, the layer is frozen and written, and its file is read. */
static void
test_concurrent_readers(void **state)
{
	enum
	{
		READERS = 4
	};
	Shared shared = {.open = open_layer_create(1), .end = 150000};
	pthread_t threads[READERS];
	Layer *delta;
	uint64 lookups;

	for (int i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, reader, &shared), 0);
	for (XLogRecPtr lsn = 1; lsn <= shared.end; lsn++)
	{
		put_at(shared.open, lsn);
		atomic_store(&shared.done, lsn);
		(void) open_layer_memory(shared.open);
	}
	open_layer_freeze(shared.open, shared.end + 1);
	assert_ok(open_layer_write(shared.open, &test_space, read_test_record, NULL, &delta));
	lookups = atomic_load(&shared.lookups);
	atomic_store(&shared.delta, delta);
	while (atomic_load(&shared.lookups) < lookups + 5000 && atomic_load(&shared.failures) == 0)
		sched_yield();
	atomic_store(&shared.stop, true);
	for (int i = 0; i < READERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&shared.failures), 0);
	layer_unref(delta);
	layer_unref(shared.open);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_lsn_replaces),
		cmocka_unit_test(test_freeze),
		cmocka_unit_test(test_hot_keys),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_concurrent_readers),
	};

	return cmocka_run_group_tests(tests, make_test_dir, remove_test_dir);
}
