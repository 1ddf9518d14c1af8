/*
 * store_clock.c
 *	  The store's own time: see store_clock.h.
 */
#include "ps_fe.h"

#include <pthread.h>
#include <time.h>

#include "bytes.h"
#include "sqlstate.h"
#include "base/crc.h"
#include "base/fs.h"
#include "base/store_clock.h"

/* The file is written at most once in this time, us. */
#define SAVE_PAUSE (60 * USECS_PER_SEC)

/* A difference by which the machine's clock was set, us: more than time servers slew in a minute. */
#define JUMP (10 * USECS_PER_SEC)

struct StoreClock
{
	/* fixed */
	char *path;
	PsId id;
	uint32 run;
	int64 counted_before; /* by earlier runs */
	int64 boot_begin;     /* CLOCK_BOOTTIME when this run began, us */

	pthread_mutex_t lock; /* a leaf, held while the file is written; protects what follows */
	int64 looked_at;      /* store_clock_now() when the machine's clock was last checked */
	TimestampTz machine;  /* the machine's clock at that time */
	int64 saved_at;       /* when the file was last written, or that was tried */
	bool failed;          /* writing failed, which has been logged */
};

static int64
boottime_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (int64) ts.tv_sec * USECS_PER_SEC + ts.tv_nsec / 1000;
}

TimestampTz
machine_clock_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ((TimestampTz) ts.tv_sec - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY) * USECS_PER_SEC +
		   ts.tv_nsec / 1000;
}

char *
timestamp_text(TimestampTz when)
{
	int64 seconds = when / USECS_PER_SEC;
	int64 us = when % USECS_PER_SEC;
	char text[64];
	struct tm tm;
	time_t t;

	if (us < 0)
	{
		us += USECS_PER_SEC;
		seconds--;
	}
	t = seconds + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
	if (gmtime_r(&t, &tm) == NULL || strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm) == 0)
		return psprintf("%lld", (long long) when);
	return psprintf("%s.%06d UTC", text, (int) us);
}

int64
store_clock_now(StoreClock *clock)
{
	return clock->counted_before + Max(boottime_us() - clock->boot_begin, 0);
}

const PsId *
store_clock_id(const StoreClock *clock)
{
	return &clock->id;
}

uint32
store_clock_run(const StoreClock *clock)
{
	return clock->run;
}

/* ---- the file ---- */

/* *found false: there is no file, or it is damaged. */
static PsError *
read_file(StoreClock *clock, bool *found)
{
	char buf[STORE_CLOCK_SIZE + 1];
	ssize_t len;

	*found = false;
	PS_TRY(fs_read_file(clock->path, buf, sizeof(buf), &len));
	if (len < 0)
		return NULL;
	if (len >= 8 && ps_get32(buf) == STORE_CLOCK_MAGIC && ps_get32(buf + 4) != STORE_CLOCK_VERSION)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE,
									  "file \"%s\" has format version %u, this pageserver reads version %d",
									  clock->path, ps_get32(buf + 4), STORE_CLOCK_VERSION),
							 "It was written by a newer version: use that version.");
	if (len != STORE_CLOCK_SIZE || ps_get32(buf) != STORE_CLOCK_MAGIC ||
		ps_get32(buf + STORE_CLOCK_SIZE - 4) != crc_of(buf, STORE_CLOCK_SIZE - 4))
	{
		ps_log(PS_WARNING,
			   "file \"%s\" is damaged: the ages of WAL and of what is in the trash are unknown, "
			   "and are counted from now on",
			   clock->path);
		return NULL;
	}
	memcpy(clock->id.b, buf + 8, sizeof(clock->id.b));
	clock->counted_before = (int64) ps_get64(buf + 24);
	clock->machine = (TimestampTz) ps_get64(buf + 32);
	*found = true;
	return NULL;
}

/*
 * Replaces the file.  Its name is not synced: if a power failure brings the old one
 * back, less time was counted.  Caller holds the lock, or is the only one that has
 * the clock.
 */
static PsError *
write_file(const StoreClock *clock, int64 now)
{
	char buf[STORE_CLOCK_SIZE];

	ps_put32(buf, STORE_CLOCK_MAGIC);
	ps_put32(buf + 4, STORE_CLOCK_VERSION);
	memcpy(buf + 8, clock->id.b, sizeof(clock->id.b));
	ps_put64(buf + 24, (uint64) now);
	ps_put64(buf + 32, (uint64) clock->machine);
	ps_put32(buf + STORE_CLOCK_SIZE - 4, crc_of(buf, STORE_CLOCK_SIZE - 4));
	return fs_replace_file(clock->path, buf, sizeof(buf), FS_NO_SYNC_NAME, NULL);
}

/* A failure is logged once, until writing works again: only counted time is lost.  Caller holds the lock. */
static void
save(StoreClock *clock, int64 now)
{
	PsError *err = write_file(clock, now);

	clock->saved_at = now;
	if (err == NULL)
		clock->failed = false;
	else if (clock->failed)
		ps_error_free(err);
	else
	{
		clock->failed = true;
		ps_log_error(PS_WARNING, err, "time that the store runs is not counted");
	}
}

/* ---- checking the machine's clock ---- */

/* Logs if the machine's clock differs from what the time that has passed makes of it.  Caller holds the lock. */
static void
look(StoreClock *clock, int64 now)
{
	TimestampTz machine = machine_clock_now();
	TimestampTz expected = clock->machine + (now - clock->looked_at);

	if (machine > expected + JUMP || machine < expected - JUMP)
	{
		char *from = timestamp_text(expected);
		char *to = timestamp_text(machine);

		ps_log(PS_WARNING,
			   "the clock of this machine was set %s by %lld s, from %s to %s; "
			   "history and the trash are removed according to the time that the store has run, "
			   "which this does not change",
			   machine > expected ? "ahead" : "back",
			   (long long) ((machine > expected ? machine - expected : expected - machine) / USECS_PER_SEC), from, to);
		free(from);
		free(to);
	}
	clock->machine = machine;
	clock->looked_at = now;
}

/* Like look(), between two runs: how long the store was down is unknown. */
static void
look_at_start(StoreClock *clock)
{
	TimestampTz machine = machine_clock_now();
	char *before = timestamp_text(clock->machine);

	if (machine < clock->machine - JUMP)
		ps_log(PS_WARNING,
			   "the clock of this machine is %lld s behind %s, when the store last ran: "
			   "it was wrong then, or is wrong now; history and the trash are removed according to "
			   "the time that the store has run, not to this clock",
			   (long long) ((clock->machine - machine) / USECS_PER_SEC), before);
	else if (machine > clock->machine + USECS_PER_DAY)
		ps_log(PS_LOG,
			   "according to the clock of this machine the store has not run since %s; "
			   "this time does not count for pitr_interval and trash_interval",
			   before);
	free(before);
}

void
store_clock_tick(StoreClock *clock)
{
	int64 now;

	pthread_mutex_lock(&clock->lock);
	now = store_clock_now(clock);
	look(clock, now);
	if (now - clock->saved_at >= SAVE_PAUSE)
		save(clock, now);
	pthread_mutex_unlock(&clock->lock);
}

PsError *
store_clock_open(const char *store_dir, StoreClock **result)
{
	StoreClock *clock = pg_malloc0(sizeof(StoreClock));
	PsId run = ps_id_random();
	bool found;
	PsError *err;

	pthread_mutex_init(&clock->lock, NULL);
	clock->path = psprintf("%s/%s", store_dir, STORE_CLOCK_FILE);
	memcpy(&clock->run, run.b, sizeof(clock->run));
	clock->boot_begin = boottime_us();
	fs_remove_stray(clock->path);
	err = read_file(clock, &found);
	if (err != NULL)
	{
		pthread_mutex_destroy(&clock->lock);
		pfree(clock->path);
		free(clock);
		return err;
	}
	if (found)
		look_at_start(clock);
	else
		clock->id = ps_id_random();
	clock->machine = machine_clock_now();
	clock->looked_at = clock->saved_at = store_clock_now(clock);
	if (!found)
		save(clock, clock->looked_at);
	*result = clock;
	return NULL;
}

void
store_clock_close(StoreClock *clock)
{
	int64 now;

	if (clock == NULL)
		return;
	now = store_clock_now(clock);
	look(clock, now);
	save(clock, now);
	pthread_mutex_destroy(&clock->lock);
	pfree(clock->path);
	free(clock);
}
