/*
 * hooks.c
 *	  Commands and situations that go past the storage manager.
 *
 * - Commands that copy, move or remove directories of relations: the caches
 *	 must forget what they know of them, and what they look for in local
 *	 directories is in the store.
 * - Commands and calls that commits.c must know of.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_database.h"
#include "catalog/pg_tablespace.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"

#include "compute.h"

/* Sub-object of a database that stands for its stubs in locks.  PostgreSQL locks databases as a whole. */
#define STUBS_SUBID 1

static ProcessUtility_hook_type prev_ProcessUtility;
static object_access_hook_type prev_object_access;

/*
 * Set while the transaction runs these commands, of which none may run in a
 * transaction block or function.
 */
static Oid moving_database;             /* ALTER DATABASE SET TABLESPACE: database, */
static Oid moving_to;                   /* tablespace, */
static XLogRecPtr before_copy;          /* the last record before the copy is logged, */
static bool moved;                      /* and whether the copy is made */
static CreatedbStmt *creating_database; /* CREATE DATABASE, and what it has created so far */
static Oid created_database;
static bool files_copied;
static Oid dropped_database; /* DROP DATABASE */

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
	known_forget(InvalidOid, db);
}

static Oid
tablespace_of_database(Oid db)
{
	HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(db));
	Oid spc = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		spc = ((Form_pg_database) GETSTRUCT(tuple))->dattablespace;
		ReleaseSysCache(tuple);
	}
	return spc;
}

/*
 * Before a database is copied by its files or by its pages: what WAL, and so
 * the store, does not have of it.  Nobody else may be connected to it.
 */
static void
log_before_copy(Oid db)
{
	FlushDatabaseBuffers(db);
	log_sequences(db);
}

/*
 * ALTER DATABASE SET TABLESPACE: does what has to be done before movedb() copies
 * the directory, under the lock that movedb() takes.  It refuses if the target
 * tablespace has relations of the database, which it looks for in the local
 * directory.  All other reasons to refuse are left to it.
 */
static void
prepare_move(AlterDatabaseStmt *stmt, const char *tablespace, bool is_top_level)
{
	Oid db = get_database_oid(stmt->dbname, true);
	Oid spc = get_tablespace_oid(tablespace, true);
	int backends;
	int prepared;
	Oid from;

	PreventInTransactionBlock(is_top_level, "ALTER DATABASE SET TABLESPACE");
	if (!OidIsValid(db) || !OidIsValid(spc) || spc == GLOBALTABLESPACE_OID || db == MyDatabaseId ||
		!pg_database_ownercheck(db, GetUserId()))
		return;
	LockSharedObject(DatabaseRelationId, db, 0, AccessExclusiveLock);
	from = tablespace_of_database(db);
	if (get_database_oid(stmt->dbname, true) != db || spc == from || CountOtherDBBackends(db, &backends, &prepared))
		return;
	if (store_has_relations(spc, db))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("some relations of database \"%s\" are already in tablespace \"%s\"",
						stmt->dbname, tablespace),
				 errhint("You must move them back to the database's default tablespace before using this command.")));
	log_before_copy(db);
	moving_database = db;
	moving_to = spc;
	database_files_remove_left(spc, db);
	database_files_before_copy(db, from);
	before_copy = ProcLastRecPtr;
}

static DefElem *
find_option(List *options, const char *name)
{
	ListCell *lc;

	foreach (lc, options)
	{
		DefElem *option = lfirst_node(DefElem, lc);

		/* an option may be given as DEFAULT */
		if (strcmp(option->defname, name) == 0 && option->arg != NULL)
			return option;
	}
	return NULL;
}

static Oid
template_of(CreatedbStmt *stmt, bool missing_ok)
{
	DefElem *template = find_option(stmt->options, "template");

	return get_database_oid(template != NULL ? defGetString(template) : "template1", missing_ok);
}

/*
 * CREATE DATABASE with a tablespace: removes what createdb() would take for
 * relations of the template there.  The lock is the one that createdb() takes.
 */
static void
prepare_new_tablespace(CreatedbStmt *stmt)
{
	DefElem *tablespace = find_option(stmt->options, "tablespace");
	Oid db = template_of(stmt, true);
	Oid spc = tablespace != NULL ? get_tablespace_oid(defGetString(tablespace), true) : InvalidOid;

	if (!OidIsValid(db) || !OidIsValid(spc) || spc == GLOBALTABLESPACE_OID ||
		pg_tablespace_aclcheck(spc, GetUserId(), ACL_CREATE) != ACLCHECK_OK)
		return;
	LockSharedObject(DatabaseRelationId, db, 0, ShareLock);
	if (template_of(stmt, true) == db && tablespace_of_database(db) != spc)
		database_files_remove_left(spc, db);
}

/*
 * createdb() refuses a default tablespace in which the template has relations
 * that are not in its own, for which it looks in the local directory.
 */
static void
check_new_tablespace(CreatedbStmt *stmt, Oid db)
{
	DefElem *tablespace = find_option(stmt->options, "tablespace");
	Oid spc;

	if (tablespace == NULL)
		return;
	spc = get_tablespace_oid(defGetString(tablespace), false);
	if (spc != tablespace_of_database(db) && store_has_relations(spc, db))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot assign new default tablespace \"%s\"", defGetString(tablespace)),
				 errdetail("There is a conflict because database \"%s\" already has some tables in this tablespace.",
						   get_database_name(db))));
}

/*
 * CREATE DATABASE has locked its template and is about to copy it.  Its lock
 * lets others copy the template at the same time.  They must not while its
 * stubs are set aside: a copy of its pages would ask the store how long its
 * relations are, which may have been longer here for a while, and another copy
 * of its files would set aside what is left.  So it takes a lock of ours as
 * well, until the transaction ends.  Whoever waits for it has already passed
 * all that createdb() waits for.
 */
static void
prepare_create(CreatedbStmt *stmt)
{
	DefElem *strategy = find_option(stmt->options, "strategy");
	Oid db = template_of(stmt, false);
	bool copies_files = strategy != NULL && pg_strcasecmp(defGetString(strategy), "file_copy") == 0;

	check_new_tablespace(stmt, db);
	LockSharedObject(DatabaseRelationId, db, STUBS_SUBID, copies_files ? AccessExclusiveLock : AccessShareLock);
	log_before_copy(db);
	if (!copies_files)
		return;
	files_copied = true;
	database_files_before_copy(db, InvalidOid);
}

/*
 * DropTableSpace() finds out whether a tablespace is empty by its directories.
 * Relations that this compute has not touched have no files there.  Those that
 * others create from now on have.
 */
static void
check_tablespace_is_empty(Oid spc)
{
	if (store_has_relations(spc, InvalidOid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("tablespace \"%s\" is not empty", get_tablespace_name(spc))));
	database_files_remove_left(spc, InvalidOid);
	known_forget(spc, InvalidOid);
}

static void
object_access(ObjectAccessType access, Oid classId, Oid objectId, int subId, void *arg)
{
	if (prev_object_access)
		prev_object_access(access, classId, objectId, subId, arg);

	if (access == OAT_FUNCTION_EXECUTE)
		commits_function_call();
	else if (classId == TableSpaceRelationId && access == OAT_DROP)
		check_tablespace_is_empty(objectId);
	else if (classId == DatabaseRelationId && access == OAT_POST_CREATE && creating_database != NULL)
	{
		created_database = objectId;
		prepare_create(creating_database);
	}
	else if (classId == DatabaseRelationId && access == OAT_DROP)
	{
		dropped_database = objectId;
		database_files_before_drop(objectId);
	}

	/*
	 * movedb() has flushed and dropped the database's buffers and logged the
	 * copy, and still holds the database's lock.  When the statement ends,
	 * others may already be connected.
	 */
	else if (classId == DatabaseRelationId && access == OAT_POST_ALTER && OidIsValid(moving_database))
	{
		forget_database(objectId);
		moved = true;
	}
}

/* ---- ends of transactions ---- */

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			break;
		case XACT_EVENT_ABORT:
			database_files_restore();
			if (OidIsValid(created_database))
				forget_database(created_database);
			if (OidIsValid(moving_database) && ProcLastRecPtr != before_copy)
				database_files_log_drop(moving_database, moving_to);
			break;
		default:
			return;
	}
	if (moved)
		database_files_forget();
	moving_database = InvalidOid;
	moved = false;
	creating_database = NULL;
	created_database = InvalidOid;
	files_copied = false;
	dropped_database = InvalidOid;
}

/* ---- the hooks ---- */

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
	Node *stmt = pstmt->utilityStmt;

	numbers_before_command(nodeTag(stmt));
	switch (nodeTag(stmt))
	{
		case T_CreatedbStmt:
			prepare_new_tablespace((CreatedbStmt *) stmt);
			creating_database = (CreatedbStmt *) stmt;
			run_utility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);

			/* a copy of files; nobody can connect before the command commits */
			if (files_copied)
			{
				database_files_restore();
				forget_database(created_database);
			}
			return;

		case T_DropdbStmt:
			run_utility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
			if (OidIsValid(dropped_database))
				forget_database(dropped_database);
			return;

		case T_AlterDatabaseStmt:
		{
			DefElem *tablespace = find_option(((AlterDatabaseStmt *) stmt)->options, "tablespace");

			if (tablespace != NULL)
				prepare_move((AlterDatabaseStmt *) stmt, defGetString(tablespace), context == PROCESS_UTILITY_TOPLEVEL);
			break;
		}

		case T_TransactionStmt:
		{
			TransactionStmtKind kind = ((TransactionStmt *) stmt)->kind;

			run_utility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
			if (kind == TRANS_STMT_COMMIT_PREPARED || kind == TRANS_STMT_ROLLBACK_PREPARED)
				commits_check_last_record(kind == TRANS_STMT_COMMIT_PREPARED);
			return;
		}

		case T_DiscardStmt:
			run_utility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
			if (((DiscardStmt *) stmt)->target == DISCARD_ALL)
				commits_new_session();
			return;

		default:
			break;
	}
	run_utility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
}

void
hooks_install(void)
{
	prev_ProcessUtility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	prev_object_access = object_access_hook;
	object_access_hook = object_access;
	RegisterXactCallback(xact_callback, NULL);
}
