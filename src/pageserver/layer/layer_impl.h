/*
 * layer_impl.h
 *	  What the files of this folder share, and nobody else needs but who looks
 *	  at a file as such ("pageserver_ctl layer dump", tests).
 */
#ifndef PS_LAYER_IMPL_H
#define PS_LAYER_IMPL_H

#include <stdatomic.h>

#include "layer/btree.h"
#include "layer/layer.h"
#include "layer/layer_format.h"
#include "layer/layer_tree.h"

/* The summary block, decoded; its fields are described in layer_format.h. */
typedef struct LayerSummary
{
	LayerType type; /* the magic */
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

/* Where the first value may be. */
static inline uint64
layer_values_start(const LayerSummary *summary)
{
	return LAYER_BLOCK_SIZE + (uint64) summary->dict_size;
}

/* A layer file that is open.  Immutable but for the bits in index.checked, and the dictionary (layer_dict.h). */
typedef struct LayerFile
{
	char *path;
	int fd;
	LayerSummary summary;
	Btree index;
	struct LayerDict *_Atomic dict; /* NULL: not read yet, or none */
} LayerFile;

typedef struct OpenLayer OpenLayer;

/*
 * info: of files immutable.  Of an open layer everything but type and
 * lsn_start is written by open_layer_freeze() and may be read by who knows
 * that it has happened.
 */
struct Layer
{
	LayerInfo info;
	atomic_int refs;
	OpenLayer *open; /* NULL: a file */

	/* of a file; layer_files.c has the rules */
	LayerSpace *space;
	LayerFile *file;     /* for who has acquired the layer; NULL: closed */
	atomic_int users;    /* who have acquired it; -1: file is closed */
	int place;           /* among the open files */
	atomic_bool used;    /* since it was last looked at which to close */
	atomic_bool removed; /* the file goes with the last reference */
	atomic_bool damaged; /* see layer_is_damaged() */
};

/* ---- layer_files.c: open files ---- */

/*
 * Opens the layer's file if it is not open: layer->file is there until
 * layer_release().  For as short as can be, without a wait for anything but the
 * file.  Nothing in the mapping of its index may be kept beyond that.
 */
extern PsError *layer_acquire(const Layer *layer);
extern bool layer_acquire_if_open(const Layer *layer);
extern void layer_release(const Layer *layer);

/*
 * The same in two steps, for who reads the first block himself, of a file that
 * may never be needed: not if it would be one too many, and an error is only
 * that it is not open.  Each true of layer_open_ahead() is for one
 * layer_opened_ahead(), after which the file is open, but not acquired; block
 * NULL: it could not be read.
 */
extern bool layer_open_ahead(const Layer *layer, LayerFile **file);
extern bool layer_opened_ahead(const Layer *layer, LayerFile *file, const uint8 *block);

/* Closes a file that nobody uses; false: there is none.  errno stays. */
extern bool layer_close_unused(void);

/* The last reference has gone. */
extern void layer_file_free(Layer *layer);

/* ---- layer_file.c: summary, names, reading ---- */

/*
 * layer_file_open() opens the file and no more; layer_file_begin() looks at its
 * first block, and prepares the rest.  After an error of that, it is to be
 * closed.
 */
extern PsError *layer_file_open(const LayerSpace *space, const char *name, LayerFile **file);
extern PsError *layer_file_begin(LayerFile *file, const LayerSpace *space, const char *name, const uint8 *block);
extern void layer_file_close(LayerFile *file);
extern void layer_summary_info(const LayerSummary *summary, LayerInfo *info);
extern void layer_summary_encode(const LayerSummary *summary, uint8 *block);

/*
 * Decodes block 0.  The type is LAYER_OPEN if it is not of a layer file of our
 * version; else all fields are set, also if there is an error.
 */
extern PsError *layer_summary_decode(const char *path, const uint8 *block, LayerSummary *summary);

/* May memory be addressed by these numbers? */
extern bool layer_summary_is_sane(const LayerSummary *summary);

/* Looks at the zeros between the values and the index: reads them, or is given them. */
extern PsError *layer_file_check_padding(const LayerFile *file);
extern PsError *layer_padding_check(const LayerFile *file, const uint8 *bytes);

/* Reads exactly len bytes; a file that ends before that is an error. */
extern PsError *layer_file_read(const LayerFile *file, uint64 offset, void *buf, size_t len);

/* The same if it takes no wait, for the kernel has it in its page cache. */
extern bool layer_file_read_cached(const LayerFile *file, uint64 offset, void *buf, size_t len);

/* The error of a read that gave "have" bytes of "wanted"; read_errno 0: the file ends there. */
extern PsError *layer_file_unread(const LayerFile *file, uint64 offset, size_t have, size_t wanted, int read_errno);

/* The error for a file whose contents cannot be right; the format says what is wrong. */
extern PsError *layer_damaged(const char *path, uint64 offset, const char *fmt, ...) pg_attribute_printf(3, 4);

/* ---- layer_output.c: a file that is being written ---- */
typedef struct LayerOutput LayerOutput;

/* Makes the temporary file and leaves room for the summary. */
extern PsError *layer_output_create(LayerSpace *space, LayerType type, int level, XLogRecPtr lsn_start,
									XLogRecPtr lsn_end, LayerOutput **out);
extern LayerSummary *layer_output_summary(LayerOutput *out);
extern const char *layer_output_path(const LayerOutput *out);

/* Where the next byte will be. */
extern uint64 layer_output_position(const LayerOutput *out);
extern PsError *layer_output_append(LayerOutput *out, const void *data, size_t len);

/* The dictionary that records are compressed with, before the first value; it is the output's then. */
extern PsError *layer_output_set_dict(LayerOutput *out, struct LayerDict *dict);
extern const struct LayerDict *layer_output_dict(const LayerOutput *out); /* NULL: none */

/* Ends the values: fills up with zeros to a whole block, notes where the index begins. */
extern PsError *layer_output_begin_index(LayerOutput *out);

/*
 * Writes the summary, makes the file durable under its name, opens it.  After
 * an error nothing is left in the directory; layer_output_free() is still due.
 */
extern PsError *layer_output_finish(LayerOutput *out, Layer **layer);

/* Frees; a file that was not finished is removed. */
extern void layer_output_free(LayerOutput *out);

/* ---- delta.c, image.c ---- */
extern PsError *delta_collect(const Layer *layer, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max,
							  ValueList *list, bool *done);
extern PsError *image_collect(const Layer *layer, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max,
							  ValueList *list, bool *done);

/* ---- layer_missing.c ---- */

/*
 * A search has come to a layer whose file is not open; to a part of an index
 * (btree.h) of a layer that it has acquired, and most likely to so many before
 * it; to records that need the file's dictionary.  The first two return whether
 * the search ends here.
 */
extern bool layer_missing_file(LayerMissing *missing, const Layer *layer);
extern bool layer_missing_part(LayerMissing *missing, const Layer *layer, uint32 part, uint32 before);
extern void layer_missing_dict(LayerMissing *missing, const Layer *layer);

/* ---- open_layer.c ---- */
extern PsError *open_layer_collect(const Layer *layer, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max,
								   ValueList *list, bool *done);
extern PsError *open_layer_scan(const Layer *layer, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn_max,
								ScanCallback cb, void *arg);
extern void open_layer_free(OpenLayer *open);

/* ---- layer_scan.c: the versions in a file, key by key ---- */

/*
 * Goes over the keys from lo to hi of one file.  While valid, versions are
 * those of the key with LSN <= lsn_max, newest first, at least one; or the
 * newest of these alone, for a key may have very many.
 */
typedef struct LayerCursor
{
	const Layer *layer;
	PsKey hi;
	XLogRecPtr lsn_max;
	bool newest;
	BtreePlace place; /* of the next entry to look at */
	bool at_end;      /* there is none */
	bool valid;
	PsKey key;
	ValueList versions;
} LayerCursor;

extern PsError *layer_cursor_open(LayerCursor *cursor, const Layer *layer, const PsKey *lo, const PsKey *hi,
								  XLogRecPtr lsn_max, bool newest);
extern PsError *layer_cursor_next(LayerCursor *cursor);
extern void layer_cursor_close(LayerCursor *cursor);

/* ---- layer_map.c: the layers that a read looks at ---- */

typedef struct LayerSearchItem
{
	XLogRecPtr lsn_end;
	const LayerNode *node; /* to look into, or else: */
	const LayerEntry *layer;
} LayerSearchItem;

/* One thread's; the map must stay. */
typedef struct LayerSearch
{
	PsKey key;
	XLogRecPtr lsn_min;
	XLogRecPtr lsn_max;
	LayerSearchItem *heap; /* the greatest lsn_end first */
	int n;
	int cap;
	LayerSearchItem few[64];
} LayerSearch;

/*
 * Gives the layers whose key range has the key and whose LSN range meets
 * lsn_min to lsn_max, by lsn_end, newest first, then NULL.  One may end before
 * that, always with layer_search_end().
 */
extern void layer_search_begin(LayerSearch *search, const LayerMap *map, const PsKey *key, XLogRecPtr lsn_min,
							   XLogRecPtr lsn_max);
extern const LayerEntry *layer_search_next(LayerSearch *search);
extern void layer_search_end(LayerSearch *search);

/* Fills a reference from an index entry.  Caller has acquired the layer. */
extern PsError *layer_entry_ref(const Layer *layer, const BtreePos *pos, XLogRecPtr lsn, ValueRef *ref);

#endif /* PS_LAYER_IMPL_H */
