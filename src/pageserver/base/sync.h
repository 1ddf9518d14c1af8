/*
 * sync.h
 *	  Making directories, small files, and names in directories durable.
 *
 * In the place of fsync_fname() and fsync_parent_path() of libpgcommon, which
 * end the whole program when a sync fails.
 *
 * A failed sync is not repeated: Linux marks the pages clean that it could not
 * write, so the next sync of the same file succeeds and has written nothing.
 * What could not be synced is written anew, or given up.
 */
#ifndef PS_SYNC_H
#define PS_SYNC_H

#include "base/error.h"

/*
 * What became of a change that several steps make durable.  Callers that keep
 * or remove files because of it must look at this, not at the error alone.
 */
typedef enum Outcome
{
	OUTCOME_NOT_DONE, /* an error: all is as it was, also after a power failure */
	OUTCOME_UNKNOWN,  /* an error: the change can be seen now, but a power failure may take it back */
	OUTCOME_DONE      /* no error; durable */
} Outcome;

/* Writes all of data at an offset of an open file.  path: for the message. */
extern PsError *write_all(int fd, const char *path, const void *data, size_t len, off_t offset);

/*
 * Writes a whole file that nobody looks at yet; an old one is overwritten.  Its
 * name is not synced; without "sync", nor are its contents.
 */
extern PsError *write_new_file(const char *path, const void *data, size_t len, bool sync);

/*
 * Replaces a file, or makes it, durably: at no time is there none, or a part of
 * one.  The file as it was before stays as PATH.old until it is replaced again.
 * What a crash may leave behind is called PATH.tmp.  With OUTCOME_UNKNOWN the
 * error is PS_SQLSTATE_UNKNOWN.
 */
extern PsError *replace_file(const char *path, const void *data, size_t len, Outcome *outcome);

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
 * An empty file whose being there says something: made or removed, durably.
 * After an error it may be there or not; the caller sets what was there before.
 */
extern PsError *set_mark_file(const char *path, bool there);

/*
 * A directory that was just made, or copied from elsewhere, with all in it and
 * below; as sync_new_path().  Some at the same time: a few take about as long as
 * one.
 */
extern PsError *sync_new_tree(const char *dir);

/* A directory for its owner alone, which is not there yet. */
extern PsError *make_dir(const char *path);

/*
 * Takes back a rename that could not be made durable.  False: this failed, too,
 * and was logged; only a power failure will tell where it is then.
 */
extern bool rename_back(const char *from, const char *to);

#endif /* PS_SYNC_H */
