/*
 * upkeep_queue.c
 *	  Which branch gets upkeep next.
 *
 * A branch gets upkeep when a flush has added a file or a branch that began in it was
 * deleted (upkeep_wake()).  Besides, each gets it once in UPKEEP_PERIOD, because history
 * also becomes unreadable as time passes.  A closed branch is opened for that, spread over
 * the period, unless there is nothing to do until the next flush (maintain_is_quiet()).
 * For each kind, one thread at a time works on a branch.
 */
#include "ps_fe.h"

#include "sqlstate.h"
#include "store/upkeep_queue.h"

/* How often a branch gets upkeep without upkeep_wake(), ms. */
#define UPKEEP_PERIOD (3600 * 1000)

/* The longest wait of an idle thread, ms; after it, the thread calls store_clock_tick() and empties the trash. */
#define LONGEST_WAIT 60000

/* Pause after a failure, ms; it doubles with each further failure, up to the longest. */
#define RETRY_DELAY         10000
#define LONGEST_RETRY_DELAY (640 * 1000)

/* The longest pause if the disk was full, which can change at any time, ms. */
#define LONGEST_ROOM_DELAY (60 * 1000)

void
upkeep_plan(Branch *branch, bool quiet)
{
	uint32 spread = 0;

	for (int i = 0; i < sizeof(branch->spec.id.b); i++)
		spread = spread * 31 + branch->spec.id.b[i];
	branch->upkeep[UPKEEP_LEVEL0] = (UpkeepTurn) {.due = PG_INT64_MAX, .quiet = true};
	branch->upkeep[UPKEEP_ALL] = (UpkeepTurn) {.due = clock_now_ms() + spread % UPKEEP_PERIOD, .quiet = quiet};
}

Branch *
upkeep_queue_take(Upkeep *upkeep, UpkeepKind kind, int64 *wait_ms)
{
	int n;
	Branch **list = store_list(upkeep->store, &n);
	int64 now = clock_now_ms();
	Branch *next = NULL;

	pthread_mutex_lock(&upkeep->lock);
	*wait_ms = LONGEST_WAIT;
	for (int i = 0; i < n; i++)
	{
		const UpkeepTurn *turn = &list[i]->upkeep[kind];

		if (!turn->quiet && !turn->busy && (next == NULL || turn->due < next->upkeep[kind].due))
			next = list[i];
	}
	if (next != NULL && next->upkeep[kind].due > now)
	{
		*wait_ms = Min(next->upkeep[kind].due - now, LONGEST_WAIT);
		next = NULL;
	}
	/* upkeep_queue_give_back() or upkeep_wake() makes it due again, if there is more to do */
	if (next != NULL)
		next->upkeep[kind] = (UpkeepTurn) {.due = now + UPKEEP_PERIOD,
										   .quiet = true,
										   .busy = true,
										   .failures = next->upkeep[kind].failures};
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

void
upkeep_queue_give_back(Upkeep *upkeep, UpkeepKind kind, Branch *branch, const PsError *err, bool quiet)
{
	UpkeepTurn *turn = &branch->upkeep[kind];

	pthread_mutex_lock(&upkeep->lock);
	turn->busy = false;
	turn->quiet = turn->quiet && quiet && err == NULL;
	turn->failures = err != NULL ? turn->failures + 1 : 0;
	if (err != NULL)
		turn->due = turn->not_before = clock_now_ms() + retry_delay(turn->failures, err);
	/* other threads may have skipped it while it was busy */
	if (!turn->quiet)
	{
		upkeep->wakes++;
		pthread_cond_broadcast(&upkeep->wake);
	}
	pthread_mutex_unlock(&upkeep->lock);
	pthread_mutex_lock(&upkeep->store->lock);
	catalog_unhold(upkeep->store, branch);
	pthread_mutex_unlock(&upkeep->store->lock);
}

void
upkeep_queue_wait(Upkeep *upkeep, uint64 wakes, int64 ms)
{
	int64 until = clock_now_ms() + ms + 1;
	int64 left;

	pthread_mutex_lock(&upkeep->lock);
	while (!upkeep->stopping && upkeep->wakes == wakes && (left = until - clock_now_ms()) > 0)
		clock_cond_wait(&upkeep->wake, &upkeep->lock, left);
	pthread_mutex_unlock(&upkeep->lock);
}

bool
upkeep_queue_begin(Upkeep *upkeep, uint64 *wakes)
{
	bool stopping;

	pthread_mutex_lock(&upkeep->lock);
	*wakes = upkeep->wakes;
	stopping = upkeep->stopping;
	pthread_mutex_unlock(&upkeep->lock);
	return !stopping;
}

void
upkeep_queue_wake(Upkeep *upkeep, UpkeepKind kind, Branch *branch)
{
	UpkeepTurn *turn = &branch->upkeep[kind];

	pthread_mutex_lock(&upkeep->lock);
	turn->due = Min(turn->due, Max(clock_now_ms(), turn->not_before));
	turn->quiet = false;
	upkeep->wakes++;
	pthread_cond_broadcast(&upkeep->wake);
	pthread_mutex_unlock(&upkeep->lock);
}

void
upkeep_wake(Upkeep *upkeep, Branch *branch)
{
	for (int kind = 0; kind < UPKEEP_KINDS; kind++)
		upkeep_queue_wake(upkeep, kind, branch);
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

	pthread_mutex_lock(&upkeep->lock);
	quiet = branch->upkeep[UPKEEP_ALL].quiet;
	pthread_mutex_unlock(&upkeep->lock);
	if (!quiet)
		upkeep_wake(upkeep, branch);
}
