/*
 * fuzz_wal.c
 *	  Fuzzes what reads WAL: decoder, parser, interpreter, SLRU pages, images,
 *	  the state of a checkpoint.
 *
 * The first byte of an input says what the rest is:
 *
 *	  0		records, which are looked at one after the other
 *	  1		records, of which a stream is made, some bytes of which are changed;
 *			the stream is decoded
 *	  2		the bytes of a stream
 *	  3		the bytes of a saved state
 *
 * A record is  u8 rmid, u8 info, u32 xid, u16 length, what follows its header;
 * with bit 15 of the length set, zeros make that 16 times as long.
 * Before records: u8, bit 0: commit timestamps are tracked.  Mode 1 has before
 * those a u8 number of changes, each  u32 offset, u8 value.  Mode 1 and 2 have
 * before all that a u16, of which the sizes of the pieces are made in which the
 * stream is fed, and a u8: bit 0: the system identifier is known, bit 1: the
 * rest of a record at the beginning is skipped, bit 2: the start of the record
 * before is known.
 */
#include "ps_fe.h"

#include "access/clog.h"
#include "access/transam.h"

#include "wal_gen.h"

#include "fuzz.h"
#include "pg/interpret.h"
#include "pg/slru.h"
#include "pg/walstate.h"

#define SEGMENT_SIZE (1024 * 1024)
#define START        ((XLogRecPtr) 7 * SEGMENT_SIZE)
#define MAX_RECORDS  200

/* ---- what a record does ---- */

typedef struct Seen
{
	WalState state;
	int calls;
	char *page; /* BLCKSZ */
} Seen;

static PsError *
see_block(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber blk, bool will_init)
{
	REQUIRE(fork >= MAIN_FORKNUM && fork <= MAX_FORKNUM);
	((Seen *) arg)->calls++;
	return NULL;
}

static PsError *
see_slru(void *arg, const WalRecord *rec, PsSlru slru, uint32 pageno, bool will_init)
{
	Seen *seen = arg;

	REQUIRE(slru < PS_NSLRU);
	/* a record with many is slow, and none of them is new */
	if (seen->calls++ > 100)
		return NULL;
	if (will_init)
		memset(seen->page, 0xff, BLCKSZ);
	PS_TRY(wal_slru_apply(rec, slru, pageno, seen->page));
	/* of pages that the record does not change it must not make anything worse than an error */
	fuzz_result(wal_slru_apply(rec, (PsSlru) ((slru + 1) % PS_NSLRU), pageno + 1, seen->page));
	return NULL;
}

static PsError *
see_slru_truncate(void *arg, const WalRecord *rec, PsSlru slru, uint32 cutoff_page)
{
	static const uint32 segments[] = {0, 1, 0x7ff, 0x800, 0xfff, 0xffff, 0x14078};

	((Seen *) arg)->calls++;
	for (int i = 0; i < lengthof(segments); i++)
		wal_slru_truncates(rec, slru, cutoff_page, segments[i]);
	return NULL;
}

static PsError *
see_rel_create(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork)
{
	REQUIRE(fork >= MAIN_FORKNUM && fork <= MAX_FORKNUM);
	return NULL;
}

static PsError *
see_rel_truncate(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber nblocks)
{
	REQUIRE(fork >= MAIN_FORKNUM && fork <= MAX_FORKNUM);
	return NULL;
}

static PsError *
see_rel_drop(void *arg, const WalRecord *rec, PsRel rel)
{
	return NULL;
}

static PsError *
see_db_copy(void *arg, const WalRecord *rec, Oid src_spc, Oid src_db, Oid spc, Oid db)
{
	return NULL;
}

static PsError *
see_db_drop(void *arg, const WalRecord *rec, Oid spc, Oid db)
{
	return NULL;
}

static PsError *
see_origin(void *arg, const WalRecord *rec, RepOriginId id, XLogRecPtr remote_lsn, bool force)
{
	return NULL;
}

static PsError *
see_put(void *arg, const WalRecord *rec, const PsKey *key, const char *data, uint32 len)
{
	fuzz_touch(data, len);
	return NULL;
}

static PsError *
see_del(void *arg, const WalRecord *rec, const PsKey *key)
{
	return NULL;
}

static const WalSink sink_template = {
	.block = see_block,
	.slru = see_slru,
	.slru_truncate = see_slru_truncate,
	.rel_create = see_rel_create,
	.rel_truncate = see_rel_truncate,
	.rel_drop = see_rel_drop,
	.db_copy = see_db_copy,
	.db_drop = see_db_drop,
	.origin = see_origin,
	.put = see_put,
	.del = see_del,
};

/* All that ingest and reads do with a record. */
static void
see_record(Seen *seen, const WalRecord *rec)
{
	WalParsed parsed;
	WalSink sink = sink_template;

	fuzz_touch(rec->data, rec->len);
	if (!fuzz_result(wal_parse(rec, &parsed)))
		return;
	REQUIRE(parsed.main_data_len < rec->len);
	fuzz_touch(parsed.main_data, parsed.main_data_len);
	for (int i = 0; i <= parsed.max_block_id; i++)
	{
		const WalBlockRef *blk = &parsed.blocks[i];

		if (!blk->in_use)
			continue;
		fuzz_touch(blk->data, blk->data_len);
		wal_image_is_final(&parsed, i);
		if (!blk->has_image)
			continue;
		fuzz_touch(blk->image, blk->bimg_len);
		fuzz_result(wal_restore_image(rec, &parsed, i, seen->page));
	}
	sink.arg = seen;
	seen->calls = 0;
	if (fuzz_result(wal_interpret(rec, &parsed, seen->state.track_commit_timestamp, &sink)) &&
		fuzz_result(wal_state_apply(&seen->state, rec, &parsed)))
		REQUIRE(seen->state.end == rec->end && seen->state.prev == rec->start);
}

/*
 * The state can be saved and is then the same, and the checkpoint that follows
 * it is WAL that the decoder takes.
 */
static void
check_state(const WalState *state)
{
	StringInfoData saved;
	StringInfoData again;
	StringInfoData bytes;
	WalState back;
	CheckPoint checkpoint;
	XLogRecPtr start;
	XLogRecPtr end;
	WalDecoder *decoder;
	WalRecord rec;
	WalParsed parsed;
	bool found;

	initStringInfo(&saved);
	initStringInfo(&again);
	initStringInfo(&bytes);
	wal_state_encode(state, &saved);
	MUST(wal_state_decode(saved.data, saved.len, &back));
	wal_state_encode(&back, &again);
	REQUIRE(saved.len == again.len && memcmp(saved.data, again.data, saved.len) == 0);

	if (state->end % MAXIMUM_ALIGNOF == 0 && state->end < PG_UINT64_MAX - SEGMENT_SIZE && state->prev < state->end)
	{
		wal_make_shutdown_checkpoint(state, 1, SEGMENT_SIZE, 1000, &bytes, &checkpoint, &start, &end);
		REQUIRE(end - state->end == bytes.len);
		decoder = wal_decoder_create(state->end, state->prev, 1, SEGMENT_SIZE, false);
		wal_decoder_feed(decoder, bytes.data, bytes.len);
		MUST(wal_decoder_next(decoder, &rec, &found));
		REQUIRE(found && rec.start == start && rec.end == end);
		MUST(wal_parse(&rec, &parsed));
		MUST(wal_state_apply(&back, &rec, &parsed));
		REQUIRE(back.shutdown && back.checkpoint.redo == start);
		wal_decoder_free(decoder);
	}
	pfree(saved.data);
	pfree(again.data);
	pfree(bytes.data);
}

static void
begin_state(Seen *seen, uint8 flags)
{
	CheckPoint *cp = &seen->state.checkpoint;

	memset(&seen->state, 0, sizeof(seen->state));
	cp->ThisTimeLineID = cp->PrevTimeLineID = 1;
	cp->nextXid = FullTransactionIdFromEpochAndXid(0, 1000);
	cp->nextOid = 20000;
	cp->nextMulti = cp->oldestMulti = 1;
	cp->oldestXid = 3;
	seen->state.end = START;
	seen->state.track_commit_timestamp = (flags & 1) != 0;
}

/* The next record, malloc'd; NULL at the end. */
static char *
take_record(FuzzInput *in, XLogRecPtr prev, uint32 *len)
{
	uint8 rmid = fuzz_u8(in);
	uint8 info = fuzz_u8(in);
	TransactionId xid = fuzz_u32(in);
	uint16 body_len = fuzz_u16(in);
	size_t n;
	char *body;
	char *rec;

	if (in->size == 0 && body_len != 0)
		return NULL;
	body = fuzz_bytes(in, body_len & 0x7fff, &n);
	if ((body_len & 0x8000) != 0)
	{
		body = realloc(body, n * 16 + 1);
		memset(body + n, 0, n * 15);
		n *= 16;
	}
	rec = gen_make_record(prev, rmid, info, xid, body, (uint32) n);
	*len = SizeOfXLogRecord + (uint32) n;
	free(body);
	return rec;
}

static void
fuzz_records(Seen *seen, FuzzInput *in)
{
	XLogRecPtr lsn = START + SizeOfXLogLongPHD;

	begin_state(seen, fuzz_u8(in));
	for (int i = 0; i < MAX_RECORDS && in->size > 0; i++)
	{
		WalRecord rec = {.start = lsn};

		rec.data = take_record(in, 0, &rec.len);
		if (rec.data == NULL)
			break;
		rec.end = MAXALIGN64(lsn + rec.len);
		see_record(seen, &rec);
		free((char *) rec.data);
		lsn = rec.end;
	}
	check_state(&seen->state);
}

static void
fuzz_stream(Seen *seen, XLogRecPtr prev, const char *bytes, size_t len, uint16 pieces, uint8 flags)
{
	WalDecoder *decoder = wal_decoder_create(START, (flags & 4) != 0 ? prev : InvalidXLogRecPtr,
											 (flags & 1) != 0 ? GEN_SYSID : 0, SEGMENT_SIZE, (flags & 2) != 0);
	uint64 random = pieces;
	size_t done = 0;
	XLogRecPtr end = START;

	begin_state(seen, flags);
	while (done < len)
	{
		size_t n;
		WalRecord rec;
		bool found = true;
		PsError *err = NULL;

		random = random * UINT64CONST(6364136223846793005) + 1442695040888963407;
		n = 1 + (random >> 33) % ((random >> 60) % 4 == 0 ? 30000 : 300);
		n = Min(n, len - done);
		if (pieces % 2 == 0)
			wal_decoder_feed(decoder, bytes + done, n);
		else
		{
			/* as the reader does it */
			memcpy(wal_decoder_room(decoder, n), bytes + done, n);
			wal_decoder_fed(decoder, n);
		}
		done += n;
		REQUIRE(wal_decoder_feed_position(decoder) == START + done);
		while (found && (err = wal_decoder_next(decoder, &rec, &found)) == NULL && found)
		{
			REQUIRE(rec.start >= end && rec.end > rec.start && rec.end % MAXIMUM_ALIGNOF == 0);
			REQUIRE(rec.len >= SizeOfXLogRecord && rec.len <= done);
			REQUIRE((uintptr_t) rec.data % MAXIMUM_ALIGNOF == 0);
			REQUIRE(wal_decoder_record_end(decoder) == rec.end && wal_decoder_record_prev(decoder) == rec.start);
			end = rec.end;
			see_record(seen, &rec);
		}
		if (!fuzz_result(err))
		{
			/* it stays so */
			REQUIRE(!fuzz_result(wal_decoder_next(decoder, &rec, &found)) && !found);
			break;
		}
	}
	wal_decoder_free(decoder);
	check_state(&seen->state);
}

static void
fuzz_made_stream(Seen *seen, FuzzInput *in)
{
	uint16 pieces = fuzz_u16(in);
	uint8 flags = fuzz_u8(in);
	int nchanges = fuzz_u8(in) % 16;
	struct
	{
		uint32 offset;
		uint8 value;
	} changes[16];
	Gen gen;

	for (int i = 0; i < nchanges; i++)
	{
		changes[i].offset = fuzz_u32(in);
		changes[i].value = fuzz_u8(in);
	}
	gen_init(&gen, START, SEGMENT_SIZE);
	gen.prev = START - 1000;
	for (int i = 0; i < MAX_RECORDS && in->size > 0; i++)
	{
		XLogRecPtr start = wal_record_start_after(gen.pos, SEGMENT_SIZE);
		uint32 len;
		char *rec = take_record(in, gen.prev, &len);

		if (rec == NULL)
			break;
		gen_append(&gen, rec, len, UINT32_MAX);
		gen.prev = start;
		free(rec);
	}
	for (int i = 0; i < nchanges && gen.bytes.len > 0; i++)
		gen.bytes.data[changes[i].offset % gen.bytes.len] = (char) changes[i].value;
	fuzz_stream(seen, START - 1000, gen.bytes.data, gen.bytes.len, pieces, flags);
	gen_free(&gen);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	fuzz_begin();
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	FuzzInput in = {data, size};
	Seen seen = {.page = malloc(BLCKSZ)};
	uint16 pieces;
	uint8 flags;
	char *bytes;
	size_t len;

	memset(seen.page, 0, BLCKSZ);
	switch (fuzz_u8(&in) % 4)
	{
		case 0:
			fuzz_records(&seen, &in);
			break;
		case 1:
			fuzz_made_stream(&seen, &in);
			break;
		case 2:
			pieces = fuzz_u16(&in);
			flags = fuzz_u8(&in);
			bytes = fuzz_bytes(&in, in.size, &len);
			fuzz_stream(&seen, START - 1000, bytes, len, pieces, flags);
			free(bytes);
			break;
		case 3:
			bytes = fuzz_bytes(&in, in.size, &len);
			if (fuzz_result(wal_state_decode(bytes, len, &seen.state)))
				check_state(&seen.state);
			free(bytes);
			break;
	}
	free(seen.page);
	return 0;
}
