/*
 * deleter.c
 *	  Deleting objects that are not needed any more: see deleter.h.
 */
#include "ps_fe.h"

#include <pthread.h>

#include "base/clock.h"
#include "bucket/deleter.h"

#define BATCH 1000 /* objects of one request; as many as S3 accepts */

typedef struct Range
{
	int64 since; /* clock_now_ms() */
	BucketKey first;
	uint64 count;
} Range;

struct Deleter
{
	ObjectStore *store; /* fixed */
	pthread_mutex_t lock;

	/* under lock */
	int64 delay;
	Range *ranges; /* in the order of "since": those from "head" to n */
	int head;
	int n;
	int room;
	uint64 count;
	bool running; /* deleter_run() is being executed: it alone removes from the list */
};

Deleter *
deleter_create(ObjectStore *store, int64 delay)
{
	Deleter *deleter = pg_malloc0(sizeof(*deleter));

	deleter->store = store;
	deleter->delay = delay;
	pthread_mutex_init(&deleter->lock, NULL);
	return deleter;
}

void
deleter_free(Deleter *deleter)
{
	if (deleter == NULL)
		return;
	pthread_mutex_destroy(&deleter->lock);
	free(deleter->ranges);
	free(deleter);
}

void
deleter_set_delay(Deleter *deleter, int64 delay)
{
	pthread_mutex_lock(&deleter->lock);
	deleter->delay = delay;
	pthread_mutex_unlock(&deleter->lock);
}

void
deleter_add(Deleter *deleter, const BucketKey *first, uint64 count)
{
	if (count == 0)
		return;
	pthread_mutex_lock(&deleter->lock);
	if (deleter->n == deleter->room)
	{
		/* the space of what was deleted, if that is half of it, otherwise more */
		deleter->n -= deleter->head;
		if (deleter->head > 0)
			memmove(deleter->ranges, deleter->ranges + deleter->head, deleter->n * sizeof(Range));
		deleter->head = 0;
		if (deleter->n >= deleter->room / 2)
			deleter->room = Max(deleter->room * 2, 16);
		deleter->ranges = pg_realloc(deleter->ranges, deleter->room * sizeof(Range));
	}
	deleter->ranges[deleter->n++] = (Range) {clock_now_ms(), *first, count};
	deleter->count += count;
	pthread_mutex_unlock(&deleter->lock);
}

/* Copies keys that are due; they stay in the list. */
static int
due_keys(Deleter *deleter, BucketKey keys[BATCH])
{
	int64 now = clock_now_ms();
	int nkeys = 0;

	pthread_mutex_lock(&deleter->lock);
	for (int i = deleter->head; i < deleter->n && nkeys < BATCH; i++)
	{
		const Range *range = &deleter->ranges[i];

		if (range->since + deleter->delay > now)
			break;
		for (uint64 j = 0; j < range->count && nkeys < BATCH; j++)
		{
			keys[nkeys] = range->first;
			keys[nkeys++].number += j;
		}
	}
	pthread_mutex_unlock(&deleter->lock);
	return nkeys;
}

/* Removes the first keys from the list. */
static void
forget_keys(Deleter *deleter, int nkeys)
{
	pthread_mutex_lock(&deleter->lock);
	deleter->count -= nkeys;
	while (nkeys > 0)
	{
		Range *range = &deleter->ranges[deleter->head];
		uint64 done = Min(range->count, nkeys);

		nkeys -= done;
		range->first.number += done;
		range->count -= done;
		if (range->count == 0)
			deleter->head++;
	}
	pthread_mutex_unlock(&deleter->lock);
}

static PsError *
delete_due(Deleter *deleter, const ObjectWait *wait)
{
	BucketKey *keys = pg_malloc(BATCH * sizeof(BucketKey));
	char(*texts)[BUCKET_KEY_TEXT] = pg_malloc(BATCH * BUCKET_KEY_TEXT);
	const char **names = pg_malloc(BATCH * sizeof(char *));
	PsError *err = NULL;
	int n;

	while (err == NULL && (n = due_keys(deleter, keys)) > 0)
	{
		for (int i = 0; i < n; i++)
			names[i] = bucket_key_format(&keys[i], texts[i]);
		err = object_delete(deleter->store, names, n, wait);
		if (err == NULL)
			forget_keys(deleter, n);
	}
	free(names);
	free(texts);
	free(keys);
	return err;
}

PsError *
deleter_run(Deleter *deleter, const ObjectWait *wait)
{
	PsError *err;
	bool running;

	pthread_mutex_lock(&deleter->lock);
	running = deleter->running;
	deleter->running = true;
	pthread_mutex_unlock(&deleter->lock);
	if (running)
		return NULL;
	err = delete_due(deleter, wait);
	pthread_mutex_lock(&deleter->lock);
	deleter->running = false;
	pthread_mutex_unlock(&deleter->lock);
	return err;
}

uint64
deleter_count(Deleter *deleter, int64 *next_due)
{
	uint64 count;

	pthread_mutex_lock(&deleter->lock);
	count = deleter->count;
	*next_due = deleter->head < deleter->n ? deleter->ranges[deleter->head].since + deleter->delay : 0;
	pthread_mutex_unlock(&deleter->lock);
	return count;
}
