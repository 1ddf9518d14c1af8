/*
 * json_file.c
 *	  Files that are one JSON object: see json_file.h.
 */
#include "ps_fe.h"

#include "json_file.h"
#include "ps_wire.h"

PsError *
json_file_read(const char *what, const char *path, json_t **root)
{
	FILE	   *file = fopen(path, "re");
	json_error_t jerr;
	PsError    *err = NULL;

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
