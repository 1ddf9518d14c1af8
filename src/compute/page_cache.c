/*
 * page_cache.c
 *	  Pages of the store in a local file, shared by all processes.
 *
 * The file is an array of slots of one page each, and belongs to one run of
 * the server: it is emptied when the postmaster starts, and which slot holds
 * which page is known in shared memory only.
 *
 * A page's hash value says which partition it belongs to.  A partition has a
 * lock, a hash table, and a fixed share of the slots of cache_size, from which
 * a clock with usage counts chooses those to reuse.  Pages that must be kept
 * (KEEP_*: the store could not give back what PostgreSQL wrote) are passed
 * over; if they fill the partition, it borrows slots of its own beyond
 * cache_size, up to cache_limit for all partitions together, and gives them
 * back when what they hold need not be kept any more.  Whether a page must
 * still be kept is decided at that moment, from what its slot remembers.
 *
 * Locks: everything in a partition, its slots included, is protected by the
 * partition's LWLock, and so are the slots' pages in the file: whoever reads a
 * page holds it shared, whoever writes one exclusively.  Hence what is read is
 * never older than what was last written, and a slot cannot change hands in
 * between.  usage may be raised under the shared lock, for losing an increment
 * is harmless.  A second partition's lock is only ever taken conditionally.
 * Under a partition's lock only XidGenLock, ProcArrayLock, MultiXactGenLock,
 * BtreeVacuumLock and spare_mutex are taken; no holder of those does I/O on
 * relations.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "access/multixact.h"
#include "access/nbtree.h"
#include "access/transam.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "compute.h"

#define LOCK_TRANCHE "pageserver_smgr_cache"

#define MAX_PARTITIONS 1024
#define MAX_USAGE 3
#define FORK_COUNTERS 8192		/* a power of 2 */

#define NO_SLOT UINT32_MAX

/* How old, in microseconds, a process's idea of the oldest running transaction may get. */
#define HORIZON_AGE 10000

typedef struct CacheTag
{
	PsRel		rel;
	BlockNumber blk;
	ForkNumber	fork;
} CacheTag;

StaticAssertDecl(sizeof(CacheTag) == 20, "CacheTag is hashed and must not have padding");

typedef struct CacheSlot
{
	CacheTag	tag;			/* rel.rel is InvalidOid: the slot is free */
	uint32		next;			/* of the hash chain, or of the free list that it is in */
	uint32		next_borrowed;	/* of the partition's ring of borrowed slots */
	uint32		prev_borrowed;
	TransactionId newest_xid;	/* these as in PageKeep */
	MultiXactId newest_multi;
	uint16		btree_cycleid;
	uint8		reasons;
	uint8		usage;
} CacheSlot;

typedef struct CachePartition
{
	uint32		first_slot;		/* of its own slots; constant */
	uint32		hand;			/* of the clock: 0 .. own slots - 1 */
	uint32		free;			/* list of own slots never used, or forgotten */
	uint32		borrowed;		/* last of the ring of borrowed slots */
	uint32		used;			/* own and borrowed slots that hold a page */
	uint32		skip_sweeps;	/* the last sweep found only kept pages: do not try again so often */
	pg_atomic_uint64 hits;		/* counted under the shared lock */
	pg_atomic_uint64 misses;
	uint64		writes;
	uint64		fills;
	uint64		evictions;
	pg_atomic_uint64 io_errors;
	char		pad[PG_CACHE_LINE_SIZE - 6 * sizeof(uint32) - 6 * sizeof(uint64)];
} CachePartition;

typedef struct PageCache
{
	uint32		npartitions;	/* a power of 2; these are constant */
	uint32		own_slots;		/* of each partition */
	uint32		nbuckets;		/* of each partition, a power of 2 */
	uint32		nslots;			/* in all */

	slock_t		spare_mutex;	/* protects spare */
	uint32		spare;			/* list of slots that can be borrowed */

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

/* Opened by the postmaster, inherited by all; the lock on it says that the file is in use. */
static int	cache_fd = -1;

/* This process's idea of what is still running; what it says only gets too old, never wrong. */
static struct
{
	TimestampTz computed_at;
	TransactionId oldest_xid;
	MultiXactId oldest_multi;
}			horizon;

/* BTVacInfo of access/nbtree/nbtutils.c: the VACUUMs that scan a btree now; BtreeVacuumLock protects it. */
typedef struct BtreeVacuums
{
	BTCycleId	cycle_ctr;
	int			num_vacuums;
	int			max_vacuums;
	struct
	{
		LockRelId	relid;
		BTCycleId	cycleid;
	}			vacuums[FLEXIBLE_ARRAY_MEMBER];
} BtreeVacuums;

static BtreeVacuums *btree_vacuums;

/* ---- size and start ---- */

static uint32
pages_of_mb(int mb)
{
	return (uint32) Min((uint64) mb * (1024 * 1024 / BLCKSZ), (uint64) 1 << 31);
}

/* Enough partitions that their locks are seldom waited for, but not too small ones. */
static uint32
count_partitions(void)
{
	uint32		n = 1;

	while (n < MAX_PARTITIONS && pages_of_mb(ps_cache_size) / (n * 2) >= (n < 128 ? 16 : 1024))
		n *= 2;
	return n;
}

static uint32
count_buckets(void)
{
	return pg_nextpower2_32(pages_of_mb(ps_cache_size) / count_partitions());
}

static Size
cache_bytes(void)
{
	Size		size = MAXALIGN(sizeof(PageCache));

	size = add_size(size, mul_size(count_partitions(), sizeof(CachePartition)));
	size = add_size(size, mul_size((Size) count_partitions() * count_buckets(), sizeof(uint32)));
	size = add_size(size, mul_size(pages_of_mb(ps_cache_limit), sizeof(CacheSlot)));
	return add_size(size, PG_CACHE_LINE_SIZE);
}

void
page_cache_request_shmem(void)
{
	RequestAddinShmemSpace(cache_bytes());
	RequestNamedLWLockTranche(LOCK_TRANCHE, count_partitions());
}

static void
remove_file(int code, Datum arg)
{
	unlink(ps_cache_path);
}

/* In the postmaster: makes the file empty, having made sure that no other server uses it. */
static void
open_file(void)
{
	ReserveExternalFD();
	cache_fd = BasicOpenFile(ps_cache_path, O_RDWR | O_CREAT | O_CLOEXEC | PG_BINARY);
	if (cache_fd < 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not open page cache file \"%s\": %m", ps_cache_path),
				 errhint("Check \"pageserver_smgr.cache_path\".")));
	if (flock(cache_fd, LOCK_EX | LOCK_NB) != 0)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("page cache file \"%s\" is in use by another server", ps_cache_path),
				 errhint("Every server needs a file of its own: see \"pageserver_smgr.cache_path\".")));
	if (ftruncate(cache_fd, 0) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not truncate page cache file \"%s\": %m", ps_cache_path)));
	on_proc_exit(remove_file, 0);
}

void
page_cache_startup_shmem(void)
{
	bool		found;
	char	   *at;
	uint32		own_total;

	btree_vacuums = ShmemInitStruct("BTree Vacuum State", BTreeShmemSize(), &found);
	if (!found)
		elog(FATAL, "btree vacuum state is not in shared memory");

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
	cache->own_slots = pages_of_mb(ps_cache_size) / cache->npartitions;
	cache->nslots = pages_of_mb(ps_cache_limit);
	SpinLockInit(&cache->spare_mutex);
	for (int i = 0; i < FORK_COUNTERS; i++)
		pg_atomic_init_u32(&cache->fork_pages[i], 0);

	memset(slots, 0, sizeof(CacheSlot) * cache->nslots);
	memset(buckets, 0xFF, sizeof(uint32) * (Size) cache->npartitions * cache->nbuckets);
	for (uint32 i = 0; i < cache->npartitions; i++)
	{
		CachePartition *part = &partitions[i];

		memset(part, 0, sizeof(*part));
		part->first_slot = i * cache->own_slots;
		part->borrowed = NO_SLOT;
		part->free = part->first_slot;
		for (uint32 s = 0; s < cache->own_slots; s++)
			slots[part->first_slot + s].next = s + 1 < cache->own_slots ? part->first_slot + s + 1 : NO_SLOT;
		pg_atomic_init_u64(&part->hits, 0);
		pg_atomic_init_u64(&part->misses, 0);
		pg_atomic_init_u64(&part->io_errors, 0);
	}
	own_total = cache->npartitions * cache->own_slots;
	cache->spare = own_total < cache->nslots ? own_total : NO_SLOT;
	for (uint32 s = own_total; s < cache->nslots; s++)
		slots[s].next = s + 1 < cache->nslots ? s + 1 : NO_SLOT;

	open_file();
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

static bool
is_borrowed(uint32 slot)
{
	return slot >= cache->npartitions * cache->own_slots;
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
	slot->reasons = keep->reasons;
	slot->newest_xid = keep->newest_xid;
	slot->newest_multi = keep->newest_multi;
	slot->btree_cycleid = keep->btree_cycleid;
	if (slot->reasons == 0)
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

/* Takes the page from a slot, which then is in no list (but in the ring, if it is borrowed). */
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
	slots[slot].reasons = 0;
}

static void
return_borrowed(CachePartition *part, uint32 slot)
{
	uint32		next = slots[slot].next_borrowed;
	uint32		prev = slots[slot].prev_borrowed;

	slots[prev].next_borrowed = next;
	slots[next].prev_borrowed = prev;
	if (part->borrowed == slot)
		part->borrowed = prev == slot ? NO_SLOT : prev;

	SpinLockAcquire(&cache->spare_mutex);
	slots[slot].next = cache->spare;
	cache->spare = slot;
	SpinLockRelease(&cache->spare_mutex);
}

/* Puts an empty slot back where it came from. */
static void
free_slot(CachePartition *part, uint32 slot)
{
	if (is_borrowed(slot))
		return_borrowed(part, slot);
	else
	{
		slots[slot].next = part->free;
		part->free = slot;
	}
}

static void
forget_slot(CachePartition *part, uint32 slot)
{
	unlink_slot(part, slot);
	free_slot(part, slot);
}

static uint32
borrow_slot(CachePartition *part)
{
	uint32		slot;

	SpinLockAcquire(&cache->spare_mutex);
	slot = cache->spare;
	if (slot != NO_SLOT)
		cache->spare = slots[slot].next;
	SpinLockRelease(&cache->spare_mutex);
	if (slot == NO_SLOT)
		return NO_SLOT;

	if (part->borrowed == NO_SLOT)
		slots[slot].next_borrowed = slots[slot].prev_borrowed = slot;
	else
	{
		uint32		next = slots[part->borrowed].next_borrowed;

		slots[slot].prev_borrowed = part->borrowed;
		slots[slot].next_borrowed = next;
		slots[part->borrowed].next_borrowed = slot;
		slots[next].prev_borrowed = slot;
	}
	part->borrowed = slot;
	return slot;
}

/* Does a VACUUM run that looks for this cycle ID?  Not cached: one may start at any time. */
static bool
btree_cycle_is_active(uint16 cycleid)
{
	bool		active = false;

	LWLockAcquire(BtreeVacuumLock, LW_SHARED);
	for (int i = 0; i < btree_vacuums->num_vacuums && !active; i++)
		active = btree_vacuums->vacuums[i].cycleid == cycleid;
	LWLockRelease(BtreeVacuumLock);
	return active;
}

static bool
transactions_may_be_open(const CacheSlot *slot)
{
	TimestampTz now = GetCurrentTimestamp();

	if (now - horizon.computed_at > HORIZON_AGE || now < horizon.computed_at)
	{
		/* both only read shared memory, and are fit for auxiliary processes */
		horizon.oldest_xid = GetOldestActiveTransactionId();
		horizon.oldest_multi = GetOldestMultiXactId();
		horizon.computed_at = now;
	}
	return (TransactionIdIsValid(slot->newest_xid) &&
			!TransactionIdPrecedes(slot->newest_xid, horizon.oldest_xid)) ||
		(MultiXactIdIsValid(slot->newest_multi) &&
		 !MultiXactIdPrecedes(slot->newest_multi, horizon.oldest_multi));
}

/* Must the slot's page be kept, as things are now? */
static bool
is_kept(const CacheSlot *slot)
{
	if (slot->reasons == 0)
		return false;
	if (slot->reasons & ~(KEEP_OPEN_XACT | KEEP_BTREE_CYCLE))
		return true;
	return ((slot->reasons & KEEP_OPEN_XACT) && transactions_may_be_open(slot)) ||
		((slot->reasons & KEEP_BTREE_CYCLE) && btree_cycle_is_active(slot->btree_cycleid));
}

/* Returns the partition's borrowed slots whose pages need not be kept: one of the ring is looked at, or all. */
static void
return_some_borrowed(CachePartition *part, bool all)
{
	uint32		last = part->borrowed;
	uint32		slot;

	if (last == NO_SLOT)
		return;
	do
	{
		slot = slots[part->borrowed].next_borrowed;
		if (!is_kept(&slots[slot]))
		{
			bool		was_last = slot == last;

			part->evictions++;
			forget_slot(part, slot);
			if (was_last)
				return;
		}
		else
			part->borrowed = slot;
	} while (all && slot != last);
}

/* The same for all other partitions whose locks are free. */
static void
return_all_borrowed(CachePartition *own)
{
	return_some_borrowed(own, true);
	for (uint32 i = 0; i < cache->npartitions; i++)
	{
		if (&partitions[i] == own || !LWLockConditionalAcquire(&locks[i].lock, LW_EXCLUSIVE))
			continue;
		return_some_borrowed(&partitions[i], true);
		LWLockRelease(&locks[i].lock);
	}
}

/* The clock: empties one of the partition's own slots; NO_SLOT if all are kept. */
static uint32
sweep(CachePartition *part)
{
	uint32		kept_in_a_row = 0;

	while (kept_in_a_row < cache->own_slots)
	{
		uint32		slot = part->first_slot + part->hand;

		part->hand = (part->hand + 1) % cache->own_slots;
		if (is_kept(&slots[slot]))
		{
			kept_in_a_row++;
			continue;
		}
		kept_in_a_row = 0;
		if (slots[slot].usage > 0)
		{
			slots[slot].usage--;
			continue;
		}
		part->evictions++;
		unlink_slot(part, slot);
		return slot;
	}
	return NO_SLOT;
}

/* An empty slot for a page, or NO_SLOT. */
static uint32
allocate_slot(CachePartition *part, bool must_keep)
{
	uint32		slot;

	return_some_borrowed(part, false);

	slot = part->free;
	if (slot != NO_SLOT)
	{
		part->free = slots[slot].next;
		return slot;
	}
	if (part->skip_sweeps > 0)
		part->skip_sweeps--;
	else
	{
		slot = sweep(part);
		if (slot != NO_SLOT)
			return slot;
		part->skip_sweeps = cache->own_slots / 16;
	}
	if (!must_keep)
		return NO_SLOT;

	slot = borrow_slot(part);
	if (slot == NO_SLOT)
	{
		horizon.computed_at = 0;	/* before giving up, look again who is running */
		return_all_borrowed(part);
		slot = borrow_slot(part);
	}
	return slot != NO_SLOT ? slot : sweep(part);
}

/* ---- pages in the file ---- */

static bool
read_page(uint32 slot, char *page)
{
	ssize_t		n;

	pgstat_report_wait_start(WAIT_EVENT_DATA_FILE_READ);
	n = pread(cache_fd, page, BLCKSZ, (off_t) slot * BLCKSZ);
	pgstat_report_wait_end();
	if (n >= 0 && n != BLCKSZ)
		errno = EIO;
	return n == BLCKSZ;
}

static bool
write_page(uint32 slot, const char *page)
{
	ssize_t		n;

	pgstat_report_wait_start(WAIT_EVENT_DATA_FILE_WRITE);
	n = pwrite(cache_fd, page, BLCKSZ, (off_t) slot * BLCKSZ);
	pgstat_report_wait_end();
	if (n >= 0 && n != BLCKSZ)
		errno = ENOSPC;
	return n == BLCKSZ;
}

/*
 * Reports a failure of read_page() or write_page(), whose errno it was: as an
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

bool
page_cache_has(PsRel rel, ForkNumber fork, BlockNumber blk)
{
	CacheTag	tag = make_tag(rel, fork, blk);
	uint32		hash = hash_tag(&tag);
	LWLock	   *lock = &locks[partition_of(hash)].lock;
	bool		has;

	LWLockAcquire(lock, LW_SHARED);
	has = find_slot(&tag, hash) != NO_SLOT;
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
	uint32		slot;
	int			io_errno;
	bool		kept;

	LWLockAcquire(lock, LW_SHARED);
	slot = find_slot(&tag, hash);
	if (slot == NO_SLOT)
	{
		pg_atomic_fetch_add_u64(&part->misses, 1);
		LWLockRelease(lock);
		return false;
	}
	if (read_page(slot, page))
	{
		pg_atomic_fetch_add_u64(&part->hits, 1);
		if (slots[slot].usage < MAX_USAGE)
			slots[slot].usage++;
		LWLockRelease(lock);
		return true;
	}
	io_errno = errno;
	kept = slots[slot].reasons != 0;
	LWLockRelease(lock);
	report_io_error(part, io_errno, kept, "read", &tag);

	/* the store has it */
	LWLockAcquire(lock, LW_EXCLUSIVE);
	slot = find_slot(&tag, hash);
	if (slot != NO_SLOT && !is_kept(&slots[slot]))
		forget_slot(part, slot);
	LWLockRelease(lock);
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
		   bool *stored)
{
	uint32		slot = find_slot(tag, hash);
	bool		is_new = slot == NO_SLOT;

	*stored = false;
	if (is_new)
		slot = allocate_slot(part, keep->reasons != 0);
	if (slot == NO_SLOT)
		return 0;
	if (!write_page(slot, page))
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
	bool		stored;
	int			io_errno;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	io_errno = store_page(part, &tag, hash, page, keep, 1, &stored);
	part->writes += stored;
	LWLockRelease(lock);

	if (io_errno != 0)
		report_io_error(part, io_errno, keep->reasons != 0, "write", &tag);
	else if (!stored && keep->reasons != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DISK_FULL),
				 errmsg("page cache is full of pages that must be kept"),
				 errdetail("Pages changed by open transactions, or by an index build, cannot be given up; \"pageserver_smgr.cache_limit\" is %d MB.",
						   ps_cache_limit),
				 errhint("End long transactions, or raise \"pageserver_smgr.cache_limit\".")));
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
	if (find_slot(&tag, hash) == NO_SLOT && lsn_cache_get(rel, fork, blk) <= store_lsn)
		io_errno = store_page(part, &tag, hash, page, &not_kept, 0, &stored);
	part->fills += stored;
	LWLockRelease(lock);

	if (io_errno != 0)
		report_io_error(part, io_errno, false, "write", &tag);
}

/* ---- many pages at once ---- */

/* What visit_pages() does with the slots that it finds. */
typedef struct Visit
{
	PsRel		rel;			/* rel.rel InvalidOid: all of a database, and rel.spc InvalidOid: in all tablespaces */
	ForkNumber	fork;
	BlockNumber first_block;
	bool		release;		/* do not forget them, but let go those kept for KEEP_NO_LSN */
	XLogRecPtr	release_lsn;
} Visit;

static void
visit_slot(CachePartition *part, uint32 slot, const Visit *visit)
{
	CacheTag   *tag = &slots[slot].tag;

	if (!visit->release)
		forget_slot(part, slot);
	else if (slots[slot].reasons & KEEP_NO_LSN)
	{
		lsn_cache_set_block(tag->rel, tag->fork, tag->blk, visit->release_lsn);
		slots[slot].reasons &= ~KEEP_NO_LSN;
		part->skip_sweeps = 0;
	}
}

static bool
visit_wants(const Visit *visit, const CacheTag *tag)
{
	if (!OidIsValid(tag->rel.rel))
		return false;
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

			if (visit_wants(visit, &slots[slot].tag))
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
											end_block - visit->first_block > cache->nslots / 4))
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
}

void
page_cache_drop_database(Oid spc, Oid db)
{
	Visit		visit = {.rel = {spc, db, InvalidOid}};

	for (uint32 p = 0; p < cache->npartitions; p++)
		visit_partition(p, &visit);
}

void
page_cache_stats(PageCacheStats *stats)
{
	memset(stats, 0, sizeof(*stats));
	stats->size_pages = (uint64) cache->npartitions * cache->own_slots;
	stats->limit_pages = cache->nslots;
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
				if (is_kept(&slots[slot]))
					stats->kept_pages++;
		LWLockRelease(&locks[p].lock);
	}
}
