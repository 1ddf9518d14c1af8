/*
 * branch_upload.c
 *	  The WAL of a branch in object storage: its chain is opened with the branch for the
 *	  first time, and kept while the branch is closed (upload/wal_upload.h).
 *
 * Nothing is removed from a chain yet, so it is read from its first object on.
 */
#include "ps_fe.h"

#include "store/store_impl.h"
#include "upload/wal_upload.h"

PsError *
branch_open_upload(Branch *branch, const TenantOwner *owner, const WalUploadFenced *fenced, XLogRecPtr lsn,
				   WalSegments *segs, const ObjectWait *wait)
{
	WalPlace place = {.dir = branch->spec.dir,
					  .segs = segs,
					  .segment_size = branch->spec.segment_size,
					  .system_identifier = branch->spec.system_identifier,
					  .lsn = lsn};

	if (branch->upload != NULL)
		return NULL;
	return wal_upload_open(owner, &branch->spec.id, &place, 0, lsn, fenced, wait, &branch->upload);
}

PsError *
branch_begin_upload(Branch *branch, const TenantOwner *owner, const WalUploadFenced *fenced)
{
	Timeline *tl = branch->open;
	CancelCheck cancel = {timeline_check_stopping, tl};
	ObjectWait wait = {&cancel, clock_now_ms() + timeline_config(tl)->wait_timeout};
	XLogRecPtr lsn;

	pthread_mutex_lock(&tl->lock);
	lsn = tl->disk_consistent_lsn;
	pthread_mutex_unlock(&tl->lock);
	PS_TRY(branch_open_upload(branch, owner, fenced, lsn, tl->wal, &wait));
	return wal_upload_start(branch->upload, tl, &wait);
}
