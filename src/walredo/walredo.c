/*
 * walredo.c
 *	  The library pageserver_walredo turns a stock "postgres --single", which
 *	  loads it by shared_preload_libraries, into a redo helper of the store: a
 *	  process that answers requests (redo_proto.h) on its standard input until that
 *	  is closed.
 */
#include "postgres.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"

#include "walredo.h"

PG_MODULE_MAGIC;

extern void _PG_init(void);

#define FIRST_INPUT_SIZE (256 * 1024)

/*
 * Data that has been read and not been used yet is at input_pos to input_len. A
 * request starts at a multiple of 8.
 */
static char *input;
static size_t input_size;
static size_t input_pos;
static size_t input_len;

/*
 * Exits without PostgreSQL's exit callbacks, which would not work in the
 * sandbox; there is nothing to clean up.
 */
static void
die(const char *reason)
{
	ereport(LOG, (errmsg("%s", reason)));
	_exit(1);
}

/* Reads until at least "want" unused bytes are in input, and returns them.  Exits at the end of input. */
static char *
fill_input(size_t want)
{
	if (input_pos == input_len)
		input_pos = input_len = 0;
	if (input_pos + want > input_size && input_pos > 0)
	{
		input_len -= input_pos;
		memmove(input, input + input_pos, input_len);
		input_pos = 0;
	}
	if (want > input_size)
	{
		input_size = want;
		input = repalloc_huge(input, input_size);
	}
	while (input_len - input_pos < want)
	{
		ssize_t n = read(STDIN_FILENO, input + input_len, input_size - input_len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			die("could not read from the page store");
		if (n == 0)
			_exit(0);
		input_len += n;
	}
	return input + input_pos;
}

static void
send_output(const void *header, size_t header_len, const void *data, size_t len)
{
	struct iovec iov[2] = {
		{.iov_base = unconstify(void *, header), .iov_len = header_len},
		{.iov_base = unconstify(void *, data), .iov_len = len},
	};
	struct iovec *next = iov;
	int count = 2;

	while (count > 0)
	{
		ssize_t n = writev(STDOUT_FILENO, next, count);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			_exit(1);
		while (count > 0 && n >= next->iov_len)
		{
			n -= next->iov_len;
			next++;
			count--;
		}
		if (count > 0)
		{
			next->iov_base = (char *) next->iov_base + n;
			next->iov_len -= n;
		}
	}
}

/*
 * The page is sent directly from its buffer.  Buffers are dropped afterwards,
 * while the store processes the answer.
 */
static void
answer_request(const RedoRequest *request, char *payload)
{
	volatile bool answered = false;

	PG_TRY();
	{
		Buffer buffer = walredo_apply(request, payload);
		RedoAnswer answer = {.magic = REDO_MAGIC, .status = REDO_OK, .length = BLCKSZ, .number = request->number};

		answered = true;
		send_output(&answer, sizeof(answer), BufferGetPage(buffer), BLCKSZ);
		walredo_reset(buffer);
	}
	PG_CATCH();
	{
		RedoAnswer answer;
		const char *text = walredo_recover(request, &answer);

		if (answered)
			die(text);
		send_output(&answer, sizeof(answer), text, answer.length);
	}
	PG_END_TRY();
}

static void
serve(void)
{
	RedoHello hello = {
		.magic = REDO_MAGIC,
		.version = REDO_PROTO_VERSION,
		.pg_version_num = PG_VERSION_NUM,
		.block_size = BLCKSZ,
	};

	send_output(&hello, sizeof(hello), NULL, 0);
	for (;;)
	{
		const RedoRequest *request;
		size_t len;

		request = (const RedoRequest *) fill_input(sizeof(RedoRequest));
		if (request->magic != REDO_MAGIC || request->length > REDO_MAX_REQUEST)
			die("received an invalid request from the page store");
		len = sizeof(RedoRequest) + request->length;
		request = (const RedoRequest *) fill_input(len);
		answer_request(request, input + input_pos + sizeof(RedoRequest));
		input_pos += len;
		if (input_size > REDO_KEEP_REQUEST && input_pos == input_len)
		{
			input_pos = input_len = 0;
			pfree(input);
			input_size = FIRST_INPUT_SIZE;
			input = MemoryContextAlloc(TopMemoryContext, input_size);
		}
	}
}

void
_PG_init(void)
{
	const char *version = getenv(REDO_ENV_VERSION);

	if (IsPostmasterEnvironment || !process_shared_preload_libraries_in_progress)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pageserver_walredo cannot be loaded into a database server"),
				 errhint("Remove it from \"shared_preload_libraries\". The page store starts helper processes that "
						 "load it.")));
	if (version == NULL || atoi(version) != REDO_PROTO_VERSION)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pageserver_walredo uses protocol version %d, but the page store uses version %s",
						REDO_PROTO_VERSION, version ? version : "(unknown)"),
				 errhint("Install \"pageserver\" and \"pageserver_walredo\" from the same build.")));

	/* if the store has exited before this call, the end of standard input will be noticed instead */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
		elog(FATAL, "could not set the parent death signal: %m");
	prctl(PR_SET_NAME, "ps_walredo");

	process_shared_preload_libraries_in_progress = false;
	smgr_memory_install();
	walredo_init_process();
	walredo_apply_init();
	input_size = FIRST_INPUT_SIZE;
	input = MemoryContextAlloc(TopMemoryContext, input_size);
	walredo_enter_sandbox();
	serve();
}
