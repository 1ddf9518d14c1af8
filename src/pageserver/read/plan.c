/*
 * plan.c
 *	  Determines which versions a read needs, from the indexes of layers alone.
 */
#include "ps_fe.h"

#include "read/read_impl.h"

/*
 * Waits until the ancestor of t has ingested its WAL up to where t begins.  After a start
 * of the store, what is not in the ancestor's files is missing until then.
 */
static PsError *
wait_for_ancestor(Timeline *tl, Timeline *t)
{
	if (t->ancestor == NULL || atomic_load(&t->ancestor_is_there))
		return NULL;
	PS_TRY(timeline_wait_ingested(t->ancestor, t->spec->start_lsn, timeline_config(tl)->wait_timeout, NULL));
	atomic_store(&t->ancestor_is_there, true);
	return NULL;
}

PsError *
view_open(ReadView *view, Timeline *tl, XLogRecPtr lsn)
{
	int n = 0;

	view->tl = tl;
	view->n = 0;
	for (Timeline *t = tl; t != NULL; t = t->ancestor)
		n++;
	view->levels = n <= lengthof(view->few) ? view->few : pg_malloc(n * sizeof(ReadLevel));
	for (Timeline *t = tl; t != NULL; t = t->ancestor)
	{
		ReadLevel *level = &view->levels[view->n];
		PsError *err = wait_for_ancestor(tl, t);

		if (err == NULL)
			err = timeline_layers_at(t, lsn, &level->set);
		if (err != NULL)
		{
			view_close(view);
			return err;
		}
		level->tl = t;
		level->lsn = lsn;
		view->n++;
		lsn = Min(lsn, t->spec->start_lsn);
	}
	return NULL;
}

void
view_keep_files(ReadView *view, XLogRecPtr *latest)
{
	*latest = layer_set_memory_start(view->levels[0].set) - 1;
	for (int i = 0; i < view->n; i++)
	{
		ReadLevel *level = &view->levels[i];
		LayerSet *files;

		if (Min(level->lsn, *latest) >= layer_set_memory_start(level->set))
			continue;
		files = layer_set_files(level->set);
		layer_set_unref(level->set);
		level->set = files;
	}
}

void
view_close(ReadView *view)
{
	for (int i = 0; i < view->n; i++)
		layer_set_unref(view->levels[i].set);
	if (view->levels != view->few)
		free(view->levels);
	view->tl = NULL;
	view->n = 0;
	view->levels = view->few;
}

static PsError *
plan_level(const LayerSet *set, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn, ValueList *list, bool *done)
{
	PS_TRY(layer_collect(set->open, key, lsn_min, lsn, list, done));
	for (int i = 0; i < set->nfrozen && !*done; i++)
		PS_TRY(layer_collect(set->frozen[i], key, lsn_min, lsn, list, done));
	if (!*done)
		PS_TRY(layer_map_collect(set->map, key, lsn_min, lsn, list, done));
	return NULL;
}

PsError *
plan_key(Plan *plan, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn)
{
	ValueList *list = &plan->versions;
	bool done = false;

	plan->keys++;
	for (int i = 0; i < plan->view->n && !done; i++)
	{
		const ReadLevel *level = &plan->view->levels[i];
		XLogRecPtr upto = Min(lsn, level->lsn);
		int first = list->n;

		if (upto < lsn_min)
			break;
		PS_TRY(plan_level(level->set, key, lsn_min, upto, list, &done));
		for (int k = first; k < list->n; k++)
			list->refs[k].source = (uint16) i;
	}
	return NULL;
}

PsError *
plan_one_key(Plan *plan, const ReadView *view, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn)
{
	PsError *err;

	plan_init(plan, view);
	do
		err = plan_key(plan, key, lsn_min, lsn);
	while (plan_again(plan, &err));
	return err;
}
