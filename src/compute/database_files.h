/*
 * database_files.h
 *	  The local directories of databases, for commands that copy, move or remove
 *	  them.
 */
#ifndef PS_DATABASE_FILES_H
#define PS_DATABASE_FILES_H

#include "nodes/pg_list.h"

/*
 * Hides the stubs in a database's directories, which are about to be copied: of
 * all tablespaces, or of only_spc.  Creates directories that do not exist locally
 * but whose relations the store has.  The caller holds locks on the database
 * that keep all other sessions out of it.  ERROR if a file cannot be moved.
 */
extern void database_files_before_copy(Oid db, Oid only_spc);

/* Moves hidden stubs back.  PANIC if that fails. */
extern void database_files_restore(void);

/* Forgets about hidden stubs: their directories have been removed, or will be. */
extern void database_files_forget(void);

/* Creates directories for all tablespaces that a database uses, so that DROP DATABASE finds and logs them. */
extern void database_files_before_drop(Oid db);

/* Does a database's directory contain more than a killed ALTER DATABASE SET TABLESPACE may have left there? */
extern bool database_files_exist(const char *path);

/* Removes the files that such a command left in the directory of a database (InvalidOid: of all) in a tablespace. */
extern void database_files_remove_left(Oid spc, Oid db);

/* Logs that the copy of a database in a tablespace has been removed, after ALTER DATABASE SET TABLESPACE has failed. */
extern void database_files_log_drop(Oid db, Oid spc);

/* The OIDs of all tablespaces that databases can use (not pg_global); palloc'd. */
extern List *database_files_tablespaces(void);

/* Does the store have a relation of a database (InvalidOid: of any) in a tablespace?  Waits for the store. */
extern bool database_files_in_store(Oid spc, Oid db);

#endif /* PS_DATABASE_FILES_H */
