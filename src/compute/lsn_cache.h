/*
 * lsn_cache.h
 *	  Last-written LSNs: for each block, an LSN after which it has not changed.
 *
 * All functions work in every process and take no locks.  LSNs only rise.
 */
#ifndef PS_LSN_CACHE_H
#define PS_LSN_CACHE_H

#include "access/xlogdefs.h"
#include "rel.h"

extern void lsn_cache_request_shmem(void); /* from shmem_request_hook */
extern void lsn_cache_startup_shmem(void); /* from shmem_startup_hook; caller holds AddinShmemInitLock */

/* An LSN not before the last change of the block. */
extern XLogRecPtr lsn_cache_get(PsRel rel, ForkNumber fork, BlockNumber blk);

/* An LSN not before the last change of the relation's size, or of its existence. */
extern XLogRecPtr lsn_cache_get_relation(PsRel rel);

/* The LSN last given to lsn_cache_set_all(), which is a lower bound of all others. */
extern XLogRecPtr lsn_cache_get_floor(void);

/* The greatest LSN ever set: nothing at all has changed after it. */
extern XLogRecPtr lsn_cache_get_max(void);

/* Raise the LSN of a block; of all blocks of a relation (truncate, create, drop); of everything. */
extern void lsn_cache_set_block(PsRel rel, ForkNumber fork, BlockNumber blk, XLogRecPtr lsn);
extern void lsn_cache_set_relation(PsRel rel, XLogRecPtr lsn);
extern void lsn_cache_set_all(XLogRecPtr lsn);

/*
 * At the start of a WAL page, GetXLogInsertRecPtr() returns the position after
 * the page header, where WAL cannot end.  For such an LSN this returns the start
 * of the page, for any other one the LSN itself.
 */
extern XLogRecPtr lsn_cache_end_of_wal(XLogRecPtr lsn);

/* The end of the last WAL record that any process has inserted, as a value for the functions above. */
extern XLogRecPtr lsn_cache_insert_position(void);

#endif /* PS_LSN_CACHE_H */
