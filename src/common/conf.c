/*
 * conf.c
 *	  Reading postgresql.conf as text: see conf.h.  The syntax is that of
 *	  guc-file.l: a name, an optional "=", a value in quotes or a bare word.
 */
#include "ps_fe.h"

#include "common/string.h"
#include "conf.h"

/* One line, split: where name and value are in it; name_len 0: it sets nothing. */
typedef struct ConfLine
{
	const char *name;
	size_t name_len;
	const char *value;
	const char *value_end;
	const char *end; /* of the line: its newline or the zero byte */
} ConfLine;

static bool
is_name_char(char c)
{
	return isalnum((unsigned char) c) || c == '_' || c == '.' || c == '$' || (unsigned char) c >= 0x80;
}

static const char *
skip_blank(const char *p)
{
	while (*p == ' ' || *p == '\t' || *p == '\r')
		p++;
	return p;
}

static void
split_line(const char *line, ConfLine *out)
{
	const char *p = skip_blank(line);

	memset(out, 0, sizeof(*out));
	out->end = line + strcspn(line, "\n");
	out->name = p;
	if (isalpha((unsigned char) *p) || *p == '_')
		while (is_name_char(*p))
			p++;
	out->name_len = p - out->name;
	p = skip_blank(p);
	if (*p == '=')
		p = skip_blank(p + 1);
	out->value = p;
	if (*p == '\'')
	{
		for (p++; p < out->end; p++)
		{
			if (*p == '\\' && p + 1 < out->end)
				p++;
			else if (*p == '\'' && p[1] == '\'')
				p++;
			else if (*p == '\'')
			{
				p++;
				break;
			}
		}
	}
	else
		p += strcspn(p, " \t\r\n#'=");
	out->value_end = p;
}

static bool
line_sets(const ConfLine *line, const char *name)
{
	return line->name_len == strlen(name) && pg_strncasecmp(line->name, name, line->name_len) == 0;
}

/* Like GUC_scanstr(), except that octal escapes stay as they are. */
static char *
unquote(const char *p, const char *end)
{
	char *result = pg_malloc(end - p + 1);
	char *out = result;

	if (p < end && *p == '\'')
	{
		for (p++; p < end; p++)
		{
			if (*p == '\'' && p + 1 < end && p[1] == '\'')
				p++;
			else if (*p == '\'')
				break;
			else if (*p == '\\' && p + 1 < end && strchr("\\'", p[1]) != NULL)
				p++;
			*out++ = *p;
		}
	}
	else
	{
		memcpy(out, p, end - p);
		out += end - p;
	}
	*out = '\0';
	return result;
}

char *
conf_value(const char *text, const char *name)
{
	char *value = NULL;
	ConfLine line;

	for (const char *p = text; *p; p = *line.end ? line.end + 1 : line.end)
	{
		split_line(p, &line);
		if (line_sets(&line, name))
		{
			free(value);
			value = unquote(line.value, line.value_end);
		}
	}
	return value;
}

int
conf_count(const char *text, const char *name)
{
	int n = 0;
	ConfLine line;

	for (const char *p = text; *p; p = *line.end ? line.end + 1 : line.end)
	{
		split_line(p, &line);
		n += line_sets(&line, name);
	}
	return n;
}

void
conf_disable(StringInfo out, const char *text, const char *const *names, const char *why)
{
	ConfLine line;

	for (const char *p = text; *p; p = *line.end ? line.end + 1 : line.end)
	{
		bool disable = false;

		split_line(p, &line);
		for (const char *const *name = names; *name != NULL; name++)
			disable |= line_sets(&line, *name);
		if (disable)
			appendStringInfo(out, "#%.*s	# %s\n", (int) (line.end - p), p, why);
		else
			appendBinaryStringInfo(out, p, line.end - p + (*line.end ? 1 : 0));
	}
}

/*
 * The next item of a list as SplitDirectoriesString() has them: commas, blanks
 * around, double quotes.  Returns its length, 0 at the end; *p moves on.
 */
static size_t
next_item(const char **p, const char **item)
{
	size_t len;

	/* this must agree with isspace(): an item of blanks would otherwise be taken as the end */
	*p += strspn(*p, " \t\r\n\v\f,\"");
	*item = *p;
	len = strcspn(*p, ",\"");
	*p += len;
	while (len > 0 && isspace((unsigned char) (*item)[len - 1]))
		len--;
	return len;
}

/* A path's last part counts, without the suffix, as in $libdir/pageserver_smgr or pageserver_smgr.so. */
static bool
item_is(const char *item, size_t len, const char *library)
{
	size_t n = strlen(library);
	size_t suffix = strlen(DLSUFFIX);

	if (len > suffix && strncmp(item + len - suffix, DLSUFFIX, suffix) == 0)
		len -= suffix;
	return len >= n && strncmp(item + len - n, library, n) == 0 && (len == n || item[len - n - 1] == '/');
}

bool
conf_list_has(const char *list, const char *library)
{
	const char *item;
	size_t len;

	while ((len = next_item(&list, &item)) > 0)
		if (item_is(item, len, library))
			return true;
	return false;
}

char *
conf_list_remove(const char *list, const char *library)
{
	StringInfoData out;
	const char *item;
	size_t len;

	initStringInfo(&out);
	while ((len = next_item(&list, &item)) > 0)
		if (!item_is(item, len, library))
			appendStringInfo(&out, "%s%.*s", out.len > 0 ? ", " : "", (int) len, item);
	return out.data;
}

char *
conf_preload_with_ours(const char *list)
{
	if (list[strspn(list, " \t,")] == '\0')
		return pg_strdup(PS_LIBRARY);
	if (conf_list_has(list, PS_LIBRARY))
		return pg_strdup(list);
	return psprintf("%s, %s", list, PS_LIBRARY);
}

char *
conf_preload_libraries(const char *conf, const char *auto_conf)
{
	char *list = conf_value(auto_conf, "shared_preload_libraries");
	char *result;

	if (list == NULL)
		list = conf_value(conf, "shared_preload_libraries");
	result = conf_preload_with_ours(list != NULL ? list : "");
	free(list);
	return result;
}

void
conf_put(StringInfo out, const char *name, const char *value)
{
	appendStringInfo(out, "%s = '", name);
	for (const char *p = value; *p; p++)
	{
		if (*p == '\'' || *p == '\\')
			appendStringInfoChar(out, *p);
		appendStringInfoChar(out, *p);
	}
	appendStringInfoString(out, "'\n");
}

void
conf_remove(StringInfo out, const char *text, const char *name)
{
	ConfLine line;

	for (const char *p = text; *p; p = *line.end ? line.end + 1 : line.end)
	{
		split_line(p, &line);
		if (!line_sets(&line, name))
			appendBinaryStringInfo(out, p, line.end - p + (*line.end ? 1 : 0));
	}
	if (out->len > 0 && out->data[out->len - 1] != '\n')
		appendStringInfoChar(out, '\n');
}

void
conf_each(const char *text, void (*callback)(void *arg, const char *name, const char *value), void *arg)
{
	ConfLine line;

	for (const char *p = text; *p; p = *line.end ? line.end + 1 : line.end)
	{
		char *name;
		char *value;

		split_line(p, &line);
		if (line.name_len == 0)
			continue;
		name = pnstrdup(line.name, line.name_len);
		value = unquote(line.value, line.value_end);
		callback(arg, name, value);
		free(name);
		free(value);
	}
}

bool
conf_includes(const char *text, const char *file)
{
	ConfLine line;
	bool found = false;

	for (const char *p = text; *p && !found; p = *line.end ? line.end + 1 : line.end)
	{
		split_line(p, &line);
		if (line_sets(&line, "include"))
		{
			char *value = unquote(line.value, line.value_end);

			found = strcmp(value, file) == 0;
			free(value);
		}
	}
	return found;
}

bool
conf_is_of_compute(const char *name)
{
	static const char *const names[] = {
		PS_LIBRARY ".store", PS_LIBRARY ".tenant", PS_LIBRARY ".timeline", PS_LIBRARY ".generation",
		PS_LIBRARY ".checkpoint_lsn"};

	for (int i = 0; i < lengthof(names); i++)
		if (pg_strcasecmp(name, names[i]) == 0)
			return true;
	return false;
}

void
conf_adopt(StringInfo out, const char *text)
{
	static const char *const elsewhere[] = {"data_directory", "config_file", "hba_file", "ident_file",
											"external_pid_file", "include", "include_dir", "include_if_exists", NULL};
	char *libraries = conf_value(text, "shared_preload_libraries");

	conf_disable(out, text, elsewhere, "left out by the import into the page server");
	if (libraries != NULL && conf_list_has(libraries, PS_LIBRARY))
	{
		char *others = conf_list_remove(libraries, PS_LIBRARY);

		appendStringInfoString(out, "\n# the page server adds its own library\n");
		conf_put(out, "shared_preload_libraries", others);
		pfree(others);
	}
	free(libraries);
}

void
conf_resolve(StringInfo out, const char *text,
			 void (*callback)(void *arg, StringInfo out, const char *directive, const char *value), void *arg)
{
	static const char *const directives[] = {"include", "include_dir", "include_if_exists"};
	ConfLine line;

	for (const char *p = text; *p; p = *line.end ? line.end + 1 : line.end)
	{
		const char *directive = NULL;

		split_line(p, &line);
		for (int i = 0; i < lengthof(directives); i++)
			if (line_sets(&line, directives[i]))
				directive = directives[i];
		if (directive != NULL)
		{
			char *value = unquote(line.value, line.value_end);

			callback(arg, out, directive, value);
			free(value);
		}
		else
			appendStringInfo(out, "%.*s\n", (int) (line.end - p), p);
	}
}
