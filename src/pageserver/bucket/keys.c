/*
 * keys.c
 *	  The keys of the objects of tenants in a bucket: see keys.h.
 */
#include "ps_fe.h"

#include "bucket/keys.h"

#define HEX16  "%016llx"
#define ULL(v) ((unsigned long long) (v))

const char *
bucket_key_format(const BucketKey *key, char text[BUCKET_KEY_TEXT])
{
	char tenant[PS_ID_TEXT];
	char timeline[PS_ID_TEXT];

	ps_id_format(&key->tenant, tenant);
	ps_id_format(&key->timeline, timeline);
	switch (key->kind)
	{
		case BUCKET_KEY_CLAIM:
			snprintf(text, BUCKET_KEY_TEXT, BUCKET_TENANTS "%s/own/" HEX16, tenant, ULL(~key->generation));
			break;
		case BUCKET_KEY_LOG:
			snprintf(text, BUCKET_KEY_TEXT, BUCKET_TENANTS "%s/m/" HEX16 "-" HEX16, tenant, ULL(~key->generation),
					 ULL(~key->number));
			break;
		case BUCKET_KEY_LAYER:
			snprintf(text, BUCKET_KEY_TEXT, BUCKET_TENANTS "%s/l/%s/" HEX16, tenant, timeline, ULL(key->number));
			break;
		case BUCKET_KEY_CHAIN:
			snprintf(text, BUCKET_KEY_TEXT, BUCKET_TENANTS "%s/w/%s/" HEX16, tenant, timeline, ULL(key->number));
			break;
		case BUCKET_KEY_SEGMENT:
			/* the store's WAL files are all of WAL timeline 1 */
			snprintf(text, BUCKET_KEY_TEXT, BUCKET_TENANTS "%s/s/%s/" HEX16 "-00000001%016llX.zst", tenant, timeline,
					 ULL(key->generation), ULL(key->number));
			break;
	}
	return text;
}

const char *
bucket_key_folder(const BucketKey *key, char text[BUCKET_KEY_TEXT])
{
	bucket_key_format(key, text);
	strrchr(text, '/')[1] = '\0';
	return text;
}

/* A number of 16 hex digits at *text, which is advanced. */
static bool
parse_number(const char **text, uint64 *number)
{
	char digits[17];

	if (strnlen(*text, 16) < 16)
		return false;
	strlcpy(digits, *text, sizeof(digits));
	*number = strtoull(digits, NULL, 16);
	*text += 16;
	return true;
}

/* An id and a slash at *text, which is advanced. */
static bool
parse_id(const char **text, PsId *id)
{
	char digits[PS_ID_TEXT];

	strlcpy(digits, *text, sizeof(digits));
	if (!ps_id_parse(digits, id) || (*text)[PS_ID_TEXT - 1] != '/')
		return false;
	*text += PS_ID_TEXT;
	return true;
}

/* Advances *text past a prefix. */
static bool
skip(const char **text, const char *prefix)
{
	if (strncmp(*text, prefix, strlen(prefix)) != 0)
		return false;
	*text += strlen(prefix);
	return true;
}

/* Sets the fields; does not notice everything that is not a key. */
static bool
parse(const char *at, BucketKey *key)
{
	if (!skip(&at, BUCKET_TENANTS) || !parse_id(&at, &key->tenant))
		return false;
	if (skip(&at, "own/"))
	{
		key->kind = BUCKET_KEY_CLAIM;
		if (!parse_number(&at, &key->generation))
			return false;
		key->generation = ~key->generation;
		return true;
	}
	if (skip(&at, "m/"))
	{
		key->kind = BUCKET_KEY_LOG;
		if (!parse_number(&at, &key->generation) || !skip(&at, "-") || !parse_number(&at, &key->number))
			return false;
		key->generation = ~key->generation;
		key->number = ~key->number;
		return true;
	}
	if (skip(&at, "l/"))
		key->kind = BUCKET_KEY_LAYER;
	else if (skip(&at, "w/"))
		key->kind = BUCKET_KEY_CHAIN;
	else if (skip(&at, "s/"))
	{
		key->kind = BUCKET_KEY_SEGMENT;
		return parse_id(&at, &key->timeline) && parse_number(&at, &key->generation) && skip(&at, "-00000001") &&
			   parse_number(&at, &key->number);
	}
	else
		return false;
	return parse_id(&at, &key->timeline) && parse_number(&at, &key->number);
}

bool
bucket_key_parse(const char *text, BucketKey *key)
{
	char again[BUCKET_KEY_TEXT];

	memset(key, 0, sizeof(*key));
	return parse(text, key) && strcmp(bucket_key_format(key, again), text) == 0;
}
