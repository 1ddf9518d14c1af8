/*
 * t_reads.c
 *	  Reading pages together, by each method of I/O: a value that cannot be
 *	  read, or is damaged, fails the pages that need it, with its file and place
 *	  in the message, and no other page of the request.  A damaged index fails
 *	  the request.  No page is ever wrong.
 *
 * TEST_SEED repeats a run.
 */
#include "timeline_util.h"

#include <dirent.h>
#include <fcntl.h>

#include "bytes.h"
#include "layer/layer_format.h"
#include "io/aio.h"
#include "sqlstate.h"

static uint64 rnd;

static const char *const io_methods[] = {"sync", "worker", "io_uring"};

/* What reading everything gave. */
typedef struct Result
{
	int good;   /* pages */
	int bad;    /* pages */
	int mixed;  /* requests of which some pages are good and some bad */
	int failed; /* requests */
} Result;

static void
check_message(PsError *err, const char *file)
{
	if (strstr(err->message, file) == NULL ||
		(strstr(err->message, "offset") == NULL && strstr(err->message, "WAL record at") == NULL))
	{
		fprintf(stderr, "message: %s, expected it to name %s\n", err->message, file);
		abort();
	}
	CHECK(ps_error_is(err, PS_SQLSTATE_CORRUPTED) || ps_error_is(err, PS_SQLSTATE_IO));
	ps_error_free(err);
}

/* Everything that the store has can be read. */
static void
reopen_with(TestStore *s, int checkpoint_timeout)
{
	TimelineInfo info;

	store_close(s->store);
	s->config.checkpoint_timeout = checkpoint_timeout;
	OK(store_try_open(s));
	timeline_info(s->tl, &info);
	OK(timeline_wait_ingested(s->tl, info.flushed_lsn, 60000, NULL));
}

static void
reopen(TestStore *s)
{
	reopen_with(s, s->config.checkpoint_timeout);
}

/* Reads every page; what is wrong must be in the file. */
static Result
read_all(const TestStore *s, const History *h, const char *file)
{
	const Model *m = &h->states[h->gen.n - 1 - h->first];
	Result result = {0};
	BlockNumber blks[NBLOCK];
	PsError *errors[NBLOCK];
	char *pages = pg_malloc(NBLOCK * BLCKSZ);

	for (int i = 0; i < NBLOCK; i++)
		blks[i] = (i * 5) % NBLOCK;
	for (int i = 0; i < NDB * NREL * NFORK; i++)
	{
		int db = i / NREL / NFORK;
		int rel = i / NFORK % NREL;
		int fork = i % NFORK;
		int good = result.good;
		int bad = result.bad;
		PsError *err = timeline_read_each_page(s->tl, model_rel(db, rel), fork, blks, NBLOCK, h->gen.pos, pages,
											   errors);

		if (err != NULL)
		{
			check_message(err, file);
			result.failed++;
			continue;
		}
		for (int b = 0; b < NBLOCK; b++)
		{
			const ModelFork *f = &m->forks[db][rel][fork];
			char expected[BLCKSZ];

			if (errors[b] != NULL)
			{
				check_message(errors[b], file);
				result.bad++;
				continue;
			}
			make_page(f->pages[blks[b]].seed, f->pages[blks[b]].lsn, expected);
			if (memcmp(pages + b * BLCKSZ, expected, BLCKSZ) != 0)
			{
				fprintf(stderr, "db %d rel %d fork %d block %u: page has LSN %X/%X, expected %X/%X\n", db, rel, fork,
						blks[b], LSN_FORMAT_ARGS(PageGetLSN(pages + b * BLCKSZ)),
						LSN_FORMAT_ARGS(PageGetLSN(expected)));
				abort();
			}
			result.good++;
		}
		if (result.good > good && result.bad > bad)
			result.mixed++;
	}
	free(pages);
	return result;
}

static void
check_all_good(const TestStore *s, const History *h)
{
	Result r = read_all(s, h, "no file");

	CHECK(r.bad == 0 && r.failed == 0 && r.good == NDB * NREL * NFORK * NBLOCK);
}

static void
push_to(TestStore *s, const History *h, XLogRecPtr to)
{
	TimelineInfo info;
	WalReceiver *receiver;
	XLogRecPtr start;
	XLogRecPtr flushed;

	timeline_info(s->tl, &info);
	if (info.generation == 0)
	{
		WalState state;
		XLogRecPtr checkpoint;

		OK(timeline_new_generation(s->tl, "test", NULL, &info.generation, &state, &checkpoint));
	}
	OK(wal_receiver_open(s->tl, info.generation, &receiver, &start));
	OK(push(receiver, h, start, to, &rnd, &flushed));
	wal_receiver_close(receiver);
	OK(timeline_wait_ingested(s->tl, to, 60000, NULL));
}

/* A store with some quarters of its history in layer files, the rest in WAL. */
static void
make_store(TestStore *s, History *h, const char *io_method, int quarters)
{
	XLogRecPtr flushed;
	TimelineInfo info;

	history_begin(h, rnd);
	next_random(&rnd, 2);
	h->no_copies = true;
	for (int i = 0; i < 400; i++)
		add_random_record(h);
	store_make(s, h);
	s->config.io_method = unconstify(char *, io_method);
	s->config.io_workers = 3;
	s->config.page_cache_size = 0;
	for (int part = 1; part <= quarters; part++)
	{
		flushed = h->gen.records[h->first + part * (h->gen.n - 1 - h->first) / 4].end;
		push_to(s, h, flushed);
		reopen_with(s, 0);
		do
		{
			pg_usleep(1000);
			timeline_info(s->tl, &info);
		} while (info.disk_consistent_lsn < flushed);
		reopen_with(s, 3600);
	}
	push_to(s, h, h->gen.pos);
	check_all_good(s, h);
}

static void
end_store(TestStore *s, History *h)
{
	store_close(s->store);
	remove_tree(s->dir);
	history_end(h);
}

/* Names of the files in layers/ or wal/; returns how many. */
static int
list_files(const TestStore *s, const char *folder, char names[50][256])
{
	char path[512];
	DIR *dir = opendir(store_path(s, folder, path));
	struct dirent *entry;
	int n = 0;

	CHECK(dir != NULL);
	while ((entry = readdir(dir)) != NULL)
	{
		if (entry->d_name[0] != '.')
			snprintf(names[n++], 256, "%s", entry->d_name);
		CHECK(n < 50);
	}
	closedir(dir);
	return n;
}

static void
file_path(const TestStore *s, const char *folder, const char *name, char path[512])
{
	char relative[300];

	snprintf(relative, sizeof(relative), "%s/%s", folder, name);
	store_path(s, relative, path);
}

/* Inverts a byte. */
static void
damage(const char *path, off_t offset)
{
	int fd = open(path, O_RDWR);
	uint8 byte;

	CHECK(fd >= 0 && pread(fd, &byte, 1, offset) == 1);
	byte ^= 0x40;
	CHECK(pwrite(fd, &byte, 1, offset) == 1);
	close(fd);
}

/* Where the values end and the index begins. */
static void
file_layout(const char *path, uint64 *values_end, uint64 *index_start, uint64 *size)
{
	uint8 block[LAYER_BLOCK_SIZE];
	int fd = open(path, O_RDONLY);

	CHECK(fd >= 0 && pread(fd, block, sizeof(block), 0) == sizeof(block));
	close(fd);
	*values_end = ps_get64(block + SUMMARY_VALUES_END);
	*index_start = ps_get64(block + SUMMARY_INDEX_START);
	*size = ps_get64(block + SUMMARY_FILE_SIZE);
}

/* Any byte of the values, and of the WAL that is in no file yet. */
static void
test_damaged_values(const char *io_method)
{
	TestStore s;
	History h;
	Result sum = {0};
	char names[50][256];
	int n;
	TimelineInfo info;

	make_store(&s, &h, io_method, 3);
	n = list_files(&s, "layers", names);
	CHECK(n >= 4);
	for (int i = 0; i < 60 || (sum.mixed == 0 && i < 5000); i++)
	{
		const char *name = names[next_random(&rnd, n)];
		char path[512];
		uint64 values_end;
		uint64 index_start;
		uint64 size;
		off_t offset;
		Result r;

		file_path(&s, "layers", name, path);
		file_layout(path, &values_end, &index_start, &size);
		offset = LAYER_BLOCK_SIZE + next_random(&rnd, values_end - LAYER_BLOCK_SIZE);
		damage(path, offset);
		r = read_all(&s, &h, name);
		sum.bad += r.bad;
		sum.mixed += r.mixed;
		damage(path, offset);
	}
	CHECK(sum.mixed > 0);

	timeline_info(s.tl, &info);
	sum = (Result) {0};
	for (int i = 0; i < 60 || (sum.mixed == 0 && i < 5000); i++)
	{
		XLogRecPtr lsn = info.disk_consistent_lsn + next_random(&rnd, h.gen.pos - info.disk_consistent_lsn);
		XLogSegNo segno;
		char name[MAXFNAMELEN];
		char path[512];
		Result r;

		XLByteToSeg(lsn, segno, SEGMENT_SIZE);
		XLogFileName(name, 1, segno, SEGMENT_SIZE);
		file_path(&s, "wal", name, path);
		damage(path, lsn % SEGMENT_SIZE);
		r = read_all(&s, &h, name);
		sum.bad += r.bad;
		sum.mixed += r.mixed;
		CHECK(r.failed == 0);
		damage(path, lsn % SEGMENT_SIZE);
	}
	CHECK(sum.mixed > 0);
	check_all_good(&s, &h);
	end_store(&s, &h);
}

/* Puts another file in the place of every descriptor of a file that is open; returns how many that were. */
static int
replace_descriptors(const char *path, int other)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	char real[512];
	int n = 0;

	CHECK(dir != NULL && realpath(path, real) != NULL);
	while ((entry = readdir(dir)) != NULL)
	{
		char link[600];
		ssize_t len = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);

		if (len < 0)
			continue;
		link[len] = '\0';
		if (strcmp(link, real) == 0)
		{
			CHECK(dup2(other, atoi(entry->d_name)) >= 0);
			n++;
		}
	}
	closedir(dir);
	return n;
}

/*
 * Makes each layer file of a new store end in the middle of its values, or one that
 * cannot be read at all, and reads everything; the sum over all files.
 */
static Result
read_unreadable(const char *io_method, bool truncated)
{
	TestStore s;
	History h;
	Result sum = {0};
	char names[50][256];
	int replaced = 0;
	int n;

	make_store(&s, &h, io_method, 3);
	n = list_files(&s, "layers", names);
	for (int i = 0; i < n; i++)
	{
		char path[512];
		char copy[512];
		char command[1200];
		uint64 values_end;
		uint64 index_start;
		uint64 size;
		int other;
		Result r;

		reopen(&s);
		check_all_good(&s, &h);
		file_path(&s, "layers", names[i], path);
		file_layout(path, &values_end, &index_start, &size);
		snprintf(copy, sizeof(copy), "%s/copy", s.dir);
		snprintf(command, sizeof(command), "cp %s %s", path, copy);
		CHECK(system(command) == 0);
		CHECK(truncate(copy, (LAYER_BLOCK_SIZE + values_end) / 2) == 0);
		other = truncated ? open(copy, O_RDONLY) : open(s.dir, O_RDONLY | O_DIRECTORY);
		CHECK(other >= 0);
		replaced += replace_descriptors(path, other);
		close(other);
		r = read_all(&s, &h, names[i]);
		sum.good += r.good;
		sum.bad += r.bad;
		sum.mixed += r.mixed;
	}
	/* a file that no page is in need not be open */
	CHECK(replaced >= n - 1);
	end_store(&s, &h);
	return sum;
}

/* The newest state of a random history may need few values, so more than one history is tried. */
#define HISTORIES 5

static void
test_unreadable(const char *io_method)
{
	for (int truncated = 0; truncated < 2; truncated++)
	{
		Result sum = {0};

		for (int i = 0; i < HISTORIES && (sum.bad == 0 || sum.mixed == 0 || sum.good == 0); i++)
		{
			Result r = read_unreadable(io_method, truncated);

			sum.good += r.good;
			sum.bad += r.bad;
			sum.mixed += r.mixed;
		}
		if (sum.bad == 0 || sum.mixed == 0 || sum.good == 0)
			fail_msg("%d good, %d bad, %d mixed", sum.good, sum.bad, sum.mixed);
	}
}

/* A byte of an index page, found wrong at its first use. */
static void
test_damaged_index(const char *io_method)
{
	TestStore s;
	History h;
	Result sum = {0};
	char names[50][256];
	int n;

	make_store(&s, &h, io_method, 4);
	n = list_files(&s, "layers", names);
	for (int i = 0; i < 2 * n; i++)
	{
		const char *name = names[i % n];
		char path[512];
		uint64 values_end;
		uint64 index_start;
		uint64 size;
		off_t offset;
		Result r;

		file_path(&s, "layers", name, path);
		file_layout(path, &values_end, &index_start, &size);
		offset = index_start + next_random(&rnd, size - index_start);
		store_close(s.store);
		damage(path, offset);
		if (store_open(&s.config, &s.store) == NULL)
		{
			/* of the file with the saved state the index is looked at when the store is opened */
			PsError *err = store_find_branch(s.store, "main", &s.tl);

			if (err == NULL)
			{
				OK(timeline_wait_ingested(s.tl, h.gen.pos, 60000, NULL));
				r = read_all(&s, &h, name);
				CHECK(r.bad == 0);
				sum.failed += r.failed;
			}
			else
			{
				CHECK(strstr(err->message, name) != NULL);
				ps_error_free(err);
			}
		}
		damage(path, offset);
		reopen(&s);
	}
	CHECK(sum.failed > 0);
	check_all_good(&s, &h);
	end_store(&s, &h);
}

int
main(void)
{
	const char *seed = getenv("TEST_SEED");

	rnd = seed != NULL ? strtoull(seed, NULL, 10) : (uint64) time(NULL);
	ps_log_level = PS_WARNING;
	printf("TEST_SEED=%llu\n", (unsigned long long) rnd);
	for (int i = 0; i < lengthof(io_methods); i++)
	{
		printf("%s\n", io_methods[i]);
		fflush(stdout);
		test_damaged_values(io_methods[i]);
		test_unreadable(io_methods[i]);
		test_damaged_index(io_methods[i]);
	}
	printf("ok\n");
	return 0;
}
