/*
 * rel_sizes.h
 *	  A cache of the sizes of relation forks as of the record that is being ingested,
 *	  so that ingest need not read them from the layers for each record.  Used only
 *	  by the ingest thread: no lock.
 */
#ifndef PS_WAL_SIZES_H
#define PS_WAL_SIZES_H

#include "pg/relsize.h"
#include "timeline/timeline.h"

typedef struct CachedSize
{
	PsRel rel;
	uint8 fork;
	bool used; /* the entry of the table is in use */
	bool exists;
	RelSize size;
} CachedSize;

/* Initialized by zeroing it and calling sizes_forget(). */
typedef struct SizeCache
{
	CachedSize *entries; /* open addressing, power of two */
	uint32 n;
	uint32 capacity;
} SizeCache;

/*
 * Returns the size of a fork after all previous records.  A caller that changes *entry must
 * change the layers, too.  The pointer is valid until the next call.
 */
extern PsError *sizes_get(SizeCache *cache, Timeline *tl, PsRel rel, ForkNumber fork, CachedSize **entry);

/* Empties the cache; called when sizes in the layers were changed directly. */
extern void sizes_forget(SizeCache *cache);
extern void sizes_free(SizeCache *cache);

#endif /* PS_WAL_SIZES_H */
