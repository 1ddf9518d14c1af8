/*
 * page_client.h
 *	  Requests of this process to the store: pages, sizes of forks.
 *
 * Except where noted, a function waits until the store has answered, over
 * new connections if need be, for as long as that takes; interrupts end the wait
 * (docs/waits.md).  An error that the store returns is raised as an ERROR.
 */
#ifndef PS_PAGE_CLIENT_H
#define PS_PAGE_CLIENT_H

#include "access/xlogdefs.h"
#include "rel.h"
#include "wire.h"

extern void page_client_request_shmem(void); /* from shmem_request_hook */
extern void page_client_startup_shmem(void); /* from shmem_startup_hook; caller holds AddinShmemInitLock */

/*
 * Reads n blocks of one fork into pages[0..n-1].  They are as of the returned LSN
 * or later, which is not before not_modified_since; WAL up to there must have
 * been flushed (wal_progress_flush_for_read()).
 */
extern XLogRecPtr page_client_read(PsRel rel, ForkNumber fork, const BlockNumber *blks, int n,
								   XLogRecPtr not_modified_since, char *const *pages);

/* Sends requests for blocks ahead of need.  Best effort: raises no errors, does not connect, may do nothing. */
extern void page_client_prefetch(PsRel rel, ForkNumber fork, const BlockNumber *blks, int n,
								 XLogRecPtr not_modified_since);

/*
 * If this process has prefetched the block, waits for the answer.  Returns true
 * with the page and its LSN if that is at least min_lsn, the block's last-written
 * LSN; otherwise the caller has to read the block.  In both cases the prefetched
 * copy is dropped.
 */
extern bool page_client_take_prefetched(PsRel rel, ForkNumber fork, BlockNumber blk, XLogRecPtr min_lsn, char *page,
										XLogRecPtr *store_lsn);

/* Has this process prefetched the block?  Does not wait. */
extern bool page_client_is_prefetched(PsRel rel, ForkNumber fork, BlockNumber blk);

/* Does the fork exist as of not_modified_since or later?  Sets *nblocks to its length, or to 0. */
extern bool page_client_relsize(PsRel rel, ForkNumber fork, XLogRecPtr not_modified_since, BlockNumber *nblocks);

/*
 * All forks that the store has of a database in a tablespace, or of all its
 * databases (db InvalidOid), including all changes up to now.  Forks of a
 * database, and of a relation, follow one another.  palloc'd; *n: how many.
 * If wait is false and the store cannot be reached, returns NULL instead of
 * waiting.
 */
extern PsForkSize *page_client_forks(Oid spc, Oid db, bool wait, int *n);

/* Counters since the start of the server, for all processes together. */
typedef struct PageClientStats
{
	uint64 requests;         /* sent */
	uint64 pages;            /* requested, including prefetched */
	uint64 prefetched;       /* requested ahead of need */
	uint64 prefetch_hits;    /* of them, used */
	uint64 prefetch_dropped; /* of them, outdated or not needed */
	uint64 reconnects;
	uint64 wait_usec; /* spent waiting for answers */
} PageClientStats;

/* Sets *stats.  Takes no lock. */
extern void page_client_stats(PageClientStats *stats);

#endif /* PS_PAGE_CLIENT_H */
