/*
 * program.h
 *	  Programs that the store runs to their end: initdb, tar.
 */
#ifndef PS_PROGRAM_H
#define PS_PROGRAM_H

#include "lib/stringinfo.h"
#include "store/store.h"

/* A program that was started; the thread that started it waits for its end. */
typedef struct Program
{
	const char *path;
	pid_t pid;
	int in;                /* its standard input, -1: /dev/null */
	int out;               /* what it says on both outputs */
	StringInfoData output; /* the last of that */
} Program;

/* Starts a program without a shell.  with_input: "in" is a pipe to it.  program_finish() must follow a success. */
extern PsError *program_start(Program *program, char *const argv[], bool with_input);

/* Writes all to its input; an error if it does not read any more: program_finish() then tells why. */
extern PsError *program_write(Program *program, const char *data, size_t len);

/*
 * Closes its input and waits for its end.  What it said is the detail of an
 * error.  canceled: it is killed, with all that it has started, and the error is
 * PS_SQLSTATE_CANCELED; the same if the wait is canceled.
 */
extern PsError *program_finish(Program *program, bool canceled, const CancelCheck *cancel);

extern PsError *program_run(char *const argv[], const CancelCheck *cancel);

#endif /* PS_PROGRAM_H */
