/*
 * checksum.c
 *	  Data checksums of pages, as PostgreSQL computes them.
 *
 * A file of its own so that checksum_impl.h, which holds code and wants to be
 * vectorized, is compiled once with the flags that PostgreSQL uses for it
 * (src/backend/storage/page/Makefile).
 */
#include "ps_fe.h"

#include "storage/bufpage.h"
#include "storage/checksum.h"
#include "storage/checksum_impl.h"

#include "backup/backup.h"

void
page_set_checksum(char *page, BlockNumber blk)
{
	if (!PageIsNew(page))
		((PageHeader) page)->pd_checksum = pg_checksum_page(page, blk);
}

/* A new page has no checksum; that it must then be all zeros is PageIsVerifiedExtended()'s rule. */
bool
page_checksum_is_right(const char *page, BlockNumber blk, uint16 *expected)
{
	PGAlignedBlock copy;

	if (PageIsNew((Page) page))
	{
		*expected = 0;
		return page_is_zero(page);
	}
	memcpy(copy.data, page, BLCKSZ); /* pg_checksum_page() writes to the page while it works */
	*expected = pg_checksum_page(copy.data, blk);
	return *expected == ((PageHeader) page)->pd_checksum;
}

bool
page_is_zero(const char *page)
{
	const uint64 *words = (const uint64 *) page;

	for (size_t i = 0; i < BLCKSZ / sizeof(uint64); i++)
		if (words[i] != 0)
			return false;
	return true;
}
