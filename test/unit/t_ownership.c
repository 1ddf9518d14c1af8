/*
 * t_ownership.c
 *	  Which directory may own a tenant in a bucket: starts, copies, kills, and requests
 *	  that arrive late.
 */
#include "ps_fe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_bucket.h"
#include "sqlstate.h"
#include "upload/ownership.h"

#define STARTS 80
#define SEEDS  100

static char dir[MAXPGPATH];
static char copy[MAXPGPATH];
static FakeBucket *bucket;
static ObjectStore *store;
static PsId tenant;
static PsId bucket_id;
static uint64 prepared; /* arguments of ownership_take() */
static bool move_here;

static int
setup(void **state)
{
	bucket = fake_bucket_create(1);
	store = fake_bucket_open(bucket, NULL);
	tenant = ps_id_random();
	bucket_id = ps_id_random();
	prepared = 0;
	move_here = false;
	strlcpy(dir, "/tmp/t_ownership.XXXXXX", sizeof(dir));
	strlcpy(copy, "/tmp/t_ownership.XXXXXX", sizeof(copy));
	return mkdtemp(dir) == NULL || mkdtemp(copy) == NULL;
}

static int
teardown(void **state)
{
	char *command = psprintf("rm -rf '%s' '%s'", dir, copy);
	int rc = system(command);

	free(command);
	object_store_close(store);
	fake_bucket_free(bucket);
	return rc;
}

/* A process that starts in a directory. */
static PsError *
start(const char *in, uint64 *generation)
{
	StoreIdentity who = {ps_id_random(), "host", in};
	TenantOwner owner = {0};
	PsError *err = ownership_take(store, &bucket_id, &tenant, in, &who, prepared, move_here, NULL, &owner);

	*generation = owner.generation;
	return err;
}

static void
starts(const char *in, uint64 expected)
{
	uint64 generation;
	PsError *err = start(in, &generation);

	if (err != NULL)
		fail_msg("%s: %s", err->sqlstate, err->message);
	assert_int_equal(generation, expected);
}

static void
fails(const char *in, const char *sqlstate, const char *words)
{
	uint64 generation;
	PsError *err = start(in, &generation);
	char *all;

	assert_non_null(err);
	all = psprintf("%s %s", err->message, err->detail ? err->detail : "");
	assert_string_equal(err->sqlstate, sqlstate);
	if (strstr(all, words) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", all, words);
	free(all);
	ps_error_free(err);
}

static void
copy_file(void)
{
	char *command = psprintf("cp '%s/" OWNERSHIP_FILE "' '%s'", dir, copy);

	assert_int_equal(system(command), 0);
	free(command);
}

static char *
file_of(const char *in)
{
	char *path = psprintf("%s/" OWNERSHIP_FILE, in);
	char *text = pg_malloc0(4096);
	FILE *file = fopen(path, "r");

	assert_non_null(file);
	assert_in_range(fread(text, 1, 4095, file), 100, 4094);
	fclose(file);
	free(path);
	return text;
}

/* Each start in the directory is a new generation. */
static void
same_directory(void **state)
{
	starts(dir, 1);
	starts(dir, 2);
	starts(dir, 3);
}

/* Of a directory and its copy, the one that starts first has the tenant; the other one changes nothing. */
static void
copied_directory(void **state)
{
	char *before;
	char *after;
	int objects;

	starts(dir, 1);
	copy_file();
	starts(dir, 2);
	before = file_of(copy);
	objects = fake_bucket_count(bucket, "t/");
	fails(copy, PS_SQLSTATE_FENCED, dir);
	fails(copy, PS_SQLSTATE_FENCED, "generation 2, this store has 1");
	after = file_of(copy);
	assert_string_equal(before, after);
	assert_int_equal(fake_bucket_count(bucket, "t/"), objects);
	free(before);
	free(after);
	starts(dir, 3);

	copy_file();
	starts(copy, 4);
	fails(dir, PS_SQLSTATE_FENCED, copy);
	starts(copy, 5);
}

/* A copy from before the store had a bucket, or of a backup without the file. */
static void
without_file(void **state)
{
	starts(dir, 1);
	fails(copy, PS_SQLSTATE_FENCED, "never had the tenant");
}

/* A directory belongs to one bucket; its tenant can be moved to another one on purpose. */
static void
other_bucket(void **state)
{
	PsId first = bucket_id;

	starts(dir, 1);
	starts(dir, 2);
	copy_file();
	object_store_close(store);
	fake_bucket_free(bucket);
	bucket = fake_bucket_create(2);
	store = fake_bucket_open(bucket, NULL);
	/* of the same bucket, whose objects are not there any more */
	fails(dir, PS_SQLSTATE_CORRUPTED, "claim 1 in file");
	bucket_id = ps_id_random();
	fails(dir, PS_SQLSTATE_STATE, "names another object storage");
	assert_int_equal(fake_bucket_count(bucket, "t/"), 0);
	move_here = true;
	/* the numbers of generations 1 and 2 are in use */
	starts(dir, 3);
	assert_int_equal(fake_bucket_count(bucket, "t/"), 3);
	/* the copy cannot be moved there, too, and stays as it is */
	fails(copy, PS_SQLSTATE_FENCED, dir);
	move_here = false;
	fails(copy, PS_SQLSTATE_STATE, "names another object storage");
	starts(dir, 4);
	bucket_id = first;
	fails(dir, PS_SQLSTATE_STATE, "names another object storage");
}

static uint64
prepare(const char *in)
{
	StoreIdentity who = {ps_id_random(), "host", in};
	uint64 generation;
	PsError *err = ownership_prepare(&tenant, in, &who, &generation);

	if (err != NULL)
		fail_msg("%s: %s", err->sqlstate, err->message);
	return generation;
}

/* Starts without the bucket: each has a generation of its own, and all get their claims later, in their order. */
static void
without_bucket(void **state)
{
	assert_false(ownership_exists(dir));
	assert_int_equal(prepare(dir), 1);
	assert_true(ownership_exists(dir));
	assert_int_equal(prepare(dir), 2);
	prepared = 2;
	starts(dir, 2);
	starts(dir, 2);
	assert_int_equal(fake_bucket_count(bucket, "t/"), 2);
	assert_int_equal(prepare(dir), 3);
	prepared = 0;
	starts(dir, 4);
	starts(dir, 5);
	assert_int_equal(fake_bucket_count(bucket, "t/"), 5);
}

/* Of a directory and its copy, which both run without the bucket, the one that reaches it first has the tenant. */
static void
copy_without_bucket(void **state)
{
	starts(dir, 1);
	copy_file();
	assert_int_equal(prepare(dir), 2);
	assert_int_equal(prepare(copy), 2);
	assert_int_equal(prepare(copy), 3);
	prepared = 3;
	starts(copy, 3);
	prepared = 2;
	fails(dir, PS_SQLSTATE_FENCED, copy);
	fails(dir, PS_SQLSTATE_FENCED, "generation 3, this store has 2");
}

/* A copy that was made of a running store, which had not reached the bucket, can only follow it. */
static void
copy_of_prepared(void **state)
{
	assert_int_equal(prepare(dir), 1);
	copy_file();
	assert_int_equal(prepare(copy), 2);
	prepared = 2;
	starts(copy, 2);
	prepared = 1;
	fails(dir, PS_SQLSTATE_FENCED, copy);
}

/* The claim is saved, but its request failed: the next start puts it, then its own. */
static void
killed_before_put(void **state)
{
	bucket->denied = "put";
	fails(dir, PS_SQLSTATE_STATE, "");
	bucket->denied = NULL;
	starts(dir, 2);
	bucket->denied = "put";
	fails(dir, PS_SQLSTATE_STATE, "");
	copy_file();
	bucket->denied = NULL;
	/* of a directory and its copy, also then only one has it */
	starts(copy, 4);
	starts(copy, 5);
	fails(dir, PS_SQLSTATE_FENCED, copy);
}

/* Somebody else has made the claim that was saved and not put. */
static void
other_claim(void **state)
{
	starts(dir, 1);
	copy_file();
	bucket->denied = "put";
	fails(dir, PS_SQLSTATE_STATE, "");
	bucket->denied = NULL;
	starts(copy, 2);
	fails(dir, PS_SQLSTATE_FENCED, copy);
}

static void
damaged_file(void **state)
{
	char *path = psprintf("%s/" OWNERSHIP_FILE, dir);

	starts(dir, 1);
	assert_int_equal(truncate(path, 100), 0);
	fails(dir, PS_SQLSTATE_CORRUPTED, path);
	free(path);
}

/* Whatever happens to requests, a directory that was not copied is never refused, and no generation is used twice. */
static void
lost_and_late(void **state)
{
	for (int seed = 1; seed <= SEEDS; seed++)
	{
		uint64 last = 0;

		teardown(NULL);
		setup(NULL);
		bucket->random = seed;
		bucket->faults = (FakeFaults) {.lost = 100, .late = 200, .doubled = 100, .answer_lost = 200, .give_up = 400};
		for (int i = 0; i < STARTS; i++)
		{
			uint64 generation;
			PsError *err;

			/* every fifth start is without the bucket at first */
			prepared = i % 5 == 4 ? prepare(dir) : 0;
			err = start(dir, &generation);
			if (err != NULL && !ps_error_is(err, PS_SQLSTATE_TRY_AGAIN))
				fail_msg("seed %d, start %d: %s: %s", seed, i, err->sqlstate, err->message);
			if (err == NULL)
			{
				assert_true(generation > last);
				last = generation;
			}
			ps_error_free(err);
			while (fake_random(bucket, 2) == 0 && fake_bucket_run_late(bucket))
				;
		}
		assert_true(last > 1);
	}
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {TEST(same_directory), TEST(copied_directory), TEST(without_file),
									   TEST(other_bucket), TEST(without_bucket), TEST(copy_without_bucket),
									   TEST(copy_of_prepared), TEST(killed_before_put), TEST(other_claim),
									   TEST(damaged_file), TEST(lost_and_late)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
