/*
 * commits.h
 *	  Commits that the store has not acknowledged.
 */
#ifndef PS_COMMITS_H
#define PS_COMMITS_H

#include "access/xlogdefs.h"

/* From _PG_init: installs hooks and callbacks. */
extern void commits_init(void);

/*
 * Has the store acknowledged WAL up to lsn?  wait_mode: SYNC_REP_WAIT_* of
 * replication/syncrep.h.  Takes SyncRepLock.
 */
extern bool commits_are_acknowledged(XLogRecPtr lsn, int wait_mode);

#endif /* PS_COMMITS_H */
