/*
 * wal_progress.h
 *	  How far the store has received this compute's WAL.
 *
 * The WAL worker maintains that in shared memory; any process may call these
 * functions, and none of them asks the store.
 */
#ifndef PS_WAL_PROGRESS_H
#define PS_WAL_PROGRESS_H

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"

extern void wal_progress_request_shmem(void); /* from shmem_request_hook */
extern void wal_progress_startup_shmem(void); /* from shmem_startup_hook; caller holds AddinShmemInitLock */

/* Longest text of an error or of a reason to wait, including the terminating zero byte. */
#define WAIT_TEXT 256

typedef struct WalWorkerState
{
	int pid;        /* 0: not running */
	bool connected; /* WAL is being streamed */
	XLogRecPtr sent;
	XLogRecPtr flushed;  /* acknowledged: durable in the store */
	XLogRecPtr ingested; /* visible to reads in the store */
	TimestampTz connected_since;
	char last_error[WAIT_TEXT];
	char waits_for[WAIT_TEXT]; /* why commits, or else reads, wait now; empty: they do not */
	TimestampTz waits_since;
} WalWorkerState;

/* Copies the state.  Takes a spinlock. */
extern void wal_progress_state(WalWorkerState *state);

/* Is WAL being streamed to the store? */
extern bool wal_progress_is_connected(void);

/* Up to here reads do not have to wait in the store.  Never falls.  Takes no lock. */
extern XLogRecPtr wal_progress_ingested(void);

/* Called by a process that cannot get a connection for reads, with the reason. */
extern void wal_progress_reader_waits(const char *error);

/*
 * Copies the current value of pageserver_smgr.store into address, which has room
 * for STORE_ADDRESS_MAX bytes, and returns the version of the value.
 * wal_progress_store_changed() returns true if the value has changed since a
 * version; then a connection made with it must be closed.  A process that waits
 * for the store does not reload its configuration, so it has to ask here.
 */
extern uint32 wal_progress_store(char *address);
extern uint32 wal_progress_store_version(void);
extern bool wal_progress_store_changed(uint32 version);

/* Place of the host among those of the address (store_hosts.h) that last served our tenant, to be tried first. */
extern uint32 wal_progress_store_host(void);
extern void wal_progress_set_store_host(uint32 host);

/* Has a shutdown of the server been going on for longer than shutdown_timeout?  Then nothing should be waited for. */
extern bool wal_progress_shutdown_is_overdue(void);

/*
 * Makes writers wait while more than max_wal_lag of WAL is not acknowledged: until
 * it is less if the caller can be interrupted, else briefly.  Does nothing in
 * critical sections, outside transactions and at process exit.
 */
extern void wal_progress_backpressure(void);

/*
 * Flushes WAL up to lsn, so that the store will receive it, and returns the LSN
 * to use in a request: lsn, or the start of the WAL page if lsn points just past
 * a page header.
 */
extern XLogRecPtr wal_progress_flush_for_read(XLogRecPtr lsn);

/*
 * Commits in doubt (commits.c): notes that a commit record that ends at lsn is
 * visible although the store has not acknowledged it; waits until the store
 * has acknowledged all that were noted, which interrupts end.
 */
extern void wal_progress_note_in_doubt(XLogRecPtr lsn);
extern void wal_progress_wait_for_commits_in_doubt(void);

#endif /* PS_WAL_PROGRESS_H */
