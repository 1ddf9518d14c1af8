/*
 * pageserver_smgr.c
 *	  Entry point of the library: checks that this data directory may run, and
 *	  starts the parts.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/rmgr.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"

#include "compute.h"
#include "conf.h"
#include "running.h"

PG_MODULE_MAGIC;

void _PG_init(void);

static shmem_request_hook_type prev_shmem_request_hook;
static shmem_startup_hook_type prev_shmem_startup_hook;

#define START_AGAIN_HINT \
	"The directory of a compute can be started once. Start the compute again from a base backup of its branch, for example with \"pageserver_ctl compute start\"."

/*
 * Recovery of this directory would replay WAL over pages of another time; so
 * it must be exactly the base backup, shut down at its checkpoint.
 */
static void
check_control_file(void)
{
	bool crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);

	if (!crc_ok)
		ereport(FATAL,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("\"global/pg_control\" has an incorrect checksum"),
				 errhint(START_AGAIN_HINT)));
	if (control->state != DB_SHUTDOWNED || control->checkPoint != ps_checkpoint_lsn)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this data directory has been started before, or is not a base backup of the page store"),
				 errdetail("\"global/pg_control\" has its last checkpoint at %X/%X and state %d; expected is a shutdown checkpoint (state %d) at %X/%X, the value of \"pageserver_smgr.checkpoint_lsn\".",
						   LSN_FORMAT_ARGS(control->checkPoint), (int) control->state,
						   (int) DB_SHUTDOWNED, LSN_FORMAT_ARGS(ps_checkpoint_lsn)),
				 errhint(START_AGAIN_HINT)));
	if (control->blcksz != BLCKSZ || control->relseg_size != RELSEG_SIZE || control->xlog_blcksz != XLOG_BLCKSZ)
		ereport(FATAL,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the database cluster does not fit this build of pageserver_smgr"),
				 errdetail("Block, segment and WAL block size are %u, %u and %u; expected are %d, %d and %d.",
						   control->blcksz, control->relseg_size, control->xlog_blcksz,
						   BLCKSZ, RELSEG_SIZE, XLOG_BLCKSZ)));
	pfree(control);
}

/*
 * From now on no server starts on the directory, with the library or without
 * it.  Durable before the server writes anything: after a crash of the machine
 * pg_control may be what it was in the base backup, for fsync is off.
 */
static void
forbid_next_start(void)
{
	static const char text[] = PS_NO_VERSION;
	int fd = OpenTransientFile("PG_VERSION", O_WRONLY | O_CREAT | O_TRUNC | PG_BINARY);
	int dir = OpenTransientFile(".", O_RDONLY);

	errno = ENOSPC; /* what a short write means */
	if (fd < 0 || dir < 0 || write(fd, text, strlen(text)) != (ssize_t) strlen(text) || fsync(fd) != 0 || fsync(dir) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", "PG_VERSION"),
				 errdetail("It must say that this directory of a compute cannot be started again.")));
	CloseTransientFile(fd);
	CloseTransientFile(dir);
}

/* A directory of a compute has no relations: without the store it would seem to be empty, and take writes. */
static void
check_no_compute(void)
{
	struct stat st;

	if (stat(PS_CONF_FILE, &st) == 0)
		ereport(FATAL,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"pageserver_smgr.store\" is not set, but this is the directory of a compute"),
				 errdetail("There is a file \"%s\". Its setting is overridden, or the file is not included.", PS_CONF_FILE),
				 errhint("Remove the setting from \"postgresql.conf\" and \"postgresql.auto.conf\", and start the compute again.")));
}

/* A compute starts without recovery. */
static void
check_no_recovery(void)
{
	static const char *const files[] = {
		STANDBY_SIGNAL_FILE, RECOVERY_SIGNAL_FILE, BACKUP_LABEL_FILE};
	struct stat st;

	for (int i = 0; i < lengthof(files); i++)
		if (stat(files[i], &st) == 0)
			ereport(FATAL,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("a compute cannot run recovery, but there is a file \"%s\"", files[i]),
					 errhint(START_AGAIN_HINT)));
}

/* WAL of a resource manager that is not PostgreSQL's own could not be replayed by the store. */
static void
check_no_custom_rmgr(void)
{
	for (int id = RM_MIN_CUSTOM_ID; id <= RM_MAX_CUSTOM_ID; id++)
		if (RmgrIdExists(id))
			ereport(FATAL,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("pageserver_smgr does not support custom WAL resource managers"),
					 errdetail("A library has registered \"%s\" with ID %d.", RmgrTable[id].rm_name, id),
					 errhint("Remove the library from \"shared_preload_libraries\".")));
}

static void
request_shmem(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	stub_request_shmem();
	lsn_cache_request_shmem();
	page_cache_request_shmem();
	page_client_request_shmem();
	wal_worker_request_shmem();
	known_databases_request_shmem();
}

static void
startup_shmem(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	check_no_custom_rmgr(); /* all libraries have been loaded now */

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	stub_startup_shmem();
	lsn_cache_startup_shmem();
	page_keep_startup_shmem();
	running_startup();
	page_cache_startup_shmem();
	page_client_startup_shmem();
	wal_worker_startup_shmem();
	known_databases_startup_shmem();
	LWLockRelease(AddinShmemInitLock);
	stop_files_init();

	if (ps_rehearsal)
		rehearsal_end();
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return; /* CREATE EXTENSION in a server that does not use the store */

	settings_init();
	if (ps_store[0] == '\0')
	{
		check_no_compute();
		ereport(LOG,
				(errmsg("pageserver_smgr does nothing, because \"pageserver_smgr.store\" is not set")));
		return;
	}

	if (!IsPostmasterEnvironment)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a compute cannot run in single-user mode"),
				 errdetail("Its changes would not reach the page store."),
				 errhint("Start it as a server.")));
	if (XLogRecPtrIsInvalid(ps_checkpoint_lsn))
		ereport(FATAL,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"pageserver_smgr.checkpoint_lsn\" is not set"),
				 errhint(START_AGAIN_HINT)));
	check_control_file();
	check_no_recovery();
	forbid_next_start();

	smgr_hook_install();
	smgr_xact_init();
	page_cache_xact_init();
	page_cache_room_init();
	sizes_install();
	hooks_install();
	replication_install();
	commits_install();
	wal_worker_register();

	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}
