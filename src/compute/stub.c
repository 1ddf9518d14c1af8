/*
 * stub.c
 *	  Stubs: local files that represent forks of relations in the store.
 *
 * The md.c file of a permanent relation's fork is a stub.  It has exactly the fork's
 * length, in segments like those of md.c, but it is sparse and contains no pages.
 * PostgreSQL often asks for sizes, also where the network must not be used (commit,
 * abort, critical sections); with stubs, md.c's own functions answer.  Several places
 * in PostgreSQL use the files themselves: mdimmedsync(), GetNewRelFileNode(), DROP
 * TABLESPACE.
 *
 * A fork of the base backup has no stub until it is first used; then its size is
 * requested from the store.  A bounded table in shared memory remembers forks that
 * are known not to exist, because PostgreSQL asks again and again for free space and
 * visibility maps.
 *
 * Locks: stub_lock(rel), one of a few LWLocks, is held exclusively to create, extend
 * or truncate a stub or to change the table, and shared to read the table.  It makes
 * it atomic to see that there is no local file and to create one, so that an outdated
 * answer of the store never replaces a file that another process has created
 * meanwhile, and ftruncate() never shortens a file that another process has just
 * extended.  No request is sent to the store while it is held.  md.c's lseek() needs
 * no lock.
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
#define ABSENT_SETS 4096 /* a multiple of STUB_LOCKS, so that a lock covers whole sets */
#define ABSENT_WAYS 4

#define LOCK_TRANCHE "pageserver_smgr_stub"

/* A fork that is known not to exist; rel.rel is InvalidOid in a free entry. */
typedef struct AbsentFork
{
	PsRel rel;
	ForkNumber fork;
} AbsentFork;

/* All entries of a relation are in the same set, the newest first.  Protected by stub_lock(). */
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
 * During commit and abort (smgrDoPendingDeletes()) and in critical sections, an
 * error would be a PANIC, and no process may wait for the network.
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

/* Creates or empties a file and makes it sparse, with the given length. */
static void
create_sparse(const char *path, BlockNumber nblocks)
{
	int fd = OpenTransientFile(path, O_RDWR | O_CREAT | O_TRUNC | PG_BINARY);

	if (fd < 0 || ftruncate(fd, (off_t) nblocks * BLCKSZ) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\" with %u blocks: %m", path, nblocks)));
	CloseTransientFile(fd);
}

/*
 * Creates the stub of a fork.  The first segment, whose existence means that
 * there is a stub, appears last and with its final length.  Caller holds
 * stub_lock() exclusively and has checked that there is no stub.
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

/* Asks the store for a fork that has no local file.  If it exists, creates a stub and returns true. */
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
		exists = true; /* another process was faster; the file may have changed since */
	else if (exists)
		make_stub(reln, fork, nblocks);
	else
		absent_add(rel, fork);
	LWLockRelease(stub_lock(rel));
	return exists;
}

/* If true is returned although the fork does not exist, DROP searches all buffers for its pages. */
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

BlockNumber
stub_nblocks(SMgrRelation reln, ForkNumber fork)
{
	if (!local_file_exists(reln, fork) && !local_knowledge_only())
		fetch_stub(reln, fork);
	return mdnblocks(reln, fork);
}

bool
stub_nblocks_local(SMgrRelation reln, ForkNumber fork, BlockNumber *nblocks)
{
	if (!local_file_exists(reln, fork))
		return false;
	*nblocks = mdnblocks(reln, fork);
	return true;
}

/* A new relation has neither a free space map nor a visibility map. */
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
		/* md.c creates segments, and reports relations that are too long */
		PGAlignedBlock zeros;

		memset(zeros.data, 0, BLCKSZ);
		mdextend(reln, fork, blk, zeros.data, true);
	}
	LWLockRelease(lock);
}

void
stub_truncate(SMgrRelation reln, ForkNumber fork, BlockNumber old_blocks, BlockNumber nblocks)
{
	LWLock *lock = stub_lock(compat_smgr_rel(reln));

	LWLockAcquire(lock, LW_EXCLUSIVE);
	mdtruncate(reln, fork, old_blocks, nblocks);
	LWLockRelease(lock);
}

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
