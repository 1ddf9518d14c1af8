/*
 * config_table.c
 *	  All settings of the store: names, units, limits, defaults, descriptions, and
 *	  checks of values.
 */
#include "ps_fe.h"

#include <arpa/inet.h>
#include <limits.h>
#include <netinet/in.h>

#include "base/aio_method.h"
#include "base/config_table.h"
#include "sqlstate.h"

static const char *check_addresses(const char *value, const char **hint);
static const char *check_directory(const char *value, const char **hint);
static const char *check_io_method(const char *value, const char **hint);
static const char *check_log_level(const char *value, const char **hint);
static const char *check_path_style(const char *value, const char **hint);
static const char *check_remote_storage(const char *value, const char **hint);
static const char *check_wal_acknowledge(const char *value, const char **hint);
static const char *check_wal_compression(const char *value, const char **hint);

#define INT_SETTING(field, unit, min, max, value) #field, SETTING_INT, unit, min, max, value, offsetof(Config, field)

#define BOOL_SETTING(field, value) #field, SETTING_BOOL, UNIT_NONE, 0, 1, value, offsetof(Config, field)

#define STRING_SETTING(field, value) #field, SETTING_STRING, UNIT_NONE, 0, 0, value, offsetof(Config, field)

const Setting config_settings[] = {
	{"Connections", STRING_SETTING(listen_addresses, ""), check_addresses, false,
	 "TCP addresses to listen on, separated by commas: localhost, 127.0.0.1, ::1.\n"
	 "If empty, the store listens on the Unix socket only.  Clients are not\n"
	 "authenticated yet: everybody who can connect can read and write every branch.\n"
	 "Therefore other addresses are refused, and with these addresses every user of\n"
	 "this machine has access.  The Unix socket is protected by the permissions of\n"
	 "its directory."},
	{NULL, INT_SETTING(port, UNIT_NONE, 1, 65535, "5480"), NULL, false,
	 "TCP port, also the number in the name of the Unix socket (.s.PGSQL.5480)."},
	{NULL, STRING_SETTING(unix_socket_directory, ""), check_directory, false,
	 "Absolute path of the directory of the Unix socket.  If empty, this is the\n"
	 "directory of the store or, if its path contains a comma or is too long for a\n"
	 "socket, a new directory below the directory of PostgreSQL's sockets."},
	{NULL, INT_SETTING(max_connections, UNIT_NONE, 1, 100000, "500"), NULL, true,
	 "Maximum number of page streams.  A backend of a compute uses one from the first\n"
	 "page that it reads.  If there are more backends, those that need a stream take\n"
	 "over streams of idle backends, and branches get equal shares.  WAL streams, one\n"
	 "for each branch, do not count.  Other connections, such as those of\n"
	 "pageserver_ctl, are limited to the same number, or to 100 if that is more."},

	{"Reading files", STRING_SETTING(io_method, "io_uring"), check_io_method, false,
	 "How layer data that is not in the kernel's page cache is read.  io_uring and\n"
	 "worker (threads) read all that a request needs at once; worker is also used if\n"
	 "the kernel does not allow io_uring.  sync reads one piece after the other."},
	{NULL, INT_SETTING(io_workers, UNIT_NONE, 1, 1024, "32"), NULL, false,
	 "Number of threads of io_method worker."},

	{"Redo", STRING_SETTING(bindir, ""), check_directory, false,
	 "Absolute path of the directory of PostgreSQL's programs (postgres, initdb).\n"
	 "If empty, this is the directory of the program pageserver."},
	{NULL, INT_SETTING(redo_helpers, UNIT_NONE, 0, 256, "0"), NULL, false,
	 "Maximum number of redo helpers of each tenant.  Redo helpers are processes of\n"
	 "stock PostgreSQL that apply WAL records to pages.  0 means one for each CPU."},
	{NULL, INT_SETTING(redo_timeout, UNIT_MS, 100, INT_MAX, "60s"), NULL, true,
	 "A redo helper that needs longer than this for one request is replaced."},

	{"Ingest and flush", INT_SETTING(checkpoint_distance, UNIT_MB, 1, 65536, "256MB"), NULL, true,
	 "Amount of WAL in a branch's in-memory layer after which it is written to a file."},
	{NULL, INT_SETTING(checkpoint_timeout, UNIT_S, 1, 7 * 86400, "10min"), NULL, true,
	 "Age at which an in-memory layer is written to a file even if it is small."},
	{NULL, INT_SETTING(open_layer_memory, UNIT_MB, 1, 65536, "256MB"), NULL, true,
	 "Size of the index of an in-memory layer at which it is written to a file."},
	{NULL, INT_SETTING(layer_memory, UNIT_MB, 2, 1024 * 1024, "1GB"), NULL, true,
	 "Memory for the in-memory layers of all branches.  When more than half of it is\n"
	 "used, large layers are written early, and no branch may use more than half.  When\n"
	 "all of it is used, branches that use more than their share receive WAL only as\n"
	 "fast as their layers are written."},
	{NULL, INT_SETTING(max_ingest_lag, UNIT_MB, 1, 65536, "64MB"), NULL, true,
	 "Maximum amount of WAL that was received but is not visible to reads yet.  When it\n"
	 "is reached, the store receives WAL only as fast as it can process it."},
	{NULL, INT_SETTING(page_cache_size, UNIT_MB, 0, 1024 * 1024, "128MB"), NULL, false,
	 "Memory for caching reconstructed pages."},
	{NULL, INT_SETTING(max_open_layer_files, UNIT_NONE, 8, 30000, "4000"), NULL, true,
	 "Maximum number of layer files that are kept open; the least recently used are\n"
	 "closed.  Each uses a file descriptor, a memory mapping, and up to 32 kB of memory\n"
	 "for its dictionary.  The limit on open files may reduce this number."},
	{NULL, INT_SETTING(min_free_space, UNIT_MB, 0, 1024 * 1024, "512MB"), NULL, true,
	 "When less disk space than this is free, the store receives no more WAL: commits\n"
	 "wait, reads continue.  The space is reserved for writing in-memory layers, so it\n"
	 "should be at least checkpoint_distance.  Merges and image files do not use it."},
	{NULL, STRING_SETTING(wal_compression, "zstd"), check_wal_compression, true,
	 "Compression of WAL files whose contents are in layer files: zstd or none.\n"
	 "\"zstd -d\" converts a compressed file to one that pg_waldump can read."},
	{NULL, INT_SETTING(wait_timeout, UNIT_MS, 1, INT_MAX, "60s"), NULL, true,
	 "Maximum time that a read waits for WAL that it needs."},
	{NULL, INT_SETTING(idle_timeline_timeout, UNIT_S, 0, INT_MAX / 1000, "5min"), NULL, true,
	 "A branch is opened when it is first used.  It is closed, and then needs no\n"
	 "memory, threads or open files, when it has not been used for this long and all\n"
	 "of its WAL is in layer files (see checkpoint_timeout).  0 means never."},

	{"Compaction", INT_SETTING(compaction_workers, UNIT_NONE, 0, 64, "1"), NULL, false,
	 "Number of threads that merge layer files, create image files and remove files\n"
	 "that nothing can read any more, and number of additional threads that only merge\n"
	 "newly written files.  0 turns all of this off, so files accumulate."},
	{NULL, INT_SETTING(compaction_threshold, UNIT_NONE, 2, 1000, "4"), NULL, true,
	 "Number of newly written files that are merged into files ordered by key."},
	{NULL, INT_SETTING(compaction_fanout, UNIT_NONE, 2, 1000, "4"), NULL, true,
	 "Number of such merged sets of one level that are merged into one of the next."},
	{NULL, INT_SETTING(compaction_backlog, UNIT_NONE, 2, 100000, "40"), NULL, true,
	 "Number of newly written files waiting to be merged at which the store receives\n"
	 "WAL only as fast as it merges files; from half this number on, it gradually slows\n"
	 "down.  Must be at least compaction_threshold.  If files cannot be merged, because\n"
	 "the disk is full or a file is damaged, WAL is received at 1 MB/s."},
	{NULL, INT_SETTING(target_file_size, UNIT_MB, 1, 65536, "128MB"), NULL, true,
	 "Approximate size of a merged file or an image file."},
	{NULL, INT_SETTING(compaction_memory, UNIT_MB, 1, 65536, "64MB"), NULL, true,
	 "Approximate memory that a merge may use, for each thread."},
	{NULL, INT_SETTING(image_delta_records, UNIT_NONE, 1, 1000000, "16"), NULL, true,
	 "An image file of a range of pages is created when, since the last one, an average\n"
	 "of this many records for each page have accumulated, ..."},
	{NULL, INT_SETTING(image_delta_percent, UNIT_NONE, 1, 10000, "300"), NULL, true,
	 "... or records whose size is this percentage of the image's size, ..."},
	{NULL, INT_SETTING(image_delta_layers, UNIT_NONE, 1, 1000, "8"), NULL, true,
	 "... or a tenth of either, in this many files that overlap the range."},

	{"History", INT_SETTING(gc_horizon, UNIT_MB, 0, INT_MAX, "64MB"), NULL, true,
	 "A branch can begin at any point of its parent's history within this amount of\n"
	 "WAL ..."},
	{NULL, INT_SETTING(pitr_interval, UNIT_S, 0, INT_MAX, "7d"), NULL, true,
	 "... and within this time.  History that is older than both is removed, except the\n"
	 "points at which branches begin.  Time is counted while the store is running, from\n"
	 "when it received the WAL, so setting a clock does not make history older."},

	{"Trash", INT_SETTING(trash_interval, UNIT_S, 0, INT_MAX, "7d"), NULL, false,
	 "How long deleted branches and tenants are kept in the trash, from which \"branch\n"
	 "undelete\" and \"tenant undelete\" restore them.  Until then they use disk space\n"
	 "(\"branch list --deleted\").  Time is counted while the store is running.  0 turns\n"
	 "the trash off."},

	{"Object storage", STRING_SETTING(remote_storage, ""), check_remote_storage, false,
	 "Object storage of this store: s3://BUCKET/PREFIX, of S3 or a service with its\n"
	 "protocol, or file:///DIRECTORY, which must exist.  Each tenant is claimed there\n"
	 "when the store starts, so that of a store and its copies only one can serve it,\n"
	 "and its layer files and WAL are uploaded.  If empty, there is no object storage."},
	{NULL, STRING_SETTING(remote_endpoint, ""), NULL, false,
	 "https://HOST or https://HOST:PORT of the service.  If empty, AWS's in the region."},
	{NULL, STRING_SETTING(remote_region, ""), NULL, false,
	 "Region.  If empty, the environment variables AWS_REGION and AWS_DEFAULT_REGION\n"
	 "are used, or us-east-1."},
	{NULL, STRING_SETTING(remote_path_style, "auto"), check_path_style, false,
	 "Whether the bucket's name is in the path of an object's address (on) or in the\n"
	 "host name (off).  auto means on if remote_endpoint is set."},
	{NULL, STRING_SETTING(remote_ca_file, ""), check_directory, false,
	 "Absolute path of a PEM file with the certificates of authorities that are\n"
	 "trusted.  If empty, these are the system's."},
	{NULL, BOOL_SETTING(remote_verify_tls, "on"), NULL, false,
	 "off accepts any certificate.  Whoever is between the store and the service can\n"
	 "then read and change what is stored."},
	{NULL, STRING_SETTING(remote_proxy, ""), NULL, false,
	 "URL of a proxy.  If empty, the environment variables https_proxy, http_proxy and\n"
	 "no_proxy are used."},
	{NULL, STRING_SETTING(remote_key_file, ""), check_directory, false,
	 "Absolute path of a file with credentials, in the form of ~/.aws/credentials.  If\n"
	 "empty, they are taken from the environment, or from what the machine offers."},
	{NULL, STRING_SETTING(remote_sse, ""), NULL, false,
	 "Encryption by the service: AES256, aws:kms, aws:kms:KEY, or customer:FILE with\n"
	 "a file of 32 bytes.  If empty, the bucket's default applies."},
	{NULL, STRING_SETTING(remote_storage_class, ""), NULL, false,
	 "Storage class of objects, such as STANDARD_IA.  If empty, the bucket's default\n"
	 "applies."},
	{NULL, INT_SETTING(remote_connections, UNIT_NONE, 1, 1024, "64"), NULL, false,
	 "Maximum number of requests at a time."},
	{NULL, INT_SETTING(remote_part_size, UNIT_MB, 5, 5120, "64MB"), NULL, false,
	 "Files larger than this are uploaded in parts of this size."},
	{NULL, INT_SETTING(remote_delete_delay, UNIT_S, 0, 365 * 86400, "1d"), NULL, true,
	 "How long objects are kept that are not needed any more.  Must be longer than a\n"
	 "list of objects may be out of date; until then, mistakes can be undone."},
	{NULL, INT_SETTING(remote_check_interval, UNIT_S, 1, 86400, "10s"), NULL, true,
	 "How often the store checks that no other store has taken over a tenant, while a\n"
	 "branch of the tenant is open."},
	{NULL, BOOL_SETTING(remote_require_ownership, "on"), NULL, true,
	 "Whether a tenant is served only when the store has claimed it in the object\n"
	 "storage.  off: if that cannot be reached when the store starts, tenants are\n"
	 "served nevertheless, and claimed later.  If another store has taken over a tenant\n"
	 "by then, what was written here meanwhile is not in that store."},

	{"WAL in object storage", STRING_SETTING(wal_acknowledge, "local"), check_wal_acknowledge, true,
	 "Where WAL must be durable before a commit is acknowledged.\n"
	 "  local   on the disk of the store.  If the machine is lost, WAL of the last\n"
	 "          wal_upload_interval is lost with it, or of wal_upload_max_lag if the\n"
	 "          object storage did not answer.  Nothing is lost if the compute is not:\n"
	 "          it keeps WAL until that is in object storage.\n"
	 "  directory  also in wal_copy_directory, where WAL is kept until it is in object\n"
	 "          storage.  Nothing is lost unless both disks are.\n"
	 "  bucket  also in object storage.  Each commit takes as long as a request;\n"
	 "          commits of many sessions share one."},
	{NULL, STRING_SETTING(wal_copy_directory, ""), check_directory, false,
	 "Absolute path of a directory on another disk or machine, for wal_acknowledge =\n"
	 "directory.  When a branch is opened, also by another store that has taken over its\n"
	 "tenant, WAL that follows its own is taken from there."},
	{NULL, INT_SETTING(wal_upload_interval, UNIT_MS, 10, INT_MAX, "5s"), NULL, true,
	 "How long WAL may wait until it is uploaded.  It is uploaded earlier if there are\n"
	 "4 MB of it, and at once if wal_acknowledge is bucket."},
	{NULL, INT_SETTING(wal_upload_max_lag, UNIT_S, 0, INT_MAX / 1000, "5min"), NULL, true,
	 "If wal_acknowledge is local: when WAL could not be uploaded for this long, the\n"
	 "store receives no more WAL, and commits wait.  0 means that they never do; then\n"
	 "there is no bound for what a lost machine costs."},

	{"Log", STRING_SETTING(log_level, "log"), check_log_level, true,
	 "Minimum level of messages that are logged: debug, log or warning."},
};

const int config_nsettings = lengthof(config_settings);

/* ---- checks of values ---- */

static bool
address_is_loopback(const char *name)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (strcmp(name, "localhost") == 0)
		return true;
	if (inet_pton(AF_INET, name, &v4) == 1)
		return (ntohl(v4.s_addr) >> 24) == 127;
	if (inet_pton(AF_INET6, name, &v6) == 1)
		return IN6_IS_ADDR_LOOPBACK(&v6);
	return false;
}

char **
config_addresses(const char *listen_addresses, int *n)
{
	char **names = pg_malloc(sizeof(char *) * (strlen(listen_addresses) + 1));

	*n = 0;
	for (const char *p = listen_addresses;;)
	{
		size_t len;

		p += strspn(p, ", \t");
		len = strcspn(p, ", \t");
		if (len == 0)
			break;
		names[(*n)++] = pnstrdup(p, len);
		p += len;
	}
	return names;
}

void
config_free_addresses(char **names, int n)
{
	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
}

static const char *
check_addresses(const char *value, const char **hint)
{
	int n;
	char **names = config_addresses(value, &n);
	bool ok = true;

	for (int i = 0; i < n; i++)
		ok = ok && address_is_loopback(names[i]);
	config_free_addresses(names, n);
	if (ok)
		return NULL;
	*hint = "Use localhost, 127.0.0.1 or ::1, or nothing for the Unix socket alone.";
	return "only loopback addresses may be listened on, for clients are not authenticated yet";
}

static const char *
check_directory(const char *value, const char **hint)
{
	return value[0] == '\0' || value[0] == '/' ? NULL : "it must be an absolute path";
}

static const char *
check_remote_storage(const char *value, const char **hint)
{
	if (value[0] == '\0' || strncmp(value, "s3://", 5) == 0 || strncmp(value, "file:///", 8) == 0)
		return NULL;
	return "it must be s3://BUCKET/PREFIX or file:///DIRECTORY";
}

static const char *
check_path_style(const char *value, const char **hint)
{
	if (strcmp(value, "auto") == 0 || strcmp(value, "on") == 0 || strcmp(value, "off") == 0)
		return NULL;
	return "it must be auto, on or off";
}

static const char *
check_wal_acknowledge(const char *value, const char **hint)
{
	return strcmp(value, "local") == 0 || strcmp(value, "directory") == 0 || strcmp(value, "bucket") == 0
			   ? NULL
			   : "it must be local, directory or bucket";
}

static const char *
check_wal_compression(const char *value, const char **hint)
{
	return strcmp(value, "zstd") == 0 || strcmp(value, "none") == 0 ? NULL : "there are zstd and none";
}

static const char *
check_io_method(const char *value, const char **hint)
{
	AioMethod method;

	return aio_method_by_name(value, &method) ? NULL : "there are io_uring, worker and sync";
}

static bool
parse_log_level(const char *value, PsLogLevel *level)
{
	static const char *const names[] = {"debug", "log", "warning"};

	for (int i = 0; i < lengthof(names); i++)
	{
		if (strcmp(value, names[i]) == 0)
		{
			*level = (PsLogLevel) i;
			return true;
		}
	}
	return false;
}

static const char *
check_log_level(const char *value, const char **hint)
{
	PsLogLevel level;

	return parse_log_level(value, &level) ? NULL : "it must be debug, log or warning";
}

PsLogLevel
config_log_level(const Config *config)
{
	PsLogLevel level = PS_LOG;

	parse_log_level(config->log_level, &level);
	return level;
}

WalAcknowledge
config_wal_acknowledge(const Config *config)
{
	const char *value = config->wal_acknowledge;

	if (value != NULL && strcmp(value, "bucket") == 0)
		return WAL_ACKNOWLEDGE_BUCKET;
	return value != NULL && strcmp(value, "directory") == 0 ? WAL_ACKNOWLEDGE_DIRECTORY : WAL_ACKNOWLEDGE_LOCAL;
}

PsError *
config_check_together(const Config *config, const char *path)
{
	if (config->compaction_threshold > config->compaction_backlog)
		return ps_error_hint(ps_error(PS_SQLSTATE_INVALID,
									  "%s: \"compaction_threshold\" is %d, more than "
									  "\"compaction_backlog\", which is %d: "
									  "the store would take no more WAL before anything is merged",
									  path, config->compaction_threshold, config->compaction_backlog),
							 "Set \"compaction_backlog\" to twice \"compaction_threshold\" at least.");
	if (config_wal_acknowledge(config) != WAL_ACKNOWLEDGE_LOCAL && config->remote_storage[0] == '\0')
		return ps_error_hint(ps_error(PS_SQLSTATE_INVALID,
									  "%s: \"wal_acknowledge\" is \"%s\", but there is no object storage", path,
									  config->wal_acknowledge),
							 "Set \"remote_storage\", which requires a restart of the store.");
	if (config_wal_acknowledge(config) == WAL_ACKNOWLEDGE_DIRECTORY && config->wal_copy_directory[0] == '\0')
		return ps_error_hint(ps_error(PS_SQLSTATE_INVALID,
									  "%s: \"wal_acknowledge\" is \"directory\", but \"wal_copy_directory\" is empty",
									  path),
							 "Set \"wal_copy_directory\", which requires a restart of the store.");
	if (config->min_free_space > 0 && config->min_free_space < config->checkpoint_distance)
		ps_log(PS_WARNING,
			   "%s: \"min_free_space\" is %d MB, less than \"checkpoint_distance\", which is %d MB: "
			   "a full disk may have no room to write a layer",
			   path, config->min_free_space, config->checkpoint_distance);
	return NULL;
}
