/*
 * timeline_impl.h
 *	  The inside of stores, tenants and timelines: for the files that work on
 *	  them (store.c, timeline.c, generation.c, ingest/ingest.c, ingest/receiver.c,
 *	  read/, keep/), nobody else.
 *
 * Locks, in the order in which they may be taken (README.md has the whole
 * list):  Store.lock, Timeline.generation_lock, Timeline.receive_lock,
 * Timeline.manifest_lock, Timeline.lock.
 *
 * Some fields are changed only while two of these are held.  Either of the two
 * then suffices to look at them.
 */
#ifndef PS_TIMELINE_IMPL_H
#define PS_TIMELINE_IMPL_H

#include "base/clock.h"
#include "timeline/arrivals.h"
#include "pg/relsize.h"
#include "base/sync.h"
#include "timeline/pins.h"
#include "timeline/timeline.h"
#include "timeline/timeline_env.h"

/* Most layers in memory that wait to be written; then ingest waits. */
#define MAX_FROZEN 3

/*
 * What a reader looks at: an immutable set with a count of references, swapped
 * by pointer under Timeline.lock.  Newest first: open, frozen[0], frozen[1], …, map.
 */
typedef struct LayerSet
{
	atomic_int refcount;
	Layer *open;
	int nfrozen;
	Layer *frozen[MAX_FROZEN];
	LayerMap *map;
} LayerSet;

/*
 * Belongs to the connection that opened it, which frees it.  It may write as
 * long as Timeline.receiver points to it.
 */
struct WalReceiver
{
	Timeline *tl; /* fixed, as generation */
	uint64 generation;
	WalDecoder *decoder;       /* under receive_lock, as failed */
	PsError *failed;           /* after a bad record nothing is taken any more */
	int64 owed_us;             /* for what was taken and not waited for; of the connection's thread */
	atomic_bool superseded;    /* set under receive_lock, read by any thread */
	time_t since;              /* when it was opened; fixed */
	const CancelCheck *client; /* under receive_lock: asked by any thread whether the client has gone; NULL: not known */
};

/*
 * A database that was copied as a whole, by the record from start to end.  Until
 * maintain/db_copy.c has written its pages, what they were at start is kept for its
 * reads, and what it was itself at end for that work.
 */
typedef struct DbCopy
{
	XLogRecPtr start;
	XLogRecPtr end;
	Oid spc;
	Oid db;
	bool done; /* the next manifest does not have it */
} DbCopy;

/* What the threads of store/upkeep.c do: some the one, some the other. */
typedef enum UpkeepKind
{
	UPKEEP_LEVEL0, /* merges of what was flushed, which writers wait for */
	UPKEEP_ALL,
	UPKEEP_KINDS
} UpkeepKind;

/* For what the WAL of a timeline may wait. */
typedef enum WaitKind
{
	WAIT_FOR_MEMORY, /* ingest, until layers in memory are written (memory_budget.h) */
	WAIT_FOR_INGEST, /* the receiver, until ingest has gone on (ingest/receiver.c) */
	WAIT_FOR_MERGES, /* the receiver, which may only be slowed */
	WAIT_FOR_ROOM,   /* the receiver, until there is room on the disk; serve/wal_push.c logs that */
	WAIT_KINDS
} WaitKind;

typedef struct Wait
{
	int64 since; /* clock_now_ms(); 0: it does not wait */
	bool is_logged;
	char text[160]; /* "" until it has lasted for a while */
} Wait;

/*
 * The name of a branch, which changes while others use it: what it was before stays
 * valid until the end.  Changed under Store.lock; read without.
 */
typedef struct TimelineName
{
	char *_Atomic now; /* "": not known */
	char **before;
	int nbefore;
} TimelineName;

/* What upkeep remembers of its last check, also while the timeline is closed.  Under Timeline.upkeep_lock. */
typedef struct MaintainMemory
{
	XLogRecPtr images_lsn; /* all parts were checked, for images that are due, at this LSN */
	uint64 gc_number;      /* files from this number on are newer than the last search for garbage */
	int64 gc_time;         /* of that search, clock_now_ms() */
	int64 room_warned;     /* when the log said last that there is no room for a merge, clock_now_ms(); 0: never */
} MaintainMemory;

/*
 * What a timeline is, whether it is open or not, and what outlives its closing.
 * Belongs to the branch (store/branch.h), which hands it in when it opens the
 * timeline.
 */
typedef struct TimelineSpec
{
	/* fixed */
	PsId tenant;
	PsId id;
	uint64 cache_id; /* in the page cache: no other timeline ever has it */
	char *dir;       /* .../timelines/<id> */
	uint64 system_identifier;
	uint32 segment_size;
	uint32 data_checksum_version;
	XLogRecPtr start_lsn; /* of its first image layers, or where it branches off */
	bool has_replaced;    /* as Manifest has it */
	PsId replaced;

	/* these have their own rules */
	LayerSpace space; /* .../layers */
	TimelineName name;
	Pins *pins;
	MaintainMemory maintained;

	/* of the thread that opens or closes it */
	uint64 *damaged; /* numbers of files that were damaged when it was closed */
	int ndamaged;
} TimelineSpec;

struct Timeline
{
	/* fixed */
	TimelineSpec *spec;
	TimelineEnv *env;
	Timeline *ancestor; /* whose history up to start_lsn is its own; NULL: none; open as long as this one is */
	WalSegments *wal;
	int marker_fd;                 /* of the file "flushed" (ingest/receiver.c), or -1; written under receive_lock */
	Arrivals *arrivals;            /* noted by the ingest thread; has a lock of its own */
	atomic_bool ancestor_is_there; /* the ancestor has been ingested up to start_lsn (read/plan.c) */

	/* held while a generation is made: one at a time */
	pthread_mutex_t generation_lock;

	/* held while WAL is written or the receiver changes */
	pthread_mutex_t receive_lock;
	WalReceiver *receiver; /* the one that may write; NULL: none */

	/* held while the manifest is written and what it says changes */
	pthread_mutex_t manifest_lock;
	char saved_name[TIMELINE_NAME_MAX + 1]; /* what manifests have: for a moment not "name" */
	Layer **in_doubt;                       /* files that the manifest on disk may name, and the map does not (timeline_save()) */
	int nin_doubt;

	/*
	 * Short, never held during I/O: protects all that follows.  The fields of
	 * the first group are changed under manifest_lock and lock, those of the
	 * second under receive_lock and lock, the others under lock alone.
	 */
	pthread_mutex_t lock;
	pthread_cond_t changed;        /* an LSN, stopping or failed changed; made with clock_cond_init(), as the next */
	pthread_cond_t layers_changed; /* layers or stopping changed */

	uint64 generation;
	char owner[OWNER_SIZE];
	XLogRecPtr disk_consistent_lsn; /* and the map in layers */

	XLogRecPtr received_lsn;
	XLogRecPtr flushed_lsn;
	XLogRecPtr flushed_prev; /* start of the record that ends at flushed_lsn */

	XLogRecPtr ingested_lsn;
	WalState state; /* at ingested_lsn */
	LayerSet *layers;
	CancelReason stopping; /* CANCEL_NONE: it goes on; set once */
	PsError *failed;       /* why ingest stopped; set once */
	bool unwritable;       /* its layers in memory can never be written, so failed is set, too (ingest/flush.c) */
	bool ingest_ended;     /* the ingest thread touches nothing any more */
	bool forgotten;        /* unwritable layers were given back: what is after ingested_lsn, which fell, cannot be read */
	Wait waits[WAIT_KINDS];
	int level0;                            /* files of level 0 in layers->map */
	char flush_error[256];                 /* why the last flush, or copy of a database, failed; "" if it did not */
	char upkeep_errors[UPKEEP_KINDS][256]; /* the same of each kind of upkeep */
	char files_missing[256];               /* layer files that were not there when it was opened; "" if all were */
	struct Damage *damage;                 /* pages that could not be made (read/damage.c); NULL: none */
	char wal_error[256];                   /* what was wrong with WAL when it was verified last */
	MemoryUser memory;                     /* of its layers; it is a user of the budget while it is open */
	DbCopy *copies;                        /* each with its pins (PIN_COPY); those whose record is in layer files are in the manifest */
	int ncopies;

	/* of the thread that opens or closes the timeline */
	pthread_t ingest_thread;
	pthread_t flush_thread;
	int nthreads; /* of these two that were started */

	/* held while layer files are merged, made or removed (store/upkeep.c): outside of all other locks of a timeline */
	pthread_mutex_t upkeep_lock;
	pthread_mutex_t level0_lock; /* while files of level 0 are taken away; that alone suffices to merge them */

	/* the ingest thread's own (ingest/ingest.h) */
	struct Ingest *ingest;
};

/* For messages; valid as long as the timeline is open. */
static inline const char *
timeline_name(const Timeline *tl)
{
	return tl->spec->name.now;
}

/* The settings that are in force. */
static inline const Config *
timeline_config(const Timeline *tl)
{
	return env_config(tl->env);
}

/* ---- timeline.c ---- */

/*
 * A Timeline that is about to be opened: no WAL, no layers, no threads.
 * saved_name: the name that the next manifest is to have.
 */
extern Timeline *timeline_create(TimelineSpec *spec, TimelineEnv *env, Timeline *ancestor, const char *saved_name);

/* Frees what timeline_create() made, and the layers; nobody uses it, and what other folders added is freed already. */
extern void timeline_free(Timeline *tl);

extern void timeline_stop(Timeline *tl, CancelReason reason); /* tells the threads to end, waits for nothing */
extern PsError *timeline_stopping_error(const Timeline *tl);  /* of one that is stopping; caller holds Timeline.lock */
extern bool timeline_is_settled(Timeline *tl);                /* open, but nothing is in memory alone, and nothing is wrong */
extern LayerSet *timeline_layers(Timeline *tl);               /* a reference */

/*
 * The same without what is in memory, for who works on files: a layer in memory
 * takes it until its last reference goes, and that work may take hours.
 */
extern LayerSet *timeline_files(Timeline *tl);
extern LayerSet *layer_set_files(const LayerSet *set);

/* How many files of the map are known to be damaged, and the name of the first. */
extern int layers_damaged(const LayerMap *map, char name[LAYER_NAME_MAX]);

/* What is older is in its files. */
extern XLogRecPtr layer_set_memory_start(const LayerSet *set);

/* The same for who reads at an LSN: an error if that may be gone.  What the set has is there as long as it is referenced. */
extern PsError *timeline_layers_at(Timeline *tl, XLogRecPtr lsn, LayerSet **set);
extern void layer_set_unref(LayerSet *set);
extern LayerSet *layer_set_create(Layer *open, Layer *const *frozen, int nfrozen, LayerMap *map); /* references are taken over */

/*
 * Both put a new set of layers in place and return the old one, to be given
 * back by layer_set_unref() when Timeline.lock, which the caller holds, is
 * released: freeing a layer takes long.  timeline_set_map() takes the map over
 * and drops the oldest "written" frozen layers; it also needs manifest_lock.
 */
extern LayerSet *timeline_set_layers(Timeline *tl, LayerSet *set);
extern LayerSet *timeline_set_map(Timeline *tl, LayerMap *map, int written);

/* Waits for a condition of the timeline; up to ms.  Caller holds Timeline.lock. */
extern void timeline_wait(Timeline *tl, pthread_cond_t *cond, int64 ms);

/*
 * The caller waits for what the text tells ("… to be …"), and calls this again
 * and again.  When the wait has lasted for a second timeline_info() tells of it until
 * timeline_end_wait(); after ten seconds it is logged, once.  Caller holds Timeline.lock.
 */
extern void timeline_report_wait(Timeline *tl, WaitKind kind, const char *fmt, ...) pg_attribute_printf(3, 4);
extern void timeline_end_wait(Timeline *tl, WaitKind kind);

/* Ingest or flush cannot go on: remembers why (takes err), wakes everybody. */
extern void timeline_fail(Timeline *tl, PsError *err);
extern PsError *timeline_failure(Timeline *tl); /* a copy of it as an error to return; caller holds Timeline.lock */

/*
 * Until timeline_unhold_history() all that can be read now stays readable, from
 * the LSN on that is returned: for who looks for an LSN in all of it.
 */
extern XLogRecPtr timeline_hold_history(Timeline *tl);
extern void timeline_unhold_history(Timeline *tl, XLogRecPtr from);

/* A database was copied: what that needs is kept from now on. */
extern void timeline_add_copy(Timeline *tl, const DbCopy *copy);

/* Those of the manifest, and no others: the timeline is being loaded, or opened. */
extern void timeline_set_copies(Timeline *tl, const DbCopy *copies, int n);

/* One whose pages are to be written, and can: its record is in layer files; false: there is none. */
extern bool timeline_next_copy(Timeline *tl, DbCopy *copy);

/* The next manifest does not have it, or does after all.  Caller holds Timeline.manifest_lock. */
extern void timeline_mark_copy(Timeline *tl, const DbCopy *copy, bool done);

/* What it needed need not be kept any more. */
extern void timeline_remove_copy(Timeline *tl, const DbCopy *copy);

/* ---- manifest.c ---- */
typedef struct Manifest
{
	PsId tenant;
	PsId timeline;
	char name[TIMELINE_NAME_MAX + 1];
	uint64 system_identifier;
	uint32 segment_size;
	uint32 data_checksum_version;
	bool has_ancestor;
	PsId ancestor;
	bool has_replaced; /* it was made in the place of a branch whose name it had or has */
	PsId replaced;
	XLogRecPtr start_lsn;
	XLogRecPtr disk_consistent_lsn;
	XLogRecPtr gc_cutoff;
	uint64 generation;
	char owner[OWNER_SIZE];
	DbCopy *copies;
	int ncopies;
	LayerInfo *layers;
	int nlayers;
} Manifest;

extern PsError *manifest_read(const char *dir, Manifest *m);

/* The one before: what never changes is as in the newest, the name and all else may be older. */
extern PsError *manifest_read_old(const char *dir, Manifest *m);
extern PsError *manifest_write(const char *dir, const Manifest *m, Outcome *outcome);
extern PsError *manifest_write_new(const char *dir, const Manifest *m, bool sync);
extern PsError *manifest_remove_stray(const char *dir);
extern void manifest_free(Manifest *m);

/*
 * Writes the manifest of an open timeline with what is given.  Caller holds
 * Timeline.manifest_lock, so that manifests follow each other as what they say
 * does, and changes the fields after a success.  add: files of the map that no
 * manifest has named yet.  After an error they are removed, with the last
 * reference; but with OUTCOME_UNKNOWN only when the next manifest is durable, or
 * when the timeline is opened the next time and its manifest does not name them.
 */
extern PsError *timeline_save(Timeline *tl, LayerMap *map, XLogRecPtr disk_consistent_lsn, uint64 generation,
							  const char *owner, Layer *const *add, int nadd);

/*
 * Writes a manifest with nothing new except the name.  later: after an error, too,
 * the next manifest is to have it.  Takes Timeline.manifest_lock.
 */
extern PsError *timeline_save_name(Timeline *tl, const char *name, bool later, Outcome *outcome);

/* ---- ingest/ingest.c ---- */
extern PsError *ingest_create(Timeline *tl, const WalState *state);
extern void ingest_free(Timeline *tl);

/* The layers in memory are gone.  Caller holds Timeline.lock; Timeline.ingest_ended is set. */
extern void ingest_forget(Timeline *tl);
extern void *ingest_main(void *tl);

/* ---- ingest/receiver.c ---- */
extern PsError *receiver_open_marker(Timeline *tl, XLogRecPtr *lsn);
extern PsError *receiver_sync_marker(Timeline *tl, XLogRecPtr lsn);
extern void receiver_close_marker(Timeline *tl);
extern XLogRecPtr receiver_look_at_marker(const char *dir);

/* Does a compute stream?  One whose connection has ended does not, although its thread may still be at it.  Caller holds receive_lock. */
extern bool receiver_is_connected(const Timeline *tl);

/* WAL is durable up to lsn: says so to all.  Caller holds receive_lock, not Timeline.lock. */
extern PsError *receiver_set_flushed(Timeline *tl, XLogRecPtr lsn, XLogRecPtr prev);

/* ---- ingest/flush.c ---- */
extern void *flush_main(void *tl);

/* ---- read/plan.c ---- */

/*
 * What a read looks at: the layers of a timeline, then those of its ancestors,
 * each up to where the one before branches off.  One thread's.  References to
 * values (ValueRef) are valid as long as it is open.
 */
typedef struct ReadLevel
{
	Timeline *tl;
	LayerSet *set;
	XLogRecPtr lsn; /* nothing later counts */
} ReadLevel;

typedef struct ReadView
{
	Timeline *tl;
	int n;
	ReadLevel *levels;
	ReadLevel few[2]; /* levels, if they are not more */
} ReadView;

/* Everything up to lsn; an error if that may be gone.  After an error there is nothing to close. */
extern PsError *view_open(ReadView *view, Timeline *tl, XLogRecPtr lsn);
extern void view_close(ReadView *view);

/*
 * For who keeps it open for hours: lets go of the layers in memory that are not
 * needed up to *latest, the last LSN at which all of the timeline is in files.
 */
extern void view_keep_files(ReadView *view, XLogRecPtr *latest);

/*
 * The versions that keys are made of.  It does not wait for the disk key by key
 * and layer by layer, but once for all that it misses, and is then made again:
 *
 *	  plan_init()
 *	  do
 *		  err = plan_key() for each key, up to an error
 *	  while (plan_again())
 *	  plan_free()
 *
 * While it is not made for the last time, what plan_key() gives means nothing.
 */
typedef struct Plan
{
	const ReadView *view;
	ValueList versions; /* of all keys */
	/* inside (read/prefetch.c) */
	LayerMissing missing;
	int keys; /* that were planned */
	int rounds;
} Plan;

/* Adds the versions of a key with lsn_min <= LSN <= lsn, newest first, until one needs nothing older. */
extern PsError *plan_key(Plan *plan, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn);

/* The plan of one key, from plan_init() on. */
extern PsError *plan_one_key(Plan *plan, const ReadView *view, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn);

/* ---- read/prefetch.c ---- */
extern void plan_init(Plan *plan, const ReadView *view);
extern bool plan_again(Plan *plan, PsError **err); /* true: err is NULL, there are no versions */
extern void plan_free(Plan *plan);

/* ---- read/damage.c ---- */

/* A page that could not be made; of an error that is no damage (ps_error_is_damage()) nothing is noted. */
extern void damage_note(Timeline *tl, const PsKey *key, const PsError *err);

/* Forgets those that can be read now; reads them. */
extern void damage_look_again(Timeline *tl);

/* Which there are, "" if there are none.  Caller holds Timeline.lock. */
extern void damage_text(const Timeline *tl, char *out, size_t size);
extern void damage_free(Timeline *tl);

/* ---- read/pitr.c ---- */

/*
 * The newest state saved from "oldest" to "newest" that no commit later than
 * "when" has gone before; *found false: there is none.
 */
extern PsError *timeline_saved_state_before(Timeline *tl, TimestampTz when, XLogRecPtr oldest, XLogRecPtr newest,
											WalState *state, bool *found);

/* ---- read/read.c, read/io.c ---- */
extern PsError *read_relsize(const ReadView *view, PsRel rel, ForkNumber fork, XLogRecPtr lsn, bool *exists, RelSize *size);

/* Reads whatever a reference is of, into buf.  Of a record, *record_start. */
extern PsError *read_ref(const ReadView *view, const ValueRef *ref, StringInfo buf, XLogRecPtr *record_start);

#endif /* PS_TIMELINE_IMPL_H */
