/*
 * compute.h
 *	  What the parts of pageserver_smgr.so know of each other.
 *
 * Arrows: smgr -> page_cache, lsn_cache, page_client; page_cache -> keep, lsn_cache; sizes, stats -> all of
 * them; wal_worker -> store_conn, shutdown, catalog_reader; page_client -> store_conn;
 * shutdown -> page_cache, keep; hooks -> commits, database_files, known_databases;
 * catalog_reader -> sizes, page_cache, known_databases; sizes -> known_databases.
 */
#ifndef PS_COMPUTE_H
#define PS_COMPUTE_H

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "storage/relfilenode.h"
#include "storage/smgr.h"

#include "libpq-fe.h"
#include "rel.h"
#include "wire.h"

/* Longest connection string of the store, its zero byte included. */
#define STORE_ADDRESS_MAX 1024

/* ---- settings.c: pageserver_smgr.* ---- */
extern char *ps_store;  /* .store: libpq connection string of the store; empty: the library does nothing */
extern char *ps_tenant; /* .tenant, .timeline: 32 hex digits */
extern char *ps_timeline;
extern char *ps_generation_text; /* .generation: decimal */
extern uint64 ps_generation;
extern char *ps_checkpoint_lsn_text; /* .checkpoint_lsn: the shutdown checkpoint that the base backup was made with */
extern XLogRecPtr ps_checkpoint_lsn;
extern int ps_cache_size;                 /* .cache_size, MB: size of the local page cache (default 1GB) */
extern int ps_cache_limit;                /* .cache_limit, MB: most that pages which must be kept may push it to; -1 (default): what the disk has */
extern char *ps_cache_path;               /* .cache_path: file, relative to the data directory (default "pageserver_smgr.cache") */
extern int ps_lsn_cache_entries;          /* .lsn_cache_entries (default 131072) */
extern int ps_readahead;                  /* .readahead: blocks asked for ahead of a sequential read (default 32, 0: off, max 128) */
extern int ps_connect_retry;              /* .connect_retry_max_delay, ms, longest pause between attempts (default 1000) */
extern int ps_response_timeout;           /* .response_timeout, ms without an answer after which a request goes over another connection (default 120000, 0: off) */
extern int ps_shutdown_timeout;           /* .shutdown_timeout, ms: how long a shutdown waits for the store to have all WAL (default 10000) */
extern bool ps_rehearsal;                 /* .rehearsal: see rehearsal.c (default off, on the command line only) */
extern int ps_max_wal_lag;                /* .max_wal_lag, MB not yet acknowledged before smgr calls sleep (default 512, 0: off) */
extern int ps_catalog_read_interval;      /* .catalog_read_interval, s (default 60, 0: off) */
extern bool ps_wait_for_commits_in_doubt; /* .wait_for_commits_in_doubt (default on) */

/* From _PG_init: defines the settings, and sets with PGC_S_OVERRIDE what a compute needs (docs/postgres-facts.md, section 9). */
extern void settings_init(void);

/* ---- rehearsal.c ---- */
extern void rehearsal_end(void) pg_attribute_noreturn(); /* the last of shmem_startup_hook */

/* ---- keep.c: which written pages the store could not give back ---- */

/* Why a page must not leave the local cache (README.md).  Bits. */
#define KEEP_NO_LSN              0x01 /* built without WAL: until written with a real LSN or dropped */
#define KEEP_OPEN_XACT           0x02 /* holds tuples of open transactions: until none of oldest_xid to newest_xid runs */
#define KEEP_BTREE_CYCLE         0x04 /* btpo_cycleid set: until no VACUUM of an index has that cycle ID */
#define KEEP_COMPUTE_LIFE        0x08 /* visibility map, sequence: as long as the compute lives */
#define KEEP_UNKNOWN_PERSISTENCE 0x10 /* nobody could tell: as KEEP_NO_LSN */
#define KEEP_MULTI               0x20 /* with KEEP_OPEN_XACT, for a multixact: the range is of all that ran */

/* Those that do not end by themselves. */
#define KEEP_UNTIL_WRITTEN (KEEP_NO_LSN | KEEP_COMPUTE_LIFE | KEEP_UNKNOWN_PERSISTENCE)

#define KEEP_ANY_CYCLE 0 /* as btree_cycleid: no VACUUM has it, stands for any */

typedef struct PageKeep
{
	TransactionId oldest_xid; /* with KEEP_OPEN_XACT: top-level transactions that ran when the page was written */
	TransactionId newest_xid;
	uint16 btree_cycleid; /* with KEEP_BTREE_CYCLE */
	uint16 reasons;
} PageKeep;

extern void page_keep_startup_shmem(void);

/*
 * Must the page be kept, as things are now?  Takes what running.h says, and
 * BtreeVacuumLock.  May say yes for some milliseconds too long, unless
 * running_look_again() was called.
 */
extern bool page_keep_holds(const PageKeep *keep);

/*
 * Of a page that is kept for KEEP_MULTI, as it was written: finds out for which
 * transactions it must be kept, if page_keep_can_resolve() says that this
 * process may, in the state that it is in.  Takes the locks under which
 * PostgreSQL reads and writes pg_multixact.
 */
extern bool page_keep_can_resolve(void);
extern void page_keep_resolve(PageKeep *keep, const char *page);

/* Makes sum hold as long as keep does. */
extern void page_keep_merge(PageKeep *sum, const PageKeep *keep);

/* ---- page_cache*.c: pages in a local file, shared by all processes; more in page_cache.h ---- */

extern void page_cache_request_shmem(void); /* shmem_request_hook */
extern void page_cache_startup_shmem(void); /* shmem_startup_hook */

/* True and the page, if the cache has it.  ERROR only if a kept page cannot be read. */
extern bool page_cache_read(PsRel rel, ForkNumber fork, BlockNumber blk, char *page);

/* Has it, without reading or counting. */
extern bool page_cache_has(PsRel rel, ForkNumber fork, BlockNumber blk);

/*
 * The page as PostgreSQL writes it, its last-written LSN raised before:
 * replaces what is there, keep reasons included.  Not kept: best effort, I/O
 * errors only forget the page.  Kept: an ERROR with a hint if the limit is
 * reached, the disk is full, or the file cannot be written.
 */
extern void page_cache_write(PsRel rel, ForkNumber fork, BlockNumber blk, const char *page, const PageKeep *keep);

/*
 * A page as the store gave it, which was read at store_lsn: taken only if the
 * cache has nothing of the block and, looked at under the slot's lock, its
 * last-written LSN is not beyond store_lsn.
 */
extern void page_cache_fill(PsRel rel, ForkNumber fork, BlockNumber blk, const char *page, XLogRecPtr store_lsn);

/*
 * Forget: blocks of a fork from nblocks on; a fork; a database in a tablespace
 * (spc 0: in all).  old_blocks is how long the fork was (InvalidBlockNumber:
 * not known, then all slots may have to be looked at).  May be called in a
 * critical section.
 */
extern void page_cache_truncate(PsRel rel, ForkNumber fork, BlockNumber old_blocks, BlockNumber nblocks);
extern void page_cache_drop_fork(PsRel rel, ForkNumber fork, BlockNumber old_blocks);
extern void page_cache_drop_database(Oid spc, Oid db);

/* The sorted GiST build: lets pages of the fork kept for KEEP_NO_LSN go, giving them the last-written LSN. */
extern void page_cache_release_no_lsn(PsRel rel, ForkNumber fork, BlockNumber nblocks, XLogRecPtr lsn);

/* Relations whose first block is kept for a reason of KEEP_UNTIL_WRITTEN: palloc'd. */
extern PsRel *page_cache_held_relations(int *nrels);

typedef struct PageCacheStats
{
	uint64 size_pages;    /* of cache_size */
	uint64 limit_pages;   /* of cache_limit; PG_UINT64_MAX: none */
	uint64 used_pages;    /* spilled pages included */
	uint64 spilled_pages; /* beyond cache_size */
	uint64 kept_pages;    /* counted when asked: pages with a reason that holds now */
	uint64 hits;
	uint64 misses;
	uint64 writes;
	uint64 fills;
	uint64 evictions;
	uint64 io_errors;
} PageCacheStats;

extern void page_cache_stats(PageCacheStats *stats);
extern bool page_cache_has_room(void); /* a part of cache_size is free */
extern void page_cache_clear(void);    /* forgets what need not be kept, also if the store must be waited for to get it back */

/*
 * If WAL may soon find no room in the file system: gives up pages that need not
 * be kept, and the disk space that they take.  To be called now and then.
 */
extern void page_cache_leave_room(void);
extern void page_cache_xact_init(void); /* from _PG_init: gives spilled pages back when transactions end */
extern void page_cache_room_init(void); /* from _PG_init: says why a transaction was ended */

/* ---- lsn_cache.c: last-written LSNs; only ever rise ---- */
extern void lsn_cache_request_shmem(void);
extern void lsn_cache_startup_shmem(void);
extern XLogRecPtr lsn_cache_get(PsRel rel, ForkNumber fork, BlockNumber blk);
extern void lsn_cache_set_block(PsRel rel, ForkNumber fork, BlockNumber blk, XLogRecPtr lsn);
extern void lsn_cache_set_relation(PsRel rel, XLogRecPtr lsn); /* truncate, create, drop: all its blocks */
extern void lsn_cache_set_all(XLogRecPtr lsn);
extern XLogRecPtr lsn_cache_get_relation(PsRel rel); /* for sizes */
extern XLogRecPtr lsn_cache_get_floor(void);         /* what lsn_cache_set_all() was last told */
extern XLogRecPtr lsn_cache_get_max(void);           /* for database sizes */

/*
 * The end of the last WAL record inserted by anybody, for the functions above:
 * GetXLogInsertRecPtr(), taken back to the start of the page if it points just
 * past a page header.
 */
extern XLogRecPtr lsn_cache_insert_position(void);

/* ---- store_conn.c: a libpq connection to the store ---- */

typedef struct StoreConn
{
	PGconn *pg;                    /* non-blocking, in the COPY BOTH state */
	struct WaitEventSet *wait_set; /* its socket, the process latch, death of the postmaster */
	int socket_pos;                /* where the socket is in wait_set */
	uint32 socket_events;          /* what wait_set waits for on the socket */
	uint32 store_version;          /* of the address: see wal_progress_store() */
	bool latch_was_set;            /* a wait has reset the process latch since the caller cleared this */
} StoreConn;

/*
 * Connects without blocking (PQconnectStart, waiting on the latch), sends the
 * command and expects CopyBothResponse.  Returns NULL with *error (palloc'd)
 * and *sqlstate set if that fails or takes longer than timeout_ms; sqlstate is
 * PS_SQLSTATE_CONNECTION if the store did not get to answer the command.
 * Answers to interrupts as store_conn_interrupts() does.
 */
extern StoreConn *store_conn_open(const char *command, const char *application_name, int timeout_ms, uint32 wait_event,
								  char **error, char sqlstate[6]);
extern void store_conn_close(StoreConn *conn);

/*
 * Waits until the store has sent something, can take more (if want_write), the
 * latch is set (it is reset then) or timeout_ms have passed (-1: for ever).
 * Does not look at interrupts.
 */
extern void store_conn_wait(StoreConn *conn, bool want_write, long timeout_ms, uint32 wait_event);

/*
 * Why the conversation ended, after PQgetCopyData() returned less than 0 or a
 * call failed: palloc'd text, and the store's SQLSTATE if it sent one, else
 * PS_SQLSTATE_CONNECTION.
 */
extern char *store_conn_error(StoreConn *conn, char sqlstate[6]);

/*
 * To be called in every wait on the store.  Reads happen with content locks
 * held, where CHECK_FOR_INTERRUPTS() does nothing: looks at QueryCancelPending
 * and ProcDiePending itself and, outside critical sections and commit or abort,
 * raises the cancel as an ERROR, as a failing read would.  So it does with
 * ShutdownRequestPending.
 */
extern void store_conn_interrupts(void);

/* A newer compute runs the timeline: LOG/FATAL says who, the postmaster is told to stop at once.  Does not return. */
extern void store_conn_superseded(const char *message) pg_attribute_noreturn();

/* The store does not know the timeline: the same.  For the WAL worker, which all others leave that to. */
extern void store_conn_gone(const char *message) pg_attribute_noreturn();

/* ---- page_client.c: requests of this process ---- */

/* n pages of one fork, into pages[i] each; returns when all are there.  Retries for ever over lost connections. */
extern XLogRecPtr page_client_read(PsRel rel, ForkNumber fork, const BlockNumber *blks, int n,
								   XLogRecPtr not_modified_since, char *const *pages);

/* Sends requests for blocks without waiting; best effort: never throws, never connects, may do nothing. */
extern void page_client_prefetch(PsRel rel, ForkNumber fork, const BlockNumber *blks, int n, XLogRecPtr not_modified_since);

/*
 * If the block was prefetched by this process: waits for its answer; true and
 * the page if the answer's LSN is at least min_lsn (the block's last-written
 * LSN now); false: ask again.  Either way the prefetched copy is gone.
 */
extern bool page_client_take_prefetched(PsRel rel, ForkNumber fork, BlockNumber blk, XLogRecPtr min_lsn, char *page,
										XLogRecPtr *store_lsn);
extern bool page_client_is_prefetched(PsRel rel, ForkNumber fork, BlockNumber blk);

extern bool page_client_relsize(PsRel rel, ForkNumber fork, XLogRecPtr not_modified_since, BlockNumber *nblocks);

/*
 * The forks that the store has now of a database in a tablespace, or of all
 * databases in it (db InvalidOid): palloc'd.  If the store cannot be reached,
 * NULL unless wait.
 */
extern PsForkSize *page_client_forks(Oid spc, Oid db, bool wait, int *n);

/* Shared counters over all backends (requests, pages, prefetch hits, wait time, reconnects). */
typedef struct PageClientStats
{
	uint64 requests;
	uint64 pages;
	uint64 prefetched;
	uint64 prefetch_hits;
	uint64 prefetch_dropped;
	uint64 reconnects;
	uint64 wait_usec;
} PageClientStats;

extern void page_client_request_shmem(void);
extern void page_client_startup_shmem(void);
extern void page_client_stats(PageClientStats *stats);

/* ---- wal_worker.c ---- */
extern void wal_worker_register(void); /* from _PG_init */

/* ---- wal_progress.c ---- */
extern void wal_worker_request_shmem(void);
extern void wal_worker_startup_shmem(void);

/* Longest text of an error, or of what is waited for, its zero byte included. */
#define WAIT_TEXT 256

typedef struct WalWorkerState
{
	int pid; /* 0: not running */
	bool connected;
	XLogRecPtr sent;
	XLogRecPtr flushed;  /* acknowledged: durable in the store */
	XLogRecPtr ingested; /* reads in the store see it */
	TimestampTz connected_since;
	char last_error[WAIT_TEXT];
	char waits_for[WAIT_TEXT]; /* what WAL, or readers, wait for; "": nothing */
	TimestampTz waits_since;
} WalWorkerState;

extern void wal_worker_state(WalWorkerState *state);
extern bool wal_worker_is_connected(void);

/* A reader could not get a connection, for this reason. */
extern void wal_progress_reader_waits(const char *error);

/*
 * Where the store is, into address, of STORE_ADDRESS_MAX bytes; returns the
 * version of that.  The last tells whether it has changed since: then a
 * connection to it is of no use any more.  Processes that wait for the store
 * take changes of the setting from here.
 */
extern uint32 wal_progress_store(char *address);
extern uint32 wal_progress_store_version(void);
extern bool wal_progress_store_changed(uint32 version);

/* ingested alone, without a lock: reads up to here do not wait in the store.  Never falls. */
extern XLogRecPtr wal_worker_ingested(void);

/* The server shuts down, and has done so for longer than shutdown_timeout: nothing is to be waited for any more. */
extern bool wal_worker_shutdown_is_overdue(void);

/* Sleeps while more than max_wal_lag is not acknowledged; called by smgr's extend and write in ordinary backends. */
extern void wal_worker_backpressure(void);

/*
 * Makes sure that the store can be asked for lsn: flushes WAL up to it (an LSN
 * just after a page header is taken back to the page's start).  Returns the
 * LSN to ask with.
 */
extern XLogRecPtr wal_worker_flush_for_read(XLogRecPtr lsn);

/* A commit has not waited for the store to acknowledge WAL up to lsn, as it should have. */
extern void wal_worker_note_in_doubt(XLogRecPtr lsn);

/* Waits until the store has acknowledged all of these.  Answers to interrupts. */
extern void wal_worker_wait_for_commits_in_doubt(void);

/* ---- commits.c: commits that the store has not acknowledged ---- */
extern void commits_install(void); /* from _PG_init */

/*
 * After a command whose last record, and the last of this backend, was waited
 * for: COMMIT PREPARED (commit), ROLLBACK PREPARED.  ProcLastRecPtr is its
 * start; the store acknowledges only whole records.
 */
extern void commits_check_last_record(bool commit);

/* Another client has this session now. */
extern void commits_new_session(void);

/* A function is about to be called, maybe without a statement (fastpath.c). */
extern void commits_function_call(void);

/* ---- shutdown.c ---- */
extern void log_before_shutdown(void);

/* Sequences of a database (InvalidOid: of all) whose WAL is ahead of their pages: logged as they are. */
extern void log_sequences(Oid db);

/* ---- stop_files.c ---- */
extern void stop_files_init(void);

/* ---- database_files.c ---- */
extern void database_files_before_copy(Oid db, Oid only_spc);
extern void database_files_forget(void);
extern void database_files_restore(void);
extern void database_files_before_drop(Oid db);
extern bool database_files_exist(const char *path);
extern void database_files_remove_left(Oid spc, Oid db);
extern void database_files_log_drop(Oid db, Oid spc);

/* OIDs; global is none of them. */
extern List *all_tablespaces(void);

/* Does the store have a relation, if only an empty one, of the database (InvalidOid: of any) in the tablespace? */
extern bool store_has_relations(Oid spc, Oid db);

/* ---- smgr_hook.c, smgr.c, persistence.c, keep.c, stub.c, readahead.c: more in smgr.h ---- */
extern void stub_request_shmem(void);
extern void stub_startup_shmem(void);
extern void stub_forget_database(Oid db); /* what is known not to exist */
extern void smgr_xact_init(void);         /* from _PG_init */
extern void smgr_hook_install(void);      /* from _PG_init; FATAL unless the table is found exactly once */

/* ---- functions.c ---- */

/*
 * From _PG_init: every call of a function of the main program, whose name is
 * for a message, goes to the replacement.  FATAL if that cannot be done.
 */
extern void function_replace(const char *name, void *function, void *replacement);

/* ---- numbers.c ---- */

/* Before a utility command, in a transaction: the next file numbers that are taken can be seen to be. */
extern void numbers_before_command(NodeTag tag);

/* ---- sizes.c ---- */
extern void sizes_install(void);          /* from _PG_init: replaces the size functions */
extern void sizes_learn_database(Oid db); /* known_size_set(), if it is not known and the store can be reached */

/* ---- known_databases.c: what is known of them without asking the store ---- */
extern void known_databases_request_shmem(void);
extern void known_databases_startup_shmem(void);

/* The size of a database (spc InvalidOid), or of a tablespace (db InvalidOid), as of now; false if none is known. */
extern void known_size_set(Oid spc, Oid db, int64 size);
extern bool known_size_get(Oid spc, Oid db, int64 *size, TimestampTz *as_of);

/* How often it is tried to read the catalogs of a database. */
#define CATALOG_TRIES 3

extern bool known_catalogs_wanted(Oid db);
extern void known_catalogs_tried(Oid db, int tries); /* so many more; CATALOG_TRIES: they have been read */
extern void known_forget(Oid spc, Oid db);

/* ---- catalog_reader.c ---- */
/* For the WAL worker.  To be called often: starts what reads catalogs, if it is time; ms until then. */
extern void catalog_reader_start(void);
extern long catalog_reader_due(void);

/* ---- replication.c: base backups, connections of walsenders ---- */
extern void replication_install(void); /* from _PG_init */

/* ---- stats.c ---- */
extern void check_active(void); /* an error unless this server is a compute */

/* Where the store is, out of the connection string: no passwords, and only what was given; palloc'd. */
extern char *store_address(void);

/* ---- hooks.c: ProcessUtility, object access */
extern void hooks_install(void);

#endif /* PS_COMPUTE_H */
