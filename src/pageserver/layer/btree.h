/*
 * btree.h
 *	  The index of a layer file: built once from sorted input, then read
 *	  through a mapping.  Its pages are described in layer_format.h.
 */
#ifndef PS_LAYER_BTREE_H
#define PS_LAYER_BTREE_H

#include <stdatomic.h>

#include "base/error.h"
#include "layer/layer_format.h"

struct LayerFile;
struct LayerOutput;

/* ---- building ---- */
typedef struct BtreeBuilder BtreeBuilder;

extern BtreeBuilder *btree_builder_create(struct LayerOutput *out, int key_size);

/*
 * The output has all values: what was added is written behind them, and so is
 * all that follows.  Until then pages are kept in memory.
 */
extern PsError *btree_builder_begin_output(BtreeBuilder *builder);
extern size_t btree_builder_buffered(const BtreeBuilder *builder); /* bytes of such pages */

/* Keys strictly ascending; the caller sees to it. */
extern PsError *btree_builder_add(BtreeBuilder *builder, const uint8 *key, uint64 value);

/* Writes what is left and the inner levels, after begin_output; fills in the output's summary. */
extern PsError *btree_builder_finish(BtreeBuilder *builder);
extern void btree_builder_free(BtreeBuilder *builder);

/* ---- reading ---- */
typedef struct Btree
{
	const struct LayerFile *file;
	int key_size;
	const uint8 *pages; /* index page 0, in the mapping */
	void *map;
	size_t map_size;
	_Atomic uint64 *checked; /* a bit for each part that was found right; set and read relaxed, for
								 * files never change */
} Btree;

/*
 * Parts of the file that are checked at their first use: index pages, by their
 * numbers, and what is between the values and the index, which belongs to none
 * of them and is checked before the first search.
 */
#define BTREE_PADDING(tree) ((tree)->file->summary.index_pages)
#define BTREE_NO_PART       PG_UINT32_MAX

/* A place in the index: entry "entry" of a page that was checked. */
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

/* The same of a leaf, for who comes back to it when the file may have been closed and opened again. */
typedef struct BtreePlace
{
	uint32 page;
	int entry;
} BtreePlace;

/* file->summary is known and right. */
extern PsError *btree_open(Btree *tree, const struct LayerFile *file);
extern void btree_close(Btree *tree);

/* Sets pos to the first entry of a page, which is expected to be of that level. */
extern PsError *btree_load_page(const Btree *tree, uint32 number, int level, BtreePos *pos);

/*
 * For who reads parts himself: where one is, at most LAYER_BLOCK_SIZE bytes;
 * whether it was found right; and the check of what was read of it.
 */
extern void btree_part_place(const Btree *tree, uint32 part, uint64 *offset, size_t *len);
extern bool btree_part_is_checked(const Btree *tree, uint32 part);
extern PsError *btree_part_check(const Btree *tree, uint32 part, const uint8 *bytes);

/*
 * The last entry that is <= key; *found false if there is none.
 *
 * Who does not want to wait for the disk gives "missing", which is
 * BTREE_NO_PART: if a part that was not used before is not in the kernel's page
 * cache, it becomes that part, and *found false.  NULL: it is waited for.
 */
extern PsError *btree_seek_le(const Btree *tree, const uint8 *key, BtreePos *pos, bool *found, uint32 *missing);

/* The first entry that is >= key. */
extern PsError *btree_seek_ge(const Btree *tree, const uint8 *key, BtreePos *pos, bool *found);

/* The leaf entry before and after; *found false at the end, pos is then of no use.  missing: as above. */
extern PsError *btree_prev(BtreePos *pos, bool *found, uint32 *missing);
extern PsError *btree_next(BtreePos *pos, bool *found);

static inline BtreePlace
btree_place(const BtreePos *pos)
{
	return (BtreePlace) {pos->page, pos->entry};
}

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

/* Where in the file the page of a position is, for messages. */
extern uint64 btree_pos_offset(const BtreePos *pos);

#endif /* PS_LAYER_BTREE_H */
