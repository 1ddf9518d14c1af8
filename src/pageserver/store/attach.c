/*
 * attach.c
 *	  Tenants that are taken out of a store, and put in, while it runs.
 *
 * A file "detached" in a tenant's directory says that it is not served; it is
 * durable before anybody is turned away, and goes when the tenant has been found
 * to fit.  So a crash leaves the tenant as it was, or as it was to be.  What a
 * detached tenant's directory holds is nobody's business meanwhile: it may be
 * copied, moved to another store, come back.
 */
#include "ps_fe.h"

#include <sys/stat.h>
#include <unistd.h>

#include "sqlstate.h"
#include "base/fs.h"
#include "store/store_impl.h"

/* ---- the mark ---- */

static char *
mark_path(const Tenant *tenant)
{
	return psprintf("%s/detached", tenant->dir);
}

bool
tenant_is_marked_detached(const Tenant *tenant)
{
	char *path = mark_path(tenant);
	bool marked = access(path, F_OK) == 0;

	pfree(path);
	return marked;
}

/* Makes the mark, or removes it, durably. */
static PsError *
set_mark(const Tenant *tenant, bool detached)
{
	char *path = mark_path(tenant);
	PsError *err = fs_set_mark(path, detached);

	pfree(path);
	return err;
}

/* After an error, which is returned: the mark is as it was before, or the error says that the next start may not do as this one. */
static PsError *
undo_mark(const Tenant *tenant, bool detached, PsError *err)
{
	char id[PS_ID_TEXT];
	PsError *undo = set_mark(tenant, detached);

	if (undo == NULL)
		return err;
	ps_error_free(undo);
	return ps_error_unknown(err, "Tenant %s is %s now, but may be %s after a restart.", ps_id_format(&tenant->id, id),
							detached ? "detached" : "attached", detached ? "attached" : "detached");
}

PsError *
tenant_mark_detached(const Tenant *tenant)
{
	return set_mark(tenant, true);
}

/* ---- names: a tenant is called by its id, or by any of its branches ---- */

/* Caller holds Store.lock. */
static Tenant *
tenant_by_id(Store *store, const PsId *id)
{
	for (int i = 0; i < store->ntenants; i++)
		if (ps_id_equal(&store->tenants[i]->id, id))
			return store->tenants[i];
	return NULL;
}

static PsError *
no_such_tenant(const char *name)
{
	return ps_error_hint(ps_error(PS_SQLSTATE_NOT_FOUND, "tenant \"%s\" does not exist", name),
						 "A tenant is named by its id, or by one of its branches; \"pageserver_ctl tenant list\" shows them.");
}

PsError *
tenant_detached_error(const Tenant *tenant)
{
	char id[PS_ID_TEXT];

	if (tenant->deleted)
		return ps_error_hint(ps_error(PS_SQLSTATE_NOT_FOUND, "tenant %s is deleted", ps_id_format(&tenant->id, id)),
							 "\"pageserver_ctl tenant undelete %s\" brings it back.", id);
	return ps_error_hint(ps_error(PS_SQLSTATE_TRY_AGAIN, "tenant %s is detached", ps_id_format(&tenant->id, id)),
						 "\"pageserver_ctl tenant attach %s\" brings it back.", id);
}

static PsError *
being_changed(const Tenant *tenant)
{
	char id[PS_ID_TEXT];

	return ps_error(PS_SQLSTATE_STATE, "tenant %s is being detached or attached", ps_id_format(&tenant->id, id));
}

/* ---- detaching ---- */

static bool
is_settled(const Store *store, const Tenant *tenant)
{
	for (int i = 0; i < store->nbranches; i++)
	{
		const Branch *branch = store->branches[i];

		if (branch->tenant == tenant && (branch->life == BRANCH_OPENING || branch->life == BRANCH_CLOSING || branch->changing))
			return false;
	}
	for (const Reservation *r = store->reservations; r != NULL; r = r->next)
		if (r->tenant == tenant)
			return false;
	return true;
}

/*
 * Until nobody opens, closes or changes any of its timelines, or makes another.
 * Caller holds Store.lock, which is let go meanwhile.
 */
static PsError *
wait_settled(Store *store, const Tenant *tenant, const CancelCheck *cancel)
{
	CancelWait wait = {.cancel = cancel};

	while (!is_settled(store, tenant))
		PS_TRY(store_wait(store, &wait));
	return NULL;
}

static int
depth_of(const Branch *branch)
{
	int depth = 0;

	for (; branch->ancestor != NULL; branch = branch->ancestor)
		depth++;
	return depth;
}

/* What begins in others first. */
static int
by_depth(const void *a, const void *b)
{
	return depth_of(*(Branch *const *) b) - depth_of(*(Branch *const *) a);
}

PsError *
store_begin_detach(Store *store, const char *name, const CancelCheck *cancel, Tenant **result, Branch ***timelines, int *n)
{
	Tenant *tenant = NULL;
	Branch *branch;
	PsId id;
	PsError *err;

	pthread_mutex_lock(&store->lock);
	/* what is in memory alone would be lost */
	err = store_save_names(store, cancel);
	if (err != NULL)
	{
		pthread_mutex_unlock(&store->lock);
		return err;
	}
	if (ps_id_parse(name, &id))
		tenant = tenant_by_id(store, &id);
	if (tenant == NULL && (branch = store_named(store, name)) != NULL)
		tenant = branch->tenant;
	if (tenant == NULL || tenant->life != TENANT_ATTACHED)
	{
		err = tenant == NULL ? no_such_tenant(name) : tenant_detached_error(tenant);
		pthread_mutex_unlock(&store->lock);
		return err;
	}

	/* from here on nobody begins to use it */
	tenant->life = TENANT_CHANGING;
	pthread_mutex_unlock(&store->lock);
	err = set_mark(tenant, true);
	pthread_mutex_lock(&store->lock);
	if (err == NULL)
		err = wait_settled(store, tenant, cancel);
	if (err != NULL)
	{
		pthread_mutex_unlock(&store->lock);
		/* it may be there in spite of the error */
		err = undo_mark(tenant, false, err);
		pthread_mutex_lock(&store->lock);
		tenant->life = TENANT_ATTACHED;
		pthread_mutex_unlock(&store->lock);
		return err;
	}
	*timelines = pg_malloc(Max(store->nbranches, 1) * sizeof(Branch *));
	*n = 0;
	for (int i = 0; i < store->nbranches; i++)
		if (store->branches[i]->tenant == tenant)
			(*timelines)[(*n)++] = store->branches[i];
	for (int i = 0; i < *n; i++)
	{
		store_forget(store, (*timelines)[i]);
		if ((*timelines)[i]->life == BRANCH_OPEN)
			timeline_stop((*timelines)[i]->open, CANCEL_TENANT_DETACHED);
	}
	pthread_mutex_unlock(&store->lock);
	qsort(*timelines, *n, sizeof(Branch *), by_depth);
	*result = tenant;
	return NULL;
}

void
store_end_detach(Store *store, Tenant *tenant, Branch **timelines, int n)
{
	pthread_mutex_lock(&store->lock);
	for (int i = 0; i < n; i++)
		store_free_branch(store, timelines[i]);
	tenant_unclaim(tenant);
	tenant->life = TENANT_DETACHED;
	pthread_mutex_unlock(&store->lock);
	free(timelines);
}

/* ---- attaching ---- */

/* The id of a detached tenant, in the trash or not, one of whose branches has the name. */
static bool
find_detached(Store *store, const char *name, bool deleted, PsId *id)
{
	PsId *ids;
	int n = 0;
	bool found = false;

	pthread_mutex_lock(&store->lock);
	ids = pg_malloc(Max(store->ntenants, 1) * sizeof(PsId));
	for (int i = 0; i < store->ntenants; i++)
		if (store->tenants[i]->life == TENANT_DETACHED && store->tenants[i]->deleted == deleted)
			ids[n++] = store->tenants[i]->id;
	pthread_mutex_unlock(&store->lock);
	for (int i = 0; i < n && !found; i++)
	{
		Tenant *tenant = tenant_alloc(store, &ids[i]);
		int nbranches;

		tenant_read_names(tenant, NULL, &nbranches, name, &found);
		*id = ids[i];
		tenant_free(tenant);
	}
	free(ids);
	return found;
}

PsError *
tenant_begin_change(Store *store, const char *name, bool deleted, Tenant **result)
{
	char text[PS_ID_TEXT];
	Tenant *tenant;
	PsId id;
	PsError *err = NULL;

	if (!ps_id_parse(name, &id) && !find_detached(store, name, deleted, &id))
		return no_such_tenant(name);
	pthread_mutex_lock(&store->lock);
	tenant = tenant_by_id(store, &id);
	if (tenant == NULL || (tenant->life == TENANT_DETACHED && deleted && !tenant->deleted))
		err = no_such_tenant(name);
	else if (tenant->life == TENANT_CHANGING)
		err = being_changed(tenant);
	else if (tenant->life == TENANT_ATTACHED)
		err = ps_error(PS_SQLSTATE_STATE, "tenant %s is attached", ps_id_format(&id, text));
	else if (tenant->deleted != deleted)
		err = tenant_detached_error(tenant);
	else if (deleted)
		err = trash_mark_check(&tenant->trash_mark, tenant->dir);
	if (err == NULL)
	{
		tenant->life = TENANT_CHANGING;
		*result = tenant;
	}
	pthread_mutex_unlock(&store->lock);
	return err;
}

/*
 * A tenant of which the store does not know yet: is there a directory, and may
 * it be attached?  Holds no lock.
 */
static PsError *
look_at_directory(Tenant *tenant, bool force)
{
	char id[PS_ID_TEXT];

	if (access(tenant->dir, F_OK) != 0)
		return ps_error_hint(ps_error(PS_SQLSTATE_NOT_FOUND, "there is no tenant %s, nor a directory \"%s\": %m", ps_id_format(&tenant->id, id), tenant->dir),
							 "Copy the tenant's directory there first, under its own name.");
	PS_TRY(trash_mark_read(tenant->dir, tenant->store->clock, &tenant->trash_mark, &tenant->deleted));
	if (force || tenant->deleted || tenant_is_marked_detached(tenant))
		return NULL;
	return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "\"%s\" is a copy of a tenant that was in service when it was made", tenant->dir),
						 "Both copies would continue the same WAL. Detach the tenant in the store that it comes from, and copy it again; or, if that store no longer exists: pageserver_ctl tenant attach --force %s",
						 ps_id_format(&tenant->id, id));
}

/* Puts a tenant into the store, DETACHED, if it does not know it: one whose directory was put there. */
static PsError *
take_in(Store *store, const PsId *id, bool force)
{
	Tenant *tenant;
	bool known;
	PsError *err;

	pthread_mutex_lock(&store->lock);
	known = tenant_by_id(store, id) != NULL;
	pthread_mutex_unlock(&store->lock);
	if (known)
		return NULL;
	tenant = tenant_alloc(store, id);
	tenant->life = TENANT_DETACHED;
	err = look_at_directory(tenant, force);
	pthread_mutex_lock(&store->lock);
	/* others may do the same */
	known = tenant_by_id(store, id) != NULL;
	if (err == NULL && !known)
		store_put_tenant(store, tenant);
	pthread_mutex_unlock(&store->lock);
	if (err != NULL || known)
		tenant_free(tenant);
	return err;
}

/* A tenant in the store, CHANGING: one that was detached, or a directory that was put there. */
static PsError *
begin_attach(Store *store, const PsId *id, bool force, Tenant **result)
{
	char text[PS_ID_TEXT];
	Tenant *tenant;
	PsError *err = NULL;

	PS_TRY(take_in(store, id, force));
	pthread_mutex_lock(&store->lock);
	tenant = tenant_by_id(store, id);
	if (tenant == NULL)
		err = no_such_tenant(ps_id_format(id, text)); /* purged meanwhile */
	else if (tenant->life == TENANT_ATTACHED)
		err = ps_error(PS_SQLSTATE_EXISTS, "tenant %s is attached already", ps_id_format(id, text));
	else if (tenant->life == TENANT_CHANGING)
		err = being_changed(tenant);
	else if (tenant->deleted)
		err = tenant_detached_error(tenant);
	if (err == NULL)
	{
		tenant->life = TENANT_CHANGING;
		*result = tenant;
	}
	pthread_mutex_unlock(&store->lock);
	return err;
}

static int
by_name(const void *a, const void *b)
{
	const Branch *x = *(Branch *const *) a;
	const Branch *y = *(Branch *const *) b;

	/* those in the trash last, whatever names they have */
	if (x->in_trash != y->in_trash)
		return x->in_trash - y->in_trash;
	return strcmp(branch_name(x), branch_name(y));
}

/* Names of branches are those of the whole store.  Sorts the timelines by them.  Caller holds Store.lock. */
static PsError *
check_names(Store *store, const Tenant *tenant, Branch **timelines, int n)
{
	store_drop_old_names(timelines, n);
	qsort(timelines, n, sizeof(Branch *), by_name);
	for (int i = 1; i < n; i++)
		if (!timelines[i]->in_trash && !timelines[i - 1]->in_trash &&
			branch_name(timelines[i])[0] != '\0' && strcmp(branch_name(timelines[i - 1]), branch_name(timelines[i])) == 0)
			return ps_error_hint(ps_error(PS_SQLSTATE_CORRUPTED, "two branches have the name \"%s\": \"%s\" and \"%s\"", branch_name(timelines[i]),
										  timelines[i - 1]->spec.dir, timelines[i]->spec.dir),
								 "The store that it comes from was killed while it replaced one by the other. Start and stop that store, then copy the directory again.");
	for (int i = 0; i < n; i++)
	{
		const Branch *other = store_named(store, branch_name(timelines[i]));
		char a[PS_ID_TEXT];
		char b[PS_ID_TEXT];

		if (timelines[i]->in_trash)
			continue;
		if (other != NULL && timelines[i]->life == BRANCH_BROKEN)
		{
			store_drop_name(timelines[i]);
			continue;
		}
		if (other == NULL && store_is_reserved(store, branch_name(timelines[i])))
			return ps_error(PS_SQLSTATE_EXISTS, "tenant %s has a branch \"%s\", and another is being created", ps_id_format(&tenant->id, a),
							branch_name(timelines[i]));
		if (other == NULL)
			continue;
		return ps_error_hint(ps_error(PS_SQLSTATE_EXISTS, "tenant %s has a branch \"%s\", as tenant %s has", ps_id_format(&tenant->id, a), branch_name(other),
									  ps_id_format(&other->tenant->id, b)),
							 "Rename that one: pageserver_ctl branch rename %s NEW_NAME", branch_name(other));
	}
	return NULL;
}

/* Caller holds Store.lock, which is let go meanwhile; the names are reserved then. */
static PsError *
put_in_store(Store *store, Tenant *tenant, Branch **timelines, int n)
{
	Reservation *names;
	PsError *err;

	if (n == 0)
		return ps_error(PS_SQLSTATE_INVALID, "there is no branch in \"%s/timelines\"", tenant->dir);
	if (atomic_load(&store->stopping))
		return cancel_error(CANCEL_STORE_STOPPING, NULL);
	PS_TRY(check_names(store, tenant, timelines, n));
	names = pg_malloc0(n * sizeof(Reservation));
	for (int i = 0; i < n; i++)
	{
		names[i].name = timelines[i]->in_trash ? "" : branch_name(timelines[i]);
		store_reserve(store, &names[i]);
	}
	pthread_mutex_unlock(&store->lock);
	err = set_mark(tenant, false);
	/* it may be gone in spite of the error, and the next start would serve the tenant */
	if (err != NULL)
		err = undo_mark(tenant, true, err);
	pthread_mutex_lock(&store->lock);
	for (int i = 0; i < n; i++)
		store_unreserve(store, &names[i]);
	free(names);
	if (err != NULL)
		return err;
	for (int i = 0; i < n; i++)
		store_put_branch(store, timelines[i]);
	tenant->life = TENANT_ATTACHED;
	return NULL;
}

/*
 * What was copied there may be in memory alone, and the copy that it was made
 * of may go as soon as this one is served.
 */
static PsError *
sync_tenant(const Tenant *tenant)
{
	PsError *err = fs_sync_new_tree(tenant->dir);

	if (err == NULL)
		err = fs_sync_parent(tenant->dir);
	return err == NULL ? NULL : ps_error_hint(err, "Check the disk, then copy the tenant's directory again, if it was copied: what could not be written may read well, and be gone after a power failure.");
}

/* Of one that is CHANGING: the start may not have been able to read the mark. */
static PsError *
check_not_deleted(Tenant *tenant)
{
	bool deleted;

	PS_TRY(trash_mark_read(tenant->dir, tenant->store->clock, &tenant->trash_mark, &deleted));
	if (!deleted)
		return NULL;
	pthread_mutex_lock(&tenant->store->lock);
	tenant->deleted = true;
	pthread_mutex_unlock(&tenant->store->lock);
	return tenant_detached_error(tenant);
}

/* Claims the tenant; with force, even if another store of this machine has it. */
static PsError *
claim(Tenant *tenant, bool force)
{
	PsError *err = tenant_claim(tenant);

	if (err == NULL || !force)
		return err;
	tenant->claim_fd = TENANT_CLAIM_FAILED;
	ps_log_error(PS_WARNING, err, "a tenant is attached all the same");
	return NULL;
}

PsError *
store_attach_tenant(Store *store, const char *name, bool force)
{
	Branch **timelines = NULL;
	Tenant *tenant;
	PsId id;
	int n = 0;
	PsError *err;

	if (!ps_id_parse(name, &id) && !find_detached(store, name, false, &id))
		return no_such_tenant(name);
	PS_TRY(begin_attach(store, &id, force, &tenant));
	err = check_not_deleted(tenant);
	if (err == NULL)
		err = tenant_read(tenant);
	if (err == NULL)
		err = claim(tenant, force);
	if (err == NULL)
		err = sync_tenant(tenant);
	if (err == NULL)
		err = tenant_load(tenant, NULL, &timelines, &n);
	pthread_mutex_lock(&store->lock);
	if (err == NULL)
		err = put_in_store(store, tenant, timelines, n);
	if (err != NULL)
	{
		tenant_unclaim(tenant);
		tenant->life = TENANT_DETACHED;
	}
	pthread_mutex_unlock(&store->lock);
	for (int i = 0; i < n && err != NULL; i++)
		branch_free(timelines[i]);
	free(timelines);
	return err;
}
