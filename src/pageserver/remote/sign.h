/*
 * sign.h
 *	  Requests signed for S3: AWS Signature Version 4.
 *
 * No state; any thread may call these functions.
 */
#ifndef PS_SIGN_H
#define PS_SIGN_H

#include <time.h>

#include "lib/stringinfo.h"

#include "base/error.h"

/* A header or a parameter of the query; not escaped. */
typedef struct SignPair
{
	const char *name; /* of a header: in lower case */
	const char *value;
} SignPair;

#define SIGN_MAX_PAIRS 24 /* headers, or parameters, of one request */
#define SIGN_DATE_SIZE 17 /* "20130524T000000Z" */
#define SIGN_HASH_SIZE 65 /* SHA-256 in hex */

typedef struct SignKeys
{
	const char *access_key;
	const char *secret_key;
} SignKeys;

/*
 * The headers given here are signed, and must be sent as they are; others may be
 * sent besides.  "host" and "x-amz-date" are among them, and for S3
 * "x-amz-content-sha256", with the text of payload_hash.
 */
typedef struct SignRequest
{
	const char *method;
	const char *path; /* not escaped; starts with a slash */
	const SignPair *query;
	int nquery;
	const SignPair *headers;
	int nheaders;
	const char *payload_hash; /* sign_hash() of the body */
	const char *date;         /* sign_date() of now: the value of "x-amz-date" */
	const char *region;
	const char *service; /* "s3" */
} SignRequest;

/* Adds the value of the header "authorization". */
extern void sign_authorization(StringInfo out, const SignRequest *request, const SignKeys *keys);

/* Adds the path, escaped as it is signed: everything except A-Z a-z 0-9 - . _ ~ and the slash. */
extern void sign_path(StringInfo out, const char *path);

/* Adds the parameters as they are signed: escaped, sorted, with a "=" after each name.  Nothing if there are none. */
extern void sign_query(StringInfo out, const SignPair *query, int nquery);

extern void sign_date(time_t now, char date[SIGN_DATE_SIZE]);
extern void sign_hash(const void *data, size_t len, char hash[SIGN_HASH_SIZE]);

/* Of part of a file; PS_SQLSTATE_IO also if it is shorter. */
extern PsError *sign_hash_file(int fd, int64 offset, int64 len, char hash[SIGN_HASH_SIZE]);

/* The bytes in lower-case hex; dst has room for 2 * len + 1. */
extern void sign_hex(const uint8 *src, size_t len, char *dst);

#endif /* PS_SIGN_H */
