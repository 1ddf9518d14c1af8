/*
 * pack.c
 *	  WAL that is kept for history alone is kept compressed (wal/packed.h): all
 *	  of it is in layer files, so it is read only where a branch begins, or for
 *	  an export.
 */
#include "ps_fe.h"

#include "maintain/maintain_impl.h"

PsError *
pack_wal(Timeline *tl)
{
	const char *method = timeline_config(tl)->wal_compression;
	CancelCheck cancel = {timeline_check_stopping, tl};
	XLogSegNo first_needed;

	if (method != NULL && strcmp(method, "none") == 0)
		return NULL;
	pthread_mutex_lock(&tl->lock);
	XLByteToSeg(tl->disk_consistent_lsn, first_needed, tl->spec->segment_size);
	pthread_mutex_unlock(&tl->lock);
	return wal_segments_pack(tl->wal, first_needed, &cancel);
}
