/*
 * t_relsize.c
 *	  Floors of relation sizes against a model that remembers, for each block,
 *	  the LSN of the last truncation or creation that covered it; the value's
 *	  bytes; damaged values.
 */
#include "ps_fe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "ps_wire.h"
#include "relsize.h"
#include "timeline.h"

#define NBLOCK 40

static void
check_against(const RelSize *size, const XLogRecPtr *model)
{
	for (BlockNumber blk = 0; blk < NBLOCK; blk++)
		assert_true(relsize_floor(size, blk) == model[blk]);
	/* beyond the model as its last block, for floors reach to the end */
	assert_true(relsize_floor(size, InvalidBlockNumber - 1) == model[NBLOCK - 1]);
	for (uint32 i = 1; i < size->nfloors; i++)
	{
		assert_true(size->floors[i - 1].blk < size->floors[i].blk);
		assert_true(size->floors[i - 1].lsn < size->floors[i].lsn);
	}
}

static void
test_floors(void **state)
{
	for (int round = 0; round < 200; round++)
	{
		RelSize		size = {.nblocks = 7};
		XLogRecPtr	model[NBLOCK] = {0};
		XLogRecPtr	lsn = 1000;

		check_against(&size, model);
		for (int i = 0; i < 60; i++)
		{
			BlockNumber blk = (BlockNumber) (random() % NBLOCK);
			StringInfoData value;
			RelSize		copy;

			lsn += 1 + random() % 100;
			relsize_add_floor(&size, blk, lsn);
			for (BlockNumber b = blk; b < NBLOCK; b++)
				model[b] = lsn;
			check_against(&size, model);

			initStringInfo(&value);
			size.nblocks = (BlockNumber) random();
			relsize_encode(&size, &value);
			assert_null(relsize_decode(value.data, value.len, &copy));
			assert_int_equal(copy.nblocks, size.nblocks);
			assert_int_equal(relsize_value_nblocks(value.data, value.len), size.nblocks);
			check_against(&copy, model);
			relsize_free(&copy);
			assert_null(copy.floors);
			pfree(value.data);
		}
		relsize_free(&size);
	}
}

/* As the header describes it, byte for byte. */
static void
test_bytes(void **state)
{
	static const uint8 expected[] = {0, 0, 1, 2, 0, 0, 0, 2,
		0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0x10,
	0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0x20};
	RelSize		size = {.nblocks = 0x102};
	StringInfoData value;

	relsize_add_floor(&size, 5, UINT64CONST(0x100000010));
	relsize_add_floor(&size, 9, UINT64CONST(0x100000020));
	initStringInfo(&value);
	relsize_encode(&size, &value);
	assert_int_equal(value.len, sizeof(expected));
	assert_memory_equal(value.data, expected, sizeof(expected));
	relsize_free(&size);
	pfree(value.data);
}

static void
test_damaged(void **state)
{
	RelSize		size = {.nblocks = 3};
	StringInfoData value;
	PsError    *err;

	relsize_add_floor(&size, 1, 100);
	relsize_add_floor(&size, 2, 200);
	initStringInfo(&value);
	relsize_encode(&size, &value);
	relsize_free(&size);
	for (int len = 0; len < value.len + 20; len++)
	{
		char	   *copy = pg_malloc0(len + 1);

		memcpy(copy, value.data, Min(len, value.len));
		err = relsize_decode(copy, len, &size);
		if (len == value.len)
			assert_null(err);
		else
		{
			assert_non_null(err);
			assert_true(ps_error_is(err, PS_SQLSTATE_CORRUPTED));
			assert_null(size.floors);
		}
		ps_error_free(err);
		relsize_free(&size);
		free(copy);
	}
	/* a number of floors whose size overflows 32 bits */
	ps_put32(value.data + 4, 0x80000000U);
	err = relsize_decode(value.data, value.len, &size);
	assert_true(ps_error_is(err, PS_SQLSTATE_CORRUPTED));
	ps_error_free(err);
	pfree(value.data);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_floors),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_damaged),
	};
	const char *env = getenv("TEST_SEED");
	unsigned	seed = env != NULL ? strtoul(env, NULL, 10) : (unsigned) time(NULL) ^ (getpid() << 16);

	srandom(seed);
	print_message("TEST_SEED=%u\n", seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
