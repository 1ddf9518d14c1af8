/*
 * page_client_stats.c
 *	  Counters of the page clients of all processes, in shared memory.
 */
#include "postgres.h"

#include "storage/shmem.h"

#include "page_client_impl.h"

PageClientShared *page_client_counters;

void
page_client_request_shmem(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(PageClientShared)));
}

void
page_client_startup_shmem(void)
{
	bool found;

	page_client_counters = ShmemInitStruct("pageserver_smgr page client", sizeof(PageClientShared), &found);
	if (found)
		return;
	pg_atomic_init_u64(&page_client_counters->requests, 0);
	pg_atomic_init_u64(&page_client_counters->pages, 0);
	pg_atomic_init_u64(&page_client_counters->prefetched, 0);
	pg_atomic_init_u64(&page_client_counters->prefetch_hits, 0);
	pg_atomic_init_u64(&page_client_counters->prefetch_dropped, 0);
	pg_atomic_init_u64(&page_client_counters->reconnects, 0);
	pg_atomic_init_u64(&page_client_counters->wait_usec, 0);
}

void
page_client_stats(PageClientStats *stats)
{
	stats->requests = pg_atomic_read_u64(&page_client_counters->requests);
	stats->pages = pg_atomic_read_u64(&page_client_counters->pages);
	stats->prefetched = pg_atomic_read_u64(&page_client_counters->prefetched);
	stats->prefetch_hits = pg_atomic_read_u64(&page_client_counters->prefetch_hits);
	stats->prefetch_dropped = pg_atomic_read_u64(&page_client_counters->prefetch_dropped);
	stats->reconnects = pg_atomic_read_u64(&page_client_counters->reconnects);
	stats->wait_usec = pg_atomic_read_u64(&page_client_counters->wait_usec);
}
