/*
 * t_merge.c
 *	  Merging layers: whatever may still be read is read as before.
 */
#include "ps_fe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#include "maintain/merge.h"
#include "sqlstate.h"
#include "layer_util.h"

#define NKEYS      120
#define LAYER_SPAN 1000
#define MAX_LAYERS 16
#define MAX_POINTS 4

typedef struct Fixture
{
	uint64 random;
	Layer *layers[2 * MAX_LAYERS];
	bool is_image[2 * MAX_LAYERS];
	int nlayers;
	XLogRecPtr end;
	XLogRecPtr floors[NKEYS][MAX_POINTS + 1];
	XLogRecPtr points[MAX_POINTS];
	Retention retention;
} Fixture;

static uint32
below(Fixture *f, uint32 n)
{
	f->random = f->random * UINT64CONST(6364136223846793005) + UINT64CONST(1442695040888963407);
	return (uint32) (f->random >> 33) % n;
}

static PsKey
key_of(int k)
{
	return (PsKey) {.kind = PS_KEY_RELBLOCK, .spc = 1663, .db = 5, .rel = 16384 + k / 50, .blk = k % 50};
}

/* A record's contents follow from where it begins. */
static PsError *
read_made_up_record(void *arg, XLogRecPtr start, uint32 len, char *buf)
{
	for (uint32 i = 0; i < len; i++)
		buf[i] = (char) (start * 7 + i * (start % 5));
	return NULL;
}

/* One delta: records of one key or several, images, ends; hot: nearly all of them of one key. */
static Layer *
make_delta(Fixture *f, XLogRecPtr from, bool hot)
{
	Layer *open = open_layer_create(from);
	Layer *delta;
	char data[BLCKSZ];

	for (XLogRecPtr lsn = from; lsn < from + LAYER_SPAN - 10; lsn += 2 + below(f, 6))
	{
		int n = below(f, 4) == 0 ? 1 + (int) below(f, 4) : 1;
		uint32 what = below(f, 100);
		uint32 len = what < 90 ? 30 + below(f, 200) : 4000;

		for (int i = 0; i < n; i++)
		{
			PsKey key = key_of(hot && below(f, 10) > 0 ? 77 : (int) below(f, NKEYS));

			if (what < 5)
				open_layer_put_value(open, &key, lsn, VALUE_TOMBSTONE, "", 0);
			else if (what < 10)
			{
				memset(data, (char) lsn, sizeof(data));
				open_layer_put_value(open, &key, lsn, VALUE_IMAGE, data, below(f, sizeof(data)));
			}
			else
				open_layer_put_record(open, &key, lsn, lsn - 1, len, what < 25);
		}
	}
	open_layer_freeze(open, from + LAYER_SPAN);
	assert_ok(open_layer_write(open, &test_space, read_made_up_record, NULL, &delta));
	layer_unref(open);
	return delta;
}

static Layer *
make_image(Fixture *f, XLogRecPtr lsn)
{
	ImageWriter *writer;
	Layer *layer;
	char data[BLCKSZ];
	int n = 0;

	assert_ok(image_writer_create(&test_space, lsn, &writer));
	for (int k = 0; k < NKEYS; k++)
	{
		PsKey key = key_of(k);

		if (below(f, 2) == 0 && (n > 0 || k < NKEYS - 1))
			continue;
		memset(data, (char) (lsn + k), sizeof(data));
		assert_ok(image_writer_put(writer, &key, data, sizeof(data)));
		n++;
	}
	assert_ok(image_writer_finish(writer, &layer));
	return layer;
}

static PsError *
floor_of(void *arg, const PsKey *key, int i, XLogRecPtr *floor)
{
	Fixture *f = arg;

	*floor = f->floors[(key->rel - 16384) * 50 + key->blk][i];
	return NULL;
}

/* What a reader gets of a key: LSNs, kinds and contents, newest first, down to what needs nothing older. */
static char *
what_is_read(LayerMap *map, int k, XLogRecPtr floor, XLogRecPtr lsn)
{
	StringInfoData text;
	StringInfoData value;
	ValueList list = {0};
	PsKey key = key_of(k);
	bool done;

	initStringInfo(&text);
	initStringInfo(&value);
	if (floor != PG_UINT64_MAX)
		assert_ok(layer_map_collect(map, &key, floor + 1, lsn, &list, &done));

	/* an end with nothing behind it is as good as none */
	if (list.n > 0 && list.refs[list.n - 1].kind == VALUE_TOMBSTONE)
		list.n--;
	for (int i = 0; i < list.n; i++)
	{
		uint32 hash = 0;
		XLogRecPtr start;

		assert_ok(layer_read_value(&list.refs[i], &value, &start));
		for (int b = 0; b < value.len; b++)
			hash = hash * 31 + (uint8) value.data[b];
		appendStringInfo(&text, "%llu:%d:%d:%d:%08x:%llu ", (unsigned long long) list.refs[i].lsn, list.refs[i].kind,
						 list.refs[i].will_init, value.len, hash, (unsigned long long) start);
	}
	free(list.refs);
	pfree(value.data);
	return text.data;
}

static void
make_layers(Fixture *f, bool hot)
{
	int n = 3 + (int) below(f, MAX_LAYERS - 3);

	f->nlayers = 0;
	f->end = LAYER_SPAN;
	for (int i = 0; i < n; i++)
	{
		f->is_image[f->nlayers] = false;
		f->layers[f->nlayers++] = make_delta(f, f->end, hot);
		f->end += LAYER_SPAN;
		if (below(f, 4) > 0)
			continue;
		f->is_image[f->nlayers] = true;
		f->layers[f->nlayers++] = make_image(f, f->end - 1 - below(f, LAYER_SPAN));
	}
}

static int
cmp_lsn(const void *a, const void *b)
{
	XLogRecPtr x = *(const XLogRecPtr *) a;
	XLogRecPtr y = *(const XLogRecPtr *) b;

	return x < y ? -1 : x > y;
}

/* A horizon and points before it; floors rise from point to point. */
static void
make_retention(Fixture *f)
{
	Retention *r = &f->retention;
	int n = (int) below(f, MAX_POINTS + 1);

	memset(r, 0, sizeof(*r));
	r->horizon = below(f, 5) == 0 ? 0 : below(f, 5) == 0 ? f->end + 5
														 : below(f, (uint32) f->end);
	for (int i = 0; i < n && r->horizon > 0; i++)
		f->points[r->npoints++] = below(f, (uint32) Min(r->horizon, f->end));
	qsort(f->points, r->npoints, sizeof(XLogRecPtr), cmp_lsn);
	for (int i = 1; i < r->npoints; i++)
		if (f->points[i] == f->points[i - 1])
		{
			memmove(&f->points[i], &f->points[i + 1], (r->npoints - i - 1) * sizeof(XLogRecPtr));
			r->npoints--;
			i--;
		}
	r->points = f->points;
	memset(f->floors, 0, sizeof(f->floors));
	if (below(f, 2) == 0)
		return;
	r->floor = floor_of;
	r->arg = f;
	for (int k = 0; k < NKEYS; k++)
	{
		XLogRecPtr floor = 0;

		for (int i = 0; i <= r->npoints; i++)
		{
			XLogRecPtr point = i < r->npoints ? f->points[i] : r->horizon;

			if (below(f, 3) == 0)
				floor = Max(floor, below(f, (uint32) point + 1));
			f->floors[k][i] = below(f, 10) == 0 ? PG_UINT64_MAX : floor;
		}
	}
}

static void
compare(Fixture *f, LayerMap *before, LayerMap *after)
{
	const Retention *r = &f->retention;

	for (int k = 0; k < NKEYS; k++)
		for (int i = 0; i < 12; i++)
		{
			int p = i <= r->npoints ? i : r->npoints;
			XLogRecPtr lsn = i < r->npoints ? r->points[i] : i == r->npoints ? r->horizon
																			 : r->horizon + below(f, (uint32) f->end);
			XLogRecPtr floor = f->floors[k][p];
			char *expected;
			char *got;

			/* a key that is not there at the horizon begins anew after it */
			if (i > r->npoints && floor == PG_UINT64_MAX)
				floor = r->horizon;
			expected = what_is_read(before, k, floor, lsn);
			got = what_is_read(after, k, floor, lsn);
			if (strcmp(expected, got) != 0)
				fail_msg("key %d at %llu (horizon %llu):\nexpected %s\ngot      %s", k, (unsigned long long) lsn,
						 (unsigned long long) r->horizon, expected, got);
			pfree(expected);
			pfree(got);
		}
}

/* How many versions of the inputs are needed, found by reading. */
static uint64
count_needed(Fixture *f, const MergeJob *job)
{
	Layer *all[2 * MAX_LAYERS];
	int n = 0;
	LayerMap *map;
	uint64 needed = 0;

	for (int i = 0; i < job->ninputs; i++)
		all[n++] = job->inputs[i];
	for (int i = 0; i < job->ncontext; i++)
		all[n++] = job->context[i];
	map = layer_map_create(all, n);
	for (int k = 0; k < NKEYS; k++)
	{
		PsKey key = key_of(k);
		XLogRecPtr seen[20000];
		int nseen = 0;
		ValueList list = {0};
		bool done = true;

		/* at each point, at the horizon, and at each LSN after it */
		for (int p = 0; p <= f->retention.npoints; p++)
		{
			XLogRecPtr lsn = p < f->retention.npoints ? f->points[p] : f->retention.horizon;

			list.n = 0;
			if (f->floors[k][p] != PG_UINT64_MAX)
				assert_ok(layer_map_collect(map, &key, f->floors[k][p] + 1, lsn, &list, &done));
			for (int i = 0; i < list.n; i++)
			{
				bool known = false;

				for (int j = 0; j < job->ncontext && !known; j++)
					known = job->context[j] == list.refs[i].layer;
				for (int j = 0; j < nseen && !known; j++)
					known = seen[j] == list.refs[i].lsn;
				if (!known)
					seen[nseen++] = list.refs[i].lsn;
			}
		}
		needed += nseen;
		for (XLogRecPtr lsn = f->end + 10; lsn > f->retention.horizon;)
		{
			list.n = 0;
			assert_ok(layer_map_collect(map, &key, f->retention.horizon + 1, lsn, &list, &done));
			if (list.n == 0)
				break;
			for (int i = 0; i < list.n; i++)
			{
				bool known = false;

				for (int j = 0; j < job->ncontext && !known; j++)
					known = job->context[j] == list.refs[i].layer;
				needed += !known;
			}
			lsn = list.refs[list.n - 1].lsn - 1;
		}
		free(list.refs);
	}
	layer_map_unref(map);
	return needed;
}

static void
one_round(Fixture *f)
{
	Layer *inputs[2 * MAX_LAYERS];
	Layer *context[2 * MAX_LAYERS];
	bool all = below(f, 3) == 0;
	bool hot = below(f, 5) == 0;
	int first;
	int count;
	MergeJob job = {.space = &test_space,
					.level = 1,
					.target_size = 20000 + below(f, 400000),
					.memory = 64 * 1024 + below(f, 1024 * 1024)};
	MergeResult result;
	LayerMap *before;
	LayerMap *after;
	uint64 entries = 0;
	uint64 needed;

	make_layers(f, hot);
	make_retention(f);
	before = layer_map_create(f->layers, f->nlayers);
	first = all ? 0 : (int) below(f, f->nlayers - 1);
	count = all ? f->nlayers : 1 + (int) below(f, f->nlayers - first);
	for (int i = 0; i < f->nlayers; i++)
	{
		bool in = i >= first && i < first + count && !f->is_image[i];

		if (in)
		{
			inputs[job.ninputs++] = f->layers[i];
			entries += layer_info(f->layers[i])->entries;
		}
		else if (all || below(f, 2) == 0)
			context[job.ncontext++] = f->layers[i];
	}
	if (job.ninputs > 0)
	{
		job.inputs = inputs;
		job.context = context;
		job.retention = &f->retention;
		job.drop_oldest_tombstones = all;
		assert_ok(merge_layers(&job, &result));
		assert_true(result.kept + result.dropped <= entries);
		needed = count_needed(f, &job);
		assert_true(result.kept <= needed && result.kept + (all ? NKEYS : 0) >= needed);
		after = layer_map_change(before, result.layers, result.nlayers, inputs, job.ninputs);
		compare(f, before, after);
		for (int i = 0; i < result.nlayers; i++)
			assert_int_equal(layer_info(result.layers[i])->level, 1);
		layer_map_unref(after);
		merge_result_free(&result);
	}
	layer_map_unref(before);
	for (int i = 0; i < f->nlayers; i++)
		layer_unref(f->layers[i]);
	count_files(test_dir, true);
}

static void
test_readers_see_no_difference(void **state)
{
	const char *env = getenv("SEED");
	uint64 seed = env != NULL ? strtoull(env, NULL, 10) : (uint64) time(NULL);
	Fixture f = {.random = seed};

	printf("seed %llu\n", (unsigned long long) seed);
	for (int i = 0; i < 150; i++)
		one_round(&f);
}

/* Everything before the horizon but what is read at it is garbage. */
static void
test_garbage_goes(void **state)
{
	Fixture f = {.random = 1};
	Retention retention = {0};
	MergeJob job = {.space = &test_space,
					.level = 1,
					.retention = &retention,
					.drop_oldest_tombstones = true,
					.target_size = 1024 * 1024 * 1024,
					.memory = 1024 * 1024 * 1024};
	MergeResult result;

	for (int i = 0; i < 10; i++)
		f.layers[i] = make_delta(&f, LAYER_SPAN * (i + 1), false);
	job.inputs = f.layers;
	job.ninputs = 10;
	retention.horizon = LAYER_SPAN * 20;
	assert_ok(merge_layers(&job, &result));
	assert_int_equal(result.nlayers, 1);
	/* of each key its last chain: 5 records on average, for one version in five needs nothing older */
	assert_true(result.kept < NKEYS * 10 && result.kept * 3 < result.dropped);
	merge_result_free(&result);
	for (int i = 0; i < 10; i++)
		layer_unref(f.layers[i]);
	count_files(test_dir, true);
}

/* A record that is filed under several keys is in a file once. */
static void
test_shared_records_stay_shared(void **state)
{
	Retention retention = {0};
	MergeJob job = {.space = &test_space,
					.level = 1,
					.retention = &retention,
					.target_size = 1024 * 1024 * 1024,
					.memory = 1024 * 1024};
	MergeResult result;
	Layer *open = open_layer_create(10);
	Layer *delta;

	for (int r = 0; r < 100; r++)
		for (int k = 0; k < 10; k++)
		{
			PsKey key = key_of(k);

			open_layer_put_record(open, &key, 100 * r + 50, 100 * r, 2000, true);
		}
	open_layer_freeze(open, 20000);
	assert_ok(open_layer_write(open, &test_space, read_made_up_record, NULL, &delta));
	job.inputs = &delta;
	job.ninputs = 1;
	assert_ok(merge_layers(&job, &result));
	assert_int_equal(result.kept, 1000);
	assert_int_equal(layer_info(result.layers[0])->file_size, layer_info(delta)->file_size);
	merge_result_free(&result);
	layer_unref(delta);
	layer_unref(open);
	count_files(test_dir, true);
}

static PsError *
cancel_later(void *arg)
{
	return ++*(int *) arg > 3 ? cancel_error(CANCEL_BY_CLIENT, NULL) : NULL;
}

/* What is canceled leaves no file. */
static void
test_cancel(void **state)
{
	Fixture f = {.random = 7};
	Retention retention = {0};
	int calls = 0;
	MergeJob job = {.space = &test_space,
					.level = 1,
					.retention = &retention,
					.target_size = 20000,
					.memory = 1024 * 1024,
					.cancel = {cancel_later, &calls}};
	MergeResult result;
	PsError *err;

	f.layers[0] = make_delta(&f, 1000, false);
	f.layers[1] = make_delta(&f, 2000, false);
	job.inputs = f.layers;
	job.ninputs = 2;
	err = merge_layers(&job, &result);
	assert_non_null(err);
	assert_true(ps_error_is(err, PS_SQLSTATE_CANCELED));
	ps_error_free(err);
	assert_int_equal(count_files(test_dir, false), 2);
	layer_unref(f.layers[0]);
	layer_unref(f.layers[1]);
	count_files(test_dir, true);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_readers_see_no_difference),
		cmocka_unit_test(test_garbage_goes),
		cmocka_unit_test(test_shared_records_stay_shared),
		cmocka_unit_test(test_cancel),
	};

	return cmocka_run_group_tests(tests, make_test_dir, remove_test_dir);
}
