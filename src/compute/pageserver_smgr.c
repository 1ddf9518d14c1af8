/*
 * pageserver_smgr.c
 *	  Entry point of the library: checks that a server may run in this data
 *	  directory, and initializes all parts.
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

#include "commits.h"
#include "conf.h"
#include "database_commands.h"
#include "keep_reasons.h"
#include "known_databases.h"
#include "lsn_cache.h"
#include "numbers.h"
#include "page_cache.h"
#include "page_client.h"
#include "rehearsal.h"
#include "replication.h"
#include "running.h"
#include "settings.h"
#include "sizes.h"
#include "smgr.h"
#include "stop_files.h"
#include "stub.h"
#include "subscriptions.h"
#include "wal_progress.h"
#include "wal_worker.h"

PG_MODULE_MAGIC;

void _PG_init(void);

static shmem_request_hook_type prev_shmem_request_hook;
static shmem_startup_hook_type prev_shmem_startup_hook;

#define START_AGAIN_HINT                                                            \
	"A data directory of a compute can be started only once. Start a compute on a " \
	"new base backup of the branch with \"pageserver_ctl compute start\"."

/*
 * The directory must be exactly the base backup, shut down at its checkpoint.
 * Otherwise recovery would replay WAL over pages of a different point in time.
 */
static void
check_control_file(void)
{
	bool crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);

	if (!crc_ok)
		ereport(FATAL,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("incorrect checksum in control file \"global/pg_control\""),
				 errhint(START_AGAIN_HINT)));
	if (control->state != DB_SHUTDOWNED || control->checkPoint != ps_checkpoint_lsn)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this data directory has been started before, or is not a base backup of the page store"),
				 errdetail("The last checkpoint in \"global/pg_control\" is at %X/%X with state %d. Expected is a "
						   "shutdown checkpoint (state %d) at %X/%X, the value of \"pageserver_smgr.checkpoint_lsn\".",
						   LSN_FORMAT_ARGS(control->checkPoint), (int) control->state,
						   (int) DB_SHUTDOWNED, LSN_FORMAT_ARGS(ps_checkpoint_lsn)),
				 errhint(START_AGAIN_HINT)));
	if (control->blcksz != BLCKSZ || control->relseg_size != RELSEG_SIZE || control->xlog_blcksz != XLOG_BLCKSZ)
		ereport(FATAL,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("database cluster is incompatible with this build of pageserver_smgr"),
				 errdetail("Block size, segment size and WAL block size are %u, %u and %u. Expected are %d, %d and %d.",
						   control->blcksz, control->relseg_size, control->xlog_blcksz,
						   BLCKSZ, RELSEG_SIZE, XLOG_BLCKSZ)));
	pfree(control);
}

/*
 * Makes sure that no server starts in this directory again, with or without the
 * library.  Must be durable before the server writes anything: fsync is off, so
 * after a crash of the machine pg_control may be as it was in the base backup.
 */
static void
forbid_next_start(void)
{
	static const char text[] = PS_NO_VERSION;
	int fd = OpenTransientFile("PG_VERSION", O_WRONLY | O_CREAT | O_TRUNC | PG_BINARY);
	int dir = OpenTransientFile(".", O_RDONLY);

	errno = ENOSPC; /* a short write means that the disk is full */
	if (fd < 0 || dir < 0 || write(fd, text, strlen(text)) != (ssize_t) strlen(text) ||
		fsync(fd) != 0 || fsync(dir) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", "PG_VERSION"),
				 errdetail("The file has to be changed so that no server starts in this data directory again.")));
	CloseTransientFile(fd);
	CloseTransientFile(dir);
}

/*
 * The directory of a compute contains no relations.  A server that does not use
 * the store would find it empty, and would accept writes.
 */
static void
check_no_compute(void)
{
	struct stat st;

	if (stat(PS_CONF_FILE, &st) == 0)
		ereport(FATAL,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameter \"pageserver_smgr.store\" is not set in the data directory of a compute"),
				 errdetail("File \"%s\" exists, but its setting is overridden, or the file is not included.",
						   PS_CONF_FILE),
				 errhint("Remove the setting from \"postgresql.conf\" and \"postgresql.auto.conf\", and start the "
						 "compute again.")));
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
					 errmsg("a compute cannot perform recovery, but file \"%s\" exists", files[i]),
					 errhint(START_AGAIN_HINT)));
}

/* The store cannot replay WAL of resource managers other than PostgreSQL's own. */
static void
check_no_custom_rmgr(void)
{
	for (int id = RM_MIN_CUSTOM_ID; id <= RM_MAX_CUSTOM_ID; id++)
		if (RmgrIdExists(id))
			ereport(FATAL,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("pageserver_smgr does not support custom WAL resource managers"),
					 errdetail("A library has registered resource manager \"%s\" with ID %d.",
							   RmgrTable[id].rm_name, id),
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
	wal_progress_request_shmem();
	known_databases_request_shmem();
}

static void
startup_shmem(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	check_no_custom_rmgr(); /* by now all libraries have been loaded */

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	stub_startup_shmem();
	lsn_cache_startup_shmem();
	keep_reasons_startup_shmem();
	running_startup_shmem();
	page_cache_startup_shmem();
	page_client_startup_shmem();
	wal_progress_startup_shmem();
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
		return; /* CREATE EXTENSION in a server that does not preload the library */

	settings_init();
	if (ps_store[0] == '\0')
	{
		check_no_compute();
		ereport(LOG,
				(errmsg("pageserver_smgr is inactive because \"pageserver_smgr.store\" is not set")));
		return;
	}

	if (!IsPostmasterEnvironment)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a compute cannot run in single-user mode"),
				 errdetail("Its changes would not be sent to the page store."),
				 errhint("Start it with \"pageserver_ctl compute start\".")));
	if (XLogRecPtrIsInvalid(ps_checkpoint_lsn))
		ereport(FATAL,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameter \"pageserver_smgr.checkpoint_lsn\" is not set"),
				 errhint(START_AGAIN_HINT)));
	check_control_file();
	check_no_recovery();
	forbid_next_start();

	smgr_hook_install();
	smgr_xact_init();
	page_cache_xact_init();
	page_cache_room_init();
	sizes_install();
	database_commands_init();
	replication_install();
	commits_init();
	subscriptions_init();
	numbers_init();
	wal_worker_register();

	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}
