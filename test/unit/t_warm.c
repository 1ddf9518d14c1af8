/*
 * t_warm.c
 *	  Reads of what was not used since the store was started: files that are
 *	  not open, index pages that were not checked.  They wait once for each
 *	  level of the indexes, whatever the number of layers and pages, and what
 *	  is wrong with a file is an error of those alone that need it.
 *
 * What is waited for is counted: each call of aio_read(), and each read outside
 * of it.  Unless a test says otherwise, the kernel has nothing in its page cache.
 *
 * TEST_SEED repeats a run.
 */
#include "warm_store.h"

#include <pthread.h>
#include <sys/uio.h>

#include "layer/layer_impl.h"
#include "io/aio.h"
#include "read/values.h"
#include "read/read_impl.h"
#include "store/store_impl.h"

static const char *const io_methods[] = {"sync", "worker", "io_uring"};

/* ---- counting ---- */

static pthread_t counted_thread;
static bool in_aio;      /* of that thread, as the next two */
static int rounds;       /* calls of aio_read() */
static int single_waits; /* reads outside of it */
static Aio *counted_aio; /* of the store; with the method "sync" nothing is read together */
static int cached;       /* so many of a hundred reads find what they want in the kernel's page cache */
static uint64 rnd;       /* of that thread */

extern ssize_t __real_pread(int fd, void *buf, size_t len, off_t offset);
extern ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t offset);
extern ssize_t __real_preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags);
extern ssize_t __wrap_preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags);
extern void __real_aio_read(Aio *aio, AioRead *reads, int n);
extern void __wrap_aio_read(Aio *aio, AioRead *reads, int n);

static bool
is_counted(void)
{
	return pthread_equal(pthread_self(), counted_thread) != 0;
}

ssize_t
__wrap_pread(int fd, void *buf, size_t len, off_t offset)
{
	if (is_counted() && !in_aio)
		single_waits++;
	return __real_pread(fd, buf, len, offset);
}

/* Everywhere it is called with RWF_NOWAIT. */
ssize_t
__wrap_preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	CHECK(flags == RWF_NOWAIT);
	if (is_counted() && next_random(&rnd, 100) < cached)
		return __real_preadv2(fd, iov, n, offset, flags);
	errno = EAGAIN;
	return -1;
}

void
__wrap_aio_read(Aio *aio, AioRead *reads, int n)
{
	if (!is_counted())
	{
		__real_aio_read(aio, reads, n);
		return;
	}
	rounds++;
	in_aio = true;
	__real_aio_read(aio, reads, n);
	in_aio = false;
}

/* The store as it is after a start, and nothing counted. */
static void
start_again(Made *made)
{
	store_reopen(&made->s);
	counted_aio = made->s.store->aio;
	rounds = 0;
	single_waits = 0;
}

static void
count_waits(int most)
{
	if (aio_method(counted_aio) == AIO_SYNC)
		return;
	if (rounds > most || single_waits > 0)
	{
		fprintf(stderr, "%d rounds and %d single waits, expected %d rounds at most\n", rounds, single_waits, most);
		abort();
	}
	rounds = 0;
}

/* ---- tests ---- */

/*
 * The first read waits once for the first blocks of the files, once for each level of the index and once for the
 * values, whether it reads one page or many, from one layer or from all.
 */
static void
test_rounds(Made *made)
{
	BlockNumber blks[NBLOCKS];

	for (int i = 0; i < NBLOCKS; i++)
		blks[i] = i;
	for (int n = 1; n <= 64; n *= 8)
	{
		start_again(made);
		OK(read_blocks(made, blks, n));
		count_waits(1 + LEVELS + 1);
		/* all of it is there now */
		OK(read_blocks(made, blks, n));
		count_waits(1);
	}
}

/* So it is with the layers of the timeline that a branch begins in. */
static void
test_branch(Made *made)
{
	Timeline *branch;
	char *pages = pg_malloc(8 * BLCKSZ);
	BlockNumber blks[8];

	OK(store_branch(made->s.store, "branch", made->s.tl, made->h.gen.pos, NULL, &branch));
	store_release(branch);
	start_again(made);
	OK(store_find_branch(made->s.store, "branch", &branch));
	single_waits = 0;
	for (int i = 0; i < lengthof(blks); i++)
		blks[i] = i * 3;
	OK(timeline_read_pages(branch, rel, MAIN_FORKNUM, blks, lengthof(blks), made->h.gen.pos, pages));
	count_waits(1 + LEVELS + 1);
	for (int i = 0; i < lengthof(blks); i++)
	{
		char expected[BLCKSZ];

		expected_page(blks[i], expected);
		CHECK(memcmp(pages + i * BLCKSZ, expected, BLCKSZ) == 0);
	}
	free(pages);
	store_release(branch);
}

/* What is older than an image file that has the key is not looked at. */
static void
test_image_ends(Made *made)
{
	BlockNumber blk = 7;
	int before;

	start_again(made);
	before = layer_count_open();
	OK(read_blocks_of(made, image_rel, &blk, 1));
	count_waits(1 + LEVELS + 1);
	/* besides, the file with its size */
	CHECK(layer_count_open() == before + NLAYERS - 1 - IMAGE_LAYER + 1 + 1);
}

/* The versions of a block that is in all layers; their values. */
static void
read_chain(Made *made, PsRel of, int versions)
{
	PsKey key = ps_key_block(of, MAIN_FORKNUM, 0);
	ReadView view;
	Plan plan;
	ValueBatch batch;

	OK(view_open(&view, made->s.tl, made->h.gen.pos));
	OK(plan_one_key(&plan, &view, &key, 0, made->h.gen.pos));
	CHECK(plan.versions.n == versions);
	value_batch_init(&batch, &view);
	for (int i = 0; i < versions; i++)
	{
		CHECK(i == 0 || plan.versions.refs[i].lsn < plan.versions.refs[i - 1].lsn);
		if (i < 1000)
			value_batch_add(&batch, &plan.versions.refs[i], NULL);
	}
	value_batch_read(&batch);
	for (int i = 0; i < batch.n; i++)
		OK(batch.reads[i].err);
	value_batch_free(&batch);
	plan_free(&plan);
	view_close(&view);
}

/* Twenty layers, a version in each; one layer, thousands of versions there, with the dictionary that these need. */
static void
test_chains(Made *made)
{
	start_again(made);
	read_chain(made, record_rel, NLAYERS);
	count_waits(1 + LEVELS + 1);
	read_chain(made, record_rel, NLAYERS);
	count_waits(1);

	start_again(made);
	read_chain(made, hot_rel, HOT_VERSIONS);
	count_waits(1 + LEVELS + 8 + 1);

	/* nothing but the dictionary is missing when the file is open */
	cached = 100;
	start_again(made);
	read_chain(made, hot_rel, HOT_VERSIONS);
	count_waits(3);
	cached = 0;
}

static void
damage(const char *path, off_t offset)
{
	int fd = open(path, O_RDWR);
	uint8 byte;

	CHECK(fd >= 0 && __real_pread(fd, &byte, 1, offset) == 1);
	byte ^= 0x40;
	CHECK(pwrite(fd, &byte, 1, offset) == 1);
	close(fd);
}

/*
 * Reads of blocks that need the damaged layer fail, and so does a request for several blocks of which one needs it;
 * other blocks are read.
 */
static void
check_damaged(Made *made, int number, const char *what)
{
	BlockNumber above = number + 2; /* its image is in the next newer layer */
	BlockNumber of_it = number + 1;
	BlockNumber both[] = {above, of_it};
	PsError *err;

	CHECK(layer_of(above) == number + 1 && layer_of(of_it) == number);
	for (int i = 0; i < 6; i++)
	{
		cached = i < 2 ? 0 : 50;
		start_again(made);
		OK(read_blocks(made, &above, 1));
		for (int k = 0; k < 2; k++)
		{
			rounds = 0;
			err = read_blocks(made, i % 2 == 0 ? &of_it : both, i % 2 + 1);
			CHECK(err != NULL);
			if (strstr(err->message, made->files[number]) == NULL || strstr(err->message, what) == NULL)
			{
				fprintf(stderr, "message: %s, expected \"%s\" of %s\n", err->message, what, made->files[number]);
				abort();
			}
			ps_error_free(err);
			/* what cannot be had is not asked for again and again */
			CHECK(rounds <= 1 + LEVELS + 2);
			OK(read_blocks(made, &above, 1));
		}
	}
	cached = 0;
}

/*
 * Damage in a layer that is read ahead but not needed is no error; where it is
 * needed, it is one, each time, until it is mended.
 */
static void
test_damaged(Made *made)
{
	int number = NLAYERS / 2;
	const char *path = made->files[number];
	BlockNumber blk = number + 1;
	char moved[600];
	uint8 block[LAYER_BLOCK_SIZE];
	LayerSummary summary;
	int fd = open(path, O_RDONLY);

	CHECK(fd >= 0 && __real_pread(fd, block, sizeof(block), 0) == sizeof(block));
	close(fd);
	OK(layer_summary_decode(path, block, &summary));
	CHECK(summary.index_start > summary.values_end);
	for (int i = 0; i < 4; i++)
	{
		off_t offsets[] = {100, summary.index_start - 1, summary.index_start + 100,
						   summary.index_start + (uint64) summary.root * LAYER_BLOCK_SIZE + 100};
		static const char *const what[] = {"checksum of the summary", "byte between values and index",
										   "checksum of index page 0", "checksum of index page"};

		damage(path, offsets[i]);
		check_damaged(made, number, what[i]);
		damage(path, offsets[i]);
		OK(read_blocks(made, &blk, 1));
	}
	/* to where the store does not look for files that are in its way */
	snprintf(moved, sizeof(moved), "%s/moved", made->s.dir);
	CHECK(rename(path, moved) == 0);
	check_damaged(made, number, "could not open");
	CHECK(rename(moved, path) == 0);
	OK(read_blocks(made, &blk, 1));
}

/* Fewer files may be open than a read looks at: it is as it should be, and so is their number. */
static void
test_few_files(Made *made)
{
	BlockNumber blks[NBLOCKS];

	for (int i = 0; i < NBLOCKS; i++)
		blks[i] = i;
	layer_set_max_open(8);
	start_again(made);
	for (int n = 1; n <= 64; n *= 8)
	{
		OK(read_blocks(made, blks, n));
		CHECK(layer_count_open() <= 8);
	}
	layer_set_max_open(512);
}

typedef struct Reader
{
	Made *made;
	uint64 random;
} Reader;

static void *
read_at_random(void *arg)
{
	Reader *r = arg;

	for (int i = 0; i < 20; i++)
	{
		char page[BLCKSZ];
		char expected[BLCKSZ];
		BlockNumber blk = next_random(&r->random, NBLOCKS);

		OK(timeline_read_pages(r->made->s.tl, rel, MAIN_FORKNUM, &blk, 1, r->made->h.gen.pos, page));
		expected_page(blk, expected);
		CHECK(memcmp(page, expected, BLCKSZ) == 0);
	}
	return NULL;
}

/* Several threads open the same files and check the same pages, with room for all open files and with too little. */
static void
test_threads(Made *made)
{
	Reader readers[8];
	pthread_t threads[lengthof(readers)];

	for (int round = 0; round < 8; round++)
	{
		int max_open = round % 2 == 0 ? 512 : 8;

		layer_set_max_open(max_open);
		start_again(made);
		for (int i = 0; i < lengthof(readers); i++)
		{
			readers[i] = (Reader) {made, i};
			CHECK(pthread_create(&threads[i], NULL, read_at_random, &readers[i]) == 0);
		}
		for (int i = 0; i < lengthof(readers); i++)
			pthread_join(threads[i], NULL);
		CHECK(layer_count_open() <= max_open);
	}
	layer_set_max_open(512);
}

int
main(void)
{
	const char *seed = getenv("TEST_SEED");

	rnd = seed != NULL ? strtoull(seed, NULL, 10) : (uint64) time(NULL);
	printf("TEST_SEED=%llu\n", (unsigned long long) rnd);
	ps_log_level = PS_FATAL;
	counted_thread = pthread_self();
	for (int i = 0; i < lengthof(io_methods); i++)
	{
		Made made;

		printf("%s\n", io_methods[i]);
		fflush(stdout);
		make_store(&made, io_methods[i]);
		test_rounds(&made);
		test_branch(&made);
		test_image_ends(&made);
		test_chains(&made);
		test_damaged(&made);
		test_few_files(&made);
		test_threads(&made);
		end_store(&made);
	}
	printf("ok\n");
	return 0;
}
