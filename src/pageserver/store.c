/*
 * store.c
 *	  All tenants and timelines of a STORE directory.
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
#include "ps_wire.h"
#include "read/aio.h"
#include "timeline_impl.h"

/* Branches of branches of branches ... */
#define ANCESTORS_MAX 10000

/* Caller holds Store.lock, or the store is being opened. */
void
store_put_tenant(Store *store, Tenant *tenant)
{
	store->tenants = pg_realloc(store->tenants, (store->ntenants + 1) * sizeof(Tenant *));
	store->tenants[store->ntenants++] = tenant;
}

/* The same holds here. */
void
store_put_timeline(Store *store, Timeline *tl)
{
	store->timelines = pg_realloc(store->timelines, (store->ntimelines + 1) * sizeof(Timeline *));
	store->timelines[store->ntimelines++] = tl;
	if (tl->ancestor != NULL)
		tl->ancestor->users++;
}

/* Caller holds Store.lock, or the store is being opened. */
Timeline *
store_named(Store *store, const char *name)
{
	for (int i = 0; i < store->ntimelines; i++)
		if (strcmp(store->timelines[i]->name, name) == 0)
			return store->timelines[i];
	return NULL;
}

/* Calls fn for each subdirectory that is named by an id; others are left alone. */
static PsError *
for_each_id(const char *path, PsError *(*fn) (void *arg, const PsId *id), void *arg)
{
	DIR		   *dir = opendir(path);
	struct dirent *de;
	PsError    *err = NULL;

	if (dir == NULL)
		return ps_error(PS_SQLSTATE_IO, "could not open directory \"%s\": %m", path);
	while (err == NULL && (errno = 0, de = readdir(dir)) != NULL)
	{
		PsId		id;

		if (ps_id_parse(de->d_name, &id))
			err = fn(arg, &id);
		else if (de->d_name[0] != '.')
			ps_log(PS_WARNING, "\"%s/%s\" does not belong here and is left alone", path, de->d_name);
	}
	if (err == NULL && errno != 0)
		err = ps_error(PS_SQLSTATE_IO, "could not read directory \"%s\": %m", path);
	closedir(dir);
	return err;
}

/* Takes the error over. */
static void
add_broken(Tenant *tenant, const PsId *id, const Manifest *m, PsError *error)
{
	Store	   *store = tenant->store;
	BrokenTimeline *broken;
	char		text[PS_ID_TEXT];

	store->broken = pg_realloc(store->broken, (store->nbroken + 1) * sizeof(BrokenTimeline));
	broken = &store->broken[store->nbroken++];
	memset(broken, 0, sizeof(*broken));
	broken->tenant = tenant->id;
	broken->timeline = *id;
	broken->error = error;
	if (m != NULL)
	{
		strlcpy(broken->name, m->name, sizeof(broken->name));
		broken->has_ancestor = m->has_ancestor;
		broken->ancestor = m->ancestor;
	}
	ps_log(PS_WARNING, "could not open \"%s/timelines/%s\", branch \"%s\", which is not served: %s", tenant->dir,
		   ps_id_format(id, text), broken->name, error->message);
}

/* Caller holds Store.lock, or the store is being opened. */
static Timeline *
find_timeline(const Tenant *tenant, const PsId *id)
{
	const Store *store = tenant->store;

	for (int i = 0; i < store->ntimelines; i++)
		if (store->timelines[i]->tenant == tenant && ps_id_equal(&store->timelines[i]->id, id))
			return store->timelines[i];
	return NULL;
}

static bool
is_broken(const Tenant *tenant, const PsId *id)
{
	const Store *store = tenant->store;

	for (int i = 0; i < store->nbroken; i++)
		if (ps_id_equal(&store->broken[i].tenant, &tenant->id) && ps_id_equal(&store->broken[i].timeline, id))
			return true;
	return false;
}

static void open_timeline(Tenant *tenant, const PsId *id, int depth);

/* The ancestor that a manifest names, opened; NULL if it names none. */
static PsError *
open_ancestor(Tenant *tenant, const Manifest *m, int depth, Timeline **ancestor)
{
	char		text[PS_ID_TEXT];

	*ancestor = NULL;
	if (!m->has_ancestor)
		return NULL;
	if (depth > ANCESTORS_MAX)
		return ps_error(PS_SQLSTATE_CORRUPTED, "branch \"%s\" has more than %d ancestors, or is its own", m->name, ANCESTORS_MAX);
	open_timeline(tenant, &m->ancestor, depth + 1);
	*ancestor = find_timeline(tenant, &m->ancestor);
	if (*ancestor != NULL)
		return NULL;
	return ps_error(PS_SQLSTATE_CORRUPTED, "branch \"%s\" begins in timeline %s, which cannot be opened", m->name,
					ps_id_format(&m->ancestor, text));
}

static PsError *
try_open_timeline(Tenant *tenant, const PsId *id, const Manifest *m, int depth)
{
	Store	   *store = tenant->store;
	Timeline   *ancestor;
	Timeline   *tl;

	PS_TRY(open_ancestor(tenant, m, depth, &ancestor));
	/* whatever becomes of the branch, what it needs stays */
	if (ancestor != NULL)
		timeline_pin_branch(ancestor, m->start_lsn);
	PS_TRY(timeline_open(tenant, id, ancestor, &tl));
	if (store_named(store, tl->name) != NULL)
	{
		PsError    *err = ps_error(PS_SQLSTATE_CORRUPTED, "two branches have the name \"%s\": \"%s\" and \"%s\"", tl->name,
								   store_named(store, tl->name)->dir, tl->dir);

		timeline_close(tl);
		return err;
	}
	store_put_timeline(store, tl);
	return NULL;
}

/* Opens a timeline, its ancestors first, unless that has been tried. */
static void
open_timeline(Tenant *tenant, const PsId *id, int depth)
{
	Manifest	m = {0};
	char		text[PS_ID_TEXT];
	char	   *dir;
	PsError    *err;

	if (find_timeline(tenant, id) != NULL || is_broken(tenant, id))
		return;
	dir = psprintf("%s/timelines/%s", tenant->dir, ps_id_format(id, text));
	err = manifest_read(dir, &m);
	if (err == NULL)
		err = try_open_timeline(tenant, id, &m, depth);
	else
		tenant->keep_all = true;
	if (err != NULL)
		add_broken(tenant, id, &m, err);
	manifest_free(&m);
	pfree(dir);
}

/* What open_one_timeline() needs. */
typedef struct OpenTenant
{
	Tenant	   *tenant;
	PsError    *error;			/* why none of its timelines can be opened, or NULL */
} OpenTenant;

static PsError *
open_one_timeline(void *arg, const PsId *id)
{
	OpenTenant *open = arg;

	if (open->error == NULL)
		open_timeline(open->tenant, id, 0);
	else
		add_broken(open->tenant, id, NULL, ps_error(open->error->sqlstate, "%s", open->error->message));
	return NULL;
}

/* Damage of one tenant or timeline is no reason not to serve the others. */
static PsError *
open_one_tenant(void *arg, const PsId *id)
{
	Store	   *store = arg;
	OpenTenant	open = {tenant_alloc(store, id)};
	char	   *timelines = psprintf("%s/timelines", open.tenant->dir);
	PsError    *err;

	store_put_tenant(store, open.tenant);
	open.error = tenant_read(open.tenant);
	if (open.error == NULL)
		open.error = tenant_start(open.tenant);
	err = for_each_id(timelines, open_one_timeline, &open);
	if (err != NULL)
		ps_log_error(PS_WARNING, err, "could not look for the branches of a tenant");
	ps_error_free(open.error);
	pfree(timelines);
	return NULL;
}

static PsError *
open_aio(Store *store)
{
	const Config *config = store->config;
	AioMethod	method = AIO_URING;

	if (config->io_method != NULL)
		(void) aio_method_by_name(config->io_method, &method);
	return aio_create(method, config->io_workers, &store->aio);
}

PsError *
store_open(const Config *config, Store **result)
{
	Store	   *store = pg_malloc0(sizeof(Store));
	char	   *path;
	PsError    *err = NULL;

	store->config = config;
	pthread_mutex_init(&store->lock, NULL);
	pthread_cond_init(&store->released, NULL);
	path = psprintf("%s/tmp", config->store_dir);
	if (access(path, F_OK) == 0 && !rmtree(path, true))
		err = ps_error(PS_SQLSTATE_IO, "could not empty directory \"%s\": %m", path);
	else if (mkdir(path, 0700) != 0)
		err = ps_error(PS_SQLSTATE_IO, "could not create directory \"%s\": %m", path);
	pfree(path);
	if (err == NULL)
		err = open_aio(store);
	if (err == NULL)
	{
		path = psprintf("%s/tenants", config->store_dir);
		err = for_each_id(path, open_one_tenant, store);
		pfree(path);
	}
	if (err == NULL)
		err = upkeep_start(store, &store->upkeep);
	if (err != NULL)
	{
		store_close(store);
		return err;
	}
	*result = store;
	return NULL;
}

void
store_close(Store *store)
{
	/* all end what they do at the same time */
	for (int i = 0; i < store->ntimelines; i++)
		timeline_stop(store->timelines[i]);
	upkeep_stop(store->upkeep);
	/* before the first is freed, for the threads of a branch use those that it begins in */
	for (int i = 0; i < store->ntimelines; i++)
		timeline_join(store->timelines[i]);
	for (int i = 0; i < store->ntimelines; i++)
		timeline_close(store->timelines[i]);
	for (int i = 0; i < store->ntenants; i++)
		tenant_free(store->tenants[i]);
	for (int i = 0; i < store->nbroken; i++)
		ps_error_free(store->broken[i].error);
	aio_free(store->aio);
	free(store->broken);
	free(store->timelines);
	free(store->tenants);
	pthread_cond_destroy(&store->released);
	pthread_mutex_destroy(&store->lock);
	free(store);
}

const Config *
store_config(const Store *store)
{
	return store->config;
}

/* ---- looking up ---- */

const BrokenTimeline *
store_broken(const Store *store, int *n)
{
	*n = store->nbroken;
	return store->broken;
}

/* NULL: there is none of that name. */
static const BrokenTimeline *
find_broken(const Store *store, const char *name)
{
	for (int i = 0; i < store->nbroken; i++)
		if (strcmp(store->broken[i].name, name) == 0)
			return &store->broken[i];
	return NULL;
}

bool
store_is_broken_name(const Store *store, const char *name)
{
	return find_broken(store, name) != NULL;
}

static PsError *
broken_error(const BrokenTimeline *broken)
{
	const char *hint = broken->error->hint;

	return ps_error_hint(ps_error(broken->error->sqlstate, "branch \"%s\" is not served: %s", broken->name, broken->error->message),
						 "%s%sRestart the store when it is mended.", hint ? hint : "", hint ? " " : "");
}

PsError *
store_find(Store *store, const PsId *tenant, const PsId *timeline, Timeline **tl)
{
	char		a[PS_ID_TEXT],
				b[PS_ID_TEXT];

	*tl = NULL;
	pthread_mutex_lock(&store->lock);
	for (int i = 0; i < store->ntimelines && *tl == NULL; i++)
		if (ps_id_equal(&store->timelines[i]->id, timeline) && ps_id_equal(&store->timelines[i]->tenant->id, tenant))
			*tl = store->timelines[i];
	if (*tl != NULL)
		(*tl)->users++;
	pthread_mutex_unlock(&store->lock);
	for (int i = 0; i < store->nbroken && *tl == NULL; i++)
		if (ps_id_equal(&store->broken[i].timeline, timeline) && ps_id_equal(&store->broken[i].tenant, tenant))
			return broken_error(&store->broken[i]);
	if (*tl == NULL)
		return ps_error(PS_SQLSTATE_NOT_FOUND, "the store has no timeline %s of tenant %s", ps_id_format(timeline, b),
						ps_id_format(tenant, a));
	return NULL;
}

PsError *
store_find_branch(Store *store, const char *name, Timeline **tl)
{
	pthread_mutex_lock(&store->lock);
	*tl = store_named(store, name);
	if (*tl != NULL)
		(*tl)->users++;
	pthread_mutex_unlock(&store->lock);
	if (*tl == NULL && find_broken(store, name) != NULL)
		return broken_error(find_broken(store, name));
	if (*tl == NULL)
		return ps_error_hint(ps_error(PS_SQLSTATE_NOT_FOUND, "branch \"%s\" does not exist", name),
							 "\"pageserver_ctl branch list\" shows the branches.");
	return NULL;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp((*(Timeline *const *) a)->name, (*(Timeline *const *) b)->name);
}

Timeline  **
store_list(Store *store, int *n)
{
	Timeline  **list;

	pthread_mutex_lock(&store->lock);
	*n = store->ntimelines;
	list = pg_malloc(Max(*n, 1) * sizeof(Timeline *));
	for (int i = 0; i < *n; i++)
	{
		list[i] = store->timelines[i];
		list[i]->users++;
	}
	pthread_mutex_unlock(&store->lock);
	qsort(list, *n, sizeof(Timeline *), by_name);
	return list;
}

void
store_list_free(Timeline **list, int n)
{
	for (int i = 0; i < n; i++)
		store_release(list[i]);
	free(list);
}

void
store_read_stats(Store *store, uint64 *reads, uint64 *layers_searched)
{
	*reads = atomic_load_explicit(&store->reads, memory_order_relaxed);
	*layers_searched = atomic_load_explicit(&store->layers_searched, memory_order_relaxed);
}

void
store_release(Timeline *tl)
{
	Store	   *store = tl->tenant->store;

	pthread_mutex_lock(&store->lock);
	if (--tl->users == 0)
		pthread_cond_broadcast(&store->released);
	pthread_mutex_unlock(&store->lock);
}

void
store_forget(Store *store, Timeline *tl)
{
	for (int i = 0; i < store->ntimelines; i++)
		if (store->timelines[i] == tl)
		{
			store->timelines[i] = store->timelines[--store->ntimelines];
			break;
		}
}
