/*
 * open_layer_impl.h
 *	  Structures of the layer in memory: for open_layer.c, which fills and
 *	  searches it, and open_layer_write.c, which writes it as a file.
 */
#ifndef PS_OPEN_LAYER_IMPL_H
#define PS_OPEN_LAYER_IMPL_H

#include <pthread.h>

#include "layer/layer_impl.h"
#include "layer/open_layer.h"

/* One version: 24 bytes. */
typedef struct Version
{
	XLogRecPtr lsn;
	union
	{
		XLogRecPtr record_start;   /* VALUE_RECORD */
		const char *data;          /* other kinds; in the arena */
		struct Version *next_free; /* of an unused chain */
	} at;
	uint32 len;
	uint8 kind;
	bool will_init;
} Version;

/*
 * A key and its versions, oldest first: 48 bytes.  A single version is stored in
 * the entry, several in a chain.  Changed by the layer's writer under the
 * shard's lock.
 */
typedef struct Entry
{
	PsKey key;
	uint32 count; /* 0: all versions were removed by open_layer_cut() */
	union
	{
		Version one; /* count <= 1 */
		struct
		{
			Version *versions;
			uint32 cap;
		} chain; /* count > 1 */
	} u;
} Entry;

static inline const Version *
entry_versions(const Entry *entry)
{
	return entry->count > 1 ? entry->u.chain.versions : &entry->u.one;
}

/* A slot of the hash table (linear probing); entry NULL: free. */
typedef struct Slot
{
	Entry *entry;
	uint32 hash;
} Slot;

/*
 * A part of the keys.  Readers take the lock shared, the writer exclusively, for
 * one key at a time.  Once the layer is frozen, no lock is taken.
 */
typedef struct Shard
{
	pthread_rwlock_t lock;
	Slot *slots;
	uint32 nslots; /* a power of 2 */
	uint32 nkeys;
} pg_attribute_aligned(PG_CACHE_LINE_SIZE) Shard;

/*
 * Relation blocks and SLRU pages are spread over the first 64 shards; all other
 * keys are in the last one, so that scans of them are short.
 */
#define BLOCK_SHARDS 64
#define OTHER_SHARD  BLOCK_SHARDS
#define NSHARDS      (BLOCK_SHARDS + 1)

/*
 * A chain has room for CHAIN_MIN << class versions.  Chains of the classes below
 * CHAIN_CLASSES (up to 48 KB) are allocated in the arena.
 */
#define CHAIN_MIN     4
#define CHAIN_CLASSES 10

typedef struct ArenaChunk
{
	struct ArenaChunk *next;
	char data[];
} ArenaChunk;

/* A chain that is too long for the arena: allocated with malloc(). */
typedef struct LongChain
{
	struct LongChain *prev;
	struct LongChain *next;
	Version versions[];
} LongChain;

struct OpenLayer
{
	/* Set by open_layer_freeze() with release order, after all writing. */
	atomic_bool frozen;

	/* Written by the writer, read by any thread; relaxed, since they are only statistics. */
	_Atomic uint64 memory;
	_Atomic uint64 count;

	/* Used by the writer only. */
	ArenaChunk *chunks;
	char *arena_next;
	char *arena_end;
	size_t chunk_size;
	Version *free_chains[CHAIN_CLASSES]; /* linked through at.next_free of their first version */
	LongChain *long_chains;
	PsKey key_min; /* valid if there are versions */
	PsKey key_max;
	XLogRecPtr lsn_max;

	Shard shards[NSHARDS];
};

#endif /* PS_OPEN_LAYER_IMPL_H */
