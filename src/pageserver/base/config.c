/*
 * config.c
 *	  Settings of the store: see config.h.
 *
 * The file has postgresql.conf's form: "name = value" or "name value", values
 * with anything but letters, digits and _ - + . / : in single quotes ('' or \'
 * for a quote inside), "#" begins a comment.  The last of several lines for a
 * name counts.  There is no "include".
 */
#include "ps_fe.h"

#include <ctype.h>

#include "base/bindir.h"
#include "base/config_table.h"
#include "sqlstate.h"
#include "socket_dir.h"

static PsError *
config_error(const char *path, int line, const char *fmt, ...) pg_attribute_printf(3, 4);

static PsError *
config_error(const char *path, int line, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return ps_error(PS_SQLSTATE_INVALID, "%s:%d: %s", path, line, text);
}

/* ---- values ---- */

/*
 * A number with or without a unit.  It must be a multiple of the setting's unit;
 * PostgreSQL would round.  Returns false with a description of the error in problem.
 */
static bool
parse_int(const Setting *s, const char *value, int *result, char *problem, size_t size)
{
	static const struct
	{
		SettingUnit base;
		const char *name;
		int64 mul;
		int64 div;
	} units[] = {
		{UNIT_MB, "kB", 1, 1024},
		{UNIT_MB, "MB", 1, 1},
		{UNIT_MB, "GB", 1024, 1},
		{UNIT_MB, "TB", 1024 * 1024, 1},
		{UNIT_MS, "ms", 1, 1},
		{UNIT_MS, "s", 1000, 1},
		{UNIT_MS, "min", 60000, 1},
		{UNIT_MS, "h", 3600000, 1},
		{UNIT_MS, "d", 86400000, 1},
		{UNIT_S, "ms", 1, 1000},
		{UNIT_S, "s", 1, 1},
		{UNIT_S, "min", 60, 1},
		{UNIT_S, "h", 3600, 1},
		{UNIT_S, "d", 86400, 1},
	};
	static const char *const unit_names[] = {"", "MB", "ms", "s"};
	static const char *const valid_units[] = {"", ", with or without one of the units kB, MB, GB, TB",
											  ", with or without one of the units ms, s, min, h, d",
											  ", with or without one of the units ms, s, min, h, d"};
	char *end;
	long long number;
	int64 mul = 1;
	int64 div = 1;

	errno = 0;
	number = strtoll(value, &end, 10);
	if (end == value || errno != 0)
		goto bad;
	while (*end == ' ' || *end == '\t')
		end++;
	if (*end != '\0')
	{
		int i;

		for (i = 0; i < lengthof(units); i++)
		{
			if (units[i].base == s->unit && strcmp(units[i].name, end) == 0)
				break;
		}
		if (i == lengthof(units))
			goto bad;
		mul = units[i].mul;
		div = units[i].div;
	}
	if (number % div != 0)
	{
		snprintf(problem, size, "it is not a multiple of 1%s", unit_names[s->unit]);
		return false;
	}
	number /= div;
	/* within the limits before the multiplication that could overflow: mul is at least 1 */
	if (number > s->max / mul || number < s->min / mul - 1 || number * mul < s->min)
	{
		snprintf(problem, size, "it must be between %d%s and %d%s", s->min, unit_names[s->unit], s->max,
				 unit_names[s->unit]);
		return false;
	}
	*result = (int) (number * mul);
	return true;

bad:
	snprintf(problem, size, "a whole number is expected%s", valid_units[s->unit]);
	return false;
}

/* The words that PostgreSQL accepts; false: it is none of them. */
static bool
parse_bool_word(const char *value, bool *result)
{
	static const char *const words[] = {"on", "off", "true", "false", "yes", "no", "1", "0"};

	for (int i = 0; i < lengthof(words); i++)
		if (pg_strcasecmp(value, words[i]) == 0)
		{
			*result = i % 2 == 0;
			return true;
		}
	return false;
}

static PsError *
set_value(Config *config, const Setting *s, const char *value, const char *path, int line)
{
	if (s->type == SETTING_INT)
	{
		char problem[128];

		if (!parse_int(s, value, (int *) ((char *) config + s->offset), problem, sizeof(problem)))
			return config_error(path, line, "invalid value \"%s\" for \"%s\": %s", value, s->name, problem);
	}
	else if (s->type == SETTING_BOOL)
	{
		if (!parse_bool_word(value, (bool *) ((char *) config + s->offset)))
			return config_error(path, line, "invalid value \"%s\" for \"%s\": it must be on or off", value, s->name);
	}
	else
	{
		char **field = (char **) ((char *) config + s->offset);
		const char *hint = NULL;
		const char *problem = s->check ? s->check(value, &hint) : NULL;

		if (problem != NULL)
		{
			PsError *err = config_error(path, line, "invalid value \"%s\" for \"%s\": %s", value, s->name, problem);

			return hint ? ps_error_hint(err, "%s", hint) : err;
		}
		free(*field);
		*field = pg_strdup(value);
	}
	return NULL;
}

/* ---- the file ---- */

/*
 * Takes one line apart, in place: *name NULL if it is empty or a comment.
 * Returns NULL or what is wrong.
 */
static const char *
split_line(char *p, char **name, char **value)
{
	char *out;

	*name = NULL;
	p += strspn(p, " \t\r");
	if (*p == '\0' || *p == '#')
		return NULL;
	*name = p;
	while (isalnum((unsigned char) *p) || *p == '_')
		p++;
	if (p == *name)
		return "a line must be of the form name = value";
	out = p;
	p += strspn(p, " \t");
	if (*p == '=')
		p += 1 + strspn(p + 1, " \t");
	else if (p == out)
		return "a line must be of the form name = value";
	*out = '\0';
	if (*p == '\'')
	{
		*value = out = ++p;
		for (;; p++)
		{
			if (*p == '\0')
				return "a quote is not closed";
			if (*p == '\'' && p[1] != '\'')
				break;
			if ((*p == '\'' || *p == '\\') && p[1] != '\0')
				p++;
			*out++ = *p;
		}
		p++;
	}
	else
	{
		*value = p;
		while (isalnum((unsigned char) *p) || (*p != '\0' && strchr("_-+./:", *p) != NULL))
			p++;
		out = p;
		if (p == *value)
			return "a value is missing, or must be in single quotes";
	}
	p += strspn(p, " \t\r");
	if (*p != '\0' && *p != '#')
		return "there is more after the value: values with blanks or other signs must be in single quotes";
	*out = '\0';
	return NULL;
}

static PsError *
parse_line(Config *config, char *text, const char *path, int line)
{
	char *name;
	char *value;
	const char *problem = split_line(text, &name, &value);
	StringInfoData names;
	PsError *err;

	if (problem != NULL)
		return ps_error_hint(config_error(path, line, "%s", problem),
							 "Example: checkpoint_distance = 256MB");
	if (name == NULL)
		return NULL;
	for (int i = 0; i < config_nsettings; i++)
	{
		if (strcmp(config_settings[i].name, name) == 0)
			return set_value(config, &config_settings[i], value, path, line);
	}
	initStringInfo(&names);
	for (int i = 0; i < config_nsettings; i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", config_settings[i].name);
	err = ps_error_hint(config_error(path, line, "unknown setting \"%s\"", name), "Valid settings are: %s.",
						names.data);
	pfree(names.data);
	return err;
}

/* Reads the file.  Does not check whether the settings fit each other. */
static PsError *
read_config(const char *store_dir, Config **result)
{
	PsError *err = NULL;
	Config *config = pg_malloc0(sizeof(Config));
	char *path = NULL;
	FILE *file = NULL;
	char *text = NULL;
	size_t cap = 0;
	ssize_t len;
	int line = 0;

	config->store_dir = realpath(store_dir, NULL);
	if (config->store_dir == NULL)
	{
		err = ps_error(PS_SQLSTATE_IO, "could not find the directory \"%s\": %m", store_dir);
		goto done;
	}
	config->restart_needed = pg_strdup("");
	for (int i = 0; i < config_nsettings; i++)
		PS_GOTO(set_value(config, &config_settings[i], config_settings[i].default_value, "default", i), done);

	path = psprintf("%s/%s", config->store_dir, CONFIG_FILE_NAME);
	file = fopen(path, "re");
	if (file == NULL)
	{
		err = ps_error(PS_SQLSTATE_IO, "could not open \"%s\": %m", path);
		goto done;
	}
	errno = 0;
	while ((len = getline(&text, &cap, file)) > 0)
	{
		line++;
		if (memchr(text, '\0', len) != NULL)
		{
			err = config_error(path, line, "a zero byte is no part of a text file");
			goto done;
		}
		if (text[len - 1] == '\n')
			text[len - 1] = '\0';
		PS_GOTO(parse_line(config, text, path, line), done);
		errno = 0;
	}
	if (ferror(file))
	{
		err = ps_error(PS_SQLSTATE_IO, "could not read \"%s\": %m", path);
		goto done;
	}
	if (config->unix_socket_directory[0] == '\0')
	{
		free(config->unix_socket_directory);
		config->unix_socket_directory = socket_dir_for(config->store_dir, &config->own_socket_directory);
	}
	if (config->bindir[0] == '\0')
	{
		free(config->bindir);
		config->bindir = bindir_default();
	}
	*result = config;

done:
	if (err != NULL)
		config_free(config);
	if (file != NULL)
		fclose(file);
	free(text);
	free(path);
	return err;
}

static PsError *
check_config(const Config *config)
{
	char *path = psprintf("%s/%s", config->store_dir, CONFIG_FILE_NAME);
	PsError *err = config_check_together(config, path);

	pfree(path);
	return err;
}

PsError *
config_load(const char *store_dir, Config **result)
{
	Config *config;
	PsError *err;

	PS_TRY(read_config(store_dir, &config));
	err = check_config(config);
	if (err == NULL)
		*result = config;
	else
		config_free(config);
	return err;
}

void
config_free(Config *config)
{
	if (config == NULL)
		return;
	for (int i = 0; i < config_nsettings; i++)
	{
		if (config_settings[i].type == SETTING_STRING)
			free(*(char **) ((char *) config + config_settings[i].offset));
	}
	free(config->store_dir);
	free(config->restart_needed);
	config_free(config->older);
	free(config);
}

static bool
setting_differs(const Setting *s, const Config *a, const Config *b)
{
	const char *x = (const char *) a + s->offset;
	const char *y = (const char *) b + s->offset;

	if (s->type == SETTING_INT)
		return *(const int *) x != *(const int *) y;
	if (s->type == SETTING_BOOL)
		return *(const bool *) x != *(const bool *) y;
	return strcmp(*(char *const *) x, *(char *const *) y) != 0;
}

/* The value as the file would have it; static memory. */
static const char *
show_value(const Setting *s, const Config *config)
{
	static const char *const units[] = {"", "MB", "ms", "s"};
	static char text[32];
	const char *field = (const char *) config + s->offset;

	if (s->type == SETTING_STRING)
		return *(char *const *) field;
	if (s->type == SETTING_BOOL)
		return *(const bool *) field ? "on" : "off";
	snprintf(text, sizeof(text), "%d%s", *(const int *) field, units[s->unit]);
	return text;
}

/* config gets the value that the other one has. */
static void
copy_value(const Setting *s, Config *config, const Config *other)
{
	char *to = (char *) config + s->offset;
	const char *from = (const char *) other + s->offset;

	if (s->type == SETTING_INT)
		*(int *) to = *(const int *) from;
	else if (s->type == SETTING_BOOL)
		*(bool *) to = *(const bool *) from;
	else
	{
		free(*(char **) to);
		*(char **) to = pg_strdup(*(char *const *) from);
	}
}

PsError *
config_reload(Config *running, Config **result)
{
	Config *fresh;
	StringInfoData names;
	PsError *err;

	PS_TRY(read_config(running->store_dir, &fresh));
	initStringInfo(&names);
	for (int i = 0; i < config_nsettings; i++)
	{
		const Setting *s = &config_settings[i];

		if (s->reloads || !setting_differs(s, running, fresh))
			continue;
		ps_log(PS_WARNING, "setting \"%s\" cannot be changed to \"%s\" without a restart of the store", s->name,
			   show_value(s, fresh));
		appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", s->name);
		copy_value(s, fresh, running);
	}
	free(fresh->restart_needed);
	fresh->restart_needed = pg_strdup(names.data);
	pfree(names.data);

	/* the values that will be in force, some of which are not those of the file */
	err = check_config(fresh);
	if (err != NULL)
	{
		config_free(fresh);
		return err;
	}
	for (int i = 0; i < config_nsettings; i++)
	{
		const Setting *s = &config_settings[i];

		if (s->reloads && setting_differs(s, running, fresh))
			ps_log(PS_LOG, "setting \"%s\" changed to \"%s\"", s->name, show_value(s, fresh));
	}
	fresh->older = running;
	*result = fresh;
	return NULL;
}

void
config_write_default(StringInfo out)
{
	appendStringInfoString(out,
						   "# Settings of a store of pageserver_smgr.\n"
						   "#\n"
						   "# This file consists of lines of the form\n"
						   "#\n"
						   "#   name = value\n"
						   "#\n"
						   "# Comments begin with \"#\".  The settings below are commented out and show the\n"
						   "# defaults.  Enclose values that contain spaces or special characters in single\n"
						   "# quotes.  Memory units: kB, MB, GB, TB; time units: ms, s, min, h, d.\n"
						   "#\n"
						   "# A change takes effect when the store reloads this file (\"pageserver_ctl reload\"\n"
						   "# or SIGHUP), except for settings marked below, which require a restart.\n");
	for (int i = 0; i < config_nsettings; i++)
	{
		const Setting *s = &config_settings[i];

		if (s->section != NULL)
			appendStringInfo(out, "\n\n# ---- %s ----\n", s->section);
		appendStringInfoString(out, "\n# ");
		for (const char *p = s->text; *p != '\0'; p++)
		{
			appendStringInfoChar(out, *p);
			if (*p == '\n')
				appendStringInfoString(out, "# ");
		}
		if (!s->reloads)
			appendStringInfoString(out, "\n# (change requires restart)");
		if (s->type == SETTING_STRING)
			appendStringInfo(out, "\n#%s = '%s'\n", s->name, s->default_value);
		else
			appendStringInfo(out, "\n#%s = %s\n", s->name, s->default_value);
	}
}
