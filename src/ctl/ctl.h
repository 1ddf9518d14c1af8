/*
 * ctl.h
 *	  Declarations shared by the files of pageserver_ctl.
 *
 * Unless a comment says otherwise, a function that fails ends the program with
 * pg_fatal() of common/logging.h, exit code 1.  Where the caller must undo
 * something first, the function reports the error and returns false.
 */
#ifndef PS_CTL_H
#define PS_CTL_H

#include <signal.h>

#include "common/logging.h"
#include "libpq-fe.h"
#include "lib/stringinfo.h"

/*
 * Exit codes: 0 for success, 1 (EXIT_FAILURE) for a general failure, and those
 * below, which let a script decide what to do next.  3 and 4 have the meaning
 * that they have for "pg_ctl status".  The list of SQLSTATEs (sqlstate.h) says
 * which exit code each error of the store has.
 */
#define EXIT_USAGE       2 /* invalid command line */
#define EXIT_NOT_RUNNING 3 /* the server that the command needs is not running */
#define EXIT_NOT_FOUND   4 /* the directory, store, branch or tenant does not exist */
#define EXIT_EXISTS      5 /* it already exists, or is already running */
#define EXIT_REFUSED     6 /* not possible in its current state, or only with --force or --takeover */
#define EXIT_UNREACHABLE 7 /* the store is not running, or refused the connection */
#define EXIT_TIMEOUT     8 /* not finished within the timeout; it may still finish */
#define EXIT_DAMAGED     9 /* a file of the store is damaged */

/* "compute status" only: the compute is running, but is waiting for the store. */
#define EXIT_WAITS 5

#define DEFAULT_STORE   "/var/lib/pageserver"
#define DEFAULT_USER    "postgres"
#define DEFAULT_TIMEOUT 60

/* The options of all commands; a command's table entry says which ones it accepts. */
typedef struct Options
{
	const char *directory;      /* -D */
	const char *store;          /* -S */
	const char *user;           /* --user */
	const char *bindir;         /* --bindir */
	const char *log;            /* -l */
	const char *mode;           /* -m */
	const char *port;           /* -p */
	const char *server_options; /* -o */
	const char *pgdata;         /* --pgdata */
	const char *settings_from;  /* --settings-from */
	const char *debian;         /* --debian */
	const char *from;           /* --from */
	const char *remote;         /* --remote */
	int timeout;                /* -t, seconds */
	bool no_wait;               /* -W */
	bool json;                  /* --json */
	bool quiet;                 /* -q: print nothing on success */
	bool data_checksums;        /* -k */
	bool no_sync;               /* -N */
	bool zero_damaged_pages;    /* --zero-damaged-pages */
	bool force;                 /* -f */
	bool takeover;              /* --takeover */
	bool purge;                 /* --purge */
	bool deleted;               /* --deleted */
	bool values;                /* --values */
	bool hexdump;               /* --hexdump */
	const char *relation;       /* -R */
	const char *fork;           /* -F */
	const char *block;          /* -B */
	const char *limit;          /* -n */
	bool all;                   /* --all */
	bool read;                  /* --read */
	int rate;                   /* --rate, MB per second; 0 means the store's default */
	char **args;                /* the arguments that are not options */
	int nargs;
} Options;

typedef struct CtlCommand
{
	const char *name;
	const char *sub;                    /* second word, or NULL */
	const char *options;                /* the letters of the options that it accepts */
	int least;                          /* minimum number of arguments */
	int most;                           /* maximum number of arguments */
	int (*run)(const Options *options); /* returns the exit code */
	const char *usage;                  /* its syntax, without the program's name */
	const char *summary;                /* one line, in the imperative, without a period */
	const char *details;                /* shown by --help; each line ends with a newline */
} CtlCommand;

/* ---- command_table.c ---- */

extern const CtlCommand command_table[];
extern const int command_table_size;

/* Prints the help of the program. */
extern void command_table_usage(void);

/* Prints the help of a command. */
extern void command_table_help(const CtlCommand *command);

/*
 * The lock file of a server: of a store (STORE/pageserver.pid), of PostgreSQL
 * (postmaster.pid) or of a compute's supervisor (COMPUTE/pageserver_ctl.pid).
 */
typedef struct PidFile
{
	bool found;
	pid_t pid;   /* 0 although alive is set: the process cannot be seen from this PID namespace */
	bool alive;  /* this directory's server is running; set only by find() */
	uid_t owner; /* of the file; set only by find() */
	int port;
	char socket_dir[MAXPGPATH];
	char state[16];        /* "ready", "starting", "stopping", "standby" */
	unsigned long shm_key; /* postmaster.pid only: its shared memory segment; 0 if unknown */
	int shm_id;
} PidFile;

/*
 * The commands.  Each one runs with options that have been parsed and counted,
 * prints its result or its errors, and returns the exit code; it may also end
 * the program.
 */

/* cmd_store.c */
extern int cmd_init(const Options *options);
extern int cmd_start(const Options *options);
extern int cmd_stop(const Options *options);
extern int cmd_restart(const Options *options);
extern int cmd_reload(const Options *options);
extern int cmd_status(const Options *options);

/* cmd_branch.c */
extern int cmd_branch_create(const Options *options);
extern int cmd_branch_list(const Options *options);
extern int cmd_branch_delete(const Options *options);
extern int cmd_branch_undelete(const Options *options);
extern int cmd_branch_protect(const Options *options);
extern int cmd_branch_unprotect(const Options *options);
extern int cmd_branch_rename(const Options *options);
extern int cmd_branch_reset(const Options *options);
extern int cmd_branch_restore(const Options *options);
extern int cmd_branch_compact(const Options *options);
extern int cmd_export(const Options *options);

/* cmd_settings.c */
extern int cmd_settings_list(const Options *options);
extern int cmd_settings_get(const Options *options);
extern int cmd_settings_set(const Options *options);
extern int cmd_settings_reset(const Options *options);
extern int cmd_settings_edit(const Options *options);
extern int cmd_settings_revert(const Options *options);

/* cmd_import.c */
extern int cmd_import(const Options *options);

/* cmd_verify.c */
extern int cmd_verify(const Options *options);

/* cmd_remote.c */
extern int cmd_remote_check(const Options *options);

/* cmd_tenant.c */
extern int cmd_tenant_detach(const Options *options);
extern int cmd_tenant_attach(const Options *options);
extern int cmd_tenant_delete(const Options *options);
extern int cmd_tenant_undelete(const Options *options);
extern int cmd_tenant_list(const Options *options);

/* cmd_compute.c */
extern int cmd_compute_start(const Options *options);
extern int cmd_compute_run(const Options *options);
extern int cmd_compute_stop(const Options *options);
extern int cmd_compute_status(const Options *options);

/* cmd_layer_dump.c */
extern int cmd_layer_dump(const Options *options);

/* ---- cmd_branch.c, for other commands that create a branch ---- */

/* From now on, prints the notices that the store sends over this connection. */
extern void cmd_branch_show_notices(PGconn *conn);

/* Prints the branch that the result describes, or the error; returns the exit code. */
extern int cmd_branch_report_created(const Options *options, PGconn *conn, PGresult *res);

/* ---- client.c: the store as a client sees it ---- */

/* The store as it was named: by the option, else the environment variable, else the default. */
extern const char *store_name(const Options *options);

/* Is the name of a store a libpq connection string?  Otherwise it is a directory. */
extern bool store_is_conninfo(const char *name);

/*
 * Returns the store's connection string, psprintf'd.  If the store is named by
 * its directory and is not running, ends the program with EXIT_UNREACHABLE.
 */
extern char *store_conninfo(const Options *options);

/* Connects to the store; ends the program with EXIT_UNREACHABLE if that fails. */
extern PGconn *store_connect(const Options *options);

/*
 * Like store_connect(), and if the connection string has several hosts, to the first
 * whose list of branches has the value in the column.  If none has, to the first that
 * accepts a connection.
 */
extern PGconn *store_connect_having(const Options *options, const char *column, const char *value);

/* Does the store accept connections now?  Waits for at most 2 s; never ends the program. */
extern bool store_answers(const char *conninfo);

/* Returns the name of the branch with this timeline id, malloc'd, or NULL if there is no such branch. */
extern char *store_branch_of_timeline(PGconn *conn, const char *timeline);

/* Runs a command and returns its rows; if it fails, ends the program with the error's exit code. */
extern PGresult *store_query(PGconn *conn, const char *command);

/* Runs a command that returns no rows; if it fails, ends the program with the error's exit code. */
extern void store_execute(PGconn *conn, const char *command);

/*
 * Reports the error of a result or connection and returns the exit code for
 * its SQLSTATE.  The program continues.
 */
extern int store_report_error(PGconn *conn, PGresult *res);

/* Returns the exit code for the error of a result or connection, without reporting it. */
extern int store_exit_code(PGconn *conn, PGresult *res);

/* Returns the exit code for the error that was last reported by store_report_error(); 1 if there was no error. */
extern int store_error_exit_code(void);

/* Quotes a text as a string literal of the store's commands; psprintf'd. */
extern char *store_quote(const char *text);

/*
 * Runs a command of the store that owns this lock file.  Returns the rows, or
 * NULL if the store does not answer within the timeout or answers with an
 * error; never ends the program.
 */
extern PGresult *store_ask(const PidFile *file, const char *command, int timeout_ms);

/*
 * Prints columns of a result as a table.  order is the order in which to print
 * the rows; indent is by how many blanks to indent the first column of each
 * row (indexed by row of the result).  Either may be NULL.
 */
extern void print_table(PGresult *res, const char *const *columns, int ncolumns, const int *order, const int *indent);

/* Prints all rows as a JSON array of objects. */
extern void print_json(PGresult *res);

/*
 * Reports success: prints the line or, with --json, an object.  The object's
 * members follow as pairs of strings, name and value, ending with NULL; a value
 * of NULL is JSON's null.  Prints nothing with --quiet.
 */
extern void print_done(const Options *options, const char *line, ...);

/* ---- point_in_time.c: BRANCH[@LSN|@TIME] ---- */

/*
 * Returns the name of the branch, malloc'd, and sets *point to what follows the
 * "@" (in the same allocation), or to NULL.
 */
extern char *point_in_time_split(const char *text, char **point);

/* Returns the point in time in the syntax of the store's commands, "lsn ..." or "time ..."; psprintf'd. */
extern char *point_in_time_words(const char *text);

/* ---- pidfile.c ---- */

typedef struct ServerKind
{
	void (*read)(const char *dir, PidFile *file); /* reads the file; does not set alive and owner */
	void (*find)(const char *dir, PidFile *file); /* reads the file and checks whether that server is running */
} ServerKind;

extern const ServerKind store_kind;
extern const ServerKind postmaster_kind;
extern const ServerKind supervisor_kind;

/*
 * Creates and locks a compute's supervisor lock file for this process, and
 * changes the working directory to "/".
 */
extern void pidfile_lock_supervisor(const char *dir);

/* Removes the lock file that pidfile_lock_supervisor() created; does nothing if it did not. */
extern void pidfile_unlock_supervisor(void);

/*
 * Does a PostgreSQL server that find() did not find alive still have processes,
 * because only its postmaster was killed?
 */
extern bool pidfile_has_orphans(const PidFile *file);

/*
 * Waits until the server that was started as this child process is ready.
 * Returns false if the child process ended first (*child_ended is set), or if
 * the timeout (seconds) expired.
 */
extern bool pidfile_wait_ready(const ServerKind *kind, const char *dir, pid_t child, int timeout, PidFile *file,
							   bool *child_ended);

/*
 * Stops a server that find() found alive: sends the signal of the mode (smart,
 * fast, immediate) and, unless no_wait is set, waits until it has stopped.
 * Ends the program with EXIT_TIMEOUT if it does not stop within the timeout
 * (seconds).  what is the server's name for messages.
 */
extern void pidfile_stop_server(const ServerKind *kind, const char *dir, const PidFile *file, const char *mode,
								int timeout, bool no_wait, const char *what);

/*
 * Sends a signal to a server that find() found alive; it cannot reach any other
 * process.  Returns false if the server has ended.  what is the server's name
 * for messages.
 */
extern bool pidfile_signal_server(const ServerKind *kind, const char *dir, const PidFile *file, int signo,
								  const char *what);

/* ---- process.c ---- */

/* Returns the absolute path of a path given by the user; malloc'd. */
extern char *absolute_path(const char *path);

/*
 * If run as root, continues as the user of --user in a child process.  The
 * root process waits for the child, removes the directory "made" (may be NULL)
 * if the child fails and the directory is empty, and ends with the child's exit
 * code.  If not run as root, does nothing.
 */
extern void become_user(const Options *options, const char *made);

/* If run as root, changes this process to the user of --user, without a child process. */
extern void become_user_for_good(const Options *options);

/*
 * Makes sure that the directory exists, is empty and can be written: creates it
 * if it is missing.  If run as root (before become_user()), gives it to the user
 * of --user.  Returns true if it was created.
 */
extern bool make_directory(const Options *options, const char *path);

/* Returns the path of a program of PostgreSQL; psprintf'd. */
extern char *postgres_program(const Options *options, const char *name);

/* Returns the path of a program of this project, which is installed beside this one; psprintf'd. */
extern char *own_program(const char *name);

/*
 * Starts a program and returns its PID.  in is its standard input, or -1 for
 * /dev/null; out is its standard output and error, or -1 to inherit ours.  With
 * detach it gets a session of its own.
 */
extern pid_t start_program(char *const argv[], int in, int out, bool detach);

/*
 * Runs a program and returns its standard output, malloc'd, without the last
 * newline.  Returns NULL, with the error reported, if the program fails.
 */
extern char *read_program(char *const argv[], const char *name);

/* Waits until a program ends.  Returns false, with the error reported, if it failed. */
extern bool wait_program(pid_t pid, const char *name);

/*
 * Opens a log file for appending and sets *end to its current length.  If run
 * as root (before become_user()), opens or creates it on behalf of the user of
 * --user.
 */
extern int open_log(const Options *options, const char *path, off_t *end);

/* Prints the last lines of a log, beginning at offset "from" at the earliest, to standard error. */
extern void show_log(const char *path, off_t from);

/* Returns the contents of a file, malloc'd, or NULL if it does not exist. */
extern char *read_text_file(const char *path);

/* Creates, overwrites or appends to a file (mode 0600). */
extern void write_text_file(const char *path, const char *text, bool append);

/*
 * Removes a file or a directory tree from a directory, if it exists.  Returns
 * false, with the error reported, if it could not be removed.
 */
extern bool remove_path(const char *dir, const char *name);

/*
 * Removes everything in a directory and, with itself, the directory.  Returns
 * false, with the error reported, if something could not be removed.
 */
extern bool empty_directory(const char *path, bool itself);

/* ---- unpack.c ---- */

/* Returns the path of tar, malloc'd.  PATH is not used, because that of root may name anybody's directory. */
extern char *find_tar(void);

/*
 * Runs a command of the store that sends a tar archive (COPY OUT) and unpacks it
 * into dir.  exclude lists the top-level names that are left as they are, ending
 * with NULL; it may be NULL.  progress is the label of a progress line, or NULL
 * for none.  *begun (if not NULL) is set to whether the store began to send.
 * Returns false, with the error reported, if it failed.
 */
extern bool unpack(PGconn *conn, const char *command, const char *dir, const char *const *exclude,
				   const char *progress, bool *begun);

#endif /* PS_CTL_H */
