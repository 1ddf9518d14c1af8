/*
 * keys.h
 *	  The keys of the objects of tenants in a bucket.
 *
 *	  t/TENANT/own/~GENERATION					claim (claim.h)
 *	  t/TENANT/m/~GENERATION-~NUMBER			entry of the tenant's log (tenant_log.h)
 *	  t/TENANT/l/TIMELINE/NUMBER				layer file, as it is on disk
 *	  t/TENANT/w/TIMELINE/NUMBER				object of the WAL chain (chain.h)
 *	  t/TENANT/s/TIMELINE/GENERATION-SEGMENT.zst	whole WAL segment (wal/packed.h)
 *
 * Beside these there are "format" and "probe/..." (bucket.h).  Ids are 32 hex digits,
 * numbers 16 hex digits, so that a list has them in their order.  ~ marks numbers
 * that are inverted: a list of claims or of entries begins with the newest, and its
 * first page is enough, however many there are.
 *
 * A key is used for one content only, ever: claims, entries, layers and segments have
 * the owner's generation in their key (the number of a layer is generation << 32 | n),
 * and the objects of a chain are created by object_put_once().
 */
#ifndef PS_BUCKET_KEYS_H
#define PS_BUCKET_KEYS_H

#include "base/id.h"

typedef enum BucketKeyKind
{
	BUCKET_KEY_CLAIM,
	BUCKET_KEY_LOG,
	BUCKET_KEY_LAYER,
	BUCKET_KEY_CHAIN,
	BUCKET_KEY_SEGMENT
} BucketKeyKind;

typedef struct BucketKey
{
	BucketKeyKind kind;
	PsId tenant;
	PsId timeline;     /* of a layer, a chain, a segment */
	uint64 generation; /* of a claim, an entry, a segment */
	uint64 number;     /* of an entry in its generation, a layer, an object of a chain; of a segment the last 16 digits
						* of the WAL file's name */
} BucketKey;

#define BUCKET_KEY_TEXT 160

/* The first part of all keys above. */
#define BUCKET_TENANTS "t/"

/* Returns text. */
extern const char *bucket_key_format(const BucketKey *key, char text[BUCKET_KEY_TEXT]);

/* The key up to its last slash, which all keys of its kind have in common.  Returns text. */
extern const char *bucket_key_folder(const BucketKey *key, char text[BUCKET_KEY_TEXT]);

/* False unless it is a key as bucket_key_format() makes it. */
extern bool bucket_key_parse(const char *text, BucketKey *key);

#endif /* PS_BUCKET_KEYS_H */
