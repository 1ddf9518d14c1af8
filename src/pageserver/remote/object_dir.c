/*
 * object_dir.c
 *	  Object storage in a directory, which may be on NFS; see object.h.
 *
 * A key is a path in the directory.  An object is written under a temporary name in
 * DIR/.tmp, synced, and given its name with link(), which fails if the name exists:
 * object_put_once(); or with rename(): object_put().
 *
 * A server of NFS may have done what it answers with an error, or not have answered:
 * the client repeats a request whose answer was lost, and is told EEXIST about its
 * own link.  The number of links of the temporary file says whether that is so.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "remote/object_dir.h"
#include "sqlstate.h"

#define TMP_DIR      ".tmp"
#define TMP_MAX_AGE  (24 * 60 * 60) /* s; after that a temporary file's writer is considered dead */
#define COPY_BUFFER  (1024 * 1024)
#define LINK_RETRIES 10 /* a folder may be removed, since it is empty, whenever it has been created */

char *
object_dir_path(const DirStore *store, const char *key)
{
	return psprintf("%s/%s", store->dir, key);
}

PsError *
object_dir_check_mounted(const DirStore *store)
{
	char *tmp = psprintf("%s/" TMP_DIR, store->dir);
	PsError *err = NULL;

	if (access(tmp, F_OK) != 0)
		err = ps_error_hint(ps_error(ps_errno_state(), "could not access \"%s\" of object storage: %m", tmp),
							"Perhaps its file system is not mounted.");
	free(tmp);
	return err;
}

/* ---- folders ---- */

/*
 * Makes an NFS client ask its server anew for the names above a path and for the path.  It
 * remembers for up to a minute that a name did not exist, or did, but compares the
 * times of a folder with the server's when that is opened.
 */
static void
refresh_names(const DirStore *store, const char *path)
{
	char *folder = pg_strdup(path);

	for (char *slash = folder + strlen(store->dir); slash != NULL; slash = strchr(slash + 1, '/'))
	{
		int fd;

		*slash = '\0';
		fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		*slash = '/';
		if (fd < 0)
			break;
		close(fd);
	}
	free(folder);
}

/* Creates the folders of an object, as far as they do not exist. */
static PsError *
make_folders(const DirStore *store, char *path)
{
	for (char *slash = path + strlen(store->dir); (slash = strchr(slash + 1, '/')) != NULL;)
	{
		int rc;

		*slash = '\0';
		rc = mkdir(path, 0700);
		*slash = '/';
		if (rc != 0 && errno == ENOENT)
			return NULL; /* somebody removed the empty folder above: the caller tries again */
		if (rc != 0 && errno != EEXIST)
			return ps_error(ps_errno_state(), "could not create the folders of \"%s\": %m", path);
	}
	return NULL;
}

/*
 * Syncs the name of an object, and of all folders above it: whoever created them may
 * not have come to sync them.
 */
static PsError *
sync_names(const DirStore *store, const char *path)
{
	char *folder = pg_strdup(path);
	char *slash;
	PsError *err = NULL;

	while (err == NULL && strlen(folder) > strlen(store->dir) && (slash = strrchr(folder, '/')) != NULL)
	{
		*slash = '\0';
		err = fs_sync(folder);
	}
	free(folder);
	return err;
}

/* Removes the folders above a deleted object that are empty, and syncs the first that is not. */
static PsError *
remove_folders(const DirStore *store, const char *path)
{
	char *folder = pg_strdup(path);
	char *slash;
	PsError *err = NULL;

	while (strlen(folder) > strlen(store->dir) && (slash = strrchr(folder, '/')) != NULL)
	{
		*slash = '\0';
		if (strlen(folder) > strlen(store->dir) && (rmdir(folder) == 0 || errno == ENOENT))
			continue;
		err = fs_sync(folder);
		if (err == NULL || access(folder, F_OK) == 0 || errno != ENOENT)
			break;
		/* removed by somebody else: then the one above */
		ps_error_free(err);
		err = NULL;
	}
	free(folder);
	return err;
}

/* ---- temporary files ---- */

/* Creates an empty temporary file whose name no other process, on any machine, uses. */
static PsError *
create_tmp(const DirStore *store, char **tmp, int *fd)
{
	uint64 random;

	if (!pg_strong_random(&random, sizeof(random)))
		return ps_error(PS_SQLSTATE_INTERNAL, "could not generate a random name");
	*tmp = psprintf("%s/" TMP_DIR "/%016llx", store->dir, (unsigned long long) random);
	*fd = open(*tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (*fd >= 0)
		return NULL;
	free(*tmp);
	*tmp = NULL;
	return ps_error(ps_errno_state(), "could not create a file in \"%s/" TMP_DIR "\": %m", store->dir);
}

/* Syncs and closes a temporary file; err: what went wrong before.  After an error the file is removed. */
static PsError *
finish_tmp(char *tmp, int fd, PsError *err)
{
	if (err == NULL && fsync(fd) != 0)
		err = ps_error(ps_errno_state(), "could not sync file \"%s\": %m", tmp);
	/* NFS reports some errors of writes at a close only */
	if (close(fd) != 0 && err == NULL)
		err = ps_error(ps_errno_state(), "could not write file \"%s\": %m", tmp);
	if (err != NULL)
	{
		(void) unlink(tmp);
		free(tmp);
	}
	return err;
}

static PsError *
write_tmp(const DirStore *store, const void *data, size_t len, char **tmp)
{
	int fd;
	PsError *err;

	PS_TRY(create_tmp(store, tmp, &fd));
	err = fs_write_at(fd, *tmp, data, len, 0);
	return finish_tmp(*tmp, fd, err);
}

/* Removes what writers left that died. */
static void
remove_old_tmp(const DirStore *store)
{
	char *folder = psprintf("%s/" TMP_DIR, store->dir);
	DIR *dir = opendir(folder);
	struct dirent *de;

	while (dir != NULL && (de = readdir(dir)) != NULL)
	{
		char *path = psprintf("%s/%s", folder, de->d_name);
		struct stat st;

		if (de->d_name[0] != '.' && stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
			st.st_mtime < time(NULL) - TMP_MAX_AGE)
			(void) unlink(path);
		free(path);
	}
	if (dir != NULL)
		closedir(dir);
	free(folder);
}

/* ---- put ---- */

/* Does the file consist of these bytes?  *equal false also if there is no such file. */
static PsError *
compare_file(const char *path, const void *data, size_t len, bool *equal)
{
	char *found = malloc(len + 1);
	ssize_t n;
	PsError *err;

	*equal = false;
	if (found == NULL)
		return ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "no memory to compare %zu bytes", len);
	err = fs_read_file(path, found, len + 1, &n);
	if (err == NULL)
		*equal = n == (ssize_t) len && memcmp(found, data, len) == 0;
	free(found);
	return err;
}

/* Renames the temporary file over the object. */
static PsError *
rename_tmp(const DirStore *store, const char *tmp, char *path)
{
	for (int i = 0;; i++)
	{
		PS_TRY(make_folders(store, path));
		if (rename(tmp, path) == 0)
			break;
		if (errno != ENOENT || i >= LINK_RETRIES)
			return ps_error(ps_errno_state(), "could not rename \"%s\" to \"%s\": %m", tmp, path);
		refresh_names(store, path);
	}
	return sync_names(store, path);
}

/* Gives the temporary file the object's name, unless that exists. */
static PsError *
link_tmp(const DirStore *store, const char *tmp, char *path, const void *data, size_t len, ObjectOutcome *outcome)
{
	struct stat st;
	bool equal;

	for (int i = 0;; i++)
	{
		int link_errno;

		PS_TRY(make_folders(store, path));
		if (link(tmp, path) == 0)
			break;
		link_errno = errno;
		if (link_errno == ENOENT && i < LINK_RETRIES)
		{
			refresh_names(store, path);
			continue;
		}

		/* from now on the request may have been executed; of a file system's clear refusals it was not */
		if (link_errno != EEXIST && link_errno != ENOENT && link_errno != ENOSPC && link_errno != EDQUOT &&
			link_errno != EACCES && link_errno != EPERM && link_errno != EROFS && link_errno != EMLINK)
			*outcome = OBJECT_UNKNOWN;
		if (stat(tmp, &st) == 0 && st.st_nlink > 1)
			break;
		errno = link_errno;
		if (link_errno != EEXIST)
			return ps_error(ps_errno_state(), "could not link \"%s\" to \"%s\": %m", tmp, path);

		/* somebody else's, or put by an earlier call whose outcome was unknown */
		*outcome = OBJECT_UNKNOWN;
		PS_TRY(compare_file(path, data, len, &equal));
		if (!equal)
		{
			*outcome = OBJECT_EXISTS;
			return NULL;
		}
		/* its sync may have failed, and cannot be repeated: an equal file that was synced takes its place */
		PS_TRY(rename_tmp(store, tmp, path));
		*outcome = OBJECT_DONE;
		return NULL;
	}
	*outcome = OBJECT_UNKNOWN;
	PS_TRY(sync_names(store, path));
	*outcome = OBJECT_DONE;
	return NULL;
}

static PsError *
dir_put(ObjectStore *base, const char *key, const void *data, size_t len, bool once, const ObjectWait *wait,
		ObjectOutcome *outcome)
{
	DirStore *store = (DirStore *) base;
	char *path;
	char *tmp;
	PsError *err;

	*outcome = OBJECT_NOT_DONE;
	PS_TRY(object_wait_check(wait));
	PS_TRY(write_tmp(store, data, len, &tmp));
	path = object_dir_path(store, key);
	if (once)
		err = link_tmp(store, tmp, path, data, len, outcome);
	else
		err = rename_tmp(store, tmp, path);
	(void) unlink(tmp); /* after a rename there is none */
	free(tmp);
	free(path);
	return err;
}

/* Copies a file; read at the speed of the target, so that the wait is asked once per buffer. */
static PsError *
copy_file(const char *path, int fd, const char *tmp, const ObjectWait *wait)
{
	int from = open(path, O_RDONLY | O_CLOEXEC);
	char *buf;
	off_t offset = 0;
	ssize_t n;
	PsError *err = NULL;

	if (from < 0)
		return ps_error(ps_errno_state(), "could not open file \"%s\": %m", path);
	buf = pg_malloc(COPY_BUFFER);
	while (err == NULL && (n = pread(from, buf, COPY_BUFFER, offset)) != 0)
	{
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			err = ps_error(ps_errno_state(), "could not read file \"%s\": %m", path);
		if (err == NULL)
			err = fs_write_at(fd, tmp, buf, n, offset);
		if (err == NULL)
			err = object_wait_check(wait);
		offset += n;
	}
	free(buf);
	close(from);
	return err;
}

static PsError *
dir_put_file(ObjectStore *base, const char *key, const char *path, const ObjectWait *wait)
{
	DirStore *store = (DirStore *) base;
	char *tmp;
	char *object;
	int fd;
	PsError *err;

	PS_TRY(create_tmp(store, &tmp, &fd));
	err = copy_file(path, fd, tmp, wait);
	PS_TRY(finish_tmp(tmp, fd, err));
	object = object_dir_path(store, key);
	err = rename_tmp(store, tmp, object);
	if (err != NULL)
		(void) unlink(tmp);
	free(object);
	free(tmp);
	return err;
}

/* ---- read, delete ---- */

static PsError *
read_fd(int fd, const char *path, int64 offset, int64 len, const ByteSink *sink, const ObjectWait *wait)
{
	char *buf = pg_malloc(COPY_BUFFER);
	PsError *err = NULL;

	while (err == NULL && len != 0)
	{
		ssize_t n = pread(fd, buf, len < 0 ? COPY_BUFFER : Min(len, COPY_BUFFER), offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			err = ps_error(ps_errno_state(), "could not read file \"%s\": %m", path);
		if (n <= 0)
			break;
		err = sink->write(sink->arg, buf, n);
		if (err == NULL)
			err = object_wait_check(wait);
		offset += n;
		if (len > 0)
			len -= n;
	}
	free(buf);
	return err;
}

static PsError *
dir_read(ObjectStore *base, const char *key, int64 offset, int64 len, const ByteSink *sink, const ObjectWait *wait)
{
	DirStore *store = (DirStore *) base;
	char *path = object_dir_path(store, key);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	PsError *err;

	/* that there is no claim, say, must be known, not remembered */
	if (fd < 0 && errno == ENOENT)
	{
		refresh_names(store, path);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	/* a folder is not an object */
	if (fd < 0)
	{
		bool missing = errno == ENOENT || errno == ENOTDIR;

		err = ps_error(missing ? PS_SQLSTATE_NOT_FOUND : ps_errno_state(), "could not open file \"%s\": %m", path);
		if (missing)
			err = ps_error_first(object_dir_check_mounted(store), err);
	}
	else
	{
		struct stat st;

		if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
			err = ps_error(PS_SQLSTATE_NOT_FOUND, "\"%s\" is a directory", path);
		else
			err = read_fd(fd, path, offset, len, sink, wait);
		close(fd);
	}
	free(path);
	return err;
}

static PsError *
dir_delete(ObjectStore *base, const char *const *keys, int nkeys, const ObjectWait *wait)
{
	DirStore *store = (DirStore *) base;

	for (int i = 0; i < nkeys; i++)
	{
		char *path = object_dir_path(store, keys[i]);
		PsError *err = object_wait_check(wait);

		if (err == NULL && unlink(path) != 0)
			err = errno == ENOENT || errno == ENOTDIR
					  ? object_dir_check_mounted(store)
					  : ps_error(ps_errno_state(), "could not remove file \"%s\": %m", path);
		if (err == NULL)
			err = remove_folders(store, path);
		free(path);
		PS_TRY(err);
	}
	return NULL;
}

/* ---- open, close ---- */

static void
dir_close(ObjectStore *base)
{
	DirStore *store = (DirStore *) base;

	free(store->dir);
	free(store);
}

static const ObjectBackend dir_backend = {dir_close, dir_put, dir_put_file, dir_read, object_dir_list, dir_delete};

PsError *
object_dir_open(const char *dir, ObjectStore **result)
{
	DirStore *store = pg_malloc0(sizeof(DirStore));
	struct stat st;
	char *tmp;
	PsError *err = NULL;

	store->base.backend = &dir_backend;
	store->dir = pg_strdup(dir);
	canonicalize_path(store->dir);
	tmp = psprintf("%s/" TMP_DIR, store->dir);
	if (stat(store->dir, &st) != 0)
		err = ps_error(errno == ENOENT ? PS_SQLSTATE_INVALID : ps_errno_state(),
					   "could not access object storage in \"%s\": %m", store->dir);
	else if (!S_ISDIR(st.st_mode))
		err = ps_error(PS_SQLSTATE_INVALID, "\"%s\" is not a directory", store->dir);
	else if (mkdir(tmp, 0700) != 0 && errno != EEXIST)
		err = ps_error(ps_errno_state(), "could not create directory \"%s\": %m", tmp);
	free(tmp);
	if (err != NULL)
	{
		dir_close(&store->base);
		return err;
	}
	remove_old_tmp(store);
	*result = &store->base;
	return NULL;
}
