/*
 * readahead.h
 *	  Requests to the store ahead of need.  All of it is best effort, and
 *	  belongs to one process.
 */
#ifndef PS_READAHEAD_H
#define PS_READAHEAD_H

#include "storage/smgr.h"

/*
 * To be called for each block that is read.  If the block continues a sequential
 * read, requests the blocks after it.  missing: the page cache does not have the
 * block, so it is requested with them.
 */
extern void readahead_advance(SMgrRelation reln, ForkNumber fork, BlockNumber blk, bool missing);

/* Adds a block that PostgreSQL has announced (smgrprefetch()) to the current batch, and sends full batches. */
extern void readahead_collect(SMgrRelation reln, ForkNumber fork, BlockNumber blk);

/* Sends the current batch of announced blocks. */
extern void readahead_send_collected(void);

#endif /* PS_READAHEAD_H */
