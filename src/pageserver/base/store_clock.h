/*
 * store_clock.h
 *	  The store's own time, which decides what is old enough to be removed.
 *
 * The clock of a machine is set ahead and back: by people, by time servers, by an
 * empty battery.  Nothing may be removed because of that.  The age of WAL, and of
 * what is in the trash, is therefore the time that the store has run since: within
 * one run, CLOCK_BOOTTIME, which nobody can set; between runs, the sum in
 * STORE/clock.  This is never more than the time that has really passed: time that
 * was not counted, because the store was down or was killed before it wrote the
 * file, makes nothing older.
 *
 * Such a time means nothing in another store, so the clock has an id.
 */
#ifndef PS_STORE_CLOCK_H
#define PS_STORE_CLOCK_H

#include "datatype/timestamp.h"

#include "base/error.h"
#include "base/id.h"

typedef struct StoreClock StoreClock;

/*
 * STORE/clock, big-endian: magic, version, id (16 bytes), counted time (us), the
 * machine's clock at that time (a TimestampTz), CRC32C of everything before.
 */
#define STORE_CLOCK_FILE    "clock"
#define STORE_CLOCK_MAGIC   0x5053434b /* "PSCK" */
#define STORE_CLOCK_VERSION 1
#define STORE_CLOCK_SIZE    (4 + 4 + 16 + 8 + 8 + 4)

/*
 * Continues from the file.  If there is none, or it is damaged (which is logged), a
 * clock with a new id begins: nothing has an age yet.
 */
extern PsError *store_clock_open(const char *store_dir, StoreClock **clock);
extern void store_clock_close(StoreClock *clock); /* writes the file; does nothing for NULL */

/* Microseconds that the clock has counted; only differences mean something.  Any thread. */
extern int64 store_clock_now(StoreClock *clock);
extern const PsId *store_clock_id(const StoreClock *clock);
extern uint32 store_clock_run(const StoreClock *clock); /* a random number that identifies this run */

/*
 * To be called about once a minute, by any thread: writes the file, and logs if the
 * machine's clock was set since the last call.
 */
extern void store_clock_tick(StoreClock *clock);

/* The machine's clock, which also gives commits their time. */
extern TimestampTz machine_clock_now(void);

/* A time of the machine's clock for a message, "2026-11-20 12:00:00.123456 UTC"; malloc'd. */
extern char *timestamp_text(TimestampTz when);

#endif /* PS_STORE_CLOCK_H */
