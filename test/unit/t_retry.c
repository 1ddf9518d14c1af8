/*
 * t_retry.c
 *	  Pauses between attempts, and the gate that limits how many run.
 */
#include "ps_fe.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/clock.h"
#include "remote/retry.h"
#include "sqlstate.h"

static void
test_pauses(void **state)
{

	for (int failed = 1; failed <= 11; failed++)
	{
		int64 most = Min((int64) RETRY_FIRST_MS << (failed - 1), RETRY_MAX_MS);
		int64 sum = 0;

		for (int i = 0; i < 2000; i++)
		{
			int64 pause = retry_pause(failed, 0);

			assert_in_range(pause, 0, most);
			sum += pause;
		}
		/* spread over all of it: the mean is half, by many standard deviations */
		assert_in_range(sum / 2000, most * 4 / 10, most * 6 / 10);
	}
	/* no overflow */
	assert_in_range(retry_pause(1000000000, 0), 0, RETRY_MAX_MS);
	assert_in_range(retry_pause(1, 3000), 3000, 3000 + RETRY_FIRST_MS);
	assert_in_range(retry_pause(1, INT64CONST(1) << 60), RETRY_AFTER_MAX_MS, RETRY_AFTER_MAX_MS + RETRY_FIRST_MS);
}

static uint64
enter(RetryGate *gate)
{
	uint64 epoch;

	assert_null(retry_gate_enter(gate, NULL, 0, &epoch));
	return epoch;
}

static void
test_aimd(void **state)
{
	RetryGate gate;
	uint64 epochs[8];

	retry_gate_init(&gate, 8);
	assert_int_equal(retry_gate_allowed(&gate), 8);

	/* a storm of answers to requests that ran together halves it once */
	for (int i = 0; i < 8; i++)
		epochs[i] = enter(&gate);
	for (int i = 0; i < 8; i++)
		retry_gate_leave(&gate, epochs[i], RETRY_OVERLOADED);
	assert_int_equal(retry_gate_allowed(&gate), 4);

	/* failures of another kind change nothing */
	for (int i = 0; i < 10; i++)
		retry_gate_leave(&gate, enter(&gate), RETRY_FAILED);
	assert_int_equal(retry_gate_allowed(&gate), 4);

	/* four successes make five, five six */
	for (int i = 0; i < 4; i++)
		retry_gate_leave(&gate, enter(&gate), RETRY_SUCCESS);
	assert_int_equal(retry_gate_allowed(&gate), 5);
	for (int i = 0; i < 4; i++)
		retry_gate_leave(&gate, enter(&gate), RETRY_SUCCESS);
	assert_int_equal(retry_gate_allowed(&gate), 5);
	retry_gate_leave(&gate, enter(&gate), RETRY_SUCCESS);
	assert_int_equal(retry_gate_allowed(&gate), 6);

	/* never more than the most, nor less than one */
	for (int i = 0; i < 100; i++)
		retry_gate_leave(&gate, enter(&gate), RETRY_SUCCESS);
	assert_int_equal(retry_gate_allowed(&gate), 8);
	for (int i = 0; i < 10; i++)
		retry_gate_leave(&gate, enter(&gate), RETRY_OVERLOADED);
	assert_int_equal(retry_gate_allowed(&gate), 1);
	retry_gate_destroy(&gate);
}

static PsError *
canceled(void *arg)
{
	return cancel_error(CANCEL_STORE_STOPPING, NULL);
}

static void
test_ended_waits(void **state)
{
	CancelCheck cancel = {canceled, NULL};
	RetryGate gate;
	uint64 epoch;
	uint64 other;
	PsError *err;

	retry_gate_init(&gate, 1);
	epoch = enter(&gate);
	err = retry_gate_enter(&gate, &cancel, 0, &other);
	assert_non_null(err);
	assert_true(err->is_cancel);
	ps_error_free(err);
	err = retry_gate_enter(&gate, NULL, clock_now_ms() + 20, &other);
	assert_non_null(err);
	assert_string_equal(err->sqlstate, PS_SQLSTATE_TRY_AGAIN);
	ps_error_free(err);
	retry_gate_leave(&gate, epoch, RETRY_SUCCESS);
	/* the place is free again, and none was lost */
	retry_gate_leave(&gate, enter(&gate), RETRY_SUCCESS);
	retry_gate_destroy(&gate);

	err = retry_sleep(1000000, &cancel, 0);
	assert_non_null(err);
	assert_true(err->is_cancel);
	ps_error_free(err);
	err = retry_sleep(1000000, NULL, clock_now_ms() + 20);
	assert_non_null(err);
	ps_error_free(err);
	assert_null(retry_sleep(1, NULL, 0));
	assert_null(retry_sleep(0, NULL, 1));
}

typedef struct Crowd
{
	RetryGate gate;
	atomic_int inside;
	atomic_int most;
} Crowd;

static void *
come_and_go(void *arg)
{
	Crowd *crowd = arg;

	for (int i = 0; i < 2000; i++)
	{
		uint64 epoch = enter(&crowd->gate);
		int inside = atomic_fetch_add(&crowd->inside, 1) + 1;
		int most = atomic_load(&crowd->most);

		while (inside > most && !atomic_compare_exchange_weak(&crowd->most, &most, inside))
			;
		sched_yield();
		atomic_fetch_sub(&crowd->inside, 1);
		retry_gate_leave(&crowd->gate, epoch, i % 50 == 0 ? RETRY_OVERLOADED : RETRY_SUCCESS);
	}
	return NULL;
}

static void
test_threads(void **state)
{
	Crowd crowd = {0};
	pthread_t threads[8];

	retry_gate_init(&crowd.gate, 3);
	for (int i = 0; i < lengthof(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &crowd), 0);
	for (int i = 0; i < lengthof(threads); i++)
		pthread_join(threads[i], NULL);
	assert_in_range(crowd.most, 1, 3);
	retry_gate_destroy(&crowd.gate);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pauses),
		cmocka_unit_test(test_aimd),
		cmocka_unit_test(test_ended_waits),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
