/*
 * arrivals.h
 *	  When WAL of a timeline arrived, by the store's own time (store_clock.h):
 *	  by this it is decided what is old enough to be removed (maintain/history.c),
 *	  and whose clock was wrong if commits contradict each other about the time
 *	  (read/pitr.c).
 *
 * An arrival says that all WAL up to an LSN was there at a time, and perhaps
 * before.  The file TIMELINE/arrivals has them in order.  They are noted a few
 * times a second, and thinned out as they age: then their distance is a part
 * of their age.  They are appended without a sync, and what cannot be read any
 * more is as if it had never been noted: that only makes WAL younger.
 */
#ifndef PS_ARRIVALS_H
#define PS_ARRIVALS_H

#include "access/xlogdefs.h"

#include "base/store_clock.h"

/*
 * TIMELINE/arrivals, big-endian: a head of magic, version, id of the store's
 * clock (16 bytes), CRC32C of all before; then entries of LSN, store_clock_now(),
 * the machine's clock, store_clock_run(), CRC32C of the entry before it.
 */
#define ARRIVALS_FILE       "arrivals"
#define ARRIVALS_MAGIC      0x50534152 /* "PSAR" */
#define ARRIVALS_VERSION    1
#define ARRIVALS_HEAD_SIZE  (4 + 4 + 16 + 4)
#define ARRIVALS_ENTRY_SIZE (8 + 8 + 8 + 4 + 4)

/* Two are noted with this pause between them at least, us. */
#define ARRIVALS_PAUSE (200 * 1000)

typedef struct Arrivals Arrivals;

/*
 * Of a timeline that is opened and has WAL up to "end", which is noted.  A file
 * that cannot be read is logged, and is no reason not to open the timeline.
 */
extern Arrivals *arrivals_open(const char *timeline_dir, StoreClock *clock, XLogRecPtr end);
extern void arrivals_close(Arrivals *arrivals); /* NULL: nothing */

/*
 * Notes that WAL up to lsn is there, unless one was noted a moment ago: then it
 * returns after how many ms to call it again, else 0.  One thread at a time;
 * beside it, any thread may ask.  An error of the file is logged.
 */
extern int64 arrivals_note(Arrivals *arrivals, XLogRecPtr lsn);

/* The greatest LSN up to which all was there at least "age" us ago; InvalidXLogRecPtr: it is not known of any. */
extern XLogRecPtr arrivals_older_than(Arrivals *arrivals, int64 age);

/*
 * What was there at a time of the past, as the machine's clock now counts back:
 * the last arrival before the first that is later; InvalidXLogRecPtr: none.
 */
extern XLogRecPtr arrivals_at(Arrivals *arrivals, TimestampTz when);

/* When WAL up to lsn was there at the latest, by the same; false: it is not known. */
extern bool arrivals_time_of(Arrivals *arrivals, XLogRecPtr lsn, TimestampTz *when);

#endif /* PS_ARRIVALS_H */
