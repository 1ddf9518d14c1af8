/*
 * layer_file.h
 *	  The frame of a layer file: summary block, positions, reading, errors.
 *
 * For this folder, and for programs that examine a file as such (pageserver_ctl
 * layer dump).  All others use layer.h.  The format is in layer_format.h.
 */
#ifndef PS_LAYER_FILE_H
#define PS_LAYER_FILE_H

#include "layer/btree.h"
#include "layer/layer.h"
#include "layer/layer_format.h"

struct LayerCache;
struct LayerDict;

/* The summary block, decoded; its fields are described in layer_format.h. */
typedef struct LayerSummary
{
	LayerType type; /* from the magic */
	PsId tenant;
	PsId timeline;
	PsKey key_min;
	PsKey key_max;
	uint8 image_codec;
	uint8 record_codec;
	uint8 level;
	XLogRecPtr lsn_start;
	XLogRecPtr lsn_end;
	uint64 values_end;
	uint64 index_start;
	uint32 index_pages;
	uint32 leaf_pages;
	uint32 root;
	uint32 levels;
	uint64 entries;
	uint64 file_size;
	uint64 number;
	uint32 dict_size;
	uint32 dict_crc;
} LayerSummary;

/* Lowest offset that a value may have. */
static inline uint64
layer_values_start(const LayerSummary *summary)
{
	return LAYER_BLOCK_SIZE + (uint64) summary->dict_size;
}

/*
 * A layer file that is open.  Immutable, except for the bits in index.checked
 * and the dictionary, which is set once (layer_dict.h).
 */
typedef struct LayerFile
{
	char *path;
	int fd;
	LayerSummary summary;
	Btree index;
	struct LayerDict *_Atomic dict; /* NULL: none, or not read yet */
	struct LayerCache *cache;       /* the file is only partly here; NULL: it is whole (layer_cache.h) */
} LayerFile;

/* The error for a file whose contents are invalid; the format says what is wrong at the offset. */
extern PsError *layer_damaged(const char *path, uint64 offset, const char *fmt, ...) pg_attribute_printf(3, 4);

/* ---- summary ---- */

extern void layer_summary_info(const LayerSummary *summary, LayerInfo *info);
extern void layer_summary_encode(const LayerSummary *summary, uint8 *block);

/*
 * Decodes and checks block 0.  After an error, type is LAYER_OPEN if the block
 * is not the summary of a layer file of our version; otherwise all fields are
 * set as they are in the block.
 */
extern PsError *layer_summary_decode(const char *path, const uint8 *block, LayerSummary *summary);

/* Whether the fields are consistent, so that memory can safely be addressed by them. */
extern bool layer_summary_is_sane(const LayerSummary *summary);

/*
 * Sets file->summary from block 0, and checks it against the directory where
 * the file was found, its name and its length.
 */
extern PsError *layer_file_set_summary(LayerFile *file, const LayerSpace *space, const char *name, const uint8 *block);

/* ---- reading ---- */

/* Reads exactly len bytes, after fetching those that are absent; a file that ends before that is damaged. */
extern PsError *layer_file_read(const LayerFile *file, uint64 offset, void *buf, size_t len);

/* Reads len bytes if they are present and in the kernel's page cache; returns false, without waiting, if not. */
extern bool layer_file_read_cached(const LayerFile *file, uint64 offset, void *buf, size_t len);

/* The error for a read that returned "have" of "wanted" bytes; read_errno 0: the file ends there. */
extern PsError *layer_file_short_read_error(const LayerFile *file, uint64 offset, size_t have, size_t wanted,
											int read_errno);

/* Check that the bytes between the values and the index are zero: read them, or get them from the caller. */
extern PsError *layer_file_check_padding(const LayerFile *file);
extern PsError *layer_padding_check(const LayerFile *file, const uint8 *bytes);

#endif /* PS_LAYER_FILE_H */
