/*
 * seeds.c
 *	  Makes seeds of the fuzzers out of a store that was shut down:
 *
 *		seeds STORE CORPUS
 *
 * WAL records, one of each kind, and layers of some of their values, are taken
 * from the store's branch; the small files as they are.  Checksums become 0
 * (fuzz.h).  See make_seeds.
 */
#include "wal_gen.h"

#include <dirent.h>
#include <sys/stat.h>

#include "backup/backup_impl.h"
#include "base/config.h"
#include "fuzz.h"
#include "layer/layer_dict.h"
#include "layer/layer_impl.h"
#include "bytes.h"
#include "pg/control.h"
#include "wal/reader.h"
#include "wire.h"
#include "redo_proto.h"
#include "serve/commands.h"
#include "timeline/engine.h"

/* A record larger than this is no seed. */
#define MAX_RECORD 700

static const PsId test_tenant = {{0x11, 0x22, 0x33}};
static const PsId test_timeline = {{0x44, 0x55, 0x66}};
static const char *corpus;
static char layers_dir[] = "/tmp/pageserver_seeds.XXXXXX";

static void
put(StringInfo seed, const void *data, size_t len)
{
	appendBinaryStringInfo(seed, data, (int) len);
}

static void
put_u8(StringInfo seed, uint8 v)
{
	put(seed, &v, 1);
}

static void
put_u16(StringInfo seed, uint16 v)
{
	put(seed, &v, 2);
}

static void
write_seed(const char *fuzzer, const char *name, const StringInfo seed)
{
	char path[1024];

	snprintf(path, sizeof(path), "%s/%s/real.%s", corpus, fuzzer, name);
	fuzz_write_file(path, seed->data, seed->len);
}

static char *
read_file(const char *path, size_t *len)
{
	FILE *f = fopen(path, "r");
	char *data = malloc(1024 * 1024);

	REQUIRE(f != NULL);
	*len = fread(data, 1, 1024 * 1024 - 1, f);
	data[*len] = '\0';
	fclose(f);
	return data;
}

/* The only entry of a directory. */
static char *
only_entry(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *de;
	char *path = NULL;

	REQUIRE(d != NULL);
	while ((de = readdir(d)) != NULL)
		if (de->d_name[0] != '.')
			path = psprintf("%s/%s", dir, de->d_name);
	closedir(d);
	REQUIRE(path != NULL);
	return path;
}

/* ---- WAL ---- */

static void
put_record(StringInfo seed, const WalRecord *rec)
{
	const XLogRecord *hdr = (const XLogRecord *) rec->data;

	put_u8(seed, hdr->xl_rmid);
	put_u8(seed, hdr->xl_info);
	put(seed, &hdr->xl_xid, 4);
	put_u16(seed, (uint16) (rec->len - SizeOfXLogRecord));
	put(seed, rec->data + SizeOfXLogRecord, rec->len - SizeOfXLogRecord);
}

/* The smallest record of each resource manager and info, and of sets of flags in block headers. */
static void
wal_seeds(const char *timeline_dir, const Manifest *m, const WalState *state)
{
	char *wal_dir = psprintf("%s/wal", timeline_dir);
	static WalRecord smallest[RM_MAX_BUILTIN_ID + 1][256];
	WalSegments *segs;
	WalReader *reader;
	WalRecord rec;
	bool found;
	XLogSegNo oldest;
	XLogSegNo newest;
	StringInfoData seed;
	StringInfoData stream;
	char *page = malloc(XLOG_BLCKSZ);

	MUST(wal_segments_open(wal_dir, m->segment_size, &segs));
	wal_segments_range(segs, &oldest, &newest);
	reader = wal_reader_create(segs, state->end, state->prev, m->system_identifier);
	for (;;)
	{
		const XLogRecord *hdr;
		WalRecord *best;
		PsError *err = wal_reader_next(reader, (newest + 1) * (uint64) m->segment_size, &rec, &found);

		if (err != NULL || !found)
		{
			/* zeros behind the end */
			ps_error_free(err);
			break;
		}
		hdr = (const XLogRecord *) rec.data;
		best = &smallest[hdr->xl_rmid][hdr->xl_info];
		if (rec.len > MAX_RECORD || (best->data != NULL && best->len <= rec.len))
			continue;
		*best = rec;
		best->data = malloc(rec.len);
		memcpy((char *) best->data, rec.data, rec.len);
	}
	wal_reader_free(reader);

	initStringInfo(&seed);
	initStringInfo(&stream);
	put_u8(&stream, 1);
	put_u16(&stream, 7);
	put_u8(&stream, 5);
	put_u8(&stream, 0);
	put_u8(&stream, 1);
	for (int rmid = 0; rmid <= RM_MAX_BUILTIN_ID; rmid++)
	{
		char name[32];
		int n = 0;

		resetStringInfo(&seed);
		put_u8(&seed, 0);
		put_u8(&seed, 1);
		for (int info = 0; info < 256; info++)
		{
			if (smallest[rmid][info].data == NULL)
				continue;
			put_record(&seed, &smallest[rmid][info]);
			if (n++ < 3 && smallest[rmid][info].len < 300)
				put_record(&stream, &smallest[rmid][info]);
		}
		snprintf(name, sizeof(name), "rmgr%02d", rmid);
		if (n > 0)
			write_seed("fuzz_wal", name, &seed);
	}
	write_seed("fuzz_wal", "stream", &stream);

	/* a record that is longer than all that is kept ready for one */
	{
		char body[6000] = {(char) XLR_BLOCK_ID_DATA_LONG};
		uint32 main_len = sizeof(body) * 16 - 5;

		memcpy(body + 1, &main_len, sizeof(main_len));
		resetStringInfo(&seed);
		put(&seed, "\1\7\0\5\0\1", 6);
		put(&seed, "\25\0\0\0\0\0", 6);
		put_u16(&seed, 0x8000 | sizeof(body));
		put(&seed, body, sizeof(body));
		write_seed("fuzz_wal", "long", &seed);
	}

	/* the same as the port gets it, after "wal_push" */
	resetStringInfo(&seed);
	put(&seed, "\0\2\2", 3);
	for (int rmid = 0; rmid <= RM_MAX_BUILTIN_ID; rmid++)
		for (int info = 0; info < 256; info++)
			if (smallest[rmid][info].data != NULL && smallest[rmid][info].len < 200 && seed.len < 6000)
			{
				put_u8(&seed, 6);
				put_record(&seed, &smallest[rmid][info]);
			}
	put(&seed, "\11\2\1\3\0\0\3\0\0\0\3\1\2\3\4\11", 15);
	write_seed("fuzz_protocol", "records", &seed);

	resetStringInfo(&seed);
	put_u8(&seed, 3);
	wal_state_encode(state, &seed);
	ps_put32(seed.data + seed.len - 4, 0);
	write_seed("fuzz_wal", "state", &seed);

	/* one page of a segment as it is, but for the checksums of the records in it */
	resetStringInfo(&seed);
	put_u8(&seed, 2);
	put_u16(&seed, 7);
	put_u8(&seed, 2);
	MUST(wal_segments_read(segs, oldest * (uint64) m->segment_size, page, XLOG_BLCKSZ));
	((XLogLongPageHeader) page)->std.xlp_pageaddr = (XLogRecPtr) 7 * 1024 * 1024;
	((XLogLongPageHeader) page)->xlp_seg_size = 1024 * 1024;
	for (uint32 at = SizeOfXLogLongPHD; at + SizeOfXLogRecord < XLOG_BLCKSZ;)
	{
		XLogRecord *hdr = (XLogRecord *) (page + at);

		if (hdr->xl_tot_len < SizeOfXLogRecord || hdr->xl_tot_len > XLOG_BLCKSZ)
			break;
		hdr->xl_crc = 0;
		hdr->xl_prev = 0;
		at = MAXALIGN(at + hdr->xl_tot_len);
	}
	put(&seed, page, 600);
	write_seed("fuzz_wal", "page", &seed);
	wal_segments_close(segs);
}

/* ---- layers ---- */

/* The file in the form that fuzz_layer takes. */
static void
layer_seed(Layer *layer, const char *name)
{
	const LayerSummary *s = &layer->file->summary;
	size_t len;
	char *file = read_file(layer->file->path, &len);
	StringInfoData seed;

	initStringInfo(&seed);
	put_u8(&seed, 0);
	put_u16(&seed, SUMMARY_USED);
	put(&seed, file, SUMMARY_USED);
	put_u16(&seed, (uint16) (s->values_end - LAYER_BLOCK_SIZE));
	put(&seed, file + LAYER_BLOCK_SIZE, s->values_end - LAYER_BLOCK_SIZE);
	for (uint32 i = 0; i < s->index_pages; i++)
	{
		const char *page = file + s->index_start + i * LAYER_BLOCK_SIZE;
		size_t used = LAYER_BLOCK_SIZE;

		while (used > 0 && page[used - 1] == 0)
			used--;
		put_u16(&seed, (uint16) used);
		put(&seed, page, used);
	}
	write_seed("fuzz_layer", name, &seed);
	layer_unref(layer);
}

typedef struct Sample
{
	int every;
	int seen;
	int npages;
	int n;
	PsKey keys[500];
	XLogRecPtr lsns[500];
	bool will_init[500];
	ValueKind kinds[500];
	StringInfoData values[500];
	XLogRecPtr starts[500];
} Sample;

static PsError *
take_sample(void *arg, const PsKey *key, const ValueRef *ref)
{
	Sample *s = arg;
	StringInfoData *value = &s->values[s->n];

	if (s->seen++ % s->every != 0 || s->n == lengthof(s->keys))
		return NULL;
	initStringInfo(value);
	MUST(layer_read_value(ref, value, &s->starts[s->n]));
	/* one that is compressed to much less */
	if (value->len == BLCKSZ && s->npages == 0 && value->data[BLCKSZ / 2] == 0)
		s->npages++;
	else if (value->len > 1000)
	{
		pfree(value->data);
		return NULL;
	}
	s->keys[s->n] = *key;
	s->lsns[s->n] = ref->lsn;
	s->kinds[s->n] = ref->kind;
	s->will_init[s->n] = ref->will_init;
	s->n++;
	return NULL;
}

/* A small layer with some of the values of a real one; of a delta, versions of a key come newest first. */
static void
layer_seeds(const char *dir, const char *name, const Manifest *m, int number)
{
	PsKey lo = {0};
	PsKey hi = ps_key_last();
	static Sample s;
	static uint64 offsets[500];
	Layer *layer;
	LayerType type;
	XLogRecPtr lsn_start;
	XLogRecPtr lsn_end;
	char *text;
	int stride;
	int n = 0;
	LayerSpace from = {.dir = (char *) dir, .tenant = m->tenant, .timeline = m->timeline};
	LayerSpace to = {.dir = layers_dir, .tenant = test_tenant, .timeline = test_timeline, .next_number = number};

	MUST(layer_open(&from, name, &layer));
	type = layer_info(layer)->type;
	lsn_start = layer_info(layer)->lsn_start;
	lsn_end = layer_info(layer)->lsn_end;
	memset(&s, 0, sizeof(s));
	s.every = 1 + layer->file->summary.entries / 500;
	MUST(layer_scan(layer, &lo, &hi, PG_UINT64_MAX, take_sample, &s));
	layer_unref(layer);
	if (s.n == 0)
		return;
	/* some of all kinds */
	stride = 1 + s.n / 40;
	for (int i = 0; i < s.n; i++)
	{
		if (i % stride != 0 && s.values[i].len < BLCKSZ)
			continue;
		s.keys[n] = s.keys[i];
		s.lsns[n] = s.lsns[i];
		s.kinds[n] = s.kinds[i];
		s.will_init[n] = s.will_init[i];
		s.values[n] = s.values[i];
		s.starts[n] = s.starts[i];
		n++;
	}
	s.n = n;

	fuzz_begin();
	if (type == LAYER_IMAGE)
	{
		ImageWriter *writer;

		MUST(image_writer_create(&to, lsn_start, &writer));
		for (int i = 0; i < s.n; i++)
			MUST(image_writer_put(writer, &s.keys[i], s.values[i].data, s.values[i].len));
		MUST(image_writer_finish(writer, &layer));
	}
	else
	{
		DeltaWriter *writer;

		DictSample sample = {0};

		MUST(delta_writer_create(&to, 0, lsn_start, lsn_end, &writer));
		/* so few values alone are not worth a dictionary; the first file is to have none */
		for (int i = 0; number > 0 && i < 100 * s.n; i++)
			if (s.kinds[i % s.n] == VALUE_RECORD)
				dict_sample_add(&sample, s.values[i % s.n].data, s.values[i % s.n].len);
		MUST(delta_writer_learn_sample(writer, &sample));
		dict_sample_free(&sample);
		for (int i = 0; i < s.n; i++)
			MUST(delta_writer_value(writer, s.kinds[i], s.starts[i], s.values[i].data, s.values[i].len, &offsets[i]));
		for (int i = 0; i < s.n;)
		{
			int next = i + 1;

			while (next < s.n && ps_key_cmp(&s.keys[next], &s.keys[i]) == 0)
				next++;
			for (int j = next - 1; j >= i; j--)
				MUST(delta_writer_add(writer, &s.keys[j], s.lsns[j], s.kinds[j], s.will_init[j], false, offsets[j]));
			i = next;
		}
		MUST(delta_writer_finish(writer, &layer));
	}
	text = psprintf("%s%d", type == LAYER_IMAGE ? "image" : "delta", number);
	layer_seed(layer, text);
}

/* A made-up layer whose index has two levels: the real ones' have, but are too large. */
static void
deep_layer(void)
{
	DeltaWriter *writer;
	Layer *layer;
	uint64 offset;
	LayerSpace to = {.dir = layers_dir, .tenant = test_tenant, .timeline = test_timeline, .next_number = 1};

	MUST(delta_writer_create(&to, 1, 0x1000, 0x9000, &writer));
	MUST(delta_writer_value(writer, VALUE_IMAGE, 0, "value", 5, &offset));
	for (int i = 0; i < 900; i++)
	{
		/* keys that have little in common make pages of few entries */
		PsKey key = {.kind = PS_KEY_RELBLOCK, .spc = 1663, .db = 5, .rel = i / 300, .blk = i % 300};

		MUST(delta_writer_add(writer, &key, 0x1000 + i, VALUE_IMAGE, true, true, offset));
	}
	MUST(delta_writer_finish(writer, &layer));
	layer_seed(layer, "deep");
}

/* ---- small files ---- */

static void
file_seed(uint8 reader, const char *name, const char *data, size_t len)
{
	StringInfoData seed;

	initStringInfo(&seed);
	put_u8(&seed, reader);
	put(&seed, data, len);
	write_seed("fuzz_files", name, &seed);
}

#define FILE_SEED(reader, name, bytes) file_seed(reader, name, bytes, sizeof(bytes) - 1)

/* Lines that set something, with the comment sign taken away. */
static void
config_seed(void)
{
	StringInfoData text;
	StringInfoData out;

	initStringInfo(&text);
	initStringInfo(&out);
	config_write_default(&text);
	for (char *line = strtok(text.data, "\n"); line != NULL; line = strtok(NULL, "\n"))
		if (line[0] == '#' && line[1] != ' ' && line[1] != '\0')
			appendStringInfo(&out, "%s\n", line + 1);
	file_seed(0, "config", out.data, out.len);
}

static void
small_files(const char *timeline_dir, LayerMap *map)
{
	PsKey key = ps_key_simple(PS_KEY_CONTROL, 0, 0, 0);
	ValueList list = {0};
	StringInfoData value;
	XLogRecPtr start;
	bool done = false;
	size_t len;
	char *data = read_file(psprintf("%s/" MANIFEST_LOG_NAME, timeline_dir), &len);

	for (char *line = data; line < data + len; line = memchr(line, '\n', data + len - line) + 1)
		memcpy(line, "00000000", 8);
	file_seed(1, "manifest", data, len);
	data = read_file(psprintf("%s/flushed", timeline_dir), &len);
	file_seed(2, "flushed", data, len);
	initStringInfo(&value);
	MUST(layer_map_collect(map, &key, 0, PG_UINT64_MAX, &list, &done));
	REQUIRE(list.n > 0);
	MUST(layer_read_value(&list.refs[0], &value, &start));
	memset(value.data + offsetof(ControlFileData, crc), 0, sizeof(pg_crc32c));
	file_seed(3, "control", value.data, sizeof(ControlFileData));
	FILE_SEED(4, "relsize", "\0\0\0\7\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\3\0\0\0\0\0\0\0\2");
	FILE_SEED(5, "conf",
			  "port = 5432\n"
			  "shared_preload_libraries = 'a, \"b c\", pageserver_smgr' # x\n\0shared_preload_libraries = 'd'\n");
	FILE_SEED(6, "version", "1\n");
	FILE_SEED(7, "command", "import x '/a b''c';");
	FILE_SEED(8, "id", "\3\0\0\6\177\0\0\0\5\0\0\100\0\0\0\0\0\7"
					   "000102030405060708090a0b0c0d0e0f");
	config_seed();
	FILE_SEED(9, "tenant",
			  "{\"format\": \"pageserver tenant\", \"version\": 2, \"crc32c\": \"00000000\","
			  " \"tenant\": \"000102030405060708090a0b0c0d0e0f\","
			  " \"system_identifier\": \"7123456789012345678\", \"segment_size\": 16777216}");
	FILE_SEED(10, "json_manifest",
			  "{\"format\": \"pageserver timeline\", \"version\": 4, \"crc32c\": \"00000000\", \"timeline\": {"
			  "\"tenant\": \"000102030405060708090a0b0c0d0e0f\","
			  " \"timeline\": \"000102030405060708090a0b0c0d0e0f\", \"name\": \"main\","
			  " \"system_identifier\": \"7123456789012345678\", \"segment_size\": 16777216,"
			  " \"data_checksum_version\": 1, \"ancestor\": \"\", \"start_lsn\": \"0/1000028\","
			  " \"disk_consistent_lsn\": \"0/1000028\", \"gc_cutoff\": \"0/0\", \"generation\": \"1\","
			  " \"owner\": \"x\", \"copies\": [\"1663/5 0/1 0/2\"], \"layers\": []}}");
}

/* ---- conversations and answers ---- */

static void
byte_seed(const char *fuzzer, const char *name, const char *data, size_t len)
{
	StringInfoData seed;

	initStringInfo(&seed);
	put(&seed, data, len);
	write_seed(fuzzer, name, &seed);
}

#define PROTOCOL_SEED(name, bytes) byte_seed("fuzz_protocol", name, bytes, sizeof(bytes) - 1)
#define IMPORT_SEED(name, bytes)   byte_seed("fuzz_import", name, bytes, sizeof(bytes) - 1)

static void
conversations(void)
{
	PROTOCOL_SEED("commands", "\0\2\6\2\7\2\4\2\5\2\3\1\13branch_list");
	PROTOCOL_SEED("pages",
				  "\0\2\0\3\0\0\1\0\0\0\3\0\1\2\3\3\0\2\1\1\1\0\7\0\1\2\3\4\5\6\7\3\1\0\1\0\2\0\3\2\0\1\0\0\0\11\2\6");
	PROTOCOL_SEED("history",
				  "\0\2\0\3\0\14\1\0\0\0\3\0\1\2\3\3\0\44\1\1\1\0\7\0\1\2\3\4\5\6\7\3\0\46\1\1\1\0\2\0\200\377\11\2\6");
	PROTOCOL_SEED("wal", "\0\2\2\5\50\5\74\11\2\1\3\0\0\3\0\0\0\3\0\1\2\3\11\2\2\5\310\11");
	PROTOCOL_SEED("compute", "\0\2\3\2\2\5\12\11\2\3\2\1\3\0\0\3\0\0\0\1\0\1\11");
	PROTOCOL_SEED("startup", "\1\10\0\0\0\10\4\322\26\57\0\0\0\0");
	PROTOCOL_SEED("cancel", "\1\20\0\0\0\20\4\322\26\56\0\0\0\1\1\2\3\4");
	PROTOCOL_SEED("extended", "\0\10\1\3\0\0\0\10\2\0\10\6\0\2\7");
	PROTOCOL_SEED("refused", "\2\2\7");
	PROTOCOL_SEED("short", "\0\2\2\7\104\0\0");
	PROTOCOL_SEED("ahead", "\0\2\0\3\374\0\1\0\0\0\3\0\1\2\3\11");
}

static void
data_directories(void)
{
	IMPORT_SEED("control", "\0\0\20\0\2\1\2");
	IMPORT_SEED("wal", "\0\1\360\3\2\1\2");
	IMPORT_SEED("segments", "\1\203\0\1\3\201\4"
							"1400\5\0\3\1\6"
							"1400.1\7\0\3\1\10"
							"1400_vm\0\0\1");
	IMPORT_SEED("unlogged", "\3\201\11"
							"1259_init\1\0\3\201\4"
							"2000\4\0");
	IMPORT_SEED("missing", "\2\12\2\4");
	IMPORT_SEED("tablespace", "\3\217\4"
							  "3000\2\0\3\20\17pg_filenode.map\10\0\5\13\5"
							  "17001\0");
	IMPORT_SEED("slru", "\3\204\4"
						"0001\40\0\3\206\4"
						"000A\3\0\3\11\10"
						"00000321\7\0");
	IMPORT_SEED("directory", "\4\1\4"
							 "1300\4\0\2"
							 "16");
}

static void
answers(void)
{
	PsResponse resp = {.type = PS_RESP_ERROR,
					   .reqid = 1,
					   .lsn = 0x2000,
					   .exists = true,
					   .nblocks = 7,
					   .nforks = 1,
					   .forks = "\0\0\6\177\0\0\0\5\0\0\100\0\0\0\0\0\7",
					   .count = 1,
					   .sqlstate = "XX001",
					   .message = "message",
					   .detail = "detail",
					   .hint = "hint"};
	PsWalStatus status = {3, 2, 1, 4, true};
	PsRequest req = {.type = PS_REQ_PAGES,
					 .reqid = 7,
					 .request_lsn = PS_LSN_LATEST,
					 .not_modified_since = 1,
					 .rel = {1663, 5, 16384},
					 .count = 2};
	static const PsResponseType types[] = {PS_RESP_RELSIZE, PS_RESP_FORKS, PS_RESP_ERROR};
	struct
	{
		RedoHello hello;
		RedoAnswer ok;
	} helper = {{REDO_MAGIC, REDO_PROTO_VERSION, PG_VERSION_NUM, BLCKSZ}, {REDO_MAGIC, REDO_OK, BLCKSZ, 0}};
	RedoAnswer failed = {REDO_MAGIC, REDO_FAILED, 4, 0};
	StringInfoData seed;

	initStringInfo(&seed);
	for (int i = 0; i < 3; i++)
	{
		resetStringInfo(&seed);
		put(&seed, i == 0 ? "\0\1\0" : i == 1 ? "\0\2\0"
											  : "\0\0\0",
			3);
		resp.type = types[i];
		ps_wire_put_response(&seed, &resp);
		write_seed("fuzz_answers", i == 0 ? "relsize" : i == 1 ? "forks"
															   : "error",
				   &seed);
	}
	resetStringInfo(&seed);
	put(&seed, "\0\0\0G\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\x20\0\0\1", 23);
	write_seed("fuzz_answers", "pages", &seed);
	resetStringInfo(&seed);
	put_u8(&seed, 1);
	ps_wire_put_request(&seed, &req);
	write_seed("fuzz_answers", "request", &seed);
	resetStringInfo(&seed);
	put_u8(&seed, 2);
	ps_wire_put_status(&seed, &status);
	write_seed("fuzz_answers", "status", &seed);
	resetStringInfo(&seed);
	put(&seed, "\3\1", 2);
	put(&seed, &helper, sizeof(helper));
	write_seed("fuzz_answers", "helper", &seed);
	resetStringInfo(&seed);
	put(&seed, "\3\0", 2);
	put(&seed, &helper.hello, sizeof(helper.hello));
	put(&seed, &failed, sizeof(failed));
	put(&seed, "text", 4);
	write_seed("fuzz_answers", "failure", &seed);
}

int
main(int argc, char **argv)
{
	char *timeline_dir;
	char *dir;
	Manifest m;
	Layer **layers;
	LayerMap *map;
	LayerSpace space;
	char name[LAYER_NAME_MAX];
	PsKey key = ps_key_simple(PS_KEY_STATE, 0, 0, 0);
	ValueList list = {0};
	StringInfoData value;
	WalState state;
	XLogRecPtr start;
	int made[LAYER_IMAGE + 1] = {0};
	bool done = false;

	REQUIRE(argc == 3);
	corpus = argv[2];
	REQUIRE(mkdtemp(layers_dir) != NULL);
	timeline_dir = only_entry(psprintf("%s/timelines", only_entry(psprintf("%s/tenants", argv[1]))));
	dir = psprintf("%s/layers", timeline_dir);
	MUST(manifest_read(timeline_dir, &m, NULL));
	layers = malloc(m.nlayers * sizeof(Layer *));
	space = (LayerSpace) {.dir = dir, .tenant = m.tenant, .timeline = m.timeline};
	for (int i = 0; i < m.nlayers; i++)
		layers[i] = layer_new(&space, &m.layers[i]);
	map = layer_map_create(layers, m.nlayers);

	/* the oldest state: WAL is read from the branch's beginning on */
	initStringInfo(&value);
	MUST(layer_map_collect(map, &key, 0, m.start_lsn, &list, &done));
	REQUIRE(list.n > 0);
	MUST(layer_read_value(&list.refs[0], &value, &start));
	MUST(wal_state_decode(value.data, value.len, &state));
	wal_seeds(timeline_dir, &m, &state);
	small_files(timeline_dir, map);
	/* some of each kind: they are alike */
	for (int i = 0; i < m.nlayers; i++)
	{
		LayerType type = layer_info(layers[i])->type;

		if (made[type] == 3)
			continue;
		pg_comp_crc32c = pg_comp_crc32c_sb8;
		layer_seeds(dir, layer_name(layers[i], name), &m, made[type]++);
	}
	REQUIRE(made[LAYER_DELTA] > 1 && made[LAYER_IMAGE] > 1);
	deep_layer();
	conversations();
	data_directories();
	answers();
	return system(psprintf("rm -rf '%s'", layers_dir));
}
