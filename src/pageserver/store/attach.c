/*
 * attach.c
 *	  Detaches tenants from a running store, and attaches them.
 *
 * A file "detached" in a tenant's directory marks the tenant as not served.  It is durable
 * before the first request is refused, and is removed when an attach has found no
 * conflict.  So after a crash the tenant is either attached or detached.  The store does
 * not use the directory of a detached tenant: it may be copied, or moved to another store
 * and back.
 */
#include "ps_fe.h"

#include <sys/stat.h>
#include <unistd.h>

#include "sqlstate.h"
#include "base/fs.h"
#include "store/store_impl.h"

/* ---- the mark ---- */

/* After an error: restores the mark.  Returns the error; if that fails, it says that a restart may change the state. */
static PsError *
undo_mark(const Tenant *tenant, bool detached, PsError *err)
{
	char id[PS_ID_TEXT];
	PsError *undo = tenant_mark_detached(tenant, detached);

	if (undo == NULL)
		return err;
	ps_error_free(undo);
	return ps_error_unknown(err, "Tenant %s is %s now, but may be %s after a restart.", ps_id_format(&tenant->id, id),
							detached ? "detached" : "attached", detached ? "attached" : "detached");
}

/* ---- errors ---- */

static PsError *
no_tenant_error(const char *name)
{
	return ps_error_hint(ps_error(PS_SQLSTATE_NOT_FOUND, "tenant \"%s\" does not exist", name),
						 "A tenant is named by its id or by one of its branches; "
						 "\"pageserver_ctl tenant list\" shows them.");
}

static PsError *
being_changed_error(const Tenant *tenant)
{
	char id[PS_ID_TEXT];

	return ps_error(PS_SQLSTATE_STATE, "tenant %s is being detached or attached", ps_id_format(&tenant->id, id));
}

/* ---- detaching ---- */

/* Is no thread opening, closing or changing a branch of the tenant, or adding one, or putting its claim? */
static bool
is_settled(const Store *store, const Tenant *tenant)
{
	if (tenant->owner_busy)
		return false;
	for (int i = 0; i < store->nbranches; i++)
	{
		const Branch *branch = store->branches[i];

		if (branch->tenant == tenant &&
			(branch->life == BRANCH_OPENING || branch->life == BRANCH_CLOSING || branch->changing))
			return false;
	}
	for (const Reservation *r = store->reservations; r != NULL; r = r->next)
		if (r->tenant == tenant)
			return false;
	return true;
}

/* Waits for is_settled().  Caller holds Store.lock, which is released meanwhile. */
static PsError *
wait_settled(Store *store, const Tenant *tenant, const CancelCheck *cancel)
{
	CancelWait wait = {.cancel = cancel};

	while (!is_settled(store, tenant))
		PS_TRY(catalog_wait(store, &wait));
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

/* Children before their ancestors. */
static int
by_depth(const void *a, const void *b)
{
	return depth_of(*(Branch *const *) b) - depth_of(*(Branch *const *) a);
}

PsError *
store_begin_detach(Store *store, const char *name, const CancelCheck *cancel, Tenant **result,
				   Branch ***timelines, int *n)
{
	Tenant *tenant = NULL;
	Branch *branch;
	PsId id;
	PsError *err;

	pthread_mutex_lock(&store->lock);
	/* names that are only in memory would be lost */
	err = names_save(store, cancel);
	if (err != NULL)
	{
		pthread_mutex_unlock(&store->lock);
		return err;
	}
	if (ps_id_parse(name, &id))
		tenant = catalog_find_tenant(store, &id);
	if (tenant == NULL && (branch = catalog_find_branch(store, name)) != NULL)
		tenant = branch->tenant;
	if (tenant == NULL || tenant->life != TENANT_ATTACHED)
	{
		err = tenant == NULL ? no_tenant_error(name) : catalog_detached_error(tenant);
		pthread_mutex_unlock(&store->lock);
		return err;
	}

	/* from here on no use of a branch begins */
	tenant->life = TENANT_CHANGING;
	pthread_mutex_unlock(&store->lock);
	err = tenant_mark_detached(tenant, true);
	pthread_mutex_lock(&store->lock);
	if (err == NULL)
		err = wait_settled(store, tenant, cancel);
	if (err != NULL)
	{
		pthread_mutex_unlock(&store->lock);
		/* the mark may exist in spite of the error */
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
		catalog_remove_branch(store, (*timelines)[i]);
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
		use_free_branch(store, timelines[i]);
	tenant_unclaim(tenant);
	pthread_mutex_unlock(&store->lock);
	owner_forget(tenant);
	pthread_mutex_lock(&store->lock);
	tenant->life = TENANT_DETACHED;
	pthread_mutex_unlock(&store->lock);
	free(timelines);
}

/* ---- attaching ---- */

/* Finds a detached tenant by the name of a branch; deleted: one in the trash. */
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
attach_begin_change(Store *store, const char *name, bool deleted, Tenant **result)
{
	char text[PS_ID_TEXT];
	Tenant *tenant;
	PsId id;
	PsError *err = NULL;

	if (!ps_id_parse(name, &id) && !find_detached(store, name, deleted, &id))
		return no_tenant_error(name);
	pthread_mutex_lock(&store->lock);
	tenant = catalog_find_tenant(store, &id);
	if (tenant == NULL || (tenant->life == TENANT_DETACHED && deleted && !tenant->deleted))
		err = no_tenant_error(name);
	else if (tenant->life == TENANT_CHANGING)
		err = being_changed_error(tenant);
	else if (tenant->life == TENANT_ATTACHED)
		err = ps_error(PS_SQLSTATE_STATE, "tenant %s is attached", ps_id_format(&id, text));
	else if (tenant->deleted != deleted)
		err = catalog_detached_error(tenant);
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
 * For a tenant that is not in the catalog: may its directory be attached?  If there is none, it is
 * made from object storage.  Caller holds no lock.
 */
static PsError *
check_new_directory(Tenant *tenant, bool force)
{
	char id[PS_ID_TEXT];

	if (access(tenant->dir, F_OK) != 0 && errno == ENOENT)
		PS_TRY(attach_fetch_tenant(tenant->store, &tenant->id, force));
	PS_TRY(trash_mark_read(tenant->dir, tenant->store->clock, &tenant->trash_mark, &tenant->deleted));
	if (force || tenant->deleted || tenant_is_marked_detached(tenant))
		return NULL;
	return ps_error_hint(ps_error(PS_SQLSTATE_STATE,
								  "\"%s\" is a copy of a tenant that was in service when it was made", tenant->dir),
						 "Both copies would continue the same WAL. Detach the tenant in the store that it comes from, "
						 "and copy it again; or, if that store no longer exists: "
						 "pageserver_ctl tenant attach --force %s",
						 ps_id_format(&tenant->id, id));
}

/*
 * If the tenant is not in the catalog, adds it, DETACHED: its directory was copied into the
 * store, or is made from object storage.
 */
static PsError *
add_if_unknown(Store *store, const PsId *id, bool force)
{
	Tenant *tenant;
	bool known;
	PsError *err;

	pthread_mutex_lock(&store->lock);
	known = catalog_find_tenant(store, id) != NULL;
	pthread_mutex_unlock(&store->lock);
	if (known)
		return NULL;
	tenant = tenant_alloc(store, id);
	tenant->life = TENANT_DETACHED;
	err = check_new_directory(tenant, force);
	pthread_mutex_lock(&store->lock);
	/* another thread may have added it meanwhile */
	known = catalog_find_tenant(store, id) != NULL;
	if (err == NULL && !known)
		catalog_add_tenant(store, tenant);
	pthread_mutex_unlock(&store->lock);
	if (err != NULL || known)
		tenant_free(tenant);
	return err;
}

/* Finds or adds the tenant; it is CHANGING on return. */
static PsError *
begin_attach(Store *store, const PsId *id, bool force, Tenant **result)
{
	char text[PS_ID_TEXT];
	Tenant *tenant;
	PsError *err = NULL;

	PS_TRY(add_if_unknown(store, id, force));
	pthread_mutex_lock(&store->lock);
	tenant = catalog_find_tenant(store, id);
	if (tenant == NULL)
		err = no_tenant_error(ps_id_format(id, text)); /* purged meanwhile */
	else if (tenant->life == TENANT_ATTACHED)
		err = ps_error(PS_SQLSTATE_EXISTS, "tenant %s is attached already", ps_id_format(id, text));
	else if (tenant->life == TENANT_CHANGING)
		err = being_changed_error(tenant);
	else if (tenant->deleted)
		err = catalog_detached_error(tenant);
	if (err == NULL)
	{
		tenant->life = TENANT_CHANGING;
		*result = tenant;
	}
	pthread_mutex_unlock(&store->lock);
	return err;
}

/* By name; those in the trash last, because they have no name that others could not have. */
static int
compare_names(const void *a, const void *b)
{
	const Branch *x = *(Branch *const *) a;
	const Branch *y = *(Branch *const *) b;

	if (x->in_trash != y->in_trash)
		return x->in_trash - y->in_trash;
	return strcmp(branch_name(x), branch_name(y));
}

/* Names must be unique in the whole store.  Sorts the branches by them.  Caller holds Store.lock. */
static PsError *
check_names(Store *store, const Tenant *tenant, Branch **timelines, int n)
{
	names_drop_old(timelines, n);
	qsort(timelines, n, sizeof(Branch *), compare_names);
	for (int i = 1; i < n; i++)
	{
		const Branch *a = timelines[i - 1];
		const Branch *b = timelines[i];

		if (!b->in_trash && !a->in_trash && branch_name(b)[0] != '\0' && strcmp(branch_name(a), branch_name(b)) == 0)
			return ps_error_hint(ps_error(PS_SQLSTATE_CORRUPTED, "two branches have the name \"%s\": \"%s\" and \"%s\"",
										  branch_name(b), a->spec.dir, b->spec.dir),
								 "The store that it comes from was killed while it replaced one by the other. "
								 "Start and stop that store, then copy the directory again.");
	}
	for (int i = 0; i < n; i++)
	{
		const Branch *other = catalog_find_branch(store, branch_name(timelines[i]));
		char a[PS_ID_TEXT];
		char b[PS_ID_TEXT];

		if (timelines[i]->in_trash)
			continue;
		if (other != NULL && timelines[i]->life == BRANCH_BROKEN)
		{
			names_drop(timelines[i]);
			continue;
		}
		if (other == NULL && catalog_is_reserved(store, branch_name(timelines[i])))
			return ps_error(PS_SQLSTATE_EXISTS, "tenant %s has a branch \"%s\", and another is being created",
							ps_id_format(&tenant->id, a), branch_name(timelines[i]));
		if (other == NULL)
			continue;
		return ps_error_hint(ps_error(PS_SQLSTATE_EXISTS, "tenant %s has a branch \"%s\", as tenant %s has",
									  ps_id_format(&tenant->id, a), branch_name(other),
									  ps_id_format(&other->tenant->id, b)),
							 "Rename that one: pageserver_ctl branch rename %s NEW_NAME", branch_name(other));
	}
	return NULL;
}

/*
 * Removes the mark and adds the branches to the catalog.  Caller holds Store.lock, which is
 * released meanwhile with the names reserved.
 */
static PsError *
add_to_catalog(Store *store, Tenant *tenant, Branch **timelines, int n)
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
		catalog_reserve(store, &names[i]);
	}
	pthread_mutex_unlock(&store->lock);
	err = tenant_raise_format(tenant);
	if (err == NULL)
		err = tenant_mark_detached(tenant, false);
	/* the mark may be removed in spite of the error, and the next start would serve the tenant */
	if (err != NULL)
		err = undo_mark(tenant, true, err);
	pthread_mutex_lock(&store->lock);
	for (int i = 0; i < n; i++)
		catalog_unreserve(store, &names[i]);
	free(names);
	if (err != NULL)
		return err;
	for (int i = 0; i < n; i++)
		catalog_add_branch(store, timelines[i]);
	tenant->life = TENANT_ATTACHED;
	pthread_cond_signal(&store->owner_wake);
	return NULL;
}

/* The copied files may not be on disk yet, and the original may be removed as soon as the copy is served. */
static PsError *
sync_tenant(const Tenant *tenant)
{
	PsError *err = fs_sync_new_tree(tenant->dir);

	if (err == NULL)
		err = fs_sync_parent(tenant->dir);
	if (err == NULL)
		return NULL;
	return ps_error_hint(err, "Check the disk, then copy the tenant's directory again, if it was copied: "
							  "data that could not be written may be readable now and lost after a power failure.");
}

/* Checks a tenant that is CHANGING for the trash mark, which the start may not have been able to read. */
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
	return catalog_detached_error(tenant);
}

/* Claims the tenant; with force, another store of this machine that has it is only a warning. */
static PsError *
claim_tenant(Tenant *tenant, bool force)
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
		return no_tenant_error(name);
	PS_TRY(begin_attach(store, &id, force, &tenant));
	err = check_not_deleted(tenant);
	if (err == NULL)
		err = tenant_read(tenant);
	if (err == NULL)
		err = claim_tenant(tenant, force);
	if (err == NULL)
		err = sync_tenant(tenant);
	if (err == NULL)
		err = owner_begin(tenant, tenant->dir, true, force);
	if (err == NULL)
		err = tenant_load(tenant, NULL, &timelines, &n);
	pthread_mutex_lock(&store->lock);
	if (err == NULL)
		err = add_to_catalog(store, tenant, timelines, n);
	if (err != NULL)
	{
		tenant_unclaim(tenant);
		pthread_mutex_unlock(&store->lock);
		owner_forget(tenant);
		pthread_mutex_lock(&store->lock);
		tenant->life = TENANT_DETACHED;
	}
	pthread_mutex_unlock(&store->lock);
	for (int i = 0; i < n && err != NULL; i++)
		branch_free(timelines[i]);
	free(timelines);
	return err;
}
