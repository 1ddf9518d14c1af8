/*
 * trash.c
 *	  Branches that were deleted, and can be undeleted for trash_interval.
 *
 * A file in the timeline's directory marks it as being in the trash (trash_mark.h); the
 * directory stays where it is.  The branch stays in the catalog, with its pins in its
 * ancestor, but is not found by its name, and no use of it begins.  So after a crash it is
 * in the trash or not, and nothing that it needs has been removed.  Its files and its
 * memory are freed when trash_interval is over, or when it is purged.  Files are written
 * and moved within a change of the branch (catalog_begin_change()), without Store.lock.
 *
 * Children are deleted before their ancestor and undeleted after it: a branch whose
 * ancestor is in the trash is in the trash itself.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "sqlstate.h"
#include "base/fs.h"
#include "store/store_impl.h"

static PsError *
not_in_trash_error(const char *name)
{
	return ps_error_hint(ps_error(PS_SQLSTATE_NOT_FOUND, "there is no branch \"%s\" in the trash", name),
						 "\"pageserver_ctl branch list --deleted\" shows what is there.");
}

/* ---- deleting ---- */

/*
 * Writes the mark.  OUTCOME_UNKNOWN: it could neither be made durable nor be removed again,
 * and may or may not exist after a power failure; the branch must not be used any more.
 * Caller has begun a change, and holds no lock.
 */
static PsError *
write_mark(const Branch *branch, const TrashMark *mark, Outcome *outcome)
{
	PsError *err = trash_mark_write(branch->spec.dir, branch->tenant->store->clock, mark, outcome);

	if (*outcome != OUTCOME_UNKNOWN)
		return err;
	return ps_error_unknown(err, "Branch \"%s\" is deleted now, but may be there again after a restart.",
							branch_name(branch));
}

PsError *
store_trash_branch(Store *store, const char *name, const char *by, const CancelCheck *cancel, Branch **result)
{
	TrashMark mark;
	Branch *branch;
	Outcome outcome;
	PsError *err;

	*result = NULL;
	trash_mark_make(&mark, store->clock, by);
	pthread_mutex_lock(&store->lock);
	err = names_save(store, cancel);
	if (err == NULL)
		err = catalog_find_changeable(store, name, cancel, &branch);
	if (err == NULL)
		err = catalog_check_no_children(store, branch, false);
	if (err == NULL)
	{
		/* the change keeps others from adding branches that begin in it (check_place() in store/add.c) */
		catalog_begin_change(store, branch);
		pthread_mutex_unlock(&store->lock);
		err = write_mark(branch, &mark, &outcome);
		if (err == NULL)
			owner_note_deleted(branch, &mark);
		pthread_mutex_lock(&store->lock);
		if (outcome != OUTCOME_NOT_DONE)
		{
			branch->in_trash = true;
			branch->trash_mark = mark;
			branch->users++; /* until store_finish_trash() */
			if (branch->life == BRANCH_OPEN)
				timeline_stop(branch->open, CANCEL_BRANCH_DELETED);
			*result = branch;
		}
		catalog_end_change(store, branch);
	}
	pthread_mutex_unlock(&store->lock);
	if (err == NULL)
		owner_wait(branch, cancel);
	return err;
}

void
store_finish_trash(Branch *branch)
{
	Store *store = branch->tenant->store;

	pthread_mutex_lock(&store->lock);
	/* it may have been closed and undeleted by other threads */
	while (branch->in_trash && (branch->life == BRANCH_CLOSING || (branch->life == BRANCH_OPEN && branch->uses > 0)))
		pthread_cond_wait(&store->changed, &store->lock);
	if (branch->in_trash && branch->life == BRANCH_OPEN)
		use_close(store, branch);
	catalog_unhold(store, branch);
	pthread_mutex_unlock(&store->lock);
}

/* ---- undeleting ---- */

/*
 * Like catalog_find_deleted(), but waits until the branch is closed and not being changed.
 * Caller holds Store.lock, which may be released.
 */
static PsError *
find_deleted_settled(Store *store, const char *name, const CancelCheck *cancel, Branch **branch)
{
	CancelWait wait = {.cancel = cancel};

	while ((*branch = catalog_find_deleted(store, name)) != NULL)
	{
		PS_TRY(catalog_check_service((*branch)->tenant));
		if (((*branch)->life == BRANCH_CLOSED || (*branch)->life == BRANCH_BROKEN) && !(*branch)->changing)
			return NULL;
		PS_TRY(catalog_wait(store, &wait));
	}
	return not_in_trash_error(name);
}

/*
 * Finds a branch that may be undeleted under the name.  Caller holds Store.lock, which may
 * be released, but not after the last check.
 */
static PsError *
find_to_undelete(Store *store, const char *name, const char *new_name, const CancelCheck *cancel, Branch **result)
{
	CancelWait wait = {.cancel = cancel};
	Branch *branch;
	PsError *err;

	for (;;)
	{
		PS_TRY(find_deleted_settled(store, name, cancel, &branch));
		/* the ancestor may be being purged */
		if (branch->ancestor == NULL || !branch->ancestor->changing)
			break;
		PS_TRY(catalog_wait(store, &wait));
	}
	*result = branch;
	PS_TRY(trash_mark_check(&branch->trash_mark, branch->spec.dir));
	if (branch->ancestor != NULL && branch->ancestor->in_trash)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "branch \"%s\" begins in branch \"%s\", which is deleted, too",
									  branch_name(branch), branch_name(branch->ancestor)),
							 "Undelete that one first.");
	/* a branch that cannot be read may have no name; it is BROKEN in any case */
	if (new_name == NULL && branch_name(branch)[0] == '\0')
		return NULL;
	err = names_check_is_free(store, new_name != NULL ? new_name : branch_name(branch));
	if (err != NULL && new_name == NULL && err->hint == NULL)
		err = ps_error_hint(err, "Give another name: pageserver_ctl branch undelete %s NEW_NAME", name);
	return err;
}

PsError *
store_undelete_branch(Store *store, const char *name, const char *new_name, const CancelCheck *cancel,
					  char result[TIMELINE_NAME_MAX + 1])
{
	Branch *branch;
	Outcome outcome;
	PsError *err;

	pthread_mutex_lock(&store->lock);
	err = names_save(store, cancel);
	if (err == NULL)
		err = find_to_undelete(store, name, new_name, cancel, &branch);
	if (err == NULL)
	{
		Reservation reservation = {.name = new_name != NULL ? new_name : branch_name(branch),
								   .ancestor = branch->ancestor};

		catalog_reserve(store, &reservation);
		catalog_begin_change(store, branch);
		if (strcmp(reservation.name, branch_name(branch)) != 0 || branch->name_unsaved)
			err = names_set(store, branch, reservation.name);
		if (err == NULL)
		{
			pthread_mutex_unlock(&store->lock);
			err = trash_mark_remove(branch->spec.dir, store->clock, &branch->trash_mark, &outcome);
			if (err == NULL)
				owner_note_deleted(branch, NULL);
			pthread_mutex_lock(&store->lock);
			if (outcome == OUTCOME_UNKNOWN)
				err = ps_error_unknown(err,
									   "Branch \"%s\" is still in the trash, but may be out of it after a restart.",
									   branch_name(branch));
		}
		if (err == NULL)
		{
			branch->in_trash = false;
			strlcpy(result, branch_name(branch), TIMELINE_NAME_MAX + 1);
			upkeep_wake(store->upkeep, branch);
		}
		catalog_end_change(store, branch);
		catalog_unreserve(store, &reservation);
	}
	pthread_mutex_unlock(&store->lock);
	return err;
}

/* ---- reading a deleted branch ---- */

PsError *
store_hold_deleted(Store *store, const char *name, const CancelCheck *cancel, Branch **branch)
{
	PsError *err;

	pthread_mutex_lock(&store->lock);
	err = find_deleted_settled(store, name, cancel, branch);
	if (err == NULL)
		(*branch)->users++;
	pthread_mutex_unlock(&store->lock);
	return err;
}

bool
store_is_in_trash(Branch *branch)
{
	Store *store = branch->tenant->store;
	bool is_in_trash;

	pthread_mutex_lock(&store->lock);
	is_in_trash = branch->in_trash && !branch->gone && !branch->changing && branch->tenant->life == TENANT_ATTACHED;
	pthread_mutex_unlock(&store->lock);
	return is_in_trash;
}

void
store_release_deleted(Branch *branch)
{
	Store *store = branch->tenant->store;

	pthread_mutex_lock(&store->lock);
	catalog_unhold(store, branch);
	pthread_mutex_unlock(&store->lock);
}

typedef struct DeletedCheck
{
	Branch *branch;
	const CancelCheck *cancel; /* the caller's, or NULL */
} DeletedCheck;

static PsError *
check_deleted(void *arg)
{
	const DeletedCheck *check = arg;

	if (!store_is_in_trash(check->branch))
		return ps_error(PS_SQLSTATE_TRY_AGAIN,
						"the branch was restored or removed from the trash while it was being verified");
	return cancel_check(check->cancel);
}

PsError *
store_verify_deleted(Branch *branch, int megabytes_per_second, const CancelCheck *cancel, VerifyReport report,
					 void *arg)
{
	Store *store = branch->tenant->store;
	DeletedCheck check = {branch, cancel};
	CancelCheck deleted_check = {check_deleted, &check};
	PsError *broken;

	pthread_mutex_lock(&store->lock);
	broken = branch->life == BRANCH_BROKEN ? ps_error_copy(branch->error) : NULL;
	pthread_mutex_unlock(&store->lock);
	return verify_closed(&branch->spec, broken, megabytes_per_second, &deleted_check, report, arg);
}

/* ---- removing for good ---- */

/*
 * Removes a closed branch, which no thread is changing, from the catalog.  *gone: it is
 * removed, and the caller calls store_destroy_branch(), also if an error says that it may
 * exist after a restart.  Caller holds Store.lock, which is released meanwhile.
 */
static PsError *
remove_closed(Store *store, Branch *branch, bool *gone)
{
	Outcome outcome;
	PsError *err;

	catalog_begin_change(store, branch);
	pthread_mutex_unlock(&store->lock);
	err = branch_move_away(branch, &outcome);
	pthread_mutex_lock(&store->lock);
	*gone = outcome != OUTCOME_NOT_DONE;
	if (*gone)
	{
		branch->files_stay = outcome == OUTCOME_UNKNOWN;
		catalog_remove_branch(store, branch);
	}
	catalog_end_change(store, branch);
	return err;
}

/* Fails if another branch of this name is in the trash. */
static PsError *
check_is_only_one(const Store *store, const Branch *branch)
{
	char a[PS_ID_TEXT];
	char b[PS_ID_TEXT];

	for (int i = 0; i < store->nbranches; i++)
	{
		const Branch *other = store->branches[i];

		if (other->in_trash && other != branch && strcmp(branch_name(other), branch_name(branch)) == 0)
			return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "several branches \"%s\" are in the trash: %s, %s",
										  branch_name(branch), ps_id_format(&branch->spec.id, a),
										  ps_id_format(&other->spec.id, b)),
								 "Specify the branch by its id.");
	}
	return NULL;
}

PsError *
store_purge_branch(Store *store, const char *name, const CancelCheck *cancel, Branch **result)
{
	Branch *branch;
	PsId id;
	bool gone = false;
	PsError *err;

	pthread_mutex_lock(&store->lock);
	err = find_deleted_settled(store, name, cancel, &branch);
	if (err == NULL && !ps_id_parse(name, &id))
		err = check_is_only_one(store, branch);
	if (err == NULL)
		err = trash_mark_check(&branch->trash_mark, branch->spec.dir);
	if (err == NULL)
		err = catalog_check_no_children(store, branch, true);
	if (err == NULL)
		err = remove_closed(store, branch, &gone);
	pthread_mutex_unlock(&store->lock);
	*result = gone ? branch : NULL;
	if (err == NULL)
		owner_wait(branch, cancel);
	return err;
}

/* Finds a branch whose trash_interval is over and that has no children, or NULL.  Caller holds Store.lock. */
static Branch *
find_expired(Store *store)
{
	for (int i = 0; i < store->nbranches; i++)
	{
		Branch *branch = store->branches[i];
		PsError *err;

		if (!branch->in_trash || branch->changing || (branch->life != BRANCH_CLOSED && branch->life != BRANCH_BROKEN) ||
			branch->tenant->life != TENANT_ATTACHED || branch->tenant->ownership == OWNER_WAITING ||
			branch->tenant->ownership == OWNER_FENCED ||
			trash_mark_time_left(&branch->trash_mark, store->clock, store->config->trash_interval) > 0)
			continue;
		err = catalog_check_no_children(store, branch, true);
		if (err == NULL)
			return branch;
		ps_error_free(err);
	}
	return NULL;
}

void
trash_empty(Store *store)
{
	for (;;)
	{
		Branch *branch;
		char name[TIMELINE_NAME_MAX + 1];
		char id[PS_ID_TEXT];
		bool gone = false;
		PsError *err = NULL;

		pthread_mutex_lock(&store->lock);
		branch = atomic_load(&store->stopping) ? NULL : find_expired(store);
		if (branch != NULL)
		{
			strlcpy(name, branch_name(branch), sizeof(name));
			ps_id_format(&branch->spec.id, id);
			err = remove_closed(store, branch, &gone);
		}
		pthread_mutex_unlock(&store->lock);
		if (err != NULL)
			ps_log_error(PS_WARNING, err, "branch \"%s\" (%s) %s in the trash", name, id,
						 gone ? "may still be" : "stays");
		if (gone)
			store_destroy_branch(branch);
		if (branch == NULL || err != NULL)
			return;
		ps_log(PS_LOG, "branch \"%s\" (%s) removed from the trash, trash_interval is over", name, id);
	}
}

/* ---- listing ---- */

static int
compare_time_left(const void *a, const void *b)
{
	int64 x = ((const DeletedInfo *) a)->time_left;
	int64 y = ((const DeletedInfo *) b)->time_left;

	return x < y ? -1 : x > y;
}

DeletedInfo *
store_list_deleted(Store *store, int *n)
{
	int nall;
	Branch **all = store_list(store, &nall);
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
		/* reads directories, hence without the lock */
		store_timeline_info(all[i], &deleted->info);
		unreadable = trash_mark_check(&mark, all[i]->spec.dir);
		if (unreadable != NULL)
			strlcpy(deleted->info.error, unreadable->message, sizeof(deleted->info.error));
		ps_error_free(unreadable);
		deleted->when = mark.when;
		deleted->by = pg_strdup(mark.by);
		deleted->time_left = Max(trash_mark_time_left(&mark, store->clock, store->config->trash_interval), 0);
		(*n)++;
	}
	store_list_free(all, nall);
	qsort(list, *n, sizeof(DeletedInfo), compare_time_left);
	return list;
}

void
store_list_deleted_free(DeletedInfo *list, int n)
{
	for (int i = 0; i < n; i++)
		free(list[i].by);
	free(list);
}
