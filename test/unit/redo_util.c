/*
 * redo_util.c
 *	  Redo of one page: see redo_util.h.
 */
#include "ps_fe.h"

#include "redo_util.h"

PsError *
redo_page(RedoPool *pool, PsRel rel, ForkNumber fork, BlockNumber blk, const char *base, const WalRecord *records,
		  int nrecords, char *page)
{
	PsError *err;
	RedoJob job = {
		.rel = rel,
		.fork = fork,
		.blk = blk,
		.has_base = base != NULL,
		.page = page,
		.records = records,
		.nrecords = nrecords,
		.err = &err};

	if (base != NULL && base != page)
		memcpy(page, base, BLCKSZ);
	redo_pages(pool, &job, 1);
	return err;
}
