/*
 * json_file.h
 *	  Files that are one JSON object.
 */
#ifndef PS_JSON_FILE_H
#define PS_JSON_FILE_H

#include <jansson.h>

#include "base/error.h"

/*
 * PS_SQLSTATE_CORRUPTED: the file is not there, or is no JSON; another state:
 * it could not be read.  what: "manifest", say; for the message.
 */
extern PsError *json_file_read(const char *what, const char *path, json_t **root);

/*
 * The member "crc32c": of all other members, dumped compact with sorted keys,
 * so that it does not depend on blanks.  Sets it; false: what is in the object
 * cannot be dumped.  Checks it; false: it is missing or another.
 */
extern bool json_file_set_crc(json_t *root);
extern bool json_file_check_crc(json_t *root);

#endif /* PS_JSON_FILE_H */
