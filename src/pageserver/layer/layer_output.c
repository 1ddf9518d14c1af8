/*
 * layer_output.c
 *	  A layer file that is being written: temporary name, buffer, durability.
 *
 * The final name contains the key range, which is known only at the end.  Until
 * then the file has a temporary name, which ends in ".tmp".  Files that a crash
 * leaves behind are removed when the timeline is opened.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <unistd.h>

#include "port/pg_crc32c.h"

#include "base/fs.h"
#include "layer/layer_dict.h"
#include "layer/layer_output.h"
#include "sqlstate.h"

#define OUTPUT_BUFFER_SIZE (1024 * 1024)

struct LayerOutput
{
	LayerSpace *space;
	char *path; /* temporary */
	int fd;     /* -1: closed; the file is finished or removed */
	char *buf;
	size_t used;     /* bytes in buf */
	uint64 written;  /* bytes of the file before those in buf */
	LayerDict *dict; /* or NULL */
	LayerSummary summary;
};

PsError *
layer_output_create(LayerSpace *space, LayerType type, int level, XLogRecPtr lsn_start, XLogRecPtr lsn_end,
					LayerOutput **result)
{
	uint64 number = atomic_fetch_add(&space->next_number, 1);
	LayerOutput *out = pg_malloc0(sizeof(LayerOutput));
	PsError *err;

	out->space = space;
	out->path = psprintf("%s/%s_%016llx-%016llx_%llx.tmp", space->dir, type == LAYER_IMAGE ? "image" : "delta",
						 (unsigned long long) lsn_start, (unsigned long long) lsn_end, (unsigned long long) number);
	out->summary.type = type;
	out->summary.tenant = space->tenant;
	out->summary.timeline = space->timeline;
	out->summary.level = (uint8) level;
	out->summary.number = number;
	out->summary.lsn_start = lsn_start;
	out->summary.lsn_end = lsn_end;
	out->summary.image_codec = LAYER_IMAGE_CODEC;
	out->summary.record_codec = LAYER_RECORD_CODEC;
	out->fd = open(out->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (out->fd < 0)
	{
		err = ps_error(ps_errno_state(), "could not create file \"%s\": %m", out->path);
		layer_output_free(out);
		return err;
	}
	out->buf = pg_malloc(OUTPUT_BUFFER_SIZE);
	memset(out->buf, 0, LAYER_BLOCK_SIZE);
	out->used = LAYER_BLOCK_SIZE;
	*result = out;
	return NULL;
}

LayerSummary *
layer_output_summary(LayerOutput *out)
{
	return &out->summary;
}

LayerSpace *
layer_output_space(const LayerOutput *out)
{
	return out->space;
}

const char *
layer_output_path(const LayerOutput *out)
{
	return out->path;
}

uint64
layer_output_position(const LayerOutput *out)
{
	return out->written + out->used;
}

/*
 * Writes the buffer.  Starts write-out to the disk at once: otherwise the fsync
 * at the end would delay commits, which sync the WAL on the same disk.
 */
static PsError *
flush(LayerOutput *out)
{
	if (out->used == 0)
		return NULL;
	PS_TRY(fs_write_at(out->fd, out->path, out->buf, out->used, (off_t) out->written));
#ifdef HAVE_SYNC_FILE_RANGE
	(void) sync_file_range(out->fd, (off_t) out->written, (off_t) out->used, SYNC_FILE_RANGE_WRITE);
#endif
	out->written += out->used;
	out->used = 0;
	return NULL;
}

PsError *
layer_output_append(LayerOutput *out, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0)
	{
		size_t n = Min(len, OUTPUT_BUFFER_SIZE - out->used);

		memcpy(out->buf + out->used, p, n);
		out->used += n;
		p += n;
		len -= n;
		if (out->used == OUTPUT_BUFFER_SIZE)
			PS_TRY(flush(out));
	}
	return NULL;
}

PsError *
layer_output_set_dict(LayerOutput *out, LayerDict *dict)
{
	pg_crc32c crc;

	if (out->dict != NULL || layer_output_position(out) != LAYER_BLOCK_SIZE)
	{
		layer_dict_free(dict);
		return ps_error(PS_SQLSTATE_INTERNAL, "a dictionary comes after values in layer file \"%s\"", out->path);
	}
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, dict->bytes, dict->size);
	FIN_CRC32C(crc);
	out->dict = dict;
	out->summary.dict_size = dict->size;
	out->summary.dict_crc = crc;
	return layer_output_append(out, dict->bytes, dict->size);
}

const LayerDict *
layer_output_dict(const LayerOutput *out)
{
	return out->dict;
}

PsError *
layer_output_begin_index(LayerOutput *out)
{
	static const char zeros[LAYER_BLOCK_SIZE];

	out->summary.values_end = layer_output_position(out);
	out->summary.index_start = TYPEALIGN64(LAYER_BLOCK_SIZE, out->summary.values_end);
	return layer_output_append(out, zeros, out->summary.index_start - out->summary.values_end);
}

/* Closes and removes the temporary file. */
static void
discard(LayerOutput *out)
{
	if (out->fd < 0)
		return;
	close(out->fd);
	out->fd = -1;
	if (unlink(out->path) != 0)
		ps_log(PS_WARNING, "could not remove file \"%s\": %m", out->path);
}

PsError *
layer_output_finish(LayerOutput *out)
{
	uint8 block[LAYER_BLOCK_SIZE];
	LayerInfo info;
	char name[LAYER_NAME_MAX];
	char *path;
	PsError *err;

	out->summary.file_size = layer_output_position(out);
	layer_summary_encode(&out->summary, block);
	layer_summary_info(&out->summary, &info);
	path = psprintf("%s/%s", out->space->dir, layer_name_format(&info, name));

	PS_GOTO(flush(out), fail);
	PS_GOTO(fs_write_at(out->fd, out->path, block, sizeof(block), 0), fail);
	if (!out->space->synced_later && fsync(out->fd) != 0)
	{
		err = ps_error(ps_errno_state(), "could not sync file \"%s\": %m", out->path);
		goto fail;
	}
	if (rename(out->path, path) != 0)
	{
		err = ps_error(ps_errno_state(), "could not rename file \"%s\" to \"%s\": %m", out->path, path);
		goto fail;
	}
	close(out->fd);
	out->fd = -1;
	err = out->space->synced_later ? NULL : fs_sync_new(out->space->dir);
	if (err != NULL && unlink(path) != 0)
		ps_log(PS_WARNING, "could not remove file \"%s\": %m", path);
	pfree(path);
	return err;

fail:
	discard(out);
	pfree(path);
	return err;
}

void
layer_output_free(LayerOutput *out)
{
	if (out == NULL)
		return;
	discard(out);
	layer_dict_free(out->dict);
	free(out->buf);
	pfree(out->path);
	free(out);
}
