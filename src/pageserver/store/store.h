/*
 * store.h
 *	  The store: tenants and their branches, which are open as timelines while they
 *	  are in use.  The interface for serve/ and backup/.
 */
#ifndef PS_STORE_H
#define PS_STORE_H

#include "base/config.h"
#include "bucket/audit.h"
#include "layer/layer.h"
#include "store/branch_settings.h"

/* operations on open branches */
#include "ingest/ingest.h"
#include "maintain/maintain.h"
#include "read/read.h"
#include "timeline/timeline.h"

typedef struct Store Store;
typedef struct Tenant Tenant;

/*
 * A branch in the catalog, whether it is open or not.  It exists until
 * store_destroy_branch() or until its tenant is detached, and in any case while it is held,
 * by an open timeline or a list.
 */
typedef struct Branch Branch;

/* ---- store.c, use.c: the contents of one STORE directory ---- */

/*
 * Reads the manifests of all tenants and branches.  A branch is opened when it is used, and
 * closed when it was not used for idle_timeline_timeout.  If a branch cannot be opened,
 * that is logged, and it is not served until the store is restarted; the others are served.
 */
extern PsError *store_open(const Config *config, Store **store);

/* Makes work on open timelines end with an error; no branch is opened from now on.  Does not wait. */
extern void store_stop(Store *store);

/* Stops all threads and frees everything.  Flushes nothing: the WAL files have it.  No connection may be left. */
extern void store_close(Store *store);

extern const Config *store_config(const Store *store);

/* Puts reloaded settings in force.  Called by the main thread. */
extern void store_reload(Store *store, const Config *config);

/*
 * Finds a branch by tenant and timeline id, or by its name, and opens it unless it is open;
 * that reads all WAL that is not in layer files.  If another thread is opening or closing
 * it, waits for that.  The timeline stays open until the caller calls store_release().
 */
extern PsError *store_use(Store *store, const PsId *tenant, const PsId *timeline, const CancelCheck *cancel,
						  Timeline **tl);
extern PsError *store_use_branch(Store *store, const char *name, const CancelCheck *cancel, Timeline **tl);

/* store_use() and store_use_branch() without a cancel, for tests. */
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

/* The branch that is open as this timeline; it exists as long as that is open. */
extern Branch *branch_of(const Timeline *tl);

/* All branches, sorted by name; *n of them.  They are held until store_list_free(), but need not be open. */
extern Branch **store_list(Store *store, int *n);
extern void store_list_free(Branch **list, int n);

/* Counted since the start of the store. */
typedef struct StoreReadStats
{
	uint64 reads;             /* keys that were searched for */
	uint64 layers_searched;   /* in these searches, in memory and in files */
	uint64 page_cache_hits;   /* pages that were reconstructed from one in the page cache */
	uint64 page_cache_misses; /* pages that were not */
} StoreReadStats;

extern void store_read_stats(Store *store, StoreReadStats *stats);

/* Number of branches that are not served because of damage, and of those among them whose origin is unknown. */
extern void store_count_broken(Store *store, int *broken, int *unknown);

/*
 * A new branch, which is created by an import (backup/import.c) or by store_branch(): the
 * directory STORE/tmp/<timeline id> holds wal/ and layers/ already.
 */
typedef struct TimelineSeed
{
	PsId tenant; /* chosen by the import */
	PsId timeline;
	char name[TIMELINE_NAME_MAX + 1];
	uint64 system_identifier;
	uint32 segment_size;                       /* of WAL files, bytes */
	uint32 data_checksum_version;              /* of pg_control; 0: none */
	XLogRecPtr lsn;                            /* where it begins: end of the shutdown checkpoint, or branch point */
	Branch *ancestor;                          /* in which it begins; NULL: none */
	Branch *replaced;                          /* has the name until the new branch is added; NULL: none */
	char replaced_name[TIMELINE_NAME_MAX + 1]; /* its new name */
	LayerSpace space;                          /* for writing layers in STORE/tmp/<timeline id>; outlives these */
	Layer **layers;                            /* the layers that were written there */
	int nlayers;
	bool synced_later;         /* the (few) files in STORE/tmp/<timeline id> are not synced yet */
	const CancelCheck *cancel; /* ends waits for other threads; or NULL */

	/*
	 * Set by store_add_timeline() with an error, if its changes could not be undone:
	 * the next start may find the timeline in its place.  Then nothing in STORE/tmp
	 * may be removed, and what the branch needs of its ancestor must stay.
	 */
	bool outcome_unknown;
} TimelineSeed;

/*
 * Writes the manifests, moves the new branch to its place, adds it to the catalog and opens
 * it; tl NULL: does not open it, the caller knows that it can be opened.  The name must be
 * new, unless a branch is replaced.
 */
extern PsError *store_add_timeline(Store *store, TimelineSeed *seed, Timeline **tl);

/* 1 to 63 letters, digits, _ - . and /, beginning with a letter or digit, also after each /. */
extern bool timeline_name_is_valid(const char *name);

/* An error if the name is not valid or not free. */
extern PsError *store_check_new_name(Store *store, const char *name);

/* ---- info.c: settings of a branch's computes (branch_settings.h); any thread that uses the timeline ---- */
extern PsError *timeline_read_settings(Timeline *tl, uint64 version, BranchSettings *settings);
extern PsError *timeline_write_settings(Timeline *tl, BranchSettings *settings, uint64 expected);
extern PsError *timeline_settings_versions(Timeline *tl, uint64 **versions, int *n);

/* ---- owner.c ---- */

/*
 * Sets what is called when another store has taken over a tenant, for each of its branches
 * that was open: to end the connections that use it.  Called by any thread, without a lock
 * of the store.  NULL: nothing; then no call is running on return.
 */
extern void store_on_fenced(Store *store, void (*on_fenced)(void *arg, const Branch *branch), void *arg);

/* What is not in object storage yet, of all tenants. */
typedef struct RemoteInfo
{
	const char *url; /* "": there is no object storage */
	uint64 upload_files;
	uint64 upload_bytes;
	uint64 deleting; /* objects that are to be deleted later */
	char error[512]; /* "": nothing is wrong */
} RemoteInfo;

extern void store_remote_info(Store *store, RemoteInfo *info);

/* ---- attach.c: "name" is a tenant's id or the name of one of its branches ---- */

/*
 * Detaching a tenant has three steps: store_begin_detach() marks it durably and removes its
 * branches from the catalog; the caller ends the connections that use them;
 * store_end_detach() waits until they are not used, then closes them and frees the list.
 */
extern PsError *store_begin_detach(Store *store, const char *name, const CancelCheck *cancel, Tenant **tenant,
								   Branch ***branches, int *n);
extern void store_end_detach(Store *store, Tenant *tenant, Branch **branches, int n);

/*
 * Attaches a detached tenant, or one whose directory was copied into the store, or one of which
 * there is no directory from object storage.  Refused if names of branches conflict; and,
 * unless "force", if the directory is a copy of a tenant that was not detached, if another
 * store of this machine has the tenant in service, or if another store has the tenant in
 * object storage.
 */
extern PsError *store_attach_tenant(Store *store, const char *name, bool force);

/*
 * ---- trash_tenant.c ----
 *
 * store_trash_tenant() puts a detached tenant in the trash, until it is undeleted, which
 * makes it detached again, or purged, or trash_interval is over.  PS_SQLSTATE_UNKNOWN: it
 * is in the trash (after a purge: removed), but may be as it was before after the next
 * start.  For an undelete: it is still in the trash, but may be out of it after that.
 */
extern PsError *store_trash_tenant(Store *store, const char *name, const char *by);
extern PsError *store_undelete_tenant(Store *store, const char *name);
extern PsError *store_purge_tenant(Store *store, const char *name);

typedef struct TenantInfo
{
	PsId id;
	uint64 system_identifier;
	bool attached;
	bool waiting;        /* attached, and out of service until it has been claimed in object storage */
	bool fenced;         /* attached, and out of service: another store has taken over */
	bool refused;        /* attached, and out of service: object storage has a newer state */
	uint64 generation;   /* of its owner in object storage; 0: none */
	char *error;         /* what is wrong with it in object storage; NULL: nothing */
	uint64 upload_files; /* that are not in object storage yet */
	uint64 upload_bytes;
	bool deleted; /* in the trash; the next three are valid then */
	TimestampTz when;
	char *by;
	int64 time_left; /* s until it is removed */
	int branches;
	char *names; /* of branches that begin in no other */
} TenantInfo;

extern TenantInfo *store_list_tenants(Store *store, int *n);
extern void store_list_tenants_free(TenantInfo *list, int n);

/* ---- branch.c ---- */

/*
 * Creates a branch that begins at an LSN of another; if that is inside a record, at the
 * start of the record.  PG_UINT64_MAX: after the parent's newest record.  Waits until WAL
 * that has been received is ingested.  An LSN before the parent's own beginning belongs to
 * one of its ancestors, and the branch begins in that.
 */
extern PsError *store_branch(Store *store, const char *name, Timeline *parent, XLogRecPtr lsn,
							 const CancelCheck *cancel, Timeline **result);

/* The timeline in which this one begins, which is open as long as this one is; an error if there is none. */
extern PsError *timeline_parent(Timeline *tl, Timeline **parent);

/* If another thread is opening or closing the branch, waits for that. */
extern PsError *store_rename_branch(Store *store, const char *name, const char *new_name, const CancelCheck *cancel);

/*
 * Deleting a branch for good has three steps: store_remove_branch() removes it from the
 * catalog, durably, and stops its threads; the caller ends the connections that use it;
 * store_destroy_branch() waits until it has no users, then frees it and removes its files.
 * Refused while other branches begin in it.  The caller owns *branch in between.  After an
 * error *branch is NULL, and the branch is as it was.  Except for PS_SQLSTATE_UNKNOWN: then
 * the caller owns *branch and continues, but the branch may exist after the next start,
 * with its files.
 */
extern PsError *store_remove_branch(Store *store, const char *name, const CancelCheck *cancel, Branch **branch);
extern void store_destroy_branch(Branch *branch);

/*
 * Creates a branch like store_branch() does, which takes the name of another; it is not
 * opened.  The other is renamed to *old_name (TIMELINE_NAME_MAX + 1 bytes).  childless: the
 * caller will delete the other, so refuse if branches begin in it; deleted ones count, too,
 * if trash_interval is 0, because it will be deleted for good.
 */
extern PsError *store_replace_branch(Store *store, const char *name, Timeline *parent, XLogRecPtr lsn, bool childless,
									 const CancelCheck *cancel, char *old_name);

/* ---- timeline_info.c ---- */
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
	uint64 generation;                  /* of the newest compute; 0: there was none */
	char owner[OWNER_SIZE];             /* of the generation: host and directory, as the compute reported them */
	XLogRecPtr received_lsn;            /* WAL that was written; may not be durable, or not end with a whole record */
	XLogRecPtr flushed_lsn;             /* end of the last durable whole record: WAL is acknowledged up to here */
	XLogRecPtr ingested_lsn;            /* reads can use LSNs up to here */
	XLogRecPtr disk_consistent_lsn;     /* layer files hold everything up to here */
	XLogRecPtr gc_cutoff;               /* oldest LSN that can be read */
	XLogRecPtr bucket_lsn;              /* object storage has WAL up to here; 0: unknown, or there is none */
	int64 bucket_lag;                   /* age in ms of the oldest WAL that it does not have; 0: it has all */
	uint64 layer_files;
	uint64 layer_bytes;
	uint64 open_layer_bytes; /* memory */
	uint64 wal_bytes;        /* of files */
	XLogRecPtr remote_lsn;   /* layer files in object storage hold everything up to here; 0: there is none */
	bool compute_connected;
	time_t connected_since; /* if so */
	bool open;
	bool is_protected;
	bool deleted;        /* in the trash */
	char error[512];     /* what is wrong: why ingest stopped, why it cannot be opened and so on; "": nothing */
	char waits_for[256]; /* what its WAL has been waiting for, for a second or longer; "": nothing */
} TimelineInfo;

extern void timeline_info(Timeline *tl, TimelineInfo *info);

/* ---- info.c: of any branch, without opening it ---- */
extern void store_timeline_info(Branch *branch, TimelineInfo *info);
extern PsError *store_branch_info(Store *store, const char *name, TimelineInfo *info);

/* ---- trash.c: deleted branches, which are kept for trash_interval ---- */

/*
 * Putting a branch in the trash has three steps: store_trash_branch() does that durably,
 * so that the branch is not found any more, and stops its threads; the caller ends the
 * connections that use it; store_finish_trash() waits until it is not used, and closes it.
 * What it needs of its ancestor stays.  Refused while branches that are not in the trash
 * begin in it.  The caller owns *branch in between.  After an error *branch is NULL.
 * Except for PS_SQLSTATE_UNKNOWN: then the branch is in the trash, and the caller
 * continues, but it may not be in the trash after the next start.
 */
extern PsError *store_trash_branch(Store *store, const char *name, const char *by, const CancelCheck *cancel,
								   Branch **branch);
extern void store_finish_trash(Branch *branch);

/*
 * Takes a branch out of the trash: by id, or the one of this name that was deleted last.
 * new_name: its name from now on; NULL: the name that it had.
 */
extern PsError *store_undelete_branch(Store *store, const char *name, const char *new_name, const CancelCheck *cancel,
									  char result[TIMELINE_NAME_MAX + 1]);

/*
 * For readers: finds a branch in the trash, by id, or the one of this name that was deleted
 * last, and holds it until store_release_deleted().  Other threads may still undelete or
 * purge it: store_is_in_trash() returns false once one has begun that.
 */
extern PsError *store_hold_deleted(Store *store, const char *name, const CancelCheck *cancel, Branch **branch);
extern bool store_is_in_trash(Branch *branch);
extern void store_release_deleted(Branch *branch);

/* verify_closed() of a branch from store_hold_deleted(); PS_SQLSTATE_TRY_AGAIN if it does not stay in the trash. */
extern PsError *store_verify_deleted(Branch *branch, int megabytes_per_second, const CancelCheck *cancel,
									 VerifyReport report, void *arg);

/* Like store_remove_branch(), for a branch in the trash: by id, or by its name if only one of that name is there. */
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

/* ---- protect.c: a protected branch is deleted, reset or restored only if the request says so ---- */
extern PsError *store_protect_branch(Store *store, const char *name, bool is_protected, const CancelCheck *cancel);

/* ---- object storage (store_audit.c) ---- */

/*
 * audit_tenants() and audit_tenant() on the store's object storage; read: with a scratch
 * directory, of which there is one: PS_SQLSTATE_TRY_AGAIN if another check uses it.
 * PS_SQLSTATE_STATE: the store has no object storage.
 */
extern PsError *store_audit_tenants(Store *store, const CancelCheck *cancel, PsId **tenants, int *n);
extern PsError *store_audit(Store *store, const PsId *tenant, bool read, const CancelCheck *cancel,
							AuditResult *result);

#endif /* PS_STORE_H */
