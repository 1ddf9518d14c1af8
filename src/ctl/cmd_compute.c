/*
 * cmd_compute.c
 *	  The commands compute start, run, stop and status.
 */
#include "ps_fe.h"

#include <jansson.h>
#include <sys/stat.h>
#include <time.h>

#include "compute.h"

/* The compute's WAL worker writes the file at least every 10 s; after STATUS_STALE seconds it must be hanging. */
#define STATUS_FILE  "pageserver_smgr.status"
#define STATUS_STALE 60

int
cmd_compute_start(const Options *options)
{
	return compute_run_background(options);
}

int
cmd_compute_run(const Options *options)
{
	return compute_run_foreground(options);
}

int
cmd_compute_stop(const Options *options)
{
	const ServerKind *kind = &supervisor_kind;
	char *dir = compute_dir_path(options);
	PidFile file;

	if (compute_dir_conf(dir) == NULL)
	{
		pg_log_error("directory \"%s\" is not a compute", dir);
		return EXIT_NOT_FOUND;
	}
	/* the supervisor passes the signal on and does not restart the compute */
	supervisor_kind.find(dir, &file);
	if (!file.alive)
	{
		kind = &postmaster_kind;
		kind->find(dir, &file);
	}
	if (!file.alive)
	{
		pg_log_error("the compute in \"%s\" is not running", dir);
		return EXIT_NOT_RUNNING;
	}
	pidfile_stop_server(kind, dir, &file, options->mode, options->timeout, false, "the compute");
	(void) compute_settings_keep(dir);
	print_done(options, psprintf("The compute in \"%s\" was stopped.", dir), "stopped", dir, NULL);
	return 0;
}

/*
 * Reads the file that the compute's WAL worker writes
 * (src/compute/wal_worker_status.c); NULL if it is missing or cannot be read.
 */
static json_t *
read_status_file(const char *dir, pid_t postmaster)
{
	char *path = psprintf("%s/" STATUS_FILE, dir);
	json_t *status = json_load_file(path, 0, NULL);

	/* a compute that was killed leaves its file behind */
	if (status != NULL && json_integer_value(json_object_get(status, "pid")) != postmaster)
	{
		json_decref(status);
		status = NULL;
	}
	pfree(path);
	return status;
}

/* Returns why and since when the compute is waiting, malloc'd, or NULL if it is not waiting. */
static char *
compute_wait(const char *dir, const json_t *status)
{
	const char *waits_for = json_string_value(json_object_get(status, "waits_for"));
	const char *since = json_string_value(json_object_get(status, "waits_since"));
	char *path = psprintf("%s/" STATUS_FILE, dir);
	char *result = NULL;
	struct stat st;

	if (status != NULL && stat(path, &st) == 0 && time(NULL) - st.st_mtime > STATUS_STALE)
		result = psprintf("its WAL worker has not updated \"%s\" for %ld s", path, (long) (time(NULL) - st.st_mtime));
	else if (waits_for != NULL)
		result = psprintf("%s, since %s", waits_for, since != NULL ? since : "?");
	pfree(path);
	return result;
}

int
cmd_compute_status(const Options *options)
{
	static const char *const settings[] = {"tenant", "timeline", "generation", "checkpoint_lsn", "store"};
	char *dir = compute_dir_path(options);
	char *conf = compute_dir_conf(dir);
	json_t *told = NULL;
	char *wait = NULL;
	PidFile file;
	PidFile supervisor;

	if (conf == NULL)
	{
		pg_log_error("directory \"%s\" is not a compute", dir);
		return EXIT_NOT_FOUND;
	}
	supervisor_kind.find(dir, &supervisor);
	postmaster_kind.find(dir, &file);
	if (file.alive)
		told = read_status_file(dir, file.pid);
	if (strcmp(file.state, "ready") == 0)
		wait = compute_wait(dir, told);
	if (options->json)
	{
		json_t *status = json_pack("{s:s, s:b, s:b}", "directory", dir, "running", file.alive,
								   "supervised", supervisor.alive);

		if (file.alive)
		{
			json_object_set_new(status, "pid", json_integer(file.pid));
			json_object_set_new(status, "port", json_integer(file.port));
			json_object_set_new(status, "unix_socket_directory", json_string(file.socket_dir));
			json_object_set_new(status, "state", json_string(wait != NULL ? "waiting" : file.state));
			json_object_set_new(status, "waits_for", wait != NULL ? json_string(wait) : json_null());
			json_object_set_new(status, "worker", told != NULL ? json_incref(told) : json_null());
		}
		for (int i = 0; i < lengthof(settings); i++)
		{
			char *name = psprintf("%s.%s", PS_LIBRARY, settings[i]);
			char *value = conf_value(conf, name);

			json_object_set_new(status, settings[i], value ? json_string(value) : json_null());
			free(value);
			pfree(name);
		}
		json_dumpf(status, stdout, JSON_INDENT(2));
		printf("\n");
		json_decref(status);
	}
	else if (wait != NULL)
		printf("The compute in \"%s\" is running (PID %d, port %d), but is waiting: %s.\n", dir, (int) file.pid,
			   file.port, wait);
	else if (file.alive)
		printf("The compute in \"%s\" is running (PID %d, port %d, %s).\n", dir, (int) file.pid, file.port, file.state);
	else
		printf("The compute in \"%s\" is not running%s.\n", dir, supervisor.alive ? ", but is being restarted" : "");
	return !file.alive ? EXIT_NOT_RUNNING : wait != NULL ? EXIT_WAITS
														 : 0;
}
