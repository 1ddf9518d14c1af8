/*
 * open_layers.c
 *	  Creates the layers of a timeline that is being opened.
 *
 * The manifest has all that the layer map needs, so no layer file is opened: the first read
 * that needs a file opens it.  The directory is read once, to find missing files and files
 * that do not belong there.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <unistd.h>

#include "sqlstate.h"
#include "base/fs.h"
#include "layer/presence.h"
#include "store/store_impl.h"

/* A layer of the manifest, and whether its file, or a part file, is in the directory. */
typedef struct Expected
{
	const LayerInfo *info;
	bool seen;
	bool part_seen;
	bool missing; /* is_missing(), once the directory has been read */
} Expected;

static int
compare_numbers(const void *a, const void *b)
{
	uint64 x = ((const Expected *) a)->info->number;
	uint64 y = ((const Expected *) b)->info->number;

	return x < y ? -1 : x > y;
}

/* The layer whose file has this name, or NULL. */
static Expected *
find_expected(Expected *expected, int n, const char *name)
{
	LayerInfo info;
	Expected key = {.info = &info};
	Expected *found;
	char found_name[LAYER_NAME_MAX];

	if (!layer_name_parse(name, &info))
		return NULL;
	found = bsearch(&key, expected, n, sizeof(Expected), compare_numbers);
	return found != NULL && strcmp(layer_name_format(found->info, found_name), name) == 0 ? found : NULL;
}

/* The layer whose part file has this name, or NULL. */
static Expected *
find_part(Expected *expected, int n, const char *name)
{
	size_t len = strlen(name);
	size_t suffix = strlen(PRESENCE_SUFFIX);
	char whole[LAYER_NAME_MAX];

	if (len <= suffix || len - suffix >= sizeof(whole) || strcmp(name + len - suffix, PRESENCE_SUFFIX) != 0)
		return NULL;
	strlcpy(whole, name, len - suffix + 1);
	return find_expected(expected, n, whole);
}

/* Names in the directory that are not in the manifest, and part files that are not needed. */
typedef struct Strays
{
	char **names;
	int n;
} Strays;

static void
add_stray(Strays *strays, char *name)
{
	strays->names = pg_realloc(strays->names, (strays->n + 1) * sizeof(char *));
	strays->names[strays->n++] = name;
}

/* A part file is not used if there is a whole one, or no source. */
static void
add_stray_parts(const Timeline *tl, const Expected *expected, int n, Strays *strays)
{
	char name[LAYER_NAME_MAX];

	for (int i = 0; i < n; i++)
		if (expected[i].part_seen && (expected[i].seen || tl->spec->space.source == NULL))
			add_stray(strays, psprintf("%s%s", layer_name_format(expected[i].info, name), PRESENCE_SUFFIX));
}

/* Sets Expected.seen and part_seen, and collects the strays. */
static PsError *
scan_directory(const Timeline *tl, Expected *expected, int n, Strays *strays)
{
	const char *path = tl->spec->space.dir;
	DIR *dir = opendir(path);
	struct dirent *de;
	PsError *err = NULL;

	if (dir == NULL)
		return ps_error(ps_errno_state(), "could not open directory \"%s\": %m", path);
	while (errno = 0, (de = readdir(dir)) != NULL)
	{
		Expected *whole = find_expected(expected, n, de->d_name);
		Expected *part = find_part(expected, n, de->d_name);

		if (whole != NULL)
			whole->seen = true;
		else if (part != NULL)
			part->part_seen = true;
		else if (de->d_name[0] != '.')
			add_stray(strays, pg_strdup(de->d_name));
	}
	if (errno != 0)
		err = ps_error(ps_errno_state(), "could not read directory \"%s\": %m", path);
	closedir(dir);
	add_stray_parts(tl, expected, n, strays);
	return err;
}

/*
 * Removes what a crash during a flush or upkeep left behind.  The crash may have come
 * between the rename of the manifest and the sync of its directory: then a power failure
 * could bring back the previous manifest, which may name these files.  Hence the sync.  The
 * manifest's contents are durable already (manifest_log_confirm()).
 */
static PsError *
remove_strays(const Timeline *tl, const Strays *strays)
{
	if (strays->n == 0)
		return NULL;
	PS_TRY(fs_sync(tl->spec->dir));
	for (int i = 0; i < strays->n; i++)
	{
		char path[MAXPGPATH];

		snprintf(path, sizeof(path), "%s/%s", tl->spec->space.dir, strays->names[i]);
		ps_log(PS_LOG, "removing \"%s\", which the manifest does not name", path);
		if (unlink(path) != 0)
			return ps_error(PS_SQLSTATE_IO, "could not remove file \"%s\": %m", path);
	}
	return NULL;
}

/*
 * Files are missing, and there is no source that has them.  A missing file is reported as
 * an error by reads that need it.  The manifest may be outdated, or may not belong to these
 * files, so files that it does not name are kept, and no new file gets the number of one of
 * them.
 */
static void
keep_strays(Timeline *tl, const Expected *expected, int n, int missing, const Strays *strays)
{
	char name[LAYER_NAME_MAX];
	int first = 0;

	while (!expected[first].missing)
		first++;
	layer_name_format(expected[first].info, name);
	pthread_mutex_lock(&tl->lock);
	snprintf(tl->files_missing, sizeof(tl->files_missing),
			 "%d layer files were missing when the branch was opened, the first is \"%s\"", missing, name);
	pthread_mutex_unlock(&tl->lock);
	ps_log(PS_WARNING,
		   "branch \"%s\": %d layer files are missing, the first is \"%s/%s\"; what is in them cannot be read",
		   timeline_name(tl), missing, tl->spec->space.dir, name);
	for (int i = 0; i < strays->n; i++)
	{
		LayerInfo info;

		ps_log(PS_WARNING, "keeping \"%s/%s\", which the manifest does not name, because of that", tl->spec->space.dir,
			   strays->names[i]);
		if (layer_name_parse(strays->names[i], &info))
			layer_space_skip(&tl->spec->space, info.number);
	}
}

/* Strays are kept, and no new file gets the number of one of them. */
static void
skip_strays(Timeline *tl, const Strays *strays)
{
	for (int i = 0; i < strays->n; i++)
	{
		LayerInfo info;

		if (layer_name_parse(strays->names[i], &info))
			layer_space_skip(&tl->spec->space, info.number);
	}
}

/* Is a file neither here nor in the source?  *unknown: it is not here, and nobody knows whether it is there. */
static bool
is_missing(const Timeline *tl, const Expected *expected, bool *unknown)
{
	const TimelineEnv *env = tl->env;
	char name[LAYER_NAME_MAX];
	bool known;

	if (expected->seen)
		return false;
	if (tl->spec->space.source == NULL)
		return true;
	/* there is a part file only of what the source has */
	if (expected->part_seen || env->source_has == NULL ||
		env->source_has(env->source_arg, &tl->spec->id, layer_name_format(expected->info, name), &known))
		return false;
	*unknown = *unknown || !known;
	return known;
}

PsError *
timeline_open_layers(Timeline *tl, const Manifest *m, LayerMap **map)
{
	Expected *expected = pg_malloc(Max(m->nlayers, 1) * sizeof(Expected));
	Layer **layers = pg_malloc(Max(m->nlayers, 1) * sizeof(Layer *));
	Strays strays = {0};
	int missing = 0;
	bool unknown = false;
	PsError *err;

	layer_space_skip(&tl->spec->space, m->max_number);
	for (int i = 0; i < m->nlayers; i++)
		expected[i] = (Expected) {.info = &m->layers[i]};
	qsort(expected, m->nlayers, sizeof(Expected), compare_numbers);
	err = scan_directory(tl, expected, m->nlayers, &strays);
	for (int i = 0; i < m->nlayers; i++)
	{
		expected[i].missing = is_missing(tl, &expected[i], &unknown);
		missing += expected[i].missing;
	}
	if (err == NULL && missing > 0)
		keep_strays(tl, expected, m->nlayers, missing, &strays);
	else if (err == NULL && unknown)
		skip_strays(tl, &strays);
	else if (err == NULL)
		err = remove_strays(tl, &strays);
	if (err == NULL)
	{
		for (int i = 0; i < m->nlayers; i++)
		{
			layers[i] = layer_new(&tl->spec->space, &m->layers[i]);
			for (int k = 0; k < tl->spec->ndamaged; k++)
				if (tl->spec->damaged[k] == m->layers[i].number)
					layer_set_damaged(layers[i], true);
		}
		*map = layer_map_create(layers, m->nlayers);
		for (int i = 0; i < m->nlayers; i++)
			layer_unref(layers[i]);
	}
	for (int i = 0; i < strays.n; i++)
		free(strays.names[i]);
	free(strays.names);
	free(layers);
	free(expected);
	return err;
}

void
timeline_keep_damaged(Timeline *tl, const LayerMap *map)
{
	free(tl->spec->damaged);
	tl->spec->damaged = NULL;
	tl->spec->ndamaged = 0;
	for (int i = 0; i < layer_map_count(map); i++)
	{
		if (!layer_is_damaged(layer_map_get(map, i)))
			continue;
		tl->spec->damaged = pg_realloc(tl->spec->damaged, (tl->spec->ndamaged + 1) * sizeof(uint64));
		tl->spec->damaged[tl->spec->ndamaged++] = layer_info(layer_map_get(map, i))->number;
	}
}
