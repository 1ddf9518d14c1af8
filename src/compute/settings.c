/*
 * settings.c
 *	  The settings pageserver_smgr.*, and those of PostgreSQL that a compute
 *	  must have.
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

#include "compute.h"
#include "overrides.h"
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

static char *store_setting; /* ps_store is a copy: see assign_store() */

/*
 * Set once the settings are in force: from then on .store may move to another
 * address, but not appear or go away.
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
	uint64 *value = malloc(sizeof(uint64));
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
	XLogRecPtr *value = malloc(sizeof(XLogRecPtr));
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

	/* a parallel worker resets all settings before it takes over its leader's */
	if (settings_done && !InitializingParallelWorker && ((*newval)[0] == '\0') != (ps_store[0] == '\0'))
	{
		GUC_check_errdetail("The store can be given, or taken away, only when the server starts.");
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
		GUC_check_errdetail("The value is not a connection string of libpq: %s",
							error != NULL ? pchomp(error) : "out of memory");
		PQfreemem(error);
		return false;
	}
	PQconninfoFree(options);
	return true;
}

/*
 * ps_store is a copy, for a parallel worker resets all settings before it takes
 * over its leader's one by one (RestoreGUCState()), and reads catalogs to check
 * some of them: until .store is among those taken over, it has the address
 * that it was forked with.  Short of memory, the process stays with what it has.
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
							   "Connection string of the page store that holds this compute's relations.",
							   "Without it the library does nothing.",
							   &store_setting, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY | GUC_DISALLOW_IN_AUTO_FILE,
							   check_store, assign_store, NULL);
	DefineCustomStringVariable("pageserver_smgr.tenant",
							   "Tenant of the store that this compute belongs to, as 32 hexadecimal digits.",
							   NULL,
							   &ps_tenant, "",
							   PGC_POSTMASTER, GUC_DISALLOW_IN_AUTO_FILE,
							   check_id, NULL, NULL);
	DefineCustomStringVariable("pageserver_smgr.timeline",
							   "Timeline (branch) of the store that this compute runs, as 32 hexadecimal digits.",
							   NULL,
							   &ps_timeline, "",
							   PGC_POSTMASTER, GUC_DISALLOW_IN_AUTO_FILE,
							   check_id, NULL, NULL);
	DefineCustomStringVariable("pageserver_smgr.generation",
							   "Generation of the timeline that this compute was started with.",
							   "The store refuses WAL of any compute but the one with the newest generation.",
							   &ps_generation_text, "0",
							   PGC_POSTMASTER, GUC_DISALLOW_IN_AUTO_FILE,
							   check_generation, assign_generation, NULL);
	DefineCustomStringVariable("pageserver_smgr.checkpoint_lsn",
							   "Location of the shutdown checkpoint that this data directory was made with.",
							   NULL,
							   &ps_checkpoint_lsn_text, "",
							   PGC_POSTMASTER, GUC_DISALLOW_IN_AUTO_FILE,
							   check_lsn, assign_checkpoint_lsn, NULL);
	DefineCustomIntVariable("pageserver_smgr.cache_size",
							"Disk space for the local cache of pages of the store.",
							"Pages that must be kept may take more.",
							&ps_cache_size, 1024, 1, MAX_KILOBYTES,
							PGC_POSTMASTER, GUC_UNIT_MB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver_smgr.cache_limit",
							"Disk space that the local page cache may grow to for pages that must be kept.",
							"These are pages changed by open transactions. -1 means no limit but the disk's.",
							&ps_cache_limit, -1, -1, MAX_KILOBYTES,
							PGC_POSTMASTER, GUC_UNIT_MB,
							NULL, NULL, NULL);
	DefineCustomStringVariable("pageserver_smgr.cache_path",
							   "Local file that caches pages of the store.",
							   "A relative path is relative to the data directory.",
							   &ps_cache_path, "pageserver_smgr.cache",
							   PGC_POSTMASTER, 0,
							   NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver_smgr.lsn_cache_entries",
							"Number of blocks whose last-written LSN is remembered one by one.",
							NULL,
							&ps_lsn_cache_entries, 131072, 1024, 64 * 1024 * 1024,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver_smgr.readahead",
							"Number of blocks asked for ahead of a sequential read.",
							"0 turns reading ahead off.",
							&ps_readahead, 32, 0, PS_MAX_BATCH,
							PGC_USERSET, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver_smgr.connect_retry_max_delay",
							"Longest pause between two attempts to connect to the store.",
							NULL,
							&ps_connect_retry, 1000, 10, 3600 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver_smgr.response_timeout",
							"Time without any answer of the store after which a request is sent again over another connection.",
							"Should be longer than the store's wait_timeout. 0 means that it is waited for as long as the connection lasts.",
							&ps_response_timeout, 120 * 1000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver_smgr.shutdown_timeout",
							"Longest time that a shutdown waits for the store to have all WAL.",
							NULL,
							&ps_shutdown_timeout, 10000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver_smgr.max_wal_lag",
							"Amount of WAL that the store has not acknowledged at which writers are slowed down.",
							"0 means no limit.",
							&ps_max_wal_lag, 512, 0, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_MB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pageserver_smgr.catalog_read_interval",
							"Time between looks for databases whose catalogs have not been read yet.",
							"They are read once, so that they can be connected to while the store is down. 0 turns that off.",
							&ps_catalog_read_interval, 60, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomBoolVariable("pageserver_smgr.wait_for_commits_in_doubt",
							 "A session waits until the store has acknowledged commits whose own wait was canceled.",
							 "Its first statement does. Otherwise it may see changes that the next compute does not have.",
							 &ps_wait_for_commits_in_doubt, true,
							 PGC_USERSET, 0,
							 NULL, NULL, NULL);
	DefineCustomBoolVariable("pageserver_smgr.rehearsal",
							 "Ends the start of the server when it is clear that it would succeed.",
							 NULL,
							 &ps_rehearsal, false,
							 PGC_POSTMASTER, GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE,
							 NULL, NULL, NULL);
	MarkGUCPrefixReserved("pageserver_smgr");
}

static struct config_generic *
find_setting(const char *name)
{
	struct config_generic **settings = get_guc_variables();

	for (int i = 0; i < GetNumConfigOptions(); i++)
		if (strcmp(settings[i]->name, name) == 0)
			return settings[i];
	elog(FATAL, "setting \"%s\" does not exist", name);
	pg_unreachable();
}

/* The value that a setting has if nobody sets it, as text. */
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
			return config_enum_lookup_by_value((struct config_enum *) setting, ((struct config_enum *) setting)->boot_val);
		default:
			return NULL;
	}
}

/*
 * Sets a setting with PGC_S_OVERRIDE, which neither configuration files nor
 * ALTER SYSTEM, also on reload, nor the command line can undo, and says so in
 * the log if that undoes something that the owner of the server has decided:
 * not if it was what it is by default.
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
			(errmsg("\"%s\" is set to \"%s\", not to \"%s\"", name, strcmp(name, "synchronous_standby_names") == 0 ? "pageserver_smgr" : value, before),
			 file != NULL ? errdetail("%s It was set in file \"%s\" line %d.", why, file, line) : errdetail("%s It was set on the command line.", why)));
}

/*
 * The WAL worker takes one of what the setting counts.  Users get as many as
 * PostgreSQL's default gives them; a value of their own stays what it is, or
 * each reload would complain that it differs, unless it leaves none for the
 * worker.
 */
static void
make_room_for_worker(const char *name, int current)
{
	char value[16];

	if (current > 0 && find_setting(name)->source != PGC_S_DEFAULT)
		return;
	snprintf(value, sizeof(value), "%d", current + 1);
	force_setting(name, value, PGC_POSTMASTER, "The WAL worker takes one.");
}

/*
 * A subscription's worker commits with synchronous_commit = off by default,
 * tells its publisher as soon as the commit is flushed here, and the publisher
 * then forgets it: if this compute were lost before the store has it, so would
 * be the change.  So these workers wait for the store, whatever the
 * subscription says (worker.c sets its value when it starts and when the
 * subscription changes).
 */
static bool
check_synchronous_commit(int *newval, void **extra, GucSource source)
{
	if (IsLogicalWorker() && *newval < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
		*newval = SYNCHRONOUS_COMMIT_REMOTE_FLUSH;
	return true;
}

/*
 * Defines the settings, and with a store given sets what else the rules need.
 * To be called from _PG_init under shared_preload_libraries, when
 * configuration files have been read, but nothing has been sized by them.
 */
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
				 errmsg("\"%s\" must be set if \"pageserver_smgr.store\" is",
						ps_tenant[0] == '\0' ? "pageserver_smgr.tenant" : "pageserver_smgr.timeline"),
				 errhint("Start computes with \"pageserver_ctl compute start\", which writes these settings.")));
	if (wal_level < WAL_LEVEL_REPLICA)
		ereport(FATAL,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("pageserver_smgr requires \"wal_level\" to be \"replica\" or \"logical\""),
				 errdetail("With \"minimal\" changes would be missing from WAL, and so from the store.")));
	if (ps_cache_limit != -1 && ps_cache_limit < ps_cache_size)
		ereport(FATAL,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"pageserver_smgr.cache_limit\" (%d MB) must not be less than \"pageserver_smgr.cache_size\" (%d MB)",
						ps_cache_limit, ps_cache_size)));

	for (int i = 0; i < lengthof(ps_overrides); i++)
		force_setting(ps_overrides[i].name, ps_overrides[i].value, ps_overrides[i].at_start ? PGC_POSTMASTER : PGC_SIGHUP,
					  ps_overrides[i].why);
	((struct config_enum *) find_setting("synchronous_commit"))->check_hook = check_synchronous_commit;
	make_room_for_worker("max_wal_senders", max_wal_senders);
	make_room_for_worker("max_replication_slots", max_replication_slots);
	make_room_for_worker("max_worker_processes", max_worker_processes);
}
