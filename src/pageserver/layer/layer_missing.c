/*
 * layer_missing.c
 *	  What a search would have to wait for: noted, so that it can be read
 *	  together.
 *
 * Of a layer file these parts are read once after it was opened: its first
 * block, by which it is opened; what is before its index; its dictionary; each
 * index page.  What is read is checked then as it is at any first use.  A part
 * that cannot be read or is not right stays missing: it becomes an error when a
 * search that waits (ValueList.missing NULL) comes to it, if one ever does.
 */
#include "ps_fe.h"

#include "common/hashfn.h"
#include "layer/layer_dict.h"

/* Index pages of 8 kB: no more than 4 MB of memory to read them all. */
#define MAX_PARTS 512

#define HASH_SIZE (2 * MAX_PARTS)

/* What is no index page and not before the index has a number of its own. */
#define PART_FIRST_BLOCK (-1)
#define PART_DICT        (-2)

struct LayerPart
{
	const Layer *layer;
	int64 number;    /* as btree.h has them, or one of these */
	LayerFile *file; /* while it is read; of the first block, one that is not the layer's yet */
};

/* A part is found by its place in "parts", plus one. */
static uint16 *
find_slot(LayerMissing *missing, const LayerPart *part)
{
	uint32 hash = murmurhash32((uint32) ((uintptr_t) part->layer / sizeof(Layer)) ^ murmurhash32((uint32) part->number));

	for (;; hash++)
	{
		uint16 *slot = &missing->slots[hash % HASH_SIZE];

		if (*slot == 0 || (missing->parts[*slot - 1].layer == part->layer && missing->parts[*slot - 1].number == part->number))
			return slot;
	}
}

static void
add(LayerMissing *missing, const Layer *layer, int64 number)
{
	LayerPart part = {.layer = layer, .number = number};
	uint16 *slot;

	if (missing->n == MAX_PARTS)
		return;
	if (missing->parts == NULL)
	{
		missing->parts = pg_malloc(MAX_PARTS * sizeof(LayerPart));
		missing->slots = pg_malloc0(HASH_SIZE * sizeof(uint16));
	}
	slot = find_slot(missing, &part);
	if (*slot != 0)
		return;
	missing->parts[missing->n++] = part;
	*slot = (uint16) missing->n;
}

/* One that may be needed too. */
static void
add_ahead(LayerMissing *missing, const Layer *layer, uint32 part)
{
	if (!btree_part_is_checked(&layer->file->index, part))
		add(missing, layer, part);
}

/*
 * What the search says of a layer that it did not search to the end.  Of an
 * image file, that it has the key: most likely it does, and then nothing older
 * is needed.  If not, that shows when the search is made again.
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
	const LayerSummary *summary = &layer->file->summary;

	/* even if another thread has it by now: the search went on without it */
	add(missing, layer, part);
	for (uint32 i = 1; i <= before; i++)
		add_ahead(missing, layer, part - i);
	/* nothing was searched yet: the root is needed in any case */
	if (part == BTREE_PADDING(&layer->file->index) && summary->levels > 0)
		add_ahead(missing, layer, summary->root);
	if (layer_dict_is_missing(layer->file))
		layer_missing_dict(missing, layer);
	return ends_search(missing, layer);
}

void
layer_missing_dict(LayerMissing *missing, const Layer *layer)
{
	add(missing, layer, PART_DICT);
}

/* ---- for who reads them ---- */

bool
layer_missing_place(LayerMissing *missing, int i, int *fd, uint64 *offset, size_t *len)
{
	LayerPart *part = &missing->parts[i];

	*offset = 0;
	*len = LAYER_BLOCK_SIZE;
	if (part->number == PART_FIRST_BLOCK)
	{
		if (!layer_open_ahead(part->layer, &part->file))
			return false;
	}
	else
	{
		/* not if it was closed meanwhile: then it is not opened for this part alone */
		if (!layer_acquire_if_open(part->layer))
			return false;
		part->file = part->layer->file;
		if (part->number == PART_DICT)
		{
			*offset = LAYER_BLOCK_SIZE;
			*len = part->file->summary.dict_size;
		}
		else
			btree_part_place(&part->file->index, (uint32) part->number, offset, len);
	}
	*fd = part->file->fd;
	return true;
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

void
layer_missing_reset(LayerMissing *missing)
{
	if (missing->n > 0)
		memset(missing->slots, 0, HASH_SIZE * sizeof(uint16));
	missing->n = 0;
}

void
layer_missing_free(LayerMissing *missing)
{
	free(missing->parts);
	free(missing->slots);
	*missing = (LayerMissing) {0};
}
