/*
 * redo.h
 *	  The pool of redo helpers: base page + WAL records -> page, by stock
 *	  PostgreSQL's own redo functions (src/walredo).
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
	const char *workdir; /* the pool makes a directory per helper below; it is emptied at the start */
	uint32 segment_size;
	bool wal_log_hints; /* of the source cluster, or it has data checksums (docs/postgres-facts.md, section 7) */
	int max_helpers;
	int timeout_ms;      /* a request that takes longer: the helper is killed */
	const char *library; /* absolute path of pageserver_walredo.so, or NULL: that of pkglibdir */
} RedoOptions;

typedef struct RedoStats
{
	int helpers; /* that run now */
	uint64 started;
	uint64 failed; /* died, hung or answered with an error */
	uint64 requests;
	uint64 records;
	uint64 usec; /* sum of the time of requests, waiting for a helper included */
} RedoStats;

/*
 * Starts one helper ahead, without waiting for it; the others start when they
 * are wanted.  SIGPIPE is ignored in the whole process from now on.
 */
extern PsError *redo_pool_create(const RedoOptions *options, RedoPool **pool);
extern void redo_pool_set_timeout(RedoPool *pool, int timeout_ms); /* of requests that begin from now on */
extern void redo_pool_free(RedoPool *pool);                        /* no request may be under way */
extern void redo_pool_stats(RedoPool *pool, RedoStats *stats);

/*
 * Records, oldest first, to apply to one block.  page is the block before them,
 * or, if not has_base, anything: the first record makes it (or the block was
 * all zeros).  The result, BLCKSZ bytes, replaces it, with pd_checksum as redo
 * left it; after an error (*err) page holds nothing of use.
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
	PsError **err; /* NULL if it went well */
} RedoJob;

/*
 * Does the jobs, one after the other, with one helper, which is sent the next
 * while it works.  Any thread; waits for a helper.  A helper that dies, hangs
 * or answers with an error is replaced and its job done once more on a fresh
 * one.
 */
extern void redo_pages(RedoPool *pool, RedoJob *jobs, int n);

#endif /* PS_REDO_H */
