/*
 * timeline.h
 *	  Tenants and timelines: what the servers of connections (serve/), base
 *	  backups (backup/) and ingest work on.
 *
 * A timeline is one line of history of a cluster: its WAL (wal/), its layers
 * (layers/), its manifest (timeline.json).  A user sees it as a branch.
 */
#ifndef PS_TIMELINE_H
#define PS_TIMELINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/cancel.h"
#include "store/branch_settings.h"
#include "layer/layer_map.h"
#include "layer/open_layer.h"
#include "redo/redo.h"
#include "pg/walstate.h"
#include "wal/segments.h"

typedef struct Store Store;
typedef struct Tenant Tenant;
typedef struct Timeline Timeline;

#define TIMELINE_NAME_MAX 63

/* Who runs a branch, as the start of a compute tells: a host, a colon, the path of a directory. */
#define OWNER_SIZE (256 + 1 + MAXPGPATH)

/* What the settings file says; see config.h for names, units and defaults. */
struct Config;

/* ---- store.c: all that is under one STORE directory ---- */

/*
 * Reads the manifests of all tenants and timelines.  A timeline is opened when
 * somebody uses it, and closed when nobody has for idle_timeline_timeout.  One
 * that cannot be opened is logged, and stays so until the store is started
 * again; the others are served.
 */
extern PsError *store_open(const struct Config *config, Store **store);

/* All that works on timelines ends soon, with an error; nothing is opened any more. */
extern void store_stop(Store *store);

/* Stops ingest, flushes nothing (the WAL is the copy), frees.  No connection may be left. */
extern void store_close(Store *store);

extern const struct Config *store_config(const Store *store);

/* Settings were reloaded: these are in force from now on.  Main thread. */
extern void store_reload(Store *store, const struct Config *config);

/*
 * Looks a timeline up by tenant and timeline id, or by branch name, and opens
 * it unless it is open: reads all WAL that is not in layer files.  If another
 * thread is just opening or closing it, waits for that.  It lives, and is open,
 * until it is given back with store_release().  One that cannot be opened is an
 * error that says why.
 */
extern PsError *store_use(Store *store, const PsId *tenant, const PsId *timeline, const CancelCheck *cancel, Timeline **tl);
extern PsError *store_use_branch(Store *store, const char *name, const CancelCheck *cancel, Timeline **tl);

/* The same, however long it takes. */
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

/* All timelines, by name; *n of them.  They live until store_list_free(), but need not be open. */
extern Timeline **store_list(Store *store, int *n);
extern void store_list_free(Timeline **list, int n);

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
	Timeline *ancestor;                        /* from which it branches off; NULL: none */
	Timeline *replaced;                        /* which has the name until then, and gets another; NULL: none.  Then it is not opened */
	char replaced_name[TIMELINE_NAME_MAX + 1]; /* that */
	LayerSpace space;                          /* STORE/tmp/<timeline id>/layers, for who writes layers there; lives as long as they */
	Layer **layers;                            /* what was written there; their files are not looked at */
	int nlayers;
	bool synced_later;         /* what is in STORE/tmp/<timeline id> is not durable yet: a few files */
	const CancelCheck *cancel; /* for what others are at, or NULL */

	/*
	 * Set by store_add_timeline() after an error, if what was done could not be
	 * undone: the next start may find the timeline in its place.  So nothing in
	 * STORE/tmp may be removed, and what it needs of its ancestor stays.
	 */
	bool in_doubt;
} TimelineSeed;

/* tl NULL: it is not opened, for its seed cannot but be right. */
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
extern PsError *store_begin_detach(Store *store, const char *name, const CancelCheck *cancel, Tenant **tenant, Timeline ***timelines, int *n);
extern void store_end_detach(Store *store, Tenant *tenant, Timeline **timelines, int n);

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
 * After PS_SQLSTATE_UNKNOWN it is in the trash (or gone, of a purge), but may be as
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
	bool deleted;     /* in the trash: the next three are of that */
	TimestampTz when; /* 0: not known */
	char *by;
	int64 time_left; /* s until it is removed; or TRASH_MARK_NEVER */
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

/* The branch that it begins in, which lives as long as it does; an error if there is none. */
extern PsError *timeline_parent(Timeline *tl, Timeline **parent);

/* Waits for who is just opening or closing it. */
extern PsError *store_rename_branch(Store *store, const char *name, const char *new_name, const CancelCheck *cancel);

/*
 * Deletes a branch, in three steps: store_remove_branch() takes it out of the
 * store, durably, so that nobody finds it any more, and stops its threads; the
 * caller ends the connections that use it; store_destroy_branch() waits until
 * nobody does, then frees it and its files.  Refused while other branches begin
 * in it.  *tl is the caller's in between.  After an error *tl is NULL, and the
 * branch is as it was; or it is the caller's all the same, and the branch may be
 * there again after the next start, with its files: PS_SQLSTATE_UNKNOWN.
 */
extern PsError *store_remove_branch(Store *store, const char *name, const CancelCheck *cancel, Timeline **tl);
extern void store_destroy_branch(Timeline *tl);

/*
 * A new branch in the place of another, as store_branch() makes it, not opened;
 * the other stays, as *old_name (TIMELINE_NAME_MAX + 1 bytes).  childless: the
 * caller is going to delete that; refused if branches begin in it, and if
 * trash_interval is 0, so that it goes for good, also if deleted ones do.
 */
extern PsError *store_replace_branch(Store *store, const char *name, Timeline *parent, XLogRecPtr lsn, bool childless,
									 const CancelCheck *cancel, char *old_name);

/*
 * Where a branch stood at a moment: just before the first commit or abort with
 * a later time; of all that was acknowledged, which is waited for as reads do.
 * *at: the branch, or an ancestor of it if that is before its beginning.
 * read/pitr.c says what it means when the times of commits do not rise.
 */
extern PsError *timeline_lsn_at_time(Timeline *tl, TimestampTz when, const CancelCheck *cancel, Timeline **at, XLogRecPtr *lsn);

/* The commits, or aborts, between which an LSN of a branch is. */
typedef struct CommitsAround
{
	bool has_last; /* false: there was none, or it is not known */
	TimestampTz last;
	XLogRecPtr last_end;
	bool next_known; /* false: there may be one, far away */
	bool has_next;
	TimestampTz next;
} CommitsAround;

/* Of an LSN before the branch's beginning it is found in its ancestors.  Waits as timeline_lsn_at_time() does. */
extern PsError *timeline_commits_around(Timeline *tl, XLogRecPtr lsn, const CancelCheck *cancel, CommitsAround *around);

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
	char waits_for[160]; /* what its WAL has been waiting for, for more than a moment; "": nothing */
} TimelineInfo;

extern void timeline_info(Timeline *tl, TimelineInfo *info); /* of an open one */

/* store/info.c: of any, without opening it */
extern void store_timeline_info(Timeline *tl, TimelineInfo *info);
extern PsError *store_branch_info(Store *store, const char *name, TimelineInfo *info);

/* ---- trash.c: what was deleted, for trash_interval ---- */

/*
 * Puts a branch in the trash, in two steps: after store_trash_branch(), which
 * makes that durable, nobody finds it any more and its threads stop; the caller
 * ends the connections that use it; store_finish_trash() waits until nobody
 * does, and closes it.  What it needs of its ancestor stays.  Refused while
 * other branches begin in it that are not in the trash.  *tl is the caller's in
 * between; NULL after an error, unless that is PS_SQLSTATE_UNKNOWN: then it is in
 * the trash, and the caller goes on as without one, but may be there again after
 * the next start.
 */
extern PsError *store_trash_branch(Store *store, const char *name, const char *by, const CancelCheck *cancel, Timeline **tl);
extern void store_finish_trash(Timeline *tl);

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
extern PsError *store_hold_deleted(Store *store, const char *name, const CancelCheck *cancel, Timeline **tl);
extern bool store_is_in_trash(Timeline *tl);
extern void store_release_deleted(Timeline *tl);

/* As store_remove_branch(), of one that is in the trash: by id, or by its name if there is one only. */
extern PsError *store_purge_branch(Store *store, const char *name, const CancelCheck *cancel, Timeline **tl);

typedef struct DeletedInfo
{
	TimelineInfo info;
	TimestampTz when; /* 0: not known */
	char *by;
	int64 time_left; /* s until it is removed; or TRASH_MARK_NEVER */
} DeletedInfo;

extern DeletedInfo *store_list_deleted(Store *store, int *n);
extern void store_list_deleted_free(DeletedInfo *list, int n);

/* A branch that is protected is deleted, reset or restored only by who says that he knows. */
extern PsError *store_protect_branch(Store *store, const char *name, bool is_protected, const CancelCheck *cancel);

/* ---- timeline.c ---- */
extern WalSegments *timeline_wal(Timeline *tl);
extern bool timeline_is_stopping(Timeline *tl); /* it is taken away, or the store stops */

/* An error that says why the timeline is stopping, or NULL if it is not.  arg is the Timeline, as for a CancelCheck. */
extern PsError *timeline_check_stopping(void *arg);

/*
 * Waits until reads see WAL up to lsn; timeout_ms < 0: no limit.  An error if
 * the time is over, ingest has stopped or the store is stopping.  No lock may
 * be held.
 */
extern PsError *timeline_wait_ingested(Timeline *tl, XLogRecPtr lsn, int timeout_ms, const CancelCheck *cancel);

/*
 * Merges layer files, makes images and removes what cannot be read any more:
 * what the store's upkeep threads do, now and in this thread.  all: also where
 * it is not due yet.
 */
extern PsError *maintain_timeline(Timeline *tl, bool all);

/*
 * maintain/verify.c: reads and checks all files of the timeline, at most so many
 * megabytes a second.  report is told of each: its path in the timeline's
 * directory, its size, and what is wrong with it, or NULL.  Files of WAL are told
 * of as one.  What is damaged shows in TimelineInfo.error until it is found well.
 */
typedef void (*VerifyReport)(void *arg, const char *file, uint64 bytes, const char *damage);
extern PsError *verify_timeline(Timeline *tl, int megabytes_per_second, const CancelCheck *cancel, VerifyReport report, void *arg);

/*
 * The same of one in the trash, held by store_hold_deleted(), which is not opened
 * for that.  Damage is told to report alone.  An error, PS_SQLSTATE_TRY_AGAIN, if
 * it does not stay there.
 */
extern PsError *verify_deleted(Timeline *tl, int megabytes_per_second, const CancelCheck *cancel, VerifyReport report, void *arg);

/* ---- generations: one writer (docs/postgres-facts.md, section 6) ---- */

/*
 * A new compute: raises the generation (durable on return), ends the
 * connections of older ones, cuts what they left behind the last whole record,
 * appends a shutdown checkpoint unless its WAL ends with one, makes it
 * durable, waits until it is ingested.  *state is that of its end;
 * *checkpoint_lsn where the record starts.
 */
extern PsError *timeline_new_generation(Timeline *tl, const char *owner, const CancelCheck *cancel, uint64 *generation,
										WalState *state, XLogRecPtr *checkpoint_lsn);

/*
 * timeline_new_generation() for a caller that must not end another compute by
 * mistake.  after 0: refused while a compute is connected.  Else: the
 * generation that the caller knows of; refused with PS_SQLSTATE_SUPERSEDED if
 * there is a newer one, and its compute is superseded, connected or not.
 * Ingest is waited for before the generation is raised, so that a compute is
 * not ended because the store is behind or cannot go on.
 */
extern PsError *timeline_take_over(Timeline *tl, const char *owner, uint64 after, const CancelCheck *cancel, uint64 *generation,
								   WalState *state, XLogRecPtr *checkpoint_lsn);

/* A time as messages and rows have it: UTC. */
#define TIME_TEXT_SIZE 32
extern const char *timeline_time_text(time_t when, char text[TIME_TEXT_SIZE]);

/*
 * Does the WAL up to the state end with a shutdown checkpoint that the
 * timeline's own files have, for a compute to start at?  Any thread.
 */
extern bool timeline_has_checkpoint(const Timeline *tl, const WalState *state);

/* Error PS_SQLSTATE_SUPERSEDED, naming the newer owner, unless generation is 0 or the newest. */
extern PsError *timeline_check_generation(Timeline *tl, uint64 generation);

/* ---- wal_push: what the receiver (serve/wal_push.c) calls; one at a time ---- */
typedef struct WalReceiver WalReceiver;

/* Takes the writer's place (an older connection of the same generation is ended); *start is where the stream goes on. */
extern PsError *wal_receiver_open(Timeline *tl, uint64 generation, WalReceiver **receiver, XLogRecPtr *start);

/* Bytes that follow what came before; a gap is an error.  Decodes and checks; waits if ingest lags too far. */
extern PsError *wal_receiver_write(WalReceiver *receiver, XLogRecPtr lsn, const char *data, size_t len,
								   const CancelCheck *cancel);

/* Makes all of it durable and hands it to ingest; *flushed is the end of the last whole record. */
extern PsError *wal_receiver_sync(WalReceiver *receiver, XLogRecPtr *flushed);
extern bool wal_receiver_is_superseded(WalReceiver *receiver);

/* Tells any thread whether the client has gone; it must live until wal_receiver_close(). */
extern void wal_receiver_set_client(WalReceiver *receiver, const CancelCheck *client);

/* What wal_receiver_write() waits for, if it does not return; false: for nothing that is known. */
extern bool wal_receiver_waits_for(WalReceiver *receiver, char *text, size_t size);
extern void wal_receiver_close(WalReceiver *receiver);

/* ---- reads: read/read.c.  lsn: as resolved by timeline_read_lsn() ---- */

/*
 * The LSN to read at for a request: waits for not_modified_since, checks
 * bounds.  PS_LSN_LATEST: everything that is ingested.
 */
extern PsError *timeline_read_lsn(Timeline *tl, XLogRecPtr request_lsn, XLogRecPtr not_modified_since,
								  const CancelCheck *cancel, XLogRecPtr *lsn);

/*
 * For reads at an LSN of the past that go on for longer: from timeline_pin() to
 * timeline_unpin() nothing that they need is removed.  An error if it may be
 * gone already.
 */
extern PsError *timeline_pin(Timeline *tl, XLogRecPtr lsn);

/*
 * The same for who needs the WAL before it, too: timeline_state_at().  Where a
 * branch begins only pages and values are kept, once that is before gc_cutoff.
 */
extern PsError *timeline_pin_wal(Timeline *tl, XLogRecPtr lsn);
extern void timeline_unpin(Timeline *tl, XLogRecPtr lsn);
extern XLogRecPtr timeline_gc_cutoff(Timeline *tl); /* the oldest LSN that can be read */

/* Pages of one fork, in the order of blks, n * BLCKSZ bytes; no version: zeros. */
extern PsError *timeline_read_pages(Timeline *tl, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n,
									XLogRecPtr lsn, char *pages);

/*
 * The same for who can do with some of them: errors[i] says why blks[i] could
 * not be read, or is NULL.  An error that concerns all of them is returned, and
 * errors are not set.
 */
extern PsError *timeline_read_each_page(Timeline *tl, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n,
										XLogRecPtr lsn, char *pages, PsError **errors);
extern PsError *timeline_read_relsize(Timeline *tl, PsRel rel, ForkNumber fork, XLogRecPtr lsn, bool *exists,
									  BlockNumber *nblocks);

/* Any other key (not RELBLOCK): SLRU pages are reconstructed. */
extern PsError *timeline_read_value(Timeline *tl, const PsKey *key, XLogRecPtr lsn, StringInfo value, bool *found);

/*
 * Every key from lo to hi (any kind but RELBLOCK) that exists at lsn,
 * ascending, with its value.
 */
typedef PsError *(*KeyCallback)(void *arg, const PsKey *key, const char *value, uint32 len);
extern PsError *timeline_scan(Timeline *tl, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn, KeyCallback cb, void *arg);

/*
 * The state at the end of the last record at or before lsn (state->end tells
 * which): from the newest saved state, decoding WAL from there.
 */
extern PsError *timeline_state_at(Timeline *tl, XLogRecPtr lsn, WalState *state);

#endif /* PS_TIMELINE_H */
