/*
 * t_layer_dict.c
 *	  Records compressed with a file's dictionary: they come back, from copies
 *	  into other files too, whatever thread asks first; a changed byte of the
 *	  dictionary or of a record is an error.
 */
#include "ps_fe.h"

#include <unistd.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "layer/layer_dict.h"
#include "layer/layer_impl.h"
#include "layer_util.h"

#define NRECORDS 4000

static PsKey
test_key(int i)
{
	return (PsKey) {.kind = PS_KEY_RELBLOCK, .spc = 1663, .db = 5, .rel = 16384, .blk = i};
}

/*
 * Record i of a family: what records of one table have in common, and some
 * bytes of its own.  Every ninth is nothing but noise, every fiftieth longer
 * than a dictionary is for.
 */
static uint32
make_record(int family, int i, char *data)
{
	uint64 state = (uint64) family * 1000003 + i;
	uint32 len = i % 50 == 49 ? LAYER_DICT_VALUE_MAX + 1 + i % 100 : i == 3 ? LAYER_DICT_VALUE_MAX
																 : i == 4   ? 1
																			: 50 + i % 60;

	for (uint32 at = 0; at < len; at++)
		data[at] = (char) (at * (7 + family) + at / 9);
	if (i % 9 == 8)
		for (uint32 at = 0; at < len; at++)
			data[at] = (char) layer_random(&state);
	else
		for (uint32 at = 4; at < Min(len, 44); at += 5)
			data[at] = (char) layer_random(&state);
	return len;
}

static void
take_sample(DictSample *sample, int family)
{
	char data[2 * LAYER_DICT_VALUE_MAX];

	memset(sample, 0, sizeof(*sample));
	for (int i = 0; i < 2 * NRECORDS; i++)
	{
		uint32 len = make_record(family, i, data);

		dict_sample_add(sample, data, len);
	}
}

static bool
has_dict(const Layer *layer)
{
	bool result;

	assert_ok(layer_acquire(layer));
	result = layer->file->summary.dict_size > 0;
	layer_release(layer);
	return result;
}

/* A file of a family's records; dict: with a dictionary. */
static Layer *
make_layer(int family, bool dict)
{
	DeltaWriter *writer;
	Layer *layer;
	uint64 offset;
	char data[2 * LAYER_DICT_VALUE_MAX];

	assert_ok(delta_writer_create(&test_space, 0, 1000, 1000 + NRECORDS, &writer));
	if (dict)
	{
		DictSample sample;

		take_sample(&sample, family);
		assert_ok(delta_writer_learn_sample(writer, &sample));
		dict_sample_free(&sample);
	}
	for (int i = 0; i < NRECORDS; i++)
	{
		uint32 len = make_record(family, i, data);
		PsKey key = test_key(i);

		assert_ok(delta_writer_value(writer, VALUE_RECORD, 500 + i, data, len, &offset));
		assert_ok(delta_writer_add(writer, &key, 1000 + i, VALUE_RECORD, false, false, offset));
	}
	assert_ok(delta_writer_finish(writer, &layer));
	assert_int_equal(has_dict(layer), dict);
	return layer;
}

/* All records of the layer, or the first error. */
static PsError *
read_layer(Layer *layer, int family)
{
	StringInfoData buf;
	ValueList list = {0};
	PsError *err = NULL;

	initStringInfo(&buf);
	for (int i = 0; i < NRECORDS && err == NULL; i++)
	{
		char data[2 * LAYER_DICT_VALUE_MAX];
		uint32 len = make_record(family, i, data);
		PsKey key = test_key(i);
		XLogRecPtr start;
		bool done;

		list.n = 0;
		err = layer_collect(layer, &key, 0, PG_UINT64_MAX, &list, &done);
		if (err != NULL)
			break;
		assert_int_equal(list.n, 1);
		err = layer_read_value(&list.refs[0], &buf, &start);
		if (err != NULL)
			break;
		assert_int_equal(start, 500 + i);
		assert_int_equal(buf.len, len);
		assert_memory_equal(buf.data, data, len);
	}
	free(list.refs);
	free(buf.data);
	return err;
}

static void
test_round_trip(void **state)
{
	Layer *plain = make_layer(1, false);
	Layer *layer = make_layer(1, true);

	assert_ok(read_layer(plain, 1));
	assert_ok(read_layer(layer, 1));
	/* what does not become shorter, in between, does not end it for those after it */
	assert_true(layer_info(layer)->file_size < layer_info(plain)->file_size * 8 / 10);
	layer_unref(plain);
	layer_unref(layer);
}

/* Copies of values into files with another dictionary, the same one, none. */
static void
test_copies(void **state)
{
	Layer *sources[] = {make_layer(1, true), make_layer(1, false)};
	uint64 sizes[3];

	for (int s = 0; s < 2; s++)
		for (int to = 0; to < 3; to++)
		{
			DeltaWriter *writer;
			Layer *copy;
			ValueList list = {0};
			bool done;
			uint64 offset;
			PsKey lo = test_key(0);

			assert_ok(delta_writer_create(&test_space, 1, 1000, 1000 + NRECORDS, &writer));
			if (to == 1)
				assert_ok(delta_writer_learn(writer, sources, 2, &lo, PG_UINT64_MAX));
			else if (to == 2)
			{
				DictSample sample;

				take_sample(&sample, 9);
				assert_ok(delta_writer_learn_sample(writer, &sample));
				dict_sample_free(&sample);
			}
			for (int i = 0; i < NRECORDS; i++)
			{
				PsKey key = test_key(i);

				list.n = 0;
				assert_ok(layer_collect(sources[s], &key, 0, PG_UINT64_MAX, &list, &done));
				assert_ok(delta_writer_copy(writer, &list.refs[0], &offset));
				assert_ok(delta_writer_add(writer, &key, 1000 + i, VALUE_RECORD, false, false, offset));
			}
			free(list.refs);
			assert_ok(delta_writer_finish(writer, &copy));
			assert_int_equal(has_dict(copy), to > 0);
			assert_ok(read_layer(copy, 1));
			sizes[to] = layer_info(copy)->file_size;
			layer_unref(copy);
		}
	/* also of a source without a dictionary */
	assert_true(sizes[1] < sizes[0] * 8 / 10);
	layer_unref(sources[0]);
	layer_unref(sources[1]);
}

/* A dictionary of too little, or of nothing in common, is none. */
static void
test_no_dictionary(void **state)
{
	DictSample sample = {0};
	char data[2 * LAYER_DICT_VALUE_MAX] = {0};
	uint64 random = 1;

	assert_null(layer_dict_train(&sample));
	for (int i = 0; i < 100; i++)
	{
		uint32 len = make_record(1, i, data);

		dict_sample_add(&sample, data, len);
	}
	assert_null(layer_dict_train(&sample));
	for (int i = 0; i < 1000; i++)
		dict_sample_add(&sample, data, LAYER_DICT_VALUE_MAX + 1);
	assert_null(layer_dict_train(&sample));
	dict_sample_free(&sample);
	memset(&sample, 0, sizeof(sample));
	for (int i = 0; i < 100000; i++)
	{
		for (int at = 0; at < 100; at++)
			data[at] = (char) layer_random(&random);
		dict_sample_add(&sample, data, 100);
	}
	assert_true(sample.used > DICT_SAMPLE_BYTES / 2 && sample.used <= DICT_SAMPLE_BYTES);
	assert_null(layer_dict_train(&sample));
	dict_sample_free(&sample);
}

static void *
read_in_thread(void *arg)
{
	return read_layer(arg, 1);
}

/* The dictionary is read at its first use: by many at once here. */
static void
test_threads(void **state)
{
	Layer *made = make_layer(1, true);
	char name[LAYER_NAME_MAX];

	layer_name(made, name);
	for (int round = 0; round < 20; round++)
	{
		pthread_t threads[4];
		Layer *layer;

		assert_ok(layer_open(&test_space, name, &layer));
		for (int i = 0; i < lengthof(threads); i++)
			assert_int_equal(pthread_create(&threads[i], NULL, read_in_thread, layer), 0);
		for (int i = 0; i < lengthof(threads); i++)
		{
			void *err;

			pthread_join(threads[i], &err);
			assert_ok(err);
		}
		layer_unref(layer);
	}
	layer_unref(made);
}

/* Any byte of the dictionary, and some of the values: an error, never another record. */
static void
test_flipped_bytes(void **state)
{
	Layer *made = make_layer(1, true);
	LayerSummary summary;
	const LayerSummary *s = &summary;
	char name[LAYER_NAME_MAX];
	char *path = psprintf("%s/%s", test_dir, layer_name(made, name));
	int fd = open(path, O_RDWR);

	assert_ok(layer_acquire(made));
	summary = made->file->summary;
	layer_release(made);

	for (uint64 at = LAYER_BLOCK_SIZE; at < s->values_end; at += at < layer_values_start(s) ? 3 : 211)
	{
		char byte;
		char flipped;
		Layer *layer;
		PsError *err;

		assert_int_equal(pread(fd, &byte, 1, at), 1);
		flipped = byte ^ (char) (1 << at % 8);
		assert_int_equal(pwrite(fd, &flipped, 1, at), 1);
		assert_ok(layer_open(&test_space, name, &layer));
		err = read_layer(layer, 1);
		assert_non_null(err);
		assert_non_null(strstr(err->message, path));
		assert_non_null(strstr(err->message, at < layer_values_start(s) ? "offset 8192: checksum of the dictionary"
																		: "is damaged at offset"));
		ps_error_free(err);
		layer_unref(layer);
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
	close(fd);
	pfree(path);
	assert_ok(read_layer(made, 1));
	layer_unref(made);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_no_dictionary),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_flipped_bytes),
	};

	return cmocka_run_group_tests(tests, make_test_dir, remove_test_dir);
}
