/*
 * owner.c
 *	  Which tenants this store owns in object storage, and what follows from that.
 *
 * An attached tenant is in service if its claim is in the bucket, or cannot be put there now
 * and remote_require_ownership is off.  owner_thread.c calls owner_work() for each tenant
 * whose claim has to be put or checked.  A tenant that another store has taken over stays in
 * the catalog, out of service, with its files, until it is detached.
 */
#include "ps_fe.h"

#include "sqlstate.h"
#include "store/store_impl.h"
#include "upload/ownership.h"
#include "upload/purged.h"
#include "upload/wal_upload.h"

/* For how long the creation or an attach of a tenant waits for object storage that does not answer, ms. */
#define CLAIM_TIMEOUT 10000

/* ---- the state; callers hold Store.lock ---- */

/* Takes over the error. */
static void
set_state(Tenant *tenant, TenantOwnership ownership, uint64 generation, PsError *err)
{
	tenant->ownership = ownership;
	tenant->env.owner_generation = generation;
	ps_error_free(tenant->owner_error);
	tenant->owner_error = err;
	pthread_cond_broadcast(&tenant->store->changed);
}

/* Begins to tell an upload of changes.  NULL: ends it. */
static void
set_upload(Tenant *tenant, TenantUpload *upload)
{
	tenant->upload = upload;
	tenant->env.changes = upload != NULL ? owner_change_sink(upload) : (ChangeSink) {0};
}

/*
 * Stops all use of a tenant that must not be served here, as the error says, which is
 * taken over.  Releases Store.lock meanwhile.
 */
static void
fence(Tenant *tenant, PsError *err)
{
	Store *store = tenant->store;
	Branch **list = pg_malloc(Max(store->nbranches, 1) * sizeof(Branch *));
	char id[PS_ID_TEXT];
	int n = 0;

	ps_log_error(PS_WARNING, ps_error_copy(err), "tenant %s is out of service", ps_id_format(&tenant->id, id));
	set_state(tenant, OWNER_FENCED, tenant->env.owner_generation, err);
	for (int i = 0; i < store->nbranches; i++)
		if (store->branches[i]->tenant == tenant && store->branches[i]->life == BRANCH_OPEN)
		{
			list[n] = store->branches[i];
			list[n++]->users++;
			timeline_stop(store->branches[i]->open, CANCEL_FENCED);
		}
	pthread_mutex_unlock(&store->lock);
	pthread_mutex_lock(&store->fence_lock);
	for (int i = 0; i < n && store->on_fenced != NULL; i++)
		store->on_fenced(store->on_fenced_arg, list[i]);
	pthread_mutex_unlock(&store->fence_lock);
	pthread_mutex_lock(&store->lock);
	for (int i = 0; i < n; i++)
		catalog_unhold(store, list[i]);
	pthread_cond_signal(&store->idle_wake);
	free(list);
}

void
owner_fenced(void *arg, PsError *err)
{
	Tenant *tenant = arg;

	pthread_mutex_lock(&tenant->store->lock);
	if (tenant->ownership == OWNER_OWNED)
		fence(tenant, err);
	else
		ps_error_free(err);
	pthread_mutex_unlock(&tenant->store->lock);
}

void
store_on_fenced(Store *store, void (*on_fenced)(void *arg, const Branch *branch), void *arg)
{
	pthread_mutex_lock(&store->fence_lock);
	store->on_fenced = on_fenced;
	store->on_fenced_arg = arg;
	pthread_mutex_unlock(&store->fence_lock);
}

void
store_remote_info(Store *store, RemoteInfo *info)
{
	memset(info, 0, sizeof(*info));
	info->url = store->remote != NULL ? object_store_url(store->remote) : "";
	pthread_mutex_lock(&store->lock);
	for (int i = 0; i < store->ntenants; i++)
	{
		const Tenant *tenant = store->tenants[i];
		UploadInfo upload = {0};

		if (tenant->owner_error != NULL && info->error[0] == '\0')
			strlcpy(info->error, tenant->owner_error->message, sizeof(info->error));
		if (tenant->upload == NULL)
			continue;
		upload_info(tenant->upload, &upload);
		info->upload_files += upload.files;
		info->upload_bytes += upload.bytes;
		info->deleting += upload.deleting;
		if (info->error[0] == '\0')
			strlcpy(info->error, upload.error, sizeof(info->error));
	}
	pthread_mutex_unlock(&store->lock);
}

/* ---- claiming; callers do not hold the lock ---- */

/* The upload of a tenant none of whose branches is open.  is_new: it has no branches yet. */
static PsError *
create_upload(Tenant *tenant, bool is_new, TenantUpload **upload)
{
	UploadOptions options = {.tenant = tenant->id,
							 .dir = tenant->dir,
							 .config = &tenant->store->config,
							 .on_failure = owner_fenced,
							 .chain_first_needed = branch_chain_first_needed,
							 .arg = tenant};
	PsError *err = NULL;

	*upload = upload_create(&options);
	if (!is_new)
		err = owner_note_all(tenant, *upload);
	if (err == NULL)
		return NULL;
	upload_free(*upload);
	*upload = NULL;
	return err;
}

/* What claim() needs and returns. */
typedef struct Claiming
{
	uint64 prepared; /* of ownership_prepare(), or 0 */
	bool move_here;
	bool is_new;
	TenantUpload *upload; /* which is there already; on return which has begun */
	TenantOwner owner;
	bool older; /* the error is final: see upload_begin() */
} Claiming;

static PsError *
begin_upload(Tenant *tenant, TenantUpload *upload, const ObjectWait *wait, Claiming *c)
{
	PsId *purged;
	int n;
	PsError *err;

	PS_TRY(purged_read(tenant->dir, &purged, &n));
	err = upload_begin(upload, &c->owner, purged, &n, wait, &c->older);
	if (err == NULL && n > 0)
	{
		/* if this fails, the file says more than it must */
		PsError *forget_err = purged_forget(tenant->dir, purged, n);

		if (forget_err != NULL)
			ps_log_error(PS_WARNING, forget_err, "a list of removed branches could not be shortened");
	}
	free(purged);
	return err;
}

static PsError *
claim(Tenant *tenant, const char *dir, const ObjectWait *wait, Claiming *c)
{
	Store *store = tenant->store;
	TenantUpload *created = NULL;
	PsId bucket;
	PsError *err;

	PS_TRY(store_remote_bucket(store, wait, &bucket));
	PS_TRY(ownership_take(store->remote, &bucket, &tenant->id, dir, &store->identity, c->prepared, c->move_here, wait,
						  &c->owner));
	if (c->upload == NULL)
		PS_TRY(create_upload(tenant, c->is_new, &created));
	err = begin_upload(tenant, created != NULL ? created : c->upload, wait, c);
	if (err == NULL && created != NULL)
		c->upload = created;
	else
		upload_free(created);
	return err;
}

/* Prepares a tenant for being served before it can be claimed. */
static PsError *
prepare(Tenant *tenant, const char *dir, Claiming *c)
{
	PS_TRY(ownership_prepare(&tenant->id, dir, &tenant->store->identity, &c->prepared));
	return create_upload(tenant, c->is_new, &c->upload);
}

/* May a tenant whose claim could not be put because of this error be served? */
static bool
may_serve_unclaimed(const Store *store, const PsError *err)
{
	return !store->config->remote_require_ownership && store_remote_is_outage(err);
}

/* Without object storage: what is written now must not have numbers that another owner of the tenant may use. */
static PsError *
keep_numbers_apart(Tenant *tenant, const char *dir)
{
	uint64 generation;

	if (!ownership_exists(dir))
		return NULL;
	PS_TRY(ownership_prepare(&tenant->id, dir, &tenant->store->identity, &generation));
	pthread_mutex_lock(&tenant->store->lock);
	set_state(tenant, OWNER_NONE, generation, NULL);
	pthread_mutex_unlock(&tenant->store->lock);
	return NULL;
}

PsError *
owner_begin(Tenant *tenant, const char *dir, bool attach, bool move_here)
{
	Store *store = tenant->store;
	ObjectWait wait = {NULL, clock_now_ms() + CLAIM_TIMEOUT};
	Claiming c = {.move_here = move_here, .is_new = !attach};
	PsError *err = NULL;
	PsError *why = NULL;

	if (store->remote == NULL)
		return keep_numbers_apart(tenant, dir);
	/* the bucket may have changed since the start */
	if (attach)
		err = store_remote_check(store, &wait);
	if (err == NULL)
		err = claim(tenant, dir, &wait, &c);
	if (err != NULL && may_serve_unclaimed(store, err))
	{
		why = err;
		err = prepare(tenant, dir, &c);
	}
	if (err != NULL)
	{
		ps_error_free(why);
		return ps_error_context(err, "could not claim the tenant in object storage");
	}
	pthread_mutex_lock(&store->lock);
	set_upload(tenant, c.upload);
	tenant->owner = c.owner;
	if (why != NULL)
		set_state(tenant, OWNER_UNCLAIMED, c.prepared, why);
	else
		set_state(tenant, OWNER_OWNED, c.owner.generation, NULL);
	pthread_mutex_unlock(&store->lock);
	return NULL;
}

void
owner_forget(Tenant *tenant)
{
	TenantUpload *upload;

	pthread_mutex_lock(&tenant->store->lock);
	upload = tenant->upload;
	set_upload(tenant, NULL);
	pthread_mutex_unlock(&tenant->store->lock);
	/* its thread may be telling that another store has taken over */
	upload_free(upload);
	pthread_mutex_lock(&tenant->store->lock);
	set_state(tenant, OWNER_NONE, 0, NULL);
	pthread_mutex_unlock(&tenant->store->lock);
}

/* Cancels requests for a tenant that is not attached any more. */
static PsError *
check_attached(void *arg)
{
	const Tenant *tenant = arg;
	Store *store = tenant->store;
	char id[PS_ID_TEXT];
	CancelReason reason = CANCEL_NONE;

	pthread_mutex_lock(&store->lock);
	if (atomic_load(&store->stopping))
		reason = CANCEL_STORE_STOPPING;
	else if (tenant->life != TENANT_ATTACHED)
		reason = CANCEL_TENANT_DETACHED;
	pthread_mutex_unlock(&store->lock);
	return cancel_error(reason, ps_id_format(&tenant->id, id));
}

/* Does an error say something else than the one before? */
static bool
is_news(const PsError *before, const PsError *err)
{
	return before == NULL || strcmp(before->message, err->message) != 0;
}

/* A tenant is in service now: does what had to wait for that. */
static void
note_in_service(Tenant *tenant)
{
	Store *store = tenant->store;

	for (int i = 0; i < store->nbranches && store->upkeep != NULL; i++)
		if (store->branches[i]->tenant == tenant)
			upkeep_wake(store->upkeep, store->branches[i]);
}

/*
 * Branches that were opened without a claim, or while object storage did not answer, begin to
 * upload WAL.  May release Store.lock meanwhile.
 */
static void
begin_uploads(Tenant *tenant)
{
	Store *store = tenant->store;
	TenantOwner owner = tenant->owner;
	WalUploadFenced fenced = {owner_fenced, tenant};
	Branch **list = pg_malloc(Max(store->nbranches, 1) * sizeof(Branch *));
	int n = 0;

	for (int i = 0; i < store->nbranches; i++)
		if (store->branches[i]->tenant == tenant && store->branches[i]->life == BRANCH_OPEN &&
			!wal_upload_is_started(store->branches[i]->upload))
		{
			list[n] = store->branches[i];
			list[n]->users++;
			list[n++]->uses++;
		}
	if (n == 0)
	{
		free(list);
		return;
	}
	pthread_mutex_unlock(&store->lock);
	for (int i = 0; i < n; i++)
	{
		PsError *err = branch_begin_upload(list[i], &owner, &fenced);

		if (err != NULL)
			wal_remote_set_error(list[i]->open, err->message);
		else
			ps_log(PS_LOG, "branch \"%s\": WAL is uploaded", branch_name(list[i]));
		ps_error_free(err);
	}
	pthread_mutex_lock(&store->lock);
	for (int i = 0; i < n; i++)
	{
		list[i]->uses--;
		catalog_unhold(store, list[i]);
	}
	pthread_cond_broadcast(&store->changed);
	free(list);
}

/* Takes over the error.  prepared: the tenant is served without a claim from now on. */
static void
set_result(Tenant *tenant, PsError *err, const Claiming *c, bool prepared)
{
	bool waited = tenant->ownership == OWNER_WAITING;
	char id[PS_ID_TEXT];

	ps_id_format(&tenant->id, id);
	if (tenant->upload == NULL && c->upload != NULL)
		set_upload(tenant, c->upload);
	if (err != NULL && err->is_cancel)
		ps_error_free(err);
	else if (err != NULL && (c->older || ps_error_is(err, PS_SQLSTATE_FENCED)))
		fence(tenant, err);
	else if (err != NULL)
	{
		/* outages are reported by owner_thread.c, for all tenants together */
		if (!store_remote_is_outage(err) && is_news(tenant->owner_error, err))
			ps_log_error(PS_WARNING, ps_error_copy(err), "tenant %s: could not %s in object storage", id,
						 tenant->ownership == OWNER_OWNED ? "check its owner" : "be claimed");
		if (prepared)
			set_state(tenant, OWNER_UNCLAIMED, c->prepared, err);
		else
			set_state(tenant, tenant->ownership, tenant->env.owner_generation, err);
	}
	else if (tenant->ownership == OWNER_OWNED)
	{
		set_state(tenant, OWNER_OWNED, tenant->env.owner_generation, NULL);
		begin_uploads(tenant);
	}
	else if (tenant->ownership != OWNER_FENCED)
	{
		tenant->owner = c->owner;
		set_state(tenant, OWNER_OWNED, c->owner.generation, NULL);
		ps_log(PS_LOG, "tenant %s: claimed in object storage, generation " UINT64_FORMAT, id, c->owner.generation);
		begin_uploads(tenant);
	}
	if (waited && (tenant->ownership == OWNER_OWNED || tenant->ownership == OWNER_UNCLAIMED))
		note_in_service(tenant);
}

bool
owner_work(Tenant *tenant, int64 deadline)
{
	Store *store = tenant->store;
	CancelCheck cancel = {check_attached, tenant};
	ObjectWait wait = {&cancel, deadline};
	TenantOwnership before = tenant->ownership;
	Claiming c = {.upload = tenant->upload, .owner = tenant->owner};
	bool prepared = false;
	bool outage;
	PsError *err;

	if (before == OWNER_UNCLAIMED)
		c.prepared = tenant->env.owner_generation;
	tenant->owner_busy = true;
	pthread_mutex_unlock(&store->lock);
	err = before == OWNER_OWNED ? claim_check(&c.owner, &wait) : claim(tenant, tenant->dir, &wait, &c);
	outage = err != NULL && store_remote_is_outage(err);
	if (before == OWNER_WAITING && outage && !err->is_cancel && may_serve_unclaimed(store, err))
	{
		PsError *prepare_err = prepare(tenant, tenant->dir, &c);

		prepared = prepare_err == NULL;
		if (!prepared)
		{
			ps_error_free(err);
			err = prepare_err;
		}
	}
	pthread_mutex_lock(&store->lock);
	set_result(tenant, err, &c, prepared);
	tenant->owner_busy = false;
	pthread_cond_broadcast(&store->changed);
	return !outage;
}
