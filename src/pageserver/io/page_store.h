/*
 * page_store.h
 *	  Reconstructed pages in memory (setting page_cache_size): a page with a long
 *	  chain of records is made once; later reads apply only newer records.
 *
 * An entry holds a page and the LSN of the newest version of its key at that time.
 * A key has at most one entry; a newer one replaces it.
 */
#ifndef PS_PAGE_STORE_H
#define PS_PAGE_STORE_H

#include "access/xlogdefs.h"

#include "key.h"

typedef struct PageStore PageStore;

typedef struct PageStoreStats
{
	uint64 hits;
	uint64 misses;
	uint64 pages;
	uint64 limit;
} PageStoreStats;

/*
 * bytes: memory for pages; with 0 nothing is kept.  "timeline" below is any number
 * that identifies the timeline.
 */
extern PageStore *page_store_create(size_t bytes);
extern void page_store_free(PageStore *cache);

/* Copies the page if its LSN is in [lsn_min, lsn_max]; false if there is none.  These may be called by any thread. */
extern bool page_store_get(PageStore *cache, uint64 timeline, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max,
						   char *page, XLogRecPtr *lsn);
extern void page_store_put(PageStore *cache, uint64 timeline, const PsKey *key, XLogRecPtr lsn, const char *page);
extern void page_store_stats(PageStore *cache, PageStoreStats *stats);

#endif /* PS_PAGE_STORE_H */
