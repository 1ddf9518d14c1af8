/*
 * model.h
 *	  For tests: a naive model of a store with branches, and the operations on
 *	  the store and the model together.
 *
 * The model is one array of versions for each key of each branch.  Each
 * operation is done on the store, then on the model if it succeeded; one that
 * failed, or during which the store crashed (fault_fs.h), must have been done
 * completely or not at all: which of the two is determined from the store.
 *
 * Operations return errors of the store; a wrong result stops the program.
 */
#ifndef MODEL_H
#define MODEL_H

#include "fault_fs.h"
#include "ingest/ingest_impl.h"
#include "store/store_impl.h"
#include "timeline_util.h"

#define MODEL_NREL   8
#define MODEL_NBLOCK 64

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
	KEY_BLOCK = 0,                                                  /* value: seed */
	KEY_SIZE = KEY_BLOCK + NDB * MODEL_NREL * NFORK * MODEL_NBLOCK, /* value: blocks + 1 */
	KEY_DB = KEY_SIZE + NDB * MODEL_NREL * NFORK,
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
	long closed; /* branches that were not in use */
	long detached;
	long evicted; /* layers */
	long files;   /* most layer files of a branch */
	int level;    /* highest level */
} World;

extern uint32 rnd32(World *w, uint32 n);
extern int key_block(int db, int rel, int fork, int blk);
extern int key_size(int db, int rel, int fork);
extern Version model_get(const ModelBranch *b, int key, XLogRecPtr lsn);
extern void model_put(ModelBranch *b, int key, XLogRecPtr lsn, uint32 value, XLogRecPtr page_lsn);
extern uint32 model_now(const ModelBranch *b, int key);
extern int model_find_record(const ModelBranch *b, XLogRecPtr lsn);
extern void add_place(ModelBranch *b, XLogRecPtr start, XLogRecPtr end, TransactionId next_xid);
extern void record_done(World *w, ModelBranch *b, TransactionId next_xid);
extern void model_cut(ModelBranch *b, XLogRecPtr lsn);

/* ---- random records ---- */
extern void put_db_copy(World *w, ModelBranch *b, int from, int to);
extern void put_random_record(World *w, ModelBranch *b);

/* ---- branches of the model ---- */
extern ModelBranch *model_add(World *w, const char *name, const PsId *id, ModelBranch *parent, XLogRecPtr start);
extern void model_remove(World *w, ModelBranch *b);
extern bool has_children(const World *w, const ModelBranch *b);
extern ModelBranch *model_named(const World *w, const char *name);

/* ---- what the store may have removed ---- */
extern XLogRecPtr model_moment(const ModelBranch *b, TimestampTz when, XLogRecPtr upto);
extern TimestampTz now_timestamp(void);
extern void model_move_window(World *w, ModelBranch *b);

/* ---- comparing ---- */
extern void wrong(const ModelBranch *b, XLogRecPtr lsn, const char *fmt, ...) pg_attribute_printf(3, 4);
extern PsError *check_state(const ModelBranch *b, XLogRecPtr lsn);
extern void check_refused(const ModelBranch *b, XLogRecPtr lsn, PsError *err);
extern XLogRecPtr random_lsn(World *w, const ModelBranch *b, XLogRecPtr from);
extern PsError *wait_ingested(const ModelBranch *b);
extern PsError *check_branch(World *w, ModelBranch *b, int n, bool all);

/* ---- files ---- */
extern void check_no_strays(World *w);

/* ---- the store ---- */
extern const CancelCheck model_cancel;
extern void settle_wal(World *w, ModelBranch *b);
extern PsError *take(World *w, ModelBranch *b);
extern void attach_source(World *w);
extern void settle(World *w);
extern void let_go(ModelBranch *b);
extern void world_close(World *w);
extern void world_restart(World *w, FaultLoss loss, uint32 crash_percent, void (*change)(World *w));
extern void forget_unsent(World *w);

/* ---- operations ---- */
extern ModelBranch *random_branch(World *w);
extern PsError *new_generation(World *w, ModelBranch *b);
extern PsError *connect_receiver(World *w, ModelBranch *b);
extern PsError *write_records(World *w, ModelBranch *b, int n, bool torn);
extern PsError *create_branch(World *w, ModelBranch *parent, XLogRecPtr lsn);
extern PsError *delete_branch(World *w, ModelBranch *b);
extern PsError *trash_branch(World *w, ModelBranch *b, bool upkeep);
extern PsError *rename_branch(World *w, ModelBranch *b);
extern PsError *replace_branch(World *w, ModelBranch *b, ModelBranch *parent, XLogRecPtr lsn, bool childless);
extern PsError *keep_branch(World *w, ModelBranch *b, bool all);
extern void evict_files(World *w, ModelBranch *b);
extern void leave_branch(World *w, ModelBranch *b);
extern PsError *detach_tenant(World *w);
extern PsError *attach_tenant(World *w);
extern PsError *check_moment(World *w, ModelBranch *b);
extern void note_files(World *w);

/* ---- beginning and end ---- */
extern void set_small_sizes(World *w);
/* source: layer files are put there, and evicted, by evict_files(); NULL: they are not */
extern void world_begin(World *w, uint64 random, struct FakeSource *source);
extern void world_end(World *w);

#endif /* MODEL_H */
