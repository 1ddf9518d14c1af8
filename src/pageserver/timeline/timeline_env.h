/*
 * timeline_env.h
 *	  What an open timeline needs of the process that it is open in.
 *
 * Handed in when it is opened, and there as long as it is open.  All timelines
 * of a tenant have the same.  Timelines know neither the store nor the tenant.
 */
#ifndef PS_TIMELINE_ENV_H
#define PS_TIMELINE_ENV_H

#include <stdatomic.h>

#include "base/config.h"
#include "base/store_clock.h"
#include "io/aio.h"
#include "io/page_store.h"
#include "redo/redo.h"
#include "timeline/memory_budget.h"

struct Timeline;

/* What reads came to since the start; changed by any thread. */
typedef struct ReadCounters
{
	atomic_uint_fast64_t keys;            /* that were looked for */
	atomic_uint_fast64_t layers_searched; /* for them */
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
	atomic_int_fast64_t *room_reserved; /* bytes that upkeep is about to write (maintain/room.c) */

	/* A flush added a file: there may be something for upkeep to do.  Called with no lock held. */
	void (*on_files_added)(struct Timeline *tl);

	/* changed only while no timeline of this env is open */
	RedoPool *redo;

	/*
	 * Not 0: branches may begin in these timelines at LSNs that nobody knows, so
	 * nothing of them is garbage.  Changed by any thread.
	 */
	atomic_int keep_all;
} TimelineEnv;

static inline const Config *
env_config(const TimelineEnv *env)
{
	return atomic_load_explicit(env->config, memory_order_acquire);
}

#endif /* PS_TIMELINE_ENV_H */
