/*
 * upkeep.c
 *	  The upkeep threads of the store: compaction_workers threads that merge files of
 *	  level 0, and as many that do everything else.
 *
 * Writers wait for merges of level 0 (merge_delay() in ingest/receiver.c), which take
 * seconds.  Other merges, images and garbage collection of a large timeline may take hours,
 * and must not delay merges of level 0, so they have threads of their own.
 *
 * A timeline gets upkeep when a flush has added a file or a branch that began in it was
 * deleted (upkeep_wake()).  Besides, each gets it once in UPKEEP_PERIOD, because history
 * also becomes unreadable as time passes.  A closed timeline is opened for that, by one
 * thread at a time, spread over the period, unless there is nothing to do until the next
 * flush (maintain_is_quiet()).  For each kind, one thread at a time works on a timeline
 * (maintain/maintain_timeline.c).
 */
#include "ps_fe.h"

#include "maintain/maintain.h"
#include "store/store_impl.h"
#include "sqlstate.h"

/* How often a timeline gets upkeep that nobody asked for, ms. */
#define UPKEEP_PERIOD (3600 * 1000)

/* How often an idle thread calls store_clock_tick(), ms. */
#define TICK 60000

/* Pause after a failure, ms; it doubles with each further failure, up to the longest. */
#define RETRY_DELAY         10000
#define LONGEST_RETRY_DELAY (640 * 1000)

/* The longest pause if the disk was full, which can change at any time, ms. */
#define LONGEST_ROOM_DELAY (60 * 1000)

typedef struct UpkeepThread
{
	Upkeep *upkeep;
	UpkeepKind kind;
	pthread_t thread;
} UpkeepThread;

struct Upkeep
{
	Store *store; /* fixed */
	int nthreads;
	UpkeepThread *threads;
	pthread_mutex_t lock; /* a leaf; protects what follows, and Branch.upkeep */
	pthread_cond_t wake;
	uint64 wakes; /* how often there may have been more to do than before */
	bool stopping;
};

void
upkeep_plan(Branch *branch, bool quiet)
{
	uint32 spread = 0;

	for (int i = 0; i < sizeof(branch->spec.id.b); i++)
		spread = spread * 31 + branch->spec.id.b[i];
	branch->upkeep[UPKEEP_LEVEL0] = (UpkeepTurn) {.due = PG_INT64_MAX, .quiet = true};
	branch->upkeep[UPKEEP_ALL] = (UpkeepTurn) {.due = clock_now_ms() + spread % UPKEEP_PERIOD, .quiet = quiet};
}

/*
 * The timeline that has been due for the longest time, which is then the
 * caller's to give back with give_back(); NULL: none is due before *wait_ms.
 */
static Branch *
take_due(Upkeep *upkeep, UpkeepKind kind, int64 *wait_ms)
{
	int n;
	Branch **list = store_list(upkeep->store, &n);
	int64 now = clock_now_ms();
	Branch *next = NULL;

	pthread_mutex_lock(&upkeep->lock);
	*wait_ms = TICK;
	for (int i = 0; i < n; i++)
	{
		const UpkeepTurn *turn = &list[i]->upkeep[kind];

		if (!turn->quiet && !turn->busy && (next == NULL || turn->due < next->upkeep[kind].due))
			next = list[i];
	}
	if (next != NULL && next->upkeep[kind].due > now)
	{
		*wait_ms = Min(next->upkeep[kind].due - now, TICK);
		next = NULL;
	}
	/* quiet, unless there is more to do, or somebody asks meanwhile */
	if (next != NULL)
		next->upkeep[kind] = (UpkeepTurn) {.due = now + UPKEEP_PERIOD, .quiet = true, .busy = true, .failures = next->upkeep[kind].failures};
	pthread_mutex_unlock(&upkeep->lock);
	for (int i = 0; i < n && next != NULL; i++)
		if (list[i] == next)
		{
			list[i] = list[n - 1];
			n--;
		}
	store_list_free(list, n);
	return next;
}

/* How long to wait after a number of consecutive failures, the last of which was err. */
static int64
retry_delay(int failures, const PsError *err)
{
	int64 longest = ps_error_is(err, PS_SQLSTATE_DISK_FULL) ? LONGEST_ROOM_DELAY : LONGEST_RETRY_DELAY;
	int64 delay = RETRY_DELAY;

	for (int i = 1; i < failures && delay < longest; i++)
		delay *= 2;
	return Min(delay, longest);
}

/* err, quiet: of what was done, and found. */
static void
give_back(Upkeep *upkeep, UpkeepKind kind, Branch *branch, const PsError *err, bool quiet)
{
	UpkeepTurn *turn = &branch->upkeep[kind];

	pthread_mutex_lock(&upkeep->lock);
	turn->busy = false;
	turn->quiet = turn->quiet && quiet && err == NULL;
	turn->failures = err != NULL ? turn->failures + 1 : 0;
	if (err != NULL)
		turn->due = turn->not_before = clock_now_ms() + retry_delay(turn->failures, err);
	/* others may have passed it over while it was busy */
	if (!turn->quiet)
	{
		upkeep->wakes++;
		pthread_cond_broadcast(&upkeep->wake);
	}
	pthread_mutex_unlock(&upkeep->lock);
	pthread_mutex_lock(&upkeep->store->lock);
	store_unhold(upkeep->store, branch);
	pthread_mutex_unlock(&upkeep->store->lock);
}

/* The branch is due now, or when the pause after its last failure ends. */
static void
wake_kind(Upkeep *upkeep, UpkeepKind kind, Branch *branch)
{
	UpkeepTurn *turn = &branch->upkeep[kind];

	pthread_mutex_lock(&upkeep->lock);
	turn->due = Min(turn->due, Max(clock_now_ms(), turn->not_before));
	turn->quiet = false;
	upkeep->wakes++;
	pthread_cond_broadcast(&upkeep->wake);
	pthread_mutex_unlock(&upkeep->lock);
}

/*
 * Does what upkeep of the kind has to do for a branch, which is opened for that
 * unless it is open.  *is_news: the error is not that of the last time.  *quiet:
 * nothing more is to be done before a flush adds a file.
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
	/* files of level 0 come by flushes, so a branch that is closed need not be opened for them */
	if (kind != UPKEEP_LEVEL0 || branch->life == BRANCH_OPEN)
	{
		err = store_begin_use(store, branch, NULL);
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
		/* a killed store may have left more files than writers wait for, and the branch is only open since now */
		if (maintain_has_level0(tl))
			wake_kind(upkeep, UPKEEP_LEVEL0, branch);
		err = maintain_all(tl);
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
	store_end_use(store, branch, false);
	pthread_mutex_unlock(&store->lock);
	return err;
}

/* Waits until the thread is to stop, upkeep_wake() was called since "wakes" was read, or ms have passed. */
static void
wait_for_work(Upkeep *upkeep, uint64 wakes, int64 ms)
{
	int64 until = clock_now_ms() + ms + 1;
	int64 left;

	pthread_mutex_lock(&upkeep->lock);
	while (!upkeep->stopping && upkeep->wakes == wakes && (left = until - clock_now_ms()) > 0)
		clock_cond_wait(&upkeep->wake, &upkeep->lock, left);
	pthread_mutex_unlock(&upkeep->lock);
}

static bool
look(Upkeep *upkeep, uint64 *wakes)
{
	bool stopping;

	pthread_mutex_lock(&upkeep->lock);
	*wakes = upkeep->wakes;
	stopping = upkeep->stopping;
	pthread_mutex_unlock(&upkeep->lock);
	return !stopping;
}

static void *
upkeep_main(void *arg)
{
	UpkeepKind kind = ((UpkeepThread *) arg)->kind;
	Upkeep *upkeep = ((UpkeepThread *) arg)->upkeep;
	uint64 wakes;

	ps_thread_name(kind == UPKEEP_LEVEL0 ? "merge" : "upkeep");
	while (look(upkeep, &wakes))
	{
		int64 wait_ms;
		Branch *branch;
		bool is_news;
		bool quiet;
		PsError *err;

		store_clock_tick(upkeep->store->clock);
		/* which waits until nobody holds what it removes */
		if (kind == UPKEEP_ALL)
		{
			trash_empty(upkeep->store);
			trash_empty_tenants(upkeep->store);
		}
		branch = take_due(upkeep, kind, &wait_ms);
		if (branch == NULL)
		{
			wait_for_work(upkeep, wakes, wait_ms);
			continue;
		}
		err = work_on(upkeep, kind, branch, &is_news, &quiet);
		if (err != NULL && is_news)
			ps_log_error(PS_WARNING, ps_error_copy(err), "branch \"%s\": upkeep of layer files failed, will try again", branch_name(branch));
		give_back(upkeep, kind, branch, err, quiet);
		ps_error_free(err);
	}
	return NULL;
}

PsError *
upkeep_start(Store *store, Upkeep **result)
{
	Upkeep *upkeep = pg_malloc0(sizeof(Upkeep));
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
	*result = upkeep;
	if (rc == 0)
		return NULL;
	errno = rc;
	return ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "could not start a thread for the upkeep of layer files: %m");
}

void
upkeep_wake(Upkeep *upkeep, Branch *branch)
{
	if (upkeep == NULL)
		return;
	for (int kind = 0; kind < UPKEEP_KINDS; kind++)
		wake_kind(upkeep, kind, branch);
}

void
upkeep_files_added(Timeline *tl)
{
	Branch *branch = branch_of(tl);

	upkeep_wake(branch->tenant->store->upkeep, branch);
}

void
upkeep_opened(Upkeep *upkeep, Branch *branch)
{
	bool quiet;

	if (upkeep == NULL)
		return;
	pthread_mutex_lock(&upkeep->lock);
	quiet = branch->upkeep[UPKEEP_ALL].quiet;
	pthread_mutex_unlock(&upkeep->lock);
	if (!quiet)
		upkeep_wake(upkeep, branch);
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
