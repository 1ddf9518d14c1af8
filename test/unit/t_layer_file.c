/*
 * t_layer_file.c
 *	  Layer files that are damaged, cut off, foreign or of another version, and
 *	  writing that fails.
 */
#include "ps_fe.h"

#include <sys/stat.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>
#include <time.h>

#include <cmocka.h>

#include "layer/blob.h"
#include "layer/layer_impl.h"
#include "layer_util.h"
#include "port/pg_crc32c.h"
#include "bytes.h"
#include "sqlstate.h"

#define NVERSIONS 700 /* enough for two leaves and a root */

static const PsKey first_key = {0};
static const PsKey last_key = {.kind = 255, .fork = 255, .spc = ~0, .db = ~0, .rel = ~0, .blk = ~0};

static PsKey
test_key(int i)
{
	return (PsKey) {.kind = PS_KEY_RELBLOCK, .spc = 1663, .db = 5, .rel = 16384 + i, .blk = i};
}

/* All that a file says, in order, as text of one kind or another. */
typedef struct Contents
{
	StringInfoData text;
	StringInfoData value;
} Contents;

static PsError *
append_version(void *arg, const PsKey *key, const ValueRef *ref)
{
	Contents *contents = arg;
	XLogRecPtr start;
	uint8 bytes[PS_KEY_SIZE];

	PS_TRY(layer_read_value(ref, &contents->value, &start));
	ps_key_encode(key, bytes);
	appendBinaryStringInfo(&contents->text, (char *) bytes, sizeof(bytes));
	appendStringInfo(&contents->text, " %llu %d %d %llu %d ", (unsigned long long) ref->lsn, ref->kind, ref->will_init,
					 (unsigned long long) start, contents->value.len);
	appendBinaryStringInfo(&contents->text, contents->value.data, contents->value.len);
	return NULL;
}

/* Opens the file and reads everything: by a scan, and the newest version of each key through the tree. */
static PsError *
read_all(const char *name, const PsId *tenant, const PsId *timeline, Contents *contents)
{
	Layer *layer;
	PsError *err;
	ValueList list = {0};
	bool done;
	LayerSpace space = {.dir = test_dir, .tenant = *tenant, .timeline = *timeline};

	resetStringInfo(&contents->text);
	PS_TRY(layer_open(&space, name, &layer));
	err = layer_scan(layer, &first_key, &last_key, PG_UINT64_MAX, append_version, contents);
	for (int i = 0; i < NVERSIONS && err == NULL; i += 7)
	{
		PsKey key = test_key(i);

		list.n = 0;
		err = layer_collect(layer, &key, 0, PG_UINT64_MAX, &list, &done);
		if (err == NULL && list.n > 0)
			err = append_version(contents, &key, &list.refs[0]);
	}
	free(list.refs);
	layer_unref(layer);
	return err;
}

/* Values short and long, of all kinds and codecs; an index of two levels. */
static void
make_delta(char name[LAYER_NAME_MAX])
{
	DeltaWriter *writer;
	Layer *layer;
	uint64 offsets[9];
	char data[3000];

	assert_ok(delta_writer_create(&test_space, 0, 1000, 5000, &writer));
	for (int i = 0; i < 9; i++)
	{
		fill_value(i, data, sizeof(data));
		assert_ok(delta_writer_value(writer, i % 3 == 0 ? VALUE_RECORD : i == 8 ? VALUE_TOMBSTONE
																				: VALUE_IMAGE,
									 77 + i,
									 data, i == 8 ? 0 : i < 3 ? 3000
															  : 10 * i,
									 &offsets[i]));
	}
	for (int i = 0; i < NVERSIONS; i++)
	{
		PsKey key = test_key(i & ~3);
		int v = i % 9;

		assert_ok(delta_writer_add(writer, &key, 1000 + i, v % 3 == 0 ? VALUE_RECORD : v == 8 ? VALUE_TOMBSTONE
																							  : VALUE_IMAGE,
								   v == 3, true, offsets[v]));
	}
	assert_ok(delta_writer_finish(writer, &layer));
	layer_name(layer, name);
	layer_unref(layer);
}

static void
make_image(char name[LAYER_NAME_MAX])
{
	ImageWriter *writer;
	Layer *layer;
	char data[BLCKSZ];

	assert_ok(image_writer_create(&test_space, 3000, &writer));
	for (int i = 0; i < NVERSIONS; i++)
	{
		PsKey key = test_key(i);

		fill_value(i, data, sizeof(data));
		assert_ok(image_writer_put(writer, &key, data, i == 600 ? BLCKSZ : i == 601 ? 0
																					: i % 20));
	}
	assert_ok(image_writer_finish(writer, &layer));
	layer_name(layer, name);
	layer_unref(layer);
}

/*
 * Whatever byte is bad, opening the file or reading all of it is an error that
 * names the file and an offset; what was read before that is right.
 */
static void
flip_every_byte(const char *name)
{
	Contents good;
	Contents bad;
	char path[1024];
	struct stat st;
	int fd;

	initStringInfo(&good.text);
	initStringInfo(&good.value);
	initStringInfo(&bad.text);
	initStringInfo(&bad.value);
	assert_ok(read_all(name, &layer_tenant, &layer_timeline, &good));
	assert_true(good.text.len > 10000);

	snprintf(path, sizeof(path), "%s/%s", test_dir, name);
	fd = open(path, O_RDWR);
	assert_int_equal(fstat(fd, &st), 0);
	for (off_t at = 0; at < st.st_size; at++)
	{
		char byte;
		char flipped;
		PsError *err;

		assert_int_equal(pread(fd, &byte, 1, at), 1);
		flipped = byte ^ (char) (1 << at % 8);
		assert_int_equal(pwrite(fd, &flipped, 1, at), 1);
		err = read_all(name, &layer_tenant, &layer_timeline, &bad);
		if (err == NULL)
			fail_msg("byte %lld was changed and nobody noticed", (long long) at);
		if (strstr(err->message, path) == NULL || strstr(err->message, "offset") == NULL)
			fail_msg("byte %lld: \"%s\" does not name file and offset", (long long) at, err->message);
		ps_error_free(err);
		assert_true(bad.text.len <= good.text.len);
		assert_memory_equal(bad.text.data, good.text.data, bad.text.len);
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
	close(fd);
	assert_ok(read_all(name, &layer_tenant, &layer_timeline, &bad));
	assert_int_equal(bad.text.len, good.text.len);
	assert_memory_equal(bad.text.data, good.text.data, good.text.len);
	free(good.text.data);
	free(good.value.data);
	free(bad.text.data);
	free(bad.value.data);
}

static void
test_flipped_bytes_delta(void **state)
{
	char name[LAYER_NAME_MAX];

	make_delta(name);
	flip_every_byte(name);
}

static void
test_flipped_bytes_image(void **state)
{
	char name[LAYER_NAME_MAX];

	make_image(name);
	flip_every_byte(name);
}

/* A file that is cut off, or longer than it says, is refused when it is opened. */
static void
test_wrong_length(void **state)
{
	char name[LAYER_NAME_MAX];
	char path[1024];
	struct stat st;
	Layer *layer;

	make_delta(name);
	snprintf(path, sizeof(path), "%s/%s", test_dir, name);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, st.st_size + 1), 0);
	check_error(layer_open(&test_space, name, &layer), PS_SQLSTATE_CORRUPTED, "expected it to have");
	for (off_t size = st.st_size - 1; size >= 0; size = size > 10000 ? size - 1000 : size - 100)
	{
		assert_int_equal(truncate(path, size), 0);
		check_error(layer_open(&test_space, name, &layer), PS_SQLSTATE_CORRUPTED, "the file ends here");
	}
	unlink(path);
	check_error(layer_open(&test_space, name, &layer), PS_SQLSTATE_IO, path);
}

/* What is cut off while it is open is an error too, no crash: index pages that were not used yet, values. */
static void
test_cut_off_while_open(void **state)
{
	char name[LAYER_NAME_MAX];
	char path[1024];
	Layer *layer;
	ValueList list = {0};
	bool done;
	StringInfoData buf;
	XLogRecPtr start;
	PsKey key = test_key(0);

	make_delta(name);
	snprintf(path, sizeof(path), "%s/%s", test_dir, name);
	assert_ok(layer_open(&test_space, name, &layer));
	assert_int_equal(truncate(path, LAYER_BLOCK_SIZE), 0);
	check_error(layer_collect(layer, &key, 0, PG_UINT64_MAX, &list, &done), PS_SQLSTATE_CORRUPTED,
				"the file ends here");
	initStringInfo(&buf);
	check_error(layer_read_value(&(ValueRef) {.place = VALUE_IN_LAYER,
											  .kind = VALUE_RECORD,
											  .layer = layer,
											  .at.offset = LAYER_BLOCK_SIZE},
								 &buf, &start),
				PS_SQLSTATE_CORRUPTED, "the file ends here");
	layer_unref(layer);
	free(buf.data);
	unlink(path);
}

static void
test_foreign_ids(void **state)
{
	char name[LAYER_NAME_MAX];
	Layer *layer;
	LayerSpace other_tenant = {.dir = test_dir, .tenant = {{0xAA}}, .timeline = layer_timeline};
	LayerSpace other_timeline = {.dir = test_dir, .tenant = layer_tenant, .timeline = {{0xAA}}};

	make_image(name);
	check_error(layer_open(&other_tenant, name, &layer), PS_SQLSTATE_CORRUPTED,
				"expected tenant aa000000000000000000000000000000");
	check_error(layer_open(&other_timeline, name, &layer), PS_SQLSTATE_CORRUPTED,
				"timeline aa000000000000000000000000000000");
}

/* Changes four bytes of the summary and gives it the CRC that belongs to them. */
static void
patch_summary(const char *path, int field, uint32 value)
{
	uint8 block[LAYER_BLOCK_SIZE];
	pg_crc32c crc;
	int fd = open(path, O_RDWR);

	assert_int_equal(pread(fd, block, sizeof(block), 0), sizeof(block));
	ps_put32(block + field, value);
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, block, SUMMARY_CRC);
	FIN_CRC32C(crc);
	ps_put32(block + SUMMARY_CRC, crc);
	assert_int_equal(pwrite(fd, block, sizeof(block), 0), sizeof(block));
	close(fd);
}

static void
test_other_versions(void **state)
{
	char name[LAYER_NAME_MAX];
	char path[1024];
	Layer *layer;

	make_image(name);
	snprintf(path, sizeof(path), "%s/%s", test_dir, name);
	patch_summary(path, SUMMARY_VERSION, LAYER_FORMAT_VERSION + 1);
	check_error(layer_open(&test_space, name, &layer), PS_SQLSTATE_CORRUPTED, "format version 4");
	patch_summary(path, SUMMARY_VERSION, LAYER_FORMAT_VERSION - 1);
	check_error(layer_open(&test_space, name, &layer), PS_SQLSTATE_CORRUPTED, "format version 2");
	patch_summary(path, SUMMARY_VERSION, LAYER_FORMAT_VERSION);
	assert_ok(layer_open(&test_space, name, &layer));
	layer_unref(layer);

	/* a checksum that is right does not make nonsense believed */
	patch_summary(path, SUMMARY_ROOT, 1000000);
	check_error(layer_open(&test_space, name, &layer), PS_SQLSTATE_CORRUPTED, "contradict");
	unlink(path);
}

static void
put_crc(int fd, uint32 value, off_t at)
{
	uint8 bytes[4];

	ps_put32(bytes, value);
	assert_int_equal(pwrite(fd, bytes, 4, at), 4);
}

/*
 * Nonsense in index pages with checksums that are right: what comes out is
 * undefined, but no access may leave the file or memory (run under
 * AddressSanitizer to see it), and no loop may be endless.
 */
static void
test_nonsense_with_right_checksums(void **state)
{
	uint64 random = (uint64) time(NULL);
	char name[LAYER_NAME_MAX];
	char path[1024];
	struct stat st;
	Contents contents;
	int errors = 0;
	int fd;

	print_message("seed %llu\n", (unsigned long long) random);
	initStringInfo(&contents.text);
	initStringInfo(&contents.value);
	make_delta(name);
	snprintf(path, sizeof(path), "%s/%s", test_dir, name);
	fd = open(path, O_RDWR);
	assert_int_equal(fstat(fd, &st), 0);
	for (int i = 0; i < 1000; i++)
	{
		/* one of the three pages; its header more often than the rest */
		off_t page = st.st_size - LAYER_BLOCK_SIZE * (off_t) (1 + layer_random(&random) % 3);
		uint8 good[LAYER_BLOCK_SIZE];
		uint8 bad[LAYER_BLOCK_SIZE];
		pg_crc32c crc;
		PsError *err;

		assert_int_equal(pread(fd, good, sizeof(good), page), sizeof(good));
		memcpy(bad, good, sizeof(bad));
		for (uint64 n = 1 + layer_random(&random) % 4; n > 0; n--)
			bad[layer_random(&random) % (n % 2 ? 20 : LAYER_BLOCK_SIZE)] = (uint8) layer_random(&random);
		INIT_CRC32C(crc);
		COMP_CRC32C(crc, bad + INDEX_PAGE_NUMBER, sizeof(bad) - INDEX_PAGE_NUMBER);
		FIN_CRC32C(crc);
		assert_int_equal(pwrite(fd, bad, sizeof(bad), page), sizeof(bad));
		put_crc(fd, crc, page + INDEX_CRC);
		err = read_all(name, &layer_tenant, &layer_timeline, &contents);
		errors += err != NULL;
		ps_error_free(err);
		assert_int_equal(pwrite(fd, good, sizeof(good), page), sizeof(good));
	}
	assert_true(errors > 100);
	assert_ok(read_all(name, &layer_tenant, &layer_timeline, &contents));
	close(fd);
	free(contents.text.data);
	free(contents.value.data);
}

static void
test_wrong_name(void **state)
{
	char name[LAYER_NAME_MAX];
	char path[1024];
	char renamed[1024];
	Layer *layer;

	make_image(name);
	snprintf(path, sizeof(path), "%s/%s", test_dir, name);
	snprintf(renamed, sizeof(renamed), "%s/other", test_dir);
	assert_int_equal(rename(path, renamed), 0);
	check_error(layer_open(&test_space, "other", &layer), PS_SQLSTATE_CORRUPTED, name);
	unlink(renamed);
}

/* The names are part of the format: manifests and object storage have them. */
static void
test_names(void **state)
{
	char name[LAYER_NAME_MAX];

	test_space.next_number = 0x1e;
	make_delta(name);
	assert_string_equal(name, "030000067f00000005000040000000000000-030000067f00000005000042b800000002b8__"
							  "00000000000003e8-0000000000001388__1e");
	make_image(name);
	assert_string_equal(name, "030000067f00000005000040000000000000-030000067f00000005000042bb00000002bb__"
							  "0000000000000bb8__1f");
}

/* ---- codecs: every one gives back what was put in ---- */
static void
test_codecs(void **state)
{
	static const uint32 lens[] = {0, 1, 511, 512, BLCKSZ, 2048, 2049, 100000, 3000000};
	LayerOutput *out;
	Layer *layer;
	uint64 offsets[3][3][lengthof(lens)];
	char *data = pg_malloc(3000000);
	StringInfoData buf;
	StoredValue stored;

	initStringInfo(&buf);
	assert_ok(layer_output_create(&test_space, LAYER_DELTA, 0, 10, 20, &out));
	for (int codec = 0; codec < 3; codec++)
		for (int fill = 0; fill < 3; fill++)
			for (int i = 0; i < lengthof(lens); i++)
			{
				fill_value(fill, data, lens[i]);
				assert_ok(blob_write_codec(out, fill == 1 ? VALUE_RECORD : VALUE_IMAGE, 5, data, lens[i], codec,
										   &offsets[codec][fill][i]));
			}
	assert_ok(layer_output_begin_index(out));
	assert_ok(layer_output_finish(out));
	assert_ok(layer_open_written(&test_space, layer_output_summary(out), &layer));
	layer_output_free(out);
	for (int codec = 0; codec < 3; codec++)
		for (int fill = 0; fill < 3; fill++)
			for (int i = 0; i < lengthof(lens); i++)
			{
				fill_value(fill, data, lens[i]);
				assert_ok(blob_read(layer->file, offsets[codec][fill][i], fill == 1 ? VALUE_RECORD : VALUE_IMAGE, &buf,
									&stored));
				assert_int_equal(buf.len, lens[i]);
				assert_memory_equal(buf.data, data, lens[i]);
				assert_int_equal(stored.raw_len, lens[i]);
				assert_int_equal(stored.record_start, fill == 1 ? 5 : 0);
			}
	/* zeros become short */
	assert_true(offsets[1][2][5] - offsets[1][2][4] < 100);
	assert_true(offsets[2][2][5] - offsets[2][2][4] < 100);

	/* kinds and places that the index cannot have meant */
	check_error(blob_read(layer->file, offsets[0][0][0], VALUE_RECORD, &buf, &stored), PS_SQLSTATE_CORRUPTED,
				"expected kind 2");
	check_error(blob_read(layer->file, 0, VALUE_IMAGE, &buf, &stored), PS_SQLSTATE_CORRUPTED, "outside of the values");
	check_error(blob_read(layer->file, layer->file->summary.values_end - 3, VALUE_IMAGE, &buf, &stored),
				PS_SQLSTATE_CORRUPTED, "outside of the values");
	layer_unref(layer);
	free(buf.data);
	free(data);
}

/* ---- writing that fails ---- */
static void
test_write_failure_leaves_nothing(void **state)
{
	static const int limits[] = {0, 4096, 8192, 1024 * 1024, 1500000, 2 * 1024 * 1024, 3 * 1024 * 1024};
	struct rlimit old;
	struct rlimit limit;
	char *data = pg_malloc(100000);

	count_files(test_dir, true);
	fill_value(3, data, 100000);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	for (int i = 0; i < lengthof(limits); i++)
	{
		DeltaWriter *delta;
		ImageWriter *image;
		Layer *layer;
		PsError *err = NULL;

		limit = (struct rlimit) {.rlim_cur = limits[i], .rlim_max = old.rlim_max};
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
		assert_ok(delta_writer_create(&test_space, 0, 10, 100, &delta));
		assert_ok(image_writer_create(&test_space, 10, &image));
		for (int k = 0; k < 40 && err == NULL; k++)
		{
			uint64 offset;

			err = delta_writer_value(delta, VALUE_RECORD, 1, data, 100000, &offset);
		}
		if (err == NULL)
			err = delta_writer_finish(delta, &layer);
		delta_writer_abort(delta);
		check_error(err, PS_SQLSTATE_DISK_FULL, test_dir);

		err = NULL;
		for (uint32 k = 0; k < 40 && err == NULL; k++)
			err = image_writer_put(image, &(PsKey) {.kind = PS_KEY_RELBLOCK, .blk = k}, data, 100000);
		if (err == NULL)
			err = image_writer_finish(image, &layer);
		image_writer_abort(image);
		check_error(err, PS_SQLSTATE_DISK_FULL, test_dir);
		assert_int_equal(count_files(test_dir, false), 0);
	}
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	free(data);
}

static PsError *
failing_read(void *arg, XLogRecPtr start, uint32 len, char *buf)
{
	return start == 700 ? ps_error(PS_SQLSTATE_IO, "no such record") : NULL;
}

/* An open layer whose records cannot be read: the error comes back, no file, and a later attempt works. */
static void
test_open_layer_write_failure(void **state)
{
	Layer *open = open_layer_create(10);
	Layer *delta;
	LayerSpace nowhere = {.dir = "/nonexistent"};

	count_files(test_dir, true);
	for (int i = 1; i < 10; i++)
		open_layer_put_record(open, &(PsKey) {.kind = PS_KEY_RELBLOCK, .blk = i}, 100 * i + 50, 100 * i, 50, false);
	check_error(open_layer_write(open, &test_space, read_test_record, NULL, &delta),
				PS_SQLSTATE_INTERNAL, "must be frozen before it is written");
	open_layer_freeze(open, 2000);
	check_error(open_layer_write(open, &test_space, failing_read, NULL, &delta), PS_SQLSTATE_IO,
				"no such record");
	assert_int_equal(count_files(test_dir, false), 0);
	check_error(open_layer_write(open, &nowhere, read_test_record, NULL, &delta),
				PS_SQLSTATE_IO, "/nonexistent");
	assert_ok(open_layer_write(open, &test_space, read_test_record, NULL, &delta));
	assert_int_equal(count_files(test_dir, false), 1);
	layer_unref(delta);
	layer_unref(open);
}

/* What the caller may not do is refused, not written. */
static void
test_writer_misuse(void **state)
{
	DeltaWriter *writer;
	ImageWriter *image;
	uint64 offset;
	PsKey key = {.kind = PS_KEY_RELBLOCK, .blk = 7};
	PsKey before = {.kind = PS_KEY_RELBLOCK, .blk = 6};

	count_files(test_dir, true);
	check_error(delta_writer_create(&test_space, 0, 10, 10, &writer), PS_SQLSTATE_INTERNAL, "no LSN");
	assert_ok(delta_writer_create(&test_space, 0, 10, 20, &writer));
	assert_ok(delta_writer_value(writer, VALUE_IMAGE, 0, "x", 1, &offset));
	assert_ok(delta_writer_add(writer, &key, 15, VALUE_IMAGE, true, false, offset));
	check_error(delta_writer_add(writer, &key, 15, VALUE_IMAGE, true, false, offset), PS_SQLSTATE_INTERNAL,
				"out of order");
	check_error(delta_writer_add(writer, &key, 14, VALUE_IMAGE, true, false, offset), PS_SQLSTATE_INTERNAL,
				"out of order");
	check_error(delta_writer_add(writer, &before, 16, VALUE_IMAGE, true, false, offset), PS_SQLSTATE_INTERNAL,
				"out of order");
	check_error(delta_writer_add(writer, &key, 20, VALUE_IMAGE, true, false, offset), PS_SQLSTATE_INTERNAL,
				"does not belong");
	check_error(delta_writer_add(writer, &key, 9, VALUE_IMAGE, true, false, offset), PS_SQLSTATE_INTERNAL,
				"does not belong");
	check_error(delta_writer_add(writer, &key, 16, VALUE_IMAGE, true, false, 100000), PS_SQLSTATE_INTERNAL,
				"no value is at");
	assert_ok(delta_writer_end_values(writer));
	check_error(delta_writer_value(writer, VALUE_IMAGE, 0, "x", 1, &offset), PS_SQLSTATE_INTERNAL,
				"after the end of values");
	delta_writer_abort(writer);
	assert_ok(image_writer_create(&test_space, 10, &image));
	assert_ok(image_writer_put(image, &key, "x", 1));
	check_error(image_writer_put(image, &key, "x", 1), PS_SQLSTATE_INTERNAL, "out of order");
	check_error(image_writer_put(image, &before, "x", 1), PS_SQLSTATE_INTERNAL, "out of order");
	image_writer_abort(image);
	assert_int_equal(count_files(test_dir, false), 0);
}

/* Layers with nothing in them are files like others. */
static void
test_empty_layers(void **state)
{
	Layer *open = open_layer_create(10);
	Layer *layer[2];
	ImageWriter *image;
	ValueList list = {0};
	LayerMap *map;
	bool done;
	Contents contents;
	char name[LAYER_NAME_MAX];

	initStringInfo(&contents.text);
	initStringInfo(&contents.value);
	open_layer_freeze(open, 30);
	assert_ok(open_layer_write(open, &test_space, read_test_record, NULL, &layer[0]));
	layer_unref(open);
	assert_ok(image_writer_create(&test_space, 10, &image));
	assert_ok(image_writer_finish(image, &layer[1]));
	map = layer_map_create(layer, 2);
	for (int i = 0; i < 2; i++)
	{
		PsKey key = {.kind = PS_KEY_RELBLOCK, .blk = 7};

		assert_int_equal(layer_info(layer[i])->key_max.kind, 0);
		assert_ok(layer_collect(layer[i], &key, 0, PG_UINT64_MAX, &list, &done));
		assert_ok(layer_map_collect(map, &key, 0, PG_UINT64_MAX, &list, &done));
		assert_false(done);
		assert_int_equal(list.n, 0);
		assert_ok(read_all(layer_name(layer[i], name), &layer_tenant, &layer_timeline, &contents));
		assert_int_equal(contents.text.len, 0);
		layer_unref(layer[i]);
	}
	assert_ok(layer_map_scan(map, &first_key, &last_key, PG_UINT64_MAX, append_version, &contents));
	assert_int_equal(contents.text.len, 0);
	layer_map_unref(map);
	free(contents.text.data);
	free(contents.value.data);
}

/* A range of keys between two that a file has is empty; one with a key is not. */
static void
test_ranges(void **state)
{
	for (int n = 100; n < 8000; n += 397)
	{
		ImageWriter *writer;
		Layer *layer;
		LayerRange range;

		assert_ok(image_writer_create(&test_space, 3000, &writer));
		for (int i = 0; i < n; i++)
		{
			PsKey key = {.kind = PS_KEY_RELBLOCK, .spc = 1663, .db = 5, .rel = i / 7, .blk = 10 * i};

			assert_ok(image_writer_put(writer, &key, "x", 1));
		}
		assert_ok(image_writer_finish(writer, &layer));
		for (int i = 0; i < n; i++)
		{
			PsKey at = {.kind = PS_KEY_RELBLOCK, .spc = 1663, .db = 5, .rel = i / 7, .blk = 10 * i};
			PsKey lo = at;
			PsKey hi = at;

			lo.blk++;
			hi.blk += 9;
			assert_ok(layer_range(layer, &lo, &hi, &range));
			assert_int_equal(range.entries, 0);
			assert_int_equal(range.bytes, 0);
			assert_ok(layer_range(layer, &at, &hi, &range));
			assert_true(range.entries >= 1);
		}
		layer_remove(layer);
		layer_unref(layer);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_flipped_bytes_delta),
		cmocka_unit_test(test_flipped_bytes_image),
		cmocka_unit_test(test_wrong_length),
		cmocka_unit_test(test_cut_off_while_open),
		cmocka_unit_test(test_foreign_ids),
		cmocka_unit_test(test_other_versions),
		cmocka_unit_test(test_nonsense_with_right_checksums),
		cmocka_unit_test(test_wrong_name),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_codecs),
		cmocka_unit_test(test_write_failure_leaves_nothing),
		cmocka_unit_test(test_open_layer_write_failure),
		cmocka_unit_test(test_writer_misuse),
		cmocka_unit_test(test_empty_layers),
	};

	return cmocka_run_group_tests(tests, make_test_dir, remove_test_dir);
}
