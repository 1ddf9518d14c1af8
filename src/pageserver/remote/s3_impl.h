/*
 * s3_impl.h
 *	  A store in S3, and requests to it: for this folder only.
 */
#ifndef PS_S3_IMPL_H
#define PS_S3_IMPL_H

#include "remote/credentials.h"
#include "remote/http.h"
#include "remote/object_impl.h"
#include "remote/retry.h"
#include "remote/s3_xml.h"
#include "remote/sign.h"

typedef struct S3Store
{
	ObjectStore base;
	char *bucket;
	char *prefix; /* "", or with a slash at its end */
	char *origin; /* "https://host[:port]" */
	char *host;   /* the same without the scheme: the header "host" */
	char *root;   /* path of the bucket: "/bucket" or "" */
	char *region;
	char *storage_class; /* or NULL */
	int64 part_size;

	/* encryption: headers of all that is written (0 to 2), and of all requests for the contents (0 or 3) */
	SignPair sse[2];
	int nsse;
	SignPair customer[3];
	int ncustomer;
	char *kms_key;
	char customer_key[64];
	char customer_md5[32];

	HttpClient *http;
	Credentials *credentials;
	RetryGate gate;
	int64 clock_offset;       /* s, of the service's clock ahead of this machine's; accessed with __atomic */
	bool no_multiple_deletes; /* the service does not know DeleteObjects; accessed with __atomic */
} S3Store;

/* One request, which may be sent several times. */
typedef struct S3Request
{
	const char *method;
	const char *key; /* of an object, without the store's prefix; NULL: the bucket */
	SignPair query[8];
	int nquery;
	SignPair headers[12]; /* besides those that each request has */
	int nheaders;
	bool has_body;
	const void *body; /* as in HttpRequest */
	int64 body_len;
	int body_fd;
	int64 body_offset;
	const ByteSink *sink;
	int sink_status;
	size_t max_body;

	/* Called before each attempt, to change what headers point to; or NULL.  False: nothing is left to ask for. */
	bool (*prepare)(void *arg);

	/*
	 * Reads an answer with status 2xx; or NULL: it is searched for an <Error>.  Sets the
	 * code of *error if the answer is one.  PS_SQLSTATE_CORRUPTED: not a whole answer, which is
	 * asked for again, but not for ever; PS_SQLSTATE_TRY_AGAIN: not one of S3.  May be called
	 * several times.
	 */
	PsError *(*parse)(void *arg, const HttpAnswer *answer, S3Error *error);
	void *arg;

	/* results */
	HttpAnswer answer; /* the last one; to be freed with s3_request_free() */
	S3Error error;     /* what it said, also in a 2xx */
	bool in_doubt;     /* an attempt without an answer, or with an error of the service, may have been executed */
} S3Request;

extern void s3_add_query(S3Request *request, const char *name, const char *value);
extern void s3_add_header(S3Request *request, const char *name, const char *value);

/* Headers of what is written, beside those of its contents. */
extern void s3_add_write_headers(S3Store *store, S3Request *request);

/* Headers of all requests that write or read contents with a key of the customer. */
extern void s3_add_customer_headers(S3Store *store, S3Request *request);

/*
 * Sends a request until it succeeds, is refused, or the wait ends.  No error: the
 * status is 2xx, or 404 with NoSuchKey or NoSuchUpload, 412, 416, of which the caller says
 * what they mean.  A 2xx may have an <Error> with the code of one of these, so it is a
 * success only if s3_expect_success() says so.
 */
extern PsError *s3_send(S3Store *store, S3Request *request, const ObjectWait *wait);

/* S3Request.parse of a PUT. */
extern PsError *s3_parse_put(void *arg, const HttpAnswer *answer, S3Error *error);

/* The error for an answer that the caller did not want. */
extern PsError *s3_refused(const S3Store *store, const S3Request *request);

/* That error unless the status is 2xx and there is no <Error>. */
extern PsError *s3_expect_success(S3Store *store, const S3Request *request);

/* Prepares a request for use again. */
extern void s3_request_free(S3Request *request);

extern const ObjectBackend s3_backend;
extern PsError *s3_put_file(ObjectStore *base, const char *key, const char *path, const ObjectWait *wait);
extern void s3_store_close(ObjectStore *store);

#endif /* PS_S3_IMPL_H */
