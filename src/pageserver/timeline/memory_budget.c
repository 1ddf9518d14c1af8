/*
 * memory_budget.c
 *	  Limits the memory of layers: see memory_budget.h.
 */
#include "ps_fe.h"

#include <pthread.h>

#include "base/clock.h"
#include "timeline/memory_budget.h"

struct MemoryBudget
{
	atomic_uint_fast64_t limit;
	atomic_int_fast64_t used;  /* by all users */
	atomic_int nopen;          /* open layers that are not empty */
	atomic_int_fast64_t asked; /* clock_now_ms() of the last memory_budget_ask() that woke the users */
	pthread_mutex_t lock;      /* protects the list, and keeps users in it while they are woken */
	dlist_head users;
};

MemoryBudget *
memory_budget_create(uint64 limit)
{
	MemoryBudget *budget = pg_malloc0(sizeof(MemoryBudget));

	atomic_init(&budget->limit, limit);
	pthread_mutex_init(&budget->lock, NULL);
	dlist_init(&budget->users);
	return budget;
}

void
memory_budget_free(MemoryBudget *budget)
{
	if (budget == NULL)
		return;
	Assert(dlist_is_empty(&budget->users));
	pthread_mutex_destroy(&budget->lock);
	free(budget);
}

void
memory_budget_set_limit(MemoryBudget *budget, uint64 limit)
{
	atomic_store(&budget->limit, limit);
}

uint64
memory_budget_limit(const MemoryBudget *budget)
{
	return atomic_load_explicit(&budget->limit, memory_order_relaxed);
}

static uint64
used_bytes(const MemoryBudget *budget)
{
	return atomic_load_explicit(&budget->used, memory_order_relaxed);
}

/* The share of each open layer when memory is short. */
static uint64
share(const MemoryBudget *budget)
{
	int nopen = atomic_load_explicit(&budget->nopen, memory_order_relaxed);

	return memory_budget_limit(budget) / 2 / Max(nopen, 1);
}

void
memory_budget_add_user(MemoryBudget *budget, MemoryUser *user)
{
	pthread_mutex_lock(&budget->lock);
	dlist_push_tail(&budget->users, &user->link);
	pthread_mutex_unlock(&budget->lock);
}

void
memory_budget_remove_user(MemoryBudget *budget, MemoryUser *user)
{
	memory_budget_take(budget, user, -atomic_load(&user->used));
	pthread_mutex_lock(&budget->lock);
	dlist_delete(&user->link);
	pthread_mutex_unlock(&budget->lock);
}

void
memory_budget_take(MemoryBudget *budget, MemoryUser *user, int64 delta)
{
	atomic_fetch_add_explicit(&user->used, delta, memory_order_relaxed);
	atomic_fetch_add_explicit(&budget->used, delta, memory_order_relaxed);
}

void
memory_budget_count_open(MemoryBudget *budget, int delta)
{
	atomic_fetch_add_explicit(&budget->nopen, delta, memory_order_relaxed);
}

bool
memory_budget_is_short(const MemoryBudget *budget)
{
	return used_bytes(budget) > memory_budget_limit(budget) / 2;
}

bool
memory_budget_is_over(const MemoryBudget *budget, uint64 size)
{
	return memory_budget_is_short(budget) && size > share(budget);
}

bool
memory_budget_must_wait(const MemoryBudget *budget, const MemoryUser *user)
{
	uint64 limit = memory_budget_limit(budget);
	uint64 own = atomic_load_explicit(&user->used, memory_order_relaxed);

	return own > limit / 2 || (used_bytes(budget) > limit && own > share(budget));
}

void
memory_budget_ask(MemoryBudget *budget)
{
	int64 now = clock_now_ms();
	int64 asked = atomic_load(&budget->asked);
	dlist_iter iter;

	if (used_bytes(budget) <= memory_budget_limit(budget) / 4 * 3 || now - asked < MEMORY_ASK_MS ||
		!atomic_compare_exchange_strong(&budget->asked, &asked, now))
		return;
	pthread_mutex_lock(&budget->lock);
	dlist_foreach (iter, &budget->users)
	{
		MemoryUser *user = dlist_container(MemoryUser, link, iter.cur);

		user->wake(user->owner);
	}
	pthread_mutex_unlock(&budget->lock);
}
