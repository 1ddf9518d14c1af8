/*
 * tenant_log.h
 *	  The log of a tenant in the bucket: which timelines it has, their files, and
 *	  whatever else a store must know to serve them.
 *
 * The log is the tenant's state (log_change.h) as a sequence of entries in each owner's
 * generation.  The first entry of a generation is full; others contain changes.  So
 * that a change costs little and reading takes few requests, an entry also contains the
 * changes of some entries before it, and names the one on which it builds.  If i
 * is the number of entries since the full one, in base 4, that is the entry whose i
 * has a zero instead of the last digit that is not zero:
 *
 *	  i			0		1	2	3	10	11	12	13	20	...	100
 *	  builds on	full	0	0	0	0	10	10	10	0		0
 *
 * After LOG_FULL_AFTER entries, or if the changes would be larger than the whole
 * state, an entry is full.  A reader needs one entry for each digit of i that is not
 * zero, and the full one: 7 at most.  A change is written about 10 times on average,
 * compressed together with others.
 *
 * An entry is an envelope (envelope.h) with the JSON of the state or change, and
 *	  16	tenant
 *	   8	generation
 *	   8	number of the entry in its generation
 *	   8	number of the one on which it builds
 *	   8	time, ms since 1970
 *	   4	flags: LOG_*
 *
 * An entry counts as committed when it has been created and after that no newer claim
 * was there: then whoever takes over finds it.  Until that is known, the entry is
 * pending.
 *
 * A TenantLog is used by one thread at a time.
 */
#ifndef PS_TENANT_LOG_H
#define PS_TENANT_LOG_H

#include "bucket/claim.h"
#include "bucket/deleter.h"
#include "bucket/log_change.h"

#define LOG_FULL_AFTER 4096 /* a power of 4 */

#define LOG_FULL     1 /* the entry contains the whole state, and builds on none */
#define LOG_RELEASED 2 /* the owner has detached the tenant, and changes nothing after this */
#define LOG_DELETED  4 /* the tenant is deleted */

typedef struct LogEntryInfo
{
	uint64 generation; /* 0: the tenant has no log yet */
	uint64 number;
	int64 time; /* ms since 1970, by the clock of the owner's machine */
	uint32 flags;
} LogEntryInfo;

/*
 * Reads the newest state that an owner of a generation less than "below" has written,
 * without changing anything: for the generation after that of the newest claim, the
 * newest state of all.  The caller frees it with log_change_free().
 */
extern PsError *tenant_log_read(ObjectStore *store, const PsId *tenant, uint64 below, const ObjectWait *wait,
								LogEntryInfo *newest, LogChange *state);

typedef struct TenantLog TenantLog;

/*
 * Opens the log for the new owner of a tenant, with the newest state of the owners
 * before; "newest" says which entry that is.  Nothing is written.  Entries that are
 * replaced by newer ones are given to the deleter, which must live longer than the log.
 */
extern PsError *tenant_log_open(const TenantOwner *owner, Deleter *deleter, const ObjectWait *wait, TenantLog **log,
								LogEntryInfo *newest);
extern void tenant_log_close(TenantLog *log);

/* The state, with a pending change.  Valid until the next call. */
extern const LogChange *tenant_log_state(const TenantLog *log);

/*
 * Appends an entry with a change, NULL for none; flags: LOG_RELEASED or LOG_DELETED.
 * The first one must be appended before anything else is done as owner.
 *
 * On success it is committed.  PS_SQLSTATE_CORRUPTED: the change does not fit the
 * state, and nothing happened.  PS_SQLSTATE_FENCED: somebody else owns the tenant, and
 * the entry does not count; the log can only be closed.  After another error the entry
 * is pending: tenant_log_settle() tries again.  Until that succeeds, no other entry can
 * be appended, nothing that this one drops may be deleted, and nobody may be told that
 * the change is done.
 */
extern PsError *tenant_log_append(TenantLog *log, const json_t *change, uint32 flags, const ObjectWait *wait);

/* Commits the pending entry, if there is one. */
extern PsError *tenant_log_settle(TenantLog *log, const ObjectWait *wait);

extern bool tenant_log_is_pending(const TenantLog *log);

#endif /* PS_TENANT_LOG_H */
