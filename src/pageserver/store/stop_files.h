/*
 * stop_files.h
 *	  Files of a compute that a stock server keeps over a planned restart and
 *	  throws away after a crash: cumulative statistics, pg_stat_statements and
 *	  others in pg_stat, and what autoprewarm has noted.
 *
 * A compute that was stopped sends them when its data directory is shut down and
 * the store has all of its WAL.  They are in the file "stopped" of the
 * timeline's directory, and go into the next base backup, if that continues
 * exactly there.  A branch that begins there has a copy.  They are of use only,
 * so that a file which is damaged or missing is no error.
 *
 * The file, integers big-endian:
 *
 *	  offset  size  field
 *	       0     4  magic, 0x50535346
 *	       4     4  version, 1
 *	       8     8  generation of the compute; 0: of another branch
 *	      16     8  LSN: the end of its WAL
 *	      24     4  number of files
 *	      28        the files: u32 length of the name, u32 length of the contents, name, contents
 *	     end     4  CRC-32C of all before
 */
#ifndef PS_STOP_FILES_H
#define PS_STOP_FILES_H

#include "lib/stringinfo.h"

#include "store/store.h"

/* Most that they may be together. */
#define STOP_FILES_MAX_SIZE (32 * 1024 * 1024)

typedef struct StopFiles
{
	StringInfoData bytes; /* the file, without its CRC */
	uint32 nfiles;
} StopFiles;

extern void stop_files_init(StopFiles *files);
extern void stop_files_free(StopFiles *files);

/* PS_SQLSTATE_INVALID if the name is not one of the files that are kept, or they are too large. */
extern PsError *stop_files_add(StopFiles *files, const char *name, const char *data, size_t len);

/* Durable when it returns.  Refused if the timeline has another generation, or its WAL another end. */
extern PsError *stop_files_save(Timeline *tl, StopFiles *files, uint64 generation, XLogRecPtr lsn);

typedef PsError *(*StopFileVisitor)(void *arg, const char *name, const char *data, size_t len);

/*
 * Calls visit for each file that a compute of this generation, whose checkpoint
 * is at the LSN, starts with.
 */
extern PsError *stop_files_visit(Timeline *tl, uint64 generation, XLogRecPtr checkpoint_lsn, StopFileVisitor visit, void *arg);

/* A branch begins at an LSN of the parent: copies the file, if it is of that LSN, into dir, which is synced later. */
extern void stop_files_branch(Timeline *parent, XLogRecPtr lsn, const char *dir);

#endif /* PS_STOP_FILES_H */
