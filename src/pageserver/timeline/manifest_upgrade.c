/*
 * manifest_upgrade.c
 *	  Manifests of stores of format 1: TIMELINE/timeline.json, one object in one file.
 *
 *	  {
 *		"format": "pageserver timeline",
 *		"version": 3,
 *		"crc32c": "0123abcd",		of "timeline" without "layers", dumped compact with sorted
 *									keys, then of each layer's text and a newline
 *		"timeline": { ... }			as in manifest.h
 *	  }
 *
 * The version is 4 if there are "copies".  The previous file is timeline.json.old.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "base/json_file.h"
#include "port/pg_crc32c.h"
#include "sqlstate.h"
#include "timeline/manifest_log.h"

static uint32
json_crc(const json_t *root)
{
	json_t *body = json_copy(json_object_get(root, "timeline"));
	const json_t *layers = json_object_get(json_object_get(root, "timeline"), "layers");
	char *text;
	pg_crc32c crc;

	json_object_del(body, "layers");
	text = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
	INIT_CRC32C(crc);
	if (text != NULL)
		COMP_CRC32C(crc, text, strlen(text));
	for (size_t i = 0; i < json_array_size(layers); i++)
	{
		const json_t *layer = json_array_get(layers, i);

		if (json_is_string(layer))
			COMP_CRC32C(crc, json_string_value(layer), json_string_length(layer));
		COMP_CRC32C(crc, "\n", 1);
	}
	FIN_CRC32C(crc);
	free(text);
	json_decref(body);
	return crc;
}

static const JsonFormat json_format = {"manifest", "pageserver timeline", "version", 3, 4, json_crc};

PsError *
manifest_read_json(const char *path, Manifest *m)
{
	json_t *root;
	PsError *err = NULL;

	memset(m, 0, sizeof(*m));
	PS_TRY(json_file_read(&json_format, path, &root));
	if (!manifest_parse_state(root, m))
		err = ps_error(PS_SQLSTATE_CORRUPTED, "manifest \"%s\" has a missing or invalid member", path);
	json_decref(root);
	if (err != NULL)
		manifest_free(m);
	return err;
}

void
manifest_remove_json(const char *dir)
{
	static const char *const names[] = {MANIFEST_JSON_NAME, MANIFEST_JSON_NAME ".old", MANIFEST_JSON_NAME ".tmp"};

	for (int i = 0; i < lengthof(names); i++)
	{
		char path[MAXPGPATH];

		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		if (unlink(path) != 0 && errno != ENOENT)
			ps_log(PS_WARNING, "could not remove file \"%s\": %m", path);
	}
}
