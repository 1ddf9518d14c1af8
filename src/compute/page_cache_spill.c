/*
 * page_cache_spill.c
 *	  Pages that must be kept and for which the page cache has no slot: the table
 *	  of their chunks (page_cache_chunks.h), reading and writing a block.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/shmem.h"

#include "page_cache_chunks.h"
#include "running.h"

#define LOCK_TRANCHE "pageserver_smgr_spill"

/* Before every so many pages added to a chunk the free disk space is looked at. */
#define ROOM_CHECK_PAGES 64

/* What part of the room for spilled pages, and of the chunks, is left for those who wait for another to pay. */
#define LEFT_SHARE 16

Spill *spill;
LWLockPadded *spill_locks;
bool spill_in_transaction;

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
	bool found;

	spill = ShmemInitStruct("pageserver_smgr spilled pages", page_cache_spill_shmem_size(), &found);
	spill_locks = GetNamedLWLockTranche(LOCK_TRANCHE);
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

Chunk *
find_chunk(const ChunkKey *key, uint32 bucket)
{
	for (uint32 i = spill->buckets[bucket]; i != NO_CHUNK; i = spill->chunks[i].next)
	{
		Chunk *chunk = &spill->chunks[i];

		if (ps_rel_equal(chunk->key.rel, key->rel) && chunk->key.fork == key->fork && chunk->key.chunk == key->chunk)
			return chunk;
	}
	return NULL;
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
	uint32 i;

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

void
remove_chunk(Chunk *chunk, uint32 bucket)
{
	uint32 i = chunk - spill->chunks;
	uint32 *link = &spill->buckets[bucket];

	while (*link != i)
		link = &spill->chunks[*link].next;
	*link = chunk->next;
	pg_atomic_fetch_sub_u32(&spill->nchunks, 1);
}

void
free_chunk(Chunk *chunk)
{
	page_cache_file_punch(file_page(chunk, 0), CHUNK_BLOCKS);
	pg_atomic_fetch_sub_u64(&spill->npages, chunk->npages);
	SpinLockAcquire(&spill->free_mutex);
	chunk->next = spill->free;
	spill->free = chunk - spill->chunks;
	SpinLockRelease(&spill->free_mutex);
}

void
clear_block(Chunk *chunk, uint32 i)
{
	if (!bit_is_set(chunk->present, i))
		return;
	set_bit(chunk->present, i, false, &chunk->npages);
	set_bit(chunk->held, i, false, &chunk->nheld);
	pg_atomic_fetch_sub_u64(&spill->npages, 1);
}

/* ---- blocks ---- */

bool
page_cache_spill_has(const CacheTag *tag)
{
	ChunkKey key = make_key(tag->rel, tag->fork, tag->blk / CHUNK_BLOCKS);
	uint32 bucket;
	bool has;

	/* what the caller's lock protects cannot be missed */
	if (pg_atomic_read_u32(&spill->nchunks) == 0)
		return false;
	bucket = chunk_bucket(&key);
	LWLockAcquire(spill_lock(bucket), LW_SHARED);
	has = has_block(find_chunk(&key, bucket), tag->blk);
	LWLockRelease(spill_lock(bucket));
	return has;
}

SpillResult
page_cache_spill_read(const CacheTag *tag, char *page)
{
	ChunkKey key = make_key(tag->rel, tag->fork, tag->blk / CHUNK_BLOCKS);
	uint32 bucket;
	Chunk *chunk;
	SpillResult result = SPILL_ABSENT;

	if (pg_atomic_read_u32(&spill->nchunks) == 0)
		return SPILL_ABSENT;
	bucket = chunk_bucket(&key);
	LWLockAcquire(spill_lock(bucket), LW_SHARED);
	chunk = find_chunk(&key, bucket);
	if (has_block(chunk, tag->blk))
		result = page_cache_file_read(file_page(chunk, tag->blk % CHUNK_BLOCKS), page) ? SPILL_DONE : SPILL_IO_ERROR;
	LWLockRelease(spill_lock(bucket));
	return result;
}

/* Is there room for a page that is new to a chunk with npages; 0: to a chunk that is new? */
static SpillResult
check_room(uint32 npages, RoomClaim claim)
{
	if (ps_cache_limit != -1 && claim != ROOM_ADMINISTRATOR)
	{
		uint64 limit = ps_pages_of_mb(ps_cache_limit) - spill->own_pages;

		if (claim != ROOM_ANOTHER_PAYS)
			limit -= limit / LEFT_SHARE;
		if (pg_atomic_read_u64(&spill->npages) >= limit)
			return SPILL_LIMIT;
	}
	if (npages % ROOM_CHECK_PAGES == 0 && !page_cache_file_has_room(claim))
		return SPILL_DISK_FULL;
	if (npages == 0 && claim < ROOM_ANOTHER_PAYS &&
		pg_atomic_read_u32(&spill->nchunks) >= MAX_CHUNKS - MAX_CHUNKS / LEFT_SHARE)
		return SPILL_TABLE_FULL;
	return SPILL_DONE;
}

/* The chunk must be kept as long as a page that is put into it. */
static void
merge_keep(Chunk *chunk, const PageKeep *keep)
{
	const PageKeep *old = &chunk->keep;

	if (chunk->npages > 1 &&
		((old->reasons ^ keep->reasons) & KEEP_OPEN_XACT || old->oldest_xid != keep->oldest_xid ||
		 old->newest_xid != keep->newest_xid || (keep->reasons & KEEP_MULTI)))
		chunk->nrunning = LOOK_AGAIN;
	page_keep_merge(&chunk->keep, keep);
	chunk->keep.reasons &= ~KEEP_UNTIL_WRITTEN; /* nheld says that */
}

/* may_add: also if the block is not in a chunk. */
static SpillResult
write_block(const CacheTag *tag, const char *page, const PageKeep *keep, XLogRecPtr lsn, bool may_add, RoomClaim claim)
{
	ChunkKey key = make_key(tag->rel, tag->fork, tag->blk / CHUNK_BLOCKS);
	uint32 bucket = chunk_bucket(&key);
	uint32 i = tag->blk % CHUNK_BLOCKS;
	SpillResult result = SPILL_DONE;
	Chunk *chunk;

	LWLockAcquire(spill_lock(bucket), LW_EXCLUSIVE);
	chunk = find_chunk(&key, bucket);
	if (!has_block(chunk, tag->blk))
	{
		result = may_add ? check_room(chunk != NULL ? chunk->npages : 0, claim) : SPILL_ABSENT;
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
			merge_keep(chunk, keep);
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
page_cache_spill_write(const CacheTag *tag, const char *page, const PageKeep *keep, XLogRecPtr lsn, RoomClaim claim)
{
	SpillResult result = write_block(tag, page, keep, lsn, true, claim);

	if (result == SPILL_DONE)
		spill_in_transaction = true;
	return result;
}

SpillResult
page_cache_spill_update(const CacheTag *tag, const char *page, const PageKeep *keep, XLogRecPtr lsn)
{
	if (pg_atomic_read_u32(&spill->nchunks) == 0)
		return SPILL_ABSENT;
	return write_block(tag, page, keep, lsn, false, ROOM_ORDINARY);
}

void
page_cache_spill_forget(const CacheTag *tag)
{
	ChunkKey key = make_key(tag->rel, tag->fork, tag->blk / CHUNK_BLOCKS);
	uint32 bucket = chunk_bucket(&key);
	Chunk *chunk;

	LWLockAcquire(spill_lock(bucket), LW_EXCLUSIVE);
	chunk = find_chunk(&key, bucket);
	if (has_block(chunk, tag->blk) && !bit_is_set(chunk->held, tag->blk % CHUNK_BLOCKS) &&
		!page_keep_holds(&chunk->keep))
		clear_block(chunk, tag->blk % CHUNK_BLOCKS);
	LWLockRelease(spill_lock(bucket));
}
