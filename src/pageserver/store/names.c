/*
 * names.c
 *	  Names of branches: changed in the manifest, then in memory.
 *
 * The manifest of an open branch is written by its timeline, which writes the name
 * that it was given last; that of a closed one is read and written here.
 */
#include "ps_fe.h"

#include <limits.h>

#include "sqlstate.h"
#include "store/store_impl.h"

/* Writes the manifest of a timeline that is not open. */
static PsError *
save_name_of_closed(Branch *branch, const char *name, Outcome *outcome)
{
	Manifest m;
	PsError *err;

	*outcome = OUTCOME_NOT_DONE;
	PS_TRY(manifest_read(branch->spec.dir, &m));
	strlcpy(m.name, name, sizeof(m.name));
	err = manifest_write(branch->spec.dir, &m, outcome);
	manifest_free(&m);
	return err;
}

/* Caller holds Store.lock. */
static void
set_name_in_memory(Branch *branch, const char *new_name)
{
	TimelineName *name = &branch->spec.name;

	name->before = pg_realloc(name->before, (name->nbefore + 1) * sizeof(char *));
	name->before[name->nbefore++] = name->now;
	name->now = pg_strdup(new_name);
}

/*
 * Writes the manifest with the name.  later: if that fails, the next manifest is
 * to have it.  Caller has begun a change, and holds no lock.
 */
static PsError *
write_name(Branch *branch, const char *name, bool later, Outcome *outcome)
{
	PsError *err;

	/* nobody opens or closes it meanwhile */
	if (branch->open != NULL)
		err = timeline_save_name(branch->open, name, later, outcome);
	else
		err = save_name_of_closed(branch, name, outcome);
	if (err == NULL || later)
		strlcpy(branch->manifest_name, name, sizeof(branch->manifest_name));
	return err;
}

PsError *
store_set_name(Store *store, Branch *branch, const char *new_name)
{
	Outcome outcome;
	PsError *err;

	pthread_mutex_unlock(&store->lock);
	err = write_name(branch, new_name, false, &outcome);
	pthread_mutex_lock(&store->lock);
	if (err == NULL)
	{
		if (strcmp(branch_name(branch), new_name) != 0)
			set_name_in_memory(branch, new_name);
		branch->name_unsaved = false;
	}
	else if (outcome == OUTCOME_UNKNOWN)
		branch->name_unsaved = true;
	return err;
}

void
store_set_aside(Store *store, Branch *branch, const char *new_name)
{
	Outcome outcome;
	PsError *err;

	set_name_in_memory(branch, new_name);
	branch->name_unsaved = true;
	pthread_mutex_unlock(&store->lock);
	err = write_name(branch, new_name, true, &outcome);
	if (err != NULL)
	{
		ps_log_error(PS_WARNING, err, "the new name of branch \"%s\" is not in its manifest yet", new_name);
	}
	pthread_mutex_lock(&store->lock);
	branch->name_unsaved = err != NULL;
}

PsError *
store_save_names(Store *store, const CancelCheck *cancel)
{
	for (int i = 0; i < store->nbranches; i++)
		if (store->branches[i]->name_unsaved && !store->branches[i]->in_trash)
		{
			Branch *branch;
			PsError *err = NULL;

			/* lets the lock go if another thread works on the branch, which may save the name */
			PS_TRY(store_named_settled(store, branch_name(store->branches[i]), cancel, &branch));
			if (branch->name_unsaved)
			{
				store_begin_change(store, branch);
				err = store_set_name(store, branch, branch_name(branch));
				store_end_change(store, branch);
			}
			if (err != NULL)
				return err;
			i = -1;
		}
	return NULL;
}

/* One that is served.  Caller holds Store.lock, which may be let go. */
PsError *
store_named_served(Store *store, const char *name, const CancelCheck *cancel, Branch **branch)
{
	PS_TRY(store_named_settled(store, name, cancel, branch));
	return (*branch)->life == BRANCH_BROKEN ? store_broken_error(*branch) : NULL;
}

PsError *
store_rename_branch(Store *store, const char *name, const char *new_name, const CancelCheck *cancel)
{
	Reservation reservation = {.name = new_name};
	Branch *branch;
	PsError *err;

	pthread_mutex_lock(&store->lock);
	err = store_save_names(store, cancel);
	if (err == NULL)
		err = store_named_served(store, name, cancel, &branch);
	if (err == NULL)
		err = store_check_name_is_free(store, new_name);
	if (err == NULL)
	{
		store_reserve(store, &reservation);
		store_begin_change(store, branch);
		err = store_set_name(store, branch, new_name);
		store_end_change(store, branch);
		store_unreserve(store, &reservation);
	}
	pthread_mutex_unlock(&store->lock);
	return err;
}

/* NAME.1, NAME.2, ...: the first that is free.  Caller holds Store.lock. */
PsError *
store_name_for_old(Store *store, const char *name, char *old_name)
{
	for (int i = 1; i < INT_MAX; i++)
	{
		char number[16];

		snprintf(number, sizeof(number), ".%d", i);
		snprintf(old_name, TIMELINE_NAME_MAX + 1, "%.*s%s", (int) (TIMELINE_NAME_MAX - strlen(number)), name, number);
		if (store_named(store, old_name) == NULL && !store_is_reserved(store, old_name))
			return NULL;
	}
	return ps_error(PS_SQLSTATE_INTERNAL, "could not find a free name for the previous state of branch \"%s\"", name);
}

PsError *
store_finish_replacement(Store *store, Branch *old)
{
	char name[TIMELINE_NAME_MAX + 1];
	PsError *err;

	pthread_mutex_lock(&store->lock);
	err = store_name_for_old(store, branch_name(old), name);
	if (err == NULL)
	{
		store_begin_change(store, old);
		store_set_aside(store, old, name);
		store_end_change(store, old);
	}
	pthread_mutex_unlock(&store->lock);
	return err;
}
