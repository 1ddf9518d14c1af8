/*
 * process.c
 *	  Users, directories, other programs, small files.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bindir.h"
#include "ctl.h"

/* How much of a log show_log() shows. */
#define LOG_LINES_SHOWN 20
#define LOG_BYTES_READ  16384

#define LOG_FLAGS (O_WRONLY | O_APPEND | O_CLOEXEC)

char *
absolute_path(const char *path)
{
	char *result = make_absolute_path(path);

	if (result == NULL)
		exit(1); /* the error was reported */
	return result;
}

static const struct passwd *
target_user(const Options *options)
{
	const struct passwd *pw;

	errno = 0;
	pw = getpwnam(options->user);
	if (pw == NULL)
	{
		pg_log_error("could not find user \"%s\"%s%s", options->user, errno ? ": " : "", errno ? strerror(errno) : "");
		pg_log_error_hint("PostgreSQL cannot be run as root. Specify the user to run as with --user.");
		exit(1);
	}
	if (pw->pw_uid == 0)
		pg_fatal("cannot run PostgreSQL as root (user \"%s\")", options->user);
	return pw;
}

/* The root process: waits for the child, and removes the directory if only root can do that. */
static void
wait_as_root(pid_t child, const char *made)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			_exit(1);
	if (status != 0 && made != NULL)
		(void) rmdir(made); /* fails if it is not empty */
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static void
change_user(const struct passwd *pw)
{
	if (initgroups(pw->pw_name, pw->pw_gid) != 0 || setgid(pw->pw_gid) != 0 || setuid(pw->pw_uid) != 0)
		pg_fatal("could not become user \"%s\": %m", pw->pw_name);
	setenv("HOME", pw->pw_dir, 1);
	setenv("USER", pw->pw_name, 1);
	setenv("LOGNAME", pw->pw_name, 1);
}

void
become_user(const Options *options, const char *made)
{
	const struct passwd *pw;
	pid_t child;

	if (geteuid() != 0)
		return;
	pw = target_user(options);
	fflush(NULL);
	child = fork();
	if (child < 0)
		pg_fatal("could not start a process: %m");
	if (child > 0)
	{
		/* a terminal sends these to the child as well; end when it ends */
		signal(SIGINT, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		wait_as_root(child, made);
	}
	change_user(pw);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
}

void
become_user_for_good(const Options *options)
{
	if (geteuid() == 0)
		change_user(target_user(options));
}

bool
make_directory(const Options *options, const char *path)
{
	int kind = pg_check_dir(path);

	if (kind < 0)
		pg_fatal("could not read directory \"%s\": %m", path);
	if (kind > 1)
	{
		pg_log_error("directory \"%s\" is not empty", path);
		pg_log_error_hint("Specify a directory that does not exist or is empty%s.",
						  kind == 3 ? ", for example one below the mount point" : "");
		exit(1);
	}
	if (kind == 0)
	{
		char *copy = pg_strdup(path); /* pg_mkdir_p() modifies its argument */

		if (pg_mkdir_p(copy, S_IRWXU) != 0)
			pg_fatal("could not create directory \"%s\": %m", path);
		free(copy);
	}
	if (geteuid() == 0)
	{
		const struct passwd *pw = target_user(options);

		if (chown(path, pw->pw_uid, pw->pw_gid) != 0)
			pg_fatal("could not change owner of directory \"%s\" to \"%s\": %m", path, pw->pw_name);
	}
	if (chmod(path, S_IRWXU) != 0)
		pg_fatal("could not change permissions of directory \"%s\": %m", path);
	return kind == 0;
}

char *
postgres_program(const Options *options, const char *name)
{
	char *path = psprintf("%s/%s", options->bindir ? options->bindir : bindir_default(), name);

	if (access(path, X_OK) != 0)
	{
		pg_log_error("could not find the program \"%s\": %m", path);
		pg_log_error_hint("Install PostgreSQL " PG_MAJORVERSION ", or specify the directory of its programs with "
						  "--bindir.");
		exit(1);
	}
	return path;
}

/* Installed programs are in the directory of this one; in the source tree, each has its own directory. */
char *
own_program(const char *name)
{
	char self[MAXPGPATH];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *path;

	if (len < 0)
		pg_fatal("could not determine the path of this program: %m");
	self[len] = '\0';
	get_parent_directory(self);
	path = psprintf("%s/%s", self, name);
	if (access(path, X_OK) != 0)
	{
		pfree(path);
		path = psprintf("%s/../%s/%s", self, name, name);
	}
	if (access(path, X_OK) != 0)
	{
		pg_log_error("could not find the program \"%s\" in \"%s\", the directory of pageserver_ctl", name, self);
		pg_log_error_hint("\"make install\" installs both.");
		exit(1);
	}
	return path;
}

/* Runs in the child process; calls execv(). */
static void
exec_program(char *const argv[], int in, int out, int error, bool detach)
{
	int null = open("/dev/null", O_RDWR);

	if (detach)
		setsid();
	dup2(in >= 0 ? in : null, STDIN_FILENO);
	if (out >= 0)
		dup2(out, STDOUT_FILENO);
	if (error >= 0)
		dup2(error, STDERR_FILENO);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	if (null > STDERR_FILENO)
		close(null);
	execv(argv[0], argv);
	fprintf(stderr, "pageserver_ctl: error: could not run \"%s\": %s\n", argv[0], strerror(errno));
	_exit(127);
}

static pid_t
fork_program(char *const argv[], int in, int out, int error, bool detach)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		pg_fatal("could not start a process: %m");
	if (pid == 0)
		exec_program(argv, in, out, error, detach);
	return pid;
}

pid_t
start_program(char *const argv[], int in, int out, bool detach)
{
	return fork_program(argv, in, out, out, detach);
}

char *
read_program(char *const argv[], const char *name)
{
	StringInfoData text;
	int fds[2];
	pid_t pid;
	char buf[4096];
	ssize_t n;

	if (pipe2(fds, O_CLOEXEC) != 0)
		pg_fatal("could not create a pipe: %m");
	pid = fork_program(argv, -1, fds[1], -1, false);
	close(fds[1]);
	initStringInfo(&text);
	while ((n = read(fds[0], buf, sizeof(buf))) > 0 || (n < 0 && errno == EINTR))
		if (n > 0)
			appendBinaryStringInfo(&text, buf, n);
	close(fds[0]);
	if (!wait_program(pid, name))
	{
		pfree(text.data);
		return NULL;
	}
	if (text.len > 0 && text.data[text.len - 1] == '\n')
		text.data[text.len - 1] = '\0';
	return text.data;
}

bool
wait_program(pid_t pid, const char *name)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			pg_fatal("could not wait for \"%s\": %m", name);
	if (status == 0)
		return true;
	pg_log_error("\"%s\" failed: %s", name, wait_result_to_str(status));
	return false;
}

/* ---- small files ---- */

/* Opens the log as the user of --user; returns -1 with errno set if that fails. */
static int
open_log_as_user(const Options *options, const char *path)
{
	uid_t uid = geteuid();
	int fd;

	if (uid == 0 && seteuid(target_user(options)->pw_uid) != 0)
		pg_fatal("could not become user \"%s\": %m", options->user);
	fd = open(path, LOG_FLAGS | O_CREAT, S_IRUSR | S_IWUSR);
	if (uid == 0)
	{
		int save_errno = errno;

		if (seteuid(uid) != 0)
			pg_fatal("could not become root again: %m");
		errno = save_errno;
	}
	return fd;
}

/*
 * Opens a log in a directory in which only root can write, such as root's home: a
 * new file is given to the user.  An existing file is used if it is a regular file.
 * Symbolic links are not followed, since root would write to wherever they point.
 */
static int
open_log_as_root(const Options *options, const char *path)
{
	int fd = open(path, LOG_FLAGS | O_CREAT | O_EXCL | O_NOFOLLOW, S_IRUSR | S_IWUSR);
	struct stat st;

	if (fd >= 0)
	{
		const struct passwd *pw = target_user(options);

		if (fchown(fd, pw->pw_uid, pw->pw_gid) != 0)
			pg_fatal("could not change owner of log file \"%s\" to \"%s\": %m", path, pw->pw_name);
		return fd;
	}
	if (errno != EEXIST)
		return -1;
	fd = open(path, LOG_FLAGS | O_NOFOLLOW);
	if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)))
		pg_fatal("log file \"%s\" is not a regular file", path);
	return fd;
}

int
open_log(const Options *options, const char *path, off_t *end)
{
	int fd = open_log_as_user(options, path);

	if (fd < 0 && errno == EACCES && geteuid() == 0)
		fd = open_log_as_root(options, path);
	if (fd < 0)
		pg_fatal("could not open log file \"%s\": %m", path);
	*end = lseek(fd, 0, SEEK_END);
	return fd;
}

void
show_log(const char *path, off_t from)
{
	char text[LOG_BYTES_READ + 1];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t len;
	char *start;
	int lines = 0;

	if (fd < 0 || fstat(fd, &st) != 0)
		return;
	len = pread(fd, text, LOG_BYTES_READ, Max(from, st.st_size - LOG_BYTES_READ));
	close(fd);
	if (len <= 0)
		return;
	text[len] = '\0';
	for (start = text + len - 1; start > text; start--)
		if (start[-1] == '\n' && ++lines == LOG_LINES_SHOWN)
			break;
	fprintf(stderr, "--- end of \"%s\" ---\n%s%s---\n", path, start, text[len - 1] == '\n' ? "" : "\n");
}

char *
read_text_file(const char *path)
{
	FILE *file = fopen(path, "re");
	StringInfoData text;
	char buf[4096];
	size_t n;

	if (file == NULL)
	{
		if (errno != ENOENT)
			pg_fatal("could not open file \"%s\": %m", path);
		return NULL;
	}
	initStringInfo(&text);
	while ((n = fread(buf, 1, sizeof(buf), file)) > 0)
		appendBinaryStringInfo(&text, buf, n);
	if (ferror(file))
		pg_fatal("could not read file \"%s\": %m", path);
	fclose(file);
	return text.data;
}

void
write_text_file(const char *path, const char *text, bool append)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (append ? O_APPEND : O_TRUNC), S_IRUSR | S_IWUSR);

	if (fd < 0)
		pg_fatal("could not open file \"%s\" for writing: %m", path);
	errno = ENOSPC; /* if write() is short, assume that the disk is full */
	if (write(fd, text, strlen(text)) != (ssize_t) strlen(text) || close(fd) != 0)
		pg_fatal("could not write file \"%s\": %m", path);
}

bool
remove_path(const char *dir, const char *name)
{
	char *path = psprintf("%s/%s", dir, name);
	struct stat st;
	bool ok = true;

	if (lstat(path, &st) != 0)
		ok = errno == ENOENT;
	else
		ok = S_ISDIR(st.st_mode) ? rmtree(path, true) : unlink(path) == 0;
	if (!ok)
		pg_log_error("could not remove \"%s\": %m", path);
	pfree(path);
	return ok;
}

bool
empty_directory(const char *path, bool itself)
{
	DIR *dir = opendir(path);
	struct dirent *de;
	bool ok = true;

	if (dir == NULL)
	{
		pg_log_error("could not open directory \"%s\": %m", path);
		return false;
	}
	while ((de = readdir(dir)) != NULL)
	{
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			ok &= remove_path(path, de->d_name);
	}
	closedir(dir);
	/* if started by root, the waiting root process removes it (become_user()) */
	if (itself && ok && rmdir(path) != 0 && errno != EACCES)
	{
		pg_log_error("could not remove directory \"%s\": %m", path);
		ok = false;
	}
	return ok;
}
