/*
 * store_dir.h
 *	  The STORE directory: creation, checks, and the lock file.
 */
#ifndef PS_STORE_DIR_H
#define PS_STORE_DIR_H

#include "base/error.h"
#include "base/id.h"

/*
 * The file STORE/PAGESERVER_VERSION holds this number.  It is incremented when a format
 * changes such that another version of the daemon cannot read the store.
 *
 *	  1		manifests are timeline.json
 *	  2		manifests are timeline.log; timeline.json is read, and replaced when it changes
 */
#define STORE_FORMAT       2
#define STORE_FORMAT_MIN   1 /* the oldest that can be read */
#define STORE_VERSION_FILE "PAGESERVER_VERSION"
#define STORE_LOCK_FILE    "pageserver.pid"

/* Creates a store in a directory that does not exist or is empty.  Removes what it created after an error. */
extern PsError *store_dir_init(const char *dir);

/* The subdirectories of a directory that are named by an id; free() the array.  Logs a warning for other names. */
extern PsError *store_dir_list_ids(const char *path, PsId **ids, int *n);

/* An error if it is not a store, this daemon cannot read it, or it belongs to another user. */
extern PsError *store_dir_check(const char *dir);

/*
 * Sets the format of a store to the current one, durably, before anything in that format is
 * written: from then on older daemons refuse the store.  For the daemon that has the lock file.
 */
extern PsError *store_dir_raise_format(const char *dir);

/*
 * The lock file ensures that only one daemon runs on a store, by a lock (flock) on it, which
 * the kernel releases when the process ends in any way.  Its lines are for users and
 * pageserver_ctl:
 *
 *	  process id
 *	  directory of the store
 *	  time of the start, seconds since 1970
 *	  port
 *	  directory of the Unix socket
 *	  state: starting, ready or stopping, padded with blanks
 */
typedef struct LockFile LockFile;

extern PsError *lock_file_take(const char *dir, int port, const char *socket_dir, LockFile **lock);

/*
 * Checks that the store is still in its place.  An error if the lock file was removed or
 * replaced, or if the directory is not the one in which the store started: then no WAL may
 * be acknowledged any more, because a restart would not find it.  If that cannot be
 * determined, because of an I/O error, a warning is logged.
 */
extern PsError *lock_file_check(const LockFile *lock);

extern PsError *lock_file_set_state(LockFile *lock, const char *state);

/* Removes the file and the lock. */
extern void lock_file_release(LockFile *lock);

#endif /* PS_STORE_DIR_H */
