/*
 * walredo.h
 *	  Declarations for all files of the redo helper.
 *
 * A helper is one process with one thread, so nothing here needs a lock.
 */
#ifndef WALREDO_H
#define WALREDO_H

#include "storage/buf.h"

#include "redo_proto.h"

/* ---- process.c ---- */
/*
 * Sets up shared memory and a process in which redo functions may be called: in
 * recovery, with buffers, locks and a resource owner.
 */
extern void walredo_init_process(void);

/* ---- smgr_memory.c ---- */
/* Replaces md.c in this process. */
extern void smgr_memory_install(void);

/* The block that is being made, and its contents while they are not in a buffer. */
typedef struct WalredoTarget
{
	PsRel rel;
	ForkNumber fork;
	BlockNumber blk;
} WalredoTarget;

extern WalredoTarget walredo_target;
extern PGAlignedBlock walredo_page;

/* ---- apply.c ---- */
/* Allocates what requests need. */
extern void walredo_apply_init(void);

/*
 * Applies the records of a request; payload is what follows the request's
 * header.  Returns a pinned buffer with the resulting page.  After it has been
 * sent, walredo_reset() must be called.  If anything is wrong, an ERROR is
 * raised, after which walredo_recover() must be called instead.
 */
extern Buffer walredo_apply(const RedoRequest *request, char *payload);
extern void walredo_reset(Buffer buffer);

/* Cleans up after an ERROR.  Sets *answer and returns its text, which is valid until the next request. */
extern const char *walredo_recover(const RedoRequest *request, RedoAnswer *answer);

/* ---- sandbox.c ---- */
/*
 * From here on only the system calls listed in sandbox.c are allowed: whatever
 * redo needs from files must have been read before.
 */
extern void walredo_enter_sandbox(void);

#endif /* WALREDO_H */
