/*
 * read.h
 *	  Reads of a timeline at an LSN: pages, sizes, other values, WAL states, and
 *	  the LSN of a point in time.
 */
#ifndef PS_READ_H
#define PS_READ_H

#include "layer/layer.h"
#include "timeline/timeline.h"

/*
 * All functions here may be called by any thread that keeps the timeline open, without
 * locks.  Reads fail with an error that names branch, key and LSN; damage is never
 * answered with zeros.
 */

/* ---- read.c; lsn: as determined by timeline_read_lsn() ---- */

/*
 * Sets *lsn to the LSN to read at for a request: waits until ingest has reached
 * not_modified_since, for wait_timeout at most, or until cancel says so.  With
 * PS_LSN_LATEST that is everything ingested so far.  An impossible combination of LSNs is
 * PS_SQLSTATE_INVALID.
 */
extern PsError *timeline_read_lsn(Timeline *tl, XLogRecPtr request_lsn, XLogRecPtr not_modified_since,
								  const CancelCheck *cancel, XLogRecPtr *lsn);

/*
 * Reads n pages of a fork to pages (n * BLCKSZ bytes), in the order of blks.  A block
 * without a version is zeros.  Any page that cannot be read fails the whole call.
 */
extern PsError *timeline_read_pages(Timeline *tl, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n,
									XLogRecPtr lsn, char *pages);

/*
 * Like timeline_read_pages(), but a page that cannot be read does not fail the others:
 * errors[i], which the caller frees, says why blks[i] could not be read, or is NULL.  An
 * error that concerns all pages is returned; errors are not set then.
 */
extern PsError *timeline_read_each_page(Timeline *tl, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n,
										XLogRecPtr lsn, char *pages, PsError **errors);

/* Sets *exists and *nblocks, the size of a fork; 0 blocks if it does not exist. */
extern PsError *timeline_read_relsize(Timeline *tl, PsRel rel, ForkNumber fork, XLogRecPtr lsn, bool *exists,
									  BlockNumber *nblocks);

/*
 * Reads the value of any key except a relation's block.  SLRU pages are reconstructed.
 * *found is false if the key has no value at lsn.
 */
extern PsError *timeline_read_value(Timeline *tl, const PsKey *key, XLogRecPtr lsn, StringInfo value, bool *found);

/*
 * Calls cb with each key from lo to hi that exists at lsn, in ascending order, and with
 * its value, which is valid during the call only.  The range must not contain blocks of
 * relations.  An error of cb ends the scan and is returned.
 */
typedef PsError *(*KeyCallback)(void *arg, const PsKey *key, const char *value, uint32 len);
extern PsError *timeline_scan(Timeline *tl, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn,
							  KeyCallback cb, void *arg);

/*
 * Computes the state after the last record that ends at or before lsn; state->end is that
 * record's end.  Starts at the newest saved state and decodes WAL from there.
 */
extern PsError *timeline_state_at(Timeline *tl, XLogRecPtr lsn, WalState *state);

/* ---- pitr.c ---- */

/*
 * Finds the LSN of a branch at a point in time: just before the first commit or abort
 * with a later time.  Considers all acknowledged WAL, and waits until it is ingested, as
 * reads do.  *at is the timeline of that LSN: tl, or an ancestor if the time is before the
 * branch's beginning.  read/pitr.c explains what happens if commit times contradict each
 * other.
 */
extern PsError *timeline_lsn_at_time(Timeline *tl, TimestampTz when, const CancelCheck *cancel,
									 Timeline **at, XLogRecPtr *lsn);

/* The commits or aborts immediately before and after an LSN of a branch. */
typedef struct CommitsAround
{
	bool has_last; /* false: there was none, or it is unknown */
	TimestampTz last;
	XLogRecPtr last_end;
	bool next_known; /* false: the search gave up before it found one or reached the end */
	bool has_next;
	TimestampTz next;
} CommitsAround;

/*
 * Fills *around for an LSN of the branch, or of an ancestor if the LSN is before the
 * branch's beginning.  Waits like timeline_lsn_at_time().  An LSN that cannot be read is
 * no error; nothing is known about it then.
 */
extern PsError *timeline_commits_around(Timeline *tl, XLogRecPtr lsn, const CancelCheck *cancel, CommitsAround *around);

#endif /* PS_READ_H */
