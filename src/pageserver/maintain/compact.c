/*
 * compact.c
 *	  Merges delta files, so that a read has to search only a few of them.
 *
 * Flushes write files of level 0, each of which covers all keys.  compaction_threshold of
 * them become a *run* of level 1: files that follow each other by key.  compaction_fanout
 * runs of a level become one run of the next.  So a value is written once for each level,
 * and a read searches a few files of each, until it finds an image (images.c).
 */
#include "ps_fe.h"

#include "maintain/maintain_impl.h"
#include "maintain/merge.h"
#include "layer/layer_format.h"
#include "sqlstate.h"

/* Time between two warnings that there is no disk space for a merge, ms. */
#define WARNING_INTERVAL (3600 * 1000)

/* Delta files of one level, oldest first. */
typedef struct Level
{
	Layer **layers;
	int n;
	int runs;
	uint64 bytes;
} Level;

/* Argument of check_merge(). */
typedef struct MergeCheck
{
	Timeline *tl;
	const Level *level;
} MergeCheck;

/* The CancelCheck of a merge: ends it when the timeline stops or others have used up the disk. */
static PsError *
check_merge(void *arg)
{
	const MergeCheck *check = arg;

	PS_TRY(timeline_check_stopping(check->tl));
	if (room_is_exhausted(check->tl))
		return room_error(check->tl, check->level->bytes, "merge of layer files was abandoned and is postponed");
	return NULL;
}

static int
by_lsn(const void *a, const void *b)
{
	const LayerInfo *x = layer_info(*(Layer *const *) a);
	const LayerInfo *y = layer_info(*(Layer *const *) b);

	if (x->lsn_start != y->lsn_start)
		return x->lsn_start < y->lsn_start ? -1 : 1;
	return x->lsn_end < y->lsn_end ? -1 : x->lsn_end > y->lsn_end;
}

/* Finds the delta files of a level.  Files whose LSN ranges overlap belong to the same run. */
static void
find_level(const LayerMap *map, int level, Level *found)
{
	XLogRecPtr end = InvalidXLogRecPtr;

	memset(found, 0, sizeof(*found));
	found->layers = pg_malloc(Max(layer_map_count(map), 1) * sizeof(Layer *));
	for (int i = 0; i < layer_map_count(map); i++)
	{
		const LayerInfo *info = layer_info(layer_map_get(map, i));

		if (info->type == LAYER_DELTA && info->level == level)
			found->layers[found->n++] = layer_map_get(map, i);
	}
	qsort(found->layers, found->n, sizeof(Layer *), by_lsn);
	for (int i = 0; i < found->n; i++)
	{
		const LayerInfo *info = layer_info(found->layers[i]);

		if (level == 0 || info->lsn_start >= end)
			found->runs++;
		end = Max(end, info->lsn_end);
	}
}

/* Merges the files of a level into a run of the next. */
static PsError *
merge_level(Timeline *tl, const LayerMap *map, const Level *level, int number)
{
	const Config *config = timeline_config(tl);
	History history;
	MergeCheck check = {tl, level};
	MergeJob job = {.space = &tl->spec->space,
					.inputs = level->layers,
					.ninputs = level->n,
					.level = Min(number + 1, LAYER_LEVEL_MAX),
					.target_size = (uint64) config->target_file_size * 1024 * 1024,
					.memory = (size_t) config->compaction_memory * 1024 * 1024,
					.cancel = {check_merge, &check}};
	MergeResult result = {0};
	Layer **images = pg_malloc(Max(layer_map_count(map), 1) * sizeof(Layer *));
	PsError *err;

	PS_GOTO(history_init(&history, tl), done);
	job.retention = &history.retention;

	/* images make older versions unnecessary unless somebody can read in between */
	for (int i = 0; i < layer_map_count(map); i++)
	{
		Layer *layer = layer_map_get(map, i);

		if (layer_info(layer)->type == LAYER_IMAGE &&
			layer_info(layer)->lsn_start >= layer_info(level->layers[0])->lsn_start)
			images[job.ncontext++] = layer;
	}
	job.context = images;
	err = merge_layers(&job, &result);
	if (err != NULL)
		goto done;
	PS_GOTO(timeline_replace_files(tl, result.layers, result.nlayers, level->layers, level->n), done);
	ps_log(PS_LOG, "branch \"%s\": merged %d files of level %d into %d, kept %llu of %llu versions", timeline_name(tl),
		   level->n, number, result.nlayers, (unsigned long long) result.kept,
		   (unsigned long long) (result.kept + result.dropped));

done:
	merge_result_free(&result);
	history_free(&history);
	free(images);
	return err;
}

/*
 * Reserves disk space for merging the level.  If there is not enough, reduces the level to
 * the oldest runs for which there is, at least two.  Returns false if there is no space
 * for two; *needed is what those need.
 */
static bool
reserve_room(Timeline *tl, Level *level, uint64 *needed)
{
	uint64 left = room_left(tl);
	XLogRecPtr end = InvalidXLogRecPtr;
	Level fits = {.layers = level->layers};
	uint64 bytes = 0;
	int runs = 0;

	*needed = 0;
	for (int i = 0; i <= level->n; i++)
	{
		const LayerInfo *info = i < level->n ? layer_info(level->layers[i]) : NULL;
		bool begins = info == NULL || info->level == 0 || info->lsn_start >= end;

		if (begins && runs == 2)
			*needed = bytes;
		if (begins && runs >= 2 && bytes <= left)
		{
			fits.n = i;
			fits.runs = runs;
			fits.bytes = bytes;
		}
		if (info == NULL)
			break;
		runs += begins;
		bytes += info->file_size;
		end = Max(end, info->lsn_end);
	}
	if (fits.n == 0 || !room_reserve(tl, fits.bytes))
		return false;
	*level = fits;
	return true;
}

/*
 * No disk space for a merge.  That is an error for level 0, because writers wait for it;
 * for other levels a warning is logged from time to time.
 */
static PsError *
no_room(Timeline *tl, const Level *level, int number, uint64 needed)
{
	char *what = psprintf("%d files of level %d wait to be merged", level->n, number);
	PsError *err = room_error(tl, needed, what);
	int64 now = clock_now_ms();

	pfree(what);
	if (number == 0)
		return err;
	if (tl->spec->maintained.room_warned == 0 || now - tl->spec->maintained.room_warned >= WARNING_INTERVAL)
		ps_log_error(PS_WARNING, err, "branch \"%s\"", timeline_name(tl));
	else
	{
		ps_error_free(err);
		return NULL;
	}
	tl->spec->maintained.room_warned = now;
	return NULL;
}

static PsError *
compact_level(Timeline *tl, int number, int least, bool *done)
{
	LayerSet *set = timeline_files(tl);
	Level level;
	uint64 needed;
	PsError *err = NULL;

	find_level(set->map, number, &level);
	if (level.runs >= least)
	{
		if (reserve_room(tl, &level, &needed))
		{
			err = merge_level(tl, set->map, &level, number);
			room_release(tl, level.bytes);
			*done = err == NULL;
		}
		else
			err = no_room(tl, &level, number, needed);
	}
	free(level.layers);
	layer_set_unref(set);
	return err;
}

PsError *
compact_level0(Timeline *tl, bool *done)
{
	PsError *err;

	*done = false;
	pthread_mutex_lock(&tl->level0_lock);
	err = compact_level(tl, 0, timeline_config(tl)->compaction_threshold, done);
	pthread_mutex_unlock(&tl->level0_lock);
	return err;
}

PsError *
compact_levels(Timeline *tl, bool *done)
{
	PsError *err = NULL;

	*done = false;
	for (int number = 1; number <= LAYER_LEVEL_MAX && !*done && err == NULL; number++)
		err = compact_level(tl, number, timeline_config(tl)->compaction_fanout, done);
	return err;
}
