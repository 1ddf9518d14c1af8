/*
 * redo_util.h
 *	  For tests of redo: redo of one page, and the PostgreSQL whose helpers do it.
 */
#ifndef REDO_UTIL_H
#define REDO_UTIL_H

#include "redo/redo.h"

/* base: the page before redo; NULL: zeros.  It may be the same memory as page. */
extern PsError *redo_page(RedoPool *pool, PsRel rel, ForkNumber fork, BlockNumber blk, const char *base,
						  const WalRecord *records, int nrecords, char *page);

/*
 * The directory of PostgreSQL's programs, as pg_config of the environment variable
 * PG_CONFIG reports it: in TAP tests that of the temporary installation.  Ends the
 * program if there is none.  The caller frees it.
 */
extern char *redo_test_bindir(void);

#endif /* REDO_UTIL_H */
