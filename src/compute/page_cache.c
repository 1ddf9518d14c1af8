/*
 * page_cache.c
 *	  Pages of the store in a local file, shared by all processes.
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
 * under a partition's lock only XidGenLock, ProcArrayLock, MultiXactGenLock
 * and BtreeVacuumLock are taken; no holder of those does I/O on relations.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "ps_page_cache.h"

#define LOCK_TRANCHE "pageserver_smgr_cache"

#define MAX_PARTITIONS 1024
#define MAX_USAGE 3
#define FORK_COUNTERS 8192		/* a power of 2 */

#define NO_SLOT UINT32_MAX

typedef struct CacheSlot
{
	CacheTag	tag;			/* rel.rel is InvalidOid: the slot is free */
	uint32		next;			/* of the hash chain, or of the list of free slots */
	PageKeep	keep;
	uint8		usage;
} CacheSlot;

typedef struct CachePartition
{
	uint32		first_slot;		/* constant */
	uint32		hand;			/* of the clock: 0 .. own_slots - 1 */
	uint32		free;			/* list of slots never used, or forgotten */
	uint32		used;			/* slots that hold a page */
	uint32		skip_sweeps;	/* the last sweep found nothing to give up: do not try again so often */
	pg_atomic_uint64 hits;		/* counted under the shared lock */
	pg_atomic_uint64 misses;
	uint64		writes;
	uint64		fills;
	uint64		evictions;
	pg_atomic_uint64 io_errors;
	char		pad[PG_CACHE_LINE_SIZE - 6 * sizeof(uint32) - 6 * sizeof(uint64)];
} CachePartition;

StaticAssertDecl(sizeof(CachePartition) == PG_CACHE_LINE_SIZE, "partitions must not share cache lines");

typedef struct PageCache
{
	uint32		npartitions;	/* a power of 2; these are constant */
	uint32		own_slots;		/* of each partition */
	uint32		nbuckets;		/* of each partition, a power of 2 */

	/*
	 * Pages cached of the forks that share a counter: a fork whose counter is
	 * 0 has none.  Changed under the lock of the page's partition.
	 */
	pg_atomic_uint32 fork_pages[FORK_COUNTERS];
} PageCache;

static PageCache *cache;
static CachePartition *partitions;
static uint32 *buckets;			/* first slots of hash chains, partition by partition */
static CacheSlot *slots;
static LWLockPadded *locks;

/* ---- size and start ---- */

/* Enough partitions that their locks are seldom waited for, but not too small ones. */
static uint32
count_partitions(void)
{
	uint32		n = 1;

	while (n < MAX_PARTITIONS && ps_pages_of_mb(ps_cache_size) / (n * 2) >= (n < 128 ? 16 : 1024))
		n *= 2;
	return n;
}

static uint32
count_buckets(void)
{
	return pg_nextpower2_32(ps_pages_of_mb(ps_cache_size) / count_partitions());
}

static Size
cache_bytes(void)
{
	Size		size = MAXALIGN(sizeof(PageCache));

	size = add_size(size, mul_size(count_partitions(), sizeof(CachePartition)));
	size = add_size(size, mul_size((Size) count_partitions() * count_buckets(), sizeof(uint32)));
	size = add_size(size, mul_size(ps_pages_of_mb(ps_cache_size), sizeof(CacheSlot)));
	return add_size(size, PG_CACHE_LINE_SIZE);
}

void
page_cache_request_shmem(void)
{
	RequestAddinShmemSpace(cache_bytes());
	RequestNamedLWLockTranche(LOCK_TRANCHE, count_partitions());
	RequestAddinShmemSpace(page_cache_spill_shmem_size());
	page_cache_spill_request_locks();
}

void
page_cache_startup_shmem(void)
{
	bool		found;
	char	   *at;

	page_cache_spill_startup_shmem(ps_pages_of_mb(ps_cache_size), ps_pages_of_mb(ps_cache_size));
	cache = ShmemInitStruct("pageserver_smgr page cache", cache_bytes(), &found);
	at = (char *) cache + MAXALIGN(sizeof(PageCache));
	partitions = (CachePartition *) CACHELINEALIGN(at);
	buckets = (uint32 *) &partitions[count_partitions()];
	slots = (CacheSlot *) &buckets[(Size) count_partitions() * count_buckets()];
	locks = GetNamedLWLockTranche(LOCK_TRANCHE);
	if (found)
		return;

	cache->npartitions = count_partitions();
	cache->nbuckets = count_buckets();
	cache->own_slots = ps_pages_of_mb(ps_cache_size) / cache->npartitions;
	for (int i = 0; i < FORK_COUNTERS; i++)
		pg_atomic_init_u32(&cache->fork_pages[i], 0);

	memset(slots, 0, sizeof(CacheSlot) * cache->npartitions * cache->own_slots);
	memset(buckets, 0xFF, sizeof(uint32) * (Size) cache->npartitions * cache->nbuckets);
	for (uint32 i = 0; i < cache->npartitions; i++)
	{
		CachePartition *part = &partitions[i];

		memset(part, 0, sizeof(*part));
		part->first_slot = i * cache->own_slots;
		part->free = part->first_slot;
		for (uint32 s = 0; s < cache->own_slots; s++)
			slots[part->first_slot + s].next = s + 1 < cache->own_slots ? part->first_slot + s + 1 : NO_SLOT;
		pg_atomic_init_u64(&part->hits, 0);
		pg_atomic_init_u64(&part->misses, 0);
		pg_atomic_init_u64(&part->io_errors, 0);
	}
	page_cache_file_open();
}

/* ---- slots of a partition: the caller holds its lock, exclusively if anything is changed ---- */

static CacheTag
make_tag(PsRel rel, ForkNumber fork, BlockNumber blk)
{
	CacheTag	tag = {rel, blk, fork};

	return tag;
}

static inline bool
tag_equal(const CacheTag *a, const CacheTag *b)
{
	return a->blk == b->blk && ps_rel_equal(a->rel, b->rel) && a->fork == b->fork;
}

static inline uint32
hash_tag(const CacheTag *tag)
{
	return hash_bytes((const unsigned char *) tag, sizeof(*tag));
}

static inline uint32
partition_of(uint32 hash)
{
	return hash & (cache->npartitions - 1);
}

static inline uint32 *
bucket_of(uint32 hash)
{
	return &buckets[(Size) partition_of(hash) * cache->nbuckets + ((hash / MAX_PARTITIONS) & (cache->nbuckets - 1))];
}

static pg_atomic_uint32 *
fork_counter(PsRel rel, ForkNumber fork)
{
	uint32		key[] = {rel.spc, rel.db, rel.rel, (uint32) fork};

	return &cache->fork_pages[hash_bytes((const unsigned char *) key, sizeof(key)) & (FORK_COUNTERS - 1)];
}

static uint32
find_slot(const CacheTag *tag, uint32 hash)
{
	uint32		slot = *bucket_of(hash);

	while (slot != NO_SLOT && !tag_equal(&slots[slot].tag, tag))
		slot = slots[slot].next;
	return slot;
}

static void
set_keep(CachePartition *part, CacheSlot *slot, const PageKeep *keep)
{
	slot->keep = *keep;
	if (keep->reasons == 0)
		part->skip_sweeps = 0;
}

/* Gives an empty slot, which is in no list, a page. */
static void
link_slot(CachePartition *part, uint32 slot, const CacheTag *tag, uint32 hash, const PageKeep *keep, int usage)
{
	uint32	   *bucket = bucket_of(hash);

	slots[slot].tag = *tag;
	slots[slot].usage = usage;
	set_keep(part, &slots[slot], keep);
	slots[slot].next = *bucket;
	*bucket = slot;
	part->used++;
	pg_atomic_fetch_add_u32(fork_counter(tag->rel, tag->fork), 1);
}

/* Takes the page from a slot, which then is in no list. */
static void
unlink_slot(CachePartition *part, uint32 slot)
{
	CacheTag   *tag = &slots[slot].tag;
	uint32	   *link = bucket_of(hash_tag(tag));

	while (*link != slot)
		link = &slots[*link].next;
	*link = slots[slot].next;
	part->used--;
	pg_atomic_fetch_sub_u32(fork_counter(tag->rel, tag->fork), 1);
	tag->rel.rel = InvalidOid;
	slots[slot].keep.reasons = 0;
}

static void
free_slot(CachePartition *part, uint32 slot)
{
	slots[slot].next = part->free;
	part->free = slot;
}

static void
forget_slot(CachePartition *part, uint32 slot)
{
	unlink_slot(part, slot);
	free_slot(part, slot);
}

/* Has the store not ingested the last change of the block?  Then to give it back it would have to wait. */
static bool
is_ahead_of_store(const CacheTag *tag)
{
	XLogRecPtr	ingested = wal_worker_ingested();

	return lsn_cache_get_max() > ingested && lsn_cache_get(tag->rel, tag->fork, tag->blk) > ingested;
}

/*
 * The clock: empties one of the partition's slots; NO_SLOT if none can be
 * given up.  last_resort: also pages that the store has to be waited for.
 */
static uint32
sweep(CachePartition *part, bool last_resort)
{
	uint32		in_a_row = 0;	/* that cannot be given up */

	while (in_a_row < cache->own_slots)
	{
		uint32		slot = part->first_slot + part->hand;

		part->hand = (part->hand + 1) % cache->own_slots;
		if (page_keep_holds(&slots[slot].keep))
			in_a_row++;
		else if (slots[slot].usage > 0)
		{
			in_a_row = 0;
			slots[slot].usage--;
		}
		else if (!last_resort && is_ahead_of_store(&slots[slot].tag))
			in_a_row++;
		else
		{
			part->evictions++;
			unlink_slot(part, slot);
			return slot;
		}
	}
	return NO_SLOT;
}

/* An empty slot for a page, or NO_SLOT. */
static uint32
allocate_slot(CachePartition *part, bool last_resort)
{
	uint32		slot = part->free;

	if (slot != NO_SLOT)
	{
		part->free = slots[slot].next;
		return slot;
	}
	if (part->skip_sweeps > 0 && !last_resort)
	{
		part->skip_sweeps--;
		return NO_SLOT;
	}
	slot = sweep(part, last_resort);
	if (slot == NO_SLOT)
		part->skip_sweeps = cache->own_slots / 16;
	return slot;
}

/* ---- one page ---- */

/*
 * Reports that a page could not be read or written, io_errno saying why: as an
 * error only if the page must be kept.  To be called without locks, for what
 * catches an error may want them.
 */
static void
report_io_error(CachePartition *part, int io_errno, bool kept, const char *operation, const CacheTag *tag)
{
	static bool logged = false;

	pg_atomic_fetch_add_u64(&part->io_errors, 1);
	errno = io_errno;
	if (kept || !logged)
		ereport(kept ? ERROR : LOG,
				(errcode_for_file_access(),
				 errmsg("could not %s page cache file \"%s\" for block %u of relation %u/%u/%u, fork %d: %m",
						operation, ps_cache_path, tag->blk, tag->rel.spc, tag->rel.db, tag->rel.rel, tag->fork),
				 kept ? errdetail("The page must be kept, for the store cannot make it from WAL.") : 0));
	logged = true;
}

/* Reports that there is no room for a page that must be kept. */
static void
report_no_room(SpillResult why)
{
	const char *kept = "Pages changed by open transactions, or by an index build, cannot be given up.";

	if (why == SPILL_LIMIT)
		ereport(ERROR,
				(errcode(ERRCODE_DISK_FULL),
				 errmsg("page cache is full of pages that must be kept"),
				 errdetail("%s \"pageserver_smgr.cache_limit\" is %d MB.", kept, ps_cache_limit),
				 errhint("End long transactions, or raise \"pageserver_smgr.cache_limit\".")));
	else if (why == SPILL_DISK_FULL)
		ereport(ERROR,
				(errcode(ERRCODE_DISK_FULL),
				 errmsg("no disk space left for pages that must be kept in page cache file \"%s\"", ps_cache_path),
				 errdetail("%s What is left of the disk is for WAL.", kept),
				 errhint("End long transactions, or free disk space.")));
	else
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("pages that must be kept are in too many relations, or too far apart"),
				 errdetail("%s", kept),
				 errhint("End long transactions, or raise \"pageserver_smgr.cache_size\".")));
}

bool
page_cache_has(PsRel rel, ForkNumber fork, BlockNumber blk)
{
	CacheTag	tag = make_tag(rel, fork, blk);
	uint32		hash = hash_tag(&tag);
	LWLock	   *lock = &locks[partition_of(hash)].lock;
	bool		has;

	LWLockAcquire(lock, LW_SHARED);
	has = find_slot(&tag, hash) != NO_SLOT || page_cache_spill_has(&tag);
	LWLockRelease(lock);
	return has;
}

bool
page_cache_read(PsRel rel, ForkNumber fork, BlockNumber blk, char *page)
{
	CacheTag	tag = make_tag(rel, fork, blk);
	uint32		hash = hash_tag(&tag);
	CachePartition *part = &partitions[partition_of(hash)];
	LWLock	   *lock = &locks[partition_of(hash)].lock;
	SpillResult result;
	uint32		slot;
	int			io_errno;

	LWLockAcquire(lock, LW_SHARED);
	slot = find_slot(&tag, hash);
	if (slot == NO_SLOT)
		result = page_cache_spill_read(&tag, page);
	else if (page_cache_file_read(slot, page))
	{
		result = SPILL_DONE;
		if (slots[slot].usage < MAX_USAGE)
			slots[slot].usage++;
	}
	else
		result = SPILL_IO_ERROR;
	io_errno = errno;
	if (result != SPILL_IO_ERROR)
		pg_atomic_fetch_add_u64(result == SPILL_DONE ? &part->hits : &part->misses, 1);
	LWLockRelease(lock);
	if (result != SPILL_IO_ERROR)
		return result == SPILL_DONE;

	/* if it need not be kept, the store has it */
	LWLockAcquire(lock, LW_EXCLUSIVE);
	slot = find_slot(&tag, hash);
	if (slot == NO_SLOT)
		page_cache_spill_forget(&tag);
	else if (!page_keep_holds(&slots[slot].keep))
		forget_slot(part, slot);
	slot = find_slot(&tag, hash);
	result = slot != NO_SLOT || page_cache_spill_has(&tag) ? SPILL_IO_ERROR : SPILL_ABSENT;
	LWLockRelease(lock);
	report_io_error(part, io_errno, result == SPILL_IO_ERROR, "read", &tag);
	return false;
}

/*
 * Gives a page the slot that it has, or a new one.  Caller holds the
 * partition's lock exclusively.  Returns 0, also if there is no slot to be had
 * and *stored is false; or the errno of a failed write, and then the cache has
 * nothing of the block.
 */
static int
store_page(CachePartition *part, const CacheTag *tag, uint32 hash, const char *page, const PageKeep *keep, int usage,
		   bool last_resort, bool *stored)
{
	uint32		slot = find_slot(tag, hash);
	bool		is_new = slot == NO_SLOT;

	*stored = false;
	if (is_new)
		slot = allocate_slot(part, last_resort);
	if (slot == NO_SLOT)
		return 0;
	if (!page_cache_file_write(slot, page))
	{
		int			save_errno = errno;

		if (!is_new)
			unlink_slot(part, slot);
		free_slot(part, slot);
		return save_errno;
	}
	if (is_new)
		link_slot(part, slot, tag, hash, keep, usage);
	else
		set_keep(part, &slots[slot], keep);
	*stored = true;
	return 0;
}

void
page_cache_write(PsRel rel, ForkNumber fork, BlockNumber blk, const char *page, const PageKeep *keep)
{
	CacheTag	tag = make_tag(rel, fork, blk);
	uint32		hash = hash_tag(&tag);
	CachePartition *part = &partitions[partition_of(hash)];
	LWLock	   *lock = &locks[partition_of(hash)].lock;
	XLogRecPtr	lsn = lsn_cache_get(rel, fork, blk);
	bool		must_keep = keep->reasons != 0;
	SpillResult spilled = SPILL_ABSENT;
	bool		stored = false;
	int			io_errno = 0;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (find_slot(&tag, hash) == NO_SLOT)
		spilled = page_cache_spill_write(&tag, page, keep, lsn, false);
	if (spilled == SPILL_ABSENT)
	{
		io_errno = store_page(part, &tag, hash, page, keep, 1, false, &stored);
		if (!stored && io_errno == 0 && (must_keep || lsn > wal_worker_ingested()))
			spilled = page_cache_spill_write(&tag, page, keep, lsn, true);
	}
	if (spilled == SPILL_IO_ERROR)
		io_errno = errno;
	if (must_keep && !stored && spilled != SPILL_DONE)
	{
		int			last_errno = store_page(part, &tag, hash, page, keep, 1, true, &stored);

		if (stored || last_errno != 0)
			io_errno = last_errno;
	}
	part->writes += stored || spilled == SPILL_DONE;
	LWLockRelease(lock);

	if (io_errno != 0)
		report_io_error(part, io_errno, must_keep, "write", &tag);
	else if (must_keep && !stored && spilled != SPILL_DONE)
		report_no_room(spilled);
}

void
page_cache_fill(PsRel rel, ForkNumber fork, BlockNumber blk, const char *page, XLogRecPtr store_lsn)
{
	CacheTag	tag = make_tag(rel, fork, blk);
	uint32		hash = hash_tag(&tag);
	CachePartition *part = &partitions[partition_of(hash)];
	LWLock	   *lock = &locks[partition_of(hash)].lock;
	PageKeep	not_kept = {0};
	bool		stored = false;
	int			io_errno = 0;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (find_slot(&tag, hash) == NO_SLOT && !page_cache_spill_has(&tag) &&
		lsn_cache_get(rel, fork, blk) <= store_lsn)
		io_errno = store_page(part, &tag, hash, page, &not_kept, 0, false, &stored);
	part->fills += stored;
	LWLockRelease(lock);

	if (io_errno != 0)
		report_io_error(part, io_errno, false, "write", &tag);
}

/* ---- many pages at once ---- */

void
rel_list_add(RelList *list, PsRel rel)
{
	if (list->n == list->allocated)
	{
		list->allocated = Max(64, list->allocated * 2);
		list->rels = list->rels == NULL ? palloc(list->allocated * sizeof(PsRel)) :
			repalloc_huge(list->rels, list->allocated * sizeof(PsRel));
	}
	list->rels[list->n++] = rel;
}

/* What visit_pages() does with the slots that it finds. */
typedef struct Visit
{
	PsRel		rel;			/* rel.rel InvalidOid: all of a database, and rel.spc InvalidOid: in all tablespaces */
	ForkNumber	fork;
	BlockNumber first_block;
	bool		unkept;			/* all that need not be kept; nothing of the above counts */
	bool		release;		/* do not forget them, but let go those kept for KEEP_NO_LSN */
	XLogRecPtr	release_lsn;
} Visit;

static void
visit_slot(CachePartition *part, uint32 slot, const Visit *visit)
{
	CacheTag   *tag = &slots[slot].tag;

	if (!visit->release)
		forget_slot(part, slot);
	else if (slots[slot].keep.reasons & KEEP_NO_LSN)
	{
		lsn_cache_set_block(tag->rel, tag->fork, tag->blk, visit->release_lsn);
		slots[slot].keep.reasons &= ~KEEP_NO_LSN;
		part->skip_sweeps = 0;
	}
}

static bool
visit_wants(const Visit *visit, const CacheSlot *slot)
{
	const CacheTag *tag = &slot->tag;

	if (visit->unkept)
		return !page_keep_holds(&slot->keep);
	if (OidIsValid(visit->rel.rel))
		return ps_rel_equal(tag->rel, visit->rel) && tag->fork == visit->fork && tag->blk >= visit->first_block;
	return tag->rel.db == visit->rel.db && (!OidIsValid(visit->rel.spc) || tag->rel.spc == visit->rel.spc);
}

/* Looks at all slots of a partition. */
static void
visit_partition(uint32 p, const Visit *visit)
{
	CachePartition *part = &partitions[p];

	LWLockAcquire(&locks[p].lock, LW_EXCLUSIVE);
	for (uint32 b = 0; part->used > 0 && b < cache->nbuckets; b++)
	{
		uint32		slot = buckets[(Size) p * cache->nbuckets + b];

		while (slot != NO_SLOT)
		{
			uint32		next = slots[slot].next;

			if (visit_wants(visit, &slots[slot]))
				visit_slot(part, slot, visit);
			slot = next;
		}
	}
	LWLockRelease(&locks[p].lock);
}

/*
 * Visits the cached pages of a fork: looks up block by block if the fork is
 * short, else looks at all slots.  end_block: how long the fork is, or was.
 */
static void
visit_fork(const Visit *visit, BlockNumber end_block)
{
	pg_atomic_uint32 *counter = fork_counter(visit->rel, visit->fork);

	if (pg_atomic_read_u32(counter) == 0)
		return;
	if (end_block == InvalidBlockNumber || (end_block > visit->first_block &&
											end_block - visit->first_block > cache->npartitions * cache->own_slots / 4))
	{
		for (uint32 p = 0; p < cache->npartitions; p++)
			visit_partition(p, visit);
		return;
	}
	for (BlockNumber blk = visit->first_block; blk < end_block; blk++)
	{
		CacheTag	tag = make_tag(visit->rel, visit->fork, blk);
		uint32		hash = hash_tag(&tag);
		LWLock	   *lock = &locks[partition_of(hash)].lock;
		uint32		slot;

		LWLockAcquire(lock, LW_EXCLUSIVE);
		slot = find_slot(&tag, hash);
		if (slot != NO_SLOT)
			visit_slot(&partitions[partition_of(hash)], slot, visit);
		LWLockRelease(lock);
		if (slot != NO_SLOT && !visit->release && pg_atomic_read_u32(counter) == 0)
			break;
	}
}

void
page_cache_truncate(PsRel rel, ForkNumber fork, BlockNumber old_blocks, BlockNumber nblocks)
{
	Visit		visit = {.rel = rel, .fork = fork, .first_block = nblocks};

	visit_fork(&visit, old_blocks);
	page_cache_spill_truncate(rel, fork, old_blocks, nblocks);
}

void
page_cache_drop_fork(PsRel rel, ForkNumber fork, BlockNumber old_blocks)
{
	page_cache_truncate(rel, fork, old_blocks, 0);
}

void
page_cache_release_no_lsn(PsRel rel, ForkNumber fork, BlockNumber nblocks, XLogRecPtr lsn)
{
	Visit		visit = {.rel = rel, .fork = fork, .release = true, .release_lsn = lsn};

	visit_fork(&visit, nblocks);
	page_cache_spill_release_no_lsn(rel, fork, nblocks, lsn);
}

void
page_cache_drop_database(Oid spc, Oid db)
{
	Visit		visit = {.rel = {spc, db, InvalidOid}};

	for (uint32 p = 0; p < cache->npartitions; p++)
		visit_partition(p, &visit);
	page_cache_spill_drop_database(spc, db);
}

void
page_cache_clear(void)
{
	Visit		visit = {.unkept = true};

	page_keep_look_again();
	for (uint32 p = 0; p < cache->npartitions; p++)
		visit_partition(p, &visit);
	page_cache_spill_clear();
}

PsRel *
page_cache_held_relations(int *nrels)
{
	RelList		list = {0};

	for (uint32 p = 0; p < cache->npartitions; p++)
	{
		CachePartition *part = &partitions[p];

		LWLockAcquire(&locks[p].lock, LW_SHARED);
		for (uint32 b = 0; part->used > 0 && b < cache->nbuckets; b++)
			for (uint32 slot = buckets[(Size) p * cache->nbuckets + b]; slot != NO_SLOT; slot = slots[slot].next)
				if (slots[slot].tag.blk == 0 && slots[slot].tag.fork == MAIN_FORKNUM &&
					(slots[slot].keep.reasons & KEEP_UNTIL_WRITTEN))
					rel_list_add(&list, slots[slot].tag.rel);
		LWLockRelease(&locks[p].lock);
	}
	page_cache_spill_held_relations(&list);
	*nrels = list.n;
	return list.rels;
}

void
page_cache_stats(PageCacheStats *stats)
{
	memset(stats, 0, sizeof(*stats));
	stats->size_pages = (uint64) cache->npartitions * cache->own_slots;
	stats->limit_pages = ps_cache_limit == -1 ? PG_UINT64_MAX : ps_pages_of_mb(ps_cache_limit);
	page_cache_spill_stats(stats);
	stats->used_pages = stats->spilled_pages;
	for (uint32 p = 0; p < cache->npartitions; p++)
	{
		CachePartition *part = &partitions[p];

		LWLockAcquire(&locks[p].lock, LW_SHARED);
		stats->used_pages += part->used;
		stats->hits += pg_atomic_read_u64(&part->hits);
		stats->misses += pg_atomic_read_u64(&part->misses);
		stats->writes += part->writes;
		stats->fills += part->fills;
		stats->evictions += part->evictions;
		stats->io_errors += pg_atomic_read_u64(&part->io_errors);
		for (uint32 b = 0; part->used > 0 && b < cache->nbuckets; b++)
			for (uint32 slot = buckets[(Size) p * cache->nbuckets + b]; slot != NO_SLOT; slot = slots[slot].next)
				if (page_keep_holds(&slots[slot].keep))
					stats->kept_pages++;
		LWLockRelease(&locks[p].lock);
	}
}
