/*
 * cancel.h
 *	  Cancellation of long operations, with errors that name the reason.
 */
#ifndef PS_CANCEL_H
#define PS_CANCEL_H

#include <pthread.h>

#include "base/error.h"

/*
 * Asked again and again by everything that waits or takes long: NULL, or an
 * error that says why to end, made with cancel_error() if one of its reasons
 * applies.  The caller returns that error.  Called with no lock held that
 * protects shared state, by the thread that waits.
 */
typedef struct CancelCheck
{
	PsError *(*check)(void *arg);
	void *arg;
} CancelCheck;

/* The answer of a check, marked as such (PsError.is_cancel); one that is NULL never cancels. */
extern PsError *cancel_check(const CancelCheck *cancel);

/* For callers that do not need the reason. */
extern bool cancel_is_requested(const CancelCheck *cancel);

typedef enum CancelReason
{
	CANCEL_NONE,
	CANCEL_STORE_STOPPING,
	CANCEL_BRANCH_DELETED,
	CANCEL_TENANT_DETACHED,
	CANCEL_FENCED, /* another store has taken over the tenant, in object storage */
	CANCEL_BY_CLIENT
} CancelReason;

/*
 * The error of a reason, NULL for CANCEL_NONE: PS_SQLSTATE_TRY_AGAIN if the store
 * is stopping or the tenant being detached, PS_SQLSTATE_NOT_FOUND if the branch
 * is being deleted, PS_SQLSTATE_FENCED, PS_SQLSTATE_CANCELED if the client asked for
 * it.  It has PsError.is_cancel.  name: of the branch, or the tenant's id if the reason
 * is the tenant's; not used for the other reasons.
 */
extern PsError *cancel_error(CancelReason reason, const char *name);

/* A wait that may be canceled; initialize with .cancel alone. */
typedef struct CancelWait
{
	const CancelCheck *cancel; /* or NULL */
	int64 next_check;          /* clock_now_ms(); private */
} CancelWait;

/*
 * Waits for the condition, made with clock_cond_init(), for at most ms, as one
 * turn of the caller's loop, which tests what it waits for.  About once in
 * CANCEL_CHECK_MS releases the lock and asks the check, whose error it returns.
 */
#define CANCEL_CHECK_MS 100
extern PsError *cancel_wait(CancelWait *wait, pthread_cond_t *cond, pthread_mutex_t *lock, int64 ms);

#endif /* PS_CANCEL_H */
