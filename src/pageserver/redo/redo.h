/*
 * redo.h
 *	  The pool of redo helpers: a base page and WAL records to a page, by the redo
 *	  functions of stock PostgreSQL (src/walredo).
 */
#ifndef PS_REDO_H
#define PS_REDO_H

#include "base/error.h"
#include "pg/record.h"
#include "rel.h"

typedef struct RedoPool RedoPool;

typedef struct RedoOptions
{
	const char *bindir;  /* where "postgres" is */
	const char *workdir; /* has a directory for each helper; emptied by redo_pool_create() */
	uint32 segment_size;
	bool wal_log_hints; /* of the source cluster, or it has data checksums (docs/postgres-facts.md, section 7) */
	int max_helpers;
	int timeout_ms;      /* a helper that needs longer for a request is killed */
	const char *library; /* absolute path of pageserver_walredo.so, or NULL: that of pkglibdir */
} RedoOptions;

typedef struct RedoStats
{
	int helpers; /* running now */
	uint64 started;
	uint64 failed; /* died, hung or answered with an error */
	uint64 requests;
	uint64 records;
	uint64 usec; /* total time of requests, including the wait for a helper */
} RedoStats;

/*
 * Starts one helper in advance, without waiting for it; others start when they are
 * needed.  From now on SIGPIPE is ignored in the whole process.
 */
extern PsError *redo_pool_create(const RedoOptions *options, RedoPool **pool);
extern void redo_pool_set_timeout(RedoPool *pool, int timeout_ms); /* for requests that begin later */
extern void redo_pool_free(RedoPool *pool);                        /* no request may be in progress */
extern void redo_pool_stats(RedoPool *pool, RedoStats *stats);

/*
 * Records, oldest first, to apply to one block.  With has_base, page is the block
 * before them; without, its contents do not matter, since the first record
 * initializes the block, or the block was all zeros.  The result, BLCKSZ bytes,
 * replaces it, with pd_checksum as redo left it.  After an error page is undefined.
 */
typedef struct RedoJob
{
	PsRel rel;
	ForkNumber fork;
	BlockNumber blk;
	bool has_base;
	char *page;
	const WalRecord *records;
	int nrecords;  /* at least 1 */
	PsError **err; /* set to NULL, or to an error that the caller frees */
} RedoJob;

/*
 * Does the jobs in order with one helper, which is sent the next job while it works
 * on one.  Waits for a helper; any thread may call this.  A helper that dies, hangs
 * or answers with an error is replaced, and its job is done once more by a new one.
 */
extern void redo_pages(RedoPool *pool, RedoJob *jobs, int n);

#endif /* PS_REDO_H */
