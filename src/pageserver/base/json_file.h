/*
 * json_file.h
 *	  Files that are one JSON object with a format, a version and a checksum.
 *
 *	  {
 *		"format": "pageserver ...",
 *		"version": 3,
 *		"crc32c": "0123abcd",
 *		...
 *	  }
 *
 * Unless the format has its own sum, the CRC is of all other members, dumped in
 * compact form with sorted keys, so that it does not depend on white space.
 */
#ifndef PS_JSON_FILE_H
#define PS_JSON_FILE_H

#include <jansson.h>

#include "base/error.h"

typedef struct JsonFormat
{
	const char *what;           /* "manifest", say, for messages */
	const char *format;         /* the member "format" */
	const char *version_member; /* the name of the member "version" */
	int version_min;            /* the versions that can be read */
	int version_max;
	uint32 (*crc)(const json_t *root); /* the sum of the whole object; NULL: as described above */
} JsonFormat;

/*
 * Reads a file and checks format, version and checksum; the caller frees *root with
 * json_decref().  Errors: PS_SQLSTATE_CORRUPTED if the file does not exist, is not
 * JSON, of another format or damaged; PS_SQLSTATE_STATE if its version is not one
 * of those; another state if it could not be read.  Each names the file.
 */
extern PsError *json_file_read(const JsonFormat *format, const char *path, json_t **root);

/*
 * Like json_file_read(), for a text that has been read already; name is for messages.
 * PS_SQLSTATE_CORRUPTED or PS_SQLSTATE_STATE.
 */
extern PsError *json_file_parse(const JsonFormat *format, const char *name, const char *text, size_t len,
								json_t **root);

/*
 * The text of a file that holds the members, which are released; free() it.  An
 * error if a text is not UTF-8 (members may be NULL then); path is for the message.
 */
extern PsError *json_file_text(const JsonFormat *format, int version, json_t *members, const char *path, char **text);

#endif /* PS_JSON_FILE_H */
