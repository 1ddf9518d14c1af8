/*
 * names.c
 *	  Names of branches: a name is changed in the manifest, then in memory.
 *
 * The manifest of an open branch is written by its timeline, which writes the name
 * that it was given last; the manifest of a closed branch is rewritten here.
 */
#include "ps_fe.h"

#include <limits.h>

#include "sqlstate.h"
#include "store/store_impl.h"

/* Like in git, "/" separates parts of a name, each of which must be valid: "feature/x". */
bool
timeline_name_is_valid(const char *name)
{
	size_t len = strlen(name);
	bool begins = true;

	if (len > TIMELINE_NAME_MAX)
		return false;
	for (const char *p = name; *p != '\0'; p++)
	{
		bool alphanumeric = strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", *p) != NULL;

		if (!alphanumeric && (begins || strchr("_-./", *p) == NULL))
			return false;
		begins = *p == '/';
	}
	return !begins;
}

PsError *
names_check_is_free(Store *store, const char *name)
{
	if (!timeline_name_is_valid(name))
		return ps_error_hint(ps_error(PS_SQLSTATE_INVALID, "\"%s\" cannot be the name of a branch", name),
							 "A name has 1 to %d letters, digits, \"_\", \"-\", \".\" or \"/\", "
							 "and begins with a letter or digit, also after a \"/\".",
							 TIMELINE_NAME_MAX);
	if (catalog_find_branch(store, name) != NULL)
		return ps_error(PS_SQLSTATE_EXISTS, "branch \"%s\" exists already", name);
	if (catalog_is_reserved(store, name))
		return ps_error(PS_SQLSTATE_EXISTS, "branch \"%s\" is being created", name);
	return NULL;
}

PsError *
store_check_new_name(Store *store, const char *name)
{
	PsError *err;

	pthread_mutex_lock(&store->lock);
	err = names_check_is_free(store, name);
	pthread_mutex_unlock(&store->lock);
	return err;
}

/* Changes the name in the manifest of a branch that is not open. */
static PsError *
save_name_of_closed(Branch *branch, const char *name, Outcome *outcome)
{
	Manifest m;
	PsError *err;

	*outcome = OUTCOME_NOT_DONE;
	PS_TRY(manifest_read(branch->spec.dir, &m, NULL));
	strlcpy(m.name, name, sizeof(m.name));
	err = manifest_write(branch->spec.dir, &m, NULL, outcome);
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
 * Writes the manifest with the name.  later: if that fails, the next manifest will have
 * it.  Caller has begun a change of the branch, and holds no lock.
 */
static PsError *
write_name(Branch *branch, const char *name, bool later, Outcome *outcome)
{
	PsError *err;

	/* the change keeps other threads from opening or closing it */
	if (branch->open != NULL)
		err = timeline_save_name(branch->open, name, later, outcome);
	else
	{
		err = save_name_of_closed(branch, name, outcome);
		if (err == NULL)
			owner_note_name(branch, name);
	}
	if (err == NULL || later)
		strlcpy(branch->manifest_name, name, sizeof(branch->manifest_name));
	return err;
}

PsError *
names_set(Store *store, Branch *branch, const char *new_name)
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
names_set_of_replaced(Store *store, Branch *branch, const char *new_name)
{
	Outcome outcome;
	PsError *err;

	set_name_in_memory(branch, new_name);
	branch->name_unsaved = true;
	pthread_mutex_unlock(&store->lock);
	err = write_name(branch, new_name, true, &outcome);
	if (err != NULL)
		ps_log_error(PS_WARNING, err, "the new name of branch \"%s\" is not in its manifest yet", new_name);
	pthread_mutex_lock(&store->lock);
	branch->name_unsaved = err != NULL;
}

PsError *
names_save(Store *store, const CancelCheck *cancel)
{
	for (int i = 0; i < store->nbranches; i++)
		if (store->branches[i]->name_unsaved && !store->branches[i]->in_trash)
		{
			Branch *branch;
			PsError *err = NULL;

			/* while this waits for another thread to finish with the branch, that may save the name */
			PS_TRY(catalog_find_settled(store, branch_name(store->branches[i]), cancel, &branch));
			if (branch->name_unsaved)
			{
				catalog_begin_change(store, branch);
				err = names_set(store, branch, branch_name(branch));
				catalog_end_change(store, branch);
			}
			if (err != NULL)
				return err;
			i = -1;
		}
	return NULL;
}

PsError *
store_rename_branch(Store *store, const char *name, const char *new_name, const CancelCheck *cancel)
{
	Reservation reservation = {.name = new_name};
	Branch *branch;
	PsError *err;

	pthread_mutex_lock(&store->lock);
	err = names_save(store, cancel);
	if (err == NULL)
		err = catalog_find_served(store, name, cancel, &branch);
	if (err == NULL)
		err = names_check_is_free(store, new_name);
	if (err == NULL)
	{
		catalog_reserve(store, &reservation);
		catalog_begin_change(store, branch);
		err = names_set(store, branch, new_name);
		catalog_end_change(store, branch);
		catalog_unreserve(store, &reservation);
	}
	pthread_mutex_unlock(&store->lock);
	return err;
}

PsError *
names_find_for_old(Store *store, const char *name, char *old_name)
{
	for (int i = 1; i < INT_MAX; i++)
	{
		char number[16];

		snprintf(number, sizeof(number), ".%d", i);
		snprintf(old_name, TIMELINE_NAME_MAX + 1, "%.*s%s", (int) (TIMELINE_NAME_MAX - strlen(number)), name, number);
		if (catalog_find_branch(store, old_name) == NULL && !catalog_is_reserved(store, old_name))
			return NULL;
	}
	return ps_error(PS_SQLSTATE_INTERNAL, "could not find a free name for the previous state of branch \"%s\"", name);
}

PsError *
names_finish_replacement(Store *store, Branch *old)
{
	char name[TIMELINE_NAME_MAX + 1];
	PsError *err;

	pthread_mutex_lock(&store->lock);
	err = names_find_for_old(store, branch_name(old), name);
	if (err == NULL)
	{
		catalog_begin_change(store, old);
		names_set_of_replaced(store, old, name);
		catalog_end_change(store, old);
	}
	pthread_mutex_unlock(&store->lock);
	return err;
}

void
names_drop(Branch *branch)
{
	ps_log(PS_WARNING,
		   "the branch in \"%s\", which is not served, has no name: "
		   "its last known name, \"%s\", belongs to another branch",
		   branch->spec.dir, branch_name(branch));
	branch->spec.name.now[0] = '\0';
}

void
names_drop_old(Branch **list, int n)
{
	for (int i = 0; i < n; i++)
		for (int k = 0; k < n; k++)
		{
			if (list[i]->life != BRANCH_BROKEN || branch_name(list[i])[0] == '\0' || list[i]->in_trash)
				break;
			if (k != i && !list[k]->in_trash && strcmp(branch_name(list[k]), branch_name(list[i])) == 0)
				names_drop(list[i]);
		}
}
