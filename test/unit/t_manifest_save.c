/*
 * t_manifest_save.c
 *	  How a store uses the logs of its manifests: stores of format 1, torn ends,
 *	  numbers of files, the size of logs, and what upkeep remembers after a restart.
 *
 * A change of one file among many writes a few bytes.  A log does not grow without
 * limit.  Upkeep of a branch in which nothing has changed reads no layer file.
 *
 * TEST_SEED in the environment repeats a run.
 */
#include "timeline_util.h"

#include <fcntl.h>

#include "base/json_file.h"
#include "manifest_util.h"
#include "store/store_impl.h"

static uint64 rnd;

/* ---- stores ---- */

static void
wait_until_written(Timeline *tl)
{
	for (int i = 0;; i++)
	{
		TimelineInfo info;

		timeline_info(tl, &info);
		if (info.disk_consistent_lsn == info.flushed_lsn)
			return;
		CHECK(i < 30000);
		pg_usleep(1000);
	}
}

/* Adds n records to "main"; 256 of them make a layer file. */
static void
add_records(TestStore *s, History *h, int n)
{
	uint64 generation = s->tl->generation;
	WalState state;
	WalReceiver *receiver;
	XLogRecPtr start;
	XLogRecPtr flushed;

	for (int i = 0; i < n; i++)
		add_random_record(h);
	/* only the first one has no checkpoint to append */
	if (generation == 0)
		OK(timeline_new_generation(s->tl, "test", NULL, &generation, &state, &start));
	OK(wal_receiver_open(s->tl, generation, &receiver, &start));
	OK(push(receiver, h, start, h->gen.pos, &rnd, &flushed));
	wal_receiver_close(receiver);
	OK(timeline_wait_ingested(s->tl, flushed, 60000, NULL));
	wait_until_written(s->tl);
}

/* A store that has no threads of upkeep. */
static void
make_store(TestStore *s, History *h, int nrecords)
{
	history_begin(h, rnd);
	h->no_copies = true;
	store_make(s, h);
	store_close(s->store);
	s->config.checkpoint_distance = 0;
	s->config.compaction_threshold = 2;
	s->config.compaction_fanout = 2;
	s->config.compaction_backlog = 1000;
	s->config.target_file_size = 1;
	s->config.compaction_memory = 1;
	s->config.image_delta_percent = 30;
	s->config.image_delta_layers = 3;
	OK(store_try_open(s));
	add_records(s, h, nrecords);
}

static void
end_test(TestStore *s, History *h)
{
	store_close(s->store);
	remove_tree(s->dir);
	history_end(h);
}

static off_t
size_of(const TestStore *s, const char *name)
{
	char path[512];
	struct stat st;

	return stat(store_path(s, name, path), &st) == 0 ? st.st_size : -1;
}

static void
tenant_path(const TestStore *s, char path[MAXPGPATH])
{
	char id[PS_ID_TEXT];

	snprintf(path, MAXPGPATH, "%s/tenants/%s", s->dir, ps_id_format(&test_tenant, id));
}

/* ---- stores of format 1 ---- */

static const JsonFormat tenant_format = {"file", "pageserver tenant", "version", 2, 3};

/* Gives tenant.json version 2. */
static void
downgrade_tenant(const TestStore *s)
{
	char path[MAXPGPATH];
	json_t *root;
	char *text;

	tenant_path(s, path);
	strlcat(path, "/tenant.json", sizeof(path));
	OK(json_file_read(&tenant_format, path, &root));
	json_object_del(root, "version");
	OK(json_file_text(&tenant_format, 2, root, path, &text));
	CHECK(strstr(text, "\"version\": 2") != NULL);
	OK(fs_write_new_file(path, text, strlen(text), false));
	free(text);
}

static int
version_of_tenant(const TestStore *s)
{
	char path[MAXPGPATH];
	json_t *root;
	int version;

	tenant_path(s, path);
	strlcat(path, "/tenant.json", sizeof(path));
	OK(json_file_read(&tenant_format, path, &root));
	version = (int) json_integer_value(json_object_get(root, "version"));
	json_decref(root);
	return version;
}

/*
 * A store of format 1 is read.  Each branch gets its log when it first changes, open or not.
 * Before that, the version of the tenant has been raised.
 */
static void
test_format_1(void **state)
{
	History h;
	TestStore s;
	Timeline *child;
	char child_dir[512];
	char path[600];
	char id[PS_ID_TEXT];

	make_store(&s, &h, 1000);
	OK(maintain_timeline(s.tl, true));
	OK(store_branch(s.store, "child", s.tl, h.gen.pos, NULL, &child));
	strlcpy(child_dir, child->spec->dir, sizeof(child_dir));
	store_release(child);
	CHECK(version_of_tenant(&s) == 3);
	store_close(s.store);
	for (int attach = 0; attach < 2; attach++)
	{
		Tenant *tenant = NULL;
		Branch **timelines;
		int n;

		if (attach)
		{
			OK(store_begin_detach(s.store, "main", NULL, &tenant, &timelines, &n));
			store_end_detach(s.store, tenant, timelines, n);
		}
		downgrade_manifest(store_path(&s, "", path));
		downgrade_manifest(child_dir);
		downgrade_tenant(&s);
		if (attach)
		{
			/* lists of detached tenants do not change it */
			TenantInfo *list = store_list_tenants(s.store, &n);

			store_list_tenants_free(list, n);
			CHECK(version_of_tenant(&s) == 2);
			OK(store_attach_tenant(s.store, ps_id_format(&test_tenant, id), true));
			OK(store_find_branch(s.store, "main", &s.tl));
		}
		else
			OK(store_try_open(&s));
		CHECK(version_of_tenant(&s) == 3);
		CHECK(size_of(&s, "timeline.log") < 0 && size_of(&s, "timeline.json") > 0);
		compare(s.tl, &h, h.gen.pos, 5, &rnd);
		add_records(&s, &h, 100);
		CHECK(size_of(&s, "timeline.log") > 0 && size_of(&s, "timeline.log.old") > 0);
		CHECK(size_of(&s, "timeline.json") < 0 && size_of(&s, "timeline.json.old") < 0);

		snprintf(path, sizeof(path), "%s/timeline.json", child_dir);
		CHECK(access(path, F_OK) == 0);
		OK(store_rename_branch(s.store, attach ? "renamed" : "child", attach ? "again" : "renamed", NULL));
		CHECK(access(path, F_OK) != 0);
		store_reopen(&s);
		compare(s.tl, &h, h.gen.pos, 5, &rnd);
		OK(store_find_branch(s.store, attach ? "again" : "renamed", &child));
		store_release(child);
		store_release(s.tl);
		if (!attach)
			OK(store_find_branch(s.store, "main", &s.tl));
		store_release(s.tl);
		if (!attach)
			continue;
		store_close(s.store);
		OK(store_try_open(&s));
	}
	end_test(&s, &h);
}

/* ---- a torn end ---- */

static void
test_torn_end(void **state)
{
	History h;
	TestStore s;
	char path[512];
	off_t size;
	XLogRecPtr start_lsn;
	int fd;

	make_store(&s, &h, 600);
	start_lsn = s.tl->spec->start_lsn;
	store_close(s.store);
	size = size_of(&s, "timeline.log");
	fd = open(store_path(&s, "timeline.log", path), O_WRONLY | O_APPEND);
	CHECK(fd >= 0 && write(fd, "01234567 {\"drop\":[", 18) == 18);
	close(fd);
	OK(store_try_open(&s));
	compare(s.tl, &h, h.gen.pos, 5, &rnd);
	CHECK(size_of(&s, "timeline.log") == size + 18);

	/* the next change replaces the log */
	add_records(&s, &h, 1);
	CHECK(size_of(&s, "timeline.log.old") == size + 18);
	store_reopen(&s);
	compare(s.tl, &h, h.gen.pos, 5, &rnd);
	CHECK(s.tl->spec->start_lsn == start_lsn);

	/* later changes are appended to the new one */
	add_records(&s, &h, 300);
	CHECK(size_of(&s, "timeline.log.old") == size + 18);
	store_reopen(&s);
	compare(s.tl, &h, h.gen.pos, 5, &rnd);
	end_test(&s, &h);
}

/* ---- numbers of files ---- */

/* The number of a file that was dropped is not given again while the log has it. */
static void
test_numbers(void **state)
{
	History h;
	TestStore s;
	LayerSet *set;
	LayerInfo info;
	Layer *layer;

	make_store(&s, &h, 600);
	set = timeline_layers(s.tl);
	info = *layer_info(layer_map_get(set->map, 0));
	layer_set_unref(set);
	info.number = atomic_load(&s.tl->spec->space.next_number);
	layer = layer_new(&s.tl->spec->space, &info);
	OK(timeline_replace_files(s.tl, &layer, 1, NULL, 0));
	OK(timeline_replace_files(s.tl, NULL, 0, &layer, 1));
	layer_unref(layer);
	for (int i = 0; i < 3; i++)
	{
		store_reopen(&s);
		CHECK(atomic_load(&s.tl->spec->space.next_number) > info.number);
		compare(s.tl, &h, h.gen.pos, 5, &rnd);
		add_records(&s, &h, 300);
	}
	end_test(&s, &h);
}

/* ---- sizes ---- */

/* The log is written whole when its changes take more than the whole state, and 64 kB. */
static void
test_rewritten(void **state)
{
	History h;
	TestStore s;
	off_t max = 0;
	off_t before = 0;
	int rewritten = 0;

	make_store(&s, &h, 600);
	for (int i = 0; rewritten < 2; i++)
	{
		char name[64];
		off_t size;

		CHECK(i < 10000);
		snprintf(name, sizeof(name), "a-name-of-a-branch-that-is-rather-long-%d", i);
		OK(store_rename_branch(s.store, i == 0 ? "main" : s.tl->spec->name.now, name, NULL));
		size = size_of(&s, "timeline.log");
		max = Max(max, size);
		if (size < before)
		{
			rewritten++;
			CHECK(size_of(&s, "timeline.log.old") == before);
		}
		else if (i > 0)
			CHECK(size - before > 40 && size - before < 120);
		before = size;
	}
	CHECK(max > 64 * 1024 && max < 80 * 1024);
	OK(store_rename_branch(s.store, s.tl->spec->name.now, "main", NULL));
	store_reopen(&s);
	compare(s.tl, &h, h.gen.pos, 5, &rnd);
	end_test(&s, &h);
}

/* Adding and removing one file among 100,000 appends a short line. */
static void
test_one_of_many(void **state)
{
	enum
	{
		MANY = 100000
	};
	History h;
	TestStore s;
	Layer **layers = pg_malloc((MANY + 1) * sizeof(Layer *));
	Layer *real[100];
	LayerSet *set;
	Manifest m;
	char path[512];
	off_t whole;
	off_t before;
	int nreal;

	make_store(&s, &h, 300);
	set = timeline_layers(s.tl);
	nreal = layer_map_count(set->map);
	CHECK(nreal < lengthof(real));
	for (int i = 0; i < nreal; i++)
		real[i] = layer_map_get(set->map, i);
	for (int i = 0; i <= MANY; i++)
	{
		LayerInfo info = *layer_info(real[0]);

		info.number = 1000 + i;
		info.lsn_start += i;
		info.lsn_end = info.lsn_start + 1;
		layers[i] = layer_new(&s.tl->spec->space, &info);
	}
	OK(timeline_replace_files(s.tl, layers, MANY, NULL, 0));
	before = size_of(&s, "timeline.log");
	CHECK(before > 10 * 1024 * 1024);

	/* the log is written whole now, because that change was larger than the state before it */
	OK(timeline_replace_files(s.tl, &layers[MANY], 1, NULL, 0));
	whole = size_of(&s, "timeline.log");
	CHECK(size_of(&s, "timeline.log.old") == before);
	before = whole;
	for (int i = 0; i < 20; i++)
	{
		if (i % 2 == 0)
			OK(timeline_replace_files(s.tl, NULL, 0, &layers[i], 1));
		else
		{
			LayerInfo info = *layer_info(layers[i]);
			Layer *new;

			info.number = 1000 + MANY + 1 + i;
			new = layer_new(&s.tl->spec->space, &info);
			OK(timeline_replace_files(s.tl, &new, 1, &layers[i], 1));
			layer_unref(new);
		}
		CHECK(size_of(&s, "timeline.log") > before && size_of(&s, "timeline.log") - before < 4096);
		before = size_of(&s, "timeline.log");
	}
	OK(manifest_read(store_path(&s, "", path), &m, NULL));
	CHECK(m.nlayers == nreal + MANY + 1 - 10);
	manifest_free(&m);

	/* removes them again: they do not exist */
	for (int i = 0; i <= MANY; i++)
		layer_unref(layers[i]);
	layer_set_unref(set);
	set = timeline_layers(s.tl);
	for (int i = 0; i < layer_map_count(set->map); i++)
		if (layer_info(layer_map_get(set->map, i))->number >= 1000)
			layers[m.nlayers++] = layer_map_get(set->map, i);
	OK(timeline_replace_files(s.tl, NULL, 0, layers, m.nlayers));
	layer_set_unref(set);
	store_reopen(&s);
	compare(s.tl, &h, h.gen.pos, 5, &rnd);
	free(layers);
	end_test(&s, &h);
}

/* ---- what upkeep remembers ---- */

static const UpkeepMarks *
marks_of(const Timeline *tl)
{
	return &tl->spec->maintained.marks;
}

/* Returns how many layer files upkeep opens. */
static int
opened_by_upkeep(TestStore *s)
{
	int before = layer_count_open();

	OK(maintain_all(s->tl));
	return layer_count_open() - before;
}

static void
test_marks(void **state)
{
	History h;
	TestStore s;
	UpkeepMarks marks;
	Timeline *child;
	XLogRecPtr begin;
	char path[600];
	off_t size;

	make_store(&s, &h, 1500);
	begin = h.gen.records[h.gen.n / 3].end;
	OK(store_branch(s.store, "child", s.tl, begin, NULL, &child));
	store_release(child);
	OK(maintain_timeline(s.tl, true));
	CHECK(timeline_gc_cutoff(s.tl) > begin);
	CHECK(pins_without_images(s.tl->spec->pins) == InvalidXLogRecPtr);
	marks = *marks_of(s.tl);
	CHECK(marks.images_lsn == s.tl->disk_consistent_lsn && marks.gc_number > 1 && marks.gc_time > 0);
	CHECK(marks.gc_readable == pins_digest(s.tl->spec->pins));
	CHECK(ps_id_equal(&marks.gc_clock, store_clock_id(s.store->clock)));
	size = size_of(&s, "timeline.log");
	OK(maintain_all(s.tl));
	CHECK(size_of(&s, "timeline.log") == size);

	/* the marks exist after a restart, and upkeep reads nothing */
	store_reopen(&s);
	CHECK(memcmp(&s.tl->spec->maintained.marks, &marks, sizeof(marks)) == 0);
	CHECK(pins_without_images(s.tl->spec->pins) == InvalidXLogRecPtr);
	CHECK(layer_count_open() <= 1);
	CHECK(opened_by_upkeep(&s) == 0);
	CHECK(size_of(&s, "timeline.log") == size);

	/* the passing of time alone is no reason to read anything */
	s.tl->spec->maintained.marks.gc_time = -2 * INT64CONST(3600) * USECS_PER_SEC;
	CHECK(opened_by_upkeep(&s) == 0);
	CHECK(marks_of(s.tl)->gc_time < 0);

	/* a branch that is deleted leaves garbage, which is collected after that time */
	{
		Branch *gone;

		OK(store_remove_branch(s.store, "child", NULL, &gone));
		store_destroy_branch(gone);
	}
	s.tl->spec->maintained.marks.gc_time = store_clock_now(s.store->clock);
	CHECK(opened_by_upkeep(&s) == 0);
	CHECK(marks_of(s.tl)->gc_readable == marks.gc_readable);
	CHECK(!maintain_is_quiet(s.tl));
	s.tl->spec->maintained.marks.gc_time = -2 * INT64CONST(3600) * USECS_PER_SEC;
	OK(maintain_all(s.tl));
	CHECK(maintain_is_quiet(s.tl));
	CHECK(marks_of(s.tl)->gc_time > 0 && marks_of(s.tl)->gc_readable != marks.gc_readable);

	/* what is new is examined once */
	add_records(&s, &h, 600);
	CHECK(s.tl->disk_consistent_lsn > marks.images_lsn);
	store_reopen(&s);
	OK(maintain_timeline(s.tl, false));
	CHECK(marks_of(s.tl)->images_lsn == s.tl->disk_consistent_lsn);
	store_reopen(&s);
	CHECK(opened_by_upkeep(&s) == 0);

	/* if the store has another clock, nothing has an age yet */
	marks = *marks_of(s.tl);
	store_close(s.store);
	snprintf(path, sizeof(path), "%s/%s", s.dir, STORE_CLOCK_FILE);
	CHECK(unlink(path) == 0);
	OK(store_try_open(&s));
	CHECK(!ps_id_equal(&marks_of(s.tl)->gc_clock, &marks.gc_clock));
	CHECK(ps_id_equal(&marks_of(s.tl)->gc_clock, store_clock_id(s.store->clock)));
	CHECK(marks_of(s.tl)->gc_time <= store_clock_now(s.store->clock));
	CHECK(opened_by_upkeep(&s) == 0);
	compare(s.tl, &h, h.gen.pos, 5, &rnd);
	end_test(&s, &h);
}

/* Garbage that could not be removed for lack of disk space is removed later. */
static void
test_postponed_garbage(void **state)
{
	History h;
	TestStore s;

	make_store(&s, &h, 1500);
	s.config.image_delta_percent = s.config.image_delta_records = s.config.image_delta_layers = 1000000;
	OK(maintain_timeline(s.tl, false));
	CHECK(marks_of(s.tl)->gc_readable != 0);

	/* now a part of each of these files is garbage */
	add_records(&s, &h, 600);
	s.config.compaction_threshold = 1000;
	atomic_store(&s.store->room_reserved, (int64) 1 << 60);
	OK(maintain_all(s.tl));
	CHECK(marks_of(s.tl)->gc_time > 0 && marks_of(s.tl)->gc_readable == 0);
	atomic_store(&s.store->room_reserved, 0);
	store_reopen(&s);
	s.tl->spec->maintained.marks.gc_time = -2 * INT64CONST(3600) * USECS_PER_SEC;
	OK(maintain_all(s.tl));
	CHECK(marks_of(s.tl)->gc_time > 0 && marks_of(s.tl)->gc_readable == pins_digest(s.tl->spec->pins));
	compare(s.tl, &h, h.gen.pos, 5, &rnd);
	end_test(&s, &h);
}

int
main(void)
{
	static char memory[] = "/dev/shm/t_manifest_save.XXXXXX";
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_format_1),
		cmocka_unit_test(test_torn_end),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_rewritten),
		cmocka_unit_test(test_one_of_many),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_postponed_garbage),
	};
	const char *seed = getenv("TEST_SEED");

	rnd = seed != NULL ? strtoul(seed, NULL, 10) : (uint64) time(NULL) ^ (uint64) getpid() << 16;
	print_message("TEST_SEED=%llu\n", (unsigned long long) rnd);
	ps_log_level = PS_FATAL;
	store_template = memory;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
