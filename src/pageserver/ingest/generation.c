/*
 * generation.c
 *	  Ensures that only one compute writes: each start of a compute raises the
 *	  timeline's generation.
 *
 * The manifest with the new generation is durable before anything else happens; from then
 * on an older compute can never write again, whichever process is killed.  WAL that the
 * older compute was acknowledged until then stays, and the checkpoint follows it.
 */
#include "ps_fe.h"

#include <time.h>

#include "mb/pg_wchar.h"

#include "sqlstate.h"
#include "ingest/ingest_impl.h"

/*
 * Copies the name of an owner, as far as it fits.  It comes from a client and may be invalid
 * or cut within a character; the result is valid UTF-8, as a manifest requires.
 */
static void
copy_owner(char out[OWNER_SIZE], const char *owner)
{
	const unsigned char *p = (const unsigned char *) owner;
	size_t left = strlen(owner);
	size_t n = 0;

	while (left > 0)
	{
		size_t len = pg_utf_mblen(p);
		bool legal = len <= left && pg_utf8_islegal(p, len) && *p >= ' ' && *p != 0x7f;

		len = legal ? len : 1;
		if (n + len >= OWNER_SIZE)
			break;
		if (legal)
			memcpy(out + n, p, len);
		else
			out[n] = '?';
		n += len;
		p += len;
		left -= len;
	}
	out[n] = '\0';
}

/*
 * Raises the generation, first durably in the manifest, then in memory; waits until it is in object
 * storage, too.  Caller holds generation_lock.
 */
static PsError *
raise_generation(Timeline *tl, const char *owner, const CancelCheck *cancel, uint64 *generation)
{
	char new_owner[OWNER_SIZE];
	TimelineChange change = {.owner = new_owner};
	PsError *err;

	copy_owner(new_owner, owner);
	pthread_mutex_lock(&tl->manifest_lock);
	/* no store that owned the tenant before, in object storage, has given this one */
	*generation = change.generation = Max(tl->generation + 1, tl->env->owner_generation << 32 | 1);
	err = timeline_save(tl, &change, NULL);
	if (err == NULL)
	{
		pthread_mutex_lock(&tl->lock);
		tl->generation = *generation;
		strlcpy(tl->owner, new_owner, sizeof(tl->owner));
		pthread_mutex_unlock(&tl->lock);
	}
	pthread_mutex_unlock(&tl->manifest_lock);
	/* a store that does not own the tenant any more must not start a compute */
	if (err == NULL && tl->env->changes.wait != NULL)
		err = tl->env->changes.wait(tl->env->changes.arg, &tl->spec->id, timeline_config(tl)->wait_timeout, cancel);
	return err;
}

bool
timeline_has_checkpoint(const Timeline *tl, const WalState *state)
{
	uint32 len = SizeOfXLogRecord + SizeOfXLogRecordDataHeaderShort + sizeof(CheckPoint);
	char *record;
	PsError *err;

	if (!state->shutdown)
		return false;
	/* of its parent's WAL, a branch has only the page in which it begins (store/branch.c) */
	if (tl->ancestor != NULL && state->prev < tl->spec->start_lsn - tl->spec->start_lsn % XLOG_BLCKSZ)
		return false;
	/* a timeline that was restored from object storage has only WAL that is not in layer files */
	record = pg_malloc(len);
	err = wal_segments_read_record(tl->wal, state->prev, len, record);
	free(record);
	ps_error_free(err);
	return err == NULL;
}

/*
 * Supersedes the receiver, cuts off bytes after the last whole record, and appends the
 * checkpoint.  Caller holds generation_lock.
 */
static PsError *
append_checkpoint(Timeline *tl, const CancelCheck *cancel)
{
	XLogRecPtr end;
	WalState state;
	StringInfoData bytes;
	CheckPoint checkpoint;
	XLogRecPtr start;
	XLogRecPtr after;
	PsError *err;

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
		wal_copy_cut(tl, end);
	if (err == NULL)
	{
		pthread_mutex_lock(&tl->lock);
		tl->received_lsn = end;
		pthread_mutex_unlock(&tl->lock);
	}
	pthread_mutex_unlock(&tl->receive_lock);
	if (err != NULL)
		return err;

	/* no receiver should write now, because no compute knows this generation yet */
	PS_TRY(timeline_wait_ingested(tl, end, timeline_config(tl)->wait_timeout, cancel));
	pthread_mutex_lock(&tl->lock);
	state = tl->state;
	err = tl->failed != NULL ? timeline_failure(tl) : NULL;
	pthread_mutex_unlock(&tl->lock);
	if (err != NULL || timeline_has_checkpoint(tl, &state))
		return err;

	initStringInfo(&bytes);
	wal_make_shutdown_checkpoint(&state, tl->spec->system_identifier, tl->spec->segment_size, (pg_time_t) time(NULL),
								 &bytes, &checkpoint, &start, &after);
	pthread_mutex_lock(&tl->receive_lock);
	err = NULL;
	if (tl->receiver != NULL || tl->flushed_lsn != end)
		err = ps_error_hint(ps_error(PS_SQLSTATE_STATE,
									 "branch \"%s\": WAL after %X/%X came from elsewhere while a compute was started",
									 timeline_name(tl), LSN_FORMAT_ARGS(end)),
							"Start the compute again.");
	if (err == NULL)
		err = wal_segments_write(tl->wal, end, bytes.data, bytes.len);
	if (err == NULL)
		err = wal_segments_sync(tl->wal);
	if (err == NULL)
		err = receiver_set_flushed(tl, after, start);
	pthread_mutex_unlock(&tl->receive_lock);
	pfree(bytes.data);
	if (err == NULL)
		err = timeline_wait_ingested(tl, after, timeline_config(tl)->wait_timeout, cancel);
	return err;
}

const char *
timeline_time_text(time_t when, char text[TIME_TEXT_SIZE])
{
	struct tm tm;

	gmtime_r(&when, &tm);
	strftime(text, TIME_TEXT_SIZE, "%Y-%m-%d %H:%M:%S+00", &tm);
	return text;
}

/*
 * May a compute that knows generation "after" (0: none) take the branch over?  See
 * timeline_take_over().  The owner of the newest generation may if it is not connected: if
 * its last start failed, it does not know the generation of that.
 */
static PsError *
check_may_take_over(Timeline *tl, const char *owner, uint64 after)
{
	char new_owner[OWNER_SIZE];
	char since_text[TIME_TEXT_SIZE];
	char known_owner[OWNER_SIZE];
	uint64 generation;
	bool connected;
	time_t since;

	copy_owner(new_owner, owner);
	connected = receiver_is_connected(tl, &since);
	pthread_mutex_lock(&tl->lock);
	generation = tl->generation;
	strlcpy(known_owner, tl->owner, sizeof(known_owner));
	pthread_mutex_unlock(&tl->lock);
	if (strcmp(known_owner, new_owner) == 0 && !connected)
		return NULL;
	if (after == 0 && connected)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE,
									  "branch \"%s\" is in use by a compute (%s, connected since %s)",
									  timeline_name(tl), known_owner, timeline_time_text(since, since_text)),
							 "Stop that compute, or take the branch over from it with "
							 "\"pageserver_ctl compute start --takeover\".");
	if (after != 0 && after != generation)
		return ps_error(PS_SQLSTATE_SUPERSEDED,
						"branch \"%s\" was taken over: a compute of generation " UINT64_FORMAT
						" (%s) was started, the last one known here is of generation " UINT64_FORMAT,
						timeline_name(tl), generation, known_owner, after);
	return NULL;
}

/* timeline_new_generation(); caller holds generation_lock. */
static PsError *
start_generation(Timeline *tl, const char *owner, const CancelCheck *cancel, uint64 *generation, WalState *state,
				 XLogRecPtr *checkpoint_lsn)
{
	PsError *err = raise_generation(tl, owner, cancel, generation);

	if (err == NULL)
		err = append_checkpoint(tl, cancel);
	if (err == NULL)
	{
		pthread_mutex_lock(&tl->lock);
		*state = tl->state;
		pthread_mutex_unlock(&tl->lock);
		/* the compute must never meet a store that has less WAL than the compute was started with */
		err = wal_remote_wait(tl, state->end, timeline_config(tl)->wait_timeout, cancel);
		if (err == NULL)
			err = wal_copy_wait(tl, state->end, timeline_config(tl)->wait_timeout, cancel);
	}
	if (err == NULL)
	{
		*checkpoint_lsn = state->prev;
		ps_log(PS_LOG, "branch \"%s\": generation " UINT64_FORMAT " (%s) begins at %X/%X", timeline_name(tl),
			   *generation, owner, LSN_FORMAT_ARGS(state->end));
	}
	return err;
}

PsError *
timeline_new_generation(Timeline *tl, const char *owner, const CancelCheck *cancel, uint64 *generation, WalState *state,
						XLogRecPtr *checkpoint_lsn)
{
	PsError *err;

	pthread_mutex_lock(&tl->generation_lock);
	err = start_generation(tl, owner, cancel, generation, state, checkpoint_lsn);
	pthread_mutex_unlock(&tl->generation_lock);
	return err;
}

PsError *
timeline_take_over(Timeline *tl, const char *owner, uint64 after, const CancelCheck *cancel, uint64 *generation,
				   WalState *state, XLogRecPtr *checkpoint_lsn)
{
	XLogRecPtr flushed;
	PsError *err;

	pthread_mutex_lock(&tl->generation_lock);
	PS_GOTO(check_may_take_over(tl, owner, after), done);
	pthread_mutex_lock(&tl->lock);
	flushed = tl->flushed_lsn;
	pthread_mutex_unlock(&tl->lock);
	PS_GOTO(timeline_wait_ingested(tl, flushed, timeline_config(tl)->wait_timeout, cancel), done);
	/* again, because the wait may have been long */
	PS_GOTO(check_may_take_over(tl, owner, after), done);
	err = start_generation(tl, owner, cancel, generation, state, checkpoint_lsn);
done:
	pthread_mutex_unlock(&tl->generation_lock);
	return err;
}
