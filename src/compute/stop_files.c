/*
 * stop_files.c
 *	  Sends files that a stock server keeps over a planned restart to the store:
 *	  the next compute of the branch is a new server in another directory.
 *
 * The cumulative statistics are written when the checkpointer exits, those of
 * pg_stat_statements when the postmaster does.  So the postmaster sends what is in
 * pg_stat, and the list of autoprewarm, as the last thing before it releases the
 * data directory.  It does that only after a clean shutdown, and only if the store
 * has all WAL of this compute.  Otherwise the files would not match the data that the
 * next compute starts with, and it starts without statistics, as a stock server does
 * after a crash.
 *
 * No error here fails the shutdown, or delays it by more than shutdown_timeout.
 */
#include "postgres.h"

#include <dirent.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

#include "libpq-fe.h"
#include "settings.h"
#include "stop_files.h"
#include "store_hosts.h"
#include "wal_progress_impl.h"

#define STATS_DIR        "pg_stat"
#define AUTOPREWARM_FILE "autoprewarm.blocks"

/* Largest size of one file and of all files that are sent; the store accepts slightly more. */
#define MAX_FILE_SIZE (12 * 1024 * 1024)
#define MAX_SIZE      (24 * 1024 * 1024)

static XLogRecPtr stopped_at; /* copied because shared memory is gone when it is needed */
static uint32 store_host;
static TimestampTz deadline;
static size_t sent_bytes;

static void
remember_end(int code, Datum arg)
{
	stopped_at = pg_atomic_read_u64(&wal_progress->stopped_at);
	store_host = wal_progress_store_host();
}

/* Waits until libpq can continue; false after a timeout. */
static bool
wait_for_store(PGconn *pg, short events)
{
	struct pollfd fd = {.fd = PQsocket(pg), .events = events};
	long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

	return left > 0 && (poll(&fd, 1, (int) left) > 0 || errno == EINTR);
}

static bool
connect_to_host(PGconn **pg, const StoreHost *host)
{
	const char *const keys[] = {"dbname", "host", "hostaddr", "port", "application_name", NULL};
	const char *const values[] = {ps_store, host->host, host->hostaddr, host->port, "pageserver_smgr shutdown", NULL};
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;

	*pg = PQconnectStartParams(keys, values, true);
	if (*pg == NULL || PQstatus(*pg) == CONNECTION_BAD)
		return false;
	while (status != PGRES_POLLING_OK)
	{
		if (!wait_for_store(*pg, status == PGRES_POLLING_READING ? POLLIN : POLLOUT))
			return false;
		status = PQconnectPoll(*pg);
		if (status == PGRES_POLLING_FAILED)
			return false;
	}
	return PQsetnonblocking(*pg, 1) == 0;
}

static bool
flush(PGconn *pg)
{
	int rc;

	while ((rc = PQflush(pg)) == 1)
		if (!wait_for_store(pg, POLLOUT | POLLIN) || !PQconsumeInput(pg))
			return false;
	return rc == 0;
}

/* Waits for the next result; false if it has another status. */
static bool
get_result(PGconn *pg, ExecStatusType expected)
{
	PGresult *res;
	bool ok;

	if (!flush(pg))
		return false;
	while (PQisBusy(pg))
		if (!wait_for_store(pg, POLLIN) || !PQconsumeInput(pg))
			return false;
	res = PQgetResult(pg);
	ok = res != NULL && PQresultStatus(res) == expected;
	PQclear(res);
	return ok;
}

/* Sends a file if it exists.  A file that is too large is skipped. */
static bool
send_file(PGconn *pg, const char *path)
{
	size_t name_size = strlen(path) + 1;
	struct stat st;
	char *message;
	FILE *file;
	bool ok = true;

	if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
		return true;
	if (st.st_size > MAX_FILE_SIZE || sent_bytes + st.st_size > MAX_SIZE)
	{
		ereport(LOG,
				(errmsg("file \"%s\" is too large (%lld bytes) to be preserved for the next compute",
						path, (long long) st.st_size)));
		return true;
	}
	file = fopen(path, PG_BINARY_R);
	message = malloc(name_size + st.st_size);
	if (file != NULL && message != NULL)
	{
		memcpy(message, path, name_size);
		if (fread(message + name_size, 1, st.st_size, file) == st.st_size)
		{
			ok = PQputCopyData(pg, message, (int) (name_size + st.st_size)) > 0 && flush(pg);
			sent_bytes += st.st_size;
		}
	}
	free(message);
	if (file != NULL)
		fclose(file);
	return ok;
}

static bool
send_files(PGconn *pg)
{
	DIR *dir = opendir(STATS_DIR);
	struct dirent *entry;
	bool ok = true;

	while (ok && dir != NULL && (entry = readdir(dir)) != NULL)
	{
		char path[MAXPGPATH];

		snprintf(path, sizeof(path), STATS_DIR "/%s", entry->d_name);
		ok = send_file(pg, path);
	}
	if (dir != NULL)
		closedir(dir);
	return ok && send_file(pg, AUTOPREWARM_FILE);
}

static bool
was_shut_down(void)
{
	bool crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);

	return crc_ok && control->state == DB_SHUTDOWNED;
}

/* Sends the files to one host.  Returns NULL, or what is wrong (palloc'd). */
static char *
save_at(const StoreHost *host)
{
	char command[160];
	PGconn *pg = NULL;
	char *error = NULL;

	snprintf(command, sizeof(command), "save_files %s %s %llu %X/%X", ps_tenant, ps_timeline,
			 (unsigned long long) ps_generation, LSN_FORMAT_ARGS(stopped_at));
	if (!connect_to_host(&pg, host) || !PQsendQuery(pg, command) || !get_result(pg, PGRES_COPY_IN) ||
		!send_files(pg) || PQputCopyEnd(pg, NULL) <= 0 || !get_result(pg, PGRES_COMMAND_OK))
	{
		error = pg != NULL ? pchomp(PQerrorMessage(pg)) : pstrdup("out of memory");
		if (error[0] == '\0')
			error = pstrdup("timeout");
	}
	PQfinish(pg);
	return error;
}

static void
save_stop_files(int code, Datum arg)
{
	StoreHosts hosts;
	char *error = NULL;

	if (code != 0 || stopped_at == InvalidXLogRecPtr || !was_shut_down())
		return;
	deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ps_shutdown_timeout);
	store_hosts_parse(&hosts, ps_store);
	for (int tried = 0; tried < hosts.n; tried++)
	{
		StoreHost host;

		store_hosts_get(&hosts, (store_host + tried) % hosts.n, &host);
		sent_bytes = 0;
		error = save_at(&host);
		if (error == NULL)
			return;
	}
	ereport(LOG,
			(errmsg("could not preserve statistics for the next compute: %s", error)));
}

/* Child processes drop their inherited exit callbacks, so these run only in the postmaster. */
void
stop_files_init(void)
{
	on_shmem_exit(remember_end, 0);
	on_proc_exit(save_stop_files, 0);
}
