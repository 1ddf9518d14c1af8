/*
 * bootstrap.c
 *	  A fresh cluster: initdb in STORE/tmp, then its import.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backup.h"
#include "config.h"
#include "ps_wire.h"

extern char **environ;

/* What initdb says is kept up to this many bytes, the last ones. */
#define OUTPUT_KEPT 2000

/* Takes what the child has said; keeps the end.  False: there is no more to come. */
static bool
read_output(int fd, StringInfo output)
{
	char		buf[1024];
	ssize_t		n = read(fd, buf, sizeof(buf));

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

/* Reads all that the child says.  True: the wait was canceled before its end. */
static bool
wait_for_output(int fd, StringInfo output, const Waiter *waiter)
{
	for (;;)
	{
		struct pollfd pfd = {fd, POLLIN, 0};

		if (poll(&pfd, 1, 100) > 0 && !read_output(fd, output))
			return false;
		if (waiter != NULL && waiter->is_canceled(waiter->arg))
			return true;
	}
}

/*
 * Runs a program to its end, without a shell; what it says on both outputs is
 * the detail of an error.  If the wait is canceled it is killed, with all that
 * it has started.
 */
static PsError *
run_program(char *const argv[], const char *hint, const Waiter *waiter)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t	none;
	sigset_t	ignored;
	int			fds[2];
	pid_t		pid;
	int			status;
	int			rc;
	bool		canceled;
	StringInfoData output;
	PsError    *err = NULL;

	if (pipe2(fds, O_CLOEXEC) != 0)
		return ps_error(PS_SQLSTATE_IO, "could not create a pipe: %m");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDERR_FILENO);

	/* the daemon blocks signals in all of its threads, and ignores SIGPIPE */
	sigemptyset(&none);
	sigemptyset(&ignored);
	sigaddset(&ignored, SIGPIPE);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &ignored);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	rc = posix_spawn(&pid, argv[0], &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	if (rc != 0)
	{
		close(fds[0]);
		errno = rc;
		return ps_error_hint(ps_error(PS_SQLSTATE_IO, "could not run \"%s\": %m", argv[0]), "%s", hint);
	}

	initStringInfo(&output);
	canceled = wait_for_output(fds[0], &output, waiter);
	close(fds[0]);
	if (canceled)
		kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (canceled)
		err = ps_error(PS_SQLSTATE_CANCELED, "\"%s\" was canceled", argv[0]);
	else if (status != 0)
	{
		char	   *reason = wait_result_to_str(status);

		err = ps_error_detail(ps_error(PS_SQLSTATE_INTERNAL, "\"%s\" failed: %s", argv[0], reason), "%s", output.data);
		pfree(reason);
	}
	pfree(output.data);
	return err;
}

/*
 * Settings that do not depend on the environment that the daemon was started
 * in.  As initdb's own default, whoever may use the unix socket is trusted;
 * connections by TCP need a password.
 */
static PsError *
run_initdb(const Config *config, const char *dir, bool data_checksums, const Waiter *waiter)
{
	char	   *initdb = psprintf("%s/initdb", config->bindir);
	char	   *argv[] = {
		initdb, "-D", (char *) dir, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8",
		"--auth-local=trust", "--auth-host=scram-sha-256",
		"--no-sync",			/* the import reads it back, and makes that durable */
		"--no-instructions", data_checksums ? "--data-checksums" : NULL, NULL
	};
	PsError    *err = run_program(argv, "The setting \"bindir\" in pageserver.conf must name the directory of PostgreSQL's programs.", waiter);

	pfree(initdb);
	return err;
}

PsError *
branch_create(Store *store, const char *name, bool data_checksums, const Waiter *waiter, const ProgressSink *progress,
			  Timeline **tl)
{
	const Config *config = store_config(store);
	PsId		unique = ps_id_random();
	char		id[PS_ID_TEXT];
	char	   *dir;
	PsError    *err;

	PS_TRY(store_check_new_name(store, name));	/* before the second that initdb takes */
	dir = psprintf("%s/tmp/initdb-%s", config->store_dir, ps_id_format(&unique, id));
	err = run_initdb(config, dir, data_checksums, waiter);
	if (err == NULL)
		err = import_cluster(store, name, dir, waiter, progress, tl);
	if (access(dir, F_OK) == 0)
		(void) rmtree(dir, true);	/* says itself what it cannot remove; the next start does */
	pfree(dir);
	return err;
}
