/*
 * credentials.h
 *	  Keys to sign requests with, from where AWS's own programs have them.
 *
 * The first source that is there is used, in this order:
 *
 *	1. the file of the setting remote_key_file: lines "name = value" with
 *	   aws_access_key_id, aws_secret_access_key and perhaps aws_session_token, as in
 *	   ~/.aws/credentials; the section [default] if there are sections.  Read again
 *	   when it has changed.
 *	2. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and perhaps AWS_SESSION_TOKEN in the
 *	   environment
 *	3. AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN: a token, read anew each time, that
 *	   STS changes for keys (Kubernetes)
 *	4. AWS_CONTAINER_CREDENTIALS_FULL_URI, or .._RELATIVE_URI, with
 *	   AWS_CONTAINER_AUTHORIZATION_TOKEN or .._TOKEN_FILE (ECS, EKS Pod Identity)
 *	5. the metadata service of the machine, version 2 (EC2); not if
 *	   AWS_EC2_METADATA_DISABLED is true
 *
 * Keys that end are renewed CREDENTIALS_RENEW_MS before; if that fails, they are used
 * until they end.
 */
#ifndef PS_CREDENTIALS_H
#define PS_CREDENTIALS_H

#include <sys/stat.h>

#include "remote/http.h"

#define CREDENTIALS_RENEW_MS (5 * 60 * 1000)

typedef struct Credentials Credentials;

/* A copy of the keys as they were; the caller releases it with credential_keys_free(). */
typedef struct CredentialKeys
{
	char *access_key;
	char *secret_key;
	char *token;       /* session token; NULL: none */
	uint64 generation; /* number of times that keys have been fetched */
} CredentialKeys;

/* key_file: NULL or "": none.  region, sts: for requests to STS; sts may be NULL. */
extern Credentials *credentials_create(const char *key_file, const char *region, const HttpSettings *sts);
extern void credentials_destroy(Credentials *credentials);

/*
 * Keys that are valid now; any thread.  May send requests, by one thread at a time; the
 * others wait for it, unless the old keys are still good, and share its error.  deadline
 * as in ObjectWait; it may be exceeded by a second.  PS_SQLSTATE_STATE: there is no
 * source, or it cannot be used; PS_SQLSTATE_TRY_AGAIN: it did not answer.
 */
extern PsError *credentials_get(Credentials *credentials, const CancelCheck *cancel, int64 deadline,
								CredentialKeys *keys);

/* The service said that these keys have expired or are unknown: the next credentials_get() fetches others. */
extern void credentials_reject(Credentials *credentials, const CredentialKeys *keys);

/* PS_SQLSTATE_STATE: a file with a key does not exist, or others may read it. */
extern PsError *credentials_check_file(const char *path, struct stat *st);

extern void credential_keys_free(CredentialKeys *keys);

#endif /* PS_CREDENTIALS_H */
