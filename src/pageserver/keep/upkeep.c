/*
 * upkeep.c
 *	  The threads that keep layer files in order: compaction_workers of them
 *	  for the whole store, so that nothing else waits for them and they do not
 *	  wait for each other.
 *
 * A timeline asks for them when a flush has added a file (upkeep_wake()); each
 * is looked at once in UPKEEP_PERIOD besides, for time alone makes history
 * unreadable.  One thread at a time works on a timeline (Timeline.upkeep_lock);
 * what it finds to do comes in this order: merges, images, garbage, and images
 * where branches begin, which make garbage.
 */
#include "ps_fe.h"

#include "keep/keep.h"
#include "ps_wire.h"

/* How often a timeline is looked at that has not asked, ms. */
#define UPKEEP_PERIOD (3600 * 1000)

/* Pause after a failure, ms. */
#define RETRY_DELAY 10000

/* Garbage is looked for when so much of all layer files, percent, is new since the last time. */
#define GC_CHANGED_PERCENT 10

struct Upkeep
{
	Store	   *store;			/* fixed */
	int			nthreads;
	pthread_t  *threads;
	pthread_mutex_t lock;		/* a leaf; protects what follows, and Timeline.upkeep_due */
	pthread_cond_t wake;
	uint64		wakes;			/* calls of upkeep_wake() */
	bool		stopping;
};

/* Takes garbage away if enough has changed since the last time (*done), or if it is wanted now. */
static PsError *
collect_garbage(Timeline *tl, bool now, GcResult *result, bool *done)
{
	LayerSet   *set = timeline_layers(tl);
	uint64		total = 0;
	uint64		fresh = 0;
	int64		ms = timeline_now_ms();
	PsError    *err = NULL;

	memset(result, 0, sizeof(*result));
	for (int i = 0; i < layer_map_count(set->map); i++)
	{
		const LayerInfo *info = layer_info(layer_map_get(set->map, i));

		total += info->file_size;
		if (info->number >= tl->gc_number)
			fresh += info->file_size;
	}
	layer_set_unref(set);
	*done = false;
	if (!now && fresh * 100 <= total * GC_CHANGED_PERCENT && ms - tl->gc_time < UPKEEP_PERIOD)
		return NULL;
	err = gc_run(tl, result);
	if (err == NULL)
	{
		*done = true;
		tl->gc_number = atomic_load(&tl->space.next_number);
		tl->gc_time = ms;
		if (result->removed + result->rewritten > 0)
			ps_log(PS_LOG, "branch \"%s\": removed %d files and rewrote %d, layers take %llu MB, %llu MB less", tl->name,
				   result->removed, result->rewritten, (unsigned long long) result->bytes_after / (1024 * 1024),
				   (unsigned long long) (result->bytes_before - result->bytes_after) / (1024 * 1024));
	}
	return err;
}

PsError *
upkeep_timeline(Timeline *tl, bool all)
{
	bool		done = true;
	int			made = 0;
	GcResult	result;
	PsError    *err = NULL;

	pthread_mutex_lock(&tl->upkeep_lock);
	while (err == NULL && done)
		err = compact_step(tl, &done);
	if (err == NULL)
		err = make_images(tl, all, &made);
	if (err == NULL)
		err = collect_garbage(tl, all, &result, &done);
	if (err == NULL && done)
		err = make_branch_images(tl, &made);
	if (err == NULL && done && made > 0)
		err = collect_garbage(tl, true, &result, &done);
	pthread_mutex_unlock(&tl->upkeep_lock);
	return err;
}

/*
 * The timeline that has been due for the longest time, which is then the
 * caller's to release; NULL: none is due before *wait_ms.
 */
static Timeline *
take_due(Upkeep *upkeep, int64 *wait_ms)
{
	int			n;
	Timeline  **list = store_list(upkeep->store, &n);
	int64		now = timeline_now_ms();
	Timeline   *next = NULL;

	pthread_mutex_lock(&upkeep->lock);
	*wait_ms = UPKEEP_PERIOD;
	for (int i = 0; i < n; i++)
		if (next == NULL || list[i]->upkeep_due < next->upkeep_due)
			next = list[i];
	if (next != NULL && next->upkeep_due > now)
	{
		*wait_ms = next->upkeep_due - now;
		next = NULL;
	}
	if (next != NULL)
		next->upkeep_due = now + UPKEEP_PERIOD;
	pthread_mutex_unlock(&upkeep->lock);
	for (int i = 0; i < n; i++)
		if (list[i] != next)
			store_release(list[i]);
	free(list);
	return next;
}

/* Until it is told to stop, or more than "wakes" calls of upkeep_wake() have come. */
static void
wait_for_work(Upkeep *upkeep, uint64 wakes, int64 ms)
{
	struct timespec ts;
	int			rc = 0;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += ms / 1000 + 1;
	pthread_mutex_lock(&upkeep->lock);
	while (!upkeep->stopping && upkeep->wakes == wakes && rc == 0)
		rc = pthread_cond_timedwait(&upkeep->wake, &upkeep->lock, &ts);
	pthread_mutex_unlock(&upkeep->lock);
}

static bool
look(Upkeep *upkeep, uint64 *wakes)
{
	bool		stopping;

	pthread_mutex_lock(&upkeep->lock);
	*wakes = upkeep->wakes;
	stopping = upkeep->stopping;
	pthread_mutex_unlock(&upkeep->lock);
	return !stopping;
}

static void *
upkeep_main(void *arg)
{
	Upkeep	   *upkeep = arg;
	uint64		wakes;

	ps_thread_name("upkeep");
	while (look(upkeep, &wakes))
	{
		int64		wait_ms;
		Timeline   *tl = take_due(upkeep, &wait_ms);
		PsError    *err;

		if (tl == NULL)
		{
			wait_for_work(upkeep, wakes, wait_ms);
			continue;
		}
		err = upkeep_timeline(tl, false);
		if (err != NULL)
		{
			pthread_mutex_lock(&upkeep->lock);
			tl->upkeep_due = timeline_now_ms() + RETRY_DELAY;
			pthread_mutex_unlock(&upkeep->lock);
			if (timeline_is_stopping(tl))
				ps_error_free(err);
			else
				ps_log_error(PS_WARNING, err, "branch \"%s\": upkeep of layer files failed, will try again", tl->name);
		}
		store_release(tl);
	}
	return NULL;
}

PsError *
upkeep_start(Store *store, Upkeep **result)
{
	Upkeep	   *upkeep = pg_malloc0(sizeof(Upkeep));
	pthread_condattr_t attr;
	int			rc = 0;

	upkeep->store = store;
	upkeep->threads = pg_malloc0(Max(store->config->compaction_workers, 1) * sizeof(pthread_t));
	pthread_mutex_init(&upkeep->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&upkeep->wake, &attr);
	pthread_condattr_destroy(&attr);
	while (rc == 0 && upkeep->nthreads < store->config->compaction_workers)
	{
		rc = pthread_create(&upkeep->threads[upkeep->nthreads], NULL, upkeep_main, upkeep);
		upkeep->nthreads += rc == 0;
	}
	*result = upkeep;
	if (rc == 0)
		return NULL;
	errno = rc;
	return ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "could not start a thread for the upkeep of layer files: %m");
}

void
upkeep_wake(Upkeep *upkeep, Timeline *tl)
{
	if (upkeep == NULL)
		return;
	pthread_mutex_lock(&upkeep->lock);
	tl->upkeep_due = Min(tl->upkeep_due, timeline_now_ms());
	upkeep->wakes++;
	pthread_cond_signal(&upkeep->wake);
	pthread_mutex_unlock(&upkeep->lock);
}

void
upkeep_stop(Upkeep *upkeep)
{
	if (upkeep == NULL)
		return;
	pthread_mutex_lock(&upkeep->lock);
	upkeep->stopping = true;
	pthread_cond_broadcast(&upkeep->wake);
	pthread_mutex_unlock(&upkeep->lock);
	for (int i = 0; i < upkeep->nthreads; i++)
		pthread_join(upkeep->threads[i], NULL);
	pthread_cond_destroy(&upkeep->wake);
	pthread_mutex_destroy(&upkeep->lock);
	free(upkeep->threads);
	free(upkeep);
}
