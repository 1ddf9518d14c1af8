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
 * DIR/deleted, big-endian: magic, version, id of the store's clock (16 bytes),
 * store_clock_now(), the machine's clock, length of the text that follows, who
 * did it, CRC32C of all before.
 */
#define TRASH_MARK_FILE    "deleted"
#define TRASH_MARK_MAGIC   0x50535452 /* "PSTR" */
#define TRASH_MARK_VERSION 1
#define TRASH_MARK_BY_MAX  255

typedef struct TrashMark
{
	uint32 version;   /* later than TRASH_MARK_VERSION: nothing else is known of it */
	int64 at;         /* store_clock_now() */
	TimestampTz when; /* by the machine's clock, for people; 0: not known */
	char by[TRASH_MARK_BY_MAX + 1];
} TrashMark;

extern void trash_mark_make(TrashMark *mark, StoreClock *clock, const char *by);

/* Durably.  OUTCOME_NOT_DONE: it is not there.  OUTCOME_UNKNOWN: it may be there, also after a restart. */
extern PsError *trash_mark_write(const char *dir, StoreClock *clock, const TrashMark *mark, Outcome *outcome);

/* Durably.  OUTCOME_NOT_DONE: it is there still.  OUTCOME_UNKNOWN: it may be there or not after a restart. */
extern PsError *trash_mark_remove(const char *dir, StoreClock *clock, const TrashMark *mark, Outcome *outcome);

/*
 * Sets *found if there is a mark.  After an error that is unknown, and *found is false.  If
 * the mark is damaged, or was written with the clock of another store, its age is unknown,
 * so it is rewritten with the present time.  A mark of a later version is not changed.
 */
extern PsError *trash_mark_read(const char *dir, StoreClock *clock, TrashMark *mark, bool *found);

/* May what it marks be taken out of the trash, or be removed?  An error if the mark is of a later version, which only that can tell. */
extern PsError *trash_mark_check(const TrashMark *mark, const char *dir);

/* s until it is older than the interval; of a later version: never. */
#define TRASH_MARK_NEVER PG_INT64_MAX
extern int64 trash_mark_time_left(const TrashMark *mark, StoreClock *clock, int interval);

#endif /* PS_TRASH_MARK_H */
