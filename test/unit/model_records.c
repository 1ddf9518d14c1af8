/*
 * model_records.c
 *	  Random records, in WAL and model: see model.h.
 */
#include "ps_fe.h"

#include "model.h"

/* ---- random records ---- */

static void
drop_relation(ModelBranch *b, int db, int rel, XLogRecPtr lsn)
{
	for (int fork = 0; fork < NFORK; fork++)
	{
		for (int blk = 0; blk < MODEL_NBLOCK; blk++)
			if (model_now(b, key_block(db, rel, fork, blk)) != 0)
				model_put(b, key_block(db, rel, fork, blk), lsn, 0, 0);
		if (model_now(b, key_size(db, rel, fork)) != 0)
			model_put(b, key_size(db, rel, fork), lsn, 0, 0);
	}
}

static void
drop_database(ModelBranch *b, int db, XLogRecPtr lsn)
{
	for (int rel = 0; rel < MODEL_NREL; rel++)
		drop_relation(b, db, rel, lsn);
	model_put(b, KEY_DB + db, lsn, 0, 0);
	model_put(b, KEY_RELMAP + db, lsn, 0, 0);
}

static void
copy_key(ModelBranch *b, int from, int to)
{
	Version v = model_get(b, from, PG_UINT64_MAX);

	if (v.value != 0)
		model_put(b, to, b->gen.pos, v.value, v.page_lsn);
}

static void
put_images(World *w, ModelBranch *b)
{
	int db = rnd32(w, NDB);
	int rel = rnd32(w, MODEL_NREL);
	int fork = rnd32(w, 5) == 0;
	uint32 first = rnd32(w, rnd32(w, 3) == 0 ? 4 : MODEL_NBLOCK);
	uint32 blks[3] = {first, (first + 3) % MODEL_NBLOCK, (first + 5) % MODEL_NBLOCK};
	int n = 1 + rnd32(w, 3);
	int size = key_size(db, rel, fork);
	uint32 nblocks = model_now(b, size);

	gen_images(&b->gen, db, rel, fork, blks, n, w->next_seed);
	for (int i = 0; i < n; i++)
	{
		model_put(b, key_block(db, rel, fork, blks[i]), b->gen.pos, w->next_seed++, b->gen.pos);
		nblocks = Max(nblocks, blks[i] + 2);
	}
	if (nblocks != model_now(b, size))
		model_put(b, size, b->gen.pos, nblocks, 0);
	record_done(w, b, 0);
}

static void
put_commit(World *w, ModelBranch *b, bool drop)
{
	int db = rnd32(w, NDB);
	int rel = drop ? (int) rnd32(w, MODEL_NREL) : -1;
	XactEnd xact = {.xid = FirstNormalTransactionId + rnd32(w, NXID), .abort = !drop && rnd32(w, 4) == 0};

	b->now += (TimestampTz) rnd32(w, 600) * USECS_PER_SEC;
	xact.time = b->now;
	gen_commit(&b->gen, xact.xid, xact.time, xact.abort, db, rel);
	xact.lsn = b->gen.pos;
	if ((b->nxacts & (b->nxacts - 1)) == 0)
		b->xacts = pg_realloc(b->xacts, Max(1, b->nxacts * 2) * sizeof(XactEnd));
	b->xacts[b->nxacts++] = xact;
	if (rel >= 0)
		drop_relation(b, db, rel, b->gen.pos);
	record_done(w, b, xact.xid + 1);
}

static void
put_origin(World *w, ModelBranch *b)
{
	int id = rnd32(w, NORIGIN);

	if (rnd32(w, 3) == 0)
	{
		xl_replorigin_drop drop = {.node_id = (RepOriginId) (id + 1)};

		gen_main_record(&b->gen, RM_REPLORIGIN_ID, XLOG_REPLORIGIN_DROP, 0, &drop, sizeof(drop));
		model_put(b, KEY_ORIGIN + id, b->gen.pos, 0, 0);
	}
	else
	{
		xl_replorigin_set set = {.remote_lsn = w->next_seed, .node_id = (RepOriginId) (id + 1), .force = true};

		gen_main_record(&b->gen, RM_REPLORIGIN_ID, XLOG_REPLORIGIN_SET, 0, &set, sizeof(set));
		model_put(b, KEY_ORIGIN + id, b->gen.pos, w->next_seed++, 0);
	}
	record_done(w, b, 0);
}

void
put_db_copy(World *w, ModelBranch *b, int from, int to)
{
	gen_db_copy(&b->gen, from, to);
	drop_database(b, to, b->gen.pos);
	for (int i = 0; i < MODEL_NREL * NFORK * MODEL_NBLOCK; i++)
		copy_key(b, key_block(from, 0, 0, 0) + i, key_block(to, 0, 0, 0) + i);
	for (int i = 0; i < MODEL_NREL * NFORK; i++)
		copy_key(b, key_size(from, 0, 0) + i, key_size(to, 0, 0) + i);
	copy_key(b, KEY_DB + from, KEY_DB + to);
	copy_key(b, KEY_RELMAP + from, KEY_RELMAP + to);
	record_done(w, b, 0);
}

static void
put_truncate(World *w, ModelBranch *b)
{
	int db = rnd32(w, NDB);
	int rel = rnd32(w, MODEL_NREL);
	uint32 nblocks = rnd32(w, MODEL_NBLOCK);
	int size = key_size(db, rel, 0);

	gen_truncate(&b->gen, db, rel, nblocks);
	if (model_now(b, size) > nblocks + 1)
	{
		for (int blk = nblocks; blk < MODEL_NBLOCK; blk++)
			if (model_now(b, key_block(db, rel, 0, blk)) != 0)
				model_put(b, key_block(db, rel, 0, blk), b->gen.pos, 0, 0);
		model_put(b, size, b->gen.pos, nblocks + 1, 0);
	}
	record_done(w, b, 0);
}

void
put_random_record(World *w, ModelBranch *b)
{
	int db = rnd32(w, NDB);
	uint32 what = rnd32(w, 10000);

	if (what < 7500)
		put_images(w, b);
	else if (what < 8700)
		put_commit(w, b, false);
	else if (what < 8800)
		put_commit(w, b, true);
	else if (what < 9100)
	{
		int rel = rnd32(w, MODEL_NREL);

		gen_create(&b->gen, db, rel);
		if (model_now(b, key_size(db, rel, 0)) == 0)
			model_put(b, key_size(db, rel, 0), b->gen.pos, 1, 0);
		record_done(w, b, 0);
	}
	else if (what < 9500)
		put_truncate(w, b);
	else if (what < 9750)
		put_origin(w, b);
	else if (what < 9920)
	{
		gen_relmap(&b->gen, db, w->next_seed);
		model_put(b, KEY_RELMAP + db, b->gen.pos, w->next_seed++, 0);
		record_done(w, b, 0);
	}
	else if (what < 9980)
		put_db_copy(w, b, db, (db + 1) % NDB);
	else if (what < 9990)
	{
		gen_db_drop(&b->gen, 1 + db % 2);
		drop_database(b, 1 + db % 2, b->gen.pos);
		record_done(w, b, 0);
	}
	else
	{
		gen_record(&b->gen, RM_XLOG_ID, XLOG_SWITCH, 0, NULL, 0);
		record_done(w, b, 0);
	}
}
