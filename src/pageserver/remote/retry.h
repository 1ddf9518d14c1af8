/*
 * retry.h
 *	  Attempts at requests to a service: pauses between them, and how many run at
 *	  the same time.
 */
#ifndef PS_RETRY_H
#define PS_RETRY_H

#include <pthread.h>

#include "base/cancel.h"

/* ---- pauses ---- */

#define RETRY_FIRST_MS 100
#define RETRY_MAX_MS   20000

/* Most that a service's Retry-After is obeyed. */
#define RETRY_AFTER_MAX_MS 300000

/*
 * The pause before another attempt, in ms: a random part of 100 ms, 200 ms, and so
 * on up to 20 s ("full jitter": clients that failed at the same time do not come
 * back at the same time), and at least what the service asked for.  failed: attempts
 * so far, from 1; asked_ms: of Retry-After, or 0.
 */
extern int64 retry_pause(int failed, int64 asked_ms);

/* ---- the gate ---- */

/*
 * How many requests run at the same time: at most "most"; half of what is allowed
 * when the service says that it is overloaded, at least one, and one more after as
 * many successes as are allowed (additive increase, multiplicative decrease).
 * What many requests are told at the same time halves it once.
 */
typedef struct RetryGate
{
	pthread_mutex_t lock; /* protects all below; a leaf */
	pthread_cond_t freed;
	int most;
	int allowed;
	int running;
	int successes; /* since allowed changed */
	uint64 epoch;  /* number of times that allowed was halved */
} RetryGate;

extern void retry_gate_init(RetryGate *gate, int most);
extern void retry_gate_destroy(RetryGate *gate);

/*
 * Waits for a place; deadline as in ObjectWait.  *epoch is for retry_gate_leave().
 * PS_SQLSTATE_TRY_AGAIN: the deadline has passed.
 */
extern PsError *retry_gate_enter(RetryGate *gate, const CancelCheck *cancel, int64 deadline, uint64 *epoch);

typedef enum RetryResult
{
	RETRY_SUCCESS,
	RETRY_FAILED,    /* says nothing about the load */
	RETRY_OVERLOADED /* 503, 429, SlowDown */
} RetryResult;

extern void retry_gate_leave(RetryGate *gate, uint64 epoch, RetryResult result);

/* How many requests are allowed now; for tests and status. */
extern int retry_gate_allowed(RetryGate *gate);

/*
 * Waits for so many ms; ends early if canceled, or at the deadline, as
 * retry_gate_enter() does.
 */
extern PsError *retry_sleep(int64 ms, const CancelCheck *cancel, int64 deadline);

/*
 * Waits for the condition once, like cancel_wait(), but not after the deadline;
 * PS_SQLSTATE_TRY_AGAIN: it has passed.
 */
extern PsError *retry_wait(CancelWait *wait, pthread_cond_t *cond, pthread_mutex_t *lock, int64 ms, int64 deadline);

#endif /* PS_RETRY_H */
