/*
 * timeline_env.h
 *	  Services that an open timeline needs.
 *
 * All timelines of a tenant have the same TimelineEnv, which is passed when they are opened
 * and exists while they are open.  Timelines know neither the store nor the tenant.
 */
#ifndef PS_TIMELINE_ENV_H
#define PS_TIMELINE_ENV_H

#include <stdatomic.h>

#include "base/cancel.h"
#include "base/config.h"
#include "base/id.h"
#include "base/store_clock.h"
#include "io/aio.h"
#include "io/page_store.h"
#include "redo/redo.h"
#include "timeline/memory_budget.h"

struct Timeline;
struct json_t;

/* Is told of each change of a manifest, so that it is kept elsewhere, too. */
typedef struct ChangeSink
{
	/*
	 * The change is durable in the manifest; the reference to the JSON (timeline/manifest.h) is
	 * taken over.  Called with manifest_lock held.
	 */
	void (*note)(void *arg, const PsId *timeline, struct json_t *change);

	/* Waits until the timeline's generation, as far as it was noted, is safe there, too. */
	PsError *(*wait)(void *arg, const PsId *timeline, int timeout_ms, const CancelCheck *cancel);
	void *arg;
} ChangeSink;

/* Statistics of reads since the start of the store; changed by any thread. */
typedef struct ReadCounters
{
	atomic_uint_fast64_t keys;            /* keys that were searched for */
	atomic_uint_fast64_t layers_searched; /* layers in which they were searched */
} ReadCounters;

typedef struct TimelineEnv
{
	/* fixed; what they point to has locks of its own */
	const Config *const _Atomic *config; /* swapped when settings are reloaded: see config.h */
	StoreClock *clock;
	Aio *aio;
	PageStore *page_cache;
	MemoryBudget *memory;
	ReadCounters *reads;
	struct LayerSource *source; /* of layer files that are not here (layer/layer_source.h); NULL: all are */

	/* Does the source have a layer file of the timeline?  NULL: it has all.  *known false: that is not known now. */
	bool (*source_has)(void *arg, const PsId *timeline, const char *name, bool *known);
	void *source_arg;

	atomic_int_fast64_t *room_reserved; /* bytes that upkeep is about to write (maintain/room.c) */

	/* Called after a flush has added a file: there may be something for upkeep to do.  No lock is held. */
	void (*on_files_added)(struct Timeline *tl);

	/* changed only while no timeline of this env is open */
	RedoPool *redo;
	ChangeSink changes;      /* note NULL: nobody is told */
	uint64 owner_generation; /* in which the store owns the tenant in object storage; 0: it has never been there */

	/*
	 * Not 0: branches may begin in these timelines at unknown LSNs, so nothing of them
	 * may be removed as garbage.  Changed by any thread.
	 */
	atomic_int keep_all;
} TimelineEnv;

static inline const Config *
env_config(const TimelineEnv *env)
{
	return atomic_load_explicit(env->config, memory_order_acquire);
}

#endif /* PS_TIMELINE_ENV_H */
