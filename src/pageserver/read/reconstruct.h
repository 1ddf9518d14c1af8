/*
 * reconstruct.h
 *	  Reconstructs pages from their versions.
 */
#ifndef PS_RECONSTRUCT_H
#define PS_RECONSTRUCT_H

#include "read/view.h"

/*
 * Reads n blocks of a fork at lsn together, to pages (n * BLCKSZ bytes).  Blocks without a
 * version, and blocks of a fork that does not exist, are zeros.  errors[i], which the
 * caller frees, says why a page could not be reconstructed; the other pages are valid.  An
 * error that concerns all pages (the index of a layer, the fork's size) is returned, and
 * all errors[i] are NULL then.
 */
extern PsError *reconstruct_pages(const ReadView *view, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n,
								  XLogRecPtr lsn, char *pages, PsError **errors);

/* Reads a page of an SLRU; if it has no version, *found is false and the page is zeros. */
extern PsError *reconstruct_slru(const ReadView *view, const PsKey *key, XLogRecPtr lsn, char *page, bool *found);

#endif /* PS_RECONSTRUCT_H */
