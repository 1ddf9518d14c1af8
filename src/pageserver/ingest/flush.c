/*
 * flush.c
 *	  The flush thread of a timeline: it writes frozen layers as delta files, the
 *	  oldest first.
 *
 * A layer is dropped from memory only when the manifest that names its file is durable;
 * disk_consistent_lsn is raised at the same time.  A flush that fails (for example, because
 * the disk is full) is tried again; meanwhile reads use the layer in memory, and ingest
 * waits when too many layers are to be written.
 *
 * If WAL that a flush must read is damaged, accepting more WAL makes no sense: what comes
 * after that record would be lost at the next start.  So the timeline fails, and with it
 * its commits.  Its layers stay in memory for reads until other timelines need the memory
 * (memory_budget.h).
 */
#include "ps_fe.h"

#include "ingest/ingest_impl.h"
#include "sqlstate.h"

/* Pause after a failed flush, and between two messages about failures, ms. */
#define RETRY_DELAY      1000
#define WARNING_INTERVAL 60000

static PsError *
read_record(void *arg, XLogRecPtr start, uint32 len, char *buf)
{
	Timeline *tl = arg;

	PS_TRY(timeline_check_stopping(tl));
	return wal_segments_read_record(tl->wal, start, len, buf);
}

/* Writes the oldest frozen layer, which must exist. */
static PsError *
flush_oldest(Timeline *tl)
{
	LayerSet *set = timeline_layers(tl);
	Layer *layer = set->frozen[set->nfrozen - 1];
	Layer *delta = NULL;
	PsError *err;

	PS_GOTO(open_layer_write(layer, &tl->spec->space, read_record, tl, &delta), done);
	err = timeline_add_flushed(tl, delta, layer);
	if (err == NULL)
		tl->env->on_files_added(tl);
	if (err == NULL)
	{
		char name[LAYER_NAME_MAX];

		ps_log(PS_LOG, "branch \"%s\": wrote layer \"%s\" (%llu kB)", timeline_name(tl), layer_name(delta, name),
			   (unsigned long long) layer_info(delta)->file_size / 1024);
	}

done:
	if (delta != NULL)
		layer_unref(delta);
	layer_set_unref(set);
	return err;
}

/* Will the flush fail again until a damaged file is restored? */
static bool
is_final(const PsError *err)
{
	return ps_error_is(err, PS_SQLSTATE_CORRUPTED) || ps_error_is(err, PS_SQLSTATE_INTERNAL);
}

/* The layers in memory cannot be written: makes ingest end.  The caller keeps err. */
static void
set_unwritable(Timeline *tl, const PsError *err)
{
	bool known;

	pthread_mutex_lock(&tl->lock);
	known = tl->unwritable;
	tl->unwritable = true;
	pthread_mutex_unlock(&tl->lock);
	if (!known)
		timeline_fail(tl, ps_error_hint(ps_error_context(ps_error_copy(err), "could not write a layer"),
										"Restore the file from a copy, then restart the store."));
}

/*
 * Drops unwritable layers from memory, if memory is short; their WAL cannot be read any
 * more.  Caller holds Timeline.lock, which is released meanwhile.
 */
static void
drop_unwritable(Timeline *tl)
{
	uint64 bytes = atomic_load(&tl->memory.used);
	XLogRecPtr ingested = tl->ingested_lsn;
	LayerSet *old;

	if (!tl->unwritable || !tl->ingest_ended || tl->forgotten || !memory_budget_is_short(tl->env->memory))
		return;
	tl->forgotten = true;
	tl->ingested_lsn = tl->disk_consistent_lsn;
	old = timeline_set_layers(tl, layer_set_create(open_layer_create(tl->disk_consistent_lsn + 1), NULL, 0,
												   layer_map_ref(tl->layers->map)));
	ingest_forget(tl);
	pthread_mutex_unlock(&tl->lock);
	layer_set_unref(old);
	ps_log(PS_WARNING,
		   "branch \"%s\": freed %llu MB of layers in memory that cannot be written; "
		   "can be read up to %X/%X, no longer up to %X/%X",
		   timeline_name(tl), (unsigned long long) bytes / (1024 * 1024), LSN_FORMAT_ARGS(tl->disk_consistent_lsn),
		   LSN_FORMAT_ARGS(ingested));
	pthread_mutex_lock(&tl->lock);
}

/* Reports and frees the error, and waits before the next attempt.  Caller holds Timeline.lock. */
static void
pause_after_failure(Timeline *tl, PsError *err, int64 *next_warning)
{
	int64 now = clock_now_ms();
	int64 until = now + RETRY_DELAY;

	strlcpy(tl->flush_error, err->message, sizeof(tl->flush_error));
	if (now >= *next_warning && !tl->stopping)
	{
		ps_log(PS_WARNING, "branch \"%s\": could not write a layer, will try again: %s", timeline_name(tl),
			   err->message);
		*next_warning = now + WARNING_INTERVAL;
	}
	ps_error_free(err);
	for (; !tl->stopping && now < until; now = clock_now_ms())
	{
		timeline_wait(tl, &tl->layers_changed, until - now);
		drop_unwritable(tl);
	}
}

void *
flush_main(void *arg)
{
	Timeline *tl = arg;
	int64 next_warning = 0;

	ps_thread_name("flush %.9s", timeline_name(tl));
	pthread_mutex_lock(&tl->lock);
	while (!tl->stopping)
	{
		PsError *err;

		if (tl->layers->nfrozen == 0)
		{
			timeline_wait(tl, &tl->layers_changed, 60 * 1000);
			continue;
		}
		pthread_mutex_unlock(&tl->lock);
		err = flush_oldest(tl);
		if (err != NULL && is_final(err))
			set_unwritable(tl, err);
		pthread_mutex_lock(&tl->lock);
		if (err != NULL)
			pause_after_failure(tl, err, &next_warning);
		else
		{
			tl->flush_error[0] = '\0';
			next_warning = 0;
		}
	}
	pthread_mutex_unlock(&tl->lock);
	return NULL;
}
