/*
 * catalog_reader.c
 *	  Reads catalogs ahead of need, while the store is up, so that users and
 *	  monitoring can connect to any database when it is down.
 *
 * A compute starts without pages, and gets the catalogs of a database when a session
 * first connects to it.  If the store is down then, that session has to wait.
 * Therefore each database that allows connections is connected to once, shortly
 * after the start or, for new databases, at intervals, by a background worker that
 * also executes what monitoring typically does.  The pages that it reads stay in the
 * local page cache until the cache needs the room.
 *
 * The WAL worker, which must not read pages, starts a launcher, which reads
 * pg_database, starts one reader after another, and exits.  Both are dynamic
 * background workers, so that they do not permanently use up a worker slot; if no
 * slot is free, the next attempt is made later.  No process waits for them, and they
 * do not wait long themselves: a reader has VISIT_MS, which is less than DROP DATABASE
 * and other commands wait for sessions to end, and it exits if such a command waits
 * for its database.
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_auth_members.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_tablespace.h"
#include "executor/spi.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/bufmgr.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "catalog_reader.h"
#include "known_databases.h"
#include "page_cache.h"
#include "settings.h"
#include "sizes.h"
#include "wal_progress_impl.h"

#define FIRST_MS          200 /* after the first connection to the store; sessions that have waited come first */
#define PAUSE_MS          50  /* between two databases */
#define VISIT_MS          3000
#define MAX_SHARED_BLOCKS 1000 /* of each shared catalog and index */

PGDLLEXPORT void catalog_launcher_main(Datum arg);
PGDLLEXPORT void catalog_reader_main(Datum arg);

/*
 * Returns, as one column, the statements that read what monitoring reads:
 * statistics views, of those for single tables only one kind, some other views,
 * and the views of our extension.
 */
static const char find_statements[] =
	"SELECT format('SELECT * FROM %I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = "
	"c.relnamespace"
	" WHERE c.relkind = 'v' AND has_table_privilege(c.oid, 'SELECT')"
	" AND (n.nspname = 'pg_catalog' AND c.relname ~ '^pg_(stat_|statio_|locks$|settings$|roles$|replication_slots$)'"
	" AND c.relname !~ '_(all|sys|xact)_'"
	" OR c.oid IN (SELECT d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid WHERE e.extname = "
	"'pageserver_smgr'"
	" AND d.refclassid = 'pg_extension'::regclass AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'))";

/* Other statements of monitoring. */
static const char *const more_statements[] = {
	"SELECT sum(pg_database_size(datname)), max(pg_size_pretty(pg_database_size(oid))), count(*), "
	"max(age(datfrozenxid)),"
	" max(mxid_age(datminmxid)), max(pg_encoding_to_char(encoding)), max(pg_get_userbyid(datdba)) FROM pg_database"
	" WHERE datname = current_database()",
	"SELECT version(), current_setting('server_version_num')::integer, pg_is_in_recovery(), pg_current_wal_lsn(),"
	" pg_wal_lsn_diff(pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn()), extract(epoch FROM now() - "
	"pg_postmaster_start_time()),"
	" (SELECT coalesce(sum(size), 0) FROM pg_ls_waldir()), (SELECT string_agg(spcname, ', ') FROM pg_tablespace)",
};

/*
 * Shared catalogs in which a login searches by role or database, so that each
 * login may need different pages.
 */
static const Oid shared_catalogs[] = {
	AuthIdRelationId, AuthMemRelationId, DatabaseRelationId, DbRoleSettingRelationId, TableSpaceRelationId};

/* What the launcher tells a reader, in bgw_extra. */
typedef struct ReaderArg
{
	Oid db;
	Oid owner; /* of the database */
} ReaderArg;

/* ---- in the WAL worker ---- */

static bool
start_worker(const char *function, const char *type, const ReaderArg *arg, pid_t notify_pid,
			 BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {0};

	strlcpy(worker.bgw_name, type, BGW_MAXLEN);
	strlcpy(worker.bgw_type, type, BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "pageserver_smgr", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
	if (arg != NULL)
		memcpy(worker.bgw_extra, arg, sizeof(*arg));
	worker.bgw_notify_pid = notify_pid;
	if (RegisterDynamicBackgroundWorker(&worker, handle))
		return true;
	ereport(DEBUG1,
			(errmsg_internal("no background worker slot is free for %s", type)));
	return false;
}

/* When to start the next launcher; 0: the store has not been connected yet. */
static TimestampTz next_launch;

/* In a shutdown, which may wait for the store for long, no launcher is ever due. */
static bool
is_wanted(void)
{
	return ps_catalog_read_interval != 0 && pg_atomic_read_u64(&wal_progress->stopping_since) == 0;
}

long
catalog_reader_due(void)
{
	if (next_launch == 0 || !is_wanted())
		return LONG_MAX;
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next_launch);
}

void
catalog_reader_start(void)
{
	static BackgroundWorkerHandle *launcher;
	TimestampTz now = GetCurrentTimestamp();
	MemoryContext old;
	pid_t pid;

	if (now < next_launch || !is_wanted())
		return;
	if (next_launch == 0)
	{
		if (wal_progress_is_connected())
			next_launch = TimestampTzPlusMilliseconds(now, FIRST_MS);
		return;
	}
	next_launch = TimestampTzPlusMilliseconds(now, ps_catalog_read_interval * INT64CONST(1000));
	if (!wal_progress_is_connected())
		return;
	if (launcher != NULL)
	{
		if (GetBackgroundWorkerPid(launcher, &pid) != BGWH_STOPPED)
			return;
		pfree(launcher);
		launcher = NULL;
	}
	old = MemoryContextSwitchTo(TopMemoryContext);
	(void) start_worker("catalog_launcher_main", "pageserver catalog launcher", NULL, 0, &launcher);
	MemoryContextSwitchTo(old);
}

/* ---- in both background workers ---- */

static void
time_is_up(void)
{
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

/*
 * Termination cancels the current action with an error, which is caught, so the
 * worker exits silently.  Statistics are off: a database that nobody has used
 * has none, and so is not visited by autovacuum; that must not change.
 */
static void
begin_worker(void)
{
	pqsignal(SIGTERM, StatementCancelHandler);
	BackgroundWorkerUnblockSignals();
	SetConfigOption("track_counts", "off", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("track_functions", "none", PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * To be called in PG_CATCH(): logs the error, which concerns a database or
 * (InvalidOid) the list of databases.
 */
static void
report_failure(Oid db)
{
	ErrorData *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(TopMemoryContext);
	error = CopyErrorData();
	FlushErrorState();
	AbortOutOfAnyTransaction();
	ereport(error->sqlerrcode == ERRCODE_QUERY_CANCELED ? DEBUG1 : LOG,
			(errcode(error->sqlerrcode),
			 OidIsValid(db) ? errmsg("could not read catalogs of database %u in advance: %s", db, error->message)
							: errmsg("could not read list of databases in advance: %s", error->message)));
}

/* ---- the launcher ---- */

typedef struct Database
{
	ReaderArg arg;
	bool can_connect;
} Database;

/* Templates come last.  Allocated in CurrentMemoryContext. */
static List *
list_databases(void)
{
	MemoryContext context = CurrentMemoryContext;
	List *databases = NIL;
	Relation rel;
	TableScanDesc scan;
	HeapTuple tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old = MemoryContextSwitchTo(context);
		Database *database = palloc(sizeof(Database));

		database->arg = (ReaderArg) {.db = form->oid, .owner = form->datdba};
		database->can_connect = form->datallowconn && !database_is_invalid_form(form);
		databases = form->datistemplate ? lappend(databases, database) : lcons(database, databases);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return databases;
}

/* Returns false if it is useless to continue now. */
static bool
visit_database(const ReaderArg *arg)
{
	Oid db = arg->db;
	BackgroundWorkerHandle *reader;

	if (!page_cache_has_free_slots())
	{
		ereport(DEBUG1,
				(errmsg_internal("the local page cache has no room for the catalogs of database %u", db)));
		return false;
	}
	if (!start_worker("catalog_reader_main", "pageserver catalog reader", arg, MyProcPid, &reader))
		return false;
	(void) WaitForBackgroundWorkerShutdown(reader);
	if (!wal_progress_is_connected())
		return false;
	known_databases_catalogs_tried(db, 1);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, PAUSE_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return true;
}

void
catalog_launcher_main(Datum arg)
{
	begin_worker();
	PG_TRY();
	{
		List *databases;
		ListCell *lc;

		BackgroundWorkerInitializeConnection(NULL, NULL, 0);
		MemoryContextSwitchTo(TopMemoryContext);
		databases = list_databases();
		foreach (lc, databases)
		{
			StartTransactionCommand();
			sizes_learn_database(((Database *) lfirst(lc))->arg.db);
			CommitTransactionCommand();
		}
		foreach (lc, databases)
		{
			Database *database = lfirst(lc);

			if (!wal_progress_is_connected())
				break;
			if (database->can_connect && known_databases_catalogs_wanted(database->arg.db) &&
				!visit_database(&database->arg))
				break;
		}
	}
	PG_CATCH();
	{
		report_failure(InvalidOid);
	}
	PG_END_TRY();
	proc_exit(0);
}

/* ---- a reader ---- */

static void
read_blocks(Relation rel)
{
	BlockNumber nblocks = Min(RelationGetNumberOfBlocks(rel), MAX_SHARED_BLOCKS);

	for (BlockNumber blk = 0; blk < nblocks; blk++)
	{
		CHECK_FOR_INTERRUPTS();
		ReleaseBuffer(ReadBuffer(rel, blk));
	}
}

static void
read_shared_catalogs(void)
{
	for (int i = 0; i < lengthof(shared_catalogs); i++)
	{
		Relation rel = table_open(shared_catalogs[i], AccessShareLock);
		ListCell *lc;

		read_blocks(rel);
		foreach (lc, RelationGetIndexList(rel))
		{
			Relation index = index_open(lfirst_oid(lc), AccessShareLock);

			read_blocks(index);
			index_close(index, AccessShareLock);
		}
		table_close(rel, AccessShareLock);
	}
}

/* Is a command that does not allow sessions in the database waiting for this one to end? */
static bool
database_is_wanted(void)
{
	LOCKTAG tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, MyDatabaseId, 0);
	if (LockAcquire(&tag, RowExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	LockRelease(&tag, RowExclusiveLock, false);
	return false;
}

/* Executes a statement only to have its pages read, up to its first row. */
static void
run(const char *statement)
{
	if (SPI_execute(statement, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of \"%s\"", statement);
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Uses a role that may see statistics, so that its privileges are looked up,
 * too, and not a superuser, which must not execute anything that a user has
 * created.  Returns false if the database is wanted by another command.
 */
static bool
run_statements(void)
{
	SPITupleTable *statements;
	uint64 n;
	bool wanted = false;
	Oid user;
	int context;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(ROLE_PG_MONITOR, SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	SPI_connect();
	if (SPI_execute(find_statements, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of \"%s\"", find_statements);
	statements = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n && !(wanted = database_is_wanted()); i++)
		run(SPI_getvalue(statements->vals[i], statements->tupdesc, 1));
	for (int i = 0; i < lengthof(more_statements) && !wanted && !(wanted = database_is_wanted()); i++)
		run(more_statements[i]);
	SPI_finish();
	SetUserIdAndSecContext(user, context);
	return !wanted;
}

void
catalog_reader_main(Datum arg)
{
	ReaderArg reader;
	Oid db;
	TimeoutId timeout;

	memcpy(&reader, MyBgworkerEntry->bgw_extra, sizeof(reader));
	db = reader.db;

	/*
	 * A process counts as one of this role for those who want to end it; without a
	 * role only members of pg_signal_backend could.  So whoever may drop the
	 * database can do that with FORCE (TerminateOtherDBBackends()).
	 */
	MyProc->roleId = reader.owner;
	begin_worker();
	timeout = RegisterTimeout(USER_TIMEOUT, time_is_up);
	enable_timeout_after(timeout, VISIT_MS);
	PG_TRY();
	{
		BackgroundWorkerInitializeConnectionByOid(db, InvalidOid, 0);
		SetConfigOption("search_path", "", PGC_USERSET, PGC_S_OVERRIDE);
		SetConfigOption("max_parallel_workers_per_gather", "0", PGC_USERSET, PGC_S_OVERRIDE);
		SetConfigOption("jit", "off", PGC_USERSET, PGC_S_OVERRIDE);
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		pgstat_report_activity(STATE_RUNNING, "reading catalogs ahead of need");
		read_shared_catalogs();
		if (run_statements())
		{
			known_databases_catalogs_tried(db, CATALOG_TRIES);
			ereport(DEBUG1,
					(errmsg_internal("the catalogs of database %u have been read ahead of need", db)));
		}
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		report_failure(db);
	}
	PG_END_TRY();
	MyDatabaseId = InvalidOid; /* or the exit of the process would create statistics for the database */
	proc_exit(0);
}
