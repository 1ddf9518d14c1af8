/*
 * layer_memory.c
 *	  What the layers in memory take, of all timelines of a store together.
 *
 * open_layer_memory bounds one layer; there are as many as branches that are
 * written.  Beyond half of layer_memory each may have its share of that half:
 * those that have more are frozen, so that their flush threads write them.
 *
 * A timeline waits for its own flushes only, never for those of another.  It
 * takes in no WAL while its layers take more than half of layer_memory, or more
 * than its share while those of all take more than layer_memory.  As no open
 * layer is larger than that, some of its memory is being written then, and the
 * wait ends.  So a timeline whose layers cannot be written (the disk is full,
 * or a directory cannot be written to) keeps what it has, and the others go on
 * with small layers.
 *
 * Of one whose layers never can be written (flush.c) the memory is given back
 * when more than half of layer_memory is taken.
 */
#include "ps_fe.h"

#include "timeline/timeline_impl.h"

/* How often, at most, the others are asked to freeze, ms. */
#define ASK_MS 1000

static uint64
limit(const Store *store)
{
	return (uint64) store->config->layer_memory * 1024 * 1024;
}

static uint64
used(const Store *store)
{
	return atomic_load_explicit(&store->layer_memory, memory_order_relaxed);
}

/* What the open layer of each timeline may take, if there are many. */
static uint64
share(const Store *store)
{
	int nfilled = atomic_load_explicit(&store->nfilled, memory_order_relaxed);

	return limit(store) / 2 / Max(nfilled, 1);
}

void
layer_memory_add(Timeline *tl, int64 delta)
{
	atomic_fetch_add_explicit(&tl->layer_memory, delta, memory_order_relaxed);
	atomic_fetch_add_explicit(&tl->tenant->store->layer_memory, delta, memory_order_relaxed);
}

void
layer_memory_open(Timeline *tl, int delta)
{
	atomic_fetch_add_explicit(&tl->tenant->store->nfilled, delta, memory_order_relaxed);
}

bool
layer_memory_is_wanted(const Store *store)
{
	return used(store) > limit(store) / 2;
}

bool
layer_memory_is_over(const Timeline *tl, uint64 size)
{
	const Store *store = tl->tenant->store;

	return layer_memory_is_wanted(store) && size > share(store);
}

/* Does the timeline have to wait for its flushes? */
static bool
must_wait(const Timeline *tl)
{
	const Store *store = tl->tenant->store;
	uint64 own = atomic_load_explicit(&tl->layer_memory, memory_order_relaxed);

	return own > limit(store) / 2 || (used(store) > limit(store) && own > share(store));
}

/*
 * Wakes the ingest threads that have nothing to do, so that they look at
 * layer_memory_is_over(), and the flush threads, which may have memory to give back.
 */
static void
ask_others(Store *store)
{
	int64 now = clock_now_ms();
	int64 asked = atomic_load(&store->layer_memory_asked);
	Timeline **list;
	int n;

	if (now - asked < ASK_MS || !atomic_compare_exchange_strong(&store->layer_memory_asked, &asked, now))
		return;
	list = store_list(store, &n);
	for (int i = 0; i < n; i++)
	{
		pthread_mutex_lock(&list[i]->lock);
		pthread_cond_broadcast(&list[i]->changed);
		pthread_cond_broadcast(&list[i]->layers_changed);
		pthread_mutex_unlock(&list[i]->lock);
	}
	store_list_free(list, n);
}

void
layer_memory_wait(Timeline *tl)
{
	Store *store = tl->tenant->store;

	if (used(store) > limit(store) / 4 * 3)
		ask_others(store);
	pthread_mutex_lock(&tl->lock);
	while (must_wait(tl) && !tl->stopping && !tl->unwritable)
	{
		timeline_report_wait(tl, WAIT_FOR_MEMORY, "%llu MB of its layers in memory to be written (layer_memory is %d MB)",
							 (unsigned long long) atomic_load(&tl->layer_memory) / (1024 * 1024), store->config->layer_memory);
		timeline_wait(tl, &tl->layers_changed, ASK_MS);
	}
	timeline_end_wait(tl, WAIT_FOR_MEMORY);
	pthread_mutex_unlock(&tl->lock);
}
