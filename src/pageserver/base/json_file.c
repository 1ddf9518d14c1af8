/*
 * json_file.c
 *	  Files that are one JSON object: see json_file.h.
 */
#include "ps_fe.h"

#include "base/crc.h"
#include "base/json_file.h"
#include "sqlstate.h"

#define FORMAT_MEMBER "format"
#define CRC_MEMBER    "crc32c"
#define CRC_TEXT      9

/* False: the object cannot be dumped. */
static bool
sum_of(const JsonFormat *format, json_t *root, char crc[CRC_TEXT])
{
	uint32 sum;

	if (format->crc != NULL)
		sum = format->crc(root);
	else
	{
		json_t *others = json_copy(root);
		char *text;

		json_object_del(others, CRC_MEMBER);
		text = json_dumps(others, JSON_COMPACT | JSON_SORT_KEYS);
		json_decref(others);
		if (text == NULL)
			return false;
		sum = crc_of(text, strlen(text));
		free(text);
	}
	snprintf(crc, CRC_TEXT, "%08x", sum);
	return true;
}

static PsError *
check(const JsonFormat *format, const char *path, json_t *root)
{
	const char *found = json_string_value(json_object_get(root, FORMAT_MEMBER));
	const json_t *version = json_object_get(root, format->version_member);
	const char *stated = json_string_value(json_object_get(root, CRC_MEMBER));
	char crc[CRC_TEXT];

	if (found == NULL || strcmp(found, format->format) != 0 || !json_is_integer(version))
		return ps_error(PS_SQLSTATE_CORRUPTED, "file \"%s\" does not have the format \"%s\"", path, format->format);
	if (json_integer_value(version) < format->version_min || json_integer_value(version) > format->version_max)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE,
									  format->version_min == format->version_max
										  ? "%s \"%s\" has format version %lld, this pageserver reads version %d"
										  : "%s \"%s\" has format version %lld, "
											"this pageserver reads versions %d to %d",
									  format->what, path, (long long) json_integer_value(version), format->version_min,
									  format->version_max),
							 "Use the version of the program that wrote the store, "
							 "or export its branches with that and import them.");
	if (stated == NULL || !sum_of(format, root, crc) || strcmp(stated, crc) != 0)
		return ps_error(PS_SQLSTATE_CORRUPTED, "%s \"%s\" has a wrong checksum", format->what, path);
	return NULL;
}

PsError *
json_file_read(const JsonFormat *format, const char *path, json_t **root)
{
	FILE *file = fopen(path, "re");
	json_error_t jerr;
	PsError *err = NULL;

	*root = NULL;
	if (file == NULL)
		return ps_error(errno == ENOENT ? PS_SQLSTATE_CORRUPTED : ps_errno_state(), "could not read %s \"%s\": %m",
						format->what, path);
	*root = json_loadf(file, JSON_REJECT_DUPLICATES, &jerr);
	if (ferror(file))
		err = ps_error(PS_SQLSTATE_IO, "could not read %s \"%s\"", format->what, path);
	else if (*root == NULL)
		err = ps_error(PS_SQLSTATE_CORRUPTED, "could not read %s \"%s\": line %d: %s", format->what, path, jerr.line,
					   jerr.text);
	else
		err = check(format, path, *root);
	if (err != NULL)
	{
		json_decref(*root);
		*root = NULL;
	}
	fclose(file);
	return err;
}

PsError *
json_file_text(const JsonFormat *format, int version, json_t *members, const char *path, char **text)
{
	json_t *root = json_pack("{s:s, s:i, s:s}", FORMAT_MEMBER, format->format, format->version_member, version,
							 CRC_MEMBER, "");
	char crc[CRC_TEXT];

	*text = NULL;
	if (members != NULL && json_object_update(root, members) == 0 && sum_of(format, root, crc) &&
		json_object_set_new(root, CRC_MEMBER, json_string(crc)) == 0)
		*text = json_dumps(root, JSON_INDENT(1));
	json_decref(root);
	json_decref(members);
	if (*text == NULL)
		return ps_error(PS_SQLSTATE_INVALID, "could not write %s \"%s\": a text in it is not UTF-8", format->what,
						path);
	return NULL;
}
