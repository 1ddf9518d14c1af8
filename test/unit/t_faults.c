/*
 * t_faults.c
 *	  What the store does is stopped, or fails, at each of its file operations
 *	  in turn (fault_fs.h), on a small store with branches and a model of it
 *	  (model.h).
 *
 * After a crash, with what was not synced there, lost or partly lost, the store
 * starts; all that was acknowledged is read as before, each branch is there
 * whole or not at all, and there is no file that does not belong there.  After
 * an error nothing has changed and nothing is read wrongly; once the disk is
 * well again what failed goes well, without a restart, and leaves no file
 * behind.  After an error and a kill it is as after a crash.
 *
 * Each try is a process of its own, some at the same time.  Of the operations of
 * each scenario some are tried; every one with PAGESERVER_LONG in the
 * environment.  TEST_SEED repeats a run, TEST_SCENARIO chooses one,
 * TEST_VERBOSE tells of each try.
 */
#include "model.h"

#include <sys/wait.h>

#include "common/logging.h"

#include "cluster_util.h"

#define JOBS 3

/* ThreadSanitizer, which is after races, takes forty times as long over what all keys hold. */
#ifdef __SANITIZE_THREAD__
#define ALL_KEYS false
#define TRIES 1
#else
#define ALL_KEYS true
#define TRIES 2
#endif

static uint64 seed;
static bool all;				/* all operations */
static bool verbose;
static int	tries = TRIES;		/* of each scenario, else, for each kind of fault */
static Cluster *cluster;		/* to be imported */

/* ---- scenarios: each works on a store that build() made ---- */

static Branch *
named(World *w, const char *name)
{
	Branch	   *b = model_named(w, name);

	/* it may have been done before */
	return b != NULL ? b : w->branches[0];
}

/*
 * Until all is in files that was acknowledged; an error if a flush fails.  Not
 * for ever: a copied database that is the last record is written with the next.
 */
static PsError *
wait_flushed(World *w, Branch *b)
{
	for (int i = 0; i < 20000; i++)
	{
		TimelineInfo info;

		timeline_info(b->tl, &info);
		if (fault_has_crashed())
			return ps_error(PS_SQLSTATE_TRY_AGAIN, "crashed");
		/* it is tried again; with the disk well, until it succeeds */
		if (info.error[0] != '\0' && (fault_is_armed() || b->tl->failed != NULL))
			return ps_error(PS_SQLSTATE_IO, "%s", info.error);
		if (info.disk_consistent_lsn == b->acked)
			return NULL;
		pg_usleep(200);
	}
	return NULL;
}

/* The next record begins a segment. */
static PsError *
switch_segment(World *w, Branch *b)
{
	gen_record(&b->gen, RM_XLOG_ID, XLOG_SWITCH, 0, NULL, 0);
	record_done(w, b, 0);
	return write_records(w, b, 5, false);
}

static PsError *
do_write(World *w)
{
	Branch	   *b = named(w, "main");

	PS_TRY(write_records(w, b, 5, false));
	PS_TRY(switch_segment(w, b));
	return wait_ingested(b);
}

static PsError *
do_flush(World *w)
{
	Branch	   *b = named(w, "main");

	PS_TRY(write_records(w, b, 20, false));
	/* going on, nothing is flushed */
	return w->s.config.checkpoint_distance > 0 ? wait_ingested(b) : wait_flushed(w, b);
}

/* Merges, images, garbage: files and parts of files, WAL. */
static PsError *
do_upkeep(World *w)
{
	PS_TRY(keep_branch(w, named(w, "main"), true));
	return keep_branch(w, named(w, "child"), true);
}

static PsError *
do_create(World *w)
{
	Branch	   *b = named(w, "main");

	PS_TRY(create_branch(w, b, b->records[b->nrecords / 2].end - 8));
	return create_branch(w, named(w, "child"), PG_UINT64_MAX);
}

static PsError *
do_delete(World *w)
{
	return model_named(w, "leaf") != NULL ? delete_branch(w, named(w, "leaf")) : NULL;
}

static PsError *
do_rename(World *w)
{
	return rename_branch(w, named(w, "child"));
}

static PsError *
do_reset(World *w)
{
	Branch	   *leaf = named(w, "leaf");

	return replace_branch(w, leaf, leaf->parent, PG_UINT64_MAX, true);
}

static PsError *
do_restore(World *w)
{
	Branch	   *child = named(w, "child");

	return replace_branch(w, child, child, child->records[child->nrecords / 2].end, false);
}

/* The name of what was replaced may not be in its manifest yet: it must not be lost. */
static PsError *
do_detach(World *w)
{
	PS_TRY(detach_tenant(w));
	return attach_tenant(w);
}

static PsError *
do_reset_and_detach(World *w)
{
	PS_TRY(do_reset(w));
	return do_detach(w);
}

/* The first timeline of a tenant. */
static PsError *
do_import(World *w)
{
	if (w->has_imported)
		return NULL;
	w->pending = (Pending){.kind = PENDING_IMPORT};
	PS_TRY(import_cluster(w->s.store, IMPORTED, cluster->pgdata, &model_waiter, NULL, &w->imported));
	w->has_imported = true;
	w->pending.kind = PENDING_NOTHING;
	return NULL;
}

static PsError *
do_generation(World *w)
{
	return new_generation(w, named(w, "main"));
}

static PsError *
do_db_copy(World *w)
{
	Branch	   *b = named(w, "main");

	PS_TRY(connect_receiver(w, b));
	put_db_copy(w, b, 0, 1);
	PS_TRY(write_records(w, b, 3, false));
	return wait_ingested(b);
}

/* A start, after which there is something to remove, to cut, to take in. */
static PsError *
do_restart(World *w)
{
	world_close(w);
	PS_TRY(store_open(&w->s.config, &w->s.store));
	for (int i = 0; i < w->n; i++)
		PS_TRY(store_find(w->s.store, &test_tenant, &w->branches[i]->id, &w->branches[i]->tl));
	return NULL;
}

typedef struct Scenario
{
	const char *name;
	PsError    *(*run) (World *w);
	int			distance;		/* checkpoint_distance: 0: all that is written is flushed */
} Scenario;

static const Scenario scenarios[] = {
	{"write", do_write, 1000},
	{"flush", do_flush, 0},
	{"upkeep", do_upkeep, 1000},
	{"create", do_create, 1000},
	{"delete", do_delete, 1000},
	{"rename", do_rename, 1000},
	{"reset", do_reset, 1000},
	{"restore", do_restore, 1000},
	{"detach", do_detach, 1000},
	{"reset and detach", do_reset_and_detach, 1000},
	{"import", do_import, 1000},
	{"generation", do_generation, 1000},
	{"database copy", do_db_copy, 1000},
	{"restart", do_restart, 1000},
};

/* ---- the store ---- */

static void
set_name(World *w, Branch *b, const char *name)
{
	OK(store_rename_branch(w->s.store, b->name, name, NULL));
	strcpy(b->name, name);
}

static int	distance;
static int	horizon;

static void
set_config(World *w)
{
	w->s.config.checkpoint_distance = distance;
	w->s.config.gc_horizon = horizon;
}

/*
 * Branch "main" with some files, "child" of it, "leaf" of that, each with some
 * WAL that is in no file yet, and half a record at the end of main's.
 */
static void
build(World *w, const Scenario *scenario, uint64 random)
{
	static const char *const names[] = {"main", "child", "leaf"};

	world_begin(w, random);
	set_small_sizes(w);
	w->s.config.compaction_workers = 0;
	w->s.config.compaction_threshold = 2;
	w->s.config.page_cache_size = 1;
	w->s.config.pitr_interval = 0;
	w->s.config.idle_timeline_timeout = 0;
	distance = 0;
	horizon = 1;
	world_restart(w, LOSE_NOTHING, 0, set_config);
	for (int i = 0; i < lengthof(names); i++)
	{
		if (i > 0)
		{
			Branch	   *parent = named(w, names[i - 1]);

			OK(create_branch(w, parent, parent->acked));
			set_name(w, w->branches[i], names[i]);
		}
		for (int k = 0; k < 4; k++)
		{
			OK(write_records(w, w->branches[i], 20, false));
			/* that there is WAL to be removed */
			if (k == 1)
				OK(switch_segment(w, w->branches[i]));
			OK(wait_flushed(w, w->branches[i]));
		}
	}
	distance = scenario->distance;
	horizon = 0;
	world_restart(w, LOSE_NOTHING, 0, set_config);
	for (int i = 0; i < lengthof(names); i++)
		OK(write_records(w, w->branches[i], 10, i == 0 && scenario->distance > 0));
	for (int i = 0; i < lengthof(names); i++)
		OK(scenario->distance == 0 ? wait_flushed(w, w->branches[i]) : wait_ingested(w->branches[i]));
}

static void
check_imported(World *w)
{
	PsRel		rel = {1663, 5, 1259};
	BlockNumber blk = 0;
	BlockNumber nblocks;
	bool		found;
	XLogRecPtr	lsn;
	char		page[BLCKSZ];
	char		expected[BLCKSZ];

	OK(timeline_read_lsn(w->imported, PS_LSN_LATEST, InvalidXLogRecPtr, NULL, &lsn));
	CHECK(lsn == cluster->checkpoint_end);
	OK(timeline_read_relsize(w->imported, rel, MAIN_FORKNUM, lsn, &found, &nblocks));
	CHECK(found && nblocks == 1);
	OK(timeline_read_pages(w->imported, rel, MAIN_FORKNUM, &blk, 1, lsn, page));
	cluster_page(expected, 1, 0);
	CHECK(memcmp(page, expected, BLCKSZ) == 0);
}

static void
check_all(World *w)
{
	for (int i = 0; i < w->n; i++)
		OK(check_branch(w, w->branches[i], 1, ALL_KEYS));
	if (w->imported != NULL)
		check_imported(w);
}

/* The store is closed after a crash, or comes up for other reasons. */
static void
restart(World *w, FaultLoss loss)
{
	distance = 1000;
	world_restart(w, loss, 0, set_config);
	if (rnd32(w, 2) == 0)
		forget_unsent(w);
	check_no_strays(w);
	check_all(w);
}

/*
 * After a kill the store starts, and then the power fails, perhaps before all
 * branches are open: what the start removed must not be needed now.
 */
static void
lose_power_at_start(World *w)
{
	PsError    *err;

	if (w->s.store != NULL)
		world_close(w);
	fault_restart(LOSE_NOTHING);
	fault_arm_crash(1 + rnd32(w, rnd32(w, 3) == 0 ? 60 : 15));
	err = store_open(&w->s.config, &w->s.store);
	for (int i = 0; i < w->n && err == NULL; i++)
	{
		err = store_find(w->s.store, &test_tenant, &w->branches[i]->id, &w->branches[i]->tl);
		if (err != NULL)
			w->branches[i]->tl = NULL;
	}
	ps_error_free(err);
	restart(w, rnd32(w, 4) == 0 ? LOSE_ALL : LOSE_SOME);
}

/* It goes on as if nothing had been. */
static void
go_on(World *w, const Scenario *scenario)
{
	OK(scenario->run(w));
	if (scenario->run == do_restart)
		settle(w);
	for (int i = 0; i < w->n; i++)
	{
		OK(write_records(w, w->branches[i], 5, false));
		OK(wait_ingested(w->branches[i]));
		OK(keep_branch(w, w->branches[i], true));
	}
	check_all(w);
	restart(w, LOSE_ALL);
}

/* ---- tries ---- */

typedef struct FaultKind
{
	const char *name;
	FaultLoss	loss;			/* of a crash */
	bool		at_start;		/* nothing is lost at the crash, but while the store starts the next time */
	int			error;			/* 0: crash */
	long		times;			/* so many operations fail */
	bool		kill;			/* then the store is killed, at once or a bit later */
	bool		(*only) (const char *name, const char *path);	/* which operations; NULL: all */
} FaultKind;

static const FaultKind crashes[] = {
	{"crash, nothing lost before the next", .loss = LOSE_NOTHING},
	{"crash, the power fails at the next start", .at_start = true},
	{"crash, all lost that was not synced", .loss = LOSE_ALL},
	{"crash, some of that lost", .loss = LOSE_SOME},
};

static const FaultKind errors[] = {
	{"one I/O error", .error = EIO, .times = 1},
	{"one full disk", .error = ENOSPC, .times = 1},
	{"a disk that stays full", .error = ENOSPC, .times = LONG_MAX / 2},
};

/* The directory in which a manifest was renamed. */
static bool
is_sync_of_branch(const char *name, const char *path)
{
	const char *p = strstr(path, "/timelines/");

	return strcmp(name, "fsync") == 0 && p != NULL && strchr(p + strlen("/timelines/"), '/') == NULL;
}

static bool
is_sync_of_wal(const char *name, const char *path)
{
	return strcmp(name, "fdatasync") == 0;
}

static const FaultKind errors_and_kills[] = {
	{"one I/O error, then a kill", .error = EIO, .times = 1, .kill = true},
	{"a branch's directory not synced, then a kill", .error = EIO, .times = 1, .kill = true, .only = is_sync_of_branch},
	{"WAL not synced, then a kill", .error = EIO, .times = 1, .kill = true, .only = is_sync_of_wal},
};

/* Crashes at the n-th operation; false: there are not so many. */
static bool
crash_at(const Scenario *scenario, const FaultKind *kind, long n)
{
	World		w;
	bool		happened;
	PsError    *err;

	build(&w, scenario, seed);
	fault.random += n;
	fault_arm_crash(n);
	err = scenario->run(&w);
	w.random += n;
	happened = fault_has_happened();
	if (verbose)
		print_message("%s: %ld, %s, at %s: %s\n", scenario->name, n, kind->name, happened ? fault.what : "nothing",
					  err ? err->message : "no error");
	if (!happened)
		OK(err);
	ps_error_free(err);
	if (kind->at_start)
		lose_power_at_start(&w);
	else
		restart(&w, kind->loss);
	go_on(&w, scenario);
	world_end(&w);
	return happened;
}

/* The n-th operation fails; a kill follows. */
static bool
fail_and_kill_at(const Scenario *scenario, const FaultKind *kind, long n)
{
	World		w;
	bool		happened;
	PsError    *err;

	build(&w, scenario, seed);
	fault.random += n;
	w.random += n;
	fault_arm_error(n, kind->times, kind->error);
	fault_count_only(kind->only);
	if (rnd32(&w, 2) == 0)
		fault_then_crash(1 + rnd32(&w, 20));
	err = scenario->run(&w);
	happened = fault_has_happened();
	if (verbose)
		print_message("%s: %ld, %s, at %s: %s\n", scenario->name, n, kind->name, happened ? fault.what : "nothing",
					  err ? err->message : "no error");
	if (!happened)
		OK(err);
	ps_error_free(err);
	fault_crash_now();
	if (rnd32(&w, 2) == 0)
		lose_power_at_start(&w);
	else
		restart(&w, LOSE_NOTHING);
	go_on(&w, scenario);
	world_end(&w);
	return happened;
}

/* Files that may have been in a manifest go with the next that is durable. */
static void
write_manifests(World *w)
{
	for (int i = 0; i < w->n; i++)
	{
		char		name[TIMELINE_NAME_MAX + 1];

		strcpy(name, w->branches[i]->name);
		set_name(w, w->branches[i], "another");
		set_name(w, w->branches[i], name);
	}
	w->pending.kind = PENDING_NOTHING;
}

/* The n-th operation, or all from there on, fail until the scenario has ended. */
static bool
fail_at(const Scenario *scenario, const FaultKind *kind, long n)
{
	World		w;
	bool		happened;
	int			nbranches;
	Pending		pending;
	PsError    *err;

	build(&w, scenario, seed);
	nbranches = w.n;
	fault_arm_error(n, kind->times, kind->error);
	err = scenario->run(&w);
	w.random += n;
	fault_disarm();
	happened = fault_has_happened();
	if (verbose)
		print_message("%s: %ld, %s, at %s: %s\n", scenario->name, n, kind->name, happened ? fault.what : "nothing",
					  err ? err->message : "no error");
	if (!happened)
		OK(err);
	if (scenario->run == do_restart)
	{
		/* what could not be opened stays so until the next start */
		if (w.s.store != NULL)
			world_close(&w);
		OK(store_open(&w.s.config, &w.s.store));
	}
	else if (err != NULL && scenario->run != do_create && scenario->run != do_reset_and_detach)
		CHECK(w.n == nbranches);

	/* here it has not been done; after a restart it may have been, if the error was that of the last sync */
	pending = w.pending;
	settle(&w);
	for (int i = 0; i < w.n; i++)
		CHECK(w.branches[i]->tl->failed == NULL);
	check_all(&w);
	w.pending = pending;
	ps_error_free(err);
	if (rnd32(&w, 2) == 0)
	{
		err = scenario->run(&w);
		if (verbose && err != NULL)
			print_message("%s: the second time: %s\n", scenario->name, err->message);
		/* WAL that could not be synced is what only a restart mends */
		if (err != NULL && (err->hint == NULL || strstr(err->hint, "start the server again") == NULL))
			OK(err);
		if (err == NULL)
		{
			settle(&w);
			write_manifests(&w);
			/* a file that could not be removed stays until the next start */
			if (strncmp(fault.what, "unlink", 6) != 0 && strncmp(fault.what, "rmdir", 5) != 0)
				check_no_strays(&w);
		}
		ps_error_free(err);
	}
	restart(&w, rnd32(&w, 2) == 0 ? LOSE_ALL : LOSE_SOME);
	go_on(&w, scenario);
	world_end(&w);
	return happened;
}

static long
count_operations(const Scenario *scenario, const FaultKind *kind)
{
	World		w;
	long		count;

	build(&w, scenario, seed);
	fault_arm_crash(LONG_MAX);
	fault_count_only(kind->only);
	OK(scenario->run(&w));
	count = fault_disarm();
	world_end(&w);
	return count;
}

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
	World		w;
	Branch	   *b;
	TimelineInfo info;
	XLogRecPtr	received;

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
	char		parent[MAXPGPATH];

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
		bool		(*only) (const char *name, const char *path);
		long		first;
		long		times;
		bool		deleted;
	}			tries[] = {
		{is_sync_of_place, 1, 1, false},
		{is_sync_of_place, 1, 2, true}, /* moved back, but that is not durable either */
		{is_sync_or_rename_of_place, 2, 2, true},	/* not moved back */
	};

	for (int i = 0; i < lengthof(tries); i++)
	{
		World		w;
		Timeline   *gone;
		Timeline   *tl;
		PsError    *err;

		build(&w, &scenarios[0], seed);
		let_go(named(&w, "leaf"));
		fault_arm_error(tries[i].first, tries[i].times, EIO);
		fault_count_only(tries[i].only);
		err = store_remove_branch(w.s.store, "leaf", NULL, &gone);
		fault_disarm();
		if (tries[i].deleted)
		{
			OK(err);
			store_destroy_branch(gone);
			FAILS(store_find_branch(w.s.store, "leaf", &tl), PS_SQLSTATE_NOT_FOUND, "does not exist");
		}
		else
		{
			FAILS(err, PS_SQLSTATE_IO, "could not sync");
			OK(store_find_branch(w.s.store, "leaf", &tl));
			store_release(tl);
		}
		restart(&w, LOSE_ALL);
		CHECK(model_named(&w, "leaf") != NULL);
		world_end(&w);
	}
}

/* A branch that could not be made is not there after the next start either, whatever was lost. */
static void
test_create_in_doubt(void **state)
{
	for (int i = 0; i < 4; i++)
	{
		World		w;

		build(&w, &scenarios[0], seed);
		/* moved back, but that is not durable either; or not moved back: the sync and the second rename fail */
		fault_arm_error(i % 2 == 0 ? 1 : 2, 2, EIO);
		fault_count_only(i % 2 == 0 ? is_sync_of_place : is_sync_or_rename_of_place);
		FAILS(create_branch(&w, named(&w, "main"), PG_UINT64_MAX), PS_SQLSTATE_IO, "could not sync");
		fault_disarm();
		w.pending.kind = PENDING_NOTHING;
		restart(&w, i < 2 ? LOSE_NOTHING : LOSE_ALL);
		go_on(&w, &scenarios[0]);
		world_end(&w);
	}
}

/* ---- a tenant that was copied ---- */

/* With the operations that are watched. */
static void
copy_tree(const char *from, const char *to)
{
	DIR		   *dir = opendir(from);
	struct dirent *de;

	CHECK(dir != NULL && mkdir(to, 0700) == 0);
	while ((de = readdir(dir)) != NULL)
	{
		char	   *a = psprintf("%s/%s", from, de->d_name);
		char	   *b = psprintf("%s/%s", to, de->d_name);
		struct stat st;

		CHECK(lstat(a, &st) == 0);
		if (S_ISDIR(st.st_mode) && de->d_name[0] != '.')
			copy_tree(a, b);
		else if (S_ISREG(st.st_mode))
		{
			char	   *buf = pg_malloc(st.st_size + 1);
			int			in = open(a, O_RDONLY);
			int			out = open(b, O_WRONLY | O_CREAT, 0600);

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

/* All of it outlives a power failure once it is attached, though nothing of the copy was synced; also if a sync fails. */
static void
test_copied_tenant(void **state)
{
	World		w;
	char		id[PS_ID_TEXT];
	char	   *dir;
	char	   *away;

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

/* ---- processes ---- */

/* How one ends. */
enum
{
	HAPPENED = 0,
	DID_NOT_HAPPEN = 100		/* there are not so many operations */
};

typedef struct Job
{
	pid_t		pid;			/* 0: none */
	long		n;
} Job;

static Job	jobs[JOBS];
static long nfailed;

/* Waits for one of them; what became of it is counted. */
static void
end_job(const Scenario *scenario, const FaultKind *kind, long *happened, int *beyond)
{
	int			status;
	pid_t		pid = wait(&status);

	for (int i = 0; i < JOBS; i++)
	{
		if (pid <= 0 || jobs[i].pid != pid)
			continue;
		jobs[i].pid = 0;
		if (WIFEXITED(status) && WEXITSTATUS(status) == HAPPENED)
			(*happened)++;
		else if (WIFEXITED(status) && WEXITSTATUS(status) == DID_NOT_HAPPEN)
			(*beyond)++;
		else
		{
			print_message("%s: failed with %s at operation %ld\n", scenario->name, kind->name, jobs[i].n);
			nfailed++;
		}
		return;
	}
	CHECK(pid > 0);
}

static Job *
free_job(const Scenario *scenario, const FaultKind *kind, long *happened, int *beyond)
{
	for (;;)
	{
		for (int i = 0; i < JOBS; i++)
			if (jobs[i].pid == 0)
				return &jobs[i];
		end_job(scenario, kind, happened, beyond);
	}
}

/* Tries each operation of the scenario, or some of about "count"; how many. */
static long
try_operations(const Scenario *scenario, const FaultKind *kind, long count, uint64 *random)
{
	long		step = all ? 1 : 1 + count / tries;
	long		n = all ? 1 : 1 + next_random(random, (uint32) step);
	long		happened = 0;
	int			beyond = 0;

	/* threads do not always share their work in the same way, so a few more or less may be there */
	for (; beyond < JOBS && (all || n <= count); n += all ? 1 : 1 + next_random(random, 2 * step - 1))
	{
		Job		   *job = free_job(scenario, kind, &happened, &beyond);

		fflush(NULL);
		job->n = n;
		job->pid = fork();
		CHECK(job->pid >= 0);
		if (job->pid == 0)
			exit((kind->kill ? fail_and_kill_at : kind->error == 0 ? crash_at : fail_at) (scenario, kind, n) ? HAPPENED : DID_NOT_HAPPEN);
	}
	for (int i = 0; i < JOBS; i++)
		while (jobs[i].pid != 0)
			end_job(scenario, kind, &happened, &beyond);
	return happened;
}

static void
run_scenarios(const FaultKind *kinds, int nkinds)
{
	uint64		random = seed;
	long		total = 0;

	for (int i = 0; i < lengthof(scenarios); i++)
	{
		const Scenario *scenario = &scenarios[i];

		if (getenv("TEST_SCENARIO") != NULL && strcmp(getenv("TEST_SCENARIO"), scenario->name) != 0)
			continue;
		print_message("%s\n", scenario->name);
		for (int k = 0; k < nkinds; k++)
		{
			long		count = count_operations(scenario, &kinds[k]);
			long		n = count > 0 ? try_operations(scenario, &kinds[k], count, &random) : 0;

			CHECK(count > 0 || kinds[k].only != NULL);
			print_message("    %s: tried at %ld of about %ld operations\n", kinds[k].name, n, count);
			total += n;
		}
	}
	print_message("%ld operations tried, %ld failed\n", total, nfailed);
	assert_int_equal(nfailed, 0);
}

static void
test_crashes(void **state)
{
	run_scenarios(crashes, lengthof(crashes));
}

static void
test_errors(void **state)
{
	run_scenarios(errors, lengthof(errors));
}

static void
test_errors_and_kills(void **state)
{
	run_scenarios(errors_and_kills, lengthof(errors_and_kills));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crashes),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_errors_and_kills),
		cmocka_unit_test(test_failed_sync_is_final),
		cmocka_unit_test(test_copied_tenant),
		cmocka_unit_test(test_delete_in_doubt),
		cmocka_unit_test(test_create_in_doubt),
	};
	int			failed;

	seed = getenv("TEST_SEED") != NULL ? strtoul(getenv("TEST_SEED"), NULL, 10) : (uint64) time(NULL) ^ (uint64) getpid() << 16;
	print_message("TEST_SEED=%llu\n", (unsigned long long) seed);
	all = getenv("PAGESERVER_LONG") != NULL;
	verbose = getenv("TEST_VERBOSE") != NULL;
	ps_log_level = verbose ? PS_LOG : PS_FATAL;
	pg_logging_set_level(PG_LOG_OFF);
	cluster = make_cluster(3 * SEGMENT_SIZE + 70000, 1);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	free_cluster(cluster);
	return failed;
}
