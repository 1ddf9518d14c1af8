/*
 * aio.h
 *	  Many reads of files at once, waited for once.
 *
 * What is in the kernel's page cache is copied without waiting.  Everything else is
 * requested together, by one of three methods (setting "io_method"):
 *
 *	io_uring	one submission for all; needs a kernel that allows it
 *	worker		threads that read, shared by all
 *	sync		one after the other
 *
 * On a file system without RWF_NOWAIT (FUSE, some network file systems) the kernel's page
 * cache cannot be tried first, so all reads use the method.  A single remaining read is a
 * pread() with any method.
 */
#ifndef PS_AIO_H
#define PS_AIO_H

#include "base/aio_method.h"
#include "base/error.h"

typedef struct Aio Aio;

/* One read.  The caller fills in the first four fields; the last two are the answer. */
typedef struct AioRead
{
	int fd;
	uint64 offset;
	size_t len;
	char *buf;
	size_t done; /* bytes that were read to buf */
	int error;   /* errno if done is less than len; 0: the file ends there */
} AioRead;

/*
 * If the method is io_uring and the kernel refuses it, "worker" is used instead, which is
 * logged.  A kernel may refuse because of kernel.io_uring_disabled, of seccomp in a
 * container, or of RLIMIT_MEMLOCK before 5.12, or because it is too old.  workers: threads
 * of the method "worker"; 0: 32.
 */
extern PsError *aio_create(AioMethod method, int workers, Aio **aio);
extern void aio_free(Aio *aio); /* no read may be in progress; does nothing for NULL */
extern AioMethod aio_method(const Aio *aio);

/* Returns when all n reads are answered.  Any number of threads may call this at the same time. */
extern void aio_read(Aio *aio, AioRead *reads, int n);

/*
 * For benchmarks: microseconds by which each read takes longer; nothing is found in
 * the kernel's page cache.  Set before the first read.
 */
extern int aio_bench_delay;

#endif /* PS_AIO_H */
