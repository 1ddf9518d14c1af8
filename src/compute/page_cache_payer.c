/*
 * page_cache_payer.c
 *	  Counts kept pages by the transaction for which they are kept.
 */
#include "postgres.h"

#include "access/transam.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "page_cache_impl.h"
#include "running.h"

typedef struct Payer
{
	TransactionId xid;
	uint64 npages;
} Payer;

/* The current count of this process. */
static Payer *payers; /* room for MaxBackends */
static int npayers;
static uint64 pages_of_nobody;
static uint64 pages_unresolved; /* of one transaction or another, or of none any more */

void
page_cache_payer_startup(void)
{
	payers = MemoryContextAlloc(TopMemoryContext, mul_size(MaxBackends, sizeof(Payer)));
}

void
page_cache_payer_reset(void)
{
	npayers = 0;
	pages_of_nobody = pages_unresolved = 0;
}

void
page_cache_payer_add(const KeepReasons *keep, uint64 npages, bool is_mixed)
{
	TransactionId xid;
	int i = 0;

	if (!(keep->reasons & KEEP_OPEN_XACT))
		return;
	xid = running_oldest_in_range(keep->oldest_xid, keep->newest_xid);
	if (!TransactionIdIsValid(xid))
		return;
	if (is_mixed || (keep->reasons & KEEP_MULTI))
	{
		pages_unresolved += npages;
		return;
	}
	while (i < npayers && payers[i].xid != xid)
		i++;
	if (i == MaxBackends)
		return;
	if (i == npayers)
	{
		payers[npayers].npages = 0;
		payers[npayers++].xid = xid;
	}
	payers[i].npages += npages;
}

void
page_cache_payer_add_other(uint64 npages)
{
	pages_of_nobody += npages;
}

TransactionId
page_cache_payer_find(bool *unresolved)
{
	int most = -1;

	*unresolved = false;
	for (int i = 0; i < npayers; i++)
		if (most < 0 || payers[i].npages > payers[most].npages ||
			(payers[i].npages == payers[most].npages && TransactionIdPrecedes(payers[i].xid, payers[most].xid)))
			most = i;
	if (most < 0 || payers[most].npages < Max(pages_of_nobody, pages_unresolved))
	{
		*unresolved = pages_unresolved > pages_of_nobody;
		return InvalidTransactionId;
	}
	return payers[most].xid;
}
