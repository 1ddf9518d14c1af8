/*
 * error.h
 *	  Errors and the log of the daemon.
 *
 * A function that can fail returns PsError *, NULL for success.  The caller must
 * not ignore it: it returns the error to its own caller (perhaps with
 * ps_error_context()), or reports it once and frees it.
 *
 * An error owns its texts.  The SQLSTATE is sent to clients; sqlstate.h has the
 * list.  The message names the thing (file, offset, LSN, branch) and what was
 * expected; the hint says what to do.
 *
 * Out of memory is not such an error: pg_malloc() and StringInfo end the daemon.
 * Only large buffers and threads that one request needs are reported, as
 * PS_SQLSTATE_OUT_OF_MEMORY.
 *
 * All functions may be called by any thread unless they say otherwise.
 */
#ifndef PS_ERROR_H
#define PS_ERROR_H

typedef struct PsError
{
	char sqlstate[6];
	bool is_cancel; /* the answer of a CancelCheck (cancel.h): work was ended, and nothing failed */
	char *message;
	char *detail; /* or NULL */
	char *hint;   /* or NULL */
} PsError;

/* %m in the format is the text of errno, as in elog(). */
extern PsError *ps_error(const char *sqlstate, const char *fmt, ...) pg_attribute_printf(2, 3);

/* Each returns its first argument.  A context is put before the message: "CONTEXT: message". */
extern PsError *ps_error_detail(PsError *err, const char *fmt, ...) pg_attribute_printf(2, 3);
extern PsError *ps_error_hint(PsError *err, const char *fmt, ...) pg_attribute_printf(2, 3);
extern PsError *ps_error_context(PsError *err, const char *fmt, ...) pg_attribute_printf(2, 3);

/*
 * Turns an error into PS_SQLSTATE_UNKNOWN: a change could neither be made durable
 * nor be undone, so that only the next start will show which.  The detail says what
 * is true now and what may be true then.  Returns err.
 */
extern PsError *ps_error_unknown(PsError *err, const char *detail, ...) pg_attribute_printf(2, 3);

/* The first of two errors, each of which may be NULL, for callers that continue after an error; frees the other. */
extern PsError *ps_error_first(PsError *first, PsError *second);
/* Gives the error another state, for a caller that knows better what it means. */
extern void ps_error_set_state(PsError *err, const char *sqlstate);
extern PsError *ps_error_copy(const PsError *err);
extern bool ps_error_is(const PsError *err, const char *sqlstate);

/*
 * The SQLSTATE for errno after a file operation, like errcode_for_file_access():
 * DISK_FULL, OUT_OF_MEMORY and NO_RESOURCES, which may pass, otherwise IO.
 */
extern const char *ps_errno_state(void);

/*
 * May another attempt succeed although nothing was repaired?  Always if work was
 * canceled, whatever the reason; otherwise the list in sqlstate.h says so.
 */
extern bool ps_error_is_transient(const PsError *err);

/* Does it mean that the data is damaged or cannot be read, rather than that the reader has a problem? */
extern bool ps_error_is_damage(const PsError *err);
extern void ps_error_free(PsError *err);

/* Returns from the function with the error if there is one. */
#define PS_TRY(expr)                   \
	do                                 \
	{                                  \
		PsError *ps_try_err_ = (expr); \
		if (ps_try_err_ != NULL)       \
			return ps_try_err_;        \
	} while (0)

/* Sets err, a variable of the function, and goes to the label if there is an error. */
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

extern PsLogLevel ps_log_level; /* lowest level that is written; accessed with __atomic, since SIGHUP changes it */
extern void ps_log(PsLogLevel level, const char *fmt, ...) pg_attribute_printf(2, 3);

/*
 * If standard error is a regular file, that is the log file.  ps_log_begin()
 * remembers its name when the daemon starts.  ps_log_reopen() opens the file of
 * that name if it is another file now or does not exist, as after logrotate.  For
 * the main thread; other threads may log at the same time.
 */
extern void ps_log_begin(void);
extern PsError *ps_log_reopen(void);

/* Writes "WHAT: error" at the level and frees the error. */
extern void ps_log_error(PsLogLevel level, PsError *err, const char *what, ...) pg_attribute_printf(3, 4);

/* Sets the name of the calling thread in log lines and in top(1); at most 15 characters. */
extern void ps_thread_name(const char *fmt, ...) pg_attribute_printf(1, 2);

#endif /* PS_ERROR_H */
