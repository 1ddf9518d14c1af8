/*
 * remote_layers.c
 *	  Layer files that are read from object storage: see remote_layers.h.
 *
 * A fetch of several ranges is a batch in a queue.  Its own thread takes ranges from
 * it as long as there are any, and so do helper threads, which are started when they are
 * needed and stay.  So a fetch never waits for a helper that has not begun.
 */
#include "ps_fe.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "bucket/keys.h"
#include "sqlstate.h"
#include "upload/remote_layers.h"

/* For how long a fetch that is not patient waits, ms. */
#define IMPATIENT 1000

/* How often a thread that waits for helpers asks whether it is canceled, ms. */
#define CANCEL_CHECK_MS 100

/* A fetch of several ranges.  On the stack of its thread; fields are under RemoteLayers.lock unless said otherwise. */
typedef struct Batch
{
	LayerFetch *fetches; /* one belongs to the thread that has taken it */
	int n;
	int taken;
	int done;
	int64 deadline;          /* fixed */
	atomic_bool canceled;    /* any thread */
	pthread_cond_t finished; /* done == taken */
	struct Batch *next;
} Batch;

struct RemoteLayers
{
	LayerSource source; /* first */
	ObjectStore *store;
	int max_helpers;
	_Atomic int64 patience;

	pthread_mutex_t lock; /* a leaf, not held during requests */
	pthread_cond_t work;  /* there is a batch with ranges that nobody has taken, or the end */
	Batch *batches;       /* those with ranges that nobody has taken, oldest first */
	pthread_t *helpers;
	int nhelpers;
	int nidle;
	bool ending;
};

static BucketKey
key_of(const LayerSpace *space, const LayerInfo *info)
{
	return (BucketKey) {
		.kind = BUCKET_KEY_LAYER, .tenant = space->tenant, .timeline = space->timeline, .number = info->number};
}

/* Reads a range, and sets its error. */
static void
fetch_one(RemoteLayers *layers, LayerFetch *fetch, const ObjectWait *wait)
{
	BucketKey key = key_of(fetch->space, fetch->info);
	char name[BUCKET_KEY_TEXT];
	size_t got = 0;
	PsError *err = object_get_range(layers->store, bucket_key_format(&key, name), (int64) fetch->offset, fetch->len,
									fetch->buf, &got, wait);

	if (err != NULL && object_is_missing(err))
	{
		ps_error_free(err);
		err = ps_error(PS_SQLSTATE_CORRUPTED, "object \"%s/%s\" does not exist", object_store_url(layers->store), name);
	}
	else if (err == NULL && got != fetch->len)
		err = ps_error(PS_SQLSTATE_CORRUPTED, "object \"%s/%s\" is shorter than the layer file, which has %llu bytes",
					   object_store_url(layers->store), name, (unsigned long long) fetch->info->file_size);
	fetch->err = err;
}

/* ---- batches ---- */

/* Takes a range of a batch; caller holds the lock.  NULL: there is none. */
static LayerFetch *
take(RemoteLayers *layers, Batch *batch)
{
	LayerFetch *fetch;

	if (batch->taken == batch->n)
		return NULL;
	fetch = &batch->fetches[batch->taken++];
	if (batch->taken == batch->n)
	{
		Batch **link = &layers->batches;

		while (*link != batch)
			link = &(*link)->next;
		*link = batch->next;
	}
	return fetch;
}

/* The check of helpers: they must not call the client's. */
static PsError *
check_batch(void *arg)
{
	Batch *batch = arg;

	if (!atomic_load(&batch->canceled))
		return NULL;
	return ps_error(PS_SQLSTATE_CANCELED, "the read was canceled");
}

static void
help(RemoteLayers *layers, Batch *batch, LayerFetch *fetch)
{
	CancelCheck cancel = {check_batch, batch};
	ObjectWait wait = {&cancel, batch->deadline};

	pthread_mutex_unlock(&layers->lock);
	fetch_one(layers, fetch, &wait);
	pthread_mutex_lock(&layers->lock);
	if (++batch->done == batch->n)
		pthread_cond_signal(&batch->finished);
}

static void *
helper_main(void *arg)
{
	RemoteLayers *layers = arg;

	ps_thread_name("fetch");
	pthread_mutex_lock(&layers->lock);
	while (!layers->ending)
	{
		Batch *batch = layers->batches;

		if (batch != NULL)
		{
			help(layers, batch, take(layers, batch));
			continue;
		}
		layers->nidle++;
		pthread_cond_wait(&layers->work, &layers->lock);
		layers->nidle--;
	}
	pthread_mutex_unlock(&layers->lock);
	return NULL;
}

/* Starts helpers for n ranges, as far as there are not enough idle ones.  Caller holds the lock. */
static void
call_helpers(RemoteLayers *layers, int n)
{
	for (int i = Min(n, layers->nidle); i > 0; i--)
		pthread_cond_signal(&layers->work);
	for (int i = n - layers->nidle; i > 0 && layers->nhelpers < layers->max_helpers; i--)
	{
		if (pthread_create(&layers->helpers[layers->nhelpers], NULL, helper_main, layers) != 0)
			break; /* the caller does the work alone */
		layers->nhelpers++;
	}
}

/* Waits for the helpers that have taken ranges, and has them give up if the thread is canceled. */
static void
wait_for_helpers(RemoteLayers *layers, Batch *batch, const CancelCheck *cancel)
{
	while (batch->done < batch->n)
	{
		clock_cond_wait(&batch->finished, &layers->lock, CANCEL_CHECK_MS);
		if (batch->done == batch->n || cancel == NULL)
			continue;
		pthread_mutex_unlock(&layers->lock);
		if (cancel_is_requested(cancel))
			atomic_store(&batch->canceled, true);
		pthread_mutex_lock(&layers->lock);
	}
}

static void
fetch_many(RemoteLayers *layers, LayerFetch *fetches, int n, const ObjectWait *wait)
{
	Batch batch = {.fetches = fetches, .n = n, .deadline = wait->deadline};
	Batch **link;
	LayerFetch *fetch;

	atomic_init(&batch.canceled, false);
	clock_cond_init(&batch.finished);
	pthread_mutex_lock(&layers->lock);
	for (link = &layers->batches; *link != NULL; link = &(*link)->next)
		;
	*link = &batch;
	call_helpers(layers, n - 1);
	while ((fetch = take(layers, &batch)) != NULL)
	{
		pthread_mutex_unlock(&layers->lock);
		fetch_one(layers, fetch, wait);
		if (fetch->err != NULL && fetch->err->is_cancel)
			atomic_store(&batch.canceled, true);
		pthread_mutex_lock(&layers->lock);
		batch.done++;
	}
	wait_for_helpers(layers, &batch, wait->cancel);
	pthread_mutex_unlock(&layers->lock);
	pthread_cond_destroy(&batch.finished);
}

/* ---- the source ---- */

static void
fetch(LayerSource *source, LayerFetch *fetches, int n, bool patient, const CancelCheck *cancel)
{
	RemoteLayers *layers = (RemoteLayers *) source;
	ObjectWait wait = {cancel, clock_now_ms() + (patient ? atomic_load(&layers->patience) : IMPATIENT)};

	if (n == 1)
		fetch_one(layers, fetches, &wait);
	else if (n > 1)
		fetch_many(layers, fetches, n, &wait);
}

static const char *
object_name(LayerSource *source, const LayerSpace *space, const LayerInfo *info, char *buf, size_t size)
{
	RemoteLayers *layers = (RemoteLayers *) source;
	BucketKey key = key_of(space, info);
	char name[BUCKET_KEY_TEXT];

	snprintf(buf, size, "%s/%s", object_store_url(layers->store), bucket_key_format(&key, name));
	return buf;
}

RemoteLayers *
remote_layers_create(ObjectStore *store, int connections, int64 patience)
{
	RemoteLayers *layers = pg_malloc0(sizeof(*layers));

	layers->source = (LayerSource) {fetch, object_name};
	layers->store = store;
	layers->max_helpers = Max(connections - 1, 0);
	layers->helpers = pg_malloc(Max(layers->max_helpers, 1) * sizeof(pthread_t));
	atomic_init(&layers->patience, patience);
	pthread_mutex_init(&layers->lock, NULL);
	pthread_cond_init(&layers->work, NULL);
	return layers;
}

void
remote_layers_free(RemoteLayers *layers)
{
	if (layers == NULL)
		return;
	pthread_mutex_lock(&layers->lock);
	layers->ending = true;
	pthread_cond_broadcast(&layers->work);
	pthread_mutex_unlock(&layers->lock);
	for (int i = 0; i < layers->nhelpers; i++)
		pthread_join(layers->helpers[i], NULL);
	pthread_cond_destroy(&layers->work);
	pthread_mutex_destroy(&layers->lock);
	free(layers->helpers);
	free(layers);
}

void
remote_layers_set_patience(RemoteLayers *layers, int64 patience)
{
	atomic_store(&layers->patience, patience);
}

LayerSource *
remote_layers_source(RemoteLayers *layers)
{
	return &layers->source;
}
