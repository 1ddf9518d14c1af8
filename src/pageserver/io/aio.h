/*
 * aio.h
 *	  Many reads of files at once, waited for once.
 *
 * What the kernel has in its page cache is copied at once, without waiting for
 * anything.  What it does not have is asked for together, by one of three
 * methods (setting "io_method"):
 *
 *	io_uring	one submission for all; needs a kernel that allows it
 *	worker		threads that read, shared by all
 *	sync		one after the other
 */
#ifndef PS_AIO_H
#define PS_AIO_H

#include "base/aio_method.h"
#include "base/error.h"

typedef struct Aio Aio;

/* One read.  Who asks fills in the first four; the answer is in the last two. */
typedef struct AioRead
{
	int fd;
	uint64 offset;
	size_t len;
	char *buf;
	size_t done; /* bytes from the start of buf that are there */
	int error;   /* errno, if that is less than len; 0: the file ends there */
} AioRead;

/*
 * method: if it is io_uring and the kernel refuses that, worker takes its
 * place, which is logged.  workers: threads of the method "worker", 0: 32.
 */
extern PsError *aio_create(AioMethod method, int workers, Aio **aio);
extern void aio_free(Aio *aio); /* nobody may be reading */
extern AioMethod aio_method(const Aio *aio);

/* Returns when all n are answered.  Any thread; at any time any number of them. */
extern void aio_read(Aio *aio, AioRead *reads, int n);

/*
 * For benchmarks: no read finds anything in the page cache, and each takes so
 * many microseconds longer.  Set before the first read.
 */
extern int aio_bench_delay;

#endif /* PS_AIO_H */
