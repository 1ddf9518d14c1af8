/*
 * command_tenant.c
 *	  Commands for tenants.
 */
#include "ps_fe.h"

#include "catalog/pg_type_d.h"

#include "serve/commands.h"
#include "sqlstate.h"
#include "store/trash_mark.h"

static PsError *
detach_tenant(Session *session, const char *name)
{
	Store *store = session->server->store;
	Branch **branches;
	Tenant *tenant;
	int n;

	PS_TRY(store_begin_detach(store, name, &session->cancel, &tenant, &branches, &n));
	for (int i = 0; i < n; i++)
		sessions_end_users(session->server, branches[i], session);
	store_end_detach(store, tenant, branches, n);
	audit_log(session->who, "tenant \"%s\" detached", name);
	return NULL;
}

PsError *
command_tenant_detach(Session *session, char **args, int nargs)
{
	PS_TRY(detach_tenant(session, args[0]));
	conn_send_complete(&session->conn, "DETACH TENANT");
	return NULL;
}

/*
 * Finds an attached, detached or deleted tenant by its id, or an attached tenant
 * by the name of one of its branches.  Returns false if the name is neither.
 * *found is all zeros if there is no such tenant.
 */
static bool
find_tenant(Session *session, const char *name, TenantInfo *found)
{
	int n;
	TenantInfo *list = store_list_tenants(session->server->store, &n);
	PsId id;
	TimelineInfo info;
	PsError *err = NULL;
	bool by_id = ps_id_parse(name, &id);

	if (!by_id && (err = store_branch_info(session->server->store, name, &info)) == NULL)
	{
		id = info.tenant;
		by_id = true;
	}
	ps_error_free(err);
	memset(found, 0, sizeof(*found));
	for (int i = 0; i < n && by_id; i++)
		if (ps_id_equal(&list[i].id, &id))
		{
			*found = list[i];
			found->names = found->by = found->error = NULL;
		}
	store_list_tenants_free(list, n);
	return by_id;
}

/* Was the change made?  With an unknown outcome it may be undone by the next start. */
static bool
is_done(const PsError *err)
{
	return err == NULL || ps_error_is(err, PS_SQLSTATE_UNKNOWN);
}

/*
 * tenant_delete TENANT [force] [purge]: an attached tenant is deleted with force
 * only; with purge it is deleted for good, also from the trash.
 */
PsError *
command_tenant_delete(Session *session, char **args, int nargs)
{
	Store *store = session->server->store;
	char id[PS_ID_TEXT];
	const char *name = args[0];
	TenantInfo info;
	bool force;
	bool purge;
	PsError *err;

	PS_TRY(command_parse_options(args, nargs, 1, &force, &purge));
	if (session->server->config->trash_interval == 0)
		purge = true;
	if (find_tenant(session, name, &info) && info.attached)
	{
		if (!force)
			return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "tenant \"%s\" is attached and has %d branches", name,
										  info.branches),
								 "Detach it first, or use --force.");
		PS_TRY(detach_tenant(session, name));
		/* a branch's name does not find a detached tenant */
		name = ps_id_format(&info.id, id);
	}
	if (!info.deleted)
	{
		err = store_trash_tenant(store, name, session->who);
		/* only store_purge_tenant() finds a tenant in the trash by the name of a branch */
		if (err != NULL && purge && ps_error_is(err, PS_SQLSTATE_NOT_FOUND))
			ps_error_free(err);
		else
		{
			if (is_done(err))
				audit_log(session->who, "tenant \"%s\" deleted%s", name, purge ? "" : " (moved to the trash)");
			PS_TRY(err);
		}
	}
	else if (!purge)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "tenant \"%s\" is already deleted", name),
							 "Use --purge to remove it from the trash for good.");
	if (purge)
	{
		err = store_purge_tenant(store, name);
		if (is_done(err))
			audit_log(session->who, "tenant \"%s\" removed from the trash", name);
		PS_TRY(err);
	}
	conn_send_complete(&session->conn, purge ? "PURGE TENANT" : "DROP TENANT");
	return NULL;
}

PsError *
command_tenant_undelete(Session *session, char **args, int nargs)
{
	PS_TRY(store_undelete_tenant(session->server->store, args[0]));
	audit_log(session->who, "tenant \"%s\" restored from the trash; it is detached", args[0]);
	conn_send_complete(&session->conn, "UNDELETE TENANT");
	return NULL;
}

PsError *
command_tenant_attach(Session *session, char **args, int nargs)
{
	if (nargs > 1 && pg_strcasecmp(args[1], "force") != 0)
		return ps_error(PS_SQLSTATE_SYNTAX, "unknown option \"%s\": expected force", args[1]);
	PS_TRY(store_attach_tenant(session->server->store, args[0], nargs > 1));
	audit_log(session->who, "tenant \"%s\" attached", args[0]);
	conn_send_complete(&session->conn, "ATTACH TENANT");
	return NULL;
}

static const char *
state_name(const TenantInfo *info)
{
	if (info->deleted)
		return "deleted";
	if (!info->attached)
		return "detached";
	if (info->waiting)
		return "waiting";
	if (info->fenced)
		return "fenced";
	return info->refused ? "refused" : "attached";
}

PsError *
command_tenant_list(Session *session, char **args, int nargs)
{
	static const Column columns[] = {
		{"tenant", TEXTOID},
		{"system_identifier", INT8OID},
		{"state", TEXTOID},
		{"branches", INT8OID},
		{"name", TEXTOID},
		{"deleted", TEXTOID},
		{"seconds_left", INT8OID},
		{"by", TEXTOID},
		{"generation", INT8OID},
		{"error", TEXTOID},
		{"upload_files", INT8OID},
		{"upload_bytes", INT8OID},
	};
	Conn *conn = &session->conn;
	bool deleted = nargs > 0;
	int rows = 0;
	int n;
	TenantInfo *list;
	char tag[32];

	if (deleted && pg_strcasecmp(args[0], "deleted") != 0)
		return ps_error(PS_SQLSTATE_SYNTAX, "unknown option \"%s\": expected deleted", args[0]);
	list = store_list_tenants(session->server->store, &n);
	conn_send_row_description(conn, columns, lengthof(columns));
	for (int i = 0; i < n; i++)
	{
		char id[PS_ID_TEXT];
		char sysid[32];
		char branches[32];
		char left[32];
		char generation[32];
		char upload_files[32];
		char upload_bytes[32];
		char *when;
		const char *values[lengthof(columns)];

		if (list[i].deleted != deleted)
			continue;
		rows++;
		when = command_time_text(deleted && list[i].when != 0, list[i].when);
		snprintf(left, sizeof(left), INT64_FORMAT, list[i].time_left);

		snprintf(sysid, sizeof(sysid), UINT64_FORMAT, list[i].system_identifier);
		snprintf(branches, sizeof(branches), "%d", list[i].branches);
		values[0] = ps_id_format(&list[i].id, id);
		values[1] = sysid;
		values[2] = state_name(&list[i]);
		values[3] = branches;
		values[4] = list[i].names;
		values[5] = when;
		values[6] = deleted && list[i].time_left != TRASH_MARK_NEVER ? left : NULL;
		values[7] = list[i].by;
		snprintf(generation, sizeof(generation), UINT64_FORMAT, list[i].generation);
		values[8] = list[i].generation > 0 ? generation : NULL;
		values[9] = list[i].error;
		snprintf(upload_files, sizeof(upload_files), UINT64_FORMAT, list[i].upload_files);
		snprintf(upload_bytes, sizeof(upload_bytes), UINT64_FORMAT, list[i].upload_bytes);
		values[10] = list[i].generation > 0 ? upload_files : NULL;
		values[11] = list[i].generation > 0 ? upload_bytes : NULL;
		conn_send_row(conn, values, lengthof(columns));
		free(when);
	}
	store_list_tenants_free(list, n);
	snprintf(tag, sizeof(tag), "SELECT %d", rows);
	conn_send_complete(conn, tag);
	return NULL;
}
