/*
 * catalog.c
 *	  The catalog of the store: which tenants and branches exist, which names are
 *	  reserved, and which branches are held or being changed.
 *
 * All of it is in memory, and protected by Store.lock.  The contracts are in
 * store_impl.h.
 */
#include "ps_fe.h"

#include "sqlstate.h"
#include "store/store_impl.h"

/* catalog_wait() checks for cancellation at least this often, ms. */
#define CATALOG_WAIT_MS 1000

/* ---- tenants ---- */

void
catalog_add_tenant(Store *store, Tenant *tenant)
{
	store->tenants = pg_realloc(store->tenants, (store->ntenants + 1) * sizeof(Tenant *));
	store->tenants[store->ntenants++] = tenant;
	pthread_cond_signal(&store->owner_wake);
}

void
catalog_remove_tenant(Store *store, Tenant *tenant)
{
	for (int i = 0; i < store->ntenants; i++)
		if (store->tenants[i] == tenant)
		{
			store->tenants[i] = store->tenants[--store->ntenants];
			break;
		}
	tenant_unclaim(tenant);
	store->gone_tenants = pg_realloc(store->gone_tenants, (store->ngone_tenants + 1) * sizeof(Tenant *));
	store->gone_tenants[store->ngone_tenants++] = tenant;
}

Tenant *
catalog_find_tenant(Store *store, const PsId *id)
{
	for (int i = 0; i < store->ntenants; i++)
		if (ps_id_equal(&store->tenants[i]->id, id))
			return store->tenants[i];
	return NULL;
}

PsError *
catalog_detached_error(const Tenant *tenant)
{
	char id[PS_ID_TEXT];

	if (tenant->deleted)
		return ps_error_hint(ps_error(PS_SQLSTATE_NOT_FOUND, "tenant %s is deleted", ps_id_format(&tenant->id, id)),
							 "\"pageserver_ctl tenant undelete %s\" brings it back.", id);
	return ps_error_hint(ps_error(PS_SQLSTATE_TRY_AGAIN, "tenant %s is detached", ps_id_format(&tenant->id, id)),
						 "\"pageserver_ctl tenant attach %s\" brings it back.", id);
}

PsError *
catalog_check_service(const Tenant *tenant)
{
	char id[PS_ID_TEXT];

	if (tenant->life != TENANT_ATTACHED)
		return catalog_detached_error(tenant);
	if (tenant->ownership == OWNER_FENCED)
		return ps_error_copy(tenant->owner_error);
	if (tenant->ownership != OWNER_WAITING)
		return NULL;
	return ps_error(PS_SQLSTATE_TRY_AGAIN, "tenant %s waits for object storage: %s", ps_id_format(&tenant->id, id),
					tenant->owner_error != NULL ? tenant->owner_error->message : "it is being claimed");
}

/* ---- branches ---- */

void
catalog_add_branch(Store *store, Branch *branch)
{
	PsError *err = branch->tenant->claim_fd == TENANT_NOT_CLAIMED ? tenant_claim(branch->tenant) : NULL;

	/* an attach has claimed the tenant already and can refuse; a start can only warn */
	if (err != NULL)
	{
		branch->tenant->claim_fd = TENANT_CLAIM_FAILED;
		ps_log_error(PS_WARNING, err, "a tenant is served all the same");
	}
	store->branches = pg_realloc(store->branches, (store->nbranches + 1) * sizeof(Branch *));
	store->branches[store->nbranches++] = branch;
	if (branch->ancestor != NULL)
		branch->ancestor->users++;
}

void
catalog_remove_branch(Store *store, Branch *branch)
{
	for (int i = 0; i < store->nbranches; i++)
		if (store->branches[i] == branch)
		{
			branch->gone = true;
			store->branches[i] = store->branches[--store->nbranches];
			break;
		}
}

void
catalog_unhold(Store *store, Branch *branch)
{
	if (--branch->users == 0)
		pthread_cond_broadcast(&store->changed);
}

Branch *
branch_of(const Timeline *tl)
{
	return (Branch *) ((char *) tl->spec - offsetof(Branch, spec));
}

Branch *
catalog_find_branch(Store *store, const char *name)
{
	PsId id;

	/* a branch whose manifest cannot be read may have the name "" */
	for (int i = 0; i < store->nbranches && name[0] != '\0'; i++)
		if (!store->branches[i]->in_trash && strcmp(branch_name(store->branches[i]), name) == 0)
			return store->branches[i];
	for (int i = 0; i < store->nbranches && ps_id_parse(name, &id); i++)
		if (!store->branches[i]->in_trash && ps_id_equal(&store->branches[i]->spec.id, &id))
			return store->branches[i];
	return NULL;
}

Branch *
catalog_find_deleted(const Store *store, const char *name)
{
	Branch *last = NULL;
	PsId id;
	bool by_id = ps_id_parse(name, &id);

	for (int i = 0; i < store->nbranches; i++)
	{
		Branch *branch = store->branches[i];

		if (!branch->in_trash)
			continue;
		if (by_id && ps_id_equal(&branch->spec.id, &id))
			return branch;
		if (strcmp(branch_name(branch), name) == 0 && (last == NULL || branch->trash_mark.at > last->trash_mark.at))
			last = branch;
	}
	return last;
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(branch_name(*(Branch *const *) a), branch_name(*(Branch *const *) b));
}

Branch **
store_list(Store *store, int *n)
{
	Branch **list;

	pthread_mutex_lock(&store->lock);
	*n = store->nbranches;
	list = pg_malloc(Max(*n, 1) * sizeof(Branch *));
	for (int i = 0; i < *n; i++)
	{
		list[i] = store->branches[i];
		list[i]->users++;
	}
	pthread_mutex_unlock(&store->lock);
	qsort(list, *n, sizeof(Branch *), compare_names);
	return list;
}

void
store_list_free(Branch **list, int n)
{
	if (n > 0)
	{
		Store *store = list[0]->tenant->store;

		pthread_mutex_lock(&store->lock);
		for (int i = 0; i < n; i++)
			catalog_unhold(store, list[i]);
		pthread_mutex_unlock(&store->lock);
	}
	free(list);
}

/* ---- reservations ---- */

void
catalog_reserve(Store *store, Reservation *reservation)
{
	reservation->next = store->reservations;
	store->reservations = reservation;
}

void
catalog_unreserve(Store *store, Reservation *reservation)
{
	Reservation **p = &store->reservations;

	while (*p != reservation)
		p = &(*p)->next;
	*p = reservation->next;
	pthread_cond_broadcast(&store->changed);
}

bool
catalog_is_reserved(const Store *store, const char *name)
{
	/* a branch whose manifest cannot be read may have the name "" */
	for (const Reservation *r = store->reservations; r != NULL && name[0] != '\0'; r = r->next)
		if (strcmp(r->name, name) == 0)
			return true;
	return false;
}

/* ---- errors ---- */

PsError *
catalog_deleted_error(const Branch *branch)
{
	char id[PS_ID_TEXT];
	PsError *err = ps_error(PS_SQLSTATE_NOT_FOUND, "branch \"%s\" does not exist any more, it was deleted",
							branch_name(branch));

	return ps_error_hint(err, "\"pageserver_ctl branch undelete %s\" brings it back.",
						 ps_id_format(&branch->spec.id, id));
}

PsError *
catalog_broken_error(const Branch *branch)
{
	const char *hint = branch->error->hint;
	PsError *err = ps_error(branch->error->sqlstate, "branch \"%s\" is not served: %s", branch_name(branch),
							branch->error->message);

	return ps_error_hint(err, "%s%sFix the cause, then restart the store.", hint ? hint : "", hint ? " " : "");
}

PsError *
catalog_no_branch_error(const Store *store, const char *name)
{
	bool detached = false;
	const Branch *deleted = catalog_find_deleted(store, name);

	if (deleted != NULL)
		return catalog_deleted_error(deleted);
	for (int i = 0; i < store->ntenants; i++)
		detached |= store->tenants[i]->life != TENANT_ATTACHED;
	return ps_error_hint(ps_error(PS_SQLSTATE_NOT_FOUND, "branch \"%s\" does not exist", name),
						 "\"pageserver_ctl branch list\" shows the branches%s.",
						 detached ? ", \"pageserver_ctl tenant list\" what is detached" : "");
}

PsError *
catalog_check_no_children(const Store *store, const Branch *branch, bool for_good)
{
	StringInfoData names;
	PsError *err = NULL;

	initStringInfo(&names);
	for (int i = 0; i < store->nbranches; i++)
		if (store->branches[i]->ancestor == branch && (for_good || !store->branches[i]->in_trash))
			appendStringInfo(&names, "%s\"%s\"%s", names.len > 0 ? ", " : "", branch_name(store->branches[i]),
							 store->branches[i]->in_trash ? " (deleted)" : "");
	for (const Reservation *r = store->reservations; r != NULL; r = r->next)
		if (r->ancestor == branch)
			appendStringInfo(&names, "%s\"%s\", which is being created", names.len > 0 ? ", " : "", r->name);

	/* if this branch is of unknown origin itself, it cannot be opened, so others lose nothing with it */
	for (int i = 0; i < store->nbranches && !branch->origin_unknown; i++)
	{
		char id[PS_ID_TEXT];

		if (store->branches[i]->tenant == branch->tenant && store->branches[i]->origin_unknown &&
			(for_good || !store->branches[i]->in_trash))
			appendStringInfo(&names, "%sperhaps %s, which cannot be read", names.len > 0 ? ", " : "",
							 ps_id_format(&store->branches[i]->spec.id, id));
	}
	if (names.len > 0)
		err = ps_error_hint(ps_error(PS_SQLSTATE_STATE, "other branches begin in branch \"%s\": %s",
									 branch_name(branch), names.data),
							for_good ? "Purge these first, with \"branch delete --purge\"." : "Delete these first.");
	pfree(names.data);
	return err;
}

/* ---- waiting, and changes ---- */

PsError *
catalog_wait(Store *store, CancelWait *wait)
{
	if (atomic_load(&store->stopping))
		return cancel_error(CANCEL_STORE_STOPPING, NULL);
	return cancel_wait(wait, &store->changed, &store->lock, CATALOG_WAIT_MS);
}

PsError *
catalog_find_settled(Store *store, const char *name, const CancelCheck *cancel, Branch **branch)
{
	CancelWait wait = {.cancel = cancel};
	PsError *err;

	while ((*branch = catalog_find_branch(store, name)) != NULL)
	{
		if ((*branch)->life != BRANCH_OPENING && (*branch)->life != BRANCH_CLOSING && !(*branch)->changing)
			return NULL;
		(*branch)->users++;
		err = catalog_wait(store, &wait);
		catalog_unhold(store, *branch);
		if (err != NULL)
			return err;
	}
	return catalog_no_branch_error(store, name);
}

PsError *
catalog_find_changeable(Store *store, const char *name, const CancelCheck *cancel, Branch **branch)
{
	PS_TRY(catalog_find_settled(store, name, cancel, branch));
	return catalog_check_service((*branch)->tenant);
}

PsError *
catalog_find_served(Store *store, const char *name, const CancelCheck *cancel, Branch **branch)
{
	PS_TRY(catalog_find_changeable(store, name, cancel, branch));
	return (*branch)->life == BRANCH_BROKEN ? catalog_broken_error(*branch) : NULL;
}

void
catalog_begin_change(Store *store, Branch *branch)
{
	Assert(!branch->changing && branch->life != BRANCH_OPENING && branch->life != BRANCH_CLOSING);
	branch->changing = true;
	branch->users++;
	branch->uses += branch->life == BRANCH_OPEN;
}

void
catalog_end_change(Store *store, Branch *branch)
{
	branch->changing = false;

	/* this use kept it open, so that it is OPEN now if and only if it was OPEN at the beginning */
	branch->uses -= branch->life == BRANCH_OPEN;
	catalog_unhold(store, branch);
	pthread_cond_broadcast(&store->changed);
}
