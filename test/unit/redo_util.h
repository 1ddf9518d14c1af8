/*
 * redo_util.h
 *	  For tests: redo of one page.
 */
#ifndef REDO_UTIL_H
#define REDO_UTIL_H

#include "redo/redo.h"

/* base: the page before, or NULL: zeros.  It and page may be the same memory. */
static inline PsError *
redo_page(RedoPool *pool, PsRel rel, ForkNumber fork, BlockNumber blk, const char *base, const WalRecord *records, int nrecords,
		  char *page)
{
	PsError *err;
	RedoJob job = {.rel = rel, .fork = fork, .blk = blk, .has_base = base != NULL, .page = page, .records = records, .nrecords = nrecords, .err = &err};

	if (base != NULL && base != page)
		memcpy(page, base, BLCKSZ);
	redo_pages(pool, &job, 1);
	return err;
}

#endif /* REDO_UTIL_H */
