/*
 * flush.c
 *	  The timeline's flush thread: frozen layers become delta files.
 *
 * Oldest first.  A layer is dropped from memory only when the manifest that
 * names its file is durable; disk_consistent_lsn moves with it.  A flush that
 * fails (a full disk) is tried again; meanwhile reads go on from memory, and
 * ingest stops when too many layers wait.
 */
#include "ps_fe.h"

#include "ps_wire.h"
#include "timeline_impl.h"

/* Pause after a failed flush, ms. */
#define RETRY_DELAY 1000

static PsError *
read_record(void *arg, XLogRecPtr start, uint32 len, char *buf)
{
	Timeline   *tl = arg;

	return wal_segments_read_record(tl->wal, start, len, buf);
}

/* Writes the oldest frozen layer; caller made sure that there is one. */
static PsError *
flush_oldest(Timeline *tl)
{
	LayerSet   *set = timeline_layers(tl);
	Layer	   *layer = set->frozen[set->nfrozen - 1];
	Layer	   *delta = NULL;
	XLogRecPtr	lsn = layer_info(layer)->lsn_end - 1;
	LayerMap   *map = NULL;
	PsError    *err;

	err = open_layer_write(layer, tl->layers_dir, &tl->tenant->id, &tl->id, read_record, tl, &delta);
	if (err == NULL)
	{
		pthread_mutex_lock(&tl->manifest_lock);
		map = layer_map_change(set->map, &delta, 1, NULL, 0);
		err = timeline_save(tl, map, lsn);
		if (err == NULL)
		{
			LayerSet   *now;
			Layer	   *frozen[MAX_FROZEN];

			pthread_mutex_lock(&tl->lock);
			now = tl->layers;
			for (int i = 0; i < now->nfrozen - 1; i++)
				frozen[i] = layer_ref(now->frozen[i]);
			tl->disk_consistent_lsn = lsn;
			timeline_set_layers(tl, layer_set_create(layer_ref(now->open), frozen, now->nfrozen - 1, map));
			map = NULL;
			pthread_mutex_unlock(&tl->lock);
			ps_log(PS_LOG, "branch \"%s\": wrote layer \"%s\" (%llu kB)", tl->name, layer_info(delta)->name,
				   (unsigned long long) layer_info(delta)->file_size / 1024);
		}
		pthread_mutex_unlock(&tl->manifest_lock);
	}
	if (map != NULL)
		layer_map_unref(map);
	if (delta != NULL)
		layer_unref(delta);
	layer_set_unref(set);
	return err;
}

void *
flush_main(void *arg)
{
	Timeline   *tl = arg;

	ps_thread_name("flush %.9s", tl->name);
	pthread_mutex_lock(&tl->lock);
	while (!tl->stopping)
	{
		PsError    *err;

		if (tl->layers->nfrozen == 0)
		{
			timeline_wait(tl, 60 * 1000);
			continue;
		}
		pthread_mutex_unlock(&tl->lock);
		err = flush_oldest(tl);
		pthread_mutex_lock(&tl->lock);
		if (err == NULL)
		{
			tl->flush_error[0] = '\0';
			continue;
		}
		if (strcmp(tl->flush_error, err->message) != 0)
		{
			strlcpy(tl->flush_error, err->message, sizeof(tl->flush_error));
			ps_log(PS_WARNING, "branch \"%s\": could not write a layer, will try again: %s", tl->name, err->message);
		}
		ps_error_free(err);
		if (!tl->stopping)
			timeline_wait(tl, RETRY_DELAY);
	}
	pthread_mutex_unlock(&tl->lock);
	return NULL;
}
