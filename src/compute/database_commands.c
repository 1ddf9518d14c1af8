/*
 * database_commands.c
 *	  Commands on databases and tablespaces.
 *
 * Commands that copy, move or remove directories do not use the storage manager:
 * the caches must forget the relations in them, and where the commands look for
 * files in local directories, the store has to be asked as well.
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
#include "utils/syscache.h"

#include "database_commands.h"
#include "database_files.h"
#include "known_databases.h"
#include "log_pages.h"
#include "lsn_cache.h"
#include "page_cache.h"
#include "pg_compat.h"
#include "stub.h"
#include "utility_hook.h"

/*
 * Sub-object of a database that represents its stubs in lock tags.  PostgreSQL
 * itself locks databases as a whole (sub-object 0).
 */
#define STUBS_SUBID 1

static ProcessUtility_hook_type prev_ProcessUtility;
static object_access_hook_type prev_object_access;

/*
 * State of the command that the current transaction executes.  These commands
 * cannot run in transaction blocks or functions, so there is only one.
 */
static Oid moving_database;             /* ALTER DATABASE SET TABLESPACE: the database */
static Oid moving_to;                   /* the target tablespace */
static XLogRecPtr before_copy;          /* ProcLastRecPtr before the copy is logged */
static bool moved;                      /* the copy is complete */
static CreatedbStmt *creating_database; /* CREATE DATABASE; the following two are set once known */
static Oid created_database;
static bool files_copied;
static Oid dropped_database;   /* DROP DATABASE */
static Oid dropped_tablespace; /* DROP TABLESPACE */

/* ---- databases and tablespaces ---- */

/*
 * From now on the store has, or will have, different contents under the
 * database's keys.  Individual last-written LSNs of its blocks are not known any
 * more, so reads of all blocks must wait for WAL up to here.
 */
static void
forget_database(Oid db)
{
	lsn_cache_set_all(lsn_cache_insert_position());
	page_cache_drop_database(InvalidOid, db);
	stub_forget_database(db);
	known_databases_forget(InvalidOid, db);
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
 * Logs what WAL lacks of a database that is about to be copied, by files or by
 * pages.  No other session may be connected to it.
 */
static void
log_before_copy(Oid db)
{
	FlushDatabaseBuffers(db);
	log_pages_of_sequences(db);
}

/*
 * Prepares ALTER DATABASE SET TABLESPACE, with the lock that movedb() takes
 * before it copies the directory.  movedb() refuses if the target tablespace
 * contains relations of the database, but looks only at the local directory; the
 * same check against the store is done here.  All other checks are left to
 * movedb().
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
		!compat_is_database_owner(db))
		return;
	LockSharedObject(DatabaseRelationId, db, 0, AccessExclusiveLock);
	from = tablespace_of_database(db);
	if (get_database_oid(stmt->dbname, true) != db || spc == from || CountOtherDBBackends(db, &backends, &prepared))
		return;
	if (database_files_in_store(spc, db))
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

		/* an option may have been specified as DEFAULT */
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
 * CREATE DATABASE with a tablespace: removes files there that createdb() would
 * mistake for relations of the template.  Takes the same lock as createdb().
 */
static void
prepare_new_tablespace(CreatedbStmt *stmt)
{
	DefElem *tablespace = find_option(stmt->options, "tablespace");
	Oid db = template_of(stmt, true);
	Oid spc = tablespace != NULL ? get_tablespace_oid(defGetString(tablespace), true) : InvalidOid;

	if (!OidIsValid(db) || !OidIsValid(spc) || spc == GLOBALTABLESPACE_OID ||
		compat_tablespace_aclcheck(spc, ACL_CREATE) != ACLCHECK_OK)
		return;
	LockSharedObject(DatabaseRelationId, db, 0, ShareLock);
	if (template_of(stmt, true) == db && tablespace_of_database(db) != spc)
		database_files_remove_left(spc, db);
}

/*
 * createdb() refuses a default tablespace in which the template has relations
 * although it is not the template's own, but looks only at the local directory.
 */
static void
check_new_tablespace(CreatedbStmt *stmt, Oid db)
{
	DefElem *tablespace = find_option(stmt->options, "tablespace");
	Oid spc;

	if (tablespace == NULL)
		return;
	spc = get_tablespace_oid(defGetString(tablespace), false);
	if (spc != tablespace_of_database(db) && database_files_in_store(spc, db))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot assign new default tablespace \"%s\"", defGetString(tablespace)),
				 errdetail("There is a conflict because database \"%s\" already has some tables in this tablespace.",
						   get_database_name(db))));
}

/*
 * Called when CREATE DATABASE has locked its template and is about to copy it.
 * That lock does not keep others from copying the same template.  They must not
 * do that while its stubs are hidden: a copy by pages would ask the store for
 * the lengths of relations, which may be longer here, and another copy by files
 * would hide the remaining stubs.  So this takes a second lock, held until the
 * transaction ends.  There is no deadlock with createdb(), because whoever waits
 * here has already acquired all locks that createdb() takes.
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
 * DropTableSpace() checks only the local directory, where relations that this
 * compute has not touched have no files.  Relations that other sessions create
 * from now on do have files.
 */
static void
check_tablespace_is_empty(Oid spc)
{
	if (database_files_in_store(spc, InvalidOid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("tablespace \"%s\" is not empty", get_tablespace_name(spc))));
	database_files_remove_left(spc, InvalidOid);
}

static void
object_access(ObjectAccessType access, Oid classId, Oid objectId, int subId, void *arg)
{
	if (prev_object_access)
		prev_object_access(access, classId, objectId, subId, arg);

	if (classId == TableSpaceRelationId && access == OAT_DROP)
	{
		dropped_tablespace = objectId;
		check_tablespace_is_empty(objectId);
	}
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
	 * copy, and still holds the lock on the database.  When the statement ends,
	 * other sessions may already be connected.
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
	dropped_tablespace = InvalidOid;
}

/* ---- hooks ---- */

static void
process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	Node *stmt = pstmt->utilityStmt; /* may be freed by the command */
	bool creates = IsA(stmt, CreatedbStmt);
	bool drops = IsA(stmt, DropdbStmt);
	bool drops_tablespace = IsA(stmt, DropTableSpaceStmt);

	if (creates)
	{
		prepare_new_tablespace((CreatedbStmt *) stmt);
		creating_database = (CreatedbStmt *) stmt;
	}
	else if (IsA(stmt, AlterDatabaseStmt))
	{
		DefElem *tablespace = find_option(((AlterDatabaseStmt *) stmt)->options, "tablespace");

		if (tablespace != NULL)
			prepare_move((AlterDatabaseStmt *) stmt, defGetString(tablespace), context == PROCESS_UTILITY_TOPLEVEL);
	}

	utility_hook_next(prev_ProcessUtility, pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);

	/* a copy by files; nobody can connect to the new database before the command commits */
	if (creates && files_copied)
	{
		database_files_restore();
		forget_database(created_database);
	}
	else if (drops && OidIsValid(dropped_database))
		forget_database(dropped_database);
	else if (drops_tablespace && OidIsValid(dropped_tablespace))
		known_databases_forget(dropped_tablespace, InvalidOid);
}

void
database_commands_init(void)
{
	prev_ProcessUtility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	prev_object_access = object_access_hook;
	object_access_hook = object_access;
	RegisterXactCallback(xact_callback, NULL);
}
