/*
 * redo_pool_impl.h
 *	  Shared by redo_pool.c and redo_request.c.
 */
#ifndef PS_REDO_POOL_IMPL_H
#define PS_REDO_POOL_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "redo/redo_helper.h"

typedef enum RedoSlotState
{
	SLOT_EMPTY,
	SLOT_WANTED,   /* the manager must start a helper */
	SLOT_STARTING, /* it was started; its hello has not arrived */
	SLOT_IDLE,
	SLOT_BUSY,  /* in use by a request */
	SLOT_ENDING /* a request or the manager is ending the helper */
} RedoSlotState;

typedef struct RedoWaiter RedoWaiter;

/*
 * A place for one helper.  Protected by the pool's lock, except "helper", which
 * belongs to the manager while the slot is STARTING, to the request that has taken it
 * while it is BUSY, and to the thread that ends it while it is ENDING.  The manager
 * reads its log pipe, under the lock, in all states except ENDING.
 */
typedef struct RedoSlot
{
	RedoSlotState state;
	RedoWaiter *owner; /* WANTED, STARTING: who gets it; NULL: the first in the queue */
	uint64 generation; /* number of helpers that this slot has had */
	int64 deadline;    /* STARTING, BUSY: when the manager kills the helper */
	bool timed_out;    /* the manager has killed it */
	char dir[MAXPGPATH];
	RedoHelper helper;
} RedoSlot;

/* A request that waits for a helper; on its stack, protected by the pool's lock. */
struct RedoWaiter
{
	pthread_cond_t cond;
	RedoSlot *slot; /* the result: a slot, or */
	PsError *err;   /* an error */
	RedoWaiter *next;
};

struct RedoPool
{
	RedoOptions options; /* strings are copies; never changed; timeout_ms below counts instead of its timeout */
	atomic_int timeout_ms;
	int wakeup; /* eventfd: the manager must check the slots */
	pthread_t manager;
	pthread_mutex_t lock; /* protects everything below */
	bool stop;
	int64 manager_wakes; /* when the manager checks deadlines next */
	RedoWaiter *first_waiter;
	RedoWaiter **last_waiter;
	int nwaiters;
	RedoStats stats; /* except helpers */
	RedoSlot *slots; /* options.max_helpers */
};

/* Waits for a helper, in order of arrival; it belongs to the caller until redo_slot_release(). */
extern PsError *redo_slot_take(RedoPool *pool, RedoSlot **slot);

/* Returns the helper to the pool. */
extern void redo_slot_release(RedoPool *pool, RedoSlot *slot);

/* Another request begins: restarts the helper's timeout. */
extern void redo_slot_renew(RedoPool *pool, RedoSlot *slot);

/* Ends the helper of a slot that the caller has; if err is not NULL its detail says how the helper ended. */
extern void redo_slot_end_helper(RedoPool *pool, RedoSlot *slot, PsError *err);

/* Replaces a helper that was ended; after an error the caller no longer has a slot. */
extern PsError *redo_slot_replace(RedoPool *pool, RedoSlot **slot);

/* Returns a slot whose helper was ended. */
extern void redo_slot_give_up(RedoPool *pool, RedoSlot *slot);

extern void redo_pool_count_failure(RedoPool *pool);

#endif /* PS_REDO_POOL_IMPL_H */
