/*
 * relsize.h
 *	  The value of a RELSIZE or INITSIZE key: how long a fork is, and which
 *	  versions of its blocks still count.
 *
 * A block that was cut off by a truncation, or belonged to an earlier relation
 * of the same number, must read as zeros even though versions of it are in the
 * layers: stock PostgreSQL would find a hole in the file (FACTS 1).  So each
 * truncation, creation and implicit creation leaves a floor (blk, lsn): of
 * block blk and those after it, only versions with an LSN > lsn count.  Floors
 * are ascending in both blk and lsn: a new floor removes those at or after its
 * block, for its LSN is the greatest.  The floor of a block is the last one
 * with floor.blk <= block.
 *
 * On disk, big-endian:
 *	  u32 number of blocks, u32 number of floors, then for each floor u32 blk, u64 lsn
 */
#ifndef PS_RELSIZE_H
#define PS_RELSIZE_H

#include "access/xlogdefs.h"
#include "lib/stringinfo.h"

#include "error.h"
#include "ps_key.h"

typedef struct RelSizeFloor
{
	BlockNumber blk;
	XLogRecPtr	lsn;
} RelSizeFloor;

typedef struct RelSize
{
	BlockNumber nblocks;
	uint32		nfloors;
	RelSizeFloor *floors;		/* malloc'd; NULL if there are none */
} RelSize;

extern void relsize_free(RelSize *size);

/* The fork from block blk on is new as of lsn. */
extern void relsize_add_floor(RelSize *size, BlockNumber blk, XLogRecPtr lsn);

/* Only versions with an LSN greater than this count; 0: all. */
extern XLogRecPtr relsize_floor(const RelSize *size, BlockNumber blk);

extern void relsize_encode(const RelSize *size, StringInfo out);
extern PsError *relsize_decode(const char *value, uint32 len, RelSize *size);

#endif							/* PS_RELSIZE_H */
