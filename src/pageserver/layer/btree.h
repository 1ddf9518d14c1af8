/*
 * btree.h
 *	  The index of a layer file: built once from sorted input, then read
 *	  through a mapping.  Its pages are described in layer_format.h.
 */
#ifndef PS_LAYER_BTREE_H
#define PS_LAYER_BTREE_H

#include <stdatomic.h>

#include "layer/layer_format.h"
#include "layer/value.h"

struct LayerFile;
struct LayerOutput;

/* ---- building ---- */

/* Belongs to one thread. */
typedef struct BtreeBuilder BtreeBuilder;

extern BtreeBuilder *btree_builder_create(struct LayerOutput *out, int key_size);

/*
 * All values have been appended to the output: writes the pages that were kept
 * in memory until now.  Later pages are written when they are full.
 */
extern PsError *btree_builder_begin_output(BtreeBuilder *builder);
extern size_t btree_builder_buffered(const BtreeBuilder *builder); /* bytes of the pages in memory */

/* The caller ensures that keys ascend strictly. */
extern PsError *btree_builder_add(BtreeBuilder *builder, const uint8 *key, uint64 value);

/* After btree_builder_begin_output(): writes the rest of the index, and sets its fields in the output's summary. */
extern PsError *btree_builder_finish(BtreeBuilder *builder);
extern void btree_builder_free(BtreeBuilder *builder); /* NULL is accepted */

/* ---- reading ---- */

/* Part of an open LayerFile.  Any thread, while the file is open. */
typedef struct Btree
{
	const struct LayerFile *file;
	int key_size;
	const uint8 *pages; /* index page 0, in the mapping */
	void *map;
	size_t map_size;
	_Atomic uint64 *checked; /* one bit for each part: it was found valid.  Relaxed: files never change */
} Btree;

/*
 * The parts of the file that are checked at their first use.  An index page has
 * its page number.  The padding between the values and the index has a number
 * of its own, and is checked before the first search, if it is present.
 */
#define BTREE_PADDING(tree) ((tree)->file->summary.index_pages)
#define BTREE_NO_PART       PG_UINT32_MAX

/* A position: entry "entry" of a page that was checked.  Valid while the file is open. */
typedef struct BtreePos
{
	const Btree *tree;
	uint32 page;
	uint8 level;
	int prefix_size;
	int count;
	int entry;
	const uint8 *prefix;
	const uint8 *suffixes;
	const uint8 *values;
} BtreePos;

/* A position in a leaf that stays valid when the file is closed and opened again. */
typedef struct BtreePlace
{
	uint32 page;
	int entry;
} BtreePlace;

/* Maps the index; file->summary must be set.  btree_close() must be called even after an error. */
extern PsError *btree_open(Btree *tree, const struct LayerFile *file);
extern void btree_close(Btree *tree);

/* Sets pos to the first entry of a page.  It is an error if the page is not of that level. */
extern PsError *btree_load_page(const Btree *tree, uint32 number, int level, BtreePos *pos);

/*
 * For callers that read parts themselves: where a part is (at most
 * LAYER_BLOCK_SIZE bytes), whether it was found valid already, and the check of
 * what was read of it.  btree_forget(): the pages in this range of the file have to
 * be read and checked again, because they are no longer present.
 */
extern void btree_part_place(const Btree *tree, uint32 part, uint64 *offset, size_t *len);
extern bool btree_part_is_checked(const Btree *tree, uint32 part);
extern void btree_forget(const Btree *tree, uint64 offset, uint64 len);
extern PsError *btree_part_check(const Btree *tree, uint32 part, const uint8 *bytes);

/*
 * Sets pos to the last entry that is <= key; *found is false if there is none.
 *
 * A caller that does not want to wait for the disk passes "missing", set to
 * BTREE_NO_PART.  If an unchecked part is not in the kernel's page cache,
 * *missing is set to it, and *found to false.  With NULL the search waits.
 */
extern PsError *btree_seek_le(const Btree *tree, const uint8 *key, BtreePos *pos, bool *found, uint32 *missing);

/* Sets pos to the first entry that is >= key; *found is false if there is none. */
extern PsError *btree_seek_ge(const Btree *tree, const uint8 *key, BtreePos *pos, bool *found);

/*
 * Move pos to the previous or next leaf entry.  If there is none, *found is
 * false, and pos must not be used.  missing: see btree_seek_le().
 */
extern PsError *btree_prev(BtreePos *pos, bool *found, uint32 *missing);
extern PsError *btree_next(BtreePos *pos, bool *found);

static inline BtreePlace
btree_place(const BtreePos *pos)
{
	return (BtreePlace) {pos->page, pos->entry};
}

/* Sets pos to a place that btree_place() returned. */
extern PsError *btree_return(const Btree *tree, BtreePlace place, BtreePos *pos);

/* Copies the entry's key (tree->key_size bytes). */
static inline void
btree_key(const BtreePos *pos, uint8 *key)
{
	int rest = pos->tree->key_size - pos->prefix_size;

	memcpy(key, pos->prefix, pos->prefix_size);
	memcpy(key + pos->prefix_size, pos->suffixes + (size_t) pos->entry * rest, rest);
}

static inline uint64
btree_value(const BtreePos *pos)
{
	const uint8 *p = pos->values + (size_t) pos->entry * INDEX_VALUE_SIZE;

	return (uint64) p[0] << 40 | (uint64) p[1] << 32 | (uint64) p[2] << 24 | (uint64) p[3] << 16 |
		   (uint64) p[4] << 8 | p[5];
}

/* Fills a reference from a leaf entry; sets ref->layer to NULL.  An entry of an unknown kind is an error. */
extern PsError *btree_entry_ref(const BtreePos *pos, XLogRecPtr lsn, ValueRef *ref);

/* Offset in the file of the page of a position, for messages. */
extern uint64 btree_pos_offset(const BtreePos *pos);

#endif /* PS_LAYER_BTREE_H */
