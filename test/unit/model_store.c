/*
 * model_store.c
 *	  Starting the store, and settling what was being done when it crashed: see model.h.
 */
#include "ps_fe.h"

#include "fake_source.h"
#include "model.h"

/* ---- the store ---- */

static PsError *
has_crashed(void *arg)
{
	return fault_has_crashed() ? cancel_error(CANCEL_BY_CLIENT, NULL) : NULL;
}

const CancelCheck model_cancel = {has_crashed, NULL};

/*
 * Checks that the WAL of the store is that of the model.  After a crash the end
 * of it may be missing, or there may be a new checkpoint.
 */
void
settle_wal(World *w, ModelBranch *b)
{
	TimelineInfo info;
	int at;

	timeline_info(b->tl, &info);
	if (info.flushed_lsn < b->acked)
		wrong(b, info.flushed_lsn, "WAL ends here: what was acknowledged is lost");
	CHECK(info.generation == b->generation ||
		  (info.generation == b->generation + 1 && w->pending.kind == PENDING_GENERATION && w->pending.branch == b));
	b->generation = info.generation;
	at = model_find_record(b, info.flushed_lsn);
	/* a checkpoint may end where one of our records would */
	if (b->records[at].end != info.flushed_lsn || b->records[at].start != b->tl->flushed_prev)
	{
		WalState state;

		/* only a generation's checkpoint can be there that we have not sent; what was not acknowledged it cut off */
		OK(timeline_wait_ingested(b->tl, info.flushed_lsn, 60000, NULL));
		OK(timeline_state_at(b->tl, info.flushed_lsn, &state));
		if (w->pending.kind != PENDING_GENERATION || w->pending.branch != b || !state.shutdown ||
			state.end != info.flushed_lsn)
			wrong(b, info.flushed_lsn,
				  "WAL ends here, where no record ends that was sent; the one before ends at %X/%X, all at %X/%X",
				  LSN_FORMAT_ARGS(b->records[at].end), LSN_FORMAT_ARGS(b->gen.pos));
		for (at = b->nrecords - 1; b->records[at].end > state.prev; at--)
			;
		CHECK(b->records[at].end >= b->acked);
		model_cut(b, b->records[at].end);
		add_place(b, state.prev, state.end, (TransactionId) state.checkpoint.nextXid.value);
		resetStringInfo(&b->gen.bytes);
		b->gen.start = b->gen.pos = state.end;
		b->gen.prev = state.prev;
	}
	b->acked = info.flushed_lsn;
	b->unsettled = false;
}

/* Called whenever there may be tenants that were not there before. */
void
attach_source(World *w)
{
	if (w->s.source != NULL)
		fake_source_attach(w->s.source, w->s.store);
}

/* The branch is in use, and open, until let_go(). */
PsError *
take(World *w, ModelBranch *b)
{
	if (b->tl == NULL)
		PS_TRY(store_find(w->s.store, &test_tenant, &b->id, &b->tl));
	if (b->unsettled)
		settle_wal(w, b);
	return NULL;
}

/* The tenant is detached, or deleted, only if that was being done; then it is attached, as it could be all the time. */
static void
settle_tenant(World *w)
{
	int n;
	TenantInfo *list = store_list_tenants(w->s.store, &n);
	char id[PS_ID_TEXT];

	for (int i = 0; i < n; i++)
		if (ps_id_equal(&list[i].id, &test_tenant) && !list[i].attached)
		{
			CHECK(w->pending.kind == PENDING_DETACH && list[i].branches == w->n);
			if (list[i].deleted)
				OK(store_undelete_tenant(w->s.store, ps_id_format(&test_tenant, id)));
			OK(store_attach_tenant(w->s.store, ps_id_format(&test_tenant, id), true));
			attach_source(w);
		}
	store_list_tenants_free(list, n);
}

/* A branch is in the trash only if it was being put there, or taken out; then it is taken out. */
static void
settle_trash(World *w)
{
	int n;
	DeletedInfo *list = store_list_deleted(w->s.store, &n);

	for (int i = 0; i < n; i++)
	{
		char id[PS_ID_TEXT];
		char name[TIMELINE_NAME_MAX + 1];

		CHECK(w->pending.kind == PENDING_TRASH && ps_id_equal(&list[i].info.timeline, &w->pending.branch->id));
		OK(store_undelete_branch(w->s.store, ps_id_format(&list[i].info.timeline, id), NULL, NULL, name));
		CHECK(strcmp(name, w->pending.branch->name) == 0);
	}
	store_list_deleted_free(list, n);
}

/* There whole, or not at all. */
static void
settle_imported(World *w)
{
	Timeline *tl = NULL;
	PsError *err = store_find_branch(w->s.store, IMPORTED, &tl);

	if (err != NULL && !ps_error_is(err, PS_SQLSTATE_NOT_FOUND))
		OK(err);
	if (w->pending.kind != PENDING_IMPORT)
		CHECK((err == NULL) == w->has_imported);
	if (w->imported != NULL)
		store_release(w->imported);
	w->has_imported = err == NULL;
	w->imported = err == NULL ? tl : NULL;
	ps_error_free(err);
}

/*
 * Checks that branches, names and ends of WAL in the store are as in the model,
 * except for the operation that was interrupted, which is determined here.
 */
void
settle(World *w)
{
	Pending *p = &w->pending;
	Branch **list;
	int n;

	settle_tenant(w);
	settle_trash(w);
	settle_imported(w);
	list = store_list(w->s.store, &n);
	for (int i = 0; i < w->n; i++)
		w->branches[i]->seen = false;
	for (int i = 0; i < n; i++)
	{
		TimelineInfo info;
		ModelBranch *b = NULL;

		store_timeline_info(list[i], &info);
		if (info.error[0] != '\0' && !info.open)
		{
			fprintf(stderr, "branch \"%s\" cannot be opened: %s\n", info.name, info.error);
			abort();
		}
		if (w->imported != NULL && list[i] == branch_of(w->imported))
			continue;
		for (int k = 0; k < w->n && b == NULL; k++)
			if (ps_id_equal(&w->branches[k]->id, &info.timeline))
				b = w->branches[k];
		if (b == NULL)
		{
			CHECK(p->kind == PENDING_CREATE || p->kind == PENDING_REPLACE);
			CHECK(strcmp(info.name, p->name) == 0 && info.start_lsn == p->lsn && info.generation == 0);
			b = model_add(w, info.name, &info.timeline, p->parent, info.start_lsn);
			if (p->kind == PENDING_REPLACE)
				strcpy(p->branch->name, p->old_name);
			p->kind = PENDING_NOTHING;
		}
		if (p->kind == PENDING_RENAME && b == p->branch && strcmp(info.name, p->name) == 0)
			strcpy(b->name, p->name);
		b->seen = true;
		CHECK(b->tl == NULL || branch_of(b->tl) == list[i]);
		if (strcmp(info.name, b->name) != 0)
			wrong(b, b->acked, "the branch is named \"%s\"", info.name);
		b->unsettled = true;
		if (p->branch == b || rnd32(w, 100) >= w->lazy_percent)
			OK(take(w, b));
	}
	for (int i = 0; i < w->n; i++)
	{
		ModelBranch *b = w->branches[i];

		if (!b->seen)
		{
			if (p->kind != PENDING_DELETE || p->branch != b)
				wrong(b, b->acked, "the branch is lost");
			model_remove(w, b);
			i--;
		}
	}
	for (int i = 0; i < n; i++)
		for (int k = 0; k < w->n; k++)
		{
			ModelBranch *b = w->branches[k];
			TimelineInfo info;

			store_timeline_info(list[i], &info);
			if (ps_id_equal(&b->id, &info.timeline))
				CHECK(info.start_lsn == b->start && strcmp(info.parent, b->parent ? b->parent->name : "") == 0);
		}
	p->kind = PENDING_NOTHING;
	store_list_free(list, n);
}

void
let_go(ModelBranch *b)
{
	if (b->receiver != NULL)
		wal_receiver_close(b->receiver);
	b->receiver = NULL;
	if (b->tl != NULL)
		store_release(b->tl);
	b->tl = NULL;
	b->unsettled = true;
}

void
world_close(World *w)
{
	for (int i = 0; i < w->n; i++)
		let_go(w->branches[i]);
	if (w->imported != NULL)
		store_release(w->imported);
	w->imported = NULL;
	store_close(w->s.store);
	w->s.store = NULL;
}

/*
 * The machine goes down and up again; at times it crashes while the store is
 * opened, as often as it takes.  "change" may change the settings meanwhile.
 */
void
world_restart(World *w, FaultLoss loss, uint32 crash_percent, void (*change)(World *w))
{
	if (w->s.store != NULL)
		world_close(w);
	/* by the settings that it had */
	for (int i = 0; i < w->n; i++)
		model_move_window(w, w->branches[i]);
	if (change != NULL)
		change(w);
	for (;;)
	{
		PsError *err;

		fault_restart(loss);
		if (rnd32(w, 100) < crash_percent)
			fault_arm_crash(1 + rnd32(w, 50));
		err = store_open(&w->s.config, &w->s.store);
		fault_disarm();
		if (!fault_has_crashed())
		{
			OK(err);
			break;
		}
		w->crashes++;
		ps_error_free(err);
		if (err == NULL)
			store_close(w->s.store);
	}
	attach_source(w);
	settle(w);
}

/* After a crash: WAL that did not arrive will not be sent again, because the compute crashed, too. */
void
forget_unsent(World *w)
{
	for (int i = 0; i < w->n; i++)
		if (!w->branches[i]->unsettled)
			model_cut(w->branches[i], w->branches[i]->acked);
}
