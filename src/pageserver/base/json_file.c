/*
 * json_file.c
 *	  Files that are one JSON object: see json_file.h.
 */
#include "ps_fe.h"

#include "port/pg_crc32c.h"

#include "base/json_file.h"
#include "sqlstate.h"

#define CRC_MEMBER "crc32c"
#define CRC_TEXT   9

/* Takes the member out. */
static bool
crc_of(json_t *root, char crc[CRC_TEXT])
{
	char *text;
	pg_crc32c sum;

	json_object_del(root, CRC_MEMBER);
	text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
	if (text == NULL)
		return false;
	INIT_CRC32C(sum);
	COMP_CRC32C(sum, text, strlen(text));
	FIN_CRC32C(sum);
	snprintf(crc, CRC_TEXT, "%08x", sum);
	free(text);
	return true;
}

bool
json_file_set_crc(json_t *root)
{
	char crc[CRC_TEXT];

	return crc_of(root, crc) && json_object_set_new(root, CRC_MEMBER, json_string(crc)) == 0;
}

bool
json_file_check_crc(json_t *root)
{
	const char *crc = json_string_value(json_object_get(root, CRC_MEMBER));
	char stated[CRC_TEXT];
	char found[CRC_TEXT];

	return crc != NULL && strlcpy(stated, crc, sizeof(stated)) < sizeof(stated) && crc_of(root, found) && strcmp(stated, found) == 0;
}

PsError *
json_file_read(const char *what, const char *path, json_t **root)
{
	FILE *file = fopen(path, "re");
	json_error_t jerr;
	PsError *err = NULL;

	*root = NULL;
	if (file == NULL)
		return ps_error(errno == ENOENT ? PS_SQLSTATE_CORRUPTED : ps_errno_state(), "could not read %s \"%s\": %m", what, path);
	*root = json_loadf(file, JSON_REJECT_DUPLICATES, &jerr);
	if (ferror(file))
		err = ps_error(PS_SQLSTATE_IO, "could not read %s \"%s\"", what, path);
	else if (*root == NULL)
		err = ps_error(PS_SQLSTATE_CORRUPTED, "could not read %s \"%s\": line %d: %s", what, path, jerr.line, jerr.text);
	if (err != NULL)
	{
		json_decref(*root);
		*root = NULL;
	}
	fclose(file);
	return err;
}
