/*
 * engine.h
 *	  The struct of an open timeline, for the folders that implement it: ingest/,
 *	  read/, maintain/, and store/, which opens and closes it.
 *
 * These folders share struct Timeline: LSNs, the set of layers, failures, and the locks and
 * conditions by which they wait for each other.  The fields are not hidden behind functions,
 * because every read of a page needs them.  What belongs to a single folder is in a struct
 * of that folder.
 *
 * Locks, in the order in which they may be acquired (src/pageserver/README.md has the whole
 * list): upkeep_lock, level0_lock, generation_lock, receive_lock, manifest_lock, lock.
 *
 * Some fields are changed only while two of these are held.  Either of the two suffices to
 * read them.
 */
#ifndef PS_TIMELINE_ENGINE_H
#define PS_TIMELINE_ENGINE_H

#include <pthread.h>

#include "base/clock.h"
#include "timeline/arrivals.h"
#include "timeline/layer_set.h"
#include "timeline/manifest_log.h"
#include "timeline/pins.h"
#include "timeline/timeline.h"
#include "timeline/timeline_env.h"

/* Why the WAL of a timeline is delayed. */
typedef enum WaitKind
{
	WAIT_FOR_MEMORY, /* ingest, until layers in memory are written (memory_budget.h) */
	WAIT_FOR_INGEST, /* the receiver, until ingest has progressed (ingest/receiver.c) */
	WAIT_FOR_MERGES, /* the receiver, which may be only slowed down */
	WAIT_FOR_UPLOAD, /* the receiver, until WAL is in object storage */
	WAIT_FOR_ROOM,   /* the receiver, until there is room on the disk; serve/wal_push.c logs it */
	WAIT_KINDS
} WaitKind;

typedef struct Wait
{
	int64 since; /* clock_now_ms(); 0: not waiting */
	bool is_logged;
	char text[256]; /* "" until the wait has lasted for a while */
} Wait;

/* WAL after the LSN has arrived at this time or later, clock_now_ms(). */
typedef struct RemoteMark
{
	XLogRecPtr lsn;
	int64 time;
} RemoteMark;

#define REMOTE_MARKS 64

/* How far WAL is in object storage: ingest/remote_wal.c.  All under Timeline.lock. */
typedef struct RemoteWal
{
	bool uploads;        /* a thread uploads WAL */
	XLogRecPtr lsn;      /* it has WAL up to here; 0: unknown */
	XLogRecPtr wanted;   /* a thread waits until it has WAL up to here */
	char error[256];     /* why the last upload failed; "": it did not */
	bool is_asleep;      /* the uploader waits for "wake" */
	pthread_cond_t wake; /* there may be WAL to upload, or stopping changed; clock_cond_init() */

	/* Called with the lock held, so it must not wait: more WAL may be acknowledged.  NULL: nobody wants to know. */
	void (*on_change)(void *arg);
	void *on_change_arg;

	/* when WAL that is not there has arrived, oldest first; none if all of it is there */
	RemoteMark marks[REMOTE_MARKS];
	int nmarks;
	int64 spacing; /* least ms between two marks */
} RemoteWal;

/* The copy of WAL in wal_copy_directory: ingest/wal_copy.c.  All under Timeline.lock. */
typedef struct WalCopy
{
	XLogRecPtr lsn;      /* it has WAL up to here, durably; 0: it has none, or that is not known */
	XLogRecPtr wanted;   /* whole records were written to this disk up to here */
	uint64 epoch;        /* raised when WAL that may be in the copy was cut off */
	char error[256];     /* why the last attempt failed; "": it did not */
	pthread_cond_t wake; /* there may be something to copy, or stopping changed; clock_cond_init() */
} WalCopy;

/*
 * The name of a branch, which may change while other threads use it: previous names stay
 * allocated until the branch is freed.  Changed under Store.lock; read without a lock.
 */
typedef struct TimelineName
{
	char *_Atomic now; /* "": unknown */
	char **before;
	int nbefore;
} TimelineName;

/* What upkeep remembers from its last check, also while the timeline is closed.  Under Timeline.upkeep_lock. */
typedef struct MaintainMemory
{
	UpkeepMarks marks; /* timeline_save_marks() puts them into the manifest */
	int64 room_warned; /* when the lack of room for a merge was logged last, clock_now_ms(); 0: never */
} MaintainMemory;

/*
 * The properties of a timeline, and the state that must survive a close.  Part of the branch
 * (store/store_impl.h), which passes it when it opens the timeline.
 */
typedef struct TimelineSpec
{
	/* fixed */
	PsId tenant;
	PsId id;
	uint64 cache_id; /* key in the page cache: never used by another timeline */
	char *dir;       /* .../timelines/<id> */
	uint64 system_identifier;
	uint32 segment_size;
	uint32 data_checksum_version;
	XLogRecPtr start_lsn; /* of its first image layers, or where it begins in its ancestor */
	bool has_replaced;    /* see Manifest */
	PsId replaced;

	/* the locks are documented at these types */
	LayerSpace space; /* .../layers */
	TimelineName name;
	Pins *pins;
	MaintainMemory maintained;

	/* owned by the thread that opens or closes it */
	uint64 *damaged; /* numbers of files that were damaged when it was closed */
	int ndamaged;
} TimelineSpec;

struct Timeline
{
	/* fixed */
	TimelineSpec *spec;
	TimelineEnv *env;
	Timeline *ancestor; /* history up to start_lsn; NULL: none; open while this one is */
	WalSegments *wal;
	int marker_fd;                 /* file "flushed" (ingest/receiver.c), or -1; written under receive_lock */
	Arrivals *arrivals;            /* written by the ingest thread; has a lock of its own */
	atomic_bool ancestor_is_there; /* the ancestor has been ingested up to start_lsn (read/plan.c) */

	/* held while a generation is started, so that only one at a time is */
	pthread_mutex_t generation_lock;

	/* held while WAL is written or the receiver changes */
	pthread_mutex_t receive_lock;
	struct WalReceiver *receiver; /* the only one that may write; NULL: none */

	/* held while the manifest is written and the fields that it contains are changed */
	pthread_mutex_t manifest_lock;
	char next_name[TIMELINE_NAME_MAX + 1]; /* for the next change; may differ from spec->name for a moment */
	ManifestLog log;
	Manifest saved;    /* what the log says, except the layers, unless log.write_whole is set */
	Layer **uncertain; /* files that the manifest on disk may name, but not the map (timeline_save.c) */
	int nuncertain;

	/*
	 * Held for short accesses, never during I/O: protects all fields up to the
	 * threads.  The first group is changed under manifest_lock and lock, the second
	 * under receive_lock and lock, the others under lock alone.
	 */
	pthread_mutex_t lock;
	pthread_cond_t changed;        /* an LSN, stopping or failed changed; clock_cond_init() */
	pthread_cond_t layers_changed; /* layers or stopping changed; clock_cond_init() */

	uint64 generation;
	char owner[OWNER_SIZE];
	XLogRecPtr disk_consistent_lsn; /* and layers->map */

	XLogRecPtr received_lsn;
	XLogRecPtr flushed_lsn;
	XLogRecPtr flushed_prev; /* start of the record that ends at flushed_lsn */

	XLogRecPtr ingested_lsn;
	WalState state; /* at ingested_lsn */
	LayerSet *layers;
	CancelReason stopping; /* CANCEL_NONE: not stopping; set once */
	PsError *failed;       /* why ingest stopped; set once */
	bool unwritable;       /* layers in memory can never be written, so failed is set, too (ingest/flush.c) */
	bool ingest_ended;     /* the ingest thread no longer accesses the layers */
	bool forgotten;        /* unwritable layers were freed, and ingested_lsn lowered: later LSNs cannot be read */
	RemoteWal remote;
	WalCopy copy;
	Wait waits[WAIT_KINDS];
	int level0;                            /* number of files of level 0 in layers->map */
	char flush_error[256];                 /* why the last flush or copy of a database failed; "": it did not */
	char upkeep_errors[UPKEEP_KINDS][256]; /* why the last upkeep of each kind failed; "": it did not */
	char files_missing[256];               /* layer files that were missing when it was opened; "": none */
	struct Damage *damage;                 /* pages that could not be reconstructed (read/damage.c); NULL: none */
	char wal_error[256];                   /* damage of WAL that the last verify found */
	MemoryUser memory;                     /* of its layers; a user of the budget while it is open */
	DbCopy *copies;                        /* pinned (PIN_COPY); in the manifest once their record is in layer files */
	int ncopies;

	/* owned by the thread that opens or closes the timeline */
	pthread_t ingest_thread;
	pthread_t flush_thread;
	int nthreads; /* how many of these were started, in this order */
	pthread_t copy_thread;
	bool has_copy_thread; /* fixed while other threads use the timeline */

	/* held by upkeep while it merges, creates or removes layer files; acquired before all other locks of a timeline */
	pthread_mutex_t upkeep_lock;
	pthread_mutex_t level0_lock; /* held while files of level 0 are removed; suffices for merging them */

	/* owned by the ingest thread (ingest/ingest_impl.h) */
	struct Ingest *ingest;
};

/* The name of the branch; valid as long as the timeline is open. */
static inline const char *
timeline_name(const Timeline *tl)
{
	return tl->spec->name.now;
}

/* The current settings. */
static inline const Config *
timeline_config(const Timeline *tl)
{
	return env_config(tl->env);
}

/* Does the store have object storage, to which WAL is uploaded as soon as it owns the tenant there? */
static inline bool
timeline_has_object_storage(const Timeline *tl)
{
	const char *url = timeline_config(tl)->remote_storage;

	return url != NULL && url[0] != '\0';
}

static inline bool
timeline_has_copy_directory(const Timeline *tl)
{
	const char *dir = timeline_config(tl)->wal_copy_directory;

	return dir != NULL && dir[0] != '\0';
}

/* ---- timeline.c ---- */

/*
 * Allocates a Timeline that is about to be opened: no WAL, no layers, no threads.
 * next_name: the name for the next change of the manifest.
 */
extern Timeline *timeline_create(TimelineSpec *spec, TimelineEnv *env, Timeline *ancestor, const char *next_name);

/*
 * Frees what timeline_create() allocated, and the layers.  No other thread uses the
 * timeline, and what other folders added has been freed.
 */
extern void timeline_free(Timeline *tl);

/* Tells the threads to end, and does not wait for them. */
extern void timeline_stop(Timeline *tl, CancelReason reason);

/* Says why the timeline is stopping, or NULL if it is not.  Caller holds Timeline.lock. */
extern PsError *timeline_stopping_error(const Timeline *tl);

/* Is all WAL in layer files, and nothing wrong, so that closing it would lose no information? */
extern bool timeline_is_settled(Timeline *tl);

/* The current set of layers; the caller releases it with layer_set_unref(). */
extern LayerSet *timeline_layers(Timeline *tl);

/*
 * Like timeline_layers(), without layers in memory.  For work on files, which may take
 * hours: a layer in memory is not freed until its last reference is released.
 */
extern LayerSet *timeline_files(Timeline *tl);

/* Reads the WAL state that the layers have for the LSN, or the last one before it. */
extern PsError *timeline_saved_state(const TimelineSpec *spec, const LayerMap *map, XLogRecPtr lsn, WalState *state);

/*
 * Like timeline_layers(), for reads at an LSN; an error if data for that may have been
 * removed.  No file of the set is removed while the set is referenced.
 */
extern PsError *timeline_layers_at(Timeline *tl, XLogRecPtr lsn, LayerSet **set);

/*
 * Both install a new set of layers and return the old one.  The caller, which holds
 * Timeline.lock, calls layer_set_unref() for that after it has released the lock, because
 * freeing a layer takes long.  timeline_set_map() owns the map from now on, and drops the
 * oldest "written" frozen layers; it also needs manifest_lock.
 */
extern LayerSet *timeline_set_layers(Timeline *tl, LayerSet *set);
extern LayerSet *timeline_set_map(Timeline *tl, LayerMap *map, int written);

/* Waits for a condition of the timeline, at most ms.  Caller holds Timeline.lock. */
extern void timeline_wait(Timeline *tl, pthread_cond_t *cond, int64 ms);

/*
 * The caller waits for what the text says ("... to be ..."), and calls this repeatedly.  When
 * the wait has lasted for a second, timeline_info() reports it until timeline_end_wait();
 * after ten seconds it is logged, once.  Caller holds Timeline.lock.
 */
extern void timeline_report_wait(Timeline *tl, WaitKind kind, const char *fmt, ...) pg_attribute_printf(3, 4);
extern void timeline_end_wait(Timeline *tl, WaitKind kind);

/* Ingest or flush cannot continue: logs and remembers err, which the timeline owns from now on, and ends all waits. */
extern void timeline_fail(Timeline *tl, PsError *err);

/* An error with the message of timeline_fail(), which was called.  Caller holds Timeline.lock. */
extern PsError *timeline_failure(Timeline *tl);

/*
 * Keeps all history that can be read now until timeline_unhold_history().  Returns the LSN
 * at which it begins.  For searches through all of history.
 */
extern XLogRecPtr timeline_hold_history(Timeline *tl);
extern void timeline_unhold_history(Timeline *tl, XLogRecPtr from);

/* ---- timeline_copies.c ---- */

/* Notes that a database was copied: what the copy needs is kept from now on. */
extern void timeline_add_copy(Timeline *tl, const DbCopy *copy);

/* Sets the copies to those of the manifest, while the timeline is loaded or opened. */
extern void timeline_set_copies(Timeline *tl, const DbCopy *copies, int n);

/* Finds a copy whose pages can be written because its record is in layer files; false if there is none. */
extern bool timeline_next_copy(Timeline *tl, DbCopy *copy);

/* Removes a copy and its pins. */
extern void timeline_remove_copy(Timeline *tl, const DbCopy *copy);

/* ---- timeline_save.c ---- */

/* A change of the manifest of an open timeline; what is 0 or NULL stays as it is. */
typedef struct TimelineChange
{
	const char *name;
	XLogRecPtr disk_consistent_lsn;
	uint64 generation;
	const char *owner;
	const DbCopy *copy_done; /* is in the manifest no more */
	const UpkeepMarks *marks;
	LayerMap *map; /* with these files added and dropped */
	Layer *const *add;
	int nadd;
	Layer *const *drop;
	int ndrop;
} TimelineChange;

/*
 * Makes a change of the manifest durable, with the cutoff of spec->pins and what else belongs
 * to it.  Caller holds Timeline.manifest_lock, so that changes are written in their order, and
 * changes the fields after a success.  add: files that no manifest has named yet.  After an
 * error they are removed, when the last reference is released.  If the outcome is
 * OUTCOME_UNKNOWN, they are removed only when the next change is durable, or when the timeline
 * is opened the next time and its manifest does not name them.  outcome may be NULL.
 */
extern PsError *timeline_save(Timeline *tl, const TimelineChange *change, Outcome *outcome);

/*
 * Makes a new name durable.  later: even after an error, the next change will include it.
 * Acquires Timeline.manifest_lock.
 */
extern PsError *timeline_save_name(Timeline *tl, const char *name, bool later, Outcome *outcome);

/*
 * Makes what upkeep remembers durable: spec->maintained, and which pins were considered for
 * images.  Does nothing if it is as before.  Caller holds upkeep_lock; acquires
 * Timeline.manifest_lock.
 */
extern PsError *timeline_save_marks(Timeline *tl);

/* ---- replace.c ---- */

/*
 * Replaces layer files by others: first in the manifest, then in the map; then removes the
 * replaced files.  After an error the set of layers is unchanged, and the files that were to
 * be added are removed (timeline_save()).
 */
extern PsError *timeline_replace_files(Timeline *tl, Layer *const *add, int nadd, Layer *const *drop, int ndrop);

/*
 * Replaces the oldest frozen layer ("written") by its file, and raises disk_consistent_lsn.
 * Errors: see timeline_replace_files().
 */
extern PsError *timeline_add_flushed(Timeline *tl, Layer *delta, const Layer *written);

/* Adds the files of a copied database; the manifest that names them no longer names the copy. */
extern PsError *timeline_finish_copy(Timeline *tl, Layer *const *add, int nadd, const DbCopy *copy);

#endif /* PS_TIMELINE_ENGINE_H */
