/*
 * arrivals.h
 *	  When WAL of a timeline arrived, by the store's clock (store_clock.h).  This
 *	  determines what is old enough to be removed (maintain/history.c), and which
 *	  clock was wrong if the times of commits contradict each other (read/pitr.c).
 *
 * An arrival says that all WAL up to an LSN was there at a time, or earlier.  The file
 * TIMELINE/arrivals has them in order.  They are noted a few times a second, and thinned out
 * as they age, so that their distance is a fraction of their age.  They are appended without
 * a sync.  If entries are lost, WAL is considered younger than it is, and is kept for longer.
 */
#ifndef PS_ARRIVALS_H
#define PS_ARRIVALS_H

#include "access/xlogdefs.h"

#include "base/store_clock.h"

/*
 * TIMELINE/arrivals; integers are big-endian:
 *
 *	  offset  size  field
 *	       0     4  magic
 *	       4     4  version
 *	       8    16  id of the store's clock
 *	      24     4  CRC-32C of all before
 *	      28        entries
 *
 * Each entry:
 *
 *	       0     8  LSN
 *	       8     8  store_clock_now()
 *	      16     8  time of the machine's clock
 *	      24     4  store_clock_run()
 *	      28     4  CRC-32C of the entry before this field
 */
#define ARRIVALS_FILE       "arrivals"
#define ARRIVALS_MAGIC      0x50534152 /* "PSAR" */
#define ARRIVALS_VERSION    1
#define ARRIVALS_HEAD_SIZE  (4 + 4 + 16 + 4)
#define ARRIVALS_ENTRY_SIZE (8 + 8 + 8 + 4 + 4)

/* The least time between two arrivals, us. */
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
