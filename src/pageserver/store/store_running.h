/*
 * store_running.h
 *	  The file by which a copy of a store that was taken while it ran is recognized.
 */
#ifndef PS_STORE_RUNNING_H
#define PS_STORE_RUNNING_H

#include "base/error.h"

/*
 * The file exists while a store runs, and after it was killed.  Its first line is its own
 * inode number, decimal.  That is wrong in a copy, but right in the same directory and in a
 * snapshot of the file system, which is consistent.  The rest is for people.
 */
#define STORE_RUNNING_FILE "pageserver.running"

/* Called at the start, with the lock file held.  Fails if the directory is a copy of a store that ran at that time. */
extern PsError *store_running_begin(const char *dir);

/* Called at a clean end. */
extern void store_running_end(const char *dir);

#endif /* PS_STORE_RUNNING_H */
