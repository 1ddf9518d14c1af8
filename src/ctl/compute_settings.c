/*
 * compute_settings.c
 *	  Synchronizes the settings in a compute's directory with those stored
 *	  with its branch, at each start and stop.
 *
 * The file pageserver_smgr.settings contains the version number of the branch's
 * settings from which those in the directory were copied and, in its second line,
 * the name of the branch.  Settings that the owner has changed in the directory
 * since then become the branch's newest version.  If the settings in the directory
 * are unchanged, but the branch has a newer version, that is copied into the
 * directory.  If both were changed, the directory's settings are used, and a
 * warning reports the version that they replace.
 */
#include "ps_fe.h"

#include <sys/stat.h>
#include <unistd.h>

#include "compute.h"

#define VERSION_FILE "pageserver_smgr.settings"

/* Lines that compute_dir_complete() and the base backup add to the owner's postgresql.conf. */
static const char *const added_lines[] = {
	COMPUTE_DIR_FIRST_LINES, PS_CONF_LAST_LINES};

/* Removes added_lines from a text, in place; returns the text. */
static char *
strip(char *text)
{
	for (int i = 0; i < lengthof(added_lines); i++)
	{
		char *found = strstr(text, added_lines[i]);

		if (found != NULL)
		{
			char *rest = found + strlen(added_lines[i]);

			memmove(found, rest, strlen(rest) + 1);
		}
	}
	return text;
}

static void
read_directory(const char *dir, char *texts[SETTINGS_TEXTS])
{
	for (int i = 0; i < SETTINGS_OPTIONS; i++)
	{
		char *path = psprintf("%s/%s", dir, stored_settings_names[i]);

		texts[i] = read_text_file(path);
		if (texts[i] != NULL && i == SETTINGS_CONF)
			texts[i] = strip(texts[i]);
		pfree(path);
	}
}

static void
write_directory(const char *dir, char *const texts[SETTINGS_TEXTS])
{
	for (int i = 0; i < SETTINGS_OPTIONS; i++)
	{
		char *path = psprintf("%s/%s", dir, stored_settings_names[i]);

		if (texts[i] != NULL)
			write_text_file(path, texts[i], false);
		pfree(path);
	}
}

static bool
same_text(const char *a, const char *b)
{
	return strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

/* Compares the files only, not the command-line options. */
static bool
same_files(char *const a[SETTINGS_TEXTS], char *const b[SETTINGS_TEXTS])
{
	bool same = true;

	for (int i = 0; i < SETTINGS_OPTIONS; i++)
		same = same && same_text(a[i], b[i]);
	return same;
}

static uint64
read_version(const char *dir)
{
	char *path = psprintf("%s/%s", dir, VERSION_FILE);
	char *text = read_text_file(path);
	uint64 version = text != NULL ? strtoull(text, NULL, 10) : 0;

	free(text);
	pfree(path);
	return version;
}

char *
compute_settings_branch(const char *dir)
{
	char *path = psprintf("%s/%s", dir, VERSION_FILE);
	char *text = read_text_file(path);
	char *line = text != NULL ? strchr(text, '\n') : NULL;
	char *branch = line != NULL ? pnstrdup(line + 1, strcspn(line + 1, "\n")) : NULL;

	free(text);
	pfree(path);
	return branch;
}

static void
write_version(const char *dir, const char *branch, uint64 version)
{
	char *path = psprintf("%s/%s", dir, VERSION_FILE);
	char *text = psprintf(UINT64_FORMAT "\n%s\n", version, branch);

	write_text_file(path, text, false);
	pfree(path);
	pfree(text);
}

/* For an earlier compute's directory: decides whether its settings or the branch's are used. */
static void
compare(ComputeSettings *settings, const char *dir, PGconn *conn)
{
	char *texts[SETTINGS_TEXTS] = {NULL};
	uint64 version = read_version(dir);
	StoredSettings origin;

	read_directory(dir, texts);
	settings->upload = !same_files(texts, settings->newest.texts);
	if (settings->upload && version != settings->newest.version)
	{
		if (version > 0 && stored_settings_try_read(conn, settings->branch, version, &origin))
		{
			if (same_files(texts, origin.texts))
			{
				write_directory(dir, settings->newest.texts);
				settings->upload = false;
			}
			stored_settings_free(&origin);
		}
		if (settings->upload)
		{
			pg_log_warning("settings were changed both in \"%s\" and in branch \"%s\" (version " UINT64_FORMAT "): "
						   "using those in the directory",
						   dir, settings->branch, settings->newest.version);
			pg_log_warning_hint("To use those of the branch, run "
								"\"pageserver_ctl settings revert %s " UINT64_FORMAT "\".",
								settings->branch, settings->newest.version);
		}
	}
	for (int i = 0; i < SETTINGS_OPTIONS; i++)
		free(texts[i]);
}

void
compute_settings_begin(ComputeSettings *settings, const ComputeDir *dir, PGconn *conn, const char *branch,
					   const char *options)
{
	memset(settings, 0, sizeof(*settings));
	settings->branch = branch;
	stored_settings_read(conn, branch, 0, &settings->newest);
	if (dir->earlier)
		compare(settings, dir->path, conn);
	settings->options = options;
	if (options == NULL)
		settings->options = settings->newest.texts[SETTINGS_OPTIONS];
	else if (!same_text(options, settings->newest.texts[SETTINGS_OPTIONS]))
		settings->upload = true;
	if (settings->options != NULL && settings->options[0] == '\0')
		settings->options = NULL;
}

/* Stores the directory's settings as the newest version, unless the branch has a newer one than was read. */
static bool
upload(ComputeSettings *settings, const char *dir, PGconn *conn)
{
	StoredSettings changed = {.version = settings->newest.version};
	bool done;

	read_directory(dir, changed.texts);
	changed.texts[SETTINGS_OPTIONS] = settings->options != NULL ? pg_strdup(settings->options) : NULL;
	done = stored_settings_write(conn, settings->branch, &changed) == 0;
	if (done)
		write_version(dir, settings->branch, changed.version);
	else
		pg_log_warning("the settings in \"%s\" were not stored with branch \"%s\"", dir, settings->branch);
	stored_settings_free(&changed);
	return done;
}

void
compute_settings_end(ComputeSettings *settings, const ComputeDir *dir, PGconn *conn)
{
	if (settings->upload)
		(void) upload(settings, dir->path, conn);
	else
		write_version(dir->path, settings->branch, settings->newest.version);
}

bool
compute_settings_keep(const char *dir)
{
	char *conf = compute_dir_conf(dir);
	char *conninfo = conf != NULL ? conf_value(conf, "pageserver_smgr.store") : NULL;
	char *timeline = conf != NULL ? conf_value(conf, "pageserver_smgr.timeline") : NULL;
	Options options = {.store = conninfo};
	char *texts[SETTINGS_TEXTS] = {NULL};
	ComputeSettings settings = {.upload = true};
	bool kept = false;
	PGconn *conn;

	if (conninfo == NULL || timeline == NULL || !store_answers(conninfo))
		goto done;
	conn = store_connect_having(&options, "timeline", timeline);
	settings.branch = store_branch_of_timeline(conn, timeline);
	/* the branch may be out of service */
	if (settings.branch != NULL && stored_settings_try_read(conn, settings.branch, 0, &settings.newest))
	{
		read_directory(dir, texts);
		settings.options = settings.newest.texts[SETTINGS_OPTIONS];
		kept = same_files(texts, settings.newest.texts);
		if (!kept && read_version(dir) == settings.newest.version)
			kept = upload(&settings, dir, conn);
		stored_settings_free(&settings.newest);
	}
	PQfinish(conn);

done:
	for (int i = 0; i < SETTINGS_OPTIONS; i++)
		free(texts[i]);
	free(conf);
	free(conninfo);
	free(timeline);
	return kept;
}

char *
compute_settings_stamp(const char *dir)
{
	StringInfoData stamp;

	initStringInfo(&stamp);
	for (int i = 0; i < SETTINGS_OPTIONS; i++)
	{
		char *path = psprintf("%s/%s", dir, stored_settings_names[i]);
		struct stat st;

		if (stat(path, &st) == 0)
			appendStringInfo(&stamp, "%lld %lld %lld.%09ld ", (long long) st.st_ino, (long long) st.st_size,
							 (long long) st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
		else
			appendStringInfoString(&stamp, "none ");
		pfree(path);
	}
	return stamp.data;
}
