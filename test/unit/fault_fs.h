/*
 * fault_fs.h
 *	  For tests: file operations of the store that fail, crashes in the middle
 *	  of them, and power failures.
 *
 * The test is linked with --wrap for each function in fault_wrap.c (see the
 * Makefile), so that the store's calls of the C library get there.  Operations
 * below one directory that change something are counted: creating and truncating
 * files, writing, syncing, renaming and removing, directories included.  From a
 * given operation on they fail, or are not done at all, as after a crash.
 *
 * A crash happens within this process: from the chosen operation on every
 * operation fails and nothing reaches the disk, until the test has closed the
 * store and calls fault_restart().  The disk then is as after a kill at that
 * operation; a write may have been done in part, by whole sectors.  What else is
 * lost depends on FaultLoss.
 *
 * Data of a file becomes durable with an fsync or fdatasync of the file; a name
 * with the fsync of its directory; a rename between two directories is one
 * change, and becomes durable with the fsync of either.  After a failed sync of a
 * file its pages count as clean, as in Linux: they can be read, but no later sync
 * makes them durable, through any descriptor, until they are written again.
 * (Names are in the journal of the file system: if it cannot be written, no later
 * sync succeeds.)  Real syncs are omitted, since no file outlives the test.
 */
#ifndef FAULT_FS_H
#define FAULT_FS_H

#include "ps_fe.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <sys/uio.h>

#define FAULT_PAGE   4096
#define FAULT_SECTOR 512 /* a sector is written completely or not at all */
#define FAULT_MAX_FD 4096

/* What a restart loses. */
typedef enum FaultLoss
{
	LOSE_NOTHING, /* the process was killed; a power failure after the restart may still lose what was not synced */
	LOSE_ALL,     /* the power failed, and only what was synced had been written */
	LOSE_SOME     /* the power failed after random pages of files and the first changes of directories were written */
} FaultLoss;

/* A page of a file as it was at the file's last sync. */
typedef struct FaultPage
{
	off_t number;
	bool clean;           /* its sync failed, and it was not written since */
	char was[FAULT_PAGE]; /* zeros beyond the file's end */
} FaultPage;

/* A file with changes that are not synced. */
typedef struct FaultFile
{
	ino_t ino;
	int fd;     /* of its own */
	off_t size; /* at the last sync */
	FaultPage *pages;
	int npages;
	int cap;
	struct FaultFile *next;
} FaultFile;

typedef enum FaultChangeKind
{
	CHANGE_CREATE, /* of a file or directory */
	CHANGE_RENAME,
	CHANGE_UNLINK,
	CHANGE_RMDIR
} FaultChangeKind;

/* A change of directories that is not synced. */
typedef struct FaultChange
{
	FaultChangeKind kind;
	ino_t dir;      /* the directory that has the name now, or had it */
	ino_t from_dir; /* CHANGE_RENAME: where it was before */
	ino_t ino;      /* what it is about */
	char *path;
	char *from; /* CHANGE_RENAME */
	char *kept; /* what was removed or replaced is there; NULL: nothing was */
} FaultChange;

typedef struct FaultFs
{
	pthread_mutex_t lock; /* for all of it, and held during each counted operation */
	char *dir;            /* NULL: nothing is watched */
	char *graveyard;      /* beside it */
	uint64 nkept;
	uint64 random;
	long count;                                       /* operations since fault_begin() or the last fault_arm...() */
	long at;                                          /* the operation to fail or crash at, from 1 on; 0: none */
	long upto;                                        /* the last one to fail */
	int error;                                        /* 0: crash */
	bool (*only)(const char *name, const char *path); /* which operations are counted; NULL: all */
	long kills;                                       /* operations, counted or not, from the first failure until a
													   * crash; 0: no crash */
	bool happened;
	atomic_bool crashed;
	char what[1200];       /* the operation at which it happened */
	const char *hold_path; /* syncs of paths with this ending wait; NULL: none does */
	int hold_skip;         /* except for this many at first */
	bool holds;            /* a sync is waiting */
	pthread_cond_t held;   /* hold_path or holds has changed */
	FaultFile *files;
	FaultChange *changes;
	int nchanges;
	atomic_bool is_open[FAULT_MAX_FD]; /* a file or directory below dir */
} FaultFs;

extern FaultFs fault;

/* the functions of the C library */
extern int __real_open(const char *path, int flags, ...);
extern int __real_close(int fd);
extern ssize_t __real_write(int fd, const void *buf, size_t len);
extern ssize_t __real_pwrite(int fd, const void *buf, size_t len, off_t offset);
extern ssize_t __real_writev(int fd, const struct iovec *iov, int n);
extern int __real_fsync(int fd);
extern int __real_fdatasync(int fd);
extern int __real_ftruncate(int fd, off_t size);
extern int __real_posix_fallocate(int fd, off_t offset, off_t len);
extern int __real_rename(const char *from, const char *to);
extern int __real_link(const char *path, const char *name);
extern int __real_unlink(const char *path);
extern int __real_mkdir(const char *path, mode_t mode);
extern int __real_rmdir(const char *path);

/* ---- power failure ---- */
extern void fault_remove_tree(const char *path);

/* ---- what a test calls ---- */

/* Starts to watch dir, in its present state.  Nothing else may use these files. */
extern void fault_begin(const char *dir, uint64 random);

/* Crashes at the n-th operation from now on, counted from 1. */
extern void fault_arm_crash(long n);

/*
 * Operations n to n + times - 1 from now on fail with this errno.  A full disk that lasts (ENOSPC, times > 1) fails
 * only operations that need room.
 */
extern void fault_arm_error(long n, long times, int error);

/* After fault_arm_...(): counts only these operations. */
extern void fault_count_only(bool (*only)(const char *name, const char *path));

/* After fault_arm_error(): crashes this many operations after the first one that fails. */
extern void fault_then_crash(long n);

/* Crashes at the next operation. */
extern void fault_crash_now(void);

/* A slow disk: syncs of paths with this ending wait until fault_go_on(), except for the first "skip". */
extern void fault_hold(const char *path, int skip);

/* Waits until a sync is waiting. */
extern void fault_wait_held(void);
extern void fault_go_on(void);

/* Ends failing; returns the number of operations since it was armed. */
extern long fault_disarm(void);
extern bool fault_is_armed(void);
extern bool fault_has_crashed(void);
extern bool fault_has_happened(void);

/* Simulates a restart, after a crash or not, when the store is closed. */
extern void fault_restart(FaultLoss loss);
extern void fault_end(void);

#endif /* FAULT_FS_H */
