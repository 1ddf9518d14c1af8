/*
 * t_http.c
 *	  The HTTP client against a server that answers, and one that fails.
 */
#include "ps_fe.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "http_server.h"
#include "remote/http.h"
#include "sqlstate.h"

static HttpServer *server;
static HttpClient *client;
static _Atomic ServerFault fault; /* of the next request only */

/* Answers with what it got; the target says what else to do. */
static void
handler(void *arg, const ServerRequest *request, ServerAnswer *answer)
{
	answer->fault = atomic_exchange(&fault, SERVER_ANSWERS);
	if (strcmp(request->target, "/error") == 0)
	{
		server_answer_text(answer, 503, "<Error><Code>SlowDown</Code></Error>");
		answer->headers = strdup("Retry-After: 7\r\nDate: Fri, 24 May 2013 00:00:00 GMT\r\n");
	}
	else if (strcmp(request->target, "/retry-date") == 0)
	{
		server_answer_text(answer, 503, "");
		answer->headers =
			strdup("Date: Fri, 24 May 2013 00:00:00 GMT\r\nRetry-After: Fri, 24 May 2013 00:00:05 GMT\r\n");
	}
	else if (strcmp(request->target, "/range") == 0)
	{
		server_answer_text(answer, 206, "abc");
		answer->headers = strdup("Content-Range: bytes 5-7/1234567890123\r\nETag: \"e\"\r\n"
								 "x-amz-bucket-region: eu-west-1\r\n");
	}
	else if (strcmp(request->target, "/large") == 0)
	{
		answer->body_len = 3 * 1024 * 1024;
		answer->body = malloc(answer->body_len);
		memset(answer->body, 'x', answer->body_len);
	}
	else
	{
		char *text = psprintf("%s %s %zu %.100s", request->method, request->target, request->body_len, request->body);

		server_answer_text(answer, 200, text);
		free(text);
	}
}

static int
setup(void **state)
{
	HttpSettings settings = {.idle_handles = 4, .proxy = "", .stall_timeout = 2, .connect_timeout = 5};

	fault = SERVER_ANSWERS;
	server = http_server_start(handler, NULL);
	client = http_client_create(&settings);
	return 0;
}

static int
teardown(void **state)
{
	http_client_destroy(client);
	http_server_stop(server);
	return 0;
}

static PsError *
perform(HttpRequest *request, const char *path, HttpAnswer *answer)
{
	char url[200];

	snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", http_server_port(server), path);
	request->url = url;
	return http_perform(client, request, NULL, answer);
}

/* Text of the answer to a request that is answered with 200. */
static void
assert_answer(HttpRequest *request, const char *path, const char *text)
{
	HttpAnswer answer;
	PsError *err = perform(request, path, &answer);

	if (err != NULL)
		fail_msg("%s", err->message);
	assert_int_equal(answer.status, 200);
	assert_string_equal(answer.body.data, text);
	http_answer_free(&answer);
}

static void
test_methods(void **state)
{
	const char *headers[] = {"x-test: 1"};

	assert_answer(&(HttpRequest) {.method = "GET", .headers = headers, .nheaders = 1}, "/a?b=c%20d",
				  "GET /a?b=c%20d 0 ");
	assert_answer(&(HttpRequest) {.method = "PUT", .has_body = true, .body = "hello", .body_len = 5}, "/p",
				  "PUT /p 5 hello");
	assert_answer(&(HttpRequest) {.method = "PUT", .has_body = true, .body = ""}, "/p", "PUT /p 0 ");
	assert_answer(&(HttpRequest) {.method = "POST", .has_body = true, .body = "x", .body_len = 1}, "/p",
				  "POST /p 1 x");
	assert_answer(&(HttpRequest) {.method = "POST", .has_body = true, .body = ""}, "/p?uploads=",
				  "POST /p?uploads= 0 ");
	assert_answer(&(HttpRequest) {.method = "DELETE"}, "/p", "DELETE /p 0 ");
	assert_answer(&(HttpRequest) {.method = "HEAD"}, "/p", "");
	assert_int_equal(http_server_connections(server), 1);
}

static void
test_headers(void **state)
{
	HttpAnswer answer;

	assert_null(perform(&(HttpRequest) {.method = "GET"}, "/error", &answer));
	assert_int_equal(answer.status, 503);
	assert_int_equal(answer.retry_after_ms, 7000);
	assert_int_equal(answer.date, 1369353600);
	assert_string_equal(answer.body.data, "<Error><Code>SlowDown</Code></Error>");
	assert_int_equal(answer.content_total, -1);
	http_answer_free(&answer);

	assert_null(perform(&(HttpRequest) {.method = "GET"}, "/retry-date", &answer));
	assert_int_equal(answer.retry_after_ms, 5000);
	http_answer_free(&answer);

	assert_null(perform(&(HttpRequest) {.method = "GET"}, "/range", &answer));
	assert_int_equal(answer.status, 206);
	assert_int_equal(answer.content_total, INT64CONST(1234567890123));
	assert_string_equal(answer.etag, "\"e\"");
	assert_string_equal(answer.region, "eu-west-1");
	assert_int_equal(answer.date, 0);
	http_answer_free(&answer);
}

/* Bodies above the size at which libcurl waits for "100 Continue", of memory and of a file's part. */
static void
test_large_bodies(void **state)
{
	size_t len = 5 * 1024 * 1024;
	char *body = malloc(len);
	char path[] = "/tmp/t_http.XXXXXX";
	int fd = mkstemp(path);
	HttpAnswer answer;
	PsError *err;

	unlink(path);
	memset(body, 'y', len);
	assert_answer(&(HttpRequest) {.method = "PUT", .has_body = true, .body = "z", .body_len = 1}, "/p", "PUT /p 1 z");
	assert_null(perform(&(HttpRequest) {.method = "PUT", .has_body = true, .body = body, .body_len = len}, "/p",
						&answer));
	assert_int_equal(strncmp(answer.body.data, "PUT /p 5242880 yyy", 18), 0);
	http_answer_free(&answer);

	assert_int_equal(pwrite(fd, "0123456789", 10, 0), 10);
	assert_answer(&(HttpRequest) {.method = "PUT", .has_body = true, .body_fd = fd, .body_offset = 3, .body_len = 4},
				  "/p", "PUT /p 4 3456");
	/* shorter than it was said to be */
	err = perform(&(HttpRequest) {.method = "PUT", .has_body = true, .body_fd = fd, .body_len = 11}, "/p", &answer);
	assert_non_null(err);
	assert_string_equal(err->sqlstate, PS_SQLSTATE_IO);
	ps_error_free(err);
	http_answer_free(&answer);
	close(fd);
	free(body);
}

typedef struct Sink
{
	int64 got;
	int64 fail_at; /* -1: never */
} Sink;

static PsError *
take(void *arg, const char *data, size_t len)
{
	Sink *sink = arg;

	sink->got += len;
	return sink->fail_at >= 0 && sink->got > sink->fail_at ? ps_error(PS_SQLSTATE_DISK_FULL, "full") : NULL;
}

static void
test_sinks(void **state)
{
	Sink all = {.fail_at = -1};
	Sink some = {.fail_at = 100000};
	Sink none = {.fail_at = -1};
	HttpAnswer answer;
	PsError *err;

	assert_null(perform(&(HttpRequest) {.method = "GET", .sink_status = 200, .sink = &(ByteSink) {take, &all}},
						"/large", &answer));
	assert_int_equal(all.got, 3 * 1024 * 1024);
	assert_int_equal(answer.sunk, all.got);
	http_answer_free(&answer);

	/* the sink's error */
	err = perform(&(HttpRequest) {.method = "GET", .sink_status = 200, .sink = &(ByteSink) {take, &some}},
				  "/large", &answer);
	assert_non_null(err);
	assert_string_equal(err->sqlstate, PS_SQLSTATE_DISK_FULL);
	ps_error_free(err);
	http_answer_free(&answer);

	/* the body of an error is not for the sink */
	assert_null(perform(&(HttpRequest) {.method = "GET", .sink_status = 200, .sink = &(ByteSink) {take, &none}},
						"/error", &answer));
	assert_int_equal(none.got, 0);
	assert_true(answer.body.len > 0);
	http_answer_free(&answer);

	/* no sink, and more than is allowed */
	err = perform(&(HttpRequest) {.method = "GET", .max_body = 1000}, "/large", &answer);
	assert_non_null(err);
	assert_string_equal(err->sqlstate, PS_SQLSTATE_CORRUPTED);
	ps_error_free(err);
	http_answer_free(&answer);
}

static void
assert_fails(HttpRequest *request, ServerFault with, bool may_have_arrived)
{
	HttpAnswer answer;
	PsError *err;

	fault = with;
	err = perform(request, "/p", &answer);
	assert_non_null(err);
	assert_string_equal(err->sqlstate, PS_SQLSTATE_TRY_AGAIN);
	assert_int_equal(answer.status, 0);
	assert_int_equal(answer.may_have_arrived, may_have_arrived);
	ps_error_free(err);
	http_answer_free(&answer);
}

static void
test_faults(void **state)
{
	HttpRequest get = {.method = "GET"};
	HttpRequest put = {.method = "PUT", .has_body = true, .body = "hello", .body_len = 5};
	HttpAnswer answer;
	int requests;

	/* on a new connection: an error at once */
	assert_fails(&put, SERVER_CLOSES, true);
	assert_fails(&get, SERVER_CUTS, true);
	assert_fails(&put, SERVER_HANGS, true);

	/* on one that was kept open libcurl sends it again by itself: the server has executed it twice */
	assert_answer(&get, "/x", "GET /x 0 ");
	requests = http_server_requests(server);
	fault = SERVER_CLOSES;
	assert_null(perform(&put, "/p", &answer));
	assert_int_equal(answer.status, 200);
	assert_true(answer.may_have_arrived);
	http_answer_free(&answer);
	assert_int_equal(http_server_requests(server), requests + 2);
	assert_null(perform(&put, "/p", &answer));
	assert_false(answer.may_have_arrived);
	http_answer_free(&answer);
}

/* The server has the request, but is not there any more when libcurl sends it again on another connection. */
static void
test_server_dies(void **state)
{
	HttpRequest requests[] = {
		{.method = "PUT", .has_body = true, .body = "hello", .body_len = 5},
		{.method = "PUT", .has_body = true, .body = ""},
		{.method = "DELETE"},
	};
	HttpAnswer answer;
	int before;

	for (int i = 0; i < lengthof(requests); i++)
	{
		if (i > 0)
			setup(state);
		assert_answer(&(HttpRequest) {.method = "GET"}, "/x", "GET /x 0 ");
		before = http_server_requests(server);
		assert_fails(&requests[i], SERVER_DIES, true);
		assert_int_equal(http_server_requests(server), before + 1);
		/* of one that was never sent that is known */
		assert_fails(&requests[i], SERVER_ANSWERS, false);
		if (i < lengthof(requests) - 1)
			teardown(state);
	}

	/* a request without a body is sent again, too, and answered */
	teardown(state);
	setup(state);
	assert_answer(&(HttpRequest) {.method = "GET"}, "/x", "GET /x 0 ");
	fault = SERVER_CLOSES;
	assert_null(perform(&requests[1], "/p", &answer));
	assert_int_equal(answer.status, 200);
	assert_true(answer.may_have_arrived);
	http_answer_free(&answer);
}

static void
test_deadline(void **state)
{
	HttpAnswer answer;
	int64 begin = clock_now_ms();
	PsError *err;

	fault = SERVER_TRICKLES;
	err = perform(&(HttpRequest) {.method = "GET", .deadline = begin + 100}, "/large", &answer);
	assert_non_null(err);
	assert_string_equal(err->sqlstate, PS_SQLSTATE_TRY_AGAIN);
	assert_true(clock_now_ms() >= begin + 100);
	ps_error_free(err);
	http_answer_free(&answer);
}

static PsError *
cancel_later(void *arg)
{
	int *calls = arg;

	return ++*calls > 2 ? cancel_error(CANCEL_STORE_STOPPING, NULL) : NULL;
}

static void
test_cancel(void **state)
{
	int calls = 0;
	CancelCheck cancel = {cancel_later, &calls};
	char url[100];
	HttpAnswer answer;
	PsError *err;

	fault = SERVER_HANGS;
	snprintf(url, sizeof(url), "http://127.0.0.1:%d/", http_server_port(server));
	err = http_perform(client, &(HttpRequest) {.method = "GET", .url = url}, &cancel, &answer);
	assert_non_null(err);
	assert_true(err->is_cancel);
	assert_true(answer.ended_here);
	ps_error_free(err);
	http_answer_free(&answer);

	/* before it has begun */
	err = http_perform(client, &(HttpRequest) {.method = "GET", .url = url}, &cancel, &answer);
	assert_non_null(err);
	assert_true(err->is_cancel);
	assert_true(answer.ended_here);
	assert_false(answer.may_have_arrived);
	ps_error_free(err);
	http_answer_free(&answer);
}

static void
test_nobody_listens(void **state)
{
	HttpSettings settings = {.proxy = ""};
	HttpClient *other = http_client_create(&settings);
	HttpAnswer answer;
	PsError *err;

	/* port 1 of the loopback address */
	err = http_perform(other, &(HttpRequest) {.method = "GET", .url = "http://127.0.0.1:1/"}, NULL, &answer);
	assert_non_null(err);
	assert_string_equal(err->sqlstate, PS_SQLSTATE_TRY_AGAIN);
	assert_false(answer.may_have_arrived);
	ps_error_free(err);
	http_answer_free(&answer);

	err = http_perform(other, &(HttpRequest) {.method = "GET", .url = "file:///etc/passwd"}, NULL, &answer);
	assert_non_null(err);
	assert_string_equal(err->sqlstate, PS_SQLSTATE_STATE);
	ps_error_free(err);
	http_answer_free(&answer);
	http_client_destroy(other);
}

/* What is wrong with a proxy's URL is said without the password in it. */
static void
test_proxy_password(void **state)
{
	static const char *const proxies[] = {"foo://user:secret@127.0.0.1:1", "http://user:secret@a b:1",
										  "http://user:secret@127.0.0.1:1", "http://user:secret@nosuch.invalid"};

	for (int i = 0; i < lengthof(proxies); i++)
	{
		HttpSettings settings = {.proxy = proxies[i]};
		HttpClient *other = http_client_create(&settings);
		HttpAnswer answer;
		PsError *err =
			http_perform(other, &(HttpRequest) {.method = "GET", .url = "http://127.0.0.1:1/"}, NULL, &answer);

		assert_non_null(err);
		print_message("%s\n", err->message);
		assert_null(strstr(err->message, "secret"));
		ps_error_free(err);
		http_answer_free(&answer);
		http_client_destroy(other);
	}
}

static void *
many_requests(void *arg)
{
	for (int i = 0; i < 100; i++)
		assert_answer(&(HttpRequest) {.method = "PUT", .has_body = true, .body = "hello", .body_len = 5}, "/t",
					  "PUT /t 5 hello");
	return NULL;
}

static void
test_threads(void **state)
{
	pthread_t threads[4];

	for (int i = 0; i < lengthof(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, many_requests, NULL), 0);
	for (int i = 0; i < lengthof(threads); i++)
		pthread_join(threads[i], NULL);
	/* connections are kept */
	assert_in_range(http_server_connections(server), 1, lengthof(threads));
}

/* ---- TLS ---- */

typedef struct TlsServer
{
	int fd;
	int port;
	SSL_CTX *ctx;
	pthread_t thread;
	int handshakes; /* that succeeded; read after the thread has ended */
} TlsServer;

/* Answers one request of each connection; ends when the socket is shut down. */
static void *
run_tls(void *arg)
{
	static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
	TlsServer *tls = arg;
	int fd;

	while ((fd = accept(tls->fd, NULL, NULL)) >= 0)
	{
		SSL *ssl = SSL_new(tls->ctx);
		char buf[4096];

		SSL_set_fd(ssl, fd);
		if (SSL_accept(ssl) == 1 && SSL_read(ssl, buf, sizeof(buf)) > 0)
		{
			tls->handshakes++;
			SSL_write(ssl, text, strlen(text));
			SSL_shutdown(ssl);
		}
		SSL_free(ssl);
		close(fd);
	}
	return NULL;
}

static int tls_age; /* s for which certificates are too old */

/* A server with a certificate of its own for this address; writes the certificate to a file. */
static void
start_tls(TlsServer *tls, const char *address, const char *cert_file)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_NAME *name = X509_get_subject_name(cert);
	X509_EXTENSION *alternative = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, address);
	X509_EXTENSION *ca = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");
	FILE *f = fopen(cert_file, "w");

	memset(tls, 0, sizeof(TlsServer));
	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600 - tls_age);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600 - tls_age);
	X509_set_pubkey(cert, key);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *) "t_http", -1, -1, 0);
	X509_set_issuer_name(cert, name);
	X509_add_ext(cert, alternative, -1);
	X509_add_ext(cert, ca, -1);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_X509(f, cert), 1);
	fclose(f);
	tls->ctx = SSL_CTX_new(TLS_server_method());
	assert_int_equal(SSL_CTX_use_certificate(tls->ctx, cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(tls->ctx, key), 1);
	X509_EXTENSION_free(alternative);
	X509_EXTENSION_free(ca);
	X509_free(cert);
	EVP_PKEY_free(key);

	tls->fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(tls->fd, (struct sockaddr *) &addr, len), 0);
	assert_int_equal(listen(tls->fd, 8), 0);
	assert_int_equal(getsockname(tls->fd, (struct sockaddr *) &addr, &len), 0);
	tls->port = ntohs(addr.sin_port);
	assert_int_equal(pthread_create(&tls->thread, NULL, run_tls, tls), 0);
}

static void
stop_tls(TlsServer *tls)
{
	shutdown(tls->fd, SHUT_RDWR);
	pthread_join(tls->thread, NULL);
	close(tls->fd);
	SSL_CTX_free(tls->ctx);
}

static bool hinted; /* tls_status() has got an error with a hint */

/* Status of the answer to a request with these settings; 0: it was refused before it was sent. */
static int
tls_status(const TlsServer *tls, const char *ca_file, bool no_verify)
{
	HttpSettings settings = {.proxy = "", .ca_file = ca_file, .no_verify_tls = no_verify};
	HttpClient *other = http_client_create(&settings);
	char url[100];
	HttpAnswer answer;
	PsError *err;
	int status;

	snprintf(url, sizeof(url), "https://127.0.0.1:%d/", tls->port);
	err = http_perform(other, &(HttpRequest) {.method = "GET", .url = url}, NULL, &answer);
	status = answer.status;
	if (err != NULL)
	{
		assert_string_equal(err->sqlstate, PS_SQLSTATE_STATE);
		assert_false(answer.may_have_arrived);
		hinted = err->hint != NULL;
	}
	ps_error_free(err);
	http_answer_free(&answer);
	http_client_destroy(other);
	return status;
}

static void
test_tls(void **state)
{
	char cert_file[] = "/tmp/t_http.XXXXXX";
	TlsServer tls;

	close(mkstemp(cert_file));
	start_tls(&tls, "IP:127.0.0.1", cert_file);
	/* unknown to the system; known; whatever it is; a file that does not exist */
	assert_int_equal(tls_status(&tls, NULL, false), 0);
	assert_true(hinted);
	assert_int_equal(tls_status(&tls, cert_file, false), 200);
	assert_int_equal(tls_status(&tls, NULL, true), 200);
	assert_int_equal(tls_status(&tls, "/nonexistent", false), 0);
	stop_tls(&tls);
	assert_int_equal(tls.handshakes, 2);

	/* a known CA's certificate for another host, which no other CA would repair */
	start_tls(&tls, "DNS:example.com", cert_file);
	assert_int_equal(tls_status(&tls, cert_file, false), 0);
	assert_false(hinted);
	stop_tls(&tls);
	assert_int_equal(tls.handshakes, 0);

	/* one that has expired */
	tls_age = 7200;
	start_tls(&tls, "IP:127.0.0.1", cert_file);
	assert_int_equal(tls_status(&tls, cert_file, false), 0);
	assert_false(hinted);
	stop_tls(&tls);
	assert_int_equal(tls.handshakes, 0);
	tls_age = 0;
	unlink(cert_file);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_methods, setup, teardown),
		cmocka_unit_test_setup_teardown(test_headers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large_bodies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sinks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_faults, setup, teardown),
		cmocka_unit_test_setup_teardown(test_server_dies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nobody_listens, setup, teardown),
		cmocka_unit_test(test_proxy_password),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
		cmocka_unit_test(test_tls),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
