/*
 * page_cache_spill_many.c
 *	  Spilled pages, many at once: frees chunks in which nothing must be kept any
 *	  more, or whose relation is truncated or dropped; counts.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/timestamp.h"

#include "lsn_cache.h"
#include "page_cache_chunks.h"
#include "running.h"
#include "wal_progress.h"

/*
 * At the end of transactions: interval in microseconds between checks for chunks
 * to free, and their number at a time.
 */
#define RECLAIM_INTERVAL 1000000
#define RECLAIM_CHUNKS   128

/*
 * Number of chunks whose pages are checked one by one at a time, and number of
 * freed pages that is enough if there is no room.
 */
#define THIN_CHUNKS  4
#define ENOUGH_PAGES 1024

/* ---- freeing chunks ---- */

/* Selects chunks. */
typedef struct ChunkFilter
{
	bool unkept;        /* select chunks in which nothing must be kept; otherwise those of a fork or database */
	XLogRecPtr max_lsn; /* with unkept: newest change that a selected chunk may have */
	PsRel rel;          /* rel.rel InvalidOid: a whole database; rel.spc InvalidOid: in all tablespaces */
	ForkNumber fork;
	uint32 first_chunk;
} ChunkFilter;

static bool
filter_matches(const ChunkFilter *filter, const Chunk *chunk)
{
	const ChunkKey *key = &chunk->key;

	if (filter->unkept)
		return chunk->nheld == 0 && chunk->newest_lsn <= filter->max_lsn && !keep_reasons_hold(&chunk->keep);
	if (OidIsValid(filter->rel.rel))
		return ps_rel_equal(key->rel, filter->rel) && key->fork == filter->fork && key->chunk >= filter->first_chunk;
	return key->rel.db == filter->rel.db && (!OidIsValid(filter->rel.spc) || key->rel.spc == filter->rel.spc);
}

/*
 * Frees up to max chunks that match; returns how many.  only_free: skips those
 * whose locks are held by others.  May be called in critical sections.
 */
static uint32
drop_chunks(const ChunkFilter *filter, bool only_free, uint32 max)
{
	uint32 dropped = 0;

	for (uint32 l = 0; l < CHUNK_LOCKS && dropped < max && pg_atomic_read_u32(&chunk_table->nchunks) > 0; l++)
	{
		uint32 removed = NO_CHUNK;

		if (!only_free)
			LWLockAcquire(&chunk_locks[l].lock, LW_EXCLUSIVE);
		else if (!LWLockConditionalAcquire(&chunk_locks[l].lock, LW_EXCLUSIVE))
			continue;
		for (uint32 b = l; b < NBUCKETS; b += CHUNK_LOCKS)
			for (uint32 i = chunk_table->buckets[b], next; i != NO_CHUNK && dropped < max; i = next)
			{
				next = chunk_table->chunks[i].next;
				if (!filter_matches(filter, &chunk_table->chunks[i]))
					continue;
				chunk_remove(&chunk_table->chunks[i], b);
				chunk_table->chunks[i].next = removed;
				removed = i;
				dropped++;
			}
		LWLockRelease(&chunk_locks[l].lock);
		while (removed != NO_CHUNK)
		{
			Chunk *chunk = &chunk_table->chunks[removed];

			removed = chunk->next;
			chunk_free(chunk);
		}
	}
	return dropped;
}

/*
 * Removes the pages of a chunk that need not be kept and have no change after
 * max_lsn, and determines the reasons of the remaining ones.  Returns the number
 * of removed pages.  Caller holds chunk_lock() exclusively.
 */
static uint32
thin_chunk(Chunk *chunk, XLogRecPtr max_lsn)
{
	const ChunkKey *key = &chunk->key;
	KeepReasons sum = {0};
	XLogRecPtr newest_lsn = InvalidXLogRecPtr;
	uint32 given_up = 0;
	bool recheck = false;
	PGAlignedBlock page;

	/* the transactions counted at the end must be those for which pages were found to be kept */
	running_hold(true);
	for (uint32 i = 0; i < CHUNK_BLOCKS; i++)
	{
		BlockNumber blk = key->chunk * CHUNK_BLOCKS + i;
		XLogRecPtr lsn;
		KeepReasons keep;

		if (!chunk_bit_is_set(chunk->present, i))
			continue;
		if (!page_cache_file_read(chunk_file_page(chunk, i), page.data))
		{
			running_hold(false);
			return given_up;
		}
		keep_reasons_of_page(key->fork, blk, page.data, &keep);
		keep.reasons &= ~KEEP_UNTIL_WRITTEN;
		lsn = lsn_cache_get(key->rel, key->fork, blk);
		if (chunk_bit_is_set(chunk->held, i) || keep_reasons_hold(&keep))
			keep_reasons_merge(&sum, &keep);
		else if (lsn > max_lsn)
			recheck = true;
		else
		{
			chunk_clear_block(chunk, i);
			page_cache_file_punch(chunk_file_page(chunk, i), 1);
			given_up++;
			continue;
		}
		newest_lsn = Max(newest_lsn, lsn);
	}
	chunk->keep = sum;
	chunk->newest_lsn = newest_lsn;
	if (recheck || (sum.reasons & KEEP_MULTI))
		chunk->nrunning = RECHECK;
	else if (sum.oldest_xid == sum.newest_xid)
		chunk->nrunning = ALL_RUN;
	else
		chunk->nrunning = running_count_in_range(sum.oldest_xid, sum.newest_xid);
	running_hold(false);
	return given_up;
}

/* May some pages of the chunk be free to go while others must be kept? */
static bool
is_mixed(const Chunk *chunk)
{
	return chunk->nrunning == RECHECK ||
		   (chunk->nrunning != ALL_RUN &&
			running_count_in_range(chunk->keep.oldest_xid, chunk->keep.newest_xid) < chunk->nrunning);
}

/*
 * Calls thin_chunk() for up to max chunks that qualify, starting at a
 * different one each time, until enough pages are freed.
 */
static uint32
thin_chunks(bool only_free, uint32 max, uint32 enough, XLogRecPtr max_lsn)
{
	static uint32 first = 0;
	uint32 given_up = 0;

	first++;
	for (uint32 n = 0; n < CHUNK_LOCKS && max > 0 && given_up < enough; n++)
	{
		uint32 l = (first + n) % CHUNK_LOCKS;

		if (!only_free)
			LWLockAcquire(&chunk_locks[l].lock, LW_EXCLUSIVE);
		else if (!LWLockConditionalAcquire(&chunk_locks[l].lock, LW_EXCLUSIVE))
			continue;
		for (uint32 b = l; b < NBUCKETS && max > 0; b += CHUNK_LOCKS)
			for (uint32 i = chunk_table->buckets[b]; i != NO_CHUNK && max > 0; i = chunk_table->chunks[i].next)
				if (is_mixed(&chunk_table->chunks[i]))
				{
					given_up += thin_chunk(&chunk_table->chunks[i], max_lsn);
					max--;
				}
		LWLockRelease(&chunk_locks[l].lock);
	}
	return given_up;
}

static uint32
reclaim(bool only_free, uint32 max, XLogRecPtr max_lsn)
{
	ChunkFilter filter = {.unkept = true, .max_lsn = max_lsn};

	running_refresh();
	return drop_chunks(&filter, only_free, max);
}

/* Is it time for the next check? */
static bool
reclaim_is_due(TimestampTz now)
{
	return now >= (TimestampTz) pg_atomic_read_u64(&chunk_table->next_reclaim);
}

static void
reclaim_some(TimestampTz now)
{
	pg_atomic_write_u64(&chunk_table->next_reclaim, now + RECLAIM_INTERVAL);
	if (reclaim(true, RECLAIM_CHUNKS, wal_progress_ingested()) == RECLAIM_CHUNKS)
		pg_atomic_write_u64(&chunk_table->next_reclaim, now); /* there may be more */
}

void
page_cache_spill_reclaim(void)
{
	XLogRecPtr ingested = wal_progress_ingested();

	/*
	 * in the last two steps also what the store can return only after ingesting
	 * more WAL, which is better than to fail
	 */
	if (reclaim(false, MAX_CHUNKS, ingested) == 0 &&
		thin_chunks(false, MAX_CHUNKS, ENOUGH_PAGES, ingested) == 0 &&
		reclaim(false, MAX_CHUNKS, PG_UINT64_MAX) == 0)
		(void) thin_chunks(false, MAX_CHUNKS, ENOUGH_PAGES, PG_UINT64_MAX);
}

void
page_cache_spill_tidy(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!reclaim_is_due(now))
		return;
	reclaim_some(now);
	(void) thin_chunks(true, THIN_CHUNKS, UINT32_MAX, wal_progress_ingested());
}

void
page_cache_spill_want_tidy(void)
{
	pg_atomic_write_u64(&chunk_table->next_reclaim, 0);
}

/* Once other processes see the transaction as ended, no error may be raised. */
static void
at_end_of_transaction(XactEvent event, void *arg)
{
	TimestampTz now;

	/* thinning is done before the commit, while errors may be raised */
	if (event == XACT_EVENT_PRE_COMMIT && pg_atomic_read_u32(&chunk_table->nchunks) > 0)
		page_cache_spill_tidy();
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (pg_atomic_read_u32(&chunk_table->nchunks) == 0)
	{
		page_cache_spill_in_transaction = false;
		return;
	}
	now = GetCurrentTimestamp();
	if (!page_cache_spill_in_transaction && !reclaim_is_due(now))
		return;
	page_cache_spill_in_transaction = false;
	reclaim_some(now);
}

void
page_cache_xact_init(void)
{
	RegisterXactCallback(at_end_of_transaction, NULL);
}

/* ---- many blocks at once ---- */

void
page_cache_spill_truncate(PsRel rel, ForkNumber fork, BlockNumber old_blocks, BlockNumber nblocks)
{
	ChunkFilter filter = {.rel = rel, .fork = fork};

	if (pg_atomic_read_u32(&chunk_table->nchunks) == 0)
		return;
	if (nblocks % CHUNK_BLOCKS != 0)
	{
		ChunkKey key = chunk_key(rel, fork, nblocks / CHUNK_BLOCKS);
		uint32 bucket = chunk_bucket(&key);
		Chunk *chunk;

		LWLockAcquire(chunk_lock(bucket), LW_EXCLUSIVE);
		chunk = chunk_find(&key, bucket);
		if (chunk != NULL)
		{
			for (uint32 i = nblocks % CHUNK_BLOCKS; i < CHUNK_BLOCKS; i++)
				chunk_clear_block(chunk, i);
			page_cache_file_punch(chunk_file_page(chunk, nblocks % CHUNK_BLOCKS),
								  CHUNK_BLOCKS - nblocks % CHUNK_BLOCKS);
		}
		LWLockRelease(chunk_lock(bucket));
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
	if (pg_atomic_read_u32(&chunk_table->nchunks) == 0)
		return;
	for (uint32 c = 0; c * CHUNK_BLOCKS < nblocks; c++)
	{
		ChunkKey key = chunk_key(rel, fork, c);
		uint32 bucket = chunk_bucket(&key);
		Chunk *chunk;

		LWLockAcquire(chunk_lock(bucket), LW_EXCLUSIVE);
		chunk = chunk_find(&key, bucket);
		for (uint32 i = 0; chunk != NULL && chunk->nheld > 0 && i < CHUNK_BLOCKS; i++)
			if (chunk_bit_is_set(chunk->held, i))
			{
				lsn_cache_set_block(rel, fork, c * CHUNK_BLOCKS + i, lsn);
				chunk_set_bit(chunk->held, i, false, &chunk->nheld);
				chunk->newest_lsn = Max(chunk->newest_lsn, lsn);
			}
		LWLockRelease(chunk_lock(bucket));
	}
}

void
page_cache_spill_held_relations(RelList *list)
{
	for (uint32 l = 0; l < CHUNK_LOCKS && pg_atomic_read_u32(&chunk_table->nchunks) > 0; l++)
	{
		LWLockAcquire(&chunk_locks[l].lock, LW_SHARED);
		for (uint32 b = l; b < NBUCKETS; b += CHUNK_LOCKS)
			for (uint32 i = chunk_table->buckets[b]; i != NO_CHUNK; i = chunk_table->chunks[i].next)
			{
				Chunk *chunk = &chunk_table->chunks[i];

				if (chunk->key.fork == MAIN_FORKNUM && chunk->key.chunk == 0 && chunk_bit_is_set(chunk->held, 0))
					rel_list_add(list, chunk->key.rel);
			}
		LWLockRelease(&chunk_locks[l].lock);
	}
}

void
page_cache_spill_count_kept(void)
{
	for (uint32 l = 0; l < CHUNK_LOCKS && pg_atomic_read_u32(&chunk_table->nchunks) > 0; l++)
	{
		LWLockAcquire(&chunk_locks[l].lock, LW_SHARED);
		for (uint32 b = l; b < NBUCKETS; b += CHUNK_LOCKS)
			for (uint32 i = chunk_table->buckets[b]; i != NO_CHUNK; i = chunk_table->chunks[i].next)
			{
				Chunk *chunk = &chunk_table->chunks[i];

				page_cache_payer_add_other(chunk->nheld);
				page_cache_payer_add(&chunk->keep, chunk->npages - chunk->nheld, is_mixed(chunk));
			}
		LWLockRelease(&chunk_locks[l].lock);
	}
}

void
page_cache_spill_stats(PageCacheStats *stats)
{
	for (uint32 l = 0; l < CHUNK_LOCKS && pg_atomic_read_u32(&chunk_table->nchunks) > 0; l++)
	{
		LWLockAcquire(&chunk_locks[l].lock, LW_SHARED);
		for (uint32 b = l; b < NBUCKETS; b += CHUNK_LOCKS)
			for (uint32 i = chunk_table->buckets[b]; i != NO_CHUNK; i = chunk_table->chunks[i].next)
			{
				Chunk *chunk = &chunk_table->chunks[i];

				stats->spilled_pages += chunk->npages;
				stats->kept_pages += keep_reasons_hold(&chunk->keep) ? chunk->npages : chunk->nheld;
			}
		LWLockRelease(&chunk_locks[l].lock);
	}
}
