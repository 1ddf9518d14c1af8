/*
 * http.h
 *	  HTTP and TLS, by libcurl.  Knows nothing of S3.
 *
 * A client has handles, each with a connection that is kept open; a request takes
 * one, or makes one, and blocks its thread.  Any thread may send requests at any time.
 * The process must ignore SIGPIPE.
 */
#ifndef PS_HTTP_H
#define PS_HTTP_H

#include "lib/stringinfo.h"

#include "base/bytesink.h"
#include "base/cancel.h"

typedef struct HttpClient HttpClient;

typedef struct HttpSettings
{
	const char *ca_file; /* PEM; NULL: the system's */
	bool no_verify_tls;
	const char *proxy;   /* NULL: of the environment; "": none */
	int idle_handles;    /* most connections that are kept open while not in use */
	int connect_timeout; /* s; 0: 10 */
	int stall_timeout;   /* s in which less than one byte a second comes or goes before a request fails; 0: 30 */
} HttpSettings;

extern HttpClient *http_client_create(const HttpSettings *settings);
/* When no request is running.  NULL is allowed. */
extern void http_client_destroy(HttpClient *client);

#define HTTP_MAX_HEADERS 32

typedef struct HttpRequest
{
	const char *method;
	const char *url;            /* escaped */
	const char *const *headers; /* "name: value"; besides those that HTTP needs */
	int nheaders;
	bool has_body; /* of PUT and POST, also if it is empty */
	const void *body;
	int64 body_len;
	int body_fd; /* if body is NULL: body_len bytes of this file, from body_offset on */
	int64 body_offset;
	const ByteSink *sink; /* gets the body of an answer with status sink_status; NULL: HttpAnswer.body does */
	int sink_status;
	size_t max_body; /* limit of HttpAnswer.body; 0: 1 MB.  The body of another status is cut there */
	int64 deadline;  /* of clock_now_ms(); 0: none */
} HttpRequest;

typedef struct HttpAnswer
{
	int status; /* 0: there was no answer */
	StringInfoData body;
	int64 sunk;           /* bytes that the sink got */
	char etag[128];       /* as it came, with quotes; "" if there was none */
	char region[64];      /* x-amz-bucket-region; "" if there was none */
	int64 date;           /* of the service, s since 1970; 0 if there was none */
	int64 retry_after_ms; /* 0 if there was none */
	int64 content_first;  /* of Content-Range: offset of the first byte; -1 if it has none */
	int64 content_total;  /* of Content-Range: bytes of the whole object; -1 if it has none */
	/*
	 * The request may have reached the service, which may execute it yet, without an
	 * answer: there is an error, or libcurl has sent it again, since the connection that was
	 * kept open had been closed.
	 */
	bool may_have_arrived;
	bool ended_here; /* the error is of the sink, the check, the file to be sent or a limit */
} HttpAnswer;

/*
 * Sends a request and receives the answer, which the caller frees with
 * http_answer_free(), also after an error.  Success is an answer with any status, received
 * to its end.  Errors: the sink's; the check's, at the latest after a second;
 * PS_SQLSTATE_CORRUPTED: body larger than max_body; PS_SQLSTATE_STATE: no TLS with the
 * settings as they are (an unknown CA, say); the file's; PS_SQLSTATE_TRY_AGAIN: all others.
 */
extern PsError *http_perform(HttpClient *client, const HttpRequest *request, const CancelCheck *cancel,
							 HttpAnswer *answer);
extern void http_answer_free(HttpAnswer *answer);

#endif /* PS_HTTP_H */
