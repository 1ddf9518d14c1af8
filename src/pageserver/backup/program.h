/*
 * program.h
 *	  Running programs (initdb, tar) and waiting for their end.
 */
#ifndef PS_PROGRAM_H
#define PS_PROGRAM_H

#include "lib/stringinfo.h"
#include "store/store.h"

/* A running program.  It belongs to the thread that has started it. */
typedef struct Program
{
	const char *path;
	pid_t pid;
	int in;                /* its standard input, -1: /dev/null */
	int out;               /* its standard output and standard error */
	StringInfoData output; /* the end of its output */
} Program;

/*
 * Starts a program, without a shell, in a process group of its own.  with_input:
 * program_write() can be used.  program_finish() must follow success.
 */
extern PsError *program_start(Program *program, char *const argv[], bool with_input);

/* Writes to its input.  It is an error if the program has stopped reading; program_finish() then returns the reason. */
extern PsError *program_write(Program *program, const char *data, size_t len);

/*
 * Closes its input and waits for its end.  If it fails, its output is the detail
 * of the error.  If canceled is true, or the wait is canceled, its process group
 * is killed and the error is PS_SQLSTATE_CANCELED.  cancel may be NULL.
 */
extern PsError *program_finish(Program *program, bool canceled, const CancelCheck *cancel);

/* Runs a program without input. */
extern PsError *program_run(char *const argv[], const CancelCheck *cancel);

#endif /* PS_PROGRAM_H */
