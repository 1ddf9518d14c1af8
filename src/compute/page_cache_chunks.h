/*
 * page_cache_chunks.h
 *	  The chunks of spilled pages: what page_cache_spill.c (the table of them,
 *	  reading and writing a block) and page_cache_spill_many.c (giving up, many
 *	  blocks at once) know of each other.
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
 * transactions end, and when there is no room for another page.  A chunk that
 * has pages of several transactions may be kept for one page of 4096: then its
 * pages are looked at one by one.
 *
 * Locks: whether a block is in a chunk changes from no to yes under the page
 * cache's lock for the block, held exclusively.  A chunk, its bits and its
 * pages in the file are protected by chunk_lock(), taken after it: shared to
 * read a page, exclusively for everything else.  A chunk that is in no hash
 * chain belongs to who took it out, or is in the list of free ones, which
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
#define MAX_CHUNKS   16384      /* 512 GB, if the blocks are next to each other */
#define NBUCKETS     MAX_CHUNKS /* a multiple of CHUNK_LOCKS: a lock covers whole chains */
#define NO_CHUNK     UINT32_MAX

/* Chunk.nrunning */
#define ALL_RUN    0
#define LOOK_AGAIN UINT32_MAX

typedef struct ChunkKey
{
	PsRel rel;
	ForkNumber fork;
	uint32 chunk; /* block / CHUNK_BLOCKS */
} ChunkKey;

StaticAssertDecl(sizeof(ChunkKey) == 20, "ChunkKey is hashed and must not have padding");

typedef struct Chunk
{
	ChunkKey key;
	uint32 next;      /* of the hash chain, or of the list of free chunks */
	uint32 npages;    /* bits set in present */
	uint32 nheld;     /* bits set in held */
	KeepReasons keep; /* of all pages put into it */

	/*
	 * Of the transactions that keep is for, this many ran when the pages were
	 * last looked at one by one: if fewer run, some pages may go before
	 * others.  ALL_RUN: all of keep was for the same transactions.
	 * LOOK_AGAIN: some may go already.
	 */
	uint32 nrunning;
	XLogRecPtr newest_lsn; /* of their last-written LSNs */
	uint64 present[CHUNK_BLOCKS / 64];
	uint64 held[CHUNK_BLOCKS / 64]; /* of them, those with a reason of KEEP_UNTIL_WRITTEN */
} Chunk;

typedef struct ChunkTable
{
	uint64 first_page; /* of the file; these are constant */
	uint64 slot_pages;

	slock_t free_mutex; /* protects free, never_used */
	uint32 free;
	uint32 never_used; /* chunks from here on were never used */

	pg_atomic_uint32 nchunks;      /* in hash chains */
	pg_atomic_uint64 npages;       /* in them */
	pg_atomic_uint64 next_reclaim; /* TimestampTz */

	uint32 buckets[NBUCKETS]; /* protected by chunk_lock() */
	Chunk chunks[FLEXIBLE_ARRAY_MEMBER];
} ChunkTable;

/* Set at the start of the server, the same in all processes. */
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

/* Sets or clears a bit and counts those that are set. */
static inline void
chunk_set_bit(uint64 *bits, uint32 i, bool on, uint32 *count)
{
	if (on == chunk_bit_is_set(bits, i))
		return;
	bits[i / 64] ^= UINT64CONST(1) << (i % 64);
	*count += on ? 1 : -1;
}

/* The chunk, or NULL.  Caller holds chunk_lock(bucket). */
extern Chunk *chunk_find(const ChunkKey *key, uint32 bucket);

/* Creates a chunk and puts it into its chain; NULL if there is none left.  Caller holds chunk_lock(bucket) exclusively. */
extern Chunk *chunk_add(const ChunkKey *key, uint32 bucket);

/* Takes a chunk from its chain.  Caller holds chunk_lock(bucket) exclusively, and calls chunk_free() without it. */
extern void chunk_remove(Chunk *chunk, uint32 bucket);
extern void chunk_free(Chunk *chunk);

/* Takes a block out of its chunk, which stays.  Caller holds chunk_lock() exclusively. */
extern void chunk_clear_block(Chunk *chunk, uint32 i);

#endif /* PS_PAGE_CACHE_CHUNKS_H */
