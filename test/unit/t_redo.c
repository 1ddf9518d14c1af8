/*
 * t_redo.c
 *	  Tests of the pool of redo helpers with records made by hand: that pages
 *	  come out right, that bad input is an error and no more than that, that
 *	  helpers that die or hang are replaced, that none is left behind and that
 *	  their memory does not grow.  Comparing with stock recovery is redocheck's job.
 *
 * Helpers are stock postgres processes, which do not run as root: as root, the
 * test becomes the postgres user first.
 */
#include "ps_fe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "access/heapam_xlog.h"
#include "access/htup_details.h"
#include "access/rmgr.h"
#include "access/xact.h"
#include "catalog/storage_xlog.h"
#include "storage/bufpage.h"

#include "pg/parse.h"
#include "redo_proto.h"
#include "redo_util.h"

#define LIBRARY "../../src/walredo/pageserver_walredo.so"

static char workdir[] = "/tmp/t_redo.XXXXXX";
static char library[] = "/tmp/t_redo_library.XXXXXX";
static char *bindir;
static RedoPool *pool;

static const PsRel rel = {1663, 5, 16384};

static void
assert_ok(PsError *err)
{
	if (err != NULL)
		fail_msg("%s: %s", err->message, err->detail ? err->detail : "");
}

/* The error must be there and its text must hold the string. */
static void
assert_fails(PsError *err, const char *text)
{
	assert_non_null(err);
	if (strstr(err->message, text) == NULL && (err->detail == NULL || strstr(err->detail, text) == NULL))
		fail_msg("expected an error about \"%s\", got: %s (%s)", text, err->message, err->detail ? err->detail : "");
	ps_error_free(err);
}

static RedoOptions
default_options(void)
{
	return (RedoOptions) {.bindir = bindir,
						  .workdir = workdir,
						  .segment_size = 16 * 1024 * 1024,
						  .max_helpers = 2,
						  .timeout_ms = 20000,
						  .library = library};
}

static int
setup(void **state)
{
	RedoOptions options = default_options();

	assert_ok(redo_pool_create(&options, &pool));
	return 0;
}

static int
teardown(void **state)
{
	redo_pool_free(pool);
	pool = NULL;
	return 0;
}

/* A record with one block reference: block_data belongs to the block. */
static WalRecord
make_record(XLogRecPtr lsn, RmgrId rmid, uint8 info, PsRel r, BlockNumber blk, uint8 block_flags,
			const void *block_data, uint16 block_len, const void *main_data, uint8 main_len)
{
	uint32 len = SizeOfXLogRecord + SizeOfXLogRecordBlockHeader + sizeof(PsRel) + sizeof(BlockNumber) + 2 +
				 block_len + main_len;
	char *data = pg_malloc0(MAXALIGN(len));
	XLogRecord *rec = (XLogRecord *) data;
	char *p = data + SizeOfXLogRecord;

	rec->xl_tot_len = len;
	rec->xl_xid = 1000;
	rec->xl_info = info;
	rec->xl_rmid = rmid;
	*p++ = 0;
	*p++ = MAIN_FORKNUM | block_flags | (block_len > 0 ? BKPBLOCK_HAS_DATA : 0);
	memcpy(p, &block_len, 2);
	memcpy(p + 2, &r, sizeof(r));
	memcpy(p + 2 + sizeof(r), &blk, sizeof(blk));
	p += 2 + sizeof(r) + sizeof(blk);
	*p++ = (char) XLR_BLOCK_ID_DATA_SHORT;
	*p++ = main_len;
	memcpy(p, block_data, block_len);
	memcpy(p + block_len, main_data, main_len);
	return (WalRecord) {.start = lsn, .end = lsn + MAXALIGN(len), .len = len, .data = data};
}

/* A heap insertion of a tuple with so many bytes of data, each of the value "fill". */
static WalRecord
make_insert(XLogRecPtr lsn, PsRel r, BlockNumber blk, OffsetNumber off, bool init, uint16 size, uint8 fill)
{
	char block_data[SizeOfHeapHeader + 1 + 8000];
	xl_heap_header header = {.t_infomask2 = 1, .t_infomask = 0x0802, .t_hoff = 24};
	xl_heap_insert insert = {.offnum = off};

	memcpy(block_data, &header, SizeOfHeapHeader);
	memset(block_data + SizeOfHeapHeader, 0, 1);
	memset(block_data + SizeOfHeapHeader + 1, fill, size);
	return make_record(lsn, RM_HEAP_ID, XLOG_HEAP_INSERT | (init ? XLOG_HEAP_INIT_PAGE : 0), r, blk,
					   init ? BKPBLOCK_WILL_INIT : 0, block_data, SizeOfHeapHeader + 1 + size, &insert,
					   SizeOfHeapInsert);
}

static void
free_records(WalRecord *records, int n)
{
	for (int i = 0; i < n; i++)
		free(unconstify(char *, records[i].data));
}

/* Does the page hold so many tuples, tuple i with i as its data's bytes, and the LSN? */
static bool
page_is(const char *page, int ntuples, XLogRecPtr lsn)
{
	const PageHeaderData *header = (const PageHeaderData *) page;

	if (PageXLogRecPtrGet(header->pd_lsn) != lsn ||
		header->pd_lower != SizeOfPageHeaderData + ntuples * sizeof(ItemIdData))
		return false;
	for (int i = 0; i < ntuples; i++)
	{
		if (*(const uint8 *) (page + header->pd_linp[i].lp_off + 24) != (uint8) (i + 1))
			return false;
	}
	return true;
}

#define assert_page_is(page, ntuples, lsn) assert_true(page_is(page, ntuples, lsn))

static void
test_insert(void **state)
{
	WalRecord recs[20];
	char page[BLCKSZ];
	char base[BLCKSZ];

	for (int i = 0; i < 20; i++)
		recs[i] = make_insert(0x1000000 + 1000 * i, rel, 7, i + 1, i == 0, 40 + i, i + 1);
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, recs, 20, page));
	assert_page_is(page, 20, recs[19].end);

	/* in two steps, the second one in place */
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, recs, 11, base));
	assert_page_is(base, 11, recs[10].end);
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, base, recs + 11, 9, base));
	assert_memory_equal(base, page, BLCKSZ);

	/* what the page has already is not done again */
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, page, recs, 20, base));
	assert_memory_equal(base, page, BLCKSZ);

	free_records(recs, 20);
}

/* Twelve megabytes of records for one page: in pieces, with the page so far as the base. */
static void
test_long_chain(void **state)
{
	int n = 3000;
	WalRecord *recs = pg_malloc(n * sizeof(WalRecord));
	char page[BLCKSZ];
	char expected[BLCKSZ];

	for (int i = 0; i < n; i++)
		recs[i] = make_insert(0x1000000 + 8000 * i, rel, 7, i % 2 + 1, i % 2 == 0, 3900, i % 2 + 1);
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, recs, n, page));
	assert_page_is(page, 2, recs[n - 1].end);
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, recs + n - 2, 2, expected));
	assert_memory_equal(page, expected, BLCKSZ);
	free_records(recs, n);
	free(recs);
}

static void
test_bad_input(void **state)
{
	WalRecord first = make_insert(0x1000000, rel, 7, 1, true, 40, 1);
	WalRecord second = make_insert(0x1001000, rel, 7, 2, false, 40, 2);
	WalRecord fifth = make_insert(0x1002000, rel, 7, 5, false, 40, 5);
	WalRecord torn = make_insert(0x1003000, rel, 7, 2, false, 40, 2);
	WalRecord unknown = make_record(0x1004000, 77, 0, rel, 7, 0, "x", 1, "y", 1);
	WalRecord both[2];
	char base[BLCKSZ];
	char page[BLCKSZ];
	RedoStats stats;

	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, &first, 1, base));

	memset(page, 0x5a, BLCKSZ);
	assert_fails(redo_page(pool, rel, MAIN_FORKNUM, 7, page, &second, 1, page), "base page has an invalid header");
	memset(page, 0x5a, BLCKSZ);
	assert_fails(redo_page(pool, rel, VISIBILITYMAP_FORKNUM, 0, page, &second, 1, page),
				 "base page has an invalid header");
	assert_fails(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, &second, 1, page), "0/1001000");
	assert_fails(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, &second, 1, page), "all zeros");
	assert_fails(redo_page(pool, rel, MAIN_FORKNUM, 8, base, &second, 1, page), "does not change the requested block");
	assert_fails(redo_page(pool, rel, MAIN_FORKNUM, 7, base, &unknown, 1, page), "resource manager");
	((XLogRecord *) torn.data)->xl_tot_len -= 8;
	torn.len -= 8;
	assert_fails(redo_page(pool, rel, MAIN_FORKNUM, 7, base, &torn, 1, page), "could not decode");

	/* PostgreSQL panics: the helper ends, twice */
	both[0] = second;
	both[1] = fifth;
	assert_fails(redo_page(pool, rel, MAIN_FORKNUM, 7, base, both, 2, page), "signal 6");
	assert_fails(redo_page(pool, rel, MAIN_FORKNUM, 7, base, both, 2, page), "PANIC:  invalid max offset number");

	/* and after all that */
	redo_pool_stats(pool, &stats);
	assert_int_equal(stats.failed, 2 * 9);
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, base, &second, 1, page));
	assert_page_is(page, 2, second.end);
	free_records(&first, 1);
	free_records(&second, 1);
	free_records(&fifth, 1);
	free_records(&torn, 1);
	free_records(&unknown, 1);
}

/* A generic record whose delta has n fragments of a page. */
static WalRecord
make_generic(XLogRecPtr lsn, const char *page, int n, const uint16 (*fragments)[2])
{
	char delta[2 * BLCKSZ];
	uint16 len = 0;

	for (int i = 0; i < n; i++)
	{
		memcpy(delta + len, fragments[i], sizeof(fragments[i]));
		memcpy(delta + len + sizeof(fragments[i]), page + fragments[i][0], fragments[i][1]);
		len += sizeof(fragments[i]) + fragments[i][1];
	}
	return make_record(lsn, RM_GENERIC_ID, 0, rel, 7, 0, delta, len, "", 0);
}

/* A generic record may be a delta to a page that was only extended; then all of the lower part is in it. */
static void
test_generic(void **state)
{
	char first[BLCKSZ] = {0};
	char second[BLCKSZ];
	char zeros[BLCKSZ] = {0};
	char page[BLCKSZ];
	PageHeader header = (PageHeader) first;
	WalRecord recs[2];
	WalRecord bad;

	header->pd_lower = SizeOfPageHeaderData + 8;
	header->pd_special = BLCKSZ - 16;
	header->pd_upper = header->pd_special - 40;
	header->pd_pagesize_version = BLCKSZ | PG_PAGE_LAYOUT_VERSION;
	memset(first + SizeOfPageHeaderData, 0x11, 8);
	memset(first + header->pd_upper + 4, 0x22, 20);
	memset(first + header->pd_special, 0x33, 8);
	recs[0] = make_generic(0x1000000, first, 3,
						   (const uint16[][2]) {{0, header->pd_lower},
												{header->pd_upper + 4, 20},
												{header->pd_special, 8}});
	PageXLogRecPtrSet(header->pd_lsn, recs[0].end);
	memcpy(second, first, BLCKSZ);
	second[SizeOfPageHeaderData] = 0x44;
	recs[1] = make_generic(0x1001000, second, 1, (const uint16[][2]) {{SizeOfPageHeaderData, 1}});
	PageXLogRecPtrSet(((PageHeader) second)->pd_lsn, recs[1].end);

	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, recs, 1, page));
	assert_memory_equal(page, first, BLCKSZ);
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, zeros, recs, 1, page));
	assert_memory_equal(page, first, BLCKSZ);
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, recs, 2, page));
	assert_memory_equal(page, second, BLCKSZ);
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, page, recs, 2, page));
	assert_memory_equal(page, second, BLCKSZ);

	/* a delta to a page that nobody logged: it begins behind the LSN, or has not all of the lower part */
	assert_fails(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, &recs[1], 1, page), "all zeros");
	assert_fails(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, &recs[1], 1, page), "initialized without logging it");
	bad = make_generic(0x1002000, first, 2, (const uint16[][2]) {{12, 20}, {header->pd_special, 8}});
	assert_fails(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, &bad, 1, page), "all zeros");
	free_records(&bad, 1);
	bad = make_generic(0x1002000, first, 1, (const uint16[][2]) {{0, SizeOfPageHeaderData}});
	assert_fails(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, &bad, 1, page), "all zeros");
	free_records(&bad, 1);
	free_records(recs, 2);
}

/* A page of a visibility map, all bits set. */
static void
make_full_map(char *page)
{
	PageHeader header = (PageHeader) page;

	memset(page, 0xff, BLCKSZ);
	memset(page, 0, MAXALIGN(SizeOfPageHeaderData));
	header->pd_lower = MAXALIGN(SizeOfPageHeaderData);
	header->pd_upper = header->pd_special = BLCKSZ;
	header->pd_pagesize_version = BLCKSZ | PG_PAGE_LAYOUT_VERSION;
}

/*
 * A program in the place of PostgreSQL that answers with pages of nothing but an
 * LSN, the end of the record that it was sent, each with an error of "off".
 */
static void
make_liar(const char *dir, int number_off, int lsn_off)
{
	char path[MAXPGPATH];
	FILE *f;

	snprintf(path, sizeof(path), "%s/postgres", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f,
			"#!/usr/bin/perl\n"
			"sub get { my $d = ''; while (length($d) < $_[0]) "
			"{ sysread(STDIN, $d, $_[0] - length($d), length($d)) || exit; } return $d; }\n"
			"syswrite(STDOUT, pack('L4', %u, %d, %d, %d));\n"
			"while (1) {\n"
			"	my @request = unpack('L%zu', get(%zu));\n"
			"	my (undef, $end) = unpack('Q2', get($request[1]));\n"
			"	$end += %d;\n"
			"	syswrite(STDOUT, pack('L5 L2', %u, 0, %d, 0, $request[9] + %d, "
			"$end >> 32, $end & 0xffffffff) . (\"\\1\" x (%d - 8)));\n"
			"}\n",
			REDO_MAGIC, REDO_PROTO_VERSION, PG_VERSION_NUM, BLCKSZ, sizeof(RedoRequest) / 4, sizeof(RedoRequest),
			lsn_off, REDO_MAGIC, BLCKSZ, number_off, BLCKSZ);
	fclose(f);
	assert_int_equal(chmod(path, 0700), 0);
}

/* An answer to another request is noticed, and a page to which not all records were applied. */
static void
test_wrong_answers(void **state)
{
	static const struct
	{
		int number;
		int lsn;
		const char *error;
	} lies[] = {
		{0, 0, NULL},
		{1, 0, "gave an invalid answer"},
		{-1, 0, "gave an invalid answer"},
		{0, -8, "gave a page with LSN 0/1000068"},
		{0, 8, "gave a page with LSN 0/1000078"},
	};
	WalRecord rec = make_insert(0x1000000, rel, 7, 1, true, 40, 1);
	char dir[] = "/tmp/t_redo_liar.XXXXXX";
	char path[MAXPGPATH];
	char page[BLCKSZ];

	assert_non_null(mkdtemp(dir));
	rec.end = 0x1000070;
	for (int i = 0; i < lengthof(lies); i++)
	{
		RedoOptions options = default_options();
		RedoStats stats;

		make_liar(dir, lies[i].number, lies[i].lsn);
		options.bindir = dir;
		assert_ok(redo_pool_create(&options, &pool));
		for (int k = 0; k < 2; k++)
		{
			if (lies[i].error == NULL)
				assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, &rec, 1, page));
			else
				assert_fails(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, &rec, 1, page), lies[i].error);
		}
		redo_pool_stats(pool, &stats);
		assert_int_equal(stats.failed, lies[i].error == NULL ? 0 : 4);
		redo_pool_free(pool);
		pool = NULL;
	}
	snprintf(path, sizeof(path), "%s/postgres", dir);
	unlink(path);
	rmdir(dir);
	free_records(&rec, 1);
}

/* Where redo leaves a page's LSN alone, it need not be the last record's. */
static void
test_left_lsn(void **state)
{
	char page[BLCKSZ];
	char base[BLCKSZ];
	WalRecord recs[3];

	/* a page that is ahead of its records: nothing is done */
	for (int i = 0; i < 3; i++)
		recs[i] = make_insert(0x1000000 + 1000 * i, rel, 7, i + 1, i == 0, 40, i + 1);
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, recs, 3, base));
	PageXLogRecPtrSet(((PageHeader) base)->pd_lsn, UINT64CONST(0x2000000));
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, base, recs + 1, 2, page));
	assert_memory_equal(page, base, BLCKSZ);

	/* a visibility map page whose bits are cleared: no LSN at all */
	make_full_map(base);
	PageXLogRecPtrSet(((PageHeader) base)->pd_lsn, UINT64CONST(0xff0000));
	((xl_heap_insert *) (recs[2].data + recs[2].len - SizeOfHeapInsert))->flags = XLH_INSERT_ALL_VISIBLE_CLEARED;
	assert_ok(redo_page(pool, rel, VISIBILITYMAP_FORKNUM, 0, base, &recs[2], 1, page));
	assert_int_equal(PageXLogRecPtrGet(((PageHeader) page)->pd_lsn), 0xff0000);
	assert_int_not_equal(memcmp(page, base, BLCKSZ), 0);
	free_records(recs, 3);
}

/* Truncates all forks of a relation. */
static WalRecord
make_truncate(XLogRecPtr lsn, PsRel r, BlockNumber blkno)
{
	xl_smgr_truncate truncate = {.blkno = blkno, .rnode = {r.spc, r.db, r.rel}, .flags = SMGR_TRUNCATE_ALL};
	uint32 len = SizeOfXLogRecord + 2 + sizeof(truncate);
	char *data = pg_malloc0(MAXALIGN(len));

	((XLogRecord *) data)->xl_tot_len = len;
	((XLogRecord *) data)->xl_info = XLOG_SMGR_TRUNCATE;
	((XLogRecord *) data)->xl_rmid = RM_SMGR_ID;
	data[SizeOfXLogRecord] = (char) XLR_BLOCK_ID_DATA_SHORT;
	data[SizeOfXLogRecord + 1] = sizeof(truncate);
	memcpy(data + SizeOfXLogRecord + 2, &truncate, sizeof(truncate));
	return (WalRecord) {.start = lsn, .end = lsn + MAXALIGN(len), .len = len, .data = data};
}

/* Truncation of the heap clears the visibility map's bits beyond; the map's size seen later must not suffer. */
static void
test_truncate_map(void **state)
{
	char base[BLCKSZ];
	char page[BLCKSZ];
	WalRecord recs[2];

	make_full_map(base);

	/* blocks 0 to 2 stay, two bits each; then the insertion clears block 1's */
	recs[0] = make_truncate(0x1000000, rel, 3);
	recs[1] = make_insert(0x1001000, rel, 1, 1, true, 40, 1);
	((char *) recs[1].data)[recs[1].len - SizeOfHeapInsert + offsetof(xl_heap_insert, flags)] =
		XLH_INSERT_ALL_VISIBLE_CLEARED;
	for (int i = 0; i < 10; i++)
	{
		assert_ok(redo_page(pool, rel, VISIBILITYMAP_FORKNUM, 0, base, recs, 1, page));
		assert_int_equal(((uint8 *) page)[MAXALIGN(SizeOfPageHeaderData)], 0x3f);
		assert_int_equal(((uint8 *) page)[MAXALIGN(SizeOfPageHeaderData) + 1], 0);
		assert_ok(redo_page(pool, rel, VISIBILITYMAP_FORKNUM, 0, base, recs, 2, page));
		assert_int_equal(((uint8 *) page)[MAXALIGN(SizeOfPageHeaderData)], 0x33);
		assert_int_equal(((uint8 *) page)[BLCKSZ - 1], 0);
	}
	free_records(recs, 2);
}

/* One field of /proc/PID/status, "" if there is no such process. */
static const char *
process_status(int pid, const char *field, char out[256])
{
	char path[64];
	FILE *f;
	bool found = false;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "r");
	while (!found && f != NULL && fgets(out, 256, f) != NULL)
		found = strncmp(out, field, strlen(field)) == 0 && out[strlen(field)] == ':';
	if (f != NULL)
		fclose(f);
	if (!found)
		return "";
	out[strcspn(out, "\n")] = '\0';
	return out + strlen(field) + 1 + strspn(out + strlen(field) + 1, " \t");
}

/* Processes whose parent we are, at most max of them; all get the signal if it is not 0. */
static int
list_children(int sig, int *pids, int max)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	int n = 0;

	while ((entry = readdir(dir)) != NULL)
	{
		int pid = atoi(entry->d_name);
		char buf[256];

		if (pid <= 0 || atoi(process_status(pid, "PPid", buf)) != getpid())
			continue;
		if (sig != 0)
			kill(pid, sig);
		if (n < max)
			pids[n] = pid;
		n++;
	}
	closedir(dir);
	return n;
}

static int
children(int sig)
{
	return list_children(sig, NULL, 0);
}

/* A helper can do next to nothing, holds nothing of ours, and goes with us. */
static void
test_confined(void **state)
{
	WalRecord rec = make_insert(0x1000000, rel, 7, 1, true, 40, 1);
	RedoOptions options = default_options();
	int ours = open("/proc/self/stat", O_RDONLY); /* not close-on-exec */
	int pipe_fds[2];
	char page[BLCKSZ];
	char buf[256];
	int pid;
	pid_t store;
	bool gone = false;

	assert_ok(redo_pool_create(&options, &pool));
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, &rec, 1, page));
	assert_int_equal(list_children(0, &pid, 1), 1);
	assert_string_equal(process_status(pid, "Seccomp", buf), "2");
	assert_string_equal(process_status(pid, "NoNewPrivs", buf), "1");
	for (int fd = 0; fd < 64; fd++)
	{
		char path[64];
		ssize_t len;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
		len = readlink(path, buf, sizeof(buf) - 1);
		if (len < 0)
			continue;
		buf[len] = '\0';
		/* three pipes, and what PostgreSQL waits for signals with */
		if (strncmp(buf, "pipe:", 5) != 0 && strncmp(buf, "anon_inode:", 11) != 0)
			fail_msg("helper has \"%s\" open", buf);
	}
	close(ours);
	redo_pool_free(pool);
	pool = NULL;

	/* a store that is killed takes a helper along that is in no state to notice the end of its input */
	assert_int_equal(pipe(pipe_fds), 0);
	store = fork();
	if (store == 0)
	{
		PsError *err = redo_pool_create(&options, &pool);

		if (err == NULL)
			err = redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, &rec, 1, page);
		if (err != NULL || list_children(SIGSTOP, &pid, 1) != 1)
			pid = 0;
		if (write(pipe_fds[1], &pid, sizeof(pid)) != sizeof(pid))
			_exit(1);
		pause();
		_exit(0);
	}
	assert_int_equal(read(pipe_fds[0], &pid, sizeof(pid)), sizeof(pid));
	assert_true(pid > 0);
	kill(store, SIGKILL);
	assert_int_equal(waitpid(store, NULL, 0), store);
	for (int i = 0; i < 1000 && !gone; i++)
	{
		const char *st = process_status(pid, "State", buf);

		gone = st[0] == '\0' || st[0] == 'Z'; /* its new parent may take its time */
		usleep(10000);
	}
	assert_true(gone);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	free_records(&rec, 1);
}

static void
test_hung_helper(void **state)
{
	WalRecord rec = make_insert(0x1000000, rel, 7, 1, true, 40, 1);
	RedoOptions options = default_options();
	char page[BLCKSZ];
	RedoStats stats;

	options.timeout_ms = 300;
	assert_ok(redo_pool_create(&options, &pool));
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, &rec, 1, page));
	memset(page, 0, BLCKSZ);
	assert_int_equal(children(SIGSTOP), 1);
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, &rec, 1, page));
	assert_page_is(page, 1, rec.end);
	redo_pool_stats(pool, &stats);
	assert_int_equal(stats.failed, 1);
	assert_int_equal(stats.started, 2);

	/* one that has long been idle is not late */
	usleep(400 * 1000);
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, &rec, 1, page));
	redo_pool_stats(pool, &stats);
	assert_int_equal(stats.failed, 1);

	/* one that dies while idle leaves no zombie */
	children(SIGKILL);
	for (int i = 0; i < 1000 && children(0) > 0; i++)
		usleep(10000);
	assert_int_equal(children(0), 0);
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, &rec, 1, page));
	free_records(&rec, 1);
}

typedef struct Load
{
	int seed;
	atomic_bool *stop;
	uint64 ok;
	uint64 failed;
	uint64 wrong;
	atomic_int batches; /* that were done */
} Load;

static void *
load_thread(void *arg)
{
	Load *load = arg;
	unsigned int seed = load->seed;

	while (!atomic_load(load->stop))
	{
		RedoJob jobs[20];
		WalRecord recs[20][5];
		PsError *errors[20];
		char *pages = pg_malloc(20 * BLCKSZ);
		int njobs = rand_r(&seed) % 2 ? 1 : 1 + rand_r(&seed) % 20;

		for (int k = 0; k < njobs; k++)
		{
			PsRel r = {1663, 5, 16384 + rand_r(&seed) % 1000};
			BlockNumber blk = rand_r(&seed) % 1000;
			int n = 1 + rand_r(&seed) % 5;

			for (int i = 0; i < n; i++)
				recs[k][i] = make_insert(0x1000000 + 2000 * i, r, blk, i + 1, i == 0, 40 + rand_r(&seed) % 1000, i + 1);
			jobs[k] = (RedoJob) {.rel = r,
								 .fork = MAIN_FORKNUM,
								 .blk = blk,
								 .page = pages + k * BLCKSZ,
								 .records = recs[k],
								 .nrecords = n,
								 .err = &errors[k]};
		}
		redo_pages(pool, jobs, njobs);
		for (int k = 0; k < njobs; k++)
		{
			int n = jobs[k].nrecords;

			if (errors[k] != NULL)
				load->failed++;
			else if (page_is(jobs[k].page, n, recs[k][n - 1].end))
				load->ok++;
			else
				load->wrong++;
			ps_error_free(errors[k]);
			free_records(recs[k], n);
		}
		free(pages);
		atomic_fetch_add(&load->batches, 1);
	}
	return NULL;
}

/*
 * Many pages at once: a helper is asked ahead and none is lost by that.  Some
 * that cannot be made, one whose chain goes in pieces among them: the others are
 * as they should be.
 */
static void
test_batch(void **state)
{
	enum
	{
		NJOBS = 100,
		NLONG = 4500,
		LONG_JOB = 40
	};
	WalRecord recs[NJOBS][2];
	WalRecord *long_recs = pg_malloc(NLONG * sizeof(WalRecord));
	RedoJob jobs[NJOBS];
	PsError *errors[NJOBS];
	char *pages = pg_malloc(NJOBS * BLCKSZ);
	RedoStats before;
	RedoStats after;

	/* the same record time and again: the page has it already */
	for (int i = 0; i < NLONG; i++)
		long_recs[i] = make_insert(0x1000000, rel, LONG_JOB, 1, true, 1000, 1);
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, LONG_JOB, NULL, long_recs, 1, pages));
	for (int round = 0; round < 2; round++)
	{
		bool bad = round == 1;

		for (int k = 0; k < NJOBS; k++)
		{
			for (int i = 0; i < 2; i++)
				recs[k][i] = make_insert(0x1000000 + 2000 * i, rel, k, i + 1, i == 0, 40 + k, i + 1);
			jobs[k] = (RedoJob) {.rel = rel,
								 .fork = MAIN_FORKNUM,
								 .blk = k,
								 .page = pages + k * BLCKSZ,
								 .records = recs[k],
								 .nrecords = 2,
								 .err = &errors[k]};
			/* a record without the one before it */
			if (bad && k % 30 == 7)
			{
				jobs[k].records++;
				jobs[k].nrecords = 1;
			}
		}
		jobs[LONG_JOB].records = long_recs;
		jobs[LONG_JOB].nrecords = NLONG;
		redo_pool_stats(pool, &before);
		redo_pages(pool, jobs, NJOBS);
		redo_pool_stats(pool, &after);
		assert_int_equal(after.requests - before.requests, NJOBS);
		assert_int_equal(after.started - before.started, bad ? 4 : 0);
		assert_int_equal(after.failed - before.failed, bad ? 8 : 0);
		for (int k = 0; k < NJOBS; k++)
		{
			if (bad && k % 30 == 7)
				assert_fails(errors[k], "all zeros");
			else if (k == LONG_JOB)
			{
				assert_ok(errors[k]);
				assert_page_is(jobs[k].page, 1, long_recs[0].end);
			}
			else
			{
				assert_ok(errors[k]);
				assert_page_is(jobs[k].page, 2, recs[k][1].end);
			}
			free_records(recs[k], 2);
		}
	}
	free_records(long_recs, NLONG);
	free(long_recs);
	free(pages);
}

/* Helpers that are at work, not those that start: that one of these ends is an error of who waits for it. */
static void
kill_helpers(int sig)
{
	int pids[16];
	int n = list_children(0, pids, lengthof(pids));

	for (int i = 0; i < Min(n, lengthof(pids)); i++)
	{
		char buf[256];

		if (strcmp(process_status(pids[i], "Seccomp", buf), "2") == 0)
			kill(pids[i], sig);
	}
}

/*
 * Many callers, few helpers, and these are killed now and then: nothing wrong,
 * nobody left waiting.  What was being made when helpers were killed is done
 * before they are killed again: it is tried twice, not more.
 */
static void
test_concurrent(void **state)
{
	enum
	{
		NTHREADS = 8
	};
	pthread_t threads[NTHREADS];
	Load loads[NTHREADS];
	atomic_bool stop = false;
	int seed = (int) time(NULL);
	uint64 ok = 0;
	uint64 failed = 0;
	RedoStats stats;

	print_message("seed %d\n", seed);
	for (int i = 0; i < NTHREADS; i++)
	{
		loads[i] = (Load) {.seed = seed + i, .stop = &stop};
		pthread_create(&threads[i], NULL, load_thread, &loads[i]);
	}
	for (int i = 0; i < 10; i++)
	{
		int done[NTHREADS];

		usleep(100 * 1000);
		for (int k = 0; k < NTHREADS; k++)
			done[k] = atomic_load(&loads[k].batches);
		kill_helpers(i % 2 ? SIGKILL : SIGTERM);
		for (int k = 0; k < NTHREADS; k++)
			while (atomic_load(&loads[k].batches) - done[k] < 2)
				usleep(1000);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < NTHREADS; i++)
	{
		pthread_join(threads[i], NULL);
		ok += loads[i].ok;
		failed += loads[i].failed;
		assert_int_equal(loads[i].wrong, 0);
		assert_true(loads[i].ok > 0);
	}
	redo_pool_stats(pool, &stats);
	print_message("%llu pages, %llu requests failed, %llu helpers started, %llu failed\n", (unsigned long long) ok,
				  (unsigned long long) failed, (unsigned long long) stats.started, (unsigned long long) stats.failed);
	assert_true(stats.failed >= 10);
	assert_int_equal(failed, 0);
	assert_true(stats.helpers <= 2);
	assert_int_equal(stats.requests, ok);
}

static long
helper_rss_kb(void)
{
	char buf[256];
	int pid;

	assert_int_equal(list_children(0, &pid, 1), 1);
	return atol(process_status(pid, "VmRSS", buf));
}

/*
 * A DELETE with REPLICA IDENTITY FULL has the whole old row in its record, with
 * values from the toast table: hundreds of MB.  Redo does not look at them, and
 * the helper must not keep the memory.
 */
static void
test_long_record(void **state)
{
	const uint32 row = 300 * 1024 * 1024;
	WalRecord recs[3];
	XLogRecord *hdr;
	char page[BLCKSZ];
	char cut_page[BLCKSZ];
	char *data;
	uint32 main_len = SizeOfHeapDelete + row;
	xl_heap_delete del = {.xmax = 1001, .offnum = 1, .flags = XLH_DELETE_CONTAINS_OLD_TUPLE};
	uint32 head;

	recs[0] = make_insert(0x1000000, rel, 3, 1, true, 40, 1);
	recs[1] = make_record(0x1001000, RM_HEAP_ID, XLOG_HEAP_DELETE, rel, 3, 0, "", 0, &del, 0);
	/* in place of its short main data, long main data */
	head = recs[1].len - 2;
	data = pg_malloc0((size_t) head + 5 + main_len);
	memcpy(data, recs[1].data, head);
	data[head] = (char) XLR_BLOCK_ID_DATA_LONG;
	memcpy(data + head + 1, &main_len, 4);
	memcpy(data + head + 5, &del, SizeOfHeapDelete);
	free(unconstify(char *, recs[1].data));
	recs[1].data = data;
	recs[1].len = head + 5 + main_len;
	hdr = (XLogRecord *) data;
	hdr->xl_tot_len = recs[1].len;
	recs[1].end = recs[1].start + MAXALIGN(recs[1].len);
	recs[2] = make_insert(recs[1].end, rel, 3, 2, false, 40, 2);
	for (int i = 0; i < 2; i++)
	{
		assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 3, NULL, recs, 3, page));
		assert_true(PageGetLSN(page) == recs[2].end);
		assert_int_equal(((HeapTupleHeader) PageGetItem(page, PageGetItemId(page, 1)))->t_choice.t_heap.t_xmax, 1001);
	}
	assert_true(helper_rss_kb() < 100 * 1024);

	/* the same without the end of the old row */
	assert_ok(wal_record_cut(recs[1].start, data));
	recs[1].len = WAL_CUT_LEN;
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 3, NULL, recs, 3, cut_page));
	assert_memory_equal(cut_page, page, BLCKSZ);
	free_records(recs, 3);
}

/* Every request another relation, some with truncations: memory must stay as it is. */
static void
test_memory(void **state)
{
	int n = getenv("T_REDO_REQUESTS") ? atoi(getenv("T_REDO_REQUESTS")) : 100000;
	long early = 0;
	long late;
	char map[BLCKSZ];
	char page[BLCKSZ];

	make_full_map(map);
	for (int i = 0; i < n; i++)
	{
		PsRel r = {1663, 5 + i % 3, 16384 + i};
		WalRecord rec = make_insert(0x1000000, r, i, 1, true, 40, 1);

		assert_ok(redo_page(pool, r, MAIN_FORKNUM, i, NULL, &rec, 1, page));
		free_records(&rec, 1);
		if (i % 10 == 0)
		{
			rec = make_truncate(0x1000000, r, i % 1000);
			assert_ok(redo_page(pool, r, VISIBILITYMAP_FORKNUM, 0, map, &rec, 1, page));
			free_records(&rec, 1);
		}
		if (i == n / 5)
			early = helper_rss_kb();
	}
	late = helper_rss_kb();
	print_message("helper's RSS after %d requests %ld kB, after %d requests %ld kB\n", n / 5, early, n, late);
	assert_true(late - early < 512);
}

static void
test_start_failures(void **state)
{
	WalRecord rec = make_insert(0x1000000, rel, 7, 1, true, 40, 1);
	RedoOptions options = default_options();
	char page[BLCKSZ];

	options.bindir = "/nonexistent";
	assert_fails(redo_pool_create(&options, &pool), "/nonexistent/postgres");
	assert_null(pool);

	options = default_options();
	options.library = "/nonexistent/lib.so";
	assert_ok(redo_pool_create(&options, &pool));
	assert_fails(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, &rec, 1, page), "/nonexistent/lib.so");
	assert_fails(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, &rec, 1, page), "ended while it started");
	redo_pool_free(pool);

	/* larger segments than min_wal_size's default allows */
	options = default_options();
	options.segment_size = 1024 * 1024 * 1024;
	options.wal_log_hints = true;
	assert_ok(redo_pool_create(&options, &pool));
	assert_ok(redo_page(pool, rel, MAIN_FORKNUM, 7, NULL, &rec, 1, page));
	free_records(&rec, 1);
}

static void
test_nothing_left(void **state)
{
	int nfds = 0;
	DIR *dir;

	for (int i = 0; i < 20; i++)
	{
		setup(state);
		if (i % 2)
			usleep(i * 3000);
		redo_pool_free(pool);
		pool = NULL;
	}
	assert_int_equal(children(0), 0);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(rmdir(workdir), 0);
	dir = opendir("/proc/self/fd");
	while (readdir(dir) != NULL)
		nfds++;
	closedir(dir);
	assert_true(nfds < 12);
}

static void
become_postgres(void)
{
	struct passwd *pw;

	if (geteuid() != 0)
		return;
	pw = getpwnam("postgres");
	if (pw == NULL || initgroups("postgres", pw->pw_gid) != 0 || setgid(pw->pw_gid) != 0 || setuid(pw->pw_uid) != 0)
	{
		perror("could not become the postgres user");
		exit(1);
	}
}

/*
 * Copies the library, because the postgres user may have no access to this tree.  It was
 * opened before become_postgres().
 */
static void
copy_library(int from)
{
	int to = mkstemp(library);
	char buf[65536];
	ssize_t n;

	if (from < 0 || to < 0)
	{
		perror("could not copy " LIBRARY);
		exit(1);
	}
	while ((n = read(from, buf, sizeof(buf))) > 0)
		if (write(to, buf, n) != n)
			break;
	if (n != 0 || fchmod(to, 0755) != 0)
	{
		perror("could not copy " LIBRARY);
		exit(1);
	}
	close(from);
	close(to);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_insert, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_chain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_input, setup, teardown),
		cmocka_unit_test_setup_teardown(test_generic, setup, teardown),
		cmocka_unit_test_teardown(test_wrong_answers, teardown),
		cmocka_unit_test_setup_teardown(test_left_lsn, setup, teardown),
		cmocka_unit_test_setup_teardown(test_truncate_map, setup, teardown),
		cmocka_unit_test_teardown(test_confined, teardown),
		cmocka_unit_test_teardown(test_hung_helper, teardown),
		cmocka_unit_test_setup_teardown(test_batch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_concurrent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_record, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
		cmocka_unit_test_teardown(test_start_failures, teardown),
		cmocka_unit_test(test_nothing_left),
	};

	int from = open(LIBRARY, O_RDONLY | O_CLOEXEC);
	int failed;

	become_postgres();
	copy_library(from);
	bindir = redo_test_bindir();
	if (mkdtemp(workdir) == NULL)
	{
		perror("mkdtemp");
		return 1;
	}
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(library);
	return failed;
}
