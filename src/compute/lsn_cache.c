/*
 * lsn_cache.c
 *	  Last-written LSNs: for each block, an LSN after which it has not
 *	  changed.  A read asks the store for no later LSN, so that it does not wait
 *	  for unrelated WAL.
 *
 * There is an array of LSNs indexed by a hash of the block, a smaller one indexed
 * by a hash of the relation for changes that concern all its blocks, and a floor
 * for everything.  The result is the greatest of the three.  Blocks that share an
 * entry get the later LSN of the two: a read may wait slightly longer than
 * necessary, but never returns a page that is too old.
 *
 * No locks are needed: entries only rise, by compare-and-swap.  A page's LSN is set
 * before the page can be evicted, because smgrwrite() runs before that, and a
 * process that reads it afterwards has synchronized with the evicting process
 * through the buffer mapping locks.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "lsn_cache.h"
#include "settings.h"

/* Number of block entries for each relation entry. */
#define BLOCKS_PER_RELATION 16

typedef struct LsnCache
{
	pg_atomic_uint64 floor;
	pg_atomic_uint64 max; /* greatest LSN that was ever set */
	uint32 nblocks;       /* entries for blocks; a power of 2; constant */
	uint32 nrelations;    /* entries for relations, which follow those for blocks; constant */
	pg_atomic_uint64 entries[FLEXIBLE_ARRAY_MEMBER];
} LsnCache;

static LsnCache *cache;

static uint32
block_entries(void)
{
	return pg_nextpower2_32(ps_lsn_cache_entries);
}

static Size
cache_bytes(void)
{
	Size entries = (Size) block_entries() + block_entries() / BLOCKS_PER_RELATION;

	return add_size(offsetof(LsnCache, entries), mul_size(entries, sizeof(pg_atomic_uint64)));
}

void
lsn_cache_request_shmem(void)
{
	RequestAddinShmemSpace(cache_bytes());
}

/* Initially all pages are as of the shutdown checkpoint in the base backup. */
void
lsn_cache_startup_shmem(void)
{
	bool found;

	cache = ShmemInitStruct("pageserver_smgr last-written LSNs", cache_bytes(), &found);
	if (found)
		return;
	pg_atomic_init_u64(&cache->floor, ps_checkpoint_lsn);
	pg_atomic_init_u64(&cache->max, ps_checkpoint_lsn);
	cache->nblocks = block_entries();
	cache->nrelations = cache->nblocks / BLOCKS_PER_RELATION;
	for (uint32 i = 0; i < cache->nblocks + cache->nrelations; i++)
		pg_atomic_init_u64(&cache->entries[i], InvalidXLogRecPtr);
}

static void
raise_to(pg_atomic_uint64 *entry, XLogRecPtr lsn)
{
	uint64 old = pg_atomic_read_u64(entry);

	while (old < lsn && !pg_atomic_compare_exchange_u64(entry, &old, lsn))
		;
}

static pg_atomic_uint64 *
relation_entry(PsRel rel)
{
	uint32 hash = hash_bytes((const unsigned char *) &rel, sizeof(rel));

	return &cache->entries[cache->nblocks + (hash & (cache->nrelations - 1))];
}

static pg_atomic_uint64 *
block_entry(PsRel rel, ForkNumber fork, BlockNumber blk)
{
	uint32 key[] = {rel.spc, rel.db, rel.rel, (uint32) fork, blk};
	uint32 hash = hash_bytes((const unsigned char *) key, sizeof(key));

	return &cache->entries[hash & (cache->nblocks - 1)];
}

XLogRecPtr
lsn_cache_get(PsRel rel, ForkNumber fork, BlockNumber blk)
{
	return Max(pg_atomic_read_u64(block_entry(rel, fork, blk)), lsn_cache_get_relation(rel));
}

XLogRecPtr
lsn_cache_get_relation(PsRel rel)
{
	return Max(pg_atomic_read_u64(relation_entry(rel)), pg_atomic_read_u64(&cache->floor));
}

XLogRecPtr
lsn_cache_get_floor(void)
{
	return pg_atomic_read_u64(&cache->floor);
}

XLogRecPtr
lsn_cache_get_max(void)
{
	return pg_atomic_read_u64(&cache->max);
}

void
lsn_cache_set_block(PsRel rel, ForkNumber fork, BlockNumber blk, XLogRecPtr lsn)
{
	raise_to(block_entry(rel, fork, blk), lsn);
	raise_to(&cache->max, lsn);
}

void
lsn_cache_set_relation(PsRel rel, XLogRecPtr lsn)
{
	raise_to(relation_entry(rel), lsn);
	raise_to(&cache->max, lsn);
}

void
lsn_cache_set_all(XLogRecPtr lsn)
{
	raise_to(&cache->floor, lsn);
	raise_to(&cache->max, lsn);
}

XLogRecPtr
lsn_cache_end_of_wal(XLogRecPtr lsn)
{
	if (XLogSegmentOffset(lsn, wal_segment_size) == SizeOfXLogLongPHD)
		return lsn - SizeOfXLogLongPHD;
	if (lsn % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		return lsn - SizeOfXLogShortPHD;
	return lsn;
}

XLogRecPtr
lsn_cache_insert_position(void)
{
	return lsn_cache_end_of_wal(GetXLogInsertRecPtr());
}
