/*
 * page_cache_spill.c
 *	  Spilled pages: pages that must be kept, but for which the page cache has no
 *	  slot.  Reads and writes one block in its chunk.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/shmem.h"

#include "page_cache_chunks.h"
#include "settings.h"

#define LOCK_TRANCHE "pageserver_smgr_spill"

/* Number of pages added to a chunk after which the free disk space is checked. */
#define ROOM_CHECK_PAGES 64

/*
 * Fraction of the room for spilled pages, and of the chunks, that is reserved
 * while another transaction is being canceled.
 */
#define RESERVE_SHARE 16

bool page_cache_spill_in_transaction;

bool
page_cache_spill_has(const CacheTag *tag)
{
	ChunkKey key = chunk_key(tag->rel, tag->fork, tag->blk / CHUNK_BLOCKS);
	uint32 bucket;
	bool has;

	/* it cannot be missed, because of the lock that the caller holds */
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
		result = page_cache_file_read(chunk_file_page(chunk, tag->blk % CHUNK_BLOCKS), page) ? SPILL_DONE
																							 : SPILL_IO_ERROR;
	LWLockRelease(chunk_lock(bucket));
	return result;
}

/* Is there room for a page that is added to a chunk with npages pages (0: to a new chunk)? */
static SpillResult
check_room(uint32 npages, RoomClaim claim)
{
	if (ps_cache_limit != -1 && claim != ROOM_ADMINISTRATOR)
	{
		uint64 limit = page_cache_pages_of_mb(ps_cache_limit) - chunk_table->slot_pages;

		if (claim != ROOM_ANOTHER_PAYS)
			limit -= limit / RESERVE_SHARE;
		if (pg_atomic_read_u64(&chunk_table->npages) >= limit)
			return SPILL_LIMIT;
	}
	if (npages % ROOM_CHECK_PAGES == 0 && !page_cache_file_has_room(claim))
		return SPILL_DISK_FULL;
	if (npages == 0 && claim < ROOM_ANOTHER_PAYS &&
		pg_atomic_read_u32(&chunk_table->nchunks) >= MAX_CHUNKS - MAX_CHUNKS / RESERVE_SHARE)
		return SPILL_TABLE_FULL;
	return SPILL_DONE;
}

/* Extends the chunk's reasons to those of a page that is put into it. */
static void
merge_keep(Chunk *chunk, const KeepReasons *keep)
{
	const KeepReasons *old = &chunk->keep;

	if (chunk->npages > 1 &&
		((old->reasons ^ keep->reasons) & KEEP_OPEN_XACT || old->oldest_xid != keep->oldest_xid ||
		 old->newest_xid != keep->newest_xid || (keep->reasons & KEEP_MULTI)))
		chunk->nrunning = RECHECK;
	keep_reasons_merge(&chunk->keep, keep);
	chunk->keep.reasons &= ~KEEP_UNTIL_WRITTEN; /* represented by nheld */
}

/* Writes a block.  may_add: also if it is not in a chunk yet. */
static SpillResult
write_block(const CacheTag *tag, const char *page, const KeepReasons *keep, XLogRecPtr lsn, bool may_add,
			RoomClaim claim)
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
