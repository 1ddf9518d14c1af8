/*
 * settings.h
 *	  The settings pageserver_smgr.*, as every process of the server sees them.
 */
#ifndef PS_SETTINGS_H
#define PS_SETTINGS_H

#include "access/xlogdefs.h"

/* Longest value of pageserver_smgr.store, including the terminating zero byte. */
#define STORE_ADDRESS_MAX 1024

extern char *ps_store;                    /* libpq connection string of the store; empty: the library is inactive */
extern char *ps_tenant;                   /* 32 hex digits */
extern char *ps_timeline;                 /* 32 hex digits */
extern char *ps_generation_text;          /* decimal number */
extern uint64 ps_generation;              /* the same number, parsed */
extern char *ps_checkpoint_lsn_text;      /* location of the shutdown checkpoint in the base backup */
extern XLogRecPtr ps_checkpoint_lsn;      /* the same LSN, parsed */
extern int ps_cache_size;                 /* MB: size of the local page cache */
extern int ps_cache_limit;                /* MB: size that kept pages may grow the cache to; -1: free disk space */
extern char *ps_cache_path;               /* file of the page cache, relative to the data directory */
extern int ps_lsn_cache_entries;          /* blocks whose last-written LSN is remembered individually */
extern int ps_readahead;                  /* blocks requested ahead of a sequential read; 0: none */
extern int ps_connect_retry;              /* ms: longest pause between attempts to connect (connect_retry_max_delay) */
extern int ps_response_timeout;           /* ms without an answer before a request is sent again; 0: no limit */
extern int ps_shutdown_timeout;           /* ms that a shutdown waits for the store to receive all WAL */
extern bool ps_rehearsal;                 /* exit when startup would have succeeded (rehearsal.c) */
extern int ps_catalog_read_interval;      /* s between searches for databases to read ahead; 0: never */
extern int ps_max_wal_lag;                /* MB of unacknowledged WAL at which writers are slowed down; 0: no limit */
extern bool ps_wait_for_commits_in_doubt; /* see commits.c */

/*
 * Defines the settings and, if a store is set, forces the PostgreSQL settings
 * that a compute requires (overrides.h).  FATAL if a setting is invalid.  To be
 * called from _PG_init while shared_preload_libraries are loaded: configuration
 * files have been read, but nothing has been sized by them yet.
 */
extern void settings_init(void);

/* Raises an ERROR unless this server is a compute.  For SQL functions. */
extern void settings_require_compute(void);

#endif /* PS_SETTINGS_H */
