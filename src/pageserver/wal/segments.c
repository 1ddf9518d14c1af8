/*
 * segments.c
 *	  The WAL files of one timeline: PostgreSQL's segments in PostgreSQL's names.
 *	  segments_read.c reads them.
 *
 * A segment has its full size from the start and reads as zeros where nothing
 * was written.  It is made under a temporary name, made durable, and renamed:
 * a file with a segment's name is never short.  Old ones are kept compressed
 * (packed.h): the segments before first_plain.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sqlstate.h"
#include "base/fs.h"
#include "wal/segments_impl.h"

/* Segments that may wait for a sync before the writer does it itself. */
#define MAX_DIRTY_FILES 6

/* Looks at one directory entry while the directory is opened. */
static PsError *
check_entry(WalSegments *segs, const char *name)
{
	char path[MAXPGPATH];
	char plain[MAXFNAMELEN];
	char expected[MAXFNAMELEN];
	struct stat st;
	TimeLineID tli;
	XLogSegNo segno;
	bool packed = strlen(name) == XLOG_FNAME_LEN + strlen(PACKED_SUFFIX) &&
				  strcmp(name + XLOG_FNAME_LEN, PACKED_SUFFIX) == 0;

	strlcpy(plain, name, packed ? XLOG_FNAME_LEN + 1 : sizeof(plain));
	snprintf(path, sizeof(path), "%s/%s", segs->dir, name);
	if (strncmp(name, SEGMENT_TEMP_PREFIX, strlen(SEGMENT_TEMP_PREFIX)) == 0)
	{
		if (unlink(path) < 0)
			return ps_error(PS_SQLSTATE_IO, "could not remove file \"%s\": %m", path);
		return NULL;
	}
	if (!IsXLogFileName(plain))
		return NULL;
	XLogFromFileName(plain, &tli, &segno, segs->segment_size);
	segment_name(segs, segno, expected);
	if (strcmp(plain, expected) != 0)
		return ps_error_hint(ps_error(PS_SQLSTATE_CORRUPTED,
									  "WAL file \"%s\" is not of timeline 1 with segments of %u bytes", path,
									  segs->segment_size),
							 "Segments of other timelines do not belong here; move the file away.");
	if (!packed && stat(path, &st) < 0)
		return ps_error(ps_errno_state(), "could not stat file \"%s\": %m", path);
	if (!packed && st.st_size != segs->segment_size)
		return ps_error(PS_SQLSTATE_CORRUPTED, "WAL file \"%s\" has %lld bytes, expected %u", path,
						(long long) st.st_size, segs->segment_size);
	segment_added(segs, segno);
	/* if there are both, it was to go next (pack_segment()) */
	if (!packed)
		segs->first_plain = Min(segs->first_plain, segno);
	return NULL;
}

PsError *
wal_segments_open(const char *dir, uint32 segment_size, WalSegments **result)
{
	WalSegments *segs;
	DIR *d;
	struct dirent *de;
	PsError *err = NULL;

	if (!IsValidWalSegSize(segment_size))
		return ps_error(PS_SQLSTATE_INVALID, "invalid WAL segment size %u of \"%s\"", segment_size, dir);
	d = opendir(dir);
	if (d == NULL)
		return ps_error(ps_errno_state(), "could not open directory \"%s\": %m", dir);

	segs = pg_malloc0(sizeof(WalSegments));
	segs->dir = pg_strdup(dir);
	segs->segment_size = segment_size;
	segs->first_plain = PG_UINT64_MAX;
	pthread_mutex_init(&segs->lock, NULL);
	pthread_mutex_init(&segs->sync_lock, NULL);

	while (err == NULL && (errno = 0, de = readdir(d)) != NULL)
		err = check_entry(segs, de->d_name);
	if (err == NULL && errno != 0)
		err = ps_error(ps_errno_state(), "could not read directory \"%s\": %m", dir);
	closedir(d);
	if (err != NULL)
	{
		wal_segments_close(segs);
		return err;
	}
	*result = segs;
	return NULL;
}

void
wal_segments_close(WalSegments *segs)
{
	if (segs == NULL)
		return;
	while (segs->files != NULL)
	{
		SegmentFile *file = segs->files;

		segs->files = file->next;
		segment_file_free(file);
	}
	ps_error_free(segs->sync_error);
	pthread_mutex_destroy(&segs->lock);
	pthread_mutex_destroy(&segs->sync_lock);
	free(segs->dir);
	free(segs);
}

/* Writes within one segment. */
static PsError *
write_in_segment(WalSegments *segs, const SegmentFile *file, uint32 offset, const char *data, size_t len)
{
	char path[MAXPGPATH];

	if (fs_pwrite(file->fd, data, len, offset))
		return NULL;
	wal_segments_path(segs, file->segno, path);
	return ps_error(ps_errno_state(), "could not write %zu bytes at offset %u of WAL file \"%s\": %m", len, offset,
					path);
}

PsError *
wal_segments_write(WalSegments *segs, XLogRecPtr lsn, const char *data, size_t len)
{
	while (len > 0)
	{
		XLogSegNo segno;
		uint32 offset = XLogSegmentOffset(lsn, segs->segment_size);
		size_t n = Min(len, segs->segment_size - offset);
		SegmentFile *file;
		PsError *err;
		int ndirty = 0;

		XLByteToSeg(lsn, segno, segs->segment_size);
		PS_TRY(segment_file_acquire(segs, segno, true, &file));
		err = write_in_segment(segs, file, offset, data, n);
		segment_file_release(segs, file, true);
		if (err != NULL)
			return err;
		lsn += n;
		data += n;
		len -= n;

		/* keep the number of open files bounded when much is written without a sync */
		if (offset + n == segs->segment_size)
		{
			pthread_mutex_lock(&segs->lock);
			for (file = segs->files; file != NULL; file = file->next)
				ndirty += file->dirty;
			pthread_mutex_unlock(&segs->lock);
			if (ndirty >= MAX_DIRTY_FILES)
				PS_TRY(wal_segments_sync(segs));
		}
	}
	return NULL;
}

/* Remembers a failed sync and returns a copy of its error; under the lock. */
static PsError *
sync_failed(WalSegments *segs, PsError *err)
{
	if (segs->sync_error == NULL)
	{
		segs->sync_error = err;
		atomic_store(&segs->sync_failed, true);
	}
	else if (segs->sync_error != err)
		ps_error_free(err);
	return ps_error_hint(ps_error(segs->sync_error->sqlstate, "%s", segs->sync_error->message),
						 "What was written before may be lost. Check the disk, then start the server again.");
}

PsError *
wal_segments_sync(WalSegments *segs)
{
	SegmentFile *batch[CACHED_SEGMENT_FILES * 2];
	int n;
	bool sync_directory;
	PsError *err = NULL;

	/* After waiting here, most or all of the work has been done by others: group commit. */
	pthread_mutex_lock(&segs->sync_lock);
	do
	{
		pthread_mutex_lock(&segs->lock);
		n = 0;
		if (segs->sync_error != NULL)
			err = sync_failed(segs, segs->sync_error);
		sync_directory = segs->dir_dirty && err == NULL;
		if (sync_directory)
			segs->dir_dirty = false;
		for (SegmentFile *f = segs->files; f != NULL && n < lengthof(batch) && err == NULL; f = f->next)
		{
			if (!f->dirty)
				continue;
			f->dirty = false;
			f->users++;
			batch[n++] = f;
		}
		pthread_mutex_unlock(&segs->lock);

		for (int i = 0; i < n && err == NULL; i++)
		{
			/* one that a cut has unlinked meanwhile does no harm */
			if (fdatasync(batch[i]->fd) < 0)
			{
				char path[MAXPGPATH];

				wal_segments_path(segs, batch[i]->segno, path);
				err = ps_error(PS_SQLSTATE_IO, "could not fdatasync WAL file \"%s\": %m", path);
			}
		}
		if (sync_directory && err == NULL)
			err = fs_sync(segs->dir);
		if (err != NULL && (n > 0 || sync_directory))
		{
			pthread_mutex_lock(&segs->lock);
			err = sync_failed(segs, err);
			pthread_mutex_unlock(&segs->lock);
		}
		for (int i = 0; i < n; i++)
			segment_file_release(segs, batch[i], false);
	} while (n == lengthof(batch) && err == NULL);
	pthread_mutex_unlock(&segs->sync_lock);
	return err;
}

bool
wal_segments_sync_failed(WalSegments *segs, char *why, size_t size)
{
	if (!atomic_load(&segs->sync_failed))
		return false;
	if (why != NULL)
	{
		pthread_mutex_lock(&segs->lock);
		strlcpy(why, segs->sync_error->message, size);
		pthread_mutex_unlock(&segs->lock);
	}
	return true;
}

static const PGAlignedXLogBlock zeros;

PsError *
wal_segments_rewrite(WalSegments *segs, XLogRecPtr from, XLogRecPtr to)
{
	PGAlignedXLogBlock page;

	if (from >= to)
		return NULL;
	for (XLogRecPtr lsn = from - from % XLOG_BLCKSZ; lsn < to; lsn += XLOG_BLCKSZ)
	{
		size_t len = Min(XLOG_BLCKSZ, to - lsn);

		PS_TRY(wal_segments_read(segs, lsn, page.data, len));
		if (memcmp(page.data, zeros.data, len) != 0)
			PS_TRY(wal_segments_write(segs, lsn, page.data, len));
	}
	return NULL;
}

/*
 * Zeros from an offset to the end of a segment.  Most of it is zeros already:
 * only what is not gets written.
 */
static PsError *
zero_tail(WalSegments *segs, XLogSegNo segno, uint32 offset)
{
	SegmentFile *file;
	PsError *err = NULL;

	PS_TRY(segment_file_acquire(segs, segno, true, &file));
	while (offset < segs->segment_size && err == NULL)
	{
		PGAlignedXLogBlock page;
		uint32 n = XLOG_BLCKSZ - offset % XLOG_BLCKSZ;
		ssize_t got = pread(file->fd, page.data, n, offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got != n)
		{
			char path[MAXPGPATH];

			wal_segments_path(segs, segno, path);
			err = ps_error(PS_SQLSTATE_IO, "could not read %u bytes at offset %u of WAL file \"%s\": %m", n, offset,
						   path);
		}
		else if (memcmp(page.data, zeros.data, n) != 0)
			err = write_in_segment(segs, file, offset, zeros.data, n);
		offset += n;
	}
	segment_file_release(segs, file, true);
	return err;
}

/* Caller holds "lock".  Readers that have the file open can continue. */
static PsError *
remove_file(WalSegments *segs, XLogSegNo segno)
{
	char path[MAXPGPATH];

	wal_segments_path(segs, segno, path);
	if (unlink(path) < 0 && errno != ENOENT)
		return ps_error(PS_SQLSTATE_IO, "could not remove WAL file \"%s\": %m", path);
	segment_packed_path(segs, segno, path);
	if (unlink(path) < 0 && errno != ENOENT)
		return ps_error(PS_SQLSTATE_IO, "could not remove WAL file \"%s\": %m", path);
	segment_file_forget(segs, segno);
	segs->dir_dirty = true;
	return NULL;
}

PsError *
wal_segments_remove_before(WalSegments *segs, XLogSegNo first_kept, int *removed)
{
	PsError *err = NULL;

	*removed = 0;
	pthread_mutex_lock(&segs->lock);
	while (segs->any && segs->oldest < first_kept && segs->oldest < segs->newest && err == NULL)
	{
		err = remove_file(segs, segs->oldest);
		if (err != NULL)
			break;
		segs->oldest++;
		(*removed)++;
	}
	pthread_mutex_unlock(&segs->lock);
	return err;
}

/*
 * The compressed file gets its name when it is durable; only then is the plain one
 * removed.  If the store ends in between both exist, and the plain one counts.
 */
static PsError *
pack_segment(WalSegments *segs, XLogSegNo segno)
{
	char plain[MAXPGPATH];
	char path[MAXPGPATH];
	char temp[MAXPGPATH];
	char name[MAXFNAMELEN];
	SegmentFile *file;
	PsError *err;

	wal_segments_path(segs, segno, plain);
	segment_packed_path(segs, segno, path);
	segment_name(segs, segno, name);
	snprintf(temp, sizeof(temp), "%s/" SEGMENT_TEMP_PREFIX "%s" PACKED_SUFFIX, segs->dir, name);
	PS_TRY(segment_file_acquire(segs, segno, false, &file));
	err = packed_segment_write(file->fd, plain, segs->segment_size, temp);
	segment_file_release(segs, file, false);
	if (err != NULL)
		return err;
	if (rename(temp, path) < 0)
	{
		err = ps_error(ps_errno_state(), "could not rename file \"%s\" to \"%s\": %m", temp, path);
		unlink(temp);
		return err;
	}
	PS_TRY(fs_sync(segs->dir));
	pthread_mutex_lock(&segs->lock);
	if (unlink(plain) < 0)
		err = ps_error(PS_SQLSTATE_IO, "could not remove WAL file \"%s\": %m", plain);
	else
	{
		segment_file_forget(segs, segno);
		segs->first_plain = segno + 1;
	}
	pthread_mutex_unlock(&segs->lock);
	return err;
}

PsError *
wal_segments_pack(WalSegments *segs, XLogSegNo before, const CancelCheck *cancel)
{
	for (;;)
	{
		XLogSegNo segno;
		bool any;

		pthread_mutex_lock(&segs->lock);
		segno = Max(segs->first_plain, segs->oldest);
		any = segs->any && segno < before && segno < segs->newest;
		pthread_mutex_unlock(&segs->lock);
		if (!any)
			return NULL;
		PS_TRY(cancel_check(cancel));
		PS_TRY(pack_segment(segs, segno));
	}
}

PsError *
wal_segments_cut(WalSegments *segs, XLogRecPtr lsn)
{
	XLogSegNo first_gone;
	uint32 offset = XLogSegmentOffset(lsn, segs->segment_size);
	bool exists;
	PsError *err = NULL;

	XLByteToSeg(lsn, first_gone, segs->segment_size);
	if (offset != 0)
		first_gone++;

	/* from the end, so that a crash leaves no gap */
	pthread_mutex_lock(&segs->lock);
	while (segs->any && segs->newest >= first_gone && err == NULL)
	{
		err = remove_file(segs, segs->newest);
		if (err != NULL)
			break;
		if (segs->newest == segs->oldest)
			segs->any = false;
		else
			segs->newest--;
	}
	exists = segs->any && offset != 0 && segs->newest == first_gone - 1;
	pthread_mutex_unlock(&segs->lock);

	if (err == NULL && exists)
		err = zero_tail(segs, first_gone - 1, offset);
	if (err == NULL)
		err = wal_segments_sync(segs);
	return err;
}

bool
wal_segments_range(WalSegments *segs, XLogSegNo *oldest, XLogSegNo *newest)
{
	bool any;

	pthread_mutex_lock(&segs->lock);
	any = segs->any;
	*oldest = segs->oldest;
	*newest = segs->newest;
	pthread_mutex_unlock(&segs->lock);
	return any;
}

uint32
wal_segments_segment_size(const WalSegments *segs)
{
	return segs->segment_size;
}
