/*
 * page_cache_chunks.h
 *	  Chunks of spilled pages.  Private to page_cache_chunks.c (their table),
 *	  page_cache_spill.c (reads and writes a block), page_cache_spill_many.c
 *	  (frees chunks, handles many blocks).
 *
 * A transaction may change far more pages that must be kept (keep_reasons.h) than
 * fit into cache_size; a bulk load after another command of the same transaction
 * keeps them all.  A slot for each would take too much shared memory.  So these
 * pages are written to the end of the cache file in *chunks*: 32 MB of the file
 * represent 4096 successive blocks of a fork, each at its own place, and shared
 * memory has two bits for each block.  The file is sparse, so a chunk takes the
 * disk space of only those pages that are in it.
 *
 * A block is in a slot or in a chunk, never in both.  Once it is in a chunk it is
 * read and written there, whether it must be kept or not, until the chunk is
 * freed.  A chunk is freed as a whole, when none of its pages must be kept and the
 * store has ingested the WAL of its newest change.  That is checked when
 * transactions end, and when there is no room for another page.  One page of 4096
 * can keep a chunk that has pages of several transactions; then its pages are
 * checked one by one.
 *
 * Locks: that a block is put into a chunk happens under the lock of the block's
 * partition of the page cache, held exclusively.  A chunk, its bits and its pages in
 * the file are protected by chunk_lock(), which is taken after that lock: shared to
 * read a page, exclusively for everything else.  A chunk that is in no hash chain
 * belongs to the process that has removed it, or is in the list of free chunks, which
 * free_mutex protects.
 */
#ifndef PS_PAGE_CACHE_CHUNKS_H
#define PS_PAGE_CACHE_CHUNKS_H

#include "common/hashfn.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

#include "page_cache_impl.h"

#define CHUNK_LOCKS  64
#define CHUNK_BLOCKS 4096
#define MAX_CHUNKS   16384      /* 512 GB, if all blocks of each chunk are used */
#define NBUCKETS     MAX_CHUNKS /* a multiple of CHUNK_LOCKS, so that a lock covers whole chains */
#define NO_CHUNK     UINT32_MAX

/* Special values of Chunk.nrunning. */
#define ALL_RUN 0
#define RECHECK UINT32_MAX

typedef struct ChunkKey
{
	PsRel rel;
	ForkNumber fork;
	uint32 chunk; /* block number / CHUNK_BLOCKS */
} ChunkKey;

StaticAssertDecl(sizeof(ChunkKey) == 20, "ChunkKey is hashed and must not have padding");

typedef struct Chunk
{
	ChunkKey key;
	uint32 next;      /* next chunk in the hash chain, or in the list of free chunks */
	uint32 npages;    /* number of bits set in present */
	uint32 nheld;     /* number of bits set in held */
	KeepReasons keep; /* merged from all pages that were put into it */

	/*
	 * When the pages were last checked one by one, this many of the transactions
	 * that keep covers were running; if fewer are running now, some pages may be
	 * freed before others.  ALL_RUN: keep is for the same transactions on all
	 * pages.  RECHECK: some pages may be free to go already.
	 */
	uint32 nrunning;
	XLogRecPtr newest_lsn; /* the newest last-written LSN of the pages */
	uint64 present[CHUNK_BLOCKS / 64];
	uint64 held[CHUNK_BLOCKS / 64]; /* those of them with a reason of KEEP_UNTIL_WRITTEN */
} Chunk;

typedef struct ChunkTable
{
	uint64 first_page; /* first page of the file that belongs to a chunk; this and the next are constant */
	uint64 slot_pages;

	slock_t free_mutex; /* protects free and never_used */
	uint32 free;
	uint32 never_used; /* chunks with this or a greater number were never used */

	pg_atomic_uint32 nchunks;      /* in hash chains */
	pg_atomic_uint64 npages;       /* in these chunks */
	pg_atomic_uint64 next_reclaim; /* a TimestampTz */

	uint32 buckets[NBUCKETS]; /* protected by chunk_lock() */
	Chunk chunks[FLEXIBLE_ARRAY_MEMBER];
} ChunkTable;

/* Set at server start; the same in all processes. */
extern ChunkTable *chunk_table;
extern LWLockPadded *chunk_locks;

static inline ChunkKey
chunk_key(PsRel rel, ForkNumber fork, uint32 chunk)
{
	ChunkKey key = {rel, fork, chunk};

	return key;
}

static inline uint32
chunk_bucket(const ChunkKey *key)
{
	return hash_bytes((const unsigned char *) key, sizeof(*key)) % NBUCKETS;
}

static inline LWLock *
chunk_lock(uint32 bucket)
{
	return &chunk_locks[bucket % CHUNK_LOCKS].lock;
}

static inline uint64
chunk_file_page(const Chunk *chunk, uint32 i)
{
	return chunk_table->first_page + (uint64) (chunk - chunk_table->chunks) * CHUNK_BLOCKS + i;
}

static inline bool
chunk_bit_is_set(const uint64 *bits, uint32 i)
{
	return (bits[i / 64] >> (i % 64)) & 1;
}

/* Is the block in the chunk, which may be NULL? */
static inline bool
chunk_has_block(const Chunk *chunk, BlockNumber blk)
{
	return chunk != NULL && chunk_bit_is_set(chunk->present, blk % CHUNK_BLOCKS);
}

/* Sets or clears a bit and updates the number of bits that are set. */
static inline void
chunk_set_bit(uint64 *bits, uint32 i, bool on, uint32 *count)
{
	if (on == chunk_bit_is_set(bits, i))
		return;
	bits[i / 64] ^= UINT64CONST(1) << (i % 64);
	*count += on ? 1 : -1;
}

/* Returns the chunk, or NULL.  Caller holds chunk_lock(bucket). */
extern Chunk *chunk_find(const ChunkKey *key, uint32 bucket);

/*
 * Creates a chunk and adds it to its chain; NULL if none is left.  Caller holds
 * chunk_lock(bucket) exclusively.
 */
extern Chunk *chunk_add(const ChunkKey *key, uint32 bucket);

/*
 * chunk_remove() takes a chunk from its chain; caller holds chunk_lock(bucket)
 * exclusively.  Afterwards, without the lock, the caller calls chunk_free().
 */
extern void chunk_remove(Chunk *chunk, uint32 bucket);
extern void chunk_free(Chunk *chunk);

/* Removes a block from its chunk, which stays.  Caller holds chunk_lock() exclusively. */
extern void chunk_clear_block(Chunk *chunk, uint32 i);

#endif /* PS_PAGE_CACHE_CHUNKS_H */
