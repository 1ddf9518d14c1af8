/*
 * program.c
 *	  Running programs (program.h).
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backup/program.h"
#include "sqlstate.h"

extern char **environ;

/* At least this many of the last bytes of a program's output are kept. */
#define OUTPUT_KEPT 2000

/* Size of the pipe to a program: the most that ordinary users may have. */
#define PIPE_SIZE (1024 * 1024)

/* Resets the signals that the daemon blocks in its threads, and SIGPIPE, which it ignores. */
static void
set_signals(posix_spawnattr_t *attr)
{
	sigset_t none;
	sigset_t ignored;

	sigemptyset(&none);
	sigemptyset(&ignored);
	sigaddset(&ignored, SIGPIPE);
	posix_spawnattr_setsigmask(attr, &none);
	posix_spawnattr_setsigdefault(attr, &ignored);
	posix_spawnattr_setpgroup(attr, 0);
	posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
}

PsError *
program_start(Program *program, char *const argv[], bool with_input)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int in[2] = {-1, -1};
	int out[2];
	int rc;

	if (pipe2(out, O_CLOEXEC) != 0)
		return ps_error(PS_SQLSTATE_IO, "could not create a pipe: %m");
	if (with_input && pipe2(in, O_CLOEXEC) != 0)
	{
		close(out[0]);
		close(out[1]);
		return ps_error(PS_SQLSTATE_IO, "could not create a pipe: %m");
	}
	posix_spawn_file_actions_init(&actions);
	if (with_input)
		posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
	else
		posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDERR_FILENO);
	posix_spawnattr_init(&attr);
	set_signals(&attr);
	rc = posix_spawn(&program->pid, argv[0], &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	close(out[1]);
	if (with_input)
		close(in[0]);
	if (rc != 0)
	{
		close(out[0]);
		if (with_input)
			close(in[1]);
		errno = rc;
		return ps_error(PS_SQLSTATE_IO, "could not run \"%s\": %m", argv[0]);
	}
	if (with_input)
	{
		(void) fcntl(in[1], F_SETFL, O_NONBLOCK);
		(void) fcntl(in[1], F_SETPIPE_SZ, PIPE_SIZE);
	}
	program->path = argv[0];
	program->in = in[1];
	program->out = out[0];
	initStringInfo(&program->output);
	return NULL;
}

/* Reads output of the program and keeps its end.  Returns false at the end of the output. */
static bool
read_output(Program *program)
{
	StringInfo output = &program->output;
	char buf[1024];
	ssize_t n = read(program->out, buf, sizeof(buf));

	if (n <= 0)
		return n < 0 && errno == EINTR;
	appendBinaryStringInfo(output, buf, n);
	if (output->len > 2 * OUTPUT_KEPT)
	{
		memmove(output->data, output->data + output->len - OUTPUT_KEPT, OUTPUT_KEPT + 1);
		output->len = OUTPUT_KEPT;
	}
	return true;
}

PsError *
program_write(Program *program, const char *data, size_t len)
{
	while (len > 0)
	{
		struct pollfd pfds[2] = {{program->in, POLLOUT, 0}, {program->out, POLLIN, 0}};
		ssize_t n;

		/* read its output, too: a program that waits for that does not read its input */
		if (poll(pfds, 2, -1) < 0)
			continue;
		if ((pfds[1].revents & POLLIN) != 0)
			(void) read_output(program);
		if (pfds[0].revents == 0)
			continue;
		n = write(program->in, data, len);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return ps_error(PS_SQLSTATE_INTERNAL, "could not write to \"%s\": %m", program->path);
		data += n;
		len -= n;
	}
	return NULL;
}

/* Reads the output up to its end.  Returns an error if the wait was canceled before. */
static PsError *
wait_for_output(Program *program, const CancelCheck *cancel)
{
	for (;;)
	{
		struct pollfd pfd = {program->out, POLLIN, 0};

		if (poll(&pfd, 1, 100) > 0 && !read_output(program))
			return NULL;
		PS_TRY(cancel_check(cancel));
	}
}

PsError *
program_finish(Program *program, bool canceled, const CancelCheck *cancel)
{
	int status;
	PsError *err = NULL;

	if (canceled)
		kill(-program->pid, SIGKILL);
	if (program->in >= 0)
		close(program->in);
	if (!canceled && (err = wait_for_output(program, cancel)) != NULL)
		kill(-program->pid, SIGKILL);
	close(program->out);
	while (waitpid(program->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (err == NULL && canceled)
		err = ps_error(PS_SQLSTATE_CANCELED, "\"%s\" was canceled", program->path);
	else if (err == NULL && status != 0)
	{
		char *reason = wait_result_to_str(status);

		err = ps_error_detail(ps_error(PS_SQLSTATE_INTERNAL, "\"%s\" failed: %s", program->path, reason), "%s",
							  program->output.data);
		pfree(reason);
	}
	pfree(program->output.data);
	return err;
}

PsError *
program_run(char *const argv[], const CancelCheck *cancel)
{
	Program program;

	PS_TRY(program_start(&program, argv, false));
	return program_finish(&program, false, cancel);
}
