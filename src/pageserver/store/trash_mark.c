/*
 * trash_mark.c
 *	  The file that marks a directory as being in the trash: see trash_mark.h.
 */
#include "ps_fe.h"

#include "base/crc.h"
#include "bytes.h"
#include "sqlstate.h"
#include "store/trash_mark.h"

#define HEAD_SIZE (4 + 4 + 16 + 8 + 8 + 4)
#define MAX_SIZE  (HEAD_SIZE + TRASH_MARK_BY_MAX + 4)

void
trash_mark_make(TrashMark *mark, StoreClock *clock, const char *by)
{
	mark->version = TRASH_MARK_VERSION;
	mark->at = store_clock_now(clock);
	mark->when = machine_clock_now();
	strlcpy(mark->by, by, sizeof(mark->by));
}

/* Writes or replaces the file, durably.  *outcome after an error: OUTCOME_NOT_DONE or OUTCOME_UNKNOWN. */
static PsError *
write_mark_file(const char *path, StoreClock *clock, const TrashMark *mark, Outcome *outcome)
{
	char buf[MAX_SIZE];
	size_t len = strlen(mark->by);

	ps_put32(buf, TRASH_MARK_MAGIC);
	ps_put32(buf + 4, TRASH_MARK_VERSION);
	memcpy(buf + 8, store_clock_id(clock)->b, 16);
	ps_put64(buf + 24, (uint64) mark->at);
	ps_put64(buf + 32, (uint64) mark->when);
	ps_put32(buf + 40, (uint32) len);
	memcpy(buf + HEAD_SIZE, mark->by, len);
	ps_put32(buf + HEAD_SIZE + len, crc_of(buf, HEAD_SIZE + len));
	return fs_replace_file(path, buf, HEAD_SIZE + len + 4, 0, outcome);
}

PsError *
trash_mark_write(const char *dir, StoreClock *clock, const TrashMark *mark, Outcome *outcome)
{
	char *path = psprintf("%s/%s", dir, TRASH_MARK_FILE);
	PsError *err = write_mark_file(path, clock, mark, outcome);
	Outcome undone;

	if (*outcome == OUTCOME_UNKNOWN)
	{
		ps_error_free(fs_remove_file(path, &undone));
		if (undone == OUTCOME_DONE)
		{
			*outcome = OUTCOME_NOT_DONE;
			ps_error_set_state(err, PS_SQLSTATE_IO);
			ps_error_detail(err, "The mark was removed again.");
		}
	}
	pfree(path);
	return err;
}

PsError *
trash_mark_remove(const char *dir, StoreClock *clock, const TrashMark *mark, Outcome *outcome)
{
	char *path = psprintf("%s/%s", dir, TRASH_MARK_FILE);
	PsError *err = fs_remove_file(path, outcome);
	Outcome undone;

	if (*outcome == OUTCOME_UNKNOWN)
	{
		ps_error_free(write_mark_file(path, clock, mark, &undone));
		if (undone == OUTCOME_DONE)
			*outcome = OUTCOME_NOT_DONE;
	}
	pfree(path);
	return err;
}

PsError *
trash_mark_read(const char *dir, StoreClock *clock, TrashMark *mark, bool *found)
{
	char *path = psprintf("%s/%s", dir, TRASH_MARK_FILE);
	char buf[MAX_SIZE + 1];
	ssize_t len;
	bool valid;
	Outcome outcome;
	PsError *err = fs_read_file(path, buf, sizeof(buf), &len);

	*found = len >= 0;
	fs_remove_stray(path);
	if (err != NULL || !*found)
	{
		*found = false;
		pfree(path);
		return err;
	}
	if (len >= 8 && ps_get32(buf) == TRASH_MARK_MAGIC && ps_get32(buf + 4) > TRASH_MARK_VERSION)
	{
		*mark = (TrashMark) {.version = ps_get32(buf + 4), .at = store_clock_now(clock)};
		ps_log_error(PS_WARNING, trash_mark_check(mark, dir), "\"%s\" stays in the trash", dir);
		pfree(path);
		return NULL;
	}
	valid = len > HEAD_SIZE && ps_get32(buf) == TRASH_MARK_MAGIC && ps_get32(buf + 4) == TRASH_MARK_VERSION &&
			ps_get32(buf + 40) <= TRASH_MARK_BY_MAX && len == HEAD_SIZE + (ssize_t) ps_get32(buf + 40) + 4 &&
			ps_get32(buf + len - 4) == crc_of(buf, len - 4);
	if (valid)
	{
		mark->version = TRASH_MARK_VERSION;
		mark->at = (int64) ps_get64(buf + 24);
		mark->when = (TimestampTz) ps_get64(buf + 32);
		memcpy(mark->by, buf + HEAD_SIZE, len - HEAD_SIZE - 4);
		mark->by[len - HEAD_SIZE - 4] = '\0';
	}
	else
	{
		ps_log(PS_WARNING, "file \"%s\" is damaged: what it marks stays in the trash, and trash_interval begins now",
			   path);
		trash_mark_make(mark, clock, "nobody knows");
	}
	if (valid && memcmp(buf + 8, store_clock_id(clock)->b, 16) != 0)
	{
		mark->at = store_clock_now(clock);
		valid = false;
	}
	if (!valid && (err = write_mark_file(path, clock, mark, &outcome)) != NULL)
		ps_log_error(PS_WARNING, err, "could not save the new time of the deletion");
	pfree(path);
	return NULL;
}

PsError *
trash_mark_check(const TrashMark *mark, const char *dir)
{
	if (mark->version <= TRASH_MARK_VERSION)
		return NULL;
	return ps_error_hint(ps_error(PS_SQLSTATE_STATE,
								  "file \"%s/%s\" has format version %u, this pageserver reads version %d", dir,
								  TRASH_MARK_FILE, mark->version, TRASH_MARK_VERSION),
						 "Use the version of the program that put it in the trash to take it out, or to remove it.");
}

int64
trash_mark_time_left(const TrashMark *mark, StoreClock *clock, int interval)
{
	if (mark->version > TRASH_MARK_VERSION)
		return TRASH_MARK_NEVER;
	return interval - (store_clock_now(clock) - mark->at) / USECS_PER_SEC;
}
