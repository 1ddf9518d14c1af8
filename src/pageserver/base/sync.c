/*
 * sync.c
 *	  Directories made, files and the names in directories made durable: see sync.h.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sqlstate.h"
#include "base/sync.h"

static PsError *
sync_and_say(const char *path, bool is_new)
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
sync_path(const char *path)
{
	return sync_and_say(path, false);
}

PsError *
sync_new_path(const char *path)
{
	return sync_and_say(path, true);
}

/* ---- small files ---- */

PsError *
write_all(int fd, const char *path, const void *data, size_t len, off_t offset)
{
	while (len > 0)
	{
		ssize_t n = pwrite(fd, data, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			if (n == 0)
				errno = ENOSPC;
			return ps_error(ps_errno_state(), "could not write %zu bytes at offset %lld of file \"%s\": %m", len, (long long) offset,
							path);
		}
		data = (const char *) data + n;
		len -= n;
		offset += n;
	}
	return NULL;
}

PsError *
write_new_file(const char *path, const void *data, size_t len, bool sync)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	PsError *err;

	if (fd < 0)
		return ps_error(ps_errno_state(), "could not create file \"%s\": %m", path);
	err = write_all(fd, path, data, len, 0);
	if (err == NULL && sync && fsync(fd) != 0)
		err = ps_error(ps_errno_state(), "could not sync file \"%s\": %m", path);
	close(fd);
	return err;
}

/* Gives a file, if there is one, the second name PATH.old, which is taken from the one that has it. */
static PsError *
keep_as_old(const char *path)
{
	char old[MAXPGPATH];

	snprintf(old, sizeof(old), "%s.old", path);
	if (unlink(old) != 0 && errno != ENOENT)
		return ps_error(PS_SQLSTATE_IO, "could not remove file \"%s\": %m", old);

	/* EPERM: the file system has no hard links; then there is one copy only */
	if (link(path, old) != 0 && errno != ENOENT && errno != EPERM)
		return ps_error(ps_errno_state(), "could not link file \"%s\" to \"%s\": %m", path, old);
	return NULL;
}

PsError *
replace_file(const char *path, const void *data, size_t len, Outcome *outcome)
{
	char tmp[MAXPGPATH];
	PsError *err;

	*outcome = OUTCOME_NOT_DONE;
	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	err = write_new_file(tmp, data, len, true);
	if (err == NULL)
		err = keep_as_old(path);
	if (err == NULL && rename(tmp, path) != 0)
		err = ps_error(ps_errno_state(), "could not rename \"%s\" to \"%s\": %m", tmp, path);
	if (err != NULL)
	{
		unlink(tmp);
		return err;
	}
	err = sync_parent(path);
	*outcome = err == NULL ? OUTCOME_DONE : OUTCOME_UNKNOWN;
	if (err == NULL)
		return NULL;
	strlcpy(err->sqlstate, PS_SQLSTATE_UNKNOWN, sizeof(err->sqlstate));
	return ps_error_detail(err, "The change of \"%s\" is there now, and may be gone after a power failure.", path);
}

/* ---- many at once ---- */

/* At most so many threads, the caller's with them. */
#define SYNC_THREADS 8

typedef struct SyncList
{
	char **paths;
	PsError **errors; /* one for each path, or NULL */
	int n;
	atomic_int next; /* the first that no thread has taken */
} SyncList;

static void *
sync_some(void *arg)
{
	SyncList *list = arg;
	int i;

	while ((i = atomic_fetch_add(&list->next, 1)) < list->n)
		list->errors[i] = sync_new_path(list->paths[i]);
	return NULL;
}

/* A file, or a directory and all below. */
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
sync_new_tree(const char *dir)
{
	SyncList list = {0};
	pthread_t threads[SYNC_THREADS - 1];
	int nthreads = 0;
	PsError *err = add_tree(&list, pg_strdup(dir));

	list.errors = pg_malloc0(list.n * sizeof(PsError *));
	if (err == NULL)
	{
		/* if there is no thread to be had, it takes longer */
		while (nthreads < Min(SYNC_THREADS, list.n) - 1 && pthread_create(&threads[nthreads], NULL, sync_some, &list) == 0)
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
sync_parent(const char *path)
{
	char parent[MAXPGPATH];

	strlcpy(parent, path, sizeof(parent));
	get_parent_directory(parent);
	return sync_path(parent[0] != '\0' ? parent : ".");
}

PsError *
set_mark_file(const char *path, bool there)
{
	int fd;

	if (!there)
	{
		if (unlink(path) != 0 && errno != ENOENT)
			return ps_error(PS_SQLSTATE_IO, "could not remove file \"%s\": %m", path);
		return sync_parent(path);
	}
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return ps_error(ps_errno_state(), "could not create file \"%s\": %m", path);
	close(fd);
	return sync_parent(path);
}

PsError *
make_dir(const char *path)
{
	if (mkdir(path, 0700) != 0)
		return ps_error(ps_errno_state(), "could not create directory \"%s\": %m", path);
	return NULL;
}

bool
rename_back(const char *from, const char *to)
{
	PsError *err;

	if (rename(from, to) != 0)
	{
		ps_log(PS_WARNING, "could not rename \"%s\" to \"%s\": %m", from, to);
		return false;
	}
	err = sync_parent(to);
	if (err == NULL)
		return true;
	ps_log_error(PS_WARNING, err, "\"%s\" may be called \"%s\" again after a power failure", to, from);
	return false;
}
