/*
 * arrivals.h
 *	  When WAL of a timeline arrived, by the store's own time (store_clock.h).  This
 *	  decides what is old enough to be removed (maintain/history.c), and which clock
 *	  was wrong if the times of commits contradict each other (read/pitr.c).
 *
 * An arrival says that all WAL up to an LSN was there at a time, and perhaps
 * before.  The file TIMELINE/arrivals has them in order.  They are noted a few
 * times a second, and thinned out as they age: then their distance is a part
 * of their age.  They are appended without a sync.  An entry that cannot be read is
 * ignored: that only makes WAL younger.
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
 * Reads the file when a timeline is opened, and notes that WAL up to "end" is there.  A
 * file that cannot be read is logged, and does not prevent opening the timeline.
 */
extern Arrivals *arrivals_open(const char *timeline_dir, StoreClock *clock, XLogRecPtr end);
extern void arrivals_close(Arrivals *arrivals); /* does nothing for NULL */

/*
 * Notes that WAL up to lsn is there and returns 0, unless an arrival was noted within
 * ARRIVALS_PAUSE: then it returns after how many ms to call it again.  Called by one thread
 * at a time; the functions below may be called by any thread.  An error of the file is
 * logged.
 */
extern int64 arrivals_note(Arrivals *arrivals, XLogRecPtr lsn);

/* The greatest LSN up to which WAL is known to have been there "age" us ago; InvalidXLogRecPtr: unknown. */
extern XLogRecPtr arrivals_older_than(Arrivals *arrivals, int64 age);

/*
 * Up to which LSN WAL was there at a past time of the machine's clock, counted back from
 * now: the last arrival before the first that is later; InvalidXLogRecPtr: unknown.
 */
extern XLogRecPtr arrivals_at(Arrivals *arrivals, TimestampTz when);

/* The time of the machine's clock, counted back from now, when WAL up to lsn was there; false: unknown. */
extern bool arrivals_time_of(Arrivals *arrivals, XLogRecPtr lsn, TimestampTz *when);

#endif /* PS_ARRIVALS_H */
