/*
 * cluster_settings.c
 *	  Settings of an imported cluster that are not in its data directory.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster_settings.h"
#include "conf.h"

/* The limit of PostgreSQL (guc-file.l). */
#define MAX_INCLUDE_DEPTH 10

/*
 * Settings that affect how values are parsed, displayed, compared or searched,
 * and which rows a query sees.
 */
static const char *const affect_results[] = {
	"array_nulls", "backslash_quote", "bytea_output", "datestyle", "default_text_search_config",
	"default_transaction_deferrable", "default_transaction_isolation", "default_transaction_read_only",
	"extra_float_digits", "intervalstyle", "lc_messages", "lc_monetary", "lc_numeric", "lc_time",
	"max_prepared_transactions",
	"quote_all_identifiers", "row_security", "search_path", "standard_conforming_strings", "timezone",
	"timezone_abbreviations", "transform_null_equals", "xmlbinary", "xmloption"};

/* ---- where ---- */

static char *
existing_file(char *path)
{
	struct stat st;

	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		path = psprintf("%s/postgresql.conf", path);
	return stat(path, &st) == 0 && S_ISREG(st.st_mode) ? path : NULL;
}

/*
 * Returns the value of an option in postmaster.opts, or NULL if it is not there.
 * Every word of that file is in double quotes (CreateOptsFile()).
 */
static char *
option_value(const char *opts, const char *option)
{
	const char *p = strstr(opts, option);
	const char *end;

	if (p == NULL)
		return NULL;
	p += strlen(option);
	end = strchr(p, '"');
	return end != NULL ? pnstrdup(p, end - p) : NULL;
}

char *
cluster_settings_find(const char *pgdata)
{
	char *opts = read_text_file(psprintf("%s/postmaster.opts", pgdata));
	static const char *const options[] = {
		"\"config_file=", "\"--config-file=", "\"--config_file=", "\"-D\" \"", "\"-D"};
	const char *debian = "/var/lib/postgresql/";
	char *found = NULL;

	for (int i = 0; opts != NULL && i < lengthof(options) && found == NULL; i++)
	{
		char *path = option_value(opts, options[i]);

		if (path != NULL && path[0] == '/' && strcmp(path, pgdata) != 0)
			found = existing_file(path);
	}
	if (found == NULL && strncmp(pgdata, debian, strlen(debian)) == 0)
		found = existing_file(psprintf("/etc/postgresql/%s", pgdata + strlen(debian)));
	free(opts);
	return found;
}

bool
cluster_settings_inside(const char *pgdata)
{
	return access(psprintf("%s/postgresql.conf", pgdata), F_OK) == 0;
}

/* ---- reading ---- */

typedef struct Reading
{
	const char *dir; /* of the file being read; the paths that it includes are relative to it */
	int depth;
} Reading;

static void append_file(StringInfo out, const char *path, int depth, bool may_be_missing);

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Appends the files *.conf of a directory, ordered by name like ParseConfigDirectory(). */
static void
append_directory(StringInfo out, const char *path, int depth)
{
	DIR *dir = opendir(path);
	struct dirent *de;
	char **names = NULL;
	int n = 0;

	if (dir == NULL)
		pg_fatal("could not open directory \"%s\": %m", path);
	while ((de = readdir(dir)) != NULL)
	{
		size_t len = strlen(de->d_name);

		if (de->d_name[0] == '.' || len < 6 || strcmp(de->d_name + len - 5, ".conf") != 0)
			continue;
		names = pg_realloc(names, (n + 1) * sizeof(char *));
		names[n++] = psprintf("%s/%s", path, de->d_name);
	}
	closedir(dir);
	qsort(names, n, sizeof(char *), compare_names);
	for (int i = 0; i < n; i++)
		append_file(out, names[i], depth, false);
	free(names);
}

static void
include(void *arg, StringInfo out, const char *directive, const char *value)
{
	Reading *reading = arg;
	char *path = value[0] == '/' ? pg_strdup(value) : psprintf("%s/%s", reading->dir, value);

	if (reading->depth >= MAX_INCLUDE_DEPTH)
		pg_fatal("could not read file \"%s\": maximum nesting depth of %d exceeded", path, MAX_INCLUDE_DEPTH);
	appendStringInfo(out, "# %s '%s':\n", directive, value);
	if (strcmp(directive, "include_dir") == 0)
		append_directory(out, path, reading->depth + 1);
	else
		append_file(out, path, reading->depth + 1, strcmp(directive, "include_if_exists") == 0);
	free(path);
}

static void
append_file(StringInfo out, const char *path, int depth, bool may_be_missing)
{
	char *text = read_text_file(path);
	char *dir = pg_strdup(path);
	Reading reading = {dir, depth};

	if (text == NULL)
	{
		if (!may_be_missing)
			pg_fatal("could not open file \"%s\": No such file or directory", path);
		free(dir);
		return;
	}
	get_parent_directory(dir);
	conf_resolve(out, text, include, &reading);
	free(text);
	free(dir);
}

/*
 * Returns the path of postgresql.conf, given that path or its directory; ends the
 * program if the file does not exist.
 */
static char *
conf_path(const char *path)
{
	char *found = existing_file(absolute_path(path));

	if (found == NULL)
	{
		pg_log_error("could not find postgresql.conf at \"%s\"", path);
		exit(EXIT_NOT_FOUND);
	}
	return found;
}

static void
read_whole(const char *path, StringInfo text)
{
	initStringInfo(text);
	append_file(text, path, 0, false);
}

char *
cluster_settings_value(const char *path, const char *name)
{
	StringInfoData text;
	char *value;

	read_whole(conf_path(path), &text);
	value = conf_value(text.data, name);
	pfree(text.data);
	return value;
}

/* Reads the file that a setting names; by default, the file beside postgresql.conf.  Returns NULL if it is missing. */
static char *
read_other(const char *conf, const char *setting, const char *dir, const char *name)
{
	char *path = conf_value(conf, setting);

	return read_text_file(path != NULL ? path : psprintf("%s/%s", dir, name));
}

void
cluster_settings_read(const char *path, StoredSettings *settings)
{
	char *file = conf_path(path);
	char *dir = pg_strdup(file);
	StringInfoData text;
	StringInfoData conf;

	get_parent_directory(dir);
	read_whole(file, &text);
	initStringInfo(&conf);
	conf_adopt(&conf, text.data);
	settings->texts[SETTINGS_CONF] = conf.data;
	settings->texts[SETTINGS_HBA] = read_other(text.data, "hba_file", dir, "pg_hba.conf");
	settings->texts[SETTINGS_IDENT] = read_other(text.data, "ident_file", dir, "pg_ident.conf");
	pfree(text.data);
	free(dir);
}

/* ---- reducing ---- */

typedef struct Reduction
{
	const char *conf;
	StringInfoData kept;
	StringInfoData lost;
} Reduction;

/* Adds a name to a list, unless it is there already. */
static void
lose(StringInfo list, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = list->data; (p = strstr(p, name)) != NULL; p += len)
		if ((p == list->data || p[-1] == ' ') && (p[len] == ',' || p[len] == '\0'))
			return;
	appendStringInfo(list, "%s%s", list->len > 0 ? ", " : "", name);
}

static void
keep_or_lose(void *arg, const char *name, const char *value)
{
	Reduction *reduction = arg;

	for (int i = 0; i < lengthof(affect_results); i++)
	{
		if (pg_strcasecmp(name, affect_results[i]) == 0)
		{
			conf_put(&reduction->kept, name, value);
			return;
		}
	}
	lose(&reduction->lost, name);
}

void
cluster_settings_reduce(StoredSettings *settings, char **lost)
{
	Reduction reduction = {settings->texts[SETTINGS_CONF]};

	initStringInfo(&reduction.kept);
	initStringInfo(&reduction.lost);
	appendStringInfoString(&reduction.kept,
						   "# Imported from outside the data directory: "
						   "settings that affect the results of queries.\n");
	conf_each(settings->texts[SETTINGS_CONF], keep_or_lose, &reduction);
	if (settings->texts[SETTINGS_HBA] != NULL)
		lose(&reduction.lost, "pg_hba.conf");
	if (settings->texts[SETTINGS_IDENT] != NULL)
		lose(&reduction.lost, "pg_ident.conf");
	for (int i = SETTINGS_CONF; i <= SETTINGS_IDENT; i++)
	{
		free(settings->texts[i]);
		settings->texts[i] = NULL;
	}
	settings->texts[SETTINGS_CONF] = reduction.kept.data;
	*lost = reduction.lost.data;
}
