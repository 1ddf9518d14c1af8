/*
 * aio_impl.h
 *	  Shared by aio.c and the methods.
 */
#ifndef PS_AIO_IMPL_H
#define PS_AIO_IMPL_H

#include "io/aio.h"

/* ---- aio_blocking.c ---- */

/* Reads what has not been read yet, in the calling thread; sets done and error. */
extern void aio_read_blocking(AioRead *read);

/* ---- aio_uring.c ---- */
typedef struct UringPool UringPool;

/* Fails if the kernel does not allow io_uring or lacks an operation that is needed. */
extern PsError *uring_pool_create(UringPool **pool);
extern void uring_pool_free(UringPool *pool);
extern void uring_read(UringPool *pool, AioRead *const *reads, int n);

/* ---- aio_workers.c ---- */
typedef struct WorkerPool WorkerPool;

extern PsError *worker_pool_create(int nthreads, WorkerPool **pool);
extern void worker_pool_free(WorkerPool *pool);
extern void worker_read(WorkerPool *pool, AioRead *const *reads, int n);

#endif /* PS_AIO_IMPL_H */
