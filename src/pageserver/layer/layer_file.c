/*
 * layer_file.c
 *	  The frame of a layer file: its summary, its name, reading.
 */
#include "ps_fe.h"

#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "port/pg_crc32c.h"

#include "bytes.h"
#include "layer/layer_cache.h"
#include "layer/layer_impl.h"
#include "sqlstate.h"

int layer_bench_delay = 0;

PsError *
layer_damaged(const char *path, uint64 offset, const char *fmt, ...)
{
	char what[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	return ps_error_hint(ps_error(PS_SQLSTATE_CORRUPTED, "layer file \"%s\" is damaged at offset %llu: %s", path,
								  (unsigned long long) offset, what),
						 "Check the disk, and replace the file with an undamaged copy.");
}

/* ---- names ---- */

static const char hex_digits[] = "0123456789abcdef";

/* The keys are not formatted with snprintf(), since a manifest has the names of all files. */
const char *
layer_name_format(const LayerInfo *info, char name[LAYER_NAME_MAX])
{
	char *p = name;

	for (int k = 0; k < 2; k++)
	{
		uint8 bytes[PS_KEY_SIZE];

		ps_key_encode(k == 0 ? &info->key_min : &info->key_max, bytes);
		for (int i = 0; i < PS_KEY_SIZE; i++)
		{
			*p++ = hex_digits[bytes[i] >> 4];
			*p++ = hex_digits[bytes[i] & 15];
		}
		*p++ = '-';
	}
	if (info->type == LAYER_IMAGE)
		snprintf(p - 1, name + LAYER_NAME_MAX - p, "__%016llx__%llx", (unsigned long long) info->lsn_start,
				 (unsigned long long) info->number);
	else
		snprintf(p - 1, name + LAYER_NAME_MAX - p, "__%016llx-%016llx__%llx", (unsigned long long) info->lsn_start,
				 (unsigned long long) info->lsn_end, (unsigned long long) info->number);
	return name;
}

/* Returns false if there are not enough hexadecimal digits. */
static bool
parse_key(const char *hex, PsKey *key)
{
	uint8 bytes[PS_KEY_SIZE];

	for (int i = 0; i < PS_KEY_SIZE; i++)
	{
		const char *high = strchr(hex_digits, hex[2 * i]);
		const char *low = hex[2 * i] != '\0' ? strchr(hex_digits, hex[2 * i + 1]) : NULL;

		if (high == NULL || low == NULL || hex[2 * i + 1] == '\0')
			return false;
		bytes[i] = (uint8) ((high - hex_digits) << 4 | (low - hex_digits));
	}
	ps_key_decode(bytes, key);
	return true;
}

/* A name is valid if formatting its fields again produces the same name. */
bool
layer_name_parse(const char *name, LayerInfo *info)
{
	const char *rest = name;
	char *end;
	char again[LAYER_NAME_MAX];

	memset(info, 0, sizeof(*info));
	if (!parse_key(rest, &info->key_min) || rest[2 * PS_KEY_SIZE] != '-')
		return false;
	rest += 2 * PS_KEY_SIZE + 1;
	if (!parse_key(rest, &info->key_max) || strncmp(rest + 2 * PS_KEY_SIZE, "__", 2) != 0)
		return false;
	info->lsn_start = strtoull(rest + 2 * PS_KEY_SIZE + 2, &end, 16);
	info->type = *end == '-' ? LAYER_DELTA : LAYER_IMAGE;
	info->lsn_end = *end == '-' ? strtoull(end + 1, &end, 16) : info->lsn_start + 1;
	if (strncmp(end, "__", 2) != 0)
		return false;
	info->number = strtoull(end + 2, &end, 16);
	return info->lsn_start < info->lsn_end && strcmp(layer_name_format(info, again), name) == 0;
}

/* ---- summary ---- */

static pg_crc32c
summary_crc(const uint8 *block)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, block, SUMMARY_CRC);
	FIN_CRC32C(crc);
	return crc;
}

void
layer_summary_encode(const LayerSummary *summary, uint8 *block)
{
	memset(block, 0, LAYER_BLOCK_SIZE);
	memcpy(block + SUMMARY_MAGIC, summary->type == LAYER_IMAGE ? LAYER_IMAGE_MAGIC : LAYER_DELTA_MAGIC,
		   LAYER_MAGIC_SIZE);
	ps_put32(block + SUMMARY_VERSION, LAYER_FORMAT_VERSION);
	ps_put32(block + SUMMARY_BLOCK_SIZE, LAYER_BLOCK_SIZE);
	memcpy(block + SUMMARY_TENANT, summary->tenant.b, sizeof(summary->tenant.b));
	memcpy(block + SUMMARY_TIMELINE, summary->timeline.b, sizeof(summary->timeline.b));
	ps_key_encode(&summary->key_min, block + SUMMARY_KEY_MIN);
	ps_key_encode(&summary->key_max, block + SUMMARY_KEY_MAX);
	block[SUMMARY_IMAGE_CODEC] = summary->image_codec;
	block[SUMMARY_RECORD_CODEC] = summary->record_codec;
	block[SUMMARY_LEVEL] = summary->level;
	ps_put64(block + SUMMARY_LSN_START, summary->lsn_start);
	ps_put64(block + SUMMARY_LSN_END, summary->lsn_end);
	ps_put64(block + SUMMARY_VALUES_END, summary->values_end);
	ps_put64(block + SUMMARY_INDEX_START, summary->index_start);
	ps_put32(block + SUMMARY_INDEX_PAGES, summary->index_pages);
	ps_put32(block + SUMMARY_LEAF_PAGES, summary->leaf_pages);
	ps_put32(block + SUMMARY_ROOT, summary->root);
	ps_put32(block + SUMMARY_LEVELS, summary->levels);
	ps_put64(block + SUMMARY_ENTRIES, summary->entries);
	ps_put64(block + SUMMARY_FILE_SIZE, summary->file_size);
	ps_put64(block + SUMMARY_NUMBER, summary->number);
	ps_put32(block + SUMMARY_DICT_SIZE, summary->dict_size);
	ps_put32(block + SUMMARY_DICT_CRC, summary->dict_crc);
	ps_put32(block + SUMMARY_CRC, summary_crc(block));
}

/*
 * A valid CRC means that we wrote the block, but the numbers that memory is
 * addressed with later are checked nevertheless.
 */
bool
layer_summary_is_sane(const LayerSummary *summary)
{
	if (summary->dict_size > LAYER_DICT_MAX || summary->values_end < layer_values_start(summary) ||
		summary->values_end > LAYER_OFFSET_LIMIT ||
		summary->index_start != TYPEALIGN64(LAYER_BLOCK_SIZE, summary->values_end) ||
		summary->file_size != summary->index_start + (uint64) summary->index_pages * LAYER_BLOCK_SIZE)
		return false;
	if (summary->lsn_start >= summary->lsn_end)
		return false;
	if (summary->type == LAYER_IMAGE && (summary->lsn_end != summary->lsn_start + 1 || summary->level != 0))
		return false;
	if (summary->level > LAYER_LEVEL_MAX)
		return false;
	if (summary->entries == 0)
		return summary->index_pages == 0 && summary->leaf_pages == 0 && summary->levels == 0 &&
			   summary->key_max.kind == 0;
	return summary->leaf_pages > 0 && summary->leaf_pages <= summary->index_pages &&
		   summary->root < summary->index_pages && summary->levels > 0 && summary->levels <= 32 &&
		   (summary->levels == 1) == (summary->index_pages == 1) &&
		   ps_key_cmp(&summary->key_min, &summary->key_max) <= 0 && summary->key_min.kind != 0;
}

/*
 * The magic and the version are checked before the CRC, so that a file of
 * another version is not reported as damaged.
 */
PsError *
layer_summary_decode(const char *path, const uint8 *block, LayerSummary *summary)
{
	uint32 version = ps_get32(block + SUMMARY_VERSION);
	uint32 block_size = ps_get32(block + SUMMARY_BLOCK_SIZE);
	bool is_image = memcmp(block + SUMMARY_MAGIC, LAYER_IMAGE_MAGIC, LAYER_MAGIC_SIZE) == 0;

	memset(summary, 0, sizeof(*summary));
	if (!is_image && memcmp(block + SUMMARY_MAGIC, LAYER_DELTA_MAGIC, LAYER_MAGIC_SIZE) != 0)
		return layer_damaged(path, SUMMARY_MAGIC, "it does not begin with \"%s\" or \"%s\", so it is not a layer file",
							 LAYER_DELTA_MAGIC, LAYER_IMAGE_MAGIC);
	if (version != LAYER_FORMAT_VERSION)
		return ps_error_hint(ps_error(PS_SQLSTATE_CORRUPTED,
									  "layer file \"%s\" has format version %u at offset %d, "
									  "this program reads version %d",
									  path, version, SUMMARY_VERSION, LAYER_FORMAT_VERSION),
							 "Use the version of the program that wrote the store, or export and import its branches.");
	summary->type = is_image ? LAYER_IMAGE : LAYER_DELTA;
	memcpy(summary->tenant.b, block + SUMMARY_TENANT, sizeof(summary->tenant.b));
	memcpy(summary->timeline.b, block + SUMMARY_TIMELINE, sizeof(summary->timeline.b));
	ps_key_decode(block + SUMMARY_KEY_MIN, &summary->key_min);
	ps_key_decode(block + SUMMARY_KEY_MAX, &summary->key_max);
	summary->image_codec = block[SUMMARY_IMAGE_CODEC];
	summary->record_codec = block[SUMMARY_RECORD_CODEC];
	summary->level = block[SUMMARY_LEVEL];
	summary->lsn_start = ps_get64(block + SUMMARY_LSN_START);
	summary->lsn_end = ps_get64(block + SUMMARY_LSN_END);
	summary->values_end = ps_get64(block + SUMMARY_VALUES_END);
	summary->index_start = ps_get64(block + SUMMARY_INDEX_START);
	summary->index_pages = ps_get32(block + SUMMARY_INDEX_PAGES);
	summary->leaf_pages = ps_get32(block + SUMMARY_LEAF_PAGES);
	summary->root = ps_get32(block + SUMMARY_ROOT);
	summary->levels = ps_get32(block + SUMMARY_LEVELS);
	summary->entries = ps_get64(block + SUMMARY_ENTRIES);
	summary->file_size = ps_get64(block + SUMMARY_FILE_SIZE);
	summary->number = ps_get64(block + SUMMARY_NUMBER);
	summary->dict_size = ps_get32(block + SUMMARY_DICT_SIZE);
	summary->dict_crc = ps_get32(block + SUMMARY_DICT_CRC);
	if (ps_get32(block + SUMMARY_CRC) != summary_crc(block))
		return layer_damaged(path, 0, "checksum of the summary is %08X, expected %08X", summary_crc(block),
							 ps_get32(block + SUMMARY_CRC));
	if (block_size != LAYER_BLOCK_SIZE)
		return layer_damaged(path, SUMMARY_BLOCK_SIZE, "block size is %u, expected %d", block_size, LAYER_BLOCK_SIZE);
	if (!layer_summary_is_sane(summary))
		return layer_damaged(path, 0, "fields of the summary contradict each other");
	return NULL;
}

void
layer_summary_info(const LayerSummary *summary, LayerInfo *info)
{
	*info = (LayerInfo) {
		.type = summary->type,
		.key_min = summary->key_min,
		.key_max = summary->key_max,
		.lsn_start = summary->lsn_start,
		.lsn_end = summary->lsn_end,
		.file_size = summary->file_size,
		.entries = summary->entries,
		.number = summary->number,
		.level = summary->level};
}

/* Is the file in the directory of its tenant and timeline? */
static PsError *
check_ids(const LayerFile *file, const LayerSpace *space)
{
	char t1[PS_ID_TEXT];
	char l1[PS_ID_TEXT];
	char t2[PS_ID_TEXT];
	char l2[PS_ID_TEXT];

	if (ps_id_equal(&file->summary.tenant, &space->tenant) && ps_id_equal(&file->summary.timeline, &space->timeline))
		return NULL;
	return ps_error(PS_SQLSTATE_CORRUPTED,
					"layer file \"%s\" is of tenant %s timeline %s (offset %d), expected tenant %s timeline %s",
					file->path, ps_id_format(&file->summary.tenant, t1), ps_id_format(&file->summary.timeline, l1),
					SUMMARY_TENANT, ps_id_format(&space->tenant, t2), ps_id_format(&space->timeline, l2));
}

PsError *
layer_file_set_summary(LayerFile *file, const LayerSpace *space, const char *name, const uint8 *block)
{
	struct stat st;
	uint64 size;
	LayerInfo info;
	char expected[LAYER_NAME_MAX];

	if (fstat(file->fd, &st) != 0)
		return ps_error(ps_errno_state(), "could not get the size of layer file \"%s\": %m", file->path);
	PS_TRY(layer_summary_decode(file->path, block, &file->summary));
	PS_TRY(check_ids(file, space));
	size = file->cache != NULL ? presence_part_size(file->summary.file_size) : file->summary.file_size;
	if ((uint64) st.st_size != size)
		return layer_damaged(file->path, (uint64) st.st_size, "the file ends here, expected it to have %llu bytes",
							 (unsigned long long) size);
	layer_summary_info(&file->summary, &info);
	if (strcmp(layer_name_format(&info, expected), name) != 0)
		return layer_damaged(file->path, 0, "by its summary the file should be named \"%s\"", expected);
	return NULL;
}

/* ---- reading ---- */

PsError *
layer_file_short_read_error(const LayerFile *file, uint64 offset, size_t have, size_t wanted, int read_errno)
{
	errno = read_errno;
	if (read_errno != 0)
		return ps_error(PS_SQLSTATE_IO, "could not read %zu bytes at offset %llu of layer file \"%s\": %m", wanted,
						(unsigned long long) offset, file->path);
	return layer_damaged(file->path, offset + have, "the file ends here, expected %zu more bytes", wanted - have);
}

PsError *
layer_file_read(const LayerFile *file, uint64 offset, void *buf, size_t len)
{
	size_t done = 0;

	if (!layer_file_has(file, offset, len))
		PS_TRY(layer_fetch_range(file, offset, len));
	while (done < len)
	{
		ssize_t n;

		if (unlikely(layer_bench_delay > 0))
			usleep(layer_bench_delay);
		n = pread(file->fd, (char *) buf + done, len - done, (off_t) (offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return layer_file_short_read_error(file, offset, done, len, n < 0 ? errno : 0);
		done += n;
	}
	return NULL;
}

bool
layer_file_read_cached(const LayerFile *file, uint64 offset, void *buf, size_t len)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len};

	return layer_bench_delay == 0 && layer_file_has(file, offset, len) &&
		   preadv2(file->fd, &iov, 1, (off_t) offset, RWF_NOWAIT) == (ssize_t) len;
}

PsError *
layer_padding_check(const LayerFile *file, const uint8 *bytes)
{
	uint64 offset = file->summary.values_end;
	size_t len = file->summary.index_start - offset;

	for (size_t i = 0; i < len; i++)
		if (bytes[i] != 0)
			return layer_damaged(file->path, offset + i, "byte between values and index is %02X, expected 0",
								 bytes[i]);
	return NULL;
}

PsError *
layer_file_check_padding(const LayerFile *file)
{
	uint8 bytes[LAYER_BLOCK_SIZE];

	PS_TRY(layer_file_read(file, file->summary.values_end, bytes,
						   file->summary.index_start - file->summary.values_end));
	return layer_padding_check(file, bytes);
}

/* ---- opening ---- */

/* Is it the file that the manifest lists? */
static PsError *
check_info(const Layer *layer, const LayerFile *file)
{
	const LayerInfo *info = &layer->info;
	const LayerSummary *summary = &file->summary;

	if (info->level == summary->level && info->entries == summary->entries && info->file_size == summary->file_size)
		return NULL;
	return layer_damaged(file->path, 0,
						 "by its summary it has level %d, %llu entries and %llu bytes, "
						 "by the manifest level %d, %llu entries and %llu bytes",
						 summary->level, (unsigned long long) summary->entries, (unsigned long long) summary->file_size,
						 info->level, (unsigned long long) info->entries, (unsigned long long) info->file_size);
}

PsError *
layer_file_prepare(LayerFile *file, const LayerSpace *space, const char *name, const Layer *layer, const uint8 *block)
{
	PS_TRY(layer_file_set_summary(file, space, name, block));
	if (layer != NULL)
		PS_TRY(check_info(layer, file));
	return btree_open(&file->index, file);
}

PsError *
layer_file_read_and_prepare(LayerFile *file, const LayerSpace *space, const char *name, const Layer *layer)
{
	uint8 block[LAYER_BLOCK_SIZE];
	PsError *err;
	int tries = 0;

	do
	{
		if (file->cache != NULL)
			PS_TRY(layer_fetch_ends(file));
		PS_TRY(layer_file_read(file, 0, block, LAYER_BLOCK_SIZE));
		err = layer_file_prepare(file, space, name, layer, block);
	} while (layer_fetch_again(file, 0, LAYER_BLOCK_SIZE, tries++, &err));
	return err;
}
