/*
 * t_wal_segments.c
 *	  WAL files: writing in pieces, reading back, cutting, reopening, and
 *	  records read through the reader.
 */
#include "wal_gen.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <zstd.h>

#include "pg/parse.h"
#include "wal/packed.h"
#include "wal/reader.h"

#define SEG (1024 * 1024)

static char dir[MAXPGPATH];

static int
make_dir(void **state)
{
	snprintf(dir, sizeof(dir), "%s/t_wal_XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	return mkdtemp(dir) == NULL ? -1 : 0;
}

static int
remove_dir(void **state)
{
	char command[MAXPGPATH + 16];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

/* Valid until the next call. */
static const char *
path_of(XLogSegNo segno)
{
	static char path[MAXPGPATH + MAXFNAMELEN];
	char name[MAXFNAMELEN];

	XLogFileName(name, 1, segno, SEG);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static bool
file_exists(XLogSegNo segno)
{
	return access(path_of(segno), F_OK) == 0;
}

static const char *
packed_path_of(XLogSegNo segno)
{
	static char path[MAXPGPATH + MAXFNAMELEN + 8];

	snprintf(path, sizeof(path), "%s" PACKED_SUFFIX, path_of(segno));
	return path;
}

/* A stream of several segments with long records in it. */
static void
make_stream(Gen *gen, XLogRecPtr start, size_t len)
{
	gen_init(gen, start, SEG);
	while (gen->bytes.len < len)
		gen_random_record(gen, random() % 50 == 0 ? random() % SEG : random() % 3000);
}

static void
write_in_pieces(WalSegments *segs, const Gen *gen, uint32 max_piece)
{
	for (size_t at = 0; at < gen->bytes.len;)
	{
		size_t n = 1 + random() % max_piece;

		n = Min(n, gen->bytes.len - at);
		assert_ok(wal_segments_write(segs, gen->start + at, gen->bytes.data + at, n));
		if (random() % 20 == 0)
			assert_ok(wal_segments_sync(segs));
		at += n;
	}
	assert_ok(wal_segments_sync(segs));
}

static void
write_and_read(void **state)
{
	Gen gen;
	WalSegments *segs;
	XLogSegNo oldest;
	XLogSegNo newest;
	char name[MAXFNAMELEN];
	char *buf;

	gen_seed();
	make_stream(&gen, 12 * SEG + 4096, 15 * SEG);
	assert_ok(wal_segments_open(dir, SEG, &segs));
	assert_false(wal_segments_range(segs, &oldest, &newest));
	write_in_pieces(segs, &gen, 200000);

	for (int pass = 0; pass < 2; pass++)
	{
		buf = pg_malloc(gen.bytes.len);
		assert_ok(wal_segments_read(segs, gen.start, buf, gen.bytes.len));
		assert_memory_equal(buf, gen.bytes.data, gen.bytes.len);
		for (int i = 0; i < gen.n; i++)
		{
			assert_ok(wal_segments_read_record(segs, gen.records[i].start, gen.records[i].len, buf));
			assert_memory_equal(buf, gen.records[i].data, gen.records[i].len);
		}
		free(buf);
		assert_true(wal_segments_range(segs, &oldest, &newest));
		assert_int_equal(oldest, 12);
		assert_int_equal(newest, (gen.pos - 1) / SEG);

		/* the same after opening anew; what was not written is zeros */
		wal_segments_close(segs);
		assert_ok(wal_segments_open(dir, SEG, &segs));
	}
	buf = pg_malloc(4096);
	assert_ok(wal_segments_read(segs, 12 * SEG, buf, 4096));
	for (int i = 0; i < 4096; i++)
		assert_int_equal(buf[i], 0);

	/* a record that is not there, or damaged, is named */
	buf = pg_realloc(buf, SEG);
	assert_error(wal_segments_read_record(segs, gen.records[3].start, gen.records[3].len + 8, buf), "expected");
	assert_error(wal_segments_read_record(segs, gen.records[3].start + 8, gen.records[3].len, buf), "has");
	assert_ok(wal_segments_write(segs, gen.records[3].start + 30, "?", 1));
	XLogFileName(name, 1, gen.records[3].start / SEG, SEG);
	assert_error(wal_segments_read_record(segs, gen.records[3].start, gen.records[3].len, buf), name);
	assert_error(wal_segments_read(segs, (newest + 1) * SEG, buf, 1), "could not open WAL file");
	free(buf);
	wal_segments_close(segs);
	gen_free(&gen);
}

static void
cut(void **state)
{
	gen_seed();
	for (int round = 0; round < 20; round++)
	{
		Gen gen;
		WalSegments *segs;
		XLogRecPtr at;
		XLogSegNo oldest;
		XLogSegNo newest;
		char *buf = pg_malloc(SEG);
		uint32 kept;

		make_stream(&gen, 3 * SEG, 4 * SEG);
		assert_ok(wal_segments_open(dir, SEG, &segs));
		write_in_pieces(segs, &gen, SEG);
		at = 3 * SEG + (round % 4 == 0 ? (round / 4) * SEG : random() % (3 * SEG));
		if (round % 2)
			assert_ok(wal_segments_read(segs, at, buf, 1)); /* with a file open */
		assert_ok(wal_segments_cut(segs, at));

		kept = at % SEG;
		assert_int_equal(file_exists(at / SEG), kept != 0);
		assert_false(file_exists(at / SEG + 1));
		if (wal_segments_range(segs, &oldest, &newest))
			assert_int_equal(newest, kept != 0 ? at / SEG : at / SEG - 1);
		else
			assert_int_equal(at, 3 * SEG);
		if (kept != 0)
		{
			assert_ok(wal_segments_read(segs, at - kept, buf, SEG));
			assert_memory_equal(buf, gen.bytes.data + (at - kept - gen.start), kept);
			for (uint32 i = kept; i < SEG; i++)
				assert_int_equal(buf[i], 0);
		}

		/* and written again from there */
		assert_ok(wal_segments_write(segs, at, gen.bytes.data + (at - gen.start), gen.pos - at));
		assert_ok(wal_segments_sync(segs));
		for (int i = 0; i < gen.n; i += 1 + random() % 10)
			assert_ok(wal_segments_read_record(segs, gen.records[i].start, gen.records[i].len, buf));
		assert_ok(wal_segments_cut(segs, 3 * SEG));
		wal_segments_close(segs);
		free(buf);
		gen_free(&gen);
	}
}

static void
make_file(const char *path, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, len), 0);
	close(fd);
}

static void
foreign_files(void **state)
{
	WalSegments *segs;
	char *temp = psprintf("%s/xlogtemp.000000010000000000000001", dir);
	char *history = psprintf("%s/00000002.history", dir);
	char *other = psprintf("%s/000000020000000000000001", dir);

	/* left behind by a crash: goes; files that are no segments: stay */
	make_file(temp, 100);
	make_file(history, 100);
	assert_ok(wal_segments_open(dir, SEG, &segs));
	wal_segments_close(segs);
	assert_int_not_equal(access(temp, F_OK), 0);
	assert_int_equal(access(history, F_OK), 0);
	unlink(history);

	make_file(path_of(7), SEG - 1);
	assert_error(wal_segments_open(dir, SEG, &segs), "has 1048575 bytes, expected 1048576");
	unlink(path_of(7));
	make_file(other, SEG);
	assert_error(wal_segments_open(dir, SEG, &segs), "not of timeline 1");
	unlink(other);
	assert_error(wal_segments_open(dir, 12345, &segs), "segment size 12345");
	assert_error(wal_segments_open("/nonexistent", SEG, &segs), "/nonexistent");
	pfree(temp);
	pfree(history);
	pfree(other);
}

/* The reader shows whole records up to where it may, and goes on when it may see more. */
static void
reader(void **state)
{
	Gen gen;
	WalSegments *segs;
	WalReader *r;
	int n = 0;
	XLogRecPtr upto;

	gen_seed();
	gen_init(&gen, 20 * SEG, SEG);
	while (gen.bytes.len < 6 * SEG)
	{
		if (random() % 300 == 0)
			gen_record(&gen, RM_XLOG_ID, XLOG_SWITCH, 0, NULL, 0);
		else
			gen_random_record(&gen, random() % 30 == 0 ? random() % 300000 : random() % 1000);
	}
	assert_ok(wal_segments_open(dir, SEG, &segs));
	write_in_pieces(segs, &gen, SEG);
	r = wal_reader_create(segs, gen.start, InvalidXLogRecPtr, GEN_SYSID);
	for (upto = gen.start; n < gen.n;)
	{
		WalRecord rec;
		bool found;

		assert_ok(wal_reader_next(r, upto, &rec, &found));
		if (found)
		{
			assert_true(rec.end <= upto);
			assert_int_equal(rec.start, gen.records[n].start);
			assert_int_equal(rec.end, gen.records[n].end);
			assert_memory_equal(rec.data, gen.records[n].data, rec.len);
			n++;
		}
		else
		{
			/* nothing that it could have shown */
			assert_true(gen.records[n].end > upto);
			upto += 1 + random() % 300000;
			upto = Min(upto, gen.pos);
		}
	}
	wal_reader_free(r);

	/* from the middle, with the record before known or wrong */
	n = gen.n / 2;
	for (int wrong = 0; wrong < 2; wrong++)
	{
		WalRecord rec;
		bool found;

		r = wal_reader_create(segs, gen.records[n - 1].end, gen.records[n - 1].start + wrong * 8, GEN_SYSID);
		if (wrong)
			assert_error(wal_reader_next(r, gen.pos, &rec, &found), "follows one at");
		else
		{
			assert_ok(wal_reader_next(r, gen.pos, &rec, &found));
			assert_true(found);
			assert_int_equal(rec.start, gen.records[n].start);
		}
		wal_reader_free(r);
	}
	assert_ok(wal_segments_cut(segs, 0));
	wal_segments_close(segs);
	gen_free(&gen);
}

/* A record that is longer than what is kept of it: its beginning, as a record; checked to its end. */
static void
cut_record(void **state)
{
	const uint32 len = 9 * 1024 * 1024;
	const uint16 block_len = 5000;
	const RelFileNode node = {1663, 5, 16384};
	const BlockNumber blk = 7;
	XLogRecordBlockHeader header = {.id = 0, .fork_flags = BKPBLOCK_HAS_DATA, .data_length = block_len};
	uint32 main_len = len - SizeOfXLogRecordBlockHeader - sizeof(node) - sizeof(blk) - 5 - block_len;
	Gen gen;
	WalSegments *segs;
	WalReader *r;
	WalRecord rec;
	WalRecord cut;
	WalParsed whole;
	WalParsed parsed;
	bool found;
	char *body = pg_malloc(len);
	char *buf = pg_malloc(WAL_CUT_LEN);
	char *p = body;

	gen_seed();
	for (uint32 i = 0; i < len; i++)
		body[i] = random();
	memcpy(p, &header, SizeOfXLogRecordBlockHeader);
	p += SizeOfXLogRecordBlockHeader;
	memcpy(p, &node, sizeof(node));
	memcpy(p + sizeof(node), &blk, sizeof(blk));
	p += sizeof(node) + sizeof(blk);
	*p++ = (char) XLR_BLOCK_ID_DATA_LONG;
	memcpy(p, &main_len, sizeof(main_len));
	gen_init(&gen, 20 * SEG, SEG);
	gen_random_record(&gen, 100);
	gen_record(&gen, RM_HEAP_ID, 0x10, 0, body, len);
	gen_random_record(&gen, 100);
	assert_ok(wal_segments_open(dir, SEG, &segs));
	write_in_pieces(segs, &gen, SEG);

	/* the reader has it cut, and all blocks are there */
	r = wal_reader_create(segs, gen.start, InvalidXLogRecPtr, GEN_SYSID);
	for (int i = 0; i < gen.n; i++)
	{
		assert_ok(wal_reader_next(r, gen.pos, &rec, &found));
		assert_true(found);
		assert_int_equal(rec.start, gen.records[i].start);
		assert_int_equal(rec.len, gen.records[i].len);
		assert_int_equal(rec.len - rec.cut, i == 1 ? WAL_CUT_LEN : rec.len);
		assert_ok(wal_parse(&rec, &parsed));
		if (i == 1)
			assert_memory_equal(parsed.blocks[0].data, p + sizeof(main_len), block_len);
	}
	wal_reader_free(r);

	/* as redo gets it */
	rec = gen.records[1];
	assert_ok(wal_parse(&rec, &whole));
	for (int packed = 0; packed < 2; packed++)
	{
		assert_ok(wal_segments_read_record(segs, rec.start, WAL_CUT_LEN, buf));
		cut = (WalRecord) {.start = rec.start, .end = rec.end, .len = ((XLogRecord *) buf)->xl_tot_len, .data = buf};
		assert_int_equal(cut.len, WAL_CUT_LEN);
		assert_ok(wal_parse(&cut, &parsed));
		assert_int_equal(parsed.max_block_id, 0);
		assert_int_equal(parsed.blocks[0].blk, blk);
		assert_memory_equal(parsed.blocks[0].data, whole.blocks[0].data, block_len);
		assert_int_equal(parsed.main_data_len, whole.main_data_len - (rec.len - WAL_CUT_LEN));
		assert_memory_equal(parsed.main_data, whole.main_data, parsed.main_data_len);
		assert_error(wal_segments_read_record(segs, rec.start, WAL_CUT_LEN - 8, buf), "expected");
		assert_ok(wal_segments_pack(segs, 1000, NULL));
	}
	wal_segments_close(segs);

	/* what is not kept is checked all the same */
	remove_dir(NULL);
	make_dir(NULL);
	gen.bytes.data[rec.start - gen.start + 8 * 1024 * 1024] ^= 1;
	assert_ok(wal_segments_open(dir, SEG, &segs));
	write_in_pieces(segs, &gen, SEG);
	assert_error(wal_segments_read_record(segs, rec.start, WAL_CUT_LEN, buf), "checksum");
	wal_segments_close(segs);
	gen_free(&gen);
	free(body);
	free(buf);
}

/* The contents of a file; valid until the next call. */
static const char *
slurp(const char *path, size_t *len)
{
	static char buf[2 * SEG];
	FILE *f = fopen(path, "r");

	assert_non_null(f);
	*len = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	return buf;
}

static void
spew(const char *path, const char *data, size_t len)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
}

/* What is compressed reads as before, with other segments or alone, through zstd's own functions, after a start. */
static void
packed(void **state)
{
	Gen gen;
	WalSegments *segs;
	XLogSegNo last;
	char *buf;
	int removed;

	gen_seed();
	make_stream(&gen, 3 * SEG, 6 * SEG);
	last = (gen.pos - 1) / SEG;
	assert_ok(wal_segments_open(dir, SEG, &segs));
	write_in_pieces(segs, &gen, 200000);
	buf = pg_malloc(gen.bytes.len);
	for (int pass = 0; pass < 4; pass++)
	{
		if (pass == 1)
			assert_ok(wal_segments_pack(segs, 5, NULL));
		if (pass == 2)
			assert_ok(wal_segments_pack(segs, last + 10, NULL));
		for (XLogSegNo s = 3; s <= last; s++)
		{
			bool is_packed = s < (pass == 0 ? 3 : pass == 1 ? 5
															: last);

			assert_true(file_exists(s) == !is_packed);
			assert_true((access(packed_path_of(s), F_OK) == 0) == is_packed);
		}
		assert_ok(wal_segments_read(segs, gen.start, buf, gen.bytes.len));
		assert_memory_equal(buf, gen.bytes.data, gen.bytes.len);
		for (int i = 0; i < gen.n; i += 7)
		{
			assert_ok(wal_segments_read_record(segs, gen.records[i].start, gen.records[i].len, buf));
			assert_memory_equal(buf, gen.records[i].data, gen.records[i].len);
		}
		if (pass == 2)
		{
			wal_segments_close(segs);
			assert_ok(wal_segments_open(dir, SEG, &segs));
		}
	}
	for (XLogSegNo s = 4; s < last; s++)
	{
		size_t len;
		const char *file = slurp(packed_path_of(s), &len);

		assert_int_equal(ZSTD_decompress(buf, SEG, file, len), SEG);
		assert_memory_equal(buf, gen.bytes.data + (s * SEG - gen.start), SEG);
	}
	/* nobody may write it: not when it is open, nor after a start */
	assert_error(wal_segments_write(segs, 4 * SEG, "?", 1), "already compressed");
	wal_segments_close(segs);
	assert_ok(wal_segments_open(dir, SEG, &segs));
	assert_error(wal_segments_write(segs, 4 * SEG, "?", 1), "already compressed");
	assert_error(wal_segments_cut(segs, 4 * SEG + 100), "already compressed");
	assert_ok(wal_segments_remove_before(segs, 4, &removed));
	assert_int_equal(removed, 1);
	assert_int_not_equal(access(packed_path_of(3), F_OK), 0);
	assert_error(wal_segments_read(segs, 3 * SEG, buf, 1), "000000010000000000000003");
	wal_segments_close(segs);
	free(buf);
	gen_free(&gen);
}

/* A crash leaves a temporary file, or both files: the plain one counts. */
static void
packed_crash(void **state)
{
	Gen gen;
	WalSegments *segs;
	char *buf = pg_malloc(SEG);
	char temp[MAXPGPATH + 64];

	gen_seed();
	make_stream(&gen, 3 * SEG, 3 * SEG);
	assert_ok(wal_segments_open(dir, SEG, &segs));
	write_in_pieces(segs, &gen, 200000);
	wal_segments_close(segs);
	spew(packed_path_of(3), "half a file", 11);
	snprintf(temp, sizeof(temp), "%s/xlogtemp.000000010000000000000004" PACKED_SUFFIX, dir);
	spew(temp, "less", 4);
	assert_ok(wal_segments_open(dir, SEG, &segs));
	assert_int_not_equal(access(temp, F_OK), 0);
	assert_ok(wal_segments_read(segs, gen.start, buf, SEG));
	assert_memory_equal(buf, gen.bytes.data, SEG);
	assert_ok(wal_segments_pack(segs, 5, NULL));
	assert_false(file_exists(3) || file_exists(4));
	assert_ok(wal_segments_read(segs, gen.start, buf, SEG));
	assert_memory_equal(buf, gen.bytes.data, SEG);
	wal_segments_close(segs);
	free(buf);
	gen_free(&gen);
}

/* Each byte changed, and each length: an error that names the file, or no difference. */
static void
packed_damage(void **state)
{
	WalSegments *segs;
	char *segment = pg_malloc(SEG);
	char *buf = pg_malloc(SEG);
	char *good;
	size_t len;
	const char *file;
	int errors = 0;

	/* much of it compresses well, so that the file is small */
	gen_seed();
	for (int i = 0; i < SEG; i++)
		segment[i] = i % 4096 < 2 ? random() : i / 4096;
	assert_ok(wal_segments_open(dir, SEG, &segs));
	assert_ok(wal_segments_write(segs, 3 * SEG, segment, SEG));
	assert_ok(wal_segments_write(segs, 4 * SEG, segment, SEG));
	assert_ok(wal_segments_sync(segs));
	assert_ok(wal_segments_pack(segs, 4, NULL));
	wal_segments_close(segs);
	file = slurp(packed_path_of(3), &len);
	good = pg_malloc(len);
	memcpy(good, file, len);
	for (size_t at = 0; at < 2 * len; at++)
	{
		PsError *err;

		if (at < len)
		{
			good[at] ^= 1 << random() % 8;
			spew(packed_path_of(3), good, len);
			memcpy(good, file, len);
		}
		else
			spew(packed_path_of(3), good, at - len);
		assert_ok(wal_segments_open(dir, SEG, &segs));
		err = wal_segments_read(segs, 3 * SEG, buf, SEG);
		if (err == NULL)
			assert_memory_equal(buf, segment, SEG);
		else if (strstr(err->message, "000000010000000000000003" PACKED_SUFFIX) == NULL)
			fail_msg("byte %zu: \"%s\" does not name the file", at, err->message);
		errors += err != NULL;
		ps_error_free(err);
		wal_segments_close(segs);
	}
	printf("%zu bytes, %d of %zu changes found\n", len, errors, 2 * len);
	assert_true(errors > 2 * len - 20);
	free(good);
	free(segment);
	free(buf);
}

/* Readers and syncs from other threads while one writes, and compresses what is behind. */
static Gen shared_gen;
static WalSegments *shared_segs;
static atomic_int written; /* records that are whole in the files */
static atomic_bool done;

static void *
read_records(void *arg)
{
	unsigned seed = (uintptr_t) arg;
	char *buf = pg_malloc(SEG + 100);
	uintptr_t count = 0;

	while (!done)
	{
		int n = written;
		const WalRecord *rec;

		if (n == 0)
			continue;
		rec = &shared_gen.records[rand_r(&seed) % n];
		if (wal_segments_read_record(shared_segs, rec->start, rec->len, buf) != NULL ||
			memcmp(buf, rec->data, rec->len) != 0)
			return (void *) UINTPTR_MAX;
		count++;
		if (count % 10 == 0 && wal_segments_sync(shared_segs) != NULL)
			return (void *) UINTPTR_MAX;
	}
	free(buf);
	return (void *) count;
}

static void
threads(void **state)
{
	pthread_t thread[4];

	gen_seed();
	make_stream(&shared_gen, 30 * SEG, 30 * SEG);
	assert_ok(wal_segments_open(dir, SEG, &shared_segs));
	written = 0;
	done = false;
	for (uintptr_t i = 0; i < lengthof(thread); i++)
		pthread_create(&thread[i], NULL, read_records, (void *) (i + random()));
	for (size_t at = 0; at < shared_gen.bytes.len;)
	{
		size_t n = Min(50000, shared_gen.bytes.len - at);
		int whole = written;

		assert_ok(wal_segments_write(shared_segs, shared_gen.start + at, shared_gen.bytes.data + at, n));
		at += n;
		while (whole < shared_gen.n && shared_gen.records[whole].end <= shared_gen.start + at)
			whole++;
		written = whole;
		assert_ok(wal_segments_pack(shared_segs, (shared_gen.start + at) / SEG - 2, NULL));
	}
	done = true;
	for (int i = 0; i < lengthof(thread); i++)
	{
		void *result;

		pthread_join(thread[i], &result);
		assert_int_not_equal((uintptr_t) result, UINTPTR_MAX);
	}
	assert_int_equal(written, shared_gen.n);
	assert_ok(wal_segments_cut(shared_segs, 0));
	wal_segments_close(shared_segs);
	gen_free(&shared_gen);
}

static PsError *
rewrite_with_limit(WalSegments *segs, XLogRecPtr from, rlim_t bytes)
{
	struct rlimit limit;
	struct rlimit before;
	PsError *err;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = (struct rlimit) {.rlim_cur = bytes, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	err = wal_segments_rewrite(segs, from, from + SEG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	return err;
}

/* What has bytes is written again, and the zeros after it, as after a segment switch, are not. */
static void
rewrite(void **state)
{
	XLogRecPtr start = 12 * (XLogRecPtr) SEG;
	char page[XLOG_BLCKSZ];
	WalSegments *segs;
	PsError *err;

	assert_ok(wal_segments_open(dir, SEG, &segs));
	assert_ok(wal_segments_write(segs, start + XLOG_BLCKSZ + 100, "wal", 3));
	signal(SIGXFSZ, SIG_IGN);
	err = rewrite_with_limit(segs, start, XLOG_BLCKSZ);
	assert_non_null(err);
	ps_error_free(err);
	assert_ok(rewrite_with_limit(segs, start, 2 * XLOG_BLCKSZ));
	assert_ok(wal_segments_read(segs, start + XLOG_BLCKSZ, page, sizeof(page)));
	assert_memory_equal(page + 100, "wal", 3);
	wal_segments_close(segs);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(write_and_read, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(cut, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(rewrite, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(foreign_files, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(reader, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(cut_record, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(packed, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(packed_crash, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(packed_damage, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(threads, make_dir, remove_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
