/*
 * fault_fs_impl.h
 *	  What fault_fs.c, fault_journal.c and fault_wrap.c share.
 */
#ifndef FAULT_FS_IMPL_H
#define FAULT_FS_IMPL_H

#include "fault_fs.h"

/* The test itself must not fail. */
#define FAULT_CHECK(cond)                                                                                 \
	do                                                                                                    \
	{                                                                                                     \
		if (!(cond))                                                                                      \
		{                                                                                                 \
			fprintf(stderr, "%s:%d: check failed: %s: %s\n", __FILE__, __LINE__, #cond, strerror(errno)); \
			abort();                                                                                      \
		}                                                                                                 \
	} while (0)

extern uint32 fault_random(uint32 n);

/* ---- what is watched ---- */
extern bool fault_is_watched(const char *path);
extern bool fault_is_watched_fd(int fd);
extern ino_t fault_ino(const char *path);
extern ino_t fault_parent_ino(const char *path);
extern bool fault_strikes(const char *name, const char *path, bool *torn);
extern void fault_fd_path(int fd, char *path, size_t size);

/* ---- the journal ---- */
extern FaultFile *fault_file(int fd);
extern void fault_save(int fd, off_t offset, off_t len);
extern void fault_add_change(FaultChange change, const char *path, const char *from, char *kept);
extern char *fault_keep(const char *path);
extern void fault_moved(const char *from, const char *to);
extern void fault_sync_failed(int fd);
extern void fault_synced(int fd);

/* ---- power failure ---- */
extern void fault_lose_data(FaultLoss loss);
extern void fault_lose_names(FaultLoss loss);

/* ---- in the place of the C library's ---- */
extern int __wrap_open(const char *path, int flags, ...);
extern int __wrap_close(int fd);
extern ssize_t __wrap_write(int fd, const void *buf, size_t len);
extern ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t offset);
extern ssize_t __wrap_writev(int fd, const struct iovec *iov, int n);
extern int __wrap_fsync(int fd);
extern int __wrap_fdatasync(int fd);
extern int __wrap_ftruncate(int fd, off_t size);
extern int __wrap_posix_fallocate(int fd, off_t offset, off_t len);
extern int __wrap_rename(const char *from, const char *to);
extern int __wrap_link(const char *path, const char *name);
extern int __wrap_unlink(const char *path);
extern int __wrap_mkdir(const char *path, mode_t mode);
extern int __wrap_rmdir(const char *path);

#endif /* FAULT_FS_IMPL_H */
