/*
 * smgr_hook.c
 *	  Puts our storage manager into a PostgreSQL that has no hook for one.
 *
 * storage/smgr/smgr.c calls storage managers through the constant table
 * smgrsw, which has one entry: md.c.  The table has no name that a library
 * could see, but md.c's functions have, and the table lies in the part of the
 * main program that the dynamic linker makes read-only after relocation
 * (PT_GNU_RELRO).  So it can be found there, as the only run of exactly these
 * pointers, and overwritten.  That is done once, in the postmaster; all its
 * children inherit it.
 *
 * The compiler calls mdinit(), mdopen() and mdimmedsync() directly; the stub
 * files (stub.c) are what they need.
 */
#include "postgres.h"

#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include "storage/md.h"

#include "ps_smgr.h"

/* f_smgr of PostgreSQL 15's smgr.c */
typedef struct SmgrTable
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
	void		(*smgr_writeback) (SMgrRelation reln, ForkNumber forknum, BlockNumber blocknum, BlockNumber nblocks);
	BlockNumber (*smgr_nblocks) (SMgrRelation reln, ForkNumber forknum);
	void		(*smgr_truncate) (SMgrRelation reln, ForkNumber forknum, BlockNumber old_blocks, BlockNumber nblocks);
	void		(*smgr_immedsync) (SMgrRelation reln, ForkNumber forknum);
} SmgrTable;

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 160000
#error "smgr_hook.c knows the storage manager table of PostgreSQL 15 only"
#endif

static const SmgrTable md_table = {
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

/*
 * mdwriteback() touches only files that are open already, and stubs have
 * nothing to write back; syncing an empty stub costs nothing either.
 */
static const SmgrTable ps_table = {
	.smgr_init = mdinit,
	.smgr_shutdown = NULL,
	.smgr_open = mdopen,
	.smgr_close = mdclose,
	.smgr_create = ps_create,
	.smgr_exists = ps_exists,
	.smgr_unlink = ps_unlink,
	.smgr_extend = ps_extend,
	.smgr_prefetch = ps_prefetch,
	.smgr_read = ps_read,
	.smgr_write = ps_write,
	.smgr_writeback = mdwriteback,
	.smgr_nblocks = ps_nblocks,
	.smgr_truncate = ps_truncate,
	.smgr_immedsync = mdimmedsync,
};

typedef struct Search
{
	void	   *table;
	int			found;
} Search;

/* dl_iterate_phdr callback: looks through the RELRO segments of the main program, which comes first. */
static int
search_main_program(struct dl_phdr_info *info, size_t size, void *arg)
{
	Search	   *search = arg;

	for (int i = 0; i < info->dlpi_phnum; i++)
	{
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		char	   *start = (char *) info->dlpi_addr + segment->p_vaddr;

		if (segment->p_type != PT_GNU_RELRO)
			continue;
		for (size_t at = 0; at + sizeof(SmgrTable) <= segment->p_memsz; at += sizeof(void *))
			if (memcmp(start + at, &md_table, sizeof(SmgrTable)) == 0)
			{
				search->table = start + at;
				search->found++;
			}
	}
	return 1;
}

void
relro_poke(void *dst, const void *src, size_t len)
{
	uintptr_t	page = sysconf(_SC_PAGESIZE);
	uintptr_t	start = (uintptr_t) dst & ~(page - 1);
	uintptr_t	end = TYPEALIGN(page, (uintptr_t) dst + len);

	if (mprotect((void *) start, end - start, PROT_READ | PROT_WRITE) != 0)
		ereport(FATAL,
				(errmsg("could not make memory of the main program writable: %m"),
				 errhint("A security policy may forbid it (SELinux: execmod, seccomp: mprotect).")));
	memcpy(dst, src, len);
	if (mprotect((void *) start, end - start, PROT_READ) != 0)
		ereport(FATAL,
				(errmsg("could not make memory of the main program read-only: %m")));
}

void
smgr_hook_install(void)
{
	Search		search = {0};

	dl_iterate_phdr(search_main_program, &search);
	if (search.found != 1)
		ereport(FATAL,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("pageserver_smgr cannot run in this build of PostgreSQL"),
				 errdetail("The table of storage managers was found %d times in the main program, expected once.",
						   search.found),
				 errhint("Only builds for Linux with RELRO, as distributions ship them, are supported; \"pageserver_smgr\" must also be the only library that replaces the storage manager.")));
	relro_poke(search.table, &ps_table, sizeof(SmgrTable));
}
