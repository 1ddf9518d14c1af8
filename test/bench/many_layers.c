/*
 * many_layers.c
 *	  Adds layer files to a timeline of a store that is stopped.
 *
 *	  many_layers TIMELINE_DIR COUNT
 *
 * Each is an image of one page of relation 1663/5/99999, so that a read of a
 * block needs a file of its own.  Written by the real writer, but not synced.
 */
#include "ps_fe.h"

#include "layer/layer_writer.h"
#include "pg/relsize.h"
#include "timeline/engine.h"

/* Replaces that of the C library, because the written files need not survive a crash. */
int
fsync(int fd)
{
	return 0;
}

static void
must(PsError *err)
{
	if (err == NULL)
		return;
	fprintf(stderr, "many_layers: %s\n", err->message);
	exit(1);
}

static void
write_image(Manifest *m, LayerSpace *space, const PsKey *key, const char *data, uint32 len)
{
	ImageWriter *writer;
	Layer *layer;

	must(image_writer_create(space, m->start_lsn, &writer));
	must(image_writer_put(writer, key, data, len));
	must(image_writer_finish(writer, &layer));
	m->layers[m->nlayers++] = *layer_info(layer);
	layer_unref(layer);
}

int
main(int argc, char **argv)
{
	const char *dir = argv[1];
	int count = argc == 3 ? atoi(argv[2]) : 0;
	PsRel rel = {1663, 5, 99999};
	PsKey size_key = ps_key_relsize(rel, MAIN_FORKNUM);
	RelSize size = {.nblocks = count};
	StringInfoData size_value;
	Manifest m;
	Outcome outcome;
	LayerSpace space;

	if (count <= 0)
	{
		fprintf(stderr, "usage: many_layers TIMELINE_DIR COUNT\n");
		return 1;
	}
	must(manifest_read(dir, &m, NULL));
	space = (LayerSpace) {.tenant = m.tenant, .timeline = m.timeline, .next_number = 1};
	space.dir = psprintf("%s/layers", dir);
	for (int i = 0; i < m.nlayers; i++)
		space.next_number = Max(space.next_number, m.layers[i].number + 1);
	m.layers = pg_realloc(m.layers, (m.nlayers + count + 1) * sizeof(LayerInfo));
	initStringInfo(&size_value);
	relsize_encode(&size, &size_value);
	write_image(&m, &space, &size_key, size_value.data, size_value.len);
	for (int i = 0; i < count; i++)
	{
		PsKey key = ps_key_block(rel, MAIN_FORKNUM, i);
		char page[BLCKSZ] = {0};

		snprintf(page + 100, BLCKSZ - 100, "block %d", i);
		write_image(&m, &space, &key, page, BLCKSZ);
	}
	must(manifest_write(dir, &m, NULL, &outcome));
	return 0;
}
