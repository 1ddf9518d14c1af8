/*
 * fullbackup.c
 *	  A complete data directory as of an LSN, for stock PostgreSQL.
 *
 * A server starts on it from a shutdown checkpoint at that LSN.  The record is
 * created for the backup and is in the WAL of the backup only.
 */
#include "ps_fe.h"

#include "backup/backup_impl.h"
#include "conf.h"
#include "layer/layer_source.h"

/*
 * Sends the stored postgresql.conf.  A standby of a cluster whose tablespaces are
 * directories in pg_tblspc needs allow_in_place_tablespaces.
 */
static PsError *
send_conf(Backup *backup)
{
	StringInfoData conf;
	PsError *err;

	initStringInfo(&conf);
	backup_put_conf(backup, &conf);
	if (backup->has_tablespaces)
		appendStringInfoString(&conf,
							   "\n# The tablespaces of this export are directories in pg_tblspc.\n"
							   "allow_in_place_tablespaces = on\n");
	err = tar_file(backup->tar, "postgresql.conf", conf.data, conf.len);
	pfree(conf.data);
	return err;
}

static int
compare_forks(const void *a, const void *b)
{
	PsKey x = ps_key_block(((const ForkSize *) a)->rel, MAIN_FORKNUM, 0);
	PsKey y = ps_key_block(((const ForkSize *) b)->rel, MAIN_FORKNUM, 0);

	return ps_key_cmp(&x, &y);
}

static PsError *
send_relations(Backup *backup)
{
	ForkSize *init_forks = NULL;
	ForkSize *forks = NULL;
	size_t ninit;
	size_t n;
	PsError *err;

	PS_GOTO(backup_list_forks(backup, true, &init_forks, &ninit), done);
	PS_GOTO(backup_send_unlogged(backup, init_forks, ninit), done);
	PS_GOTO(backup_list_forks(backup, false, &forks, &n), done);
	for (size_t i = 0; i < n; i++)
	{
		/* unlogged relations consist of their init fork and a copy of it */
		if (ninit > 0 && bsearch(&forks[i], init_forks, ninit, sizeof(ForkSize), compare_forks) != NULL)
			continue;
		PS_GOTO(backup_send_fork(backup, &forks[i], forks[i].fork), done);
	}

done:
	free(init_forks);
	free(forks);
	return err;
}

static PsError *
send_fullbackup(Backup *backup)
{
	PS_TRY(backup_send_skeleton(backup));
	PS_TRY(send_conf(backup));
	PS_TRY(send_relations(backup));
	PS_TRY(backup_send_transaction_state(backup));
	PS_TRY(backup_send_wal_and_control(backup));
	return tar_finish(backup->tar);
}

PsError *
fullbackup(Timeline *tl, XLogRecPtr lsn, const CancelCheck *cancel, const ProgressSink *damaged, ByteSink sink)
{
	Backup backup;
	LayerStream *stream = layer_stream_begin();
	PsError *err = backup_begin_at(&backup, tl, lsn, cancel, sink);

	backup.damaged = damaged;
	if (err == NULL)
		err = send_fullbackup(&backup);
	backup_end(&backup);
	layer_stream_end(stream);
	return err;
}
