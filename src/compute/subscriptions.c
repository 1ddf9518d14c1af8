/*
 * subscriptions.c
 *	  What a subscription's worker reports to its publisher must be in the store.
 *
 * README.md, "Subscriptions", describes the problem and the three parts of the
 * solution.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "replication/syncrep.h"
#include "replication/walreceiver.h"

#include "commits.h"
#include "lsn_cache.h"
#include "subscriptions.h"
#include "wal_progress.h"

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
send_acknowledged(WalReceiverConn *conn, const char *buffer, int nbytes)
{
	static bool first = true;

	XLogRecPtr lsn = first ? lsn_cache_insert_position() : Max(XactLastCommitEnd, last_prepare_end);

	XLogFlush(lsn);
	HOLD_INTERRUPTS();
	SyncRepWaitForLSN(lsn, false);
	RESUME_INTERRUPTS();
	if (!commits_are_acknowledged(lsn, SYNC_REP_WAIT_FLUSH))
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
	functions.walrcv_send = send_acknowledged;
	WalReceiverFunctions = &functions;
}

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			watch_subscription_worker();
			break;
		case XACT_EVENT_COMMIT:

			/*
			 * Without a transaction ID this may be a COMMIT PREPARED, which a
			 * worker does not execute as a command.  send_acknowledged() waits
			 * again if its wait for the store was cut short.
			 */
			if (IsLogicalWorker() && !TransactionIdIsValid(GetTopTransactionIdIfAny()) &&
				!commits_are_acknowledged(ProcLastRecPtr + 1, SYNC_REP_WAIT_FLUSH))
				wal_progress_note_in_doubt(ProcLastRecPtr + 1);
			break;
		case XACT_EVENT_PREPARE:
			last_prepare_end = ProcLastRecPtr + 1;
			break;
		default:
			break;
	}
}

void
subscriptions_init(void)
{
	RegisterXactCallback(xact_callback, NULL);
}
