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
 *	 (send_acknowledged()).
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/objectaccess.h"
#include "executor/instrument.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "tcop/tcopprot.h"

#include "commits.h"
#include "settings.h"
#include "utility_hook.h"
#include "wal_progress.h"

static post_parse_analyze_hook_type prev_post_parse_analyze;
static ProcessUtility_hook_type prev_ProcessUtility;
static object_access_hook_type prev_object_access;

bool
commits_are_acknowledged(XLogRecPtr lsn, int wait_mode)
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
		commits_are_acknowledged(lsn, wait_mode))
		return;

	wal_progress_note_in_doubt(lsn);
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

/*
 * After a command whose last record, and the last of this backend, was waited
 * for: COMMIT PREPARED (commit), ROLLBACK PREPARED.  ProcLastRecPtr is its
 * start; the store acknowledges only whole records.
 */
static void
check_last_record(bool commit)
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
		wal_progress_wait_for_commits_in_doubt();
	waits_for_commits_in_doubt = false;
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

			/*
			 * A process that ends drops its temporary tables in a transaction
			 * of its own (RemoveTempRelationsCallback()).  Nobody hears of its
			 * commit, and nothing could interrupt the wait for the store.
			 */
			if (proc_exit_inprogress)
				synchronous_commit = Min(synchronous_commit, SYNCHRONOUS_COMMIT_LOCAL_FLUSH);
			break;
		case XACT_EVENT_COMMIT:
			/* nor does it wait in a transaction without an ID */
			if (TransactionIdIsValid(GetTopTransactionIdIfAny()) &&
				(wrote_wal || pgWalUsage.wal_records > records_before + 1))
				check_acknowledged(XactLastCommitEnd, commit_wait_mode());
			break;
		case XACT_EVENT_PREPARE:
			check_last_record(false);
			break;
		default:
			break;
	}
}

/* ---- hooks ---- */

/* A function is about to be called, maybe without a statement (tcop/fastpath.c). */
static void
object_access(ObjectAccessType access, Oid classId, Oid objectId, int subId, void *arg)
{
	if (prev_object_access)
		prev_object_access(access, classId, objectId, subId, arg);
	if (access == OAT_FUNCTION_EXECUTE)
		wait_for_commits_in_doubt();
}

static void
process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	Node *stmt = pstmt->utilityStmt; /* may be freed by the command */
	bool commit = IsA(stmt, TransactionStmt) && ((TransactionStmt *) stmt)->kind == TRANS_STMT_COMMIT_PREPARED;
	bool rollback = IsA(stmt, TransactionStmt) && ((TransactionStmt *) stmt)->kind == TRANS_STMT_ROLLBACK_PREPARED;
	bool new_session = IsA(stmt, DiscardStmt) && ((DiscardStmt *) stmt)->target == DISCARD_ALL;

	utility_hook_next(prev_ProcessUtility, pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);

	if (commit || rollback)
		check_last_record(commit);

	/* a connection pooler gives the session to another client */
	if (new_session)
		waits_for_commits_in_doubt = true;
}

void
commits_init(void)
{
	prev_post_parse_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = post_parse_analyze;
	prev_ProcessUtility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	prev_object_access = object_access_hook;
	object_access_hook = object_access;
	RegisterXactCallback(xact_callback, NULL);
}
