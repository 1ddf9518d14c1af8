/*
 * branch.c
 *	  Branches of branches: new timelines that share another one's history.
 *
 * A branch has no data of its own when it is made: a layer file with the state
 * of WAL where it begins, and the page of WAL that it begins in.  It pins that
 * LSN in its parent, so that nothing it needs is removed there.
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
 * The segment in which the branch begins, as far as the page that it begins
 * in; what is before that is in the parent's.  Nothing at a segment's start.  A
 * sparse file, hence not by fs_write_new_file().
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

	/* the first page's header, which says whose file it is, then the page that is written on */
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

/* A layer file with nothing but the state. */
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

/* What takes another's place keeps its settings; a new branch has its parent's, except for the command line of its compute. */
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

/* Makes what store_add_timeline() syncs and puts in place, and has it do that. */
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
	/* what takes the place of a protected branch is protected, too */
	if (seed->replaced != NULL && trash_is_protected(seed->replaced->spec.dir))
		PS_GOTO(trash_set_protected(dir, true), done);
	seed->space = (LayerSpace) {.dir = layers_dir, .tenant = seed->tenant, .timeline = seed->timeline, .next_number = 1, .synced_later = true};
	PS_GOTO(write_state_layer(seed, state, &layer), done);
	PS_GOTO(copy_settings(seed, dir), done);
	stop_files_branch(seed->ancestor->open, seed->lsn, dir);
	seed->layers = &layer;
	seed->nlayers = 1;
	seed->synced_later = true;
	err = store_add_timeline(store, seed, result);
done:
	layer_unref(layer);
	if (!seed->in_doubt && access(dir, F_OK) == 0)
		(void) rmtree(dir, true);
	pfree(dir);
	pfree(wal_dir);
	pfree(layers_dir);
	return err;
}

/* seed: has an id, the name, and what is replaced. */
static PsError *
make_branch(Store *store, TimelineSeed *seed, Timeline *parent, XLogRecPtr lsn, const CancelCheck *cancel, Timeline **result)
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
	/* records end at such LSNs only; at others there are tombstones that nobody is to see (extend_fork()) */
	lsn = lsn == PG_UINT64_MAX ? info.flushed_lsn : TYPEALIGN_DOWN(MAXIMUM_ALIGNOF, Min(lsn, receiver_end_of_records(parent)));
	PS_TRY(timeline_wait_ingested(parent, lsn, store->config->wait_timeout, cancel));
	PS_TRY(timeline_pin_wal(parent, lsn));
	err = timeline_state_at(parent, lsn, &state);
	if (err == NULL)
	{
		/*
		 * It begins where the record ends that is the last one before: perhaps
		 * before gc_cutoff, but what is kept for the one LSN is for the other.
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
		if (err != NULL && !seed->in_doubt)
			pins_remove(parent->spec->pins, state.end, PIN_BRANCH);
	}
	timeline_unpin(parent, lsn);
	return err;
}

PsError *
store_branch(Store *store, const char *name, Timeline *parent, XLogRecPtr lsn, const CancelCheck *cancel, Timeline **result)
{
	TimelineSeed seed = {.timeline = ps_id_random()};

	PS_TRY(store_check_new_name(store, name));
	strlcpy(seed.name, name, sizeof(seed.name));
	return make_branch(store, &seed, parent, lsn, cancel, result);
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

PsError *
store_check_no_children(const Store *store, const Branch *branch, bool for_good)
{
	StringInfoData names;
	PsError *err = NULL;

	initStringInfo(&names);
	for (int i = 0; i < store->nbranches; i++)
		if (store->branches[i]->ancestor == branch && (for_good || !store->branches[i]->in_trash))
			appendStringInfo(&names, "%s\"%s\"%s", names.len > 0 ? ", " : "", branch_name(store->branches[i]),
							 store->branches[i]->in_trash ? " (deleted)" : "");
	for (const Reservation *r = store->reservations; r != NULL; r = r->next)
		if (r->ancestor == branch)
			appendStringInfo(&names, "%s\"%s\", which is being created", names.len > 0 ? ", " : "", r->name);

	/* what cannot be read anyway cannot be read without this one */
	for (int i = 0; i < store->nbranches && !branch->origin_unknown; i++)
	{
		char id[PS_ID_TEXT];

		if (store->branches[i]->tenant == branch->tenant && store->branches[i]->origin_unknown &&
			(for_good || !store->branches[i]->in_trash))
			appendStringInfo(&names, "%sperhaps %s, which cannot be read", names.len > 0 ? ", " : "",
							 ps_id_format(&store->branches[i]->spec.id, id));
	}
	if (names.len > 0)
		err = ps_error_hint(ps_error(PS_SQLSTATE_STATE, "other branches begin in branch \"%s\": %s", branch_name(branch), names.data),
							for_good ? "Purge these first, with \"branch delete --purge\"." : "Delete these first.");
	pfree(names.data);
	return err;
}

static char *
path_of_deleted(const Branch *branch)
{
	char id[PS_ID_TEXT];

	return psprintf("%s/tmp/deleted-%s", branch->tenant->store->config->store_dir, ps_id_format(&branch->spec.id, id));
}

/*
 * Moves the directory away, durably.  OUTCOME_UNKNOWN: nobody knows where it is
 * after a power failure, so the branch must not go on.  Caller has begun a
 * change, and holds no lock.
 */
PsError *
store_move_away(Branch *branch, Outcome *outcome)
{
	char *path = path_of_deleted(branch);
	PsError *err = NULL;

	*outcome = OUTCOME_NOT_DONE;
	if (rename(branch->spec.dir, path) != 0)
		err = ps_error(ps_errno_state(), "could not rename \"%s\" to \"%s\": %m", branch->spec.dir, path);
	else if ((err = fs_sync_parent(branch->spec.dir)) == NULL)
		*outcome = OUTCOME_DONE;
	else if (!fs_rename_back(path, branch->spec.dir))
	{
		*outcome = OUTCOME_UNKNOWN;
		err = ps_error_unknown(err, "Branch \"%s\" is deleted now, but may be there again after a restart.", branch_name(branch));
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
	err = store_save_names(store, cancel);
	if (err == NULL)
		err = store_named_settled(store, name, cancel, &branch);
	if (err == NULL)
		err = store_check_no_children(store, branch, true);
	if (err == NULL)
	{
		/* nothing begins in it meanwhile (check_place() in store/add.c) */
		store_begin_change(store, branch);
		pthread_mutex_unlock(&store->lock);
		err = store_move_away(branch, &outcome);
		pthread_mutex_lock(&store->lock);
		if (outcome != OUTCOME_NOT_DONE)
		{
			branch->files_stay = outcome == OUTCOME_UNKNOWN;
			store_forget(store, branch);
			if (branch->life == BRANCH_OPEN)
				timeline_stop(branch->open, CANCEL_BRANCH_DELETED);
			*result = branch;
		}
		store_end_change(store, branch);
	}
	pthread_mutex_unlock(&store->lock);
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
	store_free_branch(store, branch);
	if (origin_unknown && atomic_fetch_sub(&tenant->env.keep_all, 1) == 1)
		for (int i = 0; i < store->nbranches; i++)
			if (store->branches[i]->tenant == tenant)
				upkeep_wake(store->upkeep, store->branches[i]);
	if (ancestor != NULL)
	{
		pins_remove(ancestor->spec.pins, start_lsn, PIN_BRANCH);
		upkeep_wake(store->upkeep, ancestor);
		store_unhold(store, ancestor);
	}
	pthread_mutex_unlock(&store->lock);
	if (!files_stay)
		(void) rmtree(path, true); /* says itself what it cannot remove; the next start does */
	pfree(path);
}

/* ---- a branch in the place of another ---- */

/*
 * The new branch comes into its place under the name that the other has still,
 * and its manifest says which that is: if the store ends before the other has
 * its new name, the next start gives it that (store_finish_replacement()).
 */
PsError *
store_replace_branch(Store *store, const char *name, Timeline *parent, XLogRecPtr lsn, bool childless, const CancelCheck *cancel,
					 char *old_name)
{
	TimelineSeed seed = {.timeline = ps_id_random()};
	PsError *err;

	pthread_mutex_lock(&store->lock);
	err = store_named_served(store, name, cancel, &seed.replaced);
	if (err == NULL && childless)
		err = store_check_no_children(store, seed.replaced, store->config->trash_interval == 0);
	if (err == NULL)
		err = store_name_for_old(store, name, old_name);
	if (err == NULL)
		seed.replaced->users++;
	pthread_mutex_unlock(&store->lock);
	if (err != NULL)
		return err;
	strlcpy(seed.name, name, sizeof(seed.name));
	strlcpy(seed.replaced_name, old_name, sizeof(seed.replaced_name));
	err = make_branch(store, &seed, parent, lsn, cancel, NULL);
	pthread_mutex_lock(&store->lock);
	store_unhold(store, seed.replaced);
	pthread_mutex_unlock(&store->lock);
	return err;
}
