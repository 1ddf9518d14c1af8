/*
 * fault_fs.h
 *	  For tests: the store's file operations under one directory, counted, and
 *	  from a given one on failed, or not done at all (a crash); and what a power
 *	  failure takes away then: whatever was not synced.
 *
 * The program is linked with --wrap for each function below (Makefile), so that
 * the daemon's calls come here.  Counted is what changes something: creating
 * and truncating files, writing, syncing, renaming, removing, directories.
 *
 * A crash in this process: from the chosen operation on nothing reaches the
 * disk any more, every operation fails, until the test has closed the store and
 * calls fault_restart().  The disk is then as a kill at this operation leaves
 * it; if that was a write, perhaps with its first sectors written.  What remains is
 * up to FaultLoss:
 *	  LOSE_NOTHING	the process was killed; what was not synced may be lost later,
 *					when the power fails after the next start
 *	  LOSE_ALL		the power failed, and nothing had been written out before its sync
 *	  LOSE_SOME		the same, some had: of each file any of the pages, of each
 *					directory the first of its changes
 *
 * What is durable when: data of a file with the fsync or fdatasync of the file;
 * names with the fsync of their directory; a rename between two directories is
 * one change, and durable with the fsync of either.  After a failed sync of a
 * file its pages count as clean, as in Linux: they can be read, but no later
 * sync makes them durable, through whatever descriptor, until they are written
 * again.  (Names are in a file system's journal: if that cannot be written,
 * no sync succeeds any more.)  Real syncs are left out: nothing here outlives
 * the machine.
 */
#ifndef FAULT_FS_H
#define FAULT_FS_H

#include "ps_fe.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <sys/uio.h>

#define FAULT_PAGE   4096
#define FAULT_SECTOR 512 /* is written whole or not at all */
#define FAULT_MAX_FD 4096

typedef enum FaultLoss
{
	LOSE_NOTHING,
	LOSE_ALL,
	LOSE_SOME
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
	long kills;                                       /* operations, counted or not, from the first that failed on, until a crash; 0: none */
	bool happened;
	atomic_bool crashed;
	char what[1200];       /* the operation at which it happened */
	const char *hold_path; /* a sync of a path that ends so waits; NULL: none does */
	int hold_skip;         /* but not the first so many */
	bool holds;            /* one waits */
	pthread_cond_t held;   /* either changed */
	FaultFile *files;
	FaultChange *changes;
	int nchanges;
	atomic_bool is_open[FAULT_MAX_FD]; /* a file or directory below dir */
} FaultFs;

extern FaultFs fault;
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
extern void fault_begin(const char *dir, uint64 random);
extern void fault_arm_crash(long n);
extern void fault_arm_error(long n, long times, int error);
extern void fault_count_only(bool (*only)(const char *name, const char *path));
extern void fault_then_crash(long n);
extern void fault_crash_now(void);
extern void fault_hold(const char *path, int skip);
extern void fault_wait_held(void);
extern void fault_go_on(void);
extern long fault_disarm(void);
extern bool fault_is_armed(void);
extern bool fault_has_crashed(void);
extern bool fault_has_happened(void);
extern void fault_restart(FaultLoss loss);
extern void fault_end(void);

#endif /* FAULT_FS_H */
