/*
 * engine.h
 *	  The inside of an open timeline, for the folders that are its parts:
 *	  ingest/, read/, maintain/, and store/, which opens and closes it.
 *
 * What all of them share is the struct Timeline: LSNs, the set of layers, what
 * has failed, and the locks and conditions by which they wait for each other.
 * Readers look at these fields for each page, so they are not hidden behind
 * functions.  What belongs to one folder alone is in a struct of that folder.
 *
 * Locks, in the order in which they may be taken (src/pageserver/README.md has
 * the whole list): upkeep_lock, level0_lock, generation_lock, receive_lock,
 * manifest_lock, lock.
 *
 * Some fields are changed only while two of these are held.  Either of the two
 * then suffices to look at them.
 */
#ifndef PS_TIMELINE_ENGINE_H
#define PS_TIMELINE_ENGINE_H

#include <pthread.h>

#include "base/clock.h"
#include "timeline/arrivals.h"
#include "timeline/layer_set.h"
#include "timeline/manifest.h"
#include "timeline/pins.h"
#include "timeline/timeline.h"
#include "timeline/timeline_env.h"

/* What the WAL of a timeline may wait for. */
typedef enum WaitKind
{
	WAIT_FOR_MEMORY, /* ingest, until layers in memory are written (memory_budget.h) */
	WAIT_FOR_INGEST, /* the receiver, until ingest has progressed (ingest/receiver.c) */
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
 * Belongs to the branch (store/store_impl.h), which hands it in when it opens the
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
	struct WalReceiver *receiver; /* the one that may write; NULL: none */

	/* held while the manifest is written and what it says changes */
	pthread_mutex_t manifest_lock;
	char saved_name[TIMELINE_NAME_MAX + 1]; /* the name in manifests, which for a short time is not spec->name */
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
	CancelReason stopping; /* CANCEL_NONE: it is not stopping; set once */
	PsError *failed;       /* why ingest stopped; set once */
	bool unwritable;       /* its layers in memory can never be written, so failed is set, too (ingest/flush.c) */
	bool ingest_ended;     /* the ingest thread touches nothing any more */
	bool forgotten;        /* unwritable layers were given back: what is after ingested_lsn, which fell, cannot be read */
	Wait waits[WAIT_KINDS];
	int level0;                            /* files of level 0 in layers->map */
	char flush_error[256];                 /* why the last flush, or copy of a database, failed; "" if it did not */
	char upkeep_errors[UPKEEP_KINDS][256]; /* why the last upkeep of each kind failed; "" if it did not */
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
 * Like timeline_layers(), without what is in memory; for work on files, which may take
 * hours: a layer in memory uses memory until its last reference is released.
 */
extern LayerSet *timeline_files(Timeline *tl);
/* The state of WAL that the layers have saved for the LSN, or for the last before it. */
extern PsError *timeline_saved_state(const TimelineSpec *spec, const LayerMap *map, XLogRecPtr lsn, WalState *state);

/*
 * Like timeline_layers(), to read at an LSN; an error if what is needed for that may
 * be removed already.  What the set has is there as long as it is referenced.
 */
extern PsError *timeline_layers_at(Timeline *tl, XLogRecPtr lsn, LayerSet **set);
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
 * The caller waits for what the text says ("… to be …"), and calls this repeatedly.  When
 * the wait has lasted for a second, timeline_info() reports it until timeline_end_wait();
 * after ten seconds it is logged, once.  Caller holds Timeline.lock.
 */
extern void timeline_report_wait(Timeline *tl, WaitKind kind, const char *fmt, ...) pg_attribute_printf(3, 4);
extern void timeline_end_wait(Timeline *tl, WaitKind kind);

/* Ingest or flush cannot continue: remembers err, which belongs to the timeline from now on, and wakes all waits. */
extern void timeline_fail(Timeline *tl, PsError *err);
extern PsError *timeline_failure(Timeline *tl); /* a copy of that error; caller holds Timeline.lock */

/*
 * Keeps everything readable that can be read now, until timeline_unhold_history().  Returns
 * the LSN from which on that is so.  For searches through all of history.
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

/* The next manifest does not have it, or does after all.  Caller holds Timeline.manifest_lock. */
extern void timeline_mark_copy(Timeline *tl, const DbCopy *copy, bool done);

/* What it needed need not be kept any more. */
extern void timeline_remove_copy(Timeline *tl, const DbCopy *copy);

/* ---- manifest.c ---- */

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

/* ---- replace.c ---- */

/*
 * Puts layer files in the place of others: manifest first, then the map, then what
 * is replaced is removed.  After an error the set of layers is as it was, and the
 * files that were to be added are removed (timeline_save()).
 */
extern PsError *timeline_replace_files(Timeline *tl, Layer *const *add, int nadd, Layer *const *drop, int ndrop);

/* Puts the file of the oldest frozen layer in its place, and raises disk_consistent_lsn.  Errors as for timeline_replace_files(). */
extern PsError *timeline_add_flushed(Timeline *tl, Layer *delta, const Layer *written);

/* Adds the files of a copied database; the manifest that names them, and no other, forgets the copy. */
extern PsError *timeline_finish_copy(Timeline *tl, Layer *const *add, int nadd, const DbCopy *copy);

#endif /* PS_TIMELINE_ENGINE_H */
