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

#define STARTS 40
#define SEEDS  100

static char dir[MAXPGPATH];
static char copy[MAXPGPATH];
static FakeBucket *bucket;
static ObjectStore *store;
static PsId tenant;
static PsId bucket_id;

static int
setup(void **state)
{
	bucket = fake_bucket_create(1);
	store = fake_bucket_open(bucket, NULL);
	tenant = ps_id_random();
	bucket_id = ps_id_random();
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
	PsError *err = ownership_take(store, &bucket_id, &tenant, in, &who, NULL, &owner);

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

/* Of a directory and its copy, the one that starts first has the tenant; the other one is refused and changes nothing. */
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

static void
other_bucket(void **state)
{
	PsId first = bucket_id;

	starts(dir, 1);
	starts(dir, 2);
	object_store_close(store);
	fake_bucket_free(bucket);
	bucket = fake_bucket_create(2);
	store = fake_bucket_open(bucket, NULL);
	/* of the same bucket, whose objects are not there any more */
	fails(dir, PS_SQLSTATE_CORRUPTED, "cannot follow claim 0");
	bucket_id = ps_id_random();
	starts(dir, 1);
	bucket_id = first;
	fails(dir, PS_SQLSTATE_FENCED, "never had the tenant");
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
		bucket->faults = (FakeFaults) {.lost = 100, .late = 200, .doubled = 100, .answer_lost = 200, .give_up = 700};
		for (int i = 0; i < STARTS; i++)
		{
			uint64 generation;
			PsError *err = start(dir, &generation);

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
									   TEST(other_bucket), TEST(killed_before_put), TEST(other_claim),
									   TEST(damaged_file), TEST(lost_and_late)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
