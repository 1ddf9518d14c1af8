/*
 * object_dir_list.c
 *	  Listing the objects in a directory; see object.h.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <sys/stat.h>

#include "remote/object_dir.h"
#include "sqlstate.h"

typedef struct Found
{
	char *key;
	int64 size;
} Found;

typedef struct Listing
{
	const DirStore *store;
	const char *prefix;
	const char *after;
	bool folders;
	const ObjectWait *wait;
	Found *found;
	int n;
} Listing;

static void
add_found(Listing *listing, const char *key, int64 size)
{
	if (strcmp(key, listing->after) <= 0)
		return;
	/* doubled when it is full, at powers of two */
	if ((listing->n & (listing->n - 1)) == 0)
		listing->found = pg_realloc(listing->found, Max(listing->n * 2, 1) * sizeof(Found));
	listing->found[listing->n++] = (Found) {pg_strdup(key), size};
}

/* May keys that start with this folder, "a/b/", have the prefix? */
static bool
folder_may_match(const Listing *listing, const char *folder)
{
	return strncmp(folder, listing->prefix, Min(strlen(folder), strlen(listing->prefix))) == 0;
}

static PsError *list_folder(Listing *listing, const char *folder);

/* One entry of a folder. */
static PsError *
list_entry(Listing *listing, const char *key)
{
	char *path = object_dir_path(listing->store, key);
	size_t prefix_len = strlen(listing->prefix);
	struct stat st;
	PsError *err = NULL;

	if (lstat(path, &st) != 0)
	{
		/* deleted since */
		if (errno != ENOENT)
			err = ps_error(ps_errno_state(), "could not stat \"%s\": %m", path);
	}
	else if (S_ISREG(st.st_mode) && strncmp(key, listing->prefix, prefix_len) == 0)
		add_found(listing, key, st.st_size);
	else if (S_ISDIR(st.st_mode))
	{
		char *folder = psprintf("%s/", key);

		if (folder_may_match(listing, folder))
		{
			/* without the slash of the folder itself, if the prefix ends in it */
			if (listing->folders && strlen(folder) > prefix_len)
				add_found(listing, folder, -1);
			else
				err = list_folder(listing, folder);
		}
		free(folder);
	}
	free(path);
	return err;
}

/* folder: "" or "a/b/". */
static PsError *
list_folder(Listing *listing, const char *folder)
{
	char *path = object_dir_path(listing->store, folder);
	DIR *dir = opendir(path);
	struct dirent *de;
	PsError *err = NULL;

	if (dir == NULL)
	{
		/* deleted since, if it is not the store's own directory */
		if (errno != ENOENT || folder[0] == '\0')
			err = ps_error(ps_errno_state(), "could not open directory \"%s\": %m", path);
		free(path);
		return err;
	}
	while (err == NULL && (errno = 0, de = readdir(dir)) != NULL)
	{
		char *key;

		/* no part of a key starts with a dot */
		if (de->d_name[0] == '.')
			continue;
		key = psprintf("%s%s", folder, de->d_name);
		err = list_entry(listing, key);
		free(key);
		if (err == NULL)
			err = object_wait_check(listing->wait);
	}
	if (err == NULL && errno != 0)
		err = ps_error(ps_errno_state(), "could not read directory \"%s\": %m", path);
	closedir(dir);
	free(path);
	return err;
}

static int
compare_found(const void *a, const void *b)
{
	return strcmp(((const Found *) a)->key, ((const Found *) b)->key);
}

PsError *
object_dir_list(ObjectStore *base, const char *prefix, const char *after, bool folders, const ObjectListSink *sink,
				const ObjectWait *wait)
{
	Listing listing = {.store = (DirStore *) base, .prefix = prefix, .after = after, .folders = folders, .wait = wait};
	PsError *err = list_folder(&listing, "");
	bool stop = false;

	if (err == NULL)
		err = object_dir_check_mounted(listing.store);

	if (listing.n > 1)
		qsort(listing.found, listing.n, sizeof(Found), compare_found);
	for (int i = 0; i < listing.n; i++)
	{
		ObjectInfo info = {listing.found[i].key, listing.found[i].size};

		if (err == NULL && !stop)
			err = sink->item(sink->arg, &info, &stop);
		free(listing.found[i].key);
	}
	free(listing.found);
	return err;
}
