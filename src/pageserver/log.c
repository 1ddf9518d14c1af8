/*
 * log.c
 *	  The daemon's log: see error.h.
 */
#include "ps_fe.h"

#include <pthread.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "error.h"

PsLogLevel	ps_log_level = PS_LOG;

static __thread char thread_name[16] = "main";

void
ps_thread_name(const char *fmt, ...)
{
	va_list		args;

	va_start(args, fmt);
	vsnprintf(thread_name, sizeof(thread_name), fmt, args);
	va_end(args);
	pthread_setname_np(pthread_self(), thread_name);
}

void
ps_log(PsLogLevel level, const char *fmt, ...)
{
	static const char *const names[] = {"DEBUG", "LOG", "WARNING", "FATAL"};
	int			save_errno = errno;
	char		line[4096];
	struct timeval tv;
	struct tm	tm;
	size_t		len;
	va_list		args;

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
	/* texts of clients are in messages: none of them may look like a line of its own */
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
	char		prefix[512];
	va_list		args;

	va_start(args, what);
	vsnprintf(prefix, sizeof(prefix), what, args);
	va_end(args);
	ps_log(level, "%s: %s%s%s%s%s", prefix, err->message, err->detail ? " DETAIL:  " : "", err->detail ? err->detail : "",
		   err->hint ? " HINT:  " : "", err->hint ? err->hint : "");
	ps_error_free(err);
}
