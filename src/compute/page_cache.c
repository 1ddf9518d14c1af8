/*
 * page_cache.c
 *	  Reads and writes one page of the local page cache.
 *
 * The page is in a slot (page_cache_slots.h, which also describes the locks) or, if
 * it must be kept and there is no slot for it, in a chunk (page_cache_chunks.h).
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "lsn_cache.h"
#include "page_cache_slots.h"
#include "settings.h"
#include "wal_progress.h"

/*
 * How long a writer waits for the end of another transaction that has used up
 * the room, and how often it checks.
 */
#define MAX_ROOM_WAIT_MS 5000
#define ROOM_POLL_MS     5

/* Number of written pages after which a process checks that there is room for WAL. */
#define LEAVE_ROOM_PAGES 32

void
page_cache_request_shmem(void)
{
	page_cache_slots_request_shmem();
	page_cache_chunks_request_shmem();
	page_cache_room_request_shmem();
}

void
page_cache_startup_shmem(void)
{
	uint64 slot_pages = page_cache_pages_of_mb(ps_cache_size);

	page_cache_chunks_startup_shmem(slot_pages, slot_pages);
	page_cache_room_startup_shmem();
	page_cache_payer_startup();
	if (page_cache_slots_startup_shmem())
		page_cache_file_open();
}

/*
 * Reports that a page could not be read or written because of io_errno: as an
 * ERROR if the page must be kept, else in the log, once.  Must be called without
 * locks, because code that catches the error may need them.
 */
static void
report_io_error(CachePartition *part, int io_errno, bool kept, const char *operation, const CacheTag *tag)
{
	static bool logged = false;

	/* a page that is merely cached is dropped if there is no room */
	if (!kept && io_errno == ENOSPC)
		return;
	pg_atomic_fetch_add_u64(&part->io_errors, 1);
	errno = io_errno;
	if (kept || !logged)
		ereport(kept ? ERROR : LOG,
				(errcode_for_file_access(),
				 errmsg("could not %s page cache file \"%s\" for block %u of relation %u/%u/%u, fork %d: %m",
						operation, ps_cache_path, tag->blk, tag->rel.spc, tag->rel.db, tag->rel.rel, tag->fork),
				 kept ? errdetail("The page store cannot reconstruct this version of the page from WAL.") : 0));
	logged = true;
}

/* Raises the ERROR that there is no room for a page that must be kept. */
static void
report_no_room(SpillResult why)
{
	const char *kept = "Pages changed by open transactions or by an index build must stay in the cache.";

	if (why == SPILL_LIMIT)
		ereport(ERROR,
				(errcode(ERRCODE_DISK_FULL),
				 errmsg("local page cache is full of pages that must stay in it"),
				 errdetail("%s \"pageserver_smgr.cache_limit\" is %d MB.", kept, ps_cache_limit),
				 errhint("End long-running transactions, or increase \"pageserver_smgr.cache_limit\".")));
	else if (why == SPILL_DISK_FULL)
		ereport(ERROR,
				(errcode(ERRCODE_DISK_FULL),
				 errmsg("not enough disk space for pages that must stay in page cache file \"%s\"", ps_cache_path),
				 errdetail("%s The remaining disk space is reserved for WAL.", kept),
				 errhint("End long-running transactions, or free disk space.")));
	else
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many parts of relations have pages that must stay in the local page cache"),
				 errdetail("%s", kept),
				 errhint("End long-running transactions, or increase \"pageserver_smgr.cache_size\".")));
}

bool
page_cache_has(PsRel rel, ForkNumber fork, BlockNumber blk)
{
	CacheTag tag = cache_tag(rel, fork, blk);
	uint32 hash = cache_tag_hash(&tag);
	LWLock *lock = &cache_locks[slot_partition(hash)].lock;
	bool has;

	LWLockAcquire(lock, LW_SHARED);
	has = slot_find(&tag, hash) != NO_SLOT || page_cache_spill_has(&tag);
	LWLockRelease(lock);
	return has;
}

bool
page_cache_read(PsRel rel, ForkNumber fork, BlockNumber blk, char *page)
{
	CacheTag tag = cache_tag(rel, fork, blk);
	uint32 hash = cache_tag_hash(&tag);
	CachePartition *part = &cache_partitions[slot_partition(hash)];
	LWLock *lock = &cache_locks[slot_partition(hash)].lock;
	SpillResult result;
	uint32 slot;
	int io_errno;

	LWLockAcquire(lock, LW_SHARED);
	slot = slot_find(&tag, hash);
	if (slot == NO_SLOT)
		result = page_cache_spill_read(&tag, page);
	else if (page_cache_file_read(slot, page))
	{
		result = SPILL_DONE;
		if (cache_slots[slot].usage < MAX_USAGE)
			cache_slots[slot].usage++;
	}
	else
		result = SPILL_IO_ERROR;
	io_errno = errno;
	if (result != SPILL_IO_ERROR)
		pg_atomic_fetch_add_u64(result == SPILL_DONE ? &part->hits : &part->misses, 1);
	LWLockRelease(lock);
	if (result != SPILL_IO_ERROR)
		return result == SPILL_DONE;

	/* a page that need not be kept is in the store */
	LWLockAcquire(lock, LW_EXCLUSIVE);
	slot = slot_find(&tag, hash);
	if (slot == NO_SLOT)
		page_cache_spill_forget(&tag);
	else if (!keep_reasons_hold(&cache_slots[slot].keep))
		slot_forget(part, slot);
	slot = slot_find(&tag, hash);
	result = slot != NO_SLOT || page_cache_spill_has(&tag) ? SPILL_IO_ERROR : SPILL_ABSENT;
	LWLockRelease(lock);
	report_io_error(part, io_errno, result == SPILL_IO_ERROR, "read", &tag);
	return false;
}

/* Calls page_cache_leave_room() now and then, because other programs may have used up the disk space, too. */
static void
leave_room(void)
{
	static uint32 npages = 0;

	if (++npages % LEAVE_ROOM_PAGES == 0)
		page_cache_leave_room();
}

/* What became of a page that was to be written. */
typedef struct Written
{
	bool stored;         /* it is in a slot */
	SpillResult spilled; /* SPILL_DONE: it is in a chunk */
	int io_errno;        /* if not 0, why it could not be written */
} Written;

static inline bool
lacks_room(const Written *w)
{
	return !w->stored && w->spilled != SPILL_DONE && w->io_errno == 0;
}

/* Writes a page to its slot or chunk, or to a new one if there is room. */
static Written
write_page(const CacheTag *tag, uint32 hash, const char *page, const KeepReasons *keep, XLogRecPtr lsn, RoomClaim claim)
{
	CachePartition *part = &cache_partitions[slot_partition(hash)];
	LWLock *lock = &cache_locks[slot_partition(hash)].lock;
	bool must_keep = keep->reasons != 0;
	Written w = {.spilled = SPILL_ABSENT};

	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (slot_find(tag, hash) == NO_SLOT)
		w.spilled = page_cache_spill_update(tag, page, keep, lsn);
	if (w.spilled == SPILL_ABSENT)
	{
		w.io_errno = slot_store_page(part, tag, hash, page, keep, 1, false, &w.stored);
		if (!w.stored && w.io_errno == 0 && (must_keep || lsn > wal_progress_ingested()))
			w.spilled = page_cache_spill_write(tag, page, keep, lsn, claim);
	}
	if (w.spilled == SPILL_IO_ERROR)
		w.io_errno = errno;
	if (must_keep && !w.stored && w.spilled != SPILL_DONE)
	{
		int last_errno = slot_store_page(part, tag, hash, page, keep, 1, true, &w.stored);

		if (w.stored || last_errno != 0)
			w.io_errno = last_errno;
	}
	part->writes += w.stored || w.spilled == SPILL_DONE;
	LWLockRelease(lock);
	return w;
}

/*
 * Called when there is no room for a page that must be kept.  Frees what can be
 * freed; else has another transaction that keeps more pages canceled, uses the
 * reserve, and if that is used up waits.  Not for long, because the other
 * transaction may need a lock that is held here.
 */
static Written
make_room_and_write_page(const CacheTag *tag, uint32 hash, const char *page, const KeepReasons *keep, XLogRecPtr lsn)
{
	Written w;
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), MAX_ROOM_WAIT_MS);

	for (;;)
	{
		RoomClaim claim;

		page_cache_spill_reclaim();
		w = write_page(tag, hash, page, keep, lsn, ROOM_ORDINARY);
		if (!lacks_room(&w) || GetCurrentTimestamp() >= until)
			return w;
		claim = page_cache_room_claim();
		if (claim == ROOM_ORDINARY)
			return w;
		w = write_page(tag, hash, page, keep, lsn, claim);
		if (!lacks_room(&w))
			return w;
		pg_usleep(ROOM_POLL_MS * 1000L);
	}
}

void
page_cache_write(PsRel rel, ForkNumber fork, BlockNumber blk, const char *page, const KeepReasons *keep)
{
	CacheTag tag = cache_tag(rel, fork, blk);
	uint32 hash = cache_tag_hash(&tag);
	XLogRecPtr lsn = lsn_cache_get(rel, fork, blk);
	bool must_keep = keep->reasons != 0;
	Written w = write_page(&tag, hash, page, keep, lsn, ROOM_ORDINARY);

	/* no other process can have read the block meanwhile, because its buffer is being written */
	if (must_keep && lacks_room(&w))
		w = make_room_and_write_page(&tag, hash, page, keep, lsn);
	if (w.spilled == SPILL_DONE)
		page_cache_spill_tidy();
	leave_room();

	if (w.io_errno != 0)
		report_io_error(&cache_partitions[slot_partition(hash)], w.io_errno, must_keep, "write", &tag);
	else if (must_keep && lacks_room(&w))
		report_no_room(w.spilled);
}

void
page_cache_fill(PsRel rel, ForkNumber fork, BlockNumber blk, const char *page, XLogRecPtr store_lsn)
{
	CacheTag tag = cache_tag(rel, fork, blk);
	uint32 hash = cache_tag_hash(&tag);
	CachePartition *part = &cache_partitions[slot_partition(hash)];
	LWLock *lock = &cache_locks[slot_partition(hash)].lock;
	KeepReasons not_kept = {0};
	bool stored = false;
	int io_errno = 0;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (slot_find(&tag, hash) == NO_SLOT && !page_cache_spill_has(&tag) &&
		lsn_cache_get(rel, fork, blk) <= store_lsn)
		io_errno = slot_store_page(part, &tag, hash, page, &not_kept, 0, false, &stored);
	part->fills += stored;
	LWLockRelease(lock);
	leave_room();

	if (io_errno != 0)
		report_io_error(part, io_errno, false, "write", &tag);
}
