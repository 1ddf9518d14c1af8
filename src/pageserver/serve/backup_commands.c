/*
 * backup_commands.c
 *	  The commands for backups: a tar as a COPY.
 */
#include "ps_fe.h"

#include "backup/backup.h"
#include "serve/commands.h"
#include "sqlstate.h"
#include "store/stop_files.h"

/* Portion of a base backup in one CopyData message. */
#define COPY_CHUNK (64 * 1024)

/* Collects what the producer writes into CopyData messages of a fair size. */
typedef struct CopySink
{
	Session *session;
	bool in_message;
} CopySink;

static void
copy_sink_end_message(CopySink *sink)
{
	if (sink->in_message)
		conn_end(&sink->session->conn);
	sink->in_message = false;
}

static PsError *
copy_sink_write(void *arg, const char *data, size_t len)
{
	CopySink *sink = arg;
	Conn *conn = &sink->session->conn;

	while (len > 0)
	{
		size_t n = Min(len, COPY_CHUNK);

		if (!sink->in_message)
			conn_begin(conn, 'd');
		sink->in_message = true;
		conn_put_bytes(conn, data, n);
		data += n;
		len -= n;
		if (conn_pending(conn) >= COPY_CHUNK)
		{
			copy_sink_end_message(sink);
			PS_TRY(conn_flush(conn));
			PS_TRY(session_check_stop(sink->session));
		}
	}
	return NULL;
}

static void
copy_sink_begin(CopySink *sink, Session *session)
{
	sink->session = session;
	sink->in_message = false;
	conn_send_copy_response(&session->conn, 'H');
}

/* After an error the client gets the error instead of the end of the copy. */
static PsError *
copy_sink_finish(CopySink *sink, PsError *err, const char *tag)
{
	Conn *conn = &sink->session->conn;

	copy_sink_end_message(sink);
	if (err != NULL)
		return err;
	conn_begin(conn, 'c');
	conn_end(conn);
	conn_send_complete(conn, tag);
	return NULL;
}

/* Once the copy has begun, the generation is raised: before that, an error changes nothing. */
PsError *
run_basebackup(Session *session, char **args, int nargs)
{
	uint64 after = 0;
	BaseBackup base;
	CopySink sink;
	Timeline *tl;
	TimelineInfo before;

	if (nargs > 2)
		PS_TRY(command_parse_generation(args[2], &after));
	PS_TRY(command_find_branch(session, args[0], &tl));
	timeline_info(tl, &before);
	PS_TRY(timeline_take_over(tl, args[1], after, &session->cancel, &base.generation, &base.state, &base.checkpoint_lsn));
	audit_log(session->who, "branch \"%s\" taken over by a compute: generation " UINT64_FORMAT " (%s), before it " UINT64_FORMAT " (%s)%s",
			  before.name, base.generation, args[1], before.generation, before.generation > 0 ? before.owner : "none",
			  before.compute_connected ? ", which was connected" : "");
	copy_sink_begin(&sink, session);
	return copy_sink_finish(&sink, basebackup(tl, &base, &session->cancel, (ByteSink) {copy_sink_write, &sink}),
							"BASEBACKUP");
}

PsError *
run_basebackup_rehearsal(Session *session, char **args, int nargs)
{
	CopySink sink;
	Timeline *tl;

	PS_TRY(command_find_branch(session, args[0], &tl));
	copy_sink_begin(&sink, session);
	return copy_sink_finish(&sink, basebackup_rehearsal(tl, &session->cancel, (ByteSink) {copy_sink_write, &sink}),
							"BASEBACKUP_REHEARSAL");
}

/* Tells of something in the middle of the copy. */
static void
copy_sink_report(void *arg, const char *message)
{
	CopySink *sink = arg;

	copy_sink_end_message(sink);
	conn_send_warning(&sink->session->conn, message);
}

/* Tells which moment it is that a backup is of, before it begins. */
static void
send_moment(Session *session, const char *name, XLogRecPtr lsn, const CommitsAround *around)
{
	char *last = timestamp_text(around->last);
	char *next = timestamp_text(around->next);
	char *message = psprintf("branch \"%s\" at %X/%X, after the commit of %s; the next commit is of %s", name, LSN_FORMAT_ARGS(lsn),
							 around->has_last ? last : "an unknown time", around->has_next ? next : "an unknown time");

	conn_send_notice(&session->conn, message);
	free(last);
	free(next);
	free(message);
}

PsError *
run_fullbackup(Session *session, char **args, int nargs)
{
	XLogRecPtr lsn = InvalidXLogRecPtr;
	CommitsAround around;
	CopySink sink;
	ProgressSink damaged = {copy_sink_report, &sink};
	bool zero = nargs % 2 == 0;
	Timeline *tl;
	PsError *err;

	if (zero && pg_strcasecmp(args[nargs - 1], "zero_damaged_pages") != 0)
		return ps_error(PS_SQLSTATE_SYNTAX, "expected LSN lsn or TIME microseconds, then zero_damaged_pages, behind the branch");
	PS_TRY(command_find_branch(session, args[0], &tl));
	if (nargs > 2)
	{
		PS_TRY(command_parse_moment(session, args[1], args[2], tl, &tl, &lsn, &around));
		send_moment(session, args[0], lsn, &around);
	}
	if (nargs > 2)
		audit_log(session->who, "export of branch \"%s\" at %X/%X begins", args[0], LSN_FORMAT_ARGS(lsn));
	else
		audit_log(session->who, "export of branch \"%s\" begins", args[0]);
	copy_sink_begin(&sink, session);
	err = fullbackup(tl, lsn, &session->cancel, zero ? &damaged : NULL, (ByteSink) {copy_sink_write, &sink});
	if (err != NULL && !zero && err->hint == NULL && ps_error_is(err, PS_SQLSTATE_CORRUPTED))
		ps_error_hint(err, "If it is a page of a relation, --zero-damaged-pages exports all the others, with zeros in its place, and names it.");
	return copy_sink_finish(&sink, err, "FULLBACKUP");
}

/* Takes the files of a COPY, each a message: its name, a zero byte, its contents. */
static PsError *
read_stop_files(Conn *conn, StopFiles *files)
{
	for (;;)
	{
		Message msg;
		size_t name_len;

		PS_TRY(conn_read_message(conn, &msg));
		switch (msg.type)
		{
			case 'd':
				name_len = strnlen(msg.body, msg.len);
				if (name_len == msg.len)
					return ps_error(PS_SQLSTATE_PROTOCOL, "name of a file does not end");
				PS_TRY(stop_files_add(files, msg.body, msg.body + name_len + 1, msg.len - name_len - 1));
				break;
			case 'c':
				return NULL;
			case 'f':
				return ps_error(PS_SQLSTATE_CANCELED, "the client gave up");
			case 'H':
			case 'S':
				break;
			default:
				return ps_error(PS_SQLSTATE_PROTOCOL, "unexpected message of type \"%c\" in a copy", msg.type);
		}
	}
}

PsError *
stop_files_run(Session *session, Timeline *tl, uint64 generation, XLogRecPtr lsn)
{
	Conn *conn = &session->conn;
	uint32 max_message = conn->max_message;
	StopFiles files;
	PsError *err;

	PS_TRY(timeline_check_generation(tl, generation));
	stop_files_init(&files);
	conn->max_message = CONN_MAX_COPY;
	conn_send_copy_response(conn, 'G');
	err = read_stop_files(conn, &files);
	if (err == NULL)
		err = stop_files_save(tl, &files, generation, lsn);
	conn->max_message = max_message;
	stop_files_free(&files);
	if (err == NULL)
		conn_send_complete(conn, "SAVE_FILES");
	return err;
}
