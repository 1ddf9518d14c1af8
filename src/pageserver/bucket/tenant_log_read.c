/*
 * tenant_log_read.c
 *	  Reading the log of a tenant: see tenant_log.h.
 */
#include "ps_fe.h"

#include "bucket/bucket_impl.h"
#include "bucket/tenant_log_impl.h"
#include "bytes.h"
#include "sqlstate.h"

/* How often the newest entry is looked for again because one that it builds on is missing. */
#define READ_RETRIES 5

const EnvelopeFormat log_entry_format = {"an entry of a tenant's log", 0x50534c45 /* "PSLE" */, 1, LOG_FIELDS,
										 UINT64CONST(4) << 30};

#define AT_TENANT     0
#define AT_GENERATION 16
#define AT_NUMBER     24
#define AT_BUILDS_ON  32
#define AT_TIME       40
#define AT_FLAGS      48

BucketKey
log_entry_key(const PsId *tenant, uint64 generation, uint64 number)
{
	return (BucketKey) {.kind = BUCKET_KEY_LOG, .tenant = *tenant, .generation = generation, .number = number};
}

void
log_entry_put_fields(const LogEntryFields *fields, char out[LOG_FIELDS])
{
	memcpy(out + AT_TENANT, &fields->tenant, sizeof(PsId));
	ps_put64(out + AT_GENERATION, fields->info.generation);
	ps_put64(out + AT_NUMBER, fields->info.number);
	ps_put64(out + AT_BUILDS_ON, fields->builds_on);
	ps_put64(out + AT_TIME, fields->info.time);
	ps_put32(out + AT_FLAGS, fields->info.flags);
}

static void
get_fields(const char in[LOG_FIELDS], LogEntryFields *fields)
{
	memcpy(&fields->tenant, in + AT_TENANT, sizeof(PsId));
	fields->info.generation = ps_get64(in + AT_GENERATION);
	fields->info.number = ps_get64(in + AT_NUMBER);
	fields->builds_on = ps_get64(in + AT_BUILDS_ON);
	fields->info.time = ps_get64(in + AT_TIME);
	fields->info.flags = ps_get32(in + AT_FLAGS);
}

/* Takes an entry apart that has been read. */
static PsError *
open_entry(const BucketKey *key, const char *name, const char *data, size_t len, LogEntryFields *fields,
		   LogChange *change)
{
	char raw[LOG_FIELDS];
	char *text;
	size_t text_len;
	json_error_t jerr;
	json_t *json;
	bool full;
	PsError *err;

	PS_TRY(envelope_open(&log_entry_format, name, data, len, raw, &text, &text_len));
	get_fields(raw, fields);
	full = fields->info.flags & LOG_FULL;
	if (!ps_id_equal(&fields->tenant, &key->tenant) || fields->info.generation != key->generation ||
		fields->info.number != key->number ||
		(full ? fields->builds_on != key->number : fields->builds_on >= key->number))
	{
		free(text);
		return ps_error(PS_SQLSTATE_CORRUPTED, "object \"%s\" has the contents of another one", name);
	}
	json = json_loadb(text, text_len, JSON_REJECT_DUPLICATES, &jerr);
	free(text);
	if (json == NULL)
		return ps_error(PS_SQLSTATE_CORRUPTED, "object \"%s\" is not JSON: %s", name, jerr.text);
	err = log_change_load(change, json);
	json_decref(json);
	return err == NULL ? NULL : ps_error_context(err, "object \"%s\"", name);
}

/* Reads an entry; *found false and no error: there is none. */
static PsError *
read_entry(ObjectStore *store, const BucketKey *key, const ObjectWait *wait, LogEntryFields *fields, LogChange *change,
		   bool *found)
{
	char name[BUCKET_KEY_TEXT];
	char *data;
	size_t len;
	PsError *err;

	PS_TRY(bucket_get(store, key, envelope_max(&log_entry_format), wait, &data, &len, found));
	if (!*found)
		return NULL;
	err = open_entry(key, bucket_key_format(key, name), data, len, fields, change);
	free(data);
	return err;
}

/* An entry that has been read. */
typedef struct Entry
{
	LogEntryFields fields;
	LogChange change;
} Entry;

/*
 * Replaces the entry by the next one, if there is one: the next number, or the first
 * number of a later generation.
 */
static PsError *
read_next(ObjectStore *store, const PsId *tenant, uint64 below, const ObjectWait *wait, Entry *entry, bool *found)
{
	uint64 generation = entry->fields.info.generation;
	uint64 number = generation > 0 ? entry->fields.info.number + 1 : 0;

	*found = false;
	for (generation = Max(generation, 1); generation < below && !*found; generation++)
	{
		BucketKey key = log_entry_key(tenant, generation, number);
		Entry next;

		PS_TRY(read_entry(store, &key, wait, &next.fields, &next.change, found));
		if (*found)
		{
			log_change_free(&entry->change);
			*entry = next;
		}
		number = 0;
	}
	return NULL;
}

/*
 * Finds the newest entry below a generation.  The list may be old; entries that
 * it does not show have not been deleted yet, and are found one by one.  generation 0:
 * there are none.
 */
static PsError *
find_newest(ObjectStore *store, const PsId *tenant, uint64 below, const ObjectWait *wait, Entry *newest)
{
	/* greater keys are those of lesser generations */
	BucketKey after = log_entry_key(tenant, below, 0);
	BucketKey first;
	bool found;
	PsError *err = NULL;

	memset(newest, 0, sizeof(*newest));
	PS_TRY(bucket_first(store, &after, &after, wait, &first, &found));
	if (found)
	{
		PS_TRY(read_entry(store, &first, wait, &newest->fields, &newest->change, &found));
		if (!found) /* deleted since: a newer one is to be found, or the list is older than it may be */
			newest->fields.info = (LogEntryInfo) {.generation = first.generation, .number = first.number};
	}
	for (found = BUCKET_RULE(RULE_LOOK_AHEAD); found && err == NULL;)
		err = read_next(store, tenant, below, wait, newest, &found);
	if (err != NULL)
		log_change_free(&newest->change);
	return err;
}

/*
 * Reads the entries on which the newest one builds, and makes the state; the newest
 * one's change is used up.  *missing: one of them is not there.
 */
static PsError *
read_path(ObjectStore *store, const PsId *tenant, const ObjectWait *wait, Entry *newest, LogChange *state,
		  LogPath *path, BucketKey *missing, bool *found)
{
	Entry entries[LOG_MAX_PATH];
	int n = 1;
	PsError *err = NULL;

	entries[0] = *newest;
	log_change_init(state);
	*found = newest->change.json != NULL;
	*missing = log_entry_key(tenant, newest->fields.info.generation, newest->fields.info.number);
	while (err == NULL && *found && !(entries[n - 1].fields.info.flags & LOG_FULL))
	{
		if (n == LOG_MAX_PATH)
			err = ps_error(PS_SQLSTATE_CORRUPTED,
						   "log entry " UINT64_FORMAT " of generation " UINT64_FORMAT " builds on too many others",
						   newest->fields.info.number, newest->fields.info.generation);
		else
		{
			missing->number = entries[n - 1].fields.builds_on;
			err = read_entry(store, missing, wait, &entries[n].fields, &entries[n].change, found);
			n += err == NULL && *found;
		}
	}
	path->n = 0;
	for (int i = n - 1; err == NULL && *found && i >= 0; i--)
	{
		err = log_change_check(state, &entries[i].change);
		if (err == NULL)
			log_change_apply(state, &entries[i].change);
		path->numbers[path->n++] = entries[i].fields.info.number;
	}
	for (int i = 0; i < n; i++)
		log_change_free(&entries[i].change);
	if (err != NULL || !*found)
		log_change_free(state);
	return err;
}

PsError *
log_read_path(ObjectStore *store, const PsId *tenant, uint64 below, const ObjectWait *wait, LogEntryInfo *info,
			  LogChange *state, LogPath *path)
{
	char name[BUCKET_KEY_TEXT];
	BucketKey missing;

	/* the owner may commit, and delete what it has replaced long ago, while this reads */
	for (int i = 0; i < READ_RETRIES; i++)
	{
		Entry newest;
		bool found;

		PS_TRY(find_newest(store, tenant, below, wait, &newest));
		*info = newest.fields.info;
		if (info->generation == 0)
		{
			path->n = 0;
			log_change_init(state);
			return NULL;
		}
		PS_TRY(read_path(store, tenant, wait, &newest, state, path, &missing, &found));
		if (found)
			return NULL;
	}
	return ps_error_hint(ps_error(PS_SQLSTATE_CORRUPTED, "object \"%s\" of the tenant's log is missing",
								  bucket_key_format(&missing, name)),
						 "Something other than the store has deleted it, a rule of the bucket perhaps.  "
						 "Restore it from a copy.");
}

PsError *
tenant_log_read(ObjectStore *store, const PsId *tenant, uint64 below, const ObjectWait *wait, LogEntryInfo *newest,
				LogChange *state)
{
	LogPath path;

	return log_read_path(store, tenant, below, wait, newest, state, &path);
}
