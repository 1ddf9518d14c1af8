/*
 * t_branch.c
 *	  Where branches begin, at the edges.
 *
 * Rules: a moment counts whatever was acknowledged before the question, though
 * it is not ingested yet; an LSN that has come is not rounded down to what was
 * durable a moment ago; nobody begins in a branch that is being deleted; a
 * compute starts on a branch wherever that begins, also if the checkpoint
 * before it is in the parent's WAL only.
 *
 * TEST_SEED in the environment repeats a run.
 */
#include "timeline_util.h"

#include "sqlstate.h"
#include "store/store_impl.h"

static uint64 rnd;

static WalReceiver *
new_receiver(TestStore *s, Timeline *tl, XLogRecPtr *start)
{
	uint64 generation;
	WalState state;
	XLogRecPtr checkpoint;
	WalReceiver *receiver;

	OK(timeline_new_generation(tl, "test", NULL, &generation, &state, &checkpoint));
	OK(wal_receiver_open(tl, generation, &receiver, start));
	return receiver;
}

static void
send_bytes(WalReceiver *receiver, const History *h, XLogRecPtr from, XLogRecPtr to)
{
	OK(wal_receiver_write(receiver, from, h->gen.bytes.data + (from - h->gen.start), to - from, NULL));
}

static void
end_test(TestStore *s, History *h)
{
	store_close(s->store);
	remove_tree(s->dir);
	history_end(h);
}

/* ---- what is not ingested yet ---- */

/* Ingest waits after a batch (wait_for_memory()) as long as the branch takes too much memory. */
static void
hold_ingest(TestStore *s, int64 by)
{
	memory_budget_take(s->tl->env->memory, &s->tl->memory, by);
}

static void *
let_ingest_go_on(void *arg)
{
	pg_usleep(200 * 1000);
	hold_ingest(arg, -((int64) 1 << 40));
	return NULL;
}

static void
test_moment_not_ingested(void **state)
{
	History h;
	TestStore s;
	XLogRecPtr start;
	XLogRecPtr flushed;
	XLogRecPtr lsn;
	XLogRecPtr expected;
	WalReceiver *receiver;
	Timeline *at;
	pthread_t thread;

	history_begin(&h, rnd);
	for (int i = 0; i < 2000; i++)
	{
		history_next(&h)->next_xid++;
		gen_commit(&h.gen, 1000 + i, 1000 + i * 10, false, 0, -1);
	}
	store_make(&s, &h);
	receiver = new_receiver(&s, s.tl, &start);
	hold_ingest(&s, (int64) 1 << 40);
	send_bytes(receiver, &h, start, h.gen.pos);
	OK(wal_receiver_sync(receiver, &flushed));
	CHECK(flushed == h.gen.pos);
	CHECK(pthread_create(&thread, NULL, let_ingest_go_on, &s) == 0);

	/* all of these are acknowledged; that of time 1000 + 1500 * 10 and those before it belong to the moment */
	expected = h.gen.records[h.first + 1501].end;
	OK(timeline_lsn_at_time(s.tl, 1000 + 1500 * 10, NULL, &at, &lsn));
	CHECK(at == s.tl);
	CHECK(lsn == expected);
	/* the time of a commit itself, just before it, and later than all */
	OK(timeline_lsn_at_time(s.tl, 1000 + 1500 * 10 - 1, NULL, &at, &lsn));
	CHECK(lsn == h.gen.records[h.first + 1500].end);
	OK(timeline_lsn_at_time(s.tl, PG_INT64_MAX, NULL, &at, &lsn));
	CHECK(lsn == h.gen.pos);
	pthread_join(thread, NULL);
	wal_receiver_close(receiver);
	end_test(&s, &h);
}

static void *
sync_later(void *arg)
{
	XLogRecPtr flushed;

	pg_usleep(200 * 1000);
	OK(wal_receiver_sync(arg, &flushed));
	return NULL;
}

static void
test_lsn_not_flushed(void **state)
{
	History h;
	TestStore s;
	XLogRecPtr start;
	XLogRecPtr asked;
	WalReceiver *receiver;
	Timeline *tl;
	TimelineInfo info;
	pthread_t thread;

	history_begin(&h, rnd);
	for (int i = 0; i < 20; i++)
		add_commit(&h, 0, -1);
	store_make(&s, &h);
	receiver = new_receiver(&s, s.tl, &start);
	send_bytes(receiver, &h, start, h.gen.pos - 8);
	CHECK(pthread_create(&thread, NULL, sync_later, receiver) == 0);
	asked = h.gen.records[h.gen.n - 2].end;
	OK(store_branch(s.store, "exact", s.tl, asked, NULL, &tl));
	timeline_info(tl, &info);
	CHECK(info.start_lsn == asked);
	store_release(tl);
	pthread_join(thread, NULL);

	/* within a record that has come in part: rounded down at once */
	OK(store_branch(s.store, "within", s.tl, h.gen.pos - 8, NULL, &tl));
	timeline_info(tl, &info);
	CHECK(info.start_lsn == asked);
	store_release(tl);
	wal_receiver_close(receiver);
	end_test(&s, &h);
}

/* ---- a branch that goes meanwhile ---- */

static void
test_parent_is_deleted(void **state)
{
	History h;
	TestStore s;
	Timeline *parent;
	Branch *gone;
	Timeline *child;
	int n;

	history_begin(&h, rnd);
	store_make(&s, &h);
	OK(store_branch(s.store, "parent", s.tl, PG_UINT64_MAX, NULL, NULL));
	/* who makes a branch of it has found it, then it is deleted */
	OK(store_find_branch(s.store, "parent", &parent));
	OK(store_remove_branch(s.store, "parent", NULL, &gone));
	CHECK(gone == branch_of(parent));
	FAILS(store_branch(s.store, "child", parent, PG_UINT64_MAX, NULL, &child), PS_SQLSTATE_NOT_FOUND,
		  "\"parent\" does not exist");
	store_release(parent);
	store_destroy_branch(gone);
	store_reopen(&s);
	free(store_list(s.store, &n));
	CHECK(n == 1);
	end_test(&s, &h);
}

/* ---- the first start of a compute ---- */

/* Fills up so that a shutdown checkpoint begins "before" bytes ahead of the next border of "size". */
static void
fill_up_to(History *h, uint32 size, uint32 before)
{
	for (;;)
	{
		XLogRecPtr border = h->gen.pos - h->gen.pos % size + size;
		XLogRecPtr start = border - before;
		uint32 left;

		if (h->gen.pos == start)
			return;
		/* whole pages first; a record takes SizeOfXLogRecord + 5 bytes more than its main data, + 2 if that is short */
		left = h->gen.pos < start ? start - h->gen.pos : start + size - h->gen.pos;
		history_next(h);
		if (left > XLOG_BLCKSZ + 1000)
			gen_random_record(&h->gen, Min(left - XLOG_BLCKSZ - 1000, 4000));
		else if (left > 1000)
			gen_random_record(&h->gen, 400);
		else if (left >= SizeOfXLogRecord + 8)
		{
			char data[1000] = {0};
			uint32 len = left - SizeOfXLogRecord;

			len -= len <= 257 ? 2 : 5;
			/* a logical message, which does nothing */
			add_main_data(h, RM_LOGICALMSG_ID, 0, 0, data, len);
		}
		else
			gen_random_record(&h->gen, 100);
	}
}

static void
start_at_border(uint32 size, uint32 before)
{
	History h;
	TestStore s;
	XLogRecPtr start;
	XLogRecPtr flushed;
	XLogRecPtr checkpoint;
	XLogRecPtr of_branch;
	WalReceiver *receiver;
	WalState walstate;
	uint64 generation;
	Timeline *tl;
	char rec[SizeOfXLogRecord + SizeOfXLogRecordDataHeaderShort + sizeof(CheckPoint)];

	history_begin(&h, rnd);
	fill_up_to(&h, size, before);
	store_make(&s, &h);
	receiver = new_receiver(&s, s.tl, &start);
	OK(push(receiver, &h, start, h.gen.pos, &rnd, &flushed));
	wal_receiver_close(receiver);

	/* "main" is stopped: a shutdown checkpoint ends its WAL, over the border or up to it */
	OK(timeline_new_generation(s.tl, "test", NULL, &generation, &walstate, &checkpoint));
	CHECK(walstate.shutdown && checkpoint / size < walstate.end / size);
	OK(store_branch(s.store, "branch", s.tl, PG_UINT64_MAX, NULL, &tl));
	OK(timeline_new_generation(tl, "test", NULL, &generation, &walstate, &of_branch));
	/* what a base backup sends, from the checkpoint on */
	OK(wal_segments_read_record(timeline_wal(tl), of_branch, sizeof(rec), rec));
	CHECK(((XLogRecord *) rec)->xl_info == XLOG_CHECKPOINT_SHUTDOWN && walstate.prev == of_branch);
	store_release(tl);
	end_test(&s, &h);
}

static void
test_start_at_border(void **state)
{
	/* a checkpoint takes 120 bytes: a part of it behind the border, all before it */
	uint32 len = MAXALIGN(SizeOfXLogRecord + SizeOfXLogRecordDataHeaderShort + sizeof(CheckPoint));

	start_at_border(XLOG_BLCKSZ, 64);
	start_at_border(XLOG_BLCKSZ, len);
	start_at_border(SEGMENT_SIZE, 64);
	start_at_border(SEGMENT_SIZE, len);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moment_not_ingested),
		cmocka_unit_test(test_lsn_not_flushed),
		cmocka_unit_test(test_parent_is_deleted),
		cmocka_unit_test(test_start_at_border),
	};
	const char *seed = getenv("TEST_SEED");

	rnd = seed != NULL ? strtoul(seed, NULL, 10) : (uint64) time(NULL) ^ (uint64) getpid() << 16;
	print_message("TEST_SEED=%llu\n", (unsigned long long) rnd);
	ps_log_level = PS_FATAL;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
