/*
 * tenant_commands.c
 *	  The commands for tenants: detach, attach, list.
 */
#include "ps_fe.h"

#include "catalog/pg_type_d.h"

#include "serve/commands.h"

PsError *
run_tenant_detach(Session *session, char **args, int nargs)
{
	Store	   *store = session->server->store;
	Timeline  **timelines;
	Tenant	   *tenant;
	int			n;

	PS_TRY(store_begin_detach(store, args[0], &session->waiter, &tenant, &timelines, &n));
	for (int i = 0; i < n; i++)
		server_end_users(session->server, timelines[i], session);
	store_end_detach(store, tenant, timelines, n);
	audit_log(session->who, "tenant \"%s\" detached", args[0]);
	conn_send_complete(&session->conn, "DETACH TENANT");
	return NULL;
}

PsError *
run_tenant_attach(Session *session, char **args, int nargs)
{
	PS_TRY(store_attach_tenant(session->server->store, args[0]));
	audit_log(session->who, "tenant \"%s\" attached", args[0]);
	conn_send_complete(&session->conn, "ATTACH TENANT");
	return NULL;
}

PsError *
run_tenant_list(Session *session, char **args, int nargs)
{
	static const Column columns[] = {
		{"tenant", TEXTOID}, {"system_identifier", INT8OID}, {"state", TEXTOID}, {"branches", INT8OID}, {"name", TEXTOID},
	};
	Conn	   *conn = &session->conn;
	int			n;
	TenantInfo *list = store_list_tenants(session->server->store, &n);
	char		tag[32];

	conn_send_row_description(conn, columns, lengthof(columns));
	for (int i = 0; i < n; i++)
	{
		char		id[PS_ID_TEXT];
		char		sysid[32];
		char		branches[32];
		const char *values[lengthof(columns)];

		snprintf(sysid, sizeof(sysid), UINT64_FORMAT, list[i].system_identifier);
		snprintf(branches, sizeof(branches), "%d", list[i].branches);
		values[0] = ps_id_format(&list[i].id, id);
		values[1] = sysid;
		values[2] = list[i].attached ? "attached" : "detached";
		values[3] = branches;
		values[4] = list[i].names;
		conn_send_row(conn, values, lengthof(columns));
	}
	store_list_tenants_free(list, n);
	snprintf(tag, sizeof(tag), "SELECT %d", n);
	conn_send_complete(conn, tag);
	return NULL;
}
