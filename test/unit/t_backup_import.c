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

#include "bytes.h"
#include "cluster_util.h"
#include "pg/control.h"
#include "sqlstate.h"

#define ASSERT_OK(expr)                           \
	do                                            \
	{                                             \
		PsError *assert_err_ = (expr);            \
		if (assert_err_ != NULL)                  \
			fail_msg("%s", assert_err_->message); \
	} while (0)

static PsError *
import(Cluster *c)
{
	return import_data_directory(c->pgdata, c->out, NULL, NULL, &c->seed);
}

/* ---- comparison ---- */

typedef struct Check
{
	Cluster *cluster;
	PsKey last;
} Check;

static PsError *
check_version(void *arg, const PsKey *key, const ValueRef *ref)
{
	Check *check = arg;
	Cluster *c = check->cluster;
	char text[PS_KEY_TEXT];
	StringInfoData value;
	XLogRecPtr record_start;

	assert_true(ps_key_cmp(&check->last, key) < 0);
	check->last = *key;
	assert_int_equal(ref->lsn, c->checkpoint_end);
	if (key->kind == PS_KEY_STATE || key->kind == PS_KEY_CONTROL)
		return NULL; /* looked at elsewhere */
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
	Check check = {.cluster = c};
	PsKey lo = {0};
	PsKey hi = ps_key_last();
	char text[PS_KEY_TEXT];

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
	ValueList list = {0};
	bool done = false;
	XLogRecPtr record_start;

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
	char *dir = psprintf("%s/wal", c->out);
	WalSegments *segs;
	char record[256];
	XLogSegNo oldest,
		newest;
	char name[MAXFNAMELEN];
	char *path;
	FILE *file;
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
	Cluster *c = make_cluster(3 * SEGMENT_SIZE + 70000, 1);
	PsRel rel = {1663, 5, 16400};
	PsRel unlogged = {1663, 5, 16401};
	PsRel shared = {1664, 0, 1262};
	PsRel in_space = {16384, 5, 16402};
	PGAlignedBlock slru[3];
	char lsn[8];
	char pages[4];
	ReplicationStateOnDisk origins[2];
	StringInfoData data;
	uint32 magic = REPLICATION_STATE_MAGIC;
	pg_crc32c crc;
	char *path;

	/* forks; a page of zeros in the middle and at the end; a page that was not written whole */
	cluster_put_page(c, rel, MAIN_FORKNUM, "base/5/16400", 0, 2);
	cluster_put_page(c, rel, MAIN_FORKNUM, "base/5/16400", 3, 2);
	memset(slru, 0, sizeof(slru));
	cluster_write_at(c, "base/5/16400", slru[0].data, BLCKSZ, 4 * BLCKSZ);
	cluster_write_at(c, "base/5/16400", "torn", 4, 5 * BLCKSZ);
	cluster_expect_size(c, rel, MAIN_FORKNUM, 5);
	cluster_put_page(c, rel, FSM_FORKNUM, "base/5/16400_fsm", 2, 3);
	cluster_expect_size(c, rel, FSM_FORKNUM, 3);
	cluster_put_page(c, rel, VISIBILITYMAP_FORKNUM, "base/5/16400_vm", 0, 4);
	cluster_expect_size(c, rel, VISIBILITYMAP_FORKNUM, 1);

	/* an unlogged relation: its init fork, empty here */
	cluster_write(c, "base/5/16401", slru[0].data, BLCKSZ);
	cluster_write(c, "base/5/16401_fsm", slru[0].data, BLCKSZ);
	cluster_write(c, "base/5/16401_init", "", 0);
	cluster_expect_size(c, unlogged, INIT_FORKNUM, 0);

	cluster_put_page(c, shared, MAIN_FORKNUM, "global/1262", 0, 5);
	cluster_expect_size(c, shared, MAIN_FORKNUM, 1);

	/* what is none of a relation's permanent files */
	cluster_write(c, "base/5/t3_16405", slru[0].data, BLCKSZ);
	cluster_write(c, "base/5/pg_internal.init", "x", 1);
	cluster_write(c, "base/5/016400", "x", 1);
	cluster_write(c, "base/5/16400_xyz", "x", 1);
	cluster_dir(c, "base/pgsql_tmp");

	/* a tablespace */
	path = psprintf("%s/space", c->top);
	assert_int_equal(mkdir(path, 0700), 0);
	{
		char *link = psprintf("%s/pg_tblspc/16384", c->pgdata);

		assert_int_equal(symlink(path, link), 0);
		pfree(link);
	}
	cluster_expect(c, ps_key_simple(PS_KEY_TABLESPACE, 16384, 0, 0), path, strlen(path));
	pfree(path);
	cluster_dir(c, "pg_tblspc/16384/" VERSION_DIR);
	cluster_dir(c, "pg_tblspc/16384/" VERSION_DIR "/5");
	cluster_put_page(c, in_space, MAIN_FORKNUM, "pg_tblspc/16384/" VERSION_DIR "/5/16402", 0, 6);
	cluster_expect_size(c, in_space, MAIN_FORKNUM, 1);

	/* SLRUs, with a page of zeros, which counts here */
	for (int i = 0; i < 2; i++)
	{
		memset(slru[i].data, i + 1, BLCKSZ);
		cluster_expect(c, ps_key_slru_block(PS_SLRU_CLOG, 2 * 32 + i), slru[i].data, BLCKSZ);
	}
	cluster_expect(c, ps_key_slru_block(PS_SLRU_CLOG, 2 * 32 + 2), slru[2].data, BLCKSZ);
	cluster_write(c, "pg_xact/0002", slru[0].data, 3 * BLCKSZ);
	ps_put32(pages, 3);
	cluster_expect(c, ps_key_slru_segment(PS_SLRU_CLOG, 2), pages, 4);
	cluster_write(c, "pg_multixact/members/14078", slru[1].data, BLCKSZ);
	ps_put32(pages, 1);
	cluster_expect(c, ps_key_slru_segment(PS_SLRU_MULTIXACT_MEMBERS, 0x14078), pages, 4);
	cluster_expect(c, ps_key_slru_block(PS_SLRU_MULTIXACT_MEMBERS, 0x14078 * 32), slru[1].data, BLCKSZ);
	cluster_write(c, "pg_commit_ts/0000", slru[0].data, BLCKSZ);
	cluster_expect(c, ps_key_slru_segment(PS_SLRU_COMMIT_TS, 0), pages, 4);
	cluster_expect(c, ps_key_slru_block(PS_SLRU_COMMIT_TS, 0), slru[0].data, BLCKSZ);

	cluster_write(c, "pg_twophase/000002AB", "prepared", 8);
	cluster_expect(c, ps_key_simple(PS_KEY_TWOPHASE, 0, 0, 0x2AB), "prepared", 8);

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
	cluster_write(c, "pg_logical/replorigin_checkpoint", data.data, data.len);
	for (int i = 0; i < 2; i++)
	{
		ps_put64(lsn, origins[i].remote_lsn);
		cluster_expect(c, ps_key_simple(PS_KEY_ORIGIN, 0, 0, origins[i].roident), lsn, 8);
	}

	/* settings */
	cluster_write(c, "pg_hba.conf", "local all all peer\n", 19);
	cluster_expect(c, datadir_aux_key("pg_hba.conf"), "pg_hba.conf\0local all all peer\n", 12 + 19);
#define CONF "port = 1\ninclude 'a'\nshared_preload_libraries = 'x, pageserver_smgr'\n"
	cluster_write(c, "postgresql.conf", CONF, strlen(CONF));
#define CONF_AFTER                                                                                \
	"postgresql.conf\0port = 1\n#include 'a'	# left out by the import into the page server\n"     \
	"shared_preload_libraries = 'x, pageserver_smgr'\n\n# the page server adds its own library\n" \
	"shared_preload_libraries = 'x'\n"
	cluster_expect(c, datadir_aux_key("postgresql.conf"), CONF_AFTER, sizeof(CONF_AFTER) - 1);

	ASSERT_OK(import(c));
	check_layers(c);
	check_wal(c);

	/* state and control file */
	{
		PsKey key = ps_key_simple(PS_KEY_STATE, 0, 0, 0);
		WalState wal;
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
	Cluster *c = make_cluster(3 * SEGMENT_SIZE + 70000, 1);
	PsRel rel = {1663, 5, 16400};
	char *path = psprintf("%s/base/5/16400", c->pgdata);

	cluster_put_page(c, rel, MAIN_FORKNUM, "base/5/16400", 9, 2);
	assert_int_equal(truncate(path, (off_t) RELSEG_SIZE * BLCKSZ), 0);
	cluster_put_page(c, rel, MAIN_FORKNUM, "base/5/16400.1", RELSEG_SIZE + 2, 2);
	cluster_expect_size(c, rel, MAIN_FORKNUM, RELSEG_SIZE + 3);
	cluster_write(c, "base/5/16400.2", "", 0); /* left by a truncation */
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
		70000 / 8 * 8,       /* inside a page */
		2 * XLOG_BLCKSZ,     /* at a page's start: the header comes first */
		3 * XLOG_BLCKSZ - 8, /* all but 8 bytes on the next page */
		3 * XLOG_BLCKSZ - 64,
		3 * XLOG_BLCKSZ - 112, /* 2 bytes on the next page */
		3 * XLOG_BLCKSZ - 120, /* ends with the page */
		SizeOfXLogLongPHD,     /* first in its segment */
		0,                     /* at a segment's start */
		SEGMENT_SIZE - 8,      /* over to the next segment */
		SEGMENT_SIZE - 112,
		SEGMENT_SIZE - 120, /* ends with the segment */
	};

	for (int i = 0; i < lengthof(positions); i++)
	{
		for (TimeLineID tli = 1; tli <= 3; tli += 2)
		{
			Cluster *c = make_cluster(5 * SEGMENT_SIZE + positions[i], tli);
			StringInfoData data;
			WalState wal;

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
	PsError *err = import(c);

	assert_non_null(err);
	if (strcmp(err->sqlstate, sqlstate) != 0 || strstr(err->message, part) == NULL)
		fail_msg("%s: %s", err->sqlstate, err->message);
	ps_error_free(err);
	free_cluster(c);
}

static void
test_refused(void **state)
{
	XLogRecPtr x = 5 * SEGMENT_SIZE + 70000;
	PsRel rel = {1663, 5, 16400};
	Cluster *c;
	PGAlignedBlock page;
	char *path;

	c = make_cluster(x, 1);
	c->control.state = DB_IN_PRODUCTION;
	cluster_control(c);
	assert_refused(c, PS_SQLSTATE_STATE, "not shut down cleanly");

	c = make_cluster(x, 1);
	c->control.state = DB_SHUTDOWNED_IN_RECOVERY;
	cluster_control(c);
	assert_refused(c, PS_SQLSTATE_STATE, "standby");

	c = make_cluster(x, 1);
	cluster_write(c, "postmaster.pid", "1\n", 2);
	assert_refused(c, PS_SQLSTATE_STATE, "postmaster.pid");

	c = make_cluster(x, 1);
	cluster_write(c, "pageserver_smgr.conf", "", 0);
	assert_refused(c, PS_SQLSTATE_STATE, "data directory of a compute");

	c = make_cluster(x, 1);
	cluster_write(c, "backup_label", "", 0);
	assert_refused(c, PS_SQLSTATE_STATE, "base backup");

	/* a bad page */
	c = make_cluster(x, 1);
	cluster_put_page(c, rel, MAIN_FORKNUM, "base/5/16400", 1, 1);
	cluster_write_at(c, "base/5/16400", "bad", 3, BLCKSZ + 5000);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "block 1 of the relation in file");

	/* a page in the wrong place */
	c = make_cluster(x, 1);
	cluster_page(page.data, 1, 5);
	cluster_write(c, "base/5/16400", page.data, BLCKSZ);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "block 0 of the relation in file");

	/* a segment after one that is not full */
	c = make_cluster(x, 1);
	cluster_put_page(c, rel, MAIN_FORKNUM, "base/5/16400", 1, 1);
	cluster_write(c, "base/5/16400.1", page.data, BLCKSZ);
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
		char file[PG_CONTROL_FILE_SIZE] = {0};

		INIT_CRC32C(other.crc);
		COMP_CRC32C(other.crc, &other, offsetof(ControlFileData, crc));
		FIN_CRC32C(other.crc);
		memcpy(file, &other, sizeof(other));
		cluster_write(c, "global/pg_control", file, sizeof(file));
	}
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "system identifier");

	c = make_cluster(x, 1);
	FullTransactionIdAdvance(&c->control.checkPointCopy.nextXid);
	cluster_control(c);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "not the shutdown checkpoint");

	c = make_cluster(x, 1);
	cluster_wal_write(c, c->control.checkPoint + 60, "\377\377", 2);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "shutdown checkpoint of the cluster");

	/* SLRU file that is no whole number of pages, damaged origins */
	c = make_cluster(x, 1);
	cluster_write(c, "pg_xact/0000", "short", 5);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "pg_xact/0000");

	c = make_cluster(x, 1);
	cluster_write(c, "pg_logical/replorigin_checkpoint", "garbage!garbage!garbage!", 24);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "replorigin_checkpoint");

	/* what would never end, or not fit into memory */
	c = make_cluster(x, 1);
	path = psprintf("%s/base/5/pg_filenode.map", c->pgdata);
	assert_int_equal(truncate(path, (off_t) 5 * 1024 * 1024 * 1024), 0);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "base/5/pg_filenode.map\" is not a regular file of at most");
	pfree(path);

	c = make_cluster(x, 1);
	path = psprintf("%s/global/pg_filenode.map", c->pgdata);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "global/pg_filenode.map\" is not a regular file");
	pfree(path);

	c = make_cluster(x, 1);
	path = psprintf("%s/global/pg_filenode.map", c->pgdata);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/dev/zero", path), 0);
	assert_refused(c, PS_SQLSTATE_CORRUPTED, "global/pg_filenode.map\" is not a regular file");
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
