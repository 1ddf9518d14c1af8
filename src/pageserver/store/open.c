/*
 * open.c
 *	  Opens a branch as a timeline, also after a crash, and closes it.  use.c decides
 *	  when.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "base/fs.h"
#include "ingest/ingest.h"
#include "read/view.h"
#include "sqlstate.h"
#include "store/store_impl.h"
#include "upload/wal_upload.h"
#include "wal/reader.h"

/* Records between two checks for cancellation, which make a system call. */
#define RECORDS_PER_CHECK 10000

/* Loads the WAL state that was saved in the layers for the LSN up to which they are complete. */
static PsError *
load_state(const Timeline *tl, const LayerMap *map, XLogRecPtr lsn, WalState *state)
{
	PS_TRY(timeline_saved_state(tl->spec, map, lsn, state));
	if (state->end == lsn)
		return NULL;
	return ps_error(PS_SQLSTATE_CORRUPTED, "branch \"%s\": the newest saved WAL state is at %X/%X, expected %X/%X",
					timeline_name(tl), LSN_FORMAT_ARGS(state->end), LSN_FORMAT_ARGS(lsn));
}

/*
 * Finds the end of the last whole record in the WAL files, starting where the layers end.
 * All WAL up to the marker was acknowledged: damage before it is an error.  A file that
 * cannot be read is always an error.  WAL after the last whole record was never
 * acknowledged; it is cut off, so that the next record overwrites it.  The remaining WAL
 * counts as acknowledged from now on, and the marker is set to its end.
 *
 * Therefore it must be durable before that.  WAL up to the marker was synced before it was
 * acknowledged.  WAL after it may have been written by a killed store that did not sync
 * it; or the sync failed, and the kernel considers the pages clean, so that another sync
 * would write nothing.  Hence it is written again, and then synced.
 */
static PsError *
find_wal_end(Timeline *tl, const WalState *state, XLogRecPtr marker, const CancelCheck *cancel)
{
	XLogRecPtr end = state->end;
	XLogRecPtr prev = state->prev;
	XLogSegNo oldest;
	XLogSegNo newest;
	PsError *err = NULL;

	if (wal_segments_range(tl->wal, &oldest, &newest))
	{
		XLogRecPtr limit;
		WalReader *reader = wal_reader_create(tl->wal, end, prev, tl->spec->system_identifier);
		WalRecord rec;
		bool found;
		PsError *canceled = NULL;

		XLogSegNoOffsetToRecPtr(newest + 1, 0, tl->spec->segment_size, limit);
		for (int n = 1; (err = wal_reader_next(reader, limit, &rec, &found)) == NULL && found; n++)
		{
			prev = rec.start;
			end = rec.end;
			if (n % RECORDS_PER_CHECK == 0 && (canceled = cancel_check(cancel)) != NULL)
				break;
		}
		wal_reader_free(reader);
		if (canceled != NULL)
			return canceled;
	}
	if (end < marker)
	{
		char name[MAXFNAMELEN];
		XLogSegNo segno;
		PsError *damage;

		XLByteToSeg(end, segno, tl->spec->segment_size);
		XLogFileName(name, 1, segno, tl->spec->segment_size);
		damage = ps_error(PS_SQLSTATE_CORRUPTED,
						  "WAL of branch \"%s\" ends at %X/%X in file \"%s/wal/%s\", "
						  "but was acknowledged up to %X/%X%s%s",
						  timeline_name(tl), LSN_FORMAT_ARGS(end), tl->spec->dir, name, LSN_FORMAT_ARGS(marker),
						  err ? ": " : "", err ? err->message : "");
		ps_error_free(err);
		return ps_error_hint(damage, "The file, or one after it, is damaged or missing; restore it from a copy.");
	}
	if (err != NULL && !ps_error_is(err, PS_SQLSTATE_CORRUPTED))
		return ps_error_context(err, "branch \"%s\": looking for the end of WAL after %X/%X", timeline_name(tl),
								LSN_FORMAT_ARGS(end));
	if (err != NULL)
		ps_log(PS_DEBUG, "branch \"%s\": WAL ends at %X/%X, the rest is cut off: %s", timeline_name(tl),
			   LSN_FORMAT_ARGS(end), err->message);
	ps_error_free(err);
	PS_TRY(wal_segments_rewrite(tl->wal, Max(marker, state->end), end));
	PS_TRY(wal_segments_cut(tl->wal, end));
	/* this also syncs the directory, from which a killed store may have removed the trash mark without a sync */
	PS_TRY(receiver_sync_marker(tl, end));
	pthread_mutex_lock(&tl->lock);
	tl->received_lsn = tl->flushed_lsn = end;
	tl->flushed_prev = prev;
	pthread_mutex_unlock(&tl->lock);
	return NULL;
}

/* ---- opening and closing ---- */

/* Starts the threads; after an error, timeline_close() ends those that were started. */
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
	return ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "could not start a thread of branch \"%s\": %m", timeline_name(tl));
}

/* Does the directory of a branch have WAL?  Otherwise it was made from object storage, which has it. */
static bool
has_wal(const Branch *branch)
{
	char wal_dir[MAXPGPATH];

	snprintf(wal_dir, sizeof(wal_dir), "%s/wal", branch->spec.dir);
	return access(wal_dir, F_OK) == 0;
}

/*
 * Explains an error of object storage.  Unless that is damaged, the branch can be opened when it
 * works again, so it is not broken.  If another store owns the tenant, takes it out of service.
 */
static PsError *
check_upload(Branch *branch, PsError *err)
{
	Tenant *tenant = branch->tenant;
	char id[PS_ID_TEXT];
	PsError *result;

	if (err == NULL || err->is_cancel || ps_error_is(err, PS_SQLSTATE_CORRUPTED))
		return err;
	if (ps_error_is(err, PS_SQLSTATE_FENCED))
	{
		owner_fenced(tenant, err);
		return cancel_error(CANCEL_FENCED, ps_id_format(&tenant->id, id));
	}
	result = ps_error(PS_SQLSTATE_TRY_AGAIN, "branch \"%s\" cannot be opened, because of its WAL in object storage: %s",
					  branch_name(branch), err->message);
	ps_error_free(err);
	return result;
}

/*
 * Can a branch whose chain could not be opened be served without it?  Its directory must
 * have its WAL.  It has all that is in the chain, because no other directory has written to
 * that since (upload/ownership.h).
 */
static bool
can_open_chain_later(const Branch *branch, const PsError *err)
{
	return !err->is_cancel && !ps_error_is(err, PS_SQLSTATE_CORRUPTED) && has_wal(branch);
}

/*
 * If the store owns the tenant in object storage: opens the chain of the branch before its WAL
 * is read, which may restore some of that.  *later: object storage does not do that now, so
 * owner.c tries again while the branch is open, and its WAL waits to be uploaded.
 */
static PsError *
open_upload(Branch *branch, XLogRecPtr lsn, const ObjectWait *wait, PsError **later)
{
	Tenant *tenant = branch->tenant;
	Store *store = tenant->store;
	WalUploadFenced fenced = {owner_fenced, tenant};
	TenantOwner owner;
	bool owned;
	char id[PS_ID_TEXT];
	PsError *err;

	pthread_mutex_lock(&store->lock);
	owned = tenant->ownership == OWNER_OWNED;
	owner = tenant->owner;
	pthread_mutex_unlock(&store->lock);
	if (!owned && !has_wal(branch))
	{
		if (store->remote != NULL)
			return ps_error(PS_SQLSTATE_TRY_AGAIN, "branch \"%s\" waits for object storage, which has its WAL",
							branch_name(branch));
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "the WAL of branch \"%s\" is in object storage",
									  branch_name(branch)),
							 "Set \"remote_storage\" in %s.", CONFIG_FILE_NAME);
	}
	if (!owned)
	{
		/* the claim begins the upload; until then nothing may be acknowledged that must be there */
		if (store->remote != NULL && config_wal_acknowledge(store->config) == WAL_ACKNOWLEDGE_BUCKET)
			*later = ps_error(PS_SQLSTATE_TRY_AGAIN, "tenant %s is not claimed yet", ps_id_format(&tenant->id, id));
		return NULL;
	}
	err = check_upload(branch, branch_open_upload(branch, &owner, &fenced, lsn, NULL, wait));
	if (err == NULL || !can_open_chain_later(branch, err))
		return err;
	*later = err;
	return NULL;
}

/*
 * Starts to upload WAL, unless that has to wait for object storage because of the error
 * "later", which is taken over.
 */
static PsError *
start_upload(Timeline *tl, Branch *branch, const ObjectWait *wait, PsError *later)
{
	PsError *err = later;

	if (branch->upload == NULL && later == NULL)
		return NULL;
	if (branch->upload != NULL)
		err = check_upload(branch, wal_upload_start(branch->upload, tl, wait));
	if (err == NULL || !can_open_chain_later(branch, err))
		return err;
	wal_remote_begin(tl, tl->disk_consistent_lsn);
	wal_remote_set_error(tl, err->message);
	ps_log_error(PS_WARNING, err, "branch \"%s\": WAL will be uploaded later", timeline_name(tl));
	return NULL;
}

/*
 * Loads all of a timeline and starts its threads.  No other thread knows the timeline yet,
 * so some of what Timeline.lock protects is accessed without it.
 */
static PsError *
open_files(Timeline *tl, Branch *branch, const CancelCheck *cancel)
{
	Manifest m = {0};
	LayerMap *map = NULL;
	WalState state;
	XLogRecPtr marker;
	ObjectWait wait = {cancel, clock_now_ms() + timeline_config(tl)->wait_timeout};
	char *wal_dir = psprintf("%s/wal", tl->spec->dir);
	PsError *later = NULL;
	PsError *err;

	PS_GOTO(branch_read_manifest(branch, &m, &tl->log), done);
	if (m.has_ancestor != (tl->ancestor != NULL) ||
		(tl->ancestor != NULL && !ps_id_equal(&m.ancestor, &tl->ancestor->spec->id)))
	{
		err = ps_error(PS_SQLSTATE_CORRUPTED, "manifest in \"%s\" belongs to another timeline", tl->spec->dir);
		goto done;
	}
	PS_GOTO(manifest_log_confirm(tl->spec->dir, &tl->log), done);
	manifest_copy(&tl->saved, &m);
	tl->disk_consistent_lsn = tl->ingested_lsn = m.disk_consistent_lsn;
	tl->generation = m.generation;
	strlcpy(tl->owner, m.owner, sizeof(tl->owner));
	/* spec->pins outlives a close, and its cutoff may be ahead of that in the manifest (maintain/gc.c) */
	pins_raise_cutoff(tl->spec->pins, m.gc_cutoff);

	timeline_set_copies(tl, m.copies, m.ncopies);
	PS_GOTO(timeline_open_layers(tl, &m, &map), done);
	PS_GOTO(load_state(tl, map, m.disk_consistent_lsn, &state), done);
	PS_GOTO(open_upload(branch, m.disk_consistent_lsn, &wait, &later), done);
	/* a killed store may have created files without syncing the directory */
	PS_GOTO(fs_sync(wal_dir), done);
	PS_GOTO(wal_segments_open(wal_dir, tl->spec->segment_size, &tl->wal), done);
	PS_GOTO(receiver_open_marker(tl, &marker), done);
	PS_GOTO(find_wal_end(tl, &state, marker, cancel), done);
	PS_GOTO(wal_copy_restore(tl), done);
	/* not before the directory was synced: a power failure must not take the log after timeline.json is gone */
	manifest_remove_stray(tl->spec->dir);
	tl->arrivals = arrivals_open(tl->spec->dir, tl->env->clock, tl->flushed_lsn);
	tl->state = state;
	tl->level0 = layer_map_level0(map);
	tl->layers = layer_set_create(open_layer_create(m.disk_consistent_lsn + 1), NULL, 0, map);
	map = NULL;
	PS_GOTO(ingest_create(tl, &state), done);
	PS_GOTO(start_threads(tl), done);
	err = start_upload(tl, branch, &wait, later);
	later = NULL;
	if (err == NULL)
		err = wal_copy_start(tl);

done:
	ps_error_free(later);
	layer_map_unref(map);
	manifest_free(&m);
	pfree(wal_dir);
	return err;
}

PsError *
timeline_open(Branch *branch, Timeline *ancestor, const CancelCheck *cancel, Timeline **result)
{
	Timeline *tl = timeline_create(&branch->spec, &branch->tenant->env, ancestor, branch->manifest_name);
	PsError *err = open_files(tl, branch, cancel);

	if (err == NULL)
		*result = tl;
	else
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
	wal_upload_stop(branch_of(tl)->upload);
	wal_copy_stop(tl);
}

void
timeline_close(Timeline *tl)
{
	timeline_join(tl);
	ingest_free(tl);
	if (tl->wal != NULL)
		wal_segments_close(tl->wal);
	receiver_close_marker(tl);
	arrivals_close(tl->arrivals);
	if (tl->layers != NULL)
		timeline_keep_damaged(tl, tl->layers->map);
	damage_free(tl);
	timeline_free(tl);
}
