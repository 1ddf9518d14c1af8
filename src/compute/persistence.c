/*
 * persistence.c
 *	  Is a relation permanent (its pages come from the store), or temporary or
 *	  unlogged (they live in local files)?
 *
 * A storage manager is not told.  It can be found out, in this order:
 *
 * 1. Temporary relations belong to a backend.  Init forks are permanent, but
 *	  kept as complete local files as well, because ResetUnloggedRelations()
 *	  and CREATE DATABASE copy the files: for us they are local.
 * 2. A page in shared buffers has BM_PERMANENT or not.  With data checksums
 *	  FlushBuffer() hands over a private copy (PageSetChecksumCopy()); its
 *	  buffer is then found in the buffer table, where it is pinned.
 * 3. A relation that is open in the relcache knows its relpersistence.
 * 4. RelationCopyStorage() extends a relation that has no relcache entry from
 *	  the private buffer into which it has read a page of one that has.
 * 5. Only an unlogged relation has an init fork.
 *
 * smgr_owner and BM_PERMANENT agree always; the init fork alone is wrong while
 * a relation is created or rewritten, so it comes last.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "storage/bufmgr.h"
#include "storage/md.h"
#include "utils/rel.h"

#include "persistence.h"
#include "pg_compat.h"

/* The private buffer that was last read into, and where its page belongs. */
static char *last_read_buffer;
static PageHome last_read_home;

static bool
is_shared_buffer(const char *page)
{
	return page >= BufferBlocks && page < BufferBlocks + (Size) NBuffers * BLCKSZ;
}

static PageHome
home_of_buffer(BufferDesc *buf)
{
	return (pg_atomic_read_u32(&buf->state) & BM_PERMANENT) ? HOME_STORE : HOME_LOCAL;
}

/* The shared buffer that holds a block, or NULL; it is that block's for as long as it is pinned. */
static BufferDesc *
find_buffer(PsRel rel, ForkNumber fork, BlockNumber blk)
{
	BufferTag tag;
	uint32 hash;
	LWLock *lock;
	int id;

	compat_init_buffer_tag(&tag, rel, fork, blk);
	hash = BufTableHashCode(&tag);
	lock = BufMappingPartitionLock(hash);
	LWLockAcquire(lock, LW_SHARED);
	id = BufTableLookup(&tag, hash);
	LWLockRelease(lock);
	return id < 0 ? NULL : GetBufferDescriptor(id);
}

bool
persistence_in_shared_buffers(PsRel rel, ForkNumber fork, BlockNumber blk)
{
	return find_buffer(rel, fork, blk) != NULL;
}

/* Is the page that smgrwrite() or smgrextend() got neither a shared buffer nor a copy of one? */
bool
persistence_is_private_page(SMgrRelation reln, ForkNumber fork, BlockNumber blk, const char *page)
{
	return !is_shared_buffer(page) &&
		   !(DataChecksumsEnabled() && persistence_in_shared_buffers(compat_smgr_rel(reln), fork, blk));
}

static PageHome
home_by_relcache(SMgrRelation reln)
{
	Relation rel = compat_relation_of_smgr(reln);

	if (rel == NULL || rel->rd_rel == NULL)
		return HOME_UNKNOWN;
	return rel->rd_rel->relpersistence == RELPERSISTENCE_PERMANENT ? HOME_STORE : HOME_LOCAL;
}

PageHome
persistence_of_page(SMgrRelation reln, ForkNumber fork, BlockNumber blk, char *buffer)
{
	PageHome home = HOME_UNKNOWN;

	if (SmgrIsTemp(reln) || fork == INIT_FORKNUM)
		return HOME_LOCAL;
	if (is_shared_buffer(buffer))
		return home_of_buffer(GetBufferDescriptor((buffer - BufferBlocks) / BLCKSZ));
	if (DataChecksumsEnabled())
	{
		BufferDesc *buf = find_buffer(compat_smgr_rel(reln), fork, blk);

		if (buf != NULL)
			home = home_of_buffer(buf);
	}
	if (home == HOME_UNKNOWN)
		home = home_by_relcache(reln);
	if (home == HOME_UNKNOWN && buffer == last_read_buffer)
		home = last_read_home;
	if (home == HOME_UNKNOWN && mdexists(reln, INIT_FORKNUM))
		home = HOME_LOCAL;
	return home;
}

PageHome
persistence_of_fork(SMgrRelation reln, ForkNumber fork)
{
	PageHome home;

	if (SmgrIsTemp(reln) || fork == INIT_FORKNUM)
		return HOME_LOCAL;
	home = home_by_relcache(reln);
	if (home == HOME_UNKNOWN && mdexists(reln, INIT_FORKNUM))
		home = HOME_LOCAL;
	return home;
}

void
persistence_note_read(char *buffer, PageHome home)
{
	if (is_shared_buffer(buffer))
		return;
	last_read_buffer = buffer;
	last_read_home = home;
}
