/*
 * maintain_timeline.c
 *	  The steps of upkeep for one timeline, in order: merges, images, garbage,
 *	  images where branches begin, which make more garbage, compression of WAL.
 *
 * A failed step does not prevent the next ones; the first error is returned.
 */
#include "ps_fe.h"

#include "layer/layer_source.h"
#include "maintain/maintain_impl.h"
#include "sqlstate.h"

/* Garbage is collected when more than this percentage of all layer bytes is new since the last time ... */
#define GC_CHANGED_PERCENT 10

/* ... or less is, or something cannot be read any more, and this time has passed, us. */
#define GC_PERIOD (INT64CONST(3600) * USECS_PER_SEC)

/* Has enough changed since garbage was collected last? */
static bool
garbage_is_due(Timeline *tl)
{
	const UpkeepMarks *marks = &tl->spec->maintained.marks;
	LayerSet *set = timeline_layers(tl);
	uint64 total = 0;
	uint64 fresh = 0;

	for (int i = 0; i < layer_map_count(set->map); i++)
	{
		const LayerInfo *info = layer_info(layer_map_get(set->map, i));

		total += info->file_size;
		if (info->number >= marks->gc_number)
			fresh += info->file_size;
	}
	layer_set_unref(set);
	if (fresh * 100 > total * GC_CHANGED_PERCENT)
		return true;
	if (marks->gc_time != 0 && store_clock_now(tl->env->clock) - marks->gc_time < GC_PERIOD)
		return false;
	return fresh > 0 || marks->gc_readable != pins_digest(tl->spec->pins);
}

/* Collects garbage if that is due, or "now" is true; sets *done if it did. */
static PsError *
collect_garbage(Timeline *tl, bool now, GcResult *result, bool *done)
{
	UpkeepMarks *marks = &tl->spec->maintained.marks;
	int64 begin = store_clock_now(tl->env->clock);
	PsError *err;

	memset(result, 0, sizeof(*result));
	*done = false;
	if (atomic_load(&tl->env->keep_all) > 0 || (!now && !garbage_is_due(tl)))
		return NULL;
	err = gc_run(tl, result);
	if (err == NULL)
	{
		*done = true;
		marks->gc_number = atomic_load(&tl->spec->space.next_number);
		marks->gc_time = Max(begin, 1);
		marks->gc_clock = *store_clock_id(tl->env->clock);
		marks->gc_readable = result->postponed == 0 ? result->readable : 0;
		if (result->removed + result->rewritten > 0)
			ps_log(PS_LOG, "branch \"%s\": removed %d layer files and rewrote %d; they take %llu MB now, %llu MB less",
				   timeline_name(tl), result->removed, result->rewritten,
				   (unsigned long long) result->bytes_after / (1024 * 1024),
				   (unsigned long long) (result->bytes_before - result->bytes_after) / (1024 * 1024));
	}
	return err;
}

/* maintain_files(), before its results are saved. */
static PsError *
do_steps(Timeline *tl, bool all)
{
	bool done = true;
	int made = 0;
	GcResult result;
	PsError *copy_err;
	PsError *err = NULL;

	damage_recheck(tl);
	copy_err = copy_databases(tl);
	while (err == NULL && done && !timeline_is_stopping(tl))
		err = compact_levels(tl, &done);
	err = ps_error_first(copy_err, err);
	if (!timeline_is_stopping(tl))
		err = ps_error_first(err, make_images(tl, all, &made));
	if (timeline_is_stopping(tl))
		return err;
	done = false;
	err = ps_error_first(err, collect_garbage(tl, all, &result, &done));
	if (done)
		err = ps_error_first(err, make_branch_images(tl, &made));
	if (done && made > 0)
		err = ps_error_first(err, collect_garbage(tl, true, &result, &done));
	return ps_error_first(err, pack_wal(tl));
}

/*
 * Does everything except merges of level 0.  Failed merges do not prevent images, and neither
 * prevents garbage collection.  Caller holds upkeep_lock.
 */
static PsError *
maintain_files(Timeline *tl, bool all)
{
	PsError *err = do_steps(tl, all);

	return ps_error_first(err, timeline_save_marks(tl));
}

bool
maintain_set_error(Timeline *tl, UpkeepKind kind, const PsError *err)
{
	char *known = tl->upkeep_errors[kind];
	bool is_new;

	pthread_mutex_lock(&tl->lock);
	is_new = err != NULL && strncmp(known, err->message, sizeof(tl->upkeep_errors[kind]) - 1) != 0;
	strlcpy(known, err != NULL ? err->message : "", sizeof(tl->upkeep_errors[kind]));
	pthread_mutex_unlock(&tl->lock);
	return is_new;
}

/*
 * What follows is upkeep, whoever asked for it: it may be canceled when the timeline stops,
 * and streams files that are not here.  Returns what end_upkeep() restores.
 */
static LayerContext
begin_upkeep(const CancelCheck *stopping)
{
	LayerContext before = layer_context;

	layer_context = (LayerContext) {.cancel = stopping};
	(void) layer_stream_begin();
	return before;
}

static void
end_upkeep(LayerContext before)
{
	layer_stream_end(layer_context.stream);
	layer_context = before;
}

PsError *
maintain_timeline(Timeline *tl, bool all)
{
	CancelCheck stopping = {timeline_check_stopping, tl};
	LayerContext before = begin_upkeep(&stopping);
	bool done = true;
	PsError *err = NULL;

	pthread_mutex_lock(&tl->upkeep_lock);
	history_advance(tl);
	while (err == NULL && done)
		err = compact_level0(tl, &done);
	maintain_set_error(tl, UPKEEP_LEVEL0, err);
	if (!timeline_is_stopping(tl))
		err = ps_error_first(err, maintain_files(tl, all));
	pthread_mutex_unlock(&tl->upkeep_lock);
	end_upkeep(before);
	return err;
}

bool
maintain_is_quiet(Timeline *tl)
{
	uint64 distance = (uint64) timeline_config(tl)->gc_horizon * 1024 * 1024;
	bool quiet = atomic_load(&tl->env->keep_all) == 0;

	/* garbage may be due later; another thread that does upkeep now may take hours */
	if (pthread_mutex_trylock(&tl->upkeep_lock) != 0)
		return false;
	quiet = quiet && tl->spec->maintained.marks.gc_readable == pins_digest(tl->spec->pins);
	pthread_mutex_unlock(&tl->upkeep_lock);
	pthread_mutex_lock(&tl->lock);
	quiet = quiet && tl->ncopies == 0;
	if (tl->disk_consistent_lsn > tl->spec->start_lsn + distance &&
		pins_cutoff(tl->spec->pins) < tl->disk_consistent_lsn - distance)
		quiet = false;
	pthread_mutex_unlock(&tl->lock);
	return quiet && !pins_have_lease(tl->spec->pins);
}

bool
maintain_has_level0(Timeline *tl)
{
	int n;

	pthread_mutex_lock(&tl->lock);
	n = tl->level0;
	pthread_mutex_unlock(&tl->lock);
	return n >= timeline_config(tl)->compaction_threshold;
}

PsError *
maintain_level0(Timeline *tl, bool *any)
{
	CancelCheck stopping = {timeline_check_stopping, tl};
	LayerContext before = begin_upkeep(&stopping);
	bool done = true;
	PsError *err = NULL;

	while (err == NULL && done)
	{
		err = compact_level0(tl, &done);
		*any |= done;
	}
	end_upkeep(before);
	return err;
}

PsError *
maintain_all(Timeline *tl)
{
	CancelCheck stopping = {timeline_check_stopping, tl};
	LayerContext before = begin_upkeep(&stopping);
	PsError *err = NULL;

	pthread_mutex_lock(&tl->upkeep_lock);
	history_advance(tl);
	if (!timeline_is_stopping(tl))
		err = maintain_files(tl, false);
	pthread_mutex_unlock(&tl->upkeep_lock);
	end_upkeep(before);
	return err;
}
