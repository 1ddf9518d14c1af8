/*
 * t_backup.c
 *	  The small parts of backups: tar streams, pg_control, data checksums,
 *	  settings files as text.
 */
#include "ps_fe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "access/transam.h"
#include "catalog/catversion.h"
#include "pgtar.h"
#include "storage/bufpage.h"

#include "backup/backup_impl.h"
#include "conf.h"
#include "pg/control.h"
#include "sqlstate.h"

#define ASSERT_OK(expr)                           \
	do                                            \
	{                                             \
		PsError *assert_err_ = (expr);            \
		if (assert_err_ != NULL)                  \
			fail_msg("%s", assert_err_->message); \
	} while (0)

static void
assert_fails(PsError *err, const char *sqlstate, const char *part)
{
	assert_non_null(err);
	assert_string_equal(err->sqlstate, sqlstate);
	if (strstr(err->message, part) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", part, err->message);
	ps_error_free(err);
}

/* ---- tar ---- */

typedef struct Collector
{
	StringInfoData data;
	int fail_after; /* bytes; -1: never */
} Collector;

static PsError *
collect(void *arg, const char *data, size_t len)
{
	Collector *c = arg;

	if (c->fail_after >= 0 && c->data.len + len > c->fail_after)
		return ps_error(PS_SQLSTATE_IO, "the reader has gone");
	appendBinaryStringInfo(&c->data, data, len);
	return NULL;
}

static char *
pattern(size_t len, int seed)
{
	char *data = pg_malloc(len + 1);

	for (size_t i = 0; i < len; i++)
		data[i] = (char) (i * 31 + i / 251 + seed);
	return data;
}

/* Does a file have these contents, followed by zeros up to size? */
static void
assert_file(const char *dir, const char *name, const char *data, size_t len, size_t size)
{
	char *path = psprintf("%s/%s", dir, name);
	struct stat st;
	FILE *file = fopen(path, "rb");
	char *buf = pg_malloc(size + 1);

	if (file == NULL)
		fail_msg("no file %s", path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, size);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(fread(buf, 1, size + 1, file), size);
	assert_memory_equal(buf, data, len);
	for (size_t i = len; i < size; i++)
		assert_int_equal(buf[i], 0);
	fclose(file);
	free(buf);
	pfree(path);
}

static void
test_tar(void **state)
{
	char dir[] = "/tmp/t_backup.XXXXXX";
	Collector c = {.fail_after = -1};
	TarSink *tar;
	size_t big_len = 300 * 1024 + 17;
	char *big = pattern(big_len, 1);
	char *tail = pattern(16384, 2);
	char *command;
	FILE *pipe;
	struct stat st;
	char *path;

	initStringInfo(&c.data);
	tar = tar_create((ByteSink) {collect, &c});
	ASSERT_OK(tar_directory(tar, "base"));
	ASSERT_OK(tar_file(tar, "base/empty", "", 0));
	ASSERT_OK(tar_file(tar, "base/block", tail, 512));
	ASSERT_OK(tar_file(tar, "base/more", tail, 513));
	ASSERT_OK(tar_file_begin(tar, "base/big", big_len + 100000));
	ASSERT_OK(tar_write(tar, big, 5));
	ASSERT_OK(tar_write(tar, big + 5, big_len - 5));
	ASSERT_OK(tar_write_zeros(tar, 100000));
	ASSERT_OK(tar_file_end(tar));
	ASSERT_OK(tar_sparse_file_begin(tar, "base/sparse", 16384, 16 * 1024 * 1024));
	ASSERT_OK(tar_write(tar, tail, 16384));
	ASSERT_OK(tar_file_end(tar));
	ASSERT_OK(tar_sparse_file_begin(tar, "base/full", 16384, 16384));
	ASSERT_OK(tar_write(tar, tail, 16384));
	ASSERT_OK(tar_file_end(tar));
	ASSERT_OK(tar_finish(tar));
	tar_free(tar);
	assert_int_equal(c.data.len % TAR_BLOCK_SIZE, 0);
	assert_true(c.data.len < 1024 * 1024); /* the hole is not sent */
	assert_int_equal(read_tar_number(c.data.data + 148, 8), tarChecksum(c.data.data));

	/* the judge is the program that pageserver_ctl uses */
	assert_non_null(mkdtemp(dir));
	command = psprintf("tar -x -p -f - -C %s", dir);
	pipe = popen(command, "w");
	assert_int_equal(fwrite(c.data.data, 1, c.data.len, pipe), c.data.len);
	assert_int_equal(pclose(pipe), 0);
	assert_file(dir, "base/empty", "", 0, 0);
	assert_file(dir, "base/block", tail, 512, 512);
	assert_file(dir, "base/more", tail, 513, 513);
	assert_file(dir, "base/big", big, big_len, big_len + 100000);
	assert_file(dir, "base/sparse", tail, 16384, 16 * 1024 * 1024);
	assert_file(dir, "base/full", tail, 16384, 16384);
	path = psprintf("%s/base", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	pfree(path);
	path = psprintf("%s/base/sparse", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_blocks * 512 < 1024 * 1024);
	pfree(path);
	assert_true(rmtree(dir, true));
	pfree(command);
	pfree(c.data.data);
	free(big);
	free(tail);
}

static void
test_tar_errors(void **state)
{
	Collector c = {.fail_after = 200 * 1024};
	char name[128];
	char *data = pattern(300 * 1024, 3);
	TarSink *tar;

	initStringInfo(&c.data);
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';

	tar = tar_create((ByteSink) {collect, &c});
	assert_fails(tar_file(tar, name, "", 0), PS_SQLSTATE_INTERNAL, "too long");
	ASSERT_OK(tar_file_begin(tar, "short", 10));
	ASSERT_OK(tar_write(tar, data, 9));
	assert_fails(tar_file_end(tar), PS_SQLSTATE_INTERNAL, "\"short\"");
	tar_free(tar);

	tar = tar_create((ByteSink) {collect, &c});
	assert_fails(tar_file(tar, "big", data, 300 * 1024), PS_SQLSTATE_IO, "reader has gone");
	tar_free(tar);
	pfree(c.data.data);
	free(data);
}

/* ---- pg_control ---- */

static void
make_base(ControlFileData *control)
{
	memset(control, 0, sizeof(*control));
	control->system_identifier = UINT64CONST(7123456789012345678);
	control->pg_control_version = PG_CONTROL_VERSION;
	control->catalog_version_no = CATALOG_VERSION_NO;
	control->state = DB_IN_PRODUCTION;
	control->minRecoveryPoint = 77;
	control->backupStartPoint = 78;
	control->maxAlign = MAXIMUM_ALIGNOF;
	control->floatFormat = FLOATFORMAT_VALUE;
	control->blcksz = BLCKSZ;
	control->relseg_size = RELSEG_SIZE;
	control->xlog_blcksz = XLOG_BLCKSZ;
	control->xlog_seg_size = 16 * 1024 * 1024;
	control->nameDataLen = NAMEDATALEN;
	control->indexMaxKeys = INDEX_MAX_KEYS;
	control->data_checksum_version = 1;
	memset(control->mock_authentication_nonce, 0xAB, MOCK_AUTH_NONCE_LEN);
}

static void
set_crc(char *file)
{
	ControlFileData control;

	memcpy(&control, file, sizeof(control));
	INIT_CRC32C(control.crc);
	COMP_CRC32C(control.crc, &control, offsetof(ControlFileData, crc));
	FIN_CRC32C(control.crc);
	memcpy(file, &control, sizeof(control));
}

static void
test_control(void **state)
{
	ControlFileData base;
	ControlFileData control;
	WalState wal = {.max_connections = 123,
					.max_worker_processes = 9,
					.max_wal_senders = 11,
					.max_prepared_xacts = 5,
					.max_locks_per_xact = 65,
					.wal_level = 2,
					.wal_log_hints = true,
					.track_commit_timestamp = true};
	CheckPoint checkpoint = {.redo = 0x1234560,
							 .ThisTimeLineID = 1,
							 .PrevTimeLineID = 1,
							 .nextOid = 24576,
							 .nextMulti = 7};
	char file[PG_CONTROL_FILE_SIZE];
	char again[PG_CONTROL_FILE_SIZE];

	make_base(&base);
	checkpoint.nextXid = FullTransactionIdFromEpochAndXid(3, 999);
	control_make(&base, &wal, &checkpoint, 0x1234560, 1700000000, file);
	control_make(&base, &wal, &checkpoint, 0x1234560, 1700000000, again);
	assert_memory_equal(file, again, sizeof(file));
	ASSERT_OK(control_decode(file, sizeof(file), "it", &control));
	assert_int_equal(control.state, DB_SHUTDOWNED);
	assert_int_equal(control.system_identifier, base.system_identifier);
	assert_int_equal(control.time, 1700000000);
	assert_int_equal(control.checkPoint, 0x1234560);
	assert_memory_equal(&control.checkPointCopy, &checkpoint, sizeof(checkpoint));
	assert_int_equal(control.unloggedLSN, FirstNormalUnloggedLSN);
	assert_int_equal(control.minRecoveryPoint, 0);
	assert_int_equal(control.backupStartPoint, 0);
	assert_int_equal(control.MaxConnections, 123);
	assert_int_equal(control.max_worker_processes, 9);
	assert_int_equal(control.max_wal_senders, 11);
	assert_int_equal(control.max_prepared_xacts, 5);
	assert_int_equal(control.max_locks_per_xact, 65);
	assert_int_equal(control.wal_level, 2);
	assert_true(control.wal_log_hints);
	assert_true(control.track_commit_timestamp);
	assert_int_equal(control.data_checksum_version, 1);
	assert_memory_equal(control.mock_authentication_nonce, base.mock_authentication_nonce, MOCK_AUTH_NONCE_LEN);
	for (int i = sizeof(ControlFileData); i < PG_CONTROL_FILE_SIZE; i++)
		assert_int_equal(file[i], 0);
	ASSERT_OK(control_check_shutdown(&control, "dir"));
	control.state = DB_IN_PRODUCTION;
	assert_fails(control_check_shutdown(&control, "dir"), PS_SQLSTATE_STATE, "not shut down cleanly");
	control.state = DB_SHUTDOWNED_IN_RECOVERY;
	assert_fails(control_check_shutdown(&control, "dir"), PS_SQLSTATE_STATE, "is a standby");
}

static void
test_control_refused(void **state)
{
	ControlFileData base;
	ControlFileData control;
	WalState wal = {0};
	CheckPoint checkpoint = {0};
	char good[PG_CONTROL_FILE_SIZE];
	char bad[PG_CONTROL_FILE_SIZE];
	PsError *err;

	make_base(&base);
	control_make(&base, &wal, &checkpoint, 0x1234560, 0, good);
	assert_fails(control_decode(good, 100, "it", &control), PS_SQLSTATE_CORRUPTED, "100 bytes");

	/* any byte that the CRC covers */
	for (int i = 0; i < offsetof(ControlFileData, crc); i++)
	{
		memcpy(bad, good, sizeof(bad));
		bad[i] ^= 0x10;
		err = control_decode(bad, sizeof(bad), "it", &control);
		assert_non_null(err);
		ps_error_free(err);
	}

#define REFUSED(field, value, part)                                                              \
	do                                                                                           \
	{                                                                                            \
		ControlFileData changed;                                                                 \
		memcpy(&changed, good, sizeof(changed));                                                 \
		changed.field = value;                                                                   \
		memcpy(bad, good, sizeof(bad));                                                          \
		memcpy(bad, &changed, sizeof(changed));                                                  \
		set_crc(bad);                                                                            \
		assert_fails(control_decode(bad, sizeof(bad), "it", &control), PS_SQLSTATE_STATE, part); \
	} while (0)
	REFUSED(pg_control_version, 1201, "1201");
	REFUSED(catalog_version_no, 202107181, "202107181");
	REFUSED(blcksz, 4096, "blcksz 4096");
	REFUSED(relseg_size, 1024, "relseg_size 1024");
	REFUSED(nameDataLen, 32, "nameDataLen 32");
	REFUSED(data_checksum_version, 2, "version 2");
#undef REFUSED
}

/* ---- checksums ---- */

static void
test_checksum(void **state)
{
	PGAlignedBlock page;
	uint16 expected;

	memset(page.data, 0, BLCKSZ);
	assert_true(page_is_zero(page.data));
	page_checksum_set(page.data, 7);
	assert_true(page_is_zero(page.data)); /* a new page has none */
	assert_true(page_checksum_matches(page.data, 7, &expected));
	page.data[BLCKSZ - 1] = 1;
	assert_false(page_is_zero(page.data));
	assert_false(page_checksum_matches(page.data, 7, &expected)); /* new, but not zeros */

	for (int i = 0; i < BLCKSZ; i++)
		page.data[i] = (char) (i * 7);
	((PageHeader) page.data)->pd_upper = 4096;
	page_checksum_set(page.data, 7);
	assert_true(page_checksum_matches(page.data, 7, &expected));
	assert_false(page_checksum_matches(page.data, 8, &expected));
	page.data[5000] ^= 1;
	assert_false(page_checksum_matches(page.data, 7, &expected));
}

/* ---- settings ---- */

static void
assert_value(const char *text, const char *name, const char *expected)
{
	char *value = conf_value(text, name);

	if (expected == NULL)
		assert_null(value);
	else
	{
		assert_non_null(value);
		assert_string_equal(value, expected);
	}
	free(value);
}

static void
test_conf(void **state)
{
	static const char text[] =
		"# port = 1\n"
		"port = 5432	# comment\n"
		"  Work_Mem   '4 MB'\n"
		"a.b = 'it''s # not \\'a\\' comment' # but this\n"
		"port=5433\r\n"
		"empty = ''\n"
		"shared_preload_libraries = 'auto_explain, \"$libdir/x\"'\n"
		"include 'y.conf'\n"
		"last = 1";
	static const char *const names[] = {"include", "PORT", NULL};
	StringInfoData out;

	assert_value(text, "port", "5433");
	assert_value(text, "work_mem", "4 MB");
	assert_value(text, "a.b", "it's # not 'a' comment");
	assert_value(text, "empty", "");
	assert_value(text, "include", "y.conf");
	assert_value(text, "last", "1");
	assert_value(text, "por", NULL);
	assert_value(text, "comment", NULL);
	assert_value("", "x", NULL);

	initStringInfo(&out);
	conf_disable(&out, "x = 1\nport = 2\nInclude = 'z'\ny = 3", names, "why");
	assert_string_equal(out.data, "x = 1\n#port = 2	# why\n#Include = 'z'	# why\ny = 3");
	resetStringInfo(&out);
	conf_put(&out, "n", "a'b\\c");
	assert_value(out.data, "n", "a'b\\c");
	pfree(out.data);
}

static void
assert_libraries(const char *conf, const char *auto_conf, const char *expected)
{
	char *list = conf_preload_libraries(conf, auto_conf);

	assert_string_equal(list, expected);
	free(list);
}

static void
test_conf_libraries(void **state)
{
	char *list;

	assert_true(conf_list_has("a, b , \"$libdir/c\"", "c"));
	assert_true(conf_list_has(" b ,a", "b"));
	assert_false(conf_list_has("ab, ba", "b"));
	assert_false(conf_list_has("", "b"));
	assert_libraries("", "", "pageserver_smgr");
	assert_libraries("shared_preload_libraries = ''\n", "", "pageserver_smgr");
	assert_libraries("shared_preload_libraries = 'x,y'\n", "", "x,y, pageserver_smgr");
	assert_libraries("shared_preload_libraries = 'x'\n", "shared_preload_libraries = 'z'\n", "z, pageserver_smgr");
	assert_libraries("shared_preload_libraries = 'pageserver_smgr, x'\n", "", "pageserver_smgr, x");
	list = conf_list_remove("x, $libdir/pageserver_smgr ,y", "pageserver_smgr");
	assert_string_equal(list, "x, y");
	pfree(list);
	list = conf_list_remove("pageserver_smgr", "pageserver_smgr");
	assert_string_equal(list, "");
	pfree(list);
}

/* ---- names in a data directory ---- */

static void
assert_path(char *path, const char *expected)
{
	assert_string_equal(path, expected);
	free(path);
}

/* The names that PostgreSQL gives its files, and names that are something else. */
static void
test_layout(void **state)
{
	static const char *const not_relations[] = {"", "0", "016400", "16400_", "16400_x", "16400.", "16400.1.2",
												"t3_16400", "4294967296"};
	PsRel rel = {1663, 5, 16400};
	PsRel shared = {1664, 0, 1262};
	Oid oid;
	ForkNumber fork;
	uint32 segno;
	TransactionId xid;

	assert_path(pg_layout_database_path(1663, 5), "base/5");
	assert_path(pg_layout_database_path(1664, 0), "global");
	assert_path(pg_layout_fork_path(rel, MAIN_FORKNUM, 0), "base/5/16400");
	assert_path(pg_layout_fork_path(rel, FSM_FORKNUM, 12), "base/5/16400_fsm.12");
	assert_path(pg_layout_fork_path(shared, INIT_FORKNUM, 0), "global/1262_init");
	assert_path(pg_layout_tablespace_path(16385), "pg_tblspc/16385/" TABLESPACE_VERSION_DIRECTORY);
	assert_path(pg_layout_slru_path(PS_SLRU_CLOG, 0xA), "pg_xact/000A");
	assert_path(pg_layout_slru_path(PS_SLRU_CLOG, 0x12345), "pg_xact/12345");
	assert_path(pg_layout_twophase_path(0x1F), "pg_twophase/0000001F");

	assert_true(pg_layout_parse_relation("16400_vm.3", &oid, &fork, &segno));
	assert_int_equal(oid, 16400);
	assert_int_equal(fork, VISIBILITYMAP_FORKNUM);
	assert_int_equal(segno, 3);
	for (int i = 0; i < lengthof(not_relations); i++)
		if (pg_layout_parse_relation(not_relations[i], &oid, &fork, &segno))
			fail_msg("\"%s\" was taken for a relation", not_relations[i]);
	assert_true(pg_layout_parse_slru("12345", &segno));
	assert_int_equal(segno, 0x12345);
	assert_false(pg_layout_parse_slru("00a0", &segno));
	assert_false(pg_layout_parse_slru("001", &segno));
	assert_true(pg_layout_parse_twophase("0000001F", &xid));
	assert_int_equal(xid, 0x1F);
	assert_false(pg_layout_parse_twophase("1F", &xid));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tar),
		cmocka_unit_test(test_tar_errors),
		cmocka_unit_test(test_control),
		cmocka_unit_test(test_control_refused),
		cmocka_unit_test(test_checksum),
		cmocka_unit_test(test_conf),
		cmocka_unit_test(test_conf_libraries),
		cmocka_unit_test(test_layout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
