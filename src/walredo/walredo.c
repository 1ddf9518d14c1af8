/*
 * walredo.c
 *	  pageserver_walredo: loaded by shared_preload_libraries into a stock
 *	  "postgres --single", it takes the process over and makes it a redo helper
 *	  of the page server, which answers requests (redo_proto.h) on its standard
 *	  input until that is closed.
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

/* What has been read: from input_pos to input_len nothing has been used yet.  A request begins at a multiple of 8. */
static char *input;
static size_t input_size;
static size_t input_pos;
static size_t input_len;

/*
 * Ends the process without PostgreSQL's exit callbacks, which the sandbox would
 * not let do their work; there is nothing to clean up.
 */
static void
die(const char *reason)
{
	ereport(LOG, (errmsg("%s", reason)));
	_exit(1);
}

/* Reads until "want" unused bytes are in input; at the end of input the helper ends. */
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
			die("could not read from the page server");
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

/* The page goes out of its buffer directly; the buffers are dropped after that, while the pool works. */
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
			die("invalid request from the page server");
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
				 errmsg("pageserver_walredo is not for a database server"),
				 errhint("Remove it from shared_preload_libraries: the page server loads it into helper processes of its own.")));
	if (version == NULL || atoi(version) != REDO_PROTO_VERSION)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pageserver_walredo speaks version %d of its protocol, the page server speaks %s",
						REDO_PROTO_VERSION, version ? version : "none"),
				 errhint("Install pageserver and pageserver_walredo of the same build.")));

	/* if the page server goes before this, the end of standard input is noticed instead */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
		elog(FATAL, "could not ask to be ended with the page server: %m");
	prctl(PR_SET_NAME, "ps_walredo");

	process_shared_preload_libraries_in_progress = false;
	memory_smgr_install();
	walredo_init_process();
	walredo_apply_init();
	input_size = FIRST_INPUT_SIZE;
	input = MemoryContextAlloc(TopMemoryContext, input_size);
	walredo_enter_sandbox();
	serve();
}
