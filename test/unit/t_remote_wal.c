/*
 * t_remote_wal.c
 *	  WAL that must also be in object storage: what is acknowledged, what waits, and
 *	  what is reported.  The test itself plays the part of the thread that uploads.
 */
#include "timeline_util.h"

#include "ingest/ingest_impl.h"
#include "store/store_impl.h"

static History h;
static TestStore s;
static WalReceiver *receiver;
static uint64 rnd = 1;
static atomic_int wakes;

/* Wakeups of one thread; those that wake all that wait are not counted. */
static atomic_int signals;

extern int __real_pthread_cond_signal(pthread_cond_t *cond);
extern int __wrap_pthread_cond_signal(pthread_cond_t *cond);

int
__wrap_pthread_cond_signal(pthread_cond_t *cond)
{
	atomic_fetch_add(&signals, 1);
	return __real_pthread_cond_signal(cond);
}

static void
on_wake(void *arg)
{
	CHECK(arg == &wakes);
	atomic_fetch_add(&wakes, 1);
}

/* A branch with a compute, whose WAL is uploaded; *start is where its WAL goes on. */
static void
begin(XLogRecPtr *start)
{
	uint64 generation;
	WalState state;
	XLogRecPtr checkpoint;

	history_begin(&h, rnd);
	for (int i = 0; i < 200; i++)
		add_random_record(&h);
	store_make(&s, &h);
	s.config.wal_upload_interval = 5000;
	OK(timeline_new_generation(s.tl, "test", NULL, &generation, &state, &checkpoint));
	OK(wal_receiver_open(s.tl, generation, &receiver, start));
	atomic_store(&wakes, 0);
	wal_receiver_set_wake(receiver, on_wake, &wakes);
}

static void
end(void)
{
	wal_receiver_close(receiver);
	store_close(s.store);
	remove_tree(s.dir);
	history_end(&h);
}

/* Changes the mode while other threads read the settings. */
static void
reload_mode(char *mode)
{
	static Config fresh;

	fresh = s.config;
	fresh.wal_acknowledge = mode;
	store_reload(s.store, &fresh);
}

static XLogRecPtr
send_record(XLogRecPtr from)
{
	XLogRecPtr flushed;
	XLogRecPtr to = h.gen.records[history_find(&h, from) + h.first + 1].end;

	OK(push(receiver, &h, from, to, &rnd, &flushed));
	CHECK(flushed == to);
	return to;
}

/* ---- what is acknowledged ---- */

static void
test_acknowledged(void **state)
{
	XLogRecPtr start;
	XLogRecPtr first;
	XLogRecPtr second;

	begin(&start);
	/* without object storage */
	CHECK(wal_receiver_acknowledged(receiver) == start && wal_receiver_keep_from(receiver) == InvalidXLogRecPtr);
	OK(wal_remote_wait(s.tl, PG_UINT64_MAX, -1, NULL));

	wal_remote_begin(s.tl, start);
	first = send_record(start);
	CHECK(wal_receiver_acknowledged(receiver) == first && wal_receiver_keep_from(receiver) == start);
	wal_remote_set_lsn(s.tl, first);
	CHECK(atomic_load(&wakes) == 0);

	s.config.wal_acknowledge = "bucket";
	second = send_record(first);
	CHECK(wal_receiver_acknowledged(receiver) == first);
	wal_remote_set_lsn(s.tl, second - 1);
	CHECK(atomic_load(&wakes) == 1 && wal_receiver_acknowledged(receiver) == second - 1);
	wal_remote_set_lsn(s.tl, second);
	CHECK(atomic_load(&wakes) == 2 && wal_receiver_acknowledged(receiver) == second);

	/* never more than what is durable here */
	wal_remote_set_lsn(s.tl, second + 100);
	CHECK(wal_receiver_acknowledged(receiver) == second);
	wal_remote_set_lsn(s.tl, second);

	/* a reload that makes more WAL acknowledged wakes the connection */
	first = send_record(second);
	CHECK(wal_receiver_acknowledged(receiver) == second);
	s.config.wal_acknowledge = "local";
	atomic_store(&wakes, 0);
	store_reload(s.store, &s.config);
	CHECK(atomic_load(&wakes) == 1 && wal_receiver_acknowledged(receiver) == first);
	end();
}

/* In mode bucket nothing is acknowledged while nobody uploads, as when it is not known who owns the tenant. */
static void
test_nobody_uploads(void **state)
{
	XLogRecPtr start;

	begin(&start);
	s.config.wal_acknowledge = "bucket";
	send_record(start);
	CHECK(wal_receiver_acknowledged(receiver) == InvalidXLogRecPtr);
	end();
}

/* ---- when there is something to upload ---- */

typedef struct Uploader
{
	pthread_t thread;
	XLogRecPtr from;
	bool again; /* until the timeline stops */
	atomic_int chunks;
} Uploader;

static void *
uploader_main(void *arg)
{
	Uploader *u = arg;
	XLogRecPtr to;
	uint64 generation;

	do
	{
		if (!wal_remote_next(s.tl, u->from, &to, &generation))
			break;
		CHECK(to > u->from && generation == 1);
		u->from = to;
		wal_remote_set_lsn(s.tl, to);
		atomic_fetch_add(&u->chunks, 1);
	} while (u->again);
	return NULL;
}

static void
start_uploader(Uploader *u, XLogRecPtr from, bool again)
{
	*u = (Uploader) {.from = from, .again = again};
	CHECK(pthread_create(&u->thread, NULL, uploader_main, u) == 0);
}

static void
wait_asleep(void)
{
	bool asleep = false;

	while (!asleep)
	{
		pthread_mutex_lock(&s.tl->lock);
		asleep = s.tl->remote.is_asleep;
		pthread_mutex_unlock(&s.tl->lock);
		pg_usleep(1000);
	}
}

static void
test_next(void **state)
{
	XLogRecPtr start;
	XLogRecPtr lsn;
	Uploader u;
	int64 began;

	begin(&start);
	wal_remote_begin(s.tl, start);

	/* not before the interval is over */
	s.config.wal_upload_interval = 300;
	start_uploader(&u, start, false);
	began = clock_now_ms();
	lsn = send_record(start);
	pthread_join(u.thread, NULL);
	CHECK(clock_now_ms() - began >= 300 && u.from == lsn);

	/* at once: if somebody waits for it */
	s.config.wal_upload_interval = INT_MAX;
	start_uploader(&u, lsn, false);
	lsn = send_record(lsn);
	OK(wal_remote_wait(s.tl, lsn, 60000, NULL));
	pthread_join(u.thread, NULL);
	CHECK(u.from == lsn);

	/* in mode bucket, also when the mode is changed while the uploader sleeps */
	start_uploader(&u, lsn, true);
	lsn = send_record(lsn);
	CHECK(atomic_load(&u.chunks) == 0);
	reload_mode("bucket");
	while (wal_receiver_acknowledged(receiver) < lsn)
		pg_usleep(1000);
	lsn = send_record(lsn);
	while (wal_receiver_acknowledged(receiver) < lsn)
		pg_usleep(1000);

	/* a stop ends it */
	timeline_stop(s.tl, CANCEL_STORE_STOPPING);
	pthread_join(u.thread, NULL);
	CHECK(u.from == lsn && atomic_load(&u.chunks) == 2);
	end();
}

/* Commits wake the uploader only if there is something to do for it, and nobody if there is none. */
static void
test_no_wakeups(void **state)
{
	XLogRecPtr start;
	XLogRecPtr lsn;
	Uploader u;
	int before;

	begin(&start);
	before = atomic_load(&signals);
	lsn = send_record(start);
	CHECK(atomic_load(&signals) == before);
	OK(timeline_wait_ingested(s.tl, lsn, 60000, NULL));

	wal_remote_begin(s.tl, lsn);
	s.config.wal_upload_interval = INT_MAX;
	start_uploader(&u, lsn, true);
	wait_asleep();
	for (int i = 0; i < 50; i++)
	{
		lsn = send_record(lsn);
		CHECK(atomic_load(&signals) == before + 1);
		wait_asleep();
	}
	reload_mode("bucket");
	while (wal_receiver_acknowledged(receiver) < lsn)
		pg_usleep(1000);
	wait_asleep();
	before = atomic_load(&signals);
	lsn = send_record(lsn);
	CHECK(atomic_load(&signals) == before + 1);
	while (wal_receiver_acknowledged(receiver) < lsn)
		pg_usleep(1000);
	CHECK(atomic_load(&u.chunks) == 2);
	timeline_stop(s.tl, CANCEL_STORE_STOPPING);
	pthread_join(u.thread, NULL);
	end();
}

/* ---- the lag ---- */

static int64
lag(void)
{
	TimelineInfo info;

	timeline_info(s.tl, &info);
	return info.bucket_lag;
}

/* Moves all marks into the past. */
static void
age(int64 ms)
{
	pthread_mutex_lock(&s.tl->lock);
	for (int i = 0; i < s.tl->remote.nmarks; i++)
		s.tl->remote.marks[i].time -= ms;
	pthread_mutex_unlock(&s.tl->lock);
}

/* Says how old the oldest WAL is that was not uploaded: never less, and not much more. */
static void
test_age(void **state)
{
	XLogRecPtr start;
	XLogRecPtr ends[150];
	XLogRecPtr lsn;

	begin(&start);
	wal_remote_begin(s.tl, start);
	CHECK(lag() == 0);
	lsn = start;
	for (int i = 0; i < lengthof(ends); i++)
	{
		/* ends[i] arrived lengthof(ends) - i times 10 s ago */
		ends[i] = lsn = send_record(lsn);
		age(10000);
	}
	for (int i = 0; i < lengthof(ends) - 1; i++)
	{
		int64 oldest = (int64) (lengthof(ends) - (i + 1)) * 10000;

		wal_remote_set_lsn(s.tl, ends[i]);
		CHECK(lag() >= oldest && lag() < oldest + 11000 + 1500000 / 16);
	}
	wal_remote_set_lsn(s.tl, lsn);
	CHECK(lag() == 0);
	end();
}

typedef struct Writer
{
	pthread_t thread;
	XLogRecPtr lsn;
	atomic_bool done;
} Writer;

static void *
writer_main(void *arg)
{
	Writer *w = arg;

	w->lsn = send_record(w->lsn);
	atomic_store(&w->done, true);
	return NULL;
}

static void
test_max_lag(void **state)
{
	XLogRecPtr start;
	XLogRecPtr lsn;
	Writer w = {0};
	TimelineInfo info;
	char text[256];

	begin(&start);
	wal_remote_begin(s.tl, start);
	s.config.wal_upload_max_lag = 100;
	lsn = send_record(start);
	age(99000);
	lsn = send_record(lsn);
	CHECK(!wal_receiver_waits_for(receiver, text, sizeof(text)));
	age(2000);
	wal_remote_set_error(s.tl, "no such bucket");
	CHECK(wal_receiver_waits_for(receiver, text, sizeof(text)));
	CHECK(strstr(text, "object storage, which has no WAL of the last 101 s") != NULL);
	CHECK(strstr(text, "no such bucket") != NULL);

	/* not in mode bucket, in which nothing would be lost; nor without a limit */
	s.config.wal_acknowledge = "bucket";
	lsn = send_record(lsn);
	s.config.wal_acknowledge = NULL;
	s.config.wal_upload_max_lag = 0;
	lsn = send_record(lsn);
	s.config.wal_upload_max_lag = 100;

	w.lsn = lsn;
	CHECK(pthread_create(&w.thread, NULL, writer_main, &w) == 0);
	do
		timeline_info(s.tl, &info);
	while (info.waits_for[0] == '\0');
	CHECK(strstr(info.waits_for, "wal_upload_max_lag is 100 s") != NULL);
	CHECK(strstr(info.waits_for, "no such bucket") != NULL);
	CHECK(!atomic_load(&w.done));
	/* what was uploaded now is old, but what was not is not */
	wal_remote_set_lsn(s.tl, lsn);
	pthread_join(w.thread, NULL);
	timeline_info(s.tl, &info);
	CHECK(info.waits_for[0] == '\0' && info.bucket_lsn == lsn && info.flushed_lsn == w.lsn);
	end();
}

/* ---- the start of a compute ---- */

static PsError *
give_up(void *arg)
{
	if (atomic_fetch_add((atomic_int *) arg, 1) < 3)
		return NULL;
	return cancel_error(CANCEL_BY_CLIENT, NULL);
}

typedef struct Start
{
	pthread_t thread;
	atomic_bool done;
	XLogRecPtr end;
} Start;

static void *
start_main(void *arg)
{
	Start *start = arg;
	uint64 generation;
	WalState state;
	XLogRecPtr checkpoint;

	OK(timeline_new_generation(s.tl, "next", NULL, &generation, &state, &checkpoint));
	start->end = state.end;
	atomic_store(&start->done, true);
	return NULL;
}

/* A compute is not started before its checkpoint is in object storage, whatever the mode. */
static void
test_checkpoint(void **state)
{
	for (int bucket = 0; bucket < 2; bucket++)
	{
		XLogRecPtr start;
		XLogRecPtr lsn;
		Start next = {0};
		Uploader u;
		atomic_int asked = 0;
		CancelCheck cancel = {give_up, &asked};
		uint64 generation;
		WalState wal_state;
		XLogRecPtr checkpoint;

		begin(&start);
		s.config.wal_acknowledge = bucket ? "bucket" : "local";
		wal_remote_begin(s.tl, start);
		lsn = send_record(start);
		s.config.wait_timeout = 200;
		FAILS(timeline_new_generation(s.tl, "next", NULL, &generation, &wal_state, &checkpoint), PS_SQLSTATE_TRY_AGAIN,
			  "object storage has WAL up to");
		s.config.wait_timeout = 60000;
		FAILS(timeline_new_generation(s.tl, "next", &cancel, &generation, &wal_state, &checkpoint),
			  PS_SQLSTATE_CANCELED, "cancel");
		CHECK(pthread_create(&next.thread, NULL, start_main, &next) == 0);
		wal_remote_set_lsn(s.tl, lsn);
		pg_usleep(200000);
		CHECK(!atomic_load(&next.done));
		/* the wait has asked for it */
		u.from = lsn;
		CHECK(wal_remote_next(s.tl, lsn, &u.from, &generation));
		CHECK(u.from > lsn && generation == 4);
		wal_remote_set_lsn(s.tl, u.from);
		pthread_join(next.thread, NULL);
		CHECK(next.end == u.from);
		end();
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_acknowledged),
		cmocka_unit_test(test_nobody_uploads),
		cmocka_unit_test(test_next),
		cmocka_unit_test(test_no_wakeups),
		cmocka_unit_test(test_age),
		cmocka_unit_test(test_max_lag),
		cmocka_unit_test(test_checkpoint),
	};

	ps_log_level = PS_FATAL;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
