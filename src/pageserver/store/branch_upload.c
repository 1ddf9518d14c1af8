/*
 * branch_upload.c
 *	  The WAL of a branch in object storage: its chain is opened with the branch for the
 *	  first time, and kept while the branch is closed (upload/wal_upload.h).
 *
 * The tenant's log says from where on a chain is needed, so that layer files and chain
 * together have everything (upload/upload.h), and from where on it has WAL that the store
 * keeps for points in time of the past.  Objects before that are not deleted yet.
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

	Store *store = branch->tenant->store;
	struct WalUpload *upload;
	uint64 number;
	XLogRecPtr chain_lsn;

	if (branch->upload != NULL)
		return NULL;
	upload_chain_start(branch->tenant->upload, &branch->spec.id, &number, &place.kept, &chain_lsn);
	if (chain_lsn == InvalidXLogRecPtr)
		chain_lsn = lsn;
	PS_TRY(wal_upload_open(owner, &branch->spec.id, &place, number, chain_lsn, fenced, wait, &upload));
	pthread_mutex_lock(&store->lock);
	branch->upload = upload;
	pthread_mutex_unlock(&store->lock);
	return NULL;
}

/* ---- what the upload of the tenant asks, in its thread ---- */

/* The branch of a timeline whose chain is open.  Caller holds Store.lock. */
static Branch *
find_with_chain(Tenant *tenant, const PsId *timeline)
{
	Store *store = tenant->store;

	for (int i = 0; i < store->nbranches; i++)
		if (store->branches[i]->tenant == tenant && ps_id_equal(&store->branches[i]->spec.id, timeline))
			return store->branches[i]->upload != NULL ? store->branches[i] : NULL;
	return NULL;
}

bool
branch_chain_first_needed(void *arg, const PsId *timeline, XLogRecPtr lsn, uint64 *number, uint64 *kept)
{
	Tenant *tenant = arg;
	Branch *branch;
	XLogSegNo oldest;
	XLogSegNo newest;

	pthread_mutex_lock(&tenant->store->lock);
	branch = find_with_chain(tenant, timeline);
	if (branch != NULL)
		*number = wal_upload_first_needed(branch->upload, lsn);
	/* what the store itself keeps */
	if (branch != NULL && branch->life == BRANCH_OPEN && wal_segments_range(branch->open->wal, &oldest, &newest) &&
		wal_upload_covers(branch->upload, oldest * branch->spec.segment_size))
		*kept = Max(*kept, wal_upload_first_needed(branch->upload, oldest * branch->spec.segment_size));
	pthread_mutex_unlock(&tenant->store->lock);
	return branch != NULL;
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
