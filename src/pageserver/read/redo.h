/*
 * redo.h
 *	  The pool of redo helpers: base page + WAL records -> page, by stock
 *	  PostgreSQL's own redo functions (src/walredo).
 */
#ifndef PS_REDO_H
#define PS_REDO_H

#include "wal/wal.h"

typedef struct RedoPool RedoPool;

typedef struct RedoOptions
{
	const char *bindir;			/* where "postgres" is */
	const char *workdir;		/* the pool makes a directory per helper below; it is emptied at the start */
	uint32		segment_size;
	bool		wal_log_hints;	/* of the source cluster, or it has data checksums (FACTS 3, trap 3) */
	int			max_helpers;
	int			timeout_ms;		/* a request that takes longer: the helper is killed */
	const char *library;		/* absolute path of pageserver_walredo.so, or NULL: that of pkglibdir */
} RedoOptions;

typedef struct RedoStats
{
	int			helpers;		/* that run now */
	uint64		started;
	uint64		failed;			/* died, hung or answered with an error */
	uint64		requests;
	uint64		records;
	uint64		usec;			/* sum of the time of requests, waiting for a helper included */
} RedoStats;

/*
 * Starts one helper ahead, without waiting for it; the others start when they
 * are wanted.  SIGPIPE is ignored in the whole process from now on.
 */
extern PsError *redo_pool_create(const RedoOptions *options, RedoPool **pool);
extern void redo_pool_free(RedoPool *pool); /* no request may be under way */
extern void redo_pool_stats(RedoPool *pool, RedoStats *stats);

/*
 * Applies records, oldest first, to one block.  base: the page before them, or
 * NULL if the first record makes it (or the block was all zeros).  The result,
 * BLCKSZ bytes in page, has pd_checksum as redo left it.  Any thread; waits
 * for a helper.  A helper that dies or hangs is replaced and the request made
 * once more on a fresh one; so is one that was answered by an error.  base and
 * page may be the same memory; after an error page holds nothing of use.
 */
extern PsError *redo_page(RedoPool *pool, PsRel rel, ForkNumber fork, BlockNumber blk, const char *base,
						  const WalRecord *records, int nrecords, char *page);

#endif							/* PS_REDO_H */
