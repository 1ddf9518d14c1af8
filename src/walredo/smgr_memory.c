/*
 * smgr_memory.c
 *	  The storage manager of a redo helper: it knows one page, the target, and
 *	  makes up every other.
 *
 * A made-up page is not new and its LSN is the highest there is, so that
 * XLogReadBufferForRedoExtended() (xlogutils.c) answers BLK_DONE for it and
 * redo leaves it alone.  Every relation seems to be as large as can be, so
 * nothing is ever extended or missing.
 */
#include "postgres.h"

#include "storage/bufpage.h"

#include "smgr_table.h"
#include "walredo.h"

BufferTag walredo_target;
PGAlignedBlock walredo_page;

static inline bool
is_target(SMgrRelation reln, ForkNumber forknum, BlockNumber blocknum)
{
	return blocknum == walredo_target.blockNum && forknum == walredo_target.forkNum &&
		   RelFileNodeEquals(reln->smgr_rnode.node, walredo_target.rnode);
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
 * Asked only by redo of a truncation (storage.c, smgr_redo): without a free
 * space map it has less to do, and no page of one is ever made here by
 * anything but an image.
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

/* The target may have to leave its buffer in the middle of a chain. */
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

/*
 * mdinit and mdopen are called by their names all the same (smgr_table.c);
 * neither touches a file.
 */
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
memory_smgr_install(void)
{
	smgr_table_replace(&memory_smgr, "pageserver_walredo");
}
