/*
 * t_page_store.c
 *	  The cache of reconstructed pages: against a model that never evicts, at
 *	  its limits, and with many threads.
 */
#include "ps_fe.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/page_store.h"

#define NKEY      500
#define NTIMELINE 2

static unsigned seed;

/* The page of a key at an LSN says which it is, in every word. */
static void
make_page(uint64 timeline, uint32 blk, XLogRecPtr lsn, char *page)
{
	uint64 word = (timeline * 1000003 + blk) * UINT64CONST(0x9E3779B97F4A7C15) ^ lsn;

	for (int i = 0; i < BLCKSZ; i += sizeof(word))
		memcpy(page + i, &word, sizeof(word));
}

static PsKey
make_key(uint32 blk)
{
	return ps_key_block((PsRel) {1663, 5, 16384 + blk % 3}, MAIN_FORKNUM, blk);
}

static void
test_model(void **state)
{
	/* more than fits, fits just about, nothing fits */
	static const size_t sizes[] = {100 * BLCKSZ, 4000 * BLCKSZ, 15 * BLCKSZ, 0};

	for (int s = 0; s < lengthof(sizes); s++)
	{
		PageStore *cache = page_store_create(sizes[s]);
		XLogRecPtr newest[NTIMELINE][NKEY] = {0};
		PageStoreStats stats;
		uint64 hits = 0;
		uint64 gets = 0;

		for (int i = 0; i < 50000; i++)
		{
			uint64 timeline = random() % NTIMELINE;
			uint32 blk = random() % NKEY;
			PsKey key = make_key(blk);
			XLogRecPtr lsn = 100 + random() % 1000;
			char page[BLCKSZ];
			char expected[BLCKSZ];

			if (random() % 2 == 0)
			{
				make_page(timeline, blk, lsn, page);
				page_store_put(cache, timeline, &key, lsn, page);
				newest[timeline][blk] = Max(newest[timeline][blk], lsn);
			}
			else
			{
				XLogRecPtr lsn_min = random() % 1100;
				XLogRecPtr lsn_max = lsn_min + random() % 500;
				XLogRecPtr found_lsn = 0;

				gets++;
				if (page_store_get(cache, timeline, &key, lsn_min, lsn_max, page, &found_lsn))
				{
					hits++;
					assert_true(found_lsn >= lsn_min && found_lsn <= lsn_max && found_lsn <= newest[timeline][blk]);
					make_page(timeline, blk, found_lsn, expected);
					assert_memory_equal(page, expected, BLCKSZ);
					/* what is not evicted is the newest */
					if (sizes[s] > 2 * NTIMELINE * NKEY * BLCKSZ)
						assert_true(found_lsn == newest[timeline][blk]);
				}
				else if (sizes[s] > 2 * NTIMELINE * NKEY * BLCKSZ)
					assert_true(newest[timeline][blk] == 0 || newest[timeline][blk] < lsn_min ||
								newest[timeline][blk] > lsn_max);
			}
		}
		page_store_stats(cache, &stats);
		assert_true(stats.hits == hits && stats.misses == gets - hits);
		assert_true(stats.pages <= stats.limit && stats.limit <= sizes[s] / BLCKSZ);
		if (s == 0)
			assert_true(stats.pages == stats.limit && hits > 0);
		if (stats.limit == 0)
			assert_true(hits == 0);
		page_store_free(cache);
	}
}

/* A page that is used stays, those that are put once and not asked for again go. */
static void
test_clock(void **state)
{
	PageStore *cache = page_store_create(160 * BLCKSZ);
	PsKey hot = make_key(0);
	char page[BLCKSZ];
	XLogRecPtr lsn;

	make_page(0, 0, 5, page);
	page_store_put(cache, 0, &hot, 5, page);
	for (uint32 blk = 1; blk < 20000; blk++)
	{
		PsKey key = make_key(blk);

		assert_true(page_store_get(cache, 0, &hot, 1, 10, page, &lsn));
		page_store_put(cache, 0, &key, 7, page);
	}
	page_store_free(cache);
}

static PageStore *shared;
static atomic_int torn;

static void *
use_cache(void *arg)
{
	unsigned mine = seed + (unsigned) (uintptr_t) arg;

	for (int i = 0; i < 30000; i++)
	{
		uint32 blk = rand_r(&mine) % 60;
		PsKey key = make_key(blk);
		XLogRecPtr lsn = 1 + rand_r(&mine) % 1000;
		char page[BLCKSZ];
		char expected[BLCKSZ];

		if (rand_r(&mine) % 2 == 0)
		{
			make_page(1, blk, lsn, page);
			page_store_put(shared, 1, &key, lsn, page);
		}
		else if (page_store_get(shared, 1, &key, 0, 1000, page, &lsn))
		{
			make_page(1, blk, lsn, expected);
			if (memcmp(page, expected, BLCKSZ) != 0)
				atomic_fetch_add(&torn, 1);
		}
	}
	return NULL;
}

static void
test_threads(void **state)
{
	pthread_t threads[6];
	PageStoreStats stats;

	shared = page_store_create(48 * BLCKSZ);
	for (uintptr_t i = 0; i < lengthof(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, use_cache, (void *) i), 0);
	for (int i = 0; i < lengthof(threads); i++)
		pthread_join(threads[i], NULL);
	page_store_stats(shared, &stats);
	assert_int_equal(atomic_load(&torn), 0);
	assert_true(stats.hits > 0 && stats.pages <= stats.limit);
	page_store_free(shared);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_clock),
		cmocka_unit_test(test_threads),
	};
	const char *env = getenv("TEST_SEED");

	seed = env != NULL ? strtoul(env, NULL, 10) : (unsigned) time(NULL) ^ (getpid() << 16);
	srandom(seed);
	print_message("TEST_SEED=%u\n", seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
