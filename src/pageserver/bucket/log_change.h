/*
 * log_change.h
 *	  The state of a tenant, and changes of it, as the tenant's log has them.
 *
 *	  {"tenant": {...}, "timelines": {ID: record, ...}}
 *
 * Both members are optional in a change.  A change replaces members of "tenant" and of
 * the records of timelines; members that are objects are merged, and null removes a
 * member, or a timeline.  A member that is an object stays one: two changes of which the
 * first removes it could not be folded.
 *
 * A record with "layers", an array of texts "NAME ...", one for each layer file, is
 * a whole timeline, and replaces the one that is there.  Any other record changes it:
 * "drop", an array of names, removes files, then "add", an array of texts, adds some.
 *
 * A record's "wal", {"chain": TEXT, "kept": TEXT, "lsn": LSN}, says that the timeline's
 * files contain everything before that LSN, which object of its WAL chain (chain.h) is the
 * first with WAL behind it, and which is the first with WAL that is kept for points in time
 * of the past, as decimal numbers.
 *
 * In memory these arrays are objects whose members are the names, so that the cost
 * of a change does not depend on the number of files.
 *
 * A LogChange is used by one thread at a time.
 */
#ifndef PS_LOG_CHANGE_H
#define PS_LOG_CHANGE_H

#include <jansson.h>

#include "access/xlogdefs.h"

#include "base/error.h"

/* A state or a change, in the form for memory. */
typedef struct LogChange
{
	json_t *json;
} LogChange;

extern void log_change_init(LogChange *change); /* empty, as a state or as a change */
extern void log_change_free(LogChange *change);

/*
 * Converts JSON, or NULL for an empty change.  The result refers to parts of it, which
 * must not be changed later.  PS_SQLSTATE_CORRUPTED: it is not as described above.
 */
extern PsError *log_change_load(LogChange *change, const json_t *json);

/* As JSON of the form above, which refers to parts of the change; the caller owns it. */
extern json_t *log_change_json(const LogChange *change);

/* The JSON as compact text; free() it.  NULL: no memory. */
extern char *log_change_text(const LogChange *change, size_t *len);

/* One timeline of a state, as JSON that the caller owns; NULL if there is no such timeline. */
extern json_t *log_change_timeline(const LogChange *state, const char *id);

/* The member "wal" of a record: to be set, NULL: out of memory; and to be read, false: it is missing or invalid. */
extern json_t *log_change_make_wal(uint64 chain, uint64 kept, XLogRecPtr lsn);
extern bool log_change_wal(const json_t *record, uint64 *chain, uint64 *kept, XLogRecPtr *lsn);

/*
 * PS_SQLSTATE_CORRUPTED unless the change fits the state: it changes timelines that
 * there are, drops files that there are, adds files that there are not, and keeps members
 * that are objects.
 */
extern PsError *log_change_check(const LogChange *state, const LogChange *change);

/* Adds a change to a state that it fits. */
extern void log_change_apply(LogChange *state, const LogChange *change);

/* Adds a change to an older one, so that applying the result is the same as applying both. */
extern void log_change_fold(LogChange *older, const LogChange *newer);

#endif /* PS_LOG_CHANGE_H */
