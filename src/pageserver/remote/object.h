/*
 * object.h
 *	  Object storage: a bucket of S3 or of a service that speaks its protocol, or
 *	  a directory that machines share.
 *
 * An object has a key and contents.  A key consists of the characters A-Z a-z 0-9
 * . _ - and /, at most OBJECT_KEY_MAX of them; no part between slashes is empty or
 * starts with a dot.  Keys are relative to the prefix (or directory) of the store's
 * URL.
 *
 * The only operation that decides between two writers is object_put_once().
 * Callers must not reuse a key: conditional deletes, conditional overwriting and
 * conditional multipart uploads are missing or broken in services in use.
 *
 * Any thread may call these functions.  A call blocks its thread; calls for other
 * objects run in other threads, as many as ObjectSettings.connections allows.
 * While a call waits for its turn, for the service, or for the next attempt, it asks
 * the CancelCheck, about once a second or more often.
 *
 * Errors name the object.  A request to a service is repeated with growing pauses as
 * long as that may help, until the deadline; after that PS_SQLSTATE_TRY_AGAIN: the
 * service cannot be reached, is overloaded, or answers with errors of its own.  An
 * operation in a directory is not repeated, and has the states of fs.h.
 * PS_SQLSTATE_NOT_FOUND: there is no such object.  PS_SQLSTATE_STATE: the service
 * refuses (access denied, no such bucket, wrong key, quota); only a person can repair
 * that.  PS_SQLSTATE_CORRUPTED: an answer that is not what was asked for.
 */
#ifndef PS_OBJECT_H
#define PS_OBJECT_H

#include "base/bytesink.h"
#include "base/cancel.h"

#define OBJECT_KEY_MAX 512

typedef struct ObjectStore ObjectStore;

typedef enum ObjectAddressing
{
	OBJECT_ADDRESS_AUTO, /* the path with an endpoint of one's own, the host name with AWS's */
	OBJECT_ADDRESS_PATH, /* https://endpoint/bucket/key */
	OBJECT_ADDRESS_HOST  /* https://bucket.endpoint/key */
} ObjectAddressing;

/* All texts may be NULL or empty.  Those that are not for directories are not used for them. */
typedef struct ObjectSettings
{
	const char *endpoint; /* "https://host[:port]"; default: AWS's endpoint of the region */
	const char *region;   /* default: AWS_REGION, AWS_DEFAULT_REGION, us-east-1 */
	ObjectAddressing addressing;
	const char *ca_file;       /* PEM; default: the system's */
	bool no_verify_tls;        /* accept any certificate */
	const char *proxy;         /* default: https_proxy, http_proxy and no_proxy of the environment */
	const char *key_file;      /* credentials.h; default: the environment and what the machine offers */
	const char *sse;           /* "AES256", "aws:kms", "aws:kms:KEY" or "customer:FILE", a file of 32 bytes */
	const char *storage_class; /* of all that is written, "STANDARD_IA", say */
	int connections;           /* most requests at a time; 0: 64 */
	int64 part_size;           /* bytes above which a file goes up in parts of that size; 0: 64 MB */
} ObjectSettings;

/* How long a call may take; a NULL pointer to one means without end. */
typedef struct ObjectWait
{
	const CancelCheck *cancel; /* or NULL */
	int64 deadline;            /* of clock_now_ms(); 0: none */
} ObjectWait;

/*
 * Makes the store of a URL, s3://BUCKET[/PREFIX] or file:///DIRECTORY; no request
 * is sent, and the directory must exist.  The texts are copied.  PS_SQLSTATE_INVALID:
 * the URL or a setting is not valid.
 */
extern PsError *object_store_open(const char *url, const ObjectSettings *settings, ObjectStore **store);

/* When no call is running.  NULL is allowed. */
extern void object_store_close(ObjectStore *store);

/* The URL, for messages. */
extern const char *object_store_url(const ObjectStore *store);

/*
 * Does an error of the functions below mean that there is no such object?  That of a wait
 * that was canceled does not, whatever its state.  False if there is no error.
 */
extern bool object_is_missing(const PsError *err);

typedef enum ObjectOutcome
{
	OBJECT_NOT_DONE, /* an error: the object was not written, and will not be */
	OBJECT_UNKNOWN,  /* an error: it may have been written, or be written later by a request that is under way */
	OBJECT_EXISTS,   /* no error: the key has other contents */
	OBJECT_DONE      /* no error: the object is there and durable, put by this call or one before */
} ObjectOutcome;

/*
 * Creates an object, if there is none of that key.  Of any number of callers one
 * gets OBJECT_DONE.  An answer that was lost is asked about: contents that are there
 * already and are equal to data count as the caller's own.  So what several callers
 * may put must name its writer.
 */
extern PsError *object_put_once(ObjectStore *store, const char *key, const void *data, size_t len,
								const ObjectWait *wait, ObjectOutcome *outcome);

/* Creates or replaces an object; durable on return.  After an error the old or the new contents are there. */
extern PsError *object_put(ObjectStore *store, const char *key, const void *data, size_t len, const ObjectWait *wait);

/*
 * Like object_put(), with the contents of a file, which must not change meanwhile;
 * in parts if it is large.  Parts of an upload that failed are removed, if the
 * service can be reached then.
 */
extern PsError *object_put_file(ObjectStore *store, const char *key, const char *path, const ObjectWait *wait);

/* The whole object, malloc'd, of at most max bytes; PS_SQLSTATE_CORRUPTED if it is larger. */
extern PsError *object_get(ObjectStore *store, const char *key, size_t max, void **data, size_t *len,
						   const ObjectWait *wait);

/*
 * Part of an object into buf; *got is less than len only at the end of the object.
 * An offset at or behind the end gives 0 bytes.
 */
extern PsError *object_get_range(ObjectStore *store, const char *key, int64 offset, size_t len, void *buf,
								 size_t *got, const ObjectWait *wait);

/*
 * From an offset to the end of the object, to a sink.  An attempt continues where the one
 * before failed.  The request keeps its place among ObjectSettings.connections while the
 * sink works, so that must not wait for another request to this store.
 */
extern PsError *object_read(ObjectStore *store, const char *key, int64 offset, const ByteSink *sink,
							const ObjectWait *wait);

typedef struct ObjectInfo
{
	const char *key; /* valid during the call */
	int64 size;      /* bytes; -1: a folder, whose key ends in a slash */
} ObjectInfo;

/* Called in the order of the keys' bytes, by the thread that lists; an error ends the list and is returned. */
typedef struct ObjectListSink
{
	PsError *(*item)(void *arg, const ObjectInfo *info, bool *stop);
	void *arg;
} ObjectListSink;

/*
 * Lists the objects whose keys start with the prefix and are greater than "after",
 * either of which may be NULL.  With folders: what has another slash behind the
 * prefix is reported once, up to that slash; "after" then may be such a folder.  A
 * service may answer with the state of some time ago.
 */
extern PsError *object_list(ObjectStore *store, const char *prefix, const char *after, bool folders,
							const ObjectListSink *sink, const ObjectWait *wait);

/*
 * Deletes objects; that one does not exist is no error.  After an error some are
 * deleted, and the call may be repeated.
 */
extern PsError *object_delete(ObjectStore *store, const char *const *keys, int nkeys, const ObjectWait *wait);

#endif /* PS_OBJECT_H */
