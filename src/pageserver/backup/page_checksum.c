/*
 * page_checksum.c
 *	  Data checksums of pages, as PostgreSQL computes them.
 *
 * checksum_impl.h, which is code, is included here only.  The Makefile compiles
 * this file with the flags that PostgreSQL uses for it.
 */
#include "ps_fe.h"

#include "storage/bufpage.h"
#include "storage/checksum.h"
#include "storage/checksum_impl.h"

#include "backup/backup_impl.h"

void
page_checksum_set(char *page, BlockNumber blk)
{
	if (!PageIsNew(page))
		((PageHeader) page)->pd_checksum = pg_checksum_page(page, blk);
}

bool
page_checksum_matches(const char *page, BlockNumber blk, uint16 *expected)
{
	PGAlignedBlock copy;

	if (PageIsNew((Page) page))
	{
		*expected = 0;
		return page_is_zero(page);
	}
	memcpy(copy.data, page, BLCKSZ); /* pg_checksum_page() temporarily modifies the page */
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
