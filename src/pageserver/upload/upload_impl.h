/*
 * upload_impl.h
 *	  Private header of this folder: the upload of a tenant.
 */
#ifndef PS_UPLOAD_IMPL_H
#define PS_UPLOAD_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "bucket/tenant_log.h"
#include "upload/upload.h"

#ifndef UPLOAD_RETRY_DELAY
#define UPLOAD_RETRY_DELAY 2000 /* ms after a failure */
#endif
#define UPLOAD_THREADS   8 /* the most files of a tenant that are put at a time */
#define UPLOAD_FEW_FILES 4 /* a new timeline with no more files than these is committed ahead of others */

typedef struct UploadTimeline
{
	PsId id;
	bool frozen;      /* no change is accepted: it is gone, or cannot be read */
	uint64 noted;     /* number of its last change */
	uint64 committed; /* of changes up to this one name, generation and existence are in the bucket */
	XLogRecPtr remote_lsn;
	uint64 chain; /* as the newest entry says, like the next two */
	uint64 kept;
	XLogRecPtr chain_lsn;
	json_t *files; /* the layer files that the newest entry names: members; NULL: none */
} UploadTimeline;

/* Somebody in upload_wait(). */
typedef struct UploadWaiter
{
	int timeline; /* index */
	uint64 number;
	struct UploadWaiter *next;
} UploadWaiter;

/* A layer file that is to be put. */
typedef struct UploadFile
{
	BucketKey key;
	char id[PS_ID_TEXT]; /* of the timeline */
	char *name;
	int level;
	int64 bytes;
} UploadFile;

typedef struct UploadFileList
{
	UploadFile *files;
	int n;
} UploadFileList;

struct TenantUpload
{
	/* fixed */
	UploadOptions options;
	char *dir;
	char id[PS_ID_TEXT];

	/* fixed once it has begun */
	TenantOwner owner;
	Deleter *deleter;
	pthread_t thread;
	TenantLog *log; /* used by the thread, as are the next four */

	LogChange batch;    /* what is being put and committed */
	json_t *put;        /* files that have been put for the batch, their names by their keys; under lock */
	BucketKey *dropped; /* what the entry that is being committed does not name any more */
	int ndropped;

	atomic_bool stopping;

	/* protects what follows */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* anything below, or stopping; clock_cond_init() */
	bool begun;
	bool failed;          /* the thread has ended because of an error */
	PsError *error;       /* of the last attempt, or NULL */
	LogChange pending;    /* changes that are in no batch yet */
	uint64 noted;         /* number of the last change */
	uint64 sealed;        /* of the last one in the batch */
	uint64 tried_members; /* of the last one that upload_commit_members() has considered */
	UploadTimeline *timelines;
	int ntimelines;
	UploadWaiter *waiters;
	uint64 batch_files; /* left to be put */
	int64 batch_bytes;
};

/* ---- upload.c ---- */

/* The lock is held. */
extern UploadTimeline *upload_find(TenantUpload *up, const char *id);

/* Is somebody waiting for members that have not been tried?  The lock is held. */
extern bool upload_members_due(const TenantUpload *up);

/* Sets the error of the last attempt (NULL: none), which is taken over; logs it if it is news. */
extern void upload_set_error(TenantUpload *up, PsError *err);

/* Waits UPLOAD_RETRY_DELAY; false if the thread is to end. */
extern bool upload_pause(TenantUpload *up);

/* ObjectWait for requests of the thread: canceled when it is to end. */
extern ObjectWait upload_request(TenantUpload *up, CancelCheck *cancel, int64 timeout_ms);

/* What an entry, of which this is the state of a timeline, says about it.  The lock is held. */
extern void upload_set_there(UploadTimeline *timeline, const json_t *state);

/* The same after a change of that state. */
extern void upload_change_there(UploadTimeline *timeline, const json_t *change, const json_t *state);

/* ---- upload_put.c ---- */

/* Adds the files of a record that are neither in the bucket's state nor have been put. */
extern void upload_list_missing(TenantUpload *up, const char *id, const json_t *record, UploadFileList *list);
extern void upload_free_list(UploadFileList *list);

/* *vanished: the file does not exist here any more, which is no error. */
extern PsError *upload_put_file(TenantUpload *up, const UploadFile *file, bool *vanished);

/* Puts the files of a record that are not there yet.  *vanished: one of them does not exist here any more. */
extern PsError *upload_put_record(TenantUpload *up, const char *id, const json_t *record, bool *vanished);

/* ---- upload_commit.c ---- */

/* A member of a record that is an LSN; 0: there is no such member. */
extern XLogRecPtr upload_record_lsn(const json_t *record, const char *name);

/* Commits the batch, whose files are there, and empties it.  Tries until that succeeds; an error ends the thread. */
extern PsError *upload_commit_batch(TenantUpload *up);

/* Commits what somebody waits for ahead of the files of the batch.  Errors: as upload_commit_batch(). */
extern PsError *upload_commit_members(TenantUpload *up);

/* ---- upload_files.c ---- */

/*
 * Puts files of the batch until all are there.  Commits members meanwhile, when somebody waits
 * for them.  Errors are those of object.h; the call can be repeated.
 */
extern PsError *upload_put_files(TenantUpload *up);

#endif /* PS_UPLOAD_IMPL_H */
