/*
 * subscriptions.c
 *	  What a subscription's worker reports to its publisher must be in the store.
 *
 * docs/waits.md describes the problem and the three parts of the solution.
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
static XLogRecPtr last_prepare_end; /* like XactLastCommitEnd, which PREPARE does not set */

/*
 * Replaces walrcv_send in a subscription's workers, which send their reports to
 * the publisher with it (worker.c, send_feedback()).  The publisher discards
 * what is reported as flushed, and PostgreSQL reports what is flushed locally.
 * Each commit has waited for the store (check_synchronous_commit()), but that
 * wait may have ended early, because of a cancel or because the postmaster has
 * died, which the worker notices only in its next wait.  Also, a worker that has
 * just started reports what the previous worker has committed, because it starts
 * at the origin's progress in shared memory; therefore the first report waits
 * for all WAL.
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
				 errmsg("terminating logical replication worker because the wait for the page store to acknowledge "
						"its changes was canceled")));
	first = false;
	walreceiver_send(conn, buffer, nbytes);
}

/*
 * Installs send_acknowledged(), once.  Called in each transaction, because
 * ApplyWorkerMain() loads libpqwalreceiver in one before it connects.
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
			 * worker does not execute as a command.  If its wait for the store
			 * has ended early, send_acknowledged() waits again.
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
