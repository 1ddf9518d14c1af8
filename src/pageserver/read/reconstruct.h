/*
 * reconstruct.h
 *	  From the versions of pages to the pages.
 */
#ifndef PS_RECONSTRUCT_H
#define PS_RECONSTRUCT_H

#include "read/view.h"

/*
 * Blocks of a fork at lsn, n * BLCKSZ bytes, read together.  No version, or no
 * such fork: zeros.  errors[i] says why a page could not be made; the others
 * are as they should be.  An error of the whole (the index of a layer, the
 * fork's size) is returned; then there are no others.  Any thread.
 */
extern PsError *reconstruct_pages(const ReadView *view, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n,
								  XLogRecPtr lsn, char *pages, PsError **errors);

/* The page of an SLRU; *found false (and zeros) if it has no version. */
extern PsError *reconstruct_slru(const ReadView *view, const PsKey *key, XLogRecPtr lsn, char *page, bool *found);

#endif /* PS_RECONSTRUCT_H */
