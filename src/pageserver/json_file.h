/*
 * json_file.h
 *	  Files that are one JSON object.
 */
#ifndef PS_JSON_FILE_H
#define PS_JSON_FILE_H

#include <jansson.h>

#include "error.h"

/*
 * PS_SQLSTATE_CORRUPTED: the file is not there, or is no JSON; another state:
 * it could not be read.  what: "manifest", say; for the message.
 */
extern PsError *json_file_read(const char *what, const char *path, json_t **root);

#endif							/* PS_JSON_FILE_H */
