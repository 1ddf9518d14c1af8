/*
 * open_layer.h
 *	  The layer in memory from the inside: for open_layer.c, which fills and
 *	  searches it, and open_layer_write.c, which makes a file of it.
 */
#ifndef PS_LAYER_OPEN_LAYER_H
#define PS_LAYER_OPEN_LAYER_H

#include <pthread.h>

#include "layer/layer_impl.h"

/* One version: 24 bytes. */
typedef struct Version
{
	XLogRecPtr lsn;
	union
	{
		XLogRecPtr record_start;   /* VALUE_RECORD */
		const char *data;          /* else; in the arena */
		struct Version *next_free; /* of a chain that is in no use */
	} at;
	uint32 len;
	uint8 kind;
	bool will_init;
} Version;

/*
 * A key and its versions, oldest first: 48 bytes.  A single version is inside,
 * more are in a chain.  Written by the layer's writer under the shard's lock.
 */
typedef struct Entry
{
	PsKey key;
	uint32 count; /* 0: all were cut off */
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

/* A place of the hash table, linear probing; entry NULL: free. */
typedef struct Slot
{
	Entry *entry;
	uint32 hash;
} Slot;

/*
 * A part of the keys.  Readers take the lock shared, the writer exclusively,
 * for one key at a time.  Once the layer is frozen nobody takes it.
 */
typedef struct Shard
{
	pthread_rwlock_t lock;
	Slot *slots;
	uint32 nslots; /* a power of 2 */
	uint32 nkeys;
} pg_attribute_aligned(PG_CACHE_LINE_SIZE) Shard;

/* Relation blocks and SLRU pages are spread over the first; all else is in the last, so that a scan of it is short. */
#define BLOCK_SHARDS 64
#define OTHER_SHARD  BLOCK_SHARDS
#define NSHARDS      (BLOCK_SHARDS + 1)

/* Chains have CHAIN_MIN << class places; those of classes below CHAIN_CLASSES (up to 48 KB) come from the arena. */
#define CHAIN_MIN     4
#define CHAIN_CLASSES 10

typedef struct ArenaChunk
{
	struct ArenaChunk *next;
	char data[];
} ArenaChunk;

/* A chain that is too long for the arena. */
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

	/* Written by the writer, read by any thread, relaxed: numbers to look at. */
	_Atomic uint64 memory;
	_Atomic uint64 count;

	/* Only the writer looks at these. */
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

#endif /* PS_LAYER_OPEN_LAYER_H */
