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

void
owner_forget(Tenant *tenant)
{
	set_state(tenant, OWNER_NONE, 0, NULL);
}

/*
 * Stops all use of a tenant that another store has taken over, as the error says, which is
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

/* ---- claiming; callers do not hold the lock ---- */

static PsError *
claim(Tenant *tenant, const char *dir, uint64 prepared, bool move_here, const ObjectWait *wait, TenantOwner *owner)
{
	Store *store = tenant->store;
	PsId bucket;

	PS_TRY(store_remote_bucket(store, wait, &bucket));
	return ownership_take(store->remote, &bucket, &tenant->id, dir, &store->identity, prepared, move_here, wait,
						  owner);
}

/* May a tenant whose claim could not be put because of this error be served? */
static bool
may_serve_unclaimed(const Store *store, const PsError *err)
{
	return !store->config->remote_require_ownership && store_remote_is_outage(err);
}

PsError *
owner_begin(Tenant *tenant, const char *dir, bool attach, bool move_here)
{
	Store *store = tenant->store;
	ObjectWait wait = {NULL, clock_now_ms() + CLAIM_TIMEOUT};
	TenantOwnership ownership = OWNER_NONE;
	uint64 generation = 0;
	TenantOwner owner = {0};
	PsError *err = NULL;
	PsError *why = NULL;

	if (store->remote != NULL)
	{
		ownership = OWNER_OWNED;
		/* the bucket may have changed since the start */
		if (attach)
			err = store_remote_check(store, &wait);
		if (err == NULL)
			err = claim(tenant, dir, 0, move_here, &wait, &owner);
		generation = owner.generation;
	}
	if (err != NULL && may_serve_unclaimed(store, err))
	{
		ownership = OWNER_UNCLAIMED;
		why = err;
		err = ownership_prepare(&tenant->id, dir, &store->identity, &generation);
	}
	else if (store->remote == NULL && ownership_exists(dir))
		err = ownership_prepare(&tenant->id, dir, &store->identity, &generation);
	if (err != NULL)
	{
		ps_error_free(why);
		return ps_error_context(err, "could not claim the tenant in object storage");
	}
	pthread_mutex_lock(&store->lock);
	set_state(tenant, ownership, generation, why);
	tenant->owner = owner;
	pthread_mutex_unlock(&store->lock);
	return NULL;
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
 * A tenant that was served without a claim has one now: its branches that are open begin to
 * upload WAL.  Releases Store.lock meanwhile.
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
		if (store->branches[i]->tenant == tenant && store->branches[i]->life == BRANCH_OPEN)
		{
			list[n] = store->branches[i];
			list[n]->users++;
			list[n++]->uses++;
		}
	pthread_mutex_unlock(&store->lock);
	for (int i = 0; i < n; i++)
	{
		PsError *err = branch_begin_upload(list[i], &owner, &fenced);

		if (err != NULL)
			ps_log_error(PS_WARNING, err, "branch \"%s\": WAL is not uploaded before the branch is opened again",
						 branch_name(list[i]));
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

/* Takes over the errors: of the request, and of ownership_prepare() if that was called. */
static void
set_result(Tenant *tenant, PsError *err, const TenantOwner *owner, bool prepared, uint64 generation)
{
	bool waited = tenant->ownership == OWNER_WAITING;
	char id[PS_ID_TEXT];

	ps_id_format(&tenant->id, id);
	if (err != NULL && err->is_cancel)
		ps_error_free(err);
	else if (err != NULL && ps_error_is(err, PS_SQLSTATE_FENCED))
		fence(tenant, err);
	else if (err != NULL)
	{
		/* outages of all tenants together are reported by owner_thread.c */
		if (!store_remote_is_outage(err) && is_news(tenant->owner_error, err))
			ps_log_error(PS_WARNING, ps_error_copy(err), "tenant %s: could not %s in object storage", id,
						 tenant->ownership == OWNER_OWNED ? "check its owner" : "be claimed");
		set_state(tenant, prepared ? OWNER_UNCLAIMED : tenant->ownership, generation, err);
	}
	else if (tenant->ownership == OWNER_OWNED)
		set_state(tenant, OWNER_OWNED, generation, NULL);
	else
	{
		bool was_served = tenant->ownership == OWNER_UNCLAIMED;

		tenant->owner = *owner;
		set_state(tenant, OWNER_OWNED, owner->generation, NULL);
		ps_log(PS_LOG, "tenant %s: claimed in object storage, generation " UINT64_FORMAT, id, owner->generation);
		if (was_served)
			begin_uploads(tenant);
	}
	if (waited && tenant->ownership != OWNER_WAITING && tenant->ownership != OWNER_FENCED)
		note_in_service(tenant);
}

bool
owner_work(Tenant *tenant, int64 deadline)
{
	Store *store = tenant->store;
	CancelCheck cancel = {check_attached, tenant};
	ObjectWait wait = {&cancel, deadline};
	TenantOwnership before = tenant->ownership;
	uint64 generation = tenant->env.owner_generation;
	TenantOwner owner = tenant->owner;
	bool prepared = false;
	bool outage;
	PsError *err;

	tenant->owner_busy = true;
	pthread_mutex_unlock(&store->lock);
	if (before == OWNER_OWNED)
		err = claim_check(&owner, &wait);
	else
		err = claim(tenant, tenant->dir, before == OWNER_UNCLAIMED ? generation : 0, false, &wait, &owner);
	outage = err != NULL && store_remote_is_outage(err);
	if (before == OWNER_WAITING && outage && !err->is_cancel && may_serve_unclaimed(store, err))
	{
		PsError *prepare_err = ownership_prepare(&tenant->id, tenant->dir, &store->identity, &generation);

		prepared = prepare_err == NULL;
		if (!prepared)
		{
			ps_error_free(err);
			err = prepare_err;
		}
	}
	pthread_mutex_lock(&store->lock);
	set_result(tenant, err, &owner, prepared, generation);
	tenant->owner_busy = false;
	pthread_cond_broadcast(&store->changed);
	return !outage;
}
