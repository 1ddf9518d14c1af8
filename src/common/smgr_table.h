/*
 * smgr_table.h
 *	  PostgreSQL's table of storage managers, and how to replace its only entry.
 *
 * For libraries that are loaded into a stock server: the extension in a compute and
 * the redo helper.  Include after postgres.h.  This file and smgr_table.c depend on
 * the major version.
 */
#ifndef PS_SMGR_TABLE_H
#define PS_SMGR_TABLE_H

#include "storage/md.h"
#include "storage/smgr.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 160000
#error "smgr_table.h knows the storage manager table of PostgreSQL 15 only"
#endif
#if PG_VERSION_NUM < 150011
#error "smgr_truncate has another argument since PostgreSQL 15.11: install the headers of a newer minor release"
#endif

/* f_smgr in smgr.c, which no header declares */
typedef struct SmgrTable
{
	void (*smgr_init)(void);
	void (*smgr_shutdown)(void);
	void (*smgr_open)(SMgrRelation reln);
	void (*smgr_close)(SMgrRelation reln, ForkNumber forknum);
	void (*smgr_create)(SMgrRelation reln, ForkNumber forknum, bool isRedo);
	bool (*smgr_exists)(SMgrRelation reln, ForkNumber forknum);
	void (*smgr_unlink)(RelFileNodeBackend rnode, ForkNumber forknum, bool isRedo);
	void (*smgr_extend)(SMgrRelation reln, ForkNumber forknum, BlockNumber blocknum, char *buffer,
						bool skipFsync);
	bool (*smgr_prefetch)(SMgrRelation reln, ForkNumber forknum, BlockNumber blocknum);
	void (*smgr_read)(SMgrRelation reln, ForkNumber forknum, BlockNumber blocknum, char *buffer);
	void (*smgr_write)(SMgrRelation reln, ForkNumber forknum, BlockNumber blocknum, char *buffer,
					   bool skipFsync);
	void (*smgr_writeback)(SMgrRelation reln, ForkNumber forknum, BlockNumber blocknum, BlockNumber nblocks);
	BlockNumber (*smgr_nblocks)(SMgrRelation reln, ForkNumber forknum);
	void (*smgr_truncate)(SMgrRelation reln, ForkNumber forknum, BlockNumber old_blocks, BlockNumber nblocks);
	void (*smgr_immedsync)(SMgrRelation reln, ForkNumber forknum);
} SmgrTable;

/*
 * Replaces the functions of md.c by those in "table", in this process and its
 * future children.  To be called from _PG_init; messages name the given library.
 * FATAL unless the table is found exactly once and the server is 15.11 or newer.
 */
extern void smgr_table_replace(const SmgrTable *table, const char *library);

/*
 * Overwrites read-only memory of the main program, whose protection (PROT_*) is
 * then set to the given one.  FATAL on failure.
 */
extern void smgr_table_poke(void *dst, const void *src, size_t len, int protection);

#endif /* PS_SMGR_TABLE_H */
