/*
 * gc.c
 *	  Garbage collection: removes versions that nobody can read any more.
 *
 * One pass over the indexes of all files that reach back to the horizon counts the needed
 * entries of each (retention.h).  Newer files are needed completely, and nothing in them
 * makes a version before the horizon unnecessary.  A file without needed entries is
 * removed; one with few of them is rewritten.  Levels and LSN ranges stay the same, so
 * readers see no difference.
 */
#include "ps_fe.h"

#include "layer/layer_merge.h"
#include "layer/layer_writer.h"
#include "maintain/maintain_impl.h"
#include "maintain/merge.h"
#include "sqlstate.h"

/* A file is rewritten if less than this of its entries are needed, percent. */
#define REWRITE_BELOW 70

/* Entries between two checks whether to stop. */
#define ENTRIES_PER_CHECK 4096

/* A pass over the entries of several files. */
typedef struct Pass
{
	Timeline *tl;
	LayerMerge *entries;
	uint64 visited; /* entries; those visited twice count twice */
} Pass;

typedef struct Count
{
	Layer *layer;
	uint64 needed;
} Count;

static bool
is_level0(const Layer *layer)
{
	return layer_info(layer)->type == LAYER_DELTA && layer_info(layer)->level == 0;
}

static int
by_address(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t) ((const Count *) a)->layer;
	uintptr_t y = (uintptr_t) ((const Count *) b)->layer;

	return x < y ? -1 : x > y;
}

static Count *
count_of(Count *counts, int n, const Layer *layer)
{
	Count key = {.layer = (Layer *) layer};

	return bsearch(&key, counts, n, sizeof(Count), by_address);
}

static PsError *
next_entry(Pass *pass, PsKey *key, ValueRef *ref, bool *found)
{
	if (++pass->visited % ENTRIES_PER_CHECK == 0)
		PS_TRY(timeline_check_stopping(pass->tl));
	return layer_merge_next(pass->entries, key, ref, found);
}

/* Counts the needed entries of one key, whose first version is *ref. */
static PsError *
count_key(Pass *pass, KeyRetention *kr, PsKey *key, ValueRef *ref, Count *counts, int n)
{
	bool found;

	PS_TRY(key_retention_begin(kr, key));
	key_retention_add(kr, ref->lsn, ref->will_init);
	while (!layer_merge_key_ends(pass->entries))
	{
		PS_TRY(next_entry(pass, key, ref, &found));
		key_retention_add(kr, ref->lsn, ref->will_init);
	}
	layer_merge_rewind_key(pass->entries);
	do
	{
		PS_TRY(next_entry(pass, key, ref, &found));
		if (key_retention_needs(kr, ref->lsn))
			count_of(counts, n, ref->layer)->needed++;
	} while (!layer_merge_key_ends(pass->entries));
	return NULL;
}

static PsError *
count_needed(Timeline *tl, const History *history, Layer *const *layers, Count *counts, int n)
{
	PsKey lo = {.kind = 0};
	PsKey hi = ps_key_last();
	KeyRetention kr;
	Pass pass = {.tl = tl};
	PsKey key;
	ValueRef ref;
	bool found;
	PsError *err;

	key_retention_init(&kr, &history->retention);
	PS_GOTO(layer_merge_open(layers, n, &lo, &hi, &pass.entries), done);
	while ((err = next_entry(&pass, &key, &ref, &found)) == NULL && found)
		PS_GOTO(count_key(&pass, &kr, &key, &ref, counts, n), done);
done:
	layer_merge_close(pass.entries);
	key_retention_free(&kr);
	return err;
}

/* ---- removal ---- */

/* Writes the needed entries of a delta file to new files. */
static PsError *
rewrite_delta(Timeline *tl, const History *history, Layer *layer, Layer *const *layers, int n,
			  Layer ***outputs, int *noutputs)
{
	const Config *config = timeline_config(tl);
	MergeJob job = {.space = &tl->spec->space,
					.inputs = &layer,
					.ninputs = 1,
					.level = layer_info(layer)->level,
					.retention = &history->retention,
					.target_size = PG_UINT64_MAX,
					.memory = (size_t) config->compaction_memory * 1024 * 1024,
					.cancel = {timeline_check_stopping, tl}};
	Layer **context = pg_malloc(Max(n, 1) * sizeof(Layer *));
	MergeResult result;
	PsError *err;

	for (int i = 0; i < n; i++)
		if (layers[i] != layer)
			context[job.ncontext++] = layers[i];
	job.context = context;
	job.drop_oldest_tombstones = tl->ancestor == NULL; /* otherwise the ancestor has older versions */
	err = merge_layers(&job, &result);
	free(context);
	if (err != NULL)
		return err;
	*outputs = result.layers;
	*noutputs = result.nlayers;
	return NULL;
}

/* Writes the needed entries of an image file to a new file. */
static PsError *
rewrite_image(Timeline *tl, const History *history, Layer *layer, Layer *const *layers, int n,
			  Layer ***outputs, int *noutputs)
{
	KeyRetention kr;
	Pass pass = {.tl = tl};
	ImageWriter *writer = NULL;
	Layer *output = NULL;
	StringInfoData value;
	PsKey key;
	ValueRef ref;
	bool found;
	PsError *err;

	initStringInfo(&value);
	key_retention_init(&kr, &history->retention);
	PS_GOTO(image_writer_create(&tl->spec->space, layer_info(layer)->lsn_start, &writer), done);
	PS_GOTO(layer_merge_open(layers, n, &layer_info(layer)->key_min, &layer_info(layer)->key_max, &pass.entries), done);
	while ((err = next_entry(&pass, &key, &ref, &found)) == NULL && found)
	{
		ValueRef image = ref;
		bool has_image = ref.layer == layer;
		XLogRecPtr start;

		PS_GOTO(key_retention_begin(&kr, &key), done);
		key_retention_add(&kr, ref.lsn, ref.will_init);
		while (!layer_merge_key_ends(pass.entries))
		{
			PS_GOTO(next_entry(&pass, &key, &ref, &found), done);
			key_retention_add(&kr, ref.lsn, ref.will_init);
			if (ref.layer == layer)
			{
				image = ref;
				has_image = true;
			}
		}
		if (!has_image || !key_retention_needs(&kr, image.lsn))
			continue;
		PS_GOTO(layer_read_value(&image, &value, &start), done);
		PS_GOTO(image_writer_put(writer, &key, value.data, value.len), done);
	}
	if (err == NULL)
		err = image_writer_finish(writer, &output);
	if (err == NULL)
	{
		writer = NULL;
		*outputs = pg_malloc(sizeof(Layer *));
		(*outputs)[0] = output;
		*noutputs = 1;
	}
done:
	layer_merge_close(pass.entries);
	image_writer_abort(writer);
	key_retention_free(&kr);
	pfree(value.data);
	return err;
}

static PsError *
rewrite(Timeline *tl, const History *history, Layer *layer, Layer *const *layers, int n, GcResult *result)
{
	Layer **outputs = NULL;
	int noutputs = 0;
	PsError *err;

	if (layer_info(layer)->type == LAYER_IMAGE)
		err = rewrite_image(tl, history, layer, layers, n, &outputs, &noutputs);
	else
		err = rewrite_delta(tl, history, layer, layers, n, &outputs, &noutputs);
	if (err == NULL)
		err = timeline_replace_files(tl, outputs, noutputs, &layer, 1);
	if (err == NULL)
	{
		result->rewritten++;
		result->bytes_after -= layer_info(layer)->file_size;
		for (int i = 0; i < noutputs; i++)
			result->bytes_after += layer_info(outputs[i])->file_size;
	}
	for (int i = 0; i < noutputs; i++)
		layer_unref(outputs[i]);
	free(outputs);
	return err;
}

/*
 * Removes WAL segments before the newest state saved at or before History.wal_from: states
 * from there on are computed by decoding WAL from that state.  WAL that is not in layer
 * files is newer than that.  WAL that is to be uploaded is kept, too.
 */
static PsError *
remove_wal(Timeline *tl, const History *history, GcResult *result)
{
	PsKey key = ps_key_simple(PS_KEY_STATE, 0, 0, 0);
	StringInfoData buf;
	WalState state;
	XLogRecPtr keep;
	XLogSegNo segno;
	XLogSegNo oldest;
	XLogSegNo newest;
	bool found;
	PsError *err;

	initStringInfo(&buf);
	err = timeline_read_value(tl, &key, history->wal_from, &buf, &found);
	if (err == NULL && found)
		err = wal_state_decode(buf.data, buf.len, &state);
	pfree(buf.data);
	if (err != NULL || !found)
		return err;
	keep = state.end;
	/* WAL is uploaded from the page on in which object storage ends; that is not known before the tenant is claimed */
	pthread_mutex_lock(&tl->lock);
	if (tl->remote.uploads || timeline_has_object_storage(tl))
		keep = Min(keep, tl->remote.lsn - tl->remote.lsn % XLOG_BLCKSZ);
	pthread_mutex_unlock(&tl->lock);
	XLByteToSeg(keep, segno, tl->spec->segment_size);
	if (!wal_segments_range(tl->wal, &oldest, &newest) || oldest >= segno)
		return NULL;
	/* a manifest must have the new gc_cutoff first; there is none if no layer file was removed */
	PS_TRY(timeline_replace_files(tl, NULL, 0, NULL, 0));
	return wal_segments_remove_before(tl->wal, segno, &result->wal_removed);
}

static bool
has_layer(const LayerSet *set, const Layer *layer)
{
	for (int i = 0; i < layer_map_count(set->map); i++)
		if (layer_map_get(set->map, i) == layer)
			return true;
	return false;
}

/* Removes the files without needed entries, except files of level 0 that were merged meanwhile. */
static PsError *
remove_files(Timeline *tl, const Count *counts, int n, GcResult *result)
{
	Layer **drop = pg_malloc(Max(n, 1) * sizeof(Layer *));
	int ndrop = 0;
	uint64 bytes = 0;
	LayerSet *now;
	PsError *err = NULL;

	pthread_mutex_lock(&tl->level0_lock);
	now = timeline_files(tl);
	for (int i = 0; i < n; i++)
		if (counts[i].needed == 0 && (!is_level0(counts[i].layer) || has_layer(now, counts[i].layer)))
		{
			drop[ndrop++] = counts[i].layer;
			bytes += layer_info(counts[i].layer)->file_size;
		}
	if (ndrop > 0)
		err = timeline_replace_files(tl, NULL, 0, drop, ndrop);
	pthread_mutex_unlock(&tl->level0_lock);
	if (err == NULL)
	{
		result->removed = ndrop;
		result->bytes_after -= bytes;
	}
	layer_set_unref(now);
	free(drop);
	return err;
}

/* Finds the files that reach back to the horizon; returns their number. */
static int
find_old(const LayerMap *map, XLogRecPtr horizon, Layer **layers)
{
	int n = 0;

	for (int i = 0; i < layer_map_count(map); i++)
		if (layer_info(layer_map_get(map, i))->lsn_start <= horizon)
			layers[n++] = layer_map_get(map, i);
	return n;
}

/* Rewrites a file, considering the files that there are now, if it is still one of them. */
static PsError *
rewrite_file(Timeline *tl, const History *history, Layer *layer, GcResult *result)
{
	LayerSet *now;
	Layer **layers;
	PsError *err = NULL;

	if (is_level0(layer))
		pthread_mutex_lock(&tl->level0_lock);
	now = timeline_files(tl);
	layers = pg_malloc(Max(layer_map_count(now->map), 1) * sizeof(Layer *));
	if (!is_level0(layer) || has_layer(now, layer))
		err = rewrite(tl, history, layer, layers, find_old(now->map, history->retention.horizon, layers), result);
	if (is_level0(layer))
		pthread_mutex_unlock(&tl->level0_lock);
	free(layers);
	layer_set_unref(now);
	return err;
}

/*
 * Removes files first, all at once, and then rewrites others one by one.  Each rewrite
 * considers the files that there are then.  An entry that is unneeded because of a version
 * in another file stays so when that file is rewritten, because the version is kept.
 */
PsError *
gc_run(Timeline *tl, GcResult *result)
{
	LayerSet *set = timeline_files(tl);
	int nlayers = layer_map_count(set->map);
	Layer **layers = pg_malloc(Max(nlayers, 1) * sizeof(Layer *));
	Count *counts = pg_malloc0(Max(nlayers, 1) * sizeof(Count));
	int n;
	History history;
	PsError *err = NULL;

	memset(result, 0, sizeof(*result));
	memset(&history, 0, sizeof(history));
	for (int i = 0; i < nlayers; i++)
		result->bytes_before += layer_info(layer_map_get(set->map, i))->file_size;
	result->bytes_after = result->bytes_before;
	PS_GOTO(history_init(&history, tl), done);
	result->readable = pins_digest_of(history.retention.horizon, history.points, history.retention.npoints,
									  history.wal_from);
	if (nlayers == 0)
		goto done;
	n = find_old(set->map, history.retention.horizon, layers);
	for (int i = 0; i < n; i++)
		counts[i].layer = layers[i];
	qsort(counts, n, sizeof(Count), by_address);
	PS_GOTO(count_needed(tl, &history, layers, counts, n), done);
	PS_GOTO(remove_files(tl, counts, n, result), done);
	for (int i = 0; i < n; i++)
	{
		uint64 bytes = layer_info(counts[i].layer)->file_size;
		PsError *rewrite_err;

		if (counts[i].needed == 0 || counts[i].needed * 100 >= layer_info(counts[i].layer)->entries * REWRITE_BELOW)
			continue;
		if (!room_reserve(tl, bytes))
		{
			result->postponed++;
			continue;
		}
		rewrite_err = rewrite_file(tl, &history, counts[i].layer, result);
		room_release(tl, bytes);
		/* a damaged file stays as it is, and does not prevent the rewriting of others */
		if (rewrite_err != NULL && !ps_error_is_damage(rewrite_err))
		{
			err = ps_error_first(err, rewrite_err);
			goto done;
		}
		err = ps_error_first(err, rewrite_err);
	}
	err = ps_error_first(err, remove_wal(tl, &history, result));

done:
	history_free(&history);
	layer_set_unref(set);
	free(layers);
	free(counts);
	return err;
}
