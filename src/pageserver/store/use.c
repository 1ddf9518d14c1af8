/*
 * use.c
 *	  Opens branches when they are used, and closes them when they are idle.
 *
 * The first use opens a branch, and its ancestors before it: an open branch uses its
 * ancestor.  One thread opens a branch, others wait for it.  The idle thread closes
 * branches that were not in use for idle_timeline_timeout.  So starting a store reads
 * only the manifests, and only branches in use need threads, open files and memory.
 */
#include "ps_fe.h"

#include "sqlstate.h"
#include "store/store_impl.h"

/* How often the idle thread checks for idle branches: a quarter of the timeout, within these limits, ms. */
#define IDLE_CHECK_MIN 100
#define IDLE_CHECK_MAX 10000

/* After a failed opening, or a close: ends the use of the ancestor, and wakes up those who wait for the branch. */
static void
note_closed(Store *store, Branch *branch)
{
	store->nopen--;
	branch->tenant->nactive--;
	if (branch->ancestor != NULL)
		use_end(store, branch->ancestor, true);
	pthread_cond_broadcast(&store->changed);
}

/* For check_open(). */
typedef struct OpenCheck
{
	const Branch *branch;
	const CancelCheck *cancel; /* the caller's, or NULL */
} OpenCheck;

/* Cancels an opening if its caller does, the store is stopping, or the tenant is not in service any more. */
static PsError *
check_open(void *arg)
{
	const OpenCheck *check = arg;
	Tenant *tenant = check->branch->tenant;
	Store *store = tenant->store;
	PsError *err = NULL;

	pthread_mutex_lock(&store->lock);
	if (atomic_load(&store->stopping))
		err = cancel_error(CANCEL_STORE_STOPPING, NULL);
	else
		err = catalog_check_service(tenant);
	pthread_mutex_unlock(&store->lock);
	return err != NULL ? err : cancel_check(check->cancel);
}

PsError *
use_open(Store *store, Branch *branch, const CancelCheck *cancel)
{
	Timeline *ancestor = branch->ancestor != NULL ? branch->ancestor->open : NULL;
	OpenCheck check = {branch, cancel};
	CancelCheck open_check = {check_open, &check};
	Timeline *tl;
	PsError *err;

	Assert(branch->life == BRANCH_CLOSED && (branch->ancestor == NULL || branch->ancestor->uses > 0));
	branch->life = BRANCH_OPENING;
	if (branch->ancestor != NULL)
		branch->ancestor->uses++;
	if (store->nopen++ == 0)
		pthread_cond_signal(&store->idle_wake);
	if (branch->tenant->nactive++ == 0)
		pthread_cond_signal(&store->owner_wake);
	/* files of this generation have numbers of their own */
	if (branch->tenant->env.owner_generation > 0)
		layer_space_skip(&branch->spec.space, (branch->tenant->env.owner_generation << 32) - 1);
	pthread_mutex_unlock(&store->lock);
	err = tenant_begin_use(branch->tenant);
	if (err == NULL)
	{
		err = timeline_open(branch, ancestor, &open_check, &tl);
		if (err != NULL)
			tenant_end_use(branch->tenant);
	}
	pthread_mutex_lock(&store->lock);
	if (err == NULL)
	{
		branch->life = BRANCH_OPEN;
		branch->open = tl;
		branch->uses++;
		if (atomic_load(&store->stopping))
			timeline_stop(branch->open, CANCEL_STORE_STOPPING);
		else if (branch->tenant->ownership == OWNER_FENCED)
			timeline_stop(branch->open, CANCEL_FENCED);
		pthread_cond_broadcast(&store->changed);
		return NULL;
	}
	branch->life = BRANCH_CLOSED;
	if (!ps_error_is_transient(err))
		branch_set_broken(branch, ps_error_copy(err));
	note_closed(store, branch);
	return err;
}

/* Begins a use of one branch, whatever its state, and opens it if necessary.  The caller uses its ancestor. */
static PsError *
use_one(Store *store, Branch *branch, const CancelCheck *cancel)
{
	CancelWait wait = {.cancel = cancel};
	PsError *err;

	while (branch->life == BRANCH_OPENING || branch->life == BRANCH_CLOSING ||
		   (branch->changing && branch->life != BRANCH_OPEN))
		PS_TRY(catalog_wait(store, &wait));
	if (atomic_load(&store->stopping))
		return cancel_error(CANCEL_STORE_STOPPING, NULL);
	PS_TRY(catalog_check_service(branch->tenant));
	if (branch->gone)
		return catalog_no_branch_error(store, branch_name(branch));
	if (branch->in_trash)
		return catalog_deleted_error(branch);
	if (branch->life == BRANCH_OPEN)
	{
		branch->uses++;
		return NULL;
	}
	if (branch->life == BRANCH_BROKEN)
		return catalog_broken_error(branch);
	err = use_open(store, branch, cancel);
	if (err == NULL || branch->life != BRANCH_BROKEN)
		return err;
	ps_error_free(err);
	return catalog_broken_error(branch);
}

PsError *
use_begin(Store *store, Branch *branch, const CancelCheck *cancel)
{
	Branch **chain;
	Branch *t;
	int n = 0;
	PsError *err = NULL;

	if (branch->in_trash)
		return catalog_deleted_error(branch);
	if (branch->life == BRANCH_OPEN && !branch->gone && branch->tenant->life == TENANT_ATTACHED &&
		branch->tenant->ownership != OWNER_FENCED && !atomic_load(&store->stopping))
	{
		branch->uses++;
		return NULL;
	}

	/* from the nearest open ancestor, or the root, down to the branch; each use keeps the ancestor open for the next */
	for (t = branch; t->life != BRANCH_OPEN && t->ancestor != NULL; t = t->ancestor)
		n++;
	chain = pg_malloc((n + 1) * sizeof(Branch *));
	t = branch;
	for (int i = n; i >= 0; i--, t = t->ancestor)
		chain[i] = t;
	for (int i = 0; i <= n && err == NULL; i++)
	{
		err = use_one(store, chain[i], cancel);
		if (i > 0)
			use_end(store, chain[i - 1], true);
	}
	free(chain);
	return err;
}

void
use_end(Store *store, Branch *branch, bool counts)
{
	/* store_finish_trash() waits for this */
	if (--branch->uses == 0 && branch->in_trash)
		pthread_cond_broadcast(&store->changed);
	if (counts)
		branch->last_used = clock_now_ms();
}

/* ---- closing ---- */

void
use_close(Store *store, Branch *branch)
{
	Timeline *tl = branch->open;
	TimelineInfo info;

	Assert(branch->life == BRANCH_OPEN && branch->uses == 0);
	branch->life = BRANCH_CLOSING;
	branch->open = NULL;
	pthread_mutex_unlock(&store->lock);
	timeline_info(tl, &info);
	timeline_close(tl);
	tenant_end_use(branch->tenant);
	pthread_mutex_lock(&store->lock);
	branch->life = BRANCH_CLOSED;
	branch->known = info;
	note_closed(store, branch);
}

/* Returns a branch that has been idle for long enough to be closed, or whose tenant is out of service, or NULL. */
static Branch *
find_idle(Store *store)
{
	int timeout = store->config->idle_timeline_timeout;
	int64 before = clock_now_ms() - (int64) timeout * 1000;

	for (int i = 0; i < store->nbranches; i++)
	{
		Branch *branch = store->branches[i];

		if (branch->life != BRANCH_OPEN || branch->uses > 0)
			continue;
		if (branch->tenant->ownership == OWNER_FENCED ||
			(timeout > 0 && branch->last_used <= before && timeline_is_settled(branch->open)))
			return branch;
	}
	return NULL;
}

static void *
idle_main(void *arg)
{
	Store *store = arg;

	ps_thread_name("idle");
	pthread_mutex_lock(&store->lock);
	while (!atomic_load(&store->stopping))
	{
		Branch *branch = find_idle(store);
		int64 pause = (int64) store->config->idle_timeline_timeout * 1000 / 4;

		if (branch != NULL)
		{
			ps_log(PS_DEBUG, "branch \"%s\": closing it, it is not in use", branch_name(branch));
			use_close(store, branch);
			continue;
		}
		if (store->nopen == 0)
		{
			pthread_cond_wait(&store->idle_wake, &store->lock);
			continue;
		}
		clock_cond_wait(&store->idle_wake, &store->lock,
						pause == 0 ? IDLE_CHECK_MAX : Min(Max(pause, IDLE_CHECK_MIN), IDLE_CHECK_MAX));
	}
	pthread_mutex_unlock(&store->lock);
	return NULL;
}

PsError *
use_start_idle_thread(Store *store)
{
	int rc;

	rc = pthread_create(&store->idle_thread, NULL, idle_main, store);
	store->has_idle_thread = rc == 0;
	if (rc == 0)
		return NULL;
	errno = rc;
	return ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "could not start the thread that closes branches: %m");
}

/* ---- the interface of store.h ---- */

void
use_free_branch(Store *store, Branch *branch)
{
	while (branch->users > 0)
		pthread_cond_wait(&store->changed, &store->lock);
	if (branch->life == BRANCH_OPEN)
		use_close(store, branch);
	if (branch->ancestor != NULL)
		catalog_unhold(store, branch->ancestor);
	branch_free(branch);
}

/* Holds a branch and begins a use of it.  Caller holds Store.lock, which is released. */
static PsError *
use_and_unlock(Store *store, Branch *branch, const CancelCheck *cancel, Timeline **tl)
{
	bool was_open = branch->life == BRANCH_OPEN;
	PsError *err;

	branch->users++;
	err = use_begin(store, branch, cancel);
	if (err != NULL)
		catalog_unhold(store, branch);
	else if (!was_open)
		upkeep_opened(store->upkeep, branch);
	*tl = err == NULL ? branch->open : NULL;
	pthread_mutex_unlock(&store->lock);
	return err;
}

PsError *
store_use(Store *store, const PsId *tenant, const PsId *timeline, const CancelCheck *cancel, Timeline **tl)
{
	Branch *branch = NULL;
	char tenant_id[PS_ID_TEXT];
	char timeline_id[PS_ID_TEXT];
	PsError *err = NULL;

	pthread_mutex_lock(&store->lock);
	for (int i = 0; i < store->nbranches && branch == NULL; i++)
		if (ps_id_equal(&store->branches[i]->spec.id, timeline) && ps_id_equal(&store->branches[i]->tenant->id, tenant))
			branch = store->branches[i];
	if (branch != NULL)
		return use_and_unlock(store, branch, cancel, tl);
	for (int i = 0; i < store->ntenants && err == NULL; i++)
		if (ps_id_equal(&store->tenants[i]->id, tenant) && store->tenants[i]->life != TENANT_ATTACHED)
			err = catalog_detached_error(store->tenants[i]);
	pthread_mutex_unlock(&store->lock);
	if (err != NULL)
		return err;
	return ps_error(PS_SQLSTATE_NOT_FOUND, "the store has no timeline %s of tenant %s",
					ps_id_format(timeline, timeline_id), ps_id_format(tenant, tenant_id));
}

PsError *
store_use_branch(Store *store, const char *name, const CancelCheck *cancel, Timeline **tl)
{
	Branch *branch;
	PsError *err;

	pthread_mutex_lock(&store->lock);
	branch = catalog_find_branch(store, name);
	if (branch != NULL)
		return use_and_unlock(store, branch, cancel, tl);
	*tl = NULL;
	err = catalog_no_branch_error(store, name);
	pthread_mutex_unlock(&store->lock);
	return err;
}

void
store_release(Timeline *tl)
{
	Branch *branch = branch_of(tl);
	Store *store = branch->tenant->store;

	pthread_mutex_lock(&store->lock);
	use_end(store, branch, true);
	catalog_unhold(store, branch);
	pthread_mutex_unlock(&store->lock);
}
