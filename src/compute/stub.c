/*
 * stub.c
 *	  Local files that stand for relations of the store.
 *
 * The md.c file of a permanent relation's fork is a stub: it has exactly the
 * fork's true length, in segments as md.c makes them, but holds no pages and,
 * being sparse, takes no room.  PostgreSQL asks for sizes all the time, also
 * where nothing may be asked of a network (commit, abort, critical sections):
 * the stub answers, by md.c's own functions.  Several places of PostgreSQL
 * look at the files themselves: mdimmedsync(), GetNewRelFileNode(), DROP
 * TABLESPACE.
 *
 * A fork of the base backup has no stub until it is first asked for; its size
 * then comes from the store.  That a fork does not exist, which is asked again
 * and again of the free space and visibility maps, is remembered in a bounded
 * table in shared memory.
 *
 * Locks: stub_lock(rel), one of a few LWLocks, exclusively while a stub is
 * created, made longer or shorter, or an entry of the table changes; shared
 * to look into the table.  It makes the decision "no local file, so create
 * one" one step, so that an older answer of the store never replaces a file
 * that somebody has made in between, and ftruncate() never shortens what
 * somebody else has just extended.  No request to the store is made while it
 * is held.  md.c's own lseek()s need no lock.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xact.h"
#include "commands/tablespace.h"
#include "common/hashfn.h"
#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/md.h"
#include "storage/shmem.h"

#include "lsn_cache.h"
#include "page_client.h"
#include "pg_compat.h"
#include "stub.h"
#include "wal_progress.h"

#define STUB_LOCKS  64
#define ABSENT_SETS 4096 /* a multiple of STUB_LOCKS: a lock covers whole sets */
#define ABSENT_WAYS 4

#define LOCK_TRANCHE "pageserver_smgr_stub"

/* A fork that is known not to exist; rel.rel is InvalidOid in a free entry. */
typedef struct AbsentFork
{
	PsRel rel;
	ForkNumber fork;
} AbsentFork;

/* A relation's entries are all in one set; the newest is the first.  Protected by stub_lock(). */
typedef struct AbsentSet
{
	AbsentFork forks[ABSENT_WAYS];
} AbsentSet;

static AbsentSet *absent_sets;
static LWLockPadded *locks;

void
stub_request_shmem(void)
{
	RequestAddinShmemSpace(ABSENT_SETS * sizeof(AbsentSet));
	RequestNamedLWLockTranche(LOCK_TRANCHE, STUB_LOCKS);
}

void
stub_startup_shmem(void)
{
	bool found;

	absent_sets = ShmemInitStruct("pageserver_smgr absent forks", ABSENT_SETS * sizeof(AbsentSet), &found);
	if (!found)
		memset(absent_sets, 0, ABSENT_SETS * sizeof(AbsentSet));
	locks = GetNamedLWLockTranche(LOCK_TRANCHE);
}

static uint32
hash_rel(PsRel rel)
{
	return hash_bytes((const unsigned char *) &rel, sizeof(rel));
}

static LWLock *
stub_lock(PsRel rel)
{
	return &locks[hash_rel(rel) % STUB_LOCKS].lock;
}

/* Caller holds stub_lock(). */
static AbsentFork *
absent_find(PsRel rel, ForkNumber fork)
{
	AbsentSet *set = &absent_sets[hash_rel(rel) % ABSENT_SETS];

	for (int i = 0; i < ABSENT_WAYS; i++)
		if (ps_rel_equal(set->forks[i].rel, rel) && set->forks[i].fork == fork)
			return &set->forks[i];
	return NULL;
}

/* Caller holds stub_lock() exclusively. */
static void
absent_add(PsRel rel, ForkNumber fork)
{
	AbsentSet *set = &absent_sets[hash_rel(rel) % ABSENT_SETS];

	if (absent_find(rel, fork) != NULL)
		return;
	memmove(&set->forks[1], &set->forks[0], sizeof(AbsentFork) * (ABSENT_WAYS - 1));
	set->forks[0].rel = rel;
	set->forks[0].fork = fork;
}

/* Caller holds stub_lock() exclusively. */
static void
absent_remove(PsRel rel, ForkNumber fork)
{
	AbsentFork *entry = absent_find(rel, fork);

	if (entry != NULL)
		memset(entry, 0, sizeof(*entry));
}

static bool
absent_known(PsRel rel, ForkNumber fork)
{
	bool known;

	LWLockAcquire(stub_lock(rel), LW_SHARED);
	known = absent_find(rel, fork) != NULL;
	LWLockRelease(stub_lock(rel));
	return known;
}

/* After DROP DATABASE: another database may get the OID. */
void
stub_forget_database(Oid db)
{
	for (int i = 0; i < STUB_LOCKS; i++)
	{
		LWLockAcquire(&locks[i].lock, LW_EXCLUSIVE);
		for (int set = i; set < ABSENT_SETS; set += STUB_LOCKS)
			for (int way = 0; way < ABSENT_WAYS; way++)
				if (absent_sets[set].forks[way].rel.db == db)
					memset(&absent_sets[set].forks[way], 0, sizeof(AbsentFork));
		LWLockRelease(&locks[i].lock);
	}
}

/*
 * During commit and abort (smgrDoPendingDeletes()), and in critical sections,
 * an error would end in PANIC, and nobody may wait for the network.
 */
static bool
local_knowledge_only(void)
{
	return !IsTransactionState() || CritSectionCount > 0;
}

static bool
local_file_exists(SMgrRelation reln, ForkNumber fork)
{
	return reln->md_num_open_segs[fork] > 0 || mdexists(reln, fork);
}

/* Creates or empties a file and gives it a length, sparse. */
static void
create_sparse(const char *path, BlockNumber nblocks)
{
	int fd = OpenTransientFile(path, O_RDWR | O_CREAT | O_TRUNC | PG_BINARY);

	if (fd < 0 || ftruncate(fd, (off_t) nblocks * BLCKSZ) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\" of %u blocks: %m", path, nblocks)));
	CloseTransientFile(fd);
}

/*
 * Makes the stub of a fork.  The first segment, by which others see that the
 * stub exists, appears last and with its length.  Caller holds stub_lock()
 * exclusively and has seen that there is none.
 */
static void
make_stub(SMgrRelation reln, ForkNumber fork, BlockNumber nblocks)
{
	char *path = compat_relation_path(compat_smgr_rel(reln), fork);
	char *temporary = psprintf("%s.new", path);

	for (BlockNumber segno = nblocks / RELSEG_SIZE; segno > 0; segno--)
	{
		BlockNumber length = Min(nblocks - segno * RELSEG_SIZE, RELSEG_SIZE);

		if (length > 0)
		{
			char *segment = psprintf("%s.%u", path, segno);

			create_sparse(segment, length);
			pfree(segment);
		}
	}
	create_sparse(temporary, Min(nblocks, RELSEG_SIZE));
	if (rename(temporary, path) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not rename file \"%s\" to \"%s\": %m", temporary, path)));
	pfree(temporary);
	pfree(path);
}

/*
 * Asks the store for a fork that has no local file; true if it exists, and
 * then it has a stub.
 */
static bool
fetch_stub(SMgrRelation reln, ForkNumber fork)
{
	PsRel rel = compat_smgr_rel(reln);
	BlockNumber nblocks = 0;
	bool exists;

	exists = page_client_relsize(rel, fork, wal_progress_flush_for_read(lsn_cache_get_relation(rel)), &nblocks);
	if (exists)
		TablespaceCreateDbspace(rel.spc, rel.db, false);

	LWLockAcquire(stub_lock(rel), LW_EXCLUSIVE);
	if (local_file_exists(reln, fork))
		exists = true; /* somebody else was faster, and knows better by now */
	else if (exists)
		make_stub(reln, fork, nblocks);
	else
		absent_add(rel, fork);
	LWLockRelease(stub_lock(rel));
	return exists;
}

/*
 * Does a fork of a permanent relation exist?  Where the store must not be
 * asked, "yes" is the safe answer if nothing is known: DROP then looks at all
 * buffers.
 */
bool
stub_exists(SMgrRelation reln, ForkNumber fork)
{
	PsRel rel = compat_smgr_rel(reln);

	if (fork != MAIN_FORKNUM && absent_known(rel, fork))
	{
		mdclose(reln, fork);
		return false;
	}
	if (mdexists(reln, fork))
		return true;
	if (local_knowledge_only())
		return !absent_known(rel, fork);
	return !absent_known(rel, fork) && fetch_stub(reln, fork);
}

/* Length of a fork of a permanent relation; ERROR, as md.c raises it, if there is no such fork. */
BlockNumber
stub_nblocks(SMgrRelation reln, ForkNumber fork)
{
	if (!local_file_exists(reln, fork) && !local_knowledge_only())
		fetch_stub(reln, fork);
	return mdnblocks(reln, fork);
}

/* The same, if it is known without asking. */
bool
stub_nblocks_local(SMgrRelation reln, ForkNumber fork, BlockNumber *nblocks)
{
	if (!local_file_exists(reln, fork))
		return false;
	*nblocks = mdnblocks(reln, fork);
	return true;
}

/*
 * Creates a fork, of whatever persistence.  A new relation has neither free
 * space nor visibility map.
 */
void
stub_create(SMgrRelation reln, ForkNumber fork, bool isRedo)
{
	PsRel rel = compat_smgr_rel(reln);

	TablespaceCreateDbspace(rel.spc, rel.db, isRedo);
	LWLockAcquire(stub_lock(rel), LW_EXCLUSIVE);
	mdcreate(reln, fork, isRedo);
	absent_remove(rel, fork);
	if (fork == MAIN_FORKNUM)
	{
		absent_add(rel, FSM_FORKNUM);
		absent_add(rel, VISIBILITYMAP_FORKNUM);
	}
	LWLockRelease(stub_lock(rel));
}

/* Makes a stub long enough to have block blk. */
void
stub_extend(SMgrRelation reln, ForkNumber fork, BlockNumber blk)
{
	LWLock *lock = stub_lock(compat_smgr_rel(reln));
	BlockNumber nblocks;

	(void) stub_nblocks(reln, fork); /* may have to ask the store */

	LWLockAcquire(lock, LW_EXCLUSIVE);
	nblocks = mdnblocks(reln, fork);
	if (blk < nblocks)
		/* hash indexes extend past blocks that they fill later */;
	else if (blk != InvalidBlockNumber && blk / RELSEG_SIZE == nblocks / RELSEG_SIZE &&
			 (nblocks == 0 || nblocks % RELSEG_SIZE != 0))
	{
		char *path = compat_relation_path(compat_smgr_rel(reln), fork);
		char *segment = blk < RELSEG_SIZE ? path : psprintf("%s.%u", path, blk / (BlockNumber) RELSEG_SIZE);

		if (truncate(segment, (off_t) (blk % RELSEG_SIZE + 1) * BLCKSZ) != 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not extend file \"%s\": %m", segment),
					 errhint("Check free disk space.")));
		if (segment != path)
			pfree(segment);
		pfree(path);
	}
	else
	{
		/* md.c makes segments, and complains of too long relations */
		PGAlignedBlock zeros;

		memset(zeros.data, 0, BLCKSZ);
		mdextend(reln, fork, blk, zeros.data, true);
	}
	LWLockRelease(lock);
}

/* As mdtruncate(); may be called in a critical section. */
void
stub_truncate(SMgrRelation reln, ForkNumber fork, BlockNumber old_blocks, BlockNumber nblocks)
{
	LWLock *lock = stub_lock(compat_smgr_rel(reln));

	LWLockAcquire(lock, LW_EXCLUSIVE);
	mdtruncate(reln, fork, old_blocks, nblocks);
	LWLockRelease(lock);
}

/* The length of a local file, whoever it belongs to; InvalidBlockNumber if there is none.  Raises no error. */
BlockNumber
stub_length_of_file(PsRel rel, ForkNumber fork)
{
	char *path = compat_relation_path(rel, fork);
	char segment[MAXPGPATH];
	BlockNumber nblocks = InvalidBlockNumber;
	struct stat st;

	if (stat(path, &st) == 0)
	{
		nblocks = st.st_size / BLCKSZ;
		for (int segno = 1; st.st_size == (off_t) RELSEG_SIZE * BLCKSZ; segno++)
		{
			snprintf(segment, sizeof(segment), "%s.%d", path, segno);
			if (stat(segment, &st) != 0)
				break;
			nblocks += st.st_size / BLCKSZ;
		}
	}
	pfree(path);
	return nblocks;
}
