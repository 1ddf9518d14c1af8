/*
 * info.c
 *	  What can be told of any timeline without opening it.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <sys/stat.h>

#include "timeline/timeline_impl.h"

/* Number and size of a directory's files, as far as it can be read: it may just be deleted. */
static void
count_files(const char *path, uint64 *files, uint64 *bytes)
{
	DIR *dir = opendir(path);
	struct dirent *de;

	*files = *bytes = 0;
	while (dir != NULL && (de = readdir(dir)) != NULL)
	{
		struct stat st;

		if (de->d_name[0] == '.' || fstatat(dirfd(dir), de->d_name, &st, 0) != 0)
			continue;
		(*files)++;
		*bytes += st.st_size;
	}
	if (dir != NULL)
		closedir(dir);
}

/* Of one that is not open, what is known of it; the caller holds Store.lock. */
static void
closed_info(Timeline *tl, TimelineInfo *info)
{
	*info = tl->known;
	info->compute_connected = info->open = false;
	info->open_layer_bytes = 0;
	strlcpy(info->name, tl->name, sizeof(info->name));
	if (tl->ancestor != NULL)
		strlcpy(info->parent, tl->ancestor->name, sizeof(info->parent));
	info->waits_for[0] = '\0';
	if (tl->life == TIMELINE_BROKEN)
	{
		char id[PS_ID_TEXT];

		snprintf(info->error, sizeof(info->error), "%s%s%s%s", tl->error->message,
				 tl->origin_unknown ? "; until it can be read or is deleted for good, garbage of the other branches of its tenant is kept" : "",
				 tl->name[0] == '\0' ? "; it can be deleted for good by its id (--purge), " : "", tl->name[0] == '\0' ? ps_id_format(&tl->id, id) : "");
	}
}

void
store_timeline_info(Timeline *tl, TimelineInfo *info)
{
	Store *store = tl->tenant->store;
	char *wal_dir = psprintf("%s/wal", tl->dir);
	uint64 segments;
	bool open;

	pthread_mutex_lock(&store->lock);
	open = tl->life == TIMELINE_OPEN;
	if (open)
	{
		tl->uses++;
		pthread_mutex_unlock(&store->lock);
		timeline_info(tl, info);
		pthread_mutex_lock(&store->lock);
		store_end_use(store, tl, false);
	}
	else
		closed_info(tl, info);
	info->is_protected = tl->is_protected;
	info->deleted = tl->in_trash;
	pthread_mutex_unlock(&store->lock);
	if (!open)
		count_files(tl->space.dir, &info->layer_files, &info->layer_bytes);
	count_files(wal_dir, &segments, &info->wal_bytes);
	pfree(wal_dir);
}

PsError *
store_branch_info(Store *store, const char *name, TimelineInfo *info)
{
	PsError *err = NULL;
	Timeline *tl;

	pthread_mutex_lock(&store->lock);
	tl = store_named(store, name);
	if (tl != NULL)
		tl->users++;
	else
		err = store_no_such_branch(store, name);
	pthread_mutex_unlock(&store->lock);
	if (err != NULL)
		return err;
	store_timeline_info(tl, info);
	pthread_mutex_lock(&store->lock);
	store_unhold(store, tl);
	pthread_mutex_unlock(&store->lock);
	return NULL;
}
