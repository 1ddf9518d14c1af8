/*
 * log_change.h
 *	  The state of a tenant, and changes of it, as the tenant's log has them.
 *
 *	  {"tenant": {...}, "timelines": {ID: record, ...}}
 *
 * Both members are optional in a change.  Members of "tenant" and of a record are
 * replaced by those of a newer change; objects are merged, and null removes.  A record that is null removes the
 * timeline.  Layer files are the exception: a record with "layers", an array
 * of texts "NAME ...", is a whole timeline and replaces it; any other record
 * changes the timeline that is there: "drop", an array of names, removes files, and
 * then "add", texts like those of "layers", adds files.  What else is in a record
 * is not looked at.
 *
 * In memory these arrays are objects, with the names as their members: a change
 * costs as much as it is large, however many files the timeline has.
 *
 * A LogChange is used by one thread at a time.
 */
#ifndef PS_LOG_CHANGE_H
#define PS_LOG_CHANGE_H

#include <jansson.h>

#include "base/error.h"

/* A state or a change, in the form for memory. */
typedef struct LogChange
{
	json_t *json;
} LogChange;

extern void log_change_init(LogChange *change); /* empty, as a state or as a change */
extern void log_change_free(LogChange *change);

/*
 * Converts from JSON, which may be NULL for an empty one.  The JSON is not changed, but
 * may be shared: nobody must change it later.  PS_SQLSTATE_CORRUPTED: it is not as
 * described above.
 */
extern PsError *log_change_load(LogChange *change, const json_t *json);

/* The JSON as compact text; free() it.  NULL: no memory. */
extern char *log_change_text(const LogChange *change, size_t *len);

/* One timeline of a state, as JSON that the caller owns; NULL if there is no such timeline. */
extern json_t *log_change_timeline(const LogChange *state, const char *id);

/*
 * PS_SQLSTATE_CORRUPTED unless the change fits the state: it changes timelines that
 * there are, drops files that there are, and adds files that there are not.
 */
extern PsError *log_change_check(const LogChange *state, const LogChange *change);

/* Adds a change to a state that it fits. */
extern void log_change_apply(LogChange *state, const LogChange *change);

/* Adds a change to an older one, so that applying the result is the same as applying both. */
extern void log_change_fold(LogChange *older, const LogChange *newer);

#endif /* PS_LOG_CHANGE_H */
