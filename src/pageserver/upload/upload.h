/*
 * upload.h
 *	  Uploading the files and the log of a tenant to object storage.
 *
 * A TenantUpload is told of each change of a timeline, after the change is durable here
 * (upload_note()).  Changes are folded into one, "pending".  A thread takes what is pending as a
 * batch, puts the layer files that it adds, then appends it to the tenant's log in the bucket
 * (bucket/tenant_log.h).  So each entry of that log is a state that the tenant had here, and its
 * files are there.  What an entry does not name any more is deleted remote_delete_delay later.
 *
 * The record of a timeline there is that of its manifest (timeline/manifest.h), with
 *	  protected		true, if the branch is protected
 *	  deleted		[TIME, BY], if the branch is in the trash: microseconds since 2000, and a text
 *
 * Any thread may call these functions.  None but upload_begin() sends a request; the lock of
 * the TenantUpload is a leaf, and not held during I/O.
 */
#ifndef PS_UPLOAD_H
#define PS_UPLOAD_H

#include <jansson.h>

#include "access/xlogdefs.h"

#include "base/config.h"
#include "bucket/claim.h"

typedef struct TenantUpload TenantUpload;

/* What is uploaded, and who is told that the upload has come to an end. */
typedef struct UploadOptions
{
	PsId tenant;
	const char *dir;                     /* of the tenant; copied */
	const Config *const _Atomic *config; /* swapped when settings are reloaded */

	/* Called by the thread when the tenant may not be served any more; takes over the error. */
	void (*on_failure)(void *arg, PsError *err);

	/*
	 * The WAL chain of a timeline (upload/wal_upload.h): which object is the first that is needed
	 * if its files contain all before the LSN; false: not known now.  *kept is the first whose
	 * WAL is kept for points in time of the past, and is not changed if that is not known.
	 * Called by the thread with no lock held.  NULL: there are no chains.
	 */
	bool (*chain_first_needed)(void *arg, const PsId *timeline, XLogRecPtr lsn, uint64 *number, uint64 *kept);
	void *arg;
} UploadOptions;

extern TenantUpload *upload_create(const UploadOptions *options);

/* Ends the thread, and waits.  No other thread uses it any more.  NULL is allowed. */
extern void upload_free(TenantUpload *upload);

/* The thread is to end; upload_free() waits for that. */
extern void upload_stop(TenantUpload *upload);

/*
 * Begins uploading, for the owner.  All timelines have been noted as a whole, or as unreadable,
 * before; purged: those that have been removed for good and may still be in the bucket, on
 * return without those that are.
 *
 * PS_SQLSTATE_FENCED: somebody else owns the tenant.  *older: the error is that the bucket has a
 * newer state than the directory, which has been restored from a copy, say.  After another error it may be
 * called again.
 */
extern PsError *upload_begin(TenantUpload *upload, const TenantOwner *owner, PsId *purged, int *npurged,
							 const ObjectWait *wait, bool *older);

/*
 * A timeline has changed, durably: the record is a change or, with "layers", all of the
 * timeline; the reference is taken over.  Changes of one timeline are noted in their order.
 */
extern void upload_note(TenantUpload *upload, const PsId *timeline, json_t *record);

/* The timeline was removed for good. */
extern void upload_note_gone(TenantUpload *upload, const PsId *timeline);

/* The manifest cannot be read: what the bucket has of the timeline stays. */
extern void upload_note_unreadable(TenantUpload *upload, const PsId *timeline);

/*
 * Waits until the timeline's name, generation and existence are in the bucket, as they were
 * noted before the call.  Files may follow later.  Returns at once if upload_begin() has not
 * been called, and if a new timeline has many files.  PS_SQLSTATE_TRY_AGAIN after timeout_ms.
 */
extern PsError *upload_wait(TenantUpload *upload, const PsId *timeline, int64 timeout_ms, const CancelCheck *cancel);

/* For people. */
typedef struct UploadInfo
{
	uint64 files; /* that are to be put */
	uint64 bytes;
	uint64 deleting; /* objects that are to be deleted */
	char error[512]; /* why nothing goes on; "": nothing is wrong */
} UploadInfo;

extern void upload_info(TenantUpload *upload, UploadInfo *info);

/* Up to where the layer files in the bucket have the timeline; 0: nothing. */
extern XLogRecPtr upload_remote_lsn(TenantUpload *upload, const PsId *timeline);

/* Does the newest entry of the tenant's log name this layer file? */
extern bool upload_has_file(TenantUpload *upload, const PsId *timeline, const char *name);

/*
 * From where on the WAL chain of a timeline is needed, by the newest entry: arguments of
 * wal_restore().  The first object and LSN 0 if no entry says.
 */
extern void upload_chain_start(TenantUpload *upload, const PsId *timeline, uint64 *number, uint64 *kept,
							   XLogRecPtr *lsn);

#endif /* PS_UPLOAD_H */
