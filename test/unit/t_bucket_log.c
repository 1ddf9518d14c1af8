/*
 * t_bucket_log.c
 *	  The log of a tenant in a bucket: changes that are applied and folded, entries,
 *	  how much is written and read, unknown outcomes, damage.
 */
#include "ps_fe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/time.h>
#include <time.h>

#include <cmocka.h>

#include "bucket/tenant_log.h"
#include "fake_bucket.h"
#include "sqlstate.h"

static FakeBucket *bucket;
static ObjectStore *store;
static Deleter *deleter;
static PsId tenant;
static const StoreIdentity me = {{{1}}, "host1", "/store1"};

static void
assert_ok(PsError *err)
{
	if (err != NULL)
		fail_msg("%s: %s", err->sqlstate, err->message);
}

static void
assert_state(PsError *err, const char *sqlstate)
{
	assert_non_null(err);
	assert_string_equal(err->sqlstate, sqlstate);
	ps_error_free(err);
}

static int
setup(void **state)
{
	bucket = fake_bucket_create(1);
	store = fake_bucket_open(bucket, NULL);
	deleter = deleter_create(store, 0);
	tenant = ps_id_random();
	return 0;
}

static int
teardown(void **state)
{
	deleter_free(deleter);
	object_store_close(store);
	fake_bucket_free(bucket);
	return 0;
}

static void
claim(TenantOwner *owner)
{
	Claim newest;
	Claim mine;
	bool found;

	assert_ok(claim_newest(store, &tenant, NULL, &newest, &found));
	claim_make(&mine, found ? &newest : NULL, &me);
	assert_ok(claim_put(store, &tenant, &mine, NULL, owner));
}

static json_t *
json(const char *text)
{
	json_error_t err;
	char *quoted = pg_strdup(text);
	json_t *root;

	for (char *p = quoted; *p != '\0'; p++)
		*p = *p == '\'' ? '"' : *p;
	root = json_loads(quoted, 0, &err);
	if (root == NULL)
		fail_msg("%s: %s", text, err.text);
	free(quoted);
	return root;
}

static void
load(LogChange *change, const char *text)
{
	json_t *root = json(text);

	assert_ok(log_change_load(change, root));
	json_decref(root);
}

static PsError *
append(TenantLog *log, const char *text, uint32 flags)
{
	json_t *root = json(text);
	PsError *err = tenant_log_append(log, root, flags, NULL);

	json_decref(root);
	return err;
}

static void
assert_equal(const LogChange *change, const LogChange *other)
{
	assert_true(json_equal(change->json, other->json));
}

/* The state is what the text says. */
static void
assert_is(const LogChange *state, const char *text)
{
	LogChange expected;
	size_t len;

	load(&expected, text);
	if (!json_equal(state->json, expected.json))
		fail_msg("%s is not %s", log_change_text(state, &len), text);
	log_change_free(&expected);
}

/* Appends a change whose text is freed. */
static PsError *
append_text(TenantLog *log, char *text)
{
	PsError *err = append(log, text, 0);

	pfree(text);
	return err;
}

/* ---- changes ---- */

static void
apply(LogChange *state, const char *text)
{
	LogChange change;

	load(&change, text);
	assert_ok(log_change_check(state, &change));
	log_change_apply(state, &change);
	log_change_free(&change);
}

static void
changes(void **state)
{
	static const char *const wrong[] = {
		"{'timelines': {'c': {'lsn': 1}}}",
		"{'timelines': {'a': {'drop': ['nosuch']}}}",
		"{'timelines': {'a': {'add': ['x again']}}}",
		"{'timelines': {'a': {'up': null}}}",
		"{'timelines': {'a': {'up': {'in': 1}}}}",
		"{'tenant': {'o': 1}}",
	};
	static const char *const invalid[] = {
		"[]", "{'tenant': 1}", "{'timelines': []}", "{'timelines': {'a': 1}}", "{'timelines': {'a': {'layers': 1}}}",
		"{'timelines': {'a': {'layers': [1]}}}", "{'timelines': {'a': {'layers': ['x 1', 'x 2']}}}",
		"{'timelines': {'a': {'drop': ['x 1']}}}", "{'timelines': {'a': {'layers': [], 'add': ['x']}}}",
		"{'timelines': {'a': {'add': ['']}}}"};
	LogChange s;
	LogChange change;
	json_t *root;

	log_change_init(&s);
	apply(&s, "{'tenant': {'name': 'n', 'x': 1}, 'timelines': {'a': {'layers': ['x 1', 'y 2'], 'lsn': 1,"
			  " 'up': {'p': 1, 'q': 2}}, 'b': {'layers': []}}}");
	apply(&s, "{'tenant': {'x': null}, 'timelines': {'a': {'add': ['z 3'], 'drop': ['x'], 'lsn': 2, 'up': {'q': 3}}}}");
	assert_is(&s, "{'tenant': {'name': 'n'}, 'timelines': {'a': {'layers': ['y 2', 'z 3'], 'lsn': 2,"
				  " 'up': {'p': 1, 'q': 3}}, 'b': {'layers': []}}}");
	/* an entry of a file that is replaced */
	apply(&s, "{'timelines': {'a': {'add': ['y 9'], 'drop': ['y']}, 'b': null, 'c': {'layers': ['x 1']}}}");
	assert_is(&s, "{'tenant': {'name': 'n'}, 'timelines': {'a': {'layers': ['z 3', 'y 9'], 'lsn': 2,"
				  " 'up': {'p': 1, 'q': 3}}, 'c': {'layers': ['x 1']}}}");
	apply(&s, "{'timelines': {'c': null}}");
	apply(&s, "{'timelines': {'a': {'add': ['x 1']}}}");
	/* null removes also what was never there */
	apply(&s, "{'tenant': {'o': {'gone': null, 'in': {'gone': null}}}, 'timelines': {'a': {'up': {'in': {'x': 1}}}}}");
	assert_is(&s, "{'tenant': {'name': 'n', 'o': {'in': {}}}, 'timelines': {'a': {'layers': ['z 3', 'y 9', 'x 1'],"
				  " 'lsn': 2, 'up': {'p': 1, 'q': 3, 'in': {'x': 1}}}}}");
	for (int i = 0; i < lengthof(wrong); i++)
	{
		load(&change, wrong[i]);
		assert_state(log_change_check(&s, &change), PS_SQLSTATE_CORRUPTED);
		log_change_free(&change);
	}
	for (int i = 0; i < lengthof(invalid); i++)
	{
		root = json(invalid[i]);
		assert_state(log_change_load(&change, root), PS_SQLSTATE_CORRUPTED);
		json_decref(root);
	}
	log_change_free(&s);
}

/* A random change that fits the state. */
static json_t *
random_change(const LogChange *state, int *number)
{
	json_t *timelines = json_object();
	json_t *members = json_object();
	char id[2] = {'a' + fake_random(bucket, 3), '\0'};
	char name[16] = {'m', 'a' + fake_random(bucket, 3), '\0'};
	json_t *before = log_change_timeline(state, id);
	json_t *record = json_object();

	if (before == NULL || fake_random(bucket, 20) == 0)
		json_object_set_new(record, "layers", json_pack("[o]", json_sprintf("f%d 0", ++*number)));
	else if (fake_random(bucket, 20) == 0)
	{
		json_decref(record);
		record = json_null();
	}
	else
	{
		json_t *layers = json_object_get(before, "layers");
		json_t *add = json_array();
		json_t *drop = json_array();
		char text[32];
		size_t i;
		json_t *layer;
		json_t *inner;

		json_array_foreach(layers, i, layer)
		{
			if (fake_random(bucket, 3) != 0)
				continue;
			strlcpy(text, json_string_value(layer), sizeof(text));
			*strchr(text, ' ') = '\0';
			json_array_append_new(drop, json_string(text));
			if (fake_random(bucket, 4) == 0)
				json_array_append_new(add, json_sprintf("%s %d", text, ++*number));
		}
		for (i = fake_random(bucket, 4); i > 0; i--)
			json_array_append_new(add, json_sprintf("f%d 0", ++*number));
		json_object_set_new(record, "add", add);
		json_object_set_new(record, "drop", drop);
		json_object_set_new(record, name, fake_random(bucket, 4) == 0 ? json_null() : json_integer(++*number));
		inner = fake_random(bucket, 4) == 0 ? json_null() : json_integer(++*number);
		json_object_set_new(record, "up", json_pack("{s:o}", name, inner));
	}
	json_object_set_new(timelines, id, record);
	json_object_set_new(members, name, fake_random(bucket, 4) == 0 ? json_null() : json_integer(++*number));
	json_decref(before);
	return json_pack("{s:o, s:o}", "tenant", members, "timelines", timelines);
}

/* Changes that are folded have the effect that they have one by one, however they are folded. */
static void
folding(void **unused)
{
	int number = 0;
	LogChange state;

	log_change_init(&state);
	for (int round = 0; round < 2000; round++)
	{
		LogChange folded[3]; /* some, then some, then both */
		LogChange before;
		size_t len;
		char *text = log_change_text(&state, &len);
		json_error_t jerr;
		json_t *root = json_loadb(text, len, 0, &jerr);

		assert_ok(log_change_load(&before, root));
		json_decref(root);
		free(text);
		for (int i = 0; i < 2; i++)
		{
			log_change_init(&folded[i]);
			for (int n = fake_random(bucket, 6); n > 0; n--)
			{
				LogChange change;

				root = random_change(&state, &number);
				assert_ok(log_change_load(&change, root));
				json_decref(root);
				assert_ok(log_change_check(&state, &change));
				log_change_apply(&state, &change);
				log_change_fold(&folded[i], &change);
				log_change_free(&change);
			}
		}
		log_change_init(&folded[2]);
		log_change_fold(&folded[2], &folded[0]);
		log_change_fold(&folded[2], &folded[1]);
		/* through its text, as in an entry */
		text = log_change_text(&folded[2], &len);
		root = json_loadb(text, len, 0, &jerr);
		log_change_free(&folded[2]);
		assert_ok(log_change_load(&folded[2], root));
		json_decref(root);
		free(text);
		assert_ok(log_change_check(&before, &folded[2]));
		log_change_apply(&before, &folded[2]);
		assert_equal(&before, &state);
		log_change_free(&before);
		for (int i = 0; i < 3; i++)
			log_change_free(&folded[i]);
	}
	log_change_free(&state);
}

/* ---- the log ---- */

static void
assert_log(const TenantOwner *owner, const LogChange *expected, uint64 number)
{
	LogChange state;
	LogEntryInfo newest;

	assert_ok(tenant_log_read(store, &tenant, owner->generation + 1, NULL, &newest, &state));
	assert_int_equal(newest.generation, owner->generation);
	assert_int_equal(newest.number, number);
	assert_equal(&state, expected);
	log_change_free(&state);
}

static void
owners(void **unused)
{
	TenantOwner first;
	TenantOwner second;
	TenantLog *log;
	TenantLog *theirs;
	LogEntryInfo newest;

	claim(&first);
	assert_ok(tenant_log_open(&first, deleter, NULL, &log, &newest));
	assert_int_equal(newest.generation, 0);
	assert_ok(tenant_log_append(log, NULL, 0, NULL));
	assert_ok(append(log, "{'tenant': {'name': 'n'}, 'timelines': {'a': {'layers': ['x 1']}}}", 0));
	/* a change that does not fit changes nothing */
	assert_state(append(log, "{'tenant': {'name': 'm'}, 'timelines': {'b': {'add': ['x 1']}}}", 0),
				 PS_SQLSTATE_CORRUPTED);
	assert_ok(append(log, "{'timelines': {'a': {'add': ['y 1']}}}", 0));
	assert_is(tenant_log_state(log), "{'tenant': {'name': 'n'}, 'timelines': {'a': {'layers': ['x 1', 'y 1']}}}");

	/* the next owner; the first one's commits do not count any more, and are read by nobody */
	claim(&second);
	assert_ok(tenant_log_open(&second, deleter, NULL, &theirs, &newest));
	assert_true(newest.generation == 1 && newest.number == 2 && newest.flags != LOG_RELEASED);
	assert_state(append(log, "{'timelines': {'a': null}}", 0), PS_SQLSTATE_FENCED);
	assert_true(tenant_log_is_pending(log));
	assert_state(tenant_log_settle(log, NULL), PS_SQLSTATE_FENCED);
	assert_state(append(log, "{}", 0), PS_SQLSTATE_INTERNAL);
	tenant_log_close(log);
	assert_ok(append(theirs, "{'timelines': {'b': {'layers': []}}}", 0));
	assert_log(&second, tenant_log_state(theirs), 0);
	assert_ok(append(theirs, "{}", LOG_RELEASED));
	tenant_log_close(theirs);

	/* released: said by the last entry alone */
	claim(&first);
	assert_ok(tenant_log_open(&first, deleter, NULL, &log, &newest));
	assert_true(newest.flags & LOG_RELEASED);
	assert_is(tenant_log_state(log), "{'tenant': {'name': 'n'},"
									 " 'timelines': {'a': {'layers': ['x 1', 'y 1']}, 'b': {'layers': []}}}");
	assert_ok(tenant_log_append(log, NULL, 0, NULL));
	tenant_log_close(log);
	claim(&second);
	assert_ok(tenant_log_open(&second, deleter, NULL, &log, &newest));
	assert_false(newest.flags & LOG_RELEASED);
	tenant_log_close(log);
}

/* Random changes with requests that get lost; each state is read as it is. */
static void
random_log(void **unused)
{
	int number = 0;
	int unknown = 0;
	TenantOwner owner;
	TenantLog *log;
	LogEntryInfo newest;

	for (int generation = 1; generation <= 4; generation++)
	{
		claim(&owner);
		assert_ok(tenant_log_open(&owner, deleter, NULL, &log, &newest));
		assert_ok(tenant_log_append(log, NULL, 0, NULL));
		/* large enough that changes do not outweigh it soon */
		for (int i = 0; i < 30; i++)
			assert_ok(append_text(log, psprintf("{'tenant': {'g%d-%d': '%0*d'}}", generation, i, 100, 0)));
		for (uint64 n = 31; n < 300; n++)
		{
			json_t *change = random_change(tenant_log_state(log), &number);
			PsError *err;

			bucket->faults = (FakeFaults) {.lost = 50, .late = 50, .doubled = 50, .answer_lost = 50, .give_up = 500};
			for (err = tenant_log_append(log, change, 0, NULL); err != NULL; err = tenant_log_settle(log, NULL))
			{
				assert_state(err, PS_SQLSTATE_TRY_AGAIN);
				unknown++;
			}
			json_decref(change);
			bucket->faults = (FakeFaults) {.stale = 30};
			while (fake_bucket_run_late(bucket))
				;
			assert_log(&owner, tenant_log_state(log), n);
			if (n % 50 == 0)
			{
				/* what has been replaced is not needed; old lists must not show what is deleted */
				bucket->now += 30;
				assert_ok(deleter_run(deleter, NULL));
				assert_log(&owner, tenant_log_state(log), n);
			}
		}
		tenant_log_close(log);
		bucket->faults = (FakeFaults) {0};
	}
	assert_true(unknown > 100);
	/* nothing is left but what is needed */
	assert_true(fake_bucket_count(bucket, "t/") < 4 + 100);
}

/* Changes that are larger than the state are not written: the state is. */
static void
small_state(void **unused)
{
	TenantOwner owner;
	TenantLog *log;
	LogEntryInfo newest;

	claim(&owner);
	assert_ok(tenant_log_open(&owner, deleter, NULL, &log, &newest));
	assert_ok(tenant_log_append(log, NULL, 0, NULL));
	for (int i = 1; i <= 295; i++)
		assert_ok(append_text(log, psprintf("{'tenant': {'m%d': 1, 'm%d': null}}", i, i - 1)));
	bucket->counts = (FakeCounts) {0};
	assert_log(&owner, tenant_log_state(log), 295);
	assert_int_equal(bucket->counts.gets, 2); /* the newest entry, and whether there is another one */
	tenant_log_close(log);
}

/* A file, as a manifest has it: its keys are random. */
static json_t *
layer_text(int i, int level)
{
	char keys[4][17];

	for (int k = 0; k < 4; k++)
		snprintf(keys[k], sizeof(keys[k]), "%016lx", (unsigned long) fake_random(bucket, UINT64_MAX));
	return json_sprintf("010000%s%s-010000%s%s-%016x-%016x-%08x level %d entries %d bytes %d",
						keys[0], keys[1], keys[2],
						keys[3], i * 1000, i * 1000 + 999, i, level, 1234, i);
}

/*
 * A tenant of 1,000 branches with 100,000 files: what is written for one more, and how
 * many requests it takes to attach it.
 */
static void
costs(void **unused)
{
	TenantOwner owner;
	TenantLog *log;
	TenantLog *theirs;
	LogEntryInfo newest;
	json_t *timelines = json_object();
	json_t *change;
	int nchanges = LOG_FULL_AFTER - 1;
	const FakeCounts *counts = &bucket->counts;
	char id[PS_ID_TEXT];
	int64 full;
	int64 average;
	clock_t start;

	for (int t = 0; t < 1000; t++)
	{
		json_t *layers = json_array();

		for (int i = 0; i < 100; i++)
			json_array_append_new(layers, layer_text(t * 100 + i, 1));
		snprintf(id, sizeof(id), "%032d", t);
		json_object_set_new(timelines, id, json_pack("{s:o, s:s}", "layers", layers, "name", id));
	}
	change = json_pack("{s:o}", "timelines", timelines);
	claim(&owner);
	assert_ok(tenant_log_open(&owner, deleter, NULL, &log, &newest));
	assert_ok(tenant_log_append(log, change, 0, NULL));
	json_decref(change);
	full = counts->bytes_put;

	bucket->counts = (FakeCounts) {0};
	start = clock();
	for (int i = 0; i < nchanges; i++)
	{
		char lsn[32];

		snprintf(id, sizeof(id), "%032d", (int) fake_random(bucket, 1000));
		snprintf(lsn, sizeof(lsn), "%X/%X", i, i);
		change = json_pack("{s:{s:{s:[o], s:s}}}", "timelines", id, "add", layer_text(200000 + i, 0),
						   "disk_consistent_lsn", lsn);
		assert_ok(tenant_log_append(log, change, 0, NULL));
		json_decref(change);
	}
	average = (counts->bytes_put + full) / LOG_FULL_AFTER;
	print_message("full entry: %lld bytes; one more file: %lld bytes on average, %.2f ms of CPU\n", (long long) full,
				  (long long) average, (clock() - start) * 1000.0 / CLOCKS_PER_SEC / nchanges);
	assert_true(average < 4096);

	/* the entry whose reading takes most */
	bucket->counts = (FakeCounts) {0};
	claim(&owner);
	assert_ok(tenant_log_open(&owner, deleter, NULL, &theirs, &newest));
	assert_int_equal(newest.number, nchanges);
	assert_equal(tenant_log_state(theirs), tenant_log_state(log));
	assert_ok(tenant_log_append(theirs, NULL, 0, NULL));
	print_message("attaching took %d PUT, %d GET, %d LIST\n", counts->puts, counts->gets, counts->lists);
	assert_in_range(counts->puts + counts->gets + counts->lists, 1, 15);
	tenant_log_close(theirs);
	tenant_log_close(log);
}

/* Damage of any entry that is needed is an error that names it; so is one that is missing. */
static void
damage(void **unused)
{
	TenantOwner owner;
	TenantLog *log;
	LogEntryInfo newest;
	LogChange state;
	BucketKey key = {BUCKET_KEY_LOG};
	char name[BUCKET_KEY_TEXT];
	const char *data;
	char *copy;
	size_t len;

	claim(&owner);
	assert_ok(tenant_log_open(&owner, deleter, NULL, &log, &newest));
	assert_ok(append_text(log, psprintf("{'tenant': {'text': '%0*d'}, 'timelines': {'a': {'layers': []}}}", 2000, 0)));
	for (int i = 1; i <= 21; i++)
		assert_ok(append_text(log, psprintf("{'timelines': {'a': {'add': ['f%d 0']}}}", i)));
	assert_log(&owner, tenant_log_state(log), 21); /* 111 in base 4: 0, 16, 20, 21 */
	key.tenant = tenant;
	key.generation = 1;
	for (int i = 0; i < 4; i++)
	{
		key.number = (uint64[]) {0, 16, 20, 21}[i];
		data = fake_bucket_peek(bucket, bucket_key_format(&key, name), &len);
		copy = pg_malloc(len);
		memcpy(copy, data, len);
		for (size_t bit = 0; bit < len * 8; bit++)
		{
			PsError *err;

			copy[bit / 8] ^= 1 << bit % 8;
			fake_bucket_poke(bucket, name, copy, len);
			copy[bit / 8] ^= 1 << bit % 8;
			err = tenant_log_read(store, &tenant, 2, NULL, &newest, &state);
			assert_non_null(err);
			assert_non_null(strstr(err->message, name));
			assert_state(err, PS_SQLSTATE_CORRUPTED);
		}
		/* missing; if it is the newest, nobody can know */
		fake_bucket_poke(bucket, name, NULL, 0);
		if (i < 3)
			assert_state(tenant_log_read(store, &tenant, 2, NULL, &newest, &state), PS_SQLSTATE_CORRUPTED);
		fake_bucket_poke(bucket, name, copy, len);
		free(copy);
	}
	assert_log(&owner, tenant_log_state(log), 21);

	/* one under the key of another */
	data = fake_bucket_peek(bucket, bucket_key_format(&key, name), &len);
	copy = pg_malloc(len);
	memcpy(copy, data, len);
	key.number = 22;
	fake_bucket_poke(bucket, bucket_key_format(&key, name), copy, len);
	assert_state(tenant_log_read(store, &tenant, 2, NULL, &newest, &state), PS_SQLSTATE_CORRUPTED);
	free(copy);
	tenant_log_close(log);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(changes),
		TEST(folding),
		TEST(owners),
		TEST(random_log),
		TEST(small_state),
		TEST(costs),
		TEST(damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
