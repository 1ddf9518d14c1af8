/*
 * page_store.h
 *	  Pages that were reconstructed, kept in memory: a hot page with a long
 *	  chain of records is made once, later reads apply only what came after.
 *
 * An entry says: at its LSN the key's newest version was this LSN's, and the
 * page was this.  There is at most one entry of a key; a newer one replaces it.
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

/* bytes: of pages; 0 makes a cache that keeps nothing.  "timeline" below is any number that no two timelines share. */
extern PageStore *page_store_create(size_t bytes);
extern void page_store_free(PageStore *cache);

/* Copies the page whose LSN lies in [lsn_min, lsn_max]; false if there is none.  All these: any thread. */
extern bool page_store_get(PageStore *cache, uint64 timeline, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max,
						   char *page, XLogRecPtr *lsn);
extern void page_store_put(PageStore *cache, uint64 timeline, const PsKey *key, XLogRecPtr lsn, const char *page);
extern void page_store_stats(PageStore *cache, PageStoreStats *stats);

#endif /* PS_PAGE_STORE_H */
