/*
 * layer_map.c
 *	  Measures the layer map: look-ups, and the cost of a change.
 *
 *	  layer_map [NUMBER_OF_LAYERS ...]
 *
 * The layers are artificial, in the shape that upkeep gives a timeline: 16 files of
 * level 0 over all keys, three runs of merged files, and images of all parts at
 * two LSNs.  A look-up goes through the layers that may have a key, newest
 * first, until an image, as a read does.  A change removes a file of level 0
 * and adds another.  A merge removes all of level 0 and adds a run.
 */
#include "ps_fe.h"

#include "figures.h"
#include "layer/layer_impl.h"

#define LEVEL0          16
#define RUNS            3
#define BLOCKS_PER_PART 1000
#define LOOKUPS         1000000
#define CHANGES         1000

static uint64
next_random(void)
{
	static uint64 state = 88172645463325252ULL;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static Layer *
make_layer(LayerType type, int level, uint32 first_block, uint32 last_block, XLogRecPtr lsn_start, XLogRecPtr lsn_end)
{
	static LayerSpace space = {.next_number = 1};
	PsRel rel = {1663, 5, 16384};
	LayerInfo info = {
		.type = type,
		.level = level,
		.key_min = ps_key_block(rel, MAIN_FORKNUM, first_block),
		.key_max = ps_key_block(rel, MAIN_FORKNUM, last_block),
		.lsn_start = lsn_start,
		.lsn_end = lsn_end,
		.number = space.next_number};

	return layer_new(&space, &info);
}

/* Creates adjacent files that together cover the keys below "blocks". */
static int
make_run(Layer **layers, int n, LayerType type, int level, uint32 blocks, XLogRecPtr lsn_start, XLogRecPtr lsn_end)
{
	for (int i = 0; i < n; i++)
		layers[i] = make_layer(type, level, (uint32) ((uint64) blocks * i / n),
							   (uint32) ((uint64) blocks * (i + 1) / n - 1), lsn_start,
							   lsn_end);
	return n;
}

static void
bench(int n)
{
	Layer **layers = pg_malloc(n * sizeof(Layer *));
	int each = (n - LEVEL0) / (2 + RUNS);
	uint32 blocks = each * BLOCKS_PER_PART;
	LayerMap *map;
	int count = 0;
	uint64 given = 0;
	double start;
	double create;
	double lookups;
	double changes;
	double merge;
	Layer **run = pg_malloc(each * sizeof(Layer *));

	/* oldest first: images, a run, images, runs, level 0 */
	count += make_run(layers + count, each, LAYER_IMAGE, 0, blocks, 1000, 1001);
	count += make_run(layers + count, each, LAYER_DELTA, 2, blocks, 1000, 2000);
	count += make_run(layers + count, each, LAYER_IMAGE, 0, blocks, 2000, 2001);
	for (int i = 1; i < RUNS; i++)
		count += make_run(layers + count, each, LAYER_DELTA, 1, blocks, 1000 + 1000 * i, 2000 + 1000 * i);
	for (int i = 0; i < LEVEL0; i++)
		layers[count++] = make_layer(LAYER_DELTA, 0, 0, blocks, 10000 + 100 * i, 10100 + 100 * i);

	start = now_usec();
	map = layer_map_create(layers, count);
	create = now_usec() - start;

	start = now_usec();
	for (int i = 0; i < LOOKUPS; i++)
	{
		PsRel rel = {1663, 5, 16384};
		PsKey key = ps_key_block(rel, MAIN_FORKNUM, (BlockNumber) (next_random() % blocks));
		LayerSearch search;
		const LayerEntry *entry;

		layer_search_begin(&search, map, &key, 0, 20000);
		do
		{
			entry = layer_search_next(&search);
			given++;
		} while (layer_info(entry->at.layer)->type != LAYER_IMAGE);
		layer_search_end(&search);
	}
	lookups = now_usec() - start;

	start = now_usec();
	for (int i = 0; i < CHANGES; i++)
	{
		Layer **old = &layers[count - 1 - i % LEVEL0];
		Layer *new = make_layer(LAYER_DELTA, 0, 0, blocks, 10000 + 100 * i, 10100 + 100 * i);
		LayerMap *changed = layer_map_change(map, &new, 1, old, 1);

		layer_map_unref(map);
		map = changed;
		layer_unref(*old);
		*old = new;
	}
	changes = now_usec() - start;

	make_run(run, each, LAYER_DELTA, 1, blocks, 10000, 20000);
	start = now_usec();
	layer_map_unref(layer_map_change(map, run, each, layers + count - LEVEL0, LEVEL0));
	merge = now_usec() - start;

	printf("  %9d  %12.0f  %13.1f  %12.1f us  %12.2f ms  %9.1f ms\n", count, LOOKUPS / lookups * 1e6,
		   (double) given / LOOKUPS,
		   changes / CHANGES, merge / 1e3, create / 1e3);
	layer_map_unref(map);
	for (int i = 0; i < each; i++)
		layer_unref(run[i]);
	for (int i = 0; i < count; i++)
		layer_unref(layers[i]);
	free(run);
	free(layers);
}

int
main(int argc, char **argv)
{
	printf("Layer map\n     layers  look-ups / s  layers visited     one change      merge to run       create\n");
	for (int i = 1; i < argc; i++)
		bench(atoi(argv[i]));
	if (argc == 1)
		for (int n = 100; n <= 100000; n *= 10)
			bench(n);
	return 0;
}
