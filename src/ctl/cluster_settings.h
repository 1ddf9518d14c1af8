/*
 * cluster_settings.h
 *	  Settings of an imported cluster that are not in its data directory.
 *	  Debian, for example, keeps them in /etc/postgresql.
 */
#ifndef PS_CLUSTER_SETTINGS_H
#define PS_CLUSTER_SETTINGS_H

#include "stored_settings.h"

/*
 * Returns the path of the cluster's postgresql.conf: the one that its last
 * server was started with (postmaster.opts), or the one at Debian's location.
 * malloc'd; NULL if there is none.
 */
extern char *cluster_settings_find(const char *pgdata);

/* Does the data directory contain a postgresql.conf? */
extern bool cluster_settings_inside(const char *pgdata);

/*
 * Reads postgresql.conf with the files that it includes, and pg_hba.conf and
 * pg_ident.conf from where it says they are.  path is the path of
 * postgresql.conf or of its directory.  Ends the program if one of the files
 * cannot be read.
 */
extern void cluster_settings_read(const char *path, StoredSettings *settings);

/*
 * Removes all settings except those that affect the results of queries.  Sets
 * *lost to a list of the names of those removed; malloc'd.
 */
extern void cluster_settings_reduce(StoredSettings *settings, char **lost);

/*
 * Returns the value of a setting in postgresql.conf, malloc'd, or NULL if it is
 * not set.  path is the path of that file or of its directory.
 */
extern char *cluster_settings_value(const char *path, const char *name);

#endif /* PS_CLUSTER_SETTINGS_H */
