/*
 * sign.c
 *	  AWS Signature Version 4: see sign.h.
 *
 * libcurl has it, too, but Debian 12's signs requests with unsorted queries, with
 * some characters in keys or with some headers in a way that S3 rejects.
 */
#include "ps_fe.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <unistd.h>

#include "remote/sign.h"
#include "sqlstate.h"

#define ALGORITHM   "AWS4-HMAC-SHA256"
#define HASH_LEN    32
#define HASH_BUFFER (256 * 1024)

void
sign_hex(const uint8 *src, size_t len, char *dst)
{
	for (size_t i = 0; i < len; i++)
		snprintf(dst + 2 * i, 3, "%02x", src[i]);
	dst[2 * len] = '\0';
}

void
sign_hash(const void *data, size_t len, char hash[SIGN_HASH_SIZE])
{
	uint8 digest[HASH_LEN];

	SHA256(data, len, digest);
	sign_hex(digest, HASH_LEN, hash);
}

PsError *
sign_hash_file(int fd, int64 offset, int64 len, char hash[SIGN_HASH_SIZE])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	char *buf = pg_malloc(HASH_BUFFER);
	uint8 digest[HASH_LEN];
	PsError *err = NULL;

	if (ctx == NULL || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1)
		err = ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "no memory for a checksum");
	while (err == NULL && len > 0)
	{
		ssize_t n = pread(fd, buf, Min(len, HASH_BUFFER), offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			err = ps_error(ps_errno_state(), "could not read the file to be sent: %m");
		else if (n == 0)
			err = ps_error(PS_SQLSTATE_IO, "the file to be sent has become shorter");
		else
			EVP_DigestUpdate(ctx, buf, n);
		offset += n;
		len -= n;
	}
	if (err == NULL)
	{
		EVP_DigestFinal_ex(ctx, digest, NULL);
		sign_hex(digest, HASH_LEN, hash);
	}
	free(buf);
	EVP_MD_CTX_free(ctx);
	return err;
}

void
sign_date(time_t now, char date[SIGN_DATE_SIZE])
{
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(date, SIGN_DATE_SIZE, "%Y%m%dT%H%M%SZ", &tm);
}

static void
hmac(const void *key, size_t key_len, const char *text, uint8 out[HASH_LEN])
{
	HMAC(EVP_sha256(), key, key_len, (const uint8 *) text, strlen(text), out, NULL);
}

static void
escape(StringInfo out, const char *text, bool slash_too)
{
	static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

	for (; *text != '\0'; text++)
	{
		if (strchr(unreserved, *text) != NULL || (*text == '/' && !slash_too))
			appendStringInfoChar(out, *text);
		else
			appendStringInfo(out, "%%%02X", (uint8) *text);
	}
}

void
sign_path(StringInfo out, const char *path)
{
	escape(out, path, false);
}

/* One parameter of the query, escaped. */
typedef struct Escaped
{
	StringInfoData name;
	StringInfoData value;
} Escaped;

static int
compare_escaped(const void *a, const void *b)
{
	const Escaped *x = a;
	const Escaped *y = b;
	int cmp = strcmp(x->name.data, y->name.data);

	return cmp != 0 ? cmp : strcmp(x->value.data, y->value.data);
}

void
sign_query(StringInfo out, const SignPair *query, int nquery)
{
	Escaped escaped[SIGN_MAX_PAIRS];

	Assert(nquery <= SIGN_MAX_PAIRS);
	for (int i = 0; i < nquery; i++)
	{
		initStringInfo(&escaped[i].name);
		initStringInfo(&escaped[i].value);
		escape(&escaped[i].name, query[i].name, true);
		escape(&escaped[i].value, query[i].value, true);
	}
	/* names are compared as they are escaped, and before values: not as "name=value" texts, where '=' would count */
	qsort(escaped, nquery, sizeof(Escaped), compare_escaped);
	for (int i = 0; i < nquery; i++)
	{
		appendStringInfo(out, "%s%s=%s", i > 0 ? "&" : "", escaped[i].name.data, escaped[i].value.data);
		pfree(escaped[i].name.data);
		pfree(escaped[i].value.data);
	}
}

static int
compare_pairs(const void *a, const void *b)
{
	return strcmp(((const SignPair *) a)->name, ((const SignPair *) b)->name);
}

/* Adds a header's value without white space at its ends, and with one blank for each run of it. */
static void
add_trimmed(StringInfo out, const char *value)
{
	bool blank = false;
	bool first = true;

	for (; *value != '\0'; value++)
	{
		if (*value == ' ' || *value == '\t')
		{
			blank = true;
			continue;
		}
		if (blank && !first)
			appendStringInfoChar(out, ' ');
		appendStringInfoChar(out, *value);
		blank = first = false;
	}
}

/* The canonical request, of which the signature is; and the names of its headers, "host;x-amz-date". */
static void
canonical_request(StringInfo out, StringInfo names, const SignRequest *request)
{
	SignPair headers[SIGN_MAX_PAIRS];

	Assert(request->nheaders <= SIGN_MAX_PAIRS);
	memcpy(headers, request->headers, request->nheaders * sizeof(SignPair));
	qsort(headers, request->nheaders, sizeof(SignPair), compare_pairs);

	appendStringInfo(out, "%s\n", request->method);
	sign_path(out, request->path);
	appendStringInfoChar(out, '\n');
	sign_query(out, request->query, request->nquery);
	appendStringInfoChar(out, '\n');
	for (int i = 0; i < request->nheaders; i++)
	{
		appendStringInfo(out, "%s:", headers[i].name);
		add_trimmed(out, headers[i].value);
		appendStringInfoChar(out, '\n');
		appendStringInfo(names, "%s%s", i > 0 ? ";" : "", headers[i].name);
	}
	appendStringInfo(out, "\n%s\n%s", names->data, request->payload_hash);
}

void
sign_authorization(StringInfo out, const SignRequest *request, const SignKeys *keys)
{
	StringInfoData text;
	StringInfoData names;
	char hash[SIGN_HASH_SIZE];
	char day[9];
	char scope[128];
	char signature[SIGN_HASH_SIZE];
	char *first_key = psprintf("AWS4%s", keys->secret_key);
	uint8 key[HASH_LEN];

	initStringInfo(&text);
	initStringInfo(&names);
	canonical_request(&text, &names, request);
	sign_hash(text.data, text.len, hash);

	snprintf(scope, sizeof(scope), "%.8s/%s/%s/aws4_request", request->date, request->region, request->service);
	resetStringInfo(&text);
	appendStringInfo(&text, ALGORITHM "\n%s\n%s\n%s", request->date, scope, hash);

	strlcpy(day, request->date, sizeof(day));
	hmac(first_key, strlen(first_key), day, key);
	hmac(key, HASH_LEN, request->region, key);
	hmac(key, HASH_LEN, request->service, key);
	hmac(key, HASH_LEN, "aws4_request", key);
	hmac(key, HASH_LEN, text.data, key);
	sign_hex(key, HASH_LEN, signature);

	appendStringInfo(out, ALGORITHM " Credential=%s/%s, SignedHeaders=%s, Signature=%s", keys->access_key, scope,
					 names.data, signature);
	explicit_bzero(first_key, strlen(first_key));
	free(first_key);
	pfree(text.data);
	pfree(names.data);
}
