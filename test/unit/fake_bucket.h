/*
 * fake_bucket.h
 *	  For tests: object storage in memory, with what can happen to requests.
 *
 * A request may get lost, be executed after its sender has given up, be executed
 * twice, or lose its answer; lists may be old.  Apart from lists, the bucket
 * is linearizable.  Stores that fake_bucket_open() returns repeat requests as
 * object.h says, and sometimes give up, with PS_SQLSTATE_TRY_AGAIN and OBJECT_UNKNOWN.
 *
 * Random numbers come from the seed alone.  Stores that were opened without a FakeTurn may
 * be used by several threads at a time; all else by one, or under fake_bucket_lock().
 */
#ifndef FAKE_BUCKET_H
#define FAKE_BUCKET_H

#include <pthread.h>

#include "remote/object.h"

/* Of 1000 requests; all zero: nothing happens. */
typedef struct FakeFaults
{
	int lost;        /* is never executed */
	int late;        /* is executed later */
	int doubled;     /* is executed, and again later */
	int answer_lost; /* is executed, but the sender does not know */
	int give_up;     /* of 1000 that had no answer: the sender gives up */
	int64 stale;     /* a list may show the state of as many ticks ago */

	/* services that cannot be used */
	bool overwrites;   /* object_put_once() replaces an object */
	bool trusts_412;   /* OBJECT_EXISTS is not checked: it may be one's own object */
	bool ignores_list; /* lists are empty */
} FakeFaults;

typedef struct FakeCounts
{
	int puts;
	int gets;
	int lists;
	int deletes;
	int64 bytes_put;
} FakeCounts;

typedef struct FakeBucket
{
	FakeFaults faults;  /* may be changed at any time */
	FakeCounts counts;  /* of requests that were sent; may be cleared */
	int64 now;          /* ticks: one for each request */
	const char *denied; /* requests of this kind, "put", "get", "list" or "delete", are refused */
	uint64 random;
	struct FakeObject *objects;
	int nobjects;
	struct FakeLate *late;
	int nlate;
	pthread_mutex_t lock;
} FakeBucket;

/*
 * Called before each request: waits until the sender may go on.  False: it was
 * killed, and each of its requests fails as canceled.
 */
typedef struct FakeTurn
{
	bool (*turn)(void *arg);
	void *arg;
} FakeTurn;

extern FakeBucket *fake_bucket_create(uint64 seed);
extern void fake_bucket_free(FakeBucket *bucket);

/* turn may be NULL. */
extern ObjectStore *fake_bucket_open(FakeBucket *bucket, const FakeTurn *turn);

/* While a thread has the lock, which is recursive, no request of another thread is executed. */
extern void fake_bucket_lock(FakeBucket *bucket);
extern void fake_bucket_unlock(FakeBucket *bucket);

/* A random number from 0 to n - 1. */
extern uint64 fake_random(FakeBucket *bucket, uint64 n);

/* Executes one of the requests that are late, if there is one. */
extern bool fake_bucket_run_late(FakeBucket *bucket);

/* The object as it is, without a request; NULL: there is none. */
extern const char *fake_bucket_peek(FakeBucket *bucket, const char *key, size_t *len);

/* Changes the bucket without a request; data NULL deletes. */
extern void fake_bucket_poke(FakeBucket *bucket, const char *key, const void *data, size_t len);

/* Number of objects whose keys start with the prefix. */
extern int fake_bucket_count(FakeBucket *bucket, const char *prefix);

#endif /* FAKE_BUCKET_H */
