/*
 * delta.c
 *	  Delta files: versions of many keys at many LSNs.
 */
#include "ps_fe.h"

#include "blob.h"
#include "layer_impl.h"
#include "ps_wire.h"

struct DeltaWriter
{
	LayerOutput *out;
	BtreeBuilder *index;		/* NULL while values are written */
	uint8		last[DELTA_KEY_SIZE];	/* the last entry's key, if there is one */
	bool		has_last;
};

static void
delta_key(const PsKey *key, XLogRecPtr lsn, uint8 out[DELTA_KEY_SIZE])
{
	ps_key_encode(key, out);
	ps_put64(out + PS_KEY_SIZE, lsn);
}

PsError *
delta_writer_create(const char *dir, const PsId *tenant, const PsId *timeline, XLogRecPtr lsn_start,
					XLogRecPtr lsn_end, DeltaWriter **result)
{
	DeltaWriter *writer;
	LayerOutput *out;

	if (lsn_start >= lsn_end)
		return ps_error(PS_SQLSTATE_INTERNAL, "a delta layer from %X/%X to %X/%X has no LSN in it",
						LSN_FORMAT_ARGS(lsn_start), LSN_FORMAT_ARGS(lsn_end));
	PS_TRY(layer_output_create(dir, LAYER_DELTA, tenant, timeline, lsn_start, lsn_end, &out));
	writer = pg_malloc0(sizeof(DeltaWriter));
	writer->out = out;
	*result = writer;
	return NULL;
}

PsError *
delta_writer_value(DeltaWriter *writer, ValueKind kind, XLogRecPtr record_start, const char *data, uint32 len,
				   uint64 *offset)
{
	if (writer->index != NULL)
		return ps_error(PS_SQLSTATE_INTERNAL, "a value comes after index entries in layer file \"%s\"",
						layer_output_path(writer->out));
	return blob_write(writer->out, kind, record_start, data, len, offset);
}

PsError *
delta_writer_add(DeltaWriter *writer, const PsKey *key, XLogRecPtr lsn, ValueKind kind, bool will_init, uint64 offset)
{
	LayerSummary *summary = layer_output_summary(writer->out);
	uint8		encoded[DELTA_KEY_SIZE];
	char		text[PS_KEY_TEXT];

	if (writer->index == NULL)
	{
		PS_TRY(layer_output_begin_index(writer->out));
		writer->index = btree_builder_create(writer->out, DELTA_KEY_SIZE);
	}
	delta_key(key, lsn, encoded);
	if (key->kind == 0 || lsn < summary->lsn_start || lsn >= summary->lsn_end)
		return ps_error(PS_SQLSTATE_INTERNAL, "%s at LSN %X/%X does not belong into layer file \"%s\"",
						ps_key_format(key, text), LSN_FORMAT_ARGS(lsn), layer_output_path(writer->out));
	if (writer->has_last && memcmp(writer->last, encoded, DELTA_KEY_SIZE) >= 0)
		return ps_error(PS_SQLSTATE_INTERNAL, "%s at LSN %X/%X comes out of order in layer file \"%s\"",
						ps_key_format(key, text), LSN_FORMAT_ARGS(lsn), layer_output_path(writer->out));
	if (offset < LAYER_BLOCK_SIZE || offset >= summary->values_end)
		return ps_error(PS_SQLSTATE_INTERNAL, "no value is at offset %llu of layer file \"%s\"",
						(unsigned long long) offset, layer_output_path(writer->out));
	if (!writer->has_last)
		summary->key_min = *key;
	summary->key_max = *key;
	memcpy(writer->last, encoded, DELTA_KEY_SIZE);
	writer->has_last = true;
	return btree_builder_add(writer->index, encoded,
							 offset << 3 | (uint64) kind << 1 | (will_init || kind != VALUE_RECORD));
}

PsError *
delta_writer_finish(DeltaWriter *writer, Layer **layer)
{
	if (writer->index == NULL)
		PS_TRY(layer_output_begin_index(writer->out));
	else
		PS_TRY(btree_builder_finish(writer->index));
	PS_TRY(layer_output_finish(writer->out, layer));
	delta_writer_abort(writer);
	return NULL;
}

/* After a success of finish the file has its name and only the memory goes. */
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
	uint8		target[DELTA_KEY_SIZE];
	BtreePos	pos;
	bool		found;

	delta_key(key, lsn_max, target);
	PS_TRY(btree_seek_le(&layer->file->index, target, &pos, &found));
	while (found)
	{
		uint8		at[DELTA_KEY_SIZE];
		XLogRecPtr	lsn;
		ValueRef	ref;

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
		PS_TRY(btree_prev(&pos, &found));
	}
	return NULL;
}
