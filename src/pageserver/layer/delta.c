/*
 * delta.c
 *	  Delta files: versions of many keys at many LSNs.
 */
#include "ps_fe.h"

#include "bytes.h"
#include "layer/blob.h"
#include "layer/dict_sample.h"
#include "layer/layer_dict.h"
#include "layer/layer_impl.h"
#include "layer/layer_stream.h"
#include "layer/layer_writer.h"
#include "sqlstate.h"

struct DeltaWriter
{
	LayerOutput *out;
	BtreeBuilder *index;
	bool values_ended;
	uint8 last[DELTA_KEY_SIZE]; /* key of the last entry, if has_last */
	bool has_last;
};

static void
delta_key(const PsKey *key, XLogRecPtr lsn, uint8 out[DELTA_KEY_SIZE])
{
	ps_key_encode(key, out);
	ps_put64(out + PS_KEY_SIZE, lsn);
}

PsError *
delta_writer_create(LayerSpace *space, int level, XLogRecPtr lsn_start, XLogRecPtr lsn_end, DeltaWriter **result)
{
	DeltaWriter *writer;
	LayerOutput *out;

	if (lsn_start >= lsn_end)
		return ps_error(PS_SQLSTATE_INTERNAL, "a delta layer from %X/%X to %X/%X has no LSN in it",
						LSN_FORMAT_ARGS(lsn_start), LSN_FORMAT_ARGS(lsn_end));
	PS_TRY(layer_output_create(space, LAYER_DELTA, level, lsn_start, lsn_end, &out));
	writer = pg_malloc0(sizeof(DeltaWriter));
	writer->out = out;
	writer->index = btree_builder_create(out, DELTA_KEY_SIZE);
	*result = writer;
	return NULL;
}

PsError *
delta_writer_learn_sample(DeltaWriter *writer, DictSample *sample)
{
	LayerDict *dict = layer_dict_train(sample);

	return dict != NULL ? layer_output_set_dict(writer->out, dict) : NULL;
}

PsError *
delta_writer_learn(DeltaWriter *writer, Layer *const *layers, int n, const PsKey *from, uint64 bytes)
{
	DictSample sample = {0};
	PsError *err = dict_sample_layers(&sample, layers, n, from, bytes);

	if (err == NULL)
		err = delta_writer_learn_sample(writer, &sample);
	dict_sample_free(&sample);
	return err;
}

PsError *
delta_writer_value(DeltaWriter *writer, ValueKind kind, XLogRecPtr record_start, const char *data, uint32 len,
				   uint64 *offset)
{
	if (writer->values_ended)
		return ps_error(PS_SQLSTATE_INTERNAL, "a value comes after the end of values in layer file \"%s\"",
						layer_output_path(writer->out));
	return blob_write(writer->out, kind, record_start, data, len, offset);
}

PsError *
delta_writer_copy(DeltaWriter *writer, const ValueRef *ref, uint64 *offset)
{
	PsError *err;

	if (writer->values_ended || ref->place != VALUE_IN_LAYER)
		return ps_error(PS_SQLSTATE_INTERNAL, "a value cannot be copied to layer file \"%s\"",
						layer_output_path(writer->out));
	PS_TRY(layer_acquire(ref->layer));
	err = blob_copy(writer->out, layer_file_of(ref->layer), ref->at.offset, ref->kind, offset);
	layer_release(ref->layer);
	return err;
}

PsError *
delta_writer_end_values(DeltaWriter *writer)
{
	writer->values_ended = true;
	return btree_builder_begin_output(writer->index);
}

uint64
delta_writer_size(const DeltaWriter *writer)
{
	return layer_output_position(writer->out) + btree_builder_buffered(writer->index);
}

size_t
delta_writer_memory(const DeltaWriter *writer)
{
	return btree_builder_buffered(writer->index);
}

PsError *
delta_writer_add(DeltaWriter *writer, const PsKey *key, XLogRecPtr lsn, ValueKind kind, bool will_init, bool shared,
				 uint64 offset)
{
	LayerSummary *summary = layer_output_summary(writer->out);
	uint8 encoded[DELTA_KEY_SIZE];
	char text[PS_KEY_TEXT];

	delta_key(key, lsn, encoded);
	if (key->kind == 0 || lsn < summary->lsn_start || lsn >= summary->lsn_end)
		return ps_error(PS_SQLSTATE_INTERNAL, "%s at LSN %X/%X does not belong into layer file \"%s\"",
						ps_key_format(key, text), LSN_FORMAT_ARGS(lsn), layer_output_path(writer->out));
	if (writer->has_last && memcmp(writer->last, encoded, DELTA_KEY_SIZE) >= 0)
		return ps_error(PS_SQLSTATE_INTERNAL, "%s at LSN %X/%X comes out of order in layer file \"%s\"",
						ps_key_format(key, text), LSN_FORMAT_ARGS(lsn), layer_output_path(writer->out));
	if (offset < LAYER_BLOCK_SIZE ||
		offset >= (writer->values_ended ? summary->values_end : layer_output_position(writer->out)))
		return ps_error(PS_SQLSTATE_INTERNAL, "no value is at offset %llu of layer file \"%s\"",
						(unsigned long long) offset, layer_output_path(writer->out));
	if (!writer->has_last)
		summary->key_min = *key;
	summary->key_max = *key;
	memcpy(writer->last, encoded, DELTA_KEY_SIZE);
	writer->has_last = true;
	return btree_builder_add(writer->index, encoded,
							 offset << ENTRY_OFFSET_SHIFT | (shared ? ENTRY_SHARED : 0) |
								 (uint64) kind << ENTRY_KIND_SHIFT |
								 (will_init || kind != VALUE_RECORD ? ENTRY_WILL_INIT : 0));
}

PsError *
delta_writer_finish(DeltaWriter *writer, Layer **layer)
{
	if (!writer->values_ended)
		PS_TRY(delta_writer_end_values(writer));
	PS_TRY(btree_builder_finish(writer->index));
	PS_TRY(layer_output_finish(writer->out));
	PS_TRY(layer_open_written(layer_output_space(writer->out), layer_output_summary(writer->out), layer));
	delta_writer_abort(writer);
	return NULL;
}

/* Also called by delta_writer_finish(): then the file has its final name, and only memory is freed. */
void
delta_writer_abort(DeltaWriter *writer)
{
	if (writer == NULL)
		return;
	btree_builder_free(writer->index);
	layer_output_free(writer->out);
	free(writer);
}

PsError *
delta_collect(const Layer *layer, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max, ValueList *list, bool *done)
{
	uint8 target[DELTA_KEY_SIZE];
	uint32 part = BTREE_NO_PART;
	uint32 *missing = list->missing != NULL ? &part : NULL;
	uint32 first_page;
	int first = list->n;
	BtreePos pos;
	bool found;

	delta_key(key, lsn_max, target);
	PS_TRY(btree_seek_le(&layer_file_of(layer)->index, target, &pos, &found, missing));
	first_page = found ? pos.page : 0;
	while (found)
	{
		uint8 at[DELTA_KEY_SIZE];
		XLogRecPtr lsn;
		ValueRef ref;

		btree_key(&pos, at);
		lsn = ps_get64(at + PS_KEY_SIZE);
		if (memcmp(at, target, PS_KEY_SIZE) != 0 || lsn < lsn_min)
			break;
		PS_TRY(layer_entry_ref(layer, &pos, lsn, &ref));
		value_list_add(list, &ref);
		if (ref.will_init)
		{
			*done = true;
			break;
		}
		PS_TRY(btree_prev(&pos, &found, missing));
	}
	if (missing == NULL)
		return NULL;
	if (list->n > first && layer_dict_is_missing(layer_file_of(layer)))
		layer_missing_dict(list->missing, layer);
	if (part == BTREE_NO_PART)
		return NULL;
	/* a chain that has covered several pages may well cover as many again */
	*done = layer_missing_part(list->missing, layer, part, list->n > first ? Min(first_page - part - 1, part) : 0);
	return NULL;
}
