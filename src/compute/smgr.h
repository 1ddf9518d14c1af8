/*
 * smgr.h
 *	  What the parts of the storage manager know of each other: smgr.c,
 *	  persistence.c, keep.c, stub.c, readahead.c.
 */
#ifndef PS_SMGR_H
#define PS_SMGR_H

#include "storage/block.h"
#include "storage/bufpage.h"

#include "compute.h"

static inline PsRel
ps_rel_from_node(RelFileNode node)
{
	PsRel rel = {node.spcNode, node.dbNode, node.relNode};

	return rel;
}

/* ---- smgr.c: the functions that smgr_hook.c puts into smgrsw ---- */
extern void ps_create(SMgrRelation reln, ForkNumber fork, bool isRedo);
extern bool ps_exists(SMgrRelation reln, ForkNumber fork);
extern void ps_unlink(RelFileNodeBackend rnode, ForkNumber fork, bool isRedo);
extern void ps_extend(SMgrRelation reln, ForkNumber fork, BlockNumber blk, char *buffer, bool skipFsync);
extern bool ps_prefetch(SMgrRelation reln, ForkNumber fork, BlockNumber blk);
extern void ps_read(SMgrRelation reln, ForkNumber fork, BlockNumber blk, char *buffer);
extern void ps_write(SMgrRelation reln, ForkNumber fork, BlockNumber blk, char *buffer, bool skipFsync);
extern BlockNumber ps_nblocks(SMgrRelation reln, ForkNumber fork);
extern void ps_truncate(SMgrRelation reln, ForkNumber fork, BlockNumber old_blocks, BlockNumber nblocks);

/* ---- persistence.c: where a page belongs ---- */
typedef enum PsHome
{
	PS_HOME_LOCAL,  /* temporary, unlogged, init fork: md.c alone */
	PS_HOME_STORE,  /* permanent */
	PS_HOME_UNKNOWN /* nobody can tell: treated as both */
} PsHome;

/* Of a page that is read, extended or written; buffer is where it is or goes. */
extern PsHome persistence_of_page(SMgrRelation reln, ForkNumber fork, BlockNumber blk, char *buffer);

/* Of a fork, for calls without a page.  May open a local file. */
extern PsHome persistence_of_fork(SMgrRelation reln, ForkNumber fork);

/* To be called with what persistence_of_page() said of a page that was read. */
extern void persistence_note_read(char *buffer, PsHome home);

/* Neither in a shared buffer nor, with data checksums, a copy of one. */
extern bool is_private_page(SMgrRelation reln, ForkNumber fork, BlockNumber blk, const char *page);

extern bool is_in_shared_buffers(RelFileNode node, ForkNumber fork, BlockNumber blk);

/* ---- keep.c ---- */

/* Says why a page of a permanent relation that PostgreSQL writes must stay in the page cache. */
extern void page_keep_reasons(ForkNumber fork, BlockNumber blk, const char *page, PageKeep *keep);

/* A main fork's block 0, not new, looks like a sequence's. */
extern bool is_sequence_page(const char *page);

/* ---- stub.c: local files of the right length, and what is known not to exist ---- */
extern void stub_create(SMgrRelation reln, ForkNumber fork, bool isRedo);
extern bool stub_exists(SMgrRelation reln, ForkNumber fork);
extern BlockNumber stub_nblocks(SMgrRelation reln, ForkNumber fork);
extern bool stub_nblocks_local(SMgrRelation reln, ForkNumber fork, BlockNumber *nblocks);
extern void stub_extend(SMgrRelation reln, ForkNumber fork, BlockNumber blk);
extern void stub_truncate(SMgrRelation reln, ForkNumber fork, BlockNumber old_blocks, BlockNumber nblocks);
extern BlockNumber stub_length_of_file(RelFileNodeBackend rnode, ForkNumber fork);

/* ---- readahead.c ---- */

/* A block is read: asks for what follows if it is part of a sequential read; missing: the cache does not have it. */
extern void readahead_advance(SMgrRelation reln, ForkNumber fork, BlockNumber blk, bool missing);

/* PostgreSQL says that a block will be read: collected, and sent in batches. */
extern void readahead_collect(SMgrRelation reln, ForkNumber fork, BlockNumber blk);

/* Sends what readahead_collect() has collected. */
extern void readahead_send_collected(void);

#endif /* PS_SMGR_H */
