/*
 * store_impl.h
 *	  The inside of the store: its catalogue of tenants and branches.  For the
 *	  files of this folder.
 *
 * A Branch is what the catalogue knows, under Store.lock; while it is open,
 * Branch.open is its Timeline, which has locks of its own (timeline/engine.h).
 * Store.lock is taken before all of those.
 */
#ifndef PS_STORE_IMPL_H
#define PS_STORE_IMPL_H

#include "base/fs.h"
#include "store/store.h"
#include "store/trash_mark.h"
#include "timeline/engine.h"

/* attach.c */
typedef enum TenantLife
{
	TENANT_ATTACHED,
	TENANT_CHANGING, /* a thread detaches or attaches it */
	TENANT_DETACHED  /* none of its branches is in the store */
} TenantLife;

struct Tenant
{
	/* fixed once the tenant can be found in the store */
	PsId id;
	Store *store;
	char *dir; /* STORE/tenants/<id> */

	bool deleted; /* DETACHED, and in the trash; under Store.lock, as the next two */
	TrashMark trash_mark;
	TenantLife life; /* under Store.lock; of one that is not ATTACHED nobody begins to use a branch */

	int claim_fd; /* tenant_claim.c: there while it has branches in the store; or one of the next two */
#define TENANT_NOT_CLAIMED  (-1)
#define TENANT_CLAIM_FAILED (-2) /* which has been logged */

	/* fixed while it has branches in the store */
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

/* See the picture in store/README.md. */
typedef enum BranchLife
{
	BRANCH_CLOSED,  /* nothing of it is in memory but what the manifest says */
	BRANCH_OPENING, /* a thread opens it */
	BRANCH_OPEN,
	BRANCH_CLOSING, /* a thread closes it */
	BRANCH_BROKEN   /* cannot be opened */
} BranchLife;

typedef struct UpkeepTurn
{
	int64 due;        /* when to look at the timeline, clock_now_ms() */
	bool quiet;       /* there is nothing to do before a flush adds a file, or a branch goes */
	bool busy;        /* a thread works on it */
	int failures;     /* how often it has failed in a row */
	int64 not_before; /* after a failure nobody can make it due earlier */
} UpkeepTurn;

struct Branch
{
	/* fixed once the branch is in the store */
	Tenant *tenant;
	Branch *ancestor; /* in which it begins, at spec.start_lsn; NULL: none */
	TimelineSpec spec;
	bool origin_unknown; /* neither manifest can be read: it has no name, start_lsn and ancestor mean nothing */

	pthread_mutex_t settings_lock; /* the files of branch_settings.h; a leaf */
	bool files_stay;               /* when it is deleted: that may not last; of the thread that deletes it */

	/* all that follows, and the name, is under Store.lock, except where it says otherwise */
	BranchLife life;
	Timeline *open;                            /* OPEN: the engine; else NULL */
	int users;                                 /* who holds it, open or not: branches that begin in it, lists; and all uses */
	int uses;                                  /* users that need it open */
	int64 last_used;                           /* when uses fell to 0, clock_now_ms() */
	bool changing;                             /* store_begin_change() */
	bool name_unsaved;                         /* its manifest has another name, or may have after a crash */
	bool gone;                                 /* taken out of the store */
	bool in_trash;                             /* its name is free, nobody begins to use it; what it needs of its ancestor stays */
	TrashMark trash_mark;                      /* if so */
	bool is_protected;                         /* TIMELINE/protected is there */
	PsError *error;                            /* BROKEN: why */
	TimelineInfo known;                        /* not OPEN: what it was when it was closed, or as the manifest has it */
	char manifest_name[TIMELINE_NAME_MAX + 1]; /* not OPEN: what the next manifest is to have; mostly the name */

	UpkeepTurn upkeep[UPKEEP_KINDS]; /* under Upkeep.lock */
};

static inline const char *
branch_name(const Branch *branch)
{
	return branch->spec.name.now;
}

/*
 * What a thread is about to put into the store, while it does the I/O for that
 * without Store.lock: nobody else gets the name, deletes the ancestor or
 * detaches the tenant meanwhile.  The thread's own; fixed while it is in the list.
 */
typedef struct Reservation
{
	const char *name;
	const Tenant *tenant;   /* NULL: a new one, or it is no timeline */
	const Branch *ancestor; /* or NULL */
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
	Branch **branches;
	int nbranches;
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
extern PsError *tenant_load(Tenant *tenant, const PsError *problem, Branch ***branches, int *n);

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
extern PsError *trash_error(const Branch *branch);                /* that it is deleted, and how to have it back */
extern Branch *trash_named(const Store *store, const char *name); /* the last that was deleted, or that with the id; NULL: there is none */

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
extern Branch *store_named(Store *store, const char *name); /* or with the id; NULL: there is none */

/*
 * The name of a BROKEN branch may be an old one, from the manifest before.  If
 * another branch of the list has the same name, the BROKEN one loses it.  Nobody else
 * may know these branches yet; the order of the list is not kept.
 */
extern void store_drop_old_names(Branch **list, int n);
extern void store_drop_name(Branch *branch);

/* Like store_named(), but waits until no thread opens, closes or changes the branch; an error if there is none.  Lets the lock go meanwhile. */
extern PsError *store_named_settled(Store *store, const char *name, const CancelCheck *cancel, Branch **branch);
extern PsError *store_no_such_branch(const Store *store, const char *name);

/* Of two with the same name, at the start: the one that was replaced gets another.  Caller does not hold the lock. */
extern PsError *store_finish_replacement(Store *store, Branch *old);

/*
 * branch.c: another name, durably.  The caller has begun a change of the
 * timeline; the lock is let go meanwhile.
 */
extern PsError *store_set_name(Store *store, Branch *branch, const char *new_name);

/*
 * Gives a branch that has been replaced another name, which it has on return in any
 * case.  If the name cannot be written now, the next manifest has it; if the store
 * ends before, the next start finds two branches of one name and renames this one
 * (store_finish_replacement()).  The lock is let go meanwhile.
 */
extern void store_set_aside(Store *store, Branch *branch, const char *new_name);

/*
 * branch.c: an error that names them, if branches begin in this one, or perhaps
 * do.  for_good: those in the trash count, too.  Caller holds Store.lock.
 */
extern PsError *store_check_no_children(const Store *store, const Branch *branch, bool for_good);

/*
 * branch.c: moves the directory of a timeline to STORE/tmp, to be removed by
 * store_destroy_branch(), durably.  OUTCOME_UNKNOWN: the branch must not go on,
 * but its files stay.  The caller has begun a change, and holds no lock.
 */
extern PsError *store_move_away(Branch *branch, Outcome *outcome);

/* Writes names that could not be written before; called before names or branches change again.  Lets the lock go meanwhile. */
extern PsError *store_save_names(Store *store, const CancelCheck *cancel);

/* store_named_settled(), of one that is not BROKEN. */
extern PsError *store_named_served(Store *store, const char *name, const CancelCheck *cancel, Branch **branch);

/* NAME.1, NAME.2, ...: the first that is free; old_name: TIMELINE_NAME_MAX + 1 bytes. */
extern PsError *store_name_for_old(Store *store, const char *name, char *old_name);

/* An error if the name is not valid, or a branch has it, or it is reserved. */
extern PsError *store_check_name_is_free(Store *store, const char *name);
extern void store_reserve(Store *store, Reservation *reservation);
extern void store_unreserve(Store *store, Reservation *reservation);
extern bool store_is_reserved(const Store *store, const char *name);
extern void store_unhold(Store *store, Branch *branch); /* one of Branch.users less */
extern void store_put_tenant(Store *store, Tenant *tenant);
extern void store_put_branch(Store *store, Branch *branch);
extern void store_forget_tenant(Store *store, Tenant *tenant);        /* of which nobody knows */
extern void store_forget_purged_tenant(Store *store, Tenant *tenant); /* frees it when the store is closed */
extern void store_forget(Store *store, Branch *branch);               /* nobody can find it any more */

/* Waits until nobody holds a branch that was taken out, then closes and frees it; the lock is let go meanwhile. */
extern void store_free_branch(Store *store, Branch *branch);

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
 * it is OPEN, else they wait.  No other thread may be opening, closing or changing it
 * when the change begins (store_named_settled()).
 */
extern void store_begin_change(Store *store, Branch *branch);
extern void store_end_change(Store *store, Branch *branch);

/*
 * Makes sure that a branch, which the caller holds, is open; it and its ancestors
 * stay open until store_end_use().  The lock is let go meanwhile.  cancel (or NULL)
 * ends the wait for a thread that opens or closes it, or the opening itself.
 */
extern PsError *store_begin_use(Store *store, Branch *branch, const CancelCheck *cancel);
extern void store_end_use(Store *store, Branch *branch, bool counts); /* counts: idle_timeline_timeout begins now */

/*
 * Opens a CLOSED branch whose ancestor is open, and begins a use of it.  Returns the
 * error that opening met, not store_broken_error().
 */
extern PsError *store_open_branch(Store *store, Branch *branch, const CancelCheck *cancel);

/* Closes an OPEN branch that nobody uses; the lock is let go meanwhile. */
extern void store_close_branch(Store *store, Branch *branch);
extern PsError *store_broken_error(const Branch *branch);
extern PsError *store_start_idle_thread(Store *store);

/* ---- store/upkeep.c ---- */
typedef struct Upkeep Upkeep;

extern PsError *upkeep_start(Store *store, Upkeep **upkeep); /* also after an error *upkeep is to be stopped and freed */
extern void upkeep_stop(Upkeep *upkeep);                     /* waits for the threads; timelines were told to stop before */
extern void upkeep_free(Upkeep *upkeep);                     /* no flush thread is left, which may wake it */
extern void upkeep_wake(Upkeep *upkeep, Branch *branch);     /* there may be something to do */
extern void upkeep_files_added(Timeline *tl);                /* TimelineEnv.on_files_added */
extern void upkeep_opened(Upkeep *upkeep, Branch *branch);   /* it was opened: upkeep that waited for that is done */
extern void upkeep_plan(Branch *branch, bool quiet);         /* of a new one; quiet: nothing is to be done */

/* ---- branch_load.c ---- */

/*
 * What the manifest says of a branch, CLOSED; BROKEN if that cannot be read, or
 * does not fit, or because of the problem (NULL: there is none).  Of a BROKEN one
 * the manifest before may say where it begins, and what it was called.  The
 * caller finds the ancestor, if *has_ancestor.  An error, and no branch, if that
 * is transient.
 */
extern PsError *branch_load(Tenant *tenant, const PsId *id, const PsError *problem, Branch **branch, bool *has_ancestor,
							PsId *ancestor);
extern PsError *branch_read_manifest(const Branch *branch, bool old, Manifest *m);
extern void branch_set_broken(Branch *branch, PsError *err); /* takes the error over; of one that nobody else knows */
extern void branch_free(Branch *branch);                     /* it is not open */

/* ---- open.c ---- */

/*
 * Opens a branch as a timeline, also after a crash.  The ancestor is open, or
 * NULL.  The caller holds no lock, and nobody else opens the branch.  After an
 * error it is as it was.
 */
extern PsError *timeline_open(Branch *branch, Timeline *ancestor, const CancelCheck *cancel, Timeline **tl);

/* Ends the threads and waits for them; what they use, ancestors too, must stay until then. */
extern void timeline_join(Timeline *tl);

/* Joins and frees; nobody may use it any more. */
extern void timeline_close(Timeline *tl);

/* ---- open_layers.c ---- */

/*
 * The layers that the manifest names; files in their directory that it does not
 * name are removed, unless one is missing (Timeline.files_missing).
 */
extern PsError *timeline_open_layers(Timeline *tl, const Manifest *m, LayerMap **map);

/* Remembers which files are damaged, for the time when the timeline is opened again. */
extern void timeline_keep_damaged(Timeline *tl, const LayerMap *map);

#endif /* PS_STORE_IMPL_H */
