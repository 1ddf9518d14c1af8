/*
 * sync.h
 *	  Making files and the names in directories durable.
 *
 * In the place of fsync_fname() and fsync_parent_path() of libpgcommon, which
 * end the whole program when a sync fails.
 */
#ifndef PS_SYNC_H
#define PS_SYNC_H

#include "error.h"

/* What a file holds, or which names a directory has; PS_SQLSTATE_IO. */
extern PsError *sync_path(const char *path);

/* The name of a file or directory in the one that it is in. */
extern PsError *sync_parent(const char *path);

#endif							/* PS_SYNC_H */
