/*
 * timeline_save.c
 *	  Changes of the manifest of an open timeline.
 *
 * A change is appended to the log.  Nothing that depends on the number of layer files is built
 * for that: Timeline.saved is what the log says, without its layers, and the caller says which
 * files are added and dropped.
 */
#include "ps_fe.h"

#include "timeline/engine.h"

/* ---- files whose manifest may or may not be on disk ---- */

/* After OUTCOME_UNKNOWN either state may be found after a crash: keeps the files that only the new one names. */
static void
keep_uncertain(Timeline *tl, Layer *const *add, int nadd)
{
	if (nadd == 0)
		return;
	tl->uncertain = pg_realloc(tl->uncertain, (tl->nuncertain + nadd) * sizeof(Layer *));
	for (int i = 0; i < nadd; i++)
		tl->uncertain[tl->nuncertain++] = layer_ref(add[i]);
}

/* The manifest is durable and does not name these files: removes them. */
static void
remove_uncertain(Timeline *tl)
{
	for (int i = 0; i < tl->nuncertain; i++)
	{
		layer_remove(tl->uncertain[i]);
		layer_unref(tl->uncertain[i]);
	}
	tl->nuncertain = 0;
}

/* ---- the new state, without its layers ---- */

/* Only copies whose record is in layer files: ingest finds the others again. */
static void
set_copies(Timeline *tl, Manifest *m, const DbCopy *done)
{
	pthread_mutex_lock(&tl->lock);
	m->copies = pg_realloc(m->copies, Max(tl->ncopies, 1) * sizeof(DbCopy));
	m->ncopies = 0;
	for (int i = 0; i < tl->ncopies; i++)
		if (tl->copies[i].end <= m->disk_consistent_lsn && (done == NULL || tl->copies[i].end != done->end))
			m->copies[m->ncopies++] = tl->copies[i];
	pthread_mutex_unlock(&tl->lock);
}

/* What the manifest will say; the caller calls manifest_free(). */
static void
make_state(Timeline *tl, const TimelineChange *change, Manifest *m)
{
	memset(m, 0, sizeof(*m));
	manifest_copy(m, &tl->saved);
	strlcpy(m->name, change->name != NULL ? change->name : tl->next_name, sizeof(m->name));
	m->disk_consistent_lsn = change->disk_consistent_lsn != 0 ? change->disk_consistent_lsn : tl->disk_consistent_lsn;
	m->gc_cutoff = timeline_gc_cutoff(tl);
	m->generation = change->generation != 0 ? change->generation : tl->generation;
	strlcpy(m->owner, change->owner != NULL ? change->owner : tl->owner, sizeof(m->owner));
	set_copies(tl, m, change->copy_done);
	if (change->marks != NULL)
	{
		m->marks = *change->marks;
		free(m->imaged);
		m->imaged = pins_imaged(tl->spec->pins, &m->nimaged);
	}
}

/* ---- writing ---- */

static PsError *
write_whole(Timeline *tl, const Manifest *state, LayerMap *map, Outcome *outcome)
{
	Manifest m = *state;
	PsError *err;

	m.nlayers = layer_map_count(map);
	m.layers = pg_malloc(Max(m.nlayers, 1) * sizeof(LayerInfo));
	for (int i = 0; i < m.nlayers; i++)
		m.layers[i] = *layer_info(layer_map_get(map, i));
	err = manifest_write(tl->spec->dir, &m, &tl->log, outcome);
	free(m.layers);
	return err;
}

/* *noted: the change, if somebody is to be told of it when it is done; the caller owns it. */
static PsError *
write_state(Timeline *tl, const TimelineChange *change, const Manifest *state, json_t **noted, Outcome *outcome)
{
	bool whole = tl->log.write_whole || manifest_log_is_long(&tl->log);
	bool note = tl->env->changes.note != NULL;
	json_t *json = NULL;

	*noted = NULL;
	if (!whole || note)
		json = manifest_change_json(&tl->saved, state, change->add, change->nadd, change->drop, change->ndrop);
	if (note && json_object_size(json) > 0)
		*noted = json_incref(json);
	if (whole)
	{
		LayerSet *set = change->map == NULL ? timeline_layers(tl) : NULL;
		PsError *err = write_whole(tl, state, set != NULL ? set->map : change->map, outcome);

		layer_set_unref(set);
		json_decref(json);
		return err;
	}
	if (json == NULL || json_object_size(json) > 0)
		return manifest_log_append(tl->spec->dir, &tl->log, json, outcome);
	json_decref(json);
	*outcome = OUTCOME_DONE;
	return NULL;
}

PsError *
timeline_save(Timeline *tl, const TimelineChange *change, Outcome *outcome)
{
	Outcome unused;
	Manifest state;
	json_t *noted;
	PsError *err;

	if (outcome == NULL)
		outcome = &unused;
	make_state(tl, change, &state);
	err = write_state(tl, change, &state, &noted, outcome);
	switch (*outcome)
	{
		case OUTCOME_DONE:
			manifest_free(&tl->saved);
			tl->saved = state;
			if (noted != NULL)
				tl->env->changes.note(tl->env->changes.arg, &tl->spec->id, noted);
			remove_uncertain(tl);
			return err;
		case OUTCOME_UNKNOWN:
			keep_uncertain(tl, change->add, change->nadd);
			break;
		case OUTCOME_NOT_DONE:
			for (int i = 0; i < change->nadd; i++)
				layer_remove(change->add[i]);
			break;
	}
	json_decref(noted);
	manifest_free(&state);
	return err;
}

PsError *
timeline_save_name(Timeline *tl, const char *name, bool later, Outcome *outcome)
{
	TimelineChange change = {.name = name};
	PsError *err;

	pthread_mutex_lock(&tl->manifest_lock);
	err = timeline_save(tl, &change, outcome);
	if (err == NULL || later)
		strlcpy(tl->next_name, name, sizeof(tl->next_name));
	pthread_mutex_unlock(&tl->manifest_lock);
	return err;
}

PsError *
timeline_save_marks(Timeline *tl)
{
	TimelineChange change = {.marks = &tl->spec->maintained.marks};
	PsError *err;

	pthread_mutex_lock(&tl->manifest_lock);
	err = timeline_save(tl, &change, NULL);
	pthread_mutex_unlock(&tl->manifest_lock);
	return err;
}
