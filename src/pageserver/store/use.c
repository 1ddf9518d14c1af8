/*
 * use.c
 *	  Determines which timelines are open: those in use, and those that were in use
 *	  recently.
 *
 * The first use opens a branch, and its ancestors before it: an open branch uses
 * its ancestor.  One thread opens a timeline, others wait for it.  A thread of the
 * store closes timelines that were not in use for idle_timeline_timeout.  So a store's start costs no more for a thousand
 * branches than their manifests, and threads, open files and memory are those
 * of the branches in use.
 */
#include "ps_fe.h"

#include "sqlstate.h"
#include "store/store_impl.h"

/* The longest turn of store_wait(), which ends earlier when something has changed, ms. */
#define STORE_WAIT_MS 1000

/* At most so often the idle thread looks at what is open, ms. */
#define IDLE_LOOK_MIN 100
#define IDLE_LOOK_MAX 10000

PsError *
store_broken_error(const Branch *branch)
{
	const char *hint = branch->error->hint;

	return ps_error_hint(ps_error(branch->error->sqlstate, "branch \"%s\" is not served: %s", branch_name(branch), branch->error->message),
						 "%s%sFix the cause, then restart the store.", hint ? hint : "", hint ? " " : "");
}

PsError *
store_wait(Store *store, CancelWait *wait)
{
	if (atomic_load(&store->stopping))
		return cancel_error(CANCEL_STORE_STOPPING, NULL);
	return cancel_wait(wait, &store->changed, &store->lock, STORE_WAIT_MS);
}

/* Tells everybody that the timeline is no longer being opened or closed, and is not open. */
static void
is_closed(Store *store, Branch *branch)
{
	store->nopen--;
	if (branch->ancestor != NULL)
		store_end_use(store, branch->ancestor, true);
	pthread_cond_broadcast(&store->changed);
}

/* Why an opening may be canceled: on behalf of the caller, or because the branch is not wanted any more. */
typedef struct OpenCheck
{
	const Branch *branch;
	const CancelCheck *cancel; /* the caller's, or NULL */
} OpenCheck;

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
	else if (tenant->life != TENANT_ATTACHED)
		err = tenant_detached_error(tenant);
	pthread_mutex_unlock(&store->lock);
	return err != NULL ? err : cancel_check(check->cancel);
}

PsError *
store_open_branch(Store *store, Branch *branch, const CancelCheck *cancel)
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
		pthread_cond_broadcast(&store->changed);
		return NULL;
	}
	branch->life = BRANCH_CLOSED;
	if (!ps_error_is_transient(err))
		branch_set_broken(branch, ps_error_copy(err));
	is_closed(store, branch);
	return err;
}

void
store_begin_change(Store *store, Branch *branch)
{
	Assert(!branch->changing && branch->life != BRANCH_OPENING && branch->life != BRANCH_CLOSING);
	branch->changing = true;
	branch->users++;
	branch->uses += branch->life == BRANCH_OPEN;
}

void
store_end_change(Store *store, Branch *branch)
{
	branch->changing = false;
	if (branch->life == BRANCH_OPEN)
		store_end_use(store, branch, false);
	store_unhold(store, branch);
	pthread_cond_broadcast(&store->changed);
}

/* Makes sure that a timeline is open, whatever state it is in, and uses it.  The caller uses its ancestor. */
static PsError *
use_one(Store *store, Branch *branch, const CancelCheck *cancel)
{
	CancelWait wait = {.cancel = cancel};
	PsError *err;

	while (branch->life == BRANCH_OPENING || branch->life == BRANCH_CLOSING || (branch->changing && branch->life != BRANCH_OPEN))
		PS_TRY(store_wait(store, &wait));
	if (atomic_load(&store->stopping))
		return cancel_error(CANCEL_STORE_STOPPING, NULL);
	if (branch->tenant->life != TENANT_ATTACHED)
		return tenant_detached_error(branch->tenant);
	if (branch->gone)
		return store_no_such_branch(store, branch_name(branch));
	if (branch->in_trash)
		return trash_error(branch);
	if (branch->life == BRANCH_OPEN)
	{
		branch->uses++;
		return NULL;
	}
	if (branch->life == BRANCH_BROKEN)
		return store_broken_error(branch);
	err = store_open_branch(store, branch, cancel);
	if (err == NULL || branch->life != BRANCH_BROKEN)
		return err;
	ps_error_free(err);
	return store_broken_error(branch);
}

PsError *
store_begin_use(Store *store, Branch *branch, const CancelCheck *cancel)
{
	Branch **chain;
	Branch *t;
	int n = 0;
	PsError *err = NULL;

	if (branch->in_trash)
		return trash_error(branch);
	if (branch->life == BRANCH_OPEN && !branch->gone && branch->tenant->life == TENANT_ATTACHED && !atomic_load(&store->stopping))
	{
		branch->uses++;
		return NULL;
	}

	/* from the nearest that is open, or from the first of all, each by the use of the one before */
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
			store_end_use(store, chain[i - 1], true);
	}
	free(chain);
	return err;
}

void
store_end_use(Store *store, Branch *branch, bool counts)
{
	/* store_finish_trash() waits for that */
	if (--branch->uses == 0 && branch->in_trash)
		pthread_cond_broadcast(&store->changed);
	if (counts)
		branch->last_used = clock_now_ms();
}

/* ---- closing ---- */

void
store_close_branch(Store *store, Branch *branch)
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
	is_closed(store, branch);
}

/* One that is to be closed now, or NULL. */
static Branch *
find_idle(Store *store)
{
	int timeout = store->config->idle_timeline_timeout;
	int64 before = clock_now_ms() - (int64) timeout * 1000;

	if (timeout == 0)
		return NULL;
	for (int i = 0; i < store->nbranches; i++)
	{
		Branch *branch = store->branches[i];

		if (branch->life == BRANCH_OPEN && branch->uses == 0 && branch->last_used <= before && timeline_is_settled(branch->open))
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
			ps_log(PS_DEBUG, "branch \"%s\": closed, nobody uses it", branch_name(branch));
			store_close_branch(store, branch);
			continue;
		}
		if (store->nopen == 0)
		{
			pthread_cond_wait(&store->idle_wake, &store->lock);
			continue;
		}
		clock_cond_wait(&store->idle_wake, &store->lock,
						pause == 0 ? IDLE_LOOK_MAX : Min(Max(pause, IDLE_LOOK_MIN), IDLE_LOOK_MAX));
	}
	pthread_mutex_unlock(&store->lock);
	return NULL;
}

PsError *
store_start_idle_thread(Store *store)
{
	int rc;

	rc = pthread_create(&store->idle_thread, NULL, idle_main, store);
	store->has_idle_thread = rc == 0;
	if (rc == 0)
		return NULL;
	errno = rc;
	return ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "could not start the thread that closes branches: %m");
}
