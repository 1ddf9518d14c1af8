/*
 * t_keep.c
 *	  Flush and upkeep when something is in their way: a manifest that cannot
 *	  be written or read, work that takes long.
 *
 * Rules: what fails leaves no file behind, however often it is tried again; if
 * a file is missing none is removed that may be wanted instead; if a branch's
 * manifest is damaged nothing that it needs goes, but garbage does, and it can be
 * deleted; while it is not known where a branch begins nothing that it may need
 * goes;
 * what is flushed is merged, whatever else the threads are at, and they do not
 * all wait for the same timeline; a merge does not take the room that flushes
 * need; who writes faster than files are merged is slowed, not stopped and let
 * go, and never stopped for good.
 *
 * TEST_SEED in the environment repeats a run.
 */
#include "timeline_util.h"

#include <dirent.h>
#include <fcntl.h>

#include "sqlstate.h"
#include "store/store_impl.h"

static uint64 rnd;

/* Settings with which nothing happens by itself. */
static void
set_upkeep(Config *config)
{
	config->checkpoint_distance = 0; /* each batch of 256 records is frozen */
	config->compaction_threshold = 2;
	config->compaction_fanout = 2;
	config->compaction_backlog = 1000;
	config->target_file_size = 1;
	config->compaction_memory = 1;
	config->image_delta_percent = 30;
	config->image_delta_layers = 3;
}

/* Until all is in files. */
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

/* A store of which "main" has so many files of level 0, or a few more. */
static void
make_store(TestStore *s, History *h, int nfiles)
{
	uint64 generation;
	WalState state;
	XLogRecPtr start;
	XLogRecPtr flushed;
	WalReceiver *receiver;

	history_begin(h, rnd);
	h->no_copies = true;
	for (int i = 0; i < nfiles * 300; i++)
		add_random_record(h);
	store_make(s, h);
	store_close(s->store);
	set_upkeep(&s->config);
	OK(store_try_open(s));
	OK(timeline_new_generation(s->tl, "test", NULL, &generation, &state, &start));
	OK(wal_receiver_open(s->tl, generation, &receiver, &start));
	OK(push(receiver, h, start, h->gen.pos, &rnd, &flushed));
	wal_receiver_close(receiver);
	OK(timeline_wait_ingested(s->tl, flushed, 60000, NULL));
	wait_until_written(s->tl);
}

static void
end_test(TestStore *s, History *h)
{
	store_close(s->store);
	remove_tree(s->dir);
	history_end(h);
}

/* ---- no manifest can be written ---- */

/* Files in the directory of layers that have their name. */
static int
count_files(const TestStore *s)
{
	char path[512];
	DIR *dir = opendir(store_path(s, "layers", path));
	struct dirent *de;
	int n = 0;

	CHECK(dir != NULL);
	while ((de = readdir(dir)) != NULL)
		n += de->d_name[0] != '.' && strstr(de->d_name, ".tmp") == NULL;
	closedir(dir);
	return n;
}

static void
test_manifest_fails(void **state)
{
	History h;
	TestStore s;
	LayerSet *set;
	int nfiles;
	unsigned long long number;

	/* merges, images */
	make_store(&s, &h, 4);
	nfiles = count_files(&s);
	block_manifest(&s, true);
	for (int i = 0; i < 3; i++)
	{
		FAILS(maintain_timeline(s.tl, true), PS_SQLSTATE_IO, "manifest");
		CHECK(count_files(&s) == nfiles);
	}
	s.config.compaction_threshold = 1000;
	for (int i = 0; i < 3; i++)
	{
		FAILS(maintain_timeline(s.tl, true), PS_SQLSTATE_IO, "manifest");
		CHECK(count_files(&s) == nfiles);
	}
	block_manifest(&s, false);
	compare(s.tl, &h, h.gen.pos, 5, &rnd);
	end_test(&s, &h);

	/* flushes, which are tried again each second */
	make_store(&s, &h, 0);
	block_manifest(&s, true);
	number = atomic_load(&s.tl->spec->space.next_number);
	nfiles = count_files(&s);
	{
		uint64 generation = s.tl->generation;
		WalReceiver *receiver;
		XLogRecPtr start;
		XLogRecPtr flushed;

		for (int i = 0; i < 3000; i++)
			add_random_record(&h);
		OK(wal_receiver_open(s.tl, generation, &receiver, &start));
		OK(push(receiver, &h, start, h.gen.pos, &rnd, &flushed));
		wal_receiver_close(receiver);
	}
	for (int i = 0; atomic_load(&s.tl->spec->space.next_number) < number + 3; i++)
	{
		CHECK(i < 30000);
		pg_usleep(1000);
	}
	/* perhaps one is being written at the moment */
	CHECK(count_files(&s) <= nfiles + 1);
	block_manifest(&s, false);
	wait_until_written(s.tl);
	set = timeline_layers(s.tl);
	CHECK(count_files(&s) == layer_map_count(set->map));
	layer_set_unref(set);
	compare(s.tl, &h, h.gen.pos, 5, &rnd);
	end_test(&s, &h);
}

/* ---- a manifest that does not fit the files ---- */

static void
test_missing_file(void **state)
{
	History h;
	TestStore s;
	LayerSet *set;
	LayerInfo info;
	TimelineInfo tlinfo;
	char name[LAYER_NAME_MAX];
	char of_info[LAYER_NAME_MAX];
	char path[512];
	char away[512];
	char stray[512];
	char command[1200];
	int nfiles;

	make_store(&s, &h, 4);
	set = timeline_layers(s.tl);
	info = *layer_info(layer_map_get(set->map, 0));
	layer_set_unref(set);
	store_close(s.store);
	nfiles = count_files(&s);

	/* there is one with the highest number that the manifest does not name, and one that it names is not there */
	snprintf(name, sizeof(name), "layers/%s", layer_name_format(&info, of_info));
	store_path(&s, name, path);
	store_path(&s, "away", away);
	info.number = 1000;
	snprintf(name, sizeof(name), "layers/%s", layer_name_format(&info, of_info));
	store_path(&s, name, stray);
	snprintf(command, sizeof(command), "cp %s %s", path, stray);
	CHECK(system(command) == 0);
	CHECK(rename(path, away) == 0);
	OK(store_try_open(&s));
	CHECK(count_files(&s) == nfiles);
	CHECK(access(stray, F_OK) == 0);
	CHECK(atomic_load(&s.tl->spec->space.next_number) == 1001);
	timeline_info(s.tl, &tlinfo);
	CHECK(strstr(tlinfo.error, "1 layer files were missing") != NULL);
	/* so it stays open, for all to see */
	CHECK(!timeline_is_settled(s.tl));
	store_close(s.store);

	/* it is back: nothing else can be wanted */
	CHECK(rename(away, path) == 0);
	OK(store_try_open(&s));
	CHECK(count_files(&s) == nfiles);
	CHECK(access(stray, F_OK) != 0);
	timeline_info(s.tl, &tlinfo);
	CHECK(tlinfo.error[0] == '\0');
	compare(s.tl, &h, h.gen.pos, 5, &rnd);
	end_test(&s, &h);
}

/* ---- a branch whose manifest cannot be read ---- */

static void
flip_byte(const char *path)
{
	int fd = open(path, O_RDWR);
	char byte;

	CHECK(fd >= 0 && pread(fd, &byte, 1, 200) == 1);
	byte ^= 1;
	CHECK(pwrite(fd, &byte, 1, 200) == 1);
	close(fd);
}

static void
delete_named(TestStore *s, const char *name)
{
	Branch *gone;

	OK(store_remove_branch(s->store, name, NULL, &gone));
	store_destroy_branch(gone);
}

static bool
is_in_trash(TestStore *s, const char *name)
{
	bool there;

	pthread_mutex_lock(&s->store->lock);
	there = catalog_find_deleted(s->store, name) != NULL;
	pthread_mutex_unlock(&s->store->lock);
	return there;
}

/* Of the one timeline in the store that is not served. */
static void
find_broken(TestStore *s, TimelineInfo *info)
{
	int n;
	int broken;
	int unknown;
	Branch **list = store_list(s->store, &n);

	store_count_broken(s->store, &broken, &unknown);
	CHECK(broken == 1 && unknown <= 1);
	for (int i = 0; i < n; i++)
		if (list[i]->life == BRANCH_BROKEN)
			store_timeline_info(list[i], info);
	CHECK((unknown == 1) == (strstr(info->error, "is kept") != NULL));
	store_list_free(list, n);
}

/* The one before says where it begins, so that garbage goes, and what it was called, so that it can be deleted. */
static void
test_damaged_manifest(void **state)
{
	Branch *removed;
	History h;
	TestStore s;
	XLogRecPtr begin;
	Timeline *branch;
	TimelineInfo info;
	char manifest[600];
	char id[PS_ID_TEXT];

	make_store(&s, &h, 6);
	begin = h.gen.records[h.gen.n / 4].end;
	OK(store_branch(s.store, "branch", s.tl, begin, NULL, &branch));
	snprintf(manifest, sizeof(manifest), "%s/timeline.log", branch->spec->dir);
	store_release(branch);
	store_close(s.store);
	flip_byte(manifest);
	OK(store_try_open(&s));
	OK(maintain_timeline(s.tl, true));
	CHECK(timeline_gc_cutoff(s.tl) > begin);
	find_broken(&s, &info);
	CHECK(strcmp(info.name, "branch") == 0 && strcmp(info.parent, "main") == 0 && info.start_lsn == begin);
	FAILS(store_find_branch(s.store, "branch", &branch), PS_SQLSTATE_CORRUPTED, manifest);
	FAILS(store_remove_branch(s.store, "main", NULL, &removed), PS_SQLSTATE_STATE, "\"branch\"");
	store_close(s.store);

	/* what it needs is still there */
	flip_byte(manifest);
	OK(store_try_open(&s));
	OK(store_find_branch(s.store, "branch", &branch));
	compare_at(branch, &h, begin);
	store_release(branch);

	/* its name was another, which has been given away */
	OK(store_rename_branch(s.store, "branch", "renamed", NULL));
	OK(store_branch(s.store, "branch", s.tl, h.gen.pos, NULL, NULL));
	store_close(s.store);
	flip_byte(manifest);
	OK(store_try_open(&s));
	OK(store_find_branch(s.store, "branch", &branch));
	CHECK(branch->spec->start_lsn == h.gen.pos);
	store_release(branch);
	find_broken(&s, &info);
	CHECK(info.name[0] == '\0' && strstr(info.error, ps_id_format(&info.timeline, id)) != NULL);
	FAILS(store_remove_branch(s.store, "", NULL, &removed), PS_SQLSTATE_NOT_FOUND, "does not exist");
	delete_named(&s, id);
	delete_named(&s, "branch");
	store_close(s.store);

	/* if nobody else has it, it is its own */
	OK(store_try_open(&s));
	OK(store_branch(s.store, "first", s.tl, h.gen.pos, NULL, &branch));
	snprintf(manifest, sizeof(manifest), "%s/timeline.log", branch->spec->dir);
	store_release(branch);
	OK(store_rename_branch(s.store, "first", "second", NULL));
	store_close(s.store);
	flip_byte(manifest);
	OK(store_try_open(&s));
	delete_named(&s, "first");
	CHECK(access(manifest, F_OK) != 0);
	end_test(&s, &h);
}

/* The branches are those that their manifests tell of, though none is served. */
static void
test_damaged_tenant(void **state)
{
	History h;
	TestStore s;
	TimelineInfo info;
	Branch *gone;
	char path[600];
	char id[PS_ID_TEXT];
	int fd;

	make_store(&s, &h, 2);
	OK(store_branch(s.store, "branch", s.tl, h.gen.pos, NULL, NULL));
	store_close(s.store);
	snprintf(path, sizeof(path), "%s/tenants/%s/tenant.json", s.dir, ps_id_format(&test_tenant, id));
	fd = open(path, O_WRONLY);
	CHECK(fd >= 0 && pwrite(fd, "X", 1, 0) == 1);
	OK(store_open(&s.config, &s.store));
	OK(store_branch_info(s.store, "branch", &info));
	CHECK(strcmp(info.parent, "main") == 0 && strstr(info.error, "tenant.json") != NULL);
	FAILS(store_check_new_name(s.store, "main"), PS_SQLSTATE_EXISTS, "exists already");
	FAILS(store_remove_branch(s.store, "main", NULL, &gone), PS_SQLSTATE_STATE, "\"branch\"");
	store_close(s.store);
	CHECK(pwrite(fd, "{", 1, 0) == 1);
	close(fd);
	OK(store_try_open(&s));
	compare(s.tl, &h, h.gen.pos, 5, &rnd);
	end_test(&s, &h);
}

/* Nor the one before. */
static void
test_unreadable_manifest(void **state)
{
	Branch *removed;
	History h;
	TestStore s;
	XLogRecPtr begin;
	Timeline *branch;
	TimelineInfo info;
	char manifest[600];
	char away[640];
	char command[1400];
	char id[PS_ID_TEXT];

	make_store(&s, &h, 6);
	begin = h.gen.records[h.gen.n / 4].end;
	OK(store_branch(s.store, "branch", s.tl, begin, NULL, &branch));
	OK(store_branch(s.store, "leaf", s.tl, h.gen.pos, NULL, NULL));
	snprintf(manifest, sizeof(manifest), "%s/timeline.log", branch->spec->dir);
	snprintf(away, sizeof(away), "%s.away", manifest);
	store_release(branch);
	store_close(s.store);

	/* it is lost: whatever is done to the branch in which it begins, it needs what it needs */
	CHECK(rename(manifest, away) == 0);
	snprintf(command, sizeof(command), "mv %s.old %s.old.away", manifest, manifest);
	CHECK(system(command) == 0);
	OK(store_try_open(&s));
	OK(maintain_timeline(s.tl, true));
	compare(s.tl, &h, h.gen.pos, 5, &rnd);
	find_broken(&s, &info);
	CHECK(info.name[0] == '\0');
	FAILS(store_remove_branch(s.store, "leaf", NULL, &removed), PS_SQLSTATE_STATE, ps_id_format(&info.timeline, id));
	store_close(s.store);

	/* and found again */
	CHECK(rename(away, manifest) == 0);
	OK(store_try_open(&s));
	OK(store_find_branch(s.store, "branch", &branch));
	compare_at(branch, &h, begin);
	OK(maintain_timeline(s.tl, true));
	CHECK(timeline_gc_cutoff(s.tl) > begin);
	compare_at(branch, &h, begin);
	/* another cannot begin there: what it takes besides pages has gone */
	FAILS(store_branch(s.store, "again", s.tl, begin, NULL, NULL), PS_SQLSTATE_INVALID, "can be read from");
	store_release(branch);
	store_close(s.store);

	/* while it is not there, nothing in which it may begin goes from the trash, however old it is */
	s.config.trash_interval = 86400;
	OK(store_try_open(&s));
	OK(store_trash_branch(s.store, "leaf", "test", NULL, &removed));
	store_finish_trash(removed);
	store_close(s.store);
	unlink(manifest);
	s.config.trash_interval = 0;
	OK(store_try_open(&s));
	CHECK(atomic_load(&s.tl->env->keep_all) == 1);
	trash_empty(s.store);
	CHECK(is_in_trash(&s, "leaf"));
	FAILS(store_purge_branch(s.store, "leaf", NULL, &removed), PS_SQLSTATE_STATE, id);
	CHECK(is_in_trash(&s, "leaf"));

	/* or it is deleted: then nothing is kept for it */
	delete_named(&s, id);
	CHECK(atomic_load(&s.tl->env->keep_all) == 0);
	trash_empty(s.store);
	/* another thread may be at it */
	while (is_in_trash(&s, "leaf"))
		pg_usleep(1000);
	end_test(&s, &h);
}

/* ---- the oldest LSN that there is ---- */

static void
test_branch_at_cutoff(void **state)
{
	Branch *removed;
	History h;
	TestStore s;
	XLogRecPtr cutoff;
	Timeline *branch;
	TimelineInfo info;

	make_store(&s, &h, 1);
	/* a distance from the newest record, which mostly is within another */
	s.config.gc_horizon = 1;
	for (uint64 generation = s.tl->generation; h.gen.pos - h.gen.start < 3 * SEGMENT_SIZE;)
	{
		XLogRecPtr start;
		XLogRecPtr flushed;
		WalReceiver *receiver;

		for (int i = 0; i < 300; i++)
			add_random_record(&h);
		OK(wal_receiver_open(s.tl, generation, &receiver, &start));
		OK(push(receiver, &h, start, h.gen.pos, &rnd, &flushed));
		wal_receiver_close(receiver);
		wait_until_written(s.tl);
		OK(maintain_timeline(s.tl, true));
		cutoff = timeline_gc_cutoff(s.tl);
		if (cutoff < h.gen.records[h.first + 1].end)
			continue;
		OK(store_branch(s.store, "branch", s.tl, cutoff, NULL, &branch));
		timeline_info(branch, &info);
		CHECK(info.start_lsn == h.gen.records[h.first + history_find(&h, cutoff)].end);
		compare_at(branch, &h, info.start_lsn);
		FAILS(store_branch(s.store, "other", s.tl, info.start_lsn - 8, NULL, NULL), PS_SQLSTATE_INVALID,
			  "can be read from");
		/* garbage goes, but not what the branch needs */
		OK(maintain_timeline(s.tl, true));
		compare_at(branch, &h, info.start_lsn);
		store_release(branch);
		OK(store_remove_branch(s.store, "branch", NULL, &removed));
		store_destroy_branch(removed);
	}
	end_test(&s, &h);
}

/* ---- no room for a merge ---- */

static int
count_level(Timeline *tl, int level)
{
	LayerSet *set = timeline_layers(tl);
	int n = 0;

	for (int i = 0; i < layer_map_count(set->map); i++)
		n += layer_info(layer_map_get(set->map, i))->type == LAYER_DELTA &&
			 layer_info(layer_map_get(set->map, i))->level == level;
	layer_set_unref(set);
	return n;
}

static void
test_no_room(void **state)
{
	History h;
	TestStore s;
	XLogRecPtr start;
	XLogRecPtr flushed;
	WalReceiver *receiver;

	make_store(&s, &h, 4);
	s.config.gc_horizon = 1000; /* nothing is garbage */
	OK(maintain_timeline(s.tl, false));
	CHECK(count_level(s.tl, 0) == 0 && count_level(s.tl, 1) > 0);
	for (int i = 0; i < 1200; i++)
		add_random_record(&h);
	OK(wal_receiver_open(s.tl, s.tl->generation, &receiver, &start));
	OK(push(receiver, &h, start, h.gen.pos, &rnd, &flushed));
	wal_receiver_close(receiver);
	OK(timeline_wait_ingested(s.tl, flushed, 60000, NULL));
	wait_until_written(s.tl);

	/* a second run of level 1 is made, and both wait: for more than any disk has */
	s.config.compaction_fanout = 1000;
	s.config.image_delta_percent = s.config.image_delta_records = s.config.image_delta_layers = 10000;
	OK(maintain_timeline(s.tl, false));
	set_upkeep(&s.config);
	s.config.min_free_space = INT_MAX;
	for (int i = 0; i < 2; i++)
	{
		int runs = count_level(s.tl, 1);

		/* image files need room, too */
		FAILS(maintain_timeline(s.tl, true), PS_SQLSTATE_DISK_FULL, "image files cannot be written until");
		CHECK(count_level(s.tl, 0) == 0 && count_level(s.tl, 1) == runs && count_level(s.tl, 2) == 0);
	}
	s.config.min_free_space = 0;
	OK(maintain_timeline(s.tl, false));
	CHECK(count_level(s.tl, 1) == 0 && count_level(s.tl, 2) > 0);
	compare(s.tl, &h, h.gen.pos, 10, &rnd);
	end_test(&s, &h);
}

static bool
is_late(void *arg)
{
	return clock_now_ms() > *(int64 *) arg;
}

static PsError *
check_late(void *arg)
{
	return is_late(arg) ? cancel_error(CANCEL_BY_CLIENT, NULL) : NULL;
}

/* There is room for what flushes write, and not for a merge of the files of level 0. */
static void
test_no_room_level0(void **state)
{
	History h;
	TestStore s;
	XLogRecPtr start;
	XLogRecPtr flushed;
	WalReceiver *receiver;
	TimelineInfo info;
	int nfiles;
	int64 begin;
	int64 deadline;
	CancelCheck cancel = {check_late, &deadline};
	UpkeepTurn turn;

	make_store(&s, &h, 6);
	s.config.gc_horizon = 1000; /* nothing is garbage */
	nfiles = count_level(s.tl, 0);
	atomic_store(&s.store->room_reserved, (int64) 1 << 60);
	FAILS(maintain_timeline(s.tl, false), PS_SQLSTATE_DISK_FULL, "files of level 0 wait to be merged until");
	CHECK(count_level(s.tl, 0) == nfiles);
	/* what gives room goes on */
	CHECK(s.tl->spec->maintained.marks.gc_time > 0);
	store_close(s.store);

	/* it is said, writers are slowed, and stopped neither by that nor by a try for each flush */
	s.config.compaction_workers = 1;
	s.config.compaction_backlog = 4;
	OK(store_open(&s.config, &s.store));
	atomic_store(&s.store->room_reserved, (int64) 1 << 60);
	OK(store_find_branch(s.store, "main", &s.tl));
	begin = clock_now_ms();
	deadline = begin + 60000;
	do
	{
		CHECK(!is_late(&deadline));
		pg_usleep(1000);
		timeline_info(s.tl, &info);
	} while (strstr(info.error, "files of level 0 wait to be merged until") == NULL);
	for (int i = 0; i < 12000; i++)
		add_random_record(&h);
	OK(wal_receiver_open(s.tl, s.tl->generation, &receiver, &start));
	do
	{
		size_t n = Min(65536, h.gen.pos - start);

		CHECK(n > 0);
		OK(wal_receiver_write(receiver, start, h.gen.bytes.data + (start - h.gen.start), n, &cancel));
		OK(wal_receiver_sync(receiver, &flushed));
		start += n;
		timeline_info(s.tl, &info);
	} while (strstr(info.waits_for, "files of level 0 to be merged, and is slowed") == NULL);
	wal_receiver_close(receiver);
	OK(timeline_wait_ingested(s.tl, flushed, 60000, NULL));
	wait_until_written(s.tl);
	CHECK(count_level(s.tl, 0) > nfiles);
	turn = branch_of(s.tl)->upkeep[UPKEEP_LEVEL0];
	CHECK(turn.failures >= 1 && turn.failures <= 1 + (clock_now_ms() - begin) / 10000);

	/* with room for it they are merged */
	atomic_store(&s.store->room_reserved, 0);
	OK(maintain_timeline(s.tl, false));
	CHECK(count_level(s.tl, 0) < 2);
	CHECK(atomic_load(&s.store->room_reserved) == 0);
	compare(s.tl, &h, flushed, 10, &rnd);
	end_test(&s, &h);
}

/* ---- who waits for whom ---- */

static void
push_more(Timeline *tl, History *h, uint64 *generation)
{
	WalReceiver *receiver;
	XLogRecPtr start;
	XLogRecPtr flushed;
	XLogRecPtr checkpoint;
	WalState state;

	if (*generation == 0)
		OK(timeline_new_generation(tl, "test", NULL, generation, &state, &checkpoint));
	OK(wal_receiver_open(tl, *generation, &receiver, &start));
	OK(push(receiver, h, start, h->gen.pos, &rnd, &flushed));
	wal_receiver_close(receiver);
	OK(timeline_wait_ingested(tl, flushed, 60000, NULL));
	wait_until_written(tl);
}

static void
wait_until_merged(Timeline *tl)
{
	for (int i = 0;; i++)
	{
		int n;

		pthread_mutex_lock(&tl->lock);
		n = tl->level0;
		pthread_mutex_unlock(&tl->lock);
		if (n < timeline_config(tl)->compaction_threshold)
			return;
		CHECK(i < 30000);
		pg_usleep(1000);
	}
}

/* Makes a store with the branches "main" and "other", each of a tenant of its own, and closes it. */
static void
make_two_branches(TestStore *s, History *h, History *of_other)
{
	static const PsId other_tenant = {{0xcc, 1}};
	static const PsId other_timeline = {{0xdd, 2}};
	Timeline *other;

	history_begin(h, rnd);
	history_begin(of_other, rnd + 1);
	h->no_copies = of_other->no_copies = true;
	store_make(s, h);
	store_add_seed(s, of_other, &other_tenant, &other_timeline, "other", &other);
	store_close(s->store);
}

/* A long merge, images, the look for garbage: all with upkeep_lock held, and as long as the test wants. */
static void
test_long_upkeep(void **state)
{
	History h;
	History of_other;
	TestStore s;
	Timeline *other;
	uint64 generation = 0;
	uint64 generation_of_other = 0;
	int looks = 0;

	make_two_branches(&s, &h, &of_other);
	set_upkeep(&s.config);
	s.config.compaction_workers = 2;
	OK(store_try_open(&s));
	OK(store_find_branch(s.store, "other", &other));

	pthread_mutex_lock(&s.tl->upkeep_lock);
	for (int i = 0; i < 3; i++)
	{
		/* files of level 0 are merged, those of this branch */
		for (int k = 0; k < 1000; k++)
			add_random_record(&h);
		push_more(s.tl, &h, &generation);
		wait_until_merged(s.tl);
		/* and those of others, which have their turn with the rest, too */
		for (int k = 0; k < 1000; k++)
			add_random_record(&of_other);
		push_more(other, &of_other, &generation_of_other);
		wait_until_merged(other);
		for (bool done = false; !done;)
		{
			CHECK(looks++ < 30000);
			pg_usleep(1000);
			pthread_mutex_lock(&other->upkeep_lock);
			done = other->spec->maintained.marks.gc_time > 0;
			pthread_mutex_unlock(&other->upkeep_lock);
		}
	}
	pthread_mutex_unlock(&s.tl->upkeep_lock);
	compare(s.tl, &h, h.gen.pos, 10, &rnd);
	compare(other, &of_other, of_other.gen.pos, 10, &rnd);
	history_end(&of_other);
	end_test(&s, &h);
}

/*
 * A store that was killed with many files of level 0: upkeep merges them, also if it
 * is upkeep that opens the branch.
 */
static void
test_level0_of_closed_branch(void **state)
{
	History h;
	History of_other;
	TestStore s;
	Timeline *other;
	Branch *branch = NULL;
	Branch **list;
	uint64 generation = 0;
	uint64 generation_of_other = 0;
	int n;

	make_two_branches(&s, &h, &of_other);
	set_upkeep(&s.config);
	s.config.compaction_workers = 0;
	OK(store_try_open(&s));
	for (int i = 0; i < 4; i++)
	{
		for (int k = 0; k < 1000; k++)
			add_random_record(&h);
		push_more(s.tl, &h, &generation);
	}
	CHECK(s.tl->level0 >= s.config.compaction_threshold);
	store_close(s.store);

	s.config.compaction_workers = 1;
	OK(store_open(&s.config, &s.store));
	list = store_list(s.store, &n);
	for (int i = 0; i < n; i++)
		if (strcmp(branch_name(list[i]), "main") == 0)
			branch = list[i];
	CHECK(branch != NULL && branch->life == BRANCH_CLOSED);
	/* its hour has come; the threads see that when a file of another branch wakes them */
	__atomic_store_n(&branch->upkeep[UPKEEP_ALL].due, 0, __ATOMIC_RELAXED);
	OK(store_find_branch(s.store, "other", &other));
	for (int k = 0; k < 1000; k++)
		add_random_record(&of_other);
	push_more(other, &of_other, &generation_of_other);
	for (int i = 0; branch->life != BRANCH_OPEN; i++)
	{
		CHECK(i < 30000);
		pg_usleep(1000);
	}
	OK(store_find_branch(s.store, "main", &s.tl));
	store_list_free(list, n);
	wait_until_merged(s.tl);
	compare(s.tl, &h, h.gen.pos, 10, &rnd);
	history_end(&of_other);
	end_test(&s, &h);
}

/* ---- back-pressure ---- */

/* However little comes at a time. */
static void
test_slow_writer(void **state)
{
	static const size_t sizes[] = {300, 8192, 131072};
	History h;
	TestStore s;
	XLogRecPtr start;
	WalReceiver *receiver;

	make_store(&s, &h, 0);
	store_close(s.store);
	s.config.checkpoint_distance = 256; /* no flush, which would count the files anew */
	s.config.compaction_workers = 1;
	s.config.compaction_backlog = 40;
	OK(store_try_open(&s));
	while (h.gen.pos - h.gen.start < 2 * SEGMENT_SIZE)
		add_random_record(&h);
	OK(wal_receiver_open(s.tl, s.tl->generation, &receiver, &start));
	for (int i = 0; i < lengthof(sizes); i++)
	{
		XLogRecPtr end = start + SEGMENT_SIZE / 4;
		int64 begin = clock_now_ms();
		int64 took;
		char why[256];

		/* half of what there may be beyond the first half: half a second for a megabyte */
		pthread_mutex_lock(&s.tl->lock);
		s.tl->level0 = 30;
		pthread_mutex_unlock(&s.tl->lock);
		for (size_t n; start < end; start += n)
		{
			n = Min(sizes[i], end - start);
			OK(wal_receiver_write(receiver, start, h.gen.bytes.data + (start - h.gen.start), n, NULL));
		}
		took = clock_now_ms() - begin;
		CHECK(took >= 120 && took < 5000);
		/* and why that is can be told */
		CHECK(wal_receiver_waits_for(receiver, why, sizeof(why)));
		assert_string_equal(why, "30 layer files wait to be merged (compaction_backlog is 40)");
		pthread_mutex_lock(&s.tl->lock);
		s.tl->level0 = 20;
		pthread_mutex_unlock(&s.tl->lock);
		CHECK(!wal_receiver_waits_for(receiver, why, sizeof(why)));
	}
	wal_receiver_close(receiver);
	end_test(&s, &h);
}

static PsError *
note_record(void *arg, const PsKey *key, const ValueRef *ref)
{
	if (ref->kind == VALUE_RECORD)
		*(uint64 *) arg = ref->at.offset;
	return NULL;
}

/* One file is damaged: the others cannot be merged with it, ever. */
static void
test_damaged_file(void **state)
{
	History h;
	TestStore s;
	XLogRecPtr start;
	XLogRecPtr flushed;
	WalReceiver *receiver;
	TimelineInfo info;
	LayerSet *set;
	char path[512];
	char name[LAYER_NAME_MAX];
	int64 deadline;
	CancelCheck cancel = {check_late, &deadline};
	int fd;
	char bytes[16] = {0};
	uint64 offset = 0;
	PsKey lo = {.kind = PS_KEY_RELBLOCK};
	PsKey hi = {.kind = PS_KEY_RELBLOCK, .spc = PG_UINT32_MAX};

	make_store(&s, &h, 4);
	set = timeline_layers(s.tl);
	for (int i = 0; i < layer_map_count(set->map); i++)
	{
		Layer *layer = layer_map_get(set->map, i);

		/* a record, which ingest does not look at again */
		OK(layer_scan(layer, &lo, &hi, PG_UINT64_MAX, note_record, &offset));
		if (layer_info(layer)->type == LAYER_DELTA)
			snprintf(path, sizeof(path), "%s/%s", s.tl->spec->space.dir, layer_name(layer, name));
		if (offset != 0)
			break;
	}
	layer_set_unref(set);
	store_close(s.store);
	fd = open(path, O_RDWR);
	CHECK(fd >= 0 && offset != 0 && pwrite(fd, bytes, sizeof(bytes), offset + 4) == sizeof(bytes));
	close(fd);

	/* it is said, and writers go on beyond what may wait to be merged */
	s.config.compaction_workers = 1;
	s.config.compaction_backlog = 4;
	s.config.gc_horizon = 1000; /* all that is in the file is needed */
	OK(store_try_open(&s));
	for (int i = 0; i < 1500; i++)
		add_random_record(&h);
	OK(wal_receiver_open(s.tl, s.tl->generation, &receiver, &start));
	deadline = clock_now_ms() + 20000;
	for (size_t n; start < h.gen.pos; start += n)
	{
		n = Min(8192, h.gen.pos - start);
		OK(wal_receiver_write(receiver, start, h.gen.bytes.data + (start - h.gen.start), n, &cancel));
		OK(wal_receiver_sync(receiver, &flushed));
	}
	wal_receiver_close(receiver);
	OK(timeline_wait_ingested(s.tl, flushed, 60000, NULL));
	do
	{
		CHECK(!is_late(&deadline));
		pg_usleep(1000);
		timeline_info(s.tl, &info);
	} while (strstr(info.error, strrchr(path, '/') + 1) == NULL);
	end_test(&s, &h);
}

/* An image of the last block that a relation may have: the loop over its part ends there. */
static void
test_last_block(void **state)
{
	static const BlockNumber last = MaxBlockNumber;
	History h;
	TestStore s;
	XLogRecPtr start;
	XLogRecPtr flushed;
	WalReceiver *receiver;
	LayerSet *set;
	int images = 0;
	char page[BLCKSZ];
	char expected[BLCKSZ];

	make_store(&s, &h, 1);
	s.config.target_file_size = 256; /* parts of 89,000 blocks */
	OK(wal_receiver_open(s.tl, s.tl->generation, &receiver, &start));
	gen_images(&h.gen, 0, 50, MAIN_FORKNUM, &last, 1, 77);
	OK(push(receiver, &h, start, h.gen.pos, &rnd, &flushed));
	wal_receiver_close(receiver);
	OK(timeline_wait_ingested(s.tl, flushed, 60000, NULL));
	wait_until_written(s.tl);

	alarm(120);
	OK(maintain_timeline(s.tl, true));
	alarm(0);
	set = timeline_layers(s.tl);
	for (int i = 0; i < layer_map_count(set->map); i++)
	{
		const LayerInfo *info = layer_info(layer_map_get(set->map, i));

		images += info->type == LAYER_IMAGE && info->key_min.kind == PS_KEY_RELBLOCK && info->key_min.blk == last;
	}
	layer_set_unref(set);
	assert_int_equal(images, 1);
	OK(timeline_read_pages(s.tl, model_rel(0, 50), MAIN_FORKNUM, &last, 1, flushed, page));
	make_page(77, flushed, expected);
	assert_memory_equal(page, expected, BLCKSZ);
	end_test(&s, &h);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_manifest_fails),
		cmocka_unit_test(test_missing_file),
		cmocka_unit_test(test_damaged_manifest),
		cmocka_unit_test(test_damaged_tenant),
		cmocka_unit_test(test_unreadable_manifest),
		cmocka_unit_test(test_branch_at_cutoff),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_no_room_level0),
		cmocka_unit_test(test_level0_of_closed_branch),
		cmocka_unit_test(test_long_upkeep),
		cmocka_unit_test(test_slow_writer),
		cmocka_unit_test(test_damaged_file),
		cmocka_unit_test(test_last_block),
	};
	const char *seed = getenv("TEST_SEED");

	rnd = seed != NULL ? strtoul(seed, NULL, 10) : (uint64) time(NULL) ^ (uint64) getpid() << 16;
	print_message("TEST_SEED=%llu\n", (unsigned long long) rnd);
	ps_log_level = PS_FATAL;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
