/*
 * wal_history.c
 *	  Generated WAL, and a naive model of its effects: see timeline_util.h.
 */
#include "ps_fe.h"

#include "timeline_util.h"

int test_image_size = 128;

uint32
next_random(uint64 *state, uint32 n)
{
	uint64 z = *state += UINT64CONST(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return (uint32) ((z ^ (z >> 31)) >> 32) % n;
}

/* ---- contents ---- */

void
make_page(uint32 seed, XLogRecPtr lsn, char *page)
{
	uint64 state = seed;

	memset(page, 0, BLCKSZ);
	if (seed == 0)
		return;
	for (int i = 0; i < test_image_size; i++)
		page[i] = (char) next_random(&state, 256);
	((PageHeader) page)->pd_upper = 4000;
	PageSetLSN(page, lsn);
}

void
make_relmap(uint32 seed, char map[512])
{
	uint64 state = seed;

	for (int i = 0; i < 512; i++)
		map[i] = (char) next_random(&state, 256);
}

PsRel
model_rel(int db, int rel)
{
	return (PsRel) {SPC, FIRST_DB + db, FIRST_REL + rel};
}

/* ---- WAL ---- */

Model *
history_now(History *h)
{
	return &h->states[h->gen.n - 1 - h->first];
}

/* Returns the state after the next record, which is initialized with the last one. */
Model *
history_next(History *h)
{
	int n = h->gen.n - h->first;

	if (n + 1 >= h->cap)
	{
		h->cap = Max(64, h->cap * 2);
		h->states = pg_realloc(h->states, h->cap * sizeof(Model));
	}
	h->states[n] = h->states[n - 1];
	return &h->states[n];
}

void
gen_main_record(Gen *gen, RmgrId rmid, uint8 info, TransactionId xid, const void *data, uint32 len)
{
	uint32 body_len;
	char *body = gen_main_data(data, len, &body_len);

	gen_record(gen, rmid, info, xid, body, body_len);
	free(body);
}

/* XLOG_FPI of some blocks of one fork; the pages are of first_seed and those that follow. */
void
gen_images(Gen *gen, int db, int rel, int fork, const uint32 *blks, int n, uint32 first_seed)
{
	StringInfoData body;
	char page[BLCKSZ];

	initStringInfo(&body);
	for (int i = 0; i < n; i++)
	{
		XLogRecordBlockHeader bh = {.id = i, .fork_flags = fork | BKPBLOCK_HAS_IMAGE | (i > 0 ? BKPBLOCK_SAME_REL : 0)};
		XLogRecordBlockImageHeader ih = {
			.length = test_image_size,
			.hole_offset = test_image_size,
			.bimg_info = BKPIMAGE_HAS_HOLE | BKPIMAGE_APPLY};
		RelFileNode node = {SPC, FIRST_DB + db, FIRST_REL + rel};

		appendBinaryStringInfo(&body, (char *) &bh, SizeOfXLogRecordBlockHeader);
		appendBinaryStringInfo(&body, (char *) &ih, SizeOfXLogRecordBlockImageHeader);
		if (i == 0)
			appendBinaryStringInfo(&body, (char *) &node, sizeof(node));
		appendBinaryStringInfo(&body, (char *) &blks[i], sizeof(BlockNumber));
	}
	for (int i = 0; i < n; i++)
	{
		make_page(first_seed + i, 0, page);
		appendBinaryStringInfo(&body, page, test_image_size);
	}
	gen_record(gen, RM_XLOG_ID, XLOG_FPI, 0, body.data, body.len);
	pfree(body.data);
}

void
gen_create(Gen *gen, int db, int rel)
{
	xl_smgr_create create = {{SPC, FIRST_DB + db, FIRST_REL + rel}, MAIN_FORKNUM};

	gen_main_record(gen, RM_SMGR_ID, XLOG_SMGR_CREATE, 0, &create, sizeof(create));
}

void
gen_truncate(Gen *gen, int db, int rel, uint32 nblocks)
{
	xl_smgr_truncate trunc = {nblocks, {SPC, FIRST_DB + db, FIRST_REL + rel}, SMGR_TRUNCATE_HEAP};

	gen_main_record(gen, RM_SMGR_ID, XLOG_SMGR_TRUNCATE, 0, &trunc, sizeof(trunc));
}

/* A commit or an abort; drops a relation if rel >= 0. */
void
gen_commit(Gen *gen, TransactionId xid, TimestampTz when, bool abort, int db, int rel)
{
	char data[128];
	xl_xact_commit commit = {.xact_time = when};
	xl_xact_xinfo xinfo = {.xinfo = XACT_XINFO_HAS_RELFILENODES};
	int nrels = 1;
	RelFileNode node = {SPC, FIRST_DB + db, FIRST_REL + rel};
	char *p = data;

	memcpy(p, &commit, sizeof(commit));
	p += sizeof(commit);
	if (rel >= 0)
	{
		memcpy(p, &xinfo, sizeof(xinfo));
		p += sizeof(xinfo);
		memcpy(p, &nrels, sizeof(nrels));
		p += sizeof(nrels);
		memcpy(p, &node, sizeof(node));
		p += sizeof(node);
	}
	gen_main_record(gen, RM_XACT_ID,
					(abort ? XLOG_XACT_ABORT : XLOG_XACT_COMMIT) | (rel >= 0 ? XLOG_XACT_HAS_INFO : 0), xid, data,
					p - data);
}

void
gen_relmap(Gen *gen, int db, uint32 seed)
{
	char data[MinSizeOfRelmapUpdate + 512];
	xl_relmap_update update = {FIRST_DB + db, SPC, 512};

	memcpy(data, &update, MinSizeOfRelmapUpdate);
	make_relmap(seed, data + MinSizeOfRelmapUpdate);
	gen_main_record(gen, RM_RELMAP_ID, XLOG_RELMAP_UPDATE, 0, data, sizeof(data));
}

void
gen_db_copy(Gen *gen, int from, int to)
{
	xl_dbase_create_file_copy_rec copy = {FIRST_DB + to, SPC, FIRST_DB + from, SPC};

	gen_main_record(gen, RM_DBASE_ID, XLOG_DBASE_CREATE_FILE_COPY, 0, &copy, sizeof(copy));
}

void
gen_db_drop(Gen *gen, int db)
{
	Oid data[3] = {FIRST_DB + db, 1, SPC};

	gen_main_record(gen, RM_DBASE_ID, XLOG_DBASE_DROP, 0, data, sizeof(data));
}

void
add_main_data(History *h, RmgrId rmid, uint8 info, TransactionId xid, const void *data, uint32 len)
{
	gen_main_record(&h->gen, rmid, info, xid, data, len);
}

void
add_images(History *h, int db, int rel, int fork, const uint32 *blks, int n)
{
	Model *m = history_next(h);
	ModelFork *f = &m->forks[db][rel][fork];

	gen_images(&h->gen, db, rel, fork, blks, n, h->next_seed);
	f->exists = true;
	for (int i = 0; i < n; i++)
	{
		f->pages[blks[i]].seed = h->next_seed++;
		f->pages[blks[i]].lsn = h->gen.pos;
		f->nblocks = Max(f->nblocks, blks[i] + 1);
	}
}

static void
add_create(History *h, int db, int rel)
{
	history_next(h)->forks[db][rel][0].exists = true;
	gen_create(&h->gen, db, rel);
}

void
add_truncate(History *h, int db, int rel, uint32 nblocks)
{
	ModelFork *f = &history_next(h)->forks[db][rel][0];

	gen_truncate(&h->gen, db, rel, nblocks);
	if (!f->exists || nblocks >= f->nblocks)
		return;
	memset(&f->pages[nblocks], 0, (NBLOCK - nblocks) * sizeof(f->pages[0]));
	f->nblocks = nblocks;
}

/* A commit; drops a relation if rel >= 0. */
void
add_commit(History *h, int db, int rel)
{
	Model *m = history_next(h);

	gen_commit(&h->gen, (TransactionId) m->next_xid++, 1000, false, db, rel);
	if (rel >= 0)
		memset(m->forks[db][rel], 0, sizeof(m->forks[db][rel]));
}

void
add_relmap(History *h, int db)
{
	history_next(h)->relmap[db] = h->next_seed;
	gen_relmap(&h->gen, db, h->next_seed++);
}

void
add_db_copy(History *h, int from, int to)
{
	Model *m = history_next(h);

	gen_db_copy(&h->gen, from, to);
	memcpy(m->forks[to], m->forks[from], sizeof(m->forks[to]));
	m->db[to] = m->db[from];
	m->relmap[to] = m->relmap[from];
}

static void
add_db_drop(History *h, int db)
{
	Model *m = history_next(h);

	gen_db_drop(&h->gen, db);
	memset(m->forks[db], 0, sizeof(m->forks[db]));
	m->db[db] = false;
	m->relmap[db] = 0;
}

void
add_switch(History *h)
{
	history_next(h);
	gen_record(&h->gen, RM_XLOG_ID, XLOG_SWITCH, 0, NULL, 0);
}

void
add_random_record(History *h)
{
	int db = next_random(&h->random, NDB);
	int rel = next_random(&h->random, NREL);
	uint32 what = next_random(&h->random, 1000);

	if (what < 800)
	{
		uint32 first = next_random(&h->random, NBLOCK);
		uint32 blks[3] = {first, (first + 3) % NBLOCK, (first + 5) % NBLOCK};

		add_images(h, db, rel, what % 5 == 0, blks, 1 + next_random(&h->random, 3));
	}
	else if (what < 840)
		add_create(h, db, rel);
	else if (what < 900)
		add_truncate(h, db, rel, next_random(&h->random, NBLOCK));
	else if (what < 960)
		add_commit(h, db, -1);
	else if (what < 980)
		add_commit(h, db, rel);
	else if (what < 993)
		add_relmap(h, db);
	else if (what < 996 && !h->no_copies)
		add_db_copy(h, db, (db + 1) % NDB);
	else if (what < 998)
		add_db_drop(h, 1 + db % 2);
	else
		add_switch(h);
}

/* The history of a new branch: one shutdown checkpoint. */
void
history_begin(History *h, uint64 random)
{
	CheckPoint cp = {0};

	memset(h, 0, sizeof(*h));
	h->random = random;
	h->next_seed = 1;
	h->cap = 64;
	h->states = pg_malloc0(h->cap * sizeof(Model));
	gen_init(&h->gen, (XLogRecPtr) 7 * SEGMENT_SIZE, SEGMENT_SIZE);
	cp.redo = wal_record_start_after(h->gen.pos, SEGMENT_SIZE);
	cp.ThisTimeLineID = cp.PrevTimeLineID = 1;
	cp.fullPageWrites = true;
	cp.nextXid = FullTransactionIdFromEpochAndXid(0, 1000);
	cp.nextOid = 20000;
	cp.nextMulti = 1;
	cp.oldestXid = 3;
	cp.oldestXidDB = 1;
	cp.oldestMulti = 1;
	cp.oldestMultiDB = 1;
	add_main_data(h, RM_XLOG_ID, XLOG_CHECKPOINT_SHUTDOWN, 0, &cp, sizeof(cp));
	h->states[0].next_xid = 1000;
	h->states[0].db[0] = true;
}

void
history_end(History *h)
{
	gen_free(&h->gen);
	free(h->states);
}

/* Returns the number of records, after those of the seed, that end at or before lsn. */
int
history_find(const History *h, XLogRecPtr lsn)
{
	int lo = h->first;
	int hi = h->gen.n;

	while (hi - lo > 1)
	{
		int mid = lo + (hi - lo) / 2;

		if (h->gen.records[mid].end <= lsn)
			lo = mid;
		else
			hi = mid;
	}
	return lo - h->first;
}
