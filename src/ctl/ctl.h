/*
 * ctl.h
 *	  What the files of pageserver_ctl know of each other.
 *
 * Errors end the program: pg_fatal() of common/logging.h, exit code 1.  Where
 * something must be undone first, a function returns false and has said why.
 */
#ifndef PS_CTL_H
#define PS_CTL_H

#include <signal.h>

#include "common/logging.h"
#include "libpq-fe.h"
#include "lib/stringinfo.h"

/*
 * Exit codes: 0 done, 1 (EXIT_FAILURE) failed, and those below, so that a script can
 * tell what it may do next.  3 and 4 mean what they mean for "pg_ctl status".  Which
 * one an error of the store has is in the list of SQLSTATEs (sqlstate.h).
 */
#define EXIT_USAGE       2 /* the command line is wrong */
#define EXIT_NOT_RUNNING 3 /* the server that the command is for does not run */
#define EXIT_NOT_FOUND   4 /* no such directory, store, branch or tenant */
#define EXIT_EXISTS      5 /* there is one already */
#define EXIT_REFUSED     6 /* its state does not allow it, or only with --force or the like */
#define EXIT_UNREACHABLE 7 /* the store does not run, or does not take the connection */
#define EXIT_TIMEOUT     8 /* not done in the time given; it may still be done */
#define EXIT_DAMAGED     9 /* a file of the store is damaged */

/* A compute runs, but waits for the store. */
#define EXIT_WAITS 5

#define DEFAULT_STORE   "/var/lib/pageserver"
#define DEFAULT_USER    "postgres"
#define DEFAULT_TIMEOUT 60

/* The options of all commands; a command's table entry says which it takes. */
typedef struct Options
{
	const char *directory; /* -D */
	const char *store;     /* -S */
	const char *user;      /* --user */
	const char *bindir;
	const char *log;            /* -l */
	const char *mode;           /* -m */
	const char *port;           /* -p */
	const char *server_options; /* -o */
	const char *pgdata;
	const char *settings_from;
	const char *debian;
	const char *from; /* --from */
	int timeout;      /* -t, seconds */
	bool no_wait;
	bool json;
	bool quiet; /* -q: success is not told */
	bool data_checksums;
	bool no_sync;
	bool zero_damaged_pages;
	bool force; /* -f */
	bool takeover;
	bool purge;   /* --purge */
	bool deleted; /* --deleted */
	bool values;  /* --values */
	bool hexdump;
	const char *relation; /* -R */
	const char *fork;     /* -F */
	const char *block;    /* -B */
	const char *limit;    /* -n */
	bool all;             /* --all */
	int rate;             /* --rate, megabytes a second; 0: the store's default */
	char **args;          /* what is no option */
	int nargs;
} Options;

typedef struct Command
{
	const char *name;
	const char *sub;     /* second word, or NULL */
	const char *options; /* characters of the options that it takes */
	int least;           /* number of arguments */
	int most;
	int (*run)(const Options *options); /* returns the exit code */
	const char *usage;                  /* after the program's name */
	const char *summary;
	const char *details; /* shown by --help; each line ends with a newline */
} Command;

/* store.c */
extern int run_init(const Options *options);
extern int run_start(const Options *options);
extern int run_stop(const Options *options);
extern int run_restart(const Options *options);
extern int run_reload(const Options *options);
extern int run_status(const Options *options);

/* branch.c */
extern int run_branch_create(const Options *options);
extern int run_branch_list(const Options *options);
extern int run_branch_delete(const Options *options);
extern int run_branch_undelete(const Options *options);
extern int run_branch_protect(const Options *options);
extern int run_branch_unprotect(const Options *options);
extern int run_branch_rename(const Options *options);
extern int run_branch_reset(const Options *options);
extern int run_branch_restore(const Options *options);
extern int run_branch_compact(const Options *options);
extern int run_export(const Options *options);

/* For commands that make a branch: notices of the store are shown from now on. */
extern void branch_show_notices(PGconn *conn);

/* Tells of the branch that the result is of, or of the error; returns the exit code. */
extern int branch_tell_made(const Options *options, PGconn *conn, PGresult *res);

/* settings.c */
extern int run_settings_list(const Options *options);
extern int run_settings_get(const Options *options);
extern int run_settings_set(const Options *options);
extern int run_settings_reset(const Options *options);
extern int run_settings_edit(const Options *options);
extern int run_settings_revert(const Options *options);

/* import.c */
extern int run_import(const Options *options);

/* verify.c */
extern int run_verify(const Options *options);

/* tenant.c */
extern int run_tenant_detach(const Options *options);
extern int run_tenant_attach(const Options *options);
extern int run_tenant_delete(const Options *options);
extern int run_tenant_undelete(const Options *options);
extern int run_tenant_list(const Options *options);

/* compute_run.c */
extern int run_compute_start(const Options *options);
extern int run_compute_run(const Options *options);

/* compute.c */
extern int run_compute_stop(const Options *options);
extern int run_compute_status(const Options *options);

/* layer_dump.c */
extern int run_layer_dump(const Options *options);

/* ---- client.c: the store as its clients see it ---- */

/* The store that the command is for, as it was named: option, environment, default. */
extern const char *store_name(const Options *options);

/* Is what names a store a connection string of libpq?  Else it is a directory. */
extern bool store_is_conninfo(const char *name);

/* Connection string of the store; psprintf'd.  Ends the program if it does not run. */
extern char *store_conninfo(const Options *options);
extern PGconn *store_connect(const Options *options);

/* Does a store take connections now?  For what can do without it. */
extern bool store_answers(const char *conninfo);

/* Name of the branch with the id, malloc'd; NULL: there is none. */
extern char *branch_of_timeline(PGconn *conn, const char *timeline);

/* Runs a command that gives rows; ends the program if it fails. */
extern PGresult *store_query(PGconn *conn, const char *command);

/*
 * Reports the error of a result or connection; the program goes on.  Returns the
 * exit code that fits its SQLSTATE, which store_error_exit_code() gives later,
 * too, for callers that only learn that something failed.
 */
extern int store_report_error(PGconn *conn, PGresult *res);

/* The exit code for the error of a result or connection. */
extern int store_exit_code(PGconn *conn, PGresult *res);

/* That of the error that was reported last; 1 if none was. */
extern int store_error_exit_code(void);

/* The text as a word of a command, in quotes; psprintf'd. */
extern char *store_quote(const char *text);

/* Runs a command that gives none; ends the program if it fails. */
extern void store_execute(PGconn *conn, const char *command);

/* order: of the rows, and how far the first column is indented in each; NULL: as they come. */
extern void print_table(PGresult *res, const char *const *columns, int ncolumns, const int *order, const int *indent);
extern void print_json(PGresult *res);

/*
 * Tells that a command is done: the line, or, with --json, the object whose
 * members follow as pairs of strings, name and value, up to a NULL.  A value
 * NULL is JSON's null.  Nothing with --quiet.
 */
extern void print_done(const Options *options, const char *line, ...);

/* ---- moment.c ---- */

/* BRANCH[@MOMENT] taken apart; *moment NULL: there is none.  malloc'd. */
extern char *split_moment(const char *text, char **moment);

/* The moment as the store's commands have it, "lsn ..." or "time ..."; ends the program if it is none. */
extern char *moment_words(const char *text);
extern bool looks_like_lsn(const char *text);

/* ---- pidfile.c ---- */

/* Lock files of a store (STORE/pageserver.pid) and of a PostgreSQL server (postmaster.pid). */
typedef struct PidFile
{
	bool found;
	pid_t pid;   /* 0 although alive: the process cannot be seen from here */
	bool alive;  /* the server of this directory runs; only find() tells */
	uid_t owner; /* of the file; only find() tells */
	int port;
	char socket_dir[MAXPGPATH];
	char state[16];        /* "ready", "starting", "stopping", "standby" */
	unsigned long shm_key; /* of postmaster.pid: its shared memory; 0: not known */
	int shm_id;
} PidFile;

typedef struct ServerKind
{
	void (*read)(const char *dir, PidFile *file); /* what the file says */
	void (*find)(const char *dir, PidFile *file); /* and whether that is still true */
} ServerKind;

extern const ServerKind store_kind;
extern const ServerKind postmaster_kind;
extern const ServerKind supervisor_kind; /* COMPUTE/pageserver_ctl.pid */

/* This process is the supervisor of the compute: takes the lock file.  Without it others would only see PostgreSQL. */
extern void supervisor_lock(const char *dir);
extern void supervisor_unlock(void); /* does nothing if it was not taken */

/* Of a compute that does not run, as found: are there processes left over, whose postmaster was killed? */
extern bool postmaster_left_processes(const PidFile *file);

/* Reads a pid file again and again until its server is ready, or the child process has ended; false: neither in time. */
extern bool wait_until_ready(const ServerKind *kind, const char *dir, pid_t child, int timeout, PidFile *file,
							 bool *child_ended);

/*
 * Signals a server that was found alive, by its mode (smart, fast, immediate),
 * and waits; ends the program if it does not stop in time.
 */
extern void stop_server(const ServerKind *kind, const char *dir, const PidFile *file, const char *mode, int timeout,
						bool no_wait, const char *what);

/* Sends a signal to a server that was found alive, and to no other process; false: it has ended. */
extern bool signal_server(const ServerKind *kind, const char *dir, const PidFile *file, int signo, const char *what);

/*
 * client.c again: rows of a command of the store that the lock file names; NULL
 * if it does not answer in time, or with an error.
 */
extern PGresult *store_ask(const PidFile *file, const char *command, int timeout_ms);

/* ---- process.c ---- */

/* Absolute path of a directory given by a user; malloc'd. */
extern char *absolute_path(const char *path);

/*
 * As root: goes on as the user of --user, in a child process; root waits for
 * its end and, if it failed, removes the directory "made" (or NULL) if that is
 * empty.  Others stay who they are.
 */
extern void become_user(const Options *options, const char *made);

/* As root: this process becomes the user of --user. */
extern void become_user_for_good(const Options *options);

/*
 * The directory, empty and ours: makes it if it is missing.  As root, before
 * become_user(), it is given to that user.  Returns whether it was made.
 */
extern bool make_directory(const Options *options, const char *path);

/* Path of a program: of PostgreSQL, or one of ours beside this one. */
extern char *postgres_program(const Options *options, const char *name);
extern char *own_program(const char *name);

/*
 * Starts a program.  in: its standard input, -1: none; out: standard output
 * and error, -1: ours.  detach: it outlives us, in a session of its own.
 */
extern pid_t start_program(char *const argv[], int in, int out, bool detach);

/* Runs a program and returns what it writes to standard output, without the newline at its end; NULL: it failed, and said so. */
extern char *read_program(char *const argv[], const char *name);

/* Waits for its end; true if it succeeded, else says how it ended. */
extern bool wait_program(pid_t pid, const char *name);

/*
 * A log file to append to, opened; *end is its length now.  As root, before
 * become_user(), it is opened as that user, or made for it.
 */
extern int open_log(const Options *options, const char *path, off_t *end);

/* The last lines of a log from an offset on, to standard error. */
extern void show_log(const char *path, off_t from);

/* The text of a file, malloc'd; NULL if it does not exist. */
extern char *read_text_file(const char *path);
extern void write_text_file(const char *path, const char *text, bool append);

/* Removes what has the name in a directory, if there is any; false: it could not be removed, and a message said so. */
extern bool remove_path(const char *dir, const char *name);

/* Removes all in a directory; the directory too if itself. */
extern bool empty_directory(const char *path, bool itself);

/* ---- unpack.c ---- */

/* "tar", looked up in the usual places: root's PATH may be anybody's. */
extern char *find_tar(void);

/*
 * Runs a command of the store that answers with a tar (COPY OUT) and unpacks
 * it into dir.  exclude: names at its top that stay as they are (NULL ends the
 * list).  progress: what to call it in a progress line, NULL for none.  *begun
 * (or NULL): the store did not refuse the command.  False: it failed, and said
 * so.
 */
extern bool unpack(PGconn *conn, const char *command, const char *dir, const char *const *exclude, const char *progress,
				   bool *begun);

#endif /* PS_CTL_H */
