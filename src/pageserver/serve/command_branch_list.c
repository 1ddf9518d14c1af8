/*
 * command_branch_list.c
 *	  The command "branch_list [deleted]": one row for each branch.
 */
#include "ps_fe.h"

#include "catalog/pg_type_d.h"

#include "serve/commands.h"
#include "sqlstate.h"
#include "store/trash_mark.h"

/* Takes wal, what a WAL stream waits for; if that is NULL, copies what ingest waits for. */
static char *
branch_wait_text(char *wal, const char *ingest)
{
	return wal != NULL ? wal : pg_strdup(ingest);
}

/* Lists the branches in the trash, in the order in which they will be removed. */
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
		values[v++] = command_time_text(list[i].when != 0, list[i].when);
		values[v++] = list[i].time_left != TRASH_MARK_NEVER ? psprintf(INT64_FORMAT, list[i].time_left) : NULL;
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
command_branch_list(Session *session, char **args, int nargs)
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
		{"bucket_lsn", LSNOID},
		{"bucket_lag_bytes", INT8OID},
		{"bucket_lag_seconds", INT8OID},
		{"remote_lsn", LSNOID},
	};
	Conn *conn = &session->conn;
	int rows = 0;
	int n;
	Branch **list;
	char tag[32];

	if (nargs > 0 && pg_strcasecmp(args[0], "deleted") != 0)
		return ps_error(PS_SQLSTATE_SYNTAX, "unknown option \"%s\": expected deleted", args[0]);
	if (nargs > 0)
		return list_deleted(session);
	list = store_list(session->server->store, &n);
	conn_send_row_description(conn, columns, lengthof(columns));
	for (int i = 0; i < n; i++)
	{
		TimelineInfo info;
		char *values[lengthof(columns)];
		char since[TIME_TEXT_SIZE];
		bool has_bucket;
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
		values[v++] = branch_wait_text(wal_waits_get(session->server, list[i]), info.waits_for);
		values[v++] = info.compute_connected ? pg_strdup(timeline_time_text(info.connected_since, since)) : NULL;
		values[v++] = pg_strdup(info.is_protected ? "t" : "f");
		has_bucket = info.bucket_lsn != InvalidXLogRecPtr;
		values[v++] = has_bucket ? command_lsn_text(info.bucket_lsn) : NULL;
		values[v++] = has_bucket ? psprintf(UINT64_FORMAT, info.flushed_lsn - info.bucket_lsn) : NULL;
		values[v++] = has_bucket ? psprintf(INT64_FORMAT, (info.bucket_lag + 999) / 1000) : NULL;
		values[v++] = info.remote_lsn != 0 ? command_lsn_text(info.remote_lsn) : NULL;
		Assert(v == lengthof(columns));
		command_send_row(conn, values, v);
	}
	store_list_free(list, n);
	snprintf(tag, sizeof(tag), "SELECT %d", rows);
	conn_send_complete(conn, tag);
	return NULL;
}
