/*
 * store_impl.h
 *	  Private header of this folder: the catalog of tenants and branches, and what
 *	  the files of the folder offer to each other, from the lowest file to the
 *	  highest.
 *
 * A Branch is an entry of the catalog, protected by Store.lock.  While the branch is
 * open, Branch.open is its Timeline, which has locks of its own (timeline/engine.h).
 * Store.lock is acquired before all of those.
 */
#ifndef PS_STORE_IMPL_H
#define PS_STORE_IMPL_H

#include "base/fs.h"
#include "bucket/claim.h"
#include "remote/object.h"
#include "store/store.h"
#include "store/trash_mark.h"
#include "timeline/engine.h"
#include "upload/upload.h"

typedef enum TenantLife
{
	TENANT_ATTACHED,
	TENANT_CHANGING, /* a thread detaches, attaches, deletes or undeletes it */
	TENANT_DETACHED  /* none of its branches is in the catalog */
} TenantLife;

/* Whose tenant it is in object storage; see owner.c. */
typedef enum TenantOwnership
{
	OWNER_NONE,      /* the store has no object storage, or the tenant is not attached */
	OWNER_WAITING,   /* out of service until it has been claimed */
	OWNER_UNCLAIMED, /* in service; its claim could not be put yet, and remote_require_ownership is off */
	OWNER_OWNED,
	OWNER_FENCED /* out of service: another store has it, or the directory is an old copy */
} TenantOwnership;

struct Tenant
{
	/* fixed once the tenant is in the catalog */
	PsId id;
	Store *store;
	char *dir; /* STORE/tenants/<id> */

	bool deleted; /* DETACHED, and in the trash; under Store.lock, like the next two */
	TrashMark trash_mark;
	TenantLife life; /* no use of a branch begins unless it is ATTACHED */

	/* owner.c; under Store.lock */
	TenantOwnership ownership;
	TenantOwner owner;    /* OWNED */
	TenantUpload *upload; /* UNCLAIMED, OWNED, FENCED; fixed while the tenant is in service; has a lock of its own */
	PsError *owner_error; /* WAITING, UNCLAIMED: why, or NULL; OWNED: why the last check failed; FENCED: by whom */
	bool owner_busy;      /* a thread puts or checks the claim; detaching waits for that */
	int64 owner_due;      /* when the thread is to do that next, clock_now_ms() */
	int nactive;          /* branches that are neither CLOSED nor BROKEN */

	int claim_fd; /* tenant_claim.c: a descriptor while branches are in the catalog; or one of the next two */
#define TENANT_NOT_CLAIMED  (-1)
#define TENANT_CLAIM_FAILED (-2) /* the failure has been logged */

	/* fixed while branches are in the catalog */
	uint64 system_identifier;
	uint32 segment_size; /* 0: tenant.json cannot be read */
	bool old_format;     /* tenant_raise_format() is needed before the tenant is served */

	/*
	 * What its timelines are given.  env.redo exists while one of them is open.
	 * env.keep_all is the number of branches in the catalog whose origin is
	 * unknown: raised before other threads can find them, lowered when they are
	 * deleted for good.
	 */
	TimelineEnv env;
	pthread_mutex_t lock; /* held while env.redo is created or freed; protects nopen */
	int nopen;
};

/* See the picture in store/README.md. */
typedef enum BranchLife
{
	BRANCH_CLOSED,  /* only what the manifest says is in memory */
	BRANCH_OPENING, /* a thread opens it */
	BRANCH_OPEN,
	BRANCH_CLOSING, /* a thread closes it */
	BRANCH_BROKEN   /* cannot be opened */
} BranchLife;

/* When a branch gets its next upkeep of one kind; see upkeep_queue.c. */
typedef struct UpkeepTurn
{
	int64 due;        /* when a thread is to check the branch, clock_now_ms() */
	bool quiet;       /* there is nothing to do until a flush adds a file or a child branch is deleted */
	bool busy;        /* a thread works on it */
	int failures;     /* number of consecutive failures */
	int64 not_before; /* after a failure, nothing makes it due earlier than this */
} UpkeepTurn;

struct Branch
{
	/* fixed once the branch is in the catalog */
	Tenant *tenant;
	Branch *ancestor; /* the branch in which it begins, at spec.start_lsn; NULL: none */
	TimelineSpec spec;
	bool origin_unknown; /* neither manifest can be read: no name; start_lsn and ancestor are not valid */

	pthread_mutex_t settings_lock; /* protects the files of branch_settings.h; a leaf */
	/*
	 * Its WAL in object storage, or NULL (branch_upload.c).  Owned by the thread that opens or
	 * closes it, or that claims its tenant while it is open.
	 */
	struct WalUpload *upload;
	bool files_stay; /* its deletion may not survive a restart; owned by the thread that deletes it */

	/* Store.lock protects what follows, and the name, except where noted otherwise */
	BranchLife life;
	Timeline *open;                            /* OPEN: the timeline; else NULL */
	int users;                                 /* holders, open or not: child branches, lists, and all uses */
	int uses;                                  /* holders that need it open */
	int64 last_used;                           /* when uses fell to 0, clock_now_ms() */
	bool changing;                             /* catalog_begin_change() */
	bool name_unsaved;                         /* its manifest has another name, or may have after a crash */
	bool gone;                                 /* removed from the catalog */
	bool in_trash;                             /* its name is free, and no use of it begins; its pins stay */
	TrashMark trash_mark;                      /* if in_trash */
	bool is_protected;                         /* the file TIMELINE/protected exists */
	PsError *error;                            /* BROKEN: why */
	TimelineInfo known;                        /* not OPEN: as of when it was closed, or from the manifest */
	char manifest_name[TIMELINE_NAME_MAX + 1]; /* not OPEN: the name for the next manifest; usually the branch's name */

	UpkeepTurn upkeep[UPKEEP_KINDS]; /* under Upkeep.lock */
};

static inline const char *
branch_name(const Branch *branch)
{
	return branch->spec.name.now;
}

/*
 * What a thread is about to add to the catalog, while it does the I/O for that without
 * Store.lock.  Until it is released, no other thread can take the name, delete the
 * ancestor, or detach the tenant.  Owned by that thread; fixed while it is in
 * Store.reservations.
 */
typedef struct Reservation
{
	const char *name;
	const Tenant *tenant;   /* NULL: the tenant is new, or no timeline is added */
	const Branch *ancestor; /* or NULL */
	struct Reservation *next;
} Reservation;

struct Store
{
	const Config *_Atomic config; /* swapped when settings are reloaded: see config.h */
	StoreClock *clock;            /* fixed; any thread */
	atomic_bool stopping;         /* set once, under lock */
	pthread_mutex_t lock;         /* protects the arrays, and the fields of their entries that say so */
	Tenant **tenants;             /* they live until store_close() */
	int ntenants;
	Tenant **gone_tenants; /* those that were removed, which other threads may still refer to */
	int ngone_tenants;
	Branch **branches;
	int nbranches;
	Reservation *reservations;
	int nopen;                         /* branches that are neither CLOSED nor BROKEN */
	pthread_cond_t changed;            /* a life, reservations or stopping; or users or uses fell to 0 */
	struct Aio *aio;                   /* fixed once the store is open; any thread */
	struct Upkeep *upkeep;             /* set before the first thread that opens branches; fixed from then on */
	PageStore *page_cache;             /* fixed; has locks of its own */
	MemoryBudget *memory;              /* fixed; has locks of its own */
	ReadCounters reads;                /* any thread */
	atomic_int_fast64_t room_reserved; /* bytes that upkeep is about to write (maintain/room.c) */

	/* store_remote.c, owner.c; the first three are fixed once the store is open */
	ObjectStore *remote;                /* object storage; NULL: none */
	struct RemoteLayers *remote_layers; /* reads layer files from there; likewise */
	char host[CLAIM_HOST_SIZE];
	StoreIdentity identity;
	bool remote_checked;        /* the object storage is fit for use; under lock, like the next two */
	PsId remote_id;             /* if so, of the bucket */
	bool remote_is_out;         /* the last request failed because it cannot be reached */
	pthread_mutex_t fence_lock; /* held while on_fenced is called; protects the next two */
	void (*on_fenced)(void *arg, const Branch *branch);
	void *on_fenced_arg;
	pthread_t owner_thread;
	bool has_owner_thread;
	pthread_cond_t owner_wake; /* a tenant has been added or is in use, or stopping changed; clock_cond_init() */

	/* the thread that closes branches that are not in use (use.c) */
	pthread_t idle_thread;
	bool has_idle_thread;
	pthread_cond_t idle_wake; /* nopen is no longer 0, or stopping changed; clock_cond_init() */
};

/*
 * ---- store_remote.c ----
 *
 * At the start: opens the object storage of the settings, if there is one, as Store.remote, and
 * checks that it can be used.  No error if it does not answer: it has not been checked then.
 */
extern PsError *store_remote_open(Store *store);

/* Checks that the object storage can be used, though that may have been done before.  The caller holds no lock. */
extern PsError *store_remote_check(Store *store, const ObjectWait *wait);

/* The id of the bucket, which is checked if that has not been done.  The caller holds no lock. */
extern PsError *store_remote_bucket(Store *store, const ObjectWait *wait, PsId *id);

/* Is it an error of object storage that cannot be reached, or does not work, for now? */
extern bool store_remote_is_outage(const PsError *err);

/* ---- branch_upload.c ---- */

struct WalUploadFenced;

/*
 * Opens the chain of a branch, unless that has been done, and restores WAL from it.  lsn: layer
 * files contain what is before it; segs: the WAL files if the branch is open, else NULL.  For
 * the thread that opens the branch, with no lock held.  Errors: those of wal_upload_open().
 */
extern PsError *branch_open_upload(Branch *branch, const TenantOwner *owner, const struct WalUploadFenced *fenced,
								   XLogRecPtr lsn, WalSegments *segs, const ObjectWait *wait);

/* UploadOptions.chain_first_needed; arg: the tenant.  Takes Store.lock. */
extern bool branch_chain_first_needed(void *arg, const PsId *timeline, XLogRecPtr lsn, uint64 *number, uint64 *kept);

/* Opens the chain of a branch that is open, and starts to upload its WAL: its tenant was claimed late. */
extern PsError *branch_begin_upload(Branch *branch, const TenantOwner *owner, const struct WalUploadFenced *fenced);

/* ---- owner.c ---- */

/*
 * Claims a tenant that no other thread uses: a new one, whose directory is dir, or one that is
 * being attached.  Sets the tenant's state.  move_here: also a tenant of another bucket.  If
 * there is no object storage, does what is needed in case there will be.  The caller holds
 * no lock.
 */
extern PsError *owner_begin(Tenant *tenant, const char *dir, bool attach, bool move_here);

/*
 * The tenant is detached, or was not attached in the end: ends its upload.  No branch is open; the caller
 * holds no lock.
 */
extern void owner_forget(Tenant *tenant);

/*
 * For WalUploadFenced, with the tenant as arg: takes the tenant out of service, because
 * another store owns it, as the error says, which is taken over.  The caller holds no lock.
 */
extern void owner_fenced(void *arg, PsError *err);

/*
 * Puts the claim of a tenant, or checks it, and sets the tenant's state.  False if object
 * storage cannot be reached.  The caller holds Store.lock, which is released meanwhile.
 */
extern bool owner_work(Tenant *tenant, int64 deadline);

/*
 * ---- owner_note.c ----
 *
 * Tell the upload of the tenant, if there is one, what has changed; durably.  The caller has
 * begun a change of the branch, or no other thread knows it; no lock is needed.
 */
/* TimelineEnv.source_has; arg: the tenant. */
extern bool owner_has_file(void *arg, const PsId *timeline, const char *name, bool *known);
extern ChangeSink owner_change_sink(TenantUpload *upload);            /* what TimelineEnv.changes is */
extern PsError *owner_note_all(Tenant *tenant, TenantUpload *upload); /* from the directories; nothing is open */
extern PsError *owner_note_new(const Branch *branch);                 /* a new timeline, which is not open yet */
extern void owner_note_name(const Branch *branch, const char *name);  /* of a branch that is not open */
extern void owner_note_protected(const Branch *branch, bool is_protected);
extern void owner_note_deleted(const Branch *branch, const TrashMark *mark); /* NULL: undeleted */

/* Before and after the directory of a branch is moved away for good.  Without the first one, it would seem lost. */
extern PsError *owner_begin_purge(const Branch *branch);
extern void owner_note_purged(const Branch *branch);

/* Waits until what was noted is in object storage, for at most wait_timeout; after that only logs it. */
extern void owner_wait(const Branch *branch, const CancelCheck *cancel);

/* ---- owner_thread.c: claims all tenants at the start of the store; begins and ends the thread ---- */
extern PsError *owner_start(Store *store);
extern void owner_stop(Store *store); /* the store is stopping */

/* ---- tenant_claim.c: fails if another store of this machine has the tenant in service ---- */
extern PsError *tenant_claim(Tenant *tenant);
extern void tenant_unclaim(Tenant *tenant);

/*
 * ---- catalog.c ----
 *
 * Callers hold Store.lock, or are opening the store.  Functions with a "cancel" release
 * the lock while they wait.
 */
extern void catalog_add_tenant(Store *store, Tenant *tenant);
extern void catalog_remove_tenant(Store *store, Tenant *tenant);  /* frees its claim; store_close() frees the tenant */
extern Tenant *catalog_find_tenant(Store *store, const PsId *id); /* NULL: not found */
extern PsError *catalog_detached_error(const Tenant *tenant);     /* says how to get it back */
extern PsError *catalog_check_service(const Tenant *tenant);      /* NULL if it is attached and in service */

/* Adds a branch, and claims its tenant if that is not claimed.  The ancestor gets a user. */
extern void catalog_add_branch(Store *store, Branch *branch);
extern void catalog_remove_branch(Store *store, Branch *branch); /* it is not found any more, but stays allocated */
extern void catalog_unhold(Store *store, Branch *branch);        /* decrements Branch.users */

/* By name or id; branches in the trash are not found.  NULL: not found. */
extern Branch *catalog_find_branch(Store *store, const char *name);

/* In the trash: by id, or the one of this name that was deleted last.  NULL: not found. */
extern Branch *catalog_find_deleted(const Store *store, const char *name);

/*
 * Like catalog_find_branch(), but waits until no thread opens, closes or changes the
 * branch, and returns an error if it does not exist.
 */
extern PsError *catalog_find_settled(Store *store, const char *name, const CancelCheck *cancel, Branch **branch);

/* catalog_find_settled(), with an error if its tenant is out of service. */
extern PsError *catalog_find_changeable(Store *store, const char *name, const CancelCheck *cancel, Branch **branch);

/* catalog_find_changeable(), with an error if the branch is BROKEN. */
extern PsError *catalog_find_served(Store *store, const char *name, const CancelCheck *cancel, Branch **branch);

extern void catalog_reserve(Store *store, Reservation *reservation);
extern void catalog_unreserve(Store *store, Reservation *reservation);
extern bool catalog_is_reserved(const Store *store, const char *name);

/* Says that no branch has the name, or that it is in the trash. */
extern PsError *catalog_no_branch_error(const Store *store, const char *name);
extern PsError *catalog_deleted_error(const Branch *branch); /* says how to get it back */
extern PsError *catalog_broken_error(const Branch *branch);

/*
 * An error that lists them, if branches begin in this one, or may begin in it because
 * their manifests cannot be read.  for_good: also those in the trash.
 */
extern PsError *catalog_check_no_children(const Store *store, const Branch *branch, bool for_good);

/*
 * Waits until something in the catalog has changed (Store.changed); the lock is released
 * meanwhile.  An error if the store is stopping or the wait is canceled.
 */
extern PsError *catalog_wait(Store *store, CancelWait *wait);

/*
 * Between these two a thread moves the directory of a branch, or writes files that only
 * it may write, without the lock.  Meanwhile the branch stays OPEN, CLOSED or BROKEN, and
 * no other change of it begins.  It may be used if it is OPEN; otherwise uses wait.  No
 * thread may be opening, closing or changing it when the change begins
 * (catalog_find_settled()).
 */
extern void catalog_begin_change(Store *store, Branch *branch);
extern void catalog_end_change(Store *store, Branch *branch);

/* ---- upkeep_queue.c: has a lock of its own, a leaf ---- */
typedef struct Upkeep Upkeep;

extern void upkeep_plan(Branch *branch, bool quiet);       /* of a new branch; quiet: there is nothing to do yet */
extern void upkeep_wake(Upkeep *upkeep, Branch *branch);   /* there may be something to do */
extern void upkeep_files_added(Timeline *tl);              /* TimelineEnv.on_files_added */
extern void upkeep_opened(Upkeep *upkeep, Branch *branch); /* it was opened: upkeep that waited for that starts */

/* ---- protect_mark.c: no lock is needed; protect_mark_set() is durable ---- */
extern bool protect_mark_is_set(const char *timeline_dir);
extern PsError *protect_mark_set(const char *timeline_dir, bool is_protected);

/* ---- branch_load.c ---- */

/*
 * Creates a branch from its manifest, CLOSED; or BROKEN, if the manifest cannot be read
 * or does not match the tenant, or because of "problem" (NULL: none).  For a BROKEN one,
 * the previous manifest may say where it begins and what it was called.  The caller finds
 * the ancestor, if *has_ancestor.  A transient error is returned, without a branch.
 */
extern PsError *branch_load(Tenant *tenant, const PsId *id, const PsError *problem, Branch **branch, bool *has_ancestor,
							PsId *ancestor);
extern PsError *branch_read_manifest(const Branch *branch, Manifest *m, ManifestLog *log); /* manifest_read() */

/* Takes over the error; no other thread uses the branch. */
extern void branch_set_broken(Branch *branch, PsError *err);
extern void branch_free(Branch *branch); /* must not be open */

/* ---- tenant.c ---- */
extern Tenant *tenant_alloc(Store *store, const PsId *id);
extern PsError *tenant_read(Tenant *tenant);                         /* TENANT/tenant.json */
extern PsError *tenant_write(const Tenant *tenant, const char *dir); /* DIR/tenant.json, which no thread reads yet */
extern void tenant_free(Tenant *tenant);

/*
 * After tenant_read(), before a file of the tenant is written: sets the version of tenant.json
 * to the current one, durably, so that older daemons refuse the tenant.
 */
extern PsError *tenant_raise_format(Tenant *tenant);

/* The file TENANT/detached; the change is durable unless there is an error. */
extern bool tenant_is_marked_detached(const Tenant *tenant);
extern PsError *tenant_mark_detached(const Tenant *tenant, bool detached);

/*
 * Creates a branch of each directory in TENANT/timelines, CLOSED or BROKEN; finds their
 * ancestors and pins what they need of these.  problem: why none of them can be opened,
 * or NULL.  After a transient error (ps_error_is_transient()) there are no branches.
 */
extern PsError *tenant_load(Tenant *tenant, const PsError *problem, Branch ***branches, int *n);

/* The redo helpers exist between these two; each successful begin needs one end. */
extern PsError *tenant_begin_use(Tenant *tenant);
extern void tenant_end_use(Tenant *tenant);

/*
 * ---- tenant_list.c ----
 *
 * Reads from the manifests of a tenant that is not served the number of its branches that
 * are not in the trash, and appends to "names" (or NULL) those of them that begin in no
 * other branch.  Sets *found if one of them is called "wanted" (or NULL).
 */
extern void tenant_read_names(const Tenant *tenant, StringInfo names, int *nbranches, const char *wanted, bool *found);

/* ---- names.c: callers hold Store.lock; functions that write a manifest release it meanwhile ---- */

/* An error if the name is not valid, is in use, or is reserved. */
extern PsError *names_check_is_free(Store *store, const char *name);

/* Finds the first of NAME.1, NAME.2, ... that is free; old_name: TIMELINE_NAME_MAX + 1 bytes. */
extern PsError *names_find_for_old(Store *store, const char *name, char *old_name);

/* Renames a branch, durably.  The caller has begun a change of it. */
extern PsError *names_set(Store *store, Branch *branch, const char *new_name);

/*
 * Gives a branch that has been replaced another name, which it has on return in any case.
 * If the name cannot be written now, the next manifest has it; if the store ends before
 * that, the next start finds two branches of one name and renames this one
 * (names_finish_replacement()).  The caller has begun a change of it.
 */
extern void names_set_of_replaced(Store *store, Branch *branch, const char *new_name);

/* Writes names that could not be written before; called before names or branches change again. */
extern PsError *names_save(Store *store, const CancelCheck *cancel);

/* At the start, of two branches with one name: renames the replaced one.  The caller does not hold the lock. */
extern PsError *names_finish_replacement(Store *store, Branch *old);

/*
 * The name of a BROKEN branch comes from its previous manifest and may be outdated.  If
 * another branch of the list has the same name, the BROKEN one loses it.  No other thread
 * may know these branches yet; the order of the list is not kept.
 */
extern void names_drop_old(Branch **list, int n);
extern void names_drop(Branch *branch);

/* ---- open_layers.c ---- */

/*
 * Creates the layers that the manifest names.  Removes other files in their directory,
 * unless a file is missing (Timeline.files_missing).
 */
extern PsError *timeline_open_layers(Timeline *tl, const Manifest *m, LayerMap **map);

/* Remembers which files are damaged, for when the timeline is opened again. */
extern void timeline_keep_damaged(Timeline *tl, const LayerMap *map);

/* ---- open.c ---- */

/*
 * Opens a branch as a timeline, also after a crash.  The ancestor is open, or NULL.  The
 * caller holds no lock, and no other thread opens the branch.  After an error the branch
 * is as it was.
 */
extern PsError *timeline_open(Branch *branch, Timeline *ancestor, const CancelCheck *cancel, Timeline **tl);

/* Stops the threads and waits for them; what they use, ancestors included, must exist until then. */
extern void timeline_join(Timeline *tl);

/* Joins and frees; no other thread may use the timeline any more. */
extern void timeline_close(Timeline *tl);

/* ---- use.c: callers hold Store.lock ---- */

/*
 * Makes sure that a branch, which the caller holds, is open; it and its ancestors stay
 * open until use_end().  The lock is released meanwhile.  cancel (or NULL) ends the wait
 * for a thread that opens or closes the branch, or the opening itself.
 */
extern PsError *use_begin(Store *store, Branch *branch, const CancelCheck *cancel);
extern void use_end(Store *store, Branch *branch, bool counts); /* counts: idle_timeline_timeout begins now */

/*
 * Opens a CLOSED branch whose ancestor is open, and begins a use of it.  The lock is
 * released meanwhile.  Returns the error of the opening, not catalog_broken_error().
 */
extern PsError *use_open(Store *store, Branch *branch, const CancelCheck *cancel);

/* Closes an OPEN branch that is not in use; the lock is released meanwhile. */
extern void use_close(Store *store, Branch *branch);

/*
 * Waits until a branch that was removed from the catalog has no users, then closes and
 * frees it; the lock is released meanwhile.
 */
extern void use_free_branch(Store *store, Branch *branch);
extern PsError *use_start_idle_thread(Store *store);

/* ---- branch.c ---- */

/*
 * Moves the directory of a branch to STORE/tmp, durably; store_destroy_branch() removes
 * it there.  OUTCOME_UNKNOWN: after a power failure it may be in either place, so the
 * branch must not be used any more, and its files stay.  The caller has begun a change of
 * the branch, and holds no lock.
 */
extern PsError *branch_move_away(Branch *branch, Outcome *outcome);

/* ---- trash.c, trash_tenant.c: remove what has been in the trash for long enough; callers hold no lock ---- */
extern void trash_empty(Store *store);
extern void trash_empty_tenants(Store *store);

/* ---- attach.c ---- */

/*
 * Finds a detached tenant, by its id or the name of a branch; deleted: one that is in the
 * trash.  It is CHANGING on return.  The caller holds no lock.
 */
extern PsError *attach_begin_change(Store *store, const char *name, bool deleted, Tenant **tenant);

/*
 * ---- attach_remote.c ----
 *
 * Claims a tenant in object storage and creates its directory, as that of a detached tenant.
 * Refused unless "force" if its owner has not released it.  Another thread may have created the
 * directory meanwhile, which is no error.  The caller holds no lock.
 */
extern PsError *attach_fetch_tenant(Store *store, const PsId *id, bool force);

/* ---- upkeep.c ---- */
extern PsError *upkeep_start(Store *store); /* sets Store.upkeep, which even after an error must be stopped and freed */
extern void upkeep_stop(Upkeep *upkeep);    /* waits for the threads; timelines are stopping; NULL: does nothing */
extern void upkeep_free(Upkeep *upkeep);    /* no flush thread is left to call upkeep_wake(); NULL: does nothing */

#endif /* PS_STORE_IMPL_H */
