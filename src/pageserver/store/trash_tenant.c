/*
 * trash_tenant.c
 *	  Tenants that were deleted: detached, and with the mark of the trash in
 *	  their directory (trash_mark.h) until they are undeleted, or removed.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "base/sync.h"
#include "store/store_impl.h"

/* The caller has made the tenant CHANGING; it is DETACHED again. */
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

	PS_TRY(tenant_begin_change(store, name, false, &tenant));
	trash_mark_make(&tenant->trash_mark, store->clock, by);
	err = trash_mark_write(tenant->dir, store->clock, &tenant->trash_mark, &outcome);
	if (outcome == OUTCOME_UNKNOWN)
	{
		/* it is out of service in any case */
		ps_log_error(PS_WARNING, err, "tenant \"%s\" is deleted, but may be detached only after a restart", name);
		err = NULL;
	}
	end_change(store, tenant, err == NULL);
	return err;
}

PsError *
store_undelete_tenant(Store *store, const char *name)
{
	Tenant *tenant;
	PsError *err;

	PS_TRY(tenant_begin_change(store, name, true, &tenant));
	/* it may have been deleted without having been detached before, in another store */
	err = tenant_mark_detached(tenant);
	if (err == NULL)
		err = trash_mark_remove(tenant->dir, store->clock, &tenant->trash_mark);
	end_change(store, tenant, err != NULL);
	return err;
}

/*
 * Moves the directory of a tenant that is CHANGING to STORE/tmp, durably, forgets
 * the tenant, and removes it.  After an error all is as it was.  If the move
 * could neither be made durable nor be taken back, the tenant is gone, but its
 * files stay until the next start, which finds them wherever they are then.
 */
static PsError *
remove_tenant(Store *store, Tenant *tenant)
{
	char id[PS_ID_TEXT];
	char *path = psprintf("%s/tmp/deleted-tenant-%s", store->config->store_dir, ps_id_format(&tenant->id, id));
	bool files_stay = false;
	PsError *err = NULL;

	if (rename(tenant->dir, path) != 0)
		err = ps_error(ps_errno_state(), "could not rename \"%s\" to \"%s\": %m", tenant->dir, path);
	else if ((err = sync_parent(tenant->dir)) != NULL && !rename_back(path, tenant->dir))
	{
		ps_log_error(PS_WARNING, err, "tenant %s is removed, but may be there again after a restart", id);
		files_stay = true;
		err = NULL;
	}
	if (err == NULL)
	{
		pthread_mutex_lock(&store->lock);
		store_forget_purged_tenant(store, tenant);
		pthread_mutex_unlock(&store->lock);
		if (!files_stay)
			(void) rmtree(path, true); /* says itself what it cannot remove; the next start does */
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

	PS_TRY(tenant_begin_change(store, name, true, &tenant));
	return remove_tenant(store, tenant);
}

void
trash_empty_tenants(Store *store)
{
	for (;;)
	{
		Tenant *tenant = NULL;
		char id[PS_ID_TEXT];
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
		err = remove_tenant(store, tenant);
		if (err != NULL)
		{
			ps_log_error(PS_WARNING, err, "tenant %s stays in the trash", id);
			return;
		}
		ps_log(PS_LOG, "tenant %s removed from the trash, trash_interval is over", id);
	}
}
