/*
 * upload.c
 *	  The upload of a tenant: what is to be uploaded, and who waits for it.  See upload.h.
 */
#include "ps_fe.h"

#include "base/clock.h"
#include "sqlstate.h"
#include "upload/upload_impl.h"

TenantUpload *
upload_create(const UploadOptions *options)
{
	TenantUpload *up = pg_malloc0(sizeof(TenantUpload));

	up->options = *options;
	up->dir = pg_strdup(options->dir);
	ps_id_format(&options->tenant, up->id);
	log_change_init(&up->batch);
	log_change_init(&up->pending);
	up->put = json_object();
	pthread_mutex_init(&up->lock, NULL);
	clock_cond_init(&up->changed);
	return up;
}

void
upload_stop(TenantUpload *up)
{
	atomic_store(&up->stopping, true);
	pthread_mutex_lock(&up->lock);
	pthread_cond_broadcast(&up->changed);
	pthread_mutex_unlock(&up->lock);
}

void
upload_free(TenantUpload *up)
{
	if (up == NULL)
		return;
	upload_stop(up);
	if (up->begun)
		pthread_join(up->thread, NULL);
	tenant_log_close(up->log);
	deleter_free(up->deleter);
	log_change_free(&up->batch);
	log_change_free(&up->pending);
	json_decref(up->put);
	free(up->dropped);
	for (int i = 0; i < up->ntimelines; i++)
		json_decref(up->timelines[i].files);
	free(up->timelines);
	ps_error_free(up->error);
	pthread_mutex_destroy(&up->lock);
	pthread_cond_destroy(&up->changed);
	free(up->dir);
	free(up);
}

/* ---- timelines ---- */

static UploadTimeline *
find_by_id(TenantUpload *up, const PsId *id)
{
	for (int i = 0; i < up->ntimelines; i++)
		if (ps_id_equal(&up->timelines[i].id, id))
			return &up->timelines[i];
	return NULL;
}

UploadTimeline *
upload_find(TenantUpload *up, const char *id)
{
	PsId parsed;

	return ps_id_parse(id, &parsed) ? find_by_id(up, &parsed) : NULL;
}

static UploadTimeline *
find_or_add(TenantUpload *up, const PsId *id)
{
	UploadTimeline *timeline = find_by_id(up, id);

	if (timeline != NULL)
		return timeline;
	up->timelines = pg_realloc(up->timelines, (up->ntimelines + 1) * sizeof(UploadTimeline));
	timeline = &up->timelines[up->ntimelines++];
	*timeline = (UploadTimeline) {.id = *id};
	return timeline;
}

/* ---- changes ---- */

/* Folds a record, which is taken over, into what is pending.  The lock is held. */
static void
fold(TenantUpload *up, UploadTimeline *timeline, json_t *record)
{
	char id[PS_ID_TEXT];
	json_t *json = json_pack("{s:{s:o}}", "timelines", ps_id_format(&timeline->id, id), record);
	LogChange change;
	PsError *err = log_change_load(&change, json);

	/* records are made by manifest.c, and are what log_change.h describes */
	if (err != NULL)
		ps_log_error(PS_WARNING, err, "a change of timeline %s cannot be uploaded", id);
	else
	{
		log_change_fold(&up->pending, &change);
		log_change_free(&change);
		timeline->noted = ++up->noted;
		pthread_cond_broadcast(&up->changed);
	}
	json_decref(json);
}

void
upload_note(TenantUpload *up, const PsId *id, json_t *record)
{
	bool whole = json_object_get(record, "layers") != NULL;
	UploadTimeline *timeline;

	pthread_mutex_lock(&up->lock);
	timeline = whole ? find_or_add(up, id) : find_by_id(up, id);
	if (timeline != NULL && !timeline->frozen)
		fold(up, timeline, record);
	else
		json_decref(record);
	pthread_mutex_unlock(&up->lock);
}

void
upload_note_gone(TenantUpload *up, const PsId *id)
{
	UploadTimeline *timeline;

	pthread_mutex_lock(&up->lock);
	timeline = find_or_add(up, id);
	timeline->frozen = true;
	fold(up, timeline, json_null());
	pthread_mutex_unlock(&up->lock);
}

void
upload_note_unreadable(TenantUpload *up, const PsId *id)
{
	pthread_mutex_lock(&up->lock);
	find_or_add(up, id)->frozen = true;
	pthread_mutex_unlock(&up->lock);
}

/* ---- waiting ---- */

bool
upload_members_due(const TenantUpload *up)
{
	for (const UploadWaiter *waiter = up->waiters; waiter != NULL; waiter = waiter->next)
		if (waiter->number > up->tried_members && up->timelines[waiter->timeline].committed < waiter->number)
			return true;
	return false;
}

static PsError *
wait_for(TenantUpload *up, const UploadWaiter *waiter, int64 until, const CancelCheck *cancel)
{
	CancelWait wait = {.cancel = cancel};

	while (up->timelines[waiter->timeline].committed < waiter->number)
	{
		if (up->failed || atomic_load(&up->stopping))
			return up->error != NULL ? ps_error_copy(up->error) : cancel_error(CANCEL_STORE_STOPPING, NULL);
		/* many files of a new timeline */
		if (up->tried_members >= waiter->number)
			return NULL;
		if (clock_now_ms() >= until)
			return ps_error(PS_SQLSTATE_TRY_AGAIN, "the change is not in object storage yet%s%s",
							up->error != NULL ? ": " : "", up->error != NULL ? up->error->message : "");
		PS_TRY(cancel_wait(&wait, &up->changed, &up->lock, 1000));
	}
	return NULL;
}

PsError *
upload_wait(TenantUpload *up, const PsId *id, int64 timeout_ms, const CancelCheck *cancel)
{
	UploadTimeline *timeline;
	UploadWaiter waiter;
	PsError *err = NULL;

	pthread_mutex_lock(&up->lock);
	timeline = find_by_id(up, id);
	if (up->begun && timeline != NULL)
	{
		waiter = (UploadWaiter) {timeline - up->timelines, timeline->noted, up->waiters};
		up->waiters = &waiter;
		pthread_cond_broadcast(&up->changed);
		err = wait_for(up, &waiter, clock_now_ms() + timeout_ms, cancel);
		for (UploadWaiter **p = &up->waiters; *p != NULL; p = &(*p)->next)
			if (*p == &waiter)
			{
				*p = waiter.next;
				break;
			}
	}
	pthread_mutex_unlock(&up->lock);
	return err;
}

/* ---- for the thread ---- */

void
upload_set_error(TenantUpload *up, PsError *err)
{
	pthread_mutex_lock(&up->lock);
	if (err != NULL && (up->error == NULL || strcmp(up->error->sqlstate, err->sqlstate) != 0))
		ps_log_error(PS_WARNING, ps_error_copy(err), "tenant %s: could not upload, will try again", up->id);
	if (err == NULL && up->error != NULL)
		ps_log(PS_LOG, "tenant %s: uploading again", up->id);
	ps_error_free(up->error);
	up->error = err;
	pthread_cond_broadcast(&up->changed);
	pthread_mutex_unlock(&up->lock);
}

bool
upload_pause(TenantUpload *up)
{
	int64 until = clock_now_ms() + UPLOAD_RETRY_DELAY;
	int64 left;

	pthread_mutex_lock(&up->lock);
	while (!atomic_load(&up->stopping) && (left = until - clock_now_ms()) > 0)
		clock_cond_wait(&up->changed, &up->lock, left);
	pthread_mutex_unlock(&up->lock);
	return !atomic_load(&up->stopping);
}

static PsError *
check_stopping(void *arg)
{
	TenantUpload *up = arg;

	return atomic_load(&up->stopping) ? cancel_error(CANCEL_STORE_STOPPING, NULL) : NULL;
}

ObjectWait
upload_request(TenantUpload *up, CancelCheck *cancel, int64 timeout_ms)
{
	*cancel = (CancelCheck) {check_stopping, up};
	return (ObjectWait) {cancel, clock_now_ms() + timeout_ms};
}

/* ---- for people ---- */

/* The size that the text of a layer file says. */
static int64
bytes_of(const json_t *text)
{
	const char *bytes = json_is_string(text) ? strstr(json_string_value(text), " bytes ") : NULL;

	return bytes != NULL ? strtoll(bytes + strlen(" bytes "), NULL, 10) : 0;
}

void
upload_info(TenantUpload *up, UploadInfo *info)
{
	const char *id;
	json_t *record;

	memset(info, 0, sizeof(*info));
	pthread_mutex_lock(&up->lock);
	info->files = up->batch_files;
	info->bytes = up->batch_bytes;
	json_object_foreach(json_object_get(up->pending.json, "timelines"), id, record)
	{
		json_t *add = json_object_get(record, json_object_get(record, "layers") != NULL ? "layers" : "add");
		const char *name;
		json_t *text;

		json_object_foreach(add, name, text)
		{
			info->files++;
			info->bytes += bytes_of(text);
		}
	}
	if (up->error != NULL)
		strlcpy(info->error, up->error->message, sizeof(info->error));
	if (up->begun)
	{
		int64 due;

		info->deleting = deleter_count(up->deleter, &due);
	}
	pthread_mutex_unlock(&up->lock);
}

XLogRecPtr
upload_remote_lsn(TenantUpload *up, const PsId *id)
{
	UploadTimeline *timeline;
	XLogRecPtr lsn;

	pthread_mutex_lock(&up->lock);
	timeline = find_by_id(up, id);
	lsn = timeline != NULL ? timeline->remote_lsn : 0;
	pthread_mutex_unlock(&up->lock);
	return lsn;
}

bool
upload_has_file(TenantUpload *up, const PsId *id, const char *name)
{
	UploadTimeline *timeline;
	bool has;

	pthread_mutex_lock(&up->lock);
	timeline = find_by_id(up, id);
	has = timeline != NULL && json_object_get(timeline->files, name) != NULL;
	pthread_mutex_unlock(&up->lock);
	return has;
}

void
upload_chain_start(TenantUpload *up, const PsId *id, uint64 *number, uint64 *kept, XLogRecPtr *lsn)
{
	UploadTimeline *timeline;

	pthread_mutex_lock(&up->lock);
	timeline = find_by_id(up, id);
	*number = timeline != NULL ? timeline->chain : 0;
	*kept = timeline != NULL ? timeline->kept : 0;
	*lsn = timeline != NULL ? timeline->chain_lsn : InvalidXLogRecPtr;
	pthread_mutex_unlock(&up->lock);
}

/* ---- what is there ---- */

static void
set_members(UploadTimeline *timeline, const json_t *state)
{
	timeline->remote_lsn = upload_record_lsn(state, "disk_consistent_lsn");
	(void) log_change_wal(state, &timeline->chain, &timeline->kept, &timeline->chain_lsn);
}

void
upload_set_there(UploadTimeline *timeline, const json_t *state)
{
	json_t *layers = json_object_get(state, "layers");
	const char *name;
	json_t *text;

	set_members(timeline, state);
	json_decref(timeline->files);
	timeline->files = json_object();
	json_object_foreach(layers, name, text)
		json_object_set_new(timeline->files, name, json_true());
}

void
upload_change_there(UploadTimeline *timeline, const json_t *change, const json_t *state)
{
	const char *name;
	json_t *text;

	if (json_object_get(change, "layers") != NULL || timeline->files == NULL)
	{
		upload_set_there(timeline, state);
		return;
	}
	set_members(timeline, state);
	json_object_foreach(json_object_get(change, "drop"), name, text)
		json_object_del(timeline->files, name);
	json_object_foreach(json_object_get(change, "add"), name, text)
		json_object_set_new(timeline->files, name, json_true());
}
