/*
 * contents.c
 *	  What base backups and full backups have in common: a data directory
 *	  without the files of permanent relations (docs/postgres-facts.md, section 6).
 *
 * Keys are gathered first and sent then: no read is made inside a scan, and a
 * slow client does not hold one up.
 */
#include "ps_fe.h"

#include "catalog/catversion.h"
#include "catalog/pg_tablespace_d.h"

#include "backup/backup.h"
#include "conf.h"
#include "bytes.h"
#include "sqlstate.h"
#include "pg/relsize.h"

#define BATCH_BLOCKS 128

/* initdb's, without those that hold databases; parents first. */
static const char *const directories[] = {
	"base", "global", "pg_commit_ts", "pg_dynshmem", "pg_logical", "pg_logical/mappings", "pg_logical/snapshots",
	"pg_multixact", "pg_multixact/members", "pg_multixact/offsets", "pg_notify", "pg_replslot", "pg_serial",
	"pg_snapshots", "pg_stat", "pg_stat_tmp", "pg_subtrans", "pg_tblspc", "pg_twophase", "pg_wal",
	"pg_wal/archive_status", "pg_xact"};

/* For a cluster whose settings were outside its data directory. */
static const char default_hba[] =
	"# TYPE  DATABASE  USER  ADDRESS       METHOD\n"
	"local   all       all                 peer\n"
	"host    all       all   127.0.0.1/32  scram-sha-256\n"
	"host    all       all   ::1/128       scram-sha-256\n";

static const char default_ident[] =
	"# MAPNAME  SYSTEM-USERNAME  PG-USERNAME\n";

static PsError *
check_canceled(const Backup *backup)
{
	return cancel_check(backup->cancel);
}

/* ---- keys with small values, gathered ---- */

typedef struct Entry
{
	PsKey key;
	char *value; /* with a zero byte after it */
	uint32 len;
} Entry;

typedef struct Entries
{
	Entry *entries;
	size_t n;
} Entries;

static PsError *
add_entry(void *arg, const PsKey *key, const char *value, uint32 len)
{
	Entries *list = arg;
	Entry *entry;

	if ((list->n & (list->n - 1)) == 0)
		list->entries = pg_realloc(list->entries, Max(list->n * 2, 1) * sizeof(Entry));
	entry = &list->entries[list->n++];
	entry->key = *key;
	entry->value = pg_malloc((size_t) len + 1);
	memcpy(entry->value, value, len);
	entry->value[len] = '\0';
	entry->len = len;
	return NULL;
}

static void
free_entries(Entries *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->entries[i].value);
	free(list->entries);
}

/* First and last key of a kind. */
static void
kind_range(PsKeyKind kind, PsKey *lo, PsKey *hi)
{
	*lo = ps_key_simple(kind, 0, 0, 0);
	*hi = (PsKey) {.kind = kind, .fork = 0xFF, .spc = PG_UINT32_MAX, .db = PG_UINT32_MAX, .rel = PG_UINT32_MAX, .blk = PG_UINT32_MAX};
}

typedef PsError *(*SendEntry)(Backup *backup, const Entry *entry);

static PsError *
for_each(Backup *backup, PsKeyKind kind, SendEntry send)
{
	PsKey lo,
		hi;
	Entries list = {NULL, 0};
	PsError *err;

	kind_range(kind, &lo, &hi);
	err = timeline_scan(backup->tl, &lo, &hi, backup->state.end, add_entry, &list);
	for (size_t i = 0; i < list.n && err == NULL; i++)
	{
		err = check_canceled(backup);
		if (err == NULL)
			err = send(backup, &list.entries[i]);
	}
	free_entries(&list);
	return err;
}

/* ---- begin and end ---- */

static PsError *
read_control(Backup *backup)
{
	PsKey key = ps_key_simple(PS_KEY_CONTROL, 0, 0, 0);
	StringInfoData value;
	bool found;
	PsError *err;

	initStringInfo(&value);
	err = timeline_read_value(backup->tl, &key, backup->state.end, &value, &found);
	if (err == NULL && !found)
		err = ps_error(PS_SQLSTATE_CORRUPTED, "branch \"%s\" has no control file at %X/%X", backup->info.name,
					   LSN_FORMAT_ARGS(backup->state.end));
	if (err == NULL)
		err = control_decode(value.data, value.len, "the stored control file", &backup->control);
	pfree(value.data);
	return err;
}

PsError *
backup_begin(Backup *backup, Timeline *tl, const WalState *state, const CancelCheck *cancel, ByteSink sink)
{
	memset(backup, 0, sizeof(*backup));
	backup->tl = tl;
	backup->tar = tar_create(sink);
	backup->cancel = cancel;
	backup->state = *state;
	backup->checkpoint = state->checkpoint;
	backup->checkpoint_lsn = state->prev;
	initStringInfo(&backup->wal_tail);
	timeline_info(tl, &backup->info);
	PS_TRY(read_control(backup));
	PS_TRY(backup_read_settings(tl, state->end, &backup->settings));
	backup->conf = backup->settings.files[SETTINGS_CONF] ? backup->settings.files[SETTINGS_CONF] : "";
	backup->auto_conf = backup->settings.files[SETTINGS_AUTO_CONF] ? backup->settings.files[SETTINGS_AUTO_CONF] : "";
	return NULL;
}

PsError *
backup_begin_at(Backup *backup, Timeline *tl, XLogRecPtr lsn, const CancelCheck *cancel, ByteSink sink)
{
	TimelineInfo info;
	WalState state;
	PsError *err;

	memset(backup, 0, sizeof(*backup));
	timeline_info(tl, &info);
	if (lsn > info.flushed_lsn)
		return ps_error_hint(ps_error(PS_SQLSTATE_INVALID, "branch \"%s\" ends at %X/%X, there is no %X/%X yet", info.name,
									  LSN_FORMAT_ARGS(info.flushed_lsn), LSN_FORMAT_ARGS(lsn)),
							 "Without an LSN the newest state is taken.");
	if (XLogRecPtrIsInvalid(lsn))
		lsn = info.flushed_lsn; /* every commit that was acknowledged */
	PS_TRY(timeline_read_lsn(tl, lsn, lsn, cancel, &lsn));
	PS_TRY(timeline_pin_wal(tl, lsn));
	err = timeline_state_at(tl, lsn, &state);
	if (err != NULL)
	{
		timeline_unpin(tl, lsn);
		return err;
	}
	err = backup_begin(backup, tl, &state, cancel, sink);
	backup->pinned = lsn;
	if (err == NULL && !timeline_has_checkpoint(tl, &state))
	{
		XLogRecPtr end;

		wal_make_shutdown_checkpoint(&state, backup->info.system_identifier, backup->info.segment_size, time(NULL),
									 &backup->wal_tail, &backup->checkpoint, &backup->checkpoint_lsn, &end);
	}
	return err;
}

/* Also of a backup that could not be begun: of that nothing may be set. */
void
backup_end(Backup *backup)
{
	if (backup->pinned != InvalidXLogRecPtr)
		timeline_unpin(backup->tl, backup->pinned);
	if (backup->tar == NULL)
		return;
	tar_free(backup->tar);
	pfree(backup->wal_tail.data);
	branch_settings_free(&backup->settings);
	free(backup->dirs);
}

/* ---- directories, databases, settings ---- */

/* The directory of a database in a tablespace, unless the tar has it. */
static PsError *
send_database_directory(Backup *backup, Oid spc, Oid db)
{
	char *path;
	PsError *err;

	if (spc == GLOBALTABLESPACE_OID)
		return NULL;
	for (size_t i = backup->ndirs; i > 0; i--) /* the last one is the likeliest */
		if (backup->dirs[i - 1].spc == spc && backup->dirs[i - 1].db == db)
			return NULL;
	backup->dirs = pg_realloc(backup->dirs, (backup->ndirs + 1) * sizeof(DataDirDatabase));
	backup->dirs[backup->ndirs++] = (DataDirDatabase) {spc, db};
	path = datadir_database_path(spc, db);
	err = tar_directory(backup->tar, path);
	pfree(path);
	return err;
}

/* A directory in pg_tblspc itself, as allow_in_place_tablespaces makes it: the location is of another machine. */
static PsError *
send_tablespace(Backup *backup, const Entry *entry)
{
	char path[MAXPGPATH];

	backup->has_tablespaces = true;
	snprintf(path, sizeof(path), "pg_tblspc/%u", entry->key.spc);
	PS_TRY(tar_directory(backup->tar, path));
	snprintf(path, sizeof(path), "pg_tblspc/%u/%s", entry->key.spc, TABLESPACE_VERSION_DIRECTORY);
	return tar_directory(backup->tar, path);
}

static PsError *
send_database_file(Backup *backup, const Entry *entry, const char *name)
{
	char *dir;
	char *path;
	PsError *err;

	PS_TRY(send_database_directory(backup, entry->key.spc, entry->key.db));
	dir = datadir_database_path(entry->key.spc, entry->key.db);
	path = psprintf("%s/%s", dir, name);
	err = tar_file(backup->tar, path, entry->value, entry->len);
	pfree(dir);
	pfree(path);
	return err;
}

static PsError *
send_database(Backup *backup, const Entry *entry)
{
	return send_database_file(backup, entry, "PG_VERSION");
}

static PsError *
send_relmap(Backup *backup, const Entry *entry)
{
	return send_database_file(backup, entry, "pg_filenode.map");
}

static PsError *
send_settings(Backup *backup, int file, const char *otherwise)
{
	const char *text = backup->settings.files[file];

	if (text == NULL || *text == '\0')
		text = otherwise;
	return tar_file(backup->tar, settings_file_names[file], text, strlen(text));
}

/*
 * A compute may have run with settings of its own.  Without room for the
 * prepared transactions that it left the next server would not start
 * (RecoverPreparedTransactions()).
 */
void
backup_put_conf(const Backup *backup, StringInfo out)
{
	char *value = conf_value(backup->auto_conf, "max_prepared_transactions");

	if (value == NULL)
		value = conf_value(backup->conf, "max_prepared_transactions");
	appendStringInfoString(out, backup->conf);
	if (backup->state.max_prepared_xacts > (value ? atoi(value) : 0))
		appendStringInfo(out, "\n# as the last server of this branch had it\nmax_prepared_transactions = %d\n",
						 backup->state.max_prepared_xacts);
	free(value);
}

PsError *
backup_send_skeleton(Backup *backup)
{
	static const char version[] = PG_MAJORVERSION "\n";

	PS_TRY(tar_file(backup->tar, "PG_VERSION", version, strlen(version)));
	for (int i = 0; i < lengthof(directories); i++)
		PS_TRY(tar_directory(backup->tar, directories[i]));
	PS_TRY(for_each(backup, PS_KEY_TABLESPACE, send_tablespace));
	PS_TRY(for_each(backup, PS_KEY_DATABASE, send_database));
	PS_TRY(for_each(backup, PS_KEY_RELMAP, send_relmap));
	PS_TRY(tar_file(backup->tar, "postgresql.auto.conf", backup->auto_conf, strlen(backup->auto_conf)));
	PS_TRY(send_settings(backup, SETTINGS_HBA, default_hba));
	return send_settings(backup, SETTINGS_IDENT, default_ident);
}

/* ---- relations ---- */

typedef struct ForkList
{
	ForkSize *forks;
	size_t n;
} ForkList;

static PsError *
add_fork(void *arg, const PsKey *key, const char *value, uint32 len)
{
	ForkList *list = arg;

	if ((list->n & (list->n - 1)) == 0)
		list->forks = pg_realloc(list->forks, Max(list->n * 2, 1) * sizeof(ForkSize));
	list->forks[list->n++] = (ForkSize) {{key->spc, key->db, key->rel}, key->fork, relsize_value_nblocks(value, len)};
	return NULL;
}

PsError *
backup_list_forks(Backup *backup, bool init, ForkSize **forks, size_t *n)
{
	PsKey lo,
		hi;
	ForkList list = {NULL, 0};
	PsError *err;

	kind_range(init ? PS_KEY_INITSIZE : PS_KEY_RELSIZE, &lo, &hi);
	err = timeline_scan(backup->tl, &lo, &hi, backup->state.end, add_fork, &list);
	*forks = list.forks;
	*n = list.n;
	return err;
}

/* A page that cannot be read: zeros, if they are wanted and it is damaged; frees err. */
static PsError *
replace_damaged(Backup *backup, const ForkSize *fork, BlockNumber blk, char *page, PsError *err)
{
	char *path;
	char *message;

	if (!ps_error_is_damage(err) || backup->damaged == NULL)
		return err;
	path = datadir_fork_path(fork->rel, fork->fork, 0);
	message = psprintf("block %u of relation %s is zeros in the copy: %s", blk, path, err->message);
	backup->damaged->report(backup->damaged->arg, message);
	memset(page, 0, BLCKSZ);
	pfree(message);
	pfree(path);
	ps_error_free(err);
	return NULL;
}

/* Reads n blocks into pages. */
static PsError *
read_blocks(Backup *backup, const ForkSize *fork, const BlockNumber *blks, int n, char *pages)
{
	PsError *errors[BATCH_BLOCKS];
	PsError *err = NULL;

	PS_TRY(timeline_read_each_page(backup->tl, fork->rel, fork->fork, blks, n, backup->state.end, pages, errors));
	for (int i = 0; i < n; i++)
		if (errors[i] != NULL)
			err = ps_error_first(err, replace_damaged(backup, fork, blks[i], pages + (size_t) i * BLCKSZ, errors[i]));
	return err;
}

static PsError *
send_segment(Backup *backup, const ForkSize *fork, BlockNumber first, BlockNumber nblocks, char *pages)
{
	BlockNumber blks[BATCH_BLOCKS];

	for (BlockNumber at = 0, n; at < nblocks; at += n)
	{
		n = Min(nblocks - at, BATCH_BLOCKS);
		for (BlockNumber i = 0; i < n; i++)
			blks[i] = first + at + i;
		PS_TRY(check_canceled(backup));
		PS_TRY(read_blocks(backup, fork, blks, n, pages));
		if (backup->info.data_checksum_version != 0)
			for (BlockNumber i = 0; i < n; i++)
				page_set_checksum(pages + (size_t) i * BLCKSZ, blks[i]);
		PS_TRY(tar_write(backup->tar, pages, (size_t) n * BLCKSZ));
	}
	return NULL;
}

PsError *
backup_send_fork(Backup *backup, const ForkSize *fork, ForkNumber as)
{
	char *pages = pg_malloc((size_t) BATCH_BLOCKS * BLCKSZ);
	uint64 first = 0;
	PsError *err;

	err = send_database_directory(backup, fork->rel.spc, fork->rel.db);
	/* an empty fork is an empty file */
	for (; err == NULL && (first == 0 || first < fork->nblocks); first += RELSEG_SIZE)
	{
		BlockNumber nblocks = Min(fork->nblocks - first, RELSEG_SIZE);
		char *path = datadir_fork_path(fork->rel, as, first / RELSEG_SIZE);

		err = tar_file_begin(backup->tar, path, (uint64) nblocks * BLCKSZ);
		pfree(path);
		if (err == NULL)
			err = send_segment(backup, fork, first, nblocks, pages);
		if (err == NULL)
			err = tar_file_end(backup->tar);
	}
	free(pages);
	return err;
}

PsError *
backup_send_unlogged(Backup *backup, const ForkSize *init_forks, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		PS_TRY(backup_send_fork(backup, &init_forks[i], INIT_FORKNUM));
		PS_TRY(backup_send_fork(backup, &init_forks[i], MAIN_FORKNUM));
	}
	return NULL;
}

/* ---- transaction state ---- */

static PsError *
send_slru_segment(Backup *backup, const Entry *entry)
{
	PsSlru slru = entry->key.spc;
	uint32 pages = entry->len == 4 ? ps_get32(entry->value) : 0;
	char path[64];
	StringInfoData page;
	PsError *err;

	if (slru >= PS_NSLRU || pages == 0 || pages > 32)
		return ps_error(PS_SQLSTATE_CORRUPTED, "SLRU segment %u/%04X has %u pages, expected 1 to 32", entry->key.spc, entry->key.rel, pages);
	snprintf(path, sizeof(path), "%s/%04X", ps_slru_dir[slru], entry->key.rel);
	PS_TRY(tar_file_begin(backup->tar, path, (uint64) pages * BLCKSZ));
	initStringInfo(&page);
	err = NULL;
	for (uint32 i = 0; i < pages && err == NULL; i++)
	{
		PsKey key = ps_key_slru_block(slru, entry->key.rel * 32 + i);
		bool found;

		resetStringInfo(&page);
		err = timeline_read_value(backup->tl, &key, backup->state.end, &page, &found);
		if (err == NULL && found && page.len != BLCKSZ)
			err = ps_error(PS_SQLSTATE_CORRUPTED, "page %u of \"%s\" has %d bytes, expected %d", i, path, page.len, BLCKSZ);
		if (err == NULL)
			err = found ? tar_write(backup->tar, page.data, BLCKSZ) : tar_write_zeros(backup->tar, BLCKSZ);
	}
	pfree(page.data);
	return err != NULL ? err : tar_file_end(backup->tar);
}

static PsError *
send_twophase(Backup *backup, const Entry *entry)
{
	char path[64];

	snprintf(path, sizeof(path), "pg_twophase/%08X", entry->key.rel);
	return tar_file(backup->tar, path, entry->value, entry->len);
}

/* The file as CheckPointReplicationOrigin() writes it; none if there is no origin. */
static PsError *
send_origins(Backup *backup)
{
	PsKey lo,
		hi;
	Entries list = {NULL, 0};
	StringInfoData data;
	uint32 magic = REPLICATION_STATE_MAGIC;
	pg_crc32c crc;
	PsError *err;

	kind_range(PS_KEY_ORIGIN, &lo, &hi);
	err = timeline_scan(backup->tl, &lo, &hi, backup->state.end, add_entry, &list);
	initStringInfo(&data);
	appendBinaryStringInfo(&data, (const char *) &magic, sizeof(magic));
	for (size_t i = 0; i < list.n && err == NULL; i++)
	{
		ReplicationStateOnDisk origin;

		if (list.entries[i].len != 8)
			err = ps_error(PS_SQLSTATE_CORRUPTED, "replication origin %u has a state of %u bytes, expected 8",
						   list.entries[i].key.rel, list.entries[i].len);
		memset(&origin, 0, sizeof(origin));
		origin.roident = list.entries[i].key.rel;
		origin.remote_lsn = err == NULL ? ps_get64(list.entries[i].value) : 0;
		appendBinaryStringInfo(&data, (const char *) &origin, sizeof(origin));
	}
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data.data, data.len);
	FIN_CRC32C(crc);
	appendBinaryStringInfo(&data, (const char *) &crc, sizeof(crc));
	if (err == NULL && list.n > 0)
		err = tar_file(backup->tar, "pg_logical/replorigin_checkpoint", data.data, data.len);
	pfree(data.data);
	free_entries(&list);
	return err;
}

PsError *
backup_send_transaction_state(Backup *backup)
{
	PS_TRY(for_each(backup, PS_KEY_SLRU_SEGMENT, send_slru_segment));
	PS_TRY(for_each(backup, PS_KEY_TWOPHASE, send_twophase));
	return send_origins(backup);
}

/* ---- WAL and control file ---- */

/*
 * One segment, with the timeline's own bytes up to state.end (a standby that
 * streams from this directory asks from the segment's start) and wal_tail
 * after them.
 */
static PsError *
send_wal_segment(Backup *backup, XLogSegNo segno, XLogRecPtr end)
{
	uint32 segment_size = backup->info.segment_size;
	XLogRecPtr start = segno * (uint64) segment_size;
	XLogRecPtr used_end = Min(end, start + segment_size);
	XLogRecPtr real_end = backup->state.end;
	char path[MAXPGPATH] = "pg_wal/";
	PGAlignedXLogBlock buf;

	XLogFileName(path + strlen(path), 1, segno, segment_size);
	PS_TRY(tar_sparse_file_begin(backup->tar, path, used_end - start, segment_size));
	for (XLogRecPtr at = start, n; at < used_end && at < real_end; at += n)
	{
		n = Min(Min(used_end, real_end) - at, XLOG_BLCKSZ);
		PS_TRY(wal_segments_read(timeline_wal(backup->tl), at, buf.data, n));
		PS_TRY(tar_write(backup->tar, buf.data, n));
	}
	if (used_end > real_end)
	{
		XLogRecPtr at = Max(start, real_end);

		PS_TRY(tar_write(backup->tar, backup->wal_tail.data + (at - real_end), used_end - at));
	}
	return tar_file_end(backup->tar);
}

PsError *
backup_send_wal_and_control(Backup *backup)
{
	uint32 segment_size = backup->info.segment_size;
	XLogRecPtr end = backup->state.end + backup->wal_tail.len;
	char control[PG_CONTROL_FILE_SIZE];

	for (XLogSegNo segno = backup->checkpoint_lsn / segment_size; segno <= (end - 1) / segment_size; segno++)
		PS_TRY(send_wal_segment(backup, segno, end));
	control_make(&backup->control, &backup->state, &backup->checkpoint, backup->checkpoint_lsn, time(NULL), control);
	return tar_file(backup->tar, "global/pg_control", control, sizeof(control));
}
