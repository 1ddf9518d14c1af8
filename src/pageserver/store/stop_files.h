/*
 * stop_files.h
 *	  Files of a compute that a stock server keeps across a planned restart and
 *	  discards after a crash: cumulative statistics, pg_stat_statements and others
 *	  in pg_stat, and the block list of autoprewarm.
 *
 * A stopped compute sends them after its data directory is shut down and the store has all
 * of its WAL.  They are stored in the file "stopped" in the timeline's directory, and are
 * added to the next base backup, if that continues exactly where they were saved.  A branch
 * that begins there gets a copy.  No data depends on them, so it is no error if the file is
 * damaged or missing.
 *
 * The file, integers big-endian:
 *
 *	  offset  size  field
 *	       0     4  magic, 0x50535346
 *	       4     4  version, 1
 *	       8     8  generation of the compute; 0: copied from another branch
 *	      16     8  LSN: the end of its WAL
 *	      24     4  number of files
 *	      28        the files: u32 length of the name, u32 length of the contents, name, contents
 *	     end     4  CRC-32C of all before
 */
#ifndef PS_STOP_FILES_H
#define PS_STOP_FILES_H

#include "lib/stringinfo.h"

#include "store/store.h"

/* The maximum of their total size, with names and lengths, bytes. */
#define STOP_FILES_MAX_SIZE (32 * 1024 * 1024)

typedef struct StopFiles
{
	StringInfoData bytes; /* the file, without its CRC */
	uint32 nfiles;
} StopFiles;

extern void stop_files_init(StopFiles *files);
extern void stop_files_free(StopFiles *files);

/* PS_SQLSTATE_INVALID if the file is not one of those that are kept, or if they are too large. */
extern PsError *stop_files_add(StopFiles *files, const char *name, const char *data, size_t len);

/* Saves them durably.  Refused if the timeline has another generation, or its WAL ends elsewhere. */
extern PsError *stop_files_save(Timeline *tl, StopFiles *files, uint64 generation, XLogRecPtr lsn);

typedef PsError *(*StopFileVisitor)(void *arg, const char *name, const char *data, size_t len);

/*
 * Calls visit for each file for a compute of this generation that starts from the checkpoint
 * at the LSN; for none if they were saved elsewhere.
 */
extern PsError *stop_files_visit(Timeline *tl, uint64 generation, XLogRecPtr checkpoint_lsn, StopFileVisitor visit,
								 void *arg);

/* For a branch that begins at an LSN of the parent: copies the file, if it was saved there, into dir; does not sync. */
extern void stop_files_branch(Timeline *parent, XLogRecPtr lsn, const char *dir);

#endif /* PS_STOP_FILES_H */
