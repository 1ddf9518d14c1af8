/*
 * timeline_util.h
 *	  For tests: a store in a directory, a branch that begins empty, WAL for it
 *	  (wal_history.c), and a naive model of what the branch contains after each
 *	  record.
 *
 * The WAL changes pages by full-page images only, so that no redo helper is
 * needed.  It also creates, truncates and drops relations, copies and drops
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
#include "layer/layer_writer.h"
#include "sqlstate.h"
#include "pg/relsize.h"
#include "ingest/ingest.h"
#include "maintain/maintain.h"
#include "pg/relsize.h"
#include "read/read.h"
#include "store/store.h"

/* These stop the whole program, even in a thread or a child process, where cmocka's do not work. */
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
#define NREL         4
#define NBLOCK       16
#define SPC          1663
#define FIRST_DB     5
#define FIRST_REL    1000

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
	struct FakeSource *source; /* has the layer files that are not in the store (fake_source.h); NULL: all are there */
} TestStore;

extern const PsId test_tenant;
extern const PsId test_timeline;
extern int test_image_size;        /* bytes of a page that are not its hole */
extern const char *store_template; /* for mkdtemp(): where stores are created */
extern uint32 next_random(uint64 *state, uint32 n);

/* ---- contents ---- */
extern void make_page(uint32 seed, XLogRecPtr lsn, char *page);
extern void make_relmap(uint32 seed, char map[512]);
extern PsRel model_rel(int db, int rel);

/* ---- WAL ---- */
extern Model *history_now(History *h);
extern Model *history_next(History *h);

/* Append a record to WAL. */
extern void gen_main_record(Gen *gen, RmgrId rmid, uint8 info, TransactionId xid, const void *data, uint32 len);
extern void gen_images(Gen *gen, int db, int rel, int fork, const uint32 *blks, int n, uint32 first_seed);
extern void gen_create(Gen *gen, int db, int rel);
extern void gen_truncate(Gen *gen, int db, int rel, uint32 nblocks);
extern void gen_commit(Gen *gen, TransactionId xid, TimestampTz when, bool abort, int db, int rel);
extern void gen_relmap(Gen *gen, int db, uint32 seed);
extern void gen_db_copy(Gen *gen, int from, int to);
extern void gen_db_drop(Gen *gen, int db);

/* Append a record to a history, and its effects to the model. */
extern void add_main_data(History *h, RmgrId rmid, uint8 info, TransactionId xid, const void *data, uint32 len);
extern void add_images(History *h, int db, int rel, int fork, const uint32 *blks, int n);
extern void add_truncate(History *h, int db, int rel, uint32 nblocks);
extern void add_commit(History *h, int db, int rel);
extern void add_relmap(History *h, int db);
extern void add_db_copy(History *h, int from, int to);
extern void add_switch(History *h);
extern void add_random_record(History *h);

/* The history of a new branch begins with one shutdown checkpoint. */
extern void history_begin(History *h, uint64 random);
extern void history_end(History *h);
extern int history_find(const History *h, XLogRecPtr lsn);

/* ---- the store ---- */
extern void store_add_seed(TestStore *s, const History *h, const PsId *tenant, const PsId *timeline, const char *name,
						   Timeline **tl);
extern void store_make(TestStore *s, History *h);
extern PsError *store_try_open(TestStore *s);
extern void store_reopen(TestStore *s);
extern void remove_tree(const char *dir);
extern const char *store_path(const TestStore *s, const char *name, char path[512]);

/* While it is blocked, the manifest can be neither appended to nor replaced: a directory has its name. */
extern void block_manifest(const TestStore *s, bool block);
extern PsError *push(WalReceiver *receiver, const History *h, XLogRecPtr from, XLogRecPtr to, uint64 *random,
					 XLogRecPtr *flushed);

/* ---- comparing ---- */
extern void compare_at(Timeline *tl, const History *h, XLogRecPtr lsn);
extern bool compare_if_kept(Timeline *tl, const History *h, XLogRecPtr lsn);
extern void compare(Timeline *tl, const History *h, XLogRecPtr end, int n, uint64 *random);

#endif /* TIMELINE_UTIL_H */
