/*
 * t_object_s3.c
 *	  Object storage in S3, against a small S3 in this process that fails in the ways
 *	  of real ones.  (Signatures are the matter of t_sign; here they are only there.)
 */
#include "ps_fe.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/stringinfo.h"

#include "base/clock.h"
#include "http_server.h"
#include "remote/object.h"
#include "sqlstate.h"

#define MAX_OBJECTS 100
#define PAGE        3 /* keys of a page of a list */

typedef struct Object
{
	char *key;
	char *data;
	size_t len;
} Object;

/* What the next request of this method does, once; before it, "skip" others of the method go on as usual. */
typedef struct Fault
{
	const char *method;
	int skip;
	int status;         /* answered instead of executing it, if it is not 0 */
	const char *code;   /* in an <Error> with that status; NULL: an empty body */
	const char *header; /* of that answer */
	bool execute;       /* execute it all the same */
	ServerFault fault;  /* of the connection, after executing it */
	bool whole;         /* a GET: the whole object with status 200, whatever the range */
	bool brief;         /* a GET: half of the bytes that it says are there, with no sign of an error */
	const char *range;  /* a GET: its header line instead of the right Content-Range; "": none */
} Fault;

/* The fake S3.  Changed by the server's threads, one at a time, while the test waits for them. */
static Object objects[MAX_OBJECTS];
static int nobjects;
static Fault faults[16];
static int nfaults;
static Object parts[100]; /* of the upload; the key is the part's number */
static int nparts;
static bool upload_open;
static bool no_multiple_deletes;
static const char *const *pages; /* of the next lists, instead of what there is; NULL: none */
static const char *delete_error; /* code for each key of a multiple delete; NULL: none */
static int nputs;
static StringInfoData last_headers; /* of the last request that was executed */

static HttpServer *server;
static ObjectStore *store;

static Object *
find(const char *key)
{
	for (int i = 0; i < nobjects; i++)
		if (strcmp(objects[i].key, key) == 0)
			return &objects[i];
	return NULL;
}

static void
set_object(const char *key, const char *data, size_t len)
{
	Object *object = find(key);

	if (object == NULL)
	{
		object = &objects[nobjects++];
		object->key = strdup(key);
		object->data = NULL;
	}
	free(object->data);
	object->data = malloc(len + 1);
	memcpy(object->data, data, len);
	object->len = len;
}

static void
remove_object(const char *key)
{
	Object *object = find(key);

	if (object == NULL)
		return;
	free(object->key);
	free(object->data);
	*object = objects[--nobjects];
}

static void
answer_error(ServerAnswer *answer, int status, const char *code)
{
	char *body =
		code != NULL
			? psprintf("<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>of the test</Message></Error>", code)
			: strdup("");

	server_answer_text(answer, status, body);
	free(body);
}

/* A parameter of a query, decoded; NULL: it is not there. */
static char *
parameter(const char *target, const char *name)
{
	const char *at = strchr(target, '?');
	size_t len = strlen(name);

	for (; at != NULL; at = strchr(at + 1, '&'))
		if (strncmp(at + 1, name, len) == 0 && at[len + 1] == '=')
		{
			char *value = strndup(at + len + 2, strcspn(at + len + 2, "&"));
			char *to = value;

			for (char *from = value; *from != '\0'; from++)
			{
				unsigned c = *from;

				if (*from == '%' && sscanf(from + 1, "%2x", &c) == 1)
					from += 2;
				*to++ = c;
			}
			*to = '\0';
			return value;
		}
	return NULL;
}

static int
compare_objects(const void *a, const void *b)
{
	return strcmp(((const Object *) a)->key, ((const Object *) b)->key);
}

static void
list(const ServerRequest *request, ServerAnswer *answer)
{
	char *prefix = parameter(request->target, "prefix");
	char *after = parameter(request->target, "start-after");
	char *token = parameter(request->target, "continuation-token");
	char *delimiter = parameter(request->target, "delimiter");
	const char *from = token != NULL ? token : after != NULL ? after
															 : "";
	char last_folder[600] = "";
	const char *last = NULL;
	int n = 0;
	bool truncated = false;
	StringInfoData items;

	if (pages != NULL)
	{
		/* the last one again and again */
		server_answer_text(answer, 200, pages[0]);
		if (pages[1] != NULL)
			pages++;
		free(prefix);
		free(after);
		free(token);
		free(delimiter);
		return;
	}
	initStringInfo(&items);
	qsort(objects, nobjects, sizeof(Object), compare_objects);
	for (int i = 0; i < nobjects && !truncated; i++)
	{
		const char *key = objects[i].key;
		const char *slash;

		/* a folder that was listed is behind all that is in it */
		if (strncmp(key, prefix, strlen(prefix)) != 0 || strcmp(key, from) <= 0 ||
			(token != NULL && token[strlen(token) - 1] == '/' && strncmp(key, token, strlen(token)) == 0))
			continue;
		slash = delimiter != NULL ? strchr(key + strlen(prefix), '/') : NULL;
		if (slash != NULL && strncmp(last_folder, key, slash + 1 - key) == 0 && last_folder[slash + 1 - key] == '\0')
			continue;
		if (n == PAGE)
		{
			truncated = true;
			break;
		}
		n++;
		if (slash != NULL)
		{
			snprintf(last_folder, sizeof(last_folder), "%.*s", (int) (slash + 1 - key), key);
			appendStringInfo(&items, "<CommonPrefixes><Prefix>%s</Prefix></CommonPrefixes>", last_folder);
			last = last_folder;
		}
		else
		{
			appendStringInfo(&items, "<Contents><Key>%s</Key><Size>%zu</Size></Contents>", key, objects[i].len);
			last = key;
		}
	}
	{
		char *body = psprintf(
			"<ListBucketResult>%s<IsTruncated>%s</IsTruncated><NextContinuationToken>%s</NextContinuationToken>"
			"</ListBucketResult>",
			items.data, truncated ? "true" : "false", truncated ? last : "");

		server_answer_text(answer, 200, body);
		free(body);
	}
	pfree(items.data);
	free(prefix);
	free(after);
	free(token);
	free(delimiter);
}

static void
get(const ServerRequest *request, ServerAnswer *answer, const char *key, bool whole)
{
	Object *object = find(key);
	char *range = server_request_header(request, "range");
	long long first = 0;
	long long last = INT64CONST(1) << 60;

	if (object == NULL)
		answer_error(answer, 404, "NoSuchKey");
	else if (range == NULL || whole)
	{
		answer->body = malloc(object->len + 1);
		memcpy(answer->body, object->data, object->len);
		answer->body_len = object->len;
	}
	else if (sscanf(range, "bytes=%lld-%lld", &first, &last) < 1 || first >= object->len)
		answer_error(answer, 416, "InvalidRange");
	else
	{
		answer->status = 206;
		answer->body_len = Min(last + 1, object->len) - first;
		answer->body = malloc(answer->body_len);
		memcpy(answer->body, object->data + first, answer->body_len);
		answer->headers = psprintf("Content-Range: bytes %lld-%lld/%zu\r\n", first,
								   first + (long long) answer->body_len - 1,
								   object->len);
	}
	free(range);
}

static void
put(const ServerRequest *request, ServerAnswer *answer, const char *key)
{
	char *condition = server_request_header(request, "if-none-match");
	char *part = parameter(request->target, "partNumber");

	nputs++;
	if (part != NULL)
	{
		Object *p = &parts[nparts++];

		*p = (Object) {strdup(part), malloc(request->body_len + 1), request->body_len};
		memcpy(p->data, request->body, request->body_len);
		answer->headers = psprintf("ETag: \"part%s\"\r\n", part);
		if (!upload_open)
			answer_error(answer, 404, "NoSuchUpload");
	}
	else if (condition != NULL && find(key) != NULL)
		answer_error(answer, 412, "PreconditionFailed");
	else
	{
		set_object(key, request->body, request->body_len);
		answer->headers = strdup("ETag: \"e\"\r\n");
	}
	free(condition);
	free(part);
}

static void
post(const ServerRequest *request, ServerAnswer *answer, const char *key)
{
	if (strstr(request->target, "?uploads=") != NULL)
	{
		upload_open = true;
		server_answer_text(answer, 200,
						   "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>");
	}
	else if (strstr(request->target, "uploadId=u1") != NULL && upload_open)
	{
		StringInfoData all;

		/* the parts in the order of the request, the last of each number */
		initStringInfo(&all);
		for (int number = 1;; number++)
		{
			char *wanted = psprintf("<PartNumber>%d</PartNumber><ETag>&quot;part%d&quot;</ETag>", number, number);
			bool there = strstr(request->body, wanted) != NULL;
			Object *part = NULL;

			free(wanted);
			if (!there)
				break;
			for (int i = 0; i < nparts; i++)
				if (atoi(parts[i].key) == number)
					part = &parts[i];
			appendBinaryStringInfo(&all, part->data, part->len);
		}
		set_object(key, all.data, all.len);
		pfree(all.data);
		upload_open = false;
		server_answer_text(answer, 200,
						   "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>");
	}
	else if (strstr(request->target, "?delete=") != NULL && no_multiple_deletes)
		answer_error(answer, 501, "NotImplemented");
	else if (strstr(request->target, "?delete=") != NULL && delete_error != NULL)
	{
		char *text = psprintf("<DeleteResult><Error><Key>k</Key><Code>%s</Code></Error></DeleteResult>", delete_error);

		server_answer_text(answer, 200, text);
		free(text);
	}
	else if (strstr(request->target, "?delete=") != NULL)
	{
		for (const char *at = request->body; (at = strstr(at, "<Key>")) != NULL; at++)
		{
			char *name = strndup(at + 5, strcspn(at + 5, "<"));

			remove_object(name);
			free(name);
		}
		server_answer_text(answer, 200, "<DeleteResult></DeleteResult>");
	}
	else
		answer_error(answer, 404, "NoSuchUpload");
}

static void
execute(const ServerRequest *request, ServerAnswer *answer, bool whole)
{
	char *path = strndup(request->target, strcspn(request->target, "?"));
	const char *key = strncmp(path, "/bucket/", 8) == 0 ? path + 8 : NULL;

	resetStringInfo(&last_headers);
	appendStringInfoString(&last_headers, request->headers);
	if (key == NULL || strstr(request->headers, "authorization: AWS4-HMAC-SHA256 Credential=") == NULL)
		answer_error(answer, 400, "InvalidRequest");
	else if (strcmp(request->method, "GET") == 0 && key[0] == '\0')
		list(request, answer);
	else if (strcmp(request->method, "GET") == 0)
		get(request, answer, key, whole);
	else if (strcmp(request->method, "PUT") == 0)
		put(request, answer, key);
	else if (strcmp(request->method, "POST") == 0)
		post(request, answer, key);
	else if (strstr(request->target, "uploadId") != NULL)
		upload_open = false;
	else
	{
		remove_object(key);
		answer->status = 204;
	}
	free(path);
}

static void
handler(void *arg, const ServerRequest *request, ServerAnswer *answer)
{
	Fault fault = {0};

	for (int i = 0; i < nfaults; i++)
		if (strcmp(faults[i].method, request->method) == 0)
		{
			if (faults[i].skip-- > 0)
				break;
			fault = faults[i];
			memmove(&faults[i], &faults[i + 1], (--nfaults - i) * sizeof(Fault));
			break;
		}
	if (fault.status == 0 || fault.execute)
		execute(request, answer, fault.whole);
	if (fault.brief)
		answer->body_len /= 2;
	if (fault.range != NULL)
	{
		free(answer->headers);
		answer->headers = strdup(fault.range);
	}
	answer->fault = fault.fault;
	if (fault.status != 0)
	{
		answer_error(answer, fault.status, fault.code);
		free(answer->headers);
		answer->headers = fault.header != NULL ? strdup(fault.header) : NULL;
	}
}

static void
add_fault(Fault fault)
{
	faults[nfaults++] = fault;
}

/* ---- tests ---- */

static void
assert_ok(PsError *err)
{
	if (err != NULL)
		fail_msg("%s: %s (%s)", err->sqlstate, err->message, err->detail != NULL ? err->detail : "");
}

static void
assert_state(PsError *err, const char *sqlstate)
{
	assert_non_null(err);
	if (strcmp(err->sqlstate, sqlstate) != 0)
		fail_msg("%s expected, got %s: %s", sqlstate, err->sqlstate, err->message);
	ps_error_free(err);
}

static int
setup(void **state)
{
	char *endpoint;
	ObjectSettings settings = {.connections = 4, .storage_class = "STANDARD_IA", .sse = "AES256", .region = "test-1"};

	nobjects = nfaults = nparts = nputs = 0;
	upload_open = no_multiple_deletes = false;
	delete_error = NULL;
	pages = NULL;
	initStringInfo(&last_headers);
	server = http_server_start(handler, NULL);
	endpoint = psprintf("http://127.0.0.1:%d", http_server_port(server));
	settings.endpoint = endpoint;
	setenv("AWS_ACCESS_KEY_ID", "test", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "testtest", 1);
	assert_ok(object_store_open("s3://bucket/pre/fix/", &settings, &store));
	free(endpoint);
	return 0;
}

static int
teardown(void **state)
{
	object_store_close(store);
	http_server_stop(server);
	while (nobjects > 0)
		remove_object(objects[0].key);
	for (int i = 0; i < nparts; i++)
	{
		free(parts[i].key);
		free(parts[i].data);
	}
	pfree(last_headers.data);
	return 0;
}

static void
put_ok(const char *key, const char *text)
{
	assert_ok(object_put(store, key, text, strlen(text), NULL));
}

static void
assert_object(const char *key, const char *text)
{
	void *data;
	size_t len;

	assert_ok(object_get(store, key, 1000, &data, &len, NULL));
	assert_int_equal(len, strlen(text));
	assert_memory_equal(data, text, len);
	free(data);
}

static ObjectOutcome
put_once(const char *key, const char *text)
{
	ObjectOutcome outcome;

	assert_ok(object_put_once(store, key, text, strlen(text), NULL, &outcome));
	return outcome;
}

static void
test_put_get(void **state)
{
	char buf[10];
	size_t got;
	void *data;
	size_t len;

	put_ok("a/1", "0123456789");
	assert_non_null(find("pre/fix/a/1"));
	assert_non_null(strstr(last_headers.data, "x-amz-server-side-encryption: AES256"));
	assert_non_null(strstr(last_headers.data, "x-amz-storage-class: STANDARD_IA"));
	assert_non_null(strstr(last_headers.data, "/test-1/s3/aws4_request"));
	assert_object("a/1", "0123456789");
	assert_null(strstr(last_headers.data, "x-amz-server-side-encryption"));
	put_ok("a/empty", "");
	assert_object("a/empty", "");
	assert_ok(object_get_range(store, "a/1", 2, 3, buf, &got, NULL));
	assert_int_equal(got, 3);
	assert_memory_equal(buf, "234", 3);
	assert_ok(object_get_range(store, "a/1", 8, 10, buf, &got, NULL));
	assert_int_equal(got, 2);
	assert_ok(object_get_range(store, "a/1", 10, 10, buf, &got, NULL));
	assert_int_equal(got, 0);
	assert_state(object_get(store, "a/1", 9, &data, &len, NULL), PS_SQLSTATE_CORRUPTED);
	assert_state(object_get(store, "a/2", 9, &data, &len, NULL), PS_SQLSTATE_NOT_FOUND);
}

static void
test_put_once(void **state)
{
	ObjectWait wait = {.deadline = 0};
	ObjectOutcome outcome;

	assert_int_equal(put_once("o/1", "mine"), OBJECT_DONE);
	assert_int_equal(put_once("o/1", "other"), OBJECT_EXISTS);
	assert_int_equal(put_once("o/1", "mine"), OBJECT_DONE);
	assert_int_equal(put_once("o/1", "mi"), OBJECT_EXISTS);

	/* executed, and the answer lost: the next attempt is told 412 */
	add_fault((Fault) {"PUT", .fault = SERVER_CLOSES});
	assert_int_equal(put_once("o/lost", "mine"), OBJECT_DONE);
	add_fault((Fault) {"PUT", .status = 500, .code = "InternalError", .execute = true});
	assert_int_equal(put_once("o/internal", "mine"), OBJECT_DONE);
	add_fault((Fault) {"PUT", .status = 409, .code = "ConditionalRequestConflict"});
	assert_int_equal(put_once("o/conflict", "mine"), OBJECT_DONE);

	/* the wait ends while it is open whether it was executed */
	wait.deadline = clock_now_ms() + 300;
	for (int i = 0; i < 15; i++)
		add_fault((Fault) {"PUT", .status = 500, .code = "InternalError", .execute = true});
	assert_state(object_put_once(store, "o/open", "mine", 4, &wait, &outcome), PS_SQLSTATE_TRY_AGAIN);
	assert_int_equal(outcome, OBJECT_UNKNOWN);
	nfaults = 0;
	assert_int_equal(put_once("o/open", "mine"), OBJECT_DONE);

	/* refused: it was not */
	add_fault((Fault) {"PUT", .status = 403, .code = "AccessDenied"});
	assert_state(object_put_once(store, "o/denied", "mine", 4, NULL, &outcome), PS_SQLSTATE_STATE);
	assert_int_equal(outcome, OBJECT_NOT_DONE);

	/* refused after an attempt whose connection was closed, which libcurl repeats by itself */
	put_ok("o/open", "mine");
	add_fault((Fault) {"PUT", .fault = SERVER_CLOSES});
	add_fault((Fault) {"PUT", .status = 403, .code = "AccessDenied"});
	assert_state(object_put_once(store, "o/again", "mine", 4, NULL, &outcome), PS_SQLSTATE_STATE);
	assert_int_equal(outcome, OBJECT_UNKNOWN);

	/* executed, the answer lost, and what is there cannot be read: that does not make it somebody else's */
	add_fault((Fault) {"PUT", .fault = SERVER_CLOSES});
	add_fault((Fault) {"GET", .range = "Content-Range: bytes 1-4/5\r\n"});
	assert_state(object_put_once(store, "o/unreadable", "mine", 4, NULL, &outcome), PS_SQLSTATE_CORRUPTED);
	assert_int_equal(outcome, OBJECT_UNKNOWN);
	assert_int_equal(put_once("o/unreadable", "mine"), OBJECT_DONE);
	assert_int_equal(put_once("o/unreadable", "minx"), OBJECT_EXISTS);
	assert_int_equal(put_once("o/unreadable", "mine2"), OBJECT_EXISTS);

	/* refused after an attempt that may have been */
	add_fault((Fault) {"PUT", .status = 500, .execute = true});
	add_fault((Fault) {"PUT", .status = 403, .code = "AccessDenied"});
	assert_state(object_put_once(store, "o/both", "mine", 4, NULL, &outcome), PS_SQLSTATE_STATE);
	assert_int_equal(outcome, OBJECT_UNKNOWN);
}

static void
test_repeated(void **state)
{
	int64 begin;

	/* an error inside a 200, none with a code, a gateway's */
	add_fault((Fault) {"PUT", .status = 200, .code = "InternalError"});
	add_fault((Fault) {"PUT", .status = 500});
	add_fault((Fault) {"PUT", .status = 502});
	put_ok("r/1", "x");
	assert_object("r/1", "x");

	begin = clock_now_ms();
	add_fault((Fault) {"GET", .status = 503, .code = "SlowDown", .header = "Retry-After: 1\r\n"});
	assert_object("r/1", "x");
	assert_true(clock_now_ms() - begin >= 1000);

	/* 503 and 400 without a body */
	add_fault((Fault) {"GET", .status = 503});
	assert_object("r/1", "x");
	add_fault((Fault) {"GET", .status = 400});
	{
		void *data;
		size_t len;

		assert_state(object_get(store, "r/1", 10, &data, &len, NULL), PS_SQLSTATE_STATE);
		add_fault((Fault) {"GET", .status = 404, .code = "NoSuchBucket"});
		assert_state(object_get(store, "r/1", 10, &data, &len, NULL), PS_SQLSTATE_STATE);
	}
}

/* An <Error> in a 200 is not a success, also if its code is one that callers expect with other statuses. */
static void
test_errors_in_success(void **state)
{
	ObjectOutcome outcome;
	void *data;
	size_t len;

	put_ok("e/1", "x");
	add_fault((Fault) {"GET", .status = 200, .code = "NoSuchKey"});
	assert_state(object_get(store, "e/1", 10, &data, &len, NULL), PS_SQLSTATE_STATE);
	add_fault((Fault) {"PUT", .status = 200, .code = "PreconditionFailed"});
	assert_state(object_put_once(store, "e/2", "x", 1, NULL, &outcome), PS_SQLSTATE_STATE);
	assert_int_equal(outcome, OBJECT_NOT_DONE);
	add_fault((Fault) {"PUT", .status = 200, .code = "NoSuchKey"});
	assert_state(object_put(store, "e/3", "x", 1, NULL), PS_SQLSTATE_STATE);
}

/* A 404 of a proxy, whose service is being restarted, say, does not mean that there is no such object. */
static void
test_not_found(void **state)
{
	ObjectWait wait = {0};
	ObjectOutcome outcome;
	void *data;
	size_t len;
	PsError *err;

	put_ok("n/1", "x");
	add_fault((Fault) {"GET", .status = 404});
	assert_object("n/1", "x");
	add_fault((Fault) {"PUT", .status = 404});
	assert_int_equal(put_once("n/2", "x"), OBJECT_DONE);
	add_fault((Fault) {"GET", .status = 404, .code = "NoSuchTenant"});
	assert_state(object_get(store, "n/1", 10, &data, &len, NULL), PS_SQLSTATE_STATE);

	for (int i = 0; i < 16; i++)
		add_fault((Fault) {"PUT", .status = 404});
	wait.deadline = clock_now_ms() + 100;
	err = object_put_once(store, "n/3", "x", 1, &wait, &outcome);
	assert_int_equal(outcome, OBJECT_NOT_DONE);
	assert_non_null(err);
	assert_non_null(strstr(err->hint, "remote_endpoint"));
	assert_state(err, PS_SQLSTATE_TRY_AGAIN);
}

/* A 200 without an ETag is not an answer of S3, but of something that was put in its place. */
static void
test_not_s3(void **state)
{
	ObjectWait wait = {0};
	ObjectOutcome outcome;
	char path[] = "/tmp/t_object_s3.XXXXXX";
	int fd = mkstemp(path);

	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
	add_fault((Fault) {"PUT", .status = 200});
	assert_int_equal(put_once("g/1", "x"), OBJECT_DONE);
	assert_object("g/1", "x");
	add_fault((Fault) {"PUT", .status = 200});
	put_ok("g/2", "x");
	assert_object("g/2", "x");
	add_fault((Fault) {"PUT", .status = 200});
	assert_ok(object_put_file(store, "g/3", path, NULL));
	assert_object("g/3", "x");
	unlink(path);

	for (int i = 0; i < 16; i++)
		add_fault((Fault) {"PUT", .status = 200});
	wait.deadline = clock_now_ms() + 100;
	assert_state(object_put_once(store, "g/4", "x", 1, &wait, &outcome), PS_SQLSTATE_TRY_AGAIN);
	assert_int_equal(outcome, OBJECT_UNKNOWN);
}

static void
test_cut_reads(void **state)
{
	/* half of it, then half of the rest, then all */
	put_ok("c/1", "0123456789abcdef");
	add_fault((Fault) {"GET", .fault = SERVER_CUTS});
	add_fault((Fault) {"GET", .fault = SERVER_CUTS});
	assert_object("c/1", "0123456789abcdef");
	assert_non_null(strstr(last_headers.data, "range: bytes=12-"));

	/* too little, with a length that is right */
	add_fault((Fault) {"GET", .brief = true});
	assert_object("c/1", "0123456789abcdef");
	assert_non_null(strstr(last_headers.data, "range: bytes=8-"));

	/* the whole object instead of the range, and an error in its place */
	add_fault((Fault) {"GET", .whole = true});
	assert_object("c/1", "0123456789abcdef");
	add_fault((Fault) {"GET", .status = 200, .code = "InternalError"});
	assert_object("c/1", "0123456789abcdef");
}

static void
test_clock_and_keys(void **state)
{
	put_ok("k/1", "x");
	/* 2030-01-01 */
	add_fault((Fault) {"GET", .status = 403, .code = "RequestTimeTooSkewed",
					   .header = "Date: Tue, 01 Jan 2030 00:00:00 GMT\r\n"});
	assert_object("k/1", "x");
	assert_non_null(strstr(last_headers.data, "x-amz-date: 20300101T0000"));

	/* a time that no signature can have is none */
	add_fault((Fault) {"GET", .status = 403, .code = "RequestTimeTooSkewed",
					   .header = "Date: Fri, 01 Jan 99999 00:00:00 GMT\r\n"});
	{
		void *data;
		size_t len;

		assert_state(object_get(store, "k/1", 10, &data, &len, NULL), PS_SQLSTATE_STATE);
	}
	assert_object("k/1", "x");
	assert_non_null(strstr(last_headers.data, "x-amz-date: 20300101T0000"));

	assert_non_null(strstr(last_headers.data, "Credential=test/"));
	add_fault((Fault) {"GET", .status = 400, .code = "ExpiredToken"});
	setenv("AWS_ACCESS_KEY_ID", "second", 1);
	assert_object("k/1", "x");
	assert_non_null(strstr(last_headers.data, "Credential=second/"));
	/* new keys do not help either */
	add_fault((Fault) {"GET", .status = 403, .code = "InvalidAccessKeyId"});
	add_fault((Fault) {"GET", .status = 403, .code = "InvalidAccessKeyId"});
	{
		void *data;
		size_t len;

		assert_state(object_get(store, "k/1", 10, &data, &len, NULL), PS_SQLSTATE_STATE);
	}
}

/* Bytes are from where they were asked for, or there is an error; and an end that the service says is the end. */
static void
test_wrong_ranges(void **state)
{
	static const char *const ranges[] = {
		"",
		"Content-Range: bytes 0-2/10\r\n",
		"Content-Range: bytes 2-4/3\r\n",
		"Content-Range: bytes */10\r\n",
	};
	char buf[10] = "?";
	void *data;
	size_t len;
	size_t got;

	put_ok("w/1", "0123456789");
	for (int i = 0; i < lengthof(ranges); i++)
	{
		add_fault((Fault) {"GET", .range = ranges[i]});
		assert_state(object_get_range(store, "w/1", 2, 3, buf, &got, NULL), PS_SQLSTATE_CORRUPTED);
		assert_int_equal(got, 0);
	}
	assert_int_equal(buf[0], '?');

	/* an end in the middle of the object, of which the attempt before said that it is longer, or the answer itself */
	add_fault((Fault) {"GET", .fault = SERVER_CUTS});
	add_fault((Fault) {"GET", .status = 416, .code = "InvalidRange"});
	assert_state(object_get(store, "w/1", 10, &data, &len, NULL), PS_SQLSTATE_CORRUPTED);
	add_fault((Fault) {"GET", .status = 416, .code = "InvalidRange", .header = "Content-Range: bytes */10\r\n"});
	assert_state(object_get(store, "w/1", 10, &data, &len, NULL), PS_SQLSTATE_CORRUPTED);

	/* another size than the attempt before said */
	add_fault((Fault) {"GET", .fault = SERVER_CUTS});
	add_fault((Fault) {"GET", .range = "Content-Range: bytes 5-9/11\r\n"});
	assert_state(object_get(store, "w/1", 10, &data, &len, NULL), PS_SQLSTATE_CORRUPTED);
	assert_int_equal(nfaults, 0);
}

typedef struct Items
{
	StringInfoData text;
	int stop_after; /* 0: never */
} Items;

static PsError *
collect(void *arg, const ObjectInfo *info, bool *stop)
{
	Items *items = arg;

	appendStringInfo(&items->text, "%s=%lld ", info->key, (long long) info->size);
	*stop = items->stop_after > 0 && --items->stop_after == 0;
	return NULL;
}

static void
assert_list(const char *prefix, const char *after, bool folders, int stop_after, const char *expected)
{
	Items items = {.stop_after = stop_after};
	ObjectListSink sink = {collect, &items};

	initStringInfo(&items.text);
	assert_ok(object_list(store, prefix, after, folders, &sink, NULL));
	assert_string_equal(items.text.data, expected);
	pfree(items.text.data);
}

static void
test_list_delete(void **state)
{
	const char *keys[] = {"l/a/1", "l/none", "l/a/2"};
	ObjectWait wait = {0};

	put_ok("l/a/1", "x");
	put_ok("l/a/2", "xx");
	put_ok("l/a-b", "xxx");
	put_ok("l/b/c/d", "");
	put_ok("l/b0", "");
	put_ok("k", "");
	assert_list("l/", NULL, false, 0, "l/a-b=3 l/a/1=1 l/a/2=2 l/b/c/d=0 l/b0=0 ");
	assert_list("l/x", NULL, false, 0, "");
	assert_list("l/", "l/a/1", false, 0, "l/a/2=2 l/b/c/d=0 l/b0=0 ");
	assert_list("l/", "l/a/1", false, 1, "l/a/2=2 ");
	assert_list("l/", NULL, true, 0, "l/a-b=3 l/a/=-1 l/b/=-1 l/b0=0 ");
	assert_list("l/", "l/a/", true, 0, "l/b/=-1 l/b0=0 ");

	/* a page that is cut, and one that is an error, are asked for again */
	add_fault((Fault) {"GET", .skip = 1, .fault = SERVER_CUTS});
	add_fault((Fault) {"GET", .status = 200, .code = "InternalError"});
	assert_list("l/", NULL, false, 0, "l/a-b=3 l/a/1=1 l/a/2=2 l/b/c/d=0 l/b0=0 ");

	assert_ok(object_delete(store, keys, lengthof(keys), NULL));
	assert_non_null(strstr(last_headers.data, "content-md5: "));
	assert_list("l/", NULL, false, 0, "l/a-b=3 l/b/c/d=0 l/b0=0 ");

	/* refused inside of a 200 */
	delete_error = "AccessDenied";
	assert_state(object_delete(store, keys, lengthof(keys), NULL), PS_SQLSTATE_STATE);
	delete_error = "InternalError";
	wait.deadline = clock_now_ms() + 100;
	assert_state(object_delete(store, keys, lengthof(keys), &wait), PS_SQLSTATE_TRY_AGAIN);
	delete_error = NULL;

	keys[0] = "l/a-b";
	keys[1] = "l/b0";
	no_multiple_deletes = true;
	assert_ok(object_delete(store, keys, lengthof(keys), NULL));
	assert_list("l/", NULL, false, 0, "l/b/c/d=0 ");
}

#define LIST_OF(truncated, token, items)                             \
	"<ListBucketResult><IsTruncated>" truncated "</IsTruncated>"     \
	"<NextContinuationToken>" token "</NextContinuationToken>" items \
	"</ListBucketResult>"
#define ITEM(key)   "<Contents><Key>pre/fix/" key "</Key><Size>1</Size></Contents>"
#define FOLDER(key) "<CommonPrefixes><Prefix>pre/fix/" key "</Prefix></CommonPrefixes>"

/* A list is in the order of keys, and ends. */
static void
test_wrong_lists(void **state)
{
	static const char *const stuck[] = {LIST_OF("true", "t", ITEM("a")), NULL};
	static const char *const stuck_empty[] = {LIST_OF("true", "t", ITEM("a")), LIST_OF("true", "t", ""), NULL};
	static const char *const unordered[] = {LIST_OF("false", "", ITEM("b") ITEM("a")), NULL};
	static const char *const back[] = {LIST_OF("true", "t", ITEM("b")), LIST_OF("false", "", ITEM("a")), NULL};
	static const char *const *const wrong[] = {stuck, stuck_empty, unordered, back};
	static const char *const empty[] = {LIST_OF("true", "t", ITEM("a") ITEM("c") FOLDER("b/")),
										LIST_OF("true", "u", ""), LIST_OF("false", "", ITEM("d")), NULL};
	ObjectWait wait = {0};
	Items items = {.stop_after = 0};
	ObjectListSink sink = {collect, &items};

	initStringInfo(&items.text);
	for (int i = 0; i < lengthof(wrong); i++)
	{
		pages = wrong[i];
		wait.deadline = clock_now_ms() + 5000;
		assert_state(object_list(store, NULL, NULL, false, &sink, &wait), PS_SQLSTATE_CORRUPTED);
	}
	pfree(items.text.data);

	/* a page may be empty: what was on it has been deleted */
	pages = empty;
	assert_list("", NULL, true, 0, "a=1 b/=-1 c=1 d=1 ");
}

/* 12 MB in parts of 5 MB, with a fault in each kind of request. */
static void
test_parts(void **state)
{
	size_t size = 12 * 1024 * 1024 + 5;
	char *contents = malloc(size);
	char path[] = "/tmp/t_object_s3.XXXXXX";
	int fd = mkstemp(path);
	char *endpoint = psprintf("http://127.0.0.1:%d", http_server_port(server));
	ObjectSettings settings = {.endpoint = endpoint, .part_size = 1};
	ObjectStore *other;
	Object *object;

	for (size_t i = 0; i < size; i++)
		contents[i] = i * 7 + i / 1000;
	assert_int_equal(write(fd, contents, size), size);
	assert_ok(object_store_open("s3://bucket", &settings, &other));
	add_fault((Fault) {"PUT", .skip = 1, .status = 500});
	add_fault((Fault) {"PUT", .fault = SERVER_CLOSES});
	add_fault((Fault) {"POST", .skip = 1, .status = 200, .code = "InternalError"});
	assert_ok(object_put_file(other, "big", path, NULL));
	object = find("big");
	assert_non_null(object);
	assert_int_equal(object->len, size);
	assert_memory_equal(object->data, contents, size);

	/* completed, and the answer lost: the upload is not there any more, the object is */
	add_fault((Fault) {"POST", .skip = 1, .fault = SERVER_CLOSES});
	assert_ok(object_put_file(other, "big2", path, NULL));
	assert_int_equal(find("big2")->len, size);

	/* not completed, which a 200 says */
	add_fault((Fault) {"POST", .skip = 1, .status = 200, .code = "NoSuchUpload"});
	assert_state(object_put_file(other, "big4", path, NULL), PS_SQLSTATE_STATE);
	assert_null(find("big4"));

	/* somebody has removed the upload: a new one may succeed */
	add_fault((Fault) {"PUT", .skip = 1, .status = 404, .code = "NoSuchUpload"});
	assert_state(object_put_file(other, "big5", path, NULL), PS_SQLSTATE_TRY_AGAIN);
	assert_null(find("big5"));
	add_fault((Fault) {"POST", .skip = 1, .status = 404, .code = "NoSuchUpload"});
	assert_state(object_put_file(other, "big5", path, NULL), PS_SQLSTATE_TRY_AGAIN);

	/* a file that is too large for 10,000 parts has larger ones; it has no blocks, and the second part is refused */
	for (int i = 0; i < nparts; i++)
	{
		free(parts[i].key);
		free(parts[i].data);
	}
	nparts = 0;
	assert_int_equal(ftruncate(fd, INT64CONST(50001) * 1024 * 1024), 0);
	add_fault((Fault) {"PUT", .skip = 1, .status = 403, .code = "QuotaExceeded"});
	assert_state(object_put_file(other, "big6", path, NULL), PS_SQLSTATE_STATE);
	assert_int_equal(nparts, 1);
	assert_int_equal(parts[0].len, 6 * 1024 * 1024);
	assert_int_equal(ftruncate(fd, size), 0);

	/* refused: the parts are removed */
	add_fault((Fault) {"PUT", .skip = 1, .status = 403, .code = "QuotaExceeded"});
	assert_state(object_put_file(other, "big3", path, NULL), PS_SQLSTATE_STATE);
	assert_false(upload_open);
	assert_null(find("big3"));
	object_store_close(other);
	close(fd);
	unlink(path);
	free(endpoint);
	free(contents);
}

static PsError *
cancel_later(void *arg)
{
	int *calls = arg;

	return ++*calls > 3 ? cancel_error(CANCEL_STORE_STOPPING, NULL) : NULL;
}

static void
test_cancel(void **state)
{
	int calls = 0;
	CancelCheck cancel = {cancel_later, &calls};
	ObjectWait wait = {.cancel = &cancel};
	ObjectOutcome outcome;
	PsError *err;

	for (int i = 0; i < 16; i++)
		add_fault((Fault) {"PUT", .status = 503, .code = "SlowDown", .header = "Retry-After: 100\r\n"});
	err = object_put_once(store, "x", "x", 1, &wait, &outcome);
	assert_non_null(err);
	assert_true(err->is_cancel);
	assert_int_equal(outcome, OBJECT_NOT_DONE);
	ps_error_free(err);
}

static void
test_settings(void **state)
{
	static const char *const urls[] = {"s3://", "s3://ab", "s3:///x", "s3://buck et/x", "s3://bucket/a//b",
									   "s3://bucket/a b"};
	ObjectSettings bad[] = {
		{.endpoint = "127.0.0.1"},
		{.endpoint = "ftp://x"},
		{.endpoint = "https://"},
		{.endpoint = "http://x/y"},
		{.region = "a b"},
		{.sse = "rot13"},
	};
	ObjectStore *none;

	PsError *err;
	char path[] = "/tmp/t_object_s3.XXXXXX";
	int fd = mkstemp(path);
	char *sse = psprintf("customer:%s", path);

	for (int i = 0; i < lengthof(urls); i++)
		assert_state(object_store_open(urls[i], NULL, &none), PS_SQLSTATE_INVALID);
	for (int i = 0; i < lengthof(bad); i++)
		assert_state(object_store_open("s3://bucket", &bad[i], &none), PS_SQLSTATE_INVALID);

	/* a key of the customer's: in a file that only its owner reads, and not sent without TLS */
	assert_state(object_store_open("s3://bucket", &(ObjectSettings) {.sse = sse}, &none), PS_SQLSTATE_INVALID);
	assert_int_equal(write(fd, "0123456789abcdef0123456789abcdef", 32), 32);
	close(fd);
	assert_int_equal(chmod(path, 0640), 0);
	assert_state(object_store_open("s3://bucket", &(ObjectSettings) {.sse = sse}, &none), PS_SQLSTATE_STATE);
	assert_int_equal(chmod(path, 0600), 0);
	assert_ok(object_store_open("s3://bucket", &(ObjectSettings) {.sse = sse}, &none));
	object_store_close(none);
	assert_state(object_store_open("s3://bucket", &(ObjectSettings) {.sse = sse, .endpoint = "http://x"}, &none),
				 PS_SQLSTATE_INVALID);
	unlink(path);
	assert_state(object_store_open("s3://bucket", &(ObjectSettings) {.sse = sse}, &none), PS_SQLSTATE_STATE);
	free(sse);

	/* a password is not repeated */
	err = object_store_open("s3://bucket", &(ObjectSettings) {.endpoint = "https://user:secret@host"}, &none);
	assert_non_null(err);
	assert_null(strstr(err->message, "secret"));
	assert_state(err, PS_SQLSTATE_INVALID);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_put_get, setup, teardown),
		cmocka_unit_test_setup_teardown(test_put_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_repeated, setup, teardown),
		cmocka_unit_test_setup_teardown(test_errors_in_success, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_found, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_s3, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cut_reads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_ranges, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clock_and_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_list_delete, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_lists, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
		cmocka_unit_test(test_settings),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
