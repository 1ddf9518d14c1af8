/*
 * smgr_table.c
 *	  Installs a storage manager in a PostgreSQL that has no hook for that.
 *
 * storage/smgr/smgr.c calls storage managers through the constant table smgrsw, which
 * has one entry: md.c.  The table has no symbol that a library could use, but the
 * functions in md.c have, and the table is in the part of the main program that the
 * dynamic linker makes read-only after relocation (PT_GNU_RELRO).  So it can be found
 * there, as the only sequence of exactly these pointers, and overwritten.
 *
 * The compiler calls mdinit(), mdopen() and mdimmedsync() directly (15.20), so their
 * replacements in a table are not called everywhere.
 */
#include "postgres.h"

#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include "utils/guc.h"

#include "smgr_table.h"

/*
 * PostgreSQL 15.11 introduced this function, and an additional argument of
 * smgr_truncate.  An older server would call the function in the table without
 * that argument, and nothing else would detect that, because the version of a
 * library is checked only for the major version.
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

/* dl_iterate_phdr callback: searches the RELRO segments of the main program, which comes first. */
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
smgr_table_poke(void *dst, const void *src, size_t len, int protection)
{
	uintptr_t page = sysconf(_SC_PAGESIZE);
	uintptr_t start = (uintptr_t) dst & ~(page - 1);
	uintptr_t end = TYPEALIGN(page, (uintptr_t) dst + len);

	if (mprotect((void *) start, end - start, PROT_READ | PROT_WRITE) != 0)
		ereport(FATAL,
				(errmsg("could not make memory of the PostgreSQL executable writable: %m"),
				 errhint("Check whether a security policy forbids it (SELinux: execmod, seccomp: mprotect).")));
	memcpy(dst, src, len);
	if (mprotect((void *) start, end - start, protection) != 0)
		ereport(FATAL,
				(errmsg("could not make memory of the PostgreSQL executable read-only again: %m"),
				 errhint("Check whether a security policy forbids it (SELinux: execmod, seccomp: mprotect).")));
}

void
smgr_table_replace(const SmgrTable *table, const char *library)
{
	Search search = {0};

	if (smgrtruncate2 == NULL)
		ereport(FATAL,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s requires PostgreSQL 15.11 or a newer minor release", library),
				 errdetail("The version of this server is %s.", GetConfigOption("server_version", false, false)),
				 errhint("Install the current minor release.")));
	dl_iterate_phdr(search_main_program, &search);
	if (search.found != 1)
		ereport(FATAL,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s cannot run in this build of PostgreSQL", library),
				 errdetail("The table of storage managers was found %d times in the executable. Expected is once.",
						   search.found),
				 errhint("Use a build for Linux with RELRO, as distributions ship it. No library other than \"%s\" "
						 "may replace the storage manager.",
						 library)));
	smgr_table_poke(search.table, table, sizeof(SmgrTable), PROT_READ);
}
