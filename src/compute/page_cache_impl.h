/*
 * page_cache_impl.h
 *	  Private to page_cache*.c.
 *
 *	page_cache.c			reads and writes one page, wherever it is
 *	page_cache_many.c		truncates, drops, counts many pages
 *	page_cache_slots.c		the table of slots (page_cache_slots.h)
 *	page_cache_spill.c		kept pages for which there is no slot: one page
 *	page_cache_spill_many.c	the same: many pages
 *	page_cache_chunks.c		the chunks that these pages are in (page_cache_chunks.h)
 *	page_cache_room.c		what to do when there is no room for kept pages
 *	page_cache_payer.c		which transaction most pages are kept for
 *	page_cache_file.c		the file
 */
#ifndef PS_PAGE_CACHE_IMPL_H
#define PS_PAGE_CACHE_IMPL_H

#include "storage/block.h"
#include "utils/palloc.h"

#include "page_cache.h"

typedef struct CacheTag
{
	PsRel rel;
	BlockNumber blk;
	ForkNumber fork;
} CacheTag;

StaticAssertDecl(sizeof(CacheTag) == 20, "CacheTag is hashed and must not have padding");

static inline uint32
page_cache_pages_of_mb(int mb)
{
	return (uint32) Min((uint64) mb * (1024 * 1024 / BLCKSZ), (uint64) 1 << 31);
}

/* A growing array of relations; all zeros: empty. */
typedef struct RelList
{
	PsRel *rels; /* palloc'd */
	int n;
	int allocated;
} RelList;

static inline void
rel_list_add(RelList *list, PsRel rel)
{
	if (list->n == list->allocated)
	{
		Size size;

		list->allocated = Max(64, list->allocated * 2);
		size = list->allocated * sizeof(PsRel);
		list->rels = list->rels == NULL ? palloc(size) : repalloc_huge(list->rels, size);
	}
	list->rels[list->n++] = rel;
}

/* ---- page_cache_file.c ---- */

/* In the postmaster: creates or empties the file.  FATAL if another server uses it. */
extern void page_cache_file_open(void);

/* Read or write one page; false with errno set on failure.  A page that was never written cannot be read. */
extern bool page_cache_file_read(uint64 pageno, char *page);
extern bool page_cache_file_write(uint64 pageno, const char *page);

/* Gives the disk space of pages back if the file system can do that; they then read as zeros.  Leaves errno alone. */
extern void page_cache_file_punch(uint64 first, uint64 npages);

/*
 * How much of the space for pages a writer may use.  Pages that are merely cached
 * must leave twice as much of the file system free for WAL as those that must be
 * kept.
 */
typedef enum RoomClaim
{
	ROOM_CACHED,       /* the page need not be kept */
	ROOM_ORDINARY,     /* the page must be kept */
	ROOM_ANOTHER_PAYS, /* another transaction is being canceled to make room: may use most of the reserve */
	ROOM_ADMINISTRATOR /* cache_limit does not apply */
} RoomClaim;

/* False if the file system has so little free space that WAL may soon find none. */
extern bool page_cache_file_has_room(RoomClaim claim);

/* ---- page_cache_slots.c ---- */

extern void page_cache_slots_request_shmem(void); /* from page_cache_request_shmem() */

/* Returns true the first time, in the postmaster. */
extern bool page_cache_slots_startup_shmem(void);

/* ---- page_cache_chunks.c ---- */

extern void page_cache_chunks_request_shmem(void); /* from page_cache_request_shmem() */

/* first_page: page of the file from which on the chunks are; slot_pages: what the slots use of cache_limit. */
extern void page_cache_chunks_startup_shmem(uint64 first_page, uint64 slot_pages);

/* ---- page_cache_spill.c ---- */

typedef enum SpillResult
{
	SPILL_DONE,
	SPILL_ABSENT,    /* the block is not in a chunk */
	SPILL_IO_ERROR,  /* errno is set; after a failed write the block is in no chunk any more */
	SPILL_LIMIT,     /* cache_limit is reached, or nearly */
	SPILL_DISK_FULL, /* page_cache_file_has_room() returned false */
	SPILL_TABLE_FULL /* there are too many chunks */
} SpillResult;

/*
 * Functions for one block.  The caller holds the lock of the block's partition of
 * the page cache: shared to check and to read, exclusively for the
 * others.  They
 * raise no errors.
 */
extern bool page_cache_spill_has(const CacheTag *tag);
extern SpillResult page_cache_spill_read(const CacheTag *tag, char *page);

/*
 * Write a block.  lsn is the block's last-written LSN.  The second function writes it only
 * if it is in a chunk already.
 */
extern SpillResult page_cache_spill_write(const CacheTag *tag, const char *page, const KeepReasons *keep,
										  XLogRecPtr lsn, RoomClaim claim);
extern SpillResult page_cache_spill_update(const CacheTag *tag, const char *page, const KeepReasons *keep,
										   XLogRecPtr lsn);

/* After a failed read: removes the block, unless it must be kept. */
extern void page_cache_spill_forget(const CacheTag *tag);

/* Has this process put pages into chunks since its last transaction ended? */
extern bool page_cache_spill_in_transaction;

/* ---- page_cache_spill_many.c.  The callers hold no lock of the cache. ---- */

/* Frees chunks and pages that need not be kept any more: as many as may be needed. */
extern void page_cache_spill_reclaim(void);

/* Frees some of them if it has not been done for a while. */
extern void page_cache_spill_tidy(void);

/* Makes the next transaction that ends call page_cache_spill_tidy(). */
extern void page_cache_spill_want_tidy(void);

/* The same as the functions of page_cache.h without "spill", for the blocks in chunks. */
extern void page_cache_spill_truncate(PsRel rel, ForkNumber fork, BlockNumber old_blocks, BlockNumber nblocks);
extern void page_cache_spill_drop_database(Oid spc, Oid db);
extern void page_cache_spill_release_no_lsn(PsRel rel, ForkNumber fork, BlockNumber nblocks, XLogRecPtr lsn);
extern void page_cache_spill_clear(void);
extern void page_cache_spill_held_relations(RelList *list);
extern void page_cache_spill_stats(PageCacheStats *stats); /* adds to kept_pages and spilled_pages */

/* Calls the functions of page_cache_payer.c for all spilled pages. */
extern void page_cache_spill_count_kept(void);

/* ---- page_cache_many.c ---- */

/* Calls the functions of page_cache_payer.c for all kept pages in slots. */
extern void page_cache_count_kept(void);

/* ---- page_cache_payer.c ---- */

extern void page_cache_payer_startup(void); /* from shmem_startup_hook: allocates memory that children inherit */

/* Begins a new count, in this process. */
extern void page_cache_payer_reset(void);

/*
 * Count npages pages: those kept for *keep, whose reasons may have ended for some
 * of them if is_mixed; those kept for no transaction.
 */
extern void page_cache_payer_add(const KeepReasons *keep, uint64 npages, bool is_mixed);
extern void page_cache_payer_add_other(uint64 npages);

/*
 * The transaction that most of the counted pages are kept for; of several the
 * oldest.  InvalidTransactionId if more pages are kept for other reasons, such as
 * an index build, or if it is unknown for how many whether and for which
 * transaction they must be kept; *unresolved is then set to true in the latter case.
 */
extern TransactionId page_cache_payer_find(bool *unresolved);

/* ---- page_cache_room.c ---- */

extern void page_cache_room_request_shmem(void); /* from page_cache_request_shmem() */
extern void page_cache_room_startup_shmem(void); /* from page_cache_startup_shmem() */

/*
 * Called when there is no room for a page that must be kept.  If another
 * transaction is responsible, cancels it.  Returns what the caller may claim
 * now; ROOM_ORDINARY: the caller has to fail.  The caller holds no lock of the
 * cache.
 */
extern RoomClaim page_cache_room_claim(void);

#endif /* PS_PAGE_CACHE_IMPL_H */
