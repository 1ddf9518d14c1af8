/*
 * wal_push.c
 *	  A WAL stream: a compute sends its WAL to the store, in the messages of
 *	  PostgreSQL's streaming replication, with client and server exchanged.
 *
 * After CopyBothResponse the store sends a status ('r').  The client's stream
 * must begin at its flushed position.  Then the client sends
 *
 *	  'w'  u64 start, u64 end of the client's WAL, u64 time, WAL
 *	  'k'  u64 end of the client's WAL, u64 time, u8 the client wants a status
 *
 * and the store answers with
 *
 *	  'r'  u64 written, u64 flushed, u64 applied, u64 time, u8 0
 *
 * written is what the store has received; flushed is durable where the setting
 * wal_acknowledge demands it, and was checked: it releases commits; applied is visible
 * to reads.  A status does not answer a single message: all WAL that has arrived is
 * written, made durable by one sync, and acknowledged by one status.  While WAL is on
 * its way to object storage, more is received and synced.
 *
 * Where the stream begins, the store has all WAL on its own disk, so the first status
 * must wait until all of that may be acknowledged.
 *
 * When the store does not accept WAL for a while, because the disk is full or
 * ingest is behind, ParameterStatus messages (PS_WAIT_PARAMETER) tell the client
 * why, and when it is over.  A store with object storage says by another parameter
 * (PS_KEEP_PARAMETER) which WAL the client must keep although it was acknowledged.
 * Clients that do not know the parameters ignore them.
 */
#include "ps_fe.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#include "datatype/timestamp.h"

#include "base/clock.h"
#include "bytes.h"
#include "serve/commands.h"
#include "sqlstate.h"
#include "wire.h"

/* Size of the input buffer: the most that one recv() reads. */
#define WAL_INPUT_SIZE (1024 * 1024)

/* WAL is synced after this many bytes, even if more has arrived. */
#define MAX_UNSYNCED (4 * 1024 * 1024)

/* While idle: how often to check for a newer compute, and how soon, at first, for progress of ingest. */
#define IDLE_MS     1000
#define PROGRESS_MS 1

/* While the disk is full: how often to try again, and to send a status that shows that the store is alive. */
#define DISK_FULL_RETRY_MS 1000

/* While the receiver waits because ingest is behind: how often to send a status that shows that the store is alive. */
#define ALIVE_MS 5000

/*
 * A wait of WAIT_REPORT_MS is reported to the client and the log.  It is over
 * when a message was accepted in less than WAIT_OVER_MS.
 */
#define WAIT_REPORT_MS 1000
#define WAIT_OVER_MS   100

/* PS_KEEP_PARAMETER is sent again when its value has changed by a segment, or after this time. */
#define KEEP_MS 5000

#define WAL_HEADER_SIZE (1 + 8 + 8 + 8)
#define KEEPALIVE_SIZE  (1 + 8 + 8 + 1)

typedef struct WalPush
{
	Session *session;
	Conn *conn;
	Timeline *tl;
	uint64 generation;
	WalReceiver *receiver;
	CancelCheck cancel; /* for waits of the receiver: check_cancel() */
	uint32 segment_size;
	int64 last_status; /* clock_now_ms() */
	XLogRecPtr written;
	XLogRecPtr durable; /* on this disk: the end of a whole record */
	XLogRecPtr flushed; /* of it, what may be acknowledged; InvalidXLogRecPtr: no status was sent yet */
	XLogRecPtr applied;
	XLogRecPtr keep_from; /* PS_KEEP_PARAMETER as it was sent last */
	int64 keep_sent;      /* when, clock_now_ms() */
	uint64 unsynced;      /* bytes written and not yet synced */
	bool status_wanted;
	int64 write_began;         /* clock_now_ms() of the call that may wait */
	const char *branch;        /* its name, for the log */
	const char *owner;         /* host and directory of the compute, for the log */
	char waits_for[WAIT_TEXT]; /* the wait that has been reported; "": none */
	bool is_ack_wait;          /* it is for durable WAL that may not be acknowledged */
	int64 ack_since;           /* since when there is such WAL, clock_now_ms(); 0: there is none */
} WalPush;

/* The time as PostgreSQL's messages have it: microseconds since 2000. */
static uint64
current_timestamp(void)
{
	struct timeval tv;

	gettimeofday(&tv, NULL);
	return ((uint64) tv.tv_sec - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY) * USECS_PER_SEC + tv.tv_usec;
}

/* Gets the LSN up to which WAL is visible to reads.  Returns true if it has advanced. */
static bool
update_applied(WalPush *wp)
{
	XLogRecPtr lsn;
	PsError *err = timeline_read_lsn(wp->tl, PS_LSN_LATEST, InvalidXLogRecPtr, NULL, &lsn);

	if (err != NULL)
	{
		/* ingest has stopped, and has logged that */
		ps_error_free(err);
		return false;
	}
	lsn = Min(lsn, wp->flushed);
	if (lsn <= wp->applied)
		return false;
	wp->applied = lsn;
	return true;
}

/* Reports what the WAL waits for ("": nothing) to the log and, with the next status, to the client. */
static void
report_wait(WalPush *wp, const char *waits_for)
{
	if (strcmp(wp->waits_for, waits_for) == 0)
		return;
	strlcpy(wp->waits_for, waits_for, sizeof(wp->waits_for));
	wp->is_ack_wait = false;
	wal_waits_set(wp->session, wp->branch, wp->waits_for);
	conn_send_parameter(wp->conn, PS_WAIT_PARAMETER, wp->waits_for);
	wp->status_wanted = true;
}

/* Reports that the wait of messages, if there was one, is over. */
static void
end_wait(WalPush *wp)
{
	if (!wp->is_ack_wait)
		report_wait(wp, "");
}

/*
 * Gets the LSN up to which durable WAL may be acknowledged, which never falls for the client;
 * reports it if that takes long.  Returns true if it has advanced.
 */
static bool
update_flushed(WalPush *wp)
{
	XLogRecPtr lsn = Min(wal_receiver_acknowledged(wp->receiver), wp->durable);
	XLogRecPtr before = wp->flushed;

	wp->flushed = Max(wp->flushed, lsn);
	if (wp->flushed == wp->durable)
		wp->ack_since = 0;
	else if (wp->ack_since == 0 || wp->flushed > before)
		wp->ack_since = clock_now_ms();
	else if (wp->waits_for[0] == '\0' && clock_now_ms() - wp->ack_since >= WAIT_REPORT_MS)
	{
		char waits_for[WAIT_TEXT];

		wal_receiver_unacknowledged_text(wp->receiver, waits_for, sizeof(waits_for));
		report_wait(wp, waits_for);
		wp->is_ack_wait = true;
	}
	if (wp->is_ack_wait && wp->flushed > before)
		report_wait(wp, "");
	return wp->flushed > before;
}

/* Tells the client, now and then, which WAL it must keep. */
static void
send_keep_from(WalPush *wp)
{
	XLogRecPtr lsn = wal_receiver_keep_from(wp->receiver);
	int64 now = clock_now_ms();
	char text[32];

	if (lsn == wp->keep_from || lsn == InvalidXLogRecPtr ||
		(wp->keep_from != InvalidXLogRecPtr && lsn - wp->keep_from < wp->segment_size && now - wp->keep_sent < KEEP_MS))
		return;
	snprintf(text, sizeof(text), "%X/%X", LSN_FORMAT_ARGS(lsn));
	conn_send_parameter(wp->conn, PS_KEEP_PARAMETER, text);
	wp->keep_from = lsn;
	wp->keep_sent = now;
}

static PsError *
send_status(WalPush *wp)
{
	PsWalStatus status;

	update_flushed(wp);
	update_applied(wp);
	send_keep_from(wp);
	status = (PsWalStatus) {
		.written = wp->written,
		.flushed = wp->flushed,
		.applied = wp->applied,
		.time = current_timestamp(),
	};
	conn_begin(wp->conn, 'd');
	ps_wire_put_status(&wp->conn->out, &status);
	conn_end(wp->conn);
	wp->status_wanted = false;
	wp->last_status = clock_now_ms();
	return conn_flush(wp->conn);
}

/*
 * The check of WalPush.cancel, called in waits of the receiver.  These waits can be
 * long, and a compute that receives nothing for wal_sender_timeout closes the
 * connection.  So this function also sends statuses.
 */
static PsError *
check_cancel(void *arg)
{
	WalPush *wp = arg;
	char waits_for[WAIT_TEXT];
	int64 now = clock_now_ms();

	PS_TRY(session_check_cancel(wp->session));
	/* a text that was reported is not updated: the numbers in it change all the time */
	if (wp->waits_for[0] == '\0' && now - wp->write_began >= WAIT_REPORT_MS &&
		wal_receiver_waits_for(wp->receiver, waits_for, sizeof(waits_for)))
		report_wait(wp, waits_for);
	else if (now - wp->last_status < ALIVE_MS)
		return NULL;
	return send_status(wp);
}

/* Returns an error if this connection must not write any more. */
static PsError *
check_superseded(WalPush *wp)
{
	if (!wal_receiver_is_superseded(wp->receiver))
		return NULL;
	PS_TRY(timeline_check_generation(wp->tl, wp->generation));
	return ps_error(PS_SQLSTATE_TRY_AGAIN, "a newer connection of the same compute is sending WAL");
}

/* The message without the prefix that names the branch. */
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
 * Waits a while because the disk is full (err, which is freed).  The compute's
 * commits wait meanwhile; reads continue.
 */
static PsError *
wait_for_space(WalPush *wp, PsError *err)
{
	int64 until = clock_now_ms() + DISK_FULL_RETRY_MS;
	int64 left;

	report_wait(wp, skip_branch(wp, err->message));
	ps_error_free(err);
	PS_TRY(send_status(wp));

	/* nothing signals free space, and the input must not be read: check all other conditions now and then */
	while ((left = until - clock_now_ms()) > 0)
	{
		PS_TRY(check_superseded(wp));
		PS_TRY(session_check_cancel(wp->session));
		pg_usleep(Min(left, 100) * 1000);
	}
	return NULL;
}

static PsError *
accept_wal(WalPush *wp, XLogRecPtr start, const char *data, size_t len)
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
		PS_TRY(wait_for_space(wp, err));
	}
	if (wp->waits_for[0] != '\0' && clock_now_ms() - wp->write_began < WAIT_OVER_MS)
		end_wait(wp);
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
		PsError *err = wal_receiver_sync(wp->receiver, &wp->durable);

		if (err == NULL)
			break;
		if (!ps_error_is(err, PS_SQLSTATE_DISK_FULL))
			return err;
		PS_TRY(wait_for_space(wp, err));
		waited = true;
	}
	if (waited)
		end_wait(wp);
	wp->unsynced = 0;
	return NULL;
}

static PsError *
handle_message(void *arg, const Message *msg)
{
	WalPush *wp = arg;
	const char *body = msg->body;
	uint32 len = msg->len;

	if (len > 0 && body[0] == 'w')
	{
		if (len < WAL_HEADER_SIZE)
			return ps_error(PS_SQLSTATE_PROTOCOL, "WAL message of %u bytes is shorter than its header", len);
		if (len == WAL_HEADER_SIZE)
			return NULL;
		return accept_wal(wp, ps_get64(body + 1), body + WAL_HEADER_SIZE, len - WAL_HEADER_SIZE);
	}
	if (len > 0 && body[0] == 'k')
	{
		if (len != KEEPALIVE_SIZE)
			return ps_error(PS_SQLSTATE_PROTOCOL, "keepalive message has %u bytes, expected %d", len, KEEPALIVE_SIZE);
		wp->status_wanted = wp->status_wanted || body[KEEPALIVE_SIZE - 1] != 0;
		return NULL;
	}
	return ps_error(PS_SQLSTATE_PROTOCOL, "unexpected message in a WAL stream: expected 'w' or 'k'");
}

/*
 * Waits before the first status until all WAL that the store has may be acknowledged.  The
 * client sends nothing before that.
 */
static PsError *
wait_to_begin(WalPush *wp)
{
	while (update_flushed(wp), wp->flushed < wp->durable)
	{
		struct pollfd pfd = {wp->conn->wake_fd, POLLIN, 0};
		uint64 ignored;

		if (conn_pending(wp->conn) > 0)
			PS_TRY(conn_flush(wp->conn));
		PS_TRY(check_superseded(wp));
		PS_TRY(session_check_cancel(wp->session));
		if (poll(&pfd, 1, CANCEL_CHECK_MS) > 0)
			(void) !read(pfd.fd, &ignored, sizeof(ignored));
	}
	ps_log(PS_LOG, "branch \"%s\": receiving WAL from %X/%X (generation " UINT64_FORMAT ", %s)", wp->branch,
		   LSN_FORMAT_ARGS(wp->flushed), wp->generation, wp->owner);
	return NULL;
}

/*
 * Waits for input after everything was synced; sends a status whenever more may be
 * acknowledged or ingest has advanced.
 */
static PsError *
wait_for_input(void *arg)
{
	WalPush *wp = arg;
	int64 begin = clock_now_ms();
	int progress_ms = PROGRESS_MS;

	if (wp->flushed == InvalidXLogRecPtr)
		PS_TRY(wait_to_begin(wp));
	if (wp->status_wanted)
		PS_TRY(send_status(wp));
	for (;;)
	{
		bool behind = wp->applied < wp->flushed;
		bool advanced;

		if (conn_wait_message(wp->conn, behind ? Min(progress_ms, IDLE_MS) : IDLE_MS))
			return NULL;
		PS_TRY(check_superseded(wp));
		PS_TRY(session_check_stop(wp->session));
		/* a reported wait of the last message is over when the stream is idle */
		if (wp->waits_for[0] != '\0' && clock_now_ms() - begin >= IDLE_MS)
			end_wait(wp);
		advanced = wp->flushed < wp->durable && update_flushed(wp);
		if (advanced || (behind && update_applied(wp)) || wp->status_wanted)
			PS_TRY(send_status(wp));
		else
		{
			send_keep_from(wp);
			if (conn_pending(wp->conn) > 0)
				PS_TRY(conn_flush(wp->conn));
		}
		progress_ms = Min(progress_ms * 2, IDLE_MS);
	}
}

static bool
more_input(void *arg)
{
	WalPush *wp = arg;

	return wp->unsynced < MAX_UNSYNCED && conn_wait_message(wp->conn, 0);
}

/* Makes what has been taken durable and acknowledges it. */
static PsError *
acknowledge(void *arg, bool done)
{
	WalPush *wp = arg;

	if (wp->unsynced > 0)
	{
		PS_TRY(sync_wal(wp));
		wp->status_wanted = true;
	}
	return wp->status_wanted || done ? send_status(wp) : NULL;
}

static const CopyHandler handler = {
	.tag = "WAL_PUSH",
	.wait = wait_for_input,
	.take = handle_message,
	.more = more_input,
	.answer = acknowledge,
};

/* WalReceiver's wake: called by another thread, with a lock held. */
static void
wake(void *arg)
{
	WalPush *wp = arg;
	uint64 one = 1;

	(void) !write(wp->conn->wake_fd, &one, sizeof(one));
}

PsError *
wal_push_run(Session *session, char **args, int nargs)
{
	WalPush wp = {.session = session, .conn = &session->conn, .status_wanted = true};
	const char *remote_storage = session->server->config->remote_storage;
	Timeline *tl;
	uint64 generation;
	TimelineInfo info;
	PsError *err;

	PS_TRY(command_find_timeline(session, args, &tl, &generation));
	wp.tl = tl;
	wp.generation = generation;
	timeline_info(tl, &info);
	PS_TRY(wal_receiver_open(tl, generation, &wp.receiver, &wp.written));
	streams_begin_wal(session);
	wal_receiver_set_client(wp.receiver, &session->cancel);
	wp.cancel = (CancelCheck) {check_cancel, &wp};
	wp.branch = info.name;
	wp.owner = info.owner;
	wp.segment_size = info.segment_size;
	wp.durable = wp.written;
	ps_thread_name("wal %s", info.name);
	if (remote_storage != NULL && remote_storage[0] != '\0')
	{
		wp.conn->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (wp.conn->wake_fd >= 0)
			wal_receiver_set_wake(wp.receiver, wake, &wp);
	}
	wp.conn->max_message = CONN_MAX_COPY;
	conn_set_input_size(wp.conn, WAL_INPUT_SIZE);
	err = removed_explain(session->server, &info.timeline, copy_serve(session, &handler, &wp));

	/* WAL that arrived before the connection ended will not be acknowledged, but is worth keeping */
	if (wp.unsynced > 0)
		ps_error_free(wal_receiver_sync(wp.receiver, &wp.durable));
	wal_receiver_close(wp.receiver);
	if (wp.conn->wake_fd >= 0)
		close(wp.conn->wake_fd);
	wp.conn->wake_fd = -1;
	if (wp.waits_for[0] != '\0')
		wal_waits_set(session, info.name, "");
	streams_end_wal(session);
	ps_log(PS_LOG, "branch \"%s\": WAL stream ended at %X/%X: %s", info.name, LSN_FORMAT_ARGS(wp.durable),
		   err != NULL ? err->message : "the client ended it");
	ps_thread_name("session %d", session->id);
	return err;
}
