/*
 * page_cache_room.c
 *	  Who pays when there is no room for another page that must be kept.
 *
 * Not whoever happens to evict a page, which may be anybody's: the transaction
 * for which most pages are kept is ended.  Until it is, the others go on in
 * what is left of the room for that (RoomClaim).  Whoever starts a session, and
 * superusers, may go on a little beyond that, so that an administrator can get
 * in and look.
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

/* A transaction that does not end is told again after so many microseconds, and in the end its session is ended. */
#define TELL_INTERVAL 1000000
#define MAX_CANCELS   3

/* Most pages that an administrator's transaction may have kept beyond the room, 512 kB. */
#define ADMINISTRATOR_PAGES 64

/* That a backend's transaction shall end.  Written under ProcArrayLock, shared, while the transaction runs. */
typedef struct Told
{
	TransactionId xid;
	int times;
	TimestampTz last;
} Told;

typedef struct Room
{
	pg_atomic_uint32 payer;           /* the transaction that pays, a top-level one; it may be over */
	Told told[FLEXIBLE_ARRAY_MEMBER]; /* by pgprocno */
} Room;

static Room *room;
static emit_log_hook_type prev_emit_log;

static Size
room_bytes(void)
{
	return add_size(offsetof(Room, told), mul_size(MaxBackends, sizeof(Told)));
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
 * The transaction of this session is ended by others: its error says why.  The
 * hook comes before the message goes to the log and to the client.
 */
static void
say_why(ErrorData *edata)
{
	if ((edata->sqlerrcode == ERRCODE_QUERY_CANCELED || edata->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN) &&
		edata->elevel >= ERROR && MyProc != NULL && compat_proc_number(MyProc) < MaxBackends &&
		TransactionIdIsValid(room->told[compat_proc_number(MyProc)].xid) &&
		room->told[compat_proc_number(MyProc)].xid == GetTopTransactionIdIfAny())
	{
		edata->sqlerrcode = ERRCODE_DISK_FULL;
		edata->message = pstrdup(edata->elevel >= FATAL ? "terminating connection because its transaction has changed too many pages" : "canceling statement because its transaction has changed too many pages");
		edata->detail = pstrdup("Pages that an open transaction has changed must be kept in the local page cache, and there is no room for more.");
		edata->hint = pstrdup("Change less in one transaction, raise \"pageserver_smgr.cache_limit\", or free disk space.");
	}
	if (prev_emit_log)
		prev_emit_log(edata);
}

void
page_cache_room_init(void)
{
	prev_emit_log = emit_log_hook;
	emit_log_hook = say_why;
}

static TransactionId
find_payer(bool *unresolved)
{
	TransactionId payer;

	page_cache_payer_reset();
	running_hold(true); /* or pages of a transaction that ends meanwhile might be attributed to another */
	page_cache_count_kept();
	page_cache_spill_count_kept();
	payer = page_cache_payer_find(unresolved);
	running_hold(false);
	return payer;
}

/* ---- ending it ---- */

/*
 * Tells the backend whose transaction it is to end it: cancels its statement,
 * or ends the session if there is none.  One that has committed and waits for
 * the store is let alone.
 */
static void
tell(TransactionId xid)
{
	TimestampTz now = GetCurrentTimestamp();
	int pid = 0;

	/* whoever holds this lock keeps the transaction from ending */
	LWLockAcquire(ProcArrayLock, LW_SHARED);
	for (int i = 0; i < MaxBackends; i++)
	{
		PGPROC *proc = &ProcGlobal->allProcs[i];
		Told *told = &room->told[compat_proc_number(proc)];

		if (proc->xid != xid || proc->pid == 0 || proc->wait_event_info == WAIT_EVENT_SYNC_REP)
			continue;
		if (told->xid != xid)
			told->times = 0;
		else if (now - told->last < TELL_INTERVAL)
			break;
		told->xid = xid;
		told->last = now;
		pid = proc->pid;
		(void) kill(pid, proc->wait_event_info == WAIT_EVENT_CLIENT_READ || told->times >= MAX_CANCELS ? SIGTERM : SIGINT);
		told->times++;
		break;
	}
	LWLockRelease(ProcArrayLock);
	if (pid != 0)
		ereport(LOG,
				(errmsg("page cache is full of pages that must be kept, ending transaction %u of process %d, for which most of them are",
						xid, pid)));
}

/*
 * May this page go beyond the room?  It is not known yet who starts a session:
 * it may be a superuser.  So many in a transaction are enough to get in and
 * look; more are those of work that needs the room itself, an index build say.
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
		tell(payer);
	}
	else if (unresolved)
	{
		/* a transaction has just ended; or only other processes can find out, which then shall */
		page_cache_spill_want_tidy();
		return ROOM_ANOTHER_PAYS;
	}
	if (may_be_administrator())
		return ROOM_ADMINISTRATOR;
	return TransactionIdIsValid(payer) ? ROOM_ANOTHER_PAYS : ROOM_ORDINARY;
}
