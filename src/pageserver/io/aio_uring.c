/*
 * aio_uring.c
 *	  Reads over io_uring.
 *
 * A ring is used by one thread at a time, which takes it from the pool for its reads and
 * returns it when they are answered.  Rings are created when they are needed, at most
 * MAX_RINGS, so that any number of sessions needs a bounded number of descriptors and a
 * bounded amount of kernel memory (some 30 kB for each ring); if all are in use a thread
 * waits.  MAX_RINGS * RING_ENTRIES simultaneous reads are enough for any disk.
 */
#include "ps_fe.h"

#include <liburing.h>
#include <pthread.h>

#include "sqlstate.h"
#include "io/aio_impl.h"

#define MAX_RINGS    32
#define RING_ENTRIES 256

/* A benchmark's read has a timeout before it. */
#define ENTRIES_PER_READ 2

typedef struct Ring
{
	struct io_uring uring;
	struct __kernel_timespec delay; /* of a benchmark */
	struct Ring *next;
} Ring;

struct UringPool
{
	pthread_mutex_t lock;    /* of all that follows */
	pthread_cond_t returned; /* a ring was given back */
	Ring *idle;              /* the one that was used last comes first */
	int nrings;              /* idle ones and others */
	bool complained;         /* that a ring could not be made */
};

static PsError *
ring_create(Ring **result)
{
	Ring *ring = pg_malloc0(sizeof(Ring));
	int rc = io_uring_queue_init(RING_ENTRIES, &ring->uring, 0);

	if (rc < 0)
	{
		free(ring);
		errno = -rc;
		return ps_error(PS_SQLSTATE_IO, "could not set up io_uring: %m");
	}
	*result = ring;
	return NULL;
}

static void
ring_free(Ring *ring)
{
	io_uring_queue_exit(&ring->uring);
	free(ring);
}

/* Creates the first ring, which shows whether the kernel allows it. */
PsError *
uring_pool_create(UringPool **result)
{
	UringPool *pool;
	Ring *ring;
	struct io_uring_probe *probe;
	bool can_read;

	PS_TRY(ring_create(&ring));
	probe = io_uring_get_probe_ring(&ring->uring);
	can_read = probe != NULL && io_uring_opcode_supported(probe, IORING_OP_READ);
	io_uring_free_probe(probe);
	if (!can_read)
	{
		ring_free(ring);
		return ps_error(PS_SQLSTATE_IO, "could not set up io_uring: the kernel's lacks IORING_OP_READ");
	}
	pool = pg_malloc0(sizeof(UringPool));
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->returned, NULL);
	pool->idle = ring;
	pool->nrings = 1;
	*result = pool;
	return NULL;
}

void
uring_pool_free(UringPool *pool)
{
	if (pool == NULL)
		return;
	while (pool->idle != NULL)
	{
		Ring *ring = pool->idle;

		pool->idle = ring->next;
		ring_free(ring);
	}
	pthread_cond_destroy(&pool->returned);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

/* NULL: no ring could be made, and none is there to wait for. */
static Ring *
take_ring(UringPool *pool)
{
	Ring *ring;
	PsError *err;

	pthread_mutex_lock(&pool->lock);
	while (pool->idle == NULL && pool->nrings == MAX_RINGS)
		pthread_cond_wait(&pool->returned, &pool->lock);
	ring = pool->idle;
	if (ring != NULL)
		pool->idle = ring->next;
	else
		pool->nrings++;
	pthread_mutex_unlock(&pool->lock);
	if (ring != NULL)
		return ring;

	err = ring_create(&ring);
	if (err == NULL)
		return ring;
	pthread_mutex_lock(&pool->lock);
	pool->nrings--;
	if (pool->complained)
		ps_error_free(err);
	else
		ps_log_error(PS_WARNING, err, "values are read one after the other");
	pool->complained = true;
	pthread_cond_signal(&pool->returned);
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

static void
give_back_ring(UringPool *pool, Ring *ring)
{
	pthread_mutex_lock(&pool->lock);
	ring->next = pool->idle;
	pool->idle = ring;
	pthread_cond_signal(&pool->returned);
	pthread_mutex_unlock(&pool->lock);
}

/* A ring that failed is not used again. */
static void
drop_ring(UringPool *pool, Ring *ring)
{
	ring_free(ring);
	pthread_mutex_lock(&pool->lock);
	pool->nrings--;
	pthread_cond_signal(&pool->returned);
	pthread_mutex_unlock(&pool->lock);
}

/* Queues what is not done yet of a read. */
static void
queue_read(Ring *ring, AioRead *read)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

	if (unlikely(aio_bench_delay > 0))
	{
		ring->delay.tv_nsec = aio_bench_delay * INT64CONST(1000);
		io_uring_prep_timeout(sqe, &ring->delay, 0, IORING_TIMEOUT_ETIME_SUCCESS);
		io_uring_sqe_set_flags(sqe, IOSQE_IO_LINK);
		io_uring_sqe_set_data(sqe, NULL);
		sqe = io_uring_get_sqe(&ring->uring);
	}
	io_uring_prep_read(sqe, read->fd, read->buf + read->done, (unsigned) Min(read->len - read->done, PG_INT32_MAX),
					   read->offset + read->done);
	io_uring_sqe_set_data(sqe, read);
}

/* Takes in what has been answered.  Returns how many entries that were. */
static int
reap(Ring *ring)
{
	struct io_uring_cqe *cqe;
	unsigned head;
	int n = 0;

	io_uring_for_each_cqe(&ring->uring, head, cqe)
	{
		AioRead *read = io_uring_cqe_get_data(cqe);

		if (read != NULL && cqe->res > 0)
			read->done += cqe->res;
		n++;
	}
	io_uring_cq_advance(&ring->uring, n);
	return n;
}

/*
 * Makes the reads as far as the ring lets it.  Returns false if the ring is not
 * to be used again.  Nothing is under way when it returns: the buffers are the
 * caller's again.
 */
static bool
ring_read(Ring *ring, AioRead *const *reads, int n)
{
	int next = 0;
	int under_way = 0; /* entries that the kernel has taken and not answered */
	bool ok = true;

	while ((ok && next < n) || under_way > 0)
	{
		unsigned queued;
		int rc;

		while (ok && next < n && under_way + io_uring_sq_ready(&ring->uring) + ENTRIES_PER_READ <= RING_ENTRIES)
			queue_read(ring, reads[next++]);
		queued = io_uring_sq_ready(&ring->uring);
		rc = ok ? io_uring_submit_and_wait(&ring->uring, 1)
				: io_uring_wait_cqe(&ring->uring, &(struct io_uring_cqe *) {NULL});
		under_way += queued - io_uring_sq_ready(&ring->uring);
		if (rc < 0 && rc != -EINTR)
		{
			errno = -rc;
			if (!ok)
			{
				/* what is under way may still be written into memory that others get */
				ps_log(PS_FATAL, "could not wait for io_uring: %m");
				abort();
			}
			ps_log(PS_WARNING, "could not submit reads to io_uring: %m");
			ok = false;
		}
		under_way -= reap(ring);
	}
	return ok;
}

void
uring_read(UringPool *pool, AioRead *const *reads, int n)
{
	Ring *ring = take_ring(pool);

	if (ring != NULL)
	{
		if (ring_read(ring, reads, n))
			give_back_ring(pool, ring);
		else
			drop_ring(pool, ring);
	}

	/* what came short or failed: this way there is one place that knows what an error is */
	for (int i = 0; i < n; i++)
	{
		if (reads[i]->done < reads[i]->len)
			aio_read_blocking(reads[i]);
	}
}
