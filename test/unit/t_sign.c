/*
 * t_sign.c
 *	  AWS Signature Version 4 against the vectors that AWS publishes: its test
 *	  suite for signers, and the examples of S3's documentation.
 */
#include "ps_fe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "remote/sign.h"

typedef struct Vector
{
	const char *name;
	const char *method;
	const char *path;
	SignPair query[4];
	SignPair headers[4]; /* besides host and x-amz-date */
	const char *body;
	const char *signature;
} Vector;

static const SignKeys suite_keys = {"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"};

/* aws-sig-v4-test-suite, all of 20150830T123600Z, region us-east-1, service "service" */
static const Vector suite[] = {
	{"get-vanilla", "GET", "/", .signature = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
	{"get-vanilla-query-order-key-case",
	 "GET",
	 "/",
	 {{"Param2", "value2"}, {"Param1", "value1"}},
	 .signature = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
	{"get-vanilla-empty-query-key",
	 "GET",
	 "/",
	 {{"Param1", "value1"}},
	 .signature = "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"},
	{"get-vanilla-query-unreserved",
	 "GET",
	 "/",
	 {{"-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
	   "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"}},
	 .signature = "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"},
	{"get-vanilla-utf8-query",
	 "GET",
	 "/",
	 {{"\xe1\x88\xb4", "bar"}},
	 .signature = "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
	{"get-unreserved", "GET", "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
	 .signature = "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
	{"get-utf8", "GET", "/\xe1\x88\xb4",
	 .signature = "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"},
	{"get-space", "GET", "/example space/",
	 .signature = "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"},
	{"get-header-value-trim", "GET", "/", .headers = {{"my-header1", " value1"}, {"my-header2", " \"a   b   c\""}},
	 .signature = "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
	{"post-vanilla", "POST", "/", .signature = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
	{"post-vanilla-query",
	 "POST",
	 "/",
	 {{"Param1", "value1"}},
	 .signature = "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"},
	{"post-x-www-form-urlencoded", "POST", "/", .headers = {{"content-type", "application/x-www-form-urlencoded"}},
	 .body = "Param1=value1", .signature = "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
};

static const SignKeys s3_keys = {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};

#define EMPTY_HASH   "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define WELCOME_HASH "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"

/* "Examples: Signature Calculations" of S3's reference, all of 20130524T000000Z, bucket examplebucket */
static const Vector s3[] = {
	{"GET object, range", "GET", "/test.txt", .headers = {{"range", "bytes=0-9"}, {"x-amz-content-sha256", EMPTY_HASH}},
	 .signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
	{"PUT object", "PUT", "/test$file.text",
	 .headers = {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
				 {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
				 {"x-amz-content-sha256", WELCOME_HASH}},
	 .body = "Welcome to Amazon S3.", .signature = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
	{"GET bucket lifecycle",
	 "GET",
	 "/",
	 {{"lifecycle", ""}},
	 .headers = {{"x-amz-content-sha256", EMPTY_HASH}},
	 .signature = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
	{"GET bucket, list",
	 "GET",
	 "/",
	 {{"max-keys", "2"}, {"prefix", "J"}},
	 .headers = {{"x-amz-content-sha256", EMPTY_HASH}},
	 .signature = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
};

static int
count(const SignPair *pairs, int max)
{
	int n = 0;

	while (n < max && pairs[n].name != NULL)
		n++;
	return n;
}

/* All vectors are compared before the test fails, so that the log names each wrong one. */
static void
check_vectors(const Vector *vectors, int n, const char *date, const char *host,
			  const char *service, const SignKeys *keys)
{
	int wrong = 0;

	for (int i = 0; i < n; i++)
	{
		const Vector *v = &vectors[i];
		const char *body = v->body != NULL ? v->body : "";
		int nheaders = count(v->headers, lengthof(v->headers));
		SignPair headers[lengthof(v->headers) + 2];
		char hash[SIGN_HASH_SIZE];
		StringInfoData out;
		const char *signature;
		SignRequest request = {.method = v->method,
							   .path = v->path,
							   .query = v->query,
							   .nquery = count(v->query, lengthof(v->query)),
							   .headers = headers,
							   .nheaders = nheaders + 2,
							   .payload_hash = hash,
							   .date = date,
							   .region = "us-east-1",
							   .service = service};

		/* not in their order */
		headers[0] = (SignPair) {"x-amz-date", date};
		memcpy(headers + 1, v->headers, nheaders * sizeof(SignPair));
		headers[nheaders + 1] = (SignPair) {"host", host};
		sign_hash(body, strlen(body), hash);
		initStringInfo(&out);
		sign_authorization(&out, &request, keys);
		signature = strstr(out.data, "Signature=");
		assert_non_null(signature);
		if (strcmp(signature + strlen("Signature="), v->signature) != 0)
		{
			print_error("%s: %s, expected %s\n", v->name, out.data, v->signature);
			wrong++;
		}
		pfree(out.data);
	}
	assert_int_equal(wrong, 0);
}

static void
test_suite(void **state)
{
	check_vectors(suite, lengthof(suite), "20150830T123600Z", "example.amazonaws.com", "service", &suite_keys);
}

static void
test_s3(void **state)
{
	check_vectors(s3, lengthof(s3), "20130524T000000Z", "examplebucket.s3.amazonaws.com", "s3", &s3_keys);
}

/* The whole header of one request of S3's documentation. */
static void
test_header(void **state)
{
	static const SignPair headers[] = {{"host", "examplebucket.s3.amazonaws.com"},
									   {"range", "bytes=0-9"},
									   {"x-amz-content-sha256", EMPTY_HASH},
									   {"x-amz-date", "20130524T000000Z"}};
	SignRequest request = {.method = "GET",
						   .path = "/test.txt",
						   .headers = headers,
						   .nheaders = lengthof(headers),
						   .payload_hash = EMPTY_HASH,
						   .date = "20130524T000000Z",
						   .region = "us-east-1",
						   .service = "s3"};
	StringInfoData out;

	initStringInfo(&out);
	sign_authorization(&out, &request, &s3_keys);
	assert_string_equal(out.data,
						"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
						"SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
						"Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
	pfree(out.data);
}

static void
test_escapes(void **state)
{
	static const SignPair query[] = {{"b", "x/y z"}, {"a-b", ""}, {"a", "+=:@!*(),;&$'~"}, {"a", "%"}};
	StringInfoData out;
	char date[SIGN_DATE_SIZE];

	initStringInfo(&out);
	sign_query(&out, query, lengthof(query));
	assert_string_equal(out.data, "a=%25&a=%2B%3D%3A%40%21%2A%28%29%2C%3B%26%24%27~&a-b=&b=x%2Fy%20z");
	resetStringInfo(&out);
	sign_path(&out, "/t/x y+\xff");
	assert_string_equal(out.data, "/t/x%20y%2B%FF");
	pfree(out.data);
	sign_date(1369353600, date);
	assert_string_equal(date, "20130524T000000Z");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_suite),
		cmocka_unit_test(test_s3),
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_escapes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
