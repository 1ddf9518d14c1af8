/*
 * compute.c
 *	  Commands for computes: start, stop, status.
 *
 * A compute's directory boots once (FACTS 2): each start empties it but for
 * the files that are its owner's, and fills it with a fresh base backup.  The
 * file pageserver_smgr.conf marks it as ours; it stays until the backup
 * replaces it, so that a start that failed can be made again.
 */
#include "ps_fe.h"

#include <ctype.h>
#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf.h"
#include "ctl.h"

/* The owner's files; they are not overwritten. */
static const char *const settings_files[] = {
	"postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf", NULL
};

/* What stays while the rest is removed. */
static const char *const kept_files[] = {
	"postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf", PS_CONF_FILE, "log", NULL
};

typedef struct Compute
{
	const Options *options;
	const char *branch;
	char	   *dir;
	bool		made;			/* by us */
	bool		earlier;		/* it was a compute before, and keeps its settings */
	char	   *old_conf;		/* its pageserver_smgr.conf */
	char	   *conninfo;		/* of the store */
} Compute;

static char *
compute_directory(const Options *options)
{
	if (options->directory == NULL)
	{
		pg_log_error("no directory of a compute was given");
		pg_log_error_hint("Name it with -D.");
		exit(1);
	}
	return absolute_path(options->directory);
}

static char *
read_compute_conf(const char *dir)
{
	char	   *path = psprintf("%s/%s", dir, PS_CONF_FILE);
	char	   *text = read_text_file(path);

	pfree(path);
	return text;
}

/* ---- start ---- */

/* The branch must exist, and an earlier compute's directory be of this branch. */
static void
check_branch(const Compute *compute, PGconn *conn)
{
	PGresult   *res = store_query(conn, "branch_list");
	char	   *timeline = NULL;
	const char *old_branch = NULL;
	int			row = -1;

	if (compute->earlier)
		timeline = conf_value(compute->old_conf, "pageserver_smgr.timeline");
	for (int i = 0; i < PQntuples(res); i++)
	{
		if (strcmp(PQgetvalue(res, i, PQfnumber(res, "name")), compute->branch) == 0)
			row = i;
		if (timeline != NULL && strcmp(PQgetvalue(res, i, PQfnumber(res, "timeline")), timeline) == 0)
			old_branch = PQgetvalue(res, i, PQfnumber(res, "name"));
	}
	if (row < 0)
	{
		pg_log_error("branch \"%s\" does not exist", compute->branch);
		pg_log_error_hint("\"pageserver_ctl branch list\" shows the branches, \"pageserver_ctl tenant list\" what is detached.");
		exit(1);
	}
	if (timeline != NULL && strcmp(PQgetvalue(res, row, PQfnumber(res, "timeline")), timeline) != 0)
	{
		pg_log_error("directory \"%s\" belongs to a compute of another branch%s%s%s", compute->dir,
					 old_branch ? " (\"" : "", old_branch ? old_branch : "", old_branch ? "\")" : "");
		pg_log_error_hint("Use another directory, or remove it first if its settings are not needed.");
		exit(1);
	}
	free(timeline);
	PQclear(res);
}

/* What the directory is; it is not changed yet. */
static void
inspect_directory(Compute *compute)
{
	int			kind = pg_check_dir(compute->dir);

	if (kind < 0)
		pg_fatal("could not read directory \"%s\": %m", compute->dir);
	if (kind <= 1)
		return;
	compute->old_conf = read_compute_conf(compute->dir);
	compute->earlier = compute->old_conf != NULL;
	if (!compute->earlier)
	{
		pg_log_error("directory \"%s\" is not empty, and is no compute", compute->dir);
		pg_log_error_hint("Give a directory that does not exist, is empty, or is an earlier compute of the branch.");
		exit(1);
	}
}

/* Makes room for the base backup. */
static void
prepare_directory(Compute *compute)
{
	const Options *options = compute->options;
	PidFile		file;

	if (!compute->earlier)
	{
		compute->made = make_directory(options, compute->dir);
		become_user(options, compute->made ? compute->dir : NULL);
		return;
	}
	become_user(options, NULL);
	read_postmaster_pidfile(compute->dir, &file);
	if (file.alive)
		stop_server(read_postmaster_pidfile, compute->dir, &file, "fast", options->timeout, false, "the earlier compute");
	if (!empty_directory(compute->dir, kept_files, false))
		exit(1);
}

/* After a failure: what was not there before goes. */
static void
clean_directory(Compute *compute)
{
	if (compute->earlier)
		empty_directory(compute->dir, kept_files, false);
	else
		empty_directory(compute->dir, NULL, compute->made);
}

static char *
read_setting_file(const Compute *compute, const char *name)
{
	char	   *path = psprintf("%s/%s", compute->dir, name);
	char	   *text = read_text_file(path);

	pfree(path);
	return text != NULL ? text : pg_strdup("");
}

/*
 * Adds to pageserver_smgr.conf what the store cannot know.  Kept settings are
 * looked at again: postgresql.conf must still include that file, and the
 * library comes after those that the owner wants now.
 */
static void
complete_settings(const Compute *compute)
{
	StringInfoData text;
	char	   *conf = read_setting_file(compute, "postgresql.conf");
	char	   *auto_conf = read_setting_file(compute, "postgresql.auto.conf");
	char	   *port = compute->options->port ? pg_strdup(compute->options->port) : NULL;
	char	   *include = conf_value(conf, "include");
	char	   *path;

	if (port == NULL && compute->earlier)
		port = conf_value(compute->old_conf, "port");
	initStringInfo(&text);
	conf_put(&text, "pageserver_smgr.store", compute->conninfo);
	if (port != NULL)
		conf_put(&text, "port", port);
	if (compute->earlier)
	{
		char	   *libraries = conf_preload_libraries(conf, auto_conf);

		conf_put(&text, "shared_preload_libraries", libraries);
		free(libraries);
	}
	path = psprintf("%s/%s", compute->dir, PS_CONF_FILE);
	write_text_file(path, text.data, true);
	pfree(path);
	if (include == NULL || strcmp(include, PS_CONF_FILE) != 0)
	{
		path = psprintf("%s/postgresql.conf", compute->dir);
		write_text_file(path, "\n# Settings of the compute, made by the page server. Must stay the last line.\ninclude '" PS_CONF_FILE "'\n", true);
		pfree(path);
	}
	free(conf);
	free(auto_conf);
	free(port);
	free(include);
	pfree(text.data);
}

/* Splits the options for postgres at blanks; quotes and backslashes as in a shell.  argv has room for max. */
static int
split_options(const char *text, char **argv, int max)
{
	int			n = 0;

	for (const char *p = text;;)
	{
		StringInfoData word;
		char		quote = '\0';

		while (isspace((unsigned char) *p))
			p++;
		if (*p == '\0')
			return n;
		if (n == max)
			pg_fatal("too many options for postgres: at most %d words", max);
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
			pg_fatal("a quote is not closed in the options for postgres: %s", text);
		argv[n++] = word.data;
	}
}

#define MAX_OPTION_WORDS 200

static int
start_postgres(const Compute *compute)
{
	const Options *options = compute->options;
	char	   *log_dir = psprintf("%s/log", compute->dir);
	char	   *log = psprintf("%s/postgres.log", log_dir);
	char	   *auto_conf = read_setting_file(compute, "postgresql.auto.conf");
	char	   *libraries = conf_value(auto_conf, "shared_preload_libraries");
	char	   *argv[MAX_OPTION_WORDS + 8];
	int			n = 0;
	int			fd;
	off_t		log_end;
	pid_t		pid;
	PidFile		file;
	bool		child_ended;

	argv[n++] = postgres_program(options, "postgres");
	argv[n++] = "-D";
	argv[n++] = compute->dir;
	if (libraries != NULL && !conf_list_has(libraries, PS_LIBRARY))
	{
		/* ALTER SYSTEM wins over all files, not over the command line */
		char	   *list = conf_preload_libraries("", auto_conf);

		argv[n++] = "-c";
		argv[n++] = psprintf("shared_preload_libraries=%s", list);
		free(list);
	}
	if (options->server_options != NULL)
		n += split_options(options->server_options, argv + n, MAX_OPTION_WORDS);
	argv[n] = NULL;

	if (mkdir(log_dir, S_IRWXU) != 0 && errno != EEXIST)
		pg_fatal("could not create directory \"%s\": %m", log_dir);
	fd = open_log(options, log, &log_end);
	pid = start_program(argv, -1, fd, true);
	close(fd);
	if (wait_until_ready(read_postmaster_pidfile, compute->dir, pid, options->timeout, &file, &child_ended))
	{
		printf("A compute of branch \"%s\" runs in \"%s\" (PID %d, port %d%s%s).\n", compute->branch, compute->dir,
			   (int) pid, file.port, file.socket_dir[0] ? ", socket directory " : "", file.socket_dir);
		return 0;
	}
	show_log(log, log_end);
	if (child_ended)
		pg_log_error("PostgreSQL did not start in \"%s\"", compute->dir);
	else
		pg_log_error("PostgreSQL was not ready in %d seconds; it goes on starting", options->timeout);
	pg_log_error_hint("Its log \"%s\" says why. Settings are in \"%s/postgresql.conf\"; start the compute again when they are right.",
					  log, compute->dir);
	return 1;
}

/* What others are told of who runs the branch. */
static char *
compute_owner(const char *dir)
{
	char		host[256];

	if (gethostname(host, sizeof(host)) != 0)
		strlcpy(host, "unknown host", sizeof(host));
	host[sizeof(host) - 1] = '\0';
	return psprintf("%s:%s", host, dir);
}

int
run_compute_start(const Options *options)
{
	Compute		compute = {.options = options, .branch = options->args[0]};
	PGconn	   *conn;
	char	   *command;
	bool		ok;

	compute.dir = compute_directory(options);
	compute.conninfo = store_conninfo(options);
	(void) postgres_program(options, "postgres");	/* before anything is changed */
	conn = store_connect(options);
	inspect_directory(&compute);
	check_branch(&compute, conn);
	prepare_directory(&compute);

	command = psprintf("basebackup %s %s", store_quote(compute.branch), store_quote(compute_owner(compute.dir)));
	ok = unpack(conn, command, compute.dir, compute.earlier ? settings_files : NULL, NULL);
	PQfinish(conn);
	if (!ok)
	{
		clean_directory(&compute);
		return 1;
	}
	complete_settings(&compute);
	return start_postgres(&compute);
}

/* ---- stop, status ---- */

int
run_compute_stop(const Options *options)
{
	char	   *dir = compute_directory(options);
	PidFile		file;

	if (read_compute_conf(dir) == NULL)
	{
		pg_log_error("directory \"%s\" is no compute", dir);
		return 1;
	}
	read_postmaster_pidfile(dir, &file);
	if (!file.alive)
	{
		pg_log_error("the compute in \"%s\" does not run", dir);
		return 1;
	}
	stop_server(read_postmaster_pidfile, dir, &file, options->mode, options->timeout, false, "the compute");
	return 0;
}

int
run_compute_status(const Options *options)
{
	static const char *const settings[] = {"tenant", "timeline", "generation", "checkpoint_lsn", "store"};
	char	   *dir = compute_directory(options);
	char	   *conf = read_compute_conf(dir);
	PidFile		file;

	if (conf == NULL)
	{
		pg_log_error("directory \"%s\" is no compute", dir);
		return EXIT_NOT_FOUND;
	}
	read_postmaster_pidfile(dir, &file);
	if (options->json)
	{
		json_t	   *status = json_pack("{s:s, s:b}", "directory", dir, "running", file.alive);

		if (file.alive)
		{
			json_object_set_new(status, "pid", json_integer(file.pid));
			json_object_set_new(status, "port", json_integer(file.port));
			json_object_set_new(status, "unix_socket_directory", json_string(file.socket_dir));
			json_object_set_new(status, "state", json_string(file.state));
		}
		for (int i = 0; i < lengthof(settings); i++)
		{
			char	   *name = psprintf("%s.%s", PS_LIBRARY, settings[i]);
			char	   *value = conf_value(conf, name);

			json_object_set_new(status, settings[i], value ? json_string(value) : json_null());
			free(value);
			pfree(name);
		}
		json_dumpf(status, stdout, JSON_INDENT(2));
		printf("\n");
		json_decref(status);
	}
	else if (file.alive)
		printf("The compute in \"%s\" runs (PID %d, port %d, %s).\n", dir, (int) file.pid, file.port, file.state);
	else
		printf("The compute in \"%s\" does not run.\n", dir);
	return file.alive ? 0 : EXIT_NOT_RUNNING;
}
