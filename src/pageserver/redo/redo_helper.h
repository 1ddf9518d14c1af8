/*
 * redo_helper.h
 *	  One redo helper process, seen from the store: redo_helper.c starts, asks
 *	  and ends it, redo_pool.c decides when.
 *
 * A RedoHelper is used by one thread at a time; which one, is the pool's rule
 * (redo_pool.c, "RedoSlot").
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
	uint32 received;          /* number of the request whose answer comes next */
	char line[REDO_LOG_LINE]; /* log line that has not ended yet */
	int line_len;
	char last_line[REDO_LOG_LINE]; /* last line that was a message, not its detail, hint or context */
	int lines_left;                /* that may be logged before log_window_end */
	int lines_dropped;
	int64 log_window_end; /* clock_now_us() */
} RedoHelper;

/* Microseconds of a clock that only goes forward. */

/* Makes dir (again) and starts a process in it, without waiting until it is ready. */
extern PsError *redo_helper_start(RedoHelper *helper, const RedoOptions *options, const char *dir);

/* Reads the hello of a started process; blocks if it has not come. */
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
 * Sends a request; blocks.  False: the helper reads no more.  No more than
 * helper->window requests may be without an answer: these answers fit into the
 * pipe, so the helper goes on to read, and nobody waits for ever.
 */
extern bool redo_helper_send(RedoHelper *helper, const RedoPiece *piece);

/*
 * Receives the answer to the oldest request that has none; blocks.  *broken:
 * the helper must be ended, for it is dead or what it said made no sense; else
 * it answered with an error and can go on, if nothing else was asked.
 */
extern PsError *redo_helper_receive(RedoHelper *helper, const RedoPiece *piece, char *page, bool *broken);

/* Logs what the process wrote to its standard error; does not block. */
extern void redo_helper_log(RedoHelper *helper);

/*
 * Kills and reaps the process, logs its last words, closes the pipes.  Returns
 * how it ended, in out.
 */
extern const char *redo_helper_end(RedoHelper *helper, char *out, size_t size);

#endif /* PS_REDO_HELPER_H */
