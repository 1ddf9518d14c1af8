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

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

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

static struct
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
} fault = {.lock = PTHREAD_MUTEX_INITIALIZER, .held = PTHREAD_COND_INITIALIZER};

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

static inline uint32
fault_random(uint32 n)
{
	uint64 z = fault.random += UINT64CONST(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return (uint32) ((z ^ (z >> 31)) >> 32) % n;
}

/* ---- what is watched ---- */

static inline bool
fault_is_watched(const char *path)
{
	return fault.dir != NULL && strncmp(path, fault.dir, strlen(fault.dir)) == 0 && path[strlen(fault.dir)] == '/';
}

static inline bool
fault_is_watched_fd(int fd)
{
	return fault.dir != NULL && fd >= 0 && fd < FAULT_MAX_FD && fault.is_open[fd];
}

static inline ino_t
fault_ino(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 ? st.st_ino : 0;
}

static inline ino_t
fault_parent_ino(const char *path)
{
	char parent[MAXPGPATH];

	strlcpy(parent, path, sizeof(parent));
	*strrchr(parent, '/') = '\0';
	return fault_ino(parent);
}

/* A disk that stays full does not prevent this. */
static inline bool
fault_is_beyond(const char *name)
{
	return fault.error == ENOSPC && fault.upto > fault.at &&
		   (strcmp(name, "rename") == 0 || strcmp(name, "unlink") == 0 || strcmp(name, "rmdir") == 0 || strstr(name, "sync") != NULL);
}

/*
 * Counts an operation.  True: it is not to be done, errno says why; *torn: but
 * for a part of what is written.
 */
static inline bool
fault_strikes(const char *name, const char *path, bool *torn)
{
	bool strikes = false;
	bool counts = fault.only == NULL || fault.only(name, path);

	fault.count += counts;
	if (fault.happened && fault.error != 0 && fault.kills > 0 && --fault.kills == 0)
		atomic_store(&fault.crashed, *torn = true);
	if (atomic_load(&fault.crashed))
		strikes = true;
	else if (!counts)
		;
	else if (fault.at != 0 && fault.count >= fault.at && fault.count <= fault.upto && !fault_is_beyond(name))
	{
		strikes = true;
		if (!fault.happened)
			snprintf(fault.what, sizeof(fault.what), "%s %s", name, path);
		fault.happened = true;
		if (fault.error == 0)
		{
			*torn = true;
			atomic_store(&fault.crashed, true);
		}
	}
	if (strikes)
		errno = fault.error != 0 ? fault.error : EIO;
	return strikes;
}

static inline void
fault_fd_path(int fd, char *path, size_t size)
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, size - 1);
	path[Max(n, 0)] = '\0';
}

/* ---- the journal ---- */

static inline FaultFile *
fault_file(int fd)
{
	struct stat st;
	FaultFile *file;
	char link[64];

	FAULT_CHECK(fstat(fd, &st) == 0);
	for (file = fault.files; file != NULL; file = file->next)
		if (file->ino == st.st_ino)
			return file;
	file = pg_malloc0(sizeof(FaultFile));
	file->ino = st.st_ino;
	file->size = st.st_size;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	file->fd = __real_open(link, O_RDWR | O_CLOEXEC);
	FAULT_CHECK(file->fd >= 0);
	file->next = fault.files;
	fault.files = file;
	return file;
}

static inline void
fault_forget_file(ino_t ino)
{
	for (FaultFile **p = &fault.files; *p != NULL; p = &(*p)->next)
		if ((*p)->ino == ino)
		{
			FaultFile *file = *p;

			*p = file->next;
			__real_close(file->fd);
			free(file->pages);
			free(file);
			return;
		}
}

/* Before a range of a file changes. */
static inline void
fault_save(int fd, off_t offset, off_t len)
{
	FaultFile *file = fault_file(fd);

	for (off_t number = offset / FAULT_PAGE; len > 0 && number <= (offset + len - 1) / FAULT_PAGE; number++)
	{
		FaultPage *page;
		bool known = false;

		for (int i = file->npages - 1; i >= 0 && !known; i--)
		{
			known = file->pages[i].number == number;
			if (known)
				file->pages[i].clean = false;
		}
		if (known)
			continue;
		if (file->npages == file->cap)
		{
			file->cap = Max(1, file->cap * 2);
			file->pages = pg_realloc(file->pages, file->cap * sizeof(FaultPage));
		}
		page = &file->pages[file->npages++];
		page->number = number;
		page->clean = false;
		memset(page->was, 0, FAULT_PAGE);
		if (number * FAULT_PAGE < file->size)
			FAULT_CHECK(pread(file->fd, page->was, FAULT_PAGE, number * FAULT_PAGE) >= 0);
	}
}

static inline void
fault_drop_change(int i)
{
	FaultChange *change = &fault.changes[i];

	if (change->kept != NULL)
	{
		struct stat st;

		/* the last name of a file: it is gone for good */
		if (lstat(change->kept, &st) == 0 && st.st_nlink == 1)
			fault_forget_file(st.st_ino);
		(void) __real_unlink(change->kept);
	}
	free(change->path);
	free(change->from);
	free(change->kept);
	memmove(change, change + 1, (--fault.nchanges - i) * sizeof(FaultChange));
}

static inline void
fault_add_change(FaultChange change, const char *path, const char *from, char *kept)
{
	change.path = pg_strdup(path);
	change.from = from ? pg_strdup(from) : NULL;
	change.kept = kept;
	change.dir = fault_parent_ino(path);
	change.from_dir = from ? fault_parent_ino(from) : 0;
	fault.changes = pg_realloc(fault.changes, (fault.nchanges + 1) * sizeof(FaultChange));
	fault.changes[fault.nchanges++] = change;
}

/* A second name for what is about to lose its own. */
static inline char *
fault_keep(const char *path)
{
	char *kept = psprintf("%s/%llu", fault.graveyard, (unsigned long long) ++fault.nkept);

	FAULT_CHECK(__real_link(path, kept) == 0);
	return kept;
}

/* Names of what is below a directory that was renamed. */
static inline void
fault_moved(const char *from, const char *to)
{
	size_t len = strlen(from);

	for (int i = 0; i < fault.nchanges; i++)
		for (int k = 0; k < 2; k++)
		{
			char **path = k == 0 ? &fault.changes[i].path : &fault.changes[i].from;

			if (*path != NULL && strncmp(*path, from, len) == 0 && (*path)[len] == '/')
			{
				char *moved = psprintf("%s%s", to, *path + len);

				free(*path);
				*path = moved;
			}
		}
}

/* All pages are durable that were not counted as clean. */
static inline void
fault_synced_file(const struct stat *st)
{
	int n = 0;

	for (FaultFile *file = fault.files; file != NULL; file = file->next)
	{
		if (file->ino != st->st_ino)
			continue;
		for (int i = 0; i < file->npages; i++)
			if (file->pages[i].clean)
				file->pages[n++] = file->pages[i];
		file->npages = n;
		file->size = st->st_size;
		if (n == 0)
			fault_forget_file(st->st_ino);
		return;
	}
}

static inline void
fault_sync_failed(int fd)
{
	struct stat st;

	FAULT_CHECK(fstat(fd, &st) == 0);
	for (FaultFile *file = fault.files; file != NULL; file = file->next)
		for (int i = 0; i < file->npages && file->ino == st.st_ino; i++)
			file->pages[i].clean = true;
}

static inline void
fault_synced(int fd)
{
	struct stat st;

	FAULT_CHECK(fstat(fd, &st) == 0);
	if (!S_ISDIR(st.st_mode))
	{
		fault_synced_file(&st);
		return;
	}
	for (int i = 0; i < fault.nchanges;)
	{
		if (fault.changes[i].dir == st.st_ino || fault.changes[i].from_dir == st.st_ino)
			fault_drop_change(i);
		else
			i++;
	}
}

/* ---- power failure ---- */

static inline void
fault_lose_data(FaultLoss loss)
{
	while (fault.files != NULL)
	{
		FaultFile *file = fault.files;
		struct stat st;

		FAULT_CHECK(fstat(file->fd, &st) == 0);
		for (int i = 0; i < file->npages && loss != LOSE_NOTHING; i++)
			if (loss == LOSE_ALL || fault_random(2) == 0)
				FAULT_CHECK(__real_pwrite(file->fd, file->pages[i].was, FAULT_PAGE, file->pages[i].number * FAULT_PAGE) == FAULT_PAGE);
		if (loss == LOSE_ALL || (loss == LOSE_SOME && fault_random(2) == 0))
			FAULT_CHECK(__real_ftruncate(file->fd, file->size) == 0);
		else
			FAULT_CHECK(__real_ftruncate(file->fd, st.st_size) == 0);
		fault_forget_file(file->ino);
	}
}

static inline void
fault_remove_tree(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *de;

	while (dir != NULL && (de = readdir(dir)) != NULL)
	{
		char entry[MAXPGPATH];

		snprintf(entry, sizeof(entry), "%s/%s", path, de->d_name);
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0 && __real_unlink(entry) != 0)
			fault_remove_tree(entry);
	}
	if (dir != NULL)
	{
		closedir(dir);
		(void) __real_rmdir(path);
	}
}

/* A directory that was removed is there again. */
static inline void
fault_is_now(ino_t old, ino_t new)
{
	for (int i = 0; i < fault.nchanges; i++)
	{
		FaultChange *change = &fault.changes[i];

		change->ino = change->ino == old ? new : change->ino;
		change->dir = change->dir == old ? new : change->dir;
		change->from_dir = change->from_dir == old ? new : change->from_dir;
	}
}

/* Takes a change back, unless what it made is not there any more. */
static inline void
fault_undo(FaultChange *change)
{
	switch (change->kind)
	{
		case CHANGE_CREATE:
			if (fault_ino(change->path) == change->ino && __real_unlink(change->path) != 0)
				fault_remove_tree(change->path);
			break;
		case CHANGE_RENAME:
			if (fault_ino(change->path) != change->ino || fault_ino(change->from) != 0)
				break;
			FAULT_CHECK(__real_rename(change->path, change->from) == 0);
			fault_moved(change->path, change->from);
			if (change->kept != NULL)
				FAULT_CHECK(__real_rename(change->kept, change->path) == 0);
			break;
		case CHANGE_UNLINK:
			if (fault_ino(change->path) == 0)
				(void) __real_rename(change->kept, change->path); /* its directory may not be there */
			break;
		case CHANGE_RMDIR:
			if (__real_mkdir(change->path, 0700) == 0)
				fault_is_now(change->ino, fault_ino(change->path));
			break;
	}
}

static inline void
fault_lose_names(FaultLoss loss)
{
	bool *lost = pg_malloc0(fault.nchanges + 1);

	/* of each directory, the last of its changes */
	for (int i = 0; i < fault.nchanges; i++)
	{
		lost[i] = loss == LOSE_ALL || (loss == LOSE_SOME && fault_random(3) == 0);
		for (int k = 0; k < i && !lost[i]; k++)
			lost[i] = lost[k] && fault.changes[k].dir == fault.changes[i].dir;
	}
	for (int i = fault.nchanges - 1; i >= 0; i--)
	{
		if (lost[i])
			fault_undo(&fault.changes[i]);
		fault_drop_change(i);
	}
	free(lost);
}

/* ---- what a test calls ---- */

/* Watches what is below dir from now on, which is taken as it is; nothing else may use the files. */
static inline void
fault_begin(const char *dir, uint64 random)
{
	fault.dir = pg_strdup(dir);
	fault.graveyard = psprintf("%s.graveyard", dir);
	fault.random = random;
	FAULT_CHECK(__real_mkdir(fault.graveyard, 0700) == 0);
}

/* The n-th operation from now on, counted from 1, and all after it are not done. */
static inline void
fault_arm_crash(long n)
{
	pthread_mutex_lock(&fault.lock);
	fault.count = 0;
	fault.at = n;
	fault.upto = LONG_MAX;
	fault.error = 0;
	fault.only = NULL;
	fault.happened = false;
	pthread_mutex_unlock(&fault.lock);
}

/* Operations n to n + times - 1 fail with an error; with ENOSPC, if they are more than one, only those that need room. */
static inline void
fault_arm_error(long n, long times, int error)
{
	pthread_mutex_lock(&fault.lock);
	fault.count = 0;
	fault.at = n;
	fault.upto = n + times - 1;
	fault.error = error;
	fault.only = NULL;
	fault.kills = 0;
	fault.happened = false;
	pthread_mutex_unlock(&fault.lock);
}

/* After fault_arm...(), before anything is done: only these operations are counted. */
static inline void
fault_count_only(bool (*only)(const char *name, const char *path))
{
	fault.only = only;
}

/* After fault_arm_error(): a crash so many operations after the first that failed. */
static inline void
fault_then_crash(long n)
{
	fault.kills = n;
}

/* From now on nothing is done any more, as if a crash had been armed for the next operation. */
static inline void
fault_crash_now(void)
{
	pthread_mutex_lock(&fault.lock);
	fault.at = 0;
	atomic_store(&fault.crashed, true);
	pthread_mutex_unlock(&fault.lock);
}

/* A disk that is slow: syncs of paths that end so wait, but the first "skip", until fault_go_on(). */
static inline void
fault_hold(const char *path, int skip)
{
	pthread_mutex_lock(&fault.lock);
	fault.hold_path = path;
	fault.hold_skip = skip;
	fault.holds = false;
	pthread_mutex_unlock(&fault.lock);
}

/* Until one does. */
static inline void
fault_wait_held(void)
{
	pthread_mutex_lock(&fault.lock);
	while (!fault.holds)
		pthread_cond_wait(&fault.held, &fault.lock);
	pthread_mutex_unlock(&fault.lock);
}

static inline void
fault_go_on(void)
{
	pthread_mutex_lock(&fault.lock);
	fault.hold_path = NULL;
	pthread_cond_broadcast(&fault.held);
	pthread_mutex_unlock(&fault.lock);
}

/* Nothing fails any more; how many operations there were since it was armed. */
static inline long
fault_disarm(void)
{
	long count;

	pthread_mutex_lock(&fault.lock);
	count = fault.count;
	fault.at = 0;
	fault.kills = 0;
	pthread_mutex_unlock(&fault.lock);
	return count;
}

static inline bool
fault_is_armed(void)
{
	bool armed;

	pthread_mutex_lock(&fault.lock);
	armed = fault.at != 0;
	pthread_mutex_unlock(&fault.lock);
	return armed;
}

static inline bool
fault_has_crashed(void)
{
	return atomic_load(&fault.crashed);
}

static inline bool
fault_has_happened(void)
{
	bool happened;

	pthread_mutex_lock(&fault.lock);
	happened = fault.happened;
	pthread_mutex_unlock(&fault.lock);
	return happened;
}

/* The machine starts again; the store is closed.  Also after no crash: what was not synced may be lost. */
static inline void
fault_restart(FaultLoss loss)
{
	pthread_mutex_lock(&fault.lock);
	if (loss != LOSE_NOTHING)
	{
		fault_lose_data(loss);
		fault_lose_names(loss);
	}
	fault.at = 0;
	fault.kills = 0;
	atomic_store(&fault.crashed, false);
	pthread_mutex_unlock(&fault.lock);
}

static inline void
fault_end(void)
{
	fault_lose_data(LOSE_NOTHING);
	fault_lose_names(LOSE_NOTHING);
	fault_remove_tree(fault.graveyard);
	free(fault.dir);
	free(fault.graveyard);
	fault.dir = NULL;
}

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
	if ((((flags & O_CREAT) && before == 0) || ((flags & O_TRUNC) && before != 0)) && fault_strikes("create", path, &torn))
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
static inline ssize_t
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

static inline int
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

#endif /* FAULT_FS_H */
