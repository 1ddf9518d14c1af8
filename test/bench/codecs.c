/*
 * codecs.c
 *	  Measures the compression of values, on layer files of a real store:
 *
 *		codecs [NAME=TABLESPACE/DATABASE/RELFILENODE ...] -- LAYER_FILE ...
 *
 * Page images are grouped by relation (all unnamed relations together), WAL
 * records by length.  Each group is measured uncompressed, with lz4, with zstd,
 * and with zstd and a dictionary for each file.  Printed are the compression
 * ratio and the microseconds of CPU time to compress and to decompress a value.
 * The ratio includes the dictionary and the few additional bytes in the header
 * of a compressed value; a value that does not become shorter by an eighth
 * stays uncompressed.  Contexts are reused, as in blob.c.  "none" is the
 * checksum and a copy.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <lz4.h>
#include <time.h>
#include <unistd.h>
#include <zdict.h>
#include <zstd.h>

#include "layer/blob.h"
#include "port/pg_crc32c.h"

/* The values of a group in one file are measured up to this number of raw bytes. */
#define GROUP_LIMIT (48 * 1024 * 1024)

/* Training needs samples of about a hundred times the size of the dictionary. */
#define TRAIN_RATIO 100

typedef enum Method
{
	NONE,
	LZ4,
	ZSTD,
	ZSTD3,
	DICT_4K,
	DICT_16K,
	DICT_64K,
	NMETHODS
} Method;

static const char *const method_names[NMETHODS] = {
	"none", "lz4", "zstd 1", "zstd 3", "dict 4k", "dict 16k", "dict 64k"};
static const size_t dict_sizes[NMETHODS] = {[DICT_4K] = 4096, [DICT_16K] = 16384, [DICT_64K] = 65536};

typedef struct Value
{
	char *data;
	uint32 len;
	int group;
} Value;

/* Values that are measured together: pages of a relation, or records of similar length. */
typedef struct Group
{
	char name[64];
	bool is_record;
	PsRel rel;
	uint32 len_below; /* for records */
	uint64 values;
	uint64 raw;
	uint64 stored[NMETHODS];
	double in[NMETHODS]; /* seconds */
	double out[NMETHODS];
} Group;

#define MAX_GROUPS 64
static Group groups[MAX_GROUPS];
static int ngroups;
static const uint32 record_lengths[] = {64, 96, 128, 256, 512, 1024, 4096, PG_UINT32_MAX};

/* One file's values. */
static Value *values;
static int nvalues;
static int values_cap;
static uint64 *seen; /* offsets of shared values */
static int nseen;
static int seen_cap;
static uint64 file_raw[MAX_GROUPS];

static ZSTD_CCtx *cctx;
static ZSTD_DCtx *dctx;
static void *lz4;

/* For all files: time to create dictionaries, and their bytes. */
static double train_time[NMETHODS];
static int trained[NMETHODS];
static uint64 dict_bytes[2][NMETHODS];
static uint64 file_bytes[2];

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void
ok(PsError *err)
{
	if (err == NULL)
		return;
	fprintf(stderr, "%s\n", err->message);
	exit(1);
}

static int
group_of(const PsKey *key, const ValueRef *ref, uint32 len)
{
	for (int i = 0; i < ngroups; i++)
	{
		const Group *g = &groups[i];
		bool is_rel = g->rel.spc == key->spc && g->rel.db == key->db && g->rel.rel == key->rel;

		if (g->is_record != (ref->kind == VALUE_RECORD))
			continue;
		if (g->is_record ? len < g->len_below : g->rel.rel == 0 || is_rel)
			return i;
	}
	return -1;
}

static int
compare_offsets(const void *a, const void *b)
{
	uint64 x = *(const uint64 *) a;
	uint64 y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

/* Collects the offsets of shared values before the values are read, so that each is used once. */
static PsError *
note_shared(void *arg, const PsKey *key, const ValueRef *ref)
{
	if (!ref->shared)
		return NULL;
	if (nseen == seen_cap)
	{
		seen_cap = Max(1024, seen_cap * 2);
		seen = pg_realloc(seen, seen_cap * sizeof(uint64));
	}
	seen[nseen++] = ref->at.offset;
	return NULL;
}

static PsError *
take_value(void *arg, const PsKey *key, const ValueRef *ref)
{
	StringInfo buf = arg;
	XLogRecPtr start;
	int group;

	if (ref->kind == VALUE_TOMBSTONE || (ref->kind == VALUE_IMAGE && key->kind != PS_KEY_RELBLOCK))
		return NULL;
	if (ref->shared)
	{
		uint64 *at = bsearch(&ref->at.offset, seen, nseen, sizeof(uint64), compare_offsets);

		/* a used offset is marked by its lowest bit, so that it is not found again */
		if (at == NULL)
			return NULL;
		*at |= 1;
	}
	PS_TRY(layer_read_value(ref, buf, &start));
	group = group_of(key, ref, buf->len);
	if (group < 0 || file_raw[group] + buf->len > GROUP_LIMIT || buf->len == 0)
		return NULL;
	file_raw[group] += buf->len;
	if (nvalues == values_cap)
	{
		values_cap = Max(65536, values_cap * 2);
		values = pg_realloc(values, values_cap * sizeof(Value));
	}
	values[nvalues] = (Value) {.data = pg_malloc(buf->len), .len = buf->len, .group = group};
	memcpy(values[nvalues++].data, buf->data, buf->len);
	return NULL;
}

static void
read_file(const char *path)
{
	uint8 block[LAYER_BLOCK_SIZE];
	int fd = open(path, O_RDONLY);
	LayerSummary summary;
	LayerSpace space = {0};
	Layer *layer;
	PsKey lo = {0};
	PsKey hi = {.kind = 0xff};
	char *slash = strrchr(path, '/');
	StringInfoData buf;
	int n = 0;

	if (fd < 0 || slash == NULL || read(fd, block, sizeof(block)) != sizeof(block))
	{
		fprintf(stderr, "could not read \"%s\": %m\n", path);
		exit(1);
	}
	close(fd);
	ok(layer_summary_decode(path, block, &summary));
	space.dir = pnstrdup(path, slash - path);
	space.tenant = summary.tenant;
	space.timeline = summary.timeline;
	ok(layer_open(&space, slash + 1, &layer));
	initStringInfo(&buf);
	nvalues = nseen = 0;
	memset(file_raw, 0, sizeof(file_raw));
	ok(layer_scan(layer, &lo, &hi, PG_UINT64_MAX, note_shared, NULL));
	qsort(seen, nseen, sizeof(uint64), compare_offsets);
	for (int i = 0; i < nseen; i++)
		if (i == 0 || seen[i] != seen[n - 1])
			seen[n++] = seen[i];
	nseen = n;
	ok(layer_scan(layer, &lo, &hi, PG_UINT64_MAX, take_value, &buf));
	free(buf.data);
	file_bytes[summary.type == LAYER_DELTA] += summary.file_size;
	layer_unref(layer);
}

/* Creates a dictionary from every n-th value of one kind; returns 0 if there are too few. */
static size_t
train(bool is_record, size_t size, char *dict)
{
	size_t total = 0;
	size_t want = size * TRAIN_RATIO;
	size_t *sizes = pg_malloc(nvalues * sizeof(size_t));
	char *samples = pg_malloc(want + BLCKSZ);
	size_t used = 0;
	size_t skip = 0;
	unsigned n = 0;

	for (int i = 0; i < nvalues; i++)
		if (groups[values[i].group].is_record == is_record)
			total += values[i].len;
	for (int i = 0; i < nvalues; i++)
	{
		const Value *v = &values[i];
		size_t len = Min(v->len, BLCKSZ);

		if (groups[v->group].is_record != is_record)
			continue;
		/* samples are spread over the file */
		skip += v->len;
		if (used > (double) skip / total * want || used + len > want)
			continue;
		memcpy(samples + used, v->data, len);
		used += len;
		sizes[n++] = len;
	}
	size = n < 100 ? 0 : ZDICT_trainFromBuffer(dict, size, samples, sizes, n);
	if (ZDICT_isError(size))
		size = 0;
	free(samples);
	free(sizes);
	return size;
}

static size_t
compress(Method method, const Value *v, char *buf, size_t room)
{
	size_t n;

	if (method == NONE)
	{
		pg_crc32c crc;

		INIT_CRC32C(crc);
		COMP_CRC32C(crc, v->data, v->len);
		FIN_CRC32C(crc);
		memcpy(buf, v->data, v->len);
		return v->len + (crc == 0);
	}
	if (method == LZ4)
	{
		int len = LZ4_compress_fast_extState(lz4, v->data, buf, (int) v->len, (int) room, 1);

		return len > 0 ? len : 0;
	}
	n = ZSTD_compress2(cctx, buf, room, v->data, v->len);
	return ZSTD_isError(n) ? 0 : n;
}

/* Measures values of one kind with one method, whose contexts are set up; if not usable, values stay uncompressed. */
static void
measure(Method method, bool is_record, bool usable)
{
	static char *buf;
	static char *out;
	static size_t *sizes;
	static char **stored;

	buf = pg_realloc(buf, GROUP_LIMIT);
	out = pg_realloc(out, GROUP_LIMIT);
	sizes = pg_realloc(sizes, (nvalues + 1) * sizeof(size_t));
	stored = pg_realloc(stored, (nvalues + 1) * sizeof(char *));
	/* values of a group are adjacent in "values": the clock is read once for each run of them */
	for (int first = 0, end; first < nvalues; first = end)
	{
		Group *g = &groups[values[first].group];
		double t;

		for (end = first; end < nvalues && values[end].group == values[first].group; end++)
			;
		if (g->is_record != is_record)
			continue;
		if (!usable)
		{
			for (int i = first; i < end; i++)
				g->stored[method] += values[i].len;
			continue;
		}
		t = now();
		for (int i = first; i < end; i++)
			sizes[i] = compress(method, &values[i], buf, values[i].len - values[i].len / 8);
		g->in[method] += now() - t;
		for (int i = first; i < end; i++)
		{
			size_t n = compress(method, &values[i], buf, values[i].len - values[i].len / 8);
			bool pays = method != NONE && n > 0;

			stored[i] = NULL;
			g->stored[method] += pays ? n + 4 : values[i].len;
			if (pays)
			{
				stored[i] = pg_malloc(n);
				memcpy(stored[i], buf, n);
			}
		}
		t = now();
		for (int i = first; i < end; i++)
		{
			if (stored[i] == NULL)
				compress(NONE, &values[i], out, values[i].len);
			else if (method == LZ4)
				LZ4_decompress_safe(stored[i], out, (int) sizes[i], (int) values[i].len);
			else if (ZSTD_decompressDCtx(dctx, out, values[i].len, stored[i], sizes[i]) != values[i].len)
			{
				fprintf(stderr, "a value does not come back from %s\n", method_names[method]);
				exit(1);
			}
		}
		g->out[method] += now() - t;
		for (int i = first; i < end; i++)
			free(stored[i]);
	}
}

static int
by_group(const void *a, const void *b)
{
	const Value *x = a;
	const Value *y = b;

	return x->group != y->group ? x->group - y->group : x < y ? -1
															  : 1;
}

static void
measure_file(void)
{
	char *dict = pg_malloc(65536);

	qsort(values, nvalues, sizeof(Value), by_group);
	for (int i = 0; i < nvalues; i++)
	{
		groups[values[i].group].values++;
		groups[values[i].group].raw += values[i].len;
	}
	for (int method = 0; method < NMETHODS; method++)
	{
		ZSTD_CCtx_reset(cctx, ZSTD_reset_session_and_parameters);
		ZSTD_DCtx_reset(dctx, ZSTD_reset_session_and_parameters);
		ZSTD_CCtx_setParameter(cctx, ZSTD_c_compressionLevel, method == ZSTD3 ? 3 : 1);
		if (dict_sizes[method] > 0)
		{
			ZSTD_CCtx_setParameter(cctx, ZSTD_c_contentSizeFlag, 0);
			ZSTD_CCtx_setParameter(cctx, ZSTD_c_dictIDFlag, 0);
			/* ZSTD_c_format and ZSTD_d_format: ZSTD_f_zstd1_magicless */
			ZSTD_CCtx_setParameter(cctx, ZSTD_c_experimentalParam2, 1);
			ZSTD_DCtx_setParameter(dctx, ZSTD_d_experimentalParam1, 1);
		}
		for (int is_record = 0; is_record < 2; is_record++)
		{
			double t = now();
			size_t size = dict_sizes[method] > 0 ? train(is_record, dict_sizes[method], dict) : 0;
			ZSTD_CDict *cdict = NULL;
			ZSTD_DDict *ddict = NULL;

			if (size > 0)
			{
				train_time[method] += now() - t;
				trained[method]++;
				dict_bytes[is_record][method] += size;
				cdict = ZSTD_createCDict(dict, size, 1);
				ddict = ZSTD_createDDict(dict, size);
				ZSTD_CCtx_refCDict(cctx, cdict);
				ZSTD_DCtx_refDDict(dctx, ddict);
			}
			measure(method, is_record, dict_sizes[method] == 0 || size > 0);
			ZSTD_CCtx_refCDict(cctx, NULL);
			ZSTD_DCtx_refDDict(dctx, NULL);
			ZSTD_freeCDict(cdict);
			ZSTD_freeDDict(ddict);
		}
	}
	for (int i = 0; i < nvalues; i++)
		free(values[i].data);
	free(dict);
}

static void
print_row(const Group *g)
{
	printf("| %s | %llu | %.0f |", g->name, (unsigned long long) g->values, (double) g->raw / g->values);
	for (int m = 0; m < NMETHODS; m++)
		printf(" %.2f, %.2f, %.2f |", (double) g->raw / g->stored[m], g->in[m] / g->values * 1e6,
			   g->out[m] / g->values * 1e6);
	printf("\n");
}

int
main(int argc, char **argv)
{
	int arg = 1;

	for (; arg < argc && strcmp(argv[arg], "--") != 0; arg++)
	{
		Group *g = &groups[ngroups++];
		char *eq = strchr(argv[arg], '=');

		if (eq == NULL || ngroups > MAX_GROUPS - 16 ||
			sscanf(eq + 1, "%u/%u/%u", &g->rel.spc, &g->rel.db, &g->rel.rel) != 3)
		{
			fprintf(stderr, "NAME=TABLESPACE/DATABASE/RELFILENODE is expected, not \"%s\"\n", argv[arg]);
			return 1;
		}
		*eq = '\0';
		snprintf(g->name, sizeof(g->name), "pages of %s", argv[arg]);
	}
	snprintf(groups[ngroups++].name, sizeof(groups[0].name), "other pages");
	for (int i = 0; i < lengthof(record_lengths); i++)
	{
		Group *g = &groups[ngroups++];

		g->is_record = true;
		g->len_below = record_lengths[i];
		if (record_lengths[i] == PG_UINT32_MAX)
			snprintf(g->name, sizeof(g->name), "records, longer");
		else
			snprintf(g->name, sizeof(g->name), "records below %u", record_lengths[i]);
	}
	cctx = ZSTD_createCCtx();
	dctx = ZSTD_createDCtx();
	lz4 = pg_malloc(LZ4_sizeofState());
	for (arg++; arg < argc; arg++)
	{
		read_file(argv[arg]);
		measure_file();
	}

	printf("Ratio, microseconds in, microseconds out; of one value.\n\n| values of | number | mean bytes |");
	for (int m = 0; m < NMETHODS; m++)
		printf(" %s |", method_names[m]);
	printf("\n|---|---|---|");
	for (int m = 0; m < NMETHODS; m++)
		printf("---|");
	printf("\n");
	for (int is_record = 0; is_record < 2; is_record++)
	{
		Group all = {.name = "all pages"};

		if (is_record)
			strcpy(all.name, "all records");
		for (int i = 0; i < ngroups; i++)
		{
			const Group *g = &groups[i];

			if (g->is_record != is_record || g->values == 0)
				continue;
			print_row(g);
			all.values += g->values;
			all.raw += g->raw;
			for (int m = 0; m < NMETHODS; m++)
			{
				all.stored[m] += g->stored[m];
				all.in[m] += g->in[m];
				all.out[m] += g->out[m];
			}
		}
		for (int m = 0; m < NMETHODS; m++)
			all.stored[m] += dict_bytes[is_record][m];
		if (all.values > 0)
			print_row(&all);
	}
	printf("\nDictionaries (counted in the rows of all):");
	for (int m = 0; m < NMETHODS; m++)
		if (trained[m] > 0)
			printf(" %s: %.0f ms to make one;", method_names[m], train_time[m] / trained[m] * 1e3);
	printf("\nFiles: %llu bytes of image files, %llu of delta files\n", (unsigned long long) file_bytes[0],
		   (unsigned long long) file_bytes[1]);
	return 0;
}
