/*
 * page_cache.h
 *	  What the parts of the page cache know of each other: page_cache_slots.c
 *	  (the table of slots, in a header of its own: page_cache_slots.h),
 *	  page_cache_spill.c (kept pages for which there is no slot),
 *	  page_cache_file.c (the file that both have their pages in),
 *	  page_cache_room.c (who pays when there is no room); page_cache.c
 *	  and page_cache_many.c, which look in both (one page, many at once).
 */
#ifndef PS_PAGE_CACHE_H
#define PS_PAGE_CACHE_H

#include "storage/block.h"

#include "compute.h"

typedef struct CacheTag
{
	PsRel rel;
	BlockNumber blk;
	ForkNumber fork;
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
	PsRel *rels;
	int n;
	int allocated;
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

/*
 * How much of what pages can take a writer may use.  Pages that are only cached
 * leave twice as much of the file system free for WAL as those that must be kept.
 */
typedef enum RoomClaim
{
	ROOM_CACHED,
	ROOM_ORDINARY,
	ROOM_ANOTHER_PAYS, /* room is being made: also most of what was left */
	ROOM_ADMINISTRATOR /* cache_limit does not count */
} RoomClaim;

/* False if so little of the file system is free that WAL may soon find no room. */
extern bool page_cache_file_has_room(RoomClaim claim);

/* ---- page_cache_spill.c ---- */

typedef enum SpillResult
{
	SPILL_DONE,
	SPILL_ABSENT,    /* the block is not there */
	SPILL_IO_ERROR,  /* errno says why; the block is not there any more if it was to be written */
	SPILL_LIMIT,     /* cache_limit is reached, or nearly so */
	SPILL_DISK_FULL, /* page_cache_file_has_room() says no */
	SPILL_TABLE_FULL /* too many chunks */
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

/* lsn: the block's last-written LSN.  _update: only if the block is there. */
extern SpillResult page_cache_spill_write(const CacheTag *tag, const char *page, const PageKeep *keep, XLogRecPtr lsn,
										  RoomClaim claim);
extern SpillResult page_cache_spill_update(const CacheTag *tag, const char *page, const PageKeep *keep, XLogRecPtr lsn);

/* After a failed read: forgets the block, unless it must be kept. */
extern void page_cache_spill_forget(const CacheTag *tag);

/*
 * Gives up what need not be kept any more: as much as may be needed, or, now
 * and then, some of it.  The caller holds no lock of ours.
 */
extern void page_cache_spill_reclaim(void);
extern void page_cache_spill_tidy(void);
extern void page_cache_spill_want_tidy(void); /* the next transaction that ends shall */

/* As the functions of compute.h without "spill".  The caller holds no lock. */
extern void page_cache_spill_truncate(PsRel rel, ForkNumber fork, BlockNumber old_blocks, BlockNumber nblocks);
extern void page_cache_spill_drop_database(Oid spc, Oid db);
extern void page_cache_spill_release_no_lsn(PsRel rel, ForkNumber fork, BlockNumber nblocks, XLogRecPtr lsn);
extern void page_cache_spill_clear(void);
extern void page_cache_spill_held_relations(RelList *list);
extern void page_cache_spill_stats(PageCacheStats *stats);

/* ---- page_cache_room.c ---- */

extern void page_cache_room_request_shmem(void);
extern void page_cache_room_startup_shmem(void);

/*
 * There is no room for a page that must be kept: sees to it that there will be,
 * and says what the caller may claim.  ROOM_ORDINARY: it is for the caller to
 * fail.  The caller holds no lock of ours.
 */
extern RoomClaim page_cache_room_claim(void);

/*
 * To be called with all kept pages by the first two: for which transactions, or
 * for none, they are.  is_mixed: some of them need not be kept any more.
 */
extern void page_cache_count_kept(void);
extern void page_cache_spill_count_kept(void);
extern void page_cache_room_count(const PageKeep *keep, uint64 npages, bool is_mixed);
extern void page_cache_room_count_other(uint64 npages);

#endif /* PS_PAGE_CACHE_H */
