/*
 * pidfile.c
 *	  Servers by their lock files: do they run, are they ready, stop them.
 *
 * Both kinds of files have the process id in line 1, the port in line 4, the
 * socket directory in line 5; the state is in line 6 of a store's file and in
 * line 8 of postmaster.pid (utils/pidfile.h).
 */
#include "ps_fe.h"

#include <sys/wait.h>
#include <unistd.h>

#include "utils/pidfile.h"

#include "ctl.h"

#define STORE_LINE_STATE 6
#define POLL_INTERVAL_USEC 2000

/* A zombie that nobody reaps, as in a container without an init, is gone. */
bool
process_is_alive(pid_t pid)
{
	char		path[64];
	char		text[512];
	FILE	   *file;
	size_t		len;
	const char *paren;

	if (kill(pid, 0) != 0 && errno != EPERM)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
	file = fopen(path, "re");
	if (file == NULL)
		return errno != ENOENT;
	len = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[len] = '\0';
	paren = strrchr(text, ')');
	return paren == NULL || (paren[1] == ' ' && paren[2] != 'Z' && paren[2] != 'X');
}

static void
read_pidfile(const char *path, int state_line, PidFile *result)
{
	FILE	   *file = fopen(path, "re");
	char		line[MAXPGPATH];

	memset(result, 0, sizeof(*result));
	if (file == NULL)
	{
		if (errno != ENOENT)
			pg_fatal("could not open file \"%s\": %m", path);
		return;
	}
	for (int n = 1; fgets(line, sizeof(line), file) != NULL; n++)
	{
		line[strcspn(line, "\n")] = '\0';
		if (n == LOCK_FILE_LINE_PID)
			result->pid = atoi(line);
		else if (n == LOCK_FILE_LINE_PORT)
			result->port = atoi(line);
		else if (n == LOCK_FILE_LINE_SOCKET_DIR)
			strlcpy(result->socket_dir, line, sizeof(result->socket_dir));
		else if (n == state_line)
		{
			line[strcspn(line, " ")] = '\0';
			strlcpy(result->state, line, sizeof(result->state));
		}
	}
	fclose(file);
	result->found = result->pid > 0;
	result->alive = result->found && process_is_alive(result->pid);
}

void
read_store_pidfile(const char *store, PidFile *file)
{
	char	   *path = psprintf("%s/pageserver.pid", store);

	read_pidfile(path, STORE_LINE_STATE, file);
	pfree(path);
}

void
read_postmaster_pidfile(const char *pgdata, PidFile *file)
{
	char	   *path = psprintf("%s/postmaster.pid", pgdata);

	read_pidfile(path, LOCK_FILE_LINE_PM_STATUS, file);
	pfree(path);
}

/* Neither server tells us when it is ready, so we look: often, for a compute is ready in some tens of milliseconds. */
bool
wait_until_ready(void (*read_file) (const char *dir, PidFile *file), const char *dir, pid_t child, int timeout,
				 PidFile *file, bool *child_ended)
{
	for (int64 waited = 0; waited < (int64) timeout * 1000000; waited += POLL_INTERVAL_USEC)
	{
		int			status;

		*child_ended = waitpid(child, &status, WNOHANG) == child;
		if (*child_ended)
			return false;
		read_file(dir, file);
		if (file->pid == child && (strcmp(file->state, "ready") == 0 || strcmp(file->state, "standby") == 0))
			return true;
		pg_usleep(POLL_INTERVAL_USEC);
	}
	return false;
}

void
stop_server(void (*read_file) (const char *dir, PidFile *file), const char *dir, const PidFile *file, const char *mode,
			int timeout, bool no_wait, const char *what)
{
	int			signo = strcmp(mode, "smart") == 0 ? SIGTERM : strcmp(mode, "fast") == 0 ? SIGINT : SIGQUIT;

	if (kill(file->pid, signo) != 0 && errno != ESRCH)
		pg_fatal("could not send a signal to %s (PID %d): %m", what, (int) file->pid);
	if (no_wait)
		return;
	for (int64 waited = 0; waited < (int64) timeout * 1000000; waited += POLL_INTERVAL_USEC)
	{
		PidFile		now;

		if (!process_is_alive(file->pid))
			return;
		/* an orderly stop removes the file as the last thing */
		read_file(dir, &now);
		if (signo != SIGQUIT && (!now.found || now.pid != file->pid))
			return;
		pg_usleep(POLL_INTERVAL_USEC);
	}
	pg_log_error("%s (PID %d) did not stop in %d seconds", what, (int) file->pid, timeout);
	pg_log_error_hint("It may still be stopping. Look into its log; \"-m immediate\" does not wait for anything.");
	exit(1);
}
