/*
 * fs.c
 *	  Files and directories, made durable: see fs.h.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "sqlstate.h"

/* ---- contents ---- */

bool
fs_pwrite(int fd, const void *data, size_t len, off_t offset)
{
	while (len > 0)
	{
		ssize_t n = pwrite(fd, data, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = ENOSPC;
		if (n <= 0)
			return false;
		data = (const char *) data + n;
		len -= n;
		offset += n;
	}
	return true;
}

PsError *
fs_write_at(int fd, const char *path, const void *data, size_t len, off_t offset)
{
	if (fs_pwrite(fd, data, len, offset))
		return NULL;
	return ps_error(ps_errno_state(), "could not write %zu bytes at offset %lld of file \"%s\": %m", len,
					(long long) offset, path);
}

PsError *
fs_read_file(const char *path, void *buf, size_t size, ssize_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	PsError *err = NULL;
	ssize_t n;

	*len = -1;
	if (fd < 0)
		return errno == ENOENT ? NULL : ps_error(ps_errno_state(), "could not open file \"%s\": %m", path);
	*len = 0;
	while ((n = pread(fd, (char *) buf + *len, size - *len, *len)) > 0 || (n < 0 && errno == EINTR))
		*len += Max(n, 0);
	if (n < 0)
		err = ps_error(ps_errno_state(), "could not read file \"%s\": %m", path);
	close(fd);
	return err;
}

PsError *
fs_write_new_file(const char *path, const void *data, size_t len, bool sync)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	PsError *err;

	if (fd < 0)
		return ps_error(ps_errno_state(), "could not create file \"%s\": %m", path);
	err = fs_write_at(fd, path, data, len, 0);
	if (err == NULL && sync && fsync(fd) != 0)
		err = ps_error(ps_errno_state(), "could not sync file \"%s\": %m", path);
	close(fd);
	return err;
}

/* Gives a file, if there is one, the second name PATH.old, which the previous owner of that name loses. */
static PsError *
keep_as_old(const char *path)
{
	char old[MAXPGPATH];

	snprintf(old, sizeof(old), "%s.old", path);
	if (unlink(old) != 0 && errno != ENOENT)
		return ps_error(PS_SQLSTATE_IO, "could not remove file \"%s\": %m", old);

	/* EPERM: the file system has no hard links; then there is only one copy */
	if (link(path, old) != 0 && errno != ENOENT && errno != EPERM)
		return ps_error(ps_errno_state(), "could not link file \"%s\" to \"%s\": %m", path, old);
	return NULL;
}

PsError *
fs_replace_file(const char *path, const void *data, size_t len, int flags, Outcome *outcome)
{
	Outcome unused;
	char tmp[MAXPGPATH];
	PsError *err;

	if (outcome == NULL)
		outcome = &unused;
	*outcome = OUTCOME_NOT_DONE;
	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	err = fs_write_new_file(tmp, data, len, (flags & FS_NO_SYNC) == 0);
	if (err == NULL && (flags & FS_KEEP_OLD) != 0)
		err = keep_as_old(path);
	if (err == NULL && rename(tmp, path) != 0)
		err = ps_error(ps_errno_state(), "could not rename \"%s\" to \"%s\": %m", tmp, path);
	if (err != NULL)
	{
		(void) unlink(tmp);
		return err;
	}
	if ((flags & (FS_NO_SYNC | FS_NO_SYNC_NAME)) == 0)
		err = fs_sync_parent(path);
	*outcome = err == NULL ? OUTCOME_DONE : OUTCOME_UNKNOWN;
	if (err == NULL)
		return NULL;
	ps_error_set_state(err, PS_SQLSTATE_UNKNOWN);
	return ps_error_detail(err, "The new contents of \"%s\" are visible now, but may be lost in a power failure.",
						   path);
}

void
fs_remove_stray(const char *path)
{
	char tmp[MAXPGPATH];

	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	if (unlink(tmp) != 0 && errno != ENOENT)
		ps_log(PS_WARNING, "could not remove file \"%s\": %m", tmp);
}

PsError *
fs_remove_file(const char *path, Outcome *outcome)
{
	Outcome unused;
	PsError *err;

	if (outcome == NULL)
		outcome = &unused;
	*outcome = OUTCOME_NOT_DONE;
	if (unlink(path) != 0 && errno != ENOENT)
		return ps_error(PS_SQLSTATE_IO, "could not remove file \"%s\": %m", path);
	err = fs_sync_parent(path);
	*outcome = err == NULL ? OUTCOME_DONE : OUTCOME_UNKNOWN;
	return err;
}

PsError *
fs_set_mark(const char *path, bool exists)
{
	int fd;

	if (!exists)
		return fs_remove_file(path, NULL);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return ps_error(ps_errno_state(), "could not create file \"%s\": %m", path);
	close(fd);
	return fs_sync_parent(path);
}

/* ---- directories, and syncs ---- */

PsError *
fs_make_dir(const char *path)
{
	if (mkdir(path, 0700) != 0)
		return ps_error(ps_errno_state(), "could not create directory \"%s\": %m", path);
	return NULL;
}

/* is_new: the caller starts from scratch after an error, so that errno may be reported as it is. */
static PsError *
sync_path(const char *path, bool is_new)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	PsError *err = NULL;

	if (fd < 0)
		return ps_error(ps_errno_state(), "could not open \"%s\" to sync it: %m", path);
	if (fsync(fd) != 0)
		err = ps_error(is_new ? ps_errno_state() : PS_SQLSTATE_IO, "could not sync \"%s\": %m", path);
	close(fd);
	return err;
}

PsError *
fs_sync(const char *path)
{
	return sync_path(path, false);
}

PsError *
fs_sync_new(const char *path)
{
	return sync_path(path, true);
}

/* Most threads of fs_sync_new_tree(), the caller's included. */
#define SYNC_THREADS 8

typedef struct SyncList
{
	char **paths;
	PsError **errors; /* one for each path, or NULL */
	int n;
	atomic_int next; /* the first path that no thread has taken */
} SyncList;

static void *
sync_some(void *arg)
{
	SyncList *list = arg;
	int i;

	while ((i = atomic_fetch_add(&list->next, 1)) < list->n)
		list->errors[i] = fs_sync_new(list->paths[i]);
	return NULL;
}

/* Adds a file, or a directory and all below it; the list owns path. */
static PsError *
add_tree(SyncList *list, char *path)
{
	struct stat st;
	DIR *dir;
	struct dirent *de;
	PsError *err = NULL;

	/* doubled when it is full, at powers of two */
	if ((list->n & (list->n - 1)) == 0)
		list->paths = pg_realloc(list->paths, Max(list->n * 2, 1) * sizeof(char *));
	list->paths[list->n++] = path;
	if (stat(path, &st) != 0)
		return ps_error(ps_errno_state(), "could not stat \"%s\": %m", path);
	if (!S_ISDIR(st.st_mode))
		return NULL;
	dir = opendir(path);
	if (dir == NULL)
		return ps_error(ps_errno_state(), "could not open directory \"%s\": %m", path);
	while (err == NULL && (errno = 0, de = readdir(dir)) != NULL)
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			err = add_tree(list, psprintf("%s/%s", path, de->d_name));
	if (err == NULL && errno != 0)
		err = ps_error(ps_errno_state(), "could not read directory \"%s\": %m", path);
	closedir(dir);
	return err;
}

PsError *
fs_sync_new_tree(const char *dir)
{
	SyncList list = {0};
	pthread_t threads[SYNC_THREADS - 1];
	int nthreads = 0;
	PsError *err = add_tree(&list, pg_strdup(dir));

	list.errors = pg_malloc0(list.n * sizeof(PsError *));
	if (err == NULL)
	{
		/* without more threads it takes longer, but works */
		while (nthreads < Min(SYNC_THREADS, list.n) - 1 &&
			   pthread_create(&threads[nthreads], NULL, sync_some, &list) == 0)
			nthreads++;
		sync_some(&list);
		while (nthreads > 0)
			pthread_join(threads[--nthreads], NULL);
	}
	for (int i = 0; i < list.n; i++)
	{
		if (err == NULL)
			err = list.errors[i];
		else
			ps_error_free(list.errors[i]);
		free(list.paths[i]);
	}
	free(list.paths);
	free(list.errors);
	return err;
}

PsError *
fs_sync_parent(const char *path)
{
	char parent[MAXPGPATH];

	strlcpy(parent, path, sizeof(parent));
	get_parent_directory(parent);
	return fs_sync(parent[0] != '\0' ? parent : ".");
}

bool
fs_rename_back(const char *from, const char *to)
{
	PsError *err;

	if (rename(from, to) != 0)
	{
		ps_log(PS_WARNING, "could not rename \"%s\" to \"%s\": %m", from, to);
		return false;
	}
	err = fs_sync_parent(to);
	if (err == NULL)
		return true;
	ps_log_error(PS_WARNING, err, "\"%s\" may be called \"%s\" again after a power failure", to, from);
	return false;
}
