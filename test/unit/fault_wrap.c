/*
 * fault_wrap.c
 *	  Functions in place of the C library's, by the linker's --wrap: see
 *	  fault_fs.h.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault_fs_impl.h"

/* ---- in the place of the C library's ---- */

int
__wrap_open(const char *path, int flags, ...)
{
	bool watched = fault_is_watched(path);
	mode_t mode = 0;
	bool torn;
	ino_t before;
	int fd;

	if (flags & O_CREAT)
	{
		va_list args;

		va_start(args, flags);
		mode = (mode_t) va_arg(args, int);
		va_end(args);
	}
	if (!watched)
		return __real_open(path, flags, mode);
	pthread_mutex_lock(&fault.lock);
	before = fault_ino(path);
	if ((((flags & O_CREAT) && before == 0) || ((flags & O_TRUNC) && before != 0)) &&
		fault_strikes("create", path, &torn))
		fd = -1;
	else
		fd = __real_open(path, flags & ~O_TRUNC, mode);
	if (fd >= 0)
	{
		FAULT_CHECK(fd < FAULT_MAX_FD);
		fault.is_open[fd] = true;
		if (before == 0)
			fault_add_change((FaultChange) {.kind = CHANGE_CREATE, .ino = fault_ino(path)}, path, NULL, NULL);
		else if (flags & O_TRUNC)
		{
			struct stat st;

			FAULT_CHECK(fstat(fd, &st) == 0);
			fault_save(fd, 0, st.st_size);
			FAULT_CHECK(__real_ftruncate(fd, 0) == 0);
		}
	}
	pthread_mutex_unlock(&fault.lock);
	return fd;
}

int
__wrap_close(int fd)
{
	if (fault_is_watched_fd(fd))
	{
		pthread_mutex_lock(&fault.lock);
		fault.is_open[fd] = false;
		pthread_mutex_unlock(&fault.lock);
	}
	return __real_close(fd);
}

/* One operation on an open file that changes a range of it; offset < 0: at its position. */
static ssize_t
fault_write(int fd, const char *buf, size_t len, off_t offset)
{
	char path[MAXPGPATH];
	bool torn = false;
	ssize_t n = -1;

	pthread_mutex_lock(&fault.lock);
	fault_fd_path(fd, path, sizeof(path));
	if (offset < 0)
		offset = lseek(fd, 0, SEEK_CUR);
	fault_save(fd, offset, len);
	if (!fault_strikes("write", path, &torn))
	{
		n = __real_pwrite(fd, buf, len, offset);
		if (n > 0)
			lseek(fd, offset + n, SEEK_SET);
	}
	else if (torn)
	{
		/* as far as a sector's end, or all */
		size_t part = fault_random((uint32) len + 1);

		if (part < len)
			part -= Min(part, (offset + part) % FAULT_SECTOR);
		FAULT_CHECK(__real_pwrite(fd, buf, part, offset) == (ssize_t) part);
		errno = EIO;
	}
	pthread_mutex_unlock(&fault.lock);
	return n;
}

ssize_t
__wrap_write(int fd, const void *buf, size_t len)
{
	return fault_is_watched_fd(fd) ? fault_write(fd, buf, len, -1) : __real_write(fd, buf, len);
}

ssize_t
__wrap_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	return fault_is_watched_fd(fd) ? fault_write(fd, buf, len, offset) : __real_pwrite(fd, buf, len, offset);
}

ssize_t
__wrap_writev(int fd, const struct iovec *iov, int n)
{
	/* of the redo helpers only, that is to pipes */
	FAULT_CHECK(!fault_is_watched_fd(fd));
	return __real_writev(fd, iov, n);
}

static int
fault_sync(int fd, const char *name)
{
	char path[MAXPGPATH];
	bool torn;
	int rc = -1;

	pthread_mutex_lock(&fault.lock);
	fault_fd_path(fd, path, sizeof(path));
	while (fault.hold_path != NULL && strlen(path) >= strlen(fault.hold_path) &&
		   strcmp(path + strlen(path) - strlen(fault.hold_path), fault.hold_path) == 0)
	{
		if (fault.hold_skip-- > 0)
			break;
		fault.holds = true;
		pthread_cond_broadcast(&fault.held);
		pthread_cond_wait(&fault.held, &fault.lock);
	}
	if (!fault_strikes(name, path, &torn))
	{
		fault_synced(fd);
		rc = 0;
	}
	else if (!atomic_load(&fault.crashed))
		fault_sync_failed(fd);
	pthread_mutex_unlock(&fault.lock);
	return rc;
}

int
__wrap_fsync(int fd)
{
	return fault_is_watched_fd(fd) ? fault_sync(fd, "fsync") : __real_fsync(fd);
}

int
__wrap_fdatasync(int fd)
{
	return fault_is_watched_fd(fd) ? fault_sync(fd, "fdatasync") : __real_fdatasync(fd);
}

int
__wrap_ftruncate(int fd, off_t size)
{
	char path[MAXPGPATH];
	bool torn;
	struct stat st;
	int rc = -1;

	if (!fault_is_watched_fd(fd))
		return __real_ftruncate(fd, size);
	pthread_mutex_lock(&fault.lock);
	fault_fd_path(fd, path, sizeof(path));
	FAULT_CHECK(fstat(fd, &st) == 0);
	fault_save(fd, size, Max(st.st_size - size, 0));
	if (!fault_strikes("ftruncate", path, &torn))
		rc = __real_ftruncate(fd, size);
	pthread_mutex_unlock(&fault.lock);
	return rc;
}

int
__wrap_posix_fallocate(int fd, off_t offset, off_t len)
{
	char path[MAXPGPATH];
	bool torn;
	int rc;

	if (!fault_is_watched_fd(fd))
		return __real_posix_fallocate(fd, offset, len);
	pthread_mutex_lock(&fault.lock);
	fault_fd_path(fd, path, sizeof(path));
	(void) fault_file(fd);
	rc = fault_strikes("posix_fallocate", path, &torn) ? errno : __real_posix_fallocate(fd, offset, len);
	pthread_mutex_unlock(&fault.lock);
	return rc;
}

int
__wrap_rename(const char *from, const char *to)
{
	FaultChange change = {.kind = CHANGE_RENAME};
	bool torn;
	int rc = -1;

	if (!fault_is_watched(from))
		return __real_rename(from, to);
	pthread_mutex_lock(&fault.lock);
	if (!fault_strikes("rename", to, &torn))
	{
		struct stat st;
		char *kept = lstat(to, &st) == 0 && S_ISREG(st.st_mode) ? fault_keep(to) : NULL;

		change.ino = fault_ino(from);
		rc = __real_rename(from, to);
		if (rc == 0)
		{
			fault_moved(from, to);
			fault_add_change(change, to, from, kept);
		}
		else if (kept != NULL)
			FAULT_CHECK(false);
	}
	pthread_mutex_unlock(&fault.lock);
	return rc;
}

int
__wrap_link(const char *path, const char *name)
{
	FaultChange change = {.kind = CHANGE_CREATE};
	bool torn;
	int rc = -1;

	if (!fault_is_watched(name))
		return __real_link(path, name);
	pthread_mutex_lock(&fault.lock);
	if (!fault_strikes("link", name, &torn))
	{
		rc = __real_link(path, name);
		if (rc == 0)
		{
			change.ino = fault_ino(name);
			fault_add_change(change, name, NULL, NULL);
		}
	}
	pthread_mutex_unlock(&fault.lock);
	return rc;
}

int
__wrap_unlink(const char *path)
{
	FaultChange change = {.kind = CHANGE_UNLINK};
	bool torn;
	struct stat st;
	int rc = -1;

	if (!fault_is_watched(path))
		return __real_unlink(path);
	pthread_mutex_lock(&fault.lock);
	if (!fault_strikes("unlink", path, &torn))
	{
		char *kept = lstat(path, &st) == 0 && S_ISREG(st.st_mode) ? fault_keep(path) : NULL;

		rc = __real_unlink(path);
		if (rc == 0 && kept != NULL)
			fault_add_change(change, path, NULL, kept);
	}
	pthread_mutex_unlock(&fault.lock);
	return rc;
}

int
__wrap_mkdir(const char *path, mode_t mode)
{
	FaultChange change = {.kind = CHANGE_CREATE};
	bool torn;
	int rc = -1;

	if (!fault_is_watched(path))
		return __real_mkdir(path, mode);
	pthread_mutex_lock(&fault.lock);
	if (!fault_strikes("mkdir", path, &torn))
	{
		rc = __real_mkdir(path, mode);
		if (rc == 0)
		{
			change.ino = fault_ino(path);
			fault_add_change(change, path, NULL, NULL);
		}
	}
	pthread_mutex_unlock(&fault.lock);
	return rc;
}

int
__wrap_rmdir(const char *path)
{
	FaultChange change = {.kind = CHANGE_RMDIR};
	bool torn;
	int rc = -1;

	if (!fault_is_watched(path))
		return __real_rmdir(path);
	pthread_mutex_lock(&fault.lock);
	if (!fault_strikes("rmdir", path, &torn))
	{
		change.ino = fault_ino(path);
		rc = __real_rmdir(path);
		if (rc == 0)
			fault_add_change(change, path, NULL, NULL);
	}
	pthread_mutex_unlock(&fault.lock);
	return rc;
}
