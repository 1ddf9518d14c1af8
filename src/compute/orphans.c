/*
 * orphans.c
 *	  SQL function pageserver_smgr_orphans(): relations in the store that are in
 *	  no catalog.
 *
 * A server that is killed during CREATE TABLE, CREATE DATABASE or ALTER DATABASE SET
 * TABLESPACE leaves files behind.  They keep a tablespace from being dropped, or a
 * database from being moved into it.  On a stock server an administrator would find
 * and remove them by hand; here they are in the store, and this function does it.
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
#include "utils/snapmgr.h"

#include "database_files.h"
#include "page_client.h"
#include "pg_compat.h"
#include "settings.h"
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
 * Calls a function for each row of a catalog, including rows that a transaction
 * in progress or a prepared transaction has inserted or deleted.
 *
 * If lock is true, the catalog cannot be changed until the transaction ends, as
 * is required before orphans are removed: the scan might miss both versions of a
 * row that is updated meanwhile, and a database might be created after it.
 * (CREATE DATABASE and similar commands lock the catalog until they commit.)
 */
static void
each_row(Oid catalog, bool lock, void (*call)(HeapTuple tuple, HTAB *set), HTAB *set)
{
	SnapshotData snapshot;
	Relation rel = table_open(catalog, lock ? ShareLock : AccessShareLock);
	SysScanDesc scan;
	HeapTuple tuple;

	InitDirtySnapshot(snapshot);
	scan = systable_beginscan(rel, InvalidOid, false, &snapshot, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		call(tuple, set);
	systable_endscan(scan);
	table_close(rel, lock ? NoLock : AccessShareLock);
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
		rel.rel = compat_mapped_file_number(form->oid);
	hash_search(set, &rel, HASH_ENTER, NULL);
}

/*
 * An orphan belongs to a database that does not exist, or to this database,
 * which has no such relation.  Relations that this compute has created or used
 * have a local file, even while no committed catalog row refers to them.
 */
static bool
is_orphan(PsRel rel, HTAB *databases, HTAB *relations)
{
	char *path = compat_relation_path(rel, MAIN_FORKNUM);
	bool is_known = rel.db == MyDatabaseId
						? hash_search(relations, &rel, HASH_FIND, NULL) != NULL
						: hash_search(databases, &rel.db, HASH_FIND, NULL) != NULL;
	bool is_used = access(path, F_OK) == 0 || errno != ENOENT;

	pfree(path);
	return !is_known && !is_used;
}

/* Drops the storage of a relation when the transaction commits. */
static void
drop_at_commit(PsRel rel)
{
	Relation fake = CreateFakeRelcacheEntry(compat_node(rel));

	RelationDropStorage(fake);
	FreeFakeRelcacheEntry(fake);
	/* without a transaction ID there would be no commit record, and nothing would be dropped */
	(void) GetCurrentTransactionId();
}

/*
 * pageserver_smgr_orphans(remove boolean) returns setof (tablespace oid,
 * database oid, filenode oid, size bigint)
 *
 * Returns the orphans of this database and of databases that do not exist.  With
 * "remove" it also drops them at commit; until then, databases and relations of
 * this database can be neither created nor changed.  Without it, relations that
 * other sessions are just creating may be among the result.
 */
Datum
pageserver_smgr_orphans(PG_FUNCTION_ARGS)
{
	bool remove = PG_GETARG_BOOL(0);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	HTAB *databases = create_set("databases", sizeof(Oid));
	HTAB *relations = create_set("relations", sizeof(PsRel));
	ListCell *lc;

	settings_require_compute();
	if (remove)
		PreventCommandIfReadOnly("pageserver_smgr_orphans(true)");
	InitMaterializedSRF(fcinfo, 0);
	each_row(DatabaseRelationId, remove, add_database, databases);
	each_row(RelationRelationId, remove, add_relation, relations);
	foreach (lc, database_files_tablespaces())
	{
		int n;
		PsForkSize *forks = page_client_forks(lfirst_oid(lc), InvalidOid, true, &n);
		int next;

		/* the forks of a relation follow one another */
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
