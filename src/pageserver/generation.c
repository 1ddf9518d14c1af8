/*
 * generation.c
 *	  One writer: each start of a compute raises the timeline's generation.
 *
 * The manifest with the new number is durable before anything else happens, so
 * that an older compute can never write again, whatever is killed from here on.
 */
#include "ps_fe.h"

#include <time.h>

#include "ps_wire.h"
#include "timeline_impl.h"

static PsError *
superseded(Timeline *tl, uint64 generation)
{
	PsError    *err = ps_error(PS_SQLSTATE_SUPERSEDED,
							   "branch \"%s\" is run by a newer compute: generation " UINT64_FORMAT " (%s), this one is generation " UINT64_FORMAT,
							   tl->name, tl->generation, tl->owner[0] ? tl->owner : "unknown", generation);

	return ps_error_hint(err, "Only one compute can run a branch.  If this one should, start it again.");
}

PsError *
timeline_check_generation(Timeline *tl, uint64 generation)
{
	PsError    *err = NULL;

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

/* Makes the number durable.  Caller holds generation_lock. */
static PsError *
raise_generation(Timeline *tl, const char *owner, uint64 *generation)
{
	LayerSet   *set;
	uint64		old;
	char		old_owner[sizeof(tl->owner)];
	PsError    *err;

	pthread_mutex_lock(&tl->manifest_lock);
	pthread_mutex_lock(&tl->lock);
	old = tl->generation;
	strlcpy(old_owner, tl->owner, sizeof(old_owner));
	tl->generation = *generation = old + 1;
	strlcpy(tl->owner, owner, sizeof(tl->owner));
	pthread_mutex_unlock(&tl->lock);
	set = timeline_layers(tl);
	err = timeline_save(tl, set->map, tl->disk_consistent_lsn);
	layer_set_unref(set);
	if (err != NULL)
	{
		pthread_mutex_lock(&tl->lock);
		tl->generation = old;
		strlcpy(tl->owner, old_owner, sizeof(tl->owner));
		pthread_mutex_unlock(&tl->lock);
	}
	pthread_mutex_unlock(&tl->manifest_lock);
	return err;
}

/*
 * Takes the place of the writer, cuts what is no whole record, and appends the
 * checkpoint.  Caller holds generation_lock.
 */
static PsError *
append_checkpoint(Timeline *tl, const Waiter *waiter)
{
	XLogRecPtr	end;
	WalState	state;
	StringInfoData bytes;
	CheckPoint	checkpoint;
	XLogRecPtr	start,
				after;
	PsError    *err;

	pthread_mutex_lock(&tl->receive_lock);
	if (tl->receiver != NULL)
	{
		atomic_store(&tl->receiver->superseded, true);
		tl->receiver = NULL;
	}
	pthread_mutex_lock(&tl->lock);
	end = tl->flushed_lsn;
	pthread_mutex_unlock(&tl->lock);
	err = wal_segments_cut(tl->wal, end);
	if (err == NULL)
	{
		pthread_mutex_lock(&tl->lock);
		tl->received_lsn = end;
		pthread_mutex_unlock(&tl->lock);
	}
	pthread_mutex_unlock(&tl->receive_lock);
	if (err != NULL)
		return err;

	/* nobody writes now: no receiver of this generation can be there before its base backup is */
	PS_TRY(timeline_wait_ingested(tl, end, tl->tenant->store->config->wait_timeout, waiter));
	pthread_mutex_lock(&tl->lock);
	state = tl->state;
	pthread_mutex_unlock(&tl->lock);
	if (state.shutdown)
		return NULL;

	initStringInfo(&bytes);
	wal_make_shutdown_checkpoint(&state, tl->system_identifier, tl->segment_size, (pg_time_t) time(NULL), &bytes, &checkpoint,
								 &start, &after);
	pthread_mutex_lock(&tl->receive_lock);
	err = wal_segments_write(tl->wal, end, bytes.data, bytes.len);
	if (err == NULL)
		err = wal_segments_sync(tl->wal);
	if (err == NULL)
		receiver_set_flushed(tl, after, start);
	pthread_mutex_unlock(&tl->receive_lock);
	pfree(bytes.data);
	if (err == NULL)
		err = timeline_wait_ingested(tl, after, tl->tenant->store->config->wait_timeout, waiter);
	return err;
}

PsError *
timeline_new_generation(Timeline *tl, const char *owner, const Waiter *waiter, uint64 *generation, WalState *state,
						XLogRecPtr *checkpoint_lsn)
{
	PsError    *err;

	pthread_mutex_lock(&tl->generation_lock);
	err = raise_generation(tl, owner, generation);
	if (err == NULL)
		err = append_checkpoint(tl, waiter);
	if (err == NULL)
	{
		pthread_mutex_lock(&tl->lock);
		*state = tl->state;
		pthread_mutex_unlock(&tl->lock);
		*checkpoint_lsn = state->prev;
		ps_log(PS_LOG, "branch \"%s\": generation " UINT64_FORMAT " (%s) begins at %X/%X", tl->name, *generation, owner,
			   LSN_FORMAT_ARGS(state->end));
	}
	pthread_mutex_unlock(&tl->generation_lock);
	return err;
}
