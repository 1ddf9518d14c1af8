/*
 * manifest.c
 *	  The manifest of a timeline as records in JSON: see manifest.h.
 */
#include "ps_fe.h"

#include "sqlstate.h"
#include "timeline/manifest.h"

#define MANIFEST_FORMAT  "pageserver timeline"
#define MANIFEST_VERSION 5

/* The maximum length of "XXXXXXXX/XXXXXXXX". */
#define LSN_TEXT_MAX 17

/* The maximum length of the text of a layer, with its zero byte. */
#define LAYER_TEXT_MAX (LAYER_NAME_MAX + 96)

/* ---- formatting ---- */

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

static json_t *
json_id(const PsId *id)
{
	char text[PS_ID_TEXT];

	return json_string(ps_id_format(id, text));
}

static void
format_layer(const LayerInfo *info, char text[LAYER_TEXT_MAX])
{
	char name[LAYER_NAME_MAX];

	snprintf(text, LAYER_TEXT_MAX, "%s level %d entries %llu bytes %llu", layer_name_format(info, name), info->level,
			 (unsigned long long) info->entries, (unsigned long long) info->file_size);
}

static json_t *
json_layer(const LayerInfo *info)
{
	char text[LAYER_TEXT_MAX];

	format_layer(info, text);
	return json_string(text);
}

static json_t *
json_copies(const DbCopy *copies, int n)
{
	json_t *list = json_array();

	for (int i = 0; i < n; i++)
		json_array_append_new(list, json_sprintf("%u/%u %X/%X %X/%X", copies[i].spc, copies[i].db,
												 LSN_FORMAT_ARGS(copies[i].start), LSN_FORMAT_ARGS(copies[i].end)));
	return list;
}

static bool
same_copies(const Manifest *a, const Manifest *b)
{
	bool same = a->ncopies == b->ncopies;

	for (int i = 0; i < a->ncopies && same; i++)
	{
		const DbCopy *x = &a->copies[i];
		const DbCopy *y = &b->copies[i];

		same = x->start == y->start && x->end == y->end && x->spc == y->spc && x->db == y->db;
	}
	return same;
}

/* The marks that differ from those of "was"; NULL: none does. */
static json_t *
json_upkeep(const Manifest *was, const Manifest *now)
{
	const UpkeepMarks *a = &was->marks;
	const UpkeepMarks *b = &now->marks;
	json_t *upkeep = json_object();

	if (a->images_lsn != b->images_lsn)
		json_object_set_new(upkeep, "images_lsn", json_lsn(b->images_lsn));
	if (a->gc_number != b->gc_number)
		json_object_set_new(upkeep, "gc_number", json_u64(b->gc_number));
	if (a->gc_time != b->gc_time)
		json_object_set_new(upkeep, "gc_time", json_u64((uint64) b->gc_time));
	if (!ps_id_equal(&a->gc_clock, &b->gc_clock))
		json_object_set_new(upkeep, "gc_clock", json_id(&b->gc_clock));
	if (a->gc_readable != b->gc_readable)
		json_object_set_new(upkeep, "gc_readable", json_integer(b->gc_readable));
	if (was->nimaged != now->nimaged ||
		(now->nimaged > 0 && memcmp(was->imaged, now->imaged, now->nimaged * sizeof(XLogRecPtr)) != 0))
	{
		json_t *imaged = json_array();

		for (int i = 0; i < now->nimaged; i++)
			json_array_append_new(imaged, json_lsn(now->imaged[i]));
		json_object_set_new(upkeep, "imaged", imaged);
	}
	if (json_object_size(upkeep) > 0)
		return upkeep;
	json_decref(upkeep);
	return NULL;
}

json_t *
manifest_state_json(const Manifest *m)
{
	static const Manifest nothing;
	json_t *body = json_object();
	json_t *layers = json_array();
	json_t *upkeep = json_upkeep(&nothing, m);
	int rc = 0;

	rc |= json_object_set_new(body, "tenant", json_id(&m->tenant));
	rc |= json_object_set_new(body, "timeline", json_id(&m->timeline));
	rc |= json_object_set_new(body, "name", json_string(m->name));
	rc |= json_object_set_new(body, "system_identifier", json_u64(m->system_identifier));
	rc |= json_object_set_new(body, "segment_size", json_integer(m->segment_size));
	rc |= json_object_set_new(body, "data_checksum_version", json_integer(m->data_checksum_version));
	rc |= json_object_set_new(body, "ancestor", m->has_ancestor ? json_id(&m->ancestor) : json_string(""));
	if (m->has_replaced)
		rc |= json_object_set_new(body, "replaced", json_id(&m->replaced));
	rc |= json_object_set_new(body, "start_lsn", json_lsn(m->start_lsn));
	rc |= json_object_set_new(body, "disk_consistent_lsn", json_lsn(m->disk_consistent_lsn));
	rc |= json_object_set_new(body, "gc_cutoff", json_lsn(m->gc_cutoff));
	rc |= json_object_set_new(body, "generation", json_u64(m->generation));
	rc |= json_object_set_new(body, "owner", json_string(m->owner));
	if (m->ncopies > 0)
		rc |= json_object_set_new(body, "copies", json_copies(m->copies, m->ncopies));
	if (upkeep != NULL)
		rc |= json_object_set_new(body, "upkeep", upkeep);
	for (int i = 0; i < m->nlayers; i++)
		rc |= json_array_append_new(layers, json_layer(&m->layers[i]));
	rc |= json_object_set_new(body, "layers", layers);
	if (rc == 0)
		return json_pack("{s:s, s:i, s:o}", "format", MANIFEST_FORMAT, "version", MANIFEST_VERSION, "timeline", body);
	json_decref(body);
	return NULL;
}

json_t *
manifest_change_json(const Manifest *was, const Manifest *now, Layer *const *add, int nadd, Layer *const *drop,
					 int ndrop)
{
	json_t *change = json_object();
	json_t *files;
	json_t *upkeep;
	char name[LAYER_NAME_MAX];
	int rc = 0;

	if (nadd > 0)
	{
		files = json_array();
		for (int i = 0; i < nadd; i++)
			rc |= json_array_append_new(files, json_layer(layer_info(add[i])));
		rc |= json_object_set_new(change, "add", files);
	}
	if (ndrop > 0)
	{
		files = json_array();
		for (int i = 0; i < ndrop; i++)
			rc |= json_array_append_new(files, json_string(layer_name(drop[i], name)));
		rc |= json_object_set_new(change, "drop", files);
	}
	if (strcmp(was->name, now->name) != 0)
		rc |= json_object_set_new(change, "name", json_string(now->name));
	if (was->disk_consistent_lsn != now->disk_consistent_lsn)
		rc |= json_object_set_new(change, "disk_consistent_lsn", json_lsn(now->disk_consistent_lsn));
	if (was->gc_cutoff != now->gc_cutoff)
		rc |= json_object_set_new(change, "gc_cutoff", json_lsn(now->gc_cutoff));
	if (was->generation != now->generation)
		rc |= json_object_set_new(change, "generation", json_u64(now->generation));
	if (strcmp(was->owner, now->owner) != 0)
		rc |= json_object_set_new(change, "owner", json_string(now->owner));
	if (!same_copies(was, now))
		rc |= json_object_set_new(change, "copies", json_copies(now->copies, now->ncopies));
	upkeep = json_upkeep(was, now);
	if (upkeep != NULL)
		rc |= json_object_set_new(change, "upkeep", upkeep);
	if (rc == 0)
		return change;
	json_decref(change);
	return NULL;
}

/* ---- parsing: the functions return false if the member is missing or invalid ---- */

static bool
get_text(const json_t *body, const char *name, char *out, size_t size)
{
	const char *text = json_string_value(json_object_get(body, name));

	return text != NULL && strlcpy(out, text, size) < size;
}

static bool
parse_lsn(const json_t *value, XLogRecPtr *lsn)
{
	const char *text = json_string_value(value);
	uint32 hi;
	uint32 lo;
	char after;

	if (text == NULL || strlen(text) > LSN_TEXT_MAX || sscanf(text, "%X/%X%c", &hi, &lo, &after) != 2)
		return false;
	*lsn = (uint64) hi << 32 | lo;
	return true;
}

static bool
get_lsn(const json_t *body, const char *name, XLogRecPtr *lsn)
{
	return parse_lsn(json_object_get(body, name), lsn);
}

static bool
get_u64(const json_t *body, const char *name, uint64 *v)
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
get_u32(const json_t *body, const char *name, uint32 *v)
{
	const json_t *n = json_object_get(body, name);

	if (!json_is_integer(n) || json_integer_value(n) < 0 || json_integer_value(n) > PG_UINT32_MAX)
		return false;
	*v = (uint32) json_integer_value(n);
	return true;
}

static bool
get_id(const json_t *body, const char *name, PsId *id)
{
	char text[PS_ID_TEXT];

	return get_text(body, name, text, sizeof(text)) && ps_id_parse(text, id);
}

/* "" means that there is none. */
static bool
get_ancestor(const json_t *body, Manifest *m)
{
	char text[PS_ID_TEXT];

	if (!get_text(body, "ancestor", text, sizeof(text)))
		return false;
	m->has_ancestor = text[0] != '\0';
	return !m->has_ancestor || ps_id_parse(text, &m->ancestor);
}

/* The member is optional. */
static bool
get_replaced(const json_t *body, Manifest *m)
{
	m->has_replaced = json_object_get(body, "replaced") != NULL;
	return !m->has_replaced || get_id(body, "replaced", &m->replaced);
}

static bool
get_copies(const json_t *body, Manifest *m)
{
	const json_t *copies = json_object_get(body, "copies");

	free(m->copies);
	m->copies = pg_malloc0(Max(json_array_size(copies), 1) * sizeof(DbCopy));
	m->ncopies = 0;
	for (size_t i = 0; i < json_array_size(copies); i++)
	{
		const char *text = json_string_value(json_array_get(copies, i));
		uint32 n[6];
		char after;

		if (text == NULL || sscanf(text, "%u/%u %X/%X %X/%X%c", &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &after) != 6)
			return false;
		m->copies[m->ncopies++] = (DbCopy) {.spc = n[0],
											.db = n[1],
											.start = (uint64) n[2] << 32 | n[3],
											.end = (uint64) n[4] << 32 | n[5]};
	}
	return json_is_array(copies);
}

static bool
get_imaged(const json_t *upkeep, Manifest *m)
{
	const json_t *imaged = json_object_get(upkeep, "imaged");

	free(m->imaged);
	m->imaged = pg_malloc0(Max(json_array_size(imaged), 1) * sizeof(XLogRecPtr));
	m->nimaged = 0;
	for (size_t i = 0; i < json_array_size(imaged); i++)
	{
		XLogRecPtr *lsn = &m->imaged[m->nimaged++];

		if (!parse_lsn(json_array_get(imaged, i), lsn) || (i > 0 && *lsn <= lsn[-1]))
			return false;
	}
	return json_is_array(imaged);
}

/* Each of its members is optional. */
static bool
get_upkeep(const json_t *body, Manifest *m)
{
	json_t *upkeep = json_object_get(body, "upkeep");
	UpkeepMarks *marks = &m->marks;
	const char *name;
	json_t *value;
	bool valid = json_is_object(upkeep);

	json_object_foreach(upkeep, name, value)
	{
		if (strcmp(name, "images_lsn") == 0)
			valid &= get_lsn(upkeep, name, &marks->images_lsn);
		else if (strcmp(name, "gc_number") == 0)
			valid &= get_u64(upkeep, name, &marks->gc_number);
		else if (strcmp(name, "gc_time") == 0)
			valid &= get_u64(upkeep, name, (uint64 *) &marks->gc_time);
		else if (strcmp(name, "gc_clock") == 0)
			valid &= get_id(upkeep, name, &marks->gc_clock);
		else if (strcmp(name, "gc_readable") == 0)
			valid &= get_u32(upkeep, name, &marks->gc_readable);
		else if (strcmp(name, "imaged") == 0)
			valid &= get_imaged(upkeep, m);
		else
			valid = false;
	}
	return valid;
}

static bool
parse_layer(const char *text, LayerInfo *info)
{
	char name[LAYER_NAME_MAX];
	size_t len = text != NULL ? strcspn(text, " ") : sizeof(name);
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

/* Appends files to the layers. */
static bool
add_layers(const json_t *files, Manifest *m)
{
	m->layers = pg_realloc(m->layers, Max(m->nlayers + json_array_size(files), 1) * sizeof(LayerInfo));
	for (size_t i = 0; i < json_array_size(files); i++)
	{
		LayerInfo *info = &m->layers[m->nlayers];

		memset(info, 0, sizeof(*info));
		if (!parse_layer(json_string_value(json_array_get(files, i)), info))
			return false;
		m->max_number = Max(m->max_number, info->number);
		m->nlayers++;
	}
	return json_is_array(files);
}

/* Remembers names of files for manifest_finish(): to look for each now would take long if there are many. */
static bool
drop_layers(const json_t *names, Manifest *m)
{
	m->dropped = pg_realloc(m->dropped, Max(m->ndropped + json_array_size(names), 1) * sizeof(LayerInfo));
	for (size_t i = 0; i < json_array_size(names); i++)
	{
		const char *name = json_string_value(json_array_get(names, i));
		LayerInfo *info = &m->dropped[m->ndropped];

		memset(info, 0, sizeof(*info));
		if (name == NULL || !layer_name_parse(name, info))
			return false;
		m->ndropped++;
	}
	return json_is_array(names);
}

bool
manifest_parse_body(const json_t *body, Manifest *m)
{
	memset(m, 0, sizeof(*m));
	return json_is_object(body) && get_id(body, "tenant", &m->tenant) && get_id(body, "timeline", &m->timeline) &&
		   get_text(body, "name", m->name, sizeof(m->name)) &&
		   get_u64(body, "system_identifier", &m->system_identifier) &&
		   get_u32(body, "segment_size", &m->segment_size) && IsValidWalSegSize(m->segment_size) &&
		   get_u32(body, "data_checksum_version", &m->data_checksum_version) && get_ancestor(body, m) &&
		   get_replaced(body, m) && get_lsn(body, "start_lsn", &m->start_lsn) &&
		   get_lsn(body, "disk_consistent_lsn", &m->disk_consistent_lsn) && get_lsn(body, "gc_cutoff", &m->gc_cutoff) &&
		   get_u64(body, "generation", &m->generation) && get_text(body, "owner", m->owner, sizeof(m->owner)) &&
		   (json_object_get(body, "copies") == NULL || get_copies(body, m)) &&
		   (json_object_get(body, "upkeep") == NULL || get_upkeep(body, m)) &&
		   add_layers(json_object_get(body, "layers"), m);
}

PsError *
manifest_check_format(const json_t *state, const char *path)
{
	const char *format = json_string_value(json_object_get(state, "format"));
	const json_t *version = json_object_get(state, "version");

	if (format == NULL || strcmp(format, MANIFEST_FORMAT) != 0 || !json_is_integer(version))
		return ps_error(PS_SQLSTATE_CORRUPTED, "file \"%s\" does not have the format \"%s\"", path, MANIFEST_FORMAT);
	if (json_integer_value(version) != MANIFEST_VERSION)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE,
									  "manifest \"%s\" has format version %lld, this pageserver reads version %d", path,
									  (long long) json_integer_value(version), MANIFEST_VERSION),
							 "Use the version of the program that wrote the store, "
							 "or export its branches with that and import them.");
	return NULL;
}

bool
manifest_parse_state(const json_t *state, Manifest *m)
{
	return manifest_parse_body(json_object_get(state, "timeline"), m);
}

bool
manifest_apply_change(const json_t *change, Manifest *m)
{
	const char *name;
	json_t *value;
	bool valid = json_is_object(change);

	json_object_foreach((json_t *) change, name, value)
	{
		if (strcmp(name, "add") == 0)
			valid &= add_layers(value, m);
		else if (strcmp(name, "drop") == 0)
			valid &= drop_layers(value, m);
		else if (strcmp(name, "name") == 0)
			valid &= get_text(change, name, m->name, sizeof(m->name));
		else if (strcmp(name, "disk_consistent_lsn") == 0)
			valid &= get_lsn(change, name, &m->disk_consistent_lsn);
		else if (strcmp(name, "gc_cutoff") == 0)
			valid &= get_lsn(change, name, &m->gc_cutoff);
		else if (strcmp(name, "generation") == 0)
			valid &= get_u64(change, name, &m->generation);
		else if (strcmp(name, "owner") == 0)
			valid &= get_text(change, name, m->owner, sizeof(m->owner));
		else if (strcmp(name, "copies") == 0)
			valid &= get_copies(change, m);
		else if (strcmp(name, "upkeep") == 0)
			valid &= get_upkeep(change, m);
		else
			valid = false;
	}
	return valid;
}

static int
by_number(const void *a, const void *b)
{
	uint64 x = ((const LayerInfo *) a)->number;
	uint64 y = ((const LayerInfo *) b)->number;

	return x < y ? -1 : x > y;
}

/*
 * Each file that was dropped must be there once, and no other with its number: that is not given
 * again (Manifest.max_number).
 */
bool
manifest_finish(Manifest *m)
{
	int n = 0;
	int removed = 0;
	bool valid = true;

	if (m->ndropped == 0)
		return true;
	qsort(m->dropped, m->ndropped, sizeof(LayerInfo), by_number);
	for (int i = 0; i < m->nlayers; i++)
	{
		const LayerInfo *dropped = bsearch(&m->layers[i], m->dropped, m->ndropped, sizeof(LayerInfo), by_number);
		char name[LAYER_NAME_MAX];
		char dropped_name[LAYER_NAME_MAX];

		if (dropped != NULL &&
			strcmp(layer_name_format(dropped, dropped_name), layer_name_format(&m->layers[i], name)) == 0)
			removed++;
		else
		{
			valid = valid && dropped == NULL;
			m->layers[n++] = m->layers[i];
		}
	}
	m->nlayers = n;
	free(m->dropped);
	m->dropped = NULL;
	n = m->ndropped;
	m->ndropped = 0;
	return valid && removed == n;
}

void
manifest_copy(Manifest *to, const Manifest *from)
{
	Manifest copy = *from;

	copy.layers = NULL;
	copy.nlayers = 0;
	copy.dropped = NULL;
	copy.ndropped = 0;
	copy.copies = pg_malloc(Max(from->ncopies, 1) * sizeof(DbCopy));
	if (from->ncopies > 0)
		memcpy(copy.copies, from->copies, from->ncopies * sizeof(DbCopy));
	copy.imaged = pg_malloc(Max(from->nimaged, 1) * sizeof(XLogRecPtr));
	if (from->nimaged > 0)
		memcpy(copy.imaged, from->imaged, from->nimaged * sizeof(XLogRecPtr));
	manifest_free(to);
	*to = copy;
}

void
manifest_free(Manifest *m)
{
	free(m->copies);
	free(m->imaged);
	free(m->layers);
	free(m->dropped);
	memset(m, 0, sizeof(*m));
}
