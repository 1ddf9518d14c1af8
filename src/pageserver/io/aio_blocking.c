/*
 * aio_blocking.c
 *	  One read that blocks: what all methods of aio.h do in the end.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "io/aio_impl.h"

int aio_bench_delay;

void
aio_read_blocking(AioRead *read)
{
	if (unlikely(aio_bench_delay > 0))
		usleep(aio_bench_delay);
	read->error = 0;
	while (read->done < read->len)
	{
		ssize_t n = pread(read->fd, read->buf + read->done, read->len - read->done,
						  (off_t) (read->offset + read->done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			read->error = errno;
		if (n <= 0)
			return;
		read->done += n;
	}
}
