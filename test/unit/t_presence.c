/*
 * t_presence.c
 *	  The map of a part file: after a kill or a power failure at any operation,
 *	  and after a sync that fails, no unit is said to be present that is not.
 *
 * TEST_SEED repeats a run.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "fault_fs.h"
#include "layer/presence.h"
#include "layer_util.h"
#include "sqlstate.h"

#define UNITS     11
#define FILE_SIZE ((UNITS - 1) * (uint64) PRESENCE_UNIT + 24 * 1024)
#define RUNS      60

/* Units are filled with their number, in each 512 bytes: holes and old contents are told apart from it. */
#define STEP 512

static uint64 rnd;
static char path[1024];

static uint32
random_below(uint32 n)
{
	return (uint32) (layer_random(&rnd) % n);
}

static int
open_part(void)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd >= 0 && ftruncate(fd, (off_t) presence_part_size(FILE_SIZE)) != 0)
	{
		close(fd);
		return -1;
	}
	return fd;
}

/* Fetches a unit; false if the disk failed. */
static bool
put_unit(Presence *presence, int fd, uint32 unit)
{
	size_t len = presence_unit_len(presence, unit);
	char *buf = pg_malloc(len);
	ssize_t n;

	memset(buf, 'a' + unit, len);
	n = pwrite(fd, buf, len, (off_t) unit * PRESENCE_UNIT);
	free(buf);
	if (n == (ssize_t) len)
		presence_set(presence, unit);
	return n == (ssize_t) len;
}

/* Each unit that is present has its bytes; returns how many are present. */
static int
check_units(const Presence *presence, int fd)
{
	int n = 0;

	for (uint32 unit = 0; unit < UNITS; unit++)
	{
		if (!presence_has_unit(presence, unit))
			continue;
		n++;
		for (size_t at = 0; at < presence_unit_len(presence, unit); at += STEP)
		{
			char bytes[STEP];

			assert_int_equal(pread(fd, bytes, STEP, (off_t) (unit * (uint64) PRESENCE_UNIT + at)), STEP);
			for (int i = 0; i < STEP; i++)
				if (bytes[i] != (char) ('a' + unit))
					fail_msg("unit %u at %zu is said to be present, and has byte %02X", unit, at + i,
							 (uint8) bytes[i]);
		}
	}
	return n;
}

static void
test_ranges(void **state)
{
	Presence *presence = presence_create(FILE_SIZE);

	assert_int_equal(presence_units(presence), UNITS);
	assert_int_equal(presence_unit_len(presence, UNITS - 1), 24 * 1024);
	assert_int_equal(presence_unit_len(presence, UNITS), 0);
	assert_false(presence_has(presence, 0, 1));
	assert_true(presence_has(presence, 0, 0));
	presence_set(presence, 2);
	presence_set(presence, 3);
	assert_true(presence_has(presence, 2 * PRESENCE_UNIT, 2 * PRESENCE_UNIT));
	assert_false(presence_has(presence, 2 * PRESENCE_UNIT, 2 * PRESENCE_UNIT + 1));
	assert_false(presence_has(presence, 2 * PRESENCE_UNIT - 1, 2));
	presence_set(presence, UNITS - 1);
	assert_true(presence_has(presence, FILE_SIZE - 1, 8192));
	assert_int_equal(presence_bytes(presence), 2 * PRESENCE_UNIT + 24 * 1024);
	presence_clear(presence, 3);
	assert_false(presence_has(presence, 3 * PRESENCE_UNIT, 1));
	assert_true(presence_has(presence, 2 * PRESENCE_UNIT, PRESENCE_UNIT));
	presence_free(presence);
}

static Presence *
load(int fd)
{
	Presence *presence = presence_create(FILE_SIZE);

	assert_ok(presence_load(presence, fd, path));
	return presence;
}

/* What was saved is found again; a damaged map is none, and the older one takes its place. */
static void
test_damage(void **state)
{
	uint64 slots = TYPEALIGN64(4096, FILE_SIZE);
	int fd = open_part();
	Presence *presence = load(fd);
	char byte;

	assert_int_equal(presence_bytes(presence), 0);
	assert_true(put_unit(presence, fd, 1));
	assert_ok(presence_save(presence, fd, path));
	assert_true(put_unit(presence, fd, 2));
	assert_true(presence_is_durable(presence, PRESENCE_UNIT, 1));
	assert_false(presence_is_durable(presence, PRESENCE_UNIT, PRESENCE_UNIT + 1));
	assert_ok(presence_save(presence, fd, path));
	assert_true(presence_is_durable(presence, PRESENCE_UNIT, PRESENCE_UNIT + 1));
	presence_clear(presence, 2);
	assert_false(presence_is_durable(presence, 2 * PRESENCE_UNIT, 1));
	assert_true(put_unit(presence, fd, 2));
	assert_false(presence_is_durable(presence, 2 * PRESENCE_UNIT, 1));
	presence_free(presence);
	for (uint64 i = 0; i < PRESENCE_BITS_AT + (UNITS + 7) / 8 + 4; i++)
	{
		/* the second map has sequence 2 and so is in slot 0 */
		assert_int_equal(pread(fd, &byte, 1, (off_t) (slots + i)), 1);
		byte ^= 1 << random_below(8);
		assert_int_equal(pwrite(fd, &byte, 1, (off_t) (slots + i)), 1);
		presence = load(fd);
		assert_true(presence_has_unit(presence, 1));
		assert_false(presence_has_unit(presence, 2));
		presence_free(presence);
		presence = load(fd);
		assert_true(put_unit(presence, fd, 2));
		assert_ok(presence_save(presence, fd, path));
		presence_free(presence);
	}
	presence = load(fd);
	assert_int_equal(check_units(presence, fd), 2);
	presence_free(presence);

	/* of a file of another size */
	presence = presence_create(FILE_SIZE - 1);
	assert_ok(presence_load(presence, fd, path));
	assert_int_equal(presence_bytes(presence), 0);
	presence_free(presence);
	close(fd);
	unlink(path);
}

/* Fetches and saves until the end or a crash. */
static void
run(Presence *presence, int fd)
{
	for (int i = 0; i < 3 * UNITS; i++)
	{
		uint32 unit = random_below(UNITS);
		PsError *err = NULL;

		if (random_below(4) != 0)
		{
			if (presence_has_unit(presence, unit))
				continue;
			if (!put_unit(presence, fd, unit))
				return;
		}
		else
			err = presence_save(presence, fd, path);
		if (err != NULL)
		{
			ps_error_free(err);
			return;
		}
	}
}

/* A run, each operation of which is the last one, and what can be lost is lost. */
static void
test_crashes(void **state)
{
	int found = 0;

	for (int r = 0; r < RUNS; r++)
	{
		Presence *presence;
		int fd;

		fault_begin(test_dir, random_below(1 << 30));
		/* three lives, with a crash each */
		for (int life = 0; life < 3; life++)
		{
			fault_arm_crash(1 + random_below(24));
			fd = open_part();
			if (fd >= 0)
			{
				presence = load(fd);
				(void) check_units(presence, fd);
				run(presence, fd);
				presence_free(presence);
				close(fd);
			}
			if (!fault_has_crashed())
				fault_crash_now();
			fault_restart((FaultLoss) random_below(3));
		}
		fd = open_part();
		assert_true(fd >= 0);
		presence = load(fd);
		found += check_units(presence, fd);
		presence_free(presence);
		close(fd);
		fault_end();
		unlink(path);
	}
	/* otherwise nothing was tested */
	assert_true(found > RUNS / 2);
}

/* After a sync that failed, what it should have made durable is absent again, also for later saves. */
static void
test_sync_fails(void **state)
{
	Presence *presence;
	int fd = open_part();

	/* the file exists before the test begins: its name is not lost */
	fault_begin(test_dir, random_below(1 << 30));
	close(fd);
	fd = open_part();
	presence = load(fd);
	assert_true(put_unit(presence, fd, 0));
	assert_ok(presence_save(presence, fd, path));
	assert_true(put_unit(presence, fd, 1));
	fault_arm_error(1, 1, EIO);
	check_error(presence_save(presence, fd, path), PS_SQLSTATE_IO, "could not sync file");
	fault_disarm();
	assert_true(presence_has_unit(presence, 0));
	assert_false(presence_has_unit(presence, 1));
	assert_true(put_unit(presence, fd, 2));
	assert_ok(presence_save(presence, fd, path));
	presence_free(presence);
	close(fd);
	fault_restart(LOSE_ALL);

	fd = open_part();
	presence = load(fd);
	(void) check_units(presence, fd);
	assert_false(presence_has_unit(presence, 1));
	assert_false(presence_has_unit(presence, 2));
	presence_free(presence);
	close(fd);
	fault_end();
	unlink(path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_ranges), cmocka_unit_test(test_damage),
									   cmocka_unit_test(test_crashes), cmocka_unit_test(test_sync_fails)};
	const char *seed = getenv("TEST_SEED");

	rnd = seed != NULL ? strtoull(seed, NULL, 10) : (uint64) time(NULL);
	printf("# TEST_SEED=%llu\n", (unsigned long long) rnd);
	if (make_test_dir(NULL) != 0)
		return 1;
	snprintf(path, sizeof(path), "%s/file" PRESENCE_SUFFIX, test_dir);
	return cmocka_run_group_tests(tests, NULL, remove_test_dir);
}
