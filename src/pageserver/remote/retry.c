/*
 * retry.c
 *	  Attempts at requests to a service: see retry.h.
 */
#include "ps_fe.h"

#include "base/clock.h"
#include "remote/retry.h"
#include "sqlstate.h"

int64
retry_pause(int failed, int64 asked_ms)
{
	int64 most = RETRY_FIRST_MS;
	uint64 random;
	int64 pause;

	for (int i = 1; i < failed && most < RETRY_MAX_MS; i++)
		most *= 2;
	most = Min(most, RETRY_MAX_MS);
	if (!pg_strong_random(&random, sizeof(random)))
		random = clock_now_us();
	pause = (int64) (random % (uint64) (most + 1));

	/* jitter is added to what the service asked for, which it asks of many clients at the same time */
	if (asked_ms > 0)
		pause += Min(asked_ms, RETRY_AFTER_MAX_MS);
	return pause;
}

PsError *
retry_wait(CancelWait *wait, pthread_cond_t *cond, pthread_mutex_t *lock, int64 ms, int64 deadline)
{
	if (deadline != 0)
	{
		int64 left = deadline - clock_now_ms();

		if (left <= 0)
			return ps_error(PS_SQLSTATE_TRY_AGAIN, "object storage did not answer in time");
		ms = Min(ms, left);
	}
	return cancel_wait(wait, cond, lock, ms);
}

PsError *
retry_sleep(int64 ms, const CancelCheck *cancel, int64 deadline)
{
	CancelWait wait = {.cancel = cancel};
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t cond;
	int64 end = clock_now_ms() + ms;
	int64 left;
	PsError *err = NULL;

	clock_cond_init(&cond);
	pthread_mutex_lock(&lock);
	while (err == NULL && (left = end - clock_now_ms()) > 0)
		err = retry_wait(&wait, &cond, &lock, left, deadline);
	pthread_mutex_unlock(&lock);
	pthread_cond_destroy(&cond);
	pthread_mutex_destroy(&lock);
	return err;
}

void
retry_gate_init(RetryGate *gate, int most)
{
	memset(gate, 0, sizeof(RetryGate));
	pthread_mutex_init(&gate->lock, NULL);
	clock_cond_init(&gate->freed);
	gate->most = gate->allowed = Max(most, 1);
}

void
retry_gate_destroy(RetryGate *gate)
{
	Assert(gate->running == 0);
	pthread_cond_destroy(&gate->freed);
	pthread_mutex_destroy(&gate->lock);
}

PsError *
retry_gate_enter(RetryGate *gate, const CancelCheck *cancel, int64 deadline, uint64 *epoch)
{
	CancelWait wait = {.cancel = cancel};
	PsError *err = NULL;

	pthread_mutex_lock(&gate->lock);
	while (err == NULL && gate->running >= gate->allowed)
		err = retry_wait(&wait, &gate->freed, &gate->lock, CANCEL_CHECK_MS, deadline);
	if (err == NULL)
		gate->running++;
	*epoch = gate->epoch;
	pthread_mutex_unlock(&gate->lock);
	return err;
}

void
retry_gate_leave(RetryGate *gate, uint64 epoch, RetryResult result)
{
	pthread_mutex_lock(&gate->lock);
	gate->running--;
	/* a request that began before the last halving says nothing about the rate since */
	if (result == RETRY_OVERLOADED && epoch == gate->epoch)
	{
		gate->allowed = Max(gate->allowed / 2, 1);
		gate->successes = 0;
		gate->epoch++;
	}
	else if (result == RETRY_SUCCESS && gate->allowed < gate->most && ++gate->successes >= gate->allowed)
	{
		gate->allowed++;
		gate->successes = 0;
	}
	pthread_cond_broadcast(&gate->freed);
	pthread_mutex_unlock(&gate->lock);
}

int
retry_gate_allowed(RetryGate *gate)
{
	int allowed;

	pthread_mutex_lock(&gate->lock);
	allowed = gate->allowed;
	pthread_mutex_unlock(&gate->lock);
	return allowed;
}
