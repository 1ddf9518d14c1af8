/*
 * remote_wal.c
 *	  WAL of a timeline that is also in object storage: how far, what waits for it, and
 *	  what of it may be acknowledged.  The thread that uploads it belongs to a higher folder.
 *
 * The receiver makes WAL durable on this disk (flushed_lsn).  Depending on the setting
 * wal_acknowledge, commits are acknowledged up to there or only up to what object storage
 * has.
 */
#include "ps_fe.h"

#include "sqlstate.h"
#include "ingest/ingest_impl.h"

/* So much WAL is uploaded without waiting for wal_upload_interval, and in one chunk. */
#define CHUNK_SIZE (4 * 1024 * 1024)

/* The first distance between two marks, ms. */
#define FIRST_SPACING 1000

/* ---- when WAL arrived ---- */

/*
 * WAL after this LSN arrives from now on.  If there are too many marks, every other one
 * is removed, and later ones are as far apart as those.  What the marks say about the age of
 * WAL is too old by at most the distance of two of them, a sixteenth of the oldest one's
 * age.  Caller holds Timeline.lock.
 */
static void
add_mark(RemoteWal *remote, XLogRecPtr lsn, int64 now)
{
	if (remote->nmarks == 0)
		remote->spacing = FIRST_SPACING;
	else if (now - remote->marks[remote->nmarks - 1].time < remote->spacing)
		return;
	if (remote->nmarks == REMOTE_MARKS)
	{
		for (int i = 1; i < REMOTE_MARKS / 2; i++)
			remote->marks[i] = remote->marks[i * 2];
		remote->nmarks = REMOTE_MARKS / 2;
		remote->spacing = Max(remote->spacing, (now - remote->marks[0].time) / (REMOTE_MARKS / 2));
	}
	remote->marks[remote->nmarks++] = (RemoteMark) {lsn, now};
}

/* Removes the marks that are not needed any more, after lsn has risen.  Caller holds Timeline.lock. */
static void
drop_marks(Timeline *tl)
{
	RemoteWal *remote = &tl->remote;
	int n = 0;

	if (remote->lsn >= tl->flushed_lsn)
		remote->nmarks = 0;
	while (n + 1 < remote->nmarks && remote->marks[n + 1].lsn <= remote->lsn)
		n++;
	remote->nmarks -= n;
	memmove(remote->marks, remote->marks + n, remote->nmarks * sizeof(RemoteMark));
}

int64
wal_remote_lag(const Timeline *tl)
{
	return tl->remote.nmarks > 0 ? Max(clock_now_ms() - tl->remote.marks[0].time, 0) : 0;
}

/* ---- the receiver ---- */

/*
 * Wakes the uploader only if it has a reason to act, or to begin to count the time: not for
 * each commit.
 */
void
remote_wal_flushed(Timeline *tl, XLogRecPtr before)
{
	RemoteWal *remote = &tl->remote;
	bool first = remote->nmarks == 0;

	/* the receiver has announced its WAL, but there is other WAL, too */
	if (tl->has_copy_thread && tl->flushed_lsn > tl->copy.wanted)
		pthread_cond_signal(&tl->copy.wake);
	if (!remote->uploads)
		return;
	add_mark(remote, before, clock_now_ms());
	if (remote->is_asleep && (first || tl->flushed_lsn - remote->lsn >= CHUNK_SIZE || remote->wanted > remote->lsn ||
							  config_wal_acknowledge(timeline_config(tl)) == WAL_ACKNOWLEDGE_BUCKET))
		pthread_cond_signal(&remote->wake);
}

bool
remote_wal_is_late(const Timeline *tl)
{
	const Config *config = timeline_config(tl);

	return config->wal_upload_max_lag > 0 && config_wal_acknowledge(config) == WAL_ACKNOWLEDGE_LOCAL &&
		   wal_remote_lag(tl) > (int64) config->wal_upload_max_lag * 1000;
}

XLogRecPtr
remote_wal_acknowledged(const Timeline *tl)
{
	switch (config_wal_acknowledge(timeline_config(tl)))
	{
		case WAL_ACKNOWLEDGE_LOCAL:
			break;
		case WAL_ACKNOWLEDGE_DIRECTORY:
			return Min(tl->flushed_lsn, tl->copy.lsn);
		case WAL_ACKNOWLEDGE_BUCKET:
			return Min(tl->flushed_lsn, tl->remote.lsn);
	}
	return tl->flushed_lsn;
}

void
timeline_settings_changed(Timeline *tl)
{
	pthread_mutex_lock(&tl->lock);
	pthread_cond_broadcast(&tl->changed);
	pthread_cond_broadcast(&tl->remote.wake);
	pthread_cond_broadcast(&tl->copy.wake);
	if (tl->remote.on_change != NULL)
		tl->remote.on_change(tl->remote.on_change_arg);
	pthread_mutex_unlock(&tl->lock);
}

PsError *
wal_remote_wait(Timeline *tl, XLogRecPtr lsn, int timeout_ms, const CancelCheck *cancel)
{
	RemoteWal *remote = &tl->remote;
	int64 end = clock_now_ms() + timeout_ms;
	CancelWait wait = {.cancel = cancel};
	PsError *err = NULL;

	pthread_mutex_lock(&tl->lock);
	if (remote->uploads && remote->lsn < lsn)
	{
		remote->wanted = Max(remote->wanted, lsn);
		pthread_cond_signal(&remote->wake);
	}
	while (err == NULL && remote->uploads && remote->lsn < lsn)
	{
		if (tl->failed != NULL)
			err = timeline_failure(tl);
		else if (tl->stopping != CANCEL_NONE)
			err = timeline_stopping_error(tl);
		else if (timeout_ms >= 0 && clock_now_ms() >= end)
			err = ps_error(PS_SQLSTATE_TRY_AGAIN,
						   "branch \"%s\": object storage has WAL up to %X/%X only, after waiting %d ms for %X/%X%s%s",
						   timeline_name(tl), LSN_FORMAT_ARGS(remote->lsn), timeout_ms, LSN_FORMAT_ARGS(lsn),
						   remote->error[0] != '\0' ? ": " : "", remote->error);
		else
			err = cancel_wait(&wait, &tl->changed, &tl->lock, 100);
	}
	pthread_mutex_unlock(&tl->lock);
	return err;
}

/* ---- the uploader ---- */

void
wal_remote_begin(Timeline *tl, XLogRecPtr lsn)
{
	pthread_mutex_lock(&tl->lock);
	if (!tl->remote.uploads && lsn < tl->flushed_lsn)
		add_mark(&tl->remote, lsn, clock_now_ms());
	tl->remote.uploads = true;
	tl->remote.lsn = lsn;
	drop_marks(tl);
	pthread_mutex_unlock(&tl->lock);
}

void
wal_remote_set_lsn(Timeline *tl, XLogRecPtr lsn)
{
	RemoteWal *remote = &tl->remote;

	pthread_mutex_lock(&tl->lock);
	remote->lsn = lsn;
	remote->error[0] = '\0';
	drop_marks(tl);
	pthread_cond_broadcast(&tl->changed);
	if (remote->on_change != NULL && config_wal_acknowledge(timeline_config(tl)) == WAL_ACKNOWLEDGE_BUCKET)
		remote->on_change(remote->on_change_arg);
	pthread_mutex_unlock(&tl->lock);
}

void
wal_remote_set_error(Timeline *tl, const char *message)
{
	pthread_mutex_lock(&tl->lock);
	strlcpy(tl->remote.error, message, sizeof(tl->remote.error));
	pthread_mutex_unlock(&tl->lock);
}

/* In how many ms the WAL from "from" to flushed_lsn is to be uploaded; caller holds Timeline.lock. */
static int64
due_in(const Timeline *tl, XLogRecPtr from)
{
	const Config *config = timeline_config(tl);

	/* no marks: object storage has WAL up to flushed_lsn, but is to get some of it again */
	if (tl->flushed_lsn - from >= CHUNK_SIZE || tl->remote.nmarks == 0 || tl->remote.wanted > tl->remote.lsn ||
		config_wal_acknowledge(config) == WAL_ACKNOWLEDGE_BUCKET)
		return 0;
	return Max(config->wal_upload_interval - wal_remote_lag(tl), 0);
}

bool
wal_remote_next(Timeline *tl, XLogRecPtr from, XLogRecPtr *end, uint64 *generation)
{
	RemoteWal *remote = &tl->remote;
	bool stopping;

	pthread_mutex_lock(&tl->lock);
	remote->is_asleep = true;
	while (!(stopping = tl->stopping != CANCEL_NONE))
	{
		int64 wait = tl->flushed_lsn > from ? due_in(tl, from) : -1;

		if (wait == 0)
			break;
		if (wait < 0)
			pthread_cond_wait(&remote->wake, &tl->lock);
		else
			clock_cond_wait(&remote->wake, &tl->lock, wait);
	}
	remote->is_asleep = false;
	*end = tl->flushed_lsn;
	if (*end - from > CHUNK_SIZE)
		*end = from + CHUNK_SIZE - from % XLOG_BLCKSZ;
	*generation = tl->generation;
	pthread_mutex_unlock(&tl->lock);
	return !stopping;
}
