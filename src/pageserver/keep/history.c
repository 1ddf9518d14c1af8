/*
 * history.c
 *	  What of a timeline can still be read: from when on every LSN, and which
 *	  single LSNs before that; and which blocks were there at them.
 *
 * The horizon is as far back as both settings want it: gc_horizon in WAL,
 * pitr_interval in time.  Times are those that saved states have
 * (PS_KEY_STATE), one for each WAL segment: the horizon is rounded down to one
 * of them.
 */
#include "ps_fe.h"

#include <time.h>

#include "datatype/timestamp.h"

#include "keep/keep.h"
#include "ps_wire.h"

static TimestampTz
now_timestamp(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ((TimestampTz) ts.tv_sec - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY) * USECS_PER_SEC +
		ts.tv_nsec / 1000;
}

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

/*
 * *lsn: of a saved state after which the first commit later than "when" comes,
 * or upto if that comes later still.
 */
static PsError *
lsn_before_time(Timeline *tl, TimestampTz when, XLogRecPtr upto, XLogRecPtr *lsn)
{
	XLogRecPtr	lo = tl->start_lsn;
	XLogRecPtr	hi = upto;
	WalState	state;
	bool		found;

	PS_TRY(saved_state(tl, hi, &state, &found));
	*lsn = hi;
	if (!found || state.last_commit <= when)
		return NULL;

	/* the state at lo is not later than when, or the oldest; that at hi is */
	while (lo < hi)
	{
		XLogRecPtr	mid = lo + (hi - lo + 1) / 2;

		PS_TRY(saved_state(tl, mid, &state, &found));
		if (!found || state.last_commit <= when)
			lo = mid;
		else
			hi = Min(mid - 1, state.end - 1);
	}
	PS_TRY(saved_state(tl, lo, &state, &found));
	*lsn = found ? state.end : tl->start_lsn;
	return NULL;
}

static PsError *
find_horizon(Timeline *tl, XLogRecPtr *horizon)
{
	const Config *config = tl->tenant->store->config;
	uint64		distance = (uint64) config->gc_horizon * 1024 * 1024;
	XLogRecPtr	newest;
	XLogRecPtr	by_time;

	/* what is not in files yet is no business of anybody here */
	pthread_mutex_lock(&tl->lock);
	newest = tl->disk_consistent_lsn;
	pthread_mutex_unlock(&tl->lock);
	PS_TRY(lsn_before_time(tl, now_timestamp() - (TimestampTz) config->pitr_interval * USECS_PER_SEC, newest, &by_time));
	*horizon = Min(by_time, newest > tl->start_lsn + distance ? newest - distance : tl->start_lsn);
	return NULL;
}

static XLogRecPtr
point(const History *history, int i)
{
	return i < history->retention.npoints ? history->points[i] : history->retention.horizon;
}

static void
forget_sizes(History *history)
{
	for (int i = 0; i <= history->retention.npoints; i++)
		relsize_free(&history->sizes[i]);
}

/*
 * A block that is beyond the fork's end, or of a fork that does not exist, or
 * has been cut off since, is zeros: no version of it counts.
 */
static PsError *
floor_of(void *arg, const PsKey *key, int i, XLogRecPtr *floor)
{
	History    *history = arg;
	PsRel		rel = {key->spc, key->db, key->rel};
	PsKey		fork = ps_key_relsize(rel, (ForkNumber) key->fork);

	*floor = 0;
	if (key->kind != PS_KEY_RELBLOCK)
		return NULL;
	if (ps_key_cmp(&fork, &history->fork) != 0)
	{
		forget_sizes(history);
		history->fork.kind = 0;
		for (int p = 0; p <= history->retention.npoints; p++)
			PS_TRY(read_relsize(history->tl, history->set, rel, (ForkNumber) key->fork, point(history, p), &history->exists[p],
								&history->sizes[p]));
		history->fork = fork;
	}
	if (!history->exists[i] || key->blk >= history->sizes[i].nblocks)
		*floor = PG_UINT64_MAX;
	else
		*floor = relsize_floor(&history->sizes[i], key->blk);
	return NULL;
}

PsError *
history_init(History *history, Timeline *tl)
{
	memset(history, 0, sizeof(*history));
	history->tl = tl;
	PS_TRY(find_horizon(tl, &history->retention.horizon));
	timeline_begin_gc(tl, history->retention.horizon, &history->points, &history->retention.npoints);
	history->retention.horizon = timeline_gc_cutoff(tl);
	history->retention.points = history->points;
	history->retention.floor = floor_of;
	history->retention.arg = history;
	history->exists = pg_malloc0((history->retention.npoints + 1) * sizeof(bool));
	history->sizes = pg_malloc0((history->retention.npoints + 1) * sizeof(RelSize));
	history->set = timeline_layers(tl);
	return NULL;
}

void
history_free(History *history)
{
	if (history->set == NULL)
		return;
	forget_sizes(history);
	layer_set_unref(history->set);
	free(history->points);
	free(history->exists);
	free(history->sizes);
}
