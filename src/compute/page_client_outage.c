/*
 * page_client_outage.c
 *	  Waits for a store that cannot be reached or does not answer: when to try
 *	  again, what ends the wait, and which errors are final.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "interrupts.h"
#include "page_client_impl.h"
#include "settings.h"
#include "sqlstate.h"
#include "store_conn.h"
#include "wal_progress.h"

#define FIRST_RETRY_MS 10

void
page_client_interrupts(void)
{
	interrupts_check();
	if (CritSectionCount == 0 && !proc_exit_inprogress && IsTransactionState() && wal_progress_shutdown_is_overdue())
		ereport(ERROR,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("canceling wait for the page store because the server is shutting down"),
				 errdetail("The shutdown has lasted longer than \"pageserver_smgr.shutdown_timeout\" (%d ms).",
						   ps_shutdown_timeout)));
}

bool
outage_wait(Outage *outage, const char *error, const char *sqlstate)
{
	TimestampTz until;
	uint32 store_version;
	bool latch_was_set = false;

	if (strcmp(sqlstate, PS_SQLSTATE_SUPERSEDED) == 0)
		store_conn_superseded(error);
	/* PS_SQLSTATE_NOT_FOUND is retried, too: the WAL worker will stop the server */
	if (!ps_sqlstate_compute_retries(sqlstate))
		ereport(ERROR,
				(errcode(MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2], sqlstate[3], sqlstate[4])),
				 errmsg("the page store rejected the connection: %s", error),
				 errdetail("The connection was for timeline %s of tenant %s, generation %llu.",
						   ps_timeline, ps_tenant, (unsigned long long) ps_generation)));

	wal_progress_reader_waits(error);

	/*
	 * The store has no connection to give.  Other backends may have one, and may
	 * be waiting for the buffer that this one has started to read, so release
	 * it.
	 */
	if (strcmp(sqlstate, PS_SQLSTATE_TOO_MANY_CONNECTIONS) == 0 && CritSectionCount == 0 && !proc_exit_inprogress &&
		IsTransactionState())
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_CONNECTIONS),
				 errmsg("the page store has no free connection for this backend: %s", error),
				 errhint("Increase \"max_connections\" in \"pageserver.conf\" of the page store, or decrease it in "
						 "the computes.")));

	if (outage->no_wait)
		return false;
	if (outage->since == 0)
	{
		outage->since = GetCurrentTimestamp();
		outage->delay_ms = FIRST_RETRY_MS;
		ereport(LOG,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("could not connect to the page store, retrying: %s", error)));
	}

	/*
	 * Cleanup at exit, for example of temporary tables, cannot be interrupted,
	 * and must not delay a shutdown forever.
	 */
	if (proc_exit_inprogress &&
		TimestampDifferenceExceeds(outage->since, GetCurrentTimestamp(), ps_shutdown_timeout))
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("could not connect to the page store while the process exits: %s", error)));

	until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), outage->delay_ms);
	store_version = wal_progress_store_version();
	while (!wal_progress_store_changed(store_version))
	{
		long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

		if (left <= 0)
			break;
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(left, POLL_MS),
					  WAIT_EVENT_DATA_FILE_READ) &
			WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			latch_was_set = true;
		}
		page_client_interrupts();
	}
	if (latch_was_set)
		SetLatch(MyLatch);
	outage->delay_ms = Min(outage->delay_ms * 2, ps_connect_retry);
	return true;
}

void
outage_over(const Outage *outage)
{
	if (outage->since != 0)
		ereport(LOG,
				(errmsg("connection to the page store restored after %ld ms",
						TimestampDifferenceMilliseconds(outage->since, GetCurrentTimestamp()))));
}
