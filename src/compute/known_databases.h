/*
 * known_databases.h
 *	  What is known about databases and tablespaces without asking the store:
 *	  sizes, and whether catalogs have been read ahead of need.
 *
 * The functions take an LWLock of ours and raise no errors.
 */
#ifndef PS_KNOWN_DATABASES_H
#define PS_KNOWN_DATABASES_H

#include "datatype/timestamp.h"

extern void known_databases_request_shmem(void); /* from shmem_request_hook */
extern void known_databases_startup_shmem(void); /* from shmem_startup_hook; caller holds AddinShmemInitLock */

typedef struct KnownSize
{
	int64 size;
	TimestampTz as_of; /* 0: the size is not known */
	uint64 forgotten;  /* for known_databases_set_size() */
} KnownSize;

/*
 * Returns the last known size of a database (spc InvalidOid) or tablespace (db
 * InvalidOid); false if it is not known.
 */
extern bool known_databases_get_size(Oid spc, Oid db, KnownSize *last);

/*
 * Remembers a size that was measured after known_databases_get_size() had
 * returned "last"; not if something has been forgotten since, because that may
 * have been this database or tablespace.
 */
extern void known_databases_set_size(Oid spc, Oid db, int64 size, const KnownSize *last);

/* How often reading the catalogs of a database is tried. */
#define CATALOG_TRIES 3

/* Should the catalogs of a database still be read?  Only if its size is known. */
extern bool known_databases_catalogs_wanted(Oid db);

/* Adds tries that were made; CATALOG_TRIES: the catalogs have been read. */
extern void known_databases_catalogs_tried(Oid db, int tries);

/* Forgets a database (spc InvalidOid) or tablespace (db InvalidOid); to be called when its files have been removed. */
extern void known_databases_forget(Oid spc, Oid db);

#endif /* PS_KNOWN_DATABASES_H */
