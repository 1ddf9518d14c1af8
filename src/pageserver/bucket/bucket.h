/*
 * bucket.h
 *	  A bucket, or a directory, that stores keep their tenants in: what is checked
 *	  before it is used.
 *
 * Its object "format" is written once, by the store that uses it first.
 */
#ifndef PS_BUCKET_H
#define PS_BUCKET_H

#include "base/id.h"
#include "remote/object.h"

/*
 * Checks that the object storage does what the protocol needs (bucket_probe()) and
 * has the format of this program, which is written if there are no objects at all.
 * *id identifies the bucket with its prefix.  To be called when a store starts and
 * before a tenant is attached: someone may have changed the bucket meanwhile.
 *
 * PS_SQLSTATE_STATE: the bucket cannot be used, and the message says why.
 */
extern PsError *bucket_open(ObjectStore *store, const ObjectWait *wait, PsId *id);

/*
 * Checks that the object storage creates an object only once, and reads, lists and
 * deletes objects, with an object in "probe/" that is removed again.  The protocol
 * would lose data where one of these does not work.
 */
extern PsError *bucket_probe(ObjectStore *store, const ObjectWait *wait);

#endif /* PS_BUCKET_H */
