/*
 * store_running.c
 *	  A copy of a store that was taken, file by file, while the store ran.
 *
 * Its manifests and the files that they name are from different points in time, so files
 * may be missing, or WAL may end before the marker.  Most of that would be noticed only
 * when it is read, too late for somebody who relies on the copy as a backup.  Therefore
 * such a copy does not start.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sqlstate.h"
#include "store/store_running.h"
#include "base/fs.h"

static PsError *
write_running(const char *path, int fd)
{
	struct stat st;
	char text[512];
	int len;

	if (fstat(fd, &st) < 0)
		return ps_error(PS_SQLSTATE_IO, "could not stat file \"%s\": %m", path);
	len = snprintf(text, sizeof(text),
				   "%llu\n"
				   "A pageserver runs on this directory, or was killed.  In a copy the number above is\n"
				   "not the inode number of this file: then the store may have run while it was copied.\n",
				   (unsigned long long) st.st_ino);

	/* in place, not by fs_replace_file(), because the number is that of this file */
	PS_TRY(fs_write_at(fd, path, text, len, 0));
	if (ftruncate(fd, len) < 0 || fsync(fd) < 0)
		return ps_error(ps_errno_state(), "could not write file \"%s\": %m", path);
	return NULL;
}

/* An empty file was left by a crash while it was being created, and is not a copy. */
static PsError *
check_running(const char *dir, const char *path, int fd)
{
	struct stat st;
	char text[32] = "";
	PsError *err;

	if (fstat(fd, &st) < 0 || pread(fd, text, sizeof(text) - 1, 0) < 0)
		return ps_error(PS_SQLSTATE_IO, "could not read file \"%s\": %m", path);
	if (text[0] == '\0' || strtoull(text, NULL, 10) == (unsigned long long) st.st_ino)
		return NULL;
	err = ps_error(PS_SQLSTATE_STATE, "\"%s\" is a copy of a store that was not shut down", dir);
	ps_error_detail(err, "If the store ran while it was copied, file by file, the files do not belong together: "
						 "some may be missing, or be older than others.");
	return ps_error_hint(err,
						 "Stop the store before you copy it, take a snapshot of its file system, or detach its tenants "
						 "one after the other and copy their directories.  "
						 "If no store ran on the original at that time, remove \"%s\".",
						 path);
}

PsError *
store_running_begin(const char *dir)
{
	char *path = psprintf("%s/%s", dir, STORE_RUNNING_FILE);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	PsError *err;

	if (fd < 0)
		err = ps_error(ps_errno_state(), "could not open file \"%s\": %m", path);
	else
	{
		err = check_running(dir, path, fd);
		if (err == NULL)
			err = write_running(path, fd);
		close(fd);
	}
	pfree(path);
	return err == NULL ? fs_sync(dir) : err;
}

void
store_running_end(const char *dir)
{
	char *path = psprintf("%s/%s", dir, STORE_RUNNING_FILE);

	if (unlink(path) != 0)
		ps_log(PS_WARNING, "could not remove file \"%s\": %m", path);
	pfree(path);
}
