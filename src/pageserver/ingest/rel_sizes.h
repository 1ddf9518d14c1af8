/*
 * rel_sizes.h
 *	  Sizes of relation forks as of the record that is being ingested, so that
 *	  not every record has to look for one in the layers.  Of the ingest thread
 *	  alone: no lock.
 */
#ifndef PS_WAL_SIZES_H
#define PS_WAL_SIZES_H

#include "pg/relsize.h"
#include "timeline/timeline.h"

typedef struct CachedSize
{
	PsRel rel;
	uint8 fork;
	bool used; /* the place in the table is taken */
	bool exists;
	RelSize size;
} CachedSize;

/* All zeros, then sizes_forget(): an empty one. */
typedef struct SizeCache
{
	CachedSize *entries; /* open addressing, power of two */
	uint32 n;
	uint32 capacity;
} SizeCache;

/*
 * The size of a fork as of all records before this one; a caller that changes it changes
 * the layers, too.  It is valid until the next call.
 */
extern PsError *sizes_get(SizeCache *cache, Timeline *tl, PsRel rel, ForkNumber fork, CachedSize **entry);

/* The layers have changed otherwise. */
extern void sizes_forget(SizeCache *cache);
extern void sizes_free(SizeCache *cache);

#endif /* PS_WAL_SIZES_H */
