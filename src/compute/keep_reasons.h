/*
 * keep_reasons.h
 *	  Why a page must stay in the local page cache: the store, which makes pages
 *	  from WAL, could not return the page as PostgreSQL wrote it.  docs/kept-pages.md
 *	  explains the reasons.
 */
#ifndef PS_KEEP_REASONS_H
#define PS_KEEP_REASONS_H

#include "access/transam.h"
#include "storage/block.h"
#include "common/relpath.h"

#define KEEP_NO_LSN              0x01 /* built without WAL: until it is written with a real LSN or dropped */
#define KEEP_OPEN_XACT           0x02 /* has tuples of open transactions: until none of oldest_xid..newest_xid runs */
#define KEEP_BTREE_CYCLE         0x04 /* btpo_cycleid is set: until no VACUUM of an index has that cycle ID */
#define KEEP_COMPUTE_LIFE        0x08 /* visibility map or sequence: until the compute ends */
#define KEEP_UNKNOWN_PERSISTENCE 0x10 /* may be unlogged: same duration as KEEP_NO_LSN */
#define KEEP_MULTI               0x20 /* with KEEP_OPEN_XACT: for a multixact the range covers all that ran */

/* Reasons that hold until the page is written again, whatever other processes do. */
#define KEEP_UNTIL_WRITTEN (KEEP_NO_LSN | KEEP_COMPUTE_LIFE | KEEP_UNKNOWN_PERSISTENCE)

#define KEEP_ANY_CYCLE 0 /* as btree_cycleid: any cycle ID; no VACUUM has this one */

/* All zeros: the page need not be kept. */
typedef struct KeepReasons
{
	TransactionId oldest_xid; /* with KEEP_OPEN_XACT: range of top-level transactions that ran when it was written */
	TransactionId newest_xid;
	uint16 btree_cycleid; /* with KEEP_BTREE_CYCLE */
	uint16 reasons;       /* bits KEEP_* */
} KeepReasons;

/* From shmem_startup_hook; caller holds AddinShmemInitLock. */
extern void keep_reasons_startup_shmem(void);

/*
 * Sets *keep to the reasons for which a page of a permanent relation must be
 * kept, as it is being written.  Works in every process, with a share lock on
 * the buffer.
 */
extern void keep_reasons_of_page(ForkNumber fork, BlockNumber blk, const char *page, KeepReasons *keep);

/*
 * Must the page be kept now?  Takes the locks named in running.h, and
 * BtreeVacuumLock.  May return true for some milliseconds after the last reason
 * has ended, unless running_refresh() was called.
 */
extern bool keep_reasons_hold(const KeepReasons *keep);

/*
 * keep_reasons_resolve() replaces the range of KEEP_MULTI by the transactions
 * that the multixacts on the page really have; page is as it was written.  It
 * may be called only if keep_reasons_can_resolve() returns true: other
 * processes, and critical sections, must not read pg_multixact.  Takes the locks
 * under which PostgreSQL reads and writes pg_multixact.
 */
extern bool keep_reasons_can_resolve(void);
extern void keep_reasons_resolve(KeepReasons *keep, const char *page);

/* Extends sum so that it holds at least as long as keep does. */
extern void keep_reasons_merge(KeepReasons *sum, const KeepReasons *keep);

#endif /* PS_KEEP_REASONS_H */
