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
#include "scenarios.h"

#include <sys/wait.h>

#include "common/logging.h"

#define JOBS 3

#define TRIES (ALL_KEYS ? 2 : 1)

static bool all; /* all operations */
static bool verbose;
static int tries = TRIES; /* of each scenario, else, for each kind of fault */

/* ---- tries ---- */

typedef struct FaultKind
{
	const char *name;
	FaultLoss loss;                                   /* of a crash */
	bool at_start;                                    /* the power fails at the next start, not at the crash */
	int error;                                        /* 0: crash */
	long times;                                       /* so many operations fail */
	bool kill;                                        /* then the store is killed, at once or a bit later */
	bool (*only)(const char *name, const char *path); /* which operations; NULL: all */
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

/* Of a change that was appended to a manifest. */
static bool
is_sync_of_log(const char *name, const char *path)
{
	return strcmp(name, "fdatasync") == 0 && strcmp(strrchr(path, '/'), "/timeline.log") == 0;
}

/* The directory in which a manifest was renamed. */
static bool
is_sync_of_branch(const char *name, const char *path)
{
	const char *p = strstr(path, "/timelines/");

	return strcmp(name, "fsync") == 0 && p != NULL && strchr(p + strlen("/timelines/"), '/') == NULL;
}

static const FaultKind errors_and_kills[] = {
	{"one I/O error, then a kill", .error = EIO, .times = 1, .kill = true},
	{"two I/O errors, then a kill", .error = EIO, .times = 2, .kill = true},
	{"a manifest's log not synced, then a kill", .error = EIO, .times = 1, .kill = true, .only = is_sync_of_log},
	{"a branch's directory not synced, then a kill", .error = EIO, .times = 1, .kill = true, .only = is_sync_of_branch},
	{"WAL not synced, then a kill", .error = EIO, .times = 1, .kill = true, .only = is_sync_of_wal},
};

/* Crashes at the n-th operation; false: there are not so many. */
static bool
crash_at(const Scenario *scenario, const FaultKind *kind, long n)
{
	World w;
	bool happened;
	PsError *err;

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
	World w;
	bool happened;
	PsError *err;

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
		char name[TIMELINE_NAME_MAX + 1];

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
	World w;
	bool happened;
	int nbranches;
	Pending pending;
	PsError *err;

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
	World w;
	long count;

	build(&w, scenario, seed);
	fault_arm_crash(LONG_MAX);
	fault_count_only(kind->only);
	OK(scenario->run(&w));
	count = fault_disarm();
	world_end(&w);
	return count;
}

/* ---- processes ---- */

/* How one ends. */
enum
{
	HAPPENED = 0,
	DID_NOT_HAPPEN = 100 /* there are not so many operations */
};

typedef struct Job
{
	pid_t pid; /* 0: none */
	long n;
} Job;

static Job jobs[JOBS];
static long nfailed;

/* Waits for one of them; what became of it is counted. */
static void
end_job(const Scenario *scenario, const FaultKind *kind, long *happened, int *beyond)
{
	int status;
	pid_t pid = wait(&status);

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
	long step = all ? 1 : 1 + count / tries;
	long n = all ? 1 : 1 + next_random(random, (uint32) step);
	long happened = 0;
	int beyond = 0;

	/* threads do not always share their work in the same way, so a few more or less may be there */
	for (; beyond < JOBS && (all || n <= count); n += all ? 1 : 1 + next_random(random, 2 * step - 1))
	{
		Job *job = free_job(scenario, kind, &happened, &beyond);

		fflush(NULL);
		job->n = n;
		job->pid = fork();
		CHECK(job->pid >= 0);
		if (job->pid == 0)
			exit((kind->kill ? fail_and_kill_at : kind->error == 0 ? crash_at
																   : fail_at)(scenario, kind, n)
					 ? HAPPENED
					 : DID_NOT_HAPPEN);
	}
	for (int i = 0; i < JOBS; i++)
		while (jobs[i].pid != 0)
			end_job(scenario, kind, &happened, &beyond);
	return happened;
}

static void
run_scenarios(const FaultKind *kinds, int nkinds)
{
	uint64 random = seed;
	long total = 0;

	for (int i = 0; i < lengthof(scenarios); i++)
	{
		const Scenario *scenario = &scenarios[i];

		if (getenv("TEST_SCENARIO") != NULL && strcmp(getenv("TEST_SCENARIO"), scenario->name) != 0)
			continue;
		print_message("%s\n", scenario->name);
		for (int k = 0; k < nkinds; k++)
		{
			long count = count_operations(scenario, &kinds[k]);
			long n = count > 0 ? try_operations(scenario, &kinds[k], count, &random) : 0;

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
	};
	int failed;

	seed = getenv("TEST_SEED") != NULL ? strtoul(getenv("TEST_SEED"), NULL, 10)
									   : (uint64) time(NULL) ^ (uint64) getpid() << 16;
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
