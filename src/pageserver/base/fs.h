/*
 * fs.h
 *	  Files and directories, made durable.
 *
 * Every small file of the store is written by these functions, except a few that
 * are written in place; those say why.  They replace fsync_fname() and
 * fsync_parent_path() of libpgcommon, which end the whole program when a sync
 * fails.
 *
 * A failed sync is never repeated: Linux marks the pages clean that it could not
 * write, so the next sync of that file succeeds without having written anything.
 * What could not be synced is written again, or given up.
 *
 * All functions may be called by any thread.  Two callers must not write the same
 * file at the same time.
 */
#ifndef PS_FS_H
#define PS_FS_H

#include "base/error.h"

/*
 * What became of a change that takes several steps to become durable.  A caller
 * that keeps or removes files because of the change must check this, not only
 * at the error.
 */
typedef enum Outcome
{
	OUTCOME_NOT_DONE, /* an error: everything is as it was, also after a power failure */
	OUTCOME_UNKNOWN,  /* an error: the change is visible now, but a power failure may undo it */
	OUTCOME_DONE      /* no error; durable */
} Outcome;

/* ---- contents ---- */

/*
 * Writes all of data at an offset of an open file, whatever pwrite() writes at a
 * time; one call is enough unless the disk is full.  fs_pwrite() returns false with
 * errno set, ENOSPC if nothing was written and no reason was given; fs_write_at()
 * returns an error that names path.
 */
extern bool fs_pwrite(int fd, const void *data, size_t len, off_t offset);
extern PsError *fs_write_at(int fd, const char *path, const void *data, size_t len, off_t offset);

/*
 * Reads a file of at most size bytes into buf; of a longer one, the first size
 * bytes.  *len is the number of bytes read, or -1 if there is no such file.
 */
extern PsError *fs_read_file(const char *path, void *buf, size_t size, ssize_t *len);

/*
 * Writes a whole file that nobody reads yet; overwrites an old one.  With sync its
 * contents are durable on return.  Its name is not: the caller syncs the directory.
 */
extern PsError *fs_write_new_file(const char *path, const void *data, size_t len, bool sync);

#define FS_KEEP_OLD 0x01 /* keep the previous file as PATH.old, until the next replacement */
#define FS_NO_SYNC  0x02 /* do not sync the file or its name: after a power failure it may be empty or damaged */
#define FS_NO_SYNC_NAME \
	0x04 /* sync the file but not its name: after a power failure the previous one may be back */

/*
 * Creates or replaces a file so that at any time, also after a crash, the old or
 * the new file is there, whole.  A crash may leave PATH.tmp behind.  Unless a flag
 * says otherwise the change is durable on return; with OUTCOME_UNKNOWN the error
 * has PS_SQLSTATE_UNKNOWN.  outcome may be NULL.
 */
extern PsError *fs_replace_file(const char *path, const void *data, size_t len, int flags, Outcome *outcome);

/* Removes the PATH.tmp that a crash in fs_replace_file() may have left; only while nobody replaces the file. */
extern void fs_remove_stray(const char *path);

/* Removes a file durably.  It is not an error if there is none.  outcome may be NULL. */
extern PsError *fs_remove_file(const char *path, Outcome *outcome);

/*
 * Creates or removes an empty file whose existence means something, durably.
 * After an error it may exist or not; the caller calls again with the old value.
 */
extern PsError *fs_set_mark(const char *path, bool exists);

/* ---- directories, and syncs ---- */

/* Creates a directory that only its owner can read; it must not exist. */
extern PsError *fs_make_dir(const char *path);

/*
 * Syncs the contents of a file, or the names in a directory.  PS_SQLSTATE_IO: what
 * is durable is unknown, and the result of a later sync means nothing.
 */
extern PsError *fs_sync(const char *path);

/*
 * Like fs_sync(), for callers that start from scratch after an error: a full disk
 * is reported as PS_SQLSTATE_DISK_FULL, which may be tried again.
 */
extern PsError *fs_sync_new(const char *path);

/* Syncs the name of a file or directory, by syncing the directory that contains it. */
extern PsError *fs_sync_parent(const char *path);

/*
 * Like fs_sync_new(), for a directory that was just created or copied and all
 * below it.  Several files are synced at the same time: a few take about as long as
 * one.
 */
extern PsError *fs_sync_new_tree(const char *dir);

/*
 * Undoes a rename whose sync failed: renames "from" to "to" and syncs.  False if
 * that failed too, which is logged: after a power failure either name may exist.
 */
extern bool fs_rename_back(const char *from, const char *to);

#endif /* PS_FS_H */
