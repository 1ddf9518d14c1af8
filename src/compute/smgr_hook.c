/*
 * smgr_hook.c
 *	  Installs our storage manager in PostgreSQL's table of storage managers.
 *	  That is done once, in the postmaster; its children inherit it.
 *
 * mdinit(), mdopen() and mdimmedsync() are called directly in some places
 * (smgr_table.c); stub.c provides the files that they need.
 */
#include "postgres.h"

#include "smgr.h"
#include "smgr_table.h"

/*
 * mdwriteback() affects only files that are already open, and stubs have nothing
 * to write back; syncing a stub without contents costs nothing either.
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

void
smgr_hook_install(void)
{
	smgr_table_replace(&ps_table, "pageserver_smgr");
}
