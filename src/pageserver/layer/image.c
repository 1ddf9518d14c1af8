/*
 * image.c
 *	  Image files: whole values of keys at one LSN.
 *
 * Keys arrive together with their values, but the index follows all values in
 * the file, so the writer keeps keys and offsets in memory: 32 bytes per key.
 */
#include "ps_fe.h"

#include "layer/blob.h"
#include "layer/layer_impl.h"
#include "layer/layer_stream.h"
#include "layer/layer_writer.h"
#include "sqlstate.h"

typedef struct ImageEntry
{
	PsKey key;
	uint64 offset;
} ImageEntry;

struct ImageWriter
{
	LayerOutput *out;
	ImageEntry *entries;
	size_t count;
	size_t cap;
};

PsError *
image_writer_create(LayerSpace *space, XLogRecPtr lsn, ImageWriter **result)
{
	ImageWriter *writer;
	LayerOutput *out;

	PS_TRY(layer_output_create(space, LAYER_IMAGE, 0, lsn, lsn + 1, &out));
	writer = pg_malloc0(sizeof(ImageWriter));
	writer->out = out;
	*result = writer;
	return NULL;
}

PsError *
image_writer_put(ImageWriter *writer, const PsKey *key, const char *data, uint32 len)
{
	uint64 offset;
	char text[PS_KEY_TEXT];

	if (key->kind == 0 || (writer->count > 0 && ps_key_cmp(&writer->entries[writer->count - 1].key, key) >= 0))
		return ps_error(PS_SQLSTATE_INTERNAL, "%s comes out of order in layer file \"%s\"", ps_key_format(key, text),
						layer_output_path(writer->out));
	PS_TRY(blob_write(writer->out, VALUE_IMAGE, InvalidXLogRecPtr, data, len, &offset));
	if (writer->count == writer->cap)
	{
		writer->cap = Max(1024, writer->cap * 2);
		writer->entries = pg_realloc(writer->entries, writer->cap * sizeof(ImageEntry));
	}
	writer->entries[writer->count++] = (ImageEntry) {.key = *key, .offset = offset};
	return NULL;
}

PsError *
image_writer_finish(ImageWriter *writer, Layer **layer)
{
	BtreeBuilder *index = btree_builder_create(writer->out, IMAGE_KEY_SIZE);
	PsError *err;

	if (writer->count > 0)
	{
		layer_output_summary(writer->out)->key_min = writer->entries[0].key;
		layer_output_summary(writer->out)->key_max = writer->entries[writer->count - 1].key;
	}
	PS_GOTO(btree_builder_begin_output(index), done);
	for (size_t i = 0; i < writer->count; i++)
	{
		uint8 key[IMAGE_KEY_SIZE];

		ps_key_encode(&writer->entries[i].key, key);
		PS_GOTO(btree_builder_add(index, key,
								  writer->entries[i].offset << ENTRY_OFFSET_SHIFT |
									  VALUE_IMAGE << ENTRY_KIND_SHIFT | ENTRY_WILL_INIT),
				done);
	}
	PS_GOTO(btree_builder_finish(index), done);
	PS_GOTO(layer_output_finish(writer->out), done);
	PS_GOTO(layer_open_written(layer_output_space(writer->out), layer_output_summary(writer->out), layer), done);
	image_writer_abort(writer);

done:
	btree_builder_free(index);
	return err;
}

/* Also called by image_writer_finish(): then the file has its final name, and only memory is freed. */
void
image_writer_abort(ImageWriter *writer)
{
	if (writer == NULL)
		return;
	layer_output_free(writer->out);
	free(writer->entries);
	free(writer);
}

PsError *
image_collect(const Layer *layer, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max, ValueList *list, bool *done)
{
	uint8 target[IMAGE_KEY_SIZE];
	uint8 at[IMAGE_KEY_SIZE];
	XLogRecPtr lsn = layer->info.lsn_start;
	uint32 missing = BTREE_NO_PART;
	BtreePos pos;
	ValueRef ref;
	bool found;

	if (lsn < lsn_min || lsn > lsn_max)
		return NULL;
	ps_key_encode(key, target);
	PS_TRY(btree_seek_le(&layer_file_of(layer)->index, target, &pos, &found, list->missing != NULL ? &missing : NULL));
	if (missing != BTREE_NO_PART)
		*done = layer_missing_part(list->missing, layer, missing, 0);
	if (!found)
		return NULL;
	btree_key(&pos, at);
	if (memcmp(at, target, IMAGE_KEY_SIZE) != 0)
		return NULL;
	PS_TRY(layer_entry_ref(layer, &pos, lsn, &ref));
	value_list_add(list, &ref);
	*done = true;
	return NULL;
}
