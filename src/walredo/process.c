/*
 * process.c
 *	  Initializes a stock "postgres --single" so that redo functions can run in it.
 *
 * PostgresSingleUserMain() (postgres.c) calls this library from
 * process_shared_preload_libraries(), when the data directory is locked and the
 * control file has been read.  From there on this file does what it and the startup
 * process would do.
 */
#include "postgres.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "access/clog.h"
#include "access/commit_ts.h"
#include "access/multixact.h"
#include "access/nbtree.h"
#include "access/rmgr.h"
#include "access/subtrans.h"
#include "access/syncscan.h"
#include "access/twophase.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogprefetcher.h"
#include "access/xlogrecovery.h"
#include "access/xlogutils.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/autovacuum.h"
#include "postmaster/bgworker_internals.h"
#include "postmaster/bgwriter.h"
#include "postmaster/pgarch.h"
#include "replication/logicallauncher.h"
#include "replication/origin.h"
#include "replication/slot.h"
#include "replication/walreceiver.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/pg_shmem.h"
#include "storage/pmsignal.h"
#include "storage/predicate.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/procsignal.h"
#include "storage/sinvaladt.h"
#include "utils/backend_status.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "walredo.h"

/*
 * Like CreateSharedMemoryAndSemaphores() (ipci.c), but in private memory.  A
 * real segment would outlive a helper that is killed, and no other process
 * attaches to this one.  Dynamic shared memory and LISTEN/NOTIFY, which create
 * files, are left out.
 */
static void
create_private_shared_memory(void)
{
	PGShmemHeader *header;
	Size size;
	int nsemas;

	size = CalculateShmemSize(&nsemas);
	header = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (header == MAP_FAILED)
		elog(FATAL, "could not map %zu bytes of memory: %m", size);
	header->magic = PGShmemMagic;
	header->creatorPID = MyProcPid;
	header->totalsize = size;
	header->freeoffset = MAXALIGN(sizeof(PGShmemHeader));
	UsedShmemSegAddr = header;

	InitShmemAccess(header);
	PGReserveSemaphores(nsemas);
	InitShmemAllocation();
	CreateLWLocks();
	InitShmemIndex();

	XLOGShmemInit();
	XLogPrefetchShmemInit();
	XLogRecoveryShmemInit();
	CLOGShmemInit();
	CommitTsShmemInit();
	SUBTRANSShmemInit();
	MultiXactShmemInit();
	InitBufferPool();
	InitLocks();
	InitPredicateLocks();
	InitProcGlobal();
	CreateSharedProcArray();
	CreateSharedBackendStatus();
	TwoPhaseShmemInit();
	BackgroundWorkerShmemInit();
	CreateSharedInvalidationState();
	PMSignalShmemInit();
	ProcSignalShmemInit();
	CheckpointerShmemInit();
	AutoVacuumShmemInit();
	ReplicationSlotsShmemInit();
	ReplicationOriginShmemInit();
	WalSndShmemInit();
	WalRcvShmemInit();
	PgArchShmemInit();
	ApplyLauncherShmemInit();
	SnapMgrInit();
	BTreeShmemInit();
	SyncScanShmemInit();
	StatsShmemInit();
}

void
walredo_init_process(void)
{
	struct rlimit no_core = {0, 0};

	/* a core file would contain tenants' pages, and fill the store's disk */
	setrlimit(RLIMIT_CORE, &no_core);

	InitializeMaxBackends();
	process_shmem_requests();
	InitializeShmemGUCs();

	/*
	 * no other process uses the directory; without the lock file the next helper
	 * need not check who held it
	 */
	unlink("postmaster.pid");

	create_private_shared_memory();
	PgStartTime = GetCurrentTimestamp();
	InitAuxiliaryProcess();
	BaseInit();
	SetProcessingMode(NormalProcessing);
	InRecovery = true;
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "WAL redo");
	RmgrStartup();

	/* --single starts with signals blocked, for handlers that are not needed here */
	pqsignal(SIGTERM, SIG_DFL);
	pqsignal(SIGINT, SIG_DFL);
	pqsignal(SIGQUIT, SIG_DFL);
	PG_SETMASK(&UnBlockSig);
}
