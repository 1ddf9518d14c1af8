/*
 * timeline_layers.c
 *	  The layer files of a timeline that is being opened.
 *
 * All that the map needs to know is in the manifest, so no file is looked at:
 * each is opened when a read needs it.  The directory is gone through once, for
 * what does not belong there.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <unistd.h>

#include "ps_wire.h"
#include "sync.h"
#include "timeline_impl.h"

/* A layer of the manifest, and whether its file is in the directory. */
typedef struct Expected
{
	const LayerInfo *info;
	bool		seen;
} Expected;

static int
by_number(const void *a, const void *b)
{
	uint64		x = ((const Expected *) a)->info->number;
	uint64		y = ((const Expected *) b)->info->number;

	return x < y ? -1 : x > y;
}

/* The layer whose file has this name, or NULL. */
static Expected *
find_expected(Expected *expected, int n, const char *name)
{
	LayerInfo	info;
	Expected	key = {.info = &info};
	Expected   *found;
	char		is[LAYER_NAME_MAX];

	if (!layer_name_parse(name, &info))
		return NULL;
	found = bsearch(&key, expected, n, sizeof(Expected), by_number);
	return found != NULL && strcmp(layer_name_format(found->info, is), name) == 0 ? found : NULL;
}

/*
 * Removes what a crash in a flush or in upkeep has left behind.  The crash may
 * have come between the rename of the manifest and its sync: then the one before
 * names what this one does not, and would be there after a power failure.
 */
static PsError *
go_through_directory(const Timeline *tl, Expected *expected, int n)
{
	const char *path = tl->space.dir;
	DIR		   *dir = opendir(path);
	struct dirent *de;
	bool		synced = false;
	PsError    *err = NULL;

	if (dir == NULL)
		return ps_error(ps_errno_state(), "could not open directory \"%s\": %m", path);
	while (err == NULL && (errno = 0, de = readdir(dir)) != NULL)
	{
		Expected   *known = find_expected(expected, n, de->d_name);
		char		stray[MAXPGPATH];

		if (known != NULL)
			known->seen = true;
		if (known != NULL || de->d_name[0] == '.')
			continue;
		if (!synced)
			err = sync_path(tl->dir);
		if (err != NULL)
			break;
		synced = true;
		snprintf(stray, sizeof(stray), "%s/%s", path, de->d_name);
		ps_log(PS_LOG, "removing \"%s\", which the manifest does not name", stray);
		if (unlink(stray) != 0)
			err = ps_error(PS_SQLSTATE_IO, "could not remove file \"%s\": %m", stray);
	}
	if (err == NULL && errno != 0)
		err = ps_error(ps_errno_state(), "could not read directory \"%s\": %m", path);
	closedir(dir);
	return err;
}

/* A file that is missing is an error of those reads that need it. */
static void
warn_of_missing(const Timeline *tl, const Expected *expected, int n)
{
	char		name[LAYER_NAME_MAX];
	int			missing = 0;

	for (int i = 0; i < n; i++)
		if (!expected[i].seen && missing++ == 0)
			layer_name_format(expected[i].info, name);
	if (missing > 0)
		ps_log(PS_WARNING, "branch \"%s\": %d layer files are missing, the first is \"%s/%s\"; what is in them cannot be read", tl->name, missing,
			   tl->space.dir, name);
}

PsError *
timeline_open_layers(Timeline *tl, const Manifest *m, LayerMap **map)
{
	Expected   *expected = pg_malloc(Max(m->nlayers, 1) * sizeof(Expected));
	Layer	  **layers = pg_malloc(Max(m->nlayers, 1) * sizeof(Layer *));
	PsError    *err;

	for (int i = 0; i < m->nlayers; i++)
		expected[i] = (Expected) {.info = &m->layers[i]};
	qsort(expected, m->nlayers, sizeof(Expected), by_number);
	err = go_through_directory(tl, expected, m->nlayers);
	if (err == NULL)
	{
		warn_of_missing(tl, expected, m->nlayers);
		for (int i = 0; i < m->nlayers; i++)
			layers[i] = layer_known(&tl->space, &m->layers[i]);
		*map = layer_map_create(layers, m->nlayers);
		for (int i = 0; i < m->nlayers; i++)
			layer_unref(layers[i]);
	}
	free(layers);
	free(expected);
	return err;
}
