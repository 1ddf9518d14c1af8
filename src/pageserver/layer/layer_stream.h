/*
 * layer_stream.h
 *	  Work that reads whole layers once, past the cache.
 *
 * Between layer_stream_begin() and layer_stream_end() (layer_source.h), what the
 * calling thread reads of layers whose files are not here goes to a file without a
 * name for each layer, instead of its part file.  To all other code that file is a
 * part file: layer_file_of() returns it in place of Layer.file, its units are
 * fetched by layer_fetch(), its index is mapped.  There are these differences:
 *
 *	  - It belongs to the thread, and is removed at the end.
 *	  - Units that the part file has are copied from there.
 *	  - Sequential access fetches windows that double, up to 8 MB.  The values of a
 *		file of level 0 are in the order of their LSNs, and work goes by key, so such
 *		a file is fetched in whole windows at once, and kept until it is closed.
 *	  - Of other files, windows that were fetched first are dropped when more than
 *		32 MB are there; if some are needed again, more is kept from then on.  This
 *		happens when the thread releases the layer, so positions in the index, and
 *		places that are about to be read, stay valid until then.
 */
#ifndef PS_LAYER_STREAM_H
#define PS_LAYER_STREAM_H

#include "layer/layer_cache.h"
#include "layer/layer_impl.h"

/* Bytes of a file that are kept at first; a variable for tests. */
extern uint64 layer_stream_keep;

/* A layer's file, of a thread that streams. */
typedef struct StreamFile StreamFile;

/*
 * For layer_acquire() in a thread that streams, of a layer of a space with a
 * source: *acquired is false if the file is here, and to be acquired as always.
 */
extern PsError *layer_stream_acquire(const Layer *layer, bool *acquired);

/* For layer_release(): returns false if the layer is not streamed. */
extern bool layer_stream_release(const Layer *layer);

/* The file of a layer that is acquired. */
extern LayerFile *layer_stream_file(const Layer *layer);

/* Whether the calling thread streams, and the layer may be one that it streams. */
static inline bool
layer_is_in_stream(const Layer *layer)
{
	return unlikely(layer_context.stream != NULL) && layer->space->source != NULL;
}

static inline LayerFile *
layer_file_of(const Layer *layer)
{
	return likely(!layer_is_in_stream(layer)) ? layer->file : layer_stream_file(layer);
}

/*
 * The file of a layer that is streamed stays open from layer_stream_hold() to
 * layer_stream_let_go().  Otherwise it may be closed, and fetched anew, when the
 * thread opens many others.  done: close it, unless others hold it, because it will
 * hardly be needed again.  Both do nothing if the layer is not streamed.
 */
extern void layer_stream_hold(const Layer *layer);
extern void layer_stream_let_go(const Layer *layer, bool done);

/* For callers that keep a layer acquired for long: nothing that was read of it is in use. */
extern void layer_stream_trim(const Layer *layer);

/* ---- for layer_fetch.c ---- */

/* Copies the units of a range that the part file has. */
extern void layer_stream_copy(StreamFile *stream, uint64 offset, size_t len);

/* The number of units, from an absent one on, that are to be fetched. */
extern uint32 layer_stream_window(StreamFile *stream, uint32 unit);

/* Units were stored. */
extern void layer_stream_stored(StreamFile *stream, uint32 first, uint32 n);

/* For btree.c: whether an index page is the one that this was called for last. */
extern bool layer_stream_is_last_page(StreamFile *stream, uint32 number);

/* A unit was found damaged: none is copied any more. */
extern void layer_stream_distrust(StreamFile *stream);

#endif /* PS_LAYER_STREAM_H */
