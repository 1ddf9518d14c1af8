/*
 * command_backup.c
 *	  Commands that send a data directory, as a tar in a copy.
 */
#include "ps_fe.h"

#include "backup/basebackup.h"
#include "serve/commands.h"
#include "sqlstate.h"

/* Size of a CopyData message. */
#define COPY_CHUNK (64 * 1024)

/* A ByteSink that sends CopyData messages of about COPY_CHUNK bytes. */
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

/* Ends the copy, unless err says that it has failed.  Returns err. */
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

/*
 * basebackup BRANCH 'OWNER' [GENERATION]: takes the branch over for a new compute.
 * An error before the copy begins has changed nothing.  When the copy begins,
 * the new generation is in force.
 */
PsError *
command_basebackup(Session *session, char **args, int nargs)
{
	uint64 after = 0;
	BaseBackup base;
	CopySink sink;
	Timeline *tl;
	TimelineInfo before;

	if (nargs > 2)
		PS_TRY(command_parse_number("generation", args[2], &after));
	PS_TRY(command_find_branch(session, args[0], &tl));
	timeline_info(tl, &before);
	PS_TRY(timeline_take_over(tl, args[1], after, &session->cancel, &base.generation, &base.state,
							  &base.checkpoint_lsn));
	audit_log(session->who,
			  "branch \"%s\" taken over by a compute: generation " UINT64_FORMAT " (%s), previously " UINT64_FORMAT
			  " (%s)%s",
			  before.name, base.generation, args[1], before.generation, before.generation > 0 ? before.owner : "none",
			  before.compute_connected ? ", which was connected" : "");
	copy_sink_begin(&sink, session);
	return copy_sink_finish(&sink, basebackup(tl, &base, &session->cancel, (ByteSink) {copy_sink_write, &sink}),
							"BASEBACKUP");
}

/* basebackup_rehearsal BRANCH */
PsError *
command_basebackup_rehearsal(Session *session, char **args, int nargs)
{
	CopySink sink;
	Timeline *tl;

	PS_TRY(command_find_branch(session, args[0], &tl));
	copy_sink_begin(&sink, session);
	return copy_sink_finish(&sink, basebackup_rehearsal(tl, &session->cancel, (ByteSink) {copy_sink_write, &sink}),
							"BASEBACKUP_REHEARSAL");
}

/* Sends a warning in the middle of the copy. */
static void
copy_sink_report(void *arg, const char *message)
{
	CopySink *sink = arg;

	copy_sink_end_message(sink);
	conn_send_warning(&sink->session->conn, message);
}

/* Before a backup begins, reports the commits around its LSN. */
static void
send_commits_around(Session *session, const char *name, XLogRecPtr lsn, const CommitsAround *around)
{
	char *last = timestamp_text(around->last);
	char *next = timestamp_text(around->next);
	char *message = psprintf("branch \"%s\" at %X/%X: last commit at %s, next commit at %s", name, LSN_FORMAT_ARGS(lsn),
							 around->has_last ? last : "an unknown time", around->has_next ? next : "an unknown time");

	conn_send_notice(&session->conn, message);
	free(last);
	free(next);
	free(message);
}

/* fullbackup BRANCH [LSN lsn | TIME microseconds] [zero_damaged_pages] */
PsError *
command_fullbackup(Session *session, char **args, int nargs)
{
	XLogRecPtr lsn = InvalidXLogRecPtr;
	CommitsAround around;
	CopySink sink;
	ProgressSink damaged = {copy_sink_report, &sink};
	bool zero = nargs % 2 == 0;
	Timeline *tl;
	PsError *err;

	if (zero && pg_strcasecmp(args[nargs - 1], "zero_damaged_pages") != 0)
		return ps_error(PS_SQLSTATE_SYNTAX,
						"expected [LSN lsn | TIME microseconds] [zero_damaged_pages] after the branch");
	PS_TRY(command_find_branch(session, args[0], &tl));
	if (nargs > 2)
	{
		PS_TRY(command_parse_point(session, args[1], args[2], tl, &tl, &lsn, &around));
		send_commits_around(session, args[0], lsn, &around);
	}
	if (nargs > 2)
		audit_log(session->who, "export of branch \"%s\" at %X/%X begins", args[0], LSN_FORMAT_ARGS(lsn));
	else
		audit_log(session->who, "export of branch \"%s\" begins", args[0]);
	copy_sink_begin(&sink, session);
	err = fullbackup(tl, lsn, &session->cancel, zero ? &damaged : NULL, (ByteSink) {copy_sink_write, &sink});
	if (err != NULL && !zero && err->hint == NULL && ps_error_is(err, PS_SQLSTATE_CORRUPTED))
		ps_error_hint(err,
					  "If this is a page of a relation, "
					  "--zero-damaged-pages exports zeros in its place and reports it.");
	return copy_sink_finish(&sink, err, "FULLBACKUP");
}
