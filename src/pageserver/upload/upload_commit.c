/*
 * upload_commit.c
 *	  Commits changes of a tenant: entries of its log in the bucket, and what follows from them.
 */
#include "ps_fe.h"

#include "layer/layer.h"
#include "sqlstate.h"
#include "upload/upload_impl.h"

/* How long a request may take before its error is reported and it is sent again, ms. */
#define COMMIT_TIMEOUT 30000

static json_t *
timelines_of(const LogChange *change)
{
	return json_object_get(change->json, "timelines");
}

XLogRecPtr
upload_record_lsn(const json_t *record, const char *name)
{
	const char *text = json_string_value(json_object_get(record, name));
	uint32 hi;
	uint32 lo;

	return text != NULL && sscanf(text, "%X/%X", &hi, &lo) == 2 ? (uint64) hi << 32 | lo : InvalidXLogRecPtr;
}

/* ---- what a change drops ---- */

static void
drop(TenantUpload *up, const char *id, const char *name)
{
	BucketKey key = {.kind = BUCKET_KEY_LAYER, .tenant = up->options.tenant};
	LayerInfo info;

	if (!ps_id_parse(id, &key.timeline) || !layer_name_parse(name, &info))
		return;
	key.number = info.number;
	up->dropped = pg_realloc(up->dropped, (up->ndropped + 1) * sizeof(BucketKey));
	up->dropped[up->ndropped++] = key;
}

/* Notes the files that the state has now and will not have with the change. */
static void
note_dropped(TenantUpload *up, const LogChange *change)
{
	json_t *state = timelines_of(tenant_log_state(up->log));
	const char *id;
	json_t *record;

	up->ndropped = 0;
	json_object_foreach(timelines_of(change), id, record)
	{
		json_t *layers = json_object_get(record, "layers");
		json_t *dropped = json_object_get(record, "drop");
		bool whole = json_is_null(record) || layers != NULL;
		const char *name;
		json_t *text;

		json_object_foreach(json_object_get(json_object_get(state, id), "layers"), name, text)
		{
			if (whole ? json_object_get(layers, name) == NULL : json_object_get(dropped, name) != NULL)
				drop(up, id, name);
		}
	}
}

static void
delete_dropped(TenantUpload *up)
{
	for (int i = 0; i < up->ndropped; i++)
		deleter_add(up->deleter, &up->dropped[i], 1);
	up->ndropped = 0;
}

/* ---- committing ---- */

static PsError *
append(TenantUpload *up, const LogChange *change)
{
	json_t *json = log_change_json(change);
	CancelCheck cancel;
	ObjectWait wait = upload_request(up, &cancel, COMMIT_TIMEOUT);
	PsError *err = tenant_log_append(up->log, json, 0, &wait);

	json_decref(json);
	while (err != NULL && !err->is_cancel && !ps_error_is(err, PS_SQLSTATE_FENCED) &&
		   !ps_error_is(err, PS_SQLSTATE_CORRUPTED))
	{
		upload_set_error(up, err);
		if (!upload_pause(up))
			return cancel_error(CANCEL_STORE_STOPPING, NULL);
		wait = upload_request(up, &cancel, COMMIT_TIMEOUT);
		err = tenant_log_settle(up->log, &wait);
	}
	return err;
}

/*
 * Says in each record that has an LSN from where on the WAL chain is needed.  A record of a whole
 * timeline keeps what the last entry said if that is not known.
 */
static void
add_chains(TenantUpload *up, const LogChange *change)
{
	json_t *state = timelines_of(tenant_log_state(up->log));
	const char *id;
	json_t *record;

	json_object_foreach(timelines_of(change), id, record)
	{
		XLogRecPtr lsn = json_is_object(record) ? upload_record_lsn(record, "disk_consistent_lsn") : InvalidXLogRecPtr;
		json_t *last = json_object_get(json_object_get(state, id), "wal");
		PsId timeline;
		uint64 number;
		uint64 last_number;
		uint64 kept = 0;
		XLogRecPtr last_lsn;

		if (lsn == InvalidXLogRecPtr || up->options.chain_first_needed == NULL || !ps_id_parse(id, &timeline))
			continue;
		(void) log_change_wal(json_object_get(state, id), &last_number, &kept, &last_lsn);
		if (up->options.chain_first_needed(up->options.arg, &timeline, lsn, &number, &kept))
			json_object_set_new(record, "wal", log_change_make_wal(number, Min(kept, number), lsn));
		else if (json_object_get(record, "layers") != NULL && last != NULL)
			json_object_set(record, "wal", last);
	}
}

/* Appends a change and sets what is known of the timelines in it.  number: of the last change up to which it goes. */
static PsError *
commit(TenantUpload *up, const LogChange *change, uint64 number)
{
	json_t *state;
	const char *id;
	json_t *record;

	add_chains(up, change);
	note_dropped(up, change);
	PS_TRY(append(up, change));
	delete_dropped(up);
	state = timelines_of(tenant_log_state(up->log));
	pthread_mutex_lock(&up->lock);
	json_object_foreach(timelines_of(change), id, record)
	{
		UploadTimeline *timeline = upload_find(up, id);
		json_t *now = json_object_get(state, id);

		if (timeline == NULL)
			continue;
		timeline->committed = Max(timeline->committed, number);
		upload_change_there(timeline, record, now);
	}
	up->tried_members = Max(up->tried_members, number);
	pthread_cond_broadcast(&up->changed);
	pthread_mutex_unlock(&up->lock);
	return NULL;
}

/* Files that were put and are in no entry, since they were dropped meanwhile, are deleted. */
static void
delete_unused(TenantUpload *up)
{
	json_t *state = timelines_of(tenant_log_state(up->log));
	const char *key_text;
	json_t *name;

	pthread_mutex_lock(&up->lock);
	json_object_foreach(up->put, key_text, name)
	{
		BucketKey key;
		char id[PS_ID_TEXT];
		json_t *layers;

		if (!bucket_key_parse(key_text, &key))
			continue;
		layers = json_object_get(json_object_get(state, ps_id_format(&key.timeline, id)), "layers");
		if (json_object_get(layers, json_string_value(name)) == NULL)
			deleter_add(up->deleter, &key, 1);
	}
	json_object_clear(up->put);
	pthread_mutex_unlock(&up->lock);
}

PsError *
upload_commit_batch(TenantUpload *up)
{
	PS_TRY(commit(up, &up->batch, up->sealed));
	log_change_free(&up->batch);
	log_change_init(&up->batch);
	delete_unused(up);
	return NULL;
}

/* ---- ahead of the files ---- */

/* Adds what needs no files to a change: of a timeline that is in the bucket. */
static void
add_members(LogChange *change, const char *id, json_t *record)
{
	static const char *const names[] = {"name", "generation", "owner", "protected", "deleted"};
	json_t *members = json_object_get(timelines_of(change), id);

	if (json_is_null(record))
	{
		json_object_set(timelines_of(change), id, record);
		return;
	}
	if (members == NULL)
	{
		members = json_object();
		json_object_set_new(timelines_of(change), id, members);
	}
	for (int i = 0; i < lengthof(names); i++)
		if (json_object_get(record, names[i]) != NULL)
			json_object_set(members, names[i], json_object_get(record, names[i]));
}

/*
 * The whole record of a new timeline, a copy, if it has few files and its ancestor is in
 * the bucket; else NULL.  The lock is held.
 */
static json_t *
new_timeline(TenantUpload *up, const char *id)
{
	json_t *in_batch = json_object_get(timelines_of(&up->batch), id);
	json_t *in_pending = json_object_get(timelines_of(&up->pending), id);
	const char *ancestor;
	LogChange all;
	LogChange newer;
	json_t *record;

	log_change_init(&all);
	if (in_batch != NULL)
		json_object_set_new(timelines_of(&all), id, json_deep_copy(in_batch));
	log_change_init(&newer);
	if (in_pending != NULL)
		json_object_set(timelines_of(&newer), id, in_pending);
	log_change_fold(&all, &newer);
	record = json_incref(json_object_get(timelines_of(&all), id));
	log_change_free(&all);
	log_change_free(&newer);
	ancestor = json_string_value(json_object_get(record, "ancestor"));
	if (ancestor != NULL && json_object_size(json_object_get(record, "layers")) <= UPLOAD_FEW_FILES &&
		(ancestor[0] == '\0' || json_object_get(timelines_of(tenant_log_state(up->log)), ancestor) != NULL))
		return record;
	json_decref(record);
	return NULL;
}

/* The change to be committed, without the new timelines that somebody waits for: those are in *added.  Locks. */
static uint64
collect(TenantUpload *up, LogChange *change, LogChange *added)
{
	const LogChange *const sources[] = {&up->batch, &up->pending};
	json_t *state = timelines_of(tenant_log_state(up->log));
	const char *id;
	json_t *record;
	uint64 number;

	pthread_mutex_lock(&up->lock);
	number = up->noted;
	for (int i = 0; i < lengthof(sources); i++)
	{
		json_object_foreach(timelines_of(sources[i]), id, record)
		{
			if (json_object_get(state, id) != NULL)
				add_members(change, id, record);
		}
	}
	for (const UploadWaiter *waiter = up->waiters; waiter != NULL; waiter = waiter->next)
	{
		char text[PS_ID_TEXT];

		ps_id_format(&up->timelines[waiter->timeline].id, text);
		if (json_object_get(state, text) == NULL && (record = new_timeline(up, text)) != NULL)
			json_object_set_new(timelines_of(added), text, record);
	}
	pthread_mutex_unlock(&up->lock);
	return number;
}

/* Puts the files of new timelines and adds those to the change, unless a file has been dropped meanwhile. */
static PsError *
put_added(TenantUpload *up, const LogChange *added, LogChange *change)
{
	const char *id;
	json_t *record;

	json_object_foreach(timelines_of(added), id, record)
	{
		bool vanished;

		PS_TRY(upload_put_record(up, id, record, &vanished));
		if (!vanished)
			json_object_set(timelines_of(change), id, record);
	}
	return NULL;
}

/* What was removed for good must not be changed by the batch. */
static void
remove_gone(TenantUpload *up, const LogChange *change)
{
	const char *id;
	json_t *record;

	json_object_foreach(timelines_of(change), id, record)
	{
		if (json_is_null(record))
			json_object_del(timelines_of(&up->batch), id);
	}
}

PsError *
upload_commit_members(TenantUpload *up)
{
	LogChange change;
	LogChange added;
	uint64 number;
	PsError *err;

	log_change_init(&change);
	log_change_init(&added);
	number = collect(up, &change, &added);
	err = put_added(up, &added, &change);
	if (err == NULL)
		err = commit(up, &change, number);
	if (err == NULL)
		remove_gone(up, &change);
	log_change_free(&change);
	log_change_free(&added);
	return err;
}
