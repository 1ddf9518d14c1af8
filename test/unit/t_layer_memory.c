/*
 * t_layer_memory.c
 *	  Layers in memory that cannot be written: now, or never.
 *
 * Rules: a branch waits for its own flushes only; it says what it waits for;
 * what ingest has when it ends for good is written all the same, without any
 * part of the record that ended it; layers that can never be written are read
 * until their memory is wanted, then given back; what was in them is refused,
 * not answered wrongly; with the WAL well again all is there.
 *
 * TEST_SEED in the environment repeats a run.
 */
#include "timeline_util.h"

#include <fcntl.h>

#include "sqlstate.h"
#include "store/store_impl.h"

static uint64 rnd;

/* Other branches hold so much memory. */
#define MUCH ((int64) 1 << 40)

static MemoryUser others;

static void
set_used_by_others(TestStore *s, int64 by)
{
	memory_budget_take(s->store->memory, &others, by);
}

static void
wait_for(Timeline *tl, bool (*is_true)(Timeline *tl))
{
	for (int i = 0; !is_true(tl); i++)
	{
		CHECK(i < 30000);
		pg_usleep(1000);
	}
}

static bool
is_written(Timeline *tl)
{
	TimelineInfo info;

	timeline_info(tl, &info);
	return info.disk_consistent_lsn == info.ingested_lsn && atomic_load(&tl->memory.used) < 1024 * 1024;
}

static bool
has_failed(Timeline *tl)
{
	bool failed;

	pthread_mutex_lock(&tl->lock);
	failed = tl->failed != NULL && tl->ingest_ended;
	pthread_mutex_unlock(&tl->lock);
	return failed;
}

static bool
has_no_memory(Timeline *tl)
{
	return atomic_load(&tl->memory.used) == 0;
}

static bool
says_what_it_waits_for(Timeline *tl)
{
	TimelineInfo info;

	timeline_info(tl, &info);
	return strstr(info.waits_for, "of its layers in memory to be written") != NULL;
}

static bool
waits_for_nothing(Timeline *tl)
{
	TimelineInfo info;

	timeline_info(tl, &info);
	return info.waits_for[0] == '\0';
}

static void
start_history(TestStore *s, History *h, int nrecords)
{
	history_begin(h, rnd);
	h->no_copies = true;
	for (int i = 0; i < nrecords; i++)
		add_random_record(h);
	store_make(s, h);
}

/* Sets checkpoint_distance to 0, as a reload would: the threads of the store are reading their settings. */
static void
flush_at_once(TestStore *s)
{
	static Config changed;

	changed = s->config;
	changed.checkpoint_distance = 0;
	store_reload(s->store, &changed);
}

static WalReceiver *
new_receiver(Timeline *tl, XLogRecPtr *start)
{
	WalReceiver *receiver;
	uint64 generation;
	WalState state;
	XLogRecPtr checkpoint;

	if (tl->generation == 0)
		OK(timeline_new_generation(tl, "test", NULL, &generation, &state, &checkpoint));
	OK(wal_receiver_open(tl, tl->generation, &receiver, start));
	return receiver;
}

/* All that the history has and the branch has not. */
static void
push_all(Timeline *tl, History *h)
{
	XLogRecPtr start;
	XLogRecPtr flushed;
	WalReceiver *receiver = new_receiver(tl, &start);

	OK(push(receiver, h, start, h->gen.pos, &rnd, &flushed));
	wal_receiver_close(receiver);
}

static void
end_test(TestStore *s, History *h)
{
	store_close(s->store);
	remove_tree(s->dir);
	history_end(h);
}

/* ---- WAL that is damaged before it is in layer files ---- */

/* Bytes in the middle of a record are others, or again what they were. */
static void
flip_record(const TestStore *s, const WalRecord *rec)
{
	char path[512];
	char name[64];
	uint8 bytes[8];
	XLogRecPtr at = rec->start + 24;
	int fd;

	snprintf(name, sizeof(name), "wal/%08X%08X%08X", 1, 0, (uint32) (at / SEGMENT_SIZE));
	fd = open(store_path(s, name, path), O_RDWR);
	CHECK(fd >= 0 && pread(fd, bytes, sizeof(bytes), at % SEGMENT_SIZE) == sizeof(bytes));
	for (int i = 0; i < lengthof(bytes); i++)
		bytes[i] ^= 0x55;
	CHECK(pwrite(fd, bytes, sizeof(bytes), at % SEGMENT_SIZE) == sizeof(bytes));
	close(fd);
}

static void
test_damaged_wal(void **state)
{
	History h;
	TestStore s;
	XLogRecPtr start;
	XLogRecPtr undamaged;
	int damaged = 500;
	WalReceiver *receiver;
	TimelineInfo info;
	bool exists;
	BlockNumber nblocks;

	start_history(&s, &h, 1000);
	push_all(s.tl, &h);
	OK(timeline_wait_ingested(s.tl, h.gen.pos, 60000, NULL));
	/* one that lies in a page, and has a body */
	while (h.gen.records[damaged].len < 64 || h.gen.records[damaged].start % XLOG_BLCKSZ > XLOG_BLCKSZ - 64 ||
		   h.gen.records[damaged].start % XLOG_BLCKSZ < 64)
		damaged++;
	undamaged = h.gen.records[damaged - 1].end;
	flip_record(&s, &h.gen.records[damaged]);

	/* the layer is to be written: that fails, and so does the branch; reads go on */
	receiver = new_receiver(s.tl, &start);
	CHECK(start == h.gen.pos);
	for (int i = 0; i < 10; i++)
		add_random_record(&h);
	OK(wal_receiver_write(receiver, start, h.gen.bytes.data + (start - h.gen.start), h.gen.pos - start, NULL));
	flush_at_once(&s);
	OK(wal_receiver_sync(receiver, &start));
	wait_for(s.tl, has_failed);
	FAILS(wal_receiver_write(receiver, h.gen.pos, "", 1, NULL), PS_SQLSTATE_CORRUPTED, "accepts no more WAL");
	wal_receiver_close(receiver);
	timeline_info(s.tl, &info);
	CHECK(strstr(info.error, "could not write a layer: WAL record at") != NULL);
	compare_at(s.tl, &h, undamaged);
	FAILS(timeline_new_generation(s.tl, "test", NULL, &(uint64) {0}, &(WalState) {0}, &start), PS_SQLSTATE_CORRUPTED,
		  "accepts no more WAL");

	/* others want the memory: what was in it cannot be read any more, what is in files can */
	set_used_by_others(&s, MUCH);
	wait_for(s.tl, has_no_memory);
	set_used_by_others(&s, -MUCH);
	FAILS(timeline_read_relsize(s.tl, model_rel(0, 0), MAIN_FORKNUM, undamaged, &exists, &nblocks),
		  PS_SQLSTATE_CORRUPTED, "accepts no more WAL after");
	FAILS(timeline_wait_ingested(s.tl, undamaged, 60000, NULL), PS_SQLSTATE_CORRUPTED, "accepts no more WAL after");
	compare_at(s.tl, &h, h.gen.records[h.first].end);

	/* it is mended, and nothing is lost */
	store_close(s.store);
	flip_record(&s, &h.gen.records[damaged]);
	OK(store_try_open(&s));
	compare(s.tl, &h, h.gen.records[h.gen.n - 1].end, 10, &rnd);
	end_test(&s, &h);
}

/* ---- a record that ingest does not understand ---- */

/* An image of block 0 of a relation; block 1 should have one. */
static void
add_bad_record(Gen *gen)
{
	StringInfoData body;
	RelFileNode node = {SPC, FIRST_DB, FIRST_REL};
	char page[BLCKSZ];

	initStringInfo(&body);
	for (int i = 0; i < 2; i++)
	{
		XLogRecordBlockHeader bh = {.id = i,
									.fork_flags = MAIN_FORKNUM | (i > 0 ? BKPBLOCK_SAME_REL : BKPBLOCK_HAS_IMAGE)};
		XLogRecordBlockImageHeader ih = {.length = test_image_size,
										 .hole_offset = test_image_size,
										 .bimg_info = BKPIMAGE_HAS_HOLE | BKPIMAGE_APPLY};
		BlockNumber blk = i;

		appendBinaryStringInfo(&body, (char *) &bh, SizeOfXLogRecordBlockHeader);
		if (i == 0)
		{
			appendBinaryStringInfo(&body, (char *) &ih, SizeOfXLogRecordBlockImageHeader);
			appendBinaryStringInfo(&body, (char *) &node, sizeof(node));
		}
		appendBinaryStringInfo(&body, (char *) &blk, sizeof(BlockNumber));
	}
	make_page(1, 0, page);
	appendBinaryStringInfo(&body, page, test_image_size);
	gen_record(gen, RM_XLOG_ID, XLOG_FPI, 0, body.data, body.len);
	pfree(body.data);
}

static PsError *
note_lsn(void *arg, const PsKey *key, const ValueRef *ref)
{
	*(XLogRecPtr *) arg = Max(*(XLogRecPtr *) arg, ref->lsn);
	return NULL;
}

static void
test_bad_record(void **state)
{
	History h;
	TestStore s;
	XLogRecPtr end;
	XLogRecPtr start;
	XLogRecPtr flushed;
	XLogRecPtr newest = 0;
	WalReceiver *receiver;
	PsKey lo = {.kind = 0};
	PsKey hi = {.kind = UINT8_MAX};
	LayerSet *set;

	start_history(&s, &h, 700);
	end = h.gen.pos;
	receiver = new_receiver(s.tl, &start);
	add_bad_record(&h.gen);
	OK(push(receiver, &h, start, h.gen.pos, &rnd, &flushed));
	wait_for(s.tl, has_failed);
	wal_receiver_close(receiver);
	FAILS(timeline_wait_ingested(s.tl, h.gen.pos, 60000, NULL), PS_SQLSTATE_CORRUPTED, "accepts no more WAL after");

	/* what came before it goes to files, though much less than checkpoint_distance; nothing of the record */
	wait_for(s.tl, is_written);
	CHECK(s.tl->disk_consistent_lsn == end);
	set = timeline_layers(s.tl);
	OK(layer_map_scan(set->map, &lo, &hi, PG_UINT64_MAX, note_lsn, &newest));
	layer_set_unref(set);
	CHECK(newest == end);
	compare(s.tl, &h, end, 10, &rnd);

	store_reopen(&s);
	wait_for(s.tl, has_failed);
	compare(s.tl, &h, end, 10, &rnd);
	end_test(&s, &h);
}

/* ---- a branch that cannot be written at the moment ---- */

static void
test_stuck_branch(void **state)
{
	static const PsId other_tenant = {{0xcc, 1}};
	static const PsId other_timeline = {{0xdd, 2}};
	History h;
	History of_other;
	TestStore s;
	Timeline *other;

	start_history(&s, &h, 300);
	history_begin(&of_other, rnd + 1);
	of_other.no_copies = true;
	for (int i = 0; i < 3000; i++)
		add_random_record(&of_other);
	store_add_seed(&s, &of_other, &other_tenant, &other_timeline, "other", &other);

	/* its layers take all that there is */
	push_all(s.tl, &h);
	OK(timeline_wait_ingested(s.tl, h.gen.pos, 60000, NULL));
	block_manifest(&s, true);
	memory_budget_take(s.tl->env->memory, &s.tl->memory, MUCH);
	flush_at_once(&s);
	for (int i = 0; i < 300; i++)
		add_random_record(&h);
	push_all(s.tl, &h);
	wait_for(s.tl, says_what_it_waits_for);

	/* others go on */
	push_all(other, &of_other);
	compare(other, &of_other, of_other.gen.pos, 10, &rnd);
	CHECK(waits_for_nothing(other));

	/* and so does this one as soon as it can */
	memory_budget_take(s.tl->env->memory, &s.tl->memory, -MUCH);
	block_manifest(&s, false);
	wait_for(s.tl, waits_for_nothing);
	push_all(s.tl, &h);
	compare(s.tl, &h, h.gen.pos, 10, &rnd);
	store_release(other);
	history_end(&of_other);
	end_test(&s, &h);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_damaged_wal),
		cmocka_unit_test(test_bad_record),
		cmocka_unit_test(test_stuck_branch),
	};
	const char *seed = getenv("TEST_SEED");

	rnd = seed != NULL ? strtoul(seed, NULL, 10) : (uint64) time(NULL) ^ (uint64) getpid() << 16;
	print_message("TEST_SEED=%llu\n", (unsigned long long) rnd);
	ps_log_level = PS_FATAL;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
