/*
 * log_change.c
 *	  The state of a tenant, and changes of it: see log_change.h.
 */
#include "ps_fe.h"

#include <ctype.h>

#include "bucket/log_change.h"
#include "sqlstate.h"

#define NAME_MAX_LEN 1024 /* of a layer file */

void
log_change_init(LogChange *change)
{
	change->json = json_pack("{s:{}, s:{}}", "tenant", "timelines");
}

void
log_change_free(LogChange *change)
{
	json_decref(change->json);
	change->json = NULL;
}

static json_t *
tenant_of(const LogChange *change)
{
	return json_object_get(change->json, "tenant");
}

static json_t *
timelines_of(const LogChange *change)
{
	return json_object_get(change->json, "timelines");
}

static bool
is_whole(const json_t *record)
{
	return json_object_get(record, "layers") != NULL;
}

/* ---- arrays of files to objects, and back ---- */

/*
 * The object for an array of files: NAME: text, or NAME: true if the array has names
 * only.  NULL: the array is not valid.
 */
static json_t *
files_from_array(const json_t *array, bool names_only)
{
	json_t *files = json_object();
	size_t i;
	json_t *item;

	json_array_foreach(array, i, item)
	{
		const char *text = json_string_value(item);
		size_t len = text != NULL ? strcspn(text, " ") : 0;
		char name[NAME_MAX_LEN];

		if (len == 0 || len >= sizeof(name) || (names_only && text[len] != '\0'))
			goto invalid;
		strlcpy(name, text, len + 1);
		if (json_object_get(files, name) != NULL ||
			(names_only ? json_object_set_new(files, name, json_true()) : json_object_set(files, name, item)) != 0)
			goto invalid;
	}
	return files;

invalid:
	json_decref(files);
	return NULL;
}

static json_t *
files_to_array(json_t *files)
{
	json_t *array = json_array();
	const char *name;
	json_t *value;

	json_object_foreach(files, name, value)
	{
		if (json_is_string(value))
			json_array_append(array, value);
		else
			json_array_append_new(array, json_string(name));
	}
	return array;
}

/* Converts the files of a record; false if they are not as described. */
static bool
load_files(json_t *record)
{
	static const char *const members[] = {"layers", "add", "drop"};

	for (int i = 0; i < lengthof(members); i++)
	{
		const json_t *array = json_object_get(record, members[i]);
		json_t *files;

		if (array == NULL)
			continue;
		if (!json_is_array(array))
			return false;
		files = files_from_array(array, i == 2);
		if (files == NULL)
			return false;
		json_object_set_new(record, members[i], files);
	}
	/* a whole record has nothing to add to */
	return !is_whole(record) || (json_object_get(record, "add") == NULL && json_object_get(record, "drop") == NULL);
}

/* The record with arrays again; a new reference. */
static json_t *
save_record(json_t *record)
{
	static const char *const members[] = {"layers", "add", "drop"};
	json_t *saved = json_copy(record);

	for (int i = 0; i < lengthof(members); i++)
	{
		json_t *files = json_object_get(record, members[i]);

		if (files == NULL)
			continue;
		if (json_object_size(files) == 0 && i > 0)
			json_object_del(saved, members[i]);
		else
			json_object_set_new(saved, members[i], files_to_array(files));
	}
	return saved;
}

PsError *
log_change_load(LogChange *change, const json_t *json)
{
	const json_t *tenant = json_object_get(json, "tenant");
	const json_t *timelines = json_object_get(json, "timelines");
	const char *id;
	json_t *record;

	log_change_init(change);
	if ((json != NULL && !json_is_object(json)) || (tenant != NULL && !json_is_object(tenant)) ||
		(timelines != NULL && !json_is_object(timelines)))
		goto invalid;
	if (tenant != NULL)
		json_object_set_new(change->json, "tenant", json_copy((json_t *) tenant));
	json_object_foreach((json_t *) timelines, id, record)
	{
		json_t *loaded = json_copy(record);

		json_object_set_new(timelines_of(change), id, loaded);
		if (!json_is_null(loaded) && (!json_is_object(loaded) || !load_files(loaded)))
		{
			PsError *err = ps_error(PS_SQLSTATE_CORRUPTED, "the record of timeline \"%s\" is not valid", id);

			log_change_free(change);
			return err;
		}
	}
	return NULL;

invalid:
	log_change_free(change);
	return ps_error(PS_SQLSTATE_CORRUPTED, "not a change of a tenant");
}

json_t *
log_change_json(const LogChange *change)
{
	json_t *saved = json_object();
	json_t *timelines = json_object();
	const char *id;
	json_t *record;

	json_object_foreach(timelines_of(change), id, record)
		json_object_set_new(timelines, id, save_record(record));
	if (json_object_size(tenant_of(change)) > 0)
		json_object_set(saved, "tenant", tenant_of(change));
	json_object_set_new(saved, "timelines", timelines);
	return saved;
}

char *
log_change_text(const LogChange *change, size_t *len)
{
	json_t *saved = log_change_json(change);
	char *text;

	text = json_dumps(saved, JSON_COMPACT);
	json_decref(saved);
	*len = text != NULL ? strlen(text) : 0;
	return text;
}

json_t *
log_change_timeline(const LogChange *state, const char *id)
{
	json_t *record = json_object_get(timelines_of(state), id);

	return record != NULL ? save_record(record) : NULL;
}

/* ---- members that this folder reads ---- */

json_t *
log_change_make_wal(uint64 chain, uint64 kept, XLogRecPtr lsn)
{
	char chain_text[24];
	char kept_text[24];
	char lsn_text[24];

	snprintf(chain_text, sizeof(chain_text), UINT64_FORMAT, chain);
	snprintf(kept_text, sizeof(kept_text), UINT64_FORMAT, kept);
	snprintf(lsn_text, sizeof(lsn_text), "%X/%X", LSN_FORMAT_ARGS(lsn));
	return json_pack("{s:s, s:s, s:s}", "chain", chain_text, "kept", kept_text, "lsn", lsn_text);
}

static bool
parse_number(const json_t *text, uint64 *number)
{
	const char *digits = json_string_value(text);
	char *end;

	if (digits == NULL || !isdigit((unsigned char) digits[0]))
		return false;
	errno = 0;
	*number = strtoull(digits, &end, 10);
	return *end == '\0' && errno == 0;
}

bool
log_change_wal(const json_t *record, uint64 *chain, uint64 *kept, XLogRecPtr *lsn)
{
	const json_t *wal = json_object_get(record, "wal");
	const char *lsn_text = json_string_value(json_object_get(wal, "lsn"));
	uint32 high;
	uint32 low;
	int len = 0;

	if (lsn_text == NULL || sscanf(lsn_text, "%X/%X%n", &high, &low, &len) != 2 || lsn_text[len] != '\0')
		return false;
	*lsn = (uint64) high << 32 | low;
	return parse_number(json_object_get(wal, "chain"), chain) && parse_number(json_object_get(wal, "kept"), kept) &&
		   *kept <= *chain;
}

/* ---- applying and folding ---- */

/*
 * The name of a member that is an object in the state and would not be one after the
 * change; NULL: there is none.
 */
static const char *
replaced_object(const json_t *state, json_t *change)
{
	const char *name;
	json_t *value;

	json_object_foreach(change, name, value)
	{
		const json_t *before = json_object_get(state, name);
		const char *inner;

		if (!json_is_object(before))
			continue;
		inner = json_is_object(value) ? replaced_object(before, value) : name;
		if (inner != NULL)
			return inner;
	}
	return NULL;
}

PsError *
log_change_check(const LogChange *state, const LogChange *change)
{
	const char *id;
	json_t *record;
	const char *replaced = replaced_object(tenant_of(state), tenant_of(change));

	if (replaced != NULL)
		return ps_error(PS_SQLSTATE_CORRUPTED, "member \"%s\" of the tenant is an object, and is replaced", replaced);
	json_object_foreach(timelines_of(change), id, record)
	{
		json_t *layers = json_object_get(json_object_get(timelines_of(state), id), "layers");
		json_t *drop = json_object_get(record, "drop");
		const char *name;
		json_t *value;

		if (json_is_null(record) || is_whole(record))
			continue;
		if (layers == NULL)
			return ps_error(PS_SQLSTATE_CORRUPTED, "timeline \"%s\" is changed, but does not exist", id);
		replaced = replaced_object(json_object_get(timelines_of(state), id), record);
		if (replaced != NULL)
			return ps_error(PS_SQLSTATE_CORRUPTED, "member \"%s\" of timeline \"%s\" is an object, and is replaced",
							replaced, id);
		json_object_foreach(drop, name, value)
		{
			if (json_object_get(layers, name) == NULL)
				return ps_error(PS_SQLSTATE_CORRUPTED, "layer \"%s\" of timeline \"%s\" is dropped, but does not exist",
								name, id);
		}
		json_object_foreach(json_object_get(record, "add"), name, value)
		{
			if (json_object_get(layers, name) != NULL && json_object_get(drop, name) == NULL)
				return ps_error(PS_SQLSTATE_CORRUPTED, "layer \"%s\" of timeline \"%s\" is added, but exists", name,
								id);
		}
	}
	return NULL;
}

/*
 * Sets a member of an object.  Objects are merged, as copies, since others may refer to
 * them; null removes, or is kept, for the state that the result will be applied to.
 */
static void
set_member(json_t *object, const char *name, json_t *value, bool keep_null)
{
	json_t *before = json_object_get(object, name);
	json_t *merged;
	const char *inner;
	json_t *inner_value;

	if (json_is_null(value) && !keep_null)
		json_object_del(object, name);
	else if (!json_is_object(value))
		json_object_set(object, name, value);
	else
	{
		merged = json_is_object(before) ? json_copy(before) : json_object();
		json_object_foreach(value, inner, inner_value)
			set_member(merged, inner, inner_value, keep_null);
		json_object_set_new(object, name, merged);
	}
}

/* Sets all members of a record that a change has, except files. */
static void
set_members(json_t *record, json_t *change, bool keep_null)
{
	const char *name;
	json_t *value;

	json_object_foreach(change, name, value)
	{
		if (strcmp(name, "add") != 0 && strcmp(name, "drop") != 0)
			set_member(record, name, value, keep_null);
	}
}

/* A copy that can be changed without changing the original. */
static json_t *
copy_record(json_t *record)
{
	static const char *const members[] = {"layers", "add", "drop"};
	json_t *copy = json_copy(record);

	for (int i = 0; i < lengthof(members); i++)
	{
		json_t *files = json_object_get(record, members[i]);

		if (files != NULL)
			json_object_set_new(copy, members[i], json_copy(files));
	}
	return copy;
}

/* Applies a change of a timeline to the whole record. */
static void
apply_record(json_t *whole, json_t *change)
{
	json_t *layers = json_object_get(whole, "layers");
	const char *name;
	json_t *value;

	set_members(whole, change, false);
	json_object_foreach(json_object_get(change, "drop"), name, value)
		json_object_del(layers, name);
	json_object_update(layers, json_object_get(change, "add"));
}

/* The object of that name, which is created if there is none. */
static json_t *
member_object(json_t *object, const char *name)
{
	json_t *member = json_object_get(object, name);

	if (member == NULL)
	{
		member = json_object();
		json_object_set_new(object, name, member);
	}
	return member;
}

/* Adds a change of a timeline to an older change of it. */
static void
fold_record(json_t *older, json_t *newer)
{
	json_t *add = member_object(older, "add");
	json_t *drop = member_object(older, "drop");
	const char *name;
	json_t *value;

	set_members(older, newer, true);
	/* a file that was added and is dropped again leaves no trace */
	json_object_foreach(json_object_get(newer, "drop"), name, value)
	{
		if (json_object_del(add, name) != 0)
			json_object_set(drop, name, value);
	}
	json_object_update(add, json_object_get(newer, "add"));
}

static void
combine(LogChange *older, const LogChange *newer, bool is_state)
{
	const char *name;
	json_t *value;
	const char *id;
	json_t *record;

	json_object_foreach(tenant_of(newer), name, value)
		set_member(tenant_of(older), name, value, !is_state);
	json_object_foreach(timelines_of(newer), id, record)
	{
		json_t *before = json_object_get(timelines_of(older), id);

		if (json_is_null(record) && is_state)
			json_object_del(timelines_of(older), id);
		else if (json_is_null(record) || is_whole(record) || before == NULL)
			json_object_set_new(timelines_of(older), id, copy_record(record));
		else if (is_whole(before))
			apply_record(before, record);
		else
			fold_record(before, record);
	}
}

void
log_change_apply(LogChange *state, const LogChange *change)
{
	combine(state, change, true);
}

void
log_change_fold(LogChange *older, const LogChange *newer)
{
	combine(older, newer, false);
}
