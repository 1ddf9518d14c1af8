/*
 * t_layer_map.c
 *	  The layer map against a list that is gone through from end to end.
 *
 * The layers are made up: the map looks at nothing but what layer_info() says.
 * Run with MAP_SEED=n to repeat a run; the seed is printed.
 */
#include "ps_fe.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>
#include <cmocka.h>

#include "layer/layer_impl.h"

#define MOST_LAYERS 3000
#define BLOCKS      5000
#define LSNS        20000
#define OLD_MAPS    4

static LayerSpace space = {.next_number = 1};
static uint64 random_state;

static uint64
below(uint64 n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % n;
}

static PsKey
some_key(void)
{
	PsRel rel = {1663, 5, 16384};

	return ps_key_block(rel, MAIN_FORKNUM, (BlockNumber) below(BLOCKS));
}

/* Level 0 over all keys, files of merged runs, images, also several with the same first key, files without a key. */
static Layer *
some_layer(uint64 number)
{
	LayerInfo info = {.number = number};
	XLogRecPtr lsn = 1 + below(LSNS);
	uint64 kind = below(20);

	info.file_size = 8192 * (1 + below(100));
	info.lsn_start = lsn;
	info.type = kind < 10 ? LAYER_IMAGE : LAYER_DELTA;
	info.lsn_end = kind < 10 ? lsn + 1 : lsn + 1 + below(LSNS / 20);
	info.level = kind < 10 ? 0 : (int) below(3);
	if (kind == 0)
		return layer_new(&space, &info);
	info.key_min = some_key();
	if (kind % 3 == 0)
		info.key_min.blk = info.key_min.blk / 1000 * 1000;
	info.key_max = info.key_min;
	info.key_max.blk += kind < 12 ? below(20) : below(BLOCKS);
	return layer_new(&space, &info);
}

/* ---- what the map says, and what the list says ---- */
typedef struct List
{
	Layer *layers[MOST_LAYERS];
	int n;
} List;

static int
cmp_pointers(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t) * (Layer *const *) a;
	uintptr_t y = (uintptr_t) * (Layer *const *) b;

	return x < y ? -1 : x > y;
}

static void
check_same(Layer **got, int ngot, Layer **expected, int nexpected)
{
	assert_int_equal(ngot, nexpected);
	qsort(got, ngot, sizeof(Layer *), cmp_pointers);
	qsort(expected, nexpected, sizeof(Layer *), cmp_pointers);
	assert_memory_equal(got, expected, ngot * sizeof(Layer *));
}

static int
scan_list(const List *list, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn_min, XLogRecPtr lsn_max, Layer **out)
{
	int n = 0;

	for (int i = 0; i < list->n; i++)
	{
		const LayerInfo *info = layer_info(list->layers[i]);

		if (ps_key_cmp(&info->key_min, hi) <= 0 && ps_key_cmp(&info->key_max, lo) >= 0 && info->lsn_start <= lsn_max &&
			info->lsn_end > lsn_min)
			out[n++] = list->layers[i];
	}
	return n;
}

static void
check_map(const LayerMap *map, const List *list)
{
	static Layer *got[MOST_LAYERS];
	static Layer *expected[MOST_LAYERS];
	Layer **found;
	int level0 = 0;
	uint64 bytes = 0;

	assert_int_equal(layer_map_count(map), list->n);
	for (int i = 0; i < list->n; i++)
	{
		const LayerInfo *info = layer_info(list->layers[i]);

		level0 += info->type == LAYER_DELTA && info->level == 0;
		bytes += info->file_size;
		expected[i] = list->layers[i];
		got[i] = layer_map_get(map, i);
		if (i > 0)
			assert_true(ps_key_cmp(&layer_info(got[i - 1])->key_min, &layer_info(got[i])->key_min) <= 0);
	}
	assert_int_equal(layer_map_level0(map), level0);
	assert_int_equal(layer_map_bytes(map), bytes);
	check_same(got, list->n, expected, list->n);

	for (int i = 0; i < 20; i++)
	{
		PsKey key = below(50) == 0 ? (PsKey) {0} : some_key();
		PsKey hi = key;
		XLogRecPtr lsn_max = below(10) == 0 ? PG_UINT64_MAX : 1 + below(LSNS + LSNS / 10);
		XLogRecPtr lsn_min = below(2) == 0 ? 0 : below(lsn_max);
		LayerSearch search;
		const LayerEntry *entry;
		XLogRecPtr last = PG_UINT64_MAX;
		int n = 0;

		layer_search_begin(&search, map, &key, lsn_min, lsn_max);
		while ((entry = layer_search_next(&search)) != NULL)
		{
			assert_true(entry->lsn_end <= last);
			assert_int_equal(entry->lsn_end, layer_info(entry->at.layer)->lsn_end);
			last = entry->lsn_end;
			got[n++] = entry->at.layer;
		}
		layer_search_end(&search);
		check_same(got, n, expected, scan_list(list, &key, &key, lsn_min, lsn_max, expected));

		hi.blk += below(100);
		n = layer_map_find(map, &key, &hi, lsn_min, lsn_max, &found);
		for (int k = 1; k < n; k++)
			assert_true(ps_key_cmp(&layer_info(found[k - 1])->key_min, &layer_info(found[k])->key_min) <= 0);
		check_same(found, n, expected, scan_list(list, &key, &hi, lsn_min, lsn_max, expected));
		free(found);
	}
}

/* A change of up to some layers, up to nearly all of them. */
static LayerMap *
change(const LayerMap *map, List *list, uint64 *number)
{
	static Layer *add[MOST_LAYERS];
	static Layer *drop[MOST_LAYERS];
	uint64 most = below(8) == 0 ? MOST_LAYERS : 12;
	int ndrop = (int) below(Min(list->n, most) + 1);
	int nadd = (int) below(Min(MOST_LAYERS - list->n, most) + 1);
	LayerMap *changed;

	for (int i = 0; i < ndrop; i++)
	{
		int which = (int) below(list->n);

		drop[i] = list->layers[which];
		list->layers[which] = list->layers[--list->n];
	}
	for (int i = 0; i < nadd; i++)
	{
		add[i] = some_layer((*number)++);
		list->layers[list->n++] = add[i];
	}
	changed = layer_map_change(map, add, nadd, drop, ndrop);
	for (int i = 0; i < nadd; i++)
		layer_unref(add[i]);
	return changed;
}

/*
 * Old maps stay as they were, whatever changes are made to newer ones.  A map created from the layers of a changed map
 * is the same as that map.
 */
static void
test_model(void **state)
{
	const char *given = getenv("MAP_SEED");
	uint64 seed = given != NULL ? strtoull(given, NULL, 10) : (uint64) time(NULL);
	LayerMap *maps[OLD_MAPS];
	static List lists[OLD_MAPS];
	uint64 number = 1;

	print_message("seed %llu\n", (unsigned long long) seed);
	random_state = seed * 2 + 1;
	memset(lists, 0, sizeof(lists));
	for (int i = 0; i < OLD_MAPS; i++)
		maps[i] = layer_map_create(NULL, 0);
	for (int round = 0; round < 700; round++)
	{
		int from = (int) below(OLD_MAPS);
		int to = (int) below(OLD_MAPS);
		LayerMap *map;

		lists[to] = lists[from];
		map = change(maps[from], &lists[to], &number);
		if (below(4) == 0)
		{
			static Layer *twice[2 * MOST_LAYERS];
			LayerMap *again;

			memcpy(twice, lists[to].layers, lists[to].n * sizeof(Layer *));
			memcpy(twice + lists[to].n, lists[to].layers, lists[to].n * sizeof(Layer *));
			again = layer_map_create(twice, 2 * lists[to].n);
			layer_map_unref(map);
			map = again;
		}
		layer_map_unref(maps[to]);
		maps[to] = map;
		check_map(maps[to], &lists[to]);
		if (round % 50 == 0)
			for (int i = 0; i < OLD_MAPS; i++)
				check_map(maps[i], &lists[i]);
	}
	for (int i = 0; i < OLD_MAPS; i++)
		layer_map_unref(maps[i]);
}

/* What is not there cannot be dropped, what is there not added: both change nothing. */
static void
test_changes_of_nothing(void **state)
{
	Layer *layers[3];
	LayerMap *map;
	LayerMap *same;

	random_state = 1;
	for (int i = 0; i < 3; i++)
		layers[i] = some_layer(i + 1);
	map = layer_map_create(layers, 2);
	same = layer_map_change(map, layers, 2, &layers[2], 1);
	assert_int_equal(layer_map_count(same), 2);
	assert_int_equal(layer_map_bytes(same), layer_map_bytes(map));
	layer_map_unref(map);
	layer_map_unref(same);
	for (int i = 0; i < 3; i++)
	{
		assert_int_equal(atomic_load(&layers[i]->refs), 1);
		layer_unref(layers[i]);
	}
}

/* ---- readers beside changes ---- */
typedef struct Shared
{
	pthread_mutex_t lock; /* for the pointer, and for taking a reference to what it points to */
	LayerMap *map;
	bool stop;
} Shared;

static void *
read_maps(void *arg)
{
	Shared *shared = arg;
	uint64 wrong = 0;
	uint32 blk = 0;

	for (bool stop = false; !stop;)
	{
		LayerMap *map;
		PsKey key = {.kind = PS_KEY_RELBLOCK, .spc = 1663, .db = 5, .rel = 16384, .blk = blk += 7919};
		LayerSearch search;
		const LayerEntry *entry;

		pthread_mutex_lock(&shared->lock);
		map = layer_map_ref(shared->map);
		stop = shared->stop;
		pthread_mutex_unlock(&shared->lock);
		key.blk %= BLOCKS;
		layer_search_begin(&search, map, &key, 0, PG_UINT64_MAX);
		while ((entry = layer_search_next(&search)) != NULL)
		{
			const LayerInfo *info = layer_info(entry->at.layer);

			wrong += ps_key_cmp(&info->key_min, &key) > 0 || ps_key_cmp(&info->key_max, &key) < 0;
		}
		layer_search_end(&search);
		layer_map_unref(map);
	}
	return (void *) (uintptr_t) wrong;
}

static void
test_readers_beside_changes(void **state)
{
	Shared shared = {.map = layer_map_create(NULL, 0)};
	static List list;
	pthread_t threads[3];
	uint64 number = 1;

	pthread_mutex_init(&shared.lock, NULL);
	random_state = 1;
	for (int i = 0; i < lengthof(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_maps, &shared), 0);
	for (int round = 0; round < 2000; round++)
	{
		LayerMap *old = shared.map;
		LayerMap *map = change(old, &list, &number);

		pthread_mutex_lock(&shared.lock);
		shared.map = map;
		pthread_mutex_unlock(&shared.lock);
		layer_map_unref(old);
	}
	pthread_mutex_lock(&shared.lock);
	shared.stop = true;
	pthread_mutex_unlock(&shared.lock);
	for (int i = 0; i < lengthof(threads); i++)
	{
		void *wrong;

		pthread_join(threads[i], &wrong);
		assert_null(wrong);
	}
	layer_map_unref(shared.map);
	pthread_mutex_destroy(&shared.lock);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_changes_of_nothing),
		cmocka_unit_test(test_readers_beside_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
