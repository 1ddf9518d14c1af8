/*
 * s3_store.c
 *	  A store in S3 made from its URL and settings: see object.h.
 */
#include "ps_fe.h"

#include <openssl/evp.h>

#include "base/fs.h"
#include "remote/s3_impl.h"
#include "sqlstate.h"

#define CONNECTIONS  64
#define PART_SIZE    (INT64CONST(64) * 1024 * 1024)
#define MIN_PART     (INT64CONST(5) * 1024 * 1024) /* S3's own limit, except for the last part */
#define CUSTOMER_KEY 32

static bool
is_set(const char *text)
{
	return text != NULL && text[0] != '\0';
}

static char *
copy_or_null(const char *text)
{
	return is_set(text) ? pg_strdup(text) : NULL;
}

/* Does a text consist of letters, digits and these other characters? */
static bool
consists_of(const char *text, const char *others)
{
	for (; *text != '\0'; text++)
		if (!((*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') || (*text >= '0' && *text <= '9') ||
			  strchr(others, *text) != NULL))
			return false;
	return true;
}

/* Bucket and prefix of "bucket/prefix". */
static PsError *
set_bucket(S3Store *store, const char *bucket_prefix)
{
	const char *slash = strchr(bucket_prefix, '/');
	size_t len = slash != NULL ? slash - bucket_prefix : strlen(bucket_prefix);
	size_t prefix_len = slash != NULL ? strlen(slash + 1) : 0;

	store->bucket = pnstrdup(bucket_prefix, len);
	while (prefix_len > 0 && slash[prefix_len] == '/')
		prefix_len--;
	store->prefix = prefix_len > 0 ? psprintf("%.*s/", (int) prefix_len, slash + 1) : pg_strdup("");
	if (len < 3 || len > 255 || !consists_of(store->bucket, ".-_"))
		return ps_error(PS_SQLSTATE_INVALID, "invalid bucket name \"%s\"", store->bucket);
	if (prefix_len > OBJECT_KEY_MAX || !consists_of(store->prefix, "._-/") || strstr(store->prefix, "//") != NULL ||
		store->prefix[0] == '/')
		return ps_error(PS_SQLSTATE_INVALID, "invalid prefix \"%s\" in bucket \"%s\"", store->prefix, store->bucket);
	return NULL;
}

static PsError *
set_region(S3Store *store, const char *region)
{
	if (!is_set(region))
		region = getenv("AWS_REGION");
	if (!is_set(region))
		region = getenv("AWS_DEFAULT_REGION");
	if (!is_set(region))
		region = "us-east-1";
	store->region = pg_strdup(region);
	if (strlen(region) > 32 || !consists_of(region, "-_"))
		return ps_error(PS_SQLSTATE_INVALID, "invalid region \"%s\"", region);
	return NULL;
}

/* Origin, host and path of the bucket. */
static PsError *
set_endpoint(S3Store *store, const ObjectSettings *settings)
{
	char *endpoint = is_set(settings->endpoint) ? pg_strdup(settings->endpoint)
												: psprintf("https://s3.%s.amazonaws.com", store->region);
	bool https = strncmp(endpoint, "https://", 8) == 0;
	char *host = endpoint + (https ? 8 : 7);
	const char *default_port = https ? ":443" : ":80";
	size_t len = strlen(endpoint);
	bool by_path = settings->addressing == OBJECT_ADDRESS_PATH;
	PsError *err = NULL;

	if (strchr(endpoint, '@') != NULL)
	{
		free(endpoint);
		return ps_error(PS_SQLSTATE_INVALID, "the endpoint of object storage must not have a user name or a password");
	}
	while (len > 0 && endpoint[len - 1] == '/')
		endpoint[--len] = '\0';
	if ((!https && strncmp(endpoint, "http://", 7) != 0) || len <= host - endpoint || !consists_of(host, ".-_:[]"))
		err = ps_error_hint(ps_error(PS_SQLSTATE_INVALID, "invalid endpoint \"%s\" of object storage", endpoint),
							"It is https://HOST or https://HOST:PORT.");
	else
	{
		/* libcurl leaves the default port out of the header "host", which is signed */
		if (strlen(host) > strlen(default_port) && strcmp(endpoint + len - strlen(default_port), default_port) == 0)
			endpoint[len - strlen(default_port)] = '\0';
		/* the certificate of AWS's hosts is not for names with more dots */
		if (settings->addressing == OBJECT_ADDRESS_AUTO)
			by_path = is_set(settings->endpoint) || strchr(store->bucket, '.') != NULL;
		store->host = by_path ? pg_strdup(host) : psprintf("%s.%s", store->bucket, host);
		store->root = by_path ? psprintf("/%s", store->bucket) : pg_strdup("");
		store->origin = psprintf("%s%s", https ? "https://" : "http://", store->host);
	}
	free(endpoint);
	return err;
}

/* A key of the customer's, from a file of 32 bytes. */
static PsError *
set_customer_key(S3Store *store, const char *path)
{
	uint8 key[CUSTOMER_KEY + 1];
	uint8 digest[EVP_MAX_MD_SIZE];
	unsigned digest_len;
	ssize_t len;
	struct stat st;

	if (strncmp(store->origin, "https://", 8) != 0)
		return ps_error_hint(ps_error(PS_SQLSTATE_INVALID,
									  "a key of one's own for encryption cannot be used without TLS"),
							 "The key is sent with each request.  Set remote_endpoint to an address with https, or "
							 "remote_sse to something else.");
	PS_TRY(credentials_check_file(path, &st));
	PS_TRY(fs_read_file(path, key, sizeof(key), &len));
	if (len != CUSTOMER_KEY)
		return ps_error(PS_SQLSTATE_INVALID, "file \"%s\" is not a key of %d bytes", path, CUSTOMER_KEY);
	EVP_EncodeBlock((uint8 *) store->customer_key, key, CUSTOMER_KEY);
	EVP_Digest(key, CUSTOMER_KEY, digest, &digest_len, EVP_md5(), NULL);
	EVP_EncodeBlock((uint8 *) store->customer_md5, digest, digest_len);
	explicit_bzero(key, sizeof(key));
	store->customer[0] = (SignPair) {"x-amz-server-side-encryption-customer-algorithm", "AES256"};
	store->customer[1] = (SignPair) {"x-amz-server-side-encryption-customer-key", store->customer_key};
	store->customer[2] = (SignPair) {"x-amz-server-side-encryption-customer-key-md5", store->customer_md5};
	store->ncustomer = 3;
	return NULL;
}

static PsError *
set_encryption(S3Store *store, const char *sse)
{
	if (!is_set(sse))
		return NULL;
	if (strncmp(sse, "customer:", 9) == 0)
		return set_customer_key(store, sse + 9);
	if (strcmp(sse, "AES256") == 0)
		store->sse[store->nsse++] = (SignPair) {"x-amz-server-side-encryption", "AES256"};
	else if (strcmp(sse, "aws:kms") == 0 || strncmp(sse, "aws:kms:", 8) == 0)
	{
		store->sse[store->nsse++] = (SignPair) {"x-amz-server-side-encryption", "aws:kms"};
		store->kms_key = sse[7] == ':' ? copy_or_null(sse + 8) : NULL;
		if (store->kms_key != NULL)
			store->sse[store->nsse++] = (SignPair) {"x-amz-server-side-encryption-aws-kms-key-id", store->kms_key};
	}
	else
		return ps_error_hint(ps_error(PS_SQLSTATE_INVALID, "invalid server-side encryption \"%s\"", sse),
							 "It is AES256, aws:kms, aws:kms:KEY or customer:FILE.");
	return NULL;
}

void
s3_store_close(ObjectStore *base)
{
	S3Store *store = (S3Store *) base;

	credentials_destroy(store->credentials);
	if (store->http != NULL)
		retry_gate_destroy(&store->gate);
	http_client_destroy(store->http);
	free(store->bucket);
	free(store->prefix);
	free(store->origin);
	free(store->host);
	free(store->root);
	free(store->region);
	free(store->storage_class);
	free(store->kms_key);
	explicit_bzero(store->customer_key, sizeof(store->customer_key));
	free(store);
}

PsError *
object_s3_open(const char *bucket_prefix, const ObjectSettings *settings, ObjectStore **result)
{
	static const ObjectSettings defaults;
	S3Store *store = pg_malloc0(sizeof(S3Store));
	HttpSettings http = {0};
	int connections;
	PsError *err;

	settings = settings != NULL ? settings : &defaults;
	store->base.backend = &s3_backend;
	PS_GOTO(set_bucket(store, bucket_prefix), failed);
	PS_GOTO(set_region(store, settings->region), failed);
	PS_GOTO(set_endpoint(store, settings), failed);
	PS_GOTO(set_encryption(store, settings->sse), failed);
	store->storage_class = copy_or_null(settings->storage_class);
	store->part_size = settings->part_size > 0 ? Max(settings->part_size, MIN_PART) : PART_SIZE;

	connections = settings->connections > 0 ? settings->connections : CONNECTIONS;
	http.ca_file = settings->ca_file;
	http.no_verify_tls = settings->no_verify_tls;
	http.proxy = is_set(settings->proxy) ? settings->proxy : NULL;
	http.idle_handles = connections;
	store->http = http_client_create(&http);
	retry_gate_init(&store->gate, connections);
	store->credentials = credentials_create(settings->key_file, store->region, &http);
	*result = &store->base;
	return NULL;

failed:
	s3_store_close(&store->base);
	return err;
}
