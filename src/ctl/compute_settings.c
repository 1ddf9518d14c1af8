/*
 * compute_settings.c
 *	  The settings in a compute's directory and those kept with its branch are
 *	  brought together at each start and stop.
 *
 * The file pageserver_smgr.settings says from which version of the branch's the
 * directory's settings come, and in its second line of which branch.  What the
 * owner has changed in the directory since then becomes the branch's newest
 * version; what was changed with the branch meanwhile comes into a directory
 * whose settings were left as they were.  If both were changed the directory's
 * count, and a warning names the version that they replace.
 */
#include "ps_fe.h"

#include <sys/stat.h>
#include <unistd.h>

#include "compute.h"

#define VERSION_FILE "pageserver_smgr.settings"

/* What compute_dir_complete() and the base backup put around the owner's postgresql.conf. */
static const char *const not_the_owners[] = {
	COMPUTE_DIR_FIRST_LINES, PS_CONF_LAST_LINES};

/* The text without what is not its owner's, malloc'd. */
static char *
strip(char *text)
{
	for (int i = 0; i < lengthof(not_the_owners); i++)
	{
		char *found = strstr(text, not_the_owners[i]);

		if (found != NULL)
		{
			char *rest = found + strlen(not_the_owners[i]);

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

/* Files only, not the options. */
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

/* An earlier compute's directory: which of both counts? */
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
			pg_log_warning("settings were changed both in \"%s\" and with branch \"%s\" (version " UINT64_FORMAT "): those in the directory count",
						   dir, settings->branch, settings->newest.version);
			pg_log_warning_hint("\"pageserver_ctl settings revert %s " UINT64_FORMAT "\" goes back to the others.", settings->branch,
								settings->newest.version);
		}
	}
	for (int i = 0; i < SETTINGS_OPTIONS; i++)
		free(texts[i]);
}

void
compute_settings_begin(ComputeSettings *settings, const ComputeDir *dir, PGconn *conn, const char *branch, const char *options)
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

/* Makes what is in the directory the newest version, if the branch still has the one that was looked at. */
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
		pg_log_warning("the settings in \"%s\" are not kept with branch \"%s\"", dir, settings->branch);
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
	conn = store_connect(&options);
	settings.branch = store_branch_of_timeline(conn, timeline);
	if (settings.branch != NULL)
	{
		stored_settings_read(conn, settings.branch, 0, &settings.newest);
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
