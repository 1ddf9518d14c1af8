/*
 * arrivals.c
 *	  When WAL of a timeline arrived: see arrivals.h.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "timeline/arrivals.h"
#include "base/crc.h"
#include "base/fs.h"
#include "bytes.h"

/* Arrivals are thinned out when there are this many; about a third of them stays. */
#define MAX_ARRIVALS 2048

/* Those of an age stay whose distance is at least this part of it, or the least distance. */
#define AGE_PER_DISTANCE 64
#define LEAST_DISTANCE   USECS_PER_SEC

typedef struct Arrival
{
	XLogRecPtr lsn;
	int64 at;            /* store_clock_now() */
	TimestampTz machine; /* the machine's clock */
	uint32 run;
} Arrival;

struct Arrivals
{
	/* fixed */
	StoreClock *clock;
	char *path;

	/* of the thread that notes them, or opens or closes the timeline */
	int fd;      /* -1: the file must be rewritten */
	off_t size;  /* of what is right in it */
	bool failed; /* an error was logged, and all has failed since */

	pthread_mutex_t lock; /* a leaf, not held during I/O; protects what follows */
	Arrival *items;       /* ascending by lsn and at */
	int n;
	int cap;
};

/* ---- the file ---- */

static void
encode_head(const Arrivals *arrivals, char buf[ARRIVALS_HEAD_SIZE])
{
	ps_put32(buf, ARRIVALS_MAGIC);
	ps_put32(buf + 4, ARRIVALS_VERSION);
	memcpy(buf + 8, store_clock_id(arrivals->clock)->b, 16);
	ps_put32(buf + 24, crc_of(buf, 24));
}

static void
encode(const Arrival *arrival, char buf[ARRIVALS_ENTRY_SIZE])
{
	ps_put64(buf, arrival->lsn);
	ps_put64(buf + 8, (uint64) arrival->at);
	ps_put64(buf + 16, (uint64) arrival->machine);
	ps_put32(buf + 24, arrival->run);
	ps_put32(buf + 28, crc_of(buf, 28));
}

static bool
decode(const char buf[ARRIVALS_ENTRY_SIZE], Arrival *arrival)
{
	*arrival = (Arrival) {.lsn = ps_get64(buf), .at = (int64) ps_get64(buf + 8), .machine = (TimestampTz) ps_get64(buf + 16), .run = ps_get32(buf + 24)};
	return ps_get32(buf + 28) == crc_of(buf, 28);
}

static void
append(Arrivals *arrivals, const Arrival *arrival)
{
	if (arrivals->n == arrivals->cap)
	{
		arrivals->cap = Max(64, arrivals->cap * 2);
		arrivals->items = pg_realloc(arrivals->items, arrivals->cap * sizeof(Arrival));
	}
	arrivals->items[arrivals->n++] = *arrival;
}

/*
 * Takes over what is right in the file, up to the end of WAL and to now: what
 * comes later is of WAL that was lost, whose LSNs may be those of other WAL the
 * next time, or of a time that is not yet, since the clock went back with its
 * file.  Of a file of another clock nothing is: its times mean nothing here.
 */
static void
read_file(Arrivals *arrivals, XLogRecPtr end, int64 now)
{
	char head[ARRIVALS_HEAD_SIZE];
	char *buf = NULL;
	struct stat st;
	off_t len = 0;

	arrivals->fd = open(arrivals->path, O_RDWR | O_CLOEXEC);
	if (arrivals->fd < 0 && errno == ENOENT)
		return;
	if (arrivals->fd >= 0 && fstat(arrivals->fd, &st) == 0)
	{
		buf = pg_malloc(Max(st.st_size, 1));
		len = pread(arrivals->fd, buf, st.st_size, 0);
	}
	if (buf == NULL || len < 0)
		ps_log(PS_WARNING, "could not read file \"%s\", WAL will be kept for longer: %m", arrivals->path);
	encode_head(arrivals, head);
	if (len >= (off_t) sizeof(head) && memcmp(buf, head, sizeof(head)) == 0)
		arrivals->size = sizeof(head);
	while (arrivals->size > 0 && arrivals->size + ARRIVALS_ENTRY_SIZE <= len)
	{
		Arrival arrival;
		const Arrival *last = arrivals->n > 0 ? &arrivals->items[arrivals->n - 1] : NULL;

		if (!decode(buf + arrivals->size, &arrival) || arrival.lsn > end || arrival.at > now ||
			(last != NULL && (arrival.lsn <= last->lsn || arrival.at < last->at)))
			break;
		append(arrivals, &arrival);
		arrivals->size += ARRIVALS_ENTRY_SIZE;
	}
	free(buf);

	/* if there is more, the file is rewritten */
	if (arrivals->fd >= 0 && (arrivals->size == 0 || arrivals->size != len))
	{
		close(arrivals->fd);
		arrivals->fd = -1;
	}
}

/* Writes all of them to a new file, which replaces the old one. */
static PsError *
write_all(Arrivals *arrivals)
{
	size_t size = ARRIVALS_HEAD_SIZE + (size_t) arrivals->n * ARRIVALS_ENTRY_SIZE;
	char *buf = pg_malloc(size);
	PsError *err;

	if (arrivals->fd >= 0)
		close(arrivals->fd);
	arrivals->fd = -1;
	encode_head(arrivals, buf);
	for (int i = 0; i < arrivals->n; i++)
		encode(&arrivals->items[i], buf + ARRIVALS_HEAD_SIZE + (size_t) i * ARRIVALS_ENTRY_SIZE);

	/* nothing is lost with it but the ages of WAL, which is then kept for longer */
	err = fs_replace_file(arrivals->path, buf, size, FS_NO_SYNC, NULL);
	free(buf);
	if (err != NULL)
		return err;
	arrivals->fd = open(arrivals->path, O_RDWR | O_CLOEXEC);
	arrivals->size = size;
	return arrivals->fd >= 0 ? NULL : ps_error(ps_errno_state(), "could not open file \"%s\": %m", arrivals->path);
}

/* Writes the last one. */
static PsError *
write_last(Arrivals *arrivals)
{
	char buf[ARRIVALS_ENTRY_SIZE];
	PsError *err;

	if (arrivals->fd < 0)
		return write_all(arrivals);
	encode(&arrivals->items[arrivals->n - 1], buf);
	err = fs_write_at(arrivals->fd, arrivals->path, buf, sizeof(buf), arrivals->size);
	if (err != NULL)
	{
		close(arrivals->fd);
		arrivals->fd = -1;
		return err;
	}
	arrivals->size += sizeof(buf);
	return NULL;
}

/* ---- noting ---- */

/* Drops those that are close to the one before that stays, for their age; not the last.  Caller holds the lock. */
static void
thin_out(Arrivals *arrivals)
{
	int64 now = store_clock_now(arrivals->clock);
	int kept = 1;

	for (int i = 1; i < arrivals->n; i++)
	{
		int64 distance = Max((now - arrivals->items[i].at) / AGE_PER_DISTANCE, LEAST_DISTANCE);

		if (i == arrivals->n - 1 || arrivals->items[i].at - arrivals->items[kept - 1].at >= distance)
			arrivals->items[kept++] = arrivals->items[i];
	}
	arrivals->n = kept;
}

/* The caller is the one thread that changes them. */
static void
note(Arrivals *arrivals, XLogRecPtr lsn, int64 now)
{
	Arrival arrival = {.lsn = lsn, .at = now, .machine = machine_clock_now(), .run = store_clock_run(arrivals->clock)};
	bool thin;
	PsError *err;

	pthread_mutex_lock(&arrivals->lock);
	append(arrivals, &arrival);
	thin = arrivals->n >= MAX_ARRIVALS;
	if (thin)
		thin_out(arrivals);
	pthread_mutex_unlock(&arrivals->lock);
	err = thin ? write_all(arrivals) : write_last(arrivals);
	if (err == NULL)
		arrivals->failed = false;
	else if (arrivals->failed)
		ps_error_free(err);
	else
	{
		/* tried again with the next */
		arrivals->failed = true;
		ps_log_error(PS_WARNING, err, "could not note when WAL has arrived, it will be kept for longer");
	}
}

int64
arrivals_note(Arrivals *arrivals, XLogRecPtr lsn)
{
	const Arrival *last = arrivals->n > 0 ? &arrivals->items[arrivals->n - 1] : NULL;
	int64 now = store_clock_now(arrivals->clock);

	if (last != NULL && lsn <= last->lsn)
		return 0;
	if (last != NULL && now - last->at < ARRIVALS_PAUSE)
		return (last->at + ARRIVALS_PAUSE - now) / 1000 + 1;
	note(arrivals, lsn, now);
	return 0;
}

Arrivals *
arrivals_open(const char *timeline_dir, StoreClock *clock, XLogRecPtr end)
{
	Arrivals *arrivals = pg_malloc0(sizeof(Arrivals));
	int64 now = store_clock_now(clock);

	arrivals->clock = clock;
	arrivals->path = psprintf("%s/%s", timeline_dir, ARRIVALS_FILE);
	pthread_mutex_init(&arrivals->lock, NULL);
	fs_remove_stray(arrivals->path);
	read_file(arrivals, end, now);
	if (arrivals->n == 0 || arrivals->items[arrivals->n - 1].lsn < end)
		note(arrivals, end, now);
	return arrivals;
}

void
arrivals_close(Arrivals *arrivals)
{
	if (arrivals == NULL)
		return;
	if (arrivals->fd >= 0)
		close(arrivals->fd);
	pthread_mutex_destroy(&arrivals->lock);
	pfree(arrivals->path);
	free(arrivals->items);
	free(arrivals);
}

/* ---- asking ---- */

XLogRecPtr
arrivals_older_than(Arrivals *arrivals, int64 age)
{
	int64 now = store_clock_now(arrivals->clock);
	XLogRecPtr lsn = InvalidXLogRecPtr;

	pthread_mutex_lock(&arrivals->lock);
	for (int i = 0; i < arrivals->n && now - arrivals->items[i].at >= age; i++)
		lsn = arrivals->items[i].lsn;
	pthread_mutex_unlock(&arrivals->lock);
	return lsn;
}

/*
 * When each of them was, as the machine's clock now counts back: within a run
 * by the store's clock, which nobody sets.  Of earlier runs the last that the
 * machine's clock said has to do.  Caller holds the lock, and frees the result.
 */
static TimestampTz *
times_of(Arrivals *arrivals)
{
	TimestampTz *times = pg_malloc(Max(arrivals->n, 1) * sizeof(TimestampTz));
	Arrival ref = {.at = store_clock_now(arrivals->clock), .machine = machine_clock_now(), .run = store_clock_run(arrivals->clock)};

	for (int i = arrivals->n - 1; i >= 0; i--)
	{
		if (arrivals->items[i].run != ref.run)
			ref = arrivals->items[i];
		times[i] = ref.machine - (ref.at - arrivals->items[i].at);
	}
	return times;
}

XLogRecPtr
arrivals_at(Arrivals *arrivals, TimestampTz when)
{
	XLogRecPtr lsn = InvalidXLogRecPtr;
	TimestampTz *times;

	pthread_mutex_lock(&arrivals->lock);
	times = times_of(arrivals);
	for (int i = 0; i < arrivals->n && times[i] <= when; i++)
		lsn = arrivals->items[i].lsn;
	pthread_mutex_unlock(&arrivals->lock);
	free(times);
	return lsn;
}

bool
arrivals_time_of(Arrivals *arrivals, XLogRecPtr lsn, TimestampTz *when)
{
	bool found = false;
	TimestampTz *times;

	pthread_mutex_lock(&arrivals->lock);
	times = times_of(arrivals);
	for (int i = 0; i < arrivals->n && !found; i++)
		if (arrivals->items[i].lsn >= lsn)
		{
			found = true;
			*when = times[i];
		}
	pthread_mutex_unlock(&arrivals->lock);
	free(times);
	return found;
}
