/*
 * tarsink.c
 *	  Writing a tar to a ByteSink.
 *
 * Headers are created by PostgreSQL's own code (src/port/tar.c).  All output goes
 * through one buffer, so the ByteSink gets few, large pieces.
 */
#include "ps_fe.h"

#include <sys/stat.h>
#include <unistd.h>

#include "pgtar.h"

#include "backup/backup_impl.h"
#include "sqlstate.h"

#define TAR_BUFFER_SIZE (128 * 1024)

/* Fields of a header, some of them only in GNU's format for sparse files. */
#define GNU_MAGIC_AT    257
#define GNU_SPARSE_AT   386 /* four pairs: 12 bytes offset, 12 bytes length */
#define GNU_REALSIZE_AT 483
#define GNU_NUMBER_LEN  12
#define TAR_TYPE_AT     156
#define TAR_SIZE_AT     124
#define TAR_CHECKSUM_AT 148

struct TarSink
{
	ByteSink sink;
	char *path;  /* the file being written, NULL between files */
	uint64 size; /* size of the file in its header */
	uint64 written;
	time_t mtime; /* of all entries */
	size_t used;
	char buf[TAR_BUFFER_SIZE];
};

TarSink *
tar_create(ByteSink sink)
{
	TarSink *tar = pg_malloc(sizeof(TarSink));

	tar->sink = sink;
	tar->path = NULL;
	tar->size = tar->written = 0;
	tar->mtime = time(NULL);
	tar->used = 0;
	return tar;
}

void
tar_free(TarSink *tar)
{
	if (tar == NULL)
		return;
	free(tar->path);
	free(tar);
}

static PsError *
flush_buffer(TarSink *tar)
{
	size_t len = tar->used;

	tar->used = 0;
	return len > 0 ? tar->sink.write(tar->sink.arg, tar->buf, len) : NULL;
}

static PsError *
put_bytes(TarSink *tar, const char *data, size_t len)
{
	while (len > 0)
	{
		size_t n = Min(len, TAR_BUFFER_SIZE - tar->used);

		memcpy(tar->buf + tar->used, data, n);
		tar->used += n;
		data += n;
		len -= n;
		if (tar->used == TAR_BUFFER_SIZE)
			PS_TRY(flush_buffer(tar));
	}
	return NULL;
}

static PsError *
put_zeros(TarSink *tar, uint64 len)
{
	while (len > 0)
	{
		size_t n = Min(len, TAR_BUFFER_SIZE - tar->used);

		memset(tar->buf + tar->used, 0, n);
		tar->used += n;
		len -= n;
		if (tar->used == TAR_BUFFER_SIZE)
			PS_TRY(flush_buffer(tar));
	}
	return NULL;
}

static PsError *
make_header(TarSink *tar, char *header, const char *path, uint64 size, mode_t mode)
{
	if (tarCreateHeader(header, path, NULL, size, mode, geteuid(), getegid(), tar->mtime) != TAR_OK)
		return ps_error(PS_SQLSTATE_INTERNAL, "file name \"%s\" is too long for tar format", path);
	return NULL;
}

PsError *
tar_directory(TarSink *tar, const char *path)
{
	char header[TAR_BLOCK_SIZE];

	Assert(tar->path == NULL);
	PS_TRY(make_header(tar, header, path, 0, S_IFDIR | S_IRWXU));
	return put_bytes(tar, header, sizeof(header));
}

PsError *
tar_file_begin(TarSink *tar, const char *path, uint64 size)
{
	char header[TAR_BLOCK_SIZE];

	Assert(tar->path == NULL);
	PS_TRY(make_header(tar, header, path, size, S_IFREG | S_IRUSR | S_IWUSR));
	tar->path = pg_strdup(path);
	tar->size = size;
	tar->written = 0;
	return put_bytes(tar, header, sizeof(header));
}

PsError *
tar_sparse_file_begin(TarSink *tar, const char *path, uint64 used, uint64 size)
{
	char header[TAR_BLOCK_SIZE];

	Assert(tar->path == NULL && used <= size);
	PS_TRY(make_header(tar, header, path, used, S_IFREG | S_IRUSR | S_IWUSR));
	header[TAR_TYPE_AT] = 'S';
	memcpy(header + GNU_MAGIC_AT, "ustar  ", 8);
	print_tar_number(header + GNU_SPARSE_AT, GNU_NUMBER_LEN, 0);
	print_tar_number(header + GNU_SPARSE_AT + GNU_NUMBER_LEN, GNU_NUMBER_LEN, used);
	/* an empty piece at the end sets the length of the file */
	print_tar_number(header + GNU_SPARSE_AT + 2 * GNU_NUMBER_LEN, GNU_NUMBER_LEN, size);
	print_tar_number(header + GNU_SPARSE_AT + 3 * GNU_NUMBER_LEN, GNU_NUMBER_LEN, 0);
	print_tar_number(header + GNU_REALSIZE_AT, GNU_NUMBER_LEN, size);
	print_tar_number(header + TAR_CHECKSUM_AT, 8, tarChecksum(header));
	tar->path = pg_strdup(path);
	tar->size = used;
	tar->written = 0;
	return put_bytes(tar, header, sizeof(header));
}

PsError *
tar_write(TarSink *tar, const char *data, size_t len)
{
	Assert(tar->path != NULL);
	tar->written += len;
	return put_bytes(tar, data, len);
}

PsError *
tar_write_zeros(TarSink *tar, uint64 len)
{
	Assert(tar->path != NULL);
	tar->written += len;
	return put_zeros(tar, len);
}

PsError *
tar_file_end(TarSink *tar)
{
	Assert(tar->path != NULL);
	if (tar->written != tar->size)
		return ps_error(PS_SQLSTATE_INTERNAL,
						"file \"%s\" of a backup has " UINT64_FORMAT " bytes, but its header says " UINT64_FORMAT,
						tar->path, tar->written, tar->size);
	pg_free(tar->path);
	tar->path = NULL;
	return put_zeros(tar, tarPaddingBytesRequired(tar->size));
}

PsError *
tar_file(TarSink *tar, const char *path, const char *data, size_t len)
{
	PS_TRY(tar_file_begin(tar, path, len));
	PS_TRY(tar_write(tar, data, len));
	return tar_file_end(tar);
}

/* Two blocks of zeros end the archive. */
PsError *
tar_finish(TarSink *tar)
{
	Assert(tar->path == NULL);
	PS_TRY(put_zeros(tar, 2 * TAR_BLOCK_SIZE));
	return flush_buffer(tar);
}
