/*
 * fuzz_import.c
 *	  Fuzzes the import of a data directory: a small cluster that could be
 *	  imported, and what an input changes in it before it is.
 *
 * An input is a list of changes: u8 kind (CHANGE_* below), u8 file or
 * directory, one of files[] or dirs[], and by kind what it needs.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/catversion.h"
#include "port/pg_crc32c.h"

#include "backup/backup_impl.h"
#include "fuzz.h"
#include "bytes.h"
#include "pg/control.h"

#define SEGMENT_SIZE      (1024 * 1024)
#define SYSTEM_IDENTIFIER UINT64CONST(7123456789012345678)
#define WAL_START         ((XLogRecPtr) 7 * SEGMENT_SIZE)
#define MAX_CHANGES       20

enum
{
	CHANGE_WRITE, /* u16 offset, u8 n, bytes */
	CHANGE_SIZE,  /* u16 bytes; bit 7 of the file's number: pages */
	CHANGE_REMOVE,
	CHANGE_FILE, /* u8 n, name, u16 size as above */
	CHANGE_DIR,  /* u8 n, name */
	CHANGE_LINK, /* u8 n, name, u8: one of targets[] */
	NCHANGES
};

static const char *const dirs[] = {
	"base", "base/5", "base/1", "global", "pg_xact", "pg_multixact", "pg_multixact/offsets", "pg_multixact/members",
	"pg_commit_ts", "pg_twophase", "pg_wal", "pg_tblspc", "pg_logical", ".", "pg_tblspc/17000",
	"pg_tblspc/17000/PG_" PG_MAJORVERSION "_" CppAsString2(CATALOG_VERSION_NO),
	"pg_tblspc/17000/PG_" PG_MAJORVERSION "_" CppAsString2(CATALOG_VERSION_NO) "/5"};
static const char *const files[] = {
	"global/pg_control", "pg_wal/000000010000000000000007", "PG_VERSION", "base/5/1259", "base/5/1259_fsm",
	"base/5/2000_init", "base/5/PG_VERSION", "base/5/pg_filenode.map", "global/1262", "global/pg_filenode.map",
	"pg_xact/0000", "pg_multixact/offsets/0000", "pg_multixact/members/0000", "pg_twophase/00000320",
	"pg_logical/replorigin_checkpoint", "postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "base/1/PG_VERSION",
	"base/1/pg_filenode.map", "postmaster.pid", "backup_label", "base/5/1259.1"};

/* Files of the cluster as it is: the first of files[], with these sizes; -1: there is none. */
static const int sizes[] = {
	PG_CONTROL_FILE_SIZE, SEGMENT_SIZE, 3, 2 * BLCKSZ, BLCKSZ, BLCKSZ, 3, 512, BLCKSZ, 512, BLCKSZ, BLCKSZ, BLCKSZ, 100,
	8, 30, 0, 0, 3, 512, -1, -1, -1};
static const char *const targets[] = {"/nowhere", ".", "..", "../base", "1259", "/dev/null", "/dev/zero"};

static const char *top;
static char pgdata[128];
static char out[128];
static char control_file[PG_CONTROL_FILE_SIZE];
static StringInfoData wal;

static pg_crc32c (*no_crc)(pg_crc32c crc, const void *data, size_t len);

/* Some files are filed under checksums of their names, which must differ. */
static pg_crc32c
crc_of_names(pg_crc32c crc, const void *data, size_t len)
{
	const char *p = data;

	for (size_t i = 0; i < len; i++)
		if (p[i] < ' ' || p[i] > '~')
			return no_crc(crc, data, len);
	return pg_comp_crc32c_sb8(crc, data, len);
}

static void
make_control(void)
{
	ControlFileData control = {0};
	WalState state = {.prev = WAL_START + 100, .end = WAL_START + 1000};
	XLogLongPageHeaderData header = {.std.xlp_magic = XLOG_PAGE_MAGIC,
									 .std.xlp_tli = 1,
									 .std.xlp_pageaddr = WAL_START,
									 .std.xlp_info = XLP_LONG_HEADER,
									 .xlp_sysid = SYSTEM_IDENTIFIER,
									 .xlp_seg_size = SEGMENT_SIZE,
									 .xlp_xlog_blcksz = XLOG_BLCKSZ};
	XLogRecPtr end;

	state.checkpoint.ThisTimeLineID = state.checkpoint.PrevTimeLineID = 1;
	state.checkpoint.nextXid = FullTransactionIdFromEpochAndXid(0, 1000);
	state.checkpoint.nextOid = 20000;
	initStringInfo(&wal);
	appendBinaryStringInfo(&wal, (char *) &header, SizeOfXLogLongPHD);
	while (wal.len < 1000)
		appendStringInfoChar(&wal, '\0');
	wal_make_shutdown_checkpoint(&state, SYSTEM_IDENTIFIER, SEGMENT_SIZE, 1700000000, &wal, &control.checkPointCopy,
								 &control.checkPoint, &end);
	control.state = DB_SHUTDOWNED;
	control.system_identifier = SYSTEM_IDENTIFIER;
	control.pg_control_version = PG_CONTROL_VERSION;
	control.catalog_version_no = CATALOG_VERSION_NO;
	control.maxAlign = MAXIMUM_ALIGNOF;
	control.floatFormat = FLOATFORMAT_VALUE;
	control.blcksz = BLCKSZ;
	control.relseg_size = RELSEG_SIZE;
	control.xlog_blcksz = XLOG_BLCKSZ;
	control.xlog_seg_size = SEGMENT_SIZE;
	control.nameDataLen = NAMEDATALEN;
	control.indexMaxKeys = INDEX_MAX_KEYS;
	memcpy(control_file, &control, sizeof(control));
}

static int
remove_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void
remove_tree(const char *path)
{
	nftw(path, remove_file, 20, FTW_DEPTH | FTW_PHYS);
}

static void
make_cluster(void)
{
	char path[512];
	char bytes[2 * BLCKSZ];
	const uint32 origin_magic = 0x1257DADE; /* origin.c, with nothing behind it but a checksum */

	REQUIRE(mkdir(pgdata, 0700) == 0 && mkdir(out, 0700) == 0);
	for (int i = 0; i < lengthof(dirs); i++)
	{
		snprintf(path, sizeof(path), "%s/%s", pgdata, dirs[i]);
		mkdir(path, 0700);
	}
	for (int i = 0; i < lengthof(files); i++)
	{
		const char *data = bytes;
		size_t len = Max(sizes[i], 0);

		if (sizes[i] < 0)
			continue;
		memset(bytes, 0, sizeof(bytes));
		if (i == 0)
			data = control_file;
		else if (i == 1)
		{
			data = wal.data;
			len = wal.len;
		}
		else if (sizes[i] == 8)
			memcpy(bytes, &origin_magic, 4);
		else if (sizes[i] == 3)
			strcpy(bytes, PG_MAJORVERSION "\n");
		else
			memset(bytes, '\n', len % BLCKSZ);
		snprintf(path, sizeof(path), "%s/%s", pgdata, files[i]);
		fuzz_write_file(path, data, len);
		REQUIRE(truncate(path, sizes[i]) == 0);
	}
}

/* A name of an input in a directory: without what leads elsewhere. */
static void
take_path(FuzzInput *in, uint8 dir, char *path, size_t size)
{
	size_t n;
	char *name = fuzz_bytes(in, fuzz_u8(in) % 32, &n);
	int len = snprintf(path, size, "%s/%s/", pgdata, dirs[dir % lengthof(dirs)]);

	for (size_t i = 0; i < n; i++)
		path[len++] = name[i] == '/' || name[i] == '\0' ? '_' : name[i];
	path[len] = '\0';
	free(name);
}

static void
set_size(const char *path, uint16 size, bool pages)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW, 0600);

	if (fd < 0)
		return;
	/* sparse; more pages than an import of so many should have to read make this slow */
	REQUIRE(ftruncate(fd, pages ? (off_t) (size % 200) * BLCKSZ : size) == 0);
	close(fd);
}

static void
change(FuzzInput *in)
{
	uint8 kind = fuzz_u8(in) % NCHANGES;
	uint8 which = fuzz_u8(in);
	char path[512];
	char *bytes;
	size_t n;
	uint16 at;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", pgdata, files[which % 64 % lengthof(files)]);
	switch (kind)
	{
		case CHANGE_WRITE:
			at = fuzz_u16(in);
			bytes = fuzz_bytes(in, fuzz_u8(in), &n);
			fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW, 0600);
			if (fd >= 0)
			{
				REQUIRE(pwrite(fd, bytes, n, at) == n);
				close(fd);
			}
			free(bytes);
			break;
		case CHANGE_SIZE:
			set_size(path, fuzz_u16(in), which >= 128);
			break;
		case CHANGE_REMOVE:
			if (which >= 64)
				snprintf(path, sizeof(path), "%s/%s", pgdata, dirs[which % 64 % lengthof(dirs)]);
			/* "." stays */
			if (strcmp(dirs[which % 64 % lengthof(dirs)], ".") != 0)
				remove_tree(path);
			break;
		case CHANGE_FILE:
			take_path(in, which, path, sizeof(path));
			set_size(path, fuzz_u16(in), which >= 128);
			break;
		case CHANGE_DIR:
			take_path(in, which, path, sizeof(path));
			mkdir(path, 0700);
			break;
		case CHANGE_LINK:
			take_path(in, which, path, sizeof(path));
			if (symlink(targets[fuzz_u8(in) % lengthof(targets)], path) != 0)
				break;
			break;
	}
}

static PsError *
see_version(void *arg, const PsKey *key, const ValueRef *ref)
{
	StringInfo value = arg;
	XLogRecPtr start;

	MUST(layer_read_value(ref, value, &start));
	if (key->kind == PS_KEY_RELBLOCK || key->kind == PS_KEY_SLRU_BLOCK)
		REQUIRE(value->len == BLCKSZ);
	if (key->kind == PS_KEY_SLRU_SEGMENT)
		REQUIRE(value->len == 4 && ps_get32(value->data) <= 32);
	return NULL;
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	fuzz_begin();
	no_crc = pg_comp_crc32c;
	pg_comp_crc32c = crc_of_names;
	top = fuzz_dir();
	snprintf(pgdata, sizeof(pgdata), "%s/pgdata", top);
	snprintf(out, sizeof(out), "%s/out", top);
	make_control();
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	FuzzInput in = {data, size};
	TimelineSeed seed = {.tenant = {{1}}, .timeline = {{2}}};
	PsKey lo = {0};
	PsKey hi = ps_key_last();
	StringInfoData value;
	bool imported;

	make_cluster();
	for (int i = 0; i < MAX_CHANGES && in.size > 0; i++)
		change(&in);
	imported = fuzz_result(import_data_directory(pgdata, out, NULL, NULL, &seed));
	/* the cluster as it is can be imported */
	REQUIRE(imported || size > 0);
	if (imported)
	{
		initStringInfo(&value);
		REQUIRE(seed.nlayers > 0 && IsValidWalSegSize(seed.segment_size));
		for (int i = 0; i < seed.nlayers; i++)
			MUST(layer_scan(seed.layers[i], &lo, &hi, PG_UINT64_MAX, see_version, &value));
		pfree(value.data);
	}
	import_free_layers(&seed);
	remove_tree(pgdata);
	remove_tree(out);
	return 0;
}
