/*
 * clock.h
 *	  The monotonic clock, and waits for conditions that use it.  Nobody can set
 *	  this clock; it says nothing about the time of day, and starts again with the
 *	  machine.  (store_clock.h has the time that survives a restart.)
 */
#ifndef PS_CLOCK_H
#define PS_CLOCK_H

#include <pthread.h>

extern int64 clock_now_ms(void);
extern int64 clock_now_us(void);

/* Initializes a condition for clock_cond_wait(). */
extern void clock_cond_init(pthread_cond_t *cond);

/* pthread_cond_wait() for at most ms.  Like it, may return early for no reason. */
extern void clock_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64 ms);

#endif /* PS_CLOCK_H */
