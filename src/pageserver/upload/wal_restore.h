/*
 * wal_restore.h
 *	  Brings the WAL that is in a timeline's chain into the timeline's files, before it
 *	  is opened.
 */
#ifndef PS_WAL_RESTORE_H
#define PS_WAL_RESTORE_H

#include "bucket/chain.h"
#include "wal/segments.h"

/* A timeline in its directory, which is not open, unless segs is set. */
typedef struct WalPlace
{
	const char *dir;   /* with wal/, which need not exist, and the marker "flushed" */
	WalSegments *segs; /* its open WAL files; NULL: nobody uses them */
	uint32 segment_size;
	uint64 system_identifier;
	XLogRecPtr lsn; /* layer files contain what is before it */
	uint64 kept;    /* number of the first object of the chain whose WAL is wanted if there are no WAL files */
} WalPlace;

/*
 * Opens the chain of a timeline, as chain_open() does, whose arguments number and
 * chain_lsn are, and makes sure that the WAL from place->lsn on that is in the chain is in
 * the timeline's files, durably.
 *
 * If there are no WAL files, they are created: they begin with the chunk that contains
 * place->lsn, or with the header of its page, and the marker is set to the end of the last
 * whole record.  Otherwise this directory has written the chain, or was restored from it,
 * so the files have the same WAL, and perhaps more.  Where they have not, the disk has
 * lost or damaged it, and they get it from the chain.  If the timeline is open, that is an
 * error.
 *
 * Errors: those of chain_open() and of file operations.  The call may be repeated.
 */
extern PsError *wal_restore(const TenantOwner *owner, const PsId *timeline, const WalPlace *place, uint64 number,
							XLogRecPtr chain_lsn, const ObjectWait *wait, Chain **chain);

#endif /* PS_WAL_RESTORE_H */
