/*
 * compat_rel.h
 *	  Conversions between PsRel and PostgreSQL's identity of a relation's storage,
 *	  whose name depends on the major version: RelFileNode is RelFileLocator
 *	  since 16.
 *
 * For libraries that are loaded into a server.  Include after postgres.h.
 */
#ifndef PS_COMPAT_REL_H
#define PS_COMPAT_REL_H

#include "storage/relfilenode.h"
#include "storage/smgr.h"

#include "rel.h"

static inline PsRel
compat_rel(RelFileNode node)
{
	PsRel rel = {node.spcNode, node.dbNode, node.relNode};

	return rel;
}

static inline RelFileNode
compat_node(PsRel rel)
{
	RelFileNode node = {.spcNode = rel.spc, .dbNode = rel.db, .relNode = rel.rel};

	return node;
}

static inline PsRel
compat_smgr_rel(SMgrRelation reln)
{
	return compat_rel(reln->smgr_rnode.node);
}

#endif /* PS_COMPAT_REL_H */
