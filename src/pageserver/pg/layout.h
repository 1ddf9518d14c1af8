/*
 * layout.h
 *	  The layout of a data directory: names of files, the file of replication
 *	  origins, and initdb's options.  (control.h has pg_control.)
 *
 * Paths are relative to the data directory.  The caller frees those that are
 * returned as char *.
 */
#ifndef PS_PG_LAYOUT_H
#define PS_PG_LAYOUT_H

#include "access/transam.h"
#include "common/relpath.h"
#include "replication/origin.h"

#include "key.h"
#include "rel.h"

/* SLRU_PAGES_PER_SEGMENT of access/slru.h, which frontend code cannot include. */
#define PG_LAYOUT_SLRU_PAGES 32

#define PG_LAYOUT_RELMAP  "pg_filenode.map"
#define PG_LAYOUT_ORIGINS "pg_logical/replorigin_checkpoint"

/*
 * The file of replication origins.  Both definitions are private to PostgreSQL's
 * replication/logical/origin.c.
 */
#define REPLICATION_STATE_MAGIC ((uint32) 0x1257DADE)
typedef struct ReplicationStateOnDisk
{
	RepOriginId roident;
	XLogRecPtr remote_lsn;
} ReplicationStateOnDisk;

/* The directories that initdb creates, except those of databases.  Parents come first; NULL ends the list. */
extern const char *const pg_layout_directories[];

/* The contents of PG_VERSION. */
extern const char pg_layout_version[];

/* The directory of the databases in a tablespace other than pg_default and pg_global. */
extern char *pg_layout_tablespace_path(Oid spc);

/* The directory of a database, of the shared relations if db is 0. */
extern char *pg_layout_database_path(Oid spc, Oid db);

/* A segment of a fork. */
extern char *pg_layout_fork_path(PsRel rel, ForkNumber fork, uint32 segno);

extern char *pg_layout_slru_path(PsSlru slru, uint32 segno);
extern char *pg_layout_twophase_path(TransactionId xid);

/* These parse the name of a directory entry.  They return false if it is something else. */
extern bool pg_layout_parse_oid(const char *name, Oid *oid);
extern bool pg_layout_parse_relation(const char *name, Oid *rel, ForkNumber *fork, uint32 *segno);
extern bool pg_layout_parse_slru(const char *name, uint32 *segno);
extern bool pg_layout_parse_twophase(const char *name, TransactionId *xid);

/* Fills argv, which has PG_LAYOUT_INITDB_ARGS elements, with the command line of initdb. */
#define PG_LAYOUT_INITDB_ARGS 16
extern void pg_layout_initdb_args(const char *program, const char *pgdata, bool data_checksums, const char **argv);

#endif /* PS_PG_LAYOUT_H */
