/*
 * page_store.c
 *	  Reconstructed pages in memory: see page_store.h.
 *
 * The cache is split into shards by hash of the key.  Each has its own lock, a
 * fixed array of slots, a chained hash over them, and a clock hand.
 */
#include "ps_fe.h"

#include <pthread.h>

#include "common/hashfn.h"

#include "io/page_store.h"

#define NSHARDS 16

typedef struct Slot
{
	uint64 timeline;
	PsKey key;
	XLogRecPtr lsn; /* 0: slot is free */
	int32 next;     /* in the hash chain; -1: end */
	bool used;      /* read again since it was put or the clock hand passed; pages that are read only
					 * once, as by a scan, are replaced first */
} Slot;

/* lock protects everything in the shard, pages included. */
typedef struct Shard
{
	pthread_mutex_t lock;
	Slot *slots;
	char *pages;
	int32 *buckets;
	int32 hand;
	int32 filled;
	uint64 hits;
	uint64 misses;
} Shard;

struct PageStore
{
	int32 slots_per_shard;
	uint32 nbuckets; /* per shard, a power of two */
	Shard shards[NSHARDS];
};

PageStore *
page_store_create(size_t bytes)
{
	PageStore *cache = pg_malloc0(sizeof(PageStore));

	cache->slots_per_shard = (int32) Min(bytes / BLCKSZ / NSHARDS, PG_INT32_MAX / 2);
	cache->nbuckets = 1;
	while (cache->nbuckets < (uint32) cache->slots_per_shard)
		cache->nbuckets *= 2;
	for (int i = 0; i < NSHARDS; i++)
	{
		Shard *shard = &cache->shards[i];

		pthread_mutex_init(&shard->lock, NULL);
		shard->slots = pg_malloc0(Max(cache->slots_per_shard, 1) * sizeof(Slot));
		shard->pages = pg_malloc((size_t) Max(cache->slots_per_shard, 1) * BLCKSZ);
		shard->buckets = pg_malloc(cache->nbuckets * sizeof(int32));
		for (uint32 b = 0; b < cache->nbuckets; b++)
			shard->buckets[b] = -1;
	}
	return cache;
}

void
page_store_free(PageStore *cache)
{
	for (int i = 0; i < NSHARDS; i++)
	{
		pthread_mutex_destroy(&cache->shards[i].lock);
		free(cache->shards[i].slots);
		free(cache->shards[i].pages);
		free(cache->shards[i].buckets);
	}
	free(cache);
}

/* The shard of a key; *bucket is its hash chain there. */
static Shard *
locate(PageStore *cache, uint64 timeline, const PsKey *key, int32 **bucket)
{
	uint8 bytes[PS_KEY_SIZE + 8];
	uint32 hash;
	Shard *shard;

	ps_key_encode(key, bytes);
	memcpy(bytes + PS_KEY_SIZE, &timeline, 8);
	hash = hash_bytes(bytes, sizeof(bytes));
	shard = &cache->shards[hash % NSHARDS];
	*bucket = &shard->buckets[(hash / NSHARDS) & (cache->nbuckets - 1)];
	return shard;
}

/* Place that points at the key's slot, or at the -1 that ends its chain. */
static int32 *
find(Shard *shard, int32 *bucket, uint64 timeline, const PsKey *key)
{
	while (*bucket >= 0)
	{
		Slot *slot = &shard->slots[*bucket];

		if (slot->timeline == timeline && ps_key_cmp(&slot->key, key) == 0)
			break;
		bucket = &slot->next;
	}
	return bucket;
}

bool
page_store_get(PageStore *cache, uint64 timeline, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max,
			   char *page, XLogRecPtr *lsn)
{
	int32 *bucket;
	Shard *shard = locate(cache, timeline, key, &bucket);
	bool found = false;
	int32 i;

	pthread_mutex_lock(&shard->lock);
	i = *find(shard, bucket, timeline, key);
	if (i >= 0 && shard->slots[i].lsn >= lsn_min && shard->slots[i].lsn <= lsn_max)
	{
		memcpy(page, shard->pages + (size_t) i * BLCKSZ, BLCKSZ);
		*lsn = shard->slots[i].lsn;
		shard->slots[i].used = true;
		found = true;
		shard->hits++;
	}
	else
		shard->misses++;
	pthread_mutex_unlock(&shard->lock);
	return found;
}

/* A slot for a new entry: the next that was not used since the hand passed it, taken out of its chain. */
static int32
evict(PageStore *cache, Shard *shard)
{
	if (shard->filled < cache->slots_per_shard)
		return shard->filled++;
	for (;;)
	{
		int32 i = shard->hand;
		Slot *slot = &shard->slots[i];

		shard->hand = (shard->hand + 1) % cache->slots_per_shard;
		if (!slot->used)
		{
			int32 *bucket;
			int32 *place;

			locate(cache, slot->timeline, &slot->key, &bucket);
			place = find(shard, bucket, slot->timeline, &slot->key);
			*place = slot->next;
			return i;
		}
		slot->used = false;
	}
}

void
page_store_put(PageStore *cache, uint64 timeline, const PsKey *key, XLogRecPtr lsn, const char *page)
{
	int32 *bucket;
	Shard *shard = locate(cache, timeline, key, &bucket);
	int32 i;

	if (cache->slots_per_shard == 0)
		return;
	pthread_mutex_lock(&shard->lock);
	i = *find(shard, bucket, timeline, key);
	if (i < 0)
	{
		i = evict(cache, shard);
		shard->slots[i] = (Slot) {.timeline = timeline, .key = *key, .next = *bucket};
		*bucket = i;
	}
	else
		shard->slots[i].used = true;
	if (lsn > shard->slots[i].lsn)
	{
		memcpy(shard->pages + (size_t) i * BLCKSZ, page, BLCKSZ);
		shard->slots[i].lsn = lsn;
	}
	pthread_mutex_unlock(&shard->lock);
}

void
page_store_stats(PageStore *cache, PageStoreStats *stats)
{
	memset(stats, 0, sizeof(*stats));
	stats->limit = (uint64) cache->slots_per_shard * NSHARDS;
	for (int i = 0; i < NSHARDS; i++)
	{
		Shard *shard = &cache->shards[i];

		pthread_mutex_lock(&shard->lock);
		stats->hits += shard->hits;
		stats->misses += shard->misses;
		stats->pages += shard->filled;
		pthread_mutex_unlock(&shard->lock);
	}
}
