/*
 * store_dir.c
 *	  The STORE directory: see store_dir.h.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/config.h"
#include "sqlstate.h"
#include "store/store_dir.h"
#include "base/fs.h"

#define TENANTS_DIR "tenants"

#define LOCK_TRIES      50
#define LOCK_PAUSE_USEC 2000

struct LockFile
{
	int fd;
	char *path;
	char *dir;
	struct stat dir_was; /* of dir, when the lock was acquired */
	char *head;          /* all lines before the state */
};

/* ---- init ---- */

PsError *
store_dir_init(const char *dir)
{
	char *path = pg_strdup(dir);
	char *tenants = psprintf("%s/%s", dir, TENANTS_DIR);
	char *conf = psprintf("%s/%s", dir, CONFIG_FILE_NAME);
	char *version = psprintf("%s/%s", dir, STORE_VERSION_FILE);
	char *parent = psprintf("%s/..", dir);
	char number[16];
	StringInfoData text;
	int kind = pg_check_dir(dir);
	bool begun = false;
	PsError *err = NULL;

	initStringInfo(&text);
	if (kind < 0)
		err = ps_error(PS_SQLSTATE_IO, "could not read the directory \"%s\": %m", dir);
	else if (kind > 1)
		err = ps_error_hint(ps_error(PS_SQLSTATE_STATE, "the directory \"%s\" is not empty", dir),
							"Give a directory that does not exist or is empty%s.",
							kind == 3 ? ": a directory below the mount point" : "");
	else if (kind == 0 && pg_mkdir_p(path, 0700) != 0)
		err = ps_error(PS_SQLSTATE_IO, "could not create the directory \"%s\": %m", dir);
	if (err != NULL)
		goto done;
	begun = true;
	if (chmod(dir, 0700) < 0)
	{
		err = ps_error(PS_SQLSTATE_IO, "could not set permissions of \"%s\": %m", dir);
		goto done;
	}
	if (mkdir(tenants, 0700) < 0)
	{
		err = ps_error(PS_SQLSTATE_IO, "could not create the directory \"%s\": %m", tenants);
		goto done;
	}
	config_write_default(&text);
	PS_GOTO(fs_write_new_file(conf, text.data, text.len, true), done);
	PS_GOTO(fs_sync(dir), done);

	/* last, because this file makes the directory a store */
	snprintf(number, sizeof(number), "%d\n", STORE_FORMAT);
	PS_GOTO(fs_write_new_file(version, number, strlen(number), true), done);
	PS_GOTO(fs_sync(dir), done);
	PS_GOTO(fs_sync(parent), done);

done:
	if (err != NULL && begun)
	{
		unlink(version);
		unlink(conf);
		rmdir(tenants);
		if (kind == 0)
			rmdir(dir);
	}
	pfree(text.data);
	free(path);
	free(tenants);
	free(conf);
	free(version);
	free(parent);
	return err;
}

/* ---- check ---- */

/* Reads and checks the number of the format. */
static PsError *
read_format(const char *dir, int *result)
{
	char *path = psprintf("%s/%s", dir, STORE_VERSION_FILE);
	FILE *file = fopen(path, "re");
	char text[32] = "";
	char *end;
	long format = 0;
	PsError *err = NULL;

	if (file == NULL && errno == ENOENT)
		err = ps_error_hint(ps_error(PS_SQLSTATE_STATE, "\"%s\" is not a store: it has no file %s", dir,
									 STORE_VERSION_FILE),
							"\"pageserver_ctl init -D %s\" creates one.", dir);
	else if (file == NULL)
		err = ps_error(PS_SQLSTATE_IO, "could not open \"%s\": %m", path);
	else
	{
		errno = 0;
		if (fgets(text, sizeof(text), file) == NULL && ferror(file))
			err = ps_error(PS_SQLSTATE_IO, "could not read \"%s\": %m", path);
		fclose(file);
	}
	if (err == NULL)
	{
		errno = 0;
		format = strtol(text, &end, 10);
		if (end == text || *end != '\n' || errno != 0 || format <= 0)
			err = ps_error(PS_SQLSTATE_CORRUPTED, "\"%s\" does not hold the number of a format", path);
		else if (format > STORE_FORMAT)
			err = ps_error_hint(ps_error(PS_SQLSTATE_STATE,
										 "the store \"%s\" has format %ld, and this pageserver reads formats %d to %d",
										 dir, format, STORE_FORMAT_MIN, STORE_FORMAT),
								"It was created or used by a newer version: use that one.");
	}
	*result = (int) format;
	free(path);
	return err;
}

PsError *
store_dir_raise_format(const char *dir)
{
	char *path = psprintf("%s/%s", dir, STORE_VERSION_FILE);
	char number[16];
	int format;
	PsError *err;

	PS_GOTO(read_format(dir, &format), done);
	fs_remove_stray(path);
	if (format == STORE_FORMAT)
		goto done;
	snprintf(number, sizeof(number), "%d\n", STORE_FORMAT);
	err = fs_replace_file(path, number, strlen(number), 0, NULL);
	if (err == NULL)
		ps_log(PS_LOG, "the format of the store is now %d, it was %d: older versions of pageserver refuse the store",
			   STORE_FORMAT, format);
done:
	free(path);
	return err;
}

PsError *
store_dir_check(const char *dir)
{
	struct stat st;
	int format;

	if (stat(dir, &st) < 0)
		return ps_error_hint(ps_error(PS_SQLSTATE_IO, "could not find the store \"%s\": %m", dir),
							 "\"pageserver_ctl init -D %s\" creates one.", dir);
	if (!S_ISDIR(st.st_mode))
		return ps_error(PS_SQLSTATE_STATE, "\"%s\" is not a directory", dir);

	/* requires the ownership and permissions that checkDataDir() of miscinit.c does */
	if (st.st_uid != geteuid())
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "the directory \"%s\" belongs to another user (uid %d)", dir,
									  (int) st.st_uid),
							 "A store must be started by the user who owns it.");
	PS_TRY(read_format(dir, &format));
	if (st.st_mode & (S_IWGRP | S_IRWXO))
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE,
									  "the store \"%s\" can be accessed by others: permissions are %03o", dir,
									  (unsigned int) st.st_mode & 0777),
							 "They must be 0700 or 0750.");
	return NULL;
}

/* ---- lock file ---- */

/* The process id in the file, 0 if there is none. */
static int
read_pid(int fd)
{
	char text[32] = "";

	return pread(fd, text, sizeof(text) - 1, 0) > 0 ? atoi(text) : 0;
}

/* Locks the file.  pageserver_ctl tests the lock by taking it briefly, which must not look like another store. */
static bool
lock_file_lock(int fd)
{
	for (int tries = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; tries++)
	{
		if (errno != EWOULDBLOCK || tries == LOCK_TRIES)
			return false;
		pg_usleep(LOCK_PAUSE_USEC);
	}
	return true;
}

/*
 * Opens and locks the file.  Its previous holder may have removed it between our open
 * and our lock: then the name does not refer to it any more, and the next attempt
 * creates a new one.
 */
static PsError *
open_and_lock(const char *dir, const char *path, int *result)
{
	for (;;)
	{
		struct stat by_fd;
		struct stat by_name;
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		PsError *err;

		if (fd < 0)
			return ps_error(PS_SQLSTATE_IO, "could not open the lock file \"%s\": %m", path);
		if (!lock_file_lock(fd))
		{
			if (errno == EWOULDBLOCK)
				err = ps_error_hint(ps_error(PS_SQLSTATE_STATE,
											 "the store \"%s\" is in use: another pageserver runs on it (PID %d)", dir,
											 read_pid(fd)),
									"\"pageserver_ctl stop -D %s\" stops it.", dir);
			else
				err = ps_error(PS_SQLSTATE_IO, "could not lock the file \"%s\": %m", path);
			close(fd);
			return err;
		}
		if (fstat(fd, &by_fd) == 0 && stat(path, &by_name) == 0 && by_fd.st_ino == by_name.st_ino &&
			by_fd.st_dev == by_name.st_dev)
		{
			*result = fd;
			return NULL;
		}
		close(fd);
	}
}

PsError *
lock_file_take(const char *dir, int port, const char *socket_dir, LockFile **result)
{
	LockFile *lock;
	char *path = psprintf("%s/%s", dir, STORE_LOCK_FILE);
	int fd;
	int old_pid;
	PsError *err = open_and_lock(dir, path, &fd);

	if (err != NULL)
	{
		free(path);
		return err;
	}
	old_pid = read_pid(fd);
	if (old_pid != 0)
		ps_log(PS_LOG, "the store was not shut down: the lock file names PID %d, which no longer holds it", old_pid);
	lock = pg_malloc0(sizeof(LockFile));
	lock->fd = fd;
	lock->path = path;
	lock->dir = pg_strdup(dir);
	lock->head = psprintf("%d\n%s\n%ld\n%d\n%s\n", (int) getpid(), dir, (long) time(NULL), port, socket_dir);
	if (stat(dir, &lock->dir_was) < 0)
		err = ps_error(PS_SQLSTATE_IO, "could not stat \"%s\": %m", dir);
	else
		err = lock_file_set_state(lock, "starting");
	if (err != NULL)
	{
		lock_file_release(lock);
		return err;
	}
	*result = lock;
	return NULL;
}

/* Is it still the same file?  If that cannot be determined, true.  *gone: the name does not exist. */
static bool
is_same_file(const char *path, const struct stat *was, bool *gone)
{
	struct stat now;

	*gone = false;
	if (stat(path, &now) == 0)
		return now.st_ino == was->st_ino && now.st_dev == was->st_dev;
	*gone = errno == ENOENT || errno == ENOTDIR;
	if (!*gone)
		ps_log(PS_WARNING, "could not check whether the store is still in its place: could not stat \"%s\": %m", path);
	return !*gone;
}

PsError *
lock_file_check(const LockFile *lock)
{
	struct stat was;
	bool gone;
	int pid;

	if (!is_same_file(lock->dir, &lock->dir_was, &gone))
		return ps_error(PS_SQLSTATE_STATE,
						gone ? "store directory \"%s\" does not exist any more"
							 : "store directory \"%s\" was replaced by another one",
						lock->dir);
	if (fstat(lock->fd, &was) == 0 && !is_same_file(lock->path, &was, &gone))
		return ps_error(PS_SQLSTATE_STATE,
						gone ? "lock file \"%s\" was removed" : "lock file \"%s\" was replaced by another one",
						lock->path);
	pid = read_pid(lock->fd);
	if (pid != (int) getpid())
		return ps_error(PS_SQLSTATE_STATE, "the lock file \"%s\" contains PID %d, expected %d", lock->path, pid,
						(int) getpid());
	return NULL;
}

PsError *
lock_file_set_state(LockFile *lock, const char *state)
{
	char *text = psprintf("%s%-8s\n", lock->head, state);
	size_t len = strlen(text);
	PsError *err = NULL;

	/* in place, because readers have the file open; one write of constant length, so that no reader sees a part */
	err = fs_write_at(lock->fd, lock->path, text, len, 0);
	if (err == NULL && ftruncate(lock->fd, len) < 0)
		err = ps_error(PS_SQLSTATE_IO, "could not truncate the lock file \"%s\": %m", lock->path);
	free(text);
	return err;
}

void
lock_file_release(LockFile *lock)
{
	unlink(lock->path);
	close(lock->fd);
	free(lock->path);
	free(lock->dir);
	free(lock->head);
	free(lock);
}

/* ---- subdirectories ---- */

PsError *
store_dir_list_ids(const char *path, PsId **ids, int *n)
{
	DIR *dir = opendir(path);
	struct dirent *de;
	PsError *err = NULL;

	*ids = NULL;
	*n = 0;
	if (dir == NULL)
		return ps_error(ps_errno_state(), "could not open directory \"%s\": %m", path);
	while (errno = 0, (de = readdir(dir)) != NULL)
	{
		PsId id;

		if (ps_id_parse(de->d_name, &id))
		{
			/* doubled when it is full, at powers of two */
			if ((*n & (*n - 1)) == 0)
				*ids = pg_realloc(*ids, Max(*n * 2, 1) * sizeof(PsId));
			(*ids)[(*n)++] = id;
		}
		else if (de->d_name[0] != '.')
			ps_log(PS_WARNING, "\"%s/%s\" does not belong here and is left alone", path, de->d_name);
	}
	if (errno != 0)
		err = ps_error(ps_errno_state(), "could not read directory \"%s\": %m", path);
	closedir(dir);
	return err;
}
