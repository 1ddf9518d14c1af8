/*
 * wal_progress.h
 *	  How far the WAL worker is: wal_worker*.c write it, wal_progress.c tells
 *	  others.
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
	slock_t mutex; /* protects what follows, up to store_served */
	int pid;
	bool connected;
	TimestampTz connected_since;
	char last_error[WAIT_TEXT];

	/*
	 * What this compute waits for, and since when: WAL, as the worker knows it
	 * ("": nothing), and readers, as the last of them knew it that failed to get
	 * a connection though the worker has one.
	 */
	char waits_for[WAIT_TEXT];
	TimestampTz waits_since;
	char readers_wait_for[WAIT_TEXT];
	TimestampTz readers_since;
	TimestampTz readers_seen; /* when the last one told */

	/*
	 * pageserver_smgr.store as the worker has it, for all processes: a backend
	 * that waits for the store does not take over changed settings meanwhile.
	 */
	char store[STORE_ADDRESS_MAX];
	uint32 store_served; /* the version (see below) at which the store was that of our timeline; 0: none yet */

	pg_atomic_uint32 store_version; /* from 1 on; raised, under the mutex, when the address changes */

	/* Written by the worker only.  flushed and ingested never fall. */
	pg_atomic_uint64 sent;
	pg_atomic_uint64 flushed;
	pg_atomic_uint64 ingested;

	ConditionVariable acknowledged; /* flushed has risen */

	/* End of the newest commit record that was not waited for.  Raised by compare-and-swap. */
	pg_atomic_uint64 in_doubt;

	/* When the worker was told to end, which is when the server shuts down; 0: it was not.  Written by it only. */
	pg_atomic_uint64 stopping_since;

	/* Where WAL ended when the worker did, if the store had acknowledged all of it; else 0.  Written by it only. */
	pg_atomic_uint64 stopped_at;
} WalProgress;

extern WalProgress *wal_progress;

/* Is there a stream, and if not, why not; error NULL: the last one stays. */
extern void wal_progress_set_connected(bool connected, const char *error);

/* The last error, of a stream that goes on. */
extern void wal_progress_set_error(const char *error);

/* WAL waits for this; "": for nothing.  since 0: from now on.  Returns since when it had waited for something; 0: it had not. */
extern TimestampTz wal_progress_set_waits(const char *waits_for, TimestampTz since);

/* The address is the worker's own setting from now on.  The WAL worker. */
extern void wal_progress_publish_store(void);

/* The store at this version of the address has our timeline; has it, or may the address be a wrong one? */
extern void wal_progress_set_served(uint32 version);
extern bool wal_progress_is_served(uint32 version);

#endif /* PS_WAL_PROGRESS_IMPL_H */
