/*
 * persistence.h
 *	  Where the pages of a relation live: in the store or in local files.
 */
#ifndef PS_PERSISTENCE_H
#define PS_PERSISTENCE_H

#include "storage/smgr.h"

#include "rel.h"

typedef enum PageHome
{
	HOME_LOCAL,  /* temporary or unlogged relation, init fork: md.c handles it */
	HOME_STORE,  /* permanent relation */
	HOME_UNKNOWN /* cannot be determined: handled as both */
} PageHome;

/* The home of a page that is read, extended or written at buffer. */
extern PageHome persistence_of_page(SMgrRelation reln, ForkNumber fork, BlockNumber blk, char *buffer);

/* The home of a fork, for calls without a page.  May open a local file. */
extern PageHome persistence_of_fork(SMgrRelation reln, ForkNumber fork);

/* Must be called with the result of persistence_of_page() for each page that is read. */
extern void persistence_note_read(char *buffer, PageHome home);

/* Is the page that smgrwrite() or smgrextend() was given neither a shared buffer nor a copy of one? */
extern bool persistence_is_private_page(SMgrRelation reln, ForkNumber fork, BlockNumber blk, const char *page);

/* Is the block in shared buffers?  Takes the buffer mapping lock. */
extern bool persistence_in_shared_buffers(PsRel rel, ForkNumber fork, BlockNumber blk);

#endif /* PS_PERSISTENCE_H */
