/*
 * tenant.c
 *	  A tenant: a cluster family, with a directory of its own.
 *
 * TENANT/tenant.json says to which family the tenant belongs, with a checksum.  It is
 * written when the tenant is created, and when its format is raised.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "base/json_file.h"
#include "sqlstate.h"
#include "base/fs.h"
#include "store/store_dir.h"
#include "store/store_impl.h"
#include "upload/remote_layers.h"

/* With version 3, timelines have timeline.log; with version 2, none has. */
#define TENANT_VERSION     3
#define TENANT_VERSION_MIN 2

static const JsonFormat tenant_format = {"file", "pageserver tenant", "version", TENANT_VERSION_MIN, TENANT_VERSION};

/* The text of DIR/tenant.json, and its path; free() *text. */
static PsError *
tenant_text(const Tenant *tenant, const char *dir, char path[MAXPGPATH], char **text)
{
	char id[PS_ID_TEXT];
	char sysid[32];

	snprintf(sysid, sizeof(sysid), UINT64_FORMAT, tenant->system_identifier);
	snprintf(path, MAXPGPATH, "%s/tenant.json", dir);
	return json_file_text(&tenant_format, TENANT_VERSION,
						  json_pack("{s:s, s:s, s:i}", "tenant", ps_id_format(&tenant->id, id),
									"system_identifier", sysid, "segment_size", (int) tenant->segment_size),
						  path, text);
}

PsError *
tenant_write(const Tenant *tenant, const char *dir)
{
	char path[MAXPGPATH];
	char *text;
	PsError *err;

	PS_TRY(tenant_text(tenant, dir, path, &text));
	err = fs_write_new_file(path, text, strlen(text), true);
	free(text);
	return err;
}

PsError *
tenant_raise_format(Tenant *tenant)
{
	char path[MAXPGPATH];
	char *text;
	PsError *err;

	snprintf(path, sizeof(path), "%s/tenant.json", tenant->dir);
	fs_remove_stray(path);
	if (!tenant->old_format)
		return NULL;
	PS_TRY(tenant_text(tenant, tenant->dir, path, &text));
	err = fs_replace_file(path, text, strlen(text), 0, NULL);
	free(text);
	if (err != NULL)
		return ps_error_context(err, "could not raise the format of a tenant");
	tenant->old_format = false;
	return NULL;
}

PsError *
tenant_read(Tenant *tenant)
{
	char path[MAXPGPATH];
	json_t *root;
	const char *id = NULL;
	const char *sysid = NULL;
	char text[PS_ID_TEXT];
	int segment_size;
	PsError *err = NULL;

	snprintf(path, sizeof(path), "%s/tenant.json", tenant->dir);
	PS_TRY(json_file_read(&tenant_format, path, &root));
	if (json_unpack(root, "{s:s, s:s, s:i}", "tenant", &id, "system_identifier", &sysid, "segment_size",
					&segment_size) != 0)
		err = ps_error(PS_SQLSTATE_CORRUPTED, "file \"%s\" does not describe a tenant", path);
	else if (strcmp(id, ps_id_format(&tenant->id, text)) != 0 || !IsValidWalSegSize(segment_size))
		err = ps_error(PS_SQLSTATE_CORRUPTED,
					   "file \"%s\" belongs to another tenant or has an invalid WAL segment size", path);
	else
	{
		tenant->system_identifier = strtoull(sysid, NULL, 10);
		tenant->segment_size = segment_size;
		tenant->old_format = json_integer_value(json_object_get(root, "version")) < TENANT_VERSION;
	}
	json_decref(root);
	return err;
}

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

PsError *
tenant_mark_detached(const Tenant *tenant, bool detached)
{
	char *path = mark_path(tenant);
	PsError *err = fs_set_mark(path, detached);

	pfree(path);
	return err;
}

Tenant *
tenant_alloc(Store *store, const PsId *id)
{
	Tenant *tenant = pg_malloc0(sizeof(Tenant));
	LayerSource *source = store->remote_layers != NULL ? remote_layers_source(store->remote_layers) : NULL;
	char text[PS_ID_TEXT];

	tenant->id = *id;
	tenant->store = store;
	tenant->claim_fd = TENANT_NOT_CLAIMED;
	tenant->dir = psprintf("%s/tenants/%s", store->config->store_dir, ps_id_format(id, text));
	tenant->env = (TimelineEnv) {.config = &store->config,
								 .clock = store->clock,
								 .aio = store->aio,
								 .page_cache = store->page_cache,
								 .memory = store->memory,
								 .reads = &store->reads,
								 .source = source,
								 .source_has = source != NULL ? owner_has_file : NULL,
								 .source_arg = tenant,
								 .room_reserved = &store->room_reserved,
								 .on_files_added = upkeep_files_added};
	pthread_mutex_init(&tenant->lock, NULL);
	return tenant;
}

void
tenant_free(Tenant *tenant)
{
	Assert(tenant->nopen == 0);
	tenant_unclaim(tenant);
	upload_free(tenant->upload);
	ps_error_free(tenant->owner_error);
	pthread_mutex_destroy(&tenant->lock);
	pfree(tenant->dir);
	free(tenant);
}

/* ---- redo helpers ---- */

/* The working directory of the redo helpers, which exists only while there are any. */
static char *
redo_workdir(const Tenant *tenant)
{
	char id[PS_ID_TEXT];

	return psprintf("%s/tmp/redo-%s", tenant->store->config->store_dir, ps_id_format(&tenant->id, id));
}

PsError *
tenant_begin_use(Tenant *tenant)
{
	const Config *config = tenant->store->config;
	char *workdir = redo_workdir(tenant);
	int helpers = config->redo_helpers > 0 ? config->redo_helpers : (int) sysconf(_SC_NPROCESSORS_ONLN);
	RedoOptions options = {.bindir = config->bindir,
						   .workdir = workdir,
						   .segment_size = tenant->segment_size,
						   .wal_log_hints = true, /* every compute sets it (src/compute/settings.c) */
						   .max_helpers = helpers,
						   .timeout_ms = config->redo_timeout};
	PsError *err = NULL;

	pthread_mutex_lock(&tenant->lock);
	if (tenant->nopen == 0)
		err = redo_pool_create(&options, &tenant->env.redo);
	if (err == NULL)
		tenant->nopen++;
	else
		(void) remove(workdir);
	pthread_mutex_unlock(&tenant->lock);
	pfree(workdir);
	return err;
}

void
tenant_end_use(Tenant *tenant)
{
	pthread_mutex_lock(&tenant->lock);
	if (--tenant->nopen == 0)
	{
		char *workdir = redo_workdir(tenant);

		redo_pool_free(tenant->env.redo);
		tenant->env.redo = NULL;
		(void) remove(workdir);
		pfree(workdir);
	}
	pthread_mutex_unlock(&tenant->lock);
}

/* ---- branches ---- */

typedef struct Loaded
{
	Branch *branch;
	bool has_ancestor;
	PsId ancestor;
} Loaded;

typedef struct LoadedList
{
	Loaded *items;
	int n;
} LoadedList;

static int
compare_loaded(const void *a, const void *b)
{
	return memcmp(&((const Loaded *) a)->branch->spec.id, &((const Loaded *) b)->branch->spec.id, sizeof(PsId));
}

static int
compare_id(const void *key, const void *item)
{
	return memcmp(key, &((const Loaded *) item)->branch->spec.id, sizeof(PsId));
}

/*
 * Finds the ancestors, and pins what their children need.  A branch with an ancestor that
 * does not exist, or that is its own ancestor, is BROKEN.  The list is sorted by id.
 */
static void
link_ancestors(const LoadedList *list)
{
	char text[PS_ID_TEXT];

	for (int i = 0; i < list->n; i++)
	{
		Loaded *loaded = &list->items[i];
		Loaded *ancestor;

		if (!loaded->has_ancestor)
			continue;
		ancestor = bsearch(&loaded->ancestor, list->items, list->n, sizeof(Loaded), compare_id);
		if (ancestor == NULL)
			branch_set_broken(loaded->branch,
							  ps_error(PS_SQLSTATE_CORRUPTED,
									   "branch \"%s\" begins in timeline %s, which does not exist",
									   branch_name(loaded->branch), ps_id_format(&loaded->ancestor, text)));
		else
			loaded->branch->ancestor = ancestor->branch;
	}
	for (int i = 0; i < list->n; i++)
	{
		Branch *branch = list->items[i].branch;
		int depth = 0;

		for (Branch *a = branch->ancestor; a != NULL && depth <= list->n; a = a->ancestor)
			depth++;
		if (depth <= list->n)
			continue;
		branch_set_broken(branch,
						  ps_error(PS_SQLSTATE_CORRUPTED, "branch \"%s\" begins in itself", branch_name(branch)));
		branch->ancestor = NULL;
	}

	/* also for those that are BROKEN */
	for (int i = 0; i < list->n; i++)
		if (list->items[i].branch->ancestor != NULL)
			pins_add(list->items[i].branch->ancestor->spec.pins, list->items[i].branch->spec.start_lsn, PIN_BRANCH);
}

PsError *
tenant_load(Tenant *tenant, const PsError *problem, Branch ***timelines, int *n)
{
	char *path = psprintf("%s/timelines", tenant->dir);
	LoadedList list = {0};
	PsId *ids;
	int nids;
	PsError *err = store_dir_list_ids(path, &ids, &nids);

	*timelines = NULL;
	*n = 0;
	pfree(path);
	if (err != NULL && !ps_error_is_transient(err))
	{
		ps_log_error(PS_WARNING, err, "could not find the branches of a tenant");
		err = NULL;
	}
	list.items = pg_malloc0(Max(nids, 1) * sizeof(Loaded));
	atomic_store(&tenant->env.keep_all, 0);
	while (err == NULL && list.n < nids)
	{
		Loaded *loaded = &list.items[list.n];

		err = branch_load(tenant, &ids[list.n], problem, &loaded->branch, &loaded->has_ancestor, &loaded->ancestor);
		if (err != NULL)
			break;
		if (loaded->branch->origin_unknown)
			atomic_fetch_add(&tenant->env.keep_all, 1);
		list.n++;
	}
	free(ids);
	if (err != NULL)
	{
		for (int i = 0; i < list.n; i++)
			branch_free(list.items[i].branch);
		free(list.items);
		return err;
	}
	if (atomic_load(&tenant->env.keep_all) > 0)
		ps_log(PS_WARNING,
			   "it is unknown where %d branches in \"%s/timelines\" begin; "
			   "no garbage of the others there is removed until these can be read or are deleted with --purge",
			   atomic_load(&tenant->env.keep_all), tenant->dir);
	qsort(list.items, list.n, sizeof(Loaded), compare_loaded);
	link_ancestors(&list);
	*timelines = pg_malloc(Max(list.n, 1) * sizeof(Branch *));
	for (int i = 0; i < list.n; i++)
		(*timelines)[i] = list.items[i].branch;
	*n = list.n;
	free(list.items);
	return NULL;
}
