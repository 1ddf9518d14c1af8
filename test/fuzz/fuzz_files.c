/*
 * fuzz_files.c
 *	  Fuzzes what reads the small files of a store and of a cluster.
 *
 * The first byte of an input says which file the rest is:
 *
 *	  0		pageserver.conf
 *	  1		timeline.log
 *	  2		the marker "flushed"
 *	  3		pg_control
 *	  4		the value of a relation's size
 *	  5		postgresql.conf, with postgresql.auto.conf behind a zero byte
 *	  6		PAGESERVER_VERSION
 *	  7		a command of the store's port, as text
 *	  8		id and key as text and bytes
 *	  9		tenant.json
 *	  10	timeline.json
 */
#include "ps_fe.h"

#include <unistd.h>

#include "backup/backup_impl.h"
#include "conf.h"
#include "fuzz.h"
#include "ingest/ingest.h"
#include "pg/control.h"
#include "pg/interpret.h"
#include "pg/parse.h"
#include "pg/relsize.h"
#include "pg/slru.h"
#include "serve/commands.h"
#include "store/store_dir.h"
#include "timeline/engine.h"

/* The tenant of the store that is opened. */
#define TENANT "000102030405060708090a0b0c0d0e0f"

static const char *dir;

/* The text in memory of exactly its size with a zero byte. */
static char *
take_text(FuzzInput *in, size_t n)
{
	size_t len;
	char *bytes = fuzz_bytes(in, n, &len);
	char *text = malloc(len + 1);

	memcpy(text, bytes, len);
	text[len] = '\0';
	free(bytes);
	return text;
}

static void
write_rest(const char *name, FuzzInput *in)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fuzz_write_file(path, in->data, in->size);
}

static void
fuzz_config(FuzzInput *in)
{
	Config *config;
	char **names;
	int n;

	write_rest(CONFIG_FILE_NAME, in);
	if (!fuzz_result(config_load(dir, &config)))
		return;
	REQUIRE(config->port > 0 && config->port < 65536 && config->max_connections > 0);
	REQUIRE(config->unix_socket_directory[0] == '/');
	names = config_addresses(config->listen_addresses, &n);
	for (int i = 0; i < n; i++)
		fuzz_touch(names[i], strlen(names[i]));
	config_free_addresses(names, n);
	config_log_level(config);
	config_free(config);
}

/* What is accepted can be written again, and is then the same. */
static void
check_manifest(const Manifest *m)
{
	Manifest again;
	Outcome outcome;

	REQUIRE(IsValidWalSegSize(m->segment_size));
	REQUIRE(strlen(m->name) <= TIMELINE_NAME_MAX && strlen(m->owner) < OWNER_SIZE);
	MUST(manifest_write(dir, m, NULL, &outcome));
	MUST(manifest_read(dir, &again, NULL));
	REQUIRE(again.generation == m->generation && again.start_lsn == m->start_lsn && again.nlayers == m->nlayers &&
			again.ncopies == m->ncopies && again.nimaged == m->nimaged &&
			memcmp(&again.marks, &m->marks, sizeof(m->marks)) == 0 &&
			again.disk_consistent_lsn == m->disk_consistent_lsn && again.system_identifier == m->system_identifier &&
			strcmp(again.name, m->name) == 0 && strcmp(again.owner, m->owner) == 0);
	for (int i = 0; i < m->nlayers; i++)
		REQUIRE(memcmp(&m->layers[i], &again.layers[i], sizeof(LayerInfo)) == 0);
	manifest_free(&again);
}

static void
fuzz_manifest(FuzzInput *in)
{
	Manifest m;

	write_rest(MANIFEST_LOG_NAME, in);
	if (!fuzz_result(manifest_read(dir, &m, NULL)))
		return;
	check_manifest(&m);
	manifest_free(&m);
}

static void
fuzz_json_manifest(FuzzInput *in)
{
	char path[512];
	Manifest m;

	write_rest(MANIFEST_JSON_NAME, in);
	snprintf(path, sizeof(path), "%s/" MANIFEST_JSON_NAME, dir);
	if (!fuzz_result(manifest_read_json(path, &m)))
		return;
	check_manifest(&m);
	manifest_free(&m);
}

static void
fuzz_marker(FuzzInput *in)
{
	TimelineSpec spec = {.dir = unconstify(char *, dir)};
	Timeline tl = {.spec = &spec, .marker_fd = -1};
	XLogRecPtr lsn;
	XLogRecPtr again;

	write_rest("flushed", in);
	if (fuzz_result(receiver_open_marker(&tl, &lsn)))
	{
		MUST(receiver_sync_marker(&tl, lsn));
		receiver_close_marker(&tl);
		MUST(receiver_open_marker(&tl, &again));
		REQUIRE(again == lsn);
	}
	receiver_close_marker(&tl);
}

static void
fuzz_control(FuzzInput *in)
{
	char *file = calloc(1, PG_CONTROL_FILE_SIZE);
	size_t len = fuzz_take(in, file, Min(in->size, PG_CONTROL_FILE_SIZE));
	char out[PG_CONTROL_FILE_SIZE];
	ControlFileData control;
	ControlFileData again;
	WalState state;

	/* all of a file is there, or a part of it that is shorter than the struct */
	if (len >= sizeof(ControlFileData))
		len = PG_CONTROL_FILE_SIZE;
	if (fuzz_result(control_decode(file, len, "file", &control)))
	{
		fuzz_result(control_check_shutdown(&control, "directory"));
		wal_state_from_control(&state, &control, 0x1000000);
		control_make(&control, &state, &control.checkPointCopy, control.checkPoint, 1000, out);
		MUST(control_decode(out, sizeof(out), "copy", &again));
		REQUIRE(again.state == DB_SHUTDOWNED && again.system_identifier == control.system_identifier);
	}
	free(file);
}

static void
fuzz_relsize(FuzzInput *in)
{
	size_t len;
	char *value = fuzz_bytes(in, in->size, &len);
	RelSize size;
	StringInfoData again;

	initStringInfo(&again);
	relsize_value_nblocks(value, (uint32) len);
	if (fuzz_result(relsize_decode(value, (uint32) len, &size)))
	{
		relsize_encode(&size, &again);
		REQUIRE(again.len == len && memcmp(again.data, value, len) == 0);
		relsize_floor(&size, 7);
		relsize_add_floor(&size, 7, 8);
		REQUIRE(relsize_floor(&size, 7) == 8 && relsize_floor(&size, 8) == 8);
		relsize_free(&size);
	}
	pfree(again.data);
	free(value);
}

static void
fuzz_conf(FuzzInput *in)
{
	static const char *const names[] = {"shared_preload_libraries", "port", NULL};
	const uint8 *zero = memchr(in->data, '\0', in->size);
	char *conf = take_text(in, zero != NULL ? zero + 1 - in->data : in->size);
	char *auto_conf = take_text(in, in->size);
	char *value = conf_value(conf, "shared_preload_libraries");
	char *libraries = conf_preload_libraries(conf, auto_conf);
	StringInfoData out;
	char *back;

	REQUIRE(conf_list_has(libraries, PS_LIBRARY));
	initStringInfo(&out);
	conf_disable(&out, conf, names, "because");
	back = conf_value(out.data, "port");
	REQUIRE(back == NULL);
	resetStringInfo(&out);
	if (value != NULL)
	{
		char *without = conf_list_remove(value, PS_LIBRARY);

		REQUIRE(!conf_list_has(without, PS_LIBRARY));
		free(without);

		/* what is written is read as it was */
		conf_put(&out, "port", value);
		back = conf_value(out.data, "port");
		REQUIRE(back != NULL && strcmp(back, value) == 0);
		free(back);
	}
	pfree(out.data);
	free(value);
	free(libraries);
	free(conf);
	free(auto_conf);
}

static void
fuzz_version(FuzzInput *in)
{
	write_rest(STORE_VERSION_FILE, in);
	fuzz_result(store_dir_check(dir));
}

static void
fuzz_command(FuzzInput *in)
{
	char *text = take_text(in, in->size);
	size_t len = strlen(text);
	char *words[8];
	int n = command_split(text, words, lengthof(words));

	REQUIRE(n >= -1 && n <= (int) lengthof(words) + 1);
	for (int i = 0; i < Min(n, (int) lengthof(words)); i++)
		REQUIRE(words[i] >= text && words[i] + strlen(words[i]) <= text + len);
	timeline_name_is_valid(n > 0 ? words[0] : "");
	free(text);
}

static void
fuzz_id(FuzzInput *in)
{
	char text[PS_KEY_TEXT];
	uint8 bytes[PS_KEY_SIZE];
	uint8 again[PS_KEY_SIZE];
	PsKey key;
	PsId id;
	char *name;

	fuzz_take(in, bytes, sizeof(bytes));
	ps_key_decode(bytes, &key);
	ps_key_encode(&key, again);
	REQUIRE(memcmp(bytes, again, PS_KEY_SIZE) == 0);
	REQUIRE(strlen(ps_key_format(&key, text)) < PS_KEY_TEXT);
	name = take_text(in, in->size);
	if (ps_id_parse(name, &id))
		REQUIRE(pg_strcasecmp(ps_id_format(&id, text), name) == 0);
	free(name);
}

/* A tenant that is not understood does not keep the store from opening. */
static void
fuzz_tenant(FuzzInput *in)
{
	Config config = {.store_dir = unconstify(char *, dir),
					 .bindir = (char *) "/nowhere",
					 .redo_helpers = 1,
					 .redo_timeout = 100,
					 .page_cache_size = 1};
	Store *store;
	int n;

	write_rest("tenants/" TENANT "/tenant.json", in);
	MUST(store_open(&config, &store));
	free(store_list(store, &n));
	REQUIRE(n == 0);
	store_close(store);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char path[512];

	fuzz_begin();
	dir = fuzz_dir();
	snprintf(path, sizeof(path), "%s/tenants/" TENANT "/timelines", dir);
	REQUIRE(pg_mkdir_p(path, 0700) == 0);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static void (*const readers[])(FuzzInput * in) = {
		fuzz_config, fuzz_manifest, fuzz_marker, fuzz_control, fuzz_relsize, fuzz_conf, fuzz_version, fuzz_command,
		fuzz_id, fuzz_tenant, fuzz_json_manifest};
	FuzzInput in = {data, size};

	readers[fuzz_u8(&in) % lengthof(readers)](&in);
	return 0;
}
