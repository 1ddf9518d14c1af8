/*
 * cmd_import.c
 *	  The command import, which makes an existing cluster a branch.
 *
 * The store reads the data directory itself if it finds the same cluster at that
 * path.  Otherwise (it is on another machine, in another mount namespace, or its
 * user lacks the permission) the directory is sent to it.
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

/* How many bytes are read from tar at a time. */
#define CHUNK_SIZE (256 * 1024)

/* The files of a data directory that an import does not need, as patterns for tar. */
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

/*
 * Is it one of the WAL files that contain the shutdown checkpoint record?  The
 * record may begin at the end of one file and continue in the next.
 */
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

/* Returns an unlinked temporary file with the patterns that tar is to exclude. */
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

/* Starts tar on the directory; *out is the end of the pipe to read the archive from. */
static pid_t
start_tar(const char *pgdata, FILE *exclude, int *out)
{
	char *argv[] = {find_tar(), "-c", "--dereference", "--sparse", "--format=gnu", "-X", NULL,
					"-f", NULL, "-C", (char *) pgdata, ".", NULL};
	int fds[2];
	int list = dup(fileno(exclude)); /* dup() clears close-on-exec */
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

/*
 * Sends tar's output to the store.  Returns false if the store stopped receiving;
 * the result of the COPY says why.
 */
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

/*
 * Refuses a cluster that was not shut down cleanly.  The store checks this as
 * well, but only after everything has been sent.
 */
static void
check_is_stopped(const char *pgdata, const ControlFileData *control)
{
	char *pid_file = psprintf("%s/postmaster.pid", pgdata);
	bool locked = access(pid_file, F_OK) == 0;

	pfree(pid_file);
	if (control->state == DB_SHUTDOWNED && !locked)
		return;
	if (locked)
		pg_log_error("lock file \"postmaster.pid\" exists in \"%s\": a server may be running", pgdata);
	else
		pg_log_error("the cluster in \"%s\" was not shut down cleanly", pgdata);
	pg_log_error_hint("Stop the server with \"pg_ctl stop -m fast\". If it is not running, start it and "
					  "stop it again.");
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
	/* if tar failed, it has reported why; if the store ended the COPY, its result says why */
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
		pg_log_error("could not read file \"%s\": %m", path);
		pg_log_error_hint("Specify the data directory of a PostgreSQL " PG_MAJORVERSION " cluster.");
		exit(errno == ENOENT ? EXIT_NOT_FOUND : 1);
	}
	*control = *get_controlfile(pgdata, &crc_ok);
	if (!crc_ok)
		pg_fatal("incorrect checksum in file \"%s\": it is damaged or was not written by PostgreSQL " PG_MAJORVERSION,
				 path);
	if (!IsValidWalSegSize(control->xlog_seg_size))
		pg_fatal("invalid WAL segment size in file \"%s\"", path);
	pfree(path);
}

/* ---- settings that are not in the data directory ---- */

/*
 * Reads the settings that are not in the data directory: all of them with
 * --settings-from, otherwise only those that affect the results of queries.
 * Returns false if there are none or if they cannot be found.
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
		if (path == NULL)
			pg_log_warning("the data directory does not contain postgresql.conf: "
						   "computes of the branch will use default settings");
		else
			pg_log_warning("the data directory does not contain postgresql.conf, and \"%s\" cannot be read: "
						   "computes of the branch will use default settings",
						   path);
		pg_log_warning_hint("Specify the directory of the cluster's postgresql.conf with --settings-from.");
		return false;
	}
	cluster_settings_read(path, settings);
	cluster_settings_reduce(settings, &lost);
	pg_log_warning("the cluster's settings are in \"%s\"; settings not imported: %s", path, lost[0] ? lost : "none");
	pg_log_warning_hint("Import all settings with --settings-from, or change them later with "
						"\"pageserver_ctl settings edit %s\".",
						options->args[0]);
	free(lost);
	return true;
}

/* Finds the settings and the data directory of the cluster named by --debian (VERSION/NAME of postgresql-common). */
static void
find_debian(Options *options)
{
	options->settings_from = psprintf("/etc/postgresql/%s", options->debian);
	options->pgdata = cluster_settings_value(options->settings_from, "data_directory");
	if (options->pgdata == NULL)
		options->pgdata = psprintf("/var/lib/postgresql/%s", options->debian);
}

/* Is a value the same as another one, which is written as PostgreSQL displays it? */
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

/*
 * Warns of settings of the owner that every compute overrides.  The compute logs
 * them as well (force_setting() of the library).
 */
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
			pg_log_warning("the cluster sets \"%s\" to \"%s\", but computes override it", override->name, value);
			pg_log_warning_detail("%s", override->why);
		}
		free(value);
	}
}

/*
 * Stores the settings with the branch, unless settings is NULL because they were
 * in the data directory, and warns of those that computes override.  Returns the
 * exit code.
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
		/* postgresql.auto.conf is always in the data directory, so the import stored it */
		settings->texts[SETTINGS_AUTO_CONF] = imported.texts[SETTINGS_AUTO_CONF];
		imported.texts[SETTINGS_AUTO_CONF] = NULL;
		rc = stored_settings_write(conn, branch, settings);
		if (rc != 0)
			pg_log_error_detail("The cluster was imported, but its settings were not.");
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
		if (options.pgdata == NULL)
			pg_log_error("no data directory specified");
		else
			pg_log_error("options --pgdata and --debian cannot be used together");
		pg_log_error_hint("Specify either a data directory with --pgdata or a Debian cluster with --debian.");
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
		fprintf(stderr, "%s; sending the data directory to the store\n",
				PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY));
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
