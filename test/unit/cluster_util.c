/*
 * cluster_util.c
 *	  A small data directory that can be imported: see cluster_util.h.
 */
#include "ps_fe.h"

#include <cmocka.h>

#include "cluster_util.h"

/* ---- a data directory and what must come of it ---- */

void
cluster_dir(const Cluster *c, const char *name)
{
	char *path = psprintf("%s/%s", c->pgdata, name);

	assert_int_equal(mkdir(path, 0700), 0);
	pfree(path);
}

void
cluster_write_at(const Cluster *c, const char *name, const char *data, size_t len, off_t offset)
{
	char *path = psprintf("%s/%s", c->pgdata, name);
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, offset), len);
	close(fd);
	pfree(path);
}

void
cluster_write(const Cluster *c, const char *name, const char *data, size_t len)
{
	cluster_write_at(c, name, data, len, 0);
}

void
cluster_expect(Cluster *c, PsKey key, const char *value, size_t len)
{
	c->expected = pg_realloc(c->expected, (c->nexpected + 1) * sizeof(Expected));
	c->expected[c->nexpected++] = (Expected) {key, memcpy(pg_malloc(len + 1), value, len), len, false};
}

void
cluster_expect_size(Cluster *c, PsRel rel, ForkNumber fork, BlockNumber nblocks)
{
	RelSize size = {.nblocks = nblocks};
	StringInfoData value;

	initStringInfo(&value);
	relsize_encode(&size, &value);
	cluster_expect(c, ps_key_relsize(rel, fork), value.data, value.len);
	pfree(value.data);
}

/* A page that differs from all others; with a right checksum. */
void
cluster_page(char *page, int seed, BlockNumber blk)
{
	for (int i = 0; i < BLCKSZ; i++)
		page[i] = (char) (i * 13 + seed * 7 + blk);
	((PageHeader) page)->pd_upper = 4096;
	page_checksum_set(page, blk);
}

/* One page of a relation, which the import must find. */
void
cluster_put_page(Cluster *c, PsRel rel, ForkNumber fork, const char *file, BlockNumber blk, int seed)
{
	PGAlignedBlock page;

	cluster_page(page.data, seed, blk);
	cluster_write_at(c, file, page.data, BLCKSZ, (off_t) (blk % RELSEG_SIZE) * BLCKSZ);
	cluster_expect(c, ps_key_block(rel, fork, blk), page.data, BLCKSZ);
}

/* ---- WAL ---- */

void
cluster_wal_write(const Cluster *c, XLogRecPtr at, const char *data, size_t len)
{
	char name[MAXPGPATH] = "pg_wal/";

	while (len > 0)
	{
		size_t n = Min(len, SEGMENT_SIZE - at % SEGMENT_SIZE);

		XLogFileName(name + strlen("pg_wal/"), c->control.checkPointCopy.ThisTimeLineID, at / SEGMENT_SIZE,
					 SEGMENT_SIZE);
		cluster_write_at(c, name, data, n, at % SEGMENT_SIZE);
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
cluster_wal(Cluster *c, XLogRecPtr x, TimeLineID tli)
{
	XLogRecPtr start = x - x % SEGMENT_SIZE;
	char *garbage = pg_malloc(2 * SEGMENT_SIZE);
	StringInfoData bytes;
	CheckPoint checkpoint;

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
	cluster_wal_write(c, start, garbage, 2 * SEGMENT_SIZE);
	for (XLogRecPtr at = start; at < x; at += XLOG_BLCKSZ)
	{
		XLogLongPageHeaderData header = {
			.std.xlp_magic = XLOG_PAGE_MAGIC,
			.std.xlp_tli = tli,
			.std.xlp_pageaddr = at,
			.xlp_sysid = SYSTEM_IDENTIFIER,
			.xlp_seg_size = SEGMENT_SIZE,
			.xlp_xlog_blcksz = XLOG_BLCKSZ};

		header.std.xlp_info = at == start ? XLP_LONG_HEADER : 0;
		cluster_wal_write(c, at, (char *) &header, at == start ? SizeOfXLogLongPHD : SizeOfXLogShortPHD);
	}
	cluster_wal_write(c, x, bytes.data, bytes.len);
	pfree(bytes.data);
	free(garbage);
}

void
cluster_control(Cluster *c)
{
	ControlFileData *control = &c->control;
	char file[PG_CONTROL_FILE_SIZE] = {0};

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
	cluster_write(c, "global/pg_control", file, sizeof(file));
}

/* A small cluster that can be imported, its WAL ending at x. */
Cluster *
make_cluster(XLogRecPtr x, TimeLineID tli)
{
	static const char *const dirs[] = {"base", "base/5", "global", "pg_xact", "pg_multixact", "pg_multixact/offsets",
									   "pg_multixact/members", "pg_commit_ts", "pg_twophase", "pg_wal", "pg_tblspc",
									   "pg_logical"};
	Cluster *c = pg_malloc0(sizeof(Cluster));
	PsRel rel = {1663, 5, 1259};

	strcpy(c->top, "/tmp/t_import.XXXXXX");
	assert_non_null(mkdtemp(c->top));
	c->pgdata = psprintf("%s/pgdata", c->top);
	c->out = psprintf("%s/out", c->top);
	assert_int_equal(mkdir(c->pgdata, 0700), 0);
	assert_int_equal(mkdir(c->out, 0700), 0);
	for (int i = 0; i < lengthof(dirs); i++)
		cluster_dir(c, dirs[i]);
	cluster_write(c, "PG_VERSION", PG_MAJORVERSION "\n", 3);
	cluster_write(c, "base/5/PG_VERSION", "15\n", 3);
	cluster_expect(c, ps_key_simple(PS_KEY_DATABASE, 1663, 5, 0), "15\n", 3);
	cluster_write(c, "base/5/pg_filenode.map", "map of 5", 8);
	cluster_expect(c, ps_key_simple(PS_KEY_RELMAP, 1663, 5, 0), "map of 5", 8);
	cluster_write(c, "global/pg_filenode.map", "shared map", 10);
	cluster_expect(c, ps_key_simple(PS_KEY_RELMAP, 1664, 0, 0), "shared map", 10);
	cluster_put_page(c, rel, MAIN_FORKNUM, "base/5/1259", 0, 1);
	cluster_expect_size(c, rel, MAIN_FORKNUM, 1);
	c->control.state = DB_SHUTDOWNED;
	cluster_wal(c, x, tli);
	cluster_control(c);
	c->seed.tenant = ps_id_random();
	c->seed.timeline = ps_id_random();
	return c;
}

void
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
