/*
 * log.c
 *	  The daemon's log: see error.h.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "sqlstate.h"

PsLogLevel ps_log_level = PS_LOG;

static char log_path[MAXPGPATH]; /* set once, by ps_log_begin(); "" if standard error is not a regular file */
static __thread char thread_name[16] = "main";

void
ps_thread_name(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(thread_name, sizeof(thread_name), fmt, args);
	va_end(args);
	pthread_setname_np(pthread_self(), thread_name);
}

void
ps_log(PsLogLevel level, const char *fmt, ...)
{
	static const char *const names[] = {"DEBUG", "LOG", "WARNING", "FATAL"};
	int save_errno = errno;
	char line[4096];
	struct timeval tv;
	struct tm tm;
	size_t len;
	va_list args;

	if (level < __atomic_load_n(&ps_log_level, __ATOMIC_RELAXED))
		return;
	gettimeofday(&tv, NULL);
	gmtime_r(&tv.tv_sec, &tm);
	len = strftime(line, sizeof(line), "%Y-%m-%d %H:%M:%S", &tm);
	len += snprintf(line + len, sizeof(line) - len, ".%03d UTC [%d %s] %s:  ", (int) (tv.tv_usec / 1000),
					(int) getpid(), thread_name, names[level]);
	errno = save_errno;
	va_start(args, fmt);
	len += vsnprintf(line + len, sizeof(line) - len - 1, fmt, args);
	va_end(args);
	len = Min(len, sizeof(line) - 2);
	/* messages contain texts of clients, which must not be able to forge a log line */
	for (size_t i = 0; i < len; i++)
		if ((unsigned char) line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[len++] = '\n';
	while (write(STDERR_FILENO, line, len) < 0 && errno == EINTR)
		;
	errno = save_errno;
}

void
ps_log_error(PsLogLevel level, PsError *err, const char *what, ...)
{
	char prefix[512];
	va_list args;

	va_start(args, what);
	vsnprintf(prefix, sizeof(prefix), what, args);
	va_end(args);
	ps_log(level, "%s: %s%s%s%s%s", prefix, err->message, err->detail ? " DETAIL:  " : "",
		   err->detail ? err->detail : "", err->hint ? " HINT:  " : "", err->hint ? err->hint : "");
	ps_error_free(err);
}

/* Are both descriptors, or the name and the descriptor, the same regular file? */
static bool
same_file(const struct stat *a, const struct stat *b)
{
	return S_ISREG(a->st_mode) && a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

void
ps_log_begin(void)
{
	struct stat by_fd;
	struct stat by_name;
	ssize_t len = readlink("/proc/self/fd/2", log_path, sizeof(log_path) - 1);

	log_path[Max(len, 0)] = '\0';
	if (len <= 0 || fstat(STDERR_FILENO, &by_fd) < 0 || stat(log_path, &by_name) < 0 || !same_file(&by_fd, &by_name))
		log_path[0] = '\0';
}

PsError *
ps_log_reopen(void)
{
	struct stat before;
	struct stat out;
	struct stat now;
	PsError *err = NULL;
	int fd;

	if (log_path[0] == '\0' || fstat(STDERR_FILENO, &before) < 0)
		return NULL;
	fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0 || fstat(fd, &now) < 0)
		err = ps_error(PS_SQLSTATE_IO, "could not open log file \"%s\": %m", log_path);
	else if (!same_file(&before, &now))
	{
		bool both = fstat(STDOUT_FILENO, &out) == 0 && same_file(&before, &out);

		if (dup2(fd, STDERR_FILENO) < 0 || (both && dup2(fd, STDOUT_FILENO) < 0))
			err = ps_error(PS_SQLSTATE_IO, "could not write to log file \"%s\": %m", log_path);
	}
	if (fd >= 0)
		close(fd);
	return err;
}
