/*
 * redo_util.h
 *	  For tests: redo of one page.
 */
#ifndef REDO_UTIL_H
#define REDO_UTIL_H

#include "redo/redo.h"

/* base: the page before redo; NULL: zeros.  It may be the same memory as page. */
extern PsError *redo_page(RedoPool *pool, PsRel rel, ForkNumber fork, BlockNumber blk, const char *base,
						  const WalRecord *records, int nrecords, char *page);

#endif /* REDO_UTIL_H */
