/*
 * upkeep_queue.h
 *	  What upkeep_queue.c offers to the threads of upkeep.c.
 */
#ifndef PS_UPKEEP_QUEUE_H
#define PS_UPKEEP_QUEUE_H

#include "store/store_impl.h"

typedef struct UpkeepThread
{
	Upkeep *upkeep;
	UpkeepKind kind;
	pthread_t thread;
} UpkeepThread;

struct Upkeep
{
	Store *store; /* fixed */
	int nthreads; /* changed by upkeep_start() only, like the next; no thread of upkeep reads them */
	UpkeepThread *threads;
	pthread_mutex_t lock; /* a leaf; protects what follows, and Branch.upkeep */
	pthread_cond_t wake;
	uint64 wakes; /* incremented whenever there may be more to do */
	bool stopping;
};

/* Reads Upkeep.wakes; returns false if the thread is to stop. */
extern bool upkeep_queue_begin(Upkeep *upkeep, uint64 *wakes);

/*
 * Returns the branch that has been due for the longest time, held and busy until
 * upkeep_queue_give_back(); NULL: none is due before *wait_ms.
 */
extern Branch *upkeep_queue_take(Upkeep *upkeep, UpkeepKind kind, int64 *wait_ms);

/* err: the result of the work; quiet: the work found nothing that remains to be done. */
extern void upkeep_queue_give_back(Upkeep *upkeep, UpkeepKind kind, Branch *branch, const PsError *err, bool quiet);

/* Makes a branch due now, or when the pause after its last failure ends, for upkeep of one kind. */
extern void upkeep_queue_wake(Upkeep *upkeep, UpkeepKind kind, Branch *branch);

/* Waits until the thread is to stop, there may be more to do than at upkeep_queue_begin(), or ms have passed. */
extern void upkeep_queue_wait(Upkeep *upkeep, uint64 wakes, int64 ms);

#endif /* PS_UPKEEP_QUEUE_H */
