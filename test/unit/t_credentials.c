/*
 * t_credentials.c
 *	  Keys for object storage from each source, their order, and their renewal.
 */
#include "ps_fe.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "http_server.h"
#include "remote/credentials.h"
#include "sqlstate.h"

static HttpServer *server;
static int valid_s;    /* for which the server's keys are good */
static int fetches;    /* that gave keys */
static bool broken;    /* the server answers 500 */
static char file[100]; /* with keys, or a token */

static void
answer_keys(ServerAnswer *answer, const char *format)
{
	time_t end = time(NULL) + valid_s;
	struct tm tm;
	char text[32];
	char *body;

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
	fetches = 0;
	broken = false;
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
	PsError *err = credentials_get(credentials, NULL, &keys);

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
	PsError *err = credentials_get(credentials, NULL, &keys);

	assert_non_null(err);
	assert_string_equal(err->sqlstate, sqlstate);
	assert_null(keys.access_key);
	ps_error_free(err);
}

static void
test_file(void **state)
{
	Credentials *credentials = credentials_create(file, "us-east-1");

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

	/* a damaged one: the keys that were read are used on */
	write_file("nothing\n", 0600);
	assert_keys(credentials, "default", "tok");
	credentials_destroy(credentials);
}

static void
test_environment(void **state)
{
	Credentials *credentials = credentials_create(NULL, "us-east-1");
	CredentialKeys keys;

	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	assert_none(credentials, PS_SQLSTATE_STATE);
	setenv("AWS_ACCESS_KEY_ID", "environment", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "x", 1);
	assert_keys(credentials, "environment", NULL);

	/* rejected: they are read again */
	setenv("AWS_SESSION_TOKEN", "tok", 1);
	assert_keys(credentials, "environment", NULL);
	assert_null(credentials_get(credentials, NULL, &keys));
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
	credentials = credentials_create(NULL, "us-east-1");
	assert_keys(credentials, "machine1", "t");
	assert_keys(credentials, "machine1", "t");
	credentials_destroy(credentials);

	set_endpoint("AWS_CONTAINER_CREDENTIALS_FULL_URI", "/container");
	credentials = credentials_create("", "us-east-1");
	assert_none(credentials, PS_SQLSTATE_STATE);
	write_file("container-token\n", 0600);
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file, 1);
	assert_keys(credentials, "container2", "t");
	credentials_destroy(credentials);

	write_file("to/ken\n", 0600);
	setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file, 1);
	setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r", 1);
	set_endpoint("AWS_ENDPOINT_URL_STS", "");
	credentials = credentials_create(NULL, "us-east-1");
	assert_keys(credentials, "sts3", "t");
	credentials_destroy(credentials);
}

static void
test_renewal(void **state)
{
	Credentials *credentials = credentials_create(NULL, "us-east-1");
	CredentialKeys keys;
	PsError *err;

	set_endpoint("AWS_EC2_METADATA_SERVICE_ENDPOINT", "");
	broken = true;
	assert_none(credentials, PS_SQLSTATE_TRY_AGAIN);
	broken = false;

	/* good for longer than the margin; then rejected by the service */
	assert_keys(credentials, "machine1", "t");
	assert_null(credentials_get(credentials, NULL, &keys));
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
		err = credentials_get(credentials, NULL, &keys);
		credential_keys_free(&keys);
	} while (err == NULL);
	assert_string_equal(err->sqlstate, PS_SQLSTATE_TRY_AGAIN);
	ps_error_free(err);
	broken = false;
	valid_s = 3600;
	assert_keys(credentials, "machine3", "t");

	/* they come expired */
	credentials_destroy(credentials);
	credentials = credentials_create(NULL, "us-east-1");
	valid_s = -10;
	err = credentials_get(credentials, NULL, &keys);
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
		PsError *err = credentials_get(arg, NULL, &keys);

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
	Credentials *credentials = credentials_create(NULL, "us-east-1");
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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_environment, setup, teardown),
		cmocka_unit_test_setup_teardown(test_services, setup, teardown),
		cmocka_unit_test_setup_teardown(test_renewal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
