/*
 * smgr.c
 *	  The storage manager: the functions that PostgreSQL calls in place of md.c
 *	  to create, read, write, extend, truncate and drop the forks of relations.
 *
 * Temporary and unlogged relations, and init forks, are passed to md.c.  For
 * permanent relations:
 *
 *	  sizes		stub.c: a local file of the fork's length
 *	  reads		from the local page cache, else from the store, as of the last
 *				LSN at which the page can have changed (lsn_cache.c)
 *	  writes	the LSN is noted and the page goes to the local page cache; nothing
 *				is sent, because the store gets all changes with the WAL
 *
 * ps_unlink() and ps_truncate() run where an error would be a PANIC, and ps_write()
 * runs in every process.  They do not wait for the store, and raise no errors that
 * md.c would not raise, except if the page cache is full.
 */
#include "postgres.h"

#include "access/gist.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "miscadmin.h"
#include "postmaster/bgwriter.h"
#include "postmaster/interrupt.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/md.h"
#include "utils/memutils.h"

#include "lsn_cache.h"
#include "page_cache.h"
#include "page_client.h"
#include "persistence.h"
#include "pg_compat.h"
#include "readahead.h"
#include "smgr.h"
#include "stub.h"
#include "wal_progress.h"

/*
 * Forks into which this transaction has written pages with LSN 1 from private
 * memory.  These belong to a sorted GiST build, which logs each page right after
 * writing it; so by the end of the transaction the store can return them.
 */
typedef struct SortedGist
{
	PsRel rel;
	ForkNumber fork;
	BlockNumber nblocks; /* after the last such page */
} SortedGist;

static SortedGist *sorted_gists;
static int sorted_gists_used;
static int sorted_gists_allocated;

static bool
is_all_zeros(const char *data, size_t len)
{
	const size_t *word = (const size_t *) data;

	for (size_t i = 0; i < len / sizeof(size_t); i++)
		if (word[i] != 0)
			return false;
	return true;
}

/* Is it a page of zeros, or a page of a map that is initialized and empty, which has the same meaning? */
static bool
is_empty_page(ForkNumber fork, const char *page)
{
	if (fork == MAIN_FORKNUM)
		return is_all_zeros(page, BLCKSZ);
	return is_all_zeros(page + MAXALIGN(SizeOfPageHeaderData), BLCKSZ - MAXALIGN(SizeOfPageHeaderData));
}

/* ---- pages of the sorted GiST build ---- */

static void
note_sorted_gist(PsRel rel, ForkNumber fork, BlockNumber blk)
{
	SortedGist *last = sorted_gists_used > 0 ? &sorted_gists[sorted_gists_used - 1] : NULL;

	if (last == NULL || !ps_rel_equal(last->rel, rel) || last->fork != fork)
	{
		if (sorted_gists_used == sorted_gists_allocated)
		{
			int n = Max(8, sorted_gists_allocated * 2);

			Size size = n * sizeof(SortedGist);

			sorted_gists = sorted_gists == NULL ? MemoryContextAlloc(TopMemoryContext, size)
												: repalloc(sorted_gists, size);
			sorted_gists_allocated = n;
		}
		last = &sorted_gists[sorted_gists_used++];
		last->rel = rel;
		last->fork = fork;
		last->nblocks = 0;
	}
	last->nblocks = Max(last->nblocks, blk + 1);
}

/*
 * At the end of the transaction all pages have been logged.  XactLastRecEnd,
 * which is still set before the commit record is written, is not before any of
 * them.
 */
static void
release_sorted_gists(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
		for (int i = 0; i < sorted_gists_used; i++)
			page_cache_release_no_lsn(sorted_gists[i].rel, sorted_gists[i].fork, sorted_gists[i].nblocks,
									  XactLastRecEnd);
	sorted_gists_used = 0;
}

void
smgr_xact_init(void)
{
	RegisterXactCallback(release_sorted_gists, NULL);
}

/* ---- the callbacks ---- */

/*
 * A relation that this compute has never touched has no local file from which
 * GetNewRelFileNode() could see that its number is in use.  That matters only
 * after OIDs have wrapped around, and numbers.c usually has created a stub by
 * then, but reusing the number would destroy a relation.
 */
static void
check_number_is_free(SMgrRelation reln)
{
	PsRel rel = compat_smgr_rel(reln);
	BlockNumber nblocks;

	/*
	 * a relation that the store does not know yet was created by this compute,
	 * so it has a file, or it has been dropped
	 */
	if (page_client_relsize(rel, MAIN_FORKNUM, wal_progress_flush_for_read(lsn_cache_get_floor()), &nblocks) &&
		page_client_relsize(rel, MAIN_FORKNUM, wal_progress_flush_for_read(lsn_cache_get_relation(rel)), &nblocks))
	{
		/* the next command will find a file, and choose another number */
		(void) stub_exists(reln, MAIN_FORKNUM);
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_FILE),
				 errmsg("could not create file \"%s\": the page store already has a relation with this file number",
						compat_relation_path(rel, MAIN_FORKNUM)),
				 errhint("Retry the command. It will use another file number.")));
	}
}

void
ps_create(SMgrRelation reln, ForkNumber fork, bool isRedo)
{
	if (SmgrIsTemp(reln))
	{
		mdcreate(reln, fork, isRedo);
		return;
	}
	if (fork == MAIN_FORKNUM && !isRedo)
		check_number_is_free(reln);
	stub_create(reln, fork, isRedo);
}

bool
ps_exists(SMgrRelation reln, ForkNumber fork)
{
	if (persistence_of_fork(reln, fork) == HOME_LOCAL)
		return mdexists(reln, fork);
	return stub_exists(reln, fork);
}

BlockNumber
ps_nblocks(SMgrRelation reln, ForkNumber fork)
{
	/* usually the file is open, whatever its persistence */
	if (reln->md_num_open_segs[fork] > 0 || persistence_of_fork(reln, fork) == HOME_LOCAL)
		return mdnblocks(reln, fork);
	return stub_nblocks(reln, fork);
}

/* Runs after commit or abort: PostgreSQL has already logged that the relation is dropped. */
void
ps_unlink(RelFileNodeBackend rnode, ForkNumber fork, bool isRedo)
{
	PsRel rel = compat_rel(rnode.node);
	BlockNumber nblocks;

	if (RelFileNodeBackendIsTemp(rnode))
	{
		mdunlink(rnode, fork, isRedo);
		return;
	}
	for (ForkNumber f = 0; f <= MAX_FORKNUM; f++)
	{
		if (fork != f && fork != InvalidForkNumber)
			continue;
		nblocks = stub_length_of_file(rel, f);
		mdunlink(rnode, f, isRedo);
		page_cache_drop_fork(rel, f, nblocks);
	}
	lsn_cache_set_relation(rel, lsn_cache_insert_position());
}

/* Runs in a critical section: PostgreSQL has logged the truncation and dropped the buffers. */
void
ps_truncate(SMgrRelation reln, ForkNumber fork, BlockNumber old_blocks, BlockNumber nblocks)
{
	PsRel rel = compat_smgr_rel(reln);

	if (SmgrIsTemp(reln))
	{
		mdtruncate(reln, fork, old_blocks, nblocks);
		return;
	}
	stub_truncate(reln, fork, old_blocks, nblocks);
	lsn_cache_set_relation(rel, lsn_cache_insert_position());
	page_cache_truncate(rel, fork, old_blocks, nblocks);
}

/* Reports a block past the end of the file like mdread(). */
static void
check_block_exists(SMgrRelation reln, ForkNumber fork, BlockNumber blk)
{
	if (zero_damaged_pages || blk < stub_nblocks(reln, fork))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("could not read block %u in file \"%s\": read only %d of %d bytes",
					blk, compat_relation_path(compat_smgr_rel(reln), fork), 0, BLCKSZ)));
}

void
ps_read(SMgrRelation reln, ForkNumber fork, BlockNumber blk, char *buffer)
{
	PageHome home = persistence_of_page(reln, fork, blk, buffer);
	PsRel rel = compat_smgr_rel(reln);
	XLogRecPtr last_written;
	XLogRecPtr store_lsn;
	bool cached;

	persistence_note_read(buffer, home);
	if (home == HOME_LOCAL)
	{
		mdread(reln, fork, blk, buffer);
		return;
	}

	cached = page_cache_read(rel, fork, blk, buffer);
	readahead_send_collected();
	readahead_advance(reln, fork, blk, !cached);
	if (cached)
		return;

	last_written = lsn_cache_get(rel, fork, blk);
	if (!page_client_take_prefetched(rel, fork, blk, last_written, buffer, &store_lsn))
		store_lsn = page_client_read(rel, fork, &blk, 1, wal_progress_flush_for_read(last_written), &buffer);

	/* the store returns zeros for a block that it does not know; any other block exists */
	if (PageIsNew((Page) buffer) && is_all_zeros(buffer, BLCKSZ))
		check_block_exists(reln, fork, blk);
	else
		PageSetChecksumInplace((Page) buffer, blk);
	page_cache_fill(rel, fork, blk, buffer, store_lsn);
}

bool
ps_prefetch(SMgrRelation reln, ForkNumber fork, BlockNumber blk)
{
	if (persistence_of_fork(reln, fork) == HOME_LOCAL)
		return mdprefetch(reln, fork, blk);
	readahead_collect(reln, fork, blk);
	return true;
}

/* Makes writers wait here if the store lags, but not processes that others wait for. */
static void
slow_down_writers(void)
{
	if (IsTransactionState() && CritSectionCount == 0)
		wal_progress_backpressure();
}

/*
 * May this process insert WAL now?  The checkpointer must not do it during the
 * shutdown checkpoint, which has to be the last record.
 */
static bool
may_log(void)
{
	return CritSectionCount == 0 && XLogInsertAllowed() &&
		   !(AmCheckpointerProcess() && ShutdownRequestPending);
}

/*
 * The store knows nothing about an empty page.  But a map must keep its length
 * when this compute ends, so its pages are logged (an empty page has no room for
 * a record). They are also put into the cache, because they are read right away,
 * and the store would have to ingest that WAL first.
 */
static void
add_map_page(PsRel rel, ForkNumber fork, BlockNumber blk, const char *buffer, PageHome home)
{
	KeepReasons keep = {0};
	PGAlignedBlock page;

	memcpy(page.data, buffer, BLCKSZ);
	if (home == HOME_STORE && !PageIsNew(page.data) && may_log())
	{
		lsn_cache_set_block(rel, fork, blk, compat_log_newpage(rel, fork, blk, page.data, true));
		PageSetChecksumInplace(page.data, blk);
	}
	page_cache_write(rel, fork, blk, page.data, &keep);
}

void
ps_extend(SMgrRelation reln, ForkNumber fork, BlockNumber blk, char *buffer, bool skipFsync)
{
	PageHome home = persistence_of_page(reln, fork, blk, buffer);
	PsRel rel = compat_smgr_rel(reln);
	KeepReasons keep = {0};
	XLogRecPtr lsn;

	if (home == HOME_LOCAL)
	{
		mdextend(reln, fork, blk, buffer, skipFsync);
		return;
	}

	if (is_empty_page(fork, buffer))
	{
		stub_extend(reln, fork, blk);
		if (fork != MAIN_FORKNUM)
			add_map_page(rel, fork, blk, buffer, home);
		slow_down_writers();
		return;
	}

	/*
	 * This is not a new shared buffer, but a page from private memory (a table
	 * rewrite, an index build, RelationCopyStorage()).  Everything on it that
	 * keep_reasons.c checks for has been logged with it as a full page, except
	 * by the sorted GiST build, which logs it afterwards.
	 */
	lsn = PageGetLSN((Page) buffer);
	if (lsn <= GistBuildLSN)
	{
		keep.reasons |= KEEP_NO_LSN;
		if (lsn == GistBuildLSN)
			note_sorted_gist(rel, fork, blk);
	}
	else
		lsn_cache_set_block(rel, fork, blk, lsn);
	if (home == HOME_UNKNOWN)
	{
		keep.reasons |= KEEP_UNKNOWN_PERSISTENCE;
		mdextend(reln, fork, blk, buffer, skipFsync);
	}
	else
		stub_extend(reln, fork, blk);
	page_cache_write(rel, fork, blk, buffer, &keep);
	slow_down_writers();
}

/*
 * PostgreSQL does not log the free space map.  If it were lost with each
 * compute, tables would grow, because all-visible pages are not added to it
 * again.  So a page of it that has changed since it was last written is logged
 * here.
 */
static void
write_fsm_page(SMgrRelation reln, BlockNumber blk, const char *buffer)
{
	const size_t contents = offsetof(PageHeaderData, pd_flags); /* after LSN and checksum */
	PsRel rel = compat_smgr_rel(reln);
	KeepReasons keep = {0};
	PGAlignedBlock page;
	PGAlignedBlock cached;

	/* other processes may be changing it with a share lock */
	memcpy(page.data, buffer, BLCKSZ);
	if (page_cache_read(rel, FSM_FORKNUM, blk, cached.data) &&
		memcmp(page.data + contents, cached.data + contents, BLCKSZ - contents) == 0)
		return;
	if (!PageIsNew(page.data) && may_log())
	{
		XLogRecPtr lsn = compat_log_newpage(rel, FSM_FORKNUM, blk, page.data, false);

		PageSetChecksumInplace(page.data, blk);
		lsn_cache_set_block(rel, FSM_FORKNUM, blk, lsn);
	}
	page_cache_write(rel, FSM_FORKNUM, blk, page.data, &keep);
}

void
ps_write(SMgrRelation reln, ForkNumber fork, BlockNumber blk, char *buffer, bool skipFsync)
{
	PageHome home = persistence_of_page(reln, fork, blk, buffer);
	PsRel rel = compat_smgr_rel(reln);
	XLogRecPtr lsn = PageGetLSN((Page) buffer);
	KeepReasons keep;

	if (home == HOME_LOCAL)
	{
		mdwrite(reln, fork, blk, buffer, skipFsync);
		return;
	}
	if (home == HOME_STORE && fork == FSM_FORKNUM)
	{
		write_fsm_page(reln, blk, buffer);
		slow_down_writers();
		return;
	}

	keep_reasons_of_page(fork, blk, buffer, &keep);
	if (lsn > GistBuildLSN)
		lsn_cache_set_block(rel, fork, blk, lsn);
	else if (lsn == GistBuildLSN && persistence_is_private_page(reln, fork, blk, buffer))
		note_sorted_gist(rel, fork, blk);
	if (home == HOME_UNKNOWN)
	{
		keep.reasons |= KEEP_UNKNOWN_PERSISTENCE;
		if (mdexists(reln, fork))
			mdwrite(reln, fork, blk, buffer, skipFsync);
	}
	page_cache_write(rel, fork, blk, buffer, &keep);
	slow_down_writers();
}
