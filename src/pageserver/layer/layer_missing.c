/*
 * layer_missing.c
 *	  What a search would have to wait for: collected, so that the caller can
 *	  read it all at once.  See layer_missing.h.
 *
 * These parts of a layer file are read at their first use after the file was
 * opened: the first block, with which opening is completed; the padding before
 * the index; the dictionary; each index page.  They are checked as at any first
 * use.
 */
#include "ps_fe.h"

#include "common/hashfn.h"
#include "common/logging.h"

#include "layer/layer_cache.h"
#include "layer/layer_dict.h"
#include "layer/layer_impl.h"
#include "layer/layer_stream.h"
#include "layer/layer_missing.h"

/* At most 4 MB of memory to read all parts, most of which are index pages of 8 kB. */
#define MAX_PARTS 512

/* Numbers of the parts that have none in btree.h. */
#define PART_FIRST_BLOCK (-1)
#define PART_DICT        (-2)

struct LayerPart
{
	const Layer *layer;
	int64 number;    /* see btree.h, or one of the above */
	bool elsewhere;  /* another thread reads this first block */
	LayerFile *file; /* while it is being read; a first block's is not the layer's file yet; NULL: it has no place */
	uint64 offset;
	size_t len;
};

typedef struct PartKey
{
	const Layer *layer;
	int64 number;
} PartKey;

typedef struct PartEntry
{
	PartKey key;
	char status;
} PartEntry;

#define SH_PREFIX          partset
#define SH_ELEMENT_TYPE    PartEntry
#define SH_KEY_TYPE        PartKey
#define SH_KEY             key
#define SH_HASH_KEY(tb, k) hash_bytes((const unsigned char *) &(k), sizeof(k))
#define SH_EQUAL(tb, a, b) ((a).layer == (b).layer && (a).number == (b).number)
#define SH_SCOPE           static inline
#define SH_RAW_ALLOCATOR   pg_malloc0
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static void
add(LayerMissing *missing, const Layer *layer, int64 number)
{
	bool found;

	if (missing->n == MAX_PARTS)
		return;
	if (missing->parts == NULL)
	{
		missing->parts = pg_malloc(MAX_PARTS * sizeof(LayerPart));
		missing->known = partset_create(64, NULL);
	}
	partset_insert(missing->known, (PartKey) {layer, number}, &found);
	if (!found)
		missing->parts[missing->n++] = (LayerPart) {.layer = layer, .number = number};
}

/* Adds a part that will probably be needed as well, unless it was checked already. */
static void
add_ahead(LayerMissing *missing, const Layer *layer, uint32 part)
{
	if (!btree_part_is_checked(&layer_file_of(layer)->index, part))
		add(missing, layer, part);
}

/*
 * Does a search end at a layer with a missing part?  At an image file,
 * yes: most likely it has the key, so that no older layer is needed.  If it does
 * not, the repeated search will continue.
 */
static bool
ends_search(const LayerMissing *missing, const Layer *layer)
{
	return layer->info.type == LAYER_IMAGE || missing->n == MAX_PARTS;
}

bool
layer_missing_file(LayerMissing *missing, const Layer *layer)
{
	add(missing, layer, PART_FIRST_BLOCK);
	return ends_search(missing, layer);
}

bool
layer_missing_part(LayerMissing *missing, const Layer *layer, uint32 part, uint32 before)
{
	const LayerSummary *summary = &layer_file_of(layer)->summary;

	/* not add_ahead(): the search went on without this part, even if another thread has read it by now */
	add(missing, layer, part);
	for (uint32 i = 1; i <= before; i++)
		add_ahead(missing, layer, part - i);
	/* the padding is checked before the search begins: the root will be needed in any case */
	if (part == BTREE_PADDING(&layer_file_of(layer)->index) && summary->levels > 0)
		add_ahead(missing, layer, summary->root);
	if (layer_dict_is_missing(layer_file_of(layer)))
		layer_missing_dict(missing, layer);
	return ends_search(missing, layer);
}

void
layer_missing_dict(LayerMissing *missing, const Layer *layer)
{
	add(missing, layer, PART_DICT);
}

/* ---- for the caller that reads the parts ---- */

bool
layer_missing_place(LayerMissing *missing, int i, int *fd, uint64 *offset, size_t *len)
{
	LayerPart *part = &missing->parts[i];

	part->len = LAYER_BLOCK_SIZE;
	if (part->number == PART_FIRST_BLOCK)
	{
		if (!layer_open_ahead(part->layer, &part->file, &part->elsewhere))
			return false;
	}
	else
	{
		/* if it was closed meanwhile, it is not opened again for this part alone */
		if (!layer_acquire_if_open(part->layer))
			return false;
		part->file = layer_file_of(part->layer);
		if (part->number == PART_DICT)
		{
			part->offset = LAYER_BLOCK_SIZE;
			part->len = part->file->summary.dict_size;
		}
		else
			btree_part_place(&part->file->index, (uint32) part->number, &part->offset, &part->len);
	}
	*fd = part->file->fd;
	*offset = part->offset;
	*len = part->len;
	return true;
}

bool
layer_missing_is_present(const LayerMissing *missing, int i)
{
	const LayerPart *part = &missing->parts[i];

	return layer_file_has(part->file, part->offset, part->len);
}

int
layer_missing_fetch(LayerMissing *missing)
{
	LayerWant *wants = NULL;
	int n = 0;
	int absent = 0;

	for (int i = 0; i < missing->n; i++)
	{
		const LayerPart *part = &missing->parts[i];

		if (part->file == NULL || layer_missing_is_present(missing, i))
			continue;
		if (wants == NULL)
			wants = pg_malloc(2 * missing->n * sizeof(LayerWant));
		if (part->number == PART_FIRST_BLOCK)
			n += layer_want_ends(part->file, &wants[n]);
		else
			wants[n++] = (LayerWant) {.file = part->file, .offset = part->offset, .len = part->len};
	}
	if (n == 0)
		return 0;
	layer_fetch(wants, n, false);
	for (int i = 0; i < n; i++)
		ps_error_free(wants[i].err);
	free(wants);
	for (int i = 0; i < missing->n; i++)
		absent += missing->parts[i].file != NULL && !layer_missing_is_present(missing, i);
	return absent;
}

bool
layer_missing_take(LayerMissing *missing, int i, const char *bytes, bool complete)
{
	LayerPart *part = &missing->parts[i];
	PsError *err = NULL;
	bool ok;

	if (part->number == PART_FIRST_BLOCK)
		return layer_opened_ahead(part->layer, part->file, complete ? (const uint8 *) bytes : NULL);
	if (complete && part->number == PART_DICT)
		err = layer_dict_set(part->file, bytes);
	else if (complete)
		err = btree_part_check(&part->file->index, (uint32) part->number, (const uint8 *) bytes);
	ok = complete && err == NULL;
	ps_error_free(err);
	layer_release(part->layer);
	return ok;
}

int
layer_missing_wait(LayerMissing *missing)
{
	int n = 0;

	for (int i = 0; i < missing->n; i++)
		if (missing->parts[i].elsewhere)
			n += layer_wait_opened(missing->parts[i].layer);
	return n;
}

void
layer_missing_reset(LayerMissing *missing)
{
	if (missing->n > 0)
		partset_reset(missing->known);
	missing->n = 0;
}

void
layer_missing_free(LayerMissing *missing)
{
	free(missing->parts);
	if (missing->known != NULL)
		partset_destroy(missing->known);
	*missing = (LayerMissing) {0};
}

/* ---- before a scan ---- */

/* Layers whose starts are fetched together: at most this number of parts is missing at a time. */
#define START_LAYERS 256

/* Ends of the files, inner pages that are not there, leaf pages. */
#define START_ROUNDS 4

/* Fetches and reads all missing parts; returns whether any was read. */
static bool
read_parts(LayerMissing *missing)
{
	char *bytes = pg_malloc(Max(LAYER_BLOCK_SIZE, LAYER_DICT_MAX));
	int taken = 0;

	for (int i = 0; i < missing->n; i++)
	{
		uint64 offset;
		size_t len;
		int fd;

		(void) layer_missing_place(missing, i, &fd, &offset, &len);
	}
	(void) layer_missing_fetch(missing);
	for (int i = 0; i < missing->n; i++)
	{
		const LayerPart *part = &missing->parts[i];
		PsError *err;

		if (part->file == NULL)
			continue;
		if (!layer_missing_is_present(missing, i))
		{
			(void) layer_missing_take(missing, i, NULL, false);
			continue;
		}
		err = layer_file_read(part->file, part->offset, bytes, part->len);
		taken += layer_missing_take(missing, i, bytes, err == NULL);
		ps_error_free(err);
	}
	taken += layer_missing_wait(missing);
	free(bytes);
	return taken > 0;
}

static void
fetch_starts(Layer *const *layers, int n, const PsKey *lo)
{
	LayerMissing missing = {0};
	ValueList list = {.missing = &missing};

	for (int round = 0; round < START_ROUNDS; round++)
	{
		layer_missing_reset(&missing);
		list.n = 0;
		for (int i = 0; i < n; i++)
		{
			const LayerInfo *info = &layers[i]->info;
			bool is_inside = ps_key_cmp(lo, &info->key_min) > 0;
			XLogRecPtr lsn = is_inside ? 0 : PG_UINT64_MAX;
			bool done;

			if (info->type == LAYER_IMAGE)
				lsn = info->lsn_start;
			/* leads to the page where a scan begins, and to few versions */
			ps_error_free(layer_collect(layers[i], is_inside ? lo : &info->key_min, lsn, lsn, &list, &done));
		}
		if (missing.n == 0 || !read_parts(&missing))
			break;
	}
	layer_missing_free(&missing);
	free(list.refs);
}

void
layer_missing_fetch_starts(Layer *const *layers, int n, const PsKey *lo)
{
	if (n < 2 || layers[0]->space->source == NULL || layer_context.stream != NULL)
		return;
	for (int i = 0; i < n; i += START_LAYERS)
		fetch_starts(layers + i, Min(n - i, START_LAYERS), lo);
}
