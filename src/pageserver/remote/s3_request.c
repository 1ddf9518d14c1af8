/*
 * s3_request.c
 *	  Requests to S3: signed, sent, sent again; see s3_impl.h.
 *
 * What an answer means is decided by the <Code> of its <Error>: one status has many
 * meanings, and services differ in which status goes with a code.  An answer without a
 * code (of a proxy) is judged by its status.
 */
#include "ps_fe.h"

#include <time.h>

#include "base/clock.h"
#include "remote/s3_impl.h"
#include "sqlstate.h"

/* Attempts whose answer is damaged, or says that the request arrived damaged. */
#define MAX_DAMAGED 5

#define NOT_S3 "This is not an answer of S3.  Check remote_endpoint, and proxies before the service."

/* What is done about an answer. */
typedef enum Verdict
{
	VERDICT_ANSWER, /* the caller's */
	VERDICT_AGAIN,
	VERDICT_OVERLOADED, /* again, and the service wants fewer requests */
	VERDICT_DAMAGED,    /* again, but not for ever */
	VERDICT_CLOCK,      /* again, once, with the service's time */
	VERDICT_KEYS,       /* again, once, with other keys */
	VERDICT_REFUSED
} Verdict;

static const struct
{
	const char *code;
	Verdict verdict;
} codes[] = {
	/* refusals that also come inside of a 200 */
	{"NoSuchBucket", VERDICT_REFUSED},
	{"AccessDenied", VERDICT_REFUSED},
	{"QuotaExceeded", VERDICT_REFUSED},
	{"InvalidArgument", VERDICT_REFUSED},
	{"InvalidPart", VERDICT_REFUSED},
	{"InvalidPartOrder", VERDICT_REFUSED},
	{"EntityTooSmall", VERDICT_REFUSED},
	{"MalformedXML", VERDICT_REFUSED},
	{"NotImplemented", VERDICT_REFUSED},
	{"NoSuchKey", VERDICT_ANSWER},
	{"NoSuchUpload", VERDICT_ANSWER},
	{"PreconditionFailed", VERDICT_ANSWER},
	{"InvalidRange", VERDICT_ANSWER},
	{"SlowDown", VERDICT_OVERLOADED},
	{"ServiceUnavailable", VERDICT_OVERLOADED},
	{"TooManyRequests", VERDICT_OVERLOADED},
	{"Throttling", VERDICT_OVERLOADED},
	{"ThrottlingException", VERDICT_OVERLOADED},
	{"RequestLimitExceeded", VERDICT_OVERLOADED},
	{"BandwidthLimitExceeded", VERDICT_OVERLOADED},
	{"InternalError", VERDICT_AGAIN},
	{"UnknownError", VERDICT_AGAIN},
	{"RequestTimeout", VERDICT_AGAIN},
	{"OperationAborted", VERDICT_AGAIN},
	{"ConditionalRequestConflict", VERDICT_AGAIN},
	{"BadDigest", VERDICT_DAMAGED},
	{"IncompleteBody", VERDICT_DAMAGED},
	{"XAmzContentSHA256Mismatch", VERDICT_DAMAGED},
	{"RequestTimeTooSkewed", VERDICT_CLOCK},
	{"ExpiredToken", VERDICT_KEYS},
	{"ExpiredTokenException", VERDICT_KEYS},
	{"TokenRefreshRequired", VERDICT_KEYS},
	{"InvalidToken", VERDICT_KEYS},
	{"InvalidAccessKeyId", VERDICT_KEYS},
};

static Verdict
judge(const S3Request *request)
{
	int status = request->answer.status;

	for (int i = 0; i < lengthof(codes); i++)
		if (strcmp(request->error.code, codes[i].code) == 0)
			return codes[i].verdict;
	switch (status)
	{
		case 404:
			/*
			 * Only the service says that there is no such object, and with a code.  A proxy also answers so while
			 * the service is not there, and an owner must not conclude from that that nobody replaced it.
			 */
			return request->error.code[0] == '\0' ? VERDICT_AGAIN : VERDICT_REFUSED;
		case 412:
		case 416:
			return VERDICT_ANSWER;
		case 408:
		case 409:
			return VERDICT_AGAIN;
		case 429:
		case 503:
			return VERDICT_OVERLOADED;
		case 501:
			return VERDICT_REFUSED;
		default:
			break;
	}
	/* an <Error> with an unknown code inside of a 200 may be a failure of the service, or a refusal */
	if (status / 100 == 2)
		return VERDICT_DAMAGED;
	return status >= 500 ? VERDICT_AGAIN : VERDICT_REFUSED;
}

/* Has a request that was answered so perhaps been executed? */
static bool
may_be_executed(const S3Request *request)
{
	int status = request->answer.status;

	if (strcmp(request->error.code, "SlowDown") == 0)
		return false;
	return status >= 500 || status / 100 == 2;
}

void
s3_add_query(S3Request *request, const char *name, const char *value)
{
	Assert(request->nquery < lengthof(request->query));
	request->query[request->nquery++] = (SignPair) {name, value};
}

void
s3_add_header(S3Request *request, const char *name, const char *value)
{
	Assert(request->nheaders < lengthof(request->headers));
	request->headers[request->nheaders++] = (SignPair) {name, value};
}

void
s3_add_write_headers(S3Store *store, S3Request *request)
{
	for (int i = 0; i < store->nsse; i++)
		s3_add_header(request, store->sse[i].name, store->sse[i].value);
	if (store->storage_class != NULL)
		s3_add_header(request, "x-amz-storage-class", store->storage_class);
}

void
s3_add_customer_headers(S3Store *store, S3Request *request)
{
	for (int i = 0; i < store->ncustomer; i++)
		s3_add_header(request, store->customer[i].name, store->customer[i].value);
}

PsError *
s3_expect_success(S3Store *store, const S3Request *request)
{
	bool success = request->answer.status / 100 == 2 && request->error.code[0] == '\0';

	return success ? NULL : s3_refused(store, request);
}

void
s3_request_free(S3Request *request)
{
	http_answer_free(&request->answer);
	memset(&request->error, 0, sizeof(S3Error));
}

/* "PUT of "s3://bucket/prefix/key"", for messages. */
static char *
describe(const S3Store *store, const S3Request *request)
{
	return psprintf("%s of \"s3://%s/%s%s\"", request->method, store->bucket, store->prefix,
					request->key != NULL ? request->key : "");
}

PsError *
s3_refused(const S3Store *store, const S3Request *request)
{
	const HttpAnswer *answer = &request->answer;
	const S3Error *error = &request->error;
	const char *region = error->region[0] != '\0' ? error->region : answer->region;
	Verdict verdict = judge(request);
	const char *state = PS_SQLSTATE_STATE;
	char *what = describe(store, request);
	PsError *err;

	if (verdict == VERDICT_ANSWER && answer->status == 404)
		state = PS_SQLSTATE_NOT_FOUND;
	else if (verdict == VERDICT_AGAIN || verdict == VERDICT_OVERLOADED)
		state = PS_SQLSTATE_TRY_AGAIN;
	if (error->code[0] != '\0')
		err = ps_error(state, "object storage answered %s with %s (status %d)", what, error->code, answer->status);
	else
		err = ps_error(state, "object storage answered %s with status %d", what, answer->status);
	free(what);
	if (error->message[0] != '\0')
		ps_error_detail(err, "%s", error->message);
	if (region[0] != '\0' && strcmp(region, store->region) != 0 && answer->status != 404)
		ps_error_hint(err, "The bucket is in region \"%s\", and remote_region is \"%s\".", region, store->region);
	else if (strcmp(error->code, "NoSuchBucket") == 0)
		ps_error_hint(err, "Create the bucket, or correct remote_storage.");
	else if (strcmp(error->code, "SignatureDoesNotMatch") == 0 || verdict == VERDICT_KEYS)
		ps_error_hint(err, "Check the keys in remote_key_file or in the environment.");
	else if (verdict == VERDICT_CLOCK)
		ps_error_hint(err, "Set the clock of this machine.");
	else if (answer->status == 404 && error->code[0] == '\0')
		ps_error_hint(err, NOT_S3);
	return err;
}

PsError *
s3_parse_put(void *arg, const HttpAnswer *answer, S3Error *error)
{
	if (s3_xml_error(answer->body.data, answer->body.len, error) || answer->etag[0] != '\0')
		return NULL;
	/* what has no ETag has not stored anything: a proxy's own page, say */
	return ps_error_hint(ps_error(PS_SQLSTATE_TRY_AGAIN, "a PUT was answered with status %d, but without an ETag",
								  answer->status),
						 NOT_S3);
}

/* The SHA-256 of a body, in hex. */
static PsError *
hash_body(const S3Request *request, char hash[SIGN_HASH_SIZE])
{
	if (!request->has_body)
	{
		sign_hash("", 0, hash);
		return NULL;
	}
	if (request->body != NULL)
	{
		sign_hash(request->body, request->body_len, hash);
		return NULL;
	}
	return sign_hash_file(request->body_fd, request->body_offset, request->body_len, hash);
}

/* Sends a request once, with keys and the time as they are now. */
static PsError *
send_once(S3Store *store, S3Request *request, const char *hash, const CredentialKeys *keys, const ObjectWait *wait)
{
	SignPair pairs[SIGN_MAX_PAIRS];
	int npairs = 0;
	char date[SIGN_DATE_SIZE];
	StringInfoData path;
	StringInfoData url;
	StringInfoData authorization;
	char *lines[SIGN_MAX_PAIRS + 1];
	int nlines = 0;
	SignRequest sign;
	HttpRequest http;
	PsError *err;

	sign_date(time(NULL) + __atomic_load_n(&store->clock_offset, __ATOMIC_RELAXED), date);
	pairs[npairs++] = (SignPair) {"host", store->host};
	pairs[npairs++] = (SignPair) {"x-amz-content-sha256", hash};
	pairs[npairs++] = (SignPair) {"x-amz-date", date};
	if (keys->token != NULL)
		pairs[npairs++] = (SignPair) {"x-amz-security-token", keys->token};
	for (int i = 0; i < request->nheaders; i++)
		pairs[npairs++] = request->headers[i];

	initStringInfo(&path);
	appendStringInfo(&path, "%s/", store->root);
	if (request->key != NULL)
		appendStringInfo(&path, "%s%s", store->prefix, request->key);
	initStringInfo(&url);
	appendStringInfoString(&url, store->origin);
	sign_path(&url, path.data);
	if (request->nquery > 0)
		appendStringInfoChar(&url, '?');
	sign_query(&url, request->query, request->nquery);

	sign = (SignRequest) {
		.method = request->method,
		.path = path.data,
		.query = request->query,
		.nquery = request->nquery,
		.headers = pairs,
		.nheaders = npairs,
		.payload_hash = hash,
		.date = date,
		.region = store->region,
		.service = "s3",
	};
	initStringInfo(&authorization);
	appendStringInfoString(&authorization, "authorization: ");
	sign_authorization(&authorization, &sign, &(SignKeys) {keys->access_key, keys->secret_key});
	/* libcurl sends the host by itself */
	for (int i = 1; i < npairs; i++)
		lines[nlines++] = psprintf("%s: %s", pairs[i].name, pairs[i].value);
	lines[nlines++] = authorization.data;

	http = (HttpRequest) {
		.method = request->method,
		.url = url.data,
		.headers = (const char *const *) lines,
		.nheaders = nlines,
		.has_body = request->has_body,
		.body = request->body,
		.body_len = request->body_len,
		.body_fd = request->body_fd,
		.body_offset = request->body_offset,
		.sink = request->sink,
		.sink_status = request->sink_status,
		.max_body = request->max_body,
		.deadline = wait != NULL ? wait->deadline : 0,
	};
	err = http_perform(store->http, &http, wait != NULL ? wait->cancel : NULL, &request->answer);

	for (int i = 0; i < nlines; i++)
		free(lines[i]);
	pfree(path.data);
	pfree(url.data);
	return err;
}

/* What an answer that has arrived means; *err: that of the parser. */
static Verdict
read_answer(S3Request *request, PsError **err)
{
	HttpAnswer *answer = &request->answer;
	bool success = answer->status / 100 == 2;

	*err = NULL;
	if (success && request->parse != NULL)
		*err = request->parse(request->arg, answer, &request->error);
	else if (answer->body.len > 0)
		(void) s3_xml_error(answer->body.data, answer->body.len, &request->error);
	if (*err != NULL)
		return ps_error_is(*err, PS_SQLSTATE_CORRUPTED)   ? VERDICT_DAMAGED
			   : ps_error_is(*err, PS_SQLSTATE_TRY_AGAIN) ? VERDICT_AGAIN
														  : VERDICT_REFUSED;
	if (success && request->error.code[0] == '\0')
		return VERDICT_ANSWER;
	return judge(request);
}

/* One attempt: takes a place in the gate, sends, and judges.  *err: why there is no answer to judge. */
static Verdict
attempt(S3Store *store, S3Request *request, const char *hash, const ObjectWait *wait, PsError **err)
{
	const CancelCheck *cancel = wait != NULL ? wait->cancel : NULL;
	int64 deadline = wait != NULL ? wait->deadline : 0;
	CredentialKeys keys;
	Verdict verdict;
	uint64 epoch;

	s3_request_free(request);
	*err = credentials_get(store->credentials, cancel, deadline, &keys);
	if (*err != NULL)
		return ps_error_is_transient(*err) && !(*err)->is_cancel ? VERDICT_AGAIN : VERDICT_REFUSED;
	*err = retry_gate_enter(&store->gate, cancel, deadline, &epoch);
	if (*err != NULL)
	{
		credential_keys_free(&keys);
		return VERDICT_REFUSED;
	}
	*err = send_once(store, request, hash, &keys, wait);
	request->in_doubt |= request->answer.may_have_arrived;
	if (*err != NULL)
	{
		verdict = ps_error_is(*err, PS_SQLSTATE_TRY_AGAIN) &&
						  !request->answer.ended_here
					  ? VERDICT_AGAIN
					  : VERDICT_REFUSED;
	}
	else
	{
		verdict = read_answer(request, err);
		if (verdict != VERDICT_ANSWER)
			request->in_doubt |= may_be_executed(request);
	}
	retry_gate_leave(&store->gate, epoch,
					 verdict == VERDICT_ANSWER       ? RETRY_SUCCESS
					 : verdict == VERDICT_OVERLOADED ? RETRY_OVERLOADED
													 : RETRY_FAILED);
	if (verdict == VERDICT_KEYS)
		credentials_reject(store->credentials, &keys);
	credential_keys_free(&keys);
	return verdict;
}

/* Takes over the time of an answer; false: it says none. */
static bool
set_clock(S3Store *store, const HttpAnswer *answer)
{
	int64 offset = answer->date - (int64) time(NULL);

	if (answer->date == 0)
		return false;
	__atomic_store_n(&store->clock_offset, offset, __ATOMIC_RELAXED);
	ps_log(PS_WARNING,
		   "the clock of this machine differs by %lld s from that of object storage, whose time is used for requests",
		   (long long) offset);
	return true;
}

PsError *
s3_send(S3Store *store, S3Request *request, const ObjectWait *wait)
{
	char hash[SIGN_HASH_SIZE];
	bool clock_set = false;
	bool keys_changed = false;
	int failed = 0;
	int damaged = 0;

	request->in_doubt = false;
	PS_TRY(hash_body(request, hash));
	for (;;)
	{
		PsError *err;
		PsError *ended;
		Verdict verdict;
		bool again = false;

		if (request->prepare != NULL && !request->prepare(request->arg))
			return NULL;
		verdict = attempt(store, request, hash, wait, &err);
		switch (verdict)
		{
			case VERDICT_ANSWER:
				return NULL;
			case VERDICT_AGAIN:
			case VERDICT_OVERLOADED:
				/* in an outage of hours keys may expire more than once */
				again = true;
				clock_set = keys_changed = false;
				break;
			case VERDICT_DAMAGED:
				again = ++damaged < MAX_DAMAGED;
				break;
			case VERDICT_CLOCK:
				again = !clock_set && set_clock(store, &request->answer);
				clock_set = true;
				break;
			case VERDICT_KEYS:
				again = !keys_changed;
				keys_changed = true;
				break;
			case VERDICT_REFUSED:
				break;
		}
		if (err == NULL)
			err = s3_refused(store, request);
		if (!again)
			return err;
		/* the clock and keys are other ones now: at once */
		if (verdict == VERDICT_CLOCK || verdict == VERDICT_KEYS)
		{
			ps_error_free(err);
			continue;
		}
		ended = retry_sleep(retry_pause(++failed, request->answer.retry_after_ms), wait != NULL ? wait->cancel : NULL,
							wait != NULL ? wait->deadline : 0);
		if (ended != NULL && !ended->is_cancel)
		{
			/* the deadline: the last error says more */
			ps_error_free(ended);
			return err;
		}
		ps_error_free(err);
		PS_TRY(ended);
	}
}
