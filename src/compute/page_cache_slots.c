/*
 * page_cache_slots.c
 *	  The table of slots of the page cache (page_cache_slots.h).
 */
#include "postgres.h"

#include "port/pg_bitutils.h"
#include "storage/shmem.h"

#include "lsn_cache.h"
#include "page_cache_slots.h"
#include "settings.h"
#include "wal_progress.h"

#define LOCK_TRANCHE "pageserver_smgr_cache"

PageCache *cache_table;
CachePartition *cache_partitions;
uint32 *cache_buckets;
CacheSlot *cache_slots;
LWLockPadded *cache_locks;

/* ---- startup ---- */

/* As many partitions as are needed to avoid contention, but with at least some slots each. */
static uint32
count_partitions(void)
{
	uint32 n = 1;

	while (n < MAX_PARTITIONS && page_cache_pages_of_mb(ps_cache_size) / (n * 2) >= (n < 128 ? 16 : 1024))
		n *= 2;
	return n;
}

static uint32
count_buckets(void)
{
	return pg_nextpower2_32(page_cache_pages_of_mb(ps_cache_size) / count_partitions());
}

static Size
cache_bytes(void)
{
	Size size = MAXALIGN(sizeof(PageCache));

	size = add_size(size, mul_size(count_partitions(), sizeof(CachePartition)));
	size = add_size(size, mul_size((Size) count_partitions() * count_buckets(), sizeof(uint32)));
	size = add_size(size, mul_size(page_cache_pages_of_mb(ps_cache_size), sizeof(CacheSlot)));
	return add_size(size, PG_CACHE_LINE_SIZE);
}

void
page_cache_slots_request_shmem(void)
{
	RequestAddinShmemSpace(cache_bytes());
	RequestNamedLWLockTranche(LOCK_TRANCHE, count_partitions());
}

bool
page_cache_slots_startup_shmem(void)
{
	bool found;
	char *at;

	cache_table = ShmemInitStruct("pageserver_smgr page cache", cache_bytes(), &found);
	at = (char *) cache_table + MAXALIGN(sizeof(PageCache));
	cache_partitions = (CachePartition *) CACHELINEALIGN(at);
	cache_buckets = (uint32 *) &cache_partitions[count_partitions()];
	cache_slots = (CacheSlot *) &cache_buckets[(Size) count_partitions() * count_buckets()];
	cache_locks = GetNamedLWLockTranche(LOCK_TRANCHE);
	if (found)
		return false;

	cache_table->npartitions = count_partitions();
	cache_table->nbuckets = count_buckets();
	cache_table->own_slots = page_cache_pages_of_mb(ps_cache_size) / cache_table->npartitions;
	for (int i = 0; i < FORK_COUNTERS; i++)
		pg_atomic_init_u32(&cache_table->fork_pages[i], 0);

	memset(cache_slots, 0, sizeof(CacheSlot) * cache_table->npartitions * cache_table->own_slots);
	memset(cache_buckets, 0xFF, sizeof(uint32) * (Size) cache_table->npartitions * cache_table->nbuckets);
	for (uint32 i = 0; i < cache_table->npartitions; i++)
	{
		CachePartition *part = &cache_partitions[i];

		memset(part, 0, sizeof(*part));
		part->first_slot = i * cache_table->own_slots;
		part->free = part->first_slot;
		for (uint32 s = 0; s < cache_table->own_slots; s++)
			cache_slots[part->first_slot + s].next =
				s + 1 < cache_table->own_slots ? part->first_slot + s + 1 : NO_SLOT;
		pg_atomic_init_u64(&part->hits, 0);
		pg_atomic_init_u64(&part->misses, 0);
		pg_atomic_init_u64(&part->io_errors, 0);
	}
	return true;
}

/* ---- slots of a partition ---- */

pg_atomic_uint32 *
slot_fork_counter(PsRel rel, ForkNumber fork)
{
	uint32 key[] = {rel.spc, rel.db, rel.rel, (uint32) fork};

	return &cache_table->fork_pages[hash_bytes((const unsigned char *) key, sizeof(key)) & (FORK_COUNTERS - 1)];
}

static void
set_keep(CachePartition *part, CacheSlot *slot, const KeepReasons *keep)
{
	slot->keep = *keep;
	if (keep->reasons == 0)
		part->skip_sweeps = 0;
}

/* Assigns a page to an empty slot, which is in no list. */
static void
link_slot(CachePartition *part, uint32 slot, const CacheTag *tag, uint32 hash, const KeepReasons *keep, int usage)
{
	uint32 *bucket = slot_bucket(hash);

	cache_slots[slot].tag = *tag;
	cache_slots[slot].usage = usage;
	set_keep(part, &cache_slots[slot], keep);
	cache_slots[slot].next = *bucket;
	*bucket = slot;
	part->used++;
	pg_atomic_fetch_add_u32(slot_fork_counter(tag->rel, tag->fork), 1);
}

/* Removes the page from a slot, which is in no list afterwards. */
static void
unlink_slot(CachePartition *part, uint32 slot)
{
	CacheTag *tag = &cache_slots[slot].tag;
	uint32 *link = slot_bucket(cache_tag_hash(tag));

	while (*link != slot)
		link = &cache_slots[*link].next;
	*link = cache_slots[slot].next;
	part->used--;
	pg_atomic_fetch_sub_u32(slot_fork_counter(tag->rel, tag->fork), 1);
	tag->rel.rel = InvalidOid;
	cache_slots[slot].keep.reasons = 0;
}

static void
free_slot(CachePartition *part, uint32 slot)
{
	cache_slots[slot].next = part->free;
	part->free = slot;
}

void
slot_forget(CachePartition *part, uint32 slot)
{
	unlink_slot(part, slot);
	free_slot(part, slot);
}

/* Has the store not ingested the last change of the block yet?  Then reading it would have to wait. */
static bool
is_ahead_of_store(const CacheTag *tag)
{
	XLogRecPtr ingested = wal_progress_ingested();

	return lsn_cache_get_max() > ingested && lsn_cache_get(tag->rel, tag->fork, tag->blk) > ingested;
}

/*
 * Must the page of a slot be kept?  If that is not certain, and this process can
 * find out, it reads the page.
 */
static bool
slot_is_kept(uint32 slot)
{
	KeepReasons *keep = &cache_slots[slot].keep;
	PGAlignedBlock page;

	if (!keep_reasons_hold(keep))
		return false;
	if (!(keep->reasons & KEEP_MULTI) || !keep_reasons_can_resolve() || !page_cache_file_read(slot, page.data))
		return true;
	keep_reasons_resolve(keep, page.data);
	return keep_reasons_hold(keep);
}

/*
 * The clock: empties one of the partition's slots and returns it, or NO_SLOT if
 * no page can be evicted.  last_resort: also evicts pages that the store can
 * return only after ingesting more WAL.
 */
static uint32
sweep(CachePartition *part, bool last_resort)
{
	uint32 in_a_row = 0; /* slots that cannot be emptied */

	while (in_a_row < cache_table->own_slots)
	{
		uint32 slot = part->first_slot + part->hand;

		part->hand = (part->hand + 1) % cache_table->own_slots;
		if (!OidIsValid(cache_slots[slot].tag.rel.rel) || slot_is_kept(slot))
			in_a_row++;
		else if (cache_slots[slot].usage > 0)
		{
			in_a_row = 0;
			cache_slots[slot].usage--;
		}
		else if (!last_resort && is_ahead_of_store(&cache_slots[slot].tag))
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

/*
 * Returns an empty slot for a page, or NO_SLOT.  claim: the disk space that may
 * be used if the slot has none yet.
 */
static uint32
allocate_slot(CachePartition *part, RoomClaim claim, bool last_resort)
{
	uint32 slot = part->free;

	if (slot != NO_SLOT && (last_resort || cache_slots[slot].has_space || page_cache_file_has_room(claim)))
	{
		part->free = cache_slots[slot].next;
		return slot;
	}
	if (part->skip_sweeps > 0 && !last_resort)
	{
		part->skip_sweeps--;
		return NO_SLOT;
	}
	slot = sweep(part, last_resort);
	if (slot == NO_SLOT)
		part->skip_sweeps = cache_table->own_slots / 16;
	return slot;
}

uint32
slot_give_back(CachePartition *part, uint32 max, bool last_resort)
{
	uint32 n = 0;

	for (uint32 slot = part->free; slot != NO_SLOT && n < max; slot = cache_slots[slot].next)
		if (cache_slots[slot].has_space)
		{
			page_cache_file_punch(slot, 1);
			cache_slots[slot].has_space = false;
			n++;
		}
	while (n < max && part->used > 0)
	{
		uint32 slot = sweep(part, last_resort);

		if (slot == NO_SLOT)
			break;
		page_cache_file_punch(slot, 1);
		cache_slots[slot].has_space = false;
		free_slot(part, slot);
		n++;
	}
	return n;
}

int
slot_store_page(CachePartition *part, const CacheTag *tag, uint32 hash, const char *page,
				const KeepReasons *keep, int usage, bool last_resort, bool *stored)
{
	uint32 slot = slot_find(tag, hash);
	bool is_new = slot == NO_SLOT;

	*stored = false;
	if (is_new)
		slot = allocate_slot(part, keep->reasons != 0 ? ROOM_ORDINARY : ROOM_CACHED, last_resort);
	if (slot == NO_SLOT)
		return 0;
	if (!page_cache_file_write(slot, page))
	{
		int save_errno = errno;

		if (!is_new)
			unlink_slot(part, slot);
		free_slot(part, slot);
		return save_errno;
	}
	cache_slots[slot].has_space = true;
	if (is_new)
		link_slot(part, slot, tag, hash, keep, usage);
	else
		set_keep(part, &cache_slots[slot], keep);
	*stored = true;
	return 0;
}
