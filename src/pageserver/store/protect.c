/*
 * protect.c
 *	  Protected branches, which are deleted, reset or restored only by force: the
 *	  file TIMELINE/protected exists.
 */
#include "ps_fe.h"

#include "store/store_impl.h"

/* Changes the file, or leaves it unchanged after an error.  Caller has begun a change, and holds no lock. */
static PsError *
set_protected(const Branch *branch, bool is_protected)
{
	PsError *err = protect_mark_set(branch->spec.dir, is_protected);
	PsError *undo;

	if (err == NULL)
		return NULL;
	/* the change may have been made in spite of the error */
	undo = protect_mark_set(branch->spec.dir, branch->is_protected);
	if (undo == NULL)
		return err;
	ps_error_free(undo);
	return ps_error_unknown(err, "Branch \"%s\" is %s now, but may be %s after a restart.", branch_name(branch),
							branch->is_protected ? "protected" : "not protected",
							is_protected ? "protected" : "unprotected");
}

PsError *
store_protect_branch(Store *store, const char *name, bool is_protected, const CancelCheck *cancel)
{
	Branch *branch;
	PsError *err;

	pthread_mutex_lock(&store->lock);
	err = catalog_find_changeable(store, name, cancel, &branch);
	if (err == NULL)
	{
		catalog_begin_change(store, branch);
		pthread_mutex_unlock(&store->lock);
		err = set_protected(branch, is_protected);
		if (err == NULL)
			owner_note_protected(branch, is_protected);
		pthread_mutex_lock(&store->lock);
		if (err == NULL)
			branch->is_protected = is_protected;
		catalog_end_change(store, branch);
	}
	pthread_mutex_unlock(&store->lock);
	return err;
}
