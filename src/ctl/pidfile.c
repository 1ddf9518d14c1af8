/*
 * pidfile.c
 *	  Finds, waits for, signals and stops servers by their lock files.
 *
 * All kinds of lock files have the PID in line 1, the port in line 4 and the socket
 * directory in line 5.  The state is in line 6 of the file of a store or of a
 * supervisor, and in line 8 of postmaster.pid (utils/pidfile.h).
 *
 * A PID in a file proves nothing: the process may have been killed, and the PID
 * may have been reused.  A store and the supervisor of a compute hold a lock on
 * their file (flock) until they end.  PostgreSQL does not, so its process is
 * identified by its name and its working directory.  Signals are sent through a
 * pidfd, so that they reach the process that was checked and no other; root sends
 * them with the privileges of the file's owner, who may have written any PID into
 * the file.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "utils/pidfile.h"

#include "ctl.h"

#define STORE_PIDFILE      "pageserver.pid"
#define SUPERVISOR_PIDFILE "pageserver_ctl.pid"
#define LOCKED_LINE_STATE  6
#define POLL_INTERVAL_USEC 2000

/* How long a server that has just locked its file may take to write its PID. */
#define PID_USEC 1000000

/* How often locking is tried: other processes test the lock by holding it for a short time. */
#define LOCK_TRIES 50

/* Whether a process is the server of a directory. */
typedef enum Identity
{
	IS_ANOTHER, /* it is not, or it does not exist */
	IS_SERVER,
	IS_UNKNOWN /* we lack the permission to check */
} Identity;

/* A zombie is not alive: without an init process, as in some containers, nobody may ever reap it. */
static bool
process_is_alive(pid_t pid)
{
	char path[64];
	char text[512];
	FILE *file;
	size_t len;
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

/* Checks whether the process has this working directory and this name (NULL: any). */
static Identity
identify(pid_t pid, const char *dir, const char *name)
{
	char path[64];
	char comm[64] = "";
	struct stat cwd;
	struct stat st;
	FILE *file;

	if (pid <= 0 || !process_is_alive(pid))
		return IS_ANOTHER;
	snprintf(path, sizeof(path), "/proc/%d/cwd", (int) pid);
	if (stat(path, &cwd) != 0)
		return errno == EACCES || errno == EPERM ? IS_UNKNOWN : IS_ANOTHER;
	if (stat(dir, &st) != 0)
		pg_fatal("could not stat directory \"%s\": %m", dir);
	if (cwd.st_dev != st.st_dev || cwd.st_ino != st.st_ino)
		return IS_ANOTHER;
	snprintf(path, sizeof(path), "/proc/%d/comm", (int) pid);
	file = name != NULL ? fopen(path, "re") : NULL;
	if (file == NULL)
		return IS_SERVER;
	if (fgets(comm, sizeof(comm), file) != NULL)
		comm[strcspn(comm, "\n")] = '\0';
	fclose(file);
	return strcmp(comm, name) == 0 ? IS_SERVER : IS_ANOTHER;
}

/* Parses a lock file. */
static void
parse_pidfile(FILE *file, int state_line, PidFile *result)
{
	char line[MAXPGPATH];

	rewind(file);
	memset(result, 0, sizeof(*result));
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
		else if (n == LOCK_FILE_LINE_SHMEM_KEY && sscanf(line, "%lu %d", &result->shm_key, &result->shm_id) != 2)
			result->shm_key = 0;
	}
	result->found = result->pid > 0;
}

/* Opens a lock file; returns NULL if it does not exist. */
static FILE *
open_pidfile(const char *dir, const char *name)
{
	char *path = psprintf("%s/%s", dir, name);
	FILE *file = fopen(path, "re");

	if (file == NULL && errno != ENOENT)
		pg_fatal("could not open file \"%s\": %m", path);
	pfree(path);
	return file;
}

static void
read_pidfile(const char *dir, const char *name, int state_line, PidFile *result)
{
	FILE *file = open_pidfile(dir, name);

	memset(result, 0, sizeof(*result));
	if (file == NULL)
		return;
	parse_pidfile(file, state_line, result);
	fclose(file);
}

static void
read_store_pidfile(const char *store, PidFile *result)
{
	read_pidfile(store, STORE_PIDFILE, LOCKED_LINE_STATE, result);
}

static void
read_postmaster_pidfile(const char *pgdata, PidFile *result)
{
	read_pidfile(pgdata, "postmaster.pid", LOCK_FILE_LINE_PM_STATUS, result);
}

/*
 * Finds a server that locks its file (flock): it is running if the lock is held.
 * Since it locks the file before it writes its PID, the file is read until the PID
 * is that of a process whose working directory is works_in.
 */
static void
find_by_lock(const char *dir, const char *name, const char *works_in, PidFile *result)
{
	FILE *file = open_pidfile(dir, name);
	bool locked;
	struct stat st;

	memset(result, 0, sizeof(*result));
	if (file == NULL)
		return;
	locked = flock(fileno(file), LOCK_SH | LOCK_NB) != 0;
	if (locked && errno != EWOULDBLOCK)
		pg_fatal("could not test the lock on \"%s/%s\": %m", dir, name);
	(void) flock(fileno(file), LOCK_UN);
	for (int64 waited = 0;; waited += POLL_INTERVAL_USEC)
	{
		parse_pidfile(file, LOCKED_LINE_STATE, result);
		if (!locked || identify(result->pid, works_in, NULL) != IS_ANOTHER)
			break;
		if (waited >= PID_USEC)
		{
			result->pid = 0;
			break;
		}
		pg_usleep(POLL_INTERVAL_USEC);
	}
	result->alive = locked;
	if (fstat(fileno(file), &st) == 0)
		result->owner = st.st_uid;
	fclose(file);
}

static void
find_store(const char *store, PidFile *result)
{
	find_by_lock(store, STORE_PIDFILE, store, result);
}

static void
read_supervisor_pidfile(const char *dir, PidFile *result)
{
	read_pidfile(dir, SUPERVISOR_PIDFILE, LOCKED_LINE_STATE, result);
}

static void
find_supervisor(const char *dir, PidFile *result)
{
	find_by_lock(dir, SUPERVISOR_PIDFILE, "/", result);
}

static void
find_postmaster(const char *pgdata, PidFile *result)
{
	FILE *file = open_pidfile(pgdata, "postmaster.pid");
	struct stat st;

	memset(result, 0, sizeof(*result));
	if (file == NULL)
		return;
	parse_pidfile(file, LOCK_FILE_LINE_PM_STATUS, result);
	result->alive = result->found && identify(result->pid, pgdata, "postgres") != IS_ANOTHER;
	if (fstat(fileno(file), &st) == 0)
		result->owner = st.st_uid;
	fclose(file);
}

const ServerKind store_kind = {read_store_pidfile, find_store};
const ServerKind postmaster_kind = {read_postmaster_pidfile, find_postmaster};
const ServerKind supervisor_kind = {read_supervisor_pidfile, find_supervisor};

/* ---- the supervisor's lock file ---- */

static char *supervisor_file;

void
pidfile_lock_supervisor(const char *dir)
{
	char *path = psprintf("%s/%s", dir, SUPERVISOR_PIDFILE);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
	char *text = psprintf("%d\n%s\n%ld\n\n\nready\n", (int) getpid(), dir, (long) time(NULL));
	int tries = 0;

	if (fd < 0)
		pg_fatal("could not open file \"%s\": %m", path);
	while (flock(fd, LOCK_EX | LOCK_NB) != 0)
	{
		if (errno != EWOULDBLOCK || ++tries == LOCK_TRIES)
			pg_fatal("could not lock file \"%s\": %m", path);
		pg_usleep(POLL_INTERVAL_USEC);
	}
	errno = ENOSPC; /* if write() is short, assume that the disk is full */
	if (ftruncate(fd, 0) != 0 || write(fd, text, strlen(text)) != (ssize_t) strlen(text) || chdir("/") != 0)
		pg_fatal("could not write file \"%s\": %m", path);
	pfree(text);
	supervisor_file = path;
}

void
pidfile_unlock_supervisor(void)
{
	if (supervisor_file != NULL)
		(void) unlink(supervisor_file);
}

/*
 * Uses PostgreSQL's own test: the shared memory segment belongs to this directory
 * (its key is derived from the inode) and has processes attached.
 */
bool
pidfile_has_orphans(const PidFile *file)
{
	struct shmid_ds shm;

	return file->found && !file->alive && file->shm_key != 0 && shmctl(file->shm_id, IPC_STAT, &shm) == 0 &&
		   (unsigned long) shm.shm_perm.__key == file->shm_key && shm.shm_nattch > 0;
}

/* The servers do not notify us, so the lock file is polled.  A compute is ready within tens of milliseconds. */
bool
pidfile_wait_ready(const ServerKind *kind, const char *dir, pid_t child, int timeout, PidFile *file, bool *child_ended)
{
	for (int64 waited = 0; waited < (int64) timeout * 1000000; waited += POLL_INTERVAL_USEC)
	{
		int status;

		*child_ended = waitpid(child, &status, WNOHANG) == child;
		if (*child_ended)
			return false;
		kind->read(dir, file);
		if (file->pid == child && (strcmp(file->state, "ready") == 0 || strcmp(file->state, "standby") == 0))
			return true;
		pg_usleep(POLL_INTERVAL_USEC);
	}
	return false;
}

/* Sends a signal; root does it with the privileges of the lock file's owner.  Returns 0 or an errno. */
static int
send_signal(int pidfd, uid_t owner, int signo)
{
	pid_t child;
	int status;

	if (geteuid() != 0 || owner == 0)
		return pidfd_send_signal(pidfd, signo, NULL, 0) == 0 ? 0 : errno;
	fflush(NULL);
	child = fork();
	if (child < 0)
		return errno;
	if (child == 0)
	{
		if (setgroups(0, NULL) != 0 || setuid(owner) != 0 || pidfd_send_signal(pidfd, signo, NULL, 0) != 0)
			_exit(errno);
		_exit(0);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
}

/* Sends a signal and returns a pidfd of the server, or -1 if the server has already ended. */
static int
signal_by_pidfd(const ServerKind *kind, const char *dir, const PidFile *file, int signo, const char *what)
{
	PidFile now;
	int pidfd;
	int error;

	if (file->pid == 0)
	{
		pg_log_error("%s in \"%s\" is running, but its process is not visible from here", what, dir);
		pg_log_error_hint("Run the command where the server was started, for example in the same container.");
		exit(1);
	}
	pidfd = pidfd_open(file->pid, 0);
	if (pidfd < 0 && errno != ESRCH)
		pg_fatal("could not open process %d: %m", (int) file->pid);
	/* now that the pidfd is open, check once more that the PID is the server's */
	kind->find(dir, &now);
	if (pidfd < 0 || !now.alive || now.pid != file->pid)
		return -1;
	error = send_signal(pidfd, file->owner, signo);
	if (error != 0 && error != ESRCH)
	{
		errno = error;
		pg_fatal("could not send a signal to %s (PID %d): %m", what, (int) file->pid);
	}
	return pidfd;
}

bool
pidfile_signal_server(const ServerKind *kind, const char *dir, const PidFile *file, int signo, const char *what)
{
	int pidfd = signal_by_pidfd(kind, dir, file, signo, what);

	if (pidfd >= 0)
		close(pidfd);
	return pidfd >= 0;
}

void
pidfile_stop_server(const ServerKind *kind, const char *dir, const PidFile *file, const char *mode, int timeout,
					bool no_wait, const char *what)
{
	int signo = strcmp(mode, "smart") == 0 ? SIGTERM : strcmp(mode, "fast") == 0 ? SIGINT
																				 : SIGQUIT;
	struct pollfd pfd = {.events = POLLIN};
	PidFile now;

	pfd.fd = signal_by_pidfd(kind, dir, file, signo, what);
	if (pfd.fd < 0)
		return;
	for (int64 waited = 0; !no_wait && waited < (int64) timeout * 1000000; waited += POLL_INTERVAL_USEC)
	{
		/* an orderly shutdown removes the lock file last */
		kind->read(dir, &now);
		if ((signo != SIGQUIT && (!now.found || now.pid != file->pid)) ||
			poll(&pfd, 1, POLL_INTERVAL_USEC / 1000) > 0)
			no_wait = true;
	}
	close(pfd.fd);
	if (no_wait)
		return;
	pg_log_error("%s (PID %d) did not stop within %d seconds", what, (int) file->pid, timeout);
	pg_log_error_hint("It may still be stopping; examine its log. \"-m immediate\" stops it at once.");
	exit(EXIT_TIMEOUT);
}
