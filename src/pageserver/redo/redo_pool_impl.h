/*
 * redo_pool_impl.h
 *	  What the pool's own file and that of the requests share.
 */
#ifndef PS_REDO_POOL_IMPL_H
#define PS_REDO_POOL_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "redo/redo_helper.h"

typedef enum RedoSlotState
{
	SLOT_EMPTY,
	SLOT_WANTED,   /* the manager is to start a helper */
	SLOT_STARTING, /* it has; the helper's hello has not come */
	SLOT_IDLE,
	SLOT_BUSY,  /* somebody's */
	SLOT_ENDING /* somebody, or the manager, ends the helper */
} RedoSlotState;

typedef struct RedoWaiter RedoWaiter;

/*
 * A place for one helper.  All but "helper" is under the pool's lock.  helper
 * belongs to the manager while the slot is STARTING, to the one who has taken
 * it while it is BUSY, to the one who ends it while it is ENDING; its log pipe
 * is read under the lock, by the manager, in all states but ENDING.
 */
typedef struct RedoSlot
{
	RedoSlotState state;
	RedoWaiter *owner;     /* WANTED, STARTING: whose it will be; NULL: the first in the queue's */
	uint64 generation; /* counts helpers that this slot has had */
	int64 deadline;    /* STARTING, BUSY: when the manager kills the helper */
	bool timed_out;    /* it has */
	char dir[MAXPGPATH];
	RedoHelper helper;
} RedoSlot;

/* One who waits for a helper; on his stack, under the pool's lock. */
struct RedoWaiter
{
	pthread_cond_t cond;
	RedoSlot *slot;   /* what he gets: a slot, or */
	PsError *err; /* an error */
	RedoWaiter *next;
};

struct RedoPool
{
	RedoOptions options; /* strings are copies; not changed, but for the timeout, which is not looked at here */
	atomic_int timeout_ms;
	int wakeup; /* eventfd: the manager is to look at the slots */
	pthread_t manager;
	pthread_mutex_t lock; /* of everything below */
	bool stop;
	int64 manager_wakes; /* when the manager looks at deadlines next */
	RedoWaiter *first_waiter;
	RedoWaiter **last_waiter;
	int nwaiters;
	RedoStats stats; /* all but helpers */
	RedoSlot *slots;     /* options.max_helpers */
};

/* Takes a helper, in the order of arrival; it is the caller's until redo_slot_release(). */
extern PsError *redo_slot_take(RedoPool *pool, RedoSlot **slot);

/* Gives the helper back. */
extern void redo_slot_release(RedoPool *pool, RedoSlot *slot);

/* Another request begins: the helper has the whole time for it. */
extern void redo_slot_renew(RedoPool *pool, RedoSlot *slot);

/* Ends the slot's helper, which is the caller's; how it ended becomes the detail of err, if there is one. */
extern void redo_slot_end_helper(RedoPool *pool, RedoSlot *slot, PsError *err);

/* Puts a new helper in place of one that was ended; if that fails, the slot is gone. */
extern PsError *redo_slot_replace(RedoPool *pool, RedoSlot **slot);

/* Gives back a slot whose helper was ended. */
extern void redo_slot_give_up(RedoPool *pool, RedoSlot *slot);

extern void redo_pool_count_failure(RedoPool *pool);

#endif /* PS_REDO_POOL_IMPL_H */
