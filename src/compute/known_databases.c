/*
 * known_databases.c
 *	  What this compute knows about databases and tablespaces without asking the
 *	  store: their sizes when it was last asked, and which databases
 *	  catalog_reader.c has read.
 *
 * This is a hash table of bounded size in shared memory, protected by one lock.
 * Nothing is known about databases for which it has no room: queries for their
 * sizes wait for the store, and their catalogs are not read ahead of need.
 */
#include "postgres.h"

#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "known_databases.h"

#define MAX_KNOWN 8192 /* databases and tablespaces together */

#define LOCK_TRANCHE "pageserver_smgr_databases"

/*
 * A database in all its tablespaces (spc InvalidOid), or a tablespace with all
 * its databases (db InvalidOid).
 */
typedef struct KnownKey
{
	Oid spc;
	Oid db;
} KnownKey;

typedef struct Known
{
	KnownKey key;
	int64 size;
	TimestampTz as_of; /* time of size; 0: size is not known */
	int tries;         /* attempts to read the catalogs; CATALOG_TRIES: done, or given up */
} Known;

/* Protected by lock. */
static HTAB *known;
static uint64 *forgotten; /* number of calls of known_databases_forget() */
static LWLock *lock;

void
known_databases_request_shmem(void)
{
	RequestAddinShmemSpace(add_size(hash_estimate_size(MAX_KNOWN, sizeof(Known)), MAXALIGN(sizeof(uint64))));
	RequestNamedLWLockTranche(LOCK_TRANCHE, 1);
}

void
known_databases_startup_shmem(void)
{
	HASHCTL ctl = {.keysize = sizeof(KnownKey), .entrysize = sizeof(Known)};
	bool found;

	known = ShmemInitHash("pageserver_smgr databases", MAX_KNOWN, MAX_KNOWN, &ctl, HASH_ELEM | HASH_BLOBS);
	forgotten = ShmemInitStruct("pageserver_smgr forgotten databases", sizeof(uint64), &found);
	if (!found)
		*forgotten = 0;
	lock = &GetNamedLWLockTranche(LOCK_TRANCHE)->lock;
}

/* Returns the entry, a new one if necessary; NULL if there is no room.  Caller holds the lock exclusively. */
static Known *
find_or_add(Oid spc, Oid db)
{
	KnownKey key = {spc, db};
	Known *entry = hash_search(known, &key, HASH_FIND, NULL);

	if (entry != NULL || hash_get_num_entries(known) >= MAX_KNOWN)
		return entry;
	entry = hash_search(known, &key, HASH_ENTER_NULL, NULL);
	if (entry != NULL)
	{
		entry->size = 0;
		entry->as_of = 0;
		entry->tries = 0;
	}
	return entry;
}

void
known_databases_set_size(Oid spc, Oid db, int64 size, const KnownSize *last)
{
	TimestampTz now = GetCurrentTimestamp();
	Known *entry;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = *forgotten == last->forgotten ? find_or_add(spc, db) : NULL;
	if (entry != NULL)
	{
		entry->size = size;
		entry->as_of = now;
	}
	LWLockRelease(lock);
}

bool
known_databases_get_size(Oid spc, Oid db, KnownSize *last)
{
	KnownKey key = {spc, db};
	Known *entry;

	LWLockAcquire(lock, LW_SHARED);
	*last = (KnownSize) {.forgotten = *forgotten};
	entry = hash_search(known, &key, HASH_FIND, NULL);
	if (entry != NULL)
	{
		last->size = entry->size;
		last->as_of = entry->as_of;
	}
	LWLockRelease(lock);
	return last->as_of != 0;
}

bool
known_databases_catalogs_wanted(Oid db)
{
	KnownKey key = {InvalidOid, db};
	Known *entry;
	bool wanted;

	LWLockAcquire(lock, LW_SHARED);
	entry = hash_search(known, &key, HASH_FIND, NULL);
	wanted = entry != NULL && entry->tries < CATALOG_TRIES;
	LWLockRelease(lock);
	return wanted;
}

void
known_databases_catalogs_tried(Oid db, int tries)
{
	KnownKey key = {InvalidOid, db};
	Known *entry;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = hash_search(known, &key, HASH_FIND, NULL);
	if (entry != NULL)
		entry->tries = Min(entry->tries + tries, CATALOG_TRIES);
	LWLockRelease(lock);
}

void
known_databases_forget(Oid spc, Oid db)
{
	KnownKey key = {spc, db};

	LWLockAcquire(lock, LW_EXCLUSIVE);
	hash_search(known, &key, HASH_REMOVE, NULL);
	(*forgotten)++;
	LWLockRelease(lock);
}
