/*
 * t_timeline.c
 *	  The life of a timeline in this process: WAL in, pages out, layers
 *	  written, closed, killed, damaged, short of disk, taken over.  Every state
 *	  is compared with a naive model (timeline_util.h).
 *
 * TEST_RECORDS in the environment sets how much WAL the longer tests make
 * (fewer under a sanitizer), TEST_SEED repeats a run.
 */
#include "timeline_util.h"
#include "sqlstate.h"
#include "wire.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "pg/slru.h"
#include "store/store_impl.h"

static int nrecords = 4000;
static uint64 rnd;

static void
make_history(History *h, int n)
{
	history_begin(h, rnd);
	next_random(&rnd, 2);
	while (n-- > 0)
		add_random_record(h);
}

/* A receiver of the newest generation, made if there is none, for what the store has not got yet. */
static WalReceiver *
receiver_for(TestStore *s, uint64 *generation, XLogRecPtr *start)
{
	TimelineInfo info;
	WalReceiver *receiver;

	timeline_info(s->tl, &info);
	*generation = info.generation;
	if (*generation == 0)
	{
		WalState state;
		XLogRecPtr checkpoint;

		OK(timeline_new_generation(s->tl, "test", NULL, generation, &state, &checkpoint));
	}
	OK(wal_receiver_open(s->tl, *generation, &receiver, start));
	return receiver;
}

/* Sends all up to an LSN, from where the store is. */
static void
push_to(TestStore *s, const History *h, XLogRecPtr to)
{
	uint64 generation;
	XLogRecPtr start;
	XLogRecPtr flushed;
	WalReceiver *receiver = receiver_for(s, &generation, &start);

	OK(push(receiver, h, start, to, &rnd, &flushed));
	CHECK(flushed == to);
	wal_receiver_close(receiver);
}

static void
store_end(TestStore *s, History *h)
{
	if (s->store != NULL)
		store_close(s->store);
	remove_tree(s->dir);
	history_end(h);
}

/* ---- life, with readers beside ---- */

typedef struct Reader
{
	pthread_t thread;
	Timeline *tl;
	const History *h;
	uint64 random;
	atomic_bool *stop;
	int reads;
} Reader;

static void *
read_all_the_time(void *arg)
{
	Reader *r = arg;
	XLogRecPtr first = r->h->gen.records[0].end;

	while (!atomic_load(r->stop) || r->reads < 3)
	{
		XLogRecPtr lsn;

		OK(timeline_read_lsn(r->tl, PS_LSN_LATEST, InvalidXLogRecPtr, NULL, &lsn));
		compare_if_kept(r->tl, r->h, lsn);
		compare_if_kept(r->tl, r->h, first + MAXALIGN_DOWN(next_random(&r->random, UINT32_MAX) % (lsn - first + 1)));
		r->reads++;
	}
	return NULL;
}

/* Settings with which layer files are merged, images made and garbage taken away all the time. */
static void
set_upkeep(Config *config, int gc_horizon, int pitr_interval)
{
	config->compaction_workers = 1;
	config->compaction_threshold = 2;
	config->compaction_fanout = 2;
	config->compaction_backlog = 1000;
	config->target_file_size = 1;
	config->compaction_memory = 1;
	config->image_delta_records = 16;
	config->image_delta_percent = 30;
	config->image_delta_layers = 3;
	config->gc_horizon = gc_horizon;
	config->pitr_interval = pitr_interval;
}

static void
life(int checkpoint_distance, int page_cache_size, bool upkeep, int gc_horizon)
{
	History h;
	TestStore s;
	Reader readers[2];
	atomic_bool stop = false;
	TimelineInfo info;
	XLogRecPtr pins[7];

	make_history(&h, nrecords);
	store_make(&s, &h);
	store_close(s.store);
	s.config.checkpoint_distance = checkpoint_distance;
	s.config.page_cache_size = page_cache_size;
	if (upkeep)
		set_upkeep(&s.config, gc_horizon, 0);
	OK(store_try_open(&s));
	for (int i = 0; i < lengthof(readers); i++)
	{
		readers[i] = (Reader) {.tl = s.tl, .h = &h, .random = rnd + i, .stop = &stop};
		CHECK(pthread_create(&readers[i].thread, NULL, read_all_the_time, &readers[i]) == 0);
	}
	for (int i = 0; i < lengthof(pins); i++)
	{
		pins[i] = h.gen.records[h.first + i * (h.gen.n - h.first) / lengthof(pins)].end;
		push_to(&s, &h, pins[i]);
		OK(timeline_wait_ingested(s.tl, pins[i], 60000, NULL));
		OK(timeline_pin(s.tl, pins[i]));
	}
	push_to(&s, &h, h.gen.pos);
	OK(timeline_wait_ingested(s.tl, h.gen.pos, 60000, NULL));
	atomic_store(&stop, true);
	for (int i = 0; i < lengthof(readers); i++)
		pthread_join(readers[i].thread, NULL);
	compare(s.tl, &h, h.gen.pos, 20, &rnd);
	timeline_info(s.tl, &info);
	CHECK(info.flushed_lsn == h.gen.pos && info.received_lsn == h.gen.pos && info.error[0] == '\0');
	if (checkpoint_distance == 0)
		CHECK(info.disk_consistent_lsn > h.gen.records[0].end);
	if (upkeep)
	{
		OK(maintain_timeline(s.tl, true));
		compare(s.tl, &h, h.gen.pos, 20, &rnd);
		for (int i = 0; i < lengthof(pins); i++)
			compare_at(s.tl, &h, pins[i]);
	}

	store_reopen(&s);
	compare(s.tl, &h, h.gen.pos, 20, &rnd);
	store_end(&s, &h);
}

static void
test_life(void **state)
{
	life(256, 1, false, 0);
}

static void
test_life_flushing(void **state)
{
	life(0, 0, false, 0);
}

/*
 * With few files open at a time.  Layers are merged and images created, first with all history kept, then with history
 * that nobody reads removed at once.
 */
static void
test_life_compacting(void **state)
{
	layer_set_max_open(8);
	life(0, 0, true, INT_MAX);
	life(0, 1, true, 0);
	layer_set_max_open(512);
}

/* ---- a copied database after a restart ---- */

static void
test_db_copy_restart(void **state)
{
	uint32 blks[] = {0, 3, 7};

	/* the copy is the first record of a layer, or not; the destination is new, or not; what comes after it */
	for (int variant = 0; variant < 8; variant++)
	{
		History h;
		TestStore s;
		XLogRecPtr before;
		XLogRecPtr copied;

		history_begin(&h, 1);
		add_images(&h, 0, 0, 0, blks, 3);
		add_images(&h, 0, 1, 1, blks, 2);
		add_relmap(&h, 0);
		if (variant & 1)
			add_images(&h, 1, 2, 0, blks, 1);
		before = h.gen.pos;
		add_db_copy(&h, 0, 1);
		copied = h.gen.pos;
		add_images(&h, 1, 0, 0, blks + 1, 1);
		add_truncate(&h, 1, 0, 1);

		store_make(&s, &h);
		if (variant & 2)
		{
			/* a layer ends right before it */
			s.config.checkpoint_distance = 0;
			store_reopen(&s);
			push_to(&s, &h, before);
			for (;;)
			{
				TimelineInfo info;

				timeline_info(s.tl, &info);
				if (info.disk_consistent_lsn >= before)
					break;
				pg_usleep(1000);
			}
			s.config.checkpoint_distance = 256;
			store_reopen(&s);
		}
		push_to(&s, &h, copied);
		compare(s.tl, &h, copied, 10, &rnd);
		store_reopen(&s);
		compare(s.tl, &h, copied, 10, &rnd);
		if (variant & 4)
			store_reopen(&s);
		push_to(&s, &h, h.gen.pos);
		compare(s.tl, &h, h.gen.pos, 10, &rnd);

		/* all of it can be written */
		s.config.checkpoint_timeout = 0;
		store_reopen(&s);
		OK(timeline_wait_ingested(s.tl, h.gen.pos, 10000, NULL));
		for (;;)
		{
			TimelineInfo info;

			timeline_info(s.tl, &info);
			CHECK(info.error[0] == '\0');
			if (info.disk_consistent_lsn == h.gen.pos)
				break;
			pg_usleep(1000);
		}
		compare(s.tl, &h, h.gen.pos, 10, &rnd);
		store_reopen(&s);
		compare(s.tl, &h, h.gen.pos, 10, &rnd);
		store_end(&s, &h);
	}
}

/* ---- long records ---- */

/* A commit with n subtransactions, all on the first page of clog, of which each second record aborts some again. */
static void
add_long_commit(History *h, uint32 n, bool abort)
{
	uint32 len = sizeof(TimestampTz) + sizeof(xl_xact_xinfo) + sizeof(int) + n * sizeof(TransactionId);
	char *data = pg_malloc0(len);
	xl_xact_xinfo xinfo = {.xinfo = XACT_XINFO_HAS_SUBXACTS};
	int nsubxacts = n;
	TransactionId *xids = (TransactionId *) (data + len) - n;

	history_next(h)->next_xid = 20001;
	memcpy(data + sizeof(TimestampTz), &xinfo, sizeof(xinfo));
	memcpy(data + sizeof(TimestampTz) + sizeof(xinfo), &nsubxacts, sizeof(int));
	for (uint32 i = 0; i < n; i++)
		xids[i] = FirstNormalTransactionId + (next_random(&rnd, 2) + i * 2) % 19000;
	add_main_data(h, RM_XACT_ID, (abort ? XLOG_XACT_ABORT : XLOG_XACT_COMMIT) | XLOG_XACT_HAS_INFO, 20000, data, len);
	free(data);
}

/*
 * A chain of versions is applied in pieces of a few MB, and a record may be
 * longer than that: whatever comes together, each is applied, in order, and the
 * page is what it is without pieces.
 */
static void
test_long_records(void **state)
{
	static const uint32 mb[] = {0, 0, 6, 0, 5, 5, 0, 3, 3, 0, 0, 9};
	History h;
	TestStore s;
	PsKey key = ps_key_slru_block(PS_SLRU_CLOG, 0);
	PGAlignedBlock page = {{0}};
	StringInfoData value;

	history_begin(&h, rnd);
	for (int i = 0; i < lengthof(mb); i++)
		add_long_commit(&h, mb[i] == 0 ? 100 : mb[i] * 1024 * 1024 / sizeof(TransactionId), i % 2 == 1);
	store_make(&s, &h);
	push_to(&s, &h, h.gen.pos);
	OK(timeline_wait_ingested(s.tl, h.gen.pos, 60000, NULL));
	initStringInfo(&value);
	for (int round = 0; round < 2; round++)
	{
		memset(page.data, 0, BLCKSZ);
		for (int i = h.first + 1; i < h.gen.n; i++)
		{
			bool found;

			OK(wal_slru_apply(&h.gen.records[i], PS_SLRU_CLOG, 0, page.data));
			/* once at each, so that pages that were made before help; once at the last, when none was */
			if (round == 1 && i < h.gen.n - 1)
				continue;
			OK(timeline_read_value(s.tl, &key, h.gen.records[i].end, &value, &found));
			CHECK(found && memcmp(value.data, page.data, BLCKSZ) == 0);
		}
		store_reopen(&s);
		OK(timeline_wait_ingested(s.tl, h.gen.pos, 60000, NULL));
	}
	pfree(value.data);
	store_end(&s, &h);
}

/* ---- kill -9 ---- */

/* One life of the store, in a child; *acknowledged is shared with the parent. */
static void
live_until_killed(TestStore *s, const History *h, _Atomic uint64 *acknowledged)
{
	uint64 generation;
	XLogRecPtr start;
	WalReceiver *receiver;

	OK(store_try_open(s));
	receiver = receiver_for(s, &generation, &start);
	CHECK(start >= atomic_load(acknowledged));
	atomic_store(acknowledged, start);
	compare(s->tl, h, start, 2, &rnd);
	while (start < h->gen.pos)
	{
		XLogRecPtr to = start + 1 + next_random(&rnd, 20000);
		XLogRecPtr flushed;

		to = Min(to, h->gen.pos);
		OK(push(receiver, h, start, to, &rnd, &flushed));
		atomic_store(acknowledged, flushed);
		start = to;
	}
	compare(s->tl, h, h->gen.pos, 5, &rnd);
	store_close(s->store);
	_exit(0);
}

static void
test_kill(void **state)
{
	History h;
	TestStore s;
	_Atomic uint64 *acknowledged = mmap(NULL, sizeof(uint64), PROT_READ | PROT_WRITE,
										MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64 generation;
	XLogRecPtr start;
	int kills = 0;
	int status;

	make_history(&h, nrecords);
	store_make(&s, &h);
	wal_receiver_close(receiver_for(&s, &generation, &start));
	store_close(s.store);
	s.config.checkpoint_distance = 0;
	*acknowledged = start;
	for (;;)
	{
		pid_t pid = fork();
		pid_t done;
		XLogRecPtr at = *acknowledged + next_random(&rnd, 15000);
		int wait_us = next_random(&rnd, 5000);

		CHECK(pid >= 0);
		rnd += 12345;
		if (pid == 0)
			live_until_killed(&s, &h, acknowledged);

		/* at a random moment, but so that it goes forward */
		while ((done = waitpid(pid, &status, WNOHANG)) == 0 && *acknowledged < at)
			pg_usleep(100);
		if (done == 0)
		{
			pg_usleep(wait_us);
			kill(pid, SIGKILL);
			CHECK(waitpid(pid, &status, 0) == pid);
		}
		if (WIFEXITED(status))
		{
			CHECK(WEXITSTATUS(status) == 0);
			break;
		}
		CHECK(WTERMSIG(status) == SIGKILL);
		kills++;
	}
	print_message("%d kills\n", kills);
	CHECK(*acknowledged == h.gen.pos);
	OK(store_try_open(&s));
	compare(s.tl, &h, h.gen.pos, 10, &rnd);
	munmap((void *) acknowledged, sizeof(uint64));
	store_end(&s, &h);
}

/* ---- torn tails and damage ---- */

static void
segment_file(const TestStore *s, XLogRecPtr lsn, char path[512])
{
	char name[MAXFNAMELEN + 4] = "wal/";
	XLogSegNo segno;

	XLByteToSeg(lsn, segno, SEGMENT_SIZE);
	XLogFileName(name + 4, 1, segno, SEGMENT_SIZE);
	store_path(s, name, path);
}

/* Puts bytes into a WAL file of a closed store. */
static void
poke(const TestStore *s, XLogRecPtr lsn, const char *data, size_t len)
{
	char path[512];
	int fd;

	segment_file(s, lsn, path);
	fd = open(path, O_WRONLY);
	CHECK(fd >= 0);
	len = Min(len, SEGMENT_SIZE - XLogSegmentOffset(lsn, SEGMENT_SIZE));
	CHECK(pwrite(fd, data, len, XLogSegmentOffset(lsn, SEGMENT_SIZE)) == (ssize_t) len);
	close(fd);
}

static void
test_torn_tail(void **state)
{
	History h;
	TestStore s;

	make_history(&h, 300);
	store_make(&s, &h);
	for (int i = 1; i < h.gen.n - 1; i += 1 + next_random(&rnd, 40))
	{
		const WalRecord *next = &h.gen.records[i + 1];
		XLogRecPtr end = h.gen.records[i].end;
		const char *bytes = h.gen.bytes.data + (end - h.gen.start);
		uint32 len = next->len;
		size_t keep;
		TimelineInfo info;

		/* zeros at its end would be there anyway */
		while (bytes[len - 1] == 0)
			len--;
		keep = next_random(&rnd, len);

		push_to(&s, &h, end);
		store_close(s.store);
		/* what a power failure leaves of the next record: its beginning, then something else */
		if (XLogSegmentOffset(end, SEGMENT_SIZE) != 0)
		{
			char noise[100];

			memset(noise, 'x', sizeof(noise));
			poke(&s, end, bytes, keep);
			if (next_random(&rnd, 2) == 0 && XLogSegmentOffset(end + keep, SEGMENT_SIZE) != 0)
				poke(&s, end + keep, noise, next_random(&rnd, sizeof(noise)));
		}
		OK(store_try_open(&s));
		timeline_info(s.tl, &info);
		CHECK(info.flushed_lsn == end);
		compare(s.tl, &h, end, 1, &rnd);
	}
	store_end(&s, &h);
}

/* Any byte of acknowledged WAL may be damaged: an error that names the file, or no harm. */
static void
test_damaged_wal(void **state)
{
	History h;
	TestStore s;
	int refused = 0;
	char path[512];

	history_begin(&h, rnd);
	h.no_copies = true;
	for (int i = 0; i < 600; i++)
		add_random_record(&h);
	store_make(&s, &h);
	push_to(&s, &h, h.gen.pos);
	store_close(s.store);
	for (int i = 0; i < 60; i++)
	{
		const WalRecord *rec = &h.gen.records[1 + next_random(&rnd, h.gen.n - 1)];
		XLogRecPtr at = rec->start + next_random(&rnd, rec->len);
		char right = h.gen.bytes.data[at - h.gen.start];
		char wrong = right ^ (char) (1 << next_random(&rnd, 8));
		PsError *err;

		poke(&s, at, &wrong, 1);
		err = store_try_open(&s);
		if (err != NULL)
		{
			CHECK(ps_error_is(err, PS_SQLSTATE_CORRUPTED));
			CHECK(strstr(err->message, "was acknowledged up to") != NULL && strstr(err->message, "/wal/0000") != NULL);
			CHECK(err->hint != NULL);
			ps_error_free(err);
			refused++;
		}
		else
		{
			/* a byte that means nothing: padding */
			compare(s.tl, &h, h.gen.pos, 2, &rnd);
			store_close(s.store);
		}
		poke(&s, at, &right, 1);
	}
	CHECK(refused > 50);

	/* a whole file is gone */
	segment_file(&s, h.gen.pos - 1, path);
	CHECK(unlink(path) == 0);
	FAILS(store_try_open(&s), PS_SQLSTATE_CORRUPTED, "was acknowledged up to");
	s.store = NULL;
	store_end(&s, &h);
}

static void
test_damaged_marker(void **state)
{
	History h;
	TestStore s;
	char path[512];
	char byte;
	int fd;

	make_history(&h, 50);
	store_make(&s, &h);
	push_to(&s, &h, h.gen.pos);
	store_close(s.store);
	fd = open(store_path(&s, "flushed", path), O_RDWR);
	for (int i = 0; i < 16; i++)
	{
		CHECK(pread(fd, &byte, 1, i) == 1);
		byte ^= 4;
		CHECK(pwrite(fd, &byte, 1, i) == 1);
		FAILS(store_try_open(&s), PS_SQLSTATE_CORRUPTED, "/flushed\" is damaged");
		byte ^= 4;
		CHECK(pwrite(fd, &byte, 1, i) == 1);
	}
	CHECK(ftruncate(fd, 7) == 0);
	FAILS(store_try_open(&s), PS_SQLSTATE_CORRUPTED, "has 7 bytes");
	/* without it the WAL speaks for itself, and then it is there again */
	CHECK(unlink(path) == 0);
	OK(store_try_open(&s));
	compare(s.tl, &h, h.gen.pos, 2, &rnd);
	store_close(s.store);
	close(fd);
	fd = open(path, O_RDONLY);
	{
		uint64 lsn;

		CHECK(pread(fd, &lsn, 8, 0) == 8 && lsn == h.gen.pos);
	}
	close(fd);
	s.store = NULL;
	store_end(&s, &h);
}

/* ---- one writer ---- */

/* The history ends where the WAL does; then it has the checkpoint that the store wrote. */
static void
adopt_checkpoint(TestStore *s, History *h, const WalState *state)
{
	Model *m;
	int n = history_find(h, state->prev) + 1;
	char *bytes;
	uint32 len;

	while (h->gen.n > n)
		free((char *) h->gen.records[--h->gen.n].data);
	h->gen.pos = h->gen.records[n - 1].end;
	h->gen.prev = h->gen.records[n - 1].start;
	h->gen.bytes.len = (int) (h->gen.pos - h->gen.start);
	if (h->gen.pos == state->end)
		return;
	m = history_next(h);
	m->next_xid = state->checkpoint.nextXid.value;
	len = (uint32) (state->end - h->gen.pos);
	bytes = pg_malloc(len);
	OK(wal_segments_read(timeline_wal(s->tl), h->gen.pos, bytes, len));
	appendBinaryStringInfo(&h->gen.bytes, bytes, (int) len);
	h->gen.pos = state->end;
	h->gen.prev = state->prev;
	h->gen.records[h->gen.n++] = (WalRecord) {.start = state->prev, .end = state->end, .data = bytes};
}

static void
test_generations(void **state)
{
	History h;
	TestStore s;
	WalReceiver *old;
	WalReceiver *new;
	uint64 generation;
	uint64 newer;
	XLogRecPtr start;
	XLogRecPtr flushed;
	XLogRecPtr checkpoint;
	XLogRecPtr middle;
	WalState walstate;
	TimelineInfo info;
	char owner[2 * OWNER_SIZE];

	make_history(&h, 200);
	store_make(&s, &h);
	FAILS(wal_receiver_open(s.tl, 0, &old, &start), PS_SQLSTATE_INVALID, "which has a generation");
	FAILS(wal_receiver_open(s.tl, 1, &old, &start), PS_SQLSTATE_INVALID, "has no generation 1 yet");
	old = receiver_for(&s, &generation, &start);
	CHECK(generation == 1 && start == h.gen.records[0].end); /* the import's checkpoint is good enough */
	middle = h.gen.records[100].end;
	OK(push(old, &h, start, middle, &rnd, &flushed));
	FAILS(wal_receiver_write(old, middle + 8, "x", 1, NULL), PS_SQLSTATE_PROTOCOL, "expected");

	/* a second connection of the same compute */
	OK(wal_receiver_open(s.tl, generation, &new, &start));
	CHECK(start == middle && wal_receiver_is_superseded(old));
	FAILS(wal_receiver_write(old, middle, "x", 1, NULL), PS_SQLSTATE_TRY_AGAIN, "newer connection");
	FAILS(wal_receiver_sync(old, &flushed), PS_SQLSTATE_TRY_AGAIN, "newer connection");
	wal_receiver_close(old);
	CHECK(!wal_receiver_is_superseded(new));

	/* half a record is there when a new compute comes; its name is no UTF-8, and is cut within a character */
	OK(wal_receiver_write(new, middle, h.gen.bytes.data + (middle - h.gen.start), 20, NULL));
	strcpy(owner, "host:\xff\xfe/\n");
	for (int i = 0; i < OWNER_SIZE / 2; i++)
		strcat(owner, "\xc3\xa4");
	OK(timeline_new_generation(s.tl, owner, NULL, &newer, &walstate, &checkpoint));
	CHECK(newer == 2 && walstate.prev == checkpoint && walstate.shutdown && checkpoint >= middle);
	CHECK(wal_receiver_is_superseded(new));
	FAILS(wal_receiver_write(new, middle + 20, "x", 1, NULL), PS_SQLSTATE_SUPERSEDED, "newer compute");
	FAILS(wal_receiver_sync(new, &flushed), PS_SQLSTATE_SUPERSEDED, "newer compute");
	wal_receiver_close(new);
	FAILS(wal_receiver_open(s.tl, 1, &new, &start), PS_SQLSTATE_SUPERSEDED, "newer compute");
	timeline_info(s.tl, &info);
	CHECK(strncmp(info.owner, "host:?"
							  "?/?\xc3\xa4",
				  11) == 0 &&
		  strlen(info.owner) < OWNER_SIZE);

	adopt_checkpoint(&s, &h, &walstate);
	for (int i = 0; i < 100; i++)
		add_random_record(&h);
	store_reopen(&s);
	timeline_info(s.tl, &info);
	CHECK(info.generation == 2 && info.flushed_lsn == walstate.end);
	FAILS(timeline_check_generation(s.tl, 1), PS_SQLSTATE_SUPERSEDED, "generation 2 (host:");
	push_to(&s, &h, h.gen.pos);
	compare(s.tl, &h, h.gen.pos, 10, &rnd);
	store_end(&s, &h);
}

typedef struct Writer
{
	TestStore *s;
	const History *h;
	uint64 generation;
	uint64 random;
	XLogRecPtr flushed;
	_Atomic int rounds;
} Writer;

static void *
write_until_superseded(void *arg)
{
	Writer *w = arg;
	WalReceiver *receiver;
	XLogRecPtr start;
	PsError *err;

	OK(wal_receiver_open(w->s->tl, w->generation, &receiver, &start));
	w->flushed = start;
	for (;;)
	{
		XLogRecPtr to = start + 1 + next_random(&w->random, 3000);

		to = Min(to, w->h->gen.pos);
		err = push(receiver, w->h, start, to, &w->random, &w->flushed);
		if (err != NULL)
			break;
		start = to;
		atomic_fetch_add(&w->rounds, 1);
	}
	FAILS(err, PS_SQLSTATE_SUPERSEDED, "newer compute");
	wal_receiver_close(receiver);
	return NULL;
}

/* A new compute comes while an old one writes, again and again. */
static void
test_generation_race(void **state)
{
	History h;
	TestStore s;
	uint64 generation = 0;
	WalState walstate;
	XLogRecPtr checkpoint;

	make_history(&h, 10);
	store_make(&s, &h);
	for (int i = 0; i < 20; i++)
	{
		Writer w = {.s = &s, .h = &h, .random = rnd + i};
		pthread_t thread;

		OK(timeline_new_generation(s.tl, "test", NULL, &generation, &walstate, &checkpoint));
		adopt_checkpoint(&s, &h, &walstate);
		for (int k = 0; k < 100; k++)
			add_random_record(&h);
		w.generation = generation;
		CHECK(pthread_create(&thread, NULL, write_until_superseded, &w) == 0);
		while (atomic_load(&w.rounds) < 3)
			pg_usleep(100);
		OK(timeline_new_generation(s.tl, "test", NULL, &generation, &walstate, &checkpoint));
		pthread_join(thread, NULL);
		CHECK(w.flushed <= walstate.end);
		adopt_checkpoint(&s, &h, &walstate);
		compare(s.tl, &h, h.gen.pos, 1, &rnd);
		if (i % 5 == 0)
			store_reopen(&s);
	}
	store_end(&s, &h);
}

/* ---- a full disk: no file may grow beyond a limit ---- */

static void
limit_files(rlim_t size)
{
	struct rlimit limit;

	CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
	limit.rlim_cur = size;
	CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

static void
test_disk_full(void **state)
{
	History h;
	TestStore s;
	uint64 generation;
	uint64 newer;
	XLogRecPtr start;
	XLogRecPtr flushed;
	XLogRecPtr checkpoint;
	WalState walstate;
	TimelineInfo info;
	WalReceiver *receiver;
	PsError *err;
	int64 begin;

	make_history(&h, 1500);
	store_make(&s, &h);
	s.config.checkpoint_distance = 0;
	store_reopen(&s);

	/* no layer can be written: reads go on, of WAL what fits in memory is taken in */
	receiver = receiver_for(&s, &generation, &start);
	limit_files(16 * 1024);
	err = push(receiver, &h, start, h.gen.pos, &rnd, &flushed);
	timeline_info(s.tl, &info);
	CHECK(info.flushed_lsn >= start);
	for (int i = 0; i < 20; i++)
	{
		OK(timeline_read_lsn(s.tl, PS_LSN_LATEST, InvalidXLogRecPtr, NULL, &start));
		compare_at(s.tl, &h, start);
	}

	/* nor a manifest: the old compute stays */
	limit_files(100);
	FAILS(timeline_new_generation(s.tl, "new", NULL, &newer, &walstate, &checkpoint), PS_SQLSTATE_DISK_FULL,
		  "manifest");
	CHECK(!wal_receiver_is_superseded(receiver));
	OK(timeline_check_generation(s.tl, generation));
	wal_receiver_close(receiver);

	/* stopping does not wait for room */
	begin = time(NULL);
	store_close(s.store);
	CHECK(time(NULL) - begin < 5);
	limit_files(16 * 1024);
	if (err != NULL)
	{
		/* a segment could not be made */
		CHECK(strstr(err->message, "could not") != NULL);
		ps_error_free(err);
	}
	OK(store_try_open(&s));
	timeline_info(s.tl, &info);
	compare(s.tl, &h, Max(info.ingested_lsn, h.gen.records[0].end), 3, &rnd);

	/* room: all goes on by itself */
	limit_files(RLIM_INFINITY);
	push_to(&s, &h, h.gen.pos);
	compare(s.tl, &h, h.gen.pos, 10, &rnd);
	for (int i = 0;; i++)
	{
		timeline_info(s.tl, &info);
		if (info.disk_consistent_lsn > h.gen.records[0].end && info.error[0] == '\0')
			break;
		CHECK(i < 10000);
		pg_usleep(1000);
	}
	store_reopen(&s);
	compare(s.tl, &h, h.gen.pos, 10, &rnd);
	store_end(&s, &h);
}

/* What could not be made durable is not given as such. */
static void
test_sync_fails(void **state)
{
	History h;
	TestStore s;
	uint64 generation;
	XLogRecPtr start;
	XLogRecPtr flushed = 1;
	WalReceiver *receiver;
	TimelineInfo info;

	make_history(&h, 50);
	store_make(&s, &h);
	receiver = receiver_for(&s, &generation, &start);
	OK(wal_receiver_write(receiver, start, h.gen.bytes.data + (start - h.gen.start), h.gen.records[20].end - start,
						  NULL));
	limit_files(0); /* the marker cannot be written */
	FAILS(wal_receiver_sync(receiver, &flushed), PS_SQLSTATE_DISK_FULL, "/flushed");
	limit_files(RLIM_INFINITY);
	CHECK(flushed == 1);
	timeline_info(s.tl, &info);
	CHECK(info.flushed_lsn == start && info.ingested_lsn == start);
	OK(wal_receiver_sync(receiver, &flushed));
	CHECK(flushed == h.gen.records[20].end);
	wal_receiver_close(receiver);
	compare(s.tl, &h, flushed, 2, &rnd);
	store_end(&s, &h);
}

/* The store stops while ingest waits for the flush, that cannot write, and WAL comes in. */
static void *
write_until_stopped(void *arg)
{
	Writer *w = arg;
	WalReceiver *receiver;
	XLogRecPtr start;
	PsError *err;

	OK(wal_receiver_open(w->s->tl, w->generation, &receiver, &start));
	err = push(receiver, w->h, start, w->h->gen.pos, &w->random, &w->flushed);
	wal_receiver_close(receiver);
	ps_error_free(err);
	return NULL;
}

static void
test_stop_under_load(void **state)
{
	History h;
	TestStore s;
	uint64 generation;
	XLogRecPtr start;
	Writer w;
	pthread_t thread;
	char layers[512];
	int64 begin;

	make_history(&h, 3000);
	store_make(&s, &h);
	s.config.checkpoint_distance = 0;
	store_reopen(&s);
	wal_receiver_close(receiver_for(&s, &generation, &start));
	w = (Writer) {.s = &s, .h = &h, .generation = generation, .random = rnd};
	/* no directory to write layers to */
	store_path(&s, "layers", layers);
	{
		char away[600];

		snprintf(away, sizeof(away), "%s.away", layers);
		CHECK(rename(layers, away) == 0);
		CHECK(pthread_create(&thread, NULL, write_until_stopped, &w) == 0);
		for (;;)
		{
			TimelineInfo info;

			timeline_info(s.tl, &info);
			if (info.error[0] != '\0')
				break;
			pg_usleep(1000);
		}
		pthread_join(thread, NULL);
		begin = time(NULL);
		store_close(s.store);
		CHECK(time(NULL) - begin < 3);
		CHECK(rename(away, layers) == 0);
	}
	OK(store_try_open(&s));
	compare(s.tl, &h, w.flushed, 5, &rnd);
	store_end(&s, &h);
}

/* ---- WAL that cannot be understood ---- */

static void
test_bad_record(void **state)
{
	History h;
	TestStore s;
	uint64 generation;
	XLogRecPtr start;
	XLogRecPtr flushed;
	XLogRecPtr good;
	XLogRecPtr lsn;
	WalReceiver *receiver;
	char one[1] = {0};

	make_history(&h, 20);
	store_make(&s, &h);
	good = h.gen.pos;
	/* its CRC is right, but nobody knows what it means */
	history_next(&h);
	add_main_data(&h, RM_SMGR_ID, 0x50, 0, one, 1);
	receiver = receiver_for(&s, &generation, &start);
	OK(push(receiver, &h, start, h.gen.pos, &rnd, &flushed));
	for (int round = 0; round < 2; round++)
	{
		FAILS(timeline_wait_ingested(s.tl, h.gen.pos, 10000, NULL), PS_SQLSTATE_CORRUPTED, "accepts no more WAL");
		OK(timeline_read_lsn(s.tl, PS_LSN_LATEST, InvalidXLogRecPtr, NULL, &lsn));
		CHECK(lsn == good);
		compare_at(s.tl, &h, good);
		if (receiver != NULL)
			wal_receiver_close(receiver);
		receiver = NULL;
		FAILS(wal_receiver_open(s.tl, generation, &receiver, &start), PS_SQLSTATE_CORRUPTED, "accepts no more WAL");
		receiver = NULL;
		store_reopen(&s);
	}
	store_end(&s, &h);
}

/* A record whose CRC is wrong is never acknowledged, what came before it is. */
static void
test_bad_stream(void **state)
{
	History h;
	TestStore s;
	uint64 generation;
	XLogRecPtr start;
	XLogRecPtr flushed;
	WalReceiver *receiver;
	const WalRecord *bad;
	char *byte;
	PsError *err;

	make_history(&h, 100);
	store_make(&s, &h);
	bad = &h.gen.records[60];
	byte = &h.gen.bytes.data[bad->start + SizeOfXLogRecord - h.gen.start];
	*byte ^= 1;
	receiver = receiver_for(&s, &generation, &start);
	err = wal_receiver_write(receiver, start, h.gen.bytes.data + (start - h.gen.start), h.gen.pos - start, NULL);
	FAILS(err, PS_SQLSTATE_CORRUPTED, "bad WAL from the compute");
	FAILS(wal_receiver_write(receiver, h.gen.pos, "x", 1, NULL), PS_SQLSTATE_CORRUPTED, "invalid WAL");
	OK(wal_receiver_sync(receiver, &flushed));
	CHECK(flushed == h.gen.records[59].end);
	wal_receiver_close(receiver);
	*byte ^= 1;
	push_to(&s, &h, h.gen.pos);
	compare(s.tl, &h, h.gen.pos, 5, &rnd);
	store_end(&s, &h);
}

/* ---- new timelines ---- */

static void
test_add_fails(void **state)
{
	History h;
	TestStore s;
	TimelineSeed seed = {.tenant = {{0xcc}},
						 .timeline = {{0xdd}},
						 .name = "other",
						 .system_identifier = 1,
						 .segment_size = SEGMENT_SIZE,
						 .lsn = 8};
	Timeline *tl;
	char path[512];
	char id[PS_ID_TEXT];
	int n;

	make_history(&h, 10);
	store_make(&s, &h);
	/* a timeline with no layers cannot be opened: nothing of it stays, nor of its tenant */
	for (int round = 0; round < 2; round++)
	{
		snprintf(path, sizeof(path), "%s/tmp/%s", s.dir, ps_id_format(&seed.timeline, id));
		remove_tree(path);
		CHECK(mkdir(path, 0700) == 0);
		strcat(path, "/layers");
		CHECK(mkdir(path, 0700) == 0);
		FAILS(store_add_timeline(s.store, &seed, &tl), PS_SQLSTATE_CORRUPTED, "no WAL state");
		free(store_list(s.store, &n));
		CHECK(n == 1);
		snprintf(path, sizeof(path), "%s/tenants/%s", s.dir, ps_id_format(&seed.tenant, id));
		CHECK(access(path, F_OK) != 0);

		/* except in memory, as other threads could find the tenant meanwhile */
		CHECK(s.store->ntenants == 1 && s.store->ngone_tenants == round + 1);
		CHECK(s.store->gone_tenants[round]->claim_fd == TENANT_NOT_CLAIMED);
	}
	/* nor of one in a tenant that exists */
	seed.tenant = test_tenant;
	seed.system_identifier = GEN_SYSID;
	snprintf(path, sizeof(path), "%s/tmp/%s", s.dir, ps_id_format(&seed.timeline, id));
	remove_tree(path);
	CHECK(mkdir(path, 0700) == 0);
	strcat(path, "/layers");
	CHECK(mkdir(path, 0700) == 0);
	FAILS(store_add_timeline(s.store, &seed, &tl), PS_SQLSTATE_CORRUPTED, "no WAL state");
	store_reopen(&s);
	compare(s.tl, &h, h.gen.records[0].end, 0, &rnd);
	free(store_list(s.store, &n));
	CHECK(n == 1);
	store_end(&s, &h);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kill),
		cmocka_unit_test(test_long_records),
		cmocka_unit_test(test_db_copy_restart),
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_life_flushing),
		cmocka_unit_test(test_life_compacting),
		cmocka_unit_test(test_torn_tail),
		cmocka_unit_test(test_damaged_wal),
		cmocka_unit_test(test_damaged_marker),
		cmocka_unit_test(test_generations),
		cmocka_unit_test(test_generation_race),
		cmocka_unit_test(test_disk_full),
		cmocka_unit_test(test_sync_fails),
		cmocka_unit_test(test_stop_under_load),
		cmocka_unit_test(test_bad_record),
		cmocka_unit_test(test_bad_stream),
		cmocka_unit_test(test_add_fails),
	};
	const char *seed = getenv("TEST_SEED");

	rnd = seed != NULL ? strtoul(seed, NULL, 10) : (uint64) time(NULL) ^ (uint64) getpid() << 16;
	print_message("TEST_SEED=%llu\n", (unsigned long long) rnd);
	if (getenv("TEST_RECORDS") != NULL)
		nrecords = atoi(getenv("TEST_RECORDS"));
	ps_log_level = PS_FATAL;
	signal(SIGXFSZ, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
