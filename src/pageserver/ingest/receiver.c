/*
 * receiver.c
 *	  Receives WAL: writes it to the timeline's files, checks it, makes it durable.
 *
 * The connection's thread calls wal_receiver_write() for the bytes that have arrived, then
 * wal_receiver_sync() once: one fdatasync for all of them.  Only the end of the last whole
 * and checked record is ever acknowledged.
 *
 * The file "flushed" of a timeline is a marker: the LSN up to which WAL was acknowledged, and
 * its complement, in the machine's byte order.  It is written before each acknowledgement,
 * without a sync of its own: so it is exact after a kill of the store, and a lower bound
 * after a power failure.  If opening a timeline finds WAL damaged before the marker,
 * acknowledged WAL is lost, and that is an error (store/open.c).  A missing or empty file,
 * which a new timeline has, is no marker.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "sqlstate.h"
#include "base/fs.h"
#include "ingest/ingest_impl.h"

PsError *
receiver_open_marker(Timeline *tl, XLogRecPtr *lsn)
{
	char *path = psprintf("%s/flushed", tl->spec->dir);
	uint64 marker[2] = {0, 0};
	struct stat st;
	PsError *err = NULL;

	*lsn = InvalidXLogRecPtr;
	tl->marker_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (tl->marker_fd < 0 || fstat(tl->marker_fd, &st) != 0)
		err = ps_error(ps_errno_state(), "could not open file \"%s\": %m", path);
	else if (st.st_size != 0 && (st.st_size != sizeof(marker) ||
								 pread(tl->marker_fd, marker, sizeof(marker), 0) != sizeof(marker)))
		err = ps_error(PS_SQLSTATE_CORRUPTED, "file \"%s\" has %lld bytes, expected %zu", path, (long long) st.st_size,
					   sizeof(marker));
	else if (marker[0] != ~marker[1] && (marker[0] != 0 || marker[1] != 0))
		err = ps_error(PS_SQLSTATE_CORRUPTED,
					   "file \"%s\" is damaged: it holds %016llX and %016llX, expected a number and its complement",
					   path, (unsigned long long) marker[0], (unsigned long long) marker[1]);
	else
		*lsn = marker[0];
	if (err != NULL && ps_error_is(err, PS_SQLSTATE_CORRUPTED))
		err = ps_error_hint(err, "It says up to where WAL was acknowledged. Restore it from a copy; "
								 "without it, the end of WAL is taken from the WAL files alone.");
	pfree(path);
	return err;
}

void
receiver_close_marker(Timeline *tl)
{
	if (tl->marker_fd >= 0)
		close(tl->marker_fd);
	tl->marker_fd = -1;
}

XLogRecPtr
receiver_read_marker(const char *dir)
{
	char *path = psprintf("%s/flushed", dir);
	uint64 marker[2];
	ssize_t len;
	PsError *err = fs_read_file(path, marker, sizeof(marker), &len);
	bool valid = err == NULL && len == sizeof(marker) && marker[0] == ~marker[1];

	ps_error_free(err);
	pfree(path);
	return valid ? marker[0] : InvalidXLogRecPtr;
}

PsError *
receiver_replace_marker(const char *dir, XLogRecPtr lsn)
{
	char *path = psprintf("%s/flushed", dir);
	uint64 marker[2] = {lsn, ~lsn};
	PsError *err = fs_replace_file(path, marker, sizeof(marker), 0, NULL);

	pfree(path);
	return err;
}

/*
 * Written in place, not by fs_replace_file(), because it is written for each sync of WAL;
 * its 16 bytes are in one sector.  Caller holds receive_lock, or opens the timeline.
 */
static PsError *
write_marker(Timeline *tl, XLogRecPtr lsn)
{
	uint64 marker[2] = {lsn, ~lsn};
	char path[MAXPGPATH];

	snprintf(path, sizeof(path), "%s/flushed", tl->spec->dir);
	return fs_write_at(tl->marker_fd, path, marker, sizeof(marker), 0);
}

PsError *
receiver_sync_marker(Timeline *tl, XLogRecPtr lsn)
{
	PS_TRY(write_marker(tl, lsn));
	if (fsync(tl->marker_fd) != 0)
		return ps_error(PS_SQLSTATE_IO, "could not sync file \"%s/flushed\": %m", tl->spec->dir);
	return fs_sync(tl->spec->dir);
}

PsError *
receiver_set_flushed(Timeline *tl, XLogRecPtr lsn, XLogRecPtr prev)
{
	XLogRecPtr before;

	PS_TRY(write_marker(tl, lsn));
	pthread_mutex_lock(&tl->lock);
	before = tl->flushed_lsn;
	tl->flushed_lsn = lsn;
	tl->flushed_prev = prev;
	tl->received_lsn = Max(tl->received_lsn, lsn);
	remote_wal_flushed(tl, before);
	pthread_cond_broadcast(&tl->changed);
	pthread_mutex_unlock(&tl->lock);
	return NULL;
}

/*
 * Holds receive_lock from the check of the generation on: a thread that raises the
 * generation meanwhile finds this receiver and supersedes it (generation.c).
 */
PsError *
wal_receiver_open(Timeline *tl, uint64 generation, WalReceiver **result, XLogRecPtr *start)
{
	WalReceiver *receiver;
	PsError *err;

	pthread_mutex_lock(&tl->receive_lock);
	err = generation == 0 ? ps_error(PS_SQLSTATE_INVALID, "WAL can be sent by a compute only, which has a generation")
						  : timeline_check_generation(tl, generation);
	pthread_mutex_lock(&tl->lock);
	if (err == NULL && tl->failed != NULL)
		err = timeline_failure(tl);
	*start = tl->flushed_lsn;
	pthread_mutex_unlock(&tl->lock);
	/* the client sends bytes of an unfinished record again that an earlier connection left */
	if (err == NULL)
		err = wal_segments_cut(tl->wal, *start);
	if (err == NULL)
		wal_copy_cut(tl, *start);
	if (err != NULL)
	{
		pthread_mutex_unlock(&tl->receive_lock);
		return err;
	}
	receiver = pg_malloc0(sizeof(WalReceiver));
	receiver->tl = tl;
	receiver->generation = generation;
	receiver->since = time(NULL);
	atomic_init(&receiver->superseded, false);
	receiver->decoder = wal_decoder_create(*start, tl->flushed_prev, tl->spec->system_identifier,
										   tl->spec->segment_size, false);
	wal_decoder_set_contents(receiver->decoder, WAL_HEADERS);
	if (tl->receiver != NULL)
		atomic_store(&tl->receiver->superseded, true);
	tl->receiver = receiver;
	pthread_mutex_lock(&tl->lock);
	tl->received_lsn = *start;
	pthread_mutex_unlock(&tl->lock);
	pthread_mutex_unlock(&tl->receive_lock);
	*result = receiver;
	return NULL;
}

void
wal_receiver_set_client(WalReceiver *receiver, const CancelCheck *client)
{
	pthread_mutex_lock(&receiver->tl->receive_lock);
	receiver->client = client;
	pthread_mutex_unlock(&receiver->tl->receive_lock);
}

void
wal_receiver_set_wake(WalReceiver *receiver, void (*wake)(void *arg), void *arg)
{
	Timeline *tl = receiver->tl;

	receiver->wake_arg = arg;
	/* receive_lock, so that an older receiver does not take the place of a newer one */
	pthread_mutex_lock(&tl->receive_lock);
	pthread_mutex_lock(&tl->lock);
	if (tl->receiver == receiver)
	{
		tl->remote.on_change = wake;
		tl->remote.on_change_arg = arg;
	}
	pthread_mutex_unlock(&tl->lock);
	pthread_mutex_unlock(&tl->receive_lock);
}

XLogRecPtr
wal_receiver_acknowledged(WalReceiver *receiver)
{
	XLogRecPtr lsn;

	pthread_mutex_lock(&receiver->tl->lock);
	lsn = remote_wal_acknowledged(receiver->tl);
	pthread_mutex_unlock(&receiver->tl->lock);
	return lsn;
}

XLogRecPtr
wal_receiver_keep_from(WalReceiver *receiver)
{
	XLogRecPtr lsn;

	pthread_mutex_lock(&receiver->tl->lock);
	lsn = receiver->tl->remote.uploads ? receiver->tl->remote.lsn : InvalidXLogRecPtr;
	pthread_mutex_unlock(&receiver->tl->lock);
	return lsn;
}

bool
receiver_is_connected(Timeline *tl, time_t *since)
{
	bool connected;

	pthread_mutex_lock(&tl->receive_lock);
	connected = tl->receiver != NULL && !cancel_is_requested(tl->receiver->client);
	*since = tl->receiver != NULL ? tl->receiver->since : 0;
	pthread_mutex_unlock(&tl->receive_lock);
	return connected;
}

XLogRecPtr
receiver_end_of_records(Timeline *tl)
{
	XLogRecPtr end;

	pthread_mutex_lock(&tl->receive_lock);
	end = tl->flushed_lsn;
	if (tl->receiver != NULL)
		end = Max(end, wal_decoder_record_end(tl->receiver->decoder));
	pthread_mutex_unlock(&tl->receive_lock);
	return end;
}

/* Fails if the receiver was superseded.  Caller holds receive_lock. */
static PsError *
check_not_superseded(WalReceiver *receiver)
{
	Timeline *tl = receiver->tl;
	PsError *err;

	if (tl->receiver == receiver)
		return NULL;
	err = timeline_check_generation(tl, receiver->generation);
	if (err == NULL)
		err = ps_error(PS_SQLSTATE_TRY_AGAIN, "branch \"%s\": a newer connection of the same compute sends WAL now",
					   timeline_name(tl));
	return err;
}

/*
 * How long to wait before len more bytes are accepted, us, because of files that wait to be
 * merged: 0 up to half of compaction_backlog, then increasingly, up to a second per
 * megabyte; -1: until there are fewer files than compaction_backlog.  If they cannot be
 * merged, because one is damaged or the disk has no room for that, that could take forever,
 * so the delay stays at that second.  (If there is no room to merge two of them,
 * min_free_space stops writers soon.)  Caller holds Timeline.lock.
 */
static int64
merge_delay(const Timeline *tl, size_t len)
{
	const Config *config = timeline_config(tl);
	int most = config->compaction_backlog;

	/* below compaction_threshold no files are merged */
	if (config->compaction_workers == 0 || tl->level0 <= most / 2 || tl->level0 < config->compaction_threshold)
		return 0;
	if (tl->level0 >= most && tl->upkeep_errors[UPKEEP_LEVEL0][0] == '\0')
		return -1;
	return (int64) (Min(tl->level0, most) - most / 2) * 1000000 / (most - most / 2) * (int64) len / (1024 * 1024);
}

/* A wait for object storage: s, s, ": " or "", the last error or "". */
#define UPLOAD_WAIT_FORMAT "object storage, which has no WAL of the last %lld s (wal_upload_max_lag is %d s)%s%s"

bool
wal_receiver_waits_for(WalReceiver *receiver, char *text, size_t size)
{
	Timeline *tl = receiver->tl;
	const Config *config = timeline_config(tl);
	XLogRecPtr lag;
	int level0;
	bool merges;
	int64 upload_lag;
	char problem[sizeof(tl->upkeep_errors[0])];

	pthread_mutex_lock(&tl->lock);
	upload_lag = remote_wal_is_late(tl) ? wal_remote_lag(tl) : 0;
	merges = merge_delay(tl, 1024 * 1024) != 0;
	level0 = tl->level0;
	lag = tl->flushed_lsn > tl->ingested_lsn ? tl->flushed_lsn - tl->ingested_lsn : 0;
	strlcpy(problem, upload_lag > 0 ? tl->remote.error : tl->upkeep_errors[UPKEEP_LEVEL0], sizeof(problem));
	pthread_mutex_unlock(&tl->lock);
	if (upload_lag > 0)
		snprintf(text, size, UPLOAD_WAIT_FORMAT, (long long) upload_lag / 1000, config->wal_upload_max_lag,
				 problem[0] != '\0' ? ": " : "", problem);
	else if (lag > (uint64) config->max_ingest_lag * 1024 * 1024)
		snprintf(text, size, "ingest is " UINT64_FORMAT " MB of WAL behind (max_ingest_lag is %d MB)",
				 lag / (1024 * 1024), config->max_ingest_lag);
	else if (merges)
		snprintf(text, size, "%d layer files wait to be merged (compaction_backlog is %d)%s%s", level0,
				 config->compaction_backlog, problem[0] != '\0' ? ": " : "", problem);
	else
		return false;
	return true;
}

void
wal_receiver_unacknowledged_text(WalReceiver *receiver, char *text, size_t size)
{
	RemoteWal *remote = &receiver->tl->remote;

	pthread_mutex_lock(&receiver->tl->lock);
	if (config_wal_acknowledge(timeline_config(receiver->tl)) == WAL_ACKNOWLEDGE_DIRECTORY)
		snprintf(text, size, "WAL is not in wal_copy_directory yet (wal_acknowledge is directory)%s%s",
				 receiver->tl->copy.error[0] != '\0' ? ": " : "", receiver->tl->copy.error);
	else
		snprintf(text, size, "WAL is not in object storage yet (wal_acknowledge is bucket)%s%s",
				 remote->error[0] != '\0' ? ": " : "", remote->error);
	pthread_mutex_unlock(&receiver->tl->lock);
}

/* Waits while the store is further behind than the settings allow, which slows down the sender. */
static PsError *
wait_for_store(WalReceiver *receiver, size_t len, const CancelCheck *cancel)
{
	Timeline *tl = receiver->tl;
	uint64 max_lag = (uint64) timeline_config(tl)->max_ingest_lag * 1024 * 1024;
	int64 begin = clock_now_ms();
	int64 delay = 0;
	CancelWait wait = {.cancel = cancel};
	PsError *err = NULL;

	pthread_mutex_lock(&tl->lock);
	while (err == NULL && !atomic_load(&receiver->superseded))
	{
		bool upload_is_late = remote_wal_is_late(tl);
		int64 left;

		if (tl->failed != NULL)
		{
			err = timeline_failure(tl);
			break;
		}
		delay = merge_delay(tl, len);
		left = delay < 0 ? 100 : begin + (receiver->owed_us + delay) / 1000 - clock_now_ms();
		if (tl->flushed_lsn - tl->ingested_lsn > max_lag || upload_is_late)
			left = 100;
		if (delay != 0)
			timeline_report_wait(tl, WAIT_FOR_MERGES,
								 "%d files of level 0 to be merged, and is %s (compaction_backlog is %d)", tl->level0,
								 delay < 0 ? "stopped" : "slowed", timeline_config(tl)->compaction_backlog);
		else
			timeline_end_wait(tl, WAIT_FOR_MERGES);
		if (left <= 0)
			break;
		if (tl->flushed_lsn - tl->ingested_lsn > max_lag)
			timeline_report_wait(tl, WAIT_FOR_INGEST, "%llu MB of WAL to be ingested (max_ingest_lag is %d MB)",
								 (unsigned long long) (tl->flushed_lsn - tl->ingested_lsn) / (1024 * 1024),
								 timeline_config(tl)->max_ingest_lag);
		else
			timeline_end_wait(tl, WAIT_FOR_INGEST);
		if (upload_is_late)
			timeline_report_wait(tl, WAIT_FOR_UPLOAD, UPLOAD_WAIT_FORMAT, (long long) wal_remote_lag(tl) / 1000,
								 timeline_config(tl)->wal_upload_max_lag, tl->remote.error[0] != '\0' ? ": " : "",
								 tl->remote.error);
		else
			timeline_end_wait(tl, WAIT_FOR_UPLOAD);
		err = timeline_stopping_error(tl);
		if (err == NULL)
			err = cancel_wait(&wait, &tl->changed, &tl->lock, Min(left, 100));
	}
	timeline_end_wait(tl, WAIT_FOR_INGEST);
	timeline_end_wait(tl, WAIT_FOR_UPLOAD);
	pthread_mutex_unlock(&tl->lock);
	/* the delay for a few bytes is too short to wait for, so it is summed up */
	receiver->owed_us = Max(receiver->owed_us + delay - (clock_now_ms() - begin) * 1000, 0);
	return err;
}

/* Keeps room for one flush, so that a full disk stops writes, but not the flush that can free space. */
static PsError *
check_space(Timeline *tl)
{
	uint64 need = (uint64) timeline_config(tl)->min_free_space * 1024 * 1024;
	struct statvfs vfs;
	bool full = statvfs(tl->spec->dir, &vfs) == 0 && (uint64) vfs.f_bavail * vfs.f_frsize < need;

	pthread_mutex_lock(&tl->lock);
	if (full)
		timeline_report_wait(tl, WAIT_FOR_ROOM, "%d MB to be free on the disk (min_free_space)",
							 timeline_config(tl)->min_free_space);
	else
		timeline_end_wait(tl, WAIT_FOR_ROOM);
	pthread_mutex_unlock(&tl->lock);
	if (full)
		return ps_error_hint(ps_error(PS_SQLSTATE_DISK_FULL,
									  "branch \"%s\": less than %d MB are free in \"%s\": no WAL is accepted",
									  timeline_name(tl), timeline_config(tl)->min_free_space, tl->spec->dir),
							 "Free disk space on the store's file system; writers continue by themselves then.");
	return NULL;
}

PsError *
wal_receiver_write(WalReceiver *receiver, XLogRecPtr lsn, const char *data, size_t len, const CancelCheck *cancel)
{
	Timeline *tl = receiver->tl;
	XLogRecPtr expected;
	WalRecord rec;
	bool found;
	PsError *err;

	PS_TRY(wait_for_store(receiver, len, cancel));
	PS_TRY(check_space(tl));
	pthread_mutex_lock(&tl->receive_lock);
	PS_GOTO(check_not_superseded(receiver), done);
	if (receiver->failed != NULL)
	{
		err = ps_error(receiver->failed->sqlstate, "%s", receiver->failed->message);
		goto done;
	}
	expected = wal_decoder_feed_position(receiver->decoder);
	if (lsn != expected)
	{
		err = ps_error_hint(ps_error(PS_SQLSTATE_PROTOCOL, "branch \"%s\": WAL from %X/%X was sent, expected %X/%X",
									 timeline_name(tl), LSN_FORMAT_ARGS(lsn), LSN_FORMAT_ARGS(expected)),
							"The sender must continue at the LSN that the store returned.");
		goto done;
	}
	PS_GOTO(wal_segments_write(tl->wal, lsn, data, len), done);
	wal_decoder_feed(receiver->decoder, data, len);
	do
	{
		err = wal_decoder_next(receiver->decoder, &rec, &found);
	} while (err == NULL && found);
	if (err != NULL)
	{
		err = ps_error_context(err, "branch \"%s\": bad WAL from the compute", timeline_name(tl));
		receiver->failed = ps_error(err->sqlstate, "%s", err->message);
	}
	pthread_mutex_lock(&tl->lock);
	/* after a WAL switch, the rest of the segment was acknowledged with the switch record */
	tl->received_lsn = Max(tl->flushed_lsn, lsn + len);
	pthread_mutex_unlock(&tl->lock);
done:
	pthread_mutex_unlock(&tl->receive_lock);
	return err;
}

PsError *
wal_receiver_sync(WalReceiver *receiver, XLogRecPtr *flushed)
{
	Timeline *tl = receiver->tl;
	XLogRecPtr end;
	PsError *err;

	pthread_mutex_lock(&tl->receive_lock);
	err = check_not_superseded(receiver);
	if (err == NULL)
	{
		end = wal_decoder_record_end(receiver->decoder);
		if (end > tl->flushed_lsn)
		{
			/* both disks are synced at the same time */
			wal_copy_announce(tl, end);
			err = wal_segments_sync(tl->wal);
			if (err == NULL)
				err = receiver_set_flushed(tl, end, wal_decoder_record_prev(receiver->decoder));
		}
		if (err == NULL)
			*flushed = end;
	}
	pthread_mutex_unlock(&tl->receive_lock);
	return err;
}

bool
wal_receiver_is_superseded(WalReceiver *receiver)
{
	return atomic_load(&receiver->superseded);
}

void
wal_receiver_close(WalReceiver *receiver)
{
	Timeline *tl = receiver->tl;

	pthread_mutex_lock(&tl->receive_lock);
	if (tl->receiver == receiver)
		tl->receiver = NULL;
	pthread_mutex_lock(&tl->lock);
	if (tl->remote.on_change != NULL && tl->remote.on_change_arg == receiver->wake_arg)
		tl->remote.on_change = NULL;
	pthread_mutex_unlock(&tl->lock);
	pthread_mutex_unlock(&tl->receive_lock);
	wal_decoder_free(receiver->decoder);
	ps_error_free(receiver->failed);
	free(receiver);
}
