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

/*
 * The size of a database (spc InvalidOid) or tablespace (db InvalidOid), as of the
 * last call of known_databases_set_size().  The second function returns false if it
 * is not known.
 */
extern void known_databases_set_size(Oid spc, Oid db, int64 size);
extern bool known_databases_get_size(Oid spc, Oid db, int64 *size, TimestampTz *as_of);

/* How often reading the catalogs of a database is tried. */
#define CATALOG_TRIES 3

/* Should the catalogs of a database still be read? */
extern bool known_databases_catalogs_wanted(Oid db);

/* Adds tries that were made; CATALOG_TRIES: the catalogs have been read. */
extern void known_databases_catalogs_tried(Oid db, int tries);

/* Forgets a database (spc InvalidOid) or tablespace (db InvalidOid). */
extern void known_databases_forget(Oid spc, Oid db);

#endif /* PS_KNOWN_DATABASES_H */
