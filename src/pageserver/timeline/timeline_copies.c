/*
 * timeline_copies.c
 *	  Databases of a timeline that were copied as a whole and whose pages are not
 *	  written yet: see DbCopy in manifest.h.
 */
#include "ps_fe.h"

#include "timeline/engine.h"

void
timeline_add_copy(Timeline *tl, const DbCopy *copy)
{
	pins_add(tl->spec->pins, copy->start, PIN_COPY);
	pins_add(tl->spec->pins, copy->end, PIN_COPY);
	pthread_mutex_lock(&tl->lock);
	tl->copies = pg_realloc(tl->copies, (tl->ncopies + 1) * sizeof(DbCopy));
	tl->copies[tl->ncopies++] = *copy;
	pthread_mutex_unlock(&tl->lock);
}

/* Finds the copy among those of the timeline; NULL if it was removed.  Caller holds Timeline.lock. */
static DbCopy *
find_copy(Timeline *tl, const DbCopy *copy)
{
	for (int i = 0; i < tl->ncopies; i++)
		if (tl->copies[i].end == copy->end)
			return &tl->copies[i];
	return NULL;
}

void
timeline_remove_copy(Timeline *tl, const DbCopy *copy)
{
	DbCopy gone = *copy;
	DbCopy *found;

	pthread_mutex_lock(&tl->lock);
	found = find_copy(tl, &gone);
	if (found != NULL)
		*found = tl->copies[--tl->ncopies];
	pthread_mutex_unlock(&tl->lock);
	if (found == NULL)
		return;
	pins_remove(tl->spec->pins, gone.start, PIN_COPY);
	pins_remove(tl->spec->pins, gone.end, PIN_COPY);
}

void
timeline_set_copies(Timeline *tl, const DbCopy *copies, int n)
{
	while (tl->ncopies > 0)
		timeline_remove_copy(tl, &tl->copies[0]);
	for (int i = 0; i < n; i++)
		timeline_add_copy(tl, &copies[i]);
}

bool
timeline_next_copy(Timeline *tl, DbCopy *copy)
{
	bool found = false;

	pthread_mutex_lock(&tl->lock);
	for (int i = 0; i < tl->ncopies; i++)
	{
		if (tl->copies[i].end > tl->disk_consistent_lsn || (found && tl->copies[i].end > copy->end))
			continue;
		*copy = tl->copies[i];
		found = true;
	}
	pthread_mutex_unlock(&tl->lock);
	return found;
}
