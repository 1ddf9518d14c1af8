/*
 * layer_memory.c
 *	  What the layers in memory take, of all timelines of a store together.
 *
 * open_layer_memory bounds one layer; there are as many as branches that are
 * written.  Beyond half of layer_memory each may have its share of that half:
 * those that have more are frozen, so that their flush threads write them.  At
 * layer_memory, ingest waits.  As no open layer keeps more than its share, at
 * least half of what there is then is being written, and the wait ends.
 */
#include "ps_fe.h"

#include "timeline_impl.h"

/* How often ingest looks whether flushes of other timelines have made room, ms. */
#define WAIT_MS 50

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
layer_memory_is_over(const Timeline *tl, uint64 size)
{
	const Store *store = tl->tenant->store;
	int			nfilled = atomic_load_explicit(&store->nfilled, memory_order_relaxed);

	return used(store) > limit(store) / 2 && size > limit(store) / 2 / Max(nfilled, 1);
}

/* Wakes the ingest threads that have nothing to do, so that they look at layer_memory_is_over(). */
static void
ask_others(Store *store)
{
	int64		now = timeline_now_ms();
	int64		asked = atomic_load(&store->layer_memory_asked);
	Timeline  **list;
	int			n;

	if (now - asked < ASK_MS || !atomic_compare_exchange_strong(&store->layer_memory_asked, &asked, now))
		return;
	list = store_list(store, &n);
	for (int i = 0; i < n; i++)
	{
		pthread_mutex_lock(&list[i]->lock);
		pthread_cond_broadcast(&list[i]->changed);
		pthread_mutex_unlock(&list[i]->lock);
	}
	store_list_free(list, n);
}

void
layer_memory_wait(Timeline *tl)
{
	Store	   *store = tl->tenant->store;
	bool		stopping = false;

	if (used(store) > limit(store) / 4 * 3)
		ask_others(store);
	while (used(store) > limit(store) && !stopping)
	{
		/* the flushes that end this may be of any timeline */
		pthread_mutex_lock(&tl->lock);
		if (!tl->stopping)
			timeline_wait(tl, &tl->layers_changed, WAIT_MS);
		stopping = tl->stopping;
		pthread_mutex_unlock(&tl->lock);
		ask_others(store);
	}
}
