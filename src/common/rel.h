/*
 * rel.h
 *	  The identity of a relation's storage, independent of what the major
 *	  version calls it (RelFileNode in 15, RelFileLocator from 16 on).
 *
 * Include after ps_fe.h (daemon) or postgres.h (extension).
 */
#ifndef PS_REL_H
#define PS_REL_H

#include "storage/block.h"
#include "common/relpath.h"

/* Tablespace, database (0 for shared relations) and file number. */
typedef struct PsRel
{
	Oid spc;
	Oid db;
	Oid rel;
} PsRel;

static inline bool
ps_rel_equal(PsRel a, PsRel b)
{
	return a.rel == b.rel && a.db == b.db && a.spc == b.spc;
}

#endif /* PS_REL_H */
