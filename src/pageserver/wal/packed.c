/*
 * packed.c
 *	  WAL segments that are kept compressed: see packed.h.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "common/file_perm.h"

#include "base/fs.h"
#include "sqlstate.h"
#include "wal/packed.h"

/* 300 MB/s to a third of the size; level 3 takes thrice the time and saves nothing more. */
#define ZSTD_LEVEL 1

#define TABLE_HEADER 8
#define TABLE_ENTRY  8
#define TABLE_FOOTER 9

struct PackedSegment
{
	char *path;
	int fd;
	int nframes;
	uint64 *offsets; /* nframes + 1: where each frame begins, and where the table does */
};

static void
put_le32(char *p, uint32 v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (char) (v >> (8 * i));
}

static uint32
get_le32(const char *p)
{
	uint32 v = 0;

	for (int i = 0; i < 4; i++)
		v |= (uint32) (uint8) p[i] << (8 * i);
	return v;
}

/* All of len bytes; what is missing is an error with errno EIO. */
static bool
read_fully(int fd, char *buf, size_t len, off_t offset)
{
	while (len > 0)
	{
		ssize_t n = pread(fd, buf, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			if (n == 0)
				errno = EIO;
			return false;
		}
		buf += n;
		len -= n;
		offset += n;
	}
	return true;
}

static PsError *
write_frames(int from, const char *from_path, uint32 segment_size, int to, const char *to_path)
{
	int nframes = segment_size / PACKED_FRAME_SIZE;
	size_t table_size = TABLE_HEADER + (size_t) nframes * TABLE_ENTRY + TABLE_FOOTER;
	size_t room = ZSTD_compressBound(PACKED_FRAME_SIZE);
	ZSTD_CCtx *context = ZSTD_createCCtx();
	char *content = pg_malloc(PACKED_FRAME_SIZE);
	char *frame = pg_malloc(room);
	char *table = pg_malloc(table_size);
	off_t written = 0;
	PsError *err = NULL;

	if (context == NULL)
	{
		err = ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "out of memory");
		goto done;
	}
	ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, ZSTD_LEVEL);
	ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
	for (int i = 0; i < nframes; i++)
	{
		uint32 offset = i * PACKED_FRAME_SIZE;
		size_t n;

		if (!read_fully(from, content, PACKED_FRAME_SIZE, offset))
		{
			err = ps_error(PS_SQLSTATE_IO, "could not read %d bytes at offset %u of WAL file \"%s\": %m",
						   PACKED_FRAME_SIZE, offset, from_path);
			goto done;
		}
		n = ZSTD_compress2(context, frame, room, content, PACKED_FRAME_SIZE);
		if (ZSTD_isError(n))
		{
			err = ps_error(PS_SQLSTATE_INTERNAL, "could not compress WAL file \"%s\": %s", from_path,
						   ZSTD_getErrorName(n));
			goto done;
		}
		PS_GOTO(fs_write_at(to, to_path, frame, n, written), done);
		written += n;
		put_le32(table + TABLE_HEADER + i * TABLE_ENTRY, n);
		put_le32(table + TABLE_HEADER + i * TABLE_ENTRY + 4, PACKED_FRAME_SIZE);
	}
	put_le32(table, PACKED_TABLE_MAGIC);
	put_le32(table + 4, table_size - TABLE_HEADER);
	put_le32(table + table_size - TABLE_FOOTER, nframes);
	table[table_size - 5] = 0;
	put_le32(table + table_size - 4, PACKED_FOOTER_MAGIC);
	err = fs_write_at(to, to_path, table, table_size, written);

done:
	ZSTD_freeCCtx(context);
	free(content);
	free(frame);
	free(table);
	return err;
}

PsError *
packed_segment_write(int segment_fd, const char *segment_path, uint32 segment_size, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, pg_file_create_mode);
	PsError *err;

	if (fd < 0)
		return ps_error(ps_errno_state(), "could not create file \"%s\": %m", path);
	err = write_frames(segment_fd, segment_path, segment_size, fd, path);
	if (err == NULL && fsync(fd) != 0)
		err = ps_error(ps_errno_state(), "could not sync file \"%s\": %m", path);
	close(fd);
	if (err != NULL)
		unlink(path);
	return err;
}

static PsError *
damaged(const PackedSegment *packed, uint64 offset, const char *what)
{
	return ps_error_hint(ps_error(PS_SQLSTATE_CORRUPTED, "WAL file \"%s\" is damaged at offset %llu: %s", packed->path,
								  (unsigned long long) offset, what),
						 "Restore it from a copy. "
						 "Branches that begin in its part of history cannot be made without it.");
}

/* Reads the seek table, and checks that all lengths fit. */
static PsError *
read_table(PackedSegment *packed)
{
	size_t table_size = TABLE_HEADER + (size_t) packed->nframes * TABLE_ENTRY + TABLE_FOOTER;
	char *table = pg_malloc(table_size);
	uint64 offset = 0;
	struct stat st;
	PsError *err = NULL;

	if (fstat(packed->fd, &st) != 0)
		err = ps_error(PS_SQLSTATE_IO, "could not stat file \"%s\": %m", packed->path);
	else if (st.st_size < table_size)
		err = damaged(packed, st.st_size, "it ends too early");
	else if (!read_fully(packed->fd, table, table_size, st.st_size - table_size))
		err = ps_error(PS_SQLSTATE_IO, "could not read %zu bytes at offset %llu of WAL file \"%s\": %m", table_size,
					   (unsigned long long) (st.st_size - table_size), packed->path);
	else if (get_le32(table) != PACKED_TABLE_MAGIC || get_le32(table + 4) != table_size - TABLE_HEADER ||
			 get_le32(table + table_size - TABLE_FOOTER) != packed->nframes || table[table_size - 5] != 0 ||
			 get_le32(table + table_size - 4) != PACKED_FOOTER_MAGIC)
		err = damaged(packed, st.st_size - table_size, "expected the table of its frames");
	for (int i = 0; i < packed->nframes && err == NULL; i++)
	{
		const char *entry = table + TABLE_HEADER + i * TABLE_ENTRY;

		packed->offsets[i] = offset;
		offset += get_le32(entry);
		if (get_le32(entry + 4) != PACKED_FRAME_SIZE || offset > st.st_size - table_size)
			err = damaged(packed, st.st_size - table_size + (entry - table), "a frame cannot have these lengths");
	}
	if (err == NULL && offset != st.st_size - table_size)
		err = damaged(packed, offset, "its frames end before their table begins");
	packed->offsets[packed->nframes] = offset;
	free(table);
	return err;
}

PsError *
packed_segment_open(const char *path, uint32 segment_size, PackedSegment **result)
{
	PackedSegment *packed = pg_malloc0(sizeof(PackedSegment));
	PsError *err;

	packed->path = pg_strdup(path);
	packed->nframes = segment_size / PACKED_FRAME_SIZE;
	packed->offsets = pg_malloc((packed->nframes + 1) * sizeof(uint64));
	packed->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (packed->fd < 0)
		err = ps_error(ps_errno_state(), "could not open WAL file \"%s\": %m", path);
	else
		err = read_table(packed);
	if (err == NULL)
		*result = packed;
	else
		packed_segment_close(packed);
	return err;
}

void
packed_segment_close(PackedSegment *packed)
{
	if (packed == NULL)
		return;
	if (packed->fd >= 0)
		close(packed->fd);
	free(packed->offsets);
	free(packed->path);
	free(packed);
}

/* The content of one frame.  *frame: a buffer, made larger as needed. */
static PsError *
read_frame(const PackedSegment *packed, int i, ZSTD_DCtx *context, char **frame, char *content)
{
	size_t size = packed->offsets[i + 1] - packed->offsets[i];
	size_t n;

	*frame = pg_realloc(*frame, Max(size, 1));
	if (!read_fully(packed->fd, *frame, size, packed->offsets[i]))
		return ps_error(PS_SQLSTATE_IO, "could not read %zu bytes at offset %llu of WAL file \"%s\": %m", size,
						(unsigned long long) packed->offsets[i], packed->path);
	n = ZSTD_decompressDCtx(context, content, PACKED_FRAME_SIZE, *frame, size);
	if (ZSTD_isError(n))
		return damaged(packed, packed->offsets[i], ZSTD_getErrorName(n));
	if (n != PACKED_FRAME_SIZE)
		return damaged(packed, packed->offsets[i], "a frame has too few bytes");
	return NULL;
}

PsError *
packed_segment_read(const PackedSegment *packed, uint32 offset, const struct iovec *iov, size_t len)
{
	ZSTD_DCtx *context = ZSTD_createDCtx();
	char *content = pg_malloc(PACKED_FRAME_SIZE);
	char *frame = NULL;
	size_t in_piece = 0;
	PsError *err = NULL;

	if (context == NULL)
		err = ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "out of memory");
	while (len > 0 && err == NULL)
	{
		int i = offset / PACKED_FRAME_SIZE;
		uint32 in_frame = offset % PACKED_FRAME_SIZE;
		size_t take = Min(len, PACKED_FRAME_SIZE - in_frame);

		err = read_frame(packed, i, context, &frame, content);
		len -= take;
		offset += take;
		while (take > 0 && err == NULL)
		{
			size_t piece = Min(take, iov->iov_len - in_piece);

			memcpy((char *) iov->iov_base + in_piece, content + in_frame, piece);
			in_frame += piece;
			in_piece += piece;
			take -= piece;
			if (in_piece == iov->iov_len)
			{
				iov++;
				in_piece = 0;
			}
		}
	}
	ZSTD_freeDCtx(context);
	free(content);
	free(frame);
	return err;
}
