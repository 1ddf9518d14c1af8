/*
 * segment_files.c
 *	  The open files of a timeline's WAL segments.
 *
 * Descriptors are kept open in a small cache.  An entry is in use while its
 * "users" is not zero; the writer's changes keep it (dirty) until they are
 * synced.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/file_perm.h"

#include "sqlstate.h"
#include "wal/segments_impl.h"

void
segment_name(const WalSegments *segs, XLogSegNo segno, char name[MAXFNAMELEN])
{
	XLogFileName(name, 1, segno, segs->segment_size);
}

void
wal_segments_path(const WalSegments *segs, XLogSegNo segno, char path[MAXPGPATH])
{
	char name[MAXFNAMELEN];

	segment_name(segs, segno, name);
	snprintf(path, MAXPGPATH, "%s/%s", segs->dir, name);
}

void
segment_packed_path(const WalSegments *segs, XLogSegNo segno, char path[MAXPGPATH])
{
	char name[MAXFNAMELEN];

	segment_name(segs, segno, name);
	snprintf(path, MAXPGPATH, "%s/%s" PACKED_SUFFIX, segs->dir, name);
}

void
segment_added(WalSegments *segs, XLogSegNo segno)
{
	segs->oldest = segs->any ? Min(segs->oldest, segno) : segno;
	segs->newest = segs->any ? Max(segs->newest, segno) : segno;
	segs->any = true;
}

void
segment_file_free(SegmentFile *file)
{
	if (file->packed != NULL)
		packed_segment_close(file->packed);
	else
		close(file->fd);
	free(file);
}

/* Closes an entry of the list; under the lock. */
static void
close_file(WalSegments *segs, SegmentFile *file)
{
	SegmentFile **p = &segs->files;

	while (*p != file)
		p = &(*p)->next;
	*p = file->next;
	segs->nfiles--;
	segment_file_free(file);
}

/* Closes what was not used for longest until the cache has its size; under the lock. */
static void
shrink_cache(WalSegments *segs)
{
	while (segs->nfiles > CACHED_SEGMENT_FILES)
	{
		SegmentFile *victim = NULL;

		for (SegmentFile *f = segs->files; f != NULL; f = f->next)
		{
			if (f->users == 0 && !f->dirty && (victim == NULL || f->last_use < victim->last_use))
				victim = f;
		}
		if (victim == NULL)
			return;
		close_file(segs, victim);
	}
}

/* Makes the file of a segment, all zeros. */
static PsError *
create_segment(const WalSegments *segs, XLogSegNo segno, int *fd)
{
	char path[MAXPGPATH];
	char name[MAXFNAMELEN];
	char temp[MAXPGPATH];
	int rc;
	PsError *err;

	wal_segments_path(segs, segno, path);
	segment_name(segs, segno, name);
	snprintf(temp, sizeof(temp), "%s/" SEGMENT_TEMP_PREFIX "%s", segs->dir, name);
	*fd = open(temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, pg_file_create_mode);
	if (*fd < 0)
		return ps_error(ps_errno_state(), "could not create file \"%s\": %m", temp);

	/* Room is taken now: a full disk is met here, not in the middle of a segment. */
	rc = posix_fallocate(*fd, 0, segs->segment_size);
	if (rc != 0)
	{
		errno = rc;
		err = ps_error(ps_errno_state(), "could not allocate %u bytes for file \"%s\": %m", segs->segment_size, temp);
	}
	else if (fsync(*fd) < 0)
		err = ps_error(ps_errno_state(), "could not fsync file \"%s\": %m", temp);
	else if (rename(temp, path) < 0)
		err = ps_error(ps_errno_state(), "could not rename file \"%s\" to \"%s\": %m", temp, path);
	else
		return NULL;
	close(*fd);
	unlink(temp);
	return err;
}

/* The open file of a segment, or NULL; under the lock. */
static SegmentFile *
find_file(const WalSegments *segs, XLogSegNo segno)
{
	for (SegmentFile *file = segs->files; file != NULL; file = file->next)
	{
		if (file->segno == segno && !file->gone)
			return file;
	}
	return NULL;
}

/*
 * Opens the file of a segment that is not in the list, or makes it; then adds
 * it, unless another thread was faster.  The lock is held at entry and exit,
 * but not during I/O.
 */
static PsError *
open_file(WalSegments *segs, XLogSegNo segno, bool create, SegmentFile **result)
{
	SegmentFile opened = {.segno = segno};
	SegmentFile *existing;
	char path[MAXPGPATH];
	char packed[MAXPGPATH];
	bool created = false;
	PsError *err = NULL;

	pthread_mutex_unlock(&segs->lock);
	wal_segments_path(segs, segno, path);
	segment_packed_path(segs, segno, packed);
	opened.fd = open(path, O_RDWR | O_CLOEXEC);
	if (opened.fd < 0 && errno != ENOENT)
		err = ps_error(ps_errno_state(), "could not open WAL file \"%s\": %m", path);
	/* the plain file is removed only after the compressed one has its name */
	else if (opened.fd < 0 && access(packed, F_OK) == 0)
		err = packed_segment_open(packed, segs->segment_size, &opened.packed);
	else if (opened.fd < 0 && create)
	{
		err = create_segment(segs, segno, &opened.fd);
		created = true;
	}
	else if (opened.fd < 0)
		err = ps_error(ps_errno_state(), "could not open WAL file \"%s\", nor \"%s\": %m", path, packed);
	pthread_mutex_lock(&segs->lock);
	if (err != NULL)
		return err;

	if (created)
	{
		segs->dir_dirty = true;
		segment_added(segs, segno);
		segs->first_plain = Min(segs->first_plain, segno);
	}
	existing = find_file(segs, segno);
	*result = pg_malloc(sizeof(SegmentFile));
	**result = opened;
	if (existing != NULL)
	{
		segment_file_free(*result);
		*result = existing;
		return NULL;
	}
	(*result)->next = segs->files;
	segs->files = *result;
	segs->nfiles++;
	return NULL;
}

PsError *
segment_file_acquire(WalSegments *segs, XLogSegNo segno, bool create, SegmentFile **result)
{
	PsError *err = NULL;

	pthread_mutex_lock(&segs->lock);
	*result = find_file(segs, segno);
	if (*result == NULL)
		err = open_file(segs, segno, create, result);
	if (err == NULL && create && (*result)->packed != NULL)
	{
		char path[MAXPGPATH];

		segment_packed_path(segs, segno, path);
		err = ps_error(PS_SQLSTATE_INTERNAL, "WAL file \"%s\" cannot be written, because it is already compressed",
					   path);
	}
	if (err == NULL)
	{
		(*result)->users++;
		(*result)->last_use = ++segs->clock;
		shrink_cache(segs);
	}
	pthread_mutex_unlock(&segs->lock);
	return err;
}

void
segment_file_release(WalSegments *segs, SegmentFile *file, bool written)
{
	pthread_mutex_lock(&segs->lock);
	file->users--;
	if (written && !file->gone)
		file->dirty = true;
	if (file->gone && file->users == 0)
		close_file(segs, file);
	else
		shrink_cache(segs);
	pthread_mutex_unlock(&segs->lock);
}

void
segment_file_forget(WalSegments *segs, XLogSegNo segno)
{
	SegmentFile *file = find_file(segs, segno);

	if (file == NULL)
		return;
	file->gone = true;
	file->dirty = false;
	if (file->users == 0)
		close_file(segs, file);
}

PsError *
wal_segments_hold(WalSegments *segs, XLogRecPtr lsn, WalHold *hold)
{
	SegmentFile *file;

	XLByteToSeg(lsn, hold->segno, segs->segment_size);
	PS_TRY(segment_file_acquire(segs, hold->segno, false, &file));
	hold->segs = segs;
	hold->file = file;
	hold->fd = file->fd;
	hold->packed = file->packed;
	return NULL;
}

void
wal_segments_release(WalHold *hold)
{
	segment_file_release(hold->segs, hold->file, false);
}
