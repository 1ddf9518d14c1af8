/*
 * orphans.c
 *	  Relations in the store that no catalog names.
 *
 * A server that is killed in the middle of CREATE TABLE, CREATE DATABASE or
 * ALTER DATABASE SET TABLESPACE leaves files behind, which keep a tablespace
 * from being dropped, or a database from being moved into it.  On a stock
 * server one looks for them and removes them by hand.  Here they are in the
 * store: this is the hand.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlogutils.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_tablespace.h"
#include "catalog/storage.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/hsearch.h"
#include "utils/relcache.h"
#include "utils/relmapper.h"
#include "utils/snapmgr.h"

#include "smgr.h"
#include "wire.h"

PG_FUNCTION_INFO_V1(pageserver_smgr_orphans);

#define COLUMNS 4

static HTAB *
create_set(const char *name, Size key_size)
{
	HASHCTL ctl = {.keysize = key_size, .entrysize = key_size, .hcxt = CurrentMemoryContext};

	return hash_create(name, 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/*
 * Calls a function for each row of a catalog, also for those that a transaction
 * in progress, or a prepared one, has made or removed.
 *
 * Whoever will remove what has no row keeps the catalog as it is until the
 * transaction ends (keep).  A row that is updated during the scan might not be
 * seen, neither the old nor the new one, and a database might be created after
 * it.  CREATE DATABASE and its kin lock the catalog until they commit.
 */
static void
each_row(Oid catalog, bool keep, void (*call)(HeapTuple tuple, HTAB *set), HTAB *set)
{
	SnapshotData snapshot;
	Relation rel = table_open(catalog, keep ? ShareLock : AccessShareLock);
	SysScanDesc scan;
	HeapTuple tuple;

	InitDirtySnapshot(snapshot);
	scan = systable_beginscan(rel, InvalidOid, false, &snapshot, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		call(tuple, set);
	systable_endscan(scan);
	table_close(rel, keep ? NoLock : AccessShareLock);
}

static void
add_database(HeapTuple tuple, HTAB *set)
{
	hash_search(set, &((Form_pg_database) GETSTRUCT(tuple))->oid, HASH_ENTER, NULL);
}

static void
add_relation(HeapTuple tuple, HTAB *set)
{
	Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);
	PsRel rel = {
		.spc = OidIsValid(form->reltablespace) ? form->reltablespace : MyDatabaseTableSpace,
		.db = MyDatabaseId,
		.rel = form->relfilenode};

	if (form->relisshared || !RELKIND_HAS_STORAGE(form->relkind))
		return;
	if (!OidIsValid(rel.rel))
		rel.rel = RelationMapOidToFilenode(form->oid, false);
	hash_search(set, &rel, HASH_ENTER, NULL);
}

/*
 * Is it of a database that does not exist, or of this one, which has no such
 * relation?  Whatever this compute has created or used has a local file, also
 * while no row of a catalog names it yet.
 */
static bool
is_orphan(PsRel rel, HTAB *databases, HTAB *relations)
{
	char *path = GetRelationPath(rel.db, rel.spc, rel.rel, InvalidBackendId, MAIN_FORKNUM);
	bool is_known = rel.db == MyDatabaseId ? hash_search(relations, &rel, HASH_FIND, NULL) != NULL : hash_search(databases, &rel.db, HASH_FIND, NULL) != NULL;
	bool is_used = access(path, F_OK) == 0 || errno != ENOENT;

	pfree(path);
	return !is_known && !is_used;
}

/* Drops its storage, when the transaction commits. */
static void
drop_at_commit(PsRel rel)
{
	RelFileNode node = {.spcNode = rel.spc, .dbNode = rel.db, .relNode = rel.rel};
	Relation fake = CreateFakeRelcacheEntry(node);

	RelationDropStorage(fake);
	FreeFakeRelcacheEntry(fake);
	/* a transaction without an ID has no commit record, and so drops nothing */
	(void) GetCurrentTransactionId();
}

/*
 * pageserver_smgr_orphans(remove boolean) returns setof (tablespace oid,
 * database oid, filenode oid, size bigint)
 *
 * What there is of this database, and of such as do not exist (any more).  With
 * "remove" databases and relations of this database can be neither created nor
 * changed until the transaction ends.  Without, what others create meanwhile may
 * be among what is found.
 */
Datum
pageserver_smgr_orphans(PG_FUNCTION_ARGS)
{
	bool remove = PG_GETARG_BOOL(0);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	HTAB *databases = create_set("databases", sizeof(Oid));
	HTAB *relations = create_set("relations", sizeof(PsRel));
	ListCell *lc;

	check_active();
	if (remove)
		PreventCommandIfReadOnly("pageserver_smgr_orphans(true)");
	InitMaterializedSRF(fcinfo, 0);
	each_row(DatabaseRelationId, remove, add_database, databases);
	each_row(RelationRelationId, remove, add_relation, relations);
	foreach (lc, all_tablespaces())
	{
		int n;
		PsForkSize *forks = page_client_forks(lfirst_oid(lc), InvalidOid, true, &n);
		int next;

		/* the forks of a relation come one after the other */
		for (int i = 0; i < n; i = next)
		{
			PsRel rel = forks[i].rel;
			int64 size = 0;

			CHECK_FOR_INTERRUPTS();
			for (next = i; next < n && ps_rel_equal(forks[next].rel, rel); next++)
				size += (int64) forks[next].nblocks * BLCKSZ;
			if (is_orphan(rel, databases, relations))
			{
				Datum values[COLUMNS] = {ObjectIdGetDatum(rel.spc), ObjectIdGetDatum(rel.db),
										 ObjectIdGetDatum(rel.rel), Int64GetDatum(size)};
				bool nulls[COLUMNS] = {false};

				tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
				if (remove)
					drop_at_commit(rel);
			}
		}
		pfree(forks);
	}
	hash_destroy(relations);
	hash_destroy(databases);
	return (Datum) 0;
}
