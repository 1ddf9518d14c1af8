/*
 * compute_run.c
 *	  A compute's supervisor, which restarts it after a crash.
 *
 * When a process has crashed, a stock postmaster restarts all its child processes
 * and recovers from WAL.  A compute's directory can boot only once, so its
 * postmaster ends instead (restart_after_crash is off while it runs), and the
 * supervisor starts a new one on a new base backup.  It does so if the owner's
 * setting of restart_after_crash is on.
 *
 * "compute run" is the supervisor in the foreground, for a service manager;
 * "compute start" leaves a supervisor in the background.  Each start is made by a
 * child process, which calls compute_start() and ends, so that a failure cannot
 * end the supervisor.  PostgreSQL, whose parent has ended, then becomes the
 * supervisor's child (PR_SET_CHILD_SUBREAPER).
 *
 * The supervisor also checks periodically whether settings in the directory have
 * changed, and stores them with the branch.
 *
 * Each restart names the generation of the last start: if another compute of the
 * branch was started in the meantime, the store refuses, and the supervisor ends.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "compute.h"

/*
 * Pauses between restarts: none before the first one, then doubled with each.  They
 * start over if the compute has run for STEADY_SECONDS.
 */
#define FIRST_PAUSE_MS   1000
#define LONGEST_PAUSE_MS 30000
#define STEADY_SECONDS   60

/* How often the settings in the directory are checked for changes. */
#define SETTINGS_CHECK_MS 5000

typedef struct Supervisor
{
	Options options; /* with absolute paths, because the supervisor changes its working directory */
	const char *dir; /* of the compute */
	bool background;
	int report_fd;    /* background: pipe for the exit code of the first start; otherwise -1 */
	sigset_t signals; /* blocked; received with sigtimedwait() */
	sigset_t old_mask;
	pid_t postmaster;     /* 0 if it is not running */
	int stop_signal;      /* the signal that requested a stop, or 0 */
	char *settings;       /* stamp of the settings that were stored with the branch; NULL if unknown */
	char *settings_now;   /* stamp of the settings that settings_child is storing */
	pid_t settings_child; /* 0 if there is none */
} Supervisor;

/* ---- the service manager ---- */

static char *notify_socket;

/*
 * Takes the service manager's socket from the environment and removes it there:
 * PostgreSQL would use it as well, and report each crash as the end of the service.
 */
static void
notify_init(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	if (path != NULL && (path[0] == '/' || path[0] == '@'))
		notify_socket = pg_strdup(path);
	unsetenv("NOTIFY_SOCKET");
}

/* Like sd_notify(); does nothing without a service manager. */
static void
notify(const char *state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = notify_socket != NULL ? strlen(notify_socket) : 0;
	int fd;

	if (len == 0 || len >= sizeof(addr.sun_path))
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	memcpy(addr.sun_path, notify_socket, len);
	if (addr.sun_path[0] == '@')
		addr.sun_path[0] = '\0'; /* abstract socket address */
	(void) sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *) &addr,
				  offsetof(struct sockaddr_un, sun_path) + len);
	close(fd);
}

/* ---- signals and children ---- */

/*
 * Waits for a signal for at most ms milliseconds (-1: no limit) and returns it, or
 * 0 after a timeout.  A signal that requests a stop is noted in stop_signal.  All
 * signals except SIGCHLD are passed on to the postmaster.
 */
static int
wait_signal(Supervisor *s, int ms)
{
	struct timespec timeout = {ms / 1000, ms % 1000 * 1000000L};
	int signo;

	do
	{
		signo = sigtimedwait(&s->signals, NULL, ms < 0 ? NULL : &timeout);
	} while (signo < 0 && errno == EINTR);
	if (signo == SIGTERM || signo == SIGINT || signo == SIGQUIT)
	{
		s->stop_signal = signo;
		notify("STOPPING=1");
	}
	if (signo > 0 && signo != SIGCHLD && s->postmaster != 0)
		kill(s->postmaster, signo);
	return Max(signo, 0);
}

/* settings_child has ended; kept says whether the settings are now stored with the branch. */
static void
settings_kept(Supervisor *s, bool kept)
{
	s->settings_child = 0;
	if (kept)
	{
		free(s->settings);
		s->settings = s->settings_now;
	}
	else
		free(s->settings_now);
	s->settings_now = NULL;
}

/*
 * If settings in the directory have changed (by ALTER SYSTEM or by the owner),
 * stores them with the branch.  A child process does it, because it may take long.
 * If it fails, the next call tries again.
 */
static void
keep_settings(Supervisor *s)
{
	char *now;

	if (s->settings_child != 0)
		return;
	now = compute_settings_stamp(s->dir);
	if (s->settings != NULL && strcmp(s->settings, now) == 0)
	{
		free(now);
		return;
	}
	fflush(NULL);
	s->settings_now = now;
	s->settings_child = fork();
	if (s->settings_child == 0)
	{
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		sigprocmask(SIG_SETMASK, &s->old_mask, NULL);
		exit(compute_settings_keep(s->dir) ? 0 : 1);
	}
	if (s->settings_child < 0)
		settings_kept(s, false);
}

/* Reaps all children that have ended.  If wanted is among them, sets *status to its status and returns true. */
static bool
reap(Supervisor *s, pid_t wanted, int *status)
{
	bool found = false;
	pid_t pid;
	int code;

	while ((pid = waitpid(-1, &code, WNOHANG)) > 0)
	{
		if (pid == s->settings_child)
			settings_kept(s, code == 0);
		if (pid != wanted)
			continue;
		found = true;
		*status = code;
	}
	return found;
}

/* Sets s->postmaster if the directory's postmaster is running and is a child of this process. */
static void
adopt(Supervisor *s)
{
	PidFile file;
	siginfo_t info;

	postmaster_kind.find(s->dir, &file);
	if (file.alive && waitid(P_PID, file.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0)
		s->postmaster = file.pid;
}

/*
 * Starts the compute in a child process and returns the exit code.  after is the
 * generation of the last start, or 0 for the first.  A signal that requests a stop
 * ends the child.
 */
static int
attempt(Supervisor *s, uint64 after)
{
	pid_t child;
	int status;

	fflush(NULL);
	child = fork();
	if (child < 0)
	{
		pg_log_error("could not start a process: %m");
		return 1;
	}
	if (child == 0)
	{
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		sigprocmask(SIG_SETMASK, &s->old_mask, NULL);
		exit(compute_start(&s->options, after));
	}
	while (!reap(s, child, &status))
		if (wait_signal(s, -1) != SIGCHLD && s->stop_signal)
			kill(child, SIGTERM);
	adopt(s);
	/* the postmaster was not known when the signal arrived */
	if (s->stop_signal && s->postmaster != 0)
		kill(s->postmaster, s->stop_signal);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* Waits until the postmaster ends and returns its status. */
static int
watch(Supervisor *s)
{
	int status;

	while (!reap(s, s->postmaster, &status))
		if (wait_signal(s, SETTINGS_CHECK_MS) == 0)
			keep_settings(s);
	s->postmaster = 0;
	return status;
}

/* Waits, but not longer than until a stop is requested. */
static void
pause_for(Supervisor *s, int ms)
{
	struct timespec now;
	int64 end;
	int64 left = ms;

	clock_gettime(CLOCK_MONOTONIC, &now);
	end = now.tv_sec * INT64CONST(1000) + now.tv_nsec / 1000000 + ms;
	while (left > 0 && !s->stop_signal)
	{
		int status;

		(void) wait_signal(s, (int) left);
		(void) reap(s, 0, &status);
		clock_gettime(CLOCK_MONOTONIC, &now);
		left = end - (now.tv_sec * INT64CONST(1000) + now.tv_nsec / 1000000);
	}
}

/* ---- the supervisor ---- */

/*
 * In the background, sends messages to the compute's log.  It is reopened each time,
 * because it may have been moved.
 */
static void
open_output(const Supervisor *s)
{
	char *path = psprintf("%s/log/postgres.log", s->dir);
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, S_IRUSR | S_IWUSR);

	pfree(path);
	if (!s->background || fd < 0)
		return;
	dup2(fd, STDERR_FILENO);
	close(fd);
}

/*
 * Called after the first successful start.  Takes the lock file, by which other
 * commands find the supervisor.  In the background, detaches from the session and
 * the output of "compute start" and reports the exit code to it.
 */
static void
start_supervision(Supervisor *s, int code)
{
	int null;

	if (s->background)
	{
		prctl(PR_SET_PDEATHSIG, 0);
		setsid();
	}
	become_user_for_good(&s->options);
	pidfile_lock_supervisor(s->dir);
	if (!s->background)
		return;
	null = open("/dev/null", O_RDWR);
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	close(null);
	open_output(s);
	(void) !write(s->report_fd, &code, sizeof(code));
	close(s->report_fd);
}

/* Logs that the compute has ended with a failure; returns whether it is to be restarted. */
static bool
is_to_be_restarted(const Supervisor *s, int status)
{
	char *value;
	bool wanted;

	open_output(s);
	pg_log_error("the compute in \"%s\" has ended: %s", s->dir, wait_result_to_str(status));
	/* like a stock server: a postmaster that was killed is not restarted */
	if (s->background && WIFSIGNALED(status))
		return false;
	value = compute_setting(&s->options, s->dir, "restart_after_crash");
	wanted = value != NULL && strcmp(value, "on") == 0;
	free(value);
	if (!wanted)
		pg_log_error_detail("The compute is not restarted because \"restart_after_crash\" is off or cannot be read.");
	return wanted;
}

/* Returns the generation of the directory's last base backup; 0 if there is none. */
static uint64
last_generation(const char *dir)
{
	char *conf = compute_dir_conf(dir);
	char *value = conf != NULL ? conf_value(conf, "pageserver_smgr.generation") : NULL;
	uint64 generation = value != NULL ? strtoull(value, NULL, 10) : 0;

	free(conf);
	free(value);
	return generation;
}

/*
 * Tries to start the compute until it is running or a stop is requested; returns 0
 * then.  Returns the exit code of a failure that is permanent.
 */
static int
start_again(Supervisor *s, int *pause_ms)
{
	for (;;)
	{
		uint64 generation;
		int code;

		pause_for(s, *pause_ms);
		*pause_ms = Min(Max(*pause_ms * 2, FIRST_PAUSE_MS), LONGEST_PAUSE_MS);
		if (s->stop_signal)
			return 0;
		notify("STATUS=restarting after a crash");
		open_output(s);
		generation = last_generation(s->dir);
		if (generation == 0)
		{
			pg_log_error("directory \"%s\" is no longer a compute", s->dir);
			return 1;
		}
		code = attempt(s, generation);
		if (s->postmaster != 0)
			return 0;
		if (code == EXIT_REFUSED || code == EXIT_NOT_FOUND)
			return code;
	}
}

static int
supervise(Supervisor *s)
{
	int pause_ms = 0;
	int code;

	if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
		pg_fatal("could not set PR_SET_CHILD_SUBREAPER: %m");
	sigemptyset(&s->signals);
	sigaddset(&s->signals, SIGTERM);
	sigaddset(&s->signals, SIGINT);
	sigaddset(&s->signals, SIGQUIT);
	sigaddset(&s->signals, SIGHUP);
	sigaddset(&s->signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &s->signals, &s->old_mask);

	code = attempt(s, 0);
	if (s->postmaster == 0)
		return s->stop_signal && !s->background ? 0 : code;
	start_supervision(s, code);
	while (s->postmaster != 0)
	{
		time_t started = time(NULL);
		int status;

		notify("READY=1\nSTATUS=running");
		status = watch(s);
		code = 0;
		if (s->stop_signal || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
			break;
		code = 1;
		if (!is_to_be_restarted(s, status))
			break;
		if (time(NULL) - started >= STEADY_SECONDS)
			pause_ms = 0;
		code = start_again(s, &pause_ms);
	}
	/* being superseded by another compute is not a failure */
	return code == EXIT_REFUSED ? 0 : code;
}

static void
init_supervisor(Supervisor *s, const Options *options)
{
	const char *store = store_name(options);

	memset(s, 0, sizeof(*s));
	s->options = *options;
	s->options.directory = s->dir = compute_dir_path(options);
	s->options.store = store_is_conninfo(store) ? store : absolute_path(store);
	if (options->bindir != NULL)
		s->options.bindir = absolute_path(options->bindir);
	s->report_fd = -1;
}

int
compute_run_foreground(const Options *options)
{
	Supervisor s;
	int code;

	init_supervisor(&s, options);
	notify_init();
	code = supervise(&s);
	pidfile_unlock_supervisor();
	return code;
}

int
compute_run_background(const Options *options)
{
	Supervisor s;
	int fds[2];
	pid_t child;
	int code;

	init_supervisor(&s, options);
	s.background = true;
	if (pipe2(fds, O_CLOEXEC) != 0)
		pg_fatal("could not create a pipe: %m");
	fflush(NULL);
	child = fork();
	if (child < 0)
		pg_fatal("could not start a process: %m");
	if (child == 0)
	{
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		close(fds[0]);
		s.report_fd = fds[1];
		unsetenv("NOTIFY_SOCKET");
		code = supervise(&s);
		pidfile_unlock_supervisor();
		return code;
	}
	close(fds[1]);
	if (read(fds[0], &code, sizeof(code)) == sizeof(code))
		return code;
	/* the supervisor ended before it reported; its exit code is that of the start */
	while (waitpid(child, &code, 0) < 0)
		if (errno != EINTR)
			return 1;
	return WIFEXITED(code) ? WEXITSTATUS(code) : 1;
}
