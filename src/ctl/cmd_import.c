/*
 * cmd_import.c
 *	  The command import: an existing cluster becomes a branch.
 *
 * The store reads the data directory itself if it finds the same cluster under
 * its path.  Else (it is on another machine, in another mount namespace, or its
 * user may not read there) the directory is sent to it.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/controldata_utils.h"

#include "cluster_settings.h"
#include "conf.h"
#include "pg/control.h"
#include "ctl.h"
#include "overrides.h"
#include "sqlstate.h"

/* What is read from tar at a time. */
#define CHUNK_SIZE (256 * 1024)

/* Of a data directory, what an import does not look at; names as tar has them. */
static const char not_sent[] =
	"./postmaster.opts\n"
	"./log\n"
	"./pg_log\n"
	"./pg_dynshmem/*\n"
	"./pg_notify/*\n"
	"./pg_replslot/*\n"
	"./pg_serial/*\n"
	"./pg_snapshots/*\n"
	"./pg_stat_tmp/*\n"
	"./pg_subtrans/*\n"
	"./pg_wal/archive_status/*\n"
	"pgsql_tmp\n"
	"lost+found\n";

/* The WAL files that hold the shutdown checkpoint, which may begin at the end of one. */
static bool
wal_file_is_wanted(const ControlFileData *control, const char *name)
{
	XLogSegNo segno;
	char wanted[MAXFNAMELEN];

	XLByteToSeg(control->checkPoint, segno, control->xlog_seg_size);
	for (int i = 0; i < 2; i++)
	{
		XLogFileName(wanted, control->checkPointCopy.ThisTimeLineID, segno + i, control->xlog_seg_size);
		if (strcmp(name, wanted) == 0)
			return true;
	}
	return false;
}

/* A file without a name that lists what tar is to leave out. */
static FILE *
write_exclude_list(const char *pgdata, const ControlFileData *control)
{
	FILE *list = tmpfile();
	char *path = psprintf("%s/pg_wal", pgdata);
	DIR *dir = opendir(path);
	struct dirent *de;

	if (list == NULL)
		pg_fatal("could not create a temporary file: %m");
	if (dir == NULL)
		pg_fatal("could not open directory \"%s\": %m", path);
	fputs(not_sent, list);
	while ((de = readdir(dir)) != NULL)
		if (de->d_name[0] != '.' && !wal_file_is_wanted(control, de->d_name))
			fprintf(list, "./pg_wal/%s\n", de->d_name);
	closedir(dir);
	if (fflush(list) != 0)
		pg_fatal("could not write a temporary file: %m");
	pfree(path);
	return list;
}

/* Starts tar on the directory; *out is where its archive comes from. */
static pid_t
start_tar(const char *pgdata, FILE *exclude, int *out)
{
	char *argv[] = {find_tar(), "-c", "--dereference", "--sparse", "--format=gnu", "-X", NULL, "-f", NULL, "-C", (char *) pgdata, ".", NULL};
	int fds[2];
	int list = dup(fileno(exclude)); /* without close-on-exec */
	pid_t pid;

	if (list < 0 || pipe(fds) != 0)
		pg_fatal("could not create a pipe: %m");
	(void) fcntl(fds[0], F_SETFD, FD_CLOEXEC);
	argv[6] = psprintf("/proc/self/fd/%d", list);
	argv[8] = psprintf("/proc/self/fd/%d", fds[1]);
	pid = start_program(argv, -1, -1, false);
	close(list);
	close(fds[1]);
	*out = fds[0];
	return pid;
}

/* Sends what tar gives.  False: the store does not take it, which the result of the copy tells. */
static bool
send_archive(PGconn *conn, int fd)
{
	char *chunk = pg_malloc(CHUNK_SIZE);
	uint64 bytes = 0;
	ssize_t n;
	bool ok = true;

	while (ok && (n = read(fd, chunk, CHUNK_SIZE)) != 0)
	{
		if (n < 0)
		{
			if (errno == EINTR)
				continue;
			pg_fatal("could not read from tar: %m");
		}
		ok = PQputCopyData(conn, chunk, n) == 1;
		bytes += n;
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "\rsent: " UINT64_FORMAT " MB", bytes / (1024 * 1024));
	}
	if (isatty(STDERR_FILENO))
		fputc('\n', stderr);
	free(chunk);
	return ok;
}

/* What the store would refuse after all has been sent. */
static void
check_is_stopped(const char *pgdata, const ControlFileData *control)
{
	char *pid_file = psprintf("%s/postmaster.pid", pgdata);
	bool locked = access(pid_file, F_OK) == 0;

	pfree(pid_file);
	if (control->state == DB_SHUTDOWNED && !locked)
		return;
	pg_log_error("the cluster in \"%s\" %s", pgdata, locked ? "has a lock file: a server may be running on it" : "was not shut down cleanly");
	pg_log_error_hint("Stop the server with \"pg_ctl stop -m fast\". If none is running, start and stop it once.");
	exit(EXIT_REFUSED);
}

static int
import_by_sending(const Options *options, PGconn *conn, const char *pgdata, const ControlFileData *control)
{
	FILE *exclude;
	PGresult *res;
	pid_t tar;
	int fd;
	int rc;
	bool sent;

	check_is_stopped(pgdata, control);
	res = PQexec(conn, psprintf("import_stream %s", store_quote(options->args[0])));
	if (PQresultStatus(res) != PGRES_COPY_IN)
		return store_report_error(conn, res);
	PQclear(res);
	exclude = write_exclude_list(pgdata, control);
	tar = start_tar(pgdata, exclude, &fd);
	sent = send_archive(conn, fd);
	close(fd);
	fclose(exclude);
	/* a tar that failed has said why; a store that ended the copy says it below */
	if (!sent)
		(void) waitpid(tar, NULL, 0);
	else if (!wait_program(tar, "tar"))
	{
		(void) PQputCopyEnd(conn, "the data directory could not be read");
		return 1;
	}
	else if (PQputCopyEnd(conn, NULL) != 1)
	{
		pg_log_error("%s", PQerrorMessage(conn));
		return EXIT_UNREACHABLE;
	}
	res = PQgetResult(conn);
	rc = cmd_branch_report_created(options, conn, res);
	PQclear(res);
	return rc;
}

static void
read_control(const char *pgdata, ControlFileData *control)
{
	char *path = psprintf("%s/global/pg_control", pgdata);
	bool crc_ok;

	if (access(path, R_OK) != 0)
	{
		pg_log_error("could not read \"%s\": %m", path);
		pg_log_error_hint("The data directory of a PostgreSQL cluster is wanted.");
		exit(errno == ENOENT ? EXIT_NOT_FOUND : 1);
	}
	*control = *get_controlfile(pgdata, &crc_ok);
	if (!crc_ok)
		pg_fatal("\"%s\" has a wrong checksum: it is damaged, or of another version of PostgreSQL than " PG_MAJORVERSION, path);
	if (!IsValidWalSegSize(control->xlog_seg_size))
		pg_fatal("\"%s\" has an invalid WAL segment size", path);
	pfree(path);
}

/* ---- settings that are not in the data directory ---- */

/*
 * Reads them, if there are any: all with --settings-from, else what decides
 * what queries answer.  False: there are none, or nothing is known of them.
 */
static bool
read_settings(const Options *options, const char *pgdata, StoredSettings *settings)
{
	char *path;
	char *lost;

	memset(settings, 0, sizeof(*settings));
	if (options->settings_from != NULL)
	{
		cluster_settings_read(options->settings_from, settings);
		return true;
	}
	if (cluster_settings_inside(pgdata))
		return false;
	path = cluster_settings_find(pgdata);
	if (path == NULL || access(path, R_OK) != 0)
	{
		pg_log_warning("the cluster's settings are not in its data directory%s%s%s: computes of the branch will have defaults",
					   path ? ", and \"" : "", path ? path : "", path ? "\" cannot be read" : "");
		pg_log_warning_hint("Name the directory of its postgresql.conf with --settings-from.");
		return false;
	}
	cluster_settings_read(path, settings);
	cluster_settings_reduce(settings, &lost);
	pg_log_warning("the cluster's settings are in \"%s\"; not taken over: %s", path, lost[0] ? lost : "none");
	pg_log_warning_hint("With --settings-from all are taken; \"pageserver_ctl settings edit %s\" changes them later.", options->args[0]);
	free(lost);
	return true;
}

/* The cluster of Debian's postgresql-common: VERSION/NAME. */
static void
find_debian(Options *options)
{
	options->settings_from = psprintf("/etc/postgresql/%s", options->debian);
	options->pgdata = cluster_settings_value(options->settings_from, "data_directory");
	if (options->pgdata == NULL)
		options->pgdata = psprintf("/var/lib/postgresql/%s", options->debian);
}

/* Two values of a setting, one of them as PostgreSQL shows it. */
static bool
means(const char *value, const char *shown)
{
	static const char *const on[] = {"true", "yes", "1", "t", "y"};
	static const char *const off[] = {"false", "no", "0", "f", "n"};
	bool is_on = strcmp(shown, "on") == 0;

	if (pg_strcasecmp(value, shown) == 0)
		return true;
	for (int i = 0; i < lengthof(on) && (is_on || strcmp(shown, "off") == 0); i++)
		if (pg_strcasecmp(value, is_on ? on[i] : off[i]) == 0)
			return true;
	return false;
}

/* Names what the owner has decided and computes will undo, as their logs will (force_setting() of the library). */
static void
warn_of_overrides(const StoredSettings *settings)
{
	for (int i = 0; i < lengthof(ps_overrides); i++)
	{
		const PsOverride *override = &ps_overrides[i];
		char *value = NULL;

		if (settings->texts[SETTINGS_AUTO_CONF] != NULL)
			value = conf_value(settings->texts[SETTINGS_AUTO_CONF], override->name);
		if (value == NULL && settings->texts[SETTINGS_CONF] != NULL)
			value = conf_value(settings->texts[SETTINGS_CONF], override->name);
		if (value != NULL && !means(value, override->value) && !means(value, override->by_default))
		{
			pg_log_warning("\"%s\" is \"%s\" in the cluster's settings, and is not in computes", override->name, value);
			pg_log_warning_detail("%s", override->why);
		}
		free(value);
	}
}

/*
 * Keeps the settings with the branch, if they were not in the data directory
 * (else NULL), and says which will not count.  Returns the exit code.
 */
static int
keep_settings(PGconn *conn, const char *branch, StoredSettings *settings)
{
	StoredSettings imported;
	int rc = 0;

	stored_settings_read(conn, branch, 0, &imported);
	if (settings == NULL)
		warn_of_overrides(&imported);
	else
	{
		/* ALTER SYSTEM's are in the data directory, and so in the branch */
		settings->texts[SETTINGS_AUTO_CONF] = imported.texts[SETTINGS_AUTO_CONF];
		imported.texts[SETTINGS_AUTO_CONF] = NULL;
		rc = stored_settings_write(conn, branch, settings);
		if (rc != 0)
			pg_log_error_detail("The cluster is imported, its settings are not.");
		else
			warn_of_overrides(settings);
	}
	stored_settings_free(&imported);
	return rc;
}

int
cmd_import(const Options *given)
{
	Options options = *given;
	StoredSettings settings;
	bool has_settings;
	char *pgdata;
	char identity[CONTROL_IDENTITY_SIZE];
	ControlFileData control;
	const char *sqlstate;
	PGconn *conn;
	PGresult *res;
	int rc;

	if ((options.pgdata == NULL) == (options.debian == NULL))
	{
		pg_log_error(options.pgdata == NULL ? "no data directory was given" : "--pgdata and --debian name different clusters");
		pg_log_error_hint("Name it with --pgdata, or a cluster of Debian's postgresql-common with --debian.");
		return EXIT_USAGE;
	}
	if (options.debian != NULL)
		find_debian(&options);
	pgdata = absolute_path(options.pgdata);
	read_control(pgdata, &control);
	has_settings = read_settings(&options, pgdata, &settings);
	control_identity(&control, identity);
	conn = store_connect(&options);
	cmd_branch_show_notices(conn);
	res = PQexec(conn, psprintf("import %s %s %s", store_quote(options.args[0]), store_quote(pgdata), identity));
	sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	if (sqlstate != NULL && strcmp(sqlstate, PS_SQLSTATE_ELSEWHERE) == 0)
	{
		fprintf(stderr, "%s: it is sent to the store\n", PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY));
		PQclear(res);
		rc = import_by_sending(&options, conn, pgdata, &control);
	}
	else
	{
		rc = cmd_branch_report_created(&options, conn, res);
		PQclear(res);
	}
	if (rc == 0)
		rc = keep_settings(conn, options.args[0], has_settings ? &settings : NULL);
	PQfinish(conn);
	free(pgdata);
	return rc;
}
