/*
 * page_cache_many.c
 *	  The page cache, many pages at once: truncates and drops forks and
 *	  databases, removes pages that need not be kept, counts.
 */
#include "postgres.h"

#include "lsn_cache.h"
#include "page_cache_slots.h"
#include "running.h"
#include "settings.h"

/* How many slots of a partition are given back at a time. */
#define GIVE_BACK_PAGES 64

void
page_cache_leave_room(void)
{
	static uint32 p = 0;
	uint32 fruitless = 0;

	while (!page_cache_file_has_room(ROOM_CACHED) && fruitless < cache_table->npartitions)
	{
		bool last_resort = !page_cache_file_has_room(ROOM_ORDINARY);

		p = (p + 1) % cache_table->npartitions;
		LWLockAcquire(&cache_locks[p].lock, LW_EXCLUSIVE);
		fruitless = slot_give_back(&cache_partitions[p], GIVE_BACK_PAGES, last_resort) > 0 ? 0 : fruitless + 1;
		LWLockRelease(&cache_locks[p].lock);
	}
}

/* Selects slots, and what is done with them. */
typedef struct Visit
{
	PsRel rel; /* rel.rel InvalidOid: a whole database; rel.spc InvalidOid: in all tablespaces */
	ForkNumber fork;
	BlockNumber first_block;
	bool unkept;  /* select all pages that need not be kept; the fields above do not matter */
	bool release; /* do not remove the pages, but clear KEEP_NO_LSN */
	XLogRecPtr release_lsn;
} Visit;

static void
visit_slot(CachePartition *part, uint32 slot, const Visit *visit)
{
	CacheTag *tag = &cache_slots[slot].tag;

	if (!visit->release)
		slot_forget(part, slot);
	else if (cache_slots[slot].keep.reasons & KEEP_NO_LSN)
	{
		lsn_cache_set_block(tag->rel, tag->fork, tag->blk, visit->release_lsn);
		cache_slots[slot].keep.reasons &= ~KEEP_NO_LSN;
		part->skip_sweeps = 0;
	}
}

static bool
visit_wants(const Visit *visit, const CacheSlot *slot)
{
	const CacheTag *tag = &slot->tag;

	if (visit->unkept)
		return !keep_reasons_hold(&slot->keep);
	if (OidIsValid(visit->rel.rel))
		return ps_rel_equal(tag->rel, visit->rel) && tag->fork == visit->fork && tag->blk >= visit->first_block;
	return tag->rel.db == visit->rel.db && (!OidIsValid(visit->rel.spc) || tag->rel.spc == visit->rel.spc);
}

/* Visits all slots of a partition. */
static void
visit_partition(uint32 p, const Visit *visit)
{
	CachePartition *part = &cache_partitions[p];

	LWLockAcquire(&cache_locks[p].lock, LW_EXCLUSIVE);
	for (uint32 b = 0; part->used > 0 && b < cache_table->nbuckets; b++)
	{
		uint32 slot = cache_buckets[(Size) p * cache_table->nbuckets + b];

		while (slot != NO_SLOT)
		{
			uint32 next = cache_slots[slot].next;

			if (visit_wants(visit, &cache_slots[slot]))
				visit_slot(part, slot, visit);
			slot = next;
		}
	}
	LWLockRelease(&cache_locks[p].lock);
}

/*
 * Visits the cached pages of a fork, which is or was end_block blocks long:
 * looks up each block if the fork is short, else scans all slots.
 */
static void
visit_fork(const Visit *visit, BlockNumber end_block)
{
	pg_atomic_uint32 *counter = slot_fork_counter(visit->rel, visit->fork);

	if (pg_atomic_read_u32(counter) == 0)
		return;
	if (end_block == InvalidBlockNumber ||
		(end_block > visit->first_block &&
		 end_block - visit->first_block > cache_table->npartitions * cache_table->own_slots / 4))
	{
		for (uint32 p = 0; p < cache_table->npartitions; p++)
			visit_partition(p, visit);
		return;
	}
	for (BlockNumber blk = visit->first_block; blk < end_block; blk++)
	{
		CacheTag tag = cache_tag(visit->rel, visit->fork, blk);
		uint32 hash = cache_tag_hash(&tag);
		LWLock *lock = &cache_locks[slot_partition(hash)].lock;
		uint32 slot;

		LWLockAcquire(lock, LW_EXCLUSIVE);
		slot = slot_find(&tag, hash);
		if (slot != NO_SLOT)
			visit_slot(&cache_partitions[slot_partition(hash)], slot, visit);
		LWLockRelease(lock);
		if (slot != NO_SLOT && !visit->release && pg_atomic_read_u32(counter) == 0)
			break;
	}
}

void
page_cache_truncate(PsRel rel, ForkNumber fork, BlockNumber old_blocks, BlockNumber nblocks)
{
	Visit visit = {.rel = rel, .fork = fork, .first_block = nblocks};

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
	Visit visit = {.rel = rel, .fork = fork, .release = true, .release_lsn = lsn};

	visit_fork(&visit, nblocks);
	page_cache_spill_release_no_lsn(rel, fork, nblocks, lsn);
}

void
page_cache_drop_database(Oid spc, Oid db)
{
	Visit visit = {.rel = {spc, db, InvalidOid}};

	for (uint32 p = 0; p < cache_table->npartitions; p++)
		visit_partition(p, &visit);
	page_cache_spill_drop_database(spc, db);
}

void
page_cache_clear(void)
{
	Visit visit = {.unkept = true};

	running_refresh();
	for (uint32 p = 0; p < cache_table->npartitions; p++)
		visit_partition(p, &visit);
	page_cache_spill_clear();
}

PsRel *
page_cache_held_relations(int *nrels)
{
	RelList list = {0};

	for (uint32 p = 0; p < cache_table->npartitions; p++)
	{
		CachePartition *part = &cache_partitions[p];

		LWLockAcquire(&cache_locks[p].lock, LW_SHARED);
		for (uint32 b = 0; part->used > 0 && b < cache_table->nbuckets; b++)
			for (uint32 slot = cache_buckets[(Size) p * cache_table->nbuckets + b]; slot != NO_SLOT;
				 slot = cache_slots[slot].next)
				if (cache_slots[slot].tag.blk == 0 && cache_slots[slot].tag.fork == MAIN_FORKNUM &&
					(cache_slots[slot].keep.reasons & KEEP_UNTIL_WRITTEN))
					rel_list_add(&list, cache_slots[slot].tag.rel);
		LWLockRelease(&cache_locks[p].lock);
	}
	page_cache_spill_held_relations(&list);
	*nrels = list.n;
	return list.rels;
}

void
page_cache_stats(PageCacheStats *stats)
{
	memset(stats, 0, sizeof(*stats));
	stats->size_pages = (uint64) cache_table->npartitions * cache_table->own_slots;
	stats->limit_pages = ps_cache_limit == -1 ? PG_UINT64_MAX : page_cache_pages_of_mb(ps_cache_limit);
	page_cache_spill_stats(stats);
	stats->used_pages = stats->spilled_pages;
	for (uint32 p = 0; p < cache_table->npartitions; p++)
	{
		CachePartition *part = &cache_partitions[p];

		LWLockAcquire(&cache_locks[p].lock, LW_SHARED);
		stats->used_pages += part->used;
		stats->hits += pg_atomic_read_u64(&part->hits);
		stats->misses += pg_atomic_read_u64(&part->misses);
		stats->writes += part->writes;
		stats->fills += part->fills;
		stats->evictions += part->evictions;
		stats->io_errors += pg_atomic_read_u64(&part->io_errors);
		for (uint32 b = 0; part->used > 0 && b < cache_table->nbuckets; b++)
			for (uint32 slot = cache_buckets[(Size) p * cache_table->nbuckets + b]; slot != NO_SLOT;
				 slot = cache_slots[slot].next)
				if (keep_reasons_hold(&cache_slots[slot].keep))
					stats->kept_pages++;
		LWLockRelease(&cache_locks[p].lock);
	}
}

bool
page_cache_has_free_slots(void)
{
	uint64 size = (uint64) cache_table->npartitions * cache_table->own_slots;
	uint64 used = 0;

	for (uint32 p = 0; p < cache_table->npartitions; p++)
	{
		LWLockAcquire(&cache_locks[p].lock, LW_SHARED);
		used += cache_partitions[p].used;
		LWLockRelease(&cache_locks[p].lock);
	}
	return used < size - size / 8;
}

void
page_cache_count_kept(void)
{
	for (uint32 p = 0; p < cache_table->npartitions; p++)
	{
		CachePartition *part = &cache_partitions[p];

		LWLockAcquire(&cache_locks[p].lock, LW_SHARED);
		for (uint32 i = 0; part->used > 0 && i < cache_table->own_slots; i++)
		{
			CacheSlot *slot = &cache_slots[part->first_slot + i];

			if (!OidIsValid(slot->tag.rel.rel))
				continue;
			if (slot->keep.reasons & KEEP_UNTIL_WRITTEN)
				page_cache_payer_add_other(1);
			else
				page_cache_payer_add(&slot->keep, 1, false);
		}
		LWLockRelease(&cache_locks[p].lock);
	}
}
