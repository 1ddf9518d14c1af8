/*
 * segments.c
 *	  The WAL files of one timeline: PostgreSQL's segments in PostgreSQL's names.
 *	  segments_read.c reads them.
 *
 * A segment has its full size from the start and reads as zeros where nothing
 * was written.  It is made under a temporary name, made durable, and renamed:
 * a file with a segment's name is never short.  Old ones are kept compressed
 * (packed.h): the segments before first_plain.
 *
 * Descriptors are kept open in a small cache.  An entry is in use while its
 * "users" is not zero; the writer's changes keep it (dirty) until they are
 * synced.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "port/pg_crc32c.h"

#include "ps_wire.h"
#include "sync.h"
#include "wal/packed.h"
#include "wal/wal.h"

/* Descriptors that are kept open when nobody uses them. */
#define CACHED_FILES 8

/* Segments that may wait for a sync before the writer does it itself. */
#define MAX_DIRTY_FILES 6

#define TEMP_PREFIX "xlogtemp."

typedef struct SegmentFile
{
	XLogSegNo	segno;
	int			fd;
	PackedSegment *packed;		/* NULL: as it was written; else there is no fd */
	int			users;
	bool		dirty;
	bool		gone;			/* unlinked: close when the last user is done */
	uint64		last_use;
	struct SegmentFile *next;
} SegmentFile;

struct WalSegments
{
	char	   *dir;
	uint32		segment_size;

	pthread_mutex_t lock;		/* for what follows; not held during I/O, but for unlink() */
	SegmentFile *files;
	int			nfiles;
	uint64		clock;
	bool		any;			/* is there a segment? */
	XLogSegNo	oldest;
	XLogSegNo	newest;
	XLogSegNo	first_plain;	/* those before are packed */
	bool		dir_dirty;		/* a segment was made or removed */
	PsError    *sync_error;		/* a sync failed: what was written since the last one may be lost */

	pthread_mutex_t sync_lock;	/* one sync at a time; taken before "lock" */
};

static void
segment_name(const WalSegments *segs, XLogSegNo segno, char name[MAXFNAMELEN])
{
	XLogFileName(name, 1, segno, segs->segment_size);
}

void
wal_segments_path(const WalSegments *segs, XLogSegNo segno, char path[MAXPGPATH])
{
	char		name[MAXFNAMELEN];

	segment_name(segs, segno, name);
	snprintf(path, MAXPGPATH, "%s/%s", segs->dir, name);
}

static void
packed_path(const WalSegments *segs, XLogSegNo segno, char path[MAXPGPATH])
{
	char		name[MAXFNAMELEN];

	segment_name(segs, segno, name);
	snprintf(path, MAXPGPATH, "%s/%s" PACKED_SUFFIX, segs->dir, name);
}

/* A segment that exists; under the lock, or while the directory is opened. */
static void
add_segment(WalSegments *segs, XLogSegNo segno)
{
	segs->oldest = segs->any ? Min(segs->oldest, segno) : segno;
	segs->newest = segs->any ? Max(segs->newest, segno) : segno;
	segs->any = true;
}

/* Looks at one directory entry while the directory is opened. */
static PsError *
check_entry(WalSegments *segs, const char *name)
{
	char		path[MAXPGPATH];
	char		plain[MAXFNAMELEN];
	char		expected[MAXFNAMELEN];
	struct stat st;
	TimeLineID	tli;
	XLogSegNo	segno;
	bool		packed = strlen(name) == XLOG_FNAME_LEN + strlen(PACKED_SUFFIX) && strcmp(name + XLOG_FNAME_LEN, PACKED_SUFFIX) == 0;

	strlcpy(plain, name, packed ? XLOG_FNAME_LEN + 1 : sizeof(plain));
	snprintf(path, sizeof(path), "%s/%s", segs->dir, name);
	if (strncmp(name, TEMP_PREFIX, strlen(TEMP_PREFIX)) == 0)
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
		return ps_error_hint(ps_error(PS_SQLSTATE_CORRUPTED, "WAL file \"%s\" is not of timeline 1 with segments of %u bytes",
									  path, segs->segment_size),
							 "Segments of other timelines do not belong here; move the file away.");
	if (!packed && stat(path, &st) < 0)
		return ps_error(ps_errno_state(), "could not stat file \"%s\": %m", path);
	if (!packed && st.st_size != segs->segment_size)
		return ps_error(PS_SQLSTATE_CORRUPTED, "WAL file \"%s\" has %lld bytes, expected %u", path, (long long) st.st_size,
						segs->segment_size);
	add_segment(segs, segno);
	/* if there are both, it was to go next (pack_segment()) */
	if (!packed)
		segs->first_plain = Min(segs->first_plain, segno);
	return NULL;
}

static void
free_file(SegmentFile *file)
{
	if (file->packed != NULL)
		packed_segment_close(file->packed);
	else
		close(file->fd);
	free(file);
}

PsError *
wal_segments_open(const char *dir, uint32 segment_size, WalSegments **result)
{
	WalSegments *segs;
	DIR		   *d;
	struct dirent *de;
	PsError    *err = NULL;

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
		free_file(file);
	}
	ps_error_free(segs->sync_error);
	pthread_mutex_destroy(&segs->lock);
	pthread_mutex_destroy(&segs->sync_lock);
	free(segs->dir);
	free(segs);
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
	free_file(file);
}

/* Closes what was not used for longest until the cache has its size; under the lock. */
static void
shrink_cache(WalSegments *segs)
{
	while (segs->nfiles > CACHED_FILES)
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
	char		path[MAXPGPATH];
	char		name[MAXFNAMELEN];
	char		temp[MAXPGPATH];
	int			rc;
	PsError    *err;

	wal_segments_path(segs, segno, path);
	segment_name(segs, segno, name);
	snprintf(temp, sizeof(temp), "%s/" TEMP_PREFIX "%s", segs->dir, name);
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
	char		path[MAXPGPATH];
	char		packed[MAXPGPATH];
	bool		created = false;
	PsError    *err = NULL;

	pthread_mutex_unlock(&segs->lock);
	wal_segments_path(segs, segno, path);
	packed_path(segs, segno, packed);
	opened.fd = open(path, O_RDWR | O_CLOEXEC);
	if (opened.fd < 0 && errno != ENOENT)
		err = ps_error(ps_errno_state(), "could not open WAL file \"%s\": %m", path);
	/* the plain file goes only when the packed one has its name */
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
		add_segment(segs, segno);
		segs->first_plain = Min(segs->first_plain, segno);
	}
	existing = find_file(segs, segno);
	*result = pg_malloc(sizeof(SegmentFile));
	**result = opened;
	if (existing != NULL)
	{
		free_file(*result);
		*result = existing;
		return NULL;
	}
	(*result)->next = segs->files;
	segs->files = *result;
	segs->nfiles++;
	return NULL;
}

/* The file of a segment, to be given back with release_file(). */
static PsError *
acquire_file(WalSegments *segs, XLogSegNo segno, bool create, SegmentFile **result)
{
	PsError    *err = NULL;

	pthread_mutex_lock(&segs->lock);
	*result = find_file(segs, segno);
	if (*result == NULL)
		err = open_file(segs, segno, create, result);
	if (err == NULL && create && (*result)->packed != NULL)
	{
		char		path[MAXPGPATH];

		packed_path(segs, segno, path);
		err = ps_error(PS_SQLSTATE_INTERNAL, "WAL file \"%s\" cannot be written: it is compressed already", path);
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

/* written: the file was changed, and is to be kept for the next sync. */
static void
release_file(WalSegments *segs, SegmentFile *file, bool written)
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

/* Writes within one segment. */
static PsError *
write_in_segment(WalSegments *segs, const SegmentFile *file, uint32 offset, const char *data, size_t len)
{
	while (len > 0)
	{
		ssize_t		n = pwrite(file->fd, data, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			char		path[MAXPGPATH];

			if (n == 0)
				errno = ENOSPC;
			wal_segments_path(segs, file->segno, path);
			return ps_error(ps_errno_state(), "could not write %zu bytes at offset %u of WAL file \"%s\": %m", len, offset, path);
		}
		data += n;
		len -= n;
		offset += n;
	}
	return NULL;
}

PsError *
wal_segments_write(WalSegments *segs, XLogRecPtr lsn, const char *data, size_t len)
{
	while (len > 0)
	{
		XLogSegNo	segno;
		uint32		offset = XLogSegmentOffset(lsn, segs->segment_size);
		size_t		n = Min(len, segs->segment_size - offset);
		SegmentFile *file;
		PsError    *err;
		int			ndirty = 0;

		XLByteToSeg(lsn, segno, segs->segment_size);
		PS_TRY(acquire_file(segs, segno, true, &file));
		err = write_in_segment(segs, file, offset, data, n);
		release_file(segs, file, true);
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
		segs->sync_error = err;
	else if (segs->sync_error != err)
		ps_error_free(err);
	return ps_error_hint(ps_error(segs->sync_error->sqlstate, "%s", segs->sync_error->message),
						 "What was written before may be lost. Look after the disk, then start the server again.");
}

PsError *
wal_segments_sync(WalSegments *segs)
{
	SegmentFile *batch[CACHED_FILES * 2];
	int			n;
	bool		sync_directory;
	PsError    *err = NULL;

	/* Whoever waits here finds, when it goes on, that most or all of its work is done. */
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
				char		path[MAXPGPATH];

				wal_segments_path(segs, batch[i]->segno, path);
				err = ps_error(PS_SQLSTATE_IO, "could not fdatasync WAL file \"%s\": %m", path);
			}
		}
		if (sync_directory && err == NULL)
			err = sync_path(segs->dir);
		if (err != NULL && (n > 0 || sync_directory))
		{
			pthread_mutex_lock(&segs->lock);
			err = sync_failed(segs, err);
			pthread_mutex_unlock(&segs->lock);
		}
		for (int i = 0; i < n; i++)
			release_file(segs, batch[i], false);
	} while (n == lengthof(batch) && err == NULL);
	pthread_mutex_unlock(&segs->sync_lock);
	return err;
}

/*
 * Zeros from an offset to the end of a segment.  Most of it is zeros already:
 * only what is not gets written.
 */
static PsError *
zero_tail(WalSegments *segs, XLogSegNo segno, uint32 offset)
{
	static const PGAlignedXLogBlock zeros;
	SegmentFile *file;
	PsError    *err = NULL;

	PS_TRY(acquire_file(segs, segno, true, &file));
	while (offset < segs->segment_size && err == NULL)
	{
		PGAlignedXLogBlock page;
		uint32		n = XLOG_BLCKSZ - offset % XLOG_BLCKSZ;
		ssize_t		got = pread(file->fd, page.data, n, offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got != n)
		{
			char		path[MAXPGPATH];

			wal_segments_path(segs, segno, path);
			err = ps_error(PS_SQLSTATE_IO, "could not read %u bytes at offset %u of WAL file \"%s\": %m", n, offset, path);
		}
		else if (memcmp(page.data, zeros.data, n) != 0)
			err = write_in_segment(segs, file, offset, zeros.data, n);
		offset += n;
	}
	release_file(segs, file, true);
	return err;
}

/* The file has been unlinked: who has it open goes on with it, nobody else gets it.  Caller holds "lock". */
static void
forget_file(WalSegments *segs, XLogSegNo segno)
{
	SegmentFile *file = find_file(segs, segno);

	if (file == NULL)
		return;
	file->gone = true;
	file->dirty = false;
	if (file->users == 0)
		close_file(segs, file);
}

/* Caller holds "lock".  Readers that have the file open go on. */
static PsError *
remove_file(WalSegments *segs, XLogSegNo segno)
{
	char		path[MAXPGPATH];

	wal_segments_path(segs, segno, path);
	if (unlink(path) < 0 && errno != ENOENT)
		return ps_error(PS_SQLSTATE_IO, "could not remove WAL file \"%s\": %m", path);
	packed_path(segs, segno, path);
	if (unlink(path) < 0 && errno != ENOENT)
		return ps_error(PS_SQLSTATE_IO, "could not remove WAL file \"%s\": %m", path);
	forget_file(segs, segno);
	segs->dir_dirty = true;
	return NULL;
}

PsError *
wal_segments_remove_before(WalSegments *segs, XLogSegNo first_kept, int *removed)
{
	PsError    *err = NULL;

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
 * The packed file gets its name when it is durable; only then the plain one
 * goes.  If the store ends in between there are both, and the plain one counts.
 */
static PsError *
pack_segment(WalSegments *segs, XLogSegNo segno)
{
	char		plain[MAXPGPATH];
	char		path[MAXPGPATH];
	char		temp[MAXPGPATH];
	char		name[MAXFNAMELEN];
	SegmentFile *file;
	PsError    *err;

	wal_segments_path(segs, segno, plain);
	packed_path(segs, segno, path);
	segment_name(segs, segno, name);
	snprintf(temp, sizeof(temp), "%s/" TEMP_PREFIX "%s" PACKED_SUFFIX, segs->dir, name);
	PS_TRY(acquire_file(segs, segno, false, &file));
	err = packed_segment_write(file->fd, plain, segs->segment_size, temp);
	release_file(segs, file, false);
	if (err != NULL)
		return err;
	if (rename(temp, path) < 0)
	{
		err = ps_error(ps_errno_state(), "could not rename file \"%s\" to \"%s\": %m", temp, path);
		unlink(temp);
		return err;
	}
	PS_TRY(sync_path(segs->dir));
	pthread_mutex_lock(&segs->lock);
	if (unlink(plain) < 0)
		err = ps_error(PS_SQLSTATE_IO, "could not remove WAL file \"%s\": %m", plain);
	else
	{
		forget_file(segs, segno);
		segs->first_plain = segno + 1;
	}
	pthread_mutex_unlock(&segs->lock);
	return err;
}

PsError *
wal_segments_pack(WalSegments *segs, XLogSegNo before, bool (*is_canceled) (void *arg), void *arg)
{
	for (;;)
	{
		XLogSegNo	segno;
		bool		any;

		pthread_mutex_lock(&segs->lock);
		segno = Max(segs->first_plain, segs->oldest);
		any = segs->any && segno < before && segno < segs->newest;
		pthread_mutex_unlock(&segs->lock);
		if (!any)
			return NULL;
		if (is_canceled(arg))
			return ps_error(PS_SQLSTATE_CANCELED, "the store is stopping");
		PS_TRY(pack_segment(segs, segno));
	}
}

PsError *
wal_segments_cut(WalSegments *segs, XLogRecPtr lsn)
{
	XLogSegNo	first_gone;
	uint32		offset = XLogSegmentOffset(lsn, segs->segment_size);
	bool		exists;
	PsError    *err = NULL;

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

PsError *
wal_segments_hold(WalSegments *segs, XLogRecPtr lsn, WalHold *hold)
{
	SegmentFile *file;

	XLByteToSeg(lsn, hold->segno, segs->segment_size);
	PS_TRY(acquire_file(segs, hold->segno, false, &file));
	hold->segs = segs;
	hold->file = file;
	hold->fd = file->fd;
	hold->packed = file->packed;
	return NULL;
}

void
wal_segments_release(WalHold *hold)
{
	release_file(hold->segs, hold->file, false);
}

bool
wal_segments_range(WalSegments *segs, XLogSegNo *oldest, XLogSegNo *newest)
{
	bool		any;

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
