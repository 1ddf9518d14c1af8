/*
 * blob.c
 *	  Values in a layer file: see blob.h, and layer_format.h for their form.
 *
 * Each thread keeps its compression contexts and its buffer, because creating
 * them costs more than compressing a page.
 */
#include "ps_fe.h"

#include <lz4.h>
#include <pthread.h>
#include <zstd.h>

#include "port/pg_crc32c.h"

#include "bytes.h"
#include "layer/blob.h"
#include "layer/layer_cache.h"
#include "layer/layer_dict.h"
#include "sqlstate.h"

#define ZSTD_LEVEL 1

/* Size of the first read of a value, header included; a second one reads the rest of a longer value. */
#define FIRST_READ_RECORD 2048
#define FIRST_READ_IMAGE  (BLCKSZ + BLOB_HEADER_MAX)

/* A buffer that is larger than this is freed after use. */
#define KEEP_BUFFER (1024 * 1024)

/* State of one thread, freed when the thread ends. */
typedef struct BlobThread
{
	char *buf; /* stored form of a value that was read, or will be written */
	size_t size;
	void *lz4;
	ZSTD_CCtx *compress;
	ZSTD_DCtx *decompress;
} BlobThread;

/* Every zstd frame begins with these bytes; values are stored without them. */
static const char zstd_magic[4] = {0x28, (char) 0xb5, 0x2f, (char) 0xfd};

/* Longest such frame: its value has at most LAYER_DICT_VALUE_MAX bytes, and became shorter. */
#define DICT_FRAME_MAX (sizeof(zstd_magic) + LAYER_DICT_VALUE_MAX)

static pthread_once_t thread_key_once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_key;
static __thread BlobThread *blob_thread;

static void
free_thread(void *arg)
{
	BlobThread *thread = arg;

	free(thread->buf);
	free(thread->lz4);
	ZSTD_freeCCtx(thread->compress);
	ZSTD_freeDCtx(thread->decompress);
	free(thread);
	blob_thread = NULL;
}

static void
make_thread_key(void)
{
	if (pthread_key_create(&thread_key, free_thread) != 0)
	{
		ps_log(PS_FATAL, "could not create a thread-specific key");
		exit(1);
	}
}

static BlobThread *
get_thread(void)
{
	if (blob_thread == NULL)
	{
		pthread_once(&thread_key_once, make_thread_key);
		blob_thread = pg_malloc0(sizeof(BlobThread));
		pthread_setspecific(thread_key, blob_thread);
	}
	return blob_thread;
}

/* Returns the thread's buffer, enlarged to at least "size" bytes; contents are kept. */
static char *
thread_buffer(BlobThread *thread, size_t size)
{
	if (thread->size < size)
	{
		thread->size = Max(size, 2 * BLCKSZ);
		thread->buf = pg_realloc(thread->buf, thread->size);
	}
	return thread->buf;
}

static void
release_buffer(BlobThread *thread)
{
	if (thread->size > KEEP_BUFFER)
	{
		free(thread->buf);
		thread->buf = NULL;
		thread->size = 0;
	}
}

/*
 * Compresses into the thread's buffer.  Returns the length, or 0 if the value
 * does not become shorter by an eighth, and so should be stored uncompressed.
 */
static uint32
compress(BlobThread *thread, LayerCodec codec, const char *data, uint32 len)
{
	size_t room = len - len / 8;
	char *buf = thread_buffer(thread, room);

	if (codec == LAYER_CODEC_LZ4)
	{
		int n;

		if (thread->lz4 == NULL)
			thread->lz4 = pg_malloc(LZ4_sizeofState());
		n = LZ4_compress_fast_extState(thread->lz4, data, buf, (int) len, (int) room, 1);
		return n > 0 ? (uint32) n : 0;
	}
	else
	{
		size_t n;

		if (thread->compress == NULL)
			thread->compress = ZSTD_createCCtx();
		if (thread->compress == NULL)
			return 0;
		n = ZSTD_compressCCtx(thread->compress, buf, room, data, len, ZSTD_LEVEL);
		return ZSTD_isError(n) ? 0 : (uint32) n;
	}
}

/* Like compress(), with a dictionary. */
static uint32
compress_dict(BlobThread *thread, const LayerDict *dict, const char *data, uint32 len)
{
	char frame[DICT_FRAME_MAX];
	size_t room = sizeof(zstd_magic) + len - len / 8;
	size_t n = dict != NULL ? layer_dict_compress(dict, frame, Min(room, sizeof(frame)), data, len) : 0;

	if (n == 0)
		return 0;
	n -= sizeof(zstd_magic);
	memcpy(thread_buffer(thread, n), frame + sizeof(zstd_magic), n);
	return (uint32) n;
}

/* Gets the decompressed length of a frame without its magic number; returns false if it is invalid. */
static bool
dict_raw_length(const char *data, uint32 len, uint32 *raw_len)
{
	char start[sizeof(zstd_magic) + 14] = {0}; /* the longest header of a frame */
	unsigned long long size;

	memcpy(start, zstd_magic, sizeof(zstd_magic));
	memcpy(start + sizeof(zstd_magic), data, Min(len, sizeof(start) - sizeof(zstd_magic)));
	size = ZSTD_getFrameContentSize(start, Min(sizeof(start), sizeof(zstd_magic) + len));
	*raw_len = (uint32) size;
	return size <= LAYER_DICT_VALUE_MAX && len <= LAYER_DICT_VALUE_MAX;
}

static bool
decompress_dict(BlobThread *thread, const LayerDict *dict, const char *data, uint32 len, char *raw, uint32 raw_len)
{
	char frame[DICT_FRAME_MAX];

	if (thread->decompress == NULL)
		thread->decompress = ZSTD_createDCtx();
	memcpy(frame, zstd_magic, sizeof(zstd_magic));
	memcpy(frame + sizeof(zstd_magic), data, len);
	return thread->decompress != NULL && dict != NULL &&
		   ZSTD_decompress_usingDDict(thread->decompress, raw, raw_len, frame, sizeof(zstd_magic) + len,
									  dict->decompress) == raw_len;
}

/* Returns false if the result does not have exactly raw_len bytes. */
static bool
decompress(BlobThread *thread, LayerCodec codec, const char *data, uint32 len, char *raw, uint32 raw_len)
{
	switch (codec)
	{
		case LAYER_CODEC_LZ4:
			return LZ4_decompress_safe(data, raw, (int) len, (int) raw_len) == (int) raw_len;
		case LAYER_CODEC_ZSTD:
			if (thread->decompress == NULL)
				thread->decompress = ZSTD_createDCtx();
			return thread->decompress != NULL &&
				   ZSTD_decompressDCtx(thread->decompress, raw, raw_len, data, len) == raw_len;
		default:
			return false;
	}
}

static int
header_size(ValueKind kind, LayerCodec codec)
{
	return BLOB_HEADER_MIN + (kind == VALUE_RECORD ? 8 : 0) +
		   (codec == LAYER_CODEC_LZ4 || codec == LAYER_CODEC_ZSTD ? 4 : 0);
}

static pg_crc32c
blob_crc(const uint8 *header, int hsize, const char *payload, size_t len)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, header, BLOB_CRC);
	COMP_CRC32C(crc, header + BLOB_HEADER_MIN, hsize - BLOB_HEADER_MIN);
	COMP_CRC32C(crc, payload, len);
	FIN_CRC32C(crc);
	return crc;
}

PsError *
blob_write_codec(LayerOutput *out, ValueKind kind, XLogRecPtr record_start, const char *data, uint32 len,
				 LayerCodec codec, uint64 *offset)
{
	BlobThread *thread = get_thread();
	uint8 header[BLOB_HEADER_MAX];
	uint8 *p = header + BLOB_HEADER_MIN;
	uint32 stored = len;
	int hsize;
	PsError *err;

	*offset = layer_output_position(out);
	if (len > LAYER_VALUE_MAX)
		return ps_error(PS_SQLSTATE_INVALID, "value of %u bytes is too long for layer file \"%s\", the limit is %u",
						len, layer_output_path(out), LAYER_VALUE_MAX);
	if (*offset + BLOB_HEADER_MAX + len > LAYER_OFFSET_LIMIT)
		return ps_error(PS_SQLSTATE_INVALID, "layer file \"%s\" would become longer than %llu bytes",
						layer_output_path(out), (unsigned long long) LAYER_OFFSET_LIMIT);
	if (codec != LAYER_CODEC_NONE)
	{
		stored = codec == LAYER_CODEC_DICT ? compress_dict(thread, layer_output_dict(out), data, len)
										   : compress(thread, codec, data, len);
		if (stored == 0)
		{
			codec = LAYER_CODEC_NONE;
			stored = len;
		}
		else
			data = thread->buf;
	}

	header[BLOB_FLAGS] = (uint8) (kind | codec << 2);
	ps_put32(header + BLOB_STORED_LENGTH, stored);
	if (kind == VALUE_RECORD)
	{
		ps_put64(p, record_start);
		p += 8;
	}
	hsize = header_size(kind, codec);
	if (p < header + hsize)
		ps_put32(p, len);
	ps_put32(header + BLOB_CRC, blob_crc(header, hsize, data, stored));
	err = layer_output_append(out, header, hsize);
	if (err == NULL)
		err = layer_output_append(out, data, stored);
	release_buffer(thread);
	return err;
}

PsError *
blob_write(LayerOutput *out, ValueKind kind, XLogRecPtr record_start, const char *data, uint32 len, uint64 *offset)
{
	LayerCodec codec = kind == VALUE_RECORD ? LAYER_RECORD_CODEC : LAYER_IMAGE_CODEC;

	if (kind == VALUE_RECORD && len <= LAYER_DICT_VALUE_MAX && layer_output_dict(out) != NULL)
		codec = LAYER_CODEC_DICT;
	else if (len < BLOB_COMPRESS_MIN)
		codec = LAYER_CODEC_NONE;
	return blob_write_codec(out, kind, record_start, data, len, codec, offset);
}

PsError *
blob_first_read(const LayerFile *file, uint64 offset, ValueKind kind, size_t *len)
{
	const LayerDict *dict;

	if (offset < layer_values_start(&file->summary) || offset + BLOB_HEADER_MIN > file->summary.values_end)
		return layer_damaged(file->path, offset, "a value is expected here, outside of the values (%llu to %llu)",
							 (unsigned long long) layer_values_start(&file->summary),
							 (unsigned long long) file->summary.values_end);
	/* blob_unpack() may need it; read it now, while the file is certainly open */
	if (kind == VALUE_RECORD)
		PS_TRY(layer_dict_of_file(file, &dict));
	*len = Min(file->summary.values_end - offset, kind == VALUE_RECORD ? FIRST_READ_RECORD : FIRST_READ_IMAGE);
	return NULL;
}

/* Until the CRC has been checked, lengths are only compared with the bounds of the values. */
PsError *
blob_check(const LayerFile *file, uint64 offset, ValueKind kind, const char *bytes, size_t have, StoredValue *stored)
{
	uint64 room = file->summary.values_end - offset;
	const char *p = bytes + BLOB_HEADER_MIN;
	LayerCodec codec;
	pg_crc32c crc;

	stored->size = BLOB_HEADER_MIN;
	if (have < stored->size)
		return NULL;
	codec = ((uint8) bytes[BLOB_FLAGS] >> 2) & 3;
	if ((bytes[BLOB_FLAGS] & 3) != kind || ((uint8) bytes[BLOB_FLAGS] >> 4) != 0 ||
		(codec == LAYER_CODEC_DICT && kind != VALUE_RECORD))
		return layer_damaged(file->path, offset, "value has flags %02X, expected kind %d", (uint8) bytes[BLOB_FLAGS],
							 kind);
	stored->codec = codec;
	stored->header_size = header_size(kind, codec);
	stored->stored_len = ps_get32(bytes + BLOB_STORED_LENGTH);
	stored->size = stored->header_size + (size_t) stored->stored_len;
	if (stored->size > room || stored->stored_len > LAYER_VALUE_MAX)
		return layer_damaged(file->path, offset, "value has %u bytes, more than the %llu up to the index",
							 stored->stored_len, (unsigned long long) room);
	if (stored->size > have)
		return NULL;
	crc = blob_crc((const uint8 *) bytes, stored->header_size, bytes + stored->header_size, stored->stored_len);
	if (crc != ps_get32(bytes + BLOB_CRC))
		return layer_damaged(file->path, offset, "checksum of the value is %08X, expected %08X", crc,
							 ps_get32(bytes + BLOB_CRC));

	stored->record_start = InvalidXLogRecPtr;
	if (kind == VALUE_RECORD)
	{
		stored->record_start = ps_get64(p);
		p += 8;
	}
	if (codec == LAYER_CODEC_NONE)
		stored->raw_len = stored->stored_len;
	else if (codec != LAYER_CODEC_DICT)
		stored->raw_len = ps_get32(p);
	else if (file->summary.dict_size == 0 || !dict_raw_length(p, stored->stored_len, &stored->raw_len))
		return layer_damaged(file->path, offset,
							 "value of %u bytes is not a record compressed with the file's dictionary",
							 stored->stored_len);
	if (stored->raw_len > LAYER_VALUE_MAX)
		return layer_damaged(file->path, offset, "value has %u bytes decompressed, the limit is %u", stored->raw_len,
							 LAYER_VALUE_MAX);
	return NULL;
}

PsError *
blob_unpack(const LayerFile *file, uint64 offset, const char *bytes, const StoredValue *stored, char *out)
{
	const char *payload = bytes + stored->header_size;
	const LayerDict *dict;
	bool ok;

	switch ((LayerCodec) stored->codec)
	{
		case LAYER_CODEC_NONE:
			memcpy(out, payload, stored->raw_len);
			return NULL;
		case LAYER_CODEC_DICT:
			PS_TRY(layer_dict_of_file(file, &dict));
			ok = decompress_dict(get_thread(), dict, payload, stored->stored_len, out, stored->raw_len);
			break;
		default:
			ok = decompress(get_thread(), (LayerCodec) stored->codec, payload, stored->stored_len, out,
							stored->raw_len);
			break;
	}
	if (!ok)
		return layer_damaged(file->path, offset, "value cannot be decompressed to %u bytes", stored->raw_len);
	return NULL;
}

/* Reads header and payload into the thread's buffer and checks them; *have is the number of bytes that were read. */
static PsError *
try_read_stored(BlobThread *thread, const LayerFile *file, uint64 offset, ValueKind kind, StoredValue *stored,
				size_t *have)
{
	size_t first = 0;
	char *buf;

	*have = 0;
	PS_TRY(blob_first_read(file, offset, kind, &first));
	buf = thread_buffer(thread, first);
	PS_TRY(layer_file_read(file, offset, buf, first));
	*have = first;
	PS_TRY(blob_check(file, offset, kind, buf, first, stored));
	if (stored->size <= first)
		return NULL;
	*have = 0;
	buf = thread_buffer(thread, stored->size);
	PS_TRY(layer_file_read(file, offset + first, buf + first, stored->size - first));
	*have = stored->size;
	return blob_check(file, offset, kind, buf, stored->size, stored);
}

static PsError *
read_stored(BlobThread *thread, const LayerFile *file, uint64 offset, ValueKind kind, StoredValue *stored)
{
	PsError *err;
	size_t have;
	int tries = 0;

	do
		err = try_read_stored(thread, file, offset, kind, stored, &have);
	while (layer_fetch_again(file, offset, have, tries++, &err));
	return err;
}

PsError *
blob_copy(LayerOutput *out, const LayerFile *from, uint64 from_offset, ValueKind kind, uint64 *offset)
{
	BlobThread *thread = get_thread();
	StoredValue stored;
	PsError *err = read_stored(thread, from, from_offset, kind, &stored);

	*offset = layer_output_position(out);
	if (err == NULL && kind == VALUE_RECORD && stored.raw_len <= LAYER_DICT_VALUE_MAX &&
		(stored.codec == LAYER_CODEC_DICT || layer_output_dict(out) != NULL))
	{
		char raw[LAYER_DICT_VALUE_MAX];

		err = blob_unpack(from, from_offset, thread->buf, &stored, raw);
		if (err == NULL)
			err = blob_write(out, kind, stored.record_start, raw, stored.raw_len, offset);
	}
	else
	{
		if (err == NULL && *offset + stored.size > LAYER_OFFSET_LIMIT)
			err = ps_error(PS_SQLSTATE_INVALID, "layer file \"%s\" would become longer than %llu bytes",
						   layer_output_path(out), (unsigned long long) LAYER_OFFSET_LIMIT);
		if (err == NULL)
			err = layer_output_append(out, thread->buf, stored.size);
	}
	release_buffer(thread);
	return err;
}

PsError *
blob_read(const LayerFile *file, uint64 offset, ValueKind kind, StringInfo out, StoredValue *stored)
{
	BlobThread *thread = get_thread();
	PsError *err;

	resetStringInfo(out);
	PS_GOTO(read_stored(thread, file, offset, kind, stored), done);
	enlargeStringInfo(out, (int) stored->raw_len);
	PS_GOTO(blob_unpack(file, offset, thread->buf, stored, out->data), done);
	out->len = (int) stored->raw_len;
	out->data[out->len] = '\0';

done:
	release_buffer(thread);
	return err;
}
