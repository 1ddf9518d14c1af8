/*
 * t_credentials.c
 *	  Keys for object storage from each source, their order, and their renewal.
 */
#include "ps_fe.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "http_server.h"
#include "remote/credentials.h"
#include "sqlstate.h"

static HttpServer *server;
static int valid_s;    /* for which the server's keys are good */
static int clock_s;    /* of the server, ahead of this machine's */
static int fetches;    /* that gave keys */
static bool broken;    /* the server answers 500 */
static bool hanging;   /* the server does not answer */
static char file[100]; /* with keys, or a token */

static void
answer_keys(ServerAnswer *answer, const char *format)
{
	time_t now = time(NULL) + clock_s;
	time_t end = now + valid_s;
	struct tm tm;
	char text[64];
	char *body;

	gmtime_r(&now, &tm);
	strftime(text, sizeof(text), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
	answer->headers = strdup(text);
	gmtime_r(&end, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	fetches++;
	if (strcmp(format, "sts") == 0)
		body = psprintf(
			"{\"AssumeRoleWithWebIdentityResponse\": {\"AssumeRoleWithWebIdentityResult\": {\"Credentials\": "
			"{\"AccessKeyId\": \"sts%d\", \"SecretAccessKey\": \"s\", \"SessionToken\": \"t\", "
			"\"Expiration\": %lld}}}}",
			fetches, (long long) end);
	else
		body =
			psprintf("{\"Code\": \"Success\", \"AccessKeyId\": \"%s%d\", \"SecretAccessKey\": \"s\", \"Token\": \"t\", "
					 "\"Expiration\": \"%s\"}",
					 format, fetches, text);
	server_answer_text(answer, 200, body);
	free(body);
}

/* STS, a container's service and that of a machine. */
static void
handler(void *arg, const ServerRequest *request, ServerAnswer *answer)
{
	char *token = server_request_header(request, "x-aws-ec2-metadata-token");
	char *authorization = server_request_header(request, "authorization");
	const char *role = "/latest/meta-data/iam/security-credentials/";

	answer->fault = hanging ? SERVER_HANGS : SERVER_ANSWERS;
	if (broken)
		server_answer_text(answer, 500, "<Error><Code>InternalFailure</Code></Error>");
	else if (strcmp(request->target, "/latest/api/token") == 0 && strcmp(request->method, "PUT") == 0)
		server_answer_text(answer, 200, "machine-token");
	else if (strncmp(request->target, role, strlen(role)) == 0)
	{
		if (token == NULL || strcmp(token, "machine-token") != 0)
			server_answer_text(answer, 401, "");
		else if (request->target[strlen(role)] == '\0')
			server_answer_text(answer, 200, "role\nother");
		else if (strcmp(request->target + strlen(role), "role") == 0)
			answer_keys(answer, "machine");
		else
			server_answer_text(answer, 404, "");
	}
	else if (strcmp(request->target, "/container") == 0)
	{
		if (authorization == NULL || strcmp(authorization, "container-token") != 0)
			server_answer_text(answer, 403, "");
		else
			answer_keys(answer, "container");
	}
	else if (strstr(request->target, "Action=AssumeRoleWithWebIdentity") != NULL &&
			 strstr(request->target, "WebIdentityToken=to%2Fken") != NULL &&
			 strstr(request->target, "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr") != NULL)
		answer_keys(answer, "sts");
	else if (strstr(request->target, "Action=AssumeRoleWithWebIdentity") != NULL)
		server_answer_text(answer, 400,
						   "{\"Error\": {\"Code\": \"InvalidIdentityToken\", \"Message\": \"No such provider\","
						   " \"Type\": \"Sender\"}, \"RequestId\": \"x\"}");
	else
		server_answer_text(answer, 400, "<Error><Code>InvalidRequest</Code></Error>");
	free(token);
	free(authorization);
}

static void
write_file(const char *text, mode_t mode)
{
	FILE *f;

	unlink(file);
	f = fopen(file, "w");
	fputs(text, f);
	fclose(f);
	chmod(file, mode);
}

static void
set_endpoint(const char *variable, const char *path)
{
	char url[100];

	snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", http_server_port(server), path);
	setenv(variable, url, 1);
}

static int
setup(void **state)
{
	static const char *const variables[] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
											"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ENDPOINT_URL_STS",
											"AWS_CONTAINER_CREDENTIALS_FULL_URI",
											"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
											"AWS_CONTAINER_AUTHORIZATION_TOKEN",
											"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
											"AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_SERVICE_ENDPOINT",
											"AWS_ROLE_SESSION_NAME"};

	for (int i = 0; i < lengthof(variables); i++)
		unsetenv(variables[i]);
	valid_s = 3600;
	clock_s = 0;
	fetches = 0;
	broken = hanging = false;
	snprintf(file, sizeof(file), "/tmp/t_credentials.%d", (int) getpid());
	server = http_server_start(handler, NULL);
	return 0;
}

static int
teardown(void **state)
{
	http_server_stop(server);
	unlink(file);
	return 0;
}

static void
assert_keys(Credentials *credentials, const char *access_key, const char *token)
{
	CredentialKeys keys;
	PsError *err = credentials_get(credentials, NULL, 0, &keys);

	if (err != NULL)
		fail_msg("%s", err->message);
	assert_string_equal(keys.access_key, access_key);
	if (token == NULL)
		assert_null(keys.token);
	else
		assert_string_equal(keys.token, token);
	credential_keys_free(&keys);
}

static void
assert_none(Credentials *credentials, const char *sqlstate)
{
	CredentialKeys keys;
	PsError *err = credentials_get(credentials, NULL, 0, &keys);

	assert_non_null(err);
	assert_string_equal(err->sqlstate, sqlstate);
	assert_null(keys.access_key);
	ps_error_free(err);
}

/* STS is far away: behind a proxy, and with a CA that the store is told. */
static void
test_sts_by_proxy(void **state)
{
	char proxy[100];
	HttpSettings sts = {.proxy = proxy};
	Credentials *credentials;

	snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%d", http_server_port(server));
	write_file("to/ken\n", 0600);
	setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file, 1);
	setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r", 1);
	setenv("AWS_ENDPOINT_URL_STS", "http://sts.invalid", 1);
	credentials = credentials_create(NULL, "us-east-1", &sts);
	assert_keys(credentials, "sts1", "t");
	credentials_destroy(credentials);

	/* the machine's service is not */
	unsetenv("AWS_WEB_IDENTITY_TOKEN_FILE");
	setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1", 1);
	credentials = credentials_create(NULL, "us-east-1", &sts);
	assert_none(credentials, PS_SQLSTATE_TRY_AGAIN);
	credentials_destroy(credentials);
}

/* An error of STS is JSON, since keys are asked for as JSON. */
static void
test_sts_error(void **state)
{
	Credentials *credentials;
	CredentialKeys keys;
	PsError *err;

	write_file("other\n", 0600);
	setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file, 1);
	setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r", 1);
	set_endpoint("AWS_ENDPOINT_URL_STS", "");
	credentials = credentials_create(NULL, "us-east-1", NULL);
	err = credentials_get(credentials, NULL, 0, &keys);
	assert_non_null(err);
	assert_string_equal(err->sqlstate, PS_SQLSTATE_STATE);
	assert_non_null(strstr(err->message, "status 400: InvalidIdentityToken"));
	assert_string_equal(err->detail, "No such provider");
	ps_error_free(err);
	credentials_destroy(credentials);
}

/* The clock of this machine is a day ahead: it does not say when keys end. */
static void
test_wrong_clock(void **state)
{
	Credentials *credentials = credentials_create(NULL, "us-east-1", NULL);

	clock_s = -86400;
	set_endpoint("AWS_EC2_METADATA_SERVICE_ENDPOINT", "");
	assert_keys(credentials, "machine1", "t");
	assert_keys(credentials, "machine1", "t");
	credentials_destroy(credentials);

	write_file("to/ken\n", 0600);
	setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file, 1);
	setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r", 1);
	set_endpoint("AWS_ENDPOINT_URL_STS", "");
	credentials = credentials_create(NULL, "us-east-1", NULL);
	assert_keys(credentials, "sts2", "t");
	assert_keys(credentials, "sts2", "t");
	credentials_destroy(credentials);
}

/* Asks for the keys n times, and returns the number of lines that are logged meanwhile. */
static int
count_warnings(Credentials *credentials, const char *access_key, const char *token, int n)
{
	FILE *log = tmpfile();
	int saved = dup(STDERR_FILENO);
	int lines = 0;

	assert_true(saved >= 0 && dup2(fileno(log), STDERR_FILENO) >= 0);
	while (n-- > 0)
		assert_keys(credentials, access_key, token);
	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(log);
	for (int c; (c = fgetc(log)) != EOF;)
		lines += c == '\n';
	fclose(log);
	return lines;
}

static void
test_file(void **state)
{
	Credentials *credentials = credentials_create(file, "us-east-1", NULL);

	/* the file is first, and needed if it is named */
	setenv("AWS_ACCESS_KEY_ID", "environment", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "x", 1);
	assert_none(credentials, PS_SQLSTATE_STATE);
	write_file("aws_access_key_id = plain\naws_secret_access_key=a=b\n", 0644);
	assert_none(credentials, PS_SQLSTATE_STATE);
	write_file("aws_access_key_id = plain\n", 0600);
	assert_none(credentials, PS_SQLSTATE_STATE);
	write_file("# comment\naws_access_key_id = plain\naws_secret_access_key=a=b\n", 0600);
	assert_keys(credentials, "plain", NULL);

	/* read again when it changes; other sections are others' */
	write_file("[other]\naws_access_key_id = other\naws_secret_access_key = x\n"
			   "[default]\r\n aws_access_key_id = default \r\naws_secret_access_key = x\naws_session_token = tok\n",
			   0600);
	assert_keys(credentials, "default", "tok");

	/* one that others may read: the keys that were read are used on, and that is not said at each request */
	write_file("aws_access_key_id = plain\naws_secret_access_key=a=b\n", 0644);
	assert_int_equal(count_warnings(credentials, "default", "tok", 5), 1);

	/* a damaged one: likewise */
	write_file("nothing\n", 0600);
	assert_int_equal(count_warnings(credentials, "default", "tok", 5), 1);
	credentials_destroy(credentials);
}

static void
test_environment(void **state)
{
	Credentials *credentials = credentials_create(NULL, "us-east-1", NULL);
	CredentialKeys keys;

	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	assert_none(credentials, PS_SQLSTATE_STATE);
	setenv("AWS_ACCESS_KEY_ID", "environment", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "x", 1);
	assert_keys(credentials, "environment", NULL);

	/* rejected: they are read again */
	setenv("AWS_SESSION_TOKEN", "tok", 1);
	assert_keys(credentials, "environment", NULL);
	assert_null(credentials_get(credentials, NULL, 0, &keys));
	credentials_reject(credentials, &keys);
	assert_keys(credentials, "environment", "tok");
	/* of keys that others have replaced nothing follows */
	setenv("AWS_ACCESS_KEY_ID", "third", 1);
	credentials_reject(credentials, &keys);
	assert_keys(credentials, "environment", "tok");
	credential_keys_free(&keys);
	credentials_destroy(credentials);
}

static void
test_services(void **state)
{
	Credentials *credentials;

	set_endpoint("AWS_EC2_METADATA_SERVICE_ENDPOINT", "");
	credentials = credentials_create(NULL, "us-east-1", NULL);
	assert_keys(credentials, "machine1", "t");
	assert_keys(credentials, "machine1", "t");
	credentials_destroy(credentials);

	set_endpoint("AWS_CONTAINER_CREDENTIALS_FULL_URI", "/container");
	credentials = credentials_create("", "us-east-1", NULL);
	assert_none(credentials, PS_SQLSTATE_STATE);
	write_file("container-token\n", 0600);
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file, 1);
	assert_keys(credentials, "container2", "t");
	credentials_destroy(credentials);

	write_file("to/ken\n", 0600);
	setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file, 1);
	setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r", 1);
	set_endpoint("AWS_ENDPOINT_URL_STS", "");
	credentials = credentials_create(NULL, "us-east-1", NULL);
	assert_keys(credentials, "sts3", "t");
	credentials_destroy(credentials);
}

static void
test_renewal(void **state)
{
	Credentials *credentials = credentials_create(NULL, "us-east-1", NULL);
	CredentialKeys keys;
	PsError *err;

	set_endpoint("AWS_EC2_METADATA_SERVICE_ENDPOINT", "");
	broken = true;
	assert_none(credentials, PS_SQLSTATE_TRY_AGAIN);
	broken = false;

	/* good for longer than the margin; then rejected by the service */
	assert_keys(credentials, "machine1", "t");
	assert_null(credentials_get(credentials, NULL, 0, &keys));
	credentials_reject(credentials, &keys);
	credential_keys_free(&keys);
	broken = true;
	assert_none(credentials, PS_SQLSTATE_TRY_AGAIN);
	broken = false;

	/* good for two seconds: renewed after one; if that fails, used until they end */
	valid_s = 2;
	assert_keys(credentials, "machine2", "t");
	broken = true;
	do
	{
		err = credentials_get(credentials, NULL, 0, &keys);
		credential_keys_free(&keys);
	} while (err == NULL);
	assert_string_equal(err->sqlstate, PS_SQLSTATE_TRY_AGAIN);
	ps_error_free(err);
	broken = false;
	valid_s = 3600;
	assert_keys(credentials, "machine3", "t");

	/* they come expired */
	credentials_destroy(credentials);
	credentials = credentials_create(NULL, "us-east-1", NULL);
	valid_s = -10;
	err = credentials_get(credentials, NULL, 0, &keys);
	if (err == NULL)
	{
		/* within the millisecond that they are given at least */
		credential_keys_free(&keys);
	}
	ps_error_free(err);
	credentials_destroy(credentials);
}

static void *
get_many(void *arg)
{
	for (int i = 0; i < 200; i++)
	{
		CredentialKeys keys;
		PsError *err = credentials_get(arg, NULL, 0, &keys);

		assert_null(err);
		assert_non_null(keys.access_key);
		if (i % 50 == 0)
			credentials_reject(arg, &keys);
		credential_keys_free(&keys);
	}
	return NULL;
}

static void
test_threads(void **state)
{
	Credentials *credentials = credentials_create(NULL, "us-east-1", NULL);
	pthread_t threads[4];

	set_endpoint("AWS_EC2_METADATA_SERVICE_ENDPOINT", "");
	for (int i = 0; i < lengthof(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, get_many, credentials), 0);
	for (int i = 0; i < lengthof(threads); i++)
		pthread_join(threads[i], NULL);
	/* what several threads reject is fetched once */
	assert_in_range(fetches, 1, 1 + 4 * lengthof(threads));
	credentials_destroy(credentials);
}

#define WAITERS 6

static _Atomic bool canceled;

static PsError *
is_canceled(void *arg)
{
	return atomic_load(&canceled) ? cancel_error(CANCEL_STORE_STOPPING, NULL) : NULL;
}

typedef struct Waiter
{
	pthread_t thread;
	Credentials *credentials;
	CancelCheck cancel;
	int64 deadline;
	PsError *err;
} Waiter;

static void *
get_one(void *arg)
{
	Waiter *waiter = arg;
	CredentialKeys keys;

	waiter->err = credentials_get(waiter->credentials, &waiter->cancel, waiter->deadline, &keys);
	credential_keys_free(&keys);
	return NULL;
}

/* Starts threads that want keys; all but the first have this deadline. */
static void
start_waiters(Waiter *waiters, Credentials *credentials, int64 deadline)
{
	atomic_store(&canceled, false);
	for (int i = 0; i < WAITERS; i++)
	{
		waiters[i] = (Waiter) {.credentials = credentials, .cancel = {is_canceled}, .deadline = i == 0 ? 0 : deadline};
		assert_int_equal(pthread_create(&waiters[i].thread, NULL, get_one, &waiters[i]), 0);
		/* the first one is fetching when the others come */
		while (i == 0 && http_server_requests(server) == 0)
			usleep(1000);
	}
}

/* Threads that wait for another's request end with it, at their deadline, or when they are canceled. */
static void
test_waiters(void **state)
{
	Credentials *credentials = credentials_create(NULL, "us-east-1", NULL);
	Waiter waiters[WAITERS];
	int64 begin = clock_now_ms();

	set_endpoint("AWS_EC2_METADATA_SERVICE_ENDPOINT", "");
	hanging = true;
	start_waiters(waiters, credentials, begin + 200);
	for (int i = 1; i < WAITERS; i++)
	{
		pthread_join(waiters[i].thread, NULL);
		assert_non_null(waiters[i].err);
		assert_string_equal(waiters[i].err->sqlstate, PS_SQLSTATE_TRY_AGAIN);
		assert_false(waiters[i].err->is_cancel);
		ps_error_free(waiters[i].err);
	}
	/* nobody else has asked */
	assert_int_equal(http_server_requests(server), 1);
	atomic_store(&canceled, true);
	pthread_join(waiters[0].thread, NULL);
	assert_true(waiters[0].err->is_cancel);
	ps_error_free(waiters[0].err);
	/* all of it is shorter than one request may be */
	assert_true(clock_now_ms() - begin < 5000);

	teardown(state);
	setup(state);
	set_endpoint("AWS_EC2_METADATA_SERVICE_ENDPOINT", "");
	hanging = true;
	start_waiters(waiters, credentials, 0);
	atomic_store(&canceled, true);
	for (int i = 0; i < WAITERS; i++)
	{
		pthread_join(waiters[i].thread, NULL);
		assert_true(waiters[i].err->is_cancel);
		ps_error_free(waiters[i].err);
	}

	/* a request that fails has failed for all */
	teardown(state);
	setup(state);
	set_endpoint("AWS_EC2_METADATA_SERVICE_ENDPOINT", "");
	hanging = true;
	start_waiters(waiters, credentials, 0);
	for (int i = 0; i < WAITERS; i++)
	{
		pthread_join(waiters[i].thread, NULL);
		assert_string_equal(waiters[i].err->sqlstate, PS_SQLSTATE_TRY_AGAIN);
		ps_error_free(waiters[i].err);
	}
	assert_in_range(http_server_requests(server), 1, 2);
	hanging = false;
	assert_keys(credentials, "machine1", "t");
	credentials_destroy(credentials);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_environment, setup, teardown),
		cmocka_unit_test_setup_teardown(test_services, setup, teardown),
		cmocka_unit_test_setup_teardown(test_renewal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sts_by_proxy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sts_error, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_clock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_waiters, setup, teardown),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
