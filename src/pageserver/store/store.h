/*
 * store.h
 *	  The store: tenants, and their branches, which are open as timelines while
 *	  they are used.  What the servers of connections (serve/) and base backups
 *	  (backup/) see of it.
 */
#ifndef PS_STORE_H
#define PS_STORE_H

#include "base/config.h"
#include "layer/layer.h"
#include "store/branch_settings.h"

/* what can be done with a branch that is open */
#include "ingest/ingest.h"
#include "maintain/maintain.h"
#include "read/read.h"
#include "timeline/timeline.h"

typedef struct Store Store;
typedef struct Tenant Tenant;

/*
 * What a store knows of a branch, whether it is open or not.  It lives until
 * store_destroy_branch(), or until its tenant is detached, and as long as somebody
 * holds it: an open timeline, a list.
 */
typedef struct Branch Branch;

/* ---- store.c: all that is under one STORE directory ---- */

/*
 * Reads the manifests of all tenants and timelines.  A timeline is opened when
 * somebody uses it, and closed when nobody has for idle_timeline_timeout.  One
 * that cannot be opened is logged, and stays so until the store is started
 * again; the others are served.
 */
extern PsError *store_open(const Config *config, Store **store);

/* Tells everything that works on open timelines to end, with an error; nothing is opened from now on.  Waits for nothing. */
extern void store_stop(Store *store);

/* Stops ingest, flushes nothing (the WAL is the copy), frees.  No connection may be left. */
extern void store_close(Store *store);

extern const Config *store_config(const Store *store);

/* Settings were reloaded: these are in force from now on.  Main thread. */
extern void store_reload(Store *store, const Config *config);

/*
 * Finds a branch by tenant and timeline id, or by its name, and opens it unless it
 * is open, which reads all WAL that is not in layer files.  If another thread is
 * opening or closing it, waits for that.  The timeline is open until the caller
 * gives it back with store_release().
 */
extern PsError *store_use(Store *store, const PsId *tenant, const PsId *timeline, const CancelCheck *cancel, Timeline **tl);
extern PsError *store_use_branch(Store *store, const char *name, const CancelCheck *cancel, Timeline **tl);

/* store_use() and store_use_branch(), without a cancel: for tests. */
static inline PsError *
store_find(Store *store, const PsId *tenant, const PsId *timeline, Timeline **tl)
{
	return store_use(store, tenant, timeline, NULL, tl);
}

static inline PsError *
store_find_branch(Store *store, const char *name, Timeline **tl)
{
	return store_use_branch(store, name, NULL, tl);
}

extern void store_release(Timeline *tl);

/* The branch that is open as this timeline, and stays as long as it is. */
extern Branch *branch_of(const Timeline *tl);

/* All branches, by name; *n of them.  They live until store_list_free(), but need not be open. */
extern Branch **store_list(Store *store, int *n);
extern void store_list_free(Branch **list, int n);

/* Since the start. */
typedef struct StoreReadStats
{
	uint64 reads;             /* keys that were looked for */
	uint64 layers_searched;   /* for them, in memory and in files */
	uint64 page_cache_hits;   /* pages that began with one from the page cache */
	uint64 page_cache_misses; /* those that did not */
} StoreReadStats;

extern void store_read_stats(Store *store, StoreReadStats *stats);

/* Branches that are not served because of damage, and those of them that keep the garbage of others. */
extern void store_count_broken(Store *store, int *broken, int *unknown);

/*
 * Registers what the import made (backup/import.c): the directory
 * STORE/tmp/<timeline id> holds wal/ and layers/ already; moves it to its
 * place, writes the manifests and opens it.  The name must be new.
 */
typedef struct TimelineSeed
{
	PsId tenant; /* chosen by the import */
	PsId timeline;
	char name[TIMELINE_NAME_MAX + 1];
	uint64 system_identifier;
	uint32 segment_size;                       /* of WAL, bytes */
	uint32 data_checksum_version;              /* of pg_control; 0: none */
	XLogRecPtr lsn;                            /* image layers are at this LSN: the end of the shutdown checkpoint, or where it branches off */
	Branch *ancestor;                          /* from which it branches off; NULL: none */
	Branch *replaced;                          /* which has the name until then, and gets another; NULL: none.  Then it is not opened */
	char replaced_name[TIMELINE_NAME_MAX + 1]; /* that */
	LayerSpace space;                          /* STORE/tmp/<timeline id>/layers, to write layers there; must outlive these */
	Layer **layers;                            /* what was written there; their files are not looked at */
	int nlayers;
	bool synced_later;         /* what is in STORE/tmp/<timeline id> is not durable yet: a few files */
	const CancelCheck *cancel; /* of waits for other threads, or NULL */

	/*
	 * Set by store_add_timeline() after an error, if what was done could not be
	 * undone: the next start may find the timeline in its place.  So nothing in
	 * STORE/tmp may be removed, and what it needs of its ancestor stays.
	 */
	bool in_doubt;
} TimelineSeed;

/* tl NULL: it is not opened; the caller has made sure that it can be. */
extern PsError *store_add_timeline(Store *store, TimelineSeed *seed, Timeline **tl);

/* A name that may be a branch: 1 to 63 of letters, digits, _ - and ., beginning with a letter or digit. */
extern bool timeline_name_is_valid(const char *name);
extern PsError *store_check_new_name(Store *store, const char *name);

/* ---- settings of a branch's computes: branch_settings.h; any thread that uses the timeline ---- */
extern PsError *timeline_read_settings(Timeline *tl, uint64 version, BranchSettings *settings);
extern PsError *timeline_write_settings(Timeline *tl, BranchSettings *settings, uint64 expected);
extern PsError *timeline_settings_versions(Timeline *tl, uint64 **versions, int *n);

/* ---- attach.c: name is a tenant's id, or that of one of its branches ---- */

/*
 * Detaches a tenant, in three steps: store_begin_detach() marks it durably and
 * takes its timelines out of the store, so that nobody finds them any more; the
 * caller ends the connections that use them; store_end_detach() waits until
 * nobody does, then closes them and frees the list.
 */
extern PsError *store_begin_detach(Store *store, const char *name, const CancelCheck *cancel, Tenant **tenant, Branch ***branches, int *n);
extern void store_end_detach(Store *store, Tenant *tenant, Branch **branches, int n);

/*
 * Takes a tenant in again, or one whose directory was put into the store; an
 * error if it does not fit.  Unless "force", also if it is a copy of one that
 * was not detached when it was taken, or that another store of this machine has
 * in service.
 */
extern PsError *store_attach_tenant(Store *store, const char *name, bool force);

/*
 * trash_tenant.c: puts a detached tenant in the trash, where it is until it is
 * undeleted, and detached again, or purged, or has been there for trash_interval.
 * After PS_SQLSTATE_UNKNOWN it is in the trash (or removed, of a purge), but may be as
 * it was before after the next start; of an undelete, the other way round.
 */
extern PsError *store_trash_tenant(Store *store, const char *name, const char *by);
extern PsError *store_undelete_tenant(Store *store, const char *name);
extern PsError *store_purge_tenant(Store *store, const char *name);

typedef struct TenantInfo
{
	PsId id;
	uint64 system_identifier;
	bool attached;
	bool deleted; /* in the trash: the next three are of that */
	TimestampTz when;
	char *by;
	int64 time_left; /* s until it is removed */
	int branches;
	char *names; /* of those that begin in no other */
} TenantInfo;

extern TenantInfo *store_list_tenants(Store *store, int *n);
extern void store_list_tenants_free(TenantInfo *list, int n);

/* ---- branch.c ---- */

/*
 * A new branch that begins at an LSN of another; inside of a record: at its
 * start.  PG_UINT64_MAX: at the parent's newest record.  Waits for WAL that has
 * been received.  An LSN before the parent's own beginning is one of its
 * ancestors'.
 */
extern PsError *store_branch(Store *store, const char *name, Timeline *parent, XLogRecPtr lsn, const CancelCheck *cancel,
							 Timeline **result);

/* The timeline of the branch in which it begins, which is open as long as this one is; an error if there is none. */
extern PsError *timeline_parent(Timeline *tl, Timeline **parent);

/* If another thread is opening or closing the branch, waits for that. */
extern PsError *store_rename_branch(Store *store, const char *name, const char *new_name, const CancelCheck *cancel);

/*
 * Deletes a branch, in three steps: store_remove_branch() takes it out of the
 * store, durably, so that nobody finds it any more, and stops its threads; the
 * caller ends the connections that use it; store_destroy_branch() waits until
 * nobody does, then frees it and its files.  Refused while other branches begin
 * in it.  *branch is the caller's in between.  After an error *branch is NULL, and the
 * branch is as it was; or it is the caller's all the same, and the branch may be
 * there again after the next start, with its files: PS_SQLSTATE_UNKNOWN.
 */
extern PsError *store_remove_branch(Store *store, const char *name, const CancelCheck *cancel, Branch **branch);
extern void store_destroy_branch(Branch *branch);

/*
 * A new branch in the place of another, as store_branch() makes it, not opened;
 * the other stays, as *old_name (TIMELINE_NAME_MAX + 1 bytes).  childless: the
 * caller is going to delete that; refused if branches begin in it, and if
 * trash_interval is 0, so that it is deleted for good, also if deleted ones do.
 */
extern PsError *store_replace_branch(Store *store, const char *name, Timeline *parent, XLogRecPtr lsn, bool childless,
									 const CancelCheck *cancel, char *old_name);

/* ---- timeline.c ---- */
typedef struct TimelineInfo
{
	PsId tenant;
	PsId timeline;
	char name[TIMELINE_NAME_MAX + 1];
	uint64 system_identifier;
	uint32 segment_size;
	uint32 data_checksum_version;
	char parent[TIMELINE_NAME_MAX + 1]; /* "": none */
	XLogRecPtr start_lsn;               /* where it begins */
	uint64 generation;                  /* of the newest compute, 0: there was none */
	char owner[OWNER_SIZE];             /* who raised it: host and directory as the compute start told */
	XLogRecPtr received_lsn;            /* WAL written, not necessarily durable nor whole records */
	XLogRecPtr flushed_lsn;             /* durable, end of a whole record: acknowledged up to here */
	XLogRecPtr ingested_lsn;            /* reads see WAL up to here */
	XLogRecPtr disk_consistent_lsn;     /* layer files hold everything up to here */
	XLogRecPtr gc_cutoff;               /* oldest LSN that can be read */
	uint64 layer_files;
	uint64 layer_bytes;
	uint64 open_layer_bytes; /* memory */
	uint64 wal_bytes;        /* of files */
	bool compute_connected;
	time_t connected_since; /* if so */
	bool open;
	bool is_protected;
	bool deleted;        /* it is in the trash */
	char error[512];     /* what is wrong with it: why ingest stopped, why it cannot be opened, …; "" if all is well */
	char waits_for[160]; /* what its WAL has been waiting for, for a second or more; "": nothing */
} TimelineInfo;

extern void timeline_info(Timeline *tl, TimelineInfo *info); /* of an open one */

/* store/info.c: of any, without opening it */
extern void store_timeline_info(Branch *branch, TimelineInfo *info);
extern PsError *store_branch_info(Store *store, const char *name, TimelineInfo *info);

/* ---- trash.c: what was deleted, for trash_interval ---- */

/*
 * Puts a branch in the trash, in two steps: after store_trash_branch(), which
 * makes that durable, nobody finds it any more and its threads stop; the caller
 * ends the connections that use it; store_finish_trash() waits until nobody
 * does, and closes it.  What it needs of its ancestor stays.  Refused while
 * other branches begin in it that are not in the trash.  *branch is the caller's in
 * between; NULL after an error, unless that is PS_SQLSTATE_UNKNOWN: then it is in
 * the trash, and the caller continues as without an error, but after the next start
 * it may not be.
 */
extern PsError *store_trash_branch(Store *store, const char *name, const char *by, const CancelCheck *cancel, Branch **branch);
extern void store_finish_trash(Branch *branch);

/*
 * Takes out of the trash the branch with the id, or that of this name which was
 * deleted last.  new_name: or NULL, it has the name that it had.
 */
extern PsError *store_undelete_branch(Store *store, const char *name, const char *new_name, const CancelCheck *cancel,
									  char result[TIMELINE_NAME_MAX + 1]);

/*
 * For callers that only look: that with the id, or the one of this name that was
 * deleted last, which stays in memory until store_release_deleted().  Others may
 * take it out of the trash, or purge it, all the same: store_is_in_trash() says
 * whether nobody has begun that yet.
 */
extern PsError *store_hold_deleted(Store *store, const char *name, const CancelCheck *cancel, Branch **branch);
extern bool store_is_in_trash(Branch *branch);
extern void store_release_deleted(Branch *branch);

/* verify_closed() of one that is held so; PS_SQLSTATE_TRY_AGAIN if it does not stay in the trash. */
extern PsError *store_verify_deleted(Branch *branch, int megabytes_per_second, const CancelCheck *cancel, VerifyReport report, void *arg);

/* As store_remove_branch(), of one that is in the trash: by id, or by its name if there is one only. */
extern PsError *store_purge_branch(Store *store, const char *name, const CancelCheck *cancel, Branch **branch);

typedef struct DeletedInfo
{
	TimelineInfo info;
	TimestampTz when;
	char *by;
	int64 time_left; /* s until it is removed */
} DeletedInfo;

extern DeletedInfo *store_list_deleted(Store *store, int *n);
extern void store_list_deleted_free(DeletedInfo *list, int n);

/* A branch that is protected is deleted, reset or restored only by who says that he knows. */
extern PsError *store_protect_branch(Store *store, const char *name, bool is_protected, const CancelCheck *cancel);

#endif /* PS_STORE_H */
