/*
 * aio_workers.c
 *	  Reads by threads, where io_uring is refused.
 *
 * A caller puts its reads into the pool's queue as one batch, and works on them, too: so
 * it makes progress even if all threads are busy with reads of others.
 */
#include "ps_fe.h"

#include <pthread.h>

#include "sqlstate.h"
#include "io/aio_impl.h"

#define DEFAULT_WORKERS 32

/* The reads of one caller, on his stack; all under the pool's lock. */
typedef struct Batch
{
	AioRead *const *reads;
	int n;
	int taken; /* by a thread or the caller, in order */
	int done;
	pthread_cond_t all_done;
	struct Batch *next;
} Batch;

struct WorkerPool
{
	pthread_mutex_t lock;  /* of all that follows */
	pthread_cond_t wanted; /* there is something in the queue, or stop is set */
	Batch *first;          /* batches with reads that no thread has taken yet */
	Batch **last;
	bool stop;
	int nthreads;
	pthread_t *threads;
};

/* Makes one read of the batch, if one is left.  The lock is held at entry and exit, not while reading. */
static bool
read_one(WorkerPool *pool, Batch *batch)
{
	AioRead *read;

	if (batch->taken == batch->n)
		return false;
	read = batch->reads[batch->taken++];
	if (batch->taken == batch->n)
	{
		Batch **place = &pool->first;

		while (*place != batch)
			place = &(*place)->next;
		*place = batch->next;
		if (*place == NULL)
			pool->last = place;
	}
	pthread_mutex_unlock(&pool->lock);
	aio_read_blocking(read);
	pthread_mutex_lock(&pool->lock);
	if (++batch->done == batch->n)
		pthread_cond_signal(&batch->all_done);
	return true;
}

static void *
worker_main(void *arg)
{
	WorkerPool *pool = arg;

	ps_thread_name("read");
	pthread_mutex_lock(&pool->lock);
	while (!pool->stop)
	{
		if (pool->first != NULL)
			read_one(pool, pool->first);
		else
			pthread_cond_wait(&pool->wanted, &pool->lock);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

PsError *
worker_pool_create(int nthreads, WorkerPool **result)
{
	WorkerPool *pool = pg_malloc0(sizeof(WorkerPool));

	if (nthreads == 0)
		nthreads = DEFAULT_WORKERS;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->wanted, NULL);
	pool->last = &pool->first;
	pool->threads = pg_malloc(nthreads * sizeof(pthread_t));
	for (; pool->nthreads < nthreads; pool->nthreads++)
	{
		int rc = pthread_create(&pool->threads[pool->nthreads], NULL, worker_main, pool);

		if (rc != 0)
		{
			worker_pool_free(pool);
			errno = rc;
			return ps_error_hint(ps_error(PS_SQLSTATE_OUT_OF_MEMORY,
										  "could not start a thread that reads layer files: %m"),
								 "\"io_workers\" is %d; set it lower, or \"io_method\" to \"sync\".", nthreads);
		}
	}
	*result = pool;
	return NULL;
}

void
worker_pool_free(WorkerPool *pool)
{
	if (pool == NULL)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stop = true;
	pthread_cond_broadcast(&pool->wanted);
	pthread_mutex_unlock(&pool->lock);
	for (int i = 0; i < pool->nthreads; i++)
		pthread_join(pool->threads[i], NULL);
	pthread_cond_destroy(&pool->wanted);
	pthread_mutex_destroy(&pool->lock);
	free(pool->threads);
	free(pool);
}

void
worker_read(WorkerPool *pool, AioRead *const *reads, int n)
{
	Batch batch = {.reads = reads, .n = n, .all_done = PTHREAD_COND_INITIALIZER};

	pthread_mutex_lock(&pool->lock);
	*pool->last = &batch;
	pool->last = &batch.next;
	for (int i = 0; i < Min(n - 1, pool->nthreads); i++)
		pthread_cond_signal(&pool->wanted);
	while (read_one(pool, &batch))
		;
	while (batch.done < n)
		pthread_cond_wait(&batch.all_done, &pool->lock);
	pthread_mutex_unlock(&pool->lock);
	pthread_cond_destroy(&batch.all_done);
}
