/*
 * cluster_settings.h
 *	  Settings of a cluster that is imported, if they are not in its data
 *	  directory: Debian has them in /etc/postgresql.
 */
#ifndef PS_CLUSTER_SETTINGS_H
#define PS_CLUSTER_SETTINGS_H

#include "branch_settings.h"

/*
 * The file that names postgresql.conf of the cluster: as its last server was
 * started (postmaster.opts), or where Debian has it.  malloc'd; NULL: not found.
 */
extern char *cluster_settings_find(const char *pgdata);

/* Has the data directory a postgresql.conf of its own? */
extern bool cluster_settings_inside(const char *pgdata);

/*
 * Reads postgresql.conf, with what it includes, pg_hba.conf and pg_ident.conf
 * where it says that they are, into texts; ends the program if it cannot be
 * read.  path: of the file, or of the directory that it is in.
 */
extern void cluster_settings_read(const char *path, BranchSettings *settings);

/*
 * Of settings that were read leaves those only that decide what a query
 * answers.  *lost: the names of the others, malloc'd.
 */
extern void cluster_settings_reduce(BranchSettings *settings, char **lost);

/* A setting in postgresql.conf of the directory or file, malloc'd; NULL: it is not set. */
extern char *cluster_settings_value(const char *path, const char *name);

#endif /* PS_CLUSTER_SETTINGS_H */
