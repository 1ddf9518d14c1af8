/*
 * branch_commands.c
 *	  The commands for branches.
 */
#include "ps_fe.h"

#include "catalog/pg_type_d.h"

#include "backup/backup.h"
#include "serve/commands.h"

/* What WAL waits for before it is taken (wal, NULL: nothing), else what ingest waits for. malloc'd. */
static char *
wait_text(char *wal, const char *ingest)
{
	return wal != NULL ? wal : pg_strdup(ingest);
}

PsError *
run_branch_list(Session *session, char **args, int nargs)
{
	static const Column columns[] = {
		{"name", TEXTOID}, {"tenant", TEXTOID}, {"timeline", TEXTOID}, {"system_identifier", INT8OID},
		{"generation", INT8OID}, {"owner", TEXTOID}, {"connected", BOOLOID}, {"received_lsn", LSNOID},
		{"flushed_lsn", LSNOID}, {"ingested_lsn", LSNOID}, {"disk_consistent_lsn", LSNOID}, {"layer_files", INT8OID},
		{"layer_bytes", INT8OID}, {"open_layer_bytes", INT8OID}, {"wal_bytes", INT8OID}, {"parent", TEXTOID},
		{"start_lsn", LSNOID}, {"oldest_lsn", LSNOID}, {"error", TEXTOID}, {"open", BOOLOID},
		{"waits_for", TEXTOID},
		{"connected_since", TEXTOID},
	};
	Conn	   *conn = &session->conn;
	int			n;
	Timeline  **list = store_list(session->server->store, &n);
	char		tag[32];

	conn_send_row_description(conn, columns, lengthof(columns));
	for (int i = 0; i < n; i++)
	{
		TimelineInfo info;
		char	   *values[lengthof(columns)];
		char		since[TIME_TEXT_SIZE];
		int			v = 0;

		store_timeline_info(list[i], &info);
		values[v++] = pg_strdup(info.name);
		values[v++] = command_id_text(&info.tenant);
		values[v++] = command_id_text(&info.timeline);
		values[v++] = psprintf(UINT64_FORMAT, info.system_identifier);
		values[v++] = psprintf(UINT64_FORMAT, info.generation);
		values[v++] = pg_strdup(info.owner);
		values[v++] = pg_strdup(info.compute_connected ? "t" : "f");
		values[v++] = command_lsn_text(info.received_lsn);
		values[v++] = command_lsn_text(info.flushed_lsn);
		values[v++] = command_lsn_text(info.ingested_lsn);
		values[v++] = command_lsn_text(info.disk_consistent_lsn);
		values[v++] = psprintf(UINT64_FORMAT, info.layer_files);
		values[v++] = psprintf(UINT64_FORMAT, info.layer_bytes);
		values[v++] = psprintf(UINT64_FORMAT, info.open_layer_bytes);
		values[v++] = psprintf(UINT64_FORMAT, info.wal_bytes);
		values[v++] = pg_strdup(info.parent);
		values[v++] = command_lsn_text(info.start_lsn);
		values[v++] = command_lsn_text(info.gc_cutoff);
		values[v++] = pg_strdup(info.error);
		values[v++] = pg_strdup(info.open ? "t" : "f");
		values[v++] = wait_text(server_wal_wait(session->server, list[i]), info.waits_for);
		values[v++] = info.compute_connected ? pg_strdup(timeline_time_text(info.connected_since, since)) : NULL;
		Assert(v == lengthof(columns));
		command_send_row(conn, values, v);
	}
	store_list_free(list, n);
	snprintf(tag, sizeof(tag), "SELECT %d", n);
	conn_send_complete(conn, tag);
	return NULL;
}

static void
report_progress(void *arg, const char *message)
{
	Session    *session = arg;

	conn_send_notice(&session->conn, message);
	ps_error_free(conn_flush(&session->conn));	/* the Waiter notices that the client has gone */
}

/* Tells of a branch that has come into being; around: of one that begins at a moment of another, else NULL. */
static PsError *
send_branch(Session *session, const char *name, const CommitsAround *around, const char *tag)
{
	static const Column columns[] = {{"name", TEXTOID}, {"tenant", TEXTOID}, {"timeline", TEXTOID}, {"lsn", LSNOID},
	{"last_commit", TEXTOID}, {"next_commit", TEXTOID}};
	TimelineInfo info;
	char	   *values[lengthof(columns)];

	PS_TRY(store_branch_info(session->server->store, name, &info));
	values[0] = pg_strdup(info.name);
	values[1] = command_id_text(&info.tenant);
	values[2] = command_id_text(&info.timeline);
	values[3] = command_lsn_text(info.flushed_lsn);
	values[4] = command_time_text(around != NULL && around->has_last, around ? around->last : 0);
	values[5] = command_time_text(around != NULL && around->has_next, around ? around->next : 0);
	/* that there is none says something, too */
	if (around != NULL && around->next_known && !around->has_next)
		values[5] = pg_strdup("none");
	conn_send_row_description(&session->conn, columns, lengthof(columns));
	command_send_row(&session->conn, values, lengthof(columns));
	conn_send_complete(&session->conn, tag);
	return NULL;
}

/* NAME FROM PARENT [LSN lsn | TIME microseconds] */
static PsError *
create_from(Session *session, char **args, int nargs)
{
	XLogRecPtr	lsn = PG_UINT64_MAX;
	CommitsAround around;
	Timeline   *parent;

	if (nargs != 3 && nargs != 5)
		return ps_error(PS_SQLSTATE_SYNTAX, "expected FROM PARENT, then nothing, LSN lsn or TIME microseconds");
	PS_TRY(command_find_branch(session, args[2], &parent));
	if (nargs == 5)
		PS_TRY(command_parse_moment(session, args[3], args[4], parent, &parent, &lsn, &around));
	PS_TRY(store_branch(session->server->store, args[0], parent, lsn, &session->waiter, NULL));
	if (nargs == 5)
		audit_log(session->who, "branch \"%s\" created from branch \"%s\" at %s %s, LSN %X/%X", args[0], args[2], args[3], args[4],
				  LSN_FORMAT_ARGS(lsn));
	else
		audit_log(session->who, "branch \"%s\" created from branch \"%s\"", args[0], args[2]);
	return send_branch(session, args[0], nargs == 5 ? &around : NULL, "CREATE BRANCH");
}

/* A branch that is to go, or to be replaced, should have no compute, unless the last argument is "force". */
static PsError *
check_no_compute(Session *session, char **args, int nargs, int least)
{
	TimelineInfo info;

	if (nargs > least && pg_strcasecmp(args[least], "force") == 0)
		return NULL;
	if (nargs > least)
		return ps_error(PS_SQLSTATE_SYNTAX, "unknown option \"%s\": expected force", args[least]);
	PS_TRY(store_branch_info(session->server->store, args[0], &info));
	if (!info.compute_connected)
		return NULL;
	return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "branch \"%s\" is run by a compute (%s)", info.name, info.owner),
						 "Stop the compute first.");
}

/* Deletes a branch that this session does not hold. */
static PsError *
delete_branch(Session *session, const char *name)
{
	Timeline   *tl;
	PsError    *err = store_remove_branch(session->server->store, name, &session->waiter, &tl);

	if (tl != NULL)
	{
		server_end_users(session->server, tl, session);
		store_destroy_branch(tl);
	}
	return err;
}

PsError *
run_branch_delete(Session *session, char **args, int nargs)
{
	TimelineInfo info;

	PS_TRY(check_no_compute(session, args, nargs, 1));
	PS_TRY(store_branch_info(session->server->store, args[0], &info));
	server_note_removed(session->server, &info.timeline, "Branch \"%s\" was deleted", info.name);
	PS_TRY(delete_branch(session, args[0]));
	audit_log(session->who, "branch \"%s\" deleted", args[0]);
	conn_send_complete(&session->conn, "DROP BRANCH");
	return NULL;
}

PsError *
run_branch_rename(Session *session, char **args, int nargs)
{
	PS_TRY(store_rename_branch(session->server->store, args[0], args[1], &session->waiter));
	audit_log(session->who, "branch \"%s\" renamed to \"%s\"", args[0], args[1]);
	conn_send_complete(&session->conn, "RENAME BRANCH");
	return NULL;
}

PsError *
run_branch_reset(Session *session, char **args, int nargs)
{
	char		old_name[TIMELINE_NAME_MAX + 1];
	TimelineInfo info;
	Timeline   *parent;
	Timeline   *tl;
	PsError    *err;

	PS_TRY(check_no_compute(session, args, nargs, 1));
	PS_TRY(store_branch_info(session->server->store, args[0], &info));
	PS_TRY(store_use_branch(session->server->store, args[0], &session->waiter, &tl));
	err = timeline_parent(tl, &parent);
	if (err == NULL)
		err = store_replace_branch(session->server->store, args[0], parent, PG_UINT64_MAX, true, &session->waiter, old_name);
	store_release(tl);
	if (err != NULL)
		return err;
	audit_log(session->who, "branch \"%s\" reset to what its parent is; what it was is branch \"%s\", to be deleted", args[0], old_name);
	server_note_removed(session->server, &info.timeline, "Branch \"%s\" was reset to what its parent was", info.name);
	PS_TRY(delete_branch(session, old_name));
	audit_log(session->who, "branch \"%s\" deleted", old_name);
	return send_branch(session, args[0], NULL, "RESET BRANCH");
}

PsError *
run_branch_restore(Session *session, char **args, int nargs)
{
	char		old_name[TIMELINE_NAME_MAX + 1];
	char	   *message;
	CommitsAround around;
	XLogRecPtr	lsn;
	Timeline   *at;
	Timeline   *tl;

	PS_TRY(command_find_branch(session, args[0], &tl));
	PS_TRY(check_no_compute(session, args, nargs, 3));
	PS_TRY(command_parse_moment(session, args[1], args[2], tl, &at, &lsn, &around));
	PS_TRY(store_replace_branch(session->server->store, args[0], at, lsn, false, &session->waiter, old_name));
	audit_log(session->who, "branch \"%s\" restored to what it was at %s %s, LSN %X/%X; what it was until now is branch \"%s\"", args[0],
			  args[1], args[2], LSN_FORMAT_ARGS(lsn), old_name);
	message = psprintf("what branch \"%s\" was is branch \"%s\" now", args[0], old_name);
	conn_send_notice(&session->conn, message);
	pfree(message);
	return send_branch(session, args[0], &around, "RESTORE BRANCH");
}

PsError *
run_branch_compact(Session *session, char **args, int nargs)
{
	Timeline   *tl;
	TimelineInfo info;

	PS_TRY(command_find_branch(session, args[0], &tl));
	PS_TRY(upkeep_timeline(tl, true));
	timeline_info(tl, &info);
	if (info.error[0] != '\0')
		conn_send_notice(&session->conn, info.error);
	audit_log(session->who, "branch \"%s\" compacted", args[0]);
	conn_send_complete(&session->conn, "COMPACT");
	return NULL;
}

/* ---- verify ---- */

/* Unless it is told. */
#define VERIFY_RATE 100

static void
send_file(void *arg, const char *file, uint64 bytes, const char *damage)
{
	Session    *session = arg;
	char	   *values[] = {pg_strdup(file), psprintf(UINT64_FORMAT, bytes), pg_strdup(damage != NULL ? damage : "")};

	command_send_row(&session->conn, values, lengthof(values));
	ps_error_free(conn_flush(&session->conn));	/* the Waiter notices that the client has gone */
}

PsError *
run_verify(Session *session, char **args, int nargs)
{
	static const Column columns[] = {{"file", TEXTOID}, {"bytes", INT8OID}, {"error", TEXTOID}};
	int			rate = nargs > 1 ? atoi(args[1]) : VERIFY_RATE;
	Timeline   *tl;

	if (rate < 1 || rate > 1000000)
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid rate \"%s\": a number of megabytes for each second is expected", args[1]);
	PS_TRY(command_find_branch(session, args[0], &tl));
	conn_send_row_description(&session->conn, columns, lengthof(columns));
	PS_TRY(verify_timeline(tl, rate, &session->waiter, send_file, session));
	conn_send_complete(&session->conn, "VERIFY");
	return NULL;
}

PsError *
run_branch_create(Session *session, char **args, int nargs)
{
	ProgressSink progress = {report_progress, session};
	Timeline   *tl;

	if (nargs > 1 && pg_strcasecmp(args[1], "from") == 0)
		return create_from(session, args, nargs);
	if (nargs > 2 || (nargs > 1 && strcmp(args[1], "data_checksums") != 0))
		return ps_error(PS_SQLSTATE_SYNTAX, "unknown option \"%s\": expected data_checksums or FROM", args[1]);
	PS_TRY(branch_create(session->server->store, args[0], nargs > 1, &session->waiter, &progress, &tl));
	session_hold(session, tl);
	audit_log(session->who, "branch \"%s\" created as a fresh cluster", args[0]);
	return send_branch(session, args[0], NULL, "CREATE BRANCH");
}

PsError *
run_import(Session *session, char **args, int nargs)
{
	ProgressSink progress = {report_progress, session};
	Timeline   *tl;

	if (args[1][0] != '/')
		return ps_error_hint(ps_error(PS_SQLSTATE_SYNTAX, "\"%s\" is not an absolute path", args[1]),
							 "The directory is read by the store, whose current directory is not yours.");
	if (nargs > 2)
		PS_TRY(import_check_identity(args[1], args[2]));
	PS_TRY(import_cluster(session->server->store, args[0], args[1], &session->waiter, &progress, &tl));
	session_hold(session, tl);
	audit_log(session->who, "branch \"%s\" imported from \"%s\"", args[0], args[1]);
	return send_branch(session, args[0], NULL, "IMPORT");
}

/* The client sends a tar of the data directory. */
PsError *
run_import_stream(Session *session, char **args, int nargs)
{
	ProgressSink progress = {report_progress, session};
	Timeline   *tl;

	session->conn.max_message = CONN_MAX_COPY;
	conn_send_copy_response(&session->conn, 'G');
	PS_TRY(import_stream(session->server->store, args[0], command_copy_source(session), &session->waiter, &progress, &tl));
	session_hold(session, tl);
	audit_log(session->who, "branch \"%s\" imported from what the client sent", args[0]);
	return send_branch(session, args[0], NULL, "IMPORT");
}
