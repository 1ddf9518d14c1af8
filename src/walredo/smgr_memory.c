/*
 * smgr_memory.c
 *	  The storage manager of a redo helper: it has one page, the target, and
 *	  makes up all others.
 *
 * A made-up page is not new and has the greatest possible LSN, so that
 * XLogReadBufferForRedoExtended() (xlogutils.c) returns BLK_DONE and redo leaves it
 * alone.  Every relation appears to have the maximum length, so nothing is ever
 * extended or missing.
 */
#include "postgres.h"

#include "storage/bufpage.h"

#include "compat_rel.h"
#include "smgr_table.h"
#include "walredo.h"

WalredoTarget walredo_target;
PGAlignedBlock walredo_page;

static inline bool
is_target(SMgrRelation reln, ForkNumber forknum, BlockNumber blocknum)
{
	return blocknum == walredo_target.blk && forknum == walredo_target.fork &&
		   ps_rel_equal(compat_smgr_rel(reln), walredo_target.rel);
}

static void
memory_open(SMgrRelation reln)
{
}

static void
memory_fork_noop(SMgrRelation reln, ForkNumber forknum)
{
}

static void
memory_create(SMgrRelation reln, ForkNumber forknum, bool isRedo)
{
}

/*
 * Called only by redo of a truncation (storage.c, smgr_redo).  Without a free
 * space map that has less to do, and pages of such maps are only made from
 * images.
 */
static bool
memory_exists(SMgrRelation reln, ForkNumber forknum)
{
	return forknum != FSM_FORKNUM;
}

static void
memory_unlink(RelFileNodeBackend rnode, ForkNumber forknum, bool isRedo)
{
}

/* The target may have to leave its buffer in the middle of a chain of records. */
static void
memory_write(SMgrRelation reln, ForkNumber forknum, BlockNumber blocknum, char *buffer, bool skipFsync)
{
	if (is_target(reln, forknum, blocknum))
		memcpy(walredo_page.data, buffer, BLCKSZ);
}

static bool
memory_prefetch(SMgrRelation reln, ForkNumber forknum, BlockNumber blocknum)
{
	return true;
}

static void
memory_read(SMgrRelation reln, ForkNumber forknum, BlockNumber blocknum, char *buffer)
{
	if (is_target(reln, forknum, blocknum))
		memcpy(buffer, walredo_page.data, BLCKSZ);
	else
	{
		PageInit(buffer, BLCKSZ, 0);
		PageSetLSN(buffer, PG_UINT64_MAX);
	}
}

static void
memory_writeback(SMgrRelation reln, ForkNumber forknum, BlockNumber blocknum, BlockNumber nblocks)
{
}

static BlockNumber
memory_nblocks(SMgrRelation reln, ForkNumber forknum)
{
	return MaxBlockNumber;
}

static void
memory_truncate(SMgrRelation reln, ForkNumber forknum, BlockNumber old_blocks, BlockNumber nblocks)
{
}

/* mdinit() and mdopen() are called directly anyway (smgr_table.c); neither touches a file. */
static const SmgrTable memory_smgr = {
	.smgr_init = mdinit,
	.smgr_shutdown = NULL,
	.smgr_open = memory_open,
	.smgr_close = memory_fork_noop,
	.smgr_create = memory_create,
	.smgr_exists = memory_exists,
	.smgr_unlink = memory_unlink,
	.smgr_extend = memory_write,
	.smgr_prefetch = memory_prefetch,
	.smgr_read = memory_read,
	.smgr_write = memory_write,
	.smgr_writeback = memory_writeback,
	.smgr_nblocks = memory_nblocks,
	.smgr_truncate = memory_truncate,
	.smgr_immedsync = memory_fork_noop,
};

void
smgr_memory_install(void)
{
	smgr_table_replace(&memory_smgr, "pageserver_walredo");
}
