/*
 * cmd_store.c
 *	  Commands for a store: init, start, stop, restart, reload, status.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <jansson.h>
#include <unistd.h>

#include "ctl.h"

/* "status" waits so long for an answer of the store. */
#define STATUS_TIMEOUT_MS 5000

/* The store's directory: -D, or what the other commands would take. */
static char *
store_directory(const Options *options)
{
	const char *name = options->directory != NULL ? options->directory : store_name(options);

	if (options->directory == NULL && store_is_conninfo(name))
		pg_fatal("this command needs the directory of a store, not a connection string");
	return absolute_path(name);
}

static bool
is_store(const char *dir)
{
	char *path = psprintf("%s/PAGESERVER_VERSION", dir);
	bool result = access(path, F_OK) == 0;

	/* root sees it, but the one who may not look inside cannot tell */
	if (!result && errno == EACCES)
		pg_fatal("could not look into directory \"%s\": %m", dir);
	pfree(path);
	return result;
}

static void
check_store(const char *dir)
{
	if (is_store(dir))
		return;
	pg_log_error("there is no store in directory \"%s\"", dir);
	pg_log_error_hint("\"pageserver_ctl init -D %s\" makes one.", dir);
	exit(EXIT_NOT_FOUND);
}

int
cmd_init(const Options *options)
{
	char *dir = store_directory(options);
	char *conf = psprintf("%s/pageserver.conf", dir);
	StringInfoData settings;
	char *argv[] = {own_program("pageserver"), "--init", "--quiet", "-D", dir, NULL};
	char *check_argv[] = {own_program("pageserver"), "--check-config", "--quiet", "-D", dir, NULL};
	bool made = make_directory(options, dir);

	become_user(options, made ? dir : NULL);
	if (!wait_program(start_program(argv, -1, -1, false), "pageserver --init"))
	{
		empty_directory(dir, made);
		return 1;
	}
	initStringInfo(&settings);
	if (options->bindir != NULL)
	{
		appendStringInfoString(&settings, "\nbindir = '");
		for (const char *p = options->bindir; *p; p++)
			appendStringInfo(&settings, "%s%c", *p == '\'' ? "'" : "", *p);
		appendStringInfoString(&settings, "'\n");
	}
	if (options->port != NULL)
		appendStringInfo(&settings, "\nport = %s\n", options->port);
	if (settings.len > 0)
		write_text_file(conf, settings.data, true);
	if (!wait_program(start_program(check_argv, -1, -1, false), "pageserver --check-config"))
	{
		empty_directory(dir, made);
		return 1;
	}
	print_done(options, psprintf("A new store is in \"%s\". \"pageserver_ctl start -D %s\" starts it.", dir, dir), "store", dir, NULL);
	return 0;
}

int
cmd_start(const Options *options)
{
	char *dir = store_directory(options);
	char *log = options->log ? absolute_path(options->log) : psprintf("%s/pageserver.log", dir);
	char *argv[] = {own_program("pageserver"), "-D", dir, NULL};
	PidFile file;
	pid_t pid;
	int fd;
	off_t log_end;
	bool child_ended;

	check_store(dir);
	store_kind.find(dir, &file);
	if (file.alive)
	{
		pg_log_error("the store \"%s\" runs already (PID %d)", dir, (int) file.pid);
		return EXIT_EXISTS;
	}
	fd = open_log(options, log, &log_end);
	become_user(options, NULL);
	pid = start_program(argv, -1, fd, true);
	close(fd);
	if (options->no_wait)
		return 0;
	if (pidfile_wait_ready(&store_kind, dir, pid, options->timeout, &file, &child_ended))
	{
		print_done(options, psprintf("The store \"%s\" runs (PID %d, port %d).", dir, (int) pid, file.port),
				   "store", dir, "pid", psprintf("%d", (int) pid), "port", psprintf("%d", file.port), NULL);
		return 0;
	}
	show_log(log, log_end);
	if (child_ended)
		pg_log_error("the store \"%s\" did not start", dir);
	else
		pg_log_error("the store \"%s\" was not ready in %d seconds; it goes on starting", dir, options->timeout);
	pg_log_error_hint("Its log \"%s\" says why.", log);
	return child_ended ? 1 : EXIT_TIMEOUT;
}

int
cmd_stop(const Options *options)
{
	char *dir = store_directory(options);
	PidFile file;

	check_store(dir);
	store_kind.find(dir, &file);
	if (!file.alive)
	{
		pg_log_error("the store \"%s\" does not run", dir);
		return EXIT_NOT_RUNNING;
	}
	pidfile_stop_server(&store_kind, dir, &file, options->mode, options->timeout, options->no_wait, "the store");
	print_done(options, psprintf("The store \"%s\" %s.", dir, options->no_wait ? "is told to stop" : "is stopped"),
			   options->no_wait ? "stopping" : "stopped", dir, NULL);
	return 0;
}

/* Would the store start with these settings?  Else the program ends, with what the store says. */
static void
check_settings(const char *dir)
{
	char *argv[] = {own_program("pageserver"), "--check-config", "--quiet", "-D", unconstify(char *, dir), NULL};

	if (wait_program(start_program(argv, -1, -1, false), "pageserver --check-config"))
		return;
	pg_log_error_hint("Nothing was changed. Correct \"%s/pageserver.conf\" first.", dir);
	exit(1);
}

int
cmd_restart(const Options *options)
{
	char *dir = store_directory(options);
	PidFile file;

	check_store(dir);
	check_settings(dir);
	store_kind.find(dir, &file);
	if (file.alive)
		pidfile_stop_server(&store_kind, dir, &file, options->mode, options->timeout, false, "the store");
	return cmd_start(options);
}

int
cmd_reload(const Options *options)
{
	char *dir = store_directory(options);
	PidFile file;

	check_store(dir);
	store_kind.find(dir, &file);
	if (file.alive)
		check_settings(dir);
	if (!file.alive || !pidfile_signal_server(&store_kind, dir, &file, SIGHUP, "the store"))
	{
		pg_log_error("the store \"%s\" does not run", dir);
		return EXIT_NOT_RUNNING;
	}
	print_done(options, psprintf("The store \"%s\" reads its settings again (PID %d).", dir, (int) file.pid), "reloaded", dir, NULL);
	return 0;
}

/* What a store says of itself that its lock file does not; NULL: it does not answer. */
static PGresult *
ask_status(const PidFile *file)
{
	return strcmp(file->state, "ready") == 0 ? store_ask(file, "status", STATUS_TIMEOUT_MS) : NULL;
}

/* A value of that; "" if it is not there. */
static const char *
status_value(const PGresult *res, const char *name)
{
	for (int i = 0; i < (res != NULL ? PQntuples(res) : 0); i++)
		if (strcmp(PQgetvalue(res, i, 0), name) == 0)
			return PQgetvalue(res, i, 1);
	return "";
}

int
cmd_status(const Options *options)
{
	char *dir = store_directory(options);
	PidFile file = {0};
	PGresult *res = NULL;
	bool exists = is_store(dir);

	if (exists)
		store_kind.find(dir, &file);
	if (file.alive)
		res = ask_status(&file);
	if (options->json)
	{
		json_t *status = json_pack("{s:s, s:b, s:b}", "store", dir, "exists", exists, "running", file.alive);

		if (file.alive)
		{
			json_object_set_new(status, "pid", json_integer(file.pid));
			json_object_set_new(status, "port", json_integer(file.port));
			json_object_set_new(status, "unix_socket_directory", json_string(file.socket_dir));
			json_object_set_new(status, "state", json_string(file.state));
			json_object_set_new(status, "answers", json_boolean(res != NULL));
			if (res != NULL)
			{
				json_t *waits = json_array();

				for (int i = 0; i < PQntuples(res); i++)
					if (strcmp(PQgetvalue(res, i, 0), "waits") == 0)
						json_array_append_new(waits, json_string(PQgetvalue(res, i, 1)));
				json_object_set_new(status, "waits", waits);
				json_object_set_new(status, "restart_needed", json_string(status_value(res, "restart_needed")));
			}
		}
		json_dumpf(status, stdout, JSON_INDENT(2));
		printf("\n");
		json_decref(status);
	}
	else if (!exists)
		pg_log_error("there is no store in directory \"%s\"", dir);
	else if (!file.alive)
		printf("The store \"%s\" does not run.\n", dir);
	else
	{
		printf("The store \"%s\" runs (PID %d, port %d, socket directory \"%s\", %s).\n", dir, (int) file.pid, file.port,
			   file.socket_dir, file.state);
		if (res == NULL && strcmp(file.state, "ready") == 0)
			printf("It does not answer.\n");
		for (int i = 0; i < (res != NULL ? PQntuples(res) : 0); i++)
			if (strcmp(PQgetvalue(res, i, 0), "waits") == 0)
				printf("WAL of a compute waits: %s.\n", PQgetvalue(res, i, 1));
		if (*status_value(res, "restart_needed") != '\0')
			printf("A restart is needed for changed settings: %s.\n", status_value(res, "restart_needed"));
	}
	PQclear(res);
	return !exists ? EXIT_NOT_FOUND : !file.alive ? EXIT_NOT_RUNNING
												  : 0;
}
