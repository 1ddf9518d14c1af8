/*
 * commits.c
 *	  Commits that the store has not acknowledged must not look like those that
 *	  it has.
 *
 * A commit waits for the store in SyncRepWaitForLSN().  A cancel, a termination
 * or the end of the postmaster cuts that wait short, when the transaction has
 * already committed in this server.  Then
 *
 * - the client gets no answer: its connection ends (check_acknowledged());
 * - whoever connects to see what has become of it waits until the store has
 *	 it, or else could see what the next compute does not have
 *	 (wait_for_commits_in_doubt());
 * - the publisher of a subscription hears nothing of it
 *	 (send_what_is_acknowledged()).
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "executor/instrument.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "replication/logicalworker.h"
#include "replication/syncrep.h"
#include "replication/walreceiver.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "tcop/tcopprot.h"

#include "compute.h"

static post_parse_analyze_hook_type prev_post_parse_analyze;

static bool
is_acknowledged(XLogRecPtr lsn, int wait_mode)
{
	bool acknowledged;

	LWLockAcquire(SyncRepLock, LW_SHARED);
	acknowledged = lsn <= WalSndCtl->lsn[wait_mode];
	LWLockRelease(SyncRepLock);
	return acknowledged;
}

/* SyncRepWaitMode of syncrep.c, which is not visible. */
static int
commit_wait_mode(void)
{
	switch (synchronous_commit)
	{
		case SYNCHRONOUS_COMMIT_REMOTE_WRITE:
			return SYNC_REP_WAIT_WRITE;
		case SYNCHRONOUS_COMMIT_REMOTE_APPLY:
			return SYNC_REP_WAIT_APPLY;
		default:
			return SYNC_REP_WAIT_FLUSH;
	}
}

/* ---- who commits ---- */

/*
 * Ends the connection, without an answer to the command, unless the store has
 * acknowledged WAL up to lsn, for which the command should have waited.  The
 * client would otherwise get an ordinary answer; this way it knows that it does
 * not know.  Nothing may be thrown here, the transaction is over; so it is done
 * as SyncRepWaitForLSN() itself does it when the backend is to terminate.
 *
 * ProcDiePending alone does not mean that SyncRepWaitForLSN() has done so: it
 * may have been canceled, and the backend told to terminate right after.  A
 * background worker has no output to shut off, but ends as well.
 */
static void
check_acknowledged(XLogRecPtr lsn, int wait_mode)
{
	if (!SyncRepRequested() || SyncRepStandbyNames == NULL || SyncRepStandbyNames[0] == '\0' ||
		is_acknowledged(lsn, wait_mode))
		return;

	wal_worker_note_in_doubt(lsn);
	if (whereToSendOutput != DestNone || !ProcDiePending)
		ereport(WARNING,
				(errcode(ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN),
				 errmsg("terminating connection because the wait for the page store to acknowledge a commit was canceled"),
				 errdetail("The transaction has committed in this server, but it is not known whether it is durable."),
				 errhint("Connect again and look whether the changes are there. The first statement of a new session waits until the page store has them.")));
	whereToSendOutput = DestNone;
	ProcDiePending = true;
	InterruptPending = true;
}

void
commits_check_last_record(bool commit)
{
	check_acknowledged(ProcLastRecPtr + 1,
					   commit ? commit_wait_mode() : Min(commit_wait_mode(), SYNC_REP_WAIT_FLUSH));
}

/* ---- who looks ---- */

static bool waits_for_commits_in_doubt = true; /* not yet done in this session */

/*
 * Before the first statement of a client's session that may show data.  What
 * the session sees later may be in doubt, too, as with synchronous_commit =
 * off: transactions of others are visible as soon as their wait has ended.
 */
static void
wait_for_commits_in_doubt(void)
{
	if (MyProcPort == NULL || !waits_for_commits_in_doubt)
		return;
	if (ps_wait_for_commits_in_doubt)
		wal_worker_wait_for_commits_in_doubt();
	waits_for_commits_in_doubt = false;
}

void
commits_new_session(void)
{
	waits_for_commits_in_doubt = true;
}

void
commits_function_call(void)
{
	wait_for_commits_in_doubt();
}

/* Statements that show no data do not wait: drivers send them first, and one of them turns the waiting off. */
static void
post_parse_analyze(ParseState *pstate, Query *query, JumbleState *jstate)
{
	if (prev_post_parse_analyze)
		prev_post_parse_analyze(pstate, query, jstate);
	if (query->commandType == CMD_UTILITY)
		switch (nodeTag(query->utilityStmt))
		{
			case T_VariableSetStmt:
			case T_VariableShowStmt:
			case T_TransactionStmt:
			case T_DiscardStmt:
				return;
			default:
				break;
		}
	wait_for_commits_in_doubt();
}

/* ---- subscriptions ---- */

static void (*walreceiver_send)(WalReceiverConn *conn, const char *buffer, int nbytes);
static XLogRecPtr last_prepare_end; /* as XactLastCommitEnd, which PREPARE does not set */

/*
 * In place of walrcv_send in a subscription's workers, for reports to the
 * publisher (worker.c, send_feedback()).  It forgets what is reported as
 * flushed, and to PostgreSQL that means flushed locally.  Each commit has
 * waited for the store (check_synchronous_commit()), but the wait may have been
 * cut short, by a cancel, or by the end of the postmaster, which nobody notices
 * before the next wait.  And a worker that has just started also reports what
 * the one before it has committed: it goes on from the origin's progress in
 * shared memory.
 */
static void
send_what_is_acknowledged(WalReceiverConn *conn, const char *buffer, int nbytes)
{
	static bool first = true;

	XLogRecPtr lsn = first ? lsn_cache_insert_position() : Max(XactLastCommitEnd, last_prepare_end);

	XLogFlush(lsn);
	HOLD_INTERRUPTS();
	SyncRepWaitForLSN(lsn, false);
	RESUME_INTERRUPTS();
	if (!is_acknowledged(lsn, SYNC_REP_WAIT_FLUSH))
		ereport(FATAL,
				(errcode(ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN),
				 errmsg("terminating logical replication worker because the wait for the page store to acknowledge its changes was canceled")));
	first = false;
	walreceiver_send(conn, buffer, nbytes);
}

/*
 * To be called in a transaction.  ApplyWorkerMain() loads libpqwalreceiver, and
 * has one before it connects.
 */
static void
watch_subscription_worker(void)
{
	static WalReceiverFunctionsType functions;

	if (!IsLogicalWorker() || WalReceiverFunctions == NULL || WalReceiverFunctions == &functions)
		return;
	functions = *WalReceiverFunctions;
	walreceiver_send = functions.walrcv_send;
	functions.walrcv_send = send_what_is_acknowledged;
	WalReceiverFunctions = &functions;
}

/* ---- ends of transactions ---- */

static void
xact_callback(XactEvent event, void *arg)
{
	/*
	 * RecordTransactionCommit() waits only if WAL was written before the commit
	 * record itself, be it after this callback.
	 */
	static bool wrote_wal = false;
	static int64 records_before;

	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			wrote_wal = XactLastRecEnd != 0;
			records_before = pgWalUsage.wal_records;
			watch_subscription_worker();

			/*
			 * A process that ends drops its temporary tables in a transaction
			 * of its own (RemoveTempRelationsCallback()).  Nobody hears of its
			 * commit, and nothing could interrupt the wait for the store.
			 */
			if (proc_exit_inprogress)
				synchronous_commit = Min(synchronous_commit, SYNCHRONOUS_COMMIT_LOCAL_FLUSH);
			break;
		case XACT_EVENT_COMMIT:
			/* nor does a transaction without an ID wait */
			if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
			{
				if (wrote_wal || pgWalUsage.wal_records > records_before + 1)
					check_acknowledged(XactLastCommitEnd, commit_wait_mode());
			}

			/*
			 * It may be a subscription's COMMIT PREPARED, which is no command:
			 * a wait of it that was cut short ends in
			 * send_what_is_acknowledged().
			 */
			else if (IsLogicalWorker() && !is_acknowledged(ProcLastRecPtr + 1, SYNC_REP_WAIT_FLUSH))
				wal_worker_note_in_doubt(ProcLastRecPtr + 1);
			break;
		case XACT_EVENT_PREPARE:
			commits_check_last_record(false);
			last_prepare_end = ProcLastRecPtr + 1;
			break;
		default:
			break;
	}
}

void
commits_install(void)
{
	prev_post_parse_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = post_parse_analyze;
	RegisterXactCallback(xact_callback, NULL);
}
