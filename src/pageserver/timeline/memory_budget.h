/*
 * memory_budget.h
 *	  Memory of layers: what all timelines of a store may take together.
 *
 * open_layer_memory bounds one layer; there are as many as branches that are
 * written.  Beyond half of the limit (layer_memory) each may have its share of
 * that half: layers that are larger are frozen, so that their flush threads
 * write them.
 *
 * A timeline waits for its own flushes only, never for those of another.  It
 * takes in no WAL while its layers take more than half of the limit, or more
 * than its share while those of all take more than the limit.  As no open layer
 * is larger than that, some of its memory is being written then, and the wait
 * ends.  So a timeline whose layers cannot be written (the disk is full, or a
 * directory cannot be written to) keeps what it has, and the others go on with
 * small layers.
 *
 * Any thread may call any function.  MemoryBudget.lock is taken before the locks
 * of the users' wake functions: no caller of memory_budget_add_user(),
 * memory_budget_remove_user() or memory_budget_ask() may hold one of those.
 */
#ifndef PS_MEMORY_BUDGET_H
#define PS_MEMORY_BUDGET_H

#include <stdatomic.h>

#include "lib/ilist.h"

typedef struct MemoryBudget MemoryBudget;

/* One that takes memory.  Its owner's, which sets the two last fields before it is added. */
typedef struct MemoryUser
{
	dlist_node link;           /* private */
	atomic_int_fast64_t used;  /* bytes, as they were counted last; changed by memory_budget_take() only */
	void (*wake)(void *owner); /* memory is short: look at memory_budget_is_over() and memory_budget_is_short() */
	void *owner;
} MemoryUser;

extern MemoryBudget *memory_budget_create(uint64 limit);
extern void memory_budget_free(MemoryBudget *budget); /* no user is left */

/* Bytes; settings were reloaded. */
extern void memory_budget_set_limit(MemoryBudget *budget, uint64 limit);
extern uint64 memory_budget_limit(const MemoryBudget *budget);

/* Only those that were added are woken.  What a user has taken when it is removed is given back. */
extern void memory_budget_add_user(MemoryBudget *budget, MemoryUser *user);
extern void memory_budget_remove_user(MemoryBudget *budget, MemoryUser *user);

/* A layer in memory grew, or was written (delta < 0). */
extern void memory_budget_take(MemoryBudget *budget, MemoryUser *user, int64 delta);

/* An open layer got its first record (1), or is frozen or freed (-1). */
extern void memory_budget_count_open(MemoryBudget *budget, int delta);

/* Should an open layer of this size be frozen? */
extern bool memory_budget_is_over(const MemoryBudget *budget, uint64 size);

/* Is so much in use that callers should free what they do not need? */
extern bool memory_budget_is_short(const MemoryBudget *budget);

/* Does the user have to wait until some of its memory is freed? */
extern bool memory_budget_must_wait(const MemoryBudget *budget, const MemoryUser *user);

/* Wakes all users if memory is nearly used up, but not more often than once in MEMORY_ASK_MS. */
#define MEMORY_ASK_MS 1000
extern void memory_budget_ask(MemoryBudget *budget);

#endif /* PS_MEMORY_BUDGET_H */
