/*
 * layer.c
 *	  Functions for layers of all types.
 */
#include "ps_fe.h"

#include "layer/blob.h"
#include "layer/layer_cache.h"
#include "layer/layer_impl.h"
#include "layer/layer_stream.h"
#include "sqlstate.h"

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
	if (layer->open != NULL)
		open_layer_free(layer->open);
	else
		layer_file_free(layer);
	free(layer);
}

/* ---- layers of files ---- */

const char *
layer_name(const Layer *layer, char name[LAYER_NAME_MAX])
{
	return layer_name_format(&layer->info, name);
}

void
layer_space_skip(LayerSpace *space, uint64 number)
{
	unsigned long long next = atomic_load(&space->next_number);

	while (next <= number && !atomic_compare_exchange_weak(&space->next_number, &next, number + 1))
		;
}

Layer *
layer_new(LayerSpace *space, const LayerInfo *info)
{
	Layer *layer = pg_malloc0(sizeof(Layer));

	layer_space_skip(space, info->number);
	layer->info = *info;
	layer->space = space;
	atomic_init(&layer->refs, 1);
	atomic_init(&layer->users, FILE_CLOSED);
	return layer;
}

void
layer_remove(Layer *layer)
{
	atomic_store_explicit(&layer->removed, true, memory_order_relaxed);
}

bool
layer_is_damaged(const Layer *layer)
{
	return atomic_load_explicit(&layer->damaged, memory_order_relaxed);
}

void
layer_set_damaged(const Layer *layer, bool damaged)
{
	atomic_store_explicit(&((Layer *) layer)->damaged, damaged, memory_order_relaxed);
}

/* Marks the layer as damaged if the error says so; returns the error unchanged. */
static PsError *
note_damage(const Layer *layer, PsError *err)
{
	if (err != NULL && (ps_error_is(err, PS_SQLSTATE_CORRUPTED) || ps_error_is(err, PS_SQLSTATE_IO)))
		layer_set_damaged(layer, true);
	return err;
}

PsError *
layer_collect(Layer *layer, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max, ValueList *list, bool *done)
{
	PsError *err;

	*done = false;
	list->layers++;
	if (layer->open != NULL)
		return open_layer_collect(layer, key, lsn_min, lsn_max, list, done);
	if (list->missing == NULL)
		PS_TRY(note_damage(layer, layer_acquire(layer)));
	else if (!layer_acquire_if_open(layer))
	{
		*done = layer_missing_file(list->missing, layer);
		return NULL;
	}
	if (layer->info.type == LAYER_DELTA)
		err = delta_collect(layer, key, lsn_min, lsn_max, list, done);
	else
		err = image_collect(layer, key, lsn_min, lsn_max, list, done);
	layer_release(layer);
	return note_damage(layer, err);
}

PsError *
layer_scan(Layer *layer, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn_max, ScanCallback cb, void *arg)
{
	LayerCursor cursor;
	PsError *err;

	if (layer->open != NULL)
		return open_layer_scan(layer, lo, hi, lsn_max, cb, arg);

	err = note_damage(layer, layer_cursor_open(&cursor, layer, lo, hi, lsn_max, false));
	while (err == NULL && cursor.valid)
	{
		for (int i = 0; i < cursor.versions.n && err == NULL; i++)
			err = cb(arg, &cursor.key, &cursor.versions.refs[i]);
		if (err == NULL)
			err = note_damage(layer, layer_cursor_next(&cursor));
	}
	layer_cursor_close(&cursor);
	return err;
}

PsError *
layer_read_value(const ValueRef *ref, StringInfo buf, XLogRecPtr *record_start)
{
	StoredValue stored;
	PsError *err;

	if (ref->place != VALUE_IN_LAYER || ref->layer == NULL || ref->layer->open != NULL)
		return ps_error(PS_SQLSTATE_INTERNAL, "version at LSN %X/%X is not in a layer file", LSN_FORMAT_ARGS(ref->lsn));
	PS_TRY(note_damage(ref->layer, layer_acquire(ref->layer)));
	err = note_damage(ref->layer, blob_read(layer_file_of(ref->layer), ref->at.offset, ref->kind, buf, &stored));
	layer_release(ref->layer);
	*record_start = err == NULL ? stored.record_start : InvalidXLogRecPtr;
	return err;
}

PsError *
layer_value_place(const ValueRef *ref, int *fd, size_t *len)
{
	PsError *err;

	PS_TRY(note_damage(ref->layer, layer_acquire(ref->layer)));
	*fd = layer_file_of(ref->layer)->fd;
	err = note_damage(ref->layer, blob_first_read(layer_file_of(ref->layer), ref->at.offset, ref->kind, len));
	if (err != NULL)
		layer_release(ref->layer);
	return err;
}

bool
layer_value_was_fetched(const ValueRef *ref)
{
	return layer_file_of(ref->layer)->cache != NULL;
}

bool
layer_value_is_present(const ValueRef *ref, size_t len)
{
	return layer_file_has(layer_file_of(ref->layer), ref->at.offset, len);
}

void
layer_values_fetch(const ValueRef *const *refs, const size_t *lens, PsError **errs, int n)
{
	LayerWant *wants = pg_malloc(n * sizeof(LayerWant));

	for (int i = 0; i < n; i++)
		wants[i] = (LayerWant) {.file = layer_file_of(refs[i]->layer), .offset = refs[i]->at.offset, .len = lens[i]};
	layer_fetch(wants, n, true);
	for (int i = 0; i < n; i++)
		errs[i] = note_damage(refs[i]->layer, wants[i].err);
	free(wants);
}

void
layer_value_release(const ValueRef *ref)
{
	layer_release(ref->layer);
}

PsError *
layer_value_check(const ValueRef *ref, const char *bytes, size_t have, StoredValue *stored)
{
	PsError *err = blob_check(layer_file_of(ref->layer), ref->at.offset, ref->kind, bytes, have, stored);

	return layer_value_was_fetched(ref) ? err : note_damage(ref->layer, err);
}

PsError *
layer_value_unpack(const ValueRef *ref, const char *bytes, const StoredValue *stored, char *out)
{
	return note_damage(ref->layer, blob_unpack(layer_file_of(ref->layer), ref->at.offset, bytes, stored, out));
}

PsError *
layer_value_short_read_error(const ValueRef *ref, size_t have, size_t wanted, int read_errno)
{
	PsError *err = layer_file_short_read_error(layer_file_of(ref->layer), ref->at.offset, have, wanted, read_errno);

	return note_damage(ref->layer, err);
}
