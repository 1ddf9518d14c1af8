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
#include "pg/decoder.h"
#include "timeline/arrivals.h"
#include "layer/layer_missing.h"
#include "pg/relsize.h"
#include "base/fs.h"
#include "timeline/timeline.h"
#include "timeline/timeline_env.h"
#include "store/trash_mark.h"

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

/* attach.c */
typedef enum TenantLife
{
	TENANT_ATTACHED,
	TENANT_CHANGING, /* a thread detaches or attaches it */
	TENANT_DETACHED  /* none of its timelines is in the store */
} TenantLife;

struct Tenant
{
	/* fixed once the tenant can be found in the store */
	PsId id;
	Store *store;
	char *dir; /* STORE/tenants/<id> */

	bool deleted; /* DETACHED, and in the trash; under Store.lock, as the next two */
	TrashMark trash_mark;
	TenantLife life; /* under Store.lock; but for ATTACHED ones nobody begins to use a timeline */

	int claim_fd; /* tenant_claim.c: there while it has timelines in the store; or one of the next two */
#define TENANT_NOT_CLAIMED  (-1)
#define TENANT_CLAIM_FAILED (-2) /* which has been logged */

	/* fixed while it has timelines in the store */
	uint64 system_identifier;
	uint32 segment_size; /* 0: tenant.json cannot be read */

	/*
	 * Of its timelines; its redo pool is there while one is open, keep_all is the
	 * number of its timelines in the store of which nobody knows where they begin:
	 * raised before others can find them, lowered when they are deleted for good.
	 */
	TimelineEnv env;
	pthread_mutex_t lock; /* held while the redo pool is made or freed; protects nopen */
	int nopen;
};

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

/* An LSN that stays readable. */
typedef struct Pin
{
	XLogRecPtr lsn;
	bool wal;     /* and so does WAL from there on */
	bool history; /* and all that is later; gc_cutoff does not pass it */
	bool imaged;  /* image files for it were thought of (maintain/images.c) */
} Pin;

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

/* store/use.c */
typedef enum TimelineState
{
	TIMELINE_CLOSED,  /* nothing of it is in memory but what the manifest says */
	TIMELINE_OPENING, /* a thread is at it */
	TIMELINE_OPEN,
	TIMELINE_CLOSING, /* as OPENING */
	TIMELINE_BROKEN   /* cannot be opened */
} TimelineState;

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

typedef struct UpkeepTurn
{
	int64 due;        /* when to look at the timeline, clock_now_ms() */
	bool quiet;       /* there is nothing to do before a flush adds a file, or a branch goes */
	bool busy;        /* a thread is at it */
	int failures;     /* how often it has failed in a row */
	int64 not_before; /* after a failure nobody can make it due earlier */
} UpkeepTurn;

struct Timeline
{
	/* fixed once the timeline is in the store */
	TimelineEnv *env;
	Tenant *tenant;
	PsId id;
	uint64 cache_id;  /* in the page cache: no timeline ever has that of another */
	char *dir;        /* .../timelines/<id> */
	LayerSpace space; /* .../layers */
	uint64 system_identifier;
	uint32 segment_size;
	uint32 data_checksum_version;
	XLogRecPtr start_lsn; /* of its first image layers, or where it branches off */
	bool origin_unknown;  /* neither manifest can be read: it has no name, start_lsn and ancestor mean nothing */
	bool has_replaced;    /* as Manifest has it */
	PsId replaced;
	Timeline *ancestor; /* whose history up to start_lsn is its own; NULL: none; open while this one is */

	char *_Atomic name; /* changes under Store.lock; "": not known */
	char **old_names;   /* what it was; freed with the timeline; under Store.lock, as what follows */
	int nold_names;
	bool name_unsaved; /* its manifest has another, or may have after a crash */
	bool changing;     /* store_begin_change() */
	bool files_stay;   /* when it is deleted: that may not last; of the thread that deletes it */
	TimelineState life;
	int users;            /* who holds it, open or not: timelines that begin in it, lists; and all that follow */
	int uses;             /* who needs it open */
	bool gone;            /* taken out of the store */
	bool in_trash;        /* its name is free, nobody begins to use it; what it needs of its ancestor stays */
	TrashMark trash_mark; /* if so */
	bool is_protected;    /* TIMELINE/protected is there */
	int64 last_used;      /* when uses fell to 0, clock_now_ms() */
	PsError *error;       /* BROKEN: why */
	TimelineInfo known;   /* not OPEN: what it was when it was closed, or as the manifest has it */
	uint64 *damaged;      /* numbers of files that were damaged when it was closed; of the thread that opens or closes it */
	int ndamaged;

	atomic_bool ancestor_is_there; /* the ancestor has been ingested up to start_lsn (read/plan.c); false until it is open */

	/* fixed while it is open */
	WalSegments *wal;
	int marker_fd;      /* of the file "flushed" (ingest/receiver.c), or -1; written under receive_lock */
	Arrivals *arrivals; /* noted by the ingest thread; has a lock of its own */

	/* held while a generation is made: one at a time */
	pthread_mutex_t generation_lock;
	pthread_mutex_t settings_lock; /* the files of branch_settings.h; a leaf */

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
	XLogRecPtr gc_cutoff;           /* before it only pins can be read */

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
	Pin *pins;                             /* in no order, some perhaps twice */
	int npins;
	DbCopy *copies; /* each with its pins; those whose record is in layer files are in the manifest */
	int ncopies;

	/* of the thread that opens or closes the timeline */
	pthread_t ingest_thread;
	pthread_t flush_thread;
	int nthreads; /* of these two that were started */

	/* held while layer files are merged, made or removed (store/upkeep.c): outside of all other locks of a timeline */
	pthread_mutex_t upkeep_lock;
	pthread_mutex_t level0_lock;     /* while files of level 0 are taken away; that alone suffices to merge them */
	XLogRecPtr images_lsn;           /* all parts were looked at, for images that are due, at this LSN */
	uint64 gc_number;                /* files from this number on are newer than the last look for garbage */
	int64 gc_time;                   /* of that look, clock_now_ms() */
	int64 room_warned;               /* when it was said that there is no room for a merge, clock_now_ms(); 0: never */
	UpkeepTurn upkeep[UPKEEP_KINDS]; /* under Upkeep.lock */

	/* the ingest thread's own (ingest/ingest.h) */
	struct Ingest *ingest;
};

/*
 * What a thread is about to put into the store, while it does the I/O for that
 * without Store.lock: nobody else gets the name, deletes the ancestor or
 * detaches the tenant meanwhile.  The thread's own; fixed while it is in the list.
 */
typedef struct Reservation
{
	const char *name;
	const Tenant *tenant;     /* NULL: a new one, or it is no timeline */
	const Timeline *ancestor; /* or NULL */
	struct Reservation *next;
} Reservation;

struct Store
{
	const Config *_Atomic config; /* swapped when settings are reloaded: see config.h */
	StoreClock *clock;            /* fixed; any thread */
	atomic_bool stopping;         /* set once, under lock */
	pthread_mutex_t lock;         /* protects the arrays, and what the entries say of it */
	Tenant **tenants;             /* they live until store_close() */
	int ntenants;
	Tenant **gone_tenants; /* that were purged: others may look at them still */
	int ngone_tenants;
	Timeline **timelines;
	int ntimelines;
	Reservation *reservations;
	int nopen;                         /* timelines that are not CLOSED or BROKEN */
	pthread_cond_t changed;            /* a state, stopping, or users or uses fell to 0; made with clock_cond_init() */
	struct Aio *aio;                   /* fixed once the store is open; any thread */
	struct Upkeep *upkeep;             /* fixed once the store is open */
	PageStore *page_cache;             /* fixed; has locks of its own */
	MemoryBudget *memory;              /* the same */
	ReadCounters reads;                /* any thread */
	atomic_int_fast64_t room_reserved; /* bytes that upkeep is about to write (maintain/room.c) */

	/* closes what nobody uses (store/use.c) */
	pthread_t idle_thread;
	bool has_idle_thread;
	pthread_cond_t idle_wake; /* nopen is no longer 0, or stopping; made with clock_cond_init() */
};

/* ---- tenant.c ---- */
extern Tenant *tenant_alloc(Store *store, const PsId *id);
extern PsError *tenant_read(Tenant *tenant); /* tenant.json */
extern PsError *tenant_write(const Tenant *tenant, const char *dir);
extern void tenant_free(Tenant *tenant);

/*
 * Makes a Timeline of each directory in TENANT/timelines: of what their
 * manifests say, all CLOSED or BROKEN; ancestors are found, and pinned.
 * problem: why none of them can be opened, or NULL.  An error that is transient
 * (ps_error_is_transient()): there is none of them then.
 */
extern PsError *tenant_load(Tenant *tenant, const PsError *problem, Timeline ***timelines, int *n);

/* The redo helpers; each success of begin is for one end. */
extern PsError *tenant_begin_use(Tenant *tenant);
extern void tenant_end_use(Tenant *tenant);

/* ---- attach.c ---- */
extern bool tenant_is_marked_detached(const Tenant *tenant);
extern PsError *tenant_detached_error(const Tenant *tenant);
extern PsError *tenant_mark_detached(const Tenant *tenant);

/*
 * A detached tenant, that is in the trash or is not, by its id or the name of a
 * branch: CHANGING on return.  Caller holds no lock.
 */
extern PsError *tenant_begin_change(Store *store, const char *name, bool deleted, Tenant **tenant);

/*
 * tenant_list.c: names, or NULL, and number of the branches of a tenant that is
 * not served, without those in the trash; *names of those that begin in no
 * other.  *found is set if one is called "wanted", unless that is NULL.
 */
extern void tenant_read_names(const Tenant *tenant, StringInfo names, int *nbranches, const char *wanted, bool *found);

/* ---- tenant_claim.c: an error if another store of this machine has the tenant in service ---- */
extern PsError *tenant_claim(Tenant *tenant);
extern void tenant_unclaim(Tenant *tenant);

/* ---- trash.c ---- */

/* The caller of these two holds Store.lock. */
extern PsError *trash_error(const Timeline *tl);                    /* that it is deleted, and how to have it back */
extern Timeline *trash_named(const Store *store, const char *name); /* the last that was deleted, or that with the id; NULL: there is none */

/* TIMELINE/protected; setting it is durable.  No lock is needed. */
extern bool trash_is_protected(const char *timeline_dir);
extern PsError *trash_set_protected(const char *timeline_dir, bool is_protected);

/* Removes what has been in the trash for long enough; called now and then, with no lock held. */
extern void trash_empty(Store *store);

/* ---- trash_tenant.c ---- */
extern void trash_empty_tenants(Store *store);

/* ---- store.c, store/add.c ---- */
extern PsError *store_list_ids(const char *path, PsId **ids, int *n); /* subdirectories that are named by an id; malloc'd */

/* The caller of what follows holds Store.lock, or opens the store. */
extern Timeline *store_named(Store *store, const char *name); /* or with the id; NULL: there is none */

/*
 * The name of a BROKEN timeline may be an old one, from the manifest before: if
 * another of these has it, it is that one's.  Of timelines that nobody can find
 * yet; the list need not be sorted, and may not be afterwards.
 */
extern void store_drop_old_names(Timeline **list, int n);
extern void store_drop_name(Timeline *tl);

/* store_named(), when nobody opens, closes or changes it; an error if there is none.  Lets the lock go meanwhile. */
extern PsError *store_named_settled(Store *store, const char *name, const CancelCheck *cancel, Timeline **tl);
extern PsError *store_no_such_branch(const Store *store, const char *name);

/* Of two with the same name, at the start: the one that was replaced gets another.  Caller does not hold the lock. */
extern PsError *store_finish_replacement(Store *store, Timeline *old);

/*
 * branch.c: another name, durably.  The caller has begun a change of the
 * timeline; the lock is let go meanwhile.
 */
extern PsError *store_set_name(Store *store, Timeline *tl, const char *new_name);

/*
 * For one that has been replaced.  It has the new name on return in any case: if
 * that cannot be written, the next manifest has it, or else the next start finds
 * two of one name, and does this with a name that it finds itself.
 */
extern void store_set_aside(Store *store, Timeline *tl, const char *new_name);

/*
 * branch.c: an error that names them, if branches begin in this one, or perhaps
 * do.  for_good: those in the trash count, too.  Caller holds Store.lock.
 */
extern PsError *store_check_no_children(const Store *store, const Timeline *tl, bool for_good);

/*
 * branch.c: moves the directory of a timeline to STORE/tmp, to be removed by
 * store_destroy_branch(), durably.  OUTCOME_UNKNOWN: the branch must not go on,
 * but its files stay.  The caller has begun a change, and holds no lock.
 */
extern PsError *store_move_away(Timeline *tl, Outcome *outcome);

/* Before names or branches change again, those are written that could not be.  Lets the lock go meanwhile. */
extern PsError *store_save_names(Store *store, const CancelCheck *cancel);

/* An error if the name is none, or a branch has it, or will have it in a moment. */
extern PsError *store_check_name_is_free(Store *store, const char *name);
extern void store_reserve(Store *store, Reservation *reservation);
extern void store_unreserve(Store *store, Reservation *reservation);
extern bool store_is_reserved(const Store *store, const char *name);
extern void store_unhold(Store *store, Timeline *tl); /* one of Timeline.users less */
extern void store_put_tenant(Store *store, Tenant *tenant);
extern void store_put_timeline(Store *store, Timeline *tl);
extern void store_forget_tenant(Store *store, Tenant *tenant);        /* of which nobody knows */
extern void store_forget_purged_tenant(Store *store, Tenant *tenant); /* frees it when the store is closed */
extern void store_forget(Store *store, Timeline *tl);                 /* nobody can find it any more */

/* Waits until nobody holds a timeline that was taken out, then closes and frees it; the lock is let go meanwhile. */
extern void store_destroy_timeline(Store *store, Timeline *tl);

/* ---- store/use.c: the caller holds Store.lock ---- */

/*
 * Waits until something of the store has changed (Store.changed), the lock let
 * go; an error if the store is stopping, or the wait is canceled.
 */
extern PsError *store_wait(Store *store, CancelWait *wait);

/*
 * A thread moves the directory of a timeline, or writes what only it may write,
 * without the lock: until it ends that, the timeline stays OPEN, CLOSED or
 * BROKEN as it is, and nobody else begins such a change.  Others may use it if
 * it is OPEN, else they wait.  Begun when nobody is at it (store_named_settled()).
 */
extern void store_begin_change(Store *store, Timeline *tl);
extern void store_end_change(Store *store, Timeline *tl);

/*
 * Makes sure that a timeline, which somebody holds, is open; it and its
 * ancestors stay open until store_end_use().  The lock is let go meanwhile.
 * cancel (or NULL): ends the wait for who opens or closes it, or the opening.
 */
extern PsError *store_begin_use(Store *store, Timeline *tl, const CancelCheck *cancel);
extern void store_end_use(Store *store, Timeline *tl, bool counts); /* counts: the time begins after which it is idle */

/* Opens a CLOSED timeline whose ancestor is open; it is used then.  Its own error, not that it is broken. */
extern PsError *store_open_timeline(Store *store, Timeline *tl, const CancelCheck *cancel);

/* Closes an OPEN timeline that nobody uses; the lock is let go meanwhile. */
extern void store_close_timeline(Store *store, Timeline *tl);
extern PsError *store_broken_error(const Timeline *tl);
extern PsError *store_start_idle_thread(Store *store);

/* The settings that are in force. */
static inline const Config *
timeline_config(const Timeline *tl)
{
	return env_config(tl->env);
}

/* ---- timeline.c, store/open.c ---- */

/*
 * What the manifest says of a timeline, CLOSED; BROKEN if that cannot be read,
 * or does not fit, or because of the problem (NULL: there is none).  Of a BROKEN
 * one the manifest before may say where it begins, and what it was called.  The
 * caller finds the ancestor, if *has_ancestor.  An error, and no timeline, if
 * that is transient.
 */
extern PsError *timeline_load(Tenant *tenant, const PsId *id, const PsError *problem, Timeline **tl, bool *has_ancestor,
							  PsId *ancestor);
extern void timeline_set_broken(Timeline *tl, PsError *err); /* takes the error over; of one that nobody else knows */
extern void timeline_free(Timeline *tl);                     /* it is not open */

/* The ancestor is open.  After an error it is as it was.  cancel: as for store_begin_use(). */
extern PsError *timeline_open(Timeline *tl, const CancelCheck *cancel);
extern void timeline_stop(Timeline *tl, CancelReason reason); /* tells the threads to end, waits for nothing */
extern PsError *timeline_stopping_error(const Timeline *tl);  /* of one that is stopping; caller holds Timeline.lock */
extern void timeline_join(Timeline *tl);                      /* the same, and waits for their end; what they use, ancestors too, stays */
extern void timeline_close(Timeline *tl);                     /* joins, and frees all but what CLOSED ones have; nobody may use it any more */
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
 * Whatever is before the horizon and is not pinned may be removed from now on:
 * it is refused to readers and to new pins.  Nothing is removed before a
 * manifest that has the new gc_cutoff.
 */
extern void timeline_begin_gc(Timeline *tl, XLogRecPtr horizon);

/*
 * Until timeline_unhold_history() all that can be read now stays readable, from
 * the LSN on that is returned: for who looks for an LSN in all of it.
 */
extern XLogRecPtr timeline_hold_history(Timeline *tl);
extern void timeline_unhold_history(Timeline *tl, XLogRecPtr from);

/*
 * What may be read, all of one moment: from *horizon on, which is not after
 * "latest", everything, and before it *points, the pins, ascending, each once; free() them.  *wal_from: where
 * the WAL that stays begins.
 */
extern void timeline_readable(Timeline *tl, XLogRecPtr latest, XLogRecPtr *horizon, XLogRecPtr **points, int *npoints,
							  XLogRecPtr *wal_from);

/* Where a branch begins, or began before the store was started: stays readable.  Of an LSN that is. */
extern void timeline_pin_branch(Timeline *tl, XLogRecPtr lsn);
extern void timeline_unpin_branch(Timeline *tl, XLogRecPtr lsn);

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

/* A branch's beginning before the cutoff that nobody has thought of images for; InvalidXLogRecPtr: there is none. */
extern XLogRecPtr timeline_pin_without_images(Timeline *tl);
extern void timeline_pin_has_images(Timeline *tl, XLogRecPtr lsn);

/* ---- store/open_layers.c ---- */

/* Remembers which files are damaged, for the time when the timeline is opened again. */
extern void timeline_keep_damaged(Timeline *tl, const LayerMap *map);

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
extern void manifest_remove_stray(const char *dir);
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

/* The same with nothing new but the name.  Caller holds Timeline.manifest_lock. */
extern PsError *timeline_save_name(Timeline *tl, const char *name, Outcome *outcome);

/* ---- store/open_layers.c ---- */

/*
 * The layers that the manifest names; files in their directory that it does not
 * name are removed, but if one is missing (Timeline.files_missing).
 */
extern PsError *timeline_open_layers(Timeline *tl, const Manifest *m, LayerMap **map);

/* The state that the layers have saved for the LSN, or for the last before it. */
extern PsError *timeline_saved_state(const Timeline *tl, const LayerMap *map, XLogRecPtr lsn, WalState *state);

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

/* ---- store/upkeep.c ---- */
typedef struct Upkeep Upkeep;

extern PsError *upkeep_start(Store *store, Upkeep **upkeep); /* also after an error *upkeep is to be stopped and freed */
extern void upkeep_stop(Upkeep *upkeep);                     /* waits for the threads; timelines were told to stop before */
extern void upkeep_free(Upkeep *upkeep);                     /* no flush thread is left, which may wake it */
extern void upkeep_wake(Upkeep *upkeep, Timeline *tl);       /* there may be something to do */
extern void upkeep_files_added(Timeline *tl);                /* TimelineEnv.on_files_added */
extern void upkeep_opened(Upkeep *upkeep, Timeline *tl);     /* somebody uses it: a good moment, if there is */
extern void upkeep_plan(Timeline *tl, bool quiet);           /* of a new one; quiet: nothing is to be done */

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
