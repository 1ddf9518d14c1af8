/*
 * database_files.c
 *	  Local directories of databases, before commands that copy or remove them
 *	  as such: CREATE DATABASE with STRATEGY FILE_COPY, ALTER DATABASE SET
 *	  TABLESPACE, DROP DATABASE.
 *
 * These look for the tablespaces that a database uses by its directories, and
 * log what the store does for those which they found.  A tablespace of which
 * this compute has touched no relation has none: here it gets one.
 *
 * They copy files as they are, so a stub would become as many zeros as its
 * relation is long.  So stubs are set aside meanwhile, in a subdirectory, which
 * PostgreSQL does not copy.  The copy gets its own when they are asked for.
 *
 * What is set aside is known to the backend that runs the command only, which
 * holds locks on the database that keep others out of it: sessions, and other
 * copies of it (hooks.c).
 */
#include "postgres.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xloginsert.h"
#include "catalog/catalog.h"
#include "catalog/pg_tablespace.h"
#include "commands/dbcommands_xlog.h"
#include "commands/tablespace.h"
#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/fd.h"
#include "storage/reinit.h"
#include "utils/memutils.h"

#include "smgr.h"

#define ASIDE "pageserver_smgr.stubs"

/*
 * What a base backup puts into a directory that a move has made before it was
 * killed, besides relations, of which the store must have none.
 */
static const char *const left_names[] = {"PG_VERSION", "pg_filenode.map"};

/* Directories that have files set aside: of this database, in these tablespaces. */
static Oid aside_database;
static List *aside_tablespaces; /* in TopMemoryContext */

/* All that a database can have relations in. */
List *
all_tablespaces(void)
{
	List *list = list_make1_oid(DEFAULTTABLESPACE_OID);
	DIR *dir = AllocateDir("pg_tblspc");
	struct dirent *entry;

	while ((entry = ReadDir(dir, "pg_tblspc")) != NULL)
	{
		Oid spc = (Oid) strtoul(entry->d_name, NULL, 10);

		if (OidIsValid(spc))
			list = lappend_oid(list, spc);
	}
	FreeDir(dir);
	return list;
}

static bool
directory_exists(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool
store_has_relations(Oid spc, Oid db)
{
	int n;

	pfree(page_client_forks(spc, db, true, &n));
	return n > 0;
}

/*
 * Names of the stubs in a database's directory: files of relations that are
 * neither temporary nor unlogged, which an init fork tells.  Not empty ones:
 * there is nothing to copy, and one may be that of a dropped relation, which
 * the next checkpoint removes.
 */
static List *
list_stubs(const char *path)
{
	DIR *dir = AllocateDir(path);
	struct dirent *entry;
	List *unlogged = NIL;
	List *names = NIL;
	List *stubs = NIL;
	ListCell *lc;
	ForkNumber fork;
	int digits;

	while ((entry = ReadDir(dir, path)) != NULL)
	{
		if (!parse_filename_for_nontemp_relation(entry->d_name, &digits, &fork))
			continue;
		if (fork == INIT_FORKNUM)
			unlogged = lappend_oid(unlogged, (Oid) strtoul(entry->d_name, NULL, 10));
		else
			names = lappend(names, pstrdup(entry->d_name));
	}
	FreeDir(dir);
	list_sort(unlogged, list_oid_cmp);
	foreach (lc, names)
	{
		char *name = lfirst(lc);
		char *file = psprintf("%s/%s", path, name);
		struct stat st;

		if (stat(file, &st) == 0 && st.st_size > 0 &&
			!list_member_oid(unlogged, (Oid) strtoul(name, NULL, 10)))
			stubs = lappend(stubs, name);
		pfree(file);
	}
	return stubs;
}

static void
set_aside(Oid spc, Oid db, bool with_files)
{
	char *path = GetDatabasePath(db, spc);
	char *aside = psprintf("%s/" ASIDE, path);
	MemoryContext old;
	ListCell *lc;

	TablespaceCreateDbspace(spc, db, false);
	if (MakePGDirectory(aside) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m", aside)));
	old = MemoryContextSwitchTo(TopMemoryContext);
	aside_database = db;
	aside_tablespaces = lappend_oid(aside_tablespaces, spc);
	MemoryContextSwitchTo(old);

	if (!with_files)
		return;
	foreach (lc, list_stubs(path))
	{
		char *from = psprintf("%s/%s", path, (char *) lfirst(lc));
		char *to = psprintf("%s/%s", aside, (char *) lfirst(lc));

		if (rename(from, to) != 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not rename file \"%s\" to \"%s\": %m", from, to)));
	}
}

/*
 * Before a database's directories are copied, all of them, or that in one
 * tablespace (only_spc).  Nobody but this session may be connected to it, nor
 * come in.  If this session is, its own stubs stay where they are and become
 * zeros: it may open one meanwhile (the relation cache may have to look into
 * catalogs at any time), which would be made anew, and lose its name to the one
 * that is put back while this session goes on to make it longer.
 */
void
database_files_before_copy(Oid db, Oid only_spc)
{
	ListCell *lc;

	foreach (lc, OidIsValid(only_spc) ? list_make1_oid(only_spc) : all_tablespaces())
	{
		Oid spc = lfirst_oid(lc);

		if (directory_exists(GetDatabasePath(db, spc)) || store_has_relations(spc, db))
			set_aside(spc, db, db != MyDatabaseId);
	}
}

/* The directories with what was set aside are gone, or will be. */
void
database_files_forget(void)
{
	list_free(aside_tablespaces);
	aside_tablespaces = NIL;
}

/*
 * Puts back what was set aside.  Called at the end of transactions, too: without
 * its stub a relation would be as long as the store knows it, and what is in
 * shared buffers may be longer, so a failure is a PANIC.
 */
void
database_files_restore(void)
{
	ListCell *lc;

	foreach (lc, aside_tablespaces)
	{
		char path[MAXPGPATH];
		char aside[MAXPGPATH];
		char from[MAXPGPATH * 2];
		char to[MAXPGPATH * 2];
		char *dbpath = GetDatabasePath(aside_database, lfirst_oid(lc));
		DIR *dir;
		struct dirent *entry;

		strlcpy(path, dbpath, sizeof(path));
		pfree(dbpath);
		snprintf(aside, sizeof(aside), "%s/" ASIDE, path);
		dir = opendir(aside);
		while (dir != NULL && (entry = readdir(dir)) != NULL)
		{
			if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
				continue;
			snprintf(from, sizeof(from), "%s/%s", aside, entry->d_name);
			snprintf(to, sizeof(to), "%s/%s", path, entry->d_name);
			if (rename(from, to) != 0)
				ereport(PANIC,
						(errcode_for_file_access(),
						 errmsg("could not rename file \"%s\" to \"%s\": %m", from, to)));
		}
		if (dir == NULL || closedir(dir) != 0 || rmdir(aside) != 0)
			ereport(PANIC,
					(errcode_for_file_access(),
					 errmsg("could not remove directory \"%s\": %m", aside)));
	}
	database_files_forget();
}

/* Before a database is dropped: remove_dbtablespaces() shall find and log all tablespaces that it uses. */
void
database_files_before_drop(Oid db)
{
	ListCell *lc;

	foreach (lc, all_tablespaces())
	{
		Oid spc = lfirst_oid(lc);

		if (!directory_exists(GetDatabasePath(db, spc)) && store_has_relations(spc, db))
			TablespaceCreateDbspace(spc, db, false);
	}
}

/* Does a database's directory have more than what may be left of a move? */
bool
database_files_exist(const char *path)
{
	DIR *dir = AllocateDir(path);
	struct dirent *entry;
	bool exist = false;

	while (!exist && (entry = ReadDir(dir, path)) != NULL)
	{
		exist = strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
		for (int i = 0; i < lengthof(left_names); i++)
			if (strcmp(entry->d_name, left_names[i]) == 0)
				exist = false;
	}
	FreeDir(dir);
	return exist;
}

/*
 * Removes what is left of a move: commands that want the directory to be empty
 * would mind.  db InvalidOid: of all databases.
 */
void
database_files_remove_left(Oid spc, Oid db)
{
	char *path = spc == DEFAULTTABLESPACE_OID ? "base" : psprintf("pg_tblspc/%u/%s", spc, TABLESPACE_VERSION_DIRECTORY);
	DIR *dir = AllocateDir(path);
	struct dirent *entry;

	while (dir != NULL && (entry = ReadDir(dir, path)) != NULL)
	{
		Oid of = (Oid) strtoul(entry->d_name, NULL, 10);

		for (int i = 0; i < lengthof(left_names) && OidIsValid(of) && (of == db || !OidIsValid(db)); i++)
		{
			char *file = psprintf("%s/%s/%s", path, entry->d_name, left_names[i]);

			if (unlink(file) != 0 && errno != ENOENT)
				ereport(ERROR,
						(errcode_for_file_access(),
						 errmsg("could not remove file \"%s\": %m", file)));
		}
	}
	if (dir != NULL)
		FreeDir(dir);
}

/*
 * After ALTER DATABASE SET TABLESPACE has failed, when the copy was already
 * logged: the store has it.  PostgreSQL itself removes the files only.  Not
 * before: a stock server that recovers from this WAL forgets with this record
 * what it has not written of the database, and writes it when it copies.
 */
void
database_files_log_drop(Oid db, Oid spc)
{
	xl_dbase_drop_rec rec = {.db_id = db, .ntablespaces = 1};

	XLogBeginInsert();
	XLogRegisterData((char *) &rec, MinSizeOfDbaseDropRec);
	XLogRegisterData((char *) &spc, sizeof(Oid));
	(void) XLogInsert(RM_DBASE_ID, XLOG_DBASE_DROP | XLR_SPECIAL_REL_UPDATE);
}
