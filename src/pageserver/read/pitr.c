/*
 * pitr.c
 *	  From a moment in time to the LSN at which a branch stood then.
 *
 * As recovery_target_time has it: just before the first commit or abort with a
 * later time.  States that were saved, one for each WAL segment, say in which
 * segment that is (PS_KEY_STATE, WalState.last_commit); the WAL of that segment
 * says where.
 *
 * The times are those of the computes' clocks, which may be wrong.  As long as
 * they rise, nothing else is asked.  A commit that says a later time than the
 * moment does not end the search if it is known to come from a clock that was
 * ahead: commits after it say earlier times, or it says one that is still to
 * come, and the store had it at the moment, long before the time that it says
 * (arrivals.h).  Then the search goes on from what the store had at the moment.
 */
#include "ps_fe.h"

#include "sqlstate.h"
#include "read/read_impl.h"
#include "wal/reader.h"

/* The newest state saved at or before lsn; *found false: there is none. */
static PsError *
saved_state(Timeline *tl, XLogRecPtr lsn, WalState *state, bool *found)
{
	PsKey key = ps_key_simple(PS_KEY_STATE, 0, 0, 0);
	StringInfoData buf;
	PsError *err;

	initStringInfo(&buf);
	err = timeline_read_value(tl, &key, lsn, &buf, found);
	if (err == NULL && *found)
		err = wal_state_decode(buf.data, buf.len, state);
	pfree(buf.data);
	return err;
}

/*
 * The newest state saved from "oldest" to "newest" that is of no later commit than
 * "when"; *found false: there is none.
 */
static PsError *
saved_state_before(Timeline *tl, TimestampTz when, XLogRecPtr oldest, XLogRecPtr newest, WalState *state, bool *found)
{
	XLogRecPtr lo = oldest;
	XLogRecPtr hi = newest;

	PS_TRY(saved_state(tl, hi, state, found));
	if (!*found || state->last_commit <= when)
		return NULL;

	/* the state at lo is not later than when, or there is none such; that after hi is later */
	while (lo < hi)
	{
		XLogRecPtr mid = lo + (hi - lo + 1) / 2;

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

/*
 * Reads WAL from the state on up to the first commit or abort that is later:
 * *lsn is the end of the record before it, the state its end; *stopped false:
 * there is none.
 */
static PsError *
read_on(Timeline *tl, WalState *state, TimestampTz when, XLogRecPtr upto, XLogRecPtr *lsn, bool *stopped)
{
	WalReader *reader = wal_reader_create(tl->wal, state->end, state->prev, tl->spec->system_identifier);
	bool found;
	WalRecord rec;
	WalParsed parsed;
	PsError *err;

	*lsn = state->end;
	*stopped = false;
	while ((err = wal_reader_next(reader, upto, &rec, &found)) == NULL && found)
	{
		PS_GOTO(wal_parse(&rec, &parsed), done);
		PS_GOTO(wal_state_apply(state, &rec, &parsed), done);
		*stopped = state->commit_end == rec.end && state->commit_time > when;
		if (*stopped)
			break;
		*lsn = rec.end;
	}
done:
	wal_reader_free(reader);
	return err;
}

/* ---- a line of history: a branch, that in which it begins, and so on ---- */

typedef struct Level
{
	Timeline *tl;
	XLogRecPtr from; /* from here on it can be read, and is held so */
	XLogRecPtr upto; /* where the level before begins; of the first, what is ingested */
} Level;

typedef struct Line
{
	Level *levels;
	int n;
} Line;

static void
line_hold(Line *line, Timeline *tl, XLogRecPtr newest)
{
	int n = 0;

	for (Timeline *t = tl; t != NULL; t = t->ancestor)
		n++;
	line->n = n;
	line->levels = pg_malloc(n * sizeof(Level));
	for (int i = 0; i < n; i++, tl = tl->ancestor)
	{
		line->levels[i] = (Level) {.tl = tl, .from = timeline_hold_history(tl), .upto = newest};
		newest = tl->spec->start_lsn;
	}
}

static void
line_release(Line *line)
{
	for (int i = 0; i < line->n; i++)
		timeline_unhold_history(line->levels[i].tl, line->levels[i].from);
	free(line->levels);
}

static PsError *
too_early(const Level *level, TimestampTz when)
{
	char *wanted = timestamp_text(when);
	WalState state;
	bool found;
	char *first;
	PsError *err;

	PS_TRY(saved_state(level->tl, level->from, &state, &found));
	first = found ? timestamp_text(state.last_commit) : pg_strdup("an unknown time");
	err = ps_error_hint(ps_error(PS_SQLSTATE_INVALID, "branch \"%s\" can be read from %X/%X (%s) on, %s is before that", timeline_name(level->tl),
								 LSN_FORMAT_ARGS(level->from), first, wanted),
						"How far back is set by pitr_interval and gc_horizon.");
	free(first);
	free(wanted);
	return err;
}

/* ---- clocks that were ahead ---- */

/* A commit that ends at an LSN of the level says a time later than "when": did its clock go ahead? */
static bool
was_ahead(const Line *line, const Level *level, XLogRecPtr end, TimestampTz says, TimestampTz when)
{
	Timeline *newest = line->levels[0].tl;
	XLogRecPtr step_back;
	TimestampTz arrived;

	pthread_mutex_lock(&newest->lock);
	step_back = newest->state.step_back;
	pthread_mutex_unlock(&newest->lock);
	if (step_back <= end && says <= machine_clock_now() + WAL_STATE_STEP_BACK)
		return false;
	return arrivals_time_of(level->tl->arrivals, end, &arrived) && arrived <= when && arrived < says - WAL_STATE_STEP_BACK;
}

/*
 * What the store had at the moment, and after that up to the first commit that
 * is later; *found false: that is not known, or not after "end", an LSN of the
 * last of n levels.
 */
static PsError *
find_by_arrival(const Line *line, int n, XLogRecPtr end, TimestampTz when, Timeline **at, XLogRecPtr *lsn, bool *found)
{
	*found = false;
	for (int i = 0; i < n; i++)
	{
		const Level *level = &line->levels[i];
		XLogRecPtr there = Min(arrivals_at(level->tl->arrivals, when), level->upto);
		WalState state;
		bool stopped;

		if (there == InvalidXLogRecPtr || there < level->tl->spec->start_lsn || there < end)
			continue;
		if (there < level->from)
			return too_early(level, when);
		PS_TRY(timeline_state_at(level->tl, there, &state));
		PS_TRY(read_on(level->tl, &state, when, level->upto, lsn, &stopped));
		*at = level->tl;
		*found = true;
		return NULL;
	}
	return NULL;
}

/* ---- the search ---- */

static PsError *
search(const Line *line, TimestampTz when, Timeline **at, XLogRecPtr *lsn)
{
	const Level *level = line->levels;
	bool stopped = false;
	bool found;
	bool passed = false;
	WalState state;

	for (int i = 0; i < line->n; i++)
	{
		level = &line->levels[i];
		/* of an ancestor nothing before the level before may be left but where that begins, which is too late */
		if (level->upto < level->from)
			return too_early(level, when);
		PS_TRY(saved_state_before(level->tl, when, level->from, level->upto, &state, &found));
		if (found)
		{
			PS_TRY(read_on(level->tl, &state, when, level->upto, lsn, &stopped));
			*at = level->tl;
			if (stopped && was_ahead(line, level, state.commit_end, state.commit_time, when))
				return find_by_arrival(line, i + 1, state.commit_end, when, at, lsn, &passed);
			/* the moment is in what the level before has forgotten: neither here nor in what is left there */
			return stopped || i == 0 ? NULL : too_early(level - 1, when);
		}
		PS_TRY(saved_state(level->tl, level->from, &state, &found));
		if (found && was_ahead(line, level, level->from, state.last_commit, when))
		{
			PS_TRY(find_by_arrival(line, i + 1, level->from, when, at, lsn, &passed));
			if (passed)
				return NULL;
		}
	}
	return too_early(level, when);
}

PsError *
timeline_lsn_at_time(Timeline *tl, TimestampTz when, const CancelCheck *cancel, Timeline **at, XLogRecPtr *lsn)
{
	TimestampTz now = machine_clock_now();
	XLogRecPtr newest;
	Line line;
	PsError *err;

	pthread_mutex_lock(&tl->lock);
	newest = tl->flushed_lsn;
	/* a later commit than the moment has been seen, and there is no doubt of its time: what is not ingested yet is later, too */
	if (tl->state.last_commit > when && tl->state.step_back == InvalidXLogRecPtr && tl->state.last_commit <= now)
		newest = tl->ingested_lsn;
	pthread_mutex_unlock(&tl->lock);
	PS_TRY(timeline_wait_ingested(tl, newest, timeline_config(tl)->wait_timeout, cancel));
	line_hold(&line, tl, newest);
	err = search(&line, when, at, lsn);
	line_release(&line);
	return err;
}

/* ---- what a moment is between ---- */

/* So much WAL is read to find the commit that follows, bytes. */
#define NEXT_COMMIT_LIMIT (64 * 1024 * 1024)

/* The first commit or abort after the state, which is of the level; *known false: it is too far away. */
static PsError *
find_next(const Level *level, WalState *state, CommitsAround *around, bool *known)
{
	XLogRecPtr limit = Min(level->upto, state->end + NEXT_COMMIT_LIMIT);
	XLogRecPtr lsn;

	/* every time is later than this one */
	PS_TRY(read_on(level->tl, state, PG_INT64_MIN, limit, &lsn, &around->has_next));
	around->next = state->commit_time;
	*known = around->has_next || limit == level->upto;
	return NULL;
}

static PsError *
look_around(const Line *line, XLogRecPtr lsn, CommitsAround *around)
{
	WalState state;
	int i = 0;

	while (i < line->n - 1 && lsn < line->levels[i].tl->spec->start_lsn)
		i++;
	/* the caller that makes a branch there gets the error from others */
	if (lsn < line->levels[i].from || lsn > line->levels[0].upto)
		return NULL;
	PS_TRY(timeline_state_at(line->levels[i].tl, lsn, &state));
	around->has_last = state.commit_end != InvalidXLogRecPtr;
	around->last = state.commit_time;
	around->last_end = state.commit_end;
	PS_TRY(find_next(&line->levels[i], &state, around, &around->next_known));
	while (around->next_known && !around->has_next && --i >= 0)
	{
		const Level *level = &line->levels[i];

		around->next_known = level->from == level->tl->spec->start_lsn;
		if (!around->next_known)
			break;
		PS_TRY(timeline_state_at(level->tl, level->from, &state));
		PS_TRY(find_next(level, &state, around, &around->next_known));
	}
	return NULL;
}

PsError *
timeline_commits_around(Timeline *tl, XLogRecPtr lsn, const CancelCheck *cancel, CommitsAround *around)
{
	XLogRecPtr newest;
	Line line;
	PsError *err;

	memset(around, 0, sizeof(*around));
	pthread_mutex_lock(&tl->lock);
	newest = tl->flushed_lsn;
	pthread_mutex_unlock(&tl->lock);
	PS_TRY(timeline_wait_ingested(tl, newest, timeline_config(tl)->wait_timeout, cancel));
	line_hold(&line, tl, newest);
	err = look_around(&line, lsn, around);
	line_release(&line);
	return err;
}
