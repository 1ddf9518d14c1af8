/*
 * model_ops.c
 *	  Operations on store and model: see model.h.
 */
#include "ps_fe.h"

#include "fake_source.h"
#include "model.h"

/* ---- operations ---- */

ModelBranch *
random_branch(World *w)
{
	return w->branches[rnd32(w, w->n)];
}

PsError *
new_generation(World *w, ModelBranch *b)
{
	uint64 generation;
	WalState state;
	XLogRecPtr checkpoint;
	PsError *err;

	PS_TRY(take(w, b));
	w->pending = (Pending) {.kind = PENDING_GENERATION, .branch = b};
	if (b->receiver != NULL)
		wal_receiver_close(b->receiver);
	b->receiver = NULL;
	err = timeline_new_generation(b->tl, "test", &model_cancel, &generation, &state, &checkpoint);
	if (err != NULL)
		return err;
	CHECK(generation == b->generation + 1);
	/* it is durable: a crash from now on changes nothing of it */
	settle_wal(w, b);
	CHECK(b->generation == generation && b->acked == state.end);
	model_cut(b, b->acked);
	w->pending.kind = PENDING_NOTHING;
	return NULL;
}

PsError *
connect_receiver(World *w, ModelBranch *b)
{
	XLogRecPtr start;

	if (b->receiver != NULL)
		return NULL;
	PS_TRY(take(w, b));
	if (b->generation == 0)
		PS_TRY(new_generation(w, b));
	PS_TRY(wal_receiver_open(b->tl, b->generation, &b->receiver, &start));
	if (start < b->acked)
		wrong(b, start, "WAL goes on here: what was acknowledged is lost");
	CHECK(b->records[model_find_record(b, start)].end == start);
	b->acked = start;
	return NULL;
}

static PsError *
sync_receiver(ModelBranch *b)
{
	XLogRecPtr flushed;

	PS_TRY(wal_receiver_sync(b->receiver, &flushed));
	CHECK(flushed >= b->acked && b->records[model_find_record(b, flushed)].end == flushed);
	b->acked = flushed;
	return NULL;
}

/* Sends what the branch has, in pieces; torn: up to somewhere.  The receiver is connected. */
static PsError *
send_wal(World *w, ModelBranch *b, bool torn)
{
	XLogRecPtr from;
	XLogRecPtr to = b->gen.pos;

	from = wal_decoder_feed_position(b->receiver->decoder);
	CHECK(from >= b->gen.start && b->gen.pos - b->gen.start == (uint64) b->gen.bytes.len);
	if (torn && to > from)
		to = from + rnd32(w, (uint32) (to - from));
	while (from < to)
	{
		size_t len = 1 + rnd32(w, rnd32(w, 4) == 0 ? 1000000 : 10000);

		len = Min(len, to - from);
		PS_TRY(wal_receiver_write(b->receiver, from, b->gen.bytes.data + (from - b->gen.start), len, &model_cancel));
		from += len;
		if (rnd32(w, 6) == 0)
			PS_TRY(sync_receiver(b));
	}
	if (!torn)
	{
		PS_TRY(sync_receiver(b));
		CHECK(b->acked == b->gen.pos);
		resetStringInfo(&b->gen.bytes);
		b->gen.start = b->gen.pos;
	}
	return NULL;
}

PsError *
write_records(World *w, ModelBranch *b, int n, bool torn)
{
	PS_TRY(connect_receiver(w, b));
	while (n-- > 0)
		put_random_record(w, b);
	return send_wal(w, b, torn);
}

/* Where a branch that is asked for at an LSN begins. */
static void
find_origin(ModelBranch **parent, XLogRecPtr *lsn)
{
	while ((*parent)->parent != NULL && *lsn < (*parent)->start)
		*parent = (*parent)->parent;
	*lsn = (*parent)->records[model_find_record(*parent, Min(*lsn, (*parent)->acked))].end;
}

static void
new_branch(World *w, const char *name, Timeline *tl)
{
	TimelineInfo info;

	timeline_info(tl, &info);
	CHECK(strcmp(info.name, name) == 0 && info.start_lsn == w->pending.lsn);
	CHECK(strcmp(info.parent, w->pending.parent->name) == 0);
	model_add(w, name, &info.timeline, w->pending.parent, info.start_lsn)->tl = tl;
	w->pending.kind = PENDING_NOTHING;
}

/* PG_UINT64_MAX: at the newest record. */
PsError *
create_branch(World *w, ModelBranch *parent, XLogRecPtr lsn)
{
	Pending *p = &w->pending;
	Timeline *tl;

	PS_TRY(take(w, parent));
	*p = (Pending) {.kind = PENDING_CREATE, .parent = parent, .lsn = lsn};
	snprintf(p->name, sizeof(p->name), "b%llu", (unsigned long long) ++w->next_name);
	find_origin(&p->parent, &p->lsn);
	PS_TRY(store_branch(w->s.store, p->name, parent->tl, lsn, &model_cancel, &tl));
	new_branch(w, p->name, tl);
	return NULL;
}

PsError *
delete_branch(World *w, ModelBranch *b)
{
	Branch *removed;
	PsError *err;

	w->pending = (Pending) {.kind = PENDING_DELETE, .branch = b};
	if (has_children(w, b))
	{
		FAILS(store_remove_branch(w->s.store, b->name, NULL, &removed), PS_SQLSTATE_STATE, "other branches begin in");
		return NULL;
	}
	let_go(b);
	err = store_remove_branch(w->s.store, b->name, NULL, &removed);
	if (removed != NULL)
		store_destroy_branch(removed);
	if (err != NULL)
		return err;
	model_remove(w, b);
	w->pending.kind = PENDING_NOTHING;
	return NULL;
}

/*
 * Moves a branch to the trash and back.  upkeep: upkeep works on its parent
 * meanwhile, and must not remove what the branch needs.
 */
PsError *
trash_branch(World *w, ModelBranch *b, bool upkeep)
{
	char name[TIMELINE_NAME_MAX + 1];
	Branch *removed;
	Timeline *tl;
	PsError *err;

	w->pending = (Pending) {.kind = PENDING_TRASH, .branch = b};
	if (has_children(w, b))
	{
		FAILS(store_trash_branch(w->s.store, b->name, "test", NULL, &removed), PS_SQLSTATE_STATE,
			  "other branches begin in");
		return NULL;
	}
	let_go(b);
	err = store_trash_branch(w->s.store, b->name, "test", NULL, &removed);
	if (removed != NULL)
		store_finish_trash(removed);
	PS_TRY(err);
	FAILS(store_find_branch(w->s.store, b->name, &tl), PS_SQLSTATE_NOT_FOUND, "it was deleted");
	FAILS(store_find(w->s.store, &test_tenant, &b->id, &tl), PS_SQLSTATE_NOT_FOUND, "it was deleted");
	if (upkeep && b->parent != NULL)
	{
		PS_TRY(take(w, b->parent));
		model_move_window(w, b->parent);
		PS_TRY(maintain_timeline(b->parent->tl, true));
	}
	PS_TRY(store_undelete_branch(w->s.store, b->name, NULL, NULL, name));
	w->pending.kind = PENDING_NOTHING;
	return NULL;
}

PsError *
rename_branch(World *w, ModelBranch *b)
{
	Pending *p = &w->pending;

	*p = (Pending) {.kind = PENDING_RENAME, .branch = b};
	snprintf(p->name, sizeof(p->name), "r%llu", (unsigned long long) ++w->next_name);
	PS_TRY(store_rename_branch(w->s.store, b->name, p->name, NULL));
	strcpy(b->name, p->name);
	p->kind = PENDING_NOTHING;
	return NULL;
}

/* reset: parent and PG_UINT64_MAX, childless; restore: itself and an LSN */
PsError *
replace_branch(World *w, ModelBranch *b, ModelBranch *parent, XLogRecPtr lsn, bool childless)
{
	Pending *p = &w->pending;
	char old_name[TIMELINE_NAME_MAX + 1];
	TimelineInfo info;
	ModelBranch *new;

	PS_TRY(take(w, parent));
	*p = (Pending) {.kind = PENDING_REPLACE, .branch = b, .parent = parent, .lsn = lsn};
	find_origin(&p->parent, &p->lsn);
	strcpy(p->name, b->name);
	for (int i = 1; i == 1 || model_named(w, p->old_name) != NULL; i++)
		snprintf(p->old_name, sizeof(p->old_name), "%s.%d", b->name, i);
	if (childless && has_children(w, b))
	{
		FAILS(store_replace_branch(w->s.store, p->name, parent->tl, lsn, true, &model_cancel, old_name),
			  PS_SQLSTATE_STATE, "other branches begin in");
		return NULL;
	}
	PS_TRY(store_replace_branch(w->s.store, p->name, parent->tl, lsn, childless, &model_cancel, old_name));
	CHECK(strcmp(old_name, p->old_name) == 0);
	strcpy(b->name, old_name);
	OK(store_branch_info(w->s.store, p->name, &info));
	CHECK(info.start_lsn == p->lsn);
	new = model_add(w, p->name, &info.timeline, p->parent, p->lsn);
	p->kind = PENDING_NOTHING;
	/* an error of this is none of that: settle() opens it then */
	return fault_is_armed() && fault.error != 0 ? NULL : store_find(w->s.store, &test_tenant, &new->id, &new->tl);
}

PsError *
keep_branch(World *w, ModelBranch *b, bool all)
{
	PS_TRY(take(w, b));
	return maintain_timeline(b->tl, all);
}

/* Nobody uses the branch any more; it is closed, now or when the idle thread finds it, if all of it is in files. */
void
leave_branch(World *w, ModelBranch *b)
{
	Branch *branch;
	Store *store = w->s.store;

	if (b->tl == NULL)
		return;
	branch = branch_of(b->tl);
	let_go(b);
	pthread_mutex_lock(&store->lock);
	branch->last_used = 0;
	if (branch->life == BRANCH_OPEN && branch->uses == 0 && timeline_is_settled(branch->open) &&
		(!store->has_idle_thread || rnd32(w, 2) == 0))
	{
		use_close(store, branch);
		w->closed++;
	}
	pthread_mutex_unlock(&store->lock);
}

PsError *
detach_tenant(World *w)
{
	ModelBranch *b = random_branch(w);
	char id[PS_ID_TEXT];
	const char *name = rnd32(w, 2) == 0 ? b->name : ps_id_format(&test_tenant, id);
	Tenant *tenant;
	Branch **timelines;
	int n;

	w->pending = (Pending) {.kind = PENDING_DETACH};
	for (int i = 0; i < w->n; i++)
		let_go(w->branches[i]);
	PS_TRY(store_begin_detach(w->s.store, name, &model_cancel, &tenant, &timelines, &n));
	CHECK(n == w->n);
	store_end_detach(w->s.store, tenant, timelines, n);
	FAILS(store_find(w->s.store, &test_tenant, &b->id, &b->tl), PS_SQLSTATE_TRY_AGAIN, "is detached");
	w->detached++;
	return NULL;
}

PsError *
attach_tenant(World *w)
{
	char id[PS_ID_TEXT];

	PS_TRY(store_attach_tenant(w->s.store,
							   rnd32(w, 2) == 0 ? random_branch(w)->name : ps_id_format(&test_tenant, id), true));
	attach_source(w);
	w->pending.kind = PENDING_NOTHING;
	return NULL;
}

/* Puts some files of a branch into the source, and evicts those that nobody uses; the source may damage an answer. */
void
evict_files(World *w, ModelBranch *b)
{
	LayerSet *set;

	if (w->s.source == NULL || b->tl == NULL)
		return;
	set = timeline_files(b->tl);
	for (int i = 0; i < layer_map_count(set->map); i++)
	{
		Layer *layer = layer_map_get(set->map, i);

		if (rnd32(w, 2) == 0)
			continue;
		fake_source_put(w->s.source, layer);
		w->evicted += layer_evict(layer);
	}
	layer_set_unref(set);
	fake_source_flip(w->s.source, rnd32(w, 3) == 0);
}

/*
 * Looks up the time of a random commit, or a time just before it: the LSN must be
 * that of the model, unless it may have been removed.
 */
PsError *
check_moment(World *w, ModelBranch *b)
{
	ModelBranch *at = b;
	Timeline *tl;
	XLogRecPtr lsn;
	XLogRecPtr expected;
	TimestampTz when;
	PsError *err;

	while (at->parent != NULL && (at->nxacts == 0 || rnd32(w, 4) == 0))
		at = at->parent;
	if (at->nxacts == 0)
		return NULL;
	when = at->xacts[rnd32(w, at->nxacts)].time - rnd32(w, 2);
	PS_TRY(take(w, b));
	PS_TRY(wait_ingested(b));
	err = timeline_lsn_at_time(b->tl, when, NULL, &tl, &lsn);

	/* the first later commit that the branch has, of its ancestors up to where the next begins */
	at = b;
	expected = b->acked;
	for (ModelBranch *x = b, *next = NULL; x != NULL; next = x, x = x->parent)
	{
		XLogRecPtr moment = model_moment(x, when, next ? next->start : b->acked);

		if (moment != InvalidXLogRecPtr)
		{
			expected = moment;
			at = x;
		}
	}
	if (err == NULL && lsn != expected)
		wrong(b, expected, "the LSN at the time %lld is %X/%X of \"%s\"", (long long) when, LSN_FORMAT_ARGS(lsn),
			  timeline_name(tl));
	if (err != NULL && strstr(err->message, "can be read from") != NULL)
	{
		model_move_window(w, at);
		if (expected >= at->may_be_gone)
			wrong(b, expected, "the LSN at a time is refused with: %s", err->message);
		ps_error_free(err);
		w->refused++;
		return NULL;
	}
	return err;
}

void
note_files(World *w)
{
	for (int i = 0; i < w->n; i++)
	{
		LayerSet *set;
		int n;

		if (w->branches[i]->tl == NULL)
			continue;
		set = timeline_layers(w->branches[i]->tl);
		n = layer_map_count(set->map);

		w->files = Max(w->files, n);
		for (int k = 0; k < n; k++)
			w->level = Max(w->level, layer_info(layer_map_get(set->map, k))->level);
		layer_set_unref(set);
	}
}
