/*
 * point_in_time.c
 *	  The point in time that follows the "@" of BRANCH@LSN or BRANCH@TIME.
 *
 * Times are parsed by date(1), which understands "10 minutes ago", "yesterday
 * 14:00" and ISO 8601 with time zones.  But it accepts nearly everything: "10
 * minutes" is a time in the future, "12" is noon, and "a" is midnight in a military
 * time zone.  So only texts that look like a time in the past are passed to it.
 */
#include "ps_fe.h"

#include <ctype.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"

static bool
looks_like_lsn(const char *text)
{
	const char *slash = strchr(text, '/');

	return slash != NULL && slash != text && slash[1] != '\0' && strchr(slash + 1, '/') == NULL &&
		   strspn(text, "0123456789abcdefABCDEF/") == strlen(text);
}

/* Converts a time to microseconds since 1970 with date(1); returns false if that does not understand it. */
static bool
ask_date(const char *text, char *out, size_t size)
{
	char *argument = psprintf("--date=%s", text);
	int fds[2];
	size_t len = 0;
	ssize_t n;
	int status;
	pid_t pid;

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

/* Does the text begin with this pattern, in which 0 matches any digit? */
static bool
begins_like(const char *text, const char *pattern)
{
	for (; *pattern != '\0'; text++, pattern++)
		if (*pattern == '0' ? !isdigit((unsigned char) *text) : *pattern != *text)
			return false;
	return true;
}

static bool
looks_like_time(const char *text)
{
	size_t len = strlen(text);

	if (begins_like(text, "0000-00-00") || begins_like(text, "00:00") || begins_like(text, "0:00"))
		return true;
	if (pg_strncasecmp(text, "yesterday", 9) == 0 || pg_strncasecmp(text, "today", 5) == 0)
		return strchr(text, ':') != NULL;
	return isdigit((unsigned char) text[0]) && len > 4 && pg_strcasecmp(text + len - 4, " ago") == 0;
}

char *
point_in_time_words(const char *text)
{
	char microseconds[64];

	if (looks_like_lsn(text))
		return psprintf("lsn %s", store_quote(text));
	if (!looks_like_time(text) || !ask_date(text, microseconds, sizeof(microseconds)))
	{
		pg_log_error("invalid point in time \"%s\": must be an LSN or a time", text);
		pg_log_error_hint("Examples are 0/16B3748, \"10 minutes ago\", \"yesterday 14:00\" and "
						  "\"2026-11-20 12:00+00\". For the current state of the branch, omit the \"@\".");
		exit(1);
	}
	return psprintf("time %s", microseconds);
}

char *
point_in_time_split(const char *text, char **point)
{
	char *branch = pg_strdup(text);
	char *at = strchr(branch, '@');

	*point = NULL;
	if (at == NULL)
		return branch;
	*at = '\0';
	if (at[1] == '\0')
		pg_fatal("no point in time specified after the \"@\" in \"%s\"", text);
	*point = at + 1;
	return branch;
}
