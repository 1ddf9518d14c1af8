/*
 * deleter.h
 *	  Deleting objects that a tenant does not need any more, some time later.
 *
 * Only the owner deletes, and only what a commit (tenant_log_append() or
 * tenant_log_settle() without an error) does not name any more: whoever takes over
 * later finds this commit.  Because of the delay, a store can take over even if a list
 * shows it an older state, and a person can undo a mistake.
 *
 * The list of what to delete is in memory.  What a store that stops leaves in it
 * stays in the bucket until somebody looks for objects that no log names.
 *
 * Any thread may call these functions.  Deleter.lock protects the list; it is a leaf,
 * and not held during a request.
 */
#ifndef PS_DELETER_H
#define PS_DELETER_H

#include "bucket/keys.h"
#include "remote/object.h"

typedef struct Deleter Deleter;

/* delay: ms.  The store must not be closed before the deleter. */
extern Deleter *deleter_create(ObjectStore *store, int64 delay);
extern void deleter_free(Deleter *deleter);

/* A change of the delay applies to what is in the list, too. */
extern void deleter_set_delay(Deleter *deleter, int64 delay);

/*
 * Objects with count consecutive numbers, beginning with that of the key, are to be
 * deleted.  Some of them need not exist.
 */
extern void deleter_add(Deleter *deleter, const BucketKey *first, uint64 count);

/*
 * Deletes what is due, unless another thread is doing that.  What could not be deleted
 * stays in the list.
 */
extern PsError *deleter_run(Deleter *deleter, const ObjectWait *wait);

/* The number of objects in the list; *next_due is the clock_now_ms() at which the first is due, 0: there is none. */
extern uint64 deleter_count(Deleter *deleter, int64 *next_due);

#endif /* PS_DELETER_H */
