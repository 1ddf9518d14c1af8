/*
 * branch_commands.c
 *	  The commands for branches.
 */
#include "ps_fe.h"

#include "maintain/maintain.h"
#include "catalog/pg_type_d.h"

#include "backup/backup.h"
#include "serve/commands.h"
#include "sqlstate.h"

/* What WAL waits for before it is taken (wal, NULL: nothing), else what ingest waits for. malloc'd. */
static char *
wait_text(char *wal, const char *ingest)
{
	return wal != NULL ? wal : pg_strdup(ingest);
}

/* What is in the trash; what goes first comes first. */
static PsError *
list_deleted(Session *session)
{
	static const Column columns[] = {
		{"name", TEXTOID},
		{"timeline", TEXTOID},
		{"tenant", TEXTOID},
		{"parent", TEXTOID},
		{"deleted", TEXTOID},
		{"seconds_left", INT8OID},
		{"layer_bytes", INT8OID},
		{"wal_bytes", INT8OID},
		{"by", TEXTOID},
		{"error", TEXTOID},
	};
	Conn *conn = &session->conn;
	int n;
	DeletedInfo *list = store_list_deleted(session->server->store, &n);
	char tag[32];

	conn_send_row_description(conn, columns, lengthof(columns));
	for (int i = 0; i < n; i++)
	{
		const TimelineInfo *info = &list[i].info;
		char *values[lengthof(columns)];
		int v = 0;

		values[v++] = pg_strdup(info->name);
		values[v++] = command_id_text(&info->timeline);
		values[v++] = command_id_text(&info->tenant);
		values[v++] = pg_strdup(info->parent);
		values[v++] = command_time_text(true, list[i].when);
		values[v++] = psprintf(INT64_FORMAT, list[i].time_left);
		values[v++] = psprintf(UINT64_FORMAT, info->layer_bytes);
		values[v++] = psprintf(UINT64_FORMAT, info->wal_bytes);
		values[v++] = pg_strdup(list[i].by);
		values[v++] = pg_strdup(info->error);
		Assert(v == lengthof(columns));
		command_send_row(conn, values, v);
	}
	store_list_deleted_free(list, n);
	snprintf(tag, sizeof(tag), "SELECT %d", n);
	conn_send_complete(conn, tag);
	return NULL;
}

PsError *
run_branch_list(Session *session, char **args, int nargs)
{
	static const Column columns[] = {
		{"name", TEXTOID},
		{"tenant", TEXTOID},
		{"timeline", TEXTOID},
		{"system_identifier", INT8OID},
		{"generation", INT8OID},
		{"owner", TEXTOID},
		{"connected", BOOLOID},
		{"received_lsn", LSNOID},
		{"flushed_lsn", LSNOID},
		{"ingested_lsn", LSNOID},
		{"disk_consistent_lsn", LSNOID},
		{"layer_files", INT8OID},
		{"layer_bytes", INT8OID},
		{"open_layer_bytes", INT8OID},
		{"wal_bytes", INT8OID},
		{"parent", TEXTOID},
		{"start_lsn", LSNOID},
		{"oldest_lsn", LSNOID},
		{"error", TEXTOID},
		{"open", BOOLOID},
		{"waits_for", TEXTOID},
		{"connected_since", TEXTOID},
		{"protected", BOOLOID},
	};
	Conn *conn = &session->conn;
	int rows = 0;
	int n;
	Branch **list;
	char tag[32];

	if (nargs > 0)
		return pg_strcasecmp(args[0], "deleted") == 0 ? list_deleted(session) : ps_error(PS_SQLSTATE_SYNTAX, "unknown option \"%s\": expected deleted", args[0]);
	list = store_list(session->server->store, &n);
	conn_send_row_description(conn, columns, lengthof(columns));
	for (int i = 0; i < n; i++)
	{
		TimelineInfo info;
		char *values[lengthof(columns)];
		char since[TIME_TEXT_SIZE];
		int v = 0;

		store_timeline_info(list[i], &info);
		if (info.deleted)
			continue;
		rows++;
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
		values[v++] = pg_strdup(info.is_protected ? "t" : "f");
		Assert(v == lengthof(columns));
		command_send_row(conn, values, v);
	}
	store_list_free(list, n);
	snprintf(tag, sizeof(tag), "SELECT %d", rows);
	conn_send_complete(conn, tag);
	return NULL;
}

static void
report_progress(void *arg, const char *message)
{
	Session *session = arg;

	conn_send_notice(&session->conn, message);
	ps_error_free(conn_flush(&session->conn)); /* the CancelCheck notices that the client has gone */
}

/* Tells of a branch that has come into being; around: of one that begins at a moment of another, else NULL. */
static PsError *
send_branch(Session *session, const char *name, const CommitsAround *around, const char *tag)
{
	static const Column columns[] = {{"name", TEXTOID}, {"tenant", TEXTOID}, {"timeline", TEXTOID}, {"lsn", LSNOID}, {"last_commit", TEXTOID}, {"next_commit", TEXTOID}};
	TimelineInfo info;
	char *values[lengthof(columns)];

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

/* A moment as the log has it, of the two words of a command that are one; malloc'd. */
static char *
moment_text(const char *what, const char *value)
{
	TimestampTz when = strtoll(value, NULL, 10) - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	return pg_strcasecmp(what, "time") == 0 ? timestamp_text(when) : psprintf("LSN %s", value);
}

/* NAME FROM PARENT [LSN lsn | TIME microseconds] */
static PsError *
create_from(Session *session, char **args, int nargs)
{
	XLogRecPtr lsn = PG_UINT64_MAX;
	CommitsAround around;
	Timeline *parent;

	if (nargs != 3 && nargs != 5)
		return ps_error(PS_SQLSTATE_SYNTAX, "expected FROM PARENT, then nothing, LSN lsn or TIME microseconds");
	PS_TRY(command_find_branch(session, args[2], &parent));
	if (nargs == 5)
		PS_TRY(command_parse_moment(session, args[3], args[4], parent, &parent, &lsn, &around));
	PS_TRY(store_branch(session->server->store, args[0], parent, lsn, &session->cancel, NULL));
	if (nargs == 5)
	{
		char *moment = moment_text(args[3], args[4]);

		audit_log(session->who, "branch \"%s\" created from branch \"%s\" at %s (%X/%X)", args[0], args[2], moment, LSN_FORMAT_ARGS(lsn));
		free(moment);
	}
	else
		audit_log(session->who, "branch \"%s\" created from branch \"%s\"", args[0], args[2]);
	return send_branch(session, args[0], nargs == 5 ? &around : NULL, "CREATE BRANCH");
}

/* A branch that is to go, or to be replaced, has no compute and is not protected, nor, if it is to go, one that begins in no other. */
static PsError *
check_may_go(Session *session, const char *name, bool deleted)
{
	TimelineInfo info;

	PS_TRY(store_branch_info(session->server->store, name, &info));
	if (info.compute_connected)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "branch \"%s\" is run by a compute (%s)", info.name, info.owner),
							 "Stop the compute first, or use --force.");
	if (info.is_protected)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "branch \"%s\" is protected", info.name),
							 "\"pageserver_ctl branch unprotect %s\" ends that; or use --force.", info.name);
	/* of one whose manifest cannot be read nobody knows */
	if (deleted && info.parent[0] == '\0' && info.system_identifier != 0)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "branch \"%s\" begins in no other: it is all that there is of its cluster", info.name),
							 "If it is to be deleted, use --force.");
	return NULL;
}

/* The options behind the arguments of a command, each once, in any order; purge NULL: there is no such. */
static PsError *
parse_options(char **args, int nargs, int first, bool *force, bool *purge)
{
	*force = false;
	if (purge != NULL)
		*purge = false;
	for (int i = first; i < nargs; i++)
	{
		if (pg_strcasecmp(args[i], "force") == 0)
			*force = true;
		else if (purge != NULL && pg_strcasecmp(args[i], "purge") == 0)
			*purge = true;
		else
			return ps_error(PS_SQLSTATE_SYNTAX, "unknown option \"%s\": expected force%s", args[i], purge != NULL ? " or purge" : "");
	}
	return NULL;
}

/* Deletes for good a branch that this session does not hold. */
static PsError *
remove_branch(Session *session, const char *name)
{
	Branch *branch;
	PsError *err = store_remove_branch(session->server->store, name, &session->cancel, &branch);

	if (branch != NULL)
	{
		server_end_users(session->server, branch, session);
		store_destroy_branch(branch);
		audit_log(session->who, "branch \"%s\" deleted for good", name);
	}
	return err;
}

/* Puts a branch that this session does not hold in the trash, unless the settings have none. */
static PsError *
delete_branch(Session *session, const char *name)
{
	Branch *branch;
	PsError *err;

	if (session->server->config->trash_interval == 0)
		return remove_branch(session, name);
	err = store_trash_branch(session->server->store, name, session->who, &session->cancel, &branch);
	if (branch != NULL)
	{
		server_end_users(session->server, branch, session);
		store_finish_trash(branch);
		audit_log(session->who, "branch \"%s\" deleted, it is in the trash", name);
	}
	return err;
}

/* One that is in the trash; *found false: no such branch is. */
static PsError *
purge_branch(Session *session, const char *name, bool *found)
{
	Branch *branch;
	PsError *err = store_purge_branch(session->server->store, name, &session->cancel, &branch);

	*found = err == NULL || !ps_error_is(err, PS_SQLSTATE_NOT_FOUND);
	if (branch != NULL)
	{
		store_destroy_branch(branch);
		audit_log(session->who, "branch \"%s\" removed from the trash", name);
	}
	return err;
}

/* purge: a branch that is there goes for good; if there is none of the name, one that is in the trash. */
PsError *
run_branch_delete(Session *session, char **args, int nargs)
{
	TimelineInfo info;
	bool force;
	bool purge;
	PsError *err;

	PS_TRY(parse_options(args, nargs, 1, &force, &purge));
	err = store_branch_info(session->server->store, args[0], &info);
	if (err != NULL && purge)
	{
		bool found;
		PsError *purge_err = purge_branch(session, args[0], &found);

		if (purge_err != NULL && !found)
		{
			ps_error_free(purge_err);
			return err;
		}
		ps_error_free(err);
		PS_TRY(purge_err);
		conn_send_complete(&session->conn, "PURGE BRANCH");
		return NULL;
	}
	PS_TRY(err);
	if (!force)
		PS_TRY(check_may_go(session, args[0], true));
	server_note_removed(session->server, &info.timeline, "Branch \"%s\" was deleted", info.name);
	PS_TRY((purge ? remove_branch : delete_branch)(session, args[0]));
	conn_send_complete(&session->conn, "DROP BRANCH");
	return NULL;
}

PsError *
run_branch_undelete(Session *session, char **args, int nargs)
{
	char name[TIMELINE_NAME_MAX + 1];

	PS_TRY(store_undelete_branch(session->server->store, args[0], nargs > 1 ? args[1] : NULL, &session->cancel, name));
	audit_log(session->who, "branch \"%s\" taken out of the trash, as \"%s\"", args[0], name);
	return send_branch(session, name, NULL, "UNDELETE BRANCH");
}

static PsError *
set_protection(Session *session, const char *name, bool is_protected, const char *tag)
{
	PS_TRY(store_protect_branch(session->server->store, name, is_protected, &session->cancel));
	audit_log(session->who, "branch \"%s\" %s", name, is_protected ? "protected" : "no longer protected");
	conn_send_complete(&session->conn, tag);
	return NULL;
}

PsError *
run_branch_protect(Session *session, char **args, int nargs)
{
	return set_protection(session, args[0], true, "PROTECT BRANCH");
}

PsError *
run_branch_unprotect(Session *session, char **args, int nargs)
{
	return set_protection(session, args[0], false, "UNPROTECT BRANCH");
}

PsError *
run_branch_rename(Session *session, char **args, int nargs)
{
	PS_TRY(store_rename_branch(session->server->store, args[0], args[1], &session->cancel));
	audit_log(session->who, "branch \"%s\" renamed to \"%s\"", args[0], args[1]);
	conn_send_complete(&session->conn, "RENAME BRANCH");
	return NULL;
}

PsError *
run_branch_reset(Session *session, char **args, int nargs)
{
	char old_name[TIMELINE_NAME_MAX + 1];
	TimelineInfo info;
	bool force;
	Timeline *parent;
	Timeline *tl;
	PsError *err;

	PS_TRY(parse_options(args, nargs, 1, &force, NULL));
	if (!force)
		PS_TRY(check_may_go(session, args[0], false));
	PS_TRY(store_branch_info(session->server->store, args[0], &info));
	PS_TRY(store_use_branch(session->server->store, args[0], &session->cancel, &tl));
	err = timeline_parent(tl, &parent);
	if (err == NULL)
		err = store_replace_branch(session->server->store, args[0], parent, PG_UINT64_MAX, true, &session->cancel, old_name);
	store_release(tl);
	if (err != NULL)
		return err;
	audit_log(session->who, "branch \"%s\" reset to what its parent is; what it was is branch \"%s\", to be deleted", args[0], old_name);
	server_note_removed(session->server, &info.timeline, "Branch \"%s\" was reset to what its parent was", info.name);
	PS_TRY(delete_branch(session, old_name));
	return send_branch(session, args[0], NULL, "RESET BRANCH");
}

PsError *
run_branch_restore(Session *session, char **args, int nargs)
{
	char old_name[TIMELINE_NAME_MAX + 1];
	char *message;
	char *moment;
	CommitsAround around;
	XLogRecPtr lsn;
	bool force;
	Timeline *at;
	Timeline *tl;

	PS_TRY(parse_options(args, nargs, 3, &force, NULL));
	PS_TRY(command_find_branch(session, args[0], &tl));
	if (!force)
		PS_TRY(check_may_go(session, args[0], false));
	PS_TRY(command_parse_moment(session, args[1], args[2], tl, &at, &lsn, &around));
	PS_TRY(store_replace_branch(session->server->store, args[0], at, lsn, false, &session->cancel, old_name));
	moment = moment_text(args[1], args[2]);
	audit_log(session->who, "branch \"%s\" restored to what it was at %s (%X/%X); what it was until now is branch \"%s\"", args[0], moment,
			  LSN_FORMAT_ARGS(lsn), old_name);
	free(moment);
	message = psprintf("what branch \"%s\" was is branch \"%s\" now", args[0], old_name);
	conn_send_notice(&session->conn, message);
	pfree(message);
	return send_branch(session, args[0], &around, "RESTORE BRANCH");
}

PsError *
run_branch_compact(Session *session, char **args, int nargs)
{
	Timeline *tl;
	TimelineInfo info;

	PS_TRY(command_find_branch(session, args[0], &tl));
	PS_TRY(maintain_timeline(tl, true));
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
	Session *session = arg;
	char *values[] = {pg_strdup(file), psprintf(UINT64_FORMAT, bytes), pg_strdup(damage != NULL ? damage : "")};

	command_send_row(&session->conn, values, lengthof(values));
	ps_error_free(conn_flush(&session->conn)); /* the CancelCheck notices that the client has gone */
}

/* *branch: a branch in the trash, held. */
static bool
has_deleted(Session *session, const char *name, Branch **branch)
{
	PsError *err = store_hold_deleted(session->server->store, name, &session->cancel, branch);
	bool found = err == NULL;

	ps_error_free(err);
	return found;
}

typedef struct DeletedCheck
{
	Session *session;
	Branch *branch;
} DeletedCheck;

static PsError *
check_deleted(void *arg)
{
	DeletedCheck *check = arg;

	if (!store_is_in_trash(check->branch))
		return ps_error(PS_SQLSTATE_TRY_AGAIN, "the branch was taken out of the trash, or removed, while it was checked");
	return cancel_check(&check->session->cancel);
}

/* Ends, too, when the branch is taken out of the trash. */
static PsError *
verify_deleted_branch(Session *session, Branch *branch, int rate)
{
	DeletedCheck check = {session, branch};
	CancelCheck cancel = {check_deleted, &check};

	return store_verify_deleted(branch, rate, &cancel, send_file, session);
}

/* A branch that is served; if there is none of the name, or with the id, one that is in the trash. */
PsError *
run_verify(Session *session, char **args, int nargs)
{
	static const Column columns[] = {{"file", TEXTOID}, {"bytes", INT8OID}, {"error", TEXTOID}};
	int rate = nargs > 1 ? atoi(args[1]) : VERIFY_RATE;
	Timeline *tl;
	Branch *deleted;
	PsId id;
	PsError *err;

	if (rate < 1 || rate > 1000000)
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid rate \"%s\": a number of megabytes for each second is expected", args[1]);
	err = command_find_branch(session, args[0], &tl);
	if (err == NULL)
	{
		conn_send_row_description(&session->conn, columns, lengthof(columns));
		err = verify_timeline(tl, rate, &session->cancel, send_file, session);
	}
	else if (ps_error_is(err, PS_SQLSTATE_NOT_FOUND) && has_deleted(session, args[0], &deleted))
	{
		ps_error_free(err);
		if (!ps_id_parse(args[0], &id))
			conn_send_notice(&session->conn, "the branch is in the trash");
		conn_send_row_description(&session->conn, columns, lengthof(columns));
		err = verify_deleted_branch(session, deleted, rate);
		store_release_deleted(deleted);
	}
	PS_TRY(err);
	conn_send_complete(&session->conn, "VERIFY");
	return NULL;
}

PsError *
run_branch_create(Session *session, char **args, int nargs)
{
	ProgressSink progress = {report_progress, session};
	Timeline *tl;

	if (nargs > 1 && pg_strcasecmp(args[1], "from") == 0)
		return create_from(session, args, nargs);
	if (nargs > 2 || (nargs > 1 && strcmp(args[1], "data_checksums") != 0))
		return ps_error(PS_SQLSTATE_SYNTAX, "unknown option \"%s\": expected data_checksums or FROM", args[1]);
	PS_TRY(branch_create(session->server->store, args[0], nargs > 1, &session->cancel, &progress, &tl));
	session_hold(session, tl);
	audit_log(session->who, "branch \"%s\" created as a fresh cluster", args[0]);
	return send_branch(session, args[0], NULL, "CREATE BRANCH");
}

PsError *
run_import(Session *session, char **args, int nargs)
{
	ProgressSink progress = {report_progress, session};
	Timeline *tl;

	if (args[1][0] != '/')
		return ps_error_hint(ps_error(PS_SQLSTATE_SYNTAX, "\"%s\" is not an absolute path", args[1]),
							 "The directory is read by the store, whose current directory is not yours.");
	if (nargs > 2)
		PS_TRY(import_check_identity(args[1], args[2]));
	PS_TRY(import_cluster(session->server->store, args[0], args[1], &session->cancel, &progress, &tl));
	session_hold(session, tl);
	audit_log(session->who, "branch \"%s\" imported from \"%s\"", args[0], args[1]);
	return send_branch(session, args[0], NULL, "IMPORT");
}

/* The client sends a tar of the data directory. */
PsError *
run_import_stream(Session *session, char **args, int nargs)
{
	ProgressSink progress = {report_progress, session};
	Timeline *tl;

	session->conn.max_message = CONN_MAX_COPY;
	conn_send_copy_response(&session->conn, 'G');
	PS_TRY(import_stream(session->server->store, args[0], command_copy_source(session), &session->cancel, &progress, &tl));
	session_hold(session, tl);
	audit_log(session->who, "branch \"%s\" imported from what the client sent", args[0]);
	return send_branch(session, args[0], NULL, "IMPORT");
}
