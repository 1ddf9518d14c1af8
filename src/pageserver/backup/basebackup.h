/*
 * basebackup.h
 *	  Data directories out of the store, as a tar: base backups, on which computes
 *	  start, and full backups, on which stock PostgreSQL starts.
 *
 * These functions run in the thread of the connection that asked for them, any
 * number at once.  cancel may be NULL.
 */
#ifndef PS_BASEBACKUP_H
#define PS_BASEBACKUP_H

#include "base/bytesink.h"
#include "store/store.h"

/* What timeline_take_over() has returned. */
typedef struct BaseBackup
{
	uint64 generation;
	WalState state;
	XLogRecPtr checkpoint_lsn;
} BaseBackup;

/*
 * Sends the data directory that the compute of a new generation starts on:
 * everything except relation files.  Its pageserver_smgr.conf names the tenant,
 * timeline, generation and checkpoint; the receiver adds where the store is.
 */
extern PsError *basebackup(Timeline *tl, const BaseBackup *base, const CancelCheck *cancel, ByteSink sink);

/*
 * Sends what basebackup() would send now, with generation 0, while a compute may
 * be running: to find out whether a compute would start on it.  Changes nothing.
 */
extern PsError *basebackup_rehearsal(Timeline *tl, const CancelCheck *cancel, ByteSink sink);

/*
 * Sends a complete data directory as of an LSN, rounded down to the end of a
 * record (InvalidXLogRecPtr: all that was acknowledged).  Stock PostgreSQL starts
 * on it without the store.  The timeline does not change.  A damaged page of a
 * relation is an error if "damaged" is NULL; otherwise it is reported there, and
 * zeros are sent in its place.
 */
extern PsError *fullbackup(Timeline *tl, XLogRecPtr lsn, const CancelCheck *cancel, const ProgressSink *damaged,
						   ByteSink sink);

/*
 * The settings files of the next base backup: the newest version kept with the
 * branch or, with version 0, what its import brought, as of an LSN.  After
 * success the caller calls branch_settings_free().
 */
extern PsError *backup_read_settings(Timeline *tl, XLogRecPtr lsn, BranchSettings *settings);

#endif /* PS_BASEBACKUP_H */
