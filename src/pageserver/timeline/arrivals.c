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

/* Arrivals are thinned out when there are this many; about a third of them is kept. */
#define MAX_ARRIVALS 2048

/* An arrival is kept if its distance from the one before is this fraction of its age, and at least LEAST_DISTANCE. */
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

	/* owned by the thread that notes arrivals, or opens or closes the timeline */
	int fd;      /* -1: the file must be rewritten */
	off_t size;  /* of its valid part */
	bool failed; /* an error was logged, and no write has succeeded since */

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
encode_entry(const Arrival *arrival, char buf[ARRIVALS_ENTRY_SIZE])
{
	ps_put64(buf, arrival->lsn);
	ps_put64(buf + 8, (uint64) arrival->at);
	ps_put64(buf + 16, (uint64) arrival->machine);
	ps_put32(buf + 24, arrival->run);
	ps_put32(buf + 28, crc_of(buf, 28));
}

static bool
decode_entry(const char buf[ARRIVALS_ENTRY_SIZE], Arrival *arrival)
{
	*arrival = (Arrival) {.lsn = ps_get64(buf),
						  .at = (int64) ps_get64(buf + 8),
						  .machine = (TimestampTz) ps_get64(buf + 16),
						  .run = ps_get32(buf + 24)};
	return ps_get32(buf + 28) == crc_of(buf, 28);
}

static void
append_to_list(Arrivals *arrivals, const Arrival *arrival)
{
	if (arrivals->n == arrivals->cap)
	{
		arrivals->cap = Max(64, arrivals->cap * 2);
		arrivals->items = pg_realloc(arrivals->items, arrivals->cap * sizeof(Arrival));
	}
	arrivals->items[arrivals->n++] = *arrival;
}

/*
 * Loads the valid entries of the file, up to the end of WAL and the current time.  Entries
 * with later LSNs are of WAL that was lost, and other WAL will get these LSNs.  Entries with
 * later times exist if the store's clock went back because its file did.  A file that was
 * written with another clock is ignored, because its times have no meaning here.
 */
static void
load_file(Arrivals *arrivals, XLogRecPtr end, int64 now)
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

		if (!decode_entry(buf + arrivals->size, &arrival) || arrival.lsn > end || arrival.at > now ||
			(last != NULL && (arrival.lsn <= last->lsn || arrival.at < last->at)))
			break;
		append_to_list(arrivals, &arrival);
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

/* Replaces the file by a new one with all arrivals. */
static PsError *
write_new_file(Arrivals *arrivals)
{
	size_t size = ARRIVALS_HEAD_SIZE + (size_t) arrivals->n * ARRIVALS_ENTRY_SIZE;
	char *buf = pg_malloc(size);
	PsError *err;

	if (arrivals->fd >= 0)
		close(arrivals->fd);
	arrivals->fd = -1;
	encode_head(arrivals, buf);
	for (int i = 0; i < arrivals->n; i++)
		encode_entry(&arrivals->items[i], buf + ARRIVALS_HEAD_SIZE + (size_t) i * ARRIVALS_ENTRY_SIZE);

	/* without a sync: if the file is lost, WAL is only kept for longer */
	err = fs_replace_file(arrivals->path, buf, size, FS_NO_SYNC, NULL);
	free(buf);
	if (err != NULL)
		return err;
	arrivals->fd = open(arrivals->path, O_RDWR | O_CLOEXEC);
	arrivals->size = size;
	return arrivals->fd >= 0 ? NULL : ps_error(ps_errno_state(), "could not open file \"%s\": %m", arrivals->path);
}

/* Appends the last arrival to the file. */
static PsError *
append_to_file(Arrivals *arrivals)
{
	char buf[ARRIVALS_ENTRY_SIZE];
	PsError *err;

	if (arrivals->fd < 0)
		return write_new_file(arrivals);
	encode_entry(&arrivals->items[arrivals->n - 1], buf);
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

/* Drops arrivals that are too close to the previous kept one for their age, except the last.  Caller holds the lock. */
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

/* Adds an arrival and writes it.  Caller is the only thread that changes arrivals. */
static void
add_arrival(Arrivals *arrivals, XLogRecPtr lsn, int64 now)
{
	Arrival arrival = {.lsn = lsn, .at = now, .machine = machine_clock_now(), .run = store_clock_run(arrivals->clock)};
	bool thin;
	PsError *err;

	pthread_mutex_lock(&arrivals->lock);
	append_to_list(arrivals, &arrival);
	thin = arrivals->n >= MAX_ARRIVALS;
	if (thin)
		thin_out(arrivals);
	pthread_mutex_unlock(&arrivals->lock);
	err = thin ? write_new_file(arrivals) : append_to_file(arrivals);
	if (err == NULL)
		arrivals->failed = false;
	else if (arrivals->failed)
		ps_error_free(err);
	else
	{
		/* the next arrival tries again, with a new file */
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
	add_arrival(arrivals, lsn, now);
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
	load_file(arrivals, end, now);
	if (arrivals->n == 0 || arrivals->items[arrivals->n - 1].lsn < end)
		add_arrival(arrivals, end, now);
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

/* ---- searching ---- */

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
 * Computes the time of each arrival by the machine's clock, counted back from now.  Within a
 * run (store_clock_run()), distances are those of the store's clock, which users cannot set.
 * For each earlier run, the machine's clock at the last arrival of that run is used.  Caller
 * holds the lock, and frees the result.
 */
static TimestampTz *
times_of(Arrivals *arrivals)
{
	TimestampTz *times = pg_malloc(Max(arrivals->n, 1) * sizeof(TimestampTz));
	Arrival ref = {.at = store_clock_now(arrivals->clock),
				   .machine = machine_clock_now(),
				   .run = store_clock_run(arrivals->clock)};

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
