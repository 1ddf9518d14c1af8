/*
 * t_model.c
 *	  Random operations on a store with branches and on a naive model of it
 *	  (model.h): records of all kinds, flushes, merges, images, garbage
 *	  collection, branches at any LSN, their deletion, renaming, resetting and
 *	  restoring, new generations, branches that are closed because nobody uses
 *	  them and opened again, the tenant detached and attached, restarts, crashes
 *	  at any file operation with what was not synced lost.  What can be read is read as in the model; what
 *	  is older than the window is refused, and never read wrongly.  All this once with
 *	  all files on the disk, and once with files that are evicted and fetched again.
 *
 * TEST_SEED repeats a run; TEST_OPERATIONS says how many operations there are,
 * of which most are records (a million with PAGESERVER_LONG); TEST_VERBOSE tells of each.
 */
#include "model.h"

#include "common/logging.h"
#include "fake_source.h"
#include "layer/layer_stream.h"

static uint64 seed;
#ifdef __SANITIZE_THREAD__
static long noperations = 3000;
#else
static long noperations = 20000;
#endif
static bool verbose; /* says what it does */

/* An operation failed, or went well; if the store crashed meanwhile it starts again. */
static void
after(World *w, PsError *err, const char *what)
{
	FaultLoss loss = (FaultLoss) rnd32(w, 3);

	if (verbose)
		print_message("%s%s%s\n", what, err != NULL ? ": " : "", err != NULL ? err->message : "");
	if (!fault_has_crashed())
	{
		if (err != NULL)
		{
			fprintf(stderr, "%s: %s\n", what, err->message);
			abort();
		}
		return;
	}
	ps_error_free(err);
	w->crashes++;
	if (verbose)
		print_message("crash during %s, at %s, loss %d\n", what, fault.what, loss);
	world_restart(w, loss, 20, rnd32(w, 2) == 0 ? set_small_sizes : NULL);
	if (rnd32(w, 2) == 0)
		forget_unsent(w);
	for (int i = 0; i < w->n; i++)
		OK(check_branch(w, w->branches[i], 1, false));
}

/* Where somebody might want a branch to begin: anywhere in the branch's history, or before it. */
static XLogRecPtr
wanted_lsn(World *w, const ModelBranch *b)
{
	const ModelBranch *at = b;
	XLogRecPtr lsn;

	if (rnd32(w, 3) == 0)
		return PG_UINT64_MAX;
	while (at->parent != NULL && rnd32(w, 3) == 0)
		at = at->parent;
	lsn = random_lsn(w, at, rnd32(w, 2) == 0 || at->tl == NULL ? at->start : timeline_gc_cutoff(at->tl));
	return Min(lsn, b->acked);
}

/* A refusal because of the window is as good as success, if it is right. */
static PsError *
allow_refusal(World *w, PsError *err)
{
	Pending *p = &w->pending;

	if (err == NULL || strstr(err->message, "can be read from") == NULL || fault_has_crashed())
		return err;
	model_move_window(w, p->parent);
	if (p->lsn >= p->parent->may_be_gone)
		wrong(p->parent, p->lsn, "no branch can begin here: %s", err->message);
	check_refused(p->parent, p->lsn, err);
	p->kind = PENDING_NOTHING;
	w->refused++;
	return NULL;
}

static void
change_branches(World *w)
{
	ModelBranch *b = random_branch(w);
	uint32 what = rnd32(w, 100);

	if (what < 40)
	{
		if (w->n < MAX_BRANCHES - 2)
			after(w, allow_refusal(w, create_branch(w, b, wanted_lsn(w, b))), "branch");
	}
	else if (what < 70)
	{
		if (w->n > 1)
			after(w, delete_branch(w, b), "deletion");
	}
	else if (what < 77)
		after(w, rename_branch(w, b), "renaming");
	else if (what < 80)
		after(w, trash_branch(w, b, true), "trash");
	else if (w->n < MAX_BRANCHES - 2 && what < 90 && b->parent != NULL)
		after(w, replace_branch(w, b, b->parent, PG_UINT64_MAX, true), "reset");
	else if (w->n < MAX_BRANCHES - 2)
		after(w, allow_refusal(w, replace_branch(w, b, b, wanted_lsn(w, b), false)), "restoring");
}

/* Detached, the store perhaps restarted, and attached. */
static PsError *
detach_and_attach(World *w)
{
	PS_TRY(detach_tenant(w));
	if (rnd32(w, 3) > 0)
		return attach_tenant(w);
	world_restart(w, (FaultLoss) rnd32(w, 3), 20, rnd32(w, 2) == 0 ? set_small_sizes : NULL);
	return NULL;
}

static void
operate(World *w)
{
	ModelBranch *b = random_branch(w);
	uint32 what = rnd32(w, 1000);

	if (what < 440)
		after(w, write_records(w, b, 1 + rnd32(w, rnd32(w, 8) == 0 ? 300 : 20), false), "writing");
	else if (what < 450)
		after(w, write_records(w, b, 1, true), "writing");
	else if (what < 650)
	{
		evict_files(w, b);
		after(w, check_branch(w, b, 2, false), "reading");
	}
	else if (what < 700)
		after(w, check_moment(w, b), "looking for a moment");
	else if (what < 750)
	{
		evict_files(w, b);
		after(w, keep_branch(w, b, rnd32(w, 4) > 0), "upkeep");
		evict_files(w, b);
	}
	else if (what < 790)
		leave_branch(w, b);
	else if (what < 797)
		after(w, detach_and_attach(w), "detaching and attaching");
	else if (what < 870)
		change_branches(w);
	else if (what < 890)
		after(w, new_generation(w, b), "a new generation");
	else if (what < 910)
	{
		world_restart(w, (FaultLoss) rnd32(w, 3), 20, set_small_sizes);
		if (w->s.config.compaction_workers == 0 && w->s.config.checkpoint_distance == 1000)
			check_no_strays(w);
	}
	else if (what < 990)
		fault_arm_crash(1 + rnd32(w, rnd32(w, 2) == 0 ? 40 : 400));
	else
		fault_disarm();
	note_files(w);
}

static void
run_model(FakeSource *source, long noperations)
{
	World w;
	long next_report = noperations / 20;

	world_begin(&w, seed, source);
	w.lazy_percent = 30;
	world_restart(&w, LOSE_NOTHING, 0, set_small_sizes);
	for (long n = 0; n + w.records < noperations; n++)
	{
		operate(&w);
		if (noperations > 100000 && n + w.records > next_report)
		{
			print_message("%ld records, %ld other operations, %ld crashes\n", w.records, n, w.crashes);
			next_report += noperations / 20;
		}
	}
	fault_disarm();
	after(&w, NULL, "the end");
	for (int i = 0; i < w.n; i++)
		OK(check_branch(&w, w.branches[i], 10, true));
	world_restart(&w, LOSE_ALL, 0, NULL);
	for (int i = 0; i < w.n; i++)
	{
		OK(check_branch(&w, w.branches[i], 10, true));
		OK(keep_branch(&w, w.branches[i], true));
		OK(check_branch(&w, w.branches[i], 10, true));
	}
	print_message("%ld records, %ld crashes, %ld LSNs compared, %ld refused, %ld branches closed, %ld times detached, "
				  "up to %ld files in %d levels\n",
				  w.records, w.crashes, w.checks, w.refused, w.closed, w.detached, w.files, w.level);
	CHECK(w.crashes > 0 && (source != NULL || (w.refused > 0 && w.level > 1)));
	CHECK(noperations < 20000 || (w.closed > 0 && w.detached > 0));
	CHECK(source == NULL || w.evicted > 0);
	if (source != NULL)
		print_message("%ld layers evicted, %d requests for %llu kB\n", w.evicted, source->requests,
					  (unsigned long long) source->bytes / 1024);
	world_end(&w);
}

static void
test_model(void **state)
{
	run_model(NULL, noperations);
}

/* Layers are evicted all the time, so that most reads, merges and images of old layers go through the source. */
static void
test_evicted(void **state)
{
	FakeSource source;

	layer_retry_ms = 0;
	layer_stream_keep = PRESENCE_UNIT;
	run_model(&source, noperations / 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_evicted),
	};

	seed = getenv("TEST_SEED") != NULL ? strtoul(getenv("TEST_SEED"), NULL, 10)
									   : (uint64) time(NULL) ^ (uint64) getpid() << 16;
	print_message("TEST_SEED=%llu\n", (unsigned long long) seed);
	if (getenv("PAGESERVER_LONG") != NULL)
		noperations = 1000000;
	if (getenv("TEST_OPERATIONS") != NULL)
		noperations = atol(getenv("TEST_OPERATIONS"));
	verbose = getenv("TEST_VERBOSE") != NULL;
	ps_log_level = verbose ? PS_LOG : PS_FATAL;
	pg_logging_set_level(PG_LOG_OFF);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
