/*
 * ps_page_cache.h
 *	  What the parts of the page cache know of each other: page_cache_slots.c
 *	  (the table of slots, in a header of its own: ps_page_cache_slots.h),
 *	  page_cache_spill.c (kept pages for which there is no slot),
 *	  page_cache_file.c (the file that both have their pages in); page_cache.c
 *	  and page_cache_many.c, which look in both (one page, many at once).
 */
#ifndef PS_PAGE_CACHE_H
#define PS_PAGE_CACHE_H

#include "storage/block.h"

#include "compute.h"

typedef struct CacheTag
{
	PsRel		rel;
	BlockNumber blk;
	ForkNumber	fork;
} CacheTag;

StaticAssertDecl(sizeof(CacheTag) == 20, "CacheTag is hashed and must not have padding");

static inline uint32
ps_pages_of_mb(int mb)
{
	return (uint32) Min((uint64) mb * (1024 * 1024 / BLCKSZ), (uint64) 1 << 31);
}

/* Relations, collected; all zeros: none yet. */
typedef struct RelList
{
	PsRel	   *rels;
	int			n;
	int			allocated;
} RelList;

/* ---- page_cache_many.c ---- */
extern void rel_list_add(RelList *list, PsRel rel);

/* ---- page_cache_file.c ---- */

/* In the postmaster: creates the file, or makes it empty, having made sure that no other server uses it. */
extern void page_cache_file_open(void);

/* One page; false with errno set.  A page that was never written cannot be read. */
extern bool page_cache_file_read(uint64 pageno, char *page);
extern bool page_cache_file_write(uint64 pageno, const char *page);

/* Gives the disk space of pages back, if the file system can; what is read from them then is zeros. */
extern void page_cache_file_punch(uint64 first, uint64 npages);

/* False if so little of the file system is free that WAL may soon find no room. */
extern bool page_cache_file_has_room(void);

/* ---- page_cache_spill.c ---- */

typedef enum SpillResult
{
	SPILL_DONE,
	SPILL_ABSENT,				/* the block is not there */
	SPILL_IO_ERROR,				/* errno says why; the block is not there any more if it was to be written */
	SPILL_LIMIT,				/* cache_limit is reached */
	SPILL_DISK_FULL,			/* page_cache_file_has_room() says no */
	SPILL_TABLE_FULL			/* too many chunks */
} SpillResult;

extern Size page_cache_spill_shmem_size(void);
extern void page_cache_spill_request_locks(void);

/* first_page: of the file, for spilled pages; own_pages: how much of cache_limit the slots take. */
extern void page_cache_spill_startup_shmem(uint64 first_page, uint64 own_pages);

/*
 * Of a block.  The caller holds the lock of the block's partition of the page
 * cache, shared to look and to read, exclusively to write.  Raises no errors.
 */
extern bool page_cache_spill_has(const CacheTag *tag);
extern SpillResult page_cache_spill_read(const CacheTag *tag, char *page);

/* may_add: also if the block is not there yet.  lsn: its last-written LSN. */
extern SpillResult page_cache_spill_write(const CacheTag *tag, const char *page, const PageKeep *keep, XLogRecPtr lsn,
										  bool may_add);

/* After a failed read: forgets the block, unless it must be kept. */
extern void page_cache_spill_forget(const CacheTag *tag);

/* As the functions of compute.h without "spill".  The caller holds no lock. */
extern void page_cache_spill_truncate(PsRel rel, ForkNumber fork, BlockNumber old_blocks, BlockNumber nblocks);
extern void page_cache_spill_drop_database(Oid spc, Oid db);
extern void page_cache_spill_release_no_lsn(PsRel rel, ForkNumber fork, BlockNumber nblocks, XLogRecPtr lsn);
extern void page_cache_spill_clear(void);
extern void page_cache_spill_held_relations(RelList *list);
extern void page_cache_spill_stats(PageCacheStats *stats);

#endif							/* PS_PAGE_CACHE_H */
