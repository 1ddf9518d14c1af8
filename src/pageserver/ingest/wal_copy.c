/*
 * wal_copy.c
 *	  A second copy of the WAL that is not in object storage yet, in wal_copy_directory: with
 *	  wal_acknowledge = directory, WAL is acknowledged when it is durable there, too.
 *
 * The copy of a timeline is in wal_copy_directory/TENANT/TIMELINE: segments as in wal/, and
 * the file owner.json, which has the generation of the tenant's owner that wrote it last.  A
 * thread for each open timeline reads from the timeline's own files what the receiver has
 * written, and is told of it before the receiver syncs them: so both disks are synced at the
 * same time.  Segments that are in object storage are removed.
 *
 * When a timeline is opened, on this machine or on another one, whole records that follow
 * its own WAL are taken from the copy.
 */
#include "ps_fe.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json_file.h"
#include "ingest/ingest_impl.h"
#include "sqlstate.h"

#define PIECE       (256 * 1024) /* bytes that are copied at once */
#define OVERLAP     (64 * 1024)  /* bytes before the end of WAL that must be the same in the copy */
#define RETRY_DELAY 1000         /* after a failure, ms */

static const JsonFormat owner_format = {"owner of a copy of WAL", "pageserver wal copy", "version", 1, 1, NULL};

/* Private to the thread. */
typedef struct Copier
{
	Timeline *tl;
	WalSegments *segs; /* NULL: not open yet */
	bool begun;        /* the copy has all that it must have up to "from" */
	XLogRecPtr from;
	XLogSegNo first_kept;
	char *buf;
	char logged[256]; /* the error that was logged; "": none */
} Copier;

/* ---- the directory ---- */

static char *
copy_dir(const Timeline *tl)
{
	char tenant[PS_ID_TEXT];
	char timeline[PS_ID_TEXT];

	return psprintf("%s/%s/%s", timeline_config(tl)->wal_copy_directory, ps_id_format(&tl->spec->tenant, tenant),
					ps_id_format(&tl->spec->id, timeline));
}

/* Refuses the copy of a newer owner.  *generation is 0 if it has none. */
static PsError *
check_owner(const Timeline *tl, const char *dir, uint64 *generation)
{
	char *path = psprintf("%s/owner.json", dir);
	json_t *root = NULL;
	const char *text;
	PsError *err = NULL;

	*generation = 0;
	if (access(path, F_OK) == 0)
		err = json_file_read(&owner_format, path, &root);
	if (root != NULL)
	{
		text = json_string_value(json_object_get(root, "generation"));
		if (text != NULL)
			*generation = strtoull(text, NULL, 10);
		if (text == NULL)
			err = ps_error(PS_SQLSTATE_CORRUPTED, "file \"%s\" has no generation", path);
		else if (*generation > tl->env->owner_generation)
			err = ps_error_hint(ps_error(PS_SQLSTATE_STATE,
										 "copy of WAL \"%s\" belongs to generation " UINT64_FORMAT
										 " of the tenant's owners, this store has " UINT64_FORMAT,
										 dir, *generation, tl->env->owner_generation),
								"Another store has used it.  Attach the tenant there, or remove the copy.");
		json_decref(root);
	}
	pfree(path);
	return err;
}

static PsError *
make_dir(const char *dir)
{
	PsError *err;

	if (access(dir, F_OK) == 0)
		return NULL;
	err = fs_make_dir(dir);
	return err != NULL ? err : fs_sync_parent(dir);
}

/* Creates the directory, and says whose it is. */
static PsError *
own_dir(const Timeline *tl, const char *dir)
{
	char *tenant_dir = psprintf("%.*s", (int) (strrchr(dir, '/') - dir), dir);
	char *path = psprintf("%s/owner.json", dir);
	char generation[32];
	uint64 before;
	char *text = NULL;
	PsError *err;

	PS_GOTO(make_dir(tenant_dir), done);
	PS_GOTO(make_dir(dir), done);
	PS_GOTO(check_owner(tl, dir, &before), done);
	snprintf(generation, sizeof(generation), UINT64_FORMAT, tl->env->owner_generation);
	PS_GOTO(json_file_text(&owner_format, 1, json_pack("{s:s}", "generation", generation), path, &text), done);
	err = fs_replace_file(path, text, strlen(text), 0, NULL);
done:
	free(text);
	pfree(tenant_dir);
	pfree(path);
	return err;
}

/* Copies bytes from some WAL files to others.  buf: PIECE bytes. */
static PsError *
copy_bytes(WalSegments *from, WalSegments *to, XLogRecPtr start, XLogRecPtr end, char *buf)
{
	while (start < end)
	{
		size_t len = Min(end - start, PIECE);

		PS_TRY(wal_segments_read(from, start, buf, len));
		PS_TRY(wal_segments_write(to, start, buf, len));
		start += len;
	}
	return NULL;
}

/* ---- the receiver ---- */

static bool
is_wanted(const Timeline *tl)
{
	return config_wal_acknowledge(timeline_config(tl)) == WAL_ACKNOWLEDGE_DIRECTORY;
}

void
wal_copy_announce(Timeline *tl, XLogRecPtr end)
{
	if (!tl->has_copy_thread || !is_wanted(tl))
		return;
	pthread_mutex_lock(&tl->lock);
	tl->copy.wanted = Max(tl->copy.wanted, end);
	pthread_cond_signal(&tl->copy.wake);
	pthread_mutex_unlock(&tl->lock);
}

void
wal_copy_cut(Timeline *tl, XLogRecPtr lsn)
{
	pthread_mutex_lock(&tl->lock);
	if (Max(tl->copy.wanted, tl->copy.lsn) > lsn)
	{
		tl->copy.wanted = tl->copy.lsn = lsn;
		tl->copy.epoch++;
	}
	pthread_mutex_unlock(&tl->lock);
}

PsError *
wal_copy_wait(Timeline *tl, XLogRecPtr lsn, int timeout_ms, const CancelCheck *cancel)
{
	int64 end = clock_now_ms() + timeout_ms;
	CancelWait wait = {.cancel = cancel};
	PsError *err = NULL;

	pthread_mutex_lock(&tl->lock);
	while (err == NULL && is_wanted(tl) && tl->copy.lsn < lsn)
	{
		if (tl->stopping != CANCEL_NONE)
			err = timeline_stopping_error(tl);
		else if (clock_now_ms() >= end)
			err = ps_error(PS_SQLSTATE_TRY_AGAIN,
						   "branch \"%s\": the copy in wal_copy_directory has WAL up to %X/%X only, "
						   "after waiting %d ms for %X/%X%s%s",
						   timeline_name(tl), LSN_FORMAT_ARGS(tl->copy.lsn), timeout_ms, LSN_FORMAT_ARGS(lsn),
						   tl->copy.error[0] != '\0' ? ": " : "", tl->copy.error);
		else
			err = cancel_wait(&wait, &tl->changed, &tl->lock, 100);
	}
	pthread_mutex_unlock(&tl->lock);
	return err;
}

/* ---- the thread ---- */

/* Waits until there is something to copy, up to *end; false if the timeline is stopping. */
static bool
next_copy(Copier *c, XLogRecPtr *end, uint64 *epoch)
{
	Timeline *tl = c->tl;
	bool stopping;

	pthread_mutex_lock(&tl->lock);
	while (!(stopping = tl->stopping != CANCEL_NONE))
	{
		*end = Max(tl->copy.wanted, tl->flushed_lsn);
		*epoch = tl->copy.epoch;
		if (!is_wanted(tl))
		{
			/* what arrives now is not copied */
			c->begun = false;
			tl->copy.lsn = InvalidXLogRecPtr;
		}
		else if (!c->begun || *end > c->from)
			break;
		pthread_cond_wait(&tl->copy.wake, &tl->lock);
	}
	pthread_mutex_unlock(&tl->lock);
	return !stopping;
}

/*
 * Where the copy must begin: what is before that is in object storage.  What the copy has from
 * there on is written again, since it may not be durable.  What it has after the end of WAL was
 * never acknowledged, and is cut off.
 */
static PsError *
begin_copy(Copier *c)
{
	Timeline *tl = c->tl;
	XLogSegNo oldest;
	XLogSegNo newest;
	XLogRecPtr flushed;

	pthread_mutex_lock(&tl->lock);
	c->from = tl->remote.lsn - tl->remote.lsn % XLOG_BLCKSZ;
	flushed = tl->flushed_lsn;
	pthread_mutex_unlock(&tl->lock);
	if (wal_segments_range(tl->wal, &oldest, &newest))
		c->from = Max(c->from, oldest * tl->spec->segment_size);
	c->from = Min(c->from, flushed);
	c->begun = true;
	return wal_segments_cut(c->segs, flushed);
}

/* Removes segments that are in object storage, except the one before, with which a restored timeline compares. */
static PsError *
remove_old(Copier *c)
{
	Timeline *tl = c->tl;
	XLogSegNo segno;
	int removed;

	pthread_mutex_lock(&tl->lock);
	XLByteToSeg(tl->remote.lsn, segno, tl->spec->segment_size);
	pthread_mutex_unlock(&tl->lock);
	if (segno <= c->first_kept + 1)
		return NULL;
	c->first_kept = segno - 1;
	return wal_segments_remove_before(c->segs, c->first_kept, &removed);
}

static PsError *
copy_wal(Copier *c, XLogRecPtr end)
{
	if (c->segs == NULL)
	{
		char *dir = copy_dir(c->tl);
		PsError *err = own_dir(c->tl, dir);

		if (err == NULL)
			err = wal_segments_open(dir, c->tl->spec->segment_size, &c->segs);
		pfree(dir);
		PS_TRY(err);
	}
	if (!c->begun)
		PS_TRY(begin_copy(c));
	PS_TRY(copy_bytes(c->tl->wal, c->segs, c->from, end, c->buf));
	PS_TRY(wal_segments_sync(c->segs));
	return remove_old(c);
}

/* Publishes how far the copy is, unless WAL was cut off meanwhile. */
static void
note_copied(Copier *c, XLogRecPtr end, uint64 epoch)
{
	Timeline *tl = c->tl;

	if (c->logged[0] != '\0')
		ps_log(PS_LOG, "branch \"%s\": WAL is copied again", timeline_name(tl));
	c->logged[0] = '\0';
	c->from = end;
	pthread_mutex_lock(&tl->lock);
	tl->copy.error[0] = '\0';
	c->begun = epoch == tl->copy.epoch;
	if (c->begun)
		tl->copy.lsn = end;
	pthread_cond_broadcast(&tl->changed);
	if (tl->remote.on_change != NULL && is_wanted(tl))
		tl->remote.on_change(tl->remote.on_change_arg);
	pthread_mutex_unlock(&tl->lock);
}

/* Shows an error, which is freed; logs it if it is not the one before; waits a while. */
static void
note_failure(Copier *c, PsError *err)
{
	Timeline *tl = c->tl;
	char message[sizeof(c->logged)];
	int64 until = clock_now_ms() + RETRY_DELAY;

	strlcpy(message, err->message, sizeof(message));
	if (strcmp(message, c->logged) != 0)
		ps_log_error(PS_WARNING, err, "branch \"%s\": could not copy WAL, trying again", timeline_name(tl));
	else
		ps_error_free(err);
	strlcpy(c->logged, message, sizeof(c->logged));
	pthread_mutex_lock(&tl->lock);
	strlcpy(tl->copy.error, message, sizeof(tl->copy.error));
	while (tl->stopping == CANCEL_NONE && clock_now_ms() < until)
		clock_cond_wait(&tl->copy.wake, &tl->lock, RETRY_DELAY);
	pthread_mutex_unlock(&tl->lock);
}

static void *
copy_main(void *arg)
{
	Copier c = {.tl = arg, .buf = pg_malloc(PIECE)};
	XLogRecPtr end;
	uint64 epoch;

	ps_thread_name("wal-copy %s", timeline_name(c.tl));
	while (next_copy(&c, &end, &epoch))
	{
		PsError *err = copy_wal(&c, end);

		if (err == NULL)
			note_copied(&c, end, epoch);
		else
			note_failure(&c, err);
	}
	wal_segments_close(c.segs);
	free(c.buf);
	return NULL;
}

PsError *
wal_copy_start(Timeline *tl)
{
	int rc;

	if (!timeline_has_copy_directory(tl))
		return NULL;
	rc = pthread_create(&tl->copy_thread, NULL, copy_main, tl);
	tl->has_copy_thread = rc == 0;
	if (rc == 0)
		return NULL;
	errno = rc;
	return ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "could not start a thread of branch \"%s\": %m", timeline_name(tl));
}

void
wal_copy_stop(Timeline *tl)
{
	if (tl->has_copy_thread)
		pthread_join(tl->copy_thread, NULL);
	tl->has_copy_thread = false;
}

/* ---- opening ---- */

/* Has the copy the same WAL before "end", as far as both reach, and its segment? */
static PsError *
follows(const Timeline *tl, WalSegments *copy, XLogRecPtr end, bool *result)
{
	uint32 size = tl->spec->segment_size;
	char *mine = pg_malloc(OVERLAP);
	char *theirs = pg_malloc(OVERLAP);
	XLogRecPtr start = end > OVERLAP ? end - OVERLAP : 0;
	XLogSegNo oldest;
	XLogSegNo newest;
	XLogSegNo segno;
	PsError *err = NULL;

	*result = false;
	XLByteToSeg(end, segno, size);
	if (!wal_segments_range(copy, &oldest, &newest) || segno < oldest || segno > newest)
		goto done;
	start = Max(start, oldest * size);
	/* of the page in which its own WAL begins, the timeline may have only the header */
	start = Max(start, tl->disk_consistent_lsn);
	if (start < end)
	{
		PS_GOTO(wal_segments_read(tl->wal, start, mine, end - start), done);
		PS_GOTO(wal_segments_read(copy, start, theirs, end - start), done);
	}
	*result = start >= end || memcmp(mine, theirs, end - start) == 0;
done:
	free(mine);
	free(theirs);
	return err;
}

/* Appends the whole records that follow the timeline's WAL in the copy. */
static PsError *
append_copy(Timeline *tl, WalSegments *copy)
{
	XLogRecPtr end = tl->flushed_lsn;
	XLogRecPtr prev = tl->flushed_prev;
	XLogRecPtr limit;
	XLogSegNo oldest;
	XLogSegNo newest;
	WalReader *reader;
	WalRecord rec;
	char *buf;
	bool found;
	PsError *err;

	PS_TRY(follows(tl, copy, end, &found));
	if (!found)
		return NULL;
	(void) wal_segments_range(copy, &oldest, &newest);
	limit = (newest + 1) * tl->spec->segment_size;
	reader = wal_reader_create(copy, end, prev, tl->spec->system_identifier);
	while ((err = wal_reader_next(reader, limit, &rec, &found)) == NULL && found)
	{
		end = rec.end;
		prev = rec.start;
	}
	wal_reader_free(reader);
	if (err != NULL && !ps_error_is(err, PS_SQLSTATE_CORRUPTED))
		return err;
	ps_error_free(err);
	if (end == tl->flushed_lsn)
		return NULL;
	buf = pg_malloc(PIECE);
	err = copy_bytes(copy, tl->wal, tl->flushed_lsn, end, buf);
	free(buf);
	PS_TRY(err);
	PS_TRY(wal_segments_sync(tl->wal));
	PS_TRY(receiver_sync_marker(tl, end));
	ps_log(PS_LOG, "branch \"%s\": restored WAL from %X/%X to %X/%X from its copy", timeline_name(tl),
		   LSN_FORMAT_ARGS(tl->flushed_lsn), LSN_FORMAT_ARGS(end));
	pthread_mutex_lock(&tl->lock);
	tl->received_lsn = tl->flushed_lsn = end;
	tl->flushed_prev = prev;
	pthread_mutex_unlock(&tl->lock);
	return NULL;
}

PsError *
wal_copy_restore(Timeline *tl)
{
	char *dir;
	WalSegments *copy;
	uint64 generation;
	PsError *err = NULL;

	if (!timeline_has_copy_directory(tl))
		return NULL;
	dir = copy_dir(tl);
	if (access(dir, F_OK) == 0)
	{
		err = check_owner(tl, dir, &generation);
		if (err == NULL)
			err = wal_segments_open(dir, tl->spec->segment_size, &copy);
		if (err == NULL)
		{
			err = append_copy(tl, copy);
			wal_segments_close(copy);
		}
	}
	pfree(dir);
	return err;
}
