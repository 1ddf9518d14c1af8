/*
 * database_files.c
 *	  Local directories of databases, for commands that copy or remove them:
 *	  CREATE DATABASE with STRATEGY FILE_COPY, ALTER DATABASE SET TABLESPACE, DROP
 *	  DATABASE.
 *
 * These commands find the tablespaces of a database by its directories, and log
 * only those.  A tablespace in which this compute has touched no relation of the
 * database has no directory, so it is created here.
 *
 * They copy files as they are, so that a stub would become as many zeros as its
 * relation is long.  Therefore stubs are hidden during the copy: moved into a
 * subdirectory, which PostgreSQL does not copy.  The copy gets stubs of its own
 * when they are needed.
 *
 * Only the backend that runs the command knows about hidden stubs.  It holds locks
 * on the database that keep out other sessions and other copies of it
 * (database_commands.c).
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
#include "utils/memutils.h"

#include "database_files.h"
#include "page_client.h"
#include "pg_compat.h"

#define HIDDEN_DIR "pageserver_smgr.stubs"

/*
 * Files, other than relations, that a base backup restores to the directory of a
 * database that was being moved when the server was killed.
 */
static const char *const left_names[] = {"PG_VERSION", "pg_filenode.map"};

/* The directories with hidden stubs: of one database, in these tablespaces. */
static Oid hidden_database;
static List *hidden_tablespaces; /* in TopMemoryContext */

List *
database_files_tablespaces(void)
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
database_files_in_store(Oid spc, Oid db)
{
	int n;

	pfree(page_client_forks(spc, db, true, &n));
	return n > 0;
}

/*
 * The names of the stubs in a database's directory, which are the files of
 * relations that are not temporary, and not unlogged (these have an init fork).
 * Empty files are left out: there is nothing to copy, and they may belong to
 * dropped relations, whose files the next checkpoint removes.
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
	Oid rel;

	while ((entry = ReadDir(dir, path)) != NULL)
	{
		if (!compat_parse_file_name(entry->d_name, &rel, &fork))
			continue;
		if (fork == INIT_FORKNUM)
			unlogged = lappend_oid(unlogged, rel);
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
hide_stubs(Oid spc, Oid db, bool with_files)
{
	char *path = GetDatabasePath(db, spc);
	char *hidden = psprintf("%s/" HIDDEN_DIR, path);
	MemoryContext old;
	ListCell *lc;

	TablespaceCreateDbspace(spc, db, false);
	if (MakePGDirectory(hidden) < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m", hidden)));
	old = MemoryContextSwitchTo(TopMemoryContext);
	hidden_database = db;
	hidden_tablespaces = lappend_oid(hidden_tablespaces, spc);
	MemoryContextSwitchTo(old);

	if (!with_files)
		return;
	foreach (lc, list_stubs(path))
	{
		char *from = psprintf("%s/%s", path, (char *) lfirst(lc));
		char *to = psprintf("%s/%s", hidden, (char *) lfirst(lc));

		if (rename(from, to) != 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not rename file \"%s\" to \"%s\": %m", from, to)));
	}
}

/*
 * If the session is connected to the database itself, its stubs are not hidden,
 * and the copy has zeros.  The session may need a stub at any time, because the
 * relation cache may have to read catalogs; it would create a new one, which
 * database_files_restore() would then replace while the session keeps extending
 * it.
 */
void
database_files_before_copy(Oid db, Oid only_spc)
{
	ListCell *lc;

	foreach (lc, OidIsValid(only_spc) ? list_make1_oid(only_spc) : database_files_tablespaces())
	{
		Oid spc = lfirst_oid(lc);

		if (directory_exists(GetDatabasePath(db, spc)) || database_files_in_store(spc, db))
			hide_stubs(spc, db, db != MyDatabaseId);
	}
}

void
database_files_forget(void)
{
	list_free(hidden_tablespaces);
	hidden_tablespaces = NIL;
}

/*
 * Also called at the end of transactions.  Without its stub a relation would
 * have the length that the store knows, but shared buffers may have more blocks
 * of it; hence PANIC.
 */
void
database_files_restore(void)
{
	ListCell *lc;

	foreach (lc, hidden_tablespaces)
	{
		char path[MAXPGPATH];
		char hidden[MAXPGPATH];
		char from[MAXPGPATH * 2];
		char to[MAXPGPATH * 2];
		char *dbpath = GetDatabasePath(hidden_database, lfirst_oid(lc));
		DIR *dir;
		struct dirent *entry;

		strlcpy(path, dbpath, sizeof(path));
		pfree(dbpath);
		snprintf(hidden, sizeof(hidden), "%s/" HIDDEN_DIR, path);
		dir = opendir(hidden);
		while (dir != NULL && (entry = readdir(dir)) != NULL)
		{
			if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
				continue;
			snprintf(from, sizeof(from), "%s/%s", hidden, entry->d_name);
			snprintf(to, sizeof(to), "%s/%s", path, entry->d_name);
			if (rename(from, to) != 0)
				ereport(PANIC,
						(errcode_for_file_access(),
						 errmsg("could not rename file \"%s\" to \"%s\": %m", from, to)));
		}
		if (dir == NULL || closedir(dir) != 0 || rmdir(hidden) != 0)
			ereport(PANIC,
					(errcode_for_file_access(),
					 errmsg("could not remove directory \"%s\": %m", hidden)));
	}
	database_files_forget();
}

/* remove_dbtablespaces() finds and logs only tablespaces with a directory. */
void
database_files_before_drop(Oid db)
{
	ListCell *lc;

	foreach (lc, database_files_tablespaces())
	{
		Oid spc = lfirst_oid(lc);

		if (!directory_exists(GetDatabasePath(db, spc)) && database_files_in_store(spc, db))
			TablespaceCreateDbspace(spc, db, false);
	}
}

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
 * The store has applied the copy, whereas PostgreSQL, which removes the files,
 * does not log that.  This must not be logged earlier: at this record a stock
 * server that recovers from the WAL forgets what it has not written yet of the
 * database, and it writes that when it replays the copy.
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
