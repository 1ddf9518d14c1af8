/*
 * redo_util.h
 *	  For tests: redo of one page.
 */
#ifndef REDO_UTIL_H
#define REDO_UTIL_H

#include "redo/redo.h"

extern PsError *redo_page(RedoPool *pool, PsRel rel, ForkNumber fork, BlockNumber blk, const char *base, const WalRecord *records, int nrecords,
						  char *page);

#endif /* REDO_UTIL_H */
