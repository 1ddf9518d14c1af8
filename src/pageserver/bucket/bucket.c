/*
 * bucket.c
 *	  The format of a bucket; requests that several files here make.
 */
#include "ps_fe.h"

#include "base/json_file.h"
#include "bucket/bucket.h"
#include "bucket/bucket_impl.h"
#include "sqlstate.h"

#define FORMAT_KEY     "format"
#define FORMAT_MAX     65536
#define FORMAT_VERSION 1
#define PROBES         "probe/"

static const JsonFormat bucket_format = {"object", "pageserver bucket", "version", FORMAT_VERSION, FORMAT_VERSION,
										 NULL};

/* An error if the object is there and is not one of ours. */
static PsError *
read_format(ObjectStore *store, const ObjectWait *wait, PsId *id, bool *found)
{
	char *name = psprintf("%s/" FORMAT_KEY, object_store_url(store));
	json_t *root = NULL;
	const char *text;
	void *data;
	size_t len;
	PsError *err = object_get(store, FORMAT_KEY, FORMAT_MAX, &data, &len, wait);

	*found = err == NULL;
	if (object_is_missing(err))
	{
		ps_error_free(err);
		err = NULL;
	}
	else if (err == NULL)
	{
		err = json_file_parse(&bucket_format, name, data, len, &root);
		text = json_string_value(json_object_get(root, "id"));
		if (err == NULL && (text == NULL || !ps_id_parse(text, id)))
			err = ps_error(PS_SQLSTATE_CORRUPTED, "object \"%s\" has no valid id", name);
		json_decref(root);
		free(data);
	}
	free(name);
	return err;
}

static PsError *
note_other(void *arg, const ObjectInfo *info, bool *stop)
{
	char **other = arg;

	if (strcmp(info->key, PROBES) != 0)
	{
		*other = pg_strdup(info->key);
		*stop = true;
	}
	return NULL;
}

/* An error if there is anything but what other probes may have left. */
static PsError *
check_empty(ObjectStore *store, const ObjectWait *wait)
{
	char *other = NULL;
	ObjectListSink sink = {note_other, &other};
	PsError *err = object_list(store, NULL, NULL, true, &sink, wait);

	if (err == NULL && other != NULL)
	{
		err = ps_error(PS_SQLSTATE_STATE, "\"%s\" has an object \"%s\", but no object \"" FORMAT_KEY "\"",
					   object_store_url(store), other);
		ps_error_hint(err, "Use a prefix without objects, or the one that the tenants are in.  "
						   "If its \"" FORMAT_KEY "\" was deleted, restore that from a copy.");
	}
	free(other);
	return err;
}

/* Writes the format, unless another store has done so meanwhile. */
static PsError *
create_format(ObjectStore *store, const ObjectWait *wait)
{
	PsId id = ps_id_random();
	char id_text[PS_ID_TEXT];
	char *text;
	ObjectOutcome outcome;
	PsError *err;

	PS_TRY(check_empty(store, wait));
	PS_TRY(json_file_text(&bucket_format, FORMAT_VERSION, json_pack("{s:s}", "id", ps_id_format(&id, id_text)),
						  FORMAT_KEY, &text));
	err = object_put_once(store, FORMAT_KEY, text, strlen(text), wait, &outcome);
	free(text);
	return err;
}

PsError *
bucket_open(ObjectStore *store, const ObjectWait *wait, PsId *id)
{
	bool found;

	PS_TRY(bucket_probe(store, wait));
	PS_TRY(read_format(store, wait, id, &found));
	if (found)
		return NULL;
	PS_TRY(create_format(store, wait));
	PS_TRY(read_format(store, wait, id, &found));
	if (!found)
		return ps_error(PS_SQLSTATE_STATE, "object \"%s/" FORMAT_KEY "\" was deleted by another program",
						object_store_url(store));
	return NULL;
}

PsError *
bucket_get(ObjectStore *store, const BucketKey *key, size_t max, const ObjectWait *wait, char **data, size_t *len,
		   bool *found)
{
	char text[BUCKET_KEY_TEXT];
	void *object;
	PsError *err = object_get(store, bucket_key_format(key, text), max, &object, len, wait);

	*data = object;
	*found = err == NULL;
	if (object_is_missing(err))
	{
		ps_error_free(err);
		return NULL;
	}
	return err;
}

typedef struct First
{
	BucketKeyKind kind;
	BucketKey *key;
	bool *found;
} First;

static PsError *
note_first(void *arg, const ObjectInfo *info, bool *stop)
{
	First *first = arg;

	*first->found = bucket_key_parse(info->key, first->key) && first->key->kind == first->kind;
	*stop = *first->found;
	return NULL;
}

PsError *
bucket_first(ObjectStore *store, const BucketKey *folder, const BucketKey *after, const ObjectWait *wait,
			 BucketKey *first, bool *found)
{
	char prefix[BUCKET_KEY_TEXT];
	char after_text[BUCKET_KEY_TEXT];
	First arg = {folder->kind, first, found};
	ObjectListSink sink = {note_first, &arg};

	*found = false;
	return object_list(store, bucket_key_folder(folder, prefix),
					   after != NULL ? bucket_key_format(after, after_text) : NULL, false, &sink, wait);
}
