/*
 * command_args.c
 *	  The arguments of commands: branches, timelines, points in a branch's
 *	  history, options.
 */
#include "ps_fe.h"

#include <ctype.h>

#include "serve/commands.h"
#include "sqlstate.h"

/* A time may be ahead of the store's clock by this much, because clocks differ.  Microseconds. */
#define CLOCK_TOLERANCE (10 * USECS_PER_SEC)

/*
 * Notes that the command uses the timeline.  A thread that takes a timeline out
 * of service first marks it as stopping and then ends the sessions that hold
 * it.  So either this function sees the mark, and returns the reason as an
 * error, or that thread sees this session.
 */
static PsError *
hold_timeline(Session *session, Timeline *tl)
{
	session_hold(session, tl);
	return timeline_check_stopping(tl);
}

PsError *
command_find_branch(Session *session, const char *name, Timeline **tl)
{
	PS_TRY(store_use_branch(session->server->store, name, &session->cancel, tl));
	return hold_timeline(session, *tl);
}

PsError *
command_find_timeline(Session *session, char **args, Timeline **tl, uint64 *generation)
{
	PsId tenant;
	PsId timeline;

	if (!ps_id_parse(args[0], &tenant))
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid tenant id \"%s\": expected 32 hex digits", args[0]);
	if (!ps_id_parse(args[1], &timeline))
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid timeline id \"%s\": expected 32 hex digits", args[1]);
	PS_TRY(command_parse_number("generation", args[2], generation));
	PS_TRY(removed_explain(session->server, &timeline,
						   store_use(session->server->store, &tenant, &timeline, &session->cancel, tl)));
	return removed_explain(session->server, &timeline, hold_timeline(session, *tl));
}

PsError *
command_parse_number(const char *what, const char *text, uint64 *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	if (!isdigit((unsigned char) text[0]) || *end != '\0' || errno != 0)
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid %s \"%s\": expected a decimal number", what, text);
	return NULL;
}

PsError *
command_parse_lsn(const char *text, XLogRecPtr *lsn)
{
	uint32 hi;
	uint32 lo;
	int used = 0;

	if (strspn(text, "0123456789abcdefABCDEF/") != strlen(text) || strlen(text) > 17 ||
		sscanf(text, "%8X/%8X%n", &hi, &lo, &used) != 2 || text[used] != '\0')
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid LSN \"%s\": expected two hexadecimal numbers, as in 0/16B3748",
						text);
	*lsn = ((uint64) hi << 32) | lo;
	/* inside the store the greatest number means "the newest LSN" */
	if (*lsn == PG_UINT64_MAX)
		return ps_error(PS_SQLSTATE_INVALID, "LSN %s is in the future: WAL cannot reach it", text);
	return NULL;
}

static PsError *
future_error(TimestampTz when, TimestampTz now)
{
	char *when_text = timestamp_text(when);
	char *now_text = timestamp_text(now);
	PsError *err = ps_error_hint(ps_error(PS_SQLSTATE_INVALID,
										  "the time %s is in the future: the store's clock says %s", when_text,
										  now_text),
								 "To use the current state of the branch, specify no time.");

	free(when_text);
	free(now_text);
	return err;
}

/* Parses microseconds since 1970, UTC. */
static PsError *
parse_time(const char *text, TimestampTz *when)
{
	TimestampTz now = machine_clock_now();
	char *end;
	int64 us;

	errno = 0;
	us = strtoll(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0)
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid time \"%s\": expected microseconds since 1970", text);
	/* no branch has a commit before 1970, and the subtraction must not overflow */
	*when = Max(us, 0) - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	return *when > now + CLOCK_TOLERANCE ? future_error(*when, now) : NULL;
}

PsError *
command_parse_point(Session *session, const char *what, const char *value, Timeline *tl, Timeline **at, XLogRecPtr *lsn,
					CommitsAround *around)
{
	TimestampTz when = 0;

	*at = tl;
	if (pg_strcasecmp(what, "lsn") == 0)
		PS_TRY(command_parse_lsn(value, lsn));
	else if (pg_strcasecmp(what, "time") == 0)
	{
		PS_TRY(parse_time(value, &when));
		PS_TRY(timeline_lsn_at_time(tl, when, &session->cancel, at, lsn));
	}
	else
		return ps_error(PS_SQLSTATE_SYNTAX, "expected LSN or TIME, not \"%s\"", what);
	return timeline_commits_around(tl, *lsn, &session->cancel, around);
}

char *
command_point_text(const char *what, const char *value)
{
	TimestampTz when = strtoll(value, NULL, 10) - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	return pg_strcasecmp(what, "time") == 0 ? timestamp_text(when) : psprintf("LSN %s", value);
}

PsError *
command_parse_options(char **args, int nargs, int first, bool *force, bool *purge)
{
	*force = false;
	if (purge != NULL)
		*purge = false;
	for (int i = first; i < nargs; i++)
	{
		if (pg_strcasecmp(args[i], "force") == 0)
			*force = true;
		else if (purge != NULL && pg_strcasecmp(args[i], "purge") == 0)
			*purge = true;
		else
			return ps_error(PS_SQLSTATE_SYNTAX, "unknown option \"%s\": expected force%s", args[i],
							purge != NULL ? " or purge" : "");
	}
	return NULL;
}
