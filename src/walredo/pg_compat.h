/*
 * pg_compat.h
 *	  What differs between PostgreSQL's major versions, for the redo helper.
 *
 * So far this is version 15 alone.
 */
#ifndef WALREDO_PG_COMPAT_H
#define WALREDO_PG_COMPAT_H

#include "storage/md.h"
#include "storage/smgr.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 160000
#error "pageserver_walredo is written for PostgreSQL 15"
#endif

/* smgr.c's own f_smgr, which no header declares. */
typedef struct f_smgr
{
	void		(*smgr_init) (void);
	void		(*smgr_shutdown) (void);
	void		(*smgr_open) (SMgrRelation reln);
	void		(*smgr_close) (SMgrRelation reln, ForkNumber forknum);
	void		(*smgr_create) (SMgrRelation reln, ForkNumber forknum, bool isRedo);
	bool		(*smgr_exists) (SMgrRelation reln, ForkNumber forknum);
	void		(*smgr_unlink) (RelFileNodeBackend rnode, ForkNumber forknum, bool isRedo);
	void		(*smgr_extend) (SMgrRelation reln, ForkNumber forknum, BlockNumber blocknum, char *buffer,
								bool skipFsync);
	bool		(*smgr_prefetch) (SMgrRelation reln, ForkNumber forknum, BlockNumber blocknum);
	void		(*smgr_read) (SMgrRelation reln, ForkNumber forknum, BlockNumber blocknum, char *buffer);
	void		(*smgr_write) (SMgrRelation reln, ForkNumber forknum, BlockNumber blocknum, char *buffer,
							   bool skipFsync);
	void		(*smgr_writeback) (SMgrRelation reln, ForkNumber forknum, BlockNumber blocknum,
								   BlockNumber nblocks);
	BlockNumber (*smgr_nblocks) (SMgrRelation reln, ForkNumber forknum);
	void		(*smgr_truncate) (SMgrRelation reln, ForkNumber forknum, BlockNumber old_blocks,
								  BlockNumber nblocks);
	void		(*smgr_immedsync) (SMgrRelation reln, ForkNumber forknum);
} f_smgr;

/* The only entry of smgrsw[] as PostgreSQL links it. */
static const f_smgr md_smgr = {
	.smgr_init = mdinit,
	.smgr_shutdown = NULL,
	.smgr_open = mdopen,
	.smgr_close = mdclose,
	.smgr_create = mdcreate,
	.smgr_exists = mdexists,
	.smgr_unlink = mdunlink,
	.smgr_extend = mdextend,
	.smgr_prefetch = mdprefetch,
	.smgr_read = mdread,
	.smgr_write = mdwrite,
	.smgr_writeback = mdwriteback,
	.smgr_nblocks = mdnblocks,
	.smgr_truncate = mdtruncate,
	.smgr_immedsync = mdimmedsync,
};

#endif							/* WALREDO_PG_COMPAT_H */
