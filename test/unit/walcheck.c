/*
 * walcheck.c
 *	  Compares the store's reading of WAL with PostgreSQL's own.
 *
 *	  walcheck dump WALDIR START END
 *			Records from START (where one begins, or a segment's start) up to
 *			END, one line for each, as pg_waldump prints them but without the
 *			description.
 *
 *	  walcheck apply BASE AFTER [crash]
 *			BASE is a copy of a data directory after a clean shutdown, AFTER the
 *			same cluster later, shut down cleanly again; with "crash", AFTER was
 *			stopped by a crash and then recovered, started and shut down.  Takes
 *			what is not in relations (SLRUs, two-phase files, relation maps,
 *			databases, tablespaces, replication origins) from BASE, applies the
 *			WAL in AFTER and compares with AFTER; compares the checkpoint that
 *			the state would make with each real shutdown checkpoint.  Exit
 *			status 1 if something differs.
 *
 *	  walcheck speed WALDIR START END
 *			MB/s of decoding, parsing and interpreting.
 *
 * Known and harmless: VACUUM moves oldestXidDB and oldestMultiDB without a
 * record if the value stays, so that a shutdown checkpoint may differ there.
 *
 * Segments of 16 MB.  No test by itself: for TAP tests and for people.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/controldata_utils.h"

#include "pg/interpret.h"
#include "pg/control.h"
#include "pg/slru.h"
#include "pg/walstate.h"
#include "wal/reader.h"
#include "sqlstate.h"

#define SEGMENT_SIZE (16 * 1024 * 1024)

static int differences = 0;

static void differ(const char *fmt, ...) pg_attribute_printf(1, 2);

static void
differ(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	differences++;
}

static void
fatal(PsError *err)
{
	fprintf(stderr, "walcheck: %s\n", err->message);
	exit(2);
}

static void
check(PsError *err)
{
	if (err != NULL)
		fatal(err);
}

static XLogRecPtr
parse_lsn(const char *text)
{
	uint32 hi;
	uint32 lo;

	if (sscanf(text, "%X/%X", &hi, &lo) != 2)
		fatal(ps_error(PS_SQLSTATE_INVALID, "invalid LSN \"%s\"", text));
	return (uint64) hi << 32 | lo;
}

/* A whole file; NULL if there is none. */
static char *
slurp(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	char *data;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) < 0)
		fatal(ps_error(PS_SQLSTATE_IO, "could not stat \"%s\": %m", path));
	data = pg_malloc(st.st_size + 1);
	if (read(fd, data, st.st_size) != st.st_size)
		fatal(ps_error(PS_SQLSTATE_IO, "could not read \"%s\": %m", path));
	close(fd);
	*len = st.st_size;
	return data;
}

/* ---- dump ---- */

#define PG_RMGR(symname, name, redo, desc, identify, startup, cleanup, mask, decode) name,
static const char *const rmgr_names[] = {
#include "access/rmgrlist.h"
};
#undef PG_RMGR

static void
print_record(const WalRecord *rec, const WalParsed *parsed)
{
	uint32 images = 0;

	for (int i = 0; i <= parsed->max_block_id; i++)
	{
		if (parsed->blocks[i].in_use && parsed->blocks[i].has_image)
			images += parsed->blocks[i].bimg_len;
	}
	printf("rmgr: %-11s len (rec/tot): %6u/%6u, tx: %10u, lsn: %X/%08X, prev %X/%08X",
		   rmgr_names[parsed->header->xl_rmid], rec->len - images, rec->len, parsed->header->xl_xid,
		   LSN_FORMAT_ARGS(rec->start), LSN_FORMAT_ARGS(parsed->header->xl_prev));
	for (int i = 0; i <= parsed->max_block_id; i++)
	{
		const WalBlockRef *blk = &parsed->blocks[i];

		if (!blk->in_use)
			continue;
		printf(", blkref #%d: rel %u/%u/%u", i, blk->rel.spc, blk->rel.db, blk->rel.rel);
		if (blk->fork != MAIN_FORKNUM)
			printf(" fork %s", forkNames[blk->fork]);
		printf(" blk %u", blk->blk);
		if (blk->has_image)
			printf(blk->apply_image ? " FPW" : " FPW for WAL verification");
	}
	putchar('\n');
}

static int
dump(const char *dir, XLogRecPtr start, XLogRecPtr end)
{
	WalSegments *segs;
	WalReader *reader;
	WalRecord rec;
	bool found;

	check(wal_segments_open(dir, SEGMENT_SIZE, &segs));
	reader = wal_reader_create(segs, start, InvalidXLogRecPtr, 0);
	for (;;)
	{
		WalParsed parsed;
		char *copy;

		check(wal_reader_next(reader, end, &rec, &found));
		if (!found)
			break;
		check(wal_parse(&rec, &parsed));
		print_record(&rec, &parsed);

		/* every image must be restorable, and the record be found again by its place */
		for (int i = 0; i <= parsed.max_block_id; i++)
		{
			PGAlignedBlock page;

			if (parsed.blocks[i].in_use && parsed.blocks[i].has_image)
				check(wal_restore_image(&rec, &parsed, i, page.data));
		}
		copy = pg_malloc(rec.len);
		check(wal_segments_read_record(segs, rec.start, rec.len, copy));
		if (memcmp(copy, rec.data, rec.len) != 0)
			differ("record at %X/%X reads differently", LSN_FORMAT_ARGS(rec.start));
		free(copy);
	}
	wal_reader_free(reader);
	wal_segments_close(segs);
	return differences > 0;
}

/* ---- a small store ---- */

typedef struct Item
{
	PsKey key;
	char *data;
	uint32 len;
	struct Item *next;
} Item;

#define NBUCKETS 65536

static Item *items[NBUCKETS];
static uint64 nblocks_told = 0;

static uint32
bucket(const PsKey *key)
{
	return (key->kind * 31 + key->spc * 7 + key->db * 131 + key->rel * 1031 + key->fork + key->blk * 65537) % NBUCKETS;
}

static Item *
lookup(const PsKey *key)
{
	for (Item *item = items[bucket(key)]; item != NULL; item = item->next)
	{
		if (ps_key_cmp(&item->key, key) == 0)
			return item;
	}
	return NULL;
}

static void
store(const PsKey *key, const char *data, uint32 len)
{
	Item *item = lookup(key);

	if (item == NULL)
	{
		item = pg_malloc0(sizeof(Item));
		item->key = *key;
		item->next = items[bucket(key)];
		items[bucket(key)] = item;
	}
	free(item->data);
	item->data = pg_malloc(len + 1);
	memcpy(item->data, data, len);
	item->len = len;
}

static void
erase(const PsKey *key)
{
	Item **p = &items[bucket(key)];

	for (; *p != NULL; p = &(*p)->next)
	{
		if (ps_key_cmp(&(*p)->key, key) == 0)
		{
			Item *item = *p;

			*p = item->next;
			free(item->data);
			free(item);
			return;
		}
	}
}

/* ---- the sink ---- */

static uint32
rel_size(PsRel rel, ForkNumber fork, bool *exists)
{
	PsKey key = ps_key_relsize(rel, fork);
	Item *item = lookup(&key);
	uint32 n = 0;

	*exists = item != NULL;
	if (item != NULL)
		memcpy(&n, item->data, 4);
	return n;
}

static void
set_rel_size(PsRel rel, ForkNumber fork, uint32 n)
{
	PsKey key = ps_key_relsize(rel, fork);

	store(&key, (char *) &n, 4);
}

static PsError *
sink_block(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber blk, bool will_init)
{
	bool exists;
	uint32 n = rel_size(rel, fork, &exists);

	nblocks_told++;
	if (((const XLogRecord *) rec->data)->xl_rmid != RM_SMGR_ID && (!exists || blk >= n))
		set_rel_size(rel, fork, blk + 1);
	return NULL;
}

static PsError *
sink_slru(void *arg, const WalRecord *rec, PsSlru slru, uint32 pageno, bool will_init)
{
	PsKey key = ps_key_slru_block(slru, pageno);
	Item *item = lookup(&key);
	PGAlignedBlock page;

	if (item != NULL && !will_init)
		memcpy(page.data, item->data, BLCKSZ);
	else
		memset(page.data, 0, BLCKSZ);
	PS_TRY(wal_slru_apply(rec, slru, pageno, page.data));
	store(&key, page.data, BLCKSZ);
	return NULL;
}

static PsError *
sink_slru_truncate(void *arg, const WalRecord *rec, PsSlru slru, uint32 cutoff_page)
{
	for (int b = 0; b < NBUCKETS; b++)
	{
		Item *next;

		for (Item *item = items[b]; item != NULL; item = next)
		{
			PsKey key = item->key;

			next = item->next;
			if (key.kind == PS_KEY_SLRU_BLOCK && key.spc == slru && wal_slru_truncates(rec, slru, cutoff_page, key.rel))
				erase(&key);
		}
	}
	return NULL;
}

static PsError *
sink_rel_create(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork)
{
	bool exists;

	rel_size(rel, fork, &exists);
	if (!exists)
		set_rel_size(rel, fork, 0);
	return NULL;
}

static PsError *
sink_rel_truncate(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber nblocks)
{
	bool exists;
	uint32 n = rel_size(rel, fork, &exists);

	if (exists && n > nblocks)
		set_rel_size(rel, fork, nblocks);
	return NULL;
}

static PsError *
sink_rel_drop(void *arg, const WalRecord *rec, PsRel rel)
{
	for (int fork = 0; fork <= MAX_FORKNUM; fork++)
	{
		PsKey key = ps_key_relsize(rel, fork);

		erase(&key);
	}
	return NULL;
}

static bool
of_database(const PsKey *key, Oid spc, Oid db)
{
	return (key->kind == PS_KEY_RELSIZE || key->kind == PS_KEY_INITSIZE || key->kind == PS_KEY_DATABASE ||
			key->kind == PS_KEY_RELMAP) &&
		   key->spc == spc && key->db == db;
}

static PsError *
sink_db_drop(void *arg, const WalRecord *rec, Oid spc, Oid db)
{
	for (int b = 0; b < NBUCKETS; b++)
	{
		Item *next;

		for (Item *item = items[b]; item != NULL; item = next)
		{
			PsKey key = item->key;

			next = item->next;
			if (of_database(&key, spc, db))
				erase(&key);
		}
	}
	return NULL;
}

static PsError *
sink_db_copy(void *arg, const WalRecord *rec, Oid src_spc, Oid src_db, Oid spc, Oid db)
{
	sink_db_drop(arg, rec, spc, db);
	for (int b = 0; b < NBUCKETS; b++)
	{
		for (Item *item = items[b]; item != NULL; item = item->next)
		{
			PsKey key = item->key;

			if (!of_database(&key, src_spc, src_db))
				continue;
			key.spc = spc;
			key.db = db;
			store(&key, item->data, item->len);
		}
	}
	return NULL;
}

static PsError *
sink_origin(void *arg, const WalRecord *rec, RepOriginId id, XLogRecPtr remote_lsn, bool force)
{
	PsKey key = ps_key_simple(PS_KEY_ORIGIN, 0, 0, id);
	Item *item = lookup(&key);
	XLogRecPtr old = InvalidXLogRecPtr;

	if (item != NULL)
		memcpy(&old, item->data, sizeof(old));
	if (force || old < remote_lsn)
		store(&key, (char *) &remote_lsn, sizeof(remote_lsn));
	return NULL;
}

static PsError *
sink_put(void *arg, const WalRecord *rec, const PsKey *key, const char *data, uint32 len)
{
	store(key, data, len);
	return NULL;
}

static PsError *
sink_del(void *arg, const WalRecord *rec, const PsKey *key)
{
	erase(key);
	return NULL;
}

static const WalSink sink = {
	.block = sink_block,
	.slru = sink_slru,
	.slru_truncate = sink_slru_truncate,
	.rel_create = sink_rel_create,
	.rel_truncate = sink_rel_truncate,
	.rel_drop = sink_rel_drop,
	.db_copy = sink_db_copy,
	.db_drop = sink_db_drop,
	.origin = sink_origin,
	.put = sink_put,
	.del = sink_del,
};

/* ---- what a data directory holds, told to a function ---- */

typedef void (*Visit)(const PsKey *key, const char *data, uint32 len);

static void
visit_file(const PsKey *key, const char *path, Visit visit)
{
	size_t len;
	char *data = slurp(path, &len);

	if (data != NULL)
		visit(key, data, len);
	free(data);
}

static void
visit_slru(const char *pgdata, PsSlru slru, Visit visit)
{
	char *dirname = psprintf("%s/%s", pgdata, ps_slru_dir[slru]);
	DIR *dir = opendir(dirname);
	struct dirent *de;

	while (dir != NULL && (de = readdir(dir)) != NULL)
	{
		char *end;
		uint32 segno = strtoul(de->d_name, &end, 16);
		char *path = psprintf("%s/%s", dirname, de->d_name);
		size_t len;
		char *data;

		if (strlen(de->d_name) < 4 || *end != 0)
			continue;
		data = slurp(path, &len);
		for (size_t at = 0; at + BLCKSZ <= len; at += BLCKSZ)
		{
			PsKey key = ps_key_slru_block(slru, segno * 32 + at / BLCKSZ);

			visit(&key, data + at, BLCKSZ);
		}
		free(data);
		free(path);
	}
	if (dir != NULL)
		closedir(dir);
	free(dirname);
}

/* Relations, map and version of a directory of a database. */
static void
visit_database(const char *dirname, Oid spc, Oid db, Visit visit)
{
	DIR *dir = opendir(dirname);
	struct dirent *de;
	PsKey key;
	char *path;

	key = ps_key_simple(PS_KEY_RELMAP, spc, db, 0);
	path = psprintf("%s/pg_filenode.map", dirname);
	visit_file(&key, path, visit);
	free(path);
	key = ps_key_simple(PS_KEY_DATABASE, spc, db, 0);
	path = psprintf("%s/PG_VERSION", dirname);
	visit_file(&key, path, visit);
	free(path);

	while (dir != NULL && (de = readdir(dir)) != NULL)
	{
		char *end;
		PsRel rel = {.spc = spc, .db = db, .rel = strtoul(de->d_name, &end, 10)};
		ForkNumber fork = MAIN_FORKNUM;
		struct stat st;
		uint32 n;

		if (end == de->d_name)
			continue;
		if (strcmp(end, "_fsm") == 0)
			fork = FSM_FORKNUM;
		else if (strcmp(end, "_vm") == 0)
			fork = VISIBILITYMAP_FORKNUM;
		else if (strcmp(end, "_init") == 0)
			fork = INIT_FORKNUM;
		else if (*end != 0)
			continue;
		/* of an unlogged relation only the init fork is logged */
		path = psprintf("%s/%u_init", dirname, rel.rel);
		if (fork != INIT_FORKNUM && access(path, F_OK) == 0)
			continue;
		free(path);
		path = psprintf("%s/%s", dirname, de->d_name);
		if (stat(path, &st) < 0)
			fatal(ps_error(PS_SQLSTATE_IO, "could not stat \"%s\": %m", path));
		free(path);
		n = st.st_size / BLCKSZ;
		key = ps_key_relsize(rel, fork);
		visit(&key, (char *) &n, 4);
	}
	if (dir != NULL)
		closedir(dir);
}

/* Each numbered directory below a directory of a tablespace. */
static void
visit_tablespace(const char *dirname, Oid spc, Visit visit)
{
	DIR *dir = opendir(dirname);
	struct dirent *de;

	while (dir != NULL && (de = readdir(dir)) != NULL)
	{
		char *path = psprintf("%s/%s", dirname, de->d_name);

		if (atoi(de->d_name) > 0)
			visit_database(path, spc, atoi(de->d_name), visit);
		free(path);
	}
	if (dir != NULL)
		closedir(dir);
}

static void
visit_pgdata(const char *pgdata, Visit visit)
{
	char *path;
	DIR *dir;
	struct dirent *de;
	char *data;
	size_t len;

	for (int slru = 0; slru < PS_NSLRU; slru++)
		visit_slru(pgdata, slru, visit);

	path = psprintf("%s/global", pgdata);
	visit_database(path, 1664, 0, visit);
	path = psprintf("%s/base", pgdata);
	visit_tablespace(path, 1663, visit);

	path = psprintf("%s/pg_twophase", pgdata);
	dir = opendir(path);
	while ((de = readdir(dir)) != NULL)
	{
		PsKey key = ps_key_simple(PS_KEY_TWOPHASE, 0, 0, strtoul(de->d_name, NULL, 16));

		if (de->d_name[0] != '.')
			visit_file(&key, psprintf("%s/%s", path, de->d_name), visit);
	}
	closedir(dir);

	path = psprintf("%s/pg_tblspc", pgdata);
	dir = opendir(path);
	while ((de = readdir(dir)) != NULL)
	{
		char target[MAXPGPATH];
		PsKey key = ps_key_simple(PS_KEY_TABLESPACE, atoi(de->d_name), 0, 0);
		ssize_t n = readlink(psprintf("%s/%s", path, de->d_name), target, sizeof(target));

		if (n < 0)
			continue;
		visit(&key, target, n);
		target[n] = 0;
		visit_tablespace(psprintf("%s/PG_15_202209061", target), key.spc, visit);
	}
	closedir(dir);

	/* origin.c: a magic number, then for each origin its id and LSN (16 bytes), a CRC */
	data = slurp(psprintf("%s/pg_logical/replorigin_checkpoint", pgdata), &len);
	for (size_t at = 4; data != NULL && at + 16 + 4 <= len; at += 16)
	{
		uint16 id;
		PsKey key;

		memcpy(&id, data + at, 2);
		key = ps_key_simple(PS_KEY_ORIGIN, 0, 0, id);
		visit(&key, data + at + 8, 8);
	}
}

static uint64 compared = 0;
static uint64 longer = 0;

static void
compare_item(const PsKey *key, const char *data, uint32 len)
{
	char text[PS_KEY_TEXT];
	Item *item = lookup(key);
	static const char zeros[BLCKSZ];

	compared++;
	ps_key_format(key, text);
	if (item == NULL)
	{
		/* not logged: the FSM, and a visibility map page as it is created, with no bit set */
		if (key->kind == PS_KEY_RELSIZE && (key->fork == FSM_FORKNUM || key->fork == VISIBILITYMAP_FORKNUM))
			return;
		if (key->kind == PS_KEY_SLRU_BLOCK && memcmp(data, zeros, BLCKSZ) == 0)
			return;
		differ("missing: %s", text);
	}
	else if (key->kind == PS_KEY_RELSIZE || key->kind == PS_KEY_INITSIZE)
	{
		uint32 mine;
		uint32 real;

		memcpy(&mine, item->data, 4);
		memcpy(&real, data, 4);
		/* a file may have pages that were added but not used, and the FSM is not logged */
		if (key->fork == FSM_FORKNUM)
			;
		else if (mine > real)
			differ("%s: %u blocks, expected %u", text, mine, real);
		else if (mine < real)
			longer++;
		erase(key);
	}
	else
	{
		if (item->len != len || memcmp(item->data, data, len) != 0)
		{
			uint32 at = 0;

			while (at < Min(len, item->len) && item->data[at] == data[at])
				at++;
			differ("%s differs at byte %u of %u", text, at, len);
		}
		erase(key);
	}
}

/* A real shutdown checkpoint against the one that the state before it would make. */
static void
compare_checkpoint(const WalState *state, const WalRecord *rec, const WalParsed *parsed, bool recovery)
{
	CheckPoint real;
	CheckPoint mine;
	StringInfoData bytes;
	XLogRecPtr start;
	XLogRecPtr end;

	memcpy(&real, parsed->main_data, sizeof(real));
	initStringInfo(&bytes);
	wal_make_shutdown_checkpoint(state, 0, SEGMENT_SIZE, real.time, &bytes, &mine, &start, &end);
	if (start != rec->start || end != rec->end)
		differ("checkpoint from %X/%X to %X/%X, expected %X/%X to %X/%X", LSN_FORMAT_ARGS(start), LSN_FORMAT_ARGS(end),
			   LSN_FORMAT_ARGS(rec->start), LSN_FORMAT_ARGS(rec->end));
	if (recovery && bytes.len >= rec->len && memcmp(bytes.data + (start - state->end), rec->data, rec->len) == 0)
		printf("checkpoint of recovery at %X/%X is identical\n", LSN_FORMAT_ARGS(rec->start));
#define COMPARE(field)                                                                         \
	if (mine.field != real.field)                                                              \
	differ("checkpoint at %X/%X: " #field " %llu, expected %llu", LSN_FORMAT_ARGS(rec->start), \
		   (unsigned long long) mine.field, (unsigned long long) real.field)
	COMPARE(redo);
	COMPARE(ThisTimeLineID);
	COMPARE(PrevTimeLineID);
	COMPARE(fullPageWrites);
	COMPARE(nextXid.value);
	COMPARE(nextMulti);
	COMPARE(nextMultiOffset);
	COMPARE(oldestXid);
	COMPARE(oldestXidDB);
	COMPARE(oldestMulti);
	COMPARE(oldestMultiDB);
	COMPARE(oldestCommitTsXid);
	COMPARE(newestCommitTsXid);
	COMPARE(oldestActiveXid);
	/* after a clean shutdown, OIDs that were reserved but not used are given back */
	if (recovery ? mine.nextOid != real.nextOid : mine.nextOid < real.nextOid)
		differ("checkpoint at %X/%X: nextOid %u, expected %u", LSN_FORMAT_ARGS(rec->start), mine.nextOid, real.nextOid);
#undef COMPARE
	pfree(bytes.data);
}

static int
apply(const char *base, const char *after, bool crash)
{
	ControlFileData *control;
	bool crc_ok;
	char *waldir = psprintf("%s/pg_wal", after);
	WalSegments *segs;
	WalReader *reader;
	WalState state;
	WalRecord rec;
	XLogRecPtr upto;
	bool found;
	uint64 nrecords = 0;

	control = get_controlfile(after, &crc_ok);
	/* the last record is a shutdown checkpoint of 114 bytes */
	upto = control->checkPoint + 120 +
		   ((control->checkPoint + 114) / XLOG_BLCKSZ > control->checkPoint / XLOG_BLCKSZ ? SizeOfXLogShortPHD : 0);
	control = get_controlfile(base, &crc_ok);
	visit_pgdata(base, store);

	check(wal_segments_open(waldir, SEGMENT_SIZE, &segs));
	/* from the base's own checkpoint, whose end is not in pg_control */
	wal_state_from_control(&state, control, control->checkPoint);
	reader = wal_reader_create(segs, control->checkPoint, InvalidXLogRecPtr, control->system_identifier);
	check(wal_reader_next(reader, upto, &rec, &found));
	if (!found)
		fatal(ps_error("XX000", "no record at %X/%X", LSN_FORMAT_ARGS(control->checkPoint)));
	wal_state_from_control(&state, control, rec.end);

	for (;;)
	{
		WalParsed parsed;
		WalState copy;
		StringInfoData encoded;

		check(wal_reader_next(reader, upto, &rec, &found));
		if (!found)
			break;
		nrecords++;
		check(wal_parse(&rec, &parsed));
		if (parsed.header->xl_rmid == RM_XLOG_ID &&
			(parsed.header->xl_info & ~XLR_INFO_MASK) == XLOG_CHECKPOINT_SHUTDOWN)
			compare_checkpoint(&state, &rec, &parsed, crash);
		check(wal_interpret(&rec, &parsed, state.track_commit_timestamp, &sink));
		check(wal_state_apply(&state, &rec, &parsed));

		initStringInfo(&encoded);
		wal_state_encode(&state, &encoded);
		check(wal_state_decode(encoded.data, encoded.len, &copy));
		copy.checkpoint.redo = state.checkpoint.redo;
		if (copy.end != state.end || copy.last_commit != state.last_commit)
			differ("state at %X/%X does not survive encoding", LSN_FORMAT_ARGS(state.end));
		pfree(encoded.data);
	}

	control = get_controlfile(after, &crc_ok);
	if (state.last_checkpoint != control->checkPoint || !state.shutdown)
		differ("WAL ends at %X/%X, not with the checkpoint at %X/%X", LSN_FORMAT_ARGS(state.end),
			   LSN_FORMAT_ARGS(control->checkPoint));
#define COMPARE(field, of_control)          \
	if (state.field != control->of_control) \
	differ("state: " #field " %d, expected %d", (int) state.field, (int) control->of_control)
	COMPARE(max_connections, MaxConnections);
	COMPARE(max_worker_processes, max_worker_processes);
	COMPARE(max_wal_senders, max_wal_senders);
	COMPARE(max_prepared_xacts, max_prepared_xacts);
	COMPARE(max_locks_per_xact, max_locks_per_xact);
	COMPARE(wal_level, wal_level);
	COMPARE(wal_log_hints, wal_log_hints);
	COMPARE(track_commit_timestamp, track_commit_timestamp);
#undef COMPARE

	visit_pgdata(after, compare_item);
	for (int b = 0; b < NBUCKETS; b++)
	{
		for (Item *item = items[b]; item != NULL; item = item->next)
		{
			char text[PS_KEY_TEXT];

			if (item->key.kind == PS_KEY_RELSIZE && item->key.fork == FSM_FORKNUM)
				continue;
			differ("should not exist: %s", ps_key_format(&item->key, text));
		}
	}
	printf("%llu records, %llu block changes, %llu things compared, %llu forks longer than WAL tells, %d differences\n",
		   (unsigned long long) nrecords, (unsigned long long) nblocks_told, (unsigned long long) compared,
		   (unsigned long long) longer, differences);
	return differences > 0;
}

/* ---- speed ---- */

static PsError *
no_block(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber blk, bool will_init)
{
	return NULL;
}

static PsError *
no_slru(void *arg, const WalRecord *rec, PsSlru slru, uint32 pageno, bool will_init)
{
	return NULL;
}

static int
speed(const char *dir, XLogRecPtr start, XLogRecPtr end)
{
	WalSink nosink = sink;
	WalSegments *segs;

	nosink.block = no_block;
	nosink.slru = no_slru;
	check(wal_segments_open(dir, SEGMENT_SIZE, &segs));
	for (int what = 0; what < 4; what++)
	{
		WalReader *reader = wal_reader_create(segs, start, InvalidXLogRecPtr, 0);
		struct timespec t0;
		struct timespec t1;
		WalRecord rec;
		WalParsed parsed;
		WalState state = {0};
		bool found;
		uint64 n = 0;
		double seconds;

		clock_gettime(CLOCK_MONOTONIC, &t0);
		for (;;)
		{
			check(wal_reader_next(reader, end, &rec, &found));
			if (!found)
				break;
			n++;
			if (what >= 1)
				check(wal_parse(&rec, &parsed));
			if (what >= 2)
				check(wal_interpret(&rec, &parsed, false, &nosink));
			if (what >= 3)
				check(wal_state_apply(&state, &rec, &parsed));
		}
		clock_gettime(CLOCK_MONOTONIC, &t1);
		seconds = t1.tv_sec - t0.tv_sec + (t1.tv_nsec - t0.tv_nsec) / 1e9;
		printf("%-40s %7.0f MB/s, %8.0f records/ms, %llu records\n",
			   what == 0 ? "read and decode" : what == 1 ? "... and parse"
										   : what == 2   ? "... and interpret"
														 : "... and state",
			   (end - start) / seconds / 1e6, n / seconds / 1e3, (unsigned long long) n);
		wal_reader_free(reader);
	}
	wal_segments_close(segs);
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "dump") == 0)
		return dump(argv[2], parse_lsn(argv[3]), parse_lsn(argv[4]));
	if (argc == 5 && strcmp(argv[1], "speed") == 0)
		return speed(argv[2], parse_lsn(argv[3]), parse_lsn(argv[4]));
	if ((argc == 4 || argc == 5) && strcmp(argv[1], "apply") == 0)
		return apply(argv[2], argv[3], argc == 5);
	fprintf(stderr, "usage: walcheck dump WALDIR START END | speed WALDIR START END | apply BASE AFTER [crash]\n");
	return 2;
}
