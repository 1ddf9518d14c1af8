/*
 * relsize.h
 *	  The value of a RELSIZE or INITSIZE key: how long a fork is, and which
 *	  versions of its blocks still count.
 *
 * A block that was truncated away, or that belonged to an earlier relation with the
 * same number, must read as zeros although versions of it are in the layers: stock
 * PostgreSQL would find a hole in the file (docs/postgres-facts.md, section 5).  So each
 * truncation, creation and implicit creation leaves a floor (blk, lsn): of
 * block blk and those after it, only versions with an LSN > lsn count.  Floors
 * are ascending in both blk and lsn: a new floor removes those at or after its
 * block, for its LSN is the greatest.  The floor of a block is the last one
 * with floor.blk <= block.
 *
 * A fork that is cut again and again, each time at a greater length, would have
 * a floor of each time.  But of a block that has come back since, the first new
 * version mostly needs nothing older; one that has no version of its own then,
 * or one that needs the page before it, gets a tombstone (relsize_extend()).
 * With that no floor is needed for it: the floor that a truncation left at the
 * fork's end moves along with the end.  It stays where it is only if very many
 * blocks come back at once.  A floor at block 0 stays, too: it costs nothing.
 * So a fork has two floors at most, and one more for each time that it was cut
 * before it grew by more than RELSIZE_MAX_ENDED blocks at once, which no
 * PostgreSQL does (hio.c, RelationAddExtraBlocks(): 512).
 *
 * A fork that was copied with its database (CREATE DATABASE with STRATEGY
 * FILE_COPY, ALTER DATABASE SET TABLESPACE) has an origin: its first blocks are
 * those of the relation of the same number in another database, or tablespace, at
 * an LSN.  A block without a version that
 * counts and needs no older one starts with the page there (read/reconstruct.c).  Once the pages are in image files
 * of this database's own (maintain/db_copy.c) there always is one, and the origin has
 * no effect any more.  A floor ends the origin of its blocks.
 *
 * On disk, big-endian:
 *	  u32 number of blocks, u32 number of floors, then for each floor u32 blk, u64 lsn
 *	  if there is an origin: u32 tablespace, u32 database, u64 LSN, u32 number of blocks
 */
#ifndef PS_RELSIZE_H
#define PS_RELSIZE_H

#include "access/xlogdefs.h"
#include "lib/stringinfo.h"

#include "base/error.h"
#include "key.h"

/* Maximum number of tombstones that are written for one record. */
#define RELSIZE_MAX_ENDED 1024

typedef struct RelSizeFloor
{
	BlockNumber blk;
	XLogRecPtr lsn;
} RelSizeFloor;

typedef struct RelSizeOrigin
{
	Oid spc;
	Oid db;
	XLogRecPtr lsn;
	BlockNumber nblocks; /* that begin there; 0: none */
} RelSizeOrigin;

typedef struct RelSize
{
	BlockNumber nblocks;
	uint32 nfloors;
	RelSizeFloor *floors; /* malloc'd; NULL if there are none */
	RelSizeOrigin origin;
} RelSize;

extern void relsize_free(RelSize *size);

/* The fork from block blk on is new as of lsn. */
extern void relsize_add_floor(RelSize *size, BlockNumber blk, XLogRecPtr lsn);

/*
 * The fork grows to nblocks; is_made: the version that its last block is about
 * to get needs nothing older.  The caller must put a tombstone, of an LSN
 * before the record's end and after all older versions, for each block from
 * *ended up to (not including) *ended_end.
 */
extern void relsize_extend(RelSize *size, BlockNumber nblocks, bool is_made, BlockNumber *ended,
						   BlockNumber *ended_end);

/* Only versions with an LSN greater than this count; 0: all. */
extern XLogRecPtr relsize_floor(const RelSize *size, BlockNumber blk);

extern void relsize_encode(const RelSize *size, StringInfo out);
extern PsError *relsize_decode(const char *value, uint32 len, RelSize *size);

/* Number of blocks out of the value of a RELSIZE or INITSIZE key, as timeline_scan() gives it. */
extern BlockNumber relsize_value_nblocks(const char *value, uint32 len);

#endif /* PS_RELSIZE_H */
