/*
 * sizes.c
 *	  pg_relation_size() and similar functions, and pg_tablespace_databases().
 *
 * PostgreSQL's own functions (dbsize.c, misc.c) use the files of the data directory,
 * where the relations of a compute are not.  The functions here replace them, with
 * the same permissions, errors, and results for objects that do not exist.
 *
 * The size of a relation is the one that its storage manager returns.  The size of a
 * database or tablespace is that of its local files, plus what the store reports for
 * relations without local files.  If the store cannot be reached, the last known size
 * is returned with a warning, because monitoring needs an answer.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/relation.h"
#include "access/xlog.h"
#include "catalog/catalog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_tablespace.h"
#include "commands/dbcommands.h"
#include "commands/tablespace.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/smgr.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"

#include "database_files.h"
#include "functions.h"
#include "known_databases.h"
#include "page_client.h"
#include "pg_compat.h"
#include "sizes.h"
#include "wire.h"

/* ---- relations ---- */

/*
 * Returns the size of one fork in bytes, 0 if it does not exist.  Works for
 * temporary tables of other sessions, too.
 */
static int64
fork_size(Relation rel, ForkNumber fork)
{
	SMgrRelation reln;

	CHECK_FOR_INTERRUPTS();
	if (!RELKIND_HAS_STORAGE(rel->rd_rel->relkind))
		return 0;
	reln = smgropen(rel->rd_node, rel->rd_backend);
	if (!smgrexists(reln, fork))
		return 0;
	return (int64) smgrnblocks(reln, fork) * BLCKSZ;
}

static int64
all_forks_size(Relation rel)
{
	int64 size = 0;

	for (ForkNumber fork = 0; fork <= MAX_FORKNUM; fork++)
		size += fork_size(rel, fork);
	return size;
}

/* Returns the size of all indexes of a relation. */
static int64
indexes_size(Relation rel)
{
	int64 size = 0;
	List *indexes;
	ListCell *cell;

	if (!rel->rd_rel->relhasindex)
		return 0;
	indexes = RelationGetIndexList(rel);
	foreach (cell, indexes)
	{
		Relation index = relation_open(lfirst_oid(cell), AccessShareLock);

		size += all_forks_size(index);
		relation_close(index, AccessShareLock);
	}
	list_free(indexes);
	return size;
}

/* Returns the size of a table with its TOAST table and that table's indexes, but without its own indexes. */
static int64
table_size(Relation rel)
{
	int64 size = all_forks_size(rel);

	if (OidIsValid(rel->rd_rel->reltoastrelid))
	{
		Relation toast = relation_open(rel->rd_rel->reltoastrelid, AccessShareLock);

		size += all_forks_size(toast) + indexes_size(toast);
		relation_close(toast, AccessShareLock);
	}
	return size;
}

/*
 * Returns NULL for a relation that does not exist, because it may have been
 * dropped since the caller's snapshot.
 */
static Datum
size_or_null(FunctionCallInfo fcinfo, int64 (*size_of)(Relation))
{
	Relation rel = try_relation_open(PG_GETARG_OID(0), AccessShareLock);
	int64 size;

	if (rel == NULL)
		PG_RETURN_NULL();
	size = size_of(rel);
	relation_close(rel, AccessShareLock);
	PG_RETURN_INT64(size);
}

static int64
total_size(Relation rel)
{
	return table_size(rel) + indexes_size(rel);
}

static Datum
ps_relation_size(PG_FUNCTION_ARGS)
{
	Relation rel = try_relation_open(PG_GETARG_OID(0), AccessShareLock);
	int64 size;

	if (rel == NULL)
		PG_RETURN_NULL();
	size = fork_size(rel, forkname_to_number(text_to_cstring(PG_GETARG_TEXT_PP(1))));
	relation_close(rel, AccessShareLock);
	PG_RETURN_INT64(size);
}

static Datum
ps_table_size(PG_FUNCTION_ARGS)
{
	return size_or_null(fcinfo, table_size);
}

static Datum
ps_indexes_size(PG_FUNCTION_ARGS)
{
	return size_or_null(fcinfo, indexes_size);
}

static Datum
ps_total_relation_size(PG_FUNCTION_ARGS)
{
	return size_or_null(fcinfo, total_size);
}

/* ---- databases and tablespaces ---- */

/*
 * A fork that has local files, as unlogged and temporary relations, stubs and
 * init forks have.  The store knows the lengths of all other forks.
 */
typedef struct LocalFork
{
	Oid db;
	Oid rel;
	ForkNumber fork;
} LocalFork;

static HTAB *
create_local_forks(void)
{
	HASHCTL ctl = {.keysize = sizeof(LocalFork), .entrysize = sizeof(LocalFork), .hcxt = CurrentMemoryContext};

	return hash_create("local forks", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/*
 * Returns the sum of the sizes of a directory's files, as PostgreSQL counts
 * them; 0 if it does not exist.  If it is the directory of a database (or of
 * shared relations, db InvalidOid), adds its forks to the table.
 */
static int64
directory_size(const char *path, Oid db, HTAB *local)
{
	DIR *dir = AllocateDir(path);
	struct dirent *entry;
	int64 size = 0;

	while (dir != NULL && (entry = ReadDir(dir, path)) != NULL)
	{
		char file[MAXPGPATH * 2];
		LocalFork fork = {.db = db};
		struct stat st;

		CHECK_FOR_INTERRUPTS();
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		if (stat(file, &st) < 0)
		{
			if (errno == ENOENT)
				continue;
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not stat file \"%s\": %m", file)));
		}
		size += st.st_size;
		if (S_ISREG(st.st_mode) && compat_parse_file_name(entry->d_name, &fork.rel, &fork.fork))
			hash_search(local, &fork, HASH_ENTER, NULL);
	}
	if (dir != NULL)
		FreeDir(dir);
	return size;
}

/*
 * Adds the sizes of all forks without local files, of a database in a tablespace
 * or (db InvalidOid) of all databases in it.  Returns false if the store cannot
 * be reached and wait is false.
 */
static bool
add_remote_size(Oid spc, Oid db, HTAB *local, bool wait, int64 *size)
{
	int n;
	PsForkSize *forks = page_client_forks(spc, db, wait, &n);

	if (forks == NULL)
		return false;
	for (int i = 0; i < n; i++)
	{
		LocalFork fork = {forks[i].rel.db, forks[i].rel.rel, forks[i].fork};

		if (hash_search(local, &fork, HASH_FIND, NULL) == NULL)
			*size += (int64) forks[i].nblocks * BLCKSZ;
	}
	pfree(forks);
	return true;
}

/* Adds the size of a database in one tablespace.  Returns false like add_remote_size(). */
static bool
add_database_size_in(Oid spc, Oid db, const char *path, bool wait, int64 *size)
{
	HTAB *local = create_local_forks();
	bool done;

	*size += directory_size(path, db, local);
	done = add_remote_size(spc, db, local, wait, size);
	hash_destroy(local);
	return done;
}

/* Computes the size of a database in all tablespaces.  Returns false like add_remote_size(). */
static bool
measure_database(Oid db, bool wait, int64 *size)
{
	DIR *dir;
	struct dirent *entry;
	char path[MAXPGPATH * 2];
	bool done;

	*size = 0;
	snprintf(path, sizeof(path), "base/%u", db);
	done = add_database_size_in(DEFAULTTABLESPACE_OID, db, path, wait, size);
	dir = AllocateDir("pg_tblspc");
	while (done && (entry = ReadDir(dir, "pg_tblspc")) != NULL)
	{
		Oid spc = (Oid) strtoul(entry->d_name, NULL, 10);

		CHECK_FOR_INTERRUPTS();
		if (!OidIsValid(spc))
			continue;
		snprintf(path, sizeof(path), "pg_tblspc/%u/%s/%u", spc, TABLESPACE_VERSION_DIRECTORY, db);
		done = add_database_size_in(spc, db, path, wait, size);
	}
	FreeDir(dir);
	return done;
}

/* Checks permissions like calculate_database_size() in dbsize.c. */
static int64
database_size(Oid db)
{
	AclResult aclresult = compat_database_aclcheck(db, ACL_CONNECT);
	KnownSize last;
	int64 size;

	if (aclresult != ACLCHECK_OK && !has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS))
		aclcheck_error(aclresult, OBJECT_DATABASE, get_database_name(db));

	/* to the store, database 0 would mean all databases */
	if (!OidIsValid(db))
		return 0;
	if (!measure_database(db, !known_databases_get_size(InvalidOid, db, &last), &size))
	{
		/* the outage itself has been logged already */
		ereport(WARNING_CLIENT_ONLY,
				(errmsg("page store cannot be reached, so the size of database \"%s\" is as of %s",
						get_database_name(db), timestamptz_to_str(last.as_of))));
		return last.size;
	}
	if (size > 0)
		known_databases_set_size(InvalidOid, db, size, &last);
	return size;
}

void
sizes_learn_database(Oid db)
{
	KnownSize last;
	int64 size;

	if (!known_databases_get_size(InvalidOid, db, &last) && measure_database(db, false, &size) && size > 0)
		known_databases_set_size(InvalidOid, db, size, &last);
}

/* The directory of a tablespace; palloc'd. */
static char *
tablespace_path(Oid spc)
{
	if (spc == DEFAULTTABLESPACE_OID)
		return pstrdup("base");
	if (spc == GLOBALTABLESPACE_OID)
		return pstrdup("global");
	return psprintf("pg_tblspc/%u/%s", spc, TABLESPACE_VERSION_DIRECTORY);
}

/*
 * Computes the size of all databases in the tablespace with this directory.
 * Returns false like add_remote_size().
 */
static bool
measure_tablespace(Oid spc, const char *path, bool wait, int64 *size)
{
	HTAB *local = create_local_forks();
	DIR *dir;
	struct dirent *entry;
	bool done;

	/* directories of databases have names like those of relations, but are not counted as files */
	*size = directory_size(path, InvalidOid, local);
	dir = AllocateDir(path);
	while (spc != GLOBALTABLESPACE_OID && (entry = ReadDir(dir, path)) != NULL)
	{
		char database[MAXPGPATH * 2];
		struct stat st;

		CHECK_FOR_INTERRUPTS();
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(database, sizeof(database), "%s/%s", path, entry->d_name);
		if (stat(database, &st) == 0 && S_ISDIR(st.st_mode))
			*size += directory_size(database, (Oid) strtoul(entry->d_name, NULL, 10), local);
	}
	FreeDir(dir);
	done = add_remote_size(spc, InvalidOid, local, wait, size);
	hash_destroy(local);
	return done;
}

/*
 * Returns -1 if the tablespace does not exist.  Checks permissions like
 * calculate_tablespace_size() in dbsize.c.
 */
static int64
tablespace_size(Oid spc)
{
	DIR *dir;
	const char *path;
	KnownSize last;
	int64 size;

	if (spc != MyDatabaseTableSpace && !has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS))
	{
		AclResult aclresult = compat_tablespace_aclcheck(spc, ACL_CREATE);

		if (aclresult != ACLCHECK_OK)
			aclcheck_error(aclresult, OBJECT_TABLESPACE, get_tablespace_name(spc));
	}

	path = tablespace_path(spc);
	dir = AllocateDir(path);
	if (dir == NULL)
		return -1;
	FreeDir(dir);
	if (!measure_tablespace(spc, path, !known_databases_get_size(spc, InvalidOid, &last), &size))
	{
		ereport(WARNING_CLIENT_ONLY,
				(errmsg("page store cannot be reached, so the size of tablespace \"%s\" is as of %s",
						get_tablespace_name(spc), timestamptz_to_str(last.as_of))));
		return last.size;
	}
	known_databases_set_size(spc, InvalidOid, size, &last);
	return size;
}

static Datum
database_size_or_null(FunctionCallInfo fcinfo, Oid db)
{
	int64 size = database_size(db);

	if (size == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(size);
}

static Datum
ps_database_size_oid(PG_FUNCTION_ARGS)
{
	return database_size_or_null(fcinfo, PG_GETARG_OID(0));
}

static Datum
ps_database_size_name(PG_FUNCTION_ARGS)
{
	return database_size_or_null(fcinfo, get_database_oid(NameStr(*PG_GETARG_NAME(0)), false));
}

static Datum
tablespace_size_or_null(FunctionCallInfo fcinfo, Oid spc)
{
	int64 size = tablespace_size(spc);

	if (size < 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(size);
}

static Datum
ps_tablespace_size_oid(PG_FUNCTION_ARGS)
{
	return tablespace_size_or_null(fcinfo, PG_GETARG_OID(0));
}

static Datum
ps_tablespace_size_name(PG_FUNCTION_ARGS)
{
	return tablespace_size_or_null(fcinfo, get_tablespace_oid(NameStr(*PG_GETARG_NAME(0)), false));
}

/*
 * Returns the databases that have local files in a tablespace, like
 * pg_tablespace_databases() in misc.c, and those that have relations there in
 * the store.
 */
static Datum
ps_tablespace_databases(PG_FUNCTION_ARGS)
{
	Oid spc = PG_GETARG_OID(0);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	List *databases = NIL;
	PsForkSize *forks;
	int nforks;
	const char *path;
	DIR *dir;
	struct dirent *entry;
	ListCell *lc;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (spc == GLOBALTABLESPACE_OID)
	{
		ereport(WARNING,
				(errmsg("global tablespace never has databases")));
		return (Datum) 0;
	}

	path = tablespace_path(spc);
	dir = AllocateDir(path);
	if (dir == NULL)
	{
		if (errno != ENOENT)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not open directory \"%s\": %m", path)));
		ereport(WARNING,
				(errmsg("%u is not a tablespace OID", spc)));
		return (Datum) 0;
	}
	while ((entry = ReadDir(dir, path)) != NULL)
	{
		Oid db = atooid(entry->d_name);

		if (OidIsValid(db) && database_files_exist(psprintf("%s/%s", path, entry->d_name)))
			databases = lappend_oid(databases, db);
	}
	FreeDir(dir);

	/* the forks of a database follow one another */
	forks = page_client_forks(spc, InvalidOid, true, &nforks);
	for (int i = 0; i < nforks; i++)
		if (i == 0 || forks[i].rel.db != forks[i - 1].rel.db)
			databases = list_append_unique_oid(databases, forks[i].rel.db);
	pfree(forks);

	foreach (lc, databases)
	{
		Datum value = ObjectIdGetDatum(lfirst_oid(lc));
		bool null = false;

		tuplestore_putvalues(result->setResult, result->setDesc, &value, &null);
	}
	return (Datum) 0;
}

/* ---- installation ---- */

void
sizes_install(void)
{
	function_replace("pg_relation_size", pg_relation_size, ps_relation_size);
	function_replace("pg_table_size", pg_table_size, ps_table_size);
	function_replace("pg_indexes_size", pg_indexes_size, ps_indexes_size);
	function_replace("pg_total_relation_size", pg_total_relation_size, ps_total_relation_size);
	function_replace("pg_database_size_oid", pg_database_size_oid, ps_database_size_oid);
	function_replace("pg_database_size_name", pg_database_size_name, ps_database_size_name);
	function_replace("pg_tablespace_size_oid", pg_tablespace_size_oid, ps_tablespace_size_oid);
	function_replace("pg_tablespace_size_name", pg_tablespace_size_name, ps_tablespace_size_name);
	function_replace("pg_tablespace_databases", pg_tablespace_databases, ps_tablespace_databases);
}
