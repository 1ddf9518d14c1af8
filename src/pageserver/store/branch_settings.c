/*
 * branch_settings.c
 *	  The settings of a branch's computes: see branch_settings.h.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <time.h>
#include <unistd.h>

#include "store/branch_settings.h"
#include "base/json_file.h"
#include "json_text.h"
#include "sqlstate.h"
#include "base/fs.h"

#define SETTINGS_FORMAT_VERSION 1

static const JsonFormat settings_format = {"file", "pageserver settings", "format_version", SETTINGS_FORMAT_VERSION,
										   SETTINGS_FORMAT_VERSION};

const char *const settings_file_names[SETTINGS_FILES] = {
	"postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"};

static char *
settings_path(const char *dir, uint64 version)
{
	return psprintf("%s/settings-%08llu.json", dir, (unsigned long long) version);
}

void
branch_settings_free(BranchSettings *settings)
{
	free(settings->by);
	free(settings->options);
	for (int i = 0; i < SETTINGS_FILES; i++)
		free(settings->files[i]);
	memset(settings, 0, sizeof(*settings));
}

/* ---- versions ---- */

static int
compare_versions(const void *a, const void *b)
{
	uint64 x = *(const uint64 *) a;
	uint64 y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

PsError *
branch_settings_versions(const char *dir, uint64 **versions, int *n)
{
	DIR *d = opendir(dir);
	struct dirent *de;

	*versions = NULL;
	*n = 0;
	if (d == NULL)
		return ps_error(ps_errno_state(), "could not open directory \"%s\": %m", dir);
	while ((de = readdir(d)) != NULL)
	{
		unsigned long long version;
		int len = 0;

		if (sscanf(de->d_name, "settings-%llu.json%n", &version, &len) != 1 || len == 0 ||
			de->d_name[len] != '\0' || version == 0)
			continue;
		*versions = pg_realloc(*versions, (*n + 1) * sizeof(uint64));
		(*versions)[(*n)++] = version;
	}
	closedir(d);
	qsort(*versions, *n, sizeof(uint64), compare_versions);
	return NULL;
}

static PsError *
newest_version(const char *dir, uint64 *version)
{
	uint64 *versions;
	int n;

	PS_TRY(branch_settings_versions(dir, &versions, &n));
	*version = n > 0 ? versions[n - 1] : 0;
	free(versions);
	return NULL;
}

/* ---- reading ---- */

static PsError *
parse(json_t *root, const char *path, BranchSettings *settings)
{
	json_int_t version;
	json_int_t when;
	const char *by;
	json_t *files;
	json_t *options;

	if (json_unpack(root, "{s:I, s:I, s:s, s:o, s:o}", "version", &version, "time", &when, "by", &by, "files", &files,
					"options", &options) != 0)
		return ps_error(PS_SQLSTATE_CORRUPTED, "file \"%s\" lacks members that settings of a branch must have", path);
	settings->version = version;
	settings->time = when;
	settings->by = pg_strdup(by);
	settings->options = json_is_string(options) ? pg_strdup(json_string_value(options)) : NULL;
	for (int i = 0; i < SETTINGS_FILES; i++)
		settings->files[i] = json_text_decode(json_object_get(files, settings_file_names[i]));
	return NULL;
}

PsError *
branch_settings_read(const char *dir, uint64 version, BranchSettings *settings)
{
	bool newest = version == 0;
	char *path;
	json_t *root;
	PsError *err;

	memset(settings, 0, sizeof(*settings));
	if (newest)
	{
		PS_TRY(newest_version(dir, &version));
		if (version == 0)
			return NULL;
	}
	path = settings_path(dir, version);
	if (!newest && access(path, F_OK) != 0)
		err = ps_error(PS_SQLSTATE_NOT_FOUND, "there is no version %llu of the settings, or no more",
					   (unsigned long long) version);
	else
		err = json_file_read(&settings_format, path, &root);
	if (err == NULL)
	{
		err = parse(root, path, settings);
		json_decref(root);
	}
	if (err != NULL)
		branch_settings_free(settings);
	if (err != NULL && newest)
		err = ps_error_hint(err, "An earlier version can be made the newest: see \"pageserver_ctl settings --help\".");
	pfree(path);
	return err;
}

/* ---- writing ---- */

static PsError *
format_settings(const BranchSettings *settings, const char *path, char **text)
{
	json_t *files = json_object();
	size_t size = 0;

	for (int i = 0; i < SETTINGS_FILES; i++)
	{
		if (settings->files[i] == NULL)
			continue;
		size += strlen(settings->files[i]);
		json_object_set_new(files, settings_file_names[i], json_text_encode(settings->files[i]));
	}
	if (size > SETTINGS_MAX_BYTES)
	{
		json_decref(files);
		return ps_error(PS_SQLSTATE_INVALID, "the settings files have %zu bytes, at most %d are kept with a branch",
						size, SETTINGS_MAX_BYTES);
	}
	return json_file_text(&settings_format, SETTINGS_FORMAT_VERSION,
						  json_pack("{s:I, s:I, s:s, s:o, s:o}", "version", (json_int_t) settings->version, "time",
									(json_int_t) settings->time, "by", settings->by, "files", files, "options",
									settings->options ? json_text_encode(settings->options) : json_null()),
						  path, text);
}

PsError *
branch_settings_write(const char *dir, BranchSettings *settings, uint64 expected)
{
	uint64 *versions;
	int n;
	uint64 newest;
	char *path;
	char *text;
	PsError *err;

	PS_TRY(branch_settings_versions(dir, &versions, &n));
	newest = n > 0 ? versions[n - 1] : 0;
	if (expected != PG_UINT64_MAX && expected != newest)
	{
		free(versions);
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "the settings have version %llu now, not %llu",
									  (unsigned long long) newest, (unsigned long long) expected),
							 "Somebody else has changed them; check the new version, then try again.");
	}
	settings->version = newest + 1;
	settings->time = time(NULL);
	path = settings_path(dir, settings->version);
	err = format_settings(settings, path, &text);
	if (err == NULL)
	{
		/* after an error the version may exist; a later write continues from whichever version is the newest */
		err = fs_replace_file(path, text, strlen(text), 0, NULL);
		free(text);
	}
	for (int i = 0; err == NULL && i < n + 1 - SETTINGS_VERSIONS_KEPT; i++)
	{
		char *old = settings_path(dir, versions[i]);

		(void) unlink(old);
		pfree(old);
	}
	free(versions);
	pfree(path);
	return err;
}

PsError *
branch_settings_copy(const char *from_dir, const char *dir, bool with_options)
{
	BranchSettings settings;
	char *path;
	char *text;
	PsError *err = branch_settings_read(from_dir, 0, &settings);

	/* unreadable settings must not prevent a new branch; it gets those of the import */
	if (err != NULL)
	{
		ps_log_error(PS_WARNING, err, "the settings of the parent were not copied");
		return NULL;
	}
	if (settings.version == 0)
		return NULL;
	if (!with_options)
	{
		free(settings.options);
		settings.options = NULL;
	}
	settings.version = 1;
	settings.time = time(NULL);
	path = settings_path(dir, settings.version);
	err = format_settings(&settings, path, &text);
	if (err == NULL)
	{
		err = fs_write_new_file(path, text, strlen(text), false);
		free(text);
	}
	pfree(path);
	branch_settings_free(&settings);
	return err;
}
