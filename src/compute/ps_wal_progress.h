/*
 * ps_wal_progress.h
 *	  How far the WAL worker is: wal_worker*.c write it, wal_progress.c tells
 *	  others.
 */
#ifndef PS_WAL_PROGRESS_H
#define PS_WAL_PROGRESS_H

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/spin.h"

#include "compute.h"

typedef struct WalProgress
{
	slock_t		mutex;			/* protects what follows, up to last_error */
	int			pid;
	bool		connected;
	TimestampTz connected_since;
	char		last_error[256];

	/* Written by the worker only.  flushed and ingested never fall. */
	pg_atomic_uint64 sent;
	pg_atomic_uint64 flushed;
	pg_atomic_uint64 ingested;

	ConditionVariable acknowledged; /* flushed has risen */

	/* End of the newest commit record that was not waited for.  Raised by compare-and-swap. */
	pg_atomic_uint64 in_doubt;

	/* When the worker was told to end, which is when the server shuts down; 0: it was not.  Written by it only. */
	pg_atomic_uint64 stopping_since;
} WalProgress;

extern WalProgress *wal_progress;

/* Is there a stream, and if not, why not; error NULL: the last one stays. */
extern void wal_progress_set_connected(bool connected, const char *error);

#endif							/* PS_WAL_PROGRESS_H */
