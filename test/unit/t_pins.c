/*
 * t_pins.c
 *	  Pins: what of a timeline's past stays readable; and the budget of memory of
 *	  layers.
 */
#include "ps_fe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "timeline/memory_budget.h"
#include "timeline/pins.h"

static void
test_cutoff(void **state)
{
	Pins *pins = pins_create(100, 50);

	/* never before the beginning, and only upwards */
	assert_int_equal(pins_cutoff(pins), 100);
	assert_false(pins_keep(pins, 99, false));
	pins_raise_cutoff(pins, 200);
	pins_raise_cutoff(pins, 150);
	assert_int_equal(pins_cutoff(pins), 200);
	assert_true(pins_keep(pins, 200, true));
	assert_false(pins_keep(pins, 199, false));
	assert_false(pins_lease(pins, 199, false));
	assert_int_equal(pins_count(pins), 0);

	/* while history is held it stays */
	assert_int_equal(pins_hold_history(pins), 200);
	pins_raise_cutoff(pins, 300);
	assert_int_equal(pins_cutoff(pins), 200);
	pins_remove(pins, 200, PIN_HISTORY);
	pins_raise_cutoff(pins, 300);
	assert_int_equal(pins_cutoff(pins), 300);
	pins_free(pins);
}

static void
test_kinds(void **state)
{
	Pins *pins = pins_create(100, 100);
	XLogRecPtr *points;
	XLogRecPtr horizon;
	XLogRecPtr wal_from;
	int n;

	pins_add(pins, 130, PIN_BRANCH);
	pins_add(pins, 130, PIN_BRANCH);
	pins_add(pins, 120, PIN_COPY);
	assert_true(pins_lease(pins, 150, true));
	pins_raise_cutoff(pins, 200);

	/* where a branch begins values are kept, but not the WAL; a lease keeps both */
	assert_true(pins_keep(pins, 130, false) && !pins_keep(pins, 130, true));
	assert_true(pins_keep(pins, 150, true));
	assert_true(pins_lease(pins, 130, false));
	assert_true(pins_keep(pins, 130, true));
	pins_remove(pins, 130, PIN_LEASE);
	assert_false(pins_keep(pins, 130, true));

	pins_readable(pins, 180, &horizon, &points, &n, &wal_from);
	assert_int_equal(horizon, 180);
	assert_int_equal(n, 3);
	assert_true(points[0] == 120 && points[1] == 130 && points[2] == 150);
	assert_int_equal(wal_from, 150);
	free(points);

	/* two branches that begin there: one may go */
	pins_remove(pins, 130, PIN_BRANCH);
	assert_true(pins_keep(pins, 130, false));
	assert_true(pins_have_lease(pins));
	pins_remove(pins, 150, PIN_LEASE);
	assert_false(pins_have_lease(pins));

	/* images are made for branches, once */
	assert_int_equal(pins_without_images(pins), 130);
	pins_set_imaged(pins, 130);
	assert_int_equal(pins_without_images(pins), InvalidXLogRecPtr);
	pins_remove(pins, 130, PIN_BRANCH);
	assert_false(pins_keep(pins, 130, false));
	assert_int_equal(pins_count(pins), 1);
	pins_free(pins);
}

/* What is saved with the manifest: which pins were considered for images, and a digest of what can be read. */
static void
test_saved(void **state)
{
	static const XLogRecPtr imaged[] = {110, 130};
	Pins *pins = pins_create(100, 200);
	XLogRecPtr *saved;
	uint32 digest;
	int n;

	/* pins that are added after that have been considered, if they are of branches */
	pins_load_imaged(pins, imaged, lengthof(imaged));
	pins_add(pins, 130, PIN_BRANCH);
	pins_add(pins, 130, PIN_BRANCH);
	pins_add(pins, 120, PIN_BRANCH);
	pins_add(pins, 110, PIN_COPY);
	assert_int_equal(pins_without_images(pins), 120);
	saved = pins_imaged(pins, &n);
	assert_true(n == 1 && saved[0] == 130);
	free(saved);
	pins_set_imaged(pins, 120);
	saved = pins_imaged(pins, &n);
	assert_true(n == 2 && saved[0] == 120 && saved[1] == 130);
	free(saved);

	/* the digest changes if and only if something else can be read */
	digest = pins_digest(pins);
	assert_true(digest != 0 && digest == pins_digest(pins));
	pins_add(pins, 120, PIN_BRANCH);
	pins_add(pins, 210, PIN_BRANCH);
	assert_int_equal(pins_digest(pins), digest);
	pins_remove(pins, 130, PIN_BRANCH);
	assert_int_equal(pins_digest(pins), digest);
	pins_remove(pins, 130, PIN_BRANCH);
	assert_int_not_equal(pins_digest(pins), digest);
	digest = pins_digest(pins);
	assert_true(pins_lease(pins, 120, false));
	assert_int_not_equal(pins_digest(pins), digest);
	pins_remove(pins, 120, PIN_LEASE);
	assert_int_equal(pins_digest(pins), digest);
	pins_raise_cutoff(pins, 201);
	assert_int_not_equal(pins_digest(pins), digest);
	pins_free(pins);
}

static void
count_wakes(void *owner)
{
	(*(int *) owner)++;
}

static void
test_budget(void **state)
{
	int wakes = 0;
	MemoryBudget *budget = memory_budget_create(1000);
	MemoryUser a = {.wake = count_wakes, .owner = &wakes};
	MemoryUser b = {.wake = count_wakes, .owner = &wakes};

	memory_budget_add_user(budget, &a);
	memory_budget_add_user(budget, &b);
	memory_budget_count_open(budget, 1);
	memory_budget_count_open(budget, 1);
	memory_budget_take(budget, &a, 400);
	assert_false(memory_budget_is_short(budget) || memory_budget_is_over(budget, 400));
	memory_budget_ask(budget);
	assert_int_equal(wakes, 0);

	/* beyond half, those with more than their share freeze; nobody waits */
	memory_budget_take(budget, &b, 200);
	assert_true(memory_budget_is_short(budget));
	assert_true(memory_budget_is_over(budget, 400) && !memory_budget_is_over(budget, 200));
	assert_false(memory_budget_must_wait(budget, &a) || memory_budget_must_wait(budget, &b));

	/* the one that has more than half waits, the other does not; both are woken, once */
	memory_budget_take(budget, &a, 200);
	assert_true(memory_budget_must_wait(budget, &a) && !memory_budget_must_wait(budget, &b));
	memory_budget_ask(budget);
	memory_budget_ask(budget);
	assert_int_equal(wakes, 2);

	/* more for all; what a user has taken goes with it */
	memory_budget_set_limit(budget, 10000);
	assert_false(memory_budget_must_wait(budget, &a) || memory_budget_is_short(budget));
	memory_budget_set_limit(budget, 1000);
	memory_budget_remove_user(budget, &a);
	assert_int_equal(atomic_load(&a.used), 0);
	assert_false(memory_budget_is_short(budget));
	memory_budget_remove_user(budget, &b);
	memory_budget_free(budget);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cutoff),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_saved),
		cmocka_unit_test(test_budget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
