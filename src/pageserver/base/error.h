/*
 * error.h
 *	  Errors of the daemon: a function that can fail returns PsError *, NULL
 *	  for success.  The caller looks at it: it returns it further up (perhaps
 *	  with ps_error_context()), or reports it once and frees it.
 *
 * An error owns its texts.  sqlstate is what a client is told (the codes are in
 * sqlstate.h).  The message names the thing (file,
 * offset, LSN, branch) and what was expected; the hint says what to do.
 */
#ifndef PS_ERROR_H
#define PS_ERROR_H

typedef struct PsError
{
	char sqlstate[6];
	char *message;
	char *detail; /* or NULL */
	char *hint;   /* or NULL */
} PsError;

/* %m in the format is errno's text, as in elog. */
extern PsError *ps_error(const char *sqlstate, const char *fmt, ...) pg_attribute_printf(2, 3);

/* Each returns its first argument.  A context goes before the message: "CONTEXT: message". */
extern PsError *ps_error_detail(PsError *err, const char *fmt, ...) pg_attribute_printf(2, 3);
extern PsError *ps_error_hint(PsError *err, const char *fmt, ...) pg_attribute_printf(2, 3);
extern PsError *ps_error_context(PsError *err, const char *fmt, ...) pg_attribute_printf(2, 3);

/*
 * Makes an error one of a change that may be done or not, of which the next
 * start finds out (PS_SQLSTATE_UNKNOWN): it could not be made durable, nor taken
 * back.  The detail says what holds now, and what may hold then.  Returns err.
 */
extern PsError *ps_error_unknown(PsError *err, const char *detail, ...) pg_attribute_printf(2, 3);

/* The first of two, each perhaps NULL, for who goes on after an error; frees the other. */
extern PsError *ps_error_first(PsError *first, PsError *second);
/* Gives the error another state, for a caller that knows better what it means. */
extern void ps_error_set_state(PsError *err, const char *sqlstate);
extern PsError *ps_error_copy(const PsError *err);
extern bool ps_error_is(const PsError *err, const char *sqlstate);

/* Of an operation on files that failed, by errno; as errcode_for_file_access() in PostgreSQL (elog.c) for what may pass. */
extern const char *ps_errno_state(void);

/* May the same succeed if it is tried again, with nothing mended?  For want of something, or the caller had to stop. */
extern bool ps_error_is_transient(const PsError *err);

/* Is it about what is read, which is damaged or cannot be read, and not about the reader? */
extern bool ps_error_is_damage(const PsError *err);
extern void ps_error_free(PsError *err);

/* Leave the function with the error if there is one. */
#define PS_TRY(expr)                   \
	do                                 \
	{                                  \
		PsError *ps_try_err_ = (expr); \
		if (ps_try_err_ != NULL)       \
			return ps_try_err_;        \
	} while (0)

/* Go to "label" with err (a PsError * of the function) set if there is one. */
#define PS_GOTO(expr, label) \
	do                       \
	{                        \
		err = (expr);        \
		if (err != NULL)     \
			goto label;      \
	} while (0)

/*
 * log.c: one line per call, "time [thread name] LEVEL:  message", in a single
 * write() to standard error, safe from any thread.
 */
typedef enum PsLogLevel
{
	PS_DEBUG,
	PS_LOG,
	PS_WARNING,
	PS_FATAL
} PsLogLevel;

extern PsLogLevel ps_log_level; /* least level that is written; __atomic, for SIGHUP changes it */
extern void ps_log(PsLogLevel level, const char *fmt, ...) pg_attribute_printf(2, 3);

/*
 * The log's file is the regular file that standard error is, if it is one.
 * ps_log_begin() notes its name when the daemon starts; ps_log_reopen() opens the
 * file of that name anew if there is another one now, or none, as after
 * logrotate.  Main thread; other threads may log meanwhile.
 */
extern void ps_log_begin(void);
extern PsError *ps_log_reopen(void);

/* Writes the error at the level, with "what" before it, and frees it. */
extern void ps_log_error(PsLogLevel level, PsError *err, const char *what, ...) pg_attribute_printf(3, 4);

/* Name of the calling thread in log lines and in top(1); at most 15 characters. */
extern void ps_thread_name(const char *fmt, ...) pg_attribute_printf(1, 2);

#endif /* PS_ERROR_H */
