/*
 * info.c
 *	  What is shown of a branch, whether it is open or not; and the settings of its
 *	  computes.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <sys/stat.h>

#include "store/store_impl.h"

/* Number and size of the files in a directory.  Errors are ignored: it may be being deleted. */
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

/* What is known of a branch that is not open.  Caller holds Store.lock. */
static void
closed_info(Branch *branch, TimelineInfo *info)
{
	*info = branch->known;
	info->compute_connected = info->open = false;
	info->open_layer_bytes = 0;
	strlcpy(info->name, branch_name(branch), sizeof(info->name));
	if (branch->ancestor != NULL)
		strlcpy(info->parent, branch_name(branch->ancestor), sizeof(info->parent));
	info->waits_for[0] = '\0';
	if (branch->life == BRANCH_BROKEN)
	{
		char id[PS_ID_TEXT];
		bool no_name = branch_name(branch)[0] == '\0';
		const char *kept = "; until it can be read or is deleted for good, "
						   "garbage of the other branches of its tenant is kept";

		snprintf(info->error, sizeof(info->error), "%s%s%s%s", branch->error->message,
				 branch->origin_unknown ? kept : "",
				 no_name ? "; it can be deleted for good by its id (--purge), " : "",
				 no_name ? ps_id_format(&branch->spec.id, id) : "");
	}
}

void
store_timeline_info(Branch *branch, TimelineInfo *info)
{
	Store *store = branch->tenant->store;
	char *wal_dir = psprintf("%s/wal", branch->spec.dir);
	uint64 segments;
	PsError *service;
	Timeline *tl;
	bool open;

	pthread_mutex_lock(&store->lock);
	open = branch->life == BRANCH_OPEN;
	if (open)
	{
		branch->uses++;
		tl = branch->open;
		pthread_mutex_unlock(&store->lock);
		timeline_info(tl, info);
		pthread_mutex_lock(&store->lock);
		use_end(store, branch, false);
	}
	else
		closed_info(branch, info);
	service = catalog_check_service(branch->tenant);
	if (service != NULL && branch->tenant->life == TENANT_ATTACHED)
		strlcpy(info->error, service->message, sizeof(info->error));
	ps_error_free(service);
	info->remote_lsn = 0;
	if (branch->tenant->upload != NULL)
		info->remote_lsn = upload_remote_lsn(branch->tenant->upload, &branch->spec.id);
	info->is_protected = branch->is_protected;
	info->deleted = branch->in_trash;
	pthread_mutex_unlock(&store->lock);
	if (!open)
		count_files(branch->spec.space.dir, &info->layer_files, &info->layer_bytes);
	count_files(wal_dir, &segments, &info->wal_bytes);
	pfree(wal_dir);
}

PsError *
store_branch_info(Store *store, const char *name, TimelineInfo *info)
{
	PsError *err = NULL;
	Branch *branch;

	pthread_mutex_lock(&store->lock);
	branch = catalog_find_branch(store, name);
	if (branch != NULL)
		branch->users++;
	else
		err = catalog_no_branch_error(store, name);
	pthread_mutex_unlock(&store->lock);
	if (err != NULL)
		return err;
	store_timeline_info(branch, info);
	pthread_mutex_lock(&store->lock);
	catalog_unhold(store, branch);
	pthread_mutex_unlock(&store->lock);
	return NULL;
}

/* ---- settings ---- */

PsError *
timeline_read_settings(Timeline *tl, uint64 version, BranchSettings *settings)
{
	Branch *branch = branch_of(tl);
	PsError *err;

	pthread_mutex_lock(&branch->settings_lock);
	err = branch_settings_read(branch->spec.dir, version, settings);
	pthread_mutex_unlock(&branch->settings_lock);
	return err;
}

PsError *
timeline_write_settings(Timeline *tl, BranchSettings *settings, uint64 expected)
{
	Branch *branch = branch_of(tl);
	PsError *err;

	pthread_mutex_lock(&branch->settings_lock);
	err = branch_settings_write(branch->spec.dir, settings, expected);
	pthread_mutex_unlock(&branch->settings_lock);
	return err;
}

PsError *
timeline_settings_versions(Timeline *tl, uint64 **versions, int *n)
{
	Branch *branch = branch_of(tl);
	PsError *err;

	pthread_mutex_lock(&branch->settings_lock);
	err = branch_settings_versions(branch->spec.dir, versions, n);
	pthread_mutex_unlock(&branch->settings_lock);
	return err;
}
