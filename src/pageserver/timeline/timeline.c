/*
 * timeline.c
 *	  The basics of an open timeline: its set of layers, waits, failures.  Opening and
 *	  closing, which call all parts of it, are in store/open.c.
 */
#include "ps_fe.h"

#include <stdarg.h>
#include <time.h>

#include "sqlstate.h"
#include "timeline/engine.h"

/* ---- creating and freeing ---- */

Timeline *
timeline_create(TimelineSpec *spec, TimelineEnv *env, Timeline *ancestor, const char *next_name)
{
	Timeline *tl = pg_malloc0(sizeof(Timeline));

	tl->spec = spec;
	tl->env = env;
	spec->space.source = env->source;
	tl->ancestor = ancestor;
	tl->marker_fd = -1;
	strlcpy(tl->next_name, next_name, sizeof(tl->next_name));
	pthread_mutex_init(&tl->upkeep_lock, NULL);
	pthread_mutex_init(&tl->level0_lock, NULL);
	pthread_mutex_init(&tl->generation_lock, NULL);
	pthread_mutex_init(&tl->receive_lock, NULL);
	pthread_mutex_init(&tl->manifest_lock, NULL);
	pthread_mutex_init(&tl->lock, NULL);
	clock_cond_init(&tl->changed);
	clock_cond_init(&tl->layers_changed);
	clock_cond_init(&tl->remote.wake);
	clock_cond_init(&tl->copy.wake);
	return tl;
}

void
timeline_free(Timeline *tl)
{
	layer_set_unref(tl->layers);
	/* the next opening reads the manifest that exists, and removes what it does not name */
	while (tl->nuncertain > 0)
		layer_unref(tl->uncertain[--tl->nuncertain]);
	free(tl->uncertain);
	manifest_free(&tl->saved);
	timeline_set_copies(tl, NULL, 0);
	free(tl->copies);
	ps_error_free(tl->failed);
	pthread_cond_destroy(&tl->changed);
	pthread_cond_destroy(&tl->layers_changed);
	pthread_cond_destroy(&tl->remote.wake);
	pthread_cond_destroy(&tl->copy.wake);
	pthread_mutex_destroy(&tl->lock);
	pthread_mutex_destroy(&tl->manifest_lock);
	pthread_mutex_destroy(&tl->receive_lock);
	pthread_mutex_destroy(&tl->generation_lock);
	pthread_mutex_destroy(&tl->level0_lock);
	pthread_mutex_destroy(&tl->upkeep_lock);
	free(tl);
}

/* ---- the set of layers ---- */

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

/* ---- history that is kept ---- */

XLogRecPtr
timeline_gc_cutoff(Timeline *tl)
{
	return pins_cutoff(tl->spec->pins);
}

static PsError *
not_kept_error(const Timeline *tl, XLogRecPtr lsn)
{
	return ps_error(PS_SQLSTATE_INVALID, "branch \"%s\" can be read from %X/%X on, but %X/%X was requested",
					timeline_name(tl), LSN_FORMAT_ARGS(pins_cutoff(tl->spec->pins)), LSN_FORMAT_ARGS(lsn));
}

/*
 * Holds Timeline.lock from pins_keep() until it has the reference: a map without some files
 * is installed under this lock, after the cutoff that allowed to remove them was raised.
 */
PsError *
timeline_layers_at(Timeline *tl, XLogRecPtr lsn, LayerSet **set)
{
	PsError *err = NULL;

	pthread_mutex_lock(&tl->lock);
	if (!pins_keep(tl->spec->pins, lsn, false))
		err = not_kept_error(tl, lsn);
	else if (tl->forgotten && lsn > tl->ingested_lsn)
		err = timeline_failure(tl);
	if (err == NULL)
	{
		*set = tl->layers;
		atomic_fetch_add(&(*set)->refcount, 1);
	}
	pthread_mutex_unlock(&tl->lock);
	return err;
}

PsError *
timeline_pin(Timeline *tl, XLogRecPtr lsn)
{
	return pins_lease(tl->spec->pins, lsn, false) ? NULL : not_kept_error(tl, lsn);
}

PsError *
timeline_pin_wal(Timeline *tl, XLogRecPtr lsn)
{
	return pins_lease(tl->spec->pins, lsn, true) ? NULL : not_kept_error(tl, lsn);
}

void
timeline_unpin(Timeline *tl, XLogRecPtr lsn)
{
	pins_remove(tl->spec->pins, lsn, PIN_LEASE);
}

XLogRecPtr
timeline_hold_history(Timeline *tl)
{
	return pins_hold_history(tl->spec->pins);
}

void
timeline_unhold_history(Timeline *tl, XLogRecPtr from)
{
	pins_remove(tl->spec->pins, from, PIN_HISTORY);
}

PsError *
timeline_saved_state(const TimelineSpec *spec, const LayerMap *map, XLogRecPtr lsn, WalState *state)
{
	PsKey key = ps_key_simple(PS_KEY_STATE, 0, 0, 0);
	ValueList list = {0};
	StringInfoData buf;
	bool done = false;
	XLogRecPtr start;
	PsError *err;

	initStringInfo(&buf);
	err = layer_map_collect(map, &key, 0, lsn, &list, &done);
	if (err == NULL && list.n == 0)
		err = ps_error(PS_SQLSTATE_CORRUPTED, "branch \"%s\": the layers have no WAL state at %X/%X", spec->name.now,
					   LSN_FORMAT_ARGS(lsn));
	if (err == NULL)
		err = layer_read_value(&list.refs[0], &buf, &start);
	if (err == NULL)
		err = wal_state_decode(buf.data, buf.len, state);
	free(list.refs);
	pfree(buf.data);
	return err;
}

/* ---- waits and failures ---- */

void
timeline_wait(Timeline *tl, pthread_cond_t *cond, int64 ms)
{
	clock_cond_wait(cond, &tl->lock, ms);
}

/* A wait is shown by timeline_info() and logged after these times, ms. */
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
	ps_log(PS_WARNING, "branch \"%s\": WAL waits for %s", timeline_name(tl), wait->text);
	wait->is_logged = true;
}

void
timeline_end_wait(Timeline *tl, WaitKind kind)
{
	Wait *wait = &tl->waits[kind];

	if (wait->is_logged)
		ps_log(PS_LOG, "branch \"%s\": WAL continues after a wait of %lld ms", timeline_name(tl),
			   (long long) (clock_now_ms() - wait->since));
	memset(wait, 0, sizeof(*wait));
}

void
timeline_fail(Timeline *tl, PsError *err)
{
	ps_log(PS_WARNING, "branch \"%s\" accepts no more WAL: %s", timeline_name(tl), err->message);
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
	PsError *err = ps_error(tl->failed->sqlstate, "branch \"%s\" accepts no more WAL after %X/%X: %s",
							timeline_name(tl), LSN_FORMAT_ARGS(tl->ingested_lsn), tl->failed->message);

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
			err = ps_error(PS_SQLSTATE_TRY_AGAIN,
						   "branch \"%s\" has WAL up to %X/%X only, after waiting %d ms for %X/%X", timeline_name(tl),
						   LSN_FORMAT_ARGS(tl->ingested_lsn), timeout_ms, LSN_FORMAT_ARGS(lsn));
		else
			err = cancel_wait(&wait, &tl->changed, &tl->lock, 100);
	}
	pthread_mutex_unlock(&tl->lock);
	return err;
}

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
	pthread_cond_broadcast(&tl->remote.wake);
	pthread_cond_broadcast(&tl->copy.wake);
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
	bool of_tenant = tl->stopping == CANCEL_TENANT_DETACHED || tl->stopping == CANCEL_FENCED;

	return cancel_error(tl->stopping, of_tenant ? ps_id_format(&tl->spec->tenant, id) : timeline_name(tl));
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

	/* a close would lose this information */
	if (wal_segments_sync_failed(tl->wal, NULL, 0))
		return false;
	pthread_mutex_lock(&tl->lock);
	settled = tl->failed == NULL && tl->flush_error[0] == '\0' && tl->files_missing[0] == '\0' &&
			  tl->disk_consistent_lsn == tl->flushed_lsn && (!tl->remote.uploads || tl->remote.lsn >= tl->flushed_lsn);
	pthread_mutex_unlock(&tl->lock);
	return settled;
}

static PsError *
superseded_error(Timeline *tl, uint64 generation)
{
	PsError *err = ps_error(PS_SQLSTATE_SUPERSEDED,
							"branch \"%s\" is run by a newer compute: generation " UINT64_FORMAT
							" (%s), this one is generation " UINT64_FORMAT,
							timeline_name(tl), tl->generation, tl->owner[0] ? tl->owner : "unknown", generation);

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
		err = superseded_error(tl, generation);
	else if (generation > tl->generation)
		err = ps_error(PS_SQLSTATE_INVALID,
					   "branch \"%s\" has no generation " UINT64_FORMAT " yet, its newest is " UINT64_FORMAT,
					   timeline_name(tl), generation, tl->generation);
	pthread_mutex_unlock(&tl->lock);
	return err;
}
