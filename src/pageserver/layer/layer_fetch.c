/*
 * layer_fetch.c
 *	  Fetches absent units of part files: see layer_cache.h.
 */
#include "ps_fe.h"

#include <pthread.h>

#include "base/clock.h"
#include "base/fs.h"
#include "layer/layer_cache.h"
#include "layer/layer_stream.h"
#include "sqlstate.h"

/* Units that a thread fetches at a time: 16 MB of memory; and those that become one range. */
#define FETCH_UNITS 64
#define RANGE_UNITS 16

/* Interval for checking a wait for another thread's fetch again, ms; not needed for it to end. */
#define WAIT_MS 1000

/* Adjacent units of a file that a thread is fetching. */
struct UnitFetch
{
	/* fixed when it is in LayerCache.fetches */
	const LayerFile *file; /* of the thread that fetches */
	uint32 first;
	uint32 n;
	bool patient;

	/* protected by fetching.lock */
	int users; /* the thread that fetches, and those that wait */
	bool done; /* and not in the list any more */
	PsError *err;
	UnitFetch *next;
};

static struct
{
	pthread_mutex_t lock; /* a leaf; protects LayerCache.fetches of all layers */
	pthread_cond_t done;
	pthread_once_t once;
} fetching = {.lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT};

__thread LayerContext layer_context;

int layer_retry_ms = 1000;

static void
init_condition(void)
{
	clock_cond_init(&fetching.done);
}

/* ---- the list of fetches; caller holds fetching.lock ---- */

static UnitFetch *
find_fetch(const LayerCache *cache, uint32 unit)
{
	for (UnitFetch *fetch = cache->fetches; fetch != NULL; fetch = fetch->next)
		if (unit >= fetch->first && unit - fetch->first < fetch->n)
			return fetch;
	return NULL;
}

static void
remove_fetch(UnitFetch *fetch)
{
	UnitFetch **place = &fetch->file->cache->fetches;

	while (*place != fetch)
		place = &(*place)->next;
	*place = fetch->next;
}

static void
give_up(UnitFetch *fetch)
{
	if (--fetch->users > 0)
		return;
	ps_error_free(fetch->err);
	free(fetch);
}

/* What a thread has claimed. */
typedef struct Claims
{
	LayerSource *source;
	UnitFetch *fetches[FETCH_UNITS];
	int n;
	int units;
	UnitFetch *busy; /* a fetch of another thread that some range needs; NULL: none */
} Claims;

static void
claim_unit(Claims *claims, const LayerFile *file, uint32 unit, bool patient)
{
	UnitFetch *last = claims->n > 0 ? claims->fetches[claims->n - 1] : NULL;

	claims->units++;
	if (last != NULL && last->file == file && last->first + last->n == unit && last->n < RANGE_UNITS)
	{
		last->n++;
		return;
	}
	last = pg_malloc0(sizeof(UnitFetch));
	*last = (UnitFetch) {
		.file = file, .first = unit, .n = 1, .patient = patient, .users = 1, .next = file->cache->fetches};
	file->cache->fetches = last;
	claims->fetches[claims->n++] = last;
}

static bool
is_claimed(const Claims *claims, const UnitFetch *fetch)
{
	for (int i = 0; i < claims->n; i++)
		if (claims->fetches[i] == fetch)
			return true;
	return false;
}

/* Claims the absent units of a range that nobody is fetching, and of a file that is streamed those that follow. */
static void
claim_range(Claims *claims, const LayerWant *want, bool patient)
{
	LayerCache *cache = want->file->cache;
	uint64 end = (want->offset + want->len + PRESENCE_UNIT - 1) / PRESENCE_UNIT;
	uint64 wanted;

	if (claims->n > 0 && claims->source != cache->space->source)
		return; /* in the next round */
	claims->source = cache->space->source;
	wanted = end = Min(end, presence_units(cache->presence));
	for (uint32 unit = (uint32) (want->offset / PRESENCE_UNIT); unit < end && claims->units < FETCH_UNITS; unit++)
	{
		UnitFetch *other;

		if (presence_has_unit(cache->presence, unit))
			continue;
		if (cache->stream != NULL && unit < wanted)
		{
			end = Max(end, (uint64) unit + layer_stream_window(cache->stream, unit));
			end = Min(end, presence_units(cache->presence));
		}
		other = find_fetch(cache, unit);
		if (other == NULL)
			claim_unit(claims, want->file, unit, patient);
		else if (claims->busy == NULL && !is_claimed(claims, other))
			claims->busy = other;
	}
}

/* ---- fetching ---- */

/* The ranges that need a unit of the fetch get its error. */
static void
spread_error(const UnitFetch *fetch, const PsError *err, LayerWant *wants, int n)
{
	uint64 start = (uint64) fetch->first * PRESENCE_UNIT;
	uint64 end = start + (uint64) fetch->n * PRESENCE_UNIT;

	for (int i = 0; i < n; i++)
		if (wants[i].err == NULL && wants[i].file->cache == fetch->file->cache && wants[i].offset < end &&
			wants[i].offset + wants[i].len > start)
			wants[i].err = ps_error_copy(err);
}

/* Writes what was fetched to the part file; then it is present. */
static PsError *
store_units(const UnitFetch *fetch, const LayerFetch *range)
{
	const LayerFile *file = fetch->file;

	PS_TRY(fs_write_at(file->fd, file->path, range->buf, range->len, (off_t) range->offset));
	for (uint32 i = 0; i < fetch->n; i++)
		presence_set(file->cache->presence, fetch->first + i);
	if (file->cache->stream != NULL)
		layer_stream_stored(file->cache->stream, fetch->first, fetch->n);
	return NULL;
}

/* Fetches what was claimed, and gives up the claims. */
static void
fetch_claims(Claims *claims, LayerWant *wants, int n, bool patient)
{
	LayerFetch ranges[FETCH_UNITS];
	char *buf = pg_malloc((size_t) claims->units * PRESENCE_UNIT);
	char *p = buf;

	for (int i = 0; i < claims->n; i++)
	{
		const UnitFetch *fetch = claims->fetches[i];
		const LayerCache *cache = fetch->file->cache;
		uint32 last = fetch->first + fetch->n - 1;

		ranges[i] = (LayerFetch) {
			.space = cache->space,
			.info = cache->info,
			.offset = (uint64) fetch->first * PRESENCE_UNIT,
			.len = (size_t) (fetch->n - 1) * PRESENCE_UNIT + presence_unit_len(cache->presence, last),
			.buf = p};
		p += ranges[i].len;
	}
	claims->source->fetch(claims->source, ranges, claims->n, patient, layer_context.cancel);
	for (int i = 0; i < claims->n; i++)
	{
		if (ranges[i].err == NULL)
			ranges[i].err = store_units(claims->fetches[i], &ranges[i]);
		if (ranges[i].err != NULL)
			spread_error(claims->fetches[i], ranges[i].err, wants, n);
	}
	free(buf);

	pthread_mutex_lock(&fetching.lock);
	for (int i = 0; i < claims->n; i++)
	{
		UnitFetch *fetch = claims->fetches[i];

		remove_fetch(fetch);
		fetch->err = ranges[i].err;
		fetch->done = true;
		give_up(fetch);
	}
	pthread_cond_broadcast(&fetching.done);
	pthread_mutex_unlock(&fetching.lock);
}

/*
 * Waits for another thread's fetch.  Its error is not that of this thread if the
 * other one was canceled or did not try as hard.  Caller holds fetching.lock.
 */
static void
wait_for(UnitFetch *fetch, LayerWant *wants, int n, bool patient)
{
	CancelWait wait = {.cancel = layer_context.cancel};
	PsError *canceled = NULL;

	fetch->users++;
	while (!fetch->done && canceled == NULL)
		canceled = cancel_wait(&wait, &fetching.done, &fetching.lock, WAIT_MS);
	if (canceled != NULL)
	{
		for (int i = 0; i < n; i++)
			if (wants[i].err == NULL)
				wants[i].err = ps_error_copy(canceled);
		ps_error_free(canceled);
	}
	else if (fetch->err != NULL && !fetch->err->is_cancel && (fetch->patient || !patient))
		spread_error(fetch, fetch->err, wants, n);
	give_up(fetch);
}

/* Fetches, or waits for, all that can be had. */
static void
fetch_once(LayerWant *wants, int n, bool patient)
{
	Claims claims;

	do
	{
		claims.n = claims.units = 0;
		claims.busy = NULL;
		pthread_mutex_lock(&fetching.lock);
		for (int i = 0; i < n; i++)
			if (wants[i].err == NULL && wants[i].file->cache != NULL)
				claim_range(&claims, &wants[i], patient);
		if (claims.n == 0 && claims.busy != NULL)
			wait_for(claims.busy, wants, n, patient);
		pthread_mutex_unlock(&fetching.lock);
		if (claims.n > 0)
			fetch_claims(&claims, wants, n, patient);
	} while (claims.n > 0 || claims.busy != NULL);
}

bool
layer_should_retry(const PsError *err)
{
	return layer_context.endless && ps_error_is_transient(err) && !err->is_cancel;
}

/* Frees the errors after which the caller tries again; returns whether there were any. */
static bool
clear_errors(LayerWant *wants, int n)
{
	bool any = false;

	for (int i = 0; i < n; i++)
		if (wants[i].err != NULL && layer_should_retry(wants[i].err))
		{
			ps_error_free(wants[i].err);
			wants[i].err = NULL;
			any = true;
		}
	return any;
}

PsError *
layer_pause_retry(void)
{
	CancelWait wait = {.cancel = layer_context.cancel};
	int64 end = clock_now_ms() + layer_retry_ms;
	int64 left;
	PsError *err = NULL;

	pthread_once(&fetching.once, init_condition);
	pthread_mutex_lock(&fetching.lock);
	while (err == NULL && (left = end - clock_now_ms()) > 0)
		err = cancel_wait(&wait, &fetching.done, &fetching.lock, left);
	pthread_mutex_unlock(&fetching.lock);
	return err;
}

void
layer_fetch(LayerWant *wants, int n, bool patient)
{
	PsError *canceled;

	pthread_once(&fetching.once, init_condition);
	for (int i = 0; i < n; i++)
		if (wants[i].file->cache != NULL && wants[i].file->cache->stream != NULL)
			layer_stream_copy(wants[i].file->cache->stream, wants[i].offset, wants[i].len);
	fetch_once(wants, n, patient);
	while (patient && clear_errors(wants, n))
	{
		canceled = layer_pause_retry();
		if (canceled == NULL)
			fetch_once(wants, n, patient);
		for (int i = 0; canceled != NULL && i < n; i++)
			if (wants[i].err == NULL)
				wants[i].err = ps_error_copy(canceled);
		ps_error_free(canceled);
	}
}

PsError *
layer_fetch_range(const LayerFile *file, uint64 offset, size_t len)
{
	LayerWant want = {.file = file, .offset = offset, .len = len};

	layer_fetch(&want, 1, true);
	return want.err;
}

/* Many reads may find the same damage: not each of them should fetch it. */
static bool
may_fetch_again(LayerCache *cache, uint64 unit)
{
	int64 now = clock_now_ms();
	bool may;

	pthread_mutex_lock(&fetching.lock);
	may = cache->fetched_again == 0 || cache->damaged_unit != unit ||
		  now - cache->fetched_again >= layer_retry_ms;
	if (may)
	{
		cache->damaged_unit = unit;
		cache->fetched_again = now;
	}
	pthread_mutex_unlock(&fetching.lock);
	return may;
}

bool
layer_fetch_again(const LayerFile *file, uint64 offset, size_t len, int tries, PsError **err)
{
	LayerCache *cache = file->cache;
	uint64 end = (offset + len + PRESENCE_UNIT - 1) / PRESENCE_UNIT;

	if (likely(cache == NULL) || *err == NULL || len == 0 || !ps_error_is(*err, PS_SQLSTATE_CORRUPTED))
		return false;
	if (tries > 0 || !may_fetch_again(cache, offset / PRESENCE_UNIT))
	{
		char name[MAXPGPATH];

		*err = ps_error_detail(*err, "It was fetched again from object \"%s\", and is no better.",
							   cache->space->source->object_name(cache->space->source, cache->space, cache->info, name,
																 sizeof(name)));
		return false;
	}
	ps_log_error(PS_WARNING, *err, "fetching a part of a layer again");
	*err = NULL;
	if (cache->stream != NULL)
		layer_stream_distrust(cache->stream);
	for (uint64 unit = offset / PRESENCE_UNIT; unit < end; unit++)
		presence_clear(cache->presence, (uint32) unit);
	return true;
}

int
layer_want_ends(const LayerFile *file, LayerWant wants[2])
{
	uint64 size = file->cache->info->file_size;

	wants[0] = (LayerWant) {.file = file, .offset = 0, .len = LAYER_BLOCK_SIZE};
	wants[1] = (LayerWant) {.file = file, .offset = size - Min(size, LAYER_BLOCK_SIZE), .len = LAYER_BLOCK_SIZE};
	return 2;
}

PsError *
layer_fetch_ends(const LayerFile *file)
{
	LayerWant wants[2];

	layer_fetch(wants, layer_want_ends(file, wants), true);
	return ps_error_first(wants[0].err, wants[1].err);
}
