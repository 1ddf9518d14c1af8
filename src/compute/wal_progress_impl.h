/*
 * wal_progress_impl.h
 *	  The state of the WAL worker in shared memory.  Private to wal_progress.c,
 *	  wal_worker*.c and stop_files.c.
 */
#ifndef PS_WAL_PROGRESS_IMPL_H
#define PS_WAL_PROGRESS_IMPL_H

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/spin.h"

#include "settings.h"
#include "wal_progress.h"

typedef struct WalProgress
{
	slock_t mutex; /* protects the fields up to store_served */
	int pid;
	bool connected;
	TimestampTz connected_since;
	char last_error[WAIT_TEXT];

	/*
	 * What this compute waits for, and since when: WAL, according to the worker
	 * (empty: nothing); and reads, according to the process that last failed to
	 * get a connection although the worker had one.
	 */
	char waits_for[WAIT_TEXT];
	TimestampTz waits_since;
	char readers_wait_for[WAIT_TEXT];
	TimestampTz readers_since;
	TimestampTz readers_seen; /* when a reader last reported it */

	/*
	 * pageserver_smgr.store as set in the worker, for all processes: a backend
	 * that waits for the store does not reload its configuration.
	 */
	char store[STORE_ADDRESS_MAX];
	uint32 store_served; /* last store_version with which the store had our timeline; 0: none yet */

	pg_atomic_uint32 store_version; /* starts at 1; incremented with the mutex held when the address changes */

	/*
	 * Place of the host in the connection string (store_hosts.h) that last accepted a
	 * connection for our tenant.  Any process sets it: only the order in which hosts
	 * are tried depends on it.
	 */
	pg_atomic_uint32 store_host;

	/* Written only by the worker.  flushed and ingested never fall. */
	pg_atomic_uint64 sent;
	pg_atomic_uint64 flushed;
	pg_atomic_uint64 ingested;

	ConditionVariable acknowledged; /* signaled when flushed rises */

	/*
	 * End of the newest commit record that is visible without having been
	 * acknowledged when its wait ended.  Raised by compare-and-swap.
	 */
	pg_atomic_uint64 in_doubt;

	/*
	 * When the postmaster told the worker to stop, which means that the server
	 * is shutting down; 0: it has not.  Written only by the worker.
	 */
	pg_atomic_uint64 stopping_since;

	/*
	 * End of WAL when the worker exited, if the store had acknowledged all of
	 * it; otherwise 0.  Written only by the worker.
	 */
	pg_atomic_uint64 stopped_at;
} WalProgress;

extern WalProgress *wal_progress; /* set at server start */

/*
 * The following functions are for the WAL worker only.
 *
 * Records whether WAL is being streamed, and an error; NULL leaves the last
 * error unchanged.
 */
extern void wal_progress_set_connected(bool connected, const char *error);

/* Records an error although streaming continues. */
extern void wal_progress_set_error(const char *error);

/*
 * Records what WAL waits for (empty: nothing), since a time or, if since is 0,
 * since now.  Returns since when WAL has been waiting until this call; 0: it was
 * not waiting.
 */
extern TimestampTz wal_progress_set_waits(const char *waits_for, TimestampTz since);

/* Makes the worker's value of pageserver_smgr.store the one for all processes. */
extern void wal_progress_publish_store(void);

/*
 * Records that the store at this version of the address has our timeline.
 * wal_progress_is_served() returns false if the store had it at an older version
 * but has not been seen to have it at this one, so that the address may be
 * wrong.
 */
extern void wal_progress_set_served(uint32 version);
extern bool wal_progress_is_served(uint32 version);

#endif /* PS_WAL_PROGRESS_IMPL_H */
