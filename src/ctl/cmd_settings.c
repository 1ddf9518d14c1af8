/*
 * cmd_settings.c
 *	  The commands settings list, get, set, reset, edit and revert, for the
 *	  settings of a branch's computes.
 *
 * "set" and "reset" do to a branch what ALTER SYSTEM does to a server: they
 * change its postgresql.auto.conf, which wins over postgresql.conf.
 */
#include "ps_fe.h"

#include <jansson.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stored_settings.h"
#include "conf.h"

/* ---- reading ---- */

static char *
format_time(const char *seconds)
{
	time_t when = strtoll(seconds, NULL, 10);
	char text[64];
	struct tm tm;

	strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %Z", localtime_r(&when, &tm));
	return pg_strdup(text);
}

int
cmd_settings_list(const Options *options)
{
	PGconn *conn = store_connect(options);
	PGresult *res = store_query(conn, psprintf("settings_list %s", store_quote(options->args[0])));

	if (options->json)
		print_json(res);
	else
	{
		printf("version  time                     by\n");
		for (int r = 0; r < PQntuples(res); r++)
		{
			bool damaged = PQgetvalue(res, r, 3)[0] != '\0';

			printf("%7s  %s  %s\n", PQgetvalue(res, r, 0), damaged ? "-" : format_time(PQgetvalue(res, r, 1)),
				   damaged ? PQgetvalue(res, r, 3) : PQgetvalue(res, r, 2));
		}
	}
	PQclear(res);
	PQfinish(conn);
	return 0;
}

/* Returns the index of the text with this name, or -1 if there is none. */
static int
find_text(const char *name)
{
	for (int i = 0; i < SETTINGS_TEXTS; i++)
		if (strcmp(stored_settings_names[i], name) == 0)
			return i;
	return -1;
}

typedef struct Listing
{
	const char *only; /* a setting, or NULL for all */
	const char *file;
	json_t *rows; /* NULL: the settings are printed */
	bool found;
} Listing;

static void
list_setting(void *arg, const char *name, const char *value)
{
	Listing *listing = arg;

	if (listing->only != NULL && pg_strcasecmp(name, listing->only) != 0)
		return;
	listing->found = true;
	if (listing->rows != NULL)
	{
		json_t *text = json_string(value);

		json_array_append_new(listing->rows, json_pack("{s:s, s:o, s:s}", "name", name, "value",
													   text != NULL ? text : json_null(), "file", listing->file));
	}
	else if (listing->only == NULL)
		printf("%s = '%s'	# %s\n", name, value, listing->file);
}

/* If both files contain the setting, the value in postgresql.auto.conf is the effective one. */
static int
get_setting(const Options *options, const StoredSettings *settings, const char *name)
{
	char *value = NULL;

	if (settings->texts[SETTINGS_AUTO_CONF] != NULL)
		value = conf_value(settings->texts[SETTINGS_AUTO_CONF], name);
	if (value == NULL && settings->texts[SETTINGS_CONF] != NULL)
		value = conf_value(settings->texts[SETTINGS_CONF], name);
	if (value == NULL)
	{
		pg_log_error("branch \"%s\" does not set \"%s\"", options->args[0], name);
		return EXIT_NOT_FOUND;
	}
	if (options->json)
		print_done(options, "", "name", name, "value", value, NULL);
	else
		printf("%s\n", value);
	free(value);
	return 0;
}

static int
list_settings(const Options *options, const StoredSettings *settings)
{
	Listing listing = {.rows = options->json ? json_array() : NULL};

	for (int i = SETTINGS_CONF; i <= SETTINGS_AUTO_CONF; i++)
	{
		listing.file = stored_settings_names[i];
		if (settings->texts[i] != NULL)
			conf_each(settings->texts[i], list_setting, &listing);
	}
	if (settings->texts[SETTINGS_OPTIONS] != NULL && !options->json)
		printf("# options: %s\n", settings->texts[SETTINGS_OPTIONS]);
	if (!options->json)
		return 0;
	json_dumpf(listing.rows, stdout, JSON_INDENT(2));
	printf("\n");
	json_decref(listing.rows);
	return 0;
}

int
cmd_settings_get(const Options *options)
{
	const char *name = options->nargs > 1 ? options->args[1] : NULL;
	PGconn *conn = store_connect(options);
	StoredSettings settings;
	int text = name ? find_text(name) : -1;
	int rc = 0;

	stored_settings_read(conn, options->args[0], 0, &settings);
	if (name == NULL)
		rc = list_settings(options, &settings);
	else if (text < 0)
		rc = get_setting(options, &settings, name);
	else if (options->json)
		print_done(options, "", "name", name, "text", settings.texts[text], NULL);
	else
		printf("%s%s", settings.texts[text] ? settings.texts[text] : "",
			   text == SETTINGS_OPTIONS && settings.texts[text] ? "\n" : "");
	stored_settings_free(&settings);
	PQfinish(conn);
	return rc;
}

/* ---- writing ---- */

static int
write_and_report(const Options *options, PGconn *conn, StoredSettings *settings)
{
	int rc = stored_settings_write(conn, options->args[0], settings);
	char *version = psprintf(UINT64_FORMAT, settings->version);

	if (rc == 0)
		print_done(options,
				   psprintf("Version %s of the settings of branch \"%s\" takes effect at the next start of a compute.",
							version, options->args[0]),
				   "branch", options->args[0], "version", version, NULL);
	pfree(version);
	stored_settings_free(settings);
	PQfinish(conn);
	return rc;
}

static void
replace_text(StoredSettings *settings, int i, char *text)
{
	free(settings->texts[i]);
	settings->texts[i] = text;
}

/* Replaces a setting in postgresql.auto.conf, or removes it if value is NULL. */
static void
change_setting(StoredSettings *settings, const char *name, const char *value)
{
	const char *old = settings->texts[SETTINGS_AUTO_CONF];
	StringInfoData text;

	initStringInfo(&text);
	if (old == NULL)
		old = "# Do not edit this file manually!\n# It will be overwritten by the ALTER SYSTEM command.\n";
	conf_remove(&text, old, name);
	if (value != NULL)
		conf_put(&text, name, value);
	replace_text(settings, SETTINGS_AUTO_CONF, text.data);
}

static void
check_name(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.";

	if (name[0] == '\0' || strspn(name, allowed) != strlen(name))
	{
		pg_log_error("invalid setting name \"%s\"", name);
		pg_log_error_hint("Specify settings as NAME=VALUE.");
		exit(EXIT_USAGE);
	}
	if (conf_is_of_compute(name))
	{
		pg_log_error("setting \"%s\" cannot be changed: it identifies the compute", name);
		exit(EXIT_REFUSED);
	}
}

int
cmd_settings_set(const Options *options)
{
	PGconn *conn;
	StoredSettings settings;

	if (options->nargs < 2 && options->server_options == NULL)
	{
		pg_log_error("no setting specified");
		pg_log_error_hint("Specify settings as NAME=VALUE, and command-line options for postgres with -o.");
		return EXIT_USAGE;
	}
	for (int i = 1; i < options->nargs; i++)
	{
		const char *equals = strchr(options->args[i], '=');

		check_name(equals ? pnstrdup(options->args[i], equals - options->args[i]) : "");
	}
	conn = store_connect(options);
	stored_settings_read(conn, options->args[0], 0, &settings);
	for (int i = 1; i < options->nargs; i++)
	{
		const char *equals = strchr(options->args[i], '=');

		change_setting(&settings, pnstrdup(options->args[i], equals - options->args[i]), equals + 1);
	}
	if (options->server_options != NULL)
		replace_text(&settings, SETTINGS_OPTIONS,
					 options->server_options[0] ? pg_strdup(options->server_options) : NULL);
	return write_and_report(options, conn, &settings);
}

int
cmd_settings_reset(const Options *options)
{
	PGconn *conn = store_connect(options);
	StoredSettings settings;

	stored_settings_read(conn, options->args[0], 0, &settings);
	for (int i = 1; i < options->nargs; i++)
	{
		check_name(options->args[i]);
		change_setting(&settings, options->args[i], NULL);
		if (settings.texts[SETTINGS_CONF] != NULL &&
			conf_value(settings.texts[SETTINGS_CONF], options->args[i]) != NULL)
			pg_log_warning("setting \"%s\" is also set in postgresql.conf; that value takes effect now",
						   options->args[i]);
	}
	return write_and_report(options, conn, &settings);
}

int
cmd_settings_revert(const Options *options)
{
	PGconn *conn;
	StoredSettings settings;
	char *end;
	uint64 version = strtoull(options->args[1], &end, 10);

	if (version == 0 || *end != '\0' || options->args[1][0] == '-')
	{
		pg_log_error("invalid version number \"%s\"", options->args[1]);
		pg_log_error_hint("List the versions with \"pageserver_ctl settings list %s\".", options->args[0]);
		return EXIT_USAGE;
	}
	conn = store_connect(options);
	stored_settings_read(conn, options->args[0], version, &settings);
	/* the newest version may be damaged, which is a reason to revert */
	settings.version = stored_settings_newest(conn, options->args[0]);
	return write_and_report(options, conn, &settings);
}

static void
remove_edited(const char *path)
{
	char *dir = pnstrdup(path, strrchr(path, '/') - path);

	(void) unlink(path);
	(void) rmdir(dir);
	free(dir);
}

/*
 * Runs the user's editor on a text.  Returns the new text, or NULL if it was not
 * changed.  The text is in the file *path, in a directory of its own; remove it
 * with remove_edited().
 */
static char *
edit_text(const char *name, const char *text, char **path)
{
	const char *editor = getenv("VISUAL");
	char dir[] = "/tmp/pageserver_ctl.XXXXXX";
	char *edited;
	int rc;

	if (editor == NULL || *editor == '\0')
		editor = getenv("EDITOR");
	if (editor == NULL || *editor == '\0')
		editor = "vi";
	if (mkdtemp(dir) == NULL)
		pg_fatal("could not create a directory in /tmp: %m");
	*path = psprintf("%s/%s", dir, name);
	write_text_file(*path, text, false);
	fflush(NULL);
	rc = system(psprintf("%s '%s'", editor, *path));
	edited = read_text_file(*path);
	/* keep what the user has written */
	if (rc != 0 && edited != NULL && strcmp(edited, text) != 0)
		pg_fatal("editor \"%s\" failed: %s; your changes are in \"%s\"", editor, wait_result_to_str(rc), *path);
	if (rc != 0 || edited == NULL)
		remove_edited(*path);
	if (rc != 0)
		pg_fatal("editor \"%s\" failed: %s", editor, wait_result_to_str(rc));
	if (edited == NULL)
		pg_fatal("editor removed file \"%s\"", *path);
	return strcmp(edited, text) == 0 ? NULL : edited;
}

int
cmd_settings_edit(const Options *options)
{
	const char *name = options->nargs > 1 ? options->args[1] : "postgresql.conf";
	int text = find_text(name);
	PGconn *conn;
	StoredSettings settings;
	char *edited;
	char *path;
	int rc;

	if (text < 0)
	{
		pg_log_error("invalid settings file \"%s\"", name);
		pg_log_error_hint("Valid names are postgresql.conf, postgresql.auto.conf, pg_hba.conf, pg_ident.conf "
						  "and options.");
		return EXIT_USAGE;
	}
	conn = store_connect(options);
	stored_settings_read(conn, options->args[0], 0, &settings);
	edited = edit_text(name, settings.texts[text] ? settings.texts[text] : "", &path);
	if (edited == NULL)
	{
		remove_edited(path);
		print_done(options, "Nothing was changed.", "branch", options->args[0], NULL);
		return 0;
	}
	if (text == SETTINGS_OPTIONS)
		edited[strcspn(edited, "\n")] = '\0';
	replace_text(&settings, text, edited);
	rc = write_and_report(options, conn, &settings);
	if (rc == 0)
		remove_edited(path);
	else
		pg_log_error_hint("Your changes are in \"%s\". \"pageserver_ctl settings edit %s %s\" edits the "
						  "current version.",
						  path, options->args[0], name);
	return rc;
}
