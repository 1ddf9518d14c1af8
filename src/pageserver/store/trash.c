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
#include "store/store_impl.h"

/* ---- finding ---- */

Branch *
trash_named(const Store *store, const char *name)
{
	Branch *last = NULL;
	PsId id;
	bool by_id = ps_id_parse(name, &id);

	for (int i = 0; i < store->nbranches; i++)
	{
		Branch *branch = store->branches[i];

		if (!branch->in_trash)
			continue;
		if (by_id && ps_id_equal(&branch->spec.id, &id))
			return branch;
		if (strcmp(branch_name(branch), name) == 0 && (last == NULL || branch->trash_mark.at > last->trash_mark.at))
			last = branch;
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
trash_error(const Branch *branch)
{
	char id[PS_ID_TEXT];

	return ps_error_hint(ps_error(PS_SQLSTATE_NOT_FOUND, "branch \"%s\" does not exist any more, it was deleted", branch_name(branch)),
						 "\"pageserver_ctl branch undelete %s\" brings it back.", ps_id_format(&branch->spec.id, id));
}

/* ---- into the trash ---- */

/*
 * OUTCOME_UNKNOWN: the mark could neither be made durable nor be taken back, and
 * nobody knows whether it is there after a power failure.  Then the branch must
 * not go on.  Caller has begun a change, and holds no lock.
 */
static PsError *
put_mark(const Branch *branch, const TrashMark *mark, Outcome *outcome)
{
	PsError *err = trash_mark_write(branch->spec.dir, branch->tenant->store->clock, mark, outcome);

	return *outcome != OUTCOME_UNKNOWN ? err : ps_error_unknown(err, "Branch \"%s\" is deleted now, but may be there again after a restart.", branch_name(branch));
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
	err = store_save_names(store, cancel);
	if (err == NULL)
		err = store_named_settled(store, name, cancel, &branch);
	if (err == NULL)
		err = store_check_no_children(store, branch, false);
	if (err == NULL)
	{
		/* nothing begins in it meanwhile (check_place() in store/add.c) */
		store_begin_change(store, branch);
		pthread_mutex_unlock(&store->lock);
		err = put_mark(branch, &mark, &outcome);
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
		store_end_change(store, branch);
	}
	pthread_mutex_unlock(&store->lock);
	return err;
}

void
store_finish_trash(Branch *branch)
{
	Store *store = branch->tenant->store;

	pthread_mutex_lock(&store->lock);
	/* others may have closed it, then taken it out of the trash */
	while (branch->in_trash && (branch->life == BRANCH_CLOSING || (branch->life == BRANCH_OPEN && branch->uses > 0)))
		pthread_cond_wait(&store->changed, &store->lock);
	if (branch->in_trash && branch->life == BRANCH_OPEN)
		store_close_branch(store, branch);
	store_unhold(store, branch);
	pthread_mutex_unlock(&store->lock);
}

/* ---- out of it ---- */

/* trash_named(), when it is closed and nobody changes it.  Caller holds Store.lock, which may be let go. */
static PsError *
find_settled(Store *store, const char *name, const CancelCheck *cancel, Branch **branch)
{
	CancelWait wait = {.cancel = cancel};

	while ((*branch = trash_named(store, name)) != NULL)
	{
		if ((*branch)->tenant->life != TENANT_ATTACHED)
			return tenant_detached_error((*branch)->tenant);
		if (((*branch)->life == BRANCH_CLOSED || (*branch)->life == BRANCH_BROKEN) && !(*branch)->changing)
			return NULL;
		PS_TRY(store_wait(store, &wait));
	}
	return not_in_trash(name);
}

/* May it come back, and have the name?  Caller holds Store.lock, which may be let go, but not after the last look. */
static PsError *
find_to_undelete(Store *store, const char *name, const char *new_name, const CancelCheck *cancel, Branch **result)
{
	CancelWait wait = {.cancel = cancel};
	Branch *branch;
	PsError *err;

	for (;;)
	{
		PS_TRY(find_settled(store, name, cancel, &branch));
		/* it is being deleted, perhaps */
		if (branch->ancestor == NULL || !branch->ancestor->changing)
			break;
		PS_TRY(store_wait(store, &wait));
	}
	*result = branch;
	PS_TRY(trash_mark_check(&branch->trash_mark, branch->spec.dir));
	if (branch->ancestor != NULL && branch->ancestor->in_trash)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "branch \"%s\" begins in branch \"%s\", which is deleted, too", branch_name(branch), branch_name(branch->ancestor)),
							 "Undelete that one first.");
	/* one that cannot be read may have no name, and is not served in any case */
	if (new_name == NULL && branch_name(branch)[0] == '\0')
		return NULL;
	err = store_check_name_is_free(store, new_name != NULL ? new_name : branch_name(branch));
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
	err = store_save_names(store, cancel);
	if (err == NULL)
		err = find_to_undelete(store, name, new_name, cancel, &branch);
	if (err == NULL)
	{
		Reservation reservation = {.name = new_name != NULL ? new_name : branch_name(branch),
								   .ancestor = branch->ancestor};

		store_reserve(store, &reservation);
		store_begin_change(store, branch);
		if (strcmp(reservation.name, branch_name(branch)) != 0 || branch->name_unsaved)
			err = store_set_name(store, branch, reservation.name);
		if (err == NULL)
		{
			pthread_mutex_unlock(&store->lock);
			err = trash_mark_remove(branch->spec.dir, store->clock, &branch->trash_mark, &outcome);
			pthread_mutex_lock(&store->lock);
			if (outcome == OUTCOME_UNKNOWN)
				err = ps_error_unknown(err, "Branch \"%s\" is in the trash still, but may be out of it after a restart.", branch_name(branch));
		}
		if (err == NULL)
		{
			branch->in_trash = false;
			strlcpy(result, branch_name(branch), TIMELINE_NAME_MAX + 1);
			upkeep_wake(store->upkeep, branch);
		}
		store_end_change(store, branch);
		store_unreserve(store, &reservation);
	}
	pthread_mutex_unlock(&store->lock);
	return err;
}

/* ---- looking at what is in it ---- */

PsError *
store_hold_deleted(Store *store, const char *name, const CancelCheck *cancel, Branch **branch)
{
	PsError *err;

	pthread_mutex_lock(&store->lock);
	err = find_settled(store, name, cancel, branch);
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
	store_unhold(store, branch);
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
		return ps_error(PS_SQLSTATE_TRY_AGAIN, "the branch was restored or removed from the trash while it was being verified");
	return cancel_check(check->cancel);
}

PsError *
store_verify_deleted(Branch *branch, int megabytes_per_second, const CancelCheck *cancel, VerifyReport report, void *arg)
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

/* ---- away for good ---- */

/*
 * Takes a closed one, which nobody changes, out of the store; *gone: for
 * store_destroy_branch(), also after an error that says that it may be there
 * again.  Caller holds Store.lock, which is let go meanwhile.
 */
static PsError *
take_out(Store *store, Branch *branch, bool *gone)
{
	Outcome outcome;
	PsError *err;

	store_begin_change(store, branch);
	pthread_mutex_unlock(&store->lock);
	err = store_move_away(branch, &outcome);
	pthread_mutex_lock(&store->lock);
	*gone = outcome != OUTCOME_NOT_DONE;
	if (*gone)
	{
		branch->files_stay = outcome == OUTCOME_UNKNOWN;
		store_forget(store, branch);
	}
	store_end_change(store, branch);
	return err;
}

/* An error if there are others of this name in the trash. */
static PsError *
check_is_only_one(const Store *store, const Branch *branch)
{
	char a[PS_ID_TEXT];
	char b[PS_ID_TEXT];

	for (int i = 0; i < store->nbranches; i++)
	{
		const Branch *other = store->branches[i];

		if (other->in_trash && other != branch && strcmp(branch_name(other), branch_name(branch)) == 0)
			return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "several branches \"%s\" are in the trash: %s, %s", branch_name(branch),
										  ps_id_format(&branch->spec.id, a), ps_id_format(&other->spec.id, b)),
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
	err = find_settled(store, name, cancel, &branch);
	if (err == NULL && !ps_id_parse(name, &id))
		err = check_is_only_one(store, branch);
	if (err == NULL)
		err = trash_mark_check(&branch->trash_mark, branch->spec.dir);
	if (err == NULL)
		err = store_check_no_children(store, branch, true);
	if (err == NULL)
		err = take_out(store, branch, &gone);
	pthread_mutex_unlock(&store->lock);
	*result = gone ? branch : NULL;
	return err;
}

/* One that has been there for long enough, and in which nothing begins; NULL: there is none.  Caller holds Store.lock. */
static Branch *
find_old(Store *store)
{
	for (int i = 0; i < store->nbranches; i++)
	{
		Branch *branch = store->branches[i];
		PsError *err;

		if (!branch->in_trash || branch->changing || (branch->life != BRANCH_CLOSED && branch->life != BRANCH_BROKEN) ||
			branch->tenant->life != TENANT_ATTACHED ||
			trash_mark_time_left(&branch->trash_mark, store->clock, store->config->trash_interval) > 0)
			continue;
		err = store_check_no_children(store, branch, true);
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
		branch = atomic_load(&store->stopping) ? NULL : find_old(store);
		if (branch != NULL)
		{
			strlcpy(name, branch_name(branch), sizeof(name));
			ps_id_format(&branch->spec.id, id);
			err = take_out(store, branch, &gone);
		}
		pthread_mutex_unlock(&store->lock);
		if (err != NULL)
			ps_log_error(PS_WARNING, err, "branch \"%s\" (%s) %s in the trash", name, id, gone ? "may still be" : "stays");
		if (gone)
			store_destroy_branch(branch);
		if (branch == NULL || err != NULL)
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
		/* which looks into its directories */
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
set_protected(const Branch *branch, bool is_protected)
{
	PsError *err = trash_set_protected(branch->spec.dir, is_protected);
	PsError *undo;

	if (err == NULL)
		return NULL;
	/* it may be done in spite of the error */
	undo = trash_set_protected(branch->spec.dir, branch->is_protected);
	if (undo == NULL)
		return err;
	ps_error_free(undo);
	return ps_error_unknown(err, "Branch \"%s\" is %s now, but may be %s after a restart.", branch_name(branch),
							branch->is_protected ? "protected" : "not protected", is_protected ? "protected" : "unprotected");
}

PsError *
store_protect_branch(Store *store, const char *name, bool is_protected, const CancelCheck *cancel)
{
	Branch *branch;
	PsError *err;

	pthread_mutex_lock(&store->lock);
	err = store_named_settled(store, name, cancel, &branch);
	if (err == NULL)
	{
		store_begin_change(store, branch);
		pthread_mutex_unlock(&store->lock);
		err = set_protected(branch, is_protected);
		pthread_mutex_lock(&store->lock);
		if (err == NULL)
			branch->is_protected = is_protected;
		store_end_change(store, branch);
	}
	pthread_mutex_unlock(&store->lock);
	return err;
}
