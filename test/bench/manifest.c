/*
 * manifest.c
 *	  What a change of an open timeline's manifest costs, by the number of its
 *	  layer files.
 *
 *	  manifest [NUMBER_OF_LAYERS ...]
 *
 * The layers are made up, and have no files.  A change adds one, as a flush does:
 * to the map and, synced, to the log.  In between the log is written whole when
 * it is time for that.
 */
#include "ps_fe.h"

#include <sys/stat.h>
#include <time.h>

#include "figures.h"
#include "timeline/engine.h"

#define CHANGES 2000

static void
must(PsError *err)
{
	if (err == NULL)
		return;
	fprintf(stderr, "manifest: %s\n", err->message);
	exit(1);
}

static double
cpu_usec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec * 1e6 + ts.tv_nsec / 1e3;
}

static Layer *
make_layer(LayerSpace *space, bool is_flushed, uint32 i, uint32 n)
{
	PsRel rel = {1663, 5, 16384};
	LayerInfo info = {
		.type = is_flushed ? LAYER_DELTA : LAYER_IMAGE,
		.key_min = ps_key_block(rel, MAIN_FORKNUM, is_flushed ? 0 : i * 1000),
		.key_max = ps_key_block(rel, MAIN_FORKNUM, is_flushed ? n * 1000 : i * 1000 + 999),
		.lsn_start = 0x1000000 + i,
		.lsn_end = 0x1000001 + i,
		.entries = 1000,
		.file_size = 3000000,
		.number = space->next_number++};

	return layer_new(space, &info);
}

static void
bench(int n)
{
	char dir[MAXPGPATH];
	Config config = {0};
	const Config *_Atomic current = &config;
	TimelineEnv env = {.config = &current};
	TimelineSpec spec = {.dir = dir};
	Layer **layers = pg_malloc(n * sizeof(Layer *));
	Manifest m = {.name = "main", .segment_size = 16 * 1024 * 1024, .start_lsn = 0x1000000};
	Manifest found;
	Timeline *tl;
	Outcome outcome;
	LayerMap *map;
	double start;
	double begin;
	double whole;
	double changes;
	double elapsed;
	double in_map = 0;
	double bytes = 0;

	snprintf(dir, sizeof(dir), "%s/pageserver_manifest.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (mkdtemp(dir) == NULL)
		exit(1);
	spec.space = (LayerSpace) {.dir = dir, .next_number = 1};
	spec.pins = pins_create(m.start_lsn, m.start_lsn);
	m.layers = pg_malloc(n * sizeof(LayerInfo));
	for (int i = 0; i < n; i++)
	{
		layers[i] = make_layer(&spec.space, false, i, n);
		m.layers[m.nlayers++] = *layer_info(layers[i]);
	}
	must(manifest_write_new(dir, &m, true));
	start = cpu_usec();
	must(manifest_write(dir, &m, NULL, &outcome));
	whole = cpu_usec() - start;

	tl = timeline_create(&spec, &env, NULL, "main");
	must(manifest_read(dir, &found, &tl->log));
	manifest_copy(&tl->saved, &found);
	manifest_free(&found);
	tl->disk_consistent_lsn = m.start_lsn;
	map = layer_map_create(layers, n);
	tl->layers = layer_set_create(open_layer_create(m.start_lsn), NULL, 0, map);
	start = cpu_usec();
	begin = now_usec();
	for (int i = 0; i < CHANGES; i++)
	{
		Layer *layer = make_layer(&spec.space, true, i, n);
		uint64 before = tl->log.size;

		must(timeline_replace_files(tl, &layer, 1, NULL, 0));
		bytes += tl->log.size > before ? tl->log.size - before : tl->log.size;
		layer_unref(layer);
	}
	changes = cpu_usec() - start;
	elapsed = now_usec() - begin;
	for (int i = 0; i < CHANGES; i++)
	{
		Layer *layer = make_layer(&spec.space, true, i, n);
		LayerMap *changed;

		start = cpu_usec();
		changed = layer_map_change(tl->layers->map, &layer, 1, NULL, 0);
		in_map += cpu_usec() - start;
		layer_map_unref(changed);
		layer_unref(layer);
	}
	printf("  %9d  %9.0f bytes  %8.3f ms  (layer map %8.3f ms)  %8.2f ms  %9.1f kB  %8.1f ms\n", n, bytes / CHANGES,
		   changes / CHANGES / 1e3, in_map / CHANGES / 1e3, elapsed / CHANGES / 1e3, tl->log.state_size / 1024.0,
		   whole / 1e3);
	timeline_free(tl);
	pins_free(spec.pins);
	for (int i = 0; i < n; i++)
		layer_unref(layers[i]);
	free(layers);
	free(m.layers);
	if (system(psprintf("rm -rf '%s'", dir)) != 0)
		exit(1);
}

int
main(int argc, char **argv)
{
	printf("Manifest\n     layers  a change: written  CPU, of which the map  elapsed  the whole: size  CPU\n");
	for (int i = 1; i < argc; i++)
		bench(atoi(argv[i]));
	if (argc == 1)
		for (int n = 100; n <= 100000; n *= 10)
			bench(n);
	return 0;
}
