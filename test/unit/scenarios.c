/*
 * scenarios.c
 *	  A small store and operations on it: see scenarios.h.
 */
#include "ps_fe.h"

#include "scenarios.h"
#include "wire.h"

uint64 seed;
Cluster *cluster;

/* ---- scenarios: operations on a store that build() created ---- */

ModelBranch *
named(World *w, const char *name)
{
	ModelBranch *b = model_named(w, name);

	/* it may have been done before */
	return b != NULL ? b : w->branches[0];
}

/*
 * Until all is in files that was acknowledged; an error if a flush fails.  Not
 * for ever: a copied database that is the last record is written with the next.
 */
PsError *
wait_flushed(World *w, ModelBranch *b)
{
	for (int i = 0; i < 20000; i++)
	{
		TimelineInfo info;

		timeline_info(b->tl, &info);
		if (fault_has_crashed())
			return ps_error(PS_SQLSTATE_TRY_AGAIN, "crashed");
		/* it is tried again; with the disk well, until it succeeds */
		if (info.error[0] != '\0' && (fault_is_armed() || b->tl->failed != NULL))
			return ps_error(PS_SQLSTATE_IO, "%s", info.error);
		if (info.disk_consistent_lsn == b->acked)
			return NULL;
		pg_usleep(200);
	}
	return NULL;
}

/* The next record begins a segment. */
static PsError *
switch_segment(World *w, ModelBranch *b)
{
	gen_record(&b->gen, RM_XLOG_ID, XLOG_SWITCH, 0, NULL, 0);
	record_done(w, b, 0);
	return write_records(w, b, 5, false);
}

static PsError *
do_write(World *w)
{
	ModelBranch *b = named(w, "main");

	PS_TRY(write_records(w, b, 5, false));
	PS_TRY(switch_segment(w, b));
	return wait_ingested(b);
}

static PsError *
do_flush(World *w)
{
	ModelBranch *b = named(w, "main");

	PS_TRY(write_records(w, b, 20, false));
	/* going on, nothing is flushed */
	return w->s.config.checkpoint_distance > 0 ? wait_ingested(b) : wait_flushed(w, b);
}

/* Merges, images, garbage: files and parts of files, WAL. */
static PsError *
do_upkeep(World *w)
{
	PS_TRY(keep_branch(w, named(w, "main"), true));
	return keep_branch(w, named(w, "child"), true);
}

/* The next change of the manifest replaces its log, as when that has become long. */
static void
write_log_whole(ModelBranch *b)
{
	pthread_mutex_lock(&b->tl->manifest_lock);
	b->tl->log.write_whole = true;
	pthread_mutex_unlock(&b->tl->manifest_lock);
}

static PsError *
do_whole_logs(World *w)
{
	ModelBranch *b = named(w, "main");

	write_log_whole(b);
	PS_TRY(write_records(w, b, 20, false));
	PS_TRY(wait_flushed(w, b));
	write_log_whole(b);
	return keep_branch(w, b, true);
}

PsError *
do_create(World *w)
{
	ModelBranch *b = named(w, "main");

	PS_TRY(create_branch(w, b, b->records[b->nrecords / 2].end - 8));
	return create_branch(w, named(w, "child"), PG_UINT64_MAX);
}

static PsError *
do_delete(World *w)
{
	return model_named(w, "leaf") != NULL ? delete_branch(w, named(w, "leaf")) : NULL;
}

static PsError *
do_trash(World *w)
{
	return trash_branch(w, named(w, "leaf"), false);
}

static PsError *
do_rename(World *w)
{
	return rename_branch(w, named(w, "child"));
}

static PsError *
do_reset(World *w)
{
	ModelBranch *leaf = named(w, "leaf");

	return replace_branch(w, leaf, leaf->parent, PG_UINT64_MAX, true);
}

static PsError *
do_restore(World *w)
{
	ModelBranch *child = named(w, "child");

	return replace_branch(w, child, child, child->records[child->nrecords / 2].end, false);
}

/* The name of what was replaced may not be in its manifest yet: it must not be lost. */
static PsError *
do_detach(World *w)
{
	PS_TRY(detach_tenant(w));
	return attach_tenant(w);
}

PsError *
do_reset_and_detach(World *w)
{
	PS_TRY(do_reset(w));
	return do_detach(w);
}

/* The first timeline of a tenant. */
static PsError *
do_import(World *w)
{
	if (w->has_imported)
		return NULL;
	w->pending = (Pending) {.kind = PENDING_IMPORT};
	PS_TRY(import_cluster(w->s.store, IMPORTED, cluster->pgdata, &model_cancel, NULL, &w->imported));
	w->has_imported = true;
	w->pending.kind = PENDING_NOTHING;
	return NULL;
}

static PsError *
do_generation(World *w)
{
	return new_generation(w, named(w, "main"));
}

static PsError *
do_db_copy(World *w)
{
	ModelBranch *b = named(w, "main");

	PS_TRY(connect_receiver(w, b));
	put_db_copy(w, b, 0, 1);
	PS_TRY(write_records(w, b, 3, false));
	return wait_ingested(b);
}

/* Its record is flushed, and its pages written. */
PsError *
do_db_copy_upkeep(World *w)
{
	ModelBranch *b = named(w, "main");

	PS_TRY(connect_receiver(w, b));
	put_db_copy(w, b, 0, 1);
	PS_TRY(write_records(w, b, 3, false));
	PS_TRY(wait_flushed(w, b));
	return keep_branch(w, b, true);
}

/* A start, after which there is something to remove, to cut, to take in. */
PsError *
do_restart(World *w)
{
	world_close(w);
	PS_TRY(store_open(&w->s.config, &w->s.store));
	for (int i = 0; i < w->n; i++)
		PS_TRY(store_find(w->s.store, &test_tenant, &w->branches[i]->id, &w->branches[i]->tl));
	return NULL;
}

const Scenario scenarios[NSCENARIOS] = {
	{"write", do_write, 1000},
	{"flush", do_flush, 0},
	{"upkeep", do_upkeep, 1000},
	{"logs written whole", do_whole_logs, 0},
	{"create", do_create, 1000},
	{"delete", do_delete, 1000},
	{"trash", do_trash, 1000},
	{"rename", do_rename, 1000},
	{"reset", do_reset, 1000},
	{"restore", do_restore, 1000},
	{"detach", do_detach, 1000},
	{"reset and detach", do_reset_and_detach, 1000},
	{"import", do_import, 1000},
	{"generation", do_generation, 1000},
	{"database copy", do_db_copy, 1000},
	{"database copy and upkeep", do_db_copy_upkeep, 0},
	{"restart", do_restart, 1000},
};

/* ---- the store ---- */

void
set_name(World *w, ModelBranch *b, const char *name)
{
	OK(store_rename_branch(w->s.store, b->name, name, NULL));
	strcpy(b->name, name);
}

static int distance;
static int horizon;

static void
set_config(World *w)
{
	w->s.config.checkpoint_distance = distance;
	w->s.config.gc_horizon = horizon;
}

/*
 * ModelBranch "main" with some files, "child" of it, "leaf" of that, each with some
 * WAL that is in no file yet, and half a record at the end of main's.
 */
void
build(World *w, const Scenario *scenario, uint64 random)
{
	static const char *const names[] = {"main", "child", "leaf"};

	world_begin(w, random, NULL);
	set_small_sizes(w);
	w->s.config.compaction_workers = 0;
	w->s.config.compaction_threshold = 2;
	w->s.config.page_cache_size = 1;
	w->s.config.pitr_interval = 0;
	w->s.config.idle_timeline_timeout = 0;
	distance = 0;
	horizon = 1;
	world_restart(w, LOSE_NOTHING, 0, set_config);
	for (int i = 0; i < lengthof(names); i++)
	{
		if (i > 0)
		{
			ModelBranch *parent = named(w, names[i - 1]);

			OK(create_branch(w, parent, parent->acked));
			set_name(w, w->branches[i], names[i]);
		}
		for (int k = 0; k < 4; k++)
		{
			OK(write_records(w, w->branches[i], 20, false));
			/* that there is WAL to be removed */
			if (k == 1)
				OK(switch_segment(w, w->branches[i]));
			OK(wait_flushed(w, w->branches[i]));
		}
	}
	distance = scenario->distance;
	horizon = 0;
	world_restart(w, LOSE_NOTHING, 0, set_config);
	for (int i = 0; i < lengthof(names); i++)
		OK(write_records(w, w->branches[i], 10, i == 0 && scenario->distance > 0));
	for (int i = 0; i < lengthof(names); i++)
		OK(scenario->distance == 0 ? wait_flushed(w, w->branches[i]) : wait_ingested(w->branches[i]));
}

static void
check_imported(World *w)
{
	PsRel rel = {1663, 5, 1259};
	BlockNumber blk = 0;
	BlockNumber nblocks;
	bool found;
	XLogRecPtr lsn;
	char page[BLCKSZ];
	char expected[BLCKSZ];

	OK(timeline_read_lsn(w->imported, PS_LSN_LATEST, InvalidXLogRecPtr, NULL, &lsn));
	CHECK(lsn == cluster->checkpoint_end);
	OK(timeline_read_relsize(w->imported, rel, MAIN_FORKNUM, lsn, &found, &nblocks));
	CHECK(found && nblocks == 1);
	OK(timeline_read_pages(w->imported, rel, MAIN_FORKNUM, &blk, 1, lsn, page));
	cluster_page(expected, 1, 0);
	CHECK(memcmp(page, expected, BLCKSZ) == 0);
}

void
check_all(World *w)
{
	for (int i = 0; i < w->n; i++)
		OK(check_branch(w, w->branches[i], 1, ALL_KEYS));
	if (w->imported != NULL)
		check_imported(w);
}

/* The store is closed after a crash, or comes up for other reasons. */
void
restart(World *w, FaultLoss loss)
{
	distance = 1000;
	world_restart(w, loss, 0, set_config);
	if (rnd32(w, 2) == 0)
		forget_unsent(w);
	check_no_strays(w);
	check_all(w);
}

/*
 * After a kill the store starts, and then the power fails, perhaps before all
 * branches are open: what the start removed must not be needed now.
 */
void
lose_power_at_start(World *w)
{
	PsError *err;

	if (w->s.store != NULL)
		world_close(w);
	fault_restart(LOSE_NOTHING);
	fault_arm_crash(1 + rnd32(w, rnd32(w, 3) == 0 ? 60 : 15));
	err = store_open(&w->s.config, &w->s.store);
	for (int i = 0; i < w->n && err == NULL; i++)
	{
		err = store_find(w->s.store, &test_tenant, &w->branches[i]->id, &w->branches[i]->tl);
		if (err != NULL)
			w->branches[i]->tl = NULL;
	}
	ps_error_free(err);
	restart(w, rnd32(w, 4) == 0 ? LOSE_ALL : LOSE_SOME);
}

/* Checks that the store works normally afterwards. */
void
go_on(World *w, const Scenario *scenario)
{
	OK(scenario->run(w));
	if (scenario->run == do_restart)
		settle(w);
	for (int i = 0; i < w->n; i++)
	{
		OK(write_records(w, w->branches[i], 5, false));
		OK(wait_ingested(w->branches[i]));
		OK(keep_branch(w, w->branches[i], true));
	}
	check_all(w);
	restart(w, LOSE_ALL);
}

bool
is_sync_of_wal(const char *name, const char *path)
{
	return strcmp(name, "fdatasync") == 0;
}
