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
 * well again what failed goes well.
 *
 * Of the operations of each scenario some are tried; all with PAGESERVER_LONG in
 * the environment.  TEST_SEED repeats a run, TEST_SCENARIO chooses one.
 */
#include "model.h"

#include "common/logging.h"

static uint64 seed;
static bool all;				/* all operations */
static bool verbose;
static int	tries = 2;			/* of each scenario, else, for each kind of fault */

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

/* Over the end of a segment. */
static PsError *
do_write(World *w)
{
	Branch	   *b = named(w, "main");

	PS_TRY(write_records(w, b, 5, false));
	gen_record(&b->gen, RM_XLOG_ID, XLOG_SWITCH, 0, NULL, 0);
	record_done(w, b, 0);
	PS_TRY(write_records(w, b, 5, false));
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
	PS_TRY(upkeep_timeline(named(w, "main")->tl, true));
	return upkeep_timeline(named(w, "child")->tl, true);
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
check_all(World *w)
{
	for (int i = 0; i < w->n; i++)
		OK(check_branch(w, w->branches[i], 1, true));
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
		OK(upkeep_timeline(w->branches[i]->tl, true));
	}
	check_all(w);
	restart(w, LOSE_ALL);
}

/* Crashes at the n-th operation; false: there are not so many. */
static bool
crash_at(const Scenario *scenario, long n, FaultLoss loss)
{
	World		w;
	bool		happened;
	PsError    *err;

	build(&w, scenario, seed + n);
	fault_arm_crash(n);
	err = scenario->run(&w);
	happened = fault_has_happened();
	if (verbose)
		print_message("%s: crash %ld, loss %d, at %s: %s\n", scenario->name, n, loss, happened ? fault.what : "nothing",
					  err ? err->message : "no error");
	if (!happened)
		OK(err);
	ps_error_free(err);
	restart(&w, loss);
	go_on(&w, scenario);
	world_end(&w);
	return happened;
}

/* The n-th operation, or all from there on, fail until the scenario has ended. */
static bool
fail_at(const Scenario *scenario, long n, long times, int error)
{
	World		w;
	bool		happened;
	bool		ended;
	int			nbranches;
	Pending		pending;
	PsError    *err;

	build(&w, scenario, seed + n);
	nbranches = w.n;
	fault_arm_error(n, times, error);
	err = scenario->run(&w);
	fault_disarm();
	happened = fault_has_happened();
	if (verbose)
		print_message("%s: error %ld, %s, at %s: %s\n", scenario->name, n, strerror(error), happened ? fault.what : "nothing",
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
	else if (err != NULL && scenario->run != do_create)
		CHECK(w.n == nbranches);

	/* here it has not been done; after a restart it may have been, if the error was that of the last sync */
	pending = w.pending;
	settle(&w);
	/* a copy of a database waits for room, but an I/O error ends ingest until the next start */
	ended = error == EIO && w.branches[0]->tl->failed != NULL;
	if (!ended)
		check_all(&w);
	w.pending = pending;
	ps_error_free(err);
	if (!ended && rnd32(&w, 2) == 0)
	{
		err = scenario->run(&w);
		if (verbose && err != NULL)
			print_message("%s: the second time: %s\n", scenario->name, err->message);
		/* WAL that could not be synced is what only a restart mends */
		if (err != NULL && (err->hint == NULL || strstr(err->hint, "start the server again") == NULL))
			OK(err);
		if (err == NULL)
			settle(&w);
		ps_error_free(err);
	}
	restart(&w, LOSE_ALL);
	go_on(&w, scenario);
	world_end(&w);
	return happened;
}

/* Calls "at" for each operation of the scenario, or for some. */
#define FOR_OPERATIONS(at) \
	do { \
		long		step_ = all ? 1 : 1 + count / tries; \
		for (long n = all ? 1 : 1 + next_random(&random, (uint32) step_); at; n += all ? 1 : 1 + next_random(&random, 2 * step_ - 1)) \
			ntried++; \
	} while (0)

static long
count_operations(const Scenario *scenario)
{
	World		w;
	long		count;

	build(&w, scenario, seed);
	fault_arm_crash(LONG_MAX);
	OK(scenario->run(&w));
	count = fault_disarm();
	world_end(&w);
	return count;
}

static void
run_scenarios(bool errors)
{
	uint64		random = seed;
	long		ntried = 0;

	for (int i = 0; i < lengthof(scenarios); i++)
	{
		const Scenario *scenario = &scenarios[i];
		long		count;

		if (getenv("TEST_SCENARIO") != NULL && strcmp(getenv("TEST_SCENARIO"), scenario->name) != 0)
			continue;
		count = count_operations(scenario);
		if (verbose)
			print_message("%s: %ld operations\n", scenario->name, count);
		CHECK(count > 0);
		if (!errors)
		{
			FOR_OPERATIONS(crash_at(scenario, n, LOSE_NOTHING));
			FOR_OPERATIONS(crash_at(scenario, n, LOSE_ALL));
			FOR_OPERATIONS(crash_at(scenario, n, LOSE_SOME));
		}
		else
		{
			FOR_OPERATIONS(fail_at(scenario, n, 1, EIO));
			FOR_OPERATIONS(fail_at(scenario, n, 1, ENOSPC));
			FOR_OPERATIONS(fail_at(scenario, n, LONG_MAX / 2, ENOSPC));
		}
	}
	print_message("%ld operations tried\n", ntried);
}

static void
test_crashes(void **state)
{
	run_scenarios(false);
}

static void
test_errors(void **state)
{
	run_scenarios(true);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crashes),
		cmocka_unit_test(test_errors),
	};

	seed = getenv("TEST_SEED") != NULL ? strtoul(getenv("TEST_SEED"), NULL, 10) : (uint64) time(NULL) ^ (uint64) getpid() << 16;
	print_message("TEST_SEED=%llu\n", (unsigned long long) seed);
	all = getenv("PAGESERVER_LONG") != NULL;
	verbose = getenv("TEST_VERBOSE") != NULL;
	ps_log_level = PS_FATAL;
	pg_logging_set_level(PG_LOG_OFF);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
