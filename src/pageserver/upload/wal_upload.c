/*
 * wal_upload.c
 *	  Uploads the WAL of a timeline: see wal_upload.h.
 */
#include "ps_fe.h"

#include "ingest/ingest.h"
#include "remote/retry.h"
#include "sqlstate.h"
#include "upload/wal_upload.h"

/* How long one attempt may take until it counts as failed, ms. */
#define ATTEMPT_TIMEOUT 60000

/* The longest pause between two requests for which commits wait, us. */
#define GATHER_MAX 20000

struct WalUpload
{
	/* fixed */
	WalUploadFenced fenced;
	Chain *chain; /* its thread is that of this upload, or the one that opens and closes the timeline */

	/* owned by the thread that opens and closes the timeline */
	pthread_t thread;
	bool has_thread;

	/* owned by the thread, and by the one that starts it */
	Timeline *tl;
	XLogRecPtr from;  /* where the next chunk starts */
	bool first;       /* nothing was appended since the start */
	char *buf;        /* the WAL of a chunk */
	size_t buf_size;  /* bytes */
	int failures;     /* consecutive */
	char logged[256]; /* the error that was logged; "": none */
};

static XLogRecPtr
page_of(XLogRecPtr lsn)
{
	return lsn - lsn % XLOG_BLCKSZ;
}

PsError *
wal_upload_open(const TenantOwner *owner, const PsId *timeline, const WalPlace *place, uint64 number,
				XLogRecPtr chain_lsn, const WalUploadFenced *fenced, const ObjectWait *wait, WalUpload **result)
{
	WalUpload *upload;
	Chain *chain;

	PS_TRY(wal_restore(owner, timeline, place, number, chain_lsn, wait, &chain));
	upload = pg_malloc0(sizeof(WalUpload));
	upload->fenced = *fenced;
	upload->chain = chain;
	*result = upload;
	return NULL;
}

void
wal_upload_close(WalUpload *upload)
{
	if (upload == NULL)
		return;
	Assert(!upload->has_thread);
	chain_close(upload->chain);
	free(upload->buf);
	free(upload);
}

/* ---- the thread ---- */

/*
 * Appends WAL from upload->from on.  The first chunk begins with a whole page: a restored
 * file needs the header of its first page.  May be called again after an error, with the same
 * arguments.
 */
static PsError *
append_chunk(WalUpload *upload, XLogRecPtr end, uint64 generation)
{
	Timeline *tl = upload->tl;
	CancelCheck cancel = {timeline_check_stopping, tl};
	ObjectWait wait = {&cancel, clock_now_ms() + ATTEMPT_TIMEOUT};
	XLogRecPtr start = upload->first ? page_of(upload->from) : upload->from;
	size_t len = end - start;

	if (chain_is_unsettled(upload->chain))
		return chain_settle(upload->chain, &wait);
	if (len > upload->buf_size)
	{
		upload->buf = pg_realloc(upload->buf, len);
		upload->buf_size = len;
	}
	PS_TRY(wal_segments_read(tl->wal, start, upload->buf, len));
	return chain_append(upload->chain, start, upload->buf, len, generation, &wait);
}

/* Shows an error, which is freed, and logs it if it is not the one before.  Waits before the next attempt. */
static void
note_failure(WalUpload *upload, PsError *err)
{
	Timeline *tl = upload->tl;
	CancelCheck cancel = {timeline_check_stopping, tl};
	char message[sizeof(upload->logged)];

	strlcpy(message, err->message, sizeof(message));
	wal_remote_set_error(tl, message);
	if (strcmp(message, upload->logged) != 0)
		ps_log_error(PS_WARNING, err, "branch \"%s\": could not upload WAL after %X/%X, trying again",
					 timeline_name(tl), LSN_FORMAT_ARGS(upload->from));
	else
		ps_error_free(err);
	strlcpy(upload->logged, message, sizeof(upload->logged));
	ps_error_free(retry_sleep(retry_pause(++upload->failures, 0), &cancel, 0));
}

static void
note_success(WalUpload *upload, XLogRecPtr end)
{
	if (upload->logged[0] != '\0')
		ps_log(PS_LOG, "branch \"%s\": WAL is uploaded again, up to %X/%X", timeline_name(upload->tl),
			   LSN_FORMAT_ARGS(end));
	upload->logged[0] = '\0';
	upload->failures = 0;
	upload->first = false;
	upload->from = end;
	wal_remote_set_lsn(upload->tl, end);
}

/* Finds out whether a chunk of the last time that the timeline was open is in the chain. */
static PsError *
settle(WalUpload *upload)
{
	CancelCheck cancel = {timeline_check_stopping, upload->tl};
	ObjectWait wait = {&cancel, clock_now_ms() + ATTEMPT_TIMEOUT};

	return chain_settle(upload->chain, &wait);
}

/* Repeats an attempt until it succeeds.  False: the thread is to end. */
static bool
go_on(WalUpload *upload, PsError *err, XLogRecPtr end)
{
	if (err == NULL)
	{
		note_success(upload, end);
		return true;
	}
	if (err->is_cancel || timeline_is_stopping(upload->tl))
	{
		ps_error_free(err);
		return false;
	}
	if (ps_error_is(err, PS_SQLSTATE_FENCED))
	{
		upload->fenced.fenced(upload->fenced.arg, err);
		return false;
	}
	note_failure(upload, err);
	return !timeline_is_stopping(upload->tl);
}

/*
 * In mode bucket, after a request that took so many us: gives the sessions that it has
 * released the time to commit again.  Otherwise these would wait for the next request, which
 * only the others have caused: all would wait for two requests, half of them for each.
 */
static void
gather_commits(WalUpload *upload, int64 took)
{
	if (config_wal_acknowledge(timeline_config(upload->tl)) == WAL_ACKNOWLEDGE_BUCKET)
		pg_usleep(Min(took / 5, GATHER_MAX));
}

static void *
upload_main(void *arg)
{
	WalUpload *upload = arg;
	XLogRecPtr end;
	uint64 generation;
	PsError *err;

	ps_thread_name("wal-up %s", timeline_name(upload->tl));
	while (chain_is_unsettled(upload->chain))
	{
		err = settle(upload);
		if (!go_on(upload, err, chain_end(upload->chain)))
			return NULL;
	}
	while (wal_remote_next(upload->tl, upload->from, &end, &generation))
	{
		int64 began;

		do
		{
			began = clock_now_us();
			err = append_chunk(upload, end, generation);
			if (!go_on(upload, err, end))
				return NULL;
		} while (upload->from != end);
		gather_commits(upload, clock_now_us() - began);
	}
	return NULL;
}

/* ---- starting and stopping ---- */

/* Makes the chain end where the timeline's WAL ends, if it has more. */
static PsError *
cut_off(WalUpload *upload, const ObjectWait *wait)
{
	Timeline *tl = upload->tl;
	XLogRecPtr flushed;

	pthread_mutex_lock(&tl->lock);
	flushed = tl->flushed_lsn;
	pthread_mutex_unlock(&tl->lock);
	if (chain_end(upload->chain) <= flushed)
		return NULL;
	/* an attempt of the last start */
	PS_TRY(chain_settle(upload->chain, wait));
	if (chain_end(upload->chain) <= flushed)
		return NULL;
	ps_log(PS_LOG, "branch \"%s\": WAL in object storage up to %X/%X ends within a record, which is cut off at %X/%X",
		   timeline_name(tl), LSN_FORMAT_ARGS(chain_end(upload->chain)), LSN_FORMAT_ARGS(flushed));
	return chain_cut(upload->chain, flushed, wait);
}

/* Does the chain have the page in which it ends?  That of a new timeline is empty. */
static bool
has_last_page(Chain *chain)
{
	XLogRecPtr start = chain_start(chain);
	XLogRecPtr end = chain_end(chain);

	return page_of(end) == end || (start != InvalidXLogRecPtr && start <= page_of(end));
}

PsError *
wal_upload_start(WalUpload *upload, Timeline *tl, const ObjectWait *wait)
{
	int rc;

	upload->tl = tl;
	upload->first = true;
	upload->failures = 0;
	upload->logged[0] = '\0';
	PS_TRY(cut_off(upload, wait));
	upload->from = chain_end(upload->chain);
	wal_remote_begin(tl, upload->from);
	if (!has_last_page(upload->chain))
		upload->from = page_of(upload->from);
	rc = pthread_create(&upload->thread, NULL, upload_main, upload);
	upload->has_thread = rc == 0;
	if (rc == 0)
		return NULL;
	errno = rc;
	return ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "could not start a thread of branch \"%s\": %m", timeline_name(tl));
}

bool
wal_upload_is_started(const WalUpload *upload)
{
	return upload != NULL && upload->has_thread;
}

void
wal_upload_stop(WalUpload *upload)
{
	if (upload == NULL || !upload->has_thread)
		return;
	pthread_join(upload->thread, NULL);
	upload->has_thread = false;
}

/* ---- what is needed ---- */

uint64
wal_upload_first_needed(WalUpload *upload, XLogRecPtr lsn)
{
	return chain_first_needed(upload->chain, page_of(lsn));
}

bool
wal_upload_covers(WalUpload *upload, XLogRecPtr lsn)
{
	XLogRecPtr start = chain_start(upload->chain);

	return start != InvalidXLogRecPtr && start <= page_of(lsn);
}

void
wal_upload_remove_before(WalUpload *upload, uint64 number, Deleter *deleter)
{
	chain_remove_before(upload->chain, number, deleter);
}
