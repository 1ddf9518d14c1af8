/*
 * object_impl.h
 *	  The backends of object storage: for this folder only.
 */
#ifndef PS_OBJECT_IMPL_H
#define PS_OBJECT_IMPL_H

#include "lib/stringinfo.h"

#include "remote/object.h"

/*
 * The functions of object.h, whose contracts they have; keys have been checked.
 * A backend's own structure starts with ObjectStore.
 */
typedef struct ObjectBackend
{
	void (*close)(ObjectStore *store);
	PsError *(*put)(ObjectStore *store, const char *key, const void *data, size_t len, bool once,
					const ObjectWait *wait, ObjectOutcome *outcome);
	PsError *(*put_file)(ObjectStore *store, const char *key, const char *path, const ObjectWait *wait);
	/* to the end of the object if len is -1; less than len at its end */
	PsError *(*read)(ObjectStore *store, const char *key, int64 offset, int64 len, const ByteSink *sink,
					 const ObjectWait *wait);
	PsError *(*list)(ObjectStore *store, const char *prefix, const char *after, bool folders,
					 const ObjectListSink *sink, const ObjectWait *wait);
	PsError *(*delete_keys)(ObjectStore *store, const char *const *keys, int nkeys, const ObjectWait *wait);
} ObjectBackend;

struct ObjectStore
{
	const ObjectBackend *backend;
	char *url;
};

/* url: without its scheme. */
extern PsError *object_dir_open(const char *dir, ObjectStore **store);
extern PsError *object_s3_open(const char *bucket_prefix, const ObjectSettings *settings, ObjectStore **store);

/* The error of an ended wait, or NULL: canceled, or past the deadline. */
extern PsError *object_wait_check(const ObjectWait *wait);

#endif /* PS_OBJECT_IMPL_H */
