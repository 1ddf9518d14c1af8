/*
 * add.c
 *	  New timelines, and with them new tenants: made in STORE/tmp, renamed to
 *	  their place.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "sqlstate.h"
#include "base/fs.h"
#include "store/store_impl.h"

/* As git has it for branches, "/" stands between parts that are names of their own: "feature/x". */
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
store_check_name_is_free(Store *store, const char *name)
{
	if (!timeline_name_is_valid(name))
		return ps_error_hint(ps_error(PS_SQLSTATE_INVALID, "\"%s\" cannot be the name of a branch", name),
							 "A name has 1 to %d letters, digits, \"_\", \"-\", \".\" or \"/\", and begins with a letter or digit, also behind a \"/\".",
							 TIMELINE_NAME_MAX);
	if (store_named(store, name) != NULL)
		return ps_error(PS_SQLSTATE_EXISTS, "branch \"%s\" exists already", name);
	if (store_is_reserved(store, name))
		return ps_error(PS_SQLSTATE_EXISTS, "branch \"%s\" is being created", name);
	return NULL;
}

void
store_reserve(Store *store, Reservation *reservation)
{
	reservation->next = store->reservations;
	store->reservations = reservation;
}

void
store_unreserve(Store *store, Reservation *reservation)
{
	Reservation **p = &store->reservations;

	while (*p != reservation)
		p = &(*p)->next;
	*p = reservation->next;
	pthread_cond_broadcast(&store->changed);
}

bool
store_is_reserved(const Store *store, const char *name)
{
	/* that of a branch which cannot be read may be "" */
	for (const Reservation *r = store->reservations; r != NULL && name[0] != '\0'; r = r->next)
		if (strcmp(r->name, name) == 0)
			return true;
	return false;
}

PsError *
store_check_new_name(Store *store, const char *name)
{
	PsError *err;

	pthread_mutex_lock(&store->lock);
	err = store_check_name_is_free(store, name);
	pthread_mutex_unlock(&store->lock);
	return err;
}

/*
 * Moves a directory to where it counts, durably; after an error it is where it
 * was, unless *in_doubt is set: then the next start may find it in its place.
 */
static PsError *
put_in_place(const char *from, const char *to, bool *in_doubt)
{
	PsError *err;

	if (rename(from, to) != 0)
		return ps_error(ps_errno_state(), "could not rename \"%s\" to \"%s\": %m", from, to);
	err = fs_sync_parent(to);
	if (err != NULL)
		*in_doubt = !fs_rename_back(to, from);
	return err;
}

/*
 * Makes STORE/tmp/tenant-<id>, a directory of a tenant with one timeline, which
 * is moved there from where it was made.
 */
static PsError *
build_tenant(const Tenant *tenant, const char *dir, const char *timeline_from)
{
	char *timelines = psprintf("%s/timelines", dir);
	char *to = psprintf("%s/%s", timelines, strrchr(timeline_from, '/') + 1);
	bool in_doubt; /* of no interest: the tenant's directory does not count yet */
	PsError *err;

	PS_GOTO(fs_make_dir(dir), done);
	PS_GOTO(fs_make_dir(timelines), done);
	PS_GOTO(tenant_write(tenant, dir), done);
	PS_GOTO(put_in_place(timeline_from, to, &in_doubt), done);
	err = fs_sync(dir);

done:
	pfree(timelines);
	pfree(to);
	return err;
}

static Tenant *
find_tenant(Store *store, const PsId *id)
{
	Tenant *tenant = NULL;

	pthread_mutex_lock(&store->lock);
	for (int i = 0; i < store->ntenants && tenant == NULL; i++)
		if (ps_id_equal(&store->tenants[i]->id, id))
			tenant = store->tenants[i];
	pthread_mutex_unlock(&store->lock);
	return tenant;
}

/* The timeline of a seed that is in place. */
static PsError *
load(Tenant *tenant, const TimelineSeed *seed, Branch **branch)
{
	bool has_ancestor;
	PsId ancestor;
	PsError *err = branch_load(tenant, &seed->timeline, NULL, branch, &has_ancestor, &ancestor);

	if (err == NULL)
		(*branch)->ancestor = seed->ancestor;
	return err;
}

/*
 * Opens it for the caller; after an error it is taken out of the store and its
 * directory moved back.  Caller holds Store.lock, which is let go meanwhile, and
 * keeps the name reserved.
 */
static PsError *
open_new(Store *store, Branch *branch, TimelineSeed *seed, const char *from, const char *to)
{
	PsError *err;

	branch->users++;
	err = branch->life == BRANCH_BROKEN ? ps_error_copy(branch->error) : store_open_branch(store, branch, seed->cancel);
	if (err == NULL)
		return NULL;
	store_unhold(store, branch);
	store_forget(store, branch);
	store_free_branch(store, branch);
	pthread_mutex_unlock(&store->lock);
	seed->in_doubt = !fs_rename_back(to, from);
	pthread_mutex_lock(&store->lock);
	return err;
}

/* Caller holds Store.lock, which may be let go. */
static PsError *
check_names(Store *store, const TimelineSeed *seed)
{
	Branch *named;

	PS_TRY(store_save_names(store, seed->cancel));
	if (seed->replaced == NULL)
		return store_check_name_is_free(store, seed->name);
	PS_TRY(store_named_settled(store, seed->name, seed->cancel, &named));
	if (named != seed->replaced)
		return ps_error(PS_SQLSTATE_STATE, "branch \"%s\" was replaced meanwhile", seed->name);
	return store_check_name_is_free(store, seed->replaced_name);
}

/*
 * May the branch have its name, may the one that it replaces have its new name, and
 * is the branch in which it begins still there?  Caller holds Store.lock, which may be let go, but
 * not after the last look at what begins and ends without the caller.
 */
static PsError *
check_place(Store *store, const Tenant *tenant, const TimelineSeed *seed)
{
	CancelWait wait = {.cancel = seed->cancel};

	for (;;)
	{
		PS_TRY(check_names(store, seed));
		if (tenant->life != TENANT_ATTACHED)
			return tenant_detached_error(tenant);
		/* a deletion checks that nothing begins in the branch, and begins its change, under one hold of this lock */
		if (seed->ancestor == NULL || !seed->ancestor->changing)
			break;
		PS_TRY(store_wait(store, &wait));
	}
	if (seed->ancestor != NULL && seed->ancestor->in_trash)
		return trash_error(seed->ancestor);
	return seed->ancestor != NULL && seed->ancestor->gone ? store_no_such_branch(store, branch_name(seed->ancestor)) : NULL;
}

/*
 * Moves what was made to its place, and reads it from there.  The caller has
 * made sure that it has that place to itself, and holds no lock.
 */
static PsError *
place_and_load(Tenant *tenant, TimelineSeed *seed, const char *from, const char *to, Branch **branch)
{
	PsError *err;

	PS_TRY(put_in_place(from, to, &seed->in_doubt));
	err = load(tenant, seed, branch);
	if (err != NULL)
		seed->in_doubt = !fs_rename_back(to, from);
	return err;
}

/*
 * The new timeline, and with it a new tenant, is made complete in STORE/tmp,
 * then renamed to its place: after a crash, and after an error, it is there
 * whole or not at all.  Two callers must not add the same tenant.
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
	Tenant *tenant = find_tenant(store, &seed->tenant);
	bool new_tenant = tenant == NULL;
	char *made = psprintf("%s/tmp/%s", store->config->store_dir, ps_id_format(&seed->timeline, id));
	char *from; /* what is renamed, and to where */
	char *to;
	Reservation reservation = {.name = seed->replaced != NULL ? seed->replaced_name : seed->name,
							   .ancestor = seed->ancestor};
	Branch *branch;
	PsError *err;

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
		PS_GOTO(build_tenant(tenant, from, made), done);

	reservation.tenant = new_tenant ? NULL : tenant;
	pthread_mutex_lock(&store->lock);
	err = check_place(store, tenant, seed);
	if (err != NULL)
	{
		pthread_mutex_unlock(&store->lock);
		goto done;
	}
	store_reserve(store, &reservation);
	if (seed->replaced != NULL)
		store_begin_change(store, seed->replaced);
	pthread_mutex_unlock(&store->lock);
	err = place_and_load(tenant, seed, from, to, &branch);
	pthread_mutex_lock(&store->lock);
	if (err == NULL)
	{
		if (new_tenant)
			store_put_tenant(store, tenant);
		store_put_branch(store, branch);
		if (seed->replaced != NULL)
			store_set_aside(store, seed->replaced, seed->replaced_name);
	}
	if (seed->replaced != NULL)
		store_end_change(store, seed->replaced);
	if (err == NULL)
	{
		if (result != NULL || branch->life == BRANCH_BROKEN)
			err = open_new(store, branch, seed, from, to);
		if (err == NULL)
		{
			if (result != NULL)
				*result = branch->open;
			new_tenant = false;
		}
		else if (new_tenant)
			store_forget_tenant(store, tenant);
	}
	store_unreserve(store, &reservation);
	pthread_mutex_unlock(&store->lock);

done:
	if (seed->in_doubt)
		err = ps_error_unknown(err, "Branch \"%s\" was not made, but may be there after a restart.", seed->name);
	if (new_tenant)
	{
		/* the timeline's own directory is the caller's to remove, if it has not gone into this one */
		if (!seed->in_doubt && access(from, F_OK) == 0)
			(void) rmtree(from, true);
		tenant_free(tenant);
	}
	manifest_free(&m);
	pfree(made);
	pfree(from);
	pfree(to);
	return err;
}
