/*
 * trash_mark.h
 *	  The file that marks a timeline's or a tenant's directory as being in the
 *	  trash, with the time and the user that put it there.
 */
#ifndef PS_TRASH_MARK_H
#define PS_TRASH_MARK_H

#include "base/store_clock.h"
#include "base/fs.h"

/*
 * DIR/deleted; integers are big-endian:
 *
 *	  offset  size  field
 *	       0     4  magic
 *	       4     4  version
 *	       8    16  id of the store's clock
 *	      24     8  store_clock_now()
 *	      32     8  time of the machine's clock
 *	      40     4  length of the text
 *	      44        text: who deleted it
 *	     end     4  CRC-32C of all before
 */
#define TRASH_MARK_FILE    "deleted"
#define TRASH_MARK_MAGIC   0x50535452 /* "PSTR" */
#define TRASH_MARK_VERSION 1
#define TRASH_MARK_BY_MAX  255

typedef struct TrashMark
{
	uint32 version;   /* later than TRASH_MARK_VERSION: the other fields are not valid */
	int64 at;         /* store_clock_now() */
	TimestampTz when; /* by the machine's clock, for display; 0: unknown */
	char by[TRASH_MARK_BY_MAX + 1];
} TrashMark;

extern void trash_mark_make(TrashMark *mark, StoreClock *clock, const char *by);

/* Durable.  OUTCOME_NOT_DONE: there is no mark.  OUTCOME_UNKNOWN: there may be one, now and after a restart. */
extern PsError *trash_mark_write(const char *dir, StoreClock *clock, const TrashMark *mark, Outcome *outcome);

/* Durable.  OUTCOME_NOT_DONE: the mark is still there.  OUTCOME_UNKNOWN: after a restart it may be there or not. */
extern PsError *trash_mark_remove(const char *dir, StoreClock *clock, const TrashMark *mark, Outcome *outcome);

/*
 * Sets *found if there is a mark; after an error, that is unknown, and *found is false.  If
 * the mark is damaged or was written with the clock of another store, its age is unknown, so
 * it is rewritten with the current time.  A mark of a later version is not changed.
 */
extern PsError *trash_mark_read(const char *dir, StoreClock *clock, TrashMark *mark, bool *found);

/*
 * Checks that what is marked may be undeleted or removed.  An error if the mark has a later
 * version: only a program of that version can tell.
 */
extern PsError *trash_mark_check(const TrashMark *mark, const char *dir);

/* Seconds until the mark is older than the interval; TRASH_MARK_NEVER if it has a later version. */
#define TRASH_MARK_NEVER PG_INT64_MAX
extern int64 trash_mark_time_left(const TrashMark *mark, StoreClock *clock, int interval);

#endif /* PS_TRASH_MARK_H */
