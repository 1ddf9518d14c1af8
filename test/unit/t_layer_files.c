/*
 * t_layer_files.c
 *	  Layer files are opened when they are needed, and closed when too many are
 *	  open.
 *
 * Run with FILES_SEED=n to repeat a run; the seed is printed.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <unistd.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>
#include <time.h>
#include <cmocka.h>

#include "layer/layer_impl.h"
#include "layer_util.h"
#include "sqlstate.h"

#define BOUND         8
#define KEYS_PER_PART 20
#define FIRST_LSN     1000

static PsKey
block(uint32 blk)
{
	return (PsKey) {.kind = PS_KEY_RELBLOCK, .spc = 1663, .db = 5, .rel = 16384, .blk = blk};
}

/* A delta file of the keys of one part, each with a version at FIRST_LSN + generation. */
static Layer *
write_delta(int part, int generation)
{
	DeltaWriter *writer;
	Layer *layer;
	XLogRecPtr lsn = FIRST_LSN + generation;
	uint64 offsets[KEYS_PER_PART];

	assert_ok(delta_writer_create(&test_space, 0, lsn, lsn + 1, &writer));
	for (int i = 0; i < KEYS_PER_PART; i++)
	{
		char value[64];

		snprintf(value, sizeof(value), "block %d at %d", part * KEYS_PER_PART + i, generation);
		assert_ok(delta_writer_value(writer, VALUE_RECORD, lsn - 1, value, (uint32) strlen(value), &offsets[i]));
	}
	for (int i = 0; i < KEYS_PER_PART; i++)
	{
		PsKey key = block(part * KEYS_PER_PART + i);

		assert_ok(delta_writer_add(writer, &key, lsn, VALUE_RECORD, false, false, offsets[i]));
	}
	assert_ok(delta_writer_finish(writer, &layer));
	return layer;
}

/* Reads all versions of a block; an error, or how many of them were not what was written. */
static PsError *
read_block(const LayerMap *map, uint32 blk, int *n, int *wrong)
{
	PsKey key = block(blk);
	ValueList list = {0};
	StringInfoData buf;
	bool done;
	PsError *err;

	*wrong = 0;
	initStringInfo(&buf);
	err = layer_map_collect(map, &key, 0, PG_UINT64_MAX, &list, &done);
	*n = list.n;
	for (int i = 0; i < list.n && err == NULL; i++)
	{
		char expected[64];
		XLogRecPtr start;

		snprintf(expected, sizeof(expected), "block %u at %d", blk, (int) (list.refs[i].lsn - FIRST_LSN));
		err = layer_read_value(&list.refs[i], &buf, &start);
		*wrong += err == NULL && (strlen(expected) != buf.len || memcmp(expected, buf.data, buf.len) != 0 ||
								  start != list.refs[i].lsn - 1);
	}
	free(list.refs);
	free(buf.data);
	return err;
}

static void
check_block(const LayerMap *map, uint32 blk, int versions)
{
	int n;
	int wrong;

	assert_ok(read_block(map, blk, &n, &wrong));
	assert_int_equal(n, versions);
	assert_int_equal(wrong, 0);
}

static void
check_block_fails(const LayerMap *map, uint32 blk, const char *sqlstate, const char *text)
{
	int n;
	int wrong;

	check_error(read_block(map, blk, &n, &wrong), sqlstate, text);
}

/* Descriptors of files in the directory that have a layer's name. */
static int
count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *de;
	int n = 0;

	while ((de = readdir(dir)) != NULL)
	{
		char link[64];
		char path[1024];
		ssize_t len;

		snprintf(link, sizeof(link), "/proc/self/fd/%.20s", de->d_name);
		len = readlink(link, path, sizeof(path) - 1);
		if (len < 0)
			continue;
		path[len] = '\0';
		n += strncmp(path, test_dir, strlen(test_dir)) == 0 && strstr(path, "__") != NULL;
	}
	closedir(dir);
	return n;
}

static void
overwrite(const char *path, off_t at, const void *bytes, size_t len)
{
	int fd = open(path, O_WRONLY);

	assert_int_equal(pwrite(fd, bytes, len, at), len);
	close(fd);
}

/*
 * What a manifest knows of files is enough to have them in a map.  A file that
 * is damaged, missing or another one is an error of the reads that need it, each
 * time, and of no others; once it is mended they go on.
 */
static void
test_damaged_at_first_use(void **state)
{
	enum
	{
		GOOD,
		DAMAGED,
		MISSING,
		OTHER,
		NFILES
	};
	LayerInfo infos[NFILES];
	Layer *layers[NFILES];
	char paths[NFILES][1024];
	char moved[1100];
	char first[8];
	LayerMap *map;
	int fd;

	for (int i = 0; i < NFILES; i++)
	{
		char name[LAYER_NAME_MAX];

		layers[i] = write_delta(i, 0);
		infos[i] = *layer_info(layers[i]);
		snprintf(paths[i], sizeof(paths[i]), "%s/%s", test_dir, layer_name(layers[i], name));
		layer_unref(layers[i]);
	}
	assert_int_equal(layer_count_open(), 0);
	fd = open(paths[DAMAGED], O_RDONLY);
	assert_int_equal(pread(fd, first, sizeof(first), 60), sizeof(first));
	close(fd);
	overwrite(paths[DAMAGED], 60, "damaged!", 8);
	snprintf(moved, sizeof(moved), "%s.moved", paths[MISSING]);
	assert_int_equal(rename(paths[MISSING], moved), 0);
	infos[OTHER].entries++;

	for (int i = 0; i < NFILES; i++)
		layers[i] = layer_new(&test_space, &infos[i]);
	map = layer_map_create(layers, NFILES);
	for (int i = 0; i < NFILES; i++)
		layer_unref(layers[i]);
	assert_int_equal(layer_count_open(), 0);
	for (int i = 0; i < 3; i++)
	{
		check_block_fails(map, DAMAGED * KEYS_PER_PART, PS_SQLSTATE_CORRUPTED, paths[DAMAGED]);
		check_block_fails(map, DAMAGED * KEYS_PER_PART, PS_SQLSTATE_CORRUPTED, "at offset 0: checksum of the summary");
		check_block_fails(map, MISSING * KEYS_PER_PART, PS_SQLSTATE_IO, paths[MISSING]);
		check_block_fails(map, OTHER * KEYS_PER_PART, PS_SQLSTATE_CORRUPTED, "by the manifest level 0, 21 entries");
		check_block(map, GOOD * KEYS_PER_PART, 1);
		assert_int_equal(layer_count_open(), 1);
		assert_int_equal(count_descriptors(), 1);
	}
	overwrite(paths[DAMAGED], 60, first, sizeof(first));
	assert_int_equal(rename(moved, paths[MISSING]), 0);
	check_block(map, DAMAGED * KEYS_PER_PART, 1);
	check_block(map, MISSING * KEYS_PER_PART, 1);
	layer_map_unref(map);
	assert_int_equal(layer_count_open(), 0);
	count_files(test_dir, true);
}

/*
 * A removed file stays until the last map that has it is freed, even if it was never opened or had been closed; then
 * it is deleted.
 */
static void
test_removed_files_are_readable(void **state)
{
	Layer *layers[3 * BOUND];
	LayerMap *old;
	LayerMap *map;

	layer_set_max_open(BOUND);
	for (int i = 0; i < lengthof(layers); i++)
		layers[i] = write_delta(i, 0);
	old = layer_map_create(layers, lengthof(layers));
	map = layer_map_change(old, NULL, 0, layers, lengthof(layers) - 1);
	for (int i = 0; i < lengthof(layers); i++)
	{
		if (i < lengthof(layers) - 1)
			layer_remove(layers[i]);
		layer_unref(layers[i]);
	}
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < lengthof(layers); i++)
			check_block(old, i * KEYS_PER_PART + round, 1);
	assert_int_equal(count_files(test_dir, false), lengthof(layers));
	assert_true(layer_count_open() <= BOUND);
	layer_map_unref(old);
	assert_int_equal(count_files(test_dir, false), 1);
	check_block(map, (lengthof(layers) - 1) * KEYS_PER_PART, 1);
	layer_map_unref(map);
	assert_int_equal(count_files(test_dir, true), 1);
	assert_int_equal(layer_count_open(), 0);
}

/* Who needs more files at a time than may be open gets them; afterwards the bound holds again. */
static void
test_all_in_use(void **state)
{
	Layer *layers[3 * BOUND];
	ValueRef refs[3 * BOUND];
	int fds[3 * BOUND];

	layer_set_max_open(BOUND);
	for (int i = 0; i < lengthof(layers); i++)
	{
		PsKey key = block(i * KEYS_PER_PART);
		ValueList list = {0};
		bool done;

		layers[i] = write_delta(i, 0);
		assert_ok(layer_collect(layers[i], &key, 0, PG_UINT64_MAX, &list, &done));
		assert_int_equal(list.n, 1);
		refs[i] = list.refs[0];
		free(list.refs);
	}
	assert_int_equal(count_descriptors(), BOUND);
	for (int i = 0; i < lengthof(layers); i++)
	{
		size_t len;

		assert_ok(layer_value_place(&refs[i], &fds[i], &len));
	}
	assert_int_equal(count_descriptors(), lengthof(layers));
	for (int i = 0; i < lengthof(layers); i++)
	{
		assert_true(fcntl(fds[i], F_GETFD) >= 0);
		layer_value_release(&refs[i]);
	}
	assert_int_equal(count_descriptors(), BOUND);
	for (int i = 0; i < lengthof(layers); i++)
		layer_unref(layers[i]);
	assert_int_equal(count_descriptors(), 0);
	count_files(test_dir, true);
}

/* When the process has no descriptors left, those of files that are not in use are taken. */
static void
test_no_descriptors_left(void **state)
{
	Layer *layers[3 * BOUND];
	LayerMap *map;
	struct rlimit was;
	struct rlimit limit;
	int other;

	layer_set_max_open(1000);
	for (int i = 0; i < lengthof(layers); i++)
		layers[i] = write_delta(i, 0);
	map = layer_map_create(layers, lengthof(layers));
	for (int i = 0; i < lengthof(layers); i++)
		layer_unref(layers[i]);
	assert_int_equal(layer_count_open(), lengthof(layers));
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	limit = was;
	other = open("/dev/null", O_RDONLY);
	limit.rlim_cur = other;
	close(other);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);

	/* one is closed, and its descriptor goes to somebody else */
	assert_true(layer_close_unused());
	other = open("/dev/null", O_RDONLY);
	assert_true(other >= 0);
	assert_int_equal(open("/dev/null", O_RDONLY), -1);
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < lengthof(layers); i++)
			check_block(map, i * KEYS_PER_PART + round, 1);
	assert_int_equal(layer_count_open(), lengthof(layers) - 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	close(other);
	layer_map_unref(map);
	assert_int_equal(layer_count_open(), 0);
	count_files(test_dir, true);
}

/* ---- hundreds of files, readers, and merges that replace them ---- */
#define PARTS       60
#define GENERATIONS 6

typedef struct Shared
{
	pthread_mutex_t lock; /* for the pointer, and for taking a reference to what it points to */
	LayerMap *map;
	bool stop;
	uint64 seed;
} Shared;

typedef struct ReaderResult
{
	uint64 reads;
	uint64 wrong;
	PsError *err;
} ReaderResult;

static LayerMap *
get_map(Shared *shared, bool *stop)
{
	LayerMap *map;

	pthread_mutex_lock(&shared->lock);
	map = layer_map_ref(shared->map);
	*stop = shared->stop;
	pthread_mutex_unlock(&shared->lock);
	return map;
}

static PsError *
count_version(void *arg, const PsKey *key, const ValueRef *ref)
{
	++*(int *) arg;
	return NULL;
}

/* Whatever is merged meanwhile, each block has all its versions, looked up one by one, and is there in a scan. */
static void *
read_blocks(void *arg)
{
	Shared *shared = arg;
	ReaderResult *result = pg_malloc0(sizeof(ReaderResult));
	uint64 random;

	pthread_mutex_lock(&shared->lock);
	random = shared->seed++;
	pthread_mutex_unlock(&shared->lock);
	for (bool stop = false; !stop && result->err == NULL;)
	{
		LayerMap *map = get_map(shared, &stop);
		uint32 blk = (uint32) (layer_random(&random) % (PARTS * KEYS_PER_PART));
		PsKey lo = block(blk);
		PsKey hi = block(blk + 30);
		int scanned = 0;
		int n;
		int wrong;

		for (int i = 0; i < 10 && result->err == NULL; i++)
		{
			uint32 at = (blk + i * 7919) % (PARTS * KEYS_PER_PART);

			result->err = read_block(map, at, &n, &wrong);
			if (result->err == NULL)
				result->wrong += wrong + (n != GENERATIONS);
			result->reads++;
		}
		if (result->err == NULL)
			result->err = layer_map_scan(map, &lo, &hi, PG_UINT64_MAX, count_version, &scanned);
		if (result->err == NULL)
			result->wrong += scanned != Min(31, PARTS * KEYS_PER_PART - (int) blk);
		layer_map_unref(map);
	}
	return result;
}

/* All files of a part, and of the next, become one. */
static PsError *
merge_part(Shared *shared, int part)
{
	bool stop;
	LayerMap *map = get_map(shared, &stop);
	PsKey lo = block(part * KEYS_PER_PART);
	PsKey hi = block(Min(part + 2, PARTS) * KEYS_PER_PART - 1);
	Layer **found;
	int n = layer_map_find(map, &lo, &hi, 0, PG_UINT64_MAX, &found);
	static Layer *inputs[PARTS * GENERATIONS];
	int ninputs = 0;
	LayerMerge *merge = NULL;
	DeltaWriter *writer = NULL;
	Layer *made = NULL;
	static PsKey keys[2 * KEYS_PER_PART * GENERATIONS];
	static ValueRef refs[2 * KEYS_PER_PART * GENERATIONS];
	static uint64 offsets[2 * KEYS_PER_PART * GENERATIONS];
	int nrefs = 0;
	bool more = true;
	PsError *err;

	/* those that reach beyond stay as they are */
	for (int i = 0; i < n; i++)
		if (ps_key_cmp(&layer_info(found[i])->key_min, &lo) >= 0 &&
			ps_key_cmp(&layer_info(found[i])->key_max, &hi) <= 0)
			inputs[ninputs++] = found[i];
	free(found);
	PS_GOTO(layer_merge_open(inputs, ninputs, &lo, &hi, &merge), done);
	PS_GOTO(delta_writer_create(&test_space, 1, FIRST_LSN, FIRST_LSN + GENERATIONS, &writer), done);
	for (;;)
	{
		PS_GOTO(layer_merge_next(merge, &keys[nrefs], &refs[nrefs], &more), done);
		if (!more)
			break;
		PS_GOTO(delta_writer_copy(writer, &refs[nrefs], &offsets[nrefs]), done);
		nrefs++;
	}
	for (int i = 0; i < nrefs; i++)
		PS_GOTO(delta_writer_add(writer, &keys[i], refs[i].lsn, VALUE_RECORD, false, false, offsets[i]), done);
	err = delta_writer_finish(writer, &made);
	if (err == NULL)
	{
		LayerMap *changed = layer_map_change(map, &made, 1, inputs, ninputs);
		LayerMap *old;

		writer = NULL;
		pthread_mutex_lock(&shared->lock);
		old = shared->map;
		shared->map = changed;
		pthread_mutex_unlock(&shared->lock);
		layer_map_unref(old);
		for (int i = 0; i < ninputs; i++)
			layer_remove(inputs[i]);
	}
done:
	layer_merge_close(merge);
	delta_writer_abort(writer);
	layer_unref(made);
	layer_map_unref(map);
	return err;
}

static void
test_bound_under_load(void **state)
{
	const char *given = getenv("FILES_SEED");
	Shared shared = {.seed = given != NULL ? strtoull(given, NULL, 10) : (uint64) time(NULL)};
	static Layer *layers[PARTS * GENERATIONS];
	pthread_t threads[4];
	uint64 random = shared.seed;
	int most = 0;
	bool stop;
	LayerMap *map;
	int nfiles;

	print_message("seed %llu\n", (unsigned long long) shared.seed);
	pthread_mutex_init(&shared.lock, NULL);
	layer_set_max_open(BOUND);
	for (int i = 0; i < PARTS * GENERATIONS; i++)
		layers[i] = write_delta(i / GENERATIONS, i % GENERATIONS);
	assert_int_equal(count_descriptors(), BOUND);
	shared.map = layer_map_create(layers, PARTS * GENERATIONS);
	for (int i = 0; i < PARTS * GENERATIONS; i++)
		layer_unref(layers[i]);
	for (int i = 0; i < lengthof(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_blocks, &shared), 0);
	/* each thread uses one file at a time, so the bound is never exceeded */
	for (int round = 0; round < 3 * PARTS; round++)
	{
		assert_ok(merge_part(&shared, (int) (layer_random(&random) % PARTS)));
		most = Max(most, count_descriptors());
	}
	pthread_mutex_lock(&shared.lock);
	shared.stop = true;
	pthread_mutex_unlock(&shared.lock);
	for (int i = 0; i < lengthof(threads); i++)
	{
		void *returned;
		ReaderResult *result;

		pthread_join(threads[i], &returned);
		result = returned;
		assert_ok(result->err);
		assert_int_equal(result->wrong, 0);
		assert_true(result->reads > 0);
		free(result);
	}
	assert_true(most <= BOUND);
	map = get_map(&shared, &stop);
	nfiles = layer_map_count(map);
	assert_true(nfiles < PARTS * GENERATIONS / 2);
	for (uint32 blk = 0; blk < PARTS * KEYS_PER_PART; blk++)
		check_block(map, blk, GENERATIONS);
	layer_map_unref(map);
	layer_map_unref(shared.map);
	pthread_mutex_destroy(&shared.lock);
	assert_int_equal(layer_count_open(), 0);
	assert_int_equal(count_files(test_dir, true), nfiles);
}

/* A name tells what it was made of, and nothing else is a name. */
static void
test_names(void **state)
{
	LayerInfo info = {.type = LAYER_DELTA,
					  .key_min = block(5),
					  .key_max = {255, 255, ~0, ~0, ~0, ~0},
					  .lsn_start = 7,
					  .lsn_end = PG_UINT64_MAX,
					  .number = PG_UINT64_MAX};
	LayerInfo back;
	char name[LAYER_NAME_MAX];

	for (int image = 0; image < 2; image++)
	{
		if (image)
		{
			info.type = LAYER_IMAGE;
			info.lsn_end = info.lsn_start + 1;
		}
		layer_name_format(&info, name);
		assert_true(layer_name_parse(name, &back));
		assert_true(back.type == info.type && back.lsn_start == info.lsn_start && back.lsn_end == info.lsn_end &&
					back.number == info.number && ps_key_cmp(&back.key_min, &info.key_min) == 0 &&
					ps_key_cmp(&back.key_max, &info.key_max) == 0);
		for (size_t len = strlen(name), i = 0; i < len; i++)
		{
			char was = name[i];

			for (const char *other = "gA-_ +0"; *other != '\0'; other++)
			{
				char again[LAYER_NAME_MAX];

				name[i] = *other;
				if (layer_name_parse(name, &back))
					assert_string_equal(layer_name_format(&back, again), name);
				else
					assert_true(*other != was);
			}
			name[i] = '\0';
			if (i < len - 16)
				assert_false(layer_name_parse(name, &back));
			name[i] = was;
		}
	}
	assert_false(layer_name_parse("", &back));
	assert_false(layer_name_parse("..", &back));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_damaged_at_first_use),
		cmocka_unit_test(test_removed_files_are_readable),
		cmocka_unit_test(test_all_in_use),
		cmocka_unit_test(test_no_descriptors_left),
		cmocka_unit_test(test_bound_under_load),
	};

	return cmocka_run_group_tests(tests, make_test_dir, remove_test_dir);
}
