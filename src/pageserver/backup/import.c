/*
 * import.c
 *	  Importing a data directory as a branch.
 *
 * The new timeline is created in STORE/tmp/<timeline id> and becomes part of the
 * store in one step (store_add_timeline()).  After a crash, the next start removes
 * what is in STORE/tmp.  The data directory is only read.  To notice a server that
 * was started meanwhile, pg_control is compared at the end.
 */
#include "ps_fe.h"

#include <sys/stat.h>
#include <unistd.h>

#include "backup/backup_impl.h"
#include "conf.h"
#include "base/config.h"
#include "pg/control.h"
#include "sqlstate.h"
#include "base/fs.h"

/* Rejects a directory that is not a data directory, or contains a file that says that it cannot be imported. */
static PsError *
check_importable(const char *pgdata)
{
	static const struct
	{
		const char *file;
		const char *what;
		const char *hint;
	} wrong[] = {
		{PS_CONF_FILE, "is the data directory of a compute, whose data is in a store",
		 "Export the branch with \"pageserver_ctl export\", and import the exported directory."},
		{"postmaster.pid", "has a lock file: a server may be running on it",
		 "Stop the server with \"pg_ctl stop -m fast\".  If it is not running, start it and stop it."},
		{"backup_label", "is a base backup that has not been started yet",
		 "Start a server on it, stop the server with \"pg_ctl stop -m fast\", and retry the import."},
		{"standby.signal", "is set up to start as a standby",
		 "Promote the standby and stop it, or remove the file if the cluster is to continue as a primary."},
		{"recovery.signal", "is set up to start a recovery",
		 "Start a server on it, let it recover, stop it with \"pg_ctl stop -m fast\", and retry the import."},
	};
	char *version = psprintf("%s/PG_VERSION", pgdata);
	bool is_cluster = access(version, R_OK) == 0;
	PsError *err = NULL;

	if (!is_cluster)
		err = ps_error_hint(ps_error(PS_SQLSTATE_INVALID, "could not read \"%s\": %m", version),
							"Specify the data directory of a PostgreSQL cluster "
							"that the user running the store can read.");
	pfree(version);
	for (int i = 0; i < lengthof(wrong) && err == NULL; i++)
	{
		char *path = psprintf("%s/%s", pgdata, wrong[i].file);

		if (access(path, F_OK) == 0)
			err = ps_error_hint(ps_error(PS_SQLSTATE_STATE, "the directory \"%s\" %s (file \"%s\")", pgdata,
										 wrong[i].what, wrong[i].file),
								"%s", wrong[i].hint);
		pfree(path);
	}
	return err;
}

static PsError *
read_control(const char *pgdata, char contents[PG_CONTROL_FILE_SIZE], ControlFileData *control)
{
	StringInfoData data;
	char *what = psprintf("file \"%s/global/pg_control\"", pgdata);
	PsError *err;

	initStringInfo(&data);
	err = datadir_read_file(pgdata, "global/pg_control", &data, NULL);
	if (err == NULL)
		err = control_decode(data.data, data.len, what, control);
	if (err == NULL)
	{
		memset(contents, 0, PG_CONTROL_FILE_SIZE);
		memcpy(contents, data.data, Min(data.len, PG_CONTROL_FILE_SIZE));
	}
	pfree(data.data);
	pfree(what);
	return err;
}

/*
 * Changes the state to timeline 1, to which all WAL in the store belongs.  If the
 * checkpoint record names another one, no server may start from it: the first
 * compute then gets a checkpoint of its own, which is appended.
 */
static void
convert_state(WalState *state)
{
	if (state->checkpoint.ThisTimeLineID != 1 || state->checkpoint.PrevTimeLineID != 1)
		state->shutdown = false;
	state->checkpoint.ThisTimeLineID = 1;
	state->checkpoint.PrevTimeLineID = 1;
}

PsError *
import_data_directory(const char *pgdata, const char *dir, const CancelCheck *cancel, const ProgressSink *progress,
					  TimelineSeed *seed)
{
	char contents[PG_CONTROL_FILE_SIZE];
	char contents_after[PG_CONTROL_FILE_SIZE];
	ControlFileData control;
	WalState state;
	DataDir datadir = {0};
	char *wal_dir = psprintf("%s/wal", dir);
	char *layers_dir = psprintf("%s/layers", dir);
	PsError *err;

	seed->space = (LayerSpace) {.dir = layers_dir,
								.tenant = seed->tenant,
								.timeline = seed->timeline,
								.next_number = 1};
	seed->layers = NULL;
	seed->nlayers = 0;
	PS_GOTO(check_importable(pgdata), done);
	PS_GOTO(read_control(pgdata, contents, &control), done);
	PS_GOTO(control_check_shutdown(&control, pgdata), done);
	seed->system_identifier = control.system_identifier;
	seed->segment_size = control.xlog_seg_size;
	seed->data_checksum_version = control.data_checksum_version;

	PS_GOTO(fs_make_dir(wal_dir), done);
	PS_GOTO(fs_make_dir(layers_dir), done);
	PS_GOTO(import_wal(pgdata, wal_dir, &control, &seed->lsn), done);
	wal_state_from_control(&state, &control, seed->lsn);
	convert_state(&state);

	PS_GOTO(datadir_read(pgdata, &datadir), done);
	if (datadir.nunlogged > 0 && progress != NULL)
	{
		char line[128];

		snprintf(line, sizeof(line), "%zu unlogged relations will be empty, as after a crash", datadir.nunlogged);
		progress->report(progress->arg, line);
	}
	PS_GOTO(import_layers(&datadir, contents, &state, cancel, progress, seed), done);

	PS_GOTO(check_importable(pgdata), done);
	PS_GOTO(read_control(pgdata, contents_after, &control), done);
	if (memcmp(contents, contents_after, sizeof(contents)) != 0)
		err = ps_error_hint(ps_error(PS_SQLSTATE_STATE, "the cluster in \"%s\" was started during the import", pgdata),
							"Stop it with \"pg_ctl stop -m fast\", and retry the import.");
	else if ((err = fs_sync(layers_dir)) == NULL)
		err = fs_sync(dir);

done:
	datadir_free(&datadir);
	pfree(wal_dir);
	return err;
}

void
import_free_layers(TimelineSeed *seed)
{
	for (int i = 0; i < seed->nlayers; i++)
		layer_unref(seed->layers[i]);
	free(seed->layers);
	pfree(seed->space.dir);
	seed->space.dir = NULL;
	seed->layers = NULL;
	seed->nlayers = 0;
}

PsError *
import_check_identity(const char *pgdata, const char *identity)
{
	char contents[PG_CONTROL_FILE_SIZE];
	char found[CONTROL_IDENTITY_SIZE];
	ControlFileData control;
	PsError *err = read_control(pgdata, contents, &control);

	if (err != NULL)
	{
		PsError *elsewhere = ps_error_detail(ps_error(PS_SQLSTATE_ELSEWHERE,
													  "could not read the cluster in \"%s\" on the store's machine",
													  pgdata),
											 "%s", err->message);

		ps_error_free(err);
		return elsewhere;
	}
	control_identity(&control, found);
	if (strcmp(found, identity) != 0)
		return ps_error(PS_SQLSTATE_ELSEWHERE,
						"the store's machine has another cluster in \"%s\" (system identifier " UINT64_FORMAT ")",
						pgdata, control.system_identifier);
	return NULL;
}

PsError *
import_cluster(Store *store, const char *name, const char *pgdata, const CancelCheck *cancel,
			   const ProgressSink *progress, Timeline **tl)
{
	TimelineSeed seed;
	char id[PS_ID_TEXT];
	char *tmp;
	PsError *err;

	PS_TRY(store_check_new_name(store, name));
	memset(&seed, 0, sizeof(seed));
	strlcpy(seed.name, name, sizeof(seed.name));
	seed.tenant = ps_id_random();
	seed.timeline = ps_id_random();
	tmp = psprintf("%s/tmp/%s", store_config(store)->store_dir, ps_id_format(&seed.timeline, id));
	err = fs_make_dir(tmp);
	if (err == NULL)
	{
		err = import_data_directory(pgdata, tmp, cancel, progress, &seed);
		if (err == NULL)
			err = store_add_timeline(store, &seed, tl);
		import_free_layers(&seed);
		if (err != NULL && !seed.outcome_unknown && access(tmp, F_OK) == 0)
			(void) rmtree(tmp, true); /* reports what it cannot remove; the next start of the store removes it */
	}
	pfree(tmp);
	return err;
}
