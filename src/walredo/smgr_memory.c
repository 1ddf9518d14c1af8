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

#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include "storage/bufpage.h"

#include "pg_compat.h"
#include "walredo.h"

BufferTag	walredo_target;
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

static const f_smgr memory_smgr = {
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

typedef struct SmgrSearch
{
	f_smgr	   *found;
	int			nfound;
} SmgrSearch;

/* Looks for md's entry in the read-only-after-relocation part of the main program. */
static int
search_relro(struct dl_phdr_info *info, size_t size, void *arg)
{
	SmgrSearch *search = arg;

	if (info->dlpi_name != NULL && info->dlpi_name[0] != '\0')
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++)
	{
		const		ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		char	   *start = (char *) (info->dlpi_addr + ph->p_vaddr);

		if (ph->p_type != PT_GNU_RELRO)
			continue;
		for (size_t off = 0; off + sizeof(f_smgr) <= ph->p_memsz; off += sizeof(void *))
		{
			if (memcmp(start + off, &md_smgr, sizeof(f_smgr)) != 0)
				continue;
			search->found = (f_smgr *) (start + off);
			search->nfound++;
		}
	}
	return 0;
}

/*
 * Puts our functions into smgrsw[].  mdinit and mdopen are called by their
 * names all the same (the compiler saw that the table is constant); neither
 * touches a file.
 */
void
memory_smgr_install(void)
{
	SmgrSearch	search = {0};
	uintptr_t	pagesize = sysconf(_SC_PAGESIZE);
	uintptr_t	from;
	uintptr_t	to;

	dl_iterate_phdr(search_relro, &search);
	if (search.nfound != 1)
		ereport(FATAL,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("pageserver_walredo found the storage manager table of this server %d times, expected once",
						search.nfound),
				 errhint("Use the PostgreSQL build that pageserver_walredo was compiled for.")));

	from = (uintptr_t) search.found & ~(pagesize - 1);
	to = ((uintptr_t) (search.found + 1) + pagesize - 1) & ~(pagesize - 1);
	if (mprotect((void *) from, to - from, PROT_READ | PROT_WRITE) != 0)
		elog(FATAL, "could not make the storage manager table writable: %m");
	*search.found = memory_smgr;
	if (mprotect((void *) from, to - from, PROT_READ) != 0)
		elog(FATAL, "could not make the storage manager table read-only: %m");
}
