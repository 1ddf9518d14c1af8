/*
 * smgr_table.c
 *	  Puts a storage manager into a PostgreSQL that has no hook for one.
 *
 * storage/smgr/smgr.c calls storage managers through the constant table
 * smgrsw, which has one entry: md.c.  The table has no name that a library
 * could see, but md.c's functions have, and the table lies in the part of the
 * main program that the dynamic linker makes read-only after relocation
 * (PT_GNU_RELRO).  So it can be found there, as the only run of exactly these
 * pointers, and overwritten.
 *
 * The compiler calls mdinit(), mdopen() and mdimmedsync() directly (15.20):
 * what a table has in their place is not called everywhere.
 */
#include "postgres.h"

#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include "utils/guc.h"

#include "smgr_table.h"

/*
 * It came with 15.11, which gave smgr_truncate another argument: an older
 * server would call the table's function without it, and nothing else notices,
 * for libraries are checked for the major version only.
 */
#pragma weak smgrtruncate2

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

typedef struct Search
{
	void *table;
	int found;
} Search;

/* dl_iterate_phdr callback: looks through the RELRO segments of the main program, which comes first. */
static int
search_main_program(struct dl_phdr_info *info, size_t size, void *arg)
{
	Search *search = arg;

	for (int i = 0; i < info->dlpi_phnum; i++)
	{
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		char *start = (char *) info->dlpi_addr + segment->p_vaddr;

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
program_poke(void *dst, const void *src, size_t len, int protection)
{
	uintptr_t page = sysconf(_SC_PAGESIZE);
	uintptr_t start = (uintptr_t) dst & ~(page - 1);
	uintptr_t end = TYPEALIGN(page, (uintptr_t) dst + len);

	if (mprotect((void *) start, end - start, PROT_READ | PROT_WRITE) != 0)
		ereport(FATAL,
				(errmsg("could not make memory of the main program writable: %m"),
				 errhint("A security policy may forbid it (SELinux: execmod, seccomp: mprotect).")));
	memcpy(dst, src, len);
	if (mprotect((void *) start, end - start, protection) != 0)
		ereport(FATAL,
				(errmsg("could not protect memory of the main program again: %m"),
				 errhint("A security policy may forbid it (SELinux: execmod, seccomp: mprotect).")));
}

void
smgr_table_replace(const SmgrTable *table, const char *library)
{
	Search search = {0};

	if (smgrtruncate2 == NULL)
		ereport(FATAL,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s needs PostgreSQL 15.11 or a newer minor release", library),
				 errdetail("This server is version %s.", GetConfigOption("server_version", false, false)),
				 errhint("Install the current minor release.")));
	dl_iterate_phdr(search_main_program, &search);
	if (search.found != 1)
		ereport(FATAL,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s cannot run in this build of PostgreSQL", library),
				 errdetail("The table of storage managers was found %d times in the main program, expected once.",
						   search.found),
				 errhint("Only builds for Linux with RELRO, as distributions ship them, are supported; \"%s\" must also be the only library that replaces the storage manager.",
						 library)));
	program_poke(search.table, table, sizeof(SmgrTable), PROT_READ);
}
