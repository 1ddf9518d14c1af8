/*
 * attach_remote.c
 *	  Attaching a tenant of which the store has no directory: the directory is made from
 *	  object storage.
 *
 * The order of the steps is what keeps two stores from having the tenant:
 *
 *	1. The newest entry of the tenant's log says whether its owner has released it.
 *	2. The tenant is claimed, with a directory in STORE/tmp that has the claim.  From now on
 *	   entries of owners before do not count.
 *	3. The log is read again, and its state is appended as an entry of this claim, which says
 *	   that the tenant is released: nobody serves it yet, so any store may attach it.
 *	4. The directory gets what the state says: manifests and marks, but no layer file and no
 *	   WAL.  These are fetched when they are needed (LayerSpace.source, upload/wal_restore.h).
 *	5. It is marked as detached, synced, and renamed to its place.
 *
 * After that it is a detached tenant like any other, and attach.c claims it again when it
 * attaches it.  A crash leaves a directory in STORE/tmp, which the next start removes, and
 * perhaps a claim, which keeps nobody from attaching the tenant.
 */
#include "ps_fe.h"

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bucket/tenant_log.h"
#include "sqlstate.h"
#include "store/store_impl.h"
#include "upload/ownership.h"

/* How long the first requests, and each later step, wait for object storage that does not answer, ms. */
#define FIRST_TIMEOUT 10000
#define STEP_TIMEOUT  60000

/* ---- may the tenant be attached? ---- */

static PsError *
not_there_error(const Tenant *tenant)
{
	Store *store = tenant->store;
	char id[PS_ID_TEXT];

	ps_id_format(&tenant->id, id);
	if (store->remote == NULL)
		return ps_error_hint(ps_error(PS_SQLSTATE_NOT_FOUND, "there is no tenant %s, nor a directory \"%s\"", id,
									  tenant->dir),
							 "Copy the tenant's directory there first, under its own name.");
	return ps_error_hint(ps_error(PS_SQLSTATE_NOT_FOUND, "there is no tenant %s, neither in \"%s\" nor in \"%s\"", id,
								  tenant->dir, object_store_url(store->remote)),
						 "\"pageserver_ctl remote check\" shows the tenants in object storage.");
}

static void
format_time(char out[64], int64 seconds)
{
	time_t t = seconds;
	struct tm tm;

	strftime(out, 64, "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&t, &tm));
}

static PsError *
owned_error(const Tenant *tenant, const Claim *owner, const LogEntryInfo *newest)
{
	char id[PS_ID_TEXT];
	char since[64];
	char last[64];
	PsError *err;

	format_time(since, owner->time);
	format_time(last, newest->time / 1000);
	err = ps_error(PS_SQLSTATE_STATE, "tenant %s belongs to store \"%s\" on host \"%s\"",
				   ps_id_format(&tenant->id, id), owner->path, owner->host);
	ps_error_detail(err, "It has the tenant since %s; the last change in object storage is of %s.", since, last);
	return ps_error_hint(
		err, "Detach the tenant there.  If that store is lost: pageserver_ctl tenant attach --force %s", id);
}

/* Is a branch of the state called like one that is here?  attach.c checks that again. */
static PsError *
check_names(Tenant *tenant, const LogChange *state)
{
	Store *store = tenant->store;
	const char *id;
	json_t *record;
	char a[PS_ID_TEXT];
	char b[PS_ID_TEXT];
	PsError *err = NULL;

	pthread_mutex_lock(&store->lock);
	json_object_foreach(json_object_get(state->json, "timelines"), id, record)
	{
		const char *name = json_string_value(json_object_get(record, "name"));
		const Branch *other = name != NULL ? catalog_find_branch(store, name) : NULL;

		if (other == NULL || json_object_get(record, "deleted") != NULL)
			continue;
		err = ps_error_hint(ps_error(PS_SQLSTATE_EXISTS, "tenant %s has a branch \"%s\", as tenant %s has",
									 ps_id_format(&tenant->id, a), name, ps_id_format(&other->tenant->id, b)),
							"Rename that one: pageserver_ctl branch rename %s NEW_NAME", name);
		break;
	}
	pthread_mutex_unlock(&store->lock);
	return err;
}

/* Before the claim.  Returns the claim that it is to replace. */
static PsError *
check_attachable(Tenant *tenant, bool force, const ObjectWait *wait, Claim *owner)
{
	ObjectStore *remote = tenant->store->remote;
	char id[PS_ID_TEXT];
	LogEntryInfo newest;
	LogChange state;
	bool found;
	PsError *err = NULL;

	ps_id_format(&tenant->id, id);
	PS_TRY(claim_newest(remote, &tenant->id, wait, owner, &found));
	if (!found)
		return not_there_error(tenant);
	PS_TRY(tenant_log_read(remote, &tenant->id, owner->generation + 1, wait, &newest, &state));
	if (newest.generation == 0)
		err = ps_error(PS_SQLSTATE_NOT_FOUND, "tenant %s was claimed in object storage, but was never uploaded", id);
	else if (newest.flags & LOG_DELETED)
		err = ps_error(PS_SQLSTATE_NOT_FOUND, "tenant %s does not exist any more, it was deleted", id);
	else if (!(newest.flags & LOG_RELEASED) && !force)
		err = owned_error(tenant, owner, &newest);
	else
		err = check_names(tenant, &state);
	log_change_free(&state);
	return err;
}

/* ---- the directory ---- */

/* The mark of a branch in the trash.  How old it is by this store's clock is unknown: trash_interval begins now. */
static PsError *
write_trash_mark(Store *store, const char *dir, const json_t *deleted)
{
	const char *by = json_string_value(json_array_get(deleted, 1));
	TrashMark mark;
	Outcome outcome;

	trash_mark_make(&mark, store->clock, by != NULL ? by : "nobody knows");
	mark.when = json_integer_value(json_array_get(deleted, 0));
	return trash_mark_write(dir, store->clock, &mark, &outcome);
}

/* Creates the directory of a timeline.  *m: its manifest, to be freed also after an error. */
static PsError *
build_timeline(const Tenant *tenant, const char *timelines, const char *id_text, const json_t *record, Manifest *m)
{
	char *dir = psprintf("%s/%s", timelines, id_text);
	char *layers = psprintf("%s/layers", dir);
	const json_t *deleted = json_object_get(record, "deleted");
	PsId id;
	PsError *err = NULL;

	if (!manifest_parse_body(record, m) || !ps_id_parse(id_text, &id) || !ps_id_equal(&m->timeline, &id) ||
		!ps_id_equal(&m->tenant, &tenant->id))
	{
		err = ps_error(PS_SQLSTATE_CORRUPTED, "the record of timeline %s in object storage is not valid", id_text);
		goto done;
	}
	PS_GOTO(fs_make_dir(dir), done);
	PS_GOTO(fs_make_dir(layers), done);
	PS_GOTO(manifest_write_new(dir, m, false), done);
	if (json_is_true(json_object_get(record, "protected")))
		PS_GOTO(protect_mark_set(dir, true), done);
	if (deleted != NULL)
		err = write_trash_mark(tenant->store, dir, deleted);

done:
	pfree(dir);
	pfree(layers);
	return err;
}

/* Completes the directory in STORE/tmp, all of it durable. */
static PsError *
build_tenant(Tenant *tenant, const char *dir, const LogChange *state)
{
	char *timelines = psprintf("%s/timelines", dir);
	char *mark = psprintf("%s/detached", dir);
	const char *id;
	json_t *unused;
	PsError *err;

	PS_GOTO(fs_make_dir(timelines), done);
	json_object_foreach(json_object_get(state->json, "timelines"), id, unused)
	{
		json_t *record = log_change_timeline(state, id);
		Manifest m = {0};

		err = build_timeline(tenant, timelines, id, record, &m);
		tenant->system_identifier = m.system_identifier;
		tenant->segment_size = m.segment_size;
		manifest_free(&m);
		json_decref(record);
		if (err != NULL)
			goto done;
	}
	if (tenant->segment_size == 0)
	{
		err = ps_error(PS_SQLSTATE_CORRUPTED, "the tenant has no branch in object storage");
		goto done;
	}
	PS_GOTO(tenant_write(tenant, dir), done);
	PS_GOTO(fs_set_mark(mark, true), done);
	err = fs_sync_new_tree(dir);

done:
	pfree(timelines);
	pfree(mark);
	return err;
}

/* ---- attaching ---- */

/*
 * Takes over the log: what it says now is what the tenant is, whatever owners before still
 * append.  Entries that this one replaces stay: the upload of the tenant, or a search for
 * objects that are not needed, finds them.
 */
static PsError *
take_log(const TenantOwner *owner, Deleter *deleter, TenantLog **log)
{
	ObjectWait wait = {NULL, clock_now_ms() + STEP_TIMEOUT};
	LogEntryInfo newest;
	PsError *err;

	PS_TRY(tenant_log_open(owner, deleter, &wait, log, &newest));
	if (newest.flags & LOG_DELETED)
		err = ps_error(PS_SQLSTATE_NOT_FOUND, "the tenant was deleted meanwhile");
	else
		err = tenant_log_append(*log, NULL, LOG_RELEASED, &wait);
	if (err != NULL)
	{
		tenant_log_close(*log);
		*log = NULL;
	}
	return err;
}

/* Steps 2 to 5: see above.  "dir" exists and is empty. */
static PsError *
take_over(Tenant *tenant, const char *dir, const Claim *owner_before)
{
	Store *store = tenant->store;
	ObjectWait wait = {NULL, clock_now_ms() + STEP_TIMEOUT};
	Deleter *deleter = deleter_create(store->remote, 0);
	TenantLog *log = NULL;
	TenantOwner owner;
	PsId bucket;
	PsError *err;

	PS_GOTO(store_remote_bucket(store, &wait, &bucket), done);
	PS_GOTO(ownership_take_over(store->remote, &bucket, &tenant->id, dir, &store->identity, owner_before, &wait,
								&owner),
			done);
	PS_GOTO(take_log(&owner, deleter, &log), done);
	PS_GOTO(build_tenant(tenant, dir, tenant_log_state(log)), done);
	if (rename(dir, tenant->dir) != 0)
		err = ps_error(ps_errno_state(), "could not rename \"%s\" to \"%s\": %m", dir, tenant->dir);
	else
		err = fs_sync_parent(tenant->dir);

done:
	tenant_log_close(log);
	deleter_free(deleter);
	return err;
}

PsError *
attach_fetch_tenant(Store *store, const PsId *id, bool force)
{
	ObjectWait wait = {NULL, clock_now_ms() + FIRST_TIMEOUT};
	Tenant *tenant = tenant_alloc(store, id);
	char text[PS_ID_TEXT];
	char *dir = psprintf("%s/tmp/attach-%s", store->config->store_dir, ps_id_format(id, text));
	Claim owner;
	PsError *err = NULL;

	/* of two threads that attach the tenant, one creates the directory */
	if (mkdir(dir, 0700) != 0)
	{
		err = errno == EEXIST ? ps_error(PS_SQLSTATE_STATE, "tenant %s is being attached", text)
							  : ps_error(ps_errno_state(), "could not create directory \"%s\": %m", dir);
		goto done;
	}
	/* the other one may have finished before */
	if (access(tenant->dir, F_OK) != 0)
	{
		if (store->remote == NULL)
			err = not_there_error(tenant);
		else
			err = store_remote_check(store, &wait);
		if (err == NULL)
			err = check_attachable(tenant, force, &wait, &owner);
		if (err == NULL)
			err = take_over(tenant, dir, &owner);
	}
	if (access(dir, F_OK) == 0)
		(void) rmtree(dir, true);

done:
	tenant_free(tenant);
	pfree(dir);
	return err;
}
