/*
 * use.c
 *	  Which timelines are open: those that somebody uses, and those that
 *	  somebody has used a moment ago.
 *
 * Who needs one opens it, if it is not open yet, and its ancestors first: an
 * open timeline uses its ancestor.  One thread opens a timeline, others wait
 * for it.  A thread of the store's own closes what nobody has used for
 * idle_timeline_timeout.  So a store's start costs no more for a thousand
 * branches than their manifests, and threads, open files and memory are those
 * of the branches in use.
 */
#include "ps_fe.h"

#include "sqlstate.h"
#include "timeline/timeline_impl.h"

/* The longest turn of store_wait(), which ends earlier when something has changed, ms. */
#define STORE_WAIT_MS 1000

/* At most so often the idle thread looks at what is open, ms. */
#define IDLE_LOOK_MIN 100
#define IDLE_LOOK_MAX 10000

PsError *
store_broken_error(const Timeline *tl)
{
	const char *hint = tl->error->hint;

	return ps_error_hint(ps_error(tl->error->sqlstate, "branch \"%s\" is not served: %s", tl->name, tl->error->message),
						 "%s%sRestart the store when it is mended.", hint ? hint : "", hint ? " " : "");
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
is_closed(Store *store, Timeline *tl)
{
	store->nopen--;
	if (tl->ancestor != NULL)
		store_end_use(store, tl->ancestor, true);
	pthread_cond_broadcast(&store->changed);
}

PsError *
store_open_timeline(Store *store, Timeline *tl, const CancelCheck *cancel)
{
	PsError *err;

	Assert(tl->life == TIMELINE_CLOSED && (tl->ancestor == NULL || tl->ancestor->uses > 0));
	tl->life = TIMELINE_OPENING;
	if (tl->ancestor != NULL)
		tl->ancestor->uses++;
	if (store->nopen++ == 0)
		pthread_cond_signal(&store->idle_wake);
	pthread_mutex_unlock(&store->lock);
	err = tenant_begin_use(tl->tenant);
	if (err == NULL)
	{
		err = timeline_open(tl, cancel);
		if (err != NULL)
			tenant_end_use(tl->tenant);
	}
	pthread_mutex_lock(&store->lock);
	if (err == NULL)
	{
		tl->life = TIMELINE_OPEN;
		tl->uses++;
		if (atomic_load(&store->stopping))
			timeline_stop(tl, CANCEL_STORE_STOPPING);
		pthread_cond_broadcast(&store->changed);
		return NULL;
	}
	tl->life = TIMELINE_CLOSED;
	if (!ps_error_is_transient(err))
		timeline_set_broken(tl, ps_error_copy(err));
	is_closed(store, tl);
	return err;
}

void
store_begin_change(Store *store, Timeline *tl)
{
	Assert(!tl->changing && tl->life != TIMELINE_OPENING && tl->life != TIMELINE_CLOSING);
	tl->changing = true;
	tl->users++;
	tl->uses += tl->life == TIMELINE_OPEN;
}

void
store_end_change(Store *store, Timeline *tl)
{
	tl->changing = false;
	if (tl->life == TIMELINE_OPEN)
		store_end_use(store, tl, false);
	store_unhold(store, tl);
	pthread_cond_broadcast(&store->changed);
}

/* Makes sure that a timeline is open, whatever state it is in, and uses it.  The caller uses its ancestor. */
static PsError *
use_one(Store *store, Timeline *tl, const CancelCheck *cancel)
{
	CancelWait wait = {.cancel = cancel};
	PsError *err;

	while (tl->life == TIMELINE_OPENING || tl->life == TIMELINE_CLOSING || (tl->changing && tl->life != TIMELINE_OPEN))
		PS_TRY(store_wait(store, &wait));
	if (atomic_load(&store->stopping))
		return cancel_error(CANCEL_STORE_STOPPING, NULL);
	if (tl->tenant->life != TENANT_ATTACHED)
		return tenant_detached_error(tl->tenant);
	if (tl->gone)
		return store_no_such_branch(store, tl->name);
	if (tl->in_trash)
		return trash_error(tl);
	if (tl->life == TIMELINE_OPEN)
	{
		tl->uses++;
		return NULL;
	}
	if (tl->life == TIMELINE_BROKEN)
		return store_broken_error(tl);
	err = store_open_timeline(store, tl, cancel);
	if (err == NULL || tl->life != TIMELINE_BROKEN)
		return err;
	ps_error_free(err);
	return store_broken_error(tl);
}

PsError *
store_begin_use(Store *store, Timeline *tl, const CancelCheck *cancel)
{
	Timeline **chain;
	Timeline *t;
	int n = 0;
	PsError *err = NULL;

	if (tl->in_trash)
		return trash_error(tl);
	if (tl->life == TIMELINE_OPEN && !tl->gone && tl->tenant->life == TENANT_ATTACHED && !atomic_load(&store->stopping))
	{
		tl->uses++;
		return NULL;
	}

	/* from the nearest that is open, or from the first of all, each by the use of the one before */
	for (t = tl; t->life != TIMELINE_OPEN && t->ancestor != NULL; t = t->ancestor)
		n++;
	chain = pg_malloc((n + 1) * sizeof(Timeline *));
	t = tl;
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
store_end_use(Store *store, Timeline *tl, bool counts)
{
	/* store_finish_trash() waits for that */
	if (--tl->uses == 0 && tl->in_trash)
		pthread_cond_broadcast(&store->changed);
	if (counts)
		tl->last_used = clock_now_ms();
}

/* ---- closing ---- */

void
store_close_timeline(Store *store, Timeline *tl)
{
	TimelineInfo info;

	Assert(tl->life == TIMELINE_OPEN && tl->uses == 0);
	tl->life = TIMELINE_CLOSING;
	pthread_mutex_unlock(&store->lock);
	timeline_info(tl, &info);
	timeline_close(tl);
	tenant_end_use(tl->tenant);
	pthread_mutex_lock(&store->lock);
	tl->life = TIMELINE_CLOSED;
	tl->known = info;
	is_closed(store, tl);
}

/* One that is to be closed now, or NULL. */
static Timeline *
find_idle(Store *store)
{
	int timeout = store->config->idle_timeline_timeout;
	int64 before = clock_now_ms() - (int64) timeout * 1000;

	if (timeout == 0)
		return NULL;
	for (int i = 0; i < store->ntimelines; i++)
	{
		Timeline *tl = store->timelines[i];

		if (tl->life == TIMELINE_OPEN && tl->uses == 0 && tl->last_used <= before && timeline_is_settled(tl))
			return tl;
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
		Timeline *tl = find_idle(store);
		int64 pause = (int64) store->config->idle_timeline_timeout * 1000 / 4;

		if (tl != NULL)
		{
			ps_log(PS_DEBUG, "branch \"%s\": closed, nobody uses it", tl->name);
			store_close_timeline(store, tl);
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
