/*
 * wal_worker_status.c
 *	  The file pageserver_smgr.status in the data directory: a JSON object that
 *	  describes the state of the connection to the store.
 *
 * It is for "pageserver_ctl compute status" and for monitoring.  It can be read
 * without a session, which may need pages of a store that is down.  The file is
 * replaced by rename, so a reader sees a consistent state.  It is written when a wait
 * begins or ends, at most once a second while WAL progresses, and every ten seconds as
 * a sign of life.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "settings.h"
#include "store_conn.h"
#include "wal_worker_impl.h"

#define STATUS_FILE     "pageserver_smgr.status"
#define STATUS_FILE_TMP "pageserver_smgr.status.tmp"

#define PROGRESS_MS 1000
#define ALIVE_MS    10000

static TimestampTz written_at;
static uint64 written_sum; /* sum of the LSNs in it */
static char written_wait[WAIT_TEXT];
static bool changed; /* write it immediately */
static bool failed;  /* it could not be written, and that has been logged */

static void
add_name(StringInfo out, const char *name)
{
	appendStringInfo(out, "%s\n  ", out->len > 1 ? "," : "");
	escape_json(out, name);
	appendStringInfoString(out, ": ");
}

static void
add_text(StringInfo out, const char *name, const char *value)
{
	add_name(out, name);
	if (value != NULL)
		escape_json(out, value);
	else
		appendStringInfoString(out, "null");
}

static void
add_number(StringInfo out, const char *name, int64 value)
{
	add_name(out, name);
	appendStringInfo(out, INT64_FORMAT, value);
}

static void
add_lsn(StringInfo out, const char *name, XLogRecPtr lsn)
{
	add_text(out, name, lsn == InvalidXLogRecPtr ? NULL : psprintf("%X/%X", LSN_FORMAT_ARGS(lsn)));
}

/* 0 is written as null */
static void
add_time(StringInfo out, const char *name, TimestampTz when)
{
	pg_time_t seconds = timestamptz_to_time_t(when);
	char text[64];

	pg_strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S+00", pg_gmtime(&seconds));
	add_text(out, name, when == 0 ? NULL : text);
}

/* Bytes from lsn to the end of WAL; 0 if lsn is not known. */
static int64
lag(XLogRecPtr lsn, XLogRecPtr end)
{
	return lsn != InvalidXLogRecPtr && end > lsn ? end - lsn : 0;
}

static void
make_status(StringInfo out, const WalWorkerState *state, TimestampTz now)
{
	XLogRecPtr end = GetXLogInsertRecPtr();

	appendStringInfoChar(out, '{');
	add_number(out, "pid", PostmasterPid);
	add_time(out, "time", now);
	add_text(out, "state", state->waits_for[0] != '\0' ? "waiting" : state->connected ? "streaming"
																					  : "connecting");
	add_text(out, "waits_for", state->waits_for[0] != '\0' ? state->waits_for : NULL);
	add_time(out, "waits_since", state->waits_for[0] != '\0' ? state->waits_since : 0);
	add_text(out, "store", store_conn_display_address());
	add_text(out, "tenant", ps_tenant);
	add_text(out, "timeline", ps_timeline);
	add_text(out, "generation", ps_generation_text);
	add_time(out, "connected_since", state->connected ? state->connected_since : 0);
	add_lsn(out, "sent_lsn", state->sent);
	add_lsn(out, "flushed_lsn", state->flushed);
	add_lsn(out, "ingested_lsn", state->ingested);
	add_number(out, "flush_lag", lag(state->flushed, end));
	add_number(out, "ingest_lag", lag(state->ingested, end));
	add_text(out, "last_error", state->last_error[0] != '\0' ? state->last_error : NULL);
	appendStringInfoString(out, "\n}\n");
}

/* Returns false with errno set if the file cannot be written. */
static bool
write_status(const StringInfo text)
{
	int fd = BasicOpenFile(STATUS_FILE_TMP, O_WRONLY | O_CREAT | O_TRUNC | PG_BINARY);
	bool ok;

	if (fd < 0)
		return false;
	errno = ENOSPC; /* a short write means that the disk is full */
	ok = write(fd, text->data, text->len) == text->len;
	if (close(fd) != 0)
		ok = false;
	return ok && rename(STATUS_FILE_TMP, STATUS_FILE) == 0;
}

/* The sum rises whenever one of them rises. */
static uint64
sum_of_lsns(void)
{
	return pg_atomic_read_u64(&wal_progress->sent) + pg_atomic_read_u64(&wal_progress->flushed) +
		   pg_atomic_read_u64(&wal_progress->ingested);
}

long
status_file_due(void)
{
	long since;

	if (changed)
		return 0;
	since = TimestampDifferenceMilliseconds(written_at, GetCurrentTimestamp());
	return Max((sum_of_lsns() != written_sum ? PROGRESS_MS : ALIVE_MS) - since, 0);
}

void
status_file_update(void)
{
	static MemoryContext context;
	MemoryContext old;
	TimestampTz now = GetCurrentTimestamp();
	WalWorkerState state;
	StringInfoData text;

	if (!changed && !TimestampDifferenceExceeds(written_at, now, PROGRESS_MS))
		return;
	wal_progress_state(&state);
	if (!changed && sum_of_lsns() == written_sum && strcmp(state.waits_for, written_wait) == 0 &&
		!TimestampDifferenceExceeds(written_at, now, ALIVE_MS))
		return;
	changed = false;
	written_at = now;
	written_sum = sum_of_lsns();
	strlcpy(written_wait, state.waits_for, sizeof(written_wait));

	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "status file", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	initStringInfo(&text);
	make_status(&text, &state, now);
	if (write_status(&text))
		failed = false;
	else if (!failed)
	{
		failed = true;
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", STATUS_FILE)));
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(context);
}

void
status_file_changed(void)
{
	changed = true;
}

void
status_file_remove(void)
{
	(void) unlink(STATUS_FILE);
	(void) unlink(STATUS_FILE_TMP);
}
