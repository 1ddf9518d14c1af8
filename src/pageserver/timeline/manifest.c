/*
 * manifest.c
 *	  The manifest of a timeline: TIMELINE/timeline.json.
 *
 *	  {
 *		"format": "pageserver timeline",
 *		"version": 3,
 *		"crc32c": "0123abcd",		of "timeline" without "layers", dumped compact with sorted
 *									keys, then of each layer's text and a newline
 *		"timeline": { ... }
 *	  }
 *
 * LSNs are text as PostgreSQL shows them; numbers that may exceed 53 bits are text, too.
 * "layers" has "NAME level N entries N bytes N" for each layer file: what must be known
 * before it is opened.  If pages of copied databases are not written yet, "copies" has
 * "TABLESPACE/DATABASE LSN LSN" for each copy (DbCopy), and the version is 4.  A new
 * manifest is written next to the old one, synced and renamed; the previous one is kept as
 * timeline.json.old.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "base/json_file.h"
#include "port/pg_crc32c.h"
#include "sqlstate.h"
#include "base/fs.h"
#include "timeline/engine.h"

#define MANIFEST_NAME           "timeline.json"
#define MANIFEST_OLD            MANIFEST_NAME ".old"
#define MANIFEST_VERSION        3
#define MANIFEST_VERSION_COPIES 4

/* "layers" is not dumped for the CRC: there may be very many, and that would double the cost. */
static uint32
manifest_crc(const json_t *root)
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

static const JsonFormat manifest_format = {"manifest", "pageserver timeline", "version",
										   MANIFEST_VERSION, MANIFEST_VERSION_COPIES, manifest_crc};

static json_t *
json_lsn(XLogRecPtr lsn)
{
	return json_sprintf("%X/%X", LSN_FORMAT_ARGS(lsn));
}

static json_t *
json_u64(uint64 v)
{
	return json_sprintf("%llu", (unsigned long long) v);
}

/* ---- reading: the functions return false if the member is missing or has another type ---- */

static bool
get_text(json_t *body, const char *name, char *out, size_t size)
{
	const char *text = json_string_value(json_object_get(body, name));

	return text != NULL && strlcpy(out, text, size) < size;
}

static bool
get_lsn(json_t *body, const char *name, XLogRecPtr *lsn)
{
	char text[32];
	uint32 hi;
	uint32 lo;
	char after;

	if (!get_text(body, name, text, sizeof(text)) || sscanf(text, "%X/%X%c", &hi, &lo, &after) != 2)
		return false;
	*lsn = (uint64) hi << 32 | lo;
	return true;
}

static bool
get_u64(json_t *body, const char *name, uint64 *v)
{
	char text[32];
	unsigned long long n;
	char after;

	if (!get_text(body, name, text, sizeof(text)) || sscanf(text, "%llu%c", &n, &after) != 1)
		return false;
	*v = n;
	return true;
}

static bool
get_u32(json_t *body, const char *name, uint32 *v)
{
	json_t *n = json_object_get(body, name);

	if (!json_is_integer(n) || json_integer_value(n) < 0 || json_integer_value(n) > PG_UINT32_MAX)
		return false;
	*v = (uint32) json_integer_value(n);
	return true;
}

static bool
get_id(json_t *body, const char *name, PsId *id)
{
	char text[PS_ID_TEXT];

	return get_text(body, name, text, sizeof(text)) && ps_id_parse(text, id);
}

/* "" means that there is none. */
static bool
get_ancestor(json_t *body, Manifest *m)
{
	char text[PS_ID_TEXT];

	if (!get_text(body, "ancestor", text, sizeof(text)))
		return false;
	m->has_ancestor = text[0] != '\0';
	return !m->has_ancestor || ps_id_parse(text, &m->ancestor);
}

/* The maximum length of the text of a layer, with its zero byte. */
#define LAYER_TEXT_MAX (LAYER_NAME_MAX + 96)

static void
format_layer(const LayerInfo *info, char text[LAYER_TEXT_MAX])
{
	char name[LAYER_NAME_MAX];

	snprintf(text, LAYER_TEXT_MAX, "%s level %d entries %llu bytes %llu", layer_name_format(info, name), info->level,
			 (unsigned long long) info->entries, (unsigned long long) info->file_size);
}

static bool
parse_layer(const char *text, LayerInfo *info)
{
	char name[LAYER_NAME_MAX];
	size_t len = strcspn(text, " ");
	int level;
	unsigned long long entries;
	unsigned long long bytes;
	char again[LAYER_TEXT_MAX];

	if (len >= sizeof(name))
		return false;
	strlcpy(name, text, len + 1);
	if (!layer_name_parse(name, info) ||
		sscanf(text + len, " level %d entries %llu bytes %llu", &level, &entries, &bytes) != 3)
		return false;
	info->level = level;
	info->entries = entries;
	info->file_size = bytes;
	format_layer(info, again);
	return strcmp(again, text) == 0;
}

/* The member is optional. */
static bool
get_replaced(json_t *body, Manifest *m)
{
	m->has_replaced = json_object_get(body, "replaced") != NULL;
	return !m->has_replaced || get_id(body, "replaced", &m->replaced);
}

/* The member is optional. */
static bool
get_copies(json_t *body, Manifest *m)
{
	json_t *copies = json_object_get(body, "copies");

	if (copies == NULL)
		return true;
	m->copies = pg_malloc0(Max(json_array_size(copies), 1) * sizeof(DbCopy));
	for (size_t i = 0; i < json_array_size(copies); i++)
	{
		const char *text = json_string_value(json_array_get(copies, i));
		uint32 n[6];
		char after;

		if (text == NULL || sscanf(text, "%u/%u %X/%X %X/%X%c", &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &after) != 6)
			return false;
		m->copies[i] = (DbCopy) {.spc = n[0],
								 .db = n[1],
								 .start = (uint64) n[2] << 32 | n[3],
								 .end = (uint64) n[4] << 32 | n[5]};
	}
	m->ncopies = (int) json_array_size(copies);
	return json_is_array(copies);
}

static bool
get_layers(json_t *body, Manifest *m)
{
	json_t *layers = json_object_get(body, "layers");

	if (!json_is_array(layers))
		return false;
	m->layers = pg_malloc0(Max(json_array_size(layers), 1) * sizeof(LayerInfo));
	for (size_t i = 0; i < json_array_size(layers); i++)
	{
		const char *text = json_string_value(json_array_get(layers, i));

		if (text == NULL || !parse_layer(text, &m->layers[i]))
			return false;
	}
	m->nlayers = (int) json_array_size(layers);
	return true;
}

static PsError *
read_manifest(const char *dir, const char *name, Manifest *m)
{
	char path[MAXPGPATH];
	json_t *root;
	json_t *body;
	PsError *err = NULL;

	memset(m, 0, sizeof(*m));
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	PS_TRY(json_file_read(&manifest_format, path, &root));
	body = json_object_get(root, "timeline");
	if (!json_is_object(body) || !get_id(body, "tenant", &m->tenant) || !get_id(body, "timeline", &m->timeline) ||
		!get_text(body, "name", m->name, sizeof(m->name)) ||
		!get_u64(body, "system_identifier", &m->system_identifier) ||
		!get_u32(body, "segment_size", &m->segment_size) || !IsValidWalSegSize(m->segment_size) ||
		!get_u32(body, "data_checksum_version", &m->data_checksum_version) ||
		!get_ancestor(body, m) || !get_replaced(body, m) || !get_lsn(body, "start_lsn", &m->start_lsn) ||
		!get_lsn(body, "disk_consistent_lsn", &m->disk_consistent_lsn) ||
		!get_lsn(body, "gc_cutoff", &m->gc_cutoff) ||
		!get_u64(body, "generation", &m->generation) || !get_text(body, "owner", m->owner, sizeof(m->owner)) ||
		!get_copies(body, m) || !get_layers(body, m))
		err = ps_error(PS_SQLSTATE_CORRUPTED, "manifest \"%s\" has a missing or invalid member", path);
	json_decref(root);
	if (err != NULL)
		manifest_free(m);
	return err;
}

PsError *
manifest_read(const char *dir, Manifest *m)
{
	return read_manifest(dir, MANIFEST_NAME, m);
}

PsError *
manifest_read_old(const char *dir, Manifest *m)
{
	return read_manifest(dir, MANIFEST_OLD, m);
}

/* Formats the whole file; free() *text. */
static PsError *
manifest_text(const Manifest *m, const char *path, char **text)
{
	char id[PS_ID_TEXT];
	json_t *layers = json_array();
	json_t *body = json_object();
	int rc = 0;

	for (int i = 0; i < m->nlayers; i++)
	{
		char layer[LAYER_TEXT_MAX];

		format_layer(&m->layers[i], layer);
		rc |= json_array_append_new(layers, json_string(layer));
	}
	rc |= json_object_set_new(body, "tenant", json_string(ps_id_format(&m->tenant, id)));
	rc |= json_object_set_new(body, "timeline", json_string(ps_id_format(&m->timeline, id)));
	rc |= json_object_set_new(body, "name", json_string(m->name));
	rc |= json_object_set_new(body, "system_identifier", json_u64(m->system_identifier));
	rc |= json_object_set_new(body, "segment_size", json_integer(m->segment_size));
	rc |= json_object_set_new(body, "data_checksum_version", json_integer(m->data_checksum_version));
	rc |= json_object_set_new(body, "ancestor", json_string(m->has_ancestor ? ps_id_format(&m->ancestor, id) : ""));
	if (m->has_replaced)
		rc |= json_object_set_new(body, "replaced", json_string(ps_id_format(&m->replaced, id)));
	rc |= json_object_set_new(body, "start_lsn", json_lsn(m->start_lsn));
	rc |= json_object_set_new(body, "disk_consistent_lsn", json_lsn(m->disk_consistent_lsn));
	rc |= json_object_set_new(body, "gc_cutoff", json_lsn(m->gc_cutoff));
	rc |= json_object_set_new(body, "generation", json_u64(m->generation));
	rc |= json_object_set_new(body, "owner", json_string(m->owner));
	if (m->ncopies > 0)
	{
		json_t *copies = json_array();

		for (int i = 0; i < m->ncopies; i++)
		{
			const DbCopy *copy = &m->copies[i];

			rc |= json_array_append_new(copies, json_sprintf("%u/%u %X/%X %X/%X", copy->spc, copy->db,
															 LSN_FORMAT_ARGS(copy->start), LSN_FORMAT_ARGS(copy->end)));
		}
		rc |= json_object_set_new(body, "copies", copies);
	}
	rc |= json_object_set_new(body, "layers", layers);
	if (rc != 0)
	{
		json_decref(body);
		body = NULL;
	}
	return json_file_text(&manifest_format, m->ncopies > 0 ? MANIFEST_VERSION_COPIES : MANIFEST_VERSION,
						  body != NULL ? json_pack("{s:o}", "timeline", body) : NULL, path, text);
}

PsError *
manifest_write(const char *dir, const Manifest *m, Outcome *outcome)
{
	char path[MAXPGPATH];
	char *text;
	PsError *err;

	*outcome = OUTCOME_NOT_DONE;
	snprintf(path, sizeof(path), "%s/" MANIFEST_NAME, dir);
	PS_TRY(manifest_text(m, path, &text));
	err = fs_replace_file(path, text, strlen(text), FS_KEEP_OLD, outcome);
	free(text);
	return err == NULL ? NULL : ps_error_context(err, "could not write manifest \"%s\"", path);
}

PsError *
manifest_write_new(const char *dir, const Manifest *m, bool sync)
{
	char path[MAXPGPATH];
	char old[MAXPGPATH];
	char *text;
	PsError *err;

	snprintf(path, sizeof(path), "%s/" MANIFEST_NAME, dir);
	snprintf(old, sizeof(old), "%s/" MANIFEST_OLD, dir);
	PS_TRY(manifest_text(m, path, &text));
	err = fs_write_new_file(path, text, strlen(text), sync);
	if (err == NULL)
		err = fs_write_new_file(old, text, strlen(text), sync);
	free(text);
	return err;
}

void
manifest_remove_stray(const char *dir)
{
	char path[MAXPGPATH];

	snprintf(path, sizeof(path), "%s/" MANIFEST_NAME, dir);
	fs_remove_stray(path);
}

void
manifest_free(Manifest *m)
{
	free(m->layers);
	free(m->copies);
	memset(m, 0, sizeof(*m));
}

/* After OUTCOME_UNKNOWN either manifest may be found after a crash: keeps the files that only the new one names. */
static void
keep_uncertain(Timeline *tl, Layer *const *add, int nadd)
{
	if (nadd == 0)
		return;
	tl->uncertain = pg_realloc(tl->uncertain, (tl->nuncertain + nadd) * sizeof(Layer *));
	for (int i = 0; i < nadd; i++)
		tl->uncertain[tl->nuncertain++] = layer_ref(add[i]);
}

/* The manifest is durable and does not name these files: removes them. */
static void
remove_uncertain(Timeline *tl)
{
	for (int i = 0; i < tl->nuncertain; i++)
	{
		layer_remove(tl->uncertain[i]);
		layer_unref(tl->uncertain[i]);
	}
	tl->nuncertain = 0;
}

/* timeline_save() with a name.  Caller holds Timeline.manifest_lock. */
static PsError *
save_with_name(Timeline *tl, const char *name, const LayerMap *map, XLogRecPtr disk_consistent_lsn, uint64 generation,
			   const char *owner, Layer *const *add, int nadd, Outcome *outcome)
{
	Manifest m = {.tenant = tl->spec->tenant,
				  .timeline = tl->spec->id,
				  .system_identifier = tl->spec->system_identifier,
				  .segment_size = tl->spec->segment_size,
				  .data_checksum_version = tl->spec->data_checksum_version,
				  .start_lsn = tl->spec->start_lsn,
				  .disk_consistent_lsn = disk_consistent_lsn,
				  .gc_cutoff = timeline_gc_cutoff(tl),
				  .generation = generation};
	PsError *err;

	m.has_replaced = tl->spec->has_replaced;
	m.replaced = tl->spec->replaced;
	if (tl->ancestor != NULL)
	{
		m.has_ancestor = true;
		m.ancestor = tl->ancestor->spec->id;
	}
	strlcpy(m.name, name, sizeof(m.name));
	strlcpy(m.owner, owner, sizeof(m.owner));
	m.nlayers = layer_map_count(map);
	m.layers = pg_malloc(Max(m.nlayers, 1) * sizeof(LayerInfo));
	for (int i = 0; i < m.nlayers; i++)
		m.layers[i] = *layer_info(layer_map_get(map, i));
	pthread_mutex_lock(&tl->lock);
	m.copies = pg_malloc(Max(tl->ncopies, 1) * sizeof(DbCopy));
	for (int i = 0; i < tl->ncopies; i++)
		if (tl->copies[i].end <= disk_consistent_lsn && !tl->copies[i].done)
			m.copies[m.ncopies++] = tl->copies[i];
	pthread_mutex_unlock(&tl->lock);
	err = manifest_write(tl->spec->dir, &m, outcome);
	manifest_free(&m);
	switch (*outcome)
	{
		case OUTCOME_DONE:
			remove_uncertain(tl);
			break;
		case OUTCOME_UNKNOWN:
			keep_uncertain(tl, add, nadd);
			break;
		case OUTCOME_NOT_DONE:
			for (int i = 0; i < nadd; i++)
				layer_remove(add[i]);
			break;
	}
	return err;
}

PsError *
timeline_save(Timeline *tl, LayerMap *map, XLogRecPtr disk_consistent_lsn, uint64 generation, const char *owner,
			  Layer *const *add, int nadd)
{
	Outcome outcome;

	return save_with_name(tl, tl->saved_name, map, disk_consistent_lsn, generation, owner, add, nadd, &outcome);
}

PsError *
timeline_save_name(Timeline *tl, const char *name, bool later, Outcome *outcome)
{
	LayerSet *set;
	PsError *err;

	pthread_mutex_lock(&tl->manifest_lock);
	set = timeline_layers(tl);
	err = save_with_name(tl, name, set->map, tl->disk_consistent_lsn, tl->generation, tl->owner, NULL, 0, outcome);
	layer_set_unref(set);
	if (err == NULL || later)
		strlcpy(tl->saved_name, name, sizeof(tl->saved_name));
	pthread_mutex_unlock(&tl->manifest_lock);
	return err;
}
