/*
 * cmd_store.c
 *	  The commands init, start, stop, restart, reload and status, for stores.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <jansson.h>
#include <unistd.h>

#include "ctl.h"

/* How long "status" waits for the store's answer. */
#define STATUS_TIMEOUT_MS 5000

/* Returns the store's directory: that of -D or, without -D, the one that other commands would use; malloc'd. */
static char *
store_directory(const Options *options)
{
	const char *name = options->directory != NULL ? options->directory : store_name(options);

	if (options->directory == NULL && store_is_conninfo(name))
		pg_fatal("this command requires the directory of a store, not a connection string");
	return absolute_path(name);
}

static bool
is_store(const char *dir)
{
	char *path = psprintf("%s/PAGESERVER_VERSION", dir);
	bool result = access(path, F_OK) == 0;

	/* without search permission, it is not known whether the file exists */
	if (!result && errno == EACCES)
		pg_fatal("could not access directory \"%s\": %m", dir);
	pfree(path);
	return result;
}

static void
check_store(const char *dir)
{
	if (is_store(dir))
		return;
	pg_log_error("directory \"%s\" is not a store", dir);
	pg_log_error_hint("Create a store with \"pageserver_ctl init -D %s\".", dir);
	exit(EXIT_NOT_FOUND);
}

/* Appends a setting whose value is a text. */
static void
append_text_setting(StringInfo settings, const char *name, const char *value)
{
	appendStringInfo(settings, "\n%s = '", name);
	for (const char *p = value; *p; p++)
		appendStringInfo(settings, "%s%c", *p == '\'' ? "'" : "", *p);
	appendStringInfoString(settings, "'\n");
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
		append_text_setting(&settings, "bindir", options->bindir);
	if (options->remote != NULL)
		append_text_setting(&settings, "remote_storage", options->remote);
	if (options->port != NULL)
		appendStringInfo(&settings, "\nport = %s\n", options->port);
	if (settings.len > 0)
		write_text_file(conf, settings.data, true);
	if (!wait_program(start_program(check_argv, -1, -1, false), "pageserver --check-config"))
	{
		empty_directory(dir, made);
		return 1;
	}
	print_done(options, psprintf("Store \"%s\" was created. Start it with: pageserver_ctl start -D %s", dir, dir),
			   "store", dir, NULL);
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
		pg_log_error("store \"%s\" is already running (PID %d)", dir, (int) file.pid);
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
		print_done(options, psprintf("Store \"%s\" is running (PID %d, port %d).", dir, (int) pid, file.port),
				   "store", dir, "pid", psprintf("%d", (int) pid), "port", psprintf("%d", file.port), NULL);
		return 0;
	}
	show_log(log, log_end);
	if (child_ended)
		pg_log_error("could not start store \"%s\"", dir);
	else
		pg_log_error("store \"%s\" was not ready within %d seconds; it continues to start", dir, options->timeout);
	pg_log_error_hint("Examine the log \"%s\".", log);
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
		pg_log_error("store \"%s\" is not running", dir);
		return EXIT_NOT_RUNNING;
	}
	pidfile_stop_server(&store_kind, dir, &file, options->mode, options->timeout, options->no_wait, "the store");
	print_done(options, psprintf("Store \"%s\" %s.", dir, options->no_wait ? "is stopping" : "was stopped"),
			   options->no_wait ? "stopping" : "stopped", dir, NULL);
	return 0;
}

/* Checks whether the store would start with its settings; ends the program if not. */
static void
check_settings(const char *dir)
{
	char *argv[] = {own_program("pageserver"), "--check-config", "--quiet", "-D", unconstify(char *, dir), NULL};

	if (wait_program(start_program(argv, -1, -1, false), "pageserver --check-config"))
		return;
	pg_log_error_hint("No changes were made. Correct \"%s/pageserver.conf\" and try again.", dir);
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
		pg_log_error("store \"%s\" is not running", dir);
		return EXIT_NOT_RUNNING;
	}
	print_done(options, psprintf("Store \"%s\" (PID %d) was signaled to reload its settings.", dir, (int) file.pid),
			   "reloaded", dir, NULL);
	return 0;
}

/* Asks a store for its status; NULL if it does not answer. */
static PGresult *
ask_status(const PidFile *file)
{
	return strcmp(file->state, "ready") == 0 ? store_ask(file, "status", STATUS_TIMEOUT_MS) : NULL;
}

/* Returns a value of the status; "" if it is missing. */
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
		pg_log_error("directory \"%s\" is not a store", dir);
	else if (!file.alive)
		printf("Store \"%s\" is not running.\n", dir);
	else
	{
		printf("Store \"%s\" is running (PID %d, port %d, socket directory \"%s\", %s).\n", dir, (int) file.pid,
			   file.port, file.socket_dir, file.state);
		if (res == NULL && strcmp(file.state, "ready") == 0)
			printf("It does not answer.\n");
		for (int i = 0; i < (res != NULL ? PQntuples(res) : 0); i++)
			if (strcmp(PQgetvalue(res, i, 0), "waits") == 0)
				printf("WAL of a compute is waiting: %s.\n", PQgetvalue(res, i, 1));
		if (*status_value(res, "restart_needed") != '\0')
			printf("Changed settings that require a restart: %s.\n", status_value(res, "restart_needed"));
	}
	PQclear(res);
	return !exists ? EXIT_NOT_FOUND : !file.alive ? EXIT_NOT_RUNNING
												  : 0;
}
