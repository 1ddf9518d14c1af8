/*
 * pitr.c
 *	  Finds the LSN of a branch at a point in time.
 *
 * The result is that of recovery_target_time: just before the first commit or abort with
 * a later time.  The saved states, one for each WAL segment (PS_KEY_STATE,
 * WalState.last_commit), give the segment, and its WAL gives the place.
 *
 * The times come from the clocks of the computes, which may be wrong.  As long as they
 * only increase, they alone decide, and so they do if commits are out of order by no more
 * than WAL_STATE_STEP_BACK.  A commit with a later time than the target does not end the
 * search if its clock is known to have been ahead:
 *
 *	- commits after it have earlier times (WalState.step_back), or its time is still in
 *	  the future, and
 *	- the store had received it by the target time, long before the commit's own time
 *	  (arrivals.h).
 *
 * Then the search continues from what the store had received by the target time.  A clock
 * that was behind never makes later commits part of the result.  Whatever the search
 * decides, timeline_commits_around() tells the user the last commit that is in the branch
 * and the first that is not.
 */
#include "ps_fe.h"

#include "sqlstate.h"
#include "read/read_impl.h"
#include "wal/reader.h"

/* Reads the newest state saved at or before lsn, if there is one. */
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
 * Finds the newest state saved from "oldest" to "newest" whose last commit is not later
 * than "when", if there is one.
 */
static PsError *
saved_state_before(Timeline *tl, TimestampTz when, XLogRecPtr oldest, XLogRecPtr newest, WalState *state, bool *found)
{
	XLogRecPtr lo = oldest;
	XLogRecPtr hi = newest;

	PS_TRY(saved_state(tl, hi, state, found));
	if (!*found || state->last_commit <= when)
		return NULL;

	/* the state at lo is not later than "when", unless all of them are; the one after hi is later */
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
 * Reads WAL from the state up to the first commit or abort that is later than "when", but
 * not beyond "upto".  *stopped says whether there is one: then *lsn is the end of the
 * record before it, and the state is that after it.
 */
static PsError *
read_to_later_commit(Timeline *tl, WalState *state, TimestampTz when, XLogRecPtr upto, XLogRecPtr *lsn, bool *stopped)
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

/* ---- a line of history: a branch and its ancestors ---- */

typedef struct Level
{
	Timeline *tl;
	XLogRecPtr from; /* can be read from here on; held with timeline_hold_history() */
	XLogRecPtr upto; /* where its descendant begins; of the branch itself, what is ingested */
} Level;

typedef struct Line
{
	Level *levels;
	int n;
} Line;

/* Also keeps history as it is until line_release(), so that gc_cutoff does not change during the search. */
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

/* The error for a time that is before the history of a level. */
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
	err = ps_error(PS_SQLSTATE_INVALID, "branch \"%s\" can be read from %X/%X (%s) on, but %s was requested",
				   timeline_name(level->tl), LSN_FORMAT_ARGS(level->from), first, wanted);
	err = ps_error_hint(err, "The settings pitr_interval and gc_horizon determine how much history is kept.");
	free(first);
	free(wanted);
	return err;
}

/* ---- clocks that were ahead ---- */

/* A commit that ends at an LSN of the level has a time later than "when": was its clock ahead? */
static bool
was_ahead(const Line *line, const Level *level, XLogRecPtr end, TimestampTz commit_time, TimestampTz when)
{
	Timeline *newest = line->levels[0].tl;
	XLogRecPtr step_back;
	TimestampTz arrived;

	pthread_mutex_lock(&newest->lock);
	step_back = newest->state.step_back;
	pthread_mutex_unlock(&newest->lock);
	if (step_back <= end && commit_time <= machine_clock_now() + WAL_STATE_STEP_BACK)
		return false;
	return arrivals_time_of(level->tl->arrivals, end, &arrived) && arrived <= when &&
		   arrived < commit_time - WAL_STATE_STEP_BACK;
}

/*
 * Starts from what the store had received at "when", and continues to the first commit
 * with a later time.  Searches the first n levels.  *found is false if it is unknown what
 * the store had received, or if that is not after "end", an LSN of the last of them.
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
		PS_TRY(read_to_later_commit(level->tl, &state, when, level->upto, lsn, &stopped));
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
		/* an ancestor may retain only the point where its descendant begins, which is too late */
		if (level->upto < level->from)
			return too_early(level, when);
		PS_TRY(saved_state_before(level->tl, when, level->from, level->upto, &state, &found));
		if (found)
		{
			PS_TRY(read_to_later_commit(level->tl, &state, when, level->upto, lsn, &stopped));
			*at = level->tl;
			if (stopped && was_ahead(line, level, state.commit_end, state.commit_time, when))
				return find_by_arrival(line, i + 1, state.commit_end, when, at, lsn, &passed);
			/* the time is in removed history: after this level, and before what is left of its descendant */
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
	/* WAL that is not ingested yet is later than "when" if a commit with a later, plausible time was ingested */
	if (tl->state.last_commit > when && tl->state.step_back == InvalidXLogRecPtr && tl->state.last_commit <= now)
		newest = tl->ingested_lsn;
	pthread_mutex_unlock(&tl->lock);
	PS_TRY(timeline_wait_ingested(tl, newest, timeline_config(tl)->wait_timeout, cancel));
	line_hold(&line, tl, newest);
	err = search(&line, when, at, lsn);
	line_release(&line);
	return err;
}

/* ---- the commits around an LSN ---- */

/* WAL that is read at most to find the next commit, bytes. */
#define NEXT_COMMIT_LIMIT (64 * 1024 * 1024)

/*
 * Finds the first commit or abort after the state, in WAL of the level.  *known is false
 * if the search gave up after NEXT_COMMIT_LIMIT.
 */
static PsError *
find_next_commit(const Level *level, WalState *state, CommitsAround *around, bool *known)
{
	XLogRecPtr limit = Min(level->upto, state->end + NEXT_COMMIT_LIMIT);
	XLogRecPtr lsn;

	/* every commit is later than PG_INT64_MIN */
	PS_TRY(read_to_later_commit(level->tl, state, PG_INT64_MIN, limit, &lsn, &around->has_next));
	around->next = state->commit_time;
	*known = around->has_next || limit == level->upto;
	return NULL;
}

static PsError *
find_commits_around(const Line *line, XLogRecPtr lsn, CommitsAround *around)
{
	WalState state;
	int i = 0;

	while (i < line->n - 1 && lsn < line->levels[i].tl->spec->start_lsn)
		i++;
	/* not an error here: a caller that reads or branches there gets it from that */
	if (lsn < line->levels[i].from || lsn > line->levels[0].upto)
		return NULL;
	PS_TRY(timeline_state_at(line->levels[i].tl, lsn, &state));
	around->has_last = state.commit_end != InvalidXLogRecPtr;
	around->last = state.commit_time;
	around->last_end = state.commit_end;
	PS_TRY(find_next_commit(&line->levels[i], &state, around, &around->next_known));
	while (around->next_known && !around->has_next && --i >= 0)
	{
		const Level *level = &line->levels[i];

		around->next_known = level->from == level->tl->spec->start_lsn;
		if (!around->next_known)
			break;
		PS_TRY(timeline_state_at(level->tl, level->from, &state));
		PS_TRY(find_next_commit(level, &state, around, &around->next_known));
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
	err = find_commits_around(&line, lsn, around);
	line_release(&line);
	return err;
}
