/*
 * compute_start.c
 *	  Starts a compute.
 *
 * Everything that can be checked without changing anything is checked first: the
 * branch, whether a compute is connected to it, and the settings.  With
 * --takeover, PostgreSQL must also show that it can start before the other compute
 * is superseded.  Only then is the store asked for a base backup, which begins a
 * new generation of the branch: computes of older generations stop.
 */
#include "ps_fe.h"

#include <ctype.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compute.h"

#define MAX_OPTION_WORDS   200
#define POLL_INTERVAL_USEC 2000

/* How long to wait until the store has noticed, possibly through a proxy, that a connection was closed. */
#define DISCONNECT_USEC      1000000
#define DISCONNECT_POLL_USEC 20000

typedef struct Start
{
	const Options *options;
	const char *branch;
	ComputeDir dir;
	char *conninfo;  /* of the store */
	char *owner;     /* HOST:DIRECTORY, which identifies this compute to others */
	char *postgres;  /* the program */
	char *libraries; /* the owner's shared_preload_libraries with ours added */

	/* the state of the branch when look_up_branch() was last called */
	char *timeline;
	char *generation; /* "0" if no compute was ever started */
	char *current;    /* owner of the connected compute, or NULL */
	char *current_since;
} Start;

/* ---- the branch ---- */

/* Returns the text that identifies a compute in this directory to others. */
static char *
make_owner(const char *dir)
{
	char host[256];

	if (gethostname(host, sizeof(host)) != 0)
		strlcpy(host, "unknown host", sizeof(host));
	host[sizeof(host) - 1] = '\0';
	return psprintf("%s:%s", host, dir);
}

static char *
field(PGresult *res, int row, const char *column)
{
	int number = PQfnumber(res, column);

	return number < 0 || PQgetisnull(res, row, number) ? NULL : pg_strdup(PQgetvalue(res, row, number));
}

/* Reads the state of the branch; may be called again. */
static void
look_up_branch(Start *start, PGconn *conn)
{
	PGresult *res = store_query(conn, "branch_list");
	int row;

	for (row = 0; row < PQntuples(res); row++)
		if (strcmp(PQgetvalue(res, row, PQfnumber(res, "name")), start->branch) == 0)
			break;
	if (row == PQntuples(res))
	{
		pg_log_error("branch \"%s\" does not exist", start->branch);
		pg_log_error_hint("List the branches with \"pageserver_ctl branch list\", and detached tenants with "
						  "\"pageserver_ctl tenant list\".");
		exit(EXIT_NOT_FOUND);
	}
	start->current = start->current_since = NULL;
	start->timeline = field(res, row, "timeline");
	start->generation = field(res, row, "generation");
	if (PQgetvalue(res, row, PQfnumber(res, "connected"))[0] == 't')
	{
		start->current = field(res, row, "owner");
		start->current_since = field(res, row, "connected_since");
	}
	PQclear(res);
}

/*
 * Checks that an earlier compute's directory belongs to this branch: to its
 * timeline, or to one that had the branch's name until the branch was restored or
 * reset.
 */
static void
check_timeline(const Start *start, PGconn *conn)
{
	char *timeline = start->dir.earlier ? conf_value(start->dir.old_conf, "pageserver_smgr.timeline") : NULL;
	char *branch = start->dir.earlier ? compute_settings_branch(start->dir.path) : NULL;
	PGresult *res;
	const char *other = NULL;

	if (timeline == NULL || strcmp(timeline, start->timeline) == 0 ||
		(branch != NULL && strcmp(branch, start->branch) == 0))
	{
		free(timeline);
		free(branch);
		return;
	}
	res = store_query(conn, "branch_list");
	for (int i = 0; i < PQntuples(res); i++)
		if (strcmp(PQgetvalue(res, i, PQfnumber(res, "timeline")), timeline) == 0)
			other = PQgetvalue(res, i, PQfnumber(res, "name"));
	pg_log_error("directory \"%s\" belongs to a compute of another branch%s%s%s", start->dir.path,
				 other ? " (\"" : "", other ? other : "", other ? "\")" : "");
	pg_log_error_hint("Specify another directory, or remove this one if its settings are not needed.");
	exit(EXIT_NOT_FOUND);
}

/* Does the connection belong to an earlier compute in this directory? */
static bool
current_is_ours(const Start *start)
{
	char *generation = start->dir.earlier ? conf_value(start->dir.old_conf, "pageserver_smgr.generation") : NULL;
	bool ours = generation != NULL && strcmp(generation, start->generation) == 0 &&
				strcmp(start->current, start->owner) == 0;

	free(generation);
	return ours;
}

/*
 * Is a compute elsewhere connected to the branch?  A compute that has just been
 * stopped or killed may still appear to be connected for a short time.
 */
static bool
is_taken(Start *start, PGconn *conn)
{
	for (int64 waited = 0;; waited += DISCONNECT_POLL_USEC)
	{
		if (start->current == NULL || current_is_ours(start))
			return false;
		if (start->options->takeover || waited >= DISCONNECT_USEC)
			return true;
		pg_usleep(DISCONNECT_POLL_USEC);
		look_up_branch(start, conn);
	}
}

/* ---- settings and PostgreSQL ---- */

/* Splits the options for postgres into at most max words; quotes and backslashes work as in a shell. */
static int
split_options(const char *text, char **argv, int max)
{
	int n = 0;

	for (const char *p = text;;)
	{
		StringInfoData word;
		char quote = '\0';

		while (isspace((unsigned char) *p))
			p++;
		if (*p == '\0')
			return n;
		if (n == max)
			pg_fatal("too many command-line options for postgres (at most %d words)", max);
		initStringInfo(&word);
		for (; *p && (quote || !isspace((unsigned char) *p)); p++)
		{
			if (*p == '\\' && quote != '\'' && p[1])
				appendStringInfoChar(&word, *++p);
			else if (quote ? *p == quote : (*p == '\'' || *p == '"'))
				quote = quote ? '\0' : *p;
			else
				appendStringInfoChar(&word, *p);
		}
		if (quote)
			pg_fatal("unterminated quote in the command-line options for postgres: %s", text);
		argv[n++] = word.data;
	}
}

/*
 * Makes the command line of postgres in argv[ARGV_SIZE]: the two first words, the
 * owner's options, then two settings, which override all others.  Each may be NULL.
 */
static void
make_command(const Start *start, char **argv, const char *first, const char *second, const char *setting,
			 const char *other)
{
	int n = 0;

	argv[n++] = start->postgres;
	argv[n++] = "-D";
	argv[n++] = start->dir.path;
	if (first != NULL)
	{
		argv[n++] = (char *) first;
		argv[n++] = (char *) second;
	}
	if (start->options->server_options != NULL)
		n += split_options(start->options->server_options, argv + n, MAX_OPTION_WORDS);
	if (setting != NULL)
	{
		argv[n++] = "-c";
		argv[n++] = (char *) setting;
	}
	if (other != NULL)
	{
		argv[n++] = "-c";
		argv[n++] = (char *) other;
	}
	argv[n] = NULL;
}

#define ARGV_SIZE (MAX_OPTION_WORDS + 10)

char *
compute_setting(const Options *options, const char *dir, const char *name)
{
	Start start = {.options = options, .dir.path = (char *) dir, .postgres = postgres_program(options, "postgres")};
	char *argv[ARGV_SIZE];

	make_command(&start, argv, "-C", name, NULL, NULL);
	return read_program(argv, "postgres -C");
}

/*
 * Makes PostgreSQL read the settings as it would at a start, and takes the list of
 * libraries to preload from them.  Returns false, with the error reported, if
 * PostgreSQL rejects the settings.
 */
static bool
read_settings(Start *start)
{
	char *list = compute_setting(start->options, start->dir.path, "shared_preload_libraries");

	if (list == NULL)
	{
		pg_log_error("PostgreSQL rejected the settings of the compute in \"%s\"", start->dir.path);
		pg_log_error_hint("Correct the settings in \"%s/postgresql.conf\" or the -o options, "
						  "then start the compute again.",
						  start->dir.path);
		return false;
	}
	free(start->libraries);
	start->libraries = conf_preload_with_ours(list);
	free(list);
	return true;
}

/*
 * Like read_settings(), for a directory that was empty: unless the options may set
 * the libraries, takes them from the base backup's files, which is faster than
 * running postgres -C.
 */
static bool
read_fresh_settings(Start *start)
{
	const char *options = start->options->server_options;

	if (options == NULL || (strcasestr(options, "preload") == NULL && strcasestr(options, "config") == NULL))
		start->libraries = compute_dir_libraries(&start->dir);
	return start->libraries != NULL || read_settings(start);
}

/* Starts PostgreSQL with its log in COMPUTE/log.  Sets *log_end to the previous length of the log. */
static pid_t
run_postgres(const Start *start, const char *setting, char **log, off_t *log_end)
{
	char *log_dir = psprintf("%s/log", start->dir.path);
	char *argv[ARGV_SIZE];
	pid_t pid;
	int fd;

	*log = psprintf("%s/postgres.log", log_dir);
	make_command(start, argv, NULL, NULL, psprintf("shared_preload_libraries=%s", start->libraries), setting);
	if (mkdir(log_dir, S_IRWXU) != 0 && errno != EEXIST)
		pg_fatal("could not create directory \"%s\": %m", log_dir);
	fd = open_log(start->options, *log, log_end);
	compute_dir_allow_start(&start->dir, true);
	pid = start_program(argv, -1, fd, true);
	close(fd);
	return pid;
}

/* ---- steps of a start ---- */

/* The hint for a PostgreSQL that failed to start. */
static void
hint_at_log(const Start *start, const char *log)
{
	pg_log_error_hint("Examine the log \"%s\". If a setting is wrong, correct it in \"%s/postgresql.conf\", "
					  "then start the compute again.",
					  log, start->dir.path);
}

/*
 * Stops the earlier compute in this directory.  Nothing may be removed before all
 * its processes have ended; if its postmaster was killed, others may still write.
 */
static void
stop_earlier(const Start *start)
{
	int timeout = start->options->timeout;
	PidFile file;

	supervisor_kind.find(start->dir.path, &file);
	if (file.alive && file.pid != getppid())
		pidfile_stop_server(&supervisor_kind, start->dir.path, &file, "fast", timeout, false, "the earlier compute");
	postmaster_kind.find(start->dir.path, &file);
	if (file.alive)
		pidfile_stop_server(&postmaster_kind, start->dir.path, &file, "fast", timeout, false, "the earlier compute");
	for (int64 waited = 0; pidfile_has_orphans(&file); waited += POLL_INTERVAL_USEC)
	{
		if (waited >= (int64) timeout * 1000000)
		{
			pg_log_error("processes of the earlier compute in \"%s\" are still running, "
						 "although its postmaster (PID %d) has ended",
						 start->dir.path, (int) file.pid);
			pg_log_error_hint("Terminate the postgres processes whose working directory is this directory, "
							  "then start the compute again.");
			exit(1);
		}
		pg_usleep(POLL_INTERVAL_USEC);
	}
}

/*
 * Unpacks a base backup and completes the directory.  Returns false, with the error
 * reported and the new files removed, if it failed.
 */
static bool
fill_directory(Start *start, PGconn *conn, const char *command, bool *begun)
{
	if (!compute_dir_unpack(&start->dir, conn, command, begun))
	{
		compute_dir_clear(&start->dir, !start->dir.earlier);
		return false;
	}
	compute_dir_complete(&start->dir, start->conninfo, start->options->port);
	compute_dir_allow_start(&start->dir, false);
	return true;
}

/*
 * Checks, before another compute is superseded, that PostgreSQL can start: unpacks
 * a base backup of the current state and runs PostgreSQL on it, which ends before
 * it would replay WAL (compute/rehearsal.c).
 */
static bool
rehearse(Start *start, PGconn *conn)
{
	char *log;
	off_t log_end;
	bool begun;

	if (!fill_directory(start, conn, psprintf("basebackup_rehearsal %s", store_quote(start->branch)), &begun))
		return false;
	if (!read_settings(start))
	{
		compute_dir_clear(&start->dir, false);
		return false;
	}
	if (wait_program(run_postgres(start, "pageserver_smgr.rehearsal=on", &log, &log_end), "postgres"))
		return true;
	show_log(log, log_end);
	compute_dir_clear(&start->dir, false);
	hint_at_log(start, log);
	return false;
}

/*
 * Does everything that comes before the base backup, which affects others.
 * Afterward the directory contains only the owner's files.
 */
static bool
prepare(Start *start, PGconn *conn, bool takes_over)
{
	if (start->dir.earlier && !read_settings(start))
		return false;
	stop_earlier(start);
	compute_dir_allow_start(&start->dir, false);
	if (!compute_dir_clear(&start->dir, false))
		return false;
	if (takes_over)
		return rehearse(start, conn) && compute_dir_clear(&start->dir, false);
	return true;
}

static int
start_postgres(const Start *start)
{
	char *log;
	off_t log_end;
	pid_t pid = run_postgres(start, NULL, &log, &log_end);
	PidFile file;
	bool child_ended;

	if (pidfile_wait_ready(&postmaster_kind, start->dir.path, pid, start->options->timeout, &file, &child_ended))
	{
		print_done(start->options,
				   psprintf("A compute of branch \"%s\" is running in \"%s\" (PID %d, port %d%s%s).", start->branch,
							start->dir.path, (int) pid, file.port, file.socket_dir[0] ? ", socket directory " : "",
							file.socket_dir),
				   "branch", start->branch, "directory", start->dir.path, "pid", psprintf("%d", (int) pid),
				   "port", psprintf("%d", file.port), "unix_socket_directory", file.socket_dir, NULL);
		return 0;
	}
	show_log(log, log_end);
	if (child_ended)
	{
		compute_dir_allow_start(&start->dir, false);
		pg_log_error("could not start PostgreSQL in \"%s\"", start->dir.path);
	}
	else
		pg_log_error("PostgreSQL was not ready within %d seconds; it continues to start", start->options->timeout);
	hint_at_log(start, log);
	return child_ended ? 1 : EXIT_TIMEOUT;
}

/* Returns the exit code for a base backup that failed. */
static int
basebackup_failed(bool begun)
{
	return begun ? 1 : store_error_exit_code();
}

int
compute_start(const Options *options, uint64 after)
{
	Options with_settings = *options;
	Start start = {.options = &with_settings, .branch = options->args[0]};
	ComputeSettings settings;
	bool takes_over; /* a compute elsewhere is connected and will be superseded */
	bool begun;
	PGconn *conn;
	StringInfoData command;
	int rc;

	start.dir.path = compute_dir_path(options);
	start.conninfo = store_conninfo(options);
	start.owner = make_owner(start.dir.path);
	start.postgres = postgres_program(options, "postgres");
	conn = store_connect_having(options, "name", start.branch);
	look_up_branch(&start, conn);
	compute_dir_open(&start.dir, options);
	check_timeline(&start, conn);

	takes_over = after == 0 && is_taken(&start, conn);
	if (takes_over && !options->takeover)
	{
		pg_log_error("branch \"%s\" is in use by a compute (%s, connected since %s)", start.branch, start.current,
					 start.current_since ? start.current_since : "an unknown time");
		pg_log_error_hint("Stop that compute, or take the branch over from it with --takeover.");
		if (start.dir.made)
			(void) rmdir(start.dir.path);
		return EXIT_REFUSED;
	}
	compute_settings_begin(&settings, &start.dir, conn, start.branch, options->server_options);
	with_settings.server_options = settings.options;
	if (!prepare(&start, conn, takes_over))
	{
		if (takes_over)
			pg_log_error_detail("The compute at %s continues to run.", start.current);
		return 1;
	}

	initStringInfo(&command);
	appendStringInfo(&command, "basebackup %s %s", store_quote(start.branch), store_quote(start.owner));
	if (after != 0)
		appendStringInfo(&command, " " UINT64_FORMAT, after);
	else if (start.current != NULL)
		appendStringInfo(&command, " %s", start.generation);
	if (!fill_directory(&start, conn, command.data, &begun))
		rc = basebackup_failed(begun);
	else if (start.libraries == NULL && !read_fresh_settings(&start))
		rc = 1;
	else
	{
		compute_settings_end(&settings, &start.dir, conn);
		rc = start_postgres(&start);
	}
	PQfinish(conn);
	if (takes_over && rc == 0)
	{
		if (!options->quiet && !options->json)
			printf("The compute at %s was superseded.\n", start.current);
	}
	else if (takes_over && begun)
		pg_log_error_detail("The compute at %s was superseded: no compute is running on branch \"%s\" now.",
							start.current, start.branch);
	else if (takes_over)
		pg_log_error_detail("The compute at %s continues to run.", start.current);
	return rc;
}
