/*
 * page_cache.h
 *	  The local page cache: pages of the store in a local file, shared by all
 *	  processes of the server.
 *
 * Callers may hold content locks of buffers, but no lock of the cache itself.
 */
#ifndef PS_PAGE_CACHE_H
#define PS_PAGE_CACHE_H

#include "access/xlogdefs.h"
#include "keep_reasons.h"
#include "rel.h"

extern void page_cache_request_shmem(void); /* from shmem_request_hook */
extern void page_cache_startup_shmem(void); /* from shmem_startup_hook; creates the file */

/* From _PG_init: registers a callback that frees spilled pages when transactions end. */
extern void page_cache_xact_init(void);

/* From _PG_init: installs a hook that explains why a transaction was canceled to make room. */
extern void page_cache_room_init(void);

/*
 * Copies a block into page and returns true, or returns false if the cache does
 * not have it.  ERROR only if a page that must be kept cannot be read.
 */
extern bool page_cache_read(PsRel rel, ForkNumber fork, BlockNumber blk, char *page);

/* Does the cache have the block?  Neither reads it nor counts a hit. */
extern bool page_cache_has(PsRel rel, ForkNumber fork, BlockNumber blk);

/*
 * Stores a page that PostgreSQL writes, replacing the cached one and its keep
 * reasons.  The caller has raised the block's last-written LSN before.  A page
 * without keep reasons is stored if there is room; an I/O error only removes it
 * from the cache.  For a page that must be kept, ERROR with a hint if the limit is
 * reached, the disk is full or the file cannot be written.
 */
extern void page_cache_write(PsRel rel, ForkNumber fork, BlockNumber blk, const char *page, const KeepReasons *keep);

/*
 * Stores a page that the store returned as of store_lsn, unless the cache
 * already has the block or the block's last-written LSN, checked under the
 * slot's lock, is beyond store_lsn.
 */
extern void page_cache_fill(PsRel rel, ForkNumber fork, BlockNumber blk, const char *page, XLogRecPtr store_lsn);

/*
 * Remove the blocks of a fork from nblocks on; a whole fork; a database in one
 * tablespace (spc InvalidOid: in all).  old_blocks is the previous length of the
 * fork, or InvalidBlockNumber if it is not known, which may require a scan of all
 * slots.  They raise no errors and may be called in critical sections.
 */
extern void page_cache_truncate(PsRel rel, ForkNumber fork, BlockNumber old_blocks, BlockNumber nblocks);
extern void page_cache_drop_fork(PsRel rel, ForkNumber fork, BlockNumber old_blocks);
extern void page_cache_drop_database(Oid spc, Oid db);

/*
 * Clears KEEP_NO_LSN of all cached pages of a fork of nblocks blocks, and raises
 * their last-written LSN to lsn, where WAL has them by now.
 */
extern void page_cache_release_no_lsn(PsRel rel, ForkNumber fork, BlockNumber nblocks, XLogRecPtr lsn);

/* Relations whose main fork's block 0 is kept for a reason of KEEP_UNTIL_WRITTEN; palloc'd, NULL if there is none. */
extern PsRel *page_cache_held_relations(int *nrels);

typedef struct PageCacheStats
{
	uint64 size_pages;    /* cache_size */
	uint64 limit_pages;   /* cache_limit; PG_UINT64_MAX: none */
	uint64 used_pages;    /* including spilled pages */
	uint64 spilled_pages; /* beyond cache_size */
	uint64 kept_pages;    /* that must be kept now; counted by page_cache_stats() */
	uint64 hits;
	uint64 misses;
	uint64 writes;
	uint64 fills;
	uint64 evictions;
	uint64 io_errors;
} PageCacheStats;

/* Sets *stats.  Takes the locks of the cache one after another, so the counts are not of the same time. */
extern void page_cache_stats(PageCacheStats *stats);

/* Is a part of cache_size unused?  Approximate. */
extern bool page_cache_has_free_slots(void);

/* Removes all pages that need not be kept, including those that the store can return only after ingesting more WAL. */
extern void page_cache_clear(void);

/*
 * If WAL may soon run out of disk space, evicts pages that need not be kept and
 * gives their disk space back.  To be called regularly by processes that use
 * disk space or see others use it.
 */
extern void page_cache_leave_room(void);

#endif /* PS_PAGE_CACHE_H */
