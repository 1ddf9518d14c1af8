/*
 * object_s3.c
 *	  Object storage in S3, and in what speaks its protocol; see object.h.
 *
 * The only condition that is used is If-None-Match: * of a PUT.  It is atomic in the
 * services that have it; deletes, completed multipart uploads and If-Match differ, or
 * ignore it.
 */
#include "ps_fe.h"

#include <openssl/evp.h>

#include "remote/s3_impl.h"
#include "sqlstate.h"

#define DELETES_PER_REQUEST 1000
#define MAX_LIST_BODY       (8 * 1024 * 1024) /* 1000 objects with all that is said of them */

/* ---- read ---- */

/* A part of an object that is read, perhaps by several requests: each continues where the one before failed. */
typedef struct Read
{
	const ByteSink *sink;
	const HttpAnswer *answer; /* of the request that is running */
	int64 begin;              /* where that starts */
	int64 offset;             /* of the next byte */
	int64 end;                /* -1: that of the object */
	int64 total;              /* bytes of the object, as the first answer said; -1: there was none yet */
	char range[64];
} Read;

static bool
prepare_read(void *arg)
{
	Read *read = arg;

	if (read->offset == read->end)
		return false;
	read->begin = read->offset;
	if (read->end < 0)
		snprintf(read->range, sizeof(read->range), "bytes=%lld-", (long long) read->offset);
	else
		snprintf(read->range, sizeof(read->range), "bytes=%lld-%lld", (long long) read->offset,
				 (long long) read->end - 1);
	return true;
}

/* An answer begins: is it the part that was asked for, of an object of the same size as before? */
static PsError *
check_range(Read *read)
{
	const HttpAnswer *answer = read->answer;

	if (answer->content_first < 0 || answer->content_total < 0)
		return ps_error(PS_SQLSTATE_CORRUPTED, "object storage does not say which part of an object it sent");
	if (answer->content_first != read->begin)
		return ps_error(PS_SQLSTATE_CORRUPTED, "object storage sent an object from byte %lld on, expected %lld",
						(long long) answer->content_first, (long long) read->begin);
	if (read->total >= 0 && answer->content_total != read->total)
		return ps_error(PS_SQLSTATE_CORRUPTED, "the size of an object in object storage has changed from %lld to %lld",
						(long long) read->total, (long long) answer->content_total);
	read->total = answer->content_total;
	return NULL;
}

static PsError *
write_read(void *arg, const char *data, size_t len)
{
	Read *read = arg;
	int64 end;

	if (read->offset == read->begin)
		PS_TRY(check_range(read));
	/* not more than was asked for, whatever the service sends */
	end = read->end >= 0 ? Min(read->end, read->total) : read->total;
	if ((int64) len > end - read->offset)
		return ps_error(PS_SQLSTATE_CORRUPTED, "object storage sent more than it was asked for");
	PS_TRY(read->sink->write(read->sink->arg, data, len));
	read->offset += len;
	return NULL;
}

/* 416 means that the offset is at the end of the object, or behind it: is that possible? */
static PsError *
check_end(const Read *read, int64 total)
{
	total = Max(total, read->total);
	if (read->offset >= total)
		return NULL;
	return ps_error(PS_SQLSTATE_CORRUPTED, "object storage has nothing at byte %lld of an object of %lld bytes",
					(long long) read->offset, (long long) total);
}

/* Is all there that was asked for? */
static PsError *
check_read(void *arg, const HttpAnswer *answer, S3Error *error)
{
	Read *read = arg;
	int64 end = answer->content_total;

	if (answer->status != 206 || end < 0)
	{
		if (s3_xml_error(answer->body.data, answer->body.len, error))
			return NULL;
		return ps_error(PS_SQLSTATE_CORRUPTED,
						"object storage does not say which part of an object it sent (status %d)",
						answer->status);
	}
	if (read->end >= 0)
		end = Min(end, read->end);
	if (read->offset == end)
		return NULL;
	return ps_error(PS_SQLSTATE_CORRUPTED, "object storage sent an object up to byte %lld, expected %lld",
					(long long) read->offset, (long long) end);
}

static PsError *
s3_read(ObjectStore *base, const char *key, int64 offset, int64 len, const ByteSink *sink, const ObjectWait *wait)
{
	S3Store *store = (S3Store *) base;
	Read read = {.sink = sink, .offset = offset, .end = len < 0 ? -1 : offset + len, .total = -1};
	ByteSink through = {write_read, &read};
	S3Request request = {
		.method = "GET",
		.key = key,
		.sink = &through,
		.sink_status = 206,
		.prepare = prepare_read,
		.parse = check_read,
		.arg = &read,
	};
	PsError *err;

	read.answer = &request.answer;
	s3_add_header(&request, "range", read.range);
	s3_add_customer_headers(store, &request);
	err = s3_send(store, &request, wait);
	if (err == NULL && request.answer.status == 416)
		err = check_end(&read, request.answer.content_total);
	else if (err == NULL && request.answer.status != 0)
		err = s3_expect_success(store, &request);
	s3_request_free(&request);
	return err != NULL && !err->is_cancel ? ps_error_context(err, "object \"%s\"", key) : err;
}

/* ---- put ---- */

/* What an object is compared with, as it is read. */
typedef struct Comparison
{
	const char *data; /* that have not been compared */
	size_t len;
	bool differs;
} Comparison;

static PsError *
compare_part(void *arg, const char *data, size_t len)
{
	Comparison *comparison = arg;

	comparison->differs = len > comparison->len || memcmp(data, comparison->data, len) != 0;
	if (comparison->differs)
		return ps_error(PS_SQLSTATE_STATE, "the contents differ");
	comparison->data += len;
	comparison->len -= len;
	return NULL;
}

/*
 * Is the object equal to this?  It is if one's own request, whose answer was lost, has
 * created it.  An error if that cannot be known.
 */
static PsError *
compare_object(S3Store *store, const char *key, const void *data, size_t len, const ObjectWait *wait, bool *equal)
{
	Comparison comparison = {data, len, false};
	ByteSink sink = {compare_part, &comparison};
	PsError *err = s3_read(&store->base, key, 0, -1, &sink, wait);

	*equal = err == NULL && comparison.len == 0;
	/* different, or deleted since: somebody else's */
	if (comparison.differs || object_is_missing(err))
	{
		ps_error_free(err);
		return NULL;
	}
	return err;
}

static PsError *
s3_put(ObjectStore *base, const char *key, const void *data, size_t len, bool once, const ObjectWait *wait,
	   ObjectOutcome *outcome)
{
	S3Store *store = (S3Store *) base;
	S3Request request = {
		.method = "PUT",
		.key = key,
		.has_body = true,
		.body = data != NULL ? data : "",
		.body_len = len,
		.parse = s3_parse_put,
	};
	bool equal;
	PsError *err;

	if (once)
		s3_add_header(&request, "if-none-match", "*");
	s3_add_write_headers(store, &request);
	s3_add_customer_headers(store, &request);
	err = s3_send(store, &request, wait);
	if (err == NULL && once && request.answer.status == 412)
	{
		*outcome = OBJECT_UNKNOWN;
		err = compare_object(store, key, data, len, wait, &equal);
		if (err == NULL)
			*outcome = equal ? OBJECT_DONE : OBJECT_EXISTS;
		s3_request_free(&request);
		return err;
	}
	if (err == NULL)
		err = s3_expect_success(store, &request);
	*outcome = err == NULL ? OBJECT_DONE : request.in_doubt ? OBJECT_UNKNOWN
															: OBJECT_NOT_DONE;
	s3_request_free(&request);
	return err;
}

/* ---- list ---- */

typedef struct Item
{
	char *key; /* without the store's prefix */
	int64 size;
} Item;

/* One page, collected: an answer that ends early is asked for again. */
typedef struct Page
{
	S3Store *store;
	Item *items;
	int n;
	const char *last[2]; /* key of the last object, of the last folder; or NULL */
	char *token;
} Page;

static void
clear_page(Page *page)
{
	for (int i = 0; i < page->n; i++)
		free(page->items[i].key);
	free(page->items);
	free(page->token);
	*page = (Page) {.store = page->store};
}

/* The newest claim or log entry is the first one of a list, so its order matters. */
static PsError *
wrong_order(const char *key, const char *before)
{
	return ps_error_hint(ps_error(PS_SQLSTATE_CORRUPTED, "object storage listed \"%s\" after \"%s\"", key, before),
						 "Lists must be in the order of keys.  Those of S3's directory buckets are not.");
}

static PsError *
add_item(void *arg, const char *key, int64 size)
{
	Page *page = arg;
	size_t len = strlen(page->store->prefix);
	const char **last = &page->last[size < 0];

	if (strncmp(key, page->store->prefix, len) != 0)
		return ps_error(PS_SQLSTATE_CORRUPTED, "object storage listed \"%s\", which does not start with \"%s\"", key,
						page->store->prefix);
	if (*last != NULL && strcmp(key + len, *last) <= 0)
		return wrong_order(key + len, *last);
	/* doubled when it is full, at powers of two */
	if ((page->n & (page->n - 1)) == 0)
		page->items = pg_realloc(page->items, Max(page->n * 2, 1) * sizeof(Item));
	page->items[page->n++] = (Item) {pg_strdup(key + len), size};
	*last = page->items[page->n - 1].key;
	return NULL;
}

static PsError *
parse_page(void *arg, const HttpAnswer *answer, S3Error *error)
{
	Page *page = arg;
	S3ListSink sink = {add_item, page};

	clear_page(page);
	return s3_xml_list(answer->body.data, answer->body.len, &sink, &page->token, error);
}

static int
compare_items(const void *a, const void *b)
{
	return strcmp(((const Item *) a)->key, ((const Item *) b)->key);
}

static PsError *
list_page(S3Store *store, const char *prefix, const char *after, bool folders, const char *token, Page *page,
		  const ObjectWait *wait)
{
	S3Request request = {.method = "GET", .max_body = MAX_LIST_BODY, .parse = parse_page, .arg = page};
	char *full_prefix = psprintf("%s%s", store->prefix, prefix);
	char *full_after = psprintf("%s%s", store->prefix, after);
	PsError *err;

	s3_add_query(&request, "list-type", "2");
	s3_add_query(&request, "prefix", full_prefix);
	if (folders)
		s3_add_query(&request, "delimiter", "/");
	if (token != NULL)
		s3_add_query(&request, "continuation-token", token);
	else if (after[0] != '\0')
		s3_add_query(&request, "start-after", full_after);
	err = s3_send(store, &request, wait);
	if (err == NULL)
		err = s3_expect_success(store, &request);
	s3_request_free(&request);
	free(full_prefix);
	free(full_after);
	return err;
}

static PsError *
s3_list(ObjectStore *base, const char *prefix, const char *after, bool folders, const ObjectListSink *sink,
		const ObjectWait *wait)
{
	S3Store *store = (S3Store *) base;
	char *token = NULL;
	char *last = NULL; /* key of the page before */
	bool stop = false;
	PsError *err;

	do
	{
		Page page = {.store = store};

		err = list_page(store, prefix, after, folders, token, &page, wait);
		/* folders come behind the objects of their page */
		if (page.n > 1)
			qsort(page.items, page.n, sizeof(Item), compare_items);
		if (err == NULL && page.n > 0 && last != NULL && strcmp(page.items[0].key, last) < 0)
			err = wrong_order(page.items[0].key, last);
		if (err == NULL && token != NULL && page.token != NULL && strcmp(token, page.token) == 0)
			err = ps_error(PS_SQLSTATE_CORRUPTED, "a list of object storage does not end");
		for (int i = 0; err == NULL && !stop && i < page.n; i++)
		{
			ObjectInfo info = {page.items[i].key, page.items[i].size};

			/* of a folder that was the last one there may be more objects */
			if (strcmp(info.key, after) > 0 && (last == NULL || strcmp(info.key, last) > 0))
				err = sink->item(sink->arg, &info, &stop);
		}
		free(token);
		token = page.token;
		page.token = NULL;
		if (page.n > 0)
		{
			free(last);
			last = pg_strdup(page.items[page.n - 1].key);
		}
		clear_page(&page);
	} while (err == NULL && !stop && token != NULL);
	free(token);
	free(last);
	return err;
}

/* ---- delete ---- */

static PsError *
parse_deleted(void *arg, const HttpAnswer *answer, S3Error *error)
{
	int nfailed;

	return s3_xml_deleted(answer->body.data, answer->body.len, &nfailed, error);
}

static PsError *
delete_one(S3Store *store, const char *key, const ObjectWait *wait)
{
	S3Request request = {.method = "DELETE", .key = key};
	PsError *err = s3_send(store, &request, wait);

	if (err == NULL && request.answer.status != 404)
		err = s3_expect_success(store, &request);
	s3_request_free(&request);
	return err;
}

/* Deletes many with one request.  *supported false: the service has no such request. */
static PsError *
delete_many(S3Store *store, const char *const *keys, int nkeys, const ObjectWait *wait, bool *supported)
{
	S3Request request = {.method = "POST", .has_body = true, .parse = parse_deleted};
	uint8 digest[EVP_MAX_MD_SIZE];
	unsigned digest_len;
	char md5[64];
	StringInfoData body;
	PsError *err;

	initStringInfo(&body);
	s3_xml_put_delete(&body, store->prefix, keys, nkeys);
	EVP_Digest(body.data, body.len, digest, &digest_len, EVP_md5(), NULL);
	EVP_EncodeBlock((uint8 *) md5, digest, digest_len);
	request.body = body.data;
	request.body_len = body.len;
	s3_add_query(&request, "delete", "");
	s3_add_header(&request, "content-md5", md5);
	err = s3_send(store, &request, wait);
	*supported = err == NULL || (request.answer.status != 501 && request.answer.status != 405 &&
								 strcmp(request.error.code, "NotImplemented") != 0);
	if (err == NULL)
		err = s3_expect_success(store, &request);
	s3_request_free(&request);
	pfree(body.data);
	return err;
}

static PsError *
s3_delete(ObjectStore *base, const char *const *keys, int nkeys, const ObjectWait *wait)
{
	S3Store *store = (S3Store *) base;

	while (nkeys > 0)
	{
		int n = Min(nkeys, DELETES_PER_REQUEST);
		bool supported = n > 1 && !__atomic_load_n(&store->no_multiple_deletes, __ATOMIC_RELAXED);
		PsError *err = NULL;

		if (supported)
		{
			err = delete_many(store, keys, n, wait, &supported);
			if (!supported)
			{
				ps_error_free(err);
				err = NULL;
				__atomic_store_n(&store->no_multiple_deletes, true, __ATOMIC_RELAXED);
			}
		}
		if (!supported)
			for (int i = 0; err == NULL && i < n; i++)
				err = delete_one(store, keys[i], wait);
		PS_TRY(err);
		keys += n;
		nkeys -= n;
	}
	return NULL;
}

const ObjectBackend s3_backend = {s3_store_close, s3_put, s3_put_file, s3_read, s3_list, s3_delete};
