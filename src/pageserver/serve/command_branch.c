/*
 * command_branch.c
 *	  Commands that create, change and delete branches, and those that work on
 *	  the files of one.
 */
#include "ps_fe.h"

#include "catalog/pg_type_d.h"

#include "backup/import.h"
#include "serve/commands.h"
#include "sqlstate.h"

static void
report_progress(void *arg, const char *message)
{
	Session *session = arg;

	conn_send_notice(&session->conn, message);
	ps_error_free(conn_flush(&session->conn)); /* the next check for a cancel notices a closed connection */
}

/*
 * Sends a row that describes a new branch.  around: the commits around the point
 * at which it begins in another branch; NULL if it begins at no such point.
 */
static PsError *
send_branch(Session *session, const char *name, const CommitsAround *around, const char *tag)
{
	static const Column columns[] = {
		{"name", TEXTOID},
		{"tenant", TEXTOID},
		{"timeline", TEXTOID},
		{"lsn", LSNOID},
		{"last_commit", TEXTOID},
		{"next_commit", TEXTOID},
	};
	TimelineInfo info;
	char *values[lengthof(columns)];

	PS_TRY(store_branch_info(session->server->store, name, &info));
	values[0] = pg_strdup(info.name);
	values[1] = command_id_text(&info.tenant);
	values[2] = command_id_text(&info.timeline);
	values[3] = command_lsn_text(info.flushed_lsn);
	values[4] = command_time_text(around != NULL && around->has_last, around ? around->last : 0);
	values[5] = command_time_text(around != NULL && around->has_next, around ? around->next : 0);
	/* "there is no later commit" differs from "not known" */
	if (around != NULL && around->next_known && !around->has_next)
		values[5] = pg_strdup("none");
	conn_send_row_description(&session->conn, columns, lengthof(columns));
	command_send_row(&session->conn, values, lengthof(columns));
	conn_send_complete(&session->conn, tag);
	return NULL;
}

/* branch_create NAME FROM PARENT [LSN lsn | TIME microseconds] */
static PsError *
create_from(Session *session, char **args, int nargs)
{
	XLogRecPtr lsn = PG_UINT64_MAX;
	CommitsAround around;
	Timeline *parent;

	if (nargs != 3 && nargs != 5)
		return ps_error(PS_SQLSTATE_SYNTAX,
						"expected FROM PARENT, optionally followed by LSN lsn or TIME microseconds");
	PS_TRY(command_find_branch(session, args[2], &parent));
	if (nargs == 5)
		PS_TRY(command_parse_point(session, args[3], args[4], parent, &parent, &lsn, &around));
	PS_TRY(store_branch(session->server->store, args[0], parent, lsn, &session->cancel, NULL));
	if (nargs == 5)
	{
		char *point = command_point_text(args[3], args[4]);

		audit_log(session->who, "branch \"%s\" created from branch \"%s\" at %s (%X/%X)", args[0], args[2], point,
				  LSN_FORMAT_ARGS(lsn));
		free(point);
	}
	else
		audit_log(session->who, "branch \"%s\" created from branch \"%s\"", args[0], args[2]);
	return send_branch(session, args[0], nargs == 5 ? &around : NULL, "CREATE BRANCH");
}

/* branch_create NAME [data_checksums]: a new cluster by initdb.  NOTICEs report the progress. */
PsError *
command_branch_create(Session *session, char **args, int nargs)
{
	ProgressSink progress = {report_progress, session};
	Timeline *tl;

	if (nargs > 1 && pg_strcasecmp(args[1], "from") == 0)
		return create_from(session, args, nargs);
	if (nargs > 2 || (nargs > 1 && strcmp(args[1], "data_checksums") != 0))
		return ps_error(PS_SQLSTATE_SYNTAX, "unknown option \"%s\": expected data_checksums or FROM", args[1]);
	PS_TRY(import_initdb(session->server->store, args[0], nargs > 1, &session->cancel, &progress, &tl));
	session_hold(session, tl);
	audit_log(session->who, "branch \"%s\" created as a new cluster", args[0]);
	return send_branch(session, args[0], NULL, "CREATE BRANCH");
}

/* import NAME 'PGDATA' [IDENTITY] */
PsError *
command_import(Session *session, char **args, int nargs)
{
	ProgressSink progress = {report_progress, session};
	Timeline *tl;

	if (args[1][0] != '/')
		return ps_error_hint(ps_error(PS_SQLSTATE_SYNTAX, "\"%s\" is not an absolute path", args[1]),
							 "The store reads the directory itself, and it has another working directory.");
	if (nargs > 2)
		PS_TRY(import_check_identity(args[1], args[2]));
	PS_TRY(import_cluster(session->server->store, args[0], args[1], &session->cancel, &progress, &tl));
	session_hold(session, tl);
	audit_log(session->who, "branch \"%s\" imported from \"%s\"", args[0], args[1]);
	return send_branch(session, args[0], NULL, "IMPORT");
}

/* import_stream NAME: the client sends a tar of the data directory. */
PsError *
command_import_stream(Session *session, char **args, int nargs)
{
	ProgressSink progress = {report_progress, session};
	Timeline *tl;

	session->conn.max_message = CONN_MAX_COPY;
	conn_send_copy_response(&session->conn, 'G');
	PS_TRY(import_stream(session->server->store, args[0], copy_source(session), &session->cancel, &progress, &tl));
	session_hold(session, tl);
	audit_log(session->who, "branch \"%s\" imported from data sent by the client", args[0]);
	return send_branch(session, args[0], NULL, "IMPORT");
}

/*
 * Returns an error if a branch should not be deleted (or replaced, if "deleted"
 * is false) without "force": it has a compute, is protected, or (if deleted) is
 * the root of its cluster.
 */
static PsError *
check_removable(Session *session, const char *name, bool deleted)
{
	TimelineInfo info;

	PS_TRY(store_branch_info(session->server->store, name, &info));
	if (info.compute_connected)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "branch \"%s\" is in use by a compute (%s)", info.name,
									  info.owner),
							 "Stop the compute first, or use --force.");
	if (info.is_protected)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "branch \"%s\" is protected", info.name),
							 "Run \"pageserver_ctl branch unprotect %s\" first, or use --force.", info.name);
	/* if the manifest cannot be read, it is not known whether the branch has a parent */
	if (deleted && info.parent[0] == '\0' && info.system_identifier != 0)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE,
									  "branch \"%s\" has no parent: it holds all data of its cluster", info.name),
							 "Use --force to delete it anyway.");
	return NULL;
}

/* Deletes a branch for good.  This session must not hold it. */
static PsError *
delete_for_good(Session *session, const char *name)
{
	Branch *branch;
	PsError *err = store_remove_branch(session->server->store, name, &session->cancel, &branch);

	if (branch != NULL)
	{
		sessions_end_users(session->server, branch, session);
		store_destroy_branch(branch);
		audit_log(session->who, "branch \"%s\" deleted for good", name);
	}
	return err;
}

/* Moves a branch to the trash, or deletes it for good if trash_interval is 0.  This session must not hold it. */
static PsError *
move_to_trash(Session *session, const char *name)
{
	Branch *branch;
	PsError *err;

	if (session->server->config->trash_interval == 0)
		return delete_for_good(session, name);
	err = store_trash_branch(session->server->store, name, session->who, &session->cancel, &branch);
	if (branch != NULL)
	{
		sessions_end_users(session->server, branch, session);
		store_finish_trash(branch);
		audit_log(session->who, "branch \"%s\" deleted (moved to the trash)", name);
	}
	return err;
}

/* Deletes a branch that is in the trash for good.  *found: there is such a branch. */
static PsError *
delete_from_trash(Session *session, const char *name, bool *found)
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

/*
 * branch_delete NAME [force] [purge]: with purge, a branch is deleted for good;
 * if no branch has the name, one that is in the trash.
 */
PsError *
command_branch_delete(Session *session, char **args, int nargs)
{
	TimelineInfo info;
	bool force;
	bool purge;
	PsError *err;

	PS_TRY(command_parse_options(args, nargs, 1, &force, &purge));
	err = store_branch_info(session->server->store, args[0], &info);
	if (err != NULL && purge)
	{
		bool found;
		PsError *purge_err = delete_from_trash(session, args[0], &found);

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
		PS_TRY(check_removable(session, args[0], true));
	removed_note(session->server, &info.timeline, "Branch \"%s\" was deleted", info.name);
	PS_TRY((purge ? delete_for_good : move_to_trash)(session, args[0]));
	conn_send_complete(&session->conn, "DROP BRANCH");
	return NULL;
}

/* branch_undelete NAME [NEW_NAME]: NAME may be the timeline id */
PsError *
command_branch_undelete(Session *session, char **args, int nargs)
{
	char name[TIMELINE_NAME_MAX + 1];

	PS_TRY(store_undelete_branch(session->server->store, args[0], nargs > 1 ? args[1] : NULL, &session->cancel, name));
	audit_log(session->who, "branch \"%s\" restored from the trash as \"%s\"", args[0], name);
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
command_branch_protect(Session *session, char **args, int nargs)
{
	return set_protection(session, args[0], true, "PROTECT BRANCH");
}

PsError *
command_branch_unprotect(Session *session, char **args, int nargs)
{
	return set_protection(session, args[0], false, "UNPROTECT BRANCH");
}

PsError *
command_branch_rename(Session *session, char **args, int nargs)
{
	PS_TRY(store_rename_branch(session->server->store, args[0], args[1], &session->cancel));
	audit_log(session->who, "branch \"%s\" renamed to \"%s\"", args[0], args[1]);
	conn_send_complete(&session->conn, "RENAME BRANCH");
	return NULL;
}

PsError *
command_branch_reset(Session *session, char **args, int nargs)
{
	char old_name[TIMELINE_NAME_MAX + 1];
	TimelineInfo info;
	bool force;
	Timeline *parent;
	Timeline *tl;
	PsError *err;

	PS_TRY(command_parse_options(args, nargs, 1, &force, NULL));
	if (!force)
		PS_TRY(check_removable(session, args[0], false));
	PS_TRY(store_branch_info(session->server->store, args[0], &info));
	PS_TRY(store_use_branch(session->server->store, args[0], &session->cancel, &tl));
	err = timeline_parent(tl, &parent);
	if (err == NULL)
		err = store_replace_branch(session->server->store, args[0], parent, PG_UINT64_MAX, true, &session->cancel,
								   old_name);
	store_release(tl);
	if (err != NULL)
		return err;
	audit_log(session->who,
			  "branch \"%s\" reset to the state of its parent; "
			  "its previous state is branch \"%s\", which is to be deleted",
			  args[0], old_name);
	removed_note(session->server, &info.timeline, "Branch \"%s\" was reset to the state of its parent", info.name);
	PS_TRY(move_to_trash(session, old_name));
	return send_branch(session, args[0], NULL, "RESET BRANCH");
}

PsError *
command_branch_restore(Session *session, char **args, int nargs)
{
	char old_name[TIMELINE_NAME_MAX + 1];
	char *message;
	char *point;
	CommitsAround around;
	XLogRecPtr lsn;
	bool force;
	Timeline *at;
	Timeline *tl;

	PS_TRY(command_parse_options(args, nargs, 3, &force, NULL));
	PS_TRY(command_find_branch(session, args[0], &tl));
	if (!force)
		PS_TRY(check_removable(session, args[0], false));
	PS_TRY(command_parse_point(session, args[1], args[2], tl, &at, &lsn, &around));
	PS_TRY(store_replace_branch(session->server->store, args[0], at, lsn, false, &session->cancel, old_name));
	point = command_point_text(args[1], args[2]);
	audit_log(session->who, "branch \"%s\" restored to %s (%X/%X); its previous state is branch \"%s\"", args[0], point,
			  LSN_FORMAT_ARGS(lsn), old_name);
	free(point);
	message = psprintf("the previous state of branch \"%s\" is now branch \"%s\"", args[0], old_name);
	conn_send_notice(&session->conn, message);
	pfree(message);
	return send_branch(session, args[0], &around, "RESTORE BRANCH");
}

PsError *
command_branch_compact(Session *session, char **args, int nargs)
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
