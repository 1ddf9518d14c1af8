/*
 * model.c
 *	  The model itself, its branches, its beginning and end: see model.h.
 */
#include "ps_fe.h"

#include "fake_source.h"
#include "model.h"

/* ---- the model ---- */

uint32
rnd32(World *w, uint32 n)
{
	return next_random(&w->random, n);
}

int
key_block(int db, int rel, int fork, int blk)
{
	return KEY_BLOCK + ((db * MODEL_NREL + rel) * NFORK + fork) * MODEL_NBLOCK + blk;
}

int
key_size(int db, int rel, int fork)
{
	return KEY_SIZE + (db * MODEL_NREL + rel) * NFORK + fork;
}

/* What a key has at an LSN; a Version of nothing if it is not there. */
Version
model_get(const ModelBranch *b, int key, XLogRecPtr lsn)
{
	for (; b != NULL; lsn = Min(lsn, b->start), b = b->parent)
	{
		const Versions *v = &b->keys[key];
		int lo = 0;
		int hi = v->n;

		while (lo < hi)
		{
			int mid = (lo + hi) / 2;

			if (v->items[mid].lsn <= lsn)
				lo = mid + 1;
			else
				hi = mid;
		}
		if (lo > 0)
			return v->items[lo - 1];
	}
	return (Version) {0};
}

void
model_put(ModelBranch *b, int key, XLogRecPtr lsn, uint32 value, XLogRecPtr page_lsn)
{
	Versions *v = &b->keys[key];

	if (v->n > 0 && v->items[v->n - 1].lsn == lsn)
		v->n--;
	if (v->n == v->cap)
	{
		v->cap = v->cap ? v->cap * 2 : 4;
		v->items = pg_realloc(v->items, v->cap * sizeof(Version));
	}
	v->items[v->n++] = (Version) {lsn, page_lsn, value};
}

uint32
model_now(const ModelBranch *b, int key)
{
	return model_get(b, key, PG_UINT64_MAX).value;
}

/* The last record that ends at or before lsn: its index in the branch's own records, or -1. */
int
model_find_record(const ModelBranch *b, XLogRecPtr lsn)
{
	int lo = 0;
	int hi = b->nrecords;

	while (lo < hi)
	{
		int mid = (lo + hi) / 2;

		if (b->records[mid].end <= lsn)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo - 1;
}

void
add_place(ModelBranch *b, XLogRecPtr start, XLogRecPtr end, TransactionId next_xid)
{
	if ((b->nrecords & (b->nrecords - 1)) == 0)
		b->records = pg_realloc(b->records, Max(1, b->nrecords * 2) * sizeof(RecordPlace));
	b->records[b->nrecords++] = (RecordPlace) {start, end, next_xid};
}

/* Of the record that was just generated only its place stays. */
void
record_done(World *w, ModelBranch *b, TransactionId next_xid)
{
	const WalRecord *rec = &b->gen.records[--b->gen.n];

	add_place(b, rec->start, rec->end, Max(next_xid, b->records[b->nrecords - 1].next_xid));
	free((char *) rec->data);
	w->records++;
}

/* Removes everything after a record's end, which was never acknowledged and was lost. */
void
model_cut(ModelBranch *b, XLogRecPtr lsn)
{
	for (int k = 0; k < NKEYS; k++)
		while (b->keys[k].n > 0 && b->keys[k].items[b->keys[k].n - 1].lsn > lsn)
			b->keys[k].n--;
	while (b->nxacts > 0 && b->xacts[b->nxacts - 1].lsn > lsn)
		b->nxacts--;
	b->nrecords = model_find_record(b, lsn) + 1;
	CHECK(b->nrecords > 0 && b->records[b->nrecords - 1].end == lsn);
	b->gen.bytes.len = (int) (lsn - b->gen.start);
	b->gen.pos = lsn;
	b->gen.prev = b->records[b->nrecords - 1].start;
}

/* ---- branches of the model ---- */

ModelBranch *
model_add(World *w, const char *name, const PsId *id, ModelBranch *parent, XLogRecPtr start)
{
	ModelBranch *b = pg_malloc0(sizeof(ModelBranch));

	CHECK(w->n < MAX_BRANCHES);
	w->branches[w->n++] = b;
	strlcpy(b->name, name, sizeof(b->name));
	b->id = *id;
	b->parent = parent;
	b->start = b->acked = b->may_be_gone = start;
	gen_init(&b->gen, start, SEGMENT_SIZE);
	if (parent != NULL)
	{
		const RecordPlace *place = &parent->records[model_find_record(parent, start)];

		CHECK(place->end == start);
		add_place(b, place->start, start, place->next_xid);
		b->gen.prev = place->start;
		/* not the parent's clock, which may be ahead */
		b->now = parent->now;
		for (int i = parent->nxacts - 1; i >= 0; i--)
			if (parent->xacts[i].lsn <= start)
			{
				b->now = parent->xacts[i].time;
				break;
			}
	}
	return b;
}

void
model_remove(World *w, ModelBranch *b)
{
	for (int i = 0; i < w->n; i++)
		if (w->branches[i] == b)
		{
			w->branches[i] = w->branches[--w->n];
			break;
		}
	for (int k = 0; k < NKEYS; k++)
		free(b->keys[k].items);
	free(b->xacts);
	free(b->records);
	gen_free(&b->gen);
	free(b);
}

bool
has_children(const World *w, const ModelBranch *b)
{
	for (int i = 0; i < w->n; i++)
		if (w->branches[i]->parent == b)
			return true;
	return false;
}

ModelBranch *
model_named(const World *w, const char *name)
{
	for (int i = 0; i < w->n; i++)
		if (strcmp(w->branches[i]->name, name) == 0)
			return w->branches[i];
	return NULL;
}

/* ---- beginning and end ---- */

void
set_small_sizes(World *w)
{
	Config *config = &w->s.config;

	config->compaction_backlog = 1000;
	config->compaction_threshold = 2 + rnd32(w, 3);
	config->compaction_fanout = 2 + rnd32(w, 2);
	config->target_file_size = 1;
	config->compaction_memory = 1;
	config->image_delta_records = 1 + rnd32(w, 20);
	config->image_delta_percent = 10 + rnd32(w, 100);
	config->image_delta_layers = 2 + rnd32(w, 4);
	config->page_cache_size = rnd32(w, 2);
	config->checkpoint_distance = rnd32(w, 3) > 0 ? 0 : rnd32(w, 2) == 0 ? 1
																		 : 1000;
	config->compaction_workers = rnd32(w, 3) == 0 ? 0 : 1;
	config->gc_horizon = rnd32(w, 3) == 0 ? rnd32(w, 8) : rnd32(w, 2);
	config->pitr_interval = rnd32(w, 3) == 0 ? (int) rnd32(w, 30) * 86400 : 0;
	config->idle_timeline_timeout = (int) rnd32(w, 2);
}

void
world_begin(World *w, uint64 random, struct FakeSource *source)
{
	History h;
	ModelBranch *b;

	/* in memory: files come and go all the time, and a disk may take long over each */
	store_template = "/dev/shm/t_model.XXXXXX";
	memset(w, 0, sizeof(*w));
	test_image_size = 700;
	w->random = random;
	w->next_seed = 1;
	history_begin(&h, random);
	store_make(&w->s, &h);
	store_close(w->s.store);
	b = model_add(w, "main", &test_timeline, NULL, h.gen.pos);
	b->gen.prev = h.gen.prev;
	b->now = now_timestamp() - 365 * USECS_PER_DAY;
	add_place(b, h.gen.records[0].start, h.gen.pos, 1000);
	model_put(b, KEY_DB, h.gen.pos, 1, 0);
	history_end(&h);
	w->s.source = source;
	if (source != NULL)
	{
		char dir[MAXPGPATH];

		snprintf(dir, sizeof(dir), "%s.source", w->s.dir);
		fake_source_begin(source, dir);
	}
	fault_begin(w->s.dir, random);
	OK(store_open(&w->s.config, &w->s.store));
	attach_source(w);
	settle(w);
}

void
world_end(World *w)
{
	world_close(w);
	fault_end();
	remove_tree(w->s.dir);
	if (w->s.source != NULL)
		fake_source_end(w->s.source);
	while (w->n > 0)
		model_remove(w, w->branches[0]);
}
