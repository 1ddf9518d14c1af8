/*
 * fuzz_answers.c
 *	  Fuzzes what reads answers: those of the store to a compute, and those of a
 *	  redo helper to the store.
 *
 * The first byte of an input says what the rest is:
 *
 *	  0		an answer of a page stream, after u8 type, u8 count: the request
 *	  1		a request of a page stream
 *	  2		a status in a stream of WAL
 *	  3		what a redo helper says: hello, then answers
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <unistd.h>

#include "fuzz.h"
#include "key.h"
#include "bytes.h"
#include "wire.h"
#include "redo/redo_helper.h"
#include "redo_proto.h"

/* An answer that is accepted is what the encoder would make, byte for byte, and an answer to the request. */
static void
fuzz_answer(FuzzInput *in)
{
	static const PsRequestType types[] = {PS_REQ_PAGES, PS_REQ_RELSIZE, PS_REQ_FORKS};
	PsRequestType type = types[fuzz_u8(in) % lengthof(types)];
	int count = 1 + fuzz_u8(in) % PS_MAX_BATCH;
	size_t len;
	char *message = fuzz_bytes(in, in->size, &len);
	char *whole = NULL;
	PsResponse resp;
	StringInfoData again;

	/* an input is not that long: the pages that it promises, if they are short of by more than a page */
	if (len > 20 && message[0] == PS_RESP_PAGES && len < BLCKSZ)
	{
		size_t n = ps_get16(message + 18);

		if (n >= 1 && n <= 4)
		{
			whole = calloc(1, 20 + n * BLCKSZ);
			memcpy(whole, message, Min(len, 20 + n * BLCKSZ));
			len = 20 + n * BLCKSZ;
		}
	}
	initStringInfo(&again);
	if (ps_wire_get_response(whole ? whole : message, len, &resp) == NULL)
	{
		ps_wire_put_response(&again, &resp);
		REQUIRE(again.len == len);
		if (ps_wire_check_response(&resp, type, 1, 0x1000, count) == NULL)
		{
			REQUIRE(resp.reqid == 1);
			switch (resp.type)
			{
				case PS_RESP_PAGES:
					REQUIRE(type == PS_REQ_PAGES && resp.count == count);
					fuzz_touch(resp.pages, (size_t) count * BLCKSZ);
					break;
				case PS_RESP_RELSIZE:
					REQUIRE(type == PS_REQ_RELSIZE && resp.nblocks <= MaxBlockNumber + 1);
					break;
				case PS_RESP_FORKS:
					REQUIRE(type == PS_REQ_FORKS);
					fuzz_touch(resp.forks, (size_t) resp.nforks * PS_FORK_SIZE);
					break;
				case PS_RESP_ERROR:
					REQUIRE(strlen(resp.message) + strlen(resp.detail) + strlen(resp.hint) < len &&
							strlen(resp.sqlstate) <= 5);
					break;
			}
		}
	}
	pfree(again.data);
	free(whole);
	free(message);
}

static void
fuzz_request(FuzzInput *in)
{
	size_t len;
	char *message = fuzz_bytes(in, in->size, &len);
	PsRequest req;
	StringInfoData again;

	initStringInfo(&again);
	if (ps_wire_get_request(message, len, &req) == NULL)
	{
		REQUIRE(req.fork >= MAIN_FORKNUM && req.fork <= INIT_FORKNUM && req.count <= PS_MAX_BATCH);
		ps_wire_put_request(&again, &req);
		REQUIRE(again.len == len && memcmp(again.data, message, len) == 0);
	}
	pfree(again.data);
	free(message);
}

static void
fuzz_status(FuzzInput *in)
{
	size_t len;
	char *message = fuzz_bytes(in, in->size, &len);
	PsWalStatus status;
	StringInfoData again;

	initStringInfo(&again);
	if (ps_wire_get_status(message, len, &status) == NULL)
	{
		ps_wire_put_status(&again, &status);
		REQUIRE(again.len == len && memcmp(again.data, message, len - 1) == 0);
	}
	pfree(again.data);
	free(message);
}

/* What the helper says is in its pipe before it is asked; what it is told goes nowhere. */
static void
fuzz_helper(FuzzInput *in)
{
	RedoHelper helper = {.requests = open("/dev/null", O_WRONLY), .log = -1};
	int fds[2];
	XLogRecord record = {.xl_tot_len = sizeof(record)};
	WalRecord rec = {.start = 0x1000, .end = 0x1018, .len = sizeof(record), .data = (char *) &record};
	char *page = malloc(BLCKSZ);
	uint8 nzeros;
	static const char zeros[BLCKSZ];

	REQUIRE(pipe(fds) == 0);
	helper.answers = fds[0];
	nzeros = fuzz_u8(in);
	REQUIRE(write(fds[1], in->data, Min(in->size, 30000)) == Min(in->size, 30000));
	for (int i = 0; i < nzeros % 4; i++)
		REQUIRE(write(fds[1], zeros, BLCKSZ) == BLCKSZ);
	close(fds[1]);
	if (fuzz_result(redo_helper_hello(&helper)))
		for (int i = 0; i < 5; i++)
		{
			RedoPiece piece = {.rel = {1663, 5, 16384},
							   .fork = MAIN_FORKNUM,
							   .blk = 7,
							   .base = i % 2 == 0 ? NULL : page,
							   .records = &rec,
							   .nrecords = 1};
			bool broken;

			memset(page, 0, BLCKSZ);
			REQUIRE(redo_helper_send(&helper, &piece));
			fuzz_result(redo_helper_receive(&helper, &piece, page, &broken));
			if (broken)
				break;
		}
	close(helper.requests);
	close(helper.answers);
	free(page);
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

	switch (fuzz_u8(&in) % 4)
	{
		case 0:
			fuzz_answer(&in);
			break;
		case 1:
			fuzz_request(&in);
			break;
		case 2:
			fuzz_status(&in);
			break;
		case 3:
			fuzz_helper(&in);
			break;
	}
	return 0;
}
