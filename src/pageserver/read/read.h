/*
 * read.h
 *	  Reads of a timeline at an LSN: pages, sizes, other values, WAL states, and
 *	  the LSN of a point in time.
 */
#ifndef PS_READ_H
#define PS_READ_H

#include "layer/layer.h"
#include "timeline/timeline.h"

/* ---- read.c; lsn: as resolved by timeline_read_lsn() ---- */

/*
 * The LSN to read at for a request: waits for not_modified_since, checks
 * bounds.  PS_LSN_LATEST: everything that is ingested.
 */
extern PsError *timeline_read_lsn(Timeline *tl, XLogRecPtr request_lsn, XLogRecPtr not_modified_since,
								  const CancelCheck *cancel, XLogRecPtr *lsn);

/* Pages of one fork, in the order of blks, n * BLCKSZ bytes; no version: zeros. */
extern PsError *timeline_read_pages(Timeline *tl, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n,
									XLogRecPtr lsn, char *pages);

/*
 * Like timeline_read_pages(), but a page that cannot be read does not fail the others:
 * errors[i] says why blks[i] could not be read, or is NULL.  An error that concerns all of them is returned, and
 * errors are not set.
 */
extern PsError *timeline_read_each_page(Timeline *tl, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n,
										XLogRecPtr lsn, char *pages, PsError **errors);
extern PsError *timeline_read_relsize(Timeline *tl, PsRel rel, ForkNumber fork, XLogRecPtr lsn, bool *exists,
									  BlockNumber *nblocks);

/* Any other key (not RELBLOCK): SLRU pages are reconstructed. */
extern PsError *timeline_read_value(Timeline *tl, const PsKey *key, XLogRecPtr lsn, StringInfo value, bool *found);

/*
 * Every key from lo to hi (any kind but RELBLOCK) that exists at lsn,
 * ascending, with its value.
 */
typedef PsError *(*KeyCallback)(void *arg, const PsKey *key, const char *value, uint32 len);
extern PsError *timeline_scan(Timeline *tl, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn, KeyCallback cb, void *arg);

/*
 * The state at the end of the last record at or before lsn (state->end tells
 * which): from the newest saved state, decoding WAL from there.
 */
extern PsError *timeline_state_at(Timeline *tl, XLogRecPtr lsn, WalState *state);

/* ---- pitr.c ---- */

/*
 * Where a branch stood at a moment: just before the first commit or abort with
 * a later time; of all that was acknowledged, which is waited for as reads do.
 * *at: the branch, or an ancestor of it if that is before its beginning.
 * read/pitr.c says what it means when the times of commits do not rise.
 */
extern PsError *timeline_lsn_at_time(Timeline *tl, TimestampTz when, const CancelCheck *cancel, Timeline **at, XLogRecPtr *lsn);

/* The commits, or aborts, between which an LSN of a branch is. */
typedef struct CommitsAround
{
	bool has_last; /* false: there was none, or it is not known */
	TimestampTz last;
	XLogRecPtr last_end;
	bool next_known; /* false: there may be one, far away */
	bool has_next;
	TimestampTz next;
} CommitsAround;

/* Of an LSN before the branch's beginning it is found in its ancestors.  Waits as timeline_lsn_at_time() does. */
extern PsError *timeline_commits_around(Timeline *tl, XLogRecPtr lsn, const CancelCheck *cancel, CommitsAround *around);

#endif /* PS_READ_H */
