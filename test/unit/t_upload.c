/*
 * t_upload.c
 *	  The upload of a tenant: random changes of timelines, beside faults of the bucket and
 *	  starts of the store.  At any time, the newest state in the bucket is one that the tenant
 *	  had, and all files that it names are there.
 */
#include "ps_fe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "bucket/tenant_log.h"
#include "fake_bucket.h"
#include "layer/layer.h"
#include "sqlstate.h"
#include "upload/ownership.h"
#include "upload/purged.h"
#include "upload/upload.h"

#define TIMELINES 6
#define FILES     40   /* of a timeline */
#define CHANGES   4000 /* of a run, at most */
#define STEPS     250
#define SEEDS     5

/* What the directory has. */
typedef struct Local
{
	PsId id;
	bool exists;
	bool purged;
	int change; /* of its last change */
	uint64 generation;
	LayerInfo files[FILES];
	int n;
} Local;

static char dir[MAXPGPATH];
static FakeBucket *bucket;
static ObjectStore *store;   /* of the upload */
static ObjectStore *checker; /* of the test */
static PsId tenant;
static PsId bucket_id;
static Config config;
static const Config *_Atomic config_now = &config;
static uint64 random_state;
static Local locals[TIMELINES];
static uint64 next_number;
static char *history[CHANGES]; /* the files of a timeline after a change */
static int nchanges;
static TenantUpload *upload;
static TenantOwner owner;
static PsError *failure;

static uint64
pick(uint64 n)
{
	random_state = random_state * UINT64CONST(6364136223846793005) + UINT64CONST(1442695040888963407);
	return (random_state >> 33) % n;
}

/* ---- the directory ---- */

static char *
layer_path(const Local *local, const LayerInfo *info)
{
	char id[PS_ID_TEXT];
	char name[LAYER_NAME_MAX];

	return psprintf("%s/timelines/%s/layers/%s", dir, ps_id_format(&local->id, id), layer_name_format(info, name));
}

static void
shell(const char *format, const char *a, const char *b)
{
	char *command = psprintf(format, a, b);

	assert_int_equal(system(command), 0);
	free(command);
}

/* Writes a new file; its text for the manifest. */
static json_t *
new_file(Local *local, int level)
{
	LayerInfo *info = &local->files[local->n++];
	char *path;
	char name[LAYER_NAME_MAX];
	FILE *file;

	memset(info, 0, sizeof(*info));
	info->type = LAYER_DELTA;
	info->key_min.kind = info->key_max.kind = 1;
	info->lsn_start = 16;
	info->lsn_end = 32;
	info->number = next_number++;
	info->level = level;
	path = layer_path(local, info);
	file = fopen(path, "w");
	assert_non_null(file);
	fprintf(file, "%s", layer_name_format(info, name));
	fclose(file);
	free(path);
	return json_sprintf("%s level %d entries 1 bytes %d", name, level, (int) strlen(name));
}

static int
compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Sorted names of files, from a list; frees the texts. */
static char *
join(char **names, int n)
{
	char *all = pg_strdup("");

	qsort(names, n, sizeof(char *), compare_texts);
	for (int i = 0; i < n; i++)
	{
		char *longer = psprintf("%s %s", all, names[i]);

		free(all);
		free(names[i]);
		all = longer;
	}
	return all;
}

/* Notes in the history what the timeline has now; the member "gc_cutoff" of its record. */
static json_t *
remember(Local *local)
{
	char *names[FILES];
	char name[LAYER_NAME_MAX];

	for (int i = 0; i < local->n; i++)
		names[i] = pg_strdup(layer_name_format(&local->files[i], name));
	assert_true(nchanges < CHANGES);
	local->change = nchanges;
	history[nchanges++] = join(names, local->n);
	return json_sprintf("0/%X", local->change);
}

/* The whole record. */
static json_t *
whole(Local *local)
{
	json_t *layers = json_array();
	char name[LAYER_NAME_MAX];

	for (int i = 0; i < local->n; i++)
	{
		layer_name_format(&local->files[i], name);
		json_array_append_new(layers, json_sprintf("%s level %d entries 1 bytes %d", name, local->files[i].level,
												   (int) strlen(name)));
	}
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o}", "name", "branch", "ancestor", "", "disk_consistent_lsn", "0/1",
					 "gc_cutoff", json_sprintf("0/%X", local->change), "generation",
					 json_sprintf(UINT64_FORMAT, local->generation), "layers", layers);
}

static void
create(Local *local)
{
	char id[PS_ID_TEXT];

	memset(local, 0, sizeof(*local));
	local->id = ps_id_random();
	local->exists = true;
	shell("mkdir -p '%s/timelines/%s/layers'", dir, ps_id_format(&local->id, id));
	for (int i = pick(7); i >= 0; i--)
		json_decref(new_file(local, 0));
	json_decref(remember(local));
	upload_note(upload, &local->id, whole(local));
}

typedef enum FileState
{
	FILE_GOOD,
	FILE_MISSING,
	FILE_UNREADABLE
} FileState;

static void
flush_file(Local *local, FileState state)
{
	json_t *text;
	char *path;

	if (local->n == FILES)
		return;
	text = new_file(local, 0);
	path = layer_path(local, &local->files[local->n - 1]);
	if (state != FILE_GOOD)
		assert_int_equal(unlink(path), 0);
	if (state == FILE_UNREADABLE)
		assert_int_equal(symlink(path, path), 0);
	free(path);
	upload_note(upload, &local->id, json_pack("{s:[o], s:o}", "add", text, "gc_cutoff", remember(local)));
}

static void
flush(Local *local)
{
	flush_file(local, FILE_GOOD);
}

/* The newest file, which cannot be read, becomes what it should be. */
static void
repair_file(Local *local)
{
	LayerInfo *info = &local->files[local->n - 1];
	char *path = layer_path(local, info);
	char *tmp = psprintf("%s/repaired", dir);
	char name[LAYER_NAME_MAX];
	FILE *file = fopen(tmp, "w");

	assert_non_null(file);
	fprintf(file, "%s", layer_name_format(info, name));
	fclose(file);
	assert_int_equal(rename(tmp, path), 0);
	free(tmp);
	free(path);
}

/* Merges all from a random file on; the old ones are removed afterwards. */
static void
merge(Local *local)
{
	LayerInfo old[FILES];
	int from = local->n > 0 ? pick(local->n) : 0;
	int nold = local->n - from;
	json_t *drop = json_array();
	json_t *text;
	char name[LAYER_NAME_MAX];

	if (nold < 2)
	{
		json_decref(drop);
		return;
	}
	for (int i = 0; i < nold; i++)
	{
		old[i] = local->files[from + i];
		json_array_append_new(drop, json_string(layer_name_format(&old[i], name)));
	}
	local->n = from;
	text = new_file(local, 1);
	upload_note(upload, &local->id,
				json_pack("{s:[o], s:o, s:o}", "add", text, "drop", drop, "gc_cutoff", remember(local)));
	for (int i = 0; i < nold; i++)
	{
		char *path = layer_path(local, &old[i]);

		assert_int_equal(unlink(path), 0);
		free(path);
	}
}

static void
purge(Local *local)
{
	char id[PS_ID_TEXT];

	assert_null(purged_add(dir, &local->id));
	shell("rm -r '%s/timelines/%s'", dir, ps_id_format(&local->id, id));
	upload_note_gone(upload, &local->id);
	local->exists = false;
	local->purged = true;
}

/* ---- the process ---- */

static void
on_failure(void *arg, PsError *err)
{
	failure = err;
}

static void
make_upload(void)
{
	UploadOptions options = {.tenant = tenant, .dir = dir, .config = &config_now, .on_failure = on_failure};

	upload = upload_create(&options);
	for (int i = 0; i < TIMELINES; i++)
		if (locals[i].exists)
			upload_note(upload, &locals[i].id, whole(&locals[i]));
}

/* False if the bucket did not answer. */
static bool
try_begin(void)
{
	StoreIdentity who = {ps_id_random(), "host", dir};
	PsId *purged;
	int npurged;
	bool older;
	PsError *err = ownership_take(store, &bucket_id, &tenant, dir, &who, 0, false, NULL, &owner);

	if (err == NULL)
	{
		assert_null(purged_read(dir, &purged, &npurged));
		err = upload_begin(upload, &owner, purged, &npurged, NULL, &older);
		if (err == NULL)
			assert_null(purged_forget(dir, purged, npurged));
		free(purged);
	}
	if (err == NULL)
		return true;
	if (!ps_error_is(err, PS_SQLSTATE_TRY_AGAIN))
		fail_msg("%s: %s", err->sqlstate, err->message);
	ps_error_free(err);
	return false;
}

static void
begin(void)
{
	while (!try_begin())
		;
	next_number = Max(next_number, owner.generation << 32);
}

static int
setup(void **state)
{
	bucket = fake_bucket_create(1);
	store = fake_bucket_open(bucket, NULL);
	checker = fake_bucket_open(bucket, NULL);
	tenant = ps_id_random();
	bucket_id = ps_id_random();
	strlcpy(dir, "/tmp/t_upload.XXXXXX", sizeof(dir));
	assert_non_null(mkdtemp(dir));
	memset(locals, 0, sizeof(locals));
	memset(&config, 0, sizeof(config));
	next_number = 1;
	nchanges = 0;
	failure = NULL;
	make_upload();
	return 0;
}

static int
teardown(void **state)
{
	/* a check that failed has kept the lock, without which the thread does not end */
	while (pthread_mutex_unlock(&bucket->lock) == 0)
		;
	upload_free(upload);
	object_store_close(store);
	object_store_close(checker);
	fake_bucket_free(bucket);
	for (int i = 0; i < nchanges; i++)
		free(history[i]);
	ps_error_free(failure);
	shell("rm -rf '%s'%s", dir, "");
	return 0;
}

/* ---- checks ---- */

/* The newest state in the bucket.  The bucket is locked. */
static void
read_state(LogChange *state)
{
	FakeFaults faults = bucket->faults;
	LogEntryInfo newest;
	PsError *err;

	bucket->faults = (FakeFaults) {0};
	err = tenant_log_read(checker, &tenant, owner.generation + 1, NULL, &newest, state);
	bucket->faults = faults;
	if (err != NULL)
		fail_msg("%s: %s", err->sqlstate, err->message);
}

/* The record of a timeline in the state, or NULL; checks it.  *change: after which it has these files. */
static const json_t *
check_record(const LogChange *state, const Local *local, int *change)
{
	char id[PS_ID_TEXT];
	const json_t *record =
		json_object_get(json_object_get(state->json, "timelines"), ps_id_format(&local->id, id));
	json_t *layers = json_object_get(record, "layers");
	char *names[FILES + 1];
	int n = 0;
	char *all;
	const char *name;
	json_t *text;

	if (record == NULL)
		return NULL;
	json_object_foreach(layers, name, text)
	{
		BucketKey key = {.kind = BUCKET_KEY_LAYER, .tenant = tenant, .timeline = local->id};
		char key_text[BUCKET_KEY_TEXT];
		LayerInfo info;
		const char *data;
		size_t len;

		assert_true(layer_name_parse(name, &info));
		key.number = info.number;
		data = fake_bucket_peek(bucket, bucket_key_format(&key, key_text), &len);
		if (data == NULL)
			fail_msg("file %s is named, and not there", name);
		assert_int_equal(len, strlen(name));
		assert_memory_equal(data, name, len);
		assert_true(n <= FILES);
		names[n++] = pg_strdup(name);
	}
	assert_int_equal(sscanf(json_string_value(json_object_get(record, "gc_cutoff")), "0/%X", change), 1);
	all = join(names, n);
	assert_string_equal(all, history[*change]);
	free(all);
	return record;
}

/* Is the state in the bucket that of the directory?  In any case it is one that the directory had. */
static bool
check(void)
{
	LogChange state;
	bool same;
	size_t there = 0;

	fake_bucket_lock(bucket);
	read_state(&state);
	same = true;
	for (int i = 0; i < TIMELINES; i++)
	{
		int change;
		const json_t *record = locals[i].exists || locals[i].purged ? check_record(&state, &locals[i], &change) : NULL;

		same = same && (record != NULL) == locals[i].exists;
		there += record != NULL;
		if (record != NULL && locals[i].exists)
			same = same && change == locals[i].change &&
				   strtoull(json_string_value(json_object_get(record, "generation")), NULL, 10) == locals[i].generation;
	}
	assert_true(json_object_size(json_object_get(state.json, "timelines")) >= there);
	same = same && json_object_size(json_object_get(state.json, "timelines")) == there;
	log_change_free(&state);
	fake_bucket_unlock(bucket);
	if (failure != NULL)
		fail_msg("%s: %s", failure->sqlstate, failure->message);
	return same;
}

static void
wait_until_uploaded(void)
{
	int64 until = clock_now_ms() + 20000;
	UploadInfo info;

	while (!check())
	{
		upload_info(upload, &info);
		if (clock_now_ms() > until)
			fail_msg("%d files are not uploaded: %s", (int) info.files, info.error);
		usleep(1000);
	}
}

static int
count_files(void)
{
	char *prefix;
	char id[PS_ID_TEXT];
	int n;

	prefix = psprintf("t/%s/l/", ps_id_format(&tenant, id));
	n = fake_bucket_count(bucket, prefix);
	free(prefix);
	return n;
}

/* ---- tests ---- */

static void
random_changes(bool faults, bool starts)
{
	for (int seed = 1; seed <= SEEDS; seed++)
	{
		int named = 0;

		if (seed > 1)
		{
			teardown(NULL);
			setup(NULL);
		}
		random_state = bucket->random = seed;
		print_message("seed %d\n", seed);
		if (faults)
			bucket->faults = (FakeFaults) {.lost = 50, .late = 100, .doubled = 100, .answer_lost = 100, .give_up = 100};
		begin();
		for (int step = 0; step < STEPS; step++)
		{
			Local *local = &locals[pick(TIMELINES)];
			int what = pick(100);

			if (!local->exists)
				create(local);
			else if (what < 50)
				flush(local);
			else if (what < 75)
				merge(local);
			else if (what < 80)
			{
				local->generation++;
				upload_note(upload, &local->id,
							json_pack("{s:o}", "generation", json_sprintf(UINT64_FORMAT, local->generation)));
			}
			else if (what < 83)
				purge(local);
			else if (what < 86 && starts)
			{
				upload_free(upload);
				make_upload();
				begin();
			}
			else if (what < 90)
				(void) check();
			else if (what < 92)
				usleep(pick(3000));
			/* somebody who waits makes the thread commit what needs no files; some do not wait long */
			if (what >= 75 && what < 83)
				ps_error_free(upload_wait(upload, &local->id, pick(30), NULL));
			fake_bucket_lock(bucket);
			if (pick(3) == 0)
				(void) fake_bucket_run_late(bucket);
			fake_bucket_unlock(bucket);
		}
		wait_until_uploaded();
		fake_bucket_lock(bucket);
		bucket->faults = (FakeFaults) {0};
		while (fake_bucket_run_late(bucket))
			;
		fake_bucket_unlock(bucket);
		assert_true(check());
		for (int i = 0; i < TIMELINES; i++)
			named += locals[i].exists ? locals[i].n : 0;
		/* what is not needed is deleted at once; only requests that are late, and kills, leave something behind */
		if (!faults && !starts)
			for (int64 until = clock_now_ms() + 10000; count_files() != named && clock_now_ms() < until;)
				usleep(1000);
		if (!faults && !starts)
			assert_int_equal(count_files(), named);
		assert_true(count_files() >= named);
	}
}

static void
changes(void **state)
{
	random_changes(false, false);
}

static void
changes_and_starts(void **state)
{
	random_changes(false, true);
}

static void
changes_and_faults(void **state)
{
	random_changes(true, true);
}

/* What needs no files does not wait for them. */
static void
members_first(void **state)
{
	LogChange read;
	int change;
	const json_t *record;
	PsError *err;

	begin();
	for (int i = 0; i < TIMELINES - 1; i++)
		create(&locals[i]);
	wait_until_uploaded();

	for (int i = 0; i < TIMELINES - 1; i++)
		flush_file(&locals[i], FILE_UNREADABLE);
	locals[0].generation = 7;
	upload_note(upload, &locals[0].id, json_pack("{s:s}", "generation", "7"));
	err = upload_wait(upload, &locals[0].id, 10000, NULL);
	if (err != NULL)
		fail_msg("%s", err->message);
	purge(&locals[1]);
	assert_null(upload_wait(upload, &locals[1].id, 10000, NULL));
	memset(&locals[5], 0, sizeof(Local));
	do
		create(&locals[5]);
	while (locals[5].n > 4 && (purge(&locals[5]), true));
	assert_null(upload_wait(upload, &locals[5].id, 10000, NULL));

	fake_bucket_lock(bucket);
	read_state(&read);
	record = check_record(&read, &locals[0], &change);
	assert_string_equal(json_string_value(json_object_get(record, "generation")), "7");
	assert_true(change < locals[0].change);
	assert_null(check_record(&read, &locals[1], &change));
	assert_non_null(check_record(&read, &locals[5], &change));
	log_change_free(&read);
	fake_bucket_unlock(bucket);
	for (int i = 0; i < TIMELINES - 1; i++)
		if (locals[i].exists)
			repair_file(&locals[i]);
	wait_until_uploaded();
}

/* A wait ends if the bucket does not answer, and if another store has taken over. */
static void
waits_end(void **state)
{
	StoreIdentity who = {ps_id_random(), "host", "elsewhere"};
	Claim newest;
	Claim claim;
	TenantOwner other;
	bool found;
	PsError *err;

	begin();
	create(&locals[0]);
	wait_until_uploaded();
	fake_bucket_lock(bucket);
	bucket->denied = "put";
	fake_bucket_unlock(bucket);
	upload_note(upload, &locals[0].id, json_pack("{s:s}", "generation", "7"));
	err = upload_wait(upload, &locals[0].id, 100, NULL);
	assert_non_null(err);
	assert_string_equal(err->sqlstate, PS_SQLSTATE_TRY_AGAIN);
	ps_error_free(err);

	fake_bucket_lock(bucket);
	bucket->denied = NULL;
	assert_null(claim_newest(checker, &tenant, NULL, &newest, &found));
	claim_make(&claim, &newest, &who);
	assert_null(claim_put(checker, &tenant, &claim, NULL, &other));
	fake_bucket_unlock(bucket);
	upload_note(upload, &locals[0].id, json_pack("{s:s}", "generation", "8"));
	err = upload_wait(upload, &locals[0].id, 20000, NULL);
	assert_non_null(err);
	assert_string_equal(err->sqlstate, PS_SQLSTATE_FENCED);
	ps_error_free(err);
	upload_free(upload);
	assert_non_null(failure);
	assert_string_equal(failure->sqlstate, PS_SQLSTATE_FENCED);
	make_upload();
}

/* A directory that is older than the bucket is refused, and changes nothing; one that purged a timeline is not. */
static void
older_directory(void **state)
{
	StoreIdentity who = {ps_id_random(), "host", dir};
	PsId none;
	int n = 0;
	bool older;
	PsError *err;

	begin();
	create(&locals[0]);
	create(&locals[1]);
	wait_until_uploaded();
	upload_free(upload);
	locals[0].exists = false;
	make_upload();
	assert_null(ownership_take(store, &bucket_id, &tenant, dir, &who, 0, false, NULL, &owner));
	err = upload_begin(upload, &owner, &none, &n, NULL, &older);
	assert_non_null(err);
	assert_true(older);
	assert_string_equal(err->sqlstate, PS_SQLSTATE_STATE);
	ps_error_free(err);
	locals[0].exists = true;
	(void) check();
	upload_free(upload);
	make_upload();
	purge(&locals[0]);
	upload_free(upload);
	make_upload();
	begin();
	wait_until_uploaded();
}

/* A file that is missing keeps its own branch from being uploaded, not the others. */
static void
missing_file(void **state)
{
	LogChange read;
	int change;

	begin();
	create(&locals[0]);
	create(&locals[1]);
	wait_until_uploaded();
	flush_file(&locals[0], FILE_MISSING);
	flush(&locals[1]);
	for (int64 until = clock_now_ms() + 20000;;)
	{
		fake_bucket_lock(bucket);
		read_state(&read);
		assert_non_null(check_record(&read, &locals[1], &change));
		log_change_free(&read);
		fake_bucket_unlock(bucket);
		if (change == locals[1].change || clock_now_ms() > until)
			break;
		usleep(1000);
	}
	assert_int_equal(change, locals[1].change);
	assert_false(check());
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {TEST(changes), TEST(changes_and_starts), TEST(changes_and_faults),
									   TEST(members_first), TEST(waits_end), TEST(older_directory),
									   TEST(missing_file)};

	ps_log_level = getenv("TEST_VERBOSE") ? PS_DEBUG : PS_FATAL;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
