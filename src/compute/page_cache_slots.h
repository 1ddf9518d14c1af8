/*
 * page_cache_slots.h
 *	  The slots of the page cache: a table in shared memory that says which
 *	  block each page of the file holds.  Private to page_cache.c,
 *	  page_cache_many.c, page_cache_slots.c.
 *
 * The first cache_size of the file are slots of one page each.
 *
 * The hash value of a block determines its partition.  A partition has a lock, a
 * hash table, and a fixed share of the slots, from which a clock with usage counts
 * chooses those to reuse.  The clock skips pages that must be kept (KEEP_*: the store
 * could not return what PostgreSQL has written) and pages that the store could
 * return only after a wait, because it has not ingested their newest WAL; its disk
 * may be full, and reads should still succeed.  If there is no other page, written
 * pages are put into chunks (page_cache_chunks.h).  Whether a page must still be kept
 * is decided when its slot is needed, from what the slot remembers.
 *
 * Locks: the partition's LWLock protects everything in the partition, including its
 * slots and their pages in the file: it is held shared to read a page, exclusively to
 * write one.  So a page that is read is never older than the last one written, and
 * the slot cannot be reused in between.  The lock also protects the fact that a
 * block of the partition is not in a chunk; the lock of the chunk is taken after it.
 * Usage counts may be incremented under the shared lock, because a lost increment
 * does no harm.  Apart from these, only XidGenLock, ProcArrayLock, MultiXactGenLock,
 * BtreeVacuumLock and the locks of pg_subtrans and pg_multixact are taken under a
 * partition's lock; no process does I/O on relations while it holds one of them.
 *
 * Callers of the functions below hold the partition's lock, exclusively if anything
 * is changed.
 */
#ifndef PS_PAGE_CACHE_SLOTS_H
#define PS_PAGE_CACHE_SLOTS_H

#include "common/hashfn.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#include "page_cache_impl.h"

#define MAX_PARTITIONS 1024
#define MAX_USAGE      3
#define FORK_COUNTERS  8192 /* a power of 2 */

#define NO_SLOT UINT32_MAX

typedef struct CacheSlot
{
	CacheTag tag; /* rel.rel is InvalidOid if the slot is free */
	uint32 next;  /* next slot in the hash chain, or in the list of free slots */
	KeepReasons keep;
	uint8 usage;
	bool has_space; /* the file has disk space for the page; may also be true for a free slot */
} CacheSlot;

typedef struct CachePartition
{
	uint32 first_slot;     /* constant */
	uint32 hand;           /* of the clock: 0 .. own_slots - 1 */
	uint32 free;           /* head of the list of free slots */
	uint32 used;           /* number of slots that hold a page */
	uint32 skip_sweeps;    /* number of times not to sweep, because the last sweep found nothing to evict */
	pg_atomic_uint64 hits; /* incremented under the shared lock */
	pg_atomic_uint64 misses;
	uint64 writes;
	uint64 fills;
	uint64 evictions;
	pg_atomic_uint64 io_errors;
	char pad[PG_CACHE_LINE_SIZE - 6 * sizeof(uint32) - 6 * sizeof(uint64)];
} CachePartition;

StaticAssertDecl(sizeof(CachePartition) == PG_CACHE_LINE_SIZE, "partitions must not share cache lines");

typedef struct PageCache
{
	uint32 npartitions; /* a power of 2; this and the next two are constant */
	uint32 own_slots;   /* slots of each partition */
	uint32 nbuckets;    /* buckets of each partition; a power of 2 */

	/*
	 * Number of cached pages, for all forks that share a counter: a fork whose
	 * counter is 0 has no cached pages.  Changed under the lock of the page's
	 * partition.
	 */
	pg_atomic_uint32 fork_pages[FORK_COUNTERS];
} PageCache;

/* Set at server start; the same in all processes. */
extern PageCache *cache_table;
extern CachePartition *cache_partitions;
extern uint32 *cache_buckets; /* heads of the hash chains, one partition after another */
extern CacheSlot *cache_slots;
extern LWLockPadded *cache_locks;

static inline CacheTag
cache_tag(PsRel rel, ForkNumber fork, BlockNumber blk)
{
	CacheTag tag = {rel, blk, fork};

	return tag;
}

static inline bool
cache_tag_equal(const CacheTag *a, const CacheTag *b)
{
	return a->blk == b->blk && ps_rel_equal(a->rel, b->rel) && a->fork == b->fork;
}

static inline uint32
cache_tag_hash(const CacheTag *tag)
{
	return hash_bytes((const unsigned char *) tag, sizeof(*tag));
}

static inline uint32
slot_partition(uint32 hash)
{
	return hash & (cache_table->npartitions - 1);
}

static inline uint32 *
slot_bucket(uint32 hash)
{
	return &cache_buckets[(Size) slot_partition(hash) * cache_table->nbuckets +
						  ((hash / MAX_PARTITIONS) & (cache_table->nbuckets - 1))];
}

/* Returns the slot of a page, or NO_SLOT. */
static inline uint32
slot_find(const CacheTag *tag, uint32 hash)
{
	uint32 slot = *slot_bucket(hash);

	while (slot != NO_SLOT && !cache_tag_equal(&cache_slots[slot].tag, tag))
		slot = cache_slots[slot].next;
	return slot;
}

/* The counter that a fork shares with others, in PageCache.fork_pages. */
extern pg_atomic_uint32 *slot_fork_counter(PsRel rel, ForkNumber fork);

/*
 * Empties up to max slots whose pages need not be kept, and gives their disk
 * space back; returns how many.  last_resort: also those of pages that the store
 * can return only after ingesting more WAL.
 */
extern uint32 slot_give_back(CachePartition *part, uint32 max, bool last_resort);

/* Removes the page of a slot. */
extern void slot_forget(CachePartition *part, uint32 slot);

/*
 * Writes a page to its slot, or to a new one; usage is the initial usage count.
 * last_resort: see slot_give_back().  Returns 0 and sets *stored, which is false
 * if there is no slot.  If the write fails, returns its errno, and the block is
 * not in a slot any more.
 */
extern int slot_store_page(CachePartition *part, const CacheTag *tag, uint32 hash, const char *page,
						   const KeepReasons *keep, int usage, bool last_resort, bool *stored);

#endif /* PS_PAGE_CACHE_SLOTS_H */
