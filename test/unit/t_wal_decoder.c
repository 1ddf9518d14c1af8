/*
 * t_wal_decoder.c
 *	  The decoder on generated WAL: every place of a page boundary, pieces of
 *	  any size, damaged bytes.
 */
#include "wal_gen.h"

#include <malloc.h>

#define SEG (1024 * 1024)

static uint32 last_cut; /* of the last record that decode_and_compare() had */

/*
 * Feeds [from, to) of the stream in pieces of random size and compares the
 * records from number "first" on; returns how many there were before the end
 * of the bytes or the error.
 */
static int
decode_and_compare(const Gen *gen, WalDecoder *dec, int first, uint32 max_piece, PsError **err)
{
	size_t at = wal_decoder_feed_position(dec) - gen->start;
	int n = first;

	*err = NULL;
	for (;;)
	{
		WalRecord rec;
		bool found;
		size_t piece;

		*err = wal_decoder_next(dec, &rec, &found);
		if (*err != NULL)
			return n;
		if (found)
		{
			assert_true(n < gen->n);
			assert_int_equal(rec.start, gen->records[n].start);
			assert_int_equal(rec.end, gen->records[n].end);
			assert_int_equal(rec.len, gen->records[n].len);
			assert_int_equal((uintptr_t) rec.data % MAXIMUM_ALIGNOF, 0);
			assert_memory_equal(rec.data, gen->records[n].data, rec.len - rec.cut);
			last_cut = rec.cut;
			assert_int_equal(wal_decoder_record_end(dec), rec.end);
			assert_int_equal(wal_decoder_record_prev(dec), rec.start);
			n++;
			continue;
		}
		if (at == gen->bytes.len)
			return n;
		piece = 1 + random() % max_piece;
		piece = Min(piece, gen->bytes.len - at);
		if (random() % 2)
			wal_decoder_feed(dec, gen->bytes.data + at, piece);
		else
		{
			memcpy(wal_decoder_room(dec, piece), gen->bytes.data + at, piece);
			wal_decoder_fed(dec, piece);
		}
		at += piece;
		assert_int_equal(wal_decoder_feed_position(dec), gen->start + at);
	}
}

/* All of it decodes, from its start. */
static void
assert_decodes(const Gen *gen, uint32 max_piece)
{
	WalDecoder *dec = wal_decoder_create(gen->start, InvalidXLogRecPtr, GEN_SYSID, gen->segment_size, false);
	PsError *err;
	int n = decode_and_compare(gen, dec, 0, max_piece, &err);

	if (err != NULL)
		fail_msg("%s", err->message);
	assert_int_equal(n, gen->n);
	wal_decoder_free(dec);
}

/* A record of each length around a page at each offset in a page, also at the end of a segment. */
static void
every_alignment(void **state)
{
	static const uint32 lengths[] = {0, 1, 2, 7, 8, 9, 100, 8000, 8127, 8128, 8129, 8152, 8160, 8168,
									 8192, 16384, 30000};

	gen_seed();
	for (int page = 0; page < 3; page++)
	{
		/* in a segment's first page, in the next, in its last */
		XLogRecPtr page_start = 5 * SEG + (page == 2 ? SEG - XLOG_BLCKSZ : page * XLOG_BLCKSZ);

		for (uint32 offset = page == 0 ? SizeOfXLogLongPHD : SizeOfXLogShortPHD; offset <= XLOG_BLCKSZ; offset += 8)
		{
			Gen gen;

			gen_init(&gen, page_start + offset, SEG);
			gen_random_record(&gen, lengths[random() % lengthof(lengths)]);
			gen_random_record(&gen, lengths[random() % lengthof(lengths)] + random() % 8);
			gen_random_record(&gen, random() % 50);
			assert_decodes(&gen, 1 + random() % 3000);
			assert_decodes(&gen, INT_MAX);
			gen_free(&gen);
		}
	}
}

static void
long_streams(void **state)
{
	gen_seed();
	for (int round = 0; round < 20; round++)
	{
		Gen gen;

		gen_init(&gen, (random() % 1000) * SEG, SEG);
		while (gen.bytes.len < 3 * SEG)
		{
			switch (random() % 100)
			{
				case 0:
					gen_random_record(&gen, random() % (2 * SEG));
					break;
				case 1:
					gen_record(&gen, RM_XLOG_ID, XLOG_SWITCH, 0, NULL, 0);
					break;
				case 2:
					gen_random_record(&gen, random() % 40000);
					break;
				default:
					gen_random_record(&gen, random() % 400);
			}
		}
		assert_decodes(&gen, 1 << (random() % 22));
		gen_free(&gen);
	}
}

/* A switch at each offset of a page, and as the last thing of a segment. */
static void
segment_switch(void **state)
{
	gen_seed();
	for (uint32 back = 0; back <= 2 * XLOG_BLCKSZ; back += 8)
	{
		Gen gen;

		if (back % XLOG_BLCKSZ > XLOG_BLCKSZ - SizeOfXLogShortPHD)
			continue;
		gen_init(&gen, 9 * SEG - back, SEG);
		gen_record(&gen, RM_XLOG_ID, XLOG_SWITCH, 0, NULL, 0);
		assert_int_equal(gen.pos % SEG, 0);
		gen_random_record(&gen, 100);
		assert_decodes(&gen, 20000);
		gen_free(&gen);
	}
}

/* The next long record is not there yet: the decoder waits; its end is the last whole record's. */
static void
incomplete(void **state)
{
	Gen gen;
	WalDecoder *dec;
	WalRecord rec;
	bool found;

	gen_init(&gen, 3 * SEG, SEG);
	gen_random_record(&gen, 10);
	gen_random_record(&gen, 20000);
	dec = wal_decoder_create(gen.start, InvalidXLogRecPtr, GEN_SYSID, SEG, false);
	wal_decoder_feed(dec, gen.bytes.data, gen.bytes.len - 8);
	assert_ok(wal_decoder_next(dec, &rec, &found));
	assert_true(found);
	assert_ok(wal_decoder_next(dec, &rec, &found));
	assert_false(found);
	assert_int_equal(wal_decoder_record_end(dec), gen.records[0].end);
	wal_decoder_feed(dec, gen.bytes.data + gen.bytes.len - 8, 8);
	assert_ok(wal_decoder_next(dec, &rec, &found));
	assert_true(found);
	assert_int_equal(wal_decoder_record_end(dec), gen.pos);
	wal_decoder_free(dec);
	gen_free(&gen);
}

/* Memory that is in use, as malloc() knows it. */
static size_t
memory(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

/*
 * Long records whose end nobody needs: they are checked to the last byte, and
 * not kept.  Of those that are needed whole, nothing is kept either once they
 * have been looked at.
 */
static void
long_records(void **state)
{
	const uint32 len = 20 * 1024 * 1024;
	static const struct
	{
		RmgrId rmid;
		WalContents contents;
		size_t kept; /* 0: all */
		size_t memory;
	} cases[] = {
		{RM_LOGICALMSG_ID, WAL_WHOLE, 0, 70000000},
		{RM_LOGICALMSG_ID, WAL_NEEDED, WAL_CUT_LEN, 6000000},
		{RM_LOGICALMSG_ID, WAL_HEADERS, 65536, 1500000},
		{RM_HEAP_ID, WAL_NEEDED, WAL_CUT_LEN, 6000000},
		{RM_HEAP2_ID, WAL_NEEDED, WAL_CUT_LEN, 6000000},
		{RM_XACT_ID, WAL_NEEDED, 0, 70000000},
		{RM_XACT_ID, WAL_HEADERS, 65536, 1500000},
	};
	char *body = pg_malloc(len);
	uint32 main_len = len - 5;

	gen_seed();
	for (uint32 i = 0; i < len; i++)
		body[i] = random();
	body[0] = (char) XLR_BLOCK_ID_DATA_LONG;
	memcpy(body + 1, &main_len, 4);
	for (int i = 0; i < lengthof(cases); i++)
	{
		Gen gen;
		WalDecoder *dec;
		WalRecord rec;
		bool found;
		size_t before;
		PsError *err;

		gen_init(&gen, 3 * SEG, SEG);
		gen_random_record(&gen, 100);
		gen_record(&gen, cases[i].rmid, 0, 0, body, len);
		for (int damaged = 0; damaged < 2; damaged++)
		{
			before = memory();
			if (damaged)
				gen.bytes.data[gen.bytes.len - 100] ^= 1;
			dec = wal_decoder_create(gen.start, InvalidXLogRecPtr, GEN_SYSID, SEG, false);
			wal_decoder_set_contents(dec, cases[i].contents);
			last_cut = 0;
			assert_int_equal(decode_and_compare(&gen, dec, 0, 200000, &err), damaged ? 1 : 2);
			if (damaged)
			{
				assert_non_null(err);
				assert_non_null(strstr(err->message, "record has checksum"));
				ps_error_free(err);
			}
			else
			{
				assert_null(err);
				assert_int_equal(last_cut, cases[i].kept == 0 ? 0 : SizeOfXLogRecord + len - cases[i].kept);
				assert_ok(wal_decoder_next(dec, &rec, &found));
				assert_true(memory() - before < 6000000);
			}
			wal_decoder_free(dec);
		}

		/* while it is put together */
		gen.bytes.data[gen.bytes.len - 100] ^= 1;
		before = memory();
		dec = wal_decoder_create(gen.start, InvalidXLogRecPtr, GEN_SYSID, SEG, false);
		wal_decoder_set_contents(dec, cases[i].contents);
		for (size_t at = 0; at < gen.bytes.len; at += 100000)
		{
			wal_decoder_feed(dec, gen.bytes.data + at, Min(100000, gen.bytes.len - at));
			do
				assert_ok(wal_decoder_next(dec, &rec, &found));
			while (found && at + 100000 < gen.bytes.len);
			assert_true(memory() - before < cases[i].memory);
		}
		assert_true(found);
		wal_decoder_free(dec);
		gen_free(&gen);
	}
	free(body);
}

/* Zeros after the last record are an error, and stay one. */
static void
zeros_at_the_end(void **state)
{
	Gen gen;
	WalDecoder *dec;
	PsError *err;

	gen_init(&gen, 3 * SEG, SEG);
	gen_random_record(&gen, 10);
	gen_zeros(&gen, 64);
	dec = wal_decoder_create(gen.start, InvalidXLogRecPtr, GEN_SYSID, SEG, false);
	assert_int_equal(decode_and_compare(&gen, dec, 0, 100, &err), 1);
	assert_non_null(err);
	assert_non_null(strstr(err->message, "record of 0 bytes"));
	ps_error_free(err);
	assert_int_equal(decode_and_compare(&gen, dec, 1, 100, &err), 1);
	assert_non_null(err);
	ps_error_free(err);
	assert_int_equal(wal_decoder_record_end(dec), gen.records[0].end);
	wal_decoder_free(dec);
	gen_free(&gen);
}

/* From a segment's start, in the middle of a record that spans it or begins it. */
static void
skip_contrecord(void **state)
{
	gen_seed();
	for (int round = 0; round < 200; round++)
	{
		Gen gen;
		Gen tail;
		WalDecoder *dec;
		XLogRecPtr boundary = 8 * SEG;
		PsError *err;
		int first = 0;

		gen_init(&gen, boundary - 8 * (1 + random() % 200), SEG);
		gen_random_record(&gen, round % 2 ? 2000 + random() % 30000 : random() % 4000);
		gen_random_record(&gen, random() % 100);
		gen_random_record(&gen, random() % 100);
		if (gen.pos <= boundary)
		{
			gen_free(&gen);
			continue;
		}
		while (first < gen.n && gen.records[first].start < boundary)
			first++;

		tail = gen;
		tail.start = boundary;
		tail.bytes.data = gen.bytes.data + (boundary - gen.start);
		tail.bytes.len = gen.bytes.len - (boundary - gen.start);
		dec = wal_decoder_create(boundary, InvalidXLogRecPtr, 0, SEG, true);
		assert_int_equal(decode_and_compare(&tail, dec, first, 5000, &err), gen.n);
		assert_null(err);
		wal_decoder_free(dec);

		/* without leave to skip it is an error if there is something to skip */
		dec = wal_decoder_create(boundary, InvalidXLogRecPtr, 0, SEG, false);
		decode_and_compare(&tail, dec, first, 5000, &err);
		if (first > 0 && gen.records[first - 1].end > boundary)
			assert_error(err, "continues a record");
		else
			assert_null(err);
		wal_decoder_free(dec);
		gen_free(&gen);
	}
}

/* A record whose rest was overwritten after a crash (xlog.c, CreateOverwriteContrecordRecord()). */
static void
overwritten_contrecord(void **state)
{
	for (int wrong = 0; wrong < 3; wrong++)
	{
		Gen gen;
		WalDecoder *dec;
		char *broken;
		char *body;
		uint32 body_len;
		xl_overwrite_contrecord xlrec = {0};
		PsError *err;

		gen_init(&gen, 2 * SEG, SEG);
		gen_random_record(&gen, 100);
		xlrec.overwritten_lsn = gen.pos + (wrong == 1 ? 8 : 0);
		body = pg_malloc0(30000);
		body[0] = (char) XLR_BLOCK_ID_DATA_LONG;
		broken = gen_make_record(gen.prev, RM_LOGICALMSG_ID, 0, 0, body, 30000);
		free(body);
		gen_append(&gen, broken, 30024, XLOG_BLCKSZ);
		free(broken);
		assert_int_equal(gen.pos % XLOG_BLCKSZ, 0);
		gen_page_header(&gen, XLP_FIRST_IS_OVERWRITE_CONTRECORD, 0);
		body = gen_main_data(&xlrec, sizeof(xlrec), &body_len);
		gen_record(&gen, RM_XLOG_ID, wrong == 2 ? XLOG_NOOP : XLOG_OVERWRITE_CONTRECORD, 0, body, body_len);
		free(body);
		gen_random_record(&gen, 100);

		dec = wal_decoder_create(gen.start, InvalidXLogRecPtr, GEN_SYSID, SEG, false);
		if (wrong == 0)
		{
			assert_int_equal(decode_and_compare(&gen, dec, 0, 3000, &err), 3);
			assert_null(err);
		}
		else
		{
			assert_int_equal(decode_and_compare(&gen, dec, 0, 3000, &err), 1);
			assert_error(err, "overwrite-contrecord record");
		}
		wal_decoder_free(dec);
		gen_free(&gen);
	}
}

/* Whatever bit is wrong: no record comes out that was not written. */
static void
bit_flips(void **state)
{
	Gen gen;
	int refused = 0;
	int tries = 0;

	gen_seed();
	gen_init(&gen, 7 * SEG - XLOG_BLCKSZ, SEG);
	while (gen.bytes.len < 2 * XLOG_BLCKSZ)
		gen_random_record(&gen, random() % 300);
	gen_random_record(&gen, 9000);
	gen_random_record(&gen, 9);

	/* every bit of every byte would be half a million runs: one bit of each byte, all bits of headers */
	for (size_t at = 0; at < gen.bytes.len; at++)
	{
		bool header = (gen.start + at) % XLOG_BLCKSZ < SizeOfXLogLongPHD;

		for (int bit = 0; bit < 8; bit++)
		{
			WalDecoder *dec;
			PsError *err;
			int n;

			if (!header && bit != at % 8 && random() % 16 != 0)
				continue;
			gen.bytes.data[at] ^= 1 << bit;
			dec = wal_decoder_create(gen.start, InvalidXLogRecPtr, GEN_SYSID, SEG, false);
			/* fails in itself if a record differs */
			n = decode_and_compare(&gen, dec, 0, INT_MAX, &err);
			tries++;
			if (err != NULL || n < gen.n)
				refused++;
			ps_error_free(err);
			wal_decoder_free(dec);
			gen.bytes.data[at] ^= 1 << bit;
		}
	}
	/* the rest are bits that mean nothing: padding, "may be removed" in page headers */
	assert_true(refused > tries * 95 / 100);
	gen_free(&gen);
}

/* What is wrong with a page header or a record's place is named. */
static void
refusals(void **state)
{
	Gen gen;
	XLogLongPageHeaderData *hdr;
	XLogLongPageHeaderData save;
	XLogRecord *rec;

#define TRY(start_, prev_, sysid_, seg_, text)                                    \
	do                                                                            \
	{                                                                             \
		WalDecoder *dec = wal_decoder_create(start_, prev_, sysid_, seg_, false); \
		WalRecord r;                                                              \
		bool found;                                                               \
		wal_decoder_feed(dec, gen.bytes.data, gen.bytes.len);                     \
		assert_error(wal_decoder_next(dec, &r, &found), text);                    \
		assert_false(found);                                                      \
		wal_decoder_free(dec);                                                    \
		*hdr = save;                                                              \
	} while (0)

	gen_init(&gen, 6 * SEG, SEG);
	gen_random_record(&gen, 100);
	hdr = (XLogLongPageHeaderData *) gen.bytes.data;
	rec = (XLogRecord *) (gen.bytes.data + SizeOfXLogLongPHD);
	save = *hdr;
	TRY(gen.start, 0, GEN_SYSID + 1, SEG, "system identifier");
	TRY(gen.start, 0, GEN_SYSID, 2 * SEG, "segment size");
	TRY(gen.start, gen.start - 64, GEN_SYSID, SEG, "record follows one at");
	TRY(gen.start + SEG, 0, GEN_SYSID, SEG, "address");
	hdr->std.xlp_magic = 0xD10F;
	TRY(gen.start, 0, GEN_SYSID, SEG, "magic number D10F");
	hdr->std.xlp_tli = 2;
	TRY(gen.start, 0, GEN_SYSID, SEG, "timeline 2");
	hdr->std.xlp_info &= ~XLP_LONG_HEADER;
	TRY(gen.start, 0, GEN_SYSID, SEG, "no long page header");
	hdr->std.xlp_info |= 0x100;
	TRY(gen.start, 0, GEN_SYSID, SEG, "unknown flags");
	rec->xl_rmid = RM_MAX_BUILTIN_ID + 1;
	TRY(gen.start, 0, GEN_SYSID, SEG, "invalid resource manager");
	rec->xl_rmid = RM_LOGICALMSG_ID;
	rec->xl_tot_len = 23;
	TRY(gen.start, 0, GEN_SYSID, SEG, "record of 23 bytes");
	rec->xl_tot_len = 0x40000000;
	TRY(gen.start, 0, GEN_SYSID, SEG, "record of 1073741824 bytes");

	/* PostgreSQL could not allocate what its reader would want for it */
	rec->xl_tot_len = WAL_MAX_RECORD + 1;
	TRY(gen.start, 0, GEN_SYSID, SEG, "record of 1073733632 bytes, expected 24 to 1073733631");
	gen_free(&gen);
#undef TRY
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_alignment),
		cmocka_unit_test(long_streams),
		cmocka_unit_test(segment_switch),
		cmocka_unit_test(incomplete),
		cmocka_unit_test(long_records),
		cmocka_unit_test(zeros_at_the_end),
		cmocka_unit_test(skip_contrecord),
		cmocka_unit_test(overwritten_contrecord),
		cmocka_unit_test(bit_flips),
		cmocka_unit_test(refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
