/*
 * t_aio.c
 *	  Many reads of files at once, by each method: what comes back is what is in
 *	  the file, and all is waited for at the same time.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/aio.h"

#define FILE_SIZE (4 * 1024 * 1024 + 123)
#define MAX_LEN   20000

static const AioMethod methods[] = {AIO_SYNC, AIO_WORKER, AIO_URING};
static const char *const method_name[] = {"sync", "worker", "io_uring"};

static char path[64];
static int fd;
static char *contents;
static uint64 seed;

static uint32
next_random(uint64 *state, uint32 n)
{
	*state = *state * UINT64CONST(6364136223846793005) + UINT64CONST(1442695040888963407);
	return (uint32) ((*state >> 33) % n);
}

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static int
setup(void **state)
{
	const char *env = getenv("TEST_SEED");

	seed = env != NULL ? strtoull(env, NULL, 10) : (uint64) time(NULL);
	printf("TEST_SEED=%llu\n", (unsigned long long) seed);
	contents = pg_malloc(FILE_SIZE);
	for (int i = 0; i < FILE_SIZE; i++)
		contents[i] = (char) next_random(&seed, 256);
	strcpy(path, "/tmp/t_aio.XXXXXX");
	fd = mkstemp(path);
	return fd < 0 || write(fd, contents, FILE_SIZE) != FILE_SIZE || fsync(fd) != 0;
}

static int
teardown(void **state)
{
	free(contents);
	close(fd);
	return unlink(path);
}

/* n random reads, some of them beyond the file's end, a quarter of them of no file at all if bad. */
static void
check_reads(Aio *aio, int n, bool bad, uint64 *random)
{
	AioRead *reads = pg_malloc(n * sizeof(AioRead));
	char *buf = pg_malloc0((size_t) n * MAX_LEN);

	if (next_random(random, 2) == 0)
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	for (int i = 0; i < n; i++)
		reads[i] = (AioRead) {.fd = bad && next_random(random, 4) == 0 ? -1 : fd,
							  .offset = next_random(random, FILE_SIZE + 10000),
							  .len = 1 + next_random(random, MAX_LEN),
							  .buf = buf + (size_t) i * MAX_LEN};
	aio_read(aio, reads, n);
	for (int i = 0; i < n; i++)
	{
		AioRead *r = &reads[i];
		size_t there = r->offset < FILE_SIZE ? Min(r->len, FILE_SIZE - r->offset) : 0;

		if (r->fd < 0)
		{
			assert_int_equal(r->done, 0);
			assert_int_equal(r->error, EBADF);
			continue;
		}
		assert_int_equal(r->error, 0);
		assert_int_equal(r->done, there);
		assert_memory_equal(r->buf, contents + r->offset, there);
		for (size_t k = there; k < MAX_LEN; k++)
			assert_int_equal(r->buf[k], 0);
	}
	free(buf);
	free(reads);
}

static void
test_contents(void **state)
{
	static const int counts[] = {1, 2, 3, 100, 127, 128, 129, 255, 256, 257, 1023, 1024, 1025, 1500};

	for (int m = 0; m < lengthof(methods); m++)
	{
		Aio *aio;

		assert_null(aio_create(methods[m], 3, &aio));
		assert_int_equal(aio_method(aio), methods[m]);
		for (int i = 0; i < lengthof(counts); i++)
		{
			check_reads(aio, counts[i], false, &seed);
			check_reads(aio, counts[i], true, &seed);
		}
		aio_free(aio);
	}
}

typedef struct Reader
{
	pthread_t thread;
	Aio *aio;
	uint64 random;
} Reader;

static void *
read_much(void *arg)
{
	Reader *r = arg;

	for (int i = 0; i < 20; i++)
		check_reads(r->aio, 1 + next_random(&r->random, 40), i % 4 == 0, &r->random);
	return NULL;
}

/* More threads than there are rings, or workers. */
static void
test_threads(void **state)
{
	for (int m = 0; m < lengthof(methods); m++)
	{
		Aio *aio;
		Reader readers[50];

		assert_null(aio_create(methods[m], 3, &aio));
		for (int i = 0; i < lengthof(readers); i++)
		{
			readers[i] = (Reader) {.aio = aio, .random = seed + i};
			assert_int_equal(pthread_create(&readers[i].thread, NULL, read_much, &readers[i]), 0);
		}
		for (int i = 0; i < lengthof(readers); i++)
			pthread_join(readers[i].thread, NULL);
		aio_free(aio);
	}
}

/* 20 reads of which each takes 20 ms more: one after the other 400 ms. */
static void
test_one_wait(void **state)
{
	char buf[20][100];
	AioRead reads[20];

	aio_bench_delay = 20000;
	for (int m = 0; m < lengthof(methods); m++)
	{
		Aio *aio;
		double best = 1000;

		assert_null(aio_create(methods[m], 0, &aio));
		for (int round = 0; round < 5; round++)
		{
			double start = now();

			for (int i = 0; i < lengthof(reads); i++)
				reads[i] = (AioRead) {.fd = fd, .offset = i * 100000, .len = sizeof(buf[i]), .buf = buf[i]};
			aio_read(aio, reads, lengthof(reads));
			best = Min(best, now() - start);
		}
		printf("%s: %.1f ms\n", method_name[m], best * 1e3);
		assert_true(best >= 0.02);
		if (methods[m] == AIO_SYNC)
			assert_true(best >= 0.4);
		else
			assert_true(best < 0.15);
		for (int i = 0; i < lengthof(reads); i++)
			assert_memory_equal(buf[i], contents + reads[i].offset, sizeof(buf[i]));
		aio_free(aio);
	}
	aio_bench_delay = 0;
}

/* Runs f in a process of its own, for it changes what the kernel allows. */
static void
in_child(void (*f)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
	{
		f();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define MUST(cond)                                                     \
	do                                                                 \
	{                                                                  \
		if (!(cond))                                                   \
		{                                                              \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
			_exit(1);                                                  \
		}                                                              \
	} while (0)

static void
refuse_io_uring(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = lengthof(filter), .filter = filter};

	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

/* As in most containers: threads read instead. */
static void
without_io_uring(void)
{
	Aio *aio;
	uint64 random = 1;

	refuse_io_uring();
	MUST(aio_create(AIO_URING, 2, &aio) == NULL);
	MUST(aio_method(aio) == AIO_WORKER);
	check_reads(aio, 100, true, &random);
	aio_free(aio);
}

static void
test_refused(void **state)
{
	in_child(without_io_uring);
}

/* It is allowed at the start, and refused when a second ring is wanted: reads go on. */
static void
without_more_rings(void)
{
	Aio *aio;
	Reader readers[8];

	MUST(aio_create(AIO_URING, 2, &aio) == NULL);
	MUST(aio_method(aio) == AIO_URING);
	refuse_io_uring();
	aio_bench_delay = 100; /* so that there are several at a time */
	for (int i = 0; i < lengthof(readers); i++)
	{
		readers[i] = (Reader) {.aio = aio, .random = i};
		MUST(pthread_create(&readers[i].thread, NULL, read_much, &readers[i]) == 0);
	}
	for (int i = 0; i < lengthof(readers); i++)
		pthread_join(readers[i].thread, NULL);
	aio_free(aio);
}

static void
test_no_more_rings(void **state)
{
	in_child(without_more_rings);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_contents),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_one_wait),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_no_more_rings),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
