/*
 * basebackup.c
 *	  The data directory that a compute starts on: everything except relations.
 */
#include "ps_fe.h"

#include "backup/backup_impl.h"
#include "conf.h"
#include "store/stop_files.h"

/*
 * Sends the stored postgresql.conf.  It includes the settings of this compute at its end, so that they take precedence.
 */
static PsError *
send_conf(Backup *backup)
{
	StringInfoData conf;
	PsError *err;

	initStringInfo(&conf);
	backup_put_conf(backup, &conf);
	appendStringInfoString(&conf, PS_CONF_LAST_LINES);
	err = tar_file(backup->tar, "postgresql.conf", conf.data, conf.len);
	pfree(conf.data);
	return err;
}

static PsError *
send_smgr_conf(Backup *backup, uint64 generation)
{
	StringInfoData conf;
	char id[PS_ID_TEXT];
	char number[32];
	char *libraries = conf_preload_libraries(backup->conf, backup->auto_conf);
	PsError *err;

	initStringInfo(&conf);
	appendStringInfo(&conf, "# Settings of this compute of branch \"%s\".  Each start replaces this file.\n",
					 backup->info.name);
	conf_put(&conf, "shared_preload_libraries", libraries);
	conf_put(&conf, "pageserver_smgr.tenant", ps_id_format(&backup->info.tenant, id));
	conf_put(&conf, "pageserver_smgr.timeline", ps_id_format(&backup->info.timeline, id));
	snprintf(number, sizeof(number), UINT64_FORMAT, generation);
	conf_put(&conf, "pageserver_smgr.generation", number);
	snprintf(number, sizeof(number), "%X/%X", LSN_FORMAT_ARGS(backup->checkpoint_lsn));
	conf_put(&conf, "pageserver_smgr.checkpoint_lsn", number);
	err = tar_file(backup->tar, PS_CONF_FILE, conf.data, conf.len);
	pfree(conf.data);
	free(libraries);
	return err;
}

static PsError *
send_stop_file(void *arg, const char *name, const char *data, size_t len)
{
	Backup *backup = arg;

	return tar_file(backup->tar, name, data, len);
}

static PsError *
send_basebackup(Backup *backup, uint64 generation)
{
	ForkSize *init_forks;
	size_t n;
	PsError *err;

	PS_TRY(backup_send_skeleton(backup));
	PS_TRY(send_conf(backup));
	PS_TRY(send_smgr_conf(backup, generation));
	PS_TRY(stop_files_visit(backup->tl, generation, backup->checkpoint_lsn, send_stop_file, backup));
	err = backup_list_forks(backup, true, &init_forks, &n);
	if (err == NULL)
		err = backup_send_unlogged(backup, init_forks, n);
	free(init_forks);
	PS_TRY(err);
	PS_TRY(backup_send_transaction_state(backup));
	PS_TRY(backup_send_wal_and_control(backup));
	return tar_finish(backup->tar);
}

PsError *
basebackup(Timeline *tl, const BaseBackup *base, const CancelCheck *cancel, ByteSink sink)
{
	Backup backup;
	PsError *err = backup_begin(&backup, tl, &base->state, cancel, sink);

	backup.checkpoint_lsn = base->checkpoint_lsn;
	if (err == NULL)
		err = send_basebackup(&backup, base->generation);
	backup_end(&backup);
	return err;
}

PsError *
basebackup_rehearsal(Timeline *tl, const CancelCheck *cancel, ByteSink sink)
{
	Backup backup;
	PsError *err = backup_begin_at(&backup, tl, InvalidXLogRecPtr, cancel, sink);

	if (err == NULL)
		err = send_basebackup(&backup, 0);
	backup_end(&backup);
	return err;
}
