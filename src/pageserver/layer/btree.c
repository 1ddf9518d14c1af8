/*
 * btree.c
 *	  The index of a layer file: see btree.h, and layer_format.h for the pages.
 *
 * Nothing in a page is trusted: a position is created only on a page whose
 * header keeps every access within the page.  The CRC of a page is computed at
 * its first use, over a copy that is read from the file: if the disk cannot read
 * the page, this is an error, whereas touching the mapping would terminate the
 * process with SIGBUS.
 */
#include "ps_fe.h"

#include <sys/mman.h>
#include <unistd.h>

#include "port/pg_crc32c.h"

#include "bytes.h"
#include "layer/btree.h"
#include "layer/layer_file.h"
#include "layer/layer_stream.h"
#include "layer/layer_output.h"
#include "sqlstate.h"

/*
 * Most entries of a page.  With one byte per key after the prefix, there are at
 * most 256 distinct keys; with two bytes, no more than this fit; with three,
 * fewer.
 */
#define PAGE_ENTRIES_MAX ((LAYER_BLOCK_SIZE - INDEX_PREFIX) / (2 + INDEX_VALUE_SIZE))

struct BtreeBuilder
{
	LayerOutput *out;
	bool in_output; /* pages are written to out; otherwise kept in pending */
	char *pending;
	size_t npending;
	size_t pending_cap;
	int key_size;
	int level;      /* of the page that is being filled */
	uint32 pages;   /* completed, on all levels */
	uint64 entries; /* in leaves */

	/* the page that is being filled */
	int count;
	uint8 keys[PAGE_ENTRIES_MAX][DELTA_KEY_SIZE];
	uint64 values[PAGE_ENTRIES_MAX];

	/* the first key of each completed page of this level */
	uint8 *first_keys;
	uint32 nfirst;
	uint32 first_cap;
};

BtreeBuilder *
btree_builder_create(LayerOutput *out, int key_size)
{
	BtreeBuilder *builder = pg_malloc0(sizeof(BtreeBuilder));

	builder->out = out;
	builder->key_size = key_size;
	return builder;
}

void
btree_builder_free(BtreeBuilder *builder)
{
	if (builder == NULL)
		return;
	free(builder->first_keys);
	free(builder->pending);
	free(builder);
}

static int
common_prefix(const uint8 *a, const uint8 *b, int size)
{
	int n = 0;

	while (n < size && a[n] == b[n])
		n++;
	return n;
}

static pg_crc32c
page_crc(const uint8 *page)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, page + INDEX_PAGE_NUMBER, LAYER_BLOCK_SIZE - INDEX_PAGE_NUMBER);
	FIN_CRC32C(crc);
	return crc;
}

size_t
btree_builder_buffered(const BtreeBuilder *builder)
{
	return builder->npending;
}

PsError *
btree_builder_begin_output(BtreeBuilder *builder)
{
	PsError *err = layer_output_begin_index(builder->out);

	if (err == NULL && builder->npending > 0)
		err = layer_output_append(builder->out, builder->pending, builder->npending);
	free(builder->pending);
	builder->pending = NULL;
	builder->npending = builder->pending_cap = 0;
	builder->in_output = true;
	return err;
}

static PsError *
append_page(BtreeBuilder *builder, const uint8 *page)
{
	if (builder->in_output)
		return layer_output_append(builder->out, page, LAYER_BLOCK_SIZE);
	if (builder->npending == builder->pending_cap)
	{
		builder->pending_cap = Max(16 * LAYER_BLOCK_SIZE, builder->pending_cap * 2);
		builder->pending = pg_realloc(builder->pending, builder->pending_cap);
	}
	memcpy(builder->pending + builder->npending, page, LAYER_BLOCK_SIZE);
	builder->npending += LAYER_BLOCK_SIZE;
	return NULL;
}

/* Writes the page that is being filled. */
static PsError *
write_page(BtreeBuilder *builder)
{
	uint8 page[LAYER_BLOCK_SIZE] = {0};
	int prefix = common_prefix(builder->keys[0], builder->keys[builder->count - 1], builder->key_size);
	int rest = builder->key_size - prefix;
	uint8 *p = page + INDEX_PREFIX;

	ps_put32(page + INDEX_PAGE_NUMBER, builder->pages);
	page[INDEX_LEVEL] = (uint8) builder->level;
	page[INDEX_KEY_SIZE] = (uint8) builder->key_size;
	page[INDEX_PREFIX_LENGTH] = (uint8) prefix;
	ps_put16(page + INDEX_COUNT, (uint16) builder->count);
	memcpy(p, builder->keys[0], prefix);
	p += prefix;
	for (int i = 0; i < builder->count; i++, p += rest)
		memcpy(p, builder->keys[i] + prefix, rest);
	for (int i = 0; i < builder->count; i++, p += INDEX_VALUE_SIZE)
	{
		uint64 value = pg_hton64(builder->values[i]);

		memcpy(p, (char *) &value + 2, INDEX_VALUE_SIZE);
	}
	ps_put32(page + INDEX_CRC, page_crc(page));
	PS_TRY(append_page(builder, page));

	if (builder->nfirst == builder->first_cap)
	{
		builder->first_cap = Max(1024, builder->first_cap * 2);
		builder->first_keys = pg_realloc(builder->first_keys, (size_t) builder->first_cap * DELTA_KEY_SIZE);
	}
	memcpy(builder->first_keys + (size_t) builder->nfirst++ * DELTA_KEY_SIZE, builder->keys[0], DELTA_KEY_SIZE);
	builder->pages++;
	builder->count = 0;
	return NULL;
}

static PsError *
add(BtreeBuilder *builder, const uint8 *key, uint64 value)
{
	if (builder->count > 0)
	{
		int prefix = common_prefix(builder->keys[0], key, builder->key_size);
		int size = INDEX_PREFIX + prefix +
				   (builder->count + 1) * (builder->key_size - prefix + INDEX_VALUE_SIZE);

		if (size > LAYER_BLOCK_SIZE || builder->count == PAGE_ENTRIES_MAX)
			PS_TRY(write_page(builder));
	}
	memcpy(builder->keys[builder->count], key, builder->key_size);
	builder->values[builder->count++] = value;
	return NULL;
}

PsError *
btree_builder_add(BtreeBuilder *builder, const uint8 *key, uint64 value)
{
	builder->entries++;
	return add(builder, key, value);
}

PsError *
btree_builder_finish(BtreeBuilder *builder)
{
	LayerSummary *summary = layer_output_summary(builder->out);

	if (builder->entries == 0)
		return NULL;
	PS_TRY(write_page(builder));
	summary->leaf_pages = builder->pages;
	while (builder->nfirst > 1)
	{
		uint8 *children = builder->first_keys;
		uint32 nchildren = builder->nfirst;
		uint32 first_child = builder->pages - nchildren;
		PsError *err = NULL;

		builder->first_keys = NULL;
		builder->nfirst = builder->first_cap = 0;
		builder->level++;
		for (uint32 i = 0; i < nchildren && err == NULL; i++)
			err = add(builder, children + (size_t) i * DELTA_KEY_SIZE, first_child + i);
		free(children);
		PS_TRY(err);
		PS_TRY(write_page(builder));
	}
	summary->entries = builder->entries;
	summary->index_pages = builder->pages;
	summary->root = builder->pages - 1;
	summary->levels = builder->level + 1;
	return NULL;
}

PsError *
btree_open(Btree *tree, const LayerFile *file)
{
	const LayerSummary *summary = &file->summary;
	uint64 start = TYPEALIGN_DOWN(sysconf(_SC_PAGESIZE), summary->index_start);
	void *map;

	tree->file = file;
	tree->key_size = summary->type == LAYER_IMAGE ? IMAGE_KEY_SIZE : DELTA_KEY_SIZE;
	tree->checked = pg_malloc0((summary->index_pages / 64 + 1) * sizeof(*tree->checked));
	if (summary->index_pages == 0)
		return NULL;
	map = mmap(NULL, summary->file_size - start, PROT_READ, MAP_SHARED, file->fd, (off_t) start);
	if (map == MAP_FAILED)
		return ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "could not map the index of layer file \"%s\": %m", file->path);
	(void) madvise(map, summary->file_size - start, MADV_RANDOM);
	tree->map = map;
	tree->map_size = summary->file_size - start;
	tree->pages = (uint8 *) map + (summary->index_start - start);
	return NULL;
}

void
btree_close(Btree *tree)
{
	if (tree->map != NULL)
		munmap(tree->map, tree->map_size);
	free((void *) tree->checked);
}

PsError *
btree_entry_ref(const BtreePos *pos, XLogRecPtr lsn, ValueRef *ref)
{
	uint64 value = btree_value(pos);
	uint8 kind = value >> ENTRY_KIND_SHIFT & 3;

	if (kind > VALUE_RECORD || (kind != VALUE_RECORD && !(value & ENTRY_WILL_INIT)))
		return layer_damaged(pos->tree->file->path, btree_pos_offset(pos),
							 "entry %d of index page %u has value %012llX, of no known kind", pos->entry, pos->page,
							 (unsigned long long) value);
	*ref = (ValueRef) {
		.lsn = lsn,
		.kind = kind,
		.place = VALUE_IN_LAYER,
		.will_init = (value & ENTRY_WILL_INIT) != 0,
		.shared = (value & ENTRY_SHARED) != 0,
		.at.offset = value >> ENTRY_OFFSET_SHIFT};
	return NULL;
}

uint64
btree_pos_offset(const BtreePos *pos)
{
	return pos->tree->file->summary.index_start + (uint64) pos->page * LAYER_BLOCK_SIZE;
}

void
btree_part_place(const Btree *tree, uint32 part, uint64 *offset, size_t *len)
{
	const LayerSummary *summary = &tree->file->summary;

	if (part == BTREE_PADDING(tree))
	{
		*offset = summary->values_end;
		*len = summary->index_start - summary->values_end;
	}
	else
	{
		*offset = summary->index_start + (uint64) part * LAYER_BLOCK_SIZE;
		*len = LAYER_BLOCK_SIZE;
	}
}

bool
btree_part_is_checked(const Btree *tree, uint32 part)
{
	return (atomic_load_explicit(&tree->checked[part / 64], memory_order_relaxed) >> (part % 64) & 1) != 0;
}

void
btree_forget(const Btree *tree, uint64 offset, uint64 len)
{
	uint64 start = tree->file->summary.index_start;
	uint64 end = offset + len;

	if (end <= start)
		return;
	for (uint64 part = offset <= start ? 0 : (offset - start) / LAYER_BLOCK_SIZE;
		 part < tree->file->summary.index_pages && start + part * LAYER_BLOCK_SIZE < end; part++)
		atomic_fetch_and_explicit(&tree->checked[part / 64], ~(UINT64CONST(1) << (part % 64)), memory_order_relaxed);
}

static PsError *
check_page(const Btree *tree, uint32 number, const uint8 *page)
{
	uint64 offset = tree->file->summary.index_start + (uint64) number * LAYER_BLOCK_SIZE;
	pg_crc32c crc = page_crc(page);

	if (crc != ps_get32(page + INDEX_CRC))
		return layer_damaged(tree->file->path, offset, "checksum of index page %u is %08X, expected %08X", number, crc,
							 ps_get32(page + INDEX_CRC));
	if (number != ps_get32(page + INDEX_PAGE_NUMBER))
		return layer_damaged(tree->file->path, offset, "index page %u is here, expected page %u",
							 ps_get32(page + INDEX_PAGE_NUMBER), number);
	return NULL;
}

PsError *
btree_part_check(const Btree *tree, uint32 part, const uint8 *bytes)
{
	if (part == BTREE_PADDING(tree))
		PS_TRY(layer_padding_check(tree->file, bytes));
	else
		PS_TRY(check_page(tree, part, bytes));
	atomic_fetch_or_explicit(&tree->checked[part / 64], UINT64CONST(1) << (part % 64), memory_order_relaxed);
	return NULL;
}

static bool
is_missing(const uint32 *missing)
{
	return missing != NULL && *missing != BTREE_NO_PART;
}

/* Reads and checks a part at its first use; missing: see btree_seek_le(). */
static PsError *
use_first(const Btree *tree, uint32 part, uint32 *missing)
{
	uint8 bytes[LAYER_BLOCK_SIZE];
	uint64 offset;
	size_t len;
	PsError *err;
	int tries = 0;

	btree_part_place(tree, part, &offset, &len);
	do
	{
		if (missing == NULL)
			PS_TRY(layer_file_read(tree->file, offset, bytes, len));
		else if (!layer_file_read_cached(tree->file, offset, bytes, len))
		{
			*missing = part;
			return NULL;
		}
		err = btree_part_check(tree, part, bytes);
	} while (layer_fetch_again(tree->file, offset, len, tries++, &err));
	return err;
}

/* The padding of a part file is not fetched only to be checked. */
static bool
padding_is_present(const Btree *tree)
{
	const LayerSummary *summary = &tree->file->summary;

	return layer_file_has(tree->file, summary->values_end, summary->index_start - summary->values_end);
}

/*
 * What was fetched, and is not synced yet, may become a hole (presence_is_durable()),
 * so one check does not suffice for a page that is used through the mapping.  In a
 * file of a single thread, one that was loaded a moment ago is not checked again.
 */
static bool
must_check_again(const Btree *tree, uint32 number)
{
	const LayerCache *cache = tree->file->cache;
	uint64 offset = tree->file->summary.index_start + (uint64) number * LAYER_BLOCK_SIZE;

	if (likely(cache == NULL) || presence_is_durable(cache->presence, offset, LAYER_BLOCK_SIZE))
		return false;
	return cache->stream == NULL || !layer_stream_is_last_page(cache->stream, number);
}

/* Like btree_load_page(); if *missing is set, pos is not. */
static PsError *
load_page(const Btree *tree, uint32 number, int level, BtreePos *pos, uint32 *missing)
{
	const LayerFile *file = tree->file;
	const uint8 *page;

	if (number >= file->summary.index_pages)
		return layer_damaged(file->path, file->summary.index_start,
							 "the index refers to page %u, but has only %u pages", number,
							 file->summary.index_pages);
	if (!btree_part_is_checked(tree, number) || unlikely(must_check_again(tree, number)))
	{
		PS_TRY(use_first(tree, number, missing));
		if (is_missing(missing))
			return NULL;
	}

	page = tree->pages + (size_t) number * LAYER_BLOCK_SIZE;
	pos->tree = tree;
	pos->page = number;
	pos->level = page[INDEX_LEVEL];
	pos->prefix_size = page[INDEX_PREFIX_LENGTH];
	pos->count = ps_get16(page + INDEX_COUNT);
	pos->entry = 0;
	if (pos->level != level || page[INDEX_KEY_SIZE] != tree->key_size || pos->prefix_size > tree->key_size ||
		pos->count == 0 ||
		INDEX_PREFIX + pos->prefix_size + pos->count * (tree->key_size - pos->prefix_size + INDEX_VALUE_SIZE) >
			LAYER_BLOCK_SIZE)
		return layer_damaged(file->path, btree_pos_offset(pos),
							 "index page %u has level %d, key size %d, prefix %d and %d entries, "
							 "which cannot be right at level %d with key size %d",
							 number, pos->level, page[INDEX_KEY_SIZE], pos->prefix_size, pos->count, level,
							 tree->key_size);
	pos->prefix = page + INDEX_PREFIX;
	pos->suffixes = pos->prefix + pos->prefix_size;
	pos->values = pos->suffixes + pos->count * (tree->key_size - pos->prefix_size);
	return NULL;
}

PsError *
btree_load_page(const Btree *tree, uint32 number, int level, BtreePos *pos)
{
	return load_page(tree, number, level, pos, NULL);
}

/* Number of entries of the page that are <= key. */
static int
count_le(const BtreePos *pos, const uint8 *key)
{
	int rest = pos->tree->key_size - pos->prefix_size;
	int cmp = memcmp(key, pos->prefix, pos->prefix_size);
	int lo = 0;
	int hi = pos->count;

	if (cmp != 0)
		return cmp < 0 ? 0 : pos->count;
	key += pos->prefix_size;
	while (lo < hi)
	{
		int mid = (lo + hi) / 2;

		if (memcmp(pos->suffixes + mid * rest, key, rest) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

PsError *
btree_seek_le(const Btree *tree, const uint8 *key, BtreePos *pos, bool *found, uint32 *missing)
{
	uint64 number = tree->file->summary.root;

	*found = false;
	if (!btree_part_is_checked(tree, BTREE_PADDING(tree)) && padding_is_present(tree))
	{
		PS_TRY(use_first(tree, BTREE_PADDING(tree), missing));
		if (is_missing(missing))
			return NULL;
	}
	for (int level = (int) tree->file->summary.levels - 1; level >= 0; level--)
	{
		int n;

		PS_TRY(load_page(tree, (uint32) Min(number, PG_UINT32_MAX), level, pos, missing));
		if (is_missing(missing))
			return NULL;
		n = count_le(pos, key);
		if (n == 0)
			return NULL;
		pos->entry = n - 1;
		number = btree_value(pos);
		*found = level == 0;
	}
	return NULL;
}

PsError *
btree_seek_ge(const Btree *tree, const uint8 *key, BtreePos *pos, bool *found)
{
	uint8 at[DELTA_KEY_SIZE];

	PS_TRY(btree_seek_le(tree, key, pos, found, NULL));
	if (!*found)
	{
		if (tree->file->summary.levels == 0)
			return NULL;
		*found = true;
		return btree_load_page(tree, 0, 0, pos);
	}
	btree_key(pos, at);
	if (memcmp(at, key, tree->key_size) < 0)
		return btree_next(pos, found);
	return NULL;
}

PsError *
btree_return(const Btree *tree, BtreePlace place, BtreePos *pos)
{
	PS_TRY(btree_load_page(tree, place.page, 0, pos));
	pos->entry = place.entry;
	if (place.entry < pos->count)
		return NULL;
	return layer_damaged(tree->file->path, btree_pos_offset(pos), "index page %u has %d entries, and had more before",
						 place.page, pos->count);
}

PsError *
btree_prev(BtreePos *pos, bool *found, uint32 *missing)
{
	*found = true;
	if (pos->entry > 0)
		pos->entry--;
	else if (pos->page > 0)
	{
		PS_TRY(load_page(pos->tree, pos->page - 1, 0, pos, missing));
		*found = !is_missing(missing);
		pos->entry = pos->count - 1;
	}
	else
		*found = false;
	return NULL;
}

PsError *
btree_next(BtreePos *pos, bool *found)
{
	*found = true;
	if (pos->entry + 1 < pos->count)
		pos->entry++;
	else if (pos->page + 1 < pos->tree->file->summary.leaf_pages)
		return btree_load_page(pos->tree, pos->page + 1, 0, pos);
	else
		*found = false;
	return NULL;
}
