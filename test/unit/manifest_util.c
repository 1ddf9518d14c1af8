/*
 * manifest_util.c
 *	  Manifests in the format of stores of format 1: see manifest_util.h.
 */
#include "manifest_util.h"

#include <unistd.h>

#include "base/crc.h"
#include "base/json_file.h"
#include "lib/stringinfo.h"
#include "timeline_util.h"

static uint32
crc_of_json(const json_t *root)
{
	json_t *body = json_deep_copy(json_object_get(root, "timeline"));
	json_t *layers = json_incref(json_object_get(body, "layers"));
	StringInfoData text;
	char *dump;
	uint32 crc;

	json_object_del(body, "layers");
	dump = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
	initStringInfo(&text);
	appendStringInfoString(&text, dump);
	for (size_t i = 0; i < json_array_size(layers); i++)
		appendStringInfo(&text, "%s\n", json_string_value(json_array_get(layers, i)));
	crc = crc_of(text.data, text.len);
	pfree(text.data);
	free(dump);
	json_decref(layers);
	json_decref(body);
	return crc;
}

void
write_json_manifest(const char *dir, const char *name, const Manifest *m)
{
	static const JsonFormat format = {"manifest", "pageserver timeline", "version", 3, 4, crc_of_json};
	char path[MAXPGPATH];
	json_t *state = manifest_state_json(m);
	json_t *body = json_incref(json_object_get(state, "timeline"));
	char *text;

	json_object_del(body, "upkeep");
	json_decref(state);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	OK(json_file_text(&format, m->ncopies > 0 ? 4 : 3, json_pack("{s:o}", "timeline", body), path, &text));
	OK(fs_write_new_file(path, text, strlen(text), false));
	free(text);
}

void
downgrade_manifest(const char *dir)
{
	char path[MAXPGPATH];
	Manifest m;

	OK(manifest_read(dir, &m, NULL));
	write_json_manifest(dir, "timeline.json", &m);
	write_json_manifest(dir, "timeline.json.old", &m);
	manifest_free(&m);
	snprintf(path, sizeof(path), "%s/timeline.log", dir);
	CHECK(unlink(path) == 0);
	snprintf(path, sizeof(path), "%s/timeline.log.old", dir);
	(void) unlink(path);
}
