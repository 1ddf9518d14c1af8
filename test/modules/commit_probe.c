/*
 * commit_probe.c
 *	  Commits in situations that would otherwise arise only by chance, or
 *	  through other extensions.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "replication/message.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(terminate_when_canceled);
PG_FUNCTION_INFO_V1(write_at_commit);
PG_FUNCTION_INFO_V1(start_committer);

PGDLLEXPORT Datum terminate_when_canceled(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum write_at_commit(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum start_committer(PG_FUNCTION_ARGS);
PGDLLEXPORT void committer_main(Datum arg);
PGDLLEXPORT void _PG_init(void);

static bool writes_at_commit;

static void
end_by_signal(ErrorData *edata)
{
	if (strncmp(edata->message, "canceling wait for synchronous replication", 42) == 0)
		raise(SIGTERM);
}

/*
 * terminate_when_canceled()
 *
 * From now on a cancel of the wait for a commit is followed by
 * pg_terminate_backend(), before anything else happens.
 */
Datum
terminate_when_canceled(PG_FUNCTION_ARGS)
{
	emit_log_hook = end_by_signal;
	PG_RETURN_VOID();
}

/*
 * write_at_commit()
 *
 * The transaction writes only a logical message, at the time of its commit.
 */
Datum
write_at_commit(PG_FUNCTION_ARGS)
{
	writes_at_commit = true;
	PG_RETURN_VOID();
}

static void
at_commit(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT && writes_at_commit)
	{
		writes_at_commit = false;
		(void) LogLogicalMessage("commit_probe", "x", 1, true);
	}
}

/* Callbacks are called in the reverse order of their registration: this one, preloaded first, is called last. */
void
_PG_init(void)
{
	RegisterXactCallback(at_commit, NULL);
}

/* Inserts a row into table committed, then logs that it continues. */
void
committer_main(Datum arg)
{
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection("postgres", NULL, 0);
	StartTransactionCommand();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_execute("INSERT INTO committed VALUES (-1)", false, 0);
	PopActiveSnapshot();
	SPI_finish();
	CommitTransactionCommand();
	CHECK_FOR_INTERRUPTS();
	elog(LOG, "commit_probe: the committer goes on");
	proc_exit(0);
}

/* start_committer(library text) */
Datum
start_committer(PG_FUNCTION_ARGS)
{
	BackgroundWorker worker = {0};

	strlcpy(worker.bgw_name, "committer", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "committer", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	text_to_cstring_buffer(PG_GETARG_TEXT_PP(0), worker.bgw_library_name, BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "committer_main", BGW_MAXLEN);
	if (!RegisterDynamicBackgroundWorker(&worker, NULL))
		elog(ERROR, "no background worker is free");
	PG_RETURN_VOID();
}
