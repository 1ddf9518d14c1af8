/*
 * page_cache_slots.h
 *	  The slots of the page cache: a table in shared memory that says which page
 *	  of the file holds which block, in partitions.
 *
 * The first cache_size of the file is an array of slots of one page each;
 * which slot holds which page is known in shared memory only.
 *
 * A page's hash value says which partition it belongs to.  A partition has a
 * lock, a hash table, and a fixed share of the slots, from which a clock with
 * usage counts chooses those to reuse.  It passes over pages that must be kept
 * (KEEP_*: the store could not give back what PostgreSQL wrote) and those that
 * the store could give back only after a wait, because it has not ingested
 * their newest WAL: its disk may be full, and reads must go on.  If nothing
 * else is left, pages that are written go to page_cache_spill.c.  Whether a
 * page must still be kept is decided at that moment, from what its slot
 * remembers.
 *
 * Locks: everything in a partition, its slots included, is protected by the
 * partition's LWLock, and so are the slots' pages in the file: whoever reads a
 * page holds it shared, whoever writes one exclusively.  Hence what is read is
 * never older than what was last written, and a slot cannot change hands in
 * between.  It also protects that a block of the partition is not in a chunk
 * of page_cache_spill.c, whose own lock is taken after it.  usage may be
 * raised under the shared lock, for losing an increment is harmless.  Besides,
 * under a partition's lock only XidGenLock, ProcArrayLock, MultiXactGenLock,
 * BtreeVacuumLock and the locks of pg_subtrans and pg_multixact are taken; no
 * holder of those does I/O on relations.
 *
 * Of the functions here the caller holds the partition's lock, exclusively if
 * anything is changed.
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
	CacheTag tag; /* rel.rel is InvalidOid: the slot is free */
	uint32 next;  /* of the hash chain, or of the list of free slots */
	KeepReasons keep;
	uint8 usage;
	bool has_space; /* the file has disk space for its page, of which a free slot makes no use */
} CacheSlot;

typedef struct CachePartition
{
	uint32 first_slot;     /* constant */
	uint32 hand;           /* of the clock: 0 .. own_slots - 1 */
	uint32 free;           /* list of slots never used, or forgotten */
	uint32 used;           /* slots that hold a page */
	uint32 skip_sweeps;    /* the last sweep found nothing to give up: do not try again so often */
	pg_atomic_uint64 hits; /* counted under the shared lock */
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
	uint32 npartitions; /* a power of 2; these are constant */
	uint32 own_slots;   /* of each partition */
	uint32 nbuckets;    /* of each partition, a power of 2 */

	/*
	 * Pages cached of the forks that share a counter: a fork whose counter is
	 * 0 has none.  Changed under the lock of the page's partition.
	 */
	pg_atomic_uint32 fork_pages[FORK_COUNTERS];
} PageCache;

/* Set at the start of the server, the same in all processes. */
extern PageCache *cache_table;
extern CachePartition *cache_partitions;
extern uint32 *cache_buckets; /* first slots of hash chains, partition by partition */
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

/* The slot of a page, or NO_SLOT. */
static inline uint32
slot_find(const CacheTag *tag, uint32 hash)
{
	uint32 slot = *slot_bucket(hash);

	while (slot != NO_SLOT && !cache_tag_equal(&cache_slots[slot].tag, tag))
		slot = cache_slots[slot].next;
	return slot;
}

/* Counts the pages of a fork, and of others that share its counter. */
extern pg_atomic_uint32 *slot_fork_counter(PsRel rel, ForkNumber fork);

/*
 * Gives the disk space of up to max pages back that need not be kept, and
 * returns of how many.  last_resort: as below.
 */
extern uint32 slot_give_back(CachePartition *part, uint32 max, bool last_resort);

/* The page is not cached any more. */
extern void slot_forget(CachePartition *part, uint32 slot);

/*
 * Gives a page the slot that it has, or a new one.  last_resort: also one whose
 * page the store has to be waited for.  Returns 0, also if there is no slot to
 * be had and *stored is false; or the errno of a failed write, and then the
 * cache has nothing of the block.
 */
extern int slot_store_page(CachePartition *part, const CacheTag *tag, uint32 hash, const char *page, const KeepReasons *keep,
						   int usage, bool last_resort, bool *stored);

#endif /* PS_PAGE_CACHE_SLOTS_H */
