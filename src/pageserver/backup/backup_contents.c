/*
 * backup_contents.c
 *	  What base backups and full backups have in common: the data directory
 *	  without the files of permanent relations (docs/postgres-facts.md, section 6).
 */
#include "ps_fe.h"

#include "backup/backup_impl.h"
#include "bytes.h"
#include "conf.h"
#include "sqlstate.h"

/* Defaults for a cluster whose settings were outside its data directory. */
static const char default_hba[] =
	"# TYPE  DATABASE  USER  ADDRESS       METHOD\n"
	"local   all       all                 peer\n"
	"host    all       all   127.0.0.1/32  scram-sha-256\n"
	"host    all       all   ::1/128       scram-sha-256\n";

static const char default_ident[] =
	"# MAPNAME  SYSTEM-USERNAME  PG-USERNAME\n";

/* ---- directories, databases, settings ---- */

/*
 * Sends a tablespace as a directory in pg_tblspc itself, as with
 * allow_in_place_tablespaces: its location is a path on another machine.
 */
static PsError *
send_tablespace(Backup *backup, const BackupEntry *entry)
{
	char parent[64];
	char *path;
	PsError *err;

	backup->has_tablespaces = true;
	snprintf(parent, sizeof(parent), "pg_tblspc/%u", entry->key.spc);
	PS_TRY(tar_directory(backup->tar, parent));
	path = pg_layout_tablespace_path(entry->key.spc);
	err = tar_directory(backup->tar, path);
	free(path);
	return err;
}

static PsError *
send_database_file(Backup *backup, const BackupEntry *entry, const char *name)
{
	char *dir;
	char *path;
	PsError *err;

	PS_TRY(backup_send_database_directory(backup, entry->key.spc, entry->key.db));
	dir = pg_layout_database_path(entry->key.spc, entry->key.db);
	path = psprintf("%s/%s", dir, name);
	err = tar_file(backup->tar, path, entry->value, entry->len);
	pfree(dir);
	pfree(path);
	return err;
}

static PsError *
send_database(Backup *backup, const BackupEntry *entry)
{
	return send_database_file(backup, entry, "PG_VERSION");
}

static PsError *
send_relmap(Backup *backup, const BackupEntry *entry)
{
	return send_database_file(backup, entry, PG_LAYOUT_RELMAP);
}

/* Sends a settings file, or the default if there is none or it is empty. */
static PsError *
send_settings(Backup *backup, int file, const char *default_text)
{
	const char *text = backup->settings.files[file];

	if (text == NULL || *text == '\0')
		text = default_text;
	return tar_file(backup->tar, settings_file_names[file], text, strlen(text));
}

/*
 * The last server may have run with settings of its own.  A server does not start
 * without room for the prepared transactions that it left
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
		appendStringInfo(out, "\n# The last server of this branch had this value.\nmax_prepared_transactions = %d\n",
						 backup->state.max_prepared_xacts);
	free(value);
}

PsError *
backup_send_skeleton(Backup *backup)
{
	PS_TRY(tar_file(backup->tar, "PG_VERSION", pg_layout_version, strlen(pg_layout_version)));
	for (int i = 0; pg_layout_directories[i] != NULL; i++)
		PS_TRY(tar_directory(backup->tar, pg_layout_directories[i]));
	PS_TRY(backup_for_each(backup, PS_KEY_TABLESPACE, send_tablespace));
	PS_TRY(backup_for_each(backup, PS_KEY_DATABASE, send_database));
	PS_TRY(backup_for_each(backup, PS_KEY_RELMAP, send_relmap));
	PS_TRY(tar_file(backup->tar, "postgresql.auto.conf", backup->auto_conf, strlen(backup->auto_conf)));
	PS_TRY(send_settings(backup, SETTINGS_HBA, default_hba));
	return send_settings(backup, SETTINGS_IDENT, default_ident);
}

/* ---- transaction state ---- */

static PsError *
send_slru_segment(Backup *backup, const BackupEntry *entry)
{
	PsSlru slru = entry->key.spc;
	uint32 pages = entry->len == 4 ? ps_get32(entry->value) : 0;
	char *path;
	StringInfoData page;
	PsError *err;

	if (slru >= PS_NSLRU || pages == 0 || pages > PG_LAYOUT_SLRU_PAGES)
		return ps_error(PS_SQLSTATE_CORRUPTED, "SLRU segment %u/%04X has %u pages, expected 1 to %d", entry->key.spc,
						entry->key.rel, pages, PG_LAYOUT_SLRU_PAGES);
	path = pg_layout_slru_path(slru, entry->key.rel);
	err = tar_file_begin(backup->tar, path, (uint64) pages * BLCKSZ);
	initStringInfo(&page);
	for (uint32 i = 0; i < pages && err == NULL; i++)
	{
		PsKey key = ps_key_slru_block(slru, entry->key.rel * PG_LAYOUT_SLRU_PAGES + i);
		bool found;

		resetStringInfo(&page);
		err = timeline_read_value(backup->tl, &key, backup->state.end, &page, &found);
		if (err == NULL && found && page.len != BLCKSZ)
			err = ps_error(PS_SQLSTATE_CORRUPTED, "page %u of \"%s\" has %d bytes, expected %d", i, path, page.len,
						   BLCKSZ);
		if (err == NULL)
			err = found ? tar_write(backup->tar, page.data, BLCKSZ) : tar_write_zeros(backup->tar, BLCKSZ);
	}
	pfree(page.data);
	free(path);
	return err != NULL ? err : tar_file_end(backup->tar);
}

static PsError *
send_twophase(Backup *backup, const BackupEntry *entry)
{
	char *path = pg_layout_twophase_path(entry->key.rel);
	PsError *err = tar_file(backup->tar, path, entry->value, entry->len);

	free(path);
	return err;
}

/* Sends the file that CheckPointReplicationOrigin() writes, or none if there is no origin. */
static PsError *
send_origins(Backup *backup)
{
	BackupEntries list;
	StringInfoData data;
	uint32 magic = REPLICATION_STATE_MAGIC;
	pg_crc32c crc;
	PsError *err;

	err = backup_read_entries(backup, PS_KEY_ORIGIN, &list);
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
		err = tar_file(backup->tar, PG_LAYOUT_ORIGINS, data.data, data.len);
	pfree(data.data);
	backup_free_entries(&list);
	return err;
}

PsError *
backup_send_transaction_state(Backup *backup)
{
	PS_TRY(backup_for_each(backup, PS_KEY_SLRU_SEGMENT, send_slru_segment));
	PS_TRY(backup_for_each(backup, PS_KEY_TWOPHASE, send_twophase));
	return send_origins(backup);
}

/* ---- WAL and control file ---- */

/*
 * Sends one segment: the timeline's WAL up to state.end, then wal_tail.  The
 * segment begins with real WAL because a standby of a server that runs on this
 * directory streams from the start of a segment.
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
