/*
 * trash_tenant.c
 *	  Tenants that were deleted: they are detached, and their directory has the trash
 *	  mark (trash_mark.h) until they are undeleted or removed.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "base/fs.h"
#include "store/store_impl.h"

/* Sets a tenant that the caller made CHANGING to DETACHED again. */
static void
end_change(Store *store, Tenant *tenant, bool deleted)
{
	pthread_mutex_lock(&store->lock);
	tenant->deleted = deleted;
	tenant->life = TENANT_DETACHED;
	pthread_mutex_unlock(&store->lock);
}

PsError *
store_trash_tenant(Store *store, const char *name, const char *by)
{
	Tenant *tenant;
	Outcome outcome;
	PsError *err;

	PS_TRY(attach_begin_change(store, name, false, &tenant));
	trash_mark_make(&tenant->trash_mark, store->clock, by);
	err = trash_mark_write(tenant->dir, store->clock, &tenant->trash_mark, &outcome);
	/* the tenant is out of service in any case */
	if (outcome == OUTCOME_UNKNOWN)
		err = ps_error_unknown(err, "Tenant \"%s\" is deleted now, but may be only detached after a restart.", name);
	end_change(store, tenant, outcome != OUTCOME_NOT_DONE);
	return err;
}

PsError *
store_undelete_tenant(Store *store, const char *name)
{
	Tenant *tenant;
	Outcome outcome = OUTCOME_NOT_DONE;
	PsError *err;

	PS_TRY(attach_begin_change(store, name, true, &tenant));
	/* if it was deleted in another store, it may not have the mark of a detached tenant */
	err = tenant_mark_detached(tenant, true);
	if (err == NULL)
		err = trash_mark_remove(tenant->dir, store->clock, &tenant->trash_mark, &outcome);
	if (outcome == OUTCOME_UNKNOWN)
		err = ps_error_unknown(err, "Tenant \"%s\" is still in the trash, but may be only detached after a restart.",
							   name);
	end_change(store, tenant, err != NULL);
	return err;
}

/*
 * Moves the directory of a tenant that is CHANGING to STORE/tmp, durably, removes the
 * tenant from the catalog, and then the files.  OUTCOME_UNKNOWN: the move could neither be
 * made durable nor be undone; the tenant is out of the catalog, but its files stay until the
 * next start, which finds them in either place.
 */
static PsError *
remove_tenant(Store *store, Tenant *tenant, Outcome *outcome)
{
	char id[PS_ID_TEXT];
	char *path = psprintf("%s/tmp/deleted-tenant-%s", store->config->store_dir, ps_id_format(&tenant->id, id));
	PsError *err = NULL;

	*outcome = OUTCOME_NOT_DONE;
	if (rename(tenant->dir, path) != 0)
		err = ps_error(ps_errno_state(), "could not rename \"%s\" to \"%s\": %m", tenant->dir, path);
	else if ((err = fs_sync_parent(tenant->dir)) == NULL)
		*outcome = OUTCOME_DONE;
	else if (!fs_rename_back(path, tenant->dir))
	{
		*outcome = OUTCOME_UNKNOWN;
		err = ps_error_unknown(err, "Tenant %s is removed now, but may be there again after a restart.", id);
	}
	if (*outcome != OUTCOME_NOT_DONE)
	{
		pthread_mutex_lock(&store->lock);
		catalog_remove_tenant(store, tenant);
		pthread_mutex_unlock(&store->lock);
		if (*outcome == OUTCOME_DONE)
			(void) rmtree(path, true); /* logs what it cannot remove; the next start removes it */
	}
	else
		end_change(store, tenant, tenant->deleted);
	pfree(path);
	return err;
}

PsError *
store_purge_tenant(Store *store, const char *name)
{
	Tenant *tenant;
	Outcome outcome;

	PS_TRY(attach_begin_change(store, name, true, &tenant));
	return remove_tenant(store, tenant, &outcome);
}

void
trash_empty_tenants(Store *store)
{
	for (;;)
	{
		Tenant *tenant = NULL;
		char id[PS_ID_TEXT];
		Outcome outcome;
		PsError *err;

		pthread_mutex_lock(&store->lock);
		for (int i = 0; i < store->ntenants && !atomic_load(&store->stopping); i++)
			if (store->tenants[i]->deleted && store->tenants[i]->life == TENANT_DETACHED &&
				trash_mark_time_left(&store->tenants[i]->trash_mark, store->clock, store->config->trash_interval) <= 0)
				tenant = store->tenants[i];
		if (tenant != NULL)
		{
			tenant->life = TENANT_CHANGING;
			ps_id_format(&tenant->id, id);
		}
		pthread_mutex_unlock(&store->lock);
		if (tenant == NULL)
			return;
		err = remove_tenant(store, tenant, &outcome);
		if (err != NULL)
		{
			ps_log_error(PS_WARNING, err, "tenant %s %s in the trash", id,
						 outcome == OUTCOME_UNKNOWN ? "may still be" : "stays");
			return;
		}
		ps_log(PS_LOG, "tenant %s removed from the trash, trash_interval is over", id);
	}
}
