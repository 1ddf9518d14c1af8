/*
 * page_cache_room.c
 *	  What to do when there is no room for another page that must be kept.
 *
 * The process that evicts a page does not fail, because the page may belong to
 * another transaction.  Instead, the transaction for which most pages are kept is
 * canceled.  Until it ends, other processes use the reserve (RoomClaim).  Sessions
 * that are starting, and superusers, may go slightly beyond that, so that an
 * administrator can connect and investigate.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "page_cache_impl.h"
#include "pg_compat.h"
#include "running.h"

/*
 * A transaction that does not end is canceled again after this time (us),
 * and in the end its session is terminated.
 */
#define CANCEL_INTERVAL 1000000
#define MAX_CANCELS     3

/* Pages that a transaction of an administrator may use beyond the reserve: 512 kB. */
#define ADMINISTRATOR_PAGES 64

/*
 * That a backend's transaction has been canceled.  Written while the transaction
 * runs, with ProcArrayLock held in shared mode.
 */
typedef struct CancelRequest
{
	TransactionId xid;
	int times;
	TimestampTz last;
} CancelRequest;

typedef struct Room
{
	pg_atomic_uint32 payer;                        /* top-level transaction that was chosen last; may have ended */
	CancelRequest requests[FLEXIBLE_ARRAY_MEMBER]; /* index: process number */
} Room;

static Room *room;
static emit_log_hook_type prev_emit_log;

static Size
room_bytes(void)
{
	return add_size(offsetof(Room, requests), mul_size(MaxBackends, sizeof(CancelRequest)));
}

void
page_cache_room_request_shmem(void)
{
	RequestAddinShmemSpace(room_bytes());
}

void
page_cache_room_startup_shmem(void)
{
	bool found;

	room = ShmemInitStruct("pageserver_smgr room for kept pages", room_bytes(), &found);
	if (found)
		return;
	memset(room, 0, room_bytes());
	pg_atomic_init_u32(&room->payer, InvalidTransactionId);
}

/*
 * Replaces the error of this session's transaction, if it was canceled here, by
 * one that explains why.  The hook runs before the message is sent to the log
 * and the client.
 */
static void
explain_cancel(ErrorData *edata)
{
	if ((edata->sqlerrcode == ERRCODE_QUERY_CANCELED || edata->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN) &&
		edata->elevel >= ERROR && MyProc != NULL && compat_proc_number(MyProc) < MaxBackends &&
		TransactionIdIsValid(room->requests[compat_proc_number(MyProc)].xid) &&
		room->requests[compat_proc_number(MyProc)].xid == GetTopTransactionIdIfAny())
	{
		edata->sqlerrcode = ERRCODE_DISK_FULL;
		if (edata->elevel >= FATAL)
			edata->message = pstrdup("terminating connection because its transaction has changed too many pages");
		else
			edata->message = pstrdup("canceling statement because its transaction has changed too many pages");
		edata->detail = pstrdup("Pages that an open transaction has changed must stay in the local page cache, which "
								"is full.");
		edata->hint = pstrdup("Change less in one transaction, increase \"pageserver_smgr.cache_limit\", or free "
							  "disk space.");
	}
	if (prev_emit_log)
		prev_emit_log(edata);
}

void
page_cache_room_init(void)
{
	prev_emit_log = emit_log_hook;
	emit_log_hook = explain_cancel;
}

static TransactionId
find_payer(bool *unresolved)
{
	TransactionId payer;

	page_cache_payer_reset();
	running_hold(true); /* otherwise pages of a transaction that ends meanwhile might be attributed to another one */
	page_cache_count_kept();
	page_cache_spill_count_kept();
	payer = page_cache_payer_find(unresolved);
	running_hold(false);
	return payer;
}

/* ---- canceling ---- */

/*
 * Cancels the statement of the backend that runs the transaction, or terminates
 * the session if it is idle.  A transaction that has committed and waits for the
 * store is left alone.
 */
static void
cancel_transaction(TransactionId xid)
{
	TimestampTz now = GetCurrentTimestamp();
	int pid = 0;

	/* a transaction cannot end while this lock is held */
	LWLockAcquire(ProcArrayLock, LW_SHARED);
	for (int i = 0; i < MaxBackends; i++)
	{
		PGPROC *proc = &ProcGlobal->allProcs[i];
		bool terminate;
		CancelRequest *request = &room->requests[compat_proc_number(proc)];

		if (proc->xid != xid || proc->pid == 0 || proc->wait_event_info == WAIT_EVENT_SYNC_REP)
			continue;
		if (request->xid != xid)
			request->times = 0;
		else if (now - request->last < CANCEL_INTERVAL)
			break;
		request->xid = xid;
		request->last = now;
		pid = proc->pid;
		terminate = proc->wait_event_info == WAIT_EVENT_CLIENT_READ || request->times >= MAX_CANCELS;
		(void) kill(pid, terminate ? SIGTERM : SIGINT);
		request->times++;
		break;
	}
	LWLockRelease(ProcArrayLock);
	if (pid != 0)
		ereport(LOG,
				(errmsg("local page cache is full, canceling transaction %u of process %d, which has changed most of "
						"the pages that must stay in it",
						xid, pid)));
}

/*
 * May this page use the room for administrators?  A starting session counts as
 * one, because its user is not known yet.  The number of pages is limited per
 * transaction: it is enough to connect and look around, but not for work that
 * needs room itself, such as an index build.
 */
static bool
may_be_administrator(void)
{
	static LocalTransactionId lxid;
	static int nbeyond;

	if (MyBackendType != B_BACKEND || MyProc == NULL)
		return false;
	if (lxid != compat_local_xid(MyProc))
	{
		lxid = compat_local_xid(MyProc);
		nbeyond = 0;
	}
	if (nbeyond++ >= ADMINISTRATOR_PAGES)
		return false;
	return !OidIsValid(MyProc->roleId) || strcmp(GetConfigOption("is_superuser", false, false), "on") == 0;
}

RoomClaim
page_cache_room_claim(void)
{
	TransactionId payer = pg_atomic_read_u32(&room->payer);
	bool unresolved = false;

	if (!TransactionIdIsValid(payer) || !running_in_range(payer, payer))
	{
		payer = find_payer(&unresolved);
		pg_atomic_write_u32(&room->payer, payer);
	}
	if (TransactionIdIsValid(payer))
	{
		if (payer == GetTopTransactionIdIfAny())
			return ROOM_ORDINARY;
		cancel_transaction(payer);
	}
	else if (unresolved)
	{
		/* a transaction has just ended, or only ordinary backends can find out and should do so */
		page_cache_spill_want_tidy();
		return ROOM_ANOTHER_PAYS;
	}
	if (may_be_administrator())
		return ROOM_ADMINISTRATOR;
	return TransactionIdIsValid(payer) ? ROOM_ANOTHER_PAYS : ROOM_ORDINARY;
}
