/*
 * store.c
 *	  All tenants and timelines of a STORE directory: reading their manifests
 *	  at the start, looking them up.
 *
 * STORE/tenants/<tenant>/tenant.json says of which cluster family the tenant
 * is; its timelines are directories with a manifest.  STORE/tmp holds what is
 * being made; it is emptied at the start.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_utils.h"
#include "sqlstate.h"
#include "io/aio.h"
#include "base/fs.h"
#include "store/store_impl.h"

/* The caller of the functions up to store_named() holds Store.lock, or opens the store. */

void
store_put_tenant(Store *store, Tenant *tenant)
{
	store->tenants = pg_realloc(store->tenants, (store->ntenants + 1) * sizeof(Tenant *));
	store->tenants[store->ntenants++] = tenant;
}

void
store_forget_tenant(Store *store, Tenant *tenant)
{
	for (int i = 0; i < store->ntenants; i++)
		if (store->tenants[i] == tenant)
		{
			store->tenants[i] = store->tenants[--store->ntenants];
			break;
		}
}

void
store_forget_purged_tenant(Store *store, Tenant *tenant)
{
	store_forget_tenant(store, tenant);
	store->gone_tenants = pg_realloc(store->gone_tenants, (store->ngone_tenants + 1) * sizeof(Tenant *));
	store->gone_tenants[store->ngone_tenants++] = tenant;
}

void
store_put_branch(Store *store, Branch *branch)
{
	PsError *err = branch->tenant->claim_fd == TENANT_NOT_CLAIMED ? tenant_claim(branch->tenant) : NULL;

	/* attaching a tenant has claimed it already; at a start it is too late for more than a warning */
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

Branch *
store_named(Store *store, const char *name)
{
	PsId id;

	/* that of a branch whose manifest cannot be read may be "" */
	for (int i = 0; i < store->nbranches && name[0] != '\0'; i++)
		if (!store->branches[i]->in_trash && strcmp(branch_name(store->branches[i]), name) == 0)
			return store->branches[i];
	for (int i = 0; i < store->nbranches && ps_id_parse(name, &id); i++)
		if (!store->branches[i]->in_trash && ps_id_equal(&store->branches[i]->spec.id, &id))
			return store->branches[i];
	return NULL;
}

PsError *
store_list_ids(const char *path, PsId **ids, int *n)
{
	DIR *dir = opendir(path);
	struct dirent *de;
	PsError *err = NULL;

	*ids = NULL;
	*n = 0;
	if (dir == NULL)
		return ps_error(ps_errno_state(), "could not open directory \"%s\": %m", path);
	while (errno = 0, (de = readdir(dir)) != NULL)
	{
		PsId id;

		if (ps_id_parse(de->d_name, &id))
		{
			/* doubled when it is full, at powers of two */
			if ((*n & (*n - 1)) == 0)
				*ids = pg_realloc(*ids, Max(*n * 2, 1) * sizeof(PsId));
			(*ids)[(*n)++] = id;
		}
		else if (de->d_name[0] != '.')
			ps_log(PS_WARNING, "\"%s/%s\" does not belong here and is left alone", path, de->d_name);
	}
	if (errno != 0)
		err = ps_error(ps_errno_state(), "could not read directory \"%s\": %m", path);
	closedir(dir);
	return err;
}

/* ---- opening and closing ---- */

static int
by_name(const void *a, const void *b)
{
	return strcmp(branch_name(*(Branch *const *) a), branch_name(*(Branch *const *) b));
}

/* Was a replaced by b, or b by a?  Then that one; else NULL. */
static Branch *
replaced_one(Branch *a, Branch *b)
{
	if (a->tenant != b->tenant)
		return NULL;
	if (b->spec.has_replaced && ps_id_equal(&b->spec.replaced, &a->spec.id))
		return a;
	return a->spec.has_replaced && ps_id_equal(&a->spec.replaced, &b->spec.id) ? b : NULL;
}

void
store_drop_name(Branch *branch)
{
	ps_log(PS_WARNING, "the branch in \"%s\", which is not served, has no name: its last known name, \"%s\", belongs to another branch",
		   branch->spec.dir, branch_name(branch));
	branch->spec.name.now[0] = '\0';
}

void
store_drop_old_names(Branch **list, int n)
{
	for (int i = 0; i < n; i++)
		for (int k = 0; k < n && list[i]->life == BRANCH_BROKEN && branch_name(list[i])[0] != '\0' && !list[i]->in_trash; k++)
			if (k != i && !list[k]->in_trash && strcmp(branch_name(list[k]), branch_name(list[i])) == 0)
				store_drop_name(list[i]);
}

/*
 * Of branches of the same name one may have been replaced by the other, or one
 * was made in spite of an error; then all but one are broken.
 */
static void
check_names(Store *store)
{
	int nall;
	int n = 0;
	Branch **all = store_list(store, &nall);
	Branch **list = pg_malloc(Max(nall, 1) * sizeof(Branch *));

	/* what is in the trash has no name that others could not have */
	for (int i = 0; i < nall; i++)
		if (!all[i]->in_trash)
			list[n++] = all[i];
	store_drop_old_names(list, n);
	qsort(list, n, sizeof(Branch *), by_name);
	for (int i = 1; i < n; i++)
	{
		Branch *replaced = replaced_one(list[i - 1], list[i]);
		PsError *err = NULL;

		if (branch_name(list[i])[0] == '\0' || strcmp(branch_name(list[i - 1]), branch_name(list[i])) != 0)
			continue;
		if (replaced == NULL)
		{
			/* rather the one that no compute has used */
			replaced = list[i - 1]->known.generation < list[i]->known.generation ? list[i - 1] : list[i];
			err = ps_error(PS_SQLSTATE_CORRUPTED, "two branches have the name \"%s\": \"%s\" and \"%s\"", branch_name(list[i]),
						   list[i - 1]->spec.dir, list[i]->spec.dir);
		}
		else
			err = store_finish_replacement(store, replaced);
		if (err != NULL)
			branch_set_broken(replaced, err);
	}
	free(list);
	store_list_free(all, nall);
}

/* Damage of one tenant or timeline is no reason not to serve the others. */
static PsError *
open_tenant(Store *store, const PsId *id)
{
	Tenant *tenant = tenant_alloc(store, id);
	PsError *problem;
	Branch **timelines;
	int n;
	PsError *err;

	store_put_tenant(store, tenant);
	/* after a kill, that it is marked, or no longer is, may not be durable yet */
	problem = fs_sync(tenant->dir);
	problem = ps_error_first(problem, trash_mark_read(tenant->dir, store->clock, &tenant->trash_mark, &tenant->deleted));
	if (tenant->deleted || tenant_is_marked_detached(tenant))
	{
		ps_error_free(problem);
		tenant->life = TENANT_DETACHED;
		return NULL;
	}
	if (problem == NULL)
		problem = tenant_read(tenant);
	if (problem != NULL && ps_error_is_transient(problem))
		return problem;
	err = tenant_load(tenant, problem, &timelines, &n);
	for (int i = 0; i < n; i++)
		store_put_branch(store, timelines[i]);
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
	PsError *err = store_list_ids(path, &ids, &n);

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
 * STORE/tmp, empty.  What a killed store has moved there, to be deleted, may be
 * in its place again after a power failure, unless that is durable before what
 * it holds goes.
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
	path = psprintf("%s/tmp", config->store_dir);
	err = make_tmp(path);
	pfree(path);
	if (err == NULL)
		err = store_clock_open(config->store_dir, &store->clock);
	if (err == NULL)
		err = open_aio(store);
	if (err == NULL)
		err = open_tenants(store);
	if (err == NULL)
		err = upkeep_start(store, &store->upkeep);
	if (err == NULL)
		err = store_start_idle_thread(store);
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
	pthread_mutex_unlock(&store->lock);
}

void
store_close(Store *store)
{
	/* all end what they do at the same time */
	store_stop(store);
	upkeep_stop(store->upkeep);
	if (store->has_idle_thread)
		pthread_join(store->idle_thread, NULL);
	/* before the first is closed, for the threads of a branch use those that it begins in */
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
	store_clock_close(store->clock);
	free(store->branches);
	free(store->tenants);
	pthread_cond_destroy(&store->changed);
	pthread_cond_destroy(&store->idle_wake);
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

	/* they live until store_close(), but their locks are taken with no other held */
	pthread_mutex_lock(&store->lock);
	n = store->ntenants;
	tenants = pg_malloc((n + 1) * sizeof(Tenant *));
	memcpy(tenants, store->tenants, n * sizeof(Tenant *));
	pthread_cond_broadcast(&store->idle_wake);
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

Branch *
branch_of(const Timeline *tl)
{
	return (Branch *) ((char *) tl->spec - offsetof(Branch, spec));
}

/* Holds it, and opens it.  The caller has the lock, which is let go. */
static PsError *
use_and_unlock(Store *store, Branch *branch, const CancelCheck *cancel, Timeline **tl)
{
	bool was_open = branch->life == BRANCH_OPEN;
	PsError *err;

	branch->users++;
	err = store_begin_use(store, branch, cancel);
	if (err != NULL)
		store_unhold(store, branch);
	else if (!was_open)
		upkeep_opened(store->upkeep, branch);
	*tl = err == NULL ? branch->open : NULL;
	pthread_mutex_unlock(&store->lock);
	return err;
}

PsError *
store_use(Store *store, const PsId *tenant, const PsId *timeline, const CancelCheck *cancel, Timeline **tl)
{
	Branch *branch = NULL;
	char a[PS_ID_TEXT],
		b[PS_ID_TEXT];
	PsError *err = NULL;

	pthread_mutex_lock(&store->lock);
	for (int i = 0; i < store->nbranches && branch == NULL; i++)
		if (ps_id_equal(&store->branches[i]->spec.id, timeline) && ps_id_equal(&store->branches[i]->tenant->id, tenant))
			branch = store->branches[i];
	if (branch != NULL)
		return use_and_unlock(store, branch, cancel, tl);
	for (int i = 0; i < store->ntenants && err == NULL; i++)
		if (ps_id_equal(&store->tenants[i]->id, tenant) && store->tenants[i]->life != TENANT_ATTACHED)
			err = tenant_detached_error(store->tenants[i]);
	pthread_mutex_unlock(&store->lock);
	if (err != NULL)
		return err;
	return ps_error(PS_SQLSTATE_NOT_FOUND, "the store has no timeline %s of tenant %s", ps_id_format(timeline, b),
					ps_id_format(tenant, a));
}

PsError *
store_no_such_branch(const Store *store, const char *name)
{
	bool detached = false;
	const Branch *deleted = trash_named(store, name);

	if (deleted != NULL)
		return trash_error(deleted);
	for (int i = 0; i < store->ntenants; i++)
		detached |= store->tenants[i]->life != TENANT_ATTACHED;
	return ps_error_hint(ps_error(PS_SQLSTATE_NOT_FOUND, "branch \"%s\" does not exist", name),
						 "\"pageserver_ctl branch list\" shows the branches%s.",
						 detached ? ", \"pageserver_ctl tenant list\" what is detached" : "");
}

PsError *
store_use_branch(Store *store, const char *name, const CancelCheck *cancel, Timeline **tl)
{
	Branch *branch;
	PsError *err;

	pthread_mutex_lock(&store->lock);
	branch = store_named(store, name);
	if (branch != NULL)
		return use_and_unlock(store, branch, cancel, tl);
	*tl = NULL;
	err = store_no_such_branch(store, name);
	pthread_mutex_unlock(&store->lock);
	return err;
}

PsError *
store_named_settled(Store *store, const char *name, const CancelCheck *cancel, Branch **branch)
{
	CancelWait wait = {.cancel = cancel};
	PsError *err;

	while ((*branch = store_named(store, name)) != NULL)
	{
		if ((*branch)->life != BRANCH_OPENING && (*branch)->life != BRANCH_CLOSING && !(*branch)->changing)
			return NULL;
		(*branch)->users++;
		err = store_wait(store, &wait);
		store_unhold(store, *branch);
		if (err != NULL)
			return err;
	}
	return store_no_such_branch(store, name);
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
	qsort(list, *n, sizeof(Branch *), by_name);
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
			store_unhold(store, list[i]);
		pthread_mutex_unlock(&store->lock);
	}
	free(list);
}

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

void
store_unhold(Store *store, Branch *branch)
{
	if (--branch->users == 0)
		pthread_cond_broadcast(&store->changed);
}

void
store_free_branch(Store *store, Branch *branch)
{
	while (branch->users > 0)
		pthread_cond_wait(&store->changed, &store->lock);
	if (branch->life == BRANCH_OPEN)
		store_close_branch(store, branch);
	if (branch->ancestor != NULL)
		store_unhold(store, branch->ancestor);
	branch_free(branch);
}

void
store_release(Timeline *tl)
{
	Branch *branch = branch_of(tl);
	Store *store = branch->tenant->store;

	pthread_mutex_lock(&store->lock);
	store_end_use(store, branch, true);
	store_unhold(store, branch);
	pthread_mutex_unlock(&store->lock);
}

void
store_forget(Store *store, Branch *branch)
{
	for (int i = 0; i < store->nbranches; i++)
		if (store->branches[i] == branch)
		{
			branch->gone = true;
			store->branches[i] = store->branches[--store->nbranches];
			break;
		}
}
