/*
 * object.c
 *	  Object storage: what all backends have in common; see object.h.
 */
#include "ps_fe.h"

#include "base/clock.h"
#include "remote/object_impl.h"
#include "sqlstate.h"

PsError *
object_store_open(const char *url, const ObjectSettings *settings, ObjectStore **store)
{
	PsError *err;

	*store = NULL;
	if (strncmp(url, "s3://", 5) == 0)
		err = object_s3_open(url + 5, settings, store);
	else if (strncmp(url, "file:///", 8) == 0)
		err = object_dir_open(url + 7, store);
	else
		err = ps_error_hint(ps_error(PS_SQLSTATE_INVALID, "invalid object storage URL \"%s\"", url),
							"It is s3://BUCKET/PREFIX or file:///DIRECTORY.");
	if (err == NULL)
		(*store)->url = pg_strdup(url);
	return err;
}

void
object_store_close(ObjectStore *store)
{
	if (store == NULL)
		return;
	free(store->url);
	store->backend->close(store);
}

const char *
object_store_url(const ObjectStore *store)
{
	return store->url;
}

bool
object_is_missing(const PsError *err)
{
	return err != NULL && !err->is_cancel && ps_error_is(err, PS_SQLSTATE_NOT_FOUND);
}

PsError *
object_wait_check(const ObjectWait *wait)
{
	if (wait == NULL)
		return NULL;
	if (wait->deadline != 0 && clock_now_ms() >= wait->deadline)
		return ps_error(PS_SQLSTATE_TRY_AGAIN, "object storage did not answer in time");
	return cancel_check(wait->cancel);
}

/* is_prefix: the last part may be anything, or nothing. */
static PsError *
check_key(const ObjectStore *store, const char *key, bool is_prefix)
{
	size_t len = strlen(key);
	bool valid = len <= OBJECT_KEY_MAX && (is_prefix || (len > 0 && key[len - 1] != '/'));

	for (size_t i = 0; valid && i < len; i++)
	{
		bool starts_part = i == 0 || key[i - 1] == '/';

		valid = starts_part ? key[i] != '/' && key[i] != '.' : true;
		valid = valid && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/", key[i]) != NULL;
	}
	if (valid)
		return NULL;
	return ps_error(PS_SQLSTATE_INVALID, "invalid key \"%s\" of an object in \"%s\"", key, store->url);
}

PsError *
object_put_once(ObjectStore *store, const char *key, const void *data, size_t len, const ObjectWait *wait,
				ObjectOutcome *outcome)
{
	*outcome = OBJECT_NOT_DONE;
	PS_TRY(check_key(store, key, false));
	return store->backend->put(store, key, data, len, true, wait, outcome);
}

PsError *
object_put(ObjectStore *store, const char *key, const void *data, size_t len, const ObjectWait *wait)
{
	ObjectOutcome outcome = OBJECT_NOT_DONE;

	PS_TRY(check_key(store, key, false));
	return store->backend->put(store, key, data, len, false, wait, &outcome);
}

PsError *
object_put_file(ObjectStore *store, const char *key, const char *path, const ObjectWait *wait)
{
	PS_TRY(check_key(store, key, false));
	return store->backend->put_file(store, key, path, wait);
}

/* Where object_get() collects an object. */
typedef struct Whole
{
	char *data;
	size_t len;
	size_t allocated;
	size_t max;
} Whole;

static PsError *
add_to_whole(void *arg, const char *data, size_t len)
{
	Whole *whole = arg;

	if (len > whole->max - whole->len)
		return ps_error(PS_SQLSTATE_CORRUPTED, "the object is larger than %zu bytes", whole->max);
	if (whole->len + len > whole->allocated)
	{
		size_t size = Min(Max(whole->allocated * 2, whole->len + len), whole->max);
		char *larger = realloc(whole->data, size);

		if (larger == NULL)
			return ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "no memory for an object of at least %zu bytes",
							whole->len + len);
		whole->data = larger;
		whole->allocated = size;
	}
	memcpy(whole->data + whole->len, data, len);
	whole->len += len;
	return NULL;
}

PsError *
object_get(ObjectStore *store, const char *key, size_t max, void **data, size_t *len, const ObjectWait *wait)
{
	Whole whole = {.data = pg_malloc(1), .allocated = 1, .max = max};
	ByteSink sink = {add_to_whole, &whole};
	PsError *err = check_key(store, key, false);

	*data = NULL;
	*len = 0;
	if (err == NULL)
		err = store->backend->read(store, key, 0, -1, &sink, wait);
	if (err != NULL)
	{
		free(whole.data);
		return err;
	}
	*data = whole.data;
	*len = whole.len;
	return NULL;
}

/* Where object_get_range() puts its part. */
typedef struct Part
{
	char *buf;
	size_t len;
	size_t size;
} Part;

static PsError *
add_to_part(void *arg, const char *data, size_t len)
{
	Part *part = arg;

	if (len > part->size - part->len)
		return ps_error(PS_SQLSTATE_CORRUPTED, "more than the %zu bytes that were asked for", part->size);
	memcpy(part->buf + part->len, data, len);
	part->len += len;
	return NULL;
}

PsError *
object_get_range(ObjectStore *store, const char *key, int64 offset, size_t len, void *buf, size_t *got,
				 const ObjectWait *wait)
{
	Part part = {.buf = buf, .size = len};
	ByteSink sink = {add_to_part, &part};
	PsError *err = check_key(store, key, false);

	if (err == NULL && len > 0)
		err = store->backend->read(store, key, offset, len, &sink, wait);
	*got = part.len;
	return err;
}

PsError *
object_read(ObjectStore *store, const char *key, int64 offset, const ByteSink *sink, const ObjectWait *wait)
{
	PS_TRY(check_key(store, key, false));
	return store->backend->read(store, key, offset, -1, sink, wait);
}

PsError *
object_list(ObjectStore *store, const char *prefix, const char *after, bool folders, const ObjectListSink *sink,
			const ObjectWait *wait)
{
	prefix = prefix != NULL ? prefix : "";
	after = after != NULL ? after : "";
	PS_TRY(check_key(store, prefix, true));
	PS_TRY(check_key(store, after, true));
	return store->backend->list(store, prefix, after, folders, sink, wait);
}

PsError *
object_delete(ObjectStore *store, const char *const *keys, int nkeys, const ObjectWait *wait)
{
	for (int i = 0; i < nkeys; i++)
		PS_TRY(check_key(store, keys[i], false));
	return nkeys > 0 ? store->backend->delete_keys(store, keys, nkeys, wait) : NULL;
}
