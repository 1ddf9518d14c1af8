/*
 * layer.c
 *	  What is common to layers of every kind.
 */
#include "ps_fe.h"

#include "blob.h"
#include "layer_impl.h"
#include "ps_wire.h"

void
value_list_add(ValueList *list, const ValueRef *ref)
{
	if (list->n == list->cap)
	{
		list->cap = Max(16, list->cap * 2);
		list->refs = pg_realloc(list->refs, list->cap * sizeof(ValueRef));
	}
	list->refs[list->n++] = *ref;
}

PsError *
layer_open(LayerSpace *space, const char *name, Layer **result)
{
	LayerFile  *file;
	Layer	   *layer;
	unsigned long long next = atomic_load(&space->next_number);

	PS_TRY(layer_file_open(space, name, &file));
	while (next <= file->summary.number &&
		   !atomic_compare_exchange_weak(&space->next_number, &next, file->summary.number + 1))
		;
	layer = pg_malloc0(sizeof(Layer));
	atomic_init(&layer->refs, 1);
	layer->file = file;
	layer->info.type = file->summary.type;
	layer->info.key_min = file->summary.key_min;
	layer->info.key_max = file->summary.key_max;
	layer->info.lsn_start = file->summary.lsn_start;
	layer->info.lsn_end = file->summary.lsn_end;
	layer->info.file_size = file->summary.file_size;
	layer->info.number = file->summary.number;
	layer->info.level = file->summary.level;
	layer->info.entries = file->summary.entries;
	strlcpy(layer->info.name, name, sizeof(layer->info.name));
	*result = layer;
	return NULL;
}

const LayerInfo *
layer_info(const Layer *layer)
{
	return &layer->info;
}

Layer *
layer_ref(Layer *layer)
{
	atomic_fetch_add_explicit(&layer->refs, 1, memory_order_relaxed);
	return layer;
}

void
layer_unref(Layer *layer)
{
	if (layer == NULL || atomic_fetch_sub_explicit(&layer->refs, 1, memory_order_acq_rel) > 1)
		return;
	if (layer->file != NULL)
		layer_file_close(layer->file);
	if (layer->open != NULL)
		open_layer_free(layer->open);
	free(layer);
}

PsError *
layer_collect(Layer *layer, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max, ValueList *list, bool *done)
{
	*done = false;
	list->layers++;
	switch (layer->info.type)
	{
		case LAYER_OPEN:
			return open_layer_collect(layer, key, lsn_min, lsn_max, list, done);
		case LAYER_DELTA:
			return delta_collect(layer, key, lsn_min, lsn_max, list, done);
		case LAYER_IMAGE:
			return image_collect(layer, key, lsn_min, lsn_max, list, done);
	}
	return ps_error(PS_SQLSTATE_INTERNAL, "unknown layer type %d", (int) layer->info.type);
}

PsError *
layer_scan(Layer *layer, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn_max, ScanCallback cb, void *arg)
{
	LayerCursor cursor;
	PsError    *err;

	if (layer->open != NULL)
		return open_layer_scan(layer, lo, hi, lsn_max, cb, arg);

	err = layer_cursor_open(&cursor, layer, lo, hi, lsn_max);
	while (err == NULL && cursor.valid)
	{
		for (int i = 0; i < cursor.versions.n && err == NULL; i++)
			err = cb(arg, &cursor.key, &cursor.versions.refs[i]);
		if (err == NULL)
			err = layer_cursor_next(&cursor);
	}
	layer_cursor_close(&cursor);
	return err;
}

PsError *
layer_read_value(const ValueRef *ref, StringInfo buf, XLogRecPtr *record_start)
{
	StoredValue stored;

	if (ref->place != VALUE_IN_LAYER || ref->layer == NULL || ref->layer->file == NULL)
		return ps_error(PS_SQLSTATE_INTERNAL, "version at LSN %X/%X is not in a layer file", LSN_FORMAT_ARGS(ref->lsn));
	PS_TRY(blob_read(ref->layer->file, ref->at.offset, ref->kind, buf, &stored));
	*record_start = stored.record_start;
	return NULL;
}

PsError *
layer_value_place(const ValueRef *ref, int *fd, size_t *len)
{
	const LayerFile *file = ref->layer->file;

	*fd = file->fd;
	return blob_first_read(file, ref->at.offset, ref->kind, len);
}

/* A file's descriptor is open as long as the layer is referenced. */
void
layer_value_release(const ValueRef *ref)
{
}

PsError *
layer_value_check(const ValueRef *ref, const char *bytes, size_t have, StoredValue *stored)
{
	return blob_check(ref->layer->file, ref->at.offset, ref->kind, bytes, have, stored);
}

PsError *
layer_value_unpack(const ValueRef *ref, const char *bytes, const StoredValue *stored, char *out)
{
	return blob_unpack(ref->layer->file, ref->at.offset, bytes, stored, out);
}

PsError *
layer_value_unread(const ValueRef *ref, size_t have, size_t wanted, int read_errno)
{
	return layer_file_unread(ref->layer->file, ref->at.offset, have, wanted, read_errno);
}
