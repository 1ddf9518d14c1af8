/*
 * store_dir.h
 *	  A STORE directory as such: made, recognised, locked.
 */
#ifndef PS_STORE_DIR_H
#define PS_STORE_DIR_H

#include "base/error.h"
#include "base/id.h"

/*
 * STORE/PAGESERVER_VERSION holds this number.  It changes when the files of a
 * store change so that an older or newer daemon cannot read them.
 */
#define STORE_FORMAT       1
#define STORE_VERSION_FILE "PAGESERVER_VERSION"
#define STORE_LOCK_FILE    "pageserver.pid"

/*
 * Makes a store in a directory that does not exist or is empty.  After an
 * error nothing is left of it.
 */
extern PsError *store_dir_init(const char *dir);

/* The subdirectories of a directory that are named by an id; free() the array.  Logs a warning for anything else there. */
extern PsError *store_dir_list_ids(const char *path, PsId **ids, int *n);

/* Is it a store that this daemon can read, and this user's own? */
extern PsError *store_dir_check(const char *dir);

/*
 * The lock file: one daemon per store.  What counts is the lock (flock) on it,
 * which ends with the process however that ends.  Its lines are for people and
 * pageserver_ctl:
 *
 *	  process id
 *	  directory of the store
 *	  time of the start, seconds since 1970
 *	  port
 *	  directory of the Unix socket
 *	  state: starting, ready or stopping, with blanks behind it
 */
typedef struct LockFile LockFile;

extern PsError *lock_file_take(const char *dir, int port, const char *socket_dir, LockFile **lock);
/*
 * Is the store still where it was?  An error if the lock file was removed or is
 * another's, or the directory is no longer the one that the store began in:
 * then nothing may be acknowledged any more, for nobody would find it.  What
 * cannot be told (the file cannot be read) is no error, but logged.
 */
extern PsError *lock_file_check(const LockFile *lock);

extern PsError *lock_file_set_state(LockFile *lock, const char *state);

/* Removes the file and the lock. */
extern void lock_file_release(LockFile *lock);

#endif /* PS_STORE_DIR_H */
