/*
 * wait_probe.c
 *	  Reads a block of a relation in situations that a test cannot create with
 *	  SQL statements; and a background worker of the kind that checks for a
 *	  request to end only between two pieces of work.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/bufmgr.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/wait_event.h"
#include "utils/builtins.h"
#include "utils/rel.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(wait_probe);
PG_FUNCTION_INFO_V1(start_deaf_worker);

PGDLLEXPORT Datum wait_probe(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum start_deaf_worker(PG_FUNCTION_ARGS);
PGDLLEXPORT void deaf_worker_main(Datum arg);

/*
 * wait_probe(relation regclass, block bigint, how text) returns boolean
 *
 * Reads the block in the given way.  'locked': while it holds the content lock of
 * block 0, as index access methods do; 'critical': additionally in a critical
 * section; 'latch': after a reset of the process latch.  Returns whether the latch
 * is set afterwards.
 */
Datum
wait_probe(PG_FUNCTION_ARGS)
{
	Relation rel = relation_open(PG_GETARG_OID(0), AccessShareLock);
	BlockNumber blk = (BlockNumber) PG_GETARG_INT64(1);
	char *how = text_to_cstring(PG_GETARG_TEXT_PP(2));
	Buffer first = InvalidBuffer;
	Buffer buffer;
	bool is_set;

	if (strcmp(how, "latch") == 0)
		ResetLatch(MyLatch);
	else
	{
		first = ReadBuffer(rel, 0);
		LockBuffer(first, BUFFER_LOCK_EXCLUSIVE);
	}
	if (strcmp(how, "critical") == 0)
		START_CRIT_SECTION();
	buffer = ReadBuffer(rel, blk);
	is_set = MyLatch->is_set;
	if (strcmp(how, "critical") == 0)
		END_CRIT_SECTION();
	ReleaseBuffer(buffer);
	if (BufferIsValid(first))
		UnlockReleaseBuffer(first);
	relation_close(rel, AccessShareLock);
	PG_RETURN_BOOL(is_set);
}

static volatile sig_atomic_t stop;

static void
note_stop(SIGNAL_ARGS)
{
	stop = true;
	SetLatch(MyLatch);
}

/* Reads all blocks of a relation repeatedly. */
void
deaf_worker_main(Datum arg)
{
	pqsignal(SIGTERM, note_stop);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection("postgres", NULL, 0);
	while (!stop)
	{
		Relation rel;

		StartTransactionCommand();
		rel = relation_open(DatumGetObjectId(arg), AccessShareLock);
		for (BlockNumber blk = 0; blk < RelationGetNumberOfBlocks(rel); blk++)
			ReleaseBuffer(ReadBuffer(rel, blk));
		relation_close(rel, AccessShareLock);
		CommitTransactionCommand();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	proc_exit(0);
}

/* start_deaf_worker(relation regclass, library text) */
Datum
start_deaf_worker(PG_FUNCTION_ARGS)
{
	BackgroundWorker worker = {0};

	strlcpy(worker.bgw_name, "deaf worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "deaf worker", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	text_to_cstring_buffer(PG_GETARG_TEXT_PP(1), worker.bgw_library_name, BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "deaf_worker_main", BGW_MAXLEN);
	worker.bgw_main_arg = PG_GETARG_DATUM(0);
	if (!RegisterDynamicBackgroundWorker(&worker, NULL))
		elog(ERROR, "no background worker is free");
	PG_RETURN_VOID();
}
