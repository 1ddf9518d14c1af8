/*
 * branch_load.c
 *	  Creates a branch of the catalog from its manifest, without opening it.
 */
#include "ps_fe.h"

#include "ingest/ingest.h"
#include "sqlstate.h"
#include "store/store_impl.h"
#include "upload/wal_upload.h"

static Branch *
branch_alloc(Tenant *tenant, const PsId *id)
{
	static atomic_ullong next_cache_id;
	Branch *branch = pg_malloc0(sizeof(Branch));
	TimelineSpec *spec = &branch->spec;
	char text[PS_ID_TEXT];

	branch->tenant = tenant;
	spec->tenant = tenant->id;
	spec->id = *id;
	spec->cache_id = atomic_fetch_add(&next_cache_id, 1);
	spec->dir = psprintf("%s/timelines/%s", tenant->dir, ps_id_format(id, text));
	spec->space.dir = psprintf("%s/layers", spec->dir);
	spec->space.tenant = tenant->id;
	spec->space.timeline = *id;
	atomic_init(&spec->space.next_number, 1);
	pthread_mutex_init(&branch->settings_lock, NULL);
	branch->known.tenant = tenant->id;
	branch->known.timeline = *id;
	return branch;
}

void
branch_free(Branch *branch)
{
	TimelineSpec *spec = &branch->spec;

	Assert(branch->open == NULL && (branch->life == BRANCH_CLOSED || branch->life == BRANCH_BROKEN));
	ps_error_free(branch->error);
	wal_upload_close(branch->upload);
	pthread_mutex_destroy(&branch->settings_lock);
	pins_free(spec->pins);
	free(spec->damaged);
	free(spec->name.now);
	for (int i = 0; i < spec->name.nbefore; i++)
		free(spec->name.before[i]);
	free(spec->name.before);
	pfree(spec->dir);
	pfree(spec->space.dir);
	free(branch);
}

void
branch_set_broken(Branch *branch, PsError *err)
{
	ps_log(PS_WARNING, "could not open \"%s\", branch \"%s\", which is not served: %s", branch->spec.dir,
		   branch_name(branch), err->message);
	ps_error_free(branch->error);
	branch->error = err;
	branch->life = BRANCH_BROKEN;
}

/* Checks that a manifest is that of the branch; otherwise frees it. */
static PsError *
check_manifest(const Branch *branch, Manifest *m)
{
	const Tenant *tenant = branch->tenant;
	const TimelineSpec *spec = &branch->spec;

	if (ps_id_equal(&m->timeline, &spec->id) && ps_id_equal(&m->tenant, &tenant->id) &&
		(tenant->segment_size == 0 ||
		 (m->system_identifier == tenant->system_identifier && m->segment_size == tenant->segment_size)))
		return NULL;
	manifest_free(m);
	return ps_error(PS_SQLSTATE_CORRUPTED, "manifest in \"%s\" belongs to another timeline", spec->dir);
}

PsError *
branch_read_manifest(const Branch *branch, Manifest *m, ManifestLog *log)
{
	PS_TRY(manifest_read(branch->spec.dir, m, log));
	return check_manifest(branch, m);
}

/*
 * Sets what upkeep remembers.  Numbers that the manifest does not have may be given again, so
 * the mark is not beyond those that it has.  A time of another clock, or one that this clock has
 * lost, means nothing: then the last search for garbage was now.
 */
static void
set_marks(Branch *branch, const Manifest *m)
{
	StoreClock *clock = branch->tenant->store->clock;
	UpkeepMarks *marks = &branch->spec.maintained.marks;
	int64 now = store_clock_now(clock);

	*marks = m->marks;
	marks->gc_number = Min(marks->gc_number, m->max_number + 1);
	if (marks->gc_time != 0 && (!ps_id_equal(&marks->gc_clock, store_clock_id(clock)) || marks->gc_time > now))
	{
		marks->gc_time = now;
		marks->gc_clock = *store_clock_id(clock);
	}
	pins_load_imaged(branch->spec.pins, m->imaged, m->nimaged);
}

/* Sets what is fixed, and what is shown of a branch that is not open. */
static void
set_from_manifest(Branch *branch, const Manifest *m)
{
	TimelineSpec *spec = &branch->spec;
	TimelineInfo *known = &branch->known;

	spec->has_replaced = m->has_replaced;
	spec->replaced = m->replaced;
	spec->system_identifier = known->system_identifier = m->system_identifier;
	spec->segment_size = known->segment_size = m->segment_size;
	spec->data_checksum_version = known->data_checksum_version = m->data_checksum_version;
	spec->start_lsn = known->start_lsn = m->start_lsn;
	known->generation = m->generation;
	strlcpy(known->owner, m->owner, sizeof(known->owner));
	known->disk_consistent_lsn = known->ingested_lsn = m->disk_consistent_lsn;
	known->flushed_lsn = known->received_lsn = Max(receiver_read_marker(spec->dir), m->disk_consistent_lsn);
	known->gc_cutoff = Max(m->gc_cutoff, m->start_lsn);
	set_marks(branch, m);
}

PsError *
branch_load(Tenant *tenant, const PsId *id, const PsError *problem, Branch **result, bool *has_ancestor, PsId *ancestor)
{
	Branch *branch = branch_alloc(tenant, id);
	Manifest m = {0};
	PsError *err = branch_read_manifest(branch, &m, NULL);
	PsError *old_err = NULL;
	PsError *mark_err;

	*has_ancestor = false;
	if (err != NULL && !ps_error_is_transient(err))
	{
		old_err = manifest_read_damaged(branch->spec.dir, &m);
		if (old_err == NULL)
			old_err = check_manifest(branch, &m);
	}
	if ((err != NULL && ps_error_is_transient(err)) || (old_err != NULL && ps_error_is_transient(old_err)))
	{
		branch_free(branch);
		ps_error_free(err != NULL && old_err != NULL ? err : NULL);
		return old_err != NULL ? old_err : err;
	}
	mark_err = trash_mark_read(branch->spec.dir, tenant->store->clock, &branch->trash_mark, &branch->in_trash);
	if (mark_err != NULL && ps_error_is_transient(mark_err))
	{
		manifest_free(&m);
		branch_free(branch);
		ps_error_free(err);
		ps_error_free(old_err);
		return mark_err;
	}
	*result = branch;
	branch->spec.name.now = pg_strdup(m.name);
	strlcpy(branch->manifest_name, m.name, sizeof(branch->manifest_name));
	branch->origin_unknown = old_err != NULL;
	ps_error_free(old_err);
	branch->is_protected = protect_mark_is_set(branch->spec.dir);
	branch->spec.pins = pins_create(m.start_lsn, m.gc_cutoff);
	err = ps_error_first(err, mark_err);
	if (problem != NULL)
	{
		ps_error_free(err);
		err = ps_error_copy(problem);
	}
	if (err != NULL)
		branch_set_broken(branch, err);
	if (branch->origin_unknown)
		return NULL;
	*has_ancestor = m.has_ancestor;
	*ancestor = m.ancestor;
	set_from_manifest(branch, &m);

	/* with only its first file, there is nothing for upkeep to do */
	upkeep_plan(branch, m.nlayers <= 1 && m.ncopies == 0);
	manifest_free(&m);
	return NULL;
}
