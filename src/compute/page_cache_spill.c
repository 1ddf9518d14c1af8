/*
 * page_cache_spill.c
 *	  Pages that must be kept and for which the page cache has no slot: the table
 *	  of their chunks (page_cache_chunks.h), reading and writing a block.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/shmem.h"

#include "page_cache_chunks.h"
#include "settings.h"

#define LOCK_TRANCHE "pageserver_smgr_spill"

/* Before every so many pages added to a chunk the free disk space is looked at. */
#define ROOM_CHECK_PAGES 64

/* What part of the room for spilled pages, and of the chunks, is left for those who wait for another to pay. */
#define LEFT_SHARE 16

bool page_cache_spill_in_transaction;

/* ---- blocks ---- */

bool
page_cache_spill_has(const CacheTag *tag)
{
	ChunkKey key = chunk_key(tag->rel, tag->fork, tag->blk / CHUNK_BLOCKS);
	uint32 bucket;
	bool has;

	/* what the caller's lock protects cannot be missed */
	if (pg_atomic_read_u32(&chunk_table->nchunks) == 0)
		return false;
	bucket = chunk_bucket(&key);
	LWLockAcquire(chunk_lock(bucket), LW_SHARED);
	has = chunk_has_block(chunk_find(&key, bucket), tag->blk);
	LWLockRelease(chunk_lock(bucket));
	return has;
}

SpillResult
page_cache_spill_read(const CacheTag *tag, char *page)
{
	ChunkKey key = chunk_key(tag->rel, tag->fork, tag->blk / CHUNK_BLOCKS);
	uint32 bucket;
	Chunk *chunk;
	SpillResult result = SPILL_ABSENT;

	if (pg_atomic_read_u32(&chunk_table->nchunks) == 0)
		return SPILL_ABSENT;
	bucket = chunk_bucket(&key);
	LWLockAcquire(chunk_lock(bucket), LW_SHARED);
	chunk = chunk_find(&key, bucket);
	if (chunk_has_block(chunk, tag->blk))
		result = page_cache_file_read(chunk_file_page(chunk, tag->blk % CHUNK_BLOCKS), page) ? SPILL_DONE : SPILL_IO_ERROR;
	LWLockRelease(chunk_lock(bucket));
	return result;
}

/* Is there room for a page that is new to a chunk with npages; 0: to a chunk that is new? */
static SpillResult
check_room(uint32 npages, RoomClaim claim)
{
	if (ps_cache_limit != -1 && claim != ROOM_ADMINISTRATOR)
	{
		uint64 limit = page_cache_pages_of_mb(ps_cache_limit) - chunk_table->slot_pages;

		if (claim != ROOM_ANOTHER_PAYS)
			limit -= limit / LEFT_SHARE;
		if (pg_atomic_read_u64(&chunk_table->npages) >= limit)
			return SPILL_LIMIT;
	}
	if (npages % ROOM_CHECK_PAGES == 0 && !page_cache_file_has_room(claim))
		return SPILL_DISK_FULL;
	if (npages == 0 && claim < ROOM_ANOTHER_PAYS &&
		pg_atomic_read_u32(&chunk_table->nchunks) >= MAX_CHUNKS - MAX_CHUNKS / LEFT_SHARE)
		return SPILL_TABLE_FULL;
	return SPILL_DONE;
}

/* The chunk must be kept as long as a page that is put into it. */
static void
merge_keep(Chunk *chunk, const KeepReasons *keep)
{
	const KeepReasons *old = &chunk->keep;

	if (chunk->npages > 1 &&
		((old->reasons ^ keep->reasons) & KEEP_OPEN_XACT || old->oldest_xid != keep->oldest_xid ||
		 old->newest_xid != keep->newest_xid || (keep->reasons & KEEP_MULTI)))
		chunk->nrunning = LOOK_AGAIN;
	keep_reasons_merge(&chunk->keep, keep);
	chunk->keep.reasons &= ~KEEP_UNTIL_WRITTEN; /* nheld says that */
}

/* may_add: also if the block is not in a chunk. */
static SpillResult
write_block(const CacheTag *tag, const char *page, const KeepReasons *keep, XLogRecPtr lsn, bool may_add, RoomClaim claim)
{
	ChunkKey key = chunk_key(tag->rel, tag->fork, tag->blk / CHUNK_BLOCKS);
	uint32 bucket = chunk_bucket(&key);
	uint32 i = tag->blk % CHUNK_BLOCKS;
	SpillResult result = SPILL_DONE;
	Chunk *chunk;

	LWLockAcquire(chunk_lock(bucket), LW_EXCLUSIVE);
	chunk = chunk_find(&key, bucket);
	if (!chunk_has_block(chunk, tag->blk))
	{
		result = may_add ? check_room(chunk != NULL ? chunk->npages : 0, claim) : SPILL_ABSENT;
		if (result == SPILL_DONE && chunk == NULL && (chunk = chunk_add(&key, bucket)) == NULL)
			result = SPILL_TABLE_FULL;
	}
	if (result == SPILL_DONE)
	{
		if (page_cache_file_write(chunk_file_page(chunk, i), page))
		{
			if (!chunk_bit_is_set(chunk->present, i))
				pg_atomic_fetch_add_u64(&chunk_table->npages, 1);
			chunk_set_bit(chunk->present, i, true, &chunk->npages);
			chunk_set_bit(chunk->held, i, (keep->reasons & KEEP_UNTIL_WRITTEN) != 0, &chunk->nheld);
			merge_keep(chunk, keep);
			chunk->newest_lsn = Max(chunk->newest_lsn, lsn);
		}
		else
		{
			chunk_clear_block(chunk, i);
			result = SPILL_IO_ERROR;
		}
	}
	LWLockRelease(chunk_lock(bucket));
	return result;
}

SpillResult
page_cache_spill_write(const CacheTag *tag, const char *page, const KeepReasons *keep, XLogRecPtr lsn, RoomClaim claim)
{
	SpillResult result = write_block(tag, page, keep, lsn, true, claim);

	if (result == SPILL_DONE)
		page_cache_spill_in_transaction = true;
	return result;
}

SpillResult
page_cache_spill_update(const CacheTag *tag, const char *page, const KeepReasons *keep, XLogRecPtr lsn)
{
	if (pg_atomic_read_u32(&chunk_table->nchunks) == 0)
		return SPILL_ABSENT;
	return write_block(tag, page, keep, lsn, false, ROOM_ORDINARY);
}

void
page_cache_spill_forget(const CacheTag *tag)
{
	ChunkKey key = chunk_key(tag->rel, tag->fork, tag->blk / CHUNK_BLOCKS);
	uint32 bucket = chunk_bucket(&key);
	Chunk *chunk;

	LWLockAcquire(chunk_lock(bucket), LW_EXCLUSIVE);
	chunk = chunk_find(&key, bucket);
	if (chunk_has_block(chunk, tag->blk) && !chunk_bit_is_set(chunk->held, tag->blk % CHUNK_BLOCKS) &&
		!keep_reasons_hold(&chunk->keep))
		chunk_clear_block(chunk, tag->blk % CHUNK_BLOCKS);
	LWLockRelease(chunk_lock(bucket));
}
