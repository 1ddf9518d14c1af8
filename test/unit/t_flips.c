/*
 * t_flips.c
 *	  One byte of one file of a store is changed; then the store is opened and
 *	  everything is read, at the end of WAL and at moments before it.  Whatever
 *	  file and byte it is: each answer is right, or an error that names the
 *	  file; the branch ends where it ended; another branch, of another tenant,
 *	  has all that it had; nothing crashes, and the byte put back, all is well.
 *
 * Positions are sampled: all with PAGESERVER_LONG of the small files, and more
 * of the others.  TEST_SEED repeats a run.
 */
#include "timeline_util.h"

#include <dirent.h>
#include <fcntl.h>
#include <time.h>

#include "layer/layer_format.h"

static uint64 rnd;
static bool long_form;

static const PsId other_tenant = {{0xcc, 3}};
static const PsId other_timeline = {{0xdd, 4}};

/* What a changed byte was answered with. */
typedef struct Outcome
{
	int flips;
	int right;      /* all answers were right */
	int not_opened; /* the branch */
	int some_errors;
} Outcome;

static Outcome outcome;

/* The file that is damaged, below the timeline or the tenant; and where. */
static const char *damaged_file;
static off_t damaged_at;

static void
expect_named(PsError *err)
{
	const char *base = strrchr(damaged_file, '/');

	base = base != NULL ? base + 1 : damaged_file;
	if (strstr(err->message, base) == NULL)
	{
		fprintf(stderr, "byte %lld of %s was changed, but the error is: %s\n", (long long) damaged_at, damaged_file,
				err->message);
		abort();
	}
	ps_error_free(err);
}

static void
expect(bool right, const char *what, XLogRecPtr lsn)
{
	if (right)
		return;
	fprintf(stderr, "byte %lld of %s was changed, and %s at %X/%X is wrong\n", (long long) damaged_at, damaged_file,
			what, LSN_FORMAT_ARGS(lsn));
	abort();
}

/* Reads all that there is at an LSN; returns the number of errors. */
static int
read_all_at(Timeline *tl, const History *h, XLogRecPtr lsn)
{
	int n = history_find(h, lsn);
	const WalRecord *last = &h->gen.records[h->first + n];
	const Model *m = &h->states[n];
	int errors = 0;
	char *pages = pg_malloc(NBLOCK * BLCKSZ);
	char expected[BLCKSZ];
	BlockNumber blks[NBLOCK];
	StringInfoData value;
	WalState state;
	PsError *err;
	bool found;

	initStringInfo(&value);
	for (int i = 0; i < NBLOCK; i++)
		blks[i] = (i * 5) % NBLOCK;
	for (int db = 0; db < NDB; db++)
	{
		PsKey key = ps_key_simple(PS_KEY_DATABASE, SPC, FIRST_DB + db, 0);

		err = timeline_read_value(tl, &key, lsn, &value, &found);
		if (err == NULL)
			expect(found == m->db[db], "a database", lsn);
		else
		{
			expect_named(err);
			errors++;
		}
		key = ps_key_simple(PS_KEY_RELMAP, SPC, FIRST_DB + db, 0);
		err = timeline_read_value(tl, &key, lsn, &value, &found);
		if (err == NULL)
		{
			make_relmap(m->relmap[db], expected);
			expect(found == (m->relmap[db] != 0) &&
					   (!found || (value.len == 512 && memcmp(value.data, expected, 512) == 0)),
				   "a relation map", lsn);
		}
		else
		{
			expect_named(err);
			errors++;
		}
		for (int rel = 0; rel < NREL; rel++)
			for (int fork = 0; fork < NFORK; fork++)
			{
				const ModelFork *f = &m->forks[db][rel][fork];
				BlockNumber nblocks;
				PsError *page_errors[NBLOCK];

				err = timeline_read_relsize(tl, model_rel(db, rel), fork, lsn, &found, &nblocks);
				if (err == NULL)
					expect(found == f->exists && nblocks == f->nblocks, "a size", lsn);
				else
				{
					expect_named(err);
					errors++;
				}
				err = timeline_read_each_page(tl, model_rel(db, rel), fork, blks, NBLOCK, lsn, pages, page_errors);
				if (err != NULL)
				{
					expect_named(err);
					errors++;
					continue;
				}
				for (int b = 0; b < NBLOCK; b++)
				{
					if (page_errors[b] != NULL)
					{
						expect_named(page_errors[b]);
						errors++;
						continue;
					}
					make_page(f->pages[blks[b]].seed, f->pages[blks[b]].lsn, expected);
					expect(memcmp(pages + b * BLCKSZ, expected, BLCKSZ) == 0, "a page", lsn);
				}
			}
	}
	err = timeline_state_at(tl, lsn, &state);
	if (err == NULL)
		expect(state.end == last->end && state.prev == last->start && state.checkpoint.nextXid.value == m->next_xid,
			   "the state", lsn);
	else
	{
		expect_named(err);
		errors++;
	}
	pfree(value.data);
	free(pages);
	return errors;
}

/* Opens the store, and reads all of both branches. */
static void
look(TestStore *s, const History *h, const History *other)
{
	TimelineInfo info;
	Timeline *tl;
	PsError *err;
	int errors;

	OK(store_open(&s->config, &s->store));
	OK(store_find_branch(s->store, "other", &tl));
	OK(timeline_wait_ingested(tl, other->gen.pos, 60000, NULL));
	compare_at(tl, other, other->gen.pos);
	store_release(tl);

	outcome.flips++;
	err = store_find(s->store, &test_tenant, &test_timeline, &tl);
	if (err != NULL)
	{
		expect_named(err);
		outcome.not_opened++;
		store_close(s->store);
		return;
	}
	timeline_info(tl, &info);
	expect(info.flushed_lsn == h->gen.pos, "the end of WAL", info.flushed_lsn);
	err = timeline_wait_ingested(tl, h->gen.pos, 60000, NULL);
	if (err != NULL)
	{
		expect_named(err);
		errors = 1;
	}
	else
	{
		XLogRecPtr first = h->gen.records[h->first].end;

		errors = read_all_at(tl, h, h->gen.pos);
		errors += read_all_at(tl, h, first + MAXALIGN_DOWN(next_random(&rnd, h->gen.pos - first)));
		errors += read_all_at(tl, h, first + MAXALIGN_DOWN(next_random(&rnd, h->gen.pos - first)));
	}
	outcome.right += errors == 0;
	outcome.some_errors += errors > 0;
	store_release(tl);
	store_close(s->store);
}

/* Changes a byte while the store is closed, looks, and puts it back. */
static void
flip(TestStore *s, const History *h, const History *other, const char *path, off_t at)
{
	int fd = open(path, O_RDWR);
	uint8 byte;
	uint8 changed;

	CHECK(fd >= 0 && pread(fd, &byte, 1, at) == 1);
	changed = byte ^ (uint8) (1 + next_random(&rnd, 255));
	CHECK(pwrite(fd, &changed, 1, at) == 1);
	damaged_file = path;
	damaged_at = at;
	look(s, h, other);
	CHECK(pwrite(fd, &byte, 1, at) == 1);
	close(fd);
}

static void
print_outcome(const char *what)
{
	printf("%-34s %5d bytes: %5d times the branch did not open, %5d some errors, %5d all right\n", what, outcome.flips,
		   outcome.not_opened, outcome.some_errors, outcome.right);
	fflush(stdout);
}

/* n positions of a file, or all. */
static void
flip_some(TestStore *s, const History *h, const History *other, const char *path, int n)
{
	struct stat st;

	CHECK(stat(path, &st) == 0);
	outcome = (Outcome) {0};
	if (n >= st.st_size)
		for (off_t at = 0; at < st.st_size; at++)
			flip(s, h, other, path, at);
	else
		for (int i = 0; i < n; i++)
			flip(s, h, other, path, next_random(&rnd, (uint32) st.st_size));
	print_outcome(strstr(path, "/timelines/") ? strrchr(path, '/') + 1 : "tenant.json");
}

/* A position, mostly of a byte that is not zero. */
static off_t
sample(int fd, uint32 size)
{
	off_t at;
	uint8 byte;

	do
	{
		at = next_random(&rnd, size);
		CHECK(pread(fd, &byte, 1, at) == 1);
	} while (byte == 0 && next_random(&rnd, 20) > 0);
	return at;
}

/* A layer file: every field of the summary, then bytes of the rest that are no zeros, mostly. */
static void
flip_layer(TestStore *s, const History *h, const History *other, const char *path, int n)
{
	int fd = open(path, O_RDONLY);
	struct stat st;

	outcome = (Outcome) {0};
	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	for (off_t at = 0; at < SUMMARY_USED; at += long_form ? 1 : 5)
		flip(s, h, other, path, at);
	flip(s, h, other, path, LAYER_BLOCK_SIZE - 2);
	for (int i = 0; i < n; i++)
		flip(s, h, other, path, sample(fd, (uint32) st.st_size));
	close(fd);
	CHECK(outcome.right < outcome.flips);
	print_outcome(strstr(path, "-0000") ? "a delta file" : "an image file");
}

/* A WAL file: the header of its first page and of others, records, what is behind the end. */
static void
flip_wal(TestStore *s, const History *h, const History *other, const char *path, int n)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	XLogSegNo segno;
	TimeLineID tli;
	XLogRecPtr start;
	uint32 used;

	CHECK(fd >= 0 && fstat(fd, &st) == 0 && st.st_size == SEGMENT_SIZE);
	XLogFromFileName(strrchr(path, '/') + 1, &tli, &segno, SEGMENT_SIZE);
	XLogSegNoOffsetToRecPtr(segno, 0, SEGMENT_SIZE, start);
	used = (uint32) Min(h->gen.pos - start, SEGMENT_SIZE);
	outcome = (Outcome) {0};
	for (int at = 0; at < SizeOfXLogLongPHD; at += long_form ? 1 : 3)
		flip(s, h, other, path, at);
	for (int i = 0; i < n; i++)
	{
		off_t at = sample(fd, SEGMENT_SIZE);

		if (i % 8 == 0)
			at = at / XLOG_BLCKSZ * XLOG_BLCKSZ + next_random(&rnd, SizeOfXLogShortPHD);
		flip(s, h, other, path, at);
	}
	/* the last record, and what comes behind it */
	for (int i = 0; i < 40 && used < SEGMENT_SIZE; i++)
		flip(s, h, other, path, used - Min(used, 30) + i * 2);
	close(fd);
	print_outcome("a WAL file");
}

static void
push_to(Timeline *tl, const History *h, XLogRecPtr to)
{
	TimelineInfo info;
	WalReceiver *receiver;
	XLogRecPtr start;
	XLogRecPtr flushed;

	timeline_info(tl, &info);
	if (info.generation == 0)
	{
		WalState state;
		XLogRecPtr checkpoint;

		OK(timeline_new_generation(tl, "test", NULL, &info.generation, &state, &checkpoint));
	}
	OK(wal_receiver_open(tl, info.generation, &receiver, &start));
	OK(push(receiver, h, start, to, &rnd, &flushed));
	wal_receiver_close(receiver);
	OK(timeline_wait_ingested(tl, to, 60000, NULL));
}

/* A store with two branches; three quarters of "main" are in layer files, and the store is closed. */
static void
make_store(TestStore *s, History *h, History *other)
{
	TimelineInfo info;
	Timeline *tl;

	history_begin(other, rnd + 1);
	for (int i = 0; i < 60; i++)
		add_random_record(other);
	history_begin(h, rnd);
	h->no_copies = true;
	for (int i = 0; i < 300; i++)
	{
		add_random_record(h);
		if (i == 100 || i == 270)
			add_switch(h);
	}
	store_make(s, h);
	s->config.page_cache_size = 0;
	store_add_seed(s, other, &other_tenant, &other_timeline, "other", &tl);
	push_to(tl, other, other->gen.pos);
	for (int part = 1; part <= 3; part++)
	{
		XLogRecPtr to = h->gen.records[h->first + part * (h->gen.n - 1 - h->first) / 4].end;

		push_to(s->tl, h, to);
		s->config.checkpoint_timeout = 0;
		store_close(s->store);
		OK(store_try_open(s));
		do
		{
			pg_usleep(1000);
			timeline_info(s->tl, &info);
		} while (info.disk_consistent_lsn < to);
		s->config.checkpoint_timeout = 3600;
		store_close(s->store);
		OK(store_try_open(s));
	}
	push_to(s->tl, h, h->gen.pos);
	store_close(s->store);
}

int
main(void)
{
	static char memory[] = "/dev/shm/t_flips.XXXXXX";
	TestStore s;
	History h;
	History other;
	char path[512];
	char a[PS_ID_TEXT];
	DIR *dir;
	struct dirent *de;

	rnd = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 10) : (uint64) time(NULL);
	long_form = getenv("PAGESERVER_LONG") != NULL;
	printf("TEST_SEED=%llu\n", (unsigned long long) rnd);
	ps_log_level = PS_FATAL;
	/* it is opened thousands of times, and syncs each time */
	store_template = memory;
	make_store(&s, &h, &other);

	flip_some(&s, &h, &other, store_path(&s, "timeline.log", path), long_form ? 100000 : 150);
	snprintf(path, sizeof(path), "%s/tenants/%s/tenant.json", s.dir, ps_id_format(&test_tenant, a));
	flip_some(&s, &h, &other, path, long_form ? 100000 : 60);
	flip_some(&s, &h, &other, store_path(&s, "flushed", path), 16);
	dir = opendir(store_path(&s, "layers", path));
	CHECK(dir != NULL);
	while ((de = readdir(dir)) != NULL)
		if (de->d_name[0] != '.')
		{
			char file[512];

			snprintf(file, sizeof(file), "layers/%s", de->d_name);
			flip_layer(&s, &h, &other, store_path(&s, file, path), long_form ? 3000 : 60);
		}
	closedir(dir);
	dir = opendir(store_path(&s, "wal", path));
	CHECK(dir != NULL);
	while ((de = readdir(dir)) != NULL)
		if (de->d_name[0] != '.')
		{
			char file[512];

			snprintf(file, sizeof(file), "wal/%s", de->d_name);
			flip_wal(&s, &h, &other, store_path(&s, file, path), long_form ? 3000 : 80);
		}
	closedir(dir);

	/* nothing of it is left */
	damaged_file = "nothing";
	outcome = (Outcome) {0};
	look(&s, &h, &other);
	CHECK(outcome.right == 1);
	remove_tree(s.dir);
	history_end(&h);
	history_end(&other);
	return 0;
}
