/*
 * branch.c
 *	  New branches, which share the history of their parent; their deletion; and
 *	  branches that replace another one.
 *
 * A new branch has only a layer file with the WAL state where it begins, and the page of
 * WAL in which it begins.  It pins that LSN in its parent, so that nothing it needs is
 * removed there.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <unistd.h>

#include "ingest/ingest.h"
#include "layer/layer_writer.h"
#include "pg/decoder.h"
#include "read/read.h"
#include "sqlstate.h"
#include "store/stop_files.h"
#include "base/fs.h"
#include "store/store_impl.h"

/*
 * Writes the WAL segment in which the branch begins: its first page header and the page in
 * which the branch begins; earlier pages are read from the parent.  Writes nothing if the
 * branch begins at the start of a segment.  The file is sparse, hence no
 * fs_write_new_file().
 */
static PsError *
write_first_segment(Timeline *parent, XLogRecPtr lsn, const char *wal_dir)
{
	uint32 size = parent->spec->segment_size;
	XLogRecPtr page = lsn - lsn % XLOG_BLCKSZ;
	XLogRecPtr start = lsn - XLogSegmentOffset(lsn, size);
	char name[MAXFNAMELEN];
	char buf[XLOG_BLCKSZ];
	XLogSegNo segno;
	char *path;
	int fd;
	PsError *err = NULL;

	if (lsn == start)
		return NULL;
	XLByteToSeg(lsn, segno, size);
	XLogFileName(name, 1, segno, size);
	path = psprintf("%s/%s", wal_dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, size) != 0)
		err = ps_error(ps_errno_state(), "could not create file \"%s\": %m", path);

	/* the header of the first page, which identifies the file, then the page to which WAL will be appended */
	for (int i = 0; i < 2 && err == NULL; i++)
	{
		XLogRecPtr from = i == 0 ? start : page;
		size_t len = i == 0 ? SizeOfXLogLongPHD : lsn - page;

		err = wal_segments_read(parent->wal, from, buf, len);
		if (err == NULL)
			err = fs_write_at(fd, path, buf, len, XLogSegmentOffset(from, size));
	}
	if (fd >= 0)
		close(fd);
	pfree(path);
	return err;
}

/* Writes a layer file that holds only the WAL state. */
static PsError *
write_state_layer(TimelineSeed *seed, const WalState *state, Layer **layer)
{
	PsKey key = ps_key_simple(PS_KEY_STATE, 0, 0, 0);
	StringInfoData value;
	ImageWriter *writer;
	PsError *err;

	PS_TRY(image_writer_create(&seed->space, seed->lsn, &writer));
	initStringInfo(&value);
	wal_state_encode(state, &value);
	err = image_writer_put(writer, &key, value.data, value.len);
	if (err == NULL)
		err = image_writer_finish(writer, layer);
	if (err != NULL)
		image_writer_abort(writer);
	pfree(value.data);
	return err;
}

/* A branch that replaces another gets all of its settings; else the parent's, without the command line options. */
static PsError *
copy_settings(const TimelineSeed *seed, const char *dir)
{
	Branch *from = seed->replaced != NULL ? seed->replaced : seed->ancestor;
	PsError *err;

	pthread_mutex_lock(&from->settings_lock);
	err = branch_settings_copy(from->spec.dir, dir, seed->replaced != NULL);
	pthread_mutex_unlock(&from->settings_lock);
	return err;
}

/* Creates the files in STORE/tmp, then calls store_add_timeline(), which syncs them and moves them to their place. */
static PsError *
add_branch(Store *store, TimelineSeed *seed, const WalState *state, Timeline **result)
{
	char id[PS_ID_TEXT];
	char *dir = psprintf("%s/tmp/%s", store->config->store_dir, ps_id_format(&seed->timeline, id));
	char *wal_dir = psprintf("%s/wal", dir);
	char *layers_dir = psprintf("%s/layers", dir);
	Layer *layer = NULL;
	PsError *err;

	PS_GOTO(fs_make_dir(dir), done);
	PS_GOTO(fs_make_dir(wal_dir), done);
	PS_GOTO(fs_make_dir(layers_dir), done);
	PS_GOTO(write_first_segment(seed->ancestor->open, seed->lsn, wal_dir), done);
	/* a branch that replaces a protected one is protected, too */
	if (seed->replaced != NULL && protect_mark_is_set(seed->replaced->spec.dir))
		PS_GOTO(protect_mark_set(dir, true), done);
	seed->space = (LayerSpace) {.dir = layers_dir,
								.tenant = seed->tenant,
								.timeline = seed->timeline,
								.next_number = Max(1, seed->ancestor->tenant->env.owner_generation << 32),
								.synced_later = true};
	PS_GOTO(write_state_layer(seed, state, &layer), done);
	PS_GOTO(copy_settings(seed, dir), done);
	stop_files_branch(seed->ancestor->open, seed->lsn, dir);
	seed->layers = &layer;
	seed->nlayers = 1;
	seed->synced_later = true;
	err = store_add_timeline(store, seed, result);
done:
	layer_unref(layer);
	if (!seed->outcome_unknown && access(dir, F_OK) == 0)
		(void) rmtree(dir, true);
	pfree(dir);
	pfree(wal_dir);
	pfree(layers_dir);
	return err;
}

/* seed: the id, the name and the replaced branch are set. */
static PsError *
create_branch(Store *store, TimelineSeed *seed, Timeline *parent, XLogRecPtr lsn, const CancelCheck *cancel,
			  Timeline **result)
{
	TimelineInfo info;
	WalState state;
	PsError *err;

	while (parent->ancestor != NULL && lsn < parent->spec->start_lsn)
		parent = parent->ancestor;
	timeline_info(parent, &info);
	if (lsn != PG_UINT64_MAX && lsn > info.received_lsn)
		return ps_error(PS_SQLSTATE_INVALID, "branch \"%s\" ends at %X/%X, there is no %X/%X yet", info.name,
						LSN_FORMAT_ARGS(info.flushed_lsn), LSN_FORMAT_ARGS(lsn));
	/* records end only at aligned LSNs; extend_fork() puts tombstones at others, which no reader may see */
	if (lsn == PG_UINT64_MAX)
		lsn = info.flushed_lsn;
	else
		lsn = TYPEALIGN_DOWN(MAXIMUM_ALIGNOF, Min(lsn, receiver_end_of_records(parent)));
	PS_TRY(timeline_wait_ingested(parent, lsn, store->config->wait_timeout, cancel));
	PS_TRY(timeline_pin_wal(parent, lsn));
	err = timeline_state_at(parent, lsn, &state);
	if (err == NULL)
	{
		/*
		 * The branch begins at the end of the last record before the LSN.  That may
		 * be before gc_cutoff, but no data changes between the two LSNs, so what is
		 * kept for one serves the other.
		 */
		seed->tenant = parent->spec->tenant;
		seed->system_identifier = parent->spec->system_identifier;
		seed->segment_size = parent->spec->segment_size;
		seed->data_checksum_version = parent->spec->data_checksum_version;
		seed->lsn = state.end;
		seed->ancestor = branch_of(parent);
		seed->cancel = cancel;
		pins_add(parent->spec->pins, state.end, PIN_BRANCH);
		err = add_branch(store, seed, &state, result);
		if (err != NULL && !seed->outcome_unknown)
			pins_remove(parent->spec->pins, state.end, PIN_BRANCH);
	}
	timeline_unpin(parent, lsn);
	return err;
}

PsError *
store_branch(Store *store, const char *name, Timeline *parent, XLogRecPtr lsn, const CancelCheck *cancel,
			 Timeline **result)
{
	TimelineSeed seed = {.timeline = ps_id_random()};

	PS_TRY(store_check_new_name(store, name));
	strlcpy(seed.name, name, sizeof(seed.name));
	return create_branch(store, &seed, parent, lsn, cancel, result);
}

PsError *
timeline_parent(Timeline *tl, Timeline **parent)
{
	*parent = tl->ancestor;
	if (tl->ancestor == NULL)
		return ps_error(PS_SQLSTATE_STATE, "branch \"%s\" has no parent", timeline_name(tl));
	return NULL;
}

/* ---- deletion ---- */

static char *
path_of_deleted(const Branch *branch)
{
	char id[PS_ID_TEXT];

	return psprintf("%s/tmp/deleted-%s", branch->tenant->store->config->store_dir, ps_id_format(&branch->spec.id, id));
}

PsError *
branch_move_away(Branch *branch, Outcome *outcome)
{
	char *path = path_of_deleted(branch);
	PsError *err = NULL;

	*outcome = OUTCOME_NOT_DONE;
	if ((err = owner_begin_purge(branch)) != NULL)
		err = ps_error_context(err, "could not remove branch \"%s\"", branch_name(branch));
	else if (rename(branch->spec.dir, path) != 0)
		err = ps_error(ps_errno_state(), "could not rename \"%s\" to \"%s\": %m", branch->spec.dir, path);
	else if ((err = fs_sync_parent(branch->spec.dir)) == NULL)
	{
		*outcome = OUTCOME_DONE;
		owner_note_purged(branch);
	}
	else if (!fs_rename_back(path, branch->spec.dir))
	{
		*outcome = OUTCOME_UNKNOWN;
		err = ps_error_unknown(err, "Branch \"%s\" is deleted now, but may be there again after a restart.",
							   branch_name(branch));
	}
	pfree(path);
	return err;
}

PsError *
store_remove_branch(Store *store, const char *name, const CancelCheck *cancel, Branch **result)
{
	Branch *branch;
	Outcome outcome;
	PsError *err;

	*result = NULL;
	pthread_mutex_lock(&store->lock);
	err = names_save(store, cancel);
	if (err == NULL)
		err = catalog_find_changeable(store, name, cancel, &branch);
	if (err == NULL)
		err = catalog_check_no_children(store, branch, true);
	if (err == NULL)
	{
		/* the change keeps others from adding branches that begin in it (check_place() in store/add.c) */
		catalog_begin_change(store, branch);
		pthread_mutex_unlock(&store->lock);
		err = branch_move_away(branch, &outcome);
		pthread_mutex_lock(&store->lock);
		if (outcome != OUTCOME_NOT_DONE)
		{
			branch->files_stay = outcome == OUTCOME_UNKNOWN;
			catalog_remove_branch(store, branch);
			if (branch->life == BRANCH_OPEN)
				timeline_stop(branch->open, CANCEL_BRANCH_DELETED);
			*result = branch;
		}
		catalog_end_change(store, branch);
	}
	pthread_mutex_unlock(&store->lock);
	if (err == NULL)
		owner_wait(branch, cancel);
	return err;
}

void
store_destroy_branch(Branch *branch)
{
	Store *store = branch->tenant->store;
	Branch *ancestor = branch->ancestor;
	XLogRecPtr start_lsn = branch->spec.start_lsn;
	char *path = path_of_deleted(branch);
	Tenant *tenant = branch->tenant;
	bool origin_unknown = branch->origin_unknown;
	bool files_stay = branch->files_stay;

	pthread_mutex_lock(&store->lock);
	if (ancestor != NULL)
		ancestor->users++;
	use_free_branch(store, branch);
	if (origin_unknown && atomic_fetch_sub(&tenant->env.keep_all, 1) == 1)
		for (int i = 0; i < store->nbranches; i++)
			if (store->branches[i]->tenant == tenant)
				upkeep_wake(store->upkeep, store->branches[i]);
	if (ancestor != NULL)
	{
		pins_remove(ancestor->spec.pins, start_lsn, PIN_BRANCH);
		upkeep_wake(store->upkeep, ancestor);
		catalog_unhold(store, ancestor);
	}
	pthread_mutex_unlock(&store->lock);
	if (!files_stay)
		(void) rmtree(path, true); /* logs what it cannot remove; the next start removes it */
	pfree(path);
}

/* ---- a branch that replaces another ---- */

/*
 * The new branch is added under the name that the replaced one still has, and its manifest
 * names the replaced one: if the store ends before that has its new name, the next start
 * renames it (names_finish_replacement()).
 */
PsError *
store_replace_branch(Store *store, const char *name, Timeline *parent, XLogRecPtr lsn, bool childless,
					 const CancelCheck *cancel, char *old_name)
{
	TimelineSeed seed = {.timeline = ps_id_random()};
	PsError *err;

	pthread_mutex_lock(&store->lock);
	err = catalog_find_served(store, name, cancel, &seed.replaced);
	if (err == NULL && childless)
		err = catalog_check_no_children(store, seed.replaced, store->config->trash_interval == 0);
	if (err == NULL)
		err = names_find_for_old(store, name, old_name);
	if (err == NULL)
		seed.replaced->users++;
	pthread_mutex_unlock(&store->lock);
	if (err != NULL)
		return err;
	strlcpy(seed.name, name, sizeof(seed.name));
	strlcpy(seed.replaced_name, old_name, sizeof(seed.replaced_name));
	err = create_branch(store, &seed, parent, lsn, cancel, NULL);
	pthread_mutex_lock(&store->lock);
	catalog_unhold(store, seed.replaced);
	pthread_mutex_unlock(&store->lock);
	return err;
}
