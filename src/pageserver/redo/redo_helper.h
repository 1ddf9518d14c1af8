/*
 * redo_helper.h
 *	  One redo helper process, as the store sees it: redo_helper.c starts, asks and
 *	  ends it; redo_pool.c decides when.
 *
 * A RedoHelper is used by one thread at a time (see RedoSlot in redo_pool_impl.h).
 */
#ifndef PS_REDO_HELPER_H
#define PS_REDO_HELPER_H

#include "redo/redo.h"

#define REDO_LOG_LINE 1024

typedef struct RedoHelper
{
	pid_t pid;                /* 0: no process */
	int requests;             /* pipe to its standard input, or -1 */
	int answers;              /* pipe from its standard output, or -1 */
	int log;                  /* pipe from its standard error, non-blocking, or -1 (also at its end) */
	int window;               /* requests that may wait for an answer */
	uint32 sent;              /* number of the next request */
	uint32 received;          /* number of the request whose answer is next */
	char line[REDO_LOG_LINE]; /* incomplete log line */
	int line_len;
	char last_line[REDO_LOG_LINE]; /* last message, without its detail, hint and context */
	int lines_left;                /* lines that may be logged before log_window_end */
	int lines_dropped;
	int64 log_window_end; /* clock_now_us() */
} RedoHelper;

/* Microseconds of a clock that only goes forward. */

/* Creates or repairs dir and starts a process in it, without waiting until it is ready. */
extern PsError *redo_helper_start(RedoHelper *helper, const RedoOptions *options, const char *dir);

/* Reads the hello of a started process; blocks until it is there. */
extern PsError *redo_helper_hello(RedoHelper *helper);

/* What a helper is asked: records to apply to one block. */
typedef struct RedoPiece
{
	PsRel rel;
	ForkNumber fork;
	BlockNumber blk;
	const char *base; /* the block before, BLCKSZ bytes; NULL: all zeros */
	const WalRecord *records;
	int nrecords;
} RedoPiece;

/*
 * Sends a request; blocks.  False if the helper no longer reads.  At most
 * helper->window requests may be unanswered: their answers fit into the pipe, so the
 * helper continues to read, and neither side waits for the other forever.
 */
extern bool redo_helper_send(RedoHelper *helper, const RedoPiece *piece);

/*
 * Receives the answer to the oldest unanswered request; blocks.  After an error,
 * *broken says that the helper must be ended, because it is dead or its answer was
 * invalid; otherwise it answered with an error, and can be used again if it has no
 * other unanswered request.
 */
extern PsError *redo_helper_receive(RedoHelper *helper, const RedoPiece *piece, char *page, bool *broken);

/* Logs what the process has written to its standard error; does not block. */
extern void redo_helper_log(RedoHelper *helper);

/*
 * Kills and reaps the process, logs what is left of its standard error, closes the
 * pipes.  Returns out, which says how the process ended.
 */
extern const char *redo_helper_end(RedoHelper *helper, char *out, size_t size);

#endif /* PS_REDO_HELPER_H */
