/*
 * store.c
 *	  Opens, stops and closes the store of a STORE directory.
 *
 * STORE/tenants/<tenant>/tenant.json says to which cluster family the tenant belongs; its
 * timelines are subdirectories with a manifest each.  STORE/tmp holds what is being
 * created or removed; it is emptied at the start.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_utils.h"
#include "sqlstate.h"
#include "io/aio.h"
#include "base/fs.h"
#include "ingest/ingest.h"
#include "store/store_dir.h"
#include "store/store_impl.h"
#include "upload/remote_layers.h"

/* ---- opening and closing ---- */

static int
compare_names(const void *a, const void *b)
{
	return strcmp(branch_name(*(Branch *const *) a), branch_name(*(Branch *const *) b));
}

/* If one of the two was replaced by the other, returns the replaced one; else NULL. */
static Branch *
replaced_one(Branch *a, Branch *b)
{
	if (a->tenant != b->tenant)
		return NULL;
	if (b->spec.has_replaced && ps_id_equal(&b->spec.replaced, &a->spec.id))
		return a;
	return a->spec.has_replaced && ps_id_equal(&a->spec.replaced, &b->spec.id) ? b : NULL;
}

/*
 * Branches with the same name exist if the store ended before a replaced branch got its
 * new name, or if one was created in spite of an error.  Renames the replaced one, or sets
 * all except one BROKEN.
 */
static void
check_names(Store *store)
{
	int nall;
	int n = 0;
	Branch **all = store_list(store, &nall);
	Branch **list = pg_malloc(Max(nall, 1) * sizeof(Branch *));

	/* names of branches in the trash may be in use */
	for (int i = 0; i < nall; i++)
		if (!all[i]->in_trash)
			list[n++] = all[i];
	names_drop_old(list, n);
	qsort(list, n, sizeof(Branch *), compare_names);
	for (int i = 1; i < n; i++)
	{
		Branch *replaced = replaced_one(list[i - 1], list[i]);
		PsError *err = NULL;

		if (branch_name(list[i])[0] == '\0' || strcmp(branch_name(list[i - 1]), branch_name(list[i])) != 0)
			continue;
		if (replaced == NULL)
		{
			/* preferably the one that no compute has used */
			replaced = list[i - 1]->known.generation < list[i]->known.generation ? list[i - 1] : list[i];
			err = ps_error(PS_SQLSTATE_CORRUPTED, "two branches have the name \"%s\": \"%s\" and \"%s\"",
						   branch_name(list[i]), list[i - 1]->spec.dir, list[i]->spec.dir);
		}
		else
			err = names_finish_replacement(store, replaced);
		if (err != NULL)
			branch_set_broken(replaced, err);
	}
	free(list);
	store_list_free(all, nall);
}

/* Damage is not an error: it makes branches of this tenant BROKEN, and the others are served. */
static PsError *
open_tenant(Store *store, const PsId *id)
{
	Tenant *tenant = tenant_alloc(store, id);
	PsError *problem;
	Branch **timelines;
	int n;
	PsError *err;

	catalog_add_tenant(store, tenant);
	/* a killed store may have created or removed a mark without syncing the directory */
	problem = fs_sync(tenant->dir);
	problem = ps_error_first(problem,
							 trash_mark_read(tenant->dir, store->clock, &tenant->trash_mark, &tenant->deleted));
	if (tenant->deleted || tenant_is_marked_detached(tenant))
	{
		ps_error_free(problem);
		tenant->life = TENANT_DETACHED;
		return NULL;
	}
	if (problem == NULL)
		problem = tenant_read(tenant);
	if (problem == NULL)
		problem = tenant_raise_format(tenant);
	if (problem != NULL && ps_error_is_transient(problem))
		return problem;
	err = tenant_load(tenant, problem, &timelines, &n);
	for (int i = 0; i < n; i++)
		catalog_add_branch(store, timelines[i]);
	free(timelines);
	ps_error_free(problem);
	return err;
}

static PsError *
open_tenants(Store *store)
{
	char *path = psprintf("%s/tenants", store->config->store_dir);
	PsId *ids;
	int n;
	PsError *err = store_dir_list_ids(path, &ids, &n);

	for (int i = 0; i < n && err == NULL; i++)
		err = open_tenant(store, &ids[i]);
	check_names(store);
	free(ids);
	pfree(path);
	return err;
}

static PsError *
open_aio(Store *store)
{
	const Config *config = store->config;
	AioMethod method = AIO_URING;

	if (config->io_method != NULL)
		(void) aio_method_by_name(config->io_method, &method);
	return aio_create(method, config->io_workers, &store->aio);
}

/*
 * Creates or empties STORE/tmp.  A killed store may have moved a directory there to remove
 * it: without the sync, a power failure could put it back without some of its files.
 */
static PsError *
make_tmp(const char *path)
{
	if (access(path, F_OK) == 0)
	{
		PS_TRY(fs_sync(path));
		if (!rmtree(path, true))
			return ps_error(PS_SQLSTATE_IO, "could not empty directory \"%s\": %m", path);
	}
	return fs_make_dir(path);
}

PsError *
store_open(const Config *config, Store **result)
{
	Store *store = pg_malloc0(sizeof(Store));
	char *path;
	PsError *err = NULL;

	store->config = config;
	atomic_init(&store->stopping, false);
	store->page_cache = page_store_create((size_t) config->page_cache_size * 1024 * 1024);
	store->memory = memory_budget_create((uint64) config->layer_memory * 1024 * 1024);
	pthread_mutex_init(&store->lock, NULL);
	clock_cond_init(&store->changed);
	clock_cond_init(&store->idle_wake);
	pthread_mutex_init(&store->fence_lock, NULL);
	clock_cond_init(&store->owner_wake);
	path = psprintf("%s/tmp", config->store_dir);
	err = make_tmp(path);
	pfree(path);
	if (err == NULL)
		err = store_clock_open(config->store_dir, &store->clock);
	if (err == NULL)
		err = open_aio(store);
	if (err == NULL)
		err = store_remote_open(store);
	if (err == NULL)
		err = open_tenants(store);
	if (err == NULL)
		err = owner_start(store);
	if (err == NULL)
		err = upkeep_start(store);
	if (err == NULL)
		err = use_start_idle_thread(store);
	if (err != NULL)
	{
		store_close(store);
		return err;
	}
	*result = store;
	return NULL;
}

void
store_stop(Store *store)
{
	pthread_mutex_lock(&store->lock);
	atomic_store(&store->stopping, true);
	for (int i = 0; i < store->nbranches; i++)
		if (store->branches[i]->life == BRANCH_OPEN)
			timeline_stop(store->branches[i]->open, CANCEL_STORE_STOPPING);
	pthread_cond_broadcast(&store->changed);
	pthread_cond_broadcast(&store->idle_wake);
	pthread_cond_broadcast(&store->owner_wake);
	pthread_mutex_unlock(&store->lock);
}

void
store_close(Store *store)
{
	/* everything ends concurrently */
	store_stop(store);
	owner_stop(store);
	upkeep_stop(store->upkeep);
	if (store->has_idle_thread)
		pthread_join(store->idle_thread, NULL);
	/* all threads end before the first branch is closed, because they use its ancestors */
	for (int i = 0; i < store->nbranches; i++)
		if (store->branches[i]->life == BRANCH_OPEN)
			timeline_join(store->branches[i]->open);
	for (int i = 0; i < store->nbranches; i++)
		if (store->branches[i]->life == BRANCH_OPEN)
		{
			timeline_close(store->branches[i]->open);
			store->branches[i]->open = NULL;
			tenant_end_use(store->branches[i]->tenant);
			store->branches[i]->life = BRANCH_CLOSED;
		}
	upkeep_free(store->upkeep);
	/* all end concurrently */
	for (int i = 0; i < store->ntenants; i++)
		if (store->tenants[i]->upload != NULL)
			upload_stop(store->tenants[i]->upload);
	for (int i = 0; i < store->nbranches; i++)
		branch_free(store->branches[i]);
	for (int i = 0; i < store->ntenants; i++)
		tenant_free(store->tenants[i]);
	for (int i = 0; i < store->ngone_tenants; i++)
		tenant_free(store->gone_tenants[i]);
	free(store->gone_tenants);
	memory_budget_free(store->memory);
	page_store_free(store->page_cache);
	aio_free(store->aio);
	remote_layers_free(store->remote_layers);
	object_store_close(store->remote);
	store_clock_close(store->clock);
	free(store->branches);
	free(store->tenants);
	pthread_cond_destroy(&store->changed);
	pthread_cond_destroy(&store->idle_wake);
	pthread_cond_destroy(&store->owner_wake);
	pthread_mutex_destroy(&store->fence_lock);
	pthread_mutex_destroy(&store->lock);
	free(store);
}

void
store_reload(Store *store, const Config *config)
{
	Tenant **tenants;
	int n;

	atomic_store(&store->config, config);
	memory_budget_set_limit(store->memory, (uint64) config->layer_memory * 1024 * 1024);
	if (store->remote_layers != NULL)
		remote_layers_set_patience(store->remote_layers, config->wait_timeout);

	/* tenants live until store_close(); Tenant.lock is not acquired under Store.lock */
	pthread_mutex_lock(&store->lock);
	n = store->ntenants;
	tenants = pg_malloc((n + 1) * sizeof(Tenant *));
	for (int i = 0; i < n; i++)
		tenants[i] = store->tenants[i];
	pthread_cond_broadcast(&store->idle_wake);
	pthread_cond_broadcast(&store->owner_wake);
	for (int i = 0; i < store->nbranches; i++)
		if (store->branches[i]->life == BRANCH_OPEN)
			timeline_settings_changed(store->branches[i]->open);
	pthread_mutex_unlock(&store->lock);
	for (int i = 0; i < n; i++)
	{
		pthread_mutex_lock(&tenants[i]->lock);
		if (tenants[i]->env.redo != NULL)
			redo_pool_set_timeout(tenants[i]->env.redo, config->redo_timeout);
		pthread_mutex_unlock(&tenants[i]->lock);
	}
	free(tenants);
}

const Config *
store_config(const Store *store)
{
	return store->config;
}

/* ---- looking up ---- */

void
store_read_stats(Store *store, StoreReadStats *stats)
{
	PageStoreStats cache;

	page_store_stats(store->page_cache, &cache);
	*stats = (StoreReadStats) {
		.reads = atomic_load_explicit(&store->reads.keys, memory_order_relaxed),
		.layers_searched = atomic_load_explicit(&store->reads.layers_searched, memory_order_relaxed),
		.page_cache_hits = cache.hits,
		.page_cache_misses = cache.misses};
}

void
store_count_broken(Store *store, int *broken, int *unknown)
{
	*broken = *unknown = 0;
	pthread_mutex_lock(&store->lock);
	for (int i = 0; i < store->nbranches; i++)
	{
		*broken += store->branches[i]->life == BRANCH_BROKEN && !store->branches[i]->in_trash;
		*unknown += store->branches[i]->origin_unknown;
	}
	pthread_mutex_unlock(&store->lock);
}
