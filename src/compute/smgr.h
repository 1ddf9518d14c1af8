/*
 * smgr.h
 *	  The storage manager: the functions that replace those of md.c.
 */
#ifndef PS_SMGR_H
#define PS_SMGR_H

#include "storage/smgr.h"

/*
 * From _PG_init: replaces PostgreSQL's table of storage managers (smgr_hook.c).
 * FATAL unless the table is found exactly once.
 */
extern void smgr_hook_install(void);

/* From _PG_init: registers a callback. */
extern void smgr_xact_init(void);

/* The contracts are those of PostgreSQL's mdcreate() etc. */
extern void ps_create(SMgrRelation reln, ForkNumber fork, bool isRedo);
extern bool ps_exists(SMgrRelation reln, ForkNumber fork);
extern void ps_unlink(RelFileNodeBackend rnode, ForkNumber fork, bool isRedo);
extern void ps_extend(SMgrRelation reln, ForkNumber fork, BlockNumber blk, char *buffer, bool skipFsync);
extern bool ps_prefetch(SMgrRelation reln, ForkNumber fork, BlockNumber blk);
extern void ps_read(SMgrRelation reln, ForkNumber fork, BlockNumber blk, char *buffer);
extern void ps_write(SMgrRelation reln, ForkNumber fork, BlockNumber blk, char *buffer, bool skipFsync);
extern BlockNumber ps_nblocks(SMgrRelation reln, ForkNumber fork);
extern void ps_truncate(SMgrRelation reln, ForkNumber fork, BlockNumber old_blocks, BlockNumber nblocks);

#endif /* PS_SMGR_H */
