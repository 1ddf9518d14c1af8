/*
 * settings.c
 *	  The settings pageserver_smgr.*, and those of PostgreSQL that a compute
 *	  requires.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "replication/slot.h"
#include "replication/walsender.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/pg_lsn.h"

#include "libpq-fe.h"
#include "overrides.h"
#include "pg_compat.h"
#include "settings.h"
#include "wire.h"

char *ps_store;
char *ps_tenant;
char *ps_timeline;
char *ps_generation_text;
uint64 ps_generation;
char *ps_checkpoint_lsn_text;
XLogRecPtr ps_checkpoint_lsn;
int ps_cache_size;
int ps_cache_limit;
char *ps_cache_path;
int ps_lsn_cache_entries;
int ps_readahead;
int ps_connect_retry;
int ps_response_timeout;
int ps_shutdown_timeout;
int ps_max_wal_lag;
int ps_catalog_read_interval;
bool ps_wait_for_commits_in_doubt;
bool ps_rehearsal;

static char *store_setting; /* ps_store is a copy of it, see assign_store() */

/*
 * Set at the end of define_settings().  From then on .store may change to
 * another address, but not become empty or non-empty.
 */
static bool settings_done;

StaticAssertDecl(sizeof(PS_SYNC_STANDBY_NAME) > NAMEDATALEN, "name must be too long for an application_name");

static bool
check_id(char **newval, void **extra, GucSource source)
{
	if ((*newval)[0] == '\0')
		return true;
	if (strlen(*newval) != 32 || strspn(*newval, "0123456789abcdefABCDEF") != 32)
	{
		GUC_check_errdetail("The value must be 32 hexadecimal digits.");
		return false;
	}
	return true;
}

static bool
check_generation(char **newval, void **extra, GucSource source)
{
	uint64 *value = compat_guc_malloc(sizeof(uint64));
	char *end;

	if (value == NULL)
		return false;
	errno = 0;
	*value = strtou64(*newval, &end, 10);
	if ((*newval)[0] < '0' || (*newval)[0] > '9' || *end != '\0' || errno != 0)
	{
		free(value);
		GUC_check_errdetail("The value must be a decimal number of at most 64 bits.");
		return false;
	}
	*extra = value;
	return true;
}

static void
assign_generation(const char *newval, void *extra)
{
	ps_generation = *(uint64 *) extra;
}

static bool
check_lsn(char **newval, void **extra, GucSource source)
{
	XLogRecPtr *value = compat_guc_malloc(sizeof(XLogRecPtr));
	bool have_error = false;

	if (value == NULL)
		return false;
	*value = (*newval)[0] == '\0' ? InvalidXLogRecPtr : pg_lsn_in_internal(*newval, &have_error);
	if (have_error)
	{
		free(value);
		GUC_check_errdetail("The value must be a WAL location, such as \"0/1500028\".");
		return false;
	}
	*extra = value;
	return true;
}

static void
assign_checkpoint_lsn(const char *newval, void *extra)
{
	ps_checkpoint_lsn = *(XLogRecPtr *) extra;
}

static bool
check_store(char **newval, void **extra, GucSource source)
{
	PQconninfoOption *options;
	char *error = NULL;

	/* a parallel worker resets all settings before it restores those of its leader */
	if (settings_done && !InitializingParallelWorker && ((*newval)[0] == '\0') != (ps_store[0] == '\0'))
	{
		GUC_check_errdetail("The parameter can be set or removed only at server start.");
		return false;
	}
	if (strlen(*newval) >= STORE_ADDRESS_MAX)
	{
		GUC_check_errdetail("The value must be shorter than %d bytes.", STORE_ADDRESS_MAX);
		return false;
	}
	options = PQconninfoParse(*newval, &error);
	if (options == NULL)
	{
		GUC_check_errdetail("The value is not a valid libpq connection string: %s",
							error != NULL ? pchomp(error) : "out of memory");
		PQfreemem(error);
		return false;
	}
	PQconninfoFree(options);
	return true;
}

/*
 * ps_store is a copy because a parallel worker resets all settings before it
 * restores those of its leader one by one (RestoreGUCState()), and reads
 * catalogs to check some of them.  Until .store is restored, ps_store has the
 * address that the worker was forked with.  If memory is short, the process
 * keeps the old address.
 */
static void
assign_store(const char *newval, void *extra)
{
	char *copy;

	if (settings_done && InitializingParallelWorker && newval[0] == '\0')
		return;
	copy = strdup(newval);
	if (copy == NULL)
		return;
	free(ps_store);
	ps_store = copy;
}

static void
define_settings(void)
{
	DefineCustomStringVariable("pageserver_smgr.store",
							   "Connection string of the page store for this compute.",
							   "If it is empty, the library is inactive.",
							   &store_setting, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY | GUC_DISALLOW_IN_AUTO_FILE,
							   check_store, assign_store, NULL);
	DefineCustomStringVariable("pageserver_smgr.tenant",
							   "Tenant in the page store that this compute belongs to, as 32 hexadecimal digits.",
							   NULL,
							   &ps_tenant, "",
							   PGC_POSTMASTER, GUC_DISALLOW_IN_AUTO_FILE,
							   check_id, NULL, NULL);
	DefineCustomStringVariable("pageserver_smgr.timeline",
							   "Timeline (branch) in the page store that this compute runs, as 32 hexadecimal digits.",
							   NULL,
							   &ps_timeline, "",
							   PGC_POSTMASTER, GUC_DISALLOW_IN_AUTO_FILE,
							   check_id, NULL, NULL);
	DefineCustomStringVariable("pageserver_smgr.generation",
							   "Generation of the timeline that this compute was started with.",
							   "The page store accepts WAL only from the compute with the newest generation.",
							   &ps_generation_text, "0",
							   PGC_POSTMASTER, GUC_DISALLOW_IN_AUTO_FILE,
							   check_generation, assign_generation, NULL);
	DefineCustomStringVariable("pageserver_smgr.checkpoint_lsn",
							   "WAL location of the shutdown checkpoint in the base backup of this data directory.",
							   NULL,
							   &ps_checkpoint_lsn_text, "",
							   PGC_POSTMASTER, GUC_DISALLOW_IN_AUTO_FILE,
							   check_lsn, assign_checkpoint_lsn, NULL);
	DefineCustomIntVariable("pageserver_smgr.cache_size",
							"Size of the local page cache on disk.",
							"Pages that must stay in the cache can make it larger.",
							&ps_cache_size, 1024, 1, MAX_KILOBYTES,
							PGC_POSTMASTER, GUC_UNIT_MB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver_smgr.cache_limit",
							"Maximum size of the local page cache including pages that must stay in it.",
							"These are pages changed by open transactions. -1 means that free disk space is the "
							"only limit.",
							&ps_cache_limit, -1, -1, MAX_KILOBYTES,
							PGC_POSTMASTER, GUC_UNIT_MB,
							NULL, NULL, NULL);
	DefineCustomStringVariable("pageserver_smgr.cache_path",
							   "File of the local page cache.",
							   "A relative path is relative to the data directory.",
							   &ps_cache_path, "pageserver_smgr.cache",
							   PGC_POSTMASTER, 0,
							   NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver_smgr.lsn_cache_entries",
							"Number of blocks whose last-written LSN is remembered individually.",
							NULL,
							&ps_lsn_cache_entries, 131072, 1024, 64 * 1024 * 1024,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver_smgr.readahead",
							"Number of blocks requested ahead of a sequential read.",
							"0 disables read-ahead.",
							&ps_readahead, 32, 0, PS_MAX_BATCH,
							PGC_USERSET, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver_smgr.connect_retry_max_delay",
							"Maximum delay between attempts to connect to the page store.",
							NULL,
							&ps_connect_retry, 1000, 10, 3600 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver_smgr.response_timeout",
							"Maximum time to wait for an answer of the page store before sending the request again "
							"over a new connection.",
							"Should be longer than \"wait_timeout\" of the page store. 0 disables the timeout.",
							&ps_response_timeout, 120 * 1000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver_smgr.shutdown_timeout",
							"Maximum time that a shutdown waits until the page store has received all WAL.",
							NULL,
							&ps_shutdown_timeout, 10000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver_smgr.max_wal_lag",
							"Amount of WAL not acknowledged by the page store above which writers are slowed down.",
							"0 means no limit.",
							&ps_max_wal_lag, 512, 0, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_MB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver_smgr.catalog_read_interval",
							"Time between searches for databases whose catalogs have not been read yet.",
							"Each is read once, so that sessions can connect to it while the page store is down. 0 "
							"disables this.",
							&ps_catalog_read_interval, 60, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomBoolVariable("pageserver_smgr.wait_for_commits_in_doubt",
							 "Makes new sessions wait until the page store has acknowledged commits whose own wait "
							 "was canceled.",
							 "If it is off, a session can see changes that may be missing in the next compute.",
							 &ps_wait_for_commits_in_doubt, true,
							 PGC_USERSET, 0,
							 NULL, NULL, NULL);
	DefineCustomBoolVariable("pageserver_smgr.rehearsal",
							 "Makes the server exit when its startup is certain to succeed.",
							 NULL,
							 &ps_rehearsal, false,
							 PGC_POSTMASTER, GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE,
							 NULL, NULL, NULL);
	MarkGUCPrefixReserved("pageserver_smgr");
}

static struct config_generic *
find_setting(const char *name)
{
	struct config_generic *setting = compat_find_setting(name);

	if (setting == NULL)
		elog(FATAL, "setting \"%s\" does not exist", name);
	return setting;
}

/* The value that a setting has by default, as text. */
static const char *
default_value(struct config_generic *setting)
{
	switch (setting->vartype)
	{
		case PGC_BOOL:
			return ((struct config_bool *) setting)->boot_val ? "on" : "off";
		case PGC_INT:
			return psprintf("%d", ((struct config_int *) setting)->boot_val);
		case PGC_STRING:
			return ((struct config_string *) setting)->boot_val;
		case PGC_ENUM:
			return config_enum_lookup_by_value((struct config_enum *) setting,
											   ((struct config_enum *) setting)->boot_val);
		default:
			return NULL;
	}
}

/*
 * Sets a setting with PGC_S_OVERRIDE, which cannot be undone by configuration
 * files, ALTER SYSTEM, a reload or the command line.  Logs that if it overrides
 * a decision of the server's owner, that is, a value other than the default.
 */
static void
force_setting(const char *name, const char *value, GucContext context, const char *why)
{
	struct config_generic *setting = find_setting(name);
	char *before = GetConfigOptionByName(name, NULL, false);
	const char *by_default = default_value(setting);
	bool by_owner = setting->source > PGC_S_DYNAMIC_DEFAULT &&
					(by_default == NULL || strcmp(GetConfigOption(name, false, false), by_default) != 0);
	char *file = setting->sourcefile != NULL ? pstrdup(setting->sourcefile) : NULL;
	int line = setting->sourceline;

	SetConfigOption(name, value, context, PGC_S_OVERRIDE);
	if (!by_owner || strcmp(before, GetConfigOptionByName(name, NULL, false)) == 0)
		return;
	ereport(LOG,
			(errmsg("parameter \"%s\" is forced to \"%s\" instead of \"%s\"",
					name, strcmp(name, "synchronous_standby_names") == 0 ? "pageserver_smgr" : value, before),
			 file != NULL ? errdetail("%s The value was set in file \"%s\" line %d.",
									  why, file, line)
						  : errdetail("%s The value was set on the command line.",
									  why)));
}

/*
 * The WAL worker uses one of what the setting counts.  The default is raised by
 * one, so that users have as many as PostgreSQL's default gives them.  Other
 * values are left alone, since each reload would complain about a difference,
 * unless they leave none for the worker.
 */
static void
make_room_for_worker(const char *name, int current)
{
	char value[16];

	if (current > 0 && find_setting(name)->source != PGC_S_DEFAULT)
		return;
	snprintf(value, sizeof(value), "%d", current + 1);
	force_setting(name, value, PGC_POSTMASTER, "The WAL worker needs one.");
}

/*
 * A subscription's worker commits with synchronous_commit = off by default, and
 * reports the commit to its publisher as soon as it is flushed locally,
 * whereupon the publisher forgets it.  If this compute were lost before the
 * store has the commit, it would be lost, too.  So these workers wait for the
 * store regardless of the subscription's value, which worker.c sets when it
 * starts and when the subscription changes.
 */
static bool
check_synchronous_commit(int *newval, void **extra, GucSource source)
{
	if (IsLogicalWorker() && *newval < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
		*newval = SYNCHRONOUS_COMMIT_REMOTE_FLUSH;
	return true;
}

void
settings_init(void)
{
	define_settings();
	settings_done = true;
	if (ps_store == NULL || strcmp(ps_store, store_setting) != 0)
		ereport(FATAL,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	if (ps_store[0] == '\0')
		return;

	if (ps_tenant[0] == '\0' || ps_timeline[0] == '\0')
		ereport(FATAL,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameter \"%s\" must be set if \"pageserver_smgr.store\" is set",
						ps_tenant[0] == '\0' ? "pageserver_smgr.tenant" : "pageserver_smgr.timeline"),
				 errhint("Start computes with \"pageserver_ctl compute start\", which sets these parameters.")));
	if (wal_level < WAL_LEVEL_REPLICA)
		ereport(FATAL,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("pageserver_smgr requires \"wal_level\" to be \"replica\" or \"logical\""),
				 errdetail("With \"minimal\", some changes would be missing in WAL and therefore in the page store.")));
	if (ps_cache_limit != -1 && ps_cache_limit < ps_cache_size)
		ereport(FATAL,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"pageserver_smgr.cache_limit\" (%d MB) must not be less than "
						"\"pageserver_smgr.cache_size\" (%d MB)",
						ps_cache_limit, ps_cache_size)));

	for (int i = 0; i < lengthof(ps_overrides); i++)
		force_setting(ps_overrides[i].name, ps_overrides[i].value,
					  ps_overrides[i].at_start ? PGC_POSTMASTER : PGC_SIGHUP, ps_overrides[i].why);
	((struct config_enum *) find_setting("synchronous_commit"))->check_hook = check_synchronous_commit;
	make_room_for_worker("max_wal_senders", max_wal_senders);
	make_room_for_worker("max_replication_slots", max_replication_slots);
	make_room_for_worker("max_worker_processes", max_worker_processes);
}

void
settings_require_compute(void)
{
	if (ps_store == NULL || ps_store[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this server is not a compute of a page store"),
				 errhint("Add \"pageserver_smgr\" to \"shared_preload_libraries\" and set "
						 "\"pageserver_smgr.store\".")));
}
