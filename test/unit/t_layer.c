/*
 * t_layer.c
 *	  Layers of all kinds together against a naive model: random versions go
 *	  through open layer, frozen layers, delta files, merged delta files and
 *	  images; every key at random LSNs must give what the model says, values
 *	  included.
 */
#include "ps_fe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#include "layer_util.h"
#include "sqlstate.h"

#define NKEYS         60
#define MAX_IN_MEMORY 3

typedef struct ModelVersion
{
	int key;
	XLogRecPtr lsn;
	ValueKind kind;
	bool will_init;
	bool in_image_layer;
	XLogRecPtr record_start;
	uint64 seed;
	uint32 len;
} ModelVersion;

typedef struct Model
{
	uint64 random;
	PsKey keys[NKEYS]; /* ascending */
	ModelVersion *versions;
	int n;
	int cap;
	XLogRecPtr lsn;               /* end of the last record */
	XLogRecPtr flushed;           /* layer files hold versions below this */
	Layer *memory[MAX_IN_MEMORY]; /* newest first */
	int nmemory;
	LayerMap *map;
} Model;

static uint64
below(Model *m, uint64 n)
{
	return layer_random(&m->random) % n;
}

/*
 * Half of the LSNs are those of a version, or next to it: that is where bounds
 * go wrong.  Of a version of this key, if one is found soon.
 */
static XLogRecPtr
some_lsn(Model *m, int key)
{
	XLogRecPtr lsn = below(m, m->lsn + 100);

	if (m->n > 0 && below(m, 2) == 0)
	{
		for (int i = 0; i < 50; i++)
		{
			const ModelVersion *v = &m->versions[below(m, m->n)];

			lsn = v->lsn - 1 + below(m, 3);
			if (v->key == key)
				break;
		}
		return lsn;
	}
	return below(m, 5) == 0 ? PG_UINT64_MAX : lsn;
}

static ModelVersion *
add_version(Model *m, ModelVersion version)
{
	/* the same key at the same LSN, filed twice in a layer in memory, counts once */
	for (int i = m->n - 1; i >= 0 && m->versions[i].lsn == version.lsn; i--)
		if (m->versions[i].key == version.key && !m->versions[i].in_image_layer && !version.in_image_layer)
		{
			m->versions[i] = version;
			return &m->versions[i];
		}
	if (m->n == m->cap)
	{
		m->cap = Max(1024, m->cap * 2);
		m->versions = pg_realloc(m->versions, m->cap * sizeof(ModelVersion));
	}
	m->versions[m->n] = version;
	return &m->versions[m->n++];
}

static int
cmp_versions(const void *a, const void *b)
{
	const ModelVersion *x = *(const ModelVersion *const *) a;
	const ModelVersion *y = *(const ModelVersion *const *) b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	if (x->lsn != y->lsn)
		return x->lsn > y->lsn ? -1 : 1;
	return (int) y->in_image_layer - (int) x->in_image_layer;
}

/* All versions of keys key_lo to key_hi with lsn_min <= LSN <= lsn_max, by key and newest first; of an LSN one. */
static int
model_select(Model *m, int key_lo, int key_hi, XLogRecPtr lsn_min, XLogRecPtr lsn_max, ModelVersion **out)
{
	int n = 0;
	int distinct = 0;

	for (int i = 0; i < m->n; i++)
	{
		ModelVersion *v = &m->versions[i];

		if (v->key >= key_lo && v->key <= key_hi && v->lsn >= lsn_min && v->lsn <= lsn_max)
			out[n++] = v;
	}
	qsort(out, n, sizeof(*out), cmp_versions);
	for (int i = 0; i < n; i++)
		if (distinct == 0 || out[distinct - 1]->key != out[i]->key || out[distinct - 1]->lsn != out[i]->lsn)
			out[distinct++] = out[i];
	return distinct;
}

static void
compare(const ModelVersion *expected, const ValueRef *ref)
{
	StringInfoData buf;
	char *bytes = pg_malloc(expected->len + 1);
	const char *got;
	XLogRecPtr record_start = ref->at.record_start;
	bool is_record = expected->kind == VALUE_RECORD;

	initStringInfo(&buf);
	assert_int_equal(ref->lsn, expected->lsn);
	assert_int_equal(ref->kind, expected->kind);
	assert_int_equal(ref->will_init, expected->will_init);
	if (ref->place == VALUE_IN_LAYER)
	{
		assert_ok(layer_read_value(ref, &buf, &record_start));
		assert_int_equal(buf.len, expected->len);
		got = buf.data;
	}
	else
	{
		assert_int_equal(ref->place, is_record ? VALUE_IN_WAL : VALUE_IN_MEMORY);
		assert_int_equal(ref->len, expected->len);
		got = ref->at.memory;
	}
	if (is_record)
		assert_int_equal(record_start, expected->record_start);
	if (ref->place != VALUE_IN_WAL)
	{
		fill_value(expected->seed, bytes, expected->len);
		assert_memory_equal(got, bytes, expected->len);
	}
	free(bytes);
	free(buf.data);
}

/* What a read does: layers in memory newest first, then the map. */
static void
collect_all(Model *m, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max, ValueList *list, bool *done)
{
	*done = false;
	for (int i = 0; i < m->nmemory && !*done; i++)
		assert_ok(layer_collect(m->memory[i], key, lsn_min, lsn_max, list, done));
	if (!*done)
		assert_ok(layer_map_collect(m->map, key, lsn_min, lsn_max, list, done));
}

static void
check_key(Model *m, int key, XLogRecPtr lsn_min, XLogRecPtr lsn_max)
{
	ModelVersion **expected = pg_malloc((m->n + 1) * sizeof(*expected));
	int n = model_select(m, key, key, lsn_min, lsn_max, expected);
	bool expect_done = false;
	ValueList list = {0};
	bool done;

	for (int i = 0; i < n && !expect_done; i++)
		if (expected[i]->will_init)
		{
			expect_done = true;
			n = i + 1;
		}
	collect_all(m, &m->keys[key], lsn_min, lsn_max, &list, &done);
	assert_int_equal(list.n, n);
	assert_int_equal(done, expect_done);
	for (int i = 0; i < n; i++)
		compare(expected[i], &list.refs[i]);
	free(list.refs);
	free(expected);
}

/* ---- scans ---- */
typedef struct ScanCheck
{
	Model *m;
	ModelVersion **expected;
	int n;
	int seen;
} ScanCheck;

static PsError *
check_scanned(void *arg, const PsKey *key, const ValueRef *ref)
{
	ScanCheck *check = arg;

	assert_true(check->seen < check->n);
	assert_int_equal(ps_key_cmp(key, &check->m->keys[check->expected[check->seen]->key]), 0);
	compare(check->expected[check->seen], ref);
	check->seen++;
	return NULL;
}

static void
check_scan(Model *m)
{
	int lo = (int) below(m, NKEYS);
	int hi = lo + (int) below(m, NKEYS - lo);
	XLogRecPtr lsn_max = some_lsn(m, lo);
	ScanCheck check = {.m = m};

	lsn_max = Min(lsn_max, m->flushed - 1);
	check.expected = pg_malloc((m->n + 1) * sizeof(*check.expected));
	check.n = model_select(m, lo, hi, 0, lsn_max, check.expected);
	/* of each key the newest */
	for (int i = 0, n = check.n; i < n; i++)
	{
		check.n = i == 0 ? 0 : check.n;
		if (check.n == 0 || check.expected[check.n - 1]->key != check.expected[i]->key)
			check.expected[check.n++] = check.expected[i];
	}
	assert_ok(layer_map_scan(m->map, &m->keys[lo], &m->keys[hi], lsn_max, check_scanned, &check));
	assert_int_equal(check.seen, check.n);
	free(check.expected);
}

/* In memory keys come in any order, the versions of each newest first. */
typedef struct MemoryScan
{
	Model *m;
	ValueList versions[NKEYS];
} MemoryScan;

static PsError *
note_scanned(void *arg, const PsKey *key, const ValueRef *ref)
{
	MemoryScan *scan = arg;

	for (int k = 0; k < NKEYS; k++)
		if (ps_key_cmp(key, &scan->m->keys[k]) == 0)
		{
			value_list_add(&scan->versions[k], ref);
			return NULL;
		}
	fail_msg("scan gave a key that was not put");
	return NULL;
}

static void
check_memory_scan(Model *m, Layer *layer)
{
	int lo = (int) below(m, NKEYS);
	int hi = lo + (int) below(m, NKEYS - lo);
	XLogRecPtr lsn_max = some_lsn(m, lo);
	MemoryScan scan = {.m = m};
	XLogRecPtr end = layer == m->memory[0] ? PG_UINT64_MAX : layer_info(layer)->lsn_end - 1;
	ModelVersion **expected = pg_malloc((m->n + 1) * sizeof(*expected));

	assert_ok(layer_scan(layer, &m->keys[lo], &m->keys[hi], lsn_max, note_scanned, &scan));
	for (int k = 0; k < NKEYS; k++)
	{
		int n = k < lo || k > hi ? 0 : model_select(m, k, k, layer_info(layer)->lsn_start, Min(lsn_max, end), expected);

		assert_int_equal(scan.versions[k].n, n);
		for (int i = 0; i < n; i++)
			compare(expected[i], &scan.versions[k].refs[i]);
		free(scan.versions[k].refs);
	}
	free(expected);
}

/* ---- what happens to layers ---- */
static void
write_versions(Model *m, int count)
{
	for (int i = 0; i < count; i++)
	{
		uint32 len = below(m, 40) == 0 ? 5000 + (uint32) below(m, 20000) : 24 + (uint32) below(m, 700);
		XLogRecPtr start = m->lsn;
		int ntouched = 1 + (int) below(m, 4);

		m->lsn = start + MAXALIGN(len);
		for (int t = 0; t < ntouched; t++)
		{
			int key = (int) (below(m, 3) == 0 ? below(m, 3) : below(m, NKEYS));
			ModelVersion v = {.key = key, .lsn = m->lsn, .seed = start, .len = len, .record_start = start};

			switch (below(m, 20))
			{
				case 0:
					v.kind = VALUE_TOMBSTONE;
					v.len = 0;
					break;
				case 1:
				case 2:
					v.kind = VALUE_IMAGE;
					v.len = below(m, 2) == 0 ? BLCKSZ : (uint32) below(m, 20);
					break;
				default:
					v.kind = VALUE_RECORD;
					v.will_init = below(m, 12) == 0;
					break;
			}
			if (v.kind == VALUE_RECORD)
				open_layer_put_record(m->memory[0], &m->keys[key], v.lsn, start, len, v.will_init);
			else
			{
				char *data = pg_malloc(v.len + 1);

				v.will_init = true;
				fill_value(v.seed, data, v.len);
				open_layer_put_value(m->memory[0], &m->keys[key], v.lsn, v.kind, data, v.len);
				free(data);
			}
			add_version(m, v);
		}
	}
}

static void
change_map(Model *m, Layer **add, int nadd, Layer **drop, int ndrop)
{
	LayerMap *map = layer_map_change(m->map, add, nadd, drop, ndrop);

	assert_int_equal(layer_map_count(map), layer_map_count(m->map) + nadd - ndrop);
	layer_map_unref(m->map);
	m->map = map;
	for (int i = 0; i < nadd; i++)
		layer_unref(add[i]);
}

/* Freezes the open layer, makes a new one; if there are too many in memory, the oldest becomes a file. */
static void
freeze(Model *m)
{
	Layer *oldest;
	Layer *delta;
	uint64 versions;

	m->lsn += 8;
	open_layer_freeze(m->memory[0], m->lsn);
	if (m->nmemory == MAX_IN_MEMORY)
	{
		oldest = m->memory[--m->nmemory];
		assert_ok(open_layer_write(oldest, &test_space, read_test_record, NULL, &delta));
		versions = open_layer_count(oldest);
		assert_true(versions == 0 || layer_info(delta)->file_size > versions * 6);
		assert_int_equal(ps_key_cmp(&layer_info(delta)->key_min, &layer_info(oldest)->key_min), 0);
		assert_int_equal(ps_key_cmp(&layer_info(delta)->key_max, &layer_info(oldest)->key_max), 0);
		m->flushed = layer_info(oldest)->lsn_end;
		assert_int_equal(layer_info(delta)->lsn_end, m->flushed);
		layer_unref(oldest);
		change_map(m, &delta, 1, NULL, 0);
	}
	memmove(m->memory + 1, m->memory, m->nmemory * sizeof(Layer *));
	m->memory[0] = open_layer_create(m->lsn);
	m->nmemory++;
}

/* Image of some keys at an LSN that is flushed; it may lie within a delta's range or at its border. */
static void
make_image(Model *m)
{
	XLogRecPtr lsn = below(m, 4) == 0 ? m->flushed - 1 : 1000 + below(m, m->flushed - 1000);
	int lo = (int) below(m, NKEYS);
	int hi = lo + (int) below(m, NKEYS - lo);
	ImageWriter *writer;
	Layer *layer;
	int n = 0;

	for (int i = 0; i < m->n; i++)
		if (m->versions[i].in_image_layer && m->versions[i].lsn == lsn)
			return;
	assert_ok(image_writer_create(&test_space, lsn, &writer));
	for (int k = lo; k <= hi; k++)
	{
		char data[BLCKSZ];
		ModelVersion v = {.key = k,
						  .lsn = lsn,
						  .kind = VALUE_IMAGE,
						  .will_init = true,
						  .in_image_layer = true,
						  .seed = lsn * 131 + k,
						  .len = BLCKSZ};

		if (below(m, 4) == 0)
			continue;
		fill_value(v.seed, data, v.len);
		assert_ok(image_writer_put(writer, &m->keys[k], data, v.len));
		add_version(m, v);
		n++;
	}
	assert_ok(image_writer_finish(writer, &layer));
	assert_int_equal(layer_info(layer)->type, LAYER_IMAGE);
	change_map(m, &layer, 1, NULL, 0);
}

/* ---- merging of delta files, as compaction does it ---- */
typedef struct Merged
{
	PsKey key;
	ValueRef ref;
	uint64 offset;
} Merged;

typedef struct MergeList
{
	Merged *versions;
	int n;
	int cap;
} MergeList;

static PsError *
note_merged(void *arg, const PsKey *key, const ValueRef *ref)
{
	MergeList *list = arg;

	if (list->n == list->cap)
	{
		list->cap = Max(256, list->cap * 2);
		list->versions = pg_realloc(list->versions, list->cap * sizeof(Merged));
	}
	list->versions[list->n++] = (Merged) {.key = *key, .ref = *ref};
	return NULL;
}

static int
cmp_merged(const void *a, const void *b)
{
	const Merged *x = a;
	const Merged *y = b;
	int cmp = ps_key_cmp(&x->key, &y->key);

	return cmp != 0 ? cmp : x->ref.lsn < y->ref.lsn ? -1
													: x->ref.lsn > y->ref.lsn;
}

static Layer *
write_merged(const LayerInfo *from, const LayerInfo *to, Merged *versions, int n)
{
	DeltaWriter *writer;
	Layer *layer;
	StringInfoData buf;

	initStringInfo(&buf);
	assert_ok(delta_writer_create(&test_space, 0, from->lsn_start, to->lsn_end, &writer));
	for (int i = 0; i < n; i++)
	{
		XLogRecPtr start;

		assert_ok(layer_read_value(&versions[i].ref, &buf, &start));
		assert_ok(delta_writer_value(writer, versions[i].ref.kind, start, buf.data, buf.len, &versions[i].offset));
	}
	for (int i = 0; i < n; i++)
		assert_ok(delta_writer_add(writer, &versions[i].key, versions[i].ref.lsn, versions[i].ref.kind,
								   versions[i].ref.will_init, false, versions[i].offset));
	assert_ok(delta_writer_finish(writer, &layer));
	free(buf.data);
	return layer;
}

/* Two neighbouring deltas become two others, cut by key.  Now and then the old ones stay as well. */
static void
merge_deltas(Model *m)
{
	Layer *old[2];
	int nold = 0;
	MergeList list = {0};
	Layer *made[2];
	int cut;
	PsKey lo = {0};
	PsKey hi = ps_key_last();

	for (int i = (int) below(m, layer_map_count(m->map)); i < layer_map_count(m->map) && nold == 0; i++)
		if (layer_info(layer_map_get(m->map, i))->type == LAYER_DELTA)
			old[nold++] = layer_map_get(m->map, i);
	for (int i = 0; i < layer_map_count(m->map) && nold == 1; i++)
		if (layer_info(layer_map_get(m->map, i))->type == LAYER_DELTA &&
			layer_info(layer_map_get(m->map, i))->lsn_end == layer_info(old[0])->lsn_start)
			old[nold++] = layer_map_get(m->map, i);
	if (nold < 2)
		return;
	for (int i = 0; i < 2; i++)
		assert_ok(layer_scan(old[i], &lo, &hi, PG_UINT64_MAX, note_merged, &list));
	qsort(list.versions, list.n, sizeof(Merged), cmp_merged);
	for (cut = list.n / 2; cut < list.n && cut > 0; cut++)
		if (ps_key_cmp(&list.versions[cut - 1].key, &list.versions[cut].key) != 0)
			break;
	made[0] = write_merged(layer_info(old[1]), layer_info(old[0]), list.versions, cut);
	made[1] = write_merged(layer_info(old[1]), layer_info(old[0]), list.versions + cut, list.n - cut);
	change_map(m, made, 2, old, below(m, 4) == 0 ? 0 : 2);
	free(list.versions);
}

static int
cmp_keys(const void *a, const void *b)
{
	return ps_key_cmp(a, b);
}

static void
make_keys(Model *m)
{
	for (int i = 0; i < NKEYS; i++)
	{
		PsRel rel = {1663, 5, 16384 + i % 3};

		switch (i % 6)
		{
			case 0:
				m->keys[i] = ps_key_relsize(rel, i / 6 % 4);
				m->keys[i].rel = 16384 + i;
				break;
			case 1:
				m->keys[i] = ps_key_slru_block(i % 3, i);
				break;
			case 2:
				m->keys[i] = ps_key_simple(PS_KEY_TWOPHASE, 0, 0, i);
				break;
			default:
				m->keys[i] = ps_key_block(rel, MAIN_FORKNUM, i == 3 ? InvalidBlockNumber : 250 + i);
				break;
		}
	}
	qsort(m->keys, NKEYS, sizeof(PsKey), cmp_keys);
}

static void
run_model(uint64 seed, int rounds)
{
	Model m = {.random = seed, .lsn = 1000, .flushed = 1000};

	print_message("seed %llu\n", (unsigned long long) seed);
	make_keys(&m);
	m.map = layer_map_create(NULL, 0);
	m.memory[0] = open_layer_create(m.lsn);
	m.nmemory = 1;
	for (int round = 0; round < rounds; round++)
	{
		write_versions(&m, (int) below(&m, 300));
		if (below(&m, 2) == 0)
			freeze(&m);
		if (m.flushed > 1000 && below(&m, 4) == 0)
			make_image(&m);
		if (layer_map_count(m.map) > 3 && below(&m, 4) == 0)
			merge_deltas(&m);
		for (int k = 0; k < NKEYS; k++)
		{
			check_key(&m, k, 0, some_lsn(&m, k));
			check_key(&m, k, some_lsn(&m, k), some_lsn(&m, k));
			check_key(&m, k, some_lsn(&m, k), PG_UINT64_MAX);
		}
		check_scan(&m);
		for (int i = 0; i < m.nmemory; i++)
			check_memory_scan(&m, m.memory[i]);
	}
	for (int i = 0; i < m.nmemory; i++)
		layer_unref(m.memory[i]);
	layer_map_unref(m.map);
	free(m.versions);
	count_files(test_dir, true);
}

static void
test_model(void **state)
{
	const char *given = getenv("LAYER_SEED");
	uint64 seed = given != NULL ? strtoull(given, NULL, 10) : (uint64) time(NULL);

	for (int i = 0; i < 3; i++)
		run_model(seed + i, 60);
}

/* ---- the map: more layers than the model has, some wide, many narrow ---- */
#define PIECES 300
#define LEVELS 4

/*
 * Narrow images of one key each at several LSNs, deltas over all keys between
 * them: key k has an image at LSN 1000 * level + 500 if k % level == 0.
 */
static void
test_map_many_layers(void **state)
{
	int n = 0;
	Layer *layers[PIECES * LEVELS + LEVELS];
	LayerMap *map;
	LayerMap *none;
	PsRel rel = {1663, 5, 16384};
	ValueList list = {0};
	bool done;

	for (int level = 1; level <= LEVELS; level++)
	{
		DeltaWriter *delta;
		uint64 offset;

		for (int k = 0; k < PIECES; k += level)
		{
			PsKey key = ps_key_block(rel, MAIN_FORKNUM, k * 2);
			ImageWriter *image;

			assert_ok(image_writer_create(&test_space, 1000 * level + 500, &image));
			assert_ok(image_writer_put(image, &key, "image", 5));
			assert_ok(image_writer_finish(image, &layers[n++]));
		}
		assert_ok(delta_writer_create(&test_space, 0, 1000 * level, 1000 * level + 1000, &delta));
		assert_ok(delta_writer_value(delta, VALUE_RECORD, 7, "record", 6, &offset));
		for (int k = 0; k < PIECES; k++)
		{
			PsKey key = ps_key_block(rel, MAIN_FORKNUM, k * 2);

			for (int i = 1; i <= 9; i++)
				assert_ok(delta_writer_add(delta, &key, 1000 * level + 100 * i, VALUE_RECORD, false, false, offset));
		}
		assert_ok(delta_writer_finish(delta, &layers[n++]));
	}
	map = layer_map_create(layers, n);
	assert_int_equal(layer_map_count(map), n);
	for (int i = 0; i < n; i++)
		layer_unref(layers[i]);

	for (int k = 0; k < PIECES * 2; k++)
	{
		PsKey key = ps_key_block(rel, MAIN_FORKNUM, k);

		for (XLogRecPtr lsn = 1000; lsn <= 1000 * (LEVELS + 1); lsn += 50)
		{
			int i = 0;

			list.n = 0;
			assert_ok(layer_map_collect(map, &key, 0, lsn, &list, &done));
			if (k % 2 == 1)
			{
				assert_int_equal(list.n, 0);
				assert_false(done);
				continue;
			}
			for (XLogRecPtr at = lsn / 100 * 100; at >= 1100; at -= 100)
			{
				if (at % 1000 == 0)
					continue;
				assert_true(i < list.n);
				assert_int_equal(list.refs[i].lsn, at);
				if (at % 1000 == 500 && k / 2 % (at / 1000) == 0)
				{
					assert_int_equal(list.refs[i++].kind, VALUE_IMAGE);
					break;
				}
				assert_int_equal(list.refs[i++].kind, VALUE_RECORD);
			}
			assert_int_equal(i, list.n);
			assert_int_equal(done, i > 0 && list.refs[i - 1].kind == VALUE_IMAGE);
		}
	}

	/* both bounds are inclusive, for an image too, and for the delta around it */
	for (int level = 1; level <= LEVELS; level++)
	{
		PsKey key = ps_key_block(rel, MAIN_FORKNUM, 0);

		list.n = 0;
		assert_ok(layer_map_collect(map, &key, 1000 * level + 500, 1000 * level + 600, &list, &done));
		assert_int_equal(list.n, 2);
		assert_int_equal(list.refs[0].lsn, 1000 * level + 600);
		assert_int_equal(list.refs[1].kind, VALUE_IMAGE);
		assert_true(done);
	}

	/* dropping all of it leaves nothing to find; the old map goes on working */
	none = layer_map_change(map, NULL, 0, layers, n);
	assert_int_equal(layer_map_count(none), 0);
	list.n = 0;
	assert_ok(layer_map_collect(none, &(PsKey) {.kind = PS_KEY_RELBLOCK}, 0, PG_UINT64_MAX, &list, &done));
	assert_int_equal(list.n, 0);
	layer_map_unref(none);
	assert_int_equal(layer_map_count(layer_map_ref(map)), n);
	layer_map_unref(map);
	layer_map_unref(map);
	free(list.refs);
	count_files(test_dir, true);
}

/* An error of the callback ends a scan and comes back. */
static PsError *
refuse(void *arg, const PsKey *key, const ValueRef *ref)
{
	++*(int *) arg;
	return ps_error(PS_SQLSTATE_INVALID, "enough");
}

static void
test_scan_ends_with_callbacks_error(void **state)
{
	Layer *open = open_layer_create(100);
	Layer *delta;
	LayerMap *map;
	PsKey lo = {0};
	PsKey hi = {.kind = 255};
	int calls = 0;

	for (int i = 0; i < 10; i++)
		open_layer_put_record(open, &(PsKey) {.kind = PS_KEY_RELMAP, .rel = i}, 200 + i, 100, 50, false);
	check_error(layer_scan(open, &lo, &hi, PG_UINT64_MAX, refuse, &calls), PS_SQLSTATE_INVALID, "enough");
	open_layer_freeze(open, 1000);
	assert_ok(open_layer_write(open, &test_space, read_test_record, NULL, &delta));
	map = layer_map_create(&delta, 1);
	check_error(layer_scan(delta, &lo, &hi, PG_UINT64_MAX, refuse, &calls), PS_SQLSTATE_INVALID, "enough");
	check_error(layer_map_scan(map, &lo, &hi, PG_UINT64_MAX, refuse, &calls), PS_SQLSTATE_INVALID, "enough");
	assert_int_equal(calls, 3);
	layer_map_unref(map);
	layer_unref(delta);
	layer_unref(open);
	count_files(test_dir, true);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_map_many_layers),
		cmocka_unit_test(test_scan_ends_with_callbacks_error),
	};

	return cmocka_run_group_tests(tests, make_test_dir, remove_test_dir);
}
