/*
 * upkeep.c
 *	  The upkeep threads of the store: compaction_workers threads that merge files of
 *	  level 0, and as many that do everything else.
 *
 * Writers wait for merges of level 0 (merge_delay() in ingest/receiver.c), which take
 * seconds.  Other merges, images and garbage collection of a large timeline may take
 * hours, and must not delay merges of level 0, so they have threads of their own.
 *
 * upkeep_queue.c chooses the branch; maintain/maintain_timeline.c does the work.
 */
#include "ps_fe.h"

#include "maintain/maintain.h"
#include "store/upkeep_queue.h"
#include "sqlstate.h"

/*
 * Does the upkeep of one kind for a branch, which is opened for UPKEEP_ALL.  *is_news:
 * the error differs from the previous one.  *quiet: there is nothing more to do until a
 * flush adds a file.
 */
static PsError *
work_on(Upkeep *upkeep, UpkeepKind kind, Branch *branch, bool *is_news, bool *quiet)
{
	Store *store = upkeep->store;
	bool more = false;
	Timeline *tl = NULL;
	PsError *err = NULL;

	*is_news = false;
	*quiet = kind == UPKEEP_LEVEL0;
	pthread_mutex_lock(&store->lock);
	/* only flushes add files of level 0, so a closed branch need not be opened for them */
	if (kind != UPKEEP_LEVEL0 || branch->life == BRANCH_OPEN)
	{
		err = use_begin(store, branch, NULL);
		tl = err == NULL ? branch->open : NULL;
	}
	pthread_mutex_unlock(&store->lock);
	if (tl == NULL)
	{
		/* the thread that opened it, or tried to, has reported why */
		ps_error_free(err);
		return NULL;
	}
	if (kind == UPKEEP_ALL)
	{
		/* a killed store may have left files of level 0, and the branch was not open for merging them until now */
		if (maintain_has_level0(tl))
			upkeep_queue_wake(upkeep, UPKEEP_LEVEL0, branch);
		err = maintain_all(tl);
		if (err == NULL)
			ps_log(PS_DEBUG, "branch \"%s\": finished upkeep of layer files", branch_name(branch));
	}
	else if (maintain_has_level0(tl))
		err = maintain_level0(tl, &more);
	if (err == NULL || !timeline_is_stopping(tl))
		*is_news = maintain_set_error(tl, kind, err);
	if (kind == UPKEEP_ALL)
		*quiet = maintain_is_quiet(tl);
	if (more)
		upkeep_wake(upkeep, branch);
	pthread_mutex_lock(&store->lock);
	use_end(store, branch, false);
	pthread_mutex_unlock(&store->lock);
	return err;
}

static void *
upkeep_main(void *arg)
{
	UpkeepKind kind = ((UpkeepThread *) arg)->kind;
	Upkeep *upkeep = ((UpkeepThread *) arg)->upkeep;
	uint64 wakes;

	ps_thread_name(kind == UPKEEP_LEVEL0 ? "merge" : "upkeep");
	while (upkeep_queue_begin(upkeep, &wakes))
	{
		int64 wait_ms;
		Branch *branch;
		bool is_news;
		bool quiet;
		PsError *err;

		store_clock_tick(upkeep->store->clock);
		/* not in threads for level 0, because this waits until no thread holds what it removes */
		if (kind == UPKEEP_ALL)
		{
			trash_empty(upkeep->store);
			trash_empty_tenants(upkeep->store);
		}
		branch = upkeep_queue_take(upkeep, kind, &wait_ms);
		if (branch == NULL)
		{
			upkeep_queue_wait(upkeep, wakes, wait_ms);
			continue;
		}
		err = work_on(upkeep, kind, branch, &is_news, &quiet);
		if (err != NULL && is_news)
			ps_log_error(PS_WARNING, ps_error_copy(err), "branch \"%s\": upkeep of layer files failed, will try again",
						 branch_name(branch));
		upkeep_queue_give_back(upkeep, kind, branch, err, quiet);
		ps_error_free(err);
	}
	return NULL;
}

PsError *
upkeep_start(Store *store)
{
	Upkeep *upkeep = store->upkeep = pg_malloc0(sizeof(Upkeep));
	int rc = 0;

	upkeep->store = store;
	upkeep->threads = pg_malloc0(Max(store->config->compaction_workers, 1) * UPKEEP_KINDS * sizeof(UpkeepThread));
	pthread_mutex_init(&upkeep->lock, NULL);
	clock_cond_init(&upkeep->wake);
	while (rc == 0 && upkeep->nthreads < store->config->compaction_workers * UPKEEP_KINDS)
	{
		UpkeepThread *thread = &upkeep->threads[upkeep->nthreads];

		*thread = (UpkeepThread) {.upkeep = upkeep, .kind = upkeep->nthreads % UPKEEP_KINDS};
		rc = pthread_create(&thread->thread, NULL, upkeep_main, thread);
		upkeep->nthreads += rc == 0;
	}
	if (rc == 0)
		return NULL;
	errno = rc;
	return ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "could not start a thread for the upkeep of layer files: %m");
}

void
upkeep_stop(Upkeep *upkeep)
{
	if (upkeep == NULL)
		return;
	pthread_mutex_lock(&upkeep->lock);
	upkeep->stopping = true;
	pthread_cond_broadcast(&upkeep->wake);
	pthread_mutex_unlock(&upkeep->lock);
	for (int i = 0; i < upkeep->nthreads; i++)
		pthread_join(upkeep->threads[i].thread, NULL);
}

void
upkeep_free(Upkeep *upkeep)
{
	if (upkeep == NULL)
		return;
	pthread_cond_destroy(&upkeep->wake);
	pthread_mutex_destroy(&upkeep->lock);
	free(upkeep->threads);
	free(upkeep);
}
