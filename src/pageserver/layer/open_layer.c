/*
 * open_layer.c
 *	  The layer in memory: a hash table of keys with their versions.
 *
 * The keys are distributed over shards by their hash.  Each shard has a
 * read-write lock, which is held while one key is looked up or changed.  Keys of
 * blocks, which are many and are never scanned, are separate from the few other
 * keys, which are.
 *
 * The versions of a key are an array (a "chain") in LSN order, in which a reader
 * finds the newest version at or below an LSN by bisection: a hot page may get
 * 100,000 versions.  Chains grow by doubling, and a chain that was outgrown is
 * reused for another key.  Everything except the hash tables and the longest
 * chains is allocated in an arena, which is freed with the layer.
 */
#include "ps_fe.h"

#include "layer/open_layer_impl.h"

#define FIRST_CHUNK ((size_t) 64 * 1024)
#define LAST_CHUNK  ((size_t) 1024 * 1024)
#define FIRST_SLOTS 64

Layer *
open_layer_create(XLogRecPtr lsn_start)
{
	Layer *layer = pg_malloc0(sizeof(Layer));
	OpenLayer *open;
	pthread_rwlockattr_t attr;

	if (posix_memalign((void **) &open, PG_CACHE_LINE_SIZE, sizeof(OpenLayer)) != 0)
	{
		ps_log(PS_FATAL, "out of memory");
		exit(1);
	}
	memset(open, 0, sizeof(OpenLayer));
	open->chunk_size = FIRST_CHUNK;
	/* a steady stream of readers of a hot page must not starve ingest */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	for (int i = 0; i < NSHARDS; i++)
		pthread_rwlock_init(&open->shards[i].lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	atomic_init(&open->memory, sizeof(Layer) + sizeof(OpenLayer));
	atomic_init(&open->count, 0);
	atomic_init(&open->frozen, false);

	atomic_init(&layer->refs, 1);
	layer->open = open;
	layer->info.type = LAYER_OPEN;
	layer->info.lsn_start = lsn_start;
	return layer;
}

void
open_layer_free(OpenLayer *open)
{
	for (int i = 0; i < NSHARDS; i++)
	{
		pthread_rwlock_destroy(&open->shards[i].lock);
		free(open->shards[i].slots);
	}
	for (LongChain *chain = open->long_chains, *next; chain != NULL; chain = next)
	{
		next = chain->next;
		free(chain);
	}
	for (ArenaChunk *chunk = open->chunks, *next; chunk != NULL; chunk = next)
	{
		next = chunk->next;
		free(chunk);
	}
	free(open);
}

/* ---- memory; for the writer only ---- */

static void
count_memory(OpenLayer *open, int64 bytes)
{
	atomic_fetch_add_explicit(&open->memory, (uint64) bytes, memory_order_relaxed);
}

static void *
arena_alloc(OpenLayer *open, size_t size)
{
	void *p;

	size = MAXALIGN(size);
	if ((size_t) (open->arena_end - open->arena_next) < size)
	{
		bool is_large = size > open->chunk_size / 2;
		size_t chunk_size = is_large ? size : open->chunk_size;
		ArenaChunk *chunk = pg_malloc(sizeof(ArenaChunk) + chunk_size);

		count_memory(open, sizeof(ArenaChunk) + chunk_size);
		chunk->next = open->chunks;
		open->chunks = chunk;
		if (is_large)
			return chunk->data; /* continue to allocate from the current chunk */
		open->arena_next = chunk->data;
		open->arena_end = chunk->data + chunk_size;
		open->chunk_size = Min(open->chunk_size * 2, LAST_CHUNK);
	}
	p = open->arena_next;
	open->arena_next += size;
	return p;
}

static int
chain_class(uint32 cap)
{
	int class = 0;

	while ((uint32) CHAIN_MIN << class < cap)
		class ++;
	return class;
}

/* Allocates a chain that is too long for the arena, or enlarges "old" if that is not NULL. */
static LongChain *
long_chain_alloc(OpenLayer *open, LongChain *old, uint32 cap)
{
	LongChain *chain = pg_realloc(old, offsetof(LongChain, versions) + (size_t) cap * sizeof(Version));

	count_memory(open, (int64) (old != NULL ? cap / 2 : cap) * sizeof(Version));
	if (old == NULL)
	{
		chain->prev = NULL;
		chain->next = open->long_chains;
	}
	if (chain->prev != NULL)
		chain->prev->next = chain;
	else
		open->long_chains = chain;
	if (chain->next != NULL)
		chain->next->prev = chain;
	return chain;
}

/*
 * Ensures that an entry, which has at least one version, has room for one more.
 * Returns its versions.
 */
static Version *
make_room(OpenLayer *open, Entry *entry)
{
	uint32 old_cap = entry->count > 1 ? entry->u.chain.cap : 1;
	Version *old = unconstify(Version *, entry_versions(entry));
	uint32 cap = Max(CHAIN_MIN, old_cap * 2);
	int class = chain_class(cap);
	Version *versions;

	if (entry->count < old_cap)
		return old;

	if (class > CHAIN_CLASSES)
	{
		LongChain *chain = (LongChain *) ((char *) old - offsetof(LongChain, versions));

		versions = long_chain_alloc(open, chain, cap)->versions;
	}
	else
	{
		if (class == CHAIN_CLASSES)
			versions = long_chain_alloc(open, NULL, cap)->versions;
		else if (open->free_chains[class] != NULL)
		{
			versions = open->free_chains[class];
			open->free_chains[class] = versions->at.next_free;
		}
		else
			versions = arena_alloc(open, cap * sizeof(Version));

		memcpy(versions, old, entry->count * sizeof(Version));
		if (old_cap > 1)
		{
			old->at.next_free = open->free_chains[class - 1];
			open->free_chains[class - 1] = old;
		}
	}
	entry->u.chain.versions = versions;
	entry->u.chain.cap = cap;
	return versions;
}

/* ---- the hash table ---- */

static bool
is_block_key(const PsKey *key)
{
	return key->kind == PS_KEY_RELBLOCK || key->kind == PS_KEY_SLRU_BLOCK;
}

/* Combines all bits of the key; the last steps are those of MurmurHash3. */
static uint64
key_hash(const PsKey *key)
{
	uint64 h = (uint64) key->rel << 32 | key->blk;

	h ^= ((uint64) key->spc * UINT64CONST(0x9E3779B97F4A7C15)) ^
		 ((uint64) key->db * UINT64CONST(0xC2B2AE3D27D4EB4F)) ^
		 (((uint64) key->kind << 8 | key->fork) * UINT64CONST(0x165667B19E3779F9));
	h ^= h >> 33;
	h *= UINT64CONST(0xff51afd7ed558ccd);
	h ^= h >> 33;
	h *= UINT64CONST(0xc4ceb9fe1a85ec53);
	h ^= h >> 33;
	return h;
}

static int
shard_number(const PsKey *key, uint64 hash)
{
	StaticAssertStmt(BLOCK_SHARDS == 64, "6 bits of the hash choose the shard");
	return is_block_key(key) ? (int) (hash >> 58) : OTHER_SHARD;
}

/* Returns the slot of the key, or the free slot where it belongs.  The table is not empty. */
static Slot *
find_slot(const Shard *shard, const PsKey *key, uint32 hash)
{
	uint32 mask = shard->nslots - 1;

	for (uint32 i = hash & mask;; i = (i + 1) & mask)
	{
		Slot *slot = &shard->slots[i];

		if (slot->entry == NULL || (slot->hash == hash && ps_key_cmp(&slot->entry->key, key) == 0))
			return slot;
	}
}

static void
grow_table(OpenLayer *open, Shard *shard)
{
	Slot *old = shard->slots;
	uint32 nold = shard->nslots;

	shard->nslots = nold == 0 ? FIRST_SLOTS : nold * 2;
	shard->slots = pg_malloc0(shard->nslots * sizeof(Slot));
	count_memory(open, (int64) (shard->nslots - nold) * sizeof(Slot));
	for (uint32 i = 0; i < nold; i++)
	{
		uint32 at = old[i].hash & (shard->nslots - 1);

		if (old[i].entry == NULL)
			continue;
		while (shard->slots[at].entry != NULL)
			at = (at + 1) & (shard->nslots - 1);
		shard->slots[at] = old[i];
	}
	free(old);
}

static void
note_key(OpenLayer *open, const PsKey *key)
{
	bool first = atomic_load_explicit(&open->count, memory_order_relaxed) == 0;

	if (first || ps_key_cmp(key, &open->key_min) < 0)
		open->key_min = *key;
	if (first || ps_key_cmp(key, &open->key_max) > 0)
		open->key_max = *key;
}

/*
 * Adds a version after those that its key has already.  If the key has a version
 * at the same LSN, this one replaces it.  (An LSN below the last is not expected,
 * but would be inserted in order.)
 */
static void
put(Layer *layer, const PsKey *key, const Version *version)
{
	OpenLayer *open = layer->open;
	uint64 hash = key_hash(key);
	Shard *shard = &open->shards[shard_number(key, hash)];
	Version *versions;
	Slot *slot;
	Entry *entry;
	uint32 at;

	Assert(!atomic_load(&open->frozen));
	pthread_rwlock_wrlock(&shard->lock);
	if (shard->nkeys >= shard->nslots / 4 * 3)
		grow_table(open, shard);
	slot = find_slot(shard, key, (uint32) hash);
	if (slot->entry == NULL)
	{
		note_key(open, key);
		entry = arena_alloc(open, sizeof(Entry));
		memset(entry, 0, sizeof(Entry));
		entry->key = *key;
		slot->entry = entry;
		slot->hash = (uint32) hash;
		shard->nkeys++;
	}
	entry = slot->entry;

	at = entry->count;
	versions = unconstify(Version *, entry_versions(entry));
	while (at > 0 && versions[at - 1].lsn > version->lsn)
		at--;
	if (at > 0 && versions[at - 1].lsn == version->lsn)
		versions[at - 1] = *version;
	else
	{
		if (entry->count > 0)
			versions = make_room(open, entry);
		memmove(versions + at + 1, versions + at, (entry->count - at) * sizeof(Version));
		versions[at] = *version;
		entry->count++;
		atomic_fetch_add_explicit(&open->count, 1, memory_order_relaxed);
	}
	pthread_rwlock_unlock(&shard->lock);
	open->lsn_max = Max(open->lsn_max, version->lsn);
}

void
open_layer_put_record(Layer *layer, const PsKey *key, XLogRecPtr lsn, XLogRecPtr record_start, uint32 len,
					  bool will_init)
{
	Version version = {.lsn = lsn,
					   .at.record_start = record_start,
					   .len = len,
					   .kind = VALUE_RECORD,
					   .will_init = will_init};

	put(layer, key, &version);
}

void
open_layer_put_value(Layer *layer, const PsKey *key, XLogRecPtr lsn, ValueKind kind, const char *data, uint32 len)
{
	Version version = {.lsn = lsn, .len = len, .kind = kind, .will_init = true};

	version.at.data = "";
	if (len > 0)
	{
		char *copy = arena_alloc(layer->open, len);

		memcpy(copy, data, len);
		version.at.data = copy;
	}
	put(layer, key, &version);
}

void
open_layer_cut(Layer *layer, XLogRecPtr lsn)
{
	OpenLayer *open = layer->open;
	uint64 removed = 0;

	for (int i = 0; i < NSHARDS; i++)
	{
		Shard *shard = &open->shards[i];

		pthread_rwlock_wrlock(&shard->lock);
		for (uint32 k = 0; k < shard->nslots; k++)
		{
			Entry *entry = shard->slots[k].entry;
			const Version *versions = entry != NULL ? entry_versions(entry) : NULL;
			Version first;
			uint32 n = entry != NULL ? entry->count : 0;

			while (n > 0 && versions[n - 1].lsn > lsn)
				n--;
			if (entry == NULL || n == entry->count)
				continue;
			removed += entry->count - n;
			first = versions[0];
			/* a chain is kept, but a single version is stored in the entry */
			if (entry->count > 1 && n <= 1)
				entry->u.one = first;
			entry->count = n;
		}
		pthread_rwlock_unlock(&shard->lock);
	}
	atomic_fetch_sub_explicit(&open->count, removed, memory_order_relaxed);
	open->lsn_max = Min(open->lsn_max, lsn);
}

void
open_layer_freeze(Layer *layer, XLogRecPtr lsn_end)
{
	OpenLayer *open = layer->open;

	if (atomic_load_explicit(&open->count, memory_order_relaxed) > 0)
	{
		layer->info.key_min = open->key_min;
		layer->info.key_max = open->key_max;
	}
	layer->info.lsn_end = Max(Max(lsn_end, open->lsn_max + 1), layer->info.lsn_start + 1);
	atomic_store_explicit(&open->frozen, true, memory_order_release);
}

size_t
open_layer_memory(const Layer *layer)
{
	return atomic_load_explicit(&layer->open->memory, memory_order_relaxed);
}

uint64
open_layer_count(const Layer *layer)
{
	return atomic_load_explicit(&layer->open->count, memory_order_relaxed);
}

/* ---- readers ---- */

/* Locks the shard, unless the layer is frozen; returns whether it did. */
static bool
lock_shard(const OpenLayer *open, const Shard *shard)
{
	if (atomic_load_explicit(&open->frozen, memory_order_acquire))
		return false;
	pthread_rwlock_rdlock(unconstify(pthread_rwlock_t *, &shard->lock));
	return true;
}

static void
unlock_shard(const Shard *shard, bool locked)
{
	if (locked)
		pthread_rwlock_unlock(unconstify(pthread_rwlock_t *, &shard->lock));
}

/* Returns the number of versions with LSN <= lsn_max. */
static uint32
count_versions(const Entry *entry, XLogRecPtr lsn_max)
{
	const Version *versions = entry_versions(entry);
	uint32 lo = 0;
	uint32 hi = entry->count;

	/* most callers want the newest; there is none at all if open_layer_cut() removed them */
	if (hi == 0 || versions[hi - 1].lsn <= lsn_max)
		return hi;
	while (lo < hi)
	{
		uint32 mid = lo + (hi - lo) / 2;

		if (versions[mid].lsn <= lsn_max)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void
make_ref(const Version *version, ValueRef *ref)
{
	*ref = (ValueRef) {
		.lsn = version->lsn,
		.kind = version->kind,
		.will_init = version->will_init,
		.len = version->len};
	if (version->kind == VALUE_RECORD)
	{
		ref->place = VALUE_IN_WAL;
		ref->at.record_start = version->at.record_start;
	}
	else
	{
		ref->place = VALUE_IN_MEMORY;
		ref->at.memory = version->at.data;
	}
}

PsError *
open_layer_collect(const Layer *layer, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max, ValueList *list,
				   bool *done)
{
	uint64 hash = key_hash(key);
	const Shard *shard = &layer->open->shards[shard_number(key, hash)];
	bool locked = lock_shard(layer->open, shard);
	Slot *slot = shard->nslots > 0 ? find_slot(shard, key, (uint32) hash) : NULL;

	if (slot != NULL && slot->entry != NULL)
	{
		const Version *versions = entry_versions(slot->entry);

		for (uint32 n = count_versions(slot->entry, lsn_max); n > 0 && versions[n - 1].lsn >= lsn_min && !*done; n--)
		{
			ValueRef ref;

			make_ref(&versions[n - 1], &ref);
			value_list_add(list, &ref);
			*done = ref.will_init;
		}
	}
	unlock_shard(shard, locked);
	return NULL;
}

/* Scans one shard.  The references are copied first, so that the callback does not block the writer. */
static PsError *
scan_shard(const OpenLayer *open, const Shard *shard, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn_max,
		   ScanCallback cb, void *arg)
{
	ValueList list = {0};
	PsKey *keys = NULL; /* the key of each version in the list */
	int keys_cap = 0;
	bool locked = lock_shard(open, shard);
	PsError *err = NULL;

	for (uint32 i = 0; i < shard->nslots; i++)
	{
		const Entry *entry = shard->slots[i].entry;

		if (entry == NULL || ps_key_cmp(&entry->key, lo) < 0 || ps_key_cmp(&entry->key, hi) > 0)
			continue;
		for (uint32 n = count_versions(entry, lsn_max); n > 0; n--)
		{
			ValueRef ref;

			make_ref(&entry_versions(entry)[n - 1], &ref);
			value_list_add(&list, &ref);
			if (list.cap != keys_cap)
			{
				keys_cap = list.cap;
				keys = pg_realloc(keys, keys_cap * sizeof(PsKey));
			}
			keys[list.n - 1] = entry->key;
		}
	}
	unlock_shard(shard, locked);

	for (int i = 0; i < list.n && err == NULL; i++)
		err = cb(arg, &keys[i], &list.refs[i]);
	free(list.refs);
	free(keys);
	return err;
}

PsError *
open_layer_scan(const Layer *layer, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn_max, ScanCallback cb, void *arg)
{
	const OpenLayer *open = layer->open;
	bool blocks = (lo->kind <= PS_KEY_RELBLOCK && hi->kind >= PS_KEY_RELBLOCK) ||
				  (lo->kind <= PS_KEY_SLRU_BLOCK && hi->kind >= PS_KEY_SLRU_BLOCK);

	for (int i = blocks ? 0 : OTHER_SHARD; i < NSHARDS; i++)
		PS_TRY(scan_shard(open, &open->shards[i], lo, hi, lsn_max, cb, arg));
	return NULL;
}
