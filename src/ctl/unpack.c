/*
 * unpack.c
 *	  Passes the data of a COPY from the store to tar, which unpacks it: base
 *	  backups and exports.  No temporary file is used.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"

/* Lets tar work while we wait for the store.  1 MB is the limit for unprivileged users. */
#define PIPE_SIZE (1024 * 1024)

static volatile sig_atomic_t interrupted;

static void
handle_interrupt(int signo)
{
	interrupted = 1;
}

/* Installs the handler without SA_RESTART, so that a signal interrupts poll(). */
static void
catch_interrupts(void)
{
	struct sigaction action = {.sa_handler = handle_interrupt};

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

char *
find_tar(void)
{
	static const char *const places[] = {"/usr/bin/tar", "/bin/tar", "/usr/local/bin/tar"};

	for (int i = 0; i < lengthof(places); i++)
		if (access(places[i], X_OK) == 0)
			return pg_strdup(places[i]);
	pg_log_error("could not find the program \"tar\"");
	exit(1);
}

static pid_t
start_tar(const char *dir, const char *const *exclude, int *pipe_end)
{
	char *argv[32];
	int n = 0;
	int fds[2];
	pid_t pid;

	argv[n++] = find_tar();
	argv[n++] = "-x";
	argv[n++] = "-p";
	argv[n++] = "--warning=no-timestamp"; /* the store's clock may be ahead of ours */
	argv[n++] = "--anchored";
	for (; exclude != NULL && *exclude != NULL && n < lengthof(argv) - 6; exclude++)
		argv[n++] = psprintf("--exclude=%s", *exclude);
	argv[n++] = "-f";
	argv[n++] = "-";
	argv[n++] = "-C";
	argv[n++] = (char *) dir;
	argv[n] = NULL;

	if (pipe2(fds, O_CLOEXEC) != 0)
		pg_fatal("could not create a pipe: %m");
	(void) fcntl(fds[1], F_SETPIPE_SZ, PIPE_SIZE);
	pid = start_program(argv, fds[0], -1, false);
	close(fds[0]);
	*pipe_end = fds[1];
	return pid;
}

static bool
write_all(int fd, const char *data, size_t len)
{
	while (len > 0)
	{
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR && !interrupted)
			continue;
		if (n < 0)
		{
			if (!interrupted)
				pg_log_error("could not write to tar: %m");
			return false;
		}
		data += n;
		len -= n;
	}
	return true;
}

/* Overwrites the progress line, at most once per second; with last, ends it. */
static void
show_progress(const char *name, uint64 bytes, time_t started, bool last)
{
	static time_t shown;
	time_t now = time(NULL);

	if (name == NULL || !isatty(STDERR_FILENO) || (now == shown && !last))
		return;
	shown = now;
	fprintf(stderr, "\r%s: " UINT64_FORMAT " MB, " UINT64_FORMAT " MB/s  %s", name, bytes / (1024 * 1024),
			bytes / (1024 * 1024) / Max(now - started, 1), last ? "\n" : "");
}

/* Passes on all data of the COPY.  Returns true at its end; the COPY may still have failed (copy_succeeded()). */
static bool
copy_to_pipe(PGconn *conn, int fd, const char *progress)
{
	uint64 bytes = 0;
	time_t started = time(NULL);

	for (;;)
	{
		char *data;
		int len = PQgetCopyData(conn, &data, 1);

		if (interrupted)
			return false;
		if (len > 0)
		{
			bool ok = write_all(fd, data, len);

			PQfreemem(data);
			if (!ok)
				return false;
			bytes += len;
			show_progress(progress, bytes, started, false);
		}
		else if (len == 0)
		{
			struct pollfd pfd = {.fd = PQsocket(conn), .events = POLLIN};

			if (poll(&pfd, 1, -1) < 0 && errno != EINTR)
				pg_fatal("could not wait for the store: %m");
			if (!interrupted && !PQconsumeInput(conn))
			{
				pg_log_error("%s", PQerrorMessage(conn));
				return false;
			}
		}
		else
		{
			show_progress(progress, bytes, started, true);
			return true;
		}
	}
}

/* Reads the result that follows the data; reports an error. */
static bool
copy_succeeded(PGconn *conn)
{
	PGresult *res = PQgetResult(conn);
	bool ok = PQresultStatus(res) == PGRES_COMMAND_OK;

	if (!ok)
		store_report_error(conn, res);
	PQclear(res);
	return ok;
}

bool
unpack(PGconn *conn, const char *command, const char *dir, const char *const *exclude, const char *progress,
	   bool *begun)
{
	PGresult *res = PQexec(conn, command);
	pid_t tar;
	int fd;
	bool ok;

	if (begun != NULL)
		*begun = PQresultStatus(res) == PGRES_COPY_OUT;
	if (PQresultStatus(res) != PGRES_COPY_OUT)
	{
		store_report_error(conn, res);
		PQclear(res);
		return false;
	}
	PQclear(res);
	catch_interrupts();
	tar = start_tar(dir, exclude, &fd);
	ok = copy_to_pipe(conn, fd, progress) && copy_succeeded(conn);
	if (!ok)
	{
		int status;

		/* kill tar before closing the pipe, since a truncated archive may look complete to it */
		kill(tar, SIGKILL);
		while (waitpid(tar, &status, 0) < 0 && errno == EINTR)
			;
		close(fd);
		if (interrupted)
			pg_log_error("canceled by a signal");
		return false;
	}
	close(fd);
	return wait_program(tar, "tar");
}
