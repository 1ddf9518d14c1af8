/*
 * redo_pool.c
 *	  The pool of redo helpers: see redo.h.
 *
 * A thread that needs pages takes an idle helper, talks to it directly, blocking
 * (redo_request.c), and then returns it, or hands it to the request that has waited
 * longest.  The pool's own thread, the manager, starts helpers, kills those that take too
 * long (the caller then reads the end of the pipe), logs what they write to standard
 * error, and removes those that die while idle.  It lives as long as the pool, and only
 * it starts helpers, because the kernel sends PR_SET_PDEATHSIG when the thread that
 * created a process ends.
 */
#include "ps_fe.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "sqlstate.h"
#include "redo/redo_dir.h"
#include "redo/redo_pool_impl.h"

/* A helper that is not ready after this time, or after the timeout of a request if that is longer, is killed. */
#define START_TIMEOUT_MS 10000

static void
wake_manager(RedoPool *pool)
{
	uint64 one = 1;

	while (write(pool->wakeup, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static int
start_timeout_ms(RedoPool *pool)
{
	return Max(atomic_load(&pool->timeout_ms), START_TIMEOUT_MS);
}

void
redo_pool_set_timeout(RedoPool *pool, int timeout_ms)
{
	atomic_store(&pool->timeout_ms, timeout_ms);
}

/* Caller holds the lock. */
static void
set_deadline(RedoPool *pool, RedoSlot *slot)
{
	slot->deadline = clock_now_us() + atomic_load(&pool->timeout_ms) * INT64CONST(1000);
	if (slot->deadline < pool->manager_wakes)
	{
		pool->manager_wakes = slot->deadline;
		wake_manager(pool);
	}
}

/* Caller holds the lock. */
static void
give_slot(RedoPool *pool, RedoSlot *slot, RedoWaiter *waiter)
{
	slot->state = SLOT_BUSY;
	slot->owner = NULL;
	set_deadline(pool, slot);
	waiter->slot = slot;
	pthread_cond_signal(&waiter->cond);
}

/* Caller holds the lock. */
static RedoWaiter *
pop_waiter(RedoPool *pool)
{
	RedoWaiter *waiter = pool->first_waiter;

	if (waiter != NULL)
	{
		pool->first_waiter = waiter->next;
		if (pool->first_waiter == NULL)
			pool->last_waiter = &pool->first_waiter;
		pool->nwaiters--;
	}
	return waiter;
}

/* The slot's helper is ready for the next request.  Caller holds the lock. */
static void
slot_is_free(RedoPool *pool, RedoSlot *slot)
{
	RedoWaiter *waiter = slot->owner;

	if (waiter == NULL)
		waiter = pop_waiter(pool);
	if (waiter != NULL)
		give_slot(pool, slot, waiter);
	else
		slot->state = SLOT_IDLE;
}

/* As many helpers as there are waiters shall start, as far as there is room.  Caller holds the lock. */
static void
want_helpers(RedoPool *pool)
{
	int missing = pool->nwaiters;
	bool wake = false;

	for (int i = 0; i < pool->options.max_helpers; i++)
	{
		RedoSlot *slot = &pool->slots[i];

		if ((slot->state == SLOT_WANTED || slot->state == SLOT_STARTING) && slot->owner == NULL)
			missing--;
	}
	for (int i = 0; i < pool->options.max_helpers && missing > 0; i++)
	{
		if (pool->slots[i].state == SLOT_EMPTY)
		{
			pool->slots[i].state = SLOT_WANTED;
			missing--;
			wake = true;
		}
	}
	if (wake)
		wake_manager(pool);
}

/* The slot has no helper any more.  Caller holds the lock. */
static void
slot_is_empty(RedoPool *pool, RedoSlot *slot)
{
	slot->state = SLOT_EMPTY;
	slot->owner = NULL;
	want_helpers(pool);
}

/* Waits until the waiter got something.  Caller holds the lock. */
static PsError *
wait_for_slot(RedoPool *pool, RedoWaiter *waiter, RedoSlot **slot)
{
	while (waiter->slot == NULL && waiter->err == NULL)
		pthread_cond_wait(&waiter->cond, &pool->lock);
	pthread_cond_destroy(&waiter->cond);
	*slot = waiter->slot;
	return waiter->err;
}

PsError *
redo_slot_take(RedoPool *pool, RedoSlot **slot)
{
	RedoWaiter waiter = {.cond = PTHREAD_COND_INITIALIZER};
	PsError *err;

	*slot = NULL;
	pthread_mutex_lock(&pool->lock);
	for (int i = 0; i < pool->options.max_helpers && pool->first_waiter == NULL; i++)
	{
		if (pool->slots[i].state == SLOT_IDLE)
		{
			give_slot(pool, &pool->slots[i], &waiter);
			break;
		}
	}
	if (waiter.slot == NULL)
	{
		*pool->last_waiter = &waiter;
		pool->last_waiter = &waiter.next;
		pool->nwaiters++;
		want_helpers(pool);
	}
	err = wait_for_slot(pool, &waiter, slot);
	pthread_mutex_unlock(&pool->lock);
	return err;
}

void
redo_slot_end_helper(RedoPool *pool, RedoSlot *slot, PsError *err)
{
	char how[REDO_LOG_LINE + 128];

	pthread_mutex_lock(&pool->lock);
	slot->state = SLOT_ENDING;
	pthread_mutex_unlock(&pool->lock);
	redo_helper_end(&slot->helper, how, sizeof(how));
	if (err == NULL)
		return;
	if (slot->timed_out)
		ps_error_detail(err, "It took longer than %d ms.", atomic_load(&pool->timeout_ms));
	else if (how[0] != '\0')
		ps_error_detail(err, "%s", how);
}

void
redo_pool_count_failure(RedoPool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->stats.failed++;
	pthread_mutex_unlock(&pool->lock);
}

void
redo_slot_give_up(RedoPool *pool, RedoSlot *slot)
{
	pthread_mutex_lock(&pool->lock);
	slot_is_empty(pool, slot);
	pthread_mutex_unlock(&pool->lock);
}

void
redo_slot_renew(RedoPool *pool, RedoSlot *slot)
{
	pthread_mutex_lock(&pool->lock);
	set_deadline(pool, slot);
	pthread_mutex_unlock(&pool->lock);
}

void
redo_slot_release(RedoPool *pool, RedoSlot *slot)
{
	bool late;

	pthread_mutex_lock(&pool->lock);
	late = slot->timed_out;
	if (!late)
		slot_is_free(pool, slot);
	pthread_mutex_unlock(&pool->lock);
	if (!late)
		return;

	/* it answered just when the manager killed it */
	redo_slot_end_helper(pool, slot, NULL);
	redo_slot_give_up(pool, slot);
}

PsError *
redo_slot_replace(RedoPool *pool, RedoSlot **slot)
{
	RedoWaiter waiter = {.cond = PTHREAD_COND_INITIALIZER};
	PsError *err;

	pthread_mutex_lock(&pool->lock);
	(*slot)->state = SLOT_WANTED;
	(*slot)->owner = &waiter;
	wake_manager(pool);
	err = wait_for_slot(pool, &waiter, slot);
	pthread_mutex_unlock(&pool->lock);
	return err;
}

/* Passes the error to the waiter for which a helper could not be started.  Called by the manager, with the lock. */
static void
start_failed(RedoPool *pool, RedoSlot *slot, PsError *err)
{
	RedoWaiter *waiter = slot->owner != NULL ? slot->owner : pop_waiter(pool);

	/* no file of data is damaged by that (ps_error_is_damage()) */
	if (ps_error_is(err, PS_SQLSTATE_IO))
		ps_error_set_state(err, PS_SQLSTATE_INTERNAL);
	pool->stats.failed++;
	if (waiter != NULL)
	{
		waiter->err = err;
		pthread_cond_signal(&waiter->cond);
	}
	else
		ps_log_error(PS_WARNING, err, "could not start a redo helper ahead of need");
	slot_is_empty(pool, slot);
}

/* Starts a helper in a slot that is WANTED.  Called by the manager, with the lock, which is let go meanwhile. */
static void
start_helper(RedoPool *pool, RedoSlot *slot)
{
	PsError *err;

	slot->state = SLOT_STARTING;
	slot->generation++;
	slot->timed_out = false;
	slot->deadline = clock_now_us() + start_timeout_ms(pool) * INT64CONST(1000);
	pool->stats.started++;
	pthread_mutex_unlock(&pool->lock);
	err = redo_helper_start(&slot->helper, &pool->options, slot->dir);
	pthread_mutex_lock(&pool->lock);
	if (err != NULL)
		start_failed(pool, slot, err);
}

/* Something came from a helper that starts: its hello, or its end.  Called by the manager, with the lock. */
static void
helper_started(RedoPool *pool, RedoSlot *slot)
{
	PsError *err = redo_helper_hello(&slot->helper);

	if (err == NULL)
	{
		slot_is_free(pool, slot);
		return;
	}
	pthread_mutex_unlock(&pool->lock);
	redo_slot_end_helper(pool, slot, err);
	pthread_mutex_lock(&pool->lock);
	if (slot->timed_out)
		ps_error_detail(err, "It was not ready after %d ms.", start_timeout_ms(pool));
	start_failed(pool, slot, err);
}

/* Nothing is to come from an idle helper but its end.  Called by the manager, with the lock. */
static void
idle_helper_ended(RedoPool *pool, RedoSlot *slot)
{
	PsError *err = ps_error(PS_SQLSTATE_INTERNAL, "redo helper (PID %d) ended", (int) slot->helper.pid);

	pool->stats.failed++;
	slot->state = SLOT_ENDING;
	pthread_mutex_unlock(&pool->lock);
	redo_slot_end_helper(pool, slot, err);
	ps_log_error(PS_WARNING, err, "while it was idle");
	pthread_mutex_lock(&pool->lock);
	slot_is_empty(pool, slot);
}

/* Kills what is late and returns when the next will be.  Called by the manager, with the lock. */
static int64
check_deadlines(RedoPool *pool)
{
	int64 now = clock_now_us();
	int64 next = PG_INT64_MAX;

	for (int i = 0; i < pool->options.max_helpers; i++)
	{
		RedoSlot *slot = &pool->slots[i];

		if ((slot->state != SLOT_BUSY && slot->state != SLOT_STARTING) || slot->timed_out)
			continue;
		if (slot->deadline > now)
			next = Min(next, slot->deadline);
		else if (slot->helper.pid > 0)
		{
			slot->timed_out = true;
			kill(slot->helper.pid, SIGKILL);
		}
	}
	return next;
}

/* Handles the events of poll() for a slot.  Called by the manager, which holds the lock. */
static void
check_slot(RedoPool *pool, RedoSlot *slot, bool log, bool answers)
{
	if (log && slot->state != SLOT_ENDING)
		redo_helper_log(&slot->helper);
	if (answers && slot->state == SLOT_STARTING)
		helper_started(pool, slot);
	else if (answers && slot->state == SLOT_IDLE)
		idle_helper_ended(pool, slot);
}

static bool
slot_has_helper(const RedoSlot *slot)
{
	return slot->state == SLOT_STARTING || slot->state == SLOT_IDLE || slot->state == SLOT_BUSY;
}

static void
wait_for_events(RedoPool *pool, struct pollfd *fds, int64 until)
{
	int64 now = clock_now_us();
	int timeout = -1;

	if (until != PG_INT64_MAX)
		timeout = until > now ? (int) Min((until - now + 999) / 1000, PG_INT32_MAX) : 0;
	if (poll(fds, 1 + 2 * pool->options.max_helpers, timeout) < 0)
	{
		if (errno != EINTR)
			ps_log(PS_WARNING, "could not poll redo helpers: %m");
		for (int i = 0; i < 1 + 2 * pool->options.max_helpers; i++)
			fds[i].revents = 0;
	}
}

static void *
manager_main(void *arg)
{
	RedoPool *pool = arg;
	int n = pool->options.max_helpers;
	struct pollfd *fds = pg_malloc0((1 + 2 * n) * sizeof(struct pollfd));
	uint64 *generations = pg_malloc(n * sizeof(uint64));
	int64 until;

	ps_thread_name("redo");
	pthread_mutex_lock(&pool->lock);
	while (!pool->stop)
	{
		for (int i = 0; i < n; i++)
		{
			if (pool->slots[i].state == SLOT_WANTED)
				start_helper(pool, &pool->slots[i]);
		}
		fds[0] = (struct pollfd) {.fd = pool->wakeup, .events = POLLIN};
		for (int i = 0; i < n; i++)
		{
			RedoSlot *slot = &pool->slots[i];
			bool has = slot_has_helper(slot);
			bool starting = slot->state == SLOT_STARTING;
			bool watch = starting || slot->state == SLOT_IDLE;

			generations[i] = slot->generation;
			fds[1 + 2 * i] = (struct pollfd) {.fd = has ? slot->helper.log : -1, .events = POLLIN};

			/* for an idle helper only the end of the pipe matters: answers are for the requests */
			fds[2 + 2 * i] = (struct pollfd) {.fd = watch ? slot->helper.answers : -1, .events = starting ? POLLIN : 0};
		}
		until = pool->manager_wakes = check_deadlines(pool);
		pthread_mutex_unlock(&pool->lock);

		/* a thread that sets an earlier deadline wakes us */
		wait_for_events(pool, fds, until);
		if (fds[0].revents)
		{
			uint64 count;

			while (read(pool->wakeup, &count, sizeof(count)) < 0 && errno == EINTR)
				;
		}

		pthread_mutex_lock(&pool->lock);
		for (int i = 0; i < n; i++)
		{
			/* what poll() saw may have been an earlier helper's */
			if (generations[i] == pool->slots[i].generation)
				check_slot(pool, &pool->slots[i], fds[1 + 2 * i].revents != 0, fds[2 + 2 * i].revents != 0);
		}
	}
	for (int i = 0; i < n; i++)
	{
		char how[REDO_LOG_LINE + 128];

		if (slot_has_helper(&pool->slots[i]))
			redo_helper_end(&pool->slots[i].helper, how, sizeof(how));
	}
	pthread_mutex_unlock(&pool->lock);
	free(fds);
	free(generations);
	return NULL;
}

/* Frees what the pool holds but processes and the thread.  Returns err. */
static PsError *
pool_destroy(RedoPool *pool, PsError *err)
{
	if (pool->wakeup >= 0)
		close(pool->wakeup);
	pthread_mutex_destroy(&pool->lock);
	free(unconstify(char *, pool->options.bindir));
	free(unconstify(char *, pool->options.workdir));
	free(unconstify(char *, pool->options.library));
	free(pool->slots);
	free(pool);
	return err;
}

PsError *
redo_pool_create(const RedoOptions *options, RedoPool **result)
{
	RedoPool *pool;
	char program[MAXPGPATH];
	int rc;

	*result = NULL;
	snprintf(program, sizeof(program), "%s/postgres", options->bindir);
	if (access(program, X_OK) != 0)
		return ps_error_hint(ps_error(PS_SQLSTATE_INVALID, "could not find PostgreSQL's program \"%s\": %m", program),
							 "Set \"bindir\" to the directory of PostgreSQL %s's programs.", PG_MAJORVERSION);
	if (options->max_helpers < 1 || options->timeout_ms < 1)
		return ps_error(PS_SQLSTATE_INVALID, "redo needs one helper and a timeout of 1 ms at least, not %d and %d ms",
						options->max_helpers, options->timeout_ms);
	PS_TRY(redo_dir_clean(options->workdir));

	/* a helper that ends while we write to it is an error of that request alone */
	signal(SIGPIPE, SIG_IGN);

	pool = pg_malloc0(sizeof(RedoPool));
	pool->options = *options;
	pool->options.bindir = pg_strdup(options->bindir);
	pool->options.workdir = pg_strdup(options->workdir);
	pool->options.library = options->library != NULL ? pg_strdup(options->library) : NULL;
	atomic_init(&pool->timeout_ms, options->timeout_ms);
	pool->manager_wakes = PG_INT64_MAX;
	pool->last_waiter = &pool->first_waiter;
	pool->slots = pg_malloc0(options->max_helpers * sizeof(RedoSlot));
	for (int i = 0; i < options->max_helpers; i++)
	{
		snprintf(pool->slots[i].dir, MAXPGPATH, "%s/" REDO_DIR_PREFIX "%d", options->workdir, i);
		pool->slots[i].helper.requests = pool->slots[i].helper.answers = pool->slots[i].helper.log = -1;
	}
	pool->slots[0].state = SLOT_WANTED;
	pthread_mutex_init(&pool->lock, NULL);
	pool->wakeup = eventfd(0, EFD_CLOEXEC);
	rc = pool->wakeup < 0 ? errno : pthread_create(&pool->manager, NULL, manager_main, pool);
	if (rc == 0)
	{
		*result = pool;
		return NULL;
	}
	errno = rc;
	return pool_destroy(pool, ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "could not start the thread of a redo pool: %m"));
}

void
redo_pool_free(RedoPool *pool)
{
	if (pool == NULL)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stop = true;
	pthread_mutex_unlock(&pool->lock);
	wake_manager(pool);
	pthread_join(pool->manager, NULL);
	ps_error_free(redo_dir_clean(pool->options.workdir));
	pool_destroy(pool, NULL);
}

void
redo_pool_stats(RedoPool *pool, RedoStats *stats)
{
	pthread_mutex_lock(&pool->lock);
	*stats = pool->stats;
	stats->helpers = 0;
	for (int i = 0; i < pool->options.max_helpers; i++)
		stats->helpers += slot_has_helper(&pool->slots[i]);
	pthread_mutex_unlock(&pool->lock);
}
