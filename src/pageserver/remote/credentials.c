/*
 * credentials.c
 *	  Keys to sign requests with: see credentials.h.
 */
#include "ps_fe.h"

#include <jansson.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/fs.h"
#include "remote/credentials.h"
#include "remote/retry.h"
#include "remote/s3_xml.h"
#include "remote/sign.h"
#include "sqlstate.h"

#define METADATA_URL   "http://169.254.169.254"
#define CONTAINER_URL  "http://169.254.170.2"
#define METADATA_PATH  "/latest/meta-data/iam/security-credentials/"
#define REQUEST_MS     5000  /* of one request to such a service */
#define RENEW_AGAIN_MS 10000 /* pause after a renewal that failed while the keys are good */
#define FILE_MAX       65536

struct Credentials
{
	char *key_file;
	char *region;
	HttpClient *near; /* for services on the machine, or beside it */
	HttpClient *sts;
	pthread_mutex_t lock;  /* protects all below; a leaf */
	pthread_cond_t ended;  /* fetching has become false */
	bool fetching;         /* a thread fetches keys */
	uint64 fetches;        /* that have ended */
	PsError *failure;      /* of the last one, for those that wait for it; NULL if it succeeded or was canceled */
	CredentialKeys keys;   /* access_key NULL: none */
	int64 renew_at;        /* of clock_now_ms(); 0: they do not end */
	int64 end;             /* likewise */
	struct timespec mtime; /* of the key file as it was read */
	bool rejected;         /* keys must not be used again */
};

/* For how long a source may be asked, and what it gave. */
typedef struct Fetched
{
	const CancelCheck *cancel;
	int64 deadline; /* 0: none */
	CredentialKeys keys;
	int64 now;      /* when the source answered, s since 1970; by its own clock if it says so, as keys' ends are */
	int64 valid_ms; /* 0: they do not end */
	struct timespec mtime;
} Fetched;

void
credential_keys_free(CredentialKeys *keys)
{
	free(keys->access_key);
	if (keys->secret_key != NULL)
		explicit_bzero(keys->secret_key, strlen(keys->secret_key));
	free(keys->secret_key);
	free(keys->token);
	memset(keys, 0, sizeof(CredentialKeys));
}

Credentials *
credentials_create(const char *key_file, const char *region, const HttpSettings *sts)
{
	Credentials *credentials = pg_malloc0(sizeof(Credentials));
	HttpSettings near = {.proxy = "", .idle_handles = 1, .connect_timeout = 2, .stall_timeout = 5};
	HttpSettings far = {.idle_handles = 1};

	if (sts != NULL)
	{
		far.ca_file = sts->ca_file;
		far.no_verify_tls = sts->no_verify_tls;
		far.proxy = sts->proxy;
	}
	credentials->key_file = key_file != NULL && key_file[0] != '\0' ? pg_strdup(key_file) : NULL;
	credentials->region = pg_strdup(region);
	credentials->near = http_client_create(&near);
	credentials->sts = http_client_create(&far);
	pthread_mutex_init(&credentials->lock, NULL);
	clock_cond_init(&credentials->ended);
	return credentials;
}

void
credentials_destroy(Credentials *credentials)
{
	if (credentials == NULL)
		return;
	credential_keys_free(&credentials->keys);
	http_client_destroy(credentials->near);
	http_client_destroy(credentials->sts);
	pthread_mutex_destroy(&credentials->lock);
	pthread_cond_destroy(&credentials->ended);
	ps_error_free(credentials->failure);
	free(credentials->key_file);
	free(credentials->region);
	free(credentials);
}

/* NULL if it is not set, or empty. */
static const char *
environment(const char *name)
{
	const char *value = getenv(name);

	return value != NULL && value[0] != '\0' ? value : NULL;
}

static char *
copy_or_null(const char *text)
{
	return text != NULL && text[0] != '\0' ? pg_strdup(text) : NULL;
}

/* The contents of a small file without white space at its ends, malloc'd. */
static PsError *
read_text(const char *path, char **text)
{
	char *buf = pg_malloc(FILE_MAX + 1);
	ssize_t len;
	PsError *err = fs_read_file(path, buf, FILE_MAX, &len);

	*text = NULL;
	if (err == NULL && len < 0)
		err = ps_error(PS_SQLSTATE_STATE, "file \"%s\" does not exist", path);
	if (err != NULL)
	{
		free(buf);
		return err;
	}
	while (len > 0 && strchr(" \t\r\n", buf[len - 1]) != NULL)
		len--;
	buf[len] = '\0';
	*text = buf;
	return NULL;
}

/* ---- key file ---- */

/* Removes white space at both ends. */
static char *
trim(char *text)
{
	size_t len;

	text += strspn(text, " \t\r");
	len = strlen(text);
	while (len > 0 && strchr(" \t\r", text[len - 1]) != NULL)
		text[--len] = '\0';
	return text;
}

PsError *
credentials_check_file(const char *path, struct stat *st)
{
	if (stat(path, st) != 0)
		return ps_error(PS_SQLSTATE_STATE, "could not stat key file \"%s\": %m", path);
	if ((st->st_mode & (S_IRWXG | S_IRWXO)) == 0)
		return NULL;
	return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "key file \"%s\" has group or world access", path),
						 "Permissions should be u=rw (0600) or less.");
}

static PsError *
fetch_file(Credentials *credentials, Fetched *fetched)
{
	bool relevant = true; /* before the first section, or in [default] */
	struct stat st;
	char *text;
	char *save;
	PsError *err;

	memset(&st, 0, sizeof(st));
	err = credentials_check_file(credentials->key_file, &st);
	fetched->mtime = st.st_mtim;
	PS_TRY(err);
	PS_TRY(read_text(credentials->key_file, &text));
	for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save))
	{
		char *equals = strchr(line, '=');
		char *name;
		char **member = NULL;

		line = trim(line);
		if (line[0] == '[')
			relevant = strcmp(line, "[default]") == 0;
		if (line[0] == '[' || line[0] == '#' || line[0] == ';' || equals == NULL || !relevant)
			continue;
		*equals = '\0';
		name = trim(line);
		if (strcmp(name, "aws_access_key_id") == 0)
			member = &fetched->keys.access_key;
		else if (strcmp(name, "aws_secret_access_key") == 0)
			member = &fetched->keys.secret_key;
		else if (strcmp(name, "aws_session_token") == 0)
			member = &fetched->keys.token;
		if (member == NULL)
			continue;
		free(*member);
		*member = copy_or_null(trim(equals + 1));
	}
	explicit_bzero(text, strlen(text));
	free(text);
	if (fetched->keys.access_key != NULL && fetched->keys.secret_key != NULL)
		return NULL;
	return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "key file \"%s\" has no keys", credentials->key_file),
						 "It has lines \"aws_access_key_id = ...\" and \"aws_secret_access_key = ...\".");
}

/* ---- services ---- */

/* "2026-01-02T03:04:05Z" as ms from now, s since 1970, at least 1; 0: not such a text. */
static int64
parse_end(const char *text, int64 now)
{
	struct tm tm = {0};
	const char *rest = text != NULL ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;

	if (rest == NULL)
		return 0;
	return Max(((int64) timegm(&tm) - now) * 1000, 1);
}

/* The error for an answer without keys, which may have an <Error>, or the same as JSON. */
static PsError *
refused(const HttpAnswer *answer, const char *what)
{
	json_t *root = json_loads(answer->body.data, 0, NULL);
	json_t *json = json_object_get(root, "Error");
	const char *code = json_string_value(json_object_get(json, "Code"));
	const char *message = json_string_value(json_object_get(json, "Message"));
	S3Error error;
	PsError *err;

	if (code == NULL && s3_xml_error(answer->body.data, answer->body.len, &error))
	{
		code = error.code;
		message = error.message;
	}
	err = ps_error(answer->status >= 500 || answer->status == 429 ? PS_SQLSTATE_TRY_AGAIN : PS_SQLSTATE_STATE,
				   "%s answered with status %d%s%.64s", what, answer->status, code != NULL ? ": " : "",
				   code != NULL ? code : "");
	if (message != NULL && message[0] != '\0')
		ps_error_detail(err, "%.256s", message);
	json_decref(root);
	return err;
}

/* A request to a service that has keys; what: for messages.  The caller frees *text. */
static PsError *
ask(HttpClient *http, HttpRequest *request, Fetched *fetched, const char *what, char **text)
{
	HttpAnswer answer;
	PsError *err;

	*text = NULL;
	request->deadline = clock_now_ms() + REQUEST_MS;
	if (fetched->deadline != 0)
		request->deadline = Min(request->deadline, fetched->deadline);
	request->max_body = FILE_MAX;
	err = http_perform(http, request, fetched->cancel, &answer);
	fetched->now = answer.date != 0 ? answer.date : (int64) time(NULL);
	if (err == NULL && answer.status != 200)
		err = refused(&answer, what);
	if (err == NULL)
		*text = pg_strdup(answer.body.data);
	else if (!err->is_cancel)
		ps_error_context(err, "could not get keys for object storage");
	http_answer_free(&answer);
	return err;
}

/* The object that container and machine services answer with. */
static PsError *
parse_keys(const char *text, const char *what, Fetched *fetched)
{
	json_t *root = json_loads(text, 0, NULL);
	PsError *err = NULL;

	fetched->keys.access_key = copy_or_null(json_string_value(json_object_get(root, "AccessKeyId")));
	fetched->keys.secret_key = copy_or_null(json_string_value(json_object_get(root, "SecretAccessKey")));
	fetched->keys.token = copy_or_null(json_string_value(json_object_get(root, "Token")));
	fetched->valid_ms = parse_end(json_string_value(json_object_get(root, "Expiration")), fetched->now);
	if (fetched->keys.access_key == NULL || fetched->keys.secret_key == NULL)
		err = ps_error(PS_SQLSTATE_STATE, "%s gave no keys for object storage", what);
	json_decref(root);
	return err;
}

static PsError *
fetch_web_identity(Credentials *credentials, Fetched *fetched)
{
	const char *endpoint = environment("AWS_ENDPOINT_URL_STS");
	const char *session = environment("AWS_ROLE_SESSION_NAME");
	const char *headers[] = {"accept: application/json"};
	char *token;
	char *text;
	StringInfoData url;
	json_t *root;
	json_t *keys;
	PsError *err;

	PS_TRY(read_text(environment("AWS_WEB_IDENTITY_TOKEN_FILE"), &token));
	initStringInfo(&url);
	if (endpoint != NULL)
		appendStringInfo(&url, "%s/?", endpoint);
	else
		appendStringInfo(&url, "https://sts.%s.amazonaws.com/?", credentials->region);
	{
		SignPair query[] = {{"Action", "AssumeRoleWithWebIdentity"},
							{"Version", "2011-06-15"},
							{"RoleArn", environment("AWS_ROLE_ARN")},
							{"RoleSessionName", session != NULL ? session : "pageserver"},
							{"WebIdentityToken", token}};

		sign_query(&url, query, lengthof(query));
	}
	err = ask(credentials->sts, &(HttpRequest) {.method = "GET", .url = url.data, .headers = headers, .nheaders = 1},
			  fetched, "STS", &text);
	pfree(url.data);
	free(token);
	PS_TRY(err);

	root = json_loads(text, 0, NULL);
	free(text);
	keys = json_object_get(json_object_get(json_object_get(root, "AssumeRoleWithWebIdentityResponse"),
										   "AssumeRoleWithWebIdentityResult"),
						   "Credentials");
	fetched->keys.access_key = copy_or_null(json_string_value(json_object_get(keys, "AccessKeyId")));
	fetched->keys.secret_key = copy_or_null(json_string_value(json_object_get(keys, "SecretAccessKey")));
	fetched->keys.token = copy_or_null(json_string_value(json_object_get(keys, "SessionToken")));
	/* seconds since 1970, as a number */
	fetched->valid_ms = (int64) (json_number_value(json_object_get(keys, "Expiration")) - fetched->now) * 1000;
	fetched->valid_ms = Max(fetched->valid_ms, 1);
	json_decref(root);
	if (fetched->keys.access_key != NULL && fetched->keys.secret_key != NULL)
		return NULL;
	return ps_error(PS_SQLSTATE_STATE, "STS gave no keys for object storage");
}

static PsError *
fetch_container(Credentials *credentials, Fetched *fetched)
{
	const char *relative = environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *token_file = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	const char *token = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN");
	char *url = relative != NULL ? psprintf("%s%s", CONTAINER_URL, relative)
								 : pg_strdup(environment("AWS_CONTAINER_CREDENTIALS_FULL_URI"));
	char *from_file = NULL;
	char *header = NULL;
	char *text = NULL;
	PsError *err = NULL;

	if (token_file != NULL)
		err = read_text(token_file, &from_file);
	if (from_file != NULL)
		token = from_file;
	if (err == NULL && token != NULL)
		header = psprintf("authorization: %s", token);
	if (err == NULL)
	{
		const char *headers[] = {header};

		err = ask(credentials->near,
				  &(HttpRequest) {.method = "GET", .url = url, .headers = headers, .nheaders = header != NULL},
				  fetched, "the container's credential service", &text);
	}
	if (err == NULL)
		err = parse_keys(text, "the container's credential service", fetched);
	free(text);
	free(header);
	free(from_file);
	free(url);
	return err;
}

static PsError *
fetch_metadata(Credentials *credentials, Fetched *fetched)
{
	static const char what[] = "the machine's metadata service";
	const char *base = environment("AWS_EC2_METADATA_SERVICE_ENDPOINT");
	const char *ttl[] = {"x-aws-ec2-metadata-token-ttl-seconds: 21600"};
	HttpRequest token_request = {.method = "PUT", .has_body = true, .body = "", .headers = ttl, .nheaders = 1};
	const char *headers[1] = {NULL};
	char *url;
	char *token = NULL;
	char *header = NULL;
	char *role = NULL;
	char *text = NULL;
	PsError *err;

	base = base != NULL ? base : METADATA_URL;
	url = psprintf("%s/latest/api/token", base);
	token_request.url = url;
	PS_GOTO(ask(credentials->near, &token_request, fetched, what, &token), done);
	header = psprintf("x-aws-ec2-metadata-token: %s", token);
	headers[0] = header;
	free(url);
	url = psprintf("%s" METADATA_PATH, base);
	PS_GOTO(ask(credentials->near, &(HttpRequest) {.method = "GET", .url = url, .headers = headers, .nheaders = 1},
				fetched, what, &role),
			done);
	/* the first role; there is only one */
	role[strcspn(role, "\r\n")] = '\0';
	free(url);
	url = psprintf("%s" METADATA_PATH "%s", base, role);
	PS_GOTO(ask(credentials->near, &(HttpRequest) {.method = "GET", .url = url, .headers = headers, .nheaders = 1},
				fetched, what, &text),
			done);
	err = parse_keys(text, what, fetched);

done:
	free(url);
	free(token);
	free(header);
	free(role);
	free(text);
	return err;
}

/* Keys of the first source that is there. */
static PsError *
fetch(Credentials *credentials, Fetched *fetched)
{
	const char *disabled = environment("AWS_EC2_METADATA_DISABLED");
	PsError *err;

	if (credentials->key_file != NULL)
		return fetch_file(credentials, fetched);
	if (environment("AWS_ACCESS_KEY_ID") != NULL && environment("AWS_SECRET_ACCESS_KEY") != NULL)
	{
		fetched->keys.access_key = pg_strdup(environment("AWS_ACCESS_KEY_ID"));
		fetched->keys.secret_key = pg_strdup(environment("AWS_SECRET_ACCESS_KEY"));
		fetched->keys.token = copy_or_null(environment("AWS_SESSION_TOKEN"));
		return NULL;
	}
	if (environment("AWS_WEB_IDENTITY_TOKEN_FILE") != NULL && environment("AWS_ROLE_ARN") != NULL)
		return fetch_web_identity(credentials, fetched);
	if (environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") != NULL ||
		environment("AWS_CONTAINER_CREDENTIALS_FULL_URI") != NULL)
		return fetch_container(credentials, fetched);
	if (disabled != NULL && pg_strcasecmp(disabled, "true") == 0)
		err = ps_error(PS_SQLSTATE_STATE, "there are no keys for object storage");
	else
		err = fetch_metadata(credentials, fetched);
	if (err == NULL || err->is_cancel)
		return err;
	return ps_error_hint(err,
						 "Set remote_key_file, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment.");
}

/* ---- keeping them ---- */

/* Has the key file changed since it was read? */
static bool
file_changed(const Credentials *credentials)
{
	struct stat st;

	return credentials->key_file != NULL && stat(credentials->key_file, &st) == 0 &&
		   (st.st_mtim.tv_sec != credentials->mtime.tv_sec || st.st_mtim.tv_nsec != credentials->mtime.tv_nsec);
}

/*
 * The state of the keys, and a copy of them if they may be used; with the lock held.
 * *fresh: nobody needs to fetch others.
 */
static bool
copy_keys(const Credentials *credentials, CredentialKeys *keys, bool *fresh)
{
	int64 now = clock_now_ms();
	bool usable = credentials->keys.access_key != NULL && !credentials->rejected &&
				  (credentials->end == 0 || now < credentials->end);

	*fresh = usable && (credentials->renew_at == 0 || now < credentials->renew_at) && !file_changed(credentials);
	memset(keys, 0, sizeof(CredentialKeys));
	if (usable)
	{
		keys->access_key = pg_strdup(credentials->keys.access_key);
		keys->secret_key = pg_strdup(credentials->keys.secret_key);
		keys->token = copy_or_null(credentials->keys.token);
		keys->generation = credentials->keys.generation;
	}
	return usable;
}

/* The keys are what was fetched; with the lock held. */
static void
publish(Credentials *credentials, const Fetched *fetched)
{
	int64 now = clock_now_ms();
	uint64 generation = credentials->keys.generation + 1;

	credential_keys_free(&credentials->keys);
	credentials->keys = fetched->keys;
	credentials->keys.generation = generation;
	credentials->mtime = fetched->mtime;
	credentials->rejected = false;
	credentials->end = fetched->valid_ms > 0 ? now + fetched->valid_ms : 0;
	/* keys that live for less than the usual margin are used for half of their time */
	credentials->renew_at = fetched->valid_ms > 0
								? now + Max(fetched->valid_ms - CREDENTIALS_RENEW_MS, fetched->valid_ms / 2)
								: 0;
}

/* Fetches keys; with the lock held, which is released meanwhile.  Returns the error that others are to have, too. */
static PsError *
fetch_and_publish(Credentials *credentials, Fetched *fetched)
{
	PsError *err;

	credentials->fetching = true;
	pthread_mutex_unlock(&credentials->lock);
	err = fetch(credentials, fetched);
	pthread_mutex_lock(&credentials->lock);
	credentials->fetching = false;
	credentials->fetches++;
	ps_error_free(credentials->failure);
	credentials->failure = err != NULL && !err->is_cancel ? ps_error_copy(err) : NULL;
	pthread_cond_broadcast(&credentials->ended);
	if (err == NULL)
	{
		publish(credentials, fetched);
		return NULL;
	}
	credential_keys_free(&fetched->keys);
	credentials->renew_at = clock_now_ms() + RENEW_AGAIN_MS;
	if (fetched->mtime.tv_sec != 0)
		credentials->mtime = fetched->mtime;
	return err;
}

/* Waits for the thread that fetches keys; with the lock held.  Returns its error, or that of the wait. */
static PsError *
wait_for_fetch(Credentials *credentials, const CancelCheck *cancel, int64 deadline)
{
	CancelWait wait = {.cancel = cancel};
	uint64 fetches = credentials->fetches;
	PsError *err = NULL;

	while (err == NULL && credentials->fetches == fetches)
		err = retry_wait(&wait, &credentials->ended, &credentials->lock, CANCEL_CHECK_MS, deadline);
	if (err == NULL && credentials->failure != NULL)
		err = ps_error_copy(credentials->failure);
	return err;
}

PsError *
credentials_get(Credentials *credentials, const CancelCheck *cancel, int64 deadline, CredentialKeys *keys)
{
	Fetched fetched = {.cancel = cancel, .deadline = deadline};
	PsError *err = NULL;
	bool usable;
	bool fresh;

	pthread_mutex_lock(&credentials->lock);
	/* once more if the thread that fetched them was canceled */
	while (!(usable = copy_keys(credentials, keys, &fresh)) && credentials->fetching)
	{
		err = wait_for_fetch(credentials, cancel, deadline);
		if (err != NULL)
			break;
	}
	if (err == NULL && !fresh && !credentials->fetching)
	{
		err = fetch_and_publish(credentials, &fetched);
		if (err == NULL)
		{
			credential_keys_free(keys);
			usable = copy_keys(credentials, keys, &fresh);
			if (!usable)
				err = ps_error(PS_SQLSTATE_TRY_AGAIN, "the keys for object storage have expired already");
		}
	}
	pthread_mutex_unlock(&credentials->lock);
	if (err == NULL || !usable)
		return err;
	ps_log_error(PS_WARNING, err, "the old keys for object storage are used until they end");
	return NULL;
}

void
credentials_reject(Credentials *credentials, const CredentialKeys *keys)
{
	pthread_mutex_lock(&credentials->lock);
	if (credentials->keys.generation == keys->generation)
		credentials->rejected = true;
	pthread_mutex_unlock(&credentials->lock);
}
