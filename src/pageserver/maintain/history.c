/*
 * history.c
 *	  Determines which LSNs of a timeline can be read: the horizon and the single
 *	  points before it, and which blocks existed there.
 *
 * The horizon satisfies both settings: gc_horizon in bytes of WAL, pitr_interval in time.
 * The age of WAL is the store's own time since it arrived (arrivals.h), not the time of its
 * commits, which comes from a compute's clock, and not this machine's clock: a clock that
 * is wrong for a while must not cause a removal.
 */
#include "ps_fe.h"

#include "maintain/maintain_impl.h"

static XLogRecPtr
find_horizon(Timeline *tl)
{
	const Config *config = timeline_config(tl);
	uint64 distance = (uint64) config->gc_horizon * 1024 * 1024;
	XLogRecPtr newest;
	XLogRecPtr by_time;

	/* upkeep is not concerned with what is not in files yet */
	pthread_mutex_lock(&tl->lock);
	newest = tl->disk_consistent_lsn;
	pthread_mutex_unlock(&tl->lock);
	by_time = newest;
	if (config->pitr_interval > 0)
		by_time = Min(newest, arrivals_older_than(tl->arrivals, (int64) config->pitr_interval * USECS_PER_SEC));
	return Min(by_time, newest > tl->spec->start_lsn + distance ? newest - distance : tl->spec->start_lsn);
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
 * A block beyond the end of its fork, or of a fork that does not exist, is zeros: no version
 * of it is needed.  Nor are versions before the block was last truncated away.
 */
static PsError *
floor_of(void *arg, const PsKey *key, int i, XLogRecPtr *floor)
{
	History *history = arg;
	PsRel rel = {key->spc, key->db, key->rel};
	PsKey fork = ps_key_relsize(rel, (ForkNumber) key->fork);

	*floor = 0;
	if (key->kind != PS_KEY_RELBLOCK)
		return NULL;
	if (ps_key_cmp(&fork, &history->fork) != 0)
	{
		forget_sizes(history);
		history->fork.kind = 0;
		for (int p = 0; p <= history->retention.npoints; p++)
			PS_TRY(read_relsize(&history->view, rel, (ForkNumber) key->fork, point(history, p), &history->exists[p],
								&history->sizes[p]));
		history->fork = fork;
	}
	if (!history->exists[i] || key->blk >= history->sizes[i].nblocks)
		*floor = PG_UINT64_MAX;
	else
		*floor = relsize_floor(&history->sizes[i], key->blk);
	return NULL;
}

void
history_advance(Timeline *tl)
{
	if (atomic_load(&tl->env->keep_all) == 0)
		pins_raise_cutoff(tl->spec->pins, find_horizon(tl));
}

PsError *
history_init(History *history, Timeline *tl)
{
	XLogRecPtr latest;

	memset(history, 0, sizeof(*history));
	history->tl = tl;
	/* a branch may begin anywhere: with a horizon of 0, every version is needed */
	if (atomic_load(&tl->env->keep_all) > 0)
		return NULL;
	/* in this order, so that the view has all sizes at the points that can be read */
	PS_TRY(view_open(&history->view, tl, PG_UINT64_MAX));
	view_keep_files(&history->view, &latest);
	pins_readable(tl->spec->pins, latest, &history->retention.horizon, &history->points, &history->retention.npoints,
				  &history->wal_from);
	history->retention.points = history->points;
	history->retention.floor = floor_of;
	history->retention.arg = history;
	history->exists = pg_malloc0((history->retention.npoints + 1) * sizeof(bool));
	history->sizes = pg_malloc0((history->retention.npoints + 1) * sizeof(RelSize));
	return NULL;
}

void
history_free(History *history)
{
	if (history->tl == NULL)
		return;
	if (history->sizes != NULL)
		forget_sizes(history);
	if (history->view.tl != NULL)
		view_close(&history->view);
	free(history->points);
	free(history->exists);
	free(history->sizes);
}
