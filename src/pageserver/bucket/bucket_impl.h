/*
 * bucket_impl.h
 *	  Private header of this folder.
 *
 * BUCKET_RULE() marks the rules that keep two owners of a tenant apart.  It is
 * always true; only t_bucket_protocol compiles this folder so that rules can be
 * taken out, and shows that data is lost then.
 */
#ifndef PS_BUCKET_IMPL_H
#define PS_BUCKET_IMPL_H

#include "bucket/claim.h"
#include "bucket/keys.h"
#include "remote/object.h"

typedef enum BucketRule
{
	RULE_FENCE = 1 << 0,              /* an owner puts a fence into a chain before it appends */
	RULE_STOP_AT_NEWER = 1 << 1,      /* it stops where it finds an object of a newer owner */
	RULE_CHECK_AFTER_FENCE = 1 << 2,  /* after the fence it checks that there is no newer claim */
	RULE_CHECK_AFTER_COMMIT = 1 << 3, /* a commit counts if there is no newer claim after it */
	RULE_KEEP_FENCES = 1 << 4,        /* fences are not deleted */
	RULE_LOOK_AHEAD = 1 << 5          /* what a list does not show yet is asked for */
} BucketRule;

#ifdef BUCKET_TEST_RULES
extern int bucket_rules_off;
#define BUCKET_RULE(rule) ((bucket_rules_off & (rule)) == 0)
#else
#define BUCKET_RULE(rule) true
#endif

/* object_get(), with *found false and no error if there is no such object. */
extern PsError *bucket_get(ObjectStore *store, const BucketKey *key, size_t max, const ObjectWait *wait, char **data,
						   size_t *len, bool *found);

/*
 * The first object in the folder of the key, in the order of keys, that is a key of
 * its kind and is greater than "after" (NULL: no limit).
 */
extern PsError *bucket_first(ObjectStore *store, const BucketKey *folder, const BucketKey *after,
							 const ObjectWait *wait, BucketKey *first, bool *found);

#endif /* PS_BUCKET_IMPL_H */
