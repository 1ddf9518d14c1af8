/*
 * stub.h
 *	  Stubs: local files that have the length of a permanent relation's fork, but
 *	  none of its pages.
 *
 * Where an error would be a PANIC (commit, abort, critical sections) these
 * functions use only what is known locally; elsewhere they may ask the store.
 */
#ifndef PS_STUB_H
#define PS_STUB_H

#include "storage/smgr.h"

#include "rel.h"

extern void stub_request_shmem(void); /* from shmem_request_hook */
extern void stub_startup_shmem(void); /* from shmem_startup_hook; caller holds AddinShmemInitLock */

/* Creates a fork, of any persistence.  isRedo: it may exist already. */
extern void stub_create(SMgrRelation reln, ForkNumber fork, bool isRedo);

/* Does the fork exist?  Where the store must not be asked and nothing is known, the answer is true, which is safe. */
extern bool stub_exists(SMgrRelation reln, ForkNumber fork);

/* The length of a fork in blocks; ERROR, as in md.c, if it does not exist. */
extern BlockNumber stub_nblocks(SMgrRelation reln, ForkNumber fork);

/* Sets *nblocks to the length of a fork if there is a stub, else returns false.  Does not ask the store. */
extern bool stub_nblocks_local(SMgrRelation reln, ForkNumber fork, BlockNumber *nblocks);

/* Extends the stub, if necessary, to contain block blk. */
extern void stub_extend(SMgrRelation reln, ForkNumber fork, BlockNumber blk);

/* Like mdtruncate().  May be called in a critical section. */
extern void stub_truncate(SMgrRelation reln, ForkNumber fork, BlockNumber old_blocks, BlockNumber nblocks);

/*
 * The length in blocks of the local file of a relation that is not temporary;
 * InvalidBlockNumber if it does not exist.  Raises no error.
 */
extern BlockNumber stub_length_of_file(PsRel rel, ForkNumber fork);

/* Forgets which forks of a database are known not to exist: the OID may be used by another database. */
extern void stub_forget_database(Oid db);

#endif /* PS_STUB_H */
