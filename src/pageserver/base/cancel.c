/*
 * cancel.c
 *	  Ending what takes long: see cancel.h.
 */
#include "ps_fe.h"

#include "base/cancel.h"
#include "base/clock.h"
#include "sqlstate.h"

static PsError *
mark(PsError *err)
{
	if (err != NULL)
		err->is_cancel = true;
	return err;
}

static PsError *
error_of(CancelReason reason, const char *name)
{
	switch (reason)
	{
		case CANCEL_NONE:
			break;
		case CANCEL_STORE_STOPPING:
			return ps_error_hint(ps_error(PS_SQLSTATE_TRY_AGAIN, "the store is stopping"),
								 "Connect again when it is back.");
		case CANCEL_BRANCH_DELETED:
			return ps_error(PS_SQLSTATE_NOT_FOUND, "branch \"%s\" is being deleted", name);
		case CANCEL_TENANT_DETACHED:
			return ps_error_hint(ps_error(PS_SQLSTATE_TRY_AGAIN, "tenant %s is being detached", name),
								 "\"pageserver_ctl tenant attach %s\" brings it back.", name);
		case CANCEL_FENCED:
			return ps_error_hint(ps_error(PS_SQLSTATE_FENCED, "another store has taken over tenant %s", name),
								 "\"pageserver_ctl tenant list\" names it.");
		case CANCEL_BY_CLIENT:
			return ps_error(PS_SQLSTATE_CANCELED, "canceling the command on the client's request");
	}
	return NULL;
}

PsError *
cancel_error(CancelReason reason, const char *name)
{
	return mark(error_of(reason, name));
}

PsError *
cancel_check(const CancelCheck *cancel)
{
	return cancel != NULL ? mark(cancel->check(cancel->arg)) : NULL;
}

bool
cancel_is_requested(const CancelCheck *cancel)
{
	PsError *err = cancel_check(cancel);
	bool requested = err != NULL;

	ps_error_free(err);
	return requested;
}

PsError *
cancel_wait(CancelWait *wait, pthread_cond_t *cond, pthread_mutex_t *lock, int64 ms)
{
	int64 now = clock_now_ms();
	PsError *err;

	if (wait->cancel != NULL)
	{
		if (wait->next_check == 0)
			wait->next_check = now + CANCEL_CHECK_MS;
		ms = Min(ms, Max(wait->next_check - now, 0));
	}
	if (ms > 0)
		clock_cond_wait(cond, lock, ms);
	if (wait->cancel == NULL || (now = clock_now_ms()) < wait->next_check)
		return NULL;
	wait->next_check = now + CANCEL_CHECK_MS;
	pthread_mutex_unlock(lock);
	err = cancel_check(wait->cancel);
	pthread_mutex_lock(lock);
	return err;
}
