/*
 * t_backup_import.c
 *	  The import against data directories that the test makes itself: every
 *	  key that must come out of a directory, and no other, is in the layers,
 *	  and the WAL ends where it should, wherever the checkpoint record lies.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "access/transam.h"
#include "catalog/catversion.h"
#include "storage/bufpage.h"

#include "backup/backup.h"
#include "backup/import.h"
#include "ps_wire.h"
#include "relsize.h"

#define SEGMENT_SIZE (1024 * 1024)
#define SYSTEM_IDENTIFIER UINT64CONST(7123456789012345678)
#define VERSION_DIR "PG_" PG_MAJORVERSION "_" CppAsString2(CATALOG_VERSION_NO)

#define ASSERT_OK(expr) \
	do { \
		PsError    *assert_err_ = (expr); \
		if (assert_err_ != NULL) \
			fail_msg("%s", assert_err_->message); \
	} while (0)

/* ---- a data directory and what must come of it ---- */

typedef struct Expected
{
	PsKey		key;
	char	   *value;
	uint32		len;
	bool		found;
} Expected;

typedef struct Cluster
{
	char		top[32];		/* "pgdata" and "out" are below */
	char	   *pgdata;
	char	   *out;
	Expected   *expected;
	size_t		nexpected;
	ControlFileData control;
	WalState	state;
	XLogRecPtr	checkpoint_end;
	TimelineSeed seed;
} Cluster;

static void
make_dir(const Cluster *c, const char *name)
{
	char	   *path = psprintf("%s/%s", c->pgdata, name);

	assert_int_equal(mkdir(path, 0700), 0);
	pfree(path);
}

static void
write_at(const Cluster *c, const char *name, const char *data, size_t len, off_t offset)
{
	char	   *path = psprintf("%s/%s", c->pgdata, name);
	int			fd = open(path, O_WRONLY | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, offset), len);
	close(fd);
	pfree(path);
}

static void
write_file(const Cluster *c, const char *name, const char *data, size_t len)
{
	write_at(c, name, data, len, 0);
}

static void
expect(Cluster *c, PsKey key, const char *value, size_t len)
{
	c->expected = pg_realloc(c->expected, (c->nexpected + 1) * sizeof(Expected));
	c->expected[c->nexpected++] = (Expected) {key, memcpy(pg_malloc(len + 1), value, len), len, false};
}

static void
expect_size(Cluster *c, PsRel rel, ForkNumber fork, BlockNumber nblocks)
{
	RelSize		size = {.nblocks = nblocks};
	StringInfoData value;

	initStringInfo(&value);
	relsize_encode(&size, &value);
	expect(c, ps_key_relsize(rel, fork), value.data, value.len);
	pfree(value.data);
}

/* A page that differs from all others; with a right checksum. */
static void
make_page(char *page, int seed, BlockNumber blk)
{
	for (int i = 0; i < BLCKSZ; i++)
		page[i] = (char) (i * 13 + seed * 7 + blk);
	((PageHeader) page)->pd_upper = 4096;
	page_set_checksum(page, blk);
}

/* One page of a relation, which the import must find. */
static void
put_page(Cluster *c, PsRel rel, ForkNumber fork, const char *file, BlockNumber blk, int seed)
{
	PGAlignedBlock page;

	make_page(page.data, seed, blk);
	write_at(c, file, page.data, BLCKSZ, (off_t) (blk % RELSEG_SIZE) * BLCKSZ);
	expect(c, ps_key_block(rel, fork, blk), page.data, BLCKSZ);
}

/* ---- WAL ---- */

static void
wal_write(const Cluster *c, XLogRecPtr at, const char *data, size_t len)
{
	char		name[MAXPGPATH] = "pg_wal/";

	while (len > 0)
	{
		size_t		n = Min(len, SEGMENT_SIZE - at % SEGMENT_SIZE);

		XLogFileName(name + strlen("pg_wal/"), c->control.checkPointCopy.ThisTimeLineID, at / SEGMENT_SIZE, SEGMENT_SIZE);
		write_at(c, name, data, n, at % SEGMENT_SIZE);
		data += n;
		len -= n;
		at += n;
	}
}

/*
 * Segments full of old bytes; page headers up to the end of WAL X; there the
 * shutdown checkpoint.
 */
static void
make_wal(Cluster *c, XLogRecPtr x, TimeLineID tli)
{
	XLogRecPtr	start = x - x % SEGMENT_SIZE;
	char	   *garbage = pg_malloc(2 * SEGMENT_SIZE);
	StringInfoData bytes;
	CheckPoint	checkpoint;

	memset(&c->state, 0, sizeof(c->state));
	c->state.prev = x - 64;
	c->state.end = x;
	c->state.checkpoint.ThisTimeLineID = c->state.checkpoint.PrevTimeLineID = 1;
	c->state.checkpoint.nextXid = FullTransactionIdFromEpochAndXid(0, 1000);
	c->state.checkpoint.nextOid = 20000;
	initStringInfo(&bytes);
	wal_make_shutdown_checkpoint(&c->state, SYSTEM_IDENTIFIER, SEGMENT_SIZE, 1700000000, &bytes, &checkpoint,
								 &c->control.checkPoint, &c->checkpoint_end);
	c->control.checkPointCopy = checkpoint;
	c->control.checkPointCopy.ThisTimeLineID = c->control.checkPointCopy.PrevTimeLineID = tli;

	memset(garbage, 0x5A, 2 * SEGMENT_SIZE);
	wal_write(c, start, garbage, 2 * SEGMENT_SIZE);
	for (XLogRecPtr at = start; at < x; at += XLOG_BLCKSZ)
	{
		XLogLongPageHeaderData header = {
			.std.xlp_magic = XLOG_PAGE_MAGIC, .std.xlp_tli = tli, .std.xlp_pageaddr = at,
			.xlp_sysid = SYSTEM_IDENTIFIER, .xlp_seg_size = SEGMENT_SIZE, .xlp_xlog_blcksz = XLOG_BLCKSZ
		};

		header.std.xlp_info = at == start ? XLP_LONG_HEADER : 0;
		wal_write(c, at, (char *) &header, at == start ? SizeOfXLogLongPHD : SizeOfXLogShortPHD);
	}
	wal_write(c, x, bytes.data, bytes.len);
	pfree(bytes.data);
	free(garbage);
}

static void
make_control(Cluster *c)
{
	ControlFileData *control = &c->control;
	char		file[PG_CONTROL_FILE_SIZE] = {0};

	control->system_identifier = SYSTEM_IDENTIFIER;
	control->pg_control_version = PG_CONTROL_VERSION;
	control->catalog_version_no = CATALOG_VERSION_NO;
	control->maxAlign = MAXIMUM_ALIGNOF;
	control->floatFormat = FLOATFORMAT_VALUE;
	control->blcksz = BLCKSZ;
	control->relseg_size = RELSEG_SIZE;
	control->xlog_blcksz = XLOG_BLCKSZ;
	control->xlog_seg_size = SEGMENT_SIZE;
	control->nameDataLen = NAMEDATALEN;
	control->indexMaxKeys = INDEX_MAX_KEYS;
	control->data_checksum_version = 1;
	INIT_CRC32C(control->crc);
	COMP_CRC32C(control->crc, control, offsetof(ControlFileData, crc));
	FIN_CRC32C(control->crc);
	memcpy(file, control, sizeof(*control));
	write_file(c, "global/pg_control", file, sizeof(file));
}

/* A small cluster that can be imported, its WAL ending at x. */
static Cluster *
make_cluster(XLogRecPtr x, TimeLineID tli)
{
	static const char *const dirs[] = {"base", "base/5", "global", "pg_xact", "pg_multixact", "pg_multixact/offsets",
		"pg_multixact/members", "pg_commit_ts", "pg_twophase", "pg_wal", "pg_tblspc", "pg_logical"};
	Cluster    *c = pg_malloc0(sizeof(Cluster));
	PsRel		rel = {1663, 5, 1259};

	strcpy(c->top, "/tmp/t_import.XXXXXX");
	assert_non_null(mkdtemp(c->top));
	c->pgdata = psprintf("%s/pgdata", c->top);
	c->out = psprintf("%s/out", c->top);
	assert_int_equal(mkdir(c->pgdata, 0700), 0);
	assert_int_equal(mkdir(c->out, 0700), 0);
	for (int i = 0; i < lengthof(dirs); i++)
		make_dir(c, dirs[i]);
	write_file(c, "PG_VERSION", PG_MAJORVERSION "\n", 3);
	write_file(c, "base/5/PG_VERSION", "15\n", 3);
	expect(c, ps_key_simple(PS_KEY_DATABASE, 1663, 5, 0), "15\n", 3);
	write_file(c, "base/5/pg_filenode.map", "map of 5", 8);
	expect(c, ps_key_simple(PS_KEY_RELMAP, 1663, 5, 0), "map of 5", 8);
	write_file(c, "global/pg_filenode.map", "shared map", 10);
	expect(c, ps_key_simple(PS_KEY_RELMAP, 1664, 0, 0), "shared map", 10);
	put_page(c, rel, MAIN_FORKNUM, "base/5/1259", 0, 1);
	expect_size(c, rel, MAIN_FORKNUM, 1);
	c->control.state = DB_SHUTDOWNED;
	make_wal(c, x, tli);
	make_control(c);
	c->seed.tenant = ps_id_random();
	c->seed.timeline = ps_id_random();
	return c;
}

static void
free_cluster(Cluster *c)
{
	import_free_layers(&c->seed);
	for (size_t i = 0; i < c->nexpected; i++)
		free(c->expected[i].value);
	free(c->expected);
	assert_true(rmtree(c->top, true));
	pfree(c->pgdata);
	pfree(c->out);
	free(c);
}

static PsError *
import(Cluster *c)
{
	return import_data_directory(c->pgdata, c->out, NULL, NULL, &c->seed);
}

/* ---- comparison ---- */

typedef struct Check
{
	Cluster    *cluster;
	PsKey		last;
} Check;

static PsError *
check_version(void *arg, const PsKey *key, const ValueRef *ref)
{
	Check	   *check = arg;
	Cluster    *c = check->cluster;
	char		text[PS_KEY_TEXT];
	StringInfoData value;
	XLogRecPtr	record_start;

	assert_true(ps_key_cmp(&check->last, key) < 0);
	check->last = *key;
	assert_int_equal(ref->lsn, c->checkpoint_end);
	if (key->kind == PS_KEY_STATE || key->kind == PS_KEY_CONTROL)
		return NULL;			/* looked at elsewhere */
	initStringInfo(&value);
	ASSERT_OK(layer_read_value(ref, &value, &record_start));
	for (size_t i = 0; i < c->nexpected; i++)
		if (ps_key_cmp(&c->expected[i].key, key) == 0)
		{
			assert_false(c->expected[i].found);
			c->expected[i].found = true;
			if (value.len != c->expected[i].len || memcmp(value.data, c->expected[i].value, value.len) != 0)
				fail_msg("wrong value of %s", ps_key_format(key, text));
			pfree(value.data);
			return NULL;
		}
	fail_msg("unexpected key: %s", ps_key_format(key, text));
	return NULL;
}

static void
check_layers(Cluster *c)
{
	Check		check = {.cluster = c};
	PsKey		lo = {0};
	PsKey		hi = {.kind = 255, .fork = 255, .spc = PG_UINT32_MAX, .db = PG_UINT32_MAX, .rel = PG_UINT32_MAX, .blk = PG_UINT32_MAX};
	char		text[PS_KEY_TEXT];

	assert_int_equal(c->seed.lsn, c->checkpoint_end);
	assert_true(c->seed.nlayers > 0);
	for (int i = 0; i < c->seed.nlayers; i++)
		ASSERT_OK(layer_scan(c->seed.layers[i], &lo, &hi, PG_UINT64_MAX, check_version, &check));
	for (size_t i = 0; i < c->nexpected; i++)
		if (!c->expected[i].found)
			fail_msg("not imported: %s", ps_key_format(&c->expected[i].key, text));
}

static void
read_key(Cluster *c, PsKey key, StringInfo value)
{
	ValueList	list = {0};
	bool		done = false;
	XLogRecPtr	record_start;

	for (int i = 0; i < c->seed.nlayers && !done; i++)
		ASSERT_OK(layer_collect(c->seed.layers[i], &key, 0, PG_UINT64_MAX, &list, &done));
	assert_int_equal(list.n, 1);
	ASSERT_OK(layer_read_value(&list.refs[0], value, &record_start));
	free(list.refs);
}

/* The WAL is readable up to the end of the checkpoint, and zeros after it. */
static void
check_wal(Cluster *c)
{
	char	   *dir = psprintf("%s/wal", c->out);
	WalSegments *segs;
	char		record[256];
	XLogSegNo	oldest,
				newest;
	char		name[MAXFNAMELEN];
	char	   *path;
	FILE	   *file;
	struct stat st;

	ASSERT_OK(wal_segments_open(dir, SEGMENT_SIZE, &segs));
	assert_true(wal_segments_range(segs, &oldest, &newest));
	assert_int_equal(oldest, c->control.checkPoint / SEGMENT_SIZE);
	assert_int_equal(newest, (c->checkpoint_end - 1) / SEGMENT_SIZE);
	ASSERT_OK(wal_segments_read_record(segs, c->control.checkPoint, 114, record));
	wal_segments_close(segs);

	XLogFileName(name, 1, newest, SEGMENT_SIZE);
	path = psprintf("%s/%s", dir, name);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, SEGMENT_SIZE);
	file = fopen(path, "rb");
	assert_int_equal(fseek(file, (c->checkpoint_end - 1) % SEGMENT_SIZE + 1, SEEK_SET), 0);
	for (int ch; (ch = fgetc(file)) != EOF;)
		assert_int_equal(ch, 0);
	fclose(file);
	pfree(path);
	pfree(dir);
}

/* ---- tests ---- */

static void
test_everything(void **state)
{
	Cluster    *c = make_cluster(3 * SEGMENT_SIZE + 70000, 1);
	PsRel		rel = {1663, 5, 16400};
	PsRel		unlogged = {1663, 5, 16401};
	PsRel		shared = {1664, 0, 1262};
	PsRel		in_space = {16384, 5, 16402};
	PGAlignedBlock slru[3];
	char		lsn[8];
	char		pages[4];
	ReplicationStateOnDisk origins[2];
	StringInfoData data;
	uint32		magic = REPLICATION_STATE_MAGIC;
	pg_crc32c	crc;
	char	   *path;

	/* forks; a page of zeros in the middle and at the end; a page that was not written whole */
	put_page(c, rel, MAIN_FORKNUM, "base/5/16400", 0, 2);
	put_page(c, rel, MAIN_FORKNUM, "base/5/16400", 3, 2);
	memset(slru, 0, sizeof(slru));
	write_at(c, "base/5/16400", slru[0].data, BLCKSZ, 4 * BLCKSZ);
	write_at(c, "base/5/16400", "torn", 4, 5 * BLCKSZ);
	expect_size(c, rel, MAIN_FORKNUM, 5);
	put_page(c, rel, FSM_FORKNUM, "base/5/16400_fsm", 2, 3);
	expect_size(c, rel, FSM_FORKNUM, 3);
	put_page(c, rel, VISIBILITYMAP_FORKNUM, "base/5/16400_vm", 0, 4);
	expect_size(c, rel, VISIBILITYMAP_FORKNUM, 1);

	/* an unlogged relation: its init fork, empty here */
	write_file(c, "base/5/16401", slru[0].data, BLCKSZ);
	write_file(c, "base/5/16401_fsm", slru[0].data, BLCKSZ);
	write_file(c, "base/5/16401_init", "", 0);
	expect_size(c, unlogged, INIT_FORKNUM, 0);

	put_page(c, shared, MAIN_FORKNUM, "global/1262", 0, 5);
	expect_size(c, shared, MAIN_FORKNUM, 1);

	/* what is none of a relation's permanent files */
	write_file(c, "base/5/t3_16405", slru[0].data, BLCKSZ);
	write_file(c, "base/5/pg_internal.init", "x", 1);
	write_file(c, "base/5/016400", "x", 1);
	write_file(c, "base/5/16400_xyz", "x", 1);
	make_dir(c, "base/pgsql_tmp");

	/* a tablespace */
	path = psprintf("%s/space", c->top);
	assert_int_equal(mkdir(path, 0700), 0);
	{
		char	   *link = psprintf("%s/pg_tblspc/16384", c->pgdata);

		assert_int_equal(symlink(path, link), 0);
		pfree(link);
	}
	expect(c, ps_key_simple(PS_KEY_TABLESPACE, 16384, 0, 0), path, strlen(path));
	pfree(path);
	make_dir(c, "pg_tblspc/16384/" VERSION_DIR);
	make_dir(c, "pg_tblspc/16384/" VERSION_DIR "/5");
	put_page(c, in_space, MAIN_FORKNUM, "pg_tblspc/16384/" VERSION_DIR "/5/16402", 0, 6);
	expect_size(c, in_space, MAIN_FORKNUM, 1);

	/* SLRUs, with a page of zeros, which counts here */
	for (int i = 0; i < 2; i++)
	{
		memset(slru[i].data, i + 1, BLCKSZ);
		expect(c, ps_key_slru_block(PS_SLRU_CLOG, 2 * 32 + i), slru[i].data, BLCKSZ);
	}
	expect(c, ps_key_slru_block(PS_SLRU_CLOG, 2 * 32 + 2), slru[2].data, BLCKSZ);
	write_file(c, "pg_xact/0002", slru[0].data, 3 * BLCKSZ);
	ps_put32(pages, 3);
	expect(c, ps_key_slru_segment(PS_SLRU_CLOG, 2), pages, 4);
	write_file(c, "pg_multixact/members/14078", slru[1].data, BLCKSZ);
	ps_put32(pages, 1);
	expect(c, ps_key_slru_segment(PS_SLRU_MULTIXACT_MEMBERS, 0x14078), pages, 4);
	expect(c, ps_key_slru_block(PS_SLRU_MULTIXACT_MEMBERS, 0x14078 * 32), slru[1].data, BLCKSZ);
	write_file(c, "pg_commit_ts/0000", slru[0].data, BLCKSZ);
	expect(c, ps_key_slru_segment(PS_SLRU_COMMIT_TS, 0), pages, 4);
	expect(c, ps_key_slru_block(PS_SLRU_COMMIT_TS, 0), slru[0].data, BLCKSZ);

	write_file(c, "pg_twophase/000002AB", "prepared", 8);
	expect(c, ps_key_simple(PS_KEY_TWOPHASE, 0, 0, 0x2AB), "prepared", 8);

	/* origins, not in order */
	memset(origins, 0, sizeof(origins));
	origins[0].roident = 7;
	origins[0].remote_lsn = 0xABCDEF;
	origins[1].roident = 2;
	origins[1].remote_lsn = UINT64CONST(0x100000001);
	initStringInfo(&data);
	appendBinaryStringInfo(&data, (char *) &magic, 4);
	appendBinaryStringInfo(&data, (char *) origins, sizeof(origins));
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data.data, data.len);
	FIN_CRC32C(crc);
	appendBinaryStringInfo(&data, (char *) &crc, 4);
	write_file(c, "pg_logical/replorigin_checkpoint", data.data, data.len);
	for (int i = 0; i < 2; i++)
	{
		ps_put64(lsn, origins[i].remote_lsn);
		expect(c, ps_key_simple(PS_KEY_ORIGIN, 0, 0, origins[i].roident), lsn, 8);
	}

	/* settings */
	write_file(c, "pg_hba.conf", "local all all peer\n", 19);
	expect(c, datadir_aux_key("pg_hba.conf"), "pg_hba.conf\0local all all peer\n", 12 + 19);
#define CONF "port = 1\ninclude 'a'\nshared_preload_libraries = 'x, pageserver_smgr'\n"
	write_file(c, "postgresql.conf", CONF, strlen(CONF));
#define CONF_AFTER "postgresql.conf\0port = 1\n#include 'a'	# left out by the import into the page server\n" \
	"shared_preload_libraries = 'x, pageserver_smgr'\n\n# the page server adds its own library\nshared_preload_libraries = 'x'\n"
	expect(c, datadir_aux_key("postgresql.conf"), CONF_AFTER, sizeof(CONF_AFTER) - 1);

	ASSERT_OK(import(c));
	check_layers(c);
	check_wal(c);

	/* state and control file */
	{
		PsKey		key = ps_key_simple(PS_KEY_STATE, 0, 0, 0);
		WalState	wal;
		ControlFileData control;

		resetStringInfo(&data);
		read_key(c, key, &data);
		ASSERT_OK(wal_state_decode(data.data, data.len, &wal));
		assert_int_equal(wal.end, c->checkpoint_end);
		assert_int_equal(wal.prev, c->control.checkPoint);
		assert_true(wal.shutdown);
		assert_int_equal(wal.checkpoint.nextXid.value, 1000);
		key.kind = PS_KEY_CONTROL;
		resetStringInfo(&data);
		read_key(c, key, &data);
		ASSERT_OK(control_decode(data.data, data.len, "stored", &control));
		assert_int_equal(control.system_identifier, SYSTEM_IDENTIFIER);
		assert_int_equal(data.len, PG_CONTROL_FILE_SIZE);
	}
	assert_int_equal(c->seed.system_identifier, SYSTEM_IDENTIFIER);
	assert_int_equal(c->seed.segment_size, SEGMENT_SIZE);
	assert_int_equal(c->seed.data_checksum_version, 1);
	pfree(data.data);
	free_cluster(c);
}

/* A relation of more than one segment; blocks count through. */
static void
test_segments(void **state)
{
	Cluster    *c = make_cluster(3 * SEGMENT_SIZE + 70000, 1);
	PsRel		rel = {1663, 5, 16400};
	char	   *path = psprintf("%s/base/5/16400", c->pgdata);

	put_page(c, rel, MAIN_FORKNUM, "base/5/16400", 9, 2);
	assert_int_equal(truncate(path, (off_t) RELSEG_SIZE * BLCKSZ), 0);
	put_page(c, rel, MAIN_FORKNUM, "base/5/16400.1", RELSEG_SIZE + 2, 2);
	expect_size(c, rel, MAIN_FORKNUM, RELSEG_SIZE + 3);
	write_file(c, "base/5/16400.2", "", 0);	/* left by a truncation */
	ASSERT_OK(import(c));
	check_layers(c);
	pfree(path);
	free_cluster(c);
}

/* Wherever the end of WAL lies. */
static void
test_wal_positions(void **state)
{
	static const XLogRecPtr positions[] = {
		70000 / 8 * 8,			/* inside a page */
		2 * XLOG_BLCKSZ,		/* at a page's start: the header comes first */
		3 * XLOG_BLCKSZ - 8,	/* all but 8 bytes on the next page */
		3 * XLOG_BLCKSZ - 64,
		3 * XLOG_BLCKSZ - 112,	/* 2 bytes on the next page */
		3 * XLOG_BLCKSZ - 120,	/* ends with the page */
		SizeOfXLogLongPHD,		/* first in its segment */
		0,						/* at a segment's start */
		SEGMENT_SIZE - 8,		/* over to the next segment */
		SEGMENT_SIZE - 112,
		SEGMENT_SIZE - 120,		/* ends with the segment */
	};

	for (int i = 0; i < lengthof(positions); i++)
	{
		for (TimeLineID tli = 1; tli <= 3; tli += 2)
		{
			Cluster    *c = make_cluster(5 * SEGMENT_SIZE + positions[i], tli);
			StringInfoData data;
			WalState	wal;

			ASSERT_OK(import(c));
			check_layers(c);
			check_wal(c);

			/* a cluster that was promoted must not be started from a checkpoint of its old timeline */
			initStringInfo(&data);
			read_key(c, ps_key_simple(PS_KEY_STATE, 0, 0, 0), &data);
			ASSERT_OK(wal_state_decode(data.data, data.len, &wal));
			assert_int_equal(wal.shutdown, tli == 1);
			assert_int_equal(wal.checkpoint.ThisTimeLineID, 1);
			pfree(data.data);
			free_cluster(c);
		}
	}
}

static void
assert_refused(Cluster *c, const char *sqlstate, const char *part)
{
	PsError    *err = import(c);

	assert_non_null(err);
	if (strcmp(err->sqlstate, sqlstate) != 0 || strstr(err->message, part) == NULL)
		fail_msg("%s: %s", err->sqlstate, err->message);
	ps_error_free(err);
	free_cluster(c);
}

static void
test_refused(void **state)
{
	XLogRecPtr	x = 5 * SEGMENT_SIZE + 70000;
	PsRel		rel = {1663, 5, 16400};
	Cluster    *c;
	PGAlignedBlock page;
	char	   *path;

	c = make_cluster(x, 1);
	c->control.state = DB_IN_PRODUCTION;
	make_control(c);
	assert_refused(c, PS_SQLSTATE_STATE, "not shut down cleanly");

	c = make_cluster(x, 1);
	c->control.state = DB_SHUTDOWNED_IN_RECOVERY;
	make_control(c);
	assert_refused(c, PS_SQLSTATE_STATE, "standby");

	c = make_cluster(x, 1);
	write_file(c, "postmaster.pid", "1\n", 2);
	assert_refused(c, PS_SQLSTATE_STATE, "postmaster.pid");

	c = make_cluster(x, 1);
	write_file(c, "pageserver_smgr.conf", "", 0);
	assert_refused(c, PS_SQLSTATE_STATE, "belongs to a compute");

	c = make_cluster(x, 1);
	write_file(c, "backup_label", "", 0);
	assert_refused(c, PS_SQLSTATE_STATE, "base backup");

	/* a bad page */
	c = make_cluster(x, 1);
	put_page(c, rel, MAIN_FORKNUM, "base/5/16400", 1, 1);
	write_at(c, "base/5/16400", "bad", 3, BLCKSZ + 5000);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "block 1 of the relation in file");

	/* a page in the wrong place */
	c = make_cluster(x, 1);
	make_page(page.data, 1, 5);
	write_file(c, "base/5/16400", page.data, BLCKSZ);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "block 0 of the relation in file");

	/* a segment after one that is not full */
	c = make_cluster(x, 1);
	put_page(c, rel, MAIN_FORKNUM, "base/5/16400", 1, 1);
	write_file(c, "base/5/16400.1", page.data, BLCKSZ);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "segment 1 of relation 1663/5/16400");

	/* no WAL, WAL of another cluster, another record there, a damaged record */
	c = make_cluster(x, 1);
	path = psprintf("%s/pg_wal/000000010000000000000005", c->pgdata);
	assert_int_equal(unlink(path), 0);
	pfree(path);
	assert_refused(c, PS_SQLSTATE_IO, "000000010000000000000005");

	c = make_cluster(x, 1);
	c->control.system_identifier++;
	{
		ControlFileData other = c->control;
		char		file[PG_CONTROL_FILE_SIZE] = {0};

		INIT_CRC32C(other.crc);
		COMP_CRC32C(other.crc, &other, offsetof(ControlFileData, crc));
		FIN_CRC32C(other.crc);
		memcpy(file, &other, sizeof(other));
		write_file(c, "global/pg_control", file, sizeof(file));
	}
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "system identifier");

	c = make_cluster(x, 1);
	FullTransactionIdAdvance(&c->control.checkPointCopy.nextXid);
	make_control(c);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "not the shutdown checkpoint");

	c = make_cluster(x, 1);
	wal_write(c, c->control.checkPoint + 60, "\377\377", 2);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "shutdown checkpoint of the cluster");

	/* SLRU file that is no whole number of pages, damaged origins */
	c = make_cluster(x, 1);
	write_file(c, "pg_xact/0000", "short", 5);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "pg_xact/0000");

	c = make_cluster(x, 1);
	write_file(c, "pg_logical/replorigin_checkpoint", "garbage!garbage!garbage!", 24);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "replorigin_checkpoint");

	/* what would never end, or not fit into memory */
	c = make_cluster(x, 1);
	path = psprintf("%s/base/5/pg_filenode.map", c->pgdata);
	assert_int_equal(truncate(path, (off_t) 5 * 1024 * 1024 * 1024), 0);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "base/5/pg_filenode.map\" is not a file of at most");
	pfree(path);

	c = make_cluster(x, 1);
	path = psprintf("%s/global/pg_filenode.map", c->pgdata);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "global/pg_filenode.map\" is not a file");
	pfree(path);

	c = make_cluster(x, 1);
	path = psprintf("%s/global/pg_filenode.map", c->pgdata);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/dev/zero", path), 0);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "global/pg_filenode.map\" is not a file");
	pfree(path);

	/* no cluster at all */
	c = make_cluster(x, 1);
	path = psprintf("%s/PG_VERSION", c->pgdata);
	assert_int_equal(unlink(path), 0);
	pfree(path);
	assert_refused(c, PS_SQLSTATE_INVALID, "PG_VERSION");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything),
		cmocka_unit_test(test_segments),
		cmocka_unit_test(test_wal_positions),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
