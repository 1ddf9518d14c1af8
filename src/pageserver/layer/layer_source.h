/*
 * layer_source.h
 *	  Layers whose files are elsewhere.
 *
 * LayerSpace.source is NULL if all files of a space are on this disk.  Otherwise
 * a layer whose file is not here is read from an object, through a part file
 * (presence.h) that is filled, in units, as the layer is read.  layer_cache.h has
 * the rules.
 */
#ifndef PS_LAYER_SOURCE_H
#define PS_LAYER_SOURCE_H

#include "base/cancel.h"
#include "layer/layer.h"

/* A range of a layer's object. */
typedef struct LayerFetch
{
	const LayerSpace *space;
	const LayerInfo *info;
	uint64 offset;
	size_t len;
	char *buf;
	PsError *err; /* the answer; NULL: all len bytes are in buf */
} LayerFetch;

/* Part of a larger struct of its owner, which must live longer than all layers of its spaces. */
typedef struct LayerSource
{
	/*
	 * Reads n ranges, of any layers, together; returns when all are answered.  Any
	 * number of threads at the same time.  An object that cannot be reached, or not
	 * now, is PS_SQLSTATE_TRY_AGAIN; one that does not exist or is too short is
	 * PS_SQLSTATE_CORRUPTED.  patient: it is worth waiting for an object store that
	 * is out of reach; otherwise for a second at most.  cancel may be NULL.
	 */
	void (*fetch)(struct LayerSource *source, LayerFetch *fetches, int n, bool patient, const CancelCheck *cancel);

	/* Writes the name of a layer's object to buf, and returns it; for messages. */
	const char *(*object_name)(struct LayerSource *source, const LayerSpace *space, const LayerInfo *info, char *buf,
							   size_t size);
} LayerSource;

typedef struct LayerStream LayerStream;

/*
 * How the calling thread uses layers.  Zeros if a thread does not set it, which
 * suits upkeep.  Only fetches depend on it.
 */
typedef struct LayerContext
{
	const CancelCheck *cancel; /* of waits for a source, or NULL */
	bool by_client;            /* notes when a layer was read: see layer_last_read() */
	LayerStream *stream;       /* see layer_stream_begin() */
	bool endless;              /* tries again until it is canceled: for ingest, whose failures are final */
} LayerContext;

extern __thread LayerContext layer_context;

/*
 * From layer_stream_begin() to layer_stream_end(), what the thread reads of layers
 * that are not here goes past the cache (layer_stream.h): for work that reads much,
 * once.  Layers must not stay acquired over either call.  Within such work
 * layer_stream_begin() returns NULL, for which layer_stream_end() does nothing.
 */
extern LayerStream *layer_stream_begin(void);
extern void layer_stream_end(LayerStream *stream);

/* ---- layer_evict.c; any thread ---- */

/* The layer's object is in the source, so the file is not needed to keep the layer. */
extern void layer_set_remote(Layer *layer);
extern bool layer_is_remote(const Layer *layer);

/*
 * Removes what is on this disk of a remote layer that nobody is using; the layer
 * itself stays, and is fetched again when it is read.  Returns false, and does
 * nothing, if the layer is in use or not remote, or if its space has no source.
 */
extern bool layer_evict(Layer *layer);

/* Bytes that the layer's file takes on this disk. */
extern uint64 layer_local_bytes(const Layer *layer);

/* When a client (LayerContext.by_client) used the layer last, in minutes of clock_now_ms(); 0: never. */
extern uint32 layer_last_read(const Layer *layer);

/*
 * Makes durable what was fetched of a layer until now; otherwise this happens when
 * the layer is freed, and a crash loses it.  Waits for the disk.  An error costs
 * nothing but what was fetched.
 */
extern PsError *layer_save_fetched(Layer *layer);

#endif /* PS_LAYER_SOURCE_H */
