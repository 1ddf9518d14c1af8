/*
 * moment.c
 *	  What stands behind the "@" of BRANCH@MOMENT: an LSN, or a time as people
 *	  write it.
 *
 * Times are read by date(1), which every Debian has: it knows "10 minutes ago",
 * "yesterday 14:00" and ISO 8601 with time zones.
 */
#include "ps_fe.h"

#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"

bool
looks_like_lsn(const char *text)
{
	const char *slash = strchr(text, '/');

	return slash != NULL && slash != text && slash[1] != '\0' && strchr(slash + 1, '/') == NULL &&
		strspn(text, "0123456789abcdefABCDEF/") == strlen(text);
}

/* What "date" prints of a time: microseconds since 1970.  False: it does not understand it. */
static bool
ask_date(const char *text, char *out, size_t size)
{
	char	   *argument = psprintf("--date=%s", text);
	int			fds[2];
	size_t		len = 0;
	ssize_t		n;
	int			status;
	pid_t		pid;

	if (pipe(fds) != 0)
		pg_fatal("could not create a pipe: %m");
	pid = fork();
	if (pid < 0)
		pg_fatal("could not fork: %m");
	if (pid == 0)
	{
		dup2(fds[1], STDOUT_FILENO);
		close(fds[0]);
		close(fds[1]);
		close(STDERR_FILENO);
		execlp("date", "date", argument, "+%s%6N", (char *) NULL);
		_exit(127);
	}
	close(fds[1]);
	while (len < size - 1 && (n = read(fds[0], out + len, size - 1 - len)) > 0)
		len += n;
	close(fds[0]);
	if (waitpid(pid, &status, 0) != pid)
		pg_fatal("could not wait for \"date\": %m");
	pfree(argument);
	while (len > 0 && out[len - 1] == '\n')
		len--;
	out[len] = '\0';
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 && len > 0;
}

char *
moment_words(const char *text)
{
	char		microseconds[64];

	if (looks_like_lsn(text))
		return psprintf("lsn %s", store_quote(text));
	if (!ask_date(text, microseconds, sizeof(microseconds)))
	{
		pg_log_error("\"%s\" is neither an LSN nor a time", text);
		pg_log_error_hint("Examples: 0/16B3748, \"10 minutes ago\", \"2026-11-20 12:00+00\".");
		exit(1);
	}
	return psprintf("time %s", microseconds);
}

char *
split_moment(const char *text, char **moment)
{
	char	   *branch = pg_strdup(text);
	char	   *at = strchr(branch, '@');

	*moment = NULL;
	if (at == NULL)
		return branch;
	*at = '\0';
	if (at[1] == '\0')
		pg_fatal("nothing follows the \"@\" in \"%s\"", text);
	*moment = at + 1;
	return branch;
}
