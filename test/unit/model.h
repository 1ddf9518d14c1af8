/*
 * model.h
 *	  For tests: a naive model of a store with branches, and the operations on
 *	  the store and the model together.
 *
 * The model is one array of versions for each key of each branch.  Each
 * operation is done on the store, then on the model if it succeeded; one that
 * failed, or during which the store crashed (fault_fs.h), is settled by a look
 * at what became of it: it was done whole or not at all, else the test fails.
 *
 * Operations return an error of the store; what must not be stops the program.
 */
#ifndef MODEL_H
#define MODEL_H

#define NREL       8
#define NBLOCK     64
#define IMAGE_SIZE 700

#include "timeline_util.h"

#include <dirent.h>
#include <limits.h>

#include "replication/origin.h"

#include "bytes.h"
#include "fault_fs.h"
#include "sqlstate.h"
#include "ingest/ingest_impl.h"
#include "store/store_impl.h"
#include "wire.h"

#define NORIGIN       4
#define NXID          100000 /* of which clog has the states: four pages */
#define XIDS_PER_PAGE (BLCKSZ * 4)
#define MAX_BRANCHES  16
#define IMPORTED      "imported"

/* ---- the model ---- */

typedef struct Version
{
	XLogRecPtr lsn;      /* from here on */
	XLogRecPtr page_lsn; /* of a page, as it has it */
	uint32 value;        /* 0: not there */
} Version;

typedef struct Versions
{
	Version *items; /* ascending by LSN */
	int n;
	int cap;
} Versions;

typedef struct XactEnd
{
	XLogRecPtr lsn; /* end of the record */
	TimestampTz time;
	TransactionId xid;
	bool abort;
} XactEnd;

typedef struct RecordPlace
{
	XLogRecPtr start;
	XLogRecPtr end;
	TransactionId next_xid; /* after it */
} RecordPlace;

enum
{
	KEY_BLOCK = 0,                                      /* value: seed */
	KEY_SIZE = KEY_BLOCK + NDB * NREL * NFORK * NBLOCK, /* value: blocks + 1 */
	KEY_DB = KEY_SIZE + NDB * NREL * NFORK,
	KEY_RELMAP = KEY_DB + NDB,     /* value: seed */
	KEY_ORIGIN = KEY_RELMAP + NDB, /* value: LSN */
	NKEYS = KEY_ORIGIN + NORIGIN
};

typedef struct ModelBranch
{
	PsId id;
	char name[TIMELINE_NAME_MAX + 1];
	struct ModelBranch *parent;
	XLogRecPtr start;
	Versions keys[NKEYS];
	XactEnd *xacts;
	int nxacts;
	RecordPlace *records; /* the first ends at "start" */
	int nrecords;
	Gen gen; /* WAL from "acked" on, or a bit before */
	XLogRecPtr acked;
	uint64 generation;
	TimestampTz now;
	XLogRecPtr may_be_gone; /* before this LSN the store may have forgotten */

	Timeline *tl; /* NULL: not in use, and perhaps closed: take() */
	WalReceiver *receiver;
	bool unsettled; /* it may have been opened since its WAL was compared with this */
	bool seen;
} ModelBranch;

typedef enum PendingKind
{
	PENDING_NOTHING,
	PENDING_CREATE,
	PENDING_DELETE,
	PENDING_RENAME,
	PENDING_REPLACE,
	PENDING_GENERATION,
	PENDING_DETACH, /* of the tenant, or attaching it */
	PENDING_TRASH,  /* of the branch, or taking it out */
	PENDING_IMPORT  /* of another tenant, of one branch */
} PendingKind;

/* What was being done when the store crashed, or an operation failed. */
typedef struct Pending
{
	PendingKind kind;
	ModelBranch *branch;                  /* to be deleted, renamed, replaced */
	ModelBranch *parent;                  /* of the new branch */
	XLogRecPtr lsn;                       /* of its beginning */
	char name[TIMELINE_NAME_MAX + 1];     /* new */
	char old_name[TIMELINE_NAME_MAX + 1]; /* PENDING_REPLACE: of what is replaced, afterwards */
} Pending;

typedef struct World
{
	TestStore s;
	ModelBranch *branches[MAX_BRANCHES];
	int n;
	bool has_imported;  /* a branch IMPORTED of another tenant */
	Timeline *imported; /* that, in use; NULL: there is none, or the store is closed */
	Pending pending;
	uint64 random;
	uint32 next_seed;
	uint64 next_name;
	uint32 lazy_percent; /* of the branches stay closed after a start, until somebody uses them */
	/* statistics */
	long records;
	long checks;
	long refused;
	long crashes;
	long closed; /* branches that nobody used */
	long detached;
	long files; /* most layer files of a branch */
	int level;  /* highest level */
} World;

static inline uint32
rnd32(World *w, uint32 n)
{
	return next_random(&w->random, n);
}

static inline int
key_block(int db, int rel, int fork, int blk)
{
	return KEY_BLOCK + ((db * NREL + rel) * NFORK + fork) * NBLOCK + blk;
}

static inline int
key_size(int db, int rel, int fork)
{
	return KEY_SIZE + (db * NREL + rel) * NFORK + fork;
}

/* What a key has at an LSN; a Version of nothing if it is not there. */
static inline Version
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

static inline void
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

static inline uint32
model_now(const ModelBranch *b, int key)
{
	return model_get(b, key, PG_UINT64_MAX).value;
}

/* The last record that ends at or before lsn: its index in the branch's own records, or -1. */
static inline int
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

static inline void
add_place(ModelBranch *b, XLogRecPtr start, XLogRecPtr end, TransactionId next_xid)
{
	if ((b->nrecords & (b->nrecords - 1)) == 0)
		b->records = pg_realloc(b->records, Max(1, b->nrecords * 2) * sizeof(RecordPlace));
	b->records[b->nrecords++] = (RecordPlace) {start, end, next_xid};
}

/* Of the record that was just generated only its place stays. */
static inline void
record_done(World *w, ModelBranch *b, TransactionId next_xid)
{
	const WalRecord *rec = &b->gen.records[--b->gen.n];

	add_place(b, rec->start, rec->end, Max(next_xid, b->records[b->nrecords - 1].next_xid));
	free((char *) rec->data);
	w->records++;
}

/* Forgets all after a record's end: what was never acknowledged and is gone. */
static inline void
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

/* ---- random records ---- */

static inline void
drop_relation(ModelBranch *b, int db, int rel, XLogRecPtr lsn)
{
	for (int fork = 0; fork < NFORK; fork++)
	{
		for (int blk = 0; blk < NBLOCK; blk++)
			if (model_now(b, key_block(db, rel, fork, blk)) != 0)
				model_put(b, key_block(db, rel, fork, blk), lsn, 0, 0);
		if (model_now(b, key_size(db, rel, fork)) != 0)
			model_put(b, key_size(db, rel, fork), lsn, 0, 0);
	}
}

static inline void
drop_database(ModelBranch *b, int db, XLogRecPtr lsn)
{
	for (int rel = 0; rel < NREL; rel++)
		drop_relation(b, db, rel, lsn);
	model_put(b, KEY_DB + db, lsn, 0, 0);
	model_put(b, KEY_RELMAP + db, lsn, 0, 0);
}

static inline void
copy_key(ModelBranch *b, int from, int to)
{
	Version v = model_get(b, from, PG_UINT64_MAX);

	if (v.value != 0)
		model_put(b, to, b->gen.pos, v.value, v.page_lsn);
}

static inline void
put_images(World *w, ModelBranch *b)
{
	int db = rnd32(w, NDB);
	int rel = rnd32(w, NREL);
	int fork = rnd32(w, 5) == 0;
	uint32 first = rnd32(w, rnd32(w, 3) == 0 ? 4 : NBLOCK);
	uint32 blks[3] = {first, (first + 3) % NBLOCK, (first + 5) % NBLOCK};
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

static inline void
put_commit(World *w, ModelBranch *b, bool drop)
{
	int db = rnd32(w, NDB);
	int rel = drop ? (int) rnd32(w, NREL) : -1;
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

static inline void
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

static inline void
put_db_copy(World *w, ModelBranch *b, int from, int to)
{
	gen_db_copy(&b->gen, from, to);
	drop_database(b, to, b->gen.pos);
	for (int i = 0; i < NREL * NFORK * NBLOCK; i++)
		copy_key(b, key_block(from, 0, 0, 0) + i, key_block(to, 0, 0, 0) + i);
	for (int i = 0; i < NREL * NFORK; i++)
		copy_key(b, key_size(from, 0, 0) + i, key_size(to, 0, 0) + i);
	copy_key(b, KEY_DB + from, KEY_DB + to);
	copy_key(b, KEY_RELMAP + from, KEY_RELMAP + to);
	record_done(w, b, 0);
}

static inline void
put_truncate(World *w, ModelBranch *b)
{
	int db = rnd32(w, NDB);
	int rel = rnd32(w, NREL);
	uint32 nblocks = rnd32(w, NBLOCK);
	int size = key_size(db, rel, 0);

	gen_truncate(&b->gen, db, rel, nblocks);
	if (model_now(b, size) > nblocks + 1)
	{
		for (int blk = nblocks; blk < NBLOCK; blk++)
			if (model_now(b, key_block(db, rel, 0, blk)) != 0)
				model_put(b, key_block(db, rel, 0, blk), b->gen.pos, 0, 0);
		model_put(b, size, b->gen.pos, nblocks + 1, 0);
	}
	record_done(w, b, 0);
}

static inline void
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
		int rel = rnd32(w, NREL);

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

/* ---- branches of the model ---- */

static inline ModelBranch *
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

static inline void
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

static inline bool
has_children(const World *w, const ModelBranch *b)
{
	for (int i = 0; i < w->n; i++)
		if (w->branches[i]->parent == b)
			return true;
	return false;
}

static inline ModelBranch *
model_named(const World *w, const char *name)
{
	for (int i = 0; i < w->n; i++)
		if (strcmp(w->branches[i]->name, name) == 0)
			return w->branches[i];
	return NULL;
}

/* ---- what may be gone ---- */

/*
 * The end of the last record before the first commit or abort later than
 * "when" of the branch's own WAL up to an LSN; 0: there is no such.
 */
static inline XLogRecPtr
model_moment(const ModelBranch *b, TimestampTz when, XLogRecPtr upto)
{
	int lo = 0;
	int hi = b->nxacts;

	/* times rise */
	while (lo < hi)
	{
		int mid = (lo + hi) / 2;

		if (b->xacts[mid].time <= when)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == b->nxacts || b->xacts[lo].lsn > upto)
		return InvalidXLogRecPtr;
	return b->records[model_find_record(b, b->xacts[lo].lsn) - 1].end;
}

static inline TimestampTz
now_timestamp(void)
{
	return ((TimestampTz) time(NULL) - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY) * USECS_PER_SEC;
}

/* The settings allow the store to forget up to here; it never un-forgets. */
static inline void
model_move_window(World *w, ModelBranch *b)
{
	uint64 distance = (uint64) w->s.config.gc_horizon * 1024 * 1024;
	XLogRecPtr by_distance = b->gen.pos > b->start + distance ? b->gen.pos - distance : b->start;

	/* nothing came a day ago, whatever the commits say of their time */
	if (w->s.config.pitr_interval == 0)
		b->may_be_gone = Max(b->may_be_gone, by_distance);
}

/* Does a branch begin there, so that it can be read at this LSN whatever the window? */
static inline bool
is_branch_point(const World *w, const ModelBranch *b, XLogRecPtr lsn)
{
	for (int i = 0; i < w->n; i++)
		if (w->branches[i]->parent == b && w->branches[i]->start == lsn)
			return true;
	return false;
}

/* ---- comparing ---- */

static inline PsError *take(World *w, ModelBranch *b);

static inline void
wrong(const ModelBranch *b, XLogRecPtr lsn, const char *fmt, ...) pg_attribute_printf(3, 4);

static inline void
wrong(const ModelBranch *b, XLogRecPtr lsn, const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "branch \"%s\" (from %X/%X, acknowledged up to %X/%X) at %X/%X: ", b->name, LSN_FORMAT_ARGS(b->start),
			LSN_FORMAT_ARGS(b->acked), LSN_FORMAT_ARGS(lsn));
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\n");
	abort();
}

static inline PsError *
check_fork(const ModelBranch *b, int db, int rel, int fork, XLogRecPtr lsn)
{
	static __thread char pages[(NBLOCK + 2) * BLCKSZ];
	BlockNumber blks[NBLOCK + 2];
	uint32 size = model_get(b, key_size(db, rel, fork), lsn).value;
	bool found;
	BlockNumber nblocks;
	char page[BLCKSZ];

	PS_TRY(timeline_read_relsize(b->tl, model_rel(db, rel), fork, lsn, &found, &nblocks));
	if (found != (size != 0) || (found && nblocks + 1 != size))
		wrong(b, lsn, "size of %d/%d/%d is %d, %u blocks, expected %u less one", db, rel, fork, found, nblocks, size);
	for (int i = 0; i < lengthof(blks); i++)
		blks[i] = i;
	PS_TRY(timeline_read_pages(b->tl, model_rel(db, rel), fork, blks, lengthof(blks), lsn, pages));
	for (int i = 0; i < lengthof(blks); i++)
	{
		Version v = i < NBLOCK ? model_get(b, key_block(db, rel, fork, i), lsn) : (Version) {0};

		make_page(v.value, v.page_lsn, page);
		if (memcmp(pages + (size_t) i * BLCKSZ, page, BLCKSZ) != 0)
			wrong(b, lsn, "block %d of %d/%d/%d is not the one of %X/%X, seed %u, but has LSN %X/%X", i, db, rel, fork,
				  LSN_FORMAT_ARGS(v.lsn), v.value, LSN_FORMAT_ARGS(PageGetLSN((Page) (pages + (size_t) i * BLCKSZ))));
	}
	return NULL;
}

static inline void
check_bytes(const ModelBranch *b, XLogRecPtr lsn, const PsKey *key, bool found, const StringInfo value, bool expected, const char *data,
			uint32 len)
{
	char text[PS_KEY_TEXT];

	if (found != expected || (found && (value->len != (int) len || memcmp(value->data, data, len) != 0)))
		wrong(b, lsn, "%s: found %d with %d bytes, expected %d with %u bytes", ps_key_format(key, text), found, value->len,
			  expected, len);
}

/* The state of every transaction, of which there are a few pages. */
static inline PsError *
check_clog(const ModelBranch *b, XLogRecPtr lsn, StringInfo value)
{
	static __thread char pages[NXID / XIDS_PER_PAGE + 1][BLCKSZ];
	bool any[lengthof(pages)] = {false};
	const ModelBranch *chain[MAX_BRANCHES] = {b};
	XLogRecPtr upto[MAX_BRANCHES];
	int n = 0;

	memset(pages, 0, sizeof(pages));
	for (XLogRecPtr at = lsn; b != NULL; at = Min(at, b->start), b = b->parent)
	{
		chain[n] = b;
		upto[n++] = at;
	}
	b = chain[0];
	while (n-- > 0)
		for (int i = 0; i < chain[n]->nxacts && chain[n]->xacts[i].lsn <= upto[n]; i++)
		{
			const XactEnd *x = &chain[n]->xacts[i];
			int page = x->xid / XIDS_PER_PAGE;
			int shift = x->xid % 4 * 2;
			char *byte = &pages[page][x->xid % XIDS_PER_PAGE / 4];

			*byte = (char) ((*byte & ~(3 << shift)) | (x->abort ? 2 : 1) << shift);
			any[page] = true;
		}
	for (int i = 0; i < lengthof(pages); i++)
	{
		PsKey key = ps_key_slru_block(PS_SLRU_CLOG, i);
		bool found;

		PS_TRY(timeline_read_value(b->tl, &key, lsn, value, &found));
		check_bytes(b, lsn, &key, found && any[i], value, any[i], pages[i], BLCKSZ);
	}
	return NULL;
}

typedef struct SizeScan
{
	const ModelBranch *b;
	XLogRecPtr lsn;
	int found;
} SizeScan;

static inline PsError *
check_scanned_size(void *arg, const PsKey *key, const char *value, uint32 len)
{
	SizeScan *scan = arg;
	uint32 size = model_get(scan->b, key_size(key->db - FIRST_DB, key->rel - FIRST_REL, key->fork), scan->lsn).value;

	if (size == 0 || relsize_value_nblocks(value, len) + 1 != size)
		wrong(scan->b, scan->lsn, "the scan finds a fork of %u/%u/%u with %u blocks, expected %u less one", key->db, key->rel,
			  key->fork, relsize_value_nblocks(value, len), size);
	scan->found++;
	return NULL;
}

static inline PsError *
check_values(const ModelBranch *b, XLogRecPtr lsn, StringInfo value)
{
	PsKey lo = ps_key_simple(PS_KEY_RELSIZE, 0, 0, 0);
	PsKey hi = ps_key_simple(PS_KEY_RELSIZE, PG_UINT32_MAX, PG_UINT32_MAX, PG_UINT32_MAX);
	SizeScan scan = {b, lsn, 0};
	int expected = 0;
	bool found;
	char data[512];

	for (int i = 0; i < NDB; i++)
	{
		PsKey key = ps_key_simple(PS_KEY_DATABASE, SPC, FIRST_DB + i, 0);
		uint32 seed = model_get(b, KEY_RELMAP + i, lsn).value;

		PS_TRY(timeline_read_value(b->tl, &key, lsn, value, &found));
		check_bytes(b, lsn, &key, found, value, model_get(b, KEY_DB + i, lsn).value != 0, "15\n", 3);
		key = ps_key_simple(PS_KEY_RELMAP, SPC, FIRST_DB + i, 0);
		PS_TRY(timeline_read_value(b->tl, &key, lsn, value, &found));
		make_relmap(seed, data);
		check_bytes(b, lsn, &key, found, value, seed != 0, data, 512);
	}
	for (int i = 0; i < NORIGIN; i++)
	{
		PsKey key = ps_key_simple(PS_KEY_ORIGIN, 0, 0, i + 1);
		uint32 remote = model_get(b, KEY_ORIGIN + i, lsn).value;

		PS_TRY(timeline_read_value(b->tl, &key, lsn, value, &found));
		ps_put64(data, remote);
		check_bytes(b, lsn, &key, found, value, remote != 0, data, 8);
	}
	hi.fork = MAX_FORKNUM;
	PS_TRY(timeline_scan(b->tl, &lo, &hi, lsn, check_scanned_size, &scan));
	for (int i = 0; i < NDB * NREL * NFORK; i++)
		expected += model_get(b, KEY_SIZE + i, lsn).value != 0;
	if (scan.found != expected)
		wrong(b, lsn, "the scan finds %d forks, expected %d", scan.found, expected);
	return NULL;
}

static inline PsError *
check_state(const ModelBranch *b, XLogRecPtr lsn)
{
	const RecordPlace *place = &b->records[model_find_record(b, lsn)];
	WalState state;

	PS_TRY(timeline_state_at(b->tl, lsn, &state));
	if (state.end != place->end || state.prev != place->start || state.checkpoint.nextXid.value != place->next_xid)
		wrong(b, lsn, "the state is of %X/%X, record from %X/%X, next xid %llu, expected %X/%X, %X/%X, %u",
			  LSN_FORMAT_ARGS(state.end), LSN_FORMAT_ARGS(state.prev), (unsigned long long) state.checkpoint.nextXid.value,
			  LSN_FORMAT_ARGS(place->end), LSN_FORMAT_ARGS(place->start), place->next_xid);
	return NULL;
}

/* Some keys, or all. */
static inline PsError *
check_pinned(World *w, const ModelBranch *b, XLogRecPtr lsn, bool all)
{
	StringInfoData value;
	PsError *err = NULL;

	initStringInfo(&value);
	if (all)
	{
		for (int i = 0; i < NDB * NREL * NFORK && err == NULL; i++)
			err = check_fork(b, i / (NREL * NFORK), i / NFORK % NREL, i % NFORK, lsn);
	}
	else
		for (int i = 0; i < 2 && err == NULL; i++)
			err = check_fork(b, rnd32(w, NDB), rnd32(w, NREL), rnd32(w, NFORK), lsn);
	if (err == NULL && (all || rnd32(w, 4) == 0))
		err = check_values(b, lsn, &value);
	if (err == NULL && (all || rnd32(w, 8) == 0))
		err = check_clog(b, lsn, &value);
	if (err == NULL && lsn >= timeline_gc_cutoff(b->tl))
		err = check_state(b, lsn);
	pfree(value.data);
	w->checks++;
	return err;
}

/* An error that says from when on the branch can be read. */
static inline void
check_refused(const ModelBranch *b, XLogRecPtr lsn, PsError *err)
{
	if (err == NULL)
		wrong(b, lsn, "is not refused, although it may be gone");
	if (!ps_error_is(err, PS_SQLSTATE_INVALID) || strstr(err->message, "can be read from") == NULL)
		wrong(b, lsn, "is refused with: %s", err->message);
	ps_error_free(err);
}

/* All that is read at an LSN is as in the model; or it is refused, if it may be. */
static inline PsError *
check_at(World *w, ModelBranch *b, XLogRecPtr lsn, bool all)
{
	PsError *err = timeline_pin(b->tl, lsn);
	BlockNumber nblocks;
	bool found;

	if (err == NULL)
	{
		err = check_pinned(w, b, lsn, all);
		timeline_unpin(b->tl, lsn);
		return err;
	}
	check_refused(b, lsn, err);
	if (lsn >= b->start && is_branch_point(w, b, lsn))
		wrong(b, lsn, "a branch begins there, but it is refused");
	model_move_window(w, b);
	if (lsn >= b->may_be_gone)
		wrong(b, lsn, "is refused, although everything from %X/%X on is to be kept", LSN_FORMAT_ARGS(b->may_be_gone));
	check_refused(b, lsn, timeline_read_relsize(b->tl, model_rel(0, 0), 0, lsn, &found, &nblocks));
	w->refused++;
	return NULL;
}

static inline XLogRecPtr
random_lsn(World *w, const ModelBranch *b, XLogRecPtr from)
{
	uint64 offset = (uint64) rnd32(w, UINT32_MAX) << 32 | rnd32(w, UINT32_MAX);

	return from + MAXALIGN_DOWN(offset % (b->acked - from + 1));
}

/* Until reads see all that was acknowledged, or the store crashes. */
static inline PsError *
wait_ingested(const ModelBranch *b)
{
	for (int i = 0;; i++)
	{
		XLogRecPtr lsn;

		PS_TRY(timeline_read_lsn(b->tl, PS_LSN_LATEST, InvalidXLogRecPtr, NULL, &lsn));
		if (lsn >= b->acked)
			return NULL;
		if (fault_has_crashed())
			return ps_error(PS_SQLSTATE_TRY_AGAIN, "crashed");
		if (i == 1000 && fault_is_armed() && fault.error != 0 && fault_has_happened())
			return ps_error(PS_SQLSTATE_TRY_AGAIN, "the disk is not well");
		if (i % 1000 == 999)
		{
			PsError *err = timeline_wait_ingested(b->tl, b->acked, 0, NULL);

			if (err != NULL && !ps_error_is(err, PS_SQLSTATE_TRY_AGAIN))
				return err;
			ps_error_free(err);
		}
		if (i > 300000)
			wrong(b, b->acked, "ingest stands at %X/%X", LSN_FORMAT_ARGS(lsn));
		pg_usleep(100);
	}
}

/* Everything at the end, at the points where branches begin, and n times at some LSN. */
static inline PsError *
check_branch(World *w, ModelBranch *b, int n, bool all)
{
	PS_TRY(take(w, b));
	PS_TRY(wait_ingested(b));
	PS_TRY(check_at(w, b, b->acked, all));
	PS_TRY(check_at(w, b, b->start, all));
	for (int i = 0; i < w->n; i++)
		if (w->branches[i]->parent == b)
			PS_TRY(check_at(w, b, w->branches[i]->start, all));
	for (int i = 0; i < n; i++)
		PS_TRY(check_at(w, b, random_lsn(w, b, rnd32(w, 2) == 0 ? b->start : timeline_gc_cutoff(b->tl)), all));
	return NULL;
}

/* ---- files ---- */

/* Fails on an entry of a directory that is not one of the names, all of which must be there, nor of the optional ones (a list that NULL ends). */
static inline void
check_names(const char *dir, const char *const *names, int n, const char *const *optional)
{
	DIR *d = opendir(dir);
	struct dirent *de;
	int found = 0;

	CHECK(d != NULL);
	while ((de = readdir(d)) != NULL)
	{
		bool known = false;

		if (de->d_name[0] == '.')
			continue;
		for (const char *const *name = optional; name != NULL && *name != NULL && !known; name++)
			known = strcmp(*name, de->d_name) == 0;
		if (known)
			continue;
		for (int i = 0; i < n && !known; i++)
			known = strcmp(names[i], de->d_name) == 0;
		if (!known)
		{
			fprintf(stderr, "stray file \"%s/%s\"\n", dir, de->d_name);
			abort();
		}
		found++;
	}
	closedir(d);
	if (found != n)
	{
		fprintf(stderr, "%d of %d files are in \"%s\"\n", found, n, dir);
		abort();
	}
}

/* All of a timeline's files are in its manifest. */
static inline void
check_no_strays_in(Timeline *tl)
{
	static const char *const optional[] = {"timeline.json.old", ARRIVALS_FILE, "protected", NULL};
	static const char *const in_timeline[] = {"timeline.json", "flushed", "wal", "layers"};
	LayerSet *set;
	int n;
	const char **files;
	char name[LAYER_NAME_MAX];

	while (set = timeline_layers(tl), set->nfrozen > 0)
	{
		layer_set_unref(set);
		pg_usleep(1000);
	}
	n = layer_map_count(set->map);
	files = pg_malloc(Max(n, 1) * sizeof(char *));
	/* if it cannot be written, it is with the next arrival */
	check_names(tl->spec->dir, in_timeline, lengthof(in_timeline), optional);
	for (int k = 0; k < n; k++)
		files[k] = pg_strdup(layer_name(layer_map_get(set->map, k), name));
	check_names(tl->spec->space.dir, files, n, NULL);
	for (int k = 0; k < n; k++)
		free((char *) files[k]);
	free(files);
	layer_set_unref(set);
}

static inline void
check_no_strays_of(const World *w, const PsId *tenant, const char *const *timelines, int n)
{
	static const char *const in_tenant[] = {"tenant.json", "timelines"};
	char id[PS_ID_TEXT];
	char path[MAXPGPATH];

	snprintf(path, sizeof(path), "%s/tenants/%s", w->s.dir, ps_id_format(tenant, id));
	check_names(path, in_tenant, lengthof(in_tenant), NULL);
	snprintf(path, sizeof(path), "%s/tenants/%s/timelines", w->s.dir, id);
	check_names(path, timelines, n, NULL);
}

/* No file that does not belong there.  Nothing may be going on: no flush is due, nobody merges. */
static inline void
check_no_strays(World *w)
{
	char id[PS_ID_TEXT];
	char redo[2][64];
	char path[MAXPGPATH];
	const char *tenants[2];
	const char *redos[2] = {redo[0], redo[1]};
	const char *names[MAX_BRANCHES];
	int ntenants = 0;

	/* which opens each, and removes what it finds */
	for (int i = 0; i < w->n; i++)
	{
		OK(take(w, w->branches[i]));
		names[i] = pg_strdup(ps_id_format(&w->branches[i]->id, id));
	}
	check_no_strays_of(w, &test_tenant, names, w->n);
	for (int i = 0; i < w->n; i++)
		free((char *) names[i]);
	tenants[ntenants++] = pg_strdup(ps_id_format(&test_tenant, id));
	if (w->imported != NULL)
	{
		tenants[ntenants++] = pg_strdup(ps_id_format(&w->imported->spec->tenant, id));
		names[0] = ps_id_format(&w->imported->spec->id, id);
		check_no_strays_of(w, &w->imported->spec->tenant, names, 1);
		check_no_strays_in(w->imported);
	}
	snprintf(path, sizeof(path), "%s/tenants", w->s.dir);
	check_names(path, tenants, ntenants, NULL);
	for (int i = 0; i < ntenants; i++)
		snprintf(redo[i], sizeof(redo[i]), "redo-%s", tenants[i]);
	snprintf(path, sizeof(path), "%s/tmp", w->s.dir);
	check_names(path, redos, ntenants, NULL);
	for (int i = 0; i < ntenants; i++)
		free((char *) tenants[i]);
	for (int i = 0; i < w->n; i++)
	{
		/* a copied database makes a flush of its own */
		OK(wait_ingested(w->branches[i]));
		check_no_strays_in(w->branches[i]->tl);
	}
}

/* ---- the store ---- */

static inline PsError *
has_crashed(void *arg)
{
	return fault_has_crashed() ? cancel_error(CANCEL_BY_CLIENT, NULL) : NULL;
}

static const CancelCheck model_cancel = {has_crashed, NULL};

/* The WAL that the store has is what the model has; after a crash a bit of it may be missing, or a checkpoint be new. */
static inline void
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
		if (w->pending.kind != PENDING_GENERATION || w->pending.branch != b || !state.shutdown || state.end != info.flushed_lsn)
			wrong(b, info.flushed_lsn, "WAL ends here, where no record ends that was sent; the one before ends at %X/%X, all at %X/%X",
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

/* The branch is in use, and open, until let_go(). */
static inline PsError *
take(World *w, ModelBranch *b)
{
	if (b->tl == NULL)
		PS_TRY(store_find(w->s.store, &test_tenant, &b->id, &b->tl));
	if (b->unsettled)
		settle_wal(w, b);
	return NULL;
}

/* The tenant is detached, or deleted, only if that was being done; then it is attached, as it could be all the time. */
static inline void
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
		}
	store_list_tenants_free(list, n);
}

/* A branch is in the trash only if it was being put there, or taken out; then it is taken out. */
static inline void
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
static inline void
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

/* A look at what the store has: branches, names, the end of WAL; all as the model has it, but for what was being done. */
static inline void
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

static inline void
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

static inline void
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
static inline void
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
	settle(w);
}

/* After a crash the compute's WAL that did not arrive is sent again; or it is gone, as the compute is. */
static inline void
forget_unsent(World *w)
{
	for (int i = 0; i < w->n; i++)
		if (!w->branches[i]->unsettled)
			model_cut(w->branches[i], w->branches[i]->acked);
}

/* ---- operations ---- */

static inline ModelBranch *
random_branch(World *w)
{
	return w->branches[rnd32(w, w->n)];
}

static inline PsError *
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

static inline PsError *
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

static inline PsError *
sync_receiver(ModelBranch *b)
{
	XLogRecPtr flushed;

	PS_TRY(wal_receiver_sync(b->receiver, &flushed));
	CHECK(flushed >= b->acked && b->records[model_find_record(b, flushed)].end == flushed);
	b->acked = flushed;
	return NULL;
}

/* Sends what the branch has, in pieces; torn: up to somewhere.  The receiver is connected. */
static inline PsError *
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

static inline PsError *
write_records(World *w, ModelBranch *b, int n, bool torn)
{
	PS_TRY(connect_receiver(w, b));
	while (n-- > 0)
		put_random_record(w, b);
	return send_wal(w, b, torn);
}

/* Where a branch that is asked for at an LSN begins. */
static inline void
find_origin(ModelBranch **parent, XLogRecPtr *lsn)
{
	while ((*parent)->parent != NULL && *lsn < (*parent)->start)
		*parent = (*parent)->parent;
	*lsn = (*parent)->records[model_find_record(*parent, Min(*lsn, (*parent)->acked))].end;
}

static inline void
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
static inline PsError *
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

static inline PsError *
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

/* Into the trash and out again; upkeep: that in which it begins is looked after meanwhile, and nothing is lost for it. */
static inline PsError *
trash_branch(World *w, ModelBranch *b, bool upkeep)
{
	Branch *removed;
	char name[TIMELINE_NAME_MAX + 1];
	Timeline *tl;
	PsError *err;

	w->pending = (Pending) {.kind = PENDING_TRASH, .branch = b};
	if (has_children(w, b))
	{
		FAILS(store_trash_branch(w->s.store, b->name, "test", NULL, &removed), PS_SQLSTATE_STATE, "other branches begin in");
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

static inline PsError *
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
static inline PsError *
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
		FAILS(store_replace_branch(w->s.store, p->name, parent->tl, lsn, true, &model_cancel, old_name), PS_SQLSTATE_STATE,
			  "other branches begin in");
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

static inline PsError *
keep_branch(World *w, ModelBranch *b, bool all)
{
	PS_TRY(take(w, b));
	return maintain_timeline(b->tl, all);
}

/* Nobody uses the branch any more; it is closed, now or when the idle thread finds it, if all of it is in files. */
static inline void
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
	if (branch->life == BRANCH_OPEN && branch->uses == 0 && timeline_is_settled(branch->open) && (!store->has_idle_thread || rnd32(w, 2) == 0))
	{
		store_close_branch(store, branch);
		w->closed++;
	}
	pthread_mutex_unlock(&store->lock);
}

static inline PsError *
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

static inline PsError *
attach_tenant(World *w)
{
	char id[PS_ID_TEXT];

	PS_TRY(store_attach_tenant(w->s.store, rnd32(w, 2) == 0 ? random_branch(w)->name : ps_id_format(&test_tenant, id), true));
	w->pending.kind = PENDING_NOTHING;
	return NULL;
}

/* The moment of some commit, or just before it: the LSN is that of the model, or it may be gone. */
static inline PsError *
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
		wrong(b, expected, "the LSN at the time %lld is %X/%X of \"%s\"", (long long) when, LSN_FORMAT_ARGS(lsn), timeline_name(tl));
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

static inline void
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

/* ---- beginning and end ---- */

static inline void
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

static inline void
world_begin(World *w, uint64 random)
{
	History h;
	ModelBranch *b;

	/* in memory: files come and go all the time, and a disk may take long over each */
	store_template = "/dev/shm/t_model.XXXXXX";
	memset(w, 0, sizeof(*w));
	w->random = random;
	w->next_seed = 1;
	history_init(&h, random);
	store_make(&w->s, &h);
	store_close(w->s.store);
	b = model_add(w, "main", &test_timeline, NULL, h.gen.pos);
	b->gen.prev = h.gen.prev;
	b->now = now_timestamp() - 30 * USECS_PER_DAY;
	add_place(b, h.gen.records[0].start, h.gen.pos, 1000);
	model_put(b, KEY_DB, h.gen.pos, 1, 0);
	history_free(&h);
	fault_begin(w->s.dir, random);
	OK(store_open(&w->s.config, &w->s.store));
	settle(w);
}

static inline void
world_end(World *w)
{
	world_close(w);
	fault_end();
	remove_tree(w->s.dir);
	while (w->n > 0)
		model_remove(w, w->branches[0]);
}

#endif /* MODEL_H */
