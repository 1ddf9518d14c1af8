/*
 * trash.c
 *	  Branches that were deleted, and can be had back for trash_interval; those
 *	  that are protected from that.
 *
 * A file in the timeline's directory says that it is in the trash
 * (trash_mark.h); the directory stays where it is.  In memory it stays in the
 * store, with what it pins in its ancestor, but has no name that others could
 * find, and nobody can use it.  So a crash leaves it in the trash or not, and
 * nothing that it needs goes.  Its files and its memory go when it has been
 * there for long enough, or is purged.  Files are written and moved while the
 * thread has begun a change of the timeline (store_begin_change()), never with
 * Store.lock held.
 *
 * What begins in it goes before it, and comes back after it: whatever has an
 * ancestor in the trash is in the trash itself.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "sqlstate.h"
#include "base/fs.h"
#include "timeline/timeline_impl.h"

/* ---- finding ---- */

Timeline *
trash_named(const Store *store, const char *name)
{
	Timeline *last = NULL;
	PsId id;
	bool by_id = ps_id_parse(name, &id);

	for (int i = 0; i < store->ntimelines; i++)
	{
		Timeline *tl = store->timelines[i];

		if (!tl->in_trash)
			continue;
		if (by_id && ps_id_equal(&tl->id, &id))
			return tl;
		if (strcmp(tl->name, name) == 0 && (last == NULL || tl->trash_mark.at > last->trash_mark.at))
			last = tl;
	}
	return last;
}

static PsError *
not_in_trash(const char *name)
{
	return ps_error_hint(ps_error(PS_SQLSTATE_NOT_FOUND, "there is no branch \"%s\" in the trash", name),
						 "\"pageserver_ctl branch list --deleted\" shows what is there.");
}

PsError *
trash_error(const Timeline *tl)
{
	char id[PS_ID_TEXT];

	return ps_error_hint(ps_error(PS_SQLSTATE_NOT_FOUND, "branch \"%s\" does not exist any more, it was deleted", tl->name),
						 "\"pageserver_ctl branch undelete %s\" brings it back.", ps_id_format(&tl->id, id));
}

/* ---- into the trash ---- */

/*
 * OUTCOME_UNKNOWN: the mark could neither be made durable nor be taken back, and
 * nobody knows whether it is there after a power failure.  Then the branch must
 * not go on.  Caller has begun a change, and holds no lock.
 */
static PsError *
put_mark(const Timeline *tl, const TrashMark *mark, Outcome *outcome)
{
	PsError *err = trash_mark_write(tl->dir, tl->env->clock, mark, outcome);

	return *outcome != OUTCOME_UNKNOWN ? err : ps_error_unknown(err, "Branch \"%s\" is deleted now, but may be there again after a restart.", tl->name);
}

PsError *
store_trash_branch(Store *store, const char *name, const char *by, const CancelCheck *cancel, Timeline **result)
{
	TrashMark mark;
	Timeline *tl;
	Outcome outcome;
	PsError *err;

	*result = NULL;
	trash_mark_make(&mark, store->clock, by);
	pthread_mutex_lock(&store->lock);
	err = store_save_names(store, cancel);
	if (err == NULL)
		err = store_named_settled(store, name, cancel, &tl);
	if (err == NULL)
		err = store_check_no_children(store, tl, false);
	if (err == NULL)
	{
		/* nothing begins in it meanwhile (check_place() in store/add.c) */
		store_begin_change(store, tl);
		pthread_mutex_unlock(&store->lock);
		err = put_mark(tl, &mark, &outcome);
		pthread_mutex_lock(&store->lock);
		if (outcome != OUTCOME_NOT_DONE)
		{
			tl->in_trash = true;
			tl->trash_mark = mark;
			tl->users++; /* until store_finish_trash() */
			if (tl->life == TIMELINE_OPEN)
				timeline_stop(tl, CANCEL_BRANCH_DELETED);
			*result = tl;
		}
		store_end_change(store, tl);
	}
	pthread_mutex_unlock(&store->lock);
	return err;
}

void
store_finish_trash(Timeline *tl)
{
	Store *store = tl->tenant->store;

	pthread_mutex_lock(&store->lock);
	/* others may have closed it, then taken it out of the trash */
	while (tl->in_trash && (tl->life == TIMELINE_CLOSING || (tl->life == TIMELINE_OPEN && tl->uses > 0)))
		pthread_cond_wait(&store->changed, &store->lock);
	if (tl->in_trash && tl->life == TIMELINE_OPEN)
		store_close_timeline(store, tl);
	store_unhold(store, tl);
	pthread_mutex_unlock(&store->lock);
}

/* ---- out of it ---- */

/* trash_named(), when it is closed and nobody changes it.  Caller holds Store.lock, which may be let go. */
static PsError *
find_settled(Store *store, const char *name, const CancelCheck *cancel, Timeline **tl)
{
	CancelWait wait = {.cancel = cancel};

	while ((*tl = trash_named(store, name)) != NULL)
	{
		if ((*tl)->tenant->life != TENANT_ATTACHED)
			return tenant_detached_error((*tl)->tenant);
		if (((*tl)->life == TIMELINE_CLOSED || (*tl)->life == TIMELINE_BROKEN) && !(*tl)->changing)
			return NULL;
		PS_TRY(store_wait(store, &wait));
	}
	return not_in_trash(name);
}

/* May it come back, and have the name?  Caller holds Store.lock, which may be let go, but not after the last look. */
static PsError *
find_to_undelete(Store *store, const char *name, const char *new_name, const CancelCheck *cancel, Timeline **result)
{
	CancelWait wait = {.cancel = cancel};
	Timeline *tl;
	PsError *err;

	for (;;)
	{
		PS_TRY(find_settled(store, name, cancel, &tl));
		/* it is being deleted, perhaps */
		if (tl->ancestor == NULL || !tl->ancestor->changing)
			break;
		PS_TRY(store_wait(store, &wait));
	}
	*result = tl;
	PS_TRY(trash_mark_check(&tl->trash_mark, tl->dir));
	if (tl->ancestor != NULL && tl->ancestor->in_trash)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "branch \"%s\" begins in branch \"%s\", which is deleted, too", tl->name, tl->ancestor->name),
							 "Undelete that one first.");
	/* one that cannot be read may have no name, and is not served in any case */
	if (new_name == NULL && tl->name[0] == '\0')
		return NULL;
	err = store_check_name_is_free(store, new_name != NULL ? new_name : tl->name);
	if (err != NULL && new_name == NULL && err->hint == NULL)
		err = ps_error_hint(err, "Give another name: pageserver_ctl branch undelete %s NEW_NAME", name);
	return err;
}

PsError *
store_undelete_branch(Store *store, const char *name, const char *new_name, const CancelCheck *cancel,
					  char result[TIMELINE_NAME_MAX + 1])
{
	Timeline *tl;
	Outcome outcome;
	PsError *err;

	pthread_mutex_lock(&store->lock);
	err = store_save_names(store, cancel);
	if (err == NULL)
		err = find_to_undelete(store, name, new_name, cancel, &tl);
	if (err == NULL)
	{
		Reservation reservation = {.name = new_name != NULL ? new_name : tl->name,
								   .ancestor = tl->ancestor};

		store_reserve(store, &reservation);
		store_begin_change(store, tl);
		if (strcmp(reservation.name, tl->name) != 0 || tl->name_unsaved)
			err = store_set_name(store, tl, reservation.name);
		if (err == NULL)
		{
			pthread_mutex_unlock(&store->lock);
			err = trash_mark_remove(tl->dir, store->clock, &tl->trash_mark, &outcome);
			pthread_mutex_lock(&store->lock);
			if (outcome == OUTCOME_UNKNOWN)
				err = ps_error_unknown(err, "Branch \"%s\" is in the trash still, but may be out of it after a restart.", tl->name);
		}
		if (err == NULL)
		{
			tl->in_trash = false;
			strlcpy(result, tl->name, TIMELINE_NAME_MAX + 1);
			upkeep_wake(store->upkeep, tl);
		}
		store_end_change(store, tl);
		store_unreserve(store, &reservation);
	}
	pthread_mutex_unlock(&store->lock);
	return err;
}

/* ---- looking at what is in it ---- */

PsError *
store_hold_deleted(Store *store, const char *name, const CancelCheck *cancel, Timeline **tl)
{
	PsError *err;

	pthread_mutex_lock(&store->lock);
	err = find_settled(store, name, cancel, tl);
	if (err == NULL)
		(*tl)->users++;
	pthread_mutex_unlock(&store->lock);
	return err;
}

bool
store_is_in_trash(Timeline *tl)
{
	Store *store = tl->tenant->store;
	bool is_in_trash;

	pthread_mutex_lock(&store->lock);
	is_in_trash = tl->in_trash && !tl->gone && !tl->changing && tl->tenant->life == TENANT_ATTACHED;
	pthread_mutex_unlock(&store->lock);
	return is_in_trash;
}

void
store_release_deleted(Timeline *tl)
{
	Store *store = tl->tenant->store;

	pthread_mutex_lock(&store->lock);
	store_unhold(store, tl);
	pthread_mutex_unlock(&store->lock);
}

/* ---- away for good ---- */

/*
 * Takes a closed one, which nobody changes, out of the store; *gone: for
 * store_destroy_branch(), also after an error that says that it may be there
 * again.  Caller holds Store.lock, which is let go meanwhile.
 */
static PsError *
take_out(Store *store, Timeline *tl, bool *gone)
{
	Outcome outcome;
	PsError *err;

	store_begin_change(store, tl);
	pthread_mutex_unlock(&store->lock);
	err = store_move_away(tl, &outcome);
	pthread_mutex_lock(&store->lock);
	*gone = outcome != OUTCOME_NOT_DONE;
	if (*gone)
	{
		tl->files_stay = outcome == OUTCOME_UNKNOWN;
		store_forget(store, tl);
	}
	store_end_change(store, tl);
	return err;
}

/* An error if there are others of this name in the trash. */
static PsError *
check_is_only_one(const Store *store, const Timeline *tl)
{
	char a[PS_ID_TEXT];
	char b[PS_ID_TEXT];

	for (int i = 0; i < store->ntimelines; i++)
	{
		const Timeline *other = store->timelines[i];

		if (other->in_trash && other != tl && strcmp(other->name, tl->name) == 0)
			return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "several branches \"%s\" are in the trash: %s, %s", tl->name,
										  ps_id_format(&tl->id, a), ps_id_format(&other->id, b)),
								 "Name the one that is to go by its id.");
	}
	return NULL;
}

PsError *
store_purge_branch(Store *store, const char *name, const CancelCheck *cancel, Timeline **result)
{
	Timeline *tl;
	PsId id;
	bool gone = false;
	PsError *err;

	pthread_mutex_lock(&store->lock);
	err = find_settled(store, name, cancel, &tl);
	if (err == NULL && !ps_id_parse(name, &id))
		err = check_is_only_one(store, tl);
	if (err == NULL)
		err = trash_mark_check(&tl->trash_mark, tl->dir);
	if (err == NULL)
		err = store_check_no_children(store, tl, true);
	if (err == NULL)
		err = take_out(store, tl, &gone);
	pthread_mutex_unlock(&store->lock);
	*result = gone ? tl : NULL;
	return err;
}

/* One that has been there for long enough, and in which nothing begins; NULL: there is none.  Caller holds Store.lock. */
static Timeline *
find_old(Store *store)
{
	for (int i = 0; i < store->ntimelines; i++)
	{
		Timeline *tl = store->timelines[i];
		PsError *err;

		if (!tl->in_trash || tl->changing || (tl->life != TIMELINE_CLOSED && tl->life != TIMELINE_BROKEN) ||
			tl->tenant->life != TENANT_ATTACHED ||
			trash_mark_time_left(&tl->trash_mark, store->clock, store->config->trash_interval) > 0)
			continue;
		err = store_check_no_children(store, tl, true);
		if (err == NULL)
			return tl;
		ps_error_free(err);
	}
	return NULL;
}

void
trash_empty(Store *store)
{
	for (;;)
	{
		Timeline *tl;
		char name[TIMELINE_NAME_MAX + 1];
		char id[PS_ID_TEXT];
		bool gone = false;
		PsError *err = NULL;

		pthread_mutex_lock(&store->lock);
		tl = atomic_load(&store->stopping) ? NULL : find_old(store);
		if (tl != NULL)
		{
			strlcpy(name, tl->name, sizeof(name));
			ps_id_format(&tl->id, id);
			err = take_out(store, tl, &gone);
		}
		pthread_mutex_unlock(&store->lock);
		if (err != NULL)
			ps_log_error(PS_WARNING, err, "branch \"%s\" (%s) %s in the trash", name, id, gone ? "may still be" : "stays");
		if (gone)
			store_destroy_branch(tl);
		if (tl == NULL || err != NULL)
			return;
		ps_log(PS_LOG, "branch \"%s\" (%s) removed from the trash, trash_interval is over", name, id);
	}
}

/* ---- listing ---- */

static int
by_time_left(const void *a, const void *b)
{
	int64 x = ((const DeletedInfo *) a)->time_left;
	int64 y = ((const DeletedInfo *) b)->time_left;

	return x < y ? -1 : x > y;
}

DeletedInfo *
store_list_deleted(Store *store, int *n)
{
	int nall;
	Timeline **all = store_list(store, &nall);
	DeletedInfo *list = pg_malloc0(Max(nall, 1) * sizeof(DeletedInfo));

	*n = 0;
	for (int i = 0; i < nall; i++)
	{
		DeletedInfo *deleted = &list[*n];
		TrashMark mark;
		PsError *unreadable;
		bool is_deleted;

		pthread_mutex_lock(&store->lock);
		is_deleted = all[i]->in_trash;
		mark = all[i]->trash_mark;
		pthread_mutex_unlock(&store->lock);
		if (!is_deleted)
			continue;
		/* which looks into its directories */
		store_timeline_info(all[i], &deleted->info);
		unreadable = trash_mark_check(&mark, all[i]->dir);
		if (unreadable != NULL)
			strlcpy(deleted->info.error, unreadable->message, sizeof(deleted->info.error));
		ps_error_free(unreadable);
		deleted->when = mark.when;
		deleted->by = pg_strdup(mark.by);
		deleted->time_left = Max(trash_mark_time_left(&mark, store->clock, store->config->trash_interval), 0);
		(*n)++;
	}
	store_list_free(all, nall);
	qsort(list, *n, sizeof(DeletedInfo), by_time_left);
	return list;
}

void
store_list_deleted_free(DeletedInfo *list, int n)
{
	for (int i = 0; i < n; i++)
		free(list[i].by);
	free(list);
}

/* ---- protection ---- */

bool
trash_is_protected(const char *timeline_dir)
{
	char *path = psprintf("%s/protected", timeline_dir);
	bool is_protected = access(path, F_OK) == 0;

	pfree(path);
	return is_protected;
}

PsError *
trash_set_protected(const char *timeline_dir, bool is_protected)
{
	char *path = psprintf("%s/protected", timeline_dir);
	PsError *err = fs_set_mark(path, is_protected);

	pfree(path);
	return err;
}

/* Caller has begun a change, and holds no lock. */
static PsError *
set_protected(const Timeline *tl, bool is_protected)
{
	PsError *err = trash_set_protected(tl->dir, is_protected);
	PsError *undo;

	if (err == NULL)
		return NULL;
	/* it may be done in spite of the error */
	undo = trash_set_protected(tl->dir, tl->is_protected);
	if (undo == NULL)
		return err;
	ps_error_free(undo);
	return ps_error_unknown(err, "Branch \"%s\" is %s now, but may be %s after a restart.", tl->name,
							tl->is_protected ? "protected" : "not protected", is_protected ? "protected" : "unprotected");
}

PsError *
store_protect_branch(Store *store, const char *name, bool is_protected, const CancelCheck *cancel)
{
	Timeline *tl;
	PsError *err;

	pthread_mutex_lock(&store->lock);
	err = store_named_settled(store, name, cancel, &tl);
	if (err == NULL)
	{
		store_begin_change(store, tl);
		pthread_mutex_unlock(&store->lock);
		err = set_protected(tl, is_protected);
		pthread_mutex_lock(&store->lock);
		if (err == NULL)
			tl->is_protected = is_protected;
		store_end_change(store, tl);
	}
	pthread_mutex_unlock(&store->lock);
	return err;
}
