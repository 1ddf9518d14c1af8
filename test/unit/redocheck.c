/*
 * redocheck.c
 *	  Compares pages made by redo helpers with those of stock recovery.
 *
 *		redocheck BASE WALDIR END REPLAYED [--hints] [--bench]
 *
 * BASE is a copy of a data directory that was shut down; WALDIR has all WAL
 * written since, up to the LSN END at least; REPLAYED is a copy of BASE to
 * which stock recovery applied that WAL up to END.  --hints: the cluster has
 * wal_log_hints or data checksums.
 *
 * Every block that the WAL changes is made twice, once from BASE with all its
 * records, once from the last record that makes it alone (what the store
 * does), and compared with REPLAYED's, but for pd_checksum.  Not compared: free
 * space maps (redo changes them without saying so), the LSN of visibility map
 * pages (a bit is cleared without a new LSN), blocks that no longer exist,
 * blocks of databases copied as files.
 *
 * Ends with status 1 on a difference or an error.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/rmgr.h"
#include "storage/bufpage.h"

#include "redo_util.h"
#include "pg/interpret.h"
#include "pg/control.h"
#include "pg/decoder.h"
#include "pg/walstate.h"
#include "wal/reader.h"

#define LIBRARY     "../../src/walredo/pageserver_walredo.so"
#define NTHREADS    2
#define MAX_REPORTS 20

/* A record that changes a block. */
typedef struct Change
{
	int record; /* in records[] */
	bool will_init;
} Change;

typedef struct Block
{
	PsKey key;
	bool in_use;
	bool no_base; /* cut off, dropped or copied since BASE */
	bool copied;  /* its database was copied as files: contents before the WAL unknown */
	int nchanges;
	int max_changes;
	Change *changes;
} Block;

typedef struct Counts
{
	uint64 exact;
	uint64 vm_lsn; /* visibility map pages that differ in LSN only */
	uint64 wrong;
	uint64 errors;
	uint64 gone; /* no longer in REPLAYED */
	uint64 skipped;
	uint64 records;
	uint64 by_rmgr[RM_MAX_BUILTIN_ID + 1]; /* right pages by the last record's resource manager */
} Counts;

static const char *base_dir;
static const char *replayed_dir;
static WalRecord *records;
static int nrecords;
static int max_records;
static Block *blocks;
static uint32 max_blocks = 1 << 16; /* a power of two */
static uint32 nblocks;
static Oid copied_dbs[64];
static int ncopied_dbs;
static RedoPool *pool;
static atomic_int reports;
static atomic_ullong images_checked;
static atomic_ullong images_wrong;

static void
check(PsError *err)
{
	if (err == NULL)
		return;
	fprintf(stderr, "redocheck: %s %s\n", err->message, err->detail ? err->detail : "");
	exit(1);
}

/* ---- what the WAL changes ---- */

static Block *
find_block(const PsKey *key)
{
	uint64 h = (key->rel * UINT64CONST(0x9E3779B97F4A7C15)) ^ (key->blk * UINT64CONST(0xC2B2AE3D27D4EB4F)) ^
			   ((uint64) key->db << 20) ^ ((uint64) key->fork << 50) ^ key->spc;

	h ^= h >> 29;
	h *= UINT64CONST(0xBF58476D1CE4E5B9);
	for (h ^= h >> 32;; h++)
	{
		Block *b = &blocks[h & (max_blocks - 1)];

		if (!b->in_use || ps_key_cmp(&b->key, key) == 0)
			return b;
	}
}

static Block *
get_block(const PsKey *key)
{
	Block *b = find_block(key);

	if (b->in_use)
		return b;
	if (nblocks >= max_blocks / 2)
	{
		Block *old = blocks;

		blocks = pg_malloc0(2 * max_blocks * sizeof(Block));
		max_blocks *= 2;
		for (uint32 i = 0; i < max_blocks / 2; i++)
		{
			if (old[i].in_use)
				*find_block(&old[i].key) = old[i];
		}
		free(old);
		b = find_block(key);
	}
	nblocks++;
	b->in_use = true;
	b->key = *key;
	for (int i = 0; i < ncopied_dbs; i++)
		b->copied |= copied_dbs[i] == key->db;
	return b;
}

static PsError *
on_block(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber blk, bool will_init)
{
	PsKey key = ps_key_block(rel, fork, blk);
	Block *b = get_block(&key);

	if (b->nchanges > 0 && b->changes[b->nchanges - 1].record == nrecords - 1)
	{
		fprintf(stderr, "redocheck: told twice of one block of the record at %X/%X\n", LSN_FORMAT_ARGS(rec->start));
		exit(1);
	}
	if (b->nchanges == b->max_changes)
	{
		b->max_changes = Max(4, 2 * b->max_changes);
		b->changes = pg_realloc(b->changes, b->max_changes * sizeof(Change));
	}
	b->changes[b->nchanges++] = (Change) {nrecords - 1, will_init};
	return NULL;
}

/* Forgets the blocks of a relation fork (rel 0: of the database) from "from" on; fork -1: all forks. */
static void
forget(Oid spc, Oid db, Oid rel, int fork, BlockNumber from)
{
	for (uint32 i = 0; i < max_blocks; i++)
	{
		Block *b = &blocks[i];

		if (!b->in_use || b->key.spc != spc || b->key.db != db || (rel != 0 && b->key.rel != rel) ||
			(fork >= 0 && b->key.fork != fork) || b->key.blk < from)
			continue;
		b->nchanges = 0;
		b->no_base = true;
	}
}

static PsError *
on_truncate(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber n)
{
	forget(rel.spc, rel.db, rel.rel, fork, n);
	return NULL;
}

static PsError *
on_drop(void *arg, const WalRecord *rec, PsRel rel)
{
	forget(rel.spc, rel.db, rel.rel, -1, 0);
	return NULL;
}

static PsError *
on_db_drop(void *arg, const WalRecord *rec, Oid spc, Oid db)
{
	forget(spc, db, 0, -1, 0);
	return NULL;
}

static PsError *
on_db_copy(void *arg, const WalRecord *rec, Oid src_spc, Oid src_db, Oid spc, Oid db)
{
	forget(spc, db, 0, -1, 0);
	if (ncopied_dbs < lengthof(copied_dbs))
		copied_dbs[ncopied_dbs++] = db;
	return NULL;
}

static PsError *
on_create(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork)
{
	return NULL;
}

static PsError *
on_slru(void *arg, const WalRecord *rec, PsSlru slru, uint32 pageno, bool will_init)
{
	return NULL;
}

static PsError *
on_slru_truncate(void *arg, const WalRecord *rec, PsSlru slru, uint32 cutoff)
{
	return NULL;
}

static PsError *
on_origin(void *arg, const WalRecord *rec, RepOriginId id, XLogRecPtr remote_lsn, bool force)
{
	return NULL;
}

static PsError *
on_put(void *arg, const WalRecord *rec, const PsKey *key, const char *data, uint32 len)
{
	return NULL;
}

static PsError *
on_del(void *arg, const WalRecord *rec, const PsKey *key)
{
	return NULL;
}

static const WalSink sink = {
	.block = on_block,
	.slru = on_slru,
	.slru_truncate = on_slru_truncate,
	.rel_create = on_create,
	.rel_truncate = on_truncate,
	.rel_drop = on_drop,
	.db_copy = on_db_copy,
	.db_drop = on_db_drop,
	.origin = on_origin,
	.put = on_put,
	.del = on_del,
};

static void
read_wal(const char *waldir, const ControlFileData *control, XLogRecPtr end)
{
	uint32 segsize = control->xlog_seg_size;
	XLogRecPtr pos = control->checkPoint;
	WalDecoder *dec = wal_decoder_create(pos, InvalidXLogRecPtr, control->system_identifier, segsize, false);
	char *segment = pg_malloc(segsize);
	bool done = false;

	while (!done)
	{
		char name[MAXFNAMELEN];
		char path[MAXPGPATH];
		int fd;
		bool found;

		XLogFileName(name, 1, pos / segsize, segsize);
		snprintf(path, sizeof(path), "%s/%s", waldir, name);
		fd = open(path, O_RDONLY);
		if (fd < 0 || read(fd, segment, segsize) != segsize)
		{
			fprintf(stderr, "redocheck: could not read \"%s\": %m\n", path);
			exit(1);
		}
		close(fd);
		wal_decoder_feed(dec, segment + pos % segsize, segsize - pos % segsize);
		pos += segsize - pos % segsize;
		for (;;)
		{
			WalRecord rec;
			WalParsed parsed;

			check(wal_decoder_next(dec, &rec, &found));
			if (!found)
				break;
			if (nrecords == max_records)
			{
				max_records = Max(65536, 2 * max_records);
				records = pg_realloc(records, max_records * sizeof(WalRecord));
			}
			rec.data = memcpy(pg_malloc(MAXALIGN(rec.len)), rec.data, rec.len);
			records[nrecords++] = rec;
			check(wal_parse(&rec, &parsed));
			check(wal_interpret(&rec, &parsed, false, &sink));
			if (rec.end >= end)
			{
				done = true;
				break;
			}
		}
	}
	wal_decoder_free(dec);
	free(segment);
	printf("%d records, %u blocks\n", nrecords, nblocks);
}

/* ---- comparison ---- */

/* False if there is no such block. */
static bool
read_disk(const char *dir, const PsKey *key, char *page)
{
	char *rel = GetRelationPath(key->db, key->spc, key->rel, InvalidBackendId, key->fork);
	char path[MAXPGPATH];
	int fd;
	bool ok;

	if (key->blk / RELSEG_SIZE > 0)
		snprintf(path, sizeof(path), "%s/%s.%u", dir, rel, key->blk / RELSEG_SIZE);
	else
		snprintf(path, sizeof(path), "%s/%s", dir, rel);
	pfree(rel);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return false;
	ok = pread(fd, page, BLCKSZ, (off_t) (key->blk % RELSEG_SIZE) * BLCKSZ) == BLCKSZ;
	close(fd);
	return ok;
}

/* An image that wal_image_is_final() says is all, must give the page that redo gives. */
static void
check_image(const Block *b, const WalRecord *rec)
{
	PsRel rel = {b->key.spc, b->key.db, b->key.rel};
	WalParsed parsed;
	char image[BLCKSZ];
	char page[BLCKSZ];

	check(wal_parse(rec, &parsed));
	for (int i = 0; i <= parsed.max_block_id; i++)
	{
		const WalBlockRef *ref = &parsed.blocks[i];
		PageHeader header = (PageHeader) image;

		if (!ref->in_use || !ref->apply_image || ref->blk != b->key.blk || ref->fork != b->key.fork ||
			!ps_rel_equal(ref->rel, rel) || !wal_image_is_final(&parsed, i))
			continue;
		check(wal_restore_image(rec, &parsed, i, image));
		if (header->pd_upper != 0)
			PageXLogRecPtrSet(header->pd_lsn, rec->end);
		check(redo_page(pool, rel, b->key.fork, b->key.blk, NULL, rec, 1, page));
		atomic_fetch_add(&images_checked, 1);
		if (memcmp(image, page, BLCKSZ) != 0)
		{
			fprintf(stderr, "image of block %d of the record at %X/%X (rmgr %d info %02X) is not all that redo does\n",
					i, LSN_FORMAT_ARGS(rec->start), parsed.header->xl_rmid, parsed.header->xl_info);
			atomic_fetch_add(&images_wrong, 1);
		}
	}
}

static void
report(const Block *b, int from, const char *what, const char *got, const char *want)
{
	const WalRecord *last = &records[b->changes[b->nchanges - 1].record];
	const XLogRecord *header = (const XLogRecord *) last->data;
	char text[PS_KEY_TEXT];
	int off = 0;

	if (atomic_fetch_add(&reports, 1) >= MAX_REPORTS)
		return;
	if (want != NULL)
	{
		while (got[off] == want[off])
			off++;
	}
	fprintf(stderr, "%s: %s, %d of %d records, last at %X/%X (rmgr %d info %02X), first different byte %d\n",
			ps_key_format(&b->key, text), what, b->nchanges - from, b->nchanges, LSN_FORMAT_ARGS(last->start),
			header->xl_rmid, header->xl_info, off);
}

static void
compare_block(const Block *b, bool from_base, Counts *counts)
{
	PsRel rel = {b->key.spc, b->key.db, b->key.rel};
	char base[BLCKSZ];
	char want[BLCKSZ];
	char got[BLCKSZ];
	const char *start = NULL;
	WalRecord *chain;
	PsError *err;
	int from = from_base ? 0 : b->nchanges - 1;

	if (b->nchanges == 0 || b->key.fork == FSM_FORKNUM)
	{
		counts->skipped++;
		return;
	}
	if (!read_disk(replayed_dir, &b->key, want))
	{
		counts->gone++;
		return;
	}
	while (from > 0 && !b->changes[from].will_init)
		from--;
	if (!b->changes[from].will_init)
	{
		if (b->copied)
		{
			counts->skipped++;
			return;
		}
		if (!b->no_base && read_disk(base_dir, &b->key, base))
		{
			static const char zeros[BLCKSZ];

			if (memcmp(base, zeros, BLCKSZ) != 0)
				start = base;
		}
	}
	chain = pg_malloc((b->nchanges - from) * sizeof(WalRecord));
	for (int i = from; i < b->nchanges; i++)
		chain[i - from] = records[b->changes[i].record];
	err = redo_page(pool, rel, b->key.fork, b->key.blk, start, chain, b->nchanges - from, got);
	counts->records += b->nchanges - from;
	if (err == NULL && !from_base)
	{
		for (int i = from; i < b->nchanges && i < from + 3; i++)
		{
			if (b->changes[i].will_init)
				check_image(b, &chain[i - from]);
		}
	}
	free(chain);
	if (err != NULL)
	{
		counts->errors++;
		report(b, from, err->message, got, NULL);
		ps_error_free(err);
		return;
	}
	((PageHeader) got)->pd_checksum = ((PageHeader) want)->pd_checksum;
	if (memcmp(got, want, BLCKSZ) == 0)
	{
		counts->exact++;
		counts->by_rmgr[((XLogRecord *) records[b->changes[b->nchanges - 1].record].data)->xl_rmid]++;
	}
	else if (b->key.fork == VISIBILITYMAP_FORKNUM &&
			 memcmp(got + sizeof(PageXLogRecPtr), want + sizeof(PageXLogRecPtr), BLCKSZ - sizeof(PageXLogRecPtr)) == 0)
		counts->vm_lsn++;
	else
	{
		counts->wrong++;
		report(b, from, "DIFFERENT", got, want);
	}
}

typedef struct Job
{
	bool from_base;
	int part;
	Counts counts;
} Job;

static void *
compare_thread(void *arg)
{
	Job *job = arg;

	for (uint32 i = job->part; i < max_blocks; i += NTHREADS)
	{
		if (blocks[i].in_use)
			compare_block(&blocks[i], job->from_base, &job->counts);
	}
	return NULL;
}

/* Returns whether all was right. */
static bool
compare(bool from_base)
{
	static const char *const rmgr_names[] = {
#define PG_RMGR(symname, name, redo, desc, identify, startup, cleanup, mask, decode) name,
#include "access/rmgrlist.h"
#undef PG_RMGR
	};
	Job jobs[NTHREADS] = {0};
	pthread_t threads[NTHREADS];
	Counts all = {0};

	for (int i = 0; i < NTHREADS; i++)
	{
		jobs[i].from_base = from_base;
		jobs[i].part = i;
		pthread_create(&threads[i], NULL, compare_thread, &jobs[i]);
	}
	for (int i = 0; i < NTHREADS; i++)
	{
		uint64 *sum = (uint64 *) &all;

		pthread_join(threads[i], NULL);
		for (int k = 0; k < sizeof(Counts) / sizeof(uint64); k++)
			sum[k] += ((uint64 *) &jobs[i].counts)[k];
	}
	printf("%s: exact %llu, visibility map but for its LSN %llu, different %llu, errors %llu; "
		   "gone %llu, skipped %llu; %llu records applied\n",
		   from_base ? "from the base" : "from the last image", (unsigned long long) all.exact,
		   (unsigned long long) all.vm_lsn, (unsigned long long) all.wrong, (unsigned long long) all.errors,
		   (unsigned long long) all.gone, (unsigned long long) all.skipped, (unsigned long long) all.records);
	for (int i = 0; i <= RM_MAX_BUILTIN_ID; i++)
	{
		if (all.by_rmgr[i] > 0)
			printf("  %s %llu", rmgr_names[i], (unsigned long long) all.by_rmgr[i]);
	}
	printf("\n");
	return all.wrong == 0 && all.errors == 0 && all.exact > 0;
}

/* ---- speed ---- */

static int
compare_double(const void *a, const void *b)
{
	double x = *(const double *) a;
	double y = *(const double *) b;

	return x < y ? -1 : x > y;
}

/* A block with n records of the resource manager in a row, small and without images, and the page before them. */
static bool
bench(RmgrId rmid, int n)
{
	enum
	{
		ROUNDS = 20000
	};
	static double usec[ROUNDS];

	for (uint32 i = 0; i < max_blocks; i++)
	{
		const Block *b = &blocks[i];
		PsRel rel = {b->key.spc, b->key.db, b->key.rel};
		WalRecord *chain;
		char base[BLCKSZ];
		char page[BLCKSZ];
		double total = 0;
		bool ok;

		if (!b->in_use || b->nchanges < n + 1 || !b->changes[0].will_init || b->key.fork != MAIN_FORKNUM)
			continue;
		chain = pg_malloc((n + 1) * sizeof(WalRecord));
		ok = true;
		for (int k = 0; k <= n; k++)
		{
			const XLogRecord *header;

			chain[k] = records[b->changes[k].record];
			header = (const XLogRecord *) chain[k].data;
			ok &= k == 0 || (header->xl_rmid == rmid && chain[k].len < 300 && !b->changes[k].will_init);
		}
		if (ok)
		{
			check(redo_page(pool, rel, MAIN_FORKNUM, b->key.blk, NULL, chain, 1, base));
			for (int k = 0; k < ROUNDS; k++)
			{
				struct timespec t0;
				struct timespec t1;

				clock_gettime(CLOCK_MONOTONIC, &t0);
				check(redo_page(pool, rel, MAIN_FORKNUM, b->key.blk, base, chain + 1, n, page));
				clock_gettime(CLOCK_MONOTONIC, &t1);
				usec[k] = (t1.tv_sec - t0.tv_sec) * 1e6 + (t1.tv_nsec - t0.tv_nsec) / 1e3;
				total += usec[k];
			}
			qsort(usec, ROUNDS, sizeof(double), compare_double);
			printf("%d records of rmgr %d: mean %.1f us, p50 %.1f, p99 %.1f\n", n, rmid, total / ROUNDS,
				   usec[ROUNDS / 2], usec[ROUNDS * 99 / 100]);
		}
		free(chain);
		if (ok)
			return true;
	}
	return false;
}

static void
read_control(ControlFileData *control)
{
	char path[MAXPGPATH];
	int fd;

	snprintf(path, sizeof(path), "%s/global/pg_control", base_dir);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, control, sizeof(ControlFileData)) != sizeof(ControlFileData))
	{
		fprintf(stderr, "redocheck: could not read \"%s\": %m\n", path);
		exit(1);
	}
	close(fd);
}

int
main(int argc, char **argv)
{
	char workdir[] = "/tmp/redocheck.XXXXXX";
	char *bindir = redo_test_bindir();
	RedoOptions options = {.bindir = bindir, .max_helpers = NTHREADS, .timeout_ms = 60000};
	ControlFileData control;
	RedoStats stats;
	uint32 hi;
	uint32 lo;
	bool ok;
	bool want_bench = false;

	if (argc < 5 || sscanf(argv[3], "%X/%X", &hi, &lo) != 2)
	{
		fprintf(stderr, "usage: redocheck BASE WALDIR END REPLAYED [--hints] [--bench]\n");
		return 1;
	}
	base_dir = argv[1];
	replayed_dir = argv[4];
	for (int i = 5; i < argc; i++)
	{
		if (strcmp(argv[i], "--hints") == 0)
			options.wal_log_hints = true;
		else if (strcmp(argv[i], "--bench") == 0)
			want_bench = true;
	}
	read_control(&control);
	options.segment_size = control.xlog_seg_size;
	options.library = realpath(LIBRARY, NULL);
	options.workdir = mkdtemp(workdir);
	if (options.workdir == NULL)
	{
		perror("redocheck: mkdtemp");
		return 1;
	}
	check(redo_pool_create(&options, &pool));

	blocks = pg_malloc0(max_blocks * sizeof(Block));
	read_wal(argv[2], &control, ((XLogRecPtr) hi << 32) | lo);
	ok = compare(true);
	ok &= compare(false);
	printf("images that need no redo: %llu, of them wrong %llu\n", (unsigned long long) images_checked,
		   (unsigned long long) images_wrong);
	ok &= images_wrong == 0;
	if (want_bench)
	{
		bench(RM_HEAP_ID, 1);
		bench(RM_HEAP_ID, 20);
		bench(RM_BTREE_ID, 20);
	}
	redo_pool_stats(pool, &stats);
	printf("helpers started %llu, failed %llu; %llu requests, mean %.1f us\n", (unsigned long long) stats.started,
		   (unsigned long long) stats.failed, (unsigned long long) stats.requests,
		   (double) stats.usec / Max(1, stats.requests));
	ok &= stats.failed == 0;
	redo_pool_free(pool);
	free(unconstify(char *, options.library));
	free(bindir);
	rmdir(workdir);
	return ok ? 0 : 1;
}
