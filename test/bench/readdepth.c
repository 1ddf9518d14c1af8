/*
 * readdepth.c
 *	  Measures reads of pages whose versions are in a given number of layer
 *	  files, by each method of I/O, with values in the kernel's page cache or
 *	  with a delay for each read.
 *
 *	  readdepth STORE BRANCH SPC DB REL NBLOCKS ROUNDS DEPTH LSN [DEPTH LSN ...]
 *
 * The store must not be running.  It is opened in this process, as the daemon
 * opens it, but without its page cache.  Blocks are drawn at random from the first
 * NBLOCKS of the relation's main fork.  Methods take turns; figures are medians
 * of the rounds.  A delay is added to each read of a file (aio_bench_delay,
 * layer_bench_delay).
 *
 * A first read happens in the state after a start of the store: no file is open,
 * and the kernel has none of them in its page cache.  The redo helper is already
 * running.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <glob.h>
#include <unistd.h>

#include "base/config.h"
#include "figures.h"
#include "layer/layer_impl.h"
#include "sqlstate.h"
#include "io/aio.h"
#include "read/read.h"
#include "store/store.h"

#define BATCH      32
#define MAX_ROUNDS 99

static const char *const methods[] = {"sync", "worker", "io_uring"};

/* Measurements of one method at one depth. */
typedef struct Figures
{
	double p50[MAX_ROUNDS];
	double p99[MAX_ROUNDS];
	double single[MAX_ROUNDS];      /* pages per second, one at a time */
	double batched[MAX_ROUNDS];     /* the same, BATCH at a time */
	double first[MAX_ROUNDS];       /* p50 of first reads of one page */
	double first_batch[MAX_ROUNDS]; /* p50 of first reads of BATCH pages */
} Figures;

static double
median(double *values, int n)
{
	sort_figures(values, n);
	return percentile(values, n, 50);
}

static void
must(PsError *err)
{
	if (err == NULL)
		return;
	fprintf(stderr, "readdepth: %s\n", err->message);
	exit(1);
}

static void
measure(Timeline *tl, PsRel rel, uint32 nblocks, XLogRecPtr lsn, int count, Figures *f, int round)
{
	char *pages = pg_malloc(BATCH * BLCKSZ);
	double *usec = pg_malloc(count * sizeof(double));
	double sum = 0;
	int batches = Max(count / BATCH, 1);
	double start;

	for (int i = 0; i < count; i++)
	{
		BlockNumber blk = (uint32) random() % nblocks;

		start = now_usec();
		must(timeline_read_pages(tl, rel, MAIN_FORKNUM, &blk, 1, lsn, pages));
		usec[i] = now_usec() - start;
		sum += usec[i];
	}
	sort_figures(usec, count);
	f->p50[round] = percentile(usec, count, 50);
	f->p99[round] = percentile(usec, count, 99);
	f->single[round] = count / sum * 1e6;

	start = now_usec();
	for (int i = 0; i < batches; i++)
	{
		BlockNumber blks[BATCH];

		for (int k = 0; k < BATCH; k++)
			blks[k] = (uint32) random() % nblocks;
		must(timeline_read_pages(tl, rel, MAIN_FORKNUM, blks, BATCH, lsn, pages));
	}
	f->batched[round] = batches * BATCH / (now_usec() - start) * 1e6;
	free(usec);
	free(pages);
}

/* Closes all layer files and drops them from the kernel's page cache. */
static void
forget_files(const char *store)
{
	char *pattern = psprintf("%s/tenants/*/timelines/*/layers/*", store);
	glob_t files;

	while (layer_close_unused())
		;
	if (glob(pattern, GLOB_NOSORT, NULL, &files) != 0)
		must(ps_error(PS_SQLSTATE_IO, "there is no file %s", pattern));
	for (size_t i = 0; i < files.gl_pathc; i++)
	{
		int fd = open(files.gl_pathv[i], O_RDONLY);

		if (fd < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
			must(ps_error(PS_SQLSTATE_IO, "could not drop %s from the page cache", files.gl_pathv[i]));
		close(fd);
	}
	globfree(&files);
	pfree(pattern);
}

/* Returns the p50 of first reads of n pages together. */
static double
first_read(const char *store, Timeline *tl, PsRel rel, uint32 nblocks, XLogRecPtr lsn, int n, int count)
{
	char *pages = pg_malloc(BATCH * BLCKSZ);
	double usec[MAX_ROUNDS];

	for (int i = 0; i < count; i++)
	{
		BlockNumber blks[BATCH];
		double start;

		for (int k = 0; k < n; k++)
			blks[k] = (uint32) random() % nblocks;
		forget_files(store);
		start = now_usec();
		must(timeline_read_pages(tl, rel, MAIN_FORKNUM, blks, n, lsn, pages));
		usec[i] = now_usec() - start;
	}
	free(pages);
	return median(usec, count);
}

int
main(int argc, char **argv)
{
	static const int delays[] = {0, 1000};
	PsRel rel;
	uint32 nblocks;
	int rounds;
	int ndepths = (argc - 8) / 2;
	Config *config;

	if (argc < 10 || argc % 2 != 0)
	{
		fprintf(stderr, "usage: readdepth STORE BRANCH SPC DB REL NBLOCKS ROUNDS DEPTH LSN [DEPTH LSN ...]\n");
		exit(1);
	}
	ps_log_level = PS_WARNING;
	rel = (PsRel) {(Oid) atoi(argv[3]), (Oid) atoi(argv[4]), (Oid) atoi(argv[5])};
	nblocks = (uint32) atoi(argv[6]);
	rounds = Min(atoi(argv[7]), MAX_ROUNDS);
	must(config_load(argv[1], &config));
	config->page_cache_size = 0;
	config->compaction_workers = 0;
	srandom(1);
	for (int d = 0; d < lengthof(delays); d++)
	{
		Figures *figures = pg_malloc(ndepths * lengthof(methods) * sizeof(Figures));

		aio_bench_delay = layer_bench_delay = delays[d];
		for (int round = -1; round < rounds; round++)
		{
			for (int m = 0; m < lengthof(methods); m++)
			{
				Store *store;
				Timeline *tl;

				free(config->io_method);
				config->io_method = pg_strdup(methods[m]);
				must(store_open(config, &store));
				must(store_find_branch(store, argv[2], &tl));
				for (int i = 0; i < ndepths; i++)
				{
					uint32 hi;
					uint32 lo;
					Figures *f = &figures[i * lengthof(methods) + m];

					if (sscanf(argv[9 + 2 * i], "%X/%X", &hi, &lo) != 2)
						must(ps_error(PS_SQLSTATE_INVALID, "\"%s\" is no LSN", argv[9 + 2 * i]));

					/* exclude the cost of the first use of a layer and of a helper */
					measure(tl, rel, nblocks, (uint64) hi << 32 | lo, delays[d] ? 20 : 500, f, 0);
					if (round < 0)
						continue;
					measure(tl, rel, nblocks, (uint64) hi << 32 | lo, delays[d] ? 100 : 3000, f, round);
					f->first[round] = first_read(argv[1], tl, rel, nblocks, (uint64) hi << 32 | lo, 1, 9);
					f->first_batch[round] = first_read(argv[1], tl, rel, nblocks, (uint64) hi << 32 | lo, BATCH, 5);
				}
				store_release(tl);
				store_close(store);
			}
		}
		printf("reads of pages, %s (p50, p99, pages/s one at a time, pages/s by %d), "
			   "first reads (p50 of one page, of %d)\n",
			   delays[d] ? "each read of a file 1 ms slower" : "values in the kernel's page cache", BATCH, BATCH);
		for (int i = 0; i < ndepths; i++)
		{
			for (int m = 0; m < lengthof(methods); m++)
			{
				Figures *f = &figures[i * lengthof(methods) + m];

				printf("  depth %2s  %-8s  %7.0f us  %7.0f us  %7.0f  %7.0f  %7.0f us  %7.0f us\n", argv[8 + 2 * i],
					   methods[m],
					   median(f->p50, rounds), median(f->p99, rounds), median(f->single, rounds),
					   median(f->batched, rounds),
					   median(f->first, rounds), median(f->first_batch, rounds));
			}
		}
		fflush(stdout);
		free(figures);
	}
	config_free(config);
	return 0;
}
