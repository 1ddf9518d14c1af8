/*
 * aio.c
 *	  Many reads of files at once: see aio.h.
 */
#include "ps_fe.h"

#include <sys/uio.h>
#include <unistd.h>

#include "io/aio_impl.h"

/* Most reads of one caller that are in progress at the same time. */
#define MAX_PENDING 1024

struct Aio
{
	AioMethod method;
	UringPool *uring; /* of this method alone, as the next */
	WorkerPool *workers;
};

PsError *
aio_create(AioMethod method, int workers, Aio **result)
{
	Aio *aio = pg_malloc0(sizeof(Aio));
	PsError *err = NULL;

	if (method == AIO_URING)
	{
		err = uring_pool_create(&aio->uring);
		if (err != NULL)
		{
			ps_log_error(PS_LOG, err, "layer files are read by threads, \"io_method\" is \"worker\"");
			method = AIO_WORKER;
			err = NULL;
		}
	}
	if (method == AIO_WORKER)
		err = worker_pool_create(workers, &aio->workers);
	aio->method = method;
	if (err != NULL)
	{
		free(aio);
		return err;
	}
	*result = aio;
	return NULL;
}

void
aio_free(Aio *aio)
{
	if (aio == NULL)
		return;
	uring_pool_free(aio->uring);
	worker_pool_free(aio->workers);
	free(aio);
}

AioMethod
aio_method(const Aio *aio)
{
	return aio->method;
}

/*
 * Copies what is in the kernel's page cache; the kernel begins to read the rest.  Errors
 * are ignored here: they will occur again in the real read.
 */
static bool
read_cached(AioRead *read)
{
	struct iovec iov = {.iov_base = read->buf, .iov_len = read->len};
	ssize_t n;

	read->done = 0;
	read->error = 0;
	if (unlikely(aio_bench_delay > 0))
		return false;
	n = preadv2(read->fd, &iov, 1, (off_t) read->offset, RWF_NOWAIT);
	if (n > 0)
		read->done = n;
	return read->done == read->len;
}

static void
read_pending(Aio *aio, AioRead *const *pending, int n)
{
	if (n > 1 && aio->method == AIO_URING)
		uring_read(aio->uring, pending, n);
	else if (n > 1 && aio->method == AIO_WORKER)
		worker_read(aio->workers, pending, n);
	else
		for (int i = 0; i < n; i++)
			aio_read_blocking(pending[i]);
}

void
aio_read(Aio *aio, AioRead *reads, int n)
{
	AioRead *pending[MAX_PENDING];
	int npending = 0;

	for (int i = 0; i < n; i++)
	{
		if (read_cached(&reads[i]))
			continue;
		if (npending == MAX_PENDING)
		{
			read_pending(aio, pending, npending);
			npending = 0;
		}
		pending[npending++] = &reads[i];
	}
	read_pending(aio, pending, npending);
}
