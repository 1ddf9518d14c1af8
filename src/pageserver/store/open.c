/*
 * open.c
 *	  What a manifest says of a timeline; opening it, also after a crash, and
 *	  closing it.  When that happens is store/use.c's business.
 */
#include "ps_fe.h"

#include "sqlstate.h"
#include "base/fs.h"
#include "timeline/timeline_impl.h"
#include "wal/reader.h"

/* Records between two looks whether it is wanted still: that asks the kernel about a socket. */
#define RECORDS_PER_LOOK 10000

PsError *
timeline_saved_state(const Timeline *tl, const LayerMap *map, XLogRecPtr lsn, WalState *state)
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
		err = ps_error(PS_SQLSTATE_CORRUPTED, "branch \"%s\": the layers hold no state at %X/%X", tl->name, LSN_FORMAT_ARGS(lsn));
	if (err == NULL)
		err = layer_read_value(&list.refs[0], &buf, &start);
	if (err == NULL)
		err = wal_state_decode(buf.data, buf.len, state);
	free(list.refs);
	pfree(buf.data);
	return err;
}

/* The state saved in the layers for the LSN up to which they are complete. */
static PsError *
load_state(const Timeline *tl, const LayerMap *map, XLogRecPtr lsn, WalState *state)
{
	PS_TRY(timeline_saved_state(tl, map, lsn, state));
	if (state->end == lsn)
		return NULL;
	return ps_error(PS_SQLSTATE_CORRUPTED, "branch \"%s\": the newest saved state is of %X/%X, expected %X/%X", tl->name,
					LSN_FORMAT_ARGS(state->end), LSN_FORMAT_ARGS(lsn));
}

/* An error if it is no use to go on with opening the timeline. */
static PsError *
check_wanted(Timeline *tl, const CancelCheck *cancel)
{
	Store *store = tl->tenant->store;
	PsError *err = NULL;

	pthread_mutex_lock(&store->lock);
	if (atomic_load(&store->stopping))
		err = cancel_error(CANCEL_STORE_STOPPING, NULL);
	else if (tl->tenant->life != TENANT_ATTACHED)
		err = tenant_detached_error(tl->tenant);
	pthread_mutex_unlock(&store->lock);
	return err != NULL ? err : cancel_check(cancel);
}

/*
 * Finds the end of the whole records in the WAL files, from where the layers
 * end.  Everything up to the marker was acknowledged: damage before it is an
 * error.  So is a file that cannot be read, wherever it is.  What else comes
 * behind the last whole record was never acknowledged; it is cut off, so that
 * the next record is written over it.  What is left counts as acknowledged
 * from now on, and the marker says so.
 *
 * So it must be durable first.  Up to the marker it was synced before it was
 * acknowledged.  What is after it a killed store may have written and not synced
 * yet; or the sync failed, and then the kernel takes these pages for clean, and
 * another sync would write nothing: they are written again.
 */
static PsError *
find_wal_end(Timeline *tl, const WalState *state, XLogRecPtr marker, const CancelCheck *cancel)
{
	XLogRecPtr end = state->end;
	XLogRecPtr prev = state->prev;
	XLogSegNo oldest,
		newest;
	PsError *err = NULL;

	if (wal_segments_range(tl->wal, &oldest, &newest))
	{
		XLogRecPtr limit;
		WalReader *reader = wal_reader_create(tl->wal, end, prev, tl->system_identifier);
		WalRecord rec;
		bool found;
		PsError *unwanted = NULL;

		XLogSegNoOffsetToRecPtr(newest + 1, 0, tl->segment_size, limit);
		for (int n = 1; (err = wal_reader_next(reader, limit, &rec, &found)) == NULL && found; n++)
		{
			prev = rec.start;
			end = rec.end;
			if (n % RECORDS_PER_LOOK == 0 && (unwanted = check_wanted(tl, cancel)) != NULL)
				break;
		}
		wal_reader_free(reader);
		if (unwanted != NULL)
			return unwanted;
	}
	if (end < marker)
	{
		char name[MAXFNAMELEN];
		XLogSegNo segno;
		PsError *damage;

		XLByteToSeg(end, segno, tl->segment_size);
		XLogFileName(name, 1, segno, tl->segment_size);
		damage = ps_error(PS_SQLSTATE_CORRUPTED,
						  "WAL of branch \"%s\" ends at %X/%X in file \"%s/wal/%s\", but was acknowledged up to %X/%X%s%s",
						  tl->name, LSN_FORMAT_ARGS(end), tl->dir, name, LSN_FORMAT_ARGS(marker), err ? ": " : "",
						  err ? err->message : "");
		ps_error_free(err);
		return ps_error_hint(damage, "The file, or one after it, is damaged or missing; restore it from a copy.");
	}
	if (err != NULL && !ps_error_is(err, PS_SQLSTATE_CORRUPTED))
		return ps_error_context(err, "branch \"%s\": looking for the end of WAL after %X/%X", tl->name, LSN_FORMAT_ARGS(end));
	if (err != NULL)
		ps_log(PS_DEBUG, "branch \"%s\": WAL ends at %X/%X, the rest is cut off: %s", tl->name, LSN_FORMAT_ARGS(end), err->message);
	ps_error_free(err);
	PS_TRY(wal_segments_rewrite(tl->wal, Max(marker, state->end), end));
	PS_TRY(wal_segments_cut(tl->wal, end));
	/* and with its directory that the timeline is in the trash no more, which a killed store may not have synced */
	PS_TRY(receiver_sync_marker(tl, end));
	pthread_mutex_lock(&tl->lock);
	tl->received_lsn = tl->flushed_lsn = end;
	tl->flushed_prev = prev;
	pthread_mutex_unlock(&tl->lock);
	return NULL;
}

/* ---- without opening it ---- */

static Timeline *
timeline_alloc(Tenant *tenant, const PsId *id)
{
	static atomic_ullong next_cache_id;
	Timeline *tl = pg_malloc0(sizeof(Timeline));
	char text[PS_ID_TEXT];

	tl->env = &tenant->env;
	tl->tenant = tenant;
	tl->id = *id;
	tl->cache_id = atomic_fetch_add(&next_cache_id, 1);
	tl->marker_fd = -1;
	tl->dir = psprintf("%s/timelines/%s", tenant->dir, ps_id_format(id, text));
	tl->space.dir = psprintf("%s/layers", tl->dir);
	tl->space.tenant = tenant->id;
	tl->space.timeline = *id;
	atomic_init(&tl->space.next_number, 1);
	pthread_mutex_init(&tl->upkeep_lock, NULL);
	pthread_mutex_init(&tl->level0_lock, NULL);
	pthread_mutex_init(&tl->generation_lock, NULL);
	pthread_mutex_init(&tl->settings_lock, NULL);
	pthread_mutex_init(&tl->receive_lock, NULL);
	pthread_mutex_init(&tl->manifest_lock, NULL);
	pthread_mutex_init(&tl->lock, NULL);
	clock_cond_init(&tl->changed);
	clock_cond_init(&tl->layers_changed);
	tl->known.tenant = tenant->id;
	tl->known.timeline = *id;
	return tl;
}

void
timeline_free(Timeline *tl)
{
	Assert(tl->life == TIMELINE_CLOSED || tl->life == TIMELINE_BROKEN);
	ps_error_free(tl->error);
	free(tl->pins);
	free(tl->damaged);
	free(tl->copies);
	free(tl->name);
	for (int i = 0; i < tl->nold_names; i++)
		free(tl->old_names[i]);
	free(tl->old_names);
	pthread_cond_destroy(&tl->changed);
	pthread_cond_destroy(&tl->layers_changed);
	pthread_mutex_destroy(&tl->lock);
	pthread_mutex_destroy(&tl->manifest_lock);
	pthread_mutex_destroy(&tl->receive_lock);
	pthread_mutex_destroy(&tl->generation_lock);
	pthread_mutex_destroy(&tl->settings_lock);
	pthread_mutex_destroy(&tl->level0_lock);
	pthread_mutex_destroy(&tl->upkeep_lock);
	pfree(tl->dir);
	pfree(tl->space.dir);
	free(tl);
}

void
timeline_set_broken(Timeline *tl, PsError *err)
{
	ps_log(PS_WARNING, "could not open \"%s\", branch \"%s\", which is not served: %s", tl->dir, tl->name, err->message);
	ps_error_free(tl->error);
	tl->error = err;
	tl->life = TIMELINE_BROKEN;
}

/* Reads the manifest, or the one before; an error if it is of something else, as far as it is known what the tenant is. */
static PsError *
read_manifest(Timeline *tl, bool old, Manifest *m)
{
	const Tenant *tenant = tl->tenant;

	PS_TRY(old ? manifest_read_old(tl->dir, m) : manifest_read(tl->dir, m));
	if (ps_id_equal(&m->timeline, &tl->id) && ps_id_equal(&m->tenant, &tenant->id) &&
		(tenant->segment_size == 0 ||
		 (m->system_identifier == tenant->system_identifier && m->segment_size == tenant->segment_size)))
		return NULL;
	manifest_free(m);
	return ps_error(PS_SQLSTATE_CORRUPTED, "manifest in \"%s\" is of another timeline", tl->dir);
}

PsError *
timeline_load(Tenant *tenant, const PsId *id, const PsError *problem, Timeline **result, bool *has_ancestor, PsId *ancestor)
{
	Timeline *tl = timeline_alloc(tenant, id);
	Manifest m = {0};
	PsError *err = read_manifest(tl, false, &m);
	PsError *old_err = NULL;
	PsError *mark_err;

	*has_ancestor = false;
	if (err != NULL && !ps_error_is_transient(err))
		old_err = read_manifest(tl, true, &m);
	if ((err != NULL && ps_error_is_transient(err)) || (old_err != NULL && ps_error_is_transient(old_err)))
	{
		timeline_free(tl);
		ps_error_free(err != NULL && old_err != NULL ? err : NULL);
		return old_err != NULL ? old_err : err;
	}
	mark_err = trash_mark_read(tl->dir, tenant->store->clock, &tl->trash_mark, &tl->in_trash);
	if (mark_err != NULL && ps_error_is_transient(mark_err))
	{
		manifest_free(&m);
		timeline_free(tl);
		ps_error_free(err);
		ps_error_free(old_err);
		return mark_err;
	}
	*result = tl;
	tl->name = pg_strdup(m.name);
	strlcpy(tl->saved_name, m.name, sizeof(tl->saved_name));
	tl->origin_unknown = old_err != NULL;
	ps_error_free(old_err);
	tl->is_protected = trash_is_protected(tl->dir);
	err = ps_error_first(err, mark_err);
	if (problem != NULL)
	{
		ps_error_free(err);
		err = ps_error_copy(problem);
	}
	if (err != NULL)
		timeline_set_broken(tl, err);
	if (tl->origin_unknown)
		return NULL;
	tl->has_replaced = m.has_replaced;
	tl->replaced = m.replaced;
	*has_ancestor = m.has_ancestor;
	*ancestor = m.ancestor;
	tl->system_identifier = m.system_identifier;
	tl->segment_size = m.segment_size;
	tl->data_checksum_version = m.data_checksum_version;
	tl->start_lsn = m.start_lsn;
	tl->disk_consistent_lsn = m.disk_consistent_lsn;
	tl->gc_cutoff = m.gc_cutoff;

	timeline_set_copies(tl, m.copies, m.ncopies);

	/* one file: that of its beginning */
	upkeep_plan(tl, m.nlayers <= 1 && m.ncopies == 0);

	tl->known.system_identifier = m.system_identifier;
	tl->known.segment_size = m.segment_size;
	tl->known.data_checksum_version = m.data_checksum_version;
	tl->known.start_lsn = m.start_lsn;
	tl->known.generation = m.generation;
	strlcpy(tl->known.owner, m.owner, sizeof(tl->known.owner));
	tl->known.disk_consistent_lsn = tl->known.ingested_lsn = m.disk_consistent_lsn;
	tl->known.flushed_lsn = tl->known.received_lsn = Max(receiver_look_at_marker(tl->dir), m.disk_consistent_lsn);
	tl->known.gc_cutoff = Max(m.gc_cutoff, m.start_lsn);
	manifest_free(&m);
	return NULL;
}

/* ---- opening and closing ---- */

/* Starts the threads; timeline_close() ends those that have been started, also after an error. */
static PsError *
start_threads(Timeline *tl)
{
	int rc = pthread_create(&tl->ingest_thread, NULL, ingest_main, tl);

	tl->nthreads += rc == 0;
	if (rc == 0)
		rc = pthread_create(&tl->flush_thread, NULL, flush_main, tl);
	tl->nthreads += rc == 0;
	if (rc == 0)
		return NULL;
	errno = rc;
	return ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "could not start a thread of branch \"%s\": %m", tl->name);
}

/*
 * Locks: none; nobody uses the timeline yet, but some of what Timeline.lock
 * protects is looked at all the same.
 */
PsError *
timeline_open(Timeline *tl, const CancelCheck *cancel)
{
	Manifest m = {0};
	LayerMap *map = NULL;
	WalState state;
	XLogRecPtr marker;
	char *wal_dir = psprintf("%s/wal", tl->dir);
	PsError *err;

	PS_GOTO(read_manifest(tl, false, &m), done);
	if (m.has_ancestor != (tl->ancestor != NULL) || (tl->ancestor != NULL && !ps_id_equal(&m.ancestor, &tl->ancestor->id)))
	{
		err = ps_error(PS_SQLSTATE_CORRUPTED, "manifest in \"%s\" is of another timeline", tl->dir);
		goto done;
	}
	pthread_mutex_lock(&tl->lock);
	tl->disk_consistent_lsn = tl->ingested_lsn = m.disk_consistent_lsn;
	tl->gc_cutoff = Max(tl->gc_cutoff, m.gc_cutoff); /* it may be ahead of the manifest (maintain/gc.c) */
	tl->generation = m.generation;
	strlcpy(tl->owner, m.owner, sizeof(tl->owner));
	pthread_mutex_unlock(&tl->lock);

	timeline_set_copies(tl, m.copies, m.ncopies);
	manifest_remove_stray(tl->dir);
	PS_GOTO(timeline_open_layers(tl, &m, &map), done);
	PS_GOTO(load_state(tl, map, m.disk_consistent_lsn, &state), done);
	/* names that a killed store may not have synced */
	PS_GOTO(fs_sync(wal_dir), done);
	PS_GOTO(wal_segments_open(wal_dir, tl->segment_size, &tl->wal), done);
	PS_GOTO(receiver_open_marker(tl, &marker), done);
	PS_GOTO(find_wal_end(tl, &state, marker, cancel), done);
	tl->arrivals = arrivals_open(tl->dir, tl->env->clock, tl->flushed_lsn);
	pthread_mutex_lock(&tl->lock);
	tl->state = state;
	tl->level0 = layer_map_level0(map);
	tl->layers = layer_set_create(open_layer_create(m.disk_consistent_lsn + 1), NULL, 0, map);
	pthread_mutex_unlock(&tl->lock);
	map = NULL;
	PS_GOTO(ingest_create(tl, &state), done);
	PS_GOTO(start_threads(tl), done);

done:
	layer_map_unref(map);
	manifest_free(&m);
	pfree(wal_dir);
	if (err != NULL)
		timeline_close(tl);
	return err;
}

void
timeline_join(Timeline *tl)
{
	timeline_stop(tl, CANCEL_STORE_STOPPING);
	if (tl->nthreads > 0)
		pthread_join(tl->ingest_thread, NULL);
	if (tl->nthreads > 1)
		pthread_join(tl->flush_thread, NULL);
	tl->nthreads = 0;
}

void
timeline_close(Timeline *tl)
{
	LayerSet *layers;

	timeline_join(tl);
	atomic_store(&tl->ancestor_is_there, false);
	ingest_free(tl);
	if (tl->wal != NULL)
		wal_segments_close(tl->wal);
	tl->wal = NULL;
	receiver_close_marker(tl);
	arrivals_close(tl->arrivals);
	tl->arrivals = NULL;
	pthread_mutex_lock(&tl->lock);
	layers = tl->layers;
	tl->layers = NULL;
	if (layers != NULL)
		timeline_keep_damaged(tl, layers->map);
	ps_error_free(tl->failed);
	tl->failed = NULL;
	tl->unwritable = tl->ingest_ended = tl->forgotten = false;
	memset(tl->waits, 0, sizeof(tl->waits));
	tl->flush_error[0] = tl->files_missing[0] = '\0';
	memset(tl->upkeep_errors, 0, sizeof(tl->upkeep_errors));
	damage_free(tl);
	tl->stopping = CANCEL_NONE;
	pthread_mutex_unlock(&tl->lock);
	layer_set_unref(layers);
	/* the next time it is known which manifest there is */
	while (tl->nin_doubt > 0)
		layer_unref(tl->in_doubt[--tl->nin_doubt]);
	free(tl->in_doubt);
	tl->in_doubt = NULL;
}
