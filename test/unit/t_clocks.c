/*
 * t_clocks.c
 *	  Clocks that are wrong: that of the store's machine, those of computes.
 *
 * Rules: nothing is removed because a clock was set, nor because of the times
 * that commits say; it is removed when the store has run for pitr_interval since
 * it came; a store from before arrivals were noted begins to count when it is
 * opened.  A moment is where the first later commit is, unless that came from a
 * clock that was ahead.  Retention waits for who looks for a moment.
 *
 * The program is linked with --wrap=clock_gettime: time passes when a test says
 * so.
 */
#include "timeline_util.h"

#include "sqlstate.h"
#include "timeline/arrivals.h"
#include "store/store_impl.h"

#define DAY    USECS_PER_DAY
#define MINUTE (60 * USECS_PER_SEC)

static uint64 rnd;

static atomic_int_fast64_t machine_shift; /* of CLOCK_REALTIME, us */
static atomic_int_fast64_t boot_shift;    /* of CLOCK_BOOTTIME */

/* Called once by the thread that has set it, when that asks for the machine's time for so many times. */
static __thread void (*at_look)(void);
static __thread int looks;

extern int __real_clock_gettime(clockid_t id, struct timespec *ts);
extern int __wrap_clock_gettime(clockid_t id, struct timespec *ts);

int
__wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
	int rc = __real_clock_gettime(id, ts);
	int64 shift = id == CLOCK_REALTIME ? atomic_load(&machine_shift) : id == CLOCK_BOOTTIME ? atomic_load(&boot_shift)
																							: 0;
	int64 ns = ts->tv_nsec + shift % USECS_PER_SEC * 1000;
	void (*call)(void) = at_look;

	ts->tv_sec += shift / USECS_PER_SEC + (ns < 0 ? -1 : ns / 1000000000);
	ts->tv_nsec = (ns + 1000000000) % 1000000000;
	if (id == CLOCK_REALTIME && call != NULL && --looks == 0)
	{
		at_look = NULL;
		call();
	}
	return rc;
}

static void
pass(int64 us)
{
	atomic_fetch_add(&machine_shift, us);
	atomic_fetch_add(&boot_shift, us);
}

/* ---- a branch with commits ---- */

static void
make_store(TestStore *s, History *h, int pitr_interval)
{
	history_begin(h, rnd);
	store_make(s, h);
	s->config.checkpoint_distance = 0;
	s->config.pitr_interval = pitr_interval;
	s->config.gc_horizon = 0;
	s->config.compaction_threshold = s->config.compaction_fanout = 100;
	s->config.compaction_memory = s->config.target_file_size = 1;
	s->config.image_delta_records = s->config.image_delta_percent = s->config.image_delta_layers = 1000;
}

static void
end_test(TestStore *s, History *h)
{
	store_close(s->store);
	remove_tree(s->dir);
	history_end(h);
}

/* A commit, taken in, noted and written; returns its end.  A minute passes before and after. */
static XLogRecPtr
commit(TestStore *s, Timeline *tl, History *h, TimestampTz when)
{
	XLogRecPtr start;
	XLogRecPtr flushed;
	WalReceiver *receiver;
	TimestampTz noted;

	pass(MINUTE);
	/* no compute starts, which would write a checkpoint */
	tl->generation = 1;
	history_next(h);
	gen_commit(&h->gen, (TransactionId) history_now(h)->next_xid++, when, false, 0, -1);
	OK(wal_receiver_open(tl, tl->generation, &receiver, &start));
	OK(push(receiver, h, start, h->gen.pos, &rnd, &flushed));
	wal_receiver_close(receiver);
	OK(timeline_wait_ingested(tl, h->gen.pos, 60000, NULL));
	while (!timeline_is_settled(tl) || !arrivals_time_of(tl->arrivals, h->gen.pos, &noted))
		pg_usleep(1000);
	pass(MINUTE);
	return h->gen.pos;
}

static TimestampTz
now(void)
{
	return machine_clock_now();
}

static XLogRecPtr
cutoff_after_upkeep(Timeline *tl)
{
	OK(maintain_timeline(tl, true));
	return timeline_gc_cutoff(tl);
}

/* ---- the store's own clock ---- */

static void
test_clock(void **state)
{
	char dir[] = "/tmp/t_clocks.XXXXXX";
	char path[64];
	char byte = 1;
	StoreClock *clock;
	int64 before;
	PsId id;
	int fd;

	CHECK(mkdtemp(dir) != NULL);
	snprintf(path, sizeof(path), "%s/clock", dir);
	OK(store_clock_open(dir, &clock));
	id = *store_clock_id(clock);
	before = store_clock_now(clock);
	pass(DAY);
	CHECK(store_clock_now(clock) - before >= DAY && store_clock_now(clock) - before < DAY + 60 * USECS_PER_SEC);
	/* nothing that happens to the machine's clock means anything, while it runs and while it does not */
	before = store_clock_now(clock);
	atomic_fetch_add(&machine_shift, 1000 * DAY);
	store_clock_tick(clock);
	CHECK(store_clock_now(clock) - before < 60 * USECS_PER_SEC);
	store_clock_close(clock);
	atomic_fetch_sub(&machine_shift, 1500 * DAY);
	OK(store_clock_open(dir, &clock));
	CHECK(ps_id_equal(store_clock_id(clock), &id));
	CHECK(store_clock_now(clock) >= before && store_clock_now(clock) - before < 60 * USECS_PER_SEC);

	/* killed after it had written the file at a tick */
	pass(2 * DAY);
	store_clock_tick(clock);
	before = store_clock_now(clock);
	pass(DAY);
	{
		StoreClock *again;

		OK(store_clock_open(dir, &again));
		CHECK(store_clock_now(again) > before - 60 * USECS_PER_SEC &&
			  store_clock_now(again) < before + 60 * USECS_PER_SEC);
		store_clock_close(again);
	}
	store_clock_close(clock);

	/* damaged: another clock */
	fd = open(path, O_RDWR);
	CHECK(fd >= 0 && pwrite(fd, &byte, 1, 30) == 1);
	close(fd);
	OK(store_clock_open(dir, &clock));
	CHECK(!ps_id_equal(store_clock_id(clock), &id));
	store_clock_close(clock);
	/* of a later version: nobody knows what it says */
	fd = open(path, O_RDWR);
	byte = 9;
	CHECK(fd >= 0 && pwrite(fd, &byte, 1, 7) == 1);
	close(fd);
	FAILS(store_clock_open(dir, &clock), PS_SQLSTATE_STATE, "format version 9");
	remove_tree(dir);
	atomic_fetch_add(&machine_shift, 500 * DAY);
}

/* ---- arrivals ---- */

/* Noted for three weeks, every few seconds to hours: the number stays small, and what is told of each age is close. */
static void
test_arrivals(void **state)
{
	char dir[] = "/tmp/t_clocks.XXXXXX";
	char path[64];
	StoreClock *clock;
	Arrivals *arrivals;
	XLogRecPtr lsn = 1000;
	TimestampTz begin = now();
	struct stat st;

	CHECK(mkdtemp(dir) != NULL);
	snprintf(path, sizeof(path), "%s/" ARRIVALS_FILE, dir);
	OK(store_clock_open(dir, &clock));
	arrivals = arrivals_open(dir, clock, lsn);
	for (int i = 0; i < 20000; i++)
	{
		pass(USECS_PER_SEC * (1 + next_random(&rnd, i % 1000 == 0 ? 36000 : 90)));
		CHECK(arrivals_note(arrivals, ++lsn) == 0);
		/* a moment later nothing is noted, but it says when to come again */
		CHECK(arrivals_note(arrivals, lsn + 1) > 0);
		if (i % 4000 == 0)
		{
			arrivals_close(arrivals);
			store_clock_close(clock);
			OK(store_clock_open(dir, &clock));
			arrivals = arrivals_open(dir, clock, lsn);
		}
	}
	CHECK(stat(path, &st) == 0 && st.st_size <= 2048 * ARRIVALS_ENTRY_SIZE + ARRIVALS_HEAD_SIZE);
	for (int64 age = MINUTE; age < now() - begin; age = age * 5 / 4)
	{
		XLogRecPtr old = arrivals_older_than(arrivals, age);
		TimestampTz when;

		/* they come in order, so the next one is younger */
		CHECK(old >= 1000 && old == arrivals_at(arrivals, now() - age));
		CHECK(arrivals_time_of(arrivals, old, &when) && when <= now() - age &&
			  when > now() - age - Max(age / 16, 20 * 3600 * USECS_PER_SEC));
		if (age < 3600 * USECS_PER_SEC)
			CHECK(when > now() - age - 3 * MINUTE);
		CHECK(arrivals_time_of(arrivals, old + 1, &when) && when > now() - age);
	}
	CHECK(arrivals_older_than(arrivals, 1000 * DAY) == InvalidXLogRecPtr);
	CHECK(!arrivals_time_of(arrivals, lsn + 1, &begin));
	arrivals_close(arrivals);

	/* the end of WAL went back: what was noted beyond it was of other WAL */
	arrivals = arrivals_open(dir, clock, lsn - 10);
	CHECK(arrivals_older_than(arrivals, 0) <= lsn - 10);
	pass(MINUTE);
	CHECK(arrivals_note(arrivals, lsn) == 0);
	CHECK(arrivals_older_than(arrivals, MINUTE) <= lsn - 10);
	arrivals_close(arrivals);
	/* a torn entry, and a file of another store's clock */
	CHECK(stat(path, &st) == 0 && truncate(path, st.st_size - 1) == 0);
	arrivals = arrivals_open(dir, clock, lsn);
	CHECK(arrivals_older_than(arrivals, MINUTE) <= lsn - 10 && arrivals_older_than(arrivals, MINUTE) > 1000);
	arrivals_close(arrivals);
	store_clock_close(clock);
	snprintf(path, sizeof(path), "%s/clock", dir);
	CHECK(unlink(path) == 0);
	OK(store_clock_open(dir, &clock));
	pass(MINUTE);
	arrivals = arrivals_open(dir, clock, lsn);
	CHECK(arrivals_older_than(arrivals, MINUTE) == InvalidXLogRecPtr);
	arrivals_close(arrivals);
	store_clock_close(clock);
	remove_tree(dir);
}

/* ---- what is removed ---- */

static void
test_retention(void **state)
{
	History h;
	TestStore s;
	XLogRecPtr start;
	XLogRecPtr second;

	make_store(&s, &h, 7 * 86400);
	start = s.tl->spec->start_lsn;
	/* a compute whose clock is years behind, and one that is as far ahead */
	commit(&s, s.tl, &h, now() - 5000 * DAY);
	CHECK(cutoff_after_upkeep(s.tl) == start);
	second = commit(&s, s.tl, &h, now() + 5000 * DAY);
	CHECK(cutoff_after_upkeep(s.tl) == start);

	/* the machine's clock is ahead for a moment, while the store runs, and when it starts */
	atomic_fetch_add(&machine_shift, 100 * DAY);
	CHECK(cutoff_after_upkeep(s.tl) == start);
	commit(&s, s.tl, &h, now());
	CHECK(cutoff_after_upkeep(s.tl) == start);
	store_reopen(&s);
	CHECK(cutoff_after_upkeep(s.tl) == start);
	atomic_fetch_sub(&machine_shift, 100 * DAY);
	store_reopen(&s);
	CHECK(cutoff_after_upkeep(s.tl) == start);

	/* time passes; that a commit is to come by its own time does not keep it */
	pass(6 * DAY);
	CHECK(cutoff_after_upkeep(s.tl) == start);
	commit(&s, s.tl, &h, now());
	pass(DAY + 10 * MINUTE);
	CHECK(cutoff_after_upkeep(s.tl) > second);
	CHECK(timeline_gc_cutoff(s.tl) < h.gen.pos);
	FAILS(timeline_pin(s.tl, second), PS_SQLSTATE_INVALID, "can be read from");
	end_test(&s, &h);
}

/* A store that was written before arrivals were noted. */
static void
test_old_store(void **state)
{
	History h;
	TestStore s;
	XLogRecPtr start;
	char path[512];

	make_store(&s, &h, 7 * 86400);
	start = s.tl->spec->start_lsn;
	commit(&s, s.tl, &h, now() - 30 * DAY);
	commit(&s, s.tl, &h, now());
	pass(8 * DAY);
	store_close(s.store);
	CHECK(unlink(store_path(&s, ARRIVALS_FILE, path)) == 0);
	snprintf(path, sizeof(path), "%s/clock", s.dir);
	CHECK(unlink(path) == 0);
	OK(store_try_open(&s));
	CHECK(cutoff_after_upkeep(s.tl) == start);
	pass(6 * DAY);
	CHECK(cutoff_after_upkeep(s.tl) == start);
	pass(DAY + MINUTE);
	CHECK(cutoff_after_upkeep(s.tl) == h.gen.pos);
	end_test(&s, &h);
}

/* ---- moments ---- */

static void
check_moment(Timeline *tl, TimestampTz when, Timeline *at, XLogRecPtr lsn)
{
	Timeline *found_at;
	XLogRecPtr found;

	OK(timeline_lsn_at_time(tl, when, NULL, &found_at, &found));
	if (found_at != at || found != lsn)
	{
		fprintf(stderr, "the moment is %X/%X of \"%s\", expected %X/%X of \"%s\"\n", LSN_FORMAT_ARGS(found),
				timeline_name(found_at), LSN_FORMAT_ARGS(lsn), timeline_name(at));
		abort();
	}
}

static void
test_ahead(void **state)
{
	History h;
	TestStore s;
	XLogRecPtr c[5];
	TimestampTz t[5];
	TimestampTz t_ahead;
	Timeline *branch;
	CommitsAround around;

	make_store(&s, &h, 7 * 86400);
	t[0] = now() + MINUTE;
	c[0] = commit(&s, s.tl, &h, t[0]);
	t[1] = now() + MINUTE;
	t_ahead = now() + DAY;
	c[1] = commit(&s, s.tl, &h, t_ahead);
	/* the last one says a time that is to come: the store had it, so it has been */
	check_moment(s.tl, now(), s.tl, c[1]);
	check_moment(s.tl, t[0], s.tl, c[0]);
	t[2] = now() + MINUTE;
	c[2] = commit(&s, s.tl, &h, t[2]);
	for (int i = 0; i < 2; i++)
	{
		check_moment(s.tl, t[0], s.tl, c[0]);
		check_moment(s.tl, t[1] - MINUTE, s.tl, c[0]);
		check_moment(s.tl, t[1] + MINUTE, s.tl, c[1]);
		check_moment(s.tl, t[2] + MINUTE / 2, s.tl, c[2]);
		check_moment(s.tl, now(), s.tl, c[2]);
		store_reopen(&s);
	}
	OK(timeline_commits_around(s.tl, c[0], NULL, &around));
	CHECK(around.has_last && around.last == t[0] && around.last_end == c[0]);
	CHECK(around.has_next && around.next == t_ahead);
	OK(timeline_commits_around(s.tl, c[2], NULL, &around));
	CHECK(around.last == t[2] && around.next_known && !around.has_next);

	/* from a branch, before and after its beginning */
	OK(store_branch(s.store, "branch", s.tl, PG_UINT64_MAX, NULL, &branch));
	check_moment(branch, t[2] + MINUTE / 2, s.tl, c[2]);
	check_moment(branch, t[0], s.tl, c[0]);
	OK(timeline_commits_around(branch, c[0], NULL, &around));
	CHECK(around.last == t[0] && around.has_next && around.next == t_ahead);
	t[3] = now() + MINUTE;
	c[3] = commit(&s, branch, &h, t[3]);
	check_moment(branch, now(), branch, c[3]);
	check_moment(branch, t[1] + MINUTE, s.tl, c[1]);
	OK(timeline_commits_around(branch, c[1], NULL, &around));
	CHECK(around.last == t_ahead && around.next == t[2]);
	/* its first commit comes after the end of what it has of the other */
	OK(timeline_commits_around(branch, branch->spec->start_lsn, NULL, &around));
	CHECK(around.last == t[2] && around.has_next && around.next == t[3]);

	/* when the time has come that it said, nothing is different */
	pass(2 * DAY);
	check_moment(branch, t[1] + MINUTE, s.tl, c[1]);
	check_moment(branch, t[3], branch, c[3]);
	check_moment(branch, now(), branch, c[3]);

	/* nor when it can be read no longer */
	pass(6 * DAY);
	CHECK(cutoff_after_upkeep(branch) == c[3]);
	check_moment(branch, now(), branch, c[3]);
	t[4] = now() + MINUTE;
	c[4] = commit(&s, branch, &h, t[4]);
	check_moment(branch, t[4] - MINUTE, branch, c[3]);
	check_moment(branch, now(), branch, c[4]);
	{
		Timeline *at;
		XLogRecPtr lsn;

		FAILS(timeline_lsn_at_time(branch, t[3] - MINUTE, NULL, &at, &lsn), PS_SQLSTATE_INVALID, "was requested");
	}
	store_release(branch);
	end_test(&s, &h);
}

/* A clock that goes back is no reason to show what came later than the moment. */
static void
test_behind(void **state)
{
	History h;
	TestStore s;
	XLogRecPtr c[3];
	TimestampTz t;

	make_store(&s, &h, 7 * 86400);
	t = now();
	c[0] = commit(&s, s.tl, &h, t + MINUTE);
	c[1] = commit(&s, s.tl, &h, now() + MINUTE);
	c[2] = commit(&s, s.tl, &h, t - 3 * DAY);
	check_moment(s.tl, t + MINUTE, s.tl, c[0]);
	check_moment(s.tl, t + 2 * MINUTE, s.tl, c[0]);
	check_moment(s.tl, now(), s.tl, c[2]);
	end_test(&s, &h);
}

/* A compute's clock that is an hour ahead all the time is as good as any: it is that which its users see. */
static void
test_ahead_always(void **state)
{
	History h;
	TestStore s;
	XLogRecPtr c[2];
	TimestampTz t[2];

	make_store(&s, &h, 7 * 86400);
	for (int i = 0; i < 2; i++)
	{
		t[i] = now() + 61 * MINUTE;
		c[i] = commit(&s, s.tl, &h, t[i]);
	}
	pass(DAY);
	check_moment(s.tl, t[0], s.tl, c[0]);
	check_moment(s.tl, t[1] - MINUTE / 2, s.tl, c[0]);
	check_moment(s.tl, t[1], s.tl, c[1]);
	end_test(&s, &h);
}

/* ---- retention while somebody looks for a moment ---- */

static Timeline *upkeep_of;

static void
run_upkeep(void)
{
	OK(maintain_timeline(upkeep_of, true));
}

static void
test_retention_meanwhile(void **state)
{
	History h;
	TestStore s;
	XLogRecPtr c[3];
	TimestampTz t;
	XLogRecPtr cutoff;

	make_store(&s, &h, 7 * 86400);
	c[0] = commit(&s, s.tl, &h, now());
	c[1] = commit(&s, s.tl, &h, now() + DAY);
	t = now();
	c[2] = commit(&s, s.tl, &h, now() + DAY);
	/* more WAL than the segment in which these are */
	while (h.gen.pos < c[2] + 3 * SEGMENT_SIZE)
	{
		history_next(&h);
		gen_record(&h.gen, RM_XLOG_ID, XLOG_SWITCH, 0, NULL, 0);
		commit(&s, s.tl, &h, now() + DAY);
	}
	cutoff = cutoff_after_upkeep(s.tl);
	CHECK(cutoff <= c[0]);

	/* all of it may go now; who looks at it meanwhile finds it */
	s.config.pitr_interval = 0;
	upkeep_of = s.tl;
	at_look = run_upkeep;
	/* the second time it is to know whether the clock of a commit was ahead */
	looks = 2;
	check_moment(s.tl, t, s.tl, c[1]);
	CHECK(at_look == NULL);
	CHECK(timeline_gc_cutoff(s.tl) == cutoff);
	CHECK(cutoff_after_upkeep(s.tl) > c[2]);
	end_test(&s, &h);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clock),
		cmocka_unit_test(test_arrivals),
		cmocka_unit_test(test_retention),
		cmocka_unit_test(test_old_store),
		cmocka_unit_test(test_ahead),
		cmocka_unit_test(test_behind),
		cmocka_unit_test(test_ahead_always),
		cmocka_unit_test(test_retention_meanwhile),
	};
	const char *seed = getenv("TEST_SEED");

	rnd = seed != NULL ? strtoul(seed, NULL, 10) : (uint64) time(NULL) ^ (uint64) getpid() << 16;
	print_message("TEST_SEED=%llu\n", (unsigned long long) rnd);
	ps_log_level = getenv("TEST_VERBOSE") ? PS_DEBUG : PS_FATAL;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
