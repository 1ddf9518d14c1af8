/*
 * t_wire.c
 *	  Messages of the page stream and keys: what is encoded is decoded, and
 *	  nothing else is.
 */
#include "ps_fe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#include "key.h"
#include "bytes.h"
#include "wire.h"

static unsigned int seed;

static uint64
random_bits(void)
{
	static uint64 state;

	if (state == 0)
		state = seed * UINT64CONST(0x9E3779B97F4A7C15) + 1;
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static int
setup(void **state)
{
	const char *given = getenv("SEED");

	seed = given ? (unsigned int) atoi(given) : (unsigned int) time(NULL);
	print_message("t_wire: SEED=%u\n", seed);
	return 0;
}

/* The decoders see memory of exactly the message's size, so that a sanitizer finds a read beyond it. */
static const char *
get_request(const char *data, size_t len, PsRequest *req)
{
	char *copy = malloc(len > 0 ? len : 1);
	const char *problem;

	memcpy(copy, data, len);
	problem = ps_wire_get_request(copy, len, req);
	free(copy);
	return problem;
}

static PsRequest
random_request(void)
{
	static const PsRequestType types[] = {PS_REQ_RELSIZE, PS_REQ_FORKS, PS_REQ_PAGES};
	PsRequest req = {.type = types[random_bits() % 3],
					 .reqid = random_bits(),
					 .request_lsn = random_bits(),
					 .not_modified_since = random_bits(),
					 .rel = {random_bits(), random_bits(), 0}};

	if (req.type != PS_REQ_FORKS)
	{
		req.rel.rel = random_bits();
		req.fork = random_bits() % 4;
	}
	if (req.type == PS_REQ_PAGES)
	{
		req.count = 1 + random_bits() % PS_MAX_BATCH;
		for (int i = 0; i < req.count; i++)
			req.blocks[i] = random_bits();
	}
	return req;
}

static void
requests_round_trip(void **state)
{
	for (int round = 0; round < 500; round++)
	{
		PsRequest req = random_request();
		PsRequest got;
		StringInfoData buf;

		initStringInfo(&buf);
		ps_wire_put_request(&buf, &req);
		memset(&got, 0xAA, sizeof(got));
		assert_null(get_request(buf.data, buf.len, &got));
		assert_int_equal(got.type, req.type);
		assert_true(got.reqid == req.reqid);
		assert_true(got.request_lsn == req.request_lsn);
		assert_true(got.not_modified_since == req.not_modified_since);
		assert_true(got.rel.spc == req.rel.spc && got.rel.db == req.rel.db && got.rel.rel == req.rel.rel);
		assert_int_equal(got.fork, req.fork);
		assert_int_equal(got.count, req.count);
		for (int i = 0; i < req.count; i++)
			assert_int_equal(got.blocks[i], req.blocks[i]);

		/* no shorter and no longer message is the same */
		for (int len = 0; len < buf.len; len++)
			assert_non_null(get_request(buf.data, len, &got));
		appendStringInfoChar(&buf, '\0');
		assert_non_null(get_request(buf.data, buf.len, &got));
		pfree(buf.data);
	}
}

/* Offsets of the documented format, so that two programs built at different times agree. */
static void
request_format(void **state)
{
	PsRequest req = {.type = PS_REQ_PAGES,
					 .reqid = 0x0102030405060708,
					 .request_lsn = PS_LSN_LATEST,
					 .not_modified_since = 0x1122334455667788,
					 .rel = {1663, 5, 16384},
					 .fork = VISIBILITYMAP_FORKNUM,
					 .count = 1,
					 .blocks = {0xA0B0C0D0}};
	static const uint8 expected[] = {
		'g', 1, 1, 2, 3, 4, 5, 6, 7, 8, 255, 255, 255, 255, 255, 255, 255, 255,
		0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0, 0, 6, 127, 0, 0, 0, 5, 0, 0, 64, 0, 2, 0, 1,
		0xA0, 0xB0, 0xC0, 0xD0};
	StringInfoData buf;

	initStringInfo(&buf);
	ps_wire_put_request(&buf, &req);
	assert_int_equal(buf.len, sizeof(expected));
	assert_memory_equal(buf.data, expected, sizeof(expected));
	pfree(buf.data);
}

static void
bad_requests(void **state)
{
	PsRequest req = random_request();
	PsRequest got;
	StringInfoData buf;

	initStringInfo(&buf);
	req.type = PS_REQ_PAGES;
	req.fork = 0;
	req.count = 1;
	ps_wire_put_request(&buf, &req);
	assert_null(get_request(buf.data, buf.len, &got));
	buf.data[1] = PS_WIRE_VERSION + 1;
	assert_non_null(get_request(buf.data, buf.len, &got));
	buf.data[1] = PS_WIRE_VERSION;
	buf.data[0] = 'x';
	assert_non_null(get_request(buf.data, buf.len, &got));
	buf.data[0] = PS_REQ_PAGES;
	buf.data[38] = INIT_FORKNUM + 1;
	assert_non_null(get_request(buf.data, buf.len, &got));
	buf.data[38] = 0;

	/* a count that would overrun blocks[], with as many blocks there */
	ps_put16(buf.data + 39, PS_MAX_BATCH + 1);
	for (int i = 0; i < PS_MAX_BATCH; i++)
		appendBinaryStringInfo(&buf, "abcd", 4);
	assert_non_null(get_request(buf.data, buf.len, &got));
	ps_put16(buf.data + 39, 0);
	assert_non_null(get_request(buf.data, 41, &got));
	pfree(buf.data);
}

static void
responses_round_trip(void **state)
{
	static char pages[PS_MAX_BATCH * BLCKSZ];

	for (int i = 0; i < sizeof(pages); i++)
		pages[i] = (char) random_bits();
	for (int round = 0; round < 400; round++)
	{
		static const PsResponseType types[] = {PS_RESP_RELSIZE, PS_RESP_FORKS, PS_RESP_PAGES, PS_RESP_ERROR};
		PsResponse resp = {.type = types[random_bits() % 4],
						   .reqid = random_bits(),
						   .lsn = random_bits(),
						   .exists = random_bits() & 1,
						   .nblocks = random_bits(),
						   .nforks = random_bits() % 5,
						   .forks = pages,
						   .count = 1 + random_bits() % (round % 20 == 0 ? PS_MAX_BATCH : 3),
						   .pages = pages,
						   .sqlstate = "XX001",
						   .message = "a message",
						   .detail = round & 1 ? "" : "some detail",
						   .hint = round & 2 ? "" : "a hint"};
		PsResponse got;
		StringInfoData buf;
		int step;

		initStringInfo(&buf);
		ps_wire_put_response(&buf, &resp);
		memset(&got, 0xAA, sizeof(got));
		assert_null(ps_wire_get_response(buf.data, buf.len, &got));
		assert_int_equal(got.type, resp.type);
		assert_true(got.reqid == resp.reqid && got.lsn == resp.lsn);
		switch (resp.type)
		{
			case PS_RESP_RELSIZE:
				assert_true(got.exists == resp.exists && got.nblocks == resp.nblocks);
				break;
			case PS_RESP_FORKS:
				assert_int_equal(got.nforks, resp.nforks);
				assert_memory_equal(got.forks, pages, (size_t) resp.nforks * PS_FORK_SIZE);
				break;
			case PS_RESP_PAGES:
				assert_int_equal(got.count, resp.count);
				assert_memory_equal(got.pages, pages, (size_t) resp.count * BLCKSZ);
				break;
			case PS_RESP_ERROR:
				assert_string_equal(got.sqlstate, resp.sqlstate);
				assert_string_equal(got.message, resp.message);
				assert_string_equal(got.detail, resp.detail);
				assert_string_equal(got.hint, resp.hint);
				break;
		}
		step = buf.len > 100 ? buf.len / 50 : 1;
		for (int len = 0; len < buf.len; len += step)
		{
			char *copy = malloc(len + 1);

			memcpy(copy, buf.data, len);
			copy = realloc(copy, len > 0 ? len : 1);
			assert_non_null(ps_wire_get_response(copy, len, &got));
			free(copy);
		}
		appendStringInfoChar(&buf, 'x');
		assert_non_null(ps_wire_get_response(buf.data, buf.len, &got));
		pfree(buf.data);
	}
}

/* Random bytes, and whole messages with some bytes changed: never a crash, never a count out of range. */
static void
garbage(void **state)
{
	for (int round = 0; round < 20000; round++)
	{
		StringInfoData buf;
		PsRequest req = random_request();
		PsResponse resp;
		char *copy;

		initStringInfo(&buf);
		if (round % 2 == 0)
			ps_wire_put_request(&buf, &req);
		else
		{
			for (int n = random_bits() % 100; n > 0; n--)
				appendStringInfoCharMacro(&buf, (char) random_bits());
			if (buf.len > 1)
			{
				buf.data[0] = "ngdNGDE"[random_bits() % 7];
				buf.data[1] = PS_WIRE_VERSION;
			}
		}
		for (int n = random_bits() % 3; n > 0 && buf.len > 0; n--)
			buf.data[random_bits() % buf.len] = (char) random_bits();
		copy = malloc(buf.len + (buf.len == 0));
		memcpy(copy, buf.data, buf.len);
		if (ps_wire_get_request(copy, buf.len, &req) == NULL)
		{
			assert_true(req.fork >= MAIN_FORKNUM && req.fork <= INIT_FORKNUM);
			assert_true(req.count <= PS_MAX_BATCH);
		}
		if (ps_wire_get_response(copy, buf.len, &resp) == NULL && resp.type == PS_RESP_ERROR)
			assert_true(strlen(resp.message) + strlen(resp.detail) + strlen(resp.hint) < buf.len);
		free(copy);
		pfree(buf.data);
	}
}

/* ---- what the extension asks of answers ---- */

static void
answers_to_requests(void **state)
{
	const PsResponse right = {.type = PS_RESP_PAGES, .reqid = 7, .lsn = 100, .count = 3};
	PsResponse resp = right;
	char forks[2 * PS_FORK_SIZE];

	assert_null(ps_wire_check_response(&resp, PS_REQ_PAGES, 7, 100, 3));
	assert_non_null(ps_wire_check_response(&resp, PS_REQ_PAGES, 8, 100, 3));
	assert_non_null(ps_wire_check_response(&resp, PS_REQ_PAGES, 7, 101, 3));
	assert_non_null(ps_wire_check_response(&resp, PS_REQ_PAGES, 7, 100, 4));
	assert_non_null(ps_wire_check_response(&resp, PS_REQ_RELSIZE, 7, 100, 3));
	assert_non_null(ps_wire_check_response(&resp, PS_REQ_FORKS, 7, 100, 3));
	resp.type = PS_RESP_RELSIZE;
	assert_null(ps_wire_check_response(&resp, PS_REQ_RELSIZE, 7, 100, 0));
	assert_non_null(ps_wire_check_response(&resp, PS_REQ_PAGES, 7, 100, 3));
	resp.nblocks = InvalidBlockNumber;
	assert_non_null(ps_wire_check_response(&resp, PS_REQ_RELSIZE, 7, 100, 0));
	resp.type = PS_RESP_FORKS;
	resp.nforks = 2;
	resp.forks = forks;
	ps_wire_put_fork(forks, &(PsForkSize) {{1663, 5, 16384}, INIT_FORKNUM, 7});
	ps_wire_put_fork(forks + PS_FORK_SIZE, &(PsForkSize) {{1664, 0, 1262}, MAIN_FORKNUM, MaxBlockNumber});
	assert_null(ps_wire_check_response(&resp, PS_REQ_FORKS, 7, 100, 0));
	assert_int_equal(ps_wire_get_fork(forks).fork, INIT_FORKNUM);
	assert_int_equal(ps_wire_get_fork(forks).nblocks, 7);
	assert_int_equal(ps_wire_get_fork(forks + PS_FORK_SIZE).rel.rel, 1262);
	ps_wire_put_fork(forks, &(PsForkSize) {{1663, 5, 16384}, INIT_FORKNUM + 1, 7});
	assert_non_null(ps_wire_check_response(&resp, PS_REQ_FORKS, 7, 100, 0));
	ps_wire_put_fork(forks, &(PsForkSize) {{1663, 5, 16384}, MAIN_FORKNUM, InvalidBlockNumber});
	assert_non_null(ps_wire_check_response(&resp, PS_REQ_FORKS, 7, 100, 0));
	resp.nforks = PS_MAX_FORKS + 1;
	assert_non_null(ps_wire_check_response(&resp, PS_REQ_FORKS, 7, 100, 0));

	/* an error answers every request, whatever it was read at */
	resp = (PsResponse) {.type = PS_RESP_ERROR, .reqid = 7};
	assert_null(ps_wire_check_response(&resp, PS_REQ_PAGES, 7, 100, 3));
	assert_non_null(ps_wire_check_response(&resp, PS_REQ_PAGES, 8, 100, 3));
}

static void
statuses(void **state)
{
	PsWalStatus status = {.written = 0x0102030405060708, .flushed = 2, .applied = 3, .time = 4, .reply_wanted = true};
	PsWalStatus got;
	static const uint8 expected[34] = {'r', 1, 2, 3, 4, 5, 6, 7, 8, [16] = 2, [24] = 3, [32] = 4, [33] = 1};
	StringInfoData buf;

	initStringInfo(&buf);
	ps_wire_put_status(&buf, &status);
	assert_int_equal(buf.len, sizeof(expected));
	assert_memory_equal(buf.data, expected, sizeof(expected));
	assert_null(ps_wire_get_status(buf.data, buf.len, &got));
	assert_true(got.written == status.written && got.flushed == 2 && got.applied == 3 && got.time == 4 &&
				got.reply_wanted);
	for (int len = 0; len < buf.len; len++)
	{
		char *copy = malloc(len + 1);

		memcpy(copy, buf.data, len);
		assert_non_null(ps_wire_get_status(copy, len, &got));
		free(copy);
	}
	appendStringInfoChar(&buf, 0);
	assert_non_null(ps_wire_get_status(buf.data, buf.len, &got));
	buf.data[0] = 'w';
	assert_non_null(ps_wire_get_status(buf.data, buf.len - 1, &got));
	pfree(buf.data);
}

/* ---- keys ---- */

static PsKey
random_key(void)
{
	/* few values, so that fields are often equal */
	static const uint32 values[] = {0, 1, 255, 256, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
#define PICK values[random_bits() % lengthof(values)]
	return (PsKey) {.kind = 1 + random_bits() % 13,
					.fork = random_bits() % 4,
					.spc = PICK,
					.db = PICK,
					.rel = PICK,
					.blk = PICK};
#undef PICK
}

static void
keys_sort_as_bytes(void **state)
{
	for (int round = 0; round < 20000; round++)
	{
		PsKey a = random_key();
		PsKey b = round % 3 == 0 ? a : random_key();
		PsKey back;
		uint8 x[PS_KEY_SIZE];
		uint8 y[PS_KEY_SIZE];
		int by_bytes;

		if (round % 6 == 0)
			b.blk = random_bits();
		ps_key_encode(&a, x);
		ps_key_encode(&b, y);
		by_bytes = memcmp(x, y, PS_KEY_SIZE);
		assert_int_equal((by_bytes > 0) - (by_bytes < 0), ps_key_cmp(&a, &b));
		ps_key_decode(x, &back);
		assert_int_equal(ps_key_cmp(&a, &back), 0);
	}
}

static void
key_format(void **state)
{
	PsKey key = {.kind = PS_KEY_RELBLOCK,
				 .spc = 0x01020304,
				 .db = 0x05060708,
				 .rel = 0x090A0B0C,
				 .fork = 1,
				 .blk = 0x0D0E0F10};
	static const uint8 expected[PS_KEY_SIZE] = {3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 1, 13, 14, 15, 16};
	uint8 bytes[PS_KEY_SIZE];
	char text[PS_KEY_TEXT];

	ps_key_encode(&key, bytes);
	assert_memory_equal(bytes, expected, PS_KEY_SIZE);

	key = ps_key_block((PsRel) {1663, 5, 16384}, VISIBILITYMAP_FORKNUM, 7);
	assert_string_equal(ps_key_format(&key, text), "relation 1663/5/16384 fork 2 block 7");
	key = ps_key_slru_block(PS_SLRU_MULTIXACT_MEMBERS, 32 * 0x1F + 3);
	assert_string_equal(ps_key_format(&key, text), "SLRU page pg_multixact/members/001F page 3");
	key = ps_key_relsize((PsRel) {1663, 5, 16384}, INIT_FORKNUM);
	assert_int_equal(key.kind, PS_KEY_INITSIZE);

	/* kinds and SLRUs that do not exist still make a text that fits */
	for (int kind = 0; kind < 256; kind++)
	{
		key = (PsKey) {.kind = kind,
					   .fork = 255,
					   .spc = PG_UINT32_MAX,
					   .db = PG_UINT32_MAX,
					   .rel = PG_UINT32_MAX,
					   .blk = PG_UINT32_MAX};
		assert_true(strlen(ps_key_format(&key, text)) < PS_KEY_TEXT);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_round_trip),
		cmocka_unit_test(request_format),
		cmocka_unit_test(bad_requests),
		cmocka_unit_test(responses_round_trip),
		cmocka_unit_test(garbage),
		cmocka_unit_test(answers_to_requests),
		cmocka_unit_test(statuses),
		cmocka_unit_test(keys_sort_as_bytes),
		cmocka_unit_test(key_format),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
