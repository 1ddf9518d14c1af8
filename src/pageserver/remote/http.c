/*
 * http.c
 *	  HTTP and TLS, by libcurl: see http.h.
 */
#include "ps_fe.h"

#include <curl/curl.h>
#include <openssl/x509_vfy.h>
#include <pthread.h>
#include <unistd.h>

#include "base/clock.h"
#include "remote/http.h"
#include "sqlstate.h"

#define CONNECT_TIMEOUT  10 /* s */
#define STALL_TIMEOUT    30 /* s */
#define MAX_BODY         (1024 * 1024)
#define BUFFER_SIZE      (256 * 1024)  /* of libcurl, each way */
#define EXPECT_THRESHOLD (1024 * 1024) /* bytes of a body above which the service is asked first whether it wants it */

/* A signature's date has four digits for the year: 9999-01-01, in s since 1970. */
#define DATE_MAX INT64CONST(253370764800)

typedef struct Handle
{
	CURL *curl;
	struct Handle *next;
} Handle;

struct HttpClient
{
	char *ca_file;
	char *proxy;
	HttpSettings settings;
	pthread_mutex_t lock; /* protects idle, nidle; a leaf */
	Handle *idle;         /* the one used last first: its connection is the most likely to be alive */
	int nidle;
};

/* One request that is running. */
typedef struct Transfer
{
	CURL *curl;
	const HttpRequest *request;
	const CancelCheck *cancel;
	HttpAnswer *answer;
	size_t max_body;
	int64 sent;   /* bytes of the request's body that libcurl has taken */
	int attempts; /* connections on which the request was, or was about to be, sent */
	bool timed_out;
	long verified; /* X509_V_*, of the service's certificate */
	PsError *err;  /* why it was ended from this side, or NULL */
} Transfer;

static pthread_once_t global_once = PTHREAD_ONCE_INIT;

static void
global_init(void)
{
	if (curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK)
	{
		ps_log(PS_FATAL, "could not initialize libcurl");
		exit(1);
	}
}

HttpClient *
http_client_create(const HttpSettings *settings)
{
	HttpClient *client = pg_malloc0(sizeof(HttpClient));

	pthread_once(&global_once, global_init);
	client->settings = *settings;
	client->ca_file = settings->ca_file != NULL ? pg_strdup(settings->ca_file) : NULL;
	client->proxy = settings->proxy != NULL ? pg_strdup(settings->proxy) : NULL;
	pthread_mutex_init(&client->lock, NULL);
	return client;
}

static void
free_handle(Handle *handle)
{
	curl_easy_cleanup(handle->curl);
	free(handle);
}

void
http_client_destroy(HttpClient *client)
{
	if (client == NULL)
		return;
	while (client->idle != NULL)
	{
		Handle *next = client->idle->next;

		free_handle(client->idle);
		client->idle = next;
	}
	pthread_mutex_destroy(&client->lock);
	free(client->ca_file);
	free(client->proxy);
	free(client);
}

/* NULL: no memory. */
static Handle *
take_handle(HttpClient *client)
{
	Handle *handle;

	pthread_mutex_lock(&client->lock);
	handle = client->idle;
	if (handle != NULL)
	{
		client->idle = handle->next;
		client->nidle--;
	}
	pthread_mutex_unlock(&client->lock);
	if (handle != NULL)
		return handle;
	handle = pg_malloc0(sizeof(Handle));
	handle->curl = curl_easy_init();
	if (handle->curl != NULL)
		return handle;
	free(handle);
	return NULL;
}

static void
return_handle(HttpClient *client, Handle *handle)
{
	/* forgets options, keeps the connection and what was resolved */
	curl_easy_reset(handle->curl);
	pthread_mutex_lock(&client->lock);
	if (client->nidle < client->settings.idle_handles)
	{
		handle->next = client->idle;
		client->idle = handle;
		client->nidle++;
		handle = NULL;
	}
	pthread_mutex_unlock(&client->lock);
	if (handle != NULL)
		free_handle(handle);
}

/* ---- callbacks of libcurl ---- */

/* The value of a header line if it has this name, without white space around it; false if it has another. */
static bool
header_value(const char *line, size_t len, const char *name, char *value, size_t size)
{
	size_t name_len = strlen(name);

	if (len <= name_len || pg_strncasecmp(line, name, name_len) != 0 || line[name_len] != ':')
		return false;
	line += name_len + 1;
	len -= name_len + 1;
	while (len > 0 && (*line == ' ' || *line == '\t'))
	{
		line++;
		len--;
	}
	while (len > 0 && strchr(" \t\r\n", line[len - 1]) != NULL)
		len--;
	if (len >= size)
		len = 0; /* nothing that we use is so long */
	memcpy(value, line, len);
	value[len] = '\0';
	return true;
}

static size_t
on_header(char *line, size_t size, size_t nmemb, void *arg)
{
	HttpAnswer *answer = ((Transfer *) arg)->answer;
	size_t len = size * nmemb;
	char value[128];

	if (len > 5 && strncmp(line, "HTTP/", 5) == 0)
	{
		/* another answer begins: that to Expect, or a proxy's */
		answer->etag[0] = answer->region[0] = '\0';
		answer->date = answer->retry_after_ms = 0;
		answer->content_first = answer->content_total = -1;
	}
	else if (header_value(line, len, "etag", value, sizeof(value)))
		strlcpy(answer->etag, value, sizeof(answer->etag));
	else if (header_value(line, len, "x-amz-bucket-region", value, sizeof(value)))
		strlcpy(answer->region, value, sizeof(answer->region));
	else if (header_value(line, len, "date", value, sizeof(value)))
	{
		answer->date = curl_getdate(value, NULL);
		if (answer->date < 0 || answer->date >= DATE_MAX)
			answer->date = 0;
	}
	else if (header_value(line, len, "retry-after", value, sizeof(value)))
	{
		char *end;
		long seconds = strtol(value, &end, 10);

		/* or a date, which counts from the service's own clock */
		if (end == value || *end != '\0')
			seconds = curl_getdate(value, NULL) - (answer->date != 0 ? answer->date : time(NULL));
		answer->retry_after_ms = seconds > 0 ? Min(seconds, 86400) * INT64CONST(1000) : 0;
	}
	else if (header_value(line, len, "content-range", value, sizeof(value)))
	{
		/* "bytes 0-9/100", or "bytes *" and the total if there is no such range */
		const char *slash = strchr(value, '/');

		if (strncmp(value, "bytes ", 6) == 0 && value[6] >= '0' && value[6] <= '9')
			answer->content_first = strtoll(value + 6, NULL, 10);
		if (slash != NULL && slash[1] >= '0' && slash[1] <= '9')
			answer->content_total = strtoll(slash + 1, NULL, 10);
	}
	return len;
}

static size_t
on_body(char *data, size_t size, size_t nmemb, void *arg)
{
	Transfer *transfer = arg;
	HttpAnswer *answer = transfer->answer;
	size_t len = size * nmemb;
	long status = 0;

	curl_easy_getinfo(transfer->curl, CURLINFO_RESPONSE_CODE, &status);
	if (transfer->request->sink != NULL && status == transfer->request->sink_status)
	{
		transfer->err = transfer->request->sink->write(transfer->request->sink->arg, data, len);
		if (transfer->err != NULL)
			return 0;
		answer->sunk += len;
		return len;
	}
	if (len > transfer->max_body - answer->body.len)
	{
		if (status / 100 == 2)
		{
			transfer->err = ps_error(PS_SQLSTATE_CORRUPTED, "the answer to a request of %s is larger than %zu bytes",
									 transfer->request->method, transfer->max_body);
			return 0;
		}
		appendBinaryStringInfo(&answer->body, data, transfer->max_body - answer->body.len);
		return len;
	}
	appendBinaryStringInfo(&answer->body, data, len);
	return len;
}

static size_t
on_read(char *buf, size_t size, size_t nmemb, void *arg)
{
	Transfer *transfer = arg;
	const HttpRequest *request = transfer->request;
	size_t len = Min(size * nmemb, request->body_len - transfer->sent);

	if (request->body != NULL)
		memcpy(buf, (const char *) request->body + transfer->sent, len);
	else if (len > 0)
	{
		ssize_t n;

		while ((n = pread(request->body_fd, buf, len, request->body_offset + transfer->sent)) < 0 && errno == EINTR)
			;
		if (n <= 0)
		{
			transfer->err = n < 0 ? ps_error(ps_errno_state(), "could not read the file to be sent: %m")
								  : ps_error(PS_SQLSTATE_IO, "the file to be sent has become shorter");
			return CURL_READFUNC_ABORT;
		}
		len = n;
	}
	transfer->sent += len;
	return len;
}

/*
 * A connection is ready, and the request will be sent.  Called once more if that was kept
 * open and turns out to be closed, since libcurl then sends the request again on another.
 */
static int
on_connected(void *arg, char *remote_address, char *local_address, int remote_port, int local_port)
{
	((Transfer *) arg)->attempts++;
	return CURL_PREREQFUNC_OK;
}

/* The body is to be sent again. */
static int
on_seek(void *arg, curl_off_t offset, int origin)
{
	Transfer *transfer = arg;

	if (origin != SEEK_SET || offset < 0 || offset > transfer->request->body_len)
		return CURL_SEEKFUNC_FAIL;
	transfer->sent = offset;
	return CURL_SEEKFUNC_OK;
}

/* Called by libcurl often while bytes flow, and about once a second otherwise. */
static int
on_progress(void *arg, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal, curl_off_t ulnow)
{
	Transfer *transfer = arg;

	if (transfer->err != NULL)
		return 1;
	transfer->err = cancel_check(transfer->cancel);
	if (transfer->err == NULL && transfer->request->deadline != 0 && clock_now_ms() >= transfer->request->deadline)
		transfer->timed_out = true;
	return transfer->err != NULL || transfer->timed_out;
}

/* ---- the request ---- */

static void
set_options(HttpClient *client, Transfer *transfer, struct curl_slist *headers, char *message)
{
	const HttpSettings *settings = &client->settings;
	const HttpRequest *request = transfer->request;
	CURL *curl = transfer->curl;

	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, message);
	curl_easy_setopt(curl, CURLOPT_URL, request->url);
	curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	/* HTTP/2 would put the requests of several threads on one connection, if they shared one */
	curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(curl, CURLOPT_DNS_SHUFFLE_ADDRESSES, 1L);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT,
					 (long) (settings->connect_timeout > 0 ? settings->connect_timeout : CONNECT_TIMEOUT));
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME,
					 (long) (settings->stall_timeout > 0 ? settings->stall_timeout : STALL_TIMEOUT));
	curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, (long) BUFFER_SIZE);
	curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, (long) BUFFER_SIZE);
	curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);

	if (client->ca_file != NULL && client->ca_file[0] != '\0')
		curl_easy_setopt(curl, CURLOPT_CAINFO, client->ca_file);
	if (settings->no_verify_tls)
	{
		curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	if (client->proxy != NULL)
		curl_easy_setopt(curl, CURLOPT_PROXY, client->proxy);

	curl_easy_setopt(curl, CURLOPT_PREREQFUNCTION, on_connected);
	curl_easy_setopt(curl, CURLOPT_PREREQDATA, transfer);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(curl, CURLOPT_HEADERDATA, transfer);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(curl, CURLOPT_XFERINFODATA, transfer);

	if (strcmp(request->method, "HEAD") == 0)
		curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
	else if (request->has_body)
	{
		curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t) request->body_len);
		curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
		curl_easy_setopt(curl, CURLOPT_READDATA, transfer);
		curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_seek);
		curl_easy_setopt(curl, CURLOPT_SEEKDATA, transfer);
	}
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
}

/* Has a certificate been refused because of who has signed it? */
static bool
unknown_ca(const Transfer *transfer)
{
	switch (transfer->verified)
	{
		case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
		case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
		case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
		case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
		case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
			return true;
		default:
			return false;
	}
}

/*
 * The error of a request that libcurl could not complete.  The query is left out, and so is
 * a message that has the whole URL of a proxy: there may be secrets in them.
 */
static PsError *
transfer_error(const Transfer *transfer, CURLcode code, const char *message)
{
	const HttpRequest *request = transfer->request;
	int len = strcspn(request->url, "?");
	const char *state = PS_SQLSTATE_TRY_AGAIN;
	PsError *err;

	if (transfer->timed_out)
		return ps_error(PS_SQLSTATE_TRY_AGAIN, "%s %.*s was not answered in time", request->method, len,
						request->url);
	switch (code)
	{
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_URL_MALFORMAT:
		case CURLE_UNSUPPORTED_PROTOCOL:
			state = PS_SQLSTATE_STATE;
			break;
		default:
			break;
	}
	err = ps_error(state, "could not send %s %.*s: %s", request->method, len, request->url,
				   message[0] != '\0' && strchr(message, '@') == NULL ? message : curl_easy_strerror(code));
	if (code == CURLE_PEER_FAILED_VERIFICATION && unknown_ca(transfer))
		ps_error_hint(err, "If the service has a CA of its own, set remote_ca_file.");
	return err;
}

PsError *
http_perform(HttpClient *client, const HttpRequest *request, const CancelCheck *cancel, HttpAnswer *answer)
{
	Transfer transfer = {.request = request, .cancel = cancel, .answer = answer};
	struct curl_slist *headers = NULL;
	Handle *handle;
	char message[CURL_ERROR_SIZE] = "";
	CURLcode code;
	long status = 0;

	memset(answer, 0, sizeof(HttpAnswer));
	answer->content_first = answer->content_total = -1;
	initStringInfo(&answer->body);
	transfer.max_body = request->max_body > 0 ? request->max_body : MAX_BODY;
	answer->ended_here = true;
	PS_TRY(cancel_check(cancel));
	handle = take_handle(client);
	if (handle == NULL)
		return ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "no memory for a connection");
	transfer.curl = handle->curl;
	for (int i = 0; i < request->nheaders; i++)
		headers = curl_slist_append(headers, request->headers[i]);
	if (!request->has_body || request->body_len <= EXPECT_THRESHOLD)
		headers = curl_slist_append(headers, "Expect:");

	set_options(client, &transfer, headers, message);
	code = curl_easy_perform(handle->curl);
	curl_easy_getinfo(handle->curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(handle->curl, CURLINFO_SSL_VERIFYRESULT, &transfer.verified);
	answer->status = code == CURLE_OK ? (int) status : 0;
	/* all attempts but the last one had no answer */
	answer->may_have_arrived = transfer.attempts > (code == CURLE_OK ? 1 : 0);
	answer->ended_here = transfer.err != NULL;
	return_handle(client, handle);
	curl_slist_free_all(headers);
	if (transfer.err != NULL)
		return transfer.err;
	return code == CURLE_OK ? NULL : transfer_error(&transfer, code, message);
}

void
http_answer_free(HttpAnswer *answer)
{
	if (answer->body.data != NULL)
		pfree(answer->body.data);
	memset(answer, 0, sizeof(HttpAnswer));
}
