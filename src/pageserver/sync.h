/*
 * sync.h
 *	  Making directories, and files and the names in directories durable.
 *
 * The last in the place of fsync_fname() and fsync_parent_path() of libpgcommon, which
 * end the whole program when a sync fails.
 */
#ifndef PS_SYNC_H
#define PS_SYNC_H

#include "error.h"

/*
 * What a file holds, or which names a directory has.  PS_SQLSTATE_IO: nobody
 * knows what of it is durable, and what a later sync says of it means nothing.
 */
extern PsError *sync_path(const char *path);

/* The same for who makes it all anew after an error: a full disk is PS_SQLSTATE_DISK_FULL. */
extern PsError *sync_new_path(const char *path);

/* The name of a file or directory in the one that it is in. */
extern PsError *sync_parent(const char *path);

/*
 * A directory that was just made, with all in it and below; as sync_new_path().
 * All at the same time: that takes about as long as one of them.  For a few.
 */
extern PsError *sync_new_tree(const char *dir);

/* A directory for its owner alone, which is not there yet. */
extern PsError *make_dir(const char *path);

/* Takes back a rename that could not be made durable.  If this fails, too, that is logged. */
extern void rename_back(const char *from, const char *to);

#endif							/* PS_SYNC_H */
