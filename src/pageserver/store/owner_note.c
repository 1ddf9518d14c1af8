/*
 * owner_note.c
 *	  Tells the upload of a tenant (upload/upload.h) what changes in it.
 *
 * Open timelines tell it themselves, through TimelineEnv.changes.  Here are the changes of
 * branches that are not open, and the state of all at the begin.
 */
#include "ps_fe.h"

#include "sqlstate.h"
#include "store/store_dir.h"
#include "store/store_impl.h"
#include "upload/purged.h"

/* ---- what open timelines call ---- */

static void
note_change(void *arg, const PsId *timeline, json_t *change)
{
	upload_note(arg, timeline, change);
}

static PsError *
wait_for_change(void *arg, const PsId *timeline, int timeout_ms, const CancelCheck *cancel)
{
	return upload_wait(arg, timeline, timeout_ms, cancel);
}

bool
owner_has_file(void *arg, const PsId *timeline, const char *name, bool *known)
{
	Tenant *tenant = arg;
	TenantUpload *upload;

	pthread_mutex_lock(&tenant->store->lock);
	upload = tenant->upload;
	*known = tenant->ownership == OWNER_OWNED;
	pthread_mutex_unlock(&tenant->store->lock);
	/* it stays while timelines are open */
	return upload != NULL && upload_has_file(upload, timeline, name);
}

ChangeSink
owner_change_sink(TenantUpload *upload)
{
	return (ChangeSink) {note_change, wait_for_change, upload};
}

/* ---- whole timelines ---- */

static json_t *
json_deleted(const TrashMark *mark)
{
	return json_pack("[I, s]", (json_int_t) mark->when, mark->by);
}

/* The whole record of a timeline that is not open, from its directory. */
static PsError *
read_record(Store *store, const char *dir, json_t **record)
{
	Manifest m;
	TrashMark mark;
	bool deleted;
	json_t *state;

	PS_TRY(manifest_read(dir, &m, NULL));
	state = manifest_state_json(&m);
	manifest_free(&m);
	*record = json_incref(json_object_get(state, "timeline"));
	json_decref(state);
	if (*record == NULL)
		return ps_error(PS_SQLSTATE_CORRUPTED, "manifest in \"%s\" has a text that is not UTF-8", dir);
	if (protect_mark_is_set(dir))
		json_object_set_new(*record, "protected", json_true());
	PS_TRY(trash_mark_read(dir, store->clock, &mark, &deleted));
	if (deleted)
		json_object_set_new(*record, "deleted", json_deleted(&mark));
	return NULL;
}

PsError *
owner_note_all(Tenant *tenant, TenantUpload *upload)
{
	char *path = psprintf("%s/timelines", tenant->dir);
	PsId *ids = NULL;
	int n = 0;
	PsError *err = store_dir_list_ids(path, &ids, &n);

	for (int i = 0; i < n && err == NULL; i++)
	{
		char id[PS_ID_TEXT];
		char *dir = psprintf("%s/%s", path, ps_id_format(&ids[i], id));
		json_t *record = NULL;

		err = read_record(tenant->store, dir, &record);
		if (err == NULL)
			upload_note(upload, &ids[i], record);
		else
		{
			json_decref(record);
			if (!ps_error_is_transient(err))
			{
				ps_log_error(PS_WARNING, err, "timeline %s is not uploaded", id);
				upload_note_unreadable(upload, &ids[i]);
				err = NULL;
			}
		}
		pfree(dir);
	}
	free(ids);
	pfree(path);
	return err;
}

/* ---- changes ---- */

PsError *
owner_note_new(const Branch *branch)
{
	TenantUpload *upload = branch->tenant->upload;
	json_t *record = NULL;
	PsError *err;

	if (upload == NULL)
		return NULL;
	err = read_record(branch->tenant->store, branch->spec.dir, &record);
	if (err == NULL)
		upload_note(upload, &branch->spec.id, record);
	else
		json_decref(record);
	return err;
}

static void
note(const Branch *branch, const char *name, json_t *value)
{
	TenantUpload *upload = branch->tenant->upload;

	if (upload != NULL)
		upload_note(upload, &branch->spec.id, json_pack("{s:o}", name, value));
	else
		json_decref(value);
}

void
owner_note_name(const Branch *branch, const char *name)
{
	note(branch, "name", json_string(name));
}

void
owner_note_protected(const Branch *branch, bool is_protected)
{
	note(branch, "protected", is_protected ? json_true() : json_null());
}

void
owner_note_deleted(const Branch *branch, const TrashMark *mark)
{
	note(branch, "deleted", mark != NULL ? json_deleted(mark) : json_null());
}

PsError *
owner_begin_purge(const Branch *branch)
{
	return purged_add(branch->tenant->dir, &branch->spec.id);
}

void
owner_note_purged(const Branch *branch)
{
	if (branch->tenant->upload != NULL)
		upload_note_gone(branch->tenant->upload, &branch->spec.id);
}

void
owner_wait(const Branch *branch, const CancelCheck *cancel)
{
	Store *store = branch->tenant->store;
	PsError *err = NULL;

	if (branch->tenant->upload != NULL)
		err = upload_wait(branch->tenant->upload, &branch->spec.id, store->config->wait_timeout, cancel);
	if (err != NULL)
		ps_log_error(PS_WARNING, err, "branch \"%s\" was changed, but the change is not in object storage yet",
					 branch_name(branch));
}
