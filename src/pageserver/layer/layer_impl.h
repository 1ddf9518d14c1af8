/*
 * layer_impl.h
 *	  What the files of this folder share.  Not included by other folders,
 *	  except tests.
 */
#ifndef PS_LAYER_IMPL_H
#define PS_LAYER_IMPL_H

#include <stdatomic.h>

#include "layer/btree.h"
#include "layer/layer.h"
#include "layer/layer_file.h"
#include "layer/layer_map.h"
#include "layer/layer_missing.h"
#include "layer/layer_tree.h"

typedef struct OpenLayer OpenLayer;
typedef struct OpeningWait OpeningWait;

/* Values of Layer.users if it is not the number of users (layer_files.c). */
#define FILE_CLOSED  (-1)
#define FILE_OPENING (-2)

/*
 * info is immutable for files.  For an open layer, everything except type and
 * lsn_start is written by open_layer_freeze() and may be read only by callers
 * that know that this has happened.
 */
struct Layer
{
	LayerInfo info;
	atomic_int refs;
	OpenLayer *open; /* NULL: a file */

	/* for files; layer_files.c has the rules */
	LayerSpace *space;
	LayerFile *file;     /* valid for callers that have acquired the layer; NULL: closed */
	atomic_int users;    /* number of callers that have acquired it; < 0: the file is closed, or being opened */
	int place;           /* index in the array of open files */
	atomic_bool used;    /* since the search for a file to close last came by */
	atomic_bool removed; /* the file is removed with the last reference */
	atomic_bool damaged; /* see layer_is_damaged() */

	/* for files of a space with a source */
	struct LayerCache *cache;     /* layer_cache.h; NULL: the file is whole, or was not opened yet */
	OpeningWait *_Atomic opening; /* those that wait for the thread that opens the file; NULL: nobody does */
	atomic_bool remote;           /* see layer_set_remote() */
	atomic_uint last_read;        /* see layer_last_read() */
};

/* ---- layer_file.c ---- */

/*
 * Checks the first block of an open file, also against its layer, unless that is NULL,
 * and maps its index.  The second function also reads the block.  After an error the
 * caller closes the file.
 */
extern PsError *layer_file_prepare(LayerFile *file, const LayerSpace *space, const char *name, const Layer *layer,
								   const uint8 *block);
extern PsError *layer_file_read_and_prepare(LayerFile *file, const LayerSpace *space, const char *name,
											const Layer *layer);

/* ---- layer_files.c: open files ---- */

/*
 * Opens the layer's file if it is closed; layer_file_of() (layer_stream.h) is valid until
 * layer_release().  Hold it briefly, and wait for nothing but the file meanwhile.
 * Pointers into the mapping of the index must not be kept longer.  Any thread.
 */
extern PsError *layer_acquire(const Layer *layer);

/* Returns false if the file is closed.  Not in threads that stream. */
extern bool layer_acquire_if_open(const Layer *layer);
extern void layer_release(const Layer *layer);

/* Like these, also in threads that stream: it is Layer.file that is acquired, and Layer.file is valid. */
extern PsError *layer_acquire_local(const Layer *layer);
extern void layer_release_local(const Layer *layer);

/*
 * Like layer_acquire() and layer_release(), in two steps, for callers that read
 * the first block themselves, of a file that may not be needed after all: it is
 * opened only if there is room, and errors are not reported.  After each
 * layer_open_ahead() that returns true, layer_opened_ahead() must be called with
 * the block, or with NULL if it could not be read.  If this returns true the
 * file is open, but not acquired.  Other threads that need the file wait
 * meanwhile, so the caller must not wait for a layer in between.
 * If layer_open_ahead() returns false, *elsewhere is whether the file is open, or
 * another thread is opening it.
 */
extern bool layer_open_ahead(const Layer *layer, LayerFile **file, bool *elsewhere);
extern bool layer_opened_ahead(const Layer *layer, LayerFile *file, const uint8 *block);

/* Waits while another thread is opening the file; returns whether it is open then.  Any thread. */
extern bool layer_wait_opened(const Layer *layer);

/*
 * open() with O_CLOEXEC, for files of layers: if descriptors are used up, closes
 * layer files that are not in use.  Returns -1 with errno set.
 */
extern int layer_open_descriptor(const char *path, int flags);

/* Closes a file that is not in use; returns false if there is none.  Preserves errno.  Any thread. */
extern bool layer_close_unused(void);

/*
 * Makes the calling thread the owner of a closed file, as if it opened it; false if
 * the file is open or has an owner.  layer_give_up_opening() ends this, and passes
 * an error, or NULL, to the threads that waited.
 */
extern bool layer_begin_opening(Layer *layer);
extern void layer_give_up_opening(Layer *layer, const PsError *err);

/* Closes an open file that is not in use; then Layer.users is FILE_CLOSED or FILE_OPENING, whichever is passed. */
extern bool layer_close_if_unused(Layer *layer, int users);

/*
 * For files that are not Layer.file: layer_adopt_descriptor() makes an open file of a
 * descriptor, and counts it; layer_discard_file() closes it.
 */
extern LayerFile *layer_adopt_descriptor(int fd, const char *path, struct LayerCache *cache);
extern void layer_discard_file(LayerFile *file);

/* Creates the layer of a file that was just written, and opens it.  If that fails, the file is removed. */
extern PsError *layer_open_written(LayerSpace *space, const LayerSummary *summary, Layer **layer);

/* ---- layer_evict.c ---- */

/* Removes a file of a layer, "" or PRESENCE_SUFFIX, if it exists.  A failure is logged. */
extern void layer_remove_file(const LayerSpace *space, const char *name, const char *suffix);

/* For layer_unref(): closes the file of a layer that is about to be freed, and removes it if so marked. */
extern void layer_file_free(Layer *layer);

/* ---- delta.c, image.c: layer_collect() for files that the caller has acquired ---- */
extern PsError *delta_collect(const Layer *layer, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max,
							  ValueList *list, bool *done);
extern PsError *image_collect(const Layer *layer, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max,
							  ValueList *list, bool *done);

/* ---- layer_missing.c: what a search would have to wait for ---- */

/* The layer's file is not open.  Returns whether the search ends here. */
extern bool layer_missing_file(LayerMissing *missing, const Layer *layer);

/*
 * A part of the index (see btree.h) of a layer that the caller has acquired;
 * "before": number of preceding parts that will most likely be needed, too.
 * Returns whether the search ends here.
 */
extern bool layer_missing_part(LayerMissing *missing, const Layer *layer, uint32 part, uint32 before);

/*
 * Fetches what a scan of these layers from lo on will use first, together, if it has to
 * be fetched.  A failure is not reported; the scan will meet it.  Does nothing in threads
 * that stream.
 */
extern void layer_missing_fetch_starts(Layer *const *layers, int n, const PsKey *lo);

/* The dictionary of a layer that the caller has acquired. */
extern void layer_missing_dict(LayerMissing *missing, const Layer *layer);

/* ---- open_layer.c: layer_collect() and layer_scan() for the layer in memory ---- */
extern PsError *open_layer_collect(const Layer *layer, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max,
								   ValueList *list, bool *done);
extern PsError *open_layer_scan(const Layer *layer, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn_max,
								ScanCallback cb, void *arg);
extern void open_layer_free(OpenLayer *open);

/* ---- layer_scan.c: the versions in a file, key by key ---- */

/* Fills a reference from an index entry.  Caller has acquired the layer. */
static inline PsError *
layer_entry_ref(const Layer *layer, const BtreePos *pos, XLogRecPtr lsn, ValueRef *ref)
{
	PS_TRY(btree_entry_ref(pos, lsn, ref));
	ref->layer = layer;
	return NULL;
}

/*
 * Iterates over the keys from lo to hi of one file.  While "valid" is set, "key"
 * is the current key, and "versions" has its versions with LSN <= lsn_max,
 * newest first, at least one.  If "newest" is set, it has only the newest of
 * them, since a key may have very many.  The file is not kept open between calls.
 */
typedef struct LayerCursor
{
	const Layer *layer;
	PsKey hi;
	XLogRecPtr lsn_max;
	bool newest;
	BtreePlace place; /* of the next entry to read */
	bool at_end;      /* there is no next entry */
	bool held;        /* by layer_stream_hold() */
	bool valid;
	PsKey key;
	ValueList versions;
} LayerCursor;

/* After an error of open or next, only layer_cursor_close() may be called; it must be called in any case. */
extern PsError *layer_cursor_open(LayerCursor *cursor, const Layer *layer, const PsKey *lo, const PsKey *hi,
								  XLogRecPtr lsn_max, bool newest);
extern PsError *layer_cursor_next(LayerCursor *cursor);
extern void layer_cursor_close(LayerCursor *cursor);

/* ---- layer_map.c: the order in which a search visits layers ---- */

typedef struct LayerSearchItem
{
	XLogRecPtr lsn_end;
	const LayerNode *node; /* a node whose entries are still to be visited; NULL: a layer */
	const LayerEntry *layer;
} LayerSearchItem;

/* Belongs to one thread; the map must stay referenced. */
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
 * Iterates over the layers whose key range includes the key and whose LSN range
 * overlaps lsn_min to lsn_max, in descending order of lsn_end.
 * layer_search_next() returns NULL at the end.  A search may be ended early;
 * layer_search_end() must be called in any case.
 */
extern void layer_search_begin(LayerSearch *search, const LayerMap *map, const PsKey *key, XLogRecPtr lsn_min,
							   XLogRecPtr lsn_max);
extern const LayerEntry *layer_search_next(LayerSearch *search);
extern void layer_search_end(LayerSearch *search);

#endif /* PS_LAYER_IMPL_H */
