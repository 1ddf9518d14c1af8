/*
 * wal_worker_stream.c
 *	  Sends WAL to the store and processes its replies: where to start, and what
 *	  an acknowledgement means.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogreader.h"
#include "access/xlogutils.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/walsender.h"
#include "storage/fd.h"
#include "utils/ps_status.h"
#include "utils/timestamp.h"

#include "bytes.h"
#include "settings.h"
#include "sqlstate.h"
#include "wal_worker_impl.h"
#include "wire.h"

#define MAX_CHUNK       (1024 * 1024) /* bytes of WAL in one message */
#define WAL_HEADER_SIZE 25            /* 'w', start, end of WAL, time */
#define KEEPALIVE_SIZE  18            /* 'k', end of WAL, time, reply requested */
#define KEEPALIVE_MS    5000          /* longest silence until the store is asked for a reply */

TimestampTz outage_since;
TimestampTz streaming_since;

static StoreConn *conn;                 /* argument of stream_wal() */
static XLogReaderState *reader;         /* for WALRead(), which keeps the segment open */
static char *wal_message;               /* WAL_HEADER_SIZE + MAX_CHUNK bytes */
static XLogRecPtr sent;                 /* invalid: the store has not said yet where to start */
static XLogRecPtr confirmed;            /* flushed LSN that the store last reported on this connection */
static char store_waits_for[WAIT_TEXT]; /* its last value of PS_WAIT_PARAMETER on this connection */
static TimestampTz last_reply;
static TimestampTz last_keepalive;

/*
 * Silence in ms after which the store is asked for a reply, early enough to get
 * one within wal_sender_timeout.
 */
static int
keepalive_ms(void)
{
	return wal_sender_timeout > 0 ? Min(KEEPALIVE_MS, Max(wal_sender_timeout / 2, 1)) : KEEPALIVE_MS;
}

/*
 * XLogReaderRoutine->segment_open: like wal_segment_open(), but stops the server
 * if the segment does not exist.
 */
static void
open_segment(XLogReaderState *state, XLogSegNo segno, TimeLineID *tli)
{
	char path[MAXPGPATH];

	XLogFilePath(path, *tli, segno, state->segcxt.ws_segsize);
	state->seg.ws_file = BasicOpenFile(path, O_RDONLY | PG_BINARY);
	if (state->seg.ws_file >= 0)
		return;
	if (errno == ENOENT)
		wal_worker_give_up(psprintf("The page store needs WAL starting at %X/%X, but file \"%s\" does not exist.",
									LSN_FORMAT_ARGS(sent), path));
	ereport(ERROR,
			(errcode_for_file_access(),
			 errmsg("could not open file \"%s\": %m", path)));
}

void
stream_init(void)
{
	reader = XLogReaderAllocate(wal_segment_size, NULL,
								XL_ROUTINE(.segment_open = open_segment, .segment_close = wal_segment_close), NULL);
	wal_message = palloc(WAL_HEADER_SIZE + MAX_CHUNK);
}

static bool
send_keepalive(bool request_reply)
{
	char message[KEEPALIVE_SIZE];

	message[0] = 'k';
	ps_put64(message + 1, sent);
	ps_put64(message + 9, GetCurrentTimestamp());
	message[17] = request_reply;
	last_keepalive = GetCurrentTimestamp();
	return PQputCopyData(conn->pg, message, sizeof(message)) > 0;
}

/*
 * Sends one chunk of flushed WAL that has not been sent yet, and sets *more if
 * there is still WAL to send.  Returns false if the connection is lost.
 */
static bool
send_wal(bool *more)
{
	TimeLineID tli;
	XLogRecPtr flushed = GetFlushRecPtr(&tli);
	XLogRecPtr end = flushed;
	XLogSegNo segno;
	WALReadError error;

	*more = false;
	if (flushed <= sent)
		return true;
	if (end - sent > MAX_CHUNK)
	{
		end = sent + MAX_CHUNK;
		end -= end % XLOG_BLCKSZ;
		*more = true;
	}
	if (!WALRead(reader, wal_message + WAL_HEADER_SIZE, sent, end - sent, tli, &error))
		WALReadRaiseError(&error);
	XLByteToSeg(sent, segno, wal_segment_size);
	if (segno <= XLogGetLastRemovedSegno())
		wal_worker_give_up(psprintf("The page store needs WAL starting at %X/%X, which has been removed.",
									LSN_FORMAT_ARGS(sent)));

	wal_message[0] = 'w';
	ps_put64(wal_message + 1, sent);
	ps_put64(wal_message + 9, flushed);
	ps_put64(wal_message + 17, GetCurrentTimestamp());
	if (PQputCopyData(conn->pg, wal_message, WAL_HEADER_SIZE + (int) (end - sent)) <= 0)
		return false;
	sent = end;
	pg_atomic_write_u64(&wal_progress->sent, sent);
	standby_sent(sent);
	return true;
}

/*
 * May the WAL from "from" to "to" be the padding after a segment switch?  When
 * the store receives a switch record, it has the rest of the segment, too,
 * before that is sent or even flushed.
 */
static bool
may_be_padding(XLogRecPtr from, XLogRecPtr to)
{
	return XLogSegmentOffset(to, wal_segment_size) == 0 && to - from < wal_segment_size;
}

/*
 * The LSN from which on WAL is kept, if the store has acknowledged WAL up to
 * "flushed".  A store with object storage says from where on that has no WAL yet:
 * if the store's machine is lost, another store asks for it again.  What is removed
 * already, because an earlier store said otherwise, cannot be kept.
 */
static XLogRecPtr
keep_from(XLogRecPtr flushed)
{
	const char *told = PQparameterStatus(conn->pg, PS_KEEP_PARAMETER);
	XLogSegNo removed = XLogGetLastRemovedSegno();
	XLogSegNo segno;
	XLogRecPtr lsn;
	uint32 hi;
	uint32 lo;

	if (told == NULL || sscanf(told, "%X/%X", &hi, &lo) != 2)
		return flushed;
	lsn = ((uint64) hi) << 32 | lo;
	XLByteToSeg(lsn, segno, wal_segment_size);
	if (segno <= removed)
		XLogSegNoOffsetToRecPtr(removed + 1, 0, wal_segment_size, lsn);
	return Min(lsn, flushed);
}

/*
 * The first reply of the store says how far it has WAL.  The stream starts
 * there, if this server still has the WAL from there on.
 */
static void
begin_at(XLogRecPtr lsn)
{
	XLogRecPtr end = GetFlushRecPtr(NULL);
	XLogRecPtr acknowledged = pg_atomic_read_u64(&wal_progress->flushed);
	XLogSegNo segno;

	if (lsn > end && !may_be_padding(end, lsn))
		wal_worker_give_up(psprintf("The page store has WAL of timeline %s up to %X/%X, but the WAL of this compute "
									"ends at %X/%X.",
									ps_timeline, LSN_FORMAT_ARGS(lsn), LSN_FORMAT_ARGS(end)));
	if (lsn <= ps_checkpoint_lsn)
		wal_worker_give_up(psprintf("The page store has WAL of timeline %s only up to %X/%X, but this compute was "
									"started from the checkpoint at %X/%X.",
									ps_timeline, LSN_FORMAT_ARGS(lsn), LSN_FORMAT_ARGS(ps_checkpoint_lsn)));
	sent = lsn;
	standby_advance_slot(keep_from(lsn), true);
	XLByteToSeg(lsn, segno, wal_segment_size);
	if (segno <= XLogGetLastRemovedSegno())
		wal_worker_give_up(psprintf("The page store needs WAL starting at %X/%X, which has been removed.",
									LSN_FORMAT_ARGS(lsn)));
	if (lsn < acknowledged)
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("page store does not have all WAL that was acknowledged; sending it again"),
				 errdetail("WAL was acknowledged up to %X/%X, but the page store has it only up to %X/%X.",
						   LSN_FORMAT_ARGS(acknowledged), LSN_FORMAT_ARGS(lsn)),
				 errhint("This is normal if the store took over after the loss of another one, "
						 "and a sign of damage otherwise.")));

	if (outage_since != 0)
		ereport(LOG,
				(errmsg("resumed streaming WAL to the page store at %X/%X after %ld ms", LSN_FORMAT_ARGS(lsn),
						TimestampDifferenceMilliseconds(outage_since, GetCurrentTimestamp()))));
	else
		ereport(LOG,
				(errmsg("started streaming WAL to the page store at %X/%X", LSN_FORMAT_ARGS(lsn))));
	outage_since = 0;
	streaming_since = GetCurrentTimestamp();
	wal_progress_set_connected(true, NULL);
	wal_progress_set_served(conn->store_version);
	wal_progress_set_waits("", 0);
	status_file_changed();
	pg_atomic_write_u64(&wal_progress->sent, sent);
	standby_streaming(sent);
	set_ps_display("streaming");
}

/* Processes a reply of the store.  Returns what is wrong with it, or NULL. */
static const char *
process_reply(const char *message, int len)
{
	PsWalStatus status;
	XLogRecPtr flushed;
	XLogRecPtr applied;
	const char *problem = ps_wire_get_status(message, len, &status);

	if (problem != NULL)
		return problem;
	flushed = status.flushed;
	applied = status.applied;
	last_reply = GetCurrentTimestamp();

	if (sent == InvalidXLogRecPtr)
	{
		if (flushed == InvalidXLogRecPtr)
			return "the page store did not report where WAL streaming should start";
		begin_at(flushed);
		confirmed = flushed;
	}
	if (flushed > sent && may_be_padding(sent, flushed))
	{
		flushed = sent;
		applied = Min(applied, sent);
	}
	if (status.written > sent || flushed > sent || applied > sent)
		return "the page store acknowledged WAL that was not sent to it";
	if (flushed < confirmed)
		return "the page store revoked an acknowledgement";
	if (status.reply_wanted && !send_keepalive(false))
		return "could not send a message";

	/*
	 * The views show the progress before the commits that waited for it return:
	 * a session that has committed must not see an older position.
	 */
	confirmed = flushed;
	if (applied > pg_atomic_read_u64(&wal_progress->ingested))
		pg_atomic_write_u64(&wal_progress->ingested, applied);
	if (flushed > pg_atomic_read_u64(&wal_progress->flushed))
	{
		pg_atomic_write_u64(&wal_progress->flushed, flushed);
		ConditionVariableBroadcast(&wal_progress->acknowledged);
	}
	standby_acknowledged(status.written, flushed, applied, (TimestampTz) status.time);
	standby_advance_slot(keep_from(flushed), false);
	return NULL;
}

/*
 * Checks whether the store reports that it does not accept WAL now.  Logs when
 * that begins and when it ends.
 */
static void
check_wait(void)
{
	const char *told = PQparameterStatus(conn->pg, PS_WAIT_PARAMETER);
	char waits_for[WAIT_TEXT];
	TimestampTz since;

	snprintf(waits_for, sizeof(waits_for), "%s%s", told != NULL && *told != '\0' ? "the page store does not "
																				   "accept WAL: "
																				 : "",
			 told != NULL ? told : "");
	if (strcmp(waits_for, store_waits_for) == 0)
		return;
	strlcpy(store_waits_for, waits_for, sizeof(store_waits_for));
	since = wal_progress_set_waits(waits_for, 0);
	if (waits_for[0] != '\0')
		wal_progress_set_error(waits_for);
	status_file_changed();
	if (since == 0)
		ereport(LOG,
				(errmsg("%s", waits_for),
				 errdetail("Commits wait until the page store accepts WAL again.")));
	else if (waits_for[0] == '\0')
		ereport(LOG,
				(errmsg("page store accepts WAL again after %ld ms",
						TimestampDifferenceMilliseconds(since, GetCurrentTimestamp()))));
}

char *
stream_wal(StoreConn *stream_conn, char sqlstate[6])
{
	conn = stream_conn;
	sent = InvalidXLogRecPtr;
	streaming_since = 0;
	store_waits_for[0] = '\0';
	last_reply = last_keepalive = GetCurrentTimestamp();
	strlcpy(sqlstate, PS_SQLSTATE_PROTOCOL, 6);

	for (;;)
	{
		const char *wrong = NULL;
		char *message;
		int len = 0;
		int unsent;
		bool more = false;
		long silence;

		wal_worker_housekeeping(conn);
		if (wal_progress_store_changed(conn->store_version))
			return pstrdup("\"pageserver_smgr.store\" was changed");

		if (!PQconsumeInput(conn->pg))
			return store_conn_error(conn, sqlstate);
		while (wrong == NULL && (len = PQgetCopyData(conn->pg, &message, 1)) > 0)
		{
			wrong = process_reply(message, len);
			PQfreemem(message);
		}
		if (wrong != NULL)
			return pstrdup(wrong);
		if (len < 0)
			return store_conn_error(conn, sqlstate);
		check_wait();
		wal_worker_exit_if_stopping(conn); /* the reply may be the one that is waited for */

		/*
		 * The next chunk is sent only when the kernel has accepted the last one,
		 * which limits the memory that libpq needs.
		 */
		unsent = PQflush(conn->pg);
		if (unsent == 0 && sent != InvalidXLogRecPtr)
		{
			if (!send_wal(&more))
				return store_conn_error(conn, sqlstate);
			unsent = PQflush(conn->pg);
		}
		if (unsent < 0)
			return store_conn_error(conn, sqlstate);

		silence = TimestampDifferenceMilliseconds(last_reply, GetCurrentTimestamp());
		if (wal_sender_timeout > 0 && silence >= wal_sender_timeout)
			return psprintf("no message from the page store for %ld ms", silence);
		if (silence >= keepalive_ms() && sent != InvalidXLogRecPtr &&
			TimestampDifferenceExceeds(last_keepalive, GetCurrentTimestamp(), keepalive_ms()))
		{
			if (!send_keepalive(true) || (unsent = PQflush(conn->pg)) < 0)
				return store_conn_error(conn, sqlstate);
		}
		if (more && unsent == 0)
			continue;
		store_conn_wait(conn, unsent > 0, wal_worker_limit_wait(keepalive_ms()), WAIT_EVENT_WAL_SENDER_MAIN);
	}
}
