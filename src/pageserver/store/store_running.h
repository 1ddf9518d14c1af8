/*
 * store_running.h
 *	  The file that tells a copy of a store that was taken while it ran.
 */
#ifndef PS_STORE_RUNNING_H
#define PS_STORE_RUNNING_H

#include "base/error.h"

/*
 * The file is there while a store runs, and after it was killed.  Its first line
 * is its own inode number, decimal: so it is not true of a copy, but of the same
 * directory, and of a snapshot of the file system, which is of one moment.  What
 * follows is for people.
 */
#define STORE_RUNNING_FILE "pageserver.running"

/* A start, with the lock held: an error if the directory is a copy of a store that ran meanwhile. */
extern PsError *store_running_begin(const char *dir);

/* A clean end. */
extern void store_running_end(const char *dir);

#endif /* PS_STORE_RUNNING_H */
