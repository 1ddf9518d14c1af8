/*
 * compute.c
 *	  Commands for computes that run: stop, status.
 */
#include "ps_fe.h"

#include <jansson.h>

#include "compute.h"

int
run_compute_stop(const Options *options)
{
	const ServerKind *kind = &supervisor_kind;
	char	   *dir = compute_dir_path(options);
	PidFile		file;

	if (compute_dir_conf(dir) == NULL)
	{
		pg_log_error("directory \"%s\" is no compute", dir);
		return EXIT_NOT_FOUND;
	}
	/* the supervisor passes it on, and starts nothing any more */
	supervisor_kind.find(dir, &file);
	if (!file.alive)
	{
		kind = &postmaster_kind;
		kind->find(dir, &file);
	}
	if (!file.alive)
	{
		pg_log_error("the compute in \"%s\" does not run", dir);
		return EXIT_NOT_RUNNING;
	}
	stop_server(kind, dir, &file, options->mode, options->timeout, false, "the compute");
	compute_settings_stopped(dir);
	print_done(options, psprintf("The compute in \"%s\" is stopped.", dir), "stopped", dir, NULL);
	return 0;
}

int
run_compute_status(const Options *options)
{
	static const char *const settings[] = {"tenant", "timeline", "generation", "checkpoint_lsn", "store"};
	char	   *dir = compute_dir_path(options);
	char	   *conf = compute_dir_conf(dir);
	PidFile		file;
	PidFile		supervisor;

	if (conf == NULL)
	{
		pg_log_error("directory \"%s\" is no compute", dir);
		return EXIT_NOT_FOUND;
	}
	supervisor_kind.find(dir, &supervisor);
	postmaster_kind.find(dir, &file);
	if (options->json)
	{
		json_t	   *status = json_pack("{s:s, s:b, s:b}", "directory", dir, "running", file.alive,
									   "supervised", supervisor.alive);

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
		printf("The compute in \"%s\" does not run%s.\n", dir, supervisor.alive ? ", and is being started again" : "");
	return file.alive ? 0 : EXIT_NOT_RUNNING;
}
