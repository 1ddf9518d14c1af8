/*
 * pg_compat.h
 *	  What apply.c uses of PostgreSQL that differs between major versions.
 *
 * It supports PostgreSQL 15 only.  A port to another version adds its variants
 * here, in common/compat_rel.h and in these files, which are written for 15 as a
 * whole:
 *
 *	common/smgr_table.[ch]	the table of storage managers
 *	smgr_memory.c			the functions in ours
 *	process.c				startup: which functions initialize shared memory
 *
 * Include after postgres.h.
 */
#ifndef WALREDO_PG_COMPAT_H
#define WALREDO_PG_COMPAT_H

#include "access/xlogreader.h"
#include "catalog/storage_xlog.h"
#include "storage/buf_internals.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"

#include "compat_rel.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 160000
#error "pg_compat.h supports PostgreSQL 15 only"
#endif

static inline Oid
compat_buffer_db(const BufferDesc *buf)
{
	return buf->tag.rnode.dbNode;
}

static inline PsRel
compat_block_rel(const DecodedBkpBlock *block)
{
	return compat_rel(block->rnode);
}

static inline PsRel
compat_truncated_rel(const xl_smgr_truncate *record)
{
	return compat_rel(record->rnode);
}

/* Has the page a valid header, and a valid checksum if there are checksums? */
static inline bool
compat_page_is_valid(char *page, BlockNumber blk)
{
	return PageIsVerifiedExtended(page, blk, 0);
}

/* Since 17 smgrdestroyall() is what frees the entries. */
static inline void
compat_smgr_close_all(void)
{
	smgrcloseall();
}

/* Cleanup after an error.  Since 17 the resource owner does it. */
static inline void
compat_abort_buffer_io(void)
{
	AbortBufferIO();
}

#endif /* WALREDO_PG_COMPAT_H */
