/*
 * clock.c
 *	  The monotonic clock: see clock.h.
 */
#include "ps_fe.h"

#include <time.h>

#include "base/clock.h"

int64
clock_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64CONST(1000000) + ts.tv_nsec / 1000;
}

int64
clock_now_ms(void)
{
	return clock_now_us() / 1000;
}

void
clock_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

void
clock_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64 ms)
{
	int64 until = clock_now_us() + ms * 1000;
	struct timespec ts = {.tv_sec = until / 1000000, .tv_nsec = until % 1000000 * 1000};

	pthread_cond_timedwait(cond, lock, &ts);
}
