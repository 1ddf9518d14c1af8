/*
 * t_doubt.c
 *	  Syncs that fail, and what may or may not be on disk then.
 *
 * Rules: WAL that could not be synced is acknowledged only after it was written
 * again; nobody goes on with a branch whose directory may not be there after a
 * power failure; what could not be made is there after the next start whole, or
 * not at all; a branch that was deleted, or undeleted, loses nothing, wherever it
 * is found then, and neither does a tenant; an error says that it may be done; a
 * tenant that was copied is durable before it is served.
 *
 * TEST_SEED in the environment repeats a run.
 */
#include "scenarios.h"

#include <dirent.h>

#include "common/logging.h"
#include "sqlstate.h"

/* ---- WAL that could not be synced ---- */

/*
 * No WAL is taken until the store starts again, though nobody uses the branch
 * meanwhile and all that was acknowledged is in files: closed and opened again
 * it would forget.  All see why.  The start takes what the sync was for, which
 * then outlives a power failure.
 */
static void
test_failed_sync_is_final(void **state)
{
	World w;
	ModelBranch *b;
	TimelineInfo info;
	XLogRecPtr received;

	build(&w, &scenarios[1], seed);
	/* nothing begins in it, so that it could be closed */
	b = named(&w, "leaf");
	OK(wait_flushed(&w, b));
	fault_arm_error(1, 1, EIO);
	fault_count_only(is_sync_of_wal);
	FAILS(write_records(&w, b, 20, false), PS_SQLSTATE_IO, "could not fdatasync WAL file");
	fault_disarm();
	received = b->gen.pos;
	wal_receiver_close(b->receiver);
	b->receiver = NULL;
	for (int i = 0; i < 2; i++)
	{
		FAILS(connect_receiver(&w, b), PS_SQLSTATE_IO, "could not fdatasync WAL file");
		timeline_info(b->tl, &info);
		CHECK(strstr(info.error, "could not fdatasync WAL file") != NULL);
		CHECK(info.disk_consistent_lsn == info.flushed_lsn && info.flushed_lsn == b->acked);
		leave_branch(&w, b);
		OK(store_branch_info(w.s.store, "leaf", &info));
		CHECK(info.open);
		OK(take(&w, b));
	}

	fault_crash_now();
	restart(&w, LOSE_NOTHING);
	/* the cut that failed, if it came so far, has made zeros of what was not acknowledged */
	CHECK(b->acked <= received);
	OK(write_records(&w, b, 5, false));
	restart(&w, LOSE_ALL);
	world_end(&w);
}

/* ---- what can neither be made durable nor be taken back ---- */

/* The error says so: what holds now, what may hold after a restart, and what to do. */
static void
check_in_doubt(PsError *err, const char *now, const char *then)
{
	CHECK(err != NULL);
	if (!ps_error_is(err, PS_SQLSTATE_UNKNOWN) || err->detail == NULL || strstr(err->detail, now) == NULL ||
		strstr(err->detail, then) == NULL || err->hint == NULL || strstr(err->hint, "restart the store") == NULL)
	{
		fprintf(stderr, "%s %s (%s) (%s), expected one in doubt: %s, %s\n", err->sqlstate, err->message,
				err->detail ? err->detail : "", err->hint ? err->hint : "", now, then);
		abort();
	}
	ps_error_free(err);
}

/* Where branches are, and where they are made and deleted. */
static bool
is_sync_of_place(const char *name, const char *path)
{
	const char *last = strrchr(path, '/');

	return strcmp(name, "fsync") == 0 && (strcmp(last, "/timelines") == 0 || strcmp(last, "/tmp") == 0);
}

static bool
is_sync_or_rename_of_place(const char *name, const char *path)
{
	char parent[MAXPGPATH];

	strlcpy(parent, path, sizeof(parent));
	*strrchr(parent, '/') = '\0';
	return is_sync_of_place(name, path) || (strcmp(name, "rename") == 0 && is_sync_of_place("fsync", parent));
}

/*
 * The directory may be in its place or not after a power failure: nobody can go
 * on with the branch, and if it is there again it is whole.
 */
static void
test_delete_in_doubt(void **state)
{
	static const struct
	{
		bool (*only)(const char *name, const char *path);
		long first;
		long times;
		bool deleted;
	} tries[] = {
		{is_sync_of_place, 1, 1, false},
		{is_sync_of_place, 1, 2, true},           /* moved back, but that is not durable either */
		{is_sync_or_rename_of_place, 2, 2, true}, /* not moved back */
	};

	for (int i = 0; i < lengthof(tries); i++)
	{
		World w;
		Branch *gone;
		Timeline *tl;
		PsError *err;

		build(&w, &scenarios[0], seed);
		let_go(named(&w, "leaf"));
		fault_arm_error(tries[i].first, tries[i].times, EIO);
		fault_count_only(tries[i].only);
		err = store_remove_branch(w.s.store, "leaf", NULL, &gone);
		fault_disarm();
		if (tries[i].deleted)
		{
			check_in_doubt(err, "is deleted now", "may be there again after a restart");
			CHECK(gone != NULL);
			store_destroy_branch(gone);
			FAILS(store_find_branch(w.s.store, "leaf", &tl), PS_SQLSTATE_NOT_FOUND, "does not exist");
		}
		else
		{
			FAILS(err, PS_SQLSTATE_IO, "could not sync");
			CHECK(gone == NULL);
			OK(store_find_branch(w.s.store, "leaf", &tl));
			store_release(tl);
		}
		restart(&w, LOSE_ALL);
		CHECK(model_named(&w, "leaf") != NULL);
		world_end(&w);
	}
}

/* A branch that could neither be made nor removed is there after the next start or not; if it is, it is whole. */
static void
test_create_in_doubt(void **state)
{
	for (int i = 0; i < 4; i++)
	{
		World w;
		ModelBranch *main_branch;
		Pending pending;
		int n;

		build(&w, &scenarios[0], seed);
		/* moved back, but that is not durable either; or not moved back: the sync and the second rename fail */
		fault_arm_error(i % 2 == 0 ? 1 : 2, 2, EIO);
		fault_count_only(i % 2 == 0 ? is_sync_of_place : is_sync_or_rename_of_place);
		main_branch = named(&w, "main");
		n = w.n;
		check_in_doubt(create_branch(&w, main_branch, main_branch->records[main_branch->nrecords / 2].end),
					   "was not created", "may exist after a restart");
		fault_disarm();
		pending = w.pending;
		/* what it needs stays */
		for (int k = 0; k < 3; k++)
		{
			OK(write_records(&w, main_branch, 20, false));
			OK(wait_ingested(main_branch));
			OK(keep_branch(&w, main_branch, true));
		}
		w.pending = pending;
		restart(&w, i < 2 ? LOSE_NOTHING : LOSE_ALL);
		/* when it could not be moved back, it must be */
		CHECK(i != 1 || w.n == n + 1);
		go_on(&w, &scenarios[0]);
		world_end(&w);
	}
}

/* ---- the mark of the trash ---- */

/* Of the directory that has it, and the rename that puts it there. */
static bool
is_sync_of_mark(const char *name, const char *path)
{
	const char *p = strstr(path, "/timelines/");

	return strcmp(name, "fsync") == 0 && p != NULL && strchr(p + strlen("/timelines/"), '/') == NULL;
}

static bool
is_sync_or_rename_of_mark(const char *name, const char *path)
{
	return is_sync_of_mark(name, path) || (strcmp(name, "rename") == 0 && strstr(path, "/deleted") != NULL);
}

static bool
is_in_trash(World *w, const char *name)
{
	bool there;

	pthread_mutex_lock(&w->s.store->lock);
	there = catalog_find_deleted(w->s.store, name) != NULL;
	pthread_mutex_unlock(&w->s.store->lock);
	return there;
}

/*
 * A deletion whose mark may or may not be on disk holds until the next start, and its error says so.  Nothing of the
 * branch is lost, whichever of the two the next start finds.
 */
static void
test_trash_in_doubt(void **state)
{
	Branch *removed;
	for (int times = 1; times <= 2; times++)
	{
		World w;
		PsError *err;

		build(&w, &scenarios[0], seed);
		let_go(named(&w, "leaf"));
		fault_arm_error(1, times, EIO);
		fault_count_only(is_sync_of_mark);
		w.pending = (Pending) {.kind = PENDING_TRASH, .branch = named(&w, "leaf")};
		err = store_trash_branch(w.s.store, "leaf", "test", NULL, &removed);
		fault_disarm();
		if (times == 2)
		{
			check_in_doubt(err, "is deleted now", "may be there again after a restart");
			CHECK(removed != NULL);
			store_finish_trash(removed);
		}
		else
		{
			FAILS(err, PS_SQLSTATE_IO, "could not sync");
			CHECK(removed == NULL);
		}
		CHECK(is_in_trash(&w, "leaf") == (times == 2));
		restart(&w, rnd32(&w, 2) == 0 ? LOSE_ALL : LOSE_SOME);
		CHECK(model_named(&w, "leaf") != NULL);
		go_on(&w, &scenarios[0]);
		world_end(&w);
	}
}

/*
 * A branch that could not be taken out of the trash durably stays there.  If it
 * is out after a kill, it is so for good: what is acknowledged then outlives a
 * power failure, and is not in the trash.
 */
static void
test_undelete_in_doubt(void **state)
{
	Branch *removed;
	char name[TIMELINE_NAME_MAX + 1];

	for (int i = 0; i < 3; i++)
	{
		World w;
		ModelBranch *b;
		Timeline *tl;

		build(&w, &scenarios[0], seed);
		b = named(&w, "leaf");
		/* of a generation, so that there is no other */
		OK(write_records(&w, b, 1, false));
		let_go(b);
		w.pending = (Pending) {.kind = PENDING_TRASH, .branch = b};
		OK(store_trash_branch(w.s.store, "leaf", "test", NULL, &removed));
		store_finish_trash(removed);
		/* put back; that is not durable either; not put back */
		fault_arm_error(1, i == 0 ? 1 : 2, EIO);
		fault_count_only(i < 2 ? is_sync_of_mark : is_sync_or_rename_of_mark);
		if (i == 0)
			FAILS(store_undelete_branch(w.s.store, "leaf", NULL, NULL, name), PS_SQLSTATE_IO, "could not sync");
		else
			check_in_doubt(store_undelete_branch(w.s.store, "leaf", NULL, NULL, name), "is still in the trash",
						   "may be out of it after a restart");
		fault_disarm();
		CHECK(is_in_trash(&w, "leaf"));
		FAILS(store_find_branch(w.s.store, "leaf", &tl), PS_SQLSTATE_NOT_FOUND, "it was deleted");
		if (i == 2)
		{
			fault_crash_now();
			/* it is out, now and later */
			w.pending.kind = PENDING_NOTHING;
			restart(&w, LOSE_NOTHING);
			/* no manifest is written for that */
			OK(write_records(&w, b, 1, false));
		}
		restart(&w, LOSE_ALL);
		CHECK(model_named(&w, "leaf") != NULL);
		go_on(&w, &scenarios[0]);
		world_end(&w);
	}
}

/* Protection that could be neither set nor be left is as it was, until the next start. */
static void
test_protect_in_doubt(void **state)
{
	for (int i = 0; i < 4; i++)
	{
		World w;
		TimelineInfo info;
		bool protect = i % 2 == 0;
		bool taken_back = i < 2;
		PsError *err;

		build(&w, &scenarios[0], seed);
		OK(store_protect_branch(w.s.store, "leaf", !protect, NULL));
		fault_arm_error(1, taken_back ? 1 : 2, EIO);
		fault_count_only(is_sync_of_mark);
		err = store_protect_branch(w.s.store, "leaf", protect, NULL);
		fault_disarm();
		if (taken_back)
			FAILS(err, PS_SQLSTATE_IO, "could not sync");
		else
			check_in_doubt(err, protect ? "is not protected now" : "is protected now",
						   protect ? "may be protected after" : "may be unprotected after");
		OK(store_branch_info(w.s.store, "leaf", &info));
		CHECK(info.is_protected != protect);
		restart(&w, LOSE_ALL);
		OK(store_branch_info(w.s.store, "leaf", &info));
		CHECK(!taken_back || info.is_protected != protect);
		world_end(&w);
	}
}

/* ---- tenants ---- */

/* Of the tenant's directory, which has its marks. */
static bool
is_sync_of_tenant(const char *name, const char *path)
{
	const char *p = strstr(path, "/tenants/");

	return strcmp(name, "fsync") == 0 && p != NULL && strchr(p + strlen("/tenants/"), '/') == NULL;
}

static bool
is_sync_of_tenants(const char *name, const char *path)
{
	return strcmp(name, "fsync") == 0 && strcmp(strrchr(path, '/'), "/tenants") == 0;
}

static bool
tenant_is_deleted(World *w)
{
	int n;
	TenantInfo *list = store_list_tenants(w->s.store, &n);
	bool deleted = n == 1 && list[0].deleted;

	store_list_tenants_free(list, n);
	return deleted;
}

static PsError *
detach_it(World *w, const char *id)
{
	Tenant *tenant;
	Branch **timelines;
	int n;

	PS_TRY(store_begin_detach(w->s.store, id, NULL, &tenant, &timelines, &n));
	store_end_detach(w->s.store, tenant, timelines, n);
	return NULL;
}

static PsError *
attach_it(World *w, const char *id)
{
	return store_attach_tenant(w->s.store, id, true);
}

static PsError *
delete_it(World *w, const char *id)
{
	return store_trash_tenant(w->s.store, id, "test");
}

static PsError *
undelete_it(World *w, const char *id)
{
	return store_undelete_tenant(w->s.store, id);
}

static PsError *
purge_it(World *w, const char *id)
{
	return store_purge_tenant(w->s.store, id);
}

/*
 * What is done to a tenant counts or not until the next start, and says so;
 * whatever is on disk then, all of the tenant is there.
 */
static void
test_tenant_in_doubt(void **state)
{
	static const struct
	{
		PsError *(*run)(World *w, const char *id);
		bool (*only)(const char *name, const char *path);
		long first; /* sync that fails, the one to take it back follows */
		const char *now;
		const char *then;
		bool deleted[3]; /* before; after an error that was taken back; in doubt */
	} tries[] = {
		{detach_it, is_sync_of_tenant, 1, "is attached now", "may be detached after a restart", {false, false, false}},
		/* the first is of what may have been copied */
		{attach_it, is_sync_of_tenant, 2, "is detached now", "may be attached after a restart", {false, false, false}},
		{delete_it,
		 is_sync_of_tenant,
		 1,
		 "is deleted now",
		 "may be only detached after a restart",
		 {false, false, true}},
		/* the first is of the mark that it is detached */
		{undelete_it,
		 is_sync_of_tenant,
		 2,
		 "is still in the trash",
		 "may be only detached after a restart",
		 {true, true, true}},
		{purge_it, is_sync_of_tenants, 1, "is removed now", "may be there again after a restart", {true, true, false}},
	};

	for (int i = 0; i < 2 * lengthof(tries); i++)
	{
		World w;
		char id[PS_ID_TEXT];
		int t = i / 2;
		bool taken_back = i % 2 == 0;
		PsError *err;

		build(&w, &scenarios[0], seed);
		ps_id_format(&test_tenant, id);
		for (int k = 0; k < w.n; k++)
			let_go(w.branches[k]);
		w.pending = (Pending) {.kind = PENDING_DETACH};
		if (tries[t].run != detach_it)
			OK(detach_it(&w, id));
		if (tries[t].deleted[0])
			OK(delete_it(&w, id));
		fault_arm_error(tries[t].first, taken_back ? 1 : 2, EIO);
		fault_count_only(tries[t].only);
		err = tries[t].run(&w, id);
		fault_disarm();
		if (taken_back)
			FAILS(err, PS_SQLSTATE_IO, "could not sync");
		else
			check_in_doubt(err, tries[t].now, tries[t].then);
		CHECK(tenant_is_deleted(&w) == tries[t].deleted[taken_back ? 1 : 2]);
		restart(&w, LOSE_ALL);
		go_on(&w, &scenarios[0]);
		world_end(&w);
	}
}

/* ---- a tenant that was copied ---- */

/* With the operations that are watched. */
static void
copy_tree(const char *from, const char *to)
{
	DIR *dir = opendir(from);
	struct dirent *de;

	CHECK(dir != NULL && mkdir(to, 0700) == 0);
	while ((de = readdir(dir)) != NULL)
	{
		char *a = psprintf("%s/%s", from, de->d_name);
		char *b = psprintf("%s/%s", to, de->d_name);
		struct stat st;

		CHECK(lstat(a, &st) == 0);
		if (S_ISDIR(st.st_mode) && de->d_name[0] != '.')
			copy_tree(a, b);
		else if (S_ISREG(st.st_mode))
		{
			char *buf = pg_malloc(st.st_size + 1);
			int in = open(a, O_RDONLY);
			int out = open(b, O_WRONLY | O_CREAT, 0600);

			CHECK(in >= 0 && out >= 0 && read(in, buf, st.st_size + 1) == st.st_size);
			CHECK(write(out, buf, st.st_size) == st.st_size);
			close(in);
			close(out);
			free(buf);
		}
		pfree(a);
		pfree(b);
	}
	closedir(dir);
}

/*
 * A copied tenant survives a power failure once it is attached, although the copy was not synced, and even if a sync
 * failed before.
 */
static void
test_copied_tenant(void **state)
{
	World w;
	char id[PS_ID_TEXT];
	char *dir;
	char *away;

	build(&w, &scenarios[0], seed);
	dir = psprintf("%s/tenants/%s", w.s.dir, ps_id_format(&test_tenant, id));
	away = psprintf("%s.away", w.s.dir);
	OK(detach_tenant(&w));
	CHECK(__real_rename(dir, away) == 0);
	/* nothing is left that was not durable */
	fault_end();
	fault_begin(w.s.dir, seed);
	copy_tree(away, dir);
	fault_arm_error(2 + rnd32(&w, 10), 1, EIO);
	FAILS(attach_tenant(&w), PS_SQLSTATE_IO, "could not sync");
	fault_disarm();
	fault_remove_tree(dir);
	fault_end();
	fault_begin(w.s.dir, seed);
	copy_tree(away, dir);
	OK(attach_tenant(&w));
	restart(&w, rnd32(&w, 2) == 0 ? LOSE_ALL : LOSE_SOME);
	go_on(&w, &scenarios[0]);
	remove_tree(away);
	world_end(&w);
	pfree(dir);
	pfree(away);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_failed_sync_is_final),
		cmocka_unit_test(test_delete_in_doubt),
		cmocka_unit_test(test_create_in_doubt),
		cmocka_unit_test(test_trash_in_doubt),
		cmocka_unit_test(test_undelete_in_doubt),
		cmocka_unit_test(test_protect_in_doubt),
		cmocka_unit_test(test_tenant_in_doubt),
		cmocka_unit_test(test_copied_tenant),
	};

	seed = getenv("TEST_SEED") != NULL ? strtoul(getenv("TEST_SEED"), NULL, 10)
									   : (uint64) time(NULL) ^ (uint64) getpid() << 16;
	print_message("TEST_SEED=%llu\n", (unsigned long long) seed);
	ps_log_level = PS_FATAL;
	pg_logging_set_level(PG_LOG_OFF);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
