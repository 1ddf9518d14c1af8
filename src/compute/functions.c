/*
 * functions.c
 *	  Replaces functions of the main program, namely those that look at local
 *	  files for what is in the store.
 *
 * PostgreSQL calls them through fmgr_builtins and directly; extensions call them
 * by name.  All these calls arrive at the first instruction of the function, so
 * a jump to the replacement is written there.  This is done once, in the
 * postmaster, before it has children or handles signals; children inherit the
 * changed page.  The original function is never executed again, so it does not
 * matter what the jump overwrites.
 */
#include "postgres.h"

#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>

#include "functions.h"
#include "smgr_table.h"

#ifndef __x86_64__
#error "functions.c knows the jump instruction of x86-64 only"
#endif

/* jmp *(%rip): jumps to the address that follows the instruction. */
typedef struct pg_attribute_packed() Jump
{
	unsigned char code[6];
	uint64 target;
}
Jump;

void
function_replace(const char *name, void *function, void *replacement)
{
	Jump jump = {.code = {0xff, 0x25}, .target = (uint64) (uintptr_t) replacement};
	Dl_info info;
	const ElfW(Sym) *symbol = NULL;

	if (dladdr1(function, &info, (void **) &symbol, RTLD_DL_SYMENT) == 0 || symbol == NULL ||
		info.dli_saddr != function || strcmp(info.dli_sname, name) != 0 || symbol->st_size < sizeof(jump))
		ereport(FATAL,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("pageserver_smgr cannot run in this build of PostgreSQL"),
				 errdetail("Function \"%s\" was not found, or is shorter than %zu bytes.", name, sizeof(jump))));
	smgr_table_poke(function, &jump, sizeof(jump), PROT_READ | PROT_EXEC);
}
