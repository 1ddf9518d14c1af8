/*
 * page_cache_chunks.c
 *	  The table of chunks, which hold spilled pages (page_cache_chunks.h).
 */
#include "postgres.h"

#include "storage/shmem.h"

#include "page_cache_chunks.h"

#define LOCK_TRANCHE "pageserver_smgr_spill"

ChunkTable *chunk_table;
LWLockPadded *chunk_locks;

static Size
chunk_table_size(void)
{
	return offsetof(ChunkTable, chunks) + MAX_CHUNKS * sizeof(Chunk);
}

void
page_cache_chunks_request_shmem(void)
{
	RequestAddinShmemSpace(chunk_table_size());
	RequestNamedLWLockTranche(LOCK_TRANCHE, CHUNK_LOCKS);
}

void
page_cache_chunks_startup_shmem(uint64 first_page, uint64 slot_pages)
{
	bool found;

	chunk_table = ShmemInitStruct("pageserver_smgr spilled pages", chunk_table_size(), &found);
	chunk_locks = GetNamedLWLockTranche(LOCK_TRANCHE);
	if (found)
		return;
	chunk_table->first_page = first_page;
	chunk_table->slot_pages = slot_pages;
	SpinLockInit(&chunk_table->free_mutex);
	chunk_table->free = NO_CHUNK;
	chunk_table->never_used = 0;
	pg_atomic_init_u32(&chunk_table->nchunks, 0);
	pg_atomic_init_u64(&chunk_table->npages, 0);
	pg_atomic_init_u64(&chunk_table->next_reclaim, 0);
	memset(chunk_table->buckets, 0xFF, sizeof(chunk_table->buckets));
	/* chunks are initialized when they are used; until then they take no memory */
}

Chunk *
chunk_find(const ChunkKey *key, uint32 bucket)
{
	for (uint32 i = chunk_table->buckets[bucket]; i != NO_CHUNK; i = chunk_table->chunks[i].next)
	{
		Chunk *chunk = &chunk_table->chunks[i];

		if (ps_rel_equal(chunk->key.rel, key->rel) && chunk->key.fork == key->fork && chunk->key.chunk == key->chunk)
			return chunk;
	}
	return NULL;
}

Chunk *
chunk_add(const ChunkKey *key, uint32 bucket)
{
	uint32 i;

	SpinLockAcquire(&chunk_table->free_mutex);
	i = chunk_table->free;
	if (i != NO_CHUNK)
		chunk_table->free = chunk_table->chunks[i].next;
	else if (chunk_table->never_used < MAX_CHUNKS)
		i = chunk_table->never_used++;
	SpinLockRelease(&chunk_table->free_mutex);
	if (i == NO_CHUNK)
		return NULL;

	memset(&chunk_table->chunks[i], 0, sizeof(Chunk));
	chunk_table->chunks[i].key = *key;
	chunk_table->chunks[i].next = chunk_table->buckets[bucket];
	chunk_table->buckets[bucket] = i;
	pg_atomic_fetch_add_u32(&chunk_table->nchunks, 1);
	return &chunk_table->chunks[i];
}

void
chunk_remove(Chunk *chunk, uint32 bucket)
{
	uint32 i = chunk - chunk_table->chunks;
	uint32 *link = &chunk_table->buckets[bucket];

	while (*link != i)
		link = &chunk_table->chunks[*link].next;
	*link = chunk->next;
	pg_atomic_fetch_sub_u32(&chunk_table->nchunks, 1);
}

void
chunk_free(Chunk *chunk)
{
	page_cache_file_punch(chunk_file_page(chunk, 0), CHUNK_BLOCKS);
	pg_atomic_fetch_sub_u64(&chunk_table->npages, chunk->npages);
	SpinLockAcquire(&chunk_table->free_mutex);
	chunk->next = chunk_table->free;
	chunk_table->free = chunk - chunk_table->chunks;
	SpinLockRelease(&chunk_table->free_mutex);
}

void
chunk_clear_block(Chunk *chunk, uint32 i)
{
	if (!chunk_bit_is_set(chunk->present, i))
		return;
	chunk_set_bit(chunk->present, i, false, &chunk->npages);
	chunk_set_bit(chunk->held, i, false, &chunk->nheld);
	pg_atomic_fetch_sub_u64(&chunk_table->npages, 1);
}
