/*
 * tenant_list.c
 *	  Lists the tenants of a store.  For those that are not served, manifests are read.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "sqlstate.h"
#include "store/store_dir.h"
#include "store/store_impl.h"

void
tenant_read_names(const Tenant *tenant, StringInfo names, int *nbranches, const char *wanted, bool *found)
{
	char *path = psprintf("%s/timelines", tenant->dir);
	PsId *ids;
	int n;

	ps_error_free(store_dir_list_ids(path, &ids, &n));
	*nbranches = 0;
	for (int i = 0; i < n; i++)
	{
		char id[PS_ID_TEXT];
		char *dir = psprintf("%s/%s", path, ps_id_format(&ids[i], id));
		char *mark = psprintf("%s/%s", dir, TRASH_MARK_FILE);
		bool deleted = access(mark, F_OK) == 0;
		Manifest m;
		PsError *err = manifest_read(dir, &m, NULL);

		(*nbranches) += !deleted;
		if (err != NULL && !deleted)
		{
			ps_error_free(err);
			err = manifest_read_damaged(dir, &m);
		}
		if (err == NULL && deleted)
			manifest_free(&m);
		else if (err == NULL)
		{
			if (names != NULL && !m.has_ancestor)
				appendStringInfo(names, "%s%s", names->len > 0 ? ", " : "", m.name);
			if (wanted != NULL && strcmp(m.name, wanted) == 0)
				*found = true;
			manifest_free(&m);
		}
		ps_error_free(err);
		pfree(mark);
		pfree(dir);
	}
	free(ids);
	pfree(path);
}

static int
compare_tenants(const void *a, const void *b)
{
	return memcmp(&((const TenantInfo *) a)->id, &((const TenantInfo *) b)->id, sizeof(PsId));
}

TenantInfo *
store_list_tenants(Store *store, int *n)
{
	TenantInfo *list;
	StringInfoData names;

	initStringInfo(&names);
	pthread_mutex_lock(&store->lock);
	*n = store->ntenants;
	list = pg_malloc0(Max(*n, 1) * sizeof(TenantInfo));
	for (int i = 0; i < *n; i++)
	{
		Tenant *tenant = store->tenants[i];

		list[i].id = tenant->id;
		list[i].attached = tenant->life == TENANT_ATTACHED;
		list[i].waiting = tenant->ownership == OWNER_WAITING;
		list[i].fenced = tenant->ownership == OWNER_FENCED && ps_error_is(tenant->owner_error, PS_SQLSTATE_FENCED);
		list[i].refused = tenant->ownership == OWNER_FENCED && !list[i].fenced;
		list[i].generation = tenant->env.owner_generation;
		if (tenant->owner_error != NULL)
			list[i].error = pg_strdup(tenant->owner_error->message);
		if (tenant->upload != NULL)
		{
			UploadInfo upload;

			upload_info(tenant->upload, &upload);
			list[i].upload_files = upload.files;
			list[i].upload_bytes = upload.bytes;
			if (list[i].error == NULL && upload.error[0] != '\0')
				list[i].error = pg_strdup(upload.error);
		}
		list[i].deleted = tenant->deleted;
		if (tenant->deleted)
		{
			list[i].when = tenant->trash_mark.when;
			list[i].by = pg_strdup(tenant->trash_mark.by);
			list[i].time_left = trash_mark_time_left(&tenant->trash_mark, store->clock, store->config->trash_interval);
			list[i].time_left = Max(list[i].time_left, 0);
		}
		if (!list[i].attached)
			continue;
		list[i].system_identifier = tenant->system_identifier;
		resetStringInfo(&names);
		for (int k = 0; k < store->nbranches; k++)
		{
			const Branch *branch = store->branches[k];

			if (branch->tenant != tenant || branch->in_trash)
				continue;
			list[i].branches++;
			if (branch->ancestor == NULL && branch_name(branch)[0] != '\0')
				appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", branch_name(branch));
		}
		list[i].names = pg_strdup(names.data);
	}
	pthread_mutex_unlock(&store->lock);
	for (int i = 0; i < *n; i++)
	{
		Tenant *tenant;

		if (list[i].attached)
			continue;
		tenant = tenant_alloc(store, &list[i].id);
		ps_error_free(tenant_read(tenant));
		resetStringInfo(&names);
		tenant_read_names(tenant, &names, &list[i].branches, NULL, NULL);
		list[i].names = pg_strdup(names.data);
		list[i].system_identifier = tenant->system_identifier;
		tenant_free(tenant);
	}
	qsort(list, *n, sizeof(TenantInfo), compare_tenants);
	pfree(names.data);
	return list;
}

void
store_list_tenants_free(TenantInfo *list, int n)
{
	for (int i = 0; i < n; i++)
	{
		free(list[i].names);
		free(list[i].by);
		free(list[i].error);
	}
	free(list);
}
