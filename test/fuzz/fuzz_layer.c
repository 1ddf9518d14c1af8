/*
 * fuzz_layer.c
 *	  Fuzzes what reads layer files: summary, index, values.
 *
 * Most of a small file is zeros, so an input leaves them out:
 *
 *	  u8	bit 0: the file ends early, by as many bytes as the next u16 says;
 *			bit 1: the sizes and offsets in the summary are left as they are,
 *			else they are made to fit
 *	  u16	and so many bytes of the summary
 *	  u16	and so many bytes of values
 *	  u16	and so many bytes of an index page, again and again
 */
#include "ps_fe.h"

#include <unistd.h>

#include "fuzz.h"
#include "layer/layer_impl.h"
#include "bytes.h"

#define MAX_PAGES 40

static const PsId test_tenant = {{0x11, 0x22, 0x33}};
static const PsId test_timeline = {{0x44, 0x55, 0x66}};
static const char *dir;
static LayerSpace space;

/* So many bytes, and zeros up to the end of a block. */
static void
put_part(StringInfo file, FuzzInput *in, size_t n)
{
	size_t from = file->len;

	n = Min(n, in->size);
	appendBinaryStringInfo(file, (const char *) in->data, (int) n);
	in->data += n;
	in->size -= n;
	while (file->len % LAYER_BLOCK_SIZE != 0 || file->len == from)
		appendStringInfoChar(file, '\0');
}

/* The summary, or an index page. */
static void
put_block(StringInfo file, FuzzInput *in)
{
	uint16 n = fuzz_u16(in);

	put_part(file, in, Min(n, LAYER_BLOCK_SIZE));
}

/* The file's bytes. */
static void
make_file(StringInfo file, FuzzInput *in)
{
	uint8 flags = fuzz_u8(in);
	uint16 cut = (flags & 1) != 0 ? fuzz_u16(in) : 0;
	uint16 nvalues;
	uint32 npages = 0;

	put_block(file, in);
	nvalues = fuzz_u16(in);
	nvalues = Min(nvalues, in->size);
	if (nvalues > 0)
		put_part(file, in, nvalues);
	if ((flags & 2) == 0)
	{
		ps_put64((uint8 *) file->data + SUMMARY_VALUES_END, LAYER_BLOCK_SIZE + nvalues);
		ps_put64((uint8 *) file->data + SUMMARY_INDEX_START, file->len);
	}
	for (; in->size > 0 && npages < MAX_PAGES; npages++)
		put_block(file, in);
	if ((flags & 2) == 0)
	{
		ps_put32((uint8 *) file->data + SUMMARY_INDEX_PAGES, npages);
		ps_put64((uint8 *) file->data + SUMMARY_FILE_SIZE, file->len);
	}
	file->len -= Min(cut, file->len);
}

/* The name that the summary asks for: a file of another name is refused. */
static void
make_name(const uint8 *block, char name[LAYER_NAME_MAX])
{
	LayerInfo info = {.type = memcmp(block, LAYER_IMAGE_MAGIC, LAYER_MAGIC_SIZE) == 0 ? LAYER_IMAGE : LAYER_DELTA};

	ps_key_decode(block + SUMMARY_KEY_MIN, &info.key_min);
	ps_key_decode(block + SUMMARY_KEY_MAX, &info.key_max);
	info.lsn_start = ps_get64(block + SUMMARY_LSN_START);
	info.lsn_end = ps_get64(block + SUMMARY_LSN_END);
	info.number = ps_get64(block + SUMMARY_NUMBER);
	layer_name_format(&info, name);
}

typedef struct Scan
{
	Layer *layer;
	int versions;
	PsKey last;
} Scan;

static PsError *
see_version(void *arg, const PsKey *key, const ValueRef *ref)
{
	Scan *scan = arg;
	StringInfoData value;
	XLogRecPtr start;
	ValueList list = {0};
	bool done;

	scan->last = *key;
	if (scan->versions++ > 200)
		return NULL;
	REQUIRE(ref->place == VALUE_IN_LAYER && ref->layer == scan->layer);
	/* a new one for each, which has no more room than is asked for */
	initStringInfo(&value);
	if (fuzz_result(layer_read_value(ref, &value, &start)))
		fuzz_touch(value.data, value.len);
	pfree(value.data);
	if (fuzz_result(layer_collect(scan->layer, key, 0, ref->lsn, &list, &done)) && list.n > 0)
		REQUIRE(list.refs[0].lsn <= ref->lsn);
	free(list.refs);
	return NULL;
}

static void
read_layer(Layer *layer, FuzzInput *rest)
{
	const LayerInfo *info = layer_info(layer);
	PsKey lo = {0};
	PsKey hi = ps_key_last();
	Scan scan = {.layer = layer};
	LayerMap *map;
	ValueList list = {0};
	bool done;

	REQUIRE(info->lsn_start < info->lsn_end);
	fuzz_result(layer_scan(layer, &lo, &hi, PG_UINT64_MAX, see_version, &scan));
	fuzz_result(layer_scan(layer, &info->key_max, &hi, info->lsn_start, see_version, &scan));
	fuzz_result(layer_collect(layer, &info->key_min, 0, PG_UINT64_MAX, &list, &done));
	fuzz_result(layer_collect(layer, &hi, 0, PG_UINT64_MAX, &list, &done));
	fuzz_result(layer_collect(layer, &lo, 0, PG_UINT64_MAX, &list, &done));

	/* as store/open.c uses it */
	map = layer_map_create(&layer, 1);
	list.n = 0;
	done = false;
	fuzz_result(layer_map_collect(map, &scan.last, 0, info->lsn_end, &list, &done));
	fuzz_result(layer_map_scan(map, &lo, &hi, info->lsn_end, see_version, &scan));
	layer_map_unref(map);
	free(list.refs);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	fuzz_begin();
	dir = fuzz_dir();
	space = (LayerSpace) {.dir = (char *) dir, .tenant = test_tenant, .timeline = test_timeline};
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	FuzzInput in = {data, size};
	StringInfoData file;
	char name[LAYER_NAME_MAX];
	char path[512];
	Layer *layer;

	initStringInfo(&file);
	make_file(&file, &in);
	make_name((uint8 *) file.data, name);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fuzz_write_file(path, file.data, file.len);
	pfree(file.data);
	if (fuzz_result(layer_open(&space, name, &layer)))
	{
		read_layer(layer, &in);
		layer_unref(layer);
	}
	unlink(path);
	return 0;
}
