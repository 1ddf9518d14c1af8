/*
 * store_clock.h
 *	  The store's own time, by which it is decided what has become old.
 *
 * Clocks of machines are set, ahead and back, by people, by time servers and
 * by a battery that is empty.  Nothing may be removed because of that.  So the
 * age of what is in a store is counted in time that the store has run: within a
 * run by CLOCK_BOOTTIME, which nobody can set, and from one run to the next by
 * what STORE/clock says of the last one.  That is never more than the time that
 * has really passed: what the store did not count, because it was down or was
 * killed before it wrote the file, makes nothing older.
 *
 * Such a time means nothing in another store: it goes with the clock's id.
 */
#ifndef PS_STORE_CLOCK_H
#define PS_STORE_CLOCK_H

#include "datatype/timestamp.h"

#include "base/error.h"
#include "base/id.h"

typedef struct StoreClock StoreClock;

/*
 * STORE/clock, big-endian: magic, version, id (16 bytes), time that was counted
 * (us), the machine's clock then (as TimestampTz has it), CRC32C of all before.
 */
#define STORE_CLOCK_FILE    "clock"
#define STORE_CLOCK_MAGIC   0x5053434b /* "PSCK" */
#define STORE_CLOCK_VERSION 1
#define STORE_CLOCK_SIZE    (4 + 4 + 16 + 8 + 8 + 4)

/*
 * Goes on where the file ends.  If there is none, or it is damaged, which is
 * logged, a clock with a new id begins: nothing has an age yet.
 */
extern PsError *store_clock_open(const char *store_dir, StoreClock **clock);
extern void store_clock_close(StoreClock *clock); /* writes the file; NULL: nothing */

/* Any thread: us that the clock has counted; only differences mean something. */
extern int64 store_clock_now(StoreClock *clock);
extern const PsId *store_clock_id(const StoreClock *clock);
extern uint32 store_clock_run(const StoreClock *clock); /* a number that this run has, and hardly any other */

/*
 * To be called about once a minute, by any thread: writes the file, and logs it
 * if the machine's clock was set since the last call.
 */
extern void store_clock_tick(StoreClock *clock);

/* What the machine's clock says, as commits have it. */
extern TimestampTz machine_clock_now(void);

/* Such a time for a message, in UTC: "2026-11-20 12:00:00.123456 UTC"; malloc'd. */
extern char *timestamp_text(TimestampTz when);

#endif /* PS_STORE_CLOCK_H */
