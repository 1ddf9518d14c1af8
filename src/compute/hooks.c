/*
 * hooks.c
 *	  Commands and situations that go past the storage manager.
 *
 * - Commands that copy, move or remove directories of relations: the caches
 *	 must forget what they know of them, and what they look for in local
 *	 directories is in the store.
 * - Replication connections: PostgreSQL's own may not take WAL that the store
 *	 has not acknowledged, or a base backup, which would be empty.
 * - Commits that the store has not acknowledged must not look like those that
 *	 it has.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_tablespace.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "libpq/auth.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "tcop/dest.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/syscache.h"

#include "compute.h"

static ProcessUtility_hook_type prev_ProcessUtility;
static object_access_hook_type prev_object_access;
static ClientAuthentication_hook_type prev_ClientAuthentication;

/*
 * Set while the transaction runs these commands, of which none may run in a
 * transaction block or function.
 */
static bool moving_database;	/* ALTER DATABASE SET TABLESPACE */
static bool creating_database;	/* CREATE DATABASE, and what it has created so far */
static Oid	created_database;

/* ---- databases and tablespaces ---- */

/*
 * The store has, or will have, another content under the database's keys from
 * now on.  Reads must wait for WAL up to here, whatever they read: the last
 * changes of blocks are not known any more.
 */
static void
forget_database(Oid db)
{
	lsn_cache_set_all(lsn_cache_insert_position());
	page_cache_drop_database(InvalidOid, db);
	stub_forget_database(db);
}

static Oid
tablespace_of_database(Oid db)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(db));
	Oid			spc = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		spc = ((Form_pg_database) GETSTRUCT(tuple))->dattablespace;
		ReleaseSysCache(tuple);
	}
	return spc;
}

/*
 * movedb() refuses if the target tablespace has relations of the database,
 * which it looks for in the local directory.
 */
static void
check_move_target(AlterDatabaseStmt *stmt, const char *tablespace)
{
	Oid			db = get_database_oid(stmt->dbname, true);
	Oid			spc = get_tablespace_oid(tablespace, true);

	if (!OidIsValid(db) || !OidIsValid(spc) || !pg_database_ownercheck(db, GetUserId()))
		return;					/* movedb() will say so */
	if (spc != tablespace_of_database(db) &&
		page_client_dbsize(spc, db, wal_worker_flush_for_read(lsn_cache_get_max())) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("some relations of database \"%s\" are already in tablespace \"%s\"",
						stmt->dbname, tablespace),
				 errhint("You must move them back to the database's default tablespace before using this command.")));
}

/* Does this database have a relation in the tablespace? */
static bool
database_uses_tablespace(Oid spc)
{
	Relation	pg_class = table_open(RelationRelationId, AccessShareLock);
	TableScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	bool		uses = false;

	ScanKeyInit(&key, Anum_pg_class_reltablespace, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(spc));
	scan = table_beginscan_catalog(pg_class, 1, &key);
	while (!uses && (tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
		uses = RELKIND_HAS_STORAGE(((Form_pg_class) GETSTRUCT(tuple))->relkind);
	table_endscan(scan);
	table_close(pg_class, AccessShareLock);
	return uses;
}

/*
 * DropTableSpace() finds out whether a tablespace is empty by its directories.
 * Relations that this compute has not touched have no files there.  Those that
 * others create from now on have.
 */
static void
check_tablespace_is_empty(Oid spc)
{
	if (database_uses_tablespace(spc) ||
		page_client_dbsize(spc, InvalidOid, wal_worker_flush_for_read(lsn_cache_get_max())) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("tablespace \"%s\" is not empty", get_tablespace_name(spc))));
}

static void
object_access(ObjectAccessType access, Oid classId, Oid objectId, int subId, void *arg)
{
	if (prev_object_access)
		prev_object_access(access, classId, objectId, subId, arg);

	if (classId == TableSpaceRelationId && access == OAT_DROP)
		check_tablespace_is_empty(objectId);
	else if (classId == DatabaseRelationId && access == OAT_POST_CREATE && creating_database)
		created_database = objectId;

	/*
	 * movedb() has flushed and dropped the database's buffers and logged the
	 * copy, and still holds the database's lock.  When the statement ends,
	 * others may already be connected.
	 */
	else if (classId == DatabaseRelationId && access == OAT_POST_ALTER && moving_database)
		forget_database(objectId);
}

/* ---- commits that were not acknowledged ---- */

/*
 * Ends the connection, without an answer to the command, unless the store has
 * acknowledged WAL up to lsn, for which the command should have waited.  The
 * wait in SyncRepWaitForLSN() can be cut short by a cancel or a timeout, and
 * the client would get an ordinary answer and a warning.  This way it knows
 * that it does not know.  Nothing may be thrown here, the transaction is over;
 * so it is done as SyncRepWaitForLSN() itself does it when the backend is to
 * terminate.
 */
static void
check_acknowledged(XLogRecPtr lsn, int wait_mode)
{
	bool		acknowledged;

	if (!SyncRepRequested() || SyncRepStandbyNames == NULL || SyncRepStandbyNames[0] == '\0')
		return;
	LWLockAcquire(SyncRepLock, LW_SHARED);
	acknowledged = lsn <= WalSndCtl->lsn[wait_mode];
	LWLockRelease(SyncRepLock);
	if (acknowledged || ProcDiePending)
		return;

	ereport(WARNING,
			(errcode(ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN),
			 errmsg("terminating connection because the wait for the page store to acknowledge a commit was canceled"),
			 errdetail("The transaction has committed in this server, but it is not known whether it is durable."),
			 errhint("Connect again and look whether the changes are there.")));
	whereToSendOutput = DestNone;
	ProcDiePending = true;
	InterruptPending = true;
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

/*
 * For commands whose last record, and the last of this backend, was waited for:
 * PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED.  ProcLastRecPtr is
 * its start; the store acknowledges only whole records.
 */
static void
check_last_record_acknowledged(bool commit)
{
	check_acknowledged(ProcLastRecPtr + 1,
					   commit ? commit_wait_mode() : Min(commit_wait_mode(), SYNC_REP_WAIT_FLUSH));
}

static void
xact_callback(XactEvent event, void *arg)
{
	/* RecordTransactionCommit() waits only if WAL was written before the commit record itself */
	static bool wrote_wal = false;

	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			wrote_wal = XactLastRecEnd != 0;

			/*
			 * A process that ends drops its temporary tables in a transaction
			 * of its own (RemoveTempRelationsCallback()).  Nobody hears of its
			 * commit, and nothing could interrupt the wait for the store.
			 */
			if (proc_exit_inprogress)
				synchronous_commit = Min(synchronous_commit, SYNCHRONOUS_COMMIT_LOCAL_FLUSH);
			return;
		case XACT_EVENT_COMMIT:
			/* nor does a transaction without an ID wait */
			if (wrote_wal && TransactionIdIsValid(GetTopTransactionIdIfAny()))
				check_acknowledged(XactLastCommitEnd, commit_wait_mode());
			break;
		case XACT_EVENT_PREPARE:
			check_last_record_acknowledged(false);
			break;
		case XACT_EVENT_ABORT:
			if (OidIsValid(created_database))
				forget_database(created_database);
			break;
		default:
			return;
	}
	moving_database = false;
	creating_database = false;
	created_database = InvalidOid;
}

/* ---- the hooks ---- */

static DefElem *
find_option(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, name) == 0)
			return option;
	}
	return NULL;
}

static void
run_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree, ProcessUtilityContext context,
			ParamListInfo params, QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	if (prev_ProcessUtility)
		prev_ProcessUtility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
}

static void
process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *stmt = pstmt->utilityStmt;

	switch (nodeTag(stmt))
	{
		case T_CreatedbStmt:
			{
				DefElem    *strategy = find_option(((CreatedbStmt *) stmt)->options, "strategy");

				creating_database = true;
				run_utility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);

				/* nobody can connect before the command commits */
				if (strategy != NULL && OidIsValid(created_database) &&
					pg_strcasecmp(defGetString(strategy), "file_copy") == 0)
					forget_database(created_database);
				return;
			}

		case T_DropdbStmt:
			{
				Oid			db = get_database_oid(((DropdbStmt *) stmt)->dbname, true);

				run_utility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
				if (OidIsValid(db))
					forget_database(db);
				return;
			}

		case T_AlterDatabaseStmt:
			{
				DefElem    *tablespace = find_option(((AlterDatabaseStmt *) stmt)->options, "tablespace");

				if (tablespace != NULL)
				{
					check_move_target((AlterDatabaseStmt *) stmt, defGetString(tablespace));
					moving_database = true;
				}
				break;
			}

		case T_TransactionStmt:
			{
				TransactionStmtKind kind = ((TransactionStmt *) stmt)->kind;

				run_utility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
				if (kind == TRANS_STMT_COMMIT_PREPARED || kind == TRANS_STMT_ROLLBACK_PREPARED)
					check_last_record_acknowledged(kind == TRANS_STMT_COMMIT_PREPARED);
				return;
			}

		default:
			break;
	}
	run_utility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
}

/* The server has a free walsender for this connection, but the WAL worker sits in one of the slots. */
static void
client_authentication(Port *port, int status)
{
	if (prev_ClientAuthentication)
		prev_ClientAuthentication(port, status);
	if (!am_walsender || status != STATUS_OK)
		return;

	if (!am_db_walsender)
		ereport(FATAL,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a compute does not accept physical replication connections"),
				 errdetail("Its relations are in the page store, and its WAL may not go anywhere before the store has it."),
				 errhint("Take backups from the store, and let standbys stream from it.")));

	/*
	 * InitProcess() has given this connection one of max_wal_senders PGPROCs.
	 * If it was the last, there is no WalSnd left (InitWalSenderSlot() would
	 * run into a null pointer).
	 */
	if (ProcGlobal->walsenderFreeProcs == NULL)
		ereport(FATAL,
				(errcode(ERRCODE_TOO_MANY_CONNECTIONS),
				 errmsg("number of requested standby connections exceeds max_wal_senders (currently %d)",
						max_wal_senders),
				 errdetail("One of them is used by the WAL worker of pageserver_smgr.")));
}

void
hooks_install(void)
{
	prev_ProcessUtility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	prev_object_access = object_access_hook;
	object_access_hook = object_access;
	prev_ClientAuthentication = ClientAuthentication_hook;
	ClientAuthentication_hook = client_authentication;
	RegisterXactCallback(xact_callback, NULL);
}
