/*
 * upload_thread.c
 *	  The upload of a tenant: its begin, and its thread.
 */
#include "ps_fe.h"

#include "base/clock.h"
#include "sqlstate.h"
#include "upload/upload_impl.h"

static json_t *
timelines_of(const LogChange *change)
{
	return json_object_get(change->json, "timelines");
}

/* ---- the thread ---- */

static int64
delete_delay(const TenantUpload *up)
{
	const Config *config = *up->options.config;

	return (int64) config->remote_delete_delay * 1000;
}

/* Moves what is pending to the batch.  The lock is held. */
static void
seal(TenantUpload *up)
{
	log_change_fold(&up->batch, &up->pending);
	log_change_free(&up->pending);
	log_change_init(&up->pending);
	up->sealed = up->noted;
}

/* Waits until there is something to do, and deletes what is due.  The lock is held, and released meanwhile. */
static void
wait_for_work(TenantUpload *up)
{
	CancelCheck cancel;
	ObjectWait wait = upload_request(up, &cancel, UPLOAD_RETRY_DELAY * 15);
	int64 now = clock_now_ms();
	int64 due;
	PsError *err;

	deleter_set_delay(up->deleter, delete_delay(up));
	deleter_count(up->deleter, &due);
	if (due == 0)
		pthread_cond_wait(&up->changed, &up->lock);
	else if (due > now)
		clock_cond_wait(&up->changed, &up->lock, Min(due - now, 60000));
	else
	{
		pthread_mutex_unlock(&up->lock);
		err = deleter_run(up->deleter, &wait);
		if (err != NULL && !err->is_cancel)
		{
			upload_set_error(up, err);
			(void) upload_pause(up);
		}
		else
		{
			ps_error_free(err);
			upload_set_error(up, NULL);
		}
		pthread_mutex_lock(&up->lock);
	}
}

/* Uploads the batch.  Errors that are worth another attempt are reported, others are returned. */
static PsError *
upload_batch(TenantUpload *up)
{
	PsError *err = upload_put_files(up);

	if (err == NULL)
		err = upload_commit_batch(up);
	if (err == NULL)
	{
		upload_set_error(up, NULL);
		return NULL;
	}
	if (err->is_cancel || ps_error_is(err, PS_SQLSTATE_FENCED) || tenant_log_is_pending(up->log) ||
		ps_error_is(err, PS_SQLSTATE_CORRUPTED))
		return err;
	upload_set_error(up, err);
	(void) upload_pause(up);
	return NULL;
}

static void *
upload_main(void *arg)
{
	TenantUpload *up = arg;
	PsError *err = NULL;

	ps_thread_name("upload");
	pthread_mutex_lock(&up->lock);
	while (!atomic_load(&up->stopping) && err == NULL)
	{
		if (up->noted == up->sealed && json_object_size(timelines_of(&up->batch)) == 0)
		{
			wait_for_work(up);
			continue;
		}
		seal(up);
		pthread_mutex_unlock(&up->lock);
		err = upload_batch(up);
		pthread_mutex_lock(&up->lock);
	}
	up->failed = true;
	pthread_cond_broadcast(&up->changed);
	pthread_mutex_unlock(&up->lock);
	if (err != NULL && !err->is_cancel)
	{
		upload_set_error(up, ps_error_copy(err));
		if (ps_error_is(err, PS_SQLSTATE_FENCED))
		{
			up->options.on_failure(up->options.arg, err);
			err = NULL;
		}
	}
	ps_error_free(err);
	return NULL;
}

/* ---- the begin ---- */

static uint64
generation_of(const json_t *record)
{
	const char *text = json_string_value(json_object_get(record, "generation"));

	return text != NULL ? strtoull(text, NULL, 10) : 0;
}

/* Does the bucket have a state of the timeline that the directory has not had? */
static bool
is_newer(const json_t *there, const json_t *here)
{
	return upload_record_lsn(there, "disk_consistent_lsn") > upload_record_lsn(here, "disk_consistent_lsn") ||
		   generation_of(there) > generation_of(here);
}

static PsError *
older_error(const TenantUpload *up, const char *id, const char *what)
{
	PsError *err = ps_error(PS_SQLSTATE_STATE, "object storage has a newer state of tenant %s than \"%s\"", up->id,
							up->dir);

	return ps_error_hint(err, "Timeline %s %s.  Was the directory restored from a copy, or was part of it removed?", id,
						 what);
}

static bool
contains(const PsId *list, int n, const char *id)
{
	PsId parsed;

	for (int i = 0; ps_id_parse(id, &parsed) && i < n; i++)
		if (ps_id_equal(&list[i], &parsed))
			return true;
	return false;
}

/*
 * Compares the state of the bucket with that of the directory, which is pending.  What is the same
 * need not be uploaded.  The lock is held.
 */
static PsError *
compare(TenantUpload *up, const PsId *purged, int npurged)
{
	json_t *pending = timelines_of(&up->pending);
	const char *id;
	json_t *there;

	json_object_foreach(timelines_of(tenant_log_state(up->log)), id, there)
	{
		json_t *here = json_object_get(pending, id);
		UploadTimeline *timeline = upload_find(up, id);

		if (timeline == NULL && !contains(purged, npurged, id))
			return older_error(up, id, "does not exist there");
		if (here != NULL && !json_is_null(here) && is_newer(there, here))
			return older_error(up, id, "is older there");
	}
	json_object_foreach(timelines_of(tenant_log_state(up->log)), id, there)
	{
		UploadTimeline *timeline = upload_find(up, id);
		json_t *here = json_object_get(pending, id);

		if (timeline != NULL)
			timeline->remote_lsn = upload_record_lsn(there, "disk_consistent_lsn");
		if (timeline == NULL)
		{
			json_object_set_new(pending, id, json_null());
			up->noted++;
		}
		else if (here != NULL && json_equal(here, there))
		{
			timeline->committed = timeline->noted;
			json_object_del(pending, id);
		}
	}
	return NULL;
}

PsError *
upload_begin(TenantUpload *up, const TenantOwner *owner, PsId *purged, int *npurged, const ObjectWait *wait,
			 bool *older)
{
	LogEntryInfo newest;
	int nabsent = 0;
	int rc;
	PsError *err;

	*older = false;
	up->owner = *owner;
	up->deleter = deleter_create(owner->store, delete_delay(up));
	err = tenant_log_open(&up->owner, up->deleter, wait, &up->log, &newest);
	if (err == NULL)
	{
		pthread_mutex_lock(&up->lock);
		err = compare(up, purged, *npurged);
		*older = err != NULL;
		pthread_mutex_unlock(&up->lock);
	}
	for (int i = 0; i < *npurged && err == NULL; i++)
	{
		char id[PS_ID_TEXT];

		if (json_object_get(timelines_of(tenant_log_state(up->log)), ps_id_format(&purged[i], id)) == NULL)
			purged[nabsent++] = purged[i];
	}
	/* the owner's own entry, with what others have written before */
	if (err == NULL)
		err = tenant_log_append(up->log, NULL, 0, wait);
	if (err == NULL)
	{
		pthread_mutex_lock(&up->lock);
		rc = pthread_create(&up->thread, NULL, upload_main, up);
		up->begun = rc == 0;
		pthread_mutex_unlock(&up->lock);
		if (rc == 0)
		{
			*npurged = nabsent;
			return NULL;
		}
		errno = rc;
		err = ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "could not start the thread that uploads a tenant: %m");
	}
	tenant_log_close(up->log);
	deleter_free(up->deleter);
	up->log = NULL;
	up->deleter = NULL;
	return err;
}
