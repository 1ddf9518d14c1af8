/*
 * page_cache_file.c
 *	  The file of the page cache: an array of pages.
 *
 * It belongs to one run of the server: the postmaster empties it at startup, and
 * only shared memory says what is where in it.  It is sparse, so its apparent
 * size says nothing about its disk space.  The postmaster opens it, and all
 * processes inherit the descriptor.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/ipc.h"

#include "page_cache_impl.h"
#include "settings.h"

/* MB of the file system left free for WAL if max_wal_lag does not limit how much may accumulate. */
#define DEFAULT_RESERVE   512
#define MAX_RESERVE_SHARE 16 /* but at most this fraction of the file system */

/* Locked while the server runs, so that no other server uses the file. */
static int cache_fd = -1;

static void
remove_file(int code, Datum arg)
{
	unlink(ps_cache_path);
}

void
page_cache_file_open(void)
{
	ReserveExternalFD();
	cache_fd = BasicOpenFile(ps_cache_path, O_RDWR | O_CREAT | O_CLOEXEC | PG_BINARY);
	if (cache_fd < 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not open page cache file \"%s\": %m", ps_cache_path),
				 errhint("Check \"pageserver_smgr.cache_path\".")));
	if (flock(cache_fd, LOCK_EX | LOCK_NB) != 0)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("page cache file \"%s\" is in use by another server", ps_cache_path),
				 errhint("Each server needs its own file. Check \"pageserver_smgr.cache_path\".")));
	if (ftruncate(cache_fd, 0) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not truncate page cache file \"%s\": %m", ps_cache_path)));
	on_proc_exit(remove_file, 0);
}

bool
page_cache_file_read(uint64 pageno, char *page)
{
	ssize_t n;

	pgstat_report_wait_start(WAIT_EVENT_DATA_FILE_READ);
	n = pread(cache_fd, page, BLCKSZ, (off_t) pageno * BLCKSZ);
	pgstat_report_wait_end();
	if (n >= 0 && n != BLCKSZ)
		errno = EIO;
	return n == BLCKSZ;
}

bool
page_cache_file_write(uint64 pageno, const char *page)
{
	ssize_t n;

	pgstat_report_wait_start(WAIT_EVENT_DATA_FILE_WRITE);
	n = pwrite(cache_fd, page, BLCKSZ, (off_t) pageno * BLCKSZ);
	pgstat_report_wait_end();
	if (n >= 0 && n != BLCKSZ)
		errno = ENOSPC;
	return n == BLCKSZ;
}

void
page_cache_file_punch(uint64 first, uint64 npages)
{
	int save_errno = errno;

	/* if it is not supported, the space can still be reused for other pages */
	(void) fallocate(cache_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					 (off_t) first * BLCKSZ, (off_t) npages * BLCKSZ);
	errno = save_errno;
}

/*
 * WAL that the store has not acknowledged stays in pg_wal, which usually is in
 * the same file system.  If WAL finds no room, that is a PANIC.
 */
bool
page_cache_file_has_room(RoomClaim claim)
{
	struct statvfs fs;
	uint64 reserve = (uint64) (ps_max_wal_lag > 0 ? ps_max_wal_lag : DEFAULT_RESERVE) * 1024 * 1024;

	if (fstatvfs(cache_fd, &fs) != 0)
		return true;
	reserve = Min(reserve, (uint64) fs.f_blocks * fs.f_frsize / MAX_RESERVE_SHARE);
	if (claim == ROOM_CACHED)
		reserve *= 2;
	else if (claim == ROOM_ANOTHER_PAYS)
		reserve /= 2;
	else if (claim == ROOM_ADMINISTRATOR)
		reserve /= 4;
	return (uint64) fs.f_bavail * fs.f_frsize >= reserve;
}
