/*
 * pack.c
 *	  Compresses WAL segments that are completely in layer files (wal/packed.h).
 *
 * Such WAL is read rarely: where a branch begins, and for backups.
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
