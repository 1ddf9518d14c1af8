/*
 * numbers.c
 *	  Makes file numbers that are in use known to GetNewRelFileNode().
 *
 * GetNewRelFileNode() takes a number from the OID counter for which there is no
 * local file.  But a relation that this compute has not touched has no local file
 * (stub.c).  After the counter has wrapped around, its number would look free;
 * smgr.c refuses to create another relation with it, so that the command would
 * fail.  Therefore, before a command that may create relations, stubs are made
 * for relations in pg_class that have one of the next numbers.
 *
 * Relations that are not in pg_class under their number are not handled: mapped
 * relations, and relations left behind by a killed server.  They get a stub when
 * the number is tried, so that the command fails once.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_tablespace.h"
#include "miscadmin.h"
#include "storage/smgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "database_files.h"
#include "numbers.h"
#include "pg_compat.h"
#include "utility_hook.h"

/*
 * How many numbers, starting at the counter, are checked at a time, and how many
 * checked numbers a command needs.
 */
#define CHECK_AHEAD 16384
#define LEAST_AHEAD 8192

static ProcessUtility_hook_type prev_ProcessUtility;

/* The numbers of its database that this process has checked: checked_from <= number < checked_to. */
static Oid checked_from;
static uint64 checked_to;

static bool
may_make_relations(NodeTag tag)
{
	switch (tag)
	{
		case T_CreateStmt:
		case T_CreateTableAsStmt:
		case T_TruncateStmt:
		case T_IndexStmt:
		case T_ReindexStmt:
		case T_AlterTableStmt:
		case T_AlterTableMoveAllStmt:
		case T_ClusterStmt:
		case T_VacuumStmt:
		case T_RefreshMatViewStmt:
		case T_CreateSeqStmt:
		case T_AlterSeqStmt:
		case T_CreateSchemaStmt:
		case T_CreateExtensionStmt:
		case T_ExplainStmt:
			return true;
		default:
			return false;
	}
}

/*
 * Makes stubs for the permanent relations in a tablespace (InvalidOid: the
 * database's default) with first <= number <= last.
 */
static void
make_stubs(Relation pg_class, Oid spc, Oid first, Oid last)
{
	ScanKeyData keys[3];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&keys[0], Anum_pg_class_reltablespace, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(spc));
	ScanKeyInit(&keys[1], Anum_pg_class_relfilenode, BTGreaterEqualStrategyNumber, F_OIDGE, ObjectIdGetDatum(first));
	ScanKeyInit(&keys[2], Anum_pg_class_relfilenode, BTLessEqualStrategyNumber, F_OIDLE, ObjectIdGetDatum(last));
	scan = systable_beginscan(pg_class, ClassTblspcRelfilenodeIndexId, true, NULL, 3, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);
		PsRel rel = {OidIsValid(spc) ? spc : MyDatabaseTableSpace, MyDatabaseId, form->relfilenode};

		CHECK_FOR_INTERRUPTS();
		if (form->relpersistence == RELPERSISTENCE_PERMANENT)
			(void) smgrexists(compat_smgropen(rel), MAIN_FORKNUM);
	}
	systable_endscan(scan);
}

static void
before_command(NodeTag tag)
{
	Oid next = compat_next_oid();
	Relation pg_class;
	Oid last;
	ListCell *lc;

	if (!may_make_relations(tag) || !IsTransactionState() || !OidIsValid(MyDatabaseId))
		return;
	if (next < FirstNormalObjectId)
		next = FirstNormalObjectId;
	if (next >= checked_from && (checked_to > PG_UINT32_MAX || (uint64) next + LEAST_AHEAD <= checked_to))
		return;

	last = (Oid) Min((uint64) next + CHECK_AHEAD - 1, PG_UINT32_MAX);
	pg_class = table_open(RelationRelationId, AccessShareLock);
	make_stubs(pg_class, InvalidOid, next, last);
	foreach (lc, database_files_tablespaces())
		if (lfirst_oid(lc) != MyDatabaseTableSpace)
			make_stubs(pg_class, lfirst_oid(lc), next, last);
	table_close(pg_class, AccessShareLock);
	checked_from = next;
	checked_to = (uint64) last + 1;
}

static void
process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	before_command(nodeTag(pstmt->utilityStmt));
	utility_hook_next(prev_ProcessUtility, pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
}

void
numbers_init(void)
{
	prev_ProcessUtility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
