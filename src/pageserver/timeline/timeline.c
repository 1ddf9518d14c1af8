/*
 * timeline.c
 *	  A timeline in memory: its set of layers, waits, failures, what others may
 *	  know of it.  What all that works on an open timeline builds on; opening
 *	  and closing, which know of all of that, are in store/open.c.
 */
#include "ps_fe.h"

#include <stdarg.h>
#include <time.h>

#include "sqlstate.h"
#include "timeline/timeline_impl.h"

/* ---- the set of layers that readers see ---- */

LayerSet *
layer_set_create(Layer *open, Layer *const *frozen, int nfrozen, LayerMap *map)
{
	LayerSet *set = pg_malloc0(sizeof(LayerSet));

	atomic_init(&set->refcount, 1);
	set->open = open;
	set->nfrozen = nfrozen;
	if (nfrozen > 0)
		memcpy(set->frozen, frozen, nfrozen * sizeof(Layer *));
	set->map = map;
	return set;
}

void
layer_set_unref(LayerSet *set)
{
	if (set == NULL || atomic_fetch_sub(&set->refcount, 1) > 1)
		return;
	layer_unref(set->open);
	for (int i = 0; i < set->nfrozen; i++)
		layer_unref(set->frozen[i]);
	layer_map_unref(set->map);
	free(set);
}

/* The set as it is now; the caller ends with layer_set_unref(). */
LayerSet *
timeline_layers(Timeline *tl)
{
	LayerSet *set;

	pthread_mutex_lock(&tl->lock);
	set = tl->layers;
	atomic_fetch_add(&set->refcount, 1);
	pthread_mutex_unlock(&tl->lock);
	return set;
}

LayerSet *
timeline_files(Timeline *tl)
{
	LayerSet *set = timeline_layers(tl);
	LayerSet *files = layer_set_files(set);

	layer_set_unref(set);
	return files;
}

XLogRecPtr
layer_set_memory_start(const LayerSet *set)
{
	return layer_info(set->nfrozen > 0 ? set->frozen[set->nfrozen - 1] : set->open)->lsn_start;
}

LayerSet *
layer_set_files(const LayerSet *set)
{
	return layer_set_create(open_layer_create(layer_set_memory_start(set)), NULL, 0, layer_map_ref(set->map));
}

int
layers_damaged(const LayerMap *map, char name[LAYER_NAME_MAX])
{
	int n = 0;

	for (int i = 0; i < layer_map_count(map); i++)
		if (layer_is_damaged(layer_map_get(map, i)) && n++ == 0)
			layer_name(layer_map_get(map, i), name);
	return n;
}

LayerSet *
timeline_set_layers(Timeline *tl, LayerSet *set)
{
	LayerSet *old = tl->layers;

	tl->layers = set;
	if (set->map != old->map)
		tl->level0 = layer_map_level0(set->map);
	pthread_cond_broadcast(&tl->layers_changed);
	return old;
}

LayerSet *
timeline_set_map(Timeline *tl, LayerMap *map, int written)
{
	LayerSet *now = tl->layers;
	Layer *frozen[MAX_FROZEN];
	int n = now->nfrozen - written;

	for (int i = 0; i < n; i++)
		frozen[i] = layer_ref(now->frozen[i]);
	return timeline_set_layers(tl, layer_set_create(layer_ref(now->open), frozen, n, map));
}

/* ---- what is kept of the past ---- */

XLogRecPtr
timeline_gc_cutoff(Timeline *tl)
{
	XLogRecPtr cutoff;

	pthread_mutex_lock(&tl->lock);
	cutoff = Max(tl->gc_cutoff, tl->start_lsn);
	pthread_mutex_unlock(&tl->lock);
	return cutoff;
}

static bool
is_pinned(const Timeline *tl, XLogRecPtr lsn, bool wal)
{
	for (int i = 0; i < tl->npins; i++)
		if (tl->pins[i].lsn == lsn && (tl->pins[i].wal || !wal))
			return true;
	return false;
}

/* wal: and the WAL from the state that was saved before it on?  Caller holds Timeline.lock. */
static PsError *
check_kept(const Timeline *tl, XLogRecPtr lsn, bool wal)
{
	XLogRecPtr oldest = Max(tl->gc_cutoff, tl->start_lsn);

	if (lsn >= oldest || is_pinned(tl, lsn, wal))
		return NULL;
	return ps_error(PS_SQLSTATE_INVALID, "branch \"%s\" can be read from %X/%X on, %X/%X is before that", tl->name,
					LSN_FORMAT_ARGS(oldest), LSN_FORMAT_ARGS(lsn));
}

PsError *
timeline_layers_at(Timeline *tl, XLogRecPtr lsn, LayerSet **set)
{
	PsError *err;

	pthread_mutex_lock(&tl->lock);
	err = check_kept(tl, lsn, false);
	if (err == NULL && tl->forgotten && lsn > tl->ingested_lsn)
		err = timeline_failure(tl);
	if (err == NULL)
	{
		*set = tl->layers;
		atomic_fetch_add(&(*set)->refcount, 1);
	}
	pthread_mutex_unlock(&tl->lock);
	return err;
}

/* Caller holds Timeline.lock. */
static void
add_pin(Timeline *tl, XLogRecPtr lsn, bool wal)
{
	tl->pins = pg_realloc(tl->pins, (tl->npins + 1) * sizeof(Pin));
	tl->pins[tl->npins++] = (Pin) {.lsn = lsn, .wal = wal};
}

static PsError *
pin(Timeline *tl, XLogRecPtr lsn, bool wal)
{
	PsError *err;

	pthread_mutex_lock(&tl->lock);
	err = check_kept(tl, lsn, wal);
	if (err == NULL)
		add_pin(tl, lsn, true);
	pthread_mutex_unlock(&tl->lock);
	return err;
}

PsError *
timeline_pin(Timeline *tl, XLogRecPtr lsn)
{
	return pin(tl, lsn, false);
}

PsError *
timeline_pin_wal(Timeline *tl, XLogRecPtr lsn)
{
	return pin(tl, lsn, true);
}

void
timeline_pin_branch(Timeline *tl, XLogRecPtr lsn)
{
	pthread_mutex_lock(&tl->lock);
	add_pin(tl, lsn, false);
	pthread_mutex_unlock(&tl->lock);
}

XLogRecPtr
timeline_hold_history(Timeline *tl)
{
	XLogRecPtr from;

	pthread_mutex_lock(&tl->lock);
	from = Max(tl->gc_cutoff, tl->start_lsn);
	add_pin(tl, from, true);
	tl->pins[tl->npins - 1].history = true;
	pthread_mutex_unlock(&tl->lock);
	return from;
}

static void
remove_pin(Timeline *tl, XLogRecPtr lsn, bool wal, bool history)
{
	pthread_mutex_lock(&tl->lock);
	for (int i = 0; i < tl->npins; i++)
		if (tl->pins[i].lsn == lsn && tl->pins[i].wal == wal && tl->pins[i].history == history)
		{
			tl->pins[i] = tl->pins[--tl->npins];
			break;
		}
	pthread_mutex_unlock(&tl->lock);
}

void
timeline_unpin_branch(Timeline *tl, XLogRecPtr lsn)
{
	remove_pin(tl, lsn, false, false);
}

void
timeline_unpin(Timeline *tl, XLogRecPtr lsn)
{
	remove_pin(tl, lsn, true, false);
}

void
timeline_unhold_history(Timeline *tl, XLogRecPtr from)
{
	remove_pin(tl, from, true, true);
}

XLogRecPtr
timeline_pin_without_images(Timeline *tl)
{
	XLogRecPtr lsn = InvalidXLogRecPtr;

	pthread_mutex_lock(&tl->lock);
	for (int i = 0; i < tl->npins && lsn == InvalidXLogRecPtr; i++)
		if (!tl->pins[i].wal && !tl->pins[i].imaged && tl->pins[i].lsn < tl->gc_cutoff)
			lsn = tl->pins[i].lsn;
	pthread_mutex_unlock(&tl->lock);
	return lsn;
}

void
timeline_pin_has_images(Timeline *tl, XLogRecPtr lsn)
{
	pthread_mutex_lock(&tl->lock);
	for (int i = 0; i < tl->npins; i++)
		if (tl->pins[i].lsn == lsn)
			tl->pins[i].imaged = true;
	pthread_mutex_unlock(&tl->lock);
}

static int
by_value(const void *a, const void *b)
{
	XLogRecPtr x = *(const XLogRecPtr *) a;
	XLogRecPtr y = *(const XLogRecPtr *) b;

	return x < y ? -1 : x > y;
}

void
timeline_begin_gc(Timeline *tl, XLogRecPtr horizon)
{
	pthread_mutex_lock(&tl->lock);
	for (int i = 0; i < tl->npins; i++)
		if (tl->pins[i].history)
			horizon = Min(horizon, tl->pins[i].lsn);
	tl->gc_cutoff = Max(tl->gc_cutoff, horizon);
	pthread_mutex_unlock(&tl->lock);
}

void
timeline_readable(Timeline *tl, XLogRecPtr latest, XLogRecPtr *horizon, XLogRecPtr **points, int *npoints, XLogRecPtr *wal_from)
{
	int n = 0;

	pthread_mutex_lock(&tl->lock);
	*horizon = *wal_from = Min(Max(tl->gc_cutoff, tl->start_lsn), latest);
	*points = pg_malloc(Max(tl->npins, 1) * sizeof(XLogRecPtr));
	for (int i = 0; i < tl->npins; i++)
		if (tl->pins[i].lsn < *horizon)
		{
			(*points)[n++] = tl->pins[i].lsn;
			if (tl->pins[i].wal)
				*wal_from = Min(*wal_from, tl->pins[i].lsn);
		}
	pthread_mutex_unlock(&tl->lock);
	qsort(*points, n, sizeof(XLogRecPtr), by_value);
	*npoints = 0;
	for (int i = 0; i < n; i++)
		if (i == 0 || (*points)[i] != (*points)[i - 1])
			(*points)[(*npoints)++] = (*points)[i];
}

/* ---- waits and failures ---- */

void
timeline_wait(Timeline *tl, pthread_cond_t *cond, int64 ms)
{
	clock_cond_wait(cond, &tl->lock, ms);
}

/* A wait that is not over after so long is told to those who ask, and after so long to the log, ms. */
#define REPORT_WAIT_AFTER 1000
#define LOG_WAIT_AFTER    10000

void
timeline_report_wait(Timeline *tl, WaitKind kind, const char *fmt, ...)
{
	Wait *wait = &tl->waits[kind];
	int64 now = clock_now_ms();
	va_list args;

	if (wait->since == 0)
		wait->since = now;
	if (now - wait->since < REPORT_WAIT_AFTER)
		return;
	va_start(args, fmt);
	vsnprintf(wait->text, sizeof(wait->text), fmt, args);
	va_end(args);
	if (now - wait->since < LOG_WAIT_AFTER || wait->is_logged || kind == WAIT_FOR_ROOM)
		return;
	ps_log(PS_WARNING, "branch \"%s\": WAL waits for %s", tl->name, wait->text);
	wait->is_logged = true;
}

void
timeline_end_wait(Timeline *tl, WaitKind kind)
{
	Wait *wait = &tl->waits[kind];

	if (wait->is_logged)
		ps_log(PS_LOG, "branch \"%s\": WAL goes on after %lld ms", tl->name, (long long) (clock_now_ms() - wait->since));
	memset(wait, 0, sizeof(*wait));
}

void
timeline_fail(Timeline *tl, PsError *err)
{
	ps_log(PS_WARNING, "branch \"%s\" takes in no more WAL: %s", tl->name, err->message);
	pthread_mutex_lock(&tl->lock);
	if (tl->failed == NULL)
		tl->failed = err;
	else
		ps_error_free(err);
	pthread_cond_broadcast(&tl->changed);
	pthread_cond_broadcast(&tl->layers_changed);
	pthread_mutex_unlock(&tl->lock);
}

PsError *
timeline_failure(Timeline *tl)
{
	PsError *err = ps_error(tl->failed->sqlstate, "branch \"%s\" takes in no more WAL after %X/%X: %s", tl->name,
							LSN_FORMAT_ARGS(tl->ingested_lsn), tl->failed->message);

	return tl->failed->hint ? ps_error_hint(err, "%s", tl->failed->hint) : err;
}

PsError *
timeline_wait_ingested(Timeline *tl, XLogRecPtr lsn, int timeout_ms, const CancelCheck *cancel)
{
	int64 end = clock_now_ms() + timeout_ms;
	CancelWait wait = {.cancel = cancel};
	PsError *err = NULL;

	pthread_mutex_lock(&tl->lock);
	while (err == NULL && tl->ingested_lsn < lsn)
	{
		if (tl->failed != NULL)
			err = timeline_failure(tl);
		else if (tl->stopping != CANCEL_NONE)
			err = timeline_stopping_error(tl);
		else if (timeout_ms >= 0 && clock_now_ms() >= end)
			err = ps_error(PS_SQLSTATE_TRY_AGAIN, "branch \"%s\" has WAL up to %X/%X only, after waiting %d ms for %X/%X",
						   tl->name, LSN_FORMAT_ARGS(tl->ingested_lsn), timeout_ms, LSN_FORMAT_ARGS(lsn));
		else
			err = cancel_wait(&wait, &tl->changed, &tl->lock, 100);
	}
	pthread_mutex_unlock(&tl->lock);
	return err;
}

/* ---- what others may know ---- */

WalSegments *
timeline_wal(Timeline *tl)
{
	return tl->wal;
}

/* ---- stopping, generations ---- */

void
timeline_stop(Timeline *tl, CancelReason reason)
{
	pthread_mutex_lock(&tl->lock);
	if (tl->stopping == CANCEL_NONE)
		tl->stopping = reason;
	pthread_cond_broadcast(&tl->changed);
	pthread_cond_broadcast(&tl->layers_changed);
	pthread_mutex_unlock(&tl->lock);
}

bool
timeline_is_stopping(Timeline *tl)
{
	bool stopping;

	pthread_mutex_lock(&tl->lock);
	stopping = tl->stopping != CANCEL_NONE;
	pthread_mutex_unlock(&tl->lock);
	return stopping;
}

PsError *
timeline_stopping_error(const Timeline *tl)
{
	char id[PS_ID_TEXT];

	return cancel_error(tl->stopping, tl->stopping == CANCEL_TENANT_DETACHED ? ps_id_format(&tl->tenant->id, id) : tl->name);
}

PsError *
timeline_check_stopping(void *arg)
{
	Timeline *tl = arg;
	PsError *err;

	pthread_mutex_lock(&tl->lock);
	err = timeline_stopping_error(tl);
	pthread_mutex_unlock(&tl->lock);
	return err;
}

bool
timeline_is_settled(Timeline *tl)
{
	bool settled;

	/* opened again, it would forget that */
	if (wal_segments_sync_failed(tl->wal, NULL, 0))
		return false;
	pthread_mutex_lock(&tl->lock);
	settled = tl->failed == NULL && tl->flush_error[0] == '\0' && tl->files_missing[0] == '\0' &&
			  tl->disk_consistent_lsn == tl->flushed_lsn;
	pthread_mutex_unlock(&tl->lock);
	return settled;
}

static PsError *
superseded(Timeline *tl, uint64 generation)
{
	PsError *err = ps_error(PS_SQLSTATE_SUPERSEDED,
							"branch \"%s\" is run by a newer compute: generation " UINT64_FORMAT " (%s), this one is generation " UINT64_FORMAT,
							tl->name, tl->generation, tl->owner[0] ? tl->owner : "unknown", generation);

	return ps_error_hint(err, "Only one compute can run a branch.  If this one should, start it again.");
}

PsError *
timeline_check_generation(Timeline *tl, uint64 generation)
{
	PsError *err = NULL;

	if (generation == 0)
		return NULL;
	pthread_mutex_lock(&tl->lock);
	if (generation < tl->generation)
		err = superseded(tl, generation);
	else if (generation > tl->generation)
		err = ps_error(PS_SQLSTATE_INVALID, "branch \"%s\" has no generation " UINT64_FORMAT " yet, its newest is " UINT64_FORMAT,
					   tl->name, generation, tl->generation);
	pthread_mutex_unlock(&tl->lock);
	return err;
}
