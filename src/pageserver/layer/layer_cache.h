/*
 * layer_cache.h
 *	  What was fetched of layers whose files are elsewhere: see layer_source.h.
 *
 * There is one place where an absent range becomes a fetch: layer_fetch().
 * layer_file_read() calls it for one range.  Callers that read many ranges, of
 * many layers, first call it for all of them together, and then read as they do
 * without a source, whatever the method of I/O.
 *
 * A range of a part file may be read, by pread(), RWF_NOWAIT or the mapping, only
 * after presence_has() was found to be true for it, because a hole reads as zeros.
 *
 * The LayerCache belongs to the Layer, not to the open file: the map of a file that
 * is closed to make room for others is not lost, and nothing need be synced then.
 * It is created, and removed by layer_evict(), only by the thread that changed
 * Layer.users to FILE_OPENING (layer_files.c).  All others use it only between
 * layer_acquire() and layer_release(); a fetch is between these, too.  Hence the
 * map always is that of the file that the name leads to, and no unit is fetched
 * into a file that was evicted.  No two layers may have the same part file.
 *
 * Each absent unit is fetched by one thread; others that need it wait, and get the
 * same error if it fails.  A thread fetches all units that nobody is fetching
 * before it waits for others', and holds no lock meanwhile, so there is no circle
 * of waits.
 */
#ifndef PS_LAYER_CACHE_H
#define PS_LAYER_CACHE_H

#include "layer/layer_file.h"
#include "layer/layer_source.h"
#include "layer/presence.h"

typedef struct UnitFetch UnitFetch;

/* Of a layer with a part file.  The first fields are fixed; the others are protected by the lock of layer_fetch.c. */
typedef struct LayerCache
{
	const LayerSpace *space;
	const LayerInfo *info; /* of the layer */
	Presence *presence;
	struct StreamFile *stream; /* of a file that is streamed (layer_stream.h); NULL: a part file */
	UnitFetch *fetches;        /* in progress */

	/* the last unit that was found damaged, and when it was fetched again, clock_now_ms(); 0: never */
	uint64 damaged_unit;
	int64 fetched_again;
} LayerCache;

/* Pause between attempts to fetch a damaged unit, and of a thread that tries for ever, ms; a variable for tests. */
extern int layer_retry_ms;

/* A range of an open part file that the caller, who has acquired the layer or is opening it, is going to read. */
typedef struct LayerWant
{
	const LayerFile *file;
	uint64 offset;
	size_t len;
	PsError *err; /* the answer */
} LayerWant;

/* ---- layer_fetch.c ---- */

/*
 * Fetches what is absent of n ranges, together.  Initialize err with NULL; a range
 * without an error is present afterwards.  patient: see LayerSource.
 */
extern void layer_fetch(LayerWant *wants, int n, bool patient);

/* Whether to try again after an error of a fetch, or of the thread that opened a file: see LayerContext.endless. */
extern bool layer_should_retry(const PsError *err);

/* Waits before that; returns why the wait was canceled, or NULL. */
extern PsError *layer_pause_retry(void);

/* The same for one range. */
extern PsError *layer_fetch_range(const LayerFile *file, uint64 offset, size_t len);

/*
 * The ends of a file, with which its use begins: the summary and the root of its
 * index.  layer_want_ends() initializes two ranges, and returns 2.
 */
extern int layer_want_ends(const LayerFile *file, LayerWant wants[2]);
extern PsError *layer_fetch_ends(const LayerFile *file);

/*
 * For callers that have read a range and checked it, with the result *err; "tries"
 * is 0, and 1 if the range was read again.  Returns true if it is to be read again,
 * because it is damaged, but may be right in the object that it was fetched from:
 * logs and frees *err, and drops the units, so that layer_file_read() fetches them.
 * Otherwise *err stays, and names the object if that is damaged, too; the next
 * attempt is made after layer_retry_ms.  Does nothing if len is 0.
 */
extern bool layer_fetch_again(const LayerFile *file, uint64 offset, size_t len, int tries, PsError **err);

/* Whether the range may be read; of a whole file, always. */
static inline bool
layer_file_has(const LayerFile *file, uint64 offset, size_t len)
{
	return likely(file->cache == NULL) || presence_has(file->cache->presence, offset, len);
}

/* ---- layer_cache.c ---- */

/*
 * Opens the part file of a layer, for reading and writing, and sets *cache, which
 * may be that of an earlier use.  The file is created if it does not exist.  Caller
 * is opening the layer.
 */
extern PsError *layer_cache_open(const LayerSpace *space, const LayerInfo *info, const char *path, LayerCache **cache,
								 int *fd);

extern void layer_cache_free(LayerCache *cache); /* does nothing for NULL */

#endif /* PS_LAYER_CACHE_H */
