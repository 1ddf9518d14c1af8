/*
 * rel_sizes.c
 *	  The ingest thread's cache of relation sizes: see ingest/rel_sizes.h.
 */
#include "ps_fe.h"

#include "read/read.h"
#include "read/view.h"
#include "common/hashfn.h"

#include "ingest/rel_sizes.h"

/* Maximum number of cached sizes; when there are more, the cache is emptied. */
#define MAX_CACHED_SIZES 100000

static uint32
size_hash(PsRel rel, ForkNumber fork)
{
	return murmurhash32(rel.rel ^ murmurhash32(rel.db ^ murmurhash32(rel.spc * 4 + (uint32) fork)));
}

void
sizes_forget(SizeCache *cache)
{
	for (uint32 i = 0; i < cache->capacity; i++)
		if (cache->entries[i].used)
			relsize_free(&cache->entries[i].size);
	free(cache->entries);
	cache->capacity = 1024;
	cache->entries = pg_malloc0(cache->capacity * sizeof(CachedSize));
	cache->n = 0;
}

/* The entry of a fork, or the unused entry for it. */
static CachedSize *
place_of(SizeCache *cache, PsRel rel, ForkNumber fork)
{
	uint32 i = size_hash(rel, fork) & (cache->capacity - 1);

	while (cache->entries[i].used && (cache->entries[i].fork != fork || !ps_rel_equal(cache->entries[i].rel, rel)))
		i = (i + 1) & (cache->capacity - 1);
	return &cache->entries[i];
}

static void
grow(SizeCache *cache)
{
	CachedSize *old = cache->entries;
	uint32 n = cache->capacity;

	cache->capacity *= 2;
	cache->entries = pg_malloc0(cache->capacity * sizeof(CachedSize));
	for (uint32 i = 0; i < n; i++)
		if (old[i].used)
			*place_of(cache, old[i].rel, old[i].fork) = old[i];
	free(old);
}

PsError *
sizes_get(SizeCache *cache, Timeline *tl, PsRel rel, ForkNumber fork, CachedSize **result)
{
	CachedSize *entry = place_of(cache, rel, fork);
	ReadView view;
	RelSize size = {0};
	bool exists;
	PsError *err;

	if (entry->used)
	{
		*result = entry;
		return NULL;
	}
	PS_TRY(view_open(&view, tl, UINT64_MAX - 1));
	err = read_relsize(&view, rel, fork, UINT64_MAX - 1, &exists, &size);
	view_close(&view);
	if (err != NULL)
		return err;
	if (cache->n >= MAX_CACHED_SIZES)
		sizes_forget(cache);
	else if (cache->n * 2 >= cache->capacity)
		grow(cache);
	entry = place_of(cache, rel, fork);
	*entry = (CachedSize) {.rel = rel, .fork = (uint8) fork, .used = true, .exists = exists, .size = size};
	cache->n++;
	*result = entry;
	return NULL;
}

void
sizes_free(SizeCache *cache)
{
	sizes_forget(cache);
	free(cache->entries);
}
