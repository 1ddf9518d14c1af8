/*
 * persistence.c
 *	  Determines whether a relation is permanent (its pages come from the store),
 *	  or temporary or unlogged (they are in local files).
 *
 * PostgreSQL does not tell a storage manager.  It is determined in this order:
 *
 * 1. Temporary relations have a backend ID.  Init forks are permanent, but exist as
 *    complete local files, too, because ResetUnloggedRelations() and CREATE DATABASE
 *    copy the files; here they count as local.
 * 2. The buffer of a page in shared buffers has BM_PERMANENT or not.  With data
 *    checksums FlushBuffer() passes a private copy (PageSetChecksumCopy()); its
 *    buffer is pinned, and is found in the buffer table.
 * 3. A relation that is open in the relcache has a relpersistence.
 * 4. RelationCopyStorage() extends a relation that has no relcache entry from the
 *    private buffer into which it has read a page of a relation that has one.
 * 5. Only an unlogged relation has an init fork.
 *
 * smgr_owner (3) and BM_PERMANENT (2) always agree.  The init fork is misleading
 * while a relation is created or rewritten, so it is checked last.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "storage/bufmgr.h"
#include "storage/md.h"
#include "utils/rel.h"

#include "persistence.h"
#include "pg_compat.h"

/* The private buffer that was last read into, and the home of that page. */
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

/* Returns the shared buffer of a block, or NULL.  The result is valid for as long as the buffer is pinned. */
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
