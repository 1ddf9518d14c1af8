/*
 * add.c
 *	  Adds new timelines, and with them new tenants: they are created in STORE/tmp,
 *	  then renamed to their place.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "sqlstate.h"
#include "base/fs.h"
#include "store/store_impl.h"

/*
 * Renames a directory to its place, durably.  After an error it is where it was, unless
 * *outcome_unknown is set: then the next start may find it in its place.
 */
static PsError *
put_in_place(const char *from, const char *to, bool *outcome_unknown)
{
	PsError *err;

	if (rename(from, to) != 0)
		return ps_error(ps_errno_state(), "could not rename \"%s\" to \"%s\": %m", from, to);
	err = fs_sync_parent(to);
	if (err != NULL)
		*outcome_unknown = !fs_rename_back(to, from);
	return err;
}

/* Creates the directory of a tenant in STORE/tmp, and moves its first timeline into it. */
static PsError *
build_tenant(const Tenant *tenant, const char *dir, const char *timeline_from)
{
	char *timelines = psprintf("%s/timelines", dir);
	char *to = psprintf("%s/%s", timelines, strrchr(timeline_from, '/') + 1);
	bool outcome_unknown; /* ignored: the next start empties STORE/tmp */
	PsError *err;

	PS_GOTO(fs_make_dir(dir), done);
	PS_GOTO(fs_make_dir(timelines), done);
	PS_GOTO(tenant_write(tenant, dir), done);
	PS_GOTO(put_in_place(timeline_from, to, &outcome_unknown), done);
	err = fs_sync(dir);

done:
	pfree(timelines);
	pfree(to);
	return err;
}

/* Loads the timeline of a seed that is in its place. */
static PsError *
load_seed(Tenant *tenant, const TimelineSeed *seed, Branch **branch)
{
	bool has_ancestor;
	PsId ancestor;
	PsError *err = branch_load(tenant, &seed->timeline, NULL, branch, &has_ancestor, &ancestor);

	if (err == NULL)
		(*branch)->ancestor = seed->ancestor;
	return err;
}

/*
 * Opens the new branch for the caller; after an error, removes it from the catalog and
 * moves its directory back.  Caller holds Store.lock, which is released meanwhile, and
 * keeps the name reserved.
 */
static PsError *
open_new(Store *store, Branch *branch, TimelineSeed *seed, const char *from, const char *to)
{
	PsError *err;

	branch->users++;
	err = branch->life == BRANCH_BROKEN ? ps_error_copy(branch->error) : use_open(store, branch, seed->cancel);
	if (err == NULL)
		return NULL;
	catalog_unhold(store, branch);
	catalog_remove_branch(store, branch);
	/* if this fails, the next start may find it in object storage alone, and says so */
	pthread_mutex_unlock(&store->lock);
	ps_error_free(owner_begin_purge(branch));
	owner_note_purged(branch);
	pthread_mutex_lock(&store->lock);
	use_free_branch(store, branch);
	pthread_mutex_unlock(&store->lock);
	seed->outcome_unknown = !fs_rename_back(to, from);
	pthread_mutex_lock(&store->lock);
	return err;
}

/* Are the names that the seed needs available?  Caller holds Store.lock, which may be released. */
static PsError *
check_names(Store *store, const TimelineSeed *seed)
{
	Branch *named;

	PS_TRY(names_save(store, seed->cancel));
	if (seed->replaced == NULL)
		return names_check_is_free(store, seed->name);
	PS_TRY(catalog_find_settled(store, seed->name, seed->cancel, &named));
	if (named != seed->replaced)
		return ps_error(PS_SQLSTATE_STATE, "branch \"%s\" was replaced meanwhile", seed->name);
	return names_check_is_free(store, seed->replaced_name);
}

/*
 * Are the names available, is the tenant attached, and does the branch in which the new
 * one begins still exist?  Caller holds Store.lock, which may be released, but not after
 * the last of these checks.
 */
static PsError *
check_place(Store *store, const Tenant *tenant, const TimelineSeed *seed)
{
	CancelWait wait = {.cancel = seed->cancel};

	for (;;)
	{
		PS_TRY(check_names(store, seed));
		PS_TRY(catalog_check_service(tenant));
		/* a deletion does not release the lock between its check for children and the beginning of its change */
		if (seed->ancestor == NULL || !seed->ancestor->changing)
			break;
		PS_TRY(catalog_wait(store, &wait));
	}
	if (seed->ancestor != NULL && seed->ancestor->in_trash)
		return catalog_deleted_error(seed->ancestor);
	if (seed->ancestor != NULL && seed->ancestor->gone)
		return catalog_no_branch_error(store, branch_name(seed->ancestor));
	return NULL;
}

/*
 * Moves what was created to its place, and loads it from there.  The caller has made sure
 * that no other thread uses that place, and holds no lock.
 */
static PsError *
place_and_load(Tenant *tenant, TimelineSeed *seed, const char *from, const char *to, Branch **branch)
{
	PsError *err;

	PS_TRY(put_in_place(from, to, &seed->outcome_unknown));
	err = load_seed(tenant, seed, branch);
	if (err == NULL)
	{
		err = owner_note_new(*branch);
		if (err != NULL)
			branch_free(*branch);
	}
	if (err != NULL)
		seed->outcome_unknown = !fs_rename_back(to, from);
	return err;
}

/*
 * The new timeline, and its tenant if that is new, is completed in STORE/tmp, then renamed
 * to its place: after a crash or an error it exists as a whole or not at all.  Two callers
 * must not add the same tenant.
 */
PsError *
store_add_timeline(Store *store, TimelineSeed *seed, Timeline **result)
{
	char id[PS_ID_TEXT];
	Manifest m = {.tenant = seed->tenant,
				  .timeline = seed->timeline,
				  .system_identifier = seed->system_identifier,
				  .segment_size = seed->segment_size,
				  .data_checksum_version = seed->data_checksum_version,
				  .has_ancestor = seed->ancestor != NULL,
				  .start_lsn = seed->lsn,
				  .disk_consistent_lsn = seed->lsn};
	Tenant *tenant;
	bool new_tenant;
	bool in_catalog; /* the tenant is, or was, so other threads may refer to it */
	char *made = psprintf("%s/tmp/%s", store->config->store_dir, ps_id_format(&seed->timeline, id));
	char *from; /* the directory that is renamed */
	char *to;   /* to this name */
	Reservation reservation = {.name = seed->replaced != NULL ? seed->replaced_name : seed->name,
							   .ancestor = seed->ancestor};
	Branch *branch;
	PsError *err;

	pthread_mutex_lock(&store->lock);
	tenant = catalog_find_tenant(store, &seed->tenant);
	pthread_mutex_unlock(&store->lock);
	new_tenant = tenant == NULL;
	in_catalog = tenant != NULL;
	if (new_tenant)
	{
		tenant = tenant_alloc(store, &seed->tenant);
		tenant->system_identifier = seed->system_identifier;
		tenant->segment_size = seed->segment_size;
		from = psprintf("%s/tmp/tenant-%s", store->config->store_dir, ps_id_format(&seed->tenant, id));
		to = pg_strdup(tenant->dir);
	}
	else
	{
		from = pg_strdup(made);
		to = psprintf("%s/timelines/%s", tenant->dir, id);
	}
	if (seed->ancestor != NULL)
		m.ancestor = seed->ancestor->spec.id;
	m.has_replaced = seed->replaced != NULL;
	if (m.has_replaced)
		m.replaced = seed->replaced->spec.id;
	strlcpy(m.name, seed->name, sizeof(m.name));
	m.layers = pg_malloc(Max(seed->nlayers, 1) * sizeof(LayerInfo));
	for (int i = 0; i < seed->nlayers; i++)
		m.layers[m.nlayers++] = *layer_info(seed->layers[i]);
	PS_GOTO(manifest_write_new(made, &m, !seed->synced_later), done);
	PS_GOTO(seed->synced_later ? fs_sync_new_tree(made) : fs_sync_new(made), done);
	if (new_tenant)
	{
		PS_GOTO(build_tenant(tenant, from, made), done);
		PS_GOTO(owner_begin(tenant, from, false, false), done);
	}

	reservation.tenant = new_tenant ? NULL : tenant;
	pthread_mutex_lock(&store->lock);
	err = check_place(store, tenant, seed);
	if (err != NULL)
	{
		pthread_mutex_unlock(&store->lock);
		goto done;
	}
	catalog_reserve(store, &reservation);
	if (seed->replaced != NULL)
		catalog_begin_change(store, seed->replaced);
	pthread_mutex_unlock(&store->lock);
	err = place_and_load(tenant, seed, from, to, &branch);
	pthread_mutex_lock(&store->lock);
	if (err == NULL)
	{
		if (new_tenant)
			catalog_add_tenant(store, tenant);
		in_catalog = true;
		catalog_add_branch(store, branch);
		if (seed->replaced != NULL)
			names_set_of_replaced(store, seed->replaced, seed->replaced_name);
	}
	if (seed->replaced != NULL)
		catalog_end_change(store, seed->replaced);
	if (err == NULL)
	{
		if (result != NULL || branch->life == BRANCH_BROKEN)
			err = open_new(store, branch, seed, from, to);
		if (err == NULL)
		{
			if (result != NULL)
				*result = branch->open;
			new_tenant = false;
			branch->users++; /* until owner_wait() */
		}
		else if (new_tenant)
			catalog_remove_tenant(store, tenant);
	}
	catalog_unreserve(store, &reservation);
	pthread_mutex_unlock(&store->lock);

	if (err == NULL)
	{
		owner_wait(branch, seed->cancel);
		pthread_mutex_lock(&store->lock);
		catalog_unhold(store, branch);
		pthread_mutex_unlock(&store->lock);
	}

done:
	if (new_tenant)
		owner_forget(tenant);
	if (seed->outcome_unknown)
		err = ps_error_unknown(err, "Branch \"%s\" was not created, but may exist after a restart.", seed->name);
	/* the caller removes the timeline's own directory, if it was not moved into this one */
	if (new_tenant && !seed->outcome_unknown && access(from, F_OK) == 0)
		(void) rmtree(from, true);
	if (!in_catalog)
		tenant_free(tenant);
	manifest_free(&m);
	pfree(made);
	pfree(from);
	pfree(to);
	return err;
}
