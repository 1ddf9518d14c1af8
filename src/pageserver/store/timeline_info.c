/*
 * timeline_info.c
 *	  What is shown of an open timeline.
 */
#include "ps_fe.h"

#include "ingest/ingest.h"
#include "read/view.h"
#include "store/store_impl.h"

void
timeline_info(Timeline *tl, TimelineInfo *info)
{
	LayerSet *set = timeline_layers(tl);
	char wal_error[sizeof(info->error)];
	bool wal_failed;
	char damaged_name[LAYER_NAME_MAX];
	int damaged = layers_damaged(set->map, damaged_name);

	memset(info, 0, sizeof(*info));
	info->open = true;
	info->tenant = tl->spec->tenant;
	info->timeline = tl->spec->id;
	strlcpy(info->name, timeline_name(tl), sizeof(info->name));
	info->system_identifier = tl->spec->system_identifier;
	info->segment_size = tl->spec->segment_size;
	info->data_checksum_version = tl->spec->data_checksum_version;
	info->start_lsn = tl->spec->start_lsn;
	info->layer_files = layer_map_count(set->map);
	info->layer_bytes = layer_map_bytes(set->map);
	info->open_layer_bytes = open_layer_memory(set->open);
	for (int i = 0; i < set->nfrozen; i++)
		info->open_layer_bytes += open_layer_memory(set->frozen[i]);
	layer_set_unref(set);
	if (tl->ancestor != NULL)
		strlcpy(info->parent, timeline_name(tl->ancestor), sizeof(info->parent));

	info->compute_connected = receiver_is_connected(tl, &info->connected_since);
	wal_failed = wal_segments_sync_failed(tl->wal, wal_error, sizeof(wal_error));
	pthread_mutex_lock(&tl->lock);
	info->generation = tl->generation;
	strlcpy(info->owner, tl->owner, sizeof(info->owner));
	info->received_lsn = tl->received_lsn;
	info->flushed_lsn = tl->flushed_lsn;
	info->ingested_lsn = tl->ingested_lsn;
	info->disk_consistent_lsn = tl->disk_consistent_lsn;
	info->gc_cutoff = timeline_gc_cutoff(tl);
	info->bucket_lsn = tl->remote.lsn;
	info->bucket_lag = wal_remote_lag(tl);
	if (tl->failed != NULL)
		strlcpy(info->error, tl->failed->message, sizeof(info->error));
	else if (wal_failed)
		strlcpy(info->error, wal_error, sizeof(info->error));
	else if (tl->flush_error[0] != '\0')
		strlcpy(info->error, tl->flush_error, sizeof(info->error));
	else if (tl->upkeep_errors[UPKEEP_LEVEL0][0] != '\0')
		strlcpy(info->error, tl->upkeep_errors[UPKEEP_LEVEL0], sizeof(info->error));
	else
		damage_text(tl, info->error, sizeof(info->error));
	if (info->error[0] == '\0')
		strlcpy(info->error, tl->files_missing[0] != '\0' ? tl->files_missing : tl->upkeep_errors[UPKEEP_ALL],
				sizeof(info->error));
	if (info->error[0] == '\0')
		strlcpy(info->error, tl->wal_error, sizeof(info->error));
	if (info->error[0] == '\0' && damaged > 0)
		snprintf(info->error, sizeof(info->error), "layer file \"%s\"%s damaged or cannot be read", damaged_name,
				 damaged > 1 ? " and others are" : " is");
	for (int i = 0; i < WAIT_KINDS && info->waits_for[0] == '\0'; i++)
		strlcpy(info->waits_for, tl->waits[i].text, sizeof(info->waits_for));
	pthread_mutex_unlock(&tl->lock);
}
