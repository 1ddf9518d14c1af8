/*
 * commits.c
 *	  Handling of commits that the store has not acknowledged.
 *
 * A commit waits for the store in SyncRepWaitForLSN().  A cancel, a termination
 * or the end of the postmaster can end that wait early, after the transaction has
 * committed in this server.  Such a commit is "in doubt": the next compute may not
 * have it.  Then
 *
 * - the client gets no answer: its connection is closed (check_acknowledged());
 * - the first statement of each new session waits until the store has it, because
 *   the client may reconnect to find out, and must not see changes that the next
 *   compute does not have (wait_for_commits_in_doubt());
 * - a subscription does not report it to its publisher (subscriptions.c).
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

/* Same as syncrep.c's SyncRepWaitMode, which is static. */
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

/* ---- the session that commits ---- */

/*
 * Closes the connection without answering the command, unless the store has
 * acknowledged WAL up to lsn, for which the command should have waited.  An
 * ordinary answer would tell the client that the commit is durable; without one
 * the client knows that the outcome is unknown.  The transaction is over, so no
 * error may be raised here; the connection is closed in the way
 * SyncRepWaitForLSN() does it when the backend is being terminated.
 *
 * If ProcDiePending is set, SyncRepWaitForLSN() need not have done that: its
 * wait may have been canceled, and the backend terminated just afterwards.  A
 * background worker has no client, but it ends, too.
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
				 errmsg("terminating connection because the wait for the page store to acknowledge a commit was "
						"canceled"),
				 errdetail("The transaction has already committed locally, but it might not be durable in the "
						   "page store."),
				 errhint("Reconnect and check whether the changes are present. The first statement of a new session "
						 "waits until the page store has them.")));
	whereToSendOutput = DestNone;
	ProcDiePending = true;
	InterruptPending = true;
}

/*
 * Checks the last record of this backend, written by COMMIT PREPARED (commit) or
 * ROLLBACK PREPARED, which has waited for it.  ProcLastRecPtr is the start of
 * the record; the store acknowledges only whole records.
 */
static void
check_last_record(bool commit)
{
	check_acknowledged(ProcLastRecPtr + 1,
					   commit ? commit_wait_mode() : Min(commit_wait_mode(), SYNC_REP_WAIT_FLUSH));
}

/* ---- sessions that may see such commits ---- */

static bool waits_for_commits_in_doubt = true; /* not yet done in this session */

/*
 * Called before the first statement of a client's session that may show data.
 * Later statements do not wait: they may see commits in doubt, as with
 * synchronous_commit = off, because other sessions' transactions become visible
 * as soon as their wait has ended.
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

/*
 * Statements that show no data do not wait.  Drivers send some of them first,
 * and one of them may be SET pageserver_smgr.wait_for_commits_in_doubt.
 */
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
	 * RecordTransactionCommit() waits only if the transaction has written WAL
	 * besides the commit record, which may also happen after this callback.
	 */
	static bool wrote_wal = false;
	static int64 records_before;

	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			wrote_wal = XactLastRecEnd != 0;
			records_before = pgWalUsage.wal_records;

			/*
			 * A backend that exits drops its temporary tables in a transaction
			 * of its own (RemoveTempRelationsCallback()).  Nobody is told of its
			 * commit, and nothing could interrupt its wait for the store.
			 */
			if (proc_exit_inprogress)
				synchronous_commit = Min(synchronous_commit, SYNCHRONOUS_COMMIT_LOCAL_FLUSH);
			break;
		case XACT_EVENT_COMMIT:
			/* RecordTransactionCommit() does not wait either if there is no transaction ID */
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

/* Functions can also be called without a statement, see tcop/fastpath.c. */
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

	/* a connection pooler is about to give the session to another client */
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
