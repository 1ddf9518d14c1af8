/*
 * inventory.h
 *	  Compares the objects of a tenant with what its log names.
 *
 * For an auditor, and to find objects that nobody will name any more: what a killed
 * store had uploaded or was about to delete.
 */
#ifndef PS_INVENTORY_H
#define PS_INVENTORY_H

#include "bucket/deleter.h"
#include "bucket/tenant_log.h"

typedef enum InventoryVerdict
{
	INVENTORY_NEEDED,     /* the log names it; or a claim or a fence, which stay */
	INVENTORY_MISSING,    /* the log names it, and it does not exist */
	INVENTORY_WRONG_SIZE, /* the log names it with another size */
	INVENTORY_UNDER_WAY,  /* the newest owner, or a newer one, has put it, and may be about to name it */
	INVENTORY_ORPHAN,     /* an older owner's, and not named; see inventory_sweep() for what may be named yet */
	INVENTORY_FOREIGN     /* no key of this program's */
} InventoryVerdict;

typedef struct InventoryItem
{
	InventoryVerdict verdict;
	const char *text; /* the key */
	BucketKey key;    /* unless it is foreign */
	int64 size;       /* bytes; -1: missing */
	int64 expected;   /* bytes that the log says; -1: it does not say */
	const char *file; /* the name of a layer file that the log names; else NULL */
} InventoryItem;

/* Called by the thread that takes the inventory; an error ends that and is returned. */
typedef struct InventorySink
{
	PsError *(*item)(void *arg, const InventoryItem *item);
	void *arg;
} InventorySink;

/*
 * Calls the sink for each object of the tenant, and for each that is missing.  The
 * state is that of the entry "newest" (tenant_log_read()); what happened after it
 * may count as under way, but never as an orphan.  A list that is out of date may lack
 * orphans; what it lacks of the rest is asked for.
 */
extern PsError *inventory_take(ObjectStore *store, const PsId *tenant, const LogEntryInfo *newest,
							   const LogChange *state, const InventorySink *sink, const ObjectWait *wait);

typedef struct SweepCounts
{
	uint64 orphans;
	int64 bytes;
} SweepCounts;

/*
 * Gives the orphans to the deleter.  For the owner of the tenant, after the first entry of
 * its generation, with the state of a committed entry: so they are deleted
 * remote_delete_delay after that.
 *
 * named_below: the owner will name no file with a number of a generation below this that
 * the state does not name.  A store that has restarted has files with numbers of older
 * generations that it has not uploaded yet, or not named: an object that is there from an
 * earlier attempt, and is named after the sweep, must not be deleted.
 */
extern PsError *inventory_sweep(const TenantOwner *owner, const LogEntryInfo *newest, const LogChange *state,
								uint64 named_below, Deleter *deleter, const ObjectWait *wait, SweepCounts *counts);

#endif /* PS_INVENTORY_H */
