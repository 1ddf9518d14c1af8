/*
 * memory_budget.h
 *	  Limits the memory of layers that all timelines of a store use together.
 *
 * open_layer_memory limits the open layer of one timeline, but many branches may be written
 * at a time.  When all layers together use more than half of the limit (layer_memory), each
 * open layer may have an equal share of that half; larger ones are frozen, so that their
 * flush threads write them.
 *
 * A timeline waits only for its own flushes, never for those of another.  It ingests no WAL
 * while its layers use more than half of the limit, or more than its share while all
 * together use more than the limit.  Its open layer is not that large, so some of its
 * memory is being written at that time, and the wait ends.  So a timeline whose layers
 * cannot be written (the disk is full, or its directory is not writable) keeps the memory
 * that it has, and the others continue with small layers.
 *
 * Any thread may call any function.  MemoryBudget.lock is acquired before the locks of the
 * users' wake functions: no caller of memory_budget_add_user(), memory_budget_remove_user()
 * or memory_budget_ask() may hold one of those.
 */
#ifndef PS_MEMORY_BUDGET_H
#define PS_MEMORY_BUDGET_H

#include <stdatomic.h>

#include "lib/ilist.h"

typedef struct MemoryBudget MemoryBudget;

/* A user of memory.  Part of its owner, which sets the last two fields before it is added. */
typedef struct MemoryUser
{
	dlist_node link;           /* private */
	atomic_int_fast64_t used;  /* bytes; changed only by memory_budget_take() */
	void (*wake)(void *owner); /* memory is short: check memory_budget_is_over() and memory_budget_is_short() */
	void *owner;
} MemoryUser;

extern MemoryBudget *memory_budget_create(uint64 limit);
extern void memory_budget_free(MemoryBudget *budget); /* no user may be left */

/* The limit, bytes; it is set again when settings are reloaded. */
extern void memory_budget_set_limit(MemoryBudget *budget, uint64 limit);
extern uint64 memory_budget_limit(const MemoryBudget *budget);

/* Users that were added are woken.  Removing a user gives back the memory that it has. */
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

/* Wakes all users if three quarters of the limit are in use, at most once in MEMORY_ASK_MS. */
#define MEMORY_ASK_MS 1000
extern void memory_budget_ask(MemoryBudget *budget);

#endif /* PS_MEMORY_BUDGET_H */
