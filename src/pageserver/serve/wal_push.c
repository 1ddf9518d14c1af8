/*
 * wal_push.c
 *	  WAL from a compute: PostgreSQL's streaming replication messages, sent by
 *	  the client.
 *
 * After CopyBothResponse the store sends a status ('r') whose flushed position
 * is where the client's stream has to begin.  Then the client sends
 *
 *	  'w'  u64 start, u64 end of WAL there is, u64 time, WAL
 *	  'k'  u64 end of WAL there is, u64 time, u8 a status is wanted
 *
 * and the store answers with
 *
 *	  'r'  u64 written, u64 flushed, u64 applied, u64 time, u8 0
 *
 * written: received; flushed: durable, the end of a whole and checked record:
 * what releases commits; applied: visible to reads.  Statuses are not answers
 * to single messages: all WAL that has arrived is written, made durable by one
 * sync, and acknowledged by one status.
 *
 * When WAL is not taken for a while, for want of room or because the store is
 * behind, the client is told why, and when that is over, by ParameterStatus
 * messages (PS_WAIT_PARAMETER): clients that do not know them are not disturbed.
 */
#include "ps_fe.h"

#include <sys/time.h>

#include "base/clock.h"
#include "datatype/timestamp.h"

#include "bytes.h"
#include "serve/session.h"
#include "sqlstate.h"
#include "wire.h"

/* So much is read by one recv() if it is there. */
#define WAL_INPUT_SIZE (1024 * 1024)

/* Most WAL that is taken before it is synced, though more has arrived. */
#define MAX_UNSYNCED (4 * 1024 * 1024)

/* Idle: how often to look for a newer compute; how soon, at first, for progress of ingest. */
#define IDLE_MS     1000
#define PROGRESS_MS 1

/* Disk full: how often to try again, with a status so that the client knows that the store is alive. */
#define DISK_FULL_RETRY_MS 1000

/* While the receiver makes us wait (ingest lags): how often to tell the client that the store is alive. */
#define ALIVE_MS 5000

/* From such a wait on everybody is told of it; it is over when a message has been taken without one of so long. */
#define WAIT_TOLD_MS 1000
#define WAIT_OVER_MS 100

#define WAL_HEADER_SIZE (1 + 8 + 8 + 8)
#define KEEPALIVE_SIZE  (1 + 8 + 8 + 1)

typedef struct WalPush
{
	Session *session;
	Conn *conn;
	Timeline *tl;
	uint64 generation;
	WalReceiver *receiver;
	CancelCheck cancel; /* for waits of the receiver: see check_cancel() */
	int64 last_status;  /* clock_now_ms() */
	XLogRecPtr written;
	XLogRecPtr flushed;
	XLogRecPtr applied;
	uint64 unsynced; /* bytes written and not yet synced */
	bool status_wanted;
	int64 write_began;         /* clock_now_ms() of the call that may wait */
	const char *branch;        /* its name, for the log */
	char waits_for[WAIT_TEXT]; /* what the client and others have been told; "": nothing */
} WalPush;

/* Microseconds since 2000, as PostgreSQL's messages have it. */
static uint64
current_timestamp(void)
{
	struct timeval tv;

	gettimeofday(&tv, NULL);
	return ((uint64) tv.tv_sec - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY) * USECS_PER_SEC + tv.tv_usec;
}

/* Looks how far reads see; true if it has changed. */
static bool
update_applied(WalPush *wp)
{
	XLogRecPtr lsn;
	PsError *err = timeline_read_lsn(wp->tl, PS_LSN_LATEST, InvalidXLogRecPtr, NULL, &lsn);

	if (err != NULL)
	{
		/* ingest has stopped: it said so in the log */
		ps_error_free(err);
		return false;
	}
	lsn = Min(lsn, wp->flushed);
	if (lsn <= wp->applied)
		return false;
	wp->applied = lsn;
	return true;
}

static PsError *
send_status(WalPush *wp)
{
	PsWalStatus status;

	update_applied(wp);
	status = (PsWalStatus) {.written = wp->written, .flushed = wp->flushed, .applied = wp->applied, .time = current_timestamp()};
	conn_begin(wp->conn, 'd');
	ps_wire_put_status(&wp->conn->out, &status);
	conn_end(wp->conn);
	wp->status_wanted = false;
	wp->last_status = clock_now_ms();
	return conn_flush(wp->conn);
}

/* WAL waits for this; "": for nothing.  Tells all who want to know, the client with the next status. */
static void
set_wait(WalPush *wp, const char *waits_for)
{
	if (strcmp(wp->waits_for, waits_for) == 0)
		return;
	strlcpy(wp->waits_for, waits_for, sizeof(wp->waits_for));
	server_set_wait(wp->session, wp->branch, wp->waits_for);
	conn_send_parameter(wp->conn, PS_WAIT_PARAMETER, wp->waits_for);
	wp->status_wanted = true;
}

/*
 * The check of WalPush.cancel, called in waits of the receiver.  Those can be long,
 * and a compute that hears nothing for wal_sender_timeout takes the store for dead.
 */
static PsError *
check_cancel(void *arg)
{
	WalPush *wp = arg;
	char waits_for[WAIT_TEXT];
	int64 now = clock_now_ms();

	PS_TRY(session_check_cancel(wp->session));
	/* what is told stays as it is: numbers in it change all the time */
	if (wp->waits_for[0] == '\0' && now - wp->write_began >= WAIT_TOLD_MS &&
		wal_receiver_waits_for(wp->receiver, waits_for, sizeof(waits_for)))
		set_wait(wp, waits_for);
	else if (now - wp->last_status < ALIVE_MS)
		return NULL;
	return send_status(wp);
}

/* An error if this connection must not go on writing. */
static PsError *
check_superseded(WalPush *wp)
{
	if (!wal_receiver_is_superseded(wp->receiver))
		return NULL;
	PS_TRY(timeline_check_generation(wp->tl, wp->generation));
	return ps_error(PS_SQLSTATE_TRY_AGAIN, "a newer connection of the same compute sends WAL now");
}

/* The message without the branch's name at its beginning. */
static const char *
skip_branch(const WalPush *wp, const char *message)
{
	char *prefix = psprintf("branch \"%s\": ", wp->branch);
	size_t len = strlen(prefix);

	if (strncmp(message, prefix, len) == 0)
		message += len;
	pfree(prefix);
	return message;
}

/*
 * The disk is full (err, which is freed): waits a while.  Commits of the
 * compute wait meanwhile; reads go on.
 */
static PsError *
wait_for_room(WalPush *wp, PsError *err)
{
	int64 until = clock_now_ms() + DISK_FULL_RETRY_MS;
	int64 left;

	set_wait(wp, skip_branch(wp, err->message));
	ps_error_free(err);
	PS_TRY(send_status(wp));

	/* no event tells of room on a disk, and input must stay where it is: look at the rest now and then */
	while ((left = until - clock_now_ms()) > 0)
	{
		PS_TRY(check_superseded(wp));
		PS_TRY(session_check_cancel(wp->session));
		pg_usleep(Min(left, 100) * 1000);
	}
	return NULL;
}

static PsError *
take_wal(WalPush *wp, XLogRecPtr start, const char *data, size_t len)
{
	for (;;)
	{
		PsError *err;

		wp->write_began = clock_now_ms();
		err = wal_receiver_write(wp->receiver, start, data, len, &wp->cancel);
		if (err == NULL)
			break;
		if (!ps_error_is(err, PS_SQLSTATE_DISK_FULL))
			return err;
		PS_TRY(wait_for_room(wp, err));
	}
	if (wp->waits_for[0] != '\0' && clock_now_ms() - wp->write_began < WAIT_OVER_MS)
		set_wait(wp, "");
	wp->written = start + len;
	wp->unsynced += len;
	return NULL;
}

static PsError *
sync_wal(WalPush *wp)
{
	bool waited = false;

	for (;;)
	{
		PsError *err = wal_receiver_sync(wp->receiver, &wp->flushed);

		if (err == NULL)
			break;
		if (!ps_error_is(err, PS_SQLSTATE_DISK_FULL))
			return err;
		PS_TRY(wait_for_room(wp, err));
		waited = true;
	}
	if (waited)
		set_wait(wp, "");
	wp->unsynced = 0;
	return NULL;
}

static PsError *
take_copy_data(WalPush *wp, const char *body, uint32 len)
{
	if (len > 0 && body[0] == 'w')
	{
		if (len < WAL_HEADER_SIZE)
			return ps_error(PS_SQLSTATE_PROTOCOL, "WAL message of %u bytes is shorter than its header", len);
		if (len == WAL_HEADER_SIZE)
			return NULL;
		return take_wal(wp, ps_get64(body + 1), body + WAL_HEADER_SIZE, len - WAL_HEADER_SIZE);
	}
	if (len > 0 && body[0] == 'k')
	{
		if (len != KEEPALIVE_SIZE)
			return ps_error(PS_SQLSTATE_PROTOCOL, "keepalive message of %u bytes, expected %d", len, KEEPALIVE_SIZE);
		wp->status_wanted = wp->status_wanted || body[KEEPALIVE_SIZE - 1] != 0;
		return NULL;
	}
	return ps_error(PS_SQLSTATE_PROTOCOL, "unexpected message in a WAL stream: expected 'w' or 'k'");
}

/* Everything is acknowledged: waits for input, telling the client meanwhile how far ingest is. */
static PsError *
wait_for_input(WalPush *wp)
{
	int64 begin = clock_now_ms();
	int progress_ms = PROGRESS_MS;

	for (;;)
	{
		bool behind = wp->applied < wp->flushed;

		if (conn_wait_message(wp->conn, behind ? Min(progress_ms, IDLE_MS) : IDLE_MS))
			return NULL;
		PS_TRY(check_superseded(wp));
		PS_TRY(session_check_stop(wp->session));
		/* what the last message had to wait for */
		if (wp->waits_for[0] != '\0' && clock_now_ms() - begin >= IDLE_MS)
			set_wait(wp, "");
		if ((behind && update_applied(wp)) || wp->status_wanted)
			PS_TRY(send_status(wp));
		progress_ms = Min(progress_ms * 2, IDLE_MS);
	}
}

/* Until the client ends it (NULL) or something fails. */
static PsError *
stream(WalPush *wp)
{
	PS_TRY(send_status(wp));
	for (;;)
	{
		PS_TRY(wait_for_input(wp));
		do
		{
			Message msg;
			PsError *err = conn_read_message(wp->conn, &msg);

			if (err != NULL)
			{
				PsError *stop = session_check_stop(wp->session);

				if (stop == NULL)
					return err;
				ps_error_free(err);
				return stop;
			}
			switch (msg.type)
			{
				case 'd':
					PS_TRY(take_copy_data(wp, msg.body, msg.len));
					break;
				case 'c':
					PS_TRY(sync_wal(wp));
					PS_TRY(send_status(wp));
					conn_begin(wp->conn, 'c');
					conn_end(wp->conn);
					conn_send_complete(wp->conn, "WAL_PUSH");
					return NULL;
				case 'f':
					return ps_error(PS_SQLSTATE_CANCELED, "the client ended the WAL stream with a failure");
				case 'H':
				case 'S':
					break;
				case 'X':
					return ps_error(PS_SQLSTATE_CONNECTION, "the client closed the connection");
				default:
					return ps_error(PS_SQLSTATE_PROTOCOL, "unexpected message of type \"%c\" in a WAL stream", msg.type);
			}
		} while (wp->unsynced < MAX_UNSYNCED && conn_wait_message(wp->conn, 0));

		if (wp->unsynced > 0)
		{
			PS_TRY(sync_wal(wp));
			wp->status_wanted = true;
		}
		if (wp->status_wanted)
			PS_TRY(send_status(wp));
		PS_TRY(session_check_stop(wp->session));
	}
}

PsError *
wal_push_run(Session *session, Timeline *tl, uint64 generation)
{
	WalPush wp = {.session = session, .conn = &session->conn, .tl = tl, .generation = generation};
	TimelineInfo info;
	PsError *err;

	timeline_info(tl, &info);
	PS_TRY(wal_receiver_open(tl, generation, &wp.receiver, &wp.written));
	server_count_wal(session, true);
	wal_receiver_set_client(wp.receiver, &session->cancel);
	wp.cancel = (CancelCheck) {check_cancel, &wp};
	wp.branch = info.name;
	wp.flushed = wp.written;
	ps_thread_name("wal %s", info.name);
	ps_log(PS_LOG, "branch \"%s\": WAL comes from %X/%X on (generation " UINT64_FORMAT ", %s)", info.name,
		   LSN_FORMAT_ARGS(wp.flushed), generation, info.owner);

	wp.conn->max_message = CONN_MAX_COPY;
	conn_set_input_size(wp.conn, WAL_INPUT_SIZE);
	conn_send_copy_response(wp.conn, 'W');
	err = stream(&wp);

	/* the last that the client sent before it went: not acknowledged any more, but why not keep it */
	if (wp.unsynced > 0)
		ps_error_free(wal_receiver_sync(wp.receiver, &wp.flushed));
	wal_receiver_close(wp.receiver);
	if (wp.waits_for[0] != '\0')
		server_set_wait(session, info.name, "");
	server_count_wal(session, false);
	ps_log(PS_LOG, "branch \"%s\": WAL stream ended at %X/%X: %s", info.name, LSN_FORMAT_ARGS(wp.flushed),
		   err != NULL ? err->message : "the client is done");
	ps_thread_name("session %d", session->id);
	return err;
}
