/*
 * timeline_util.h
 *	  For tests: a store in a directory, a branch made of nothing, WAL for it
 *	  and a naive model of what the branch must hold after each record.
 *
 * The WAL has full-page images only of pages, so that no redo helper is
 * needed; besides, it creates, truncates and drops relations, copies and drops
 * databases, changes relation maps, commits, and switches segments.
 */
#ifndef TIMELINE_UTIL_H
#define TIMELINE_UTIL_H

#include "ps_fe.h"

#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>

#include "wal_gen.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/storage_xlog.h"
#include "commands/dbcommands_xlog.h"
#include "storage/bufpage.h"
#include "utils/relmapper.h"

#include "base/config.h"
#include "sqlstate.h"
#include "pg/relsize.h"
#include "ingest/ingest.h"
#include "maintain/maintain.h"
#include "pg/relsize.h"
#include "read/read.h"
#include "store/store.h"

/* Stops the whole program, also in a thread or a child process, where cmocka's do not work. */
#define CHECK(cond)                                                                  \
	do                                                                               \
	{                                                                                \
		if (!(cond))                                                                 \
		{                                                                            \
			fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                                 \
		}                                                                            \
	} while (0)

#define OK(expr)                                                                               \
	do                                                                                         \
	{                                                                                          \
		PsError *ok_error_ = (expr);                                                           \
		if (ok_error_ != NULL)                                                                 \
		{                                                                                      \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #expr, ok_error_->message); \
			abort();                                                                           \
		}                                                                                      \
	} while (0)

/* Fails unless the error has the state, and the text in its message. */
#define FAILS(expr, state, text)                                                                          \
	do                                                                                                    \
	{                                                                                                     \
		PsError *fails_error_ = (expr);                                                                   \
		CHECK(fails_error_ != NULL);                                                                      \
		if (!ps_error_is(fails_error_, state) || strstr(fails_error_->message, text) == NULL)             \
		{                                                                                                 \
			fprintf(stderr, "%s:%d: %s %s, expected %s %s\n", __FILE__, __LINE__, fails_error_->sqlstate, \
					fails_error_->message, state, text);                                                  \
			abort();                                                                                      \
		}                                                                                                 \
		ps_error_free(fails_error_);                                                                      \
	} while (0)

#define SEGMENT_SIZE (1024 * 1024)
#define NDB          3
#define NFORK        2
#ifndef NREL
#define NREL       4
#define NBLOCK     16
#define IMAGE_SIZE 128 /* of a page; the rest is a hole */
#endif
#define SPC       1663
#define FIRST_DB  5
#define FIRST_REL 1000

typedef struct ModelFork
{
	bool exists;
	uint32 nblocks;
	struct
	{
		uint32 seed; /* 0: zeros */
		XLogRecPtr lsn;
	} pages[NBLOCK];
} ModelFork;

/* What the branch holds. */
typedef struct Model
{
	ModelFork forks[NDB][NREL][NFORK];
	bool db[NDB];       /* has the key DATABASE */
	uint32 relmap[NDB]; /* seed, 0: none */
	uint64 next_xid;
} Model;

/* WAL and the model after each record; states[i] is after i records. */
typedef struct History
{
	Gen gen;
	int first; /* record with which states[0] ends: the checkpoint of the seed */
	Model *states;
	int cap;
	uint32 next_seed;
	uint64 random;
	bool no_copies; /* of databases: each makes the store write its layers */
} History;

typedef struct TestStore
{
	char dir[64];
	Config config;
	Store *store;
	Timeline *tl;
} TestStore;

static const PsId test_tenant = {{0xaa, 1}};
static const PsId test_timeline = {{0xbb, 2}};

static inline uint32
next_random(uint64 *state, uint32 n)
{
	uint64 z = *state += UINT64CONST(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return (uint32) ((z ^ (z >> 31)) >> 32) % n;
}

/* ---- contents ---- */

static inline void
make_page(uint32 seed, XLogRecPtr lsn, char *page)
{
	uint64 state = seed;

	memset(page, 0, BLCKSZ);
	if (seed == 0)
		return;
	for (int i = 0; i < IMAGE_SIZE; i++)
		page[i] = (char) next_random(&state, 256);
	((PageHeader) page)->pd_upper = 4000;
	PageSetLSN(page, lsn);
}

static inline void
make_relmap(uint32 seed, char map[512])
{
	uint64 state = seed;

	for (int i = 0; i < 512; i++)
		map[i] = (char) next_random(&state, 256);
}

static inline PsRel
model_rel(int db, int rel)
{
	return (PsRel) {SPC, FIRST_DB + db, FIRST_REL + rel};
}

/* ---- WAL ---- */

static inline Model *
history_now(History *h)
{
	return &h->states[h->gen.n - 1 - h->first];
}

/* The state after another record begins as the last one. */
static inline Model *
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

/* The records themselves. */

static inline void
gen_main_record(Gen *gen, RmgrId rmid, uint8 info, TransactionId xid, const void *data, uint32 len)
{
	uint32 body_len;
	char *body = gen_main_data(data, len, &body_len);

	gen_record(gen, rmid, info, xid, body, body_len);
	free(body);
}

/* XLOG_FPI of some blocks of one fork; the pages are of first_seed and those that follow. */
static inline void
gen_images(Gen *gen, int db, int rel, int fork, const uint32 *blks, int n, uint32 first_seed)
{
	StringInfoData body;
	char page[BLCKSZ];

	initStringInfo(&body);
	for (int i = 0; i < n; i++)
	{
		XLogRecordBlockHeader bh = {.id = i, .fork_flags = fork | BKPBLOCK_HAS_IMAGE | (i > 0 ? BKPBLOCK_SAME_REL : 0)};
		XLogRecordBlockImageHeader ih = {.length = IMAGE_SIZE, .hole_offset = IMAGE_SIZE, .bimg_info = BKPIMAGE_HAS_HOLE | BKPIMAGE_APPLY};
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
		appendBinaryStringInfo(&body, page, IMAGE_SIZE);
	}
	gen_record(gen, RM_XLOG_ID, XLOG_FPI, 0, body.data, body.len);
	pfree(body.data);
}

static inline void
gen_create(Gen *gen, int db, int rel)
{
	xl_smgr_create create = {{SPC, FIRST_DB + db, FIRST_REL + rel}, MAIN_FORKNUM};

	gen_main_record(gen, RM_SMGR_ID, XLOG_SMGR_CREATE, 0, &create, sizeof(create));
}

static inline void
gen_truncate(Gen *gen, int db, int rel, uint32 nblocks)
{
	xl_smgr_truncate trunc = {nblocks, {SPC, FIRST_DB + db, FIRST_REL + rel}, SMGR_TRUNCATE_HEAP};

	gen_main_record(gen, RM_SMGR_ID, XLOG_SMGR_TRUNCATE, 0, &trunc, sizeof(trunc));
}

/* A commit, which drops a relation if rel >= 0; or an abort. */
static inline void
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
	gen_main_record(gen, RM_XACT_ID, (abort ? XLOG_XACT_ABORT : XLOG_XACT_COMMIT) | (rel >= 0 ? XLOG_XACT_HAS_INFO : 0), xid,
					data, p - data);
}

static inline void
gen_relmap(Gen *gen, int db, uint32 seed)
{
	char data[MinSizeOfRelmapUpdate + 512];
	xl_relmap_update update = {FIRST_DB + db, SPC, 512};

	memcpy(data, &update, MinSizeOfRelmapUpdate);
	make_relmap(seed, data + MinSizeOfRelmapUpdate);
	gen_main_record(gen, RM_RELMAP_ID, XLOG_RELMAP_UPDATE, 0, data, sizeof(data));
}

static inline void
gen_db_copy(Gen *gen, int from, int to)
{
	xl_dbase_create_file_copy_rec copy = {FIRST_DB + to, SPC, FIRST_DB + from, SPC};

	gen_main_record(gen, RM_DBASE_ID, XLOG_DBASE_CREATE_FILE_COPY, 0, &copy, sizeof(copy));
}

static inline void
gen_db_drop(Gen *gen, int db)
{
	Oid data[3] = {FIRST_DB + db, 1, SPC};

	gen_main_record(gen, RM_DBASE_ID, XLOG_DBASE_DROP, 0, data, sizeof(data));
}

/* The same, and what becomes of the model. */

static inline void
add_main_data(History *h, RmgrId rmid, uint8 info, TransactionId xid, const void *data, uint32 len)
{
	gen_main_record(&h->gen, rmid, info, xid, data, len);
}

static inline void
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

static inline void
add_create(History *h, int db, int rel)
{
	history_next(h)->forks[db][rel][0].exists = true;
	gen_create(&h->gen, db, rel);
}

static inline void
add_truncate(History *h, int db, int rel, uint32 nblocks)
{
	ModelFork *f = &history_next(h)->forks[db][rel][0];

	gen_truncate(&h->gen, db, rel, nblocks);
	if (!f->exists || nblocks >= f->nblocks)
		return;
	memset(&f->pages[nblocks], 0, (NBLOCK - nblocks) * sizeof(f->pages[0]));
	f->nblocks = nblocks;
}

/* A commit, which drops a relation if rel >= 0. */
static inline void
add_commit(History *h, int db, int rel)
{
	Model *m = history_next(h);

	gen_commit(&h->gen, (TransactionId) m->next_xid++, 1000, false, db, rel);
	if (rel >= 0)
		memset(m->forks[db][rel], 0, sizeof(m->forks[db][rel]));
}

static inline void
add_relmap(History *h, int db)
{
	history_next(h)->relmap[db] = h->next_seed;
	gen_relmap(&h->gen, db, h->next_seed++);
}

static inline void
add_db_copy(History *h, int from, int to)
{
	Model *m = history_next(h);

	gen_db_copy(&h->gen, from, to);
	memcpy(m->forks[to], m->forks[from], sizeof(m->forks[to]));
	m->db[to] = m->db[from];
	m->relmap[to] = m->relmap[from];
}

static inline void
add_db_drop(History *h, int db)
{
	Model *m = history_next(h);

	gen_db_drop(&h->gen, db);
	memset(m->forks[db], 0, sizeof(m->forks[db]));
	m->db[db] = false;
	m->relmap[db] = 0;
}

static inline void
add_switch(History *h)
{
	history_next(h);
	gen_record(&h->gen, RM_XLOG_ID, XLOG_SWITCH, 0, NULL, 0);
}

static inline void
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
static inline void
history_init(History *h, uint64 random)
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

static inline void
history_free(History *h)
{
	gen_free(&h->gen);
	free(h->states);
}

/* How many records end at or before lsn, after those of the seed. */
static inline int
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

/* ---- the store ---- */

/* Adds a branch that is nothing but the history's beginning. */
static inline void
store_add_seed(TestStore *s, const History *h, const PsId *tenant, const PsId *timeline, const char *name, Timeline **tl)
{
	ControlFileData control = {0};
	const WalRecord *checkpoint = &h->gen.records[0];
	WalState state;
	LayerSpace space;
	TimelineSeed seed = {.tenant = *tenant, .timeline = *timeline, .system_identifier = GEN_SYSID, .segment_size = SEGMENT_SIZE, .lsn = checkpoint->end};
	PsKey key;
	char id[PS_ID_TEXT];
	char path[512];
	WalSegments *segs;
	ImageWriter *writer;
	StringInfoData value;

	strlcpy(seed.name, name, sizeof(seed.name));
	snprintf(path, sizeof(path), "%s/tmp/%s", s->dir, ps_id_format(&seed.timeline, id));
	CHECK(mkdir(path, 0700) == 0);
	snprintf(path, sizeof(path), "%s/tmp/%s/wal", s->dir, id);
	CHECK(mkdir(path, 0700) == 0);
	OK(wal_segments_open(path, SEGMENT_SIZE, &segs));
	OK(wal_segments_write(segs, h->gen.start, h->gen.bytes.data, checkpoint->end - h->gen.start));
	OK(wal_segments_sync(segs));
	wal_segments_close(segs);

	control.system_identifier = GEN_SYSID;
	control.checkPoint = checkpoint->start;
	memcpy(&control.checkPointCopy, checkpoint->data + checkpoint->len - sizeof(CheckPoint), sizeof(CheckPoint));
	control.wal_level = 2;
	wal_state_from_control(&state, &control, checkpoint->end);
	snprintf(path, sizeof(path), "%s/tmp/%s/layers", s->dir, id);
	CHECK(mkdir(path, 0700) == 0);
	space = (LayerSpace) {.dir = path, .tenant = seed.tenant, .timeline = seed.timeline, .next_number = 1};
	OK(image_writer_create(&space, seed.lsn, &writer));
	initStringInfo(&value);
	key = ps_key_simple(PS_KEY_DATABASE, SPC, FIRST_DB, 0);
	OK(image_writer_put(writer, &key, "15\n", 3));
	key = ps_key_simple(PS_KEY_STATE, 0, 0, 0);
	wal_state_encode(&state, &value);
	OK(image_writer_put(writer, &key, value.data, value.len));
	seed.layers = pg_malloc(sizeof(Layer *));
	OK(image_writer_finish(writer, &seed.layers[0]));
	seed.nlayers = 1;
	pfree(value.data);
	OK(store_add_timeline(s->store, &seed, tl));
	layer_unref(seed.layers[0]);
	free(seed.layers);
}

/* Where stores are made. */
static const char *store_template = "/tmp/t_timeline.XXXXXX";

static inline void
store_make(TestStore *s, History *h)
{
	static char bindir[] = "/tmp/t_timeline.bin.XXXXXX";
	static bool have_bindir;
	char path[512];

	strlcpy(s->dir, store_template, sizeof(s->dir));
	CHECK(mkdtemp(s->dir) != NULL);
	s->config = (Config) {.store_dir = s->dir, .bindir = bindir, .redo_helpers = 1, .redo_timeout = 10000, .trash_interval = 86400, .checkpoint_distance = 256, .checkpoint_timeout = 3600, .open_layer_memory = 256, .layer_memory = 1024, .max_ingest_lag = 64, .page_cache_size = 1, .wait_timeout = 30000};

	/* in place of PostgreSQL, which nothing here needs: a program that waits for its end */
	if (!have_bindir)
	{
		int fd;

		CHECK(mkdtemp(bindir) != NULL);
		snprintf(path, sizeof(path), "%s/postgres", bindir);
		fd = open(path, O_WRONLY | O_CREAT, 0700);
		CHECK(write(fd, "#!/bin/sh\nexec cat\n", 19) == 19);
		close(fd);
		have_bindir = true;
	}

	snprintf(path, sizeof(path), "%s/tenants", s->dir);
	CHECK(mkdir(path, 0700) == 0);
	OK(store_open(&s->config, &s->store));
	store_add_seed(s, h, &test_tenant, &test_timeline, "main", &s->tl);
}

static inline PsError *
store_try_open(TestStore *s)
{
	PsError *err;

	PS_TRY(store_open(&s->config, &s->store));
	err = store_find_branch(s->store, "main", &s->tl);
	if (err != NULL)
		store_close(s->store);
	return err;
}

static inline void
store_reopen(TestStore *s)
{
	store_close(s->store);
	OK(store_try_open(s));
}

static inline void
remove_tree(const char *dir)
{
	char command[256];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	CHECK(system(command) == 0);
}

/* Path of a file of the timeline. */
static inline const char *
store_path(const TestStore *s, const char *name, char path[512])
{
	char a[PS_ID_TEXT],
		b[PS_ID_TEXT];

	snprintf(path, 512, "%s/tenants/%s/timelines/%s/%s", s->dir, ps_id_format(&test_tenant, a),
			 ps_id_format(&test_timeline, b), name);
	return path;
}

/* Sends WAL up to an LSN, in random pieces with a sync now and then and at the end. */
static inline PsError *
push(WalReceiver *receiver, const History *h, XLogRecPtr from, XLogRecPtr to, uint64 *random, XLogRecPtr *flushed)
{
	while (from < to)
	{
		size_t len = 1 + next_random(random, next_random(random, 4) == 0 ? 100000 : 3000);

		len = Min(len, to - from);
		PS_TRY(wal_receiver_write(receiver, from, h->gen.bytes.data + (from - h->gen.start), len, NULL));
		from += len;
		if (next_random(random, 3) == 0)
			PS_TRY(wal_receiver_sync(receiver, flushed));
	}
	return wal_receiver_sync(receiver, flushed);
}

/* ---- comparing ---- */

typedef struct SizeCheck
{
	const Model *m;
	int found;
} SizeCheck;

static inline PsError *
check_size(void *arg, const PsKey *key, const char *value, uint32 len)
{
	SizeCheck *c = arg;
	const ModelFork *f = &c->m->forks[key->db - FIRST_DB][key->rel - FIRST_REL][key->fork];

	CHECK(f->exists && relsize_value_nblocks(value, len) == f->nblocks);
	c->found++;
	return NULL;
}

/* Everything at an LSN is as the model has it. */
static inline void
compare_at(Timeline *tl, const History *h, XLogRecPtr lsn)
{
	int n = history_find(h, lsn);
	const WalRecord *last = &h->gen.records[h->first + n];
	const Model *m = &h->states[n];
	PsKey lo = ps_key_simple(PS_KEY_RELSIZE, 0, 0, 0);
	PsKey hi = ps_key_simple(PS_KEY_RELSIZE, PG_UINT32_MAX, PG_UINT32_MAX, PG_UINT32_MAX);
	SizeCheck sizes = {m, 0};
	int expected = 0;
	char *pages = pg_malloc((NBLOCK + 2) * BLCKSZ);
	char page[BLCKSZ];
	BlockNumber blks[NBLOCK + 2];
	StringInfoData value;
	WalState state;

	initStringInfo(&value);
	hi.fork = MAX_FORKNUM;
	for (int i = 0; i < lengthof(blks); i++)
		blks[i] = i;
	for (int db = 0; db < NDB; db++)
	{
		PsKey key = ps_key_simple(PS_KEY_DATABASE, SPC, FIRST_DB + db, 0);
		bool found;

		OK(timeline_read_value(tl, &key, lsn, &value, &found));
		CHECK(found == m->db[db]);
		key = ps_key_simple(PS_KEY_RELMAP, SPC, FIRST_DB + db, 0);
		OK(timeline_read_value(tl, &key, lsn, &value, &found));
		CHECK(found == (m->relmap[db] != 0));
		if (found)
		{
			make_relmap(m->relmap[db], page);
			CHECK(value.len == 512 && memcmp(value.data, page, 512) == 0);
		}
		for (int rel = 0; rel < NREL; rel++)
			for (int fork = 0; fork < NFORK; fork++)
			{
				const ModelFork *f = &m->forks[db][rel][fork];
				BlockNumber nblocks;

				OK(timeline_read_relsize(tl, model_rel(db, rel), fork, lsn, &found, &nblocks));
				CHECK(found == f->exists && nblocks == f->nblocks);
				expected += found;
				OK(timeline_read_pages(tl, model_rel(db, rel), fork, blks, lengthof(blks), lsn, pages));
				for (int b = 0; b < lengthof(blks); b++)
				{
					make_page(b < NBLOCK ? f->pages[b].seed : 0, b < NBLOCK ? f->pages[b].lsn : 0, page);
					CHECK(memcmp(pages + b * BLCKSZ, page, BLCKSZ) == 0);
				}
			}
	}
	OK(timeline_scan(tl, &lo, &hi, lsn, check_size, &sizes));
	CHECK(sizes.found == expected);
	OK(timeline_state_at(tl, lsn, &state));
	CHECK(state.end == last->end && state.prev == last->start && state.checkpoint.nextXid.value == m->next_xid);
	pfree(value.data);
	free(pages);
}

/* The same, if the LSN can still be read. */
static inline bool
compare_if_kept(Timeline *tl, const History *h, XLogRecPtr lsn)
{
	PsError *err = timeline_pin(tl, lsn);

	if (err != NULL)
	{
		CHECK(ps_error_is(err, PS_SQLSTATE_INVALID) && lsn < timeline_gc_cutoff(tl));
		ps_error_free(err);
		return false;
	}
	compare_at(tl, h, lsn);
	timeline_unpin(tl, lsn);
	return true;
}

/* At some LSNs, between records too, and at the last. */
static inline void
compare(Timeline *tl, const History *h, XLogRecPtr end, int n, uint64 *random)
{
	XLogRecPtr first = h->gen.records[h->first].end;

	OK(timeline_wait_ingested(tl, end, 60000, NULL));
	compare_at(tl, h, end);
	for (int i = 0; i < n; i++)
	{
		uint64 offset = ((uint64) next_random(random, UINT32_MAX) << 32 | next_random(random, UINT32_MAX)) % (end - first + 1);

		/* records end at MAXALIGNed LSNs; one less than an end is no LSN that anybody reads at (extend_fork() uses it) */
		compare_if_kept(tl, h, first + MAXALIGN_DOWN(offset));
	}
}

#endif /* TIMELINE_UTIL_H */
