/*
 * backup.c
 *	  A backup being sent: its beginning, its end, and the values that it sends.
 *
 * Values are read before any of them is sent, so no scan waits for a slow client.
 */
#include "ps_fe.h"

#include "catalog/pg_tablespace_d.h"

#include "backup/backup_impl.h"
#include "sqlstate.h"

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
		return ps_error_hint(ps_error(PS_SQLSTATE_INVALID, "branch \"%s\" ends at %X/%X, before %X/%X", info.name,
									  LSN_FORMAT_ARGS(info.flushed_lsn), LSN_FORMAT_ARGS(lsn)),
							 "To back up the current state, specify no LSN.");
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

PsError *
backup_check_canceled(const Backup *backup)
{
	return cancel_check(backup->cancel);
}

static PsError *
collect_entry(void *arg, const PsKey *key, const char *value, uint32 len)
{
	BackupEntries *list = arg;
	BackupEntry *entry;

	if ((list->n & (list->n - 1)) == 0)
		list->entries = pg_realloc(list->entries, Max(list->n * 2, 1) * sizeof(BackupEntry));
	entry = &list->entries[list->n++];
	entry->key = *key;
	entry->value = pg_malloc((size_t) len + 1);
	memcpy(entry->value, value, len);
	entry->value[len] = '\0';
	entry->len = len;
	return NULL;
}

void
backup_free_entries(BackupEntries *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->entries[i].value);
	free(list->entries);
}

void
backup_kind_range(PsKeyKind kind, PsKey *lo, PsKey *hi)
{
	*lo = ps_key_simple(kind, 0, 0, 0);
	*hi = (PsKey) {
		.kind = kind,
		.fork = PG_UINT8_MAX,
		.spc = PG_UINT32_MAX,
		.db = PG_UINT32_MAX,
		.rel = PG_UINT32_MAX,
		.blk = PG_UINT32_MAX,
	};
}

PsError *
backup_read_entries(Backup *backup, PsKeyKind kind, BackupEntries *list)
{
	PsKey lo;
	PsKey hi;

	list->entries = NULL;
	list->n = 0;
	backup_kind_range(kind, &lo, &hi);
	return timeline_scan(backup->tl, &lo, &hi, backup->state.end, collect_entry, list);
}

PsError *
backup_for_each(Backup *backup, PsKeyKind kind, BackupSend send)
{
	BackupEntries list;
	PsError *err = backup_read_entries(backup, kind, &list);

	for (size_t i = 0; i < list.n && err == NULL; i++)
	{
		err = backup_check_canceled(backup);
		if (err == NULL)
			err = send(backup, &list.entries[i]);
	}
	backup_free_entries(&list);
	return err;
}

PsError *
backup_send_database_directory(Backup *backup, Oid spc, Oid db)
{
	char *path;
	PsError *err;

	if (spc == GLOBALTABLESPACE_OID)
		return NULL;
	for (size_t i = backup->ndirs; i > 0; i--) /* most likely the last one */
		if (backup->dirs[i - 1].spc == spc && backup->dirs[i - 1].db == db)
			return NULL;
	backup->dirs = pg_realloc(backup->dirs, (backup->ndirs + 1) * sizeof(DataDirDatabase));
	backup->dirs[backup->ndirs++] = (DataDirDatabase) {spc, db};
	path = pg_layout_database_path(spc, db);
	err = tar_directory(backup->tar, path);
	pfree(path);
	return err;
}
