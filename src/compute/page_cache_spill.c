/*
 * page_cache_spill.c
 *	  Pages that must be kept and for which the page cache has no slot.
 *
 * A transaction may change far more pages that must be kept (keep.c) than
 * cache_size has room for: a bulk load behind another command keeps them all.
 * A slot's entry in shared memory is too dear for that.  So these pages go to
 * the end of the cache file in *chunks*: 32 MB of the file stand for 4096
 * successive blocks of a fork, each at its place, and shared memory has two
 * bits for each block.  The file is sparse: a chunk takes the disk space of
 * the pages that are in it.
 *
 * A block is in a slot or in a chunk, never in both.  Once it is in a chunk it
 * is read and written there, kept or not, until the chunk is given up, which
 * happens as a whole: when nothing in it need be kept any more, and the store
 * has ingested the WAL of its newest change.  That is looked at when
 * transactions end, and when there is no room for another page.
 *
 * Locks: whether a block is in a chunk changes from no to yes under the page
 * cache's lock for the block, held exclusively.  A chunk, its bits and its
 * pages in the file are protected by spill_lock(), taken after it: shared to
 * read a page, exclusively for everything else.  A chunk that is in no hash
 * chain belongs to who took it out, or is in the list of free ones, which
 * free_mutex protects.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "ps_page_cache.h"

#define LOCK_TRANCHE "pageserver_smgr_spill"

#define SPILL_LOCKS 64
#define CHUNK_BLOCKS 4096
#define MAX_CHUNKS 16384		/* 512 GB, if the blocks are next to each other */
#define NBUCKETS MAX_CHUNKS		/* a multiple of SPILL_LOCKS: a lock covers whole chains */
#define NO_CHUNK UINT32_MAX

/* Before every so many pages added to a chunk the free disk space is looked at. */
#define ROOM_CHECK_PAGES 64

/* When transactions end: how often, in microseconds, to look for chunks to give up, and how many at a time. */
#define RECLAIM_INTERVAL 1000000
#define RECLAIM_CHUNKS 128

typedef struct ChunkKey
{
	PsRel		rel;
	ForkNumber	fork;
	uint32		chunk;			/* block / CHUNK_BLOCKS */
} ChunkKey;

StaticAssertDecl(sizeof(ChunkKey) == 20, "ChunkKey is hashed and must not have padding");

typedef struct Chunk
{
	ChunkKey	key;
	uint32		next;			/* of the hash chain, or of the list of free chunks */
	uint32		npages;			/* bits set in present */
	uint32		nheld;			/* bits set in held */
	PageKeep	keep;			/* of all pages ever put into it */
	XLogRecPtr	newest_lsn;		/* the same of their last-written LSNs */
	uint64		present[CHUNK_BLOCKS / 64];
	uint64		held[CHUNK_BLOCKS / 64];	/* of them, those with a reason of KEEP_UNTIL_WRITTEN */
} Chunk;

typedef struct Spill
{
	uint64		first_page;		/* of the file; these are constant */
	uint64		own_pages;

	slock_t		free_mutex;		/* protects free, never_used */
	uint32		free;
	uint32		never_used;		/* chunks from here on were never used */

	pg_atomic_uint32 nchunks;	/* in hash chains */
	pg_atomic_uint64 npages;	/* in them */
	pg_atomic_uint64 next_reclaim;	/* TimestampTz */

	uint32		buckets[NBUCKETS];	/* protected by spill_lock() */
	Chunk		chunks[FLEXIBLE_ARRAY_MEMBER];
} Spill;

static Spill *spill;
static LWLockPadded *locks;

/* This process has put pages into chunks since its last transaction ended. */
static bool has_spilled;

Size
page_cache_spill_shmem_size(void)
{
	return offsetof(Spill, chunks) + MAX_CHUNKS * sizeof(Chunk);
}

void
page_cache_spill_request_locks(void)
{
	RequestNamedLWLockTranche(LOCK_TRANCHE, SPILL_LOCKS);
}

void
page_cache_spill_startup_shmem(uint64 first_page, uint64 own_pages)
{
	bool		found;

	spill = ShmemInitStruct("pageserver_smgr spilled pages", page_cache_spill_shmem_size(), &found);
	locks = GetNamedLWLockTranche(LOCK_TRANCHE);
	if (found)
		return;
	spill->first_page = first_page;
	spill->own_pages = own_pages;
	SpinLockInit(&spill->free_mutex);
	spill->free = NO_CHUNK;
	spill->never_used = 0;
	pg_atomic_init_u32(&spill->nchunks, 0);
	pg_atomic_init_u64(&spill->npages, 0);
	pg_atomic_init_u64(&spill->next_reclaim, 0);
	memset(spill->buckets, 0xFF, sizeof(spill->buckets));
	/* chunks are initialized when used: until then they take no memory */
}

/* ---- chunks ---- */

static ChunkKey
make_key(PsRel rel, ForkNumber fork, uint32 chunk)
{
	ChunkKey	key = {rel, fork, chunk};

	return key;
}

static uint32
bucket_of(const ChunkKey *key)
{
	return hash_bytes((const unsigned char *) key, sizeof(*key)) % NBUCKETS;
}

static LWLock *
spill_lock(uint32 bucket)
{
	return &locks[bucket % SPILL_LOCKS].lock;
}

/* Caller holds spill_lock(bucket). */
static Chunk *
find_chunk(const ChunkKey *key, uint32 bucket)
{
	for (uint32 i = spill->buckets[bucket]; i != NO_CHUNK; i = spill->chunks[i].next)
	{
		Chunk	   *chunk = &spill->chunks[i];

		if (ps_rel_equal(chunk->key.rel, key->rel) && chunk->key.fork == key->fork && chunk->key.chunk == key->chunk)
			return chunk;
	}
	return NULL;
}

static uint64
file_page(const Chunk *chunk, uint32 i)
{
	return spill->first_page + (uint64) (chunk - spill->chunks) * CHUNK_BLOCKS + i;
}

static inline bool
bit_is_set(const uint64 *bits, uint32 i)
{
	return (bits[i / 64] >> (i % 64)) & 1;
}

/* Sets or clears a bit and counts those that are set. */
static inline void
set_bit(uint64 *bits, uint32 i, bool on, uint32 *count)
{
	if (on == bit_is_set(bits, i))
		return;
	bits[i / 64] ^= UINT64CONST(1) << (i % 64);
	*count += on ? 1 : -1;
}

static bool
has_block(const Chunk *chunk, BlockNumber blk)
{
	return chunk != NULL && bit_is_set(chunk->present, blk % CHUNK_BLOCKS);
}

/* A new chunk, put into its chain, or NULL.  Caller holds spill_lock(bucket) exclusively. */
static Chunk *
add_chunk(const ChunkKey *key, uint32 bucket)
{
	uint32		i;

	SpinLockAcquire(&spill->free_mutex);
	i = spill->free;
	if (i != NO_CHUNK)
		spill->free = spill->chunks[i].next;
	else if (spill->never_used < MAX_CHUNKS)
		i = spill->never_used++;
	SpinLockRelease(&spill->free_mutex);
	if (i == NO_CHUNK)
		return NULL;

	memset(&spill->chunks[i], 0, sizeof(Chunk));
	spill->chunks[i].key = *key;
	spill->chunks[i].next = spill->buckets[bucket];
	spill->buckets[bucket] = i;
	pg_atomic_fetch_add_u32(&spill->nchunks, 1);
	return &spill->chunks[i];
}

/* Takes a chunk from its chain.  Caller holds spill_lock(bucket) exclusively, and calls free_chunk() without it. */
static void
remove_chunk(Chunk *chunk, uint32 bucket)
{
	uint32		i = chunk - spill->chunks;
	uint32	   *link = &spill->buckets[bucket];

	while (*link != i)
		link = &spill->chunks[*link].next;
	*link = chunk->next;
	pg_atomic_fetch_sub_u32(&spill->nchunks, 1);
}

static void
free_chunk(Chunk *chunk)
{
	page_cache_file_punch(file_page(chunk, 0), CHUNK_BLOCKS);
	pg_atomic_fetch_sub_u64(&spill->npages, chunk->npages);
	SpinLockAcquire(&spill->free_mutex);
	chunk->next = spill->free;
	spill->free = chunk - spill->chunks;
	SpinLockRelease(&spill->free_mutex);
}

/* ---- giving chunks up ---- */

/* What find_and_remove() looks for. */
typedef struct ChunkFilter
{
	bool		unkept;			/* chunks of which nothing must be kept; else those of a fork or database */
	XLogRecPtr	max_lsn;		/* with unkept: and with no newer change */
	PsRel		rel;			/* rel.rel InvalidOid: all of a database, and rel.spc InvalidOid: in all tablespaces */
	ForkNumber	fork;
	uint32		first_chunk;
} ChunkFilter;

static bool
filter_matches(const ChunkFilter *filter, const Chunk *chunk)
{
	const ChunkKey *key = &chunk->key;

	if (filter->unkept)
		return chunk->nheld == 0 && chunk->newest_lsn <= filter->max_lsn && !page_keep_holds(&chunk->keep);
	if (OidIsValid(filter->rel.rel))
		return ps_rel_equal(key->rel, filter->rel) && key->fork == filter->fork && key->chunk >= filter->first_chunk;
	return key->rel.db == filter->rel.db && (!OidIsValid(filter->rel.spc) || key->rel.spc == filter->rel.spc);
}

/*
 * Gives up the chunks that match, max at most; those whose locks are taken are
 * left out if only_free.  Returns how many.  May be called in critical sections.
 */
static uint32
drop_chunks(const ChunkFilter *filter, bool only_free, uint32 max)
{
	uint32		dropped = 0;

	for (uint32 l = 0; l < SPILL_LOCKS && dropped < max && pg_atomic_read_u32(&spill->nchunks) > 0; l++)
	{
		uint32		removed = NO_CHUNK;

		if (!only_free)
			LWLockAcquire(&locks[l].lock, LW_EXCLUSIVE);
		else if (!LWLockConditionalAcquire(&locks[l].lock, LW_EXCLUSIVE))
			continue;
		for (uint32 b = l; b < NBUCKETS; b += SPILL_LOCKS)
			for (uint32 i = spill->buckets[b], next; i != NO_CHUNK && dropped < max; i = next)
			{
				next = spill->chunks[i].next;
				if (!filter_matches(filter, &spill->chunks[i]))
					continue;
				remove_chunk(&spill->chunks[i], b);
				spill->chunks[i].next = removed;
				removed = i;
				dropped++;
			}
		LWLockRelease(&locks[l].lock);
		while (removed != NO_CHUNK)
		{
			Chunk	   *chunk = &spill->chunks[removed];

			removed = chunk->next;
			free_chunk(chunk);
		}
	}
	return dropped;
}

static uint32
reclaim(uint32 max)
{
	ChunkFilter filter = {.unkept = true, .max_lsn = wal_worker_ingested()};

	page_keep_look_again();
	return drop_chunks(&filter, true, max);
}

/* The transaction is over for others too.  Nothing may be thrown here. */
static void
at_end_of_transaction(XactEvent event, void *arg)
{
	TimestampTz now;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (pg_atomic_read_u32(&spill->nchunks) == 0)
	{
		has_spilled = false;
		return;
	}
	now = GetCurrentTimestamp();
	if (!has_spilled && now < (TimestampTz) pg_atomic_read_u64(&spill->next_reclaim))
		return;
	has_spilled = false;
	pg_atomic_write_u64(&spill->next_reclaim, now + RECLAIM_INTERVAL);
	if (reclaim(RECLAIM_CHUNKS) == RECLAIM_CHUNKS)
		pg_atomic_write_u64(&spill->next_reclaim, now); /* there may be more */
}

void
page_cache_xact_init(void)
{
	RegisterXactCallback(at_end_of_transaction, NULL);
}

/* ---- blocks ---- */

bool
page_cache_spill_has(const CacheTag *tag)
{
	ChunkKey	key = make_key(tag->rel, tag->fork, tag->blk / CHUNK_BLOCKS);
	uint32		bucket;
	bool		has;

	/* what the caller's lock protects cannot be missed */
	if (pg_atomic_read_u32(&spill->nchunks) == 0)
		return false;
	bucket = bucket_of(&key);
	LWLockAcquire(spill_lock(bucket), LW_SHARED);
	has = has_block(find_chunk(&key, bucket), tag->blk);
	LWLockRelease(spill_lock(bucket));
	return has;
}

SpillResult
page_cache_spill_read(const CacheTag *tag, char *page)
{
	ChunkKey	key = make_key(tag->rel, tag->fork, tag->blk / CHUNK_BLOCKS);
	uint32		bucket;
	Chunk	   *chunk;
	SpillResult result = SPILL_ABSENT;

	if (pg_atomic_read_u32(&spill->nchunks) == 0)
		return SPILL_ABSENT;
	bucket = bucket_of(&key);
	LWLockAcquire(spill_lock(bucket), LW_SHARED);
	chunk = find_chunk(&key, bucket);
	if (has_block(chunk, tag->blk))
		result = page_cache_file_read(file_page(chunk, tag->blk % CHUNK_BLOCKS), page) ? SPILL_DONE : SPILL_IO_ERROR;
	LWLockRelease(spill_lock(bucket));
	return result;
}

/* Takes a block out of its chunk, which stays.  Caller holds spill_lock() exclusively. */
static void
clear_block(Chunk *chunk, uint32 i)
{
	if (!bit_is_set(chunk->present, i))
		return;
	set_bit(chunk->present, i, false, &chunk->npages);
	set_bit(chunk->held, i, false, &chunk->nheld);
	pg_atomic_fetch_sub_u64(&spill->npages, 1);
}

/* Is there room for a page that is new to a chunk with npages? */
static SpillResult
check_room(uint32 npages)
{
	if (ps_cache_limit != -1 &&
		spill->own_pages + pg_atomic_read_u64(&spill->npages) >= ps_pages_of_mb(ps_cache_limit))
		return SPILL_LIMIT;
	if (npages % ROOM_CHECK_PAGES == 0 && !page_cache_file_has_room())
		return SPILL_DISK_FULL;
	return SPILL_DONE;
}

/* page_cache_spill_write(), without looking for chunks to give up. */
static SpillResult
write_block(const CacheTag *tag, const char *page, const PageKeep *keep, XLogRecPtr lsn, bool may_add)
{
	ChunkKey	key = make_key(tag->rel, tag->fork, tag->blk / CHUNK_BLOCKS);
	uint32		bucket = bucket_of(&key);
	uint32		i = tag->blk % CHUNK_BLOCKS;
	SpillResult result = SPILL_DONE;
	Chunk	   *chunk;

	LWLockAcquire(spill_lock(bucket), LW_EXCLUSIVE);
	chunk = find_chunk(&key, bucket);
	if (!has_block(chunk, tag->blk))
	{
		result = may_add ? check_room(chunk != NULL ? chunk->npages : 0) : SPILL_ABSENT;
		if (result == SPILL_DONE && chunk == NULL && (chunk = add_chunk(&key, bucket)) == NULL)
			result = SPILL_TABLE_FULL;
	}
	if (result == SPILL_DONE)
	{
		if (page_cache_file_write(file_page(chunk, i), page))
		{
			if (!bit_is_set(chunk->present, i))
				pg_atomic_fetch_add_u64(&spill->npages, 1);
			set_bit(chunk->present, i, true, &chunk->npages);
			set_bit(chunk->held, i, (keep->reasons & KEEP_UNTIL_WRITTEN) != 0, &chunk->nheld);
			page_keep_merge(&chunk->keep, keep);
			chunk->keep.reasons &= ~KEEP_UNTIL_WRITTEN; /* nheld says that */
			chunk->newest_lsn = Max(chunk->newest_lsn, lsn);
		}
		else
		{
			clear_block(chunk, i);
			result = SPILL_IO_ERROR;
		}
	}
	LWLockRelease(spill_lock(bucket));
	return result;
}

SpillResult
page_cache_spill_write(const CacheTag *tag, const char *page, const PageKeep *keep, XLogRecPtr lsn, bool may_add)
{
	SpillResult result;

	if (!may_add && pg_atomic_read_u32(&spill->nchunks) == 0)
		return SPILL_ABSENT;
	result = write_block(tag, page, keep, lsn, may_add);

	/* who may be open is looked at once more, before a page that must be kept cannot be */
	if (result != SPILL_DONE && may_add && keep->reasons != 0 && reclaim(MAX_CHUNKS) > 0)
		result = write_block(tag, page, keep, lsn, may_add);
	if (result == SPILL_DONE && may_add)
		has_spilled = true;
	return result;
}

void
page_cache_spill_forget(const CacheTag *tag)
{
	ChunkKey	key = make_key(tag->rel, tag->fork, tag->blk / CHUNK_BLOCKS);
	uint32		bucket = bucket_of(&key);
	Chunk	   *chunk;

	LWLockAcquire(spill_lock(bucket), LW_EXCLUSIVE);
	chunk = find_chunk(&key, bucket);
	if (has_block(chunk, tag->blk) && !bit_is_set(chunk->held, tag->blk % CHUNK_BLOCKS) &&
		!page_keep_holds(&chunk->keep))
		clear_block(chunk, tag->blk % CHUNK_BLOCKS);
	LWLockRelease(spill_lock(bucket));
}

/* ---- many blocks at once ---- */

void
page_cache_spill_truncate(PsRel rel, ForkNumber fork, BlockNumber old_blocks, BlockNumber nblocks)
{
	ChunkFilter filter = {.rel = rel, .fork = fork};

	if (pg_atomic_read_u32(&spill->nchunks) == 0)
		return;
	if (nblocks % CHUNK_BLOCKS != 0)
	{
		ChunkKey	key = make_key(rel, fork, nblocks / CHUNK_BLOCKS);
		uint32		bucket = bucket_of(&key);
		Chunk	   *chunk;

		LWLockAcquire(spill_lock(bucket), LW_EXCLUSIVE);
		chunk = find_chunk(&key, bucket);
		if (chunk != NULL)
		{
			for (uint32 i = nblocks % CHUNK_BLOCKS; i < CHUNK_BLOCKS; i++)
				clear_block(chunk, i);
			page_cache_file_punch(file_page(chunk, nblocks % CHUNK_BLOCKS), CHUNK_BLOCKS - nblocks % CHUNK_BLOCKS);
		}
		LWLockRelease(spill_lock(bucket));
	}
	filter.first_chunk = nblocks / CHUNK_BLOCKS + (nblocks % CHUNK_BLOCKS != 0);
	if (old_blocks == InvalidBlockNumber || old_blocks > (BlockNumber) filter.first_chunk * CHUNK_BLOCKS)
		drop_chunks(&filter, false, MAX_CHUNKS);
}

void
page_cache_spill_drop_database(Oid spc, Oid db)
{
	ChunkFilter filter = {.rel = {spc, db, InvalidOid}};

	drop_chunks(&filter, false, MAX_CHUNKS);
}

void
page_cache_spill_clear(void)
{
	ChunkFilter filter = {.unkept = true, .max_lsn = PG_UINT64_MAX};

	drop_chunks(&filter, false, MAX_CHUNKS);
}

void
page_cache_spill_release_no_lsn(PsRel rel, ForkNumber fork, BlockNumber nblocks, XLogRecPtr lsn)
{
	if (pg_atomic_read_u32(&spill->nchunks) == 0)
		return;
	for (uint32 c = 0; c * CHUNK_BLOCKS < nblocks; c++)
	{
		ChunkKey	key = make_key(rel, fork, c);
		uint32		bucket = bucket_of(&key);
		Chunk	   *chunk;

		LWLockAcquire(spill_lock(bucket), LW_EXCLUSIVE);
		chunk = find_chunk(&key, bucket);
		for (uint32 i = 0; chunk != NULL && chunk->nheld > 0 && i < CHUNK_BLOCKS; i++)
			if (bit_is_set(chunk->held, i))
			{
				lsn_cache_set_block(rel, fork, c * CHUNK_BLOCKS + i, lsn);
				set_bit(chunk->held, i, false, &chunk->nheld);
				chunk->newest_lsn = Max(chunk->newest_lsn, lsn);
			}
		LWLockRelease(spill_lock(bucket));
	}
}

void
page_cache_spill_held_relations(RelList *list)
{
	for (uint32 l = 0; l < SPILL_LOCKS && pg_atomic_read_u32(&spill->nchunks) > 0; l++)
	{
		LWLockAcquire(&locks[l].lock, LW_SHARED);
		for (uint32 b = l; b < NBUCKETS; b += SPILL_LOCKS)
			for (uint32 i = spill->buckets[b]; i != NO_CHUNK; i = spill->chunks[i].next)
			{
				Chunk	   *chunk = &spill->chunks[i];

				if (chunk->key.fork == MAIN_FORKNUM && chunk->key.chunk == 0 && bit_is_set(chunk->held, 0))
					rel_list_add(list, chunk->key.rel);
			}
		LWLockRelease(&locks[l].lock);
	}
}

void
page_cache_spill_stats(PageCacheStats *stats)
{
	for (uint32 l = 0; l < SPILL_LOCKS && pg_atomic_read_u32(&spill->nchunks) > 0; l++)
	{
		LWLockAcquire(&locks[l].lock, LW_SHARED);
		for (uint32 b = l; b < NBUCKETS; b += SPILL_LOCKS)
			for (uint32 i = spill->buckets[b]; i != NO_CHUNK; i = spill->chunks[i].next)
			{
				Chunk	   *chunk = &spill->chunks[i];

				stats->spilled_pages += chunk->npages;
				stats->kept_pages += page_keep_holds(&chunk->keep) ? chunk->npages : chunk->nheld;
			}
		LWLockRelease(&locks[l].lock);
	}
}
