/*
 * room.c
 *	  Reservation of disk space for files that upkeep writes.
 *
 * The outputs of a merge take space in addition to its inputs until it ends.  A merge that
 * started without enough space would fill the disk, stop all writers at min_free_space, be
 * abandoned, and start again.  So each task reserves what it may write, beyond
 * min_free_space, which is for flushes, and beyond the reservations of others.  What others
 * have already written of their reservation counts twice until they release it.
 */
#include "ps_fe.h"

#include <sys/statvfs.h>

#include "maintain/maintain_impl.h"
#include "sqlstate.h"

/* Free bytes beyond min_free_space; PG_INT64_MAX if that cannot be determined. */
static int64
free_bytes(const Timeline *tl)
{
	int64 reserve = (int64) timeline_config(tl)->min_free_space * 1024 * 1024;
	struct statvfs vfs;

	if (statvfs(tl->spec->dir, &vfs) != 0)
		return PG_INT64_MAX;
	return (int64) ((uint64) vfs.f_bavail * vfs.f_frsize) - reserve;
}

uint64
room_left(const Timeline *tl)
{
	int64 left = free_bytes(tl);

	if (left != PG_INT64_MAX)
		left -= atomic_load(tl->env->room_reserved);
	return Max(left, 0);
}

bool
room_reserve(Timeline *tl, uint64 bytes)
{
	atomic_int_fast64_t *reserved = tl->env->room_reserved;
	int64 left = free_bytes(tl);

	if (atomic_fetch_add(reserved, bytes) + (int64) bytes <= left)
		return true;
	atomic_fetch_sub(reserved, bytes);
	return false;
}

void
room_release(Timeline *tl, uint64 bytes)
{
	atomic_fetch_sub(tl->env->room_reserved, bytes);
}

bool
room_is_exhausted(const Timeline *tl)
{
	return free_bytes(tl) < 0;
}

PsError *
room_error(const Timeline *tl, uint64 bytes, const char *what)
{
	uint64 need = bytes + (uint64) timeline_config(tl)->min_free_space * 1024 * 1024;

	return ps_error_hint(ps_error(PS_SQLSTATE_DISK_FULL, "%s until %llu MB are free in \"%s\"", what,
								  (unsigned long long) (need / (1024 * 1024) + 1), tl->spec->space.dir),
						 "Free disk space on the store's file system.");
}
