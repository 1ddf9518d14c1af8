/*
 * moment.c
 *	  From a moment in time to the LSN at which a branch stood then.
 *
 * As recovery_target_time has it: just before the first commit or abort with a
 * later time.  States that were saved, one for each WAL segment, say in which
 * segment that is (PS_KEY_STATE, WalState.last_commit); the WAL of that segment
 * says where.
 */
#include "ps_fe.h"

#include <time.h>

#include "ps_wire.h"
#include "timeline_impl.h"

/* The newest state saved at or before lsn; *found false: there is none. */
static PsError *
saved_state(Timeline *tl, XLogRecPtr lsn, WalState *state, bool *found)
{
	PsKey		key = ps_key_simple(PS_KEY_STATE, 0, 0, 0);
	StringInfoData buf;
	PsError    *err;

	initStringInfo(&buf);
	err = timeline_read_value(tl, &key, lsn, &buf, found);
	if (err == NULL && *found)
		err = wal_state_decode(buf.data, buf.len, state);
	pfree(buf.data);
	return err;
}

PsError *
timeline_saved_state_before(Timeline *tl, TimestampTz when, XLogRecPtr oldest, XLogRecPtr newest, WalState *state, bool *found)
{
	XLogRecPtr	lo = oldest;
	XLogRecPtr	hi = newest;

	PS_TRY(saved_state(tl, hi, state, found));
	if (!*found || state->last_commit <= when)
		return NULL;

	/* the state at lo is not later than when, or there is none such; that after hi is later */
	while (lo < hi)
	{
		XLogRecPtr	mid = lo + (hi - lo + 1) / 2;

		PS_TRY(saved_state(tl, mid, state, found));
		if (!*found || state->last_commit <= when)
			lo = mid;
		else
			hi = Min(mid, state->end) - 1;
	}
	PS_TRY(saved_state(tl, lo, state, found));
	if (*found && state->last_commit > when)
		*found = false;
	return NULL;
}

/* Reads WAL from the state on up to the first commit or abort that is later. */
static PsError *
read_on(Timeline *tl, WalState *state, TimestampTz when, XLogRecPtr upto, XLogRecPtr *lsn)
{
	WalReader  *reader = wal_reader_create(tl->wal, state->end, state->prev, tl->system_identifier);
	bool		found;
	WalRecord	rec;
	WalParsed	parsed;
	PsError    *err;

	*lsn = state->end;
	while ((err = wal_reader_next(reader, upto, &rec, &found)) == NULL && found)
	{
		PS_GOTO(wal_parse(&rec, &parsed), done);
		PS_GOTO(wal_state_apply(state, &rec, &parsed), done);
		if (state->last_commit > when)
			break;
		*lsn = rec.end;
	}
done:
	wal_reader_free(reader);
	return err;
}

static char *
format_time(TimestampTz when)
{
	time_t		t = when / USECS_PER_SEC + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
	char		text[64];
	struct tm	tm;

	if (gmtime_r(&t, &tm) == NULL || strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
		return psprintf("%lld", (long long) when);
	return pg_strdup(text);
}

static PsError *
too_early(Timeline *tl, TimestampTz when)
{
	XLogRecPtr	oldest = timeline_gc_cutoff(tl);
	char	   *wanted = format_time(when);
	WalState	state;
	bool		found;
	char	   *first;
	PsError    *err;

	PS_TRY(saved_state(tl, oldest, &state, &found));
	first = found ? format_time(state.last_commit) : pg_strdup("an unknown time");
	err = ps_error_hint(ps_error(PS_SQLSTATE_INVALID, "branch \"%s\" can be read from %X/%X (%s) on, %s is before that", tl->name,
								 LSN_FORMAT_ARGS(oldest), first, wanted),
						"How far back is set by pitr_interval and gc_horizon.");
	free(first);
	free(wanted);
	return err;
}

PsError *
timeline_lsn_at_time(Timeline *tl, TimestampTz when, const Waiter *waiter, Timeline **at, XLogRecPtr *lsn)
{
	Timeline   *child = NULL;	/* of tl, if all that can be read of it is later */
	XLogRecPtr	newest;
	WalState	state;
	bool		found;

	pthread_mutex_lock(&tl->lock);
	newest = tl->ingested_lsn;
	/* a later commit than the moment has been seen, or may be in what is acknowledged and not ingested yet */
	if (tl->state.last_commit <= when)
		newest = tl->flushed_lsn;
	pthread_mutex_unlock(&tl->lock);
	PS_TRY(timeline_wait_ingested(tl, newest, tl->tenant->store->config->wait_timeout, waiter));
	for (;;)
	{
		PS_TRY(timeline_saved_state_before(tl, when, timeline_gc_cutoff(tl), newest, &state, &found));
		if (found || tl->ancestor == NULL)
			break;
		child = tl;
		newest = tl->start_lsn;
		tl = tl->ancestor;
	}
	/* of an ancestor nothing before the child may be left but where that begins, which is too late */
	if (!found || (child != NULL && newest < timeline_gc_cutoff(tl)))
		return too_early(tl, when);
	*at = tl;
	PS_TRY(read_on(tl, &state, when, newest, lsn));
	/* the moment is in what the child has forgotten: neither here nor in what is left there */
	if (child != NULL && state.last_commit <= when)
		return too_early(child, when);
	return NULL;
}
