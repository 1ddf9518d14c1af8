/*
 * walredo.h
 *	  What the files of the redo helper share.  A helper is one process with
 *	  one thread: nothing here needs a lock.
 */
#ifndef WALREDO_H
#define WALREDO_H

#include "storage/buf_internals.h"
#include "storage/relfilenode.h"

#include "redo_proto.h"

/* ---- process.c: a stock postgres made ready for redo ---- */
extern void walredo_init_process(void);

/* ---- smgr_memory.c: the storage manager that knows one page ---- */
extern void memory_smgr_install(void);

/* The block that is being made, and its contents while it is in no buffer. */
extern BufferTag walredo_target;
extern PGAlignedBlock walredo_page;

/* ---- apply.c: one request ---- */
extern void walredo_apply_init(void);

/*
 * Applies the request's records.  payload: what follows the request's header.
 * Returns the pinned buffer with the page; walredo_reset() must follow once it
 * has been sent.  Raises an ERROR on anything wrong; walredo_recover() must
 * follow.
 */
extern Buffer walredo_apply(const RedoRequest *request, char *payload);
extern void walredo_reset(Buffer buffer);

/* Cleans up after an ERROR; sets *answer and returns its text, good until the next request. */
extern const char *walredo_recover(const RedoRequest *request, RedoAnswer *answer);

/* ---- sandbox.c ---- */
extern void walredo_enter_sandbox(void);

#endif /* WALREDO_H */
