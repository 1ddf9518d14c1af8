/*
 * reconstruct.h
 *	  From the versions of a page to the page.
 */
#ifndef PS_RECONSTRUCT_H
#define PS_RECONSTRUCT_H

#include "timeline_impl.h"

/*
 * The block at lsn, BLCKSZ bytes.  floor: versions at or before it do not
 * count (relsize.h).  No version: zeros.  Any thread.
 */
extern PsError *reconstruct_page(const ReadView *view, PsRel rel, ForkNumber fork, BlockNumber blk, XLogRecPtr floor,
								 XLogRecPtr lsn, char *page);

/* The same for the page of an SLRU; *found false (and zeros) if it has no version. */
extern PsError *reconstruct_slru(const ReadView *view, const PsKey *key, XLogRecPtr lsn, char *page, bool *found);

#endif							/* PS_RECONSTRUCT_H */
