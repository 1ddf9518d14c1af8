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
#include <fcntl.h>
#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "common/file_utils.h"
#include "ps_wire.h"
#include "timeline_impl.h"

#define TENANT_FORMAT "pageserver tenant"
#define TENANT_VERSION 1

/* Branches of branches of branches ... */
#define ANCESTORS_MAX 10000

/* ---- tenants ---- */

/* Writes DIR/tenant.json, which nobody looks at yet. */
static PsError *
tenant_write(const char *dir, const PsId *id, uint64 system_identifier, uint32 segment_size)
{
	char		path[MAXPGPATH];
	char		text[PS_ID_TEXT];
	char		sysid[32];
	json_t	   *root;
	char	   *dump;
	int			fd;
	PsError    *err = NULL;

	snprintf(sysid, sizeof(sysid), UINT64_FORMAT, system_identifier);
	root = json_pack("{s:s, s:i, s:s, s:s, s:i}", "format", TENANT_FORMAT, "version", TENANT_VERSION, "tenant",
					 ps_id_format(id, text), "system_identifier", sysid, "segment_size", (int) segment_size);
	dump = json_dumps(root, JSON_INDENT(1));
	json_decref(root);
	snprintf(path, sizeof(path), "%s/tenant.json", dir);
	errno = 0;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, dump, strlen(dump)) != (ssize_t) strlen(dump) || fsync(fd) != 0)
	{
		if (errno == 0)
			errno = ENOSPC;
		err = ps_error(errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? PS_SQLSTATE_DISK_FULL : PS_SQLSTATE_IO,
					   "could not write file \"%s\": %m", path);
	}
	if (fd >= 0)
		close(fd);
	free(dump);
	return err;
}

static PsError *
tenant_read(Tenant *tenant)
{
	char		path[MAXPGPATH];
	json_error_t jerr;
	json_t	   *root;
	const char *format = NULL;
	const char *id = NULL;
	const char *sysid = NULL;
	char		text[PS_ID_TEXT];
	int			version;
	int			segment_size;
	PsError    *err = NULL;

	snprintf(path, sizeof(path), "%s/tenant.json", tenant->dir);
	root = json_load_file(path, JSON_REJECT_DUPLICATES, &jerr);
	if (root == NULL)
		return ps_error(PS_SQLSTATE_CORRUPTED, "could not read \"%s\": line %d: %s", path, jerr.line, jerr.text);
	if (json_unpack(root, "{s:s, s:i, s:s, s:s, s:i}", "format", &format, "version", &version, "tenant", &id,
					"system_identifier", &sysid, "segment_size", &segment_size) != 0 ||
		strcmp(format, TENANT_FORMAT) != 0)
		err = ps_error(PS_SQLSTATE_CORRUPTED, "file \"%s\" does not describe a tenant", path);
	else if (version != TENANT_VERSION)
		err = ps_error(PS_SQLSTATE_STATE, "file \"%s\" has format version %d, this pageserver reads version %d", path, version,
					   TENANT_VERSION);
	else if (strcmp(id, ps_id_format(&tenant->id, text)) != 0 || !IsValidWalSegSize(segment_size))
		err = ps_error(PS_SQLSTATE_CORRUPTED, "file \"%s\" is of another tenant, or its WAL segment size is none", path);
	else
	{
		tenant->system_identifier = strtoull(sysid, NULL, 10);
		tenant->segment_size = segment_size;
	}
	json_decref(root);
	return err;
}

/* Starts what a tenant needs to serve reads: the redo helpers, the page cache. */
static PsError *
tenant_start(Tenant *tenant)
{
	const Config *config = tenant->store->config;
	char		id[PS_ID_TEXT];
	char	   *workdir = psprintf("%s/tmp/redo-%s", config->store_dir, ps_id_format(&tenant->id, id));
	RedoOptions options = {.bindir = config->bindir,
						   .workdir = workdir,
						   .segment_size = tenant->segment_size,
						   .wal_log_hints = true,	/* every compute has it on (src/compute/settings.c) */
						   .max_helpers = config->redo_helpers > 0 ? config->redo_helpers : (int) sysconf(_SC_NPROCESSORS_ONLN),
						   .timeout_ms = config->redo_timeout};
	PsError    *err = redo_pool_create(&options, &tenant->redo);

	pfree(workdir);
	if (err == NULL)
		tenant->page_cache = page_cache_create((size_t) config->page_cache_size * 1024 * 1024);
	return err;
}

static void
tenant_free(Tenant *tenant)
{
	if (tenant->redo != NULL)
		redo_pool_free(tenant->redo);
	if (tenant->page_cache != NULL)
		page_cache_free(tenant->page_cache);
	pfree(tenant->dir);
	free(tenant);
}

static Tenant *
tenant_alloc(Store *store, const PsId *id)
{
	Tenant	   *tenant = pg_malloc0(sizeof(Tenant));
	char		text[PS_ID_TEXT];

	tenant->id = *id;
	tenant->store = store;
	tenant->dir = psprintf("%s/tenants/%s", store->config->store_dir, ps_id_format(id, text));
	return tenant;
}

/* Caller holds Store.lock, or the store is being opened. */
static void
add_tenant(Store *store, Tenant *tenant)
{
	store->tenants = pg_realloc(store->tenants, (store->ntenants + 1) * sizeof(Tenant *));
	store->tenants[store->ntenants++] = tenant;
}

/* The same holds here. */
static void
add_timeline(Store *store, Timeline *tl)
{
	store->timelines = pg_realloc(store->timelines, (store->ntimelines + 1) * sizeof(Timeline *));
	store->timelines[store->ntimelines++] = tl;
	if (tl->ancestor != NULL)
		tl->ancestor->users++;
}

/* Caller holds Store.lock, or the store is being opened. */
static Timeline *
find_branch(Store *store, const char *name)
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
	if (find_branch(store, tl->name) != NULL)
	{
		PsError    *err = ps_error(PS_SQLSTATE_CORRUPTED, "two branches have the name \"%s\": \"%s\" and \"%s\"", tl->name,
								   find_branch(store, tl->name)->dir, tl->dir);

		timeline_close(tl);
		return err;
	}
	add_timeline(store, tl);
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

	add_tenant(store, open.tenant);
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
	for (int i = 0; i < store->ntimelines; i++)
		timeline_close(store->timelines[i]);
	for (int i = 0; i < store->ntenants; i++)
		tenant_free(store->tenants[i]);
	for (int i = 0; i < store->nbroken; i++)
		ps_error_free(store->broken[i].error);
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
	*tl = find_branch(store, name);
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
store_release(Timeline *tl)
{
	Store	   *store = tl->tenant->store;

	pthread_mutex_lock(&store->lock);
	if (--tl->users == 0)
		pthread_cond_broadcast(&store->released);
	pthread_mutex_unlock(&store->lock);
}

Timeline *
store_named(Store *store, const char *name)
{
	return find_branch(store, name);
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

/* ---- new timelines ---- */

bool
timeline_name_is_valid(const char *name)
{
	size_t		len = strlen(name);

	return len >= 1 && len <= TIMELINE_NAME_MAX && name[0] != '_' && name[0] != '-' && name[0] != '.' &&
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == len;
}

PsError *
store_check_name_is_free(Store *store, const char *name)
{
	if (!timeline_name_is_valid(name))
		return ps_error_hint(ps_error(PS_SQLSTATE_INVALID, "\"%s\" cannot be the name of a branch", name),
							 "A name has 1 to %d letters, digits, \"_\", \"-\" or \".\", and begins with a letter or digit.",
							 TIMELINE_NAME_MAX);
	if (find_branch(store, name) != NULL || find_broken(store, name) != NULL)
		return ps_error("42710", "branch \"%s\" exists already", name);
	return NULL;
}

PsError *
store_check_new_name(Store *store, const char *name)
{
	PsError    *err;

	pthread_mutex_lock(&store->lock);
	err = store_check_name_is_free(store, name);
	pthread_mutex_unlock(&store->lock);
	return err;
}

static PsError *
make_dir(const char *path)
{
	if (mkdir(path, 0700) != 0)
		return ps_error(errno == ENOSPC ? PS_SQLSTATE_DISK_FULL : PS_SQLSTATE_IO, "could not create directory \"%s\": %m", path);
	return NULL;
}

/* Moves a directory to where it counts, durably; after an error it is where it was. */
static PsError *
put_in_place(const char *from, const char *to)
{
	PsError    *err;

	if (rename(from, to) != 0)
		return ps_error(PS_SQLSTATE_IO, "could not rename \"%s\" to \"%s\": %m", from, to);
	if (fsync_parent_path(to) == 0)
		return NULL;
	err = ps_error(PS_SQLSTATE_IO, "could not sync the directory of \"%s\": %m", to);
	(void) rename(to, from);
	return err;
}

/*
 * Makes STORE/tmp/tenant-<id>, a directory of a tenant with one timeline, which
 * is moved there from where it was made.
 */
static PsError *
build_tenant(const Tenant *tenant, const char *dir, const char *timeline_from)
{
	char	   *timelines = psprintf("%s/timelines", dir);
	char	   *to = psprintf("%s/%s", timelines, strrchr(timeline_from, '/') + 1);
	PsError    *err;

	PS_GOTO(make_dir(dir), done);
	PS_GOTO(make_dir(timelines), done);
	PS_GOTO(tenant_write(dir, &tenant->id, tenant->system_identifier, tenant->segment_size), done);
	PS_GOTO(put_in_place(timeline_from, to), done);
	if (fsync_fname(dir, true) != 0)
		err = ps_error(PS_SQLSTATE_IO, "could not sync directory \"%s\": %m", dir);

done:
	pfree(timelines);
	pfree(to);
	return err;
}

static Tenant *
find_tenant(Store *store, const PsId *id)
{
	Tenant	   *tenant = NULL;

	pthread_mutex_lock(&store->lock);
	for (int i = 0; i < store->ntenants && tenant == NULL; i++)
		if (ps_id_equal(&store->tenants[i]->id, id))
			tenant = store->tenants[i];
	pthread_mutex_unlock(&store->lock);
	return tenant;
}

/*
 * The new timeline, and with it a new tenant, is made complete in STORE/tmp,
 * then renamed to its place: after a crash, and after an error, it is there
 * whole or not at all.  Two callers must not add the same tenant.
 */
PsError *
store_add_timeline(Store *store, const TimelineSeed *seed, Timeline **result)
{
	char		id[PS_ID_TEXT];
	Manifest	m = {.tenant = seed->tenant,
					 .timeline = seed->timeline,
					 .system_identifier = seed->system_identifier,
					 .segment_size = seed->segment_size,
					 .data_checksum_version = seed->data_checksum_version,
					 .has_ancestor = seed->ancestor != NULL,
					 .start_lsn = seed->lsn,
					 .disk_consistent_lsn = seed->lsn};
	Tenant	   *tenant = find_tenant(store, &seed->tenant);
	bool		new_tenant = tenant == NULL;
	char	   *made = psprintf("%s/tmp/%s", store->config->store_dir, ps_id_format(&seed->timeline, id));
	char	   *from;			/* what is renamed, and to where */
	char	   *to;
	PsError    *err;

	if (new_tenant)
	{
		tenant = tenant_alloc(store, &seed->tenant);
		tenant->system_identifier = seed->system_identifier;
		tenant->segment_size = seed->segment_size;
		from = psprintf("%s/tmp/tenant-%s", store->config->store_dir, ps_id_format(&seed->tenant, id));
		to = pg_strdup(tenant->dir);
	}
	else
	{
		from = pg_strdup(made);
		to = psprintf("%s/timelines/%s", tenant->dir, id);
	}
	if (seed->ancestor != NULL)
		m.ancestor = seed->ancestor->id;
	strlcpy(m.name, seed->name, sizeof(m.name));
	m.layers = pg_malloc(Max(seed->nlayers, 1) * sizeof(char *));
	for (int i = 0; i < seed->nlayers; i++)
		m.layers[m.nlayers++] = pg_strdup(layer_info(seed->layers[i])->name);
	PS_GOTO(manifest_write(made, &m), done);
	if (new_tenant)
	{
		PS_GOTO(build_tenant(tenant, from, made), done);
		PS_GOTO(tenant_start(tenant), done);
	}

	/* the lock is held from the last check of the name until all can see the timeline */
	pthread_mutex_lock(&store->lock);
	if (find_branch(store, seed->name) != NULL)
		err = ps_error("42710", "branch \"%s\" exists already", seed->name);
	else
		err = put_in_place(from, to);
	if (err == NULL)
	{
		err = timeline_open(tenant, &seed->timeline, seed->ancestor, result);
		if (err != NULL && rename(to, from) != 0)
			ps_log(PS_WARNING, "could not rename \"%s\" to \"%s\": %m", to, from);
	}
	if (err == NULL)
	{
		if (new_tenant)
			add_tenant(store, tenant);
		new_tenant = false;
		add_timeline(store, *result);
		(*result)->users++;
	}
	pthread_mutex_unlock(&store->lock);

done:
	if (new_tenant)
	{
		/* the timeline's own directory is the caller's to remove, if it has not gone into this one */
		if (access(from, F_OK) == 0)
			(void) rmtree(from, true);
		tenant_free(tenant);
	}
	manifest_free(&m);
	pfree(made);
	pfree(from);
	pfree(to);
	return err;
}
