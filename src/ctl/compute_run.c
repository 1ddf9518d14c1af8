/*
 * compute_run.c
 *	  A compute's supervisor: starts it anew after a crash.
 *
 * A stock postmaster starts its other processes again when one has crashed,
 * and recovers from its WAL.  A compute's directory boots once, so that its
 * postmaster ends instead (restart_after_crash is off in it), and the
 * supervisor starts another one on a fresh base backup.  The owner's setting
 * restart_after_crash tells whether it does.
 *
 * "compute run" is the supervisor, in the foreground, as a service manager
 * wants it; "compute start" leaves one behind.  Each start is made by a child
 * process that does what "compute start" does and ends: so no failure ends the
 * supervisor.  PostgreSQL, whose parent has ended then, becomes the
 * supervisor's child (PR_SET_CHILD_SUBREAPER).
 *
 * It also looks now and then whether settings in the directory have changed,
 * and has them kept with the branch.
 *
 * It follows the generation that it started: if any other compute of the branch
 * was started meanwhile, the store refuses, and the supervisor ends.
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

/* Pauses between starts, doubled with each; none before the first, or if the compute has lived for so long. */
#define FIRST_PAUSE_MS   1000
#define LONGEST_PAUSE_MS 30000
#define STEADY_SECONDS   60

/* How often it is looked whether settings in the directory have changed. */
#define SETTINGS_CHECK_MS 5000

typedef struct Supervisor
{
	Options options; /* with absolute paths: the supervisor leaves the directory that it was started in */
	const char *dir; /* of the compute */
	bool background;
	int report_fd;    /* background: whom to tell the exit code of the first start; -1: nobody any more */
	sigset_t signals; /* blocked, and waited for */
	sigset_t old_mask;
	pid_t postmaster;     /* 0: none */
	int asked;            /* the signal that has asked us to stop, or 0 */
	char *settings;       /* stamp of the settings that the branch has; NULL: not known */
	char *settings_now;   /* of those that settings_child looks after */
	pid_t settings_child; /* 0: none */
} Supervisor;

/* ---- the service manager ---- */

static char *notify_socket;

/* PostgreSQL would tell it, too, and of each crash that it stops. */
static void
notify_init(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	if (path != NULL && (path[0] == '/' || path[0] == '@'))
		notify_socket = pg_strdup(path);
	unsetenv("NOTIFY_SOCKET");
}

/* As sd_notify(); nothing happens without a service manager. */
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
		addr.sun_path[0] = '\0'; /* an abstract name */
	(void) sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *) &addr, offsetof(struct sockaddr_un, sun_path) + len);
	close(fd);
}

/* ---- signals and children ---- */

/*
 * Waits for a signal; 0: ms (-1: no limit) have passed.  One that asks us to
 * stop is noted.  A postmaster gets all but SIGCHLD, and takes them as it does
 * when it is started by hand.
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
		s->asked = signo;
		notify("STOPPING=1");
	}
	if (signo > 0 && signo != SIGCHLD && s->postmaster != 0)
		kill(s->postmaster, signo);
	return Max(signo, 0);
}

/* The child that looked after the settings has ended. */
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
 * Settings that ALTER SYSTEM, or the owner, has changed become the branch's, by
 * a child, for that may take long.  If it fails it is tried again.
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

/* Reaps all children that have ended; true, and its status, if this one is among them. */
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

/* The postmaster of the directory, if it is our child. */
static void
adopt(Supervisor *s)
{
	PidFile file;
	siginfo_t info;

	postmaster_kind.find(s->dir, &file);
	if (file.alive && waitid(P_PID, file.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0)
		s->postmaster = file.pid;
}

/* One start, after a generation (0: the first), in a child; its exit code.  Who asks us to stop ends it. */
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
		if (wait_signal(s, -1) != SIGCHLD && s->asked)
			kill(child, SIGTERM);
	adopt(s);
	/* it came too late for the signal */
	if (s->asked && s->postmaster != 0)
		kill(s->postmaster, s->asked);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* Until the postmaster ends; its status. */
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

/* Waits, unless we are asked to stop. */
static void
pause_for(Supervisor *s, int ms)
{
	struct timespec now;
	int64 end;
	int64 left = ms;

	clock_gettime(CLOCK_MONOTONIC, &now);
	end = now.tv_sec * INT64CONST(1000) + now.tv_nsec / 1000000 + ms;
	while (left > 0 && !s->asked)
	{
		int status;

		(void) wait_signal(s, (int) left);
		(void) reap(s, 0, &status);
		clock_gettime(CLOCK_MONOTONIC, &now);
		left = end - (now.tv_sec * INT64CONST(1000) + now.tv_nsec / 1000000);
	}
}

/* ---- the supervisor ---- */

/* In the background: messages go to the compute's log, which may have been moved away since the last time. */
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
 * The first start is over.  In the background: tells who waits for it, and
 * leaves its session, its user and its output.  Then others find us by our lock
 * file.
 */
static void
settle(Supervisor *s, int code)
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

/* After a failure: is the compute to be started again?  Says what has happened. */
static bool
is_to_be_started(const Supervisor *s, int status)
{
	char *value;
	bool wanted;

	open_output(s);
	pg_log_error("the compute in \"%s\" has ended: %s", s->dir, wait_result_to_str(status));
	/* as of a stock server: who kills the postmaster wants it to end */
	if (s->background && WIFSIGNALED(status))
		return false;
	value = compute_setting(&s->options, s->dir, "restart_after_crash");
	wanted = value != NULL && strcmp(value, "on") == 0;
	free(value);
	if (!wanted)
		pg_log_error_detail("It is not started again: \"restart_after_crash\" is off, or cannot be read.");
	return wanted;
}

/* The generation of the directory's last base backup; 0 if there is none. */
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

/* Starts the compute again and again until it runs; 0, or the exit code for which it is given up. */
static int
start_again(Supervisor *s, int *pause_ms)
{
	for (;;)
	{
		uint64 generation;
		int code;

		pause_for(s, *pause_ms);
		*pause_ms = Min(Max(*pause_ms * 2, FIRST_PAUSE_MS), LONGEST_PAUSE_MS);
		if (s->asked)
			return 0;
		notify("STATUS=starting again after a crash");
		open_output(s);
		generation = last_generation(s->dir);
		if (generation == 0)
		{
			pg_log_error("directory \"%s\" is no compute any more", s->dir);
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
		pg_fatal("could not become the parent of orphans: %m");
	sigemptyset(&s->signals);
	sigaddset(&s->signals, SIGTERM);
	sigaddset(&s->signals, SIGINT);
	sigaddset(&s->signals, SIGQUIT);
	sigaddset(&s->signals, SIGHUP);
	sigaddset(&s->signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &s->signals, &s->old_mask);

	code = attempt(s, 0);
	if (s->postmaster == 0)
		return s->asked && !s->background ? 0 : code;
	settle(s, code);
	while (s->postmaster != 0)
	{
		time_t started = time(NULL);
		int status;

		notify("READY=1\nSTATUS=running");
		status = watch(s);
		code = 0;
		if (s->asked || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
			break;
		code = 1;
		if (!is_to_be_started(s, status))
			break;
		if (time(NULL) - started >= STEADY_SECONDS)
			pause_ms = 0;
		code = start_again(s, &pause_ms);
	}
	/* one that was superseded has done its duty */
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
	/* it did not come so far: its exit code is that of the start */
	while (waitpid(child, &code, 0) < 0)
		if (errno != EINTR)
			return 1;
	return WIFEXITED(code) ? WEXITSTATUS(code) : 1;
}
