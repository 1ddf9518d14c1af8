/*
 * compute_dir.c
 *	  The directory of a compute.
 *
 * PostgreSQL can boot a compute's directory only once: a second time, it would
 * replay the WAL in the directory over newer pages.  So each start removes the
 * files of the last start and unpacks a new base backup; the owner's files are
 * kept.  The file pageserver_smgr.conf marks the directory as a compute's.  It is
 * kept until the backup replaces it, so that a failed start can be repeated.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compute.h"
#include "socket_dir.h"

/* If they exist, the owner's files are kept; otherwise the base backup brings them. */
static const char *const settings_files[] = {
	"postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"};

/*
 * Files that a base backup, PostgreSQL and the library create in the directory.
 * PG_VERSION is not removed, because it prevents other servers from starting.
 */
static const char *const server_files[] = {
	"backup_label", "backup_label.old", "backup_manifest", "base", "current_logfiles",
	"current_logfiles.tmp", "global", "pageserver_smgr.cache", "pageserver_smgr.status",
	"pageserver_smgr.status.tmp", "pg_commit_ts", "pg_dynshmem", "pg_logical",
	"pg_multixact", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat", "pg_stat_tmp",
	"pg_subtrans", "pg_tblspc", "pg_twophase", "pg_wal", "pg_xact", "postgresql.auto.conf.tmp",
	"postmaster.opts", "postmaster.pid", "promote", "tablespace_map", "tablespace_map.old"};

char *
compute_dir_path(const Options *options)
{
	if (options->directory == NULL)
	{
		pg_log_error("no compute directory specified");
		pg_log_error_hint("Specify it with -D.");
		exit(1);
	}
	return absolute_path(options->directory);
}

static char *
read_file(const char *dir, const char *name)
{
	char *path = psprintf("%s/%s", dir, name);
	char *text = read_text_file(path);

	pfree(path);
	return text;
}

static void
write_file(const char *dir, const char *name, const char *text, bool append)
{
	char *path = psprintf("%s/%s", dir, name);

	write_text_file(path, text, append);
	pfree(path);
}

char *
compute_dir_conf(const char *path)
{
	return read_file(path, PS_CONF_FILE);
}

/* ---- opening ---- */

/*
 * Locks the directory itself (flock).  The lock ends with this process; programs
 * that it starts do not inherit it.
 */
static void
lock_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat by_fd;
	struct stat by_name;

	if (fd < 0)
		pg_fatal("could not open directory \"%s\": %m", path);
	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
	{
		if (errno != EWOULDBLOCK)
			pg_fatal("could not lock directory \"%s\": %m", path);
		pg_log_error("another pageserver_ctl is starting a compute in directory \"%s\"", path);
		exit(1);
	}
	/* the process that held the lock before may have failed and removed the directory */
	if (fstat(fd, &by_fd) != 0 || stat(path, &by_name) != 0 || by_fd.st_ino != by_name.st_ino ||
		by_fd.st_dev != by_name.st_dev)
		pg_fatal("directory \"%s\" was removed by another pageserver_ctl", path);
}

void
compute_dir_open(ComputeDir *dir, const Options *options)
{
	int kind = pg_check_dir(dir->path);

	if (kind < 0)
		pg_fatal("could not read directory \"%s\": %m", dir->path);
	dir->made = kind <= 1 && make_directory(options, dir->path);
	become_user(options, dir->made ? dir->path : NULL);
	lock_directory(dir->path);
	dir->old_conf = compute_dir_conf(dir->path);
	dir->earlier = dir->old_conf != NULL;
	if (!dir->earlier && pg_check_dir(dir->path) > 1)
	{
		pg_log_error("directory \"%s\" is not empty and is not a compute", dir->path);
		pg_log_error_hint("Specify a directory that does not exist, is empty, or contains an earlier compute "
						  "of the branch.");
		exit(1);
	}
}

/* ---- contents ---- */

static bool
has_file(const ComputeDir *dir, const char *name)
{
	char *path = psprintf("%s/%s", dir->path, name);
	bool result = access(path, F_OK) == 0;

	pfree(path);
	return result;
}

bool
compute_dir_clear(const ComputeDir *dir, bool all)
{
	bool ok = true;

	for (int i = 0; i < lengthof(server_files); i++)
		ok &= remove_path(dir->path, server_files[i]);
	if (all)
	{
		for (int i = 0; i < lengthof(settings_files); i++)
			ok &= remove_path(dir->path, settings_files[i]);
		ok &= remove_path(dir->path, PS_CONF_FILE);
		ok &= remove_path(dir->path, PS_DEFAULTS_FILE);
		ok &= remove_path(dir->path, "pageserver_smgr.settings");
		ok &= remove_path(dir->path, "PG_VERSION");
		/* if started by root, the waiting root process removes it (become_user()) */
		if (dir->made)
			(void) rmdir(dir->path);
	}
	return ok;
}

bool
compute_dir_unpack(const ComputeDir *dir, PGconn *conn, const char *command, bool *begun)
{
	const char *exclude[lengthof(settings_files) + 2];
	int n = 0;

	exclude[n++] = "PG_VERSION"; /* see compute_dir_allow_start() */
	for (int i = 0; i < lengthof(settings_files); i++)
		if (dir->earlier && has_file(dir, settings_files[i]))
			exclude[n++] = settings_files[i];
	exclude[n] = NULL;
	return unpack(conn, command, dir->path, exclude, NULL, begun);
}

/*
 * Writes the defaults of a compute.  The socket is in a directory that only the
 * compute's user can access, because a new cluster uses "trust" for it.
 */
static void
write_defaults(const ComputeDir *dir)
{
	StringInfoData text;
	bool other;
	char *socket_dir = socket_dir_for(dir->path, &other);
	char *quoted;

	if (other && !socket_dir_make(socket_dir))
	{
		pg_log_error("could not create socket directory \"%s\": %s", socket_dir,
					 errno != 0 ? strerror(errno) : "it belongs to another user or is accessible by others");
		exit(1);
	}
	/* the setting is a list of paths, which are quoted with double quotes */
	quoted = psprintf("\"%s\"", socket_dir);
	initStringInfo(&text);
	appendStringInfoString(&text,
						   "# Defaults of a compute, written by pageserver_ctl. "
						   "Settings in postgresql.conf override them.\n");
	conf_put(&text, "unix_socket_directories", quoted);
	write_file(dir->path, PS_DEFAULTS_FILE, text.data, false);
	pfree(text.data);
	pfree(quoted);
	free(socket_dir);
}

static void
note_identity(void *arg, const char *name, const char *value)
{
	if (conf_is_of_compute(name))
		*(char **) arg = pg_strdup(name);
}

/*
 * Removes the settings that identify the compute from postgresql.auto.conf.  ALTER
 * SYSTEM refuses them, but earlier versions did not, and the file may be edited.
 */
static void
remove_identity(const ComputeDir *dir)
{
	char *text = read_file(dir->path, "postgresql.auto.conf");
	char *name;

	for (; text != NULL; free(name))
	{
		StringInfoData without;

		name = NULL;
		conf_each(text, note_identity, &name);
		if (name == NULL)
			break;
		initStringInfo(&without);
		conf_remove(&without, text, name);
		pg_log_warning("removed setting \"%s\" from \"%s/postgresql.auto.conf\": it identifies the compute",
					   name, dir->path);
		write_file(dir->path, "postgresql.auto.conf", without.data, false);
		free(text);
		text = without.data;
	}
	free(text);
}

/* postgresql.conf includes the defaults first and the compute's own settings last. */
static void
include_files(const ComputeDir *dir)
{
	char *conf = read_file(dir->path, "postgresql.conf");
	char *last = conf != NULL ? conf_value(conf, "include") : NULL;
	StringInfoData text;

	initStringInfo(&text);
	if (conf == NULL || !conf_includes(conf, PS_DEFAULTS_FILE))
		appendStringInfoString(&text, COMPUTE_DIR_FIRST_LINES);
	appendStringInfoString(&text, conf != NULL ? conf : "");
	if (last == NULL || strcmp(last, PS_CONF_FILE) != 0)
		appendStringInfoString(&text, PS_CONF_LAST_LINES);
	if (conf == NULL || strcmp(text.data, conf) != 0)
		write_file(dir->path, "postgresql.conf", text.data, false);
	pfree(text.data);
	free(conf);
	free(last);
}

void
compute_dir_complete(const ComputeDir *dir, const char *conninfo, const char *port)
{
	static const char *const on_command_line[] = {"shared_preload_libraries", NULL};
	char *text = compute_dir_conf(dir->path);
	char *old_port = port == NULL && dir->earlier ? conf_value(dir->old_conf, "port") : NULL;
	StringInfoData settings;

	initStringInfo(&settings);
	conf_disable(&settings, text != NULL ? text : "", on_command_line, "pageserver_ctl sets it on the command line");
	conf_put(&settings, "pageserver_smgr.store", conninfo);
	if (port != NULL || old_port != NULL)
		conf_put(&settings, "port", port != NULL ? port : old_port);
	write_file(dir->path, PS_CONF_FILE, settings.data, false);
	write_defaults(dir);
	remove_identity(dir);
	include_files(dir);
	free(text);
	free(old_port);
	pfree(settings.data);
}

char *
compute_dir_libraries(const ComputeDir *dir)
{
	char *conf = read_file(dir->path, "postgresql.conf");
	char *auto_conf = read_file(dir->path, "postgresql.auto.conf");
	char *libraries = NULL;

	/* one include directive is the compute's own */
	if (conf != NULL && conf_count(conf, "include") == 1 && conf_count(conf, "include_dir") == 0 &&
		conf_count(conf, "include_if_exists") == 0)
		libraries = conf_preload_libraries(conf, auto_conf != NULL ? auto_conf : "");
	free(conf);
	free(auto_conf);
	return libraries;
}

void
compute_dir_allow_start(const ComputeDir *dir, bool allow)
{
	write_file(dir->path, "PG_VERSION", allow ? PG_MAJORVERSION "\n" : PS_NO_VERSION, false);
}
